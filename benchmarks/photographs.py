"""Photographs to train a lossless model on: a folder of small PNG files, made of two sets of the Hub.

    python benchmarks/photographs.py FOLDER
    rastrum train least-squares --data FOLDER --data.crop 64 …

Photographs of debian/photographs are cut into pieces, once as they are and once at half their size; pictures of berkeley/bsds300 are taken
at half their size, because the blocks of their JPEG files would mislead a model of lossless images. FOLDER/train has those of the training
splits, FOLDER/test pieces of the held-out photographs alone. Pictures are halved by the mean of four pixels.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from rastrum.config import DataOptions
from rastrum.data.sources import hub

PIECE = 256


def main() -> None:
    """Write the two folders."""
    out = Path(sys.argv[1])
    for split in ("train", "test"):
        folder, count = out / split, 0
        folder.mkdir(parents=True)
        for source, halve in (("debian/photographs", False), ("debian/photographs", True), ("berkeley/bsds300", True)):
            if split == "test" and (halve or source != "debian/photographs"):
                continue
            for picture in pictures(source, split):
                for piece in pieces(halved(picture) if halve else picture):
                    Image.fromarray(piece).save(folder / f"{count:05d}.png")
                    count += 1
        print(f"{folder}: {count} pieces")


def pictures(source: str, split: str) -> Iterator[np.ndarray]:
    """The pictures of a set of the Hub, (H, W, 3) uint8."""
    for _, opened in hub(source, None, None, split, DataOptions(stream=False)).images:
        yield np.asarray(opened().convert("RGB"))


def halved(picture: np.ndarray) -> np.ndarray:
    """The mean of each four pixels."""
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    fours = picture[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3).astype(np.float32)
    return (fours.mean((1, 3)) + 0.5).astype(np.uint8)


def pieces(picture: np.ndarray) -> Iterator[np.ndarray]:
    """A picture cut into pieces of at most PIECE pixels a side, about equal."""
    height, width = picture.shape[:2]
    rows, columns = (np.linspace(0, size, -(-size // PIECE) + 1).astype(int) for size in (height, width))
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            yield picture[top:bottom, left:right]


if __name__ == "__main__":
    main()
