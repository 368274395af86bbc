"""Sheets of images: grids with labels, completions, windows, strokes, and the context of a decision.

Images are torch or numpy, float in [0, 1], (N, C, H, W) with 1 or 3 channels, as in a ``Frame``, or levels that know how many there are,
``Images``, as ``sample`` returns them. Every function returns a ``PIL.Image``;
files are written whole or not at all. Enlarging is nearest-neighbour: a pixel stays a square. Colours are distinct for every kind of
colour vision (Okabe and Ito's palette). Hatching always means "not known"; a window is outlined red where a model reads, green where it
writes.

Shapes: N images, C channels, H, W height and width in pixels.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..images import Images
from ..protocol import ArrayLike

Picture = Image.Image
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
    "not to be seen": PAPER,
}
GUTTER = 2
CELL = 64                      # without a scale, an image is enlarged to about this many points


# ── arrays → pixels ──────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font of the plots, which has Greek letters and symbols (Pillow's own has none), at ``size`` points."""
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def as_array(values: ArrayLike, what: str) -> np.ndarray:
    """An array of numbers as numpy; of ``Images`` their pictures in [0, 1].

    values: torch or numpy, any shape.
    what: its name in the message.

    Raises ``ValueError`` for anything else.
    """
    if isinstance(values, Images):
        values = values.pictures()
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{what}: expected an array of numbers, got {array.dtype}")
    return array


def pixels_of(images: ArrayLike) -> np.ndarray:
    """Images as pixels.

    images: (N, C, H, W) in [0, 1], 1 or 3 channels.

    Returns (N, H, W, 3) uint8. Raises ``ValueError`` for other shapes, types or values.
    """
    x = as_array(images, "images")
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
    """``scale`` itself, or what enlarges an image to about ``CELL`` points.

    scale: at least 1, or None.
    height, width: of the image in pixels.

    Raises ``ValueError`` for a scale below 1.
    """
    if scale is None:
        return max(1, CELL // max(height, width))
    if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1:
        raise ValueError(f"scale: expected a whole number of at least 1, got {scale!r}")
    return scale


def _enlarge(pixels: np.ndarray, scale: int) -> np.ndarray:
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def _hatch(height: int, width: int) -> np.ndarray:
    """Diagonal stripes (height, width, 3) uint8."""
    stripe = np.add.outer(np.arange(height), np.arange(width)) % 6 < 2
    return np.where(stripe[..., None], *(np.array(colour, np.uint8) for colour in HATCH))


def tiles(images: ArrayLike, scale: int | None = None, known: ArrayLike | None = None) -> list[Picture]:
    """Each image as a picture.

    images: (N, C, H, W), float in [0, 1].
    scale: enlargement; None: to about ``CELL`` points.
    known: bool, broadcasts to the images; hatched where it is False.

    Raises ``ValueError`` for other shapes, channels other than 1 or 3, integers, values outside [0, 1] or a scale below 1.
    """
    pixels = pixels_of(images)
    n, height, width, _ = pixels.shape
    scale = image_scale(scale, height, width)
    enlarged = [_enlarge(image, scale) for image in pixels]
    if known is not None:
        hatch = _hatch(height * scale, width * scale)
        shape = (n, np.shape(images)[1], height, width)
        enlarged = [np.where(_enlarge(k, scale)[..., None], e, hatch) for k, e in zip(_mask(known, shape), enlarged, strict=True)]
    return [Image.fromarray(e) for e in enlarged]


# ── sheets ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def arrange(
    cells: Sequence[Picture],
    columns: int | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
) -> Picture:
    """Pictures in a grid with thin gutters.

    cells: pictures, row by row.
    columns: pictures per row; None: about a square.
    row_labels, column_labels: one per row, left of it, and one per column, above it; may have several lines.

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
    type_face = font(11)
    row_labels, column_labels = row_labels or (), column_labels or ()

    def label_width(label: str) -> int:
        return max(math.ceil(type_face.getlength(line)) for line in label.split("\n"))

    widths = [max(cell.width for cell in cells[c::columns]) for c in range(columns)]
    heights = [max(cell.height for cell in cells[r * columns : (r + 1) * columns]) for r in range(rows)]
    if column_labels:
        widths = [max(w, label_width(label) + 4) for w, label in zip(widths, column_labels, strict=True)]
    left = GUTTER + max((label_width(label) + 6 for label in row_labels), default=0)
    top = GUTTER + max((4 + 14 * len(label.split("\n")) for label in column_labels), default=0)
    xs = [left + sum(widths[:c]) + c * GUTTER for c in range(columns)]
    ys = [top + sum(heights[:r]) + r * GUTTER for r in range(rows)]
    page = Image.new("RGB", (xs[-1] + widths[-1] + GUTTER, ys[-1] + heights[-1] + GUTTER), PAPER)
    pen = ImageDraw.Draw(page)
    for i, cell in enumerate(cells):
        r, c = divmod(i, columns)
        page.paste(cell, (xs[c] + (widths[c] - cell.width) // 2, ys[r] + (heights[r] - cell.height) // 2))
    for x, width, label in zip(xs, widths, column_labels, strict=False):
        pen.text((x + width / 2, top / 2), label, TEXT, type_face, anchor="mm", align="center")
    for y, height, label in zip(ys, heights, row_labels, strict=False):
        pen.text((left - 5, y + height / 2), label, TEXT, type_face, anchor="rm")
    return page


def sheet(
    images: ArrayLike,
    columns: int | None = None,
    scale: int | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
) -> Picture:
    """Images in a grid; errors are those of ``tiles`` and ``arrange``.

    images: (N, C, H, W) in [0, 1].
    columns: images per row; None (default): about a square.
    scale: enlargement; None (default): to about ``CELL`` points.
    row_labels, column_labels: one per row and per column; None (default) for none.
    """
    return arrange(tiles(images, scale), columns, row_labels, column_labels)


def completion_sheet(
    images: ArrayLike, known: ArrayLike, completions: ArrayLike, scale: int | None = None, row_labels: Sequence[str] | None = None
) -> Picture:
    """A row per image: the original, what is known of it (the rest hatched), and its completions.

    images: (N, C, H, W) in [0, 1].
    known: bool, broadcasts to the images.
    completions: (N, C, H, W) or (N, K, C, H, W) in [0, 1], as ``complete`` returns them.
    scale, row_labels: as for ``sheet``.
    """
    x, drawn = as_array(images, "images"), as_array(completions, "completions")
    if drawn.ndim == 4:
        drawn = drawn[:, None]
    if drawn.ndim != 5 or drawn.shape[0] != x.shape[0] or drawn.shape[2:] != x.shape[1:]:
        raise ValueError(f"completions: expected shape (N, K, C, H, W) of images {x.shape}, got {tuple(np.shape(completions))}")
    count = drawn.shape[1]
    whole, part = tiles(x, scale), tiles(x, scale, known)
    new = tiles(drawn.reshape(-1, *x.shape[1:]), scale)
    cells = [c for i in range(len(x)) for c in (whole[i], part[i], *new[i * count : (i + 1) * count])]
    names = ["original", "known", *(str(k + 1) for k in range(count))]
    return arrange(cells, 2 + count, row_labels, names)


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
    thickness = max(1.0, scale / 5)
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


def context_picture(seen: ArrayLike, promised: ArrayLike, index: Sequence[int], scale: int | None = None) -> Picture:
    """What one decision sees of an image, and what its model promises that it sees: a panel per channel, with a legend.

    seen, promised: (C, H, W) or (H, W) bool.
    index: channel, row and column of the decision (row and column for (H, W)).
    scale: enlargement; None: to about 160 points.

    Colours: see ``CONTEXT``. Raises ``ValueError`` for other masks or an index outside the image.
    """
    sees, promise = as_array(seen, "seen"), as_array(promised, "promised")
    at = tuple(int(i) for i in index)
    if sees.dtype != bool or promise.dtype != bool or sees.shape != promise.shape or sees.ndim not in (2, 3):
        got = f"{sees.dtype} {sees.shape} and {promise.dtype} {promise.shape}"
        raise ValueError(f"seen and promised: expected two bool masks of one shape, (C, H, W) or (H, W), got {got}")
    if len(at) != sees.ndim or any(not 0 <= i < n for i, n in zip(at, sees.shape, strict=True)):
        raise ValueError(f"index: expected a position in {sees.shape}, got {at}")
    kinds = np.select([sees & promise, promise, sees], [1, 2, 3], 4)
    kinds[at] = 3 if sees[at] else 0
    kinds = kinds.reshape(-1, *kinds.shape[-2:])
    scale = image_scale(scale, kinds.shape[1], kinds.shape[2]) if scale is not None else max(3, 160 // max(kinds.shape[1:]))
    palette = np.array(list(CONTEXT.values()), np.uint8)
    panels = [_grid(_enlarge(palette[panel], scale), scale) for panel in kinds]
    channel, row, column = (0, *at)[-3:]
    third = scale // 3                                                    # dark only in its middle if it sees itself
    left, top = column * scale + third, row * scale + third
    panels[channel].paste(CONTEXT["this decision"], (left, top, left + scale - 2 * third, top + scale - 2 * third))
    names = [f"channel {c}" for c in range(len(panels))]
    if len(panels) == 3:
        names = ["red", "green", "blue"]
    present = [0, 1, *sorted(set(np.unique(kinds).tolist()) & {2, 3}), 4]
    page = arrange(panels, len(panels), None, names if len(panels) > 1 else None)
    return _under(page, [(name, CONTEXT[name]) for i, name in enumerate(CONTEXT) if i in present])


def _grid(pixels: np.ndarray, scale: int) -> Picture:
    """Enlarged pixels as a picture, with thin lines between them where there is room."""
    if scale >= 6:
        pixels[::scale] = pixels[:, ::scale] = (255, 255, 255)
    return Image.fromarray(pixels)


def _under(picture: Picture, entries: Sequence[tuple[str, Colour]]) -> Picture:
    """The picture with a legend below it."""
    type_face = font(11)
    width = max(picture.width, 40 + max(math.ceil(type_face.getlength(name)) for name, _ in entries))
    page = Image.new("RGB", (width, picture.height + 18 * len(entries) + 8), (255, 255, 255))
    page.paste(picture, ((width - picture.width) // 2, 0))
    pen = ImageDraw.Draw(page)
    for i, (name, colour) in enumerate(entries):
        y = picture.height + 6 + 18 * i
        pen.rectangle((6, y, 20, y + 12), fill=colour, outline=TEXT)
        pen.text((28, y + 6), name, TEXT, type_face, anchor="lm")
    return page


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def encode_picture(picture: Picture) -> bytes:
    """A picture as the bytes of a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def write_picture(path: str | Path, ending: str, data: bytes) -> None:
    """Writes the whole file or nothing.

    path: of the file.
    ending: that its name must have, such as ".png".
    data: its bytes.

    Raises ``ValueError`` for a name with another ending, ``OSError`` where writing fails.
    """
    from ..files import write_files

    path = Path(path)
    if path.suffix.lower() != ending:
        raise ValueError(f"picture: expected a name that ends in {ending}, got {str(path)!r}")
    write_files(path.parent, {path.name: data})


def save_picture(picture: Picture, path: str | Path) -> None:
    """Writes a PNG.

    picture: what is written.
    path: ends in .png, else ``ValueError``.
    """
    write_picture(path, ".png", encode_picture(picture))
