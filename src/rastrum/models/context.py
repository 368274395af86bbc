"""The context of a model that draws in raster order, from how far it sees in each row above."""

from __future__ import annotations

import torch
from torch import Tensor

from ..protocol import ImageSpec


def raster_context(spec: ImageSpec, rows: int, left: list[int], right: list[int]) -> Tensor:
    """(D, D) bool: own pixel's earlier channels, ``left[0]`` columns of its row, and u ≤ ``rows`` rows up columns −left[u] … right[u]."""
    index = torch.arange(spec.size)
    channel, row, column = (i.to(torch.int64) for i in torch.unravel_index(index, spec.shape))
    up = row[:, None] - row[None]
    over = column[None] - column[:, None]
    at = up.clamp(0, rows)
    wide = (over >= -torch.tensor(left)[at]) & (over <= torch.tensor(right)[at])
    above = (up > 0) & (up <= rows) & wide
    own = (up == 0) & (over < 0) & (over >= -left[0])
    return above | own | ((up == 0) & (over == 0) & (channel[None] < channel[:, None]))
