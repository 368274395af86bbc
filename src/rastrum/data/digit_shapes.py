"""What a digit looks like in four numbers, ours, as vectors that a model can be conditioned on.

    ink       Σ x, of intensities x in [0, 1]: how bold it is, and how long its lines are
    width     standard deviation of the columns, weighted by x
    height    the same of the rows
    slant     how many columns to the right a row further up lies: −covariance / variance of the rows

Each is given less its mean over MNIST's 60,000 training digits and divided by its standard deviation there, so 0 is usual and ±1 common.
"""

from __future__ import annotations

import numpy as np

MEAN, DEVIATION = np.array([102.4, 3.773, 5.470, 0.111]), np.array([33.95, 1.105, 0.592, 0.276])


def shapes(digits: np.ndarray) -> np.ndarray:
    """The four numbers of each digit.

    digits: uint8 (N, H, W), white on black.

    Returns float32 (N, 4).
    """
    x = digits / 255
    ink = x.sum((1, 2))
    share = x / np.maximum(ink, 1e-9)[:, None, None]                       # of an empty picture nothing
    rows, columns = (np.arange(side) - share.sum(other) @ np.arange(side)[:, None] for side, other in zip(x.shape[1:], (2, 1), strict=True))
    spread = [(share.sum(other) * at**2).sum(1) for at, other in ((columns, 1), (rows, 2))]
    together = np.einsum("nrc,nr,nc->n", share, rows, columns)
    found = np.stack([ink, *np.sqrt(spread), -together / np.maximum(spread[1], 1e-9)], 1)
    return ((found - MEAN) / DEVIATION).astype(np.float32)
