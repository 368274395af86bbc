"""From a gradient to the next weights: clipping, the learning rate, the optimiser and its state, the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..config import OptimConfig
from ..model import Model, Objective
from .sharding import sharded_as, whole

SCHEDULES: dict[str, Callable[[OptimConfig, int, float], float]] = {
    "constant": lambda optim, step, fraction: 1.0,
    "cosine": lambda optim, step, fraction: 0.5 * (1 + math.cos(math.pi * fraction)),
    "exponential": lambda optim, step, fraction: optim.decay**step,
}
OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], OptimConfig], torch.optim.Optimizer]] = {
    "adam": lambda groups, optim: torch.optim.Adam(groups, optim.learning_rate, optim.betas, optim.eps, fused=True),
    "rmsprop": lambda groups, optim: torch.optim.RMSprop(groups, optim.learning_rate, optim.betas[1], optim.eps),
}
STATE = ("exp_avg", "exp_avg_sq", "square_avg", "step")                   # what they keep of a parameter: Adam all but the third


def optimiser_of(objectives: Sequence[Objective], optim: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser of all objectives, a group of parameters each; a step moves those that have a gradient.

    objectives: of the model.
    optim: the settings.
    """
    return OPTIMIZERS[optim.optimizer]([{"params": objective.parameters} for objective in objectives], optim)


def learning_rate(optim: OptimConfig, step: int, fraction: float, rising: int | None = None) -> float:
    """The learning rate of one step.

    optim: the optimiser's settings.
    step: number of steps before this one, of the current stage where a model learns in stages.
    fraction: how much of the budget, or of the stage, is done, 0 … 1.
    rising: number of steps since the warm-up began, where that is not the stage's beginning; None (default): ``step``.
    """
    rise = min(1.0, ((step if rising is None else rising) + 1) / optim.warm_up) if optim.warm_up else 1.0
    return optim.learning_rate * rise * SCHEDULES[optim.schedule](optim, step, fraction)


def clip(parameters: list[nn.Parameter], limit: float | None) -> float:
    """Scale the gradient to a norm of at most ``limit``.

    parameters: with their gradients.
    limit: largest norm; None for no limit.

    Returns its norm before.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = whole(nn.utils.get_total_norm(gradients)).item()
    if limit is not None and norm > limit:
        torch._foreach_mul_(gradients, limit / norm)  # pyright: ignore[reportPrivateImportUsage]
    return norm


def average(averaged: Model, model: Model, decay: float, step: int) -> None:
    """Move the exponential average of the weights; it is short at first, so that it forgets the initial weights.

    averaged: is moved.
    model: towards its weights.
    decay: share that is kept, 0 … 1.
    step: number of steps done.
    """
    keep = min(decay, step / (10 + step))
    with torch.no_grad():
        torch._foreach_lerp_(list(averaged.parameters()), list(model.parameters()), 1 - keep)  # pyright: ignore[reportPrivateImportUsage]
        for kept, buffer in zip(averaged.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)


def optimiser_state(optimiser: torch.optim.Optimizer, model: Model) -> dict[str, Tensor]:
    """Moments and counts of steps by name, STATE.PARAMETER; none of a parameter that has had no gradient yet.

    optimiser: after some steps.
    model: gives the names of the parameters.
    """
    return {
        f"{part}.{name}": whole(optimiser.state[parameter][part])
        for name, parameter in model.named_parameters()
        for part in STATE
        if part in optimiser.state.get(parameter, {})
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, model: Model, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of ``optimiser_state``: moments laid out in memory as their parameters are.

    optimiser: a new one.
    model: gives the names of the parameters.
    tensors: what ``optimiser_state`` gave.
    """
    for name, parameter in model.named_parameters():
        for part in STATE:
            if (saved := tensors.get(f"{part}.{name}")) is not None:
                if saved.shape == parameter.shape and part != "step":
                    saved = sharded_as(parameter, saved)
                    like = parameter.detach()
                else:
                    like = saved
                optimiser.state[parameter][part] = torch.empty_like(like, dtype=saved.dtype, device=parameter.device).copy_(saved)
