"""What ``train`` shows and writes while a run goes on: progress, curves, sheets of samples, and how it ended."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .scores import as_dict, said
from .show import answer, messages, progress
from .source import show_notes
from .streams import unbreakable

if TYPE_CHECKING:
    from ..checkpoint import Origin
    from ..config import DataConfig, RunConfig
    from ..data.dataset import Dataset
    from ..model import Model
    from ..pictures.sheets import Picture
    from ..processes import Processes
    from ..recipes import Recipe
    from ..train import TrainState

SAMPLES, VIDEOS = 16, 4
FIRST = 6.0                    # seconds to expect of the first sheet, which may have to compile
SHEETS = 0.03                  # share of a budget of time that sheets may take; evaluations take the rest of a tenth (training/clock.py)


def read(data: DataConfig) -> tuple[Dataset, Dataset]:
    """The images to train on and those that are held out.

    data: names the splits.
    """
    from ..data.dataset import load_dataset

    with progress(f"reading {data.name}", 1, "") as report:
        train, held_out = load_dataset(data.name, data.train, data, report), load_dataset(data.name, data.held_out, data, report)
    show_notes(train, held_out)
    return train, held_out


def follow(
    recipe: Recipe,
    settled: Callable[[tuple[int, ...]], Recipe],
    origin: Origin,
    tensorboard: bool,
    as_json: bool,
) -> int:
    """Start a run and show its progress; returns the exit code, 130 after Ctrl-C.

    recipe: what to train, on which data.
    settled: the recipe with its settings for images of a shape (C, H, W, levels), or with frames as a fifth.
    origin: recipe and command, for the model's folder.
    tensorboard: whether to write its curves too.
    as_json: whether to answer with JSON.
    """
    from ..processes import join
    from ..recipes import build_model
    from ..train import check_config, train

    check_config(recipe)
    processes = join()
    with unbreakable(), _claimed(recipe, processes) as folder:
        with processes.together():
            data, held_out = read(recipe.data)
        spec = data.spec
        recipe = settled((*dataclasses.astuple(spec)[:4], *([spec.frames] if spec.frames > 1 else [])))
        recipe = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, folder=str(folder)))
        model = build_model(recipe, data)
        steps = train(model, data, recipe, held_out, origin)
        return _shown(recipe.name, steps, model, data, held_out, folder, recipe.run, tensorboard, as_json, processes)


def go_on(folder: Path, budget: dict[str, Any], tensorboard: bool, as_json: bool) -> int:
    """Resume a run and show its progress.

    folder: of the run.
    budget: a further one, as ``rastrum.train.resume`` takes it.
    tensorboard, as_json: as for ``follow``.
    """
    from ..checkpoint import read_origin
    from ..models import load
    from ..processes import join
    from ..train import resume, resumed

    processes = join()
    with unbreakable():
        with processes.together():
            config = resumed(folder, **budget)
            origin = read_origin(folder)
            if origin.data is None:
                raise ValueError(f"resume: {str(folder)!r} does not say what data it was trained on; use rastrum.train.resume in Python")
            data, held_out = read(origin.data)
            model = load(folder)
        more = [word for name, value in budget.items() if value is not None for word in (f"--{name.replace('_', '-')}", str(value))]
        command = shlex.join(["rastrum", "train", "--resume", str(folder), *more])
        origin = dataclasses.replace(origin, commands=(*origin.commands, command))
        steps = resume(folder, data, held_out, **budget, model=model, origin=origin)
        return _shown(origin.recipe or folder.name, steps, model, data, held_out, folder, config.run, tensorboard, as_json, processes)


def _shown(
    name: str,
    steps: Generator[TrainState, None, None],
    model: Model,
    data: Dataset,
    held_out: Dataset,
    folder: Path,
    run: RunConfig,
    tensorboard: bool,
    as_json: bool,
    processes: Processes,
) -> int:
    """Show a run until it ends; where several processes train, the first one draws and writes."""
    parameters = sum(p.numel() for p in model.parameters())
    condition = "" if model.condition_spec is None else f", conditioned on a {model.condition_spec.kind}"
    what = f"{type(model).__name__}{condition}, {parameters:,} parameters"
    budgets = ((run.minutes, "minutes"), (run.cpu_minutes, "CPU-minutes"), (run.steps, "steps"))
    several = "" if processes.count == 1 else f"; {processes.count} processes"
    budget = " or ".join(f"{value:,.4g} {unit}" if isinstance(value, float) else f"{value:,} {unit}" for value, unit in budgets if value)
    messages.print(f"{name}: {what}; {len(data):,} images of {data.name}; {budget}; into {folder}" + several)
    sheets = Sheets(model, held_out, folder, run)
    state, last = None, None
    with training_bar() as show, scalars(folder if tensorboard and processes.is_first else None) as write:
        for state in steps:
            show(state)
            picture = None
            if state.evaluation is not None:
                last = state.evaluation
                messages.print(f"step {state.step:,}: held out {said(last)}")
                picture = sheets.draw(state) if processes.is_first else None
            write(state, picture)
    assert state is not None
    again = shlex.join(["rastrum", "train", "--resume", str(folder)])
    result = {"recipe": name, "folder": str(folder), "steps": state.step, "seconds": state.elapsed, "loss": state.loss,
              "interrupted": state.interrupted, "resume": again, "held_out": last and as_dict(last)}  # fmt: skip
    ended = f"interrupted at step {state.step:,}; saved" if state.interrupted else f"{state.step:,} steps in {state.elapsed:.0f} s; saved"
    lines = [f"{ended} in {folder}" + (f"; held out {said(last)}" if last else "")]
    answer(result, as_json, *lines, *([f"continue with: {again}"] if state.interrupted else []))
    return 130 if state.interrupted else 0


@contextmanager
def _claimed(recipe: Recipe, processes: Processes) -> Iterator[Path]:
    """A folder for the run that no other run has: the one that it asks for, or the first of runs/NAME, runs/NAME-2, … that is free.

    Left as it was where the run ends before it writes anything. The first of several processes claims it for all.
    """
    folder = Path(recipe.run.folder) if recipe.run.folder else Path("runs") / recipe.name
    made = False
    with processes.together():
        if processes.is_first:
            folder, made = _claim(folder, bool(recipe.run.folder))
    try:
        yield Path(processes.exchange(str(folder))[0])
    finally:
        if made:
            with suppress(OSError):                                       # not empty: there is a run in it
                folder.rmdir()


def _claim(folder: Path, asked_for: bool) -> tuple[Path, bool]:
    """The folder of a run, and whether it was made for it; one that was not asked for by its name may get a number."""
    from ..training.record import make_folder

    if asked_for:
        there = folder.exists()
        make_folder(folder)
        return folder, not there
    folder.parent.mkdir(exist_ok=True)
    name, number = folder.name, 1
    while True:
        try:
            folder.mkdir()
            return folder, True
        except FileExistsError:
            number += 1
            folder = folder.with_name(f"{name}-{number}")


@contextmanager
def training_bar() -> Iterator[Any]:
    """A bar on stderr with loss, images/s and time left, or a line per minute without a terminal; yields a function of the state."""
    from rich.progress import BarColumn, Progress, TextColumn

    from ..progress import only

    texts = ("step {task.fields[step]}", "{task.percentage:>3.0f}%", "{task.fields[values]}")
    step, percent, values = (TextColumn(text) for text in texts)
    silent = not messages.is_terminal
    with only(), Progress(step, BarColumn(), percent, values, console=messages, transient=True, disable=silent) as bar:
        task = bar.add_task("training", total=1.0, step=0, values="")
        lines = None

        def show(state: TrainState) -> None:
            nonlocal lines
            line = state.text
            bar.update(task, completed=state.fraction, step=f"{state.step:,}", values=line)
            minute = state.elapsed // 60
            if bar.disable and lines is not None and minute > lines:
                messages.print(f"step {state.step:,}: {line}")
            lines = minute

        yield show


@contextmanager
def scalars(folder: Path | None) -> Iterator[Any]:
    """TensorBoard's curves in ``folder``; yields a function of state and sheet, which does nothing if ``folder`` is None."""
    if folder is None:
        yield lambda state, picture: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError("--tensorboard needs the extra train: pip install tensorboard") from None

    writer: SummaryWriter | None = None                                   # a run finds its folder empty, so it is made after the first step

    def write(state: TrainState, picture: Picture | None) -> None:
        nonlocal writer
        import numpy as np

        writer = writer or SummaryWriter(folder, purge_step=state.step)
        values = {"nats": state.loss, "bits_per_dim": state.bits_per_dim, "images_per_second": state.images_per_second,
                  "learning_rate": state.learning_rate, "gradient_norm": state.gradient_norm}  # fmt: skip
        for name, value in (values | dict(state.losses)).items():
            if value is not None:
                writer.add_scalar(f"train/{name}", value, state.step)
        if state.evaluation is not None:
            writer.add_scalar("held_out/nats", state.evaluation.nats, state.step)
            if state.evaluation.bits_per_dim is not None:
                writer.add_scalar("held_out/bits_per_dim", state.evaluation.bits_per_dim, state.step)
        if picture is not None:
            writer.add_image("samples", np.asarray(picture.convert("RGB")), state.step, dataformats="HWC")

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()


class Sheets:
    """Writes samples-STEP.png of the averaged model, under each class in turn, or under the conditions of held-out images.

    What cannot be drawn is found out before training. Where there is a budget of time, sheets that would take more than ``SHEETS`` of it
    are left out, but for the last.
    """

    def __init__(self, model: Model, held_out: Dataset, folder: Path, run: RunConfig) -> None:
        from ..raster import RasterModel
        from .show import NO_CONDITION, condition_for

        self.folder, self.timed = folder, run.minutes is not None or run.cpu_minutes is not None
        self.drawable = model.spec.channels in (1, 3) and not (isinstance(model, RasterModel) and not model.has_likelihood)
        still = self.drawable and model.spec.frames == 1
        self.condition = condition_for(model, SAMPLES, NO_CONDITION, held_out, in_turn=True) if still else None
        self.spent, self.last = 0.0, FIRST

    def draw(self, state: TrainState) -> Picture | None:
        """The sheet of samples, if one is drawn.

        state: after an evaluation.
        """
        budget = state.elapsed / max(state.fraction, 1e-9)
        if not self.drawable or (self.timed and not state.finished and self.spent + self.last > SHEETS * budget):
            return None
        import rastrum

        from ..pictures.sheets import save_picture, sheet
        from ..pictures.videos import film_strips

        begin, model, scale = time.perf_counter(), state.model, state.model.spec.levels - 1
        try:
            if model.spec.frames > 1:
                picture = film_strips(rastrum.sample(model, VIDEOS) / scale)
            else:
                picture = sheet(rastrum.sample(model, SAMPLES, self.condition) / scale)
            save_picture(picture, self.folder / f"samples-{state.step:06d}.png")
        except (OSError, MemoryError, RuntimeError) as error:             # the run matters more than a picture of it
            messages.print(f"step {state.step:,}: no sheet of samples ({' '.join(str(error).split())[:200]})")
            return None
        self.last = time.perf_counter() - begin
        self.spent += self.last
        return picture
