"""Price of a sample: naive (one full forward a decision), by the step program, and one forward of the same batch, side by side.

    python benchmarks/sampling.py [--models gated-grey gated-rgb pixelcnn++] [--batches 1 16 64] [--threads 1]

The forward is ``log_prob``, head included, in the chunk size that is fastest here. Naive is timed on a few decisions spread over the
image and multiplied up. Times are noise on a shared machine; the ratios are of one run. Peak memory is of the process so far.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import deque
from collections.abc import Callable

import torch

import rastrum
from rastrum import ImageSpec, RasterModel
from rastrum.walk import Sample, walk

MODELS: dict[str, Callable[[], object]] = {
    "gated-grey": lambda: rastrum.build("gated-pixelcnn", ImageSpec(1, 28, 28, 256), maps=64, layers=6, hidden=64),
    "gated-rgb": lambda: rastrum.build("gated-pixelcnn", ImageSpec(3, 32, 32, 256), maps=63, layers=6, hidden=63),
    "pixelcnn++": lambda: rastrum.build("pixelcnn++", ImageSpec(3, 32, 32, 256), filters=32, blocks=1),
}


def seconds(run: Callable[[], object], repeats: int, budget: float) -> float:
    """Least of ``repeats`` times after a warm-up, stopping when ``budget`` seconds are spent."""
    run()
    best, begun = float("inf"), time.perf_counter()
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() - begun > budget:
            break
    return best


def measure(name: str, batch: int) -> None:
    model = MODELS[name]()
    assert isinstance(model, RasterModel)
    spec = model.eval().spec
    x = torch.randint(0, spec.levels, (batch, *spec.shape), generator=torch.Generator().manual_seed(0))
    drawn = 0

    def forward(chunk: int) -> None:
        for start in range(0, batch, chunk):
            model.log_prob(x[start : start + chunk])

    def cached() -> None:
        nonlocal drawn
        drawn += batch                                                    # new noise every time
        deque(walk(model, batch, Sample(0, first=drawn), every=spec.size), maxlen=0)

    def naive() -> None:
        state = model.init(batch, backend="naive")
        for t in range(0, spec.size, spec.size // 4):
            state.t = t
            model.step(state)

    with torch.inference_mode():
        by_chunk = {chunk: seconds(lambda chunk=chunk: forward(chunk), 5, 4) for chunk in (1, 2, 4, 8) if chunk <= batch}
        chunk, one_forward = min(by_chunk.items(), key=lambda item: item[1])
        whole = seconds(naive, 2, 4) / 4 * spec.size
    sample = seconds(cached, 3, 10)
    pixels = spec.height * spec.width
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| {name} {spec.channels}x{spec.height}x{spec.width} | {batch} | {whole / pixels * 1e6:,.0f} | {sample / pixels * 1e6:,.1f} |"
        f" {one_forward / pixels * 1e6:,.1f} ({chunk}) | {sample / one_forward:.2f} | {whole / sample:,.0f} | {memory:,.0f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| model | B | naive, µs/pixel | sample, µs/pixel | forward, µs/pixel (chunk) | sample / forward | naive / sample | peak MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.models:
        for batch in options.batches:
            measure(name, batch)


if __name__ == "__main__":
    main()
