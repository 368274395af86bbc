"""A fuzzer of image files and blobs: whatever bytes come, the right pixels or a ``FileError``, in little memory.

    python tests/fuzz_files.py [SECONDS] [SEED]          prints how many mutations of each kind it tried

Mutations flip, replace, insert, remove, repeat and cut bytes, write extreme numbers, and join parts of two files; half of them get digests
that fit again, so that they reach what lies behind. An image file is right if its pixels are those of the file that it was made from, or
if header and checksums were all made to fit, which no mutation here does. Memory is that which numpy and Python allocate (tracemalloc).
"""

from __future__ import annotations

import random
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable

import golden_files
import numpy as np

import rastrum
from rastrum.compression import Decoding, FileError
from rastrum.compression.container import chained, read_header
from rastrum.compression.fields import Reader, digest

MEMORY = 64 << 20              # bytes that any of these small files may take, at most
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
            out[at : at + len(extreme)] = extreme
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


def targets() -> list[tuple[str, bytes, Callable[[bytes], bytes], Callable[[bytes], None]]]:
    """Name, bytes, how digests are repaired, and what has to hold of a mutation: ``AssertionError`` otherwise."""
    found = []
    for case, (name, shape, kind, _) in golden_files.CASES.items():
        model, pixels = golden_files.model(name), golden_files.pixels(shape, kind)

        def check_file(data: bytes, model=model, pixels=pixels) -> None:
            decoding = Decoding(data, model)
            assert np.array_equal(np.concatenate(list(decoding.bands())), pixels), "other pixels were taken for right"

        def check_salvage(data: bytes, model=model, pixels=pixels) -> None:
            decoding = Decoding(data, model, salvage=True)
            image = np.concatenate(list(decoding.bands()))
            right = np.ones(image.shape[:2], np.bool_)
            for region in decoding.damaged():
                right[region.top : region.bottom, region.left : region.right] = False
            same = image.shape == pixels.shape and np.array_equal(image[right], pixels[right])
            assert same or not right.any(), "other pixels were taken for right"

        blob = (golden_files.FOLDER / f"{case}.rastrum").read_bytes()
        found += [(f"{case}, {check.__name__}", blob, repaired_file, check) for check in (check_file, check_salvage)]
    model = golden_files.model("plus plus")
    images = rastrum.sample(model, 3, seed=1)
    for name, some in (("three images", images), ("no image", images[:0]), ("black images", images[:2] * 0)):

        def check_blob(data: bytes, some=some) -> None:
            decoded = rastrum.decompress(model, data)
            assert decoded.shape == some.shape and bool((decoded == some).all()), "other images were taken for right"

        found.append((f"blob, {name}", rastrum.compress(model, some), repaired_blob, check_blob))
    return found


def fuzz(seconds: float, seed: int, most: int | None = None) -> Counter[str]:
    """Try mutations for a while. Returns how many of them ended how.

    seconds: how long.
    seed: of the mutations.
    most: mutations, at most; None (default) for no limit.
    """
    chance, counts, end = random.Random(seed), Counter(), time.monotonic() + seconds
    every = targets()
    for _, data, _, check in every:
        check(data)
    while time.monotonic() < end and (most is None or counts.total() < most):
        name, data, repair, check = chance.choice(every)
        changed = mutated(data, chance.choice(every)[1], chance)
        changed = repair(changed) if chance.random() < 0.5 else changed
        tracemalloc.start()
        try:
            check(changed)
            counts["right"] += 1
        except FileError:
            counts["refused"] += 1
        except BaseException:
            print(f"{name}: {changed.hex()}", file=sys.stderr)
            raise
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < MEMORY, f"{name}: {changed.hex()} took {peak} bytes"
    return counts


if __name__ == "__main__":
    seconds, seed = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0, int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 2**32
    print(f"seed {seed}", dict(fuzz(seconds, seed)))
