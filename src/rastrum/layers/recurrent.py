"""Recurrences that run a map line by line, all places of a line at once: a row of a Row LSTM, a diagonal of a Diagonal BiLSTM, a value.

    gates (S, N, B, Gn) ──▶  line s:  gates[s] + Σ_k h[s−1, places + offset k] · W_k  ──▶ cell(c[s−1]) ──▶ c[s], h[s]

S lines of N places, B images, n units, G gates (4; 5 of a spatial LSTM): what neighbouring places read lies in one slice. Outside the map,
and at places that have not begun (``spans``), h and c are the learned initial state. A cell is written once, for torch tensors and for the
vectors of compiled loops.
For float32 on a CPU ``recurrent_native.py`` does the same without rearranging the map; this is its reference, and serves the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..native.lanes import Lanes
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


# ── cells ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def sigmoid(x: Numbers) -> Numbers:
    return 1.0 / ((x * -1.0).exp() + 1.0)


def tanh(x: Numbers) -> Numbers:
    return sigmoid(x * 2.0) * 2.0 - 1.0


def passed(*gates: Numbers) -> list[Numbers]:
    """What the gates let through: the sigmoid of all but the last, the content."""
    return [*map(sigmoid, gates[:-1]), tanh(gates[-1])]


def lstm(o: Numbers, f: Numbers, i: Numbers, g: Numbers, before: Numbers) -> list[Numbers]:
    """→ cell f before + i g, and h = o tanh(cell), of what the gates let through."""
    c = f * before + i * g
    return [c, o * tanh(c)]


def lstm_gradient(
    grad_h: Numbers, grad_c: Numbers, o: Numbers, f: Numbers, i: Numbers, g: Numbers, before: Numbers, c: Numbers
) -> list[Numbers]:
    """→ gradients of the sums of o, f, i, g and of the cell before, from those of h and of the cell after (without what h gives it)."""
    seen = tanh(c)
    grad_c = grad_c + grad_h * o * (1.0 - seen * seen)
    return [
        grad_h * seen * o * (1.0 - o),
        grad_c * before * f * (1.0 - f),
        grad_c * g * i * (1.0 - i),
        grad_c * i * (1.0 - g * g),
        grad_c * f,
    ]


def spatial_lstm(o: Numbers, f: Numbers, u: Numbers, i: Numbers, g: Numbers, left: Numbers, up: Numbers) -> list[Numbers]:
    """→ cell f left + u up + i g, and h = tanh(o cell) (Theis & Bethge 2015, section 2.1)."""
    c = f * left + u * up + i * g
    return [c, tanh(o * c)]


def spatial_lstm_gradient(
    grad_h: Numbers, grad_c: Numbers, o: Numbers, f: Numbers, u: Numbers, i: Numbers, g: Numbers, left: Numbers, up: Numbers, c: Numbers
) -> list[Numbers]:
    """→ gradients of the sums of o, f, u, i, g and of the cells before, left and up."""
    h = tanh(o * c)
    grad_shown = grad_h * (1.0 - h * h)
    grad_c = grad_c + grad_shown * o
    return [
        grad_shown * c * o * (1.0 - o),
        grad_c * left * f * (1.0 - f),
        grad_c * up * u * (1.0 - u),
        grad_c * g * i * (1.0 - i),
        grad_c * i * (1.0 - g * g),
        grad_c * f,
        grad_c * u,
    ]


class Cell(NamedTuple):
    """A recurrent cell: ``gates`` numbers a unit, and the places of the line before (offsets) whose cells it reads, its own first.

    run: what the gates let through, cells before … → c, h · gradient: those of h and c, what the gates let through, cells before …, c →
    those of the gates' sums, of cells before ….
    """

    gates: int
    memory: tuple[int, ...]
    run: Callable[..., list[Tensor]]
    gradient: Callable[..., list[Tensor]]

    def forward(self, gates: Tensor, before: Sequence[Tensor], c: Tensor, h: Tensor, groups: int) -> None:
        """A line's cells: gates (…, Gn) as [o f i g] of each colour group, before (…, n) → c and h (…, n), written."""
        shape = (-1, c.shape[-1] // groups)
        new = self.run(*passed(*gates.view(-1, self.gates, shape[1]).unbind(1)), *(x.view(shape) for x in before))
        for out, value in zip((c, h), new, strict=True):
            out.view(shape).copy_(value)

    def backward(
        self, grad_h: Tensor, gates: Tensor, before: Sequence[Tensor], c: Tensor, grad_gates: Tensor, grads: Sequence[Tensor], groups: int
    ) -> None:
        """grad_gates (…, Gn) and grads, of ``before``, (…, n) are written; the first of grads holds the gradient of c at first."""
        shape = (-1, c.shape[-1] // groups)
        of_h, of_c, *narrow = (x.view(shape) for x in (grad_h, grads[0], *before, c))
        new = self.gradient(of_h, of_c, *passed(*gates.view(-1, self.gates, shape[1]).unbind(1)), *narrow)
        grad_gates.view(-1, self.gates * shape[1]).copy_(torch.cat(new[: self.gates], 1))
        for out, value in zip(grads, new[self.gates :], strict=True):
            out.view(shape).copy_(value)


LSTM = Cell(4, (0,), lstm, lstm_gradient)
SPATIAL = Cell(5, (0, -1), spatial_lstm, spatial_lstm_gradient)

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
        count, places, batch = gates.shape[:3]
        h, c = (first.repeat(count + 1, lines.left + places + lines.right, batch, 1) for first in (first_h, first_c))
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

    def forward(self, gates: Tensor) -> Tensor:
        """gates (S, N, B, Gn), what the input gives → h (S, N, B, n)."""
        if native_for(gates) is not None:                                 # the places of all images are the columns of one map
            batch, one_map = gates.shape[2], gates.flatten(1, 2)[None]
            return self.compiled(one_map, lambda offset: (-1, offset * batch))[0].unflatten(1, (gates.shape[1], batch))
        return self.by_line(gates, [(0, gates.shape[1])] * len(gates))

    def by_line(self, gates: Tensor, spans: Spans) -> Tensor:
        """The same by torch, for lines that have only the places of their span."""
        lines = Lines(self.offsets, spans, self.groups, self.cell)
        return _Scan.apply(lines, gates.contiguous(), self.weights, self.first_h, self.first_c)  # pyright: ignore[reportReturnType]

    def compiled(self, gates: Tensor, place: Callable[[int], tuple[int, int]], turn: int = 0) -> Tensor:
        """Maps (B, H, W, Gn) as they lie; what lies at an offset of the line before is ``place`` (rows, columns) away on the map."""
        from ..native.scan import scan

        taps, kept = (tuple(map(place, offsets)) for offsets in (self.offsets, self.cell.memory))
        return scan(gates, self.weights, self.first_h, self.first_c, self.groups, taps, kept, turn)


class RowScan(Scan):
    """Rows of maps (B, H, W, Gn) → (B, H, W, n); a place sees the row above at ``offsets``."""

    def forward(self, gates: Tensor) -> Tensor:
        if native_for(gates) is not None:
            return self.compiled(gates, lambda offset: (-1, offset))
        return super().forward(gates.permute(1, 2, 0, 3)).permute(2, 0, 1, 3)


class DiagonalScan(Scan):
    """Diagonals of maps (B, H, W, Gn) → (B, H, W, n): W + H − 1 lines; a pixel sees its left and its upper neighbour.

    from_right: its right and its upper neighbour; the diagonals then come from the top right.
    """

    def __init__(self, units: int, groups: int = 1, cell: Cell = LSTM, from_right: bool = False) -> None:
        super().__init__(units, (0, -1), groups, cell)                    # in a skewed map: the column before, same row and row above
        self.from_right = from_right

    def forward(self, gates: Tensor) -> Tensor:
        if native_for(gates) is not None:
            beside = 1 if self.from_right else -1
            return self.compiled(gates, lambda offset: (-1, 0) if offset else (0, beside), -beside)
        lines = skew(gates.flip(2) if self.from_right else gates).permute(2, 1, 0, 3)
        h = unskew(self.by_line(lines, diagonals(*gates.shape[1:3])).permute(2, 1, 0, 3))
        return h.flip(2) if self.from_right else h
