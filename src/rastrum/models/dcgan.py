"""DCGAN: a generator of transposed convolutions, which draws an image in one stroke, and a discriminator of strided ones.

Source: Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks", 2016.

    z ~ N(0, I) ─▶ W z + b ─▶ norm ─▶ relu ─▶ Growing ─▶ canvas c ─▶ G = σ(c)            (B, F·2ⁿ⁻¹, ⌈H/2ⁿ⌉, ⌈W/2ⁿ⌉) ─▶ (B, C, H, W)
    image or G, in [−1, 1] ─▶ Shrinking ─▶ wᵀh + b ─▶ D                                    (B, C, H, W) ─▶ (B,)

A linear map of a class or a vector is added to W z, and the inner product of another one, V, with h to D (Miyato & Koyama 2018, "cGANs with
Projection Discriminator"). Where the discriminator's weights are spectrally normalised, V is too, as in their code.

What differs from the paper:
- The preset "paper" has its norms, its loss and its widths; "small" does not collapse: hinge loss, a discriminator of spectrally normalised
  weights and without batch norm, a generator whose norm sees no other image, and at the end the average of the generator's weights.
- Its kernels are 4x4 instead of 5x5, so that every output sums equally many; weights start at the scale of what they sum.
- z is normal rather than uniform; the canvas is a logit and G its sigmoid rather than a tanh, which is the same up to scale.
- Conditions are ours.

Dimensions: B batch · C channels · F features · n scales · H, W height and width · Z components of z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..adversarial import LOSSES, AdversarialModel, Loss
from ..canvas import State
from ..card import Paper
from ..latents import Normal
from ..layers.condition import global_projection, project
from ..layers.deconvolution import Growing, Shrinking, norm_of, normalised, sides
from ..layers.spectral import spectral_norm
from ..protocol import ArrayLike, ConditionSpec, ImageSpec
from .presets import check_config, choose

GENERATOR_NORMS, DISCRIMINATOR_NORMS = ("batch", "pixel", "none"), ("spectral", "batch", "none")


@dataclass(frozen=True, kw_only=True)
class DCGANConfig:
    """Sizes of a DCGAN, and what it is trained on.

    latent: components of z.
    features: channels at half the image's resolution; twice as many at a quarter, and so on.
    scales: how often the sides are halved.
    loss: "hinge", "non-saturating" or "relativistic" (``rastrum.adversarial``).
    penalty: γ, of the relativistic loss.
    generator_rate: the generator's learning rate over the discriminator's.
    generator_norm: "batch", "pixel" (each position's channels, no other image) or "none".
    discriminator_norm: "spectral" (of the weights), "batch" or "none".
    """

    latent: int = 100
    features: int = 128
    scales: int = 3
    loss: Loss = "hinge"
    penalty: float = 0.1
    generator_rate: float = 1.0
    generator_norm: Literal["batch", "pixel", "none"] = "pixel"
    discriminator_norm: Literal["spectral", "batch", "none"] = "spectral"


class Discriminator(nn.Module):
    """Pictures → logits.

    spec: of the images.
    config: sizes.
    condition_spec: of a class or a vector; None = unconditional.
    """

    def __init__(self, spec: ImageSpec, config: DCGANConfig, condition_spec: ConditionSpec | None) -> None:
        super().__init__()
        height, width = sides(spec.height, spec.width, config.scales)[-1]
        features = (config.features << config.scales - 1) * height * width
        self.shrink = Shrinking(spec.channels, config.features, config.scales, config.discriminator_norm)
        self.logit = normalised(nn.Linear(features, 1), config.discriminator_norm)
        self.condition = None if condition_spec is None else global_projection(condition_spec, features)
        self.normalises = config.discriminator_norm == "spectral"

    def forward(self, pictures: Tensor, condition: Tensor | None = None) -> Tensor:
        """pictures: (B, C, H, W) in [−1, 1]. condition: classes (B,) or vectors (B, size), or None. Returns (B,)."""
        h = self.shrink(pictures).flatten(1)
        logits = self.logit(h)[:, 0]
        if self.condition is None:
            return logits
        assert condition is not None
        given = project(self.condition, condition, h.dtype)
        if self.normalises:                                               # its parameters keep the names they had before they were divided
            given = given / spectral_norm(self.condition.weight)
        return logits + (given * h).sum(1)


class DCGAN(AdversarialModel):
    """DCGAN. State: canvas (B, C, H, W), logits.

    spec: of the images.
    config: sizes.
    condition_spec: of a class or a vector; None (default) = unconditional.
    """

    name = "dcgan"
    config_class: type[DCGANConfig] = DCGANConfig
    paper = Paper(
        "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks", "Radford, Metz, Chintala", 2016
    )
    conditions = ("class", "vector")
    config: DCGANConfig
    steps = 1

    def __init__(self, spec: ImageSpec, config: DCGANConfig, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__(spec, config, condition_spec)
        _check(spec, config)
        self.coarse = (config.features << config.scales - 1, *sides(spec.height, spec.width, config.scales)[-1])
        size, shape = self.coarse[0] * self.coarse[1] * self.coarse[2], (spec.channels, spec.height, spec.width)
        self.start = nn.Linear(config.latent, size)
        self.start_norm = norm_of(config.generator_norm, self.coarse[0])
        self.grow = Growing(self._drawn_from, config.features, *shape, config.scales, config.generator_norm)
        self.discriminator = Discriminator(spec, config, condition_spec)
        if condition_spec is not None:
            self.condition = global_projection(condition_spec, size)
        nn.init.normal_(self.start.weight, std=config.latent**-0.5)
        nn.init.zeros_(self.start.bias)

    @property
    def _drawn_from(self) -> int:
        """Channels of the small map that the picture grows from."""
        return self.coarse[0]

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> Any:
        """Sizes by name: "tiny" (tests), "small" (one core of a laptop), "paper" (the paper's norms and loss).

        name: one of these.
        spec: of the images; the longer side is halved until it is below 8.
        overrides: options of the config that replace the preset's.

        Raises ``ValueError`` for an unknown name or option, and for sizes that do not fit the image.
        """
        side, scales = max(spec.height, spec.width), 1
        while side >> scales >= 8:
            scales += 1
        paper = dict(loss="non-saturating", generator_norm="batch", discriminator_norm="batch")
        config = choose(
            cls.config_class,
            name,
            overrides,
            tiny=dict(latent=4, features=4, scales=scales),
            small=dict(latent=64, features=32, scales=scales),
            paper=dict(scales=scales, **paper),
        )
        _check(spec, config)
        return config

    def init(self, batch: int, condition: ArrayLike | int | None = None) -> State:
        checked = self.check_condition(condition, batch)
        memory = {} if checked is None else {"given": project(self.condition, checked, self.dtype)}
        return State(self.start.weight.new_zeros(batch, *self.spec.shape), checked, **memory)

    def prior(self, state: State) -> Normal:
        return Normal.standard(state.canvas, self.config.latent)

    def write(self, state: State, z: Tensor) -> dict[str, Tensor]:
        state.canvas = state.canvas + self.grow(F.relu(self.start_norm(self._started(state, z))))
        state.t += 1
        return {}

    def _started(self, state: State, z: Tensor) -> Tensor:
        """W z + b, and what the condition adds: (B, F·2ⁿ⁻¹, h, w)."""
        h = self.start(z)
        if "given" in state.memory:
            h = h + state.memory["given"]
        return h.view(len(z), *self.coarse)

    def image(self, state: State) -> Tensor:
        return torch.sigmoid(state.canvas)

    def drawn(self, state: State) -> Tensor:
        return state.canvas


def _check(spec: ImageSpec, config: DCGANConfig) -> None:
    """Raises ``ValueError`` for sizes that no DCGAN has."""
    check_config(config, spec)
    if config.scales > 8:
        raise ValueError(f"scales: expected at most 8, got {config.scales}")
    for name, values in {"loss": LOSSES, "generator_norm": GENERATOR_NORMS, "discriminator_norm": DISCRIMINATOR_NORMS}.items():
        if getattr(config, name) not in values:
            raise ValueError(f"{name}: expected one of {', '.join(values)}, got {getattr(config, name)!r}")
    if not 0 < config.generator_rate < math.inf:
        raise ValueError(f"generator_rate: expected a number above 0, got {config.generator_rate!r}")
    if not 0 <= config.penalty < math.inf:
        raise ValueError(f"penalty: expected a number of at least 0, got {config.penalty!r}")
