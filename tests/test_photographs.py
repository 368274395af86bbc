"""Image files: exact round trips at any size, bits that depend on nothing but the pixels, context across tiles, and what damage costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import golden_files
import numpy as np
import pytest
import torch

import rastrum
from rastrum import ConditionSpec, FileError, ImageSpec, RasterModel, checkpoint
from rastrum.compression import Decoding, compress_image, decompress_image, identity, photographs, tiles, tuning
from rastrum.compression.colour import from_ycocg, to_ycocg
from rastrum.compression.container import chained, read_header, read_strips, strip_bytes
from rastrum.compression.fields import Reader, deflate
from rastrum.compression.tiles import Axis, Tiling
from rastrum.compression.transparency import deflated, inflated
from rastrum.program import native
from rastrum.program.tables import packed


def built(channels: int, name: str = "pixelcnn++") -> RasterModel:
    model = rastrum.build(name, ImageSpec(channels, 8, 8), preset="tiny", seed=1)
    assert isinstance(model, RasterModel)
    return model.eval()


@pytest.fixture(scope="module")
def models() -> dict[int, RasterModel]:
    grey, colour = built(1), built(3)
    return {1: grey, 2: grey, 3: colour, 4: colour}


def smooth(height: int, width: int, channels: int, kind: Any = np.uint8) -> np.ndarray:
    """Slow waves and a little noise."""
    top = np.iinfo(kind).max
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 9 + c) + np.cos(y / 7 - c) for c in range(channels)], -1)
    noise = np.random.default_rng(0).normal(0, 0.01, waves.shape)
    return ((waves / 4 + 0.5 + noise) * top).clip(0, top).astype(kind)


# ── round trips ──────────────────────────────────────────────────────────────────────────────────────────────────────

SIZES = [(1, 1), (1, 40), (40, 1), (7, 5), (24, 24), (25, 25), (40, 41), (63, 17)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_images_of_any_size_come_back(models: dict[int, RasterModel], size: tuple[int, int]) -> None:
    for channels in (1, 3):
        pixels = smooth(*size, channels)
        for tile, context in ((16, 8), (5, 7), (128, 16)):
            blob = compress_image(models[channels], pixels, tile=tile, context=context)
            again = decompress_image(blob, models[channels])
            assert again.dtype == pixels.dtype and np.array_equal(again, pixels)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("noise", [False, True])
def test_samples_of_any_kind_come_back(models: dict[int, RasterModel], kind: Any, channels: int, noise: bool) -> None:
    pixels = smooth(21, 30, channels, kind)
    if noise:
        pixels = np.random.default_rng(1).integers(0, np.iinfo(kind).max, pixels.shape, kind, endpoint=True)
    for ycocg in {False, channels > 2}:
        blob = compress_image(models[channels], pixels, ycocg=ycocg, tile=12, context=4)
        assert np.array_equal(decompress_image(blob, models[channels]), pixels)


def test_few_bits_and_all_kinds_of_arrays(models: dict[int, RasterModel]) -> None:
    pixels = smooth(9, 10, 1, np.uint16) >> 4
    blob = compress_image(models[1], pixels, bits=12)
    assert np.array_equal(decompress_image(blob, models[1]), pixels) and len(blob) < len(compress_image(models[1], pixels))
    assert compress_image(models[1], pixels[..., 0], bits=12) == blob == compress_image(models[1], torch.from_numpy(pixels), bits=12)
    for bits, most in ((10, 1023), (8, 255)):                             # 8: before samples become uint8, which would cut them
        with pytest.raises(ValueError, match=rf"levels 0 … {most} for {bits} bits"):
            compress_image(models[1], pixels, bits=bits)


def test_windows_at_once_are_bounded_by_their_memory() -> None:
    """A wide window of one row has few values but as many maps: of these too so many are coded at once as fit."""
    model: Any = rastrum.load("rastrum/pixelcnn-plus-plus-cifar10")
    for height, width in ((1, 320), (144, 144), (8, 8)):
        coder = tiles.Coder(model.resized(height, width))
        at_once = len(next(coder.batches([(0, j) for j in range(100)]))) / torch.get_num_threads()
        stride = packed(coder.program).tables.layout.stride
        assert 0.8 * min(tiles.BLOCK, tiles.MEMORY // stride) <= at_once <= tiles.MEMORY / stride


def test_bands_are_those_of_a_memory_map(models: dict[int, RasterModel], tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of two rows of tiles: the same pixels, from a file that is mapped, rows at a time and in their order."""
    monkeypatch.setattr(tiles, "STRIP", 20 * 20)
    pixels = smooth(90, 20, 3)
    np.save(tmp_path / "x.npy", pixels)
    parts = list(photographs.encode(models[3], np.load(tmp_path / "x.npy", mmap_mode="r"), tile=8, context=4))
    bands = list(Decoding(b"".join(parts), models[3]).bands())
    assert len(parts) == 1 + 6 and len(bands) == 11 and np.array_equal(np.concatenate(bands), pixels)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pixelcnn++", "least-squares"])
def test_images_of_one_pixel_to_4097_rows_come_back(name: str, threads: int) -> None:
    """What one number of threads wrote the other reads."""
    for channels, sizes in ((1, SIZES), (3, [*SIZES, (300, 200), (4097, 31), (31, 4097)])):
        model = built(channels, name)
        for size in sizes:
            pixels = smooth(*size, channels)
            torch.set_num_threads(threads)
            blob = compress_image(model, pixels)
            torch.set_num_threads(3 - threads)
            assert np.array_equal(decompress_image(blob, model), pixels), size


def test_bits_depend_on_neither_threads_nor_batch(
    models: dict[int, RasterModel], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = smooth(50, 60, 3)
    one = compress_image(models[3], pixels, tile=10, context=5)
    assert np.array_equal(decompress_image(one, models[3]), pixels)
    monkeypatch.setattr(tiles, "VALUES", 1)                               # a tile at a time
    torch.set_num_threads(1)
    assert compress_image(models[3], pixels, tile=10, context=5) == one
    assert np.array_equal(decompress_image(one, models[3]), pixels)


@pytest.mark.parametrize("name", ["gated-pixelcnn", "pixelcnn", "row-lstm", "diagonal-bilstm", "multiscale-pixelrnn", "least-squares"])
def test_other_models_code_images_too(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of a row are decoded in turn, by one or two threads, with any rows between these; of a model in another order one by one."""
    monkeypatch.setattr(native, "AT_ONCE", 3)
    model, pixels = built(3, name), smooth(21, 37, 3)
    blob = compress_image(model, pixels, tile=6, context=3)
    assert np.array_equal(decompress_image(blob, model), pixels)
    assert packed(model.resized(9, 9, 256).lowered()).lag == {"multiscale-pixelrnn": 0}.get(name, 1)


# ── tuning ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def tuned_file() -> tuple[RasterModel, np.ndarray, bytes]:
    """By a model that has been trained on nothing else."""
    model, pixels = built(3, "least-squares"), smooth(60, 70, 3)
    return model, pixels, compress_image(model, pixels, tile=24, context=4, tune=60)


def test_tuning_makes_files_smaller_and_leaves_the_model_alone(tuned_file: Any, threads: int) -> None:
    model, pixels, blob = tuned_file
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    plain = compress_image(model, pixels, tile=24, context=4)
    assert len(blob) < 0.99 * len(plain) and read_header(Reader(plain, "x")).tuning == b""
    assert np.array_equal(decompress_image(blob, model), pixels)
    assert all(torch.equal(before[key], tensor) and tensor.grad is None for key, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_tuning_is_one_work_and_holds_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps, then both codings: what is done grows to the whole and is never begun again; parts are those of the smaller file."""
    monkeypatch.setattr(photographs, "HELD", 100)
    monkeypatch.setattr(photographs, "CHUNK", 64)
    model, pixels, done = built(3, "least-squares"), smooth(60, 70, 3), []
    parts = list(photographs.encode(model, pixels, tile=24, context=4, tune=60, report=lambda *both: done.append(both)))
    assert max(map(len, parts)) == 64 and read_header(Reader(b"".join(parts), "x")).tuning
    assert np.array_equal(decompress_image(b"".join(parts), model), pixels)
    steps, of = 60 * 23 * 26 / 1e6, done[0][1]                            # windows of 19 + 4 rows, 22 + 4 columns
    assert of == pytest.approx(steps + 2 * 60 * 70 / 1e6) and {each for _, each in done} == {of}
    shares = [each for each, _ in done]
    assert shares[59] == pytest.approx(steps) and shares == sorted(shares) and shares[-1] == pytest.approx(of)


def test_tuned_weights_are_sums_that_any_machine_rounds_alike(tuned_file: Any) -> None:
    model, _, blob = tuned_file
    steps = np.frombuffer(zlib.decompress(read_header(Reader(blob, "x")).tuning, -15), np.int8)
    other, at = tuning.tuned(model, read_header(Reader(blob, "x")).tuning), 0
    assert other is not None and steps.any()
    for old, new in zip(model.parameters(), other.parameters(), strict=True):
        expected = old.detach().numpy().astype(np.float64)
        if old.ndim <= 1:
            expected, at = expected + (steps[at : at + old.numel()] / 32).reshape(old.shape), at + old.numel()
        assert np.array_equal(expected.astype(np.float32), new.detach().numpy())
    assert at == len(steps)


def test_tuning_that_gains_nothing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that are too small to be said, and steps for the worse."""
    model, pixels = built(3), np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    plain = compress_image(model, pixels)
    assert compress_image(model, pixels, tune=1) == plain
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.ndim <= 1)
    worse = np.random.default_rng(0).integers(-128, 128, count, np.int8)
    monkeypatch.setattr(photographs, "find_tuning", lambda *rest: deflate(worse.tobytes()))
    assert compress_image(model, pixels, tune=1) == plain
    with pytest.raises(ValueError, match="tune: expected a number of steps, got -1"):
        compress_image(model, pixels, tune=-1)


def test_damaged_tuning_is_refused(tuned_file: Any) -> None:
    """Also where the digests were made to fit: as long as it says, and never another model's pixels."""
    model, _, blob = tuned_file
    header = read_header(Reader(blob, "x"))
    rest, entries = blob[len(header.bytes) :], next(read_strips(Reader(blob, "x"), header))[1]
    listed = strip_bytes(entries, header.alpha)
    place = len(header.bytes) - len(header.tuning)
    for at in range(place - 3, len(header.bytes)):
        with pytest.raises(FileError):
            decompress_image(blob[:at] + bytes([blob[at] ^ 16]) + blob[at + 1 :], model)
    steps = zlib.decompress(header.tuning, -15)
    bad = {deflate(steps[:-1]): "damaged", deflate(steps + b"\0"): "damaged", header.tuning[:-1]: "damaged"}
    bad |= {header.tuning + b"\0": "damaged", deflate(bytes([steps[0] ^ 4]) + steps[1:]): "do not match their checksum"}
    for tuning_bytes, message in bad.items():
        forged = replace(header, tuning=tuning_bytes)
        data = forged.bytes + listed + chained(forged.bytes, listed) + rest[len(listed) + 4 :]
        with pytest.raises(FileError, match=message):
            decompress_image(data, model)


# ── tiles ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tiles_are_a_partition_and_see_only_what_was_decoded_before() -> None:
    """Brute force over sizes: each pixel is of one tile; a window holds its tile, `context` before it where there are any, and no pixel
    of a tile that its tile does not wait for."""
    for size in range(1, 60):
        for tile in (1, 2, 5, 16):
            for context in (0, 1, 4, 17):
                axis = Axis(size, tile, context)
                own = [p for k in range(axis.count) for p in range(size)[axis.own(k)]]
                assert own == list(range(size))
                for k in range(axis.count):
                    window, mine = axis.window(k), axis.own(k)
                    assert window.start >= 0 and window.stop == mine.stop and window.stop - window.start == axis.length
                    assert mine.start - window.start >= min(context, mine.start)
                    assert axis.count == 1 or mine.stop - mine.start <= tile + (context if k == 0 else 0)
    tiling = Tiling(Axis(50, 8, 3), Axis(41, 8, 3))
    decoded: set[tuple[int, int]] = set()
    for strip in tiling.strips():
        for i, j in tiling.tiles(strip):
            rows, columns = tiling.rows.window(i), tiling.columns.window(j)
            seen = {(a, b) for a in range(i + 1) for b in range(j + 1) if (a, b) != (i, j)
                    and tiling.rows.own(a).stop > rows.start and tiling.columns.own(b).stop > columns.start}  # fmt: skip
            assert seen <= decoded and set(tiling.before((i, j))) <= decoded
            decoded.add((i, j))
    assert len(decoded) == tiling.count


def test_strips_are_bounded_by_pixels() -> None:
    """As many rows of tiles as fit, whatever the width, or one."""
    sizes = ((3000, 700, 128, 16), (3000, 5000, 128, 16), (500, 100_000, 256, 64), (5, 9, 16, 16), (4097, 1, 1, 0))
    for height, width, tile, context in sizes:
        tiling = Tiling(Axis(height, tile, context), Axis(width, tile, context))
        strips, row = list(tiling.strips()), max(1, tiling.rows.stride) * width
        assert [i for strip in strips for i in strip] == list(range(tiling.rows.count))
        assert all(len(strip) == 1 or len(strip) * row <= 1 << 20 for strip in strips)
        assert all((len(strip) + 1) * row > 1 << 20 for strip in strips[:-1])


def test_a_row_of_tiles_comes_in_bands(models: dict[int, RasterModel], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole rows of up to BAND pixels; windows that reach across several tiles, and a part that is lost."""
    monkeypatch.setattr(photographs, "BAND", 120)
    pixels = smooth(23, 50, 3)
    blob = compress_image(models[3], pixels, tile=4, context=9)
    bands = list(Decoding(blob, models[3]).bands())
    assert max(map(len, bands)) == 2 and np.array_equal(np.concatenate(bands), pixels)
    decoding = Decoding(flipped(blob, len(blob) - 40), models[3], salvage=True)
    saved, (lost,) = np.concatenate(list(decoding.bands())), decoding.damaged()
    assert lost.bottom == 23 and (saved[lost.top :, lost.left :] == 128).all() and np.array_equal(saved[: lost.top], pixels[: lost.top])
    assert np.array_equal(saved[:, : lost.left], pixels[:, : lost.left])


def test_context_saves_bits() -> None:
    """On a smooth image, by a model of natural images: the more tiles see across their borders, the fewer bytes."""
    model, pixels = rastrum.load("rastrum/pixelcnn-plus-plus-cifar10"), smooth(40, 40, 3)
    assert isinstance(model, RasterModel)
    sizes = [len(compress_image(model, pixels, tile=8, context=context)) for context in (0, 1, 8)]
    assert sizes[2] < sizes[1] < sizes[0] and sizes[2] < 0.95 * sizes[0], sizes


# ── colour and transparency ──────────────────────────────────────────────────────────────────────────────────────────


def test_ycocg_is_a_permutation_of_colours() -> None:
    for bits in (1, 2, 3, 4):
        every = np.stack(np.meshgrid(*[np.arange(1 << bits, dtype=np.uint8)] * 3), -1).reshape(-1, 3)
        there = to_ycocg(every, bits)
        assert len(np.unique(there, axis=0)) == len(every) and int(there.max()) < 1 << bits
        assert np.array_equal(from_ycocg(there, bits), every)
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    assert np.array_equal(to_ycocg(grey, 8), np.stack([grey[:, 0], *2 * [np.full(256, 128, np.uint8)]], 1))


def test_transparency_is_inflated_to_its_size_and_no_further() -> None:
    alpha = smooth(6, 7, 1)[..., 0]
    data = deflated(alpha)
    assert np.array_equal(inflated(data, (6, 7), 8), alpha[..., None])  # pyright: ignore[reportArgumentType]
    for changed, shape, bits in ((data, (6, 8), 8), (data, (6, 6), 8), (data, (6, 7), 5), (data[:-1], (6, 7), 8), (data + b"0", (6, 7), 8)):
        assert inflated(changed, shape, bits) is None


# ── damage ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def damaged(models: dict[int, RasterModel]) -> tuple[np.ndarray, bytes, list[slice]]:
    """An image, its file of 4 x 4 tiles, and where the streams of the tiles stand."""
    pixels = smooth(34, 34, 4)
    blob = compress_image(models[4], pixels, tile=8, context=2)
    reader = Reader(blob, "file")
    header = read_header(reader)
    for _, entries in read_strips(reader, header):
        start, places = reader.position, []
        for entry in entries:
            places.append(slice(start, start + entry.stream))
            start += entry.stream + entry.alpha
    return pixels, blob, places


def flipped(blob: bytes, position: int) -> bytes:
    return blob[:position] + bytes([blob[position] ^ 16]) + blob[position + 1 :]


def test_damage_costs_a_tile_and_those_that_depend_on_it(models: dict[int, RasterModel], damaged: Any) -> None:
    pixels, blob, places = damaged
    broken = flipped(blob, places[1 * 4 + 2].start + 3)
    with pytest.raises(FileError, match=r"pixels of rows 10 … 17, columns 18 … 25 do not match"):
        decompress_image(broken, models[4])
    decoding = Decoding(broken, models[4], salvage=True)
    found = np.concatenate(list(decoding.bands()))
    assert [str(region) for region in decoding.damaged()] == ["rows 10 … 33, columns 18 … 33"]
    assert np.array_equal(found[:10], pixels[:10]) and np.array_equal(found[:, :18], pixels[:, :18])
    assert (found[10:, 18:, :3] == 128).all() and (found[10:, 18:, 3] == 255).all()
    decoding = Decoding(flipped(broken, places[3 * 4].start + 3), models[4], salvage=True)
    list(decoding.bands())
    assert list(map(str, decoding.damaged())) == ["rows 10 … 25, columns 18 … 33", "rows 26 … 33, columns 0 … 33"]


def test_what_is_left_of_a_file_is_saved(models: dict[int, RasterModel], damaged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, blob, places = damaged
    decoding = Decoding(blob[: places[9].start], models[4], salvage=True)
    found = np.concatenate(list(decoding.bands()))
    assert np.array_equal(found[:18], pixels[:18]) and np.array_equal(found[18:26, :10], pixels[18:26, :10])
    monkeypatch.setattr(tiles, "STRIP", 16 * 34)
    blob = compress_image(models[4], pixels, tile=8, context=2)
    lists = Reader(blob, "file")
    second = [lists.position for _ in read_strips(lists, read_header(lists))][1]
    decoding = Decoding(flipped(blob, second - 3), models[4], salvage=True)    # in the digest of the second strip
    bands = list(decoding.bands())
    saved = np.concatenate(bands)
    assert saved.shape == pixels.shape and np.array_equal(saved[:18], pixels[:18]) and (saved[18:, :, :3] == 128).all()
    assert list(map(str, decoding.damaged())) == ["rows 18 … 33, columns 0 … 33"]


def test_every_changed_byte_is_noticed(models: dict[int, RasterModel]) -> None:
    """Changed, cut or longer: never other pixels, and a line that begins with the file."""
    pixels = smooth(9, 8, 4)
    blob = compress_image(models[4], pixels, tile=5, context=2, name="hf://o/n", metadata={"icc": b"profile", "exif": b"Exif"})
    generator = np.random.default_rng(0)
    for position in [*range(0, 80, 2), *range(80, len(blob), 23)]:
        changed = blob[:position] + bytes([blob[position] ^ int(generator.integers(1, 256))]) + blob[position + 1 :]
        try:                                                              # bits of deflate that mean nothing may change
            assert np.array_equal(decompress_image(changed, models[4]), pixels) and position > 80
        except FileError as error:
            assert str(error).startswith("file: ")
        with pytest.raises(FileError, match=r"^file: "):
            decompress_image(blob[:position], models[4])
    with pytest.raises(FileError, match="something was appended"):
        decompress_image(blob + b"\0", models[4])
    assert np.array_equal(decompress_image(blob, models[4]), pixels)


def test_pixels_under_another_header_are_not_taken_for_right(models: dict[int, RasterModel]) -> None:
    """A digest that fits a header of other colours or another size: the checksums of the tiles cover the header too."""
    from rastrum.compression.container import chained, strip_bytes

    black = np.zeros((6, 4, 3), np.uint8)
    blob = compress_image(models[3], black)
    reader = Reader(blob, "file")
    ((_, entries),) = read_strips(reader, header := read_header(reader))
    for change in ({"height": 4, "width": 6}, {"height": 3}, {"ycocg": True}, {"bits": 7}, {"tile": 9}, {"model": "other"}):
        other = replace(header, **change)
        listed = strip_bytes(entries, False)
        with pytest.raises(FileError, match="do not match their checksum"):
            decompress_image(other.bytes + listed + chained(other.bytes, listed), models[3])


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_missing_or_other_model_is_named(models: dict[int, RasterModel]) -> None:
    pixels = smooth(4, 4, 3)
    blob = compress_image(models[3], pixels, name="hf://someone/photo")
    with pytest.raises(FileError, match=r"made by the model hf://someone/photo, weights [0-9a-f]{16}, .* not bundled"):
        decompress_image(blob)
    with pytest.raises(FileError, match=r"a model that it does not name"):
        decompress_image(compress_image(models[3], pixels))
    other = built(3)
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    with pytest.raises(FileError, match=r"hf://someone/photo with weights [0-9a-f]{16}, this model's are"):
        decompress_image(blob, other)
    with pytest.raises(ValueError, match="this image needs an unconditional one of 1 channels"):
        compress_image(models[3], smooth(4, 4, 1))
    conditional = rastrum.build("pixelcnn++", ImageSpec(3, 8, 8), preset="tiny", condition=ConditionSpec("class", 2))
    with pytest.raises(ValueError, match="with a condition; this image needs an unconditional one"):
        compress_image(conditional, pixels)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="does not run in the native interpreter"):
        compress_image(built(3).double(), pixels)


def test_weights_that_change_are_coded_with(models: dict[int, RasterModel]) -> None:
    """A model of a size is kept while the weights stay in their place, and follows them where they change or move."""
    pixels, model = smooth(9, 9, 3), built(3)
    first = compress_image(model, pixels)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    second = compress_image(model, pixels)
    for parameter in model.parameters():
        parameter.data = parameter.data - 0.01
    third = compress_image(model, pixels)
    assert len({first, second, third}) == 3
    assert np.array_equal(decompress_image(third, model), pixels)


def test_weights_are_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For many small files; again, where they change."""
    model, calls, real = built(3), [], identity._digest
    monkeypatch.setattr(identity, "_digest", lambda *arguments: calls.append(1) or real(*arguments))
    for _ in range(3):
        decompress_image(compress_image(model, smooth(4, 4, 3)), model)
    assert len(calls) == 1
    with torch.no_grad():
        next(model.parameters()).add_(0.01)
    assert read_header(Reader(compress_image(model, smooth(4, 4, 3)), "x")).fingerprint == identity.fingerprint_of_weights(model)
    assert len(calls) == 2 and identity.fingerprint_of_weights(built(3)) != identity.fingerprint_of_weights(model)


def test_what_is_no_metadata_and_no_model_is_refused(models: dict[int, RasterModel]) -> None:
    with pytest.raises(ValueError, match="metadata: expected icc and exif, got 'xmp'"):
        compress_image(models[3], smooth(4, 4, 3), metadata={"xmp": b""})
    nothing: Any = "rastrum/photo"
    with pytest.raises(ValueError, match="model: str cannot code images"):
        compress_image(nothing, smooth(4, 4, 3))


def test_bundled_models_are_found_by_their_name() -> None:
    pixels = smooth(5, 6, 3)
    name = "rastrum/pixelcnn-plus-plus-cifar10"
    model = rastrum.load(name)
    assert isinstance(model, RasterModel)
    blob = compress_image(model, pixels, name=name)
    assert np.array_equal(decompress_image(blob), pixels) and b"rastrum/" not in blob


def test_a_file_opens_no_model_but_a_bundled_one(models: dict[int, RasterModel]) -> None:
    """Whatever its text says: other models, paths, models of another kind, and weights that are not those of the name."""
    pixels = smooth(4, 4, 3)
    for name in ("rastrum/none", "rastrum/../../tmp/x", "rastrum/", "/tmp/x", "./x", "rastrum/draw-binarized-mnist",
                 "rastrum/pixelcnn-plus-plus-cifar10", "rastrum/gated-pixelcnn-binarized-mnist"):  # fmt: skip
        with pytest.raises(FileError, match=r"^file: made by "):
            decompress_image(compress_image(models[3], pixels, name=name))


def test_a_header_that_does_not_fit_its_model_is_a_fault_of_the_file() -> None:
    from rastrum.compression.container import chained, strip_bytes

    model = built(1, "gated-pixelcnn")
    blob = compress_image(model, smooth(4, 4, 1))
    reader = Reader(blob, "file")
    ((_, entries),) = read_strips(reader, header := read_header(reader))
    for change, words in (({"channels": 3}, "unconditional one of 3 channels"), ({"bits": 9}, "up to 256 levels, got 512")):
        other = replace(header, **change)
        listed = strip_bytes(entries, False)
        with pytest.raises(FileError, match=rf"^file: .*{words}"):
            decompress_image(other.bytes + listed + chained(other.bytes, listed) + blob[-entries[0].stream :], model)


# ── files of version 1 ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("case", golden_files.CASES)
def test_files_of_version_1_decode(case: str) -> None:
    assert golden_files.is_right(case)


def test_former_weights_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a bundled model is replaced its files decode if its weights were moved as CONTRIBUTING.md says, else they are refused."""
    folder, blob = checkpoint.BUNDLED_FOLDER / "photo", (golden_files.FOLDER / "photo.rastrum").read_bytes()
    monkeypatch.setattr(checkpoint, "BUNDLED_FOLDER", tmp_path)
    with pytest.raises(FileError, match="which this release does not have"):
        decompress_image(blob)
    built(3, "least-squares").save_pretrained(tmp_path / "photo")
    fingerprint = read_header(Reader(blob, "x")).fingerprint.hex()
    with pytest.raises(FileError, match=f"with weights {fingerprint}, this model's are"):
        decompress_image(blob)
    shutil.copytree(folder, tmp_path / "former" / fingerprint)
    _, shape, kind, _ = golden_files.CASES["photo"]
    assert np.array_equal(decompress_image(blob), golden_files.pixels(shape, kind))
    assert checkpoint.bundled() == ["rastrum/photo"]


def test_every_bundled_model_of_photographs_has_a_file() -> None:
    """All that code 8 bits, at any size."""
    coders = set()
    for name in checkpoint.bundled():
        model = rastrum.load(name)
        if isinstance(model, RasterModel) and model.condition_spec is None and model.spec.levels == 256:
            try:
                compress_image(model, np.zeros((3, 2, model.spec.channels), np.uint8))
            except ValueError as error:
                assert "runs on the former only" in str(error)
            else:
                coders.add(name)
    assert coders == {name for name, *_ in golden_files.CASES.values() if name.startswith("rastrum/")}


IN_ANOTHER_PROCESS = """
import sys
sys.path.insert(0, {tests!r})
import golden_files
for case in golden_files.CASES:
    assert golden_files.is_right(case), case
"""


@pytest.mark.parametrize("processor", [("generic", ""), ("sandybridge", "+avx")], ids=["generic", "no fma"])
def test_files_of_version_1_decode_on_other_processors(processor: tuple[str, str]) -> None:
    environment = {**os.environ, "NUMBA_CPU_NAME": processor[0], "NUMBA_CPU_FEATURES": processor[1]}
    script = IN_ANOTHER_PROCESS.format(tests=str(golden_files.FOLDER.parent))
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr


ADAPTIVE = """
import sys
import numpy as np, rastrum
from rastrum.compression import compress_image, decompress_image
model = rastrum.build("least-squares", rastrum.ImageSpec(3, 8, 8), preset="tiny", seed=1).eval()
pixels = np.load(sys.argv[1] + ".npy")
blob = open(sys.argv[1], "rb").read()
assert np.array_equal(decompress_image(blob, model), pixels)
assert compress_image(model, pixels) == blob
"""


@pytest.mark.slow
@pytest.mark.parametrize("processor", [("generic", ""), ("sandybridge", "+avx")], ids=["generic", "no fma"])
def test_predictors_adapt_alike_on_other_processors(processor: tuple[str, str], tmp_path: Path) -> None:
    """For long enough that a last bit somewhere would become another prediction: nine tiles of up to 114x111 pixels."""
    pixels = smooth(310, 300, 3)
    (tmp_path / "x").write_bytes(compress_image(built(3, "least-squares"), pixels))
    np.save(tmp_path / "x.npy", pixels)
    environment = {**os.environ, "NUMBA_CPU_NAME": processor[0], "NUMBA_CPU_FEATURES": processor[1]}
    run = subprocess.run([sys.executable, "-c", ADAPTIVE, str(tmp_path / "x")], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr


def test_the_documented_bytes_are_those_of_a_file() -> None:
    """A reader of docs/format.md alone, without the library: header, lists, chained digests, and where each stream stands."""
    for case, (name, (height, width, channels), kind, options) in golden_files.CASES.items():
        blob = (golden_files.FOLDER / f"{case}.rastrum").read_bytes()
        at = 0

        def take(size: int) -> bytes:
            nonlocal at
            at += size
            return blob[at - size : at]  # noqa: B023

        def number() -> int:
            value, shift = 0, 0
            while (byte := take(1)[0]) > 127:
                value, shift = value | (byte & 127) << shift, shift + 7
            return value | byte << shift

        assert take(4) == b"\x8aRST" and take(2) == b"\1\1"
        flags, bits = take(2)
        assert flags & 1 == (channels > 2) and flags >> 1 & 1 == (channels % 2 == 0) and bits == 8 * np.dtype(kind).itemsize
        assert flags >> 2 & 1 == options.get("ycocg", False) and flags >> 3 & 3 == (3 if "metadata" in options else 0)
        assert flags >> 5 == ("tune" in options)
        h, w, tile, context = (number() for _ in range(4))
        assert (h, w) == (height, width)
        take(8)
        assert take(number()).decode() == options.get("name", "").removeprefix("rastrum/")
        metadata = [take(number()) for flag in (8, 16) if flags & flag]
        assert metadata == list(options.get("metadata", {}).values())
        if flags & 32:
            moved = np.frombuffer(zlib.decompress(take(number()), -15), np.int8)
            few = [parameter for parameter in golden_files.model(name).parameters() if parameter.ndim <= 1]
            assert moved.any() and len(moved) == sum(parameter.numel() for parameter in few)
        before, counts = blob[:at], [max(1, -(-(side - context) // tile)) for side in (h, w)]
        first, total = at, 0
        for _ in range(counts[0] * counts[1]):                            # all within 2^20 pixels: one strip
            total += number() + (number() if flags & 2 else 0)
            take(4)
        assert take(4) == blake2b(before + blob[first : at - 4], digest_size=4).digest()
        assert at + total == len(blob)
