"""Runs a step program with the compiled kernels: float32 on a CPU, the same bits for any batch, threads and processor.

``pack`` turns a program into tables, a weight arena and the beginning of a state arena, and checks that every address lies inside them.
An image's arena is a row of ``memory`` (B, stride), so images are independent by construction; a batch runs in blocks of at most 16 images,
whose maps stay in the cache, one block a thread.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from ..codec.coder import FULL, Decoder, Encoder
from ..distributions import _not_finite as not_finite
from ..distributions import clamp_temperature, lowest_log_scale
from ..noise import uniform
from ..protocol import Work
from . import kernels
from .builder import Buffer, Head, Operation, Phase, Program, View

TINY = np.float32(1e-38)        # a tenth of it is denormal
LARGEST_ARENA = 1 << 31
CALL = 0.2                     # seconds
BLOCK = 16                     # images whose state stays in the cache
MODES = {"draw": kernels.DRAW, "force": kernels.FORCE, "encode": kernels.ENCODE, "decode": kernels.DECODE}
HEADS = {"bernoulli": kernels.BERNOULLI, "softmax": kernels.SOFTMAX, "mixture": kernels.MIXTURE}
PHASES = {"start": kernels.START, "row": kernels.ROW, "row_reversed": kernels.ROW_REVERSED, "channel": kernels.CHANNEL}


class PortabilityError(RuntimeError):
    """This machine, as it is set now, does not compute what docs/arithmetic.md says: its files would not decode elsewhere."""


class ProgramError(ValueError):
    """A program that the native interpreter cannot run: an operation it does not know, or an address outside its memory."""


# ── a program as tables ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Packed:
    """A program as the kernels read it, for any batch. beginning (stride,): an image's arena before the first decision."""

    decisions: int                 # of an image
    decides: bool                  # whether the program says its distribution
    layout: kernels.Layout
    operations: np.ndarray
    phases: np.ndarray
    outputs: np.ndarray            # (G, 3): offset at column 0, distance between columns, how many numbers
    weights: np.ndarray
    beginning: np.ndarray
    levels: np.ndarray             # (L,) float32: a level as the network reads it
    condition: tuple[int, int] | None  # offset and size of the condition vector
    scratch: int                   # numbers that an operation may use while it runs


def pack(program: Program) -> Packed:
    """Tables and arenas of a finished program. Raises ``ProgramError`` for what cannot be run."""
    return _Packer(program).packed()


_packed: WeakKeyDictionary[Program, Packed] = WeakKeyDictionary()


def packed(program: Program) -> Packed:
    """``pack``, once for each program."""
    if program not in _packed:
        _packed[program] = pack(program)
    return _packed[program]


class _Packer:
    def __init__(self, program: Program) -> None:
        self.program = program
        if program.input is None or None in program.outputs:
            raise ProgramError("program: it has no input, or a colour group without an output")
        if program.input.size != program.spec.channels + program.input_ones:
            raise ProgramError(f"program: an input of {program.input.size} numbers for {program.spec.channels} channels")
        operations = [op for phase in program.phases.values() for op in phase.operations]
        for op in operations:
            if op.kind not in kernels.KINDS:
                raise ProgramError(f"program: unknown operation {op.kind!r}; known are {', '.join(kernels.KINDS)}")
            grid = op.grid
            if not 0 <= grid.level < 32 or any(not 0 <= n < 2**31 for n in (grid.row_mask, grid.column_mask, grid.columns)):
                raise ProgramError(f"program: a {op.kind} operation runs at {grid}")
        if unknown := {phase.kind for phase in program.phases.values()} - PHASES.keys():
            raise ProgramError(f"program: unknown phase {min(unknown)!r}; known are {', '.join(PHASES)}")
        # An arena starts with zeros: what an operation without an initial view starts from.
        size = _aligned(max((op.destination.size for op in operations), default=0))
        self.place: dict[Buffer, int] = {}
        for buffer in program.buffers:
            self.place[buffer] = size
            if min(buffer.before, buffer.after, buffer.columns, buffer.width) < 0 or not 0 <= buffer.level < 32:
                raise ProgramError(f"program: a map of {buffer.columns} columns of {buffer.width} numbers at level {buffer.level}")
            if buffer.initial is not None and buffer.initial.shape != (buffer.width,):
                raise ProgramError(f"program: a beginning of shape {tuple(buffer.initial.shape)} for a map of width {buffer.width}")
            size = _aligned(size + (buffer.before + buffer.columns + buffer.after) * buffer.width)
        if size > LARGEST_ARENA:
            raise ProgramError(f"program: its maps take {size:,} numbers an image, at most {LARGEST_ARENA:,} fit")
        # Images lie an odd number of cache lines off a multiple of 4096 bytes apart: the rows of a product then fall into different sets.
        self.stride = size + (80 - size) % 1024
        self.weights: list[np.ndarray] = [np.zeros(_aligned(max((op.destination.size for op in operations), default=0)), np.float32)]
        self.weights_size = len(self.weights[0])
        self.scratch = max(BLOCK, 4, *(op.grid.columns for op in operations)) * kernels.PANEL

    def packed(self) -> Packed:
        program, spec = self.program, self.program.spec
        assert program.input is not None
        first = sorted(program.phases.values(), key=lambda phase: phase.kind != "start")
        rows: list[list[int]] = []
        phases: list[list[int]] = []
        for phase in first:
            begin = len(rows)
            rows += [self._operation(phase, op) for op in phase.operations]
            argument = phase.index if phase.kind == "channel" else phase.first_row
            phases.append([begin, len(rows), PHASES[phase.kind], argument])
        outputs = []
        for view in program.outputs:
            assert view is not None
            self._check(view, spec.width, "an output")
            if program.head is not None and view.size != (expected := self._numbers(program.head)):
                raise ProgramError(f"program: {program.head} takes {expected} numbers a step, an output has {view.size}")
            outputs.append([*self._view(view), view.size])
        self._check(program.input, spec.width, "the input")
        head = program.head
        beginning = np.zeros(self.stride, np.float32)
        for buffer, place in self.place.items():
            if buffer.initial is not None:
                columns = buffer.before + buffer.columns + buffer.after
                beginning[place : place + columns * buffer.width] = np.tile(_array(buffer.initial), columns)
        layout = kernels.Layout(
            width=spec.width,
            channels=spec.channels,
            groups=program.groups,
            levels=spec.levels,
            stride=self.stride,
            input=self._view(program.input)[0],
            input_step=self._view(program.input)[1],
            ones=int(program.input_ones),
            head=kernels.SOFTMAX if head is None else HEADS[head.kind],
            components=0 if head is None else head.components,
        )
        return Packed(
            spec.size,
            head is not None,
            layout,
            np.array(rows, np.int64).reshape(-1, kernels.OPERATION_FIELDS),
            np.array(phases, np.int64).reshape(-1, 4),
            np.array(outputs, np.int64).reshape(-1, 3),
            _aligned_copy(np.concatenate(self.weights)),
            beginning,
            np.arange(spec.levels, dtype=np.float32) * np.float32(2 / (spec.levels - 1)) - np.float32(1),
            None if program.condition is None else (self._view(program.condition)[0], program.condition.size),
            self.scratch,
        )

    def _numbers(self, head: Head) -> int:
        """How many numbers a step of the program gives to its head."""
        channels, groups = self.program.spec.channels, self.program.groups
        if head.kind == "mixture":
            return head.components * (1 + 2 * channels + channels * (channels - 1) // 2) if groups == 1 else 0
        if head.kind == "softmax":
            return channels // groups * self.program.spec.levels
        return channels // groups if self.program.spec.levels == 2 else 0

    def _view(self, view: View) -> tuple[int, int]:
        """Offset at column 0, distance between columns."""
        buffer = view.buffer
        start = self.place[buffer] + (0 if buffer.single else (buffer.before + view.shift) * buffer.width) + view.offset
        return start, 0 if buffer.single else view.step * buffer.width

    def _check(self, view: View, columns: int, what: str) -> None:
        """Every column of the view lies inside its buffer."""
        buffer = view.buffer
        if buffer not in self.place:
            raise ProgramError(f"program: {what} reads a map that is not of this program")
        start, step = self._view(view)
        low, high = self.place[buffer], self.place[buffer] + (buffer.before + buffer.columns + buffer.after) * buffer.width
        if columns > 0 and (start < low or start + (columns - 1) * step + view.size > high or view.size < 0 or step < 0):
            raise ProgramError(f"program: {what} leaves its map of {buffer.columns} columns of {buffer.width} numbers")

    def _operation(self, phase: Phase, op: Operation) -> list[int]:
        grid = op.grid
        if phase.kind == "row":
            columns = grid.columns
        else:
            reached = range(1 if phase.kind == "start" else self.program.spec.width)
            columns = 1 + max((at >> grid.level for at in reached if at & grid.column_mask == grid.column_value), default=-1)
        for name, view in (("source", op.source), ("destination", op.destination), ("initial", op.initial)):
            if view is not None:
                self._check(view, columns, f"the {name} of a {op.kind} operation")
        expected = {"gate": 2, "glu": 2, "lstm": 4, "concat_elu": 0.5, "linear": None}.get(op.kind, 1)
        if expected is not None and op.source.size != expected * op.destination.size:
            raise ProgramError(f"program: a {op.kind} operation makes {op.destination.size} numbers of {op.source.size}")
        if op.kind in ("glu", "lstm") and (op.initial is None or op.initial.size != op.destination.size):
            raise ProgramError(f"program: a {op.kind} operation needs a base of {op.destination.size} numbers")
        if op.source.buffer is op.destination.buffer and not (op.kind in ("relu", "elu", "copy") and op.source == op.destination):
            self._refuse_overlap(op, columns, together=phase.kind == "row")
        weight, bias, point_weights = (0, 0, 0) if op.kind != "linear" else self._weight(op, phase.kind == "row")
        return [
            kernels.KINDS[op.kind],
            *self._view(op.source),
            *self._view(op.destination),
            *((0, 0) if op.initial is None else self._view(op.initial)),
            op.source.size,
            op.destination.size,
            weight,
            bias,
            point_weights,
            columns,
            *(grid.row_mask, grid.row_value, grid.column_mask, grid.column_value, grid.level),
        ]

    def _refuse_overlap(self, op: Operation, columns: int, together: bool) -> None:
        """An operation that writes what it still reads would depend on how many rows of a product are computed at a time."""

        def places(view: View, first: int, last: int) -> np.ndarray:
            start, step = self._view(view)
            return (start + step * np.arange(first, last)[:, None] + np.arange(view.size)).reshape(-1)

        for first, last in [(0, columns)] if together else [(j, j + 1) for j in range(columns)]:
            if np.intersect1d(places(op.source, first, last), places(op.destination, first, last)).size:
                raise ProgramError(f"program: a {op.kind} operation writes over what it reads")

    def _weight(self, op: Operation, across: bool) -> tuple[int, int, int]:
        """Offsets of the weight's panels, of the bias, which is filled up to whole panels, and of a window's weights at six points."""
        inputs, outputs = op.source.size, op.destination.size
        if op.weight is None or tuple(op.weight.shape) != (inputs, outputs):
            raise ProgramError(f"program: a linear operation from {inputs} to {outputs} numbers has a weight of another shape")
        weight, bias = _array(op.weight), 0
        if op.bias is not None:
            if tuple(op.bias.shape) != (outputs,):
                raise ProgramError(f"program: a bias of shape {tuple(op.bias.shape)} for {outputs} outputs")
            bias = self._add(np.pad(_array(op.bias), (0, _aligned(outputs) - outputs)))
        source, points = op.source, 0
        window = source.step == 1 and source.offset == 0 and source.size == 3 * source.buffer.width >= 48 and not source.buffer.single
        if across and window and op.destination.step == 1 and op.grid.columns >= kernels.TILE:
            left, middle, right = weight.astype(np.float64).reshape(3, inputs // 3, outputs)
            # At 0, 1, −1, 2, −2 and infinity; each product and sum rounded in float64, the result in float32.
            even, wide, odd = left + right, left + 4.0 * right, 2.0 * middle
            at = [6.0 * left, -4.0 * (even + middle), -4.0 * (even - middle), wide + odd, wide - odd, 24.0 * right]
            tiles = op.grid.columns // kernels.TILE
            rows = max(1, kernels.GROUP_ROWS // tiles) * tiles
            self.scratch = max(self.scratch, kernels.POINTS * rows * (inputs // 3 + _aligned(outputs)))
            points = self._add(np.concatenate([_panels((number / 24.0).astype(np.float32)) for number in at]))
        return self._add(_panels(weight)), bias, points

    def _add(self, numbers: np.ndarray) -> int:
        place = self.weights_size
        self.weights.append(numbers)
        self.weights_size += len(numbers)
        return place


def _array(x: Tensor) -> np.ndarray:
    if x.dtype != torch.float32 or x.device.type != "cpu":
        raise ProgramError(f"program: the native interpreter computes in float32 on a CPU, this one holds {x.dtype} on {x.device}")
    return x.detach().numpy()


def _panels(weight: np.ndarray) -> np.ndarray:
    """(K, N) → (N / 16, K, 16), flat, filled up with zeros."""
    inputs, outputs = weight.shape
    whole = _aligned(outputs)
    matrix = np.pad(weight, ((0, 0), (0, whole - outputs))).reshape(inputs, whole // kernels.PANEL, kernels.PANEL)
    return np.ascontiguousarray(matrix.transpose(1, 0, 2)).reshape(-1)


def _aligned(size: int) -> int:
    return -(-size // kernels.PANEL) * kernels.PANEL


def _aligned_copy(x: np.ndarray) -> np.ndarray:
    """A writable copy whose memory begins at a cache line."""
    memory = np.empty(x.size + kernels.PANEL, x.dtype)
    skip = -memory.ctypes.data // x.itemsize % kernels.PANEL
    out = memory[skip : skip + x.size].reshape(x.shape)
    out[...] = x
    return out


# ── running it ───────────────────────────────────────────────────────────────────────────────────────────────────────


class NativeInterpreter:
    """One batch of images on their way through a program, on ``threads`` threads."""

    def __init__(self, packed: Packed, batch: int, condition: Tensor | None = None, threads: int = 1) -> None:
        self.packed, self.batch, self.condition, self.threads = packed, batch, condition, threads
        layout = packed.layout
        self._channels = layout.channels // layout.groups
        self._memory = _aligned_copy(np.broadcast_to(packed.beginning, (batch, layout.stride)))
        self._chain = np.zeros((batch, layout.components))
        self._seen = np.zeros((batch, layout.channels), np.int64)
        self._ran = 0
        threads = max(1, threads)
        size = min(BLOCK, -(-batch // threads)) or 1
        self._blocks = [slice(start, min(start + size, batch)) for start in range(0, batch, size)]
        self._rooms = [_Room(layout, packed.scratch) for _ in range(min(threads, len(self._blocks)) or 1)]
        if packed.condition is not None:
            assert condition is not None
            start, length = packed.condition
            condition = condition.detach()
            vector = condition if condition.is_floating_point() else torch.nn.functional.one_hot(condition, length)
            self._memory[:, start : start + length] = vector.float().numpy()

    @property
    def decides(self) -> bool:
        """Whether the program says its distribution, so that ``decide`` can run."""
        return self.packed.decides

    def parameters(self, t: int) -> Tensor:
        """The output (B, P) of the pixel or colour group that decision ``t`` belongs to; a view, valid until the next call."""
        step = t // self._channels
        if self._ran <= step:
            none = np.zeros((self.batch, 0), np.int64)
            self._walk(kernels.ADVANCE, t, t + 1, Work("force"), none, none.astype(np.bool_), _Streams([]))
        pixel, group = divmod(step, self.packed.layout.groups)
        start, distance, size = self.packed.outputs[group]
        start += pixel % self.packed.layout.width * distance
        return torch.from_numpy(self._memory[:, start : start + size])

    def arena(self) -> np.ndarray:
        """All maps of all images, (B, stride) float32, as they are now."""
        return self._memory

    def write(self, t: int, value: Tensor) -> None:
        """Decision ``t`` is ``value`` (B,) int64."""
        self.decide(t, t + 1, Work("force", values=value[:, None]))

    def decide(self, t: int, stop: int, work: Work, active: Tensor | None = None, kept: Tensor | None = None) -> Tensor:
        """Decisions t … stop − 1: ``work`` where ``active`` (B, stop − t), else ``kept``; → their values (B, stop − t) int64.

        Raises ``ValueError`` for parameters of a distribution that are not finite, and for values, streams or noise that do not fit.
        """
        shape = (self.batch, stop - t)
        self._check(t, stop, work, kept)
        values = np.zeros(shape, np.int64) if work.values is None else work.values.numpy().astype(np.int64)
        on = np.ones(shape, np.bool_) if active is None else active.numpy().copy()
        if kept is not None:
            values[~on] = kept.numpy()[~on]
        streams = _Streams(work.streams, 4 * (stop - t) + 16 if work.kind == "encode" else 0)
        # In calls of a row and more, about CALL seconds each, so that Ctrl-C is heard; how they are cut changes no bit.
        begin = t
        row = size = self.packed.layout.width * self.packed.layout.channels
        while begin < stop:
            end, started = min(stop, begin + size), time.perf_counter()
            part = np.ascontiguousarray(values[:, begin - t : end - t])
            self._walk(MODES[work.kind], begin, end, work, part, np.ascontiguousarray(on[:, begin - t : end - t]), streams)
            values[:, begin - t : end - t] = part
            size = max(row, min(16 * size, int((end - begin) * CALL / (time.perf_counter() - started))))
            begin = end
        streams.store()
        return torch.from_numpy(values)

    def _check(self, t: int, stop: int, work: Work, kept: Tensor | None) -> None:
        """The kernels look nowhere whether an index lies inside its array: so it is looked here."""
        levels, decisions = self.packed.layout.levels, self.packed.decisions
        if not 0 <= t <= stop <= decisions:
            raise ValueError(f"decisions: {t} … {stop} do not lie in 0 … {decisions}")
        for what, values in (("values", work.values), ("kept values", kept)):
            if values is None:
                continue
            if values.shape != (self.batch, stop - t) or values.is_floating_point():
                raise ValueError(f"{what}: expected whole numbers {(self.batch, stop - t)}, got {values.dtype} {tuple(values.shape)}")
            if values.numel() and (int(values.min()) < 0 or int(values.max()) >= levels):
                raise ValueError(f"{what}: levels must lie in 0 … {levels - 1}, got {int(values.min())} … {int(values.max())}")
        if work.kind in ("force", "encode") and work.values is None:
            raise ValueError(f"values: {work.kind} needs some")
        if work.kind in ("encode", "decode") and len(work.streams) != self.batch:
            raise ValueError(f"streams: expected {self.batch}, one an image, got {len(work.streams)}")
        if work.kind == "draw":
            uniform(work.seed, [work.first, work.first + max(self.batch, 1) - 1], 0, 0)   # raises for what has no noise

    def _walk(
        self, mode: int, t: int, stop: int, work: Work, values: np.ndarray, active: np.ndarray, streams: _Streams
    ) -> None:
        """One call of the kernels; values and active (B, stop − t), values written."""
        packed = self.packed
        task = kernels.Task(mode, t, stop, self._ran, np.uint64(work.seed), work.first, clamp_temperature(work.temperature), TINY)
        lowest = lowest_log_scale(packed.layout.levels)

        def run(room: _Room, block: slice) -> int:
            return kernels.walk(
                packed.operations,
                packed.phases,
                packed.outputs,
                packed.layout,
                lowest,
                self._memory[block].reshape(-1),
                packed.weights,
                packed.levels,
                task._replace(image=work.first + block.start),
                values[block],
                active[block],
                self._chain[block],
                self._seen[block],
                streams.of(block),
                room.mixture,
                room.scratch,
            )

        with _announced():
            if len(self._rooms) == 1:
                ends = [run(self._rooms[0], block) for block in self._blocks]
            else:
                threads = len(self._rooms)
                shares = [self._blocks[n::threads] for n in range(threads)]
                parts = _pool(threads).map(lambda room, share: [run(room, block) for block in share], self._rooms, shares)
                ends = [end for part in parts for end in part]
        if kernels.NOT_FINITE in ends:
            raise not_finite("logits, means or log scales")
        if kernels.FLUSHED in ends:
            raise PortabilityError("arithmetic: denormal numbers are flushed to zero, so nothing is coded; torch.set_flush_denormal(False)")
        self._ran = max(self._ran, (stop - 1) // self._channels + 1)

    def select(self, index: Tensor) -> NativeInterpreter:
        """The same point of the walk for the images ``index``."""
        condition = None if self.condition is None else self.condition[index]
        other = NativeInterpreter(self.packed, len(index), condition, self.threads)
        for mine, theirs in ((self._memory, other._memory), (self._chain, other._chain), (self._seen, other._seen)):
            theirs[...] = mine[index.numpy()]
        other._ran = self._ran
        return other


class _Room:
    """What one thread writes besides the images' arenas."""

    def __init__(self, layout: kernels.Layout, scratch: int) -> None:
        lanes = -(-layout.components // kernels.LANES) * kernels.LANES
        self.mixture = kernels.Mixture(np.zeros(lanes), np.zeros(lanes), np.zeros(lanes), np.zeros(lanes, np.int64))
        self.scratch = kernels.Scratch(
            np.zeros(scratch, np.float32),
            np.zeros(layout.levels, np.float32),
            np.zeros(layout.levels + 1, np.int64),
            np.zeros(layout.levels),
        )


class _Streams:
    """The coders of a batch as arrays while the kernels have them, with room for ``room`` more bytes each (24 bits a decision at most)."""

    def __init__(self, coders: Sequence[Encoder | Decoder], room: int = 0) -> None:
        self.coders = coders
        width = max((len(coder.data) for coder in self.coders), default=0) + room
        self.data = np.zeros((len(self.coders), width), np.uint8)
        self.low, self.range, self.code = (np.zeros(len(self.coders), np.uint64) for _ in range(3))
        self.place, self.ends = (np.zeros(len(self.coders), np.int64) for _ in range(2))
        for b, coder in enumerate(self.coders):
            self.data[b, : len(coder.data)] = np.frombuffer(coder.data, np.uint8)
            self.range[b], self.ends[b] = coder.range, len(coder.data)
            if isinstance(coder, Encoder):
                self.low[b], self.place[b] = coder.low, len(coder.data)
            else:
                self.code[b], self.place[b] = coder.code, coder.place

    def of(self, block: slice) -> kernels.Streams:
        return kernels.Streams(*(array[block] for array in (self.low, self.range, self.code, self.place, self.ends, self.data)))

    def store(self) -> None:
        for b, coder in enumerate(self.coders):
            coder.range = int(self.range[b])
            assert 0 < coder.range <= FULL
            if isinstance(coder, Encoder):
                coder.low, coder.data = int(self.low[b]), bytearray(self.data[b, : self.place[b]].tobytes())
            else:
                coder.code, coder.place = int(self.code[b]), int(self.place[b])


@lru_cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "rastrum")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)                 # a child has none of its parent's threads


@contextmanager
def _announced() -> Iterator[None]:
    """The first call of a process loads the kernels, or compiles them where no cache has them: say so if it takes long."""
    if kernels.walk.signatures:
        yield
        return
    timer = threading.Timer(2.0, lambda: print("rastrum: compiling the step loop for this processor, once (about 20 s) …", file=sys.stderr))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


