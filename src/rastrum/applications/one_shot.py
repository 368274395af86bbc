"""What exemplars are worth: nats of images given none, one and more other images of what they show.

    nats(k) = mean over images x of −log p(x | k exemplars of x)        gain from k to k' = (nats(k) − nats(k')) / (k' − k) per exemplar

All k score the same images with the same noise, and the exemplars of a smaller k are among those of a larger, so gains are means of
differences within images, and their standard errors are of these.

Source of the numbers of exemplars: Bartunov, Vetrov, "Few-shot generative modelling with generative matching networks", 2018; its own model
has ``PUBLISHED`` nats on the test split of omniglot28.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.dataset import Dataset
from ..data.exemplars import ExemplarSets
from ..evaluation import image_nats
from ..model import Kind, Model
from ..progress import Progress, bar
from ..protocol import as_tensor
from .twenty_way import check_exemplars

PUBLISHED = {0: 90.9, 1: 82.8, 2: 78.8, 3: 76.4, 4: 74.2, 9: 64.6}       # nats by the number of exemplars
COUNTS = tuple(PUBLISHED)


class Measured(NamedTuple):
    """value, error: a mean and its standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, values: Tensor) -> Measured:
        """Of values (N,)."""
        return cls(float(values.mean()), float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan)


@dataclass(frozen=True)
class ByExemplars:
    """The score of the same images by the number of their exemplars.

    nats: per image, (N,) float64, by the number of exemplars.
    kind: "exact" or "bound".
    """

    nats: dict[int, Tensor]
    kind: Kind

    @property
    def means(self) -> dict[int, Measured]:
        """Nats per image by the number of exemplars."""
        return {count: Measured.of(nats) for count, nats in self.nats.items()}

    @property
    def gains(self) -> dict[int, Measured]:
        """Nats per exemplar that each number of exemplars gains over the number before."""
        pairs = zip(self.nats, list(self.nats)[1:], strict=False)
        return {more: Measured.of((self.nats[fewer] - self.nats[more]) / (more - fewer)) for fewer, more in pairs}

    @property
    def falls(self) -> bool | None:
        """Whether nats fall with every number; None for a single number."""
        return all(gain.value > 0 for gain in self.gains.values()) if self.gains else None


def nats_by_exemplars(
    model: Model,
    data: Dataset,
    *,
    counts: Sequence[int] = COUNTS,
    images: int | None = None,
    num_samples: int = 1,
    seed: int = 0,
    progress: Progress = None,
) -> ByExemplars:
    """Score images given several numbers of exemplars.

    model: given exemplars as a spatial map; with a likelihood or a bound. Numbers above what it has room for are left out, and
        those above the other images of the smallest group.
    data: all images of a split, in groups or classes, from which exemplars are drawn.
    counts: numbers of exemplars, rising; by default those of ``PUBLISHED``.
    images: a random subset of this many is scored; None (default) = all.
    num_samples: trajectories of a bound, 1 by default.
    seed: of the choice of images and of the noise, 0 by default.
    progress: a bar; None (default): in a terminal or a notebook after two seconds, True: at once, False: never; or a function that is
        called with how many of the numbers are done, which is fractional.

    Raises ``ValueError`` for a model without exemplars or likelihood, and for data that do not fit it or say not what images show.
    """
    slots = check_exemplars(model)
    groups = data.labels if data.groups is None else data.groups
    if groups is None:
        raise ValueError(f"data: {data.name} does not say what its images show; take omniglot28, omniglot or a set with classes")
    of_all, found = as_tensor("images", data.images), {}
    others = int(torch.as_tensor(groups).unique(return_counts=True)[1].min()) - 1
    fitting = [count for count in counts if count <= min(slots, others)]
    with bar("scoring", len(fitting), "numbers of exemplars", progress) as report:
        for done, count in enumerate(fitting):
            sets = ExemplarSets(of_all, data.spec.levels, groups, torch.arange(len(data)), slots, count)
            chosen = replace(data, conditions=sets).subset(images, seed)
            each = 1 / len(chosen)
            found[count] = image_nats(
                model, chosen, num_samples=num_samples, seed=seed, progress=lambda n, done=done, each=each: report(done + n * each)
            )
    return ByExemplars(found, model.kind)
