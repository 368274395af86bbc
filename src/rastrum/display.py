"""Pictures of whatever the library gives, for notebooks and scripts: ``show`` and ``animate``.

    rastrum.show(rastrum.sample(model, 16))                       a sheet
    rastrum.show(x, levels=2).save("x.png")                       levels of your own
    rastrum.animate(rastrum.generate(model, 16)).save("x.gif")    pixels that are not decided yet are hatched

Levels and pictures go together: ``Images`` know their levels, ``spec.pictures(levels)`` and ``spec.levels_of(pictures)`` change one into
the other, and everything that draws takes both.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from functools import singledispatch
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .data.dataset import Dataset, load_dataset
from .images import Images
from .model import Model
from .notebook import safe
from .pictures.animations import frame_tiles, reconstruction_sheet, stroke_limit
from .pictures.films import check_rate, save_animation
from .pictures.player import player_html
from .pictures.sheets import LETTERS, PAPER, TEXT, Picture, arrange, font, image_scale, tiles, titled, unit_of
from .progress import Progress, bar
from .protocol import ArrayLike, Frame, ImageSpec

MOST = 64                      # images of a sheet, unless more are asked for
POINTS = 2_000_000             # pixels of the images of a notebook's own sheet
CONTROLS = 320                 # pixels of width for the buttons of a player

Levels: TypeAlias = int | ImageSpec | Model | None
Shown: TypeAlias = Any         # what ``show`` takes; see there


@dataclass
class Sheet:
    """Cells of a sheet that is to be drawn.

    cells: pictures.
    total: how many images there are, of which the first are shown.
    columns: cells in a row, frames or completions of an image; None for about a square of single images.
    numbered: whether the columns are numbered, as frames of videos are.
    labels: below the cells, if any.
    unit: of letters and gutters, as for ``arrange``.
    """

    cells: list[Picture]
    total: int
    columns: int | None = None
    numbered: bool = False
    labels: Sequence[str] = ()
    unit: float = 1.0

    def page(self, columns: int | None = None, row_labels: Sequence[str] | None = None, title: str = "", note: str = "") -> Picture:
        """The cells in a grid, with a line below that says how many more there are.

        columns: in place of its own; None (default) for those.
        row_labels: left of the rows; None (default) for none.
        title: above; "" (default) for none.
        note: below; "" (default) for none.
        """
        cells = self.cells
        if self.labels:
            cells = [_captioned(cell, label, self.unit) for cell, label in zip(cells, self.labels, strict=False)]
        names = [str(n + 1) for n in range(self.columns)] if self.numbered and self.columns and columns is None else None
        page = arrange(cells, self.columns if columns is None else columns, row_labels, names, self.unit)
        each, what = (self.columns, "videos") if self.numbered and self.columns else (1, "images")
        more = f"{len(cells) // each:,} of {self.total // each:,} {what}" if self.total > len(cells) else ""
        return titled(_captioned(page, ", ".join(part for part in (more, note) if part), self.unit), title, self.unit)


def show(
    x: Shown,
    levels: Levels = None,
    *,
    columns: int | None = None,
    scale: int | None = None,
    labels: Sequence[Any] | None = None,
    title: str = "",
    most: int | None = MOST,
) -> Picture:
    """A picture of images, which a notebook shows by itself; in a script, ``show(x).save("x.png")``.

    x: one of
        - what ``sample``, ``complete`` and ``decompress`` return, or ``Images``; several completions of an image stand in a row, and so do
          the frames of a video;
        - levels of your own, (H, W), (C, H, W), (N, C, H, W) or (N, K, C, H, W), torch or numpy, with ``levels``;
        - pictures of these shapes, floats in [0, 1];
        - a Frame; a Dataset; a PIL picture; the path of an image, a folder or an array, or the name of a data set; or a list of these.
    levels: how many levels integers have; or the model or ImageSpec that they are for. Default: what ``Images`` know.
    columns: images per row; None (default): about a square.
    scale: enlargement; None (default): to about 64 points.
    labels: one per image, below it; None (default): the classes of a Dataset, else none.
    title: above the sheet; "" (default) for none.
    most: at most so many images, 64 by default; a line says how many more there are. None for all.

    Raises ``ValueError`` for integers without their number of levels, values out of range, and channels other than 1 or 3.
    """
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise ValueError(f"most: expected a whole number of at least 1, or None for all, got {most!r}")
    sheet = _sheet(x, levels, scale, most)
    if not sheet.cells:
        raise ValueError("show: there is no image")
    if scale is not None:
        cell = sheet.cells[0]
        sheet.unit = unit_of(scale, cell.height // scale, cell.width // scale)
    row_labels = None
    if labels is not None:
        texts, rows = [" ".join(str(label).split()) for label in labels], sheet.total // (sheet.columns or sheet.total)
        if len(texts) == rows != sheet.total and sheet.columns and columns is None:
            row_labels = texts[: len(sheet.cells) // sheet.columns]
        elif len(texts) == sheet.total:
            sheet.labels = texts
        else:
            each = f"{sheet.total}, one per image" + (f", or {rows}, one per row" if sheet.columns else "")
            raise ValueError(f"labels: expected {each}, got {len(texts)}")
    return sheet.page(columns, row_labels, " ".join(str(title).split()))


def _sheet(x: Shown, levels: Levels, scale: int | None, most: int | None) -> Sheet:
    """The first ``most`` images of x as cells."""
    if isinstance(x, str | Path):
        x = _read(x)
    if isinstance(x, Dataset):
        sheet = _array_sheet(x.images, None, scale, most)
        if x.labels is not None and x.spec.frames == 1:
            shown = x.labels[: len(sheet.cells)].tolist()
            sheet.labels = [x.class_names[label][:20] if x.class_names else str(label) for label in shown]
        return sheet
    if isinstance(x, Frame):
        return _frame_sheet(x, levels, scale, most)
    if isinstance(x, Image.Image):
        return Sheet([_enlarged(x, scale)], 1)
    if isinstance(x, Tensor | np.ndarray):
        return _array_sheet(x, levels, scale, most)
    if isinstance(x, Iterable) and not isinstance(x, Mapping):
        cells, total = [], 0
        for each in x:
            left = None if most is None else max(0, most - len(cells))
            part = _sheet(each, levels, scale, left)
            cells, total = cells + part.cells[:left], total + part.total
        return Sheet(cells, total)
    raise ValueError(f"show: expected images, a Frame, a Dataset, a picture, a path or a list of them, got {type(x).__name__}")


def _read(name: str | Path) -> Dataset:
    """A data set by its name or path; of one that has no "all", the training images."""
    from .data.sources import NAMES, as_path

    path = as_path(str(name))
    if path is None and str(name) not in NAMES and ":" not in str(name):
        raise ValueError(f"show: there is no file and no data set {str(name)!r}")
    return load_dataset(str(name), "train" if path is None else "all")


def _enlarged(picture: Picture, scale: int | None) -> Picture:
    """On white where it is transparent."""
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    if picture.mode.startswith(("I", "F")):
        raise ValueError(f"show: a PIL picture of mode {picture.mode!r} does not say what its values mean; give an array with levels=65536")
    times = image_scale(scale, picture.height, picture.width)
    return picture.convert("RGB").resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


def _pictures(x: ArrayLike, levels: Levels) -> Tensor | np.ndarray | Images:
    """Images with their levels, or floats in [0, 1]; (…, C, H, W)."""
    video = isinstance(levels, ImageSpec | Model) and _spec(levels).frames > 1
    if isinstance(x, Images):
        return x
    values = torch.as_tensor(np.ascontiguousarray(x) if isinstance(x, np.ndarray) else x)
    values = values[None] if values.dim() == 2 else values
    if values.is_floating_point():
        return values.float()
    number = 2 if values.dtype == torch.bool and levels is None else _number(levels)
    if number is None:
        raise ValueError(
            f"show: these are integers ({values.dtype}); how many levels have they? Give levels=2 for black and white, 256 for 8 bits, "
            "or the model or ImageSpec that they are for"
        )
    return Images(values, number, video and values.dim() >= 4)


def _spec(levels: ImageSpec | Model) -> ImageSpec:
    return levels if isinstance(levels, ImageSpec) else levels.spec


def _number(levels: Levels) -> int | None:
    return _spec(levels).levels if isinstance(levels, ImageSpec | Model) else levels


def _array_sheet(x: ArrayLike, levels: Levels, scale: int | None, most: int | None) -> Sheet:
    shown = _pictures(x, levels)
    video = shown.video if isinstance(shown, Images) else isinstance(levels, ImageSpec | Model) and _spec(levels).frames > 1
    shape = tuple(shown.shape)
    if len(shape) < 3 or shape[-3] not in (1, 3):
        last = len(shape) > 2 and shape[-1] in (1, 3)
        hint = "; channels come first, np.moveaxis(x, -1, -3)" if last else "; x[:, None] adds their axis" if len(shape) == 3 else ""
        raise ValueError(f"show: expected (H, W), (C, H, W) or (N, C, H, W) with 1 or 3 channels, got {shape}{hint}")
    if len(shape) == 3 or (len(shape) == 4 and not video):                # images one by one
        first = _reshaped(shown, (-1, *shape[-3:])) if len(shape) == 3 else shown if most is None else shown[:most]
        return Sheet(tiles(first, scale) if len(first) else [], len(shown) if len(shape) == 4 else 1)
    total, columns = math.prod(shape[:-3]), shape[-4]                     # a row for each
    if not total:
        return Sheet([], 0)
    flat = _reshaped(shown, (-1, *shape[-3:]))
    cells = tiles(flat if most is None else flat[: max(1, most // columns) * columns], scale)
    return Sheet(cells, total, columns, video)


def _reshaped(x: Any, shape: tuple[int, ...]) -> Any:
    return Images(x.plain.reshape(shape), x.levels) if isinstance(x, Images) else x.reshape(shape)


def _frame_sheet(frame: Frame, levels: Levels, scale: int | None, most: int | None) -> Sheet:
    """The images of a frame, what is not decided hatched, windows outlined."""
    total = len(frame.images)
    each = frame.images.shape[1] if frame.images.dim() == 5 else 1
    frame = _first(frame, total if most is None else max(1, most // each))
    order = frame.info.get("order", getattr(levels, "order", None) if isinstance(levels, Model) else None)
    if frame.images.dim() == 4:
        return Sheet(frame_tiles(frame, scale, order) if len(frame.images) else [], total)
    images, times = frame.images, frame.images.shape[1]
    known = None
    if order is not None:
        decided = torch.zeros(images[0].numel(), dtype=torch.bool)
        decided[torch.as_tensor(order).cpu()[: round(frame.fraction * len(decided))]] = True
        known = decided.view(images.shape[1:]) | torch.as_tensor(frame.info.get("known", False)).cpu()
        known = known.expand(images.shape).flatten(0, 1)
    return Sheet(tiles(images.flatten(0, 1), scale, known), total * times, times, True)


def _first(frame: Frame, count: int) -> Frame:
    """The first images of a frame."""
    if count >= len(frame.images):
        return frame
    known = frame.info.get("known")
    info = dict(frame.info)
    if isinstance(known, Tensor) and known.dim() == frame.images.dim() and len(known) == len(frame.images):
        info["known"] = known[:count]
    window = None if frame.window is None else frame.window[:count]
    return replace(frame, images=frame.images[:count], values=None, window=window, info=info)


def _captioned(picture: Picture, text: str, unit: float) -> Picture:
    """A picture with a line of text below it; unit: as for ``arrange``."""
    if not text:
        return picture
    type_face, room = font(round(LETTERS * unit)), round(5 * unit)
    width = max(picture.width, math.ceil(type_face.getlength(text)) + 2 * room)
    step = round(1.8 * LETTERS * unit)
    page = Image.new("RGB", (width, picture.height + step), PAPER)
    page.paste(picture, ((width - picture.width) // 2, 0))
    ImageDraw.Draw(page).text((width / 2, picture.height + step / 2), text, TEXT, type_face, anchor="mm")
    return page


# ── what a notebook shows by itself ──────────────────────────────────────────────────────────────────────────────────────


@singledispatch
def own_picture(value: Any) -> Picture | None:
    """The picture that an object shows of itself in a notebook, quickly: at most 64 images, fewer or smaller ones if they are large.

    value: ``Images``, a Frame or a Dataset.

    Returns None for what has no picture, such as images of two channels.
    """
    return None


@own_picture.register
def _(value: Images) -> Picture | None:
    return _quick(value, value.shape)


@own_picture.register
def _(value: Frame) -> Picture | None:
    return _quick(value, value.images.shape)


@own_picture.register
def _(value: Dataset) -> Picture | None:
    return _quick(value, value.images.shape)


def _quick(value: Any, shape: Sequence[int]) -> Picture | None:
    channels, height, width = shape[-3:]
    if channels not in (1, 3) or 0 in shape:
        return None
    room = max(1, POINTS // (height * width * image_scale(None, height, width) ** 2))
    sheet = _sheet(value, None, None, min(MOST, room))
    times = math.ceil(math.sqrt(height * width / POINTS))                 # of one image that is too large
    if times > 1:
        sheet.cells = [cell.reduce(times) for cell in sheet.cells]
    return sheet.page(note=f"at 1/{times} of the size" if times > 1 else "")


def png_of(value: Any) -> bytes | None:
    """``own_picture`` as the bytes of a PNG file.

    value: an object.
    """
    picture = own_picture(value)
    if picture is None:
        return None
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


# ── animations ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Animation:
    """Pictures that follow each other: a notebook shows a player that can be paused and stepped.

    pictures: one per frame, of one size.
    fps: frames per second.
    title: what is shown, in words.
    """

    pictures: tuple[Picture, ...]
    fps: float = 8
    title: str = ""

    def save(self, path: str | Path) -> None:
        """Write a file.

        path: its ending says which kind, such as .gif.

        Raises ``ValueError`` for another ending, ``OSError`` where writing fails.
        """
        save_animation(self.pictures, path, self.fps)

    def __len__(self) -> int:
        return len(self.pictures)

    def __repr__(self) -> str:
        width, height = self.pictures[0].size
        return f"Animation({len(self)} pictures of {width}x{height}, {self.fps:g} per second)"

    @safe
    def _repr_html_(self) -> str:
        width = max(self.pictures[0].width, CONTROLS)                     # not larger than it is: it would blur
        return f'<div style="max-width: {width}px">{player_html(self.pictures, self.fps, self.title)}</div>'


def animate(
    frames: Any,
    levels: Levels = None,
    *,
    images: ArrayLike | None = None,
    fps: float = 8,
    columns: int | None = None,
    scale: int | None = None,
    title: str = "",
    most: int | None = MOST,
    progress: Progress = None,
) -> Animation:
    """An animation, which a notebook plays; ``.save("x.gif")`` writes it.

    frames: one of
        - what ``generate``, ``complete_frames`` or ``reconstruct`` yields, or a list of Frames: what a raster model has not decided yet is
          hatched, a canvas model's strokes are outlined;
        - videos, (T, C, H, W) or (N, T, C, H, W), or a Dataset of them, as ``Images``, floats in [0, 1], or levels with ``levels``;
        - anything else that yields pictures or what ``show`` takes, of one size.
    levels: how many levels integers have; or the model or ImageSpec that they are for.
    images: of ``reconstruct``, the images that are redrawn, levels or pictures: each then has a row with what is read and written. Default:
        only the canvases are shown.
    fps: frames per second, 8 by default.
    columns, scale: of the images in a picture, as for ``show``.
    title: above the pictures, "" (default) for none.
    most: at most so many images in a picture, 64 by default; None for all.
    progress: a bar; None (default): in a terminal or a notebook after two seconds, True: at once, False: never; or a function that is
        called with the fraction done.

    Raises ``ValueError`` for no frames, and as ``show`` does.
    """
    check_rate(fps, 0)
    for option, value in (("columns", columns), ("scale", scale)):
        if images is not None and value is not None:
            raise ValueError(f"{option}: with images=… each has a row of what is read and written; leave it out")
    with bar("drawing", 1.0, "", progress) as report:

        def counted(found: Iterable[Any], total: int | None) -> Iterator[Any]:
            for done, each in enumerate(found, 1):
                yield each
                fraction = each.fraction if isinstance(each, Frame) else done / total if total else 0.0
                report(fraction)

        steps = _steps(frames, levels)
        steps = counted(steps, len(steps) if isinstance(steps, Sized) else None)
        if images is not None:
            pictures = [titled(picture, title) for picture in _reconstruction(images, levels, list(steps), most)]
        else:
            pictures = [show(each, levels, columns=columns, scale=scale, title=title, most=most) for each in steps]
    if not pictures:
        raise ValueError("animate: there is no frame; a generator that was read to its end is empty, make it again")
    if len({picture.size for picture in pictures}) > 1:
        raise ValueError(f"animate: expected frames of one size, got {sorted({picture.size for picture in pictures})}")
    return Animation(tuple(pictures), fps, title)


def _steps(frames: Any, levels: Levels) -> Iterable[Any]:
    """One thing to show after another."""
    if isinstance(frames, Dataset):
        frames = frames.images
    if isinstance(frames, Tensor | np.ndarray):
        x = _pictures(frames, levels)
        if x.ndim not in (4, 5):
            raise ValueError(f"animate: expected videos, (T, C, H, W) or (N, T, C, H, W), got {tuple(x.shape)}")
        return [x[:, t] if x.ndim == 5 else x[t] for t in range(x.shape[-4])]
    if isinstance(frames, Frame | Model | str | Path | Image.Image) or not isinstance(frames, Iterable):
        got = type(frames).__name__
        raise ValueError(f"animate: expected Frames such as rastrum.generate(model, 16), videos or a list of pictures, got {got}")
    return frames


def _reconstruction(images: ArrayLike, levels: Levels, frames: Sequence[Frame], most: int | None) -> list[Picture]:
    """What is read and written, a row per image, of the first ``most``."""
    if not all(isinstance(frame, Frame) and "write_patch" in frame.info for frame in frames[1:]):
        raise ValueError("images: it goes with the Frames of rastrum.reconstruct; leave it out")
    x = _pictures(images, levels)
    target = x.pictures() if isinstance(x, Images) else x
    limit = stroke_limit(frames[1:]) if frames[1:] else 1.0
    return [reconstruction_sheet(target[:most], frame if most is None else _first(frame, most), limit) for frame in frames[1:]]
