"""Variational autoencoder, convolutional: an image in one stroke.

Source: Kingma, Welling, "Auto-Encoding Variational Bayes", 2014; here with convolutions, and at a size comparable to the other models.

    x ─▶ blocks, conv, relu (×layers) ─▶ linear, relu ─▶ q(z | x)
                                                            │  z ~ N(0, I) in sampling, the encoder does not run
                                                            ▼
    p(x | c) ◀─ c = mean + conv ◀─ conv, relu, pixels of blocks (×layers) ◀─ relu, linear ◀─ relu, linear

    z ~ q(z | x) = N(μ(x), σ(x)),  p(z) = N(0, I)       (1)      L = −log p(x | c) + ½ Σ_d (μ² + σ² − 2 log σ − 1)       (2)

Each layer halves the resolution: every 2x2 positions become channels of one, and back again (``layers.convolutional``), so any size works.
A condition is a linear map of the class or vector, added to the pre-activations of both hidden layers.

What differs from the paper:
- Its encoder and decoder have one hidden layer and no convolutions.
- For more than 2 levels p(x | c) is a discretised logistic per value, with a scale of its own at every pixel, so that bits are exact; the
  paper's is a Gaussian of intensities.
- The decoder's output is added to the mean image of the data.

Dimensions: B batch · C channels of x · F features · h, w = size of the smallest feature map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..canvas import State
from ..card import Paper
from ..devices import as_like
from ..latents import Normal
from ..layers.condition import global_projection, project
from ..layers.convolutional import convolution, from_blocks, to_blocks
from ..protocol import ArrayLike, ConditionSpec, ImageSpec
from .pixel_canvas import PixelCanvas
from .presets import check_config, choose


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Sizes of a variational autoencoder.

    latent: components of z.
    layers: of convolutions on each side, each at half the resolution of the one before.
    features: channels of the first layer; every further one has twice as many.
    hidden: units between the feature maps and z.
    kernel: side of the convolutions, odd.
    """

    latent: int = 64
    layers: int = 3
    features: int = 64
    hidden: int = 512
    kernel: int = 3


class VAE(PixelCanvas):
    """Variational autoencoder. State: canvas (B, halves·C, H, W); memory: ``code`` (B, 2·latent) after a look.

    spec: of the images.
    config: sizes.
    condition_spec: of a class or a vector; None (default) = unconditional.
    """

    name = "vae"
    config_class = VAEConfig
    paper = Paper("Auto-Encoding Variational Bayes", "Kingma, Welling", 2014)
    conditions = ("class", "vector")
    steps = 1
    config: VAEConfig

    def __init__(self, spec: ImageSpec, config: VAEConfig, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__(spec, config, condition_spec)
        _check_sizes(spec, config)
        channels = [config.features << i for i in range(config.layers)]
        self.sizes = [(-(-spec.height >> i), -(-spec.width >> i)) for i in range(config.layers + 1)]
        values = channels[-1] * self.sizes[-1][0] * self.sizes[-1][1]
        self.mean = nn.Parameter(torch.zeros(self.halves * spec.channels, spec.height, spec.width))
        self.halvings = nn.ModuleList(
            convolution(4 * inputs, outputs, config.kernel, gain=2**0.5)
            for inputs, outputs in zip([spec.channels, *channels], channels, strict=False)
        )
        self.encoder, self.code = nn.Linear(values, config.hidden), nn.Linear(config.hidden, 2 * config.latent)
        self.decoder, self.spread = nn.Linear(config.latent, config.hidden), nn.Linear(config.hidden, values)
        self.doublings = nn.ModuleList(
            convolution(inputs, 4 * outputs, config.kernel, gain=2**0.5)
            for inputs, outputs in zip(channels[::-1], [*channels[-2::-1], config.features], strict=True)
        )
        self.output = convolution(config.features, len(self.mean), config.kernel, gain=0.3)
        if condition_spec is not None:
            self.condition = global_projection(condition_spec, 2 * config.hidden)
        with torch.no_grad():
            self.output.weight[spec.channels :] *= 0.1                    # log-scales, where there are any

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> VAEConfig:
        """Sizes by name: "tiny" (tests), "small" (one core of a laptop) or "paper" (a GPU; the paper has no convolutions).

        name: one of these.
        spec: of the images; there are no more layers than halve their longer side to one.
        overrides: options of the config that replace the preset's.

        Raises ``ValueError`` for an unknown name or option, and for layers that do not fit the image.
        """
        most = max(1, (max(spec.height, spec.width) - 1).bit_length())
        config = choose(
            VAEConfig,
            name,
            overrides,
            tiny=dict(latent=3, layers=1, features=4, hidden=16),
            small=dict(latent=32, layers=min(2, most), features=32, hidden=256),
            paper=dict(layers=min(3, most)),
        )
        _check_sizes(spec, config)
        return config

    # ── the stroke ───────────────────────────────────────────────────────────────────────────────────────────────────

    def init(self, batch: int, condition: ArrayLike | int | None = None) -> State:
        checked = self.check_condition(condition, batch)
        memory: dict[str, Tensor] = {}
        if checked is not None:
            memory["encoder_added"], memory["decoder_added"] = project(self.condition, checked, self.dtype).chunk(2, dim=1)
        return State(self.mean.expand(batch, *self.mean.shape), checked, **memory)

    def prior(self, state: State) -> Normal:
        return Normal.standard(state.canvas, self.config.latent)

    def look(self, state: State, x: Tensor) -> None:
        features = self.spec.scale(x, self.dtype)
        for halve in self.halvings:
            features = F.relu(halve(to_blocks(features, 2)))
        state.memory["code"] = self.code(F.relu(self.encoder(features.flatten(1)) + state.memory.get("encoder_added", 0)))

    def posterior(self, state: State) -> Normal:
        return Normal(*state.memory["code"].chunk(2, dim=1))

    def write(self, state: State, z: Tensor) -> dict[str, Tensor]:
        hidden = F.relu(self.decoder(z) + state.memory.get("decoder_added", 0))
        features = F.relu(self.spread(hidden)).unflatten(1, (-1, *self.sizes[-1]))
        for double, (height, width) in zip(self.doublings, self.sizes[-2::-1], strict=True):
            features = F.relu(from_blocks(double(features), 2, height, width))
        state.canvas = self.mean + self.output(features)
        state.t += 1
        return {}

    # ── the canvas ───────────────────────────────────────────────────────────────────────────────────────────────────

    def pixels(self, state: State) -> Tensor:
        return state.canvas

    @torch.no_grad()
    def initialise(self, x: Tensor, condition: Tensor | None = None) -> None:
        """The canvas begins at the mean of images x."""
        self.mean.copy_(as_like(self.mean_canvas(x), self.mean))
        self.initialised.fill_(True)


def _check_sizes(spec: ImageSpec, config: VAEConfig) -> None:
    """``ValueError`` naming the option that no model can have, or that does not fit the image."""
    check_config(config, spec)
    if config.kernel % 2 == 0:
        raise ValueError(f"kernel: expected an odd number, got {config.kernel}")
    most = max(1, (max(spec.height, spec.width) - 1).bit_length())
    if config.layers > most:
        have = f"an image of {spec.height}x{spec.width}"
        raise ValueError(f"layers: {config.layers} halvings of {have} leave less than a pixel; at most {most}")
