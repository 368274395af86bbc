"""The slide of conceptual compression: the same images at several rates, by image formats and by a model.

Source: Gregor, Besse, Rezende, Danihelka, Wierstra, "Towards Conceptual Compression", 2016, the figure that compares JPEG, JPEG 2000 and
convolutional DRAW with and without the variance of the prior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from .formats import Picture
from .page import Draw
from .sheets import arrange, tiles, titled, unit_of

if TYPE_CHECKING:
    from ..applications.rates import AtRate

BLOCKS = 3                     # in a row


def draw_rates(images: Tensor, blocks: Mapping[str, Sequence[AtRate]]) -> Draw:
    """A block for each rate: the images, and below them how they come back, with bits and PSNR, means of the images.

    images: (N, C, H, W) in [0, 1].
    blocks: rows by the title of their block.

    Returns what draws it at a scale and a unit, None for the usual ones.
    """

    def draw(scale: int | None, unit: float | None) -> Picture:
        unit = unit_of(scale, *images.shape[-2:]) if unit is None else unit
        originals = tiles(images, scale)
        cells = []
        for title, rows in blocks.items():
            shown = [cell for row in rows for cell in tiles(row.pictures, scale)]
            block = arrange([*originals, *shown], len(images), ["image", *map(label, rows)], unit=unit)
            cells.append(titled(block, title, unit))
        return arrange(cells, BLOCKS, unit=unit)

    return draw


def label(row: AtRate) -> str:
    """What is written left of a row: what coded it, the bits of payload and file, and the PSNR.

    row: the images.
    """
    over = "" if row.within.all() else ", over"
    return f"{row.name}\n{row.payload.mean():,.0f} of {row.bits.mean():,.0f} bits{over}\n{row.psnr.mean():.1f} dB"
