"""``train``: runs a recipe, with any of its settings changed; shows progress and writes the model, metrics and sheets of samples."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from .names import nearest
from .parsing import bind, parse
from .show import Json, answer, messages, progress
from .source import show_notes

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..evaluation import Evaluation
    from ..recipes import Recipe
    from ..train import TrainState

USAGE = """usage: rastrum train RECIPE [OPTIONS]

Train a recipe; `rastrum recipes` lists them. Writes the model, metrics and a sheet of samples after every evaluation into runs/RECIPE.
Ctrl-C lets the step finish, saves and stops.

rastrum train RECIPE --help shows a recipe's facts and its settings, --model.… --data.… --optim.… --run.…; each can be changed."""
SAMPLES, VIDEOS = 16, 4


def train(argv: Sequence[str]) -> int | None:
    """Parse ``RECIPE [OPTIONS]``, train, and return the exit code.

    argv: the arguments after ``train``.
    """
    if not argv or argv[0] in ("-h", "--help"):
        if not argv:
            raise ValueError("train: which recipe? `rastrum recipes` lists them")
        print(USAGE)
        return 0
    from ..recipes import RECIPES

    name, *rest = argv
    if name not in RECIPES:
        raise ValueError(f"train: unknown recipe {name!r}; {nearest(name, RECIPES)}")
    recipe = RECIPES[name]
    settings = recipe.settings()

    def run(
        config: Annotated[Any, arg(name="")] = settings,
        tensorboard: Annotated[bool, arg(help="write curves for TensorBoard too (extra train)")] = False,
        json: Json = False,
    ) -> int:
        return follow(recipe.changed(config), ["rastrum", "train", *argv], tensorboard, json)

    run.__annotations__["config"] = Annotated[type(settings), arg(name="")]
    return parse(bind(run), rest, f"rastrum train {name}", description="\n\n".join([recipe.about, *recipe.facts()]))()


def follow(recipe: Recipe, command: list[str], tensorboard: bool, as_json: bool) -> int:
    """Run a recipe and show its progress; returns the exit code, 130 after Ctrl-C.

    recipe: what to run.
    command: the words that were typed, for the model's folder.
    tensorboard: whether to write its curves too.
    as_json: whether to answer with JSON.
    """
    from ..checkpoint import Origin
    from ..data.dataset import load_dataset
    from ..recipes import build_model
    from ..train import check_config
    from ..train import train as steps

    check_config(recipe)
    name, split = recipe.name, recipe.data
    folder = Path(recipe.run.folder) if recipe.run.folder else free_folder(Path("runs") / name)
    recipe = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, folder=str(folder)))
    with progress(f"reading {split.name}", 1, "images") as report:
        data = load_dataset(split.name, split.train, split, report)
        held_out = load_dataset(split.name, split.held_out, split, report)
    show_notes(data, held_out)
    model = build_model(recipe, data)
    parameters = sum(p.numel() for p in model.parameters())
    condition = "" if model.condition_spec is None else f", conditioned on a {model.condition_spec.kind}"
    what = f"{type(model).__name__}{condition}, {parameters:,} parameters"
    messages.print(f"{name}: {what}; {len(data):,} images of {split.name}; into {folder}")
    origin = Origin(recipe=name, commands=(shlex.join(command),), tuned_on=recipe.tuned_on)
    state, last = None, None
    with training_bar() as show, scalars(folder if tensorboard else None) as write:
        for state in steps(model, data, recipe, held_out, origin):
            show(state)
            write(state)
            if state.evaluation is not None:
                last = state.evaluation
                messages.print(f"step {state.step:,}: held out {said(last)}")
                sample_sheet(state, held_out, folder)
    assert state is not None
    result = {"recipe": name, "folder": str(folder), "steps": state.step, "seconds": state.elapsed, "loss": state.loss,
              "interrupted": state.interrupted, "held_out": last and as_dict(last)}  # fmt: skip
    ended = f"interrupted at step {state.step:,}; saved" if state.interrupted else f"{state.step:,} steps in {state.elapsed:.0f} s; saved"
    answer(result, as_json, f"{ended} in {folder}" + (f"; held out {said(last)}" if last else ""))
    return 130 if state.interrupted else 0


def said(evaluation: Evaluation) -> str:
    """An ``evaluation`` in words, with its kind."""
    error = "" if math.isnan(evaluation.standard_error) else f" ± {evaluation.standard_error:.2f}"
    text = f"{evaluation.nats:.2f}{error} nats"
    if evaluation.kind == "loss":
        return f"loss {evaluation.nats:.2f}{error} (no likelihood), {evaluation.images:,} images"
    error = "" if math.isnan(evaluation.standard_error) else f" ± {evaluation.bits_standard_error:.4f}"
    bound = ", a bound" if evaluation.kind == "bound" else ""
    return f"{text}, {evaluation.bits_per_dim:.4f}{error} bits/dim ({evaluation.images:,} images{bound})"


def as_dict(evaluation: Evaluation) -> dict[str, Any]:
    """An ``evaluation`` for JSON, with bits per dimension."""
    bits = {"bits_per_dim": evaluation.bits_per_dim, "bits_standard_error": evaluation.bits_standard_error}
    result = {**dataclasses.asdict(evaluation), **bits}
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in result.items()}


def free_folder(folder: Path) -> Path:
    """``folder``, or the first of folder-2, folder-3, … that holds no run."""
    from ..train import STATE

    number, free = 1, folder
    while (free / STATE).exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


@contextmanager
def training_bar() -> Iterator[Any]:
    """A bar on stderr with loss, images/s and time left, or a line per minute without a terminal; yields a function of the state."""
    from rich.progress import BarColumn, Progress, TextColumn

    texts = ("step {task.fields[step]}", "{task.percentage:>3.0f}%", "{task.fields[values]}")
    step, percent, values = (TextColumn(text) for text in texts)
    with Progress(step, BarColumn(), percent, values, console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("training", total=1.0, step=0, values="")
        lines = 0

        def show(state: TrainState) -> None:
            nonlocal lines
            bits = "" if state.bits_per_dim is None else f" {state.bits_per_dim:.3f} bits/dim"
            minutes, seconds = divmod(int(state.time_left), 60)
            line = f"loss {state.loss:.2f}{bits}  {state.images_per_second:,.0f} images/s  {minutes}:{seconds:02d} left"
            bar.update(task, completed=state.fraction, step=f"{state.step:,}", values=line)
            if bar.disable and state.elapsed // 60 > lines:
                lines = state.elapsed // 60
                messages.print(f"step {state.step:,}: {line}")

        yield show


@contextmanager
def scalars(folder: Path | None) -> Iterator[Any]:
    """TensorBoard's curves in ``folder``; yields a function of the state, which does nothing if ``folder`` is None."""
    if folder is None:
        yield lambda state: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError("--tensorboard needs the extra train: pip install 'rastrum[train]'") from None

    with SummaryWriter(folder) as writer:

        def write(state: TrainState) -> None:
            writer.add_scalar("train/nats", state.loss, state.step)
            writer.add_scalar("train/images_per_second", state.images_per_second, state.step)
            if state.evaluation is not None:
                writer.add_scalar("held_out/nats", state.evaluation.nats, state.step)

        yield write


def sample_sheet(state: TrainState, held_out: Dataset, folder: Path) -> None:
    """Write samples-STEP.png of the averaged model, under each class in turn, or under the conditions of held-out images.

    state: of the run.
    held_out: the held-out images.
    folder: where the picture goes.
    """
    import rastrum

    from ..pictures.sheets import save_picture, sheet
    from ..pictures.videos import film_strips
    from ..raster import RasterModel
    from .show import NO_CONDITION, condition_for

    model = state.model
    if model.spec.channels not in (1, 3) or (isinstance(model, RasterModel) and not model.has_likelihood):
        return
    file, scale = folder / f"samples-{state.step:06d}.png", model.spec.levels - 1
    if model.spec.frames > 1:
        save_picture(film_strips(rastrum.sample(model, VIDEOS) / scale), file)
        return
    x = rastrum.sample(model, SAMPLES, condition_for(model, SAMPLES, NO_CONDITION, held_out, in_turn=True))
    save_picture(sheet(x / scale), file)
