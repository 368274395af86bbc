"""Images that stay where they are stored, and are decoded when they are used: data sets larger than memory.

    reader: image files, or row groups of parquet files ─▶ read_image ─▶ levels ─▶ binarised ─▶ cropped ─▶ (B, C, H, W)

``Stored`` is the tensor of all images of a set that is on disk: indexing reads images, and whatever else needs their values reads all of
them, if they fit into memory. ``Storage`` knows how they are made; they are to the bit what a set in memory holds.

What a set in memory draws once for all images, in their order, is found for one image in this way: static binarisation from states of
the generator kept every ``STRIDE`` images, corners of crops from all of them at once, 8 bytes each. Both depend on the sizes of the images
before; where sizes differ, an image has a draw of its own instead (``noise.py``), which a set in memory does not.

**The order of training** is one that a stored set can be read in. Of row groups: a permutation of them by (seed, epoch), and two at a time
are permuted within. Of files: any order, by ``noise.shuffled``, or ``noise.permutation`` where they are few.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from threading import Lock
from typing import Any, Protocol, TypeVar
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ..config import DataOptions
from ..images import Images, with_levels
from ..memory import ask
from ..noise import BINARISATION, CROP, GROUPS, permutation, shuffled, words
from ..protocol import ImageSpec
from .options import binarise, cut, random_corners, requantise
from .reading import Opener, UnreadableImage, read_image

HELD = 1 << 29                 # bytes of images up to which a set is held in memory
FEW = 1 << 16                  # files up to which their order is made at once
TOGETHER = 2                   # row groups that are permuted together
AHEAD = 2                      # batches that are made while a step is computed
STRIDE = 256                   # images from one kept state of a generator to the next
PLACES, SAMPLE = 4, 8          # places of a set that it is judged by, and images at each
BROKEN = "replace or remove it, or set skip_broken (--skip-broken; for train --data.skip-broken)"

Rows = range | np.ndarray      # numbers of images
Made = TypeVar("Made")


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

        Raises ``ValueError`` for broken ones, and others than the set consists of.
        """
        found = []
        for name, opener in self.reader.opened(_at(self.rows, numbers)):
            try:
                pixels, depth = read_image(name, opener, self.options)
            except UnreadableImage as error:
                raise UnreadableImage(f"{error}; {BROKEN}") from None
            self._check(name, pixels, depth)
            pixels = pixels if depth == self.depth else requantise(pixels, depth, self.depth)
            pixels = np.broadcast_to(pixels, (self.channels, *pixels.shape[1:]))
            found.append(pixels if self.options.levels is None else requantise(pixels, self.depth, self.options.levels))
        return found

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


class OnDisk:
    """What stands for images on disk by their numbers, ``chosen``."""

    chosen: Rows

    def part(self, index: Tensor | slice) -> Any:
        """The same of some of the images, which are not read.

        index: integers (n,) or a slice.
        """
        raise NotImplementedError

    def _some(self, index: Tensor | slice) -> Rows:
        if isinstance(index, slice):
            return self.chosen[index]
        found = index.nonzero()[:, 0].numpy() if index.dtype == torch.bool else index.numpy()
        found = np.where(found < 0, found + len(self.chosen), found)
        if len(found) and not 0 <= found.min() <= found.max() < len(self.chosen):
            raise IndexError(f"data: there are {len(self.chosen)} images, got the index {index.tolist()[:10]}")
        return _at(self.chosen, found)


class StoredNames(OnDisk, Sequence[str]):
    """Names of images on disk, made when they are asked for.

    reader: of the files.
    chosen: rows of the images in it.
    """

    def __init__(self, reader: Reader, chosen: Rows) -> None:
        self.reader, self.chosen = reader, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        return self.reader.name(int(self.chosen[index]))

    def part(self, index: Tensor | slice) -> StoredNames:
        return StoredNames(self.reader, self._some(index))


class Stored(OnDisk, Images):
    """Images on disk as a tensor (N, C, H, W) of levels: its shape is known, an index reads images, anything else reads all of them.

    files: what makes them.
    chosen: their numbers in the split.
    fixed: True: as they are when held out; False: as what training draws from, whose size the tensor does not know.
    """

    files: Storage
    fixed: bool
    by_group: tuple[np.ndarray | None, np.ndarray] | None = None

    @staticmethod
    def of(files: Storage, chosen: Rows, fixed: bool = True) -> Stored:
        """See ``Stored``."""
        spec = files.spec
        kind = torch.uint8 if spec.levels <= 256 else torch.int32
        stored = torch.empty(len(chosen), *spec.shape, dtype=kind, device="meta").as_subclass(Stored)
        stored.levels, stored.video = spec.levels, False
        stored.files, stored.chosen, stored.fixed = files, chosen, fixed
        return stored

    @classmethod
    def __torch_function__(cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in OF_SHAPE:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        args, kwargs = tree_map(lambda x: x.read() if isinstance(x, Stored) else x, (args, kwargs))
        return func(*args, **kwargs)

    def part(self, index: Tensor | slice) -> Stored:
        return Stored.of(self.files, self._some(index), self.fixed)

    def at(self, index: Tensor | slice) -> Tensor | tuple[Tensor, ...]:
        """Images, read: (n, C, H, W), or a tuple of images where they are of several sizes.

        index: integers (n,) or a slice.
        """
        some = self._some(index)
        return self.files.read(np.asarray(some), self.fixed)

    def read(self) -> Images:
        """All of them.

        Raises ``ValueError`` where they do not fit into memory.
        """
        ask(f"data: {len(self):,} images at once", 2 * self.numel() * self.element_size(), "take some of them, as --count or limit do")
        return self[:]

    @property
    def plain(self) -> Tensor:
        return self.read().plain

    def __getitem__(self, index: Any) -> Any:
        first, *rest = index if isinstance(index, tuple) else (index,)
        if isinstance(first, int | np.integer):
            some, first = self.at(torch.tensor([int(first)])), 0
        elif isinstance(first, slice):
            some, first = self.at(first), slice(None)
        elif isinstance(first, Tensor | np.ndarray | list) and (found := torch.as_tensor(first)).dim() == 1:
            some, first = self.at(found), slice(None)
        else:
            return self.read()[index]
        if isinstance(some, tuple):
            raise ValueError("data: these images are of several sizes")
        return with_levels(some, self.levels)[(first, *rest)]

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), STRIDE):
            yield from self[start : start + STRIDE]

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"Stored({' x '.join(map(str, self.shape))}, on disk)"

    def __copy__(self) -> Stored:
        return self

    def __deepcopy__(self, memo: Any) -> Stored:
        return self

    def order(self, seed: int, epoch: int, positions: np.ndarray) -> np.ndarray:
        """Which images stand at some positions of an epoch: each once in all of it.

        seed, epoch: of the training.
        positions: whole numbers (n,), 0 … N − 1.

        Returns their indices, int64 (n,).
        """
        if self.files.reader.groups is None:
            few = len(self) <= FEW
            return permutation(seed, epoch, len(self))[positions] if few else shuffled(seed, epoch, positions, len(self))
        order, begins = self._groups
        groups = permutation(seed, epoch, len(begins) - 1, purpose=GROUPS)
        sizes = np.diff(begins)[groups]
        ends = np.cumsum(sizes)
        index = np.empty(len(positions), np.int64)
        windows = np.searchsorted(ends, positions, "right") // TOGETHER * TOGETHER
        for window in np.unique(windows):
            here, start = windows == window, int(ends[window - 1]) if window else 0
            mine = groups[window : window + TOGETHER]
            members = np.concatenate([np.arange(int(begins[group]), int(begins[group + 1])) for group in mine])
            index[here] = members[permutation(seed, epoch, len(members), start)[positions[here] - start]]
        return index if order is None else order[index]

    @property
    def _groups(self) -> tuple[np.ndarray | None, np.ndarray]:
        """The images in the order of their rows, None if that is theirs; and where in it each row group begins that has some, (G + 1,)."""
        if self.by_group is None:
            groups = self.files.reader.groups
            assert groups is not None
            rows = _at(self.files.rows, np.asarray(self.chosen))
            in_order = bool((rows[1:] > rows[:-1]).all())
            order = None if in_order else np.argsort(rows, kind="stable")
            self.by_group = (order, np.unique(np.searchsorted(rows, groups, sorter=order)))
        return self.by_group

    def checksum(self) -> int:
        """Of what tells the set from another: names and sizes of files and row groups, the preprocessing, and some of the images."""
        files, options = self.files, self.files.options
        what = (files.reader.stamp, files.spec, options.binarise, options.crop, files.depth, len(self))
        some = _at(self.chosen, _sample(len(self)))
        checksum = crc32(np.ascontiguousarray(_at(files.rows, some)).data, crc32(repr(what).encode()))
        for image in files.pixels(np.unique(some)):
            checksum = crc32(np.ascontiguousarray(image).data, checksum)
        return checksum


# What is known of images that are not read.
OF_SHAPE: frozenset[Callable[..., Any]] = frozenset(
    {Tensor.shape.__get__, Tensor.dtype.__get__, Tensor.device.__get__, Tensor.ndim.__get__, Tensor.size, Tensor.dim, Tensor.numel,  # pyright: ignore[reportAttributeAccessIssue]
     Tensor.__len__, Tensor.element_size, Tensor.is_floating_point, Tensor.is_complex, Tensor.requires_grad.__get__,  # pyright: ignore[reportAttributeAccessIssue]
     Tensor.is_sparse.__get__, Tensor.layout.__get__, Tensor.nelement}  # pyright: ignore[reportAttributeAccessIssue]
)  # fmt: skip


def decoded_bytes(reader: Reader, rows: Rows, options: DataOptions) -> int:
    """What the images would take in memory, judged by the first that can be read.

    reader: of the files.
    rows: of the images in it.
    options: grey and size count.
    """
    for name, opener in reader.opened(np.asarray(rows[:SAMPLE])):
        try:
            pixels, _ = read_image(name, opener, options)
        except UnreadableImage:
            continue
        return len(rows) * pixels.nbytes
    return 0


def store(
    reader: Reader, rows: Rows, options: DataOptions, part: str, progress: Callable[[float], object] | None
) -> tuple[Storage, np.ndarray, tuple[str, ...]]:
    """The images of a split, not read, but for some of them and, where broken ones are to be left out, all.

    reader: of the files.
    rows: of the images in it.
    options: preprocessing.
    part: name of the split.
    progress: called with the fraction read, 0 … 1; None for nothing.

    Returns what makes the images, the numbers of those that can be read, and those that cannot, a line each.

    Raises ``ValueError`` for images of several sizes that are not cropped, broken ones, and row groups that do not fit into memory.
    """
    reader.check_memory()
    kept, notes = np.arange(len(rows)), ()
    if options.skip_broken:
        kept, notes = _whole(reader, rows, options, progress)
        rows = np.asarray(rows)[kept]
    if len(rows) == 0:
        raise ValueError(f"data: the split {part} holds no image" + (f"; {notes[1]}" if notes else ""))
    sizes, channels, depths, names = [], set(), set(), []
    for name, opener in reader.opened(_at(rows, _sample(len(rows)))):
        try:
            pixels, depth = read_image(name, opener, options)
        except UnreadableImage as error:
            raise UnreadableImage(f"{error}; {BROKEN}") from None
        names.append(name)
        sizes.append(pixels.shape[1:])
        channels.add(len(pixels))
        depths.add(depth)
    other = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
    if other is not None and options.crop is None:
        ours, theirs = ("{1}x{0}".format(*sizes[i]) for i in (other, 0))
        raise ValueError(f"data: {names[other]} has {ours} pixels, {names[0]} has {theirs}; set size to resize all, or crop to cut parts")
    smallest = min(map(min, sizes))
    if options.crop is not None and options.crop > smallest:
        raise ValueError(f"data: one of the images has only {smallest} pixels on a side, crop must be at most that, got {options.crop}")
    return Storage(reader, rows, options, part, sizes[0] if other is None else None, max(channels), max(depths)), kept, notes


def _whole(
    reader: Reader, rows: Rows, options: DataOptions, progress: Callable[[float], object] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers of the images that can be read, and notes on the others: all are decoded once."""
    good, broken = np.ones(len(rows), bool), []
    for start in range(0, len(rows), STRIDE):
        part = np.asarray(rows[start : start + STRIDE])
        for i, (name, opener) in enumerate(reader.opened(part), start):
            try:
                read_image(name, opener, options)
            except UnreadableImage as error:
                good[i] = False
                broken.append(str(error).removeprefix("data: "))
        if progress is not None:
            progress(min(start + STRIDE, len(rows)) / len(rows))
    notes = (f"{len(broken)} of {len(rows)} images cannot be read and are left out:", *broken) if broken else ()
    return np.flatnonzero(good), notes


def _at(rows: Rows, index: np.ndarray) -> np.ndarray:
    """``rows[index]``, of a range too."""
    return rows.start + rows.step * index if isinstance(rows, range) else rows[index]


def _sample(total: int) -> np.ndarray:
    """Numbers of a few images at places all over a set of ``total``, sorted."""
    starts = np.linspace(0, max(total - SAMPLE, 0), PLACES).astype(np.int64)
    return np.unique((starts[:, None] + np.arange(SAMPLE)).clip(max=total - 1))


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.uint8 if values.dtype == np.uint8 else np.int32))


def ahead(make: Callable[[int], Made], first: int) -> Iterator[Made]:
    """``make(first)``, ``make(first + 1)``, … without end, each made by a thread while those before it are used.

    make: a function of the number alone, so that threads change nothing.
    first: number of the first.
    """
    with ThreadPoolExecutor(AHEAD, "rastrum-data") as pool:
        coming: deque[Future[Made]] = deque(pool.submit(make, first + i) for i in range(AHEAD))
        try:
            for number in count(first + AHEAD):
                made = coming.popleft().result()
                coming.append(pool.submit(make, number))
                yield made
        finally:
            for each in coming:
                each.cancel()
