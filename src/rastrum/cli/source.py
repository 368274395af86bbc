"""Where a command's images come from: the data set that the model was made for, another by name, a folder or one picture.

They are brought to the model's size, colours and levels by the preprocessing that it was trained with, as far as its folder says, and
every answer names that preprocessing: a model of thresholded digits gives 110 nats to those, and 275 to randomly binarised ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from tyro.conf import arg

from ..names import nearest
from .show import messages, origin_of, progress, same_in_all, saved_array

if TYPE_CHECKING:
    from ..config import DataConfig, DataOptions
    from ..data.dataset import Dataset
    from ..model import Model
    from ..protocol import ImageSpec

Data: TypeAlias = Annotated[
    str | None, arg(metavar="NAME", help="data set: digits, mnist, fashion-mnist, binarized-mnist, cifar10, omniglot, omniglot28, "
                                         "dead-leaves, bsds300, photographs, two-digit-mnist, two-digit-mnist-colour, cluttered-mnist, "
                                         "placed-mnist, described-mnist, moving-mnist, hub:OWNER/NAME, or the path of a folder "
                                         "of images or of parquet files, of an image, an array or a parquet file; default: the one that "
                                         "the model was made for. Other images are cut about the middle and resized to the model's size")
]  # fmt: skip
Images: TypeAlias = Annotated[
    Path | None, arg(metavar="PATH", help="instead of a data set: a folder of images or of parquet files, one image, a parquet file, or an "
                                          "array X.npy or X.npz of the model's levels, (N, H, W) or (N, C, H, W), for a model of videos "
                                          "(N, T, C, H, W)")
]  # fmt: skip
Split: TypeAlias = Annotated[
    str | None, arg(help="of data set or images: train, validation, test, all, test[:100], …; default: what was held out in training, but "
                  "test for validation; of other images all, or the split test where their folder has one")
]
SkipBroken: TypeAlias = Annotated[bool, arg(help="leave out image files that cannot be read, counted and named, instead of stopping")]
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
    """Images as a model takes them.

    dataset: the images.
    made_for: the data of the model's training; None if its folder does not say.
    """

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
        if own is None or options is None or not same_set(own.name, self.dataset.name):
            return False
        return replace(options, limit=own.limit, skip_broken=own.skip_broken, stream=own.stream) == own.plain()

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


def same_set(one: str, other: str) -> bool:
    """Whether two names are of the same data set: equal, or paths of the same folder or file.

    one, other: names as ``--data`` takes them.
    """
    from ..data.sources import as_path

    paths = as_path(one), as_path(other)
    return one == other or (paths[0] is not None and paths[1] is not None and paths[0].resolve() == paths[1].resolve())


def described(name: str, split: str, options: DataOptions | None) -> str:
    """A data set and its preprocessing in words.

    name, split: of the data set.
    options: the preprocessing; None = unknown.
    """
    name = name.removeprefix("folder:")
    if options is None:
        return f"{name} {split}, levels as saved"
    return f"{name} {split}, {str(options) or 'no preprocessing'}"


def held_out(own: DataConfig) -> str:
    """The split of ``own`` to score: what was not trained on; the final test set, if there is one, where training was watched on a
    validation set."""
    from ..data.folders import has_split
    from ..data.sources import as_path

    path = as_path(own.name)
    final = path is None or not path.is_dir() or has_split(path, "test")
    return "test" if own.held_out.split("[")[0] == "validation" and final else own.held_out


def _fingerprint(loaded: Loaded) -> dict[str, Any]:
    from ..training.record import fingerprint

    return fingerprint(loaded.dataset)


@same_in_all("images", _fingerprint)
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
    skip_broken: bool = False,
) -> Loaded:
    """Images as a model takes them.

    network: the model.
    model: its folder or name, which says what it was made for.
    name: a data set; None = the one that the model was made for, or ``images``.
    images: a folder or picture instead of a data set; None for none.
    split: of the data set; None = what was held out.
    count: a random subset of so many; None = all.
    binarise: how, for a model of two levels; None = as in training.
    crop: cut a part of each image instead of resizing; False by default.
    flag: what named the data set, in messages; "--data" by default.
    paths: of moving digits; None (default) = as in training.
    skip_broken: leave out files that cannot be read; False by default.

    A folder or a Hub set that only the model's folder names is not opened: that is text of whoever wrote it.

    Raises ``ValueError`` for two sources, where the model's folder names none of ours, and for images that cannot be made to fit.
    """
    from ..data.arrays import SUFFIXES
    from ..data.dataset import load_dataset
    from ..data.folders import has_split
    from ..data.sources import NAMES, VIDEOS, as_path

    spec, own = network.spec, origin_of(network, model).data
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
    if images is not None:
        if not images.exists():
            raise ValueError(f"--images: there is no {str(images)!r}")
        name, flag = f"folder:{images}", "--images"
    path = None if name is None else as_path(name)
    if own is not None and (name is None or same_set(own.name, name)):    # the model's own, under the name that it was trained with
        name, split, path = own.name, split or held_out(own), None
    if path is not None and spec.frames > 1:
        return Loaded(load_videos(spec, path, spec.frames, count, binarise, split)[0], own)
    if path is not None and path.suffix.lower() in SUFFIXES and path.is_file():
        levels = load_levels(spec, path, split, binarise, flag)
        if levels is not None:
            return Loaded(levels.subset(count), own)
    if path is not None:
        split = split or ("test" if path.is_dir() and has_split(path, "test") else "all")
    assert name is not None
    if spec.frames > 1 and name not in VIDEOS:
        have = f"{name} holds still images, this model wants videos of {spec.frames} frames"
        raise ValueError(f"{flag}: {have}; there are {', '.join(VIDEOS)}")
    if name not in NAMES and ":" not in name and as_path(name) is None:
        raise ValueError(f"{flag}: unknown data set {name!r}; {nearest(name, NAMES)}")
    if crop and spec.height != spec.width:
        raise ValueError(f"--crop: crops are square, this model wants {spec.width}x{spec.height} pixels")
    options = replace(preprocessing(spec, name, own, binarise, crop), limit=count)
    options = replace(options, skip_broken=skip_broken)
    options = options if paths is None else replace(options, paths=paths)
    with progress(f"reading {name}", 1, "") as report:
        dataset = load_dataset(name, split or "test", options, report)
    show_notes(dataset)
    if dataset.spec != spec:
        have, want = (f"{s.channels}x{s.height}x{s.width}, {s.levels} levels" for s in (dataset.spec, spec))
        raise ValueError(f"{name}: its images are {have}, this model wants {want}")
    return Loaded(dataset, own)


def preprocessing(spec: ImageSpec, name: str, own: DataConfig | None, binarise: How | None, crop: bool) -> DataOptions:
    """That of the model's training for its own data set; for another, what makes its images fit, binarised and cropped as in training.
    Omniglot of another kind also has as many exemplars.

    spec: of the model's images.
    name: of the data set.
    own: the data of the model's training; None = unknown.
    binarise: how, instead of as in training; None for as in training.
    crop: whether a part of each image is cut instead of resizing.
    """
    from ..config import DataOptions
    from ..data.omniglot import OMNIGLOTS
    from ..data.sources import THRESHOLDED, VIDEOS

    cropped = crop or (own is not None and own.crop is not None)
    if own is not None and same_set(own.name, name):
        options = own.plain()
        options = options if binarise is None else replace(options, binarise=binarise, levels=None)
        return replace(options, size=None, crop=spec.height) if crop else options
    size = spec.height if spec.height == spec.width else None
    usual = "threshold" if name in THRESHOLDED else "static"
    trained = own.binarise if own is not None and name not in VIDEOS else None
    return DataOptions(
        size=None if cropped else size,
        crop=size if cropped else None,
        grey=spec.channels == 1,
        colour=spec.channels == 3,
        background="white" if own is None else own.background,
        frames=spec.frames if name in VIDEOS else None,
        binarise=(binarise or trained or usual) if spec.levels == 2 else None,
        levels=None if spec.levels == 2 else spec.levels,
        exemplars=own.exemplars if own is not None and name in OMNIGLOTS else None,
    )


def show_notes(*datasets: Dataset) -> None:
    """Say what was passed over when images were read, each thing once."""
    for note in dict.fromkeys(note for dataset in datasets for note in dataset.notes):
        messages.print(note)


def load_levels(spec: ImageSpec, path: Path, split: str | None, binarise: How | None, flag: str) -> Dataset | None:
    """Levels of the model in a .npy or .npz file, which are used as they are; None if the file says that it has other levels.

    spec: of the model.
    path: of the file.
    split: of the images; None = all.
    binarise: how, if the file is to be binarised; None = not.
    flag: what named the file, in messages.

    Raises ``ValueError`` for another shape or level.
    """
    from ..data.arrays import read_arrays
    from ..data.dataset import Dataset
    from ..data.paths import array_names

    found = read_arrays(path)
    if found.levels not in (None, spec.levels) or (found.levels is None and binarise is not None):
        return None
    shape = found.images.shape[1:]
    if found.levels is None and (shape != spec.shape or int(found.images.max()) >= spec.levels or int(found.images.min()) < 0):
        want = f"levels 0 … {spec.levels - 1} of shape (N, {', '.join(map(str, spec.shape))})"
        have = f"{int(found.images.min())} … {int(found.images.max())} of shape {found.images.shape}"
        remedy = "save an .npz with levels=256 (or how many they have) to have them resized and requantised"
        raise ValueError(f"{flag}: this model takes {want}, {str(path)!r} holds {have}; {remedy}")
    if shape != spec.shape:
        return None
    labels = None if found.labels is None else torch_of(found.labels)
    classes = 0 if found.labels is None else int(found.labels.max(initial=0)) + 1
    names = array_names(path, range(len(found.images)))
    dataset = Dataset(str(path), split or "all", spec, torch_of(found.images), labels, classes, names=names)
    return part_of(dataset, split)


def torch_of(values: Any) -> Any:
    """The same as an int64 tensor.

    values: whole numbers.
    """
    import numpy as np
    import torch

    return torch.from_numpy(np.ascontiguousarray(values, np.int64))


def part_of(dataset: Dataset, split: str | None) -> Dataset:
    """A split such as test or all[:10] of images in a file: every tenth is test, the others train.

    dataset: all images of the file.
    split: its name; None = all.

    Raises ``ValueError`` for an empty split.
    """
    from ..data.dataset import parse_split
    from ..data.folders import file_split

    part, chosen = parse_split(split or "all")
    index = torch_of(file_split(dataset.name, len(dataset), part))
    found = dataset.select(index).select(chosen)
    if len(found) == 0:
        raise ValueError(f"--split: {split} of {dataset.name} is empty, {part} has {len(index)} images")
    return found


def load_videos(
    spec: ImageSpec, path: Path, frames: int, count: int | None, binarise: How | None, split: str | None = None
) -> tuple[Dataset, bool]:
    """Levels (N, T, C, H, W) in a .npy file, at least ``frames`` of them; missing frames are dark.

    spec: of the model.
    path: of the file, integer levels (N, T, C, H, W).
    frames: how many must be there at least.
    count: a random subset of so many videos; None = all.
    binarise: None; ``ValueError`` for anything else.
    split: of the videos; None (default) = all.

    Returns the videos, and whether all frames were there. Raises ``ValueError`` for another file, shape or level.
    """
    from ..data.dataset import Dataset
    from ..data.paths import array_names
    from ..pictures.videos import pad_frames
    from ..protocol import to_levels

    if binarise is not None:
        raise ValueError(f"--binarise: {str(path)!r} holds levels already; leave it out")
    found = saved_array("--images", path)
    if found.size == 0:
        raise ValueError(f"--images: {str(path)!r} holds no video")
    videos = to_levels(pad_frames(spec, found, frames, "--images"), spec)
    dataset = Dataset(str(path), split or "all", spec, videos, names=array_names(path, range(len(videos))))
    return part_of(dataset, split).subset(count), found.shape[1] >= spec.frames
