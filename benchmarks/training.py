"""Training speed in images per second: Gated PixelCNN as built here, and the same network written in the usual way, in one run.

    python benchmarks/training.py [--channels 64 32] [--batch 32] [--threads 1 2]

The usual way is NCHW, the whole batch at once, square kernels multiplied by a 0/1 mask in every forward pass, tanh · sigmoid, eager mode,
and the same number of threads inside operations. Ours is what ``rastrum.train`` does: pieces of a few images, one worker per thread. Both
have the same number of free parameters and take the same optimiser step; taps that a mask sets to zero do not count as parameters. The
share of the core's peak compares the multiply-adds of forward and backward (three times the forward's) with a large matrix product. It also
counts multiply-adds that Toom-Cook saves, so it can exceed 100%."""

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
    def __init__(self, channels: int) -> None:
        super().__init__()
        above, left = torch.zeros(3, 3), torch.zeros(1, 3)
        above[:2] = 1
        left[:, :2] = 1
        before = torch.tensor([[1.0, 0.0, 0.0]])
        sizes = [1] + [channels] * (LAYERS - 1)
        self.vertical = nn.ModuleList(MaskedConv2d(i, 2 * channels, (3, 3), above) for i in sizes)
        self.horizontal = nn.ModuleList(
            MaskedConv2d(i, 2 * channels, (1, 3), left if n else before, bias=False) for n, i in enumerate(sizes)
        )
        self.link = nn.ModuleList(nn.Conv2d(2 * channels, 2 * channels, 1) for _ in sizes)
        self.residual = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=n == 0) for n in range(LAYERS))
        self.hidden, self.logits = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, LEVELS, 1)

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
    """The highest images per second of ``repeats`` steps, after a warm-up."""
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
    """Multiply-adds per second of a large float32 matrix product with the same number of threads."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return rate(lambda: a @ b, 1024**3, 10, 3)


def measure(channels: int, batch: int, threads: int) -> None:
    """Print a row of the table."""
    torch.set_num_threads(threads)
    x = torch.randint(0, LEVELS, (batch, 1, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    usual = UsualGatedPixelCNN(channels)
    ours = rastrum.build("gated-pixelcnn", ImageSpec(1, SIZE, SIZE, LEVELS), channels=channels, layers=LAYERS, hidden=channels)
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
    for _ in range(2):                                                    # alternating, so that a slow minute affects both
        best = max(best, rate(usual_step, batch, 3, 8))
        for size in (4, 8, 16):
            rates[size] = max(rates.get(size, 0.0), pieces(size))
    piece, fastest = max(rates.items(), key=lambda item: item[1])
    forward = sum(w.numel() for p in ours.modules() for w in getattr(p, "weights", [])) * SIZE * SIZE
    share = 3 * forward * fastest / peak_multiply_adds()
    free = sum(p.numel() for p in ours.parameters())
    row = f"| {channels} | {threads} | {free:,} | {best:.1f} | {fastest:.1f} (pieces of {piece}) | {fastest / best:.2f} | {share:.0%} |"
    print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", nargs="+", type=int, default=[64, 32])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    options = parser.parse_args()
    print("| channels | threads | parameters | usual, images/s | ours, images/s | ratio | of the peak |\n|---|---|---|---|---|---|---|")
    for threads in options.threads:
        for channels in options.channels:
            measure(channels, options.batch, threads)


if __name__ == "__main__":
    main()
