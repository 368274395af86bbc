"""The context of a model that draws in raster order, what each decision sees: from its reach in each row above, or from its kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from ..protocol import ImageSpec


def raster_context(spec: ImageSpec, rows: int, left: list[int], right: list[int]) -> Tensor:
    """The context of a model that sees a range of columns in each row.

    spec: of still images, D values.
    rows: how many rows above are seen.
    left, right: rows + 1 counts each: u rows up, the columns −left[u] … right[u] from the pixel's are seen; of its own row ``left[0]``.

    Returns (D, D) bool: [i, j] = value i sees value j, which may be an earlier channel of its own pixel.
    """
    index = torch.arange(spec.size)
    channel, row, column = (i.to(torch.int64) for i in torch.unravel_index(index, spec.shape))
    up = row[:, None] - row[None]
    over = column[None] - column[:, None]
    at = up.clamp(0, rows)
    wide = (over >= -torch.tensor(left)[at]) & (over <= torch.tensor(right)[at])
    above = (up > 0) & (up <= rows) & wide
    own = (up == 0) & (over < 0) & (over >= -left[0])
    return above | own | ((up == 0) & (over == 0) & (channel[None] < channel[:, None]))


def cone_context(spec: ImageSpec, first: int, layers: int, step: int) -> Tensor:
    """The context of odd square kernels without their lower half, which leave a blind spot to the right above a pixel.

    spec: of still images, D values.
    first: reach of the first kernel, in pixels.
    layers: how many follow.
    step: reach of each of these.

    Returns (D, D) bool: [i, j] = value i sees value j.
    """
    far = first + layers * step

    def right(up: int) -> int:
        """Farthest column seen ``up`` rows above: a move to the right costs a move up, of at least one row."""
        best = -1
        for climbed in range(min(first, up) + 1):
            rest = up - climbed
            if rest <= layers * step:
                moves = min(layers, rest)              # every row climbed by its own layer, where there are enough
                best = max(best, (first if climbed else 0) + moves * step)
        return best

    return raster_context(spec, far, [far] * (far + 1), [right(up) for up in range(far + 1)])
