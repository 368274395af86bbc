"""The bytes of a progressive file, versions 1 and 2: a header, and one stream that may be cut at any byte; docs/format.md has them all.

    header     what the images are, how many steps of which model; the length of the stream
    stream     of one range coder: the latents of step after step, of all images; then, if it is lossless, all values of the images;
               checks among them

A check is a symbol of 16 bits: a digest of the header and of all symbols before it. It follows whatever the stream says in one go, once
``CHECK_EVERY`` bytes have come since the last check, and ends the latents and the values. So a small file has one, a large one many.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np

from ..range_coder import CDF_TOTAL, Decoder, Encoder
from .container import MAX_NAME
from .fields import FileError, Reader, digest, varint

MAGIC = b"\x8aRC"
LOSSLESS, NAMED, SEVERAL, SEEDED = (1 << bit for bit in range(4))
GREY = 1                       # of the flags of version 2
CHECK_EVERY = 256              # bytes
CHECK_COUNTS = CDF_TOTAL >> 16
IDENTITY, HEADER_CHECK = 2, 2  # bytes; another model's symbols do not fit the checks either
MAX_PIXELS = 1 << 31           # of all images together
MAX_NUMBER = (1 << 35) - 1     # of a varint


@dataclass(frozen=True)
class Header:
    """What a progressive file says of its images.

    height, width: in pixels.
    count: of images.
    lossless: whether the values of the images follow.
    seed: of the dither.
    identity: a digest of model, levels and condition.
    model: where to find the model, as in image files, or "".
    steps: of the model whose latents the file holds when it is whole; 0 by default.
    length: bytes of the stream when it is whole; 0 by default.
    grey: whether the images have one channel and the model several; False by default.
    """

    height: int
    width: int
    count: int
    lossless: bool
    seed: int
    identity: bytes
    model: str
    steps: int = 0
    length: int = 0
    grey: bool = False

    @cached_property
    def about(self) -> bytes:
        """The header as it is written, without what is known at the end: steps and length."""
        flags = self.lossless * LOSSLESS | bool(self.model) * NAMED | (self.count != 1) * SEVERAL | (self.seed != 0) * SEEDED
        name = self.model.removeprefix("rastrum/").encode()
        parts = [varint(self.height), varint(self.width), varint(self.count) if flags & SEVERAL else b""]
        parts += [varint(self.seed) if flags & SEEDED else b"", self.identity, varint(len(name)) + name if flags & NAMED else b""]
        return MAGIC + bytes([2 << 4 | flags, GREY] if self.grey else [1 << 4 | flags]) + b"".join(parts)

    @cached_property
    def bytes(self) -> bytes:
        """The header as it is written."""
        before = self.about + varint(self.steps) + varint(self.length)
        return before + digest(HEADER_CHECK, before)


def read_header(reader: Reader) -> Header:
    """The header of a progressive file.

    reader: of the file, which may be cut behind the header.

    Raises ``FileError`` for another file, another version, and values that no header has.
    """
    what = reader.what
    reader.seek(0)
    if (magic := reader.up_to(len(MAGIC))) != MAGIC:
        raise FileError(f"{what}: expected to begin with {MAGIC!r}, got {magic!r}: not made by rastrum compress --lossy")
    version, flags = divmod(reader.byte(), 16)
    if version not in (1, 2):
        raise FileError(f"{what}: version {version}, this release reads versions 1 and 2")
    more = reader.byte() if version == 2 else 0
    height, width = reader.varint(), reader.varint()
    count = reader.varint() if flags & SEVERAL else 1
    seed = reader.varint() if flags & SEEDED else 0
    identity, name = reader.take(IDENTITY), ""
    if flags & NAMED:
        if (length := reader.varint()) > MAX_NAME:
            raise FileError(f"{what}: the name of its model has {length} bytes, at most {MAX_NAME} are possible")
        try:
            name = reader.take(length).decode()
        except UnicodeError:
            raise FileError(f"{what}: the name of its model is not UTF-8") from None
    model = f"rastrum/{name}" if name and "/" not in name else name
    steps, length = reader.varint(), reader.varint()
    header = Header(height, width, count, bool(flags & LOSSLESS), seed, identity, model, steps, length, bool(more & GREY))
    found, end = reader.take(HEADER_CHECK), reader.position
    if found != header.bytes[-HEADER_CHECK:]:
        raise FileError(f"{what}: the digest of its header does not match, it is changed")
    reader.seek(0)
    if reader.up_to(end) != header.bytes or not 1 <= height * width * count <= MAX_PIXELS:
        raise FileError(f"{what}: its header is not as rastrum writes it")
    if reader.size > end + header.length:
        raise FileError(f"{what}: has {reader.size} bytes, expected at most {end + header.length}; something was appended")
    return header


class _Checked:
    """What both ends know: the symbols so far, and how many bytes have come since the last check."""

    def __init__(self, about: bytes) -> None:
        self._state, self._checked = blake2b(about, digest_size=2), 0

    def _due(self, symbols: np.ndarray, bytes_so_far: int, force: bool) -> int | None:
        """The check that follows, if one does."""
        self._state.update(np.ascontiguousarray(symbols, "<i8").tobytes())
        if not force and bytes_so_far - self._checked < CHECK_EVERY:
            return None
        self._checked = bytes_so_far
        return int.from_bytes(self._state.digest(), "little")


class Writer(_Checked):
    """The stream being written.

    about: of the header.
    """

    def __init__(self, about: bytes) -> None:
        super().__init__(about)
        self.encoder = Encoder()

    def check(self, symbols: np.ndarray, force: bool = False) -> None:
        """What follows symbols that were written.

        symbols: whole numbers.
        force: whether a check follows in any case.
        """
        value = self._due(symbols, len(self.encoder.data), force)
        if value is not None:
            self.encoder.put(value * CHECK_COUNTS, (value + 1) * CHECK_COUNTS)

    def copy(self) -> Writer:
        """The same stream, to end it here and yet go on."""
        other = object.__new__(Writer)
        other._state, other._checked, other.encoder = self._state.copy(), self._checked, Encoder()
        other.encoder.__dict__.update(self.encoder.__dict__, data=bytearray(self.encoder.data))
        return other


class Stream(_Checked):
    """The stream being read.

    about: of the header.
    data: its bytes.
    whole: whether these are all.
    what: how messages begin.

    Further attributes: ``passed``, how many checks were right.
    """

    def __init__(self, about: bytes, data: bytes, whole: bool, what: str) -> None:
        super().__init__(about)
        self.decoder, self.whole, self.what, self.passed = Decoder(data), whole, what, 0

    def check(self, symbols: np.ndarray, where: str, force: bool = False) -> bool:
        """Compare with the check that follows symbols that were read, if one does.

        symbols: whole numbers.
        where: what they were, for the message.
        force: as for ``Writer.check``.

        Returns False where the stream was cut before. Raises ``FileError`` for another check.
        """
        value = self._due(symbols, self.decoder.position - 8, force)
        if value is None:
            return True
        found = self.decoder.threshold() // CHECK_COUNTS
        if not (self.whole or self.decoder.is_known((found + 1) * CHECK_COUNTS)):
            return False
        if found != value:
            raise FileError(f"{self.what}: the check after {where} does not match, it is changed")
        self.decoder.advance(found * CHECK_COUNTS, (found + 1) * CHECK_COUNTS)
        self.passed += 1
        return True
