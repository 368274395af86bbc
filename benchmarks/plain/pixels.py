"""What the references of canvas models share: −log p(x | canvas), by a Bernoulli or a discretised logistic per value."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def discretised_logistic(mean: Tensor, log_scale: Tensor, x: Tensor, levels: int) -> Tensor:
    """Log-probability of levels x, all (B, C, H, W), of a logistic on [−1, 1]; the ends take the tails."""
    values, half = 2 * x.float() / (levels - 1) - 1, 1 / (levels - 1)
    upper, lower = ((values - mean + side) * torch.exp(-log_scale) for side in (half, -half))
    inside = torch.log((torch.sigmoid(upper) - torch.sigmoid(lower)).clamp(min=1e-12))
    return torch.where(x == 0, F.logsigmoid(upper), torch.where(x == levels - 1, F.logsigmoid(-lower), inside))


def nats_of_canvas(canvas: Tensor, x: Tensor, levels: int) -> Tensor:
    """−log p of levels x (B, C, H, W) under a canvas of logits, or above two levels of means and log scales side by side: (B,)."""
    if levels == 2:
        nats = F.binary_cross_entropy_with_logits(canvas, x.float(), reduction="none")
    else:
        means, log_scales = canvas.chunk(2, 1)
        lowest = -7.0 - max(0.0, math.log((levels - 1) / 255))
        nats = -discretised_logistic(means, log_scales.clamp(min=lowest), x, levels)
    return nats.flatten(1).sum(1)


def standard_kl(mean: Tensor, log_sd: Tensor) -> Tensor:
    """KL of N(mean, sd) from N(0, I), all (B, n): (B,)."""
    return 0.5 * (mean.square() + torch.exp(2 * log_sd) - 2 * log_sd - 1).sum(1)
