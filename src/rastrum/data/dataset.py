"""Data sets as integer levels: small ones held whole, as uint8 tensors.

    digits             bundled with the package: 1,797 digits of 8x8 pixels and 17 levels
    mnist, fashion-mnist, binarized-mnist, cifar10, hub:OWNER/NAME, hub:OWNER/NAME:CONFIG    through HF ``datasets`` (extra ``data``)
    omniglot           handwritten characters, white on black, area-averaged from 105 to ``size`` pixels a side (default 28);
                       also through ``data``. Train: the background alphabets, test: the evaluation ones, no labels
    two-digit-mnist, two-digit-mnist-colour, cluttered-mnist    digits of MNIST at random positions on canvases of ``size`` pixels a side
                       (default 60), as many as MNIST has; train and test pictures are made of train and test digits
    placed-mnist       one digit of MNIST, 14x14, on a canvas of ``size`` pixels a side (default 32); conditions: a spatial map of 4x4
                       cells, 10 values each, that says which digit lies about where (``placed_digits.py``)
    dead-leaves, bsds300    patches of ``size`` pixels a side (default 32) at fixed random positions: of generated pictures of disks that
                       occlude one another, and of the Berkeley segmentation set's photographs (train: 200, test: 100; through ``data``)
    moving-mnist       videos of two moving digits (``moving_digits.py``), generated: 1,000 fixed ones, and without end in training
    folder:PATH        images of any common format, of one size, or resized; or one image, which is every split

**Binarised MNIST is three benchmarks**, whose nats cannot be compared:
- static: one draw, each pixel 1 with the probability of its intensity, fixed for all time. The published set is Larochelle's draw,
  ``binarized-mnist``; ``binarise="static"`` is one of ours, with a fixed seed.
- dynamic: a fresh draw each time a training image is used; held-out images are one draw with a fixed seed.
- threshold: 1 where the intensity is at least one half. An easier set: no noise in it.

**Omniglot here is not the set of 28x28 pixels** that the papers on importance-weighted bounds share (Burda's): other pictures, another
split, so its nats cannot be compared with theirs.

**Crops** are drawn in the same way: a fresh position each time a training image is used; a held-out image has one, with a fixed seed.

Folders, the Hub and how the digits are split: ``sources.py``. The arithmetic of preprocessing: ``options.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import count
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from ..config import DataOptions
from ..noise import BINARISATION, CROP, VIDEO, permutation, words
from ..protocol import ConditionSpec, ImageSpec
from .moving_digits import CANVAS as SCREEN
from .moving_digits import FRAMES, SMALLEST, moving_digits, shrunk
from .options import binarise, check_options, cut, random_corners, requantise
from .sources import HUB, OMNIGLOT, VIDEOS, Progress, hub, source_of, stack

SEQUENCES = 1000               # fixed videos of a split


@dataclass(frozen=True)
class Dataset:
    """Images of one split.

    name, split: as ``load_dataset`` takes them. spec: of the images.
    images: uint8 levels (N, *spec.shape).
    labels: class numbers, int64 (N,), or None. classes: their number, 0 without labels. class_names: by number, empty if unknown.
    conditions: what else is known of each image: float32 vectors (N, size) or spatial maps (N, c, h, w), or None.
    originals: only for dynamic binarisation and crops, what ``batches`` draws from: uint8 (N, C, H', W') below ``original_levels``, larger
    than ``spec`` where it crops and of more levels where it binarises; ``images`` is one fixed draw.
    fresh: only for images that are generated without end: makes images of a number of images and a seed, for ``batches``.
    options: the preprocessing that was applied, None = unknown.
    """

    name: str
    split: str
    spec: ImageSpec
    images: Tensor
    labels: Tensor | None = None
    classes: int = 0
    originals: Tensor | None = None
    original_levels: int = 256
    conditions: Tensor | None = None
    fresh: Callable[[int, int], Tensor] | None = None
    class_names: tuple[str, ...] = ()
    options: DataOptions | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def condition_spec(self) -> ConditionSpec | None:
        """What a model can be conditioned on: the vector or map of each image if there is one, else its class, else nothing."""
        if self.conditions is None:
            return None if self.labels is None else ConditionSpec("class", self.classes)
        size = tuple(self.conditions.shape[1:])
        return ConditionSpec("vector", size[0]) if len(size) == 1 else ConditionSpec("map", size)  # pyright: ignore[reportArgumentType]

    def select(self, index: Tensor | slice) -> Dataset:
        """The images at ``index``; a set that generates images without end stays one only if all are kept."""
        if isinstance(index, slice) and index == slice(None):
            return self
        every = {name: getattr(self, name) for name in ("images", "labels", "originals", "conditions")}
        return replace(self, fresh=None, **{name: None if values is None else values[index] for name, values in every.items()})

    def subset(self, count: int | None, seed: int = 0) -> Dataset:
        """A random subset of ``count`` images in the order of the set, the same for the same seed; all of them for None."""
        if count is None or count >= len(self):
            return self
        if count < 1:
            raise ValueError(f"data: expected a number of images of at least 1, got {count}")
        chosen = np.random.RandomState(seed).permutation(len(self))[:count]
        return self.select(torch.from_numpy(np.sort(chosen)))

    def batches(
        self, batch: int, seed: int, conditions: Tensor | None = None, first: int = 0
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Batches without end, in random order: every image once before any is repeated. Batch n needs none of those before it.

        batch: images per batch B.
        seed: of the order and of what is drawn for an image: crop, binarisation, a generated video.
        conditions: one per image of the set, (N, …), such as its labels; None (default) for none.
        first: number of the first batch that is yielded, 0 by default.

        Yields images (B, *spec.shape) uint8 and their conditions (B, …) or None.
        """
        if batch < 1:
            raise ValueError(f"data: expected a batch of at least 1, got {batch}")
        for number in count(first):
            if self.fresh is not None:
                yield self.fresh(batch, int(words(seed, [number % 2**32], 1, number // 2**32, VIDEO)[0, 0])), None
                continue
            epochs, places = np.divmod(np.arange(number * batch, (number + 1) * batch), len(self))
            index = np.concatenate([permutation(seed, int(epoch), len(self))[places[epochs == epoch]] for epoch in np.unique(epochs)])
            chosen = torch.from_numpy(index)
            x = self.images[chosen] if self.originals is None else self._draw(self.originals[chosen], seed, index, epochs)
            yield x, None if conditions is None else conditions[chosen]

    def _draw(self, x: Tensor, seed: int, index: np.ndarray, epochs: np.ndarray) -> Tensor:
        """Fresh images of ``spec`` from originals x (B, C, H', W'), which are the images ``index`` of the set."""
        size = (self.spec.height, self.spec.width)
        if x.shape[-2:] != size:
            rooms = np.array([whole - part + 1 for whole, part in zip(x.shape[-2:], size, strict=True)], np.uint64)
            x = cut(x, (words(seed, index, 2, epochs, CROP) * rooms >> np.uint64(32)).astype(np.int64), size)
        if self.original_levels > self.spec.levels:
            drawn = words(seed, index, x[0].numel(), epochs, BINARISATION).astype(np.uint64) * np.uint64(self.original_levels - 1)
            x = torch.from_numpy((drawn >> np.uint64(32)).astype(np.int32)).view(x.shape).lt(x).to(torch.uint8)
        return x


def load_dataset(name: str, split: str = "train", options: DataOptions | None = None, progress: Progress | None = None) -> Dataset:
    """Read a data set and preprocess it.

    name: as listed at the head of this file. split: "train", "test", "test[:9000]"; a set may have others.
    options: preprocessing; default: none. progress: is called with the fraction read, 0 … 1.

    A split's slice and ``limit`` are taken after a static draw, so a part of a set holds the same images as the whole.

    Raises ``ValueError`` for an unknown name, split or option and for a broken image, naming it; ``OSError`` where reading fails;
    ``ImportError`` where the extra ``data`` is needed.
    """
    options = options or DataOptions()
    match = re.fullmatch(r"([\w.-]+)(?:\[(-?\d*):(-?\d*)\])?", split)
    if match is None:
        raise ValueError(f"data: expected a split like train or test[:9000], got {split!r}")
    part, start, stop = match[1], match[2], match[3]
    check_options(options)
    dataset = _video(name, split, part, options) if name in VIDEOS else _images(name, split, part, options, progress)
    total = len(dataset)
    if options.binarise is not None and name not in VIDEOS:               # a video has two levels already
        dataset = _binarised(dataset, options.binarise, crc32(part.encode()))
    if options.crop is not None:
        dataset = _cropped(dataset, options.crop, crc32(f"crop {part}".encode()))
    chosen = slice(int(start) if start else None, int(stop) if stop else None)
    applied = DataOptions(**{field.name: getattr(options, field.name) for field in fields(DataOptions)})
    dataset = replace(dataset.select(chosen).subset(options.limit), options=applied)
    if len(dataset) == 0:
        raise ValueError(f"data: {name} {split} is empty, {part} has {total} images")
    return dataset


def _images(name: str, split: str, part: str, options: DataOptions, progress: Progress | None) -> Dataset:
    """All of a split, of still images."""
    for option in ("frames", "paths"):
        if getattr(options, option) is not None:
            raise ValueError(f"data: {name} holds still images, {option} is for {', '.join(VIDEOS)}; got {getattr(options, option)!r}")
    if name == "omniglot" and options.size is None:
        options = replace(options, size=OMNIGLOT)
    source = source_of(name, part, options.size)
    pixels, levels = stack(source, options, progress)
    if len(pixels) == 0:
        raise ValueError(f"data: {name} {part} holds no image")
    if options.levels is not None:
        pixels, levels = requantise(pixels, levels, options.levels), options.levels
    images = torch.from_numpy(pixels)
    channels, height, width = images.shape[1:]
    spec = ImageSpec(channels, height, width, levels)
    return Dataset(name, split, spec, images, source.labels, source.classes, conditions=source.conditions, class_names=source.class_names)


def _video(name: str, split: str, part: str, options: DataOptions) -> Dataset:
    """The fixed sequences of a split, and how to make more."""
    size, frames = options.size or SCREEN, options.frames or FRAMES
    if part not in ("train", "test"):
        raise ValueError(f"data: {name} has the splits train, test, got {part!r}")
    if size < SMALLEST:
        raise ValueError(f"data: {name} needs a size of at least {SMALLEST}, got {size}")
    if options.crop is not None:
        raise ValueError(f"data: {name} is not cropped; leave out crop, got {options.crop}")
    if options.binarise in ("static", "dynamic"):
        raise ValueError(f"data: {name} is binarised by threshold only, noise would hide what moves; got {options.binarise!r}")
    pixels, _ = stack(hub(HUB["mnist"][0], None, HUB["mnist"][1], part), DataOptions(), None)
    digits, levels = shrunk(pixels[:, 0], size), 2 if options.binarise else options.levels or 256
    paths = options.paths or "folded"

    def draw(count: int, seed: int) -> Tensor:
        random = np.random.RandomState(seed)                              # numpy promises that this stream never changes
        videos = moving_digits(digits, count, size, frames, random, paths)
        videos = videos if levels == 256 else requantise(videos, 256, levels)
        return torch.from_numpy(videos if frames > 1 else videos[:, 0])

    fixed = draw(SEQUENCES, crc32(f"{name} {part}".encode()))
    return Dataset(name, split, ImageSpec(1, size, size, levels, frames), fixed, fresh=draw if part == "train" else None)


def _binarised(dataset: Dataset, how: str, seed: int) -> Dataset:
    """With two levels; a dynamic set keeps its originals."""
    levels = dataset.spec.levels
    images = torch.from_numpy(binarise(dataset.images.numpy(), levels, how, seed))
    dynamic = {"originals": dataset.images, "original_levels": levels} if how == "dynamic" else {}
    return replace(dataset, spec=replace(dataset.spec, levels=2), images=images, **dynamic)


def _cropped(dataset: Dataset, size: int, seed: int) -> Dataset:
    """A part of each image; the whole images stay as originals."""
    spec, images = dataset.spec, dataset.images
    if dataset.conditions is not None and dataset.conditions.dim() > 2:
        raise ValueError(f"data: {dataset.name} has a spatial map per image, a crop would move what it shows; leave crop out, got {size}")
    if size > min(spec.height, spec.width):
        largest, have = min(spec.height, spec.width), f"{spec.width}x{spec.height}"
        raise ValueError(f"data: {dataset.name} has {have} pixels, crop must be at most {largest}, got {size}")
    corners = random_corners(len(images), (spec.height, spec.width), (size, size), seed)
    originals = {"originals": images, "original_levels": spec.levels} if dataset.originals is None else {}
    return replace(dataset, spec=replace(spec, height=size, width=size), images=cut(images, corners, (size, size)), **originals)
