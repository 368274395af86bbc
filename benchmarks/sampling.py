"""Cost of a sample: native and torch interpreter, one full forward pass per decision, and one forward pass of the same batch.

    python benchmarks/sampling.py [--models gated-grey row-lstm-rgb …] [--batches 1 4 16 64] [--threads 1] [--sizes 8 64 --plot sizes.png]
    python benchmarks/sampling.py --alternate 15 [--models …] [--batches …]        # one ratio only, for a busy machine

The forward pass is ``log_prob``, including the head, in chunks of the fastest size here. The plain forward pass is the same in torch alone,
with one product per tap and without the compiled layers, as the torch interpreter does. The naive method is timed on a few decisions spread
over the image and extrapolated. The share of the peak compares the multiply-adds of the step program with those of a loop that stays in
registers and the first-level cache, measured in the same run. Encode and decode are ``compress`` and ``decompress`` relative to ``sample``.
Absolute times are noisy on a shared machine; the ratios are of one run."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numba import njit

import rastrum
from rastrum import ImageSpec, RasterModel
from rastrum.native import compiler
from rastrum.native.linear import linear
from rastrum.raster import Backend
from rastrum.walk import Sample, walk

GREY, COLOUR = ImageSpec(1, 28, 28, 256), ImageSpec(3, 32, 32, 256)
MODELS: dict[str, Callable[[], object]] = {
    "gated-grey": lambda: rastrum.build("gated-pixelcnn", GREY, channels=64, layers=6, hidden=64),
    "gated-rgb": lambda: rastrum.build("gated-pixelcnn", COLOUR, channels=63, layers=6, hidden=63),
    "pixelcnn++": lambda: rastrum.build("pixelcnn++", COLOUR, filters=32, blocks=1),
    "gated-large": lambda: rastrum.build("gated-pixelcnn", GREY, channels=128, layers=12, hidden=128),
}
RECURRENT = ("pixel-lstm", "spatial-lstm", "row-lstm", "diagonal-bilstm", "multiscale-pixelrnn")
for name in RECURRENT:                                                    # at their preset "small"
    MODELS[f"{name}-grey"] = partial(rastrum.build, name, GREY)
    MODELS[f"{name}-rgb"] = partial(rastrum.build, name, COLOUR)
FIRST_SAMPLE = """
import time, rastrum
model = rastrum.build("gated-pixelcnn", rastrum.ImageSpec(1, 28, 28, 256), preset="small")
start = time.perf_counter()
rastrum.sample(model, 1)
print(time.perf_counter() - start)
"""


def seconds(run: Callable[[], object], repeats: int, budget: float) -> float:
    """The least of ``repeats`` times after a warm-up, stopping after ``budget`` seconds."""
    run()
    best, begun = float("inf"), time.perf_counter()
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() - begun > budget:
            break
    return best


def peak_multiply_adds() -> float:
    """Multiply-adds per second of one core, from a loop over a tile of six rows and 64 outputs."""
    inputs, repeats = 256, 20_000
    source, weights, out = (np.zeros(n, np.float32) for n in (6 * inputs, 64 * inputs + 64, 6 * 64))

    @njit
    def loop(source: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
        for _ in range(repeats):
            linear(6, inputs, 64, source, 0, inputs, weights, 0, 64 * inputs, out, 0, 64, out, 0, 64)

    return repeats * 6 * 64 * inputs / seconds(lambda: loop(source, weights, out), 10, 2)


def multiply_adds(model: RasterModel) -> int:
    """Multiply-adds of the step program for one image."""
    spec, total = model.spec, 0
    for phase in model.program().phases.values():
        for op in phase.operations:
            if op.weight is not None and phase.kind != "start":
                grid = op.grid
                rows = sum(row & grid.row_mask == grid.row_value for row in range(phase.first_row, spec.height))
                due = sum(column & grid.column_mask == grid.column_value for column in range(spec.width))
                total += rows * (grid.columns if phase.kind == "row" else due) * op.weight.numel()
    return total


def drawing(model: RasterModel, batch: int, backend: Backend) -> Callable[[], object]:
    drawn = 0

    def draw() -> None:
        nonlocal drawn
        drawn += batch                                                    # new noise each time
        deque(walk(model, batch, Sample(0, first=drawn), every=model.spec.size, backend=backend), maxlen=0)

    return draw


def forward_seconds(model: RasterModel, batch: int, compiled: bool = True) -> tuple[float, int]:
    """Seconds of the fastest forward pass of a batch, and its chunk size; with or without the compiled layers."""
    x = torch.randint(0, model.spec.levels, (batch, *model.spec.shape), generator=torch.Generator().manual_seed(0))

    def forward(chunk: int) -> None:
        for start in range(0, batch, chunk):
            model.log_prob(x[start : start + chunk])

    compiler.available, there = compiled and compiler.available, compiler.available
    try:
        with torch.inference_mode():
            chunks = [chunk for chunk in (1, 2, 4, 8) if chunk <= batch]
            return min((seconds(lambda chunk=chunk: forward(chunk), 5, 3), chunk) for chunk in chunks)
    finally:
        compiler.available = there


def measure(name: str, batch: int, peak: float) -> None:
    """Print a row of the main table."""
    model = MODELS[name]()
    assert isinstance(model, RasterModel)
    spec = model.eval().spec
    pixel = 1e6 / (spec.height * spec.width)
    state = model.init(batch, backend="naive")

    def naive() -> None:
        with torch.inference_mode():
            for t in range(0, spec.size, spec.size // 4):
                state.t = t
                model.step(state)

    forward, chunk = forward_seconds(model, batch)
    plain, _ = forward_seconds(model, batch, compiled=False)
    whole = seconds(naive, 1, 4) / 4 * spec.size
    through_torch = seconds(drawing(model, batch, "torch"), 5, 8)
    native = seconds(drawing(model, batch, "native"), 5, 6)
    images = rastrum.sample(model, batch)
    blob = rastrum.compress(model, images)
    drawn = seconds(lambda: rastrum.sample(model, batch), 5, 4)
    encoded, decoded = (
        seconds(run, 5, 4) / drawn for run in (lambda: rastrum.compress(model, images), lambda: rastrum.decompress(model, blob))
    )
    again, _ = forward_seconds(model, batch)                              # before and after, so that one slow minute does not decide
    forward = min(forward, again)
    share = multiply_adds(model) * batch / native / peak
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| {name} {spec.channels}x{spec.height}x{spec.width} | {batch} | {whole * pixel:,.0f} | {through_torch * pixel:,.0f} |"
        f" {native * pixel:,.1f} | {forward * pixel:,.1f} ({chunk}) | {plain * pixel:,.1f} |"
        f" {through_torch / plain:.2f} | {through_torch / forward:.2f} | **{native / forward:.2f}** |"
        f" {share:.0%} | {encoded:.2f} | {decoded:.2f} | {memory:,.0f} |",
        flush=True,
    )


def alternate(name: str, batch: int, rounds: int) -> None:
    """native / forward in CPU time, alternating, the median of many rounds: for machines where other programs run."""
    model = MODELS[name]()
    assert isinstance(model, RasterModel)
    _, chunk = forward_seconds(model.eval(), batch)
    x = torch.randint(0, model.spec.levels, (batch, *model.spec.shape), generator=torch.Generator().manual_seed(0))
    images = rastrum.sample(model, batch)
    blob = rastrum.compress(model, images)

    def forward() -> None:
        for part in x.split(chunk):
            model.log_prob(part)

    draw = drawing(model, batch, "native")
    sample, encode = (lambda: rastrum.sample(model, batch)), (lambda: rastrum.compress(model, images))
    ways = (draw, forward, sample, encode, lambda: rastrum.decompress(model, blob))
    times = []
    with torch.inference_mode():
        for turn in range(rounds + 1):
            spent = []
            for run in ways:
                start = time.process_time()
                run()
                spent.append(time.process_time() - start)
            if turn:                                                      # the first warms up
                times.append(spent)
    middle = [sorted(column)[rounds // 2] * 1e3 for column in zip(*times, strict=True)]
    ratios, encoded, decoded = (sorted(spent[a] / spent[b] for spent in times) for a, b in ((0, 1), (3, 2), (4, 2)))
    print(f"| {name} | {batch} | {middle[0]:.1f} | {middle[1]:.1f} ({chunk}) | **{ratios[rounds // 2]:.2f}** |"
          f" {ratios[rounds // 4]:.2f}–{ratios[3 * rounds // 4]:.2f} | {encoded[rounds // 2]:.2f} | {decoded[rounds // 2]:.2f} |",
          flush=True)  # fmt: skip


def first_sample() -> None:
    """Seconds to the first image in a process that has to compile, and in one that finds the compiled code on disk."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        cold, warm = (
            float(subprocess.run([sys.executable, "-c", FIRST_SAMPLE], env=environment, capture_output=True, text=True, check=True).stdout)
            for _ in range(2)
        )
    print(f"\nFirst image of a process: {cold:.1f} s where it compiles, {warm:.2f} s from the cache on disk.")


def by_size(sizes: list[int], plot: Path | None) -> None:
    """Cost per pixel for images of different sizes; it must not grow."""
    print("\n| size | sample, µs/pixel, B=1 | forward, µs/pixel | sample, µs per pixel and image, B=16 | forward |\n|---|---|---|---|---|")
    rows = []
    for size in sizes:
        model = rastrum.build("gated-pixelcnn", ImageSpec(1, size, size, 256), channels=64, layers=6, hidden=64)
        assert isinstance(model, RasterModel)
        model.eval()
        times = []
        for batch in (1, 16):
            scale = 1e6 / (size * size * batch)
            times += [seconds(drawing(model, batch, "native"), 3, 5) * scale, forward_seconds(model, batch)[0] * scale]
        rows.append(times)
        print(f"| {size}x{size} | " + " | ".join(f"{time:.1f}" for time in times) + " |", flush=True)
    if plot is not None:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
        names = ("sample, B=1", "forward, B=1", "sample, B=16", "forward, B=16")
        for times, label, style in zip(zip(*rows, strict=True), names, ("C0-o", "C0:", "C1-o", "C1:"), strict=True):
            axes.plot(sizes, times, style, label=label)
        axes.set(xscale="log", xlabel="height and width of the image", ylabel="µs per pixel and image", ylim=(0, None))
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.legend(frameon=False)
        figure.savefig(plot, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=[name for name in MODELS if not name.startswith(RECURRENT)])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", nargs="*", type=int, default=[8, 16, 32, 64])
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--alternate", type=int, metavar="ROUNDS", help="only native / forward and coding, in alternating CPU time")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.alternate is not None:
        print("| model | B | native, CPU ms | forward (chunk) | native / forward, median | quartiles | encode / sample | decode / sample |")
        print("|---|---|---|---|---|---|---|---|")
        for name in options.models:
            for batch in options.batches:
                alternate(name, batch, options.alternate)
        return
    peak = peak_multiply_adds()
    print(f"{options.threads} thread(s); peak of a core {peak / 1e9:.1f} billion float32 multiply-adds per second\n")
    print("| model | B | naive, µs/pixel | torch | native | forward (chunk) | plain forward | torch / plain | torch / forward |", end="")
    print(" native / forward | of the peak | encode / sample | decode / sample | peak MiB |\n" + "|---" * 14 + "|")
    for name in options.models:
        for batch in options.batches:
            measure(name, batch, peak)
    first_sample()
    if options.sizes:
        by_size(options.sizes, options.plot)


if __name__ == "__main__":
    main()
