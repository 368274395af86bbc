"""The mixture that a program's output describes (``program/builder.py: Head``), channel by channel.

    layout: sizes of the program · p: offset of the output in ``memory`` · lowest: the least log scale
"""

from __future__ import annotations

import numpy as np

from ..range_coder import CDF_TOTAL
from .cdf import bin_width
from .compiler import compiled
from .exact import exp64, f64, fma64, log64, log_sigmoid64, tanh64


@compiled
def component_of(mixture, k, mean, log_scale, half, lowest):
    """Sets centre and steepness, in levels, of a component whose parameters are in units of [−1, 1]; True if they are not finite."""
    mixture.centre[k] = fma64(mean, half, half + 0.5)
    mixture.steepness[k] = exp64(-max(log_scale, lowest)) / half
    return not (abs(mean) <= 1e300 and abs(log_scale) <= 1e300)


@compiled
def weights_of(mixture, log_weights, levels):
    """Sets the weights: a softmax, in shares of the counts that are not reserved for single levels; False if one is not finite."""
    largest, total, bad = -np.inf, 0.0, 0
    for k in range(log_weights.shape[0]):
        bad += not (abs(log_weights[k]) <= 1e300)
        largest = max(largest, log_weights[k])
    for k in range(log_weights.shape[0]):
        mixture.weight[k] = exp64(log_weights[k] - largest)
    for k in range(log_weights.shape[0]):
        total += mixture.weight[k]
    for k in range(log_weights.shape[0]):
        mixture.weight[k] = mixture.weight[k] / total * f64((CDF_TOTAL - 2 * levels) << 28)
    return bad == 0


@compiled
def mixture_of(layout, memory, p, channel, lowest, chain, seen, mixture):
    """The mixture of a pixel's ``channel`` from the program's output at p; False if it is not finite.

    chain (K,): log weights plus each component's log probability of the earlier channels; seen (C,): their levels.
    """
    K, C = layout.components, layout.channels
    half = (layout.levels - 1) / 2.0
    per_level, bad = 1.0 / half, 0
    for k in range(K):
        if channel == 0:
            chain[k] = f64(memory[p + k])
        mean = f64(memory[p + K * (1 + channel) + k])
        for early in range(channel):
            pair = 1 + 2 * C + channel * (channel - 1) // 2 + early
            value = fma64(f64(seen[early]), per_level, -1.0)
            mean = fma64(tanh64(f64(memory[p + K * pair + k])), value, mean)
        bad += component_of(mixture, k, mean, f64(memory[p + K * (1 + C + channel) + k]), half, lowest)
    return weights_of(mixture, chain, layout.levels) and bad == 0


@compiled
def gaussians_of(layout, memory, p, lowest, log_weights, mixture):
    """The same where each channel has its own components: K log weights, means and log scales at p."""
    K, half, bad = layout.components, (layout.levels - 1) / 2.0, 0
    for k in range(K):
        log_weights[k] = f64(memory[p + k])
        bad += component_of(mixture, k, f64(memory[p + K + k]), f64(memory[p + 2 * K + k]), half, lowest)
    return weights_of(mixture, log_weights, layout.levels) and bad == 0


@compiled
def mixture_condition(mixture, levels, level, chain):
    """chain += each component's log probability of ``level``."""
    for k in range(chain.shape[0]):
        steepness = mixture.steepness[k]
        left = (f64(level) - mixture.centre[k]) * steepness
        if level < levels - 1:
            chain[k] += log_sigmoid64(left + steepness)
        if level > 0:
            chain[k] += log_sigmoid64(-left)
        if 0 < level < levels - 1:
            chain[k] += log64(bin_width(steepness))
