"""The context of a model that draws in raster order, what each decision sees: from its reach in each row above, or from its kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from ..memory import ask
from ..protocol import ImageSpec

CELLS = 1 << 21                # entries of a context that are computed at a time


def raster_context(spec: ImageSpec, rows: int, left: list[int], right: list[int]) -> Tensor:
    """The context of a model that sees a range of columns in each row.

    spec: of still images, D values.
    rows: how many rows above are seen.
    left, right: rows + 1 counts each: u rows up, the columns −left[u] … right[u] from the pixel's are seen; of its own row ``left[0]``.

    Returns (D, D) bool: [i, j] = value i sees value j, which may be an earlier channel of its own pixel. It is computed a few rows at a
    time, so that it takes no more memory than itself. Raises ``ValueError`` if it does not fit.
    """
    ask_context(spec.size)
    channel, row, column = torch.unravel_index(torch.arange(spec.size), spec.shape)
    farthest_left, farthest_right = -torch.tensor(left), torch.tensor(right)
    context = torch.empty(spec.size, spec.size, dtype=torch.bool)
    step = max(1, CELLS // spec.size)
    for start in range(0, spec.size, step):
        i = slice(start, start + step)
        up = row[i, None] - row
        over = column - column[i, None]
        at = up.clamp(0, rows)
        wide = (over >= farthest_left[at]) & (over <= farthest_right[at])
        above = (up > 0) & (up <= rows) & wide
        own = (up == 0) & (over < 0) & (over >= -left[0])
        context[i] = above | own | ((up == 0) & (over == 0) & (channel < channel[i, None]))
    return context


def ask_context(size: int, copies: int = 1) -> None:
    """Refuse a table (D, D) of bool that does not fit into the memory.

    size: number of values D.
    copies: how many tables it takes at a time, 1 by default.

    Raises ``ValueError`` for it.
    """
    remedy = "rastrum.checking.context_of finds what one decision sees"
    ask(f"context: the table of {size:,} x {size:,} values", copies * size * size, remedy)


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
