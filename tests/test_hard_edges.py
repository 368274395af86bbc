"""Commands at their edges: what a model's folder says is not obeyed, every answer is standard JSON, and memory is asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import rastrum
from rastrum import ImageSpec
from rastrum.checkpoint import Origin, save_pretrained
from rastrum.cli import main
from rastrum.config import DataConfig

MINE = "import rastrum\nclass Mine(rastrum.RasterModel):\n"
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Exit code, stdout and stderr of a command."""

    def ask(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([*map(str, argv)])
        out, err = capsys.readouterr()
        return code, out, err

    return ask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose config.json says that it was trained on a folder of images."""
    (tmp_path / "private").mkdir()
    for i in range(3):
        Image.new("L", (8, 8), 255 * (i % 2)).save(tmp_path / "private" / f"{i}.png")
    model = rastrum.build("pixelcnn", ImageSpec(1, 8, 8, 2), "tiny")
    data = DataConfig(name=f"folder:{tmp_path / 'private'}", train="all", held_out="all", binarise="threshold")
    save_pretrained(model, tmp_path / "model", Origin(data=data))
    return tmp_path / "model"


def strict(text: str) -> Any:
    """One object of standard JSON, and nothing else."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_path_that_only_a_models_folder_names_is_not_read(folder: Path, tmp_path: Path, said: Said) -> None:
    """Nor a Hub set; with a flag of the user's it is, preprocessed as the folder says."""
    name = f"folder:{tmp_path / 'private'}"
    for command in (["score"], ["evaluate"], ["complete"], ["figures", "--out", tmp_path / "f"]):
        code, out, err = said(command[0], folder, *command[1:])
        assert code == 2 and not out and f"give --data {name}" in err and err.count("\n") == 1
    assert not (tmp_path / "f").exists()
    code, out, _ = said("score", folder, "--data", name, "--json")
    assert code == 0 and strict(out)["images"] == 3 and strict(out)["as_trained"]
    save_pretrained(rastrum.load(folder), folder, Origin(data=DataConfig(name="hub:somebody/set", train="train")))
    assert "give --data hub:somebody/set" in said("score", folder)[2]


@pytest.mark.parametrize("name", ["hub:../x", "hub:./x", "hub:x/..", "hub:../..:part"])
def test_a_hub_name_stays_in_the_mirror(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rastrum.data.dataset import load_dataset

    (tmp_path / "x").mkdir()
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("RASTRUM_HUB_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(ValueError, match="expected hub:OWNER/NAME"):
        load_dataset(name, "train")


def test_text_of_a_folder_gives_no_orders_to_a_terminal(folder: Path, said: Said) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["data"]["name"] = "folder:\x1b[2Jx"
    (folder / "config.json").write_text(json.dumps(config))
    code, out, err = said("score", folder)
    assert code == 2 and not out and "\x1b" not in err
    config["model"] = "\x1b[2Jpixelcnn\n\nrastrum: all is well"
    (folder / "config.json").write_text(json.dumps(config))
    code, out, err = said("sample", folder)
    assert code == 2 and "\x1b" not in err and err.count("\n") == 1


def test_errors_with_json_are_one_object_too(folder: Path, tmp_path: Path, said: Said) -> None:
    """The same line as on stderr, and the exit code."""
    flags = [("sample", folder, "--count", "0"), ("sample", folder, "--cuont", 1)]
    for argv in (("sample", "nowhere"), *flags, ("nonsense",), ("check", "pixelcnm")):
        code, out, err = said(*argv, "--json")
        answer = strict(out)
        assert code == 2 and answer["code"] == 2 and err == f"rastrum: {answer['error']}\n"
    (tmp_path / "closed").mkdir()
    code, out, _ = said("sample", folder, "--count", 1, "--out", tmp_path / "closed" / ("n" * 300 + ".png"), "--json")
    assert code == 1 and "too long" in strict(out)["error"]
    assert said("sample", "nowhere")[1] == ""


def test_numbers_that_json_lacks_become_null(capsys: pytest.CaptureFixture[str]) -> None:
    from rastrum.cli.show import answer

    answer({"a": float("nan"), "b": [1.0, float("inf")], "c": {"d": (float("-inf"),)}, "e": "NaN"}, True)
    assert strict(capsys.readouterr().out) == {"a": None, "b": [1.0, None], "c": {"d": [None]}, "e": "NaN"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import sys\nsys.exit(0)", r"mine\.py exits \(0\), so nothing was proved"),
        ("import os\nos._exit(0)", r"exits \(0\)"),
        ("exit()", r"exits \(None\)"),
        ("raise SystemExit('all is well')", r"exits \('all is well'\)"),
        ("1 / 0", r"fails in mine\.py, line 1: ZeroDivisionError"),
        ("def f(:", "fails in .*SyntaxError"),
        ("import nonexistent_module", "ModuleNotFoundError"),
        (MINE + "    def distribution(self, x, condition=None):\n        exit(0)", "exits"),
        (MINE + "    def distribution(self, x, condition=None):\n        return x.y", r"fails in .*: AttributeError"),
        (MINE + "    def __init__(self, spec):\n        exit(0)\n    distribution = None", "exits"),
    ],
)  # fmt: skip
def test_check_says_what_a_users_file_does(text: str, says: str, tmp_path: Path, said: Said) -> None:
    """An exit in it is no pass."""
    import re

    (tmp_path / "mine.py").write_text(text)
    code, out, err = said("check", f"{tmp_path / 'mine.py'}:Mine")
    assert code == 2 and not out and err.count("\n") == 1 and re.search(says, err), err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_is_one_line(folder: Path, tmp_path: Path, said: Said) -> None:
    for name in ("x.png", "x.npy", "x.gif", "x.py"):
        os.mkfifo(tmp_path / name)
    for argv in (
        ("complete", folder, "--data", "digits", "--known", tmp_path / "x.png"),
        ("sample", folder, "--condition", tmp_path / "x.npy"),
        ("sample", folder, "--count", 1, "--out", tmp_path / "x.png"),
        ("sample", folder, "--count", 1, "--trace", tmp_path / "x.gif"),
        ("score", folder, "--images", tmp_path / "x.png"),
        ("check", f"{tmp_path / 'x.py'}:Mine"),
        ("sample", tmp_path / "x.png"),
    ):
        code, out, err = said(*argv)
        assert code == 2 and not out and err.count("\n") == 1, err
