"""The cost of DRAW: a training step relative to its matrix products, a sample relative to the generative half of a training forward pass.

    python benchmarks/drawing.py [--threads 1] [--rounds 7] [--steps 32] [--batch 64]

Training: DRAW for 28x28 images of two levels, LSTMs of 256, read 2, write 5, forward and backward, with and without Adam's step. The matrix
products are recorded while the model itself runs one step: those of the forward pass and the two that the gradient of each takes. They are
repeated with the same sizes and strides on tensors made before. Products that shared a tensor share one again, so a weight that stays in
the processor's cache from step to step does so here too. Sampling: T = 64, 64 images, compared with the generative half of a training
forward pass of as many: prior, write and likelihood, with autograd.

Times are CPU times of the whole process, with alternating measurements and the median of all rounds, so other programs have little
influence. ``tests/test_draw.py`` compares the step with its equations in float64, so what is timed here is the whole model."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import rastrum
from rastrum import CanvasModel, ImageSpec

SPEC = ImageSpec(1, 28, 28, 2)
LSTM, READ, WRITE = 256, 2, 5
LAYERS, WINDOWS = "products of layers", "products of windows, batched"
aten = torch.ops.aten
PRODUCTS = {aten.mm.default: (0, 1), aten.addmm.default: (1, 2), aten.bmm.default: (0, 1)}


class Recorder(TorchDispatchMode):
    """Records factors like those of every matrix product that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[tuple[Tensor, Tensor]] = []
        self.memory: dict[tuple[int, int], Tensor] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in PRODUCTS:
            left, right = (self.like(args[i]) for i in PRODUCTS[func])
            self.products.append((left, right))
        return func(*args, **(kwargs or {}))

    def like(self, factor: Tensor) -> Tensor:
        """Random values in the same layout, with one piece of memory for each of the model's."""
        storage = factor.untyped_storage()
        piece = (storage.data_ptr(), storage.nbytes())
        if piece not in self.memory:
            self.memory[piece] = torch.randn(storage.nbytes() // factor.element_size())
        return self.memory[piece].as_strided(factor.shape, factor.stride(), factor.storage_offset())


def build(steps: int) -> CanvasModel:
    model = rastrum.build("draw", SPEC, "paper", steps=steps, hidden=LSTM, read=READ, write=WRITE, seed=0)
    assert isinstance(model, CanvasModel)
    return model


def processor_ms(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return 1000 * (time.process_time() - start)


def alternate(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each of the alternatives; the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, run in ways.items():
            spent = processor_ms(run)
            if turn:
                times[name].append(spent)
    return {name: median(spent) for name, spent in times.items()}


def training(steps: int, batch: int, rounds: int) -> dict[str, float]:
    model = build(steps)
    x = torch.randint(0, 2, (batch, *SPEC.shape), generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.Adam(model.parameters(), 1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        model.loss(x).mean().backward()

    def whole_step() -> None:
        step()
        optimiser.step()

    def forward() -> None:
        model.loss(x).mean()

    with Recorder() as recorder:
        step()

    single = [(a, b) for a, b in recorder.products if a.ndim == 2]
    batched = [(a, b) for a, b in recorder.products if a.ndim == 3]

    @torch.no_grad()
    def products(parts: list[tuple[Tensor, Tensor]]) -> None:
        for a, b in parts:
            torch.mm(a, b) if a.ndim == 2 else torch.bmm(a, b)

    ways = {"products": lambda: products(recorder.products), LAYERS: lambda: products(single), WINDOWS: lambda: products(batched)}
    times = alternate({**ways, "forward": forward, "step": step, "step and Adam": whole_step}, rounds)
    count = sum(a.numel() * b.shape[-1] for a, b in recorder.products)
    return times | {"multiply-adds": count, "number": len(recorder.products)}


def sampling(steps: int, batch: int, rounds: int) -> dict[str, float]:
    model = build(steps)
    x = torch.randint(0, 2, (batch, *SPEC.shape), generator=torch.Generator().manual_seed(0))
    drawn = 0

    def sample() -> None:
        nonlocal drawn
        model.sample(batch, seed=0, first=drawn)
        drawn += batch                                                    # new noise each time

    def half() -> None:
        state = model.init(batch)
        while state.t < model.steps:
            prior = model.prior(state)
            model.write(state, prior.sample(torch.randn(prior.noise_shape)))
        model.reconstruction(state, x)

    return alternate({"sample": sample, "generative half": half}, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=32, help="strokes in the training step; a sample has 64")
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = training(options.steps, options.batch, options.rounds)
    base = found["products"]
    print(f"training, T = {options.steps}, batch {options.batch}, {options.threads} thread(s): {found['number']:,.0f} matrix products of "
          f"{found['multiply-adds'] / 1e9:.2f} G multiply-adds\n\n| | CPU ms | relative to the products |\n|---|---|---|")  # fmt: skip
    for name in ("products", LAYERS, WINDOWS, "forward", "step", "step and Adam"):
        print(f"| {name} | {found[name]:.0f} | {found[name] / base:.2f} |")
    found = sampling(64, 64, options.rounds)
    print(f"\nsampling, T = 64, 64 images: {found['sample']:.0f} ms, the generative half of a training forward pass "
          f"{found['generative half']:.0f} ms: **{found['sample'] / found['generative half']:.2f}**")  # fmt: skip


if __name__ == "__main__":
    main()
