"""The pictures that explain a trained model, and its rate and distortion; ``rastrum figures`` writes them.

    canvas models   steps.png         how one image is redrawn: what is read, the error, the stroke, the canvas
                    drawing.gif       images drawn from the prior, and images redrawn, with their windows
                    kl.png            KL of each latent in nats: when an image is decided
                    hierarchy.png     what the first t latents determine, the others drawn from the prior or at its mean
                    samples.png       a sheet of samples
                    interpolation.png pictures between two images, and between two draws, through the latents of all strokes
                    filters.png       the windows that attention chose: their filters, the patch read and written back
                    filter-banks.png  the same for windows chosen here, to show what g, δ, σ and γ do
    without a posterior   steps.png (what each stroke adds, and the canvas after it), drawing.gif, samples.png, interpolation.png
    raster models   samples.png, completions.png (of upper halves), surprise.png (bits per pixel), context.png (what one decision sees)

All but the two pictures of filters need only a model's public methods, so a user's model has them too. Samples of a canvas model show
p(x | canvas), without the noise of the pixels.

Source of the hierarchy: Gregor, Besse, Rezende, Danihelka, Wierstra, "Towards Conceptual Compression", 2016, section 4.

Shapes: N images, C channels, H, W height and width, T strokes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..checking import context_of
from ..generation import complete, sample
from ..model import Model
from ..protocol import ArrayLike, Frame, ImageSpec, bits_per_dim
from ..raster import RasterModel
from ..strokes import CanvasModel
from .animations import encode_animation, frame_sheet, frame_tiles, reconstruction_strip, stroke_limit
from .formats import Picture
from .page import AS_IT_IS, Draw, Page
from .plots import kl_plot, surprise_map
from .sheets import (
    PAPER,
    arrange,
    completion_sheet,
    context_picture,
    context_scale,
    decided_before,
    draw_window,
    image_scale,
    sheet,
    signed_strokes,
    tiles,
    unit_of,
)
from .windows import chosen_windows, filter_picture

BATCH = 64                     # images measured at once
SHEET, RASTER_SHEET = 64, 16   # images of samples.png
SHOWN = 8                      # images of drawing.gif
COMPARED, OVER_TIME = 24, 2    # images of each model in models.png, and in over-time.png
COLUMNS = 12                   # at most as many strokes in steps.png, and lengths in hierarchy.png
PATHS, ON_PATH = 4, 9          # interpolation.png: pairs of images, and as many of draws; pictures of each
LARGE = 84                     # an image of a strip is enlarged to at least as many points
CANVAS_FIGURES = (
    "steps.png", "drawing.gif", "kl.png", "hierarchy.png", "samples.png", "interpolation.png", "filters.png", "filter-banks.png",
)  # fmt: skip
GENERATOR_FIGURES = ("steps.png", "drawing.gif", "samples.png", "interpolation.png")
RASTER_FIGURES = ("samples.png", "completions.png", "surprise.png", "context.png")


# ── measures ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Measures:
    """Rate and distortion of a canvas model on N images.

    kl: (N, steps) nats.
    squared_errors: mean over all values, rounded to the nearest levels, on a scale of 0 … 255, with none, half and all of the latents
        given and the others at the prior's mean.
    bound: (N,) nats, or None for a model without a likelihood.
    size: values per image.
    """

    kl: Tensor
    squared_errors: tuple[float, float, float]
    bound: Tensor | None
    size: int

    @property
    def rate(self) -> float:
        """Mean KL per image in bits: the least that its latents could cost in a file."""
        return float(self.kl.sum(1).mean()) / math.log(2)

    @property
    def psnrs(self) -> tuple[float, float, float]:
        """PSNR in dB of the mean squared errors, with none, half and all of the latents; infinite where nothing is lost."""
        none, half, full = (10 * math.log10(255**2 / error) if error else math.inf for error in self.squared_errors)
        return none, half, full

    @property
    def psnr(self) -> float:
        """PSNR in dB with all latents."""
        return self.psnrs[2]

    def as_dict(self) -> dict[str, float | None]:
        """The measures by name: KL per image in nats, bits and bits/dim; PSNR with none, half and all latents (None: nothing is lost); the
        bound in bits/dim (None: no likelihood); and how many decisions have a mean KL of more than 0.1 nats."""
        bound = None if self.bound is None else bits_per_dim(-float(self.bound.mean()), self.size)
        none, half, full = (psnr if math.isfinite(psnr) else None for psnr in self.psnrs)
        rate = {"kl_nats": self.rate * math.log(2), "rate_bits": self.rate, "rate_bits_per_dim": self.rate / self.size}
        quality = {"psnr_db": full, "psnr_db_of_none": none, "psnr_db_of_half": half, "bound_bits_per_dim": bound}
        return {**rate, **quality, "decisions": self.kl.shape[1], "decisions_above_a_tenth_nat": int((self.kl.mean(0) > 0.1).sum())}


@torch.no_grad()
def measure(model: CanvasModel, images: Tensor, condition: Tensor | None = None, seed: int = 0) -> Measures:
    """Rate and distortion on images, redrawn from one draw of their latents.

    model: a canvas model.
    images: integer levels (N, *shape).
    condition: one per image; None (default) for an unconditional model.
    seed: of the latents, 0 by default.
    """
    top = model.spec.levels - 1
    kl, errors, bounds = [], [], []
    for start in range(0, len(images), BATCH):
        x = images[start : start + BATCH]
        part = None if condition is None else condition[start : start + BATCH]
        nats = [frame.info["kl"] for frame in model.reconstruct(x, part, seed, start) if "kl" in frame.info]
        kl.append(torch.stack(nats, 1).cpu().double())
        latents = model.encode(x, part, seed, start)
        for given in (0, len(latents) // 2, len(latents)):
            picture = model.decode(latents[:given], "mean", part, count=len(x))
            error = (torch.round(picture.cpu().double() * top) - x.cpu().double()) * (255 / top)
            errors.append(error.square().flatten(1).mean(1))
        bounds += [model.bound(x, part, seed=seed, first=start).cpu()] if model.has_likelihood else []
    none, half, full = (float(torch.cat(errors[given::3]).mean()) for given in range(3))
    return Measures(torch.cat(kl), (none, half, full), torch.cat(bounds) if bounds else None, model.spec.size)


# ── canvas models ────────────────────────────────────────────────────────────────────────────────────────────────────────


def layers_of(model: CanvasModel) -> int:
    """Latents per stroke: a model's ``steps`` counts decisions, ``steps`` of its configuration counts strokes."""
    strokes = getattr(model.config, "steps", model.steps)
    return model.steps // strokes if model.steps % strokes == 0 else 1


def canvas_figures(
    model: CanvasModel,
    images: Tensor,
    condition: Tensor | None = None,
    imagined: Tensor | None = None,
    seed: int = 0,
    measures: Measures | None = None,
    page: Page = AS_IT_IS,
    ending: str = ".png",
    film: str = ".gif",
) -> Iterator[tuple[str, bytes]]:
    """Draws the figures of a canvas model, one after another.

    model: a canvas model.
    seed: of all that is drawn, 0 by default.
    images: levels (N, *shape).
    condition: of these images.
    imagined: conditions of the ``SHEET`` images that are drawn from the prior.
    measures: of these images, where they have been measured already.
    page, ending: how large pictures are, and of which kind their files; as they are and ".png" by default.
    film: ending of the animation, ".gif" by default.

    Yields name and content of each file. Raises ``ValueError`` for images that are neither grey nor RGB.
    """
    check_spec(model.spec)
    x, shown = images[:SHOWN], None if condition is None else condition[:SHOWN]
    frames = list(strokes(model.reconstruct(x, shown, seed), layers_of(model)))
    target = x / (model.spec.levels - 1)
    usual, spec = large(model.spec), model.spec

    def steps(scale: int | None, unit: float | None) -> Picture:
        return reconstruction_strip(target[0], frames, 0, scale or usual, COLUMNS, unit or max(1.0, (scale or usual) / usual))

    yield f"steps{ending}", page.encode(steps, usual, ending)
    yield f"drawing{film}", drawing(model, target, frames, None if imagined is None else imagined[: len(x)], seed, page, film)
    yield f"kl{ending}", page.encode_figure(kl_plot((measures or measure(model, images, condition, seed)).kl, layers_of(model)), ending)
    levels = hierarchy_levels(model, x[:4], COLUMNS + 1, None if shown is None else shown[:4], seed)
    yield f"hierarchy{ending}", page.encode(lambda scale, unit: hierarchy_sheet(spec, levels, scale, unit), usual, ending)
    drawn = model.decode([], "sample", imagined, seed, count=SHEET)
    yield f"samples{ending}", samples_file(drawn, spec, page, ending)
    paths = interpolation_paths(model, images, condition, imagined, seed)
    yield f"interpolation{ending}", page.encode(lambda scale, unit: interpolation_sheet(spec, paths, scale, unit), usual, ending)
    if "read_rows" in frames[-1].info:
        yield f"filters{ending}", page.encode_figure(chosen_windows(target[0], frames), ending)
        yield f"filter-banks{ending}", page.encode_figure(filter_picture(target[0]), ending)


def generator_figures(
    model: CanvasModel, imagined: Tensor | None = None, seed: int = 0, page: Page = AS_IT_IS, ending: str = ".png", film: str = ".gif"
) -> Iterator[tuple[str, bytes]]:
    """Draws the figures of a canvas model that has no posterior, such as GRAN: it has pictures of its own only.

    model: a canvas model.
    imagined, seed, page, ending, film: as for ``canvas_figures``.

    Yields name and content of each file. Raises ``ValueError`` for images that are neither grey nor RGB.
    """
    check_spec(model.spec)
    usual, spec = large(model.spec), model.spec
    frames = list(model.generate(SHOWN, None if imagined is None else imagined[:SHOWN], seed=seed))

    def steps(scale: int | None, unit: float | None) -> Picture:
        return strokes_sheet(frames, scale or usual, unit or max(1.0, (scale or usual) / usual))

    yield f"steps{ending}", page.encode(steps, usual, ending)
    walk = model.generate(SHEET, imagined, seed=seed)
    columns, small = page.columns(SHEET, spec.height, spec.width), image_scale(None, spec.height, spec.width)

    def grid(frame: Frame, scale: int | None, unit: float | None) -> Picture:
        return frame_sheet(frame, columns, scale or small, unit=unit)

    yield f"drawing{film}", encode_animation(page.frames(grid, walk, small), fps=1, hold=3, ending=film)
    yield f"samples{ending}", samples_file(model.decode([], "sample", imagined, seed, count=SHEET), spec, page, ending)
    between = model.interpolate(None, None, None if imagined is None else imagined[:SHOWN], ON_PATH, SHOWN, seed)

    def paths(scale: int | None, unit: float | None) -> Picture:
        cells, heads = [cell for path in between for cell in tiles(path, scale or usual)], [f"{t:.2g}" for t in np.linspace(0, 1, ON_PATH)]
        return arrange(cells, ON_PATH, None, heads, unit or max(1.0, (scale or usual) / usual))

    yield f"interpolation{ending}", page.encode(paths, usual, ending)


def strokes_sheet(frames: Sequence[Frame], scale: int, unit: float) -> Picture:
    """The canvases of images while they are drawn: a row per image, for each stroke what it adds, signed, and the canvas after it.

    frames: of a walk, the initial canvas first.
    scale: enlargement.
    unit: of gutters and labels.
    """
    shown = sorted({round(t) for t in np.linspace(1, len(frames) - 1, COLUMNS // 2)})
    limit = stroke_limit(frames[1:])
    columns, heads = [], []
    for t in shown:
        columns += [tiles(signed_strokes(frames[t].info["write_patch"], limit), scale), frame_tiles(frames[t], scale)]
        heads += [f"added {t}", f"canvas {t}"]
    return arrange([column[i] for i in range(len(columns[0])) for column in columns], len(columns), None, heads, unit)


def strokes(frames: Iterator[Frame], layers: int) -> Iterator[Frame]:
    """The frames after whole strokes, each with the change of the canvas since the frame before.

    frames: of a walk, the initial canvas first.
    layers: latents per stroke (``layers_of``).
    """
    before = None
    for i, frame in enumerate(frames):
        if i % layers == 0:
            change = {} if before is None else {"write_patch": frame.info["canvas"] - before}
            before = frame.info["canvas"]
            yield replace(frame, info={**frame.info, **change})


def samples_file(drawn: ArrayLike, spec: ImageSpec, page: Page, ending: str) -> bytes:
    """A sheet of samples as a file.

    drawn: images (N, C, H, W) in [0, 1].
    spec: of the images.
    page, ending: as for ``canvas_figures``.
    """
    columns, usual = page.columns(len(drawn), spec.height, spec.width), image_scale(None, spec.height, spec.width)
    return page.encode(lambda scale, unit: sheet(drawn, columns, scale, unit=unit), usual, ending)


def drawing(
    model: CanvasModel,
    target: Tensor,
    frames: Sequence[Frame],
    imagined: Tensor | None,
    seed: int,
    page: Page = AS_IT_IS,
    film: str = ".gif",
) -> bytes:
    """The animation of ``drawing_frames`` as the bytes of a file.

    model, target, frames, imagined, seed, page: as for ``drawing_frames``.
    film: ending of the file, ".gif" by default.
    """
    moments = drawing_frames(model, target, frames, imagined, seed, page)
    return encode_animation(moments, fps=drawing_rate(len(frames)), hold=3, ending=film)


def drawing_rate(frames: int) -> float:
    """Frames per second of an animation of so many strokes."""
    return min(max(frames / 5, 3), 12)


def drawing_frames(
    model: CanvasModel, target: Tensor, frames: Sequence[Frame], imagined: Tensor | None, seed: int, page: Page = AS_IT_IS
) -> Iterator[Picture]:
    """An animation of three rows: images drawn from the prior, images redrawn, and those images.

    model: a canvas model.
    target: the images, (N, C, H, W) in [0, 1].
    frames: their redrawing, one per stroke, the initial canvas first.
    imagined: conditions of the N images drawn from the prior; None for an unconditional model.
    seed: of the images drawn from the prior.
    page: how large it is; as it is by default.
    """
    usual = max(1, -(-LARGE // 2 // max(target.shape[2:])))
    walk = model.generate(len(target), imagined, seed=seed, every=layers_of(model))

    def draw(moment: tuple[Frame, Frame], scale: int | None, unit: float | None) -> Picture:
        dreamt, copied = moment
        scale = scale or usual
        originals, seen = tiles(target, scale), copied.info.get("read_window")
        looks = originals if seen is None else [draw_window(o, box, scale) for o, box in zip(originals, seen, strict=True)]
        cells = [*frame_tiles(dreamt, scale), *frame_tiles(copied, scale), *looks]
        return arrange(cells, len(target), ["imagined", "redrawn", "image"], unit=unit or max(1.0, scale / usual))

    return page.frames(draw, zip(walk, frames, strict=True), usual)


@dataclass(frozen=True)
class Levels:
    """images: (N, C, H, W) in [0, 1]. shown: values of t. drawn: by how the rest is made, the images for each t."""

    images: Tensor
    shown: list[int]
    drawn: dict[str, list[Tensor]]


def hierarchy_levels(model: CanvasModel, images: Tensor, columns: int, condition: Tensor | None = None, seed: int = 0) -> Levels:
    """What the first t = 0, …, T strokes determine of images: the later latents drawn from the prior ("sample"), or at its "mean".

    model: a canvas model.
    images: integer levels (N, *shape).
    columns: at most as many values of t, evenly spaced from 0 to T.
    condition: one per image; None (default) for an unconditional model.
    seed: of the latents, 0 by default.
    """
    layers = layers_of(model)
    latents = model.encode(images, condition, seed)
    shown = sorted({round(t) for t in np.linspace(0, model.steps // layers, columns)})

    def decoded(rest: Literal["sample", "mean"]) -> list[Tensor]:
        return [model.decode(latents[: t * layers], rest, condition, seed, count=len(images)) for t in shown]

    return Levels(images / (model.spec.levels - 1), shown, {"sample": decoded("sample"), "mean": decoded("mean")})


def hierarchy(model: CanvasModel, images: Tensor, condition: Tensor | None = None, seed: int = 0) -> Picture:
    """What the first t = 0, …, T strokes determine of images; parameters as for ``hierarchy_levels``.

    Two rows per image: the later latents drawn from the prior, or at its mean. The last t shows the whole reconstruction.
    """
    return hierarchy_sheet(model.spec, hierarchy_levels(model, images, COLUMNS + 1, condition, seed))


def hierarchy_sheet(spec: ImageSpec, levels: Levels, scale: int | None = None, unit: float | None = None) -> Picture:
    """The picture of ``hierarchy``.

    spec: of the images.
    levels: what is shown.
    scale: enlargement; None (default): as in other strips.
    unit: of gutters and labels; None (default): in proportion to the images.
    """
    usual = large(spec)
    scale = scale or usual
    originals = tiles(levels.images, scale)
    drawn = {rest: [tiles(images, scale) for images in column] for rest, column in levels.drawn.items()}
    blank = Image.new("RGB", originals[0].size, PAPER)
    cells = []
    for i, original in enumerate(originals):
        for first, rest in ((original, "sample"), (blank, "mean")):
            cells += [first, *(column[i] for column in drawn[rest])]
    heads = ["image", *(f"t = {t}" if t == 0 else str(t) for t in levels.shown)]
    return arrange(cells, len(heads), ["rest drawn", "rest at mean"] * len(originals), heads, unit or max(1.0, scale / usual))


class Paths(NamedTuple):
    """images: the two ends of each path between images, (P, 2, C, H, W). between: pictures of these paths, (P, n, C, H, W). drawn: the same
    between draws from the prior."""

    images: Tensor
    between: Tensor
    drawn: Tensor


def interpolation_paths(
    model: CanvasModel, images: Tensor, condition: Tensor | None = None, imagined: Tensor | None = None, seed: int = 0
) -> Paths:
    """Paths through the latents of all strokes, ``ON_PATH`` pictures each.

    model: a canvas model.
    images: integer levels (N, *shape); images of the first half are paired with others of the second.
    condition: one per image, of which a path has that of its start; None (default) for an unconditional model.
    imagined: conditions of the paths between draws.
    seed: of the latents, 0 by default.
    """
    pairs = min(PATHS, max(1, len(images) // 2))
    chosen = torch.linspace(0, len(images) - 1, 2 * pairs).round().long()
    start, end = images[chosen[:pairs]], images[chosen[pairs:]]
    shown = None if condition is None else condition[chosen[:pairs]]
    between = model.interpolate(start, end, shown, ON_PATH, seed=seed)
    drawn = model.interpolate(None, None, None if imagined is None else imagined[:PATHS], ON_PATH, PATHS, seed)
    return Paths(torch.stack([start, end], 1) / (model.spec.levels - 1), between, drawn)


def interpolation_sheet(spec: ImageSpec, paths: Paths, scale: int | None = None, unit: float | None = None) -> Picture:
    """A row per path: between images, which stand at its two sides, then between draws from the prior.

    spec: of the images.
    paths: what is shown.
    scale: enlargement; None (default): as in other strips.
    unit: of gutters and labels; None (default): in proportion to the images.
    """
    usual = large(spec)
    scale = scale or usual
    cells: list[Picture] = []
    for ends, path in zip(paths.images, paths.between, strict=True):
        start, end = tiles(ends, scale)
        cells += [start, *tiles(path, scale), end]
    blank = Image.new("RGB", cells[0].size, PAPER)
    for path in paths.drawn:
        cells += [blank, *tiles(path, scale), blank]
    heads = ["image", *(f"{share:.2g}" for share in np.linspace(0, 1, paths.between.shape[1])), "image"]
    rows = ["between images"] * len(paths.between) + ["between draws"] * len(paths.drawn)
    return arrange(cells, len(heads), rows, heads, unit or max(1.0, scale / usual))


# ── raster models ────────────────────────────────────────────────────────────────────────────────────────────────────────


@torch.no_grad()
def raster_figures(
    model: RasterModel,
    images: Tensor,
    condition: Tensor | None = None,
    imagined: Tensor | None = None,
    seed: int = 0,
    page: Page = AS_IT_IS,
    ending: str = ".png",
) -> Iterator[tuple[str, bytes]]:
    """Draws the figures of a raster model, one after another.

    model: a raster model.
    images: integer levels (N, *shape).
    condition: one per image; None (default) for an unconditional model.
    imagined: conditions of the ``RASTER_SHEET`` samples; None (default) for an unconditional model.
    seed: of all that is drawn, 0 by default.
    page, ending: as for ``canvas_figures``.

    Yields name and content of each file. Raises ``ValueError`` for images that are neither grey nor RGB.
    """
    spec = model.spec
    check_spec(spec)
    top, usual = spec.levels - 1, image_scale(None, spec.height, spec.width)
    yield f"samples{ending}", samples_file(sample(model, RASTER_SHEET, imagined, seed=seed) / top, spec, page, ending)
    x, shown = images[:SHOWN], None if condition is None else condition[:SHOWN]
    known = torch.zeros(spec.shape, dtype=torch.bool)
    known[:, : spec.height // 2] = True
    filled = complete(model, x[:6], known, None if shown is None else shown[:6], num_samples=4, seed=seed)


    def completions(scale: int | None, unit: float | None) -> Picture:
        return completion_sheet(x[:6] / top, known, filled / top, scale, unit=unit)

    yield f"completions{ending}", page.encode(completions, usual, ending)
    columns = page.columns(len(x), 2 * spec.height, spec.width) or 8
    yield f"surprise{ending}", page.encode_figure(surprise_map(x / top, model.log_prob_map(x, shown), columns), ending)
    middle = (spec.channels - 1, spec.height // 2, spec.width // 2)
    seen, promised = context_of(model, int(np.ravel_multi_index(middle, spec.shape)))

    def context(scale: int | None, unit: float | None) -> Picture:
        return context_picture(seen, promised, middle, scale, unit, decided_before(model.order, spec.shape, middle))

    yield f"context{ending}", page.encode(context, context_scale(spec.height, spec.width), ending)


# ── several models ───────────────────────────────────────────────────────────────────────────────────────────────────────


def comparison(
    models: Mapping[str, Model], measures: Mapping[str, Measures], imagined: Mapping[str, Tensor | None] | None = None, seed: int = 0
) -> Picture:
    """The picture that ``draw_comparison`` draws, at its usual scale; parameters and errors are the same."""
    return draw_comparison(models, measures, imagined, seed)(None, None)


def draw_comparison(
    models: Mapping[str, Model], measures: Mapping[str, Measures], imagined: Mapping[str, Tensor | None] | None = None, seed: int = 0
) -> Draw:
    """A sheet of ``COMPARED`` samples of each model, side by side, each under its β (or its name), rate and PSNR.

    models: by name.
    measures: of the models that have them, by name.
    imagined: conditions of the samples, by name; None (default) for none.
    seed: of the samples, 0 by default.

    Returns what draws it at a scale and a unit, None for the usual ones. Raises ``ValueError`` for models of images of different sizes.
    """
    sizes = {name: model.spec.shape for name, model in models.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"figures: models are compared on images of one size, these are of {sizes}; give them one at a time")
    sheets, heads = [], []
    for name, model in models.items():
        condition = conditions_of(imagined, name, COMPARED)
        if isinstance(model, CanvasModel):
            drawn = model.decode([], "sample", condition, seed, count=COMPARED)
        else:
            drawn = sample(model, COMPARED, condition, seed=seed) / (model.spec.levels - 1)
        sheets.append(drawn)
        beta = beta_of(model)
        head = f"β = {beta:g}" if by_beta(models) else name
        if name in measures:
            head += f"\n{measures[name].rate:,.0f} bits, {measures[name].psnr:.1f} dB"
        heads.append(head)

    def draw(scale: int | None, unit: float | None) -> Picture:
        unit = unit_of(scale, *sheets[0].shape[-2:]) if unit is None else unit
        cells = [ImageOps.expand(sheet(drawn, 4, scale, unit=unit), round(5 * unit), PAPER) for drawn in sheets]
        return arrange(cells, len(cells), None, heads, unit)

    return draw


def over_time(models: Mapping[str, CanvasModel], imagined: Mapping[str, Tensor | None] | None = None, seed: int = 0) -> Picture:
    """The picture that ``draw_over_time`` draws, at its usual scale; parameters are the same."""
    return draw_over_time(models, imagined, seed)(None, None)


def draw_over_time(models: Mapping[str, CanvasModel], imagined: Mapping[str, Tensor | None] | None = None, seed: int = 0) -> Draw:
    """Images while they are drawn from the prior, with the windows they are written through: ``OVER_TIME`` rows per model.

    A column per stroke, at most ``COLUMNS`` + 1, evenly spaced from the first canvas to the last stroke.

    models: canvas models by name.
    imagined: conditions of the images, by name; None (default) for none.
    seed: of the images, 0 by default.

    Returns what draws it at a scale and a unit, None for the usual ones.
    """
    usual = max(large(model.spec) for model in models.values())
    walks = []
    for name, model in models.items():
        frames = list(model.generate(OVER_TIME, conditions_of(imagined, name, OVER_TIME), seed=seed, every=layers_of(model)))
        walks.append([frames[t] for t in sorted({round(t) for t in np.linspace(0, len(frames) - 1, COLUMNS + 1)})])
    columns = max(map(len, walks))

    def draw(scale: int | None, unit: float | None) -> Picture:
        scale, cells, names = scale or usual, [], []
        for name, walk in zip(models, walks, strict=True):
            moments = [frame_tiles(frame, scale) for frame in walk]
            blank = Image.new("RGB", moments[0][0].size, PAPER)
            for i in range(OVER_TIME):
                cells += [*(tile[i] for tile in moments), *(blank for _ in range(columns - len(moments)))]
                names.append("" if i else name)
        return arrange(cells, columns, names, unit=unit or max(1.0, scale / usual))

    return draw


def conditions_of(imagined: Mapping[str, Tensor | None] | None, name: str, count: int) -> Tensor | None:
    """The first conditions for a model.

    imagined: conditions by name; None for none.
    name: of the model.
    count: how many.
    """
    conditions = None if imagined is None else imagined.get(name)
    return None if conditions is None else conditions[:count]


def by_beta(models: Mapping[str, Model]) -> bool:
    """Whether every one of ``models`` has a β, and each its own."""
    betas = [beta_of(model) for model in models.values()]
    return None not in betas and len(set(betas)) == len(betas)


def beta_of(model: Model) -> float | None:
    """The weight of the reconstruction in a model's loss, or None where its configuration has no such weight."""
    return getattr(model.config, "beta", None)


# ── shared ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def check_spec(spec: ImageSpec) -> None:
    """Raises ``ValueError`` for images of a ``spec`` that the figures cannot show: videos, and channels other than 1 or 3."""
    if spec.frames > 1 or spec.channels not in (1, 3):
        kind, way = f"{spec.channels} channels", "rastrum.generate gives the frames of a walk"
        if spec.frames > 1:
            kind, way = f"{spec.frames} frames", "sample, complete and score draw videos"
        raise ValueError(f"figures: they show grey or RGB images, this model's have {kind}; {way}")


def large(spec: ImageSpec) -> int:
    """How many times images of ``spec`` are enlarged: to at least ``LARGE`` points along their longer side."""
    return -(-LARGE // max(spec.height, spec.width))
