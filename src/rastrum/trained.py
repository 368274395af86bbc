"""``rastrum.train(…)``: a training run from its names to its end, in one call. ``rastrum.train.train`` is the loop itself, step by step.

    run = rastrum.train("gated-pixelcnn", "digits", minutes=2)     any model, data by name or path
    run = rastrum.train("gated-pixelcnn-digits")                   a recipe, with its data and budget
    run = rastrum.train(model, images, steps=1000)                 a model of your own, levels of your own
    rastrum.sample(run.model, 16)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from . import train as loop
from .checkpoint import Origin
from .config import DataConfig, DataOptions, TrainConfig
from .data.dataset import Dataset, load_dataset
from .evaluation import Evaluation
from .images import Images
from .model import Model
from .models import MODELS
from .notebook import safe, table
from .pictures.formats import Picture, encode_picture, picture_of
from .pictures.plots import learning_curve
from .progress import Progress, bar, clock
from .protocol import ArrayLike, ImageSpec
from .recipes import RECIPES, Recipe, build_model, recipe_for
from .train import TrainState
from .training.record import score_of, with_data

POINTS = 400                   # of a curve
BUDGETS = ("steps", "minutes", "cpu_minutes")


@dataclass(frozen=True)
class Point:
    """The mean of some steps on a curve.

    step: the last of them.
    seconds: of training until then.
    loss: mean loss, nats per image where the model has a likelihood.
    bits_per_dim: the same in bits per dimension; None where the loss is not a likelihood.
    """

    step: int
    seconds: float
    loss: float
    bits_per_dim: float | None


@dataclass(frozen=True)
class Trained:
    """A run that has ended; a notebook shows its curve.

    model: with the averaged weights, in evaluation mode.
    steps: of the optimiser.
    seconds: that they took.
    curve: the loss on training images.
    evaluations: of held-out images, with the step of each; empty without such images.
    interrupted: whether Ctrl-C or another signal ended it early; ``model`` is what was learned until then.
    folder: where the run is saved, to be resumed with ``rastrum.train.resume``; None where it is not.
    """

    model: Model
    steps: int
    seconds: float
    curve: tuple[Point, ...]
    evaluations: tuple[tuple[int, Evaluation], ...] = ()
    interrupted: bool = False
    folder: Path | None = None

    @property
    def evaluation(self) -> Evaluation | None:
        """The last score on held-out images; None without such images."""
        return self.evaluations[-1][1] if self.evaluations else None

    def picture(self) -> Picture:
        """The learning curve as a picture."""
        bits = all(point.bits_per_dim is not None for point in self.curve)
        unit = "bits_per_dim" if bits else "loss"
        curves: dict[str, Any] = {"training": ([point.step for point in self.curve], [getattr(point, unit) for point in self.curve])}
        if self.evaluations:
            scores = [score.bits_per_dim if bits else score.nats for _, score in self.evaluations]
            curves["held out"] = ([step for step, _ in self.evaluations], scores)
        name = "bits/dim" if bits else "nats per image" if self.model.has_likelihood else "loss"
        return picture_of(learning_curve(curves, "steps", name))

    def __repr__(self) -> str:
        end = " (interrupted)" if self.interrupted else ""
        score = "" if self.evaluation is None else f"; held out {self.evaluation}"
        return f"Trained({type(self.model).__name__}: {self.steps:,} steps in {clock(self.seconds)}{end}{score})"

    @safe
    def _repr_html_(self) -> str:
        rows = {
            "steps": f"{self.steps:,} in {clock(self.seconds)}" + (", interrupted" if self.interrupted else ""),
            "loss": f"{self.curve[-1].loss:.3f}",
            "held out": self.evaluation,
            "folder": self.folder,
        }
        return table(f"{type(self.model).__name__}, trained", rows, encode_picture(self.picture()))


def train(
    model: Model | str,
    data: Dataset | ArrayLike | str | Path | None = None,
    config: TrainConfig | None = None,
    *,
    held_out: Dataset | ArrayLike | str | Literal[False] | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    preset: str | None = None,
    conditional: bool | None = None,
    levels: int | None = None,
    options: DataOptions | None = None,
    folder: str | Path | None = None,
    seed: int | None = None,
    device: str | None = None,
    progress: Progress = None,
) -> Trained:
    """Train a model to the end of its budget. Ctrl-C, or interrupting a notebook's cell, lets the step finish and keeps what is learned.

    model: a Model, which is trained in place; the name of one, which is built for the data; or the name of a recipe.
    data: a Dataset; its name or the path of a folder, an image or an array, as ``load_dataset`` takes it; or levels (N, *spec.shape), torch
        or numpy. None (default) for a recipe's own.
    config: optimiser and budget; None (default) for those of the recipe, else usual ones, which no run was tuned by.
    held_out: images that are scored ten times on the way: a Dataset, levels, or a split of ``data`` by its name. None (default): what is
        held out of a data set that is given by name, else nothing. False for nothing.
    minutes, steps: the budget, in place of that of ``config``; by default ten minutes, or the recipe's. With both, the run ends when
        the first is used up.
    preset: of a model that is given by its name: "tiny", "small", "paper" or another that it has; None (default) = "small".
    conditional: whether a model that is given by its name is conditioned on what the data know of each image; None (default): as the recipe
        says, else not.
    levels: number of levels, of data that are an array; None (default): that of the model, or what ``Images`` know.
    options: preprocessing of data that are given by name; None (default) for none, or the recipe's.
    folder: a new or empty folder for checkpoints, metrics and the model; None (default) for none.
    seed: of the parameters, the order of the images and all noise; None (default): that of ``config``.
    device: where to train: cpu, cuda, cuda:1, mps, or auto; None (default): as ``config`` says, else cpu.
    progress: a bar; None (default): in a terminal or a notebook after two seconds, True: at once, False: never; or a function that is
        called with the fraction done.

    Returns the run: ``.model``, ``.evaluation`` and its curve.
    Raises ``ValueError``, before the first step, for an unknown name, data that do not fit, and settings out of range; later for a loss
    that diverges.
    """
    if not (config is None or isinstance(config, TrainConfig)):
        raise ValueError(f"config: expected a TrainConfig, got {type(config).__name__}")
    for option, value, kind in (("minutes", minutes, (int, float)), ("steps", steps, int), ("seed", seed, int)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            raise ValueError(f"{option}: expected a {'whole ' if kind is int else ''}number, got {value!r}")
    recipe = _recipe(model)
    chosen, data_config = _data(recipe, model, data, levels, options)
    watched = _held_out(chosen, data_config, held_out)
    spec = chosen.spec
    images = (spec.channels, spec.height, spec.width, spec.levels, *([spec.frames] if spec.frames > 1 else []))
    if recipe is None:
        system = model if isinstance(model, str) else str(getattr(type(model), "name", ""))
        settled, name = replace(recipe_for(system, images), preset=preset or "small"), None
    elif preset is not None:
        raise ValueError(f"preset: {recipe.name} is a recipe and has a model of its own; leave it out, or name the model {recipe.system!r}")
    else:
        settled, name = replace(recipe, images=images), recipe.name
    run = (config or settled).run
    given = {"steps": steps, "minutes": minutes}
    if any(value is not None for value in given.values()):
        run = replace(run, **{budget: given.get(budget) for budget in BUDGETS})
    elif config is not None and all(getattr(run, budget) is None for budget in BUDGETS):
        run = replace(run, minutes=settled.run.minutes, steps=settled.run.steps, cpu_minutes=settled.run.cpu_minutes)
    run = replace(run, folder=run.folder if folder is None else str(folder), seed=run.seed if seed is None else seed)
    run = run if device is None else replace(run, device=device)
    settled = replace(settled, optim=(config or settled).optim, run=run)
    settings = TrainConfig(optim=settled.optim, run=run)
    loop.check_config(settings)
    for option, value in (("conditional", conditional), ("preset", preset)):
        if value is not None and isinstance(model, Model):
            raise ValueError(f"{option}: a Model is what it is already; leave it out, or give the name of a model, which is then built")
    if conditional is not None:
        settled = replace(settled, conditional=conditional)
    network = build_model(settled, chosen) if isinstance(model, str) else model
    origin = Origin(recipe=name, tuned_on=None if recipe is None or data is not None else recipe.tuned_on)
    return _run(network, chosen, watched, settings, with_data(origin, chosen, watched), progress)


def _recipe(model: Model | str) -> Recipe | None:
    """The recipe of this name; None for a model."""
    if isinstance(model, Model):
        return None
    if not isinstance(model, str):
        raise ValueError(f"train: expected a Model, or the name of a model or a recipe, got {type(model).__name__}")
    if model not in RECIPES and model not in MODELS:
        near = get_close_matches(model, [*MODELS, *RECIPES], 3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"models: {', '.join(MODELS)}; recipes: {', '.join(RECIPES)}"
        raise ValueError(f"train: unknown model or recipe {model!r}; {hint}")
    return RECIPES.get(model)


def _data(
    recipe: Recipe | None,
    model: Model | str,
    data: Dataset | ArrayLike | str | Path | None,
    levels: int | None,
    options: DataOptions | None,
) -> tuple[Dataset, DataConfig | None]:
    """The images to train on, and where they are from if they were given by name."""
    named = data is None or isinstance(data, str | Path)
    if data is None and recipe is None:
        what = repr(model) if isinstance(model, str) else type(model).__name__
        raise ValueError(f"data: {what} is trained on which images? Give a name such as 'digits', a folder, a Dataset or levels")
    if options is not None and not named:
        raise ValueError("options: they prepare data that are given by name; these are images already")
    if levels is not None and (named or isinstance(data, Dataset)):
        raise ValueError("levels: it is for data that are an array; of a data set, options=DataOptions(levels=…) changes them")
    if named:
        if data is None:
            assert recipe is not None
            config = recipe.data
        else:
            config = DataConfig(name=str(data)) if recipe is None else replace(recipe.data, name=str(data))
        if options is not None:
            config = DataConfig(name=config.name, train=config.train, held_out=config.held_out, **vars(options.plain()))
        return load_dataset(config.name, config.train, config), config
    assert data is not None and not isinstance(data, str | Path)
    spec = model.spec if isinstance(model, Model) else None
    return data if isinstance(data, Dataset) else _levels(data, spec, levels, "train"), None


def _levels(x: ArrayLike, spec: ImageSpec | None, levels: int | None, split: str) -> Dataset:
    """Levels of a user's own as a data set."""
    if isinstance(x, list | tuple) and x:
        raise ValueError("data: expected one array of all images, got a list of them; give np.stack(images), or torch.cat of batches")
    if not isinstance(x, Tensor | np.ndarray):
        raise ValueError(f"data: expected a Dataset, a name, a path, or levels as an array, got {type(x).__name__}")
    if spec is None or levels is not None:
        number = levels if levels is not None else x.levels if isinstance(x, Images) else 2 if x.dtype in (bool, torch.bool) else None
        if number is None:
            raise ValueError("levels: how many levels have these images? Give levels=2 for black and white, 256 for 8 bits")
        if x.ndim not in (4, 5):
            raise ValueError(f"data: expected levels (N, C, H, W), or (N, T, C, H, W) of videos, got shape {tuple(x.shape)}")
        *frames, channels, height, width = x.shape[1:]
        if channels not in (1, 3) and width in (1, 3):
            raise ValueError(f"data: images of {channels} channels and {width} columns? Channels come first: give np.moveaxis(x, -1, -3)")
        spec = ImageSpec(channels, height, width, number, frames[0] if frames else 1)
    values = torch.as_tensor(x)
    if not len(values):
        raise ValueError("data: there is no image")
    return Dataset("images", split, spec, values)


def _held_out(data: Dataset, config: DataConfig | None, held_out: Dataset | ArrayLike | str | Literal[False] | None) -> Dataset | None:
    """The images that are scored on the way."""
    if held_out is False or (held_out is None and config is None):
        return None
    if held_out is None or isinstance(held_out, str):
        if config is None:
            raise ValueError(f"held_out: a split such as {held_out!r} is of data that are given by name; give a Dataset or levels")
        return load_dataset(config.name, held_out or config.held_out, config)
    if isinstance(held_out, bool):
        raise ValueError("held_out: expected a Dataset, levels, the name of a split, or False for nothing, got True")
    return held_out if isinstance(held_out, Dataset) else _levels(held_out, data.spec, None, "held out")


def _run(
    model: Model, data: Dataset, held_out: Dataset | None, config: TrainConfig, origin: Origin, progress: Progress
) -> Trained:
    """Train, with a bar."""
    curve: list[Point] = []
    evaluations: list[tuple[int, Evaluation]] = []
    states: list[TrainState] = []
    state, stride = None, 1
    with torch.enable_grad(), bar("training", 1.0, "", progress) as report:
        for state in loop.train(model, data, config, held_out, origin):
            report(state.fraction, text=f"step {state.step:,}  {state.text}")
            states.append(state)
            if state.evaluation is not None:
                evaluations.append((state.step, state.evaluation))
            if len(states) == stride or state.finished:
                bits = [each.bits_per_dim for each in states if each.bits_per_dim is not None]
                loss = sum(each.loss for each in states) / len(states)
                curve.append(Point(state.step, state.elapsed, loss, sum(bits) / len(bits) if len(bits) == len(states) else None))
                states.clear()
            if len(curve) == POINTS:
                curve, stride = [_merged(*pair) for pair in zip(curve[::2], curve[1::2], strict=True)], 2 * stride
    assert state is not None
    results = (score_of(evaluations[-1][1], origin),) if evaluations else ()
    training = f"{state.step:,} steps of {config.optim.batch} in {clock(state.elapsed)}"
    model.origin = replace(origin, training=training, results=results)
    folder = None if config.run.folder is None else Path(config.run.folder)
    return Trained(model, state.step, state.elapsed, tuple(curve), tuple(evaluations), state.interrupted, folder)


def _merged(first: Point, second: Point) -> Point:
    """Two points, of as many steps each, as one."""
    bits = None if first.bits_per_dim is None or second.bits_per_dim is None else (first.bits_per_dim + second.bits_per_dim) / 2
    return replace(second, loss=(first.loss + second.loss) / 2, bits_per_dim=bits)


class TrainModule(ModuleType):
    """What ``rastrum.train`` is for those who call it: this function, and the module of the loop, ``train.py``."""

    __call__ = staticmethod(train)
    train: Callable[..., Any] = staticmethod(loop.train)
    resume: Callable[..., Any] = staticmethod(loop.resume)
