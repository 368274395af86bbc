"""Whether conditions are obeyed: classes asked for and read by a classifier, places asked for and found, and classes by Bayes' rule.

    python benchmarks/conditions.py --out conditions [--classes FOLDER …] [--placed FOLDER] [--images 1000] [--minutes 2] [--seed 0]

``--classes``: trained models that are told a class (recipes row-lstm-mnist-classes, gated-pixelcnn-mnist-classes, gated-pixelcnn-digits,
pixelcnn-plus-plus-cifar10-classes); ``--placed``: one that is told a map (row-lstm-placed-mnist). Writes

    conditions.md     of each model of classes: how many of its samples a classifier that was trained on real images for ``--minutes`` of
                      CPU time reads as the class that was asked for, how many of the real held-out images it reads right, and how many the
                      model itself names right by Bayes' rule with equal classes. Of the placed digits: how many lie where they were
                      asked for, and are read as what was asked for, beside the same measures of real pictures
    NAME.png          a row a class                     placed.png    three digits, each at 4x4 places, in the order of the map,
                      and where the centre of its ink should be

Where a digit lies: the cell of the centre of its ink, MNIST's digits being centred by theirs. Data: what the model's card names, from the
Hub or from RASTRUM_HUB_MIRROR.
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
# image shape and levels: the data set of a model that is told a class, and how it is drawn for training a classifier
DATA = {
    (1, 28, 28, 2): ("mnist", DataOptions(binarise="dynamic")),
    (1, 8, 8, 17): ("digits", DataOptions()),
    (3, 32, 32, 256): ("cifar10", DataOptions()),
}
PLACED, SCALE = (2, 5, 8), 3   # the digits of the picture of places, points a pixel of it
PATCH, PARAMETERS, EACH, SEED = 14, 100_000, 10, 0
COLUMNS = ("model", "samples", "read as asked, %", "real images read right, %", "named right by Bayes' rule, %")


class Share(NamedTuple):
    """Of ``total``, with its standard error, in %."""

    right: int
    total: int

    def __str__(self) -> str:
        p = self.right / self.total
        return f"{100 * p:.1f} ± {100 * (p * (1 - p) / self.total) ** 0.5:.1f}"


@torch.no_grad()
def read(network: WholeImageClassifier, x: Tensor) -> Tensor:
    return torch.cat([network.logits(part).argmax(1) for part in x.split(500)])


def share(guess: Tensor, truth: Tensor) -> Share:
    return Share(int((guess == truth).sum()), len(truth))


def classifier_of(data: Dataset, minutes: float) -> WholeImageClassifier:
    """A convolutional network that learned the classes of real images."""
    torch.manual_seed(SEED)
    network = WholeImageClassifier(data.spec, data.classes, PARAMETERS, convolutional=True)
    for _ in train(network, data, TrainConfig(optim=TRAINING, run=RunConfig(cpu_minutes=minutes, workers=1, seed=SEED))):
        pass
    return network


def classes(folder: str, images: int, minutes: float, out: Path, seed: int) -> list[str]:
    """A line of the table."""
    model = rastrum.load(folder)
    assert isinstance(model, RasterModel) and model.condition_spec is not None
    spec = model.spec
    name, options = DATA[(spec.channels, spec.height, spec.width, spec.levels)]
    train_set, test_set = (load_dataset(name, split, options) for split in ("train", "test"))
    test_set, count = test_set.subset(images), train_set.classes
    assert test_set.labels is not None
    network = classifier_of(train_set, minutes)
    asked = torch.arange(images) % count
    drawn = rastrum.sample(model, images, asked, seed=seed)
    with torch.no_grad():
        named = torch.cat([log_posterior(model, x).argmax(1) for x in test_set.images.split(4)])
    rows = torch.stack([drawn[asked == c][: min(EACH, images // count)] for c in range(count)])
    labels = list(CIFAR) if name == "cifar10" else [str(c) for c in range(count)]
    save_picture(sheet(rows.flatten(0, 1) / (spec.levels - 1), rows.shape[1], row_labels=labels), out / f"{Path(folder).name}.png")
    figures = (share(read(network, drawn), asked), share(read(network, test_set.images), test_set.labels), share(named, test_set.labels))
    return [f"{Path(folder).name} ({name})", str(images), *map(str, figures)]


def cell_of(x: Tensor) -> Tensor:
    """Images (N, 1, H, W) of one digit → (N, 2) row and column of its cell, by the centre of its ink; (−1, −1) of nothing."""
    ink = x[:, 0].double()
    weight = ink.sum((1, 2))
    places = x.shape[-1] - PATCH + 1
    cells = []
    for sides in (2, 1):
        along = ink.sum(sides)
        centre = (along * torch.arange(along.shape[1])).sum(1) / weight
        corner = (centre - PATCH / 2 + 0.5).round().clamp(0, places - 1)
        cells.append((corner * CELLS // places).nan_to_num(-1).long())
    return torch.stack(cells, 1)


def placed(folder: str, images: int, minutes: float, out: Path, seed: int) -> str:
    """The figures of a model that is told what lies where, and its picture."""
    model = rastrum.load(folder)
    assert isinstance(model, RasterModel) and model.condition_spec is not None and model.condition_spec.kind == "map"
    options = DataOptions(binarise="threshold")
    train_set, test_set = (load_dataset("placed-mnist", split, options) for split in ("train", "test"))
    test_set = test_set.subset(images)
    assert test_set.labels is not None and test_set.conditions is not None
    network = classifier_of(train_set, minutes)
    lines = ["| | at the cell asked for, % | within one cell of it, % | blank, % | read as asked, % |", "|---|---|---|---|---|"]
    where = test_set.conditions.flatten(2).amax(1).argmax(1)
    asked = torch.stack([where // CELLS, where % CELLS], 1)
    drawn = rastrum.sample(model, len(test_set), test_set.conditions, seed=seed)
    for name, x in (("drawn", drawn), ("real", test_set.images)):
        found = cell_of(x)
        each = (found == asked).all(1), ((found - asked).abs() <= 1).all(1) & (found[:, 0] >= 0), found[:, 0] < 0
        exact, near, blank = (Share(int(of.sum()), len(found)) for of in each)
        lines.append(f"| {name} | {exact} | {near} | {blank} | {share(read(network, x), test_set.labels)} |")
    save_picture(places(model, seed), out / "placed.png")
    return "\n".join(lines) + f"\n\n{len(test_set)} pictures, drawn for the maps of as many held-out ones.\n"


def places(model: RasterModel, seed: int) -> Picture:
    """Three digits, each asked for at every place; the centre of its ink is to lie in the outline."""
    asked = [(digit, i, j) for i in range(CELLS) for digit in PLACED for j in range(CELLS)]
    maps = torch.zeros(len(asked), 10, CELLS, CELLS)
    for told, place in zip(maps, asked, strict=True):
        told[place] = 1
    drawn = rastrum.sample(model, len(asked), maps, seed=seed).float()
    corners = torch.arange(model.spec.width - PATCH + 1)
    spans = [corners[corners * CELLS // len(corners) == k] for k in range(CELLS)]
    middles = [float(span.double().mean()) + (PATCH - 1) / 2 for span in spans]
    marked = [
        draw_window(tile, (middles[i], middles[j], len(spans[i]), len(spans[j])), SCALE, GREEN)
        for tile, (_, i, j) in zip(tiles(drawn, SCALE), asked, strict=True)
    ]
    return arrange(marked, len(PLACED) * CELLS, None, [str(digit) for digit in PLACED for _ in range(CELLS)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder that everything is written into")
    parser.add_argument("--classes", nargs="*", default=[], metavar="FOLDER", help="models that are told a class")
    parser.add_argument("--placed", metavar="FOLDER", help="a model that is told a map")
    parser.add_argument("--images", type=int, default=1000, help="samples, and held-out images (default: 1000)")
    parser.add_argument("--minutes", type=float, default=2.0, help="CPU-minutes of training of a classifier (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")
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
