"""Classifying cluttered digits by a few glimpses, compared with networks of the same size that see the whole image.

    python benchmarks/reading.py --out reading [--minutes 15] [--size 60] [--networks reading perceptron convolutional]

Each network trains for ``--minutes`` of CPU time of one thread on the training images of ``cluttered-mnist``, with Adam, its own learning
rate, which falls to zero over the given time, and the same order of images; then it classifies all test images. The folder then holds

    reading.md       error with its standard error, parameters, images per second and steps of training
    reading.png      a row per test image: its window at each glimpse, and under it what the glimpse sees; the first half are classified
                     correctly, the others wrongly
    reading.json     all results, with the error on ``--curve`` test images during training

Networks that the folder already holds stay in the table, so a run can be divided. Published, on 100x100 pixels with 8 fragments, after far
longer training: 3.36 % with 8 glimpses of 12x12 (Gregor et al. 2015). Data: MNIST, from the Hub or from RASTRUM_HUB_MIRROR.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from rastrum.applications.glimpse_classifier import TRAINING, Classifier, ReadingClassifier, ReadingConfig, WholeImageClassifier
from rastrum.config import DataOptions, RunConfig, TrainConfig
from rastrum.data.dataset import Dataset, load_dataset
from rastrum.pictures.sheets import Picture, arrange, draw_window, save_picture, tiles
from rastrum.train import train

NETWORKS = {"reading": 1.5e-3, "perceptron": 3e-3, "convolutional": 1e-2}   # and its learning rate, the best of two or three tried
BATCH, SEED, POINTS, SCALE = 128, 0, 10, 2
COLUMNS = ("network", "error, %", "parameters", "images/s", "steps")


def build(name: str, data: Dataset) -> Classifier:
    """A network of the table; all have as many parameters as the first."""
    torch.manual_seed(SEED)
    reading = ReadingClassifier(data.spec, data.classes, ReadingConfig())
    parameters = sum(p.numel() for p in reading.parameters())
    return reading if name == "reading" else WholeImageClassifier(data.spec, data.classes, parameters, name == "convolutional")


@torch.no_grad()
def wrong(network: Classifier, data: Dataset) -> torch.Tensor:
    """Which images are classified wrongly, (N,) bool."""
    assert data.labels is not None
    guesses = [network.logits(part).argmax(1) for part in data.images.split(500)]
    return torch.cat(guesses) != data.labels


def learn(network: Classifier, minutes: float, rate: float, train_set: Dataset, curve_set: Dataset) -> dict[str, Any]:
    """Train, and return the results; the time includes the evaluations during training."""
    config = TrainConfig(
        optim=replace(TRAINING, learning_rate=rate, batch=BATCH), run=RunConfig(cpu_minutes=minutes, workers=1, seed=SEED)
    )
    step, curve = 0, []
    for state in train(network, train_set, config):
        step, spent = state.step, 60 * minutes * state.fraction
        if state.fraction * POINTS >= len(curve) + 1 or state.finished:
            network.eval()
            curve.append((spent, wrong(network, curve_set).float().mean().item()))
            print(f"{type(network).__name__}: {spent:.0f} s, step {step}, error {100 * curve[-1][1]:.1f} %", flush=True)
            network.train()
    return {"minutes": minutes, "steps": step, "images_per_second": step * BATCH / (60 * minutes), "curve": curve}


def picture(network: ReadingClassifier, data: Dataset, mistaken: torch.Tensor) -> Picture:
    """Windows and glimpses for three images that are classified correctly and three that are not."""
    rows = torch.cat([torch.where(~mistaken)[0][:3], torch.where(mistaken)[0][:3]])
    chosen = data.select(rows)
    guesses = network.logits(chosen.images).argmax(1).tolist()
    boxes, glimpses = network.glimpses(chosen.images)
    cells, labels = [], []
    assert chosen.labels is not None
    for image, box, glimpse, label, guess in zip(chosen.images, boxes, glimpses, chosen.labels.tolist(), guesses, strict=True):
        whole = tiles(image[None] / (data.spec.levels - 1), SCALE)[0]
        cells += [draw_window(whole, window, SCALE) for window in box]
        cells += [tile.resize(whole.size, Image.Resampling.NEAREST) for tile in tiles(glimpse.clamp(0, 1), 1)]
        labels += [f"a {label}", f"read: {guess}"]
    return arrange(cells, network.config.glimpses, labels, [str(t + 1) for t in range(network.config.glimpses)])


def table(results: dict[str, dict[str, Any]], size: int) -> str:
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for name, r in results.items():
        error = f"{100 * r['error']:.2f} ± {100 * r['standard_error']:.2f}"
        lines.append(f"| {name} | {error} | {r['parameters']:,} | {r['images_per_second']:.0f} | {r['steps']:,} |")
    budget = " or ".join(f"{minutes:g}" for minutes in sorted({r["minutes"] for r in results.values()}))
    return "\n".join([*lines, "", f"cluttered-mnist of {size}x{size} pixels, after {budget} CPU-minutes of one thread each."]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder that everything is written into; one for each size")
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS), metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--minutes", type=float, default=15.0, help="CPU-minutes of training for each network (default: 15)")
    parser.add_argument("--size", type=int, default=60, help="pixels along a side: 60 with 4 fragments, 100 with 8 (default: 60)")
    parser.add_argument("--curve", type=int, default=1000, help="test images for the errors during training (default: 1000)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    train_set, test_set = (load_dataset("cluttered-mnist", split, DataOptions(size=options.size)) for split in ("train", "test"))
    known = options.out / "reading.json"
    results: dict[str, dict[str, Any]] = json.loads(known.read_text()) if known.exists() else {}
    for name in options.networks:
        network = build(name, train_set)
        figures = learn(network, options.minutes, NETWORKS[name], train_set, test_set.subset(options.curve))
        mistaken = wrong(network, test_set)
        error = mistaken.double().mean().item()
        figures |= {"error": error, "standard_error": math.sqrt(error * (1 - error) / len(mistaken))}
        results[name] = figures | {"parameters": sum(p.numel() for p in network.parameters())}
        if isinstance(network, ReadingClassifier):
            save_picture(picture(network, test_set, mistaken), options.out / "reading.png")
        known.write_text(json.dumps(results) + "\n")
        (options.out / "reading.md").write_text(table(results, options.size))
    print(table(results, options.size))


if __name__ == "__main__":
    main()
