"""Gated PixelCNN in the usual way: NCHW, kernels cropped to what they may see, tanh · sigmoid. For images of one channel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plain.convolutions import copy_taps, nats_of_levels
from rastrum.model import Model
from rastrum.models.gated_pixelcnn import GatedPixelCNN


class PlainGatedPixelCNN(nn.Module):
    def __init__(self, channels: int, hidden: int, layers: int, kernel: int, levels: int) -> None:
        super().__init__()
        self.levels, reach = levels, kernel // 2
        self.above, self.left = (reach, reach, reach, 0), (reach, 0, 0, 0)
        sizes = [1] + [channels] * (layers - 1)
        self.vertical = nn.ModuleList(nn.Conv2d(n, 2 * channels, (reach + 1, kernel)) for n in sizes)
        # the first sees no pixel itself: one column fewer, and its output is a column to the left
        self.horizontal = nn.ModuleList(nn.Conv2d(n, 2 * channels, (1, reach + (i > 0)), bias=False) for i, n in enumerate(sizes))
        self.link = nn.ModuleList(nn.Conv2d(2 * channels, 2 * channels, 1) for _ in sizes)
        self.residual = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=i == 0) for i in range(layers))
        self.hidden, self.logits = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, 1 if levels == 2 else levels, 1)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        h = x.float() * (2 / (self.levels - 1)) - 1
        v = F.pad(h[:, :, :-1], (0, 0, 1, 0))
        layers = zip(self.vertical, self.horizontal, self.link, self.residual, strict=True)
        for n, (vertical, horizontal, link, residual) in enumerate(layers):
            rows = vertical(F.pad(v, self.above))
            across = horizontal(F.pad(h if n else h[..., :-1], self.left))
            a, b = (across + link(rows)).chunk(2, 1)
            out = residual(torch.tanh(a) * torch.sigmoid(b))
            h = out + h if n else out
            a, b = rows.chunk(2, 1)
            v = torch.tanh(a) * torch.sigmoid(b)
        return nats_of_levels(self.logits(self.hidden(h.relu()).relu()), x)


def build(ours: Model) -> nn.Module:
    assert isinstance(ours, GatedPixelCNN) and ours.spec.channels == 1
    config, reach = ours.config, ours.config.kernel // 2
    plain = PlainGatedPixelCNN(config.channels, config.hidden, config.layers, config.kernel, ours.spec.levels)
    rows = zip(plain.vertical, plain.horizontal, plain.link, plain.residual, ours.layers, strict=True)
    for vertical, horizontal, link, residual, layer in rows:
        copy_taps(vertical, layer.vertical, (reach, reach))
        copy_taps(horizontal, layer.horizontal, (0, reach))
        copy_taps(link, layer.vertical_to_horizontal, (0, 0))
        copy_taps(residual, layer.residual, (0, 0))
    copy_taps(plain.hidden, ours.output.hidden, (0, 0))
    copy_taps(plain.logits, ours.output.logits, (0, 0))
    return plain
