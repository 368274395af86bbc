"""Pictures: sheets of images, animations of walks, windows and strokes, and what a decision sees; what has axes stands in ``plots``.

Images come as they stand in a ``Frame``: torch or numpy, float in [0, 1], (N, C, H, W) with 1 or 3 channels. Every function returns a
``PIL.Image``; ``save_picture`` and ``save_animation`` write whole files or none. Enlarging is nearest-neighbour: a pixel stays a square.
Colours keep apart for every kind of colour vision (Okabe and Ito's palette); hatching always means "not known"; a window is outlined red
where a model reads, green where it writes.

Shapes: N images, C channels, H, W height and width in pixels; B images of a Frame.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..protocol import ArrayLike, Frame

Picture = Image.Image
Colour = tuple[int, int, int]

PAPER: Colour = (233, 236, 239)
TEXT: Colour = (52, 58, 64)
RED: Colour = (230, 36, 36)
GREEN: Colour = (0, 190, 110)
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
MAX_FPS = 50                     # frames a second: viewers slow down a GIF that wants more


# ── arrays → pixels ──────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The plots' own font, which has Greek letters and signs; Pillow's has none."""
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def as_array(values: ArrayLike, what: str) -> np.ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{what}: expected an array of numbers, got {array.dtype}")
    return array


def pixels_of(images: ArrayLike, what: str = "images") -> np.ndarray:
    """Checked images → (N, H, W, 3) uint8."""
    x = as_array(images, what)
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
    mask = as_array(known, what)
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
    pixels = pixels_of(images)
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
    """Pictures in rows of ``columns`` (None: about a square), with thin gutters; labels stand left of rows and above columns, in lines.

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
    type_face = font(11)
    row_labels, column_labels = row_labels or (), column_labels or ()

    def wide(label: str) -> int:
        return max(math.ceil(type_face.getlength(line)) for line in label.split("\n"))

    widths = [max(cell.width for cell in cells[c::columns]) for c in range(columns)]
    heights = [max(cell.height for cell in cells[r * columns : (r + 1) * columns]) for r in range(rows)]
    if column_labels:
        widths = [max(w, wide(label) + 4) for w, label in zip(widths, column_labels, strict=True)]
    left = GUTTER + max((wide(label) + 6 for label in row_labels), default=0)
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
    """Images (N, C, H, W) in rows of ``columns``, each enlarged ``scale`` times. ``ValueError`` as ``tiles`` and ``arrange``."""
    return arrange(tiles(images, scale), columns, row_labels, column_labels)


def completion_sheet(
    images: ArrayLike, known: ArrayLike, completions: ArrayLike, scale: int | None = None, row_labels: Sequence[str] | None = None
) -> Picture:
    """A row an image: the original, what is known of it (the rest hatched), and its completions.

    images: (N, C, H, W); known: bool, broadcasts; completions: (N, C, H, W) or (N, K, C, H, W), as ``complete`` returns, in [0, 1].
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
    """The outline of a window on an image that was enlarged ``scale`` times, at sub-pixel position.

    window: centre row, centre column, height, width in pixels of the image; the centre of its first pixel is (0, 0). Of a window that
    reaches beyond the image the covered part is outlined.
    """
    box = as_array(window if isinstance(window, Tensor) else np.asarray(window, float), "window").astype(float)
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
    s = as_array(strokes, "strokes")
    if s.ndim != 4 or 0 in s.shape:
        raise ValueError(f"strokes: expected shape (N, C, H, W), got {s.shape}")
    change = s.mean(1).astype(float)
    limit = float(np.abs(change).max()) if limit is None else limit
    strength = (change / max(limit, 1e-9)).clip(-1, 1)[:, None]
    ink, eraser = (np.array(colour, float)[:, None, None] / 255 for colour in (INK, ERASER))
    return 1 + strength.clip(0) * (ink - 1) + (-strength).clip(0) * (eraser - 1)


# ── frames of a walk ─────────────────────────────────────────────────────────────────────────────────────────────────────


def frame_tiles(frame: Frame, scale: int | None = None, order: ArrayLike | None = None) -> list[Picture]:
    """Each image of a frame, its window in green; with a raster model's ``order``, hatched where nothing is decided yet."""
    known = None
    if order is not None:
        at = as_array(order, "order")
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
    return [draw_window(cell, window, scale, GREEN) for cell, window in zip(cells, frame.window, strict=True)]


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
    image: ArrayLike, frame: Frame, index: int, scale: int | None = None, limit: float | None = None, before: Frame | None = None
) -> dict[str, Picture]:
    """One moment of ``reconstruct`` for image number ``index``: input, glimpse, error glimpse, write patch, canvas.

    image: (C, H, W) in [0, 1]; limit: the change of the canvas in full colour. A model without attention has no glimpses; where the
    frame ``before`` is given, its error, what the image has more (blue) or less (orange) than the canvas had, stands in their place.
    """
    x = as_array(image, "image")[None]
    scale = _scale(scale, *x.shape[2:])
    side = (x.shape[3] * scale, x.shape[2] * scale)

    def whole(patch: ArrayLike) -> Picture:
        return tiles(patch, 1)[0].resize(side, Image.Resampling.NEAREST)

    cells, info = {"input": tiles(x, scale)[0]}, frame.info
    if info.get("read_window") is not None:
        cells["input"] = draw_window(cells["input"], info["read_window"][index], scale)
    if info.get("glimpse") is not None:
        cells["glimpse"] = whole(info["glimpse"][index : index + 1].clamp(0, 1))
    if info.get("error_glimpse") is not None:
        cells["error glimpse"] = whole(signed_strokes(info["error_glimpse"][index : index + 1], 1.0))
    elif before is not None and info.get("glimpse") is None:
        cells["error"] = whole(signed_strokes(x - as_array(before.images[index : index + 1], "images"), 1.0))
    stroke = info.get("write_patch")
    stroke = torch.zeros_like(frame.images) if stroke is None else stroke
    cells["write patch"] = tiles(signed_strokes(stroke[index : index + 1], limit), scale)[0]
    cells["canvas"] = frame_tiles(frame, scale)[index]
    return cells


def reconstruction_strip(
    image: ArrayLike, frames: Sequence[Frame], index: int, scale: int | None = None, columns: int = 12
) -> Picture:
    """How one image is redrawn: a column a stroke (at most ``columns`` of them, evenly), a row for each of ``reconstruction_cells``."""
    if len(frames) < 2:
        raise ValueError(f"frames: expected the initial canvas and at least one stroke, got {len(frames)}")
    changes = np.stack([as_array(frame.info["write_patch"][index], "write_patch").mean(0) for frame in frames[1:]])
    limit = float(np.quantile(np.abs(changes), 0.98))                     # black that is made blacker would pale the rest
    shown = sorted({round(t) for t in np.linspace(1, len(frames) - 1, columns)})
    cells = [reconstruction_cells(image, frames[t], index, scale, limit, frames[t - 1]) for t in shown]
    names = list(cells[0])
    return arrange([cell[name] for name in names for cell in cells], len(shown), names, [str(t) for t in shown])


def reconstruction_sheet(images: ArrayLike, frame: Frame, scale: int | None = None, limit: float | None = None) -> Picture:
    """A frame of ``reconstruct`` for all its images: a row an image, a column for each of ``reconstruction_cells``."""
    x = as_array(images, "images")
    if x.ndim != 4 or len(x) != len(frame.images):
        raise ValueError(f"images: expected the {len(frame.images)} images of the frame, (N, C, H, W), got {x.shape}")
    cells = [reconstruction_cells(x[i], frame, i, scale, limit) for i in range(len(x))]
    names = list(cells[0])
    return arrange([cell[name] for cell in cells for name in names], len(names), None, names)


# ── context ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def context_picture(
    seen: ArrayLike, promised: ArrayLike, index: Sequence[int], scale: int | None = None, names: Sequence[str] | None = None
) -> Picture:
    """What one decision sees of the values of an image, beside what its model promises: a panel a channel, with a legend.

    seen, promised: (C, H, W) or (H, W) bool; index: channel, row and column of the decision (row and column for (H, W)); names: of the
    channels. Colours: see ``CONTEXT``.
    """
    sees, promise = as_array(seen, "seen"), as_array(promised, "promised")
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
    if not 0 < fps <= MAX_FPS:
        raise ValueError(f"fps: expected a rate above 0 and up to {MAX_FPS} frames a second, got {fps!r}")
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
    from ..files import write_files

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
