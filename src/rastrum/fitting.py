"""Adam for a stretch of CPU time, for the networks that stand beside the models: classifiers and autoencoders. Models have ``train``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from .data.dataset import Dataset


def fit(
    network: nn.Module,
    loss: Callable[[Tensor, Tensor | None], Tensor],
    data: Dataset,
    cpu_minutes: float,
    *,
    learning_rate: float,
    batch: int = 128,
    warm_up: int = 100,
    clip: float = 5.0,
    seed: int = 0,
) -> Iterator[tuple[float, int]]:
    """Train on ``data``; → seconds of CPU time spent and steps done, after each step. What the caller does in between is not counted.

    loss: of a batch of images and its labels, (B,); the learning rate rises over ``warm_up`` steps and falls to zero with the time that is
    left (cosine); clip: largest norm of the gradient of the mean loss.
    """
    if not 0 < cpu_minutes < math.inf:
        raise ValueError(f"cpu_minutes: expected a time above 0, got {cpu_minutes!r}")
    optimiser = torch.optim.Adam(network.parameters(), learning_rate)
    batches = data.batches(batch, torch.Generator().manual_seed(seed))
    spent, steps = 0.0, 0
    while spent < 60 * cpu_minutes:
        begun = time.process_time()
        falling = (1 + math.cos(math.pi * spent / (60 * cpu_minutes))) / 2
        optimiser.param_groups[0]["lr"] = learning_rate * min(1.0, (steps + 1) / max(1, warm_up)) * falling
        optimiser.zero_grad()
        loss(*next(batches)).mean().backward()
        nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimiser.step()
        spent, steps = spent + time.process_time() - begun, steps + 1
        yield spent, steps
