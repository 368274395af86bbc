"""The score of the Spatial LSTM paper: log-density of intensities in [0, 1], in bits per pixel, higher is better.

    python benchmarks/density.py FOLDER … [--data bsds300] [--count 200] [--seed 0]

It is computed on a fixed random subset of the test patches of a data set, at the models' own size, with uniform noise of one level added to
each value, and printed ± the standard error over patches: over all pixels, and, as the authors' code does, over the pixels whose whole
neighbourhood lies in the patch.
"""

from __future__ import annotations

import argparse

import torch

import rastrum
from rastrum.config import DataOptions
from rastrum.data.dataset import load_dataset
from rastrum.models.spatial_lstm import SpatialLSTM

BATCH = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="a trained spatial-lstm")
    parser.add_argument("--data", default="bsds300", metavar="NAME", help="data set of the patches")
    parser.add_argument("--count", type=int, default=200, help="number of patches")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise")
    options = parser.parse_args()
    for folder in options.folders:
        model = rastrum.load(folder)
        if not isinstance(model, SpatialLSTM):
            parser.error(f"{folder}: expected a spatial-lstm, got {type(model).__name__}")
        spec = model.spec
        data = load_dataset(options.data, "test", DataOptions(size=spec.height, grey=spec.channels == 1, limit=options.count))
        if data.spec != spec:
            parser.error(f"{folder}: it is for {spec}, {options.data} has {data.spec}")
        y = data.images + torch.rand(data.images.shape, generator=torch.Generator().manual_seed(options.seed), dtype=torch.float64)
        for whole, pixels in ((False, "all pixels"), (True, "whole neighbourhoods")):
            with torch.no_grad():
                bits = torch.cat([model.bits_per_pixel(part, whole_neighbourhood=whole) for part in y.split(BATCH)])
            error = bits.std() / len(bits) ** 0.5
            print(f"{folder} on {len(bits)} of {options.data}, {pixels}: {bits.mean():.3f} ± {error:.3f} bits per pixel")


if __name__ == "__main__":
    main()
