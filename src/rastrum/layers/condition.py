"""What is known before an image is drawn, added to a layer's output: a vector at every position, or maps at each its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..program.builder import Program, View
from ..protocol import ConditionSpec
from .causal import VerticalConvolution


class ConditionVector(nn.Module):
    """V (size, outputs) for a class (one-hot) or a vector; an unconditional model has none and adds nothing."""

    def __init__(self, condition: ConditionSpec | None, outputs: int) -> None:
        super().__init__()
        if condition is not None and not isinstance(condition.size, int):
            raise ValueError(f"condition: expected kind 'class' or 'vector', got {condition.kind!r} of size {condition.size}")
        self.size = condition.size if condition is not None and isinstance(condition.size, int) else 0
        self.weight = nn.Parameter(torch.randn(self.size, outputs) * 0.1) if self.size else None

    def forward(self, condition: Tensor | None) -> Tensor | None:
        """(B,) classes or (B, size) → (B, 1, 1, outputs), or None."""
        if self.weight is None:
            return None
        assert condition is not None
        if condition.is_floating_point():
            return (condition.to(self.weight.dtype) @ self.weight)[:, None, None]
        return F.embedding(condition, self.weight)[:, None, None]

    def lower(self, program: Program) -> View | None:
        if self.weight is None:
            return None
        vector = program.condition_vector()
        assert vector is not None
        with program.phase("start"):
            return program.linear(vector, self.weight)


class Guide(nn.Module):
    """An unmasked 1x1 of maps that are known at every position (van den Oord et al. 2016); of no maps nothing is added."""

    def __init__(self, maps: int, outputs: int) -> None:
        super().__init__()
        self.look = VerticalConvolution(maps, outputs) if maps else None

    def forward(self, guide: Tensor | None) -> Tensor | None:
        """(B, H, W, maps) → (B, H, W, outputs), or None."""
        if self.look is None:
            return None
        assert guide is not None
        return self.look(guide)

    def lower(self, program: Program, guide: View | None, initial: View | None = None) -> View | None:
        """guide: a whole map; → a map of the row phase, added to ``initial``, or that."""
        if self.look is None:
            return initial
        assert guide is not None
        return self.look.lower(program, guide, initial)
