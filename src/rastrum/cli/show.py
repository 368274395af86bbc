"""What every command shares: the model that it names, conditions, progress, and an answer for people or for machines."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeAlias, TypeVar

from rich.console import Console, RenderableType
from tyro.conf import Positional, arg
from tyro.constructors import PrimitiveConstructorSpec

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..checkpoint import Origin
    from ..data.dataset import Dataset
    from ..data.exemplars import ExemplarSets
    from ..model import Model
    from ..progress import Report

P = ParamSpec("P")
T = TypeVar("T")

ModelName: TypeAlias = Annotated[
    Positional[str],
    arg(name="model", metavar="MODEL", help="a saved model's folder, rastrum/NAME for one bundled with the "
        "package, or hf://OWNER/NAME@REVISION for one on the Hub")
]
SAVED = "as numpy.save writes it, repeated if there are fewer"


def whole_numbers(words: list[str]) -> tuple[int, ...]:
    """``words`` as whole numbers; ``ValueError`` for others, and for none."""
    try:
        found = tuple(map(int, words))
    except ValueError:
        found = ()
    if not found:
        raise ValueError(f"expected whole numbers, got {' '.join(words) or 'none'}")
    return found


Classes: TypeAlias = Annotated[
    tuple[int, ...],
    PrimitiveConstructorSpec("*", "CLASS …", whole_numbers, lambda value: isinstance(value, tuple), lambda value: [*map(str, value)]),
    arg(name="class", help="class numbers, one per image, repeated if there are fewer; default: the labels of the data set, and for new "
        "images 0, 1, 2, …", help_behavior_hint=""),
]
Maps: TypeAlias = Annotated[Path | None, arg(metavar="X.npy", help=f"spatial map, one per image: (c, h, w) or (count, c, h, w), {SAVED}")]
FLAGS = {"class": "--class", "vector": "--condition", "map": "--map"}


@dataclass(frozen=True)
class ConditionFlags:
    """The condition of each image; default: that of the data set, and for new images each class in turn."""

    classes: Classes = ()
    condition: Annotated[Path | None, arg(metavar="X.npy", help=f"vector, one per image: (size,) or (count, size), {SAVED}")] = None
    map: Maps = None


Conditions: TypeAlias = Annotated[ConditionFlags, arg(name="")]
NO_CONDITION = ConditionFlags()
Json: TypeAlias = Annotated[bool, arg(name="json", help="answer with one JSON object on stdout")]
Backend: TypeAlias = Annotated[
    Literal["native", "torch", "graphs", "naive"] | None,
    arg(help="what runs a raster model's steps; graphs: torch, on a GPU with a CUDA graph per row; naive: a whole forward pass per "
        "decision; default: the fastest of the others that works for the model"),
]
DEVICE = "cpu, cuda, cuda:1, mps, or auto, the first of cuda, mps and cpu that is here"
Device: TypeAlias = Annotated[
    str,
    arg(metavar="DEVICE", help=f"where the model runs: {DEVICE}. On the CPU a seed gives the same bits on every machine; on another device "
        "torch computes in place of the native interpreter, so that scores differ by rounding, and a sample now and then by a value"),
]  # fmt: skip

messages = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


def answer(result: dict[str, Any], as_json: bool, *lines: RenderableType) -> None:
    """Print the answer of a command on stdout.

    result: what is printed as one JSON object.
    as_json: whether it is; else ``lines`` are printed.
    lines: text or tables for people.
    """
    if as_json:
        print(json.dumps(standard(result), default=str, allow_nan=False))
        return
    console = Console(highlight=False)
    for line in lines:
        console.print(line, soft_wrap=isinstance(line, str), markup=False)


def standard(value: Any) -> Any:
    """The same for JSON, which has no NaN and no infinity: they become null."""
    if isinstance(value, dict):
        return {key: standard(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [standard(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def progress(what: str, total: float, unit: str) -> Iterator[Report]:
    """A bar on stderr with throughput and time left.

    what: text before the bar.
    total: how much there is to do.
    unit: of the throughput, per second; "" for no throughput.

    Yields a function of how much is done, and of how much (default: ``total``).
    """
    from ..progress import bar

    with bar(what, total, unit, messages.is_terminal, messages) as report:
        yield report


def same_in_all(what: str, digest: Callable[[T], Any]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """For a function that reads something: of several processes each calls it, and has to find the same, or all end with one error.

    what: it reads, for messages.
    digest: of what it returns, as JSON holds it.
    """

    def shared(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def inside(*arguments: P.args, **keywords: P.kwargs) -> T:
            from ..processes import join

            processes = join()
            with processes.together():
                found = function(*arguments, **keywords)
            if processes.count > 1:
                processes.check_same(**{what: digest(found)})
            return found

        return inside

    return shared


def _fingerprint(model: Model) -> str:
    from ..compression import fingerprint

    return fingerprint(model).hex()


@same_in_all("model", _fingerprint)
def load_model(name: str, device: str) -> Model:
    """The model that a command names, in evaluation mode; of several processes, each has it on a GPU of its own, or on the CPU.

    name: a saved model's folder, rastrum/NAME, or hf://OWNER/NAME@REVISION.
    device: the flag --device.

    Raises ``ValueError`` with a remedy if there is none, and for a device that is not here; ``OSError`` if the Hub cannot be reached.
    """
    import rastrum

    from ..devices import find_device
    from ..processes import join

    if not messages.is_terminal:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")        # read when the library is imported
    return rastrum.load(name, device if join().count == 1 else join().device(find_device(device)))


def origin_of(model: Model, name: str) -> Origin:
    """Where a loaded model comes from; what it was loaded with, since a branch of the Hub may have moved since.

    model: loaded.
    name: what it was loaded by.

    Raises ``CheckpointError`` where its folder holds a note on this that cannot be read.
    """
    from ..checkpoint import read_origin

    return read_origin(name) if model.origin is None else model.origin


def condition_for(
    model: Model, count: int, flags: ConditionFlags, dataset: Dataset | None = None, in_turn: bool = False
) -> Tensor | None:
    """The conditions of a command's images: those of its flags, repeated; else those of the data set; None for an unconditional model.

    model: takes the conditions.
    count: number of images.
    flags: conditions given on the command line.
    dataset: the images' data set; None (default) for none.
    in_turn: for images that are drawn: classes 0, 1, 2, …, and the data set's vectors or maps, repeated; False by default.

    Raises ``ValueError`` for a condition that the model does not take, and where there is none for a conditional model.
    """
    import torch

    spec = model.condition_spec
    given = {"class": flags.classes or None, "vector": flags.condition, "map": flags.map}
    for kind, value in given.items():
        if value is not None and (spec is None or spec.kind != kind):
            takes = "is unconditional, it takes none" if spec is None else f"is conditioned on a {spec.kind}; use {FLAGS[spec.kind]}"
            raise ValueError(f"{FLAGS[kind]}: this model {takes}")
    if spec is None:
        return None
    from_data = None if dataset is None else conditions_in(model, dataset)
    if flags.classes and isinstance(spec.size, int):
        for chosen in flags.classes:
            if not 0 <= chosen < spec.size:
                raise ValueError(f"--class: this model has the classes 0 … {spec.size - 1}, got {chosen}")
        found = torch.tensor(flags.classes)
    elif isinstance(path := given[spec.kind], Path):
        found = saved_conditions(FLAGS[spec.kind], path, spec.shape)
    elif spec.kind == "class" and in_turn:
        found = torch.arange(int(spec.size))  # pyright: ignore[reportArgumentType]
    elif dataset is not None and from_data is not None:
        found = from_data
        if spec.kind == "class":
            messages.print(f"conditioned on the labels of {dataset.name}")
    else:
        what = "these images have none" if dataset is not None else "there is none"
        remedy = f"; {model.condition_remedy()}" if model.condition_remedy() else ""
        raise ValueError(f"this model is conditioned on a {spec.kind} of size {spec.size} and {what}; give {FLAGS[spec.kind]}{remedy}")
    return found[torch.arange(count) % len(found)]


def conditions_in(model: Model, dataset: Dataset) -> Tensor | ExemplarSets | None:
    """The condition that a data set has for each image; None if it has none of the shape that the model takes.

    model: its ``condition_spec`` says which.
    dataset: the images.
    """
    from ..evaluation import conditions_for

    spec, found = model.condition_spec, conditions_for(model, dataset)
    return None if spec is None or found is None or found.shape[1:] != spec.shape else found


def saved_array(flag: str, path: Path) -> np.ndarray:
    """The array of real numbers in a .npy file.

    flag: that named the file, for messages.
    path: of the file.

    Raises ``ValueError`` for any other file.
    """
    import numpy as np

    if not path.is_file():
        what = f"{str(path)!r} is not a file; give an array X.npy" if path.exists() else f"there is no file {str(path)!r}"
        raise ValueError(f"{flag}: {what}")
    try:
        with path.open("rb") as file:                                     # read_array, since np.load also takes archives
            found = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, TokenError, MemoryError, OverflowError):
        found = None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiub":
        raise ValueError(f"{flag}: {str(path)!r} must hold one array of numbers, as numpy.save writes it")
    return found


def saved_conditions(flag: str, path: Path, shape: tuple[int, ...]) -> Tensor:
    """Vectors or maps in a .npy file, one or several.

    flag: that named the file, for messages.
    path: of the file.
    shape: of one condition.

    Returns (N, *shape) float32. Raises ``ValueError`` for any other array.
    """
    import numpy as np
    import torch

    found = saved_array(flag, path)
    several = found[None] if found.shape == shape else found
    if several.shape[1:] != shape or len(several) == 0:
        size = ", ".join(map(str, shape))
        shapes = f"({size}{',' * (len(shape) == 1)}) or (count, {size})"
        raise ValueError(f"{flag}: this model takes an array {shapes}, {str(path)!r} holds {found.shape}")
    with np.errstate(over="ignore"):
        values = several.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{flag}: {str(path)!r} holds values that are not finite")
    return torch.from_numpy(values)


def check_suffix(flag: str, path: Path | None, *suffixes: str) -> None:
    """Check before any work that a file can be written.

    flag: that named the file, for messages.
    path: of the file; None where there is none.
    suffixes: that it may have, such as ".png".

    Raises ``ValueError`` for another suffix, for a folder or a device, and where its folder is not there or cannot be written to.
    """
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{flag}: expected a name that ends in {' or '.join(dict.fromkeys(suffixes))}, got {str(path)!r}")
    if not path.parent.is_dir():
        raise ValueError(f"{flag}: there is no folder {str(path.parent)!r}")
    if path.exists() and not path.is_file():
        raise ValueError(f"{flag}: {str(path)!r} is not a regular file; choose another name")
    check_folder_out(flag, path.parent)


def check_folder_out(flag: str, folder: Path) -> None:
    """Check before any work that files can be written to a folder, which need not be there yet.

    flag: that named it, for messages.
    folder: its path.

    Raises ``ValueError`` where they cannot.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"{flag}: {str(there)!r} is a file, not a folder; choose another name")
    if not os.access(there, os.W_OK):
        raise ValueError(f"{flag}: the folder {str(there)!r} cannot be written to")
