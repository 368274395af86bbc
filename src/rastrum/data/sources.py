"""Where images come from: files, the Hub, and pictures generated from them, each opened only when it is read; and their pixels as levels.

Hub sets are read from the folder named by the environment variable RASTRUM_HUB_MIRROR if it holds ``OWNER/NAME``, else from the Hub.

**Digits**: "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998, CC BY 4.0
(the repository's test part, unchanged, as scikit-learn ships it). Held out ("test"): 360 of them, 36 of each class, evenly spaced in
the order of the file; "train": the other 1,437.

Three sets are read from where they are published if the mirror does not have them: ``published.py``. Folders: ``folders.py``. Arrays:
``arrays.py``. What of an image file becomes levels: ``reading.py``.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from ..config import DataOptions
from .arrays import SUFFIXES, levels_of, read_arrays
from .digit_shapes import shapes
from .folders import PARQUET, SPLITS, ImageFiles, file_split, has_split, image_files, parquet_files, parquet_splits, read_folder
from .names import printed
from .omniglot import OMNIGLOTS, Drawing, group_numbers, read_split
from .options import requantise
from .parquet import ParquetImages
from .photographs import PARTS, pieces, smaller
from .placed_digits import cluttered, halved, one_digit, spatial_maps, two_digits
from .published import FILES, published
from .reading import Opener, UnreadableImage, open_image, read_image
from .storage import BROKEN, STRIDE, Reader, Rows
from .stored import HELD, StoredNames, decoded_bytes
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

Progress = Callable[[float], object]  # takes the fraction read, 0 … 1


@dataclass
class Source:
    """Images of a split, not opened yet.

    images: pairs of a name for messages and a function that opens the image.
    count: number of images N.
    labels, classes, conditions, class_names, notes, names, groups: as for ``Dataset``.
    columns: further columns of a Hub set, by name.
    levels: of an 8-bit channel; 0 (default) = as the image says.
    reader, rows: what opens any of the images by its number, and their numbers in it; None (default) where that cannot be.
    """

    images: Iterable[tuple[str, Opener]]
    count: int
    labels: Tensor | None
    classes: int
    levels: int = 0
    conditions: Tensor | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    names: Sequence[str] = ()
    groups: Tensor | None = None
    columns: dict[str, list[Any]] = field(default_factory=dict)
    reader: Reader | None = None
    rows: Rows = range(0)

    def streams(self, options: DataOptions) -> bool:
        """Whether the images stay on disk: as ``options.stream`` says, else where they would take more than ``HELD`` bytes.

        options: preprocessing.
        """
        if self.reader is None or options.stream is not None:
            return self.reader is not None and bool(options.stream)
        return decoded_bytes(self.reader, self.rows, options) > HELD


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
        return _path(path, split)
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
    pictures = ((name, lambda opener=opener: _picture(opener)) for name, opener in pictures)
    return Source(crops(pictures, size, each[split], seed), count * each[split], None, 0)


def _photographs(split: str) -> Source:
    from PIL import Image

    if split not in PARTS:
        raise ValueError(f"data: {PHOTOGRAPHS} has the splits {', '.join(PARTS)}, got {split!r}")
    found: list[tuple[str, Opener]] = []
    for repository, half in PARTS[split]:
        for name, opener in hub(repository, None, None, split, DataOptions(stream=False)).images:
            picture = np.asarray(_picture(opener).convert("RGB"))
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


def _picture(opener: Opener) -> Image.Image:
    picture = opener()
    assert not isinstance(picture, np.ndarray)
    return picture


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


def _path(path: Path, split: str) -> Source:
    if path.suffix.lower() in SUFFIXES and not path.is_dir():
        return _arrays(path, split)
    if path.suffix.lower() == PARQUET and path.is_file():
        return _parquet(path.parent, [path.name], {}, split, str(path))
    if path.is_file():
        return Source([(str(path), lambda: open_image(path))], 1, None, 0, names=(printed(path.name),))
    if not path.is_dir():
        remedy = "; download it first" if re.match(r"https?:/", str(path)) else ""
        raise ValueError(f"data: there is no {'file' if path.suffix else 'folder'} {str(path)!r}{remedy}")
    names, others = image_files(path)
    if not names and others[PARQUET]:
        files = parquet_files(path)
        return _parquet(path, files, parquet_splits(files), split, str(path))
    folder = read_folder(path, split, names, others)
    labels = None if folder.labels is None else torch.from_numpy(folder.labels)
    return _read_by(ImageFiles(path, names), folder.chosen, labels, folder.classes, folder.class_names, folder.notes)


def _parquet(root: Path, files: list[str], splits: dict[str, list[str]], split: str, name: str) -> Source:
    """Of a folder of parquet files, or of one file."""
    wanted = SPLITS.get(split.lower(), split)
    if splits and wanted not in splits:
        raise ValueError(f"data: folder {name!r} has the splits {', '.join(splits)}, got {split!r}")
    chosen = splits[wanted] if splits else files
    reader = ParquetImages([root / file for file in chosen], shown=[printed(file) for file in chosen])
    labels = reader.labels()
    rows = range(len(reader)) if splits else file_split(name, len(reader), split)
    classes = len(reader.class_names) or (0 if labels is None else int(labels.max(initial=-1)) + 1)
    class_names = reader.class_names or tuple(map(str, range(classes)))
    labels = None if labels is None else torch.from_numpy(labels if splits else labels[rows])
    outside = len(files) - sum(map(len, splits.values())) if splits else 0
    notes = (f"parquet files passed over, since no split is named in their path: {outside:,}",) if outside else ()
    return _read_by(reader, rows, labels, classes, class_names, notes)


def _read_by(
    reader: Reader, rows: Rows, labels: Tensor | None, classes: int, class_names: tuple[str, ...], notes: tuple[str, ...] = ()
) -> Source:
    """Images that a reader opens."""
    images = (image for start in range(0, len(rows), STRIDE) for image in reader.opened(np.asarray(rows[start : start + STRIDE])))
    names = StoredNames(reader, rows)
    return Source(images, len(rows), labels, classes, class_names=class_names, notes=notes, names=names, reader=reader, rows=rows)


def _arrays(path: Path, split: str) -> Source:
    found = read_arrays(path)
    levels, labels, chosen = levels_of(path, found), found.labels, file_split(str(path), len(found.images), split)
    images = found.images.astype(bool if levels == 2 else np.uint8 if levels <= 256 else np.uint16)
    opened = ((f"{path}, image {i}", lambda i=i: images[i].transpose(1, 2, 0)) for i in chosen)
    classes = 0 if labels is None else int(labels.max(initial=0)) + 1
    labels = None if labels is None else torch.from_numpy(labels[chosen])
    return Source(opened, len(chosen), labels, classes, levels, names=array_names(path, chosen))


def array_names(path: Path, rows: Iterable[int]) -> tuple[str, ...]:
    """The names of images in the file of an array: X.npy[0], ….

    path: of the file.
    rows: numbers of the images in it.
    """
    return tuple(f"{printed(path.name)}[{row}]" for row in rows)


def mirrored(repository: str) -> Path | None:
    """The folder of a Hub repository in the mirror, if it is there.

    repository: OWNER/NAME.
    """
    mirror = os.environ.get("RASTRUM_HUB_MIRROR")
    local = Path(mirror).expanduser() / repository if mirror else None
    return local if local is not None and local.is_dir() else None


def hub(
    repository: str,
    config: str | None,
    column: str | None,
    split: str,
    options: DataOptions | None = None,
    columns: tuple[str, ...] = (),
) -> Source:
    """A split of a Hub repository; labels are read if there are any and they are public.

    repository: "OWNER/NAME".
    config: which of the repository's parts; None where it has one.
    column: of the images; None = the first that holds images.
    split: as the repository names it.
    options: may say that the images stay on disk; None (default) for images in memory.
    columns: others that are read too, none by default.

    Raises ``ValueError`` for what the repository does not have, ``OSError`` where it cannot be reached, ``ImportError`` without the extra
    ``data``.
    """
    try:
        import datasets
    except ImportError:
        raise ImportError(f"data: {repository} needs the extra data: pip install datasets") from None
    local = mirrored(repository)
    quiet = datasets.are_progress_bars_disabled()
    if local is not None:
        datasets.disable_progress_bars()  # copying takes a second, and is no news to the user
    try:
        where = repository if local is None else str(local)
        if options is not None and options.stream is not False:
            source = _hub_parquet(datasets.load_dataset_builder(where, config), column, split)
            if source is not None and source.streams(options):
                return source
        table: Any = datasets.load_dataset(where, config, split=split)
    except Exception as error:  # the library's own errors are of many kinds
        raise _explain(error, repository, split) from None
    finally:
        if local is not None and not quiet:
            datasets.enable_progress_bars()
    features = table.features
    column = column or next((name for name, kind in features.items() if _holds_images(kind)), None)
    if column is None or column not in features:
        kinds = ", ".join(f"{name} ({_kind_of(kind)})" for name, kind in features.items())
        raise ValueError(f"data: {repository} has no column of images{f' {column!r}' if column else ''}, only {kinds}")
    if not _holds_images(features[column]):
        raise ValueError(f"data: column {column} of {repository} holds {_kind_of(features[column])}, not image files; save it as .npy")
    labels, class_names = None, ()
    label = "label" if "label" in features else next((n for n, kind in features.items() if isinstance(kind, datasets.ClassLabel)), None)
    if label is not None and isinstance(features[label], datasets.ClassLabel):
        values, class_names = table[label][:], tuple(features[label].names)
        missing = next((row for row, value in enumerate(values) if value is None), None)
        if missing is not None:
            raise ValueError(f"data: {repository} {split}, row {missing} has no {label}; leave out such rows in a copy of the set")
        labels = torch.tensor(values)
        if int(labels.min()) < 0:  # a test split whose labels are kept secret
            labels, class_names = None, ()
    raw = table.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    images = _hub_images(raw, column, f"{repository} {split}")
    return Source(images, len(table), labels, len(class_names), class_names=class_names, columns={name: table[name][:] for name in columns})


def _hub_parquet(builder: Any, column: str | None, split: str) -> Source | None:
    """A split that is made of parquet files, which are on this machine then; None for others, and for what ``hub`` refuses."""
    import datasets

    splits = {str(name): list(files) for name, files in (builder.config.data_files or {}).items()}
    if not all(file.endswith(PARQUET) for file in splits.get(split, [""])):
        return None
    features = builder.info.features or {}
    known = {name: tuple(kind.names) for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)}
    files = [Path(file) for file in datasets.DownloadManager().download(splits[split])]
    try:
        reader = ParquetImages(files, column, classes=known or None)
        labels = reader.labels() if reader.class_names else None          # whole numbers without names do not count, nor secret ones
    except ValueError:                                                    # hub meets and explains the same
        return None
    class_names = () if labels is None else reader.class_names
    return _read_by(reader, range(len(reader)), None if labels is None else torch.from_numpy(labels), len(class_names), class_names)


def _holds_images(kind: Any) -> bool:
    """Whether a column's type is that of image files, decoded by ``datasets`` or as they are."""
    import datasets

    bare = isinstance(kind, datasets.Value) and kind.dtype in ("binary", "large_binary")
    return isinstance(kind, datasets.Image) or bare or (isinstance(kind, dict) and kind.keys() == {"bytes", "path"})


def _kind_of(kind: Any) -> str:
    return str(getattr(kind, "dtype", None) or type(kind).__name__)


def _hub_images(table: Any, column: str, where: str) -> Iterator[tuple[str, Opener]]:
    row = 0
    for batch in table.iter(1000):
        for cell in batch[column]:
            yield f"{where}, row {row}", lambda cell=cell: _hub_image(cell)
            row += 1


def _hub_image(cell: dict[str, Any] | None) -> Image.Image:
    if cell is None or (cell["bytes"] is None and not cell["path"]):
        raise UnreadableImage("there is no image in it")
    return open_image(Path(cell["path"]) if cell["bytes"] is None else io.BytesIO(cell["bytes"]))


def _explain(error: Exception, repository: str, split: str) -> Exception:
    """The error of HF ``datasets`` in one line, with a remedy."""
    mirror = os.environ.get("RASTRUM_HUB_MIRROR")
    local = Path(mirror).expanduser() / repository if mirror else None
    if type(error).__name__ == "DatasetGenerationError" and isinstance(error.__cause__, Exception):
        error = error.__cause__
    said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    if match := re.search(r'Unknown split "[^"]*"\. Should be one of (\[.*?\])', str(error)):
        return ValueError(f"data: {repository} has the splits {match[1]}, got {split!r}")
    if "Config name is missing" in str(error):
        return ValueError(f"data: {repository} has several parts, name one as hub:{repository}:PART ({' '.join(str(error).split())[:200]})")
    if "scripts are no longer supported" in str(error):
        script = "it is made by a script, which the library no longer runs"
        return ValueError(f"data: {repository}: {script}; ask for a copy as parquet (its branch refs/convert/parquet), or save it as .npy")
    if type(error).__name__ in ("CastError", "DatasetGenerationCastError") or "column names don't match" in str(error):
        return ValueError(f"data: {repository}: its files have different columns ({' '.join(str(error).split())[:300]})")
    remedy = f"not in the mirror ({local}) either" if local is not None else "a local copy can stand under RASTRUM_HUB_MIRROR"
    if isinstance(error, ConnectionError) or "offline" in said.lower():
        return OSError(f"data: cannot reach {repository} on the Hub, {remedy} ({said})")
    if isinstance(error, PermissionError):
        return OSError(f"data: the cache of HF datasets is not writable, set HF_HOME to a folder that is ({said})")
    if isinstance(error, FileNotFoundError):
        return ValueError(f"data: there is no data set {repository} on the Hub; {remedy} ({said})")
    kind = OSError if isinstance(error, OSError) else ValueError
    return kind(f"data: {repository}: {said}")


# ── pixels ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Stacked(NamedTuple):
    """The images of a source, read.

    images: (C, H, W) each, of one size unless they are to be cropped; uint8, or uint16 above 256 levels.
    levels: of all of them.
    kept: numbers of the images that could be read.
    notes: those that could not be read, a line each.
    """

    images: list[np.ndarray]
    levels: int
    kept: list[int]
    notes: tuple[str, ...] = ()

    @property
    def together(self) -> np.ndarray:
        """All of one size, (N, C, H, W)."""
        return np.stack(self.images)


def stack(source: Source, options: DataOptions, progress: Progress | None) -> Stacked:
    """All images of a source, with as many channels and levels as the one that has most.

    source: opened here, one image after another.
    options: grey and size are applied.
    progress: called with the fraction read, 0 … 1; None for nothing.

    Raises ``ValueError`` for a broken image, or one of another size than the first, unless the options say to leave it out or to crop.
    """
    found: list[np.ndarray] = []
    depths: list[int] = []
    kept, broken = [], []
    shape, first = (0, 0), ""
    for i, (name, opener) in enumerate(source.images):
        if progress is not None and (i % 100 == 99 or i + 1 == source.count):
            progress((i + 1) / source.count)
        try:
            pixels, depth = read_image(name, opener, options, source.levels)
        except UnreadableImage as error:
            if not options.skip_broken:
                raise UnreadableImage(f"{error}; {BROKEN}") from None
            broken.append(str(error).removeprefix("data: "))
            continue
        if not found:
            shape, first = pixels.shape[1:], name
        if pixels.shape[1:] != shape and options.crop is None:
            ours, theirs = ("{1}x{0}".format(*size) for size in (pixels.shape[1:], shape))
            raise ValueError(f"data: {name} has {ours} pixels, {first} has {theirs}; set size to resize all, or crop to cut parts")
        found.append(pixels)
        depths.append(depth)
        kept.append(i)
    levels, channels = max(depths, default=2), max(map(len, found), default=1)
    for i, (pixels, depth) in enumerate(zip(found, depths, strict=True)):
        pixels = pixels if depth == levels else requantise(pixels, depth, levels)
        pixels = pixels.astype(np.uint8 if levels <= 256 else np.uint16, copy=False)
        found[i] = np.broadcast_to(pixels, (channels, *pixels.shape[1:]))
    notes = (f"{len(broken)} of {source.count} images cannot be read and are left out:", *broken) if broken else ()
    return Stacked(found, levels, kept, notes)
