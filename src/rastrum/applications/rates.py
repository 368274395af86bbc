"""The same images at the same rates: by image formats, and by progressive files of a canvas model that are cut there.

    format       every quality at every size is tried; of the files within the rate that whose picture is nearest is taken
    model        a progressive file of the image, cut at the byte; the model draws what is missing, or leaves it at its prior's mean

At a few hundred bits the headers and tables of most formats are larger than what they say of a picture. So the payload is counted too:
what a file has besides, which for JPEG is its scans, for JPEG 2000 the data of its tiles, for a progressive file its stream. Formats may
also code a smaller picture, which is enlarged again: at such rates the stronger way for them.

Source of the rates: Gregor, Besse, Rezende, Danihelka, Wierstra, "Towards Conceptual Compression", 2016, where they are per image of 32x32.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from ..compression import Unpacking, compress_pictures
from ..compression.sketches import Rest
from ..compression.unpacking import psnr_of
from ..data.options import requantise
from ..models.pixel_canvas import PixelCanvas

RATES = (153, 307, 460, 612, 1228)       # bits per image of AREA pixels
AREA = 32 * 32
SMALLER = (1, 2, 4)            # times that a side may be smaller
RESTS: dict[Rest, str] = {"sample": "rest drawn", "mean": "rest at mean"}


class Format(NamedTuple):
    """An image format.

    name: for tables.
    encode: a picture (H, W, C) uint8 and a quality → the bytes of a file.
    decode: these bytes → a picture.
    payload: these bytes → how many of them are no headers and tables.
    qualities: that are tried.
    """

    name: str
    encode: Callable[[np.ndarray, float], bytes]
    decode: Callable[[bytes], np.ndarray]
    payload: Callable[[bytes], int]
    qualities: Sequence[float]


class Attempt(NamedTuple):
    """One image as one file.

    picture: that comes back, (H, W, C) uint8.
    psnr: of it, in dB.
    bits: of the file.
    payload: the bits of its payload.
    """

    picture: np.ndarray
    psnr: float
    bits: int
    payload: int


@dataclass(frozen=True)
class AtRate:
    """Images as they come back at one rate.

    name: what coded them.
    pictures: (N, C, H, W) float32 in [0, 1].
    psnr: of each, in dB, (N,).
    bits: of each file, (N,).
    payload: the bits of each payload, (N,).
    within: whether each is within the rate, (N,) bool; if not, it is the smallest that there is.
    """

    name: str
    pictures: Tensor
    psnr: np.ndarray
    bits: np.ndarray
    payload: np.ndarray
    within: np.ndarray


# ── image formats ────────────────────────────────────────────────────────────────────────────────────────────────────


def usual_formats() -> tuple[Format, Format]:
    """JPEG and JPEG 2000, as Pillow has them: with optimal Huffman tables, and as a bare codestream by the irreversible transform.

    Raises ``ValueError`` where Pillow was built without one of them.
    """
    for name, codec in (("JPEG", "jpg"), ("JPEG 2000", "jpg_2000")):
        if not features.check_codec(codec):
            raise ValueError(f"formats: this Pillow was built without {name}; its wheels have it: pip install --force-reinstall pillow")

    def jpeg(pixels: np.ndarray, quality: float) -> bytes:
        return _saved(pixels, "JPEG", quality=int(quality), optimize=True)

    def jpeg_2000(pixels: np.ndarray, quality: float) -> bytes:
        resolutions = 1 + min(5, int(math.log2(max(1.0, min(pixels.shape[:2]) / 8))))     # the lowest of about 8 pixels
        how = {"quality_mode": "dB", "quality_layers": [quality], "irreversible": True, "mct": int(pixels.shape[2] == 3)}
        return _saved(pixels, "JPEG2000", no_jp2=True, num_resolutions=resolutions, **how)

    return (
        Format("JPEG", jpeg, _opened, jpeg_payload, (1, 2, 3, 4, 5, 7, 10, 14, 19, 25, 33, 45, 60, 75, 85, 95)),
        Format("JPEG 2000", jpeg_2000, _opened, jpeg_2000_payload, range(14, 44)),
    )


def _saved(pixels: np.ndarray, kind: str, **how: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, kind, **how)
    return file.getvalue()


def _opened(data: bytes) -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    return pixels.reshape(*pixels.shape[:2], -1)


def jpeg_payload(data: bytes) -> int:
    """Bytes of the scans of a JPEG.

    data: the file.
    """
    at, found = 2, 0
    while data[at + 1] != 0xD9:                                           # to the end of the image
        marker, at = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:                                                # a scan, up to a marker that is no stuffing and no restart
            begin = at
            while data[at] != 0xFF or data[at + 1] == 0 or 0xD0 <= data[at + 1] <= 0xD7:
                at += 1
            found += at - begin
    return found


def jpeg_2000_payload(data: bytes) -> int:
    """Bytes of the packets in a codestream of JPEG 2000.

    data: the codestream.
    """
    at, found, end = 2, 0, 0
    while data[at + 1] != 0xD9:
        marker, begin = data[at + 1], at
        if marker == 0x93:                                                # data of a tile part, up to its end
            found, at = found + end - at - 2, end
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0x90:                                                # a tile part begins
            end = begin + int.from_bytes(data[begin + 6 : begin + 10], "big")
    return found


def attempts(format: Format, pixels: np.ndarray, smaller: Sequence[int] = SMALLER) -> list[Attempt]:
    """An image at every quality and every size.

    format: of the files.
    pixels: the image, (H, W, C) uint8.
    smaller: how many times smaller its sides may be.
    """
    return [attempt(format, pixels, quality, factor) for factor in smaller for quality in format.qualities]


def attempt(format: Format, pixels: np.ndarray, quality: float, factor: int = 1) -> Attempt:
    """An image at one quality and one size.

    format: of the file.
    pixels: the image, (H, W, C) uint8.
    quality: of the file.
    factor: how many times smaller its sides are in the file, 1 by default.
    """
    height, width = pixels.shape[:2]
    data = format.encode(_resized(pixels, max(1, height // factor), max(1, width // factor)), quality)
    picture = _resized(format.decode(data), height, width)
    return Attempt(picture, psnr_of(picture / 255, pixels / 255), 8 * len(data), 8 * format.payload(data))


def _resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    if pixels.shape[:2] == (height, width):
        return pixels
    channels = [Image.fromarray(np.ascontiguousarray(each)) for each in np.moveaxis(pixels, 2, 0)]
    return np.stack([np.asarray(each.resize((width, height), Image.Resampling.LANCZOS)) for each in channels], 2)


def nearest_within(found: Sequence[Attempt], bits: float, whole: bool) -> tuple[Attempt, bool]:
    """The best file within a rate, and whether there is one; if not, the smallest.

    found: all files of an image.
    bits: the rate.
    whole: whether the file counts; else its payload.
    """
    def size(each: Attempt) -> int:
        return each.bits if whole else each.payload

    within = [each for each in found if size(each) <= bits]
    return (max(within, key=lambda each: each.psnr), True) if within else (min(found, key=size), False)


def by_format(format: Format, images: Tensor, levels: int, rates: Sequence[float], whole: bool = False) -> list[AtRate]:
    """Images at each rate as files of a format.

    format: of the files.
    images: levels (N, C, H, W).
    levels: how many there are.
    rates: bits per image.
    whole: whether the files are to be within the rates; False (default): their payloads.
    """
    pixels = requantise(images.numpy(), levels, 256).astype(np.uint8).transpose(0, 2, 3, 1)
    found = [attempts(format, image) for image in pixels]
    return [at_rate(format.name, *zip(*(nearest_within(each, bits, whole) for each in found), strict=True)) for bits in rates]


def at_rate(name: str, found: Sequence[Attempt], within: Sequence[bool]) -> AtRate:
    """The files of several images.

    name: what coded them.
    found: a file of each.
    within: whether each is within the rate.
    """
    pictures = torch.from_numpy(np.stack([each.picture for each in found])).movedim(-1, 1).float() / 255
    psnrs, bits, payload = (np.array([getattr(each, name) for each in found]) for name in ("psnr", "bits", "payload"))
    return AtRate(name, pictures, psnrs, bits, payload, np.array(within))


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def by_model(
    model: PixelCanvas,
    images: Tensor,
    rates: Sequence[float],
    whole: bool = False,
    condition: Tensor | None = None,
    seed: int = 0,
    effort: int = 0,
) -> Iterator[tuple[AtRate, AtRate]]:
    """Images at each rate as progressive files, one of each image, that are cut.

    model: as ``compress_pictures`` takes it.
    images: levels (N, C, H, W).
    rates: bits per image.
    whole: whether the files are to be within the rates; False (default): their streams.
    condition: one per image; None (default) for an unconditional model.
    seed: of what is drawn for the first image, 0 by default; that of the next is 1 more.
    effort: as for ``compress_pictures``, with a file for each rate; 0 (default): one file that is cut at each.

    Yields for each rate the images with the rest drawn, and with the rest at the mean of the prior.
    """
    given = [None] * len(images) if condition is None else list(condition[:, None])
    pairs = list(zip(images.split(1), given, strict=True))
    files = [compress_pictures(model, *each, progress=False) for each in pairs]
    known: dict[tuple[int, bytes], tuple[int, list[Tensor]]] = {}         # files that are whole at several rates are decoded once
    for bits in rates:
        found, sizes, payload = {rest: [] for rest in RESTS}, [], []
        for number, (file, each) in enumerate(zip(files, pairs, strict=True)):
            header = len(file.header.bytes)
            limit = max(header, int(bits // 8) + (0 if whole else header))
            data = file.data[:limit]
            if effort:
                data = compress_pictures(model, *each, bits=8 * limit, effort=effort, progress=False).data
            if (number, data) not in known:
                unpacking = Unpacking(data, model, each[1]).finish()
                pictures = [unpacking.pictures(rest, seed + number).images for rest in RESTS]
                known[number, data] = len(data) - len(unpacking.header.bytes), pictures
            for rest, picture in zip(RESTS, known[number, data][1], strict=True):
                found[rest].append(picture)
            sizes.append(8 * len(data))
            payload.append(8 * known[number, data][0])
        both = np.array(sizes), np.array(payload)
        name, within = type(model).__name__, both[0 if whole else 1] <= bits
        drawn, mean = (_seen(model, images, f"{name}, {RESTS[rest]}", torch.cat(found[rest]), *both, within) for rest in RESTS)
        yield drawn, mean


def _seen(
    model: PixelCanvas, images: Tensor, name: str, pictures: Tensor, bits: np.ndarray, payload: np.ndarray, within: np.ndarray
) -> AtRate:
    targets = images.double().numpy() / (model.spec.levels - 1)
    errors = np.array([psnr_of(*pair) for pair in zip(pictures.double().numpy(), targets, strict=True)])
    return AtRate(name, pictures, errors, bits, payload, within)


def nearest_model(found: Sequence[tuple[AtRate, AtRate]]) -> tuple[AtRate, AtRate]:
    """Of several models at one rate, the one whose pictures with the rest at the mean are nearest.

    found: of each model, as ``by_model`` yields it.
    """
    return max(found, key=lambda each: float(each[1].psnr.mean()))
