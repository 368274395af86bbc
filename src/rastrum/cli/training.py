"""``train``: a recipe, or any model on any data, with any setting changed; or a run that was stopped, from its last checkpoint."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from ..names import nearest
from .parsing import bind, parse
from .show import DEVICE, Json

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..recipes import Recipe

USAGE = """usage: rastrum train RECIPE [OPTIONS]
       rastrum train MODEL --data DATA [--preset PRESET] [--minutes M] [OPTIONS]
       rastrum train --resume RUN [--minutes M]
       torchrun --nproc-per-node N -m rastrum train …
       torchrun --nnodes 2 --node-rank 0|1 --nproc-per-node N --master-addr HOST --master-port 29500 -m rastrum train …

Train a recipe, or any model on any data; `rastrum recipes` and `rastrum models` list them. Writes the model, metrics and a sheet of samples
after every evaluation into runs/NAME, or a folder of your own, which must be empty. Ctrl-C lets the step finish, saves and stops.

--resume continues a run from its last checkpoint as if it had never stopped; with --minutes, for that many more, even if it had finished.

torchrun starts N processes that train one model: each works on its share of every batch, on the CPU or on a GPU of its own. The first one
writes and prints, with its clock. Any number of processes can resume a run. On several machines start the same command on each, with its
own --node-rank; HOST is that of rank 0. All need the same versions and the same images, and to resume also the run's folder; only the first
writes into it. --run.shard keeps a part of weights and optimiser on each (FSDP2), --optim.accumulate is for batches larger than a GPU's
memory, --run.precision bf16 and --run.compile are for speed on GPUs.

rastrum train NAME --help shows a recipe's facts and all settings, --model.… --data.… --optim.… --run.…; each can be changed.
A budget that is given (--minutes, --run.minutes, --run.cpu-minutes, --run.steps) replaces the recipe's."""
BUDGETS = ("steps", "minutes", "cpu_minutes")
Tensorboard = Annotated[bool, arg(help="write curves and samples for TensorBoard too (extra train)")]
TrainingDevice = Annotated[str | None, arg(metavar="DEVICE", help=f"where to train, in place of run.device: {DEVICE}")]
Minutes = Annotated[float | None, arg(metavar="M", help="budget of time, in place of the recipe's own")]


def train(argv: Sequence[str]) -> int | None:
    """Parse ``RECIPE [OPTIONS]``, train, and return the exit code.

    argv: the arguments after ``train``.
    """
    if not argv or argv[0] in ("-h", "--help"):
        if not argv:
            raise ValueError("train: which recipe or model? `rastrum recipes` and `rastrum models` list them")
        print(USAGE)
        return 0
    if any(word.partition("=")[0] == "--resume" for word in argv):
        return parse(bind(resume), argv, "rastrum train")()
    from ..checkpoint import Origin
    from ..recipes import RECIPES, recipe_for
    from .following import follow

    name, *rest = argv
    plain = name not in RECIPES
    if plain:
        from ..models import MODELS

        if name not in MODELS:
            raise ValueError(f"train: unknown recipe or model {name!r}; {nearest(name, [*RECIPES, *MODELS])}")
    recipe = recipe_for(name) if plain else RECIPES[name]
    about = recipe.about if plain else "\n\n".join([recipe.about, *recipe.facts()])
    config, data, preset, minutes, device, tensorboard, json = _parsed(recipe, rest, about)
    if plain and data is None and config.data == recipe.data:
        raise ValueError(f"train: {name} on which images? Give --data NAME, such as digits, or a recipe: {_recipes_of(name)}")
    changed = replace(recipe.changed(config), run=_placed(_budget(config.run, minutes, rest), device, rest))
    if data is not None:
        changed = replace(changed, data=replace(changed.data, name=data))
    if plain or data is not None:
        from ..data.sources import split_to_watch

        if "--data.held-out" not in _flags(rest):
            changed = replace(changed, data=replace(changed.data, held_out=split_to_watch(changed.data.name)))
        changed = replace(changed, name=f"{name}-{re.sub(r'[^A-Za-z0-9.]+', '-', Path(changed.data.name).name).strip('-.')}")

    def settled(images: tuple[int, ...]) -> Recipe:
        """With the settings for images of this shape, where they are not those that the recipe is for."""
        if (plain or preset is not None or images != recipe.images) and recipe.images:
            other = recipe_for(name, images) if plain else replace(recipe, images=images)
            if preset is not None:
                other = replace(other, preset=preset, options={})
            again = other.changed(_parsed(other, rest, about)[0])
            return replace(again, name=changed.name, data=changed.data, run=changed.run)
        return changed

    ours = changed.name == name                                           # a recipe, on its own data
    command = shlex.join(["rastrum", "train", *argv])
    origin = Origin(recipe=name if ours else None, commands=(command,), tuned_on=recipe.tuned_on if ours else None)
    return follow(changed, settled, origin, tensorboard, json)


def resume(
    resume: Annotated[Path, arg(metavar="RUN", help="folder of the run")],
    minutes: Annotated[float | None, arg(metavar="M", help="train this many minutes more, instead of the rest of its budget")] = None,
    cpu_minutes: Annotated[float | None, arg(metavar="M", help="the same of CPU time")] = None,
    steps: Annotated[int | None, arg(metavar="N", help="the same in steps")] = None,
    device: TrainingDevice = None,
    tensorboard: Tensorboard = False,
    json: Json = False,
) -> int:
    """Continue a run from its last checkpoint, bit for bit as if it had never stopped.

    With a further budget the schedule of the learning rate covers the whole run, including what was done before;
    its warm-up comes once more.
    """
    from .following import go_on

    return go_on(resume, {"minutes": minutes, "cpu_minutes": cpu_minutes, "steps": steps, "device": device}, tensorboard, json)


def _parsed(recipe: Recipe, rest: Sequence[str], about: str) -> Any:
    """Settings and the options of the command, by flags that begin with those of ``recipe``."""
    settings = recipe.settings()

    def options(
        config: Annotated[Any, arg(name="")] = settings,
        data: Annotated[str | None, arg(metavar="NAME", help="data set in place of the recipe's, as --data.name takes it")] = None,
        preset: Annotated[str | None, arg(metavar="PRESET", help="of the model: tiny, small, paper, … (`rastrum models`)")] = None,
        minutes: Minutes = None,
        device: TrainingDevice = None,
        tensorboard: Tensorboard = False,
        json: Json = False,
    ) -> Any:
        return config, data, preset, minutes, device, tensorboard, json

    options.__annotations__["config"] = Annotated[type(settings), arg(name="")]
    return parse(options, rest, f"rastrum train {recipe.name}", description=about)


def _budget(run: RunConfig, minutes: float | None, words: Sequence[str]) -> RunConfig:
    """The budgets that were given replace those that were not."""
    flags = _flags(words)
    given = {name for name in BUDGETS if f"--run.{name.replace('_', '-')}" in flags}
    if minutes is not None:
        if "minutes" in given:
            raise ValueError("train: --minutes and --run.minutes are the same; leave one out")
        run, given = replace(run, minutes=minutes), given | {"minutes"}
    if not any(getattr(run, name) is not None for name in given):        # --run.steps None takes one away
        return run
    return replace(run, **{name: None for name in BUDGETS if name not in given})


def _flags(words: Sequence[str]) -> set[str]:
    """The flags that were given, without their values."""
    return {word.partition("=")[0].replace("_", "-") for word in words}


def _placed(run: RunConfig, device: str | None, words: Sequence[str]) -> RunConfig:
    """--device, in place of the recipe's device."""
    if device is None:
        return run
    if any(word.partition("=")[0] == "--run.device" for word in words):
        raise ValueError("train: --device and --run.device are the same; leave one out")
    return replace(run, device=device)


def _recipes_of(system: str) -> str:
    from ..recipes import RECIPES

    return ", ".join(name for name, recipe in RECIPES.items() if recipe.system == system)
