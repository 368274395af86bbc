"""Models of several kinds compared at an equal budget of training on the same images: the lecture's table, measured.

For each model and seed: a training, its score, samples; then, against held-out images, sharpness, kernel distance, precision and recall of
what it draws (``quality.py``); the time of a sample; and how many values its latent code has.

Every training has a folder, so a comparison that was stopped goes on where it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adversarial import AdversarialModel
from ..config import DataConfig, RunConfig, TrainConfig
from ..data.dataset import Dataset
from ..evaluation import Pool, score
from ..generation import sample
from ..model import Kind, Model
from ..models import load
from ..raster import RasterModel
from ..recipes import RECIPES, build_model, recipe_for
from ..recipes.recipe import Recipe
from ..strokes import CanvasModel
from ..train import TrainState, resume, train
from ..training.record import fingerprint, holds_run, read_position, read_settings
from .quality import Reference, drawn_by

MODELS = ("gated-pixelcnn", "row-lstm", "draw", "vae", "gran", "dcgan")   # what is compared where nothing else is asked for
LONGEST = 30                   # minutes of a recipe whose settings fit a short training
USUAL = "usual ones"           # settings of a model without such a recipe
TIMES = 10                     # samples that are timed: other programs lengthen some of them
SHOWN = 10                     # pictures of a model that are kept for the plot


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured of one model.

    model: its name. group: "autoregressive", "variational" or "adversarial". parameters: how many.
    kind: of the likelihood; "loss" for none.
    nats: of held-out images, per seed; empty without a likelihood, None for a run that was lost.
    losses: the held-out loss of each seed at the end; None for a run that diverged.
    milliseconds: CPU time of a sample, by the number of images that are drawn at once.
    sharpness, distance, precision, recall: per seed, None for a run that diverged.
    distance_error: standard error of the first seed's distance.
    code: values of the latent code; None for a model without one.
    steps: of the optimiser, per seed.
    settings: the recipe that those of the optimiser are from, or USUAL.
    pictures: some that the first seed drew, (SHOWN, C, H, W) in [0, 1].
    """

    model: str
    group: str
    parameters: int
    kind: Kind
    nats: list[float | None]
    losses: list[float | None]
    milliseconds: dict[int, float]
    sharpness: list[float | None]
    distance: list[float | None]
    distance_error: float
    precision: list[float | None]
    recall: list[float | None]
    code: int | None
    steps: list[int]
    settings: str
    pictures: Tensor = field(repr=False)

    @property
    def diverged(self) -> int:
        """Number of seeds whose run was lost."""
        return sum(loss is None for loss in self.losses)


def mean(values: Sequence[float | None]) -> float:
    """The mean of those that are there; NaN of none."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else math.nan


def spread(values: Sequence[float | None]) -> float:
    """The standard deviation of those that are there; NaN of fewer than two."""
    there = [value for value in values if value is not None]
    return float(torch.tensor(there, dtype=torch.float64).std()) if len(there) > 1 else math.nan


def compare(
    names: Sequence[str],
    data: Dataset,
    reference: Reference,
    budget: RunConfig,
    *,
    folder: Path,
    seeds: int = 3,
    report: Callable[[float, str], object] = lambda done, now: None,
) -> Iterator[Row]:
    """Train and measure models, one after another.

    names: of models, as in ``rastrum.MODELS``.
    data: training images.
    reference: held-out images, which are scored, and which as many drawn pictures are compared with.
    budget: of each training; the first of its steps, minutes and CPU minutes that is used up. Its seed is the first of ``seeds``.
    folder: a folder for each training is made in it; one that is there already is continued, or taken as it is if it has finished.
    seeds: trainings of each model, 3 by default.
    report: called with the number of trainings done, which is fractional, and what is going on.

    Yields a Row per model. Raises ``ValueError`` for a model that does not fit the images; a run that diverges is counted.
    """
    if seeds < 1:
        raise ValueError(f"compare: expected at least 1 seed, got {seeds}")
    chosen = {name: settings_for(name, data) for name in names}
    for recipe in chosen.values():
        build_model(recipe, data)                                         # what does not fit is found out before any training
    for number, (name, recipe) in enumerate(chosen.items()):
        kept: dict[str, list[Any]] = {key: [] for key in ("nats", "losses", "sharpness", "distance", "precision", "recall", "steps")}
        first: dict[str, Any] = {}
        for n in range(seeds):
            run = replace(budget, seed=budget.seed + n, folder=str(folder / f"{name}-{budget.seed + n}"))
            model, state = None, None
            try:
                for state in trained(replace(recipe, run=run), data):
                    report(number * seeds + n + 0.9 * state.fraction, f"training {name}, seed {run.seed}: {state.text}")
                if state is not None and state.interrupted:               # saved, for the next call
                    raise KeyboardInterrupt
                model = load(str(run.folder))
            except ValueError as error:
                if "diverged" not in str(error):
                    raise
            kept["steps"].append(steps_of(Path(str(run.folder)), state))
            if model is None:
                for key in set(kept) - {"steps"}:
                    kept[key].append(None)
                continue
            report(number * seeds + n + 0.9, f"measuring {name}, seed {run.seed}")
            loss = held_out_loss(model, reference.data)
            drawn = drawn_by(model, len(reference.data), seed=run.seed)
            found = reference.measure(drawn)
            measured = {"losses": loss, "nats": loss if model.has_likelihood else None, **asdict(found)}
            for key in set(kept) - {"steps"}:
                kept[key].append(measured[key])
            if not first:
                first = {"milliseconds": sampling_time(model), "code": code_size(model), "distance_error": found.error,
                         "pictures": drawn[:SHOWN]}  # fmt: skip
        model = build_model(recipe, data)
        nothing = {"milliseconds": {}, "distance_error": math.nan, "pictures": torch.empty(0, *data.spec.shape)}
        first = first or nothing | {"code": code_size(model)}
        if not model.has_likelihood:
            kept["nats"] = []
        report((number + 1) * seeds, f"{name} is done")
        yield Row(model=name, group=group_of(model), parameters=sum(p.numel() for p in model.parameters()), kind=model.kind,
                  settings=recipe.name if recipe.name in RECIPES else USUAL, **kept, **first)  # fmt: skip


def settings_for(name: str, data: Dataset) -> Recipe:
    """The model's shortest recipe for images of this shape and number of levels, or else the usual settings.

    name: of the model.
    data: training images.
    """
    spec = data.spec
    shape = (spec.channels, spec.height, spec.width, spec.levels)

    def minutes(recipe: Recipe) -> float:
        return recipe.run.cpu_minutes or recipe.run.minutes or math.inf

    of_it = [recipe for recipe in RECIPES.values() if (recipe.system, recipe.images, recipe.preset) == (name, shape, "small")]
    fitting = [recipe for recipe in of_it if minutes(recipe) <= LONGEST and not recipe.conditional and not recipe.start]
    chosen = min(fitting, key=minutes, default=recipe_for(name, shape))
    return replace(chosen, data=DataConfig(name=data.name))


def trained(recipe: Recipe, data: Dataset) -> Iterator[TrainState]:
    """A training, from where its folder left it; nothing if it has finished.

    recipe: with its run and folder.
    data: training images.
    """
    folder = Path(str(recipe.run.folder))
    if not holds_run(folder):
        yield from train(build_model(recipe, data), data, TrainConfig(optim=recipe.optim, run=recipe.run))
        return
    settings = read_settings(folder)
    if settings["data"] != fingerprint(data) or load(folder).spec != data.spec:
        raise ValueError(f"compare: {str(folder)!r} holds a run on other images; choose another folder, or the images it had")
    before = settings["config"]
    if replace(before.run, folder=None, workers=None) != replace(recipe.run, folder=None, workers=None) or before.optim != recipe.optim:
        raise ValueError(f"compare: {str(folder)!r} holds a run with other settings; choose another folder, or the settings it had")
    try:
        yield from resume(folder, data)
    except ValueError as error:
        if "has finished" not in str(error):
            raise


def steps_of(folder: Path, state: TrainState | None) -> int:
    """The number of steps that a run made.

    folder: of the run.
    state: its last, if it went on just now.
    """
    return state.step if state is not None else read_position(folder).step


def held_out_loss(model: Model, images: Dataset) -> float:
    """Nats per image, or of a model without a likelihood its loss.

    model: trained.
    images: held out.
    """
    with Pool(1) as pool:
        return score(model.eval(), images, pool, num_samples=1, seed=0).nats


def sampling_time(model: Model, sizes: Sequence[int] = (1, 64)) -> dict[int, float]:
    """CPU milliseconds per image that is drawn, by the number that is drawn at once: the shortest of ``TIMES``.

    model: raster or canvas model.
    sizes: numbers of images.
    """
    sample(model, 1, progress=False)                                      # compiles
    found = {}
    for size in sizes:
        times = []
        for n in range(TIMES):
            begin = time.process_time()
            sample(model, size, seed=n, progress=False)
            times.append(time.process_time() - begin)
        found[size] = 1000 * min(times) / size
    return found


def code_size(model: Model) -> int | None:
    """Values of the latents that an image is drawn from; None for a model that has none.

    model: raster or canvas model.
    """
    if not isinstance(model, CanvasModel):
        return None
    total, state = 0, model.init(1)
    with torch.no_grad():
        while state.t < model.steps:
            prior = model.prior(state)
            total += prior.mean[0].numel()
            model.write(state, prior.mean)
    return total


def group_of(model: Model) -> str:
    """The column of the lecture's table that a model belongs to."""
    return "autoregressive" if isinstance(model, RasterModel) else "adversarial" if isinstance(model, AdversarialModel) else "variational"

