"""Lossless files of photographs and the usual formats: whole-file bits per value, speed and peak memory; all are decoded and compared.

    python benchmarks/lossless.py --set held-out [--model rastrum/photo] [--only NAME …] [--without NAME …] [--cap 120] [--json X.json]
    python benchmarks/lossless.py IMAGES … [--count N] [--halve] …

Sets are of the Hub, read through RASTRUM_HUB_MIRROR if that is set:

    kodak       the 24 pictures of kodak/kodak
    cifar10     300 of CIFAR-10's test images, a fixed random subset
    held-out    50 photographs that rastrum/photo was not trained on: the 5 of debian/photographs' test split, the same halved, and a fixed
                random subset of 40 of berkeley/bsds300's test split, halved

Halving means 2 x 2 pixels, for photographs that were JPEGs, whose blocks mislead a lossless coder. IMAGES are image files, folders of them,
or parquet files as the Hub has them (a column "image" or "img"), all of them or ``--count``, a fixed random subset. The others are encoded
by imagecodecs and oxipng (the extra `bench`) at the effort that the table names. Each image is coded in a process of its own on one thread,
which is ended after ``--cap`` seconds; a coder that fails on an image has no line. Seconds are of the processor, so other programs hardly
count.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import rastrum
from rastrum.compression import compress_image, decompress_image
from rastrum.config import DataOptions
from rastrum.data.photographs import smaller
from rastrum.data.reading import open_image, read_pixels
from rastrum.data.sources import source_of

STATUS = Path("/proc/self/status")
SEED = 0                       # of random subsets


class Part(NamedTuple):
    """Of the test split of a set of the Hub: how many images, None = all, and whether they are halved."""

    repository: str
    count: int | None = None
    halve: bool = False


SETS = {
    "kodak": [Part("kodak/kodak")],
    "cifar10": [Part("uoft-cs/cifar10", 300)],
    "held-out": [Part("debian/photographs"), Part("debian/photographs", halve=True), Part("berkeley/bsds300", 40, halve=True)],
}


class Coder(NamedTuple):
    """encode, decode: pixels (H, W, C) → bytes, and back. prepare: does once for a size what is not to be measured."""

    encode: Callable[[np.ndarray], bytes | bytearray]
    decode: Callable[[Any], np.ndarray]
    prepare: Callable[[tuple[int, ...]], object] = lambda shape: None


def coders(model: str) -> dict[str, Coder]:
    """Every coder by its name, with version and effort."""
    os.environ["RAYON_NUM_THREADS"] = "1"                                 # oxipng's
    import imagecodecs as ic  # pyright: ignore[reportMissingImports]
    import oxipng  # pyright: ignore[reportMissingImports]

    versions: Any = ic.version(dict)  # pyright: ignore[reportArgumentType]

    def jpeg_xl(effort: int) -> Coder:
        return Coder(lambda x: ic.jpegxl_encode(x, lossless=True, effort=effort, numthreads=1), ic.jpegxl_decode)

    found = {
        f"PNG (libpng {versions['libpng']}, level 9)": Coder(lambda x: ic.png_encode(x, level=9), ic.png_decode),
        f"oxipng (pyoxipng {version('pyoxipng')}, level 6)": Coder(
            lambda x: oxipng.optimize_from_memory(bytes(ic.png_encode(x, level=1)), level=6), ic.png_decode
        ),
        f"WebP (libwebp {versions['libwebp']}, method 6)": Coder(
            lambda x: ic.webp_encode(x, lossless=True, level=100, method=6), ic.webp_decode
        ),
        f"JPEG 2000 (openjpeg {versions['openjpeg']})": Coder(
            lambda x: ic.jpeg2k_encode(x, level=0, reversible=True, numthreads=1), ic.jpeg2k_decode
        ),
        f"AVIF (libavif {versions['libavif']}, speed 4)": Coder(
            lambda x: ic.avif_encode(x, level=100, speed=4, pixelformat="444", numthreads=1), ic.avif_decode
        ),
        f"JPEG XL e7 (libjxl {versions['libjxl']})": jpeg_xl(7),
        f"JPEG XL e9 (libjxl {versions['libjxl']})": jpeg_xl(9),
    }

    @cache
    def network() -> Any:
        return rastrum.load(model)

    def ours(pixels: np.ndarray) -> bytes:
        return compress_image(network(), pixels, name=model, progress=False)

    found[f"Rastrum {rastrum.__version__} ({model})"] = Coder(
        ours, lambda data: decompress_image(data, network(), progress=False), lambda shape: ours(np.zeros(shape, np.uint8))
    )
    return found


def of_set(name: str) -> Iterator[np.ndarray]:
    """The images of a named set, (H, W, C)."""
    for part in SETS[name]:
        images = source_of(f"hub:{part.repository}", "test", DataOptions(stream=False)).images
        for image in subset([np.asarray(opened()) for _, opened in images], part.count):
            yield smaller(image) if part.halve else image


def subset(images: Sequence[Any], count: int | None) -> Sequence[Any]:
    """So many of the images at random, always the same, or all."""
    return images if count is None else random.Random(SEED).sample(images, min(count, len(images)))


def images(paths: list[Path]) -> Iterator[Callable[[], np.ndarray]]:
    """What reads each image, (H, W, C)."""
    for path in paths:
        if path.is_dir():
            yield from images(sorted(path.iterdir()))
        elif path.suffix == ".parquet":
            import pyarrow.parquet as pq

            table = pq.read_table(path)
            column = next(name for name in table.column_names if name in ("image", "img"))
            for row in range(len(table)):
                yield lambda row=row, of=table[column]: pixels_of(io.BytesIO(of[row].as_py()["bytes"]))
        else:
            yield lambda path=path: pixels_of(path)


def pixels_of(file: Path | io.BytesIO) -> np.ndarray:
    """An image as its file has it."""
    return read_pixels(str(file), lambda: open_image(file)).values


def memory(field: str) -> int:
    """Bytes that the system says this process has: VmRSS now, VmHWM at most since the peak was reset."""
    return 1024 * int(next(line.split()[1] for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(field)))


def measure(coder: Coder, pixels: np.ndarray, cap: int, pipe: Any) -> None:
    """Sends the bytes of the file, seconds to encode and to decode, and the memory that each took at most; ends after ``cap`` seconds."""
    resource.setrlimit(resource.RLIMIT_CPU, (cap, cap))

    def measured(step: Callable[[Any], Any], given: Any) -> tuple[Any, float, int]:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts anew
        before, started = memory("VmRSS"), time.process_time()
        return step(given), time.process_time() - started, memory("VmHWM") - before

    data, *encoding = measured(coder.encode, pixels)
    again, *decoding = measured(coder.decode, data)
    again = np.asarray(again).reshape(*pixels.shape[:2], -1)             # one channel where oxipng found that the colours are grey
    assert (again == pixels).all(), "other pixels came back"
    pipe.send((len(data), *encoding, *decoding))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGES", help="image files, folders, parquet files")
    parser.add_argument("--set", choices=SETS, help="a named set in place of IMAGES")
    parser.add_argument("--model", default="rastrum/photo", help="of the images' colours")
    parser.add_argument("--count", type=int, help="a fixed random subset of this many images; default: all")
    parser.add_argument("--halve", action="store_true", help="average 2 x 2 pixels first")
    parser.add_argument("--only", nargs="*", default=[""], metavar="NAME", help="coders whose names begin so; default: all")
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="leave out coders whose names begin so")
    parser.add_argument("--cap", type=int, default=120, help="seconds that an image may take to encode and decode")
    parser.add_argument("--json", type=Path, metavar="X.json", help="write what was measured of each image here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if bool(options.images) == bool(options.set):
        parser.error("expected IMAGES or --set, one of them")
    if options.set:
        pictures = list(of_set(options.set))
    else:
        pictures = [smaller(read()) if options.halve else read() for read in subset(list(images(options.images)), options.count)]
    print(f"{len(pictures)} images, {sum(x.size for x in pictures) / 1e6:.2f} million values, one thread; means over all values")
    print("| coder | bits per value | encode, megapixels/s | decode, megapixels/s | peak memory, MB: encode, decode |")
    print("|---|---|---|---|---|")
    forked, records = multiprocessing.get_context("fork"), {}
    for name, coder in coders(options.model).items():
        if name.startswith(tuple(options.without)) or not name.startswith(tuple(options.only)):
            continue
        for shape in {x.shape for x in pictures}:
            coder.prepare(shape)
        rows = []
        for pixels in pictures:
            here, there = forked.Pipe(False)
            process = forked.Process(target=measure, args=(coder, pixels, options.cap, there))
            process.start()
            there.close()
            try:
                rows.append(here.recv())
            except EOFError:
                rows.append(None)
                print(f"{name}: no result within {options.cap} s", file=sys.stderr)
                break
            finally:
                process.join()
        records[name] = rows
        if None in rows or not rows:
            continue
        size, encoding, encode_memory, decoding, decode_memory = np.array(rows, float).T
        megapixels, values = sum(x.shape[0] * x.shape[1] for x in pictures) / 1e6, sum(x.size for x in pictures)
        speeds = f"{megapixels / encoding.sum():.3g} | {megapixels / decoding.sum():.3g}"
        peaks = f"{encode_memory.max() / 1e6:.0f}, {decode_memory.max() / 1e6:.0f}"
        print(f"| {name} | {8 * size.sum() / values:.3f} | {speeds} | {peaks} |", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(records), encoding="utf-8")


if __name__ == "__main__":
    main()
