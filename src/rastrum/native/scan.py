"""The scan of ``recurrent.py`` as one compiled loop, for float32 on a CPU: image by image, forward and back, without Python's lock.

    arena of an image    gates (H, W, Gn) │ h (H + 1, left + W + right, n) │ c, the same       the border of h and c: the initial state
    line s, its places   gates += Σ_k h[place + tap k] · W_k  ──▶  cell(c[place + kept])  ──▶  c, h of the place

A map stays as it lies: a line is a walk over it with a constant step, a row or a diagonal, and what a place reads lies at constant
distances. So the products need only strides; they are those of the step programs.

A cell is two ``rowwise`` functions and a branch for each, by the number of gates G, in ``_cells`` and ``_cell_gradients`` (numba's cache on
disk rules out a factory of kernels: it would not know a function again that holds other compiled functions).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..layers.recurrent import diagonals, lstm, lstm_gradient, passed, spatial_lstm, spatial_lstm_gradient
from ..program.tables import panels
from .kernels import PANEL, linear
from .lanes import Lanes, compiled, rowwise

Place = tuple[int, int]        # rows down and columns to the right

# ── how lines go over a map ──────────────────────────────────────────────────────────────────────────────────────────


class Route(NamedTuple):
    """Distances count places: ``step`` on the map, the others on the padded map of h and c, whose rows are ``across`` long."""

    height: int
    width: int
    across: int
    left: int
    padded: int                # places of the padded map
    step: int                  # from a place of a line to the next
    padded_step: int
    lines: np.ndarray          # (S, 3) first place on the map, on the padded map, how many
    taps: np.ndarray           # (K,) from a place to those whose h it reads
    kept: np.ndarray           # (1 or 2,) … whose c
    border: np.ndarray         # (E,) the places that no line computes


@lru_cache(maxsize=64)
def route(height: int, width: int, taps: tuple[Place, ...], kept: tuple[Place, ...], turn: int = 0) -> Route:
    """turn: 0 lines are rows, from the top · 1 diagonals, from the top left · −1 from the top right."""
    left, right = (max(0, *(sign * column for _, column in taps)) for sign in (-1, 1))
    across = left + width + right
    if turn:
        begin = [(i, s - i if turn > 0 else width - 1 - s + i, end - i) for s, (i, end) in enumerate(diagonals(height, width))]
    else:
        begin = [(i, 0, width) for i in range(height)]
    down, beside = (1, -turn) if turn else (0, 1)
    computed = (np.arange(1, height + 1)[:, None] * across + left + np.arange(width)).reshape(-1)
    reads, keeps = (np.array([i * across + j for i, j in places], np.int64) for places in (taps, kept))
    return Route(
        height=height,
        width=width,
        across=across,
        left=left,
        padded=(height + 1) * across,
        step=down * width + beside,
        padded_step=down * across + beside,
        lines=np.array([(i * width + j, (i + 1) * across + left + j, count) for i, j, count in begin], np.int64).reshape(-1, 3),
        taps=reads,
        kept=keeps,
        border=np.setdiff1d(np.arange((height + 1) * across), computed),
    )


# ── cells ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _lstm(o: Lanes, f: Lanes, i: Lanes, g: Lanes, before: Lanes) -> list[Lanes]:
    """What the gates let through takes the place of the sums: the way back needs nothing else of them."""
    o, f, i, g = through = passed(o, f, i, g)
    return [*lstm(o, f, i, g, before), *through]


def _lstm_gradient(so_far: Lanes, *numbers: Lanes) -> list[Lanes]:
    *gates, before = lstm_gradient(*numbers)
    return [*gates, so_far + before]


def _spatial(o: Lanes, f: Lanes, u: Lanes, i: Lanes, g: Lanes, left: Lanes, up: Lanes) -> list[Lanes]:
    o, f, u, i, g = through = passed(o, f, u, i, g)
    return [*spatial_lstm(o, f, u, i, g, left, up), *through]


def _spatial_gradient(left_so_far: Lanes, up_so_far: Lanes, *numbers: Lanes) -> list[Lanes]:
    *gates, left, up = spatial_lstm_gradient(*numbers)
    return [*gates, left_so_far + left, up_so_far + up]


_lstm_row = rowwise([1, 1, 4], [4, 1], _lstm)
_lstm_gradient_row = rowwise([4, 1], [1, 1, 1, 4, 1, 1], _lstm_gradient)
_spatial_row = rowwise([1, 1, 5], [5, 1, 1], _spatial)
_spatial_gradient_row = rowwise([5, 1, 1], [1, 1, 1, 1, 5, 1, 1, 1], _spatial_gradient)


@compiled
def _cells(count, n, groups, kinds, gates, step, h, c, padded_step, kept):
    """Of a line; addresses of its first place and steps in bytes, n numbers of each kind in all colour groups together.

    kept: distances to the cells before, in places.
    """
    first, last = 4 * n * kept[0], 4 * n * kept[-1]
    n //= groups
    for i in range(count):
        for group in range(groups):
            at, on = gates + 4 * kinds * n * group + i * step, 4 * n * group + i * padded_step
            now = c + on
            if kinds == 4:
                _lstm_row(n, (now, 0, h + on, 0, at, n, at, n, now + first, 0))
            else:
                _spatial_row(n, (now, 0, h + on, 0, at, n, at, n, now + first, 0, now + last, 0))


@compiled
def _cell_gradients(count, n, groups, kinds, gates, of_gates, step, c, of_h, of_c, padded_step, kept):
    """of_…: gradients; those of the cells before are added to."""
    first, last = 4 * n * kept[0], 4 * n * kept[-1]
    n //= groups
    for i in range(count):
        for group in range(groups):
            at, on = 4 * kinds * n * group + i * step, 4 * n * group + i * padded_step
            out, through, of, now = of_gates + at, gates + at, of_c + on, c + on
            a, b = of + first, of + last
            if kinds == 4:
                _lstm_gradient_row(n, (out, n, a, 0, a, 0, of_h + on, 0, of, 0, through, n, now + first, 0, now, 0))
            else:
                left, up = now + first, now + last
                _spatial_gradient_row(
                    n, (out, n, a, 0, b, 0, a, 0, b, 0, of_h + on, 0, of, 0, through, n, left, 0, up, 0, now, 0)
                )


# ── the scan ─────────────────────────────────────────────────────────────────────────────────────────────────────────


_copy = rowwise([1], [1], lambda x: [x])                                  # an assignment to a slice takes numba seconds to compile


@compiled
def scan_forward(route, groups, gates, weights, first_h, first_c, arenas, out, scratch):
    """gates (B, H·W, Gn) → out (B, H·W, n) and arenas (B, …), or (1, …) where nothing comes back; weights: zeros, then panels."""
    n, wide = out.shape[2], gates.shape[2]
    whole, step, padded_step = (wide + PANEL - 1) // PANEL * PANEL, route.step * wide, route.padded_step * n
    h, c = gates.shape[1] * wide, gates.shape[1] * wide + route.padded * n
    for image in range(len(gates)):
        memory = arenas[image % len(arenas)]
        base = memory.ctypes.data
        _copy(h, (base, 0, gates[image].ctypes.data, 0))
        for place in route.border:
            _copy(n, (base + 4 * (h + place * n), 0, first_h.ctypes.data, 0))
            _copy(n, (base + 4 * (c + place * n), 0, first_c.ctypes.data, 0))
        for line in route.lines:
            to, at, count = line[0] * wide, line[1] * n, line[2]
            for k in range(len(route.taps)):
                source, weight = h + at + route.taps[k] * n, whole * (1 + k * n)
                linear(count, n, wide, memory, source, padded_step, weights, weight, 0, to, step, to, step, scratch)
            of_h, of_c = base + 4 * (h + at), base + 4 * (c + at)
            _cells(count, n, groups, wide // n, base + 4 * to, 4 * step, of_h, of_c, 4 * padded_step, route.kept)
        for row in range(route.height):
            inner = h + ((row + 1) * route.across + route.left) * n
            _copy(route.width * n, (out[image, row * route.width].ctypes.data, 0, base + 4 * inner, 0))


@compiled
def scan_gradient(route, groups, grad, weights, arenas, memory, grad_gates, scratch):
    """grad (B, H·W, n) → grad_gates (B, H·W, Gn); memory (…): an arena of zeros, whose border sums up the initial state's gradient."""
    n, wide = grad.shape[2], grad_gates.shape[2]
    whole, step, padded_step = (n + PANEL - 1) // PANEL * PANEL, route.step * wide, route.padded_step * n
    h, c = grad_gates.shape[1] * wide, grad_gates.shape[1] * wide + route.padded * n
    base, kinds = memory.ctypes.data, wide // n
    for image in range(len(grad)):
        arena = arenas[image].ctypes.data
        for row in range(route.height):
            inner, size = ((row + 1) * route.across + route.left) * n, route.width * n
            _copy(size, (base + 4 * (h + inner), 0, grad[image, row * route.width].ctypes.data, 0))
            for j in range(c + inner, c + inner + size):
                memory[j] = 0
        for line in route.lines[::-1]:
            to, at, count = line[0] * wide, line[1] * n, line[2]
            of_h, of_c, now = base + 4 * (h + at), base + 4 * (c + at), arena + 4 * (c + at)
            of_gates = base + 4 * to
            _cell_gradients(count, n, groups, kinds, arena + 4 * to, of_gates, 4 * step, now, of_h, of_c, 4 * padded_step, route.kept)
            for k in range(len(route.taps)):
                seen, weight = h + at + route.taps[k] * n, whole * (1 + k * wide)
                linear(count, wide, n, memory, to, step, weights, weight, 0, seen, padded_step, seen, padded_step, scratch)
        _copy(h, (grad_gates[image].ctypes.data, 0, base, 0))


def _packed(weights: Tensor) -> np.ndarray:
    """(K, inputs, outputs) → what ``linear`` reads: a bias of zeros, then the panels of each."""
    packed = panels(weights.detach().numpy())
    return np.concatenate([np.zeros(packed.size // weights[:, :, 0].numel(), np.float32), packed])


class NativeScan(torch.autograd.Function):
    """gates (B, H, W, Gn), weights (K, n, Gn), first_h and first_c (n,) → h (B, H, W, n). keep: whether a gradient will be asked for."""

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, weights: Tensor, first_h: Tensor, first_c: Tensor, route: Route, groups: int, keep: bool
    ) -> Tensor:
        gates, (batch, height, width, wide), n = gates.contiguous(), gates.shape, len(first_h)
        arenas = gates.new_empty(batch if keep else 1, height * width * wide + 2 * route.padded * n)
        out, scratch = gates.new_empty(batch, height, width, n), np.empty(max(64, PANEL * max(height, width)), np.float32)
        of_gates, h_0, c_0, of_h = (x.detach().numpy() for x in (gates.flatten(1, 2), first_h, first_c, out.flatten(1, 2)))
        scan_forward(route, groups, of_gates, _packed(weights), h_0, c_0, arenas.numpy(), of_h, scratch)
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
        of_h, of_c = memory[height * width * wide :].view(2, route.padded, n)[:, torch.from_numpy(route.border)].sum(1)
        maps = arenas[:, height * width * wide :].unflatten(1, (2, height + 1, route.across, n))[:, 0]
        inner = route.across + route.left
        # What a tap saw: the map of h, moved.
        seen = torch.cat([
            maps.as_strided((batch, height, width, n), maps.stride(), maps.storage_offset() + (inner + int(tap)) * n) for tap in route.taps
        ], -1)
        grad_weights = (seen.flatten(0, 2).t() @ grad_gates.flatten(0, 1)).view(weights.shape)
        return grad_gates.view(ctx.shape), grad_weights, of_h, of_c, None, None, None


def scan(
    gates: Tensor,
    weights: Tensor,
    first_h: Tensor,
    first_c: Tensor,
    groups: int,
    taps: tuple[Place, ...],
    kept: tuple[Place, ...],
    turn: int = 0,
) -> Tensor:
    """gates (B, H, W, Gn) → h (B, H, W, n); see ``route``."""
    walk = route(*gates.shape[1:3], taps, kept, turn)
    return NativeScan.apply(gates, weights, first_h, first_c, walk, groups, torch.is_grad_enabled())  # pyright: ignore[reportReturnType]
