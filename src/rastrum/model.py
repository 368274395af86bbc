"""What every model is, whichever way it makes an image: images and condition it is for, a loss to train on, and a score in nats.

Raster models (``raster.py``) have exact likelihoods, canvas models (``canvas.py``, ``strokes.py``) a lower bound; a network without a
likelihood, such as a classifier, has a loss alone. Training and evaluation know nothing but this class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from .protocol import ArrayLike, ConditionSpec, ImageSpec, check_kind

if TYPE_CHECKING:
    from .checkpoint import Origin

# What a model's score is: log p itself, a lower bound on it, or a number that training lowers and that is no likelihood.
Kind: TypeAlias = Literal["exact", "bound", "loss"]


class Model(nn.Module, ABC):
    """Base of every model. A class that lacks one of the abstract methods cannot be instantiated.

    spec: shape and levels of the images that the model is for.
    config: the model's own options, a frozen dataclass; None for a model that has none.
    condition_spec: the condition that the model is given with each image; None for an unconditional model.

    Raises ``ValueError`` for a condition of a kind that the class does not take.
    """

    conditions: ClassVar[tuple[str, ...]] = ("class", "vector", "map")
    """The kinds of condition that models of this class take."""
    likelihood: ClassVar[Kind] = "loss"
    """What models of this class have: an exact likelihood, a bound on it, or only a loss."""
    no_likelihood: ClassVar[str] = "it is trained on a loss that is not a likelihood"
    """Why a model of this class may have no likelihood, and the remedy if there is one."""
    origin: Origin | None = None
    """Where a loaded model comes from: data, recipe, results; saving writes it again."""
    initialised: Tensor
    """Bool, whether ``initialise`` has run; saved with the model where the class has a data-dependent initialisation."""

    def __init__(self, spec: ImageSpec, config: Any = None, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__()
        check_kind(type(self).__name__, self.conditions, condition_spec)
        self.spec = spec
        self.config = config
        self.condition_spec = condition_spec
        has_initialisation = type(self).initialise is not Model.initialise
        self.register_buffer("initialised", torch.tensor(False), persistent=has_initialisation)

    # ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def loss(self, x: ArrayLike, condition: ArrayLike | int | None = None, seed: int | None = None) -> Tensor:
        """What training minimises, (B,): −log p(x) or −bound in nats where the model has a likelihood.

        x: integer levels (B, *spec.shape).
        condition: one per image, or one for all; None for an unconditional model.
        seed: of the noise that the loss draws, if it draws any; None draws from torch's generator.

        Works under ``torch.autocast`` too, which makes products and convolutions half precision; distributions, KL and sums stay float32
        or more. In bfloat16 the direction of the gradient hardly changes: its cosine with that in float32 is at least 0.99.
        """

    def initialise(self, x: Tensor, condition: Tensor | None = None) -> None:
        """Data-dependent initialisation (weight norm, whitening, mean image), which training runs before the first step.

        A class that defines it sets ``self.initialised`` at its end, so that it runs once. A model must work without it too.

        x: integer levels (B, *spec.shape).
        condition: as for ``loss``.
        """

    def progress(self, fraction: float) -> float:
        """Called before every training step, for models that learn in stages or warm up.

        fraction: how much of the training is done, 0 … 1.

        Returns the fraction of the current stage that is done: each stage has its own schedule of the learning rate.
        """
        return fraction

    @property
    def loss_is_nats(self) -> bool:
        """Whether ``loss`` is −log p or −bound at present, so that the loss of a step may be given in bits per dimension."""
        return self.has_likelihood

    def loss_floor(self, x: Tensor) -> Tensor | None:
        """The smallest loss that any model can have on images or frames, where it is known and not 0.

        x: integer levels (N, C, H, W).

        Returns (N,), or None (default) where nothing is known.
        """
        return None

    # ── score ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def has_likelihood(self) -> bool:
        """Whether the model, as configured, has a likelihood or a bound on it; otherwise it has only a training loss."""
        return self.likelihood != "loss"

    def require_likelihood(self) -> None:
        """Raises ``ValueError`` with the reason for a model that has no likelihood, and so no score in nats."""
        if not self.has_likelihood:
            raise ValueError(f"{type(self).__name__} as configured has no likelihood: {self.no_likelihood}")

    @property
    def kind(self) -> Kind:
        """What ``nats`` gives: "exact" log-likelihoods, a "bound" on them, or the training "loss"."""
        return self.likelihood if self.has_likelihood else "loss"

    def nats(
        self, x: ArrayLike, condition: ArrayLike | int | None = None, num_samples: int = 1, seed: int = 0, first: int = 0
    ) -> Tensor:
        """The score of each image, (B,), the lower the better: −log p(x), or −bound, or the loss (``kind``).

        x: integer levels (B, *spec.shape).
        condition: one per image, or one for all; None for an unconditional model.
        num_samples: trajectories of a bound, 1 by default; the bound is tighter with more.
        seed: of the noise of a bound, 0 by default.
        first: number of the first image, 0 by default; the noise belongs to an image's number, so splitting a batch changes nothing.

        Under ``torch.autocast`` in bfloat16 scores differ from those in float32 by about 0.1 % (trained models: by 0.6 % at most for a
        single image, by 0.1 % in the mean; PixelCNN++ just after its initialisation by up to 3 %). Samples do not differ: what draws,
        completes or codes images ignores it.
        """
        return self.loss(x, condition, seed)

    @property
    def images_at_a_time(self) -> int:
        """How many images are usually scored fastest in one call."""
        return 128

    # ── where it is ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.initialised.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the floating-point parameters."""
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.get_default_dtype())

    def upgrade(self, tensors: dict[str, Tensor], saved_format: int) -> None:
        """Bring the tensors of a model that was saved in an earlier format to the present one, in place; by default nothing is changed.

        tensors: by name, as in ``state_dict``.
        saved_format: the format of the saved model, 1 or more.
        """

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights, config and card to ``folder``, which is created; ``rastrum.load`` reads them.

        folder: path; files of other names in it stay.

        Raises ``ValueError`` for a class that ``load`` could not rebuild, and ``OSError`` if writing fails, with nothing changed.
        """
        from .checkpoint import save_pretrained

        save_pretrained(self, folder, self.origin)
