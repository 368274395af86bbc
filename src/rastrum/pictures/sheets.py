"""Sheets of images: grids with labels, completions, windows, strokes, and the context of a decision.

Images are torch or numpy, float in [0, 1], (N, C, H, W) with 1 or 3 channels, as in a ``Frame``, or levels that know how many there are,
``Images``, as ``sample`` returns them. Every function returns a ``PIL.Image``; files are written whole or not at all (formats.py).
Enlarging is nearest-neighbour: a pixel stays a square. Colours are distinct for every kind of colour vision (Okabe and Ito's palette).
Hatching always means "not known"; a window is outlined red where a model reads, green where it writes.

Labels, gutters and lines are laid out in units: one point where images have their usual size, and as many more as images are larger
(``unit_of``), so that a sheet keeps its proportions at every scale. page.py chooses scale and unit for a picture of a given size.

Shapes: N images, C channels, H, W height and width in pixels.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..images import Images
from ..protocol import ArrayLike
from .formats import Picture, readable
from .formats import encode_picture as encode_picture
from .formats import save_picture as save_picture
from .formats import write_picture as write_picture

Colour = tuple[int, int, int]

PAPER: Colour = (233, 236, 239)
TEXT: Colour = (52, 58, 64)
RED: Colour = (230, 36, 36)
GREEN: Colour = (0, 190, 110)
INK: Colour = (0, 98, 170)
ERASER: Colour = (213, 94, 0)
HATCH: tuple[Colour, Colour] = ((172, 180, 190), (208, 213, 219))
# How a decision relates to a position: name and colour.
CONTEXT: dict[str, Colour] = {
    "this decision": (0, 0, 0),
    "seen": (86, 180, 233),
    "promised, but unseen": (240, 228, 66),
    "seen, though forbidden": (213, 94, 0),
    "earlier, but not seen": (204, 121, 167),
    "not to be seen": PAPER,
}
GUTTER, LETTERS, TITLE = 2, 11, 15   # between cells, height of labels and of titles, in units
USUAL_SIDE = 64                # without a scale, an image is enlarged to about this many points
LONG_WORD = "m" * 16           # of a title: words as wide as this may widen a picture, longer ones are broken


# ── arrays → pixels ──────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font of the plots, which has Greek letters and symbols (Pillow's own has none), at ``size`` points."""
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def as_array(values: ArrayLike, what: str) -> np.ndarray:
    """An array of numbers as numpy.

    values: torch or numpy, any shape.
    what: its name in the message.

    Raises ``ValueError`` for anything else.
    """
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{what}: expected an array of numbers, got {array.dtype}")
    return array


def as_pictures(images: ArrayLike, what: str) -> np.ndarray:
    """Images to draw as numpy: those that know their levels become pictures in [0, 1].

    images: torch or numpy, any shape.
    what: its name in the message.

    Raises ``ValueError`` for anything but numbers.
    """
    return as_array(images.pictures() if isinstance(images, Images) else images, what)


def pixels_of(images: ArrayLike) -> np.ndarray:
    """Images as pixels.

    images: (N, C, H, W) in [0, 1], 1 or 3 channels.

    Returns (N, H, W, 3) uint8. Raises ``ValueError`` for other shapes, types or values.
    """
    x = as_pictures(images, "images")
    if x.ndim != 4 or x.shape[1] not in (1, 3) or 0 in x.shape:
        raise ValueError(f"images: expected shape (N, C, H, W) with 1 or 3 channels and at least one image, got {x.shape}")
    if x.dtype.kind != "f":
        remedy = "of levels, spec.pictures(x) makes them, and rastrum.Images(x, levels=…) is taken as it is"
        raise ValueError(f"images: expected floats in [0, 1], got {x.dtype}; {remedy}")
    if not (x.min() >= -1e-3 and x.max() <= 1 + 1e-3):                    # also catches nan
        raise ValueError(f"images: expected values in [0, 1], got {x.min():g} … {x.max():g}")
    pixels = np.rint(x.clip(0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return np.broadcast_to(pixels, (*pixels.shape[:3], 3))


def _mask(known: ArrayLike, shape: Sequence[int]) -> np.ndarray:
    """A bool mask that broadcasts to (N, C, H, W) → (N, H, W), True where every channel is known."""
    mask = as_array(known, "known")
    if mask.dtype != bool:
        raise ValueError(f"known: expected a bool mask, got {mask.dtype}")
    try:
        return np.all(np.broadcast_to(mask, shape), axis=1)
    except ValueError:
        raise ValueError(f"known: shape {mask.shape} does not broadcast to {tuple(shape)}") from None


def image_scale(scale: int | None, height: int, width: int) -> int:
    """``scale`` itself, or what enlarges an image to about ``USUAL_SIDE`` points.

    scale: at least 1, or None.
    height, width: of the image in pixels.

    Raises ``ValueError`` for a scale below 1.
    """
    if scale is None:
        return max(1, USUAL_SIDE // max(height, width))
    if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1:
        raise ValueError(f"scale: expected a whole number of at least 1, got {scale!r}")
    return scale


def unit_of(scale: int | None, height: int, width: int) -> float:
    """How many points a unit has beside images of this scale: at least 1, and 1 at the usual scale.

    scale: enlargement; None: the usual one.
    height, width: of an image in pixels.
    """
    return max(1.0, image_scale(scale, height, width) / image_scale(None, height, width))


def _enlarge(pixels: np.ndarray, scale: int) -> np.ndarray:
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


@lru_cache(8)
def _hatch(height: int, width: int, unit: float) -> np.ndarray:
    """Diagonal stripes (height, width, 3) uint8, 2 units of 6."""
    stripe = np.add.outer(np.arange(height), np.arange(width)) % round(6 * unit) < round(2 * unit)
    return np.where(stripe[..., None], *(np.array(colour, np.uint8) for colour in HATCH))


def tiles(images: ArrayLike, scale: int | None = None, known: ArrayLike | None = None) -> list[Picture]:
    """Each image as a picture.

    images: (N, C, H, W), float in [0, 1].
    scale: enlargement; None: to about ``USUAL_SIDE`` points.
    known: bool, broadcasts to the images; hatched where it is False.

    Raises ``ValueError`` for other shapes, channels other than 1 or 3, integers, values outside [0, 1] or a scale below 1.
    """
    pixels = pixels_of(images)
    n, height, width, _ = pixels.shape
    scale = image_scale(scale, height, width)
    enlarged = [_enlarge(image, scale) for image in pixels]
    if known is not None:
        hatch = _hatch(height * scale, width * scale, unit_of(scale, height, width))
        shape = (n, np.shape(images)[1], height, width)
        enlarged = [np.where(_enlarge(k, scale)[..., None], e, hatch) for k, e in zip(_mask(known, shape), enlarged, strict=True)]
    return [Image.fromarray(e) for e in enlarged]


# ── sheets ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def arrange(
    cells: Sequence[Picture],
    columns: int | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    unit: float = 1.0,
) -> Picture:
    """Pictures in a grid with thin gutters.

    cells: pictures, row by row.
    columns: pictures per row; None: about a square.
    row_labels, column_labels: one per row, left of it, and one per column, above it; may have several lines.
    unit: points of a unit of gutters and labels, 1 by default.

    Raises ``ValueError`` for no pictures, fewer than one column, or labels of another number than the rows or columns.
    """
    if not cells:
        raise ValueError("cells: expected at least one picture, got none")
    if columns is not None and (not isinstance(columns, int) or columns < 1):
        raise ValueError(f"columns: expected a whole number of at least 1, got {columns!r}")
    columns = min(columns or math.ceil(math.sqrt(len(cells))), len(cells))
    rows = -(-len(cells) // columns)
    for name, labels, count in (("row_labels", row_labels, rows), ("column_labels", column_labels, columns)):
        if labels is not None and len(labels) != count:
            raise ValueError(f"{name}: expected {count}, got {len(labels)}")
    type_face, gutter = font(round(LETTERS * unit)), round(GUTTER * unit)
    row_labels, column_labels = ([readable(label) for label in labels or ()] for labels in (row_labels, column_labels))

    def label_width(label: str, room: int) -> int:
        return max(math.ceil(type_face.getlength(line)) for line in label.split("\n")) + round(room * unit)

    widths = [max(cell.width for cell in cells[c::columns]) for c in range(columns)]
    heights = [max(cell.height for cell in cells[r * columns : (r + 1) * columns]) for r in range(rows)]
    if row_labels:
        heights = [max(h, round(14 * len(label.split("\n")) * unit)) for h, label in zip(heights, row_labels, strict=True)]
    if column_labels:
        widths = [max(w, label_width(label, 4)) for w, label in zip(widths, column_labels, strict=True)]
    left = gutter + max((label_width(label, 6) for label in row_labels), default=0)
    top = gutter + max((round((4 + 14 * len(label.split("\n"))) * unit) for label in column_labels), default=0)
    xs = [left + sum(widths[:c]) + c * gutter for c in range(columns)]
    ys = [top + sum(heights[:r]) + r * gutter for r in range(rows)]
    page = Image.new("RGB", (xs[-1] + widths[-1] + gutter, ys[-1] + heights[-1] + gutter), PAPER)
    pen = ImageDraw.Draw(page)
    for i, cell in enumerate(cells):
        r, c = divmod(i, columns)
        page.paste(cell, (xs[c] + (widths[c] - cell.width) // 2, ys[r] + (heights[r] - cell.height) // 2))
    spacing = round(4 * unit)
    for x, width, label in zip(xs, widths, column_labels, strict=False):
        pen.text((x + width / 2, top / 2), label, TEXT, type_face, anchor="mm", align="center", spacing=spacing)
    for y, height, label in zip(ys, heights, row_labels, strict=False):
        pen.text((left - round(5 * unit), y + height / 2), label, TEXT, type_face, anchor="rm", align="right", spacing=spacing)
    return page


def titled(picture: Picture, title: str | None, unit: float = 1.0, room: int = 0) -> Picture:
    """A picture below its title, which is broken into lines where it is too long. A word that is longer than the picture widens it, or is
    broken too if it is very long.

    picture: what is shown.
    title: None or "" for none.
    unit: as for ``arrange``.
    room: width of the page in points, which lines of the title may take if the picture is narrower; 0 (default) where no width is given.
    """
    title = readable(title or "")
    if not title or not title.split():
        return picture
    type_face, gap = font(round(TITLE * unit)), round(6 * unit)

    def wide(text: str) -> int:
        return math.ceil(type_face.getlength(text)) + 2 * gap

    most = max(picture.width, room or min(wide(LONG_WORD), max(map(wide, title.split()))))
    lines = [""]
    for word in _broken(title.split(), lambda text: wide(text) <= most):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and wide(longer) > most:
            lines.append(word)
        else:
            lines[-1] = longer
    width, step = max(picture.width, *map(wide, lines)), round(1.35 * TITLE * unit)
    top = step * len(lines) + gap
    page = Image.new("RGB", (width, top + picture.height), picture.getpixel((0, 0)))  # pyright: ignore[reportArgumentType]
    page.paste(picture, ((width - picture.width) // 2, top))
    pen = ImageDraw.Draw(page)
    for i, line in enumerate(lines):
        pen.text((width / 2, gap / 2 + step * (i + 0.5)), line, TEXT, type_face, anchor="mm")
    return page


def _broken(words: Sequence[str], fits: Callable[[str], bool]) -> Iterator[str]:
    """The words, those that do not fit in pieces: after a slash or the like, if there is one in the second half of a piece."""
    for word in words:
        while not fits(word) and len(word) > 1:
            most = max(1, bisect_right(range(1, len(word)), False, key=lambda n: not fits(word[:n])))
            end = next((n for n in range(most, most // 2, -1) if word[n - 1] in "/\\-_.,:;?&="), most)
            yield word[:end]
            word = word[end:]
        yield word


def sheet(
    images: ArrayLike,
    columns: int | None = None,
    scale: int | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    unit: float | None = None,
) -> Picture:
    """Images in a grid; errors are those of ``tiles`` and ``arrange``.

    images: (N, C, H, W) in [0, 1].
    columns: images per row; None (default): about a square.
    scale: enlargement; None (default): to about ``USUAL_SIDE`` points.
    row_labels, column_labels: one per row and per column; None (default) for none.
    unit: points of a unit of gutters and labels; None (default): in proportion to the images.
    """
    unit = unit_of(scale, *np.shape(images)[-2:]) if unit is None else unit
    return arrange(tiles(images, scale), columns, row_labels, column_labels, unit)


def completion_sheet(
    images: ArrayLike,
    known: ArrayLike,
    completions: ArrayLike,
    scale: int | None = None,
    row_labels: Sequence[str] | None = None,
    unit: float | None = None,
) -> Picture:
    """A row per image: the original, what is known of it (the rest hatched), and its completions.

    images: (N, C, H, W) in [0, 1].
    known: bool, broadcasts to the images.
    completions: (N, C, H, W) or (N, K, C, H, W) in [0, 1], as ``complete`` returns them.
    scale, row_labels, unit: as for ``sheet``.
    """
    x, drawn = as_pictures(images, "images"), as_pictures(completions, "completions")
    if drawn.ndim == 4:
        drawn = drawn[:, None]
    if drawn.ndim != 5 or drawn.shape[0] != x.shape[0] or drawn.shape[2:] != x.shape[1:]:
        raise ValueError(f"completions: expected shape (N, K, C, H, W) of images {x.shape}, got {tuple(np.shape(completions))}")
    count = drawn.shape[1]
    whole, part = tiles(x, scale), tiles(x, scale, known)
    new = tiles(drawn.reshape(-1, *x.shape[1:]), scale)
    cells = [c for i in range(len(x)) for c in (whole[i], part[i], *new[i * count : (i + 1) * count])]
    names = ["original", "known", *(str(k + 1) for k in range(count))]
    return arrange(cells, 2 + count, row_labels, names, unit_of(scale, *x.shape[-2:]) if unit is None else unit)


# ── windows and strokes ──────────────────────────────────────────────────────────────────────────────────────────────────


def draw_window(picture: Picture, window: Sequence[float] | Tensor | np.ndarray, scale: int, colour: Colour = RED) -> Picture:
    """Outlines a window on an image that was enlarged ``scale`` times, at sub-pixel precision.

    picture: the enlarged image.
    scale: how many times it was enlarged.
    colour: of the outline, red by default.
    window: centre row, centre column, height, width in pixels of the image; the centre of its first pixel is (0, 0). The outline is cut off
        at the border of the image.
    """
    box = as_array(window if isinstance(window, Tensor) else np.asarray(window, float), "window").astype(float)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise ValueError(f"window: expected centre row, centre column, height and width, got {box.tolist()}")
    size = np.array([picture.height, picture.width])
    low = ((box[:2] + 0.5 - box[2:] / 2) * scale).clip(0, size)
    high = ((box[:2] + 0.5 + box[2:] / 2) * scale).clip(0, size)
    unit = unit_of(scale, picture.height // scale, picture.width // scale)
    thickness = max(1.0, scale / 5, min(unit, float(box[2:].min()) * scale / 8))              # as labels, where the window is not small
    cover = _cover(low, high, size) - _cover(low + thickness, high - thickness, size)
    cover = np.rint(4 * cover) / 4                                        # few mixed colours, for the palette of an animation
    pixels = np.asarray(picture.convert("RGB"), float)
    return Image.fromarray(np.rint(pixels + cover[..., None] * (np.array(colour) - pixels)).astype(np.uint8))


def _cover(low: np.ndarray, high: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The fraction of every pixel that the box from ``low`` to ``high`` covers: the product of the fractions of rows and columns."""
    rows, columns = (
        (np.minimum(np.arange(n) + 1, b) - np.maximum(np.arange(n), a)).clip(0) for a, b, n in zip(low, high, size, strict=True)
    )
    return np.outer(rows, columns)


def signed_strokes(strokes: ArrayLike, limit: float | None = None) -> np.ndarray:
    """Changes of a canvas as colours: blue where it gains, orange where it loses, white where nothing changes.

    strokes: (N, C, H, W), any sign; channels are averaged.
    limit: the change that has full colour; None: the largest.

    Returns images (N, 3, H, W) in [0, 1].
    """
    s = as_array(strokes, "strokes")
    if s.ndim != 4 or 0 in s.shape:
        raise ValueError(f"strokes: expected shape (N, C, H, W), got {s.shape}")
    change = s.mean(1).astype(float)
    limit = float(np.abs(change).max()) if limit is None else limit
    strength = (change / max(limit, 1e-9)).clip(-1, 1)[:, None]
    ink, eraser = (np.array(colour, float)[:, None, None] / 255 for colour in (INK, ERASER))
    return 1 + strength.clip(0) * (ink - 1) + (-strength).clip(0) * (eraser - 1)


# ── context ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def context_scale(height: int, width: int) -> int:
    """The usual scale of ``context_picture``: to about 160 points. height, width: of the image in pixels."""
    return max(3, 160 // max(height, width))


def decided_before(order: ArrayLike, shape: Sequence[int], index: Sequence[int]) -> np.ndarray:
    """What is decided before a decision.

    order: of a raster model's decisions, (D,) flat indices.
    shape: of an image, with D values.
    index: of the decision.

    Returns bool (*shape).
    """
    rank = np.argsort(as_array(order, "order")).reshape(shape)
    return rank < rank[tuple(index)]


def context_picture(
    seen: ArrayLike,
    promised: ArrayLike,
    index: Sequence[int],
    scale: int | None = None,
    unit: float | None = None,
    earlier: ArrayLike | None = None,
) -> Picture:
    """What one decision sees of an image, and what its model promises that it sees: a panel per channel, with a legend.

    seen, promised: (C, H, W) or (H, W) bool.
    index: channel, row and column of the decision (row and column for (H, W)).
    scale: enlargement; None (default): to about 160 points.
    unit: of gutters and labels; None (default): in proportion to the image.
    earlier: bool, of the same shape: what is decided before, so that a blind spot is seen; None (default): shown like what is later.

    Colours: see ``CONTEXT``. Raises ``ValueError`` for other masks or an index outside the image.
    """
    sees, promise = as_array(seen, "seen"), as_array(promised, "promised")
    at = tuple(int(i) for i in index)
    if sees.dtype != bool or promise.dtype != bool or sees.shape != promise.shape or sees.ndim not in (2, 3):
        got = f"{sees.dtype} {sees.shape} and {promise.dtype} {promise.shape}"
        raise ValueError(f"seen and promised: expected two bool masks of one shape, (C, H, W) or (H, W), got {got}")
    if len(at) != sees.ndim or any(not 0 <= i < n for i, n in zip(at, sees.shape, strict=True)):
        raise ValueError(f"index: expected a position in {sees.shape}, got {at}")
    before = np.zeros(sees.shape, bool) if earlier is None else as_array(earlier, "earlier")
    if before.dtype != bool or before.shape != sees.shape:
        raise ValueError(f"earlier: expected a bool mask of shape {sees.shape}, got {before.dtype} {before.shape}")
    kinds = np.select([sees & promise, promise, sees, before], [1, 2, 3, 4], 5)
    kinds[at] = 3 if sees[at] else 0
    kinds = kinds.reshape(-1, *kinds.shape[-2:])
    usual = context_scale(*kinds.shape[1:])
    scale = usual if scale is None else image_scale(scale, *kinds.shape[1:])
    unit = max(1.0, scale / usual) if unit is None else unit
    palette = np.array(list(CONTEXT.values()), np.uint8)
    panels = [_grid(_enlarge(palette[panel], scale), scale) for panel in kinds]
    channel, row, column = (0, *at)[-3:]
    third = scale // 3                                                    # dark only in its middle if it sees itself
    left, top = column * scale + third, row * scale + third
    panels[channel].paste(CONTEXT["this decision"], (left, top, left + scale - 2 * third, top + scale - 2 * third))
    names = [f"channel {c}" for c in range(len(panels))]
    if len(panels) == 3:
        names = ["red", "green", "blue"]
    present = [0, 1, *sorted(set(np.unique(kinds).tolist()) & {2, 3, 4}), 5]
    page = arrange(panels, len(panels), None, names if len(panels) > 1 else None, unit)
    return _under(page, [(name, CONTEXT[name]) for i, name in enumerate(CONTEXT) if i in present], unit)


def _grid(pixels: np.ndarray, scale: int) -> Picture:
    """Enlarged pixels as a picture, with thin lines between them where there is room."""
    if scale >= 6:
        for line in range(max(1, scale // 40)):
            for at in (slice(line, None, scale), -1 - line):
                pixels[at] = pixels[:, at] = (255, 255, 255)
    return Image.fromarray(pixels)


def _under(picture: Picture, entries: Sequence[tuple[str, Colour]], unit: float) -> Picture:
    """The picture with a legend below it."""
    type_face, step, box = font(round(LETTERS * unit)), round(18 * unit), round(12 * unit)
    width = max(picture.width, round(40 * unit) + max(math.ceil(type_face.getlength(name)) for name, _ in entries))
    page = Image.new("RGB", (width, picture.height + step * len(entries) + round(8 * unit)), PAPER)
    page.paste(picture, ((width - picture.width) // 2, 0))
    pen = ImageDraw.Draw(page)
    left = round(6 * unit)
    for i, (name, colour) in enumerate(entries):
        y = picture.height + left + step * i
        pen.rectangle((left, y, left + round(14 * unit), y + box), fill=colour, outline=TEXT, width=round(unit))
        pen.text((round(28 * unit), y + box / 2), name, TEXT, type_face, anchor="lm")
    return page
