"""Where images come from: files, the Hub, and pictures generated from them, each opened only when it is read; and their pixels as levels.

Hub sets are read from the folder named by the environment variable RASTRUM_HUB_MIRROR if it holds ``OWNER/NAME``, else from the Hub.

**Digits**: "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998, CC BY 4.0
(the repository's test part, unchanged, as scikit-learn ships it). Held out ("test"): 360 of them, 36 of each class, evenly spaced in
the order of the file; "train": the other 1,437.

**Folders**: labels are the names of subfolders, if all images lie in one. ``train``, ``validation`` and ``test`` are subfolders if
there are any; else "test" is every tenth image in the order of the names, "train" the others and "all" all of them.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from ..config import DataOptions
from .options import requantise
from .placed_digits import cluttered, halved, one_digit, spatial_maps, two_digits
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
}
# name: (Hub repository and column, or None = generated; generated pictures per split; patches per picture of each split)
PATCHES: dict[str, tuple[tuple[str, str] | None, dict[str, int], dict[str, int]]] = {
    "dead-leaves": (None, {"train": 32, "validation": 4, "test": 4}, {"train": 250, "validation": 500, "test": 500}),
    "bsds300": (("berkeley/bsds300", "image"), {}, {"train": 100, "test": 20}),
}
PATCH = 32                     # pixels a side of a patch
OMNIGLOT = 28                  # of a character
# name: pixels a side of the canvas that digits are placed on
PLACED = {"two-digit-mnist": 60, "two-digit-mnist-colour": 60, "cluttered-mnist": 60, "placed-mnist": 32}
VIDEOS = ("moving-mnist",)
THRESHOLDED = ("placed-mnist", *VIDEOS)    # binarised from half intensity on by default
NAMES = ("digits", *HUB, *PATCHES, *PLACED, *VIDEOS)
HELD_OUT_DIGITS = 36           # of each class
# What a card must say about the data.
NOTICES = {
    "digits": 'Data: "Optical Recognition of Handwritten Digits", E. Alpaydin, C. Kaynak; UCI Machine Learning Repository 1998, CC BY 4.0.',
    "bsds300": "Data: Berkeley Segmentation Data Set, 300 photographs; D. Martin, C. Fowlkes, D. Tal, J. Malik, ICCV 2001.",
}

Progress = Callable[[float], object]  # takes the fraction read, 0 … 1


@dataclass
class Source:
    """Images of a split, not opened yet.

    images: pairs of a name for messages and a function that opens the image.
    count: number of images N.
    labels, classes, conditions, class_names: as for ``Dataset``.
    levels: of an 8-bit channel; 0 (default) = as the image says.
    """

    images: Iterable[tuple[str, Callable[[], Image.Image]]]
    count: int
    labels: Tensor | None
    classes: int
    levels: int = 0
    conditions: Tensor | None = None
    class_names: tuple[str, ...] = ()


def source_of(name: str, split: str, size: int | None) -> Source:
    """The images of a data set of still images.

    name: as ``load_dataset`` takes it.
    split: "train", "test" or what else the set has, without a slice.
    size: pixels a side of a patch, or of the canvas that digits are placed on; None = the default of the set.

    Raises ``ValueError`` for an unknown name or split, and for a size that does not fit.
    """
    if name in PATCHES:
        return _patches(name, split, PATCH if size is None else size)
    if name in PLACED:
        return _placed(name, split, PLACED[name] if size is None else size)
    if name == "digits":
        return _digits(split)
    if name.startswith("folder:"):
        return _folder(Path(name.removeprefix("folder:")).expanduser(), split)
    if name in HUB:
        repository, column = HUB[name]
        source = hub(repository, None, column, split)
        return _inverted(source) if name == "omniglot" else source
    if match := re.fullmatch(r"hub:([\w.-]+/[\w.-]+)(?::([\w.-]+))?", name):
        return hub(match[1], match[2], None, split)
    raise ValueError(f"data: unknown data set {name!r}; there are {', '.join(NAMES)}, folder:PATH and hub:OWNER/NAME")


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
    repository, made, each = PATCHES[name]
    if split not in each:
        raise ValueError(f"data: {name} has the splits {', '.join(each)}, got {split!r}")
    seed = crc32(f"{name} {split}".encode())
    if repository is None:
        pictures, count = leaves(made[split], seed), made[split]
    else:
        source = hub(repository[0], None, repository[1], split)
        pictures, count = source.images, source.count
    return Source(crops(pictures, size, each[split], seed), count * each[split], None, 0)


def _placed(name: str, split: str, size: int) -> Source:
    from PIL import Image

    if split not in ("train", "test"):
        raise ValueError(f"data: {name} has the splits train, test, got {split!r}")
    source = hub(HUB["mnist"][0], None, HUB["mnist"][1], split)
    pixels, _ = stack(source, DataOptions(), None)
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


def _inverted(source: Source) -> Source:
    """Ink that is dark on white becomes white on black."""
    from PIL import ImageOps

    inverted = ((name, lambda opened=opened: ImageOps.invert(opened().convert("L"))) for name, opened in source.images)
    return replace(source, images=inverted)


def _folder(root: Path, split: str) -> Source:
    from PIL import Image

    if root.is_file():
        return Source([(str(root), lambda: Image.open(root))], 1, None, 0)
    if not root.is_dir():
        raise ValueError(f"data: there is no folder {str(root)!r}")
    splits = [name for name in ("train", "validation", "test") if (root / name).is_dir()]
    if splits and split not in splits:
        raise ValueError(f"data: folder {str(root)!r} has the splits {', '.join(splits)}, got {split!r}")
    if split not in (*splits, "train", "test", "all"):
        raise ValueError(f"data: a folder without subfolders train and test has the splits train, test, all, got {split!r}")
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}

    def files(base: Path) -> list[Path]:
        found = (path.relative_to(base) for path in base.rglob("*") if path.suffix.lower() in known and path.is_file())
        return sorted(path for path in found if not any(part.startswith(".") for part in path.parts))

    base = root / split if splits else root
    paths = files(base)
    if not paths:
        raise ValueError(f"data: folder {str(base)!r} holds no image")
    classes: dict[str, int] = {}
    decimal = False
    if all(len(path.parts) > 1 for path in paths):
        every = [path for name in splits for path in files(root / name)] if splits else paths
        names = sorted({path.parts[0] for path in every if len(path.parts) > 1})
        decimal = all(name.isdecimal() for name in names)                 # folders 3 and 7 are the classes 3 and 7
        classes = {name: int(name) if decimal else number for number, name in enumerate(names)}
    if not splits and split != "all":
        paths = [path for i, path in enumerate(paths) if (i % 10 == 0) == (split == "test")]
    labels = torch.tensor([classes[path.parts[0]] for path in paths]) if classes else None
    opened = ((str(base / path), lambda path=path: Image.open(base / path)) for path in paths)
    count = max(classes.values(), default=-1) + 1
    return Source(opened, len(paths), labels, count, class_names=tuple(map(str, range(count))) if decimal else tuple(classes))


def hub(repository: str, config: str | None, column: str | None, split: str) -> Source:
    """A split of a Hub repository; labels are read if there are any and they are public.

    repository: "OWNER/NAME".
    config: which of the repository's parts; None where it has one.
    column: of the images; None = the first that holds images.
    split: as the repository names it.

    Raises ``ValueError`` for what the repository does not have, ``OSError`` where it cannot be reached, ``ImportError`` without the extra
    ``data``.
    """
    try:
        import datasets
    except ImportError:
        raise ImportError(f"data: {repository} needs the extra data: pip install 'rastrum[data]'") from None
    mirror = os.environ.get("RASTRUM_HUB_MIRROR")
    local = Path(mirror).expanduser() / repository if mirror else None
    mirrored = local is not None and local.is_dir()
    quiet = datasets.are_progress_bars_disabled()
    if mirrored:
        datasets.disable_progress_bars()  # copying takes a second, and is no news to the user
    try:
        table: Any = datasets.load_dataset(str(local) if mirrored else repository, config, split=split)
    except (ValueError, OSError) as error:  # the library's own errors are of both kinds
        raise _explain(error, repository, split, local) from None
    finally:
        if mirrored and not quiet:
            datasets.enable_progress_bars()
    features = table.features
    column = column or next((name for name, kind in features.items() if isinstance(kind, datasets.Image)), None)
    if column is None or column not in features:
        raise ValueError(f"data: {repository} has no column of images, only {', '.join(features)}")
    labels, class_names = None, ()
    label = "label" if "label" in features else next((n for n, kind in features.items() if isinstance(kind, datasets.ClassLabel)), None)
    if label is not None and isinstance(features[label], datasets.ClassLabel):
        labels, class_names = torch.tensor(table[label][:]), tuple(features[label].names)
        if int(labels.min()) < 0:  # a test split whose labels are kept secret
            labels, class_names = None, ()
    raw = table.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    return Source(_hub_images(raw, column, f"{repository} {split}"), len(table), labels, len(class_names), class_names=class_names)


def _hub_images(table: Any, column: str, where: str) -> Iterator[tuple[str, Callable[[], Image.Image]]]:
    from PIL import Image

    row = 0
    for batch in table.iter(1000):
        for cell in batch[column]:
            file = cell["path"] if cell["bytes"] is None else io.BytesIO(cell["bytes"])
            yield f"{where}, row {row}", lambda file=file: Image.open(file)
            row += 1


def _explain(error: Exception, repository: str, split: str, local: Path | None) -> Exception:
    """The error of HF ``datasets`` in one line, with a remedy."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    if match := re.search(r'Unknown split "[^"]*"\. Should be one of (\[.*?\])', str(error)):
        return ValueError(f"data: {repository} has the splits {match[1]}, got {split!r}")
    if "Config name is missing" in str(error):
        return ValueError(f"data: {repository} has several parts, name one as hub:{repository}:PART ({' '.join(str(error).split())[:200]})")
    remedy = f"not in the mirror ({local}) either" if local is not None else "a local copy can stand under RASTRUM_HUB_MIRROR"
    if isinstance(error, ConnectionError) or "offline" in said.lower():
        return OSError(f"data: cannot reach {repository} on the Hub, {remedy} ({said})")
    if isinstance(error, PermissionError):
        return OSError(f"data: the cache of HF datasets is not writable, set HF_HOME to a folder that is ({said})")
    if isinstance(error, FileNotFoundError):
        return ValueError(f"data: there is no data set {repository} on the Hub; {remedy} ({said})")
    return type(error)(f"data: {repository}: {said}") if type(error) in (ValueError, OSError) else OSError(f"data: {repository}: {said}")


# ── pixels ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def stack(source: Source, options: DataOptions, progress: Progress | None) -> tuple[np.ndarray, int]:
    """All images of a source in one array.

    source: opened here, one image after another.
    options: grey and size are applied.
    progress: called with the fraction read, 0 … 1; None for nothing.

    Returns uint8 (N, C, H, W), and the number of levels. Raises ``ValueError`` for a broken image, or one of another size than the first.
    """
    found: list[np.ndarray] = []
    depths: list[int] = []
    shape, first = (0, 0), ""
    for i, (name, open_image) in enumerate(source.images):
        pixels, depth = _pixels(name, open_image, options, source.levels)
        if not found:
            shape, first = pixels.shape[1:], name
        if pixels.shape[1:] != shape:
            ours, theirs = ("{1}x{0}".format(*size) for size in (pixels.shape[1:], shape))
            raise ValueError(f"data: {name} has {ours} pixels, {first} has {theirs}; set size to resize all")
        found.append(pixels)
        depths.append(depth)
        if progress is not None and (i % 100 == 99 or i + 1 == source.count):
            progress((i + 1) / source.count)
    if not found:
        return np.zeros((0, 1, 1, 1), np.uint8), 2
    levels = max(depths)
    out = np.empty((len(found), max(map(len, found)), *shape), np.uint8)
    for to, pixels, depth in zip(out, found, depths, strict=True):
        to[:] = pixels if depth == levels else requantise(pixels, depth, levels)
    return out, levels


def _pixels(name: str, open_image: Callable[[], Image.Image], options: DataOptions, levels: int) -> tuple[np.ndarray, int]:
    """One image as uint8 (C, H, W), and its levels. Transparency is dropped."""
    from PIL import Image, ImageOps

    try:
        image = open_image()
        if image.format in ("JPEG", "MPO", "TIFF"):
            image = ImageOps.exif_transpose(image)
        image.load()
    except (FileNotFoundError, PermissionError):
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"data: {name} is not a whole image ({said}); remove or replace it") from None
    if image.mode.startswith("I") or image.mode == "F":
        raise ValueError(f"data: {name} has more than 8 bits per channel (mode {image.mode}); convert it to 8 bits")
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("L" if image.mode in ("LA", "La") else "RGB")
    if options.grey and image.mode == "RGB":
        image = image.convert("L")
    levels = levels or (2 if image.mode == "1" else 256)
    if options.size is not None and image.size != (options.size, options.size):
        if levels < 256:
            image, levels = Image.fromarray(requantise(np.asarray(image), levels, 256)), 256
        image = ImageOps.fit(image, (options.size, options.size), Image.Resampling.BOX)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1), levels
