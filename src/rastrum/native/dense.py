"""A linear layer that all steps of a recurrent model use, for float32 on a CPU: what does not change between steps is done once.

    y = initial + x Wᵀ,   ∂x = ∂y W          x (B, K), W (N, K), y (B, N): W and Wᵀ are packed once
    ∂W = Σ_t ∂y_tᵀ x_t                       one product over the images of all steps, when the last of them is known
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..autocast import Function
from .arrays import array
from .panels import aligned
from .products import pack, product


def _packed(matrix: np.ndarray) -> np.ndarray:
    """(K, N) as ``product`` reads it."""
    packed = np.empty(len(matrix) * aligned(matrix.shape[1]), np.float32)
    pack(matrix, 0, len(matrix), packed)
    return packed


def _multiply(A: Tensor, packed: np.ndarray, columns: int, initial: Tensor) -> Tensor:
    """initial (N,) or (M, N) + A (M, K) · a packed matrix (K, N)."""
    rows, inner = A.shape
    out, down = A.new_empty(rows, columns), initial.stride(0) if initial.dim() == 2 else 0
    product(rows, columns, A.data_ptr(), 4 * A.stride(0), 0, 4, 1, inner, packed.ctypes.data, 0, 0,
            initial.data_ptr(), 4 * down, out.data_ptr(), 4 * columns)  # fmt: skip
    return out


class Layer:
    """The weights (N, K), packed for steps forward and backward; and what the steps have seen so far on their way back."""

    def __init__(self, weight: Tensor) -> None:
        self.outputs, self.inputs = weight.shape
        self.forward, self.backward = _packed(array(weight).T), _packed(array(weight))
        self.seen: list[tuple[Tensor, Tensor]] = []

    def gradient(self) -> Tensor:
        """Of the weights, over all steps."""
        xs, grads = (torch.cat(each) for each in zip(*self.seen, strict=True))
        self.seen.clear()
        return _multiply(grads.t().contiguous(), _packed(xs.numpy()), self.inputs, xs.new_zeros(self.inputs))


class Weight(Function):
    """Stands for the weights in the graph of each step; autograd comes here when it has been through all of them.

    The layer does not hold it: that would be a circle, and memory stay until Python looks for such.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, layer: Layer) -> Tensor:
        ctx.layer = layer
        return weight.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.layer.gradient(), None


class Step(Function):
    """``Weight``, x (B, K), initial (N,) or (B, N) → (B, N)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: Tensor, initial: Tensor, layer: Layer) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        ctx.layer, ctx.is_bias = layer, initial.dim() == 1
        return _multiply(x, layer.forward, layer.outputs, initial if initial.stride(-1) == 1 else initial.contiguous())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,), layer, grad = ctx.saved_tensors, ctx.layer, grad.contiguous()
        if ctx.needs_input_grad[0]:
            layer.seen.append((x, grad))
        grad_x = _multiply(grad, layer.backward, layer.inputs, grad.new_zeros(layer.inputs)) if ctx.needs_input_grad[1] else None
        return grad.new_zeros(()), grad_x, grad.sum(0) if ctx.is_bias else grad, None
