"""A linear layer of a batch for float32 on a CPU: products of A · B whose B is packed from what is small, the batch, never the weights.

    y ᵀ = W xᵀ,   ∂xᵀ = Wᵀ ∂yᵀ,   ∂W = ∂yᵀ x          x (B, K), W (N, K), y (B, N)

So weights that change with every step of training are read where they lie, and results are transposed in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..autocast import Function
from .panels import aligned
from .products import pack, product


def _packed(matrix: Tensor) -> np.ndarray:
    """(K, N) as ``product`` reads it."""
    packed = np.empty(len(matrix) * aligned(matrix.shape[1]), np.float32)
    pack(matrix.detach().numpy(), 0, len(matrix), packed)
    return packed


def _multiply(out: Tensor, A: Tensor, matrix: Tensor) -> Tensor:
    """out (M, N) = A (M, K) · matrix (K, N); A may lie transposed in memory."""
    (rows, columns), (down, right), packed, nothing = out.shape, A.stride(), _packed(matrix), np.zeros(out.shape[1], np.float32)
    product(rows, columns, A.data_ptr(), 4 * down, 0, 4 * right, 1, A.shape[1], packed.ctypes.data, 0, 0,
            nothing.ctypes.data, 0, out.data_ptr(), 4 * columns)  # fmt: skip
    return out


class Linear(Function):
    """x (B, K), weight (N, K) → x · weightᵀ (B, N)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        return _multiply(x.new_empty(len(weight), len(x)), weight, x.t()).t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x = _multiply(x.new_empty(x.shape[1], len(x)), weight.t(), grad.t()).t()
        return grad_x, _multiply(weight.new_empty(weight.shape), grad.t(), x)
