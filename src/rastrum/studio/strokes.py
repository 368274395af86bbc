"""*Strokes*: a canvas model draws or redraws an image: where each stroke reads and writes, what it sees there, and its KL."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..generation import generate, reconstruct
from ..protocol import Frame
from ..strokes import CanvasModel
from .arrays import pixels
from .models import Models
from .requests import Answer, Request, check_range, unpacked


@dataclass(frozen=True)
class Strokes(Request):
    """Draw an image with a canvas model, or redraw one.

    model: its name.
    image: to redraw, levels (C, H, W) as base64 of bytes; None (default) draws a new one from the prior.
    class_number, seed, temperature: as for ``Watch``; of an image that is redrawn the temperature is 1.

    ``run`` yields the number of strokes, then a message per moment, the initial canvas first: the picture; of a stroke also its change of
    the canvas before it is squashed, from −``reach`` to ``reach``, the windows as centre row, centre column, height, width, the glimpse,
    and KL in bits.
    """

    model: str
    image: str | None = None
    class_number: int | None = None
    seed: int = 0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_range("seed", self.seed, 0, 2**31 - 1)
        check_range("temperature", self.temperature, 0.05, 20)

    def run(self, models: Models) -> Iterator[Answer]:
        model = models.get(self.model, CanvasModel)
        if self.image is None:
            frames = generate(model, 1, self.class_number, self.temperature, self.seed)
        else:
            frames = reconstruct(model, unpacked("image", self.image, model.spec, model.spec.levels), self.class_number, self.seed)
        yield {"strokes": model.steps}
        for frame in frames:
            yield moment(frame)


def moment(frame: Frame) -> Answer:
    """What is shown of a ``frame`` of one image; names that it has nothing for are left out."""
    info: dict[str, Any] = frame.info
    answer: Answer = {"picture": pixels(frame.images[0])}
    if "write_patch" in info:
        change: Tensor = info["write_patch"][0]
        reach = max(float(change.abs().max()), 1e-6)
        answer |= {"change": pixels((change / reach + 1) / 2), "reach": reach}
    for name in ("read_window", "write_window"):
        if name in info:
            answer[name] = info[name][0].tolist()
    if "glimpse" in info:
        answer |= {"glimpse": pixels(info["glimpse"][0]), "side": info["glimpse"].shape[-1]}
    if "kl" in info:
        answer["bits"] = float(info["kl"][0]) / math.log(2)
    return answer
