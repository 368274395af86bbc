"""Image files of version 1, kept in tests/golden, with the models and pixels that they were made of: from integers alone, on every machine.

``python tests/golden_files.py`` writes those that are not there; they stay as they are, and every later release decodes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from rastrum import ImageSpec
from rastrum.compression import compress_image
from rastrum.models.gated_pixelcnn import GatedPixelCNN, GatedPixelCNNConfig
from rastrum.models.least_squares import LeastSquares, LeastSquaresConfig
from rastrum.models.pixelcnn_plus_plus import PixelCNNPlusPlus, PixelCNNPlusPlusConfig
from rastrum.raster import RasterModel

FOLDER = Path(__file__).parent / "golden"
# file: (model, (height, width, channels), type, options)
CASES: dict[str, tuple[str, tuple[int, int, int], Any, dict[str, Any]]] = {
    "grey": ("plus plus", (21, 18, 1), np.uint8, {"tile": 8, "context": 4}),
    "deep": ("plus plus", (9, 14, 1), np.uint16, {"name": "rastrum/golden"}),
    "colour": ("colour", (17, 15, 3), np.uint8, {"tile": 10, "context": 3, "ycocg": True}),
    "transparent": ("colour", (12, 13, 4), np.uint8, {"tile": 6, "context": 2, "metadata": {"icc": b"profile", "exif": b"Exif"}}),
    "adaptive": ("adaptive", (22, 27, 3), np.uint8, {"tile": 12, "context": 4}),
    "tuned": ("adaptive", (40, 47, 4), np.uint8, {"tile": 24, "context": 4, "tune": 300}),
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
    """A tiny model whose weights are integers / 2^17."""
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


def made(case: str) -> bytes:
    """The bytes of a file, as this release writes it."""
    name, shape, kind, options = CASES[case]
    return compress_image(model(name), pixels(shape, kind), **options)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for case in CASES:
        if not (FOLDER / f"{case}.rastrum").exists():
            (FOLDER / f"{case}.rastrum").write_bytes(made(case))
