"""Pictures that need axes, drawn with matplotlib but without pyplot, whose global state stays untouched.

Images are those of ``sheets``: torch or numpy, float in [0, 1], (N, C, H, W) with 1 or 3 channels. Every function returns a figure of
matplotlib; formats.py makes pixels or a file of it, at any size.

Shapes: N images, C channels, H, W height and width in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ..layers.attention import Window
from ..protocol import ArrayLike
from .formats import DPI, PIXELS, legend_outside
from .sheets import INK, RED, as_array, as_pictures, draw_window, pixels_of, tiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

SIDE = 256                     # points of an embedded image, at least about this many
COLOURS = ("#0062aa", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#000000")


def _figure(width: float, height: float, layout: Literal["constrained", "compressed"] | None = "constrained") -> Figure:
    """A matplotlib figure of this size in inches that pyplot does not know."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")


def _show(axis: Axes, pixels: np.ndarray, **how: Any) -> AxesImage:
    """An image on axes, in coordinates of its own pixels, enlarged so that every viewer shows them as squares.

    pixels: values (H, W), or colours (H, W, 3).
    how: for ``imshow``.
    """
    height, width = pixels.shape[:2]
    factor = max(1, SIDE // max(height, width))
    large = pixels.repeat(factor, 0).repeat(factor, 1)
    axis.set_gid(PIXELS)
    return axis.imshow(large, interpolation="none", extent=(-0.5, width - 0.5, height - 0.5, -0.5), **how)


def surprise_map(images: ArrayLike, log_probs: ArrayLike, columns: int = 8) -> Figure:
    """Where images surprise a model: each image above its bits per pixel, on one colour scale.

    images: (N, C, H, W) in [0, 1].
    log_probs: nats of the same shape, from ``log_prob_map``; summed over channels.
    columns: images per row.
    """
    x, nats = pixels_of(images), as_array(log_probs, "log_probs")
    if nats.ndim != 4 or (nats.shape[0], *nats.shape[2:]) != x.shape[:3]:
        raise ValueError(f"log_probs: expected shape (N, C, H, W) of {x.shape[0]} images of {x.shape[1]}x{x.shape[2]}, got {nats.shape}")
    bits = np.minimum(-nats.sum(1) / math.log(2), 1e6)                     # infinite at a level of no probability
    count, columns = len(x), min(columns, len(x))
    rows = -(-count // columns)
    figure = _figure(1.05 * columns + 0.9, 2.3 * rows + 0.1, "compressed")
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    drawn = None
    for i in range(rows * columns):
        above, below = axes[2 * (i // columns)][i % columns], axes[2 * (i // columns) + 1][i % columns]
        for axis in (above, below):
            axis.set_axis_off()
        if i < count:
            _show(above, x[i])
            drawn = _show(below, bits[i], cmap="magma", vmin=0, vmax=float(bits.max()) or 1.0)
            below.set_title(f"{bits[i].sum():.0f} bits", fontsize=8)
    assert drawn is not None
    figure.colorbar(drawn, ax=axes, label="bits per pixel", shrink=0.8)
    return figure


def dependency_picture(strength: ArrayLike, index: Sequence[int]) -> Figure:
    """How strongly one decision uses each earlier pixel: a heat map on a logarithmic scale of three decades, the decision marked.

    strength: (C, H, W) or (H, W), at least 0, summed over channels; nothing is drawn at 0.
    index: of the decision, as for ``context_picture``.
    """
    s = as_array(strength, "strength").astype(float)
    if s.ndim not in (2, 3) or not s.size or not (np.isfinite(s).all() and s.min() >= 0):
        raise ValueError(f"strength: expected values of at least 0, (C, H, W) or (H, W), got shape {s.shape}")
    if len(index) != s.ndim:
        raise ValueError(f"index: expected a position in {s.shape}, got {tuple(index)}")
    total = s if s.ndim == 2 else s.sum(0)
    relative = np.ma.masked_equal(total / (total.max() or 1.0), 0)
    figure = _figure(4.6, 3.8, "compressed")
    axis = figure.subplots()
    from matplotlib.colors import LogNorm

    axis.set_facecolor("#e9ecef")
    drawn = _show(axis, relative, norm=LogNorm(1e-3, 1), cmap="viridis")
    axis.plot(index[-1], index[-2], "s", color="white", markeredgecolor=np.array(RED) / 255, markeredgewidth=2, markersize=7)
    axis.set(xlabel="column", ylabel="row")
    figure.colorbar(drawn, ax=axis, label="strength, relative to the strongest", extend="min")
    return figure


def decision_picture(image: ArrayLike, known: ArrayLike, position: Sequence[int], probabilities: ArrayLike, actual: int) -> Figure:
    """One decision: what is known of an image, the next pixel in red, and the probability of each of its levels.

    image: (C, H, W) in [0, 1].
    known: bool, broadcasts to the image.
    position: row and column of the pixel.
    probabilities: (levels,).
    actual: the level that the pixel has.
    """
    p = as_array(probabilities, "probabilities")
    if p.ndim != 1 or not 0 <= actual < len(p):
        raise ValueError(f"probabilities: expected one per level, with level {actual} among them, got shape {p.shape}")
    x = as_pictures(image, "image")[None]
    scale = max(1, SIDE // max(x.shape[2:]))
    picture = draw_window(tiles(x, scale, known)[0], (*position, 1, 1), scale)
    figure = _figure(7.2, 2.5)
    left, right = figure.subplots(1, 2, width_ratios=[1, 2.2])
    _show(left, np.asarray(picture))
    left.set_axis_off()
    colours = [np.array(RED if level == actual else INK) / 255 for level in range(len(p))]
    right.bar(np.arange(len(p)), p, color=colours, width=0.85 if len(p) < 64 else 1.0)
    right.set(xlabel="brightness of the red pixel", ylabel="probability")
    right.xaxis.get_major_locator().set_params(integer=True)
    bits = -math.log2(max(float(p[actual]), 1e-300))
    right.set_title(f"it is {actual}: {bits:.1f} bits of surprise", fontsize=10, color=np.array(RED) / 255)
    for side in ("top", "right"):
        right.spines[side].set_visible(False)
    return figure


def learning_curve(
    curves: dict[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str = "steps",
    ylabel: str = "bits/dim",
    levels: dict[str, float] | None = None,
) -> Figure:
    """A plot of learning curves; its vertical range ignores the first fifth of each curve.

    curves: by name, each (x, y).
    xlabel, ylabel: of the axes.
    levels: horizontal lines to compare with, by name.
    """
    figure = _figure(6.4, 3.6)
    axis = figure.subplots()
    dashes = ("-", "--", "-.", ":", "-", "--")
    tail: list[float] = []
    lines: list[Any] = []
    for i, (name, (x, y)) in enumerate(curves.items()):
        if len(x) != len(y):
            raise ValueError(f"{name}: expected as many y as x, got {len(y)} and {len(x)}")
        colour = COLOURS[i % len(COLOURS)]
        style = dashes[(i + i // len(COLOURS)) % len(dashes)]             # lines of the same colour differ in their dashes
        lines += axis.plot(x, y, style, color=colour, linewidth=1.8)
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
        legend_outside(figure, lines, list(curves))
    return figure


def kl_plot(kl: ArrayLike, layers: int = 1) -> Figure:
    """KL of each latent, stroke by stroke: the mean over images, and one standard deviation on either side, shaded.

    kl: (N, steps) nats.
    layers: latents that each stroke decides in turn; each has a line.
    """
    nats = as_array(kl, "kl")
    if nats.ndim != 2 or 0 in nats.shape or layers < 1 or nats.shape[1] % layers:
        raise ValueError(f"kl: expected shape (N, steps), steps a multiple of {layers} layers, got {nats.shape}")
    from matplotlib.ticker import MaxNLocator

    figure = _figure(6.4, 3.4)
    axis = figure.subplots()
    strokes = np.arange(1, nats.shape[1] // layers + 1)
    marker = "o" if len(strokes) <= 40 else None
    names = ["top layer", *(f"layer {layers - 1 - i}" for i in range(1, layers - 1)), "lowest layer"][-layers:]
    for i in range(layers):
        mean, spread = nats[:, i::layers].mean(0), nats[:, i::layers].std(0)
        colour = COLOURS[i % len(COLOURS)]
        axis.fill_between(strokes, (mean - spread).clip(0), mean + spread, color=colour, alpha=0.18, linewidth=0)
        axis.plot(strokes, mean, color=colour, marker=marker, markersize=4, linewidth=1.8, label=names[i])
    axis.set(xlabel="stroke", ylabel="KL, nats", xlim=(0.5, len(strokes) + 0.5))
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    total = nats.sum(1)
    axis.set_title(f"{total.mean():.1f} nats per image, ± {total.std():.1f} over {len(nats)} images", fontsize=10)
    axis.grid(alpha=0.3)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    if layers > 1:
        axis.legend(frameon=False, fontsize=9)
    return figure


def window_plot(images: ArrayLike, windows: Window, titles: Sequence[str]) -> Figure:
    """What windows read and write, a row per window: the image with the filters' centres, the filters, the patch, and what is written back.

    images: (N, C, H, W) in [0, 1], one per window.
    windows: N of them.
    titles: the text left of each row.

    The patch is multiplied by γ; white is 1, or its largest value if that is more. What is written back is divided by γ; white is its
    99.5 % quantile, because filters at the edge are narrow.
    """
    from matplotlib.ticker import MaxNLocator

    x = torch.from_numpy(as_pictures(images, "images")).to(windows.rows)
    pixels = pixels_of(images)
    if len(titles) != len(x) or len(windows.rows) != len(x):
        raise ValueError(f"images: expected as many images as windows and titles, got {len(x)}, {len(windows.rows)} and {len(titles)}")
    seen = windows.read(x.transpose(1, 2))
    back = windows.write(seen).permute(0, 1, 3, 2).numpy()
    patches = (windows.gamma.view(-1, 1, 1, 1) * seen).permute(0, 1, 3, 2).numpy()
    rows, columns, box = (tensor.numpy() for tensor in (windows.rows, windows.columns, windows.box))
    height, width = pixels.shape[1:3]
    inches = 1.75 * len(x) + 0.35
    figure = _figure(9.6, inches, None)                                   # finding a layout for so many axes takes seconds
    figure.subplots_adjust(0.008, 0.25 / inches, 0.992, 1 - 0.3 / inches, wspace=0.18, hspace=0.18)
    axes = figure.subplots(len(x), 6, squeeze=False, width_ratios=[0.55, 1, 1, 1, 1, 1])
    heads = ("", "image, filters' centres", "F$_Y^T$", "F$_X$", "patch: γ F$_Y$ x F$_X^T$", "back: F$_Y^T$ patch F$_X$ / γ")
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title(head, fontsize=10.5)
    for i, (title, picture, down, across, patch, written) in enumerate(axes):
        title.set_axis_off()
        title.text(0, 0.5, titles[i], fontsize=11, va="center", ha="left", transform=title.transAxes)
        _show(picture, pixels[i])
        at = [np.linspace(c - (s - 1) / 2, c + (s - 1) / 2, rows.shape[1]) for c, s in zip(box[i, :2], box[i, 2:], strict=True)]
        grid = np.stack(np.meshgrid(*at, indexing="ij")).reshape(2, -1)
        picture.plot(grid[1], grid[0], ".", color=np.array(RED) / 255, markersize=3, clip_on=True)
        picture.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        _show(down, rows[i].T, cmap="magma", aspect="auto", vmin=0)
        _show(across, columns[i], cmap="magma", aspect="auto", vmin=0)
        for axis, values, brightest in ((patch, patches[i], max(1.0, patches[i].max())), (written, back[i], np.quantile(back[i], 0.995))):
            _show(axis, (values / max(brightest, 1e-12)).clip(0, 1), cmap="gray", vmin=0, vmax=1)
        for axis in (picture, down, across, patch, written):
            axis.set_box_aspect(height / width if axis in (picture, written) else 1)
            axis.tick_params(labelsize=9, length=2)
            for ticks in (axis.xaxis, axis.yaxis):
                ticks.set_major_locator(MaxNLocator(4, integer=True))
    return figure
