"""Latents of a stroke, and values of an image given the canvas, drawn or coded one after another: what a progressive file holds.

A latent with prior N(mean, sd²) + U(−width/2, width/2) and dither d is z = (k + d) width, and the whole number k has the probability

    Φ((k + ½ + d) w/s − m/s) − Φ((k − ½ + d) w/s − m/s)

With k₀ the nearest to the prior's mean, ⌊m/w − d + ½⌋, and reach R = min(⌊8 s/w⌋ + 1, 2^15), the levels of a Gaussian of ``cdf.py`` are

    0: k < k₀ − R  ·  1 … 2R + 1: k = k₀ − R … k₀ + R  ·  2R + 2: k > k₀ + R

and after one of the two ends follows how far k is beyond it, in Elias's gamma code of bits of probability ½ (Elias 1975).

``docs/arithmetic.md`` is the specification. All arrays are flat; a stream that was cut ends where its bytes say no symbol any more.
"""
# pyright: reportArgumentType=false, reportOperatorIssue=false

from __future__ import annotations

import numpy as np

from ..range_coder import CDF_TOTAL
from .cdf import mixture_cdf, mixture_search, softmax_sums, sums_cdf, sums_search
from .coder import put, take, threshold_of
from .codes import BERNOULLI, GAUSSIAN, MIXTURE
from .compiler import compiled
from .exact import exp64, f32, f64, fma64, i64, u64
from .heads import component_of

DRAW, ENCODE, DECODE = range(3)
CUT, NOT_FINITE, TOO_FAR = -1, -2, -3
MOST_REACH, DEVIATIONS = 1 << 15, 8.0
FARTHEST = 1 << 30             # of k beyond the reach
LARGEST_LOG = 80.0             # of standard deviations and widths
LARGEST_RATIO = 1e12           # of the prior's mean and the width
HALF = CDF_TOTAL // 2


@compiled
def known(streams, b, whole, high):
    """Whether the bytes that there are say that the symbol ends at ``high``, wherever a stream that is not whole would go on."""
    missing = streams.position[b] - streams.ends[b]
    if whole or missing <= 0:
        return True
    if missing >= 8:
        return False
    unit, most = streams.range[b] >> u64(24), (u64(1) << u64(8 * missing)) - u64(1)
    return high == CDF_TOTAL or (unit * u64(high) > streams.code[b] and most < unit * u64(high) - streams.code[b])


@compiled
def bits(mode, streams, b, whole, number, count):
    """``count`` bits of probability ½, highest first: written, or read; CUT where they are not known."""
    found = i64(0)
    for n in range(count - 1, -1, -1):
        bit = (number >> i64(n)) & i64(1)
        if mode == DECODE:
            bit = i64(threshold_of(streams, b) >= HALF)
            if not known(streams, b, whole, (bit + 1) * HALF):
                return i64(CUT)
            take(streams, b, bit * HALF, (bit + 1) * HALF)
        else:
            put(streams, b, bit * HALF, (bit + 1) * HALF)
        found = 2 * found + bit
    return found


@compiled
def gamma(mode, streams, b, whole, number):
    """A number of at least 1 in Elias's gamma code: written, or read; CUT where it is not known, TOO_FAR where it is too large."""
    length = i64(0)
    if mode == ENCODE:
        while number >> (length + 1) > 0:
            length += 1
        bits(mode, streams, b, whole, i64(1), length + 1)
        bits(mode, streams, b, whole, number & ((i64(1) << length) - 1), length)
        return number
    while True:
        bit = bits(mode, streams, b, whole, i64(0), 1)
        if bit == CUT:
            return i64(CUT)
        if bit == 1:
            break
        length += 1
        if length > 30:
            return i64(TOO_FAR)
    rest = bits(mode, streams, b, whole, i64(0), length)
    return rest if rest < 0 else (i64(1) << length) + rest


@compiled(slow=True)
def code_latents(mode, prior, dither, target, streams, b, whole, mixture, k, z, length):
    """Draws, encodes or decodes latents; returns how many, or NOT_FINITE, or TOO_FAR.

    prior: (n, 3) float32: mean, log standard deviation, log width.
    dither: (n,) float64 in (−½, ½).
    target: (n,) float64: encoding, what k is to be near; drawing, thresholds 0 … 2^24 − 1.
    streams, b, whole: the coder of ``coder.py``, of one stream, and whether it is whole.
    mixture: memory of one component.
    k, z, length: (n,): written: int64; float32; float64, bits that the counts take.
    """
    for n in range(prior.shape[0]):
        mean, log_sd, log_width = f64(prior[n, 0]), f64(prior[n, 1]), f64(prior[n, 2])
        if not (abs(log_sd) <= LARGEST_LOG and abs(log_width) <= LARGEST_LOG and abs(mean) <= 1e30):
            return i64(NOT_FINITE)
        width, steepness = exp64(log_width), exp64(log_width - log_sd)
        centre = mean / width - dither[n]
        if not abs(centre) <= LARGEST_RATIO:
            return i64(NOT_FINITE)
        nearest = np.floor(centre + 0.5)
        reach = i64(min(np.floor(DEVIATIONS / steepness), f64(MOST_REACH - 1))) + 1
        levels = 2 * reach + 3
        mixture.weight[0] = f64((CDF_TOTAL - 2 * levels) << 28)
        mixture.centre[0] = f64(reach) + 1.5 + (centre - nearest)
        mixture.steepness[0] = steepness
        extra = 0.0
        if mode == ENCODE:
            wanted = np.floor(target[n] / width - dither[n] + 0.5) - nearest
            if not abs(wanted) < f64(FARTHEST):
                return i64(TOO_FAR)
            away = i64(wanted)
            level = min(max(away + reach + 1, i64(0)), levels - 1)
            low, high = mixture_cdf(mixture, GAUSSIAN, levels, level), mixture_cdf(mixture, GAUSSIAN, levels, level + 1)
            put(streams, b, low, high)
            if level == 0 or level == levels - 1:
                beyond = abs(away) - reach
                gamma(mode, streams, b, whole, beyond)
                while beyond > 0:
                    extra += 2.0
                    beyond >>= 1
                extra -= 1.0
        else:
            threshold = threshold_of(streams, b) if mode == DECODE else i64(target[n])
            level, low, high = mixture_search(mixture, GAUSSIAN, levels, threshold)
            away = level - reach - 1
            if mode == DECODE:
                if not known(streams, b, whole, high):
                    return i64(n)
                take(streams, b, low, high)
                if level == 0 or level == levels - 1:
                    beyond = gamma(mode, streams, b, whole, i64(0))
                    if beyond < 0:
                        return i64(n) if beyond == CUT else i64(TOO_FAR)
                    away = -reach - beyond if level == 0 else reach + beyond
        k[n] = i64(nearest) + away
        z[n] = f32((f64(k[n]) + dither[n]) * width)
        if not abs(z[n]) <= f32(3.4e38):
            return i64(TOO_FAR)
        length[n] = 24.0 - np.log2(f64(high - low)) + extra
    return i64(prior.shape[0])


@compiled
def probabilities(logits, out):
    """out = 1 / (1 + e^−logit), both (n,) float32."""
    for n in range(logits.shape[0]):
        out[n] = f32(1.0 / (1.0 + exp64(-f64(logits[n]))))


@compiled(slow=True)
def code_values(mode, head, levels, lowest, canvas, coefficients, first, streams, b, whole, mixture, logits, sums, values, length):
    """Encodes or decodes levels of images given their canvas, from number ``first`` on; returns how many, or NOT_FINITE.

    head: MIXTURE for a discretised logistic, BERNOULLI for a logit.
    lowest: the least log scale.
    canvas: (n, 2) float32: mean and log scale; of a Bernoulli (n, 1), the logit.
    coefficients: (C, C) float32: what channel j < c of the pixel misses moves the mean of channel c by its [c, j]-fold.
    streams, b, whole: as for ``code_latents``.
    mixture, logits (2,), sums (3,): memory.
    values: (n,) int64: levels, read to encode, else written.
    length: (m,) float64: bits that the counts of the m values from ``first`` on take, written.
    """
    half, channels = (levels - 1) / 2.0, coefficients.shape[0]
    for n in range(first, first + length.shape[0]):
        if head == BERNOULLI:
            logits[0], logits[1] = f32(0.0), canvas[n, 0]
            if not softmax_sums(logits, f32(1.0), sums):
                return i64(NOT_FINITE)
        else:
            mean, channel = f64(canvas[n, 0]), n % channels
            for early in range(channel):
                at = n - channel + early
                missing = fma64(f64(values[at]), 1.0 / half, -1.0) - f64(canvas[at, 0])
                mean = fma64(f64(coefficients[channel, early]), missing, mean)
            if component_of(mixture, 0, mean, f64(canvas[n, 1]), half, lowest):
                return i64(NOT_FINITE)
            mixture.weight[0] = f64((CDF_TOTAL - 2 * levels) << 28)
        level = values[n]
        if mode == DECODE:
            if head == BERNOULLI:
                level = i64(sums_search(sums, levels, threshold_of(streams, b)))
            else:
                level = mixture_search(mixture, MIXTURE, levels, threshold_of(streams, b))[0]
        if head == BERNOULLI:
            low, high = sums_cdf(sums, levels, level), sums_cdf(sums, levels, level + 1)
        else:
            low, high = mixture_cdf(mixture, MIXTURE, levels, level), mixture_cdf(mixture, MIXTURE, levels, level + 1)
        if mode == ENCODE:
            put(streams, b, low, high)
        elif known(streams, b, whole, high):
            take(streams, b, low, high)
        else:
            return i64(n - first)
        values[n] = level
        length[n - first] = 24.0 - np.log2(f64(high - low))
    return i64(length.shape[0])
