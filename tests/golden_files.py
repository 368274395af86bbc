"""Image files of version 1, kept in tests/golden, with the models and pixels that they were made of: from integers alone, on every machine.

Those by bundled models name them, and decode without another, also when other weights are bundled: then the former ones are kept.

``python tests/golden_files.py`` writes those that are not there; they stay as they are, and every later release decodes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import rastrum
from rastrum import ImageSpec
from rastrum.compression import compress_image, decompress_image
from rastrum.models.gated_pixelcnn import GatedPixelCNN, GatedPixelCNNConfig
from rastrum.models.least_squares import LeastSquares, LeastSquaresConfig
from rastrum.models.pixelcnn_plus_plus import PixelCNNPlusPlus, PixelCNNPlusPlusConfig
from rastrum.raster import RasterModel

FOLDER = Path(__file__).parent / "golden"
CIFAR10 = "rastrum/pixelcnn-plus-plus-cifar10"
DIGITS, TEXTURE = "rastrum/row-lstm-mnist", "rastrum/spatial-lstm-bsds300"
# file: (model, (height, width, channels), type, options)
CASES: dict[str, tuple[str, tuple[int, int, int], Any, dict[str, Any]]] = {
    "grey": ("plus plus", (21, 18, 1), np.uint8, {"tile": 8, "context": 4}),
    "deep": ("plus plus", (9, 14, 1), np.uint16, {"name": "rastrum/golden"}),
    "colour": ("colour", (17, 15, 3), np.uint8, {"tile": 10, "context": 3, "ycocg": True}),
    "transparent": ("colour", (12, 13, 4), np.uint8, {"tile": 6, "context": 2, "metadata": {"icc": b"profile", "exif": b"Exif"}}),
    "adaptive": ("adaptive", (22, 27, 3), np.uint8, {"tile": 12, "context": 4}),
    "tuned": ("adaptive", (40, 47, 4), np.uint8, {"tile": 24, "context": 4, "tune": 300}),
    "photo": ("rastrum/photo", (20, 26, 3), np.uint8, {"tile": 12, "context": 4, "name": "rastrum/photo"}),
    "photo-grey": ("rastrum/photo-grey", (31, 38, 1), np.uint8, {"tile": 20, "context": 4, "name": "rastrum/photo-grey"}),
    "cifar10": (CIFAR10, (14, 13, 3), np.uint8, {"tile": 8, "context": 4, "name": CIFAR10}),      # by its weights of 3.835 bits/dim
    "cifar10-longer": (CIFAR10, (14, 13, 3), np.uint8, {"tile": 8, "context": 4, "ycocg": True, "name": CIFAR10}),
    "digits": (DIGITS, (13, 17, 1), np.uint8, {"tile": 8, "context": 4, "name": DIGITS}),
    "texture": (TEXTURE, (17, 13, 1), np.uint8, {"tile": 8, "context": 4, "name": TEXTURE}),
    "softmax": ("gated", (11, 12, 1), np.uint8, {"tile": 6, "context": 2, "name": "hf://owner/name@main"}),
}


def integers(count: int, seed: int) -> np.ndarray:
    """0 … 65535, (count,): the high bits of a linear congruential generator."""
    found, state = np.empty(count, np.int64), seed
    for i in range(count):
        state = (1103515245 * state + 12345) % (1 << 31)
        found[i] = state >> 15
    return found


def model(name: str) -> RasterModel:
    """A bundled model, or a tiny one whose weights are integers / 2^17."""
    if name.startswith("rastrum/"):
        bundled = rastrum.load(name)
        assert isinstance(bundled, RasterModel)
        return bundled
    if name == "gated":
        config = GatedPixelCNNConfig(channels=4, layers=2, kernel=3, hidden=8)
        made: RasterModel = GatedPixelCNN(ImageSpec(1, 8, 8), config)
    elif name == "adaptive":
        made = LeastSquares(ImageSpec(3, 8, 8), LeastSquaresConfig(hidden=8, head=6, components=2))
    else:
        plus = PixelCNNPlusPlusConfig(filters=4, blocks=1, components=2, dropout=0.0)
        made = PixelCNNPlusPlus(ImageSpec(3 if name == "colour" else 1, 8, 8), plus)
    with torch.no_grad():
        for seed, parameter in enumerate(made.parameters()):
            values = integers(parameter.numel(), seed + 1) - 32768
            parameter.copy_(torch.from_numpy(values).float().view(parameter.shape) / (1 << 17) + (1.0 if parameter.ndim == 1 else 0.0))
    return made.eval()


def pixels(shape: tuple[int, int, int], kind: Any) -> np.ndarray:
    """A slope with noise, (H, W, C)."""
    height, width, channels = shape
    y, x, c = np.ogrid[:height, :width, :channels]
    noise = integers(height * width * channels, 7).reshape(shape) % 13
    return ((5 * y + 7 * x + 40 * c + noise) * (257 if kind == np.uint16 else 1) % (1 << 8 * np.dtype(kind).itemsize)).astype(kind)


def is_right(case: str) -> bool:
    """Whether the file decodes, one by a bundled model without it, and is written again in the same bytes.

    Not those with transparency, since releases of zlib deflate it differently, nor those by training, nor by weights that may be replaced.
    """
    name, shape, kind, _ = CASES[case]
    blob, bundled = (FOLDER / f"{case}.rastrum").read_bytes(), name.startswith("rastrum/")
    right = np.array_equal(decompress_image(blob, None if bundled else model(name)), pixels(shape, kind))
    return right and (shape[2] % 2 == 0 or bundled or made(case) == blob)


def made(case: str) -> bytes:
    """The bytes of a file, as this release writes it."""
    name, shape, kind, options = CASES[case]
    return compress_image(model(name), pixels(shape, kind), **options)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for case in CASES:
        if not (FOLDER / f"{case}.rastrum").exists():
            (FOLDER / f"{case}.rastrum").write_bytes(made(case))
