"""How large a picture is: its scale, or the size of the whole page, and its title.

Without a size, everything grows with the scale of the images. A size is met exactly: images are enlarged by the largest whole factor at
which the page still holds them, and the rest is margin. Labels then stay readable from the back of a room: they grow with the images
between a 54th and a 27th of the 1080 points of a projector.

In SVG and PDF a scale and a size are in points, and images are drawn at several pixels per point, so that labels are sharp in print.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

from PIL import Image

from ..memory import ask
from .formats import LONGEST_SIDE, POINTS, VECTORS, Drawing, Picture, SizeError, check_sides, encode, entitle, natural_size
from .sheets import PAPER, titled

PER_POINT = 4                  # pixels of a sheet in a file of vectors …
MOST_PIXELS = 4096             # … as far as it has no more than these on a side
BYTES = 16                     # per pixel while a picture is drawn and encoded
UNITS_OF_A_PAGE = 540, 270     # that its shorter side has at most and at least, where its size is given

Draw = Callable[[int | None, float | None], Picture]                      # of scale and unit, None for the usual ones


@dataclass(frozen=True)
class Page:
    """What is asked of a picture.

    scale: enlargement of a pixel of an image; of a plot, of the whole. None: the usual one.
    size: width and height in points of the whole picture; None: as large as it becomes. A height of None: as high as it becomes.
    title: above the picture; None for none.

    Raises ``ValueError`` for a scale and a size together, and for numbers below 1.
    """

    scale: int | None = None
    size: tuple[int, int | None] | None = None
    title: str | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and self.size is not None:
            raise ValueError("scale and size: each says how large the picture is; give one of the two")
        for name, value in (("scale", self.scale), *(("size", side) for side in self.size or ())):
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected whole numbers of at least 1, got {value!r}")

    def check(self, count: int, height: int, width: int) -> None:
        """Refuse what does not fit the memory, before anything is drawn.

        count: number of images in the picture.
        height, width: of one, in pixels.

        Raises ``ValueError`` for a picture that is too large.
        """
        if self.scale is not None:
            ask(f"--scale {self.scale}", BYTES * count * height * width * self.scale**2, "ask for less")
        if self.size is not None:
            text = "x".join(str(side) for side in self.size if side is not None)
            ask(f"--size {text}", BYTES * self.size[0] * (self.size[1] or self.size[0]), "ask for less")

    # ── sheets ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def columns(self, count: int, height: int, width: int) -> int | None:
        """Columns of a grid with which its images become largest on this page; None for the usual number.

        count: number of images.
        height, width: of one, in pixels.
        """
        if self.size is None or self.size[1] is None:
            return None
        across, down = self.size[0], self.size[1]
        return max(range(1, count + 1), key=lambda n: (min(across / (n * width), down / (-(-count // n) * height)), -n))

    def grid(self, draw: Callable[[int, int | None, float | None], Picture], count: int, usual: int) -> int | None:
        """Columns of a grid with which its images become largest on this page, as far as labels can be read; None for the usual number.

        draw: makes the grid, of its columns, a scale and a unit; its images may be blank.
        count: number of images.
        usual: their scale if none is asked for.
        """
        if self.size is None or self.size[1] is None:
            return None
        grids = {-(-count // rows) for rows in range(1, count + 1)}       # the fewest columns for each number of rows
        for units in _units(*self.size):
            found = {n: self._largest(partial(draw, n), usual, units, *self.size)[0] for n in sorted(grids)}
            fits = {n: sheet[:2] for n, sheet in found.items() if sheet is not None}
            if fits:
                return max(fits, key=lambda n: fits[n])
        return None

    def check_fit(self, draw: Draw, usual: int, ending: str) -> None:
        """Refuse a sheet that this page cannot hold, or its file, before anything is computed.

        draw: makes the sheet, of a scale and a unit, with blank images.
        usual: its scale if none is asked for.
        ending: of the file.

        Raises ``SizeError`` where the sheet does not fit the size, ``ValueError`` where it does not fit the file.
        """
        if self.size is not None or ending in LONGEST_SIDE:
            check_sides(ending, self._zoom(draw, usual, self._density(ending))[1].size)

    def encode(self, draw: Draw, usual: int, ending: str) -> bytes:
        """A sheet as the bytes of a file.

        draw: makes it, of a scale and a unit.
        usual: its scale if none is asked for.
        ending: of the file.

        Raises ``SizeError`` where the sheet does not fit the size.
        """
        density = self._density(ending)
        page = self._zoom(draw, usual, density)[1]
        return encode(page, ending, (page.width / density, page.height / density) if ending in VECTORS else None)

    def _density(self, ending: str) -> int:
        """Pixels per point of a sheet in such a file."""
        if ending not in VECTORS:
            return 1
        return max(1, min(PER_POINT, MOST_PIXELS // (max(side or 0 for side in self.size) if self.size else 1)))

    def picture(self, draw: Draw, usual: int) -> Picture:
        """A sheet as a picture.

        draw: makes it, of a scale and a unit.
        usual: its scale if none is asked for.

        Raises ``SizeError`` where the sheet does not fit the size.
        """
        return self._zoom(draw, usual, 1)[1]

    def animation(self, draw: Callable[[int | None, float | None], Iterable[Picture]], usual: int) -> Iterator[Picture]:
        """The pictures of an animation, of one size, which the first of them decides.

        draw: makes them, of a scale and a unit; may be called several times.
        usual: their scale if none is asked for.

        Raises ``SizeError`` where the first does not fit the size.
        """
        zoom, _ = self._zoom(lambda scale, unit: next(iter(draw(scale, unit))), usual, 1)
        return (self._finished(picture, zoom[1]) for picture in draw(*zoom))

    def frames(self, draw: Callable[[Any, int | None, float | None], Picture], moments: Iterator[Any], usual: int) -> Iterator[Picture]:
        """The same where moments come one after another, and each is drawn once.

        draw: makes a picture of a moment, a scale and a unit.
        moments: what is drawn, at least one.
        usual: the scale if none is asked for.
        """
        first = next(moments)
        zoom, _ = self._zoom(lambda scale, unit: draw(first, scale, unit), usual, 1)
        return (self._finished(draw(moment, *zoom), zoom[1]) for moment in chain([first], moments))

    def _zoom(self, draw: Draw, usual: int, density: int) -> tuple[tuple[int | None, float | None], Picture]:
        """Scale and unit, and the finished picture."""
        if self.size is None:
            scale = None if self.scale is None and density == 1 else (self.scale or usual) * density
            return (scale, None), self._finished(draw(scale, None), None if scale is None else max(1.0, scale / usual))
        width, height = (None if side is None else side * density for side in self.size)
        assert width is not None
        found, least = None, (0, 0)
        for units in _units(width, height):
            found, least = self._largest(draw, usual, units, width, height)
            if found is not None:
                scale, unit, page = found
                return (scale, unit), _on_page(page, width, height)
        asked, need = ("x".join(str(-(-side // density)) for side in sides if side) for sides in ((width, height), least))
        untitled = replace(self, title=None)
        if self.title and any(untitled._largest(draw, usual, units, width, height)[0] for units in _units(width, height)):
            raise self._long_title(asked)
        raise SizeError(f"size: {asked} points are too few, the picture takes {need} at the least; ask for more, or for fewer images")

    def _long_title(self, asked: str) -> SizeError:
        return SizeError(f"title: its {len(self.title or '')} letters leave too little room on {asked} points; shorten it, or ask for more")

    def _largest(
        self, draw: Draw, usual: int, units: tuple[float, float], width: int, height: int | None
    ) -> tuple[tuple[int, float, Picture] | None, tuple[int, int]]:
        """The largest scale at which a page holds a sheet, with unit and sheet, or None; and the size of the last that it did not hold.

        units: least and largest.
        """
        fits, found, beyond, scale, least = 0, None, None, usual, (0, 0)
        while beyond is None or beyond - fits > 1:
            unit = min(max(scale / usual, units[0]), units[1])
            page = titled(draw(scale, unit), self.title, unit, width)
            ratio = min(width / page.width, (height or math.inf) / page.height)
            if ratio >= 1:
                fits, found = scale, (scale, unit, page)
                scale = max(scale + 1, math.floor(scale * ratio))
                scale = scale if beyond is None or scale < beyond else (fits + beyond) // 2
            else:
                beyond, least = scale, page.size
                scale = max(fits + 1, min(scale - 1, math.floor(scale * ratio)))
        return found, least

    def _finished(self, picture: Picture, unit: float | None) -> Picture:
        page = titled(picture, self.title, unit or 1.0, 0 if self.size is None else self.size[0])
        return page if self.size is None else _on_page(page, *self.size)

    # ── plots ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def encode_figure(self, figure: Drawing, ending: str) -> bytes:
        """A figure of matplotlib as the bytes of a file.

        figure: what is shown.
        ending: of the file.

        Raises ``SizeError`` for a size at which its text could not be read.
        """
        if isinstance(figure, Image.Image):
            return encode(figure, ending)
        if self.title:
            entitle(figure, self.title)
        own = natural_size(figure, POINTS) if ending in VECTORS else natural_size(figure)
        size = None if self.scale is None else (own[0] * self.scale, own[1] * self.scale)
        if self.size is not None:
            size = self.size[0], self.size[1] or round(own[1] * self.size[0] / own[0])
        try:
            return encode(figure, ending, size)
        except SizeError:
            if not self.title or size is None:
                raise
            figure.suptitle("")
            encode(figure, ending, size)                                  # if that fails too, it is not the title
            raise self._long_title(f"{size[0]}x{size[1]}") from None


AS_IT_IS = Page()


def _units(width: int, height: int | None) -> list[tuple[float, float]]:
    """Least and largest unit on a page of this size: labels for the back of a room, and smaller ones if there is no other way."""
    shorter = min(width, height or width)
    small, large = (shorter / units for units in UNITS_OF_A_PAGE)
    return [(low, max(low, large)) for low in (max(1.0, small), max(1.0, 0.7 * small), 1.0)]


def _on_page(picture: Picture, width: int, height: int | None) -> Picture:
    """The picture in the middle of a page of this size."""
    height = height or picture.height
    assert picture.width <= width and picture.height <= height, "a later picture of an animation is larger than the first"
    page = Image.new("RGB", (width, height), PAPER)
    page.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    return page
