"""Toom–Cook F(4, 3) (Lavin & Gray 2016): a window of three columns as six products that give four columns of outputs, instead of twelve.

    y = OUTPUTS ((KERNEL g) ⊙ (INPUTS d))      kernel columns g (3), inputs d (6), outputs y (4)

Polynomials at the points 0, 1, −1, 2, −2, ∞. docs/arithmetic.md gives the matrices, as they are computed here and in ``linear.py``.
"""

from __future__ import annotations

import numpy as np

POINTS, TILE = 6, 4            # products, and the columns of outputs that they give


def weights_at_points(weight: np.ndarray) -> list[np.ndarray]:
    """Weights (3 columns, K, N) float32 → KERNEL · weights, six of (K, N).

    Every product and sum is rounded in float64, in the order of docs/arithmetic.md, and only the result to float32.
    """
    left, middle, right = weight.astype(np.float64)
    even, wide, odd = left + right, left + 4.0 * right, 2.0 * middle
    at = [6.0 * left, -4.0 * (even + middle), -4.0 * (even - middle), wide + odd, wide - odd, 24.0 * right]
    return [(values / 24.0).astype(np.float32) for values in at]
