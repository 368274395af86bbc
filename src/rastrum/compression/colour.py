"""YCoCg-R (Malvar and Sullivan 2003), a reversible transform of RGB to one luma and two chroma channels, modulo the number of levels L.

    Co = R − B + L/2        t = B + ⌊(Co − L/2) / 2⌋        Cg = G − t + L/2        Y = t + ⌊(Cg − L/2) / 2⌋        all mod L

Each step adds to one channel a function of the others, so it can be undone modulo L too: chroma keeps the levels of the image instead of
twice as many. Differences of L/2 and more wrap, which in photographs is rare.
"""

from __future__ import annotations

import numpy as np


def to_ycocg(rgb: np.ndarray, bits: int) -> np.ndarray:
    """RGB → Y, Co, Cg.

    rgb: levels (…, 3), of any unsigned type.
    bits: of a sample, L = 2^bits.

    Returns the same type and shape.
    """
    last, half = (1 << bits) - 1, 1 << bits >> 1
    red, green, blue = np.moveaxis(rgb.astype(np.int32), -1, 0)
    co = red - blue + half & last
    t = blue + (co - half >> 1)
    cg = green - t + half & last
    return np.stack([t + (cg - half >> 1) & last, co, cg], -1).astype(rgb.dtype)


def from_ycocg(transformed: np.ndarray, bits: int) -> np.ndarray:
    """Y, Co, Cg → RGB, the inverse of ``to_ycocg``.

    transformed: levels (…, 3), of any unsigned type.
    bits: of a sample.

    Returns the same type and shape.
    """
    last, half = (1 << bits) - 1, 1 << bits >> 1
    y, co, cg = np.moveaxis(transformed.astype(np.int32), -1, 0)
    t = y - (cg - half >> 1)
    blue = t - (co - half >> 1)
    return np.stack([co - half + blue & last, cg - half + t & last, blue & last], -1).astype(transformed.dtype)
