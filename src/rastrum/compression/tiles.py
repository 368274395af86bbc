"""An image as tiles, each coded as a stream of its own, that see decoded pixels across their upper and left border.

Along each axis, with n = max(1, ⌈(size − context) / tile⌉) and stride = ⌈(size − context) / n⌉:

    window k       pixels s_k … s_k + w − 1,   w = stride + context,   s_k = min(k · stride, size − w)
    tile k         what window k covers and window k − 1 does not

    window 0    ├──────────────────┤
    window 1              ├╌╌╌╌╌╌╌╌┼─────────┤          ╌ context: known, no bit is spent on it
    window 2                       ├╌╌╌╌╌╌╌╌┼─────────┤

All windows of an image have the same size, so one step program runs them all; the border of the image is the border of the model. A tile
waits for those above, and row by row for the one to the left; so the tiles of a row are decoded together, each a little behind its
neighbour. The encoder knows all pixels and takes any tiles together. The bits depend on neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch

from ..program import interpreter
from ..program.tables import packed
from ..protocol import Work
from ..range_coder import Decoder, Encoder
from ..raster import RasterModel
from .identity import native_program

STRIP = 1 << 20                # pixels of the rows of tiles that one list is of, as far as there are several
VALUES = 1 << 20               # of the windows that a thread codes at once, as far as there are several
MEMORY = 10_000_000            # floats of the maps of the windows that a thread codes at once, as far as there are several
BLOCK = 16                     # windows of a thread that are coded at once, at most

Tile: TypeAlias = tuple[int, int]    # row and column of a tile


@dataclass(frozen=True)
class Axis:
    """Windows along one axis.

    size: pixels of the image.
    tile: pixels of a tile, at most.
    context: pixels that a window shares with the one before it, at least.
    """

    size: int
    tile: int
    context: int

    @cached_property
    def count(self) -> int:
        """The number of windows n."""
        return max(1, -(-(self.size - self.context) // self.tile))

    @cached_property
    def stride(self) -> int:
        """Pixels from one window to the next."""
        return -(-(self.size - self.context) // self.count)

    @property
    def length(self) -> int:
        """Pixels of a window w."""
        return self.stride + self.context

    def start(self, k: int) -> int:
        """The first pixel of window ``k``."""
        return min(k * self.stride, self.size - self.length)

    def window(self, k: int) -> slice:
        """The pixels of window ``k``."""
        return slice(self.start(k), self.start(k) + self.length)

    def own(self, k: int) -> slice:
        """The pixels of tile ``k``."""
        return slice(self.window(k - 1).stop if k else 0, self.window(k).stop)


@dataclass(frozen=True)
class Tiling:
    """The tiles of an image.

    rows, columns: the windows along both axes.
    """

    rows: Axis
    columns: Axis

    @property
    def count(self) -> int:
        """The number of tiles."""
        return self.rows.count * self.columns.count

    def strips(self) -> Iterator[range]:
        """Rows of tiles, so many at a time that they have at most ``STRIP`` pixels, or that they are one."""
        size = max(1, STRIP // (max(1, self.rows.stride) * self.columns.size))
        for first in range(0, self.rows.count, size):
            yield range(first, min(first + size, self.rows.count))

    def tiles(self, strip: range) -> list[Tile]:
        """The tiles of a strip, row by row."""
        return [(i, j) for i in strip for j in range(self.columns.count)]

    def before(self, tile: Tile) -> list[Tile]:
        """The tiles that a tile waits for."""
        i, j = tile
        return [(a, b) for a, b in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if a >= 0 and b >= 0]

    def own(self, tile: Tile) -> tuple[slice, slice]:
        """The rows and columns of a tile."""
        return self.rows.own(tile[0]), self.columns.own(tile[1])

    def window(self, tile: Tile) -> tuple[slice, slice]:
        """The rows and columns of its window."""
        return self.rows.window(tile[0]), self.columns.window(tile[1])


class Decoded:
    """What later windows see of the tiles that are decoded, a column of tiles at a time; the rest of the image takes no memory.

    tiling: of the image.
    channels: number of them.
    kind: type of the levels.
    """

    def __init__(self, tiling: Tiling, channels: int, kind: type) -> None:
        self.tiling, self.channels, self.kind, self.top = tiling, channels, kind, 0
        self.columns: dict[int, np.ndarray] = {}                          # from row ``top`` on

    def begin(self, i: int) -> None:
        """Keep what row ``i`` of tiles sees: of columns that are decoded up to there."""
        before, self.top = self.top, self.tiling.rows.start(i)
        whole = self.tiling.rows.own(i).start - before
        self.columns = {j: part[:, self.top - before :] for j, part in self.columns.items() if part.shape[1] == whole}

    def window(self, tile: Tile) -> np.ndarray:
        """The levels of a window (C, rows, columns), 0 where they are not known."""
        rows, columns = self.tiling.window(tile)
        found = np.zeros((self.channels, rows.stop - rows.start, columns.stop - columns.start), self.kind)
        for j in range(tile[1], -1, -1):
            own = self.tiling.columns.own(j)
            if own.stop <= columns.start:
                break
            if (part := self.columns.get(j)) is not None:
                left = max(own.start, columns.start)
                found[:, : part.shape[1], left - columns.start : own.stop - columns.start] = part[:, :, left - own.start :]
        return found

    def add(self, tile: Tile, own: np.ndarray) -> None:
        """Note the levels of a tile (C, rows, columns)."""
        part = self.columns.get(tile[1])
        self.columns[tile[1]] = own if part is None else np.concatenate([part, own], 1)


class Coder:
    """Codes tiles by the step program of a model that has the size of a window.

    model: of that size.

    Raises ``ValueError`` for a model that the native interpreter does not run, ``PortabilityError`` where that computes otherwise.
    """

    def __init__(self, model: RasterModel) -> None:
        program = native_program(model)
        if program is None:
            raise ValueError(f"model: {type(model).__name__} does not run in the native interpreter, which alone decodes on every machine; "
                             "it takes a step program with a head, float32, a CPU and numba")  # fmt: skip
        self.program, self.order, self.size = program, model.order, model.spec.size

    def batches(self, tiles: Sequence[Tile], waiting: bool = False) -> Iterator[Sequence[Tile]]:
        """Tiles that are coded together.

        tiles: any to encode; to decode, neighbours in a row, from left to right.
        waiting: whether each waits for the one before, as when decoding; False by default.
        """
        program = packed(self.program)
        size = max(1, min(BLOCK, VALUES // self.size, MEMORY // program.tables.layout.stride) * torch.get_num_threads())
        if waiting and not program.lag:
            size = 1
        for first in range(0, len(tiles), size):
            yield tiles[first : first + size]

    def code(
        self, tiling: Tiling, tiles: Sequence[Tile], known: Sequence[np.ndarray], streams: Sequence[Encoder] | Sequence[Decoder]
    ) -> np.ndarray:
        """Encodes or decodes a batch of tiles.

        tiling: of the image.
        tiles: of ``batches``.
        known: the levels of their windows, (C, height, width) each; to decode, what is known of them.
        streams: an encoder per tile, or a decoder.

        Returns the levels of the windows, (B, C, height, width), of the type of those known.
        """
        windows, order = np.stack(known), self.order.numpy()
        own = np.zeros(windows.shape, np.bool_)
        for n, (i, j) in enumerate(tiles):
            own[n, :, tiling.rows.own(i).start - tiling.rows.start(i) :, tiling.columns.own(j).start - tiling.columns.start(j) :] = True
        flat = windows.reshape(len(tiles), -1)                            # taken, not indexed: image after image in memory
        ordered = torch.from_numpy(flat.take(order, 1).astype(np.int64))
        active = torch.from_numpy(own.reshape(len(tiles), -1).take(order, 1))
        engine: Any = interpreter(self.program, len(tiles), torch.float32, self.order.device, None, "native", torch.get_num_threads())
        if isinstance(streams[0], Encoder):
            coded = engine.decide(0, self.size, Work("encode", values=ordered, streams=streams), active, ordered)
        elif len(tiles) == 1:
            coded = engine.decide(0, self.size, Work("decode", streams=streams), active, ordered)
        else:
            starts = [tiling.columns.start(j) for _, j in tiles]
            shared = [*np.diff(starts).tolist(), tiling.columns.length]
            coded = engine.decide_in_turn(Work("decode", streams=streams), active, ordered, shared)
        flat[:, order] = coded.numpy()
        return windows
