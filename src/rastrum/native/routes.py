"""How the lines of a recurrence run over a map: rows, or diagonals, as walks with a constant step."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

Offset = tuple[int, int]       # rows down and columns to the right


def diagonals(height: int, width: int) -> list[tuple[int, int]]:
    """First and last row + 1 that have a pixel on each diagonal: the columns of a skewed map."""
    return [(max(0, s - width + 1), min(height, s + 1)) for s in range(width + height - 1)]


class Route(NamedTuple):
    """Distances count positions: ``step`` on the map, the others on the padded map of h and c, whose rows are ``across`` long."""

    height: int
    width: int
    across: int
    left: int
    padded: int                # positions of the padded map
    step: int                  # from a position of a line to the next
    padded_step: int
    lines: np.ndarray          # (S, 3): first position on the map, first on the padded map, length
    taps: np.ndarray           # (K,): from a position to those whose h it reads
    apart: int                 # from one of these to the next
    kept: np.ndarray           # (1 or 2,): … whose c
    border: np.ndarray         # (E,): the positions that no line computes


@lru_cache(maxsize=64)
def route(height: int, width: int, taps: tuple[Offset, ...], kept: tuple[Offset, ...], turn: int = 0) -> Route:
    """The lines of a map, and what each position reads.

    taps: offsets whose h a position reads · kept: offsets whose c it reads
    turn: 0 = lines are rows, from the top; 1 = diagonals from the top left; −1 = diagonals from the top right
    """
    left, right = (max(0, *(sign * column for _, column in taps)) for sign in (-1, 1))
    across = left + width + right
    if turn:
        starts = [(i, s - i if turn > 0 else width - 1 - s + i, end - i) for s, (i, end) in enumerate(diagonals(height, width))]
    else:
        starts = [(i, 0, width) for i in range(height)]
    down, right_by = (1, -turn) if turn else (0, 1)
    computed = (np.arange(1, height + 1)[:, None] * across + left + np.arange(width)).reshape(-1)
    reads, keeps = (np.array([i * across + j for i, j in offsets], np.int64) for offsets in (taps, kept))
    apart = int(reads[-1] - reads[0]) // max(1, len(reads) - 1)
    assert (np.diff(reads) == apart).all(), "taps are evenly spaced"
    return Route(
        height=height,
        width=width,
        across=across,
        left=left,
        padded=(height + 1) * across,
        step=down * width + right_by,
        padded_step=down * across + right_by,
        lines=np.array([(i * width + j, (i + 1) * across + left + j, count) for i, j, count in starts], np.int64).reshape(-1, 3),
        taps=reads,
        apart=apart,
        kept=keeps,
        border=np.setdiff1d(np.arange((height + 1) * across), computed),
    )
