"""Where a command's images come from: the data set that the model was made for, another by name, a folder or one picture.

They are brought to the model's size, colours and levels by the preprocessing that it was trained with, as far as its folder says, and
every answer names that preprocessing: a model of thresholded digits gives 110 nats to those, and 275 to randomly binarised ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from tyro.conf import arg

from .names import nearest
from .show import progress, saved_array

if TYPE_CHECKING:
    from ..config import DataConfig, DataOptions
    from ..data.dataset import Dataset
    from ..model import Model
    from ..protocol import ImageSpec

Data: TypeAlias = Annotated[
    str | None, arg(metavar="NAME", help="data set: digits, mnist, fashion-mnist, binarized-mnist, cifar10, omniglot, dead-leaves, "
                                         "bsds300, two-digit-mnist, two-digit-mnist-colour, cluttered-mnist, placed-mnist, moving-mnist, "
                                         "hub:OWNER/NAME; default: the one that the model was made for. Other images are cut about the "
                                         "middle and resized to the model's size")
]  # fmt: skip
Images: TypeAlias = Annotated[
    Path | None, arg(metavar="PATH", help="instead of a data set: a folder of images, or one image; for a model of videos X.npy, levels "
                                          "(N, T, C, H, W) as numpy.save writes them")
]  # fmt: skip
Split: TypeAlias = Annotated[
    str | None, arg(help="of the data set: train, test, test[:100], …; default: what was held out in training, but test for validation")
]
Count: TypeAlias = Annotated[int, arg(help="a fixed random subset of this many images")]
How: TypeAlias = Literal["static", "threshold"]
Binarise: TypeAlias = Annotated[
    How | None,
    arg(help="for a model of two levels and images of more: one fixed random draw, or 1 from half intensity on; default: as the model was "
             "trained, or else threshold for placed-mnist and moving-mnist, static for others"),
]

Paths: TypeAlias = Annotated[
    Literal["folded", "clipped"] | None,
    arg(help="for moving-mnist: digits' paths clipped at the walls, as published, or folded there; default: as in training, else folded"),
]


@dataclass(frozen=True)
class Loaded:
    """Images as a model takes them. made_for: the data of its training, None if its folder does not say."""

    dataset: Dataset
    made_for: DataConfig | None

    @property
    def text(self) -> str:
        """Which images, their preprocessing, and the model's own where it differs."""
        dataset, own = self.dataset, self.made_for
        here = described(dataset.name, dataset.split, dataset.options)
        if dataset.options is not None and dataset.options.binarise == "dynamic":
            here += " (one fixed draw)"
        if own is None:
            return f"{here}; the model's folder does not say how its images were made"
        if self.as_trained:
            return f"{here}, as in training"
        return f"{here}; trained on {described(own.name, own.train, own)}"

    @property
    def as_trained(self) -> bool:
        """Whether data set and preprocessing are those of the model's training."""
        own, options = self.made_for, self.dataset.options
        return own is not None and options is not None and own.name == self.dataset.name and replace(options, limit=own.limit) == plain(own)

    @property
    def facts(self) -> dict[str, Any]:
        """The same for machines."""
        options = self.dataset.options
        return {
            "data": self.dataset.name,
            "split": self.dataset.split,
            "preprocessing": None if options is None else asdict(options),
            "trained_on": None if self.made_for is None else asdict(self.made_for),
            "as_trained": self.as_trained if self.made_for is not None else None,
        }


def described(name: str, split: str, options: DataOptions | None) -> str:
    """A data set and its preprocessing in words."""
    if options is None:
        return f"{name} {split}, levels as saved"
    return f"{name} {split}, {str(options) or 'no preprocessing'}"


def plain(config: DataOptions) -> DataOptions:
    """The preprocessing alone."""
    from ..config import DataOptions

    return DataOptions(**{field.name: getattr(config, field.name) for field in fields(DataOptions)})


def held_out(own: DataConfig) -> str:
    """The split to score: what was not trained on; the final test set where training was watched on a validation set."""
    return "test" if own.held_out.split("[")[0] == "validation" else own.held_out


def load_images(
    network: Model,
    model: str,
    name: str | None,
    images: Path | None,
    split: str | None,
    count: int | None,
    binarise: How | None,
    crop: bool = False,
    flag: str = "--data",
    paths: Literal["folded", "clipped"] | None = None,
) -> Loaded:
    """Images as ``network`` takes them.

    model: its folder or name, which says what it was made for. name: a data set; images: a folder or picture instead; neither: the data
    that the model was made for. split: None = what was held out. count: a random subset of so many; None = all.
    binarise, paths: None = as in training. crop: cut a part of each image instead of resizing. flag: what named the data set, in messages.

    A folder or a Hub set that only the model's folder names is not opened: that is text of whoever wrote it.

    Raises ``ValueError`` for two sources, where the model's folder names none of ours, and for images that cannot be made to fit.
    """
    from ..checkpoint import read_origin
    from ..data.dataset import load_dataset
    from ..data.sources import NAMES, VIDEOS

    spec, own = network.spec, read_origin(model).data
    if name is not None and images is not None:
        raise ValueError("expected one of --data NAME and --images PATH, got both")
    if name is None and images is None and own is None:
        raise ValueError(f"the folder of {model} does not say how its images were made; give --data NAME or --images PATH")
    if name is None and images is None and own is not None and own.name not in NAMES:
        raise ValueError(f"the folder of {model} says that its images are {own.name}; to have them read, give {flag} {own.name}")
    if count is not None and count < 1:
        raise ValueError(f"--count: expected at least 1, got {count}")
    if binarise is not None and spec.levels != 2:
        raise ValueError(f"--binarise: it makes two levels, this model has {spec.levels}; leave it out")
    if paths is not None and images is not None:
        raise ValueError(f"--paths: it is for --data moving-mnist, not for {str(images)!r}; leave it out")
    if images is not None and spec.frames > 1:
        return Loaded(load_videos(spec, images, spec.frames, count, binarise)[0], own)
    if images is not None:
        if not images.exists():
            raise ValueError(f"--images: there is no {str(images)!r}")
        if images.suffix == ".npy":
            raise ValueError(f"--images: {str(images)!r} is an array, as models of videos take; give a picture, or a folder of them")
        name = f"folder:{images}"
        split = split or ("test" if any((images / part).is_dir() for part in ("train", "validation", "test")) else "all")
    elif own is not None and name in (None, own.name):
        name, split = own.name, split or held_out(own)
    assert name is not None
    if spec.frames > 1 and name not in VIDEOS:
        have = f"{name} holds still images, this model wants videos of {spec.frames} frames"
        raise ValueError(f"{flag}: {have}; there are {', '.join(VIDEOS)}")
    if name not in NAMES and ":" not in name:
        raise ValueError(f"{flag}: unknown data set {name!r}; {nearest(name, NAMES)}")
    if crop and spec.height != spec.width:
        raise ValueError(f"--crop: crops are square, this model wants {spec.width}x{spec.height} pixels")
    options = replace(preprocessing(spec, name, own, binarise, crop), limit=count)
    options = options if paths is None else replace(options, paths=paths)
    with progress(f"reading {name}", 1, "images") as report:
        dataset = load_dataset(name, split or "test", options, report)
    if dataset.spec != spec:
        have, want = (f"{s.channels}x{s.height}x{s.width}, {s.levels} levels" for s in (dataset.spec, spec))
        raise ValueError(f"{name}: its images are {have}, this model wants {want}")
    return Loaded(dataset, own)


def preprocessing(spec: ImageSpec, name: str, own: DataConfig | None, binarise: How | None, crop: bool) -> DataOptions:
    """That of the model's training for its own data set; for another, what makes its images fit, binarised and cropped as in training."""
    from ..config import DataOptions
    from ..data.sources import THRESHOLDED, VIDEOS

    cropped = crop or (own is not None and own.crop is not None)
    if own is not None and own.name == name:
        options = plain(own)
        options = options if binarise is None else replace(options, binarise=binarise, levels=None)
        return replace(options, size=None, crop=spec.height) if crop else options
    size = spec.height if spec.height == spec.width else None
    usual = "threshold" if name in THRESHOLDED else "static"
    trained = own.binarise if own is not None and name not in VIDEOS else None
    return DataOptions(
        size=None if cropped else size,
        crop=size if cropped else None,
        grey=spec.channels == 1,
        frames=spec.frames if name in VIDEOS else None,
        binarise=(binarise or trained or usual) if spec.levels == 2 else None,
        levels=None if spec.levels == 2 else spec.levels,
    )


def load_videos(spec: ImageSpec, path: Path, frames: int, count: int | None, binarise: How | None) -> tuple[Dataset, bool]:
    """Levels (N, T, C, H, W) in a .npy file, at least ``frames`` of them; missing frames are dark.

    Returns the videos, and whether all frames were there. Raises ``ValueError`` for another file, shape or level, and for ``binarise``.
    """
    from ..data.dataset import Dataset
    from ..pictures.videos import pad_frames
    from ..protocol import to_levels

    if binarise is not None:
        raise ValueError(f"--binarise: {str(path)!r} holds levels already; leave it out")
    found = saved_array("--images", path)
    if found.size == 0:
        raise ValueError(f"--images: {str(path)!r} holds no video")
    videos = to_levels(pad_frames(spec, found, frames, "--images"), spec)
    return Dataset(str(path), "all", spec, videos).subset(count), found.shape[1] >= spec.frames
