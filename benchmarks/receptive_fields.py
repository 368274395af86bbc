"""What each raster model sees, side by side, found by changing pixels one by one; and the map that a Diagonal BiLSTM skews.

    python benchmarks/receptive_fields.py [--out docs/gallery] [--size 15] [--models pixelcnn row-lstm …]

The models have few layers, so that the shapes are visible: the cone of PixelCNN with its blind spot, the leaning triangle of Row LSTM, the
full context of a Diagonal BiLSTM, and for a multi-scale model a pixel between those of the coarser scale. Writes receptive-fields.png and
skewed-map.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image

import rastrum
from rastrum import MODELS, ImageSpec, RasterModel
from rastrum.checking import context_of
from rastrum.layers.recurrent import skew
from rastrum.pictures.sheets import Picture, arrange, context_picture, decided_before, save_picture

SETTINGS: dict[str, dict[str, Any]] = {
    "pixelcnn": dict(layers=2, first_kernel=5),
    "gated-pixelcnn": dict(layers=3),
    "row-lstm": dict(layers=2, first_kernel=3),
    "diagonal-bilstm": dict(layers=1, first_kernel=3),
    "multiscale-pixelrnn": dict(layers=1, first_kernel=3),
}


def receptive_fields(names: list[str], size: int) -> Picture:
    """One panel per model, four in a row: what a pixel in the middle sees."""
    row, column = size // 2 | 1, size // 2                                # between the rows of a coarser scale
    cells = []
    for name in names:
        model = rastrum.build(name, ImageSpec(1, size, size, 2), preset="tiny", **SETTINGS.get(name, {}))
        assert isinstance(model, RasterModel)
        seen, promised = context_of(model, row * size + column)
        earlier = decided_before(model.order, model.spec.shape, (0, row, column))
        cells.append(context_picture(seen[0], promised[0], (row, column), 12, earlier=earlier[0]))
        print(f"{name:<22}{int(seen.sum()):>4} pixels seen", flush=True)
    rows = [slice(start, start + 4) for start in range(0, len(names), 4)]
    return arrange([arrange(cells[each], 4, None, names[each]) for each in rows], 1)


def skewed_map(height: int = 6, width: int = 9, scale: int = 18) -> Picture:
    """A map coloured by diagonals, and the same map skewed, whose columns are those diagonals."""
    diagonal = torch.arange(height)[:, None] + torch.arange(width)
    colours = np.asarray(colormaps["viridis"](diagonal.numpy() / int(diagonal.max())))[..., :3]
    plain = np.pad(colours, ((0, 0), (0, height - 1), (0, 0)), constant_values=1.0)
    inside = skew(torch.ones(1, height, width, 1))[0].numpy()
    moved = skew(torch.from_numpy(colours)[None])[0].numpy() * inside + (1 - inside)
    pictures = []
    for each in (plain, moved):
        pixels = (each * 255).astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
        pixels[::scale] = pixels[:, ::scale] = 255
        pictures.append(Image.fromarray(pixels))
    return arrange(pictures, 1, ["the map", "skewed"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/gallery"))
    parser.add_argument("--size", type=int, default=15)
    parser.add_argument("--models", nargs="+", default=[name for name, model in MODELS.items() if issubclass(model, RasterModel)])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    save_picture(receptive_fields(options.models, options.size), options.out / "receptive-fields.png")
    save_picture(skewed_map(), options.out / "skewed-map.png")


if __name__ == "__main__":
    main()
