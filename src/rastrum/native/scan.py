"""The scan of ``layers/recurrent.py`` as one compiled loop, for float32 on a CPU: image by image, forward and backward, without the GIL.

    states of an image     h (H + 1, left + W + right, n) │ c, the same                         their border: the initial state
    line s, its positions  gates += Σ_k h[position + tap k] · W_k  ──▶  cell(c[position + kept])  ──▶  c, h of the position

A map stays as it lies: a line is a walk over it with a constant step, a row or a diagonal, and what a position reads lies at constant,
equal distances (``routes``). So a line is one product of windows (``products``), to which the input's share of the gates is added.

A cell is two ``rowwise`` functions and a branch for each, by the number of gates G, in ``_cells`` and ``_cell_gradients`` (numba's cache on
disk rules out a factory of kernels: it would not recognise a function that holds other compiled functions).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..autocast import Function
from .arrays import array
from .cells import activate, lstm, lstm_gradient, spatial_lstm, spatial_lstm_gradient
from .compiler import compiled
from .lanes import Lanes, rowwise
from .panels import PANEL, aligned
from .products import AT_ONCE, copy_row, pack, product
from .routes import Offset, Route, route

# ── cells ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _lstm(o: Lanes, f: Lanes, i: Lanes, g: Lanes, before: Lanes) -> list[Lanes]:
    """The activated gates overwrite their pre-activations: backward needs only them."""
    o, f, i, g = gates = activate(o, f, i, g)
    return [*lstm(o, f, i, g, before), *gates]


def _lstm_gradient(grad_before: Lanes, *values: Lanes) -> list[Lanes]:
    *gates, before = lstm_gradient(*values)
    return [*gates, grad_before + before]


def _spatial(o: Lanes, f: Lanes, u: Lanes, i: Lanes, g: Lanes, left: Lanes, up: Lanes) -> list[Lanes]:
    o, f, u, i, g = gates = activate(o, f, u, i, g)
    return [*spatial_lstm(o, f, u, i, g, left, up), *gates]


def _spatial_gradient(grad_left: Lanes, grad_up: Lanes, *values: Lanes) -> list[Lanes]:
    *gates, left, up = spatial_lstm_gradient(*values)
    return [*gates, grad_left + left, grad_up + up]


_lstm_row = rowwise([1, 1, 4], [4, 1], _lstm)
_lstm_gradient_row = rowwise([4, 1], [1, 1, 1, 4, 1, 1], _lstm_gradient)
_spatial_row = rowwise([1, 1, 5], [5, 1, 1], _spatial)
_spatial_gradient_row = rowwise([5, 1, 1], [1, 1, 1, 1, 5, 1, 1, 1], _spatial_gradient)


@compiled
def _cells(count, n, groups, parts, ptr_gates, step, ptr_h, ptr_c, padded_step, kept):
    """The cells of a line: addresses of its first position and steps in bytes; n units of all colour groups together, G = parts gates each.

    kept: distances to the cells that are read, in positions.
    """
    first, last = 4 * n * kept[0], 4 * n * kept[-1]
    n //= groups
    for i in range(count):
        for group in range(groups):
            gates, offset = ptr_gates + 4 * parts * n * group + i * step, 4 * n * group + i * padded_step
            c, h = ptr_c + offset, ptr_h + offset
            if parts == 4:
                _lstm_row(n, (c, 0, h, 0, gates, n, gates, n, c + first, 0))
            else:
                _spatial_row(n, (c, 0, h, 0, gates, n, gates, n, c + first, 0, c + last, 0))


@compiled
def _cell_gradients(count, n, groups, parts, ptr_gates, ptr_grad_gates, step, ptr_c, ptr_grad_h, ptr_grad_c, padded_step, kept):
    """Backward of ``_cells``; the gradients of the cells before are added to."""
    first, last = 4 * n * kept[0], 4 * n * kept[-1]
    n //= groups
    for i in range(count):
        for group in range(groups):
            at, offset = 4 * parts * n * group + i * step, 4 * n * group + i * padded_step
            grad_gates, gates = ptr_grad_gates + at, ptr_gates + at
            grad_h, grad_c, c = ptr_grad_h + offset, ptr_grad_c + offset, ptr_c + offset
            a, b = grad_c + first, grad_c + last
            if parts == 4:
                _lstm_gradient_row(n, (grad_gates, n, a, 0, a, 0, grad_h, 0, grad_c, 0, gates, n, c + first, 0, c, 0))
            else:
                left, up = c + first, c + last
                _spatial_gradient_row(
                    n, (grad_gates, n, a, 0, b, 0, a, 0, b, 0, grad_h, 0, grad_c, 0, gates, n, left, 0, up, 0, c, 0)
                )


# ── the scan ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@compiled(slow=True, makes_arrays=True)
def scan_forward(route, groups, gates, weights, first_h, first_c, activated, states, out):
    """gates (B, H·W, Gn) → out (B, H·W, n), activated gates (B, H·W, Gn) and states (B, 2, P, n), of one image only without a gradient.

    weights: the taps' below each other, packed
    """
    n, wide = out.shape[2], gates.shape[2]
    unit, step, padded_step = 4 * n, 4 * wide * route.step, 4 * n * route.padded_step
    W = weights.ctypes.data
    for image in range(len(gates)):
        kept, given = image % len(states), gates[image].ctypes.data
        base, h, c = activated[kept].ctypes.data, states[kept, 0].ctypes.data, states[kept, 1].ctypes.data
        for position in route.border:
            copy_row(n, (h + unit * position, 0, first_h.ctypes.data, 0))
            copy_row(n, (c + unit * position, 0, first_c.ctypes.data, 0))
        for line in route.lines:
            to, at, count = 4 * wide * line[0], unit * line[1], line[2]
            seen, taps = h + at + unit * route.taps[0], len(route.taps)
            product(count, wide, seen, padded_step, unit * route.apart, 4, taps, n, W, 0, 0, given + to, step, base + to, step)
            _cells(count, n, groups, wide // n, base + to, step, h + at, c + at, padded_step, route.kept)
        for row in range(route.height):
            inner = h + unit * ((row + 1) * route.across + route.left)
            copy_row(route.width * n, (out[image, row * route.width].ctypes.data, 0, inner, 0))


@compiled(slow=True, makes_arrays=True)
def scan_gradient(route, groups, grad, weights, activated, states, grad_states, grad_gates, grad_weights):
    """grad (B, H·W, n) → grad_gates (B, H·W, Gn), and grad_weights (K, n, Gn) are added to.

    weights: of each tap, transposed and packed · grad_states (2, P, n): of an image, whose border adds up those of the initial state
    """
    n, wide = grad.shape[2], grad_gates.shape[2]
    unit, step, padded_step = 4 * n, 4 * wide * route.step, 4 * n * route.padded_step
    parts, rows_at_once, nothing = wide // n, max(1, AT_ONCE // route.width), np.zeros(n, np.float32)
    grad_h, grad_c = grad_states[0].ctypes.data, grad_states[1].ctypes.data
    for image in range(len(grad)):
        gates, to_gates = activated[image].ctypes.data, grad_gates[image].ctypes.data
        h, c = states[image, 0].ctypes.data, states[image, 1].ctypes.data
        for row in range(route.height):
            inner = (row + 1) * route.across + route.left
            copy_row(route.width * n, (grad_h + unit * inner, 0, grad[image, row * route.width].ctypes.data, 0))
            for position in range(inner, inner + route.width):
                copy_row(n, (grad_c + unit * position, 0, nothing.ctypes.data, 0))
        for line in route.lines[::-1]:
            to, at, count = 4 * wide * line[0], unit * line[1], line[2]
            _cell_gradients(count, n, groups, parts, gates + to, to_gates + to, step, c + at, grad_h + at, grad_c + at, padded_step,
                            route.kept)  # fmt: skip
            for k in range(len(route.taps)):
                seen, W = grad_h + at + unit * route.taps[k], weights[k].ctypes.data
                product(count, n, to_gates + to, step, 4, 0, wide, 1, W, 0, 0, seen, padded_step, seen, padded_step)
        for row in range(0, route.height, rows_at_once):
            rows, begin = min(rows_at_once, route.height - row), (row + 1) * route.across + route.left
            for k in range(len(route.taps)):
                A, B, C = h + unit * (begin + route.taps[k]), to_gates + 4 * wide * route.width * row, grad_weights[k].ctypes.data
                product(n, wide, A, 4, unit * route.across, unit, rows, route.width, B, 4 * wide * route.width, 4 * wide,
                        C, 4 * wide, C, 4 * wide)  # fmt: skip


def _packed(weights: Tensor) -> np.ndarray:
    """Matrices (K, inputs, outputs) → (K, …), each as ``product`` reads it."""
    many, inputs, outputs = weights.shape
    packed = np.empty((many, inputs * aligned(outputs)), np.float32)
    for matrix, to in zip(array(weights), packed, strict=True):
        pack(matrix, 0, inputs, to)
    return packed


class NativeScan(Function):
    """gates (B, H, W, Gn), weights (K, n, Gn), first_h and first_c (n,) → h (B, H, W, n); keep: whether a gradient will be needed."""

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, weights: Tensor, first_h: Tensor, first_c: Tensor, route: Route, groups: int, keep: bool
    ) -> Tensor:
        gates, (batch, height, width, wide), n = gates.contiguous(), gates.shape, len(first_h)
        kept = batch if keep else 1
        activated, states = gates.new_empty(kept, height * width, wide), gates.new_empty(kept, 2, route.padded, n)
        out = gates.new_empty(batch, height, width, n)
        first, to = (array(first_h), array(first_c)), (x.numpy() for x in (activated, states, out.flatten(1, 2)))
        scan_forward(route, groups, array(gates.flatten(1, 2)), _packed(weights.flatten(0, 1)[None]), *first, *to)
        ctx.save_for_backward(activated, states, weights)
        ctx.route, ctx.groups, ctx.shape = route, groups, gates.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        activated, states, weights = ctx.saved_tensors
        route: Route = ctx.route
        (batch, height, width, wide), n = ctx.shape, weights.shape[1]
        grad_gates = grad.new_empty(batch * height * width * wide + PANEL)[:-PANEL].view(ctx.shape)     # products read whole panels
        grad_weights, grad_states = torch.zeros_like(weights), grad.new_zeros(2, route.padded, n)
        arrays = (x.numpy() for x in (activated, states, grad_states, grad_gates.flatten(1, 2), grad_weights))
        scan_gradient(route, ctx.groups, array(grad.flatten(1, 2)), _packed(weights.mT), *arrays)
        grad_h, grad_c = grad_states[:, torch.from_numpy(route.border)].sum(1)
        return grad_gates, grad_weights, grad_h, grad_c, None, None, None


def scan(
    gates: Tensor,
    weights: Tensor,
    first_h: Tensor,
    first_c: Tensor,
    groups: int,
    taps: tuple[Offset, ...],
    kept: tuple[Offset, ...],
    turn: int = 0,
) -> Tensor:
    """gates (B, H, W, Gn), the input's share of the pre-activations → h (B, H, W, n).

    weights (K, n, Gn), one for each of ``taps``; first_h, first_c (n,): the initial state; taps, kept, turn: see ``routes.route``.
    """
    walk = route(*gates.shape[1:3], taps, kept, turn)
    return NativeScan.apply(gates, weights, first_h, first_c, walk, groups, torch.is_grad_enabled())  # pyright: ignore[reportReturnType]
