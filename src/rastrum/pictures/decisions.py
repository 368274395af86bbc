"""A walk decision by decision: the images so far, the next pixel outlined, and the probability of each value that it may take.

    ┌───────────┐  level 11, p = 0.42        the bar of the value that is drawn is red; below the bars, the brightness of each value
    │  image    │   1 ┬                      of colours a row of bars per channel, named
    │    ▒▒▒▒▒▒ │     │      ▂█▃▁
    └───────────┘   0 └────────────

The bars are drawn without matplotlib, which takes a tenth of a second for each. Shapes: B images, L levels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from ..protocol import Frame, ImageSpec
from .sheets import INK, LETTERS, PAPER, RED, TEXT, Picture, arrange, font, image_scale, tiles

Every = Literal["pixel", "row"] | int

MOST_LEVELS = 256              # that bars are drawn for
FULL_SCALE_LEVELS = 32         # up to so many levels, all bars are on the scale 0 … 1
USUAL_SIDE = 192               # without a scale, an image is enlarged to about this many points
PANEL_WIDTH = 1.35             # of the bars, as a multiple of the image's longer side
LEAST_HEIGHT = 80              # units that the bars of a channel have at least
HEADINGS = ("= 0.999", "= 9e-10", "> 0.999")                              # the longest probabilities
CHANNELS = {1: ("level",), 3: ("red", "green", "blue")}
WHITE = (255, 255, 255)


@dataclass
class Moment:
    """One or more decisions of a pixel, about to be made.

    images: so far, (B, C, H, W) in [0, 1]. known: where they are decided, bool of the same shape.
    at: row and column of the pixel; None where all is decided.
    chances: for each decision its channel, probabilities (B, L) and the values drawn (B,).
    """

    images: Tensor
    known: np.ndarray
    at: tuple[int, int] | None = None
    chances: list[tuple[int, np.ndarray, np.ndarray]] = field(default_factory=list)


def moments(frames: Iterator[Frame], spec: ImageSpec, every: Every) -> Iterator[Moment]:
    """What is to be shown of a walk.

    frames: of ``rastrum.generate`` with ``probabilities``.
    spec: of the images, which are no videos.
    every: a moment per pixel (with all its channels); per row, its least certain pixel; or per that many decisions, the first of them.

    Yields a moment before each of these decisions, and the finished images beside the last bars.
    """

    def part(numbered: tuple[int, Moment]) -> object:
        count, moment = numbered
        if moment.at is None or every == "pixel":
            return moment.at
        return moment.at[0] if every == "row" else count // every

    chances = []
    for _, decisions in groupby(enumerate(_decisions(frames, spec)), part):
        pixels = (_joined(same) for _, same in groupby((moment for _, moment in decisions), lambda moment: moment.at))
        moment = max(pixels, key=_uncertainty) if every == "row" else next(pixels)
        chances = moment.chances = moment.chances or chances
        yield moment


def _decisions(frames: Iterator[Frame], spec: ImageSpec) -> Iterator[Moment]:
    """Every decision, and the finished images."""
    start = next(frames)
    before, known = start.images, start.info.get("known")
    decided = np.zeros((len(before), spec.size), bool)
    if known is not None:
        decided |= known.expand(len(before), *spec.shape).flatten(1).cpu().numpy()
    for frame in frames:
        if "decision" in frame.info:
            index = frame.info["decision"]
            channel, row, column = (int(i) for i in np.unravel_index(index, spec.shape))
            chances = channel, *(frame.info[name].cpu().numpy() for name in ("probabilities", "drawn"))
            yield Moment(before, decided.reshape(-1, *spec.shape).copy(), (row, column), [chances])
            decided[:, index] = True
        before = frame.images
    yield Moment(before, np.ones((len(before), *spec.shape), bool))


def _joined(channels: Iterator[Moment]) -> Moment:
    """The first moment of a pixel, with the decisions of all its channels."""
    first = next(channels)
    for moment in channels:
        first.chances += moment.chances
    return first


def _uncertainty(moment: Moment) -> float:
    """Entropy of a pixel, the mean over the images, in nats."""
    return -sum(float((p * np.log(np.maximum(p, 1e-300))).sum(1).mean()) for _, p, _ in moment.chances)


def usual_scale(spec: ImageSpec) -> int:
    """The scale of ``decision_sheet`` if none is asked for: to about ``USUAL_SIDE`` points. spec: of the images."""
    return max(1, USUAL_SIDE // max(spec.height, spec.width))


def decision_sheet(
    moment: Moment, spec: ImageSpec, columns: int | None = None, scale: int | None = None, unit: float | None = None
) -> Picture:
    """Images in a grid, each beside the probabilities of its next pixel.

    moment: what is shown.
    spec: of the images.
    columns: images per row; None (default): about a square.
    scale: enlargement; None (default): to about ``USUAL_SIDE`` points.
    unit: of text and lines; None (default): in proportion to the images.
    """
    scale, unit = _zoom(spec, scale, unit)
    cells = []
    for i, picture in enumerate(tiles(moment.images, scale)):
        shown = tiles(moment.images[i : i + 1], scale, moment.known[i : i + 1])[0] if not moment.known[i].all() else picture
        if moment.at is not None:
            _outline(shown, moment.at, scale, unit)
        cells.append(_beside(shown, moment, i, spec, scale, unit))
    return arrange(cells, columns, unit=unit)


def blank_decisions(
    spec: ImageSpec, count: int, columns: int | None = None, scale: int | None = None, unit: float | None = None
) -> Picture:
    """A page of the size that ``decision_sheet`` has, with nothing on it.

    spec: of the images.
    count: number of images.
    columns, scale, unit: as for ``decision_sheet``.
    """
    scale, unit = _zoom(spec, scale, unit)
    return arrange([Image.new("RGB", _cell_size(spec, scale, unit), PAPER)] * count, columns, unit=unit)


def _zoom(spec: ImageSpec, scale: int | None, unit: float | None) -> tuple[int, float]:
    """Scale and unit, the usual ones for None."""
    usual = usual_scale(spec)
    scale = usual if scale is None else image_scale(scale, spec.height, spec.width)
    return scale, max(1.0, scale / usual) if unit is None else unit


def _cell_size(spec: ImageSpec, scale: int, unit: float) -> tuple[int, int]:
    """Width and height of an image with its bars, which are as wide as their longest heading at least."""
    names, type_face = CHANNELS.get(spec.channels, CHANNELS[1]), font(round(LETTERS * unit))
    longest = max(type_face.getlength(f"{name} {spec.levels - 1}, p {chance}") for name in names for chance in HEADINGS)
    panel = max(round(PANEL_WIDTH * scale * max(spec.height, spec.width)), _left(spec, unit) + math.ceil(longest) + round(8 * unit))
    return spec.width * scale + panel, max(spec.height * scale, round(LEAST_HEIGHT * unit) * len(names))


def _left(spec: ImageSpec, unit: float) -> int:
    """Room left of the bars, for the numbers of their scale."""
    numbers = ("1", "0") if spec.levels <= FULL_SCALE_LEVELS else ("0.05", "0.005")
    return round(10 * unit) + math.ceil(max(map(font(round(LETTERS * unit)).getlength, numbers)))


def _outline(picture: Picture, at: tuple[int, int], scale: int, unit: float) -> None:
    """Draws a red frame within a pixel of an enlarged image, or around it where pixels are small."""
    thick, around = (scale // 5, 0) if scale >= 12 else (max(1, round(1.5 * unit)), max(1, round(1.5 * unit)))
    top, left = (max(0, side * scale - around) for side in at)
    bottom, right = (min(limit, (side + 1) * scale + around) for limit, side in zip((picture.height, picture.width), at, strict=True))
    ImageDraw.Draw(picture).rectangle((left, top, right - 1, bottom - 1), outline=RED, width=thick)


def _beside(picture: Picture, moment: Moment, i: int, spec: ImageSpec, scale: int, unit: float) -> Picture:
    """An image and the bars of its next pixel, a panel per channel, on a page of one size for all moments."""
    page = Image.new("RGB", _cell_size(spec, scale, unit), PAPER)
    page.paste(picture, (0, (page.height - picture.height) // 2))
    size = page.width - picture.width, page.height // len(CHANNELS.get(spec.channels, CHANNELS[1]))
    for channel, chances, drawn in moment.chances:
        page.paste(_bars(chances[i], int(drawn[i]), channel, spec, size, unit), (picture.width, channel * size[1]))
    return page


def _bars(chances: np.ndarray, drawn: int, channel: int, spec: ImageSpec, size: tuple[int, int], unit: float) -> Picture:
    """A panel (width, height) with the probabilities (L,) of one decision, the value drawn in red."""
    levels, (width, height) = len(chances), size
    page = Image.new("RGB", size, PAPER)
    pen, type_face, step = ImageDraw.Draw(page), font(round(LETTERS * unit)), round(1.4 * LETTERS * unit)
    top_value = 1.0 if levels <= FULL_SCALE_LEVELS else _round_up(float(chances.max()))
    label = f"{top_value:.12g}"
    left = _left(spec, unit)
    right, ramp = width - round(8 * unit), max(2, round(5 * unit))
    top, bottom = step + round(7 * unit), height - step - ramp - round(5 * unit)
    name = CHANNELS.get(spec.channels, ("level",))[channel]
    chance = float(chances[drawn])
    pen.text((left, round(2 * unit)), f"{name} {drawn}, p {_chance(chance)}", RED, type_face, anchor="la")
    pen.rectangle((left, top, right - 1, bottom - 1), fill=WHITE)
    edges = np.rint(np.linspace(left, right, levels + 1)).astype(int)
    room = round(max(1.0, unit)) if (right - left) / levels >= 6 * unit else 0
    thin = max(1, round(unit))
    for level in sorted(range(levels), key=lambda each: each == drawn):  # the one drawn is above its neighbours
        x0, x1 = int(edges[level]) + room, max(int(edges[level + 1]) - room, int(edges[level]) + room + 1)
        y = bottom - round((bottom - top) * min(1.0, float(chances[level]) / top_value))
        if level == drawn:
            middle = (x0 + x1) / 2
            x0, x1 = round(min(x0, middle - thin)), round(max(x1, middle + thin))
            y = min(y, bottom - 2 * thin)                                 # seen however unlikely it was
        if y < bottom:
            pen.rectangle((x0, y, x1 - 1, bottom - 1), fill=RED if level == drawn else INK)
    pen.rectangle((left, bottom, right - 1, bottom + thin - 1), fill=TEXT)
    pen.rectangle((left - thin, top, left - 1, bottom + thin - 1), fill=TEXT)
    for value, y in ((label, top), ("0", bottom)):
        pen.text((left - round(4 * unit), y), value, TEXT, type_face, anchor="rm")
    for level, (x0, x1) in enumerate(pairwise(edges.tolist())):
        pen.rectangle((x0, bottom + thin, max(x0, x1 - 1), bottom + thin + ramp), fill=_shade(level, channel, spec))
    every = next(n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256) if (right - left) * n / levels >= 2 * type_face.getlength(str(levels - 1)))
    shown = [level for level in range(levels) if level % every == 0 or level == levels - 1]
    shown = shown if levels <= FULL_SCALE_LEVELS else [0, levels - 1]
    if len(shown) > 2 and (edges[shown[-1]] - edges[shown[-2]]) < 1.6 * type_face.getlength(str(levels - 1)):
        shown.pop(-2)
    for level in shown:
        at = int(edges[level] + edges[level + 1]) / 2
        half, below = type_face.getlength(str(level)) / 2, bottom + thin + ramp + round(2 * unit)
        pen.text((min(max(at, left + half), right - half), below), str(level), TEXT, type_face, anchor="ma")
    return page


def _shade(level: int, channel: int, spec: ImageSpec) -> tuple[int, int, int]:
    """The colour of a value of a channel, alone."""
    value = round(255 * level / (spec.levels - 1))
    if spec.channels == 1:
        return value, value, value
    return tuple(value if c == channel else 0 for c in range(3))  # pyright: ignore[reportReturnType]


def _round_up(value: float) -> float:
    """The least of 1, 2 and 5 times a power of ten that is not below ``value``."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-9)))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= value * (1 - 1e-9))


def _chance(chance: float) -> str:
    """A probability with two digits or so, 1 only where it is."""
    if 0.999 < chance < 1:
        return "> 0.999"
    return f"= {chance:.3g}" if chance >= 0.1 else f"= {chance:.2g}" if chance >= 1e-4 else f"= {chance:.0e}"
