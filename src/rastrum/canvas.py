"""Canvas models: an image is drawn stroke by stroke; one decision = the latent of one stroke, and the likelihood is a bound.

    init ─▶ state ─▶ prior ────────────────▶ z ─▶ write ─▶ state … after the last stroke: x ~ p(x | canvas)
              └────▶ look(x) ─▶ posterior ───┘        └─▶ info: for viewers only

This is the contract: what a model says of the latent of the next stroke before (``prior``) and after (``look``, ``posterior``) it sees the
image, and how a stroke changes the canvas (``write``). ``prior``, ``posterior``, ``distribution`` and ``image`` are queries: they change
nothing. What follows from the contract (bound, samples, reconstruction, latent code) stands in ``strokes.py``.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from .devices import in_float64
from .latents import Latent
from .model import Model
from .protocol import ArrayLike, JointDistribution

if TYPE_CHECKING:
    from .program.builder import Program, StrokeMaps


class State:
    """Where a drawing stands.

    canvas: (B, …), in the model's own layout.
    condition: one per image, as a checked tensor; None for an unconditional model.
    memory: the model's own tensors by name, each (B, …).

    Further attributes: ``t``, the number of strokes made; ``info``, for viewers only, of the last look: read window, glimpse; ``shared``,
    what the model keeps for all strokes, and all images have in common.
    """

    def __init__(self, canvas: Tensor, condition: Tensor | None, **memory: Tensor) -> None:
        self.t = 0
        self.canvas = canvas
        self.condition = condition
        self.memory = memory
        self.info: dict[str, Tensor] = {}
        self.shared: dict[str, Any] = {}

    @property
    def batch(self) -> int:
        """The number of images B."""
        return self.canvas.shape[0]

    def select(self, index: Tensor) -> State:
        """The state of some of the images, repeats allowed.

        index: integers (n,), or a bool mask (B,).
        """
        condition = None if self.condition is None else self.condition[index]
        other = State(self.canvas[index], condition, **{name: value[index] for name, value in self.memory.items()})
        other.t, other.shared = self.t, self.shared
        other.info = {name: value[index] for name, value in self.info.items()}
        return other

    def copy(self) -> State:
        """A state of its own memory, at the same stroke."""
        return self.select(torch.arange(self.batch, device=self.canvas.device))

    def repeat(self, n: int) -> State:
        """Each image ``n`` times in a row."""
        return self.select(torch.arange(self.batch, device=self.canvas.device).repeat_interleave(n))


class Canvas(Model):
    """The contract of canvas models; a model subclasses ``CanvasModel``, which adds all that follows from it.

    The picture of a state is (B, C, H, W) in [0, 1]; a state's canvas may have any layout.
    """

    likelihood = "bound"
    has_posterior: ClassVar[bool] = True
    """Whether an image has latents: ``look`` and ``posterior``, and so a reconstruction and a code."""
    steps: int
    """The number of strokes, or of latents where a stroke has several."""

    @abstractmethod
    def init(self, batch: int, condition: ArrayLike | int | None = None) -> State:
        """The state before the first stroke: learned initial states and canvas.

        batch: number of images B.
        condition: one per image, or one for all; None for an unconditional model.
        """

    @abstractmethod
    def prior(self, state: State) -> Latent:
        """The latent of stroke ``state.t`` before the image is seen, batch shape (B,); ``state`` stays as it is."""

    @abstractmethod
    def look(self, state: State, x: Tensor) -> None:
        """Look at the images before stroke ``state.t``: moves the encoder half of the state.

        state: changed in place.
        x: integer levels (B, *spec.shape), int64.
        """

    @abstractmethod
    def posterior(self, state: State) -> Latent:
        """The latent of stroke ``state.t`` after ``look``, batch shape (B,); ``state`` stays as it is."""

    @abstractmethod
    def write(self, state: State, z: Tensor) -> dict[str, Tensor]:
        """Make stroke ``state.t``: moves the decoder half of the state and the canvas, and counts ``state.t`` up.

        state: changed in place.
        z: the latent of this stroke, (B, …).

        Returns what only viewers want, each (B, …): ``write_window`` where there is one.
        """

    @abstractmethod
    def distribution(self, state: State) -> JointDistribution:
        """p(x | canvas of ``state``), batch shape (B, *spec.shape)."""

    @abstractmethod
    def image(self, state: State) -> Tensor:
        """The canvas of ``state`` as a picture, (B, *spec.shape) in [0, 1]."""

    def lower_strokes(self, program: Program) -> StrokeMaps | None:
        """What a decoder needs, the prior of each latent and what a stroke does to the canvas, as a step program of whole maps.

        program: takes the operations: phase "start" ends with the prior of the first latent, "stroke n", which follows from the n-th latent
            of a step, with that of the next.

        Returns its maps; None (default) for a model that has no such program, whose files would not decode elsewhere.
        """
        return None

    def require_posterior(self) -> None:
        """Raises ``ValueError`` for a model that has no posterior, and so no latents of an image."""
        if not self.has_posterior:
            raise ValueError(f"{type(self).__name__} has no posterior, and so no latents of an image: {self.no_likelihood}")

    def reconstruction(self, state: State, x: Tensor) -> Tensor:
        """log p(x | canvas); of a model without a likelihood, what its training loss uses in its place.

        state: after the last stroke.
        x: integer levels (B, *spec.shape), int64.

        Returns nats (B,), float64 (on the CPU, if the model's device has no such type).
        """
        return in_float64(self.distribution(state).log_prob(x)).flatten(1).sum(1)

    def drawn(self, state: State) -> Tensor:
        """The canvas of ``state`` for viewers, before it is squashed to a picture: strokes add up, ink and eraser have a sign.

        Returns (B, *spec.shape).
        """
        return torch.logit(self.image(state), eps=1e-6)
