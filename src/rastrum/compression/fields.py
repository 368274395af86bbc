"""The fields of files: numbers that take few bytes, digests, and a reader that refuses what is truncated."""

from __future__ import annotations

import zlib
from hashlib import blake2b
from io import BytesIO
from typing import BinaryIO

RAW = -15                      # for zlib: without its own header and checksum
CHUNK = 1 << 20                # bytes that are asked for at a time: a length that a file only claims takes no memory


class FileError(ValueError):
    """A file that is truncated, changed, or made by another model or another arithmetic."""


def digest(size: int, *parts: bytes) -> bytes:
    """Of bytes, one part after another.

    size: bytes of the digest.
    parts: what it is of.
    """
    state = blake2b(digest_size=size)
    for part in parts:
        state.update(part)
    return state.digest()


def varint(number: int) -> bytes:
    """Seven bits per byte, lowest first; the top bit is set in all but the last.

    number: at least 0.
    """
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def deflate(data: bytes) -> bytes:
    """One raw deflate stream (RFC 1951).

    data: any.
    """
    return zlib.compress(data, 9, RAW)


def inflate(stream: bytes, size: int) -> bytes | None:
    """The inverse of ``deflate``, which makes no more than there is to be; None for bytes of anything else.

    stream: the bytes.
    size: of what they stand for.
    """
    inflated = zlib.decompressobj(RAW)
    try:
        found = inflated.decompress(stream, size + 1)
    except zlib.error:
        return None
    return found if len(found) == size and inflated.eof and not inflated.unused_data else None


class Reader:
    """Reads fields one after another.

    source: the bytes, or a file that can be read at any position.
    what: how messages begin.

    Further attributes: ``size``, bytes in all; ``position``, of the next byte.
    """

    def __init__(self, source: bytes | BinaryIO, what: str) -> None:
        self.stream = BytesIO(source) if isinstance(source, bytes) else source
        self.what, self.size = what, self.stream.seek(0, 2)
        self.seek(0)

    def seek(self, position: int) -> None:
        """Go on at another position, from 0."""
        self.position = self.stream.seek(position)

    def up_to(self, size: int) -> bytes:
        """The next bytes, fewer where the file ends before.

        size: how many.
        """
        parts = []
        while size > 0 and (part := self.stream.read(min(size, CHUNK))):
            parts.append(part)
            size -= len(part)
            self.position += len(part)
        return b"".join(parts)

    def take(self, size: int) -> bytes:
        """The next bytes. Raises ``FileError`` where the file ends before.

        size: how many.
        """
        found = self.up_to(size)
        if len(found) < size:
            raise FileError(f"{self.what}: {self.size} bytes are too few, it is truncated")
        return found

    def byte(self) -> int:
        """The next byte. Raises ``FileError`` at the end."""
        return self.take(1)[0]

    def varint(self) -> int:
        """A number below 2^35. Raises ``FileError`` for a larger one, and for more bytes than it needs."""
        number = shift = 0
        while shift < 35:
            byte = self.byte()
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                if byte == 0 and shift > 7:
                    break
                return number
        raise FileError(f"{self.what}: its header holds a number that is too large, or written with more bytes than it needs")
