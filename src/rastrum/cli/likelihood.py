"""``evaluate``: the mean score over a data set, or how good the pictures are that a model draws."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from .quality import FeaturesName, measure_pictures
from .show import (
    NO_CONDITION,
    ConditionFlags,
    Conditions,
    Device,
    Json,
    ModelName,
    answer,
    condition_for,
    conditions_in,
    load_model,
    progress,
)
from .source import Binarise, Data, Images, Paths, SkipBroken, Split, load_images

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..model import Model

Trajectories = Annotated[int, arg(help="trajectories per image of a canvas model's bound: more are tighter")]
Ensemble = Annotated[bool, arg(help="score by the mixture over an image's flips, and quarter turns if it is square (raster models)")]
Crop = Annotated[
    bool, arg(help="cut a part of each image at a random place, always the same, instead of resizing; default: as the model was trained")
]


def conditioned(network: Model, dataset: Dataset, conditions: ConditionFlags) -> Dataset:
    """The data set with the condition that each image is given: what the flags say, else what the data have.

    network: the model.
    dataset: the images.
    conditions: the flags.

    Raises ``ValueError`` for flags that do not fit the model, and where it needs a condition and there is none.
    """
    from ..data.exemplars import ExemplarSets

    own = dataset.conditions
    if conditions == NO_CONDITION and isinstance(own, ExemplarSets) and conditions_in(network, dataset) is own:
        return dataset                                                    # sets are made a batch at a time
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
    seed: Annotated[int, arg(help="of a canvas model's latents, and of drawn pictures")] = 0,
    measure: Annotated[Literal["likelihood", "pictures"] | None, arg(help="nats per image, or as many drawn pictures: kernel distance to "
             "the images, precision, recall and sharpness; default: pictures for gran and dcgan, which have no likelihood")] = None,
    features: FeaturesName = "classifier",
    conditions: Conditions = NO_CONDITION,
    ensemble: Ensemble = False,
    crop: Crop = False,
    context: Annotated[int | None, arg(metavar="N", help="of videos: nats per frame of the frames after the first N, given all before; "
                                                         "of a model without a likelihood its loss")] = None,
    paths: Paths = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Mean over a data set: nats per image and bits/dim, ± standard error; exact for raster models, a bound for canvas models. Of
    adversarial models how good their pictures are.

    By default on the images held out of the model's own data set, preprocessed as in training.
    """
    from ..adversarial import AdversarialModel
    from ..evaluation import evaluate as over_all
    from ..evaluation import evaluate_frames
    from ..processes import join
    from ..raster import RasterModel
    from .scores import as_dict, said

    network = load_model(model, device)
    if context is not None and (not isinstance(network, RasterModel) or network.spec.frames == 1):
        raise ValueError(f"--context: {model} draws still images; leave it out")
    if context is not None and ensemble:
        raise ValueError("--context: an ensemble scores whole videos only; leave out one of --context and --ensemble")
    pictures = isinstance(network, AdversarialModel) if measure is None else measure == "pictures"
    given = {"--num-samples": num_samples != 1, "--ensemble": ensemble, "--context": context is not None}
    for flag in (flag for flag, used in given.items() if used and pictures):
        raise ValueError(f"{flag}: it is of likelihoods, and pictures are measured here; leave it out")
    if pictures and join().count > 1:
        raise ValueError(f"--measure pictures: it runs in one process, and torchrun started {join().count}")
    loaded = load_images(network, model, data, images, split, count, binarise, crop, paths=paths, skip_broken=skip_broken)
    dataset = conditioned(network, loaded.dataset, conditions)
    if pictures:
        found, text = measure_pictures(network, model, loaded, dataset, features, seed)
        answer({"model": model, **loaded.facts, **found}, json, f"{model} on {loaded.text}: {text}")
        return
    with progress("evaluating", len(dataset), "images") as report:
        shown = {"progress": report, "processes": join()}
        if context is not None and isinstance(network, RasterModel):
            evaluation = evaluate_frames(network, dataset, context, **shown)
        else:
            evaluation = over_all(network, dataset, num_samples=num_samples, seed=seed, ensemble=ensemble, **shown)
    facts = {"model": model, **loaded.facts, "num_samples": num_samples, "ensemble": ensemble, "context": context}
    frames, floor = "", ""
    if context is not None:
        frames = f", per frame of frames {context + 1} to {network.spec.frames}"
        least = network.loss_floor(dataset.images[:, context:].flatten(0, 1))
        if evaluation.kind == "loss" and least is not None:
            facts["floor"] = float(least.mean())
            floor = f"; no model can have a smaller loss on these frames than {facts['floor']:.2f}"
    answer(facts | as_dict(evaluation), json, f"{model} on {loaded.text}{frames}: {said(evaluation)}{floor}")
