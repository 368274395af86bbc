"""Log-likelihood of pixels under PixelCNN++'s mixture, and its gradient, in one pass each: float32, for training on a CPU.

    S_0k = π_k,  S_ck = S_(c−1)k + log p(value of channel c | component k),     log p(channel c | channels before) = L_c − L_(c−1)
    L_c = log Σ_k exp S_ck

The mass of a level is σ(b) σ(a) (1 − e^(−s)), with b and a the distances to its upper and lower edge in scales, s = a + b; of the last
level σ(a), of the first σ(b). Nothing cancels: one logarithm takes the bounded factors, min(b, 0) + min(a, 0) are added.

Parameters of a pixel, K each: logits, a mean of each channel, a log scale of each, and a coefficient of each pair of channels, (1, 0),
(2, 0), (2, 1), …, whose tanh times the earlier value moves the mean of the later one. BLOCK pixels at a time, a row for each parameter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..autocast import Function
from .arrays import array
from .cells import tanh
from .compiler import compiled
from .lanes import Lanes, rowwise

BLOCK = 64


def _edges(mean: Lanes, log_scale: Lanes, value: Lanes, half: Lanes, lowest: Lanes) -> tuple[Lanes, Lanes]:
    """Distance of the value from the centre, in levels, and steepness: 1 / scale per level."""
    steepness = (log_scale.larger(lowest) * -1.0).exp() * (1.0 / half)
    return value - mean.fused(half, half), steepness


def _mass(steepness: Lanes) -> tuple[Lanes, Lanes]:
    """e^(−s) and 1 − e^(−s)."""
    decay, series = (steepness * -1.0).exp(), steepness * (-1.0 / 6) + 1.0
    for n in (5.0, 4.0, 3.0, 2.0):
        series = 1.0 - steepness * (1.0 / n) * series
    return decay, (steepness - 0.3).where_positive(1.0 - decay, steepness * series)


def _component(total: Lanes, mean: Lanes, log_scale: Lanes, value: Lanes, half: Lanes, lowest: Lanes) -> list[Lanes]:
    distance, s = _edges(mean, log_scale, value, half, lowest)
    inner, outer = value - 0.5, half * 2.0 - 0.5 - value                  # above 0 but for the first, for the last level
    a, b, zero = (0.5 - distance) * s, (distance + 0.5) * s, value * 0.0
    one = zero + 1.0
    below = a.smaller(a * -1.0).exp() + 1.0
    above = b.smaller(b * -1.0).exp() + 1.0
    _, mass = _mass(s)
    factor = inner.where_positive(below, one) * outer.where_positive(above, one)
    mass = inner.where_positive(outer.where_positive(mass, one), one) * (1.0 / factor)
    tails = inner.where_positive(a.smaller(zero), zero) + outer.where_positive(b.smaller(zero), zero)
    return [total + tails + mass.larger(zero + 1e-37).log()]


def _component_gradient(grad: Lanes, mean: Lanes, log_scale: Lanes, value: Lanes, half: Lanes, lowest: Lanes) -> list[Lanes]:
    """Gradients of mean and log scale."""
    distance, s = _edges(mean, log_scale, value, half, lowest)
    inner, outer = value - 0.5, half * 2.0 - 0.5 - value
    a, b, zero = (0.5 - distance) * s, (distance + 0.5) * s, value * 0.0

    def falling(x: Lanes) -> Lanes:
        """σ(−x), the derivative of log σ(x)."""
        decay = x.smaller(x * -1.0).exp()
        return x.where_positive(decay, zero + 1.0) * (1.0 / (decay + 1.0))

    lower, upper = inner.where_positive(falling(a), zero), outer.where_positive(falling(b), zero)
    decay, mass = _mass(s)
    width = inner.where_positive(outer.where_positive(decay * (1.0 / mass.larger(zero + 1e-37)), zero), zero)
    scales = (upper * (distance + 0.5) + lower * (0.5 - distance) + width) * s
    raised = (lowest - log_scale).where_positive(zero, zero + 1.0)        # scales below the least one are constant
    return [grad * s * (lower - upper) * half, grad * scales * -1.0 * raised]


_component_row = rowwise([1], [1, 1, 1, 1, 2], _component)
_component_gradient_row = rowwise([1, 1], [1, 1, 1, 1, 2], _component_gradient)
_moved_row = rowwise([1], [1, 1, 1, 1], lambda mean, q, value, half: [mean + tanh(q) * (value * (1.0 / half) - 1.0)])
_largest_row = rowwise([1], [1, 1], lambda x, y: [x.larger(y)])
_add_exp_row = rowwise([1], [1, 1, 1], lambda total, x, top: [total + (x - top).exp()])
_log_row = rowwise([1], [1, 1], lambda total, top: [top + total.log()])
_add_share_row = rowwise([1], [1, 1, 1, 1], lambda total, grad, x, top: [total + grad * (x - top).exp()])


def _coefficient_gradient(grad: Lanes, q: Lanes, value: Lanes, half: Lanes) -> list[Lanes]:
    t = tanh(q)
    return [grad * (value * (1.0 / half) - 1.0) * (1.0 - t * t)]


_coefficient_gradient_row = rowwise([1], [1, 1, 1, 1], _coefficient_gradient)


@compiled(makes_arrays=True)
def _sums(n, K, C, rows, values, constants, sums, logs):
    """S (C + 1, K) and L (C + 1) of n pixels; the rows of the means are moved by the earlier channels."""
    half, step = constants.ctypes.data, 4 * BLOCK
    p, v, s = rows.ctypes.data, values.ctypes.data, sums.ctypes.data
    for k in range(K):
        sums[0, k, :n] = rows[k, :n]
    for c in range(C):
        for k in range(K):
            mean, log_scale = p + step * (K * (1 + c) + k), p + step * (K * (1 + C + c) + k)
            for early in range(c):
                q = p + step * (K * (1 + 2 * C + c * (c - 1) // 2 + early) + k)
                _moved_row(n, (mean, 0, mean, 0, q, 0, v + step * early, 0, half, 0))
            _component_row(n, (s + step * (K * (c + 1) + k), 0, s + step * (K * c + k), 0, mean, 0, log_scale, 0, v + step * c, 0,
                               half, BLOCK))  # fmt: skip
    top = np.empty(BLOCK, np.float32)
    for c in range(C + 1):
        top[:n] = sums[c, 0, :n]
        logs[c, :n] = 0
        total, largest = logs.ctypes.data + step * c, top.ctypes.data
        for k in range(1, K):
            _largest_row(n, (largest, 0, largest, 0, s + step * (K * c + k), 0))
        for k in range(K):
            _add_exp_row(n, (total, 0, total, 0, s + step * (K * c + k), 0, largest, 0))
        _log_row(n, (total, 0, total, 0, largest, 0))


@compiled
def _enter(n, parameters, levels, first, rows, values):
    for i in range(n):
        for j in range(parameters.shape[1]):
            rows[j, i] = parameters[first + i, j]
    for c in range(levels.shape[0]):
        for i in range(n):
            values[c, i] = levels[c, first + i]


@compiled(slow=True, makes_arrays=True)
def pixel_log_prob(parameters, levels, half, lowest, out):
    """parameters (B, P, (1 + 2C + C(C − 1)/2) K), levels (B, C, P) → out (B, C, P)."""
    B, C, P = levels.shape
    wide = parameters.shape[2]
    K = wide // (1 + 2 * C + C * (C - 1) // 2)
    rows, values = np.empty((wide, BLOCK), np.float32), np.empty((C, BLOCK), np.float32)
    sums, logs, constants = np.empty((C + 1, K, BLOCK), np.float32), np.empty((C + 1, BLOCK), np.float32), np.empty((2, BLOCK), np.float32)
    constants[0], constants[1] = half, lowest
    for b in range(B):
        for first in range(0, P, BLOCK):
            n = min(BLOCK, P - first)
            _enter(n, parameters[b], levels[b], first, rows, values)
            _sums(n, K, C, rows, values, constants, sums, logs)
            for c in range(C):
                for i in range(n):
                    out[b, c, first + i] = logs[c + 1, i] - logs[c, i]


@compiled(slow=True, makes_arrays=True)
def pixel_log_prob_gradient(grad, parameters, levels, half, lowest, grad_parameters):
    """grad (B, C, P) → grad_parameters, as ``parameters``."""
    B, C, P = levels.shape
    wide = parameters.shape[2]
    K = wide // (1 + 2 * C + C * (C - 1) // 2)
    rows, values = np.empty((wide, BLOCK), np.float32), np.empty((C, BLOCK), np.float32)
    sums, logs, constants = np.empty((C + 1, K, BLOCK), np.float32), np.empty((C + 1, BLOCK), np.float32), np.empty((2, BLOCK), np.float32)
    grads, weight = np.empty((wide, BLOCK), np.float32), np.empty(BLOCK, np.float32)
    constants[0], constants[1] = half, lowest
    h, step = constants.ctypes.data, 4 * BLOCK
    p, v, s, g, total = rows.ctypes.data, values.ctypes.data, sums.ctypes.data, grads.ctypes.data, logs.ctypes.data
    for b in range(B):
        for first in range(0, P, BLOCK):
            n = min(BLOCK, P - first)
            _enter(n, parameters[b], levels[b], first, rows, values)
            _sums(n, K, C, rows, values, constants, sums, logs)
            for k in range(K):
                grads[k, :n] = 0
            for c in range(C, -1, -1):                                    # what L_c gives to π and to the components of channels up to c
                for i in range(n):
                    before = grad[b, c - 1, first + i] if c > 0 else np.float32(0)
                    weight[i] = before - (grad[b, c, first + i] if c < C else np.float32(0))
                for k in range(K):
                    share = g + step * k
                    _add_share_row(n, (share, 0, share, 0, weight.ctypes.data, 0, s + step * (K * c + k), 0, total + step * c, 0))
                    if c > 0:
                        mean, log_scale = step * (K * c + k), step * (K * (C + c) + k)
                        _component_gradient_row(n, (g + mean, 0, g + log_scale, 0, share, 0, p + mean, 0, p + log_scale, 0,
                                                    v + step * (c - 1), 0, h, BLOCK))  # fmt: skip
                        for early in range(c - 1):
                            q = step * (K * (1 + 2 * C + (c - 1) * (c - 2) // 2 + early) + k)
                            _coefficient_gradient_row(n, (g + q, 0, g + mean, 0, p + q, 0, v + step * early, 0, h, 0))
            for i in range(n):
                for j in range(wide):
                    grad_parameters[b, first + i, j] = grads[j, i]


class PixelLogProb(Function):
    """parameters (B, H, W, …), levels (B, C, H, W) int64 → nats (B, C, H, W).

    half: (L − 1) / 2 for L levels · lowest: the least log scale
    """

    @staticmethod
    def forward(ctx: Any, parameters: Tensor, levels: Tensor, half: float, lowest: float) -> Tensor:
        flat, ctx.half, ctx.lowest = parameters.contiguous().flatten(1, 2), np.float32(half), np.float32(lowest)
        ctx.save_for_backward(flat, levels)
        ctx.shape = parameters.shape
        out = parameters.new_empty(levels.shape)
        pixel_log_prob(array(flat), array(levels.flatten(2)), ctx.half, ctx.lowest, out.flatten(2).numpy())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        flat, levels = ctx.saved_tensors
        out = torch.empty_like(flat)
        given, values = (array(part.flatten(2)) for part in (grad, levels))
        pixel_log_prob_gradient(given, array(flat), values, ctx.half, ctx.lowest, out.numpy())
        return out.view(ctx.shape), None, None, None
