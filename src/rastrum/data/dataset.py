"""Data sets as integer levels: held whole, as uint8 tensors, or int32 where there are more than 256 levels; or, where they are large,
left on disk (``stored.py``).

    digits             bundled with the package: 1,797 digits of 8x8 pixels and 17 levels
    mnist, fashion-mnist, binarized-mnist, cifar10, hub:OWNER/NAME, hub:OWNER/NAME:CONFIG    through HF ``datasets`` (extra ``data``)
    omniglot           handwritten characters, white on black, area-averaged from 105 to ``size`` pixels a side (default 28).
                       Train: the background alphabets, test: the evaluation ones, no labels; more splits: ``omniglot.py``
    omniglot28         the same drawings as 28x28 pixels of two levels, as the authors of Generative Matching Networks published them: the
                       set behind 90.9, 82.8, 78.8, 76.4, 74.2 and 64.6 nats with 0, 1, 2, 3, 4 and 9 exemplars
    two-digit-mnist, two-digit-mnist-colour, cluttered-mnist    digits of MNIST at random positions on canvases of ``size`` pixels a side
                       (default 60), as many as MNIST has; train and test pictures are made of train and test digits
    placed-mnist       one digit of MNIST, 14x14, on a canvas of ``size`` pixels a side (default 32); conditions: a spatial map of 4x4
                       cells, 10 values each, that says which digit lies about where (``placed_digits.py``)
    described-mnist    MNIST; conditions: a vector of ink, width, height and slant of each digit (``digit_shapes.py``)
    dead-leaves, bsds300    patches of ``size`` pixels a side (default 32) at fixed random positions: of generated pictures of disks that
                       occlude one another, and of the Berkeley segmentation set's photographs (train: 200, test: 100; through ``data``)
    photographs        pieces of photographs in colour, of up to 256x256 pixels; for ``crop`` (``photographs.py``; through ``data``)
    moving-mnist       videos of two moving digits (``moving_digits.py``), generated: 1,000 fixed ones, and without end in training
    PATH, folder:PATH  a folder of images of any common format, of one size, or resized, or cropped; one image, which is every split;
                       an array X.npy, X.npz (``arrays.py``); a folder of parquet files, or X.parquet (``parquet.py``)

**Binarised MNIST is three benchmarks**, whose nats cannot be compared:
- static: one draw, each pixel 1 with the probability of its intensity, fixed for all time. The published set is Larochelle's draw,
  ``binarized-mnist``; ``binarise="static"`` is one of ours, with a fixed seed.
- dynamic: a fresh draw each time a training image is used; held-out images are one draw with a fixed seed.
- threshold: 1 where the intensity is at least one half. An easier set: no noise in it.

**Omniglot here is not the set of 28x28 pixels** that the papers on importance-weighted bounds share (Burda's): other pictures, another
split, so its nats cannot be compared with theirs.

**Exemplars** (``exemplars=k``) are other images of the same character or class, as a spatial map (``exemplars.py``).

**Crops** are drawn in the same way: a fresh position each time a training image is used; a held-out image has one, with a fixed seed.

Folders: ``folders.py``. The Hub and how the digits are split: ``sources.py``. What of a file becomes levels: ``reading.py``. The arithmetic
of preprocessing: ``options.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from ..config import DataOptions
from ..images import with_levels
from ..noise import BINARISATION, CROP, VIDEO, permutation, words
from ..notebook import png, safe, table
from ..protocol import ConditionSpec, ImageSpec, as_tensor, check_levels
from .exemplars import ExemplarSets
from .hub import hub
from .moving_digits import CANVAS as SCREEN
from .moving_digits import FRAMES, SMALLEST, moving_digits, shrunk
from .options import binarise, check_options, cut, random_corners, requantise
from .source import Progress, Source, stack
from .sources import HUB, OMNIGLOT, VIDEOS, source_of
from .stored import HELD, OnDisk, Stored, StoredNames, ahead, store

SEQUENCES = 1000               # fixed videos of a split
EVERY = slice(None)


@dataclass(frozen=True)
class Dataset:
    """Images of one split.

    name, split: as ``load_dataset`` takes them.
    spec: of the images.
    images: levels (N, *spec.shape), whole numbers of any type; kept as uint8, or as int32 where there are more than 256 levels: ``Images``.
        Of a large set they are ``Stored``: a tensor too, which is read from disk where it is indexed.
    labels: class numbers, int64 (N,); None (default) for none.
    classes: number of classes; 0 (default) without labels.
    originals: for dynamic binarisation and crops only, what ``batches`` draws from: (N, C, H', W') below ``original_levels``, larger than
        ``spec`` where it crops and of more levels where it binarises; a tuple of N images where their sizes differ. ``images`` is then one
        fixed draw. None (default) for none.
    original_levels: number of levels of ``originals``, 256 by default.
    conditions: what else is known of each image: float32 vectors (N, size) or spatial maps (N, c, h, w), or sets of exemplars, which
        ``batches`` draws; None (default) for nothing.
    fresh: for images that are generated without end only: makes images from a number of images and a seed, for ``batches``; default None.
    class_names: by class number; empty (default) if unknown.
    options: the preprocessing that was applied; None (default) = unknown.
    notes: what was left out when the images were read, a line each.
    names: of the images: their paths below the folder that they are from, or their numbers in the split; empty (default) if unknown.
    groups: what each image shows where that is more than a class, such as the character of a split: whole numbers (N,); None (default) if
        unknown.

    Raises ``ValueError`` for images, labels, conditions, originals or names of another type, shape, range or number, naming it.
    """

    name: str
    split: str
    spec: ImageSpec
    images: Tensor
    labels: Tensor | None = None
    classes: int = 0
    originals: Tensor | tuple[Tensor, ...] | None = None
    original_levels: int = 256
    conditions: Tensor | ExemplarSets | None = None
    fresh: Callable[[int, int], Tensor] | None = None
    class_names: tuple[str, ...] = ()
    options: DataOptions | None = None
    notes: tuple[str, ...] = ()
    names: Sequence[str] = ()
    groups: Tensor | None = None

    def __post_init__(self) -> None:
        where, count = f"data {self.name!r}", len(self.images)
        if not isinstance(self.images, Stored):
            images = check_levels(self.spec, self.images, f"{where}: images").to(kept_as(self.spec.levels))
            object.__setattr__(self, "images", with_levels(images, self.spec.levels, self.spec.frames > 1))
        if self.labels is not None:
            labels = as_tensor(f"{where}: labels", self.labels)
            if labels.shape != (count,) or labels.is_floating_point() or labels.dtype == torch.bool:
                expected = f"expected {count} whole numbers, one per image"
                raise ValueError(f"{where}: labels: {expected}, got {labels.dtype} of shape {tuple(labels.shape)}")
            labels = labels.to(torch.int64)
            if count and (int(labels.min()) < 0 or int(labels.max()) >= self.classes):
                found = f"{int(labels.min())} … {int(labels.max())}"
                raise ValueError(f"{where}: labels must lie in 0 … classes − 1, got {found} with classes={self.classes}")
            object.__setattr__(self, "labels", labels)
        if self.conditions is not None and (len(self.conditions) != count or not self.conditions.is_floating_point()):
            found = f"{getattr(self.conditions, 'dtype', 'sets')} of shape {tuple(self.conditions.shape)}"
            raise ValueError(f"{where}: conditions: expected {count} vectors or spatial maps of floats, got {found}")
        if self.names and len(self.names) != count:
            raise ValueError(f"{where}: names: expected {count}, one per image, got {len(self.names)}")
        if self.originals is not None:
            if len(self.originals) != count or self.spec.frames > 1:
                raise ValueError(f"{where}: originals: expected {count} still images, one per image, got {len(self.originals)}")
            whole = self.originals if isinstance(self.originals, tuple) else (self.originals,)
            for each in whole if count and not isinstance(self.originals, Stored) else ():
                height, width = each.shape[-2:]
                spec = ImageSpec(self.spec.channels, height, width, self.original_levels)
                check_levels(spec, each[None] if isinstance(self.originals, tuple) else each, f"{where}: originals")

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        classes = f", {self.classes} classes" if self.classes else ""
        return f"Dataset({self.name!r}, {self.split!r}: {len(self):,} images, {self.spec.text}{classes})"

    @safe
    def _repr_html_(self) -> str:
        counts = None if self.labels is None else torch.bincount(self.labels, minlength=self.classes).tolist()
        names = self.class_names or tuple(map(str, range(self.classes)))
        condition = None if self.conditions is None else self.condition_spec
        few = "" if counts is None else ", ".join(f"{name}: {n:,}" for name, n in list(zip(names, counts, strict=True))[:20])
        rows = {
            "images": f"{len(self):,}{' and more without end' if self.fresh is not None else ''}",
            "size": self.spec.text,
            "classes": few + (f" and {self.classes - 20} more" if self.classes > 20 else ""),
            "condition": condition and f"{condition.kind}, size {' x '.join(map(str, condition.shape))}",
            "preparation": None if self.options is None else str(self.options) or "none",
            "left out": "; ".join(self.notes),
        }
        return table(f"{self.name} {self.split}", rows, png(self))

    @property
    def condition_spec(self) -> ConditionSpec | None:
        """What a model can be conditioned on: the vector or map of each image if there is one, else its class, else nothing."""
        if self.conditions is None:
            return None if self.labels is None else ConditionSpec("class", self.classes)
        size = tuple(self.conditions.shape[1:])
        return ConditionSpec("vector", size[0]) if len(size) == 1 else ConditionSpec("map", size)  # pyright: ignore[reportArgumentType]

    def select(self, index: Tensor | slice) -> Dataset:
        """Some of the images; a set that generates images without end stays one only if all are kept.

        index: integers (n,) or a slice.
        """
        if isinstance(index, slice) and index == slice(None):
            return self
        every = {name: getattr(self, name) for name in ("images", "labels", "originals", "conditions", "groups", "names")}
        chosen = {name: _at(values, index) for name, values in every.items() if values is not None and len(values)}
        return replace(self, fresh=None, **chosen)

    def subset(self, count: int | None, seed: int = 0) -> Dataset:
        """A random subset in the order of the set, the same for the same seed.

        count: number of images, at least 1; None, or as many as there are, gives all.
        seed: of the choice, 0 by default.
        """
        if count is None or count >= len(self):
            return self
        if count < 1:
            raise ValueError(f"data: expected a number of images of at least 1, got {count}")
        chosen = np.random.RandomState(seed).permutation(len(self))[:count]
        return self.select(torch.from_numpy(np.sort(chosen)))

    def batches(
        self, batch: int, seed: int, conditions: Tensor | ExemplarSets | None = None, first: int = 0, part: slice = EVERY
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Batches without end, in random order: every image once before any is repeated. Batch n needs none of those before it.

        batch: images per batch B.
        seed: of the order and of what is drawn for an image: crop, binarisation, exemplars, a generated video.
        conditions: one per image of the set, (N, …), such as its labels, or sets of exemplars, which are drawn; None (default) for none.
        first: number of the first batch that is yielded, 0 by default.
        part: images of each batch that are made, all by default: one of several processes needs only its own.

        Yields images (B, *spec.shape) uint8 and their conditions (B, …) or None.
        """
        if batch < 1:
            raise ValueError(f"data: expected a batch of at least 1, got {batch}")

        def made(number: int) -> tuple[Tensor, Tensor | None]:
            return self._batch(number, batch, seed, conditions, part)

        yield from ahead(made, first) if isinstance(self.images, Stored) else map(made, count(first))

    def _batch(
        self, number: int, batch: int, seed: int, conditions: Tensor | ExemplarSets | None, part: slice
    ) -> tuple[Tensor, Tensor | None]:
        """Batch ``number`` of ``batches``, or part of it."""
        if self.fresh is not None:
            return self.fresh(batch, int(words(seed, [number % 2**32], 1, number // 2**32, VIDEO)[0, 0]))[part], None
        epochs, places = np.divmod(np.arange(number * batch, (number + 1) * batch)[part], len(self))
        index = np.concatenate([self._order(seed, int(epoch), places[epochs == epoch]) for epoch in np.unique(epochs)])
        chosen = torch.from_numpy(index)
        if self.originals is not None:
            whole = self.originals.at(chosen) if isinstance(self.originals, Stored) else _at(self.originals, chosen)
            x = self._draw(whole, seed, index, epochs)
        else:
            x = as_tensor("images", self.images[chosen])                  # plain, whatever they are in a notebook
        if isinstance(conditions, ExemplarSets):
            return x, conditions.draw(index, seed, epochs)
        return x, None if conditions is None else conditions[chosen]

    def _order(self, seed: int, epoch: int, places: np.ndarray) -> np.ndarray:
        """Which images stand at some places of an epoch."""
        return self.images.order(seed, epoch, places) if isinstance(self.images, Stored) else permutation(seed, epoch, len(self))[places]

    def held(self) -> Dataset:
        """The same images in memory, as they are scored, if they take at most ``HELD`` bytes; else as they are."""
        if not isinstance(self.images, Stored) or self.images.numel() * self.images.element_size() > HELD:
            return self
        return replace(self, images=self.images.read(), originals=None, names=tuple(self.names))

    def _draw(self, x: Tensor | tuple[Tensor, ...], seed: int, index: np.ndarray, epochs: np.ndarray) -> Tensor:
        """Fresh images of ``spec`` from originals x (B, C, H', W') or B of several sizes, which are the images ``index`` of the set."""
        size = (self.spec.height, self.spec.width)
        rooms = np.array([image.shape[-2:] for image in x], np.uint64) - np.array(size, np.uint64) + np.uint64(1)
        if isinstance(x, tuple) or (rooms > 1).any():
            x = cut(x, (words(seed, index, 2, epochs, CROP) * rooms >> np.uint64(32)).astype(np.int64), size)
        if self.original_levels > self.spec.levels:
            drawn = words(seed, index, x[0].numel(), epochs, BINARISATION).astype(np.uint64) * np.uint64(self.original_levels - 1)
            x = torch.from_numpy((drawn >> np.uint64(32)).astype(np.int32)).view(x.shape).lt(x).to(torch.uint8)
        return x


def kept_as(levels: int) -> torch.dtype:
    """The type of the images of a data set.

    levels: number of levels.
    """
    return torch.uint8 if levels <= 256 else torch.int32


def _at(values: Any, index: Tensor | slice) -> Any:
    """Those at ``index``, of a tensor, of sets of exemplars, of a tuple, or of what is on disk, which stays there."""
    if isinstance(values, ExemplarSets):
        return values.select(index)
    if isinstance(values, OnDisk):
        return values.part(index)
    if not isinstance(values, tuple):
        return values[index]
    return values[index] if isinstance(index, slice) else tuple(values[i] for i in torch.arange(len(values))[index].tolist())


def load_dataset(name: str, split: str = "train", options: DataOptions | None = None, progress: Progress | None = None) -> Dataset:
    """Read a data set and preprocess it.

    name: as listed at the head of this file, or the path of a folder, an image or an array.
    split: "train" (default), "test", or a part of one such as "test[:9000]"; a set may have others.
    options: preprocessing; None (default) for none.
    progress: called with the fraction read, 0 … 1; None (default) for nothing.

    A split's slice and ``limit`` are taken after a static draw, so a part of a set holds the same images as the whole.

    Raises ``ValueError`` for an unknown name, split or option and for a broken image, naming it; ``OSError`` where reading fails;
    ``ImportError`` where the extra ``data`` is needed.
    """
    options = options or DataOptions()
    if name.startswith("hub:") and {".", ".."} & set(re.split("[/:]", name)):
        raise ValueError(f"data: expected hub:OWNER/NAME, got {name!r}")  # it would leave the mirror
    part, chosen = parse_split(split)
    check_options(options)
    dataset = _video(name, split, part, options) if name in VIDEOS else _images(name, split, part, options, progress)
    total = len(dataset)
    done = dataset.originals is not None or isinstance(dataset.images, Stored)    # images of several sizes and on disk are drawn already
    if options.binarise is not None and name not in VIDEOS and not done:  # a video has two levels already
        dataset = _binarised(dataset, options.binarise, _binary_seed(part))
    if options.crop is not None and not done:
        dataset = _cropped(dataset, options.crop, _crop_seed(part))
    if options.exemplars is not None:
        dataset = _with_exemplars(dataset, options)
    dataset = replace(dataset.select(chosen).subset(options.limit), options=options.plain())
    if len(dataset) == 0:
        raise ValueError(f"data: {name} {split} is empty, {part} has {total} images")
    return dataset


def parse_split(split: str) -> tuple[str, slice]:
    """The split and the part of it that is meant by a name such as train or test[:9000].

    split: the name.

    Raises ``ValueError`` for another form.
    """
    match = re.fullmatch(r"([\w.-]+)(?:\[(-?\d*):(-?\d*)\])?", split)
    if match is None:
        raise ValueError(f"data: expected a split like train or test[:9000], got {split!r}")
    return match[1], slice(*(int(number) if number else None for number in match.groups()[1:]))


def _images(name: str, split: str, part: str, options: DataOptions, progress: Progress | None) -> Dataset:
    """All of a split, of still images."""
    for option in ("frames", "paths"):
        if getattr(options, option) is not None:
            raise ValueError(f"data: {name} holds still images, {option} is for {', '.join(VIDEOS)}; got {getattr(options, option)!r}")
    if name == "omniglot" and options.size is None:
        options = replace(options, size=OMNIGLOT)
    source = source_of(name, part, options)
    if source.streams(options):
        return _on_disk(name, split, part, source, options, progress)
    if options.stream:
        raise ValueError(f"data: {name} is neither a folder nor made of parquet files, so it is held in memory; leave out stream")
    found, levels, kept, notes = stack(source, options, progress)
    if len(found) == 0:
        raise ValueError(f"data: {name} {part} holds no image" + (f"; {notes[1]}" if notes else ""))
    if options.levels is not None:
        found, levels = [requantise(image, levels, options.levels) for image in found], options.levels
    labels, conditions, groups = (None if of is None else of[kept] for of in (source.labels, source.conditions, source.groups))
    facts = {"classes": source.classes, "conditions": conditions, "groups": groups, "class_names": source.class_names}
    facts["notes"] = (*source.notes, *notes)
    facts["names"] = tuple(source.names[i] if source.names else str(i) for i in kept)
    if len({image.shape for image in found}) > 1:
        images, originals, original_levels = _cropped_sizes(found, levels, options, part)
        levels = levels if options.binarise is None else 2
        facts |= {"originals": originals, "original_levels": original_levels}
    else:
        images = _tensor(np.stack(found))
    channels, height, width = images.shape[1:]
    return Dataset(name, split, ImageSpec(channels, height, width, levels), images, labels, **facts)


def _on_disk(name: str, split: str, part: str, source: Source, options: DataOptions, progress: Progress | None) -> Dataset:
    """All of a split that is not held in memory: already binarised and cropped as the options say."""
    assert source.reader is not None
    files, kept, notes = store(source.reader, source.rows, options, part, progress)
    numbers, dynamic = range(len(kept)), options.binarise == "dynamic"
    originals = Stored.of(files, numbers, fixed=False) if dynamic or options.crop is not None else None
    levels = 256 if originals is None else files.levels if dynamic or options.binarise is None else 2
    return Dataset(
        name, split, files.spec, Stored.of(files, numbers), None if source.labels is None else source.labels[kept], source.classes,
        originals=originals, original_levels=levels,
        class_names=source.class_names, notes=(*source.notes, *notes), names=StoredNames(source.reader, files.rows),
    )  # fmt: skip


def _tensor(values: np.ndarray) -> Tensor:
    """As the images of a data set are kept."""
    kept = np.uint8 if values.dtype == np.uint8 else np.int32
    return torch.from_numpy(values.astype(kept, copy=values.dtype != kept or not values.flags.writeable))


def _binary_seed(part: str) -> int:
    return crc32(part.encode())


def _crop_seed(part: str) -> int:
    return crc32(f"crop {part}".encode())


def _cropped_sizes(found: list[np.ndarray], levels: int, options: DataOptions, part: str) -> tuple[Tensor, tuple[Tensor, ...], int]:
    """Binarised if asked for, and cropped, where sizes differ: the images, what they are drawn from, and the levels of that."""
    size, how = options.crop, options.binarise
    assert size is not None
    smallest = min(min(image.shape[1:]) for image in found)
    if size > smallest:
        raise ValueError(f"data: one of the images has only {smallest} pixels on a side, crop must be at most that, got {size}")
    drawn = found if how is None else binarise(found, levels, how, _binary_seed(part))
    rooms = np.array([(image.shape[1] - size + 1, image.shape[2] - size + 1) for image in found])
    corners = np.random.RandomState(_crop_seed(part)).randint(0, rooms)
    images = cut([_tensor(image) for image in drawn], corners, (size, size))
    fixed = how in ("static", "threshold")
    return images, tuple(_tensor(image) for image in (drawn if fixed else found)), 2 if fixed else levels


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
    pixels = stack(hub(HUB["mnist"][0], None, HUB["mnist"][1], part), DataOptions(), None).together
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
    images = torch.from_numpy(np.stack(binarise(dataset.images.numpy(), levels, how, seed)))
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


def _with_exemplars(dataset: Dataset, options: DataOptions) -> Dataset:
    """Each image has others of its group, or else of its class, as its condition."""
    groups = dataset.labels if dataset.groups is None else dataset.groups
    if groups is None or dataset.spec.frames > 1:
        have = "does not say which images show the same thing"
        raise ValueError(f"data: {dataset.name} {have}, so none is another's exemplar; take omniglot, omniglot28 or a set with classes")
    if options.crop is not None:
        raise ValueError(f"data: exemplars are whole images, crop={options.crop} cuts them; leave one out")
    assert options.exemplars is not None
    images, index = as_tensor("images", dataset.images), torch.arange(len(dataset))
    sets = ExemplarSets(images, dataset.spec.levels, groups, index, options.exemplars, options.exemplars_shown)
    return replace(dataset, conditions=sets)
