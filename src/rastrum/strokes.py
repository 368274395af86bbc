"""What canvas models get from their contract (``canvas.py``): bound, loss, samples, frames, reconstruction and latent code.

Each of them is one walk over the strokes. Noise belongs to the image, the stroke and the component, so splitting a batch changes no image.

Shapes: B images, K trajectories of an image, S the shape of one latent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

from .canvas import Canvas, State
from .denormals import each_kept, keeping
from .devices import float64_device, in_float64
from .memory import ask_graph
from .noise import LATENT, PIXEL, normal, uniform
from .protocol import ArrayLike, Frame, as_tensor, check_images
from .training_noise import standard_normal

# Rows of one importance-weighted pass: bounds the memory, not the number of trajectories.
ROWS = 2048


class Stroke(NamedTuple):
    """One decision made.

    prior: of its latent.
    source: the distribution that z was drawn from: the posterior where there is an image, else the prior.
    z: the latent, (B, *S).
    info: for viewers, of its look and of its write.
    """

    prior: Any
    source: Any
    z: Tensor
    info: dict[str, Tensor]


# Noise of a shape (B, …) for stroke t.
Noise = Callable[[int, torch.Size], Tensor]


class CanvasModel(Canvas):
    """Base of every canvas model. A subclass sets ``steps`` and defines the abstract methods of ``Canvas``.

    spec, config, condition_spec: as for ``Model``.
    """

    # ── likelihood ───────────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def bound(
        self,
        x: ArrayLike,
        condition: ArrayLike | int | None = None,
        num_samples: int = 1,
        seed: int | None = None,
        terms: Literal[False] = False,
        first: int = 0,
    ) -> Tensor: ...

    @overload
    def bound(
        self,
        x: ArrayLike,
        condition: ArrayLike | int | None = None,
        num_samples: int = 1,
        seed: int | None = None,
        *,
        terms: Literal[True],
        first: int = 0,
    ) -> tuple[Tensor, Tensor]: ...

    def bound(
        self,
        x: ArrayLike,
        condition: ArrayLike | int | None = None,
        num_samples: int = 1,
        seed: int | None = None,
        terms: bool = False,
        first: int = 0,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """A lower bound on log p(x) in nats.

        x: integer levels (B, *spec.shape), torch or numpy.
        condition: one per image, or one for all; None for an unconditional model.
        num_samples: trajectories, 1 by default. 1: reconstruction − KL, the KL analytic; more: log-mean-exp of p(x, z) / q(z | x) over as
            many whole trajectories, which is tighter.
        seed: None (default) draws the noise from torch's generator, or as training does (``training_noise``); a number makes it that of
            image number ``first`` + i.
        terms: True gives the pair (reconstruction (B,), KL of each stroke (B, steps)) instead of their difference; for num_samples=1.
        first: number of the first image, 0 by default; so splitting a batch changes nothing.

        Returns (B,) float64 (on the CPU, if the model's device has no such type). Raises ``ValueError`` for a model without a likelihood,
        and for images or conditions that do not fit it.
        """
        self.require_likelihood()
        if type(num_samples) is not int or num_samples < 1:
            raise ValueError(f"bound: num_samples must be a whole number of at least 1, got {num_samples!r}")
        if terms and num_samples > 1:
            raise ValueError(f"bound: the terms stand apart for num_samples=1 only, got {num_samples}")
        x, condition = self._check(x, condition)
        ask_graph("bound", self, x, lambda i: self._terms(x[i], None if condition is None else condition[i], 0, first)[0])
        if num_samples == 1:
            reconstruction, kl = self._terms(x, condition, seed, first)
            return (reconstruction, kl) if terms else reconstruction - kl.sum(1)
        per = max(1, ROWS // max(len(x), 1))
        weights = [self._log_weights(x, condition, seed, first, k, min(per, num_samples - k)) for k in range(0, num_samples, per)]
        return torch.logsumexp(torch.cat(weights, dim=1), dim=1) - math.log(num_samples)

    def loss(self, x: ArrayLike, condition: ArrayLike | int | None = None, seed: int | None = None) -> Tensor:
        """What training minimises: KL − reconstruction, which is −bound where the model has a likelihood.

        x: integer levels (B, *spec.shape), torch or numpy.
        condition: one per image, or one for all; None (default) for an unconditional model.
        seed: of the noise; None (default) draws it from torch's generator.

        Returns nats (B,), float64.
        """
        x, condition = self._check(x, condition)
        reconstruction, kl = self._terms(x, condition, seed, 0)
        return kl.sum(1) - reconstruction

    def score(
        self, x: ArrayLike, condition: ArrayLike | int | None = None, num_samples: int = 1, seed: int = 0, first: int = 0
    ) -> Tensor:
        """−bound in nats, (B,) float64; of a model without a likelihood the loss. Parameters as for ``Model.nats``."""
        if not self.has_likelihood:
            return self.loss(x, condition, seed)
        return -self.bound(x, condition, num_samples, seed, first=first)

    def _terms(self, x: Tensor, condition: Tensor | None, seed: int | None, first: int) -> tuple[Tensor, Tensor]:
        state = self.init(len(x), condition)
        kl = [stroke.source.kl(stroke.prior, stroke.z) for stroke in self._strokes(state, self._noise(len(x), seed, first), x)]
        return self.reconstruction(state, x), in_float64(torch.stack(kl, dim=1))

    def _log_weights(self, x: Tensor, condition: Tensor | None, seed: int | None, first: int, k: int, count: int) -> Tensor:
        """log p(x, z)/q(z | x) of trajectories k … k + count − 1: (B, count) float64."""
        batch = len(x)
        x, state = x.repeat_interleave(count, dim=0), self.init(batch, condition).repeat(count)   # what a condition needs, once per image
        weight = torch.zeros(len(x), dtype=torch.float64, device=float64_device(x.device))
        for prior, posterior, z, _ in self._strokes(state, self._noise(batch, seed, first, k, count), x):
            weight = weight + in_float64(prior.log_prob(z) - posterior.log_prob(z))
        return (weight + self.reconstruction(state, x)).view(batch, count)

    # ── drawing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    @keeping
    def sample(
        self, count: int, condition: ArrayLike | int | None = None, temperature: float = 1.0, seed: int = 0, first: int = 0
    ) -> Tensor:
        """Draw images: a fresh z from the prior for every stroke, then x ~ p(x | canvas).

        count: number of images.
        condition: one per image, or one for all; None for an unconditional model.
        temperature: density^(1/temperature) of the latents and of the pixels, 1 by default.
        seed: same seed, same images; 0 by default.
        first: number of the first image, 0 by default; so splitting a batch changes nothing.

        Returns integer levels (count, *spec.shape), int64.
        """
        _check_count(count, temperature)
        condition = self.check_condition(condition, count)
        parts = []
        for start in range(0, max(count, 1), ROWS):
            size = min(ROWS, count - start)
            state = self.init(size, None if condition is None else condition[start : start + size])
            for _ in self._strokes(state, self._noise(size, seed, first + start), temperature=temperature):
                pass
            parts.append(self._values(state, seed, first + start, temperature))
        return torch.cat(parts)

    @torch.no_grad()
    def generate(
        self,
        count: int,
        condition: ArrayLike | int | None = None,
        temperature: float = 1.0,
        seed: int = 0,
        every: Literal["row", "decision"] | int = "row",
        first: int = 0,
    ) -> Iterator[Frame]:
        """The images of ``sample`` as Frames while they are drawn: the learned initial canvas, then one Frame per stroke.

        count, condition, temperature, seed, first: as for ``sample``.
        every: a number n gives a Frame every n-th stroke, and the last; "row" (default) and "decision" give one every stroke.

        Yields Frames; the last holds the levels that ``sample`` returns for this seed. Their ``info`` holds ``canvas``, what is ``drawn``
        (B, *shape); ``write_patch``, its signed change since the frame before; and what the model says of its last write.
        """
        if every not in ("row", "decision") and not (isinstance(every, int) and every >= 1):
            raise ValueError(f"every: expected 'row', 'decision' or a number of strokes of at least 1, got {every!r}")
        stride = every if isinstance(every, int) else 1
        _check_count(count, temperature)
        state, noise = self.init(count, condition), self._noise(count, seed, first)
        return each_kept(self._frames(state, noise, stride, seed, temperature, first=first))

    @torch.no_grad()
    def reconstruct(self, images: ArrayLike, condition: ArrayLike | int | None = None, seed: int = 0, first: int = 0) -> Iterator[Frame]:
        """Images being redrawn from the posterior: the initial canvas, then one Frame per stroke.

        images: integer levels (B, *spec.shape).
        condition: one per image, or one for all; None for an unconditional model.
        seed: same seed, same strokes; 0 by default.
        first: number of the first image, 0 by default; so splitting a batch changes nothing.

        Yields Frames; ``info`` is as for ``generate``, with what the model says of its last look (read window, glimpse) and ``kl`` (B,) of
        the stroke in nats.
        """
        self.require_posterior()
        x, condition = self._check(images, condition)
        return each_kept(self._frames(self.init(len(x), condition), self._noise(len(x), seed, first), 1, seed, 1.0, x, first))

    # ── latent code ──────────────────────────────────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    @keeping
    def encode(self, images: ArrayLike, condition: ArrayLike | int | None = None, seed: int = 0, first: int = 0) -> list[Tensor]:
        """The latents of images, drawn from the posterior.

        images, condition, seed, first: as for ``reconstruct``.

        Returns ``steps`` tensors (B, *S), in the order of the strokes.
        """
        self.require_posterior()
        x, condition = self._check(images, condition)
        strokes = self._strokes(self.init(len(x), condition), self._noise(len(x), seed, first), x)
        return [stroke.z for stroke in strokes]

    @torch.no_grad()
    @keeping
    def decode(
        self,
        latents: Sequence[ArrayLike],
        rest: Literal["sample", "mean"] = "sample",
        condition: ArrayLike | int | None = None,
        seed: int = 0,
        first: int = 0,
        count: int | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Pictures from the latents of the first strokes, as ``encode`` gives them; the other strokes come from the prior.

        latents: of the first strokes, each (B, *S).
        rest: the other latents are drawn from the prior ("sample", default) or at its mean ("mean").
        condition: one per image, or one for all; None for an unconditional model.
        seed: of the latents that are drawn, 0 by default.
        first: number of the first image, 0 by default; so splitting a batch changes nothing.
        count: the number of pictures where no latent is given.
        temperature: density^(1/temperature) of the latents that are drawn, 1 by default.

        Returns pictures (B, *spec.shape) in [0, 1]. Raises ``ValueError`` for more latents than strokes, and for latents of another shape
        or not finite.
        """
        if not isinstance(latents, Sequence):
            raise ValueError(f"decode: expected a list of latents, one per stroke, got {type(latents).__name__}")
        if rest not in ("sample", "mean"):
            raise ValueError(f"rest: expected 'sample' or 'mean', got {rest!r}")
        if len(latents) > self.steps:
            raise ValueError(f"decode: expected the latents of at most {self.steps} strokes, got {len(latents)}")
        given = [as_tensor("latents", z).to(self.dtype).to(self.device) for z in latents]
        if any(z.ndim == 0 for z in given):
            raise ValueError("decode: each latent has a shape (B, …), got a single number")
        if not all(bool(torch.isfinite(z).all()) for z in given):
            raise ValueError("decode: latents must be finite numbers, some are not")
        if given and count not in (None, len(given[0])):
            raise ValueError(f"decode: latents of {len(given[0])} images, but count is {count}")
        batch = len(given[0]) if given else count
        if batch is None:
            raise ValueError("decode: without latents, count must say how many pictures")
        _check_count(batch, temperature)
        state, noise = self.init(batch, condition), self._noise(batch, seed, first)
        while state.t < self.steps:
            prior, t = self.prior(state), state.t
            if t < len(given):
                if given[t].shape != prior.mean.shape:
                    shape, expected = tuple(given[t].shape), tuple(prior.mean.shape)
                    raise ValueError(f"decode: the latent of stroke {t} has the shape {expected}, got {shape}")
                z = given[t]
            else:
                z = prior.mean if rest == "mean" else prior.sample(noise(t, prior.noise_shape), temperature)
            self.write(state, z)
        return self.image(state)

    @torch.no_grad()
    @keeping
    def interpolate(
        self,
        start: ArrayLike | None = None,
        end: ArrayLike | None = None,
        condition: ArrayLike | int | None = None,
        count: int = 9,
        pairs: int = 1,
        seed: int = 0,
    ) -> Tensor:
        """Pictures on the way from one image to another through the latents of all strokes, or between two draws from the prior.

        The path runs through standardised latents, (z − mean) / sd of each stroke's prior, which are standard normal under the model. All
        strokes together are one vector, moved along the arc between its two ends (Shoemake 1985, "slerp"), so that it stays where latents
        usually lie; each stroke's own prior, given the strokes before it, then places them.

        start, end: integer levels (B, *spec.shape); None (default, both) draws both ends of ``pairs`` paths from the prior.
        condition: one per path, or one for all, of both ends and what lies between; None for an unconditional model.
        count: pictures of each path, the ends included, 9 by default.
        pairs: number of paths B where no images are given, 1 by default.
        seed: of the latents, 0 by default: those of ``encode`` for the start (images 0 … B − 1) and the end (B … 2B − 1).

        Returns pictures (B, count, *spec.shape) in [0, 1]. Raises ``ValueError`` for one end without the other, images of different
        numbers, fewer than 2 pictures, and a model whose prior has no standard deviation.
        """
        if (start is None) != (end is None):
            raise ValueError("interpolate: give both images, start and end, or neither")
        if type(count) is not int or count < 2:
            raise ValueError(f"count: a path has its two ends, so at least 2 pictures, got {count!r}")
        if type(pairs) is not int or pairs < 1:
            raise ValueError(f"pairs: expected a whole number of at least 1, got {pairs!r}")
        ends: list[list[Tensor]] = []
        for i, images in enumerate((start, end)):
            x = None if images is None else check_images(self.spec, images, self.device)
            batch = pairs if x is None else len(x)
            if ends and batch != len(ends[0][0]):
                raise ValueError(f"interpolate: as many images to end at as to start from, got {len(ends[0][0])} and {batch}")
            strokes = self._strokes(self.init(batch, condition), self._noise(batch, seed, i * batch), x)
            ends.append([(stroke.z - stroke.prior.mean) / _sd(stroke.prior) for stroke in strokes])
        pictures = []
        for share in torch.linspace(0, 1, count).tolist():
            state = self.init(len(ends[0][0]), condition)
            for z in _on_path(ends[0], ends[1], share):
                prior = self.prior(state)
                self.write(state, prior.mean + _sd(prior) * z)
            pictures.append(self.image(state))
        return torch.stack(pictures, dim=1)

    @torch.no_grad()
    def _frames(
        self, state: State, noise: Noise, stride: int, seed: int, temperature: float, x: Tensor | None = None, first: int = 0
    ) -> Iterator[Frame]:
        before = self.drawn(state)
        yield Frame(self.image(state), None, 0.0, None, {"canvas": before})
        for prior, source, z, info in self._strokes(state, noise, x, temperature):
            last = state.t == self.steps
            if state.t % stride and not last:
                continue
            after = self.drawn(state)
            info = {"canvas": after, "write_patch": after - before, **info}
            if x is not None:
                info["kl"] = source.kl(prior, z)
            values = self._values(state, seed, first, temperature) if last else None
            yield Frame(self.image(state), values, state.t / self.steps, info.get("write_window"), info)
            before = after

    def _strokes(self, state: State, noise: Noise, x: Tensor | None = None, temperature: float = 1.0) -> Iterator[Stroke]:
        """Every decision in turn; z from the posterior of x where there is one, else from the prior."""
        while state.t < self.steps:
            prior = self.prior(state)
            source = prior
            if x is not None:
                self.look(state, x)
                source = self.posterior(state)
            z = source.sample(noise(state.t, source.noise_shape), temperature)
            look = state.info
            yield Stroke(prior, source, z, look | self.write(state, z))

    def _values(self, state: State, seed: int, first: int, temperature: float) -> Tensor:
        """x ~ p(x | canvas); the nearest level of the picture where there is no likelihood."""
        if not self.has_likelihood:
            return torch.round(self.image(state) * (self.spec.levels - 1)).long()
        images = np.arange(first, first + state.batch)
        u = torch.from_numpy(uniform(seed, images, 0, self.spec.size, purpose=PIXEL)).float().to(self.device)   # its 24 bits fit
        return self.distribution(state).sample(u.view(state.batch, *self.spec.shape), temperature)

    def _noise(self, batch: int, seed: int | None, first: int = 0, trajectory: int = 0, count: int = 1) -> Noise:
        """Standard normal noise of a stroke for (batch · count, *S): images ``first`` …, each with ``count`` trajectories."""
        if seed is None:
            return lambda t, shape: standard_normal(shape, self.dtype, self.device)
        images = np.arange(first, first + batch)

        def draw(t: int, shape: torch.Size) -> Tensor:
            size = shape[1:].numel()
            values = normal(seed, images, trajectory * size, count * size, component=t, purpose=LATENT)
            return torch.from_numpy(values).to(self.dtype).to(self.device).view(shape)

        return draw

    def _check(self, x: ArrayLike, condition: ArrayLike | int | None) -> tuple[Tensor, Tensor | None]:
        x = check_images(self.spec, x, self.device)
        return x, self.check_condition(condition, len(x))


def _sd(prior: Any) -> Tensor:
    if not hasattr(prior, "sd"):
        raise ValueError(f"interpolate: a prior of kind {type(prior).__name__} has no standard deviation sd, so its latents have no path")
    return prior.sd


def _on_path(start: list[Tensor], end: list[Tensor], share: float) -> list[Tensor]:
    """The point at ``share`` of the arc between two trajectories, each (B, *S) per stroke: sin((1 − s)Ω)/sin Ω · a + sin(sΩ)/sin Ω · b."""
    a, b = (torch.cat([z.flatten(1) for z in each], dim=1) for each in (start, end))
    cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-12)
    angle = torch.acos(cosine.clamp(-1, 1))[:, None]
    arc = torch.sin(angle)
    weights = [torch.where(arc < 1e-4, part, torch.sin(part * angle) / arc) for part in (1 - share, share)]
    point = weights[0] * a + weights[1] * b
    return [part.view(z.shape) for part, z in zip(point.split([z[0].numel() for z in start], dim=1), start, strict=True)]


def _check_count(count: int, temperature: float) -> None:
    if not isinstance(count, int) or count < 0:
        raise ValueError(f"count: expected a number of images of at least 0, got {count!r}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature: expected a number above 0, got {temperature!r}")
