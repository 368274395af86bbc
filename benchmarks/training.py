"""Training speed of every model, compared with a plain reference of the same parameters (``benchmarks/plain``), in one run on one thread.

    python benchmarks/training.py [MODEL …] [--rounds 5] [--batch 16] [--profile] [--tiny]

Ours is a step of ``rastrum.train``: the batch in pieces, then Adam, with the batch and the pieces of ``CASES``. The reference is what a
PyTorch user would write: the whole batch at once through torch's own layers, loss, backward, ``torch.optim.Adam``; of adversarial models
one of the discriminator and one of the generator, each with pictures of its own. Both are given the same weights, and must give the same
losses first; of least-squares, also what its predictors say, computed once. Steps alternate, so that a slow minute affects both; a rate is
images per second of the processor's time, of the fastest step. Parameters that a mask sets to zero do not count.

The share of the peak compares the multiply-adds of forward and backward (three times the forward's, counted in the reference without what
masks set to zero; of adversarial models those of the reference's step) with a large float32 matrix product in the same run, by the faster
of the two libraries that torch brings. ``--profile`` prints where both spend their time, by torch's profiler; compiled loops count under
the function that calls them."""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import rastrum
from rastrum import ImageSpec
from rastrum.config import OptimConfig, RunConfig, TrainConfig
from rastrum.model import Model
from rastrum.training.optimiser import optimiser_of
from rastrum.training.workers import Workers


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a model is measured on.

    shape: channels, height, width, levels and, for videos, frames.
    options: that replace those of the preset "small".
    batch: images per step.
    piece: images that ours works on at once; by default as in training.
    smooth: whether neighbours are alike, as in photographs: means of 5x5 noise; else noise.
    tiny_shape: for ``--tiny``, with the preset "tiny".
    tolerance: relative difference of the two losses.
    """

    shape: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    batch: int = 32
    piece: int | None = OptimConfig().micro_batch
    smooth: bool = False
    tiny_shape: tuple[int, ...] = (1, 6, 5, 2)
    tolerance: float = 1e-4


GREY, BINARY, COLOUR, VIDEO = (1, 28, 28, 256), (1, 28, 28, 2), (3, 32, 32, 256), (1, 32, 32, 2, 8)
PIXELRNN: dict[str, Any] = dict(units=16, layers=7, hidden=32, skip=True, output_layers=2)    # the paper's of MNIST
DRAW: dict[str, Any] = dict(steps=32, latent=100, hidden=256, read=2, write=5)               # the same, but for half of its 64 steps
CASES = {
    "pixelcnn": Case(shape=BINARY),
    "gated-pixelcnn": Case(shape=GREY),
    "pixelcnn++": Case(shape=COLOUR, batch=16, tiny_shape=(3, 8, 6, 256)),
    "video-pixel-network": Case(shape=VIDEO, batch=4, tiny_shape=(1, 6, 5, 2, 3)),
    "pixel-lstm": Case(shape=BINARY, batch=16, piece=None),
    "row-lstm": Case(shape=BINARY, options=PIXELRNN, batch=16, piece=None),
    "diagonal-bilstm": Case(shape=BINARY, options=PIXELRNN, batch=16, piece=None),
    "multiscale-pixelrnn": Case(shape=BINARY, batch=16, piece=None),
    "spatial-lstm": Case(shape=GREY, batch=16, piece=None, tiny_shape=(1, 6, 5, 256)),
    "least-squares": Case(shape=COLOUR, batch=16, smooth=True, tiny_shape=(3, 6, 5, 256)),
    "draw": Case(shape=BINARY, options=DRAW, batch=64, piece=None),
    "conv-draw": Case(shape=COLOUR, batch=16, piece=None, tiny_shape=(3, 6, 5, 256)),
    "one-shot": Case(shape=BINARY, batch=64, piece=None),
    "vae": Case(shape=BINARY, batch=64, piece=None, tiny_shape=(1, 6, 8, 256)),
    "dcgan": Case(shape=GREY, piece=None, tiny_shape=(1, 8, 8, 256), tolerance=0.01),        # two ways to a largest singular value
    "gran": Case(shape=GREY, piece=None, tiny_shape=(1, 8, 8, 256), tolerance=0.01),
}


def plain(name: str, ours: Model) -> nn.Module:
    """The reference of a model, with its weights."""
    module = name.replace("++", "_plus_plus").replace("-", "_")
    return importlib.import_module(f"plain.{module}").build(ours)


def masks(module: nn.Module) -> list[tuple[nn.Module, Tensor]]:
    """The parts of a module that multiply their weight by a buffer ``mask``."""
    return [(part, part.mask) for part in module.modules() if isinstance(getattr(part, "mask", None), Tensor)]  # pyright: ignore


def free_parameters(module: nn.Module) -> int:
    """Parameters of a module, without what masks set to zero."""
    return sum(p.numel() for p in module.parameters()) - sum(int((mask == 0).sum()) for _, mask in masks(module))


def multiply_adds(reference: nn.Module, x: Tensor) -> float:
    """Of the forward pass per image, without those with zeros of masks."""
    masked = [0.0]

    def count(part: nn.Module, _: Any, out: Tensor) -> None:
        masked[0] += int((part.mask == 0).sum()) * out[:, :1].numel()     # pyright: ignore

    hooks = [part.register_forward_hook(count) for part, _ in masks(reference)]
    counter = FlopCounterMode(display=False)
    with counter:                                                         # it needs the graph
        reference(x, None)
    for hook in hooks:
        hook.remove()
    return (counter.get_total_flops() / 2 - masked[0]) / len(x)


def objectives(reference: nn.Module) -> list[tuple[Any, list[nn.Parameter]]]:
    """The losses that a step lowers one after another, (images, None) → (B,), and what each is lowered by."""
    several: Any = getattr(reference, "objectives", None)
    return [(reference, [p for p in reference.parameters() if p.requires_grad])] if several is None else list(several())


def seconds(step: Callable[[], object]) -> float:
    """The processor's time for one step."""
    begun = time.process_time()
    step()
    return time.process_time() - begun


def peak_multiply_adds() -> float:
    """Multiply-adds per second of the processor's time in a large float32 matrix product, by the faster of torch's two libraries."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    ways = [lambda: a @ b]
    if torch.backends.mkldnn.is_available():
        ways.append(lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""))
    return 1024**3 / min(seconds(way) for way in ways for _ in range(10))


def check(name: str, ours: Model, reference: nn.Module, x: Tensor, tolerance: float) -> None:
    """Same number of parameters, and the same losses of each image from the same weights and the same noise."""
    counts = [free_parameters(module) for module in (ours, reference)]
    assert counts[0] == counts[1], f"{name}: {counts[0]:,} parameters, {counts[1]:,} in the reference"
    for objective, (loss, _) in zip(ours.objectives(), objectives(reference), strict=True):
        found = []
        for each in (objective.loss, loss):
            torch.manual_seed(0)
            with torch.no_grad():
                found.append(each(x, None))
        torch.testing.assert_close(found[0], found[1].to(found[0].dtype), rtol=tolerance, atol=0, msg=lambda text: f"{name}: {text}")


def measure(name: str, case: Case, rounds: int, profiled: bool, tiny: bool) -> None:
    """Print a row of the table."""
    channels, height, width, levels, *frames = case.tiny_shape if tiny else case.shape
    spec = ImageSpec(channels, height, width, levels, *frames)
    ours = rastrum.build(name, spec, "tiny" if tiny else "small", **({} if tiny else case.options))
    x = torch.randint(0, levels, (case.batch, *spec.shape), generator=torch.Generator().manual_seed(0))
    if case.smooth:
        x = F.avg_pool2d(x.float(), 5, 1, 2, count_include_pad=False).round().long()
    ours.initialise(x[:8])
    reference = plain(name, ours).eval()
    check(name, ours, reference, x[:2], case.tolerance)
    work = multiply_adds(reference, x[:1])

    ours.train()
    reference.train()
    optim = OptimConfig(batch=case.batch, micro_batch=case.piece)
    with Workers(ours, TrainConfig(optim=optim, run=RunConfig(steps=1, workers=1))) as workers:
        optimiser = optimiser_of(workers.objectives, optim)
        plain_parts = [(loss, parameters, torch.optim.Adam(parameters)) for loss, parameters in objectives(reference)]

        def step() -> None:
            for number in range(len(workers.objectives)):
                workers.gradients(x, None, seed=0, number=number)
                optimiser.step()

        def plain_step() -> None:
            for loss, parameters, plain_optimiser in plain_parts:
                plain_optimiser.zero_grad()
                loss(x, None).mean().backward(inputs=parameters)
                plain_optimiser.step()

        if len(plain_parts) > 1:
            with FlopCounterMode(display=False) as counter:
                plain_step()
            work = counter.get_total_flops() / 2 / case.batch / 3

        steps: dict[Callable[[], None], list[float]] = {plain_step: [], step: []}
        for turn in range(rounds + 1):
            for run, taken in steps.items():
                elapsed = seconds(run)
                if turn:                                                  # the first compiles and warms up
                    taken.append(elapsed)
        slow, fast = (case.batch / min(taken) for taken in steps.values())
        middle = statistics.median(a / b for a, b in zip(*steps.values(), strict=True))
        share = 3 * work * fast / peak_multiply_adds()
        sizes = f"{free_parameters(ours):,} | {case.batch} in {min(case.piece or case.batch, case.batch)}s"
        print(f"| {name} | {sizes} | {slow:.1f} | {fast:.1f} | **{fast / slow:.2f}** ({middle:.2f}) | {share:.0%} |", flush=True)
        if profiled:
            for what, run in zip(("reference", "ours"), steps, strict=True):
                with profile(activities=[ProfilerActivity.CPU]) as recorded:
                    run()
                table = recorded.key_averages().table("self_cpu_time_total", row_limit=25, max_name_column_width=40)
                print(f"\n{name}, {what}:", table, sep="\n")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"default: all of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each, after one that is not counted (default 5)")
    parser.add_argument("--batch", type=int, help="images per step (default: that of the model's case)")
    parser.add_argument("--piece", type=int, help="images that ours works on at once (default: that of the model's case)")
    parser.add_argument("--profile", action="store_true", help="where both spend their time")
    parser.add_argument("--tiny", action="store_true", help="tiny models and images, one round: only whether it runs")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.models) - set(CASES))
    if unknown or options.rounds < 1 or (options.batch or 1) < 1 or (options.piece or 1) < 1:
        parser.error(f"no model {unknown[0]!r}; there are {', '.join(CASES)}" if unknown else "numbers must be at least 1")
    torch.set_num_threads(1)
    header = "model", "parameters", "batch", "reference, images/CPU-s", "ours", "ratio (median of rounds)", "of the peak"
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    for name in options.models or CASES:
        case = CASES[name]
        case = replace(case, batch=options.batch or (3 if options.tiny else case.batch), piece=options.piece or case.piece)
        measure(name, case, 1 if options.tiny else options.rounds, options.profile, options.tiny)


if __name__ == "__main__":
    main()
