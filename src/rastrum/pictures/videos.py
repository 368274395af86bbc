"""Videos to look at, and to go on from: what is known of a video that is to be continued, strips of frames, and animations of them.

Videos are integer levels (B, T, C, H, W), T frames; pictures of them are float in [0, 1], as everywhere in ``pictures.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..protocol import ArrayLike, ImageSpec, as_tensor, check_images
from .sheets import Picture, arrange, as_array, tiles

PLAY = 5                       # frames a second


def check_context(spec: ImageSpec, context: int, what: str = "context") -> None:
    """``ValueError`` unless ``context`` first frames leave something to continue in a video of ``spec``."""
    if spec.frames == 1:
        raise ValueError(f"{what}: this model draws still images, there are no frames to go on from; leave it out")
    if isinstance(context, bool) or not isinstance(context, int | np.integer) or not 0 <= context < spec.frames:
        raise ValueError(f"{what}: expected from 0 to {spec.frames - 1} known frames of this model's {spec.frames}, got {context!r}")


def continued(spec: ImageSpec, videos: ArrayLike, context: int, what: str = "context") -> tuple[Tensor, Tensor]:
    """Videos (B, at least ``context`` frames, C, H, W) as ``rastrum.complete`` takes them.

    → levels (B, *spec.shape) and known (T, 1, 1, 1) bool. Frames behind the context, which are not known, are taken where there
    are some, else they are dark.
    Raises ``ValueError`` for a context that leaves nothing to continue, and for videos that are shorter.
    """
    check_context(spec, context, what)
    return pad_frames(spec, videos, context), first_frames(spec, context)


def first_frames(spec: ImageSpec, context: int) -> Tensor:
    """Known where the first ``context`` frames are: (T, 1, 1, 1) bool."""
    return (torch.arange(spec.frames) < context)[:, None, None, None]


def pad_frames(spec: ImageSpec, videos: ArrayLike, frames: int, what: str = "videos") -> Tensor:
    """Videos (B, at least ``frames``, C, H, W) → levels (B, *spec.shape): the frames that they have, and dark ones behind them.

    Raises ``ValueError`` for videos that are shorter, or of another size or levels.
    """
    x = as_tensor(what, videos)
    if x.dim() != 5 or x.shape[1] < frames:
        have = f"videos of {x.shape[1]} frames" if x.dim() == 5 else f"an array of shape {tuple(x.shape)}"
        raise ValueError(f"{what}: {frames} frames are needed, got {have}; expected (B, at least {frames}, C, H, W)")
    whole = x.new_zeros(len(x), spec.frames, *x.shape[2:])
    whole[:, : x.shape[1]] = x[:, : spec.frames]
    return check_images(spec, whole, what=what)


def surprise_colours(log_probs: ArrayLike, limit: float | None = None) -> np.ndarray:
    """Surprise as colours: nats (…, C, H, W) of ``log_prob_map`` → (…, 3, H, W) in [0, 1].

    Channels are added up; the brightest is ``limit`` nats (None: the largest there are).
    """
    from matplotlib import colormaps

    nats = np.minimum(-as_array(log_probs, "log_probs").astype(float).sum(-3), 1e6)       # a level of no probability: infinite
    largest = float(nats.max(initial=0.0)) if limit is None else limit
    return np.moveaxis(colormaps["magma"](nats / max(largest, 1e-9))[..., :3], -1, -3)


def film_strips(videos: ArrayLike, row_labels: Sequence[str] | None = None, scale: int | None = None, context: int = 0) -> Picture:
    """A row a video, (N, T, C, H, W) in [0, 1], a column a frame, numbered; the first ``context`` are marked as known."""
    x = as_array(videos, "videos")
    frames = [f"{t + 1}, known" if t < context else str(t + 1) for t in range(x.shape[1])]
    return arrange(tiles(x.reshape(-1, *x.shape[2:]), scale), x.shape[1], row_labels, frames)


def animate_rows(videos: Sequence[ArrayLike], labels: Sequence[str] | None = None, scale: int | None = None) -> Iterator[Picture]:
    """Pictures of an animation, one a frame: videos (N, T, C, H, W) in [0, 1] side by side, a row each of the N, named by ``labels``."""
    arrays = [as_array(each, "videos") for each in videos]
    if len({(each.shape[0], each.shape[1]) for each in arrays}) != 1:
        raise ValueError(f"videos: expected as many videos and frames of each, got {[each.shape[:2] for each in arrays]}")
    count, frames = arrays[0].shape[:2]
    for t in range(frames):
        columns = [tiles(each[:, t], scale) for each in arrays]
        names = None if labels is None else [f"{name}\nframe {t + 1}" if not i else f"{name}\n" for i, name in enumerate(labels)]
        yield arrange([column[n] for n in range(count) for column in columns], len(arrays), None, names)


def animate_grid(videos: ArrayLike, columns: int | None = None, scale: int | None = None) -> Iterator[Picture]:
    """Pictures of an animation, one a frame: all videos (N, T, C, H, W) in [0, 1], in rows of ``columns`` (None: about a square)."""
    x = as_array(videos, "videos")
    for t in range(x.shape[1]):
        yield arrange(tiles(x[:, t], scale), math.ceil(math.sqrt(len(x))) if columns is None else columns)
