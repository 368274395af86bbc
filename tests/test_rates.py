"""Images at a rate: formats, models and the slide that compares them; the parsers of benchmarks/lossy.py against files of Pillow."""

from __future__ import annotations

import importlib.util
import io
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, features
from test_cli import answered, complaint
from test_conceptual import COLOUR, GREY, make, pictures
from torch import Tensor

import rastrum
from rastrum import ConditionSpec, ImageSpec
from rastrum.applications.rates import (
    RATES,
    Format,
    attempts,
    by_format,
    by_model,
    jpeg_2000_payload,
    jpeg_payload,
    nearest_model,
    nearest_within,
    usual_formats,
)  # fmt: skip
from rastrum.compression import compress_pictures, decompress_pictures
from rastrum.compression.unpacking import psnr_of
from rastrum.model import Model
from rastrum.pictures.rates import draw_rates

SPEC = ImageSpec(3, 16, 16)
ENDS = {"JPEG": b"\xff\xd9", "JPEG 2000": b"\xff\xd9"}


def image(height: int = 16, width: int = 16) -> np.ndarray:
    return pictures(ImageSpec(3, height, width), 1)[0].permute(1, 2, 0).numpy().astype(np.uint8)


@pytest.mark.parametrize("format", usual_formats(), ids=lambda each: each.name)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_format_gives_pictures_back(format: Format, channels: int) -> None:
    """Of any size and colour, nearer with better quality, and the payload is what is left without the segments before."""
    for height, width in ((16, 16), (1, 1), (9, 40)):
        pixels = image(height, width)[..., :channels]
        found = [format.decode(format.encode(pixels, quality)) for quality in (format.qualities[0], format.qualities[-1])]
        assert all(each.shape == pixels.shape and each.dtype == np.uint8 for each in found)
        coarse, fine = (psnr_of(each / 255, pixels / 255) for each in found)
        assert fine >= max(coarse, 30)
        data = format.encode(pixels, format.qualities[-1])
        assert 0 < format.payload(data) < len(data) and data.endswith(ENDS[format.name])


def test_the_payload_of_a_jpeg() -> None:
    """Comments and profiles are not part of it, restart markers are, and a progressive file has several scans."""

    def saved(**how: Any) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image(48, 48)).save(file, "JPEG", quality=60, **how)
        return file.getvalue()

    plain, commented, progressive = saved(), saved(comment=b"x" * 50, icc_profile=b"y" * 70), saved(progressive=True)
    assert jpeg_payload(commented) == jpeg_payload(plain) and len(commented) > len(plain) + 120
    begin = plain.index(b"\xff\xda")
    assert jpeg_payload(plain) == len(plain) - 2 - (begin + 2 + int.from_bytes(plain[begin + 2 : begin + 4], "big"))
    assert progressive.count(b"\xff\xda") > 1 and 0 < jpeg_payload(progressive) < len(progressive)
    restarts = saved(restart_marker_blocks=1)
    assert jpeg_payload(plain) < jpeg_payload(restarts) < len(restarts) - 300


def test_the_payload_of_jpeg_2000() -> None:
    """All bytes behind the start of the data, of one tile and of several."""

    def saved(**how: Any) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image(32, 32)).save(file, "JPEG2000", no_jp2=True, **how)
        return file.getvalue()

    plain = saved()
    assert jpeg_2000_payload(plain) == len(plain) - 2 - (plain.index(b"\xff\x93") + 2)
    tiled = saved(tile_size=(16, 16), num_resolutions=2)
    assert tiled.count(b"\xff\x90\x00\x0a") == 4
    heads = len(tiled[: tiled.index(b"\xff\x90")]) + 4 * 14 + 2          # SOT of 12 bytes, SOD of 2
    assert jpeg_2000_payload(tiled) == len(tiled) - heads


def test_the_nearest_within_a_rate() -> None:
    """By brute force over all that was tried; where nothing is within the rate, the smallest."""
    jpeg, _ = usual_formats()
    found = attempts(jpeg, image())
    assert len(found) == 3 * len(jpeg.qualities)
    for bits, whole in ((400, False), (2800, True)):
        best, within = nearest_within(found, bits, whole)
        sizes = [each.bits if whole else each.payload for each in found]
        assert within and best.psnr == max(each.psnr for each, size in zip(found, sizes, strict=True) if size <= bits)
    smallest, within = nearest_within(found, 10, True)
    assert not within and smallest.bits == min(each.bits for each in found)


def test_levels_of_other_images() -> None:
    """Two levels are coded as black and white."""
    jpeg, _ = usual_formats()
    (found,) = by_format(jpeg, pictures(GREY, 2), 2, (10_000,), whole=True)
    assert found.pictures.shape == (2, 1, 8, 8) and found.within.all() and float((found.pictures - pictures(GREY, 2)).abs().max()) < 0.1


@pytest.mark.parametrize("whole", [False, True])
def test_a_models_files_are_cut_at_the_rate(whole: bool) -> None:
    """What comes is what the beginning of each file decodes to; the bytes are the most that the rate allows."""
    model, x = make(SPEC), pictures(SPEC, 2)
    rates = (150, 400, 1e6)
    files = [compress_pictures(model, each[None]) for each in x]
    for bits, (drawn, mean) in zip(rates, by_model(model, x, rates, whole, seed=4), strict=True):
        assert (drawn.name, mean.name) == ("ConvDRAW, rest drawn", "ConvDRAW, rest at mean")
        for n, file in enumerate(files):
            header = len(file.header.bytes)
            size = min(len(file.data), int(bits // 8) + (0 if whole else header))
            assert (drawn.bits[n], drawn.payload[n]) == (8 * size, 8 * (size - header)) and drawn.within[n]
            assert torch.equal(mean.pictures[n], decompress_pictures(file.data[:size], model).images[0])
            assert torch.equal(drawn.pictures[n], decompress_pictures(file.data[:size], model, rest="sample", seed=4 + n).images[0])
            assert mean.psnr[n] == pytest.approx(psnr_of(mean.pictures[n].double().numpy(), x[n].numpy() / 255))
    (over, _), = by_model(model, x, (50,), whole=True)
    assert not over.within.any() and (over.payload == 0).all()


def test_of_several_models_the_nearest_is_taken() -> None:
    x = pictures(SPEC, 2)
    ways = [next(iter(by_model(make(SPEC, steps=steps), x, (2000,)))) for steps in (1, 3)]
    best = nearest_model(ways)
    assert best[1].psnr.mean() == max(each[1].psnr.mean() for each in ways)


def test_a_model_of_classes_takes_them() -> None:
    model, x = make(SPEC, ConditionSpec("class", 3)), pictures(SPEC, 2)
    ((_, mean),) = by_model(model, x, (1e6,), condition=torch.tensor([0, 2]))
    data = compress_pictures(model, x[1:], 2).data
    assert torch.equal(mean.pictures[1], decompress_pictures(data, model, 2).images[0])


def test_the_slide_shows_the_pictures() -> None:
    """A block per rate, in it the images, and a row for each way; its pixels are those of the pictures."""
    model, x = make(SPEC), pictures(SPEC, 2)
    rows = list(by_model(model, x, (200, 4000)))
    picture = np.asarray(draw_rates(x / 255, {f"{n} bits": pair for n, pair in enumerate(rows)})(1, 1.0))

    def shown(wanted: Tensor) -> int:
        pixels = (wanted.movedim(0, -1) * 255).round().numpy().astype(np.uint8)
        windows = np.lib.stride_tricks.sliding_window_view(picture, pixels.shape)[..., 0, :, :, :]
        return int((windows == pixels).all((-3, -2, -1)).sum())

    assert shown(x[0] / 255) == 2 and all(shown(row.pictures[1].clamp(0, 1)) >= 1 for pair in rows for row in pair)


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    models: dict[str, Model] = {"one": make(SPEC, beta=0.4), "two": make(SPEC, steps=2, beta=0.1), "small": make(COLOUR),
              "normal": make(SPEC, posterior="normal"), "classes": make(SPEC, ConditionSpec("class", 3))}  # fmt: skip
    models["pixelcnn"] = rastrum.build("pixelcnn", SPEC, "tiny")
    for name, model in models.items():
        model.save_pretrained(str(folder / name))
    np.save(folder / "x.npy", pictures(SPEC, 3).numpy().astype(np.uint8))
    return {path.name: path for path in folder.iterdir()}


def test_one_command_draws_the_slide(capsys: pytest.CaptureFixture[str], tmp_path: Path, folders: dict[str, Path]) -> None:
    said = answered(capsys, "rates", folders["one"], folders["two"], "--images", folders["x.npy"], "--split", "all", "--count", 3,
                    "--out", tmp_path / "rates.png", "--samples", tmp_path / "betas.png")  # fmt: skip
    rates = [each["rate"] for each in said["rates"]]
    assert rates == [round(rate / 4) for rate in RATES for _ in range(4)]                     # of a quarter of the pixels
    assert [each["coder"] for each in said["rates"][:2]] == ["JPEG", "JPEG 2000"]
    assert {each["coder"].partition(",")[0] for each in said["rates"] if "rest" in each["coder"]} <= {"β = 0.4", "β = 0.1"}
    assert all(each["payload_bits"] <= each["rate"] for each in said["rates"] if each["within"] == 3)
    for name in ("rates.png", "betas.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 100
    said = answered(capsys, "rates", folders["one"], "--images", folders["x.npy"], "--split", "all", "--whole", "--bits", 400, "--count", 1,
                    "--out", tmp_path / "rates.svg")  # fmt: skip
    assert [each["within"] for each in said["rates"]] == [0, 0, 1, 1]
    code, _ = complaint(capsys, "rates", folders["classes"], "--images", folders["x.npy"], "--split", "all", "--out", tmp_path / "c.png")
    assert code == 2
    said = answered(capsys, "rates", folders["classes"], "--images", folders["x.npy"], "--split", "all", "--class", 1, "--bits", 900,
                    "--out", tmp_path / "c.png")  # fmt: skip
    assert said["rates"][-1]["coder"] == "ConvDRAW, rest at mean"


def test_what_is_refused_is_said_in_a_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ["--images", folders["x.npy"], "--split", "all", "--out", tmp_path / "x.png"]
    cases: list[tuple[list[Any], str]] = [
        ([*out], "which models?"),
        ([folders["one"], folders["small"], *out], "give models of the same images"),
        ([folders["normal"], *out], "posterior='uniform'"),
        ([folders["one"], *out, "--bits", 300, 0], "finite numbers above 0, got 0"),
        ([folders["one"], *out, "--bits", "inf"], "finite numbers above 0, got inf"),
        ([folders["one"], *out, "--bits", "nan"], "finite numbers above 0, got nan"),
        ([folders["one"], *out, "--bits", 300, 200, 300], "got 300 twice"),
        ([folders["one"], *out[:-1], tmp_path / "x.txt"], "--out"),
        ([folders["one"], *out, "--samples", tmp_path / "no" / "x.png"], "--samples"),
        ([folders["pixelcnn"], *out], "no canvas of pixels"),
    ]
    for arguments, message in cases:
        code, line = complaint(capsys, "rates", *arguments)
        assert code == 2 and message in line, (arguments, line)
    monkeypatch.setattr(features, "check_codec", lambda name: name != "jpg_2000")
    code, line = complaint(capsys, "rates", folders["one"], *out)
    assert code == 2 and "built without JPEG 2000" in line
    assert not (tmp_path / "x.png").exists()


# ── benchmarks/lossy.py ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    folder = Path(__file__).parents[1] / "benchmarks"
    sys.path.insert(0, str(folder))
    try:
        described = importlib.util.spec_from_file_location("benchmark_of_lossy", folder / "lossy.py")
        assert described is not None and described.loader is not None
        module = importlib.util.module_from_spec(described)
        described.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


@pytest.mark.parametrize("quality", [5, 90])
def test_payloads_of_other_formats(benchmark: ModuleType, quality: int) -> None:
    """Metadata changes the file, not the payload, which is most of a file of high quality."""

    def saved(kind: str, **how: Any) -> bytes:
        file, noise = io.BytesIO(), np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(file, kind, quality=quality, **how)
        return file.getvalue()

    webp = saved("WEBP", method=6)
    assert benchmark.webp_payload(webp) in (len(webp) - 30, len(webp) - 31)           # one of padding
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    avif, tagged = saved("AVIF", speed=8), saved("AVIF", speed=8, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    assert benchmark.avif_payload(avif) < len(benchmark.mdat(avif)) < len(avif) < len(tagged)
    assert len(avif) - benchmark.avif_payload(avif) < 400 and benchmark.avif_payload(avif) > 2 * quality


def test_rates_between_points(benchmark: ModuleType) -> None:
    """Logarithmic between points, none outside; published figures agree with what they are compared with."""
    points = [(100.0, 20.0), (400.0, 30.0)]
    assert benchmark.rate_at(points, 25.0) == pytest.approx(200) and benchmark.rate_at(points, 31.0) is None
    assert benchmark.rate_at(points, 20.0) == 100
    at = {name: benchmark.rate_at(curve, 30.0) for name, curve in benchmark.PUBLISHED.items()}
    assert sorted(at, key=lambda name: at[name]) == ["ELIC (He 2022)", "VTM", "BPG 4:4:4 (x265)", "hyperprior (Ballé 2018)"]
    assert not any(math.isnan(value) for value in at.values())
