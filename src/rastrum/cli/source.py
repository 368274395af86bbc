"""Where a command's images come from: a data set by name, a folder or one picture, brought to the model's size, colours and levels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from tyro.conf import arg

from .names import nearest
from .show import progress, saved_array

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..model import Model
    from ..protocol import ImageSpec

Data: TypeAlias = Annotated[
    str | None, arg(metavar="NAME", help="data set: digits, mnist, fashion-mnist, binarized-mnist, cifar10, omniglot, dead-leaves, "
                                         "bsds300, two-digit-mnist, two-digit-mnist-colour, cluttered-mnist, placed-mnist, moving-mnist, "
                                         "hub:OWNER/NAME; its images are cut about the middle and resized to the model's size")
]  # fmt: skip
Images: TypeAlias = Annotated[
    Path | None, arg(metavar="PATH", help="instead of --data: a folder of images, or one image; for a model of videos X.npy, levels "
                                          "(N, T, C, H, W) as numpy.save writes them")
]  # fmt: skip
Split: TypeAlias = Annotated[str, arg(help="of the data set: train, test, test[:100], …")]
Count: TypeAlias = Annotated[int, arg(help="a fixed random subset of this many images")]
Binarise: TypeAlias = Annotated[
    Literal["static", "threshold"] | None,
    arg(help="for a model of two levels and images of more: a fixed draw, or one from half intensity on; by default threshold for "
             "placed-mnist and moving-mnist, else static"),
]

Paths: TypeAlias = Annotated[
    Literal["folded", "clipped"] | None,
    arg(help="of moving-mnist: digits' paths clipped at the walls, as published, or folded there; by default folded"),
]


def binarised_by(name: str | None) -> Literal["static", "threshold"]:
    """How a data set gets its two levels where nothing is said."""
    from ..data.dataset import THRESHOLDED

    return "threshold" if name in THRESHOLDED else "static"


def load_images(
    model: Model,
    name: str | None,
    images: Path | None,
    split: str,
    count: int | None,
    binarise: Literal["static", "threshold"] | None,
    crop: bool = False,
    flag: str = "--data",
    paths: Literal["folded", "clipped"] | None = None,
) -> Dataset:
    """Images as the model takes them: resized, or with ``crop`` a part of each. flag: what named them, for messages; paths: a video's.

    Raises ``ValueError`` for none or two sources, or images that cannot be made to fit.
    """
    from ..config import DataOptions
    from ..data.dataset import load_dataset
    from ..data.sources import NAMES, VIDEOS

    if (name is None) == (images is None):
        raise ValueError("expected one of --data NAME and --images PATH")
    if paths is not None and images is not None:
        raise ValueError(f"--paths: it is of --data moving-mnist, not of {str(images)!r}; leave it out")
    if images is not None and model.spec.frames > 1:
        return load_videos(model.spec, images, model.spec.frames, count, binarise)[0]
    if images is not None:
        if not images.exists():
            raise ValueError(f"--images: there is no {str(images)!r}")
        if images.suffix == ".npy":
            raise ValueError(f"--images: {str(images)!r} is an array, as models of videos take; give a picture, or a folder of them")
        name = f"folder:{images}"
        split = split if any((images / part).is_dir() for part in ("train", "validation", "test")) else "all"
    assert name is not None
    if model.spec.frames > 1 and name not in VIDEOS:
        have = f"{name} holds still images, this model wants videos of {model.spec.frames} frames"
        raise ValueError(f"{flag}: {have}; there are {', '.join(VIDEOS)}")
    if name not in NAMES and ":" not in name:
        raise ValueError(f"{flag}: unknown data set {name!r}; {nearest(name, NAMES)}")
    spec = model.spec
    size = spec.height if spec.height == spec.width else None
    if crop and size is None:
        raise ValueError(f"--crop: crops are square, this model wants {spec.width}x{spec.height} pixels")
    two = spec.levels == 2
    options = DataOptions(
        size=None if crop else size,
        crop=size if crop else None,
        grey=spec.channels == 1,
        frames=spec.frames if name in VIDEOS else None,
        paths=paths,
        limit=count,
        binarise=(binarise or binarised_by(name)) if two else None,
        levels=None if two else spec.levels,
    )
    with progress(f"reading {name}", 1, "images") as report:
        dataset = load_dataset(name, split, options, report)
    if dataset.spec != spec:
        have, want = (f"{s.channels}x{s.height}x{s.width}, {s.levels} levels" for s in (dataset.spec, spec))
        raise ValueError(f"{name}: its images are {have}, this model wants {want}")
    return dataset


def load_videos(
    spec: ImageSpec, path: Path, frames: int, count: int | None, binarise: Literal["static", "threshold"] | None
) -> tuple[Dataset, bool]:
    """Levels (N, at least ``frames``, C, H, W) in a .npy file; frames that the model has more are dark, and False says that there are such.

    Raises ``ValueError`` for another file, shape or level, and where they are to be binarised.
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
