"""Plots: what explains a model and needs axes, drawn with matplotlib on figures of our own, so that pyplot's global state stays untouched.

Images come as for ``pictures``: torch or numpy, float in [0, 1], (N, C, H, W) with 1 or 3 channels. Every function returns a ``PIL.Image``.

Shapes: N images, C channels, H, W height and width in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .pictures import INK, RED, Picture, as_array, draw_window, pixels_of, tiles
from .protocol import ArrayLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _figure(width: float, height: float) -> Figure:
    """A figure (inches) of our own: pyplot and its global state stay untouched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _render(figure: Figure) -> Picture:
    canvas: Any = figure.canvas
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def surprise_map(images: ArrayLike, log_probs: ArrayLike, columns: int = 8) -> Picture:
    """Where images surprise a model: each image above its bits a pixel, on one colour scale.

    images: (N, C, H, W) in [0, 1]; log_probs: nats, the same shape, from ``log_prob_map``; bits of the channels are added up.
    """
    x, nats = pixels_of(images), as_array(log_probs, "log_probs")
    if nats.ndim != 4 or (nats.shape[0], *nats.shape[2:]) != x.shape[:3]:
        raise ValueError(f"log_probs: expected shape (N, C, H, W) of {x.shape[0]} images of {x.shape[1]}x{x.shape[2]}, got {nats.shape}")
    bits = -nats.sum(1) / math.log(2)
    count, columns = len(x), min(columns, len(x))
    rows = -(-count // columns)
    figure = _figure(1.05 * columns + 0.9, 2.3 * rows + 0.1)
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    drawn = None
    for i in range(rows * columns):
        above, below = axes[2 * (i // columns)][i % columns], axes[2 * (i // columns) + 1][i % columns]
        for axis in (above, below):
            axis.set_axis_off()
        if i < count:
            above.imshow(x[i], interpolation="nearest")
            drawn = below.imshow(bits[i], interpolation="nearest", cmap="magma", vmin=0, vmax=float(bits.max()) or 1.0)
            below.set_title(f"{bits[i].sum():.0f} bits", fontsize=8)
    assert drawn is not None
    figure.colorbar(drawn, ax=axes, label="bits a pixel", shrink=0.8)
    return _render(figure)


def dependency_picture(strength: ArrayLike, index: Sequence[int], label: str = "strength, relative to the strongest") -> Picture:
    """How strongly one decision uses each earlier pixel: a heat map on a logarithmic scale of three decades, the decision marked.

    strength: (C, H, W) or (H, W), not negative, nothing drawn at 0; channels are added up; index: as for ``context_picture``.
    """
    s = as_array(strength, "strength").astype(float)
    if s.ndim not in (2, 3) or not s.size or not (np.isfinite(s).all() and s.min() >= 0):
        raise ValueError(f"strength: expected numbers of at least 0, (C, H, W) or (H, W), got shape {s.shape}")
    if len(index) != s.ndim:
        raise ValueError(f"index: expected a place in {s.shape}, got {tuple(index)}")
    total = s if s.ndim == 2 else s.sum(0)
    relative = np.ma.masked_equal(total / (total.max() or 1.0), 0)
    figure = _figure(4.6, 3.8)
    axis = figure.subplots()
    from matplotlib.colors import LogNorm

    axis.set_facecolor("#e9ecef")
    drawn = axis.imshow(relative, norm=LogNorm(1e-3, 1), cmap="viridis", interpolation="nearest")
    axis.plot(index[-1], index[-2], "s", color="white", markeredgecolor=np.array(RED) / 255, markeredgewidth=2, markersize=7)
    axis.set(xlabel="column", ylabel="row")
    figure.colorbar(drawn, ax=axis, label=label, extend="min")
    return _render(figure)


def decision_picture(image: ArrayLike, known: ArrayLike, place: Sequence[int], probabilities: ArrayLike, actual: int) -> Picture:
    """One decision: what is known of an image (C, H, W), the pixel that is due in red, and the probability of each of its levels.

    known: bool, broadcasts; place: row and column of the pixel; probabilities: (levels,); actual: the level that the pixel has.
    """
    p = as_array(probabilities, "probabilities")
    if p.ndim != 1 or not 0 <= actual < len(p):
        raise ValueError(f"probabilities: expected one a level, level {actual} among them, got shape {p.shape}")
    x = as_array(image, "image")[None]
    scale = max(1, 240 // max(x.shape[2:]))
    picture = draw_window(tiles(x, scale, known)[0], (*place, 1, 1), scale)
    figure = _figure(7.2, 2.5)
    left, right = figure.subplots(1, 2, width_ratios=[1, 2.2])
    left.imshow(np.asarray(picture))
    left.set_axis_off()
    colours = [np.array(RED if level == actual else INK) / 255 for level in range(len(p))]
    right.bar(np.arange(len(p)), p, color=colours, width=0.85 if len(p) < 64 else 1.0)
    right.set(xlabel="brightness of the red pixel", ylabel="probability")
    right.xaxis.get_major_locator().set_params(integer=True)
    bits = -math.log2(max(float(p[actual]), 1e-300))
    right.set_title(f"it is {actual}: {bits:.1f} bits of surprise", fontsize=10, color=np.array(RED) / 255)
    for side in ("top", "right"):
        right.spines[side].set_visible(False)
    return _render(figure)


def learning_curve(
    curves: dict[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str = "steps",
    ylabel: str = "bits/dim",
    levels: dict[str, float] | None = None,
) -> Picture:
    """Curves by name, each (x, y); ``levels``: named horizontal lines to compare with.

    The vertical range leaves out the first fifth of a curve where it would dwarf the rest.
    """
    figure = _figure(6.4, 3.6)
    axis = figure.subplots()
    styles = [("#0062aa", "-"), ("#d55e00", "--"), ("#009e73", "-."), ("#cc79a7", ":"), ("#56b4e9", "-"), ("#000000", "--")]
    tail: list[float] = []
    for i, (name, (x, y)) in enumerate(curves.items()):
        if len(x) != len(y):
            raise ValueError(f"{name}: expected as many values as places, got {len(y)} and {len(x)}")
        colour = styles[i % len(styles)][0]
        style = styles[(i + i // len(styles)) % len(styles)][1]          # a seventh line has the first one's colour, but not its dashes
        axis.plot(x, y, style, color=colour, label=name, linewidth=1.8)
        tail += list(y)[len(y) // 5 :]
    for name, level in (levels or {}).items():
        axis.axhline(level, color="#868e96", linewidth=1, linestyle=(0, (1, 2)))
        axis.annotate(name, (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8, color="#495057")
        tail.append(level)
    finite = [v for v in tail if math.isfinite(v)]
    if finite and max(finite) > min(finite):
        margin = 0.08 * (max(finite) - min(finite))
        axis.set_ylim(min(finite) - margin, max(finite) + margin)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.grid(alpha=0.3)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    if curves:
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    return _render(figure)
