"""Models side by side: what each draws, and bars of what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from .formats import DPI
from .plots import COLOURS, _figure, _show
from .sheets import pixels_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, PANEL = 8.0, 2.4        # inches of the pictures, about, and of a line of panels
EDGE, LETTER = 0.1, 0.08       # inches around the pictures, and of a letter of the names next to them


def comparison_plot(names: Sequence[str], pictures: Sequence[Tensor], bars: dict[str, Sequence[Sequence[float]]]) -> Figure:
    """A row of pictures per model above, a panel of bars per measure below.

    names: of the models.
    pictures: of each model, (n, C, H, W) in [0, 1]; as many of each, or none.
    bars: by the measure's name, the values of each model, one per seed; the bar is their mean, a dot each value. NaN is left out.
    """
    lines, columns = math.ceil(len(bars) / 3), min(3, len(bars))
    drawn = _strips(pictures)
    pixel = max(1, round(WIDTH * DPI / drawn.shape[1])) / DPI             # inches: pixels of images are whole ones of the page
    tall, wide = (pixel * side + 2 * EDGE for side in drawn.shape[:2])
    left = LETTER * max(map(len, names))
    figure = _figure(left + wide, tall + PANEL * lines)
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(tall, PANEL * lines)).flat
    # At a place of their own: a layout that knows the panels' margins but not the pictures' shape would leave a blank band around them.
    above = upper.add_axes((left / (left + wide), 0, wide / (left + wide), 1))
    _show(above, drawn)
    above.set_xticks([])
    above.set_yticks((np.arange(len(names)) + 0.5) * drawn.shape[0] / len(names) - 0.5, names, fontsize=9)
    above.tick_params(length=0)
    for side in above.spines.values():
        side.set_visible(False)
    panels = lower.subplots(lines, columns, squeeze=False).ravel()
    for axis in panels[len(bars) :]:
        axis.set_axis_off()
    for axis, (title, values) in zip(panels, bars.items(), strict=False):
        for n, each in enumerate(values):
            known = [value for value in each if not math.isnan(value)]
            if known:
                axis.barh(n, sum(known) / len(known), color=COLOURS[n % len(COLOURS)], alpha=0.75)
                axis.plot(known, [n] * len(known), ".", color="black", markersize=4)
            else:
                axis.text(0.02, n, "none", va="center", fontsize=8, transform=axis.get_yaxis_transform())
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.set_ylim(len(names) - 0.5, -0.5)
        known = [value for each in values for value in each if not math.isnan(value)]
        axis.set_xlim(min(0.0, *known, 0.0), 1.08 * max((*known, 0.0)) or 1.0)
        axis.set_title(title, fontsize=9)
        axis.tick_params(axis="x", labelsize=8)
    return figure


def _strips(pictures: Sequence[Tensor]) -> np.ndarray:
    """The pictures of each model side by side, one model below the other, with gaps: (height, width, 3) uint8."""
    shown = [pixels_of(each) for each in pictures if len(each)]
    count, (height, width) = max((len(each) for each in shown), default=1), shown[0].shape[1:3] if shown else (1, 1)
    gap = max(1, width // 12)
    sheet = np.full((len(pictures), height + gap, count, width + gap, 3), 255, np.uint8)
    for strip, each in zip(sheet, pictures, strict=True):
        if len(each):
            pixels = pixels_of(each)
            strip[gap // 2 :][:height, : len(pixels), :width] = np.broadcast_to(pixels, (*pixels.shape[:3], 3)).swapaxes(0, 1)
    return sheet.reshape(len(pictures) * (height + gap), count * (width + gap), 3)
