"""Images of any size as lossless files: grey or RGB of up to 16 bits, with or without transparency, by a model of any size.

    for part in encode(model, pixels): file.write(part)          strip by strip: pixels may be a np.memmap that does not fit the memory
    decoding = Decoding(file, model)
    for band in decoding.bands(): …                               rows from top to bottom, as they are decoded

``compress_image`` and ``decompress_image`` do the same in memory. The colours of a tile are a stream of the range coder, coded by the model
at the size of a window (tiles.py) and the levels of the image; transparency, mostly constant, is its differences along rows, deflated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from .. import checkpoint
from ..models import load
from ..progress import Progress, bar
from ..range_coder import Decoder, Encoder
from ..raster import RasterModel
from .colour import from_ycocg, to_ycocg
from .container import CHECK, MAX_CONTEXT, MAX_NAME, MAX_TILE, METADATA, Entry, Header, chained, read_header, read_strips, strip_bytes
from .fields import CHUNK, FileError, Reader, digest
from .identity import fingerprint_of_weights
from .tiles import Coder, Decoded, Tile
from .transparency import deflated, inflated
from .tuning import tune as find_tuning
from .tuning import tuned

TILE, CONTEXT = 128, 16
MAX_SIZES = 16                 # of windows for which a model's program is kept
HELD = 1 << 22                 # bytes of a file that are held in memory until it is chosen
BAND = 1 << 18                 # pixels that are given out at once, as far as there are several rows

_Coded: TypeAlias = tuple[Entry, bytes, bytes]     # a tile of a file, its stream, and that of its transparency


@dataclass(frozen=True)
class Region:
    """Part of an image.

    top, left, bottom, right: first row and column, and those after the last.
    """

    top: int
    left: int
    bottom: int
    right: int

    def __str__(self) -> str:
        return f"rows {self.top} … {self.bottom - 1}, columns {self.left} … {self.right - 1}"


def compress_image(
    model: RasterModel,
    pixels: Any,
    *,
    bits: int | None = None,
    ycocg: bool = False,
    tile: int = TILE,
    context: int = CONTEXT,
    name: str = "",
    metadata: Mapping[str, bytes] | None = None,
    tune: int = 0,
    progress: Progress = None,
) -> bytes:
    """Codes an image of any size losslessly.

    model: of as many colours as the image, unconditional, with weights for any size (``RasterModel.resized``).
    pixels: uint8 or uint16 (H, W) or (H, W, C): grey, grey and alpha, RGB, RGB and alpha; as ``numpy.asarray`` of a Pillow image.
    bits: of a sample, at most those of its type; None (default) = as many.
    ycocg: whether to transform RGB to YCoCg-R first, False by default.
    tile: pixels of a tile's side, 1 … 256; damage costs the tiles below and to the right of it too.
    context: rows above and columns to the left that a tile sees, 0 … 64.
    name: where others find the model: rastrum/NAME, hf://OWNER/NAME, or ./NAME for a folder; it is stored. "" by default.
    metadata: "icc" and "exif" to keep, as image files have them; None (default) for none.
    tune: steps of training by which the model's biases adapt to this image, each on one tile; the file says how, where that makes it
        smaller, and takes as long to decode. It is coded twice to see. 0 by default: not at all; 300 is much.
    progress: a bar; None (default): in a terminal or a notebook after two seconds, True: at once, False: never; or a function that is
        called with the number of megapixels done, with ``tune`` those of all windows that it trains on and of both codings.

    Returns the file as bytes; docs/format.md describes it. Raises ``ValueError`` for a model or an image that does not fit, and
    ``PortabilityError`` where this machine does not compute as specified.
    """
    array = as_pixels(pixels)
    with bar("compressing", array.shape[0] * array.shape[1] / 1e6, "megapixels", progress) as report:
        options: dict[str, Any] = {"bits": bits, "ycocg": ycocg, "tile": tile, "context": context, "name": name, "metadata": metadata}
        return b"".join(encode(model, array, tune=tune, report=report, **options))


def decompress_image(blob: bytes, model: RasterModel | None = None, *, progress: Progress = None) -> np.ndarray:
    """Decodes the image that ``compress_image`` coded.

    blob: the file.
    model: the same model; None (default) loads the one that the file names, if it is bundled with the package.
    progress: as for ``compress_image``.

    Returns uint8 up to 8 bits, else uint16, (H, W, C). Raises ``FileError`` for anything but a whole file and its model.
    """
    decoding = Decoding(bytes(blob), model)
    with bar("decompressing", decoding.header.pixels / 1e6, "megapixels", progress) as report:
        return np.concatenate(list(decoding.bands(report)))


def as_pixels(pixels: Any) -> np.ndarray:
    """An image as (H, W, C); a memory map stays one.

    pixels: uint8 or uint16 (H, W) or (H, W, C), C at most 4, numpy or torch.

    Raises ``ValueError`` for anything else.
    """
    array = pixels if isinstance(pixels, np.ndarray) else np.asarray(pixels)
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3 or not 1 <= array.shape[2] <= 4 or 0 in array.shape or array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise ValueError(f"pixels: expected uint8 or uint16 (H, W) or (H, W, 1 … 4), got {array.dtype} {array.shape}")
    return array


def encode(
    model: RasterModel,
    pixels: np.ndarray,
    *,
    bits: int | None = None,
    ycocg: bool = False,
    tile: int = TILE,
    context: int = CONTEXT,
    name: str = "",
    metadata: Mapping[str, bytes] | None = None,
    tune: int = 0,
    report: Callable[[float, float], object] = lambda done, of: None,
) -> Iterator[bytes]:
    """The parts of a file, one after another, as they are coded.

    pixels: (H, W, C), as from ``as_pixels``.
    report: called with the number of megapixels done, and of how many; with ``tune`` as for ``compress_image``.

    Other parameters and errors are as for ``compress_image``.
    """
    height, width, channels = pixels.shape
    most = 8 * pixels.dtype.itemsize
    bits = most if bits is None else bits
    if not 1 <= bits <= most:
        raise ValueError(f"bits: expected 1 … {most} for {pixels.dtype}, got {bits}")
    if not 1 <= tile <= MAX_TILE or not 0 <= context <= MAX_CONTEXT:
        raise ValueError(f"tile, context: expected 1 … {MAX_TILE} and 0 … {MAX_CONTEXT}, got {tile} and {context}")
    if ycocg and channels < 3:
        raise ValueError("ycocg: it is for RGB, this image is grey")
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        raise ValueError(f"name: {name!r} cannot be written as UTF-8; choose another")
    if len(name.encode()) > MAX_NAME:
        raise ValueError(f"name: it has {len(name.encode())} bytes, at most {MAX_NAME} are possible")
    if tune < 0:
        raise ValueError(f"tune: expected a number of steps, got {tune}")
    if unknown := [key for key in metadata or {} if key not in METADATA]:
        raise ValueError(f"metadata: expected {' and '.join(METADATA)}, got {', '.join(map(repr, unknown))}")
    _check(model, 3 if channels > 2 else 1)
    header = Header(height, width, channels, bits, ycocg, tile, context, fingerprint_of_weights(model), name, metadata or {})
    if not tune:
        return _encode(model, pixels, header, lambda done: report(done, header.pixels / 1e6))
    return _tuned(model, pixels, header, tune, report)


def _tuned(
    model: RasterModel, pixels: np.ndarray, header: Header, steps: int, report: Callable[[float, float], object]
) -> Iterator[bytes]:
    """The smaller one of two files, by the model as it is and as it is tuned; those of large images are on the disk meanwhile."""
    tiling, size = header.tiling, header.pixels / 1e6
    window = tiling.rows.length * tiling.columns.length / 1e6
    of = steps * window + 2 * size
    values, levels = (lambda tile: _values(_pixels(pixels, header, tile), header)), 1 << header.bits
    tuning = find_tuning(model, tiling, values, steps, levels, lambda step: report(step * window, of))
    with ExitStack() as stack:
        files = []
        for n, each in enumerate((header, replace(header, tuning=tuning))[: 1 + bool(tuning)]):
            files.append(stack.enter_context(SpooledTemporaryFile(HELD)))
            for part in _encode(model, pixels, each, lambda done, n=n: report(steps * window + n * size + done, of)):
                files[-1].write(part)
        smaller = min(files, key=lambda file: file.tell())
        smaller.seek(0)
        while part := smaller.read(CHUNK):
            yield part


def _encode(model: RasterModel, pixels: np.ndarray, header: Header, report: Callable[[float], object]) -> Iterator[bytes]:
    """The parts of the file of this header."""
    coder, tiling = _coder(_adapted(model, header), header), header.tiling
    before = header.bytes
    yield before
    for strip in tiling.strips():
        entries, streams = [], []
        for tiles in coder.batches(tiling.tiles(strip)):
            windows, encoders = [_pixels(pixels, header, tile) for tile in tiles], [Encoder() for _ in tiles]
            coder.code(tiling, tiles, [_values(window, header) for window in windows], encoders)
            for tile, window, encoder in zip(tiles, windows, encoders, strict=True):
                rows, columns = tiling.own(tile)
                own = window[rows.start - rows.stop :, columns.start - columns.stop :]
                streams += [encoder.finish(), deflated(own[..., -1]) if header.alpha else b""]
                entries.append(Entry(len(streams[-2]), len(streams[-1]), _checksum(header, tile, own)))
            report(_pixels_before(header, tiles[-1]) / 1e6)
        listed = strip_bytes(entries, header.alpha)
        before = chained(before, listed)
        yield b"".join([listed, before, *streams])


def _pixels(pixels: np.ndarray, header: Header, tile: Tile) -> np.ndarray:
    """The pixels of a tile's window, (rows, columns, C); ``ValueError`` for levels that the header's bits do not hold."""
    window = pixels[header.tiling.window(tile)]
    if (found := int(window.max())) >> header.bits:
        raise ValueError(f"pixels: expected levels 0 … {(1 << header.bits) - 1} for {header.bits} bits, got {found}")
    return np.ascontiguousarray(window, _kind(header))


class Decoding:
    """Decodes a file band by band.

    source: the bytes, or a file that can be read at any position.
    model: the one that coded it; None (default) loads the one that the file names, if it is bundled with the package.
    salvage: go on after damage, which by default ends decoding.
    what: how messages begin, "file" by default.

    Further attributes: ``header``; ``lost``, which tiles could not be decoded so far, bool (rows of tiles, columns of tiles); ``fault``,
    what was wrong besides pixels, "" if nothing was.
    Raises ``FileError`` for a file that is not whole, or of another model.
    """

    def __init__(self, source: bytes | BinaryIO, model: RasterModel | None = None, salvage: bool = False, what: str = "file") -> None:
        self.reader = Reader(source, what)
        self.header, self.salvage, self.fault = read_header(self.reader), salvage, ""
        network: Any = _bundled(self.header, what) if model is None else model
        if (found := fingerprint_of_weights(network)) != self.header.fingerprint:
            named = f"the model {self.header.model}" if self.header.model else "a model that it does not name"
            theirs = f"made by {named} with weights {self.header.fingerprint.hex()}"
            raise FileError(f"{what}: {theirs}, this model's are {found.hex()}; give the former with --model or model=")
        try:
            self.coder = _coder(_adapted(network, self.header), self.header)
        except ValueError as error:                                       # no file of this model has such a header
            raise FileError(f"{what}: {error}") from None
        self.lost = np.zeros((self.header.tiling.rows.count, self.header.tiling.columns.count), np.bool_)

    def bands(self, report: Callable[[float], object] = lambda done: None) -> Iterator[np.ndarray]:
        """The image from top to bottom, uint8 up to 8 bits, else uint16, (rows, W, C); what is lost is grey, and opaque.

        report: called with the number of megapixels done.

        Raises ``FileError`` for damage, unless salvaging.
        """
        header, tiling, strip = self.header, self.header.tiling, range(0)
        decoded = Decoded(tiling, header.colours, _kind(header))
        try:
            for strip, entries in read_strips(self.reader, header):
                listed = iter(entries)
                for i in strip:
                    parts: list[np.ndarray] = []
                    decoded.begin(i)
                    for batch in self.coder.batches(tiling.tiles(range(i, i + 1)), waiting=True):
                        coded = [(entry, self.reader.up_to(entry.stream), self.reader.up_to(entry.alpha))
                                 for _, entry in zip(batch, listed, strict=False)]  # fmt: skip
                        parts += self._decode(batch, coded, decoded)
                        report(_pixels_before(header, batch[-1]) / 1e6)
                    if (done := sum(part.shape[1] for part in parts)) < header.width:
                        parts.append(_blank(header, tiling.rows.own(i), slice(done, header.width)))
                    yield from _bands(parts)
        except FileError as error:
            if not self.salvage or strip.stop == 0:
                raise
            self.fault = str(error)                                       # the list of a strip is damaged, or the end is
            self.lost[strip.stop :] = True
            for i in range(strip.stop, tiling.rows.count):
                yield from _bands([_blank(header, tiling.rows.own(i), slice(0, header.width))])

    def _decode(self, tiles: Sequence[Tile], coded: Sequence[_Coded], decoded: Decoded) -> list[np.ndarray]:
        """Decodes tiles in one batch, after those before. Returns their pixels, (rows, columns, C) each, up to the first that is lost."""
        header, tiling = self.header, self.header.tiling
        for tile in tiles:
            self.lost[tile] = any(self.lost[before] for before in tiling.before(tile))
        tiles, found = [tile for tile in tiles if not self.lost[tile]], []    # the first ones, since each waits for the one before
        decoders = [Decoder(stream) for _, stream, _ in coded[: len(tiles)]]
        windows = self.coder.code(tiling, tiles, [decoded.window(tile) for tile in tiles], decoders) if tiles else ()
        for window, decoder, tile, (entry, stream, transparency) in zip(windows, decoders, tiles, coded, strict=False):
            rows, columns = tiling.own(tile)
            own = window[:, rows.start - rows.stop :, columns.start - columns.stop :].copy()
            alpha = inflated(transparency, own.shape[1:], header.bits) if header.alpha else np.zeros((*own.shape[1:], 0), own.dtype)
            pixels = None if alpha is None else np.concatenate([_colours(own, header), alpha], 2)
            whole = len(stream) == entry.stream and decoder.is_canonical()
            whole = whole and not any(self.lost[before] for before in tiling.before(tile))
            if pixels is not None and whole and _checksum(header, tile, pixels) == entry.check:
                decoded.add(tile, own)
                found.append(pixels)
            elif self.salvage:
                self.lost[tile] = True
            else:
                region = Region(rows.start, columns.start, rows.stop, columns.stop)
                remedy = "rastrum decompress --salvage saves what does not depend on them"
                raise FileError(f"{self.reader.what}: the pixels of {region} do not match their checksum; {remedy}")
        return found

    def damaged(self) -> list[Region]:
        """What could not be decoded, from top to bottom: each region ends at the right border, since tiles depend on those to the left."""
        found: list[Region] = []
        for i, row in enumerate(self.lost):
            if row.any():
                rows, columns = self.header.tiling.own((i, int(row.argmax())))
                if found and (found[-1].bottom, found[-1].left) == (rows.start, columns.start):
                    rows = slice(found.pop().top, rows.stop)
                found.append(Region(rows.start, columns.start, rows.stop, self.header.width))
        return found


def _bundled(header: Header, what: str) -> Any:
    """The model that a file names, if it is bundled with the package, or was when it was written; others are not opened, since the file is
    text of whoever wrote it."""
    if not header.model.startswith("rastrum/"):
        named = f"the model {header.model}" if header.model else "a model that it does not name"
        weights = header.fingerprint.hex()
        raise FileError(f"{what}: made by {named}, weights {weights}, which is not bundled with rastrum; give it with --model or model=")
    former = checkpoint.BUNDLED_FOLDER / checkpoint.FORMER / header.fingerprint.hex()
    try:
        return load(former if former.is_dir() else header.model)
    except ValueError as error:
        raise FileError(f"{what}: made by {header.model}, which this release does not have ({error})") from None


def _check(model: RasterModel, colours: int) -> None:
    """Raise ``ValueError`` for a model that does not code images of so many colours."""
    if not isinstance(model, RasterModel):
        raise ValueError(f"model: {type(model).__name__} cannot code images, it has no exact conditionals; use a raster model")
    spec = model.spec
    if model.condition_spec is not None or spec.frames > 1 or spec.channels != colours:
        made_for = f"{spec.text}{'' if model.condition_spec is None else ' with a condition'}"
        raise ValueError(f"model: it is for {made_for}; this image needs an unconditional one of {colours} channels")


def _adapted(model: RasterModel, header: Header) -> RasterModel:
    """The model as the header's tuning moves it."""
    _check(model, header.colours)
    found = tuned(model, header.tuning) if header.tuning else model
    if found is None:
        raise ValueError(f"the {len(header.tuning)} bytes by which its model was adapted are damaged, or of another model")
    return found


def _coder(model: RasterModel, header: Header) -> Coder:
    """Codes windows of an image by a model, which is made at their size once while its weights stay where they are."""
    size = header.tiling.rows.length, header.tiling.columns.length, 1 << header.bits
    place = [tensor.data_ptr() for tensor in model.state_dict().values()]
    known = _sizes.setdefault(model, {})
    if size not in known or known[size][0] != place:
        if len(known) == MAX_SIZES:
            known.clear()
        known[size] = place, model.resized(*size)
    return Coder(known[size][1])


_sizes: WeakKeyDictionary[RasterModel, dict[tuple[int, int, int], tuple[list[int], RasterModel]]] = WeakKeyDictionary()


def _values(pixels: np.ndarray, header: Header) -> np.ndarray:
    """What the model codes of pixels (rows, columns, C): (colours, rows, columns)."""
    colours = pixels[..., : header.colours]
    return (to_ycocg(colours, header.bits) if header.ycocg else colours).transpose(2, 0, 1)


def _colours(values: np.ndarray, header: Header) -> np.ndarray:
    """The inverse of ``_values``, without transparency."""
    colours = values.transpose(1, 2, 0)
    return from_ycocg(colours, header.bits) if header.ycocg else colours


def _kind(header: Header) -> type:
    """The type of the samples."""
    return np.uint8 if header.bits <= 8 else np.uint16


def _blank(header: Header, rows: slice, columns: slice) -> np.ndarray:
    """So many grey and opaque pixels, which are one in memory."""
    pixel = np.full(header.channels, 1 << header.bits >> 1, _kind(header))
    pixel[header.colours :] = (1 << header.bits) - 1
    return np.broadcast_to(pixel, (rows.stop - rows.start, columns.stop - columns.start, header.channels))


def _bands(parts: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """A row of tiles, (rows, columns, C) each, as bands of the image of up to ``BAND`` pixels."""
    size = max(1, BAND // sum(part.shape[1] for part in parts))
    for start in range(0, len(parts[0]), size):
        yield np.concatenate([part[start : start + size] for part in parts], 1)


def _checksum(header: Header, tile: Tile, pixels: np.ndarray) -> bytes:
    """Of the pixels of a tile (rows, columns, C), under this header and at this place."""
    return digest(CHECK, header.bytes, np.array(tile, "<u4").tobytes(), np.ascontiguousarray(pixels, "<u2").tobytes())


def _pixels_before(header: Header, tile: Tile) -> int:
    """Pixels of the tiles up to this one, row by row."""
    rows, columns = header.tiling.rows.own(tile[0]), header.tiling.columns.own(tile[1]).stop if tile[1] >= 0 else 0
    return rows.start * header.width + (rows.stop - rows.start) * columns
