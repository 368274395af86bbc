"""Causal layers, and compiled forms of what is slow in torch (``native.py``)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def native_for(x: Tensor) -> Any:
    """The module of compiled forms where they can take x, else None; imported when first used, for numba takes its time."""
    if x.dtype != torch.float32 or x.device.type != "cpu":
        return None
    from ..native import lanes
    from ..native import layers as native

    return native if lanes.available else None
