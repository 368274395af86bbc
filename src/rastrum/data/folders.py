"""Which images a folder holds, and what its subfolders mean.

**Splits** are subfolders named train or training; validation, valid, val or dev; test or testing; in capitals or not. They are splits where
at least two of them are there, or where no other subfolder holds images. One such folder among others is a class that has this name.

**Classes** are the subfolders that all images lie in, in the order of their names; folders 3 and 7 are the classes 3 and 7. Without splits,
"test" is every tenth image in the order of the names, "train" the others and "all" all of them.

Hidden files are passed over; other files beside the images are counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .reading import suffixes

SPLITS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


def file_split(name: str, count: int, split: str) -> list[int]:
    """The numbers of the images of a split where there are no folders for splits: every tenth is held out.

    name: of the set, for messages.
    count: number of images.
    split: "train", "test" or "all".

    Raises ``ValueError`` for another split.
    """
    wanted = SPLITS.get(split.lower(), split)
    if wanted not in ("train", "test", "all"):
        raise ValueError(f"data: {name!r} has no folders for splits, so its splits are train, test, all, got {split!r}")
    return [i for i in range(count) if wanted == "all" or (i % 10 == 0) == (wanted == "test")]


def has_split(root: Path, split: str) -> bool:
    """Whether a folder has a subfolder for a split.

    root: the folder.
    split: its name, as people write it.
    """
    return split in split_folders(root, _images(root, suffixes())[1])


@dataclass(frozen=True)
class Folder:
    """Images of a split.

    files: in the order of their names. labels: class of each, or None. classes: their number. class_names: by number.
    notes: what was not used, a line each.
    """

    files: list[Path]
    labels: list[int] | None
    classes: int
    class_names: tuple[str, ...]
    notes: tuple[str, ...]


def split_folders(root: Path, images: list[Path]) -> dict[str, str]:
    """The subfolder of each split; empty if the subfolders are classes, or there are none.

    root: the folder.
    images: the files below it, as relative paths.
    """
    found: dict[str, str] = {}
    holding = sorted({path.parts[0] for path in images if len(path.parts) > 1})
    for name in holding:
        split = SPLITS.get(name.lower())
        if split in found:
            raise ValueError(f"data: folder {str(root)!r} has two folders for {split}, {found[split]} and {name}; rename one of them")
        if split is not None:
            found[split] = name
    if len(found) == 1 and len(holding) > 1:
        return {}
    return {split: found[split] for split in dict.fromkeys(SPLITS.values()) if split in found}


def _images(root: Path, endings: frozenset[str]) -> tuple[list[Path], list[Path]]:
    """All files below root that are not hidden, and the images among them: relative, in the order of their names."""
    paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    every = sorted(path for path in paths if not any(part.startswith(".") for part in path.parts))
    return every, [path for path in every if path.suffix.lower() in endings]


def read_folder(root: Path, split: str) -> Folder:
    """The images of a split.

    root: the folder.
    split: "train", "val", "test" or "all".

    Raises ``ValueError`` if there are none.
    """
    endings = suffixes()
    every, images = _images(root, endings)
    splits, wanted = split_folders(root, images), SPLITS.get(split.lower(), split)
    if splits and wanted not in splits:
        raise ValueError(f"data: folder {str(root)!r} has the splits {', '.join(splits)}, got {split!r}")
    base = root / splits[wanted] if splits else root
    chosen = [path.relative_to(splits[wanted]) for path in images if path.parts[0] == splits[wanted]] if splits else images
    if not chosen:
        others = _notes(every, endings, 0, {})
        raise ValueError(f"data: folder {str(base)!r} holds no image" + (f"; {others[0]}" if others else ""))
    classes, decimal = {}, False
    if all(len(path.parts) > 1 for path in chosen):
        inside = [path.parts[1:] for path in images if path.parts[0] in splits.values()] if splits else [path.parts for path in images]
        names = sorted({parts[0] for parts in inside if len(parts) > 1})
        decimal = all(name.isdecimal() for name in names)
        classes = {name: int(name) if decimal else number for number, name in enumerate(names)}
    if not splits:
        chosen = [chosen[i] for i in file_split(str(root), len(chosen), split)]
    count = max(classes.values(), default=-1) + 1
    names = tuple(map(str, range(count))) if decimal else tuple(classes)
    labels = [classes[path.parts[0]] for path in chosen] if classes else None
    outside = sum(path.parts[0] not in splits.values() for path in images) if splits else 0
    return Folder([base / path for path in chosen], labels, count, names, _notes(every, endings, outside, splits))


def _notes(every: list[Path], endings: frozenset[str], outside: int, splits: dict[str, str]) -> tuple[str, ...]:
    others = Counter(path.suffix.lower() or path.name for path in every if path.suffix.lower() not in endings)
    notes = []
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common(4)) + (", …" if len(others) > 4 else "")
        notes.append(f"files passed over, since they are not images: {others.total():,} ({kinds})")
    if outside:
        notes.append(f"images passed over, since they lie beside the folders {', '.join(splits.values())}: {outside:,}")
    return tuple(notes)
