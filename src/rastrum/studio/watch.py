"""*Watch*: an image while it is drawn, with what each value was drawn from, how many bits it took, and which pixels were seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..generation import generate
from ..raster import RasterModel
from .arrays import packed
from .models import Models
from .requests import Answer, Request, check_range, condition_of

MAX_CONTEXT = 1 << 12          # values of an image whose table of contexts is computed


@dataclass(frozen=True)
class Watch(Request):
    """Draw one image with a raster model.

    model: its name.
    seed: same seed, same image.
    temperature: every conditional becomes p^(1/T), renormalised.
    class_number: of a class-conditional model; None for another.
    spatial_map: of a model that takes one, (C, h, w) as base64 of float32; None for another.

    ``run`` yields the order of the decisions and the contexts, then a message per row: values, bits and probabilities of its decisions.
    """

    model: str
    seed: int = 0
    temperature: float = 1.0
    class_number: int | None = None
    spatial_map: str | None = None

    def __post_init__(self) -> None:
        check_range("seed", self.seed, 0, 2**31 - 1)
        check_range("temperature", self.temperature, 0.05, 20)

    def run(self, models: Models) -> Iterator[Answer]:
        model = models.get(self.model, RasterModel)
        given = condition_of(model, self.class_number, self.spatial_map)
        frames = generate(model, 1, given, self.temperature, self.seed, probabilities=True)
        row = model.spec.channels * model.spec.width
        yield {"order": packed(model.order, "u4"), "seen": seen(model)}
        decisions: list[tuple[int, Tensor]] = []
        for frame in frames:
            if "decision" in frame.info:
                decisions.append((int(frame.info["drawn"][0]), frame.info["probabilities"][0]))
            if decisions and (len(decisions) == row or frame.fraction == 1):
                values, chances = zip(*decisions, strict=True)
                yield _row(torch.tensor(values), torch.stack(chances))
                decisions = []


def _row(values: Tensor, chances: Tensor) -> Answer:
    """Decisions as a message: values (n,), probabilities (n, L) in steps of 1/65535, and −log2 of those of the values."""
    bits = -chances.gather(1, values[:, None])[:, 0].double().clamp(min=1e-300).log2()
    return {"values": packed(values), "bits": packed(bits, "f4"), "probabilities": packed((chances * 65535).round(), "u2")}


def seen(model: RasterModel) -> str | None:
    """Which pixels each pixel's conditionals see, as bits of a table (pixels, pixels) row by row, the first bit of a byte the highest; of a
    video, pixels of all frames.

    model: the model.

    Returns base64; None where the model promises nothing, so that it may see all that comes before, and where the table is large.
    """
    spec = model.spec
    context = model.context() if spec.size <= MAX_CONTEXT else None
    if context is None:
        return None
    size = spec.frames, spec.channels, spec.height * spec.width
    pixels = context.view(*size, *size).any(4).any(1).flatten(2).flatten(0, 1).fill_diagonal_(False)
    return packed(np.packbits(pixels.cpu().numpy()))
