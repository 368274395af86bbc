"""Recurrences that run a map line by line, all places of a line at once: a row of a Row LSTM, a diagonal of a Diagonal BiLSTM, a value.

    gates (S, N, B, Gn) ──▶  line s:  gates[s] + Σ_k h[s−1, places + offset k] · W_k  ──▶ cell(c[s−1]) ──▶ c[s], h[s]

S lines of N places, B images, n units, G gates (4; 5 of a spatial LSTM): what neighbouring places read lies in one slice. Outside the map,
and at places that have not begun (``spans``), h and c are the learned initial state. A cell is written once, for torch tensors and for the
vectors of compiled loops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

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


# ── cells ─────────────────────────────────────────────────────────────────────────────────────────────────────────


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


def spatial_lstm(o: Numbers, f: Numbers, u: Numbers, i: Numbers, g: Numbers, left: Numbers, up: Numbers) -> list[Numbers]:
    """→ cell σ(f) left + σ(u) up + σ(i) tanh(g), and h = tanh(σ(o) cell) (Theis & Bethge 2015, section 2.1)."""
    c = sigmoid(f) * left + sigmoid(u) * up + sigmoid(i) * tanh(g)
    return [c, tanh(sigmoid(o) * c)]


def spatial_lstm_gradient(
    grad_h: Numbers, grad_c: Numbers, o: Numbers, f: Numbers, u: Numbers, i: Numbers, g: Numbers, left: Numbers, up: Numbers, c: Numbers
) -> list[Numbers]:
    """→ gradients of o, f, u, i, g and of the cells before, left and up."""
    shown, from_left, from_up, entered, content = sigmoid(o), sigmoid(f), sigmoid(u), sigmoid(i), tanh(g)
    h = tanh(shown * c)
    grad_shown = grad_h * (1.0 - h * h)
    grad_c = grad_c + grad_shown * shown
    return [
        grad_shown * c * shown * (1.0 - shown),
        grad_c * left * from_left * (1.0 - from_left),
        grad_c * up * from_up * (1.0 - from_up),
        grad_c * content * entered * (1.0 - entered),
        grad_c * entered * (1.0 - content * content),
        grad_c * from_left,
        grad_c * from_up,
    ]


_lstm_row = rowwise([1, 1], [4, 1], lstm)
_lstm_gradient_row = rowwise([4, 1], [1, 1, 4, 1, 1], lstm_gradient)
_spatial_row = rowwise([1, 1], [5, 1, 1], spatial_lstm)
_spatial_gradient_row = rowwise([5, 1, 1], [1, 1, 5, 1, 1, 1], spatial_lstm_gradient)


@compiled
def _lstm_rows(gates, before, c, h):
    """gates (R, 4n), before, c, h (R, n)."""
    rows, n = c.shape
    g, b, to_c, to_h = gates.ctypes.data, before.ctypes.data, c.ctypes.data, h.ctypes.data
    for row in range(rows):
        at = 4 * n * row
        _lstm_row(n, (to_c + at, 0, to_h + at, 0, g + 4 * at, n, b + at, 0))


@compiled
def _lstm_gradient_rows(grad_h, gates, before, c, grad_gates, grad_before):
    """grad_h, grad_before, before, c (R, n), gates, grad_gates (R, 4n); grad_before holds the gradient of c at first."""
    rows, n = c.shape
    g, b, after, of_h, of_c, out = (
        gates.ctypes.data, before.ctypes.data, c.ctypes.data, grad_h.ctypes.data, grad_before.ctypes.data, grad_gates.ctypes.data
    )
    for row in range(rows):
        at = 4 * n * row
        _lstm_gradient_row(n, (out + 4 * at, n, of_c + at, 0, of_h + at, 0, of_c + at, 0, g + 4 * at, n, b + at, 0, after + at, 0))


@compiled
def _spatial_rows(gates, left, up, c, h):
    """gates (R, 5n), left, up, c, h (R, n)."""
    rows, n = c.shape
    g, beside, above, to_c, to_h = gates.ctypes.data, left.ctypes.data, up.ctypes.data, c.ctypes.data, h.ctypes.data
    for row in range(rows):
        at = 4 * n * row
        _spatial_row(n, (to_c + at, 0, to_h + at, 0, g + 5 * at, n, beside + at, 0, above + at, 0))


@compiled
def _spatial_gradient_rows(grad_h, gates, left, up, c, grad_gates, grad_left, grad_up):
    """grad_left holds the gradient of c at first."""
    rows, n = c.shape
    g, beside, above, after, of_h = gates.ctypes.data, left.ctypes.data, up.ctypes.data, c.ctypes.data, grad_h.ctypes.data
    out, of_left, of_up = grad_gates.ctypes.data, grad_left.ctypes.data, grad_up.ctypes.data
    for row in range(rows):
        at = 4 * n * row
        written = (out + 5 * at, n, of_left + at, 0, of_up + at, 0)
        read = (of_h + at, 0, of_left + at, 0, g + 5 * at, n, beside + at, 0, above + at, 0, after + at, 0)
        _spatial_gradient_row(n, written + read)


class Cell(NamedTuple):
    """A recurrent cell: ``gates`` numbers a unit, and the places of the line before (offsets) whose cells it reads, its own first.

    run: gates …, cells before … → c, h · gradient: those of h and c, gates …, cells before …, c → those of gates …, of cells before ….
    """

    gates: int
    memory: tuple[int, ...]
    run: Callable[..., list[Tensor]]
    gradient: Callable[..., list[Tensor]]
    run_rows: Any
    gradient_rows: Any

    def forward(self, gates: Tensor, before: Sequence[Tensor], c: Tensor, h: Tensor, groups: int) -> None:
        """A line's cells: gates (…, Gn) as [o f i g] of each colour group, before (…, n) → c and h (…, n), written."""
        shape = (-1, c.shape[-1] // groups)
        narrow = [x.view(shape) for x in (*before, c, h)]
        if native_for(gates) is not None:
            self.run_rows(gates.view(-1, self.gates * shape[1]).numpy(), *(x.numpy() for x in narrow))
        else:
            new = self.run(*gates.view(-1, self.gates, shape[1]).unbind(1), *narrow[:-2])
            for out, value in zip(narrow[-2:], new, strict=True):
                out.copy_(value)

    def backward(
        self, grad_h: Tensor, gates: Tensor, before: Sequence[Tensor], c: Tensor, grad_gates: Tensor, grads: Sequence[Tensor], groups: int
    ) -> None:
        """grad_gates (…, Gn) and grads, of ``before``, (…, n) are written; the first of grads holds the gradient of c at first."""
        shape = (-1, c.shape[-1] // groups)
        wide = [x.view(-1, self.gates * shape[1]) for x in (gates, grad_gates)]
        of_h, after, *rest = (x.view(shape) for x in (grad_h, c, *before, *grads))
        befores, outs = rest[: len(before)], rest[len(before) :]
        if native_for(gates) is not None:
            self.gradient_rows(*(x.numpy() for x in (of_h, wide[0], *befores, after, wide[1], *outs)))
        else:
            new = self.gradient(of_h, outs[0], *wide[0].unflatten(1, (self.gates, -1)).unbind(1), *befores, after)
            wide[1].copy_(torch.cat(new[: self.gates], 1))
            for out, value in zip(outs, new[self.gates :], strict=True):
                out.copy_(value)


LSTM = Cell(4, (0,), lstm, lstm_gradient, _lstm_rows, _lstm_gradient_rows)
SPATIAL = Cell(5, (0, -1), spatial_lstm, spatial_lstm_gradient, _spatial_rows, _spatial_gradient_rows)

# ── the scan ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Lines:
    """Which places of the line before a place reads, and which places each line has."""

    offsets: tuple[int, ...]
    spans: Spans
    groups: int = 1
    cell: Cell = LSTM

    @property
    def left(self) -> int:
        """Places beside a line that its neighbours reach."""
        return max(0, -min(self.offsets))

    @property
    def right(self) -> int:
        return max(0, max(self.offsets))

    def at(self, line: int, offset: int = 0) -> slice:
        """The places of a line, or what lies ``offset`` beside them, in a map that has places beside it."""
        first, last = self.spans[line]
        return slice(self.left + first + offset, self.left + last + offset)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, lines: Lines, gates: Tensor, weights: Tensor, first_h: Tensor, first_c: Tensor) -> Tensor:
        count, places, batch, units = *gates.shape[:3], len(first_h)
        h, c = (first.expand(count + 1, lines.left + places + lines.right, batch, units).contiguous() for first in (first_h, first_c))
        sums = torch.empty_like(gates)
        for s, (first, last) in enumerate(lines.spans):
            out, base = sums[s, first:last].flatten(0, 1), gates[s, first:last].flatten(0, 1)
            for offset, weight in zip(lines.offsets, weights, strict=True):
                torch.addmm(base, h[s, lines.at(s, offset)].flatten(0, 1), weight, out=out)
                base = out
            before = [c[s, lines.at(s, offset)] for offset in lines.cell.memory]
            lines.cell.forward(sums[s, first:last], before, c[s + 1, lines.at(s)], h[s + 1, lines.at(s)], lines.groups)
        ctx.save_for_backward(sums, h, c, weights)
        ctx.lines = lines
        return h[1:, lines.left : lines.left + places].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        sums, h, c, weights = ctx.saved_tensors
        lines: Lines = ctx.lines
        count, places, left, memory = len(sums), sums.shape[1], lines.left, lines.cell.memory
        grad_gates, grad_h = torch.zeros_like(sums), torch.zeros_like(h[0])
        grad_c, first_c = torch.zeros_like(c[0]), torch.zeros_like(c[0])
        others = [torch.empty_like(c[0]) for _ in memory[1:]]
        transposed = [weight.t() for weight in weights]
        for s in range(count - 1, -1, -1):
            (first, last), at = lines.spans[s], lines.at(s)
            of_line, out = grad_h[at].add_(grad[s, first:last]), grad_gates[s, first:last]
            before = [c[s, lines.at(s, offset)] for offset in memory]
            grads = [grad_c[at], *(other[at] for other in others)]
            lines.cell.backward(of_line, sums[s, first:last], before, c[s + 1, at], out, grads, lines.groups)
            for offset, other in zip(memory[1:], others, strict=True):
                grad_c[lines.at(s, offset)] += other[at]
            began = lines.at(s - 1) if s else slice(left, left)
            low, high = at.start + min(memory), at.stop + max(memory)
            for new in (slice(low, max(low, min(high, began.start))), slice(max(low, began.stop), high)):
                first_c[new] += grad_c[new]
                grad_c[new] = 0
            grad_h.zero_()
            for offset, weight in zip(lines.offsets, transposed, strict=True):
                grad_h[lines.at(s, offset)].flatten(0, 1).addmm_(out.flatten(0, 1), weight)
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
    """State-to-state weights of a recurrence along lines, one (n, Gn) for each of ``offsets``, and its initial state.

    groups: the gates lie as [o f i g] of each colour group, one after another.
    """

    def __init__(self, units: int, offsets: Sequence[int] = (0,), groups: int = 1, cell: Cell = LSTM) -> None:
        super().__init__()
        self.offsets, self.groups, self.cell = tuple(offsets), groups, cell
        bound = (len(self.offsets) * units) ** -0.5
        self.weights = nn.Parameter(torch.empty(len(self.offsets), units, cell.gates * units).uniform_(-bound, bound))
        self.first_h = nn.Parameter(torch.zeros(units))
        self.first_c = nn.Parameter(torch.zeros(units))

    def forward(self, gates: Tensor, spans: Spans | None = None) -> Tensor:
        """gates (S, N, B, Gn), what the input gives → h (S, N, B, n); spans: the places of each line, all of them if None."""
        spans = [(0, gates.shape[1])] * len(gates) if spans is None else spans
        lines = Lines(self.offsets, spans, self.groups, self.cell)
        return _Scan.apply(lines, gates.contiguous(), self.weights, self.first_h, self.first_c)  # pyright: ignore[reportReturnType]


class RowScan(Scan):
    """Rows of maps (B, H, W, 4n) → (B, H, W, n); a place sees the row above at ``offsets``."""

    def forward(self, gates: Tensor, spans: Spans | None = None) -> Tensor:
        return super().forward(gates.permute(1, 2, 0, 3)).permute(2, 0, 1, 3)


class DiagonalScan(Scan):
    """Diagonals of maps (B, H, W, Gn) → (B, H, W, n): W + H − 1 lines; a pixel sees its left and its upper neighbour."""

    def __init__(self, units: int, groups: int = 1, cell: Cell = LSTM) -> None:
        super().__init__(units, (0, -1), groups, cell)                    # in a skewed map: the column before, same row and row above

    def forward(self, gates: Tensor, spans: Spans | None = None) -> Tensor:
        lines = skew(gates).permute(2, 1, 0, 3)
        return unskew(super().forward(lines, diagonals(*gates.shape[1:3])).permute(2, 1, 0, 3))
