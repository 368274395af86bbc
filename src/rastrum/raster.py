"""Raster models, which have exact likelihoods.

A decision is the value of one channel of one pixel; a model makes its decisions in its own ``order``. A user's model needs only
``distribution``; it is then correct and slow. A model that also describes one step as a program, in ``lower``, samples for about the
price of one forward pass: the base class runs that program instead of a full forward pass per decision.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from weakref import WeakKeyDictionary, finalize

import torch
from torch import Tensor

from .denormals import keeping
from .devices import in_float64
from .memory import ask_graph
from .model import Model
from .protocol import ArrayLike, ConditionSpec, Distribution, ImageSpec, Work, check_images, mro_index, raster_order

if TYPE_CHECKING:
    from .program import Interpreter
    from .program.builder import Program

MAX_SHOWN = 784                # of more decisions, a model's text does not say how many values they see
# What runs a step: an interpreter of the step program ("native"; "torch"; "graphs": torch, with a CUDA graph per row) or a full forward
# pass ("naive"); None = the fastest that can, of which "graphs" is not one yet.
Backend: TypeAlias = Literal["native", "torch", "graphs", "naive"] | None


class State:
    """Where a walk stands.

    spec: of the images.
    batch: number of images B.
    condition: one per image, as a checked tensor; None for an unconditional model.
    device: where the images are.
    engine: the interpreter of the step program, with its caches; None where each step is a full forward pass.

    Further attributes: ``x``, the values decided so far, (B, *shape) int64, zero where undecided; ``t``, the number of decisions made.
    """

    def __init__(
        self, spec: ImageSpec, batch: int, condition: Tensor | None, device: torch.device, engine: Interpreter | None
    ) -> None:
        self.spec = spec
        self.x = torch.zeros(batch, *spec.shape, dtype=torch.int64, device=device)
        self.t = 0
        self.condition = condition
        self.engine = engine
        self.stepped: tuple[int, Distribution] | None = None              # the last decision asked for, and its distribution

    @cached_property
    def _columns(self) -> tuple[Tensor, ...]:
        return self.x.flatten(1).unbind(1)

    def decides(self, kind: str) -> bool:
        """Whether the engine can do this kind of ``Work`` by itself (``RasterModel.decide``)."""
        return self.engine is not None and kind in self.engine.decides

    @property
    def batch(self) -> int:
        """The number of images B."""
        return self.x.shape[0]

    def put(self, index: int, value: Tensor) -> None:
        """Write the value of one decision.

        index: flat index within an image.
        value: integer levels (B,).
        """
        self._columns[index].copy_(value)

    def select(self, index: Tensor) -> State:
        """The state of some of the images, repeats allowed.

        index: integers (n,), or a bool mask (B,).
        """
        index = torch.arange(self.batch, device=self.x.device)[index]     # a bool mask selects too
        condition = None if self.condition is None else self.condition[index]
        engine = None if self.engine is None else self.engine.select(index)
        other = State(self.spec, len(index), condition, self.x.device, engine)
        other.x.copy_(self.x[index])
        other.t = self.t
        return other

    def copy(self) -> State:
        """A state of its own memory, at the same point of the walk."""
        return self.select(torch.arange(self.batch, device=self.x.device))

    def repeat(self, n: int) -> State:
        """Each image ``n`` times in a row."""
        return self.select(torch.arange(self.batch, device=self.x.device).repeat_interleave(n))


class RasterModel(Model):
    """Base of every raster model. A subclass defines ``distribution``, and ``lower`` to be fast.

    spec: shape and levels of the images that the model is for.
    condition_spec: the condition that the model is given with each image; None (default) for an unconditional model.
    order: the order of decisions, a permutation (D,) of the flat indices of ``x.flatten(1)``; None (default) is raster order: row, then
        column, then channel, frame by frame for a video. It is kept as the buffer ``order``, which everything else reads.

    Raises ``ValueError`` for an order that is no permutation.
    """

    likelihood = "exact"
    order: Tensor
    # Writes one step of the model as a program; None = every step is a full forward pass.
    lower: Callable[[Program], None] | None = None
    # Colour groups that a step computes one after another: 1, or one per channel.
    groups: int = 1
    # Whether ``lower`` reads only parameters, buffers and config, so that its program can be kept until one of them changes. Not inherited:
    # a subclass may read anything, so its ``lower`` runs each time unless the subclass declares this too.
    lower_reads_only_parameters: bool = False

    def __init__(self, spec: ImageSpec, condition_spec: ConditionSpec | None = None, order: ArrayLike | None = None) -> None:
        super().__init__(spec, None, condition_spec)
        if order is not None:
            order = torch.as_tensor(order, dtype=torch.int64)
            if order.shape != (spec.size,) or not torch.equal(order.sort().values, torch.arange(spec.size)):
                raise ValueError(f"order: expected a permutation of 0 … {spec.size - 1}, got shape {tuple(order.shape)}")
        self.register_buffer("order", raster_order(spec) if order is None else order, persistent=False)

    @cached_property
    def _order_list(self) -> list[int]:
        return self.order.tolist()

    # ── what a model defines ────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def distribution(self, x: Tensor, condition: Tensor | None = None) -> Distribution:
        """All conditional distributions of images at once.

        x: integer levels (B, *spec.shape), int64.
        condition: as ``condition_spec`` says, one per image; None for an unconditional model.

        Returns a distribution of batch shape (B, *spec.shape): of each value given those before it in ``order``.
        """

    def context(self) -> Tensor | None:
        """What each decision promises to see, which ``check`` compares with what it does see.

        Returns (D, D) bool in flat indices, where [i, j] means that decision i sees value j; None for no promise.
        """
        return None

    def _sees(self) -> str | None:
        spec = self.spec
        promised = self.context() if spec.size <= MAX_SHOWN else None
        if promised is None:
            return None
        middle = (spec.frames // 2, spec.channels - 1, spec.height // 2, spec.width // 2)
        index = int(torch.arange(spec.size).view(spec.frames, spec.channels, spec.height, spec.width)[middle])
        before = int(self.order.argsort()[index])
        return f"{int(promised[index].sum()):,} of the {before:,} values before the middle one"

    # ── likelihood ───────────────────────────────────────────────────────────────────────────────────────────────────

    def log_prob_map(self, x: ArrayLike, condition: ArrayLike | int | None = None) -> Tensor:
        """Log-probability of each value given those before it in ``order``: where an image is surprising.

        x: integer levels (B, *spec.shape), torch or numpy.
        condition: one per image, or one for all; None for an unconditional model.

        Returns nats (B, *spec.shape). Raises ``ValueError`` for images of another spec.
        """
        x = check_images(self.spec, x, self.device)
        return self.distribution(x, self.check_condition(condition, len(x))).log_prob(x)

    def log_prob(self, x: ArrayLike, condition: ArrayLike | int | None = None) -> Tensor:
        """Log-probability of each image, exact.

        x: integer levels (B, *spec.shape), torch or numpy.
        condition: one per image, or one for all; None for an unconditional model.

        Returns nats (B,), float64 (on the CPU, if the model's device has no such type). Where gradients are on, a warning says what many
        images take. Raises ``ValueError`` for images of
        another spec, for a model without a likelihood, and for gradients that do not fit the memory.
        """
        x = check_images(self.spec, x, self.device)
        checked = self.check_condition(condition, len(x))
        ask_graph("log_prob", self, x, lambda i: self.log_prob_map(x[i], None if checked is None else checked[i]))
        return in_float64(self.log_prob_map(x, condition)).flatten(1).sum(1)

    def loss_map(self, x: ArrayLike, condition: ArrayLike | int | None = None) -> Tensor:
        """The training loss of each value given those before it in ``order``, (B, *spec.shape): −log p in nats.

        x: integer levels (B, *spec.shape), torch or numpy.
        condition: one per image, or one for all; None (default) for an unconditional model.
        """
        return -self.log_prob_map(x, condition)

    def loss(self, x: ArrayLike, condition: ArrayLike | int | None = None, seed: int | None = None) -> Tensor:
        """The sum of ``loss_map`` over an image: −log p(x) in nats.

        x: integer levels (B, *spec.shape), torch or numpy.
        condition: one per image, or one for all; None (default) for an unconditional model.
        seed: not used here; for models that draw noise.

        Returns (B,), in the model's precision.
        """
        return self.loss_map(x, condition).flatten(1).sum(1)

    def score(
        self, x: ArrayLike, condition: ArrayLike | int | None = None, num_samples: int = 1, seed: int = 0, first: int = 0
    ) -> Tensor:
        """−log p(x), exact; of a model without a likelihood the loss.

        x: integer levels (B, *spec.shape), torch or numpy.
        condition: one per image, or one for all; None (default) for an unconditional model.
        seed: of the noise of a model whose loss draws some, 0 by default.
        num_samples, first: not used here; for models with a bound.

        Returns (B,), float64 for a likelihood.
        """
        return -self.log_prob(x, condition) if self.has_likelihood else self.loss(x, condition, seed)

    @property
    def images_at_a_time(self) -> int:
        """On a CPU the feature maps of a few images stay in the cache."""
        return 4 if self.device.type == "cpu" else super().images_at_a_time

    # ── one decision at a time ───────────────────────────────────────────────────────────────────────────────────────

    def init(self, batch: int, condition: ArrayLike | int | None = None, backend: Backend = None, threads: int = 1) -> State:
        """The state before the first decision, with the parameters as they are now.

        batch: number of images B, at least 1.
        condition: one per image, or one for all; None for an unconditional model.
        backend: "native" (float32 on a CPU), "torch", or "naive", a full forward pass per step; None (default) takes the first of them
            that can run this model. "graphs" is "torch" with a CUDA graph per row.
        threads: how many the native backend may use, 1 by default.

        Raises ``ValueError`` for a backend that cannot run this model.
        """
        checked = self.check_condition(condition, batch)
        engine = None
        if batch < 1:
            raise ValueError(f"batch: expected at least one image, got {batch}")
        if backend != "naive" and self.has_program:
            from .program import interpreter

            engine = interpreter(self.lowered(), batch, self.dtype, self.device, checked, backend, threads, self.head)
        elif backend not in ("naive", None):
            raise ValueError(f"backend: {type(self).__name__} has no step program for {backend!r} to run; leave it out, or take 'naive'")
        state = State(self.spec, batch, checked, self.device, engine)
        if backend == "graphs":
            from .program.graphs import GraphInterpreter, give_back

            assert isinstance(engine, GraphInterpreter)
            finalize(state, give_back, engine).atexit = False             # graphs are for more than one walk
        return state

    @property
    def has_program(self) -> bool:
        """Whether ``lower`` describes ``distribution``: in a subclass that overrides only the latter it does not."""
        return self.lower is not None and mro_index(self, "lower") <= mro_index(self, "distribution")

    @keeping
    def program(self) -> Program:
        """The step program, from the parameters as they are now."""
        from .program import Program
        from .program.optimise import optimise

        assert self.lower is not None
        program = Program(self.spec, self.condition_spec, self.groups)
        with torch.no_grad():
            self.lower(program)
        if any(mro_index(self, name) < mro_index(self, "lower") for name in ("head", "step", "observe")):
            program.head = None                                           # a subclass overrides what the program describes
        program.check(self.order)
        return optimise(program)

    def lowered(self) -> Program:
        """The step program; the last one again where the class declares ``lower_reads_only_parameters`` and none has changed since."""
        if not vars(type(self)).get("lower_reads_only_parameters", False):
            return self.program()
        tensors = [*self.parameters(), *self.buffers()]
        before, program = _programs.get(self, ([], None))
        same = len(before) == len(tensors) and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(before, tensors, strict=True))
        if program is None or not same:
            program = self.program()
            _programs[self] = [tensor.detach().clone() for tensor in tensors], program
        return program

    def step(self, state: State) -> Distribution:
        """The distribution of decision ``state.t``, batch shape (B,).

        state: from ``init``; the step changes only its caches.

        Raises ``ValueError`` where all decisions are made.
        """
        if state.t >= self.spec.size:
            raise ValueError(f"step: all {self.spec.size} decisions are made")
        if state.engine is not None:
            previous = state.stepped[1] if state.stepped is not None and state.stepped[0] == state.t - 1 else None
            parameters = state.engine.parameters(state.t).clone()         # the interpreter writes there again
            distribution = self.head(parameters, state.x, self._order_list[state.t], previous)
            state.stepped = (state.t, distribution)
            return distribution
        index = torch.unravel_index(torch.tensor(self._order_list[state.t]), self.spec.shape)
        return self.distribution(state.x, state.condition)[(slice(None), *(int(i) for i in index))]

    def head(self, parameters: Tensor, x: Tensor, index: int, previous: Distribution | None) -> Distribution:
        """The distribution that the output of the step program stands for.

        parameters: the program's output for this pixel or colour group, (B, P).
        x: the values so far, (B, *shape).
        index: flat index of the decision.
        previous: the distribution of the decision before, if it was asked for.

        Returns a distribution of batch shape (B,).
        """
        raise TypeError(f"{type(self).__name__} has a step program but no head")

    def observe(self, state: State, value: Tensor) -> None:
        """Make decision ``state.t`` and count ``state.t`` up.

        state: changed in place.
        value: levels (B,), of any integer type.
        """
        value = value.long()
        state.put(self._order_list[state.t], value)
        if state.engine is not None:
            state.engine.write(state.t, value)
        state.t += 1

    def prefill(self, state: State, x: Tensor, t: int) -> None:
        """Make all decisions before number ``t`` without drawing: fills the caches.

        state: changed in place.
        x: integer levels (B, *shape) that hold the values.
        t: the number of decisions made afterwards.
        """
        assert state.t <= t, "decisions are not taken back"
        values = x.flatten(1).long()
        if state.engine is None:
            index = self.order[state.t : t]
            state.x.view(state.batch, -1)[:, index] = values[:, index]
            state.t = t
        elif state.decides("force") and state.t < t:
            self.decide(state, t, Work("force", values=values[:, self.order[state.t : t]]))
        while state.t < t:
            rest = self.order[state.t : t]
            taken = 0 if state.engine is None else state.engine.take_frames(state.t, values[:, rest])
            if taken:
                state.x.view(state.batch, -1)[:, rest[:taken]] = values[:, rest[:taken]]
                state.t += taken
            else:
                self.observe(state, values[:, self._order_list[state.t]])

    def decide(self, state: State, stop: int, work: Work, active: Tensor | None = None, kept: Tensor | None = None) -> None:
        """Make the decisions state.t … stop − 1 inside the engine, where it can (``state.decides(work.kind)``).

        state: changed in place.
        stop: the number of decisions made afterwards.
        work: how to decide: draw, force, encode, decode or weigh.
        active: where ``work`` decides, (B, stop − t) bool; None (default) = everywhere.
        kept: the values elsewhere, (B, stop − t).

        Raises ``ValueError`` where the model's parameters give values that are not finite.
        """
        assert state.decides(work.kind) and state.t < stop
        engine: Any = state.engine
        values = engine.decide(state.t, stop, work, active, kept)
        state.x.view(state.batch, -1)[:, self.order[state.t : stop]] = values
        state.t = stop


# The last program of each model, with the parameters and buffers that it was made from.
_programs: WeakKeyDictionary[RasterModel, tuple[list[Tensor], Program]] = WeakKeyDictionary()


