"""Runs a step program with torch, any device and dtype: buffers allocated once, a view for every operand, ``out=`` calls.

Each operation becomes a few bound calls (torch function, operands), made when the walk first reaches its column and kept,
so a step is a loop over them and nothing else. B images, j columns, K inputs and N outputs of a linear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ..native.codes import LIMIT
from .builder import OPERATIONS, Buffer, Kind, Operation, Pass, Phase, Program, View

Call: TypeAlias = Callable[[], object]
Base: TypeAlias = Sequence[Tensor]
Scratch: TypeAlias = Callable[[torch.Size], Tensor]

# ── elementwise operations: source, parts of the base, destination → calls ───────────────────────────────────────────


def _parts(kind: Kind, source: Tensor) -> Sequence[Tensor]:
    return source.chunk(OPERATIONS[kind].source, -1)


def _copy(source: Tensor, base: Base, out: Tensor, scratch: Scratch) -> list[Call]:
    return [partial(out.copy_, source)]


def _add(source: Tensor, base: Base, out: Tensor, scratch: Scratch) -> list[Call]:
    return [partial(torch.add, base[0], source, out=out)]


def _multiply(source: Tensor, base: Base, out: Tensor, scratch: Scratch) -> list[Call]:
    return [partial(torch.mul, base[0], source, out=out)]


def _clamp(source: Tensor, base: Base, out: Tensor, scratch: Scratch) -> list[Call]:
    return [partial(torch.clamp, source, -LIMIT, LIMIT, out=out)]


def _relu(source: Tensor, base: Base, out: Tensor, scratch: Scratch) -> list[Call]:
    return [partial(torch.clamp_min, source, 0.0, out=out)]


def _elu(source: Tensor, base: Base, out: Tensor, scratch: Scratch) -> list[Call]:
    return [partial(out.copy_, source), partial(F.elu_, out)]


def _square(source: Tensor, base: Base, out: Tensor, scratch: Scratch) -> list[Call]:
    return [partial(torch.mul, source, source, out=out)]


def _glu(source: Tensor, base: Base, out: Tensor, scratch: Scratch) -> list[Call]:
    a, b = _parts("glu", source)
    opened = scratch(out.shape)
    return [partial(torch.sigmoid, b, out=opened), partial(torch.addcmul, base[0], a, opened, out=out)]


def _lstm(source: Tensor, base: Base, out: Tensor, scratch: Scratch) -> list[Call]:
    (o, f, i, g), (cell,) = _parts("lstm", source), base
    kept, entering, shown = torch.empty_like(out), torch.empty_like(out), torch.empty_like(out)
    return [
        partial(torch.sigmoid, o, out=shown),
        partial(torch.sigmoid, f, out=kept),
        partial(torch.sigmoid, i, out=entering),
        partial(torch.tanh, g, out=out),
        partial(cell.mul_, kept),
        partial(cell.addcmul_, entering, out),
        partial(torch.tanh, cell, out=kept),
        partial(torch.mul, kept, shown, out=out),
    ]


def _spatial_lstm(source: Tensor, base: Base, out: Tensor, scratch: Scratch) -> list[Call]:
    *_, g = _parts("spatial_lstm", source)
    left, cell = base
    gates = source[..., : -g.shape[-1]]
    opened, kept = scratch(gates.shape), torch.empty_like(out)
    shown, left_gate, up_gate, entering = opened.chunk(4, -1)
    return [
        partial(torch.sigmoid, gates, out=opened),
        partial(torch.tanh, g, out=out),
        partial(torch.mul, left, left_gate, out=kept),
        partial(kept.addcmul_, entering, out),
        partial(cell.mul_, up_gate),
        partial(cell.add_, kept),
        partial(torch.mul, shown, cell, out=kept),
        partial(torch.tanh, kept, out=out),
    ]


def _multiplicative(source: Tensor, base: Base, out: Tensor, scratch: Scratch) -> list[Call]:
    *_, u = _parts("multiplicative", source)
    (h,) = base
    opened, inner, content = scratch(source.shape), torch.empty_like(out), torch.empty_like(out)
    shown, kept, entering, _ = _parts("multiplicative", opened)
    return [
        partial(torch.sigmoid, source, out=opened),
        partial(torch.tanh, u, out=content),
        partial(torch.mul, kept, h, out=inner),
        partial(inner.addcmul_, entering, content),
        inner.tanh_,
        partial(torch.mul, shown, inner, out=out),
    ]


AROUND = ("least_squares", "surroundings")

# Gates and concat_elu need the interpreter's own memory, a linear its weights: they are methods.
_ELEMENTWISE: dict[Kind, Callable[[Tensor, Base, Tensor, Scratch], list[Call]]] = {
    "copy": _copy, "add": _add, "relu": _relu, "elu": _elu, "square": _square, "glu": _glu, "lstm": _lstm, "spatial_lstm": _spatial_lstm,
    "multiplicative": _multiplicative, "multiply": _multiply, "clamp": _clamp,
}  # fmt: skip

# ── the interpreter ──────────────────────────────────────────────────────────────────────────────────────────────────


class _Pass:
    """A pass and its operands: inputs[column][channel] and ones[column] (B,), outputs[group][column] (B, P)."""

    def __init__(self, raster: Pass, first_step: int, at: Callable[[View, int], Tensor]) -> None:
        self.raster, self.first_step = raster, first_step
        columns = range(raster.width)
        pixels = [] if raster.input is None else [at(raster.input, column) for column in columns]
        self.inputs = [list(pixel.unbind(1)) for pixel in pixels]
        self.ones = [values.pop() for values in self.inputs] if raster.ones else None
        self.outputs = [[at(view, column) for column in columns] for view in raster.outputs if view is not None]
        self.start, self.frame = (
            [op for (kind, _), phase in raster.phases.items() if kind == whole for op in phase.operations] for whole in ("start", "frame")
        )
        self.before_row = [phase for (kind, _), phase in raster.phases.items() if kind in ("row", "row_reversed")]


class TorchInterpreter:
    """The state of one batch of images within a program.

    program: finished.
    batch: number of images B.
    dtype, device: of the arithmetic.
    condition: one per image, as a checked tensor; None (default) for an unconditional model.
    """

    decides: frozenset[str] = frozenset()   # a distribution and a chooser in Python decide

    def __init__(
        self,
        program: Program,
        batch: int,
        dtype: torch.dtype,
        device: torch.device,
        condition: Tensor | None = None,
    ) -> None:
        self.program, self.batch, self.dtype, self.device = program, batch, dtype, device
        self.spec = program.spec
        self._memory = {buffer: self._allocate(buffer) for buffer in program.buffers}
        self._row_period = 1 + max(op.grid.row_mask for each in program.passes for phase in each.phases.values() for op in phase.operations)
        self._gate_scales: dict[int, Tensor] = {}
        self._folded = self._fold_gates()
        self._scratches: dict[torch.Size, Tensor] = {}
        self._calls: dict[tuple[Phase, int, int], list[Call]] = {}
        self._compiled_calls: dict[tuple[Operation, int, int], list[Call]] = {}
        self._steps, self._channels = program.steps(), self.spec.channels // program.groups
        self._ran = 0
        self._scaled = self.spec.scale(torch.arange(self.spec.levels, device=device), dtype)
        self._passes, step = [], 0
        for each in program.passes:
            self._passes.append(_Pass(each, step, self._at))
            step += each.frames * each.height * each.width * program.groups
        self._set_condition(condition)

    def _set_condition(self, condition: Tensor | None) -> None:
        self.condition, view = condition, self.program.condition
        if view is None:
            return
        assert condition is not None
        values = condition if condition.is_floating_point() else F.one_hot(condition, view.size)
        if values.dim() == 2:
            self._at(view, 0).copy_(values)
        else:
            for row, columns in enumerate(values.permute(2, 0, 3, 1)):
                self._across(view, values.shape[3], row).copy_(columns)

    def _allocate(self, buffer: Buffer) -> Tensor:
        rows, columns = buffer.above + max(1, buffer.rows) + buffer.below, buffer.before + buffer.columns + buffer.after
        memory = torch.zeros(self.batch, rows * columns, buffer.width, dtype=self.dtype, device=self.device)
        if buffer.initial is not None and buffer.initial.dim() == 1:
            memory[:] = buffer.initial
        elif buffer.initial is not None:
            self._inside(memory, buffer).copy_(buffer.initial)
        return memory

    @staticmethod
    def _inside(memory: Tensor, buffer: Buffer) -> Tensor:
        """A whole map without its padding, (B, rows, columns, width)."""
        rows = memory.unflatten(1, (buffer.above + buffer.rows + buffer.below, -1))
        return rows[:, buffer.above : buffer.above + buffer.rows, buffer.before : buffer.before + buffer.columns]

    # ── the walk's side ──────────────────────────────────────────────────────────────────────────────────────────────

    def parameters(self, t: int) -> Tensor:
        """The output of the pixel or colour group that decision number ``t`` belongs to.

        Returns a view (B, P), valid until the next call.
        """
        self._advance(self._steps[t // self._channels])
        here, _, column, group = self._place(self._steps[t // self._channels])
        return here.outputs[group][column]

    def write(self, t: int, value: Tensor) -> None:
        """Write the value of a decision to the input map.

        t: number of the decision.
        value: integer levels (B,), int64.

        Raises ``ValueError`` for values that are no levels of the model.
        """
        self._advance(self._steps[t // self._channels])
        here, row, column, _ = self._place(self._steps[t // self._channels])
        channel = t % self.spec.channels
        try:
            torch.index_select(self._scaled, 0, value, out=here.inputs[column][channel])
        except IndexError:
            low, high = int(value.min()), int(value.max())
            raise ValueError(f"values: levels must lie in 0 … {self.spec.levels - 1}, got {low} … {high}") from None
        if here.ones and channel == 0:
            here.ones[column].fill_(1.0)
        if self.program.picture is not None:
            self._drawn(here, row, column)[:, channel].copy_(here.inputs[column][channel])

    def take_frames(self, t: int, values: Tensor) -> int:
        """Take the whole frames among known values without running a step.

        t: number of the first decision.
        values: integer levels (B, n) of the decisions from ``t`` on.

        Returns how many decisions were taken, 0 for an image.
        """
        spec, size = self.spec, self.spec.size // self.spec.frames
        if spec.frames == 1 or t % size or self._ran != self._steps[t // self._channels]:
            return 0
        frames = values[:, : values.shape[1] // size * size].unflatten(1, (-1, spec.height, spec.width, spec.channels)).unbind(1)
        for frame in frames:
            self._begin_frame(self._passes[0], self._ran == 0)
            if self.program.picture is not None:
                for row in range(spec.height):
                    self._across(self.program.picture, spec.width, row).copy_(self._scaled[frame[:, row]])
            self._ran += size // self._channels
        return len(frames) * size

    def select(self, index: Tensor) -> TorchInterpreter:
        """The same point of the walk for the images at ``index``, integers (n,)."""
        condition = None if self.condition is None else self.condition[index]
        other = TorchInterpreter(self.program, len(index), self.dtype, self.device, condition)
        other._continue(self, index)
        return other

    def _continue(self, other: TorchInterpreter, index: Tensor) -> None:
        """Stand where the images at ``index`` of another interpreter stand."""
        for buffer, memory in self._memory.items():
            memory.copy_(other._memory[buffer][index])
        self._ran = other._ran

    def _place(self, step: int) -> tuple[_Pass, int, int, int]:
        """The pass of a step, its row, column and colour group."""
        here = next(each for each in reversed(self._passes) if step >= each.first_step)
        pixel, group = divmod(step - here.first_step, self.program.groups)
        return here, pixel // here.raster.width % here.raster.height, pixel % here.raster.width, group

    def _drawn(self, here: _Pass, row: int, column: int) -> Tensor:
        """(B, C): where the values of a pass's position stand for later passes."""
        assert self.program.picture is not None
        return self._at(self.program.picture, column * here.raster.spacing, row * here.raster.spacing)

    def _advance(self, step: int) -> None:
        """Run what steps up to and including ``step`` need and has not run yet."""
        while self._ran <= step:
            here, row, column, group = self._place(self._ran)
            if column == 0 and group == 0:
                if row == 0:
                    self._begin_frame(here, self._ran == here.first_step)
                for phase in here.before_row:
                    if row >= phase.first_row:
                        for at in range(here.raster.width - 1, -1, -1) if phase.kind == "row_reversed" else (-1,):
                            self._run(self._phase(phase, row, at))
            self._run(self._phase(here.raster.phases["channel", group], row, column))
            known = here.raster.known
            if known and row % known == column % known == 0:
                drawn = self._drawn(here, row, column)
                for channel in range(group * self._channels, (group + 1) * self._channels):
                    here.inputs[column][channel].copy_(drawn[:, channel])
                if here.ones:
                    here.ones[column].fill_(1.0)
            self._ran += 1

    def _begin_frame(self, here: _Pass, first: bool) -> None:
        self._run_whole(here.start if first else here.frame)

    def _run_whole(self, operations: Iterable[Operation]) -> None:
        for op in operations:
            for at in range(op.grid.rows):
                self._run(self._compiled(op, -1, at))

    @staticmethod
    def _run(calls: Iterable[Call]) -> None:
        for call in calls:
            call()

    def _phase(self, phase: Phase, row: int, column: int) -> list[Call]:
        """The calls of a phase at a column, or at all of a row's columns at once (column −1)."""
        key = (phase, row if self._has_whole_maps(phase) else row % self._row_period, column)
        if key not in self._calls:
            calls: list[Call] = []
            for op in phase.operations:
                grid = op.grid
                if row & grid.row_mask != grid.row_value:
                    continue
                if column < 0:
                    calls += self._compiled(op, column, row)
                elif column & grid.column_mask == grid.column_value:
                    calls += self._compiled(op, column >> grid.level, row)
            self._calls[key] = calls
        return self._calls[key]

    @staticmethod
    def _has_whole_maps(phase: Phase) -> bool:
        return any(view is not None and view.buffer.rows for op in phase.operations for view in (op.source, op.destination, op.initial))

    def _compiled(self, op: Operation, j: int, row: int) -> list[Call]:
        """The calls of an operation at column index ``j`` (all: −1), the same in every row but for whole maps."""
        row = row if any(view is not None and view.buffer.rows for view in (op.source, op.destination, op.initial)) else 0
        if (op, j, row) not in self._compiled_calls:
            columns = op.grid.columns
            if op.kind in AROUND:
                calls = self._around(op, j, row)
            else:
                calls = self._compile(op, lambda view: self._across(view, columns, row) if j < 0 else self._at(view, j, row))
            self._compiled_calls[op, j, row] = calls
        return self._compiled_calls[op, j, row]

    # ── views and calls ──────────────────────────────────────────────────────────────────────────────────────────────

    def _row_start(self, view: View, row: int) -> int:
        return (view.buffer.above + row * view.row_step + view.row_shift) * view.buffer.row_length if view.buffer.rows else 0

    def _at(self, view: View, j: int, row: int = 0) -> Tensor:
        """The view at column index ``j``, of a whole map in ``row``: (B, size)."""
        memory, buffer = self._memory[view.buffer], view.buffer
        column = 0 if buffer.single else buffer.before + j * view.step + view.shift
        start = self._row_start(view, row) + column * buffer.width + view.offset
        return memory.as_strided((self.batch, view.size), (memory.stride(0), 1), start)

    def _across(self, view: View, columns: int, row: int) -> Tensor:
        """The view at the first ``columns`` column indices: (B, columns, size); windows overlap."""
        memory, buffer = self._memory[view.buffer], view.buffer
        if buffer.single:
            return memory[:, :, view.offset : view.offset + view.size].expand(-1, columns, -1)
        start = self._row_start(view, row) + (buffer.before + view.shift) * buffer.width + view.offset
        return memory.as_strided((self.batch, columns, view.size), (memory.stride(0), view.step * buffer.width, 1), start)

    def _compile(self, op: Operation, tensor: Callable[[View], Tensor]) -> list[Call]:
        """The calls of an operation on the tensors of its operands."""
        source, out = tensor(op.source), tensor(op.destination)
        initial = None if op.initial is None else tensor(op.initial)
        if op.kind == "linear":
            return self._linear(self._folded.get(op, op), source, out, initial)
        rule = OPERATIONS[op.kind]
        assert initial is not None or not rule.base, f"{op.kind} needs a base"
        base = () if initial is None or not rule.base else initial.chunk(rule.base, -1)
        if op.kind == "gate":
            return self._gate(op, source, out)
        if op.kind == "concat_elu":
            return self._concat_elu(source, out)
        return _ELEMENTWISE[op.kind](source, base, out, self._scratch)

    def _around(self, op: Operation, j: int, row: int) -> list[Call]:
        """An operation on a pixel of whole maps and what is around it: the compiled function itself, image by image, in this precision."""
        from ..native.least_squares import predict, surroundings

        picture, initial, destination = op.source, op.initial, op.destination
        assert initial is not None
        other = destination if op.kind == "least_squares" else initial

        def at(view: View) -> int:
            return self._row_start(view, row) + (0 if view.buffer.single else view.buffer.before + j) * view.buffer.width + view.offset

        steps = [step for view in (picture, other) for step in (view.buffer.row_length, view.buffer.width)]
        place = row, j, op.grid.columns, picture.buffer.width

        def call() -> None:
            buffers = {view.buffer for view in (picture, initial, destination)}
            arrays = {buffer: self._memory[buffer].flatten(1).cpu().numpy() for buffer in buffers}
            for image in range(self.batch):
                v, i, d = (arrays[view.buffer][image] for view in (picture, initial, destination))
                if op.kind == "least_squares":
                    predict(v, at(picture), *steps[:2], d, at(destination), *steps[2:], i, at(initial), *place, picture.size - 1)
                else:
                    surroundings(v, at(picture), *steps[:2], i, at(initial), *steps[2:], d, at(destination), *place)
            if self.device.type != "cpu":
                for buffer, array in arrays.items():
                    self._memory[buffer].copy_(torch.from_numpy(array).view_as(self._memory[buffer]))

        return [call]

    def _gate(self, op: Operation, source: Tensor, out: Tensor) -> list[Call]:
        """(1 − 2 σ(−2a)) σ(b): torch's tanh costs four sigmoids on a CPU."""
        both = self._scratch(source.shape)
        a, b = both.chunk(2, -1)
        calls: list[Call] = [partial(torch.addcmul, b, a, b, value=-2.0, out=out)]
        if op in self._folded:
            return [partial(torch.sigmoid, source, out=both), *calls]
        return [partial(torch.mul, source, self._gate_scale(source.shape[-1] // 2), out=both), both.sigmoid_, *calls]

    def _concat_elu(self, source: Tensor, out: Tensor) -> list[Call]:
        plus, minus = out.chunk(2, -1)
        if source.dim() == 2:
            return [partial(plus.copy_, source), partial(torch.neg, source, out=minus), partial(F.elu_, out)]
        # A whole row: max(±x, exp(−|x|) − 1), one exponential for both halves, is more calls and less work.
        below = self._scratch(source.shape)
        return [
            partial(torch.neg, source, out=minus),
            partial(torch.minimum, source, minus, out=below),
            below.expm1_,
            partial(torch.maximum, source, below, out=plus),
            partial(torch.maximum, minus, below, out=minus),
        ]

    def _scratch(self, shape: torch.Size) -> Tensor:
        """Memory for use within one operation, the same for all of them, so that it stays in the cache."""
        if shape not in self._scratches:
            self._scratches[shape] = torch.empty(shape, dtype=self.dtype, device=self.device)
        return self._scratches[shape]

    def _gate_scale(self, n: int) -> Tensor:
        if n not in self._gate_scales:
            self._gate_scales[n] = torch.tensor([-2.0] * n + [1.0] * n, dtype=self.dtype, device=self.device)
        return self._gate_scales[n]

    def _fold_gates(self) -> dict[Operation, Operation]:
        """Gates that read −2 a instead of a, and the linears that write it, with the factor in their weights: no bit of the result changes.

        Only for maps that linears alone write, from zero or onto what is there, and gates alone read.
        """
        operations = [op for each in self.program.passes for phase in each.phases.values() for op in phase.operations]
        factors: dict[Buffer, Tensor] = {}
        kept = {view.buffer for each in self.program.passes for view in each.outputs if view is not None}
        for op in operations:
            if op.kind == "gate":
                factor = factors.setdefault(op.source.buffer, torch.ones(op.source.buffer.width, dtype=self.dtype, device=self.device))
                factor[op.source.offset : op.source.offset + op.source.size // 2] = -2.0
            else:
                kept.add(op.source.buffer)
            if op.kind != "linear" or op.initial not in (None, op.destination):
                kept.update(view.buffer for view in (op.destination, op.initial) if view is not None)
        folded: dict[Operation, Operation] = {}
        for op in operations:
            view = op.source if op.kind == "gate" else op.destination
            if view.buffer not in factors or view.buffer in kept or view.buffer.initial is not None:
                continue
            factor = factors[view.buffer][view.offset : view.offset + view.size]
            if op.kind == "gate":
                assert torch.equal(factor, self._gate_scale(view.size // 2)), "gates do not overlap"
                folded[op] = op
            else:
                assert op.weight is not None
                folded[op] = replace(op, weight=op.weight * factor, bias=None if op.bias is None else op.bias * factor)
        return folded

    def _overlapping(self, op: Operation, out: Tensor, initial: Tensor | None) -> list[Call]:
        """A window over whole rows, their padding included: one addmm for each of its columns, on the flat map shifted by it."""
        assert op.weight is not None
        memory, buffer = self._memory[op.source.buffer], op.source.buffer
        columns = memory.shape[1]
        flat = memory.view(-1, buffer.width)
        first, count = buffer.before + op.source.shift, (self.batch - 1) * columns + out.shape[1]
        target = self._scratch(torch.Size((self.batch * columns, out.shape[-1])))
        shown, totals = target.view(self.batch, columns, -1)[:, : out.shape[1]], target[:count]
        rows = [flat[first + column : first + column + count] for column in range(op.source.size // buffer.width)]
        weights = op.weight.split(buffer.width)
        if initial is None and op.bias is not None:
            calls: list[Call] = [partial(torch.addmm, op.bias, rows[0], weights[0], out=totals)]
        else:
            calls = [partial(torch.mm, rows[0], weights[0], out=totals)]
            calls += [] if initial is None else [partial(shown.add_, initial)]
            calls += [] if op.bias is None else [partial(totals.add_, op.bias)]
        for row, weight in zip(rows[1:], weights[1:], strict=True):
            calls.append(partial(totals.addmm_, row, weight))
        return [*calls, partial(out.copy_, shown)]

    def _linear(self, op: Operation, source: Tensor, out: Tensor, initial: Tensor | None) -> list[Call]:
        """One addmm over (B · columns, K) rows; rows with gaps go through a contiguous copy, windows that overlap column by column."""
        assert op.weight is not None
        buffer = op.source.buffer
        if source.dim() == 3 and op.source.step == 1 and op.source.size > buffer.width >= 16 and not buffer.rows:
            return self._overlapping(op, out, initial)
        calls: list[Call] = []
        rows, target = source, out
        if source.dim() == 3:
            rows, target = source.reshape(-1, source.shape[-1]), out.view(-1, out.shape[-1]) if out.is_contiguous() else None
            if rows.data_ptr() != source.data_ptr():
                calls.append(partial(rows.view(source.shape).copy_, source))
            if target is None:
                target = torch.empty(rows.shape[0], out.shape[-1], dtype=self.dtype, device=self.device)
        start = op.bias if initial is None else initial
        if start is None:
            calls.append(partial(torch.mm, rows, op.weight, out=target))
        elif start.dim() < 3:
            calls.append(partial(torch.addmm, start, rows, op.weight, out=target))
        elif start.is_contiguous():
            calls.append(partial(torch.addmm, start.view(target.shape), rows, op.weight, out=target))
        else:
            calls += [partial(target.view(out.shape).copy_, start), partial(target.addmm_, rows, op.weight)]
        if initial is not None and op.bias is not None:
            calls.append(partial(target.add_, op.bias))
        if target.data_ptr() != out.data_ptr():
            calls.append(partial(out.copy_, target.view(out.shape)))
        return calls
