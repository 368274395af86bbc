"""The picture of a bundled model, drawn now: the lecture's figure for models of its kind, or a sheet of its samples.

    videos                               continued after half of their frames          figure video, an animation
    a class, a vector, a map, exemplars  samples for conditions of each kind           figures classes, vector, map, exemplars
    a card that says "use"               a picture as files: lossless, or at rates     figures lossless, concept
    canvas models of several strokes     how they draw, stroke by stroke               figure generation
    GRAN, VAE                            the lecture's figures of these systems
    others                               a sheet of samples, at the temperature that the card says
"""

from __future__ import annotations

import torch

from ..generation import sample
from ..lecture import FIGURES
from ..lecture.figure import Film, temperature_of
from ..lecture.slide import DARK
from ..pictures.films import encode_animation
from ..pictures.formats import encode_picture
from ..pictures.html import Picture
from ..pictures.page import AS_IT_IS
from ..pictures.sheets import sheet
from .entry import Entry

COUNT, COLUMNS = 32, 8          # of a sheet
SIZE = 960                     # pixels of its width, about


def picture_of(entry: Entry) -> Picture:
    """A model's picture, with its title and what it shows. entry: the model."""
    if entry.figure is None:
        return _samples(entry)
    drawn = FIGURES[entry.figure].drawn((entry.name,))
    title, content = drawn.figure.title, drawn.content
    if isinstance(content, Film):
        return Picture(encode_animation(content.frames(AS_IT_IS), content.fps, content.hold), title, content.text)
    return Picture(drawn.encode(".svg"), title, content.text, drawn.encode(".svg", theme=DARK))


def _samples(entry: Entry) -> Picture:
    model, temperature, given = entry.model, temperature_of(entry.model), entry.model.condition_spec
    condition = None
    if given is not None:                                                 # each class in turn, or nothing in particular
        condition = torch.arange(COUNT) % int(given.size) if given.kind == "class" else torch.zeros(COUNT, *given.shape)  # pyright: ignore[reportArgumentType]
    drawn = sample(model, COUNT, condition, temperature, seed=0)
    picture = sheet(drawn, COLUMNS, max(1, SIZE // (COLUMNS * model.spec.width)))
    at = "" if temperature == 1 else f" Temperature {temperature:g}, chosen by eye."
    return Picture(encode_picture(picture), "Samples", f"{COUNT} samples, not selected (seed 0).{at}")
