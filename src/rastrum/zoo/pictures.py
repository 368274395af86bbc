"""The picture of a bundled model, drawn now: the lecture's figure for models of its kind, or a sheet of its samples.

    videos                     continued after half of their frames          figure video, an animation
    a class, a map, exemplars  samples for conditions of each kind           figures classes, map, exemplars
    a card that says "use"     a picture as files: lossless, or at rates     figures lossless, concept
    canvas models              how they draw, stroke by stroke               figure generation
    others                     a sheet of samples, at the temperature that the card says
"""

from __future__ import annotations

from ..generation import sample
from ..lecture import FIGURES
from ..lecture.figure import Film, temperature_of
from ..pictures.films import encode_animation
from ..pictures.formats import encode_picture
from ..pictures.html import Picture
from ..pictures.page import AS_IT_IS
from ..pictures.sheets import sheet
from ..raster import RasterModel
from .entry import USE, Entry

COUNT, COLUMNS = 32, 8          # of a sheet
SIZE = 960                     # pixels of its width, about


def figure_of(entry: Entry) -> str | None:
    """Which figure of the lecture shows a model; None where a sheet of samples does. entry: the model."""
    model, condition = entry.model, entry.model.condition_spec
    if model.spec.frames > 1:
        return "video"
    if condition is not None:
        return "exemplars" if model.slots else {"class": "classes"}.get(condition.kind, condition.kind)
    if USE in entry.origin.rows:
        return "lossless" if isinstance(model, RasterModel) else "concept"
    return None if isinstance(model, RasterModel) else "generation"


def picture_of(entry: Entry) -> Picture:
    """A model's picture, with its title and what it shows. entry: the model."""
    name = figure_of(entry)
    if name is None:
        return _samples(entry)
    drawn = FIGURES[name].drawn((entry.name,))
    content = drawn.content
    data = encode_animation(content.frames(AS_IT_IS), content.fps, content.hold) if isinstance(content, Film) else drawn.encode(".svg")
    return Picture(data, drawn.figure.title, content.text)


def _samples(entry: Entry) -> Picture:
    model, temperature = entry.model, temperature_of(entry.model)
    drawn = sample(model, COUNT, temperature=temperature, seed=0)
    picture = sheet(drawn, COLUMNS, max(1, SIZE // (COLUMNS * model.spec.width)))
    at = "" if temperature == 1 else f" Temperature {temperature:g}, chosen by eye: at 1 more of them fall into patches of noise."
    return Picture(encode_picture(picture), "Samples", f"{COUNT} samples, not selected (seed 0).{at}")
