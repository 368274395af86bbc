"""Moving MNIST (Srivastava, Mansimov & Salakhutdinov 2015, "Unsupervised Learning of Video Representations using LSTMs", section 4.1).

Two digits cross a canvas of 64x64 pixels, each in a direction of its own, and bounce off the walls; where they overlap the brighter pixel
is seen. A step is a tenth of the room that a digit has to move in, 3.6 pixels; the published set holds 20 frames. On another canvas digits
and steps shrink in proportion: 14x14 pixels and steps of 1.8 on 32x32, averaged over areas.

Two kinds of paths:
    clipped     as published: the digits take a step before the first frame; a step that would leave the room ends at the wall, and the next
                one goes back
    folded      a straight line folded at the walls, so that frame t needs no frame before it, and the first frame is the start
The same seed gives the same sequences, of the same digits, starts and directions for both kinds.

Dimensions: N sequences · T frames · H, W canvas · h, w digit. All uint8, 256 levels.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np

Paths: TypeAlias = Literal["folded", "clipped"]
PATHS = get_args(Paths)
CANVAS, DIGIT = 64, 28         # pixels along a side, of the published set
FRAMES = 20
TOGETHER = 2                   # digits of a sequence
STEP = 0.1                     # of the room, per frame
SMALLEST = 8                   # pixels along a side of a canvas on which a digit is still a digit


def shrunk(digits: np.ndarray, size: int) -> np.ndarray:
    """Digits for a canvas, resized by area averages.

    digits: uint8 (M, 28, 28).
    size: pixels along a side of the canvas.

    Returns uint8 (M, side, side), side = 28 · size / 64, rounded.
    """
    from PIL import Image

    side = max(1, round(DIGIT * size / CANVAS))
    if digits.shape[1:] == (side, side):
        return digits
    return np.stack([np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BOX)) for digit in digits])


def moving_digits(
    digits: np.ndarray, count: int, size: int, frames: int, random: np.random.RandomState, paths: Paths = "folded"
) -> np.ndarray:
    """Sequences of two digits that move on a canvas.

    digits: uint8 (M, h, w), chosen at random.
    count: sequences N.
    size: pixels along a side of the canvas.
    frames: T.
    random: stream of digits, starts and directions.
    paths: "clipped" at the walls, as published, or "folded" (default).

    Returns uint8 (N, T, 1, H, W).
    """
    height, width = digits.shape[1:]
    chosen = random.randint(0, len(digits), (count, TOGETHER))
    starts = random.random_sample((count, TOGETHER, 2))
    angles = random.random_sample((count, TOGETHER)) * 2 * np.pi
    steps = STEP * np.stack([np.sin(angles), np.cos(angles)], -1)
    positions = _clipped(starts, steps, frames) if paths == "clipped" else _folded(starts, steps, frames)
    corners = (positions * (size - height, size - width)).astype(np.int64)
    videos = np.zeros((count, frames, 1, size, size), np.uint8)
    for n in range(count):
        for t in range(frames):
            for k in range(TOGETHER):
                row, column = corners[n, t, k]
                window = videos[n, t, 0, row : row + height, column : column + width]
                np.maximum(window, digits[chosen[n, k]], out=window)
    return videos


def _folded(starts: np.ndarray, steps: np.ndarray, frames: int) -> np.ndarray:
    """Positions (N, T, K, 2) in the room, 0 … 1 along each side."""
    straight = starts[:, None] + steps[:, None] * np.arange(frames)[:, None, None]
    return 1 - np.abs(1 - straight % 2)                                   # 0 … 1 and back


def _clipped(starts: np.ndarray, steps: np.ndarray, frames: int) -> np.ndarray:
    """The same, one step after another."""
    position, step, positions = starts, steps, []
    for _ in range(frames):
        position = position + step
        step = np.where((position <= 0) | (position >= 1), -step, step)
        position = position.clip(0, 1)
        positions.append(position)
    return np.stack(positions, 1)
