"""Recurrences that run a map line by line, all places of a line at once: a row of a Row LSTM, a diagonal of a Diagonal BiLSTM, a value.

    gates (S, N, B, 4n) ──▶  line s:  gates[s] + Σ_k h[s−1, places + offset k] · W_k  ──▶ cell(c[s−1]) ──▶ c[s], h[s]

S lines of N places, B images, n units: what neighbouring places read lies in one slice. Outside the map, and at places that have not begun
(``spans``), h and c are the learned initial state. A cell is written once, for torch tensors and for the vectors of compiled loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..lanes import Lanes, compiled, rowwise
from . import native_for

Numbers = TypeVar("Numbers", Tensor, Lanes)
Spans = Sequence[tuple[int, int]]

# ── maps as lines ────────────────────────────────────────────────────────────────────────────────────────────────────


def skew(x: Tensor) -> Tensor:
    """x (B, H, W, C) → (B, H, W + H − 1, C), row i moved i columns to the right: a column is now a diagonal of x."""
    height, width = x.shape[1:3]
    return F.pad(x, (0, 0, 0, height)).flatten(1, 2)[:, : height * (width + height - 1)].unflatten(1, (height, -1))


def unskew(x: Tensor) -> Tensor:
    """The inverse: (B, H, W + H − 1, C) → (B, H, W, C)."""
    height, columns = x.shape[1:3]
    return F.pad(x.flatten(1, 2), (0, 0, 0, height)).unflatten(1, (height, -1))[:, :, : columns - height + 1]


def diagonals(height: int, width: int) -> Spans:
    """Rows that have a pixel on each column of a skewed map."""
    return [(max(0, s - width + 1), min(height, s + 1)) for s in range(width + height - 1)]


# ── the cell ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def sigmoid(x: Numbers) -> Numbers:
    return 1.0 / ((x * -1.0).exp() + 1.0)


def tanh(x: Numbers) -> Numbers:
    return sigmoid(x * 2.0) * 2.0 - 1.0


def lstm(o: Numbers, f: Numbers, i: Numbers, g: Numbers, c: Numbers) -> list[Numbers]:
    """→ cell σ(f) c + σ(i) tanh(g), and h = σ(o) tanh(cell)."""
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return [c, sigmoid(o) * tanh(c)]


def lstm_gradient(
    grad_h: Numbers, grad_c: Numbers, o: Numbers, f: Numbers, i: Numbers, g: Numbers, before: Numbers, c: Numbers
) -> list[Numbers]:
    """→ gradients of o, f, i, g and of the cell before, from those of h and of the cell after (without what h gives it)."""
    shown, kept, entered, content, seen = sigmoid(o), sigmoid(f), sigmoid(i), tanh(g), tanh(c)
    grad_c = grad_c + grad_h * shown * (1.0 - seen * seen)
    return [
        grad_h * seen * shown * (1.0 - shown),
        grad_c * before * kept * (1.0 - kept),
        grad_c * content * entered * (1.0 - entered),
        grad_c * entered * (1.0 - content * content),
        grad_c * kept,
    ]


_lstm_row = rowwise([1, 1], [4, 1], lstm)
_lstm_gradient_row = rowwise([4, 1], [1, 1, 4, 1, 1], lstm_gradient)


@compiled
def _lstm_rows(gates, before, c, h):
    """gates (R, 4n), before, c, h (R, n)."""
    rows, n = c.shape
    g, b, to_c, to_h = gates.ctypes.data, before.ctypes.data, c.ctypes.data, h.ctypes.data
    for row in range(rows):
        at = 4 * n * row
        _lstm_row(n, (to_c + at, 0, to_h + at, 0, g + 4 * at, n, b + at, 0))


@compiled
def _lstm_gradient_rows(grad_h, grad_c, gates, before, c, grad_gates):
    """grad_h, grad_c, before, c (R, n), gates, grad_gates (R, 4n); grad_c becomes the gradient of the cell before."""
    rows, n = c.shape
    g, b, after, of_h, of_c, out = (
        gates.ctypes.data, before.ctypes.data, c.ctypes.data, grad_h.ctypes.data, grad_c.ctypes.data, grad_gates.ctypes.data
    )
    for row in range(rows):
        at = 4 * n * row
        _lstm_gradient_row(n, (out + 4 * at, n, of_c + at, 0, of_h + at, 0, of_c + at, 0, g + 4 * at, n, b + at, 0, after + at, 0))


def _cell(gates: Tensor, before: Tensor, c: Tensor, h: Tensor, groups: int) -> None:
    """A line's cells: gates (…, 4n) as [o f i g] of each colour group, before (…, n) → c and h (…, n), written."""
    shape = (-1, c.shape[-1] // groups)
    if native_for(gates) is not None:
        before, c, h = (x.view(shape) for x in (before, c, h))
        _lstm_rows(gates.view(-1, 4 * shape[1]).numpy(), before.numpy(), c.numpy(), h.numpy())
    else:
        o, f, i, g = gates.view(-1, 4, shape[1]).unbind(1)
        for out, new in zip((c, h), lstm(o, f, i, g, before.view(shape)), strict=True):
            out.view(shape).copy_(new)


def _cell_gradient(grad_h: Tensor, grad_c: Tensor, gates: Tensor, before: Tensor, c: Tensor, grad_gates: Tensor, groups: int) -> None:
    """grad_gates (…, 4n), written; grad_c (…, n) becomes the gradient of ``before``."""
    shape = (-1, c.shape[-1] // groups)
    wide, narrow = [x.view(-1, 4 * shape[1]) for x in (gates, grad_gates)], [x.view(shape) for x in (grad_h, grad_c, before, c)]
    if native_for(gates) is not None:
        arrays = [x.numpy() for x in (*narrow[:2], wide[0], *narrow[2:], wide[1])]
        _lstm_gradient_rows(*arrays)
    else:
        *new, grad_before = lstm_gradient(*narrow[:2], *wide[0].unflatten(1, (4, -1)).unbind(1), *narrow[2:])
        wide[1].copy_(torch.cat(new, 1))
        narrow[1].copy_(grad_before)


# ── the scan ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Lines:
    """Which places of the line before a place reads, and which places each line has."""

    offsets: tuple[int, ...]
    spans: Spans
    groups: int = 1

    @property
    def left(self) -> int:
        """Places beside a line that its neighbours reach."""
        return max(0, -min(self.offsets))

    @property
    def right(self) -> int:
        return max(0, max(self.offsets))


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, lines: Lines, gates: Tensor, weights: Tensor, first_h: Tensor, first_c: Tensor) -> Tensor:
        count, places, batch, units = *gates.shape[:3], len(first_h)
        h = first_h.expand(count + 1, lines.left + places + lines.right, batch, units).contiguous()
        c = first_c.expand(count + 1, places, batch, units).contiguous()
        sums = torch.empty_like(gates)
        for s, (first, last) in enumerate(lines.spans):
            out, base = sums[s, first:last].flatten(0, 1), gates[s, first:last].flatten(0, 1)
            for offset, weight in zip(lines.offsets, weights, strict=True):
                seen = h[s, lines.left + first + offset : lines.left + last + offset].flatten(0, 1)
                torch.addmm(base, seen, weight, out=out)
                base = out
            at = slice(lines.left + first, lines.left + last)
            _cell(sums[s, first:last], c[s, first:last], c[s + 1, first:last], h[s + 1, at], lines.groups)
        ctx.save_for_backward(sums, h, c, weights)
        ctx.lines = lines
        return h[1:, lines.left : lines.left + places].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        sums, h, c, weights = ctx.saved_tensors
        lines: Lines = ctx.lines
        count, places, left = len(sums), sums.shape[1], lines.left
        grad_gates, grad_c = torch.zeros_like(sums), torch.zeros_like(c[0])
        grad_h, first_c = torch.zeros_like(h[0]), torch.zeros_like(c[0])
        transposed = [weight.t() for weight in weights]
        for s in range(count - 1, -1, -1):
            first, last = lines.spans[s]
            of_line = grad_h[left + first : left + last].add_(grad[s, first:last])
            out = grad_gates[s, first:last]
            _cell_gradient(of_line, grad_c[first:last], sums[s, first:last], c[s, first:last], c[s + 1, first:last], out, lines.groups)
            began = lines.spans[s - 1] if s else (0, 0)
            for new in (slice(first, max(first, min(last, began[0]))), slice(max(first, began[1]), last)):
                first_c[new] += grad_c[new]
                grad_c[new] = 0
            grad_h.zero_()
            for offset, weight in zip(lines.offsets, transposed, strict=True):
                grad_h[left + first + offset : left + last + offset].flatten(0, 1).addmm_(out.flatten(0, 1), weight)
        # What was read of the line before: its h, or the initial state where it had none.
        begun = torch.zeros(count, places + left + lines.right, 1, dtype=sums.dtype, device=sums.device)
        for s, (first, last) in enumerate(lines.spans[:-1]):
            begun[s + 1, left + first : left + last] = 1
        of_images = grad_gates.sum(2)
        grad_weights, grad_first = torch.empty_like(weights), weights.new_zeros(weights.shape[1])
        for k, offset in enumerate(lines.offsets):
            reads = slice(left + offset, left + offset + places)
            grad_weights[k] = h[:-1, reads].flatten(0, 2).t() @ grad_gates.flatten(0, 2)
            grad_first += ((1 - begun[:, reads]) * of_images).sum((0, 1)) @ transposed[k]
        return None, grad_gates, grad_weights, grad_first, first_c.sum((0, 1))


class Scan(nn.Module):
    """State-to-state weights of an LSTM along lines, one (n, 4n) for each of ``offsets``, and its initial state.

    groups: the gates lie as [o f i g] of each colour group, one after another.
    """

    def __init__(self, units: int, offsets: Sequence[int] = (0,), groups: int = 1) -> None:
        super().__init__()
        self.offsets, self.groups = tuple(offsets), groups
        bound = (len(self.offsets) * units) ** -0.5
        self.weights = nn.Parameter(torch.empty(len(self.offsets), units, 4 * units).uniform_(-bound, bound))
        self.first_h = nn.Parameter(torch.zeros(units))
        self.first_c = nn.Parameter(torch.zeros(units))

    def forward(self, gates: Tensor, spans: Spans | None = None) -> Tensor:
        """gates (S, N, B, 4n), what the input gives → h (S, N, B, n); spans: the places of each line, all of them if None."""
        spans = [(0, gates.shape[1])] * len(gates) if spans is None else spans
        lines = Lines(self.offsets, spans, self.groups)
        return _Scan.apply(lines, gates.contiguous(), self.weights, self.first_h, self.first_c)  # pyright: ignore[reportReturnType]


class RowScan(Scan):
    """Rows of maps (B, H, W, 4n) → (B, H, W, n); a place sees the row above at ``offsets``."""

    def forward(self, gates: Tensor, spans: Spans | None = None) -> Tensor:
        return super().forward(gates.permute(1, 2, 0, 3)).permute(2, 0, 1, 3)


class DiagonalScan(Scan):
    """Diagonals of maps (B, H, W, 4n) → (B, H, W, n): W + H − 1 lines; a pixel sees its left and its upper neighbour."""

    def __init__(self, units: int, groups: int = 1) -> None:
        super().__init__(units, (0, -1), groups)                          # in a skewed map: the column before, same row and row above

    def forward(self, gates: Tensor, spans: Spans | None = None) -> Tensor:
        lines = skew(gates).permute(2, 1, 0, 3)
        return unskew(super().forward(lines, diagonals(*gates.shape[1:3])).permute(2, 1, 0, 3))
