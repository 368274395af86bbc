"""DRAW: where it looks, what it writes, what is left, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..layers.attention import Window
from ..models.draw import TABLE
from ..pictures.figures import drawing_frames, drawing_rate, hierarchy_levels, interpolation_paths, layers_of, measure
from ..pictures.figures import strokes as whole_strokes
from ..pictures.formats import Picture
from ..pictures.page import Page
from ..pictures.sheets import signed_strokes
from ..pictures.windows import Filters, window_of
from ..protocol import Frame
from ..strokes import CanvasModel
from .figure import DRAW, Figure, Film, Still, Trained, images_for
from .slide import LARGE, NORMAL, SMALL, Slide, evenly, pixels, round_numbers

SECTION = "DRAW: stroke by stroke"
SHOWN = 3  # number of the image that is shown where there is one
MEASURED = 60  # images of means over images


def canvas(trained: Trained, attention: bool = False) -> CanvasModel:
    """The model as an unconditional canvas model with a posterior, with ``attention`` where it is asked for. Raises ``ValueError`` for "
    "others."""
    model = trained.model
    if not isinstance(model, CanvasModel) or not model.has_posterior or model.condition_spec is not None:
        raise ValueError(f"{trained.address}: expected a canvas model with a posterior and without a condition, got {trained.label}")
    if attention and not getattr(model.config, "attention", False):
        raise ValueError(f"{trained.address}: expected a draw with attention, got {trained.label} without windows")
    return model


def redrawn(trained: Trained, attention: bool = False) -> tuple[Tensor, list[Frame], str]:
    """Images that are redrawn: pictures (N, C, H, W) in [0, 1], the frames, one per stroke, the first empty, and where the images are "
    "from."""
    model = canvas(trained, attention)
    x, where = images_for(trained, 8)
    return x / (model.spec.levels - 1), list(whole_strokes(model.reconstruct(x, seed=0), layers_of(model))), where


def frame_window(slide: Slide, corner: tuple[float, float, float], box: Sequence[float], colour: str) -> None:
    """The frame of a window on an image.

    slide: that is drawn on.
    corner: of the image, with the side of its pixels, as ``Slide.sheet`` gives it.
    box: centre row, centre column, height, width, in pixels.
    colour: by name.
    """
    x, y, side = corner
    row, column, height, width = (float(value) for value in box)
    slide.frame(x + (column + 0.5 - width / 2) * side, y + (row + 0.5 - height / 2) * side, width * side, height * side, colour)


def shades(values: Tensor) -> list[np.ndarray]:
    """Grey pictures of values (N, C, H, W), cut to [0, 1]."""
    return pixels(values.clamp(0, 1).float())


def signed(values: Tensor, limit: float | None = 1.0) -> list[np.ndarray]:
    """Pictures of values of any sign (N, C, H, W): blue above 0, orange below, white at 0; full colour at ``limit``."""
    return pixels(signed_strokes(values, limit).astype(np.float32))


# ── the network ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def unrolled(trained: Trained) -> Still:
    """DRAW over three steps."""
    model = canvas(trained)
    config = model.config
    if not hasattr(config, "latent") or not hasattr(config, "hidden"):
        raise ValueError(f"{trained.address}: expected a draw, got {trained.label}")
    attention = getattr(config, "attention", False)
    read = f"read {config.read} x {config.read}" if attention else "read all"
    write = f"write {config.write} x {config.write}" if attention else "write all"

    def draw(slide: Slide) -> None:
        levels = {"canvas": 1.0, "write": 2.35, "dec": 3.7, "z": 5.05, "enc": 6.4, "read": 7.75}
        xs = (3.3, 8.0, 12.7)
        for n, x in enumerate(xs):
            t = ("t-1", "t", "t+1")[n]
            for name, words, colour in (("canvas", f"canvas $c_{{{t}}}$", "orange"), ("write", write, "green"),
                                        ("dec", f"decoder LSTM {config.hidden}", "blue"), ("z", f"$z_{{{t}}} \\sim Q$,  {config.latent} "
                                            "values", "purple"),
                                        ("enc", f"encoder LSTM {config.hidden}", "blue"), ("read", read, "red")):  # fmt: skip
                slide.box(x, levels[name], 2.9, 0.8, words, colour, f"{colour} 20", SMALL + 1)
            for low, high in (("read", "enc"), ("enc", "z"), ("z", "dec"), ("dec", "write"), ("write", "canvas")):
                slide.arrow((x, levels[low] - 0.4), (x, levels[high] + 0.42))
            right = xs[n + 1] - 1.45 if n < 2 else 15.6
            for name in ("canvas", "dec", "enc"):
                slide.arrow((x + 1.45, levels[name]), (right, levels[name]))
            if n < 2:
                slide.arrow((x + 1.45, levels["dec"] + 0.25), (xs[n + 1] - 1.45, levels["enc"] - 0.25), "soft")
                slide.arrow((x + 1.45, levels["canvas"] + 0.25), (xs[n + 1] - 1.45, levels["read"] - 0.25), "orange", thick=1.6)
            slide.arrow((x, 8.65), (x, levels["read"] + 0.42), "red")
            slide.text(x + 0.2, 8.55, "$x$", NORMAL, align="left")
        for name in ("canvas", "dec", "enc"):
            slide.arrow((0.4, levels[name]), (xs[0] - 1.45, levels[name]))
        slide.text(5.65, 8.55, r"error $\hat{x} = x - \sigma(c_{t-1})$", SMALL + 1, "orange")

    kind = "with attention" if attention else "without attention"
    return Still(draw, f"DRAW {kind}, unrolled: in each of {model.steps} steps the encoder reads the image and what the canvas still "
                       "lacks, z is drawn, and the decoder adds a stroke to the canvas. The decoder's state goes back to the "
                       "encoder.")  # fmt: skip


def generation(trained: Trained) -> Still:
    """Generation without the encoder: z from the prior."""
    model = canvas(trained)
    frames = list(model.generate(5, seed=4, every=layers_of(model)))
    shown = list(evenly(frames, 9))
    numbers = list(evenly(range(len(frames)), 9))

    def draw(slide: Slide) -> None:
        for n, x in enumerate((2.6, 7.2, 11.8)):
            t = ("1", "2", "T")[n]
            slide.box(x, 2.35, 1.9, 0.7, f"$z_{t} \\sim$ prior", "purple", "purple 20", SMALL + 1)
            slide.box(x + 2.15, 2.35, 1.6, 0.7, "decoder", "blue", "blue 20", SMALL + 1)
            slide.box(x + 2.15, 0.9, 1.6, 0.7, f"canvas $c_{t}$", "orange", "orange 20", SMALL + 1)
            slide.arrow((x + 0.95, 2.35), (x + 1.35, 2.35))
            slide.arrow((x + 2.15, 2.0), (x + 2.15, 1.27))
            if n < 2:
                slide.arrow((x + 2.95, 0.9), (x + 5.93, 0.9))
                slide.line([(x + 2.6, 2.0), (x + 2.6, 1.62), (x + 6.3, 1.62), (x + 6.3, 1.98)], "blue", arrow=True)
        slide.text(0.85, 2.35, "no encoder,\nno image", SMALL, "soft")
        rows = [[shades(frame.images[i : i + 1])[0] for frame in shown] for i in range(5)]
        corner = slide.sheet(0.3, 3.0, 15.4, 5.85, rows, (), [f"{t}" if t else "start" for t in numbers], SMALL)
        for c, frame in enumerate(shown):
            if frame.window is not None:
                for r in range(5):
                    frame_window(slide, corner(r, c), frame.window[r].tolist(), "green")

    return Still(draw, "Generation needs no encoder: z comes from the prior. Five draws from the empty canvas on, with the windows that "
                       "the decoder writes through in green; the columns are strokes.")  # fmt: skip


# ── attention ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def glimpse(trained: Trained) -> Still:
    """One stroke: where the model looks, what it sees, what it writes."""
    target, frames, where = redrawn(trained, attention=True)
    t = len(frames) // 3
    frame, before = frames[t], frames[t - 1]
    info, i = frame.info, SHOWN
    error = target - before.images

    def draw(slide: Slide) -> None:
        row = [shades(target[i : i + 1])[0], signed(error[i : i + 1])[0], shades(before.images[i : i + 1])[0]]
        corner = slide.sheet(0.4, 0.2, 9.6, 4.2, [row], (), ["image $x$", r"error $\hat{x}$", f"canvas before, stroke {t}"], NORMAL, 0.35)
        for c in (0, 1):
            frame_window(slide, corner(0, c), info["read_window"][i].tolist(), "red")
        size = info["glimpse"].shape[-1]
        slide.text(13.2, 0.45, f"what it gets: two patches of {size} x {size}", NORMAL)
        for c, (patch, name) in enumerate(((shades(info["glimpse"][i : i + 1])[0], "of $x$"),
                                           (signed(info["error_glimpse"][i : i + 1])[0], r"of $\hat{x}$"))):  # fmt: skip
            slide.image(10.75 + 2.6 * c, 0.95, 2.35, patch)
            slide.text(11.9 + 2.6 * c, 3.6, name, NORMAL)
        slide.arrow((13.2, 4.0), (13.2, 5.1), thick=3)
        slide.text(13.2, 5.5, "encoder, $z$, decoder", NORMAL, "soft")
        limit = float(info["write_patch"][i].abs().max())
        after = [signed(info["write_patch"][i : i + 1], limit)[0], shades(frame.images[i : i + 1])[0]]
        corner = slide.sheet(4.0, 4.7, 6.4, 4.1, [after], (), ["stroke", "canvas after it"], NORMAL, 0.35)
        for c in (0, 1):
            if frame.window is not None:
                frame_window(slide, corner(0, c), frame.window[i].tolist(), "green")
        slide.arrow((12.2, 6.8), (10.6, 6.8), thick=3)
        slide.text(12.4, 6.8, "write window (green)", NORMAL, "green", "left")
        slide.text(0.5, 6.3, "read window (red)", NORMAL, "red", "left")
        slide.text(0.5, 6.9, "blue: lacks ink", NORMAL, "blue", "left")
        slide.text(0.5, 7.5, "orange: has too much", NORMAL, "orange", "left")

    return Still(draw, f"Stroke {t} of {len(frames) - 1}: the window that the model reads through, the glimpse that it gets of the image "
                       f"and of the error, and the stroke that it writes. {where}")  # fmt: skip


def filters(trained: Trained) -> Still:
    """The filter banks F_X and F_Y of a window that the model chose, along the sides of the image."""
    target, frames, where = redrawn(trained, attention=True)
    t, i = len(frames) // 3, SHOWN
    info = frames[t].info
    rows, columns = (info[f"read_{name}"][i].double() for name in ("rows", "columns"))
    height, width = target.shape[2:]
    box = info["read_window"][i].tolist()

    def draw(slide: Slide) -> None:
        side = slide.image(4.4, 3.1, 5.5, shades(target[i : i + 1])[0])
        corner = 4.4, 3.1, side
        frame_window(slide, corner, box, "red")
        above = slide.chart(4.4, 0.7, width * side, 1.95, (-0.5, width - 0.5), (0, float(columns.max()) * 1.05))
        beside = float(rows.max()) * 1.05
        for n in range(len(columns)):
            above.line(range(width), columns[n], "blue", 2.5)
            curve = [(3.95 - 2.6 * float(v) / beside, 3.1 + (k + 0.5) * side) for k, v in enumerate(rows[n])]
            slide.line(curve, "orange", 2.5)
        slide.line([(3.95, 3.1), (3.95, 3.1 + height * side)], "ink", 1.6)
        count = len(columns)
        centres = [
            [c + (k - (count - 1) / 2) * (s - 1) / max(count - 1, 1) for k in range(count)] for c, s in zip(box[:2], box[2:], strict=True)
        ]
        xs = [4.4 + (centre + 0.5) * side for centre in centres[1] for _ in centres[0]]
        ys = [3.1 + (centre + 0.5) * side for _ in centres[1] for centre in centres[0]]
        slide.axis.plot(xs, ys, "o", color=slide.colour("red"), markersize=6, zorder=5)
        slide.text(4.2, 1.3, "$F_X$", LARGE, "blue", "right")
        slide.text(2.2, 2.7, "$F_Y$", LARGE, "orange")
        patch = info["glimpse"][i : i + 1]
        slide.arrow((10.1, 5.5), (11.1, 5.5), thick=3)
        slide.image(11.4, 4.0, 3.0, shades(patch)[0])
        slide.text(12.9, 7.5, r"$F_Y\;x\;F_X^{\;\top}$", LARGE)
        stride = (box[2] - 1) / max(count - 1, 1)
        facts = f"$g_X$ = {box[1]:.1f}   $g_Y$ = {box[0]:.1f}\nδ = {stride:.2f} pixels, σ = {deviation_of(columns[count // 2]):.2f}\n"
        facts += f"γ = {float(info['read_gamma'][i]):.2f}"
        slide.text(11.4, 2.1, facts, NORMAL + 1, align="left")
        slide.text(12.9, 8.2, f"{count} x {count} values of {height} x {width}", NORMAL, "soft")

    return Still(draw, f"The filters of the window that the model reads through at stroke {t}: each curve is a row of F_X or F_Y, a "
                       "Gaussian over columns or rows that sums to 1; points are their centres. g: centre of the window; δ: stride, from "
                       f"one centre to the next; σ: deviation of a Gaussian; γ: factor of what is read. {where}")  # fmt: skip


def deviation_of(row: Tensor) -> float:
    """σ in pixels of a Gaussian filter (size,): the logarithm of its values is a parabola, whose curvature is −1/σ²."""
    peak = int(row.argmax().clamp(1, len(row) - 2))
    before, there, after = row.double().log()[peak - 1 : peak + 2]
    return float((2 * there - before - after).rsqrt())


def window_parameters(trained: Trained) -> Still:
    """What the centre g, the stride δ, the deviation σ and the intensity γ do to what is read."""
    model = canvas(trained)
    x, where = images_for(trained, 8)
    spec, image = model.spec, (x[SHOWN] / (model.spec.levels - 1)).double()
    count, middle = 12, (spec.height - 1) / 2
    stride = (max(spec.height, spec.width) - 1) / (count - 1) / 1.6
    usual = Filters(middle, middle, stride, stride / 2)
    groups = {
        "g": [usual._replace(row=middle - 5), usual, usual._replace(column=middle + 5)],
        "δ": [usual._replace(stride=stride * factor) for factor in (0.5, 1.0, 1.6)],
        "σ": [usual._replace(sigma=stride * factor) for factor in (0.25, 1.0, 3.0)],
        "γ": [usual._replace(gamma=value) for value in (0.4, 0.7, 1.0)],
    }
    words = {"g": "centre", "δ": "stride", "σ": "deviation", "γ": "intensity"}

    def label(name: str, chosen: Filters) -> str:
        value = {
            "g": f"({chosen.column:.0f}, {chosen.row:.0f})",
            "δ": f"{chosen.stride:.2f}",
            "σ": f"{chosen.sigma:.2f}",
            "γ": f"{chosen.gamma:g}",
        }
        return f"{name} = {value[name]}"

    def draw(slide: Slide) -> None:
        picture = shades(image[None])[0]
        for n, (name, options) in enumerate(groups.items()):
            left = 0.45 + 3.95 * n
            slide.text(left + 1.7, 0.45, f"{name}: {words[name]}", LARGE - 2, bold=True)
            windows = window_of(options, count, spec)
            patches = windows.gamma.view(-1, 1, 1, 1) * windows.read(image.expand(len(options), *image.shape).transpose(1, 2))
            for r, chosen in enumerate(options):
                top = 0.95 + 2.65 * r
                side = slide.image(left, top, 2.1, picture)
                frame_window(slide, (left, top, side), windows.box[r].tolist(), "red")
                slide.image(left + 2.15, top + 0.25, 1.4, shades(patches[r].transpose(0, 1)[None])[0])
                slide.text(left + 2.85, top + 1.95, label(name, chosen), SMALL)

    return Still(draw, f"What each parameter of a window does to what {count} x {count} filters read of the same image: at the left the "
                       f"window, at the right the patch γ F_Y x F_Xᵀ; g is (g_X, g_Y). {where}")  # fmt: skip


def read_and_write(trained: Trained) -> Still:
    """Read a patch and write it back with the same filters."""
    target, frames, where = redrawn(trained, attention=True)
    infos = [frame.info for frame in evenly(frames[1:], 5)]
    numbers = [1 + n for n in evenly(range(len(frames) - 1), 5)]
    i = SHOWN
    window = Window(*(torch.stack([info[f"read_{name}"][i] for info in infos]).double() for name in ("rows", "columns", "gamma", "window")))
    x = target[i : i + 1].double().expand(len(infos), *target.shape[1:])
    patch = window.read(x.transpose(1, 2))
    back = window.write(patch).transpose(1, 2)
    back = back / back.flatten(1).quantile(0.995, dim=1).view(-1, 1, 1, 1).clamp_min(1e-9)

    def draw(slide: Slide) -> None:
        images, patches, written = (shades(values) for values in (x, patch.transpose(1, 2), back))
        heads = [f"stroke {t}" for t in numbers]
        labels = ["image and window", "read:\n$F_Y\\;x\\;F_X^{\\;\\top}$", "written back:\n$F_Y^{\\;\\top}\\;p\\;F_X$"]
        corner = slide.sheet(0.3, 0.3, 15.4, 8.4, [images, patches, written], labels, heads, NORMAL, 0.2)
        for c in range(len(infos)):
            frame_window(slide, corner(0, c), window.box[c].tolist(), "red")

    return Still(draw, "What the model reads through the windows that it chose, and what the same filters, transposed, write back: coarse "
                       f"where the window is wide, fine where it is narrow. {where}")  # fmt: skip


# ── strokes and nats ─────────────────────────────────────────────────────────────────────────────────────────────────────


def steps(trained: Trained) -> Still:
    """An image, redrawn stroke by stroke: what is read, the error, the stroke, the canvas."""
    target, frames, where = redrawn(trained)
    numbers, i = list(evenly(range(1, len(frames)), 8)), SHOWN
    limit = float(np.quantile(np.abs([frame.info["write_patch"][i].mean(0).numpy() for frame in frames[1:]]), 0.98))
    whole = shades(target[i : i + 1])[0]
    looks = frames[-1].info.get("read_window") is not None

    def draw(slide: Slide) -> None:
        errors = [signed((target - frames[t - 1].images)[i : i + 1])[0] for t in numbers]
        written = [signed(frames[t].info["write_patch"][i : i + 1], limit)[0] for t in numbers]
        after = [shades(frames[t].images[i : i + 1])[0] for t in numbers]
        rows, names = [[whole] * len(numbers), errors, written, after], ["image", "error", "stroke", "canvas"]
        if looks:
            rows.insert(1, [shades(frames[t].info["glimpse"][i : i + 1])[0] for t in numbers])
            names.insert(1, "glimpse")
        corner = slide.sheet(0.2, 0.2, 15.6, 8.6, rows, names, [str(t) for t in numbers], NORMAL)
        for c, t in enumerate(numbers):
            if looks:
                frame_window(slide, corner(0, c), frames[t].info["read_window"][i].tolist(), "red")
            box = frames[t].window
            if box is not None:
                frame_window(slide, corner(len(rows) - 1, c), box[i].tolist(), "green")

    return Still(draw, "An image redrawn stroke by stroke: where the model looks (red), what it sees there, what the canvas lacks (blue) "
                       "or has too much (orange), the stroke, and the canvas with the window written through (green). "
                       f"{where}")  # fmt: skip


def remains(trained: Trained) -> Still:
    """What remains to be drawn after each stroke: the error, and the nats."""
    model = canvas(trained)
    if model.spec.levels != 2:
        raise ValueError(f"{trained.address}: expected a model of two levels, whose canvas is a probability, got {model.spec}")
    target, frames, where = redrawn(trained)
    x, _ = images_for(trained, MEASURED)
    means, kl = [], []
    for frame in whole_strokes(model.reconstruct(x, seed=0), layers_of(model)):
        p = frame.images.double().clamp(1e-7, 1 - 1e-7)
        means.append(float(-torch.where(x.bool(), p, 1 - p).log().flatten(1).sum(1).mean()))
        kl.append(float(frame.info["kl"].mean()) if "kl" in frame.info else 0.0)
    spent = np.cumsum(kl)
    numbers = list(evenly(range(len(frames)), 9))

    def draw(slide: Slide) -> None:
        errors = [[signed((target - frames[t].images)[i : i + 1])[0] for t in numbers] for i in (SHOWN, SHOWN + 2)]
        slide.sheet(0.4, 0.2, 15.2, 3.7, errors, ["what\nremains", ""], [str(t) for t in numbers], NORMAL)
        chart = slide.chart(1.6, 4.6, 10.2, 3.3, (0, len(means) - 1), (0, max(means) * 1.05))
        chart.line(range(len(means)), means, "orange", 4, marks=True)
        chart.line(range(len(means)), spent, "purple", 4, marks=True)
        chart.line(range(len(means)), np.array(means) + spent, "ink", 3)
        chart.ticks(range(0, len(means), max(1, len(means) // 8)), round_numbers(0, max(means)))
        chart.label("strokes", "nats", NORMAL)
        for y, words, colour in (
            (5.2, r"$-\log p(x\,|\,c_t)$ remains", "orange"),
            (6.1, "KL spent so far", "purple"),
            (7.0, "their sum", "ink"),
        ):
            slide.line([(12.2, y), (12.8, y)], colour, 4)
            slide.text(12.95, y, words, NORMAL, colour, "left")

    return Still(draw, "What remains after each stroke: the error of two images (blue lacks ink, orange has too much), and means over "
                       f"{MEASURED} images; the sum is the bound, had the drawing stopped there. {where}")  # fmt: skip


def kl(trained: Trained) -> Still:
    """KL of each stroke: when an image is decided."""
    model = canvas(trained)
    x, where = images_for(trained, MEASURED)
    layers = layers_of(model)
    nats = measure(model, x).kl.double().unflatten(1, (-1, layers)).sum(2)
    mean, spread = nats.mean(0), nats.std(0)

    def draw(slide: Slide) -> None:
        count = len(mean)
        chart = slide.chart(1.8, 1.0, 13.2, 6.4, (-0.6, count - 0.4), (0, float((mean + spread).max()) * 1.08))
        chart.bars(mean, "purple 75", 0.2)
        for n in range(count):
            low, high = chart.at(n, float((mean - spread)[n].clamp_min(0))), chart.at(n, float((mean + spread)[n]))
            slide.line([low, high], "ink", 2)
            if count <= 20:
                slide.text(chart.at(n, 0)[0], 7.5, str(n + 1), NORMAL, level="top")
        chart.ticks((), round_numbers(0, float((mean + spread).max())), size=NORMAL)
        chart.label("stroke", "KL, nats", NORMAL)
        total = nats.sum(1)
        slide.text(15.0, 1.2, f"{total.mean():.1f} nats per image, ± {total.std():.1f} from image to image", NORMAL, "soft", "right")

    return Still(draw, f"KL of each stroke, the mean over {len(x)} images, and one standard deviation from image to image. {where}")


def loss(trained: Trained) -> Still:
    """The two parts of the loss, with their values for some images."""
    model = canvas(trained)
    model.require_likelihood()
    x, where = images_for(trained, 6)
    reconstruction, parts = model.bound(x, seed=0, terms=True)
    remaining, spent = -reconstruction.double(), parts.double()

    def draw(slide: Slide) -> None:
        slide.text(8, 0.8, r"$-\log p(x)\;\leq\;L\;=\;L_x\;+\;L_z$", LARGE + 6)
        slide.text(4.2, 1.9, r"$L_x = -\log p(x\,|\,c_T)$", LARGE, "orange")
        slide.text(11.6, 1.9, r"$L_z = $∑$_t\;KL(\,Q(z_t\,|\,h_{enc})\;\|\;P(z_t)\,)$", LARGE, "purple")
        most = float((remaining + spent.sum(1)).max())
        for i, picture in enumerate(shades(x.float() / (model.spec.levels - 1))):
            y = 2.65 + 0.98 * i
            slide.image(0.6, y, 0.94, picture)
            left, scale = 1.9, 9.6 / most
            for part, colour in ((float(remaining[i]), "orange 75"), *((float(v), "purple 75") for v in spent[i])):
                _bar(slide, left, y + 0.2, max(part, 0) * scale, 0.55, colour)
                left += max(part, 0) * scale
            total = float(remaining[i] + spent[i].sum())
            slide.text(
                left + 0.15,
                y + 0.47,
                f"{float(remaining[i]):.1f} + {float(spent[i].sum()):.1f} = {total:.1f} nats",
                NORMAL - 1,
                align="left",
            )
        slide.text(8, 8.75, f"each violet piece is one of {spent.shape[1]} strokes", NORMAL - 2, "soft")

    return Still(
        draw, f"The loss of images, in nats: what the last canvas leaves to be said about the pixels, and the KL of each stroke. {where}"
    )


def _bar(slide: Slide, x: float, y: float, width: float, height: float, colour: str) -> None:
    from matplotlib.patches import Rectangle

    face, edge = slide.colour(colour), slide.colour("paper")
    slide.axis.add_patch(Rectangle((x, y), width, height, facecolor=face, edgecolor=edge, linewidth=0.8, zorder=3))


def hierarchy(trained: Trained) -> Still:
    """What the first latents determine, the others drawn from the prior."""
    model = canvas(trained)
    x, where = images_for(trained, 4)
    levels = hierarchy_levels(model, x, columns=9)

    def draw(slide: Slide) -> None:
        rows = [
            [picture, *(shades(images[i : i + 1])[0] for images in levels.drawn[rest])]
            for i, picture in enumerate(shades(levels.images)) for rest in ("sample", "mean")
        ]  # fmt: skip
        labels = ["rest drawn", "rest at its mean"] * len(levels.images)
        slide.sheet(0.2, 0.2, 15.6, 8.6, rows, labels, ["image", *map(str, levels.shown)], NORMAL)

    return Still(draw, "The latents of the first strokes are those of the image, the others come from the prior: how much of the image a "
                       f"number of strokes determines. {where}")  # fmt: skip


def redrawing(trained: Trained) -> Film:
    """Images drawn from the prior, and images redrawn, stroke by stroke."""
    target, walk, where = redrawn(trained)
    model = canvas(trained)

    def frames(page: Page) -> Iterator[Picture]:
        return drawing_frames(model, target, walk, None, 0, page)

    text = "Images that the model draws from its prior, images that it redraws, and these images; it reads in red windows and writes in "
    text += "green ones. "
    return Film(frames, text + where, drawing_rate(len(walk)))


def interpolation(trained: Trained) -> Still:
    """Pictures between two images through the latents of all strokes."""
    model = canvas(trained)
    x, where = images_for(trained, 8)
    paths = interpolation_paths(model, x)

    def draw(slide: Slide) -> None:
        rows = [[shades(ends[:1])[0], *shades(path), shades(ends[1:])[0]] for ends, path in zip(paths.images, paths.between, strict=True)]
        rows += [[None, *shades(path), None] for path in paths.drawn[:2]]
        heads = ["image", *(f"{share:.2g}" for share in np.linspace(0, 1, paths.between.shape[1])), "image"]
        slide.sheet(0.2, 0.2, 15.6, 8.6, rows, ["between\nimages"] * len(paths.between) + ["between\ndraws"] * 2, heads, NORMAL)

    return Still(draw, f"Pictures on the way from one image to another, and between draws, through the latents of all strokes. {where}")


def sizes(trained: Trained) -> Still:
    """The paper's table of sizes, and the model's own."""
    model = canvas(trained)
    config = model.config
    rows: list[tuple[str, dict[str, int]]] = [(f"{name.upper()} (paper)", dict(row)) for name, row in TABLE.items()]
    own = {key: getattr(config, key, 0) for key in ("steps", "latent", "hidden", "read", "write")}
    rows.append(("this model", own))

    def draw(slide: Slide) -> None:
        head = ("images", "strokes", "LSTM", "$z$", "read", "write")
        table = [head] + [
            (name, str(row["steps"]), str(row["hidden"]), str(row["latent"]), *(f"{row[side]} x {row[side]}" if row[side] else "–"
                                                                                   for side in ("read", "write")))
            for name, row in rows
        ]  # fmt: skip
        slide.table(1.2, 1.4, (4.1, 2.0, 1.9, 1.6, 2.0, 2.0), table, 1.05, LARGE, strong=(len(rows),))
        bits = own["steps"] * own["latent"]
        slide.text(8, 7.6, f"its code: {own['steps']} x {own['latent']} = {bits} numbers for {model.spec.size} pixels", LARGE - 2, "soft")

    return Still(draw, "The sizes of DRAW in the paper's table (Gregor et al. 2015), and those of the model shown.")


def attention(with_windows: Trained, without: Trained) -> Still:
    """Draws of a model with windows and of one without, stroke by stroke."""
    both = [(trained, drawn(trained, looks, 3)) for trained, looks in ((with_windows, True), (without, False))]

    def draw(slide: Slide) -> None:
        names = [f"{name}\n{trained.parameters:,} parameters\n{trained.score}".rstrip()
                 for (trained, _), name in zip(both, ("with attention", "without"), strict=True)]  # fmt: skip
        put_strokes(slide, [frames for _, frames in both], 3, names)

    return Still(draw, "Draws from the prior with and without attention, not selected. With windows (green) a stroke is local, as if a pen "
                       "were moved; without, the whole picture comes into focus.")  # fmt: skip


def two_digits(trained: Trained) -> Still:
    """Draws of a model of larger images, stroke by stroke, with its windows."""
    frames = drawn(trained, True, 5)

    def draw(slide: Slide) -> None:
        put_strokes(slide, [frames], 5)

    return Still(draw, "Draws from the prior, stroke by stroke, not selected: the window that is written through (green) goes from one "
                       "digit to the other.")  # fmt: skip


def drawn(trained: Trained, looks: bool, count: int) -> list[Frame]:
    """Nine moments of ``count`` draws from the prior of a canvas model, with attention where it ``looks``."""
    model = canvas(trained, looks)
    return list(evenly(list(model.generate(count, seed=1, every=layers_of(model))), 9))


def put_strokes(slide: Slide, walks: Sequence[list[Frame]], count: int, names: Sequence[str] = ()) -> None:
    """Draws on a slide, a row each, with the windows that are written through.

    slide: that is drawn on.
    walks: moments of draws, of one model or of several.
    count: draws in each, odd.
    names: of the models, beside a line along their rows; none by default.
    """
    rows = [[shades(frame.images[i : i + 1])[0] for frame in frames] for frames in walks for i in range(count)]
    labels = [name if i == count // 2 else "" for name in names for i in range(count)]
    corner = slide.sheet(0.2, 0.3, 15.6, 8.4, rows, labels, (), NORMAL - 2)
    for n in range(len(names)):
        (x, top, side), (_, last, _) = corner(n * count, 0), corner(n * count + count - 1, 0)
        slide.line([(x - 0.08, top), (x - 0.08, last + len(rows[0][0]) * side)], "soft", 3)
    for n, frames in enumerate(walks):
        for c, frame in enumerate(frames):
            for i, box in enumerate(frame.window if frame.window is not None else ()):
                frame_window(slide, corner(n * count + i, c), box.tolist(), "green")


FIGURES = (
    Figure("draw-unrolled", "DRAW, unrolled", unrolled, (DRAW,), notes="An encoder that looks, a decoder that draws, both with a memory. "
        "The picture is the sum of the strokes."),
    Figure("glimpse", "One stroke", glimpse, (DRAW,), notes="It sees 25 numbers of the image and 25 of the error, no more."),
    Figure("filters", "The filters of a window", filters, (DRAW,), notes="A grid of Gaussians: differentiable in the window's parameters, "
        "so where to look is learned by gradients."),
    Figure("window-parameters", "Choosing g, δ, σ, γ", window_parameters, (DRAW,), notes="Centre, stride, deviation and intensity: five "
        "numbers, from one linear map of the decoder's state."),
    Figure("read-and-write", "Read, and write back", read_and_write, (DRAW,), notes="Writing uses the transposed filters."),
    Figure("steps", "Canvas and feedback", steps, (DRAW,), notes="The error is fed back: the encoder sees what is still wrong."),
    Figure("remains", "What remains", remains, (DRAW,), notes="The bound after each stroke, had the drawing stopped there."),
    Figure("loss", "The loss", loss, (DRAW,), notes="What a code for the latents costs, and what the pixels cost given the canvas."),
    Figure("kl", "KL by stroke", kl, (DRAW,), notes="The first stroke says most, each of the others about the same: none is idle."),
    Figure("hierarchy", "What the first strokes determine", hierarchy, (DRAW,), notes="Keep a few latents, dream the rest: the idea of "
        "conceptual compression."),
    Figure("generation", "Generation without the encoder", generation, (DRAW,), notes="The decoder alone, fed by noise."),
    Figure("redrawing", "Imagined and redrawn", redrawing, (DRAW,), notes="The first row has never seen an image."),
    Figure("interpolation", "Between two images", interpolation, (DRAW,), notes="Every picture on the way is one that the decoder can "
        "draw."),
    Figure("sizes", "The table of sizes", sizes, (DRAW,), notes="Small windows, many strokes."),
    Figure("attention", "With and without attention", attention, (DRAW, f"{DRAW}-no-attention"), notes="As many parameters. With windows "
        "it draws lines; without, the picture comes into focus."),
    Figure("two-digits", "Two digits", two_digits, ("rastrum/draw-two-digit-mnist",), notes="Nobody said that there are two things: it "
        "draws one, and then goes to the other."),
)  # fmt: skip
