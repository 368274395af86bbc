"""Writing files where others can write too: no link is followed, no file of another kind is replaced, modes stay, long names work."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rastrum.files import write_files
from rastrum.pictures.sheets import save_picture

posix = pytest.mark.skipif(os.name != "posix", reason="links and modes of POSIX")


@posix
def test_temporary_names_cannot_be_guessed_nor_links_planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the name of earlier versions nor, if someone guessed it, the name of this one is written through."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / f".x.png.{os.getpid()}.new").symlink_to(victim)
    save_picture(Image.new("L", (2, 2)), tmp_path / "x.png")
    assert victim.read_text() == "mine" and not (tmp_path / "x.png").is_symlink()
    monkeypatch.setattr("rastrum.files.secrets.token_hex", lambda _: "guessed")
    (tmp_path / ".guessed.new").symlink_to(victim)
    with pytest.raises(OSError, match="could not save"):
        write_files(tmp_path, {"y": b"y"})
    assert victim.read_text() == "mine" and (tmp_path / ".guessed.new").is_symlink() and not (tmp_path / "y").exists()


@posix
def test_a_link_at_the_name_itself_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "x").symlink_to(tmp_path / "victim")
    write_files(tmp_path, {"x": b"new"})
    assert (tmp_path / "victim").read_text() == "mine" and (tmp_path / "x").read_bytes() == b"new" and not (tmp_path / "x").is_symlink()


@posix
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664])
def test_modes_are_kept(mode: int, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    (tmp_path / "x").chmod(mode)
    write_files(tmp_path, {"x": b"new", "y": b"new"})
    (tmp_path / "usual").write_text("")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("x", "y", "usual")]
    assert modes[0] == mode and modes[1] == modes[2]


def test_the_longest_names_work_and_nothing_is_left(tmp_path: Path) -> None:
    name = "n" * 251 + ".png"
    save_picture(Image.new("L", (2, 2)), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@posix
def test_folders_pipes_and_devices_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    for name in ("folder", "pipe", "device"):
        with pytest.raises((OSError, ValueError), match="is a folder" if name == "folder" else "is not a regular file"):
            write_files(tmp_path, {"first": b"", name: b"new"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device", "folder", "pipe"]


def test_what_another_file_of_the_same_call_left_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def sync(descriptor: int, **_: Any) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("rastrum.files.os.fsync", sync)
    with pytest.raises(OSError, match="No space left"):
        write_files(tmp_path, {"a": b"a", "b": b"b"})
    assert not list(tmp_path.iterdir())
