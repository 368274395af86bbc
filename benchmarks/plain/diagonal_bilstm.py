"""Diagonal BiLSTM in the usual way: the map skewed, so that a column is a diagonal, and a loop over columns with all rows of one at once.

The state-to-state kernel of two rows is one matrix product of each column's h beside the h of the row above. What is not yet begun, and
what lies outside the image, holds the learned initial state. The other half runs on the mirrored map.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plain.convolutions import copy_taps
from plain.recurrent import PlainPixelRNN, cell
from rastrum.model import Model
from rastrum.models.diagonal_bilstm import DiagonalBiLSTM


def skew(x: Tensor) -> Tensor:
    """(B, C, H, W) → (B, C, H, W + H − 1), row i moved i columns to the right."""
    height, width = x.shape[2:]
    return F.pad(x, (0, height)).flatten(2)[:, :, : height * (width + height - 1)].unflatten(2, (height, -1))


def unskew(x: Tensor) -> Tensor:
    height, columns = x.shape[2:]
    return F.pad(x.flatten(2), (0, height)).unflatten(2, (height, -1))[:, :, :, : columns - height + 1]


class PlainDiagonals(nn.Module):
    """One half: the input's share of the gates (B, 4h, H, W) → h (B, h, H, W)."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.state = nn.Linear(2 * units, 4 * units, bias=False)
        self.first_h, self.first_c = (nn.Parameter(torch.zeros(units)) for _ in range(2))

    def forward(self, gates: Tensor) -> Tensor:
        batch, _, height, width = gates.shape
        h, c = (first.expand(batch, height, -1) for first in (self.first_h, self.first_c))
        outside = self.first_h.expand(batch, 1, -1)
        inside = skew(torch.ones(1, 1, height, width, dtype=torch.bool))[0, 0, :, :, None]
        columns = []
        for s, column in enumerate(skew(gates).permute(3, 0, 2, 1).contiguous()):          # (B, H, 4h)
            above = torch.cat([outside, h[:, :-1]], 1)
            new_h, new_c = cell(column + self.state(torch.cat([h, above], 2)), c, 2)
            columns.append(new_h)
            h, c = torch.where(inside[:, s], new_h, self.first_h), torch.where(inside[:, s], new_c, self.first_c)
        return unskew(torch.stack(columns, 3).transpose(1, 2))

    @torch.no_grad()
    def copy(self, ours: Any) -> None:
        self.state.weight.copy_(ours.weights.flatten(0, 1).t())
        self.first_h.copy_(ours.first_h)
        self.first_c.copy_(ours.first_c)


class PlainDiagonalLayer(nn.Module):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.input_to_right, self.input_to_left = (nn.Conv2d(2 * units, 4 * units, 1) for _ in range(2))
        self.to_right, self.to_left = PlainDiagonals(units), PlainDiagonals(units)

    def forward(self, x: Tensor, guide: Tensor | None) -> Tensor:
        to_left = self.to_left(self.input_to_left(x).flip(3)).flip(3)
        return self.to_right(self.input_to_right(x)) + F.pad(to_left[:, :, :-1], (0, 0, 1, 0))

    def copy(self, ours: Any) -> None:
        for name in ("to_right", "to_left"):
            copy_taps(getattr(self, f"input_{name}"), getattr(ours, f"input_{name}"), (0, 0))
            getattr(self, name).copy(getattr(ours, name))


def build(ours: Model) -> nn.Module:
    assert isinstance(ours, DiagonalBiLSTM) and ours.spec.channels == 1 and ours.condition_spec is None
    plain = PlainPixelRNN(lambda: PlainDiagonalLayer(ours.config.units), ours.config, ours.spec.levels)
    plain.copy(ours)
    for layer, block in zip(plain.layers, ours.blocks, strict=True):
        assert isinstance(layer, PlainDiagonalLayer)
        layer.copy(block.recurrence)
    return plain
