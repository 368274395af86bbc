"""The cell of an LSTM without peepholes, for vectors and for maps: c ← σ(f)·c + σ(i)·tanh(g), h ← σ(o)·tanh(c)."""

from __future__ import annotations

import torch
from torch import Tensor


def cell(gates: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """gates (B, 4S, …) = input, forget, output and content before their nonlinearities; memory (B, S, …) → output and memory (B, S, …)."""
    admit, keep, show, content = gates.chunk(4, dim=1)
    memory = torch.addcmul(torch.sigmoid(admit) * torch.tanh(content), torch.sigmoid(keep), memory)
    return torch.sigmoid(show) * torch.tanh(memory), memory
