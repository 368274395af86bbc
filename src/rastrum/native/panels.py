"""How weights and maps lie in memory for the compiled products: panels of 16 outputs, padded with zeros, at the start of a cache line."""

from __future__ import annotations

import numpy as np

PANEL = 16                     # outputs of a linear that are computed together


def aligned(size: int) -> int:
    """``size`` rounded up to whole panels."""
    return -(-size // PANEL) * PANEL


def panels(weights: np.ndarray) -> np.ndarray:
    """Weights (…, K inputs, N outputs) → (…, N / 16, K, 16), flat, N padded with zeros to whole panels."""
    *many, inputs, outputs = weights.shape
    whole = np.zeros((*many, inputs, aligned(outputs)), np.float32)
    whole[..., :outputs] = weights
    return whole.reshape(*many, inputs, aligned(outputs) // PANEL, PANEL).swapaxes(-2, -3).reshape(-1)


def aligned_copy(x: np.ndarray) -> np.ndarray:
    """A writable copy whose memory begins at a cache line."""
    memory = np.empty(x.size + PANEL, x.dtype)
    skip = -memory.ctypes.data // x.itemsize % PANEL
    out = memory[skip : skip + x.size].reshape(x.shape)
    out[...] = x
    return out
