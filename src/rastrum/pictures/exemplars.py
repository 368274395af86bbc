"""New exemplars of things that a model was shown once: each in a red box, a row of new ones, and the nearest training images beneath.

Source: Rezende, Mohamed, Danihelka, Gregor, Wierstra, "One-Shot Generalization in Deep Generative Models", 2016, figure 1. The nearest
training image, by the correlation of intensities, shows whether a new exemplar is a copy. Distances would prefer images with hardly any
ink, since what a canvas model draws is soft.

Shapes: R images that are shown, n new exemplars of each, M training images, C channels, H, W height and width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from ..exemplars import exemplar_map, slots_of
from ..generation import sample
from ..guidance import Guided
from ..model import Model
from ..protocol import as_tensor
from ..strokes import CanvasModel
from .formats import Picture
from .sheets import PAPER, arrange, draw_window, image_scale, tiles, unit_of

SHOWN, NEW = 6, 10             # images that are shown, and new exemplars of each
AT_ONCE = 4096                 # training images that are compared in one piece


class NewExemplars(NamedTuple):
    """What a sheet shows, in [0, 1].

    shown: (R, C, H, W).
    drawn: (R, n, C, H, W).
    nearest: training images, of the shape of ``drawn``; None where none are known.
    """

    shown: Tensor
    drawn: Tensor
    nearest: Tensor | None


def new_exemplars(
    model: Model,
    images: Tensor,
    training: Tensor | None = None,
    count: int = NEW,
    seed: int = 0,
    temperature: float = 1.0,
    guidance: float = 0.0,
) -> NewExemplars:
    """Draw new exemplars of each image, from this one exemplar alone.

    model: one that is conditioned on exemplars; of a canvas model p(x | canvas) is shown, without the noise of the pixels.
    images: integer levels (R, C, H, W).
    training: integer levels (M, C, H, W); None (default) where they are not at hand.
    count: new exemplars of each image, 10 by default.
    seed: of the draws, 0 by default.
    temperature: density^(1/temperature) of what is drawn, values or latents, 1 by default.
    guidance: weight of a raster model's guidance (``guidance.py``), 0 by default.

    Raises ``ValueError`` for a model that takes no exemplars, and for guidance of a canvas model.
    """
    slots, top = slots_of(model.condition_spec, model.spec.channels), model.spec.levels - 1
    if guidance:
        model = Guided(model, guidance)  # pyright: ignore[reportArgumentType]
    condition = exemplar_map(images[:, None], slots, model.spec.levels).repeat_interleave(count, 0)
    condition = condition.to(model.device)
    if isinstance(model, CanvasModel):
        drawn = model.decode([], "sample", condition, seed, count=len(condition), temperature=temperature).cpu()
    else:
        drawn = as_tensor("images", sample(model, len(condition), condition, temperature, seed)).cpu() / top
    drawn = drawn.float()
    nearest = None if training is None else (training[nearest_images(drawn, training)] / top).unflatten(0, (-1, count))
    return NewExemplars(images.float() / top, drawn.unflatten(0, (-1, count)), nearest)


def nearest_images(pictures: Tensor, images: Tensor) -> Tensor:
    """Numbers of the images nearest to pictures, by the correlation of intensities.

    pictures: (N, C, H, W) in [0, 1].
    images: levels, (M, C, H, W).

    Returns (N,) int64.
    """
    best, number = torch.full((len(pictures),), -float("inf")), torch.zeros(len(pictures), dtype=torch.int64)
    for start in range(0, len(images), AT_ONCE):
        found, at = (_standardised(pictures) @ _standardised(images[start : start + AT_ONCE]).T).max(1)
        best, number = torch.where(found > best, found, best), torch.where(found > best, start + at, number)
    return number


def _standardised(images: Tensor) -> Tensor:
    """Images as vectors (N, D) of mean 0 and length 1, those of one intensity as 0."""
    x = images.flatten(1).float()
    return torch.nn.functional.normalize(x - x.mean(1, keepdim=True))


def exemplar_sheet(new: NewExemplars, scale: int | None = None, unit: float | None = None) -> Picture:
    """Two rows per image that is shown: it, in a red box, and new exemplars; the training image nearest to each of these.

    new: what is shown.
    scale: enlargement; None (default): to about 64 points.
    unit: of gutters and labels; None (default): in proportion to the images.
    """
    height, width = new.shown.shape[2:]
    scale, unit = image_scale(scale, height, width), unit_of(scale, height, width) if unit is None else unit
    cells, labels = [], []
    whole = [(height - 1) / 2, (width - 1) / 2, height, width]
    for row, (image, drawn) in enumerate(zip(tiles(new.shown, scale), new.drawn, strict=True)):
        cells += [draw_window(image, whole, scale), *tiles(drawn, scale)]
        labels.append("new")
        if new.nearest is not None:
            cells += [Image.new("RGB", image.size, PAPER), *tiles(new.nearest[row], scale)]
            labels.append("nearest in training")
    return arrange(cells, 1 + new.drawn.shape[1], labels, ["shown", *[""] * new.drawn.shape[1]], unit)
