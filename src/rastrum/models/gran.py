"""GRAN: a generator that draws in several strokes, each of which sees what the last one added to the canvas.

Source: Im, Kim, Jiang, Memisevic, "Generating images with recurrent adversarial networks", 2016.

    z_t ~ N(0, I) ─▶ h_z = tanh(W z_t + b) ─┐
                                            ├─▶ f: Growing ─▶ ΔC_t ─▶ C_t = C_{t−1} + ΔC_t        G = σ(C_T)
    ΔC_{t−1} ─▶ g: Shrinking ─▶ h_c,t ──────┘                         t = 1 … T;  h_c,1 = 0

``noise="per_step"`` draws z anew for every stroke, as in the paper; "shared" draws it once, as in the authors' code. The discriminator,
norms, losses and conditions are those of ``dcgan.py``.

What differs from the paper:
- The preset "paper" has its norms and its loss; "small" does not collapse, see ``dcgan.py``.
- There is no stroke before the first: h_c is 0 then.

Dimensions: T strokes · B batch · C channels · F features · n scales · h, w = ⌈H/2ⁿ⌉, ⌈W/2ⁿ⌉.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..canvas import State
from ..card import Paper
from ..latents import Normal
from ..layers.deconvolution import Shrinking
from ..protocol import ConditionSpec, ImageSpec
from .dcgan import DCGAN, DCGANConfig


@dataclass(frozen=True, kw_only=True)
class GRANConfig(DCGANConfig):
    """Sizes of a GRAN, and what it is trained on: those of ``DCGANConfig``, and

    steps: strokes, T.
    noise: a latent "per_step", or one that is "shared" by all strokes.
    """

    steps: int = 3
    noise: Literal["per_step", "shared"] = "per_step"


class GRAN(DCGAN):
    """GRAN. State: canvas (B, C, H, W), logits; memory: ``added``, ΔC of the last stroke, and with shared noise ``latent``.

    spec: of the images.
    config: sizes.
    condition_spec: of a class or a vector; None (default) = unconditional.
    """

    name = "gran"
    config_class = GRANConfig
    paper = Paper("Generating images with recurrent adversarial networks", "Im, Kim, Jiang, Memisevic", 2016)
    config: GRANConfig

    def __init__(self, spec: ImageSpec, config: GRANConfig, condition_spec: ConditionSpec | None = None) -> None:
        if config.noise not in ("per_step", "shared"):
            raise ValueError(f"noise: expected per_step or shared, got {config.noise!r}")
        super().__init__(spec, config, condition_spec)
        self.steps = config.steps
        self.start_norm = nn.Identity()                                   # its tanh bounds it
        self.see = Shrinking(spec.channels, config.features, config.scales, config.generator_norm)

    @property
    def _drawn_from(self) -> int:
        return 2 * self.coarse[0]

    def prior(self, state: State) -> Normal:
        drawn = state.t == 0 or self.config.noise == "per_step"
        return Normal.standard(state.canvas, self.config.latent if drawn else 0)

    def write(self, state: State, z: Tensor) -> dict[str, Tensor]:
        memory = state.memory
        if self.config.noise == "shared":
            z = memory.setdefault("latent", z)
        drawn = torch.tanh(self._started(state, z))
        seen = self.see(memory["added"]) if state.t else torch.zeros_like(drawn)
        memory["added"] = self.grow(torch.cat([drawn, seen], dim=1))
        state.canvas = state.canvas + memory["added"]
        state.t += 1
        return {}
