"""PixelRNN: cells, what they see, how they run in parallel, and how they compare."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..checkpoint import Origin
from ..config import Score
from ..generation import sample
from ..layers.recurrent import DiagonalScan, RowScan, Scan, skew
from ..model import Model
from ..models import MODELS
from ..models.multiscale_pixelrnn import MultiscalePixelRNN
from ..models.pixelrnn import PixelRNN
from ..protocol import ImageSpec
from ..recipes import RECIPES
from .decisions import known_before, raster
from .figure import DIAGONAL, UNTRAINED, Figure, Still, Trained, disks, images_for, untrained
from .masks import AT, FIELD, kinds_of, legend
from .slide import LARGE, NORMAL, SMALL, Slide, hatched, pixels, round_numbers

SECTION = "PixelRNN"
SEEN = ImageSpec(1, FIELD, FIELD, 2)
NETWORKS = ("pixelcnn", "row-lstm", "diagonal-bilstm")
NAMES = {"pixelcnn": "PixelCNN", "row-lstm": "Row LSTM", "diagonal-bilstm": "Diagonal BiLSTM", "gated-pixelcnn": "Gated PixelCNN",
         "pixel-lstm": "plain LSTM", "spatial-lstm": "Spatial LSTM"}  # fmt: skip
AT_ONCE = 16                   # images whose sampling is timed


# ── cells ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def cell(slide: Slide, sources: Sequence[tuple[str, str]], forgets: Sequence[str], equations: Sequence[str]) -> None:
    """An LSTM cell: what enters, the gates, the memory and the output.

    slide: that is drawn on.
    sources: words and colour of each thing that enters.
    forgets: names of the forget gates, one per memory that is read.
    equations: below it.
    """
    gates = [("$o$", "σ"), *((name, "σ") for name in forgets), ("$i$", "σ"), ("$g$", "tanh")]
    left, y0, y1 = 7.0, 2.6, 5.6
    for n, (words, colour) in enumerate(sources):
        y = y0 + (n + 0.5) * (y1 - y0) / len(sources)
        slide.box(left + 1.2, y, 2.4, 0.95, words, colour, f"{colour} 20", NORMAL)
        slide.arrow((left + 2.4, y), (left + 3.15, (y0 + y1) / 2), colour)
    slide.box(left + 3.5, (y0 + y1) / 2, 0.7, 0.7, "+", "ink", "paper", LARGE)
    for n, (name, function) in enumerate(gates):
        y = y0 - 0.4 + (n + 0.5) * (y1 - y0 + 0.8) / len(gates)
        slide.arrow((left + 3.85, (y0 + y1) / 2), (left + 4.6, y), "soft")
        slide.box(left + 5.15, y, 1.05, 0.62, f"{name}: {function}", "purple", "purple 20", SMALL)
        if n:
            slide.arrow((left + 5.68, y), (left + 6.45, (y0 + y1) / 2 + 0.35 * np.sign(y - (y0 + y1) / 2)), "soft")
        else:  # the output gate
            slide.line([(left + 5.68, y), (left + 8.35, y), (left + 8.35, (y0 + y1) / 2 - 0.42)], "soft", arrow=True)
    slide.box(left + 6.95, (y0 + y1) / 2, 0.95, 1.5, "$c$", "orange", "orange 20", LARGE)
    slide.arrow((left + 7.43, (y0 + y1) / 2), (left + 8.0, (y0 + y1) / 2), "ink")
    slide.box(left + 8.35, (y0 + y1) / 2, 0.7, 0.8, "$h$", "blue", "blue 20", LARGE)
    for n, equation in enumerate(equations):
        slide.text(left + 0.1, 6.75 + 0.72 * n, equation, NORMAL + 1, align="left")


def neighbours(
    slide: Slide, state: Sequence[tuple[int, int]], inputs: Sequence[tuple[int, int]], memory: str = "$h$, and $c$, come from here",
    at: tuple[int, int] = (3, 3), side: float = 0.86,
) -> None:
    """A map of 7 x 7 pixels: where a pixel's cell gets the state from (arrows), and what of the layer below it reads (frames).

    slide: that is drawn on.
    state: (rows, columns) from the pixel to each cell whose h it reads.
    inputs: the same of each pixel that the layer below gives it.
    memory: where h and c come from, in words.
    at: row and column of the pixel.
    side: of a pixel, in units.
    """
    x, y = 0.45, 1.3
    kinds = [["fill"] * 7 for _ in range(7)]
    for down, right in inputs:
        kinds[at[0] + down][at[1] + right] = "green 30"
    for down, right in state:
        kinds[at[0] + down][at[1] + right] = "blue 45"
    kinds[at[0]][at[1]] = "ink"
    slide.grid(x, y, side, kinds)

    def middle(down: int, right: int) -> tuple[float, float]:
        return x + (at[1] + right + 0.5) * side, y + (at[0] + down + 0.5) * side

    for down, right in state:
        (x0, y0), (x1, y1) = middle(down, right), middle(0, 0)
        slide.arrow((x0, y0), (x1 + 0.3 * (x0 - x1), y1 + 0.3 * (y0 - y1)), "red", thick=3.5)
    for n, (colour, words) in enumerate((("blue 45", memory), ("green 30", "the layer below is read here"))):
        if n == 0 or inputs:
            slide.grid(x, 7.7 + 0.5 * n, 0.34, [[colour]])
            slide.text(x + 0.5, 7.87 + 0.5 * n, words, NORMAL - 1, "soft", "left")


def _taps(layer: Any) -> list[tuple[int, int]]:
    """(rows, columns) from a pixel to each that a causal convolution of one row reads."""
    return sorted({(tap.down - row, tap.right) for tap in layer.taps for row in range(tap.rows)})


def _scan(model: Model, kind: type[Scan]) -> Scan:
    """The first scan of a kind in a model."""
    return next(module for module in model.modules() if isinstance(module, kind))


GATES = r"$[o, f, i, g]\;=\;[\sigma, \sigma, \sigma, \tanh]\,$"
MEMORY, OUTPUT = r"$c\;=\;f\odot c_{before}\;+\;i\odot g$", r"$h\;=\;o\odot\tanh(c)$"


def plain_lstm() -> Still:
    """A plain LSTM over pixels: the state comes along the raster."""
    model = untrained("pixel-lstm", SEEN, units=4)
    back = _scan(model, Scan).offsets  # its own position, in the line before: the value before

    def draw(slide: Slide) -> None:
        neighbours(slide, [(0, -1)] * len(back), [])
        cell(slide, [("value before", "green"), ("$h$ before", "blue")], ["$f$"],
             [GATES + r"$(W\,x_{t-1} + U\,h_{t-1} + b)$", MEMORY, OUTPUT])  # fmt: skip
        slide.text(11.3, 1.35, "the pixel above is a whole row of steps away", NORMAL, "soft")

    return Still(draw, "A plain LSTM reads the values of an image one after another, row by row. It sees all earlier ones, but has to "
                       f"carry the pixel above through as many steps as a row has. {UNTRAINED}")  # fmt: skip


def spatial_lstm() -> Still:
    """Spatial LSTM: state from the left and from above, with a forget gate for each."""
    scan = _scan(untrained("spatial-lstm", SEEN, units=4), DiagonalScan)
    state = [(offset, -1 - offset) for offset in scan.offsets]  # along a diagonal: the left one, or the one above

    def draw(slide: Slide) -> None:
        neighbours(slide, state, [])
        cell(slide, [("pixels near by", "green"), ("$h$ left", "blue"), ("$h$ above", "blue")], ["$f_{left}$", "$f_{up}$"],
             [r"$[o, f_{left}, f_{up}, i, g]\;=\;\ldots\,(W x_{<} + U_1 h_{left} + U_2 h_{up} + b)$",
              r"$c\;=\;f_{left}\odot c_{left}\;+\;f_{up}\odot c_{up}\;+\;i\odot g$", OUTPUT])  # fmt: skip
        slide.text(11.3, 1.35, f"{scan.cell.gates} gates: one forget gate per neighbour", NORMAL, "soft")

    return Still(draw, "Spatial LSTM (RIDE) has a memory in two dimensions: state comes from the left and from above, and each has its "
                       f"forget gate. The cells that state comes from are those that the real layer reads. {UNTRAINED}")  # fmt: skip


def row_lstm() -> Still:
    """Row LSTM: state from three cells of the row above, a row at a time."""
    model = untrained("row-lstm", SEEN, units=4)
    scan, block = _scan(model, RowScan), model.get_submodule("blocks.0.recurrence")
    reads = next((_taps(part) for part in block.children() if hasattr(part, "taps")), [])

    def draw(slide: Slide) -> None:
        neighbours(slide, [(-1, offset) for offset in scan.offsets], [place for place in reads if place != (0, 0)],
                   "$h$ comes from here, $c$ from straight above")
        cell(slide, [("1 x 3 conv.,\nmask B", "green"), ("1 x 3 conv. of\n$h$ above", "blue")], ["$f$"],
             [GATES + r"$(K^{is} * x\;+\;K^{ss} * h_{above})$", MEMORY.replace("before", "above"), OUTPUT])  # fmt: skip
        slide.text(11.3, 1.35, "a row at a time, all its pixels at once", NORMAL, "soft")

    return Still(draw, "Row LSTM runs down the image, a whole row in one step: state comes from three cells of the row above, so a pixel "
                       f"sees a triangle. Both kernels are those of the real layer. {UNTRAINED}")  # fmt: skip


def diagonal_bilstm() -> Still:
    """Diagonal BiLSTM: state from the left and from above, from both sides."""
    model = untrained("diagonal-bilstm", SEEN, units=4)
    scan = _scan(model, DiagonalScan)

    def draw(slide: Slide) -> None:
        neighbours(slide, [(offset, -1 - offset) for offset in scan.offsets], [], "$h$ comes from here, $c$ from the left")
        cell(slide, [("1 x 1 conv.,\nmask B", "green"), ("2 x 1 conv. of $h$,\ncolumn before", "blue")], ["$f$"],
             [GATES + r"$(K^{is} * x\;+\;K^{ss} * h_{column\ before})$", MEMORY.replace("before", "left"), OUTPUT])  # fmt: skip
        slide.text(11.3, 1.35, "a diagonal at a time; a second one comes from the right", NORMAL, "soft")

    return Still(draw, "Diagonal BiLSTM: in the skewed map a diagonal is a column, so one step computes it whole. State comes from the "
                       "left and from above; a second LSTM comes from the right, one row up, and the two are added. "
                       f"{UNTRAINED}")  # fmt: skip


def skewed_map() -> Still:
    """A map and its skewed form, with the cells that one step computes and those that it reads."""
    side = 6
    numbers = torch.arange(1, side * side + 1).view(1, side, side, 1)
    turned, scan = skew(numbers)[0, ..., 0], DiagonalScan(1)
    line = 6  # the diagonal that is computed
    row = 4
    reads = [(row + offset, line - 1) for offset in scan.offsets]
    shades = ("blue 20", "green 20", "orange 20", "purple 20")

    def draw(slide: Slide) -> None:
        def kind(r: int, c: int, at: int) -> str:
            return "blue 75" if at == line else shades[at % 4]

        values = numbers[0, ..., 0].tolist()
        slide.text(2.9, 1.0, "map", LARGE, bold=True)
        slide.grid(0.5, 2.0, 0.8, [[kind(r, c, r + c) for c in range(side)] for r in range(side)],
                   [[str(v) for v in row] for row in values], NORMAL)  # fmt: skip
        slide.arrow((5.55, 4.4), (6.35, 4.4), thick=3)
        slide.text(11.0, 1.0, "skewed: row $i$ moved $i$ to the right", LARGE, bold=True)
        kinds = [["" if not v else kind(r, c, c) for c, v in enumerate(each)] for r, each in enumerate(turned.tolist())]
        slide.grid(6.6, 2.0, 0.8, kinds, [[str(v) if v else "" for v in each] for each in turned.tolist()], NORMAL)
        for r, c in reads:
            slide.frame(6.6 + c * 0.8, 2.0 + r * 0.8, 0.8, 0.8, "red", 4)
        slide.frame(6.6 + line * 0.8, 2.0 + row * 0.8, 0.8, 0.8, "ink", 4)
        slide.text(8, 7.5, "One step computes a column of the skewed map (a diagonal of the map) at once.", NORMAL + 1)
        slide.text(8, 8.15, "The cell in the black frame reads those in red: its left neighbour, and the one above.", NORMAL + 1, "soft")

    return Still(draw, "The map of a Diagonal BiLSTM and the same skewed by the real layer's function; what a cell reads are the layer's "
                       f"offsets {scan.offsets}. An image of {side} x {side} takes {turned.shape[1]} steps, not "
                       f"{side * side}. {UNTRAINED}")  # fmt: skip


# ── what they see ────────────────────────────────────────────────────────────────────────────────────────────────────────


def reach() -> Still:
    """What one pixel sees in six models, side by side."""
    shown = {
        "pixel-lstm": "the whole past,\nthrough a chain", "spatial-lstm": "left and above", "row-lstm": "a triangle",
        "diagonal-bilstm": "all but one pixel", "pixelcnn": "a cone with a blind spot", "gated-pixelcnn": "a rectangle",
    }  # fmt: skip
    sizes: dict[str, dict[str, Any]] = {
        "pixel-lstm": {"units": 8}, "spatial-lstm": {"units": 4}, "row-lstm": {"layers": 1, "units": 4, "first_kernel": 3},
        "diagonal-bilstm": {"layers": 1, "units": 4, "first_kernel": 3}, "pixelcnn": {"layers": 4, "channels": 4, "first_kernel": 3},
        "gated-pixelcnn": {"layers": 5, "channels": 4},
    }  # fmt: skip
    found, depth = {}, {}
    for name, more in sizes.items():
        model = untrained(name, SEEN, **more)
        found[name], depth[name] = kinds_of(model), getattr(model.config, "layers", 1)

    def draw(slide: Slide) -> None:
        side = 0.212
        for n, (name, words) in enumerate(shown.items()):
            x, y = 0.55 + 5.15 * (n % 3), 0.75 + 4.0 * (n // 3)
            slide.grid(x, y, side, found[name])
            slide.text(x + FIELD * side + 0.15, y + 0.6, NAMES[name].replace(" ", "\n"), NORMAL, align="left", bold=True)
            layers = f"{depth[name]} layer{'s' * (depth[name] > 1)}"
            slide.text(x + FIELD * side + 0.15, y + 1.5, layers, SMALL, "soft", "left")
            slide.text(x + FIELD * side / 2, y - 0.12, words.replace("\n", " "), SMALL, "soft", level="bottom")
        legend(slide, 8.6)

    return Still(draw, f"What the pixel in row {AT[0] + 1}, column {AT[1] + 1} of a {FIELD} x {FIELD} image sees, measured by changing "
                       "every other pixel in the real model with random weights: PixelRNNs of one layer, PixelCNNs of some, kernels of 3 "
                       f"x 3. {UNTRAINED}")  # fmt: skip


# ── blocks and sizes ─────────────────────────────────────────────────────────────────────────────────────────────────────


def residual(trained: Trained) -> Still:
    """Residual and skip connections, with the channels of a model."""
    model = trained.model
    if not isinstance(model, PixelRNN):
        raise ValueError(f"{trained.address}: expected a row-lstm or a diagonal-bilstm, got {trained.label}")
    h, layers, skip = model.config.units, model.config.layers, model.config.skip
    name = NAMES[trained.label]

    def draw(slide: Slide) -> None:
        slide.text(4.4, 0.7, "residual block", LARGE, bold=True)
        x = 4.0
        for y, words, colour in ((7.7, "$x$: $2h$ = " + str(2 * h), "soft"), (5.6, f"{name}\n$2h \\to h$ = {h}", "blue"),
                                 (3.7, f"1 x 1 conv.\n$h \\to 2h$ = {2 * h}", "green")):  # fmt: skip
            slide.box(x, y, 2.9, 1.1, words, colour, f"{colour} 20", NORMAL)
        slide.arrow((x, 7.15), (x, 6.18), thick=3)
        slide.arrow((x, 5.05), (x, 4.28), thick=3)
        slide.arrow((x, 3.15), (x, 2.35), thick=3)
        slide.box(x, 2.0, 0.7, 0.7, "+", "ink", "paper", LARGE)
        slide.line([(x + 1.45, 7.7), (x + 2.3, 7.7), (x + 2.3, 2.0), (x + 0.38, 2.0)], "red", 3, arrow=True)
        slide.text(x + 2.45, 4.9, "as it is", NORMAL, "red", "left")
        slide.arrow((x, 1.65), (x, 1.1), thick=3)
        slide.text(12.0, 0.7, "skip connections", LARGE, bold=True)
        for n in range(4):
            y, last = 7.6 - 1.5 * n, n == 3
            slide.box(10.4, y, 2.4, 0.9, f"block {layers if last else n + 1}", "blue", "blue 20", NORMAL)
            if n == 2:
                slide.text(10.4, y - 0.72, "⋮", LARGE)
            elif not last:
                slide.arrow((10.4, y - 0.45), (10.4, y - 1.02))
            slide.line([(11.6, y), (13.6, y)], "orange", 3, dashed=not skip)
            slide.box(12.5, y, 1.0, 0.6, "1 x 1", "orange", "orange 20" if skip else "paper", SMALL)
        slide.line([(13.6, 7.6), (13.6, 1.9)], "orange", 3, arrow=True, dashed=not skip)
        slide.box(13.6, 1.55, 2.6, 0.65, "output", "soft", "soft 20", NORMAL)
        if not skip:
            slide.line([(10.4, 2.65), (10.4, 1.55), (12.28, 1.55)], "ink", 2.2, arrow=True)
            slide.text(12.0, 8.5, "dashed: the paper has them, this model does not", NORMAL, "orange")

    has = "with" if skip else "without"
    return Still(draw, "A layer adds to what comes in, so its input reaches every depth; with skip connections every block also reaches "
                       f"the output. {name} with {layers} layers, h = {h}, {has} skip connections.")  # fmt: skip


def architecture() -> Still:
    """The table of architectures: the presets "paper" of three systems for colour, as they are built."""
    spec = ImageSpec(3, 32, 32, 256)
    columns = []
    for name in NETWORKS:
        with torch.device("meta"):
            model: Any = MODELS[name](spec, MODELS[name].preset("paper", spec))
        config = model.config
        h = getattr(config, "units", None) or config.channels
        middle = {
            "pixelcnn": f"3 x 3 conv., mask B\nbetween 1 x 1, {2 * h} → {h} → {2 * h}",
            "row-lstm": f"Row LSTM, $h$ = {h}\n1 x 3 conv., mask B (i-s)\n1 x 3 conv., no mask (s-s)",
            "diagonal-bilstm": f"Diagonal BiLSTM, $h$ = {h}\n1 x 1 conv., mask B (i-s)\n2 x 1 conv., no mask (s-s)",
        }[name]
        parameters = sum(parameter.numel() for parameter in model.parameters())
        columns.append((NAMES[name], config, h, middle, parameters))

    def draw(slide: Slide) -> None:
        for n, (name, config, h, middle, parameters) in enumerate(columns):
            x = 3.1 + 4.95 * n
            slide.text(x, 0.6, name, LARGE, bold=True)
            first = f"{config.first_kernel} x {config.first_kernel} conv., mask A, {2 * h} channels"
            slide.box(x, 1.75, 4.6, 0.85, first, "orange", "orange 15", SMALL + 1)
            slide.box(x, 3.65, 4.6, 1.75, middle, "blue", "blue 15", SMALL + 2)
            slide.text(x + 0.3, 2.47, f"{config.layers} ×", NORMAL, "blue", "left", bold=True)
            out = f"relu, 1 x 1 conv., mask B,\n{config.hidden:,} channels; {config.output_layers} ×"
            slide.box(x, 5.75, 4.6, 1.1, out, "green", "green 15", SMALL + 1)
            slide.box(x, 7.2, 4.6, 0.8, f"{spec.levels}-way softmax per colour", "purple", "purple 15", SMALL + 1)
            slide.text(x, 8.3, f"{parameters / 1e6:.1f} million parameters", NORMAL, "soft")
            for y0, y1 in ((2.2, 2.74), (4.55, 5.17), (6.32, 6.78)):
                slide.arrow((x, y0), (x, y1))

    return Still(draw, "The three architectures for colour images of 32 x 32, preset \"paper\", with parameters counted in the built "
                       "models, which are not trained; all blocks are residual, and with skip connections to the output.")  # fmt: skip


class Compared(NamedTuple):
    """A model of a comparison.

    trained: itself.
    drawn: some of its samples.
    score: of held-out images, as its folder states it.
    published: the paper's score in the same unit, if there is one.
    seconds: of CPU time that AT_ONCE samples take.
    forward: the same of the log-probabilities of as many images.
    """

    trained: Trained
    drawn: list[np.ndarray]
    score: Score
    published: list[float]
    seconds: float
    forward: float


def _published(origin: Origin) -> list[float]:
    """The first published score of a model's recipe, if there is one in the unit of its own."""
    recipe = RECIPES.get(origin.recipe or "")
    return [] if recipe is None else [score.value for score in recipe.published if score.unit == origin.results[0].unit][:1]


def comparison(*models: Trained) -> Still:
    """Networks on the same data: what each draws, its score with the paper's, and the time of a sample, measured here."""
    rows = []
    for trained in models:
        model, origin = raster(trained), trained.origin
        if not origin.results or origin.results[0].unit != models[0].origin.results[0].unit:
            raise ValueError(f"{trained.address}: expected models whose folders state a score, all in the same unit")
        x = images_for(trained, AT_ONCE)[0]
        drawn = sample(model, AT_ONCE, seed=0, progress=False).as_subclass(Tensor)
        draws, passes = _fastest(lambda m=model: sample(m, AT_ONCE, progress=False)), _fastest(lambda m=model, x=x: m.log_prob(x))
        rows.append(Compared(trained, pixels(drawn[:5] / (model.spec.levels - 1)), origin.results[0], _published(origin), draws, passes))
    values = [value for row in rows for value in (row.score.value, *row.published)]
    spread = max(max(values) - min(values), 0.05 * max(values))
    low, high, slowest = min(values) - 0.15 * spread, max(values) + 0.6 * spread, max(row.seconds for row in rows)  # room for the number

    def draw(slide: Slide) -> None:
        step = min(1.75, 7.2 / len(rows))
        chart = slide.chart(8.75, 0.75, 4.0, step * len(rows), (low, high), (0, len(rows)))
        chart.ticks(round_numbers(low, high))
        slide.text(10.75, 0.4, f"{rows[0].score.unit} per image, held out", SMALL, "soft")
        slide.text(14.4, 0.4, "CPU time per image", SMALL, "soft")
        for n, row in enumerate(rows):
            trained, score, ms = row.trained, row.score, 1000 * row.seconds / AT_ONCE
            middle = 0.75 + step * (n + 0.5)
            slide.text(0.4, middle - 0.3, NAMES.get(trained.label) or trained.label, NORMAL, align="left", bold=True)
            trained_for = trained.origin.trained_for.removesuffix(" of one core")
            slide.text(0.4, middle + 0.25, f"{trained.parameters / 1000:,.0f}k parameters\n{trained_for}", SMALL - 2, "soft", "left")
            slide.sheet(2.95, middle - step / 2 + 0.06, 5.6, step - 0.12, [row.drawn])
            up = len(rows) - n - 0.5
            slide.line([chart.at(low, up), chart.at(high, up)], "fill", 2)
            for value, colour, filled in (*((value, "soft", False) for value in row.published), (score.value, "blue", True)):
                chart.dot(value, up, colour, filled)
            px, py = chart.at(score.value, up)
            slide.text(px + 0.15, py - 0.3, score.number, SMALL, "blue", "left", bold=True)
            slide.line([(13.35, middle), (13.35 + 2.1 * row.seconds / slowest, middle)], "orange 70", 10)
            slide.text(13.3, middle - 0.4, f"{ms:.1f} ms, {row.seconds / row.forward:.2f} forward", SMALL - 1, align="left")
        if any(row.published for row in rows):
            slide.text(10.75, 8.7, "○ published, after a longer training", SMALL - 1, "soft")

    return Still(draw, "The same data, about the same size: five samples of each (not selected), the held-out score (on an axis that does "
                       "not begin at 0), and the CPU time of a sample, "
                       f"{AT_ONCE} at once, measured now on this machine, also in forward passes of as many images.")  # fmt: skip


def _fastest(act: Callable[[], object], times: int = 2) -> float:
    """Seconds of CPU time that something takes once it is compiled: the least of ``times``."""
    act()
    found = []
    for _ in range(times):
        begin = time.process_time()
        act()
        found.append(time.process_time() - begin)
    return min(found)


# ── multi-scale ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def multiscale(coarse_first: Trained, row_by_row: Trained, seed: int) -> Still:
    """Samples of a multi-scale PixelRNN while they grow, beside those of another model when it knows as many values."""
    scales, other = raster(coarse_first), raster(row_by_row)
    spec = scales.spec
    if not isinstance(scales, MultiscalePixelRNN) or other.spec != spec:
        raise ValueError(f"{coarse_first.address}, {row_by_row.address}: expected a multiscale-pixelrnn, and another model of its images")
    spacings = scales.spacings
    sides = [(-(-spec.height // space), -(-spec.width // space)) for space in spacings]
    counts = [spec.channels * height * width for height, width in sides]
    grown, others = (pixels(sample(model, 3, seed=seed).as_subclass(Tensor) / (spec.levels - 1)) for model in (scales, other))

    def draw(slide: Slide) -> None:
        heads = [f"\n{count:,} values" for count in counts]
        coarse = [f"{count:,} values\n{height} x {width}" for count, (height, width) in zip(counts, sides, strict=True)]
        growing = [[picture[::space, ::space] for space in spacings] for picture in grown[:2]]
        placed = [hatched(grown[0], known_before(scales, count)) for count in counts]
        rows = [[hatched(picture, known_before(other, count)) for count in counts] for picture in others]
        halves = (0.2, "coarse to fine", coarse_first, [placed, *growing], coarse), (8.2, "row by row", row_by_row, rows, heads)
        for left, name, trained, cells, above in halves:
            slide.text(left + 3.8, 0.4, f"{name}: {trained.score}".removesuffix(": "), NORMAL, bold=True)
            slide.sheet(left, 0.8, 7.6, 8.0, cells, (), above, SMALL, 0.12)

    return Still(draw, f"Samples of a multi-scale PixelRNN, first every {spacings[0]}th pixel of every {spacings[0]}th row, "
                       "then those between them, given the coarser ones; above, where these pixels of the first one lie. Beside it "
                       "a model that goes row by row, when it has decided as many values.")  # fmt: skip


# ── textures ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def ride(trained: Trained) -> Still:
    """Patches, where they surprise RIDE, and its own."""
    from matplotlib import colormaps

    model = raster(trained)
    spec, count = model.spec, 9
    if trained.images is None:
        large = disks(spec.channels, 3 * spec.height, 3 * spec.width) * (spec.levels - 1) // 255
        x = large.unflatten(1, (3, -1)).unflatten(3, (3, -1)).permute(1, 3, 0, 2, 4).flatten(0, 1)
        where = "The patches are no photographs: disks that cover one another, with a camera's noise."
    else:
        x, where = trained.images[:count], ""
    bits = (-model.log_prob_map(x).double().sum(1) / math.log(2)).numpy()
    drawn = sample(model, 2 * count, seed=0).as_subclass(Tensor)

    def draw(slide: Slide) -> None:
        heat, top = colormaps["magma"], float(np.quantile(bits, 0.998))
        maps = [(heat(np.clip(each / top, 0, 1))[..., :3] * 255).astype(np.uint8) for each in bits]
        patches, own = (pixels(each / (spec.levels - 1)) for each in (x, drawn))
        slide.sheet(0.2, 0.2, 15.6, 8.6, [patches, maps, own[:count], own[count:]],
                    ["patches", f"bits per\npixel, up\nto {top:.0f}", "drawn", ""], (), NORMAL, 0.1)  # fmt: skip

    return Still(draw, f"Spatial LSTM with a mixture of Gaussian scale mixtures (RIDE): patches, how many bits each pixel costs, and the "
                       f"model's own draws, not selected. {where}")  # fmt: skip


FIGURES = (
    Figure("plain-lstm", "Can a plain LSTM do it?", plain_lstm, notes="It can, and it is the baseline: everything is seen, but the pixel "
           "above is a row of steps away."),
    Figure("spatial-lstm", "Spatial LSTM", spatial_lstm, notes="Two neighbours, two forget gates: memory in two dimensions, but one pixel "
           "after another."),
    Figure("ride", "Spatial LSTM on textures", ride, ("spatial-lstm",), notes="Edges cost, surfaces are nearly free. What it draws has the "
           "grain of its data, not their things."),
    Figure("row-lstm", "Row LSTM", row_lstm, notes="A row in one step. The price is the triangle: the corners above are never seen."),
    Figure("diagonal-bilstm", "Diagonal BiLSTM", diagonal_bilstm, notes="All earlier pixels but one are seen, in height + width − 1 "
        "steps. The right-to-left half is moved down a row, or it would see the future."),
    Figure("skewed-map", "The skewed map", skewed_map, notes="A trick of indexing: a diagonal becomes a column, and a convolution of two "
        "by one is all that a step needs."),
    Figure("reach", "What one pixel sees", reach, notes="Measured, not drawn: every other pixel was changed, and it was recorded whether "
        "the prediction moved. The Diagonal BiLSTM misses one pixel: mask A removes the last value of a row from all "
        "maps of that row."),
    Figure("residual", "Residual and skip connections", residual, (DIAGONAL,), notes="Many layers train because each only adds "
        "something: the paper has twelve, with skip connections."),
    Figure("architecture", "The architectures", architecture, notes="The three differ in the middle row alone."),
    Figure("comparison", "The four compared", comparison, ("pixel-lstm", "pixelcnn", "row-lstm", DIAGONAL), several=True, notes="One "
           "data set, one size. What each sees differs, and so does how long it was trained, below its name; docs/results.md has scores at "
           "equal times."),
    Figure("multiscale", "From coarse to fine", multiscale, ("multiscale-pixelrnn", DIAGONAL), seed=104, notes="Any order of the chain "
           "rule will do. Coarse first decides what it is before it decides the details."),
)  # fmt: skip
