"""Training speed of the models that scan a map line by line, compared with a loop over positions with the same parameters, in one run.

    python benchmarks/recurrent.py [--models row-lstm diagonal-bilstm] [--batch 16] [--threads 1 2] [--steps 5]

The models have seven layers of h = 16, for images of 28x28 with two levels. A step is what ``rastrum.train`` does: one worker per thread,
each with its piece of the batch, and Adam. The loop computes the recurrence as in its equations, one position at a time for all images
together, and leaves the backward pass to autograd; the rest of the network is the same. Both must give the same loss and gradients, which
is checked first. Memory is the peak of a separate process that takes one step. Absolute times are noisy on a shared machine; the ratios are
of one run in which the two methods alternate, the loop for only a step or two because each takes seconds."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor

import rastrum
from rastrum import ImageSpec, RasterModel
from rastrum.config import OptimConfig, RunConfig, TrainConfig
from rastrum.layers.recurrent import DiagonalScan, RowScan
from rastrum.train import Workers

SPEC = ImageSpec(1, 28, 28, 2)
MODELS = ("row-lstm", "diagonal-bilstm")
WAYS = ("compiled", "loop")


def by_position(scan: RowScan | DiagonalScan, gates: Tensor) -> Tensor:
    """gates (B, H, W, 4n) → h (B, H, W, n), one position after another."""
    batch, height, width, _ = gates.shape
    first = scan.first_h.expand(batch, -1), scan.first_c.expand(batch, -1)
    states: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    backwards = isinstance(scan, DiagonalScan) and scan.from_right
    for i in range(height):
        for j in reversed(range(width)) if backwards else range(width):
            if isinstance(scan, DiagonalScan):
                kept = (i, j + 1 if backwards else j - 1)
                seen = [kept, (i - 1, j)]
            else:
                kept, seen = (i - 1, j), [(i - 1, j + offset) for offset in scan.offsets]
            total = gates[:, i, j]
            for position, weight in zip(seen, scan.weights, strict=True):
                total = total + states.get(position, first)[0] @ weight
            o, f, enters, g = total.chunk(4, 1)
            c = f.sigmoid() * states.get(kept, first)[1] + enters.sigmoid() * g.tanh()
            states[i, j] = o.sigmoid() * c.tanh(), c
    return torch.stack([torch.stack([states[i, j][0] for j in range(width)], 1) for i in range(height)], 1)


def build(name: str, way: str) -> RasterModel:
    model = rastrum.build(name, SPEC, units=16, layers=7, hidden=32, seed=0)
    assert isinstance(model, RasterModel)
    if way == "loop":
        for scan in model.modules():
            if isinstance(scan, RowScan | DiagonalScan):
                scan.forward = partial(by_position, scan)
    return model


def settings(batch: int, threads: int) -> TrainConfig:
    return TrainConfig(optim=OptimConfig(batch=batch, micro_batch=-(-batch // threads)), run=RunConfig(steps=1, workers=threads))


def images(batch: int) -> Tensor:
    return torch.randint(0, SPEC.levels, (batch, *SPEC.shape), generator=torch.Generator().manual_seed(0))


def check(name: str, batch: int) -> None:
    """Both methods agree: the loss to 1e-5 of itself, each gradient to 1e-4 of its largest value."""
    x, results = images(batch), []
    for way in ("compiled", "loop"):
        model = build(name, way)
        loss = -model.log_prob(x).mean()
        results.append((loss.item(), torch.autograd.grad(loss, list(model.parameters()))))
    (ours, gradients), (loop, exact) = results
    assert abs(ours - loop) < 1e-5 * loop, (ours, loop)
    for mine, theirs in zip(gradients, exact, strict=True):
        assert (mine - theirs).abs().max() <= 1e-4 * theirs.abs().max(), (mine - theirs).abs().max()


def rates(name: str, batch: int, threads: int, steps: int) -> list[float]:
    """The highest images per second of each method."""
    torch.set_num_threads(threads)
    x, best = images(batch), [0.0] * len(WAYS)
    with ExitStack() as stack:
        runs = []
        for way in WAYS:
            workers = stack.enter_context(Workers(build(name, way), settings(batch, threads)))
            runs.append((workers, torch.optim.Adam(workers.parameters, 1e-3, fused=True)))
        for turn in range(steps + 1):
            for n, (workers, optimiser) in enumerate(runs):
                if n == WAYS.index("loop") and turn not in (1, steps):
                    continue
                start = time.perf_counter()
                workers.gradients(x, None)
                optimiser.step()
                if turn:                                                  # the first warms up
                    best[n] = max(best[n], batch / (time.perf_counter() - start))
    return best


def one_step(name: str, way: str, batch: int) -> None:
    """Prints this process's peak memory, MiB."""
    torch.set_num_threads(1)
    with Workers(build(name, way), settings(batch, 1)) as workers:
        workers.gradients(images(batch), None)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def step_memory(name: str, way: str, batch: int) -> float:
    command = [sys.executable, __file__, "--one-step", name, way, "--batch", str(batch)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--one-step", nargs=2, metavar=("MODEL", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_step:
        name, way = options.one_step
        one_step(name, way, options.batch)
        return
    # This comes first, because a process begins with the peak memory of the one that starts it.
    peaks = {name: " | ".join(f"{step_memory(name, way, options.batch):,.0f}" for way in WAYS) for name in options.models}
    print("| model | threads | compiled, images/s | loop over positions | ratio | peak MiB, compiled | loop |\n" + "|---" * 7 + "|")
    for name in options.models:
        check(name, min(options.batch, 2))
        for threads in options.threads:
            ours, loop = rates(name, options.batch, threads, options.steps)
            print(f"| {name} | {threads} | {ours:.1f} | {loop:.2f} | **{ours / loop:.1f}** | {peaks[name]} |", flush=True)


if __name__ == "__main__":
    main()
