"""The idea: a picture is a sequence of decisions, and each has a distribution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..distributions import Bernoulli, Categorical
from ..generation import complete, generate, sample
from ..pictures.animations import frame_sheet
from ..pictures.decisions import Moment, decision_sheet, moments, usual_scale
from ..pictures.formats import Picture
from ..pictures.page import Page
from ..pictures.sheets import image_scale
from ..protocol import Distribution, Frame
from ..raster import RasterModel
from .figure import DIAGONAL, GATED, Figure, Film, Still, Trained, chosen_words, images_for, temperature_of
from .slide import FINE, HUGE, LARGE, NORMAL, SMALL, Slide, hatched, pixels, round_numbers

SECTION = "One decision after another"
COLOURS, SOFTMAX = "rastrum/pixelcnn-plus-plus-cifar10", "rastrum/row-lstm-mnist"
LOOKED = 8  # pictures in which a decision is looked for
VALLEY, NEAR = 0.5, 24  # two modes: the lowest probability between them is at most this share of the lower one; levels apart
WIDTH = 33  # levels over which probabilities are averaged before modes are looked for


def raster(trained: Trained, what: str = "a raster model of still images") -> RasterModel:
    """The model as a raster model of still images, unconditional. Raises ``ValueError`` for others, naming ``what`` is expected."""
    model = trained.model
    if not isinstance(model, RasterModel) or model.spec.frames > 1 or model.spec.channels not in (1, 3) or model.condition_spec is not None:
        raise ValueError(f"{trained.address}: expected {what}, grey or RGB, without a condition, got {trained.label} of {model.spec}")
    return model


def pmf_of(distribution: Distribution) -> Tensor:
    """Probabilities of all levels, float64 (…, levels)."""
    return distribution.log_pmf().double().exp()


def known_before(model: RasterModel, t: int) -> np.ndarray:
    """Pixels (H, W) bool that are decided, in all channels, before decision t."""
    known = torch.zeros(model.spec.size, dtype=torch.bool)
    known[model.order[:t].cpu()] = True
    return known.view(model.spec.shape).all(0).numpy()


# ── the chain rule ───────────────────────────────────────────────────────────────────────────────────────────────────────


def one_walk(trained: Trained) -> Still:
    """Sampling, completing, scoring, writing and reading a file are one walk over the decisions."""
    model = raster(trained)
    x = sample(model, 1, seed=0).as_subclass(Tensor)
    pmf = pmf_of(model.distribution(x.long())).flatten(1, 3)[0][model.order]
    first = int(model.spec.size * 0.4)  # the least certain decision of the middle
    t = first + int((pmf * pmf.clamp_min(1e-300).log()).sum(1)[first : first + model.spec.size // 3].argmin())
    picture, chances = pixels(x / (model.spec.levels - 1))[0], pmf[t]

    def draw(slide: Slide) -> None:
        slide.image(0.7, 2.7, 3.6, hatched(picture, known_before(model, t)), FINE)
        slide.text(2.5, 7.0, "so far", NORMAL, "soft")
        slide.arrow((4.5, 4.5), (5.5, 4.5), thick=3)
        slide.box(6.7, 4.5, 2.3, 1.5, "model", "blue", "blue 20", LARGE)
        slide.arrow((7.9, 4.5), (8.9, 4.5), thick=3)
        chart = slide.chart(9.1, 3.8, 1.9, 1.3, (-0.5, model.spec.levels - 0.5), (0, float(chances.max()) * 1.1))
        chart.bars(chances, "blue 75", 0.15 if model.spec.levels < 64 else 0.0)
        slide.text(10.0, 5.6, "what may\ncome next", NORMAL - 2, "soft")
        for n, (words, what, colour) in enumerate((
            ("sample", "draw a value", "green"), ("complete", "keep what is known", "green"), ("score", "add $-\\log p$", "purple"),
            ("compress", "write it in $-\\log_2 p$ bits", "orange"), ("decompress", "read it from the file", "orange"),
        )):  # fmt: skip
            y = 1.3 + 1.6 * n
            slide.arrow((11.15, 4.5), (12.0, y), "soft")
            slide.box(13.85, y, 3.6, 1.15, f"{words}\n", colour, f"{colour} 20", NORMAL)
            slide.text(13.85, y + 0.2, what, SMALL, "soft")
            slide.line([(15.65, y), (15.85, y)], "ink", 3)
        slide.line([(15.85, 1.3), (15.85, 8.7), (2.5, 8.7), (2.5, 7.4)], "ink", 3, arrow=True)
        slide.text(6.9, 8.35, "the value is observed, and the next decision is due", NORMAL, "soft")

    return Still(draw, "A model says what may come next, something else chooses: so sampling, completion, exact scores and lossless files "
                       "are the same walk over the decisions, and cannot disagree.")  # fmt: skip


def chain_rule(trained: Trained) -> Still:
    """A picture at four moments, with the probability of its next value, and the bits so far."""
    model = raster(trained)
    x = images_for(trained, 3)[0][2:3]
    log_probs = model.log_prob_map(x).flatten().double()[model.order]
    bits = -(log_probs / math.log(2)).cumsum(0)
    size, picture = model.spec.size, pixels(x.float() / (model.spec.levels - 1))[0]
    uncertain = log_probs.exp().sub(0.5).abs()
    quarters = [int(size * share) for share in (0.28, 0.45, 0.6, 0.78)]
    shown = [t - 40 + int(uncertain[t - 40 : t + 40].argmin()) for t in quarters] if size > 400 else [size * i // 5 for i in range(1, 5)]
    columns = model.spec.width

    def draw(slide: Slide) -> None:
        slide.text(
            8, 0.85, r"$p(x)\;=\;p(x_1)\;p(x_2\,|\,x_1)\;p(x_3\,|\,x_1, x_2)\;\cdots\;=\;$∏$\,_i\;p(x_i\,|\,x_1, \ldots, x_{i-1})$", HUGE
        )
        for i, t in enumerate(shown):
            left, row, column = 0.55 + 3.85 * i, *divmod(int(model.order[t]) % (columns * model.spec.height), columns)
            fine = hatched(picture, known_before(model, t))
            side = slide.image(left, 1.9, 3.4, fine, FINE)
            slide.frame(left + column * side, 1.9 + row * side, side, side, "red", 3.5)
            slide.text(left + 1.7, 5.75, f"{t} values known", NORMAL, "soft")
            slide.text(left + 1.7, 6.3, f"$p$(the next one) = {float(log_probs[t].exp()):.2f}", NORMAL, "red")
            slide.text(left + 1.7, 6.85, f"{chosen_words(float(bits[t - 1]))} bits so far", NORMAL, "blue")
        total = float(bits[-1])
        slide.text(8, 8.1, rf"$-\log_2\,p(x)\;=\;-$∑$\,_i\;\log_2\,p(x_i\,|\,x_{{<i}})\;=\;${chosen_words(total)} bits", LARGE + 4)

    text = f"The probability of a picture is the product of the probabilities of its {size} values, each given the ones before it. "
    return Still(draw, text + images_for(trained, 3)[1])


# ── one decision ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def bimodality(pmf: Tensor, outermost: bool = False) -> Tensor:
    """How large the second mode of each distribution is: its height above the valley before the first, as a share of the first, times the
    probability of all levels that count; 0 without one.

    pmf: (N, levels).
    outermost: whether the outermost levels count, False by default: those of a mixture hold all that lies beyond.

    Returns (N,).
    """
    inside = pmf if outermost else torch.nn.functional.pad(pmf[:, 2:-2], (2, 2))
    smooth = torch.nn.functional.avg_pool1d(inside[:, None], WIDTH, 1, WIDTH // 2)[:, 0]
    height, top = smooth.max(1, keepdim=True)
    levels = torch.arange(pmf.shape[1])
    lower, second = smooth.where((levels - top).abs() >= NEAR, 0.0).max(1, keepdim=True)
    between = (levels >= torch.minimum(top, second)) & (levels <= torch.maximum(top, second))
    valley = smooth.where(between, torch.inf).amin(1, keepdim=True)
    return ((lower - valley) / height).where(valley <= VALLEY * lower, 0.0)[:, 0] * inside.sum(1)


@lru_cache(2)
def least_settled(model: RasterModel) -> tuple[Tensor, Distribution, Tensor, int, str]:
    """The decision with the strongest second mode, or else the largest entropy, in the later two thirds of ``LOOKED`` sampled pictures.

    model: a raster model.

    Returns the picture (1, *spec.shape), its distributions, their probabilities (D, levels), the index of the decision, and what it is.
    """
    spec = model.spec
    temperature = temperature_of(model)
    several = sample(model, LOOKED, temperature=temperature, seed=3).as_subclass(Tensor).long()
    distribution = model.distribution(several)
    pmf = pmf_of(distribution).flatten(1, 3)
    strength, what = torch.zeros(()), "strongest second mode"
    if spec.levels >= 4 * NEAR:
        strength = torch.stack([bimodality(each, isinstance(distribution, Categorical)) for each in pmf])
    if not strength.any():
        strength, what = -(pmf * pmf.clamp_min(1e-300).log()).sum(2), "largest entropy"
    strength[:, model.order[: spec.size // 3].cpu()] = 0.0               # so that there is something to see
    which, index = divmod(int(strength.argmax()), spec.size)
    x = several[which : which + 1]
    drawn = f"{LOOKED} sampled pictures" + (f" (temperature {temperature:g})" if temperature != 1 else "")
    found = f"the one with the {what} in the later two thirds of {drawn}"
    return x, model.distribution(x), pmf[which], index, found


def decision(trained: Trained) -> Still:
    """One decision of a sampled image: what is known, and the probability of each level, where it has two modes."""
    model = raster(trained)
    spec = model.spec
    x, distribution, pmf, index, found = least_settled(model)
    channel, row, column = np.unravel_index(index, spec.shape)
    actual, chances = int(x.flatten()[index]), pmf[index]
    t = int((model.order == index).nonzero())
    kind = {Categorical: f"a softmax over {spec.levels} levels", Bernoulli: "a sigmoid"}.get(type(distribution), "a mixture of logistics")
    name = ("red", "green", "blue")[channel] if spec.channels == 3 else "grey"

    def draw(slide: Slide) -> None:
        fine = hatched(pixels(x.float() / (spec.levels - 1))[0], known_before(model, t))
        side = slide.image(0.6, 1.3, 5.8, fine, FINE)
        slide.frame(0.6 + column * side, 1.3 + row * side, side, side)
        slide.text(3.3, 7.5, f"{t:,} of {spec.size:,} values are known", NORMAL, "soft")
        top = float(chances.max()) * 1.12
        chart = slide.chart(7.9, 1.6, 7.5, 5.4, (-0.5, spec.levels - 0.5), (0, top))
        shade = {"red": "red", "green": "green"}.get(name, "blue")
        chart.bars(chances, [f"{shade} 75" if i != actual else "ink" for i in range(spec.levels)], 0.0 if spec.levels > 64 else 0.2)
        chart.ticks([*range(0, spec.levels, max(1, spec.levels // 4)), spec.levels - 1], round_numbers(0, top), size=NORMAL - 1)
        chart.label(f"{name} of the framed pixel", "probability", NORMAL)
        px, py = chart.at(actual, 0)
        slide.arrow((px, py + 0.45), (px, py + 0.04), "ink", thick=3)
        drawn = f"drawn: {actual}, $-\\log_2 p$ = {-math.log2(float(chances[actual])):.1f} bits"
        slide.text(11.6, 8.35, f"{kind}; {drawn}", NORMAL, "soft")

    return Still(draw, f"One decision, {found}. The model gives a probability to each level by {kind}.")


def colours(trained: Trained) -> Still:
    """Red, then green given red, then blue given both: the three distributions of one pixel."""
    model = raster(trained, "a raster model of RGB images")
    spec = model.spec
    if spec.channels != 3:
        raise ValueError(f"{trained.address}: expected a model of RGB images, got {spec}")
    x = sample(model, 1, seed=3).as_subclass(Tensor).long()
    pmf = pmf_of(model.distribution(x))[0]  # (3, H, W, L)
    entropy = -(pmf * pmf.clamp_min(1e-300).log2()).sum(-1)
    gained = (entropy[0] - entropy[1:].mean(0)).where(entropy[1:].amin(0) >= entropy[1:].median(), 0)
    gained[: spec.height // 4] = 0
    row, column = divmod(int(gained.argmax()), spec.width)

    def draw(slide: Slide) -> None:
        fine = hatched(pixels(x.float() / (spec.levels - 1))[0], np.arange(spec.height * spec.width).reshape(spec.height, -1)
                       < row * spec.width + column)  # fmt: skip
        side = slide.image(0.5, 0.6, 4.3, fine, FINE)
        slide.frame(0.5 + column * side, 0.6 + row * side, side, side, "red")
        given = ("the pixels before", "…, and red", "…, red and green")
        for c, (letter, name) in enumerate(zip("RGB", ("red", "green", "blue"), strict=True)):
            y, value = 0.75 + c * 2.75, int(x[0, c, row, column])
            slide.box(6.35, y + 0.95, 1.15, 1.15, letter, name, f"{name} 20", HUGE)
            slide.text(7.15, y + 0.55, f"$p$({letter} | {given[c]})", NORMAL, "ink", "left", level="bottom")
            chart = slide.chart(8.2, y + 0.6, 7.2, 1.35, (-0.5, spec.levels - 0.5), (0, float(pmf[c, row, column].max()) * 1.05))
            chart.bars(pmf[c, row, column], f"{name} 75")
            chart.ticks([0, spec.levels // 2, spec.levels - 1])
            px, py = chart.at(value, 0)
            slide.arrow((px, py + 0.42), (px, py + 0.04), "ink")
            slide.text(15.4, y + 0.5, f"{float(entropy[c, row, column]):.1f} bits, drawn: {value}", NORMAL, "soft", "right", level="bottom")
            if c < 2:
                slide.arrow((6.35, y + 1.6), (6.35, y + 3.05), "ink", thick=3)
        for c, name in enumerate(("red", "green", "blue")):
            plane = np.zeros((spec.height, spec.width, 3), np.uint8)
            plane[..., c] = pixels(x.float() / (spec.levels - 1))[0][..., c]
            slide.image(0.5 + c * 1.5, 5.6, 1.4, plane)
            slide.text(1.15 + c * 1.5, 7.2, name, SMALL, name)
        slide.text(2.65, 8.0, "a pixel takes three decisions", NORMAL, "soft")

    return Still(draw, "A colour pixel is three decisions: red, then green given red, then blue given both. Shown is the pixel of a "
                       "sampled picture where knowing a colour says most about the next ones, with the entropy of each decision; an arrow "
                       "points to the level that was drawn.")  # fmt: skip


# ── walks ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def walk(trained: Trained, seed: int) -> Film:
    """A picture while it is drawn: of each row the least certain pixel, with the probabilities of its values."""
    model = raster(trained)

    def frames(page: Page) -> Iterator[Picture]:
        watched = generate(model, 1, seed=seed, probabilities=True)

        def draw(moment: Moment, scale: int | None, unit: float | None) -> Picture:
            return decision_sheet(moment, model.spec, 1, scale, unit)

        return page.frames(draw, moments(watched, model.spec, "row"), usual_scale(model.spec))

    text = "One picture while it is drawn, a frame per row: what is hatched is not decided yet, and the red pixel is the least certain one "
    return Film(frames, text + "of its row. The bars are the probabilities of its values; the one that is drawn is red.", 3)


def rows(trained: Trained) -> Film:
    """Pictures while they are drawn, a row at a time."""
    model = raster(trained)

    def frames(page: Page) -> Iterator[Picture]:
        count, usual = 15, image_scale(None, model.spec.height, model.spec.width)
        columns = page.columns(count, model.spec.height, model.spec.width)

        def draw(frame: Frame, scale: int | None, unit: float | None) -> Picture:
            return frame_sheet(frame, columns, scale or usual, model.order, unit)

        return page.frames(draw, generate(model, count, seed=0), usual)

    return Film(frames, "Fifteen samples, not selected, while they are drawn row by row.", 8)


# ── what a likelihood is good for ────────────────────────────────────────────────────────────────────────────────────────


def completions(trained: Trained) -> Still:
    """Given upper halves, drawn lower halves."""
    model = raster(trained)
    spec, (x, where) = model.spec, images_for(trained, 5)
    known = torch.zeros(spec.shape, dtype=torch.bool)
    known[:, : spec.height // 2] = True
    filled = complete(model, x, known, num_samples=6, seed=0).as_subclass(Tensor)

    def draw(slide: Slide) -> None:
        images, drawn = pixels(x / (spec.levels - 1)), [pixels(each / (spec.levels - 1)) for each in filled]
        cells = [[image, hatched(image, known.all(0).numpy()), *others] for image, others in zip(images, drawn, strict=True)]
        slide.sheet(0.3, 0.2, 15.4, 8.6, cells, (), ["image", "given", *(f"drawn {n}" for n in range(1, 7))], NORMAL)

    return Still(draw, f"Given the upper half of an image, the model draws lower halves. {where}")


def surprise(trained: Trained) -> Still:
    """Where images surprise a model, in bits per pixel."""
    from matplotlib import colormaps

    model = raster(trained)
    x, where = images_for(trained, 6)
    bits = (-model.log_prob_map(x).double().sum(1) / math.log(2)).numpy()
    top, heat = float(np.quantile(bits, 0.999)), colormaps["magma"]

    def draw(slide: Slide) -> None:
        maps = [(heat(np.clip(each / top, 0, 1))[..., :3] * 255).astype(np.uint8) for each in bits]
        slide.sheet(0.3, 0.3, 15.4, 6.6, [pixels(x.float() / (model.spec.levels - 1)), maps], ["image", "bits"],
                    [f"{each.sum():.0f} bits" for each in bits], NORMAL, 0.1)  # fmt: skip
        scale = (heat(np.linspace(0, 1, 240))[None, :, :3] * 255).astype(np.uint8).repeat(12, 0)
        slide.image(5, 7.35, 6, scale)
        for share in (0, 0.5, 1):
            slide.text(5 + 6 * share, 7.95, f"{share * top:.1f}", SMALL, "soft")
        slide.text(8, 8.5, "bits per pixel", NORMAL, "soft")

    return Still(draw, f"How many bits each pixel costs: strokes are predicted, where they begin and end is not. {where}")


FIGURES = (
    Figure("chain-rule", "The chain rule", chain_rule, (GATED,), notes="No approximation: any distribution is such a product, in any "
        "order. A model only has to predict one value from the ones before it, as a language model does."),
    Figure("one-walk", "One walk for everything", one_walk, (DIAGONAL,), notes="Learn the distribution once; sampling, completing, "
        "scoring and compressing differ only in who chooses."),
    Figure("decision", "One decision", decision, (SOFTMAX,), notes="The prediction is a whole distribution: two modes say 'either this or "
           "that', which a regression to the mean cannot."),
    Figure("colours", "Red, then green, then blue", colours, (COLOURS,), notes="Red costs most. Given red, green is much less open, "
           "and so is blue: the three channels are alike."),
    Figure("walk", "A picture while it is drawn", walk, (DIAGONAL,), seed=4, notes="Stop it where the bars are about even: "
        "there a small accident decides which digit this becomes."),
    Figure("rows", "Samples, row by row", rows, (DIAGONAL,), notes="Fifteen at once take about a third of the time of fifteen in turn."),
    Figure("completions", "Completion is the same walk", completions, (DIAGONAL,), notes="What is known is kept, what is not is drawn: "
           "nothing was trained for this."),
    Figure("surprise", "Where the bits are", surprise, (GATED,), notes="These are exact: their sum is the size of the compressed file."),
)  # fmt: skip
