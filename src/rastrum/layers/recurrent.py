"""Recurrences that run a map line by line, all positions of a line at once: a row of a Row LSTM, a diagonal of a Diagonal BiLSTM, a value.

    gates (S, N, B, Gn) ──▶  line s:  gates[s] + Σ_k h[s−1, positions + offset k] · W_k  ──▶ cell(c[s−1]) ──▶ c[s], h[s]

S lines of N positions, B images, n units, G gates (4; 5 for a spatial LSTM): what neighbouring positions read lies in one slice. Outside
the map, and before a position's line has begun (``spans``), h and c are the learned initial state. The cells' formulas are those of
``native/cells.py``.
For float32 on a CPU ``native/scan.py`` computes the same without rearranging the map; this is its reference, and serves all other cases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..autocast import Function
from ..native import native_for
from ..native.cells import activate, lstm, lstm_gradient, spatial_lstm, spatial_lstm_gradient
from ..native.routes import diagonals

Spans = Sequence[tuple[int, int]]

# ── maps as lines ────────────────────────────────────────────────────────────────────────────────────────────────────


def skew(x: Tensor) -> Tensor:
    """x (B, H, W, C) → (B, H, W + H − 1, C), row i moved i columns to the right: a column is now a diagonal of x."""
    height, width = x.shape[1:3]
    return F.pad(x, (0, 0, 0, height)).flatten(1, 2)[:, : height * (width + height - 1)].unflatten(1, (height, -1))


def unskew(x: Tensor) -> Tensor:
    """The inverse of ``skew``: x (B, H, W + H − 1, C) → (B, H, W, C)."""
    height, columns = x.shape[1:3]
    return F.pad(x.flatten(1, 2), (0, 0, 0, height)).unflatten(1, (height, -1))[:, :, : columns - height + 1]


# ── cells ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Cell(NamedTuple):
    """A recurrent cell.

    gates: gates per unit.
    memory: offsets, in the line before, of the cells that it reads, its own first.
    run: activated gates, cells before … → c, h.
    gradient: grad_h, grad_c, activated gates, cells before …, c → gradients of the gates' pre-activations, of the cells before …
    """

    gates: int
    memory: tuple[int, ...]
    run: Callable[..., list[Tensor]]
    gradient: Callable[..., list[Tensor]]

    def forward(self, gates: Tensor, before: Sequence[Tensor], c: Tensor, h: Tensor, groups: int) -> None:
        """Compute a line.

        gates: pre-activations (…, Gn), as [o f i g] of each colour group.
        before: cells before, each (…, n), as ``memory`` lists them.
        c, h: (…, n), written.
        groups: colour groups.
        """
        shape = (-1, c.shape[-1] // groups)
        new = self.run(*activate(*gates.view(-1, self.gates, shape[1]).unbind(1)), *(x.view(shape) for x in before))
        for out, value in zip((c, h), new, strict=True):
            out.view(shape).copy_(value)

    def backward(
        self, grad_h: Tensor, gates: Tensor, before: Sequence[Tensor], c: Tensor, grad_gates: Tensor, grads: Sequence[Tensor], groups: int
    ) -> None:
        """Compute the gradients of a line.

        grad_h: (…, n).
        gates: pre-activations (…, Gn).
        before: cells before, each (…, n).
        c: (…, n).
        grad_gates: (…, Gn), written.
        grads: gradients of ``before``, each (…, n), written; the first holds the gradient of c when called.
        groups: colour groups.
        """
        shape = (-1, c.shape[-1] // groups)
        grad_h, grad_c, *values = (x.view(shape) for x in (grad_h, grads[0], *before, c))
        new = self.gradient(grad_h, grad_c, *activate(*gates.view(-1, self.gates, shape[1]).unbind(1)), *values)
        grad_gates.view(-1, self.gates * shape[1]).copy_(torch.cat(new[: self.gates], 1))
        for out, value in zip(grads, new[self.gates :], strict=True):
            out.view(shape).copy_(value)


LSTM = Cell(4, (0,), lstm, lstm_gradient)
SPATIAL = Cell(5, (0, -1), spatial_lstm, spatial_lstm_gradient)

# ── the scan ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Lines:
    """How the lines of a map lie and what they read.

    offsets: positions of the line before that a position reads.
    spans: first position, and last + 1, of each line.
    groups: colour groups, 1 by default.
    cell: LSTM (default) or SPATIAL.
    """

    offsets: tuple[int, ...]
    spans: Spans
    groups: int = 1
    cell: Cell = LSTM

    @property
    def left(self) -> int:
        """Positions to the left of a line that ``offsets`` reach."""
        return max(0, -min(self.offsets))

    @property
    def right(self) -> int:
        """Positions to the right of a line that ``offsets`` reach."""
        return max(0, max(self.offsets))

    def at(self, line: int, offset: int = 0) -> slice:
        """The positions of a line in a map padded by ``left`` and ``right``.

        line: its number.
        offset: shifts them, 0 by default.
        """
        first, last = self.spans[line]
        return slice(self.left + first + offset, self.left + last + offset)


class _Scan(Function):
    @staticmethod
    def forward(ctx: Any, lines: Lines, gates: Tensor, weights: Tensor, first_h: Tensor, first_c: Tensor) -> Tensor:
        count, positions, batch = gates.shape[:3]
        h, c = (first.repeat(count + 1, lines.left + positions + lines.right, batch, 1) for first in (first_h, first_c))
        totals = torch.empty_like(gates)
        for s, (first, last) in enumerate(lines.spans):
            out, base = totals[s, first:last].flatten(0, 1), gates[s, first:last].flatten(0, 1)
            for offset, weight in zip(lines.offsets, weights, strict=True):
                torch.addmm(base, h[s, lines.at(s, offset)].flatten(0, 1), weight, out=out)
                base = out
            before = [c[s, lines.at(s, offset)] for offset in lines.cell.memory]
            lines.cell.forward(totals[s, first:last], before, c[s + 1, lines.at(s)], h[s + 1, lines.at(s)], lines.groups)
        ctx.save_for_backward(totals, h, c, weights)
        ctx.lines = lines
        return h[1:, lines.left : lines.left + positions].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        totals, h, c, weights = ctx.saved_tensors
        lines: Lines = ctx.lines
        count, positions, left, memory = len(totals), totals.shape[1], lines.left, lines.cell.memory
        grad_gates, grad_h = torch.zeros_like(totals), torch.zeros_like(h[0])
        grad_c, first_c = torch.zeros_like(c[0]), torch.zeros_like(c[0])
        others = [torch.empty_like(c[0]) for _ in memory[1:]]
        transposed = [weight.t() for weight in weights]
        for s in range(count - 1, -1, -1):
            (first, last), at = lines.spans[s], lines.at(s)
            grad_line, out = grad_h[at].add_(grad[s, first:last]), grad_gates[s, first:last]
            before = [c[s, lines.at(s, offset)] for offset in memory]
            grads = [grad_c[at], *(other[at] for other in others)]
            lines.cell.backward(grad_line, totals[s, first:last], before, c[s + 1, at], out, grads, lines.groups)
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
        # What was read of the line before: its h, or the initial state where it had not begun.
        begun = torch.zeros(count, positions + left + lines.right, 1, dtype=totals.dtype, device=totals.device)
        for s, (first, last) in enumerate(lines.spans[:-1]):
            begun[s + 1, left + first : left + last] = 1
        grad_batch = grad_gates.sum(2)
        grad_weights, grad_first = torch.empty_like(weights), weights.new_zeros(weights.shape[1])
        for k, offset in enumerate(lines.offsets):
            reads = slice(left + offset, left + offset + positions)
            grad_weights[k] = h[:-1, reads].flatten(0, 2).t() @ grad_gates.flatten(0, 2)
            grad_first += ((1 - begun[:, reads]) * grad_batch).sum((0, 1)) @ transposed[k]
        return None, grad_gates, grad_weights, grad_first, first_c.sum((0, 1))


class Scan(nn.Module):
    """State-to-state weights of a recurrence along lines, one (n, Gn) for each offset, and its initial state.

    units: n.
    offsets: positions of the line before whose h a position reads, default its own.
    groups: colour groups, 1 by default; the gates lie as [o f i g] of one group after another.
    cell: LSTM (default) or SPATIAL.
    """

    def __init__(self, units: int, offsets: Sequence[int] = (0,), groups: int = 1, cell: Cell = LSTM) -> None:
        super().__init__()
        self.offsets, self.groups, self.cell = tuple(offsets), groups, cell
        bound = (len(self.offsets) * units) ** -0.5
        self.weights = nn.Parameter(torch.empty(len(self.offsets), units, cell.gates * units).uniform_(-bound, bound))
        self.first_h = nn.Parameter(torch.zeros(units))
        self.first_c = nn.Parameter(torch.zeros(units))

    def forward(self, gates: Tensor) -> Tensor:
        """gates (S, N, B, Gn), the input's share of the pre-activations → h (S, N, B, n)."""
        if native_for(gates) is not None:                                 # the positions of all images are the columns of one map
            batch, one_map = gates.shape[2], gates.flatten(1, 2)[None]
            return self.compiled(one_map, lambda offset: (-1, offset * batch))[0].unflatten(1, (gates.shape[1], batch))
        return self.by_line(gates, [(0, gates.shape[1])] * len(gates))

    def by_line(self, gates: Tensor, spans: Spans) -> Tensor:
        """The same in torch, for lines that have only the positions of their span.

        gates: (S, N, B, Gn).
        spans: first position, and last + 1, of each line.

        Returns h (S, N, B, n).
        """
        lines = Lines(self.offsets, spans, self.groups, self.cell)
        return _Scan.apply(lines, gates.contiguous(), self.weights, self.first_h, self.first_c)  # pyright: ignore[reportReturnType]

    def compiled(self, gates: Tensor, on_map: Callable[[int], tuple[int, int]], turn: int = 0) -> Tensor:
        """The same by the compiled scan, on maps as they lie.

        gates: (B, H, W, Gn).
        on_map: turns an offset in the line before into (rows, columns) on the map.
        turn: 0 (default) = lines are rows; 1 = diagonals from the top left, −1 = from the top right.

        Returns h (B, H, W, n).
        """
        from ..native.scan import scan

        taps, kept = (tuple(map(on_map, offsets)) for offsets in (self.offsets, self.cell.memory))
        return scan(gates, self.weights, self.first_h, self.first_c, self.groups, taps, kept, turn)


class RowScan(Scan):
    """Rows of maps (B, H, W, Gn) → (B, H, W, n); a position sees the row above at ``offsets``."""

    def forward(self, gates: Tensor) -> Tensor:
        if native_for(gates) is not None:
            return self.compiled(gates, lambda offset: (-1, offset))
        return super().forward(gates.permute(1, 2, 0, 3)).permute(2, 0, 1, 3)


class DiagonalScan(Scan):
    """Diagonals of maps (B, H, W, Gn) → (B, H, W, n): W + H − 1 lines; a pixel sees its left and its upper neighbour.

    units: n.
    groups: colour groups, 1 by default.
    cell: LSTM (default) or SPATIAL.
    from_right: a pixel sees its right and its upper neighbour, the diagonals then come from the top right; False by default.
    """

    def __init__(self, units: int, groups: int = 1, cell: Cell = LSTM, from_right: bool = False) -> None:
        super().__init__(units, (0, -1), groups, cell)                    # in a skewed map: the column before, same row and row above
        self.from_right = from_right

    def forward(self, gates: Tensor) -> Tensor:
        if native_for(gates) is not None:
            side = 1 if self.from_right else -1
            return self.compiled(gates, lambda offset: (-1, 0) if offset else (0, side), -side)
        lines = skew(gates.flip(2) if self.from_right else gates).permute(2, 1, 0, 3)
        h = unskew(self.by_line(lines, diagonals(*gates.shape[1:3])).permute(2, 1, 0, 3))
        return h.flip(2) if self.from_right else h
