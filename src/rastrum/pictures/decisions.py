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
from itertools import pairwise
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from ..protocol import Frame, ImageSpec
from .sheets import INK, LETTERS, PAPER, RED, TEXT, Picture, arrange, font, image_scale, tiles

Every = Literal["pixel", "row"] | int

MOST_LEVELS = 256              # that bars are drawn for
FEW = 32                       # levels whose bars are all on the scale 0 … 1
CELL = 192                     # without a scale, an image is enlarged to about this many points
WIDE = 1.35                    # of the bars, as a multiple of the image's longer side
AT_LEAST = 80                  # units that the bars have at least, each way
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
    every: a moment per pixel (with all its channels), per row, or per that many decisions.

    Yields a moment before each of these decisions, and the finished images.
    """
    decided = np.zeros(spec.size, bool)
    before, current, count, last_row = None, None, 0, -1
    for frame in frames:
        if before is None:
            known = frame.info.get("known")
            decided = np.zeros((len(frame.images), spec.size), bool)
            if known is not None:
                decided |= known.expand(len(frame.images), *spec.shape).flatten(1).cpu().numpy()
            before = frame.images
        if "decision" in frame.info:
            index = frame.info["decision"]
            channel, row, column = (int(i) for i in np.unravel_index(index, spec.shape))
            new_row, last_row = row != last_row, row
            due = {"pixel": True, "row": new_row}[every] if isinstance(every, str) else count % every == 0
            same = current is not None and current.at == (row, column)
            if current is not None and (not same or (isinstance(every, int) and due)):
                yield current
                current = None
            if current is None and due:
                current = Moment(before, decided.reshape(-1, *spec.shape).copy(), (row, column))
            if current is not None:
                current.chances.append((channel, *(frame.info[name].cpu().numpy() for name in ("probabilities", "drawn"))))
            decided[:, index] = True
            count += 1
        before = frame.images
    if current is not None:
        yield current
    assert before is not None
    yield Moment(before, np.ones((len(before), *spec.shape), bool))


def usual_scale(spec: ImageSpec) -> int:
    """The scale of ``decision_sheet`` if none is asked for: to about ``CELL`` points. spec: of the images."""
    return max(1, CELL // max(spec.height, spec.width))


def decision_sheet(
    moment: Moment, spec: ImageSpec, columns: int | None = None, scale: int | None = None, unit: float | None = None
) -> Picture:
    """Images in a grid, each beside the probabilities of its next pixel.

    moment: what is shown.
    spec: of the images.
    columns: images per row; None (default): about a square.
    scale: enlargement; None (default): to about ``CELL`` points.
    unit: of text and lines; None (default): in proportion to the images.
    """
    usual = usual_scale(spec)
    scale = usual if scale is None else image_scale(scale, spec.height, spec.width)
    unit = max(1.0, scale / usual) if unit is None else unit
    cells = []
    for i, picture in enumerate(tiles(moment.images, scale)):
        shown = tiles(moment.images[i : i + 1], scale, moment.known[i : i + 1])[0] if not moment.known[i].all() else picture
        if moment.at is not None:
            _outline(shown, moment.at, scale, unit)
        cells.append(_beside(shown, moment, i, spec, unit))
    return arrange(cells, columns, unit=unit)


def _outline(picture: Picture, at: tuple[int, int], scale: int, unit: float) -> None:
    """Draws a red frame within a pixel of an enlarged image, or around it where pixels are small."""
    thick, around = (scale // 5, 0) if scale >= 12 else (max(1, round(1.5 * unit)), max(1, round(1.5 * unit)))
    top, left = (max(0, side * scale - around) for side in at)
    bottom, right = (min(limit, (side + 1) * scale + around) for limit, side in zip((picture.height, picture.width), at, strict=True))
    ImageDraw.Draw(picture).rectangle((left, top, right - 1, bottom - 1), outline=RED, width=thick)


def _beside(picture: Picture, moment: Moment, i: int, spec: ImageSpec, unit: float) -> Picture:
    """An image and the bars of its next pixel, a panel per channel, on a page of one size for all moments."""
    count, least = (spec.channels if spec.channels in CHANNELS else 1), round(AT_LEAST * unit)
    width = max(round(WIDE * max(picture.size)), round(1.6 * least))
    height = max(picture.height, least * count)
    page = Image.new("RGB", (picture.width + width, height), PAPER)
    page.paste(picture, (0, (height - picture.height) // 2))
    for channel, chances, drawn in moment.chances:
        panel = _bars(chances[i], int(drawn[i]), channel, spec, (width, height // count), unit)
        page.paste(panel, (picture.width, channel * (height // count)))
    return page


def _bars(chances: np.ndarray, drawn: int, channel: int, spec: ImageSpec, size: tuple[int, int], unit: float) -> Picture:
    """A panel (width, height) with the probabilities (L,) of one decision, the value drawn in red."""
    levels, (width, height) = len(chances), size
    page = Image.new("RGB", size, PAPER)
    pen, type_face, step = ImageDraw.Draw(page), font(round(LETTERS * unit)), round(1.4 * LETTERS * unit)
    top_value = 1.0 if levels <= FEW else _round_up(float(chances.max()))
    label = f"{top_value:.12g}"
    left = round(10 * unit) + math.ceil(max(type_face.getlength(each) for each in (label, "0.05", "0")))
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
    shown = [0, levels - 1] if levels > FEW else [level for level in range(levels) if level % every == 0 or level == levels - 1]
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
