"""The scan of ``layers/recurrent.py`` as one compiled loop, for float32 on a CPU: image by image, forward and backward, without the GIL.

    arena of an image      gates (H, W, Gn) │ h (H + 1, left + W + right, n) │ c, the same       the border of h and c: the initial state
    line s, its positions  gates += Σ_k h[position + tap k] · W_k  ──▶  cell(c[position + kept])  ──▶  c, h of the position

A map stays as it lies: a line is a walk over it with a constant step, a row or a diagonal, and what a position reads lies at constant
distances (``routes``). So the products need only strides; they are those of the step programs (``linear``).

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
from .cells import activate, lstm, lstm_gradient, spatial_lstm, spatial_lstm_gradient
from .compiler import compiled
from .lanes import Lanes, rowwise
from .linear import linear
from .panels import PANEL, panels
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


_copy = rowwise([1], [1], lambda x: [x])                                  # an assignment to a slice takes numba seconds to compile


@compiled(slow=True)
def scan_forward(route, groups, gates, weights, first_h, first_c, arenas, out, scratch):
    """gates (B, H·W, Gn) → out (B, H·W, n) and arenas (B, …), or (1, …) without a gradient; weights: a bias of zeros, then panels."""
    n, wide = out.shape[2], gates.shape[2]
    whole, step, padded_step = (wide + PANEL - 1) // PANEL * PANEL, route.step * wide, route.padded_step * n
    h, c = gates.shape[1] * wide, gates.shape[1] * wide + route.padded * n
    for image in range(len(gates)):
        memory = arenas[image % len(arenas)]
        base = memory.ctypes.data
        _copy(h, (base, 0, gates[image].ctypes.data, 0))
        for position in route.border:
            _copy(n, (base + 4 * (h + position * n), 0, first_h.ctypes.data, 0))
            _copy(n, (base + 4 * (c + position * n), 0, first_c.ctypes.data, 0))
        for line in route.lines:
            to, at, count = line[0] * wide, line[1] * n, line[2]
            for k in range(len(route.taps)):
                source, weight = h + at + route.taps[k] * n, whole * (1 + k * n)
                linear(count, n, wide, memory, source, padded_step, weights, weight, 0, to, step, to, step, scratch)
            ptr_h, ptr_c = base + 4 * (h + at), base + 4 * (c + at)
            _cells(count, n, groups, wide // n, base + 4 * to, 4 * step, ptr_h, ptr_c, 4 * padded_step, route.kept)
        for row in range(route.height):
            inner = h + ((row + 1) * route.across + route.left) * n
            _copy(route.width * n, (out[image, row * route.width].ctypes.data, 0, base + 4 * inner, 0))


@compiled(slow=True)
def scan_gradient(route, groups, grad, weights, arenas, memory, grad_gates, scratch):
    """grad (B, H·W, n) → grad_gates (B, H·W, Gn); memory: an arena of zeros, whose border accumulates the gradient of the initial state."""
    n, wide = grad.shape[2], grad_gates.shape[2]
    whole, step, padded_step = (n + PANEL - 1) // PANEL * PANEL, route.step * wide, route.padded_step * n
    h, c = grad_gates.shape[1] * wide, grad_gates.shape[1] * wide + route.padded * n
    base, parts = memory.ctypes.data, wide // n
    for image in range(len(grad)):
        arena = arenas[image].ctypes.data
        for row in range(route.height):
            inner, size = ((row + 1) * route.across + route.left) * n, route.width * n
            _copy(size, (base + 4 * (h + inner), 0, grad[image, row * route.width].ctypes.data, 0))
            for j in range(c + inner, c + inner + size):
                memory[j] = 0
        for line in route.lines[::-1]:
            to, at, count = line[0] * wide, line[1] * n, line[2]
            grad_h, grad_c, ptr_c = base + 4 * (h + at), base + 4 * (c + at), arena + 4 * (c + at)
            ptr_gates = arena + 4 * to
            _cell_gradients(count, n, groups, parts, ptr_gates, base + 4 * to, 4 * step, ptr_c, grad_h, grad_c, 4 * padded_step, route.kept)
            for k in range(len(route.taps)):
                seen, weight = h + at + route.taps[k] * n, whole * (1 + k * wide)
                linear(count, wide, n, memory, to, step, weights, weight, 0, seen, padded_step, seen, padded_step, scratch)
        _copy(h, (grad_gates[image].ctypes.data, 0, base, 0))


def _packed(weights: Tensor) -> np.ndarray:
    """Weights (K, inputs, outputs) → what ``linear`` reads: a bias of zeros, then the panels of each."""
    packed = panels(np.from_dlpack(weights.detach()))                     # .numpy() would bind the storage, which FSDP2 has to free
    return np.concatenate([np.zeros(packed.size // weights[:, :, 0].numel(), np.float32), packed])


class NativeScan(Function):
    """gates (B, H, W, Gn), weights (K, n, Gn), first_h and first_c (n,) → h (B, H, W, n); keep: whether a gradient will be needed."""

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, weights: Tensor, first_h: Tensor, first_c: Tensor, route: Route, groups: int, keep: bool
    ) -> Tensor:
        gates, (batch, height, width, wide), n = gates.contiguous(), gates.shape, len(first_h)
        arenas = gates.new_empty(batch if keep else 1, height * width * wide + 2 * route.padded * n)
        out, scratch = gates.new_empty(batch, height, width, n), np.empty(max(64, PANEL * max(height, width)), np.float32)
        gates_array, h_0, c_0, out_array = (x.detach().numpy() for x in (gates.flatten(1, 2), first_h, first_c, out.flatten(1, 2)))
        scan_forward(route, groups, gates_array, _packed(weights), h_0, c_0, arenas.numpy(), out_array, scratch)
        ctx.save_for_backward(arenas, weights)
        ctx.route, ctx.groups, ctx.shape = route, groups, gates.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        arenas, weights = ctx.saved_tensors
        route: Route = ctx.route
        (batch, height, width, wide), n = ctx.shape, weights.shape[1]
        grad_gates, memory = grad.new_empty(batch, height * width, wide), grad.new_zeros(arenas.shape[1])
        scratch = np.empty(max(64, PANEL * max(height, width)), np.float32)
        arrays = (x.numpy() for x in (arenas, memory, grad_gates))
        scan_gradient(route, ctx.groups, grad.flatten(1, 2).contiguous().numpy(), _packed(weights.mT), *arrays, scratch)
        grad_h, grad_c = memory[height * width * wide :].view(2, route.padded, n)[:, torch.from_numpy(route.border)].sum(1)
        maps = arenas[:, height * width * wide :].unflatten(1, (2, height + 1, route.across, n))[:, 0]
        inner = route.across + route.left
        # What a tap read: the map of h, shifted.
        seen = torch.cat([
            maps.as_strided((batch, height, width, n), maps.stride(), maps.storage_offset() + (inner + int(tap)) * n) for tap in route.taps
        ], -1)
        grad_weights = (seen.flatten(0, 2).t() @ grad_gates.flatten(0, 1)).view(weights.shape)
        return grad_gates.view(ctx.shape), grad_weights, grad_h, grad_c, None, None, None


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
