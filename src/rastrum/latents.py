"""Distributions over the latent of one stroke.

    Normal       independent normals: the posterior of most models, and their prior

Shapes: B images, S the shape of one latent. Noise is standard normal; what shape of it a draw takes is ``noise_shape``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Latent(Protocol):
    """A distribution over the latent of one stroke: batch shape (B,), event shape S."""

    @property
    def mean(self) -> Tensor:
        """(B, *S)."""
        ...

    @property
    def noise_shape(self) -> torch.Size:
        """(B, …): the standard normal noise that one draw takes."""
        ...

    def log_prob(self, z: Tensor) -> Tensor:
        """Nats of z (B, *S) → (B,)."""
        ...

    def sample(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The latent that standard normal noise (B, …) falls on; density^(1/temperature), renormalised."""
        ...

    def kl(self, other: Any, z: Tensor) -> Tensor:
        """KL(self ‖ other) in nats → (B,): analytic, or the unbiased log self(z) − log other(z) at the draw z."""
        ...


@dataclass(frozen=True)
class Normal:
    """Independent normals: mean and log standard deviation, both (B, *S)."""

    mean: Tensor
    log_sd: Tensor

    @classmethod
    def standard(cls, like: Tensor, *shape: int) -> Normal:
        zero = like.new_zeros(()).expand(len(like), *shape)
        return cls(zero, zero)

    @property
    def noise_shape(self) -> torch.Size:
        return self.mean.shape

    def log_prob(self, z: Tensor) -> Tensor:
        density = -0.5 * (((z - self.mean) * torch.exp(-self.log_sd)).square() + math.log(2 * math.pi)) - self.log_sd
        return density.flatten(1).sum(1)

    def sample(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        if temperature != 1.0:
            noise = noise * math.sqrt(temperature)
        return torch.addcmul(self.mean, torch.exp(self.log_sd), noise)

    def kl(self, other: Normal, z: Tensor | None = None) -> Tensor:
        ratio = self.log_sd - other.log_sd
        distance = (self.mean - other.mean) * torch.exp(-other.log_sd)
        return (0.5 * (torch.exp(2 * ratio) + distance.square()) - ratio - 0.5).flatten(1).sum(1)
