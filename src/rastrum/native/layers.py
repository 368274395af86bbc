"""Faster forms of the layers' functions for float32 maps on a CPU: loops that torch has no single pass for, compiled by numba.

    Gate            y = tanh(a) σ(b), one pass forward and one backward
    Multiplicative  y = σ(g₁) tanh(σ(g₂) h + σ(g₃) tanh(u)), the same
    LSTMCell        one step of an LSTM without peepholes, the same
    Glu             y = x + a σ(b), the same
    LogSoftmaxAt    log softmax of each position's logits at its level, one pass forward and one backward
    Normalised      weight normalisation of all taps of a kernel

Maps are contiguous, channels last. Addresses count bytes, steps between vectors floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..autocast import Function
from .arrays import array
from .cells import activate, lstm, lstm_gradient, sigmoid, tanh
from .compiler import compiled
from .lanes import Lanes, rowwise


def _rows(like: Tensor, *parts: Tensor) -> tuple[int, ...]:
    """Number P and size n of the vectors in ``like`` (…, n), and the addresses of contiguous parts."""
    n = like.shape[-1]
    return like.numel() // n, n, *(part.data_ptr() for part in parts)


# ── gate ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _gate(a: Lanes, b: Lanes) -> list[Lanes]:
    u, v = (a * -2.0).exp(), (b * -1.0).exp()
    return [(1.0 - u) * (1.0 / ((u + 1.0) * (v + 1.0)))]


def _gate_gradient(grad: Lanes, a: Lanes, b: Lanes) -> list[Lanes]:
    u, v = (a * -2.0).exp(), (b * -1.0).exp()
    inverse = 1.0 / ((u + 1.0) * (v + 1.0))
    content, opened = (1.0 - u) * (v + 1.0) * inverse, (u + 1.0) * inverse          # tanh(a), σ(b)
    scaled = grad * opened
    return [scaled * (1.0 - content * content), scaled * content * (1.0 - opened)]


_gate_row = rowwise([1], [2], _gate)
_gate_gradient_row = rowwise([2], [1, 2], _gate_gradient)


@compiled
def gate(count, n, x, y):
    """x (P, 2n) as [a | b] → y (P, n)."""
    for i in range(count):
        _gate_row(n, (y + 4 * n * i, 0, x + 8 * n * i, n))


@compiled
def gate_gradient(count, n, grad, x, grad_x):
    """grad (P, n), x (P, 2n) → grad_x (P, 2n)."""
    for i in range(count):
        _gate_gradient_row(n, (grad_x + 8 * n * i, n, grad + 4 * n * i, 0, x + 8 * n * i, n))


class Gate(Function):
    """``gate`` with its gradient; backward computes both functions again, which is cheaper than keeping them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        y = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
        gate(*_rows(y, x, y))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        grad, grad_x = grad.contiguous(), torch.empty_like(x)
        gate_gradient(*_rows(grad, grad, x, grad_x))
        return grad_x


# ── gated linear unit ────────────────────────────────────────────────────────────────────────────────────────────────

_glu_row = rowwise([1], [1, 2], lambda x, a, b: [x + a * sigmoid(b)])


def _glu_gradient(grad: Lanes, a: Lanes, b: Lanes) -> list[Lanes]:
    opened = sigmoid(b)
    scaled = grad * opened
    return [scaled, scaled * a * (1.0 - opened)]


_glu_gradient_row = rowwise([2], [1, 2], _glu_gradient)


@compiled
def glu(count, n, x, z, y):
    """x (P, n), z (P, 2n) as [a | b] → y (P, n)."""
    for i in range(count):
        _glu_row(n, (y + 4 * n * i, 0, x + 4 * n * i, 0, z + 8 * n * i, n))


@compiled
def glu_gradient(count, n, grad, z, grad_z):
    """grad (P, n), z (P, 2n) → grad_z (P, 2n)."""
    for i in range(count):
        _glu_gradient_row(n, (grad_z + 8 * n * i, n, grad + 4 * n * i, 0, z + 8 * n * i, n))


class Glu(Function):
    """x (…, n), z (…, 2n) → x + a σ(b), z = [a | b]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, z: Tensor) -> Tensor:
        x, z = x.contiguous(), z.contiguous()
        ctx.save_for_backward(z)
        y = torch.empty_like(x)
        glu(*_rows(y, x, z, y))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (z,) = ctx.saved_tensors
        grad, grad_z = grad.contiguous(), torch.empty_like(z)
        glu_gradient(*_rows(grad, grad, z, grad_z))
        return grad, grad_z


# ── weight normalisation ─────────────────────────────────────────────────────────────────────────────────────────────


@compiled
def add_products(a, b, total):
    """total (N,) += Σ over the rows of a ⊙ b, both (K, N)."""
    for i in range(len(a)):
        for j in range(len(total)):
            total[j] += a[i, j] * b[i, j]


@compiled
def scaled(a, scale, b, offset, out):
    """out = a · scale + b · offset, both factors (N,)."""
    for i in range(len(a)):
        for j in range(len(scale)):
            out[i, j] = a[i, j] * scale[j] + b[i, j] * offset[j]


class Normalised(Function):
    """gain (N,) and the weights of taps (K, n) → gain · weights / norm; the norm is of all weights of an output.

    ranges: first output of each tap, and last + 1.
    """

    @staticmethod
    def forward(ctx: Any, ranges: tuple[tuple[int, int], ...], gain: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        arrays = [array(weight) for weight in weights]
        square = np.zeros(len(gain), np.float32)
        for (first, stop), weight in zip(ranges, arrays, strict=True):
            add_products(weight, weight, square[first:stop])
        norm = np.sqrt(np.maximum(square, np.float32(1e-24)))
        ratio = array(gain) / norm
        out = [torch.empty_like(weight, requires_grad=False) for weight in weights]
        for (first, stop), weight, result in zip(ranges, arrays, out, strict=True):
            scaled(weight, ratio[first:stop], weight, np.zeros(stop - first, np.float32), result.numpy())
        ctx.save_for_backward(*weights)
        ctx.ranges, ctx.norm, ctx.ratio = ranges, norm, ratio
        return tuple(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        weights = [array(weight) for weight in ctx.saved_tensors]
        given = [array(grad) for grad in grads]
        along = np.zeros(len(ctx.norm), np.float32)                       # of the gradient along the weights: only the gain follows that
        for (first, stop), weight, grad in zip(ctx.ranges, weights, given, strict=True):
            add_products(weight, grad, along[first:stop])
        # below the least norm, which is a constant, the gradient does not turn
        turn = np.where(ctx.norm > 1e-12, -ctx.ratio * along / (ctx.norm * ctx.norm), np.float32(0)).astype(np.float32)
        out = [torch.empty_like(weight, requires_grad=False) for weight in ctx.saved_tensors]
        for (first, stop), weight, grad, result in zip(ctx.ranges, weights, given, out, strict=True):
            scaled(grad, ctx.ratio[first:stop], weight, turn[first:stop], result.numpy())
        return None, torch.from_numpy(along / ctx.norm), *out


# ── LSTM cell ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _lstm(o: Lanes, f: Lanes, i: Lanes, g: Lanes, before: Lanes) -> list[Lanes]:
    o, f, i, g = activate(o, f, i, g)
    return lstm(o, f, i, g, before)


def _lstm_gradient(grad_h: Lanes, grad_c: Lanes, o: Lanes, f: Lanes, i: Lanes, g: Lanes, before: Lanes, c: Lanes) -> list[Lanes]:
    o, f, i, g = activate(o, f, i, g)
    return lstm_gradient(grad_h, grad_c, o, f, i, g, before, c)


_lstm_row = rowwise([1, 1], [4, 1], _lstm)
_lstm_gradient_row = rowwise([4, 1], [1, 1, 4, 1, 1], _lstm_gradient)


@compiled
def lstm_cell(count, n, gates, before, c, h):
    """gates (P, 4n) as [o f i g], the others (P, n)."""
    for i in range(count):
        at = 4 * n * i
        _lstm_row(n, (c + at, 0, h + at, 0, gates + 4 * at, n, before + at, 0))


@compiled
def lstm_cell_gradient(count, n, grad_h, grad_c, gates, before, c, grad_gates, grad_before):
    """grad_h, grad_c (P, n) → grad_gates (P, 4n), grad_before (P, n)."""
    for i in range(count):
        at = 4 * n * i
        to, given = (grad_gates + 4 * at, n, grad_before + at, 0), (grad_h + at, 0, grad_c + at, 0, gates + 4 * at, n)
        _lstm_gradient_row(n, (*to, *given, before + at, 0, c + at, 0))


class LSTMCell(Function):
    """gates (…, 4n) before their nonlinearities, the cell before (…, n) → h and the cell, (…, n) each."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        gates, before = gates.contiguous(), before.contiguous()
        c, h = torch.empty_like(before), torch.empty_like(before)
        lstm_cell(*_rows(c, gates, before, c, h))
        ctx.save_for_backward(gates, before, c)
        return h, c

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_h: Tensor, grad_c: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gates, before, c = ctx.saved_tensors
        grad_h, grad_c, grads = grad_h.contiguous(), grad_c.contiguous(), (torch.empty_like(gates), torch.empty_like(before))
        lstm_cell_gradient(*_rows(c, grad_h, grad_c, gates, before, c, *grads))
        return grads


# ── multiplicative unit ──────────────────────────────────────────────────────────────────────────────────────────────


def _multiplicative(a: Lanes, b: Lanes, c: Lanes, u: Lanes, h: Lanes) -> list[Lanes]:
    return [sigmoid(a) * tanh(sigmoid(b) * h + sigmoid(c) * tanh(u))]


def _multiplicative_gradient(grad: Lanes, h: Lanes, a: Lanes, b: Lanes, c: Lanes, u: Lanes) -> list[Lanes]:
    g1, g2, g3, content = sigmoid(a), sigmoid(b), sigmoid(c), tanh(u)
    shown = tanh(g2 * h + g3 * content)
    inner = grad * g1 * (1.0 - shown * shown)
    kept, entered = inner * g2, inner * g3
    return [
        grad * shown * g1 * (1.0 - g1),
        kept * h * (1.0 - g2),
        entered * content * (1.0 - g3),
        entered * (1.0 - content * content),
        kept,
    ]


_multiplicative_row = rowwise([1], [4, 1], _multiplicative)
_multiplicative_gradient_row = rowwise([4, 1], [1, 1, 4], _multiplicative_gradient)


@compiled
def multiplicative(count, n, gates, h, y):
    """gates (P, 4n) as [g₁ g₂ g₃ u], h and y (P, n)."""
    for i in range(count):
        _multiplicative_row(n, (y + 4 * n * i, 0, gates + 16 * n * i, n, h + 4 * n * i, 0))


@compiled
def multiplicative_gradient(count, n, grad, gates, h, grad_gates, grad_h):
    """grad (P, n) → grad_gates (P, 4n) and grad_h (P, n)."""
    for i in range(count):
        here, wide = 4 * n * i, 16 * n * i
        to = (grad_gates + wide, n, grad_h + here, 0)
        _multiplicative_gradient_row(n, (*to, grad + here, 0, h + here, 0, gates + wide, n))


class Multiplicative(Function):
    """gates (…, 4n), h (…, n) → (…, n); backward computes the functions again, which is cheaper than keeping them."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, h: Tensor) -> Tensor:
        gates, h = gates.contiguous(), h.contiguous()
        ctx.save_for_backward(gates, h)
        y = torch.empty_like(h)
        multiplicative(*_rows(y, gates, h, y))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gates, h = ctx.saved_tensors
        grad, grads = grad.contiguous(), (torch.empty_like(gates), torch.empty_like(h))
        multiplicative_gradient(*_rows(h, grad, gates, h, *grads))
        return grads


# ── log softmax ──────────────────────────────────────────────────────────────────────────────────────────────────────

_exp_row = rowwise([1], [1], lambda x: [x.exp()])


@compiled(any_order=True)
def _largest(row):
    largest = row[0]
    for value in row:
        largest = max(largest, value)
    return largest


@compiled(any_order=True)
def _sum(row):
    total = np.float32(0)
    for i in range(len(row)):                                             # by index, else LLVM does not use vectors
        total += row[i]
    return total


@compiled
def _exp_below(row, top, out):
    """exp(row − top), both (n,)."""
    for i in range(len(row)):
        out[i] = row[i] - top
    _exp_row(len(row), (out.ctypes.data, 0, out.ctypes.data, 0))


@compiled
def log_sum(row, scratch):
    """log Σ exp of a row (n,), in two parts, the largest value and the rest; scratch (n,)."""
    top = _largest(row)
    _exp_below(row, top, scratch)
    return top, np.log(_sum(scratch))


@compiled(makes_arrays=True)
def log_softmax_at(logits, level, out, total):
    """logits (P, L), level (P,) → out (P,), and total (P,) = log Σ exp."""
    weights = np.empty(logits.shape[1], np.float32)
    for i in range(len(logits)):
        top, rest = log_sum(logits[i], weights)
        total[i] = top + rest
        out[i] = (logits[i, level[i]] - top) - rest


@compiled
def log_softmax_gradient(grad, logits, level, total, grad_logits):
    """grad (P,) → grad_logits (P, L)."""
    for i in range(len(logits)):
        row = grad_logits[i]
        _exp_below(logits[i], total[i], row)
        for j in range(len(row)):
            row[j] *= -grad[i]
        row[level[i]] += grad[i]


class LogSoftmaxAt(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, level: Tensor) -> Tensor:
        levels = logits.shape[-1]
        if level.numel() and (int(level.min()) < 0 or int(level.max()) >= levels):
            raise ValueError(f"values: levels must lie in 0 … {levels - 1}, got {int(level.min())} … {int(level.max())}")
        flat = logits.detach().reshape(-1, levels)
        level = level.reshape(-1)
        out, total = flat.new_empty(2, len(flat))
        log_softmax_at(array(flat), level.numpy(), out.numpy(), total.numpy())
        ctx.save_for_backward(flat, level, total)
        ctx.shape = logits.shape
        return out.view(logits.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        flat, level, total = ctx.saved_tensors
        grad_logits = torch.empty_like(flat)
        log_softmax_gradient(array(grad.reshape(-1)), array(flat), level.numpy(), total.numpy(), grad_logits.numpy())
        return grad_logits.view(ctx.shape), None
