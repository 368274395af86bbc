"""Which images a folder holds, and what its subfolders mean.

**Splits** are subfolders named train or training; validation, valid, val or dev; test or testing; in capitals or not. They are splits where
at least two of them are there, or where no other subfolder holds images. One such folder among others is a class that has this name.

**Classes** are the subfolders that all images lie in, in the order of their names; folders 3 and 7 are the classes 3 and 7. Without splits,
"test" is every tenth image in the order of the names, "train" the others and "all" all of them.

Hidden files are passed over; other files beside the images are counted. A million names are held as bytes (``names.py``), no paths.

**Parquet files** in a folder without images are the set: those of a split lie in its subfolder or begin with its name, as in
train-00000-of-00002.parquet; the same rules hold, and without splits every tenth row is held out.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from .names import PackedNames, encoded, printed
from .reading import Opener, open_image, suffixes

PARQUET = ".parquet"
SPLITS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


def file_split(name: str, count: int, split: str) -> np.ndarray:
    """The numbers of the images of a split where there are no folders for splits: every tenth is held out.

    name: of the set, for messages.
    count: number of images.
    split: "train", "test" or "all".

    Returns int64 (n,). Raises ``ValueError`` for another split.
    """
    wanted = SPLITS.get(split.lower(), split)
    if wanted not in ("train", "test", "all"):
        raise ValueError(f"data: {name!r} has no folders for splits, so its splits are train, test, all, got {split!r}")
    every = np.arange(count)
    return every if wanted == "all" else every[(every % 10 == 0) == (wanted == "test")]


def has_split(root: Path, split: str) -> bool:
    """Whether a folder has a subfolder for a split, or parquet files of it.

    root: the folder.
    split: its name, as people write it.
    """
    images, others = image_files(root)
    return split in (parquet_splits(parquet_files(root)) if not images and others[PARQUET] else split_folders(root, images))


@dataclass(frozen=True)
class Folder:
    """Images of a split.

    names: of all images below the folder, relative to it, in their order, with / between.
    chosen: numbers of those that are of the split, (N,) int64.
    labels: class of each of these, (N,) int64, or None. classes: their number. class_names: by number.
    notes: what was not used, a line each.
    """

    names: PackedNames
    chosen: np.ndarray
    labels: np.ndarray | None
    classes: int
    class_names: tuple[str, ...]
    notes: tuple[str, ...]


class ImageFiles:
    """Image files below a folder, by their number (``stored.Reader``).

    root: the folder.
    names: of the files, relative to it.
    """

    def __init__(self, root: Path, names: PackedNames) -> None:
        self.root, self.names = root, names
        self.stamp = crc32(names.ends.data, crc32(names.text))

    @property
    def groups(self) -> None:
        """Each file lies by itself."""

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        return printed(self.names[row])

    def opened(self, rows: np.ndarray) -> Iterator[tuple[str, Opener]]:
        for row in rows:
            path = self.root / self.names[row]
            yield str(path), lambda path=path: open_image(path)

    def check_memory(self) -> None:
        pass                                                              # one file at a time


def split_folders(root: Path, images: Iterable[str]) -> dict[str, str]:
    """The subfolder of each split; empty if the subfolders are classes, or there are none.

    root: the folder.
    images: names of the files below it, relative to it.
    """
    found: dict[str, str] = {}
    holding = sorted({name.partition("/")[0] for name in images if "/" in name})
    for name in holding:
        split = SPLITS.get(name.lower())
        if split in found:
            raise ValueError(f"data: folder {str(root)!r} has two folders for {split}, {found[split]} and {name}; rename one of them")
        if split is not None:
            found[split] = name
    if len(found) == 1 and len(holding) > 1:
        return {}
    return {split: found[split] for split in dict.fromkeys(SPLITS.values()) if split in found}


def image_files(root: Path, endings: frozenset[str] | None = None) -> tuple[PackedNames, Counter[str]]:
    """The images below a folder that are not hidden, in the order of their names; and how many other files there are of each suffix.

    root: the folder.
    endings: suffixes that count; None (default) for those of images.
    """
    others: Counter[str] = Counter()
    return PackedNames(_inside(str(root), b"", suffixes() if endings is None else endings, others)), others


def _inside(folder: str, prefix: bytes, endings: frozenset[str], others: Counter[str]) -> Iterator[bytes]:
    """The images below a folder, each with ``prefix`` before its name. Names in a folder are sorted as an array of bytes."""
    blocks, block, folders = [], [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.is_file():
                    dot = entry.name.rfind(".")
                    suffix = entry.name[dot:].lower() if 0 < dot < len(entry.name) - 1 else ""
                    if suffix in endings:
                        block.append(encoded(entry.name))
                    else:
                        others[suffix or entry.name] += 1
                    if len(block) == 1 << 16:
                        blocks.append(np.array(block))
                        block = []
    except PermissionError:
        return                                                            # as a folder that holds nothing
    files = np.sort(np.concatenate([*blocks, np.array(block, "S1" if not block else None)]))
    start = 0
    for name in [*sorted(folders), None]:                                 # a folder stands where its name does, among those of the files
        stop = len(files) if name is None else int(np.searchsorted(files, np.bytes_(encoded(name))))
        for part in range(start, stop, 1 << 16):
            yield from (prefix + file for file in files[part : min(part + (1 << 16), stop)].tolist())
        if name is not None:
            yield from _inside(os.path.join(folder, name), prefix + encoded(name) + b"/", endings, others)
        start = stop


def read_folder(root: Path, split: str, names: PackedNames, others: Counter[str]) -> Folder:
    """The images of a split.

    root: the folder.
    split: "train", "val", "test" or "all".
    names, others: what is in it, as ``image_files`` gives it.

    Raises ``ValueError`` if there are none.
    """
    splits, wanted = split_folders(root, names), SPLITS.get(split.lower(), split)
    if splits and wanted not in splits:
        raise ValueError(f"data: folder {str(root)!r} has the splits {', '.join(splits)}, got {split!r}")
    begin = f"{splits[wanted]}/" if splits else ""
    chosen = np.fromiter((i for i, name in enumerate(names) if name.startswith(begin)), np.int64)
    if len(chosen) == 0:
        notes = _notes(others, 0, {})
        raise ValueError(f"data: folder {str(root / begin)!r} holds no image" + (f"; {notes[0]}" if notes else ""))
    classes, decimal = {}, False
    if all("/" in names[i][len(begin) :] for i in chosen):
        inside = (name.split("/", 2) for name in names)
        if splits:
            found = {parts[1] for parts in inside if parts[0] in splits.values() and len(parts) > 2}
        else:
            found = {parts[0] for parts in inside if len(parts) > 1}
        decimal = all(name.isdecimal() for name in found)
        classes = {name: int(name) if decimal else number for number, name in enumerate(sorted(found))}
    if not splits:
        chosen = chosen[file_split(str(root), len(chosen), split)]
    count = max(classes.values(), default=-1) + 1
    class_names = tuple(map(str, range(count))) if decimal else tuple(classes)
    labels = np.fromiter((classes[names[i][len(begin) :].partition("/")[0]] for i in chosen), np.int64) if classes else None
    outside = sum(name.partition("/")[0] not in splits.values() for name in names) if splits else 0
    return Folder(names, chosen, labels, count, class_names, _notes(others, outside, splits))


def parquet_files(root: Path) -> list[str]:
    """The parquet files below a folder that are not hidden, relative to it, in the order of their names.

    root: the folder.
    """
    return list(image_files(root, frozenset((PARQUET,)))[0])


def parquet_splits(files: list[str]) -> dict[str, list[str]]:
    """The parquet files of each split; empty where neither folders nor names say which split they are of.

    files: relative to the folder of the set.
    """
    found: dict[str, list[str]] = {}
    for file in files:
        words = (re.split(r"[-_.]", part)[0].lower() for part in file.split("/"))
        if split := next((SPLITS[word] for word in words if word in SPLITS), None):
            found.setdefault(split, []).append(file)
    if len(found) == 1 and sum(map(len, found.values())) < len(files):
        return {}
    return {split: found[split] for split in dict.fromkeys(SPLITS.values()) if split in found}


def _notes(others: Counter[str], outside: int, splits: dict[str, str]) -> tuple[str, ...]:
    notes = []
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common(4)) + (", …" if len(others) > 4 else "")
        notes.append(f"files passed over, since they are not images: {others.total():,} ({kinds})")
    if outside:
        notes.append(f"images passed over, since they lie beside the folders {', '.join(splits.values())}: {outside:,}")
    return tuple(notes)
