"""Data sets as integer levels: small ones held whole, as uint8 tensors.

    digits             in the package: 1,797 digits of 8x8 pixels and 17 levels
    mnist, fashion-mnist, binarized-mnist, cifar10, hub:OWNER/NAME, hub:OWNER/NAME:CONFIG    through HF ``datasets`` (extra ``data``)
    omniglot           handwritten characters, white on black, area-averaged from 105 to ``size`` pixels a side (28 if not said);
                       also through ``data``. Train: the background alphabets, test: the evaluation ones, no labels
    two-digit-mnist, two-digit-mnist-colour, cluttered-mnist    digits of MNIST placed at random on canvases of ``size`` pixels a side (60
                       if not said), as many as MNIST has; train and test pictures are made of train and test digits
    placed-mnist       one digit of MNIST, 14x14, on a canvas of ``size`` pixels a side (32 if not said); conditions: a map of 4x4 cells,
                       10 numbers each, that says which digit lies about where (``data_placed.py``)
    dead-leaves, bsds300    patches of ``size`` pixels a side (32 if not said) at fixed random places: of pictures of disks that occlude one
                       another, made here, and of the Berkeley segmentation set's photographs (train: 200, test: 100; also through ``data``)
    folder:PATH        images of any common format, of one size, or resized; or one image, which is every split

Hub sets are read from the folder that the environment variable RASTRUM_HUB_MIRROR names where it holds ``OWNER/NAME``, else from the Hub.

**Digits**: "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998, CC BY 4.0
(the repository's test part, unchanged, as scikit-learn ships it). Held out ("test"): 360 of them, 36 of each class, evenly spaced in
the order of the file; "train": the other 1,437.

**Binarised MNIST is three benchmarks**, whose nats do not compare:
- static: one draw, each pixel 1 with the probability of its intensity, fixed for ever. The published set is Larochelle's draw,
  ``binarized-mnist``; ``binarise="static"`` is one of ours, with a fixed seed.
- dynamic: a fresh draw each time a training image is used; held-out images are one draw with a fixed seed.
- threshold: 1 where the intensity is at least one half. An easier set: no noise in it.

**Omniglot here is not the set of 28x28 pixels** that the papers on importance-weighted bounds share (Burda's): other pictures, another
split, so its nats do not compare with theirs.

**Crops** are drawn in the same way: a fresh place each time a training image is used; a held-out image has one, with a fixed seed.

**Folders**: labels are the names of subfolders, if all images lie in one. ``train``, ``validation`` and ``test`` are subfolders where
there are such; else "test" is every tenth image in the order of the names, "train" the others and "all" all of them.
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

from .config import DataOptions
from .data_placed import cluttered, halved, maps_of, one_digit, two_digits
from .data_textures import crops, leaves
from .data_videos import CANVAS as SCREEN
from .data_videos import FRAMES, SMALLEST, moving_digits, shrunk
from .protocol import ConditionSpec, ImageSpec

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
# name: (Hub repository and column, or None = made here; pictures of a split that is made here; patches of each picture of a split)
PATCHES: dict[str, tuple[tuple[str, str] | None, dict[str, int], dict[str, int]]] = {
    "dead-leaves": (None, {"train": 32, "validation": 4, "test": 4}, {"train": 250, "validation": 500, "test": 500}),
    "bsds300": (("berkeley/bsds300", "image"), {}, {"train": 100, "test": 20}),
}
PATCH = 32                     # pixels a side of a patch
OMNIGLOT = 28                  # of a character
# name: pixels a side of a canvas with digits placed on it
PLACED = {"two-digit-mnist": 60, "two-digit-mnist-colour": 60, "cluttered-mnist": 60, "placed-mnist": 32}
VIDEOS = ("moving-mnist",)
SEQUENCES = 1000               # that a split of them fixes
NAMES = ("digits", *HUB, *PATCHES, *PLACED, *VIDEOS)
THRESHOLDED = ("placed-mnist", *VIDEOS)    # two levels of them are ink from half intensity on, where nothing else is said
# What a card must say about the data.
NOTICES = {
    "digits": 'Data: "Optical Recognition of Handwritten Digits", E. Alpaydin, C. Kaynak; UCI Machine Learning Repository 1998, CC BY 4.0.',
    "bsds300": "Data: Berkeley Segmentation Data Set, 300 photographs; D. Martin, C. Fowlkes, D. Tal, J. Malik, ICCV 2001.",
}
HELD_OUT_DIGITS = 36  # of each class

Progress = Callable[[float], object]  # takes the fraction read, 0 … 1


@dataclass(frozen=True)
class Dataset:
    """Images of one split. images: uint8 levels (N, *spec.shape) · labels: int64 (N,) or None · classes: how many, 0 without labels ·

    conditions: what else is known of each image, float32 vectors (N, size) or maps (N, c, h, w), or None.

    originals: only for dynamic binarisation and crops, what ``batches`` draws from: uint8 (N, C, H', W') below ``original_levels``, larger
    than ``spec`` where it crops and of more levels where it binarises; ``images`` is one fixed draw.
    fresh: only for images that are made here without end: ``batches`` takes what it makes of a number of images and a seed.
    """

    name: str
    split: str
    spec: ImageSpec
    images: Tensor
    labels: Tensor | None = None
    classes: int = 0
    originals: Tensor | None = None
    original_levels: int = 256
    conditions: Tensor | None = None
    fresh: Callable[[int, int], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def condition_spec(self) -> ConditionSpec | None:
        """What a model can be told of each image: its vector or map where there is one, else its class, else nothing."""
        if self.conditions is None:
            return None if self.labels is None else ConditionSpec("class", self.classes)
        size = tuple(self.conditions.shape[1:])
        return ConditionSpec("vector", size[0]) if len(size) == 1 else ConditionSpec("map", size)  # pyright: ignore[reportArgumentType]

    def select(self, index: Tensor | slice) -> Dataset:
        """The images at ``index``, and no others: where all are kept, new ones may still be made."""
        if isinstance(index, slice) and index == slice(None):
            return self
        every = {name: getattr(self, name) for name in ("images", "labels", "originals", "conditions")}
        return replace(self, fresh=None, **{name: None if values is None else values[index] for name, values in every.items()})

    def subset(self, count: int | None, seed: int = 0) -> Dataset:
        """A random subset, in the order of the set; the same for the same seed. None, or no fewer than there are: all."""
        if count is None or count >= len(self):
            return self
        if count < 1:
            raise ValueError(f"data: expected a number of images of at least 1, got {count}")
        chosen = np.random.RandomState(seed).permutation(len(self))[:count]
        return self.select(torch.from_numpy(np.sort(chosen)))

    def batches(
        self, batch: int, generator: torch.Generator, told: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Images (B, *shape) uint8 and labels, or their part of ``told`` (N, …), without end: every image once before any comes again.

        Needs nothing but ``generator``.
        """
        if batch < 1:
            raise ValueError(f"data: expected a batch of at least 1, got {batch}")
        while self.fresh is not None:
            yield self.fresh(batch, int(torch.randint(2**31, (), generator=generator))), None
        told = self.labels if told is None else told
        waiting = torch.empty(0, dtype=torch.int64)
        while True:
            while len(waiting) < batch:
                waiting = torch.cat([waiting, torch.randperm(len(self), generator=generator)])
            index, waiting = waiting[:batch], waiting[batch:]
            x = self.images[index] if self.originals is None else self._draw(self.originals[index], generator)
            yield x, None if told is None else told[index]

    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Fresh images of ``spec`` from originals x (B, C, H', W')."""
        size = (self.spec.height, self.spec.width)
        if x.shape[-2:] != size:
            room = [whole - part + 1 for whole, part in zip(x.shape[-2:], size, strict=True)]
            corners = torch.stack([torch.randint(places, (len(x),), generator=generator) for places in room], 1)
            x = _cut(x, corners, size)
        if self.original_levels > self.spec.levels:
            chance = x.float() / (self.original_levels - 1)
            x = (torch.rand(chance.shape, generator=generator) < chance).to(torch.uint8)
        return x


def load_dataset(name: str, split: str = "train", options: DataOptions | None = None, progress: Progress | None = None) -> Dataset:
    """Read a split ("train", "test", "test[:9000]"; a set may have others) of the data set ``name`` and apply ``options``.

    A split's slice and ``limit`` are taken after a static draw, so a part of a set holds the same images as the whole.
    Raises ``ValueError`` for an unknown name, split or option and for a broken image, naming it; ``OSError`` where reading fails;
    ``ImportError`` where the extra ``data`` is needed.
    """
    options = options or DataOptions()
    match = re.fullmatch(r"([\w.-]+)(?:\[(-?\d*):(-?\d*)\])?", split)
    if match is None:
        raise ValueError(f"data: expected a split like train or test[:9000], got {split!r}")
    part, start, stop = match[1], match[2], match[3]
    _check_options(options)
    dataset = _video(name, split, part, options) if name in VIDEOS else _images(name, split, part, options, progress)
    held = len(dataset)
    if options.binarise is not None and name not in VIDEOS:               # a video has two levels already
        dataset = _binarise(dataset, options.binarise, crc32(part.encode()))
    if options.crop is not None:
        dataset = _crop(dataset, options.crop, crc32(f"crop {part}".encode()))
    chosen = slice(int(start) if start else None, int(stop) if stop else None)
    dataset = dataset.select(chosen).subset(options.limit)
    if len(dataset) == 0:
        raise ValueError(f"data: {name} {split} is empty, {part} has {held} images")
    return dataset


def _images(name: str, split: str, part: str, options: DataOptions, progress: Progress | None) -> Dataset:
    """All of a split, of still images."""
    if options.frames is not None:
        raise ValueError(f"data: {name} holds still images, frames is for {', '.join(VIDEOS)}; got {options.frames}")
    if name == "omniglot" and options.size is None:
        options = replace(options, size=OMNIGLOT)
    source = _source(name, part, options.size)
    pixels, levels = _stack(source, options, progress)
    if len(pixels) == 0:
        raise ValueError(f"data: {name} {part} holds no image")
    if options.levels is not None:
        pixels, levels = _requantise(pixels, levels, options.levels), options.levels
    images = torch.from_numpy(pixels)
    channels, height, width = images.shape[1:]
    spec = ImageSpec(channels, height, width, levels)
    return Dataset(name, split, spec, images, source.labels, source.classes, conditions=source.conditions)


def _video(name: str, split: str, part: str, options: DataOptions) -> Dataset:
    """The fixed sequences of a split, and how to make more."""
    size, frames = options.size or SCREEN, options.frames or FRAMES
    if part not in ("train", "test"):
        raise ValueError(f"data: {name} has the splits train, test, got {part!r}")
    if size < SMALLEST:
        raise ValueError(f"data: {name} needs a size of at least {SMALLEST}, got {size}")
    if options.crop is not None:
        raise ValueError(f"data: {name} is not cropped; leave out crop, got {options.crop}")
    if options.binarise in ("static", "dynamic"):
        raise ValueError(f"data: {name} has two levels by threshold, noise in each frame would hide what moves; got {options.binarise!r}")
    pixels, _ = _stack(_hub(HUB["mnist"][0], None, HUB["mnist"][1], part), DataOptions(), None)
    digits, levels = shrunk(pixels[:, 0], size), 2 if options.binarise else options.levels or 256

    def draw(count: int, seed: int) -> Tensor:
        videos = moving_digits(digits, count, size, frames, np.random.RandomState(seed))  # numpy promises that this stream never changes
        videos = videos if levels == 256 else _requantise(videos, 256, levels)
        return torch.from_numpy(videos if frames > 1 else videos[:, 0])

    fixed = draw(SEQUENCES, crc32(f"{name} {part}".encode()))
    return Dataset(name, split, ImageSpec(1, size, size, levels, frames), fixed, fresh=draw if part == "train" else None)


def _requantise(values: np.ndarray, levels: int, to: int) -> np.ndarray:
    """Levels 0 … levels − 1 → the nearest of 0 … to − 1 as uint8, exact: halves go up."""
    table = [(2 * value * (to - 1) + levels - 1) // (2 * (levels - 1)) for value in range(levels)]
    return np.array(table, np.uint8)[values.astype(np.uint8)]


def _check_options(options: DataOptions) -> None:
    if options.size is not None and options.size < 1:
        raise ValueError(f"data: size must be at least 1, got {options.size}")
    if options.levels is not None and not 2 <= options.levels <= 256:
        raise ValueError(f"data: levels must be between 2 and 256, got {options.levels}")
    if options.levels is not None and options.binarise is not None:
        raise ValueError(f"data: levels={options.levels} and binarise={options.binarise!r} exclude each other; leave one out")
    if options.binarise not in (None, "static", "dynamic", "threshold"):
        raise ValueError(f"data: binarise must be static, dynamic or threshold, got {options.binarise!r}")
    if options.crop is not None and options.crop < 1:
        raise ValueError(f"data: crop must be at least 1, got {options.crop}")
    if options.frames is not None and options.frames < 1:
        raise ValueError(f"data: frames must be at least 1, got {options.frames}")
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"data: limit must be at least 1, got {options.limit}")


def _binarise(dataset: Dataset, how: str, seed: int) -> Dataset:
    levels, values = dataset.spec.levels, dataset.images.numpy()
    if how == "threshold":
        bits = 2 * values.astype(np.int32) >= levels - 1
    else:
        stream = np.random.RandomState(seed)  # numpy promises that this stream never changes
        bits = np.stack([stream.random_sample(image.shape) * (levels - 1) < image for image in values])
    images = torch.from_numpy(bits.astype(np.uint8))
    dynamic = {"originals": dataset.images, "original_levels": levels} if how == "dynamic" else {}
    return replace(dataset, spec=replace(dataset.spec, levels=2), images=images, **dynamic)


def _crop(dataset: Dataset, size: int, seed: int) -> Dataset:
    spec, images = dataset.spec, dataset.images
    if dataset.conditions is not None and dataset.conditions.dim() > 2:
        raise ValueError(f"data: {dataset.name} says by a map where things lie, and a crop would move them; leave crop out, got {size}")
    if size > min(spec.height, spec.width):
        largest, have = min(spec.height, spec.width), f"{spec.width}x{spec.height}"
        raise ValueError(f"data: {dataset.name} has {have} pixels, crop must be at most {largest}, got {size}")
    stream = np.random.RandomState(seed)  # as above
    corners = stream.randint(0, (spec.height - size + 1, spec.width - size + 1), (len(images), 2))
    fresh = {"originals": images, "original_levels": spec.levels} if dataset.originals is None else {}
    return replace(dataset, spec=replace(spec, height=size, width=size), images=_cut(images, corners, (size, size)), **fresh)


def _cut(images: Tensor, corners: Tensor | np.ndarray, size: tuple[int, int]) -> Tensor:
    """Of each of images (N, C, H, W) the part of ``size`` from its row and column in corners (N, 2) on."""
    height, width = size
    parts = zip(images, corners.tolist(), strict=True)
    return torch.stack([image[:, top : top + height, left : left + width] for image, (top, left) in parts])


# ── sources ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Source:
    """images: pairs of a name for messages and a function that opens the image · levels: of an 8-bit channel, 0 = as the image says ·

    conditions: as a data set's.
    """

    images: Iterable[tuple[str, Callable[[], Image.Image]]]
    count: int
    labels: Tensor | None
    classes: int
    levels: int = 0
    conditions: Tensor | None = None


def _source(name: str, split: str, size: int | None) -> _Source:
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
        source = _hub(repository, None, column, split)
        return _inverted(source) if name == "omniglot" else source
    if match := re.fullmatch(r"hub:([\w.-]+/[\w.-]+)(?::([\w.-]+))?", name):
        return _hub(match[1], match[2], None, split)
    raise ValueError(f"data: unknown data set {name!r}; there are {', '.join(NAMES)}, folder:PATH and hub:OWNER/NAME")


def _digits(split: str) -> _Source:
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
    return _Source(opened, len(images), torch.from_numpy(labels), 10, levels=17)


def _patches(name: str, split: str, size: int) -> _Source:
    repository, made, each = PATCHES[name]
    if split not in each:
        raise ValueError(f"data: {name} has the splits {', '.join(each)}, got {split!r}")
    seed = crc32(f"{name} {split}".encode())
    if repository is None:
        pictures, count = leaves(made[split], seed), made[split]
    else:
        source = _hub(repository[0], None, repository[1], split)
        pictures, count = source.images, source.count
    return _Source(crops(pictures, size, each[split], seed), count * each[split], None, 0)


def _placed(name: str, split: str, size: int) -> _Source:
    from PIL import Image

    if split not in ("train", "test"):
        raise ValueError(f"data: {name} has the splits train, test, got {split!r}")
    source = _hub(HUB["mnist"][0], None, HUB["mnist"][1], split)
    pixels, _ = _stack(source, DataOptions(), None)
    digits = halved(pixels[:, 0]) if name == "placed-mnist" else pixels[:, 0]
    if size < digits.shape[1]:
        raise ValueError(f"data: {name} places digits of {digits.shape[1]} pixels a side, size must be at least that, got {size}")
    seed = crc32(f"{name} {split}".encode())
    conditions, two = None, name.startswith("two-digit")
    if name == "placed-mnist":
        assert source.labels is not None
        blocks, cells = one_digit(digits, size, seed)
        conditions = torch.from_numpy(maps_of(cells, source.labels.numpy(), source.classes))
    else:
        blocks = two_digits(digits, len(digits), size, seed, name.endswith("colour")) if two else cluttered(digits, size, seed)
    pictures = (picture.transpose(1, 2, 0).squeeze() for block in blocks for picture in block)
    opened = ((f"{name} {split} {i}", lambda picture=picture: Image.fromarray(picture)) for i, picture in enumerate(pictures))
    labels, classes = (None, 0) if two else (source.labels, source.classes)
    return _Source(opened, len(digits), labels, classes, conditions=conditions)


def _inverted(source: _Source) -> _Source:
    """Ink that is dark on white becomes white on black."""
    from PIL import ImageOps

    inverted = ((name, lambda opened=opened: ImageOps.invert(opened().convert("L"))) for name, opened in source.images)
    return replace(source, images=inverted)


def _folder(root: Path, split: str) -> _Source:
    from PIL import Image

    if root.is_file():
        return _Source([(str(root), lambda: Image.open(root))], 1, None, 0)
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
    if all(len(path.parts) > 1 for path in paths):
        every = [path for name in splits for path in files(root / name)] if splits else paths
        names = sorted({path.parts[0] for path in every if len(path.parts) > 1})
        numbers = all(name.isdecimal() for name in names)                 # folders 3 and 7 are the classes 3 and 7
        classes = {name: int(name) if numbers else number for number, name in enumerate(names)}
    if not splits and split != "all":
        paths = [path for i, path in enumerate(paths) if (i % 10 == 0) == (split == "test")]
    labels = torch.tensor([classes[path.parts[0]] for path in paths]) if classes else None
    opened = ((str(base / path), lambda path=path: Image.open(base / path)) for path in paths)
    return _Source(opened, len(paths), labels, max(classes.values(), default=-1) + 1)


def _hub(repository: str, config: str | None, column: str | None, split: str) -> _Source:
    try:
        import datasets
    except ImportError:
        raise ImportError(f"data: {repository} needs the extra data: pip install 'rastrum[data]'") from None
    mirror = os.environ.get("RASTRUM_HUB_MIRROR")
    local = Path(mirror).expanduser() / repository if mirror else None
    mirrored = local is not None and local.is_dir()
    quiet = datasets.are_progress_bars_disabled()
    if mirrored:
        datasets.disable_progress_bars()  # a second of copying, and not the user's business
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
    labels, classes = None, 0
    label = "label" if "label" in features else next((n for n, kind in features.items() if isinstance(kind, datasets.ClassLabel)), None)
    if label is not None and isinstance(features[label], datasets.ClassLabel):
        labels, classes = torch.tensor(table[label][:]), features[label].num_classes
        if int(labels.min()) < 0:  # a test split whose labels are kept secret
            labels, classes = None, 0
    raw = table.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    return _Source(_hub_images(raw, column, f"{repository} {split}"), len(table), labels, classes)


def _hub_images(table: Any, column: str, where: str) -> Iterator[tuple[str, Callable[[], Image.Image]]]:
    from PIL import Image

    row = 0
    for batch in table.iter(1000):
        for cell in batch[column]:
            file = cell["path"] if cell["bytes"] is None else io.BytesIO(cell["bytes"])
            yield f"{where}, row {row}", lambda file=file: Image.open(file)
            row += 1


def _explain(error: Exception, repository: str, split: str, local: Path | None) -> Exception:
    """One line for what HF ``datasets`` says in many."""
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


def _stack(source: _Source, options: DataOptions, progress: Progress | None) -> tuple[np.ndarray, int]:
    """All images as uint8 (N, C, H, W), and their levels."""
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
        to[:] = pixels if depth == levels else _requantise(pixels, depth, levels)
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
        raise ValueError(f"data: {name} has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits")
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("L" if image.mode in ("LA", "La") else "RGB")
    if options.grey and image.mode == "RGB":
        image = image.convert("L")
    levels = levels or (2 if image.mode == "1" else 256)
    if options.size is not None and image.size != (options.size, options.size):
        if levels < 256:
            image, levels = Image.fromarray(_requantise(np.asarray(image), levels, 256)), 256
        image = ImageOps.fit(image, (options.size, options.size), Image.Resampling.BOX)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1), levels
