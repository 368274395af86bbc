"""The commands compress, decompress, info and verify: files, archives and pipes; what is kept, what is refused, what is left behind."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_cli import answered, complaint
from test_photographs import built, smooth

import rastrum.cli.photographs
from rastrum.cli import main
from rastrum.compression import FileError, compress_image, decompress_image, photographs
from rastrum.data.reading import open_image, read_pixels
from rastrum.pictures.png import png


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """Saved models, by the channels of their images."""
    found = {}
    for colours in (1, 3):
        found[colours] = found[colours + 1] = str(tmp_path_factory.mktemp("models") / f"model-{colours}")
        built(colours).save_pretrained(found[colours])
    return found


def encoded(pixels: np.ndarray, metadata: dict[str, bytes] | None = None) -> bytes:
    height, width, channels = pixels.shape
    return b"".join(png(height, width, channels, 8 * pixels.itemsize, [pixels[:3], pixels[3:]], metadata))


def decoded(data: bytes) -> Any:
    return read_pixels("x", lambda: open_image(io.BytesIO(data)))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(smooth(20, 31, 3)))
    return path


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_in_bands_is_what_others_read(kind: Any, channels: int) -> None:
    """Pillow reads 8 bits; the library's reader, which agrees with tifffile and Pillow, also 16."""
    for pixels in (smooth(20, 31, channels, kind), np.random.default_rng(0).integers(0, np.iinfo(kind).max, (9, 5, channels), kind)):
        data = encoded(pixels, {"icc": b"a profile", "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"})
        assert np.array_equal(decoded(data).values, pixels)
        image = Image.open(io.BytesIO(data))
        assert image.info["icc_profile"] == b"a profile" and image.getexif() is not None
        if kind == np.uint8:
            assert np.array_equal(np.atleast_3d(np.asarray(image)), pixels)
    assert len(encoded(smooth(64, 64, channels))) < 0.9 * smooth(64, 64, channels).nbytes


def test_info_says_that_a_file_is_tuned(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one bar shows tuning, both codings, and the comparison."""
    bars: list[list[tuple[float, float]]] = []

    @contextmanager
    def recorded(what: str, total: float, unit: str) -> Iterator[Any]:
        bars.append([])
        yield lambda done, of=None: bars[-1].append((done, of or bars[-1][-1][1]))

    monkeypatch.setattr(rastrum.cli.photographs, "progress", recorded)
    built(3, "least-squares").save_pretrained(tmp_path / "model")
    (tmp_path / "x.png").write_bytes(encoded(smooth(60, 70, 3)))
    options = ["--model", str(tmp_path / "model"), "--tile", "24", "--context", "4", "--tune", "60"]
    answered(capsys, "compress", str(tmp_path / "x.png"), *options)
    (shown,) = bars
    assert shown == sorted(shown) and shown[-1][0] == pytest.approx(shown[-1][1]) and len({of for _, of in shown}) == 1
    (record,) = answered(capsys, "info", tmp_path / "x.rastrum")["files"]
    assert main(["info", str(tmp_path / "x.rastrum")]) == 0
    assert f"tuned ({record['tuning_bytes']} bytes)" in capsys.readouterr().out and record["tuning_bytes"] > 8


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_photos_come_back(capsys: pytest.CaptureFixture[str], tmp_path: Path, folders: Any, kind: Any, channels: int) -> None:
    pixels = smooth(20, 31, channels, kind)
    (tmp_path / "x.png").write_bytes(encoded(pixels))
    said = answered(capsys, "compress", tmp_path / "x.png", "--model", folders[channels], "--tile", 12)
    about = said["files"][0]
    assert (about["height"], about["width"], about["channels"], about["bits"]) == (20, 31, channels, 8 * pixels.itemsize)
    assert about["bytes"] == (tmp_path / "x.rastrum").stat().st_size and said["verified"]
    answered(capsys, "decompress", tmp_path / "x.rastrum", "-o", tmp_path / "y.png", "--model", folders[channels])
    assert np.array_equal(decoded((tmp_path / "y.png").read_bytes()).values, pixels)
    found = answered(capsys, "info", tmp_path / "x.rastrum")["files"][0]
    assert found["model"] == f"./{Path(folders[channels]).name}" and found["tile"] == 12 and found["bytes"] == about["bytes"]
    assert answered(capsys, "verify", tmp_path / "x.rastrum", "--model", folders[channels])["files"][0]["faults"] == []


def test_an_archive_holds_many(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path, folders: Any) -> None:
    other = photo.with_name("other.png")
    other.write_bytes(encoded(smooth(5, 6, 4)))
    archive = tmp_path / "all.zip"
    said = answered(capsys, "compress", photo, other, "-o", archive, "--model", folders[3])
    assert [Path(record["file"].rpartition(":")[2]).name for record in said["files"]] == ["photo.rastrum", "other.rastrum"]
    with zipfile.ZipFile(archive) as members:
        assert members.namelist() == ["photo.rastrum", "other.rastrum"] and members.testzip() is None
    again = tmp_path / "again.zip"
    answered(capsys, "compress", photo, other, "-o", again, "--model", folders[3])
    assert again.read_bytes() == archive.read_bytes()
    answered(capsys, "decompress", archive, "-o", tmp_path / "out", "--model", folders[3])
    for path in (photo, other):
        assert np.array_equal(decoded((tmp_path / "out" / path.name).read_bytes()).values, decoded(path.read_bytes()).values)
    members = [Path(record["file"]).name for record in answered(capsys, "info", archive)["files"]]
    assert members == ["all.zip:photo.rastrum", "all.zip:other.rastrum"]


def test_of_several_photos_the_others_are_compressed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path, folders: Any
) -> None:
    """One that cannot be read is named in a line; a second run leaves out what is there; the same for an archive, and for decoding."""
    bad, other, out = tmp_path / "bad.png", tmp_path / "other.png", tmp_path / "out"
    bad.write_bytes(photo.read_bytes()[:100])
    other.write_bytes(photo.read_bytes())
    arguments = ["compress", str(photo), str(bad), str(other), "--model", folders[3], "-o"]
    assert main([*arguments, f"{out}/"]) == 1
    said = capsys.readouterr()
    first, last = said.err.splitlines()
    assert "bad.png is not a whole image" in first and last == "1 of 3 files failed" and "2 photos: " in said.out
    assert sorted(path.name for path in out.iterdir()) == ["other.rastrum", "photo.rastrum"]
    code, line = complaint(capsys, *arguments, f"{out}/")
    assert code == 2 and "--skip-existing" in line
    bad.write_bytes(photo.read_bytes())
    (out / "other.rastrum").unlink()
    before = (out / "photo.rastrum").stat()
    said = answered(capsys, *arguments, f"{out}/", "--skip-existing")
    assert [record["photo"] for record in said["files"]] == [str(bad), str(other)] and said["skipped"] == 1
    assert (out / "photo.rastrum").stat() == before
    assert main([*arguments, f"{out}/", "--skip-existing"]) == 0
    assert capsys.readouterr().out == "3 files left out, there already\n"
    (out / "bad.rastrum").write_bytes((out / "bad.rastrum").read_bytes()[:-9])
    files = [str(out / f"{name}.rastrum") for name in ("bad", "photo", "none")]
    Path(files[2]).write_bytes(b"")
    for command in ("decompress", "info", "verify"):
        assert main([command, *files, *([] if command == "info" else ["--model", folders[3]]), "--json"]) == 1
        said = capsys.readouterr()
        records = json.loads(said.out)["files"]
        assert "not made by rastrum" in str(records[2]) and not {"error"} & set(records[1])
        assert command == "verify" or ("error" in records[0] and "2 of 3 files failed" in said.err)
    assert [path.name for path in out.iterdir() if path.suffix == ".png"] == ["photo.png"]
    assert main(["decompress", *files[:2], "--model", folders[3], "--skip-existing", "--salvage"]) == 1 and (out / "bad.png").exists()
    bad.write_bytes(b"")
    archive = tmp_path / "all.zip"
    assert main([*arguments, str(archive), "--delete-source"]) == 1 and [photo.exists(), bad.exists(), other.exists()] == [0, 1, 0]
    with zipfile.ZipFile(archive) as members:
        assert members.namelist() == ["photo.rastrum", "other.rastrum"]
    capsys.readouterr()
    code, line = complaint(capsys, "compress", bad, out / "none.rastrum", "-o", tmp_path / "none.zip", "--model", folders[3])
    assert code == 2 and "none of the 2 photos" in line and not (tmp_path / "none.zip").exists()
    code, line = complaint(capsys, *arguments, tmp_path / "x.zip", "--skip-existing")
    assert code == 2 and "for a file for each photo" in line


def test_an_archive_without_its_end(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path, folders: Any) -> None:
    """Cut anywhere: whole members are found and decoded, the one that is cut is salvaged, and the exit code says that something is lost."""
    names, archive, cut = ("photo", "other", "last"), tmp_path / "all.zip", tmp_path / "cut.zip"
    for name in names[1:]:
        photo.with_name(f"{name}.png").write_bytes(photo.read_bytes())
    photos = [photo.with_name(f"{name}.png") for name in names]
    answered(capsys, "compress", *photos, "-o", archive, "--model", folders[3], "--tile", 8, "--context", 4)
    data = archive.read_bytes()
    with zipfile.ZipFile(archive) as members:
        starts = [member.header_offset for member in members.infolist()]
    for size, whole, found in ((len(data) - 1, 3, 3), (data.index(b"PK\1\2"), 3, 3), (starts[2] - 1, 1, 2), (starts[1] + 35, 1, 1)):
        cut.write_bytes(data[:size])
        for command in (["info"], ["verify"], ["decompress", "--salvage", "-o", f"{tmp_path}/{size}/"]):
            capsys.readouterr()
            assert main([*command, str(cut), *([] if command == ["info"] else ["--model", folders[3]]), "--json"]) == 1, command
            said = json.loads(capsys.readouterr().out)
            assert f"any files after the {found} found" in said["faults"][0]
            good = [each for each in said["files"] if "error" not in each and not each.get("faults")]
            assert (len(said["files"]), len(good)) == (found, whole)
        for name in names[:whole]:
            assert np.array_equal(decoded((tmp_path / str(size) / f"{name}.png").read_bytes()).values, smooth(20, 31, 3))
    saved = decoded((tmp_path / str(starts[2] - 1) / "other.png").read_bytes()).values
    assert np.array_equal(saved[:12], smooth(20, 31, 3)[:12])
    cut.write_bytes(data[:33])
    code, line = complaint(capsys, "info", cut)
    assert code == 2 and "is not a whole archive" in line


def test_names_in_an_archive_lead_nowhere_else(tmp_path: Path, photo: Path, folders: Any) -> None:
    assert main(["compress", str(photo), "--model", folders[3]]) == 0
    evil = tmp_path / "evil.zip"
    with zipfile.ZipFile(evil, "w") as members:
        members.writestr("../../up.rastrum", photo.with_suffix(".rastrum").read_bytes())
    assert main(["decompress", str(evil), "-o", f"{tmp_path}/out/", "--model", folders[3]]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["up.png"]


def test_compressed_members_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("x.rastrum", bytes(10**6))
    code, line = complaint(capsys, "info", bomb)
    assert code == 2 and "is compressed or encrypted" in line


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> io.BytesIO:
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=out, flush=lambda: None, write=lambda text: len(text)))
    return out


def test_pipes(monkeypatch: pytest.MonkeyPatch, photo: Path, folders: Any) -> None:
    with monkeypatch.context() as patch:
        out = piped(patch, photo.read_bytes())
        assert main(["compress", "-", "--model", folders[3]]) == 0
    with monkeypatch.context() as patch:
        back = piped(patch, out.getvalue())
        assert main(["decompress", "-", "-o", "-", "--model", folders[3]]) == 0
    assert np.array_equal(decoded(back.getvalue()).values, smooth(20, 31, 3))


def test_arrays_come_from_pipes_and_in_any_byte_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folders: Any) -> None:
    pixels, array = smooth(20, 31, 3, np.uint16), io.BytesIO()
    np.save(array, pixels.astype(">u2"))
    with monkeypatch.context() as patch:
        out = piped(patch, array.getvalue())
        assert main(["compress", "-", "--model", folders[3]]) == 0
    again = decompress_image(out.getvalue(), built(3))
    assert again.dtype == np.uint16 and np.array_equal(again, pixels)
    (tmp_path / "x.npy").write_bytes(array.getvalue())
    assert main(["compress", str(tmp_path / "x.npy"), "--model", folders[3]]) == 0
    assert (tmp_path / "x.rastrum").read_bytes() == out.getvalue()


def test_names_that_are_no_text(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path, folders: Any) -> None:
    """A byte that is not UTF-8, in the name of a photo, of an archive's member, of a model."""
    strange = tmp_path / "a\udcff.png"
    strange.write_bytes(photo.read_bytes())
    assert main(["compress", str(strange), str(photo), "-o", str(tmp_path / "x.zip"), "--model", folders[3]]) == 0
    with zipfile.ZipFile(tmp_path / "x.zip") as members:
        assert members.namelist() == ["a\\udcff.rastrum", "photo.rastrum"]
    assert main(["compress", str(strange), "--model", folders[3]]) == 0 and strange.with_suffix(".rastrum").exists()
    with pytest.raises(ValueError, match="cannot be written as UTF-8"):
        compress_image(built(3), smooth(4, 4, 3), name="./a\udcff")


def test_a_photo_whose_own_file_is_smaller_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path, folders: Any) -> None:
    Image.fromarray(np.random.default_rng(0).random((40, 40)) > 0.5).save(tmp_path / "x.png")
    assert main(["compress", str(tmp_path / "x.png"), "--model", folders[1]]) == 0
    said = capsys.readouterr().out
    assert f"its own file is smaller, {(tmp_path / 'x.png').stat().st_size} bytes: keep that" in said and "\n1 photo: " in said
    assert main(["info", str(tmp_path / "x.rastrum")]) == 0 and ", 1 tile of " in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_no_part_of_a_file(monkeypatch: pytest.MonkeyPatch, photo: Path, folders: Any, number: signal.Signals) -> None:
    """While it is written."""
    real = photographs.encode

    def killed(*arguments: Any, **options: Any) -> Iterator[bytes]:
        first, *_ = real(*arguments, **options)
        yield first
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr(photographs, "encode", killed)
    assert main(["compress", str(photo), "--model", folders[3]]) == 130
    assert [path.name for path in photo.parent.iterdir()] == ["photo.png"]


def test_metadata_is_kept_if_asked(tmp_path: Path, folders: Any) -> None:
    exif = Image.Exif()
    exif[271], exif[274] = "maker", 6
    Image.fromarray(smooth(10, 7, 3)).save(tmp_path / "x.png", exif=exif, icc_profile=b"a profile")
    upright = np.rot90(smooth(10, 7, 3), -1)
    for flags, kept in (([], False), (["--metadata"], True)):
        file, out = tmp_path / f"{kept}.rastrum", tmp_path / f"{kept}.png"
        assert main(["compress", str(tmp_path / "x.png"), "-o", str(file), "--model", folders[3], *flags]) == 0
        assert main(["decompress", str(file), "-o", str(out), "--model", folders[3]]) == 0
        image = Image.open(out)
        assert np.array_equal(np.asarray(image), upright)
        assert (image.info.get("icc_profile") == b"a profile", image.getexif().get(271) == "maker") == (kept, kept)
        assert 274 not in image.getexif()


def test_exif_without_orientation_is_kept_byte_for_byte() -> None:
    exif = Image.Exif()
    exif[271] = "maker"
    file = io.BytesIO()
    Image.fromarray(smooth(10, 7, 3)).save(file, "JPEG", exif=exif)
    assert decoded(file.getvalue()).metadata["exif"] == Image.open(file).info["exif"]


def test_a_source_is_deleted_when_it_has_come_back(monkeypatch: pytest.MonkeyPatch, photo: Path, folders: Any) -> None:
    arguments = ["compress", str(photo), "--model", folders[3], "--delete-source"]
    assert main([*arguments, "--no-verify"]) == 2 and photo.exists()
    with monkeypatch.context() as patch:                                  # a decoder that errs
        real = np.array_equal
        patch.setattr(np, "array_equal", lambda a, b: False)
        assert main(arguments) == 1
        patch.setattr(np, "array_equal", real)
    assert photo.exists() and [path.name for path in photo.parent.iterdir()] == ["photo.png"]
    assert main(arguments) == 0 and not photo.exists() and photo.with_suffix(".rastrum").exists()


def test_damage_is_named_and_the_rest_saved(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path, folders: Any) -> None:
    file, out = photo.with_suffix(".rastrum"), tmp_path / "out.png"
    assert main(["compress", str(photo), "--model", folders[3], "--tile", "8", "--context", "4"]) == 0
    data = bytearray(file.read_bytes())
    data[-5] ^= 1                                                         # the last tile
    file.write_bytes(data)
    code, line = complaint(capsys, "decompress", file, "-o", out, "--model", folders[3])
    assert code == 2 and "rows 12 … 19, columns 25 … 30 do not match" in line and not out.exists()
    assert main(["verify", str(file), "--model", folders[3]]) == 1
    assert "rows 12 … 19, columns 25 … 30 could not be decoded" in capsys.readouterr().out
    assert main(["decompress", str(file), "-o", str(out), "--model", folders[3], "--salvage", "--json"]) == 1
    saved = decoded(out.read_bytes()).values
    assert np.array_equal(saved[:12], smooth(20, 31, 3)[:12]) and (saved[12:, 25:] == 128).all()
    assert json.loads(capsys.readouterr().out)["files"][0]["faults"]
    assert main(["info", str(file)]) == 0
    file.write_bytes(file.read_bytes() + b"more")
    assert main(["verify", str(file), "--model", folders[3]]) == 1


def test_damage_in_an_archive_costs_its_tile(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path, folders: Any) -> None:
    other, archive, options = photo.with_name("other.png"), tmp_path / "all.zip", ["--model", folders[3]]
    other.write_bytes(photo.read_bytes())
    answered(capsys, "compress", photo, other, "-o", archive, *options, "--tile", 8, "--context", 4)
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as members:
        data[members.infolist()[1].header_offset - 5] ^= 1                # the last tile of the first member
    archive.write_bytes(data)
    for command in (["verify"], ["decompress", "--salvage", "-o", f"{tmp_path}/out/"]):
        assert main([*command, str(archive), *options, "--json"]) == 1
        faults = [record["faults"] for record in json.loads(capsys.readouterr().out)["files"]]
        assert faults == [["rows 12 … 19, columns 25 … 30 could not be decoded"], []]
    saved = [decoded((tmp_path / "out" / path.name).read_bytes()).values for path in (photo, other)]
    assert np.array_equal(saved[0][:12], smooth(20, 31, 3)[:12]) and np.array_equal(saved[1], smooth(20, 31, 3))


def test_a_file_that_cannot_be_read_does_not_hide_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path, folders: Any
) -> None:
    file = photo.with_suffix(".rastrum")
    assert main(["compress", str(photo), "--model", folders[3]]) == 0
    (tmp_path / "bad.rastrum").write_bytes(file.read_bytes()[:40])
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "bad.rastrum"), str(file), "--model", folders[3], "--json"]) == 1
    first, second = json.loads(capsys.readouterr().out)["files"]
    assert "truncated" in first["faults"][0] and (second["file"], second["faults"]) == (str(file), [])


def test_what_is_refused_is_said_in_a_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path, folders: Any) -> None:
    Image.new("CMYK", (4, 4)).save(tmp_path / "ink.jpg")
    Image.fromarray(smooth(4, 4, 1)[..., 0]).save(tmp_path / "grey.png")
    np.save(tmp_path / "floats.npy", np.zeros((4, 4)))
    (tmp_path / "empty").write_bytes(b"")
    model = ("--model", folders[3])
    for arguments, words in (
        (("compress",), "which photos"),
        (("compress", tmp_path / "none.png", *model), "there is no file"),
        (("compress", tmp_path / "ink.jpg", *model), "CMYK; convert it to RGB"),
        (("compress", tmp_path / "grey.png", *model), "unconditional one of 1 channels"),
        (("compress", tmp_path / "floats.npy", *model), "expected uint8 or uint16"),
        (("compress", tmp_path / "empty", *model), "not a whole image"),
        (("compress", photo, photo, *model), "several files would be called so"),
        (("compress", photo, tmp_path / "grey.png", "-o", "x.rastrum", *model), "it is for one file, got 2"),
        (("compress", photo, "--archive", *model), "-o names it"),
        (("compress", photo, "--tile", 0, *model), "expected 1 … 256"),
        (("compress", photo, "-o", tmp_path / "x.jpg", *model), "expected a folder"),
        (("compress", "-", "--delete-source"), "does not go with a pipe"),
        (("decompress", photo, "-o", tmp_path / "y.png", *model), "not made by rastrum compress"),
        (("verify", tmp_path / "empty"), "not made by rastrum compress"),
        (("info",), "which files"),
    ):
        code, line = complaint(capsys, *arguments)
        assert code == 2 and words in line, line
    assert main(["compress", str(photo), *model]) == 0
    capsys.readouterr()
    code, line = complaint(capsys, "compress", photo, *model)
    assert code == 2 and "is there already" in line
    code, line = complaint(capsys, "decompress", photo.with_suffix(".rastrum"), "-o", tmp_path / "y.png")
    assert code == 2 and "made by the model ./model-3" in line and "give it with --model" in line
    code, line = complaint(capsys, "verify", photo.with_suffix(".rastrum"), "--model", folders[1])
    assert code == 2 and "this model's are" in line


def test_a_memory_map_is_compressed(tmp_path: Path, folders: Any) -> None:
    np.save(tmp_path / "scan.npy", smooth(30, 9, 3, np.uint16))
    assert main(["compress", str(tmp_path / "scan.npy"), "--model", folders[3], "--ycocg"]) == 0
    with pytest.raises(FileError, match="not bundled"):
        decompress_image((tmp_path / "scan.rastrum").read_bytes())
    assert main(["decompress", str(tmp_path / "scan.rastrum"), "--model", folders[3]]) == 0
    assert np.array_equal(decoded((tmp_path / "scan.png").read_bytes()).values, smooth(30, 9, 3, np.uint16))
