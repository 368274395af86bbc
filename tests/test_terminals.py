"""Any terminal, any machine: characters that an encoding lacks, names that are not text, folders that cannot be synced."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rastrum
from rastrum.cli import COMMANDS, main
from rastrum.cli.streams import any_characters, plain
from rastrum.files import write_files
from rastrum.protocol import ImageSpec

ENCODINGS = ["ascii", "cp1252", "cp437", "latin-1", "utf-8"]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}     # a locale that knows no more
TINY = ["--data", "digits", "--preset", "tiny", "--run.steps", "2", "--data.limit", "8", "--run.held-out-images", "8"]
posix = pytest.mark.skipif(os.name != "posix", reason="bytes in names, terminals of POSIX")


def terminal(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding, write_through=True)


def written(stream: io.TextIOWrapper) -> str:
    buffer: Any = stream.buffer
    return buffer.getvalue().decode(stream.encoding)


def rastrum_says(monkeypatch: pytest.MonkeyPatch, encoding: str, *argv: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command on a terminal of this encoding."""
    out, err = terminal(encoding), terminal(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    code = main(argv)
    assert (out.errors, err.errors) == ("strict", "strict")
    return code, written(out), written(err)


def test_plain_equivalents() -> None:
    assert plain("−1 … ± 2 × 3 → β, Σ ≤ ½ ² à µ") == "-1 ... +/- 2 x 3 -> beta, Sigma <= 1/2 2 a mu"
    assert plain("┌─┬╮│├┼╸━╭") == "+-++|++--+" and plain("\udcff 日") == "? ?"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_help_and_list(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the encoding has stays; nothing fails."""
    helps = [["--help"], *([name, "--help"] for name in COMMANDS), ["train", "gated-pixelcnn-digits", "--help"]]
    for argv in (*helps, ["recipes"], ["models"]):
        code, out, err = rastrum_says(monkeypatch, encoding, *argv)
        assert code == 0 and out and not err, argv
        assert "?" not in out, argv
    assert ("±" if encoding != "ascii" else "+/-") in rastrum_says(monkeypatch, encoding, "--help")[1]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_is_the_same_in_every_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = rastrum_says(monkeypatch, encoding, "recipes", "--json")
    assert code == 0 and out.isascii() and "≤" in str(json.loads(out))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_run_and_its_samples(encoding: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = rastrum_says(monkeypatch, encoding, "train", "pixelcnn", *TINY, "--run.folder", "β−1")
    name = "β−1" if encoding == "utf-8" else "beta-1"
    assert code == 0 and f"saved in {name}" in out and f"into {name}" in err
    code, out, _ = rastrum_says(monkeypatch, encoding, "sample", "β−1", "--count", "1", "--json")
    assert code == 0 and json.loads(out)["model"] == "β−1"
    code, _, err = rastrum_says(monkeypatch, encoding, "score", "no\udcff…", "--data", "digits")
    assert code == 2 and err.count("\n") == 1 and "no" in err


def test_streams_that_are_none_or_of_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    class Notebook:
        encoding, errors, text = "UTF-8", None, ""

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None:
            pass

    notebook = Notebook()
    monkeypatch.setattr(sys, "stdout", notebook)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["--help"]) == 0 and "±" in notebook.text
    closed = terminal("ascii")
    closed.close()
    for stream in (closed, io.StringIO()):
        monkeypatch.setattr(sys, "stdout", stream)
        with any_characters():
            pass


@posix
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_process_on_a_terminal(encoding: str) -> None:
    """With a locale that knows ASCII alone, and stdout and stderr on a pseudo-terminal."""
    import pty

    environment = {**os.environ, **ASCII, "PYTHONIOENCODING": encoding, "COLUMNS": "80"}
    for argv, code in ((["recipes"], 0), (["sample", "--help"], 0), (["evaluate", b"no\xff\xc3\xa9"], 2)):
        ours, theirs = pty.openpty()
        process = subprocess.Popen([sys.executable, "-m", "rastrum", *argv], stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        shown = b""
        try:
            while block := os.read(ours, 65536):
                shown += block
        except OSError:                                                   # Linux: the other side has gone
            pass
        os.close(ours)
        assert process.wait() == code and shown and b"codec" not in shown, shown


@posix
def test_names_that_the_locale_cannot_read(tmp_path: Path) -> None:
    """A run in a folder é, in a locale of ASCII: it is saved, and read again. A name that is not UTF-8 is refused before training."""
    environment = {**os.environ, **ASCII}
    code = "import os, sys; from rastrum.cli import main; t = sys.argv[1:]\n" \
           "a = main(['train', 'pixelcnn', *t, '--run.folder', os.fsdecode('é'.encode())])\n" \
           "b = main(['evaluate', os.fsdecode('é'.encode())])\n" \
           "c = main(['train', 'pixelcnn', *t, '--run.folder', os.fsdecode(bytes([255]))])\n" \
           "sys.exit(f'{a} {b} {c}')"  # fmt: skip
    (tmp_path / "code.py").write_text(code, encoding="utf-8")
    run = subprocess.run([sys.executable, "code.py", *TINY], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert run.stderr.decode().splitlines()[-2:] == ["rastrum: save: the name of '\\udcff' is not UTF-8; choose another name", "0 0 2"]
    assert sorted(os.listdir(tmp_path)) == ["code.py", "é"]


def test_python_m_rastrum() -> None:
    run = subprocess.run([sys.executable, "-m", "rastrum", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == rastrum.__version__


@posix
@pytest.mark.parametrize("name", ["EINVAL", "EBADF", "EACCES", "ENOTSUP", "EIO"])
@pytest.mark.parametrize("call", ["open", "fsync"])
def test_folders_that_cannot_be_synced(call: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on network folders: files are saved all the same. A failing disk is named, and so is a file that cannot be synced."""
    number, real = getattr(errno, name), getattr(os, call)

    def folder(what: Any) -> bool:
        return os.path.isdir(what) if call == "open" else os.path.isdir(f"/dev/fd/{what}")

    def failing(what: Any, *rest: Any, **options: Any) -> Any:
        if folder(what):
            raise OSError(number, os.strerror(number))
        return real(what, *rest, **options)

    monkeypatch.setattr(os, call, failing)
    if name == "EIO":
        with pytest.raises(OSError, match="may not be on the disk yet"):
            write_files(tmp_path / "x", {"a": b"a"})
    else:
        rastrum.build("pixelcnn", ImageSpec(1, 4, 4, 2), "tiny").save_pretrained(tmp_path / "x")
        rastrum.load(tmp_path / "x")
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
        with pytest.raises(OSError, match="could not save"):
            write_files(tmp_path / "y", {"a": b"a"})
