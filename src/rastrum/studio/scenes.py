"""Pictures to begin with, made here: a drawn boat, coloured digits, dead leaves. The package holds no photographs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ..data import load_dataset
from ..data.options import requantise
from ..data.placed_digits import two_digits
from ..data.textures import dead_leaves
from ..model import Model
from .arrays import packed
from .models import MOST_TIMES, Models
from .requests import Answer, Request, check_range

FINE = 256                     # pixels a side of what is drawn, before it is shrunk


def boat() -> Image.Image:
    """A sailing boat under a low sun."""
    picture = Image.new("RGB", (FINE, FINE))
    pen = ImageDraw.Draw(picture)
    for row in range(FINE):
        share = row / 165
        sky = (int(90 + 150 * share), int(140 + 60 * share), int(215 - 65 * share))
        sea = (20, int(95 - 0.25 * (row - 165)), int(120 - 0.3 * (row - 165)))
        pen.line((0, row, FINE, row), sky if row < 165 else sea)
    pen.ellipse((178, 100, 226, 148), (255, 226, 130))
    pen.polygon([(122, 30), (122, 170), (48, 170)], (250, 246, 238))
    pen.polygon([(134, 52), (134, 170), (188, 170)], (205, 62, 48))
    pen.line((128, 24, 128, 180), (70, 45, 30), 6)
    pen.polygon([(40, 178), (214, 178), (184, 218), (72, 218)], (110, 62, 36))
    return picture


def digits() -> Image.Image:
    """Two digits of two colours on a third."""
    small = requantise(load_dataset("digits", "test").images[:, 0].numpy(), 17, 256)
    large = np.stack([np.asarray(Image.fromarray(each).resize((48, 48), Image.Resampling.BICUBIC)) for each in small])
    return Image.fromarray(next(two_digits(large, 1, 96, 2, colour=True))[0].transpose(1, 2, 0))


def leaves() -> Image.Image:
    """Disks of all sizes that cover one another, each channel of a colour the same at another contrast."""
    grey = dead_leaves(FINE, np.random.RandomState(4)).astype(float)
    return Image.fromarray(np.stack([grey, 0.75 * grey + 20, 0.5 * grey + 40], 2).astype(np.uint8))


SCENES: dict[str, Callable[[], Image.Image]] = {"boat": boat, "digits": digits, "leaves": leaves}


@dataclass(frozen=True)
class Scene(Request):
    """A picture to begin with.

    model: its name.
    name: one of ``SCENES``.
    times: how many times as large as the model's images, a side.

    ``run`` yields the image, levels (C, times · H, times · W).
    """

    model: str
    name: str
    times: int = 1

    def __post_init__(self) -> None:
        check_range("times", self.times, 1, MOST_TIMES)
        if self.name not in SCENES:
            raise ValueError(f"name: expected one of {', '.join(SCENES)}, got {self.name!r}")

    def run(self, models: Models) -> Iterator[Answer]:
        spec = models.get(self.model, Model).spec
        picture = SCENES[self.name]().convert("RGB" if spec.channels == 3 else "L")
        small = np.asarray(picture.resize((self.times * spec.width, self.times * spec.height), Image.Resampling.LANCZOS))
        yield {"image": packed(requantise(small.reshape(*small.shape[:2], -1).transpose(2, 0, 1), 256, spec.levels))}
