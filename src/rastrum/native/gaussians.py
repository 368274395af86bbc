"""Log-density of real values under mixtures of normal distributions, and its gradient, in one pass each: float32, for training on a CPU.

    t_k = log w_k − s_k − z_k² / 2,  z_k = (y − m_k) e^(−s_k)          log p(y) = log Σ e^t_k − log Σ w_k − ½ log 2π
    ∂ log w_k = r_k − w_k / Σ w,  ∂ m_k = r_k z_k e^(−s_k),  ∂ s_k = r_k (z_k² − 1)          r_k = e^t_k / Σ e^t, the share of a component

The Gaussian scale mixtures of ``layers/mcgsm.py``, whose scales are the same at many positions: e^(−s) is computed once for each row of
them. What a value has once, not for every component, is repeated in a row of K.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..autocast import Function
from .arrays import array
from .compiler import compiled
from .lanes import Lanes, rowwise
from .layers import log_sum
from .products import AT_ONCE

HALF_LOG_2_PI = np.float32(0.5 * math.log(2 * math.pi))


def _joint(logit: Lanes, mean: Lanes, log_scale: Lanes, precision: Lanes, value: Lanes) -> list[Lanes]:
    z = (value - mean) * precision
    return [logit - log_scale - z * z * 0.5]


def _gradient(
    before: Lanes, logit: Lanes, mean: Lanes, log_scale: Lanes, precision: Lanes, value: Lanes, grad: Lanes, joint: Lanes, weights: Lanes
) -> list[Lanes]:
    """joint, weights: log Σ e^t and log Σ w; the gradient of the log scale is added to that of the positions before."""
    z = (value - mean) * precision
    share = (logit - log_scale - z * z * 0.5 - joint).exp()
    shared = grad * share
    return [grad * (share - (logit - weights).exp()), shared * z * precision, before + shared * (z * z - 1.0)]


_precision_row = rowwise([1], [1], lambda log_scale: [(log_scale * -1.0).exp()])
_joint_row = rowwise([1], [1, 1, 2, 1], _joint)
_gradient_row = rowwise([1, 1, 1], [1, 1, 1, 2, 4], _gradient)


@compiled(slow=True, makes_arrays=True)
def log_density(logits, means, scales, each, values, out, totals):
    """logits, means (P, K) · scales (2, R, K): log scales, and their precisions, which are computed · values (P,) → out (P,), and
    totals (P, 2): log Σ e^t and log Σ w.

    each: positions, one after another, that share a row of ``scales``; after R times as many the rows begin again.
    """
    (count, K), rows = logits.shape, scales.shape[1]
    joint, scratch, value = np.empty(K, np.float32), np.empty(K, np.float32), np.empty(K, np.float32)
    for row in range(rows):
        _precision_row(K, (scales[1, row].ctypes.data, 0, scales[0, row].ctypes.data, 0))
    for i in range(count):
        value[:] = values[i]
        logit, mean, own = logits[i].ctypes.data, means[i].ctypes.data, scales[0, i // each % rows].ctypes.data
        _joint_row(K, (joint.ctypes.data, 0, logit, 0, mean, 0, own, rows * K, value.ctypes.data, 0))
        for n, row in enumerate((joint, logits[i])):
            top, rest = log_sum(row, scratch)
            totals[i, n] = top + rest
        out[i] = totals[i, 0] - totals[i, 1] - HALF_LOG_2_PI


@compiled(slow=True, makes_arrays=True)
def log_density_gradient(grad, logits, means, scales, each, values, totals, grad_logits, grad_means, grad_scales):
    """grad (P,) → grad_logits and grad_means (P, K), and grad_scales (R, K) in float64, which are added to."""
    (count, K), rows = logits.shape, scales.shape[1]
    once, sums = np.empty((4, K), np.float32), np.zeros(K, np.float32)
    for i in range(count):
        once[0], once[1], once[2], once[3] = values[i], grad[i], totals[i, 0], totals[i, 1]
        logit, mean, own = logits[i].ctypes.data, means[i].ctypes.data, i // each % rows
        to, of_scales, added = (grad_logits[i].ctypes.data, grad_means[i].ctypes.data), scales[0, own].ctypes.data, sums.ctypes.data
        _gradient_row(
            K, (to[0], 0, to[1], 0, added, 0, added, 0, logit, 0, mean, 0, of_scales, rows * K, once.ctypes.data, K)
        )
        if (i + 1) % min(each, AT_ONCE) == 0 or (i + 1) % each == 0:
            for k in range(K):
                grad_scales[own, k] += sums[k]
                sums[k] = 0


class LogDensity(Function):
    """Log weights, means (…, K), log scales, which may be the same along dimensions where they have one row, and values (…) → nats (…).

    lowest: the least log scale; smaller ones are constant.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, means: Tensor, log_scales: Tensor, values: Tensor, lowest: float) -> Tensor:
        K = logits.shape[-1]
        flat, values = [x.detach().reshape(-1, K) for x in (logits, means)], values.contiguous()
        scales = log_scales.detach().clamp(min=lowest).reshape(-1, K).repeat(2, 1, 1)
        after = next((n for n, size in enumerate(reversed(log_scales.shape[:-1])) if size > 1), values.dim())
        each = values.shape[values.dim() - after :].numel()
        out, totals = torch.empty_like(values), values.new_empty(values.numel(), 2)
        log_density(*(array(x) for x in (*flat, scales)), each, array(values.view(-1)), out.view(-1).numpy(), totals.numpy())
        ctx.save_for_backward(*flat, scales, values, totals, log_scales)
        ctx.shape, ctx.each, ctx.lowest = logits.shape, each, lowest
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        *flat, scales, values, totals, log_scales = ctx.saved_tensors
        grads, grad_scales = [torch.empty_like(x) for x in flat], torch.zeros(scales.shape[1:], dtype=torch.float64)
        log_density_gradient(*(array(x) for x in (grad.reshape(-1), *flat, scales)), ctx.each, array(values.view(-1)),
                             *(x.numpy() for x in (totals, *grads, grad_scales)))  # fmt: skip
        logits, means = (x.view(ctx.shape) for x in grads)
        of_scales = grad_scales.to(log_scales.dtype).view(log_scales.shape) * (log_scales >= ctx.lowest)
        return logits, means, of_scales, -means.sum(-1) if ctx.needs_input_grad[3] else None, None
