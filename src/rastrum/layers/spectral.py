"""Spectral normalisation: a layer's weight divided by its largest singular value, so that the layer changes no distance by more than that.

Source: Miyato, Kataoka, Koyama, Yoshida, "Spectral Normalization for Generative Adversarial Networks", 2018. There one step of the power
method is taken in each forward pass, from where the last one ended. Here every pass takes as many steps as 2^SQUARINGS, from nothing, by
squaring the small matrix WWᵀ: a layer has no state, so pieces of a batch may run in any order, and a run that is resumed goes on exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SQUARINGS = 6


class SpectralNorm(nn.Module):
    """For ``nn.utils.parametrize``: the weight W of a layer, seen as a matrix of its outputs, becomes W / σ(W)."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight / spectral_norm(weight.flatten(1)).clamp_min(torch.finfo(weight.dtype).tiny)


def spectral_norm(matrix: Tensor) -> Tensor:
    """The largest singular value σ = uᵀWv; its gradient is that of uᵀWv with u and v fixed.

    matrix: W, (rows, columns).

    Returns a number. It is never above the true value, and below it by no more than a few thousandths.
    """
    with torch.no_grad():
        power = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
        for _ in range(SQUARINGS):
            power = power / power.norm().clamp_min(torch.finfo(power.dtype).tiny)
            power = power @ power
        column = power[:, power.diagonal().argmax()]
        one = matrix.T @ column if len(matrix) <= matrix.shape[1] else column
        right = nn.functional.normalize(one, dim=0)
        left = nn.functional.normalize(matrix @ right, dim=0)
    return left @ (matrix @ right)
