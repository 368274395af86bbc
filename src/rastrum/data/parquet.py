"""Images in parquet files, a row group at a time.

    column of images    image files as HF ``datasets`` writes them (a struct of bytes and path), or as bytes; or levels as nested lists
                        (H, W), (H, W, 1 or 3) or (1 or 3, H, W) of uint8, uint16 or bool. It is the first such column, unless it is named
    column of labels    "label" if it holds whole numbers, else the first that HF ``datasets`` marks as a class; optional

The footers, which say what lies where, and the labels are read once. Of the images at most ``GROUPS`` row groups are in memory.
"""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NoReturn
from zlib import crc32

import numpy as np

from ..memory import ask
from .arrays import LEVELS
from .reading import Opener, UnreadableImage, open_image

if TYPE_CHECKING:
    import pyarrow

GROUPS = 3                     # row groups in memory


class ParquetImages:
    """The images of parquet files, by the number of their row in all files together.

    files: in their order.
    column: of the images; None = the first that holds images.
    shown: what stands before the number of a row as the name of an image: the name of each file; None = nothing, and rows are counted
        through all files.
    classes: names of classes by column, where they are known from elsewhere.

    Raises ``ValueError`` for broken files, and files without such a column.
    """

    def __init__(
        self,
        files: Sequence[Path],
        column: str | None = None,
        shown: Sequence[str] | None = None,
        classes: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.files, self.shown, self.column = list(files), shown, column
        self.footers: list[Any] = []
        rows, sizes, where = [0], [], []
        stamp, kind = 0, None
        for number, file in enumerate(self.files):
            footer = _footer(file)
            schema = footer.schema.to_arrow_schema()
            if kind is None:
                self.column = self.column or next((field.name for field in schema if _holds_images(field.type)), None)
            have = schema.field(self.column).type if self.column in schema.names else None
            if self.column is None or have is None or not _holds_images(have):
                columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
                named = "" if self.column is None else f" {self.column!r}"
                raise ValueError(f"data: {str(file)!r} has no column of images{named}, only {columns[:300]}")
            if kind is not None and _stored(have) != kind:
                raise ValueError(f"data: {str(file)!r} has {self.column} of type {have}, {str(self.files[0])!r} of type {kind}")
            kind = _stored(have)
            self.footers.append(footer)
            mine = [i for i in range(footer.num_columns) if footer.schema.column(i).path.split(".")[0] == self.column]
            for group in range(footer.num_row_groups):
                described = footer.row_group(group)
                rows.append(rows[-1] + described.num_rows)
                sizes.append(sum(described.column(i).total_uncompressed_size for i in mine))
                where.append((number, group))
                stamp = crc32(repr((described.num_rows, described.total_byte_size)).encode(), stamp)
        self.stamp = stamp
        self.begins = np.array(rows, np.int64)
        self.where = np.array(where, np.int64).reshape(-1, 2)
        self.largest = max(sizes, default=0)
        self.loaded: OrderedDict[int, Any] = OrderedDict()
        self.lock = Lock()
        self.label, self.class_names = self._labels_column(classes)

    @property
    def groups(self) -> np.ndarray:
        """The first row of each row group, and the number of rows, (G + 1,)."""
        return self.begins

    def __len__(self) -> int:
        return int(self.begins[-1])

    def check_memory(self) -> None:
        """Raises ``ValueError`` where ``GROUPS`` row groups would not fit into memory."""
        remedy = "write the files with smaller row groups (row_group_size=1000)"
        ask(f"data: {GROUPS} row groups of {str(self.files[0].parent)!r}", GROUPS * self.largest, remedy)

    def name(self, row: int) -> str:
        """Of an image, as ``Dataset.names`` has it.

        row: its number.
        """
        if self.shown is None:
            return str(row)
        file, row = self._place(row)
        return f"{self.shown[file]}[{row}]"

    def opened(self, rows: np.ndarray) -> Iterator[tuple[str, Opener]]:
        """Images, as a name for messages and what opens each; every row group is read once where rows are sorted.

        rows: their numbers.
        """
        groups = np.searchsorted(self.begins, rows, "right") - 1
        bounds = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(rows)]
        for start, stop in pairwise(bounds):
            if start == stop:
                continue
            group = int(groups[start])
            with self.lock:
                table = self._load(group)
                cells = [table[int(row - self.begins[group])].as_py() for row in rows[start:stop]]
            for row, cell in zip(rows[start:stop], cells, strict=True):
                file, inside = self._place(int(row))
                yield f"{self.files[file]}, row {inside}", lambda cell=cell, file=file: self._opened(cell, self.files[file])

    def labels(self) -> np.ndarray | None:
        """The class of every row, (N,) int64; None without labels, or where they are kept secret (−1).

        Raises ``ValueError`` for rows without one.
        """
        if self.label is None:
            return None
        parts = []
        for file, footer in zip(self.files, self.footers, strict=True):
            column = _column(file, footer, self.label)
            if column.null_count:
                row = next(i for i, value in enumerate(column) if not value.is_valid)
                raise ValueError(f"data: {str(file)!r}, row {row} has no {self.label}; leave out such rows in a copy of the set")
            parts.append(column.to_numpy().astype(np.int64))
        labels = np.concatenate(parts)
        return None if labels.min(initial=0) < 0 else labels

    def _place(self, row: int) -> tuple[int, int]:
        """Number of the file, and of the row in it."""
        group = int(np.searchsorted(self.begins, row, "right")) - 1
        file, inside = self.where[group].tolist()
        return file, int(row - self.begins[group - inside])

    def _load(self, group: int) -> Any:
        """The images' column of a row group; the one that was used least lately makes room for it."""
        if group in self.loaded:
            self.loaded.move_to_end(group)
            return self.loaded[group]
        while len(self.loaded) >= GROUPS:
            self.loaded.popitem(last=False)
        file, inside = self.where[group].tolist()
        self.loaded[group] = _column(self.files[file], self.footers[file], self.column or "", inside)
        return self.loaded[group]

    def _opened(self, cell: Any, file: Path) -> Any:
        if cell is None or (isinstance(cell, dict) and cell["bytes"] is None and not cell["path"]):
            raise UnreadableImage("there is no image in it")
        if isinstance(cell, list):
            return _levels(cell, self.type)
        if isinstance(cell, bytes):
            return open_image(io.BytesIO(cell))
        return open_image(file.parent / cell["path"] if cell["bytes"] is None else io.BytesIO(cell["bytes"]))

    @property
    def type(self) -> np.dtype:
        """Of levels in nested lists."""
        kind = _stored(self.footers[0].schema.to_arrow_schema().field(self.column).type)
        while hasattr(kind, "value_type"):
            kind = kind.value_type
        return np.dtype(kind.to_pandas_dtype())

    def _labels_column(self, classes: Mapping[str, tuple[str, ...]] | None) -> tuple[str | None, tuple[str, ...]]:
        """The column of labels, and the names of the classes."""
        import pyarrow

        schema = self.footers[0].schema.to_arrow_schema() if self.footers else pyarrow.schema([])
        known = dict(_classes(schema) if classes is None else classes)
        whole = {field.name for field in schema if pyarrow.types.is_integer(field.type)}
        label = "label" if "label" in whole else next((name for name in known if name in whole), None)
        return label, known.get(label or "", ())


def _column(file: Path, footer: Any, column: str, group: int | None = None) -> Any:
    """A column of a file, or of one of its row groups."""
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file, metadata=footer) as opened:
            table = opened.read([column]) if group is None else opened.read_row_group(group, [column])
            return table.column(0)
    except Exception as error:
        _refuse(file, "" if group is None else f", row group {group}", error)


def _footer(file: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ImportError(f"data: {str(file)!r} needs the extra data: pip install datasets") from None
    try:
        return pyarrow.parquet.read_metadata(file)
    except Exception as error:
        _refuse(file, "", error)


def _refuse(file: Path, part: str, error: Exception) -> NoReturn:
    """What pyarrow says to a broken file, in one line."""
    import pyarrow

    if isinstance(error, FileNotFoundError | PermissionError):           # pyarrow's have no name of the file
        raise type(error)(error.errno or 0, "cannot be opened", str(file)) from None
    if not isinstance(error, pyarrow.ArrowException | OSError):
        raise error
    said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    raise ValueError(f"data: {str(file)!r}{part} is not a whole parquet file ({said[:200]}); write it again") from None


def _stored(kind: Any) -> Any:
    """How values lie in the file: HF ``datasets`` has types of its own for arrays."""
    return getattr(kind, "storage_type", kind)


def _holds_images(kind: pyarrow.DataType) -> bool:
    """Whether a column's type is that of image files, or of levels in two or three nested lists."""
    import pyarrow

    types, kind = pyarrow.types, _stored(kind)
    if types.is_struct(kind):
        return {kind.field(i).name for i in range(kind.num_fields)} == {"bytes", "path"}
    if types.is_binary(kind) or types.is_large_binary(kind):
        return True
    depth = 0
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    return depth in (2, 3) and (types.is_integer(kind) or types.is_boolean(kind))


def _levels(cell: list[Any], kind: np.dtype) -> np.ndarray:
    """Nested lists as (H, W, C)."""
    if kind.name not in LEVELS:
        raise UnreadableImage(f"it holds {kind.name}; write uint8 for 256 levels, uint16 for 65,536, bool for two")
    try:
        values = np.array(cell, kind)
    except (ValueError, TypeError):                                       # rows of several lengths, or without a value
        raise UnreadableImage("its rows are not of one length, or lack values") from None
    if values.size == 0:
        raise UnreadableImage("there is no image in it")
    if values.ndim == 2:
        return values[..., None]
    return values if values.shape[2] in (1, 3) else values.transpose(1, 2, 0)


def _classes(schema: pyarrow.Schema) -> dict[str, tuple[str, ...]]:
    """Names of classes by column, as HF ``datasets`` keeps them in the footer."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: tuple(kind["names"]) for name, kind in features.items() if kind.get("_type") == "ClassLabel" and kind.get("names")}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
