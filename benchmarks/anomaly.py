"""How well log-probabilities distinguish one set of images from another: raw, by typicality, and corrected for complexity.

    python benchmarks/anomaly.py FOLDER [FOLDER …] [--images 1000]

Each model (recipes pixelcnn-plus-plus-mnist and pixelcnn-plus-plus-fashion-mnist) scores held-out images of its own data and of the other
set; the table gives the area under the ROC curve, the probability that an image of the other set has the higher score:

    bits           −log₂ p
    |z| of bits    distance from the mean of 500 other images of the model's own data, in their standard deviations (a typicality test)
    less PNG       −log₂ p − bits of the image as PNG (Serrà et al. 2020)

Only Fashion-MNIST's 10,000 test images are available here, so a model of it trains on the first 9,000 and the last 1,000 are held out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import rastrum
from rastrum import RasterModel
from rastrum.applications.anomaly import Scores, auroc, scores, z_scores
from rastrum.data.dataset import load_dataset

HELD_OUT = {"mnist": "test", "fashion-mnist": "test[9000:]"}
REFERENCE = 500


@torch.no_grad()
def held_out_scores(model: RasterModel, name: str, images: int) -> Scores:
    """Scores of a fixed random subset of held-out images."""
    x = load_dataset(name, HELD_OUT[name]).subset(images).images
    return scores(model.spec, x, torch.cat([-model.log_prob(part) for part in x.split(8)]))


def row(folder: str, images: int) -> str:
    """A row of the table."""
    model = rastrum.load(folder)
    assert isinstance(model, RasterModel)
    own = "fashion-mnist" if "fashion" in Path(folder).name else "mnist"
    other = next(name for name in HELD_OUT if name != own)
    usual, unusual = held_out_scores(model, own, images), held_out_scores(model, other, images)
    reference = Scores(usual.bits[:REFERENCE], usual.complexity[:REFERENCE])
    usual = Scores(usual.bits[REFERENCE:], usual.complexity[REFERENCE:])
    typical = auroc(z_scores(usual.bits, reference.bits).abs(), z_scores(unusual.bits, reference.bits).abs())
    means = f"{usual.bits.mean():.0f} | {unusual.bits.mean():.0f} | {usual.complexity.mean():.0f} | {unusual.complexity.mean():.0f}"
    raw, less = auroc(usual.bits, unusual.bits), auroc(usual.corrected, unusual.corrected)
    return f"| {own} | {other} | {means} | {raw:.4f} | {typical:.4f} | {less:.4f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="FOLDER", help="trained models; a name with fashion means Fashion-MNIST")
    parser.add_argument("--images", type=int, default=1000, help="images per set, including the reference (default: 1000)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| trained on | compared with | bits: own | other | PNG bits: own | other | AUROC of bits | of \\|z\\| | less PNG |")
    print("|---|---|---|---|---|---|---|---|---|")
    for folder in options.models:
        print(row(folder, options.images), flush=True)


if __name__ == "__main__":
    main()
