"""Preprocessing: what ``DataOptions`` do to images, as functions of arrays. numpy's RandomState gives a stream that never changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..config import DataOptions
from .moving_digits import PATHS


def check_options(options: DataOptions) -> None:
    """Raises ``ValueError`` naming a value of ``options`` that is out of range."""
    at_least_one = {"size": options.size, "crop": options.crop, "frames": options.frames, "limit": options.limit,
                    "exemplars": options.exemplars}  # fmt: skip
    for name, value in at_least_one.items():
        if value is not None and value < 1:
            raise ValueError(f"data: {name} must be at least 1, got {value}")
    if options.levels is not None and not 2 <= options.levels <= 65536:
        raise ValueError(f"data: levels must be between 2 and 65536, got {options.levels}")
    if options.framed and options.size is None:
        raise ValueError("data: framed images have the size of what they show; set size too")
    if options.grey and options.colour:
        raise ValueError("data: grey and colour exclude each other; leave one out")
    if options.background not in ("white", "black"):
        raise ValueError(f"data: background must be white or black, got {options.background!r}")
    if options.levels is not None and options.binarise is not None:
        raise ValueError(f"data: levels={options.levels} and binarise={options.binarise!r} exclude each other; leave one out")
    if options.exemplars_shown is not None and options.exemplars is None:
        raise ValueError(f"data: exemplars_shown={options.exemplars_shown} without exemplars; set exemplars to the most that an image has")
    if options.binarise not in (None, "static", "dynamic", "threshold"):
        raise ValueError(f"data: binarise must be static, dynamic or threshold, got {options.binarise!r}")
    if options.paths is not None and options.paths not in PATHS:
        raise ValueError(f"data: paths must be one of {', '.join(PATHS)}, got {options.paths!r}")


def requantise(values: np.ndarray, levels: int, to: int) -> np.ndarray:
    """The nearest of fewer or more levels, exact: halves go up.

    values: 0 … levels − 1, any shape.
    levels: number of levels of ``values``, up to 65,536.
    to: number of levels of the result, up to 65,536.

    Returns uint8 of the same shape, or uint16 above 256 levels.
    """
    table = (2 * np.arange(levels, dtype=np.int64) * (to - 1) + levels - 1) // (2 * (levels - 1))
    return table.astype(np.uint8 if to <= 256 else np.uint16)[values.astype(np.uint16)]


def binarise(values: Sequence[np.ndarray] | np.ndarray, levels: int, how: str, seed: int) -> list[np.ndarray]:
    """Images of two levels, uint8.

    values: images (N, …), 0 … levels − 1.
    levels: number of levels of ``values``.
    how: "threshold" = 1 from half intensity on; "static" or "dynamic" = one draw, 1 with the probability of the intensity.
    seed: of the draw.

    Returns 0 and 1 as uint8 (N, …).
    """
    if how == "threshold":
        return [(2 * image.astype(np.int32) >= levels - 1).astype(np.uint8) for image in values]
    stream = np.random.RandomState(seed)
    return [(stream.random_sample(image.shape) * (levels - 1) < image).astype(np.uint8) for image in values]


def random_corners(count: int, whole: tuple[int, int], part: tuple[int, int], seed: int) -> np.ndarray:
    """Random positions of parts of images.

    count: number of images N.
    whole, part: (height, width) of the images and of the parts.
    seed: of the positions.

    Returns row and column (N, 2) of the upper left pixels.
    """
    rooms = tuple(outer - inner + 1 for outer, inner in zip(whole, part, strict=True))
    return np.random.RandomState(seed).randint(0, rooms, (count, 2))


def cut(images: Tensor | Sequence[Tensor], corners: Tensor | np.ndarray | list[list[int]], size: tuple[int, int]) -> Tensor:
    """A part of each image.

    images: (N, C, H, W), or N images (C, H, W) of several sizes.
    corners: row and column of each part's upper left pixel, (N, 2).
    size: (height, width) of the parts.
    """
    height, width = size
    parts = zip(images, corners if isinstance(corners, list) else corners.tolist(), strict=True)
    return torch.stack([image[:, top : top + height, left : left + width] for image, (top, left) in parts])
