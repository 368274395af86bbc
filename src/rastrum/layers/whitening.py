"""Whitening of a causal patch, and of the pixel given it: fitted once on images, then fixed (after Theis & Bethge 2015).

    patch     v = C_pp^−½ (p − mean p)                                           what the network reads
    pixel     e_c = (x_c − prediction_c(p, x_0 … x_{c−1})) / σ_c                 best linear prediction, and how far off it is

Both are convolutions with fixed weights, so they have a step for free. A density of e becomes one of x by the log-Jacobian −Σ_c log σ_c.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..autocast import full_precision
from ..devices import as_like, in_float64
from .causal import CausalConvolution, Tap


class Whitening(nn.Module):
    """Whitening of causal neighbourhoods, with zeros, the middle of the scale, outside the image. Until ``fit`` v is the patch, and σ = 1.

    log_deviation: a buffer, log σ of each channel, (C,).
    channels: C of the images.
    neighbourhood: n, odd; the patch is the part of n x n pixels that comes before the pixel, of ``size`` = C (n² − 1) / 2 values.
    """

    log_deviation: Tensor

    def __init__(self, channels: int, neighbourhood: int) -> None:
        super().__init__()
        reach = neighbourhood // 2
        self.reach, self.size = reach, channels * (neighbourhood**2 - 1) // 2
        columns = (-reach, reach)
        self.patch = CausalConvolution(channels, self.size, above=reach, columns=columns, left=reach)
        self.prediction = CausalConvolution(
            channels, channels, above=reach, columns=columns, left=reach, centre="before", groups=channels
        )
        self.register_buffer("log_deviation", torch.zeros(channels))
        self.requires_grad_(False)
        _set(self.patch, torch.eye(self.size), torch.zeros(self.size))
        _set(self.prediction, torch.zeros(self.size + channels, channels), torch.zeros(channels))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, H, W, C) → v (B, H, W, size), prediction and e (B, H, W, C)."""
        with full_precision():                                            # a small difference of values, divided by a small σ
            prediction = self.prediction(x)
            return self.patch(x), prediction, (x - prediction) * torch.exp(-self.log_deviation)

    def fit(self, x: Tensor, least: float) -> None:
        """Set the weights from images.

        x: (B, H, W, C) in [−1, 1]; patches that lie inside them are used, and all if there are fewer than ten for each value of a patch.
        least: the smallest σ.
        """
        x = in_float64(x)
        channels, reach = x.shape[-1], self.reach
        every = torch.cat([_moved(x, row, column) for tap in self.patch.taps for row, column in _positions(tap)] + [x], -1)
        inside = every[:, reach:, reach : max(reach, x.shape[2] - reach)].flatten(0, 2)
        seen = inside if len(inside) >= 10 * self.size else every.flatten(0, 2)
        mean = seen.mean(0)
        covariance = (seen - mean).t() @ (seen - mean) / len(seen)
        # Towards equal and independent values, the more the fewer positions there were to see.
        shrink = len(mean) / (len(seen) + len(mean))
        covariance = (1 - shrink) * covariance + (shrink * covariance.diagonal().mean() + least**2) * torch.eye(len(mean)).to(covariance)
        values, vectors = torch.linalg.eigh(covariance[: self.size, : self.size])
        white = vectors * values.rsqrt() @ vectors.t()
        _set(self.patch, white, -mean[: self.size] @ white)
        weights, deviations = covariance.new_zeros(self.size + channels, channels), covariance.new_zeros(channels)
        for c in range(channels):
            known = self.size + c
            weights[:known, c] = torch.linalg.solve(covariance[:known, :known], covariance[:known, known])
            deviations[c] = (covariance[known, known] - weights[:known, c] @ covariance[:known, known]).clamp(min=least**2).sqrt()
        _set(self.prediction, weights, mean[self.size :] - mean @ weights)
        self.log_deviation.copy_(as_like(deviations.log(), self.log_deviation))


def _positions(tap: Tap) -> Sequence[tuple[int, int]]:
    """The pixels that a tap reads, (rows down, columns right), in the order of its weights."""
    return [(tap.down - tap.rows + 1 + row, tap.right) for row in range(tap.rows)]


def _moved(x: Tensor, down: int, right: int) -> Tensor:
    """out[i, j] = x[i + down, j + right], zeros outside; down ≤ 0."""
    height, width = x.shape[1:3]
    x = F.pad(x, (0, 0, max(0, -right), max(0, right), -down, 0))
    return x[:, :height, max(0, right) : max(0, right) + width]


@torch.no_grad()
def _set(convolution: CausalConvolution, weight: Tensor, bias: Tensor) -> None:
    """weight: a row for each value of the patch, and of the pixel itself where that is seen, in the order of the taps."""
    at = 0
    for tap, to in zip(convolution.taps, convolution.weights, strict=True):
        first = at if tap.right or tap.down else len(weight) - convolution.inputs
        to.copy_(as_like(weight[first : first + len(to), tap.to[0] : tap.to[1]], to))
        at += len(to)
    assert convolution.bias is not None
    convolution.bias.copy_(as_like(bias, convolution.bias))
