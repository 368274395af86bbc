"""A program as the compiled loops read it: tables of its operations and phases, a weight arena, and the initial state of an image's arena.

``pack`` lays maps and weights out and checks that every address lies inside them, because the compiled loops do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from ..denormals import keeping
from ..native import codes
from ..native.linear import GROUP_ROWS
from ..native.panels import aligned, aligned_copy, panels
from ..native.points import POINTS, TILE, weights_at_points
from ..native.walk import Tables
from ..protocol import raster_order
from .builder import OPERATIONS, WHOLE, Buffer, Head, Operation, Pass, Phase, PhaseKind, Program, View

MAX_ARENA = 1 << 31            # values per image
BLOCK = 16                     # images that run together: their state stays in the cache
HEADS = {"bernoulli": codes.BERNOULLI, "softmax": codes.SOFTMAX, "mixture": codes.MIXTURE, "gaussian": codes.GAUSSIAN}
PHASES = {
    "start": codes.START, "frame": codes.FRAME, "row": codes.ROW, "row_reversed": codes.ROW_REVERSED, "channel": codes.CHANNEL,
    "stroke": codes.STROKE,
}  # fmt: skip


class ProgramError(ValueError):
    """A program that the native interpreter cannot run: an operation it does not know, or an address outside its memory."""


@dataclass(frozen=True, eq=False)
class Packed:
    """A program as the compiled loops read it, for any batch.

    decisions: of an image.
    decides: whether the program has a head.
    tables: of its operations, phases, passes and weights.
    initial: an image's arena before the first decision, (stride,) float32.
    condition: offsets in an arena of the condition's values, in order; None for an unconditional model.
    scratch: values that an operation may use while it runs.
    lag: rows after which the same operations are due again, if it decides row by row in one pass; else 0.
    """

    decisions: int
    decides: bool
    tables: Tables
    initial: np.ndarray
    condition: np.ndarray | None
    scratch: int
    lag: int


@dataclass(frozen=True, eq=False)
class PackedStrokes:
    """A program of whole maps alone, as the compiled loops read it, for any batch.

    phases: the operations of each, (operations, OPERATION_FIELDS), by kind and index.
    weights: the weight arena.
    initial: an image's arena at first, (stride,) float32.
    condition: offsets in an arena of the condition's values, in order; None for an unconditional model.
    start: offset in an arena of each map, its padding included.
    """

    phases: dict[tuple[PhaseKind, int], np.ndarray]
    weights: np.ndarray
    initial: np.ndarray
    condition: np.ndarray | None
    start: dict[Buffer, int]


def pack(program: Program) -> Packed:
    """Tables and arenas of a finished program. Raises ``ProgramError`` for a program that cannot be run."""
    return _Packer(program).packed()


def pack_strokes(program: Program) -> PackedStrokes:
    """Tables and arenas of a finished program of whole maps alone. Raises ``ProgramError`` for a program that cannot be run."""
    return _Packer(program).packed_strokes()


_packed: WeakKeyDictionary[Program, Packed] = WeakKeyDictionary()


@keeping
def packed(program: Program) -> Packed:
    """``pack``, once for each program."""
    if program not in _packed:
        _packed[program] = pack(program)
    return _packed[program]


def write_condition(memory: np.ndarray, offsets: np.ndarray, condition: Tensor) -> None:
    """Write conditions to where a program reads them.

    memory: arenas (B, stride), changed in place.
    offsets: of the condition's values in an arena.
    condition: one per image, as a checked tensor; a class is written as its one-hot row.
    """
    values = condition.detach()
    values = values if values.is_floating_point() else torch.nn.functional.one_hot(values, len(offsets))
    memory[:, offsets] = values.float().flatten(1).numpy()


class _Packer:
    def __init__(self, program: Program) -> None:
        self.program = program
        if not program.passes:
            raise ProgramError("program: it has no pass")
        every = [phase for each in program.passes for phase in each.phases.values()]
        operations = [op for phase in every for op in phase.operations]
        for op in operations:
            if op.kind not in OPERATIONS:
                raise ProgramError(f"program: unknown operation {op.kind!r}; known are {', '.join(OPERATIONS)}")
            grid = op.grid
            if not 0 <= grid.level < 32 or any(not 0 <= n < 2**31 for n in (grid.row_mask, grid.column_mask, grid.columns, grid.rows)):
                raise ProgramError(f"program: a {op.kind} operation runs at {grid}")
        if unknown := {phase.kind for phase in every} - PHASES.keys():
            raise ProgramError(f"program: unknown phase {min(unknown)!r}; known are {', '.join(PHASES)}")
        # An arena starts with zeros: an operation without an initial view starts from these.
        size = aligned(max((op.destination.size for op in operations), default=0))
        self.start: dict[Buffer, int] = {}
        for buffer in program.buffers:
            self.start[buffer] = size
            surroundings = (buffer.before, buffer.after, buffer.above, buffer.below)
            if min(*surroundings, buffer.columns, buffer.width, buffer.rows) < 0 or not 0 <= buffer.level < 32:
                raise ProgramError(f"program: a map of {buffer.columns} columns of {buffer.width} values at level {buffer.level}")
            sizes = ((buffer.rows, 1), (buffer.columns, 1), (buffer.width,))
            if buffer.initial is not None and not all(n in size for n, size in zip(buffer.initial.shape[::-1], sizes[::-1], strict=False)):
                raise ProgramError(f"program: initial values of shape {tuple(buffer.initial.shape)} for a map of width {buffer.width}")
            size = aligned(size + _size(buffer))
        if size > MAX_ARENA:
            raise ProgramError(f"program: its maps take {size:,} values per image, at most {MAX_ARENA:,} fit")
        # Images lie an odd number of cache lines off a multiple of 4096 bytes apart: the rows of a product then fall into different sets.
        self.stride = size + (80 - size) % 1024
        self.weights: list[np.ndarray] = [np.zeros(aligned(max((op.destination.size for op in operations), default=0)), np.float32)]
        self.weights_size = len(self.weights[0])
        self.scratch = 0

    def packed(self) -> Packed:
        program, spec = self.program, self.program.spec
        for each in program.passes:
            if each.input is None or None in each.outputs:
                raise ProgramError("program: it has no input, or a colour group without an output")
            if each.input.size != spec.channels + each.ones:
                raise ProgramError(f"program: an input of {each.input.size} values for {spec.channels} channels")
        rows: list[list[int]] = []
        phases: list[list[int]] = []
        passes: list[list[int]] = []
        outputs: list[list[int]] = []
        step = 0
        for each in program.passes:
            begin = len(phases)
            for phase in sorted(each.phases.values(), key=lambda phase: {"start": 0, "frame": 0, "channel": 2}.get(phase.kind, 1)):
                first = len(rows)
                rows += [self._operation(each, phase, op) for op in phase.operations]
                argument = phase.index if phase.kind == "channel" else phase.first_row
                phases.append([first, len(rows), PHASES[phase.kind], argument])
            assert each.input is not None
            self._check(each.input, each.width, 1, "the input")
            start, distance, _ = self._view(each.input)
            fields = [step, each.width, begin, len(phases), start, distance, int(each.ones), each.spacing, each.known, each.height]
            passes.append(fields)
            step += each.frames * each.height * each.width * program.groups
            for view in each.outputs:
                assert view is not None
                self._check(view, each.width, 1, "an output")
                if program.head is not None and view.size != (expected := self._head_size(program.head)):
                    raise ProgramError(f"program: {program.head} takes {expected} values per step, an output has {view.size}")
                outputs.append([*self._view(view)[:2], view.size])
        if program.decided().shape != (spec.size,):
            raise ProgramError(f"program: its passes decide {len(program.decided())} values of {spec.size}")
        head, picture = program.head, program.picture
        layout = codes.Layout(
            channels=spec.channels,
            groups=program.groups,
            levels=spec.levels,
            frame=spec.size // spec.frames if spec.frames > 1 else 0,
            stride=self.stride,
            picture=-1 if picture is None else self._view(picture)[0],
            picture_row=0 if picture is None else self._view(picture)[2],
            picture_step=0 if picture is None else self._view(picture)[1],
            head=codes.SOFTMAX if head is None else HEADS[head.kind],
            components=0 if head is None else head.components,
        )
        return Packed(
            spec.size,
            head is not None,
            Tables(
                np.array(program.steps(), np.int64),
                np.array(rows, np.int64).reshape(-1, codes.OPERATION_FIELDS),
                np.array(phases, np.int64).reshape(-1, 4),
                np.array(passes, np.int64).reshape(-1, codes.PASS_FIELDS),
                np.array(outputs, np.int64).reshape(-1, 3),
                layout,
                aligned_copy(np.concatenate(self.weights)),
                np.arange(spec.levels, dtype=np.float32) * np.float32(2 / (spec.levels - 1)) - np.float32(1),
            ),
            self._initial(),
            None if program.condition is None else self._condition_offsets(program.condition),
            self.scratch,
            self._lag(),
        )

    def packed_strokes(self) -> PackedStrokes:
        (each,), condition = self.program.passes, self.program.condition
        if any(phase.kind not in WHOLE for phase in each.phases.values()):
            raise ProgramError("program: it has phases of rows or pixels, so it is no program of strokes")
        rows = {key: [self._operation(each, phase, op) for op in phase.operations] for key, phase in each.phases.items()}
        return PackedStrokes(
            {key: np.array(table, np.int64).reshape(-1, codes.OPERATION_FIELDS) for key, table in rows.items()},
            aligned_copy(np.concatenate(self.weights)),
            self._initial(),
            None if condition is None else self._condition_offsets(condition),
            self.start,
        )

    def _initial(self) -> np.ndarray:
        """An image's arena at first."""
        initial = np.zeros(self.stride, np.float32)
        for buffer, start in self.start.items():
            if buffer.initial is None:
                continue
            whole = initial[start : start + _size(buffer)]
            if buffer.initial.dim() == 1:
                whole[:] = np.tile(_array(buffer.initial), len(whole) // buffer.width)
            else:
                inside(whole, buffer)[:] = _array(buffer.initial)
        return initial

    def _lag(self) -> int:
        spec, program = self.program.spec, self.program
        if spec.frames > 1 or len(program.passes) > 1 or not torch.equal(program.decided(), raster_order(spec, program.colours)):
            return 0
        return 1 + max((op.grid.row_mask for phase in program.all_phases() for op in phase.operations), default=0)

    def _condition_offsets(self, condition: View) -> np.ndarray:
        """Offsets of the values of a vector or a spatial map (c, h, w), flat."""
        start, step, row_step = self._view(condition)
        rows, columns = max(1, condition.buffer.rows), condition.buffer.columns
        self._check(condition, columns, rows, "the condition")
        channel, row, column = np.ix_(np.arange(condition.size), np.arange(rows), np.arange(columns))
        return (start + channel + row * row_step + column * step).reshape(-1)

    def _head_size(self, head: Head) -> int:
        """Values that a step of the program passes to its head."""
        channels, groups = self.program.spec.channels, self.program.groups
        if head.kind == "mixture":
            return head.components * (1 + 2 * channels + channels * (channels - 1) // 2) if groups == 1 else 0
        if head.kind == "gaussian":
            return channels // groups * 3 * head.components
        if head.kind == "softmax":
            return channels // groups * self.program.spec.levels
        return channels // groups if self.program.spec.levels == 2 else 0

    def _view(self, view: View) -> tuple[int, int, int]:
        """Offset at column 0 of row 0, distance between columns, and between rows."""
        buffer = view.buffer
        start = self.start[buffer] + (0 if buffer.single else (buffer.before + view.shift) * buffer.width) + view.offset
        start += (buffer.above + view.row_shift) * buffer.row_length if buffer.rows else 0
        return start, 0 if buffer.single else view.step * buffer.width, view.row_step * buffer.row_length if buffer.rows else 0

    def _check(self, view: View, columns: int, rows: int, what: str) -> None:
        """Every column of the view in every row lies inside its buffer, and inside its row."""
        buffer = view.buffer
        if buffer not in self.start:
            raise ProgramError(f"program: {what} reads a map that is not of this program")
        start, step, row_step = self._view(view)
        low, length = self.start[buffer], buffer.row_length
        last = start + (rows - 1) * row_step
        inside = low <= start and last < low + _size(buffer) and (start - low) % max(1, length) + (columns - 1) * step + view.size <= length
        if view.size < 0 or (min(columns, rows, view.size) > 0 and (not inside or min(step, row_step) < 0)):
            raise ProgramError(f"program: {what} leaves its map of {buffer.columns} columns of {buffer.width} values")

    def _operation(self, each: Pass, phase: Phase, op: Operation) -> list[int]:
        grid = op.grid
        together = phase.kind in (*WHOLE, "row")
        if together:
            columns = grid.columns
        else:
            columns = 1 + max((at >> grid.level for at in range(each.width) if at & grid.column_mask == grid.column_value), default=-1)
        for name, view in (("source", op.source), ("destination", op.destination), ("initial", op.initial)):
            if view is not None:
                self._check(view, columns, grid.rows if phase.kind in WHOLE else each.height, f"the {name} of a {op.kind} operation")
        rule = OPERATIONS[op.kind]
        if op.source.size * rule.destination != op.destination.size * rule.source:
            raise ProgramError(f"program: a {op.kind} operation makes {op.destination.size} values of {op.source.size}")
        base = op.destination.size // rule.destination * rule.base if rule.base else 0
        if base and (op.initial is None or op.initial.size != base):
            raise ProgramError(f"program: a {op.kind} operation needs a base of {base} values")
        if op.source.buffer is op.destination.buffer and not (rule.in_place and op.source == op.destination):
            self._refuse_overlap(op, columns, together)
        weight, bias, point_weights = (0, 0, 0) if op.kind != "linear" else self._weight(op, phase.kind == "row")
        return [
            rule.code,
            *self._view(op.source),
            *self._view(op.destination),
            *((0, 0, 0) if op.initial is None else self._view(op.initial)),
            op.source.size,
            op.destination.size,
            weight,
            bias,
            point_weights,
            columns,
            grid.rows,
            *(grid.row_mask, grid.row_value, grid.column_mask, grid.column_value, grid.level),
        ]

    def _refuse_overlap(self, op: Operation, columns: int, together: bool) -> None:
        """An operation that writes what it still reads would depend on how many rows of a product are computed at a time."""

        def offsets(view: View, first: int, last: int) -> np.ndarray:
            start, step, _ = self._view(view)
            return (start + step * np.arange(first, last)[:, None] + np.arange(view.size)).reshape(-1)

        for first, last in [(0, columns)] if together else [(j, j + 1) for j in range(columns)]:
            if np.intersect1d(offsets(op.source, first, last), offsets(op.destination, first, last)).size:
                raise ProgramError(f"program: a {op.kind} operation writes over what it reads")

    def _weight(self, op: Operation, across: bool) -> tuple[int, int, int]:
        """Offsets of the weight's panels, of the bias, padded to whole panels, and of the weights at points, 0 if there are none."""
        inputs, outputs = op.source.size, op.destination.size
        if op.weight is None or tuple(op.weight.shape) != (inputs, outputs):
            raise ProgramError(f"program: a linear operation from {inputs} to {outputs} values has a weight of another shape")
        weight, bias = _array(op.weight), 0
        if op.bias is not None:
            if tuple(op.bias.shape) != (outputs,):
                raise ProgramError(f"program: a bias of shape {tuple(op.bias.shape)} for {outputs} outputs")
            bias = self._add(np.pad(_array(op.bias), (0, aligned(outputs) - outputs)))
        source, points = op.source, 0
        window = source.step == 1 and source.offset == 0 and source.size == 3 * source.buffer.width >= 48 and not source.buffer.single
        if across and window and op.destination.step == 1 and op.grid.columns >= TILE:
            tiles = op.grid.columns // TILE
            rows = max(1, GROUP_ROWS // tiles) * tiles
            self.scratch = max(self.scratch, POINTS * rows * (inputs // 3 + aligned(outputs)))
            points = self._add(np.concatenate([panels(part) for part in weights_at_points(weight.reshape(3, inputs // 3, outputs))]))
        return self._add(panels(weight)), bias, points

    def _add(self, values: np.ndarray) -> int:
        start = self.weights_size
        self.weights.append(values)
        self.weights_size += len(values)
        return start


def inside(memory: np.ndarray, buffer: Buffer) -> np.ndarray:
    """A whole map without its padding: (…, rows, columns, width), a view.

    memory: of the map with its padding, (…, values).
    buffer: which map.
    """
    padded = memory.reshape(*memory.shape[:-1], buffer.above + buffer.rows + buffer.below, -1, buffer.width)
    return padded[..., buffer.above : buffer.above + buffer.rows, buffer.before : buffer.before + buffer.columns, :]


def _size(buffer: Buffer) -> int:
    return (buffer.above + max(1, buffer.rows) + buffer.below) * buffer.row_length


def _array(x: Tensor) -> np.ndarray:
    if x.dtype != torch.float32 or x.device.type != "cpu":
        raise ProgramError(f"program: the native interpreter computes in float32 on a CPU, this one holds {x.dtype} on {x.device}")
    return x.detach().numpy() + np.float32(0)                             # −0 is 0: models that differ by it are one
