"""Distributions over one integer level 0 … L − 1, and the one integer CDF that sampling, encoding and decoding share.

    S = any batch shape    L = levels    K = components of a mixture    t = threshold, 0 … 2^24 − 1

The CDF counts out of 2^24 and gives every level at least one count, so a sample, a file and a completion cannot disagree:

    softmax    w_i = ⌊exp(l_i − max l) 2^30⌋,  C_i = w_0 + … + w_{i−1},     cdf(i) =  i + ⌊C_i (2^24 −  L) / C_L⌋
    mixture    w_k = π_k (2^24 − 2L) 2^28,   C_i = Σ_k ⌊w_k F_k(lower edge of i)⌋,   cdf(i) = 2i + ⌊C_i / 2^28⌋

F is a logistic's σ or a Gaussian's Φ. Sums of integers do not depend on the order of summation; the mixture's are float64 below 2^53,
which is exact too. Of the functions used only ``exp`` and ``erfc`` are not exactly rounded. Torch's give an element the same bits at every
position of a tensor (its sigmoid does not), so ``search`` and ``cdf`` agree. The mixture's 2i instead of i lets the count slip by one where
the rounding is not monotone, without emptying a level.
Parameters are float32 or float64; those that ``torch.autocast`` has cast are taken to float32. On a device without float64 the integer CDF
is computed on the CPU.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .autocast import Function, restored
from .devices import float64_device, in_float64
from .native import native_for
from .range_coder import CDF_TOTAL

SEARCH_RADIX = 16
MIXTURE_COUNT = 2.0**28        # one count is this much in a mixture's sums
HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)
LOWEST_LOGIT = -1e30           # of a tempered pmf: exp gives 0, and subtracting stays finite


class _Levels(ABC):
    """Base of the distributions over levels: a draw is a search in the integer CDF."""

    @abstractmethod
    def log_pmf(self) -> Tensor: ...

    @abstractmethod
    def search(self, threshold: Tensor) -> Tensor: ...

    def sample(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        """The levels that uniform noise selects.

        u: in [0, 1), (S), float.
        temperature: T > 0; draws from pmf^(1/T), renormalised. Default 1.

        Returns levels (S), int64. Raises ``ValueError`` for a temperature that is not a number above 0, or parameters that are not finite.
        """
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature: expected a number above 0, got {temperature!r}")
        distribution = self if temperature == 1 else tempered(self.log_pmf(), temperature)
        return distribution.search((u * float(CDF_TOTAL)).long())


@dataclass(frozen=True, eq=False)
class Categorical(_Levels):
    """Levels with probabilities softmax(logits).

    logits: (*S, L), float.
    """

    logits: Tensor

    def __post_init__(self) -> None:
        _restore(self, "logits")

    @property
    def levels(self) -> int:
        """The number of levels L."""
        return self.logits.shape[-1]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of ``value`` (S, int): nats (S)."""
        native = native_for(self.logits)
        if native is not None and self.logits.requires_grad and torch.is_grad_enabled() and value.shape == self.logits.shape[:-1]:
            return native.LogSoftmaxAt.apply(self.logits, value.long())
        return self.log_pmf().gather(-1, value.long().unsqueeze(-1)).squeeze(-1)

    def log_pmf(self) -> Tensor:
        """Log-probabilities of all levels: nats (*S, L)."""
        return self.logits.log_softmax(-1)

    @cached_property
    def _sums(self) -> Tensor:
        """C_1 … C_L (*S, L) int64."""
        logits = self.logits if self.logits.dtype.itemsize > 2 else self.logits.float()   # half holds no 2^30
        logits = logits.to(float64_device(logits.device))                 # a device without float64 has no whole int64 either
        logits = logits - logits.amax(-1, keepdim=True)
        if logits.numel():
            _check_finite(logits.min(), "logits")
        # Up to 256 levels the sums stay below 2^38 and their products with 2^24 below 2^63; more levels get coarser weights.
        bits = min(30, 38 - (self.levels - 1).bit_length())
        return logits.exp_().mul_(2.0**bits).long().cumsum(-1).contiguous()

    def cdf(self, value: Tensor) -> Tensor:
        """Counts (S), int64, of the levels below ``value`` (S, 0 … L). Raises ``ValueError`` for logits that are not finite."""
        sums = self._sums
        level = value.to(sums.device)
        below = F.pad(sums, (1, 0)).gather(-1, level.unsqueeze(-1)).squeeze(-1)
        return (level + below * (CDF_TOTAL - self.levels) // sums[..., -1]).to(value.device)

    def search(self, threshold: Tensor) -> Tensor:
        """The level v (S), int64, with cdf(v) ≤ threshold < cdf(v + 1). Raises ``ValueError`` for logits that are not finite."""
        # Without division: i + ⌊C_i s / C_L⌋ ≤ t  ⇔  C_i s + (i − 1) C_L < t C_L; the left side grows with i = 1 … L, v of them fit.
        sums = self._sums
        total = sums.narrow(-1, self.levels - 1, 1)
        left = (total * _count(self.levels, sums.device)).add_(sums, alpha=CDF_TOTAL - self.levels)   # two thirds of addcmul's time
        right = threshold.to(sums.device).unsqueeze(-1) * total
        return torch.searchsorted(left, right.contiguous()).squeeze(-1).to(threshold.device)

    def __getitem__(self, index: Any) -> Categorical:
        return Categorical(self.logits[_batch_index(index)])


@dataclass(frozen=True, eq=False)
class Bernoulli(_Levels):
    """Level 1 with probability σ(logits), else level 0. In the integer CDF it is the two-level softmax of (0, logits).

    logits: (S), float.
    """

    logits: Tensor

    def __post_init__(self) -> None:
        _restore(self, "logits")

    @property
    def levels(self) -> int:
        """The number of levels, 2."""
        return 2

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of ``value`` (S, 0 or 1): nats (S)."""
        return F.logsigmoid(self.logits * (2 * value.to(self.logits.dtype) - 1))

    def log_pmf(self) -> Tensor:
        """Log-probabilities of both levels: nats (*S, 2)."""
        return F.logsigmoid(torch.stack([-self.logits, self.logits], -1))

    @cached_property
    def _softmax(self) -> Categorical:
        return Categorical(self.logits.unsqueeze(-1) * _count(2, self.logits.device))

    def cdf(self, value: Tensor) -> Tensor:
        """Counts (S), int64, of the levels below ``value`` (S, 0 … 2). Raises ``ValueError`` for logits that are not finite."""
        return self._softmax.cdf(value)

    def search(self, threshold: Tensor) -> Tensor:
        """The level v (S), int64, with cdf(v) ≤ threshold < cdf(v + 1). Raises ``ValueError`` for logits that are not finite."""
        return self._softmax.search(threshold)

    def __getitem__(self, index: Any) -> Bernoulli:
        return Bernoulli(self.logits[index])


@dataclass(frozen=True, eq=False)
class _Mixture(_Levels):
    """Mixture of K discretised bell curves; a subclass defines the curve, by ``component_log_prob`` and ``_below``.

    logits, means, log_scales: (*S, K), float.
    levels: L, up to 65,536.

    The levels are L points from −1 to 1; means and scales are in those units. Level i takes the mass
    within half a bin, 1/(L − 1), of its point; the two ends take the tails. The weights are the softmax of ``logits``. Scales below
    ``lowest_log_scale`` are raised to it. Inside, everything is in units of a bin, so an edge between two levels is exact.
    """

    logits: Tensor
    means: Tensor
    log_scales: Tensor
    levels: int

    def __post_init__(self) -> None:
        _restore(self, "logits", "means", "log_scales")

    @abstractmethod
    def component_log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of ``value`` (S, int) under each component: nats (*S, K).

        The next channel's mixture has weights ∝ π_k times its exponential.
        """

    @staticmethod
    @abstractmethod
    def _below(weights: Tensor, steps: Tensor) -> Tensor:
        """weights times the mass of the curve below a point ``steps`` scales under its centre; may write to ``steps``."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of ``value`` (S, int): nats (S)."""
        return torch.logsumexp(self.logits.log_softmax(-1) + self.component_log_prob(value), -1)

    def log_pmf(self) -> Tensor:
        """Log-probabilities of all levels: nats (*S, L); needs memory for (*S, L, K)."""
        parameters = (p.unsqueeze(-2) for p in (self.logits, self.means, self.log_scales))
        return type(self)(*parameters, levels=self.levels).log_prob(torch.arange(self.levels, device=self.means.device))

    def _bins(self) -> tuple[Tensor, Tensor]:
        """Centre in levels and 1 / scale per level; computed once if no gradient is needed."""
        return self._make_bins() if torch.is_grad_enabled() else self._kept_bins

    @cached_property
    def _kept_bins(self) -> tuple[Tensor, Tensor]:
        return self._make_bins()

    def _make_bins(self) -> tuple[Tensor, Tensor]:
        half = (self.levels - 1) / 2
        return self.means * half + half, torch.exp(-math.log(half) - self.log_scales.clamp(min=lowest_log_scale(self.levels)))

    def double(self) -> Self:
        """The same in float64, on the CPU if its device has no such type."""
        if self.means.dtype == torch.float64:
            return self
        return type(self)(in_float64(self.logits), in_float64(self.means), in_float64(self.log_scales), self.levels)

    @cached_property
    def _float64(self) -> tuple[Tensor, Tensor, Tensor]:
        """w, the level whose lower edge is the centre, and steepness, each (*S, K, 1)."""
        exact = self.double()
        _check_finite((exact.logits + exact.means + exact.log_scales).sum(), "logits, means or log scales")
        centre, steepness = exact._bins()
        weights = exact.logits.softmax(-1) * ((CDF_TOTAL - 2 * self.levels) * MIXTURE_COUNT)
        return weights.unsqueeze(-1), (centre + 0.5).unsqueeze(-1), steepness.unsqueeze(-1)

    def _inner_cdf(self, level: Tensor) -> Tensor:
        """C_i + 2i 2^28 at levels i (*S, N) float64, of which 1 … L − 1 mean something; whole, and increasing also beyond."""
        weights, centre, steepness = self._float64
        below = self._below(weights, (centre - level.unsqueeze(-2)) * steepness)
        return below.floor_().sum(-2).add_(level, alpha=2 * MIXTURE_COUNT)

    def cdf(self, value: Tensor) -> Tensor:
        """Counts (S), int64, of the levels below ``value`` (S, 0 … L). Raises ``ValueError`` for parameters that are not finite."""
        inner = self._inner_cdf(in_float64(value).unsqueeze(-1)).squeeze(-1).div_(MIXTURE_COUNT).long().to(value.device)
        return torch.where(value >= self.levels, CDF_TOTAL, torch.where(value <= 0, 0, inner))

    def search(self, threshold: Tensor) -> Tensor:
        """The level v (S), int64, with cdf(v) ≤ threshold < cdf(v + 1); evaluates 15 levels per digit of v in base 16.

        Raises ``ValueError`` for parameters that are not finite.
        """
        # Without division: 2i + ⌊C_i / 2^28⌋ ≤ t  ⇔  C_i + 2i 2^28 < (t + 1) 2^28.
        bound = in_float64(threshold).add_(1.0).mul_(MIXTURE_COUNT).unsqueeze(-1).contiguous()
        level = None
        for stride, offsets in _digits(self.levels, bound.device):
            points = offsets if level is None else level + offsets
            digit = torch.searchsorted(self._inner_cdf(points).contiguous(), bound).double()
            level = digit * stride if level is None else level.add_(digit, alpha=stride)
        assert level is not None
        return level.squeeze(-1).long().clamp_(max=self.levels - 1).to(threshold.device)

    def __getitem__(self, index: Any) -> Self:
        index = _batch_index(index)
        return type(self)(self.logits[index], self.means[index], self.log_scales[index], self.levels)


@dataclass(frozen=True, eq=False)
class LogisticMixture(_Mixture):
    """Mixture of K discretised logistics (Salimans et al. 2017, section 2.1).

    logits, means, log_scales: (*S, K), float; means and scales in units where the levels lie from −1 to 1.
    levels: L, up to 65,536.
    """

    def component_log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of ``value`` (S, int) under each component: nats (*S, K)."""
        centre, steepness = self._bins()
        # σ(b) − σ(a) = σ(b) σ(−a) (1 − e^(a−b)): no cancellation, however narrow the bin or far the tail; at the ends one factor is left.
        last_first, signs, zero = _ends(self.levels, centre.dtype, centre.device)
        value = value.unsqueeze(-1)
        beyond = value == last_first
        edges = torch.addcmul((steepness * 0.5).unsqueeze(-2), ((value - centre) * steepness).unsqueeze(-2), signs)   # b and −a
        width = -torch.expm1(-steepness.clamp(min=torch.finfo(steepness.dtype).tiny))
        tails = torch.where(beyond.unsqueeze(-1), zero, F.logsigmoid(edges)).sum(-2)
        return tails + torch.where(beyond.any(-1, keepdim=True), zero, width.log())

    @staticmethod
    def _below(weights: Tensor, steps: Tensor) -> Tensor:
        return torch.div(weights, steps.exp_().add_(1.0))


@dataclass(frozen=True, eq=False)
class CoupledLogistics:
    """A discretised logistic for every value of an image; its mean also follows the earlier channels of the same pixel.

        mean of x_c given x_0 … x_{c−1}   =   m_c + Σ_{j<c} a_cj (x_j − m_j)

    Colours rise and fall together, so what one channel misses says much about the next (Salimans et al. 2017, section 2.2, where the
    coefficients belong to the pixel; here they are the same everywhere, and m stays the mean of the image).

    means, log_scales: (B, C, *S), in units where the levels lie from −1 to 1.
    coefficients: a, (C, C); only those below the diagonal count.
    levels: L, up to 65,536.
    """

    means: Tensor
    log_scales: Tensor
    coefficients: Tensor
    levels: int

    def __post_init__(self) -> None:
        _restore(self, "means", "log_scales", "coefficients")

    def given(self, value: Tensor) -> LogisticMixture:
        """The distribution of every value given those of the earlier channels in ``value`` (B, C, *S), int."""
        missing = value.to(self.means.dtype) * (2 / (self.levels - 1)) - 1 - self.means
        means = []
        for channel, mean in enumerate(self.means.unbind(1)):
            for early in range(channel):
                mean = mean + self.coefficients[channel, early] * missing[:, early]
            means.append(mean)
        means = torch.stack(means, 1).unsqueeze(-1)
        return LogisticMixture(torch.zeros_like(means), means, self.log_scales.unsqueeze(-1), self.levels)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of each ``value`` (B, C, *S, int) given the earlier channels: nats (B, C, *S)."""
        return self.given(value).log_prob(value)

    def sample(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        """The levels that uniform noise selects, channel after channel.

        u: in [0, 1), (B, C, *S), float.
        temperature: T > 0; draws each from pmf^(1/T), renormalised. Default 1.

        Returns levels (B, C, *S), int64.
        """
        value = torch.zeros_like(u, dtype=torch.int64)
        for channel in range(u.shape[1]):
            value[:, channel] = self.given(value)[:, channel].sample(u[:, channel], temperature)
        return value


@dataclass(frozen=True, eq=False)
class GaussianMixture(_Mixture):
    """Mixture of K discretised normal distributions, and the continuous one behind it (``log_density``); scales are standard deviations.

    The conditional of a mixture of conditional Gaussian scale mixtures (Theis & Bethge 2015, section 2.2).

    logits, means, log_scales: (*S, K), float; means and scales in units where the levels lie from −1 to 1.
    levels: L, up to 65,536.
    """

    def component_log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of ``value`` (S, int) under each component: nats (*S, K)."""
        centre, steepness = self._bins()
        value = value.unsqueeze(-1)
        steepness = steepness.clamp(min=torch.finfo(steepness.dtype).tiny)
        steps, ends = (value - centre) * steepness, (value == 0, value == self.levels - 1)
        return _LogMass.apply(*torch.broadcast_tensors(steps, steepness, *ends))             # pyright: ignore[reportReturnType]

    def log_density(self, value: Tensor) -> Tensor:
        """Log-density of real values, of the mixture before it is divided into levels.

        value: (S), in units of the means.

        Returns nats per unit, (S).
        """
        return gaussian_log_density(self.logits, self.means, self.log_scales, value, self.levels)

    @staticmethod
    def _below(weights: Tensor, steps: Tensor) -> Tensor:
        return weights * 0.5 * steps.mul_(math.sqrt(0.5)).erfc_()


def gaussian_log_density(logits: Tensor, means: Tensor, log_scales: Tensor, value: Tensor, levels: int) -> Tensor:
    """``GaussianMixture.log_density`` of scales that are the same at many places.

    logits, means: (*S, K).
    log_scales: (*T, K), T as long as S, and 1 along dimensions where they do not change.
    value: (S).
    levels: give the least scale.

    Returns nats per unit, (S).
    """
    lowest = lowest_log_scale(levels)
    own = [n for n, size in enumerate(log_scales.shape[:-1]) if size > 1]
    inner = slice(own[0], own[-1] + 1) if own else slice(0)
    in_order = log_scales.shape[inner] == logits.shape[inner]             # else their rows do not simply repeat
    if torch.is_grad_enabled() and native_for(logits) is not None and value.shape == logits.shape[:-1] and in_order:
        from .native.gaussians import LogDensity

        return LogDensity.apply(logits, means, log_scales, value, lowest)                    # pyright: ignore[reportReturnType]
    log_scales = log_scales.clamp(min=lowest)
    steps = (value.unsqueeze(-1) - means) * torch.exp(-log_scales)
    return torch.logsumexp(logits.log_softmax(-1) - log_scales - 0.5 * steps.square(), -1) - HALF_LOG_2_PI


class _LogMass(Function):
    """log(Φ(x + w/2) − Φ(x − w/2)), without the lower edge where ``first`` and without the upper one where ``last``; all of one shape.

    By symmetry r = |x|, edges a = r − h and b = r + h, h = w/2; nothing cancels in any of

        near  (h max(1, r) < 1/5)  log w + log φ(r) + log(1 + Σ_j He_2j(r) h^2j / (2j + 1)!)      Taylor about r, He Hermite's polynomials
        over the centre (a < 0)    log ½ (erf(b/√2) − erf(a/√2))                                  two values of different sign
        far                        −a²/2 + log ½ (erfcx(a/√2) − e^(−2rh) erfcx(b/√2))
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, width: Tensor, first: Tensor, last: Tensor) -> Tensor:
        root = math.sqrt(0.5)
        r, h = x.abs(), width * 0.5
        a, b = r - h, r + h
        p, q = (r * h).square(), h * h
        series = (p - q) / 6 + (p * p - 6 * p * q + 3 * q * q) / 120 + (p**3 - 15 * p * p * q + 45 * p * q * q - 15 * q**3) / 5040
        series = series + (p**4 - 28 * p**3 * q + 210 * p * p * q * q - 420 * p * q**3 + 105 * q**4) / 362880
        is_near = h * r.clamp(min=1.0) < 0.2
        near = width.log() - 0.5 * r * r - HALF_LOG_2_PI + torch.where(is_near, series, 0.0).log1p()
        over = torch.log(0.5 * ((b * root).erf() - (a * root).erf()))
        tail = a.clamp(min=0.0)
        beyond = torch.special.erfcx(tail * root) - torch.exp(-2.0 * r * h) * torch.special.erfcx(b * root)
        far = torch.log(0.5 * beyond) - 0.5 * tail * tail
        nats = torch.where(is_near, near, torch.where(a < 0, over, far))
        ends = torch.where(first, x + h, h - x)
        ends = torch.special.log_ndtr(ends.to(float64_device(x.device))).to(x.device)   # mps has neither float64 nor this function
        nats = torch.where(first | last, ends, nats)
        ctx.save_for_backward(x, width, first, last, nats)
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """∂ = (φ(b) − φ(a)) / mass for x, half the sum for the width; the difference as φ(the nearer edge) (1 − e^(−2rh))."""
        x, width, first, last, nats = ctx.saved_tensors
        h, r = width * 0.5, x.abs()
        near = torch.exp(-0.5 * (r - h).square() - HALF_LOG_2_PI - nats)
        steps = -torch.sign(x) * near * -torch.expm1(-2.0 * r * h)
        widths = 0.5 * near * (1.0 + torch.exp(-2.0 * r * h))
        edge = torch.exp(-0.5 * torch.where(first, x + h, h - x).square() - HALF_LOG_2_PI - nats)
        steps = torch.where(first, edge, torch.where(last, -edge, steps))
        widths = torch.where(first | last, 0.5 * edge, widths)
        return grad * steps, grad * widths, None, None


def log_normal_mass(centre: Tensor, width: Tensor) -> Tensor:
    """log(Φ(centre + width/2) − Φ(centre − width/2)) in nats, without cancellation in the tails.

    centre, width: any shape, both the same; width above 0.
    """
    no = torch.zeros_like(centre, dtype=torch.bool)
    return _LogMass.apply(centre, width, no, no)  # pyright: ignore[reportReturnType]


def lowest_log_scale(levels: int) -> float:
    """The least log scale of a mixture's component: −7, and the same fraction of a bin above 256 levels."""
    return -7.0 - max(0.0, math.log((levels - 1) / 255))


def tempered(log_pmf: Tensor, temperature: float) -> Categorical:
    """pmf^(1/temperature), renormalised; a level of probability 0 after the division keeps its one count.

    log_pmf: nats of every level, (*S, L).
    temperature: above 0.
    """
    temperature = clamp_temperature(temperature)
    return Categorical(((log_pmf - log_pmf.amax(-1, keepdim=True)) / temperature).clamp(min=LOWEST_LOGIT))


def clamp_temperature(temperature: float) -> float:
    """The temperature within 1e-30 … 1e30: beyond, a float32 division overflows, and the pmf has long reached its limit."""
    return min(max(float(temperature), 1e-30), 1e30)


def not_finite(what: str) -> ValueError:
    """The error for parameters that are not finite; ``what`` names them."""
    return ValueError(f"the model produced non-finite values: {what} of a distribution are NaN or infinite; training may have diverged")


_postponed = threading.local()


@contextmanager
def postponed_checks() -> Iterator[list[Tensor]]:
    """Meanwhile this thread does not wait for the device to learn whether parameters are finite.

    Yields a list, which receives what is finite where they are, for the caller to check.
    """
    _postponed.numbers = numbers = []
    try:
        yield numbers
    finally:
        _postponed.numbers = None


def _check_finite(number: Tensor, what: str) -> None:
    """Raises ``ValueError`` naming ``what`` if a number () is not finite; at once, or whoever postponed the checks."""
    numbers = getattr(_postponed, "numbers", None)
    if numbers is not None:
        numbers.append(number)
    elif not math.isfinite(number.item()):
        raise not_finite(what)


def _restore(distribution: Any, *names: str) -> None:
    """Parameters that autocasting has made half precision become float32."""
    for name in names:
        value = getattr(distribution, name)
        if value.dtype.itemsize == 2:
            object.__setattr__(distribution, name, restored(value))


def _batch_index(index: Any) -> tuple[Any, ...]:
    """An index of the batch shape S, for a tensor with one more dimension."""
    index = index if isinstance(index, tuple) else (index,)
    return (*index, slice(None)) if any(i is Ellipsis for i in index) else (*index, ..., slice(None))


# Made once: in a loop over decisions every call counts. Outside inference mode, so that autograd can use them too.
@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _count(levels: int, device: torch.device) -> Tensor:
    return torch.arange(levels, device=device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _ends(levels: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The levels without an upper and without a lower edge (2,), the signs of the two edges (2, 1), and zero ()."""
    signs = torch.tensor([[1], [-1]], dtype=dtype, device=device)
    return torch.tensor([levels - 1, 0], device=device), signs, signs.new_zeros(())


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _digits(levels: int, device: torch.device) -> list[tuple[int, Tensor]]:
    """For each digit of a level, the highest first: its place value and the levels 1, 2, … times that to compare with, in float64."""
    strides = [1]
    while strides[0] * SEARCH_RADIX < levels:
        strides.insert(0, strides[0] * SEARCH_RADIX)
    digits = torch.arange(1, SEARCH_RADIX, dtype=torch.float64, device=device)
    return [(stride, digits[: -(-levels // stride) - 1] * stride) for stride in strides]
