"""The windows of DRAW's attention: those that a model chose, and some that show what their parameters do.

Shapes: C channels, H, W height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..layers.attention import Window, make_window
from ..protocol import Frame, ImageSpec
from .formats import Drawing
from .plots import window_plot

ROWS = 4                       # strokes of filters.png
FILTERS = 12                   # along a side of the windows of filter-banks.png


class Filters(NamedTuple):
    """Parameters of a window, in pixels; the centre of the first pixel is 0.

    row, column: of its centre.
    stride: δ, from one filter to the next.
    sigma: σ of a filter.
    gamma: γ, factor of what is read, 1 by default.
    """

    row: float
    column: float
    stride: float
    sigma: float
    gamma: float = 1.0

    def __str__(self) -> str:
        return f"g$_Y$ = {self.row:.3g}\ng$_X$ = {self.column:.3g}\nδ = {self.stride:.3g}\nσ = {self.sigma:.3g}\nγ = {self.gamma:.3g}"


def some_filters(spec: ImageSpec, count: int) -> list[Filters]:
    """Windows that show what each parameter does: the whole image, a part of it, the part blurred, and a dim part of the side.

    spec: of the image.
    count: filters along a side.
    """
    row, column = (spec.height - 1) / 2, (spec.width - 1) / 2
    stride = (max(spec.height, spec.width) - 1) / max(count - 1, 1)
    near = stride / 2
    return [
        Filters(row, column, stride, stride / 2),
        Filters(row, column, near, near / 2),
        Filters(row, column, near, 3 * near),
        Filters(row / 2, 1.4 * column, near, near / 2, 0.5),
    ]


def window_of(filters: Sequence[Filters], count: int, spec: ImageSpec) -> Window:
    """Windows by the equations of DRAW.

    filters: parameters of each window.
    count: filters along a side, at least 1.
    spec: of the image.

    Raises ``ValueError`` for a stride, σ or γ that is not above 0.
    """
    for chosen in filters:
        if not min(chosen.stride, chosen.sigma, chosen.gamma) > 0:
            raise ValueError(f"filters: stride, sigma and gamma must be above 0, got {tuple(chosen)}")
    if count < 1:
        raise ValueError(f"filters: expected at least 1 along a side, got {count}")
    row, column, stride, sigma, gamma = torch.tensor(filters, dtype=torch.float64).unbind(1)
    unit = (max(spec.height, spec.width) - 1) / max(count - 1, 1)
    centre = [2 * (position + 1) / (side + 1) - 1 for position, side in ((column, spec.width), (row, spec.height))]
    shape = [2 * sigma.log(), (stride / (unit or 1.0)).log(), gamma.log()]  # an image of one pixel has no stride
    return make_window(torch.stack([*centre, *shape], 1), count, spec.height, spec.width)


def filter_picture(image: Tensor) -> Drawing:
    """Filter banks of some windows, with the patch that they read from an image and write back.

    image: (C, H, W) in [0, 1].

    Raises ``ValueError`` for another shape.
    """
    if image.ndim != 3:
        raise ValueError(f"image: expected shape (C, H, W), got {tuple(image.shape)}")
    spec = ImageSpec(*image.shape)
    filters = some_filters(spec, FILTERS)
    return window_plot(image.double().expand(len(filters), *image.shape), window_of(filters, FILTERS, spec), [*map(str, filters)])


def chosen_windows(image: Tensor, frames: Sequence[Frame]) -> Drawing:
    """The windows through which a model read an image at ``ROWS`` of its strokes, evenly spaced.

    image: (C, H, W) in [0, 1], the first of the frames' images.
    frames: of ``reconstruct``, one per stroke, the initial canvas first.
    """
    shown = sorted({round(t) for t in np.linspace(1, len(frames) - 1, ROWS)})
    infos = [frames[t].info for t in shown]
    stacked = (torch.stack([info[f"read_{name}"][0] for info in infos]) for name in ("rows", "columns", "gamma", "window"))
    window = Window(*(tensor.cpu().double() for tensor in stacked))
    titles = []
    for t, box, gamma in zip(shown, window.box.tolist(), window.gamma.flatten().tolist(), strict=True):
        stride = (box[2] - 1) / max(window.rows.shape[1] - 1, 1)
        titles.append(f"stroke {t}\ng$_Y$ = {box[0]:.1f}\ng$_X$ = {box[1]:.1f}\nδ = {stride:.2f}\nγ = {gamma:.2f}")
    return window_plot(image.double().expand(len(shown), *image.shape), window, titles)
