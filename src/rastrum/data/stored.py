"""Images that stay where they are stored, and are decoded when they are used: data sets larger than memory.

    reader: image files, or row groups of parquet files ─▶ read_image ─▶ levels ─▶ binarised ─▶ cropped ─▶ (B, C, H, W)

``Stored`` is the tensor of all images of a set that is on disk: indexing reads images, and whatever else needs their values reads all of
them, if they fit into memory. ``storage.py`` makes them, to the bit what a set in memory holds.

**The order of training** is one that a stored set can be read in. Of row groups: a permutation of them by (seed, epoch), and two at a time
are permuted within. Of files: any order, by ``noise.shuffled``, or ``noise.permutation`` where they are few.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ..config import DataOptions
from ..images import Images, with_levels
from ..memory import ask
from ..noise import GROUPS, permutation, shuffled
from .reading import UnreadableImage, read_image
from .storage import BROKEN, STRIDE, Reader, Rows, Storage, at

HELD = 1 << 29                 # bytes of images up to which a set is held in memory
FEW = 1 << 16                  # files up to which their order is made at once
TOGETHER = 2                   # row groups that are permuted together
AHEAD = 2                      # batches that are made while a step is computed
PLACES, SAMPLE = 4, 8          # places of a set that it is judged by, and images at each

Made = TypeVar("Made")


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
        return at(self.chosen, found)


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
            rows = at(self.files.rows, np.asarray(self.chosen))
            in_order = bool((rows[1:] > rows[:-1]).all())
            order = None if in_order else np.argsort(rows, kind="stable")
            self.by_group = (order, np.unique(np.searchsorted(rows, groups, sorter=order)))
        return self.by_group

    def checksum(self) -> int:
        """Of what tells the set from another: names and sizes of files and row groups, the preprocessing, and some of the images."""
        files, options = self.files, self.files.options
        what = (files.reader.stamp, files.spec, options.binarise, options.crop, files.depth, len(self))
        some = at(self.chosen, _sample(len(self)))
        checksum = crc32(np.ascontiguousarray(at(files.rows, some)).data, crc32(repr(what).encode()))
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
    for name, opener in reader.opened(at(rows, _sample(len(rows)))):
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


def _sample(total: int) -> np.ndarray:
    """Numbers of a few images at places all over a set of ``total``, sorted."""
    starts = np.linspace(0, max(total - SAMPLE, 0), PLACES).astype(np.int64)
    return np.unique((starts[:, None] + np.arange(SAMPLE)).clip(max=total - 1))


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
