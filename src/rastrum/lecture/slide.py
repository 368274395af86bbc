"""The language that figures of the lecture are drawn in: a page of 16 x 9 units, and a few things to put on it.

    (0, 0) ┌──────────────────────┐        text · box · arrow · line          diagrams
           │                      │        grid                               a matrix, or the pixels of a map
           │                      │ 9      sheet                              images in rows and columns
           │                      │        chart                              axes with bars and lines
           └──────────────────────┘        table
                      16

Everything lies on one pair of axes, so that a page of sixty images is drawn as fast as one of a few. Colours have names, which a theme
turns into a light or a dark page; "blue 20" is blue, mixed with 80 % of the paper. Text is large enough for the back of a room: at
1920x1080, where a unit is 120 pixels, small letters are a 40th of the height.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ..pictures.formats import DPI
from ..pictures.sheets import pixels_of
from ..protocol import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 16, 9
SIZE = 1920, 1080  # pixels of a slide
UNIT = SIZE[0] // WIDTH  # pixels of a unit
SMALL, NORMAL, LARGE, HUGE = 15, 19, 25, 33  # points of text, on a page of 16 x 9 inches
FINE = 4  # values along a pixel of a hatched image
LETTER = 0.0083  # width of a letter in units, per point, about
CAPITALS = 0.729  # height of a capital in points, per point

Point = tuple[float, float]
Numbers: TypeAlias = ArrayLike | Sequence[float]


@dataclass(frozen=True)
class Theme:
    """Colours of a page, by name.

    paper, ink: of the page and of text. soft: of less important text. line: of frames. fill: of boxes.
    The others are distinct for every kind of colour vision.
    """

    paper: str = "#ffffff"
    ink: str = "#212529"
    soft: str = "#5c636a"
    line: str = "#adb5bd"
    fill: str = "#f1f3f5"
    blue: str = "#0062aa"
    orange: str = "#d55e00"
    green: str = "#009e73"
    purple: str = "#b3568c"
    sky: str = "#56b4e9"
    yellow: str = "#e8c51c"
    red: str = "#e62424"

    def colour(self, name: str) -> tuple[float, float, float]:
        """A colour by its name: red, green and blue in [0, 1].

        name: a field of the theme, or "NAME SHARE", which mixes so many per cent of it with the paper.
        """
        from matplotlib.colors import to_rgb

        which, _, share = name.partition(" ")
        part, paper = np.array(to_rgb(getattr(self, which))), np.array(to_rgb(self.paper))
        mixed = paper + (part - paper) * (float(share or 100) / 100)
        return float(mixed[0]), float(mixed[1]), float(mixed[2])


LIGHT = Theme()
DARK = Theme(
    paper="#15181b", ink="#e9ecef", soft="#a3abb3", line="#5c636a", fill="#23282d", blue="#6cb6f0", orange="#f08a3c", green="#34c99a",
    purple="#e08fc0", sky="#3d8fc4", yellow="#d8bd2e", red="#ff6b6b",
)  # fmt: skip


class Slide:
    """An empty page.

    theme: its colours, light by default.
    title: above the page, which becomes higher; "" (default) for none.
    """

    def __init__(self, theme: Theme = LIGHT, title: str = "") -> None:
        from matplotlib.figure import Figure

        above = 0.9 if title else 0.0
        self.theme = theme
        self.figure: Figure = Figure(figsize=(WIDTH, HEIGHT + above), dpi=DPI, layout=None, facecolor=theme.paper)
        self.axis: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axis.set_axis_off()
        self.axis.set(xlim=(0, WIDTH), ylim=(HEIGHT, -above), aspect="equal")
        self.axis.set_autoscale_on(False)
        if title:
            self.text(WIDTH / 2, -above / 2, title.replace("$", r"\$"), LARGE, bold=True)

    def colour(self, name: str) -> tuple[float, float, float]:
        """As ``Theme.colour``."""
        return self.theme.colour(name)

    # ── diagrams ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float = NORMAL,
        colour: str = "ink",
        align: Literal["left", "center", "right"] = "center",
        bold: bool = False,
        level: Literal["center", "top", "bottom"] = "center",
    ) -> None:
        """Write.

        x, y: of the text.
        words: what is written; lines end with a newline, mathematics stands between dollar signs.
        size: in points.
        colour: by name.
        align, level: which side of the text x and y are.
        bold: whether it is.
        """
        weight = "bold" if bold else "normal"
        # A line stands by its baseline, its capitals about y: by its box, words with and without letters that hang differ in height.
        one = level == "center" and "\n" not in words
        y, side = (y + CAPITALS / 2 * size / 72, "baseline") if one else (y, level)      # a unit is an inch, of 72 points
        self.axis.text(
            x, y, words, fontsize=size, color=self.colour(colour), ha=align, va=side, fontweight=weight, linespacing=1.35, zorder=5
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        words: str = "",
        colour: str = "line",
        fill: str = "fill",
        size: float = NORMAL,
    ) -> None:
        """A box with rounded corners.

        x, y: of its middle.
        width, height: in units.
        words: inside.
        colour, fill: of its frame and inside it.
        size: of the words, in points.
        """
        from matplotlib.patches import FancyBboxPatch

        corner, style = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.1"
        edge, face = self.colour(colour), self.colour(fill)
        self.axis.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, facecolor=face, edgecolor=edge, linewidth=2, zorder=3))
        if words:
            self.text(x, y, words, size)

    def frame(self, x: float, y: float, width: float, height: float, colour: str = "red", thick: float = 3) -> None:
        """A frame with nothing in it.

        x, y: of its upper left corner.
        width, height: in units.
        colour, thick: of its line, in points.
        """
        from matplotlib.patches import Rectangle

        self.axis.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=self.colour(colour), linewidth=thick, zorder=4))

    def arrow(self, start: Point, end: Point, colour: str = "ink", bend: float = 0.0, thick: float = 2.2) -> None:
        """An arrow.

        start, end: of it.
        colour, thick: of its line, in points.
        bend: height of its arc as a share of its length; 0 (default) is straight.
        """
        from matplotlib.patches import FancyArrowPatch

        style = f"arc3,rad={bend}"
        self.axis.add_patch(
            FancyArrowPatch(
                start, end, arrowstyle="-|>", mutation_scale=18, connectionstyle=style, color=self.colour(colour), linewidth=thick,
                shrinkA=0, shrinkB=0, zorder=4,
            )
        )  # fmt: skip

    def line(
        self, points: Sequence[Point], colour: str = "ink", thick: float = 2.2, arrow: bool = False, dashed: bool = False
    ) -> None:
        """A line through points, with an arrow at its end if asked for.

        points: of it.
        colour, thick: of it, in points.
        arrow: whether it ends in one.
        dashed: whether it is, but for the arrow's head, False by default.
        """
        xs, ys = zip(*points, strict=True)
        style = "--" if dashed else "-"
        self.axis.plot(xs, ys, style, color=self.colour(colour), linewidth=thick, zorder=2.5, solid_capstyle="round")
        if arrow:
            (x0, y0), (x1, y1) = points[-2:]
            length = max(abs(x1 - x0), abs(y1 - y0))
            near = (x1 - 0.2 * (x1 - x0) / length, y1 - 0.2 * (y1 - y0) / length)
            self.arrow(near, points[-1], colour, thick=thick)

    # ── matrices and images ─────────────────────────────────────────────────────────────────────────────────────────────

    def grid(
        self,
        x: float,
        y: float,
        side: float,
        colours: Sequence[Sequence[str]],
        labels: Sequence[Sequence[str]] | None = None,
        size: float = SMALL,
        ink: str = "ink",
    ) -> None:
        """Squares in rows and columns.

        x, y: of the upper left corner.
        side: of a square.
        colours: of each square, by name; "" for none.
        labels: in each square; None (default) for none.
        size, ink: of the labels; those in squares of the colour "fill" are soft.
        """
        from matplotlib.collections import PolyCollection

        square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * side
        cells = [(r, c, name) for r, row in enumerate(colours) for c, name in enumerate(row) if name]
        corners = [square + np.array([x + c * side, y + r * side]) for r, c, _ in cells]
        faces = [self.colour(name) for *_, name in cells]
        self.axis.add_collection(PolyCollection(corners, facecolors=faces, edgecolors=[self.colour("line")], linewidths=1, zorder=2))
        for r, row in enumerate(labels or ()):
            for c, label in enumerate(row):
                if label:
                    self.text(x + (c + 0.5) * side, y + (r + 0.5) * side, label, size, "soft" if colours[r][c] == "fill" else ink)

    def image(self, x: float, y: float, width: float, pixels: np.ndarray, fine: int = 1) -> float:
        """An image whose pixels stay squares of whole pixels of the slide.

        x, y: of its upper left corner.
        width: that it has at most.
        pixels: (H, W, 3) or (H, W, 4) uint8.
        fine: values along a pixel, as of ``hatched``; 1 by default.

        Returns the side of one of its pixels in units.
        """
        rows, columns = (side // fine for side in pixels.shape[:2])
        factor = max(1, math.floor(width * UNIT / columns + 1e-6))
        side, (x, y) = factor / UNIT, (round(x * UNIT) / UNIT, round(y * UNIT) / UNIT)
        self.axis.imshow(
            _enlarged(pixels, rows * factor, columns * factor), interpolation="none", aspect="equal", zorder=1.5,
            extent=(x, x + columns * side, y + rows * side, y),
        )  # fmt: skip
        return side

    def sheet(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        rows: Sequence[Sequence[np.ndarray | None]],
        row_labels: Sequence[str] = (),
        column_labels: Sequence[str] = (),
        size: float = SMALL,
        gap: float = 0.06,
    ) -> Callable[[int, int], tuple[float, float, float]]:
        """Images in rows and columns, all as large as the first; smaller ones are enlarged to it.

        x, y, width, height: of the space for it, labels included.
        rows: images (H, W, 3) uint8, None for an empty place.
        row_labels, column_labels: left of the rows and above the columns.
        size: of the labels, in points.
        gap: between images, in units.

        Returns a function of row and column: x, y of the corner of an image and the side of one of its pixels, in units.
        """
        tall, wide = next(cell for row in rows for cell in row if cell is not None).shape[:2]
        across, down = max(map(len, rows)), len(rows)
        left = max((_letters(label) for label in row_labels), default=0) * LETTER * size + 0.2 * bool(row_labels)
        lines = max((label.count("\n") + 1 for label in column_labels), default=0)
        top = lines * size * 0.02 + 0.1 * bool(column_labels)
        room = min((width - left - (across - 1) * gap) / (across * wide), (height - top - (down - 1) * gap) / (down * tall))
        factor, space = max(1, math.floor(room * UNIT)), max(1, round(gap * UNIT))
        page = np.zeros((down * (tall * factor + space) - space, across * (wide * factor + space) - space, 4), np.uint8)
        for r, row in enumerate(rows):
            for c, cell in enumerate(row):
                if cell is not None:
                    place = page[r * (tall * factor + space) :, c * (wide * factor + space) :][: tall * factor, : wide * factor]
                    place[..., :3], place[..., 3] = _enlarged(cell, tall * factor, wide * factor), 255
        total = page.shape[1] / UNIT + left, page.shape[0] / UNIT + top
        x0 = round((x + (width - total[0]) / 2 + left) * UNIT) / UNIT
        y0 = round((y + (height - total[1]) / 2 + top) * UNIT) / UNIT
        extent = (x0, x0 + page.shape[1] / UNIT, y0 + page.shape[0] / UNIT, y0)
        self.axis.imshow(page, interpolation="none", aspect="equal", extent=extent, zorder=1.5)

        def corner(r: int, c: int) -> tuple[float, float, float]:
            return x0 + c * (wide * factor + space) / UNIT, y0 + r * (tall * factor + space) / UNIT, factor / UNIT

        for r, label in enumerate(row_labels):
            self.text(x0 - 0.15, corner(r, 0)[1] + tall * factor / UNIT / 2, label, size, align="right")
        for c, label in enumerate(column_labels):
            self.text(corner(0, c)[0] + wide * factor / UNIT / 2, y0 - 0.1, label, size, level="bottom")
        return corner

    # ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def chart(self, x: float, y: float, width: float, height: float, across: Point, up: Point) -> Chart:
        """Axes on the page.

        x, y: of the upper left corner.
        width, height: in units.
        across, up: first and last value of the two axes.
        """
        return Chart(self, x, y, width, height, across, up)

    def table(
        self,
        x: float,
        y: float,
        widths: Sequence[float],
        rows: Sequence[Sequence[str]],
        step: float = 0.55,
        size: float = NORMAL,
        strong: Sequence[int] = (),
    ) -> None:
        """A table, its first row a head, its first column at the left and the others at the right.

        x, y: of the upper left corner.
        widths: of the columns.
        rows: cells.
        step: from row to row.
        size: of the text, in points.
        strong: numbers of rows in bold.
        """
        total = sum(widths)
        for r, row in enumerate(rows):
            middle, edge = y + (r + 0.5) * step, x
            for c, cell in enumerate(row):
                at = edge + (0.05 if c == 0 else widths[c] - 0.05)
                self.text(at, middle, cell, size, "ink" if r else "soft", "right" if c else "left", r in strong)
                edge += widths[c]
            self.line([(x, y + (r + 1) * step), (x + total, y + (r + 1) * step)], "line" if r else "ink", 1 if r else 2)


class Chart:
    """Axes on a slide; parameters as of ``Slide.chart``."""

    def __init__(self, slide: Slide, x: float, y: float, width: float, height: float, across: Point, up: Point) -> None:
        self.slide, self.x, self.y, self.width, self.height, self.across, self.up = slide, x, y, width, height, across, up
        slide.line([(x, y), (x, y + height), (x + width, y + height)], "ink", 1.6)

    def at(self, across: float, up: float) -> Point:
        """Where on the slide the point of these two values is."""
        share = [(value - low) / (high - low) for value, (low, high) in zip((across, up), (self.across, self.up), strict=True)]
        return self.x + self.width * share[0], self.y + self.height * (1 - share[1])

    def ticks(self, across: Sequence[float] = (), up: Sequence[float] = (), form: str = "g", size: float = SMALL) -> None:
        """Numbers along the axes.

        across, up: the values.
        form: how they are written.
        size: in points.
        """
        for value in across:
            px, py = self.at(value, self.up[0])
            self.slide.line([(px, py), (px, py + 0.07)], "ink", 1.6)
            self.slide.text(px, py + 0.12, format(value, form), size, level="top")
        for value in up:
            px, py = self.at(self.across[0], value)
            self.slide.line([(px, py), (px - 0.07, py)], "ink", 1.6)
            self.slide.text(px - 0.14, py, format(value, form), size, align="right")

    def label(self, across: str = "", up: str = "", size: float = SMALL) -> None:
        """What the axes are: below the one, and above the other.

        across, up: the words.
        size: in points.
        """
        self.slide.text(self.x + self.width / 2, self.y + self.height + 0.5, across, size, level="top")
        self.slide.text(self.x, self.y - 0.15, up, size, align="left", level="bottom")

    def line(self, across: Numbers, up: Numbers, colour: str = "blue", thick: float = 3, marks: bool = False) -> None:
        """A line.

        across, up: its points.
        colour, thick: of it.
        marks: whether its points are marked.
        """
        points = np.array([self.at(float(a), float(u)) for a, u in zip(np.asarray(across), np.asarray(up), strict=True)])
        self.slide.axis.plot(*points.T, color=self.slide.colour(colour), linewidth=thick, marker="o" if marks else None, zorder=3.5)

    def dot(self, across: float, up: float, colour: str = "blue", filled: bool = True) -> None:
        """A dot.

        across, up: where it is.
        colour: by name.
        filled: whether it is, True by default; else a ring.
        """
        px, py = self.at(across, up)
        inside, edge = self.slide.colour(colour if filled else "paper"), self.slide.colour(colour)
        self.slide.axis.plot([px], [py], "o", markersize=14, color=inside, markeredgecolor=edge, markeredgewidth=2.5, zorder=4)

    def band(self, across: Numbers, low: Numbers, high: Numbers, colour: str = "blue 20") -> None:
        """The area between two lines.

        across: values along the first axis.
        low, high: of the lines.
        colour: of it.
        """
        places = [np.array([self.at(float(a), float(u)) for a, u in zip(np.asarray(across), np.asarray(part), strict=True)])
                  for part in (low, high)]  # fmt: skip
        self.slide.axis.fill_between(places[0][:, 0], places[0][:, 1], places[1][:, 1], color=self.slide.colour(colour), linewidth=0)

    def bars(self, values: Numbers, colours: Sequence[str] | str = "blue", room: float = 0.0, start: float = 0.0) -> None:
        """A bar for each value, at 0, 1, 2, … of the first axis.

        values: heights.
        colours: of each, or of all.
        room: between two, as a share of their distance.
        start: where they begin, 0 by default.
        """
        from matplotlib.collections import PolyCollection

        corners = []
        for i, value in enumerate(np.asarray(values, float)):
            (x0, y0), (x1, y1) = self.at(i - 0.5 + room / 2, start), self.at(i + 0.5 - room / 2, float(value))
            corners.append([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        faces = [self.slide.colour(colours)] if isinstance(colours, str) else [self.slide.colour(name) for name in colours]
        self.slide.axis.add_collection(PolyCollection(corners, facecolors=faces, linewidths=0, zorder=2))


def _letters(label: str) -> int:
    """Letters of the longest line of a label."""
    return max(map(len, label.split("\n")))


def _enlarged(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image (H, W, …) with this many pixels, each the nearest of its own."""
    rows, columns = (np.arange(side) * own // side for side, own in zip((height, width), image.shape[:2], strict=True))
    return image[rows][:, columns]


def pixels(images: ArrayLike) -> list[np.ndarray]:
    """Images as ``Slide.image`` and ``Slide.sheet`` take them.

    images: (N, C, H, W) in [0, 1], 1 or 3 channels.

    Returns N arrays (H, W, 3) uint8.
    """
    return [*pixels_of(images)]


def hatched(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """An image with diagonal stripes where it is not known, at ``FINE`` times its size.

    image: (H, W, 3) uint8.
    known: (H, W) bool.
    """
    large, seen = (part.repeat(FINE, 0).repeat(FINE, 1) for part in (image, known))
    stripe = np.add.outer(np.arange(len(large)), np.arange(large.shape[1])) % FINE == 0
    return np.where(seen[..., None], large, np.where(stripe[..., None], 172, 208).astype(np.uint8))


def evenly(rows: Sequence[Any], count: int) -> Iterator[Any]:
    """At most ``count`` of some things, evenly spaced, the first and the last among them."""
    yield from (rows[i] for i in sorted({round(t) for t in np.linspace(0, len(rows) - 1, count)}))


def round_numbers(low: float, high: float) -> list[float]:
    """Round numbers between two, five at most: for the ticks of an axis."""
    step = next(step for power in range(-3, 6) for step in (10.0**power, 2 * 10.0**power, 5 * 10.0**power) if (high - low) / step <= 5)
    return [round(step * n, 3) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
