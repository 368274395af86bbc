"""A linear layer that a recurrent model runs at every step."""

from __future__ import annotations

import torch
from torch import Tensor

from ..native import native_for
from ..native.panels import PANEL


def linear(x: Tensor, weight: Tensor, initial: Tensor) -> Tensor:
    """initial + x · weightᵀ.

    x: (B, K).
    weight: (N, K).
    initial: (N,) or (B, N).

    Returns (B, N).
    """
    trained = torch.is_grad_enabled() and len(x) >= PANEL                 # a smaller batch leaves most of a panel empty
    if not trained or native_for(x) is None or torch.is_autocast_enabled("cpu"):
        return torch.addmm(initial, x, weight.t())
    from ..native.dense import Linear

    return initial + Linear.apply(x, weight)                              # pyright: ignore[reportOperatorIssue, reportReturnType]
