"""Convolutional DRAW, GRAN and the VAE, of models that are given; and a page that sums up."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from ..adversarial import AdversarialModel
from ..applications.rates import AREA, RATES, by_format, by_model, usual_formats
from ..checkpoint import BUNDLED, Origin, bundled, name_of
from ..compression import compress_image
from ..models.pixel_canvas import PixelCanvas
from ..pictures.figures import beta_of, check_spec, interpolation_paths, layers_of, measure
from ..pictures.figures import strokes as whole_strokes
from ..raster import RasterModel
from ..strokes import CanvasModel
from .decisions import raster
from .figure import Figure, Still, Trained, disks, images_for, loaded
from .slide import NORMAL, SMALL, Slide, evenly
from .strokes import canvas, shades, signed

SECTION = "Other models, and a summary"
def concept(trained: Trained) -> Still:
    """The same images at five rates, by JPEG, JPEG 2000 and progressive files of a model that are cut there."""
    model, spec = canvas(trained), trained.model.spec
    check_spec(spec)
    if not isinstance(model, PixelCanvas):
        raise ValueError(f"{trained.address}: expected a conv-draw, got {trained.label}")
    x, where = images_for(trained, 3)
    wanted = tuple(round(rate * spec.height * spec.width / AREA) for rate in RATES)
    formats = [by_format(format, x, spec.levels, wanted) for format in usual_formats()]
    rates = [(*others, *ours) for *others, ours in zip(*formats, by_model(model, x, wanted), strict=True)]

    def draw(slide: Slide) -> None:
        width, step = 3.3, 1.4
        slide.text(1.45, 0.73, "images", NORMAL, align="right", bold=True)
        slide.sheet(1.6, 0.2, width, step - 0.3, [shades(x / (spec.levels - 1))], gap=0.05)
        slide.text(15.4, 0.73, "bold: highest PSNR at this rate", SMALL, "soft", "right")
        for r, (rate, ways) in enumerate(zip(wanted, rates, strict=True)):
            top, best = 1.85 + step * r, max((way.psnr.mean() for way in ways if way.within.all()), default=None)
            slide.text(1.45, top + 0.53, f"{rate:,}\nbits", NORMAL, align="right", bold=True)
            for c, way in enumerate(ways):
                left, over = 1.6 + 3.6 * c, not way.within.all()
                if r == 0:
                    slide.text(left + width / 2, top - 0.25, way.name, NORMAL)
                slide.sheet(left, top, width, step - 0.3, [shades(way.pictures)], gap=0.05)
                said = f"{way.psnr.mean():.1f} dB" + f", {way.payload.mean():,.0f} bits" * over
                colour = "red" if over else "soft"
                slide.text(left + width / 2, top + step - 0.18, said, SMALL - 3, colour, bold=not over and way.psnr.mean() == best)

    return Still(draw, "The same images at five rates, in bits per image: JPEG and JPEG 2000 at the best of all qualities and sizes; and a "
                       "file of the model that was cut there, the latents that it lacks drawn from the prior (with its variance) or at its "
                       f"mean. Bits without headers and tables; red where no file is small enough. {where}")  # fmt: skip


def lossless(trained: Trained) -> Still:
    """A picture, how many bits each of its pixels costs, and how large files of it are."""
    from matplotlib import colormaps

    model, spec = raster(trained), trained.model.spec
    check_spec(spec)
    if spec.levels != 256:
        raise ValueError(f"{trained.address}: expected a model of 256 levels, got {spec.levels}")
    x = disks(spec.channels, spec.height, spec.width)[None] if trained.images is None else trained.images[:1]
    where = "The picture is generated: disks that cover one another, lit from one side, with a camera's noise. " * (trained.images is None)
    array = x[0].permute(1, 2, 0).byte().numpy()
    pixels = np.ascontiguousarray(array[..., 0] if spec.channels == 1 else array)
    files = {"pixels": array.size, **{kind: len(_as_file(pixels, kind)) for kind in ("PNG", "WebP")}}
    files[name_of(model)] = len(compress_image(model, pixels, progress=False))
    bits = (-model.log_prob_map(x).double().sum((0, 1)) / np.log(2)).numpy()

    def draw(slide: Slide) -> None:
        top = float(np.quantile(bits, 0.998))
        heat = (colormaps["magma"](np.clip(bits / top, 0, 1))[..., :3] * 255).astype(np.uint8)
        heads = ["picture", f"bits per pixel, up to {top:.0f}"]
        slide.sheet(0.3, 0.2, 10.6, 8.4, [[shades(x / 255)[0], heat]], (), heads, NORMAL, 0.2)
        for n, (name, size) in enumerate(files.items()):
            y = 2.4 + 1.35 * n
            slide.text(11.4, y, name, NORMAL, "ink", "left", bold=n == len(files) - 1)
            slide.line([(11.4, y + 0.4), (11.4 + 4.1 * size / max(files.values()), y + 0.4)], "blue" if n == len(files) - 1 else "soft", 10)
            slide.text(15.6, y, f"{size:,} bytes", NORMAL, "soft", "right")

    return Still(draw, f"A lossless file spends bits where the model is surprised. {where}Sizes are those of whole files: PNG and WebP "
                       "(lossless) by Pillow at their strongest settings.")  # fmt: skip


def _as_file(pixels: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    how: dict[str, Any] = {"optimize": True} if kind == "PNG" else {"lossless": True, "quality": 100, "method": 6}
    Image.fromarray(pixels).save(file, kind, **how)
    return file.getvalue()


def betas(*models: Trained) -> Still:
    """Samples of models with different weights of the reconstruction, side by side."""
    found = []
    for trained in models:
        model = canvas(trained)
        beta = beta_of(model)
        name = trained.address.rstrip("/").rpartition("/")[2] if beta is None else f"β = {beta:g}"
        rate = measure(model, images_for(trained, 16)[0]).rate
        found.append((f"{name}\n{rate:,.0f} bits", shades(model.decode([], "sample", seed=0, count=12))))

    def draw(slide: Slide) -> None:
        width = 15.4 / len(found)
        for n, (head, drawn) in enumerate(found):
            slide.text(0.3 + (n + 0.5) * width, 0.65, head, NORMAL)
            slide.sheet(0.3 + n * width + 0.1, 1.3, width - 0.2, 7.4, [drawn[3 * r : 3 * r + 3] for r in range(4)])

    return Still(draw, "Samples of models that weigh reconstruction against KL differently, each with the mean KL of images in bits.")


def gran(trained: Trained) -> Still:
    """GRAN's canvases: what each stroke adds, and the canvas after it."""
    model = trained.model
    if not isinstance(model, AdversarialModel):
        raise ValueError(f"{trained.address}: expected an adversarial model, got {trained.label}")
    frames = list(whole_strokes(model.generate(4, seed=0), layers_of(model)))
    shown = list(evenly(frames[1:], 5))
    limit = float(np.quantile(np.abs([frame.info["write_patch"].mean(1).numpy() for frame in frames[1:]]), 0.98))

    def draw(slide: Slide) -> None:
        rows = []
        for i in range(4):
            row = [(signed(frame.info["write_patch"][i : i + 1], limit)[0], shades(frame.images[i : i + 1])[0]) for frame in shown]
            rows.append([cell for pair in row for cell in pair])
        heads = [head for n in evenly(range(1, len(frames)), 5) for head in (f"added {n}", f"canvas {n}")]
        slide.sheet(0.2, 0.2, 15.6, 8.0, rows, (), heads, NORMAL)
        for x, colour, words in ((4.6, "blue", "adds light"), (7.3, "paper", "leaves as it is"), (10.5, "orange", "takes light")):
            slide.grid(x, 8.45, 0.34, [[colour]])
            slide.text(x + 0.5, 8.62, words, NORMAL, "soft", "left")

    return Still(draw, "Draws of an adversarial model: what each step adds (blue) or takes (orange), and the canvas after it.")


def vae(trained: Trained) -> Still:
    """A VAE: images, what it makes of them, its own draws, and pictures between images."""
    model = canvas(trained)
    x, where = images_for(trained, 10)
    back = model.decode(model.encode(x, seed=0), "mean", count=len(x))
    own = model.decode([], "sample", seed=0, count=len(x))
    paths = interpolation_paths(model, x)

    def draw(slide: Slide) -> None:
        columns = min(len(x), 9)
        rows = [shades(x.float() / (model.spec.levels - 1))[:columns], shades(back)[:columns], shades(own)[:columns]]
        rows += [shades(path)[:columns] for path in paths.between[:2]]
        slide.sheet(0.2, 0.2, 15.6, 8.6, rows, ["image", "redrawn", "drawn", "between\nimages", "between\nimages"], (), NORMAL)

    return Still(draw, f"A variational autoencoder: one latent and one stroke. {where}")


def summary() -> Still:
    """The models bundled with the package: what they are, how large, and their scores."""
    rows = []
    for address in bundled():
        model = loaded(address)
        origin = model.origin or Origin()
        kind = "raster" if isinstance(model, RasterModel) else "canvas" if isinstance(model, CanvasModel) else "adversarial"
        decisions = model.spec.size if kind == "raster" else model.steps if isinstance(model, CanvasModel) else 0
        score = "".join(score.brief.removesuffix(" per video").replace("kernel ", "") for score in origin.results[:1])
        count = sum(parameter.numel() for parameter in model.parameters())
        time = origin.trained_for.partition(" of one core")[0]
        rows.append((address.removeprefix(BUNDLED), kind, f"{decisions:,}", f"{count / 1000:,.0f}k", time, score))

    def draw(slide: Slide) -> None:
        head = ("model", "kind", "decisions", "parameters", "trained for", "held-out score")
        widths = (5.0, 1.3, 1.45, 1.6, 2.4, 3.5)
        step = min(0.85, 8.3 / (len(rows) + 1))
        slide.table(0.35, 0.35, widths, [head, *rows], step, SMALL)

    return Still(draw, "The models bundled with the package, as their folders state it; times are of one core. A decision is one value of "
                       "a raster model, and the latent of one stroke of a canvas model; scores are per image or video, or in bits per "
                       "value.")  # fmt: skip


FIGURES = (
    Figure("concept", "Conceptual compression", concept, ("conv-draw",),
           notes="The first latents say what it is, the last ones how it is textured. Drawn with variance, what is missing looks "
           "plausible; at the mean, it is smooth. By PSNR, JPEG leads at 153 bits."),
    Figure("lossless", "Lossless files", lossless, ("least-squares",), notes="What the model expects is nearly free; edges and noise cost. "
           "The sum of the map is the file, to a few bytes."),
    Figure("betas", "The weight of the reconstruction", betas,
           ("rastrum/conv-draw-cifar10-files-beta-0.1", "rastrum/conv-draw-cifar10-files", "rastrum/conv-draw-cifar10-files-beta-1"),
           several=True,
           notes="A larger β spends more bits on details."),
    Figure("gran", "GRAN's canvases", gran, ("gran",), notes="A recurrent generator, judged by a discriminator: no likelihood."),
    Figure("vae", "A variational autoencoder", vae, ("vae",), notes="DRAW with a single stroke."),
    Figure("summary", "The models of this lecture", summary, notes="All of them are in the package; each figure can be drawn again."),
)  # fmt: skip
