"""The convolutional VAE in the usual way: NCHW, pixel_unshuffle and pixel_shuffle for the strides, ``nn.Conv2d`` and ``nn.Linear``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plain.pixels import nats_of_canvas, standard_kl
from rastrum.model import Model
from rastrum.models.vae import VAE


class PlainVAE(nn.Module):
    def __init__(self, ours: VAE) -> None:
        super().__init__()
        config, spec = ours.config, ours.spec
        self.levels, self.side = spec.levels, [spec.height >> config.layers, spec.width >> config.layers]
        channels, outputs = [config.features << i for i in range(config.layers)], len(ours.mean)
        values = channels[-1] * self.side[0] * self.side[1]

        def convolution(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, config.kernel, padding=config.kernel // 2)

        self.mean = nn.Parameter(torch.zeros(outputs, spec.height, spec.width))
        self.halvings, before = nn.ModuleList(), spec.channels
        for after in channels:
            self.halvings.append(convolution(4 * before, after))
            before = after
        self.encoder, self.code = nn.Linear(values, config.hidden), nn.Linear(config.hidden, 2 * config.latent)
        self.decoder, self.spread = nn.Linear(config.latent, config.hidden), nn.Linear(config.hidden, values)
        self.doublings = nn.ModuleList()
        for after in [*channels[-2::-1], config.features]:
            self.doublings.append(convolution(before, 4 * after))
            before = after
        self.output = convolution(before, outputs)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        h = 2 * x.float() / (self.levels - 1) - 1
        for halve in self.halvings:
            h = F.relu(halve(F.pixel_unshuffle(h, 2)))
        mean, log_sd = self.code(F.relu(self.encoder(h.flatten(1)))).chunk(2, 1)
        z = mean + torch.exp(log_sd) * torch.randn_like(mean)
        h = F.relu(self.spread(F.relu(self.decoder(z)))).unflatten(1, (-1, *self.side))
        for double in self.doublings:
            h = F.pixel_shuffle(F.relu(double(h)), 2)
        return standard_kl(mean, log_sd) + nats_of_canvas(self.mean + self.output(h), x, self.levels)


def build(ours: Model) -> nn.Module:
    assert isinstance(ours, VAE) and ours.condition_spec is None
    assert all(side % 2**ours.config.layers == 0 for side in (ours.spec.height, ours.spec.width)), "no side is padded here"
    plain = PlainVAE(ours)
    plain.load_state_dict({name: value for name, value in ours.state_dict().items() if name in plain.state_dict()})
    return plain
