"""What the lecture says of three ways to generate images, and whether a comparison found it.

    autoregressive    simple and stable training, the best likelihoods; slow to sample, no code
    adversarial       the sharpest images; unstable training
    variational       a low-dimensional code; blurry images
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .comparison import Row, mean, spread

CHANCE = 0.05                  # a difference between spreads that chance alone makes more often than this decides nothing


@dataclass(frozen=True)
class Claim:
    """One claim and what was found.

    text: the claim.
    holds: whether it was found; None without models or figures to decide it by.
    found: the figures.
    undecided: why the figures decide nothing; "" (default) where they do, or where there are none.
    """

    text: str
    holds: bool | None
    found: str
    undecided: str = ""

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.holds is None:
            return "undecided" if self.undecided else "not measured"
        return "found" if self.holds else "not found"


def claims(rows: Sequence[Row]) -> list[Claim]:
    """The lecture's claims next to what was found.

    rows: of a comparison.
    """
    of = {group: [row for row in rows if row.group == group] for group in ("autoregressive", "variational", "adversarial")}
    auto, variational, adversarial = of.values()
    return [
        _stability(auto, adversarial),
        _ordered("Autoregressive models have the best likelihoods (nats per image)", auto, variational, lambda row: mean(row.nats),
                 lambda a, b: min(a) < min(b), "{:.2f}", lambda row: "≤ " * (row.kind == "bound")),
        *(_ordered(f"Autoregressive models are slow to sample (CPU ms per image, {size} at once)", auto, variational + adversarial,
                   lambda row, size=size: row.milliseconds.get(size, math.nan), lambda a, b: min(a) > max(b), "{:.2f}")
          for size in (1, 64)),
        _ordered("Adversarial models draw images that are the nearest to the data in sharpness (1 = as the data)", adversarial,
                 auto + variational, lambda row: mean(row.sharpness), lambda a, b: min(map(_off, a)) < min(map(_off, b)), "{:.2f}"),
        _ordered("Variational models draw blurry images (sharpness, 1 = as the data)", variational, auto + adversarial,
                 lambda row: mean(row.sharpness), lambda a, b: max(a) < min(1.0, *b), "{:.2f}"),
        _ordered("Variational models have a low-dimensional code (its values; of a model without a code, those of an image)", variational,
                 auto, lambda row: float(row.code or row.pictures[0].numel() if len(row.pictures) else math.nan),
                 lambda a, b: max(a) < min(b), "{:.0f}"),
    ]  # fmt: skip


def chance_of_variances(one: float, two: float, freedom: tuple[int, int]) -> float:
    """How often two samples of one normal distribution have variances that differ by as large a factor: the two-sided F-test.

    one, two: variances, not both 0.
    freedom: degrees of freedom d₁, d₂ of each, at least 1.

    The angle θ with tan² θ = d₁ one / (d₂ two) has a density ∝ sin^(d₁−1) θ cos^(d₂−1) θ.
    """
    first, second = freedom
    angles = (torch.arange(20_000, dtype=torch.float64) + 0.5) * (math.pi / 40_000)
    density = angles.sin() ** (first - 1) * angles.cos() ** (second - 1)
    below = float(density[angles < math.atan2(math.sqrt(first * one), math.sqrt(second * two))].sum() / density.sum())
    return 2 * min(below, 1 - below)


def _stability(auto: Sequence[Row], adversarial: Sequence[Row]) -> Claim:
    """By lost runs, else by the spread of the kernel distance over seeds.

    Losses are not compared, since nats and a discriminator's loss have no common unit; the kernel distance is of all pictures alike.
    """
    text = "Autoregressive models train stably, adversarial ones do not (lost runs, else spread of the kernel distance over seeds)"
    if not auto or not adversarial:
        return Claim(text, None, "")
    lost, runs = sum(row.diverged for row in auto), sum(len(row.losses) for row in auto)
    others_lost, other_runs = sum(row.diverged for row in adversarial), sum(len(row.losses) for row in adversarial)
    if lost or others_lost:
        found = f"lost {lost} of {runs} autoregressive runs, {others_lost} of {other_runs} adversarial ones"
        return Claim(text, not lost, found)
    (one, d_one), (two, d_two) = _variance(auto), _variance(adversarial)
    if not d_one or not d_two:
        return Claim(text, None, "no run was lost", "a single seed has no spread")
    found, chance = f"no run was lost; spread {one**0.5:.2g} against {two**0.5:.2g}", chance_of_variances(one, two, (d_one, d_two))
    if chance >= CHANCE:
        return Claim(text, None, found, f"{runs} and {other_runs} runs differ as much by chance with a probability of {chance:.2f}")
    return Claim(text, one < two, found)


def _variance(rows: Sequence[Row]) -> tuple[float, int]:
    """Variance of the kernel distance over the seeds of each model, in the mean, and its degrees of freedom; 0, 0 of single seeds."""
    several = [row.distance for row in rows if len(row.distance) > 1]
    freedom = sum(len(each) - 1 for each in several)
    return sum((len(each) - 1) * spread(each) ** 2 for each in several) / max(freedom, 1), freedom


def _off(sharpness: float) -> float:
    """How far sharpness is from that of the data: noise is as wrong as blur."""
    return abs(math.log(max(sharpness, 1e-9)))


def _ordered(
    text: str,
    one: Sequence[Row],
    two: Sequence[Row],
    measure: Callable[[Row], float],
    holds: Callable[[list[float], list[float]], bool],
    form: str,
    sign: Callable[[Row], str] = lambda row: "",
) -> Claim:
    values = [[measure(row) for row in side] for side in (one, two)]
    known = [[value for value in side if not math.isnan(value)] for side in values]
    found = ", ".join(f"{row.model} {sign(row)}{form.format(value)}"
                      for row, value in zip([*one, *two], [*values[0], *values[1]], strict=True) if not math.isnan(value))  # fmt: skip
    return Claim(text, holds(*known) if all(known) else None, found)
