"""*Complete*: what a reader drew and left open is filled in several times; of a class-conditional model, also which class it may be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..generation import complete_frames, sample
from ..model import Model
from ..particles import choose, effective_size, log_evidence
from ..protocol import Frame
from ..raster import RasterModel
from .arrays import packed
from .models import Models
from .requests import Answer, Request, check_range, condition_of, unpacked

COUNT = 8                      # completions
MOST_PARTICLES = 64


@dataclass(frozen=True)
class Complete(Request):
    """Complete an image with a raster model.

    model: its name.
    image: levels of its shape as base64 of bytes, read where known.
    known: (C, H, W), 1 where known, else 0.
    particles: weighted walks per image, so that known values steer what is drawn before them; 0 for plain walks.
    class_number: of a class-conditional model; None (default): all its classes, weighted by how likely they make what is known.
    seed, temperature, spatial_map: as for ``Watch``.

    ``run`` yields the completions (8, C, H, W) while they are drawn, with where they are decided; of particles once at the end, with bits
    = −log2 p(known) and the effective number of them; without ``class_number`` the posterior of the classes, and that of each completion.
    """

    model: str
    image: str
    known: str
    particles: int = 16
    class_number: int | None = None
    seed: int = 0
    temperature: float = 1.0
    spatial_map: str | None = None

    def __post_init__(self) -> None:
        check_range("seed", self.seed, 0, 2**31 - 1)
        check_range("temperature", self.temperature, 0.05, 20)
        check_range("particles", self.particles, 0, MOST_PARTICLES)

    def run(self, models: Models) -> Iterator[Answer]:
        model = models.get(self.model, RasterModel)
        spec, condition = model.spec, model.condition_spec
        x, known = unpacked("image", self.image, spec, spec.levels), unpacked("known", self.known, spec, 2).bool()
        given: Any = condition_of(model, self.class_number, self.spatial_map)
        if condition is not None and condition.kind == "class" and given is None:
            if not self.particles:
                raise ValueError("particles: classes are weighed by particles; choose some, or a class")
            assert isinstance(condition.size, int)
            given = torch.arange(condition.size)
            x, known = x.expand(len(given), *spec.shape), known.expand(len(given), *spec.shape)
        options = given, COUNT, self.temperature, self.seed, self.particles or None
        for frame in complete_frames(model, x, known, *options):
            if not self.particles:
                yield {"images": packed(values(frame)), "decided": packed(decided(frame)), "fraction": frame.fraction}
            elif frame.fraction < 1:
                yield {"fraction": frame.fraction}
            else:
                yield _weighed(values(frame).unflatten(0, (len(x), COUNT)), frame.info["log_weights"])


def values(frame: Frame) -> Tensor:
    """The levels of a ``frame`` of a raster model."""
    assert frame.values is not None
    return frame.values


def decided(frame: Frame) -> Tensor:
    """Which values of the images of a ``frame`` are known or drawn, bool of their shape."""
    found = frame.info["known"].expand(values(frame).shape).flatten(1).clone()
    found[:, frame.info["order"][: frame.info["decisions"]]] = True
    return found.view(values(frame).shape)


def _weighed(images: Tensor, log_weights: Tensor) -> Answer:
    """Completions (classes, 8, C, H, W) with log weights (classes, K) as a message: of several classes, some of each by its posterior."""
    evidence = log_evidence(log_weights)[None]
    shares = evidence.softmax(1)[0]
    at = choose(evidence, (torch.arange(COUNT, dtype=torch.float64)[None] + 0.5) / COUNT)[0]
    answer = {
        "images": packed(images[at, torch.arange(COUNT)]),
        "bits": -float(evidence.logsumexp(1) - math.log(len(shares))) / math.log(2),
        "effective": float((shares * effective_size(log_weights)).sum()),
        "fraction": 1.0,
    }
    return answer if len(shares) == 1 else answer | {"posterior": shares.tolist(), "classes": at.tolist()}


@dataclass(frozen=True)
class Example(Request):
    """An image to begin with: drawn by the model itself, of a class that the seed chooses.

    model: its name.
    seed: same seed, same image.
    spatial_map: as for ``Watch``.

    ``run`` yields the image, levels of its shape.
    """

    model: str
    seed: int = 0
    spatial_map: str | None = None

    def __post_init__(self) -> None:
        check_range("seed", self.seed, 0, 2**31 - 1)

    def run(self, models: Models) -> Iterator[Answer]:
        model = models.get(self.model, Model)
        condition = model.condition_spec
        number = self.seed % int(condition.size) if condition is not None and condition.kind == "class" else None  # pyright: ignore
        given = condition_of(model, number, self.spatial_map)
        yield {"image": packed(sample(model, 1, given, seed=self.seed, progress=False).plain)}
