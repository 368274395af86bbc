"""Distributions over one integer level: nats for training and scoring, one integer CDF for drawing and coding.

The CDF counts out of 2^24 and gives every level at least one, so a draw, a file and a completion can never disagree:

    Bernoulli, Categorical  w_i = ⌊exp(l_i − max l) · 2^30⌋, C_i = w_0 + … + w_{i−1};  cdf(i) = i + ⌊C_i (2^24 − V) / C_V⌋
    LogisticMixture         C_i = ⌊F(lower edge of i) · 2^30⌋ in float64;              cdf(i) = 2i + ⌊C_i (2^24 − 2V) / 2^30⌋

The mixture's CDF is evaluated only where a search looks, and leaves two counts a level, so that a slip of one cannot empty it.
S is any leading batch shape, V the number of levels, K the components of a mixture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CDF_BITS = 24
CDF_TOTAL = 1 << CDF_BITS


def threshold(u: Tensor) -> Tensor:
    """u ~ U(0, 1) → ⌊u · 2^24⌋, the count that a draw searches for."""
    return (u * CDF_TOTAL).to(torch.int64)


def _require_finite(*parameters: Tensor) -> None:
    """Float → integer is undefined for the rest, so it is refused here and not drawn."""
    for parameter in parameters:
        if not math.isfinite(parameter.sum(dtype=torch.float64).item()):
            raise ValueError("the model produced parameters that are not finite; nothing can be drawn or coded from them")


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature: expected a finite number above 0, got {temperature!r}")


@dataclass(frozen=True, eq=False)
class Categorical:
    """Softmax over V levels; logits (*S, V), unnormalised."""

    logits: Tensor

    @property
    def levels(self) -> int:
        return self.logits.shape[-1]

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats of value (S, int64) → S."""
        chosen = self.logits.gather(-1, value[..., None]).squeeze(-1)
        return chosen - self.logits.logsumexp(-1)

    def log_pmf(self) -> Tensor:
        return self.logits.log_softmax(-1)

    def sample(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        """The level that u (S, float64) falls on → S int64; pmf^(1/T), renormalised."""
        if temperature != 1.0:
            _check_temperature(temperature)
            return Categorical(self.logits / temperature).search(threshold(u))
        return self.search(threshold(u))

    def _cumulative(self) -> Tensor:
        """C_1 … C_V, (*S, V) int64. Above 256 levels the weights have fewer bits, so that products still fit 63."""
        largest = self.logits.amax(-1, keepdim=True)
        _require_finite(largest)
        bits = min(30, 38 - math.ceil(math.log2(self.levels)))
        return (self.logits - largest).exp_().mul_(1 << bits).to(torch.int64).cumsum(-1)

    def cdf(self, value: Tensor) -> Tensor:
        """Count below value (S, 0 … V) → S int64."""
        cumulative = F.pad(self._cumulative(), (1, 0))
        below = cumulative.gather(-1, value[..., None]).squeeze(-1)
        return value + below * (CDF_TOTAL - self.levels) // cumulative[..., -1]

    def search(self, threshold: Tensor) -> Tensor:
        """The level v with cdf(v) ≤ threshold < cdf(v + 1), without a division: cdf(i) ≤ t  ⇔  C_i (2^24 − V) < (t − i + 1) C_V."""
        cumulative = self._cumulative()
        levels = self.levels
        room = threshold[..., None] - torch.arange(levels - 1, device=threshold.device)
        reached = cumulative[..., :-1] * (CDF_TOTAL - levels) < room * cumulative[..., -1:]
        return reached.sum(-1)

    def __getitem__(self, index: Any) -> Categorical:
        return Categorical(self.logits[index])


@dataclass(frozen=True, eq=False)
class Bernoulli:
    """Two levels; logits S of level 1. Its CDF is that of the two-level ``Categorical``."""

    logits: Tensor
    levels: int = 2

    def categorical(self) -> Categorical:
        return Categorical(torch.stack([torch.zeros_like(self.logits), self.logits], -1))

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats of value (S, int64) → S."""
        return F.logsigmoid(self.logits * (2 * value - 1))

    def log_pmf(self) -> Tensor:
        return torch.stack([F.logsigmoid(-self.logits), F.logsigmoid(self.logits)], -1)

    def sample(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        return self.categorical().sample(u, temperature)

    def cdf(self, value: Tensor) -> Tensor:
        return self.categorical().cdf(value)

    def search(self, threshold: Tensor) -> Tensor:
        return self.categorical().search(threshold)

    def __getitem__(self, index: Any) -> Bernoulli:
        return Bernoulli(self.logits[index])


def least_log_scale(levels: int) -> float:
    """−7 for up to 256 levels (PixelCNN++), and as far below a bin's width for finer ones."""
    return -7.0 - max(0.0, math.log((levels - 1) / 255))


@dataclass(frozen=True, eq=False)
class LogisticMixture:
    """Discretised mixture of logistics (PixelCNN++, section 2.1) over levels spread evenly in [−1, 1]; each (*S, K).

    A level owns its bin of half-width 1 / (levels − 1); the first and the last own the tails. ``log_scales`` are clamped from below.
    """

    logits: Tensor
    means: Tensor
    log_scales: Tensor
    levels: int = 256

    def component_log_prob(self, value: Tensor) -> Tensor:
        """Nats of value (S, int64) under each component → (*S, K).

        σ(b) − σ(a) = σ(b) σ(−a) (1 − exp(a − b)) for the edges a < b of a bin: no cancellation at any scale.
        """
        top = self.levels - 1
        centre = (value.to(self.means.dtype) * (2.0 / top) - 1.0)[..., None] - self.means
        inverse = torch.exp(-self.log_scales.clamp_min(least_log_scale(self.levels)))
        upper, lower = inverse * (centre + 1.0 / top), inverse * (centre - 1.0 / top)
        width = (inverse * (2.0 / top)).clamp_min(1e-30)
        value = value[..., None]
        below, above = F.logsigmoid(upper), F.logsigmoid(-lower)
        inside = below + above + torch.log(-torch.expm1(-width))
        return torch.where(value == 0, below, torch.where(value == top, above, inside))

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats of value (S, int64) → S."""
        return (self.logits.log_softmax(-1) + self.component_log_prob(value)).logsumexp(-1)

    def log_pmf(self) -> Tensor:
        """(*S, levels); holds (*S, levels, K) numbers while it works."""
        every = torch.arange(self.levels, device=self.means.device).expand(*self.means.shape[:-1], self.levels)
        return LogisticMixture(self.logits[..., None, :], self.means[..., None, :], self.log_scales[..., None, :], self.levels).log_prob(every)

    def sample(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        """The level that u (S, float64) falls on → S int64; pmf^(1/T), renormalised over the levels."""
        if temperature != 1.0:
            _check_temperature(temperature)
            return Categorical(self.log_pmf() / temperature).search(threshold(u))
        return self.search(threshold(u))

    def _double(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, means and inverse scales in float64."""
        _require_finite(self.logits, self.means, self.log_scales)
        inverse = torch.exp(-self.log_scales.double().clamp_min(least_log_scale(self.levels)))
        return self.logits.double().softmax(-1), self.means.double(), inverse

    def _count(self, value: Tensor, weights: Tensor, means: Tensor, inverse: Tensor) -> Tensor:
        """cdf of value (*S, N) for parameters (*S, K) → (*S, N)."""
        edge = (2.0 * value.double() - 1.0) / (self.levels - 1) - 1.0
        share = torch.sigmoid((edge[..., None] - means[..., None, :]) * inverse[..., None, :]) @ weights[..., None]
        whole = (share.squeeze(-1) * (1 << 30)).to(torch.int64).clamp_(0, 1 << 30)
        whole = torch.where(value <= 0, 0, torch.where(value >= self.levels, 1 << 30, whole))
        return 2 * value + (whole * (CDF_TOTAL - 2 * self.levels) >> 30)

    def cdf(self, value: Tensor) -> Tensor:
        """Count below value (S, 0 … levels) → S int64."""
        return self._count(value[..., None], *self._double()).squeeze(-1)

    def search(self, threshold: Tensor) -> Tensor:
        """The level v with cdf(v) ≤ threshold < cdf(v + 1): sixteen parts at a time."""
        parameters = self._double()
        found = torch.zeros_like(threshold)
        step = 16 ** math.ceil(math.log(self.levels, 16) - 1e-9)
        while step > 1:
            step //= 16
            ahead = found[..., None] + step * torch.arange(1, 16, device=threshold.device)
            reached = (ahead < self.levels) & (self._count(ahead, *parameters) <= threshold[..., None])
            found = found + step * reached.sum(-1)
        return found

    def __getitem__(self, index: Any) -> LogisticMixture:
        return LogisticMixture(self.logits[index], self.means[index], self.log_scales[index], self.levels)
