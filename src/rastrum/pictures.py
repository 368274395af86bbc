"""Pictures: sheets of images, animations of walks, windows and strokes, and the plots that explain a model.

Images come as they stand in a ``Frame``: torch or numpy, float in [0, 1], (N, C, H, W) with 1 or 3 channels. Every function returns a
``PIL.Image``; ``save_picture`` and ``save_animation`` write whole files or none. Enlarging is nearest-neighbour: a pixel stays a square.
Colours keep apart for every kind of colour vision (Okabe and Ito's palette); hatching always means "not known".

Shapes: N images, C channels, H, W height and width in pixels; B images of a Frame.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .protocol import ArrayLike, Frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture = Image.Image
Colour = tuple[int, int, int]

PAPER: Colour = (233, 236, 239)
TEXT: Colour = (52, 58, 64)
RED: Colour = (230, 36, 36)
INK: Colour = (0, 98, 170)
ERASER: Colour = (213, 94, 0)
HATCH: tuple[Colour, Colour] = ((172, 180, 190), (208, 213, 219))
# What a decision may see of a place: its name and its colour.
CONTEXT: dict[str, Colour] = {
    "this decision": (0, 0, 0),
    "seen": (86, 180, 233),
    "promised, but unseen": (240, 228, 66),
    "seen, though forbidden": (213, 94, 0),
    "not to be seen": PAPER,
}
GUTTER = 2
CELL = 64                      # an image is enlarged to about this many points unless a scale is given
HASTE = 50                     # frames a second: viewers slow down a GIF that wants more


# ── arrays → pixels ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _array(values: ArrayLike, what: str) -> np.ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{what}: expected an array of numbers, got {array.dtype}")
    return array


def _images(images: ArrayLike, what: str = "images") -> np.ndarray:
    """Checked images → (N, H, W, 3) uint8."""
    x = _array(images, what)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or 0 in x.shape:
        raise ValueError(f"{what}: expected shape (N, C, H, W) with 1 or 3 channels and at least one image, got {x.shape}")
    if x.dtype.kind != "f":
        raise ValueError(f"{what}: expected floats in [0, 1], got {x.dtype}; divide levels by (levels - 1) first")
    if not (x.min() >= -1e-3 and x.max() <= 1 + 1e-3):                    # also catches what is not a number
        raise ValueError(f"{what}: expected values in [0, 1], got {x.min():g} … {x.max():g}")
    pixels = np.rint(x.clip(0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return np.broadcast_to(pixels, (*pixels.shape[:3], 3))


def _mask(known: ArrayLike, shape: Sequence[int], what: str = "known") -> np.ndarray:
    """A bool mask that broadcasts to (N, C, H, W) → (N, H, W), True where every channel is known."""
    mask = _array(known, what)
    if mask.dtype != bool:
        raise ValueError(f"{what}: expected a bool mask, got {mask.dtype}")
    try:
        return np.all(np.broadcast_to(mask, shape), axis=1)
    except ValueError:
        raise ValueError(f"{what}: shape {mask.shape} does not broadcast to {tuple(shape)}") from None


def _scale(scale: int | None, height: int, width: int) -> int:
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
    """Each image enlarged ``scale`` times; hatched where ``known`` (bool, broadcasts to the images) is False.

    ``ValueError`` for another shape, channels other than 1 or 3, integers, values outside [0, 1] or a scale below 1.
    """
    pixels = _images(images)
    n, height, width, _ = pixels.shape
    scale = _scale(scale, height, width)
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
    """Pictures in rows of ``columns`` (None: about a square), with thin gutters; labels stand left of rows and above columns.

    ``ValueError`` for no pictures, fewer than one column, or labels of another number than the rows or columns.
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
    font = ImageFont.load_default(size=12)
    row_labels, column_labels = row_labels or (), column_labels or ()
    widths = [max(cell.width for cell in cells[c::columns]) for c in range(columns)]
    heights = [max(cell.height for cell in cells[r * columns : (r + 1) * columns]) for r in range(rows)]
    if column_labels:
        widths = [max(w, math.ceil(font.getlength(label)) + 4) for w, label in zip(widths, column_labels, strict=True)]
    left = GUTTER + max((math.ceil(font.getlength(label)) + 6 for label in row_labels), default=0)
    top = GUTTER + (18 if column_labels else 0)
    xs = [left + sum(widths[:c]) + c * GUTTER for c in range(columns)]
    ys = [top + sum(heights[:r]) + r * GUTTER for r in range(rows)]
    page = Image.new("RGB", (xs[-1] + widths[-1] + GUTTER, ys[-1] + heights[-1] + GUTTER), PAPER)
    pen = ImageDraw.Draw(page)
    for i, cell in enumerate(cells):
        r, c = divmod(i, columns)
        page.paste(cell, (xs[c] + (widths[c] - cell.width) // 2, ys[r] + (heights[r] - cell.height) // 2))
    for x, width, label in zip(xs, widths, column_labels, strict=False):
        pen.text((x + width / 2, top / 2), label, TEXT, font, anchor="mm")
    for y, height, label in zip(ys, heights, row_labels, strict=False):
        pen.text((left - 5, y + height / 2), label, TEXT, font, anchor="rm")
    return page


def sheet(
    images: ArrayLike,
    columns: int | None = None,
    scale: int | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
) -> Picture:
    """Images (N, C, H, W) in rows of ``columns``, each enlarged ``scale`` times. ``ValueError`` as ``tiles`` and ``arrange``."""
    return arrange(tiles(images, scale), columns, row_labels, column_labels)


def completion_sheet(
    images: ArrayLike, known: ArrayLike, completions: ArrayLike, scale: int | None = None, row_labels: Sequence[str] | None = None
) -> Picture:
    """A row an image: the original, what is known of it (the rest hatched), and its completions.

    images: (N, C, H, W); known: bool, broadcasts; completions: (N, C, H, W) or (N, K, C, H, W), as ``complete`` returns, in [0, 1].
    """
    x, drawn = _array(images, "images"), _array(completions, "completions")
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
    """The outline of a window on an image that was enlarged ``scale`` times, at sub-pixel position.

    window: centre row, centre column, height, width in pixels of the image; the centre of its first pixel is (0, 0). Of a window that
    reaches beyond the image the covered part is outlined.
    """
    box = _array(window if isinstance(window, Tensor) else np.asarray(window, float), "window").astype(float)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise ValueError(f"window: expected centre row, centre column, height and width, got {box.tolist()}")
    size = np.array([picture.height, picture.width])
    low = ((box[:2] + 0.5 - box[2:] / 2) * scale).clip(0, size)
    high = ((box[:2] + 0.5 + box[2:] / 2) * scale).clip(0, size)
    thickness = max(1.0, scale / 5)
    cover = _cover(low, high, size) - _cover(low + thickness, high - thickness, size)
    cover = np.rint(4 * cover) / 4                                        # few mixed colours: they must fit an animation's palette
    pixels = np.asarray(picture.convert("RGB"), float)
    return Image.fromarray(np.rint(pixels + cover[..., None] * (np.array(colour) - pixels)).astype(np.uint8))


def _cover(low: np.ndarray, high: np.ndarray, size: np.ndarray) -> np.ndarray:
    """How much of every pixel the box from ``low`` to ``high`` covers, 0 … 1: the product of its cover of rows and of columns."""
    rows, columns = (
        (np.minimum(np.arange(n) + 1, b) - np.maximum(np.arange(n), a)).clip(0) for a, b, n in zip(low, high, size, strict=True)
    )
    return np.outer(rows, columns)


def signed_strokes(strokes: ArrayLike, limit: float | None = None) -> np.ndarray:
    """Changes of a canvas (N, C, H, W), any sign → images (N, 3, H, W) in [0, 1]: ink blue, eraser orange, nothing white.

    Full colour at ``limit`` (None: the largest change); channels are averaged.
    """
    s = _array(strokes, "strokes")
    if s.ndim != 4 or 0 in s.shape:
        raise ValueError(f"strokes: expected shape (N, C, H, W), got {s.shape}")
    change = s.mean(1).astype(float)
    limit = float(np.abs(change).max()) if limit is None else limit
    strength = (change / max(limit, 1e-9)).clip(-1, 1)[:, None]
    ink, eraser = (np.array(colour, float)[:, None, None] / 255 for colour in (INK, ERASER))
    return 1 + strength.clip(0) * (ink - 1) + (-strength).clip(0) * (eraser - 1)


# ── frames of a walk ─────────────────────────────────────────────────────────────────────────────────────────────────────


def frame_tiles(frame: Frame, scale: int | None = None, order: ArrayLike | None = None) -> list[Picture]:
    """Each image of a frame, its window in red; with a raster model's ``order``, hatched where nothing is decided yet."""
    known = None
    if order is not None:
        at = _array(order, "order")
        shape = tuple(frame.images.shape[1:])
        decided = np.zeros(math.prod(shape), bool)
        if at.shape != decided.shape:
            raise ValueError(f"order: expected {decided.size} decisions for images of {shape}, got {at.shape}")
        decided[at[: round(frame.fraction * len(at))]] = True
        known = decided.reshape(shape)
    cells = tiles(frame.images, scale, known)
    if frame.window is None:
        return cells
    scale = cells[0].height // frame.images.shape[2]
    return [draw_window(cell, window, scale) for cell, window in zip(cells, frame.window, strict=True)]


def frame_sheet(
    frame: Frame,
    columns: int | None = None,
    scale: int | None = None,
    order: ArrayLike | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
) -> Picture:
    """A frame of a walk as a sheet, see ``frame_tiles``."""
    return arrange(frame_tiles(frame, scale, order), columns, row_labels, column_labels)


def reconstruction_cells(
    image: ArrayLike, frame: Frame, index: int, scale: int | None = None, limit: float | None = None
) -> dict[str, Picture]:
    """One moment of ``reconstruct`` for image number ``index``: what it looks at, the glimpse, the stroke, the canvas.

    image: (C, H, W) in [0, 1]; limit: the change of the canvas in full colour. A model without attention has no glimpse.
    """
    x = _array(image, "image")[None]
    scale = _scale(scale, *x.shape[2:])
    side = (x.shape[3] * scale, x.shape[2] * scale)
    looks, info = tiles(x, scale)[0], frame.info
    if info.get("read_window") is not None:
        looks = draw_window(looks, info["read_window"][index], scale)
    cells = {"looks": looks}
    if info.get("glimpse") is not None:
        glimpse = tiles(info["glimpse"][index : index + 1].clamp(0, 1), 1)[0]
        cells["glimpse"] = glimpse.resize(side, Image.Resampling.NEAREST)
    stroke = info.get("write_patch")
    stroke = torch.zeros_like(frame.images) if stroke is None else stroke
    cells["stroke"] = tiles(signed_strokes(stroke[index : index + 1], limit), scale)[0]
    cells["canvas"] = frame_tiles(frame, scale)[index]
    return cells


def reconstruction_strip(
    image: ArrayLike, frames: Sequence[Frame], index: int, scale: int | None = None, columns: int = 12
) -> Picture:
    """How one image is redrawn: a column a stroke (at most ``columns`` of them, evenly), a row each for looks, glimpse, stroke, canvas."""
    if len(frames) < 2:
        raise ValueError(f"frames: expected the initial canvas and at least one stroke, got {len(frames)}")
    changes = np.stack([_array(frame.info["write_patch"][index], "write_patch").mean(0) for frame in frames[1:]])
    limit = float(np.quantile(np.abs(changes), 0.98))                     # black that is made blacker would pale the rest
    shown = sorted({round(t) for t in np.linspace(1, len(frames) - 1, columns)})
    cells = [reconstruction_cells(image, frames[t], index, scale, limit) for t in shown]
    names = list(cells[0])
    return arrange([cell[name] for name in names for cell in cells], len(shown), names, [str(t) for t in shown])


def reconstruction_sheet(images: ArrayLike, frame: Frame, scale: int | None = None, limit: float | None = None) -> Picture:
    """A frame of ``reconstruct`` for all its images: a row an image, columns looks, glimpse, stroke, canvas."""
    x = _array(images, "images")
    if x.ndim != 4 or len(x) != len(frame.images):
        raise ValueError(f"images: expected the {len(frame.images)} images of the frame, (N, C, H, W), got {x.shape}")
    cells = [reconstruction_cells(x[i], frame, i, scale, limit) for i in range(len(x))]
    names = list(cells[0])
    return arrange([cell[name] for cell in cells for name in names], len(names), None, names)


# ── plots ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _figure(width: float, height: float) -> Figure:
    """A figure (inches) of our own: pyplot and its global state stay untouched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _render(figure: Figure) -> Picture:
    canvas: Any = figure.canvas
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def surprise_map(images: ArrayLike, log_probs: ArrayLike, columns: int = 8) -> Picture:
    """Where images surprise a model: each image above its bits a pixel, on one colour scale.

    images: (N, C, H, W) in [0, 1]; log_probs: nats, the same shape, from ``log_prob_map``; bits of the channels are added up.
    """
    x, nats = _images(images), _array(log_probs, "log_probs")
    if nats.ndim != 4 or (nats.shape[0], *nats.shape[2:]) != x.shape[:3]:
        raise ValueError(f"log_probs: expected shape (N, C, H, W) of {x.shape[0]} images of {x.shape[1]}x{x.shape[2]}, got {nats.shape}")
    bits = -nats.sum(1) / math.log(2)
    count, columns = len(x), min(columns, len(x))
    rows = -(-count // columns)
    figure = _figure(1.05 * columns + 0.9, 2.3 * rows + 0.1)
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    drawn = None
    for i in range(rows * columns):
        above, below = axes[2 * (i // columns)][i % columns], axes[2 * (i // columns) + 1][i % columns]
        for axis in (above, below):
            axis.set_axis_off()
        if i < count:
            above.imshow(x[i], interpolation="nearest")
            drawn = below.imshow(bits[i], interpolation="nearest", cmap="magma", vmin=0, vmax=float(bits.max()) or 1.0)
            below.set_title(f"{bits[i].sum():.0f} bits", fontsize=8)
    assert drawn is not None
    figure.colorbar(drawn, ax=axes, label="bits a pixel", shrink=0.8)
    return _render(figure)


def context_picture(
    seen: ArrayLike, promised: ArrayLike, index: Sequence[int], scale: int | None = None, names: Sequence[str] | None = None
) -> Picture:
    """What one decision sees of the values of an image, beside what its model promises: a panel a channel, with a legend.

    seen, promised: (C, H, W) or (H, W) bool; index: channel, row and column of the decision (row and column for (H, W)); names: of the
    channels. Colours: see ``CONTEXT``.
    """
    sees, promise = _array(seen, "seen"), _array(promised, "promised")
    at = tuple(int(i) for i in index)
    if sees.dtype != bool or promise.dtype != bool or sees.shape != promise.shape or sees.ndim not in (2, 3):
        got = f"{sees.dtype} {sees.shape} and {promise.dtype} {promise.shape}"
        raise ValueError(f"seen and promised: expected two bool masks of one shape, (C, H, W) or (H, W), got {got}")
    if len(at) != sees.ndim or any(not 0 <= i < n for i, n in zip(at, sees.shape, strict=True)):
        raise ValueError(f"index: expected a place in {sees.shape}, got {at}")
    kinds = np.select([sees & promise, promise, sees], [1, 2, 3], 4)
    kinds[at] = 3 if sees[at] else 0
    kinds = kinds.reshape(-1, *kinds.shape[-2:])
    scale = _scale(scale, kinds.shape[1], kinds.shape[2]) if scale is not None else max(3, 160 // max(kinds.shape[1:]))
    palette = np.array(list(CONTEXT.values()), np.uint8)
    panels = [_grid(_enlarge(palette[panel], scale), scale) for panel in kinds]
    channel, row, column = (0, *at)[-3:]
    third = scale // 3                                                    # its middle stays dark where the decision sees itself
    left, top = column * scale + third, row * scale + third
    panels[channel].paste(CONTEXT["this decision"], (left, top, left + scale - 2 * third, top + scale - 2 * third))
    if names is None and len(panels) > 1:
        names = ["red", "green", "blue"] if len(panels) == 3 else [f"channel {c}" for c in range(len(panels))]
    present = [0, 1, *sorted(set(np.unique(kinds).tolist()) & {2, 3}), 4]
    return _under(arrange(panels, len(panels), None, names), [(name, CONTEXT[name]) for i, name in enumerate(CONTEXT) if i in present])


def _grid(pixels: np.ndarray, scale: int) -> Picture:
    """Thin lines between enlarged pixels, where there is room for them."""
    if scale >= 6:
        pixels[::scale] = pixels[:, ::scale] = (255, 255, 255)
    return Image.fromarray(pixels)


def _under(picture: Picture, entries: Sequence[tuple[str, Colour]]) -> Picture:
    """The picture with a legend below it."""
    font = ImageFont.load_default(size=12)
    width = max(picture.width, 40 + max(math.ceil(font.getlength(name)) for name, _ in entries))
    page = Image.new("RGB", (width, picture.height + 18 * len(entries) + 8), (255, 255, 255))
    page.paste(picture, ((width - picture.width) // 2, 0))
    pen = ImageDraw.Draw(page)
    for i, (name, colour) in enumerate(entries):
        y = picture.height + 6 + 18 * i
        pen.rectangle((6, y, 20, y + 12), fill=colour, outline=TEXT)
        pen.text((28, y + 6), name, TEXT, font, anchor="lm")
    return page


def dependency_picture(strength: ArrayLike, index: Sequence[int], label: str = "strength, relative to the strongest") -> Picture:
    """How strongly one decision uses each earlier pixel: a heat map on a logarithmic scale of three decades, the decision marked.

    strength: (C, H, W) or (H, W), not negative, nothing drawn at 0; channels are added up; index: as for ``context_picture``.
    """
    s = _array(strength, "strength").astype(float)
    if s.ndim not in (2, 3) or not s.size or not (np.isfinite(s).all() and s.min() >= 0):
        raise ValueError(f"strength: expected numbers of at least 0, (C, H, W) or (H, W), got shape {s.shape}")
    if len(index) != s.ndim:
        raise ValueError(f"index: expected a place in {s.shape}, got {tuple(index)}")
    total = s if s.ndim == 2 else s.sum(0)
    relative = np.ma.masked_equal(total / (total.max() or 1.0), 0)
    figure = _figure(4.6, 3.8)
    axis = figure.subplots()
    from matplotlib.colors import LogNorm

    axis.set_facecolor("#e9ecef")
    drawn = axis.imshow(relative, norm=LogNorm(1e-3, 1), cmap="viridis", interpolation="nearest")
    axis.plot(index[-1], index[-2], "s", color="white", markeredgecolor=np.array(RED) / 255, markeredgewidth=2, markersize=7)
    axis.set(xlabel="column", ylabel="row")
    figure.colorbar(drawn, ax=axis, label=label, extend="min")
    return _render(figure)


def decision_picture(image: ArrayLike, known: ArrayLike, place: Sequence[int], probabilities: ArrayLike, actual: int) -> Picture:
    """One decision: what is known of an image (C, H, W), the pixel that is due in red, and the probability of each of its levels.

    known: bool, broadcasts; place: row and column of the pixel; probabilities: (levels,); actual: the level that the pixel has.
    """
    p = _array(probabilities, "probabilities")
    if p.ndim != 1 or not 0 <= actual < len(p):
        raise ValueError(f"probabilities: expected one a level, level {actual} among them, got shape {p.shape}")
    x = _array(image, "image")[None]
    scale = max(1, 240 // max(x.shape[2:]))
    picture = draw_window(tiles(x, scale, known)[0], (*place, 1, 1), scale)
    figure = _figure(7.2, 2.5)
    left, right = figure.subplots(1, 2, width_ratios=[1, 2.2])
    left.imshow(np.asarray(picture))
    left.set_axis_off()
    colours = [np.array(RED if level == actual else INK) / 255 for level in range(len(p))]
    right.bar(np.arange(len(p)), p, color=colours, width=0.85 if len(p) < 64 else 1.0)
    right.set(xlabel="brightness of the red pixel", ylabel="probability")
    right.xaxis.get_major_locator().set_params(integer=True)
    bits = -math.log2(max(float(p[actual]), 1e-300))
    right.set_title(f"it is {actual}: {bits:.1f} bits of surprise", fontsize=10, color=np.array(RED) / 255)
    for side in ("top", "right"):
        right.spines[side].set_visible(False)
    return _render(figure)


def learning_curve(
    curves: dict[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str = "steps",
    ylabel: str = "bits/dim",
    levels: dict[str, float] | None = None,
) -> Picture:
    """Curves by name, each (x, y); ``levels``: named horizontal lines to compare with.

    The vertical range leaves out the first fifth of a curve where it would dwarf the rest.
    """
    figure = _figure(6.4, 3.6)
    axis = figure.subplots()
    styles = [("#0062aa", "-"), ("#d55e00", "--"), ("#009e73", "-."), ("#cc79a7", ":"), ("#56b4e9", "-"), ("#000000", "--")]
    tail: list[float] = []
    for i, (name, (x, y)) in enumerate(curves.items()):
        if len(x) != len(y):
            raise ValueError(f"{name}: expected as many values as places, got {len(y)} and {len(x)}")
        colour = styles[i % len(styles)][0]
        style = styles[(i + i // len(styles)) % len(styles)][1]          # a seventh line has the first one's colour, but not its dashes
        axis.plot(x, y, style, color=colour, label=name, linewidth=1.8)
        tail += list(y)[len(y) // 5 :]
    for name, level in (levels or {}).items():
        axis.axhline(level, color="#868e96", linewidth=1, linestyle=(0, (1, 2)))
        axis.annotate(name, (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8, color="#495057")
        tail.append(level)
    finite = [v for v in tail if math.isfinite(v)]
    if finite and max(finite) > min(finite):
        margin = 0.08 * (max(finite) - min(finite))
        axis.set_ylim(min(finite) - margin, max(finite) + margin)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.grid(alpha=0.3)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    if curves:
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    return _render(figure)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def encode_picture(picture: Picture) -> bytes:
    """A picture as the bytes of a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def encode_animation(pictures: Iterable[Picture], fps: float = 8, hold: float = 2.0) -> bytes:
    """Pictures of one size as the bytes of a GIF file that loops and holds the last one ``hold`` seconds.

    One palette serves all frames, exact up to 255 colours, and what does not change is not stored again. ``ValueError`` for no pictures,
    pictures of different sizes, or a rate outside 0 … 50 frames a second.
    """
    frames = [picture.convert("RGB") for picture in pictures]
    if not frames:
        raise ValueError("animation: expected at least one picture, got none")
    sizes = {frame.size for frame in frames}
    if len(sizes) > 1:
        raise ValueError(f"animation: expected pictures of one size, got {sorted(sizes)}")
    if not 0 < fps <= HASTE:
        raise ValueError(f"fps: expected a rate above 0 and up to {HASTE} frames a second, got {fps!r}")
    if not hold >= 0:
        raise ValueError(f"hold: expected seconds of at least 0, got {hold!r}")
    indexed = _indexed(frames)
    step = max(20, round(100 / fps) * 10)
    durations = [step] * (len(frames) - 1) + [max(step, round(100 * hold) * 10)]
    file = io.BytesIO()
    indexed[0].save(file, "GIF", save_all=True, append_images=indexed[1:], duration=durations, loop=0, optimize=True, disposal=1)
    return file.getvalue()


def _indexed(frames: Sequence[Picture]) -> list[Picture]:
    """Frames over one palette: their own colours, rounded to fewer bits until 255 are enough, or else the best 255 of a sample."""
    for bits in range(8, 3, -1):
        top = 2**bits - 1
        rounded = np.rint(np.rint(np.arange(256) / 255 * top) * 255 / top).astype(np.int32)
        packed = [rounded[np.asarray(frame)] @ np.array([65536, 256, 1], np.int32) for frame in frames]
        colours = np.unique(np.concatenate([np.unique(p) for p in packed]))
        if len(colours) <= 255:
            pictures = [Image.fromarray(np.searchsorted(colours, p).astype(np.uint8), "P") for p in packed]
            for picture in pictures:
                picture.putpalette(np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.uint8).tobytes())
            return pictures
    montage = np.concatenate([np.asarray(frame) for frame in frames[:: -(-len(frames) // 8)]])
    palette = Image.fromarray(montage).quantize(255, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]


def _write(path: str | Path, ending: str, data: bytes) -> None:
    """The whole file or none; ``OSError`` as the system says it."""
    from .checkpoint import write_files

    path = Path(path)
    if path.suffix.lower() != ending:
        raise ValueError(f"picture: expected a name that ends in {ending}, got {str(path)!r}")
    write_files(path.parent, {path.name: data})


def save_picture(picture: Picture, path: str | Path) -> None:
    """Write a PNG. ``ValueError`` for another ending."""
    _write(path, ".png", encode_picture(picture))


def save_animation(pictures: Iterable[Picture], path: str | Path, fps: float = 8, hold: float = 2.0) -> None:
    """Write a GIF, see ``encode_animation``. ``ValueError`` for another ending."""
    _write(path, ".gif", encode_animation(pictures, fps, hold))
