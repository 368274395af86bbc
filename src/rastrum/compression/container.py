"""The bytes of an image file, version 1; docs/format.md has them one by one.

    header      what the image is, how it was coded, by which model; the metadata
    strips      from top to bottom, each a few rows of tiles:
                  per tile: varint length of its stream, of that of its transparency if the image has any, 4 checksum of its pixels
                  4 digest of the above and of everything before it that is not a stream
                  the streams of its tiles, one after another

A strip can be written when its pixels are known and read when the strips before it are: neither end ever holds the whole image. It has at
most ``tiles.STRIP`` pixels or one row of tiles, and of that a reader holds only what it has decoded. The checksum of a tile covers the
header too, so that pixels under another header, say another colour transform, are never taken for right.
Each tile takes at least 5 bytes and has at most ``MAX_TILE + MAX_CONTEXT`` rows and columns, so a file's own size limits the memory of what
it holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from .fields import FileError, Reader, digest, varint
from .identity import NATIVE
from .tiles import Axis, Tiling

MAGIC, VERSION = b"\x8aRST", 1
MAX_SIDE = (1 << 31) - 1
MAX_TILE, MAX_CONTEXT = 256, 64
MAX_NAME = 1 << 12             # bytes of the model's name
CHECK = 4                      # bytes of a checksum
COLOUR, ALPHA, YCOCG, ICC, EXIF, TUNING = (1 << bit for bit in range(6))
METADATA = {"icc": ICC, "exif": EXIF}


@dataclass(frozen=True)
class Header:
    """What a file says of its image.

    height, width: in pixels.
    channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
    bits: of a sample, 1 … 16.
    ycocg: whether the colours were transformed (``colour.py``).
    tile: pixels of a tile's side, at most.
    context: rows above and columns to the left that a tile sees, at least.
    fingerprint: of the model's weights, 8 bytes.
    model: where to find the model: rastrum/NAME, hf://OWNER/NAME, ./NAME for a folder, or "".
    metadata: "icc" and "exif", as image files have them; none by default.
    tuning: how the model's weights were adapted to the image (``tuning.py``); b"" by default: not at all.
    """

    height: int
    width: int
    channels: int
    bits: int
    ycocg: bool
    tile: int
    context: int
    fingerprint: bytes
    model: str
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    tuning: bytes = b""

    @property
    def colours(self) -> int:
        """Channels that the model codes: 1 or 3."""
        return self.channels - self.alpha

    @property
    def alpha(self) -> bool:
        """Whether pixels have a transparency."""
        return self.channels % 2 == 0

    @property
    def pixels(self) -> int:
        """Their number."""
        return self.height * self.width

    @cached_property
    def tiling(self) -> Tiling:
        """The tiles of the image."""
        return Tiling(Axis(self.height, self.tile, self.context), Axis(self.width, self.tile, self.context))

    @cached_property
    def bytes(self) -> bytes:
        """The header as it is written."""
        flags = (self.colours == 3) * COLOUR | self.alpha * ALPHA | self.ycocg * YCOCG | bool(self.tuning) * TUNING
        flags |= sum(METADATA[name] for name in self.metadata)
        sizes = (self.height, self.width, self.tile, self.context)
        name = self.model.removeprefix("rastrum/").encode()
        texts = [name, *(self.metadata[name] for name in METADATA if name in self.metadata), *([self.tuning] if self.tuning else [])]
        head = MAGIC + bytes([VERSION, NATIVE, flags, self.bits]) + b"".join(map(varint, sizes)) + self.fingerprint
        return head + b"".join(varint(len(text)) + text for text in texts)


@dataclass(frozen=True, slots=True)
class Entry:
    """A tile in the list of its strip.

    stream, alpha: bytes of its stream, and of that of its transparency.
    check: checksum of its pixels.
    """

    stream: int
    alpha: int
    check: bytes


def read_header(reader: Reader) -> Header:
    """The header of a file, whose digest is that of the first strip.

    reader: of the file.

    Raises ``FileError`` for another file, another version, and values that no header has.
    """
    reader.seek(0)
    if (magic := reader.up_to(4)) != MAGIC:
        raise FileError(f"{reader.what}: expected to begin with {MAGIC!r}, got {magic!r}: not made by rastrum compress")
    version, arithmetic, flags, bits = reader.take(4)
    if version != VERSION:
        raise FileError(f"{reader.what}: version {version}, this release reads version {VERSION}")
    if arithmetic != NATIVE:
        raise FileError(f"{reader.what}: unknown arithmetic {arithmetic}, this release has {NATIVE}, native-1")
    height, width, tile, context = (reader.varint() for _ in range(4))
    fingerprint, length = reader.take(8), reader.varint()
    if length > MAX_NAME:
        raise FileError(f"{reader.what}: the name of its model has {length} bytes, at most {MAX_NAME} are possible")
    name = reader.take(length)
    metadata = {name: reader.take(reader.varint()) for name, flag in METADATA.items() if flags & flag}
    tuning = reader.take(reader.varint()) if flags & TUNING else b""
    try:
        model = name.decode()
    except UnicodeError:
        raise FileError(f"{reader.what}: the name of its model is not UTF-8") from None
    channels = (3 if flags & COLOUR else 1) + bool(flags & ALPHA)
    model = f"rastrum/{model}" if model and "/" not in model else model
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and 1 <= bits <= 16 and 1 <= tile <= MAX_TILE and context <= MAX_CONTEXT):
        image = f"{height} x {width} pixels of {bits} bits in tiles of {tile} + {context}"
        raise FileError(f"{reader.what}: an image of {image} is not possible")
    header = Header(height, width, channels, bits, bool(flags & YCOCG), tile, context, fingerprint, model, metadata, tuning)
    reader.seek(0)
    if reader.up_to(len(header.bytes)) != header.bytes or (header.ycocg and header.colours == 1):
        raise FileError(f"{reader.what}: its header is not as rastrum writes it")
    if (least := least_size(header)) > reader.size:
        raise FileError(f"{reader.what}: {reader.size} bytes cannot hold {height} x {width} pixels, which take {least} or more")
    next(read_strips(reader, header))
    return header


def least_size(header: Header) -> int:
    """Bytes that a file of this header has at least.

    header: of the file.
    """
    return len(header.bytes) + (1 + header.alpha + CHECK) * header.tiling.count


def strip_bytes(entries: Sequence[Entry], alpha: bool) -> bytes:
    """The list of a strip's tiles, without its digest.

    entries: of the tiles.
    alpha: whether the image has a transparency.
    """
    return b"".join(varint(e.stream) + (varint(e.alpha) if alpha else b"") + e.check for e in entries)


def chained(before: bytes, listed: bytes) -> bytes:
    """The digest of a strip's list.

    before: the header's bytes for the first strip, then the digest of the strip before.
    listed: the list.
    """
    return digest(CHECK, before, listed)


def read_strips(reader: Reader, header: Header) -> Iterator[tuple[range, list[Entry]]]:
    """The lists of the strips, one after another; whoever takes one may read its streams, or not.

    reader: of the file.
    header: of the file.

    Yields the rows of tiles of a strip and its entries, tile by tile, with the reader at the first stream.
    Raises ``FileError`` for a list that is truncated or changed, and where bytes follow the last strip.
    """
    reader.seek(len(header.bytes))
    before = header.bytes
    for strip in header.tiling.strips():
        entries = []
        for _ in header.tiling.tiles(strip):
            stream, alpha = reader.varint(), reader.varint() if header.alpha else 0
            entries.append(Entry(stream, alpha, reader.take(CHECK)))
        before = chained(before, strip_bytes(entries, header.alpha))
        if reader.take(CHECK) != before:
            what = "header" if strip.start == 0 else f"list of tiles from row {header.tiling.rows.own(strip.start).start} on"
            raise FileError(f"{reader.what}: the digest of its {what} does not match, it is truncated or changed")
        end = reader.position + sum(entry.stream + entry.alpha for entry in entries)
        yield strip, entries
        reader.seek(min(end, reader.size))
    if end != reader.size:
        raise FileError(f"{reader.what}: has {reader.size} bytes, expected {end}; it is truncated, or something was appended")
