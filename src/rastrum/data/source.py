"""Images of a split that are not opened yet, and their pixels as levels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from ..config import DataOptions
from .options import requantise
from .reading import Opener, UnreadableImage, read_image
from .storage import BROKEN, STRIDE, Reader, Rows
from .stored import HELD, StoredNames, decoded_bytes

if TYPE_CHECKING:
    from PIL import Image

Progress = Callable[[float], object]  # takes the fraction read, 0 … 1


@dataclass
class Source:
    """Images of a split, not opened yet.

    images: pairs of a name for messages and a function that opens the image.
    count: number of images N.
    labels, classes, conditions, class_names, notes, names, groups: as for ``Dataset``.
    columns: further columns of a Hub set, by name.
    levels: of an 8-bit channel; 0 (default) = as the image says.
    reader, rows: what opens any of the images by its number, and their numbers in it; None (default) where that cannot be.
    """

    images: Iterable[tuple[str, Opener]]
    count: int
    labels: Tensor | None
    classes: int
    levels: int = 0
    conditions: Tensor | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    names: Sequence[str] = ()
    groups: Tensor | None = None
    columns: dict[str, list[Any]] = field(default_factory=dict)
    reader: Reader | None = None
    rows: Rows = range(0)

    def streams(self, options: DataOptions) -> bool:
        """Whether the images stay on disk: as ``options.stream`` says, else where they would take more than ``HELD`` bytes.

        options: preprocessing.
        """
        if self.reader is None or options.stream is not None:
            return self.reader is not None and bool(options.stream)
        return decoded_bytes(self.reader, self.rows, options) > HELD


def read_by(
    reader: Reader, rows: Rows, labels: Tensor | None, classes: int, class_names: tuple[str, ...], notes: tuple[str, ...] = ()
) -> Source:
    """Images that a reader opens.

    reader: of any image by its number.
    rows: numbers of the images in it.
    labels, classes, class_names, notes: as for ``Dataset``.
    """
    images = (image for start in range(0, len(rows), STRIDE) for image in reader.opened(np.asarray(rows[start : start + STRIDE])))
    names = StoredNames(reader, rows)
    return Source(images, len(rows), labels, classes, class_names=class_names, notes=notes, names=names, reader=reader, rows=rows)


def picture_of(opener: Opener) -> Image.Image:
    """Opened, where it is a picture rather than an array.

    opener: of an image.
    """
    picture = opener()
    assert not isinstance(picture, np.ndarray)
    return picture


class Stacked(NamedTuple):
    """The images of a source, read.

    images: (C, H, W) each, of one size unless they are to be cropped; uint8, or uint16 above 256 levels.
    levels: of all of them.
    kept: numbers of the images that could be read.
    notes: those that could not be read, a line each.
    """

    images: list[np.ndarray]
    levels: int
    kept: list[int]
    notes: tuple[str, ...] = ()

    @property
    def together(self) -> np.ndarray:
        """All of one size, (N, C, H, W)."""
        return np.stack(self.images)


def stack(source: Source, options: DataOptions, progress: Progress | None) -> Stacked:
    """All images of a source, with as many channels and levels as the one that has most.

    source: opened here, one image after another.
    options: grey and size are applied.
    progress: called with the fraction read, 0 … 1; None for nothing.

    Raises ``ValueError`` for a broken image, or one of another size than the first, unless the options say to leave it out or to crop.
    """
    found: list[np.ndarray] = []
    depths: list[int] = []
    kept, broken = [], []
    shape, first = (0, 0), ""
    for i, (name, opener) in enumerate(source.images):
        if progress is not None and (i % 100 == 99 or i + 1 == source.count):
            progress((i + 1) / source.count)
        try:
            pixels, depth = read_image(name, opener, options, source.levels)
        except UnreadableImage as error:
            if not options.skip_broken:
                raise UnreadableImage(f"{error}; {BROKEN}") from None
            broken.append(str(error).removeprefix("data: "))
            continue
        if not found:
            shape, first = pixels.shape[1:], name
        if pixels.shape[1:] != shape and options.crop is None:
            ours, theirs = ("{1}x{0}".format(*size) for size in (pixels.shape[1:], shape))
            raise ValueError(f"data: {name} has {ours} pixels, {first} has {theirs}; set size to resize all, or crop to cut parts")
        found.append(pixels)
        depths.append(depth)
        kept.append(i)
    levels, channels = max(depths, default=2), max(map(len, found), default=1)
    for i, (pixels, depth) in enumerate(zip(found, depths, strict=True)):
        pixels = pixels if depth == levels else requantise(pixels, depth, levels)
        pixels = pixels.astype(np.uint8 if levels <= 256 else np.uint16, copy=False)
        found[i] = np.broadcast_to(pixels, (channels, *pixels.shape[1:]))
    notes = (f"{len(broken)} of {source.count} images cannot be read and are left out:", *broken) if broken else ()
    return Stacked(found, levels, kept, notes)
