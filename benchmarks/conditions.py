"""Do samples follow their condition? Requested classes, requested positions, and classification by Bayes' rule.

    python benchmarks/conditions.py --out conditions [--classes FOLDER …] [--placed FOLDER] [--images 1000] [--minutes 2] [--seed 0]

``--classes``: trained models conditioned on a class (recipes row-lstm-mnist-classes, gated-pixelcnn-mnist-classes, gated-pixelcnn-digits,
pixelcnn-plus-plus-cifar10-classes). ``--placed``: a model conditioned on a spatial map (row-lstm-placed-mnist). The folder then holds

    conditions.md     for each class-conditional model: the share of its samples that a classifier, trained on real images for ``--minutes``
                      of CPU time, recognises as the requested class; the share of real held-out images that the classifier gets right;
                      and the share that the model itself gets right by Bayes' rule with equal prior probabilities. For placed digits: the
                      share in the requested cell, and recognised as the requested digit, with the same measures of real images
    NAME.png          samples, a row per class
    placed.png        three digits, each in 4x4 cells in the order of the map, and where the centre of its ink should be

A digit's cell is the one that holds the centre of its ink, because MNIST's digits are centred by their ink. The data are those that the
model's card names, from the Hub or from RASTRUM_HUB_MIRROR.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import rastrum
from rastrum import RasterModel
from rastrum.applications.bayes_classifier import log_posterior
from rastrum.applications.glimpse_classifier import TRAINING, WholeImageClassifier
from rastrum.config import DataOptions, RunConfig, TrainConfig
from rastrum.data.dataset import Dataset, load_dataset
from rastrum.data.placed_digits import CELLS
from rastrum.pictures.sheets import GREEN, Picture, arrange, draw_window, save_picture, sheet, tiles
from rastrum.train import train

CIFAR = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# image shape and levels: the data set of a class-conditional model, and its preprocessing for training a classifier
DATA = {
    (1, 28, 28, 2): ("mnist", DataOptions(binarise="dynamic")),
    (1, 8, 8, 17): ("digits", DataOptions()),
    (3, 32, 32, 256): ("cifar10", DataOptions()),
}
PLACED, SCALE = (2, 5, 8), 3   # the digits of placed.png, and its scale
PATCH, PARAMETERS, EACH, SEED = 14, 100_000, 10, 0
COLUMNS = (
    "model",
    "samples",
    "classified as requested, %",
    "real images classified correctly, %",
    "classified correctly by Bayes' rule, %",
)


class Share(NamedTuple):
    """``right`` of ``total``, printed in % with its standard error."""

    right: int
    total: int

    def __str__(self) -> str:
        p = self.right / self.total
        return f"{100 * p:.1f} ± {100 * (p * (1 - p) / self.total) ** 0.5:.1f}"


@torch.no_grad()
def classify(network: WholeImageClassifier, x: Tensor) -> Tensor:
    """Most probable classes (N,)."""
    return torch.cat([network.logits(part).argmax(1) for part in x.split(500)])


def share(guess: Tensor, truth: Tensor) -> Share:
    return Share(int((guess == truth).sum()), len(truth))


def train_classifier(data: Dataset, minutes: float) -> WholeImageClassifier:
    """A convolutional network, trained on the classes of real images."""
    torch.manual_seed(SEED)
    network = WholeImageClassifier(data.spec, data.classes, PARAMETERS, convolutional=True)
    for _ in train(network, data, TrainConfig(optim=TRAINING, run=RunConfig(cpu_minutes=minutes, workers=1, seed=SEED))):
        pass
    return network


def classes(folder: str, images: int, minutes: float, out: Path, seed: int) -> list[str]:
    """A row of the table; also writes the picture of samples."""
    model = rastrum.load(folder)
    assert isinstance(model, RasterModel) and model.condition_spec is not None
    spec = model.spec
    name, options = DATA[(spec.channels, spec.height, spec.width, spec.levels)]
    train_set, test_set = (load_dataset(name, split, options) for split in ("train", "test"))
    test_set, count = test_set.subset(images), train_set.classes
    assert test_set.labels is not None
    network = train_classifier(train_set, minutes)
    requested = torch.arange(images) % count
    samples = rastrum.sample(model, images, requested, seed=seed)
    with torch.no_grad():
        by_bayes = torch.cat([log_posterior(model, x).argmax(1) for x in test_set.images.split(4)])
    rows = torch.stack([samples[requested == c][: min(EACH, images // count)] for c in range(count)])
    labels = list(CIFAR) if name == "cifar10" else [str(c) for c in range(count)]
    save_picture(sheet(rows.flatten(0, 1) / (spec.levels - 1), rows.shape[1], row_labels=labels), out / f"{Path(folder).name}.png")
    shares = (
        share(classify(network, samples), requested),
        share(classify(network, test_set.images), test_set.labels),
        share(by_bayes, test_set.labels),
    )
    return [f"{Path(folder).name} ({name})", str(images), *map(str, shares)]


def cell_of(x: Tensor) -> Tensor:
    """Images (N, 1, H, W) of one digit → row and column (N, 2) of its cell, by the centre of its ink; (−1, −1) for a blank image."""
    ink = x[:, 0].double()
    weight = ink.sum((1, 2))
    positions = x.shape[-1] - PATCH + 1
    cells = []
    for sides in (2, 1):
        along = ink.sum(sides)
        centre = (along * torch.arange(along.shape[1])).sum(1) / weight
        corner = (centre - PATCH / 2 + 0.5).round().clamp(0, positions - 1)
        cells.append((corner * CELLS // positions).nan_to_num(-1).long())
    return torch.stack(cells, 1)


def placed(folder: str, images: int, minutes: float, out: Path, seed: int) -> str:
    """The table for a model conditioned on a map of digits; also writes its picture."""
    model = rastrum.load(folder)
    assert isinstance(model, RasterModel) and model.condition_spec is not None and model.condition_spec.kind == "map"
    options = DataOptions(binarise="threshold")
    train_set, test_set = (load_dataset("placed-mnist", split, options) for split in ("train", "test"))
    test_set = test_set.subset(images)
    assert test_set.labels is not None and isinstance(test_set.conditions, torch.Tensor)
    network = train_classifier(train_set, minutes)
    lines = ["| | in the requested cell, % | within one cell of it, % | blank, % | classified as requested, % |", "|---|---|---|---|---|"]
    cell = test_set.conditions.flatten(2).amax(1).argmax(1)
    requested = torch.stack([cell // CELLS, cell % CELLS], 1)
    samples = rastrum.sample(model, len(test_set), test_set.conditions, seed=seed)
    for name, x in (("samples", samples), ("real", test_set.images)):
        found = cell_of(x)
        hits = (found == requested).all(1), ((found - requested).abs() <= 1).all(1) & (found[:, 0] >= 0), found[:, 0] < 0
        exact, near, blank = (Share(int(hit.sum()), len(found)) for hit in hits)
        lines.append(f"| {name} | {exact} | {near} | {blank} | {share(classify(network, x), test_set.labels)} |")
    save_picture(placed_picture(model, seed), out / "placed.png")
    return "\n".join(lines) + f"\n\n{len(test_set)} samples, for the maps of as many held-out images.\n"


def placed_picture(model: RasterModel, seed: int) -> Picture:
    """Three digits, each requested in every cell; the centre of its ink should lie in the outline."""
    requested = [(digit, i, j) for i in range(CELLS) for digit in PLACED for j in range(CELLS)]
    maps = torch.zeros(len(requested), 10, CELLS, CELLS)
    for spatial_map, index in zip(maps, requested, strict=True):
        spatial_map[index] = 1
    samples = rastrum.sample(model, len(requested), maps, seed=seed).float()
    corners = torch.arange(model.spec.width - PATCH + 1)
    spans = [corners[corners * CELLS // len(corners) == k] for k in range(CELLS)]
    middles = [float(span.double().mean()) + (PATCH - 1) / 2 for span in spans]
    marked = [
        draw_window(tile, (middles[i], middles[j], len(spans[i]), len(spans[j])), SCALE, GREEN)
        for tile, (_, i, j) in zip(tiles(samples, SCALE), requested, strict=True)
    ]
    return arrange(marked, len(PLACED) * CELLS, None, [str(digit) for digit in PLACED for _ in range(CELLS)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder that everything is written into")
    parser.add_argument("--classes", nargs="*", default=[], metavar="FOLDER", help="class-conditional models")
    parser.add_argument("--placed", metavar="FOLDER", help="a model conditioned on a spatial map")
    parser.add_argument("--images", type=int, default=1000, help="number of samples, and of held-out images (default: 1000)")
    parser.add_argument("--minutes", type=float, default=2.0, help="CPU-minutes of training for a classifier (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the samples (default: 0)")
    options = parser.parse_args()
    if options.images < 10:
        parser.error(f"--images: expected at least one of each of ten classes, got {options.images}")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    known = options.out / "conditions.json"
    found = json.loads(known.read_text()) if known.exists() else {"classes": {}, "placed": ""}
    for folder in options.classes:
        row = classes(folder, options.images, options.minutes, options.out, options.seed)
        found["classes"][row[0]] = row
    if options.placed:
        found["placed"] = placed(options.placed, options.images, options.minutes, options.out, options.seed)
    known.write_text(json.dumps(found) + "\n")
    rows = ["| " + " | ".join(row) + " |" for row in found["classes"].values()]
    table = "\n".join(["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|", *rows]) + "\n\n" + found["placed"]
    (options.out / "conditions.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
