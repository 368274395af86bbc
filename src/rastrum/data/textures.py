"""Pictures of occluding disks, and patches cut from pictures: training data for models of texture.

**Dead leaves** (Matheron 1968; Lee, Mumford & Huang 2001, "Occlusion models for natural images"): disks fall on one another, each of one
grey level, uniform over all of them, with radii of density ∝ r^−3 between two limits, the law under which the picture looks the same at any
scale. Seen from above, so the first disk that covers a pixel is the one that stays. No noise, no soft edges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

    Images = Iterable[tuple[str, Callable[[], Image.Image]]]

RADII = (2.0, 64.0)            # pixels
CANVAS = 256                   # pixels a side


def dead_leaves(size: int, random: np.random.RandomState) -> np.ndarray:
    """A picture (size, size), uint8 of 256 levels.

    size: pixels a side.
    random: stream of radii, positions and levels.
    """
    small, large = RADII
    picture, empty = np.zeros((size, size), np.uint8), np.ones((size, size), bool)
    pixels = np.arange(size)
    while empty.any():
        count = 2000
        radii = (large**-2 + (small**-2 - large**-2) * random.random_sample(count)) ** -0.5
        centres = random.random_sample((count, 2)) * (size + 2 * large) - large
        levels = random.randint(0, 256, count)
        for (row, column), radius, level in zip(centres, radii, levels, strict=True):
            rows, columns = (slice(max(0, int(np.ceil(at - radius))), max(0, int(at + radius) + 1)) for at in (row, column))
            free = empty[rows, columns]
            if free.any():
                inside = (pixels[rows, None] - row) ** 2 + (pixels[columns] - column) ** 2 <= radius**2
                picture[rows, columns][inside & free] = level
                free &= ~inside
    return picture


def leaves(count: int, seed: int) -> Images:
    """Pictures of dead leaves, 256 pixels a side, always the same for a seed.

    count: number of pictures.
    seed: of all that is random.
    """
    from PIL import Image

    for number in range(count):
        # a stream that numpy keeps for all time
        yield f"dead leaves {number}", lambda key=(seed, number): Image.fromarray(dead_leaves(CANVAS, np.random.RandomState(key)))


def crops(images: Images, size: int, each: int, seed: int) -> Iterator[tuple[str, Callable[[], Image.Image]]]:
    """Square patches of images, at random positions that are always the same for a seed.

    images: pairs of a name and a function that opens the image.
    size: pixels a side of a patch.
    each: patches per image.
    seed: of the positions.

    Raises ``ValueError`` for an image that is smaller than a patch.
    """
    random = np.random.RandomState(seed)
    for name, open_image in images:
        picture = open_image()
        width, height = picture.size
        if min(width, height) < size:
            raise ValueError(f"data: {name} has {width}x{height} pixels, size must be at most {min(width, height)}, got {size}")
        for number in range(each):
            left, top = random.randint(0, width - size + 1), random.randint(0, height - size + 1)
            yield f"{name}, patch {number}", lambda picture=picture, at=(left, top, left + size, top + size): picture.crop(at)
