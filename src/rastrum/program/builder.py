"""The step program: one step of a raster model, stated once, as a list of operations over maps.

A map is a row of columns of ``width`` values each; an operation is a function of a column, and its phase says at which columns it runs:

    start         before the first row    the condition, what earlier passes drew, and what follows from them: whole maps, all rows at once
    frame         between two frames      of a video: what follows from the complete frame, whole maps again
    stroke n      once z is known         of a canvas model: what follows from the n-th latent of a step, whole maps again
    row           all columns at once     what the finished rows contribute to the row that begins (before every row r ≥ first_row)
    row_reversed  right to left           the same, for recurrences from the right
    channel g     the column being drawn  what colour group g of this pixel needs (one group: "pixel")

In a row phase a map written by the pixel phases still holds the finished row r − 1, a map written by row phases already holds
row r. So no layer shifts anything in its step. For example, a convolution over the row above and the pixels to the left reads one map
twice: in a row phase, where the map still holds row r − 1, and in a channel phase, where the columns to the left already hold row r.
Coarser resolutions: a map of level l has ⌈W / 2^l⌉ columns and is due where row and column are multiples of 2^l (``Grid``).
A window of neighbouring columns is a contiguous slice, so a convolution is one matrix product.

A frame of a video begins as the first did: maps of the rows and pixels are as before anything was written, whole maps stay as they are.

A program has one ``Pass`` over the image, or several: a subsampled image first, then a finer raster that holds it. Each has maps and phases
of its own; what one passes to the next is in whole maps, which keep all their rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor

from ..native import codes
from ..protocol import ConditionSpec, ImageSpec, raster_order

if TYPE_CHECKING:
    from .graphs import GraphInterpreter

Kind: TypeAlias = Literal[
    "linear", "copy", "add", "gate", "glu", "relu", "elu", "concat_elu", "lstm", "square", "spatial_lstm", "multiplicative", "multiply",
    "clamp", "least_squares", "surroundings"
]


@dataclass(frozen=True)
class Rule:
    """The sizes of an operation's operands at one column, in parts of n values.

    code: its number in the tables of the compiled interpreter (``native/codes.py``).
    source: parts that it reads, 1 by default; 0 for a linear, whose weight has the sizes.
    destination: parts that it writes, 1 by default; 0 for a linear.
    base: parts of ``initial`` that it needs; 0 (default) if it needs none.
    in_place: whether the destination may be the source, False by default.
    """

    code: int
    source: int = 1
    destination: int = 1
    base: int = 0
    in_place: bool = False


# The one table of operations. A new one also needs its name in ``Kind``, its code in native/codes.py, a function in native/elementwise.py
# and its branch in native/interpreter.py, a function in program/torch_interpreter.py, and its line in docs/arithmetic.md and
# docs/program.md.
OPERATIONS: dict[Kind, Rule] = {
    "linear": Rule(codes.LINEAR, 0, 0),                      # initial + bias + source · weight
    "copy": Rule(codes.COPY, in_place=True),                 # source
    "add": Rule(codes.ADD, base=1),                          # initial + source
    "gate": Rule(codes.GATE, 2),                             # [a | b] → tanh(a) σ(b)
    "glu": Rule(codes.GLU, 2, base=1),                       # [a | b] → initial + a σ(b)
    "relu": Rule(codes.RELU, in_place=True),                 # max(source, 0)
    "elu": Rule(codes.ELU, in_place=True),                   # elu(source)
    "concat_elu": Rule(codes.CONCAT_ELU, 1, 2),              # [elu(source) | elu(−source)]
    "lstm": Rule(codes.LSTM, 4, base=1),                     # [o | f | i | g], cell in ``initial``, replaced by the new one → h
    "square": Rule(codes.SQUARE, in_place=True),             # source²
    "spatial_lstm": Rule(codes.SPATIAL_LSTM, 5, base=2),     # [o | f | u | i | g], cells [left | up] → h; the new cell replaces ``up``
    "multiplicative": Rule(codes.MULTIPLICATIVE, 4, base=1),  # [a | b | c | u], h in ``initial`` → σ(a) tanh(σ(b) h + σ(c) tanh(u))
    "multiply": Rule(codes.MULTIPLY, base=1),                # initial · source
    "clamp": Rule(codes.CLAMP, in_place=True),               # source, cut to −8 … 8
    # Of whole maps of the picture and of its predictions, at a pixel and around it (``native/least_squares.py``).
    "least_squares": Rule(codes.LEAST_SQUARES, 0, 0),        # picture up to a channel, state in ``initial`` → that channel's prediction
    "surroundings": Rule(codes.SURROUNDINGS, 0, 0),          # picture, predictions in ``initial`` → what a network is shown, and scales
}
PhaseKind: TypeAlias = Literal["start", "frame", "stroke", "row", "row_reversed", "channel"]
WHOLE = ("start", "frame", "stroke")    # phases over whole maps, row by row


@dataclass(eq=False)
class Buffer:
    """Memory of one map: ``columns`` columns of ``width`` values per image.

    width: values of a column.
    level: resolution of the map, 2^level positions of the pass from one column to the next.
    columns: columns of a row, without padding.
    initial: what every column holds at first, (width,), or of a whole map (rows, columns, width), where one row or column
        stands for all; None (default) for zeros.
    single: whether one column serves all columns, False by default.
    before, after: columns of padding that windows reach on the left and on the right, 0 by default; they keep their initial values.
    rows: rows of a whole map; 0 (default) keeps only the row that is being drawn.
    above, below: rows of padding that windows on a whole map reach, 0 by default.
    """

    width: int
    level: int
    columns: int
    initial: Tensor | None = None
    single: bool = False
    before: int = 0
    after: int = 0
    rows: int = 0
    above: int = 0
    below: int = 0

    @property
    def row_length(self) -> int:
        """Values of a row, its padding included."""
        return (self.before + self.columns + self.after) * self.width


@dataclass(frozen=True)
class View:
    """Part of a buffer's column ``j · step + shift``, for an operation at its column j.

    In a whole map the column lies in row ``r · row_step + row_shift``, for an operation at row r.

    buffer: the map.
    offset: first value within the column.
    size: number of values; more than a column holds reach into the next columns.
    shift, step: which column, 0 and 1 by default.
    row_shift, row_step: which row of a whole map, 0 and 1 by default.
    """

    buffer: Buffer
    offset: int
    size: int
    shift: int = 0
    step: int = 1
    row_shift: int = 0
    row_step: int = 1

    def part(self, index: int, parts: int) -> View:
        """One of several equal parts of the view's values.

        index: which part, from 0.
        parts: how many parts there are.
        """
        size = self.size // parts
        return replace(self, offset=self.offset + index * size, size=size)

    def window(self, first: int, last: int, step: int = 1, leave_out: int = 0) -> View:
        """Columns j · step + first … j · step + last as one slice.

        first, last: column offsets, both included.
        step: columns from one window to the next, 1 by default.
        leave_out: values that are left out at the end of the last column, 0 by default.
        """
        assert self.offset == 0 and self.size == self.buffer.width and self.shift == 0 and self.step == 1, "a window takes whole columns"
        return replace(self, size=(last - first + 1) * self.size - leave_out, shift=first, step=step)


@dataclass(frozen=True)
class Grid:
    """Where an operation runs: at rows r with r & row_mask = row_value, and at columns likewise.

    level: the operation's column index is column >> level.
    columns: in row phases and those over whole maps it runs at this many columns, the first ones.
    row_mask, row_value: which rows.
    column_mask, column_value: which columns, in channel phases.
    rows: in phases over whole maps it runs in this many rows, the first ones; 1 by default.
    """

    level: int
    columns: int
    row_mask: int
    row_value: int
    column_mask: int
    column_value: int
    rows: int = 1


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation of a phase (``OPERATIONS`` has the equations).

    kind: a key of ``OPERATIONS``.
    source: what it reads.
    destination: what it writes.
    grid: the rows and columns where it runs.
    initial: what it starts from, or the state that it changes; None (default) for zeros.
    weight: of a linear, (K, N); None (default) for other kinds.
    bias: of a linear, (N,); None (default) for none.
    """

    kind: Kind
    source: View
    destination: View
    grid: Grid
    initial: View | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None


@dataclass(eq=False)
class Phase:
    """Operations that run together.

    kind: when they run (table at the top of this file).
    index: the colour group of a channel phase, the latent of a stroke phase; tells several row phases of a kind apart.
    first_row: a row phase runs before every row from this one on.
    operations: in the order in which they run.
    """

    kind: PhaseKind
    index: int
    first_row: int
    operations: list[Operation] = field(default_factory=list)


@dataclass(eq=False)
class Pass:
    """A raster of positions, drawn in raster order: (r, c) is the image's pixel (r · spacing, c · spacing).

    height, width: in positions.
    outputs: the view of each colour group's output; None until ``Program.output`` sets it.
    spacing: pixels from one position to the next, 1 by default.
    known: positions whose row and column are multiples of it were decided by an earlier pass, and the network runs there on the known
        values; 0 (default) if there are none.
    frames: of a video, drawn one after another over the same raster; 1 by default.
    phases: by kind and index, in the order in which they were opened.
    input: the map that decided values are written to; None until ``Program.values`` makes it.
    ones: whether the input map has a 1 after the values, False by default.
    """

    height: int
    width: int
    outputs: list[View | None]
    spacing: int = 1
    known: int = 0
    frames: int = 1
    phases: dict[tuple[PhaseKind, int], Phase] = field(default_factory=dict)
    input: View | None = None
    ones: bool = False             # the input map has a 1 after the values

    def decides(self) -> Tensor:
        """(height, width) bool: where this pass decides."""
        decides = torch.ones(self.height, self.width, dtype=torch.bool)
        if self.known:
            decides[:: self.known, :: self.known] = False
        return decides


@dataclass(frozen=True)
class Head:
    """How a program's output describes a distribution, for an interpreter that decides by itself.

    kind: the layout of the output:
        "bernoulli": a logit per channel.
        "softmax": a logit per level, channel by channel.
        "mixture": K components that a pixel's channels share, [log weights | means of each channel | log scales of each | coefficients of
        each pair of channels] · K (models/pixelcnn_plus_plus.py).
        "gaussian": K components of each channel's own, [log weights | means | log scales] · K, channel by channel.
    components: K of a mixture or of Gaussians; 0 (default) for the others.
    """

    kind: Literal["bernoulli", "softmax", "mixture", "gaussian"]
    components: int = 0


class Program:
    """Built by a model's ``lower``: maps, phases in their order, and which view holds the output of each colour group.

    spec: shape and levels of the images.
    condition_spec: the model's condition; None (default) for an unconditional model.
    groups: colour groups that a step computes one after another, 1 by default; divides the number of channels.

    ``colours`` is the order of a pixel's channels, in which all maps of the image and outputs have them; ``lower`` may change it first.
    """

    def __init__(self, spec: ImageSpec, condition_spec: ConditionSpec | None = None, groups: int = 1) -> None:
        assert spec.channels % groups == 0, "the channels divide into colour groups"
        self.colours = list(range(spec.channels))
        self.spec = spec
        self.condition_spec = condition_spec
        self.groups = groups
        self.buffers: list[Buffer] = []
        self.passes: list[Pass] = []
        self.head: Head | None = None
        self.condition: View | None = None
        self.picture: View | None = None
        self.idle: list[GraphInterpreter] = []                            # of earlier walks, for the next ones
        self._phase: Phase | None = None
        self._grid: Grid | None = None
        self._applied: dict[tuple[Phase | None, Grid | None, Kind, View], View] = {}

    # ── passes ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def new_pass(self, spacing: int = 1, known: int = 0) -> Pass:
        """Begin a pass; the maps and phases that follow are its own.

        spacing: pixels from one position to the next, 1 by default.
        known: every how many rows and columns of this pass the value is known from an earlier pass; 0 (default) if none is.
        """
        height, width = (-(-size // spacing) for size in (self.spec.height, self.spec.width))
        assert self.spec.frames == 1 or not self.passes, "a video has one pass"
        self.passes.append(Pass(height, width, [None] * self.groups, spacing, known, self.spec.frames))
        return self.passes[-1]

    @property
    def current(self) -> Pass:
        """The pass that is being built; a program that begins none has one over the whole image."""
        return self.passes[-1] if self.passes else self.new_pass()

    @property
    def phases(self) -> dict[tuple[PhaseKind, int], Phase]:
        """The phases of the pass that is being built, by kind and index."""
        return self.current.phases

    # ── maps ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def columns(self, level: int) -> int:
        """Columns of a map of ``level``: ⌈width of the pass / 2^level⌉."""
        return -(-self.current.width // (1 << level))

    def map(self, width: int, level: int = 0, initial: Tensor | None = None, single: bool = False) -> View:
        """A new map, which keeps the row that is being drawn.

        width: values of a column.
        level: resolution, 2^level positions of the pass from one column to the next; 0 by default.
        initial: what every column holds before anything is written, (width,), copied; None (default) for zeros.
        single: one column that serves all columns, for what is the same everywhere; False by default.
        """
        initial = None if initial is None else initial.detach().clone()
        buffer = Buffer(width, level, 1 if single else self.columns(level), initial, single)
        self.buffers.append(buffer)
        return View(buffer, 0, width)

    def whole_map(self, width: int, rows: int, columns: int, *, initial: Tensor | None = None) -> View:
        """A new map that keeps all its rows.

        width: values of a column.
        rows, columns: its size, without padding.
        initial: what it holds before anything is written, (width,) or (rows, columns, width), where one row or column stands for all;
            copied; its padding holds zeros; None (default) for zeros everywhere.
        """
        positions = None if initial is None or initial.dim() == 1 else initial.detach().clone(memory_format=torch.contiguous_format)
        buffer = Buffer(width, 0, columns, positions, rows=rows)
        self.buffers.append(buffer)
        view = View(buffer, 0, width)
        if initial is not None and positions is None:
            with self.phase("start"):
                self.append("copy", self.map(width, initial=initial, single=True), view)
        return view

    def values(self, ones: bool = False) -> View:
        """The input map: the scaled values of a pixel's channels, written as they are decided.

        ones: whether a decided column has a 1 after its values, so that a layer can tell them from padding; False by default.
        """
        assert self.current.input is None, "one input map"
        view = self.map(self.spec.channels + ones)
        self.current.input, self.current.ones = view, ones
        return view

    def drawn(self, spacing: int) -> View:
        """The scaled values that earlier passes, or earlier frames of a video, decided: a whole map.

        spacing: take every ``spacing``-th row and column.
        """
        if self.picture is None:
            self.picture = self.whole_map(self.spec.channels, self.spec.height, self.spec.width)
        return replace(self.picture, step=spacing, row_step=spacing)

    def condition_vector(self) -> View | None:
        """The condition as a vector, a class as its one-hot row; None for an unconditional model."""
        if self.condition_spec is not None and self.condition is None:
            assert isinstance(self.condition_spec.size, int), "a spatial condition is no vector"
            self.condition = self.map(self.condition_spec.size, single=True)
        return self.condition

    def condition_map(self) -> View:
        """The condition as a whole map, (c, h, w) as h rows of w columns of c values."""
        if self.condition is None:
            assert self.condition_spec is not None and isinstance(self.condition_spec.size, tuple), "the condition is no map"
            self.condition = self.whole_map(*self.condition_spec.size)
        return self.condition

    def output(self, group: int, view: View) -> None:
        """Say where the output of a colour group stands.

        group: its number, from 0.
        view: the parameters of its distribution, as ``RasterModel.head`` reads them.
        """
        self.current.outputs[group] = view

    # ── where operations go ──────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def phase(self, kind: PhaseKind, index: int = 0, first_row: int = 0) -> Iterator[None]:
        """Within this context, operations are appended to a phase. Phases run in the order in which they were first opened, channels last.

        kind: when it runs (table at the top of this file).
        index: the colour group of a channel phase, the latent of a stroke phase; tells several row phases of a kind apart; 0 by default.
        first_row: a row phase runs before every row from this one on; 0 by default.
        """
        phase = self.phases.setdefault((kind, index), Phase(kind, index, first_row))
        assert phase.first_row == first_row, "one phase has one first row"
        outer, self._phase = self._phase, phase
        try:
            yield
        finally:
            self._phase = outer

    @contextmanager
    def grid(self, level: int, row: int | None = None, column: int | None = None) -> Iterator[None]:
        """Within this context, operations run at the column indices of ``level``.

        With ``row`` or ``column`` they run for one parity of the rows or columns of the next finer level, so that a map of that level can
        read from the coarser map.

        level: resolution of the coarser map, at least 1 with ``row`` or ``column``.
        row: 0 for the finer level's even rows, 1 for its odd rows; None (default) for the rows of ``level``.
        column: likewise.
        """
        due = (1 << level) - 1
        finer = level - 1
        row_mask, row_value = (due, 0) if row is None else (due, row << finer)
        column_mask, column_value = (due, 0) if column is None else (due, column << finer)
        columns = self.columns(level) if not column else self.columns(finer) // 2
        outer, self._grid = self._grid, Grid(level, columns, row_mask, row_value, column_mask, column_value)
        try:
            yield
        finally:
            self._grid = outer

    def each_group(self) -> Iterator[int]:
        """Once in a row or start phase (which know no groups), else once per colour group, inside that group's phase."""
        if self._phase is not None:
            yield 0
            return
        for group in range(self.groups):
            with self.phase("channel", group):
                yield group

    # ── operations ───────────────────────────────────────────────────────────────────────────────────────────────────

    def append(
        self,
        kind: Kind,
        source: View,
        destination: View,
        initial: View | None = None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> None:
        """Append an operation to the open phase, and widen the padding of the maps that it reaches beyond.

        kind: a key of ``OPERATIONS``.
        source: what it reads.
        destination: what it writes; without an open ``grid``, it runs at every column of this map.
        initial: what it starts from, or the state that it changes; None (default) for zeros.
        weight: of a linear, (K, N); None (default) for other kinds.
        bias: of a linear, (N,); None (default) for none.
        """
        assert self._phase is not None, "operations belong to a phase"
        level = destination.buffer.level
        if self._grid is None:
            due = (1 << level) - 1
            columns = _steps(destination.buffer.columns, destination.shift, destination.step)
            rows = _steps(destination.buffer.rows, destination.row_shift, destination.row_step) if destination.buffer.rows else 1
            grid = Grid(level, columns, due, 0, due, 0, rows)
        else:
            grid = self._grid
        for view in (source, destination, initial):
            if view is not None and not view.buffer.single:
                last = view.shift + (view.offset + view.size - 1) // view.buffer.width
                view.buffer.before = max(view.buffer.before, -view.shift)
                view.buffer.after = max(view.buffer.after, (grid.columns - 1) * view.step + last - (view.buffer.columns - 1))
                if view.buffer.rows:
                    rows = grid.rows if self._phase.kind in WHOLE else self.current.height
                    view.buffer.above = max(view.buffer.above, -view.row_shift)
                    view.buffer.below = max(view.buffer.below, (rows - 1) * view.row_step + view.row_shift - (view.buffer.rows - 1))
        written = destination.buffer
        self._applied = {key: to for key, to in self._applied.items() if written not in (key[-1].buffer, to.buffer)}
        self._phase.operations.append(Operation(kind, source, destination, grid, initial, weight, bias))

    def linear(
        self,
        source: View,
        weight: Tensor,
        bias: Tensor | None = None,
        initial: View | None = None,
        destination: View | None = None,
        level: int = 0,
    ) -> View:
        """destination = initial + bias + source · weight.

        source: K values.
        weight: (K, N), copied.
        bias: (N,), copied; None (default) for none.
        initial: N values to add to; None (default) for none.
        destination: N values; None (default) makes a new map.
        level: resolution of the new map, 0 by default; not used with ``destination``.

        Returns the destination.
        """
        assert weight.shape[0] == source.size, f"weight of {weight.shape[0]} rows for {source.size} values"
        if destination is None:
            single = source.buffer.single and self._phase is not None and self._phase.kind == "start"
            destination = self.map(weight.shape[1], level, single=single)
        assert weight.shape[1] == destination.size
        bias = None if bias is None else bias.detach().clone()            # copies: parameters may change during a walk
        self.append("linear", source, destination, initial, weight.detach().clone(), bias)
        return destination

    def apply(self, kind: Kind, source: View, base: View | None = None) -> View:
        """An elementwise operation on a map, group by group where colours have an order; returns a map of the same level.

        The same operation on the same values returns the same map: a shortcut's concat_elu is often that of the block it skips.

        kind: a key of ``OPERATIONS`` other than "linear".
        source: what it reads.
        base: its ``initial``, where the kind needs one; None (default).
        """
        again = (self._phase, self._grid, kind, source)
        if base is None and again in self._applied:
            return self._applied[again]
        rule, rows = OPERATIONS[kind], source.buffer.rows
        size = source.size // rule.source * rule.destination
        destination = self.whole_map(size, rows, source.buffer.columns) if rows else self.map(size, source.buffer.level)
        parts = 1 if self._phase is not None else self.groups
        for group in self.each_group():
            self.append(kind, source.part(group, parts), destination.part(group, parts), None if base is None else base.part(group, parts))
        if base is None:
            self._applied[again] = destination
        return destination

    def history(self, source: View, rows: int) -> View:
        """A map with the newest rows of ``source``, next to each other in each column, oldest first; call it in a row phase.

        source: a whole column of a map.
        rows: how many rows to keep, at least 1.
        """
        if rows == 1:
            return source
        assert source.offset == 0 and source.size == source.buffer.width
        width = source.size
        kept = self.map(rows * width, source.buffer.level)
        for row in range(rows - 1):
            self.append("copy", kept.part(row + 1, rows), kept.part(row, rows))
        self.append("copy", source, kept.part(rows - 1, rows))
        return kept

    def wrap(self, source: View) -> None:
        """Before a row, column −1 of ``source`` takes the values of its last column: looking left then looks back along all rows."""
        last = replace(source, shift=source.buffer.columns - 1, step=source.buffer.columns)
        with self.phase("row"):
            self.append("copy", last, replace(last, shift=-1))            # steps of a whole row: it runs at one column

    # ── reading a finished program ───────────────────────────────────────────────────────────────────────────────────

    def all_phases(self) -> Sequence[Phase]:
        """The phases of all passes."""
        return [phase for each in self.passes for phase in each.phases.values()]

    def decided(self) -> Tensor:
        """The flat indices that the passes decide, one after another: (D,)."""
        frames = raster_order(self.spec, self.colours).view(-1, self.spec.height, self.spec.width, self.spec.channels)
        return torch.cat([frames[:, :: each.spacing, :: each.spacing][:, each.decides()].reshape(-1) for each in self.passes])

    def steps(self) -> list[int]:
        """The step at which each decided colour group is computed, in the order of decisions.

        Steps count the colour groups of all positions of all frames and passes, known positions included.
        """
        decides = torch.cat([each.decides().reshape(-1).repeat(each.frames) for each in self.passes])
        return decides.repeat_interleave(self.groups).nonzero()[:, 0].tolist()

    def check(self, order: Tensor) -> None:
        """Assert that the program is complete and decides in the model's order.

        order: (D,) flat indices.
        """
        for each in self.passes:
            assert each.input is not None and all(view is not None for view in each.outputs), "a pass has an input and outputs"
        assert torch.equal(self.decided(), order.cpu()), "the program decides in the model's order"


def _steps(size: int, shift: int, step: int) -> int:
    """How many rows or columns of a map lie at shift, shift + step, …."""
    return -(-(size - max(shift, 0)) // step)


@dataclass(frozen=True)
class StrokeMaps:
    """The maps of a canvas model's program that others write or read between its phases: ``start``, then ``stroke n`` after each latent.

    latents: the latents of a step, in the order of the decisions: whole maps that are written before their phase runs.
    priors: of each, what its prior is when its turn has come: [mean | log standard deviation | log width], Z values each.
    canvas: what has been drawn.
    memory: further maps by the names that they have in a ``State``, for the encoder.
    """

    latents: list[View]
    priors: list[View]
    canvas: View
    memory: dict[str, View]
