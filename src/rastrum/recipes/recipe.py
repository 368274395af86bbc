"""What a recipe is: a run that can be repeated, and the facts about it. The recipes themselves are in the files next to this one.

Scores are of the averaged weights: nats per image, or bits/dim = nats / (values of an image · ln 2). In Python:

    recipe = RECIPES["gated-pixelcnn-digits"]
    data, held_out = load_dataset("digits", "train"), load_dataset("digits", "test")
    for state in train(build_model(recipe, data), data, recipe, held_out): ...

Nothing heavy is imported here: a recipe names its system and options, and the model's own config is made of them when it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from ..config import DataConfig, OptimConfig, RunConfig, Score, TrainConfig

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..model import Model

# Shapes of images: channels, height, width, levels, and for videos frames.
DIGITS, BINARY, GREY, COLOUR = (1, 8, 8, 17), (1, 28, 28, 2), (1, 28, 28, 256), (3, 32, 32, 256)

ONE_CORE = "one core of a shared two-core machine"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a run took.

    minutes: by ``clock``.
    steps: of the optimiser; None (default) where they were not counted.
    clock: "cpu" (default), the process' CPU time, or "wall".
    notes: how it differs from the recipe's own budget.
    """

    minutes: float
    steps: int | None = None
    clock: Literal["cpu", "wall"] = "cpu"
    notes: str = ""

    def __str__(self) -> str:
        time = duration(self.minutes) + (" of CPU time" if self.clock == "cpu" else "")
        steps = "" if self.steps is None else f"{self.steps:,} steps"
        more = ", ".join(part for part in (steps, self.notes) if part)
        return f"{time} ({more})" if more else time


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published score.

    value: as published.
    unit: of the value.
    source: the paper.
    sign: "≤" for at most, "<" for below, "" (default) for the value itself.
    decimals: how many are printed, 2 by default.
    notes: what differs from the recipe.
    """

    value: float
    unit: str
    source: str
    sign: Literal["", "≤", "<"] = ""
    decimals: int = 2
    notes: str = ""

    @property
    def number(self) -> str:
        """The value with its sign and decimals."""
        return f"{self.sign} {self.value:.{self.decimals}f}".strip()

    def __str__(self) -> str:
        notes = f"; {self.notes}" if self.notes else ""
        return f"{self.number} {self.unit} ({self.source}{notes})"


@dataclass(frozen=True, kw_only=True)
class Settings(TrainConfig):
    """What can be changed in a recipe: the command line makes its flags from these fields.

    model: the config of the recipe's system.
    data: the images and their preprocessing.
    start: begin with the weights of this saved model; None (default) begins afresh.
    conditional: condition the model on what the data set knows of each image, False by default.
    optim, run: as in ``TrainConfig``.
    """

    model: Any
    data: DataConfig
    start: str | None = None
    """Begin with the weights of this saved model of the same kind, a folder, rastrum/NAME or hf://OWNER/NAME; the rest begins afresh."""
    conditional: bool = False
    """Condition the model on what the data set knows of each image: its vector or spatial map if there is one, else its class."""


@dataclass(frozen=True, kw_only=True)
class Recipe(TrainConfig):
    """A run that can be repeated, with its score.

    name: what ``rastrum train`` calls it.
    about: one sentence.
    system: the model's name in ``rastrum.MODELS``.
    preset: where the model's config begins, "small" by default.
    options: changes to the preset, none by default.
    images: (channels, height, width, levels), or with frames as a fifth: what the preset is made for.
    data, start, conditional, optim, run: the settings, as in ``Settings``.
    flags: more of the training command, none by default.
    then: the commands after training, FOLDER being the folder of the run; none by default.
    hardware: what it ran on; "" (default) where nothing was measured yet.
    budget: what it took, a Budget per run; empty (default) where nothing was measured yet.
    expected: the score to expect; None (default) where nothing was measured yet.
    further: other measured figures, none by default.
    published: scores of the paper, none by default.
    tuned_on: what the settings were chosen on; "test" means on the images of the expected score itself; None (default) = unknown.
    """

    name: str
    about: str
    system: str
    preset: str = "small"
    options: Mapping[str, Any] = field(default_factory=dict)
    images: tuple[int, ...]
    data: DataConfig
    start: str | None = None
    conditional: bool = False
    flags: str = ""
    then: tuple[str, ...] = ()
    hardware: str = ""
    budget: tuple[Budget, ...] = ()
    expected: Score | None = None
    further: tuple[Score, ...] = ()
    published: tuple[Published, ...] = ()
    tuned_on: Literal["validation", "test"] | None = None

    @property
    def model(self) -> Any:
        """The config of the system."""
        from ..models import MODELS
        from ..protocol import ImageSpec

        return MODELS[self.system].preset(self.preset, ImageSpec(*self.images), **self.options)

    @property
    def commands(self) -> tuple[str, ...]:
        """What to type, in order."""
        return (f"rastrum train {self.name} {self.flags}".strip(), *self.then)

    def settings(self) -> Settings:
        """What can be changed, as it is in this recipe."""
        return Settings(**{part.name: getattr(self, part.name) for part in fields(Settings)})

    def changed(self, settings: Settings) -> Recipe:
        """This recipe with other ``settings``; its facts stay those of the original."""
        parts = {part.name: getattr(settings, part.name) for part in fields(Settings)}
        config = parts.pop("model")
        return replace(self, **parts, options={part.name: getattr(config, part.name) for part in fields(config)})

    def facts(self) -> list[str]:
        """What there is to know before repeating it, a line each."""
        time = ", then ".join(map(str, self.budget))
        scores = [] if self.expected is None else [str(self.expected), *map(str, self.further)]
        lines = [
            f"Commands: {', then '.join(self.commands)}",
            f"Hardware and time: {self.hardware}, {time}" if self.budget else "Hardware and time: not yet measured",
            f"Expected score: {'; '.join(scores) or 'not yet measured'}",
        ]
        if self.tuned_on is not None:
            lines.append(TUNED[self.tuned_on])
        return [*lines, *([f"Published: {'; '.join(map(str, self.published))}"] if self.published else [])]


WITHOUT_LIKELIHOOD = ("gran", "dcgan")   # adversarial systems: nothing heavy is imported here, so their classes cannot be asked
# No momentum, so that each half answers what the other does now; no schedule, since neither loss falls.
ADVERSARIAL = OptimConfig(learning_rate=5e-4, betas=(0.0, 0.99), schedule="constant", micro_batch=None)


def recipe_for(system: str, images: tuple[int, ...] = (1, 28, 28, 2), minutes: float = 10.0) -> Recipe:
    """Settings for any model on any data: usual ones, which no run was tuned by.

    system: the model's name in ``rastrum.MODELS``.
    images: (channels, height, width, levels), or with frames as a fifth.
    minutes: of training, 10 by default.
    """
    channels, height, width, levels, *frames = images
    bits = channels * height * width * math.prod(frames) * math.log2(levels)
    canvas = system in ("draw", "conv-draw", "one-shot", "vae")           # their layers are small: a whole batch at once
    clip = max(20.0, float(round(bits / 40)))
    optim = OptimConfig(learning_rate=2e-3, warm_up=100, clip=clip, **({"batch": 64, "micro_batch": None} if canvas else {}))
    if system in WITHOUT_LIKELIHOOD:
        optim = ADVERSARIAL
    run, about = RunConfig(minutes=minutes), f"{system} on images of your choice, given by --data."
    return Recipe(name=system, about=about, system=system, images=images, data=DataConfig(name=""), optim=optim, run=run)


TUNED = {
    "test": "Settings chosen on these test images: expect a slightly worse score on others.",
    "validation": "Settings chosen on validation images.",
}


def duration(minutes: float) -> str:
    """A number of ``minutes`` in words: 54 s, 28 min, 3.5 h."""
    if minutes < 2:
        return f"{round(60 * minutes)} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.3g} h"


def build_model(recipe: Recipe, data: Dataset) -> Model:
    """A fresh model for the images of a data set.

    recipe: names the system and its config; the parameters come from ``recipe.run.seed``, or from ``recipe.start``.
    data: gives the images' spec, and the condition's if the recipe is conditional.

    Raises ``ValueError`` where data and model do not fit, before any training.
    """
    import torch

    from ..data.exemplars import ExemplarSets
    from ..models import MODELS

    if recipe.conditional and data.condition_spec is None:
        remedy = "set conditional=False (--no-conditional)"
        if data.groups is not None:
            remedy = f"set exemplars to the most that an image is given (--data.exemplars), or {remedy}"
        raise ValueError(f"data: {data.name} {data.split} has no class, vector or map to condition the model on; {remedy}")
    if isinstance(data.conditions, ExemplarSets) and not recipe.conditional:
        raise ValueError("data: an unconditional model would ignore the exemplars; set conditional=True (--conditional), or leave them out")
    if isinstance(data.conditions, ExemplarSets) and (most := data.conditions.most) < data.conditions.slots:
        have = f"an image of {data.name} {data.split} has at most {most} others of its kind"
        fits = f"give --data.exemplars {most}" if most else "take more images of each kind"
        raise ValueError(f"exemplars: {have}, so no training would fill {data.conditions.slots} slots; {fits}")
    condition = data.condition_spec if recipe.conditional else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.run.seed)
        model = MODELS[recipe.system](data.spec, recipe.model, condition)
    if recipe.start is not None:
        begin_with(model, recipe.start)
    return model


def begin_with(model: Model, start: str) -> None:
    """Give a model the weights of a saved model of the same kind; parameters that the saved model lacks stay as they are.

    model: changed in place.
    start: a folder, rastrum/NAME or hf://OWNER/NAME.

    Raises ``ValueError`` where the saved model has a parameter that this one does not have, or one of another shape.
    """
    from ..models import load

    weights, ours = load(start).state_dict(), model.state_dict()
    for name, values in weights.items():
        if name not in ours or ours[name].shape != values.shape:
            have = "none" if name not in ours else "x".join(map(str, ours[name].shape))
            raise ValueError(f"start: {start} has {name} of shape {'x'.join(map(str, values.shape))}, this model has {have}")
    model.load_state_dict(weights, strict=False)
