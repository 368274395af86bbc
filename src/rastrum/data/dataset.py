"""Data sets as integer levels: small ones held whole, as uint8 tensors.

    digits             in the package: 1,797 digits of 8x8 pixels and 17 levels
    mnist, fashion-mnist, binarized-mnist, cifar10, hub:OWNER/NAME, hub:OWNER/NAME:CONFIG    through HF ``datasets`` (extra ``data``)
    omniglot           handwritten characters, white on black, area-averaged from 105 to ``size`` pixels a side (28 if not said);
                       also through ``data``. Train: the background alphabets, test: the evaluation ones, no labels
    two-digit-mnist, two-digit-mnist-colour, cluttered-mnist    digits of MNIST placed at random on canvases of ``size`` pixels a side (60
                       if not said), as many as MNIST has; train and test pictures are made of train and test digits
    placed-mnist       one digit of MNIST, 14x14, on a canvas of ``size`` pixels a side (32 if not said); conditions: a map of 4x4 cells,
                       10 numbers each, that says which digit lies about where (``data_placed.py``)
    dead-leaves, bsds300    patches of ``size`` pixels a side (32 if not said) at fixed random places: of pictures of disks that occlude one
                       another, made here, and of the Berkeley segmentation set's photographs (train: 200, test: 100; also through ``data``)
    folder:PATH        images of any common format, of one size, or resized; or one image, which is every split

**Binarised MNIST is three benchmarks**, whose nats do not compare:
- static: one draw, each pixel 1 with the probability of its intensity, fixed for ever. The published set is Larochelle's draw,
  ``binarized-mnist``; ``binarise="static"`` is one of ours, with a fixed seed.
- dynamic: a fresh draw each time a training image is used; held-out images are one draw with a fixed seed.
- threshold: 1 where the intensity is at least one half. An easier set: no noise in it.

**Omniglot here is not the set of 28x28 pixels** that the papers on importance-weighted bounds share (Burda's): other pictures, another
split, so its nats do not compare with theirs.

**Crops** are drawn in the same way: a fresh place each time a training image is used; a held-out image has one, with a fixed seed.

Folders, the Hub and how the digits are split: ``data_sources.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from ..config import DataOptions
from ..protocol import ConditionSpec, ImageSpec
from .moving_digits import CANVAS as SCREEN
from .moving_digits import FRAMES, PATHS, SMALLEST, moving_digits, shrunk
from .sources import HUB, OMNIGLOT, VIDEOS, Progress, hub, requantise, source_of, stack

SEQUENCES = 1000               # of videos, that a split fixes
THRESHOLDED = ("placed-mnist", *VIDEOS)    # two levels of them are ink from half intensity on, where nothing else is said
# What a card must say about the data.
NOTICES = {
    "digits": 'Data: "Optical Recognition of Handwritten Digits", E. Alpaydin, C. Kaynak; UCI Machine Learning Repository 1998, CC BY 4.0.',
    "bsds300": "Data: Berkeley Segmentation Data Set, 300 photographs; D. Martin, C. Fowlkes, D. Tal, J. Malik, ICCV 2001.",
}


@dataclass(frozen=True)
class Dataset:
    """Images of one split. images: uint8 levels (N, *spec.shape) · labels: int64 (N,) or None · classes: how many, 0 without labels ·

    conditions: what else is known of each image, float32 vectors (N, size) or maps (N, c, h, w), or None.

    originals: only for dynamic binarisation and crops, what ``batches`` draws from: uint8 (N, C, H', W') below ``original_levels``, larger
    than ``spec`` where it crops and of more levels where it binarises; ``images`` is one fixed draw.
    fresh: only for images that are made here without end: ``batches`` takes what it makes of a number of images and a seed.
    class_names: of the classes 0, 1, …, empty where they are unknown. options: how the images were preprocessed, None = unknown.
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
        """What a model can be told of each image: its vector or map where there is one, else its class, else nothing."""
        if self.conditions is None:
            return None if self.labels is None else ConditionSpec("class", self.classes)
        size = tuple(self.conditions.shape[1:])
        return ConditionSpec("vector", size[0]) if len(size) == 1 else ConditionSpec("map", size)  # pyright: ignore[reportArgumentType]

    def select(self, index: Tensor | slice) -> Dataset:
        """The images at ``index``, and no others: where all are kept, new ones may still be made."""
        if isinstance(index, slice) and index == slice(None):
            return self
        every = {name: getattr(self, name) for name in ("images", "labels", "originals", "conditions")}
        return replace(self, fresh=None, **{name: None if values is None else values[index] for name, values in every.items()})

    def subset(self, count: int | None, seed: int = 0) -> Dataset:
        """A random subset, in the order of the set; the same for the same seed. None, or no fewer than there are: all."""
        if count is None or count >= len(self):
            return self
        if count < 1:
            raise ValueError(f"data: expected a number of images of at least 1, got {count}")
        chosen = np.random.RandomState(seed).permutation(len(self))[:count]
        return self.select(torch.from_numpy(np.sort(chosen)))

    def batches(
        self, batch: int, generator: torch.Generator, conditions: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Batches without end, in random order: every image once before any is repeated.

        batch: images per batch B.
        generator: the only source of randomness.
        conditions: one per image of the set, (N, …), such as its labels; None (default) for none.

        Yields images (B, *spec.shape) uint8 and their conditions (B, …) or None.
        """
        if batch < 1:
            raise ValueError(f"data: expected a batch of at least 1, got {batch}")
        while self.fresh is not None:
            yield self.fresh(batch, int(torch.randint(2**31, (), generator=generator))), None
        waiting = torch.empty(0, dtype=torch.int64)
        while True:
            while len(waiting) < batch:
                waiting = torch.cat([waiting, torch.randperm(len(self), generator=generator)])
            index, waiting = waiting[:batch], waiting[batch:]
            x = self.images[index] if self.originals is None else self._draw(self.originals[index], generator)
            yield x, None if conditions is None else conditions[index]

    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Fresh images of ``spec`` from originals x (B, C, H', W')."""
        size = (self.spec.height, self.spec.width)
        if x.shape[-2:] != size:
            room = [whole - part + 1 for whole, part in zip(x.shape[-2:], size, strict=True)]
            corners = torch.stack([torch.randint(places, (len(x),), generator=generator) for places in room], 1)
            x = _cut(x, corners, size)
        if self.original_levels > self.spec.levels:
            chance = x.float() / (self.original_levels - 1)
            x = (torch.rand(chance.shape, generator=generator) < chance).to(torch.uint8)
        return x


def load_dataset(name: str, split: str = "train", options: DataOptions | None = None, progress: Progress | None = None) -> Dataset:
    """Read a split ("train", "test", "test[:9000]"; a set may have others) of the data set ``name`` and apply ``options``.

    A split's slice and ``limit`` are taken after a static draw, so a part of a set holds the same images as the whole.
    Raises ``ValueError`` for an unknown name, split or option and for a broken image, naming it; ``OSError`` where reading fails;
    ``ImportError`` where the extra ``data`` is needed.
    """
    options = options or DataOptions()
    match = re.fullmatch(r"([\w.-]+)(?:\[(-?\d*):(-?\d*)\])?", split)
    if match is None:
        raise ValueError(f"data: expected a split like train or test[:9000], got {split!r}")
    part, start, stop = match[1], match[2], match[3]
    _check_options(options)
    dataset = _video(name, split, part, options) if name in VIDEOS else _images(name, split, part, options, progress)
    held = len(dataset)
    if options.binarise is not None and name not in VIDEOS:               # a video has two levels already
        dataset = _binarise(dataset, options.binarise, crc32(part.encode()))
    if options.crop is not None:
        dataset = _crop(dataset, options.crop, crc32(f"crop {part}".encode()))
    chosen = slice(int(start) if start else None, int(stop) if stop else None)
    applied = DataOptions(**{field.name: getattr(options, field.name) for field in fields(DataOptions)})
    dataset = replace(dataset.select(chosen).subset(options.limit), options=applied)
    if len(dataset) == 0:
        raise ValueError(f"data: {name} {split} is empty, {part} has {held} images")
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
        raise ValueError(f"data: {name} has two levels by threshold, noise in each frame would hide what moves; got {options.binarise!r}")
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


def _check_options(options: DataOptions) -> None:
    if options.size is not None and options.size < 1:
        raise ValueError(f"data: size must be at least 1, got {options.size}")
    if options.levels is not None and not 2 <= options.levels <= 256:
        raise ValueError(f"data: levels must be between 2 and 256, got {options.levels}")
    if options.levels is not None and options.binarise is not None:
        raise ValueError(f"data: levels={options.levels} and binarise={options.binarise!r} exclude each other; leave one out")
    if options.binarise not in (None, "static", "dynamic", "threshold"):
        raise ValueError(f"data: binarise must be static, dynamic or threshold, got {options.binarise!r}")
    if options.crop is not None and options.crop < 1:
        raise ValueError(f"data: crop must be at least 1, got {options.crop}")
    if options.frames is not None and options.frames < 1:
        raise ValueError(f"data: frames must be at least 1, got {options.frames}")
    if options.paths is not None and options.paths not in PATHS:
        raise ValueError(f"data: paths must be one of {', '.join(PATHS)}, got {options.paths!r}")
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"data: limit must be at least 1, got {options.limit}")


def _binarise(dataset: Dataset, how: str, seed: int) -> Dataset:
    levels, values = dataset.spec.levels, dataset.images.numpy()
    if how == "threshold":
        bits = 2 * values.astype(np.int32) >= levels - 1
    else:
        stream = np.random.RandomState(seed)  # numpy promises that this stream never changes
        bits = np.stack([stream.random_sample(image.shape) * (levels - 1) < image for image in values])
    images = torch.from_numpy(bits.astype(np.uint8))
    dynamic = {"originals": dataset.images, "original_levels": levels} if how == "dynamic" else {}
    return replace(dataset, spec=replace(dataset.spec, levels=2), images=images, **dynamic)


def _crop(dataset: Dataset, size: int, seed: int) -> Dataset:
    spec, images = dataset.spec, dataset.images
    if dataset.conditions is not None and dataset.conditions.dim() > 2:
        raise ValueError(f"data: {dataset.name} says by a map where things lie, and a crop would move them; leave crop out, got {size}")
    if size > min(spec.height, spec.width):
        largest, have = min(spec.height, spec.width), f"{spec.width}x{spec.height}"
        raise ValueError(f"data: {dataset.name} has {have} pixels, crop must be at most {largest}, got {size}")
    stream = np.random.RandomState(seed)  # as above
    corners = stream.randint(0, (spec.height - size + 1, spec.width - size + 1), (len(images), 2))
    fresh = {"originals": images, "original_levels": spec.levels} if dataset.originals is None else {}
    return replace(dataset, spec=replace(spec, height=size, width=size), images=_cut(images, corners, (size, size)), **fresh)


def _cut(images: Tensor, corners: Tensor | np.ndarray, size: tuple[int, int]) -> Tensor:
    """Of each of images (N, C, H, W) the part of ``size`` from its row and column in corners (N, 2) on."""
    height, width = size
    parts = zip(images, corners.tolist(), strict=True)
    return torch.stack([image[:, top : top + height, left : left + width] for image, (top, left) in parts])
