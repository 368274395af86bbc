"""Lossless files of photographs and the usual formats: whole-file bits per value, speed and peak memory; all are decoded and compared.

    python benchmarks/lossless.py IMAGES … [--model rastrum/photo] [--count N] [--halve] [--without NAME …] [--cap 120] [--json X.json]

IMAGES are image files, folders of them, or parquet files as the Hub has them (a column "image" or "img"). A fixed random subset of
``--count`` of them is taken; ``--halve`` averages 2 x 2 pixels first, for photographs that were JPEGs, whose blocks mislead a lossless
coder. The others are encoded by imagecodecs (the extra `bench`) at the effort that the table names, oxipng where it is on the path. Each
image is coded in a process of its own on one thread, which is ended after ``--cap`` seconds; a coder that fails on an image has no line.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

import rastrum
from rastrum.compression import compress_image, decompress_image
from rastrum.data.reading import open_image, read_pixels

STATUS = Path("/proc/self/status")


class Coder(NamedTuple):
    """encode, decode: pixels (H, W, C) → bytes, and back."""

    encode: Callable[[np.ndarray], bytes | bytearray]
    decode: Callable[[Any], np.ndarray]


def coders(model: str) -> dict[str, Coder]:
    """Every coder by its name, with version and effort."""
    import imagecodecs as ic  # pyright: ignore[reportMissingImports]

    versions: Any = ic.version(dict)  # pyright: ignore[reportArgumentType]

    def oxipng(pixels: np.ndarray) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.png"
            path.write_bytes(ic.png_encode(pixels, level=1))
            subprocess.run(["oxipng", "-q", "-o", "max", str(path)], check=True)
            return path.read_bytes()

    def jpeg_xl(effort: int) -> Coder:
        return Coder(lambda x: ic.jpegxl_encode(x, lossless=True, effort=effort, numthreads=1), ic.jpegxl_decode)

    found = {
        f"PNG (libpng {versions['libpng']}, level 9)": Coder(lambda x: ic.png_encode(x, level=9), ic.png_decode),
        "oxipng -o max": Coder(oxipng, ic.png_decode),
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
    if shutil.which("oxipng") is None:
        del found["oxipng -o max"]
        print("oxipng is not on the path", file=sys.stderr)
    network: Any = rastrum.load(model)
    found[f"Rastrum {rastrum.__version__} ({model})"] = Coder(
        lambda x: compress_image(network, x, name=model, progress=False), lambda data: decompress_image(data, network, progress=False)
    )
    return found


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


def halved(pixels: np.ndarray) -> np.ndarray:
    """The mean of every 2 x 2 pixels."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    return np.asarray(Image.fromarray(pixels.squeeze()).resize((width, height), Image.Resampling.BOX)).reshape(height, width, -1)


def memory(field: str) -> int:
    """Bytes that the system says this process has: VmRSS now, VmHWM at most since the peak was reset."""
    return 1024 * int(next(line.split()[1] for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(field)))


def measure(coder: Coder, pixels: np.ndarray, pipe: Any) -> None:
    """Sends the bytes of the file, seconds to encode and to decode, and the memory that each took at most."""

    def measured(step: Callable[[Any], Any], given: Any) -> tuple[Any, float, int]:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts anew
        before, started = memory("VmRSS"), time.perf_counter()
        return step(given), time.perf_counter() - started, memory("VmHWM") - before

    data, *encoding = measured(coder.encode, pixels)
    again, *decoding = measured(coder.decode, data)
    assert np.array_equal(np.asarray(again).reshape(pixels.shape), pixels), "other pixels came back"
    pipe.send((len(data), *encoding, *decoding))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGES", help="image files, folders, parquet files")
    parser.add_argument("--model", default="rastrum/photo", help="of the images' colours")
    parser.add_argument("--count", type=int, help="a fixed random subset of this many images; default: all")
    parser.add_argument("--halve", action="store_true", help="average 2 x 2 pixels first")
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="leave out coders whose names begin so")
    parser.add_argument("--cap", type=float, default=120, help="seconds that an image may take to encode and decode")
    parser.add_argument("--json", type=Path, metavar="X.json", help="write what was measured of each image here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = list(images(options.images))
    if options.count is not None:
        chosen = random.Random(0).sample(chosen, min(options.count, len(chosen)))
    pictures = [halved(read()) if options.halve else read() for read in chosen]
    print(f"{len(pictures)} images, {sum(x.size for x in pictures) / 1e6:.2f} million values, one thread; means over all values")
    print("| coder | bits per value | encode, megapixels/s | decode, megapixels/s | peak memory, MB: encode, decode |")
    print("|---|---|---|---|---|")
    forked, records = multiprocessing.get_context("fork"), {}
    for name, coder in coders(options.model).items():
        if name.startswith(tuple(options.without)):
            continue
        for shape in {x.shape for x in pictures}:                         # what is made once for a size is made before the clock runs
            coder.encode(np.zeros(shape, np.uint8))
        rows = []
        for pixels in pictures:
            here, there = forked.Pipe(False)
            process = forked.Process(target=measure, args=(coder, pixels, there))
            process.start()
            there.close()
            try:
                rows.append(here.recv() if here.poll(options.cap) else None)
            except EOFError:
                rows.append(None)
            if rows[-1] is None:
                process.kill()
                print(f"{name}: no result within {options.cap:g} s", file=sys.stderr)
                break
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
