"""Whether new exemplars can be recognised, and how much they differ: three critics, trained on real drawings, judge what a model draws.

    naming           a classifier, trained on real drawings of the 20 characters of an episode, names what was drawn
    recognisability  a prototypical network, trained on other alphabets, finds the exemplar that was drawn anew, among those of the episode
    diversity        standard deviation of the new exemplars of one exemplar, √(Σ_i |f_i − f̄|² / (n − 1)), in features of a network that was
                     trained without labels; relative to that of real drawings

An episode: 20 characters of one alphabet, one exemplar of each, 4 real drawings of each that no critic is trained on. These are judged by
the same critics, which is what a perfect model would reach. A model that copies its exemplars is always recognised and has no diversity.

Sources: Rezende et al. 2016 for the strong test, new exemplars of alphabets that training never saw; Boutin, Singhal, Thomas, Serre,
"Diversity vs. Recognizability: Human-like generalization in one-shot generative models", 2022. The critics (``critics.py``) are smaller
than theirs, so their values cannot be compared with published ones.

What is judged of a canvas model is the picture, p(x | canvas) without the noise of the pixels, rounded to levels.

Dimensions: 20 characters · n drawings of each exemplar.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.dataset import Dataset
from ..data.exemplars import ExemplarSets
from ..model import Model
from ..pictures.exemplars import new_exemplars
from ..protocol import as_tensor
from .critics import Naming, PairNetwork, trained

WAYS = 20                      # characters of an episode
HELD_BACK = 4
NEW = 10                       # drawings of each exemplar
PAIR_STEPS, VIEW_STEPS, NAMING_STEPS = 1500, 600, 120


class Episode(NamedTuple):
    """20 characters of one alphabet.

    name: of the alphabet.
    exemplars: one drawing of each, levels (20, C, H, W).
    held_back: others that no critic is trained on, (20, HELD_BACK, C, H, W).
    known: the rest, (20, m, C, H, W).
    """

    name: str
    exemplars: Tensor
    held_back: Tensor
    known: Tensor


class Judged(NamedTuple):
    """What the critics say of drawings, a value per episode, float64.

    naming: share that the naming classifier takes for the exemplar's character.
    recognisability: share whose nearest exemplar is their own.
    diversity: standard deviation of the features of the drawings of one exemplar, mean over exemplars.
    """

    naming: Tensor
    recognisability: Tensor
    diversity: Tensor


class Critics(NamedTuple):
    """episodes: what they judge.
    pairs: trained on pairs of drawings of other alphabets. views: trained on views of single drawings.
    naming: a classifier for each episode.
    """

    episodes: list[Episode]
    pairs: PairNetwork
    views: PairNetwork
    naming: list[Naming]

    @torch.no_grad()
    def judge(self, drawn: Sequence[Tensor]) -> Judged:
        """Judge drawings of each exemplar.

        drawn: of each episode, levels (20, n, C, H, W).
        """
        top, found = self.pairs.spec.levels - 1, []
        for episode, naming, of in zip(self.episodes, self.naming, drawn, strict=True):
            flat, own = of.flatten(0, 1), torch.arange(WAYS).repeat_interleave(of.shape[1])
            nearest = torch.cdist(self.pairs.features(flat / top), self.pairs.features(episode.exemplars / top)).argmin(1)
            spread = self.views.features(flat / top).double().unflatten(0, of.shape[:2]).var(1).sum(1).sqrt().mean()
            named = naming.logits(flat).argmax(1)
            found.append(torch.stack([(named == own).double().mean(), (nearest == own).double().mean(), spread]))
        return Judged(*torch.stack(found, 1))

    def real(self) -> Judged:
        """The same of real drawings that no critic was trained on."""
        return self.judge([episode.held_back for episode in self.episodes])


def episodes_of(data: Dataset, most: int | None = None, seed: int = 0) -> list[Episode]:
    """An episode for each alphabet that has 20 characters with enough drawings.

    data: a split of omniglot or omniglot28, whose names say alphabet and character.
    most: how many; None (default) = all there are.
    seed: of which characters and drawings, 0 by default.

    Raises ``ValueError`` for data of no such alphabet.
    """
    alphabets: defaultdict[str, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, name in enumerate(data.names):
        if name.count("/") == 2:
            alphabet, character, _ = name.split("/")
            alphabets[alphabet][character].append(number)
    images, random, found = as_tensor("images", data.images), np.random.RandomState(seed), []
    for alphabet in sorted(alphabets):
        characters = [drawings for drawings in alphabets[alphabet].values() if len(drawings) >= 2 + HELD_BACK]
        if len(characters) >= WAYS:
            chosen = [characters[n] for n in random.permutation(len(characters))[:WAYS]]
            fewest = min(map(len, chosen))
            drawings = images[torch.tensor(np.stack([random.permutation(each)[:fewest] for each in chosen]))].long()
            found.append(Episode(alphabet, drawings[:, 0], drawings[:, 1 : 1 + HELD_BACK], drawings[:, 1 + HELD_BACK :]))
    if not found:
        have = f"no alphabet with {WAYS} characters of {2 + HELD_BACK} drawings"
        raise ValueError(f"data: {data.name} {data.split} has {have}; take a split of omniglot or omniglot28, such as test")
    return found[:most]


def train_critics(
    background: Dataset, episodes: list[Episode], folder: Path, report: Callable[[float], object] = lambda done: None
) -> Critics:
    """Train the critics, or read those that the folder holds.

    background: drawings of other alphabets than those of the episodes, in groups.
    episodes: what they are to judge.
    folder: where they are kept.
    report: called with the share that is done, 0 … 1.

    Raises ``ValueError`` for images that are not square, and for a background that does not say what images show.
    """
    if background.groups is None:
        raise ValueError(f"data: {background.name} does not say which drawings show the same character; take omniglot or omniglot28")
    spec, total, done = background.spec, PAIR_STEPS + VIEW_STEPS + len(episodes) * NAMING_STEPS, 0

    def part(steps: int) -> Callable[[float], object]:
        nonlocal done
        before, done = done, done + steps
        return lambda share: report((before + share * steps) / total)

    images, every = as_tensor("images", background.images), torch.arange(len(background))
    two = replace(background, conditions=ExemplarSets(images, spec.levels, background.groups, every, 1, 1))
    one = replace(background, conditions=None)
    pairs = trained("pairs", lambda: PairNetwork(spec, "drawings"), two, PAIR_STEPS, folder, part(PAIR_STEPS))
    views = trained("views", lambda: PairNetwork(spec, "views"), one, VIEW_STEPS, folder, part(VIEW_STEPS))
    naming = []
    for episode in episodes:
        labels = torch.arange(WAYS).repeat_interleave(episode.known.shape[1])
        known = Dataset(episode.name, "known", spec, episode.known.flatten(0, 1), labels, WAYS)
        naming.append(trained("naming", lambda: Naming(pairs, WAYS), known, NAMING_STEPS, folder, part(NAMING_STEPS)))
    return Critics(episodes, pairs, views, naming)


def drawn_exemplars(
    model: Model, episodes: Sequence[Episode], count: int = NEW, seed: int = 0, temperature: float = 1.0, guidance: float = 0.0
) -> Iterator[Tensor]:
    """New exemplars by a model, for each exemplar of each episode.

    model: given exemplars as a spatial map.
    episodes: of its images.
    count: new exemplars of each, 10 by default.
    seed: of the draws of the first episode, 0 by default; each has its own.
    temperature: density^(1/temperature) of what is drawn, 1 by default.
    guidance: weight of a raster model's guidance, 0 by default.

    Yields levels (20, count, C, H, W). Raises ``ValueError`` for a model that takes no exemplars.
    """
    for number, episode in enumerate(episodes):
        drawn = new_exemplars(model, episode.exemplars, count=count, seed=seed + number, temperature=temperature, guidance=guidance).drawn
        yield (drawn * (model.spec.levels - 1)).round().long()
