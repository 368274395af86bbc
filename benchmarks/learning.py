"""What each raster model learns of binarised MNIST in the same time, with small presets, one thread, and the same optimiser and images.

    python benchmarks/learning.py --out learning [--minutes 5] [--models pixelcnn row-lstm …] [--images 2000]

A model trains for ``--minutes`` of CPU time by ``rastrum.train`` with the settings of ``recipes.pixelrnn.five_minutes``; the learning
rate falls to zero over the given time. Intermediate weights are kept and evaluated afterwards, outside that time. The folder then holds

    learning.md      nats of the test images (a fixed random subset, the same for all; exact) with their standard error, seconds for 16
                     samples, parameters, and how many of the 406 earlier pixels the decision in the middle of the image was found to
                     depend on
    learning.png     nats against seconds, on ``--curve`` other test images     samples.png    16 samples of each, a row per model
    learning.json    all results                                                NAME/          each model, for rastrum.load

Models that the folder already holds stay in the table, so a run can be divided. The data, binarized-mnist, come from the Hub or from
RASTRUM_HUB_MIRROR.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import rastrum
from rastrum import MODELS, RasterModel
from rastrum.checking import context_of
from rastrum.data.dataset import Dataset, load_dataset
from rastrum.evaluation import evaluate
from rastrum.pictures.plots import learning_curve
from rastrum.pictures.sheets import save_picture, sheet
from rastrum.recipes import build_model
from rastrum.recipes.pixelrnn import five_minutes
from rastrum.train import train

RASTER = [name for name, model in MODELS.items() if issubclass(model, RasterModel)]
SEED, SAMPLES, POINTS, BATCH = 1, 16, 12, 16
COLUMNS = ("model", "nats", "16 samples, s", "parameters", "context", "steps")


def measure(name: str, minutes: float, train_set: Dataset, curve_set: Dataset, test_set: Dataset, out: Path) -> dict[str, Any]:
    """Train and evaluate one model; returns its results."""
    recipe = five_minutes(name)
    recipe = replace(recipe, run=replace(recipe.run, cpu_minutes=minutes))
    model = build_model(recipe, train_set)
    assert isinstance(model, RasterModel)
    kept: list[tuple[float, int, dict[str, Tensor]]] = []
    started = time.process_time()
    for state in train(model, train_set, recipe):
        if state.fraction * POINTS >= len(kept) + 1 or state.finished:
            weights = {key: value.clone() for key, value in state.model.state_dict().items()}
            kept.append((time.process_time() - started, state.step, weights))
    nats = []
    for seconds, step, weights in kept:
        model.load_state_dict(weights)
        reached = evaluate(model, curve_set, batch=BATCH)
        nats.append(reached.nats)
        print(f"{name}: {seconds:.0f} s, step {step}, {reached}", flush=True)
    score = evaluate(model, test_set, batch=BATCH)
    rastrum.sample(model, 1)                                              # loads the compiled code
    taken = []
    for seed in range(3):
        begun = time.perf_counter()
        samples = rastrum.sample(model, SAMPLES, seed=seed)
        taken.append(time.perf_counter() - begun)
    seen, _ = context_of(model, test_set.spec.width * (test_set.spec.height // 2) + test_set.spec.width // 2)
    model.save_pretrained(out / name)
    return {
        "minutes": minutes,
        "steps": kept[-1][1],
        "nats": score.nats,
        "standard_error": score.standard_error,
        "images": score.images,
        "sample_seconds": min(taken),
        "parameters": sum(p.numel() for p in model.parameters()),
        "context": int(seen.sum()),
        "curve": [[seconds for seconds, _, _ in kept], nats],
        "samples": samples.tolist(),
    }


def write(results: dict[str, dict[str, Any]], out: Path) -> str:
    """Write all files of the folder; returns the table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for name, r in sorted(results.items(), key=lambda item: item[1]["nats"]):
        nats = f"{r['nats']:.2f} ± {r['standard_error']:.2f}"
        lines.append(f"| {name} | {nats} | {r['sample_seconds']:.3f} | {r['parameters']:,} | {r['context']} | {r['steps']:,} |")
    minutes, images = ({r[key] for r in results.values()} for key in ("minutes", "images"))
    budget, count = (" or ".join(f"{n:g}" for n in sorted(each)) for each in (minutes, images))
    table = "\n".join([*lines, "", f"After {budget} CPU-minutes of one thread each; {count} test images."]) + "\n"
    (out / "learning.json").write_text(json.dumps(results) + "\n")
    (out / "learning.md").write_text(table)
    curves = {name: (r["curve"][0], r["curve"][1]) for name, r in results.items()}
    save_picture(learning_curve(curves, "seconds of CPU time", "nats per image"), out / "learning.png")
    samples = torch.tensor([r["samples"] for r in results.values()]).flatten(0, 1)
    save_picture(sheet(samples.float(), SAMPLES, row_labels=list(results)), out / "samples.png")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder that everything is written into")
    parser.add_argument("--models", nargs="*", choices=RASTER, default=RASTER, metavar="MODEL", help=", ".join(RASTER))
    parser.add_argument("--minutes", type=float, default=5.0, help="CPU-minutes of training for each model (default: 5)")
    parser.add_argument("--images", type=int, default=2000, help="test images for the table (default: 2000)")
    parser.add_argument("--curve", type=int, default=200, help="test images for the curves (default: 200)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    train_set, test_set = load_dataset("binarized-mnist", "train"), load_dataset("binarized-mnist", "test")
    both = test_set.subset(options.images + options.curve, SEED)          # sorted by class: a random subset, the same for all
    order = torch.randperm(len(both), generator=torch.Generator().manual_seed(SEED))
    curve_set, table_set = both.select(order[: options.curve]), both.select(order[options.curve :])
    known = options.out / "learning.json"
    results: dict[str, dict[str, Any]] = json.loads(known.read_text()) if known.exists() else {}
    for name in options.models:
        results[name] = measure(name, options.minutes, train_set, curve_set, table_set, options.out)
        write({each: results[each] for each in RASTER if each in results}, options.out)
    print(write({each: results[each] for each in RASTER if each in results}, options.out))


if __name__ == "__main__":
    main()
