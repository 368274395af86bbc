"""compress --lossy, and decompress, info and verify of progressive files: what comes out, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_cli import answered, complaint
from test_conceptual import COLOUR, GREY, make
from test_photograph_files import decoded, encoded, piped
from test_photographs import built, smooth

from rastrum import ConditionSpec
from rastrum.cli import main


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("models") / "colour")
    make(COLOUR).save_pretrained(folder)
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(smooth(20, 31, 3)))
    return path


def pixels(path: Path) -> np.ndarray:
    return decoded(path.read_bytes()).values


def test_a_photo_comes_step_by_step(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path, model: str) -> None:
    said = answered(capsys, "compress", photo, "--lossy", "--model", model)
    (record,) = said["files"]
    data = (tmp_path / "photo.rastrum").read_bytes()
    assert (record["steps"], record["bytes"]) == (3, len(data)) and record["payload_bytes"] < len(data)
    assert 0 <= 8 * record["payload_bytes"] - record["code_bits"] < 8 + 16 * (1 + len(data) / 256)
    (whole,) = answered(capsys, "decompress", tmp_path / "photo.rastrum", "-o", tmp_path / "a.png", "--model", model)["files"]
    assert (whole["read_steps"], whole["steps"], whole["whole"]) == (3, 3, True)
    error = ((pixels(tmp_path / "a.png") / 255 - pixels(photo) / 255) ** 2).mean()
    assert record["psnr"] == pytest.approx(-10 * np.log10(error), abs=0.02)
    (tmp_path / "cut.rastrum").write_bytes(data[: len(data) // 2])
    (cut,) = answered(capsys, "info", tmp_path / "cut.rastrum")["files"]
    assert cut["held_bytes"] < cut["stream_bytes"] == record["payload_bytes"]
    (part,) = answered(capsys, "decompress", tmp_path / "cut.rastrum", "-o", tmp_path / "b.png", "--model", model)["files"]
    assert 0 < part["read_steps"] < 3 and not part["whole"]
    assert main(["verify", str(tmp_path / "cut.rastrum"), str(tmp_path / "photo.rastrum"), "--model", model]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("of 3 steps, unchanged as far as checks say") and "cut: " in lines[0] and lines[1].endswith(": whole")
    for flags, name in (([], "mean"), (["--rest", "sample", "--seed", "1"], "one"), (["--rest", "sample", "--seed", "2"], "two")):
        out = tmp_path / f"{name}.png"
        assert main(["decompress", str(tmp_path / "cut.rastrum"), "-o", str(out), "--model", model, *flags]) == 0
    assert np.array_equal(pixels(tmp_path / "mean.png"), pixels(tmp_path / "b.png"))
    assert not np.array_equal(pixels(tmp_path / "one.png"), pixels(tmp_path / "two.png"))


def test_the_bundled_model_needs_no_name(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path) -> None:
    """Neither to compress nor to decompress; a smooth photo of any size comes near in a tenth of a byte per value."""
    photo.write_bytes(encoded(smooth(45, 70, 3)))
    (record,) = answered(capsys, "compress", photo, "--lossy")["files"]
    assert record["model"] == "rastrum/conv-draw-photographs" and record["psnr"] > 19
    assert record["bytes"] < 45 * 70 * 3 / 10
    (found,) = answered(capsys, "decompress", tmp_path / "photo.rastrum", "-o", tmp_path / "a.png")["files"]
    assert found["whole"] and pixels(tmp_path / "a.png").shape == (45, 70, 3)
    assert found["model"] == answered(capsys, "info", tmp_path / "photo.rastrum")["files"][0]["model"] == record["model"]


@pytest.mark.parametrize("name", ["rastrum/conv-draw-cifar10-files", "rastrum/conv-draw-cifar10-files-beta-1"])
def test_the_lectures_smallest_rate(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path, name: str) -> None:
    """153 bits of a picture of 32x32: the digest of a bundled model says which it is, its name would take more than all of them."""
    photo.write_bytes(encoded(smooth(32, 32, 3)))
    (record,) = answered(capsys, "compress", photo, "--lossy", "--bits", 153, "--model", name)["files"]
    assert record["bytes"] == 19 and record["payload_bytes"] > 5
    (found,) = answered(capsys, "decompress", tmp_path / "photo.rastrum", "-o", tmp_path / "a.png")["files"]
    assert found["model"] == name and found["read_steps"] > 0


def test_what_a_photo_has_besides_its_model(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path, model: str) -> None:
    """Transparency without any is left out; a finer photo than the model's is compared as it is; a folder is named."""
    plain = pixels(photo)
    Image.fromarray(np.dstack([plain, np.full(plain.shape[:2], 255, np.uint8)])).save(tmp_path / "opaque.png")
    np.save(tmp_path / "fine.npy", np.minimum(plain.astype(np.uint32) * 257 + 100, 65535).astype(np.uint16))
    records = answered(capsys, "compress", photo, tmp_path / "opaque.png", tmp_path / "fine.npy", "--lossy", "--model", model)["files"]
    assert len({(tmp_path / f"{name}.rastrum").read_bytes() for name in ("photo", "opaque", "fine")}) == 1
    assert records[0]["psnr"] == records[1]["psnr"] != records[2]["psnr"]
    code, line = complaint(capsys, "compress", tmp_path, "--lossy", "--model", model)
    assert code == 2 and f"is a folder; name its files, as {tmp_path}/*" in line


def test_damage_is_named_and_the_steps_before_it_saved(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path, model: str
) -> None:
    photo.write_bytes(encoded(smooth(50, 61, 3)))                         # a check after each step
    sizes = []
    for steps in (1, 3):
        out = tmp_path / f"{steps}.rastrum"
        (record,) = answered(capsys, "compress", photo, "-o", out, "--lossy", "--steps", steps, "--model", model)["files"]
        sizes.append(record["bytes"])
    assert main(["decompress", str(tmp_path / "1.rastrum"), "-o", str(tmp_path / "1.png"), "--model", model]) == 0
    data = bytearray((tmp_path / "3.rastrum").read_bytes())
    data[sizes[0] + 30] ^= 4
    (tmp_path / "x.rastrum").write_bytes(data)
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "x.rastrum"), "--model", model]) == 1
    assert "the check after step 2 does not match" in capsys.readouterr().out
    arguments = ["decompress", str(tmp_path / "x.rastrum"), "-o", str(tmp_path / "x.png"), "--model", model]
    assert main(arguments) == 2 and main([*arguments, "--salvage"]) == 1
    assert "the check after step 2 does not match" in capsys.readouterr().err
    assert np.array_equal(pixels(tmp_path / "x.png"), pixels(tmp_path / "1.png"))


def test_the_lossless_layer(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path, model: str) -> None:
    """Every value back; and asked for fewer steps, a picture of these."""
    (record,) = answered(capsys, "compress", photo, "--lossy", "--lossless", "--steps", 2, "--model", model)["files"]
    assert record["residual_bits"] > 0
    file = tmp_path / "photo.rastrum"
    (found,) = answered(capsys, "decompress", file, "-o", tmp_path / "a.png", "--model", model)["files"]
    assert found["exact"] == 20 * 31 * 3 and np.array_equal(pixels(tmp_path / "a.png"), pixels(photo))
    (found,) = answered(capsys, "decompress", file, "-o", tmp_path / "b.png", "--model", model, "--steps", 1)["files"]
    assert (found["exact"], found["read_steps"]) == (0, 1) and not np.array_equal(pixels(tmp_path / "b.png"), pixels(photo))


def test_an_animation_of_what_comes(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path, model: str) -> None:
    """Sixteen beginnings of the file, from the header alone to all of it; the last is the photo."""
    assert main(["compress", str(photo), "--lossy", "--lossless", "--model", model]) == 0
    assert main(["decompress", str(tmp_path / "photo.rastrum"), "-o", str(tmp_path / "x.webp"), "--model", model]) == 0
    film: Any = Image.open(tmp_path / "x.webp")
    assert film.n_frames == 16
    scale, frames = film.width // 31, []
    for number in range(16):
        film.seek(number)
        frames.append(np.asarray(film.convert("RGB"))[scale // 2 :: scale, scale // 2 :: scale])
    assert np.array_equal(frames[-1], pixels(photo))
    data = (tmp_path / "photo.rastrum").read_bytes()
    header = len(data) - answered(capsys, "info", tmp_path / "photo.rastrum")["files"][0]["stream_bytes"]
    (tmp_path / "cut.rastrum").write_bytes(data[: header + round((len(data) - header) ** (10 / 14))])
    assert main(["decompress", str(tmp_path / "cut.rastrum"), "-o", str(tmp_path / "cut.png"), "--model", model]) == 0
    assert np.array_equal(frames[11], pixels(tmp_path / "cut.png")) and not np.array_equal(frames[10], frames[11])


def test_a_rate_chooses_the_steps(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path, model: str) -> None:
    sizes = []
    for steps in range(4):
        out = tmp_path / f"{steps}.rastrum"
        (record,) = answered(capsys, "compress", photo, "-o", out, "--lossy", "--steps", steps, "--model", model)["files"]
        sizes.append(8 * record["bytes"])
    (record,) = answered(capsys, "compress", photo, "-o", tmp_path / "x.rastrum", "--lossy", "--bits", sizes[2], "--model", model)["files"]
    assert record["steps"] == record["read_steps"] == 2 and 8 * record["bytes"] == sizes[2]
    out = tmp_path / "cut.rastrum"
    (record,) = answered(capsys, "compress", photo, "-o", out, "--lossy", "--bits", sizes[1] + 50, "--effort", 2, "--model", model)["files"]
    assert 1 <= record["read_steps"] < 2 and 8 * out.stat().st_size <= sizes[1] + 50
    code, line = complaint(capsys, "compress", photo, "--lossy", "--bits", 90, "--model", model)
    assert code == 2 and f"a header alone takes {sizes[0]}" in line and not (tmp_path / "photo.rastrum").exists()
    code, line = complaint(capsys, "compress", photo, "--lossy", "--psnr", 70, "--model", model)
    assert code == 2 and "all 3 steps of this model reach" in line


def test_a_model_of_classes(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path) -> None:
    """A file decodes with the class that made it, and with another is refused."""
    folder = str(tmp_path / "classes")
    make(COLOUR, ConditionSpec("class", 3)).save_pretrained(folder)
    (record,) = answered(capsys, "compress", photo, "--lossy", "--model", folder, "--class", 2)["files"]
    file, out = tmp_path / "photo.rastrum", tmp_path / "a.png"
    assert main(["decompress", str(file), "-o", str(out), "--model", folder, "--class", "2"]) == 0
    error = ((pixels(out) / 255 - pixels(photo) / 255) ** 2).mean()
    assert record["psnr"] == pytest.approx(-10 * np.log10(error), abs=0.02)
    assert main(["verify", str(file), "--model", folder, "--class", "2"]) == 0
    capsys.readouterr()
    for command in (["decompress", file, "-o", tmp_path / "b.png"], ["verify", file]):
        code, line = complaint(capsys, *command, "--model", folder, "--class", 1)
        assert code == 2 and "or with another condition" in line


def test_grey_photos_come_back_grey(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str) -> None:
    """By a model of RGB: with every value, and as pictures of one channel; a file says what it is."""
    photo, file = tmp_path / "grey.png", tmp_path / "grey.rastrum"
    photo.write_bytes(encoded(smooth(20, 31, 1)))
    assert main(["compress", str(photo), "--lossy", "--lossless", "--model", model]) == 0
    capsys.readouterr()
    assert main(["info", str(file)]) == 0 and "31x20 pixels, grey though the model is not, 3 steps" in capsys.readouterr().out
    (found,) = answered(capsys, "decompress", file, "-o", tmp_path / "a.png", "--model", model)["files"]
    assert found["channels"] == 1 and found["exact"] == 20 * 31 and np.array_equal(pixels(tmp_path / "a.png"), pixels(photo))
    assert main(["decompress", str(file), "-o", str(tmp_path / "b.png"), "--model", model, "--steps", "2"]) == 0
    assert pixels(tmp_path / "b.png").shape == (20, 31, 1)


def test_images_of_two_levels(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """By a model of them, of that size only; a cut file is a picture of greys, a lossless one is black and white."""
    folder, photo, file = str(tmp_path / "letters"), tmp_path / "letter.png", tmp_path / "letter.rastrum"
    make(GREY, positional=True).save_pretrained(folder)
    letter = np.zeros((8, 8, 1), np.uint8)
    letter[1:7, 3:5] = 255                                                # of 256 levels, but none between
    photo.write_bytes(encoded(letter))
    assert main(["compress", str(photo), "--lossy", "--lossless", "--model", folder]) == 0
    assert main(["decompress", str(file), "-o", str(tmp_path / "a.png"), "--model", folder]) == 0
    assert np.array_equal(pixels(tmp_path / "a.png"), letter)
    file.write_bytes(file.read_bytes()[:-12])
    capsys.readouterr()
    (part,) = answered(capsys, "decompress", file, "-o", tmp_path / "b.png", "--model", folder)["files"]
    assert not part["whole"] and pixels(tmp_path / "b.png").shape == (8, 8, 1)


def test_what_is_refused_is_said_in_a_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Path, model: str) -> None:
    folders = {name: str(tmp_path / name) for name in ("positions", "normal", "classes", "vectors", "grey", "photo")}
    make(COLOUR, positional=True).save_pretrained(folders["positions"])
    make(COLOUR, posterior="normal").save_pretrained(folders["normal"])
    make(COLOUR, ConditionSpec("class", 3)).save_pretrained(folders["classes"])
    make(COLOUR, ConditionSpec("vector", 2)).save_pretrained(folders["vectors"])
    make(GREY).save_pretrained(folders["grey"])
    built(3).save_pretrained(folders["photo"])
    (tmp_path / "clear.png").write_bytes(encoded(smooth(8, 8, 4)))
    (tmp_path / "deep.png").write_bytes(encoded(smooth(8, 8, 3, np.uint16)))
    main(["compress", str(photo), "--lossy", "--model", model, "-o", str(tmp_path / "x.rastrum")])
    main(["compress", str(photo), "--model", folders["photo"], "-o", str(tmp_path / "exact.rastrum")])
    data = (tmp_path / "x.rastrum").read_bytes()
    (tmp_path / "header.rastrum").write_bytes(data[:9])
    (tmp_path / "changed.rastrum").write_bytes(data[:-60] + bytes([data[-60] ^ 1]) + data[-59:])
    (tmp_path / "longer.rastrum").write_bytes(data + b"x")
    lossy, file = ["compress", photo, "--lossy", "-o", tmp_path / "new.rastrum"], tmp_path / "x.rastrum"
    cases: list[tuple[list[Any], str]] = [
        ([*lossy, "--model", folders["positions"]], "runs on the former only"),
        ([*lossy, "--model", folders["normal"]], "posterior='uniform'"),
        ([*lossy, "--model", folders["classes"]], "--class: this model needs one of 0 … 2, got none"),
        ([*lossy, "--model", folders["classes"], "--class", 3], "--class: this model needs one of 0 … 2, got 3"),
        ([*lossy, "--model", folders["vectors"]], "it needs a vector"),
        ([*lossy, "--model", model, "--class", 1], "--class: this model is unconditional"),
        (["compress", photo, "--class", 1], "--class: it is for --lossy"),
        ([*lossy, "--model", folders["grey"]], "it is RGB, the model is for grey"),
        ([*lossy, "--model", folders["photo"]], "no canvas of pixels"),
        ([*lossy, "--model", model, "--bits", 800, "--steps", 1], "choose one of"),
        ([*lossy, "--model", model, "--steps", 4], "this model has 3"),
        ([*lossy, "--model", model, "--tune", 5], "--tune: it is for lossless files"),
        (["compress", photo, "--bits", 800], "--bits: it is for --lossy"),
        (["compress", photo, "--steps", 0], "--steps: it is for --lossy"),
        (["compress", photo, "--class", 0], "--class: it is for --lossy"),
        (["compress", photo, "--lossy", "--no-verify"], "--no-verify: it is for lossless files"),
        (["compress", tmp_path / "clear.png", "--lossy", "--model", model], "transparency"),
        (["compress", tmp_path / "deep.png", "--lossy", "--lossless", "--model", model], "that the model's 256 are not"),
        (["decompress", file, "-o", tmp_path / "y.png"], "not bundled"),
        (["decompress", file, "-o", tmp_path / "y.png", "--model", folders["grey"]], "another condition"),
        (["decompress", file, "-o", tmp_path / "y.png", "--model", model, "--steps", -1], "--steps: expected 0 or more"),
        (["decompress", tmp_path / "exact.rastrum", "-o", tmp_path / "y.png", "--steps", 1], "no progressive file"),
        (["decompress", tmp_path / "exact.rastrum", "-o", tmp_path / "y.gif"], "no progressive file"),
        (["decompress", tmp_path / "header.rastrum", "-o", tmp_path / "y.png", "--model", model], "too few"),
        (["decompress", tmp_path / "changed.rastrum", "-o", tmp_path / "y.png", "--model", model], "does not match"),
        (["info", tmp_path / "longer.rastrum"], "something was appended"),
    ]
    for arguments, message in cases:
        code, line = complaint(capsys, *arguments)
        assert code == 2 and message in line, (arguments, line)
    assert not (tmp_path / "new.rastrum").exists() and not (tmp_path / "y.png").exists()


def test_several_photos_and_pipes(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(encoded(smooth(9 + number, 12, 3)))
    names = [tmp_path / "0.png", tmp_path / "1.png"]
    said = answered(capsys, "compress", *names, "-o", tmp_path / "all.zip", "--lossy", "--model", model)
    assert [record["height"] for record in said["files"]] == [9, 10]
    found = answered(capsys, "decompress", tmp_path / "all.zip", "-o", tmp_path / "out", "--model", model)["files"]
    assert [record["height"] for record in found] == [9, 10] and pixels(tmp_path / "out" / "1.png").shape == (10, 12, 3)
    with monkeypatch.context() as patch:
        out = piped(patch, (tmp_path / "0.png").read_bytes())
        assert main(["compress", "-", "--lossy", "--model", model]) == 0
    with monkeypatch.context() as patch:
        back = piped(patch, out.getvalue())
        assert main(["decompress", "-", "-o", "-", "--model", model]) == 0
    assert np.array_equal(decoded(back.getvalue()).values, pixels(tmp_path / "out" / "0.png"))
