"""Canvas models: an image is drawn stroke by stroke; one decision = the latent of one stroke, and the likelihood is a bound.

    init ─▶ state ─▶ prior ────────▶ z ─▶ write ─▶ state … after the last stroke: x ~ p(x | canvas)
              └────▶ posterior(x) ──┘        └─▶ info: what only viewers want

A model says what the latent of the next stroke may be, before (``prior``) and after (``posterior``) seeing the image, and how a stroke
changes the canvas (``write``). Bound, sampling, generation and reconstruction are one walk over the strokes and stand here, once.
Noise belongs to the image, the stroke and the component, so splitting a batch changes no image.

Shapes: B images, K trajectories an image, S the shape of one latent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .latents import Latent
from .noise import LATENT, PIXEL, normal, uniform
from .protocol import ArrayLike, ConditionSpec, Distribution, Frame, ImageSpec, as_tensor, check_condition, check_images, check_kind

# Rows of one importance-weighted pass: bounds the memory, not the number of trajectories.
ROWS = 2048


class State:
    """Where a drawing stands.

    t: strokes made · canvas: (B, …) · condition: as given, or None · memory: the model's own tensors by name, each (B, …) ·
    info: what only viewers want of the stroke under way.
    """

    def __init__(self, canvas: Tensor, condition: Tensor | None, **memory: Tensor) -> None:
        self.t = 0
        self.canvas = canvas
        self.condition = condition
        self.memory = memory
        self.info: dict[str, Tensor] = {}

    @property
    def batch(self) -> int:
        return self.canvas.shape[0]

    def select(self, index: Tensor) -> State:
        """The state of the images ``index`` (any number of them, repeats allowed)."""
        condition = None if self.condition is None else self.condition[index]
        other = State(self.canvas[index], condition, **{name: value[index] for name, value in self.memory.items()})
        other.t = self.t
        other.info = {name: value[index] for name, value in self.info.items()}
        return other

    def copy(self) -> State:
        return self.select(torch.arange(self.batch, device=self.canvas.device))

    def repeat(self, n: int) -> State:
        """Each image ``n`` times in a row."""
        return self.select(torch.arange(self.batch, device=self.canvas.device).repeat_interleave(n))


class Stroke(NamedTuple):
    """One decision made: its prior, the latent z was drawn from (the posterior, where there is an image), z, and the write's info."""

    prior: Any
    drawn_from: Any
    z: Tensor
    info: dict[str, Tensor]


Noise = Callable[[int, torch.Size], Tensor]


class CanvasModel(nn.Module):
    """Base of every canvas model. A subclass defines ``steps`` and the six methods of the first section.

    The picture of a state is (B, C, H, W) in [0, 1]; a state's canvas may have any layout.
    """

    # Kinds of condition that a model of this class takes.
    conditions: tuple[str, ...] = ("class", "vector", "map")
    steps: int
    initialised: Tensor

    def __init__(self, spec: ImageSpec, config: Any, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__()
        check_kind(type(self).__name__, self.conditions, condition_spec)
        self.spec = spec
        self.config = config
        self.condition_spec = condition_spec
        self.register_buffer("initialised", torch.tensor(False))

    # ── what a model says ────────────────────────────────────────────────────────────────────────────────────────────

    def init(self, batch: int, condition: ArrayLike | int | None = None) -> State:
        """The state before the first stroke: learned initial states and canvas."""
        raise TypeError(f"{type(self).__name__} does not define init(batch, condition)")

    def prior(self, state: State) -> Latent:
        """The latent of stroke ``state.t``, before it is written."""
        raise TypeError(f"{type(self).__name__} does not define prior(state)")

    def posterior(self, state: State, x: Tensor) -> Latent:
        """The same after a look at the images x (B, *shape) int64; moves the encoder's half of the state."""
        raise TypeError(f"{type(self).__name__} does not define posterior(state, x)")

    def write(self, state: State, z: Tensor) -> dict[str, Tensor]:
        """Make stroke ``state.t`` with the latent z: moves the decoder's half and the canvas. Returns what only viewers want."""
        raise TypeError(f"{type(self).__name__} does not define write(state, z)")

    def distribution(self, state: State) -> Distribution:
        """p(x | canvas), batch shape (B, *spec.shape)."""
        raise TypeError(f"{type(self).__name__} does not define distribution(state)")

    def image(self, state: State) -> Tensor:
        """The canvas as a picture: (B, *spec.shape) in [0, 1]."""
        raise TypeError(f"{type(self).__name__} does not define image(state)")

    def initialise(self, x: Tensor, condition: Tensor | None = None) -> None:
        """Data-dependent initialisation on images x (B, *shape); train calls it before step 1."""

    def progress(self, fraction: float) -> float:
        """``fraction`` (0 … 1) of the training is done; train says so before every step, for a model that learns in stages.

        → the fraction done of the stage that it is in: every stage has a schedule of the learning rate of its own.
        """
        return fraction

    @property
    def has_likelihood(self) -> bool:
        """Whether ``distribution`` is a likelihood of the levels; without one there is a training loss, and no bound."""
        return True

    @property
    def loss_is_bound(self) -> bool:
        """Whether ``loss`` is −bound now, so that a training step may be told in bits/dim."""
        return self.has_likelihood

    def reconstruction(self, state: State, x: Tensor) -> Tensor:
        """log p(x | canvas) in nats, (B,) float64; what the training loss uses in its place where the model is not ``proper``."""
        return self.distribution(state).log_prob(x).double().flatten(1).sum(1)

    @property
    def device(self) -> torch.device:
        return self.initialised.device

    @property
    def dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.get_default_dtype())

    # ── likelihood ───────────────────────────────────────────────────────────────────────────────────────────────────

    def bound(
        self,
        x: ArrayLike,
        condition: ArrayLike | int | None = None,
        num_samples: int = 1,
        seed: int | None = None,
        terms: bool = False,
        first: int = 0,
    ) -> Any:
        """A lower bound on log p(x) in nats, (B,) float64.

        num_samples = 1: reconstruction − KL, the KL analytic; above 1: log-mean-exp of p(x, z)/q(z | x) over as many whole trajectories,
        tighter the more there are. terms: the pair (reconstruction (B,), kl (B, steps)) instead of their difference.
        seed: None draws from torch's generator (training); a number makes the noise of image i that of number ``first`` + i, whatever the
        batch. Raises ``ValueError`` where the model has no likelihood, and for images or conditions of another kind.
        """
        if not self.has_likelihood:
            raise ValueError(f"bound: {type(self).__name__} as configured has a loss, not a likelihood: no nats here")
        if type(num_samples) is not int or num_samples < 1:
            raise ValueError(f"bound: num_samples must be a whole number of at least 1, got {num_samples!r}")
        if terms and num_samples > 1:
            raise ValueError(f"bound: the terms stand apart for num_samples=1 only, got {num_samples}")
        x, condition = self._check(x, condition)
        if num_samples == 1:
            reconstruction, kl = self._terms(x, condition, seed, first)
            return (reconstruction, kl) if terms else reconstruction - kl.sum(1)
        per = max(1, ROWS // max(len(x), 1))
        weights = [self._log_weights(x, condition, seed, first, k, min(per, num_samples - k)) for k in range(0, num_samples, per)]
        return torch.logsumexp(torch.cat(weights, dim=1), dim=1) - math.log(num_samples)

    def loss(self, x: ArrayLike, condition: ArrayLike | int | None = None, seed: int | None = None) -> Tensor:
        """What training minimises, (B,): −bound; for a model that is not ``proper`` no nats, only a number to go down."""
        x, condition = self._check(x, condition)
        reconstruction, kl = self._terms(x, condition, seed, 0)
        return kl.sum(1) - reconstruction

    def _terms(self, x: Tensor, condition: Tensor | None, seed: int | None, first: int) -> tuple[Tensor, Tensor]:
        state = self.init(len(x), condition)
        kl = [stroke.drawn_from.kl(stroke.prior, stroke.z) for stroke in self._strokes(state, self._noise(len(x), seed, first), x)]
        return self.reconstruction(state, x), torch.stack(kl, dim=1).double()

    def _log_weights(self, x: Tensor, condition: Tensor | None, seed: int | None, first: int, k: int, count: int) -> Tensor:
        """log p(x, z)/q(z | x) of trajectories k … k + count − 1: (B, count) float64."""
        batch = len(x)
        x = x.repeat_interleave(count, dim=0)
        state = self.init(len(x), None if condition is None else condition.repeat_interleave(count, dim=0))
        weight = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for prior, posterior, z, _ in self._strokes(state, self._noise(batch, seed, first, k, count), x):
            weight = weight + (prior.log_prob(z) - posterior.log_prob(z)).double()
        return (weight + self.reconstruction(state, x)).view(batch, count)

    # ── drawing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    def sample(
        self, count: int, condition: ArrayLike | int | None = None, temperature: float = 1.0, seed: int = 0, first: int = 0
    ) -> Tensor:
        """Images (count, *spec.shape) int64: a fresh z from the prior for every stroke, then x ~ p(x | canvas).

        temperature: density^(1/temperature) of the latents and of the pixels. ``first`` is the number of the first image.
        """
        _check_count(count, temperature)
        told = check_condition(self.condition_spec, condition, count, self.device)
        parts = []
        for start in range(0, max(count, 1), ROWS):
            size = min(ROWS, count - start)
            state = self.init(size, None if told is None else told[start : start + size])
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
        """The same images, as Frames: the learned initial canvas, then one a stroke (every n-th for a number n, and the last).

        The last frame holds the levels that ``sample`` returns at this seed. info: ``canvas``, what is ``drawn`` (B, *shape);
        ``write_patch``, its signed change since the frame before; and what the model tells of its last write.
        """
        if every not in ("row", "decision") and not (isinstance(every, int) and every >= 1):
            raise ValueError(f"every: expected 'row', 'decision' or a number of strokes of at least 1, got {every!r}")
        stride = every if isinstance(every, int) else 1
        _check_count(count, temperature)
        yield from self._frames(self.init(count, condition), self._noise(count, seed, first), stride, seed, first, temperature)

    @torch.no_grad()
    def reconstruct(self, images: ArrayLike, condition: ArrayLike | int | None = None, seed: int = 0, first: int = 0) -> Iterator[Frame]:
        """Watch images (B, *shape) being drawn from the posterior, one Frame a stroke after the initial canvas.

        info: as ``generate``, what the model tells of its last look (read window, glimpse), and ``kl`` (B,) of the stroke in nats.
        """
        x, condition = self._check(images, condition)
        state = self.init(len(x), condition)
        yield from self._frames(state, self._noise(len(x), seed, first), 1, seed, first, 1.0, x)

    # ── latent code ──────────────────────────────────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    def encode(self, images: ArrayLike, condition: ArrayLike | int | None = None, seed: int = 0, first: int = 0) -> list[Tensor]:
        """The latents of images (B, *shape), drawn from the posterior: ``steps`` tensors (B, *S), in the order of the strokes."""
        x, condition = self._check(images, condition)
        strokes = self._strokes(self.init(len(x), condition), self._noise(len(x), seed, first), x)
        return [stroke.z for stroke in strokes]

    @torch.no_grad()
    def decode(
        self,
        latents: Sequence[ArrayLike],
        rest: Literal["sample", "mean"] = "sample",
        condition: ArrayLike | int | None = None,
        seed: int = 0,
        first: int = 0,
        count: int | None = None,
    ) -> Tensor:
        """Pictures (B, *spec.shape) in [0, 1] from the latents (B, *S) of the first strokes, as ``encode`` gives them.

        The other strokes come from the prior: drawn (``rest="sample"``) or at its mean ("mean"). ``count`` is the number of pictures
        where no latent is given. Raises ``ValueError`` for more latents than strokes, and for latents of another shape or not finite.
        """
        if not isinstance(latents, Sequence):
            raise ValueError(f"decode: expected a list of latents, one a stroke, got {type(latents).__name__}")
        if rest not in ("sample", "mean"):
            raise ValueError(f"rest: expected 'sample' or 'mean', got {rest!r}")
        if len(latents) > self.steps:
            raise ValueError(f"decode: expected the latents of at most {self.steps} strokes, got {len(latents)}")
        given = [as_tensor("latents", z).to(self.device, self.dtype) for z in latents]
        if any(z.ndim == 0 for z in given):
            raise ValueError("decode: each latent has a shape (B, …), got a single number")
        if not all(bool(torch.isfinite(z).all()) for z in given):
            raise ValueError("decode: latents must be finite numbers, some are not")
        if given and count not in (None, len(given[0])):
            raise ValueError(f"decode: latents of {len(given[0])} images, but count is {count}")
        batch = len(given[0]) if given else count
        if batch is None:
            raise ValueError("decode: without latents, count must say how many pictures")
        _check_count(batch, 1.0)
        state, noise = self.init(batch, condition), self._noise(batch, seed, first)
        while state.t < self.steps:
            prior, t = self.prior(state), state.t
            if t < len(given):
                if given[t].shape != prior.mean.shape:
                    shape, expected = tuple(given[t].shape), tuple(prior.mean.shape)
                    raise ValueError(f"decode: the latent of stroke {t} has the shape {expected}, got {shape}")
                z = given[t]
            else:
                z = prior.mean if rest == "mean" else prior.sample(noise(t, prior.noise_shape))
            self.write(state, z)
        return self.image(state)

    def _frames(
        self, state: State, noise: Noise, stride: int, seed: int, first: int, temperature: float, x: Tensor | None = None
    ) -> Iterator[Frame]:
        before = self.drawn(state)
        yield Frame(self.image(state), None, 0.0, None, {"canvas": before})
        for prior, latent, z, info in self._strokes(state, noise, x, temperature):
            last = state.t == self.steps
            if state.t % stride and not last:
                continue
            after = self.drawn(state)
            info = {"canvas": after, "write_patch": after - before, **info}
            if x is not None:
                info["kl"] = latent.kl(prior, z)
            values = self._values(state, seed, first, temperature) if last else None
            yield Frame(self.image(state), values, state.t / self.steps, info.get("write_window"), info)
            before = after

    def drawn(self, state: State) -> Tensor:
        """The canvas as a viewer wants it, (B, *shape), before it is squashed to a picture: strokes add up, ink and eraser have a sign."""
        return torch.logit(self.image(state), eps=1e-6)

    def _strokes(self, state: State, noise: Noise, x: Tensor | None = None, temperature: float = 1.0) -> Iterator[Stroke]:
        """Every decision in turn; z from the posterior of x where there is one, else from the prior."""
        while state.t < self.steps:
            prior = self.prior(state)
            latent = prior if x is None else self.posterior(state, x)
            z = latent.sample(noise(state.t, latent.noise_shape), temperature)
            look = state.info
            yield Stroke(prior, latent, z, look | self.write(state, z))

    def _values(self, state: State, seed: int, first: int, temperature: float) -> Tensor:
        """x ~ p(x | canvas); the nearest level of the picture where there is no likelihood."""
        if not self.has_likelihood:
            return torch.round(self.image(state) * (self.spec.levels - 1)).long()
        images = np.arange(first, first + state.batch)
        u = torch.from_numpy(uniform(seed, images, 0, self.spec.size, purpose=PIXEL)).to(self.device)
        return self.distribution(state).sample(u.view(state.batch, *self.spec.shape), temperature)

    def _noise(self, batch: int, seed: int | None, first: int, trajectory: int = 0, count: int = 1) -> Noise:
        """Standard normal noise of a stroke for (batch · count, *S): images ``first`` …, each with ``count`` trajectories."""
        if seed is None:
            return lambda t, shape: torch.randn(shape, dtype=self.dtype, device=self.device)
        images = np.arange(first, first + batch)

        def draw(t: int, shape: torch.Size) -> Tensor:
            size = shape[1:].numel()
            values = normal(seed, images, trajectory * size, count * size, component=t, purpose=LATENT)
            return torch.from_numpy(values).to(self.device, self.dtype).view(shape)

        return draw

    def _check(self, x: ArrayLike, condition: ArrayLike | int | None) -> tuple[Tensor, Tensor | None]:
        x = check_images(self.spec, x, self.device)
        return x, check_condition(self.condition_spec, condition, len(x), self.device)

    # ── saving ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights, config and card to ``folder``; ``rastrum.load`` reads them."""
        from .checkpoint import save_pretrained

        save_pretrained(self, folder)


def _check_count(count: int, temperature: float) -> None:
    if not isinstance(count, int) or count < 0:
        raise ValueError(f"count: expected a number of images of at least 0, got {count!r}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature: expected a number above 0, got {temperature!r}")
