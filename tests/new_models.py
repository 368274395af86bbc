"""Two models as an author would add them: a MADE with only ``distribution``, and a VAE that draws in one stroke.

Germain, Gregor, Murray, Larochelle 2015, "MADE: Masked Autoencoder for Distribution Estimation"; Kingma & Welling 2014, "Auto-Encoding
Variational Bayes".
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

import rastrum
from rastrum import ConditionSpec, ImageSpec, RasterModel
from rastrum.canvas import State
from rastrum.distributions import Bernoulli, Categorical
from rastrum.latents import Normal
from rastrum.layers.condition import Condition, ConditionProjection
from rastrum.layers.output import Levels
from rastrum.models.pixel_canvas import PixelCanvas
from rastrum.models.presets import check_config, choose
from rastrum.protocol import ArrayLike, check_condition


@dataclass(frozen=True, kw_only=True)
class MADEConfig:
    hidden: int = 500
    layers: int = 2


class MaskedLinear(nn.Linear):
    """W ⊙ M: output k reads input j where degree[k] ≥ degree[j], or > in the last layer (equations 8, 9)."""

    mask: Tensor

    def __init__(self, read: Tensor, written: Tensor, strict: bool = False) -> None:
        super().__init__(len(read), len(written))
        self.register_buffer("mask", written[:, None] > read if strict else written[:, None] >= read, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight * self.mask, self.bias)


class MADE(RasterModel):
    name = "made"
    config_class = MADEConfig
    conditions = ("class", "vector")

    def __init__(self, spec: ImageSpec, config: MADEConfig, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__(spec, condition_spec)
        check_config(config, spec)
        self.config = config
        self.levels = Levels(spec)
        self.condition = Condition(condition_spec, spec)
        values = self.order.argsort()                                     # degree of each value: when it is decided
        hidden = torch.arange(config.hidden) % max(1, spec.size - 1)
        degrees = [values] + config.layers * [hidden]
        self.layers = nn.ModuleList(MaskedLinear(read, written) for read, written in pairwise(degrees))
        self.projections = nn.ModuleList(ConditionProjection(self.condition.size, config.hidden) for _ in range(config.layers))
        self.logits = MaskedLinear(hidden, values.repeat_interleave(self.levels.outputs), strict=True)

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> MADEConfig:
        return choose(MADEConfig, name, overrides, tiny=dict(hidden=40), small=dict(hidden=500), paper=dict(hidden=8000))

    def distribution(self, x: Tensor, condition: Tensor | None = None) -> Bernoulli | Categorical:
        h, given = self.spec.scale(x.flatten(1), self.dtype), self.condition(condition, self.dtype)
        for layer, project in zip(self.layers, self.projections, strict=True):
            h = layer(h)
            h = (h if given is None else h + project(given)[:, 0, 0]).relu()
        return self.levels.head(self.logits(h).view(*x.shape, self.levels.outputs))


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    latent: int = 20
    hidden: int = 500


class VAE(PixelCanvas):
    name = "dense-vae"
    config_class = VAEConfig
    conditions = ()
    steps = 1

    def __init__(self, spec: ImageSpec, config: VAEConfig, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__(spec, config, condition_spec)
        check_config(config, spec)
        outputs, hidden = self.halves * spec.size, config.hidden
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(spec.size, hidden), nn.Tanh(), nn.Linear(hidden, 2 * config.latent))
        self.decoder = nn.Sequential(nn.Linear(config.latent, hidden), nn.Tanh(), nn.Linear(hidden, outputs))
        self.canvas_shape = (self.halves * spec.channels, spec.height, spec.width)

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> VAEConfig:
        return choose(VAEConfig, name, overrides, tiny=dict(latent=3, hidden=16), small=dict(hidden=200), paper=dict())

    def init(self, batch: int, condition: ArrayLike | int | None = None) -> State:
        empty = torch.zeros(batch, *self.canvas_shape, dtype=self.dtype, device=self.device)
        return State(empty, check_condition(self.condition_spec, condition, batch, self.device))

    def prior(self, state: State) -> Normal:
        return Normal.standard(state.canvas, self.config.latent)

    def look(self, state: State, x: Tensor) -> None:
        state.memory["code"] = self.encoder(self.spec.scale(x, self.dtype))

    def posterior(self, state: State) -> Normal:
        return Normal(*state.memory["code"].chunk(2, dim=1))

    def write(self, state: State, z: Tensor) -> dict[str, Tensor]:
        state.canvas = self.decoder(z).view(-1, *self.canvas_shape)
        state.t += 1
        return {}

    def pixels(self, state: State) -> Tensor:
        return state.canvas


MODELS = {**rastrum.MODELS, "made": MADE, "dense-vae": VAE}
