"""Completion by weighted particles: known values steer what is drawn before them, not only what comes after.

Each image has K particles, walks that draw its unknown decisions as any sample does (a bootstrap filter: Gordon, Salmond, Smith 1993,
"Novel approach to nonlinear/non-Gaussian Bayesian state estimation"):

    (1)  at a known decision           w_k ← w_k · p(known value | what particle k has so far)
    (2)  before an unknown decision    where the effective sample size (Σ w)² / Σ w² is below K / 2, particles are resampled by weight,
         that follows known ones       systematically (Kitagawa 1996): at the points (n + u) / K of Σ w; all weights become their mean

Resampling gains nothing while nothing is drawn, so (2) waits for the end of a known stretch. The mean of the last w estimates p(known),
without bias at any K; particles drawn by the last w follow p(unknown | known) as K grows.

p is that of the integer CDF at the temperature of the walk, which samples are drawn from and a coder uses. So no known value has less than
2^-24. What is known from the start is walked once per image, and weighs the same for all of its particles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .distributions import CDF_TOTAL, tempered
from .noise import PARTICLE, uniform
from .processes import ALONE, Processes
from .protocol import Work
from .raster import Backend, RasterModel, State
from .walk import MAX_BATCH, Sample, quiet


def weighted(
    model: RasterModel,
    images: Tensor,
    known: Tensor,
    condition: Tensor | None,
    particles: int,
    temperature: float = 1.0,
    seed: int = 0,
    first: int = 0,
    backend: Backend = None,
) -> tuple[Tensor, Tensor]:
    """Walks K weighted particles per image.

    model: a raster model.
    images: levels (B, *shape), read where known.
    known: (B, *shape) bool.
    condition: (B, …), or None.
    particles: K.
    temperature, seed, backend: as for ``complete``.
    first: image number of the first image, 0 by default; particle k of image b has the noise of image number b · K + k, so that splitting a
        batch changes nothing.

    Returns particles (B, K, *shape) int64 and their log weights (B, K), float64 nats.
    """
    batch, order, size = len(images), model.order, model.spec.size
    kept, free = images.flatten(1)[:, order], ~known.flatten(1)[:, order]
    resumes = free & ~F.pad(free, (1, 0), value=True)[:, :-1]             # unknown, right after a known one
    unknown = free.any(0)
    begin = int(unknown.to(torch.int8).argmax()) if bool(unknown.any()) else size
    chooser = Sample(seed, temperature, first * particles)
    with quiet(model) as threads:
        state = model.init(batch, condition, backend, threads)
        weights = _walk(model, state, begin, chooser, free, kept, torch.zeros(batch, dtype=torch.float64))
        state, free, kept = state.repeat(particles), *(each.repeat_interleave(particles, 0) for each in (free, kept))
        weights = weights.repeat_interleave(particles)
        for stop in [t for t, due in enumerate(resumes.any(0).tolist()) if due and t > begin] + [size]:
            weights = _walk(model, state, stop, chooser, free, kept, weights)
            if stop < size:
                u = torch.from_numpy(uniform(seed, range(first, first + batch), stop, 1, purpose=PARTICLE))
                index, weights = _resample(weights.view(batch, particles), resumes[:, stop].cpu(), u)
                if index is not None:
                    state = state.select(index.to(model.device))
    return state.x.unflatten(0, (batch, particles)), weights.view(batch, particles)


def completions(
    model: RasterModel,
    images: Tensor,
    known: Tensor,
    condition: Tensor | None,
    num_samples: int,
    particles: int,
    temperature: float = 1.0,
    seed: int = 0,
    backend: Backend = None,
    processes: Processes = ALONE,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Completions of a few images at a time, drawn from their particles by the last weights.

    model, images, known, condition, particles: as for ``weighted``.
    num_samples: completions per image.
    temperature, seed, backend, processes: as for ``complete``.

    Yields completions (b, num_samples, *shape) and log weights (b, K) of the images that this process completes.
    """
    step = max(1, MAX_BATCH // particles)
    firsts = range(0, len(images), step)
    for first in firsts[processes.share(len(firsts))]:
        part = slice(first, first + step)
        given = None if condition is None else condition[part]
        values, weights = weighted(model, images[part], known[part], given, particles, temperature, seed, first, backend)
        u = uniform(seed, range(first, first + len(values)), 0, num_samples, component=1, purpose=PARTICLE)
        index = choose(weights, torch.from_numpy(u)).to(values.device)
        yield values[torch.arange(len(values), device=values.device)[:, None], index], weights


def choose(weights: Tensor, points: Tensor) -> Tensor:
    """The particle at each point of the cumulative weights.

    weights: log weights (B, K).
    points: in [0, 1), (B, N).

    Returns indices (B, N), int64.
    """
    return torch.searchsorted(weights.softmax(1).cumsum(1), points, right=True).clamp_(max=weights.shape[1] - 1)


def effective_size(weights: Tensor) -> Tensor:
    """Effective sample size (Σ w)² / Σ w², (B,), from 1 to K, of log ``weights`` (B, K)."""
    return 1 / weights.softmax(1).square().sum(1)


def log_evidence(weights: Tensor) -> Tensor:
    """Logarithm of the mean weight, nats (B,), which estimates log p(known); of log ``weights`` (B, K)."""
    return weights.logsumexp(1) - math.log(weights.shape[1])


def _resample(weights: Tensor, due: Tensor, u: Tensor) -> tuple[Tensor | None, Tensor]:
    """Equation (2): log weights (B, K), images due (B,), u (B, 1) → the index that each particle copies (None: all stay), and weights."""
    batch, count = weights.shape
    due = due & (effective_size(weights) < count / 2)
    if not bool(due.any()):
        return None, weights.flatten()
    own = torch.arange(count)
    index = torch.where(due[:, None], choose(weights, (own + u) / count), own)
    weights = torch.where(due[:, None], log_evidence(weights)[:, None], weights)
    return (index + count * torch.arange(batch)[:, None]).flatten(), weights.flatten()


def _walk(model: RasterModel, state: State, stop: int, chooser: Sample, free: Tensor, kept: Tensor, weights: Tensor) -> Tensor:
    """Makes decisions state.t … stop − 1: drawn where ``free``, else ``kept``, both (B, D). Returns log weights (B,) after equation (1)."""
    start = state.t
    if start == stop:
        return weights
    free, kept = free[:, start:stop], kept[:, start:stop]
    counts = torch.full(free.shape, CDF_TOTAL, dtype=torch.int64, device=free.device)
    if state.decides("weigh"):
        work = Work("weigh", chooser.seed, chooser.first, chooser.temperature, counts=counts)
        model.decide(state, stop, work, free, kept)
    else:
        for t, some, every in zip(range(start, stop), free.any(0).tolist(), free.all(0).tolist(), strict=True):
            on, value = free[:, t - start], kept[:, t - start]
            distribution = model.step(state)
            if some:
                value = torch.where(on, chooser(t, distribution, on), value)
            if not every:
                if chooser.temperature != 1:
                    distribution = tempered(distribution.log_pmf(), chooser.temperature)
                counts[:, t - start] = torch.where(on, CDF_TOTAL, distribution.cdf(value + 1) - distribution.cdf(value))
            model.observe(state, value)
    gained = (counts.cpu() / CDF_TOTAL).log()
    return torch.cat([weights[:, None], gained], 1).cumsum(1)[:, -1]      # one after another: the same sum however the walk is cut
