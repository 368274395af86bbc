"""The data sets by name: of the Hub, of files, and those that are made here, of which some are made from the others.

**Digits**: "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998, CC BY 4.0
(the repository's test part, unchanged, as scikit-learn ships it). Held out ("test"): 360 of them, 36 of each class, evenly spaced in
the order of the file; "train": the other 1,437.

Three sets are read from where they are published if the mirror does not have them: ``published.py``. The Hub: ``hub.py``. Files and
folders: ``paths.py``. What all of them give: ``source.py``.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import torch

from ..config import DataOptions
from .arrays import SUFFIXES
from .digit_shapes import shapes
from .folders import PARQUET, has_split
from .hub import hub, mirrored
from .omniglot import OMNIGLOTS, Drawing, group_numbers, read_split
from .paths import source_of_path
from .photographs import PARTS, pieces, smaller
from .placed_digits import cluttered, halved, one_digit, spatial_maps, two_digits
from .published import FILES, published
from .reading import Opener
from .source import Source, picture_of, stack
from .textures import crops, leaves

if TYPE_CHECKING:
    from PIL import Image

# name: (Hub repository, column of the images)
HUB = {
    "mnist": ("ylecun/mnist", "image"),
    "fashion-mnist": ("zalando-datasets/fashion_mnist", "image"),
    "binarized-mnist": ("larochelle/binarized_mnist", "image"),
    "cifar10": ("uoft-cs/cifar10", "img"),
    "omniglot": ("brendenlake/omniglot", "image"),
    "omniglot28": ("sbos/omniglot28", "image"),
    "bsds300": ("berkeley/bsds300", "image"),
}
HUB_NAME = r"hub:([\w.-]+/[\w.-]+)(?::([\w.-]+))?"                     # any repository of images, and its part
# name: (generated pictures per split, empty = photographs; patches per picture of each split)
PATCHES: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "dead-leaves": ({"train": 32, "validation": 4, "test": 4}, {"train": 250, "validation": 500, "test": 500}),
    "bsds300": ({}, {"train": 100, "test": 20}),
}
PATCH = 32                     # pixels a side of a patch
OMNIGLOT = 28                  # of a character
# name: pixels a side of the canvas that digits are placed on
PLACED = {"two-digit-mnist": 60, "two-digit-mnist-colour": 60, "cluttered-mnist": 60, "placed-mnist": 32}
PHOTOGRAPHS, DESCRIBED = "photographs", "described-mnist"
VIDEOS = ("moving-mnist",)
THRESHOLDED = ("placed-mnist", *VIDEOS)    # binarised from half intensity on by default
NAMES = tuple(dict.fromkeys(("digits", *HUB, *PATCHES, PHOTOGRAPHS, *PLACED, DESCRIBED, *VIDEOS)))
HELD_OUT_DIGITS = 36           # of each class
# What a card must say about the data.
NOTICES = {
    "digits": 'Data: "Optical Recognition of Handwritten Digits", E. Alpaydin, C. Kaynak; UCI Machine Learning Repository 1998, CC BY 4.0.',
    "photographs": "Data: photographs of Debian's wallpaper packages (CC-BY, CC-BY-SA, GPL-2+), and the Berkeley Segmentation Data Set.",
    "bsds300": "Data: Berkeley Segmentation Data Set, 300 photographs; D. Martin, C. Fowlkes, D. Tal, J. Malik, ICCV 2001.",
}


def source_of(name: str, split: str, options: DataOptions) -> Source:
    """The images of a data set of still images.

    name: as ``load_dataset`` takes it.
    split: "train", "test" or what else the set has, without a slice.
    options: their size is that of a patch, or of the canvas that digits are placed on; None = the default of the set.

    Raises ``ValueError`` for an unknown name or split, and for a size that does not fit.
    """
    size = options.size
    if name in PATCHES:
        return _patches(name, split, PATCH if size is None else size)
    if name == PHOTOGRAPHS:
        return _photographs(split)
    if name in PLACED:
        return _placed(name, split, PLACED[name] if size is None else size)
    if name == DESCRIBED:
        return _described(split)
    if name == "digits":
        return _digits(split)
    if name in OMNIGLOTS:
        return _omniglot(name, split)
    if name in HUB:
        return _named(name, split, options)
    if (path := as_path(name)) is not None:
        return source_of_path(path, split)
    if match := re.fullmatch(HUB_NAME, name):
        return hub(match[1], match[2], None, split, options)
    raise ValueError(f"data: unknown data set {name!r}; there are {', '.join(NAMES)}, hub:OWNER/NAME and the path of a folder")


def _named(name: str, split: str, options: DataOptions | None = None) -> Source:
    """From the mirror if it has the set, else from where it is published, else from the Hub."""
    repository, column = HUB[name]
    if name in FILES and mirrored(repository) is None:
        images = published(name, split)
        return Source(images, len(images), None, 0)
    return hub(repository, None, column, split, options)


def _omniglot(name: str, split: str) -> Source:
    """The drawings of a split, and which show the same character."""
    parts, wanted = read_split(name, split)
    kept: list[Drawing] = []
    sources: list[tuple[Source, list[bool]]] = []
    for part in parts:
        repository, column = HUB[name]
        if mirrored(repository) is None:                                  # …/ALPHABET/CHARACTER/…_NUMBER.png
            images = published(name, part)
            paths = [PurePosixPath(path) for path, _ in images]
            facts = [(*path.parts[-3:-1], int(path.stem.rpartition("_")[2])) for path in paths]
            source = Source(images, len(images), None, 0)
        else:
            columns = ("alphabet", "character", "drawer" if name == "omniglot" else "drawing")
            source = hub(repository, None, column, part, columns=columns)
            facts = list(zip(*(source.columns[fact] for fact in columns), strict=True))
        drawings = [Drawing(alphabet, character, number - OMNIGLOTS[name]) for alphabet, character, number in facts]
        sources.append((source, [*map(wanted, drawings)]))
        kept += filter(wanted, drawings)
    images = (image for source, chosen in sources for image, take in zip(source.images, chosen, strict=True) if take)
    names = [f"{drawing.alphabet}/{drawing.character}/{drawing.number:02}" for drawing in kept]
    return _inverted(Source(images, len(kept), None, 0, groups=group_numbers(kept), names=names))


def _digits(split: str) -> Source:
    from PIL import Image

    with np.load(Path(__file__).with_name("digits.npz")) as file:
        images, labels = file["images"], file["labels"].astype(np.int64)
    held_out = np.zeros(len(labels), bool)
    for digit in range(10):
        at = np.flatnonzero(labels == digit)
        held_out[at[np.arange(HELD_OUT_DIGITS) * len(at) // HELD_OUT_DIGITS]] = True
    chosen = {"train": ~held_out, "test": held_out, "all": held_out | True}
    if split not in chosen:
        raise ValueError(f"data: digits has the splits {', '.join(chosen)}, got {split!r}")
    images, labels = images[chosen[split]], labels[chosen[split]]
    opened = ((f"digit {i}", lambda image=image: Image.fromarray(image)) for i, image in enumerate(images))
    return Source(opened, len(images), torch.from_numpy(labels), 10, levels=17, class_names=tuple("0123456789"))


def _patches(name: str, split: str, size: int) -> Source:
    made, each = PATCHES[name]
    if split not in each:
        raise ValueError(f"data: {name} has the splits {', '.join(each)}, got {split!r}")
    seed = crc32(f"{name} {split}".encode())
    if made:
        pictures, count = leaves(made[split], seed), made[split]
    else:
        source = _named(name, split)
        pictures, count = source.images, source.count
    pictures = ((name, lambda opener=opener: picture_of(opener)) for name, opener in pictures)
    return Source(crops(pictures, size, each[split], seed), count * each[split], None, 0)


def _photographs(split: str) -> Source:
    from PIL import Image

    if split not in PARTS:
        raise ValueError(f"data: {PHOTOGRAPHS} has the splits {', '.join(PARTS)}, got {split!r}")
    found: list[tuple[str, Opener]] = []
    for repository, half in PARTS[split]:
        for name, opener in hub(repository, None, None, split, DataOptions(stream=False)).images:
            picture = np.asarray(picture_of(opener).convert("RGB"))
            cut = pieces(smaller(picture) if half else picture)
            found += [(f"{name}, piece {i}", lambda piece=piece: Image.fromarray(piece)) for i, piece in enumerate(cut)]
    return Source(found, len(found), None, 0)


def _placed(name: str, split: str, size: int) -> Source:
    from PIL import Image

    if split not in ("train", "test"):
        raise ValueError(f"data: {name} has the splits train, test, got {split!r}")
    source = hub(HUB["mnist"][0], None, HUB["mnist"][1], split)
    pixels = stack(source, DataOptions(), None).together
    digits = halved(pixels[:, 0]) if name == "placed-mnist" else pixels[:, 0]
    if size < digits.shape[1]:
        raise ValueError(f"data: {name} places digits of {digits.shape[1]} pixels a side, size must be at least that, got {size}")
    seed = crc32(f"{name} {split}".encode())
    conditions, two = None, name.startswith("two-digit")
    if name == "placed-mnist":
        assert source.labels is not None
        blocks, cells = one_digit(digits, size, seed)
        conditions = torch.from_numpy(spatial_maps(cells, source.labels.numpy(), source.classes))
    else:
        blocks = two_digits(digits, len(digits), size, seed, name.endswith("colour")) if two else cluttered(digits, size, seed)
    pictures = (picture.transpose(1, 2, 0).squeeze() for block in blocks for picture in block)
    opened = ((f"{name} {split} {i}", lambda picture=picture: Image.fromarray(picture)) for i, picture in enumerate(pictures))
    if two:
        return Source(opened, len(digits), None, 0)
    return Source(opened, len(digits), source.labels, source.classes, conditions=conditions, class_names=source.class_names)


def _described(split: str) -> Source:
    pixels = stack(_named("mnist", split), DataOptions(), None).together            # which uses the images up
    return replace(_named("mnist", split), conditions=torch.from_numpy(shapes(pixels[:, 0])))


def _inverted(source: Source) -> Source:
    """Ink that is dark on white becomes white on black, of as many levels."""
    from PIL import ImageOps

    def inverted(opened: Opener) -> Image.Image | np.ndarray:
        picture = opened()
        return ~picture if isinstance(picture, np.ndarray) else ImageOps.invert(picture)

    return replace(source, images=((name, lambda opened=opened: inverted(opened)) for name, opened in source.images))


def hub_repository(name: str) -> str | None:
    """The Hub's repository that holds a data set as it is; None for sets that are made here or published elsewhere, and for files.

    name: of the data set, as ``load_dataset`` takes it.
    """
    if match := re.fullmatch(HUB_NAME, name):
        return match[1]
    return HUB[name][0] if name in HUB and name not in FILES else None


def hub_repositories(name: str) -> list[str]:
    """The Hub's repositories that the images of a data set come from, those that it is made of included.

    name: of the data set, as ``load_dataset`` takes it.
    """
    if name == PHOTOGRAPHS:
        return sorted({repository for parts in PARTS.values() for repository, _ in parts})
    repository = HUB["mnist"][0] if name in (*PLACED, DESCRIBED, *VIDEOS) else hub_repository(name)
    return [] if repository is None else [repository]


def is_public(name: str) -> bool:
    """Whether a name stands for a published data set, rather than for images of one's own.

    name: of the data set, as ``load_dataset`` takes it.
    """
    return name in NAMES or re.fullmatch(HUB_NAME, name) is not None


def as_path(name: str) -> Path | None:
    """The folder or file that the name of a data set stands for; None for the name of a set. Sets go before folders of the same name.

    name: of the data set.
    """
    if name.startswith("folder:"):
        return Path(name.removeprefix("folder:")).expanduser()
    if name in NAMES or name.startswith("hub:"):
        return None
    path = Path(name).expanduser()
    return path if path.exists() or path.suffix.lower() in (*SUFFIXES, PARQUET) or "/" in name or os.sep in name else None


def split_to_watch(name: str) -> str:
    """The split to evaluate on while training: "validation" where the set is known to have one, else "test".

    name: of the data set.
    """
    path = as_path(name)
    if path is not None:
        return "validation" if path.is_dir() and has_split(path, "validation") else "test"
    return "validation" if "validation" in {**FILES.get(name, {}), **PATCHES.get(name, ({}, {}))[1]} else "test"
