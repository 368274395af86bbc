"""Rows as CUDA graphs, without a GPU: ``Recorded`` repeats what a row's operations wrote, as a graph does, and runs no Python again.

So a row that read anything but buffers that stay where they are would draw other images than the torch interpreter, or the same in every
row. It also refuses what cannot be captured: questions of the CPU, and tensors that come from it.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import rastrum
from rastrum import ConditionSpec, ImageSpec, RasterModel
from rastrum.program import graphs
from rastrum.program.graphs import call_by_call

aten = torch.ops.aten
DEVICE = torch.device(os.environ.get("RASTRUM_TEST_DEVICE", "cpu"))        # cuda: real graphs
WAITS = {
    aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.is_nonzero.default, aten.lift_fresh.default,
    aten.equal.default, aten.unique_consecutive.default, aten._pin_memory.default,
}  # fmt: skip


class Recorded(TorchDispatchMode):
    """A function's operations on the memory that they were given when it ran, which repeat without it."""

    def __init__(self, run: Callable[[], None]) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}
        self.made: set[int] = set()
        with self:
            run()
        for memory, values in self.before.values():                       # capturing runs nothing: put back what it wrote
            memory.copy_(values)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), options: Any = None) -> Any:
        options = options or {}
        assert function not in WAITS, f"{function} waits for the device, or for the CPU"
        for argument, value in zip(function._schema.arguments, [*args, *[None] * len(function._schema.arguments)], strict=False):
            given = options.get(argument.name, value)
            if argument.alias_info is not None and argument.alias_info.is_write and isinstance(given, Tensor):
                self._keep(given)
        read = {place(tensor) for tensor in tree_leaves((args, options)) if isinstance(tensor, Tensor)}
        out = function(*args, **options)
        new = [tensor for tensor in tree_leaves(out) if isinstance(tensor, Tensor) and place(tensor) not in read]   # no views of arguments
        self.made |= {place(tensor) for tensor in new}
        self.calls.append((function, args, options, new))
        return out

    def _keep(self, tensor: Tensor) -> None:
        if place(tensor) not in self.made and place(tensor) not in self.before:
            memory = torch.tensor([], dtype=tensor.dtype).set_(tensor.untyped_storage())
            self.before[place(tensor)] = memory, memory.clone()

    def __call__(self) -> None:
        for function, args, options, new in self.calls:
            again = [tensor for tensor in tree_leaves(function(*args, **options)) if isinstance(tensor, Tensor)]
            for kept, values in zip(new, again, strict=True) if new else ():
                kept.copy_(values)


def place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU every graph is recorded."""
    monkeypatch.setattr(graphs, "call_by_call", Recorded)


SPECS = (ImageSpec(1, 6, 5, 2), ImageSpec(3, 5, 4, 7), ImageSpec(1, 1, 1, 3), ImageSpec(1, 9, 9, 4))
ADAPTIVE = "least-squares"    # is computed on the CPU
RASTER = [name for name, kind in rastrum.MODELS.items() if issubclass(kind, RasterModel) and name != ADAPTIVE]


def made(name: str, spec: ImageSpec, condition: ConditionSpec | None = None, **options: Any) -> tuple[Any, Tensor, Tensor | None]:
    """A model, three images, and their conditions. In float64 on a GPU, whose products differ in rounding inside and outside of graphs."""
    model: Any = rastrum.build(name, spec, "tiny", condition, seed=1, **options)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, spec.levels, (8, *spec.shape), generator=generator)
    given = None
    if condition is not None:
        given = torch.arange(8) % 5 if condition.kind == "class" else torch.randn(8, *condition.shape, generator=generator)
    model.initialise(x, given)
    if DEVICE.type != "cpu":
        model = model.double().to(DEVICE)
    return model, x[:3], None if given is None else given[:3]


@pytest.mark.parametrize("name", RASTER)
def test_the_same_images_as_without_graphs(name: str) -> None:
    """To the bit, in the first walk, which makes the graphs, and in the second, which only repeats them; with another seed, others."""
    for spec in SPECS:
        model, _, _ = made(name, spec)
        for seed, temperature in ((1, 1.0), (2, 1.0), (3, 0.7), (4, 0.7)):
            same(model, seed=seed, temperature=temperature)


def test_what_graphs_cannot_run_is_refused() -> None:
    model = rastrum.build(ADAPTIVE, SPECS[0], preset="tiny")
    with pytest.raises(ValueError, match="'graphs' cannot run least squares"):
        rastrum.sample(model, 1, backend="graphs")


def same(model: Any, condition: Tensor | None = None, **options: Any) -> None:
    drawn, expected = (rastrum.sample(model, 3, condition, backend=backend, **options) for backend in ("graphs", "torch"))
    assert drawn.equal(expected), options


CONDITIONS = {"class": ConditionSpec("class", 5), "map": ConditionSpec("map", (2, 3, 3))}


TAKES = [(name, kind) for name in RASTER for kind in CONDITIONS if kind in rastrum.MODELS[name].conditions]


@pytest.mark.parametrize(("name", "kind"), TAKES)
def test_the_conditions_of_a_later_walk(name: str, kind: str) -> None:
    """A graph that is used again reads the new conditions."""
    model, _, given = made(name, ImageSpec(1, 6, 5, 3), CONDITIONS[kind])
    assert given is not None
    for seed in (1, 2, 3):
        same(model, given.roll(seed, 0), seed=seed)


VARIANTS = [
    ("multiscale-pixelrnn", {"base": "diagonal-bilstm"}),
    ("pixelcnn", {"skip": True, "output_layers": 2}),
    ("spatial-lstm", {"layers": 2}),
    ("video-pixel-network", {"memory": "behind"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_variants(name: str, options: dict[str, Any]) -> None:
    model, _, _ = made(name, ImageSpec(1, 5, 6, 3), **options)
    for seed in (1, 2, 3):
        same(model, seed=seed)


def test_videos() -> None:
    """Graphs of later frames begin with the frame phases, and known frames are taken without running a step."""
    model, x, _ = made("video-pixel-network", ImageSpec(1, 4, 3, 3, 4))
    for seed in (1, 2, 3):
        same(model, seed=seed)
    known = torch.zeros(model.spec.shape, dtype=torch.bool)
    known[:2] = True
    for seed in (1, 2):
        filled, expected = (rastrum.complete(model, x, known, seed=seed, backend=backend) for backend in ("graphs", "torch"))
        assert filled.equal(expected)


@pytest.mark.parametrize("name", RASTER)
def test_completions(name: str) -> None:
    """A known beginning that ends within a row and within a pixel, then some values known here and there, others in each image."""
    spec = ImageSpec(3, 5, 4, 7)
    model, x, _ = made(name, spec)
    generator = torch.Generator().manual_seed(3)
    known = torch.rand(3, *spec.shape, generator=generator) < 0.3
    known.view(3, -1)[:, model.order[:17].cpu()] = True
    for seed in (1, 2, 3):
        filled, expected = (rastrum.complete(model, x, known, seed=seed, backend=backend) for backend in ("graphs", "torch"))
        assert filled.equal(expected) and filled.cpu()[known].equal(x[known].to(torch.uint8))
    weighted = [rastrum.complete(model, x, known, particles=3, seed=1, backend=backend) for backend in ("graphs", "torch")]
    assert all(a.equal(b) for a, b in zip(*weighted, strict=True))


def test_frames_within_a_row_and_copies_of_a_state() -> None:
    """Parts of rows are decided from the same buffers, and a copy of a state goes its own way."""
    for name in ("pixelcnn++", "gated-pixelcnn"):
        model, x, _ = made(name, SPECS[1])
        for every in (7, "decision", "row"):
            walks = [list(rastrum.generate(model, 3, seed=2, every=every, backend=backend)) for backend in ("graphs", "torch")]  # pyright: ignore
            assert all(a.values.equal(b.values) for a, b in zip(*walks, strict=True))
        with torch.inference_mode():
            states = [model.init(3, backend=backend) for backend in ("graphs", "torch")]
            for state in states:
                model.prefill(state, x.to(DEVICE), 16)
            one, two = (state.select(torch.tensor([2, 0])) for state in states)
            for state in states:                                          # the original goes on; the copies must not notice
                model.prefill(state, x.to(DEVICE), 40)
            assert model.step(one).log_pmf().equal(model.step(two).log_pmf())


def test_rows_share_graphs_and_walks_share_interpreters(monkeypatch: pytest.MonkeyPatch) -> None:
    """One graph for most rows; none is made in a third walk; two walks at once have an interpreter each; new weights, new graphs."""
    made_graphs: list[int] = []

    def count(run: Callable[[], None]) -> Callable[[], object]:
        made_graphs.append(1)
        return call_by_call(run)

    name, stand_in = ("call_by_call", count) if DEVICE.type == "cpu" else ("CudaGraphs", lambda: count)
    monkeypatch.setattr(graphs, name, stand_in)
    model, _, _ = made("gated-pixelcnn", ImageSpec(1, 9, 5, 3))
    same(model, seed=1)
    assert len(made_graphs) == 1
    for seed in (2, 3):
        same(model, seed=seed)
    assert len(made_graphs) <= 3
    gc.collect()
    (idle,) = model.lowered().idle
    assert idle.head is None                                              # it would keep the model for ever
    both = [rastrum.generate(model, 3, seed=seed, backend="graphs") for seed in (4, 5)]
    frames = [list(pair) for pair in zip(*both, strict=True)]
    for seed, last in zip((4, 5), frames[-1], strict=True):
        assert last.values is not None and last.values.equal(rastrum.sample(model, 3, seed=seed, backend="torch").long())
    del both, frames, last
    gc.collect()
    assert len(model.lowered().idle) == 2 and idle in model.lowered().idle
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    same(model, seed=6)


def test_what_is_refused() -> None:
    """Parameters that are not finite, after the row in which they are met; and a program without a head."""
    for name in ("gated-pixelcnn", "pixelcnn++"):
        model, _, _ = made(name, ImageSpec(3, 4, 4, 7))
        same(model, seed=1)
        with torch.no_grad():
            list(model.parameters())[-1].fill_(float("nan"))
        for _ in range(2):
            with pytest.raises(ValueError, match="the model produced non-finite values"):
                rastrum.sample(model, 3, backend="graphs")

    class Headless(rastrum.MODELS["pixelcnn"]):
        def head(self, *args: Any) -> Any:
            return super().head(*args)

    headless = Headless(ImageSpec(1, 3, 3, 2), rastrum.MODELS["pixelcnn"].preset("tiny", ImageSpec(1, 3, 3, 2)))
    with pytest.raises(ValueError, match="backend: 'graphs' is for programs that say"):
        rastrum.sample(headless, 1, backend="graphs")
