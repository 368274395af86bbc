"""One-shot classification: which of some images, one of each class, shows what another image shows, by a model that is given exemplars.

    two-way    log p(I_t | I_c) + log p(I_c | I_t) − log p(I_c)          (1)
    one-way    log p(I_t | I_c)                                          (2)
    reverse    log p(I_c | I_t) − log p(I_c)                             (3)

I_t: the test image; I_c: that of class c, of which the largest score is the answer; log p(I_c): given no exemplar. If both conditionals
belong to one joint distribution of two images of a class, (2) and (3) are log p(I_t, I_c) − log p(I_t) − log p(I_c) up to what is the same
for all c. A model's seldom do, and (1) is the sum of both.

Source of (1): Lake, Salakhutdinov, Tenenbaum, "Human-level concept learning through probabilistic program induction", 2015, supplement.

Of a model with a bound each is the bound by importance samples. The noise belongs to the image, so an image is scored with the same noise
under every exemplar, and the differences between exemplars are less noisy than the scores.

Two measures without training stand for comparison: differing pixels, and the modified Hausdorff distance between sets of ink pixels, with
their means at the origin,

    d(A, B) = max(mean_{a ∈ A} min_{b ∈ B} |a − b|, mean_{b ∈ B} min_{a ∈ A} |a − b|)                                      (4)

Source: Dubuisson, Jain, "A modified Hausdorff distance for object matching", 1994.

Dimensions: T test images · C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.omniglot_runs import Run
from ..devices import in_float64
from ..exemplars import exemplar_map, slots_of
from ..model import Model
from ..progress import Progress, bar

MEASURES = ("two-way", "one-way", "reverse")


class Scores(NamedTuple):
    """Of one run, in nats, float64.

    forward: log p(I_t | I_c), (T, C).
    backward: log p(I_c | I_t), (T, C).
    alone: log p(I_c), (C,).
    """

    forward: Tensor
    backward: Tensor
    alone: Tensor

    def by(self, measure: str) -> Tensor:
        """A score of ``MEASURES``, (T, C): the larger, the likelier are both images of one class."""
        reverse = self.backward - self.alone
        return {"two-way": self.forward + reverse, "one-way": self.forward, "reverse": reverse}[measure]


class ErrorRate(NamedTuple):
    """runs: share of wrong answers of each run.
    trials: answers of all runs together.
    """

    runs: list[float]
    trials: int

    @property
    def mean(self) -> float:
        """Share of wrong answers."""
        return sum(self.runs) / len(self.runs)

    @property
    def standard_error(self) -> float:
        """Of ``mean``, as of a share of independent trials."""
        return math.sqrt(self.mean * (1 - self.mean) / self.trials)

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} ± {100 * self.standard_error:.1f} %"


def check_exemplars(model: Model) -> int:
    """How many exemplars a model has room for.

    model: any.

    Raises ``ValueError`` for one without exemplars of the size of its images, and for one without a likelihood.
    """
    model.require_likelihood()
    slots, spec, given = slots_of(model.condition_spec, model.spec.channels), model.spec, model.condition_spec
    assert given is not None
    if given.shape[1:] != (spec.height, spec.width):
        have = "x".join(map(str, given.shape[1:]))
        raise ValueError(f"exemplars: expected a condition of {spec.height}x{spec.width} pixels, like the images, got a map of {have}")
    return slots


def one_shot_scores(
    model: Model, runs: Sequence[Run], *, num_samples: int = 1, seed: int = 0, progress: Progress = None
) -> Iterator[Scores]:
    """Score every pair of images of some runs, in both directions.

    model: given exemplars as a spatial map; with a likelihood or a bound.
    runs: of the model's images, as ``prepared`` makes them.
    num_samples: trajectories of a bound, 1 by default; a few dozen are needed for answers that hardly depend on the noise.
    seed: of the noise of a bound, 0 by default.
    progress: a bar; None (default): in a terminal or a notebook after two seconds, True: at once, False: never; or a function that is
        called with the number of runs that are done, which is fractional.

    Yields the scores of each run. Raises ``ValueError`` for a model without exemplars or likelihood, and for images that do not fit it.
    """
    slots = check_exemplars(model)
    levels = model.spec.levels
    with bar("classifying", len(runs), "runs", progress) as report:
        for number, (_, training, test, _) in enumerate(runs):
            seen, first = 0, number * (len(training) + len(test))
            total = len(training) + len(test) + 1

            def log_p(images: Tensor, exemplar: Tensor | None, begin: int, number: int = number, total: int = total) -> Tensor:
                """log p(image | exemplar) of each image, (n,)."""
                nonlocal seen
                given = images[:0] if exemplar is None else exemplar[None]
                condition = exemplar_map(given[None], slots, levels).expand(len(images), -1, -1, -1)
                parts = []
                for start in range(0, len(images), model.images_at_a_time):
                    part = slice(start, start + model.images_at_a_time)
                    parts.append(-model.nats(images[part], condition[part].to(model.device), num_samples, seed, begin + start))
                seen += 1
                report(number + seen / total)
                return in_float64(torch.cat(parts)).cpu()

            with torch.no_grad():
                yield Scores(
                    forward=torch.stack([log_p(test, exemplar, first) for exemplar in training], dim=1),
                    backward=torch.stack([log_p(training, exemplar, first + len(test)) for exemplar in test]),
                    alone=log_p(training, None, first + len(test)),
                )


def error_rate(runs: Sequence[Run], scores: Sequence[Tensor]) -> ErrorRate:
    """How often the class of the largest score is not that of the image.

    runs: any.
    scores: of each run, (T, C).
    """
    wrong = [float((of.argmax(1) != run.answers).double().mean()) for run, of in zip(runs, scores, strict=True)]
    return ErrorRate(wrong, sum(len(run.answers) for run in runs))


# ── without a model ──────────────────────────────────────────────────────────────────────────────────────────────────────


def compared(runs: Sequence[Run], distance: Callable[[Tensor, Tensor], float]) -> list[Tensor]:
    """−distance of every pair of images of each run, (T, C) each.

    runs: any.
    distance: of two images (1, H, W), such as ``differing_pixels`` and ``hausdorff``.
    """
    return [-torch.tensor([[distance(image, of) for of in run.training] for image in run.test], dtype=torch.float64) for run in runs]


def differing_pixels(one: Tensor, other: Tensor) -> float:
    """How many pixels differ.

    one, other: levels of one shape.
    """
    return float((one != other).sum())


def hausdorff(one: Tensor, other: Tensor) -> float:
    """The modified Hausdorff distance (4) of two drawings, in pixels.

    one, other: levels (1, H, W), with ink where they are not 0; some ink in each.
    """
    points = [(image[0] != 0).nonzero().double() for image in (one, other)]
    a, b = (each - each.mean(0) for each in points)
    distances = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    return max(float(distances.amin(1).mean()), float(distances.amin(0).mean()))
