"""*Filters*: DRAW's attention by hand: the filters that five parameters make, the patch they read from an image and write back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..pictures.windows import Filters, window_of
from ..protocol import ImageSpec
from .models import Models
from .requests import Answer, Request, check_range, pixels, unpacked

SPEC = ImageSpec(1, 28, 28)    # of the image that is read
MOST = 28                      # filters along a side


@dataclass(frozen=True)
class Attend(Request):
    """Read a patch from an image of 28x28 grey pixels, and write it back.

    image: levels (1, 28, 28) as base64 of bytes.
    count: filters along a side.
    row, column: centre of the window, in pixels; the centre of the first pixel is 0.
    stride: δ, from one filter to the next, in pixels.
    sigma: σ of a filter, in pixels.
    gamma: γ, factor of what is read; what is written is divided by it.

    ``run`` yields the window as centre row, centre column, height, width; F_Y and F_X (count, 28), divided by their largest weight; the
    patch (count, count) that is read, with γ; and the image (28, 28) that this patch, read with γ = 1, is written to, brightest = 1.
    """

    image: str
    count: int
    row: float
    column: float
    stride: float
    sigma: float
    gamma: float = 1.0

    def __post_init__(self) -> None:
        check_range("count", self.count, 1, MOST)
        for name in ("row", "column"):
            check_range(name, getattr(self, name), -SPEC.height, 2 * SPEC.height)
        for name in ("stride", "sigma", "gamma"):
            check_range(name, getattr(self, name), 0.01, 100)

    def run(self, models: Models) -> Iterator[Answer]:
        image = unpacked("image", self.image, SPEC, SPEC.levels).double() / (SPEC.levels - 1)
        window = window_of([Filters(self.row, self.column, self.stride, self.sigma, self.gamma)], self.count, SPEC)
        patch = window.read(image.transpose(1, 2))
        written = window.write(patch)
        yield {
            "window": window.box[0].tolist(),
            "rows": pixels(window.rows / window.rows.max()),
            "columns": pixels(window.columns / window.columns.max()),
            "patch": pixels(patch * self.gamma),
            "written": pixels(written / written.max().clamp(min=1e-12)),
        }
