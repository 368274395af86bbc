"""What every command shares: the model it names, its classes, progress, and an answer for people or for machines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from rich.console import Console, RenderableType
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from torch import Tensor

    from ..canvas import CanvasModel
    from ..raster import RasterModel

Model: TypeAlias = Annotated[
    Positional[str], arg(name="model", metavar="MODEL", help="a saved model's folder, or rastrum/NAME for one in the box")
]
Json: TypeAlias = Annotated[bool, arg(name="json", help="answer with one JSON object on stdout")]
Classes: TypeAlias = Annotated[
    tuple[int, ...] | None, arg(name="class", metavar="CLASS …", help="class of each image, repeated in turn; by default 0, 1, 2, …")
]
Backend: TypeAlias = Annotated[
    Literal["native", "torch", "naive"] | None,
    arg(help="what runs a raster model's steps; naive: a whole forward a decision; by default the fastest that can"),
]
Out: TypeAlias = Annotated[Path | None, arg(metavar="X.png", help="write the picture here")]
Trace: TypeAlias = Annotated[Path | None, arg(metavar="X.gif", help="write an animation of the walk here")]

messages = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


def answer(result: dict[str, Any], as_json: bool, *lines: RenderableType) -> None:
    """``result`` as JSON, or ``lines`` for people, on stdout."""
    if as_json:
        print(json.dumps(result, ensure_ascii=False, default=str))
        return
    console = Console(highlight=False)
    for line in lines:
        console.print(line, soft_wrap=isinstance(line, str), markup=False)


@contextmanager
def progress(what: str, total: float, unit: str) -> Iterator[Callable[..., None]]:
    """A bar on stderr with throughput in ``unit`` and time left; yields a function that takes how much is done (and of how much)."""
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.text import Text

    class Throughput(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:,.1f} {unit}/s")

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), Throughput())
    columns += (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, of=total: bar.update(task, completed=done, total=of)


def load_model(name: str) -> RasterModel | CanvasModel:
    """The model that a command names, in evaluation mode; ``ValueError`` with a remedy if there is none."""
    import rastrum

    return rastrum.load(name).eval()


def bits_per_dim(nats: float, size: int) -> float:
    from math import log

    return nats / (size * log(2))


def class_condition(
    model: RasterModel | CanvasModel, count: int, classes: Sequence[int] | None, labels: Tensor | None = None, in_turn: bool = False
) -> Tensor | None:
    """One class an image: those asked for in turn, else the labels of the images, else, ``in_turn``, 0, 1, 2, …; None if unconditional.

    Raises ``ValueError`` for classes that the model does not have, and where there are none.
    """
    import torch

    spec = model.condition_spec
    if spec is None:
        if classes:
            raise ValueError("--class: this model is unconditional, it takes none")
        return None
    if spec.kind != "class":
        raise ValueError(f"this model wants a condition of kind {spec.kind!r}, the command line has only classes; use it from Python")
    assert isinstance(spec.size, int)
    for chosen in classes or ():
        if not 0 <= chosen < spec.size:
            raise ValueError(f"--class: this model has the classes 0 … {spec.size - 1}, got {chosen}")
    if classes:
        return torch.tensor(classes).repeat(-(-count // len(classes)))[:count]
    if labels is not None:
        return labels
    if not in_turn:
        raise ValueError("these images have no classes and this model is told one; give --class")
    return torch.arange(count) % spec.size


def check_suffix(flag: str, path: Path | None, *suffixes: str) -> None:
    """``ValueError`` before any work if ``path`` cannot hold what is asked for, or its folder is not there."""
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{flag}: expected a name that ends in {' or '.join(suffixes)}, got {str(path)!r}")
    if not path.parent.is_dir():
        raise ValueError(f"{flag}: there is no folder {str(path.parent)!r}")
