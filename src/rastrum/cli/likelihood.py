"""``evaluate`` and ``score``: nats, bits/dim, and where an image surprises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from tyro.conf import arg

from .show import (
    NO_CONDITION,
    ConditionFlags,
    Conditions,
    Json,
    ModelName,
    answer,
    check_suffix,
    condition_for,
    conditions_in,
    load_model,
    progress,
)
from .source import Binarise, Count, Data, Images, Paths, Split, load_images

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.dataset import Dataset
    from ..model import Model

Trajectories = Annotated[int, arg(help="trajectories per image of a canvas model's bound: more are tighter")]
Ensemble = Annotated[bool, arg(help="score by the mixture over an image's flips, and quarter turns if it is square (raster models)")]
Crop = Annotated[
    bool, arg(help="cut a part of each image at a random place, always the same, instead of resizing; default: as the model was trained")
]
BATCH = 16


def score(
    model: ModelName,
    data: Data = None,
    images: Images = None,
    split: Split = None,
    count: Count = 16,
    binarise: Binarise = None,
    num_samples: Trajectories = 1,
    seed: Annotated[int, arg(help="of a canvas model's latents")] = 0,
    conditions: Conditions = NO_CONDITION,
    ensemble: Ensemble = False,
    surprise: Annotated[Path | None, arg(metavar="X.png", help="write where each image surprises a raster model, in bits per pixel; for "
                                                               "videos X.gif, which plays them")] = None,
    reference: Annotated[str | None, arg(metavar="NAME", help="data set of usual images: each image also gets z, its distance from their "
                                         "mean in their standard deviations, by its bits and by its bits less those of its PNG")] = None,
    reference_split: Annotated[str, arg(help="of the reference set: train, test, test[:100], …")] = "test",
    reference_count: Annotated[int, arg(help="a fixed random subset of the reference set of this many images")] = 500,
    json: Json = False,
) -> None:
    """Log-probability of each image: exact nats for a raster model, a lower bound for a canvas model; and bits/dim.

    With a reference set, also how unusual each image is compared with it, under its own labels or maps if it has some: docs/anomaly.md.
    """
    import torch
    from rich.table import Table

    from ..applications.anomaly import auroc, scores, z_scores
    from ..pictures.plots import surprise_map
    from ..pictures.sheets import save_picture
    from ..pictures.videos import animate_rows, save_video, surprise_colours
    from ..protocol import bits_per_dim
    from ..raster import RasterModel

    network = load_model(model)
    video = network.spec.frames > 1
    check_suffix("--surprise", surprise, ".png", *([".gif"] if video else []))
    exact = isinstance(network, RasterModel)
    if surprise is not None and not exact:
        raise ValueError(f"--surprise: {model} has a bound for whole images only; a surprise map needs a raster model")
    if surprise is not None and ensemble:
        raise ValueError("--surprise: an ensemble scores whole images only; leave out one of --surprise and --ensemble")
    if reference_count < 2:
        raise ValueError(f"--reference-count: a mean and a deviation need at least 2 images, got {reference_count}")
    loaded, usual = load_images(network, model, data, images, split, count, binarise), None
    dataset = loaded.dataset
    if reference is not None:
        usual = load_images(network, model, reference, None, reference_split, None, binarise, flag="--reference").dataset
        usual = without(usual, dataset).subset(reference_count)
    settings = Scoring(num_samples, seed, conditions, ensemble)
    x = dataset.images.long()
    nats, maps = score_images(network, dataset, settings, "scoring")
    if surprise is not None:
        pictures, nats_of_values = x / (network.spec.levels - 1), torch.cat(maps)
        if surprise.suffix.lower() == ".gif":
            save_video(animate_rows([pictures, surprise_colours(nats_of_values)], ["truth", "surprise"]), surprise)
        elif video:
            save_picture(surprise_map(pictures.flatten(0, 1), nats_of_values.flatten(0, 1), network.spec.frames), surprise)
        else:
            save_picture(surprise_map(pictures, nats_of_values), surprise)
    size = network.spec.size
    spread = float(nats.std()) / len(nats) ** 0.5 if len(nats) > 1 else None
    mean = float(nats.mean())
    result = {
        "model": model, **loaded.facts, "kind": "exact" if exact else "bound", "images": len(x),
        "ensemble": ensemble, "nats": [round(v, 6) for v in nats.tolist()],
        "bits_per_dim": [round(bits_per_dim(v, size), 6) for v in nats.tolist()],
        "mean_nats": mean, "mean_bits_per_dim": bits_per_dim(mean, size),
        "standard_error_nats": spread, "standard_error_bits_per_dim": spread and bits_per_dim(spread, size),
        "surprise": surprise and str(surprise),
    }  # fmt: skip
    columns = {"nats": [f"{v:.2f}" for v in nats.tolist()], "bits/dim": [f"{bits_per_dim(v, size):.4f}" for v in nats.tolist()]}
    plus = "" if spread is None else f" ± {spread:.2f}"
    plus_bits = "" if spread is None else f" ± {bits_per_dim(spread, size):.4f}"
    bound = "" if exact else " at most (a bound)"
    average = f"mean of {len(x)}: {mean:.2f}{plus} nats, {bits_per_dim(mean, size):.4f}{plus_bits} bits/dim{bound}"
    lines = [f"{model} on {loaded.text}", average]
    if usual is not None:
        of = scores(network.spec, x, nats)
        if conditions_in(network, usual) is not None:                # flags are for the images that are scored
            settings = settings._replace(conditions=NO_CONDITION)
        normal = scores(network.spec, usual.images, score_images(network, usual, settings, "scoring the reference")[0])
        z, corrected = z_scores(of.bits, normal.bits), z_scores(of.corrected, normal.corrected)
        areas = {"bits": auroc(normal.bits, of.bits), "corrected": auroc(normal.corrected, of.corrected)}
        result |= {"reference": reference, "reference_split": reference_split, "reference_images": len(usual)}
        result |= {"z": z.tolist(), "png_bits": of.complexity.tolist(), "z_corrected": corrected.tolist(), "auroc": areas}
        columns |= {"z": [f"{v:+.2f}" for v in z.tolist()], "PNG bits": [f"{v:.0f}" for v in of.complexity.tolist()]}
        columns["z less PNG"] = [f"{v:+.2f}" for v in corrected.tolist()]
        lines.append(
            f"z: standard deviations above the mean of {len(usual)} images of {usual.name} {usual.split}; an image here scores above one "
            f"there with chance {areas['bits']:.3f} by bits, {areas['corrected']:.3f} less PNG"
        )
    table = Table("image", *columns, box=None)
    for i, row in enumerate(zip(*columns.values(), strict=True)):
        table.add_row(str(i), *row)
    answer(result, json, table, *lines, *([f"  {surprise}"] if surprise else []))


def without(reference: Dataset, scored: Dataset) -> Dataset:
    """The images of a reference set that are not scored: compared with itself every image is usual."""
    import torch

    seen = {image.numpy().tobytes() for image in scored.images}
    others = [i for i, image in enumerate(reference.images) if image.numpy().tobytes() not in seen]
    if len(others) < 2:
        raise ValueError(f"--reference: {reference.name} {reference.split} has {len(others)} images that are not scored, 2 are needed")
    return reference.select(torch.tensor(others))


class Scoring(NamedTuple):
    """How ``score`` scores every image."""

    num_samples: int
    seed: int
    conditions: ConditionFlags
    ensemble: bool


def score_images(network: Model, dataset: Dataset, how: Scoring, what: str) -> tuple[Tensor, list[Tensor]]:
    """−log p of each image or a bound on it, (N,) float64 nats; and for a raster model log-probabilities of values, a map per batch."""
    import torch

    from ..evaluation import ensemble_log_prob
    from ..raster import RasterModel

    x = dataset.images.long()
    condition = condition_for(network, len(x), how.conditions, dataset)
    parts, maps = [], []
    with progress(what, len(x), "images") as report, torch.inference_mode():
        for start in range(0, len(x), BATCH):
            at = slice(start, start + BATCH)
            given = None if condition is None else condition[at]
            if how.ensemble:
                parts.append(ensemble_log_prob(network, x[at], given))
            elif isinstance(network, RasterModel):
                maps.append(network.log_prob_map(x[at], given))
                parts.append(maps[-1].double().flatten(1).sum(1))
            else:
                parts.append(-network.nats(x[at], given, how.num_samples, how.seed, start))
            report(min(start + BATCH, len(x)))
    return -torch.cat(parts).double(), maps


def evaluate(
    model: ModelName,
    data: Data = None,
    images: Images = None,
    split: Split = None,
    count: Annotated[int | None, arg(help="a fixed random subset of this many images; default: all")] = None,
    binarise: Binarise = None,
    num_samples: Trajectories = 1,
    seed: Annotated[int, arg(help="of a canvas model's latents")] = 0,
    conditions: Conditions = NO_CONDITION,
    ensemble: Ensemble = False,
    crop: Crop = False,
    context: Annotated[int | None, arg(metavar="N", help="of videos: nats per frame of the frames after the first N, given all before; "
                                                         "of a model without a likelihood its loss")] = None,
    paths: Paths = None,
    json: Json = False,
) -> None:
    """Mean over a data set: nats per image and bits/dim, ± standard error; exact for raster models, a bound for canvas models.

    By default on the images held out of the model's own data set, preprocessed as in training.
    """
    from ..evaluation import evaluate as over_all
    from ..evaluation import evaluate_frames
    from ..models.video_pixel_network import cross_entropy_floor
    from ..raster import RasterModel
    from .scores import as_dict, said

    network = load_model(model)
    if context is not None and (not isinstance(network, RasterModel) or network.spec.frames == 1):
        raise ValueError(f"--context: {model} draws still images; leave it out")
    if context is not None and ensemble:
        raise ValueError("--context: an ensemble scores whole videos only; leave out one of --context and --ensemble")
    loaded = load_images(network, model, data, images, split, count, binarise, crop, paths=paths)
    dataset = loaded.dataset
    condition = condition_for(network, len(dataset), conditions, dataset)
    if condition is not None and condition.is_floating_point():
        dataset = replace(dataset, conditions=condition)
    elif condition is not None:
        dataset = replace(dataset, labels=condition, classes=int(condition.max()) + 1)
    with progress("evaluating", len(dataset), "images") as report:
        if context is not None and isinstance(network, RasterModel):
            evaluation = evaluate_frames(network, dataset, context, progress=report)
        else:
            evaluation = over_all(network, dataset, num_samples=num_samples, seed=seed, ensemble=ensemble, progress=report)
    facts = {"model": model, **loaded.facts, "num_samples": num_samples, "ensemble": ensemble, "context": context}
    frames, floor = "", ""
    if context is not None:
        frames = f", per frame of frames {context + 1} to {network.spec.frames}"
        if evaluation.kind == "loss":
            facts["floor"] = float(cross_entropy_floor(dataset.images[:, context:].flatten(0, 1), network.spec.levels).mean())
            floor = f"; the frames' own entropy, which it cannot fall below: {facts['floor']:.2f}"
    answer(facts | as_dict(evaluation), json, f"{model} on {loaded.text}{frames}: {said(evaluation)}{floor}")
