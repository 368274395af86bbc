"""What the lecture says of three ways to generate images, and whether a comparison found it.

    autoregressive    simple and stable training, the best likelihoods; slow to sample, no code
    adversarial       the sharpest images; unstable training
    variational       a low-dimensional code; blurry images
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .comparison import Row, mean, spread


@dataclass(frozen=True)
class Claim:
    """One claim and what was found.

    text: the claim.
    holds: whether it was found; None without models or figures to decide it by.
    found: the figures.
    """

    text: str
    holds: bool | None
    found: str

    @property
    def verdict(self) -> str:
        """In a word or two."""
        return "not measured" if self.holds is None else "found" if self.holds else "not found"


def claims(rows: Sequence[Row]) -> list[Claim]:
    """The lecture's claims next to what was found.

    rows: of a comparison.
    """
    of = {group: [row for row in rows if row.group == group] for group in ("autoregressive", "variational", "adversarial")}
    auto, variational, adversarial = of.values()
    return [
        _ordered("Autoregressive models train stably, adversarial ones do not (spread of the score over seeds, runs that were lost)",
                 auto, adversarial, unsteadiness, lambda a, b: max(a) < min(b), "{:.1%}"),
        _ordered("Autoregressive models have the best likelihoods (nats per image)", auto, variational, lambda row: mean(row.nats),
                 lambda a, b: min(a) < min(b), "{:.2f}"),
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


def unsteadiness(row: Row) -> float:
    """Spread of the held-out loss over seeds relative to its mean, and 1 for a lost run.

    row: of a model.
    """
    if row.diverged:
        return 1.0
    return abs(spread(row.losses) / mean(row.losses)) if len(row.losses) > 1 else math.nan


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
) -> Claim:
    values = [[measure(row) for row in side] for side in (one, two)]
    known = [[value for value in side if not math.isnan(value)] for side in values]
    found = ", ".join(f"{row.model} {form.format(value)}" for row, value in zip([*one, *two], [*values[0], *values[1]], strict=True)
                      if not math.isnan(value))  # fmt: skip
    return Claim(text, holds(*known) if all(known) else None, found)
