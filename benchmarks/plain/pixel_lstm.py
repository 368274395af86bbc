"""A plain LSTM over the values of an image by ``nn.LSTM``, a module per layer, whose last inputs are a one-hot of the channel, or a one.

``nn.LSTM`` has two biases for each gate; these inputs take the place of one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plain.convolutions import nats_of_levels
from rastrum.model import Model
from rastrum.models.pixel_lstm import PixelLSTM


class PlainPixelLSTM(nn.Module):
    def __init__(self, units: int, layers: int, channels: int, levels: int) -> None:
        super().__init__()
        self.levels = levels
        sizes = [1 + channels] + [units + 1] * (layers - 1)
        self.layers = nn.ModuleList(nn.LSTM(size, units, bias=False, batch_first=True) for size in sizes)
        self.first_h, self.first_c = (nn.ParameterList(torch.zeros(units) for _ in sizes) for _ in range(2))
        self.outputs = nn.ModuleList(nn.Linear(units, 1 if levels == 2 else levels) for _ in range(channels))

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        batch, channels, height, width = x.shape
        values = x.permute(0, 2, 3, 1).flatten(1).float() * (2 / (self.levels - 1)) - 1
        which = torch.eye(channels).repeat(height * width, 1).expand(batch, -1, -1)
        h = torch.cat([F.pad(values[:, :-1], (1, 0))[:, :, None], which], 2)
        for n, layer in enumerate(self.layers):
            if n:
                h = torch.cat([h, torch.ones_like(h[:, :, :1])], 2)
            h, _ = layer(h, tuple(first[n].expand(1, batch, -1).contiguous() for first in (self.first_h, self.first_c)))
        parts = [output(h[:, c::channels]) for c, output in enumerate(self.outputs)]        # (B, H·W, n) each
        return nats_of_levels(torch.cat(parts, 2).transpose(1, 2).reshape(batch, -1, height, width), x)


@torch.no_grad()
def build(ours: Model) -> nn.Module:
    assert isinstance(ours, PixelLSTM) and ours.condition_spec is None
    config, spec = ours.config, ours.spec
    plain = PlainPixelLSTM(config.units, config.layers, spec.channels, spec.levels)

    def usual(gates: Tensor) -> Tensor:
        """[o f i g], along the last dimension, as [i f g o] along the first."""
        o, f, i, g = gates.chunk(4, -1)
        return torch.cat([i, f, g, o], -1).t()

    for n, (mine, theirs) in enumerate(zip(plain.layers, ours.layers, strict=True)):
        assert isinstance(mine, nn.LSTM)
        mine.weight_ih_l0.copy_(usual(torch.cat([theirs.weight, theirs.bias])))             # pyright: ignore
        mine.weight_hh_l0.copy_(usual(theirs.scan.weights[0]))                              # pyright: ignore
        plain.first_h[n].copy_(theirs.scan.first_h)                                         # pyright: ignore
        plain.first_c[n].copy_(theirs.scan.first_c)                                         # pyright: ignore
    for channel, output in enumerate(plain.outputs):
        assert isinstance(output, nn.Linear)
        output.weight.copy_(ours.weight[channel].t())
        output.bias.copy_(ours.bias[channel])
    return plain
