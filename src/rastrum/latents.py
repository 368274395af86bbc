"""Distributions of the latent of one stroke.

    Normal           independent normals: prior and posterior of most models
    Uniform          z ~ U(m − w/2, m + w/2): the output of a quantiser of step w with dither that sender and receiver share
    DitheredNormal   its prior: the sum of a normal and that uniform, of density (Φ((z + w/2 − μ)/s) − Φ((z − w/2 − μ)/s)) / w

With shared dither d the sender writes the whole number k = round((m − d)/w) and the receiver reads z = k·w + d. Over d, z is uniform around
m; given d, the prior's probability of k is w times its density at z, and over all k these add up to one. So the KL at a draw,
−log(Φ(…) − Φ(…)), is exactly the code length of k. A normal posterior has no such code.

Sources: Ziv 1985, "On universal quantization"; Agustsson & Theis 2020, "Universally Quantized Neural Compression".

Shapes: B images, S the shape of one latent. Noise is standard normal, of shape ``noise_shape``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .distributions import log_normal_mass


class Latent(Protocol):
    """A distribution over the latent of one stroke: batch shape (B,), event shape S."""

    @property
    def mean(self) -> Tensor:
        """(B, *S)."""
        ...

    @property
    def noise_shape(self) -> torch.Size:
        """Shape (B, …) of the standard normal noise for one draw."""
        ...

    def log_prob(self, z: Tensor) -> Tensor:
        """Nats of z (B, *S) → (B,)."""
        ...

    def sample(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """A draw (B, *S) from density^(1/temperature), renormalised, by standard normal noise (B, …)."""
        ...

    def kl(self, other: Any, z: Tensor) -> Tensor:
        """KL(self ‖ other) in nats, (B,): analytic, or the unbiased estimate log self(z) − log other(z) at the draw z."""
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


@dataclass(frozen=True)
class Uniform:
    """Uniform of width w around the mean: mean and log width, both (B, *S). The width must depend only on what a decoder knows too."""

    mean: Tensor
    log_width: Tensor

    @property
    def noise_shape(self) -> torch.Size:
        return self.mean.shape

    def log_prob(self, z: Tensor) -> Tensor:
        slack = 4 * torch.finfo(z.dtype).eps * (1 + self.mean.abs())  # a draw at the edge, rounded
        inside = (z - self.mean).abs() <= 0.5 * torch.exp(self.log_width) + slack
        return torch.where(inside, -self.log_width, -math.inf).flatten(1).sum(1)

    def sample(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """A power of a uniform density is the same density: temperature changes nothing."""
        return torch.addcmul(self.mean, torch.exp(self.log_width), _between(noise))

    def kl(self, other: DitheredNormal, z: Tensor) -> Tensor:
        """log self(z) − log other(z) for a prior of the same width: the code length of the quantised index in nats."""
        return -other.log_mass(z).flatten(1).sum(1)


@dataclass(frozen=True)
class DitheredNormal:
    """Normal of this mean and log standard deviation, plus uniform noise of this log width; all (B, *S)."""

    mean: Tensor
    log_sd: Tensor
    log_width: Tensor

    @property
    def noise_shape(self) -> torch.Size:
        """Two values per component: one for the normal, one for the uniform."""
        return torch.Size([*self.mean.shape, 2])

    def log_mass(self, z: Tensor) -> Tensor:
        """Log probability of the quantiser's index whose reconstruction is z (B, *S): density times width, → (B, *S)."""
        return log_normal_mass((z - self.mean) * torch.exp(-self.log_sd), torch.exp(self.log_width - self.log_sd))

    def log_prob(self, z: Tensor) -> Tensor:
        return (self.log_mass(z) - self.log_width).flatten(1).sum(1)

    def sample(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """temperature multiplies the variance, as for a normal: the power of this density has no closed form."""
        spread = torch.exp(self.log_sd) * noise[..., 0] + torch.exp(self.log_width) * _between(noise[..., 1])
        return self.mean + math.sqrt(temperature) * spread

    def kl(self, other: DitheredNormal, z: Tensor) -> Tensor:
        return self.log_prob(z) - other.log_prob(z)


def _between(noise: Tensor) -> Tensor:
    """Standard normal noise → uniform in (−½, ½)."""
    return 0.5 * torch.erf(noise * math.sqrt(0.5))
