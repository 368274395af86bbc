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

STRIP = 1024                   # rows of pixels that are in memory at once, about
VALUES = 1 << 21               # of the windows that are coded at once, as far as there are several
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
        """Rows of tiles, so many at a time that they have at most ``STRIP`` rows of pixels, or that they are one."""
        size = max(1, STRIP // max(1, self.rows.stride))
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
        size = max(1, min(BLOCK * torch.get_num_threads(), VALUES // self.size))
        if waiting and not packed(self.program).lag:
            size = 1
        for first in range(0, len(tiles), size):
            yield tiles[first : first + size]

    def code(
        self, tiling: Tiling, tiles: Sequence[Tile], values: np.ndarray, top: int, streams: Sequence[Encoder] | Sequence[Decoder]
    ) -> np.ndarray:
        """Encodes or decodes a batch of tiles.

        tiling: of the image.
        tiles: of ``batches``.
        values: levels of the image from row ``top`` on, (C, rows, width); to decode, what comes before the tiles.
        streams: an encoder per tile, or a decoder.

        Returns the levels of the windows, (B, C, height, width) int64.
        """
        windows = torch.from_numpy(np.stack([_window(tiling, tile, values, top) for tile in tiles]).astype(np.int64))
        own = torch.zeros(windows.shape, dtype=torch.bool)
        for n, (i, j) in enumerate(tiles):
            own[n, :, tiling.rows.own(i).start - tiling.rows.start(i) :, tiling.columns.own(j).start - tiling.columns.start(j) :] = True
        flat = windows.flatten(1)
        ordered, active = flat[:, self.order], own.flatten(1)[:, self.order]
        engine: Any = interpreter(self.program, len(tiles), torch.float32, self.order.device, None, "native", torch.get_num_threads())
        if isinstance(streams[0], Encoder):
            flat[:, self.order] = engine.decide(0, self.size, Work("encode", values=ordered, streams=streams), active, ordered)
        elif len(tiles) == 1:
            flat[:, self.order] = engine.decide(0, self.size, Work("decode", streams=streams), active, ordered)
        else:
            starts = [tiling.columns.start(j) for _, j in tiles]
            shared = [*np.diff(starts).tolist(), tiling.columns.length]
            flat[:, self.order] = engine.decide_in_turn(Work("decode", streams=streams), active, ordered, shared)
        return windows.numpy()


def _window(tiling: Tiling, tile: Tile, values: np.ndarray, top: int) -> np.ndarray:
    rows, columns = tiling.rows.window(tile[0]), tiling.columns.window(tile[1])
    return values[:, rows.start - top : rows.stop - top, columns]
