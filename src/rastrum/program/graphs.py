"""Runs a step program with torch, a row of decisions at a time: on a GPU each row is one CUDA graph.

A step is hundreds of small kernels, and a GPU is done with one sooner than Python has started the next. A CUDA graph is a list of kernels
and addresses that is started by one call. So here a row reads and writes only memory that stays where it is:

    noise, known values ─▶ buffers of a row ─▶ row phases, then step, draw and write of each decision ─▶ image

and asks the CPU nothing: its noise is computed before it, and whether a parameter was not finite is read after the last row. Rows that run
the same operations share a graph. The first of them runs call by call, since what is made once has to be made outside of a graph.
On other devices every row runs call by call, through the same buffers.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Hashable
from contextlib import suppress
from itertools import accumulate, groupby, pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..devices import as_like
from ..distributions import CDF_TOTAL, not_finite, postponed_checks
from ..noise import PIXEL, uniform
from ..protocol import Distribution, Work
from .builder import Program
from .torch_interpreter import TorchInterpreter

NOISE = 1 << 22                # uniform numbers that are drawn at a time
KEPT = 2                       # interpreters that a program keeps for later walks: many images come in batches of two sizes

Head: TypeAlias = Callable[[Tensor, Tensor, int, Distribution | None], Distribution]
Capture: TypeAlias = Callable[[Callable[[], None]], Callable[[], object]]


class CudaGraphs:
    """Makes a graph of the kernels that a function starts, without running them. Graphs share memory, since they run one after another."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], None]) -> Callable[[], object]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            run()
        return graph.replay


def call_by_call(run: Callable[[], None]) -> Callable[[], object]:
    """What stands for a graph where there are none: the function itself."""
    return run


class _How(NamedTuple):
    """How a row is decided: whether values are drawn, whether some of them are known all the same, and the temperature."""

    draws: bool
    clamps: bool
    temperature: float


class GraphInterpreter(TorchInterpreter):
    """The state of one batch of images within a program with a head.

    program: finished.
    batch: number of images B.
    dtype, device: of the arithmetic.
    condition: one per image, as a checked tensor; None (default) for an unconditional model.
    head: the model's own, which makes a distribution of the program's output.
    capture: turns a function into one that repeats its kernels; None (default): CUDA graphs on a GPU, elsewhere the function itself.
    """

    decides = frozenset({"draw", "force"})

    def __init__(
        self,
        program: Program,
        batch: int,
        dtype: torch.dtype,
        device: torch.device,
        condition: Tensor | None = None,
        head: Head | None = None,
        capture: Capture | None = None,
    ) -> None:
        super().__init__(program, batch, dtype, device, condition)
        self.head, self.capture = head, capture or (CudaGraphs() if device.type == "cuda" else call_by_call)
        self._order = program.decided().to(device)
        self._indices = self._order.tolist()
        self._begins = self._row_begins()
        longest = max(end - begin for begin, end in pairwise(self._begins))
        self._thresholds, self._kept = (torch.zeros(longest, batch, dtype=torch.int64, device=device) for _ in range(2))
        self._active = torch.zeros(longest, batch, dtype=torch.bool, device=device)
        self._image = torch.zeros(batch, *self.spec.shape, dtype=torch.int64, device=device)
        self._columns = self._image.flatten(1).unbind(1)
        self._invalid = torch.zeros((), dtype=dtype, device=device)       # NaN once a parameter was not finite
        self._noise = 0, self._thresholds[:0]                             # a decision, and thresholds (n, B) from there on
        self._met: set[Hashable] = set()
        self._graphs: dict[Hashable, tuple[Callable[[], object], int]] = {}   # and the first decision of the row that it was made from

    def _row_begins(self) -> list[int]:
        """The number of each row's first decision, and at last that of all decisions."""
        groups, rows, first = self.program.groups, [], 0
        for each in self.program.passes:
            count = each.frames * each.height
            rows += [first + row for row in range(count) for _ in range(each.width * groups)]
            first += count
        lengths = (self._channels * len(list(steps)) for _, steps in groupby(rows[step] for step in self._steps))
        return [0, *accumulate(lengths)]

    def restart(self, condition: Tensor | None) -> None:
        """Go back to before the first decision; the graphs stay.

        condition: one per image, as a checked tensor, or None.
        """
        for buffer, memory in self._memory.items():
            memory.zero_() if buffer.initial is None else memory.copy_(buffer.initial.expand_as(memory))
        self._ran = 0
        self._invalid.zero_()
        self._set_condition(condition)

    def write(self, t: int, value: Tensor) -> None:
        super().write(t, value)
        self._columns[self._indices[t]].copy_(value)

    def take_frames(self, t: int, values: Tensor) -> int:
        taken = super().take_frames(t, values)
        if taken:
            self._image.flatten(1)[:, self._order[t : t + taken]] = values[:, :taken]
        return taken

    def select(self, index: Tensor) -> GraphInterpreter:
        condition = None if self.condition is None else self.condition[index]
        other = GraphInterpreter(self.program, len(index), self.dtype, self.device, condition, self.head)
        other._continue(self, index)
        other._image.copy_(self._image[index])
        return other

    def decide(self, t: int, stop: int, work: Work, active: Tensor | None = None, kept: Tensor | None = None) -> Tensor:
        """Make the decisions t … stop − 1.

        t: number of the first decision.
        stop: the number of decisions made afterwards.
        work: how to decide: draw or force.
        active: where ``work`` decides, (B, stop − t) bool; None (default) = everywhere.
        kept: the values elsewhere, (B, stop − t).

        Returns the values (B, stop − t), int64. Raises ``ValueError`` where the model's parameters give values that are not finite.
        """
        assert work.kind in self.decides
        draws, first, values = work.kind == "draw", t, []
        clamps = draws and active is not None and not bool(active.all())
        how, known = _How(draws, clamps, work.temperature), kept if draws else work.values
        self._noise = 0, self._thresholds[:0]
        while t < stop:
            row = bisect_right(self._begins, t) - 1
            begin, after = self._begins[row : row + 2]
            end = min(stop, after)
            part, count = slice(t - first, end - first), end - t
            if draws:
                self._thresholds[:count].copy_(self._noise_of(work, t, end, stop))
            if known is not None and (clamps or not draws):
                self._kept[:count].copy_(known[:, part].t())
            if active is not None and clamps:
                self._active[:count].copy_(active[:, part].t())
            if (t, end) == (begin, after):
                wrote = self._run_row(t, end, how)
            else:
                self._decide(t, end, how)
                wrote = t
            values.append(self._image.flatten(1).index_select(1, self._order[wrote : wrote + count]))
            t = end
        if draws and math.isnan(self._invalid.item()):
            raise not_finite("parameters")
        return torch.cat(values, 1)

    def _noise_of(self, work: Work, t: int, end: int, stop: int) -> Tensor:
        """The noise of decisions t … end − 1 as thresholds of the integer CDF, (end − t, B); drawn for many rows at once."""
        first, block = self._noise
        if end > first + len(block):
            first, count = t, max(end - t, min(stop - t, NOISE // self.batch))
            noise = uniform(work.seed, np.arange(work.first, work.first + self.batch), t, count, purpose=PIXEL)
            block = torch.from_numpy(np.ascontiguousarray(noise.T * CDF_TOTAL).astype(np.int64)).to(self.device)
            self._noise = first, block
        return block[t - first : end - first]

    def _run_row(self, t: int, end: int, how: _How) -> int:
        """Decide a whole row. Returns the number of the decision from which on its values lie in the image."""
        key, ran = (self._operations_of(t), how), self._ran
        if key not in self._met:
            self._met.add(key)
            self._decide(t, end, how)
            return t
        if key not in self._graphs:

            def run() -> None:
                self._ran = ran                                           # of the row that the graph is made from
                self._decide(t, end, how)

            self._graphs[key] = self.capture(run), t
        replay, like = self._graphs[key]
        replay()
        self._ran = self._steps[(end - 1) // self._channels] + 1
        return like

    def _operations_of(self, t: int) -> Hashable:
        """Equal for rows that run the same operations on the same memory; t: the first decision."""
        step = self._steps[t // self._channels]
        here, row, _, _ = self._place(step)
        frame = (step - here.first_step) // (here.raster.height * here.raster.width * self.program.groups)
        phases = [phase for (kind, _), phase in here.raster.phases.items() if kind not in ("start", "frame")]
        if self.program.picture is not None or any(self._has_whole_maps(phase) for phase in phases):
            which: Hashable = row
        else:
            which = row % self._row_period, *(row >= phase.first_row for phase in here.before_row)
        begins = row == 0 and ("frame" if frame else "start")
        return self._passes.index(here), which, begins, step - self._ran  # steps before it that no decision needed yet

    def _decide(self, t: int, end: int, how: _How) -> None:
        """Decisions t … end − 1 of a row, from the buffers."""
        previous, active, kept, thresholds = None, self._active.unbind(), self._kept.unbind(), self._thresholds.unbind()
        for n, decision in enumerate(range(t, end)):
            value = kept[n]
            if how.draws:
                assert self.head is not None
                previous = self.head(self.parameters(decision).clone(), self._image, self._indices[decision], previous)
                with postponed_checks() as numbers:
                    if how.temperature == 1:
                        drawn = previous.search(thresholds[n])
                    else:
                        drawn = previous.sample(thresholds[n] / CDF_TOTAL, how.temperature)
                for number in numbers:
                    self._invalid.add_(as_like(number * 0, self._invalid))
                drawn = drawn.clamp(0, self.spec.levels - 1)              # of parameters that are not finite, found out later
                value = torch.where(active[n], drawn, value) if how.clamps else drawn
            self.write(decision, value)


def taken(program: Program, batch: int, dtype: torch.dtype, device: torch.device, condition: Tensor | None, head: Head) -> GraphInterpreter:
    """An interpreter at the beginning of the program: one that was given back, with its graphs, or a new one.

    program, batch, dtype, device, condition, head: as for ``GraphInterpreter``.
    """
    for engine in tuple(program.idle):
        if (engine.batch, engine.dtype, engine.device) == (batch, dtype, device):
            with suppress(ValueError):                                    # another thread has just taken it
                program.idle.remove(engine)
                engine.head = head
                engine.restart(condition)
                return engine
    return GraphInterpreter(program, batch, dtype, device, condition, head)


def give_back(engine: GraphInterpreter) -> None:
    """Keep an interpreter that no walk uses any more for the next walk through its program."""
    engine.head = None                                                    # which holds the model
    engine.program.idle.insert(0, engine)
    del engine.program.idle[KEPT:]
