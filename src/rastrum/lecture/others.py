"""Convolutional DRAW, GRAN and the VAE, of models that are given; and a page that sums up."""

from __future__ import annotations

import numpy as np

from ..adversarial import AdversarialModel
from ..checkpoint import bundled, name_of
from ..pictures.figures import beta_of, interpolation_paths, layers_of, measure
from ..pictures.figures import strokes as whole_strokes
from ..raster import RasterModel
from ..strokes import CanvasModel
from .figure import Figure, Still, Trained, images_for, loaded
from .slide import NORMAL, SMALL, Slide, evenly
from .strokes import canvas, shades, signed

SECTION = "Other models, and a summary"
RATES = (153.6, 307.2, 460.8, 614.4, 1228.8)  # bits of an image of 32 x 32, as Gregor et al. 2016 show them


def concept(trained: Trained) -> Still:
    """What the first latents of images hold: at five rates, the others drawn from the prior or at its mean."""
    model = canvas(trained)
    x, where = images_for(trained, 3)
    latents = model.encode(x, seed=0)
    bits = measure(model, x).kl.double().cumsum(1) / np.log(2)  # (N, steps)
    share = model.spec.height * model.spec.width / 1024
    rates = [rate * share for rate in RATES if rate * share <= float(bits[:, -1].mean())] or [float(bits[:, -1].mean())]
    counts = sorted({min(1 + int((bits.mean(0) < rate).sum()), model.steps) for rate in rates})
    ways = ("sample", "mean")
    drawn = {way: [model.decode(latents[:count], way, count=len(x)) for count in counts] for way in ways}

    def draw(slide: Slide) -> None:
        originals = shades(x.float() / (model.spec.levels - 1))
        rows, labels = [], []
        for i, original in enumerate(originals):
            for way in ways:
                rows.append([original if way == "sample" else None, *(shades(each[i : i + 1])[0] for each in drawn[way])])
                labels.append("rest drawn" if way == "sample" else "at its mean")
        heads = [
            "image",
            *(f"{float(bits[:, count - 1].mean()):.0f} bits\n{count} of {model.steps}" for count in counts),
        ]
        slide.sheet(0.2, 0.2, 15.6, 8.6, rows, labels, heads, NORMAL)

    return Still(draw, "Conceptual compression: the latents of the first strokes are kept, the rest is drawn from the prior (with its "
                       f"variance) or set to its mean. The rate is the mean KL of what is kept, in bits per image. {where}")  # fmt: skip


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
        slide.sheet(0.2, 0.2, 15.6, 8.6, rows, (), heads, NORMAL)

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
        slide.sheet(0.2, 0.2, 15.6, 8.6, rows, ["image", "redrawn", "drawn", "between", "two images"], (), NORMAL)

    return Still(draw, f"A variational autoencoder: one latent and one stroke. {where}")


def summary() -> Still:
    """The models bundled with the package: what they are, how large, and their scores."""
    rows = []
    for address in bundled():
        model = loaded(address)
        origin = model.origin
        kind = "raster" if isinstance(model, RasterModel) else "canvas" if isinstance(model, CanvasModel) else "adversarial"
        decisions = model.spec.size if kind == "raster" else model.steps if isinstance(model, CanvasModel) else 0
        score = origin.results[0] if origin and origin.results else None
        value = "–" if score is None else f"{'≤ ' * (score.kind == 'bound')}{score.number} {score.unit.removesuffix(' per video')}"
        data = origin.data.name.rpartition("/")[2] if origin and origin.data else "–"
        count = sum(parameter.numel() for parameter in model.parameters())
        rows.append((name_of(model), data[:22], kind, f"{decisions:,}", f"{count / 1000:,.0f}k", value))

    def draw(slide: Slide) -> None:
        head = ("model", "data", "kind", "decisions", "parameters", "held-out score")
        widths = (3.6, 3.4, 1.6, 1.7, 1.9, 3.3)
        step = min(0.85, 7.9 / (len(rows) + 1))
        slide.table(0.25, 0.35, widths, [head, *rows], step, SMALL if len(rows) > 9 else SMALL + 1)

    return Still(draw, "The models bundled with the package, as their folders state it. A decision is one value of a raster model, and "
                       "the latent of one stroke of a canvas model; scores are per image or video, or in bits per value.")  # fmt: skip


FIGURES = (
    Figure("concept", "Conceptual compression", concept, ("conv-draw, for images of its kind",),
           notes="The first latents say what it is, the last ones how it is textured. Drawn with variance, what is missing looks "
           "plausible; at the mean, it is smooth."),
    Figure("betas", "The weight of the reconstruction", betas, ("conv-draw at one β", "conv-draw at another β"), several=True,
           notes="A larger β spends more bits on details."),
    Figure("gran", "GRAN's canvases", gran, ("gran",), notes="A recurrent generator, judged by a discriminator: no likelihood."),
    Figure("vae", "A variational autoencoder", vae, ("vae",), notes="DRAW with a single stroke."),
    Figure("summary", "The models of this lecture", summary, notes="All of them are in the package; each figure can be drawn again."),
)  # fmt: skip
