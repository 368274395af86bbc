"""Two autoencoders with a small code and decoders of the same size: one samples from a PixelCNN, one minimises the squared error.

    python benchmarks/autoencoder.py --out autoencoder [--data mnist] [--minutes 12] [--size 10] [--levels 16]

Each autoencoder trains for ``--minutes`` of CPU time of one thread. The folder then holds

    autoencoder.md        squared error per value (in [0, 1]), sharpness, and for data with classes how often a classifier, trained on real
                          images, assigns the image's class to the reconstruction
    reconstructions.png   held-out images, the averaging decoder's reconstructions, and three samples for each from the same code
    interpolations.png    equal steps between the codes of two held-out images, with the same noise along a row
    decoder/              the sampling decoder, for rastrum.load
    drawing.safetensors, averaging.safetensors    the weights, which a later call with the same settings loads instead of training

Sharpness is the mean absolute difference of neighbouring values, relative to that of the images; a blurred picture is below 1.
``--data frey`` takes the Frey faces (a film of 1,965 frames, the last 200 held out). The experiment follows van den Oord et al. 2016,
figure 6. Data come from the Hub or from RASTRUM_HUB_MIRROR.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from rastrum.applications.autoencoder import PixelCNNAutoencoder, SquaredErrorAutoencoder
from rastrum.applications.glimpse_classifier import TRAINING, WholeImageClassifier
from rastrum.config import DataOptions, RunConfig, TrainConfig
from rastrum.data.dataset import Dataset, load_dataset
from rastrum.pictures.sheets import save_picture, sheet
from rastrum.protocol import bits_per_dim
from rastrum.train import train

SPLITS = {"mnist": ("mnist", "train", "test"), "frey": ("hub:roweis/frey_faces", "train[:1765]", "train[1765:]")}
DRAWN, SHOWN, COLUMNS, SEED = 3, 12, 9, 0
CLASSIFIER_MINUTES, CLASSIFIER_SIZE = 2.0, 60_000


def trained(network: Any, data: Dataset, minutes: float, file: Path, **settings: Any) -> int:
    """Train, or load the weights of an earlier call. Returns the number of steps."""
    expected = {"minutes": f"{minutes:g}", "data": f"{data.name} {data.spec}", "size": str(network.size)}
    if file.exists():
        with safe_open(file, "pt") as saved:
            metadata = saved.metadata()
        if {key: metadata.get(key) for key in expected} != expected:
            raise ValueError(f"{file}: was trained with {metadata}, not with {expected}; choose another folder")
        network.load_state_dict(load_file(file))
        return int(metadata["steps"])
    config = TrainConfig(optim=replace(TRAINING, **settings), run=RunConfig(cpu_minutes=minutes, workers=1, seed=SEED))
    step = 0
    for state in train(network, data, config):
        step = state.step
        if step % 200 == 0:
            print(f"{type(network).__name__}: {state.fraction:.0%}, step {step}", flush=True)
    save_file(network.state_dict(), file, {**expected, "steps": str(step)})
    return step


def sharpness(unit: Tensor) -> float:
    """Mean absolute difference of neighbouring values in (N, C, H, W)."""
    return float(((unit.diff(dim=-1).abs().mean() + unit.diff(dim=-2).abs().mean()) / 2).item())


@torch.no_grad()
def measures(pictures: dict[str, Tensor], data: Dataset, classifier: WholeImageClassifier | None) -> dict[str, dict[str, float]]:
    """Measures by name of pictures in [0, 1] that reconstruct the images of ``data``."""
    top = data.spec.levels - 1
    image, found = data.images.float() / top, {}
    for name, picture in {"the images themselves": image, **pictures}.items():
        found[name] = {"squared error": float((picture - image).square().mean()), "sharpness": sharpness(picture) / sharpness(image)}
        if classifier is not None:
            assert data.labels is not None
            guess = classifier.logits((picture * top).round().long()).argmax(1)
            found[name]["same class, %"] = 100 * float((guess == data.labels).float().mean())
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    columns = list(next(iter(found.values())))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{v:.4g}" for v in values.values()) + " |" for name, values in found.items()]
    return "\n".join(lines) + "\n"


def interpolations(drawing: PixelCNNAutoencoder, averaging: SquaredErrorAutoencoder, pairs: Tensor) -> Tensor:
    """Rows (2 N, COLUMNS, C, H, W) in [0, 1] between the images of each pair (N, 2, …): sampled and averaged."""
    rows = []
    steps = torch.linspace(0, 1, COLUMNS)[:, None]
    for number, (first, last) in enumerate(pairs):
        for network in (drawing, averaging):
            with torch.no_grad():
                ends = network.encode(torch.stack([first, last]))
                codes = ends[0] + steps * (ends[1] - ends[0])
                if isinstance(network, SquaredErrorAutoencoder):
                    rows.append(network.picture(codes).clamp(0, 1))
                    continue
            alone = [drawing.decode(code[None], seed=number) for code in codes]     # each is image 0 of its seed: the same noise
            rows.append(torch.cat(alone) / (drawing.spec.levels - 1))
    return torch.stack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder that everything is written into")
    parser.add_argument("--data", choices=SPLITS, default="mnist")
    parser.add_argument("--minutes", type=float, default=12.0, help="CPU-minutes of training for each autoencoder (default: 12)")
    parser.add_argument("--size", type=int, default=10, help="values of the code (default: 10)")
    parser.add_argument("--levels", type=int, default=16, help="levels of the images (default: 16)")
    parser.add_argument("--images", type=int, default=500, help="held-out images in the table (default: 500)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    name, *splits = SPLITS[options.data]
    train_set, test_set = (load_dataset(name, split, DataOptions(levels=options.levels)) for split in splits)
    spec, test_set = train_set.spec, test_set.subset(options.images)
    torch.manual_seed(SEED)
    drawing = PixelCNNAutoencoder(spec, options.size, layers=6)
    parameters = count(drawing.decoder) + count(drawing.spread)
    averaging = SquaredErrorAutoencoder(spec, options.size, parameters)
    files = [options.out / f"{name}.safetensors" for name in ("drawing", "averaging")]
    drawn = trained(drawing, train_set, options.minutes, files[0], learning_rate=2e-3, batch=16, clip=100.0)
    averaged = trained(averaging, train_set, options.minutes, files[1], learning_rate=2e-3, batch=64, clip=20.0)
    classifier = None
    if train_set.labels is not None:
        classifier = WholeImageClassifier(spec, train_set.classes, CLASSIFIER_SIZE, convolutional=True)
        config = TrainConfig(optim=TRAINING, run=RunConfig(cpu_minutes=CLASSIFIER_MINUTES, workers=1, seed=SEED))
        for _ in train(classifier, train_set, config):
            pass
    top = spec.levels - 1
    with torch.no_grad():
        blurred = averaging.picture(averaging.encode(test_set.images)).clamp(0, 1)
        loss = torch.cat([drawing.loss(part) for part in test_set.images.split(16)])
    copies = [drawing.reconstruct(test_set.images, seed).float() / top for seed in range(DRAWN)]
    found = measures({"averaging decoder": blurred, "sampling decoder": copies[0]}, test_set, classifier)
    size = count(drawing) - parameters
    budget = f"{options.minutes:g} CPU-minutes each: {drawn:,} steps of 16 (sampling), {averaged:,} of 64 (averaging)"
    bits = bits_per_dim(float(loss.mean()), spec.size)
    text = (
        f"{table(found)}\n{options.size} values per image, {options.data}, {spec.levels} levels, {len(test_set)} held-out images; encoder "
        f"{size:,} parameters, decoders {parameters:,} (sampling) and {count(averaging) - size:,} (averaging); {budget}. "
        f"−log p(x | h(x)) of the sampling decoder: {float(loss.mean()):.2f} nats, {bits:.4f} bits per value.\n"
    )
    (options.out / "autoencoder.md").write_text(text)
    print(text)
    rows = torch.stack([test_set.images / top, blurred, *copies])[:, :SHOWN]
    labels = ["image", "averaged", *["drawn"] * DRAWN]
    save_picture(sheet(rows.flatten(0, 1), SHOWN, row_labels=labels), options.out / "reconstructions.png")
    pairs = test_set.images[: 2 * 4].unflatten(0, (4, 2))
    between = interpolations(drawing, averaging, pairs)
    ends = ["drawn", "averaged"] * len(pairs)
    save_picture(sheet(between.flatten(0, 1), COLUMNS, row_labels=ends), options.out / "interpolations.png")
    drawing.decoder.save_pretrained(options.out / "decoder")


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


if __name__ == "__main__":
    main()
