"""Convolutional raster models: masks, colours, the blind spot and its cure."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..checking import context_of
from ..distributions import LogisticMixture
from ..generation import sample
from ..layers.causal import CausalConvolution, Convolution
from ..models.gated_pixelcnn import GatedPixelCNN
from ..pictures.sheets import decided_before
from ..protocol import ImageSpec
from ..raster import RasterModel
from .decisions import COLOURS as COLOUR_MODEL
from .decisions import least_settled, raster
from .figure import GATED, UNTRAINED, Figure, Still, Trained, temperature_of, untrained
from .slide import HUGE, LARGE, NORMAL, SMALL, Slide, pixels, round_numbers

SECTION = "PixelCNN and its successors"
FIELD, AT = 15, (9, 7)  # side of the image on which contexts are shown, and the decision
MOST = 0.9                     # of the weight of a mixture


def seen_by(layer: CausalConvolution, height: int, width: int) -> Tensor:
    """Which inputs reach which outputs of a layer, found by sending one value at a time through it.

    layer: with any weights, which become 1 here.
    height, width: of the map.

    Returns (outputs, H, W, inputs, H, W) bool.
    """
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(1.0)
        one_each = torch.eye(height * width * layer.inputs).view(-1, layer.inputs, height, width).permute(0, 2, 3, 1)
        change = layer(one_each) - layer(torch.zeros_like(one_each[:1]))
    reached = change.permute(3, 1, 2, 0).reshape(layer.outputs, height, width, layer.inputs, height, width)
    return reached != 0


def masked(kernel: int, centre: Literal["before", "through"], groups: int = 1) -> CausalConvolution:
    """The layer that a PixelCNN has: a square kernel without what lies below and to the right of its centre.

    kernel: its side, odd.
    centre: "before" for mask A, "through" for mask B.
    groups: channels, each a colour group.
    """
    reach = kernel // 2
    return CausalConvolution(groups, groups, above=reach, columns=(-reach, reach), left=reach, centre=centre, groups=groups)


def masks() -> Still:
    """Masks A and B: the kernel, the same between colours, and as the matrix of a whole layer."""
    side, small = 7, 4
    centres: tuple[Literal["before", "through"], ...] = ("before", "through")
    kernels = [seen_by(masked(side, centre), side, side)[0, side // 2, side // 2, 0] for centre in centres]
    colours = [seen_by(masked(side, centre, 3), side, side)[:, side // 2, side // 2, :, side // 2, side // 2]
               for centre in ("before", "through")]  # fmt: skip
    whole = [seen_by(masked(3, centre), small, small).view(small**2, small**2) for centre in ("before", "through")]

    def draw(slide: Slide) -> None:
        heads = ("kernel, 7 x 7", "its centre, of three colours", "a 3 x 3 layer on 4 x 4 pixels")
        for x, head in zip((4.0, 8.6, 13.1), heads, strict=True):
            slide.text(x, 0.55, head, SMALL + 3, "soft")
        for i, (name, kind, colour) in enumerate((("A", "the first layer", "orange"), ("B", "all further layers", "blue"))):
            y = 1.0 + 4.0 * i
            slide.text(0.95, y + 1.5, name, HUGE, colour, bold=True)
            slide.text(0.95, y + 2.2, kind.replace(" ", "\n", 1), SMALL, "soft")
            marks = [[colour if on else "fill" for on in row] for row in kernels[i].tolist()]
            ones = [["1" if on else "0" for on in row] for row in kernels[i].tolist()]
            slide.grid(2.35, y, 0.49, marks, ones, SMALL, "paper")
            slide.frame(2.35 + 3 * 0.49, y + 3 * 0.49, 0.49, 0.49, "ink")
            slide.grid(7.4, y + 0.55, 0.8, [[colour if on else "fill" for on in row] for row in colours[i].tolist()],
                       [["1" if on else "0" for on in row] for row in colours[i].tolist()], LARGE, "paper")  # fmt: skip
            for c, (letter, shade) in enumerate((("R", "red"), ("G", "green"), ("B", "blue"))):
                slide.text(7.4 + (c + 0.5) * 0.8, y + 0.25, letter, SMALL + 3, shade, bold=True)
                slide.text(7.1, y + 0.55 + (c + 0.5) * 0.8, letter, SMALL + 3, shade, bold=True)
            slide.grid(11.35, y, 0.215, [[colour if on else "fill" for on in row] for row in whole[i].tolist()])
        slide.text(8.6, 8.75, "rows: what is computed · columns: what it sees", SMALL, "soft")

    return Still(draw, "Masks A and B of the layers of a PixelCNN, found by sending one value at a time through the real layer: 1 where "
                       "it arrives. Right: a whole layer as a matrix, all zero above the diagonal, and with mask A on it "
                       f"too. {UNTRAINED}")  # fmt: skip


def kinds_of(model: RasterModel, at: tuple[int, int] = AT) -> list[list[str]]:
    """What one decision sees, as colours of a grid: itself, what it sees, earlier pixels that it does not see, later ones.

    model: a raster model of one channel.
    at: row and column of the decision.
    """
    index = (0, *at)
    seen, _ = context_of(model, int(np.ravel_multi_index(index, model.spec.shape)))
    earlier = decided_before(model.order, model.spec.shape, index)[0]
    kinds = np.where(seen[0].numpy(), "sky", np.where(earlier, "purple 55", "fill")).tolist()
    kinds[at[0]][at[1]] = "ink"
    return kinds


def legend(slide: Slide, y: float, blind: bool = True) -> None:
    """What the colours of ``kinds_of`` mean.

    slide: that is drawn on.
    y: of its middle.
    blind: whether pixels that are earlier and not seen are named.
    """
    entries = [("ink", "this pixel"), ("sky", "seen"), *([("purple 55", "earlier, but not seen")] if blind else []), ("fill", "later")]
    x = 8 - 1.45 * len(entries)
    for colour, words in entries:
        slide.grid(x, y - 0.15, 0.3, [[colour]])
        slide.text(x + 0.42, y, words, SMALL + 1, "soft", "left")
        x += 1.05 + 0.12 * len(words)


def blind_spot() -> Still:
    """The blind spot of PixelCNN by its depth, and Gated PixelCNN of the same depths."""
    spec, depths, found = ImageSpec(1, FIELD, FIELD, 2), (2, 3, 5, 8), {}
    for depth in depths:
        sizes: dict[str, Any] = {"channels": 4, "hidden": 4}
        found["PixelCNN", depth] = kinds_of(untrained("pixelcnn", spec, layers=depth - 1, first_kernel=3, **sizes))
        found["Gated PixelCNN", depth] = kinds_of(untrained("gated-pixelcnn", spec, layers=depth, **sizes))

    def draw(slide: Slide) -> None:
        side = 0.228
        rows = ("PixelCNN", "a blind spot\nto the right above"), ("Gated PixelCNN", "two stacks:\nno blind spot")
        for r, (name, cure) in enumerate(rows):
            y = 0.75 + r * 3.85
            slide.text(0.25, y + 1.45, name.replace(" ", "\n"), LARGE, "ink", "left", bold=True)
            slide.text(0.25, y + 2.5, cure, SMALL, "soft", "left")
            for c, depth in enumerate(depths):
                slide.grid(2.65 + c * (FIELD * side - 0.12), y, side * 0.94, found[name, depth])
        for c, depth in enumerate(depths):
            slide.text(2.65 + c * (FIELD * side - 0.12) + 1.6, 0.4, f"{depth} layers", SMALL + 3, "soft")
        legend(slide, 8.65)

    return Still(draw, "What one pixel sees of a 15 x 15 image through 3 x 3 kernels, measured by changing each of the others in the real "
                       "model with random weights. However deep, PixelCNN never sees a region to the right above. "
                       f"{UNTRAINED}")  # fmt: skip


def gated_layer(trained: Trained) -> Still:
    """A layer of a Gated PixelCNN: vertical and horizontal stack."""
    model = trained.model
    if not isinstance(model, GatedPixelCNN):
        raise ValueError(f"{trained.address}: expected a gated-pixelcnn, got {trained.label}")
    channels, kernel = model.config.channels, model.config.kernel
    layer: Any = model.layers[min(1, len(model.layers) - 1)]
    side = 2 * kernel - 1
    reads = [_reads(part, side) for part in (layer.vertical, layer.horizontal)]  

    def draw(slide: Slide) -> None:
        xs, names = (4.3, 11.2), (f"vertical stack, {channels}", f"horizontal stack, {channels}")
        convolutions = (f"{layer.vertical.rows} x {kernel} conv.", f"1 x {kernel} conv., mask B")
        for x, name, convolution, colour in zip(xs, names, convolutions, ("blue", "orange"), strict=True):
            slide.text(x, 8.6, name, NORMAL, colour, bold=True)
            slide.arrow((x, 8.25), (x, 7.62))
            slide.box(x, 7.2, 3.6, 0.8, f"{convolution}: {channels} → {2 * channels}", colour, f"{colour} 20", SMALL)
            slide.arrow((x, 6.8), (x, 5.93))
            slide.box(x, 5.6, 0.62, 0.62, "+", "ink", "paper", LARGE)
            for dx, words in ((-0.85, "tanh"), (0.85, "σ")):
                slide.arrow((x, 5.28), (x + dx, 4.62))
                slide.box(x + dx, 4.3, 1.1, 0.62, words, "purple", "purple 20", SMALL)
                slide.arrow((x + dx, 3.98), (x, 3.42))
            slide.box(x, 3.1, 0.62, 0.62, "×", "ink", "paper", LARGE)
        slide.arrow((xs[0], 2.78), (xs[0], 0.9))
        slide.arrow((xs[1], 2.78), (xs[1], 2.42))
        slide.box(xs[1], 2.05, 2.2, 0.72, "1 x 1 conv.", "green", "green 20", SMALL)
        slide.arrow((xs[1], 1.68), (xs[1], 1.42))
        slide.box(xs[1], 1.1, 0.62, 0.62, "+", "ink", "paper", LARGE)
        slide.arrow((xs[1], 0.78), (xs[1], 0.35))
        slide.line([(xs[1], 8.05), (xs[1] + 2.4, 8.05), (xs[1] + 2.4, 1.1), (xs[1] + 0.33, 1.1)], "red", 2.5, arrow=True)
        slide.text(xs[1] + 2.5, 4.6, "residual", SMALL, "red", "left")
        slide.line([(xs[0], 6.4), (6.6, 6.4), (6.6, 5.6), (8.6, 5.6)], "green", 2.5)
        slide.arrow((9.55, 5.6), (xs[1] - 0.33, 5.6), "green")
        slide.box(8.6, 5.6, 1.9, 0.66, "1 x 1 conv.", "green", "green 20", SMALL)
        slide.text(8.6, 6.2, "what is above", SMALL, "green")
        slide.text(7.75, 1.4, r"$y = \tanh(W_f * x)\,\odot\,\sigma(W_g * x)$", NORMAL)
        for x, kinds in ((0.35, reads[0]), (14.05, reads[1])):
            slide.grid(x, 6.6, 1.55 / side, kinds)

    return Still(draw, "A layer of a Gated PixelCNN. The vertical stack sees rows above, the horizontal one its own row to the left and, "
                       "by a 1 x 1 convolution, what the vertical one sees: no blind spot. The small maps are what the real layers read; "
                       "the vertical stack is one row down already, so its own row is the one above.")  # fmt: skip


def _reads(layer: Convolution, side: int) -> list[list[str]]:
    """The taps of a layer on a map of ``side``, as colours of a grid; its position is framed by the colour of ink."""
    middle = side // 2
    kinds = [["fill"] * side for _ in range(side)]
    for tap in layer.taps:
        for row in range(tap.rows):
            kinds[middle + tap.down - row][middle + tap.right] = "sky"
    if kinds[middle][middle] == "fill":
        kinds[middle][middle] = "ink"
    return kinds


def mixture(trained: Trained) -> Still:
    """A mixture of logistics: its components, and the probabilities of the levels."""
    model = raster(trained)
    spec = model.spec
    _, found, pmf, index, which = least_settled(model)
    if not isinstance(found, LogisticMixture):
        raise ValueError(f"{trained.address}: expected a model whose values have a mixture of logistics, got {trained.label}")
    parameters = found.logits.double().softmax(-1), found.means.double(), found.log_scales.double().exp()
    w, m, s = (values.flatten(1, 3)[0, index] for values in parameters)
    pmf, half = pmf[index], 2 / (spec.levels - 1)
    grid = torch.linspace(-1, 1, spec.levels, dtype=torch.float64)
    z = (grid[:, None] - m) / s
    parts = w * half / s * torch.sigmoid(z) * torch.sigmoid(-z)  # densities, times the width of a level
    heaviest = w.sort(descending=True).values.cumsum(0)
    heavy = int((heaviest < MOST).sum()) + 1
    said = f"{heavy} of {len(w)} components hold {float(heaviest[heavy - 1]):.0%} of the weight"

    def draw(slide: Slide) -> None:
        top = 1.1 * float(torch.cat([pmf[2:-2], parts.max(1).values]).max())
        for y, name in (
            (0.8, f"$\\pi_k$ times a logistic density; {said}"),
            (4.9, f"their sum, cut into levels; 0 and {spec.levels - 1} get all that lies beyond"),
        ):
            chart = slide.chart(1.6, y, 13.0, 3.05, (-0.5, spec.levels - 0.5), (0, top))
            slide.text(1.75, y - 0.12, name, NORMAL, align="left", level="bottom")
            chart.ticks([0, spec.levels // 4, spec.levels // 2, 3 * spec.levels // 4, spec.levels - 1], round_numbers(0, top))
            if y < 1:
                for k in range(parts.shape[1]):
                    chart.line(range(spec.levels), parts[:, k].clamp_max(top), COLOURS[k % len(COLOURS)], 3)
            else:
                chart.bars(pmf.clamp_max(top), "blue 70")
                for level, aside in ((0, 0.5), (spec.levels - 1, -0.5)):
                    if pmf[level] > top:
                        px, py = chart.at(level, top)
                        slide.text(px + aside, py + 0.1, f"↑ {float(pmf[level]):.2f}", SMALL, "soft")

    return Still(draw, f"PixelCNN++ predicts {parts.shape[1]} logistics in place of {spec.levels} free probabilities: neighbouring levels "
                       f"are alike from the start. Shown is a decision, {which}; {said}.")  # fmt: skip


COLOURS = ("blue", "orange", "green", "purple", "sky", "yellow", "red", "soft")


def photographs(trained: Trained) -> Still:
    """Samples of a model of photographs."""
    model, shown = raster(trained), temperature_of(trained.model)
    each = {t: pixels(sample(model, 16, temperature=t, seed=0).as_subclass(Tensor) / (model.spec.levels - 1)) for t in (1.0, shown)}
    rows = [drawn[8 * r : 8 * r + 8] for drawn in each.values() for r in range(2)]

    def draw(slide: Slide) -> None:
        labels = [f"T = {t:g}" for t in each for _ in range(2)] if shown != 1 else []
        slide.sheet(0.2, 0.2, 15.6, 8.6, rows, labels, (), NORMAL, 0.1)

    return Still(draw, "Samples, neither selected nor changed." + ("" if shown == 1 else f" Below, with the same random numbers at "
                       f"temperature {shown:g}, pmf^(1/T): the rare values that lead into patches of noise are rarer still."))  # fmt: skip


FIGURES = (
    Figure("masks", "Masks A and B", masks, notes="A may not see the pixel itself, or the first layer would copy what it has to predict. "
           "B may, since what it sees there has passed A. Among colours: G sees R of its own pixel, B sees both."),
    Figure("blind-spot", "The blind spot, and its cure", blind_spot, notes="Each masked kernel can move right only by moving up, so a "
           "cone stays unseen, with any number of layers. The Gated PixelCNN reads whole rows above in a stack of its own."),
    Figure("gated-layer", "A layer of Gated PixelCNN", gated_layer, (GATED,), notes="Two stacks, and gates as in an LSTM: tanh for what, "
        "σ for how much. A condition adds to both."),
    Figure("mixture", "PixelCNN++: a mixture of logistics", mixture, (COLOUR_MODEL,), notes="A softmax does not know that 127 and 128 are "
           "neighbours; a logistic does."),
    Figure("photographs", "Samples of photographs", photographs, (COLOUR_MODEL,), notes="A small model, trained for less than an hour: "
        "textures and edges, hardly objects."),
)  # fmt: skip
