"""Digits placed on larger canvases: two of them to draw, one to find among scraps of others, or one with a map of its position.

**Two digits** (Gregor et al. 2015, "DRAW", section 4.3): two digits at random positions, which may overlap; there intensities add up and
are clipped at the brightest level. In colour, which is ours: each digit is paint of a colour of its own on a dark ground of another, the
second over the first. It replaces the paper's house numbers (SVHN): several digits, coloured, on a coloured ground.

**Cluttered** (Mnih et al. 2014, "Recurrent Models of Visual Attention", section 4.1; DRAW, section 4.1): one digit at a random position
among scraps, squares of 8x8 pixels cut at random out of other digits; 4 scraps on 60x60 pixels and 8 on 100x100.

**Placed**, which is ours: one digit of half the size at a random position, and a spatial map of 4x4 cells that says which digit lies about
where. The range of positions is divided evenly into the cells, so each of the 16 is about as likely; at least half of a cell's rows and
columns meet the digit.

Picture i is always the same for a seed. Dimensions: N pictures · C channels · H, W canvas · h, w patch. All uint8, 256 levels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

SCRAP = 8                      # pixels a side of a scrap
DARKEST, BRIGHTEST = 64, 255   # the levels of a ground are below the first; the largest level of a paint is the second
CELLS = 4                      # of a map, a side
BLOCK = 1000                   # pictures at a time, so that no second copy of all of them is held


def paste(canvases: np.ndarray, patches: np.ndarray, corners: np.ndarray, paint: np.ndarray | None = None) -> None:
    """Lay patches on canvases, in place.

    canvases: uint8 (N, C, H, W).
    patches: uint8 (N, h, w).
    corners: row and column of each patch's upper left pixel, (N, 2).
    paint: (N, C) uint8, the colour of each patch, whose values say how much of it covers a pixel, 255 = all; None (default) = intensities
        add up, clipped at 255.

    Raises ``ValueError`` where a patch would reach over the edge.
    """
    height, width = patches.shape[1:]
    room = np.array(canvases.shape[2:]) - (height, width)
    if (corners < 0).any() or (corners > room).any():
        raise ValueError(f"paste: patches of {width}x{height} pixels reach over the edge of {canvases.shape[3]}x{canvases.shape[2]}")
    for n, (row, column) in enumerate(corners.tolist()):
        window = canvases[n, :, row : row + height, column : column + width]
        cover = patches[n].astype(np.uint16)
        if paint is None:
            window[:] = np.minimum(window + cover, 255)
        else:
            window[:] = (window * (255 - cover) + paint[n, :, None, None] * cover + 127) // 255


def two_digits(digits: np.ndarray, count: int, size: int, seed: int, colour: bool = False) -> Iterator[np.ndarray]:
    """Pictures of two digits each, in blocks.

    digits: uint8 (M, h, w), chosen at random.
    count: number of pictures.
    size: pixels along a side of a picture.
    seed: of all that is random.
    colour: digits of two colours on a coloured ground, C = 3; False (default) for grey, C = 1.

    Yields uint8 (N, C, size, size).
    """
    random = np.random.RandomState(seed)  # a stream that numpy keeps for all time
    chosen = random.randint(0, len(digits), (count, 2))
    corners = _corners(random, (count, 2), size, digits.shape[1:])
    paint = random.randint(1, 256, (count, 2, 3))
    paint = (BRIGHTEST * paint // paint.max(2, keepdims=True)).astype(np.uint8)
    ground = random.randint(0, DARKEST, (count, 3)).astype(np.uint8)
    for start in range(0, count, BLOCK):
        part = slice(start, min(start + BLOCK, count))
        canvases = np.zeros((part.stop - start, 3 if colour else 1, size, size), np.uint8)
        if colour:
            canvases += ground[part, :, None, None]
        for k in range(2):
            paste(canvases, digits[chosen[part, k]], corners[part, k], paint[part, k] if colour else None)
        yield canvases


def cluttered(digits: np.ndarray, size: int, seed: int) -> Iterator[np.ndarray]:
    """A picture of every digit in its order, among scraps of others, in blocks.

    digits: uint8 (M, h, w).
    size: pixels along a side of a picture.
    seed: of all that is random.

    Yields uint8 (N, 1, size, size).
    """
    random = np.random.RandomState(seed)
    count, scraps = len(digits), scrap_count(size)
    corners = _corners(random, (count,), size, digits.shape[1:])
    other = (np.arange(count)[:, None] + random.randint(1, max(count, 2), (count, scraps))) % count
    cut = _corners(random, (count, scraps), digits.shape[1], (SCRAP, SCRAP))
    lie = _corners(random, (count, scraps), size, (SCRAP, SCRAP))
    windows = np.lib.stride_tricks.sliding_window_view(digits, (SCRAP, SCRAP), axis=(1, 2))
    for start in range(0, count, BLOCK):
        part = slice(start, min(start + BLOCK, count))
        canvases = np.zeros((part.stop - start, 1, size, size), np.uint8)
        paste(canvases, digits[part], corners[part])
        for k in range(scraps):
            paste(canvases, windows[other[part, k], cut[part, k, 0], cut[part, k, 1]], lie[part, k])
        yield canvases


def one_digit(digits: np.ndarray, size: int, seed: int) -> tuple[Iterator[np.ndarray], np.ndarray]:
    """A picture of every digit in its order, in blocks, and where each digit lies.

    digits: uint8 (M, h, w).
    size: pixels along a side of a picture.
    seed: of the positions.

    Returns an iterator over uint8 (N, 1, size, size), and the cell of each digit, row and column (M, 2).
    """
    corners = _corners(np.random.RandomState(seed), (len(digits),), size, digits.shape[1:])
    cells = corners * CELLS // (np.array([size, size]) - digits.shape[1:] + 1)

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(digits), BLOCK):
            part = slice(start, start + BLOCK)
            canvases = np.zeros((len(digits[part]), 1, size, size), np.uint8)
            paste(canvases, digits[part], corners[part])
            yield canvases

    return blocks(), cells


def halved(digits: np.ndarray) -> np.ndarray:
    """``digits`` (M, h, w) of even sides → (M, h / 2, w / 2): the mean of 2x2 pixels, halves go up."""
    count, height, width = digits.shape
    quarters = digits.reshape(count, height // 2, 2, width // 2, 2).astype(np.uint16)
    return ((quarters.sum((2, 4)) + 2) // 4).astype(np.uint8)


def spatial_maps(cells: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Maps that hold 1 for the class of a digit at its cell, else 0.

    cells: row and column (M, 2).
    labels: class numbers (M,).
    classes: their number.

    Returns float32 (M, classes, 4, 4).
    """
    maps = np.zeros((len(cells), classes, CELLS, CELLS), np.float32)
    maps[np.arange(len(cells)), labels, cells[:, 0], cells[:, 1]] = 1
    return maps


def scrap_count(size: int) -> int:
    """Scraps on a canvas of ``size`` pixels a side: the published 4 on 60 and 8 on 100, linear between and beyond."""
    return max(0, size // 10 - 2)


def _corners(random: np.random.RandomState, shape: tuple[int, ...], size: int, patch: tuple[int, ...]) -> np.ndarray:
    """Random positions (*shape, 2) of the upper left pixel of a patch that lies wholly on a square canvas."""
    return random.randint(0, np.array([size - patch[0] + 1, size - patch[1] + 1]), (*shape, 2))
