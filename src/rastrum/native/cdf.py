"""The integer CDF of a softmax and of a mixture (the same as in ``distributions.py``, there in torch), and the search in it.

    sums (L + 1,)    cumulative integer weights C_0 … C_L of L levels
"""
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportOperatorIssue=false, reportIndexIssue=false

from __future__ import annotations

from typing import Any, NamedTuple

from ..range_coder import CDF_TOTAL
from .codes import GAUSSIAN
from .compiler import compiled
from .exact import bits_to_f32, exp32, exp64, f32, f32_to_bits, f64, fma64, i32, i64, log64, normal64, tail64, u64


@compiled
def weight_bits(levels):
    """Bits of a softmax weight, so that products of sums with 2^24 stay below 2^63."""
    bits = 0
    while (1 << bits) < levels:
        bits += 1
    return min(30, 38 - bits)


@compiled
def softmax_sums(logits, temperature, sums):
    """C_0 = 0, C_1 … C_L of L float32 logits, which are written over; False if one is not finite.

    The largest is found, and the weights are kept, as integers of the same bits: so the loops run on vectors.
    """
    levels, most, bad = logits.shape[0], i32(-0x80000000), 0
    for j in range(levels):
        bits = f32_to_bits(logits[j])
        most = max(most, bits ^ ((bits >> i32(31)) & i32(0x7FFFFFFF)))
        bad += not (abs(logits[j]) <= f32(3.4e38))
    if bad > 0:
        return False
    largest, scale = bits_to_f32(most ^ ((most >> i32(31)) & i32(0x7FFFFFFF))), f32(1 << weight_bits(levels))
    for j in range(levels):
        logits[j] = bits_to_f32(i32(exp32((logits[j] - largest) / temperature) * scale))
    total = i64(0)
    for j in range(levels):
        total += i64(f32_to_bits(logits[j]))
        sums[j + 1] = total
    return True


@compiled
def sums_cdf(sums, levels, level):
    return i64(level) + i64(u64(sums[level]) * u64(CDF_TOTAL - levels) // u64(sums[levels]))


@compiled
def sums_search(sums, levels, threshold):
    """The largest i with cdf(i) ≤ threshold, without division: ⌊a / C_L⌋ ≤ m  ⇔  a < (m + 1) C_L."""
    low, high = 0, levels
    while high - low > 1:
        middle = (low + high) >> 1
        left = threshold - middle
        if left >= 0 and sums[middle] * (CDF_TOTAL - levels) < (left + 1) * sums[levels]:
            low = middle
        else:
            high = middle
    return low


LANES = 8                      # components of a mixture are padded to a multiple of this


class Mixture(NamedTuple):
    """A mixture in units of levels, K padded to LANES: π (2^24 − 2L) 2^28, the level whose lower edge is the centre, 1 / scale."""

    weight: Any
    centre: Any
    steepness: Any
    term: Any


@compiled
def mixture_cdf(mixture, head, levels, level):
    """2 level + ⌊C / 2^28⌋, C = Σ_k ⌊weight_k F((level − centre) steepness)⌋, F(x) = 1 / (1 + e^−x), or Φ(x) of a GAUSSIAN head."""
    if level <= 0:
        return i64(0)
    if level >= levels:
        return i64(CDF_TOTAL)
    weight, centre, steepness, term = mixture
    x = f64(level)
    if head == GAUSSIAN:
        for k in range(weight.shape[0]):
            term[k] = i64(weight[k] * normal64((x - centre[k]) * steepness[k]))
    else:
        for k in range(weight.shape[0]):
            term[k] = i64(weight[k] / (exp64((centre[k] - x) * steepness[k]) + 1.0))
    total = i64(0)
    for k in range(weight.shape[0]):
        total += term[k]
    return i64(2) * level + (total >> i64(28))


@compiled
def mixture_search(mixture, head, levels, threshold):
    """The largest level with cdf(level) ≤ threshold, and the ends cdf(level), cdf(level + 1) of its interval.

    It begins at the mean, where the level mostly is, and goes on in growing steps until it has the level between two others.
    """
    weight, centre, _, _ = mixture
    mean, total = 0.0, 0.0
    for k in range(weight.shape[0]):
        mean += weight[k] * centre[k]
        total += weight[k]
    low, high, cdf_low, cdf_high = i64(0), i64(levels), i64(0), i64(CDF_TOTAL)
    middle, step = i64(min(max(mean / total - 0.5, 1.0), levels - 1.0)), i64(1)
    while high - low > 1:
        cdf = mixture_cdf(mixture, head, levels, middle)
        if cdf <= threshold:
            low, cdf_low = middle, cdf
        else:
            high, cdf_high = middle, cdf
        if high < levels and low > 0:
            middle = (low + high) >> 1
        else:
            middle = min(low + step, high - 1) if low > 0 else max(high - step, low + 1)
            step *= 2
    return low, cdf_low, cdf_high


@compiled
def logistic_masses(mixture, levels, pmf):
    """pmf (L,) += each component's mass of each level.

    Between edges of odds A and B: A / (1 + A) · 1 / (1 + B) · (1 − e^−steepness), without cancellation.
    """
    weight, centre, steepness, _ = mixture
    for k in range(weight.shape[0]):
        if weight[k] > 0.0:
            width = bin_width(steepness[k])
            above = exp64(centre[k] * steepness[k])
            for j in range(levels):
                below = exp64((centre[k] - f64(j + 1)) * steepness[k])
                mass = weight[k]
                if j > 0:
                    mass *= above / (1.0 + above)
                if j < levels - 1:
                    mass /= 1.0 + below
                if 0 < j < levels - 1:
                    mass *= width
                pmf[j] += mass
                above = below


@compiled
def gaussian_masses(mixture, levels, pmf):
    """The same of a GAUSSIAN head: differences of tails on the side where they are small."""
    weight, centre, steepness, _ = mixture
    for k in range(weight.shape[0]):
        if weight[k] > 0.0:
            for j in range(levels):
                low = -100.0 if j == 0 else min(max((f64(j) - centre[k]) * steepness[k], -100.0), 100.0)
                high = 100.0 if j == levels - 1 else min(max((f64(j + 1) - centre[k]) * steepness[k], -100.0), 100.0)
                if low > 0.0:
                    pmf[j] += weight[k] * max(tail64(low) - tail64(high), 0.0)
                else:
                    pmf[j] += weight[k] * max(normal64(high) - normal64(low), 0.0)


@compiled
def tempered_sums(mixture, head, levels, temperature, pmf, sums):
    """C_0 … C_L of the softmax of log pmf / temperature: a mixture has no temperature of its own."""
    for j in range(levels):
        pmf[j] = 0.0
    if head == GAUSSIAN:
        gaussian_masses(mixture, levels, pmf)
    else:
        logistic_masses(mixture, levels, pmf)
    largest = 0.0
    for j in range(levels):
        largest = max(largest, pmf[j])
    scale = f64(1 << weight_bits(levels))
    base = log64(largest)
    for j in range(levels):
        sums[j + 1] = i64(exp64((log64(pmf[j]) - base) / temperature) * scale) if pmf[j] > 0.0 else 0
    for j in range(levels):
        sums[j + 1] += sums[j]


@compiled
def bin_width(s):
    """1 − e^−s for s ≥ 0, as a series where the difference would cancel."""
    if s > 0.01:
        return 1.0 - exp64(-s)
    p = fma64(s, -8.333333333333333e-03, 4.1666666666666664e-02)
    p = fma64(p, s, -1.6666666666666666e-01)
    p = fma64(p, s, 0.5)
    p = fma64(p, s, -1.0)
    return max(-p * s, 2.2250738585072014e-308)
