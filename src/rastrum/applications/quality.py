"""How good the pictures are that a model draws: what a network sees in them, compared with what it sees in images of the data.

Any model can be measured, one without a likelihood too. What a model draws is what a viewer sees: an image of a raster model, the last
canvas of others, which is the mean of the image's distribution. Figures belong to the network that they are by, whose name stands next to
them, and to the number of pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..config import RunConfig, TrainConfig
from ..data.dataset import Dataset
from ..data.exemplars import ExemplarSets
from ..generation import sample
from ..model import Model
from ..raster import RasterModel
from ..strokes import CanvasModel
from ..train import train
from .fidelity import kernel_distance, precision_and_recall, sharpness
from .glimpse_classifier import TRAINING, WholeImageClassifier

PART = 100                     # pictures that are drawn, and looked at, at a time
FEWEST = 30                    # images that anything can be said by


class Features(Protocol):
    """What pictures are compared by.

    name: for tables.
    """

    name: str

    def __call__(self, pictures: Tensor) -> Tensor:
        """Features (B, d) of pictures (B, C, H, W) in [0, 1]."""
        ...

    def distance(self, images: Tensor, pictures: Tensor) -> tuple[float, float]:
        """The kernel distance of their features (N, d) and (M, d), and its standard error."""
        ...


class ClassFeatures:
    """What a small network, trained to tell the classes of the images apart, sees in pictures.

    network: trained.
    images: of the data, (N, C, H, W) in [0, 1]; features are scaled to a mean square of 1 on them.
    """

    def __init__(self, network: WholeImageClassifier, images: Tensor) -> None:
        self.network = network
        self.name = f"a classifier of {network.classes} classes"
        with torch.no_grad():
            self.scale = network.features(images).square().mean().sqrt()

    def __call__(self, pictures: Tensor) -> Tensor:
        return self.network.features(pictures) / self.scale

    def distance(self, images: Tensor, pictures: Tensor) -> tuple[float, float]:
        return kernel_distance(images, pictures)


def trained_features(data: Dataset, steps: int = 400) -> ClassFeatures:
    """Train the network of ``ClassFeatures``; the same data give the same network.

    data: training images with labels.
    steps: of its training, 400 by default.

    Raises ``ValueError`` for images without labels.
    """
    if data.labels is None or data.classes < 2:
        raise ValueError(f"features: {data.name} has no labels to train a network on; --features imagenet needs none")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = WholeImageClassifier(data.spec, data.classes, 60_000, convolutional=True)
    for _ in train(network, data, TrainConfig(optim=TRAINING, run=RunConfig(steps=steps, workers=1))):
        pass
    return ClassFeatures(network, unit(data.subset(1000).images[:], data.spec.levels))


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What was measured of pictures.

    distance, error: the kernel distance and its standard error.
    precision, recall: fidelity and diversity, 0 … 1.
    sharpness: 1 = as the images.
    """

    distance: float
    error: float
    precision: float
    recall: float
    sharpness: float


class Reference:
    """Images of the data that pictures are compared with.

    features: what they are compared by.
    data: images that no model was trained on, at least 30.
    """

    def __init__(self, features: Features, data: Dataset) -> None:
        if len(data) < FEWEST:
            raise ValueError(f"quality: expected at least {FEWEST} images to compare pictures with, got {len(data)}")
        self.features, self.data = features, data
        self.images = unit(data.images[:], data.spec.levels)
        self.seen = _in_parts(features, self.images)

    def measure(self, pictures: Tensor) -> Quality:
        """Compare pictures with the images.

        pictures: (M, C, H, W) in [0, 1], about as many as there are images.
        """
        seen = _in_parts(self.features, pictures)
        distance, error = self.features.distance(self.seen, seen)
        precision, recall = precision_and_recall(self.seen, seen)
        return Quality(distance=distance, error=error, precision=precision, recall=recall, sharpness=sharpness(self.images, pictures))

    def best(self, data: Dataset) -> Quality:
        """What a perfect model would have: other images in place of pictures.

        data: of the training, as a rule; as many of its images are taken as the reference has.
        """
        return self.measure(unit(data.subset(len(self.data)).images[:], data.spec.levels))


def drawn_by(model: Model, count: int, seed: int, condition: Tensor | ExemplarSets | None = None) -> Tensor:
    """What a viewer sees of drawn images, (count, C, H, W) in [0, 1].

    model: raster or canvas model.
    count: of the images.
    seed: of their noise.
    condition: one per image; None (default) for an unconditional model.
    """
    if isinstance(model, RasterModel):
        return unit(sample(model, count, None if condition is None else condition[:], seed=seed, progress=False), model.spec.levels)
    parts = []
    for start in range(0, count, PART):
        assert isinstance(model, CanvasModel)
        size = min(PART, count - start)
        given = None if condition is None else condition[start : start + size]
        *_, last = model.generate(size, given, seed=seed, every=model.steps, first=start)
        parts.append(last.images.float().cpu())
    return torch.cat(parts)


def unit(images: Tensor, levels: int) -> Tensor:
    """Levels as pictures in [0, 1]."""
    return torch.as_tensor(images).float().cpu() / (levels - 1)


def _in_parts(features: Features, pictures: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([features(part) for part in pictures.split(PART)])
