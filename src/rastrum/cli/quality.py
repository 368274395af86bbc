"""How good a model's pictures are, for ``evaluate``; and the flag that says what pictures are compared by."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from tyro.conf import arg

from .show import progress
from .source import Loaded, load_images, same_set

if TYPE_CHECKING:
    from ..applications.quality import Features, Quality
    from ..data.dataset import Dataset
    from ..model import Model

FeaturesName: TypeAlias = Annotated[
    Literal["classifier", "imagenet"],
    arg(help="what pictures are compared by: a small classifier that the command trains on the data's labels, or EfficientNet-Lite0, "
             "trained on ImageNet (extra quality)"),
]  # fmt: skip


def features_of(name: str, training: Dataset) -> Features:
    """What pictures are compared by.

    name: the flag --features.
    training: the images, with labels for "classifier".
    """
    if name == "imagenet":
        from ..applications.imagenet_features import ImageNetFeatures

        return ImageNetFeatures()
    from ..applications.quality import trained_features

    return trained_features(training)


def training_images(network: Model, model: str, loaded: Loaded) -> Dataset:
    """The images of the training split of a command's data set, as the model takes them.

    network: the model.
    model: its folder or name.
    loaded: the command's images.
    """
    name, own = loaded.dataset.name, loaded.made_for
    split = own.train if own is not None and same_set(own.name, name) else "train"
    return load_images(network, model, name, None, split, None, None).dataset


def measure_pictures(network: Model, model: str, loaded: Loaded, dataset: Dataset, features: str, seed: int) -> tuple[dict[str, Any], str]:
    """Draw as many pictures as there are images, and compare them.

    network: the model.
    model: its folder or name.
    loaded: the command's images. dataset: the same with the conditions that pictures are drawn for.
    features: the flag --features.
    seed: of the pictures.

    Returns what was measured, for machines and in words.
    """
    from ..applications.quality import Reference, drawn_by
    from ..evaluation import check_data, conditions_for

    if network.spec.frames > 1:
        raise ValueError(f"--measure pictures: {model} draws videos, and only pictures are measured")
    check_data(network, dataset)
    training = training_images(network, model, loaded)
    with progress("measuring pictures", 3, "") as report:
        reference = Reference(features_of(features, training), dataset)
        report(1)
        drawn = drawn_by(network, len(dataset), seed, conditions_for(network, dataset))
        report(2)
        found, best = reference.measure(drawn), reference.best(training)
    facts = {"features": reference.features.name, "images": len(dataset), **asdict(found), "best": asdict(best)}
    text = f"{len(dataset):,} pictures by features of {reference.features.name}: {words(found)}; images of the training: {words(best)}"
    return facts, text


def words(quality: Quality) -> str:
    """What was measured, in a line.

    quality: of pictures.
    """
    return (f"kernel distance {quality.distance:.3g} ± {quality.error:.1g}, precision {quality.precision:.2f}, "
            f"recall {quality.recall:.2f}, sharpness {quality.sharpness:.2f}")  # fmt: skip
