"""How an image of a set on disk is made: opened by its number, prepared, binarised and cut, to the bit as a set in memory holds it.

What a set in memory draws once for all images, in their order, is found for one image in this way: static binarisation from states of
the generator kept every ``STRIDE`` images, corners of crops from all of them at once, 8 bytes each. Both depend on the sizes of the images
before; where sizes differ, an image has a draw of its own instead (``noise.py``), which a set in memory does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from ..config import DataOptions
from ..noise import BINARISATION, CROP, words
from ..protocol import ImageSpec
from .options import binarise, cut, random_corners, requantise
from .reading import Opener, UnreadableImage, read_image

STRIDE = 256                   # images from one kept state of a generator to the next
BROKEN = "replace or remove it, or set skip_broken (--skip-broken; for train --data.skip-broken)"

Rows = range | np.ndarray      # numbers of images


class Reader(Protocol):
    """Images that can be opened by their number.

    stamp: a checksum of what is known without reading images, such as names and sizes.
    """

    stamp: int

    @property
    def groups(self) -> np.ndarray | None:
        """The first image of each group that is read together, and their number at the end, (G + 1,); None = each lies by itself."""
        ...

    def __len__(self) -> int: ...

    def name(self, row: int) -> str:
        """Of an image, as ``Dataset.names`` has it."""
        ...

    def opened(self, rows: np.ndarray) -> Iterator[tuple[str, Opener]]:
        """Images, as a name for messages and what opens each."""
        ...

    def check_memory(self) -> None:
        """Raises ``ValueError`` where what is read together does not fit into memory."""
        ...


@dataclass
class Storage:
    """How the images of a split come from their files.

    reader: of the files.
    rows: of the images of the split in it.
    options: preprocessing.
    part: the split, which seeds what is drawn once for all.
    sizes: (height, width) of the images before they are cropped; None where they differ.
    channels, depth: of all images, the depth before ``options.levels``.
    """

    reader: Reader
    rows: Rows
    options: DataOptions
    part: str
    sizes: tuple[int, int] | None
    channels: int
    depth: int
    draws: _Draws = field(init=False)

    def __post_init__(self) -> None:
        values = 0 if self.sizes is None else self.channels * self.sizes[0] * self.sizes[1]
        self.draws = _Draws(crc32(self.part.encode()), values)
        self._corners: np.ndarray | None = None
        self._lock = Lock()

    @property
    def levels(self) -> int:
        """Of images before they are binarised."""
        return self.options.levels or self.depth

    @property
    def spec(self) -> ImageSpec:
        """Of the images of the set."""
        crop = self.options.crop
        height, width = (crop, crop) if crop is not None else self.sizes or (0, 0)
        return ImageSpec(self.channels, height, width, 2 if self.options.binarise is not None else self.levels)

    def pixels(self, numbers: np.ndarray) -> list[np.ndarray]:
        """Images as they are before anything is drawn, (C, H, W) each.

        numbers: of the images in the split, sorted.

        Raises ``ValueError`` for broken ones, files that are gone, and others than the set consists of.
        """
        try:
            return [self._prepared(name, *read_image(name, opener, self.options))
                    for name, opener in self.reader.opened(at(self.rows, numbers))]  # fmt: skip
        except UnreadableImage as error:
            raise UnreadableImage(f"{error}; {BROKEN}") from None
        except (FileNotFoundError, PermissionError) as error:
            gone = "is gone" if isinstance(error, FileNotFoundError) else "must not be read any more"
            raise UnreadableImage(f"data: {error.filename} {gone}, which was there when the set was opened; put it back as it was, "
                                  "then begin again or resume") from None  # fmt: skip

    def _prepared(self, name: str, pixels: np.ndarray, depth: int) -> np.ndarray:
        """An image, as the others of the set are."""
        self._check(name, pixels, depth)
        pixels = pixels if depth == self.depth else requantise(pixels, depth, self.depth)
        pixels = np.broadcast_to(pixels, (self.channels, *pixels.shape[1:]))
        return pixels if self.options.levels is None else requantise(pixels, self.depth, self.options.levels)

    def _check(self, name: str, pixels: np.ndarray, depth: int) -> None:
        """Raises ``ValueError`` for an image that a set in memory would have been made for, or refused."""
        crop, size = self.options.crop, pixels.shape[1:]
        if crop is None and size != self.sizes:
            ours, theirs = ("{1}x{0}".format(*each) for each in (size, self.sizes or (0, 0)))
            raise ValueError(f"data: {name} has {ours} pixels, others have {theirs}; set size to resize all, or crop to cut parts")
        if crop is not None and crop > min(size):
            raise ValueError(f"data: {name} has only {min(size)} pixels on a side, crop must be at most that, got {crop}")
        if len(pixels) > self.channels:
            raise ValueError(f"data: {name} has {len(pixels)} channels, others have {self.channels}; set grey or colour for all")
        if depth > self.depth:
            raise ValueError(f"data: {name} has {depth} levels, others have {self.depth}; convert it, or hold the set in memory "
                             "(stream=False)")  # fmt: skip

    def read(self, numbers: np.ndarray, fixed: bool) -> Tensor | tuple[Tensor, ...]:
        """Images of the split.

        numbers: of them, in any order.
        fixed: True: as they are when held out; False: as what training draws from, not cropped, and not binarised if that is dynamic.

        Returns (n, C, H, W); a tuple of images where they are of several sizes.
        """
        if len(numbers) == 0:
            spec = self.spec
            return torch.empty(0, *spec.shape, dtype=torch.uint8 if spec.levels <= 256 else torch.int32)
        ascending, back = np.unique(numbers, return_inverse=True)
        images = self.pixels(ascending)
        how, crop = self.options.binarise, self.options.crop
        if how == "threshold":
            images = binarise(images, self.levels, how, 0)
        elif how == "static" or (how == "dynamic" and fixed):
            with self._lock:
                images = [
                    (self.draws.of(int(number), image.shape, self.sizes) * (self.levels - 1) < image).astype(np.uint8)
                    for number, image in zip(ascending, images, strict=True)
                ]
        tensors = [_tensor(image) for image in images]
        if crop is not None and fixed:
            corners = [self._corner(int(number), image.shape[1:]) for number, image in zip(ascending, images, strict=True)]
            return cut(tensors, corners, (crop, crop))[torch.from_numpy(back)]
        if len({image.shape for image in images}) > 1:
            return tuple(tensors[i] for i in back.tolist())
        return torch.stack(tensors)[torch.from_numpy(back)]

    def _corner(self, number: int, size: tuple[int, ...]) -> list[int]:
        """Row and column of the upper left pixel of an image's fixed crop."""
        crop, seed = self.options.crop, crc32(f"crop {self.part}".encode())
        assert crop is not None
        if self.sizes is None or size != self.sizes:
            room = np.array([[side - crop + 1 for side in size]], np.uint64)
            return (words(seed, [number], 2, 0, CROP) * room >> np.uint64(32)).astype(np.int64)[0].tolist()
        with self._lock:
            if self._corners is None:
                self._corners = random_corners(len(self.rows), self.sizes, (crop, crop), seed).astype(np.int32)
        return self._corners[number].tolist()


class _Draws:
    """The uniform numbers of static binarisation, those of image n after those of all before it.

    seed: of the generator.
    values: how many each image has.
    """

    def __init__(self, seed: int, values: int) -> None:
        self.seed, self.values = seed, values
        self.states: list[Any] = []                                       # before image 0, STRIDE, 2 STRIDE, …
        self.random, self.at = np.random.RandomState(seed), 0

    def of(self, number: int, shape: tuple[int, ...], usual: tuple[int, int] | None) -> np.ndarray:
        """Those of an image, float64 of its shape."""
        if shape[1:] != usual:
            drawn = words(self.seed, [number], int(np.prod(shape)), 0, BINARISATION)
            return (drawn * 2.0**-32).reshape(shape)
        if not self.states:
            self.states.append(self.random.get_state(legacy=False))
        if not number // STRIDE * STRIDE <= self.at <= number:            # go on from a kept state
            self.at = min(number // STRIDE, len(self.states) - 1) * STRIDE
            self.random.set_state(self.states[self.at // STRIDE])
        while self.at < number:
            self.random.random_sample(self.values)
            self._passed()
        drawn = self.random.random_sample(shape)
        self._passed()
        return drawn

    def _passed(self) -> None:
        self.at += 1
        if self.at == STRIDE * len(self.states):
            self.states.append(self.random.get_state(legacy=False))


def at(rows: Rows, index: np.ndarray) -> np.ndarray:
    """``rows[index]``, of a range too.

    rows: numbers of images.
    index: of them, integers.
    """
    return rows.start + rows.step * index if isinstance(rows, range) else rows[index]


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.uint8 if values.dtype == np.uint8 else np.int32))
