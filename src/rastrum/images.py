"""Integer levels that know how many levels there are, so that they can be shown: what ``sample`` and its relatives return.

    x = rastrum.sample(model, 16)      a tensor (16, C, H, W) of uint8, which a notebook shows as a sheet
    x[3:5], x.clone(), x.cpu()         still images, as are batches that are joined by torch.cat, or split
    x.float() / 2, x == 0, x.sum()     plain tensors, as is everything else that is computed
    x.pictures()                       (16, C, H, W) in [0, 1]

Everywhere else ``Images`` are the tensor that they hold. What is pickled or saved is that tensor, so that files load without Rastrum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .notebook import png

MAX_LEVELS = 65536
# What gives whole images again; indexing and iterating do too.
KEEPING: frozenset[Callable[..., Any]] = frozenset(
    {Tensor.clone, torch.clone, Tensor.detach, torch.detach, Tensor.contiguous, Tensor.pin_memory, Tensor.cpu, Tensor.cuda, Tensor.to,
     Tensor.byte, Tensor.short, Tensor.int, Tensor.long, Tensor.flip, torch.flip, Tensor.roll, torch.roll}
)  # fmt: skip
# What gives batches again where it joins, splits or chooses along the first axis; the axis is the argument with this number.
AXIS: dict[Callable[..., Any], int] = {
    torch.cat: 1, torch.concat: 1, torch.concatenate: 1, Tensor.split: 2, torch.split: 2, Tensor.chunk: 2, torch.chunk: 2,
    Tensor.index_select: 1, torch.index_select: 1,
}  # fmt: skip


class Images(Tensor):
    """Images as integer levels, with the number of levels: a tensor that shows itself in a notebook.

    x: integer levels (…, C, H, W), torch or numpy; of videos (…, T, C, H, W). Not copied.
    levels: how many there are, 2 … 65536; a value is 0 … levels − 1.
    video: whether the images are videos, False by default.

    Raises ``ValueError`` for values that are no levels, and for fewer than three dimensions.
    """

    levels: int
    video: bool

    def __new__(cls, x: Tensor | np.ndarray, levels: int, video: bool = False) -> Images:
        values = torch.as_tensor(x)
        if isinstance(values, Images):
            values = values.plain
        if isinstance(levels, bool) or not isinstance(levels, int) or not 2 <= levels <= MAX_LEVELS:
            raise ValueError(f"Images: levels must be a whole number between 2 and {MAX_LEVELS}, got {levels!r}")
        if values.is_floating_point() or values.is_complex():
            raise ValueError(f"Images: expected integer levels 0 … {levels - 1}, got {values.dtype}; ImageSpec.levels_of rounds pictures")
        if values.dtype in (torch.bool, torch.uint16, torch.uint32, torch.uint64):   # types that torch does little with
            values = values.to(torch.uint8 if values.dtype == torch.bool else torch.int64)
        if values.dim() < 3 + video:
            raise ValueError(f"Images: expected shape (…, {'T, ' if video else ''}C, H, W), got {tuple(values.shape)}")
        if values.numel():
            low, high = (int(value) for value in values.aminmax())
            if low < 0 or high >= levels:
                raise ValueError(f"Images: levels must lie in 0 … {levels - 1}, got {low} … {high}")
        return with_levels(values, levels, video)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            out = func(*args, **(kwargs or {}))
        if func in KEEPING and type(out) is Tensor and args and isinstance(first := args[0], Images):
            return first._like(out, first.video)
        if func in AXIS and args and (kwargs or {}).get("dim", args[AXIS[func]] if len(args) > AXIS[func] else 0) == 0:
            return _of_batches(out, args[0])
        return out

    @property
    def plain(self) -> Tensor:
        """The same values as a plain tensor, not copied."""
        with torch._C.DisableTorchFunctionSubclass():
            return self.as_subclass(Tensor)

    def pictures(self) -> Tensor:
        """The images as pictures: float32 in [0, 1], of the same shape."""
        return self.plain.float() / (self.levels - 1)

    def _like(self, values: Tensor, video: bool) -> Tensor:
        """``values`` with the levels of these images, where they can be levels."""
        whole = not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)
        return with_levels(values, self.levels, video) if whole and self.levels - 1 <= torch.iinfo(values.dtype).max else values

    def __init__(self, x: Tensor | np.ndarray, levels: int, video: bool = False) -> None:
        pass                                                              # all is done; this is for those who read types

    def __getitem__(self, index: Any) -> Any:
        values = self.plain[index]
        last = _last_axes(index, self.dim(), 3 + self.video)
        if last is None or any(not isinstance(item, slice) for item in last[-3:]):
            return values
        of_time = last[0] if self.video else None
        if of_time is not None and not isinstance(of_time, int | slice):
            return values
        return self._like(values, isinstance(of_time, slice))

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return repr(self.plain)

    def __copy__(self) -> Tensor:
        return self._like(self.plain, self.video)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = memo[id(self)] = self._like(self.plain.clone(), self.video)
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.plain.__reduce_ex__(protocol)

    def _repr_png_(self) -> bytes | None:
        return png(self)


def with_levels(values: Tensor, levels: int, video: bool = False) -> Images:
    """``Images`` of values that are known to be levels.

    values: integer levels (…, C, H, W). A tensor of another subclass, such as a distributed one, stays what it is.
    levels: how many there are.
    video: whether the images are videos, False by default.
    """
    if type(values) is not Tensor:
        return values  # pyright: ignore[reportReturnType]
    images = values.as_subclass(Images)
    images.levels, images.video = levels, video
    return images


def _of_batches(out: Any, given: Any) -> Any:
    """What was joined, split or chosen along the first axis: images again, if all that was given are batches of the same levels."""
    batches = list(given) if isinstance(given, list | tuple) else [given]
    kinds = {(x.levels, x.video) if isinstance(x, Images) and x.dim() > 3 + x.video else None for x in batches}
    if len(kinds) != 1 or None in kinds:
        return out
    first = batches[0]
    return tuple(first._like(part, first.video) for part in out) if isinstance(out, list | tuple) else first._like(out, first.video)


def _last_axes(index: Any, dims: int, count: int) -> list[Any] | None:
    """What an index does to each of the last ``count`` axes: the part of it that is for this axis, a full slice where there is none.

    None where new axes come between them.
    """
    items = list(index) if isinstance(index, tuple) else [index]
    sizes = [_axes(item) for item in items]
    rest = dims - sum(sizes)
    at = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    parts: list[Any] = []
    for i, (item, size) in enumerate(zip([*items, None], [*sizes, 0], strict=True)):
        if i == at:
            parts += [slice(None)] * rest
        elif i < len(items) and size == 0 and len(parts) > dims - count:
            return None
        parts += [item] * size
    return parts[-count:]


def _axes(item: Any) -> int:
    """How many axes a part of an index is for."""
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    if isinstance(item, int | slice):
        return 1
    array = item if isinstance(item, Tensor | np.ndarray) else np.asarray(item)
    return array.ndim if array.dtype in (torch.bool, np.dtype(bool)) else 1
