"""Runs a canvas model's program, a stroke at a time: ``start``, then after the n-th latent of a step ``stroke n``, over whole maps.

    strokes = NativeStrokes(program, batch)      float32 on a CPU, the same bits for any batch, threads and processor
    strokes = TorchStrokes(program, batch, …)    any dtype and device, to compare with
    strokes.map(maps.priors[0])                  a map of all images, (B, rows, columns, values), a view that may be written too
    strokes.run(0)                               the phase that follows from the latent 0 of a step

Nothing here knows what a map means (``builder.StrokeMaps`` does).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from ..denormals import keeping
from ..native.interpreter import run_whole
from ..native.panels import aligned_copy
from .builder import Program, View
from .tables import PackedStrokes, inside, pack_strokes, write_condition
from .torch_interpreter import TorchInterpreter

NO_SCRATCH = np.zeros(0, np.float32)    # only windows of row phases are computed at points


class NativeStrokes:
    """A batch of images at the beginning of a program of whole maps.

    program: finished.
    batch: number of images B.
    condition: one per image, as a checked tensor; None (default) for an unconditional model.
    threads: use at most so many, 1 by default: they share the images, or where there are fewer images the rows of each operation.
    """

    @keeping
    def __init__(self, program: Program, batch: int, condition: Tensor | None = None, threads: int = 1) -> None:
        if program not in _packed:
            _packed[program] = pack_strokes(program)
        self.packed, self.batch, self.threads = _packed[program], batch, max(1, threads)
        self.memory = aligned_copy(np.broadcast_to(self.packed.initial, (batch, len(self.packed.initial))))
        if self.packed.condition is not None:
            assert condition is not None
            write_condition(self.memory, self.packed.condition, condition)
        self._run(self.packed.phases.get(("start", 0)))

    def map(self, view: View) -> np.ndarray:
        """A whole map of all images, (B, rows, columns, width) float32, a view of memory.

        view: the map.
        """
        start = self.packed.start[view.buffer]
        buffer = view.buffer
        size = (buffer.above + buffer.rows + buffer.below) * buffer.row_length
        return inside(self.memory[:, start : start + size], buffer)

    def run(self, number: int) -> None:
        """The phase that follows from a latent.

        number: of the latent within its step.
        """
        self._run(self.packed.phases["stroke", number])

    def copy(self) -> NativeStrokes:
        """The same place in the program, with memory of its own."""
        other = object.__new__(NativeStrokes)
        other.packed, other.batch, other.threads, other.memory = self.packed, self.batch, self.threads, aligned_copy(self.memory)
        return other

    def _run(self, operations: np.ndarray | None) -> None:
        if operations is None:
            return
        if self.threads == 1:
            for image in self.memory:
                self._part(operations, image, part=0, parts=1)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            if self.batch >= self.threads:
                list(pool.map(partial(self._part, operations, part=0, parts=1), self.memory))
                return
            for each in np.split(operations, len(operations)):
                for image in self.memory:
                    list(pool.map(partial(self._part, each, image, parts=self.threads), range(self.threads)))

    @keeping
    def _part(self, operations: np.ndarray, image: np.ndarray, part: int, parts: int) -> None:
        run_whole(operations, part, parts, image, self.packed.weights, NO_SCRATCH)


_packed: WeakKeyDictionary[Program, PackedStrokes] = WeakKeyDictionary()


class TorchStrokes(TorchInterpreter):
    """The same by torch.

    program, batch, dtype, device, condition: as for ``TorchInterpreter``.
    """

    def __init__(
        self, program: Program, batch: int, dtype: torch.dtype, device: torch.device, condition: Tensor | None = None
    ) -> None:
        super().__init__(program, batch, dtype, device, condition)
        self._run_whole(self._passes[0].start)

    def map(self, view: View) -> Tensor:
        """As ``NativeStrokes.map``, a tensor."""
        return self._inside(self._memory[view.buffer], view.buffer)

    def run(self, number: int) -> None:
        """As ``NativeStrokes.run``."""
        self._run_whole(self.program.phases["stroke", number].operations)
