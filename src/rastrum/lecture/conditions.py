"""Conditions: a class, a vector, a spatial map, exemplars, the frames before."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..data.moving_digits import moving_digits, shrunk
from ..exemplars import exemplar_map, slots_of
from ..generation import complete, generate, sample
from ..pictures.exemplars import new_exemplars
from ..pictures.formats import Picture
from ..pictures.page import Page
from ..pictures.sheets import image_scale
from ..pictures.videos import FPS, animate_rows, continued
from ..raster import RasterModel
from .figure import CLASSES, Figure, Film, Still, Trained, digits
from .slide import NORMAL, SMALL, Slide, pixels

SECTION = "Conditions and videos"
PLACED, OMNIGLOT = "rastrum/row-lstm-placed-mnist", "rastrum/gated-pixelcnn-omniglot-framed-exemplars"
VIDEO = "rastrum/video-pixel-network-moving-mnist-small"
DESCRIBED, ONE_SHOT = "rastrum/row-lstm-described-mnist", "rastrum/one-shot-omniglot28-exemplars"
OWN, THINGS = 24, 8  # drawings of a model, and how many of them serve as exemplars


def conditional(trained: Trained, kind: str) -> tuple[RasterModel, tuple[int, ...]]:
    """A raster model of still images with a condition of a ``kind``, and the condition's shape (of a class: how many there are).

    Raises ``ValueError`` for others.
    """
    model = trained.model
    spec = model.condition_spec
    if not isinstance(model, RasterModel) or model.spec.frames > 1 or spec is None or spec.kind != kind:
        raise ValueError(f"{trained.address}: expected a raster model of still images with a {kind} as its condition, got {trained.label}"
                         + (" without one" if spec is None else f" with a {spec.kind}"))  # fmt: skip
    return model, (spec.size,) if isinstance(spec.size, int) else tuple(spec.size)


def pictures_of(model: RasterModel, condition: Tensor | None, count: int, seed: int) -> list[np.ndarray]:
    """Samples as arrays of pixels."""
    return pixels(sample(model, count, condition, seed=seed).as_subclass(Tensor) / (model.spec.levels - 1))


def classes(trained: Trained) -> Still:
    """Samples of each class."""
    model, (count,) = conditional(trained, "class")
    shown, each = min(count, 10), 5
    drawn = pictures_of(model, torch.arange(shown).repeat(each), shown * each, seed=2)
    names = trained.origin.class_names or tuple(map(str, range(count)))

    def draw(slide: Slide) -> None:
        rows = [drawn[r * shown : (r + 1) * shown] for r in range(each)]
        slide.sheet(0.2, 0.2, 15.6, 8.6, rows, (), [name[:9] for name in names[:shown]], NORMAL)

    return Still(draw, "Samples for each class, not selected: the class is a bias of every layer.")


def vector(trained: Trained, seed: int) -> Still:
    """Samples for vectors: steps along its first components, which have the names that the card gives under "vector"."""
    model, (size,) = conditional(trained, "vector")
    values, components, each = np.linspace(-1.5, 1.5, 9), min(size, 4), 2
    names = trained.origin.rows.get("vector", "").split(", ")
    names = names if len(names) == size else [f"component {component + 1}" for component in range(size)]
    conditions = torch.zeros(components, each, len(values), size)
    for component in range(components):
        conditions[component, ..., component] = torch.tensor(values)
    conditions = conditions.flatten(0, 2)
    drawn = pictures_of(model, conditions, len(conditions), seed)
    rows = [drawn[start : start + len(values)] for start in range(0, len(drawn), len(values))]

    def draw(slide: Slide) -> None:
        labels = [label for name in names[:components] for label in (name, *[""] * (each - 1))]
        slide.sheet(0.2, 0.2, 15.6, 8.6, rows, labels, [f"{value:+.2g}" for value in values], NORMAL)

    return Still(draw, "Samples while one component of the condition changes and the others are 0.")


def spatial_map(trained: Trained, seed: int) -> Still:
    """Samples for maps with a single 1: a thing at a place."""
    model, (channels, height, width) = conditional(trained, "map")
    if model.slots:
        raise ValueError(f"{trained.address}: its map holds exemplars; expected one that says what is where")
    places = ((0, 0), (0, width - 1), (height // 2, width // 2), (height - 1, 0), (height - 1, width - 1), (1 % height, 1 % width))
    which = [(kind, *place) for kind, place in zip((2, 5, 3, 7, 0, 8), places, strict=True)]
    maps = torch.zeros(len(which), channels, height, width)
    for n, (kind, row, column) in enumerate(which):
        maps[n, kind % channels, row, column] = 1
    each = 4
    drawn = pictures_of(model, maps.repeat(each, 1, 1, 1), len(which) * each, seed)

    def draw(slide: Slide) -> None:
        corner = slide.sheet(0.6, 2.55, 14.8, 6.3, [drawn[r * len(which) : (r + 1) * len(which)] for r in range(each)], (), (), NORMAL)
        side = min(1.5, model.spec.width * corner(0, 0)[2] - 0.1) / max(height, width)
        for n, (kind, row, column) in enumerate(which):
            x, y, pixel = corner(0, n)
            left = x + (model.spec.width * pixel - width * side) / 2
            marks = [["blue 70" if (r, c) == (row, column) else "fill" for c in range(width)] for r in range(height)]
            slide.grid(left, 0.75, side, marks)
            slide.text(left + (column + 0.5) * side, 0.75 + (row + 0.5) * side, str(kind % channels), SMALL - 1, "paper")
            slide.arrow((left + width * side / 2, 2.3), (left + width * side / 2, y - 0.05))

    return Still(draw, f"A map of {channels} channels and {height} x {width} places as condition: one value in it is 1, at a class, a row "
                       "and a column. Below it samples.")  # fmt: skip


def exemplars(trained: Trained) -> Still:
    """New exemplars of things that were shown once, in red boxes: given images, or else the model's own drawings without an exemplar."""
    model = trained.model
    slots = slots_of(model.condition_spec, model.spec.channels)
    if trained.images is None:
        none = exemplar_map(torch.zeros(OWN, 0, *model.spec.shape, dtype=torch.int64), slots, model.spec.levels)
        *_, last = generate(model, OWN, none, seed=3)                     # of a canvas model the last canvas, without the pixels' noise
        own = (last.images * (model.spec.levels - 1)).round().long()
        ink = own.flatten(1).float().mean(1)
        shown, whose = (
            own[(ink - ink.median()).abs().argsort()[:THINGS]],
            "The characters shown were drawn by the model itself, without an exemplar.",
        )
    else:
        shown, whose = trained.images[:THINGS], ""
    guidance = 1.0 if isinstance(model, RasterModel) else 0.0
    new = new_exemplars(model, shown, count=4, seed=0, guidance=guidance)

    def draw(slide: Slide) -> None:
        rows = [pixels(new.shown), *(pixels(each) for each in new.drawn.unbind(1))]
        corner = slide.sheet(0.2, 0.2, 15.6, 8.6, rows, ["shown", "new", "", "", ""], (), NORMAL, 0.2)
        for c in range(len(shown)):
            x, y, side = corner(0, c)
            slide.frame(x - 0.03, y - 0.03, model.spec.width * side + 0.06, model.spec.height * side + 0.06, "red", 5)   # around it

    return Still(draw, "One-shot generalization: what is in a red box was shown once, and below it are new drawings of "
                       f"it{', with guidance of weight 1' if guidance else ''}. {whose}")  # fmt: skip


def video(trained: Trained, seed: int) -> Film:
    """Videos that are continued after half of their frames."""
    model = trained.model
    spec = model.spec
    if not isinstance(model, RasterModel) or spec.frames < 2 or spec.channels != 1 or spec.height != spec.width:
        raise ValueError(f"{trained.address}: expected a model of square grey videos, got {trained.label} of {spec}")
    known = spec.frames // 2
    small = (shrunk((digits(40) * 255).to(torch.uint8).numpy()[:, 0], spec.height) > 127).astype(np.uint8) * 255
    moving = moving_digits(small, 3, spec.height, spec.frames, np.random.RandomState(seed))
    truth = torch.from_numpy(np.rint(moving / 255 * (spec.levels - 1))).long()
    drawn = [complete(model, *continued(spec, truth, known), seed=each).as_subclass(Tensor) for each in (seed, seed + 1)]

    def frames(page: Page) -> Iterator[Picture]:
        videos = [each.float().numpy() / (spec.levels - 1) for each in (truth, *drawn)]
        labels = ["truth", "continued", "again"]
        return page.animation(lambda scale, unit: animate_rows(videos, labels, scale, unit), image_scale(None, spec.height, spec.width))

    return Film(frames, f"Videos of two moving digits, continued after {known} of {spec.frames} frames, twice each. The digits were drawn "
                        f"by {CLASSES}.",
                FPS)  # fmt: skip


FIGURES = (
    Figure("classes", "A class as condition", classes, (CLASSES,), notes="p(x | class): the same network, with a bias that depends on the "
           "class. By Bayes' rule it is also a classifier."),
    Figure("vector", "A vector as condition", vector, (DESCRIBED,), seed=9, notes="Anything that can be measured or embedded can steer."),
    Figure("map", "A map as condition", spatial_map, (PLACED,), seed=11, notes="What and where: the map enters each layer at its place."),
    Figure("exemplars", "One exemplar as condition", exemplars, (OMNIGLOT,), notes="Shown once, drawn anew, without any training on it."),
    Figure("one-shot", "One exemplar, stroke by stroke", exemplars, (ONE_SHOT,), notes="DRAW with a second thing to look at: the "
        "exemplar. The boxes are those of the paper's figure."),
    Figure("video", "Videos", video, (VIDEO,), seed=56, notes="A video is a longer picture: frame by frame, in each frame pixel by pixel."),
)  # fmt: skip
