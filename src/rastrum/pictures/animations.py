"""Pictures of a walk, frame by frame, and GIF files of them: what is decided, where a model reads and writes.

Images, colours and hatching are those of ``sheets``. Shapes: N images, C channels, H, W height and width; B images of a frame.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..protocol import ArrayLike, Frame
from .sheets import GREEN, Picture, arrange, as_array, draw_window, image_scale, signed_strokes, tiles, write_picture

MAX_FPS = 50  # viewers slow down a GIF that asks for more


# ── frames of a walk ─────────────────────────────────────────────────────────────────────────────────────────────────────


def frame_tiles(frame: Frame, scale: int | None = None, order: ArrayLike | None = None) -> list[Picture]:
    """Each image of a frame, its window in green.

    frame: of a walk, B images with 1 or 3 channels.
    scale: enlargement; None: to about ``CELL`` points.
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


def frame_sheet(frame: Frame, columns: int | None = None, scale: int | None = None, order: ArrayLike | None = None) -> Picture:
    """The images of a frame in a grid, drawn as ``frame_tiles`` does.

    frame: of a walk, B images with 1 or 3 channels.
    columns: images per row; None (default): about a square.
    scale, order: as for ``frame_tiles``.
    """
    return arrange(frame_tiles(frame, scale, order), columns)


def reconstruction_cells(
    image: ArrayLike, frame: Frame, index: int, scale: int | None = None, limit: float | None = None, before: Frame | None = None
) -> dict[str, Picture]:
    """Pictures of one step of ``reconstruct``, by name: input, glimpse, error glimpse, write patch, canvas.

    image: (C, H, W) in [0, 1], number ``index`` of the frame.
    frame: of ``reconstruct``.
    index: which of the frame's images.
    scale: enlargement; None (default): to about ``CELL`` points.
    limit: the change of the canvas that has full colour; None (default): the largest.
    before: the frame before; a model without attention has no glimpses, then the error of that canvas is shown: what the image has more
        (blue) or less (orange) than the canvas. Default None.
    """
    x = as_array(image, "image")[None]
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
    image: ArrayLike, frames: Sequence[Frame], index: int, scale: int | None = None, columns: int = 12
) -> Picture:
    """How one image is redrawn: a column per stroke, a row for each of ``reconstruction_cells``.

    image: (C, H, W) in [0, 1], number ``index`` of the frames.
    frames: of ``reconstruct``, the initial canvas first.
    index: which of the frames' images.
    scale: enlargement; None (default): to about ``CELL`` points.
    columns: at most so many, evenly spaced; 12 by default.

    Raises ``ValueError`` for fewer than two frames.
    """
    if len(frames) < 2:
        raise ValueError(f"frames: expected the initial canvas and at least one stroke, got {len(frames)}")
    changes = np.stack([as_array(frame.info["write_patch"][index], "write_patch").mean(0) for frame in frames[1:]])
    limit = float(np.quantile(np.abs(changes), 0.98))                     # else strokes that make black blacker leave the others pale
    shown = sorted({round(t) for t in np.linspace(1, len(frames) - 1, columns)})
    cells = [reconstruction_cells(image, frames[t], index, scale, limit, frames[t - 1]) for t in shown]
    names = list(cells[0])
    return arrange([cell[name] for name in names for cell in cells], len(shown), names, [str(t) for t in shown])


def reconstruction_sheet(images: ArrayLike, frame: Frame, limit: float | None = None) -> Picture:
    """A frame of ``reconstruct``: a row per image, a column for each of ``reconstruction_cells``.

    images: (N, C, H, W) in [0, 1].
    frame: of ``reconstruct``, with these images.
    limit: the change of the canvas that has full colour; None (default): the largest.

    Raises ``ValueError`` for images that are not those of the frame.
    """
    x = as_array(images, "images")
    if x.ndim != 4 or len(x) != len(frame.images):
        raise ValueError(f"images: expected the {len(frame.images)} images of the frame, (N, C, H, W), got {x.shape}")
    cells = [reconstruction_cells(x[i], frame, i, None, limit) for i in range(len(x))]
    names = list(cells[0])
    return arrange([cell[name] for cell in cells for name in names], len(names), None, names)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def encode_animation(pictures: Iterable[Picture], fps: float = 8, hold: float = 2.0) -> bytes:
    """Pictures of one size as the bytes of a GIF file that loops.

    pictures: one per frame.
    fps: frames per second, up to 50.
    hold: seconds that the last picture stays.

    All frames share one palette, exact up to 255 colours; what does not change is stored once.
    Raises ``ValueError`` for no pictures, pictures of different sizes, or a rate outside 0 … 50.
    """
    frames = indexed(check_animation(pictures, fps, hold))
    step = max(20, round(100 / fps) * 10)
    durations = [step] * (len(frames) - 1) + [max(step, round(100 * hold) * 10)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True, disposal=1)
    return file.getvalue()


def check_animation(pictures: Iterable[Picture], fps: float, hold: float) -> list[Picture]:
    """The frames of an animation in RGB.

    pictures: one per frame, of one size.
    fps: frames per second, up to 50.
    hold: seconds that the last picture stays.

    Raises ``ValueError`` for no pictures, pictures of different sizes, or a rate outside 0 … 50.
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
    return frames


def indexed(frames: Sequence[Picture]) -> list[Picture]:
    """Frames with a common palette: their own colours, rounded to fewer bits until 255 are enough, or else the best 255 of a sample.

    frames: in RGB.
    """
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


def save_animation(pictures: Iterable[Picture], path: str | Path, fps: float = 8, hold: float = 2.0) -> None:
    """Writes a GIF as ``encode_animation`` makes it.

    pictures: one per frame, of one size.
    path: ends in .gif, else ``ValueError``.
    fps: frames per second, up to 50; 8 by default.
    hold: seconds that the last picture stays, 2 by default.
    """
    write_picture(path, ".gif", encode_animation(pictures, fps, hold))
