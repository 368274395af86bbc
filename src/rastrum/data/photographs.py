"""Photographs in colour to train a lossless model on, cut into pieces, from two sets of the Hub.

    debian/photographs   about a megapixel each, shrunk by their makers until no JPEG block was left: as they are, and at half their size
    berkeley/bsds300     at half their size, since the blocks of their JPEG files would mislead a model of lossless images

Held out ("test"): pieces of the five photographs of the first set's test split, as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

PIECE = 256                    # pixels a side of a piece, at most
# split: (Hub repository, whether its pictures are halved), each
PARTS = {
    "train": (("debian/photographs", False), ("debian/photographs", True), ("berkeley/bsds300", True)),
    "test": (("debian/photographs", False),),
}


def smaller(picture: np.ndarray) -> np.ndarray:
    """The means of four pixels each of a picture (H, W, C) uint8."""
    height, width, channels = picture.shape
    fours = picture[: height // 2 * 2, : width // 2 * 2].reshape(height // 2, 2, width // 2, 2, channels)
    return (fours.astype(np.float32).mean((1, 3)) + 0.5).astype(np.uint8)


def pieces(picture: np.ndarray) -> Iterator[np.ndarray]:
    """A picture (H, W, C) cut into pieces of about equal size."""
    for rows in np.array_split(picture, -(-picture.shape[0] // PIECE)):
        yield from np.array_split(rows, -(-picture.shape[1] // PIECE), axis=1)
