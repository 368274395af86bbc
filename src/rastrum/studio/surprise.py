"""*Surprise*: how many bits each pixel of an image takes under a raster model, given those before it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..applications.bayes_classifier import log_posterior
from ..raster import RasterModel
from .arrays import packed
from .models import Models
from .requests import Answer, Request, condition_of, unpacked


@dataclass(frozen=True)
class Surprise(Request):
    """Score an image with a raster model.

    model: its name.
    image: levels (C, H, W) as base64 of bytes.
    class_number: of a class-conditional model; None (default): the class that makes the image likeliest.
    spatial_map: as for ``Watch``.

    ``run`` yields the bits of each pixel (H, W), and the class.
    """

    model: str
    image: str
    class_number: int | None = None
    spatial_map: str | None = None

    def run(self, models: Models) -> Iterator[Answer]:
        model = models.get(self.model, RasterModel)
        x, number = unpacked("image", self.image, model.spec, model.spec.levels), self.class_number
        if model.condition_spec is not None and model.condition_spec.kind == "class" and number is None:
            number = int(log_posterior(model, x)[0].argmax())
        given = condition_of(model, number, self.spatial_map)
        with torch.inference_mode():
            bits = -model.log_prob_map(x, given)[0].sum(0).double() / math.log(2)
        yield {"bits": packed(bits, "f4"), "class": number}
