"""A fuzzer of image files and blobs: whatever bytes come, the right pixels or a ``FileError``, in little memory.

    python tests/fuzz_files.py [SECONDS] [SEED] [MOST]        prints how many mutations ended how, and how many of them became seeds

Mutations flip, replace, insert, remove, repeat and cut bytes, write extreme numbers, and join parts of two files; half of them get digests
that fit again, so that they reach what lies behind. A few are crafted: lists and digests that fit a header of other sizes, as large as
their bytes can claim, whose streams are empty. Some are watched: one that makes the readers go from one line to another as none did
before, or more often, is a seed of further mutations. A file is right if its header and its pixels are those of a file that was made here;
others are only found where header and checksums were all made to fit, which no mutation here does. While it is read the system refuses
this process more than its ``memory`` beyond what it has, whoever asks: numpy, torch, zlib or Python.

The models do not change here, so their fingerprints and programs are computed once for each size of window.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import golden_files
import golden_pictures
import numpy as np

import rastrum
from rastrum import ImageSpec, RasterModel, range_coder
from rastrum.compression import Decoding, FileError, compress_pictures, decompress_pictures, fields, photographs, progressive, tiles
from rastrum.compression.container import Entry, chained, least_size, read_header, strip_bytes
from rastrum.compression.fields import Reader, digest

MEMORY = 64 << 20              # bytes that any of these small files may take, at most,
WIDE, WINDOW = "rastrum/pixelcnn-plus-plus-cifar10", 448 << 20        # and those of this model a window of the largest tile: 320x320 pixels
CRAFTED, CHANCE = 1 << 14, 0.001      # bytes of a file that claims many pixels, at most; and how often there is one
WATCHED = 0.1                  # of the mutations
PIXELS = 1 << 12               # of a progressive file's images, at most
SIZES = 500                    # of windows for which programs are kept
SHAPE = (8, 7)                 # pixels: 3 x 2 tiles
SMALL = {"STRIP": 42, "VALUES": 1 << 16, "MEMORY": 1 << 18}    # of ``tiles``: two strips; large windows one by one
TILES: dict[str, Any] = {"tile": 3, "context": 1}
MORE: dict[str, Any] = {                                    # as ``golden_files.CASES``
    "adaptive": ("least squares 3", (*SHAPE, 3), np.uint8, {}),
    "deep adaptive": ("least squares 1", (*SHAPE, 1), np.uint16, {}),
}
STATM = Path("/proc/self/statm")
EXTREMES = (b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x10", b"\xff" * 8, b"\x81\0")


def mutated(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """One to four mutations of ``data``; ``other``: a file to join it with."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(out) + 1) if chance.random() < 0.5 else chance.randrange(min(len(out), 60) + 1)
        size = chance.choice((1, 1, 2, 4, 16))
        kind = chance.randrange(7)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            out[at : at + size] = chance.randbytes(size)
        elif kind == 2:
            out[at:at] = chance.randbytes(size)
        elif kind == 3:
            del out[at : at + size]
        elif kind == 4:
            extreme = chance.choice(EXTREMES)
            out[at : at + chance.choice((1, len(extreme)))] = extreme
        elif kind == 5:
            out = out[:at] + other[chance.randrange(len(other)) :] if chance.random() < 0.5 else out[:at]
        else:
            out[at:at] = out[at : at + size]
    return bytes(out)


def repaired_file(data: bytes) -> bytes:
    """The file with digests of its lists that fit, as far as it can be read."""
    try:
        reader = Reader(data, "file")
        header = _header(reader)
        before, out = header.bytes, bytearray(data)
        reader.seek(len(before))
        for strip in header.tiling.strips():
            start, total = reader.position, 0
            for _ in header.tiling.tiles(strip):
                total += reader.varint() + (reader.varint() if header.alpha else 0)
                reader.take(4)
            before = chained(before, data[start : reader.position])
            out[reader.position : reader.position + 4] = before
            reader.seek(reader.position + 4 + total)
        return bytes(out)
    except FileError:
        return data


def crafted(data: bytes, chance: random.Random) -> bytes:
    """A file of at most ``CRAFTED`` bytes that claims many pixels, of the model and kind of ``data``."""
    header = read_header(Reader(data, "file"))
    while True:
        sizes = {"height": 1 << chance.randrange(20), "width": 1 << chance.randrange(20), "tile": chance.choice((1, 16, 64, 128, 256))}
        claimed = replace(header, **sizes, context=chance.choice((0, 1, 16, 64)))
        if least_size(claimed) < CRAFTED and claimed.pixels > CRAFTED:
            break
    out = [before := claimed.bytes]
    for strip in claimed.tiling.strips():
        listed = strip_bytes([Entry(0, 0, chance.randbytes(4)) for _ in claimed.tiling.tiles(strip)], claimed.alpha)
        before = chained(before, listed)
        out += [listed, before]
    return b"".join(out)


def _header(reader: Reader):
    """The header, whatever digest follows."""
    from rastrum.compression import container

    real = container.read_strips
    try:
        container.read_strips = lambda reader, header: iter([None])  # pyright: ignore[reportAttributeAccessIssue]
        return read_header(reader)
    finally:
        container.read_strips = real


def repaired_blob(data: bytes) -> bytes:
    """The blob with a digest that fits."""
    return data[:6] + digest(8, data[:6] + data[14:]) + data[14:] if len(data) > 14 else data


class Target(NamedTuple):
    """What is read.

    name: for messages.
    data: bytes that are right.
    repair: makes digests fit.
    check: reads bytes; ``FileError`` where they are refused, ``AssertionError`` where other pixels are taken for right.
    memory: bytes that reading may take, at most.
    """

    name: str
    data: bytes
    repair: Callable[[bytes], bytes]
    check: Callable[[bytes], None]
    memory: int = MEMORY


def raster(model: object) -> RasterModel:
    """A raster model as it is used."""
    assert isinstance(model, RasterModel)
    return model.eval()


def targets() -> list[Target]:
    """Files of all kinds that the golden ones are of, whole and salvaged, with few pixels in several tiles, of one whose model its name
    finds, and of models that adapt; and blobs."""
    found: list[Target] = []
    models: dict[str, RasterModel] = {name: golden_files.model(name) for name, *_ in golden_files.CASES.values()}
    for channels in (1, 3):
        models[f"least squares {channels}"] = raster(rastrum.build("least-squares", ImageSpec(channels, 8, 8), preset="tiny", seed=1))
    written: dict[str, list[tuple[Any, np.ndarray]]] = {name: [] for name in models}
    for case, (name, shape, kind, options) in (golden_files.CASES | MORE).items():
        pixels = golden_files.pixels((*SHAPE, shape[2]), kind)
        blob = photographs.compress_image(models[name], pixels, **options | TILES)
        written[name].append((read_header(Reader(blob, "file")), pixels))

        def check_file(data: bytes, name=name, salvage=False) -> None:
            decoding = Decoding(data, None if name.startswith("rastrum/") else models[name], salvage)
            if not any(header == decoding.header for header, _ in written[name]):
                for _ in decoding.bands():
                    pass
                assert decoding.lost.all(), "other pixels were taken for right"
                return
            image = np.concatenate(list(decoding.bands()))
            right = np.ones(image.shape[:2], np.bool_)
            for region in decoding.damaged():
                right[region.top : region.bottom, region.left : region.right] = False
            theirs = [pixels for header, pixels in written[name] if header == decoding.header]
            same = len(theirs) == 1 and np.array_equal(image[right], theirs[0][right])
            assert same or not right.any(), "other pixels were taken for right"

        def check_salvage(data: bytes, check_file=check_file) -> None:
            check_file(data, salvage=True)

        memory = MEMORY + (WINDOW if name == WIDE else 0)
        found += [Target(f"{case}, {check.__name__}", blob, repaired_file, check, memory) for check in (check_file, check_salvage)]
    by_torch = raster(rastrum.build("gated-pixelcnn", ImageSpec(1, 3, 3), preset="tiny", seed=1)).double()
    for kind, model in (("native", models["plus plus"]), ("torch", by_torch)):
        images = rastrum.sample(model, 3, seed=1)
        parts = {"three images": images, "no image": images[:0], "black images": images[:2] * 0}

        def check_blob(data: bytes, model=model, parts=parts) -> None:
            decoded = rastrum.decompress(model, data)
            right = any(decoded.shape == part.shape and bool((decoded == part).all()) for part in parts.values())
            assert right, "other images were taken for right"

        found += [Target(f"{kind} blob, {name}", rastrum.compress(model, part), repaired_blob, check_blob) for name, part in parts.items()]
    return found + [progressive_target(case, lossless) for case in golden_pictures.CASES for lossless in (False, True)]


def progressive_target(case: str, lossless: bool) -> Target:
    """A progressive file. Whether pictures are right is not asked: cut behind a check they may not be, and one check in 65,536 fits."""
    model, images = golden_pictures.model(case), golden_pictures.images(case)

    def check(data: bytes) -> None:
        header = progressive.read_header(Reader(data, "file"))
        if header.count * header.height * header.width > PIXELS:          # a file that may be cut does not say by its size that it is small
            raise FileError("file: larger than any here")
        decompress_pictures(data, model)

    return Target(f"progressive, {case}", compress_pictures(model, images, seed=3, lossless=lossless).data, repaired_progressive, check)


def repaired_progressive(data: bytes) -> bytes:
    """The file with a digest of its header that fits, as far as it can be read."""
    reader = Reader(data, "file")
    with suppress(FileError):
        progressive.read_header(reader)
    at = reader.position
    return data[: at - 2] + digest(2, data[: at - 2]) + data[at:] if at > 8 else data


@contextmanager
def constant_models() -> Iterator[None]:
    """Meanwhile models do not change: what depends on them alone is computed once. And strips and batches are small."""
    before = photographs._coder, photographs.fingerprint_of_weights, photographs.load, RasterModel.lowered
    sizes, (coder, fingerprint, load, lowered) = {name: getattr(tiles, name) for name in SMALL}, before
    known: dict[Any, Any] = {}

    def coder_once(model, header):
        key = model, header.tiling.rows.length, header.tiling.columns.length, header.bits, header.colours
        if key not in known:
            if len(known) == SIZES:
                known.clear()
            known[key] = coder(model, header)
        return known[key]

    photographs._coder, photographs.fingerprint_of_weights, photographs.load = coder_once, cache(fingerprint), cache(load)
    RasterModel.lowered = cache(lowered)
    tiles.__dict__.update(SMALL)
    try:
        yield
    finally:
        photographs._coder, photographs.fingerprint_of_weights, photographs.load, RasterModel.lowered = before
        tiles.__dict__.update(sizes)


@contextmanager
def little_memory(memory: int = MEMORY) -> Iterator[None]:
    """Meanwhile the system gives this process at most so many bytes beyond what it has, some of it free; whoever asks for more fails."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    has = int(STATM.read_bytes().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + memory, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class Watch:
    """Which ways through the code that reads files were taken: from line to line of a function, how often, in powers of two."""

    FILES = frozenset({range_coder.__file__, *map(str, Path(fields.__file__).parent.glob("*.py"))})

    def __init__(self) -> None:
        self.known: set[tuple[Any, ...]] = set()
        self.taken: Counter[tuple[Any, ...]] = Counter()

    def calls(self, frame: FrameType, event: str, argument: Any) -> Any:
        code, before = frame.f_code, 0
        if code.co_filename not in self.FILES:
            return None

        def lines(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal before
            line = frame.f_lineno if event == "line" else event
            self.taken[code, before, line] += 1
            before = line
            return lines

        return lines

    def __enter__(self) -> None:
        self.taken.clear()
        sys.settrace(self.calls)

    def __exit__(self, *error: object) -> None:
        sys.settrace(None)

    def news(self) -> bool:
        """Whether what was last watched took a way that was not known, which it is from now on."""
        ways = {(*way, count.bit_length()) for way, count in self.taken.items()}
        before = len(self.known)
        self.known |= ways
        return len(self.known) > before


def fuzz(seconds: float, seed: int, most: int | None = None, watched: float = WATCHED) -> Counter[str]:
    """Try mutations for a while. Returns how many of them ended how, and how many seeds there are.

    seconds: how long.
    seed: of the mutations.
    most: mutations, at most; None (default) for no limit.
    watched: the share of them that may become seeds.
    """
    chance, counts, watch = random.Random(seed), Counter({"refused": 0, "right": 0}), Watch()
    with constant_models():
        every = targets()
        seeds = [[target.data] for target in every]
        for target in every:
            target.check(target.data)
            with watch:
                target.check(target.data)
            watch.news()
        end = time.monotonic() + seconds
        while time.monotonic() < end and (most is None or counts.total() < most):
            place = chance.randrange(len(every))
            target, other = every[place], chance.choice(seeds[chance.randrange(len(every))])
            data = mutated(target.data if chance.random() < 0.5 else chance.choice(seeds[place]), other, chance)
            data = target.repair(data) if chance.random() < 0.5 else data
            if target.repair is repaired_file and chance.random() < CHANCE:
                data = crafted(target.data, chance)
            with_watch = chance.random() < watched
            try:
                with little_memory(target.memory), watch if with_watch else nullcontext():
                    target.check(data)
                counts["right"] += 1
            except FileError:
                counts["refused"] += 1
            except BaseException:
                print(f"{target.name}: {data.hex()}", file=sys.stderr)
                raise
            if with_watch and watch.news() and data:
                seeds[place].append(data)
    counts["seeds"] = sum(map(len, seeds))
    return counts


if __name__ == "__main__":
    given = dict(zip(("seconds", "seed", "most"), sys.argv[1:], strict=False))
    seconds, seed = float(given.get("seconds", 30)), int(given.get("seed", time.time_ns() % 2**32))
    print(f"seed {seed}", dict(fuzz(seconds, seed, int(given["most"]) if "most" in given else None)))
