"""The demo: trains a Gated PixelCNN and two DRAWs on the embedded digits, compares their scores with PNG and zlib, and draws with them.

Everything on the page that it writes comes from this run. Held-out digits are never trained on, and nothing is chosen by their score.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as RichTable
from torch import Tensor

from ..applications.bayes_classifier import class_log_probs
from ..config import RunConfig
from ..data.dataset import Dataset, load_dataset
from ..files import write_files
from ..generation import complete, generate, reconstruct, sample
from ..pictures import animations, plots
from ..pictures import sheets as pictures
from ..pictures.films import encode_animation
from ..pictures.formats import Drawing, encode
from ..progress import only
from ..protocol import bits_per_dim
from ..raster import RasterModel
from ..recipes import RECIPES, Recipe, build_model
from ..strokes import CanvasModel
from ..train import train
from .bundled import bundled_pictures
from .page import NAMES, Score, Trained, write_page

SHARE = {"gated": 0.35, "draw": 0.4, "plain": 0.25}  # of the time for training
BATCH = 60                                           # images scored at once
TRAJECTORIES = 16                                    # of an importance-weighted bound


def run_demo(
    folder: str | Path = "demo", minutes: float = 2.0, seed: int = 0, quick: bool = False, device: str = "cpu"
) -> dict[str, Any]:
    """Trains, scores and draws, and writes pictures and ``report.html``.

    folder: where they go.
    minutes: of training, for all models together; everything else takes about half a minute on two cores.
    seed: of the models and their samples; how far training gets in its time also depends on the machine.
    quick: models of a few thousand parameters.
    device: where they are trained, the CPU by default; scores and pictures are always made on the CPU.

    Returns scores, times and the names of the files. Raises ``ValueError`` for a time not above 0.
    """
    if not minutes > 0:
        raise ValueError(f"minutes: expected a time of training above 0, got {minutes}")
    begin = time.perf_counter()
    console = Console(stderr=True)
    digits, held_out = load_dataset("digits", "train"), load_dataset("digits", "test")
    recipes = _recipes(minutes, seed, quick, device)
    with _bars(console) as bar:
        trained = {name: _train(name, recipe, digits, held_out, bar) for name, recipe in recipes.items()}
        drawing = bar.add_task("scores and pictures", total=None, speed="")
        gated, draw, plain = (trained[name].model for name in SHARE)
        per_class = -class_log_probs(gated, held_out.images, held_out.classes)
        scores, right = _scores(digits, held_out, per_class, draw, plain)
        files = bundled_pictures(seed) | _gated_pictures(gated, held_out, per_class, seed) | _draw_pictures(draw, plain, held_out, seed)
        files["learning.svg"] = encode(_learning(trained, scores), ".svg")
        bar.update(drawing, total=1, completed=1)
    seconds = time.perf_counter() - begin
    page = write_page(files, scores, right, trained, len(digits), len(held_out), seconds, seed)
    write_files(folder, {**files, "report.html": page.encode()})
    console.print(_table(scores))
    return {
        "seconds": seconds,
        "scores": [asdict(score) for score in scores],
        "classes_right": right,
        "training": {name: {"steps": t.steps, "seconds": t.seconds, "parameters": t.parameters} for name, t in trained.items()},
        "files": [*files, "report.html"],
    }


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _recipes(minutes: float, seed: int, quick: bool, device: str) -> dict[str, Recipe]:
    """The recipes for the digits, cut to the time; DRAW a second time without attention."""
    gated, draw = RECIPES["gated-pixelcnn-digits"], RECIPES["draw-digits"]
    if quick:
        gated, draw = (replace(recipe, preset="tiny", options={}) for recipe in (gated, draw))
    recipes = {"gated": gated, "draw": draw, "plain": replace(draw, options={**draw.options, "attention": False})}

    def run(name: str) -> RunConfig:
        budget = {"minutes": minutes * SHARE[name], "steps": None, "held_out_images": None, "evaluations": 12}
        return replace(recipes[name].run, seed=seed, device=device, **budget)

    return {name: replace(recipe, run=run(name)) for name, recipe in recipes.items()}


def _train(name: str, recipe: Recipe, digits: Dataset, held_out: Dataset, bar: Progress) -> Trained:
    result = Trained(build_model(recipe, digits))
    task = bar.add_task(NAMES[name], total=1.0, speed="")
    for state in train(result.model, digits, recipe, held_out):
        bar.update(task, completed=state.fraction)
        if state.evaluation is None:
            bar.update(task, speed=f"{state.images_per_second:,.0f} images/s")
        elif state.evaluation.bits_per_dim is not None:
            result.curve[0].append(state.elapsed)
            result.curve[1].append(state.evaluation.bits_per_dim)
        if state.interrupted:
            raise KeyboardInterrupt
        result.steps, result.seconds = state.step, state.elapsed
    result.model.to("cpu")
    return result


@contextmanager
def _bars(console: Console) -> Iterator[Progress]:
    texts = (TextColumn(text) for text in ("{task.percentage:>3.0f}%", "{task.fields[speed]:>14}"))
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with only(), Progress(TextColumn("{task.description:<22}"), BarColumn(24), *texts, *times, console=console) as bar:
        yield bar


# ── scores ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@torch.no_grad()
def _bound(model: CanvasModel, data: Dataset, num_samples: int) -> Tensor:
    """Upper bound on −log p of every image: (N,) float64 nats."""
    starts = range(0, len(data), BATCH)
    return torch.cat([model.nats(data.images[s : s + BATCH], None, num_samples, first=s) for s in starts])


def _scores(
    digits: Dataset, held_out: Dataset, per_class: Tensor, draw: CanvasModel, plain: CanvasModel
) -> tuple[list[Score], float]:
    """Scores of the held-out digits under every model and codec, the worst first, and the share whose class the Gated PixelCNN recognises.

    per_class: −log p(x | class), (N, classes) nats.
    """
    x, labels, spec = held_out.images, held_out.labels, held_out.spec
    assert labels is not None
    without_class = math.log(held_out.classes) - torch.logsumexp(-per_class, 1)
    with_class = per_class.gather(1, labels[:, None]).squeeze(1)
    single, whole = _codecs(x)
    rows = [
        Score("uniform: every level equally likely", math.log2(spec.levels)),
        _score("PNG, one file per image", single["png"], spec.size, "file"),
        Score("PNG, one tall image of them all", 8 * whole["png"] / x.numel(), kind="file"),
        _score("zlib, one stream per image", single["zlib"], spec.size, "file"),
        Score("zlib, one stream of them all", 8 * whole["zlib"] / x.numel(), kind="file"),
        _score("histogram of each pixel, from the training digits", _histogram_nats(digits, x), spec.size),
        _score("DRAW without attention", _bound(plain, held_out, 1), spec.size, "bound"),
        _score(f"DRAW without attention, {TRAJECTORIES} trajectories", _bound(plain, held_out, TRAJECTORIES), spec.size, "bound"),
        _score("DRAW", _bound(draw, held_out, 1), spec.size, "bound"),
        _score(f"DRAW, {TRAJECTORIES} trajectories", _bound(draw, held_out, TRAJECTORIES), spec.size, "bound"),
        _score("Gated PixelCNN, not given the class", without_class, spec.size),
        _score("Gated PixelCNN, given the class", with_class, spec.size),
    ]
    return sorted(rows, key=lambda row: -row.bits), float((per_class.argmin(1) == labels).double().mean())


def _score(name: str, nats: Tensor, size: int, kind: str = "exact") -> Score:
    bits = bits_per_dim(nats.double(), size)
    return Score(name, float(bits.mean()), float(bits.std() / math.sqrt(len(bits))), kind)


def _codecs(x: Tensor) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Size of real files by codec: of each image in nats (N,), and of all images in one file in bytes; one byte per level."""
    n, _, height, width = x.shape

    def png(image: Tensor) -> int:
        return len(pictures.encode_picture(Image.fromarray(image.numpy())))

    def deflate(image: Tensor) -> int:
        return len(zlib.compress(image.numpy().tobytes(), 9))

    codecs = {"png": png, "zlib": deflate}
    single = {name: torch.tensor([8 * math.log(2) * codec(image[0]) for image in x]) for name, codec in codecs.items()}
    return single, {name: codec(x.view(n * height, width)) for name, codec in codecs.items()}


def _histogram_nats(digits: Dataset, x: Tensor) -> Tensor:
    """−log p of images x (N,) when every pixel has its own histogram of the training digits, one added to each count (Laplace)."""
    one_hot = torch.nn.functional.one_hot(digits.images.long().flatten(1), digits.spec.levels)
    counts = one_hot.sum(0).double() + 1
    log_p = torch.log(counts / counts.sum(1, keepdim=True))
    return -log_p.gather(1, x.long().flatten(1).T).sum(0)


def _table(scores: list[Score]) -> RichTable:
    table = RichTable("held-out digits", "bits/dim", "", box=None)
    for score in scores:
        table.add_row(score.name, score.value, score.kind)
    return table


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _gated_pictures(model: RasterModel, held_out: Dataset, per_class: Tensor, seed: int) -> dict[str, bytes]:
    classes, top = held_out.classes, held_out.spec.levels - 1
    digit = [str(c) for c in range(classes)]
    drawn = sample(model, 10 * classes, torch.arange(classes).repeat_interleave(10), seed=seed)
    walk = list(generate(model, classes, torch.arange(classes), seed=seed + 1, every="decision"))
    files = {
        "samples.png": pictures.encode_picture(pictures.sheet(drawn / top, 10, 18, row_labels=digit)),
        "pixels.gif": encode_animation((animations.frame_sheet(f, 5, 36, model.order) for f in walk), fps=12, hold=3),
        "completions.png": pictures.encode_picture(_completions(model, held_out, seed)),
        "decision.svg": encode(_decision(model, held_out), ".svg"),
    }
    nats = per_class.gather(1, held_out.labels[:, None]).squeeze(1)  # pyright: ignore[reportOptionalSubscript]
    rank = nats.argsort()
    chosen = held_out.select(torch.cat([rank[:4], rank[-4:]]))
    with torch.no_grad():
        log_probs = model.log_prob_map(chosen.images, chosen.labels)
    files["surprise.svg"] = encode(plots.surprise_map(chosen.images / top, log_probs), ".svg")
    return files


@torch.no_grad()
def _completions(model: RasterModel, held_out: Dataset, seed: int) -> pictures.Picture:
    """Six completions of the lower half of one held-out digit of each class; its class is drawn from p(class | upper half)."""
    classes, spec, count = held_out.classes, held_out.spec, 6
    chosen = _one_of_each(held_out)
    x, known = chosen.images, torch.zeros(spec.shape, dtype=torch.bool)
    known[:, : spec.height // 2] = True
    log_p = torch.stack([(model.log_prob_map(x, torch.full((len(x),), c)) * known).flatten(1).sum(1) for c in range(classes)], 1)
    guesses = torch.multinomial(log_p.softmax(1), count, True, generator=torch.Generator().manual_seed(seed))
    filled = complete(model, x.repeat_interleave(count, 0), known, guesses.flatten(), seed=seed).unflatten(0, (len(x), count))
    top = spec.levels - 1
    return pictures.completion_sheet(x / top, known, filled / top, 22, [str(c) for c in range(classes)])


@torch.no_grad()
def _decision(model: RasterModel, held_out: Dataset) -> Drawing:
    """The decision in the middle rows of a held-out three with the highest entropy."""
    labels, spec = held_out.labels, held_out.spec
    assert labels is not None
    i = int((labels == min(3, held_out.classes - 1)).nonzero()[0])
    x = held_out.images[i : i + 1]
    log_pmf = model.distribution(x.long(), labels[i : i + 1]).log_pmf()[0].double()
    entropy = -(log_pmf.exp() * log_pmf).sum(-1)
    middle = slice(spec.height // 3, spec.height - spec.height // 3)
    index = int(entropy[0, middle].argmax()) + middle.start * spec.width
    row, column = divmod(index, spec.width)
    known = torch.zeros(spec.size, dtype=torch.bool)
    known[model.order[: int((model.order == index).nonzero())]] = True
    image, probabilities = x[0] / (spec.levels - 1), log_pmf[0, row, column].exp()
    return plots.decision_picture(image, known.view(spec.shape), (row, column), probabilities, int(x[0, 0, row, column]))


def _one_of_each(data: Dataset) -> Dataset:
    """The first image of each class."""
    assert data.labels is not None
    return data.select(torch.stack([(data.labels == c).nonzero()[0, 0] for c in range(data.classes)]))


def _draw_pictures(draw: CanvasModel, plain: CanvasModel, held_out: Dataset, seed: int) -> dict[str, bytes]:
    chosen = _one_of_each(held_out)
    x, top = chosen.images, held_out.spec.levels - 1
    files, originals = {}, pictures.tiles(x / top, 17)
    for name, model in (("draw-attention", draw), ("draw-no-attention", plain)):
        labels = None if model.condition_spec is None else chosen.labels
        walks = zip(generate(model, len(x), labels, seed=seed), reconstruct(model, x, labels, seed), strict=True)
        cells = ([*animations.frame_tiles(imagined, 17), *animations.frame_tiles(copied, 17), *originals] for imagined, copied in walks)
        movie = (pictures.arrange(moment, len(x), ["imagined", "copied", "original"], unit=17 / 8) for moment in cells)
        files[f"{name}.gif"] = encode_animation(movie, fps=3, hold=3)
    labels = None if draw.condition_spec is None else chosen.labels
    frames, digit = list(reconstruct(draw, x, labels, seed)), 2
    files["strokes.png"] = pictures.encode_picture(animations.reconstruction_strip(x[digit] / top, frames, digit, 15))
    return files


def _learning(trained: dict[str, Trained], scores: list[Score]) -> Drawing:
    by_name = {score.name: score.bits for score in scores}
    levels = {"zlib": by_name["zlib, one stream of them all"], "histogram": by_name["histogram of each pixel, from the training digits"]}
    curves: dict[str, Any] = {NAMES[name] + (" (bound)" if name != "gated" else ""): t.curve for name, t in trained.items()}
    return plots.learning_curve(curves, "seconds of training", "held-out bits/dim", levels)
