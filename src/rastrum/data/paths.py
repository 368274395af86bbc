"""Images of files: a folder, parquet files, or an array."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from .arrays import SUFFIXES, levels_of, read_arrays
from .folders import PARQUET, SPLITS, ImageFiles, file_split, image_files, parquet_files, parquet_splits, read_folder
from .names import printed
from .parquet import ParquetImages
from .reading import open_image
from .source import Source, read_by


def source_of_path(path: Path, split: str) -> Source:
    """A split of the images at a path.

    path: of a folder of images or parquet files, of an image, a parquet file or an array.
    split: as the folder names it; of a file, or of a folder without parts, a share of its images.

    Raises ``ValueError`` where there is nothing, or no such split.
    """
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
    return read_by(ImageFiles(path, names), folder.chosen, labels, folder.classes, folder.class_names, folder.notes)


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
    return read_by(reader, rows, labels, classes, class_names, notes)


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
