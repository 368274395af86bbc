"""PNG files (ISO/IEC 15948) written band by band, of 8 and 16 bits, grey or RGB, with or without transparency, in bounded memory.

Each row has the filter after which its bytes are smallest in sum, as signed numbers: none, left, up, mean or Paeth.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

KINDS = {1: 0, 2: 4, 3: 2, 4: 6}       # of colour, by the number of channels


def png(
    height: int, width: int, channels: int, bits: int, bands: Iterable[np.ndarray], metadata: Mapping[str, bytes] | None = None
) -> Iterator[bytes]:
    """The parts of a file, one after another.

    height, width: in pixels.
    channels: 1 grey, 2 grey and transparency, 3 RGB, 4 RGB and transparency.
    bits: of a sample, 8 or 16.
    bands: the rows from top to bottom, unsigned integers (rows, width, channels).
    metadata: "icc", a profile, and "exif", with or without its prefix; None (default) for none.
    """
    found = metadata or {}
    yield b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, KINDS[channels], 0, 0, 0))
    if "icc" in found:
        yield _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(found["icc"], 9))
    if "exif" in found:
        yield _chunk(b"eXIf", found["exif"].removeprefix(b"Exif\0\0"))
    stream, above = zlib.compressobj(9), np.zeros((1, width * channels * bits // 8), np.uint8)
    for band in bands:
        rows = np.ascontiguousarray(band, ">u2" if bits == 16 else np.uint8).reshape(len(band), -1).view(np.uint8)
        if content := stream.compress(_filtered(np.concatenate([above, rows]), channels * bits // 8).tobytes()):
            yield _chunk(b"IDAT", content)
        above = rows[-1:]
    yield _chunk(b"IDAT", stream.flush()) + _chunk(b"IEND", b"")


def _filtered(rows: np.ndarray, pixel: int) -> np.ndarray:
    """Rows (n + 1, bytes), the first of them that above, ``pixel`` bytes per pixel → (n, 1 + bytes)."""
    x, up = rows[1:].astype(np.int16), rows[:-1].astype(np.int16)
    left, corner = (np.pad(part, ((0, 0), (pixel, 0)))[:, :-pixel] for part in (x, up))
    distances = np.abs(np.stack([up - corner, left - corner, left + up - 2 * corner]))             # of left, up and corner
    paeth = np.choose(distances.argmin(0), [left, up, corner])
    each = np.stack([x, x - left, x - up, x - (left + up >> 1), x - paeth]).astype(np.uint8)
    best = np.abs(each.view(np.int8).astype(np.int16)).sum(2, dtype=np.int64).argmin(0)
    return np.concatenate([best[:, None].astype(np.uint8), each[best, np.arange(len(x))]], 1)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
