"""Pictures of a walk, frame by frame: what is decided, where a model reads and writes. films.py makes files of them.

Images, colours and hatching are those of ``sheets``. Shapes: N images, C channels, H, W height and width; B images of a frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from ..protocol import ArrayLike, Frame
from .films import encode_animation as encode_animation
from .films import save_animation as save_animation
from .sheets import GREEN, Picture, arrange, as_array, as_pictures, draw_window, image_scale, signed_strokes, tiles, unit_of

# ── frames of a walk ─────────────────────────────────────────────────────────────────────────────────────────────────────


def frame_tiles(frame: Frame, scale: int | None = None, order: ArrayLike | None = None) -> list[Picture]:
    """Each image of a frame, its window in green.

    frame: of a walk, B images with 1 or 3 channels.
    scale: enlargement; None: to about ``USUAL_SIDE`` points.
    order: of a raster model's decisions (D,): what is neither known nor decided yet is hatched.
    """
    known = None
    if order is not None:
        indices = as_array(order, "order")
        shape = tuple(frame.images.shape[1:])
        decided = np.zeros(math.prod(shape), bool)
        if indices.shape != decided.shape:
            raise ValueError(f"order: expected {decided.size} decisions for images of {shape}, got {indices.shape}")
        decided[indices[: round(frame.fraction * len(indices))]] = True
        known = decided.reshape(shape) | as_array(frame.info.get("known", np.zeros(shape, bool)), "known")
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
    unit: float | None = None,
) -> Picture:
    """The images of a frame in a grid, drawn as ``frame_tiles`` does.

    frame: of a walk, B images with 1 or 3 channels.
    columns: images per row; None (default): about a square.
    scale, order: as for ``frame_tiles``.
    unit: of the gutters; None (default): in proportion to the images.
    """
    unit = unit_of(scale, *frame.images.shape[-2:]) if unit is None else unit
    return arrange(frame_tiles(frame, scale, order), columns, unit=unit)


def reconstruction_cells(
    image: ArrayLike, frame: Frame, index: int, scale: int | None = None, limit: float | None = None, before: Frame | None = None
) -> dict[str, Picture]:
    """Pictures of one step of ``reconstruct``, by name: input, glimpse, error glimpse, write patch, canvas.

    image: (C, H, W) in [0, 1], number ``index`` of the frame.
    frame: of ``reconstruct``.
    index: which of the frame's images.
    scale: enlargement; None (default): to about ``USUAL_SIDE`` points.
    limit: the change of the canvas that has full colour; None (default): the largest.
    before: the frame before; a model without attention has no glimpses, then the error of that canvas is shown: what the image has more
        (blue) or less (orange) than the canvas. Default None.
    """
    x = as_pictures(image, "image")[None]
    scale = image_scale(scale, *x.shape[2:])
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
    image: ArrayLike,
    frames: Sequence[Frame],
    index: int,
    scale: int | None = None,
    columns: int = 12,
    unit: float | None = None,
) -> Picture:
    """How one image is redrawn: a column per stroke, a row for each of ``reconstruction_cells``.

    image: (C, H, W) in [0, 1], number ``index`` of the frames.
    frames: of ``reconstruct``, the initial canvas first.
    index: which of the frames' images.
    scale: enlargement; None (default): to about ``USUAL_SIDE`` points.
    columns: at most so many, evenly spaced; 12 by default.
    unit: of gutters and labels; None (default): in proportion to the images.

    Raises ``ValueError`` for fewer than two frames.
    """
    if len(frames) < 2:
        raise ValueError(f"frames: expected the initial canvas and at least one stroke, got {len(frames)}")
    limit = stroke_limit(frames[1:], index)
    shown = sorted({round(t) for t in np.linspace(1, len(frames) - 1, columns)})
    cells = [reconstruction_cells(image, frames[t], index, scale, limit, frames[t - 1]) for t in shown]
    names = list(cells[0])
    unit = unit_of(scale, *np.shape(image)[-2:]) if unit is None else unit
    return arrange([cell[name] for name in names for cell in cells], len(shown), names, [str(t) for t in shown], unit)


def stroke_limit(frames: Sequence[Frame], index: int | slice = slice(None)) -> float:
    """The change of the canvas that has full colour: the largest but for 2 %, or strokes that make black blacker leave the others pale.

    frames: of ``reconstruct``, without the initial canvas.
    index: which of the frames' images; all by default.
    """
    changes = np.stack([as_array(frame.info["write_patch"], "write_patch")[index].mean(-3) for frame in frames])
    return float(np.quantile(np.abs(changes), 0.98))


def reconstruction_sheet(
    images: ArrayLike, frame: Frame, limit: float | None = None, scale: int | None = None, unit: float | None = None
) -> Picture:
    """A frame of ``reconstruct``: a row per image, a column for each of ``reconstruction_cells``.

    images: (N, C, H, W) in [0, 1].
    frame: of ``reconstruct``, with these images.
    limit: the change of the canvas that has full colour; None (default): the largest.
    scale: enlargement; None (default): to about ``USUAL_SIDE`` points.
    unit: of gutters and labels; None (default): in proportion to the images.

    Raises ``ValueError`` for images that are not those of the frame.
    """
    x = as_pictures(images, "images")
    if x.ndim != 4 or len(x) != len(frame.images):
        raise ValueError(f"images: expected the {len(frame.images)} images of the frame, (N, C, H, W), got {x.shape}")
    cells = [reconstruction_cells(x[i], frame, i, scale, limit) for i in range(len(x))]
    names, unit = list(cells[0]), unit_of(scale, *x.shape[-2:]) if unit is None else unit
    return arrange([cell[name] for cell in cells for name in names], len(names), None, names, unit)
