"""Videos: what is known of a video that is to be continued, strips of frames, and animations.

Videos are integer levels (B, T, C, H, W); pictures of them are float in [0, 1], as in ``sheets``. T frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..protocol import ArrayLike, ImageSpec, as_tensor, check_images
from .films import save_animation
from .sheets import Picture, arrange, as_array, as_pictures, tiles, unit_of

FPS = 5  # a video is played at this many frames per second


def check_context(spec: ImageSpec, context: int, what: str = "context") -> None:
    """Raises ``ValueError`` unless the known frames leave something to continue in a video.

    spec: of the model.
    context: number of known frames, 0 … spec.frames − 1.
    what: the name of ``context`` in the message, "context" by default.
    """
    if spec.frames == 1:
        raise ValueError(f"{what}: this model draws still images, there are no frames to go on from; leave it out")
    if isinstance(context, bool) or not isinstance(context, int | np.integer) or not 0 <= context < spec.frames:
        raise ValueError(f"{what}: expected from 0 to {spec.frames - 1} known frames of this model's {spec.frames}, got {context!r}")


def continued(spec: ImageSpec, videos: ArrayLike, context: int) -> tuple[Tensor, Tensor]:
    """Videos to continue after their first ``context`` frames, as ``rastrum.complete`` takes them.

    spec: of the model.
    videos: levels (B, at least ``context`` frames, C, H, W); later frames may be missing, they are not known.
    context: number of known frames, 0 … spec.frames − 1.

    Returns levels (B, *spec.shape), dark where frames are missing, and known (T, 1, 1, 1) bool.
    Raises ``ValueError`` for a context that leaves nothing to continue, and for shorter videos.
    """
    check_context(spec, context)
    return pad_frames(spec, videos, context), first_frames(spec, context)


def first_frames(spec: ImageSpec, context: int) -> Tensor:
    """The mask of the first frames of a video.

    spec: of the model.
    context: number of known frames.

    Returns (T, 1, 1, 1) bool.
    """
    return (torch.arange(spec.frames) < context)[:, None, None, None]


def pad_frames(spec: ImageSpec, videos: ArrayLike, frames: int, what: str = "videos") -> Tensor:
    """Videos with dark frames where they end early.

    spec: of the model.
    videos: integer levels (B, at least ``frames``, C, H, W).
    frames: how many must be there.
    what: how a message begins, "videos" by default.

    Returns levels (B, *spec.shape). Raises ``ValueError`` for shorter videos and for another size or levels.
    """
    x = as_tensor(what, videos)
    if x.dim() != 5 or x.shape[1] < frames:
        have = f"videos of {x.shape[1]} frames" if x.dim() == 5 else f"an array of shape {tuple(x.shape)}"
        raise ValueError(f"{what}: {frames} frames are needed, got {have}; expected (B, at least {frames}, C, H, W)")
    padded = x.new_zeros(len(x), spec.frames, *x.shape[2:])
    padded[:, : x.shape[1]] = x[:, : spec.frames]
    return check_images(spec, padded, what=what)


def surprise_colours(log_probs: ArrayLike, brightest: float | None = None) -> np.ndarray:
    """Surprise as colours, summed over channels.

    log_probs: nats (…, C, H, W), from ``log_prob_map``.
    brightest: the surprise of a pixel, in nats, that is brightest, for one scale of several pictures; None (default): the largest here.

    Returns (…, 3, H, W) in [0, 1].
    """
    from matplotlib import colormaps

    nats = np.minimum(-as_array(log_probs, "log_probs").astype(float).sum(-3), 1e6)       # infinite at a level of no probability
    return np.moveaxis(colormaps["magma"](nats / max(nats.max(initial=0.0) if brightest is None else brightest, 1e-9))[..., :3], -1, -3)


def film_strips(
    videos: ArrayLike,
    row_labels: Sequence[str] | None = None,
    context: int = 0,
    scale: int | None = None,
    unit: float | None = None,
) -> Picture:
    """A row per video, a numbered column per frame.

    videos: (N, T, C, H, W) in [0, 1].
    row_labels: one per video; None (default) for none.
    context: how many first frames are marked as known, 0 by default.
    scale: enlargement; None (default): to about 64 points.
    unit: of gutters and labels; None (default): in proportion to the images.
    """
    x = as_pictures(videos, "videos")
    frames = [f"{t + 1}, known" if t < context else str(t + 1) for t in range(x.shape[1])]
    unit = unit_of(scale, *x.shape[-2:]) if unit is None else unit
    return arrange(tiles(x.reshape(-1, *x.shape[2:]), scale), x.shape[1], row_labels, frames, unit)


def animate_rows(
    videos: Sequence[ArrayLike], labels: Sequence[str], scale: int | None = None, unit: float | None = None
) -> Iterator[Picture]:
    """The pictures of an animation, one per frame: videos side by side, in N rows.

    videos: each (N, T, C, H, W) in [0, 1].
    labels: one for each of ``videos``.
    scale, unit: as for ``film_strips``.

    Raises ``ValueError`` for videos of different N or T.
    """
    arrays = [as_pictures(video, "videos") for video in videos]
    if len({array.shape[:2] for array in arrays}) != 1:
        raise ValueError(f"videos: expected as many videos and frames of each, got {[array.shape[:2] for array in arrays]}")
    count, frames = arrays[0].shape[:2]
    unit = unit_of(scale, *arrays[0].shape[-2:]) if unit is None else unit
    for t in range(frames):
        columns = [tiles(array[:, t], scale) for array in arrays]
        names = [f"{name}\nframe {t + 1}" if i == 0 else f"{name}\n" for i, name in enumerate(labels)]
        yield arrange([column[n] for n in range(count) for column in columns], len(arrays), None, names, unit)


def animate_grid(
    videos: ArrayLike, columns: int | None = None, scale: int | None = None, unit: float | None = None
) -> Iterator[Picture]:
    """The pictures of an animation, one per frame: all videos in a grid.

    videos: (N, T, C, H, W) in [0, 1].
    columns: videos per row; None (default): about a square.
    scale, unit: as for ``film_strips``.
    """
    x = as_pictures(videos, "videos")
    unit = unit_of(scale, *x.shape[-2:]) if unit is None else unit
    for t in range(x.shape[1]):
        yield arrange(tiles(x[:, t], scale), math.ceil(math.sqrt(len(x))) if columns is None else columns, unit=unit)


def save_video(pictures: Iterable[Picture], path: str | Path, fps: float = FPS) -> None:
    """Writes an animation that plays and starts again without a pause; an .mp4 ends, and holds its last frame.

    pictures: one per frame, of one size.
    path: as for ``save_animation``.
    fps: frames per second, ``FPS`` by default.
    """
    save_animation(pictures, path, fps, last_hold(path, fps))


def last_hold(path: str | Path, fps: float) -> float:
    """Seconds that the last frame of a video stays: as long as the others where it plays again by itself, 2 in an .mp4, which ends.

    path: of the file.
    fps: frames per second, above 0.
    """
    return 2.0 if Path(path).suffix.lower() == ".mp4" else 1 / fps
