"""Held-out scores: nats an image and bits/dim with their standard error, exact for raster models, a bound for canvas models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from .canvas import CanvasModel
from .data.dataset import Dataset
from .raster import RasterModel

Model: TypeAlias = RasterModel | CanvasModel

# Images at a time: on a CPU the maps of a few stay in cache.
RASTER_BATCH, LARGE_BATCH = 4, 128


@dataclass(frozen=True)
class Evaluation:
    """Mean over images of a held-out set.

    nats: per image (per frame by ``evaluate_frames``), the lower the better · standard_error: of nats, over images · size: values of
    an image (of a frame) ·
    kind: "exact", "bound" (nats are at most that) or "loss" (a number to go down, no likelihood: bits_per_dim is None).
    """

    nats: float
    standard_error: float
    images: int
    size: int
    kind: Literal["exact", "bound", "loss"]

    @property
    def bits_per_dim(self) -> float | None:
        return None if self.kind == "loss" else self.nats / (self.size * math.log(2))

    @property
    def bits_standard_error(self) -> float | None:
        return None if self.kind == "loss" else self.standard_error / (self.size * math.log(2))

    def __str__(self) -> str:
        bits = "" if self.bits_per_dim is None else f", {self.bits_per_dim:.4f} bits/dim"
        return f"{self.nats:.3f} ± {self.standard_error:.3f} nats{bits} ({self.kind}, {self.images} images)"


def evaluate(
    model: Model,
    data: Dataset,
    *,
    batch: int | None = None,
    num_samples: int = 1,
    seed: int = 0,
    workers: int | None = None,
    ensemble: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Evaluation:
    """Score all of ``data``. batch: images at a time, None = what is usually fast; num_samples: trajectories of a bound, more are tighter;

    seed: of the bound's noise, which belongs to an image's number, so that batches and workers change nothing; workers: threads, None =
    as many as torch uses; ensemble: the mixture of a raster model over flips and rotations (``ensemble_log_prob``); progress: called with
    the number of images done.
    Raises ``ValueError`` for data of another kind than the model's, a model whose loss is no likelihood, and one that has no ensemble.
    """
    check_data(model, data)
    if not model.has_likelihood:
        model.log_prob(data.images[:1]) if isinstance(model, RasterModel) else model.bound(data.images[:0])  # says why there is none
    training = model.training
    try:
        with Pool(workers or torch.get_num_threads()) as pool:
            return score(model.eval(), data, pool, num_samples, seed, batch, progress, ensemble)
    finally:
        model.train(training)


def score(
    model: Model,
    data: Dataset,
    pool: Pool,
    num_samples: int,
    seed: int,
    batch: int | None = None,
    progress: Callable[[int], object] | None = None,
    ensemble: bool = False,
) -> Evaluation:
    """``evaluate`` on the threads of ``pool``, for a model in evaluation mode; a model without a likelihood gets its mean loss."""
    batch = at_a_time(model) if batch is None else batch
    told = conditions_for(model, data)

    def work(start: int) -> Tensor:
        part = slice(start, start + batch)
        with torch.no_grad():                                            # a setting of each thread
            return nats(model, data.images[part], None if told is None else told[part], num_samples, seed, start, ensemble).double().cpu()

    parts: list[Tensor] = []
    for part in pool.map(work, range(0, len(data), batch)):
        parts.append(part)
        if progress is not None:
            progress(min(len(parts) * batch, len(data)))
    every = torch.cat(parts)
    error = every.std().item() / math.sqrt(len(every)) if len(every) > 1 else math.nan
    kind = "loss" if not model.has_likelihood else "exact" if isinstance(model, RasterModel) else "bound"
    return Evaluation(every.mean().item(), error, len(every), model.spec.size, kind)


def evaluate_frames(
    model: RasterModel,
    data: Dataset,
    context: int,
    *,
    batch: int | None = None,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Evaluation:
    """Score of videos per frame, over the frames after the first ``context``, given all earlier frames.

    model: of videos; one without a likelihood gets its loss, such as the cross-entropy of grey values.
    data: videos of the model's spec.
    context: frames that are known and not counted, 0 … frames − 1.
    batch: videos at a time; None = what is usually fast.
    workers: threads; None = as many as torch uses.
    progress: called with the number of videos done.

    Returns nats per frame, their mean over a video's counted frames, ± the standard error over videos; ``size`` is that of a frame.
    Raises ``ValueError`` for a model of still images, another context and data of another kind than the model's.
    """
    check_data(model, data)
    frames = model.spec.frames
    if frames == 1:
        raise ValueError("context: this model draws still images, which have no frames; leave it out")
    if not 0 <= context < frames:
        raise ValueError(f"context: expected from 0 to {frames - 1} known frames of this model's {frames}, got {context}")
    batch, training, parts = at_a_time(model) if batch is None else batch, model.training, []

    def work(start: int) -> Tensor:
        with torch.no_grad():                                            # a setting of each thread
            return frame_nats(model, data.images[start : start + batch].to(model.device))[:, context:].mean(1).cpu()

    try:
        model.eval()
        with Pool(workers or torch.get_num_threads()) as pool:
            for part in pool.map(work, range(0, len(data), batch)):
                parts.append(part)
                if progress is not None:
                    progress(min(len(parts) * batch, len(data)))
    finally:
        model.train(training)
    every = torch.cat(parts)
    error = every.std().item() / math.sqrt(len(every)) if len(every) > 1 else math.nan
    kind = "exact" if model.has_likelihood else "loss"
    return Evaluation(every.mean().item(), error, len(every), model.spec.size // frames, kind)


def frame_nats(model: RasterModel, x: Tensor) -> Tensor:
    """Nats of each frame given all before it, of videos x (B, T, C, H, W), or the loss where there is no likelihood: (B, T) float64."""
    loss_map: Any = None if model.has_likelihood else model.loss_map      # a raster model without a likelihood has one
    values = -model.log_prob_map(x) if loss_map is None else loss_map(x)
    return values.double().flatten(2).sum(2)


def at_a_time(model: Model) -> int:
    """How many images are usually fastest."""
    return RASTER_BATCH if isinstance(model, RasterModel) and model.device.type == "cpu" else LARGE_BATCH


def nats(
    model: Model, x: Tensor, told: Tensor | None, num_samples: int = 1, seed: int = 0, first: int = 0, ensemble: bool = False
) -> Tensor:
    """−log p of images x (B, *shape), or the bound on it, or where there is neither the training loss: (B,).

    told: to a model that wants a condition, else ignored. first: number of the first image, for the bound's noise.
    """
    told = condition_of(model, told)
    if ensemble:
        return -ensemble_log_prob(model, x, told)
    if not model.has_likelihood:
        loss: Any = model.loss                                            # a raster model without a likelihood has one
        return loss(x.to(model.device), told, seed)
    if isinstance(model, RasterModel):
        return -model.log_prob(x, told)
    return -model.bound(x, told, num_samples, seed, first=first)


def ensemble_log_prob(model: Model, x: Tensor, condition: Tensor | None = None) -> Tensor:
    """Nats of images x (B, *shape) under the mixture of p(turned x) over flips, and quarter turns of square images: (B,) float64.

    log (1/n Σ p), a likelihood like any other: 4 or 8 views of an image, no step (the EoRIDE of Theis & Bethge 2015, section 3.2).
    Raises ``ValueError`` for a canvas model and for one that is told a map, which would have to turn too.
    """
    if not isinstance(model, RasterModel):
        raise ValueError(f"ensemble: it mixes exact likelihoods, {type(model).__name__} has a bound; leave it out")
    if model.condition_spec is not None and model.condition_spec.kind == "map":
        raise ValueError("ensemble: this model is told a map, which does not turn with the image; leave it out")
    views = [x, x.transpose(-1, -2)] if x.shape[-1] == x.shape[-2] else [x]
    turned = [view.flip(sides) for view in views for sides in ((), (-1,), (-2,), (-2, -1))]
    return torch.stack([model.log_prob(view, condition) for view in turned]).logsumexp(0) - math.log(len(turned))


def conditions_for(model: Model, data: Dataset) -> Tensor | None:
    """What ``data`` say of each image that the model is told, (N, …): labels, vectors or maps, or None."""
    told = model.condition_spec
    return None if told is None else data.labels if told.kind == "class" else data.conditions


def condition_of(model: Model, told: Tensor | None) -> Tensor | None:
    return None if model.condition_spec is None or told is None else told.to(model.device)


def check_data(model: Model, data: Dataset) -> None:
    """``ValueError`` unless the images are of the model's spec and have what it is told: classes, vectors or maps."""
    if model.spec != data.spec:
        frames = [f"{s.frames} frames of " if s.frames > 1 else "" for s in (model.spec, data.spec)]
        sizes = [f"{s.channels}x{s.height}x{s.width} with {s.levels} levels" for s in (model.spec, data.spec)]
        (ours, theirs), change = map("".join, zip(frames, sizes, strict=True)), "frames, " if any(frames) else ""
        raise ValueError(
            f"data: the model is for {ours}, {data.name} {data.split} is {theirs}; change {change}size, levels, grey or binarise to match"
        )
    told = model.condition_spec
    if told is None:
        return
    if told.kind != "class":
        has = None if data.conditions is None else data.condition_spec
        if has != told:
            of = "none" if has is None else f"those of kind {has.kind!r}, size {has.size}"
            raise ValueError(f"data: the model is told a condition of kind {told.kind!r}, size {told.size}; {data.name} has {of}")
        return
    if data.labels is None:
        raise ValueError(f"data: the model is told a class, {data.name} {data.split} has no labels")
    if data.classes > int(told.size):                                    # pyright: ignore[reportArgumentType]
        raise ValueError(f"data: the model knows {told.size} classes, {data.name} has {data.classes}")


class Pool:
    """Threads that share torch's threads between them; a single worker is the caller itself."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.threads = torch.get_num_threads()
        share = max(1, self.threads // count)
        self.executor = ThreadPoolExecutor(count, "rastrum", lambda: torch.set_num_threads(share)) if count > 1 else None

    def map(self, work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results in the order of the items."""
        return map(work, items) if self.executor is None else self.executor.map(work, items)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        if self.executor is not None:
            self.executor.shutdown(cancel_futures=True)
            torch.set_num_threads(self.threads)                           # a worker's setting is what new threads would begin with
