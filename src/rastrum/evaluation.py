"""Held-out scores: nats per image and bits per dimension with their standard error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .autocast import inherited
from .data.dataset import Dataset
from .data.exemplars import ExemplarSets
from .devices import in_float64, to_device
from .model import Kind, Model
from .notebook import safe, table
from .processes import ALONE, Processes
from .progress import Progress, Report, bar
from .raster import RasterModel


@dataclass(frozen=True)
class Evaluation:
    """Mean over images of a held-out set.

    nats: per image, or per frame by ``evaluate_frames``; the lower the better.
    standard_error: of ``nats``, over images.
    images: how many were scored.
    size: values per image, or per frame.
    kind: "exact", "bound" (−log p is at most ``nats``) or "loss" (no likelihood, so ``bits_per_dim`` is None).
    """

    nats: float
    standard_error: float
    images: int
    size: int
    kind: Kind

    @property
    def bits_per_dim(self) -> float | None:
        """``nats`` in bits per value; None for a loss."""
        return None if self.kind == "loss" else self.nats / (self.size * math.log(2))

    @property
    def bits_standard_error(self) -> float | None:
        """``standard_error`` in bits per value; None for a loss."""
        return None if self.kind == "loss" else self.standard_error / (self.size * math.log(2))

    def __str__(self) -> str:
        bits = "" if self.bits_per_dim is None else f", {self.bits_per_dim:.4f} bits/dim"
        return f"{self.nats:.3f} ± {self.standard_error:.3f} nats{bits} ({self.kind}, {self.images} images)"

    @safe
    def _repr_html_(self) -> str:
        kind = {"exact": "exact", "bound": "bound: −log p is at most this", "loss": "loss, no likelihood"}[self.kind]
        bits = self.bits_per_dim and f"{self.bits_per_dim:.4f} ± {self.bits_standard_error:.4f}"
        rows = {"nats": f"{self.nats:.3f} ± {self.standard_error:.3f}", "bits/dim": bits, "kind": kind, "images": f"{self.images:,}"}
        return table("Evaluation", rows)


def evaluate(
    model: Model,
    data: Dataset,
    *,
    batch: int | None = None,
    num_samples: int = 1,
    seed: int = 0,
    workers: int | None = None,
    ensemble: bool = False,
    progress: Progress = None,
    processes: Processes = ALONE,
) -> Evaluation:
    """Score all images of a data set.

    model: any model with a likelihood or a bound.
    data: the images, and the condition of each where the model is conditional.
    batch: images at a time; None (default) takes what is usually fast.
    num_samples: trajectories of a bound, 1 by default; the bound is tighter with more.
    seed: of the bound's noise, 0 by default; it belongs to an image's number, so that batches and workers change nothing.
    workers: threads; None (default) takes as many as torch uses, on a GPU one.
    ensemble: score by the mixture over an image's flips and rotations (``ensemble_log_prob``); False by default.
    progress: a bar; None (default): in a terminal or a notebook after two seconds, True: at once, False: never; or a function that is
        called with the number of images done.
    processes: that share the images (``rastrum.processes.join()``), this one alone by default. Each has to call, and each gets the same
        result as one process alone.

    Raises ``ValueError`` for data that do not fit the model, a model whose loss is not a likelihood, and one that has no ensemble.
    """
    nats = image_nats(
        model, data, batch=batch, num_samples=num_samples, seed=seed, workers=workers, ensemble=ensemble, progress=progress,
        processes=processes,
    )  # fmt: skip
    return _mean(nats, model.spec.size, model.kind)


def image_nats(
    model: Model,
    data: Dataset,
    *,
    batch: int | None = None,
    num_samples: int = 1,
    seed: int = 0,
    workers: int | None = None,
    ensemble: bool = False,
    progress: Progress = None,
    processes: Processes = ALONE,
) -> Tensor:
    """The score of each image in nats, (N,) float64: −log p or a bound on it. Parameters and errors are as for ``evaluate``."""
    check_data(model, data)
    model.require_likelihood()
    if num_samples < 1:
        raise ValueError(f"num_samples: expected a whole number of at least 1, got {num_samples!r}")
    with _scoring(model, workers) as pool, _bar("images", data, progress, processes) as report:
        return _nats(model, data, pool, num_samples, seed, batch, report, ensemble, processes)


def score(model: Model, data: Dataset, pool: Pool, num_samples: int, seed: int, processes: Processes = ALONE) -> Evaluation:
    """``evaluate`` on existing threads, for a model in evaluation mode; a model without a likelihood gets its mean loss.

    model: any model.
    data: images that fit it, and their conditions where it is conditional.
    pool: the threads.
    num_samples: trajectories of a bound.
    seed: of the bound's noise.
    processes: that share the images, and all get the mean; this one alone by default.
    """
    return _mean(_nats(model, data, pool, num_samples, seed, processes=processes), model.spec.size, model.kind)


def _nats(
    model: Model,
    data: Dataset,
    pool: Pool,
    num_samples: int,
    seed: int,
    batch: int | None = None,
    report: Report | None = None,
    ensemble: bool = False,
    processes: Processes = ALONE,
) -> Tensor:
    """What ``model.score`` gives for each image, (N,) float64. Several processes share the images, and each gets all scores."""
    conditions = conditions_for(model, data)

    def nats(images: slice) -> Tensor:
        x, condition = data.images[images].to(model.device), None if conditions is None else to_device(conditions[images], model.device)
        return -ensemble_log_prob(model, x, condition) if ensemble else model.score(x, condition, num_samples, seed, images.start)

    return _each(nats, len(data), batch or model.images_at_a_time, pool, report, processes)


@contextmanager
def _scoring(model: Model, workers: int | None) -> Iterator[Pool]:
    """Threads, and meanwhile the model in evaluation mode."""
    training = model.training
    try:
        model.eval()
        with Pool(workers or (torch.get_num_threads() if model.device.type == "cpu" else 1)) as pool:   # a GPU has one queue
            yield pool
    finally:
        model.train(training)


def _each(
    nats: Callable[[slice], Tensor], count: int, batch: int, pool: Pool, report: Report | None, processes: Processes = ALONE
) -> Tensor:
    """``nats`` of ``count`` images, (count,) float64, ``batch`` at a time on the threads of ``pool``."""
    starts = range(0, count, batch)
    mine = starts[processes.share(len(starts))]                           # whole batches, so that scores are those of one process

    def work(start: int) -> Tensor:
        with torch.no_grad():                                             # a setting of each thread
            return in_float64(nats(slice(start, min(start + batch, count)))).cpu()

    parts: list[Tensor] = [torch.empty(0, dtype=torch.float64)]
    with processes.together():
        for part in pool.map(work, mine):
            parts.append(part)
            if report is not None:
                report(min((len(parts) - 1) * batch, count))
    return processes.joined(torch.cat(parts))


def _bar(unit: str, data: Dataset, progress: Progress, processes: Processes) -> AbstractContextManager[Report]:
    return bar("scoring", len(data), unit, progress, processes=processes.count)


def _mean(nats: Tensor, size: int, kind: Kind) -> Evaluation:
    error = nats.std().item() / math.sqrt(len(nats)) if len(nats) > 1 else math.nan
    return Evaluation(nats.mean().item(), error, len(nats), size, kind)


def evaluate_frames(
    model: RasterModel,
    data: Dataset,
    context: int,
    progress: Progress = None,
    processes: Processes = ALONE,
) -> Evaluation:
    """Score of videos per frame, over the frames after the first ``context``, given all earlier frames.

    model: of videos; one without a likelihood gets its loss, such as the cross-entropy of grey values.
    data: videos of the model's spec.
    context: frames that are known and not counted, 0 … frames − 1.
    progress: as for ``evaluate``, with the number of videos done.
    processes: as for ``evaluate``.

    Returns nats per frame, their mean over a video's counted frames, ± the standard error over videos; ``size`` is that of a frame.
    Raises ``ValueError`` for a model of still images, another context and data that do not fit the model.
    """
    check_data(model, data)
    frames = model.spec.frames
    if frames == 1:
        raise ValueError("context: this model draws still images, which have no frames; leave it out")
    if not 0 <= context < frames:
        raise ValueError(f"context: expected from 0 to {frames - 1} known frames of this model's {frames}, got {context}")

    def nats(images: slice) -> Tensor:
        return frame_nats(model, data.images[images].to(model.device))[:, context:].mean(1)

    with _scoring(model, None) as pool, _bar("videos", data, progress, processes) as report:
        every = _each(nats, len(data), model.images_at_a_time, pool, report, processes)
    return _mean(every, model.spec.size // frames, model.kind)


def frame_nats(model: RasterModel, x: Tensor) -> Tensor:
    """Nats of each frame given all before it; without a likelihood the loss of each frame.

    model: of videos.
    x: integer levels (B, T, C, H, W).

    Returns (B, T), float64.
    """
    return in_float64(model.loss_map(x)).flatten(2).sum(2)


def ensemble_log_prob(model: Model, x: Tensor, condition: Tensor | None = None) -> Tensor:
    """Log-probability of images under the mixture of p over their flips, and over quarter turns too if they are square.

    A likelihood like any other, log (1/n Σ p(turned x)) over 4 or 8 views, but there is no step to sample from it: the EoRIDE of
    Theis & Bethge 2015, section 3.2.

    model: a model with an exact likelihood.
    x: integer levels (B, *spec.shape).
    condition: one per image; None for an unconditional model.

    Returns nats (B,), float64. Raises ``ValueError`` for a model with a bound, and for one that is given a spatial map, which would have
    to turn with the image.
    """
    if model.kind != "exact":
        raise ValueError(f"ensemble: it mixes exact likelihoods, {type(model).__name__} has a {model.kind}; leave it out")
    if model.condition_spec is not None and model.condition_spec.kind == "map":
        raise ValueError("ensemble: the condition of this model is a spatial map, which does not turn with the image; leave it out")
    views = [x, x.transpose(-1, -2)] if x.shape[-1] == x.shape[-2] else [x]
    turned = [view.flip(sides) for view in views for sides in ((), (-1,), (-2,), (-2, -1))]
    return torch.stack([-model.nats(view, condition) for view in turned]).logsumexp(0) - math.log(len(turned))


def conditions_for(model: Model, data: Dataset) -> Tensor | ExemplarSets | None:
    """The conditions that a data set has for a model.

    model: its ``condition_spec`` says which.
    data: a data set that fits it (``check_data``).

    Returns labels, vectors, spatial maps or sets of exemplars (N, …), one per image; None for an unconditional model.
    """
    spec = model.condition_spec
    return None if spec is None else data.labels if spec.kind == "class" else data.conditions


def check_data(model: Model, data: Dataset) -> None:
    """Check that a data set fits a model.

    model: any model.
    data: its images must have the model's spec, and the condition that it needs.

    Raises ``ValueError`` naming what differs.
    """
    if model.spec != data.spec:
        frames = [f"{s.frames} frames of " if s.frames > 1 else "" for s in (model.spec, data.spec)]
        sizes = [f"{s.channels}x{s.height}x{s.width} with {s.levels} levels" for s in (model.spec, data.spec)]
        (ours, theirs), change = map("".join, zip(frames, sizes, strict=True)), "frames, " if any(frames) else ""
        change += "size, levels, grey, colour or binarise"
        raise ValueError(f"data: the model is for {ours}, {data.name} {data.split} is {theirs}; change {change} to match")
    spec = model.condition_spec
    if spec is None:
        return
    if spec.kind != "class":
        available = None if data.conditions is None else data.condition_spec
        if available != spec:
            has = "none" if available is None else f"those of kind {available.kind!r}, size {available.size}"
            raise ValueError(f"data: the model needs a condition of kind {spec.kind!r}, size {spec.size}; {data.name} has {has}")
        return
    if data.labels is None:
        raise ValueError(f"data: the model needs the class of each image, {data.name} {data.split} has no labels")
    if data.classes > int(spec.size):                                     # pyright: ignore[reportArgumentType]
        raise ValueError(f"data: the model knows {spec.size} classes, {data.name} has {data.classes}")


class Pool:
    """Threads that share torch's threads between them; a single worker is the caller itself.

    count: number of workers, at least 1.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.threads = torch.get_num_threads()
        share = max(1, self.threads // count)
        self.executor = ThreadPoolExecutor(count, "rastrum", lambda: torch.set_num_threads(share)) if count > 1 else None

    def map(self, work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results in the order of the items.

        work: a function of one item; it runs under the autocasting of the thread that asks.
        items: what it is called with.
        """
        work = inherited(work)
        return map(work, items) if self.executor is None else self.executor.map(work, items)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        if self.executor is not None:
            self.executor.shutdown(cancel_futures=True)
            torch.set_num_threads(self.threads)                           # a worker's setting is what new threads would begin with
