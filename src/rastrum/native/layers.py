"""Faster forms of the layers' functions for float32 maps on a CPU: loops that torch has no single pass for, compiled by numba.

    Gate            y = tanh(a) σ(b), one pass forward and one backward
    Multiplicative  y = σ(g₁) tanh(σ(g₂) h + σ(g₃) tanh(u)), the same
    LogSoftmaxAt    log softmax of each position's logits at its level, one pass forward and one backward
    ThreeColumns    a kernel of three columns by Toom–Cook: products at 6 points give 4 columns of outputs, instead of 4 · 3 products

Maps are contiguous, channels last. Addresses count bytes, steps between vectors floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..autocast import Function
from .cells import sigmoid, tanh
from .compiler import compiled
from .lanes import Lanes, combine, rowwise
from .points import INPUTS, KERNEL, OUTPUTS, POINTS, TILE, tiles

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
def gate(x, y):
    """x (P, 2n) as [a | b] → y (P, n)."""
    count, n = y.shape
    for i in range(count):
        _gate_row(n, (y.ctypes.data + 4 * n * i, 0, x.ctypes.data + 8 * n * i, n))


@compiled
def gate_gradient(grad, x, grad_x):
    """grad (P, n), x (P, 2n) → grad_x (P, 2n)."""
    count, n = grad.shape
    for i in range(count):
        _gate_gradient_row(n, (grad_x.ctypes.data + 8 * n * i, n, grad.ctypes.data + 4 * n * i, 0, x.ctypes.data + 8 * n * i, n))


class Gate(Function):
    """``gate`` with its gradient; backward computes both functions again, which is cheaper than keeping them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        y = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
        gate(x.detach().flatten(0, -2).numpy(), y.flatten(0, -2).numpy())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        gate_gradient(grad.contiguous().flatten(0, -2).numpy(), x.flatten(0, -2).numpy(), grad_x.flatten(0, -2).numpy())
        return grad_x


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
def multiplicative(gates, h, y):
    """gates (P, 4n) as [g₁ g₂ g₃ u], h and y (P, n)."""
    count, n = y.shape
    for i in range(count):
        _multiplicative_row(n, (y.ctypes.data + 4 * n * i, 0, gates.ctypes.data + 16 * n * i, n, h.ctypes.data + 4 * n * i, 0))


@compiled
def multiplicative_gradient(grad, gates, h, grad_gates, grad_h):
    """grad (P, n) → grad_gates (P, 4n) and grad_h (P, n)."""
    count, n = grad.shape
    for i in range(count):
        here, wide = 4 * n * i, 16 * n * i
        to = (grad_gates.ctypes.data + wide, n, grad_h.ctypes.data + here, 0)
        _multiplicative_gradient_row(n, (*to, grad.ctypes.data + here, 0, h.ctypes.data + here, 0, gates.ctypes.data + wide, n))


class Multiplicative(Function):
    """gates (…, 4n), h (…, n) → (…, n); backward computes the functions again, which is cheaper than keeping them."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, h: Tensor) -> Tensor:
        gates, h = gates.contiguous(), h.contiguous()
        ctx.save_for_backward(gates, h)
        y = torch.empty_like(h)
        multiplicative(gates.detach().flatten(0, -2).numpy(), h.detach().flatten(0, -2).numpy(), y.flatten(0, -2).numpy())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gates, h = ctx.saved_tensors
        grads = torch.empty_like(gates), torch.empty_like(h)
        multiplicative_gradient(*(x.flatten(0, -2).numpy() for x in (grad.contiguous(), gates, h, *grads)))
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
def log_softmax_at(logits, level, out, total):
    """logits (P, L), level (P,) → out (P,), and total (P,) = log Σ exp."""
    weights = np.empty(logits.shape[1], np.float32)
    for i in range(len(logits)):
        top = _largest(logits[i])
        _exp_below(logits[i], top, weights)
        rest = np.log(_sum(weights))
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
        log_softmax_at(flat.numpy(), level.numpy(), out.numpy(), total.numpy())
        ctx.save_for_backward(flat, level, total)
        ctx.shape = logits.shape
        return out.view(logits.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        flat, level, total = ctx.saved_tensors
        grad_logits = torch.empty_like(flat)
        log_softmax_gradient(grad.reshape(-1).numpy(), flat.numpy(), level.numpy(), total.numpy(), grad_logits.numpy())
        return grad_logits.view(ctx.shape), None


# ── Toom–Cook ────────────────────────────────────────────────────────────────────────────────────────────────────────

_copy = rowwise([1], [1], lambda x: [x])
_inputs_row = rowwise([POINTS], [POINTS], lambda *d: combine(INPUTS, d))
_inputs_gradient_row = rowwise([POINTS], [POINTS, POINTS], lambda *d: combine(INPUTS.T, d[POINTS:], d[:POINTS]))
_outputs_row = rowwise([TILE], [POINTS, 1], lambda *m: combine(OUTPUTS, m[:-1], [m[-1]] * TILE))
_outputs_gradient_row = rowwise([POINTS], [TILE], lambda *d: combine(OUTPUTS.T, d))


@compiled
def inputs_to_points(x, points, first, highest):
    """x (H, W, I) → points (6, H·⌈W / 4⌉, slots·I): slot s is the row ``highest`` − s up, tile t its columns 4t + first …"""
    height, width, n = x.shape
    across = -(-width // TILE)
    slots, step = points.shape[2] // n, points.shape[1] * points.shape[2]
    row = np.zeros((TILE * across + 2, n), np.float32)
    begin = max(0, first)
    end = max(begin, min(width, first + len(row)))
    for line in range(height):
        for slot in range(slots):
            source = line - highest + slot
            if source < 0:
                points[:, line * across : (line + 1) * across, slot * n : (slot + 1) * n] = 0
                continue
            start = x.ctypes.data + 4 * (source * width + begin) * n
            _copy((end - begin) * n, (row.ctypes.data + 4 * (begin - first) * n, 0, start, 0))
            for tile in range(across):
                to = points.ctypes.data + 4 * ((line * across + tile) * slots + slot) * n
                _inputs_row(n, (to, step, row.ctypes.data + 4 * tile * TILE * n, n))


@compiled
def inputs_gradient(points, grad_x, first, highest):
    """The transpose of ``inputs_to_points``."""
    height, width, n = grad_x.shape
    across = -(-width // TILE)
    slots, step = points.shape[2] // n, points.shape[1] * points.shape[2]
    row = np.zeros((TILE * across + 2, n), np.float32)
    begin = max(0, first)
    end = max(begin, min(width, first + len(row)))
    if end - begin < width:
        grad_x[:] = 0
    for source in range(height):
        row[:] = 0
        for slot in range(slots):
            line = source + highest - slot
            if line < height:
                for tile in range(across):
                    at, to = ((line * across + tile) * slots + slot) * n, row.ctypes.data + 4 * tile * TILE * n
                    _inputs_gradient_row(n, (to, n, to, n, points.ctypes.data + 4 * at, step))
        start = grad_x.ctypes.data + 4 * (source * width + begin) * n
        _copy((end - begin) * n, (start, 0, row.ctypes.data + 4 * (begin - first) * n, 0))


@compiled
def points_to_outputs(points, base, out):
    """points (6, H·⌈W / 4⌉, O), base (O,) → out (H, W, O) = base + outputs."""
    height, width, n = out.shape
    across = -(-width // TILE)
    step = points.shape[1] * n
    last = np.zeros((TILE, n), np.float32)
    for line in range(height):
        for tile in range(across):
            source = points.ctypes.data + 4 * (line * across + tile) * n
            to = out.ctypes.data + 4 * (line * width + tile * TILE) * n
            rest = width - tile * TILE
            _outputs_row(n, (to if rest >= TILE else last.ctypes.data, n, source, step, base.ctypes.data, 0))
            if rest < TILE:
                _copy(rest * n, (to, 0, last.ctypes.data, 0))


@compiled
def outputs_gradient(grad, points):
    """The transpose of ``points_to_outputs``."""
    height, width, n = grad.shape
    across = -(-width // TILE)
    step = points.shape[1] * n
    last = np.zeros((TILE, n), np.float32)
    for line in range(height):
        for tile in range(across):
            source = grad.ctypes.data + 4 * (line * width + tile * TILE) * n
            rest = width - tile * TILE
            if rest < TILE:
                _copy(rest * n, (last.ctypes.data, 0, source, 0))
                source = last.ctypes.data
            _outputs_gradient_row(n, (points.ctypes.data + 4 * (line * across + tile) * n, step, source, n))


class ThreeColumns(Function):
    """Sum of three neighbouring taps over maps x (B, H, W, I) → (B, H, W, O); image by image, so that it stays in cache.

    base: (1 or B, O), added at every position · first: column of the first tap, from the output's · highest: rows from the output's up to
    the taps' highest · weights: three of (rows · I, O), highest row first
    Backward computes the points again, which is cheaper than keeping them. Rounding errors come from neighbouring columns that an output
    does not see, but from no other rows.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: Tensor, first: int, highest: int, *weights: Tensor) -> Tensor:
        x, (batch, height, width, _), (seen, outputs) = x.contiguous(), x.shape, weights[0].shape
        kernel = x.new_tensor(KERNEL)
        multipliers = (kernel @ torch.stack(weights).flatten(1)).view(POINTS, seen, outputs)
        points = x.new_empty(POINTS, height * tiles(width), seen)
        products = x.new_empty(POINTS, height * tiles(width), outputs)
        out = x.new_empty(batch, height, width, outputs)
        starts = base.expand(batch, outputs).contiguous()
        for i in range(batch):
            inputs_to_points(x[i].detach().numpy(), points.numpy(), first, highest)
            points_to_outputs(torch.bmm(points, multipliers, out=products).numpy(), starts[i].detach().numpy(), out[i].numpy())
        ctx.save_for_backward(x, multipliers, kernel)
        ctx.first, ctx.highest, ctx.base_length = first, highest, len(base)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, multipliers, kernel = ctx.saved_tensors
        grad, first, highest = grad.contiguous(), ctx.first, ctx.highest
        rows = x.shape[1] * tiles(x.shape[2])
        points, grad_products = (grad.new_empty(POINTS, rows, n) for n in multipliers.shape[1:])
        grad_multipliers = torch.zeros_like(multipliers)
        grad_x = torch.empty_like(x)
        for i in range(len(grad)):
            outputs_gradient(grad[i].numpy(), grad_products.numpy())
            inputs_to_points(x[i].numpy(), points.numpy(), first, highest)
            grad_multipliers.baddbmm_(points.transpose(1, 2), grad_products)
            if ctx.needs_input_grad[0]:
                torch.bmm(grad_products, multipliers.transpose(1, 2), out=points)
                inputs_gradient(points.numpy(), grad_x[i].numpy(), first, highest)
        grad_base = None
        if ctx.needs_input_grad[1]:
            grad_base = grad.sum((0, 1, 2))[None] if ctx.base_length == 1 else grad.sum((1, 2))
        grad_weights = (kernel.t() @ grad_multipliers.flatten(1)).view(-1, *multipliers.shape[1:])
        return grad_x if ctx.needs_input_grad[0] else None, grad_base, None, None, *grad_weights
