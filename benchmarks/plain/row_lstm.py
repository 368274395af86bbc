"""Row LSTM in the usual way: the input's share of the gates by one convolution, then a loop over rows, a ``conv1d`` of the row above."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plain.convolutions import copy_taps
from plain.recurrent import PlainPixelRNN, cell, copy_guide, guide_convolution
from rastrum.model import Model
from rastrum.models.row_lstm import RowLSTM


class PlainRowLayer(nn.Module):
    def __init__(self, units: int, guide: int = 0) -> None:
        super().__init__()
        self.input = nn.Conv2d(2 * units, 4 * units, (1, 2))
        self.guide = guide_convolution(guide, 4 * units)
        self.state = nn.Conv1d(units, 4 * units, 3, bias=False)
        self.first_h, self.first_c = (nn.Parameter(torch.zeros(units)) for _ in range(2))

    def forward(self, x: Tensor, guide: Tensor | None) -> Tensor:
        gates = self.input(F.pad(x, (1, 0)))
        if self.guide is not None:
            gates = gates + self.guide(guide)
        batch, _, _, width = x.shape
        outside = self.first_h[:, None].expand(batch, -1, 1)
        h, c = (first[:, None].expand(batch, -1, width) for first in (self.first_h, self.first_c))
        rows = []
        for row in gates.unbind(2):
            h, c = cell(row + self.state(torch.cat([outside, h, outside], 2)), c)
            rows.append(h)
        return torch.stack(rows, 2)

    @torch.no_grad()
    def copy(self, ours: Any) -> None:
        copy_taps(self.input, ours.input_to_state, (0, 1))
        copy_guide(self.guide, ours.condition)
        scan = ours.state_to_state
        self.state.weight.copy_(scan.weights.permute(2, 1, 0))
        self.first_h.copy_(scan.first_h)
        self.first_c.copy_(scan.first_c)


def network(ours: RowLSTM, guide: int = 0) -> PlainPixelRNN:
    """The network of ``ours``, of which every layer reads a guide of that many channels."""
    plain = PlainPixelRNN(lambda: PlainRowLayer(ours.config.units, guide), ours.config, ours.spec.levels)
    plain.copy(ours)
    for layer, block in zip(plain.layers, ours.blocks, strict=True):
        assert isinstance(layer, PlainRowLayer)
        layer.copy(block.recurrence)
    return plain


def build(ours: Model) -> nn.Module:
    assert isinstance(ours, RowLSTM) and ours.spec.channels == 1 and ours.condition_spec is None
    return network(ours)
