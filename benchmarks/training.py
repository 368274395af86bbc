"""Images a second in training: Gated PixelCNN as built here, and the same network written the usual way, in one run.

    python benchmarks/training.py [--maps 64 32] [--batch 32] [--threads 1 2]

The usual way: NCHW, whole batch at once, square kernels multiplied by a 0/1 mask in every forward, tanh · sigmoid, eager, as many threads
inside an operation. Ours is what ``rastrum.train`` does: pieces of a few images, a worker a thread. Both have the same number of free
parameters and take the same optimiser step; the taps that a mask sets to zero are no parameters here.
The share of the core's peak counts the multiply-adds of forward and backward (three times the forward's) against a large matrix product,
whether they are run or saved (Toom-Cook runs fewer), so it can pass 100%.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import rastrum
from rastrum import ImageSpec, RasterModel
from rastrum.config import OptimConfig, RunConfig, TrainConfig
from rastrum.train import Workers

LAYERS, LEVELS, SIZE = 6, 256, 28


class MaskedConv2d(nn.Conv2d):
    def __init__(self, inputs: int, outputs: int, size: tuple[int, int], mask: Tensor, bias: bool = True) -> None:
        super().__init__(inputs, outputs, size, padding=(size[0] // 2, size[1] // 2), bias=bias)
        self.register_buffer("mask", mask)
        self.mask: Tensor

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight * self.mask, self.bias, padding=self.padding)


class UsualGatedPixelCNN(nn.Module):
    def __init__(self, maps: int) -> None:
        super().__init__()
        above, left = torch.zeros(3, 3), torch.zeros(1, 3)
        above[:2] = 1
        left[:, :2] = 1
        before = torch.tensor([[1.0, 0.0, 0.0]])
        sizes = [1] + [maps] * (LAYERS - 1)
        self.vertical = nn.ModuleList(MaskedConv2d(i, 2 * maps, (3, 3), above) for i in sizes)
        self.horizontal = nn.ModuleList(
            MaskedConv2d(i, 2 * maps, (1, 3), left if n else before, bias=False) for n, i in enumerate(sizes)
        )
        self.link = nn.ModuleList(nn.Conv2d(2 * maps, 2 * maps, 1) for _ in sizes)
        self.residual = nn.ModuleList(nn.Conv2d(maps, maps, 1, bias=n == 0) for n in range(LAYERS))
        self.hidden, self.logits = nn.Conv2d(maps, maps, 1), nn.Conv2d(maps, LEVELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x * (2 / (LEVELS - 1)) - 1
        v = F.pad(h[:, :, :-1], (0, 0, 1, 0))
        layers = zip(self.vertical, self.horizontal, self.link, self.residual, strict=True)
        for n, (vertical, horizontal, link, residual) in enumerate(layers):
            rows = vertical(v)
            a, b = (horizontal(h) + link(rows)).chunk(2, 1)
            out = residual(torch.tanh(a) * torch.sigmoid(b))
            h = out if n == 0 else out + h
            a, b = rows.chunk(2, 1)
            v = torch.tanh(a) * torch.sigmoid(b)
        return self.logits(self.hidden(h.relu()).relu())


def rate(step: Callable[[], object], images: int, repeats: int, budget: float) -> float:
    """Most images a second over ``repeats`` steps after a warm-up."""
    step()
    best, begun = 0.0, time.perf_counter()
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        best = max(best, images / (time.perf_counter() - start))
        if time.perf_counter() - begun > budget:
            break
    return best


def peak_multiply_adds() -> float:
    """Multiply-adds a second of a large float32 matrix product with the same number of threads."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return rate(lambda: a @ b, 1024**3, 10, 3)


def measure(maps: int, batch: int, threads: int) -> None:
    torch.set_num_threads(threads)
    x = torch.randint(0, LEVELS, (batch, 1, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    usual = UsualGatedPixelCNN(maps)
    ours = rastrum.build("gated-pixelcnn", ImageSpec(1, SIZE, SIZE, LEVELS), channels=maps, layers=LAYERS, hidden=maps)
    assert isinstance(ours, RasterModel)
    usual_optimiser, optimiser = torch.optim.Adam(usual.parameters()), torch.optim.Adam(ours.parameters())

    def usual_step() -> None:
        loss = F.cross_entropy(usual(x.float()), x[:, 0])
        usual_optimiser.zero_grad()
        loss.backward()
        usual_optimiser.step()

    def pieces(size: int) -> float:
        optim, run = OptimConfig(batch=batch, micro_batch=size), RunConfig(steps=1, workers=threads)
        with Workers(ours, TrainConfig(optim=optim, run=run)) as workers:

            def step() -> None:
                workers.gradients(x, None)
                optimiser.step()

            return rate(step, batch, 3, 5)

    rates, best = {}, 0.0
    for _ in range(2):                                                    # in turn, so that a slow minute hits both
        best = max(best, rate(usual_step, batch, 3, 8))
        for size in (4, 8, 16):
            rates[size] = max(rates.get(size, 0.0), pieces(size))
    piece, fastest = max(rates.items(), key=lambda item: item[1])
    forward = sum(w.numel() for p in ours.modules() for w in getattr(p, "weights", [])) * SIZE * SIZE
    share = 3 * forward * fastest / peak_multiply_adds()
    free = sum(p.numel() for p in ours.parameters())
    rows = f"| {maps} | {threads} | {free:,} | {best:.1f} | {fastest:.1f} (pieces of {piece}) | {fastest / best:.2f} | {share:.0%} |"
    print(rows, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", nargs="+", type=int, default=[64, 32])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    options = parser.parse_args()
    print("| maps | threads | parameters | usual, images/s | ours, images/s | ratio | of the peak |\n|---|---|---|---|---|---|---|")
    for threads in options.threads:
        for maps in options.maps:
            measure(maps, options.batch, threads)


if __name__ == "__main__":
    main()
