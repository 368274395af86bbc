"""Battles of adversarial models: each one's discriminator judges the other's pictures.

    r_test   = e(D₁(x)) / e(D₂(x))          e: share of errors; x: held-out images, which both should take for images
    r_sample = e(D₁(G₂)) / e(D₂(G₁))        what the first lets pass of the second's pictures, and the second of the first's

The first model wins if r_sample < 1 while r_test ≈ 1: its pictures fool the other's discriminator more often, and both discriminators are
about as good at images that neither has seen. Where r_test is far from 1, one of them is overfitted and the battle says little.

Source: Im, Kim, Jiang, Memisevic, "Generating images with recurrent adversarial networks", 2016 ("generative adversarial metric").

Here ratios are logarithms, so that the two models have equal rights; an error that never occurs counts as half of one, so that no ratio is
infinite; intervals are of 95 %, by drawing images and pictures again, each set once for all who judge it; and models of several seeds meet
each other, since two trainings of one model differ too. A verdict needs more than chance over images and more than chance over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..adversarial import AdversarialModel
from ..data.dataset import Dataset
from ..evaluation import check_data, conditions_for
from ..generation import sample
from ..notebook import safe, table
from ..progress import Progress, bar

RESAMPLES = 2000
CLOSE = 0.5                    # |log r_test| up to which two discriminators are about as good
ERRORS = 2                     # standard errors over seeds that count as chance


@dataclass(frozen=True)
class LogRatio:
    """Logarithm of a ratio of two shares of errors, the mean over all pairs of models.

    value: below 0 if the first models err less often.
    low, high: of the interval of 95 % over images and pictures.
    spread: standard deviation over the pairs; NaN for one pair.
    error: standard error over seeds of the value; NaN for one pair, and of a side with one model only the other's.
    shares: of errors of the first models and of the second, mean over pairs.
    """

    value: float
    low: float
    high: float
    spread: float
    error: float
    shares: tuple[float, float]

    @property
    def limits(self) -> tuple[float, float]:
        """Between which the logarithm may lie: the interval over images and pictures, or two standard errors over seeds where these are
        farther from the value."""
        seeds = ERRORS * self.error
        return float(np.fmin(self.low, self.value - seeds)), float(np.fmax(self.high, self.value + seeds))  # NaN does not count

    def __str__(self) -> str:
        spread = "" if math.isnan(self.spread) else f", ± {self.spread:.2f} over pairs"
        return f"{self.value:+.2f} ({self.low:+.2f} … {self.high:+.2f}{spread}; errors {self.shares[0]:.1%} and {self.shares[1]:.1%})"


@dataclass(frozen=True)
class Battle:
    """The first models against the second.

    test: log r_test. sample: log r_sample.
    images: how many each discriminator judged, of the data and of each opponent.
    pairs: of models.
    """

    test: LogRatio
    sample: LogRatio
    images: int
    pairs: int

    @property
    def verdict(self) -> str:
        """In a word or two, who wins: "first", "second", "neither" where log r_sample may be 0, or "not comparable" where log r_test may be
        far from it."""
        (worst, best), (low, high) = self.test.limits, self.sample.limits
        if max(-worst, best) > CLOSE:
            return "not comparable"
        return "first" if high < 0 else "second" if low > 0 else "neither"

    @property
    def why(self) -> str:
        """What decides the verdict."""
        name, ratio = ("log r_test", self.test) if self.verdict == "not comparable" else ("log r_sample", self.sample)
        low, high = ratio.limits
        by = "its interval over images" + (" alone" if math.isnan(ratio.error) else f" and {ERRORS} standard errors over seeds")
        needs = f", not within ±{CLOSE}: one discriminator may do much worse on held-out images" if ratio is self.test else ""
        return f"{name} lies between {low:+.2f} and {high:+.2f} by {by}{needs}"

    def __repr__(self) -> str:
        return f"Battle(log r_test {self.test}, log r_sample {self.sample}: {self.verdict}, {self.why})"

    @safe
    def _repr_html_(self) -> str:
        ratios = {"log r_test": self.test, "log r_sample": self.sample}
        return table("Battle", ratios | {"winner": self.verdict, "why": self.why, "images": f"{self.images:,}", "pairs": self.pairs})


def battle(
    first: AdversarialModel | Sequence[AdversarialModel],
    second: AdversarialModel | Sequence[AdversarialModel],
    data: Dataset,
    *,
    seed: int = 0,
    progress: Progress = None,
) -> Battle:
    """Let two adversarial models, or the same two trained with several seeds, judge each other.

    first, second: trained models, or a list of one model's trainings.
    data: images that no model was trained on; each model draws as many pictures.
    seed: of the pictures, 0 by default.
    progress: a bar; None (default): in a terminal or a notebook after two seconds, True: at once, False: never; or a function that is
        called with the number of models that are done.

    Raises ``ValueError`` for models of another kind or of other images than the data, and for the relativistic loss, whose discriminator
    compares pairs, so that its logits have no zero.
    """
    sides = tuple([side] if isinstance(side, AdversarialModel) else list(side) for side in (first, second))
    models = [model for side in sides for model in side]
    if not all(sides):
        raise ValueError("battle: expected at least one model on each side")
    for model in models:
        if not isinstance(model, AdversarialModel):
            raise ValueError(f"battle: {type(model).__name__} has no discriminator; expected adversarial models, such as gran and dcgan")
        if model.config.loss == "relativistic":
            raise ValueError("battle: a discriminator with loss='relativistic' compares pairs, so it cannot judge single pictures")
        check_data(model, data)
    if len(data) < 2:
        raise ValueError(f"battle: expected at least 2 images, got {len(data)}")
    with bar("battle", 2 * len(models), "models", progress) as report:
        drawn = []
        for n, model in enumerate(models):
            conditions = conditions_for(model, data)
            drawn.append(sample(model, len(data), None if conditions is None else conditions[:], seed=seed + n, progress=False))
            report(n + 1)
        taken = []                                                        # of each model's discriminator: data, then every model's pictures
        for n, model in enumerate(models):
            taken.append([_takes_for_images(model, images, data) for images in (data.images, *drawn)])
            report(len(models) + n + 1)
    ours, theirs = range(len(sides[0])), range(len(sides[0]), len(models))
    judged = np.moveaxis(np.array(taken), 0, 1)                           # (data and every model's pictures, discriminators, images)
    return _battle(np.concatenate([~judged[:1], judged[1:]]), [(i, j) for i in ours for j in theirs], np.random.default_rng(seed))


def _takes_for_images(model: AdversarialModel, images: Tensor, data: Dataset) -> np.ndarray:
    """Which of the images the discriminator takes for images of the data, (N,) bool."""
    conditions, training = conditions_for(model, data), model.training
    try:
        model.eval()
        with torch.no_grad():
            parts = [
                model.judge(images[start : start + 500], None if conditions is None else conditions[start : start + 500])
                for start in range(0, len(images), 500)
            ]
    finally:
        model.train(training)
    return (torch.cat(parts) > 0).cpu().numpy()


def _battle(errors: np.ndarray, pairs: list[tuple[int, int]], rng: np.random.Generator) -> Battle:
    """The battle of some pairs of models.

    errors: where each discriminator errs, (1 + models, models, N) bool: on the data, then on every model's pictures.
    pairs: of numbers of models.
    rng: of what is drawn again.
    """
    shares, logs = errors.mean(2), np.stack([_log_shares(each, rng) for each in errors])

    def ratio(sources: list[tuple[int, int]]) -> LogRatio:
        """Of both models of each pair, on what is said of each."""
        each = np.stack([logs[a, :, i] - logs[b, :, j] for (i, j), (a, b) in zip(pairs, sources, strict=True)])
        mean = each.mean(0)
        low, high = np.quantile(mean[1:], (0.025, 0.975))
        spread = float(each[:, 0].std(ddof=1)) if len(pairs) > 1 else math.nan
        error = _seed_error(each[:, 0], np.array(pairs))
        one, two = np.mean([(shares[a, i], shares[b, j]) for (i, j), (a, b) in zip(pairs, sources, strict=True)], 0)
        return LogRatio(float(mean[0]), float(low), float(high), spread, error, (float(one), float(two)))

    return Battle(ratio([(0, 0)] * len(pairs)), ratio([(1 + j, 1 + i) for i, j in pairs]), errors.shape[2], len(pairs))


def _seed_error(values: np.ndarray, pairs: np.ndarray) -> float:
    """Standard error over seeds of the mean of values (P,) of pairs (P, 2) of models: √(s₁²/m₁ + s₂²/m₂), where s is the deviation of the
    means of the m models of a side. Pairs share models, so s/√P over the pairs would be too small."""
    means = [[values[side == model].mean() for model in np.unique(side)] for side in pairs.T]
    squares = [np.var(each, ddof=1) / len(each) for each in means if len(each) > 1]
    return math.sqrt(sum(squares)) if squares else math.nan


def _log_shares(errors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Log shares of the errors (J, N) of J who judge the same images, then of images drawn again from these: (1 + RESAMPLES, J).

    Who never errs, or always, would do so on images drawn again too, without doubt; their errors are drawn with the share they count as.
    """
    count = errors.shape[1]
    again = np.stack([np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float32) for _ in range(RESAMPLES)])
    wrong, drawn = errors.sum(1), again @ errors.T.astype(np.float32)
    alike = (wrong == 0) | (wrong == count)
    drawn[:, alike] = rng.binomial(count, (wrong[alike] + 0.5) / (count + 1), (RESAMPLES, alike.sum()))
    return np.log((np.concatenate([wrong[None], drawn]) + 0.5) / (count + 1))
