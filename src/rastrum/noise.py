"""Noise that belongs to a decision: a counter, not a stream, so batch splits, devices and the kind of walk change nothing.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel Random Numbers: As Easy as 1, 2, 3") keyed by the 64-bit seed, with the counter
(number of the image, t, component, purpose). A uniform is the top 24 bits of the first of the four words, divided by 2^24.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

# What a number is for, so that no two uses share one.
PIXEL, LATENT, CONDITION = 0, 1, 2

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)


def philox(counter: Sequence[NDArray[np.uint64] | np.uint64], key: tuple[int, int]) -> list[NDArray[np.uint64]]:
    """Ten rounds on four words (each uint64 arrays below 2^32, broadcast against each other) → four words."""
    a, b, c, d = (np.asarray(word, np.uint64) for word in counter)
    for step in range(10):
        k0, k1 = (np.uint64((key[i] + step * _WEYL[i]) & 0xFFFFFFFF) for i in range(2))
        p, q = a * np.uint64(_MULTIPLIERS[0]), c * np.uint64(_MULTIPLIERS[1])
        a, b, c, d = (q >> _WORD) ^ b ^ k0, q & _LOW, (p >> _WORD) ^ d ^ k1, p & _LOW
    return [a, b, c, d]


def _top_24_bits(seed: int, images: ArrayLike, first: int, count: int, component: int, purpose: int) -> NDArray[np.uint64]:
    key = (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)
    image = np.asarray(images, np.uint64)[:, None] & _LOW
    decision = np.arange(first, first + count, dtype=np.uint64)[None]
    return philox((image, decision, np.uint64(component), np.uint64(purpose)), key)[0] >> np.uint64(8)


def uniform(seed: int, images: ArrayLike, first: int, count: int, component: int = 0, purpose: int = PIXEL) -> NDArray[np.float64]:
    """u in [0, 1) for the images' decisions first … first + count − 1: (images, count)."""
    return _top_24_bits(seed, images, first, count, component, purpose) / 2.0**24


def normal(seed: int, images: ArrayLike, first: int, count: int, component: int = 0, purpose: int = LATENT) -> NDArray[np.float64]:
    """Standard normal numbers, the inverse CDF at the middle of the uniform's 24-bit cell (never infinite): (images, count)."""
    middle = (_top_24_bits(seed, images, first, count, component, purpose) + 0.5) / 2.0**24
    return torch.special.ndtri(torch.from_numpy(middle)).numpy()
