"""DRAW with attention in the usual way: ``nn.LSTMCell`` for both LSTMs, filters as batched matrix products; for images of two levels.

``nn.LSTMCell`` has two biases for each gate, of which one is fixed at zero here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from plain.pixels import nats_of_canvas, standard_kl
from rastrum.model import Model
from rastrum.models.draw import DRAW


def filters(parameters: Tensor, count: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """F_Y (B, N, H), F_X (B, N, W) and γ (B, 1, 1) of parameters (B, 5): centre, log variance, log stride, log γ."""
    x, y, log_variance, log_stride, log_gamma = parameters.unsqueeze(2).chunk(5, 1)        # (B, 1, 1) each
    stride = (max(height, width) - 1) / max(count - 1, 1) * torch.exp(log_stride)
    steps = torch.arange(count) - (count - 1) / 2

    def bank(centre: Tensor, size: int) -> Tensor:
        means = ((size + 1) / 2 * (centre + 1) - 1 + steps * stride).transpose(1, 2)        # (B, N, 1), pixels from 0
        return torch.softmax(-(torch.arange(size) - means).square() / (2 * torch.exp(log_variance)), 2)

    return bank(y, height), bank(x, width), torch.exp(log_gamma)


class PlainDRAW(nn.Module):
    def __init__(self, ours: DRAW) -> None:
        super().__init__()
        config, spec = ours.config, ours.spec
        self.steps, self.read, self.write, self.latent = config.steps, config.read, config.write, config.latent
        hidden, channels = config.hidden, spec.channels
        self.channels = channels
        self.encoder = nn.LSTMCell(2 * channels * config.read**2 + hidden, hidden)
        self.decoder = nn.LSTMCell(config.latent, hidden)
        self.posterior = nn.Linear(hidden, 2 * config.latent)
        self.read_head, self.write_head = nn.Linear(hidden, 5), nn.Linear(hidden, 5 + channels * config.write**2)
        self.canvas = nn.Parameter(torch.zeros(channels, spec.height, spec.width))
        self.start = nn.Parameter(torch.zeros(4, hidden))

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        batch, channels, height, width = x.shape
        image, canvas = x.float(), self.canvas.expand(batch, -1, -1, -1)
        encoder, encoder_cell, decoder, decoder_cell = (start.expand(batch, -1) for start in self.start)
        kl = torch.zeros(batch)
        for _ in range(self.steps):
            error = image - torch.sigmoid(canvas)
            rows, columns, gamma = filters(self.read_head(decoder), self.read, height, width)
            patches = rows.unsqueeze(1) @ torch.cat([image, error], 1) @ columns.mT.unsqueeze(1)         # (B, 2C, N, N)
            glimpse = (patches * gamma.unsqueeze(3)).flatten(1)
            encoder, encoder_cell = self.encoder(torch.cat([glimpse, decoder], 1), (encoder, encoder_cell))
            mean, log_sd = self.posterior(encoder).chunk(2, 1)
            z = mean + torch.exp(log_sd) * torch.randn(batch, self.latent)
            kl = kl + standard_kl(mean, log_sd)
            decoder, decoder_cell = self.decoder(z, (decoder, decoder_cell))
            head = self.write_head(decoder)
            rows, columns, gamma = filters(head[:, :5], self.write, height, width)
            patch = head[:, 5:].view(batch, channels, self.write, self.write) / gamma.unsqueeze(3)
            canvas = canvas + rows.mT.unsqueeze(1) @ patch @ columns.unsqueeze(1)
        return kl + nats_of_canvas(canvas, x, 2)

    @torch.no_grad()
    def copy(self, ours: DRAW) -> None:
        n, hidden = self.read, ours.config.hidden
        glimpse = torch.arange(n * 2 * self.channels * n).view(n, 2 * self.channels, n).transpose(0, 1).flatten()   # ours is (N, 2C, N)
        order = torch.cat([glimpse, torch.arange(len(glimpse), ours.encoder.in_features)])
        copy_cell(self.encoder, ours.encoder.weight[:, order], ours.encoder.bias, hidden)
        copy_cell(self.decoder, ours.decoder.weight, ours.decoder.bias, hidden)
        self.posterior.load_state_dict(ours.posterior_head.state_dict())
        self.read_head.load_state_dict(ours.read_head.state_dict())
        n = self.write
        patch = 5 + torch.arange(n * self.channels * n).view(n, self.channels, n).transpose(0, 1).flatten()
        order = torch.cat([torch.arange(5), patch])
        self.write_head.weight.copy_(ours.write_head.weight[order])
        self.write_head.bias.copy_(ours.write_head.bias[order])
        self.canvas.copy_(ours.canvas.transpose(0, 1))
        self.start.copy_(ours.start)


def copy_cell(cell: Any, weight: Tensor, bias: Tensor, hidden: int) -> None:
    """Weights of [inputs, h] to gates [o f i g], in a cell that has them as [i f g o]; its second bias becomes a buffer of zeros."""

    def usual(gates: Tensor) -> Tensor:
        o, f, i, g = gates.chunk(4)
        return torch.cat([i, f, g, o])

    cell.weight_ih.copy_(usual(weight[:, :-hidden]))
    cell.weight_hh.copy_(usual(weight[:, -hidden:]))
    cell.bias_ih.copy_(usual(bias))
    del cell.bias_hh
    cell.register_buffer("bias_hh", torch.zeros(4 * hidden))


def build(ours: Model) -> nn.Module:
    assert isinstance(ours, DRAW) and ours.config.attention and ours.spec.levels == 2 and ours.condition_spec is None
    plain = PlainDRAW(ours)
    plain.copy(ours)
    return plain
