"""The unconditional model of one-shot generalization in the usual way: ``nn.LSTMCell``, ``F.affine_grid`` and ``F.grid_sample``.

``nn.LSTMCell`` has two biases for each gate, of which one is fixed at zero here.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plain.draw import copy_cell
from plain.pixels import nats_of_canvas, standard_kl
from rastrum.layers.spatial_transformer import LARGEST, PARAMETERS
from rastrum.model import Model
from rastrum.models.one_shot import OneShot


def window(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """A (B, 2, 2) and t (B, 2, 1) of log-scales, shear, rotation and shift (B, 6)."""
    scale_x, scale_y = torch.exp(LARGEST * torch.tanh(parameters[:, :2] / LARGEST)).unbind(1)
    shear, cos, sin = parameters[:, 2], torch.cos(parameters[:, 3]), torch.sin(parameters[:, 3])
    matrix = torch.stack([cos * scale_x, cos * shear - sin * scale_y, sin * scale_x, sin * shear + cos * scale_y], 1)
    return matrix.view(-1, 2, 2), parameters[:, 4:, None]


def sampled(image: Tensor, matrix: Tensor, shift: Tensor, height: int, width: int) -> Tensor:
    grid = F.affine_grid(torch.cat([matrix, shift], 2), [len(image), 1, height, width], align_corners=False)
    return F.grid_sample(image, grid, align_corners=False)


class PlainOneShot(nn.Module):
    def __init__(self, ours: OneShot) -> None:
        super().__init__()
        config, spec = ours.config, ours.spec
        self.steps, self.read, self.write, self.channels, self.levels = config.steps, config.read, config.write, config.canvas, spec.levels
        hidden, features, canvas, outputs = config.hidden, config.features, config.canvas, len(ours.mean)
        self.mean = nn.Parameter(torch.zeros(outputs, spec.height, spec.width))
        self.canvas = nn.Parameter(torch.zeros(canvas, spec.height, spec.width))
        self.start = nn.Parameter(torch.zeros(4, hidden))
        self.read_window, self.write_window = nn.Linear(hidden, PARAMETERS), nn.Linear(hidden, PARAMETERS)
        self.see = nn.Linear((spec.channels + canvas) * config.read**2, features)
        self.encoder, self.decoder = nn.LSTMCell(features + hidden, hidden), nn.LSTMCell(config.latent, hidden)
        self.posterior_head = nn.Linear(hidden, 2 * config.latent)
        self.patch = nn.Linear(hidden, canvas * config.write**2)
        self.output = nn.ModuleList(
            nn.Conv2d(inputs, outputs, config.kernel, padding=config.kernel // 2)
            for inputs, outputs in ((canvas, features), (features, outputs))
        )

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        batch, height, width = len(x), *x.shape[2:]
        image, canvas = x.float() / (self.levels - 1), self.canvas.expand(batch, -1, -1, -1)
        encoder, encoder_cell, decoder, decoder_cell = (start.expand(batch, -1) for start in self.start)
        kl = torch.zeros(batch)
        for _ in range(self.steps):
            glimpse = sampled(torch.cat([image, canvas], 1), *window(self.read_window(decoder)), self.read, self.read)
            seen = torch.cat([F.relu(self.see(glimpse.flatten(1))), decoder], 1)
            encoder, encoder_cell = self.encoder(seen, (encoder, encoder_cell))
            mean, log_sd = self.posterior_head(encoder).chunk(2, 1)
            kl = kl + standard_kl(mean, log_sd)
            decoder, decoder_cell = self.decoder(mean + torch.exp(log_sd) * torch.randn_like(mean), (decoder, decoder_cell))
            matrix, shift = window(self.write_window(decoder))
            inverse = torch.linalg.inv(matrix)
            patch = self.patch(decoder).view(batch, self.channels, self.write, self.write)
            canvas = canvas + sampled(patch, inverse, -inverse @ shift, height, width)
        first, last = self.output
        return kl + nats_of_canvas(self.mean + last(F.relu(first(canvas))), x, self.levels)


@torch.no_grad()
def build(ours: Model) -> nn.Module:
    assert isinstance(ours, OneShot) and ours.condition_spec is None and ours.config.update == "additive"
    plain: Any = PlainOneShot(ours)
    given: dict[str, Any] = ours.state_dict()
    plain.load_state_dict({name: given[name] for name in plain.state_dict() if not name.startswith(("encoder", "decoder"))}, strict=False)
    for cell, layer in ((plain.encoder, ours.encoder), (plain.decoder, ours.decoder)):
        copy_cell(cell, layer.weight, layer.bias, ours.config.hidden)
    return plain
