"""Still images in a .npy or .npz file: unsigned integers (N, H, W), (N, C, H, W), or (N, H, W, C) with one or three channels.

An .npz holds ``images``, and if wanted ``labels`` (N,) and ``levels``, a number; without it the type of the images says how many levels
they have: 2 for bool, 256 for uint8, 65,536 for uint16.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np

SUFFIXES = (".npy", ".npz")
LEVELS = {"bool": 2, "uint8": 256, "uint16": 65536}


@dataclass(frozen=True)
class Arrays:
    """images: (N, C, H, W). labels: int64 (N,), or None. levels: as stated in the file, or None."""

    images: np.ndarray
    labels: np.ndarray | None
    levels: int | None


def read_arrays(path: Path) -> Arrays:
    """What a .npy or .npz file holds.

    path: of the file.

    Raises ``ValueError`` for any other array.
    """
    if not path.is_file():
        raise ValueError(f"data: there is no file {str(path)!r}")
    try:
        with path.open("rb") as file:
            several = path.suffix.lower() == ".npz"
            loaded = np.load(file, allow_pickle=False) if several else np.lib.format.read_array(file, allow_pickle=False)
            found = {"images": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, SyntaxError, TokenError, BadZipFile, MemoryError, OverflowError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"data: {str(path)!r} holds no array that can be read ({said}); write it with numpy.save or numpy.savez") from None
    if "images" not in found and len(found) == 1:
        found = {"images": next(iter(found.values()))}
    if "images" not in found:
        raise ValueError(f"data: {str(path)!r} holds {', '.join(found) or 'nothing'}; the array of the images must be called images")
    images = _channels_first(path, found["images"])
    return Arrays(images, _labels(path, found.get("labels"), len(images)), _levels(path, found.get("levels")))


def _channels_first(path: Path, images: np.ndarray) -> np.ndarray:
    if images.dtype.kind not in "biu":
        remedy = "save levels, of intensities in [0, 1] (x * 255).round().astype('uint8')"
        raise ValueError(f"data: {str(path)!r} holds {images.dtype}; {remedy}")
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or images.size == 0:
        raise ValueError(f"data: {str(path)!r} has the shape {images.shape}, expected (N, H, W), (N, C, H, W) or (N, H, W, 3)")
    return images.transpose(0, 3, 1, 2) if images.shape[3] in (1, 3) and images.shape[1] not in (1, 3) else images


def _labels(path: Path, labels: np.ndarray | None, count: int) -> np.ndarray | None:
    if labels is None:
        return None
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or (count and labels.min() < 0):
        raise ValueError(f"data: the labels in {str(path)!r} must be {count} whole numbers from 0 on, got {labels.dtype} {labels.shape}")
    return labels.astype(np.int64)


def _levels(path: Path, levels: np.ndarray | None) -> int | None:
    if levels is None:
        return None
    if levels.shape != () or levels.dtype.kind not in "iu" or not 2 <= int(levels) <= 65536:
        raise ValueError(f"data: levels in {str(path)!r} must be one number between 2 and 65536, got {levels.tolist()}")
    return int(levels)


def levels_of(path: Path, arrays: Arrays) -> int:
    """How many levels the images have, by what the file says or by their type.

    path: of the file, for messages.
    arrays: what it holds.

    Raises ``ValueError`` where neither says.
    """
    images, levels = arrays.images, arrays.levels or LEVELS.get(arrays.images.dtype.name)
    lowest, highest = int(images.min()), int(images.max())
    if levels is None:
        remedy = "save uint8 for 256 levels, uint16 for 65,536, or state levels in an .npz"
        raise ValueError(f"data: {str(path)!r} holds {images.dtype}; {remedy}")
    if lowest < 0 or highest >= levels:
        raise ValueError(f"data: {str(path)!r} has values from {lowest} to {highest}, expected 0 … {levels - 1}")
    if arrays.levels is None and levels > 2 and highest <= 1:
        raise ValueError(f"data: {str(path)!r} holds only 0 and 1 as {images.dtype}; save bool for two levels, or state levels in an .npz")
    return levels
