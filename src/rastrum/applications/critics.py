"""Small networks that judge drawings, trained here on real ones; each takes about a minute on one core.

Of two images of a pair ``PairNetwork`` finds the other among those of the batch. Its pairs are two drawings of a character (a prototypical
network, of one example and as many classes as the batch has pairs), or two random affine views of one drawing (SimCLR):

    L = ½ Σ_i −log softmax_j(−|f(a_i) − f(b_j)|²)_i + the same with a and b exchanged                                      (1)
    L = ½ Σ_i −log softmax_j(⟨g f(a_i), g f(b_j)⟩/τ)_i + the same, ⟨·,·⟩ of unit vectors                                   (2)

Sources: Snell, Swersky, Zemel, "Prototypical Networks for Few-shot Learning", 2017 (1); Chen, Kornblith, Norouzi, Hinton, "A Simple
Framework for Contrastive Learning of Visual Representations", 2020 (2).

What differs: views are affine only; g is linear; an image's negatives are the other halves of the other pairs, of which one is now and
then of the same character.

Dimensions: B pictures · F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar
from zlib import crc32

import torch
import torch.nn.functional as F
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor, nn

from ..config import RunConfig, TrainConfig
from ..data.dataset import Dataset
from ..files import write_files
from ..layers.spatial_transformer import PARAMETERS, AffineWindow
from ..model import Model
from ..protocol import ArrayLike, ConditionSpec, ImageSpec, as_tensor, check_condition, check_images
from ..train import train
from ..training_noise import standard_normal
from .glimpse_classifier import TRAINING, Classifier

WIDTHS = (32, 64, 64)          # channels of the layers
FEATURES = 64
VIEW = (0.15, 0.15, 0.1, 0.15, 0.1, 0.1)    # standard deviations of the parameters of a random window
TEMPERATURE = 0.1              # τ
RATE = 3e-3                    # of learning

M = TypeVar("M", bound=Model)


class PairNetwork(Model):
    """Features of images, trained to find the other image of a pair.

    spec: of the images.
    pairs: "drawings" of one character, the second as the condition; or "views" of one drawing.
    """

    conditions = ("map",)

    def __init__(self, spec: ImageSpec, pairs: Literal["drawings", "views"]) -> None:
        size = (spec.channels, spec.height, spec.width)
        super().__init__(spec, condition_spec=ConditionSpec("map", size) if pairs == "drawings" else None)
        if spec.height != spec.width:
            raise ValueError(f"critics: expected square images, got {spec.height}x{spec.width}")
        self.pairs = pairs
        layers = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise((spec.channels, *WIDTHS))]
        cells = math.prod(-(-side // 2 ** len(WIDTHS)) for side in (spec.height, spec.width))
        self.last = nn.Linear(WIDTHS[-1] * cells, FEATURES)
        self.projection = nn.Linear(FEATURES, FEATURES) if pairs == "views" else None
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.layers = nn.ModuleList(layers)

    def features(self, pictures: Tensor) -> Tensor:
        """Features (B, F), those of "views" of length 1.

        pictures: (B, C, H, W) in [0, 1].
        """
        seen = pictures
        for layer in self.layers:
            seen = F.relu(layer(seen))
        found = self.last(seen.flatten(1))
        return found if self.projection is None else F.normalize(found)

    def loss(self, x: ArrayLike, condition: ArrayLike | int | None = None, seed: int | None = None) -> Tensor:
        """(1) or (2), (B,).

        x: levels (B, *shape).
        condition: of "drawings" the other drawings, (B, C, H, W) in [0, 1].
        seed: not used; views are drawn as training draws (``training_noise``).
        """
        unit = check_images(self.spec, x, self.device).to(self.dtype) / (self.spec.levels - 1)
        if self.projection is None:
            other = check_condition(self.condition_spec, condition, len(unit), self.device)
            assert other is not None
            a, b = self.features(unit), self.features(other.to(self.dtype))
            logits = 2 * a @ b.T - a.square().sum(1)[:, None] - b.square().sum(1)
        else:
            a, b = (F.normalize(self.projection(self.features(random_view(unit)))) for _ in range(2))
            logits = a @ b.T / TEMPERATURE
        own = torch.arange(len(unit), device=self.device)
        return (F.cross_entropy(logits, own, reduction="none") + F.cross_entropy(logits.T, own, reduction="none")) / 2


class Naming(Classifier):
    """A classifier of characters, trained on random views of few drawings, from the features of a network of pairs on.

    network: trained; it stays as it is.
    classes: number of characters.
    """

    def __init__(self, network: PairNetwork, classes: int) -> None:
        super().__init__(network.spec, classes)
        self.network, self.output = deepcopy(network), nn.Linear(FEATURES, classes)

    def logits(self, x: ArrayLike) -> Tensor:
        pictures = self._unit(x)
        return self.output(self.network.features(random_view(pictures) if self.training else pictures))


def random_view(pictures: Tensor) -> Tensor:
    """Each picture through a random affine window.

    pictures: (B, C, H, H) in [0, 1].
    """
    noise = standard_normal(torch.Size([len(pictures), PARAMETERS]), pictures.dtype, pictures.device)
    return AffineWindow.of(noise * noise.new_tensor(VIEW)).read(pictures, pictures.shape[-1])


def trained(
    name: str, build: Callable[[], M], data: Dataset, steps: int, folder: Path, report: Callable[[float], object] = lambda done: None
) -> M:
    """A network trained on images, or the one that a folder holds of an earlier call with the same beginning, images and steps.

    name: of its file.
    build: makes the network.
    data: its training images.
    steps: of training.
    folder: where it is kept.
    report: called with the share of the training that is done, 0 … 1.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build()
    checksum = crc32(tensor_bytes(network.state_dict()))                  # it may begin at another's features
    for values in (data.images, data.labels, data.groups):
        checksum = checksum if values is None else crc32(as_tensor("images", values).contiguous().numpy().data, checksum)
    path = folder / f"{name}-{steps}-{checksum:08x}.safetensors"
    if path.is_file():
        network.load_state_dict(read_tensors(path.read_bytes()))
    else:
        config = TrainConfig(optim=replace(TRAINING, learning_rate=RATE, warm_up=steps // 15), run=RunConfig(steps=steps, workers=1))
        for state in train(network, data, config):
            report(state.fraction)
        write_files(folder, {path.name: tensor_bytes(network.state_dict())})
    report(1.0)
    return network.eval()
