"""Runs a packed program with the compiled loops: float32 on a CPU, the same bits for any batch, threads and processor.

An image's arena is a row of ``memory`` (B, stride), so images are independent by construction; a batch runs in blocks of at most 16 images,
whose maps stay in the cache, each thread taking some of the blocks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..denormals import SMALLEST_NORMAL, PortabilityError, keeping
from ..distributions import clamp_temperature, lowest_log_scale, not_finite
from ..native import codes
from ..native.cdf import LANES, Mixture
from ..native.coder import Streams
from ..native.interpreter import pass_of
from ..native.panels import aligned_copy
from ..native.walk import ADVANCE, DECODE, DONE, DRAW, ENCODE, FLUSHED, FORCE, NOT_FINITE, WEIGH, Scratch, Task, walk
from ..noise import uniform
from ..protocol import Work
from ..range_coder import FULL, Decoder, Encoder
from .tables import BLOCK, Packed, write_condition

TINY = SMALLEST_NORMAL[0]      # a tenth of it is denormal
CALL_SECONDS = 0.2             # about as long as Ctrl-C has to wait
AT_ONCE = 16                   # rows of images in turn, about CALL_SECONDS too
NO_COLUMN = 1 << 62
MODES = {"draw": DRAW, "force": FORCE, "encode": ENCODE, "decode": DECODE, "weigh": WEIGH}


class NativeInterpreter:
    """The state of one batch of images within a program.

    packed: the program.
    batch: number of images B.
    condition: one per image, as a checked tensor; None (default) for an unconditional model.
    threads: use at most so many, 1 by default.
    """

    def __init__(self, packed: Packed, batch: int, condition: Tensor | None = None, threads: int = 1) -> None:
        self.packed, self.batch, self.condition, self.threads = packed, batch, condition, threads
        layout = packed.tables.layout
        self._channels = layout.channels // layout.groups
        self._memory = aligned_copy(np.broadcast_to(packed.initial, (batch, layout.stride)))
        self._chain = np.zeros((batch, layout.components))
        self._seen = np.zeros((batch, layout.channels), np.int64)
        self._ran = 0
        threads = max(1, threads)
        size = min(BLOCK, -(-batch // threads)) or 1
        self._blocks = [slice(start, min(start + size, batch)) for start in range(0, batch, size)]
        self._workspaces = [_Workspace(layout, packed.scratch) for _ in range(min(threads, len(self._blocks)) or 1)]
        if packed.condition is not None:
            assert condition is not None
            write_condition(self._memory, packed.condition, condition)

    @property
    def decides(self) -> frozenset[str]:
        """The kinds of work that ``decide`` does: all, if the program has a head."""
        return frozenset(MODES if self.packed.decides else ())

    def parameters(self, t: int) -> Tensor:
        """The output of the pixel or colour group that decision number ``t`` belongs to.

        Returns a view (B, P), valid until the next call.
        """
        step = int(self.packed.tables.steps[t // self._channels])
        if self._ran <= step:
            none = np.zeros((self.batch, 0), np.int64)
            self._decide(ADVANCE, Work("force"), t, t + 1, t, none, none.astype(np.bool_), none, CoderStates([]))
        number = int(pass_of(self.packed.tables.passes, step))
        here, groups = self.packed.tables.passes[number], self.packed.tables.layout.groups
        pixel, group = divmod(step - int(here[codes.FIRST_STEP]), groups)
        start, distance, size = self.packed.tables.outputs[number * groups + group]
        start += pixel % int(here[codes.WIDTH]) * distance
        return torch.from_numpy(self._memory[:, start : start + size])

    def arena(self) -> np.ndarray:
        """All maps of all images, (B, stride) float32, as they are now."""
        return self._memory

    def write(self, t: int, value: Tensor) -> None:
        """Write the value of a decision to the input map.

        t: number of the decision.
        value: integer levels (B,), int64.
        """
        self.decide(t, t + 1, Work("force", values=value[:, None]))

    def take_frames(self, t: int, values: Tensor) -> int:
        """Take the whole frames among known values without running a step.

        t: number of the first decision.
        values: integer levels (B, n) of the decisions from ``t`` on.

        Returns how many decisions were taken, 0 for an image.
        """
        frame = self.packed.tables.layout.frame
        count = values.shape[1] // frame * frame if frame and t % frame == 0 else 0
        if count:
            self.decide(t, t + count, Work("force", values=values[:, :count]))
        return count

    def decide(self, t: int, stop: int, work: Work, active: Tensor | None = None, kept: Tensor | None = None) -> Tensor:
        """Make decisions t … stop − 1.

        t: number of the first decision.
        stop: number of the decision after the last.
        work: how to decide: draw, force, encode, decode or weigh.
        active: where ``work`` decides, (B, stop − t) bool; None (default) = everywhere.
        kept: the values elsewhere, (B, stop − t).

        Returns the values, (B, stop − t) int64.
        Raises ``ValueError`` for parameters of a distribution that are not finite, and for values, streams or noise that do not fit.
        """
        shape = (self.batch, stop - t)
        self._check(t, stop, work, kept)
        values = np.zeros(shape, np.int64) if work.values is None else work.values.numpy().astype(np.int64)
        on = np.ones(shape, np.bool_) if active is None else active.numpy().copy()
        if kept is not None:
            values[~on] = kept.numpy()[~on]
        counts = np.zeros((self.batch, 0), np.int64) if work.counts is None else work.counts.numpy()
        streams = CoderStates(work.streams, 4 * (stop - t) + 16 if work.kind == "encode" else 0)
        # In calls of a row and more, about CALL_SECONDS each, so that Ctrl-C is noticed; how they are cut changes no bit.
        begin, frame = t, self.packed.tables.layout.frame
        row = size = int(self.packed.tables.passes[-1, codes.WIDTH]) * self.packed.tables.layout.channels
        while begin < stop:
            end, started = min(stop, begin + size), time.perf_counter()
            if frame and work.kind == "force":                            # whole frames are taken without a step
                end = min(stop, -(-end // frame) * frame)
            self._decide(MODES[work.kind], work, begin, end, t, values, on, counts, streams)
            size = max(row, min(16 * size, int((end - begin) * CALL_SECONDS / (time.perf_counter() - started))))
            begin = end
        streams.store()
        return torch.from_numpy(values)

    def decide_in_turn(self, work: Work, active: Tensor, kept: Tensor, shared: Sequence[int]) -> Tensor:
        """Make all decisions of images that overlap, each image ``packed.lag`` rows behind the one before.

        work: how to decide.
        active: where ``work`` decides, (B, D) bool.
        kept: the values elsewhere, (B, D), but for columns that the image before has too: its values are taken.
        shared: of each image, the first column that the next has too; the last has none, which is said by the width.

        Returns and raises as ``decide``.
        """
        self._check(0, self.packed.decisions, work, kept)
        layout, lag, width = self.packed.tables.layout, self.packed.lag, int(self.packed.tables.passes[-1, codes.WIDTH])
        if not lag or len(shared) != self.batch or not 0 <= min(shared) <= max(shared) <= shared[-1] == width:
            raise ValueError(f"shared: expected a column below {width} per image, {width} for the last, in an order by rows; got {shared}")
        values, on, row = (kept if work.values is None else work.values).numpy().copy(), active.numpy(), width * layout.channels
        streams = CoderStates(work.streams, 4 * values.shape[1] + 16 if work.kind == "encode" else 0)
        counts = np.zeros((self.batch, 0), np.int64)
        task, of = self._task(MODES[work.kind], work)._replace(lag=lag), np.array(shared)
        # A thread has neighbours, which follow one another closely; the next thread's are AT_ONCE rows behind, which are then complete.
        size, rows, most = -(-self.batch // len(self._workspaces)), values.shape[1] // row, -(-AT_ONCE // lag) * lag
        blocks, apart = [slice(n, min(n + size, self.batch)) for n in range(0, self.batch, size)], (size - 1) * lag + most
        for now in range(0, (len(blocks) - 1) * apart + rows + size * lag, most):

            def some_rows(workspace: _Workspace, block: slice, now: int = now) -> int:
                at, many = now - block.start // size * apart, block.stop - block.start
                at, until = max(0, at), min(at + most, rows + (many - 1) * lag)
                while at < until:                                         # the row of its first image, if that had more
                    first, last = max(0, (at - rows) // lag + 1), min(many, at // lag + 1)    # images that are within their rows
                    stop = min(until, rows + first * lag, last * lag if last < many else until)
                    begin = (at - first * lag) * row
                    here = task._replace(first=begin, last=begin + (stop - at) * row, ran=begin // self._channels)
                    images = slice(block.start + first, block.start + last)
                    if first < last and (end := self._walk(workspace, images, here, values, on, counts, streams, of)) != DONE:
                        return end
                    at = stop
                return DONE

            self._in_blocks(some_rows, blocks)
        self._ran = len(self.packed.tables.steps)
        streams.store()
        return torch.from_numpy(values)

    def _check(self, t: int, stop: int, work: Work, kept: Tensor | None) -> None:
        """Raise ``ValueError`` for what does not fit: the compiled loops do not check whether an index lies inside its array."""
        levels, decisions = self.packed.tables.layout.levels, self.packed.decisions
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
            raise ValueError(f"streams: expected {self.batch}, one per image, got {len(work.streams)}")
        if work.kind == "weigh" and (work.counts is None or work.counts.shape != (self.batch, stop - t)):
            raise ValueError(f"counts: weigh needs room for {(self.batch, stop - t)} of them")
        if work.kind in ("draw", "weigh"):
            uniform(work.seed, [work.first, work.first + max(self.batch, 1) - 1], 0, 0)   # raises for numbers that have no noise

    def _task(self, mode: int, work: Work) -> Task:
        return Task(mode, 0, 0, 0, 0, 0, np.uint64(work.seed), work.first, clamp_temperature(work.temperature), TINY)

    def _decide(
        self,
        mode: int,
        work: Work,
        t: int,
        stop: int,
        origin: int,
        values: np.ndarray,
        on: np.ndarray,
        counts: np.ndarray,
        streams: CoderStates,
    ) -> None:
        """Decisions t … stop − 1 of all images; column 0 of the arrays is decision ``origin``."""
        task = self._task(mode, work)._replace(first=t, last=stop, origin=origin, ran=self._ran)
        self._in_blocks(lambda workspace, block: self._walk(workspace, block, task, values, on, counts, streams), self._blocks)
        if stop > t:
            self._ran = max(self._ran, int(self.packed.tables.steps[(stop - 1) // self._channels]) + 1)

    def _walk(
        self,
        workspace: _Workspace,
        block: slice,
        task: Task,
        values: np.ndarray,
        on: np.ndarray,
        counts: np.ndarray,
        streams: CoderStates,
        shared: np.ndarray | None = None,
    ) -> int:
        """One call of the compiled walk, for some of the images."""
        return walk(
            self.packed.tables,
            lowest_log_scale(self.packed.tables.layout.levels),
            self._memory[block].reshape(-1),
            task._replace(image=task.image + block.start),
            values[block.start : block.stop + (shared is not None)],
            on[block],
            counts[block],
            np.full(block.stop - block.start, NO_COLUMN) if shared is None else shared[block],
            self._chain[block],
            self._seen[block],
            streams.of(block),
            workspace.mixture,
            workspace.scratch,
        )

    def _in_blocks(self, run: Callable[[_Workspace, slice], int], blocks: Sequence[slice]) -> None:
        """Calls ``run`` for blocks of images, in as many threads as there are workspaces, and raises what it found."""
        run, threads = keeping(run), min(len(self._workspaces), len(blocks))
        if threads <= 1:
            ends = [run(self._workspaces[0], block) for block in blocks]
        else:
            shares = [blocks[n::threads] for n in range(threads)]
            parts = _pool(threads).map(lambda workspace, share: [run(workspace, block) for block in share], self._workspaces, shares)
            ends = [end for part in parts for end in part]
        if NOT_FINITE in ends:
            raise not_finite("logits, means or log scales")
        if FLUSHED in ends:
            raise PortabilityError("arithmetic: denormal numbers are flushed to zero, so nothing is drawn or coded")

    def select(self, index: Tensor) -> NativeInterpreter:
        """The same state for the images at ``index``, integers (n,)."""
        condition = None if self.condition is None else self.condition[index]
        other = NativeInterpreter(self.packed, len(index), condition, self.threads)
        for mine, theirs in ((self._memory, other._memory), (self._chain, other._chain), (self._seen, other._seen)):
            theirs[...] = mine[index.numpy()]
        other._ran = self._ran
        return other


class _Workspace:
    """Memory that one thread writes besides the images' arenas."""

    def __init__(self, layout: codes.Layout, scratch: int) -> None:
        lanes = -(-layout.components // LANES) * LANES
        self.mixture = Mixture(np.zeros(lanes), np.zeros(lanes), np.zeros(lanes), np.zeros(lanes, np.int64))
        self.scratch = Scratch(
            np.zeros(scratch, np.float32),
            np.zeros(layout.levels, np.float32),
            np.zeros(layout.levels + 1, np.int64),
            np.zeros(layout.levels),
        )


class CoderStates:
    """The coders of a batch as arrays for the compiled walk, with room for ``room`` more bytes each (at most 24 bits per decision)."""

    def __init__(self, coders: Sequence[Encoder | Decoder], room: int = 0) -> None:
        self.coders = coders
        width = max((len(coder.data) for coder in self.coders), default=0) + room
        self.data = np.zeros((len(self.coders), width), np.uint8)
        self.low, self.range, self.code = (np.zeros(len(self.coders), np.uint64) for _ in range(3))
        self.position, self.ends = (np.zeros(len(self.coders), np.int64) for _ in range(2))
        self.outside = np.array([isinstance(coder, Decoder) and coder.outside for coder in self.coders], np.bool_)
        for b, coder in enumerate(self.coders):
            self.data[b, : len(coder.data)] = np.frombuffer(coder.data, np.uint8)
            self.range[b], self.ends[b] = coder.range, len(coder.data)
            if isinstance(coder, Encoder):
                self.low[b], self.position[b] = coder.low, len(coder.data)
            else:
                self.code[b], self.position[b] = coder.code, coder.position

    def of(self, block: slice) -> Streams:
        return Streams(*(array[block] for array in (self.low, self.range, self.code, self.position, self.ends, self.outside, self.data)))

    def store(self) -> None:
        for b, coder in enumerate(self.coders):
            coder.range = int(self.range[b])
            assert 0 < coder.range <= FULL
            if isinstance(coder, Encoder):
                coder.low, coder.data = int(self.low[b]), bytearray(self.data[b, : self.position[b]].tobytes())
            else:
                coder.code, coder.position, coder.outside = int(self.code[b]), int(self.position[b]), bool(self.outside[b])


@lru_cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "rastrum")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)                 # a child process has none of its parent's threads
