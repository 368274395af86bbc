"""Convolutional raster models: masks, colours, the blind spot and its cure."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..checking import context_of
from ..layers.causal import CausalConvolution
from ..models import build
from ..pictures.sheets import decided_before
from ..protocol import ImageSpec
from ..raster import RasterModel
from .figure import Figure, Still
from .slide import HUGE, LARGE, SMALL, Slide

SECTION = "PixelCNN and its successors"
FIELD, AT = 15, (9, 7)         # side of the image on which contexts are shown, and the decision


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


def masked(kernel: int, centre: str, groups: int = 1) -> CausalConvolution:
    """The layer that a PixelCNN has: a square kernel without what lies below and to the right of its centre.

    kernel: its side, odd.
    centre: "before" for mask A, "through" for mask B.
    groups: channels, each a colour group.
    """
    reach = kernel // 2
    return CausalConvolution(groups, groups, above=reach, columns=(-reach, reach), left=reach, centre=centre, groups=groups)  # pyright: ignore[reportArgumentType]


def masks() -> Still:
    """Masks A and B: the kernel, the same between colours, and as the matrix of a whole layer."""
    side, small = 7, 4
    kernels = [seen_by(masked(side, centre), side, side)[0, side // 2, side // 2, 0] for centre in ("before", "through")]
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

    return Still(draw, "Masks A and B of the layers of a PixelCNN, found by sending one value at a time through the real layer: 1 where it "
                       "arrives. Right: a whole layer as a matrix, all zero above the diagonal, and with mask A on it too.")  # fmt: skip


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
        sizes = {"channels": 4, "hidden": 4}
        found["PixelCNN", depth] = kinds_of(_raster("pixelcnn", spec, layers=depth - 1, first_kernel=3, **sizes))
        found["Gated PixelCNN", depth] = kinds_of(_raster("gated-pixelcnn", spec, layers=depth, **sizes))

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
                       "model with random weights. However deep, PixelCNN never sees a region to the right above.")  # fmt: skip


def _raster(name: str, spec: ImageSpec, **sizes: int) -> RasterModel:
    model = build(name, spec, "small", seed=0, **sizes)
    assert isinstance(model, RasterModel)
    return model.eval()


FIGURES = (
    Figure("masks", "Masks A and B", masks, notes="A may not see the pixel itself, or the first layer would copy what it has to predict. "
           "B may, since what it sees there has passed A. Among colours: G sees R of its own pixel, B sees both."),
    Figure("blind-spot", "The blind spot, and its cure", blind_spot, notes="Each masked kernel can move right only by moving up, so a "
           "cone stays unseen, with any number of layers. The Gated PixelCNN reads whole rows above in a stack of its own."),
)  # fmt: skip
