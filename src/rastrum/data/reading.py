"""One image as a viewer shows it, as integer levels; what cannot be read so is refused in one line, and nothing is changed silently.

    bits of a sample    1 → 2 levels · 2 … 8 → 256 · 12 (grey TIFF) → 4,096 · 16 (PNG, TIFF, grey PPM) → 65,536 · others are refused
    colours             grey → 1 channel; palette, CMYK, YCbCr → RGB; colour profiles are not applied
    transparency        composited over ``DataOptions.background``, rounded to the nearest level
    orientation         of EXIF (in AVIF of its own boxes) is applied, in every format that has it
    several pictures    animations and documents of several pages are refused; previews in a TIFF or beside a JPEG are not

Pillow reads 16-bit colour as 8 bits, the high byte of every sample. Its decoders can be asked for samples of either byte order, and the
other order's high byte is the low one: two passes give all 16 bits, of every compression that it knows.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageFile, ImageOps

from ..config import DataOptions
from .arrays import LEVELS
from .options import requantise

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "PSD", "QOI", "SGI", "TGA", "TIFF", "WEBP")
PIXELS = 2**28                 # at most, of one image: about 5 bytes of memory per pixel at 8 bits, 18 at 16 bits
LARGE = 2**26                  # pixels from which a JPEG is reduced while it is decoded, if it is to be resized
ROWS = 64                      # at a time, where an image is computed in larger numbers
BACKGROUNDS = {"white": 1, "black": 0}
OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
PHOTOMETRIC, BITS, SAMPLE_FORMAT, SUBFILE, ORIENTATION = 262, 258, 339, 254, 274     # tags of TIFF

Opener: TypeAlias = Callable[[], Image.Image | np.ndarray]

_pillow_limit = Lock()


class UnreadableImage(ValueError):
    """An image that is broken, or of a kind that cannot be read as a viewer shows it."""


def suffixes() -> frozenset[str]:
    """Of files that are taken for images, in lower case."""
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in (*_formats(), "MPO"))


def _formats() -> list[str]:
    """Those of ``FORMATS`` that this build of Pillow has."""
    Image.init()
    return [kind for kind in FORMATS if kind in Image.OPEN]


def open_image(file: Path | BytesIO) -> Image.Image:
    """Open an image file, without decoding it.

    file: a path, or the bytes.

    Raises ``UnreadableImage`` for samples of more bits than Pillow gives.
    """
    with _pillow_limit:        # Pillow's own limit is 179 megapixels, one setting for all of a process; ``read_image`` has ours
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(file, formats=_formats())
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    if image.format in ("AVIF", "JPEG2000", "SGI"):
        if isinstance(file, BytesIO):
            head = file.getbuffer()[: 1 << 16].tobytes()
        else:
            with file.open("rb") as opened:
                head = opened.read(1 << 16)
        if (bits := _bits(image.format, head)) > 8:
            raise UnreadableImage(f"{bits} bits a sample in {image.format}; convert it to a PNG of 16 bits")
    return image


def _bits(kind: str, head: bytes) -> int:
    """Bits of a sample, by the first bytes of a file of a format that Pillow reads as 8 bits whatever it holds."""
    if kind == "SGI":
        return 8 * head[3]
    if kind == "JPEG2000":                                                # Ssiz of the marker SIZ, which follows SOC
        at = head.find(b"\xff\x4f\xff\x51")
        return 0 if at < 0 else (head[at + 42] & 0x7F) + 1
    flags = [head[at + 6] for at in _places(head, b"av1C")]               # bit 6: more than 8; bit 5: 12
    return max((12 if flag & 0x20 else 10 for flag in flags if flag & 0x40), default=8)


def _places(head: bytes, word: bytes) -> Iterator[int]:
    at = head.find(word)
    while 0 <= at < len(head) - 6:
        yield at
        at = head.find(word, at + 1)


def read_image(name: str, opener: Opener, options: DataOptions, levels: int = 0) -> tuple[np.ndarray, int]:
    """An image, prepared as the options say.

    name: for messages.
    opener: opens it, every time anew; or gives unsigned integers (H, W, C).
    options: background, grey or colour, and size are applied.
    levels: of an 8-bit channel; 0 (default) = as the image says.

    Returns uint8, or uint16 above 256 levels, (C, H, W), and the number of levels. Raises ``UnreadableImage`` naming it;
    ``FileNotFoundError`` and ``PermissionError``.
    """
    with _named(name, "cannot be read as a viewer shows it"):
        image = opener()
        if isinstance(image, np.ndarray):
            return _with_colour(*_of_array(image, options, levels), options)
        if options.size is not None and image.width * image.height > LARGE and image.format in ("JPEG", "MPO"):
            image.draft(None, (options.size, options.size))
        _check(image, _or_jpeg(image, options))
        values, levels = _deep(image, opener, options) if _is_deep(image) else _shallow(image, options, levels)
        return _with_colour(values, levels, options)


@contextmanager
def _named(name: str, fault: str) -> Iterator[None]:
    """Whatever goes wrong meanwhile is said in one line that names the image; ``fault``: what is wrong with one that is whole."""
    try:
        yield
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except UnreadableImage as error:
        raise UnreadableImage(f"data: {name} {fault}: {error}") from None
    except Exception as error:                                            # whatever a decoder says to a broken file
        said = re.sub(" <_io.BytesIO.*?>", "", (str(error) or type(error).__name__).splitlines()[0])   # an address, of no use
        raise UnreadableImage(f"data: {name} is not a whole image ({said})") from None


def _check(image: Image.Image, remedy: str = "") -> None:
    """Raise ``UnreadableImage`` for several pictures, too many pixels, and colours that Pillow would reduce to 8 bits."""
    _check_single(image)
    if image.width * image.height > PIXELS:
        size = f"{image.width}x{image.height} pixels, more than {PIXELS / 1e6:.0f} million"
        raise UnreadableImage(f"{size}; reduce it or cut it into parts first{remedy}")
    if image.format == "PPM" and image.mode == "RGB" and any(tile.args[-1] > 255 for tile in image.tile if tile.codec_name == "ppm"):    # pyright: ignore[reportAttributeAccessIssue]
        raise UnreadableImage("it has colours of more than 8 bits; convert it to a PNG of 16 bits")


def _is_deep(image: Image.Image) -> bool:
    return _bits_of_tiff(image) > 8 or image.mode.startswith("I") or any(";16" in raw for raw in _raw_modes(image))


@dataclass(frozen=True)
class Pixels:
    """An image as its file has it.

    values: uint8 or uint16 (H, W, C): grey, grey and transparency, RGB, RGB and transparency.
    metadata: "icc" and "exif", where the file has them; the orientation has been applied, and where there was one, EXIF is written anew.
    """

    values: np.ndarray
    metadata: dict[str, bytes]


def read_pixels(name: str, opener: Callable[[], Image.Image]) -> Pixels:
    """An image with all samples that its file has, of 8 or 16 bits: nothing is composited, converted or resized.

    name: for messages.
    opener: opens it, every time anew.

    Raises ``UnreadableImage`` naming it, for inks (CMYK) and for samples of other than 1, 8 and 16 bits too; ``FileNotFoundError`` and
    ``PermissionError``.
    """
    with _named(name, "cannot be kept as it is"):
        image = opener()
        _check(image)
        deep, key = _is_deep(image), image.info.get("transparency")
        exif = image.info.get("exif")
        if image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "F") or "RGBa" in "".join(_raw_modes(image)):
            raise UnreadableImage(f"its colours are {image.mode}; convert it to RGB")
        if deep:
            values, levels = _deep_grey(image) if image.mode.startswith("I") else (_deep_colour(image, opener), 65536)
            if levels != 65536:
                raise UnreadableImage(f"its samples have {levels} levels; convert it to 8 or 16 bits")
            if key is not None:                                           # one colour is transparent
                opaque = (values != np.asarray(key)).any(2, keepdims=True)
                values = np.concatenate([values, np.where(opaque, 65535, 0).astype(np.uint16)], 2)
        else:
            ImageOps.exif_transpose(image, in_place=True)
            grey = image.mode in ("1", "L", "LA", "La")
            transparent = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or key is not None
            wanted = ("L" if grey else "RGB") + "A" * transparent
            values = np.atleast_3d(np.asarray(image if image.mode == wanted else image.convert(wanted)))
        metadata = {"icc": image.info.get("icc_profile"), "exif": _upright(exif or image.info.get("exif"))}
        return Pixels(values, {kind: content for kind, content in metadata.items() if content})


def _upright(exif: bytes | None) -> bytes | None:
    """EXIF without an orientation; as it is, where it has none."""
    fields = Image.Exif()
    fields.load(exif or b"")
    return fields.tobytes() if fields.pop(ORIENTATION, 1) != 1 else exif


def _with_colour(values: np.ndarray, levels: int, options: DataOptions) -> tuple[np.ndarray, int]:
    return (np.repeat(values, 3, 0) if options.colour and len(values) == 1 else values), levels


def _of_array(values: np.ndarray, options: DataOptions, levels: int) -> tuple[np.ndarray, int]:
    levels = levels or LEVELS[values.dtype.name]
    if values.dtype.itemsize == 1 and values.shape[2] in (1, 3):
        return _shallow(Image.fromarray(values.squeeze(2) if values.shape[2] == 1 else values), options, levels)
    return _fitted(values, levels, options)


def _or_jpeg(image: Image.Image, options: DataOptions) -> str:
    return ", or save it as JPEG, which is reduced while it is read" if options.size is not None and image.format != "JPEG" else ""


def _check_single(image: Image.Image) -> None:
    if image.format not in ("AVIF", "GIF", "PNG", "TIFF", "WEBP") or getattr(image, "n_frames", 1) == 1:
        return
    count: int = image.n_frames                                           # pyright: ignore[reportAttributeAccessIssue]
    if image.format == "TIFF":                                            # smaller versions of the same picture do not count
        count = sum(1 for page in range(count) if image.seek(page) or not _tag(image, SUBFILE, 0) & 1)
        image.seek(0)
    if count > 1:
        raise UnreadableImage(f"it holds {count} pictures; save the one that is meant in a file of its own")


def _tag(image: Image.Image, tag: int, default: Any) -> Any:
    return getattr(image, "tag_v2", {}).get(tag, default)


def _raw_modes(image: Image.Image) -> list[str]:
    """How Pillow takes the samples in each part of a file that is not decoded yet; empty where it does not say."""
    args = [tile.args for tile in getattr(image, "tile", ())]
    first = [of if isinstance(of, str) else next(iter(of or ()), None) for of in args]
    return [raw for raw in first if isinstance(raw, str)]


def _take(image: Image.Image, change: Callable[[str], str]) -> Image.Image:
    """The image, not decoded yet, with its samples to be taken in another way."""
    assert isinstance(image, ImageFile.ImageFile)
    for i, tile in enumerate(image.tile):
        raw, *rest = [tile.args] if isinstance(tile.args, str) else tile.args or [""]
        image.tile[i] = tile._replace(args=(change(raw), *rest) if rest else change(raw))
    return image


def _bits_of_tiff(image: Image.Image) -> int:
    """Bits of a sample of a TIFF, else 8. Raises ``UnreadableImage`` for signed numbers and floats."""
    if image.format != "TIFF":
        return 8
    if any(kind not in (1, 4) for kind in _tag(image, SAMPLE_FORMAT, (1,))):
        raise UnreadableImage("its samples are signed or floats; convert it to unsigned integers of 8 or 16 bits")
    return max(_tag(image, BITS, (1,)))


# ── 8 bits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _shallow(image: Image.Image, options: DataOptions, levels: int) -> tuple[np.ndarray, int]:
    premultiplied = "RGBa" in _raw_modes(image)
    if premultiplied:
        image = _take(image, lambda raw: raw.replace("RGBa", "RGBA"))
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F":
        raise UnreadableImage("its samples are floats; convert it to integers of 8 or 16 bits")
    levels = levels or (2 if image.mode == "1" else 256)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        grey = image.mode in ("1", "L", "LA", "La")
        image = image.convert("LA" if grey else "RGBA")
        values = _composite(np.asarray(image), 255, options.background, premultiplied)
        image = Image.fromarray(values.squeeze(2) if grey else values)
        image = Image.fromarray(np.asarray(image) > 127) if levels == 2 else image
    elif image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    if options.grey and image.mode == "RGB":
        image = image.convert("L")
    if options.framed:
        image = image.crop(_frame(np.atleast_3d(np.asarray(image))))
    if options.size is not None and image.size != (options.size, options.size):
        if levels < 256:
            image, levels = Image.fromarray(requantise(np.asarray(image), levels, 256)), 256
        image = ImageOps.fit(image, (options.size, options.size), Image.Resampling.BOX)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1), levels


def _frame(values: np.ndarray) -> tuple[int, int, int, int]:
    """The square around all that is not black in (H, W, C): left, top, right, bottom; it may reach outside. The whole of a black image."""
    rows, columns = np.nonzero(values.any(2))
    if len(rows) == 0:
        return 0, 0, values.shape[1], values.shape[0]
    spans = [(int(at.min()), int(at.max()) + 1) for at in (columns, rows)]
    side = max(end - start for start, end in spans)
    left, top = ((start + end - side) // 2 for start, end in spans)
    return left, top, left + side, top + side


# ── 16 bits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _deep(image: Image.Image, opener: Opener, options: DataOptions) -> tuple[np.ndarray, int]:
    """As ``read_image``, of an image of more than 8 bits."""
    raw_modes, mode, key = _raw_modes(image), image.mode, image.info.get("transparency")
    values, levels = _deep_grey(image) if mode.startswith("I") else (_deep_colour(image, opener), 65536)
    top = levels - 1
    if mode == "CMYK":
        values = _in_rows(_without_ink, values, 3)
    elif key is not None:                                                 # one colour is transparent
        opaque = (values != np.asarray(key)).any(2, keepdims=True)
        values = _composite(np.concatenate([values, np.where(opaque, top, 0).astype(np.uint16)], 2), top, options.background, False)
    elif values.shape[2] in (2, 4):
        values = _composite(values, top, options.background, any(raw.startswith("RGBa") for raw in raw_modes))
    return _fitted(values, levels, options)


def _fitted(values: np.ndarray, levels: int, options: DataOptions) -> tuple[np.ndarray, int]:
    """(H, W, C), made grey and resized as asked for: (C, H, W)."""
    if options.grey and values.shape[2] == 3:
        values = _in_rows(_luma, values, 1)
    size, frame = options.size, _frame(values) if options.framed else (0, 0, values.shape[1], values.shape[0])
    if size is not None and (options.framed or values.shape[:2] != (size, size)):
        channels = (Image.fromarray(values[..., c].astype(np.float32)).crop(frame) for c in range(values.shape[2]))
        fitted = [np.asarray(ImageOps.fit(channel, (size, size), Image.Resampling.BOX)) for channel in channels]
        values = np.floor(np.stack(fitted, 2) + 0.5).clip(0, levels - 1).astype(np.uint16)
    return values.transpose(2, 0, 1), levels


def _deep_grey(image: Image.Image) -> tuple[np.ndarray, int]:
    """uint16 (H, W, 1), and its levels."""
    bits = _bits_of_tiff(image) if image.format == "TIFF" else 16
    if bits > 16 or (image.mode == "I" and image.format != "PPM"):
        raise UnreadableImage("its samples have more than 16 bits; convert it to 16 bits")
    inverted = _tag(image, PHOTOMETRIC, 1) == 0
    ImageOps.exif_transpose(image, in_place=True)
    values = np.asarray(image)[..., None].astype(np.uint16)
    return (np.uint16(2**bits - 1) - values if inverted else values), 2**bits


def _deep_colour(image: Image.Image, opener: Opener) -> np.ndarray:
    """uint16 (H, W, C): grey and alpha, colour, colour and alpha, or CMYK."""
    if _raw_modes(image) == ["LA;16B"]:                                   # two samples of two bytes, taken as four of one
        image = _take(image, lambda raw: "RGBA")
        ImageOps.exif_transpose(image, in_place=True)
        four = np.asarray(image).astype(np.uint16)
        return four[..., ::2] << 8 | four[..., 1::2]

    def bytes_of(low: bool) -> np.ndarray:
        image = opener()                                                  # each time anew, and gone afterwards
        assert isinstance(image, ImageFile.ImageFile)
        order = "L" if image.format == "TIFF" and image.tag_v2.prefix == b"II" else "B"    # pyright: ignore[reportAttributeAccessIssue]

        def samples(raw: str) -> str:
            kind, _, packed = raw.partition(";")
            packed = packed or f"16{order}"                               # of planes, which Pillow takes as if they had 8 bits
            if packed not in ("16B", "16L", "16N"):
                raise UnreadableImage(f"it holds samples as {raw}, which has more than 8 bits; convert it to a PNG of 16 bits")
            return f"{kind.replace('RGBa', 'RGBA')};16{OTHER_ORDER[packed[-1]] if low else packed[-1]}"

        image = _take(image, samples)
        ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(image)

    values = bytes_of(low=False).astype(np.uint16)
    values <<= 8
    values |= bytes_of(low=True)
    return values


# ── colours ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _in_rows(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray, channels: int) -> np.ndarray:
    """``function`` of (h, W, C) uint32, a few rows at a time, since it needs several times the memory: (H, W, channels)."""
    out = np.empty((*values.shape[:2], channels), values.dtype)
    for start in range(0, len(values), ROWS):
        out[start : start + ROWS] = function(values[start : start + ROWS].astype(np.uint32))
    return out


def _composite(values: np.ndarray, top: int, background: str, premultiplied: bool) -> np.ndarray:
    """Samples and alpha (H, W, C + 1) below ``top`` + 1 → (H, W, C) over the background; premultiplied: alpha is in the samples already."""

    def over(part: np.ndarray) -> np.ndarray:
        colour, alpha = part[..., :-1], part[..., -1:]
        colour = np.minimum(colour, alpha) * top if premultiplied else colour * alpha
        return (colour + (top - alpha) * (top * BACKGROUNDS[background]) + top // 2) // top

    return _in_rows(over, values, values.shape[2] - 1)


def _luma(part: np.ndarray) -> np.ndarray:
    """That of ITU-R 601, in the numbers that Pillow has for 8 bits."""
    return (part @ np.array([19595, 38470, 7471], np.uint32) + 0x8000 >> 16)[..., None]


def _without_ink(part: np.ndarray) -> np.ndarray:
    """CMYK of 16 bits as RGB, as Pillow does it for 8 bits: each ink takes its part of what black leaves."""
    left = 65535 - part[..., 3:]
    return left - (part[..., :3] * left + 32767) // 65535
