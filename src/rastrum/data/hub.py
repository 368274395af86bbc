"""Images of the Hub, or of a copy of its layout in the folder that the environment variable RASTRUM_HUB_MIRROR names."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..config import DataOptions
from .folders import PARQUET
from .parquet import ParquetImages
from .reading import Opener, UnreadableImage, open_image
from .source import Source, read_by

if TYPE_CHECKING:
    from PIL import Image


def mirrored(repository: str) -> Path | None:
    """The folder of a Hub repository in the mirror, if it is there.

    repository: OWNER/NAME.
    """
    local = _place(repository)
    return local if local is not None and local.is_dir() else None


def _place(repository: str) -> Path | None:
    """Where the mirror, if there is one, would have a repository."""
    mirror = os.environ.get("RASTRUM_HUB_MIRROR")
    return Path(mirror).expanduser() / repository if mirror else None


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
    return read_by(reader, range(len(reader)), None if labels is None else torch.from_numpy(labels), len(class_names), class_names)


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
    local = _place(repository)
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
