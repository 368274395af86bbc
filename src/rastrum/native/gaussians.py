"""Log-density of real values under mixtures of normal distributions, and its gradient, in one pass each: float32, for training on a CPU.

    t_k = log w_k − s_k − z_k² / 2,  z_k = (y − m_k) e^(−s_k)          log p(y) = log Σ e^t_k − log Σ w_k − ½ log 2π
    ∂ log w_k = r_k − w_k / Σ w,  ∂ m_k = r_k z_k e^(−s_k),  ∂ s_k = r_k (z_k² − 1)          r_k = e^t_k / Σ e^t, the share of a component

The Gaussian scale mixtures of ``layers/mcgsm.py``. What a value has once, not for every component, is repeated in a row of K.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..autocast import Function
from .compiler import compiled
from .lanes import Lanes, rowwise
from .layers import log_sum

HALF_LOG_2_PI = np.float32(0.5 * math.log(2 * math.pi))


def _joint(logit: Lanes, mean: Lanes, log_scale: Lanes, value: Lanes, lowest: Lanes) -> list[Lanes]:
    log_scale = log_scale.larger(lowest)
    z = (value - mean) * (log_scale * -1.0).exp()
    return [logit - log_scale - z * z * 0.5]


def _gradient(
    logit: Lanes, mean: Lanes, log_scale: Lanes, value: Lanes, lowest: Lanes, grad: Lanes, joint: Lanes, weights: Lanes
) -> list[Lanes]:
    """joint, weights: log Σ e^t and log Σ w."""
    raised = (lowest - log_scale).where_positive(grad * 0.0, grad)        # scales below the least one are constant
    log_scale = log_scale.larger(lowest)
    precision = (log_scale * -1.0).exp()
    z = (value - mean) * precision
    share = (logit - log_scale - z * z * 0.5 - joint).exp()
    return [grad * (share - (logit - weights).exp()), grad * share * z * precision, raised * share * (z * z - 1.0)]


_joint_row = rowwise([1], [3, 2], _joint)
_gradient_row = rowwise([3], [3, 5], _gradient)


@compiled(slow=True, makes_arrays=True)
def log_density(mixtures, values, lowest, out, totals):
    """mixtures (3, P, K): log weights, means, log scales · values (P,) → out (P,), and totals (P, 2): log Σ e^t and log Σ w."""
    _, count, K = mixtures.shape
    joint, scratch, once = np.empty(K, np.float32), np.empty(K, np.float32), np.empty((2, K), np.float32)
    once[1] = lowest
    for i in range(count):
        once[0] = values[i]
        given = mixtures[0, i]
        _joint_row(K, (joint.ctypes.data, 0, given.ctypes.data, count * K, once.ctypes.data, K))
        for n, row in enumerate((joint, given)):
            top, rest = log_sum(row, scratch)
            totals[i, n] = top + rest
        out[i] = totals[i, 0] - totals[i, 1] - HALF_LOG_2_PI


@compiled(slow=True, makes_arrays=True)
def log_density_gradient(grad, mixtures, values, lowest, totals, grad_mixtures):
    """grad (P,) → grad_mixtures, as ``mixtures``."""
    _, count, K = mixtures.shape
    once = np.empty((5, K), np.float32)
    once[1] = lowest
    for i in range(count):
        once[0], once[2], once[3], once[4] = values[i], grad[i], totals[i, 0], totals[i, 1]
        given, to = mixtures[0, i].ctypes.data, grad_mixtures[0, i].ctypes.data
        _gradient_row(K, (to, count * K, given, count * K, once.ctypes.data, K))


class LogDensity(Function):
    """Log weights, means, log scales (…, K) and values (…) → nats (…); lowest: the least log scale."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, means: Tensor, log_scales: Tensor, values: Tensor, lowest: float) -> Tensor:
        mixtures, values = torch.stack([logits, means, log_scales]).flatten(1, -2), values.contiguous()
        out, totals = torch.empty_like(values), values.new_empty(values.numel(), 2)
        log_density(mixtures.numpy(), values.view(-1).numpy(), np.float32(lowest), out.view(-1).numpy(), totals.numpy())
        ctx.save_for_backward(mixtures, values, totals)
        ctx.shape, ctx.lowest = logits.shape, np.float32(lowest)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        mixtures, values, totals = ctx.saved_tensors
        grads = torch.empty_like(mixtures)
        given = (x.numpy() for x in (grad.reshape(-1), mixtures, values.view(-1)))
        log_density_gradient(*given, ctx.lowest, totals.numpy(), grads.numpy())
        logits, means, log_scales = grads.view(3, *ctx.shape)
        return logits, means, log_scales, -means.sum(-1) if ctx.needs_input_grad[3] else None, None
