"""Moving MNIST (Srivastava, Mansimov & Salakhutdinov 2015, "Unsupervised Learning of Video Representations using LSTMs", section 4.1).

Two digits cross a canvas of 64x64 pixels, each with a speed of its own direction, and bounce off the edges; where they overlap the brighter
pixel is seen. A step is a tenth of the room that a digit has to move in, 3.6 pixels; the published set holds 20 frames. On another canvas
digits and steps shrink in proportion: 14x14 pixels and steps of 1.8 on 32x32, averaged over areas.

A path is a straight line folded at the edges, so frame t needs no frame before it; a sequence is the same for ever for a seed.
Dimensions: N sequences · T frames · H, W canvas · h, w digit. All uint8, 256 levels.
"""

from __future__ import annotations

import numpy as np

CANVAS, DIGIT = 64, 28         # pixels a side, of the published set
FRAMES = 20
STEP = 0.1                     # of the room, a frame
SMALLEST = 8                   # pixels a side of a canvas on which a digit is still a digit


def shrunk(digits: np.ndarray, size: int) -> np.ndarray:
    """Digits (M, 28, 28) for a canvas of ``size`` pixels a side, resized by area averages."""
    from PIL import Image

    side = max(1, round(DIGIT * size / CANVAS))
    if digits.shape[1:] == (side, side):
        return digits
    return np.stack([np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BOX)) for digit in digits])


def moving_digits(digits: np.ndarray, count: int, size: int, frames: int, random: np.random.RandomState, together: int = 2) -> np.ndarray:
    """``count`` sequences of ``together`` of the digits (M, h, w) on a canvas of ``size`` pixels a side: (N, T, 1, H, W)."""
    height, width = digits.shape[1:]
    chosen = random.randint(0, len(digits), (count, together))
    starts = random.random_sample((count, together, 2))
    angles = random.random_sample((count, together)) * 2 * np.pi
    steps = STEP * np.stack([np.sin(angles), np.cos(angles)], -1)
    places = starts[:, None] + steps[:, None] * np.arange(frames)[:, None, None]
    folded = 1 - np.abs(1 - places % 2)                                   # 0 … 1 and back
    corners = (folded * (size - height, size - width)).astype(np.int64)
    videos = np.zeros((count, frames, 1, size, size), np.uint8)
    for n in range(count):
        for t in range(frames):
            for k in range(together):
                row, column = corners[n, t, k]
                window = videos[n, t, 0, row : row + height, column : column + width]
                np.maximum(window, digits[chosen[n, k]], out=window)
    return videos
