"""What users call: ``sample``, ``complete``, ``generate``, ``reconstruct``, for models of both kinds.

``sample`` and ``complete`` split big batches; ``generate`` and ``reconstruct`` show all images at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Literal, overload

import torch
from torch import Tensor

from .model import Model
from .particles import completions
from .protocol import ArrayLike, Frame, as_tensor, check_condition, check_images, to_levels
from .raster import Backend, RasterModel
from .strokes import CanvasModel
from .walk import MAX_BATCH, Sample, walk

Every = Literal["row", "decision"] | int


def _check_call(model: object, name: str, count: int, seed: int, temperature: float) -> None:
    if not isinstance(model, RasterModel | CanvasModel):
        raise ValueError(f"model: expected a RasterModel or a CanvasModel, got {type(model).__name__}")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"{name}: expected a whole number of at least 1, got {count!r}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"seed: expected a whole number, got {seed!r}")
    if not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise ValueError(f"temperature: expected a finite number above 0, got {temperature!r}")


def _check_backend(model: Model, backend: Backend) -> None:
    if backend not in (None, "native", "torch", "naive"):
        raise ValueError(f"backend: expected None, 'native', 'torch' or 'naive', got {backend!r}")


def _last(frames: Iterator[Frame]) -> Tensor:
    values = deque(frames, maxlen=1)[0].values
    assert values is not None
    return values


def sample(
    model: Model,
    count: int,
    condition: ArrayLike | int | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    backend: Backend = None,
) -> Tensor:
    """Draw images: integer levels (count, *spec.shape), uint8 up to 256 levels. Same seed, same images, whatever the batch or device.

    condition: one for all or one an image. backend: what runs the steps of a raster model: "native" (compiled, float32 on a CPU),
    "torch", or "naive", a full forward a decision; None = the fastest that can. They draw the same images but for rounding. The native one
    spreads a batch over as many threads as torch is set to use.
    Raises ``ValueError`` for a count below 1, a temperature not above 0 or a wrong condition.
    """
    _check_call(model, "count", count, seed, temperature)
    _check_backend(model, backend)
    told = check_condition(model.condition_spec, condition, count, model.device)
    if isinstance(model, CanvasModel):
        return to_levels(model.sample(count, told, temperature, seed), model.spec)
    assert isinstance(model, RasterModel)
    parts = []
    for start in range(0, count, MAX_BATCH):
        size = min(MAX_BATCH, count - start)
        part = None if told is None else told[start : start + size]
        frames = walk(model, size, Sample(seed, temperature, start), part, every=model.spec.size, backend=backend)
        parts.append(_last(frames))
    return to_levels(torch.cat(parts), model.spec)


@overload
def complete(
    model: RasterModel,
    images: ArrayLike,
    known: ArrayLike,
    condition: ArrayLike | int | None = None,
    num_samples: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
    particles: None = None,
    backend: Backend = None,
) -> Tensor: ...


@overload
def complete(
    model: RasterModel,
    images: ArrayLike,
    known: ArrayLike,
    condition: ArrayLike | int | None = None,
    num_samples: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
    *,
    particles: int,
    backend: Backend = None,
) -> tuple[Tensor, Tensor]: ...


def complete(
    model: RasterModel,
    images: ArrayLike,
    known: ArrayLike,
    condition: ArrayLike | int | None = None,
    num_samples: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
    particles: int | None = None,
    backend: Backend = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Fill in what is not ``known``, drawing each unknown value given those before it in the model's order.

    images: levels (B, *spec.shape), anything valid where unknown; known: bool, broadcasts. Known values come back unchanged.
    → (B, *shape), or (B, num_samples, *shape) if num_samples > 1. Without ``particles``, known values that come later in the order do not
    steer the draw: the completions follow p(unknown | known) only where all that is known comes first.

    particles=K: they do steer it. K walks an image are weighted by what they give to the known values they meet, and chosen anew by their
    weights where few of them carry it all (particles.py): the more particles, the nearer to p(unknown | known).
    → (completions, log weights). The completions, num_samples an image, are independent draws from its K particles by their last weights,
    so some may be equal. The weights (B, K), float64 nats, are not normalised: the mean of exp(weights) estimates p(known) without bias at
    temperature 1, so logsumexp(weights) − log K estimates log p(known). p is the integer CDF's, as for a file: no known value counts less
    than 2^-24.

    A temperature makes another model, that of ``sample`` at this temperature: every conditional is p^(1/T), renormalised, for draws and for
    weights, and then the weights estimate the probability of what is known under that one.
    Raises ``ValueError`` for canvas models, which have no exact conditionals: ``reconstruct`` shows what they make of an image.
    """
    if not isinstance(model, RasterModel):
        raise ValueError(f"{type(model).__name__} cannot complete images, it has no exact conditionals; use reconstruct or a raster model")
    _check_call(model, "num_samples", num_samples, seed, temperature)
    _check_call(model, "particles", 1 if particles is None else particles, seed, temperature)
    _check_backend(model, backend)
    x = check_images(model.spec, images, model.device)
    mask = as_tensor("known", known)
    if mask.dtype != torch.bool:
        raise ValueError(f"known: expected a bool mask, got {mask.dtype}")
    try:
        mask = mask.to(model.device).expand(x.shape)
    except RuntimeError:
        raise ValueError(f"known: shape {tuple(mask.shape)} does not broadcast to {tuple(x.shape)}") from None
    told = check_condition(model.condition_spec, condition, len(x), model.device)
    if particles is not None:
        chunks = list(completions(model, x, mask, told, num_samples, particles, temperature, seed, backend))
        drawn = torch.cat([values for values, _ in chunks]) if chunks else x[:, None].expand(-1, num_samples, *model.spec.shape)
        weights = torch.cat([weights for _, weights in chunks]) if chunks else torch.zeros(0, particles, dtype=torch.float64)
        return to_levels(drawn.squeeze(1) if num_samples == 1 else drawn, model.spec), weights
    index = torch.arange(len(x)).repeat_interleave(num_samples)
    parts = []
    for start in range(0, len(index), MAX_BATCH):
        at = index[start : start + MAX_BATCH]
        part = None if told is None else told[at]
        chooser = Sample(seed, temperature, start)
        frames = walk(model, len(at), chooser, part, mask[at], x[at], every=model.spec.size, backend=backend)
        parts.append(_last(frames))
    out = to_levels(torch.cat(parts) if parts else x, model.spec)
    return out if num_samples == 1 else out.unflatten(0, (len(x), num_samples))


def generate(
    model: Model,
    count: int,
    condition: ArrayLike | int | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    every: Every = "row",
    backend: Backend = None,
) -> Iterator[Frame]:
    """The same images as ``sample``, as Frames while they are drawn: a Frame a row (raster) or a stroke (canvas)."""
    _check_call(model, "count", count, seed, temperature)
    _check_backend(model, backend)
    told = check_condition(model.condition_spec, condition, count, model.device)
    if isinstance(model, CanvasModel):
        return model.generate(count, told, temperature, seed, every)
    assert isinstance(model, RasterModel)
    return walk(model, count, Sample(seed, temperature), told, every=every, backend=backend)


def reconstruct(model: CanvasModel, images: ArrayLike, condition: ArrayLike | int | None = None, seed: int = 0) -> Iterator[Frame]:
    """Frames of a canvas model redrawing images; ``info`` holds read window, glimpse and write patch of each step.

    Raises ``ValueError`` for a raster model, which has no posterior: ``complete`` shows what it makes of a part of an image.
    """
    if not isinstance(model, CanvasModel):
        raise ValueError(f"{type(model).__name__} cannot reconstruct, it has no latent code; use complete, or a canvas model such as draw")
    x = check_images(model.spec, images, model.device)
    return model.reconstruct(x, check_condition(model.condition_spec, condition, len(x), model.device), seed)
