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
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from .autocast import restored
from .distributions import log_normal_mass


class Latent(Protocol):
    """A distribution over the latent of one stroke: batch shape (B,), event shape S."""

    @property
    def mean(self) -> Tensor:
        """The mean, (B, *S)."""
        ...

    @property
    def noise_shape(self) -> torch.Size:
        """Shape (B, …) of the standard normal noise for one draw."""
        ...

    def log_prob(self, z: Tensor) -> Tensor:
        """Nats (B,) of the latents z (B, *S)."""
        ...

    def sample(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """A draw from density^(1/temperature), renormalised.

        noise: standard normal, of ``noise_shape``.
        temperature: above 0, 1 by default.

        Returns (B, *S).
        """
        ...

    def kl(self, other: Any, z: Tensor) -> Tensor:
        """KL(self ‖ other) in nats, (B,): analytic, or the unbiased estimate log self(z) − log other(z).

        other: a latent of a kind that this one can be compared with, usually the prior.
        z: a draw from this one, (B, *S).
        """
        ...


@dataclass(frozen=True)
class Normal:
    """Independent normals.

    mean: (B, *S).
    log_sd: log standard deviation, (B, *S).
    """

    mean: Tensor
    log_sd: Tensor

    def __post_init__(self) -> None:
        _restore(self)

    @property
    def sd(self) -> Tensor:
        """The standard deviation, (B, *S)."""
        return torch.exp(self.log_sd)

    @classmethod
    def standard(cls, like: Tensor, *shape: int) -> Normal:
        """Standard normals.

        like: a tensor (B, …) of the batch size, type and device.
        shape: S.
        """
        zero = like.new_zeros(()).expand(len(like), *shape)
        return cls(zero, zero)

    @property
    def noise_shape(self) -> torch.Size:
        """One value per component, (B, *S)."""
        return self.mean.shape

    def log_prob(self, z: Tensor) -> Tensor:
        """Nats (B,) of the latents z (B, *S)."""
        density = -0.5 * (((z - self.mean) * torch.exp(-self.log_sd)).square() + math.log(2 * math.pi)) - self.log_sd
        return density.flatten(1).sum(1)

    def sample(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """A draw (B, *S); a power of a normal is a normal of ``temperature`` times the variance.

        noise: standard normal, (B, *S).
        temperature: above 0, 1 by default.
        """
        if temperature != 1.0:
            noise = noise * math.sqrt(temperature)
        return torch.addcmul(self.mean, torch.exp(self.log_sd), noise)

    def kl(self, other: Normal, z: Tensor | None = None) -> Tensor:
        """KL(self ‖ other) in nats, (B,), analytic.

        other: a normal, usually the prior.
        z: not used.
        """
        ratio = self.log_sd - other.log_sd
        distance = (self.mean - other.mean) * torch.exp(-other.log_sd)
        return (0.5 * (torch.exp(2 * ratio) + distance.square()) - ratio - 0.5).flatten(1).sum(1)


@dataclass(frozen=True)
class Uniform:
    """Uniform around the mean. The width must depend only on what a decoder knows too.

    mean: (B, *S).
    log_width: (B, *S).
    """

    mean: Tensor
    log_width: Tensor

    def __post_init__(self) -> None:
        _restore(self)

    @property
    def noise_shape(self) -> torch.Size:
        """One value per component, (B, *S)."""
        return self.mean.shape

    def log_prob(self, z: Tensor) -> Tensor:
        """Nats (B,) of the latents z (B, *S); −∞ outside."""
        slack = 4 * torch.finfo(z.dtype).eps * (1 + self.mean.abs())  # a draw at the edge, rounded
        inside = (z - self.mean).abs() <= 0.5 * torch.exp(self.log_width) + slack
        return torch.where(inside, -self.log_width, -math.inf).flatten(1).sum(1)

    def sample(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """A draw (B, *S).

        noise: standard normal, (B, *S).
        temperature: changes nothing: a power of a uniform density is the same density.
        """
        return torch.addcmul(self.mean, torch.exp(self.log_width), _between(noise))

    def kl(self, other: DitheredNormal, z: Tensor) -> Tensor:
        """log self(z) − log other(z) in nats, (B,): the code length of the quantised index.

        other: a prior of the same width.
        z: a draw from this one, (B, *S).
        """
        return -other.log_mass(z).flatten(1).sum(1)


@dataclass(frozen=True)
class DitheredNormal:
    """A normal plus uniform noise.

    mean: (B, *S).
    log_sd: log standard deviation of the normal, (B, *S).
    log_width: log width of the uniform noise, (B, *S).
    """

    mean: Tensor
    log_sd: Tensor
    log_width: Tensor

    def __post_init__(self) -> None:
        _restore(self)

    @property
    def sd(self) -> Tensor:
        """The standard deviation of the sum, (B, *S)."""
        return torch.sqrt(torch.exp(2 * self.log_sd) + torch.exp(2 * self.log_width) / 12)

    @property
    def noise_shape(self) -> torch.Size:
        """Two values per component, (B, *S, 2): one for the normal, one for the uniform."""
        return torch.Size([*self.mean.shape, 2])

    def log_mass(self, z: Tensor) -> Tensor:
        """Log-probability of the quantiser's index whose reconstruction is z (B, *S): density times width, in nats (B, *S)."""
        return log_normal_mass((z - self.mean) * torch.exp(-self.log_sd), torch.exp(self.log_width - self.log_sd))

    def log_prob(self, z: Tensor) -> Tensor:
        """Nats (B,) of the latents z (B, *S)."""
        return (self.log_mass(z) - self.log_width).flatten(1).sum(1)

    def sample(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """A draw (B, *S). ``temperature`` multiplies the variance, as for a normal: the power of this density has no closed form.

        noise: standard normal, (B, *S, 2).
        temperature: above 0, 1 by default.
        """
        spread = torch.exp(self.log_sd) * noise[..., 0] + torch.exp(self.log_width) * _between(noise[..., 1])
        return self.mean + math.sqrt(temperature) * spread

    def kl(self, other: DitheredNormal, z: Tensor) -> Tensor:
        """The estimate log self(z) − log other(z) in nats, (B,).

        other: usually the prior.
        z: a draw from this one, (B, *S).
        """
        return self.log_prob(z) - other.log_prob(z)


def _restore(latent: Normal | Uniform | DitheredNormal) -> None:
    """Parameters that autocasting has made half precision become float32."""
    for field in fields(latent):
        object.__setattr__(latent, field.name, restored(getattr(latent, field.name)))


def _between(noise: Tensor) -> Tensor:
    """Standard normal noise → uniform in (−½, ½)."""
    return 0.5 * torch.erf(noise * math.sqrt(0.5))
