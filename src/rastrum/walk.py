"""The walk: sampling, completing, scoring, coding and decoding are one loop over a model's decisions; a chooser decides.

        model.init ─▶ state ─▶ model.step ─▶ distribution of the next decision
                        ▲                          │
                        └── model.observe ◀── chooser: Sample · Force · Encode · Decode

The walk clamps, not the chooser: known values stay, and a decision that is known for every image is observed without being drawn.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .denormals import kept
from .distributions import CDF_TOTAL, tempered
from .noise import PIXEL, uniform
from .protocol import ArrayLike, Chooser, Distribution, Frame, Work, check_images, mro_index
from .range_coder import Decoder, Encoder
from .raster import Backend, RasterModel, State

NOISE_BLOCK = 1024
MAX_BATCH = 64             # larger calls are split into batches of this many images


class Sample:
    """Draws from the distribution.

    seed: of the noise, which belongs to (image, decision), so that splitting a batch changes nothing.
    temperature: T > 0; draws from pmf^(1/T), renormalised over levels.
    first: image number of the first image of the batch.

    Raises ``ValueError`` for values out of range.
    """

    def __init__(self, seed: int, temperature: float = 1.0, first: int = 0) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature: expected a number above 0, got {temperature!r}")
        uniform(seed, [first], 0, 0)                                      # raises for values out of range, before anything is drawn
        self.seed, self.temperature, self.first = seed, temperature, first
        self._block: tuple[int, int, list[Tensor]] = (0, 0, [])

    def thresholds(self, t: int, batch: int, device: torch.device) -> Tensor:
        """The noise of a decision, as thresholds of the integer CDF.

        t: number of the decision.
        batch: number of images B.
        device: where the model is.

        Returns u · 2^24, (B,) int64.
        """
        start, size, block = self._block
        if batch != size or not start <= t < start + len(block):
            noise = uniform(self.seed, np.arange(self.first, self.first + batch), t, NOISE_BLOCK, purpose=PIXEL)
            counts = np.ascontiguousarray(noise.T * CDF_TOTAL).astype(np.int64)
            start, block = t, list(torch.from_numpy(counts).to(device).unbind(0))
            self._block = (start, batch, block)
        return block[t - start]

    def __call__(self, t: int, distribution: Distribution, active: Tensor) -> Tensor:
        """Values (B,), int64, drawn from ``distribution``, as for ``Chooser``."""
        threshold = self.thresholds(t, len(active), active.device)
        if self.temperature == 1:
            return distribution.search(threshold)
        return distribution.sample(threshold / CDF_TOTAL, self.temperature)

    def native(self, t: int, stop: int) -> Work:
        """The draws of decisions t … stop − 1, as for ``Chooser``."""
        return Work("draw", self.seed, self.first, self.temperature)


class Watched(Sample):
    """Draws as ``Sample`` does, one decision at a time, and keeps what the last decision was drawn from, for viewers.

    ``last``: number of the decision, its probabilities (B, L) at this temperature, and the values drawn (B,); None before the first.
    """

    last: tuple[int, Tensor, Tensor] | None = None

    def __call__(self, t: int, distribution: Distribution, active: Tensor) -> Tensor:
        value = super().__call__(t, distribution, active)
        log_pmf = distribution.log_pmf()
        self.last = t, (log_pmf if self.temperature == 1 else tempered(log_pmf, self.temperature).log_pmf()).exp().clone(), value.clone()
        return value


class Force:
    """Takes the values of given images.

    x: integer levels (B, *shape).
    order: the model's order of decisions, (D,) flat indices.
    """

    def __init__(self, x: Tensor, order: Tensor) -> None:
        self._all = x.flatten(1)[:, order].long()

    @cached_property
    def _values(self) -> tuple[Tensor, ...]:
        return self._all.unbind(1)

    def __call__(self, t: int, distribution: Distribution, active: Tensor) -> Tensor:
        """Values (B,), int64, of decision ``t``, as for ``Chooser``."""
        return self._values[t]

    def native(self, t: int, stop: int) -> Work:
        """The values of decisions t … stop − 1, as for ``Chooser``."""
        return Work("force", values=self._all[:, t:stop])


class Encode(Force):
    """Takes values as ``Force`` does, and writes each active one to the stream of its image.

    x: integer levels (B, *shape).
    order: the model's order of decisions, (D,) flat indices.
    streams: one encoder per image.
    """

    def __init__(self, x: Tensor, order: Tensor, streams: Sequence[Encoder]) -> None:
        super().__init__(x, order)
        self.streams = streams

    def __call__(self, t: int, distribution: Distribution, active: Tensor) -> Tensor:
        value = self._values[t]
        low, high = distribution.cdf(value).tolist(), distribution.cdf(value + 1).tolist()
        for b, is_active in enumerate(active.tolist()):
            if is_active:
                self.streams[b].put(low[b], high[b])
        return value

    def native(self, t: int, stop: int) -> Work:
        return Work("encode", values=self._all[:, t:stop], streams=self.streams)


class Decode:
    """Reads each active value from the stream of its image.

    streams: one decoder per image.
    """

    def __init__(self, streams: Sequence[Decoder]) -> None:
        self.streams = streams

    def __call__(self, t: int, distribution: Distribution, active: Tensor) -> Tensor:
        """Values (B,), int64, read for decision ``t``, as for ``Chooser``."""
        reads = active.tolist()
        thresholds = [stream.threshold() if read else 0 for stream, read in zip(self.streams, reads, strict=True)]
        threshold = torch.tensor(thresholds, device=active.device)
        value = distribution.search(threshold)
        low, high = distribution.cdf(value).tolist(), distribution.cdf(value + 1).tolist()
        for b, stream in enumerate(self.streams):
            if reads[b]:
                stream.advance(low[b], high[b])
        return value

    def native(self, t: int, stop: int) -> Work:
        """The reading of decisions t … stop − 1, as for ``Chooser``."""
        return Work("decode", streams=self.streams)


class _Walks:
    """What walks in several threads at once have to know of each other; read and changed under its lock."""

    def __init__(self) -> None:
        self.lock, self.known = threading.Lock(), threading.local()
        self.models: dict[int, tuple[int, list[torch.nn.Module]]] = {}    # by id: its walks, and its modules that were in training mode
        self.outside = 1                                                  # torch's threads before the first walk of those that go on

    def threads(self) -> int:
        """torch's threads in this thread outside of walks; torch begins a thread with the last setting of any, so with 1 during a walk."""
        found = torch.get_num_threads()
        if not self.models:
            self.outside = found
        elif found == 1 and not hasattr(self.known, "before"):
            found = self.outside
        self.known.before = True
        return found


_walks = _Walks()


@contextmanager
def quiet(model: torch.nn.Module) -> Iterator[int]:
    """Evaluation mode, no autograd, denormal numbers, and one thread on a CPU, because two slow down a loop of small calls.

    model: put back as it was at the end.

    Yields the number of threads outside.
    """
    with _walks.lock:
        threads = _walks.threads()
        count, training = _walks.models.get(id(model), (0, [module for module in model.modules() if module.training]))
        _walks.models[id(model)] = count + 1, training
        model.eval()
        torch.set_num_threads(1)
    try:
        with torch.inference_mode(), kept():
            yield threads
    finally:
        with _walks.lock:
            torch.set_num_threads(threads)
            count, training = _walks.models.pop(id(model))
            if count > 1:
                _walks.models[id(model)] = count - 1, training
            else:                                                         # the last walk of this model, in whichever thread
                for module in training:
                    module.training = True


def walk(
    model: RasterModel,
    batch: int,
    chooser: Chooser,
    condition: ArrayLike | int | None = None,
    known: Tensor | None = None,
    values: Tensor | None = None,
    every: Literal["row", "decision"] | int = "row",
    backend: Backend = None,
) -> Iterator[Frame]:
    """Decides the values of a batch of images one after another.

    model: a raster model.
    batch: number of images B.
    chooser: what decides, such as ``Sample``.
    condition: one per image, or one for all; None (default) for an unconditional model.
    known: bool, broadcasts to (B, *shape); None (default) = nothing is known.
    values: integer levels (B, *shape), read where known; None (default) where nothing is.
    every: a Frame per row ("row", default), per decision ("decision"), or per this many decisions.
    backend: what runs a step, as for ``RasterModel.init``. An interpreter that can do a chooser's work makes all decisions between two
        Frames in one call, on as many threads as torch is set to use.

    Yields Frames, the first with only the known beginning decided, the last finished.
    Raises ``ValueError`` for another ``every``, and for values that are no levels of the model.
    """
    spec, order = model.spec, model.order
    if every != "row" and every != "decision" and (not isinstance(every, int) or every < 1):
        raise ValueError(f"every: expected 'row', 'decision' or a whole number of at least 1, got {every!r}")
    stride = {"row": spec.channels * spec.width, "decision": 1}[every] if isinstance(every, str) else every
    with quiet(model) as threads:
        state = model.init(batch, condition, backend, threads)
        active, kept = torch.ones(batch, spec.size, dtype=torch.bool, device=model.device), None
        if known is not None:
            assert values is not None
            values = check_images(spec, values, model.device, "values")
            active = ~known.expand(batch, *spec.shape).flatten(1).to(model.device)[:, order]
            kept = values.flatten(1)[:, order]
            free = active.any(0)
            model.prefill(state, values, int(free.to(torch.int8).argmax()) if bool(free.any()) else spec.size)
    yield _frame(model, state, known)
    while state.t < spec.size:
        with quiet(model):
            t, stop = state.t, min(spec.size, (state.t // stride + 1) * stride)
            work = chooser.native(t, stop) if _is_native(chooser) else None
            here = active[:, t:stop], None if kept is None else kept[:, t:stop]
            if work is None or not state.decides(work.kind):
                _step_by_step(model, state, stop, chooser, *here)
            else:
                model.decide(state, stop, work, *here)
        yield _frame(model, state, known)


def _is_native(chooser: Chooser) -> bool:
    """Whether ``native`` describes this chooser: not in a subclass that redefines only its other methods."""
    defined = mro_index(chooser, "native")
    return hasattr(chooser, "native") and all(defined <= mro_index(chooser, name) for name in ("__call__", "thresholds"))


def _step_by_step(model: RasterModel, state: State, stop: int, chooser: Chooser, active: Tensor, kept: Tensor | None) -> None:
    """Makes decisions state.t … stop − 1, as the definition says: chosen where ``active``, else ``kept``, both (B, stop − state.t)."""
    columns, any_free, all_free = active.unbind(1), active.any(0).tolist(), active.all(0).tolist()
    values = [] if kept is None else kept.unbind(1)
    for n, t in enumerate(range(state.t, stop)):
        if not any_free[n]:
            model.observe(state, values[n])
            continue
        value = chooser(t, model.step(state), columns[n])
        model.observe(state, value if all_free[n] else torch.where(columns[n], value, values[n]))


def _frame(model: RasterModel, state: State, known: Tensor | None) -> Frame:
    """A copy, made outside inference mode, so that it can be used with autograd."""
    x = state.x.clone()
    info: dict[str, Any] = {"decisions": state.t, "order": model.order} | ({} if known is None else {"known": known})
    return Frame((x / (model.spec.levels - 1)).float(), x, state.t / model.spec.size, info=info)
