"""Guidance: a raster model follows its exemplars more closely than its own conditionals do.

    p_w(x_t | x_<t, c) ∝ p(x_t | x_<t, c) · (p(x_t | x_<t, c) / p(x_t | x_<t))^w        w = 0 is the model itself

p(x_t | x_<t) is the same model without an exemplar, which training shows it too. So what an exemplar makes likelier becomes likelier still.
The product over t is a distribution of its own, with an exact likelihood; its images differ less.

Source: Ho, Salimans, "Classifier-Free Diffusion Guidance", 2022, for scores of diffusion; here for each conditional of a raster model.

Dimensions: B images · D decisions · L levels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .distributions import CDF_TOTAL, Categorical
from .exemplars import ABSENT, slots_of
from .protocol import ArrayLike, Distribution
from .raster import Backend, RasterModel, State

LEAST = -math.log(CDF_TOTAL)   # of a log pmf: each level has a count of the integer CDF


class GuidedState(State):
    """Two walks over the same values.

    given: with exemplars.
    free: without.
    """

    def __init__(self, given: State, free: State) -> None:
        super().__init__(given.spec, given.batch, given.condition, given.x.device, None)
        self.given, self.free, self.t = given, free, given.t
        self.x.copy_(given.x)

    def select(self, index: Tensor) -> GuidedState:
        return GuidedState(self.given.select(index), self.free.select(index))


class Guided(RasterModel):
    """A raster model whose conditionals are guided. Everything that draws, completes or scores takes it.

    model: one that is given exemplars as a spatial map; its weights are shared.
    weight: w, at least 0.

    Raises ``ValueError`` for another kind of model, and for a weight out of range.
    """

    conditions = ("map",)

    def __init__(self, model: RasterModel, weight: float) -> None:
        if not isinstance(model, RasterModel):
            raise ValueError(f"guidance: expected a raster model, such as gated-pixelcnn, got {type(model).__name__}")
        if not 0 <= weight < math.inf:
            raise ValueError(f"guidance: expected a weight of at least 0, got {weight!r}")
        slots = slots_of(model.condition_spec, model.spec.channels)
        super().__init__(model.spec, model.condition_spec, model.order)
        self.model, self.weight, self.slots = model, weight, slots

    def distribution(self, x: Tensor, condition: Tensor | None = None) -> Categorical:
        return self._guided(*(self.model.distribution(x, each) for each in _with_and_without(condition)))

    def init(self, batch: int, condition: ArrayLike | int | None = None, backend: Backend = None, threads: int = 1) -> State:
        both = _with_and_without(self.check_condition(condition, batch))
        return GuidedState(*(self.model.init(batch, each, backend, threads) for each in both))

    def step(self, state: State) -> Categorical:
        assert isinstance(state, GuidedState)
        return self._guided(self.model.step(state.given), self.model.step(state.free))

    def observe(self, state: State, value: Tensor) -> None:
        assert isinstance(state, GuidedState)
        for each in (state.given, state.free):
            self.model.observe(each, value)
        super().observe(state, value)

    def prefill(self, state: State, x: Tensor, t: int) -> None:
        assert isinstance(state, GuidedState)
        for each in (state.given, state.free):
            self.model.prefill(each, x, t)
        super().prefill(state, x, t)

    def _guided(self, given: Distribution, free: Distribution) -> Categorical:
        one, other = (each.log_pmf().clamp(min=LEAST) for each in (given, free))
        return Categorical(one + self.weight * (one - other))


def _with_and_without(condition: Tensor | None) -> tuple[Tensor, Tensor]:
    """A checked condition, and one of no exemplar."""
    assert condition is not None
    return condition, torch.full_like(condition, ABSENT)
