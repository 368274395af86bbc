"""``evaluate`` and ``score``: nats, bits/dim, and where an image surprises."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from .show import Classes, Json, Model, answer, bits_per_dim, check_suffix, class_condition, load_model, progress
from .source import Binarise, Count, Data, Images, Split, load_images

Trajectories = Annotated[int, arg(help="trajectories an image of a canvas model's bound: more are tighter")]
Ensemble = Annotated[bool, arg(help="score by the mixture over an image's flips, and quarter turns of a square one (raster models)")]
Crop = Annotated[bool, arg(help="cut each image at a random place, always the same, and resize nothing")]
BATCH = 16


def score(
    model: Model,
    data: Data = None,
    images: Images = None,
    split: Split = "test",
    count: Count = 16,
    binarise: Binarise = "static",
    num_samples: Trajectories = 1,
    seed: Annotated[int, arg(help="of a canvas model's latents")] = 0,
    classes: Classes = None,
    ensemble: Ensemble = False,
    map: Annotated[Path | None, arg(metavar="X.png", help="write where each image surprises a raster model: bits a pixel")] = None,
    json: Json = False,
) -> None:
    """Log-probability of each image: exact nats for a raster model, a lower bound for a canvas model; and bits/dim."""
    import torch
    from rich.table import Table

    from ..evaluation import ensemble_log_prob
    from ..pictures import save_picture
    from ..plots import surprise_map
    from ..raster import RasterModel

    check_suffix("--map", map, ".png")
    network = load_model(model)
    exact = isinstance(network, RasterModel)
    if map is not None and not exact:
        raise ValueError(f"--map: {model} has a bound for whole images only; a surprise map needs a raster model")
    if map is not None and ensemble:
        raise ValueError("--map: an ensemble scores whole images only; leave out one of --map and --ensemble")
    dataset = load_images(network, data, images, split, count, binarise)
    x = dataset.images.long()
    condition = class_condition(network, len(x), classes, dataset.labels)
    parts, maps = [], []
    with progress("scoring", len(x), "images") as report, torch.inference_mode():
        for start in range(0, len(x), BATCH):
            at = slice(start, start + BATCH)
            told = None if condition is None else condition[at]
            if ensemble:
                parts.append(ensemble_log_prob(network, x[at], told))
            elif isinstance(network, RasterModel):
                maps.append(network.log_prob_map(x[at], told))
                parts.append(maps[-1].double().flatten(1).sum(1))
            else:
                parts.append(network.bound(x[at], told, num_samples, seed, first=start))
            report(min(start + BATCH, len(x)))
    nats = -torch.cat(parts)
    if map is not None:
        save_picture(surprise_map(x / (network.spec.levels - 1), torch.cat(maps)), map)
    size = network.spec.size
    spread = float(nats.std()) / len(nats) ** 0.5 if len(nats) > 1 else None
    mean = float(nats.mean())
    result = {
        "model": model, "data": dataset.name, "split": dataset.split, "kind": "exact" if exact else "bound", "images": len(x),
        "ensemble": ensemble, "nats": [round(v, 6) for v in nats.tolist()],
        "bits_per_dim": [round(bits_per_dim(v, size), 6) for v in nats.tolist()],
        "mean_nats": mean, "mean_bits_per_dim": bits_per_dim(mean, size),
        "standard_error_nats": spread, "standard_error_bits_per_dim": spread and bits_per_dim(spread, size), "map": map and str(map),
    }  # fmt: skip
    table = Table("image", "nats", "bits/dim", box=None)
    for i, v in enumerate(nats.tolist()):
        table.add_row(str(i), f"{v:.2f}", f"{bits_per_dim(v, size):.4f}")
    plus = "" if spread is None else f" ± {spread:.2f}"
    plus_bits = "" if spread is None else f" ± {bits_per_dim(spread, size):.4f}"
    bound = "" if exact else " at most (a bound)"
    summary = f"mean of {len(x)}: {mean:.2f}{plus} nats, {bits_per_dim(mean, size):.4f}{plus_bits} bits/dim{bound}"
    answer(result, json, table, summary, *([f"  {map}"] if map else []))


def evaluate(
    model: Model,
    data: Data = None,
    images: Images = None,
    split: Split = "test",
    count: Annotated[int | None, arg(help="a fixed random subset of this many images; by default all")] = None,
    binarise: Binarise = "static",
    num_samples: Trajectories = 1,
    seed: Annotated[int, arg(help="of a canvas model's latents")] = 0,
    ensemble: Ensemble = False,
    crop: Crop = False,
    json: Json = False,
) -> None:
    """Mean over a data set: nats an image and bits/dim, ± standard error; exact for raster models, a bound for canvas models."""
    from ..evaluation import evaluate as over_all
    from .training import as_dict, said

    network = load_model(model)
    dataset = load_images(network, data, images, split, count, binarise, crop)
    with progress("evaluating", len(dataset), "images") as report:
        evaluation = over_all(network, dataset, num_samples=num_samples, seed=seed, ensemble=ensemble, progress=report)
    drawn = f" (binarised if it was not: {binarise})" if network.spec.levels == 2 else ""
    asked = {"model": model, "data": dataset.name, "split": dataset.split, "binarise": binarise, "num_samples": num_samples}
    asked |= {"ensemble": ensemble, "crop": crop}
    answer(
        asked | as_dict(evaluation),
        json,
        f"{model} on {dataset.name} {dataset.split}{drawn}: {said(evaluation)}",
    )
