"""The contract: images, conditions, distributions, choosers and frames, and the checks of what users pass in.

Users subclass one of two kinds of model: ``RasterModel`` (``raster.py``; a decision is one value of one channel of one pixel) or
``CanvasModel`` (``strokes.py``, its contract in ``canvas.py``; a decision is the latent of one stroke).
Shapes: B images, D decisions, K components of a mixture, L levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from .devices import to_device
from .images import Images, with_levels
from .notebook import png

ArrayLike: TypeAlias = Tensor | np.ndarray
Number = TypeVar("Number", float, Tensor)


@dataclass(frozen=True)
class ImageSpec:
    """Shape and number of levels of an image; a value is an integer in ``0 … levels − 1``.

    channels: 1 for grey, 3 for RGB, or any other number.
    height, width: in pixels.
    levels: values that a channel of a pixel can take, 256 by default.
    frames: of a video, 1 by default: a still image.

    Raises ``ValueError`` for sizes below 1 or levels outside 2 … 65536.
    """

    channels: int
    height: int
    width: int
    levels: int = 256
    frames: int = 1

    def __post_init__(self) -> None:
        for name in ("channels", "height", "width", "frames"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"ImageSpec: {name} must be a whole number of at least 1, got {value!r}")
        if not isinstance(self.levels, int) or not 2 <= self.levels <= 65536:
            raise ValueError(f"ImageSpec: levels must be between 2 and 65536, got {self.levels!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W), or (T, C, H, W) for a video."""
        image = (self.channels, self.height, self.width)
        return image if self.frames == 1 else (self.frames, *image)

    @property
    def size(self) -> int:
        """The number of decisions D of one image."""
        return self.frames * self.channels * self.height * self.width

    @property
    def text(self) -> str:
        """In words: 3 x 32 x 32, 256 levels."""
        size = f"{self.channels} x {self.height} x {self.width}, {self.levels} levels"
        return size if self.frames == 1 else f"{self.frames} frames of {size}"

    def scale(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Integer levels → [−1, 1]; the one place where levels become the inputs of a network.

        x: integer levels, any shape.
        dtype: of the result.
        """
        return x.to(dtype) * (2.0 / (self.levels - 1)) - 1.0

    def pictures(self, x: ArrayLike) -> Tensor:
        """Integer levels → [0, 1], to look at or to save; ``levels_of`` is the way back.

        x: integer levels, any shape.

        Returns float32 of this shape. Raises ``ValueError`` for values that are no levels.
        """
        x = as_tensor("pictures", x)
        if x.is_floating_point():
            raise ValueError(f"pictures: expected integer levels 0 … {self.levels - 1}, got {x.dtype}; these are pictures already")
        x = x.to(torch.int64)
        _check_range(x, self.levels, "pictures")
        return x.float() / (self.levels - 1)

    def levels_of(self, pictures: ArrayLike) -> Images:
        """[0, 1] → the nearest integer levels, halves up; ``pictures`` is the way back.

        pictures: floats in [0, 1], (…, *spec.shape).

        Returns levels of this shape, uint8 up to 256 levels, else int64.
        Raises ``ValueError`` for another shape, integers, and values outside [0, 1].
        """
        x = as_tensor("levels_of", pictures)
        if not x.is_floating_point():
            raise ValueError(f"levels_of: expected pictures, floats in [0, 1], got {x.dtype}; divide 8-bit values by 255")
        if x.shape[-len(self.shape) :] != torch.Size(self.shape):
            raise ValueError(f"levels_of: expected shape (…, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        if x.numel() and not bool(((x >= 0) & (x <= 1)).all()):           # also catches NaN
            raise ValueError(f"levels_of: expected values in [0, 1], got {float(x.min()):g} … {float(x.max()):g}")
        return to_images((x.detach().float() * (self.levels - 1) + 0.5).floor(), self)


def raster_order(spec: ImageSpec, colours: Sequence[int] | None = None) -> Tensor:
    """The raster order of images of ``spec``: frame, row, column, then channel; (D,) flat indices of (T, C, H, W).

    colours: the order of a pixel's channels; None (default) for that of the image.
    """
    index = torch.arange(spec.size).view(spec.frames, spec.channels, spec.height, spec.width)
    index = index if colours is None else index[:, list(colours)]
    return index.permute(0, 2, 3, 1).reshape(-1)


@dataclass(frozen=True)
class ConditionSpec:
    """The condition that a model is given with each image.

    kind: "class" is (B,) int64 below ``size``, "vector" is (B, size) float, "map" (a spatial map) is (B, c, h, w) float.
    size: number of classes, length of the vector, or (c, h, w).

    Raises ``ValueError`` for another kind, or a size that does not fit it.
    """

    kind: Literal["class", "vector", "map"]
    size: int | tuple[int, int, int]

    def __post_init__(self) -> None:
        if self.kind not in ("class", "vector", "map"):
            raise ValueError(f"ConditionSpec: kind must be 'class', 'vector' or 'map', got {self.kind!r}")
        sizes = self.size if self.kind == "map" else (self.size,)
        expected = 3 if self.kind == "map" else 1
        if not isinstance(sizes, tuple) or len(sizes) != expected or any(type(s) is not int or s < 1 for s in sizes):
            raise ValueError(f"ConditionSpec: a condition of kind {self.kind!r} cannot have the size {self.size!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image's condition."""
        if self.kind == "class":
            return ()
        return self.size if isinstance(self.size, tuple) else (self.size,)


class JointDistribution(Protocol):
    """A distribution over all levels of an image, which may depend on each other; any batch shape S."""

    @property
    def levels(self) -> int:
        """The number of levels L."""
        ...

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats (S) of ``value`` (S), int64, each given those before it."""
        ...

    def sample(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        """The levels (S), int64, that uniform noise falls on in the integer CDF, one value after another.

        u: in [0, 1), (S), float64.
        temperature: T > 0; draws each from pmf^(1/T), renormalised. Default 1.
        """
        ...


class Distribution(JointDistribution, Protocol):
    """A distribution over one integer level, with any leading batch shape S; ``levels`` of them."""

    def log_pmf(self) -> Tensor:
        """Nats of every level, (*S, levels)."""
        ...

    def cdf(self, value: Tensor) -> Tensor:
        """Integer CDF, out of 2^24, below ``value`` (S, int64, 0 … levels) → S int64; strictly increasing in ``value``."""
        ...

    def search(self, threshold: Tensor) -> Tensor:
        """The level v with cdf(v) ≤ threshold < cdf(v + 1); threshold (S, int64) in 0 … 2^24 − 1 → S int64."""
        ...

    def __getitem__(self, index: Any) -> Distribution:
        """Index the batch shape S."""
        ...


@dataclass(frozen=True)
class Work:
    """What a chooser does for n decisions in a row, for an interpreter that makes them all in one call.

    kind: "draw" samples, "force" takes ``values``, "encode" writes ``values`` to ``streams``, "decode" reads them from ``streams``;
        "weigh" samples too, and counts how likely the known values are.
    seed, first, temperature: of "draw" and "weigh": the seed of the noise, the number of the first image, and the temperature.
    values: of "force" and "encode": integer levels (B, n).
    streams: of "encode" and "decode": one encoder or decoder per image (range_coder.py).
    counts: of "weigh": (B, n) int64, which receives the share, out of 2^24, that the integer CDF gives to each known value.
    """

    kind: Literal["draw", "force", "encode", "decode", "weigh"]
    seed: int = 0
    first: int = 0
    temperature: float = 1.0
    values: Tensor | None = None
    streams: Sequence[Any] = ()
    counts: Tensor | None = None


class Chooser(Protocol):
    """Makes the decisions of a walk: samples, takes known values, writes to a bit stream or reads from one."""

    def __call__(self, t: int, distribution: Distribution, active: Tensor) -> Tensor:
        """Values (B,), int64, of one decision.

        t: number of the decision.
        distribution: of its value, batch shape (B,).
        active: (B,) bool; where it is False the walk ignores the value.
        """
        ...

    def native(self, t: int, stop: int) -> Work | None:
        """The same for decisions t … stop − 1, described for an interpreter; None where only ``__call__`` can make them.

        t: number of the first decision.
        stop: number of the decision after the last.
        """
        ...


@dataclass
class Frame:
    """One moment of a walk, to look at.

    images: pictures (B, *shape), float in [0, 1].
    values: integer levels (B, *shape), or None where they are not decided yet.
    fraction: how much is done, from 0 (empty) to 1 (finished).
    window: where a stroke was written, (B, 4) = centre row, centre column, height, width in pixels, or None.
    info: anything else for viewers, by name. Raster models: ``order`` (D,), that of their decisions.
    """

    images: Tensor
    values: Tensor | None
    fraction: float
    window: Tensor | None = None
    info: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Frame({len(self.images)} images of {' x '.join(map(str, self.images.shape[1:]))}, {self.fraction:.0%} done)"

    def _repr_png_(self) -> bytes | None:
        return png(self)

    def cpu(self) -> Frame:
        """The same with all tensors on the CPU."""
        info = {name: value.cpu() if isinstance(value, Tensor) else value for name, value in self.info.items()}
        values, window = (None if each is None else each.cpu() for each in (self.values, self.window))
        return Frame(self.images.cpu(), values, self.fraction, window, info)


def mro_index(instance: object, name: str) -> float:
    """Where an attribute is defined: −1 on the object itself, 0 in its class, 1 … in the classes it inherits from, infinity nowhere.

    instance: the object.
    name: of the attribute.
    """
    if name in vars(instance):
        return -1
    return next((index for index, owner in enumerate(type(instance).__mro__) if name in vars(owner)), float("inf"))


def as_tensor(what: str, value: object) -> Tensor:
    """An array of real numbers as a torch tensor.

    what: its name in error messages.
    value: torch, numpy, a number or nested lists of numbers.

    Raises ``ValueError`` for anything else.
    """
    if isinstance(value, Images):
        return value.plain
    if isinstance(value, np.ndarray) and not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what}: expected an array of numbers, got {type(value).__name__} ({error})") from None
    if tensor.is_complex():
        raise ValueError(f"{what}: expected real numbers, got {tensor.dtype}")
    return tensor


def bits_per_dim(nats: Number, size: int) -> Number:
    """Bits per value of an image.

    nats: per image, a number or a tensor.
    size: values per image (``spec.size``).
    """
    return nats / (size * math.log(2))


def to_levels(x: Tensor, spec: ImageSpec) -> Tensor:
    """Levels as users get them: uint8 up to 256 levels, else int64.

    x: integer levels, any shape.
    spec: of the images.
    """
    return x.to(torch.uint8 if spec.levels <= 256 else torch.int64)


def to_images(x: Tensor, spec: ImageSpec) -> Images:
    """The same, as images that a notebook shows.

    x: integer levels (…, *spec.shape).
    spec: of the images.
    """
    return with_levels(to_levels(x, spec), spec.levels, spec.frames > 1)


def check_images(spec: ImageSpec, x: ArrayLike, device: torch.device | str | None = None, what: str = "images") -> Tensor:
    """Images as users pass them, checked.

    spec: of the model.
    x: integer levels (B, *spec.shape), torch or numpy.
    device: where they go; None (default) leaves them where they are.
    what: their name in error messages, "images" by default.

    Returns int64 (B, *spec.shape). Raises ``ValueError`` naming what is wrong: type, shape or levels.
    """
    return check_levels(spec, x, what).to(device=device, dtype=torch.int64)


def check_levels(spec: ImageSpec, x: ArrayLike, what: str = "images") -> Tensor:
    """The same images as a tensor of the type that they came in; parameters and errors are as for ``check_images``."""
    if isinstance(x, Images) and x.levels != spec.levels:
        remedy = "x.plain takes the numbers as they are, spec.levels_of(x.pictures()) the nearest levels"
        raise ValueError(f"{what}: they have {x.levels} levels, expected {spec.levels}; {remedy}")
    x = as_tensor(what, x)
    if x.is_floating_point():
        remedy = "round to levels first, of pictures with spec.levels_of"
        raise ValueError(f"{what}: expected integer levels 0 … {spec.levels - 1}, got {x.dtype}; {remedy}")
    if x.shape[1:] != torch.Size(spec.shape):
        raise ValueError(f"{what}: expected shape (batch, {', '.join(map(str, spec.shape))}), got {tuple(x.shape)}")
    if x.dtype in (torch.bool, torch.uint16, torch.uint32):               # types that torch does little with
        x = x.to(torch.int64)
    _check_range(x, spec.levels, what)
    return x


def _check_range(x: Tensor, levels: int, what: str) -> None:
    if x.numel() and not (x.dtype == torch.uint8 and levels >= 256):
        low, high = (int(value) for value in x.aminmax())
        if low < 0 or high >= levels:
            raise ValueError(f"{what}: levels must lie in 0 … {levels - 1}, got {low} … {high}")


def check_kind(model: str, conditions: tuple[str, ...], spec: ConditionSpec | None) -> None:
    """Check that a model can have a condition.

    model: its name.
    conditions: the kinds that it takes.
    spec: the condition; None for none.

    Raises ``ValueError`` for a kind that the model does not take.
    """
    if spec is None or spec.kind in conditions:
        return
    if not conditions:
        raise ValueError(f"{model} takes no condition, got one of kind {spec.kind!r}; `rastrum models` says which models do")
    kinds = " or ".join(f"a {kind}" for kind in conditions)
    raise ValueError(f"condition: {model} takes {kinds}, got kind {spec.kind!r}; `rastrum models` says which models take one")


def check_condition(
    spec: ConditionSpec | None, condition: ArrayLike | int | None, batch: int, device: torch.device | str | None = None
) -> Tensor | None:
    """A condition as users pass it, checked; a single one is repeated for the batch.

    spec: of the model; None for an unconditional model.
    condition: one per image (batch, *spec.shape), or one for all (*spec.shape); None for none.
    batch: number of images.
    device: where it goes; None (default) leaves it where it is.

    Returns (batch, *spec.shape), int64 for classes, else float; None for an unconditional model.
    Raises ``ValueError`` if it is missing, not wanted, of the wrong kind or shape, or out of range.
    """
    if spec is None:
        if condition is not None:
            raise ValueError("condition: this model is unconditional, it takes none")
        return None
    if condition is None:
        raise ValueError(f"condition: this model needs one of kind {spec.kind!r} and size {spec.size}, got none")
    condition = as_tensor("condition", condition)
    one_for_all = condition.shape == torch.Size(spec.shape)
    condition = condition[None] if one_for_all else condition
    if not one_for_all and condition.shape != torch.Size((batch, *spec.shape)):
        raise ValueError(f"condition: expected shape {(batch, *spec.shape)} for kind {spec.kind!r}, got {tuple(condition.shape)}")
    if spec.kind == "class":
        if condition.is_floating_point() or condition.dtype == torch.bool:
            raise ValueError(f"condition: a class is a whole number, got {condition.dtype}")
        assert isinstance(spec.size, int)
        condition = condition.to(device=device, dtype=torch.int64)
        if len(condition) and (int(condition.min()) < 0 or int(condition.max()) >= spec.size):
            raise ValueError(f"condition: classes must lie in 0 … {spec.size - 1}, got {int(condition.min())} … {int(condition.max())}")
        return condition.expand(batch) if one_for_all else condition
    if not condition.is_floating_point():
        raise ValueError(f"condition: kind {spec.kind!r} takes floats, got {condition.dtype}")
    if not bool((condition.abs() <= torch.finfo(torch.float32).max).all()):
        raise ValueError(f"condition: kind {spec.kind!r} takes finite numbers that fit float32, got some that do not")
    condition = to_device(condition, device)
    return condition.expand(batch, *spec.shape) if one_for_all else condition             # no memory, however many images
