"""``evaluate`` and ``score``: nats, bits/dim, and where an image surprises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from .source import Binarise, Count, Data, Images, Paths, SkipBroken, Split, load_images

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.dataset import Dataset
    from ..model import Model

Trajectories = Annotated[int, arg(help="trajectories per image of a canvas model's bound: more are tighter")]
Ensemble = Annotated[bool, arg(help="score by the mixture over an image's flips, and quarter turns if it is square (raster models)")]
Crop = Annotated[
    bool, arg(help="cut a part of each image at a random place, always the same, instead of resizing; default: as the model was trained")
]


def score(
    model: ModelName,
    data: Data = None,
    images: Images = None,
    split: Split = None,
    skip_broken: SkipBroken = False,
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
    from ..evaluation import conditions_for, image_nats
    from ..pictures.plots import surprise_map
    from ..pictures.sheets import save_picture
    from ..pictures.videos import animate_rows, save_video, surprise_colours
    from ..protocol import bits_per_dim
    from ..raster import RasterModel

    network = load_model(model)
    video = network.spec.frames > 1
    check_suffix("--surprise", surprise, ".png", *([".gif"] if video else []))
    network.require_likelihood()
    if surprise is not None and not isinstance(network, RasterModel):
        raise ValueError(f"--surprise: {model} has a bound for whole images only; a surprise map needs a raster model")
    if surprise is not None and ensemble:
        raise ValueError("--surprise: an ensemble scores whole images only; leave out one of --surprise and --ensemble")
    if reference_count < 2:
        raise ValueError(f"--reference-count: a mean and a deviation need at least 2 images, got {reference_count}")
    loaded, compared = load_images(network, model, data, images, split, count, binarise, skip_broken=skip_broken), None
    if reference is not None:
        compared = load_images(
            network, model, reference, None, reference_split, None, binarise, flag="--reference", skip_broken=skip_broken
        )
    dataset = conditioned(network, loaded.dataset, conditions)
    x = dataset.images

    def nats_of(images: Dataset, what: str) -> Tensor:
        with progress(what, len(images), "images") as report:
            return image_nats(network, images, num_samples=num_samples, seed=seed, ensemble=ensemble, progress=report)

    nats = nats_of(dataset, "scoring")
    if surprise is not None and isinstance(network, RasterModel):
        given, size = conditions_for(network, dataset), network.images_at_a_time
        parts = [slice(start, start + size) for start in range(0, len(x), size)]
        with torch.inference_mode():
            nats_of_values = torch.cat([network.log_prob_map(x[at], None if given is None else given[at]) for at in parts])
        pictures = x / (network.spec.levels - 1)
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
        "model": model, **loaded.facts, "kind": network.kind, "images": len(x),
        "ensemble": ensemble, "nats": [round(v, 6) for v in nats.tolist()],
        "bits_per_dim": [round(bits_per_dim(v, size), 6) for v in nats.tolist()],
        "mean_nats": mean, "mean_bits_per_dim": bits_per_dim(mean, size),
        "standard_error_nats": spread, "standard_error_bits_per_dim": spread and bits_per_dim(spread, size),
        "surprise": surprise and str(surprise),
    }  # fmt: skip
    columns = {"nats": [f"{v:.2f}" for v in nats.tolist()], "bits/dim": [f"{bits_per_dim(v, size):.4f}" for v in nats.tolist()]}
    plus = "" if spread is None else f" ± {spread:.2f}"
    plus_bits = "" if spread is None else f" ± {bits_per_dim(spread, size):.4f}"
    bound = " at most (a bound)" if network.kind == "bound" else ""
    average = f"mean of {len(x)}: {mean:.2f}{plus} nats, {bits_per_dim(mean, size):.4f}{plus_bits} bits/dim{bound}"
    lines = [f"{model} on {loaded.text}", average]
    if compared is not None:
        of, usual = scores(network.spec, x, nats), without(compared.dataset, loaded.dataset).subset(reference_count)
        own = conditions_in(network, usual) is not None                   # the flags are for the images that are scored
        usual = conditioned(network, usual, NO_CONDITION if own else conditions)
        normal = scores(network.spec, usual.images, nats_of(usual, "scoring the reference"))
        z, corrected = z_scores(of.bits, normal.bits), z_scores(of.corrected, normal.corrected)
        areas = {"bits": auroc(normal.bits, of.bits), "corrected": auroc(normal.corrected, of.corrected)}
        result |= {f"reference_{fact}": value for fact, value in compared.facts.items() if fact in ("split", "preprocessing")}
        result |= {"reference": reference, "reference_images": len(usual)}
        result |= {"z": z.tolist(), "png_bits": of.complexity.tolist(), "z_corrected": corrected.tolist(), "auroc": areas}
        columns |= {"z": [f"{v:+.2f}" for v in z.tolist()], "PNG bits": [f"{v:.0f}" for v in of.complexity.tolist()]}
        columns["z less PNG"] = [f"{v:+.2f}" for v in corrected.tolist()]
        lines.append(
            f"z: standard deviations above the mean of {len(usual)} images of {compared.text}; an image here scores above one "
            f"there with chance {areas['bits']:.3f} by bits, {areas['corrected']:.3f} less PNG"
        )
    table = Table("image", *columns, box=None)
    for i, row in enumerate(zip(*columns.values(), strict=True)):
        table.add_row(str(i), *row)
    answer(result, json, table, *lines, *([f"  {surprise}"] if surprise else []))


def without(reference: Dataset, scored: Dataset) -> Dataset:
    """The images of a reference set that are not scored: compared with itself every image is usual.

    reference: the reference set.
    scored: the images that are scored.

    Raises ``ValueError`` where fewer than two images are left.
    """
    import torch

    seen = {image.numpy().tobytes() for image in scored.images}
    others = [i for i, image in enumerate(reference.images) if image.numpy().tobytes() not in seen]
    if len(others) < 2:
        raise ValueError(f"--reference: {reference.name} {reference.split} has {len(others)} images that are not scored, 2 are needed")
    return reference.select(torch.tensor(others))


def conditioned(network: Model, dataset: Dataset, conditions: ConditionFlags) -> Dataset:
    """The data set with the condition that each image is given: what the flags say, else what the data have.

    network: the model.
    dataset: the images.
    conditions: the flags.

    Raises ``ValueError`` for flags that do not fit the model, and where it needs a condition and there is none.
    """
    condition = condition_for(network, len(dataset), conditions, dataset)
    if condition is None:
        return dataset
    if condition.is_floating_point():
        return replace(dataset, conditions=condition)
    return replace(dataset, labels=condition, classes=int(condition.max()) + 1)


def evaluate(
    model: ModelName,
    data: Data = None,
    images: Images = None,
    split: Split = None,
    skip_broken: SkipBroken = False,
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
    from ..raster import RasterModel
    from .scores import as_dict, said

    network = load_model(model)
    if context is not None and (not isinstance(network, RasterModel) or network.spec.frames == 1):
        raise ValueError(f"--context: {model} draws still images; leave it out")
    if context is not None and ensemble:
        raise ValueError("--context: an ensemble scores whole videos only; leave out one of --context and --ensemble")
    loaded = load_images(network, model, data, images, split, count, binarise, crop, paths=paths, skip_broken=skip_broken)
    dataset = conditioned(network, loaded.dataset, conditions)
    with progress("evaluating", len(dataset), "images") as report:
        if context is not None and isinstance(network, RasterModel):
            evaluation = evaluate_frames(network, dataset, context, progress=report)
        else:
            evaluation = over_all(network, dataset, num_samples=num_samples, seed=seed, ensemble=ensemble, progress=report)
    facts = {"model": model, **loaded.facts, "num_samples": num_samples, "ensemble": ensemble, "context": context}
    frames, floor = "", ""
    if context is not None:
        frames = f", per frame of frames {context + 1} to {network.spec.frames}"
        least = network.loss_floor(dataset.images[:, context:].flatten(0, 1))
        if evaluation.kind == "loss" and least is not None:
            facts["floor"] = float(least.mean())
            floor = f"; no model can have a smaller loss on these frames than {facts['floor']:.2f}"
    answer(facts | as_dict(evaluation), json, f"{model} on {loaded.text}{frames}: {said(evaluation)}{floor}")
