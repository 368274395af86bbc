"""RIDE in the usual way: patches whitened by a fixed convolution, a spatial LSTM over the columns of the skewed map, and the mixture of
conditional Gaussian scale mixtures, trained on the density of grey images with uniform noise."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from plain.convolutions import MaskedConv2d, copy_taps
from plain.diagonal_bilstm import skew, unskew
from rastrum.model import Model
from rastrum.models.spatial_lstm import SpatialLSTM


class PlainSpatialLayer(nn.Module):
    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.input = nn.Conv2d(inputs, 5 * units, 1)
        self.state = nn.Linear(2 * units, 5 * units, bias=False)
        self.first_h, self.first_c = (nn.Parameter(torch.zeros(units)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        gates = self.input(x)
        batch, _, height, width = gates.shape
        h, c = (first.expand(batch, height, -1) for first in (self.first_h, self.first_c))
        above_h, above_c = (first.expand(batch, 1, -1) for first in (self.first_h, self.first_c))
        inside = skew(torch.ones(1, 1, height, width, dtype=torch.bool))[0, 0, :, :, None]
        columns = []
        for s, column in enumerate(skew(gates).permute(3, 0, 2, 1).contiguous()):           # (B, H, 5n)
            up_h, up_c = torch.cat([above_h, h[:, :-1]], 1), torch.cat([above_c, c[:, :-1]], 1)
            o, f, u, i, g = (column + self.state(torch.cat([h, up_h], 2))).chunk(5, 2)
            new_c = torch.sigmoid(f) * c + torch.sigmoid(u) * up_c + torch.sigmoid(i) * torch.tanh(g)
            new_h = torch.tanh(torch.sigmoid(o) * new_c)
            columns.append(new_h)
            h, c = torch.where(inside[:, s], new_h, self.first_h), torch.where(inside[:, s], new_c, self.first_c)
        return unskew(torch.stack(columns, 3).transpose(1, 2))

    @torch.no_grad()
    def copy(self, ours: Any) -> None:
        copy_taps(self.input, ours.input_to_state, (0, 0))
        self.state.weight.copy_(ours.state_to_state.weights.flatten(0, 1).t())
        self.first_h.copy_(ours.state_to_state.first_h)
        self.first_c.copy_(ours.state_to_state.first_c)


class PlainMixture(nn.Module):
    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.eta, self.alpha, self.w, self.b, self.a = (
            nn.Parameter(getattr(ours, name).detach().clone()) for name in ("eta", "alpha", "w", "b", "a")
        )

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        """Log-density of y (…) given h (…, inputs)."""
        energy = ((h @ self.b).square() @ self.w.square()).unsqueeze(-1)                    # (…, K, 1)
        weights = (self.eta - 0.5 * self.alpha.exp() * energy).flatten(-2).log_softmax(-1)
        distance = (y.unsqueeze(-1) - h @ self.a).unsqueeze(-1)
        normal = 0.5 * (self.alpha - math.log(2 * math.pi) - self.alpha.exp() * distance.square())
        return torch.logsumexp(weights + normal.flatten(-2), -1)


class PlainSpatialLSTM(nn.Module):
    def __init__(self, ours: SpatialLSTM) -> None:
        super().__init__()
        config, whitening, self.levels = ours.config, ours.whitening, ours.spec.levels
        reach = config.neighbourhood // 2
        self.patch = MaskedConv2d(1, whitening.size, config.neighbourhood, "A")
        self.prediction = MaskedConv2d(1, 1, config.neighbourhood, "A")
        for mine, theirs in ((self.patch, whitening.patch), (self.prediction, whitening.prediction)):
            copy_taps(mine, theirs, (reach, reach))
            mine.requires_grad_(False)
        self.register_buffer("log_deviation", whitening.log_deviation.clone())
        self.layers = nn.ModuleList()
        for layer in ours.layers:
            self.layers.append(PlainSpatialLayer(layer.input_to_state.inputs, config.units))        # pyright: ignore
            self.layers[-1].copy(layer)                                                     # pyright: ignore
        (mixture,) = ours.mixtures
        self.mixture = PlainMixture(mixture)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        y = (x + torch.rand(x.shape) - 0.5) * (2 / (self.levels - 1)) - 1
        h, e = self.patch(y), (y - self.prediction(y)) * torch.exp(-self.log_deviation)     # pyright: ignore
        for layer in self.layers:
            h = layer(h)
        density = self.mixture(h.permute(0, 2, 3, 1), e[:, 0]) - self.log_deviation - math.log((self.levels - 1) / 2)
        return -density.flatten(1).sum(1)


def build(ours: Model) -> nn.Module:
    assert isinstance(ours, SpatialLSTM) and ours.spec.channels == 1 and ours.condition_spec is None
    assert ours.config.recurrent and ours.config.dequantise and not ours.config.in_turn
    return PlainSpatialLSTM(ours)
