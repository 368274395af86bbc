"""Arrays as text that JSON can hold: base64 of little-endian numbers."""

from __future__ import annotations

from base64 import b64encode

import numpy as np
from torch import Tensor


def packed(values: Tensor | np.ndarray, kind: str = "u1") -> str:
    """Values as base64.

    values: any shape.
    kind: numpy's name of their type, little-endian; bytes by default.
    """
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    return b64encode(np.ascontiguousarray(array).astype(f"<{kind}").tobytes()).decode()


def pixels(pictures: Tensor) -> str:
    """Pictures in [0, 1] as base64 of bytes; any shape."""
    return packed((pictures.clamp(0, 1) * 255).round())
