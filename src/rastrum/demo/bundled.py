"""Pictures of models that come with the package: digits of 28x28 pixels, from far longer training than the demo's own."""

from __future__ import annotations

import torch

from ..generation import generate, reconstruct, sample
from ..models import load
from ..pictures import animations
from ..pictures import sheets as pictures
from ..pictures.films import encode_animation
from ..raster import RasterModel
from ..strokes import CanvasModel

RASTER = "rastrum/diagonal-bilstm-binarized-mnist-7-layers"
CLASSES, DRAW = "rastrum/row-lstm-mnist-classes", "rastrum/draw-binarized-mnist"
REDRAWN = 4                    # of the strip of strokes


def bundled_pictures(seed: int) -> dict[str, bytes]:
    """Samples of a raster model, digits that appear row by row, and how DRAW redraws them; all about 1,500 pixels wide.

    seed: of the samples.

    Returns files by name.
    """
    raster, rows, draw = load(RASTER), load(CLASSES), load(DRAW)
    assert isinstance(raster, RasterModel) and isinstance(draw, CanvasModel)
    walk = list(generate(rows, 10, torch.arange(10), seed=seed))
    digits, values = walk[-1].images, walk[-1].values
    assert values is not None
    copies, originals = list(reconstruct(draw, values, seed=seed)), pictures.tiles(digits, 5)
    copied = (pictures.arrange([*animations.frame_tiles(c, 5), *originals], 10, ["copy", "original"], unit=2.5) for c in copies)
    return {
        "bundled-samples.png": pictures.encode_picture(pictures.sheet(sample(raster, 50, seed=seed).float(), 10, 5)),
        "bundled-rows.gif": encode_animation((animations.frame_sheet(f, 5, 10, raster.order) for f in walk), 8, 3),
        "bundled-copies.gif": encode_animation(copied, 3, 3),
        "bundled-strokes.png": pictures.encode_picture(animations.reconstruction_strip(digits[REDRAWN], copies, REDRAWN, 4)),
    }
