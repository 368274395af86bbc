"""Adversarial models: a generator draws, a discriminator tells its pictures from images of the data, and each is trained against the other.

    z ~ N(0, I) ─▶ strokes ─▶ G(z) ─┐
                                    ├─▶ discriminator D ─▶ logit: how much the picture looks like an image
    x ─▶ 2x/(levels − 1) − 1 ───────┘

    loss               the discriminator's                        the generator's
    hinge              max(0, 1 − D(x)) + max(0, 1 + D(G))        −D(G)                              Lim & Ye 2017
    non-saturating     s(−D(x)) + s(D(G))                         s(−D(G))                           Goodfellow et al. 2014
    relativistic       s(D(G) − D(x)) + γ/2 (R₁ + R₂)             s(D(x) − D(G))                     Huang et al. 2024 ("R3GAN")

s is softplus; R₁ and R₂ are the squared norms of the gradient of D at an image and at a picture (Mescheder et al. 2018). Every image of a
batch meets one picture. Pictures have no density and images no latent: there is no bound, no reconstruction and no code. What compares such
models is the distance between features of many pictures and of images, and battles in which one model's discriminator judges the other's
pictures.

Dimensions: B batch · C channels · H, W height and width.
"""

from __future__ import annotations

from typing import Literal, NoReturn, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .canvas import State
from .devices import in_float64
from .model import Objective
from .protocol import ArrayLike
from .strokes import CanvasModel, Noise

Loss: TypeAlias = Literal["hinge", "non-saturating", "relativistic"]
LOSSES = ("hinge", "non-saturating", "relativistic")


class AdversarialModel(CanvasModel):
    """Base of adversarial models. A subclass has a ``discriminator``, and the strokes of a ``CanvasModel`` without its encoder half.

    spec, config, condition_spec: as for ``Model``; the config has ``loss``, one of the three above, ``penalty``, γ, and
        ``generator_rate``, the generator's learning rate over the discriminator's.
    """

    likelihood = "loss"
    has_posterior = False
    no_likelihood = (
        "an adversarial model draws pictures but gives no probability of them; `rastrum evaluate` measures its pictures, its discriminator "
        "judges them: model.judge(x)"
    )
    discriminator: nn.Module
    """Pictures (B, C, H, W) in [−1, 1], and the condition or None → logits (B,)."""

    def look(self, state: State, x: Tensor) -> NoReturn:
        self.require_posterior()
        raise AssertionError

    def posterior(self, state: State) -> NoReturn:
        self.look(state, state.canvas)

    def distribution(self, state: State) -> NoReturn:
        self.require_likelihood()
        raise AssertionError

    # ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def objectives(self) -> tuple[Objective, ...]:
        """A step trains the discriminator, then the generator against it."""
        judging = list(self.discriminator.parameters())
        drawing = [parameter for name, parameter in self.named_parameters() if not name.startswith("discriminator.")]
        generator = Objective("generator", self.generator_loss, drawing, self.config.generator_rate)
        return Objective("discriminator", self.loss, judging), generator

    def loss(self, x: ArrayLike, condition: ArrayLike | int | None = None, seed: int | None = None) -> Tensor:
        """The discriminator's loss on images and on as many drawn pictures, (B,).

        x: integer levels (B, *spec.shape).
        condition: one per image, or one for all; None for an unconditional model. Pictures are drawn for the same.
        seed: of the pictures; None (default) draws them from torch's generator, or as training does.
        """
        x, condition = self._check(x, condition)
        with torch.no_grad():
            drawn = self._pictures(len(x), condition, self._noise(len(x), seed))
        images = self._seen(x)
        penalised = torch.is_grad_enabled() and self.config.loss == "relativistic" and self.config.penalty > 0
        images, drawn = (pictures.requires_grad_(penalised) for pictures in (images, drawn))
        real, fake = self.discriminator(images, condition), self.discriminator(drawn, condition)
        loss = self._discriminator_loss(real, fake)
        if penalised:
            loss = loss + 0.5 * self.config.penalty * (_steepness(real, images) + _steepness(fake, drawn))
        return loss

    def generator_loss(self, x: ArrayLike, condition: ArrayLike | int | None = None, seed: int | None = None) -> Tensor:
        """The generator's loss on as many drawn pictures as there are images, (B,); parameters as for ``loss``."""
        x, condition = self._check(x, condition)
        fake = in_float64(self.discriminator(self._pictures(len(x), condition, self._noise(len(x), seed)), condition))
        match self.config.loss:
            case "hinge":
                return -fake
            case "non-saturating":
                return F.softplus(-fake)
            case _:
                return F.softplus(in_float64(self.discriminator(self._seen(x), condition)) - fake)

    def score(
        self, x: ArrayLike, condition: ArrayLike | int | None = None, num_samples: int = 1, seed: int = 0, first: int = 0
    ) -> Tensor:
        """The discriminator's loss on each image and a drawn picture, (B,) float64, without the penalty; parameters as for ``nats``."""
        x, condition = self._check(x, condition)
        drawn = self._pictures(len(x), condition, self._noise(len(x), seed, first))
        return self._discriminator_loss(self.discriminator(self._seen(x), condition), self.discriminator(drawn, condition))

    def _discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        real, fake = in_float64(real), in_float64(fake)
        match self.config.loss:
            case "hinge":
                return F.relu(1 - real) + F.relu(1 + fake)
            case "non-saturating":
                return F.softplus(-real) + F.softplus(fake)
            case _:
                return F.softplus(fake - real)

    # ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def judge(self, x: ArrayLike, condition: ArrayLike | int | None = None) -> Tensor:
        """The discriminator's logits, (B,): above 0 for what looks more like an image of the data than like a drawn picture.

        x: integer levels (B, *spec.shape).
        condition: one per image, or one for all; None for an unconditional model.
        """
        x, condition = self._check(x, condition)
        return self.discriminator(self._seen(x), condition)

    def _seen(self, x: Tensor) -> Tensor:
        """Levels as the discriminator sees them, in [−1, 1]."""
        return x.to(self.dtype) * (2 / (self.spec.levels - 1)) - 1

    def _pictures(self, count: int, condition: Tensor | None, noise: Noise) -> Tensor:
        """Drawn pictures (B, C, H, W) in [−1, 1]."""
        state = self.init(count, condition)
        for _ in self._strokes(state, noise):
            pass
        return 2 * self.image(state) - 1


def _steepness(logits: Tensor, pictures: Tensor) -> Tensor:
    """‖∇D‖² at each picture, (B,)."""
    (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return in_float64(gradient).square().flatten(1).sum(1)
