"""``check``: does a model keep its promises?"""

from __future__ import annotations

import importlib.util
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from ..names import nearest
from .output import AS_USUAL, Look, Out, check_look, check_out, save_figure, save_sheet
from .show import Classes, ConditionFlags, Device, Json, Maps, answer, condition_for, load_model
from .source import Binarise, Count, Data, Images, SkipBroken, Split, load_images

if TYPE_CHECKING:
    from torch import Tensor

    from ..model import Model
    from ..pictures.page import Page
    from ..protocol import ConditionSpec, ImageSpec
    from ..raster import RasterModel

MODEL = "a name from `rastrum models`, a saved model's folder, rastrum/NAME, hf://OWNER/NAME, or a class of yours as FILE.py:CLASS"
OF_TOY = arg(help="of the small image on which a model given by name or class is checked")


@dataclass(frozen=True)
class Toy:
    """The small image on which a fresh model is checked, and the preset of the model."""

    channels: Annotated[int, OF_TOY] = 1
    height: Annotated[int, OF_TOY] = 5
    width: Annotated[int, OF_TOY] = 5
    levels: Annotated[int, OF_TOY] = 2
    frames: Annotated[int, arg(help="of the small image; more than 1: a video")] = 1
    preset: Annotated[str, arg(help="of a model given by name: tiny, small, paper, or another preset that it has")] = "tiny"


FRESH = Toy()


def check(
    model: Annotated[Positional[str], arg(metavar="MODEL", help=MODEL)],
    toy: Annotated[Toy, arg(name="")] = FRESH,
    condition: Annotated[str | None, arg(help="of a model given by name: a number of classes, vector:SIZE or map:CxHxW; default: none. "
                                              "With --weights: X.npy, vectors as for `sample`")] = None,
    weights: Annotated[bool, arg(help="instead, measure how strongly a trained model uses each earlier pixel of --data")] = False,
    at: Annotated[tuple[int, int] | None, arg(metavar="ROW COLUMN", help="position of the decision that is drawn; default: the one with "
                                                                     "most faults, with --weights two thirds down")] = None,
    data: Data = None,
    images: Images = None,
    split: Split = None,
    skip_broken: SkipBroken = False,
    count: Count = 16,
    binarise: Binarise = None,
    classes: Classes = (),
    map: Maps = None,
    out: Out = None,
    look: Look = AS_USUAL,
    device: Device = "cpu",
    json: Json = False,
) -> int:
    """Prove by perturbation that a raster model is causal, sees what it promises, and that its probabilities sum to one.

    Exit code 1 if a fault is found. --out draws what one decision sees. With --weights MODEL --data NAME --out x.png: how strongly a
    trained model uses each earlier pixel.
    """
    page = look.page()
    check_out("--out", out)
    check_look(look, out)
    if not weights and (classes or map is not None or (condition is not None and condition.endswith(".npy"))):
        raise ValueError("check: the proof holds for every condition; --class, --map and --condition X.npy are for --weights")
    network = find(model, toy, None if weights else condition, device)
    if network.spec.frames > 1 and (weights or out is not None):
        flag = "--weights" if weights else "--out"
        raise ValueError(f"{flag}: it shows what is seen of one image, this model draws videos; leave it out")
    page.check(network.spec.channels, network.spec.height, network.spec.width)
    if weights:
        flags = ConditionFlags(classes, None if condition is None else Path(condition), map)
        return strengths(model, network, data, images, split, count, binarise, skip_broken, flags, at, out, page, json)
    import rastrum

    with reported(model):
        report = rastrum.check(network)  # pyright: ignore[reportArgumentType]
    if out is not None:
        import torch

        from ..checking import context_of
        from ..pictures.sheets import context_picture, context_scale, decided_before

        spec = network.spec
        index = report.most_faulty() if at is None else flat_index(spec, at)
        seen, promised = context_of(network, index)  # pyright: ignore[reportArgumentType]
        here = [int(i) for i in torch.unravel_index(torch.tensor(index), spec.shape)]
        usual = context_scale(spec.height, spec.width)
        before = decided_before(network.order, spec.shape, here)  # pyright: ignore
        save_sheet(out, page, lambda scale, unit: context_picture(seen, promised, here, scale, unit, before), usual)
    result = {"model": model, "ok": report.ok, "report": str(report), "out": out and str(out)}
    answer(result, json, str(report), *([f"  {out}"] if out else []))
    return 0 if report.ok else 1


def find(model: str, toy: Toy, condition: str | None, device: str) -> Model:
    """A fresh model by its name or class, for the small image, or a saved one.

    model: a name in ``MODELS``, FILE.py:CLASS, or a saved model.
    toy: the small image and the preset, for a fresh model.
    condition: as ``condition_spec`` reads it; None for an unconditional model.
    device: the flag --device.
    """
    import rastrum

    from ..devices import find_device, place

    file, _, class_name = model.rpartition(":")
    fresh = model in rastrum.MODELS or file.endswith(".py")
    if not fresh and "/" not in model and not Path(model).exists():
        raise ValueError(f"check: there is no model {model!r}; {nearest(model, rastrum.MODELS)}")
    if not fresh:
        if condition is not None or toy != FRESH:
            flags = "--channels, --height, --width, --levels, --frames, --preset and --condition"
            raise ValueError(f"check: {model} is a saved model, of a size and a condition of its own; {flags} are for a name or a class")
        return load_model(model, device)
    where = find_device(device)
    spec = rastrum.ImageSpec(toy.channels, toy.height, toy.width, toy.levels, toy.frames)
    chosen = None if condition is None else condition_spec(condition)
    if model in rastrum.MODELS:
        return place(rastrum.build(model, spec, toy.preset, chosen), where)
    return place(users_model(Path(file), class_name, spec, chosen), where)


def condition_spec(text: str) -> ConditionSpec:
    """The condition that the ``text`` of a flag describes: 10 (classes), vector:16, map:3x8x8."""
    from ..protocol import ConditionSpec

    kind, _, size = text.rpartition(":")
    sizes = [int(part) for part in size.split("x") if part.isdecimal()]
    if kind == "map" and len(sizes) == size.count("x") + 1 == 3:
        return ConditionSpec("map", (sizes[0], sizes[1], sizes[2]))
    if kind in ("", "class", "vector") and size.isdecimal():
        return ConditionSpec("vector" if kind == "vector" else "class", int(size))
    raise ValueError(f"--condition: expected a number of classes, vector:SIZE or map:CxHxW, got {text!r}")


def users_model(file: Path, class_name: str, spec: ImageSpec, condition: ConditionSpec | None) -> RasterModel:
    """The class of a user's file, built as ``CLASS(spec)``, or ``CLASS(spec, condition_spec=…)``.

    file: of Python.
    class_name: in it.
    spec: of the images.
    condition: None for an unconditional model.
    """
    from ..raster import RasterModel

    if not file.is_file():
        raise ValueError(f"check: there is no file {str(file)!r}")
    found = importlib.util.spec_from_file_location(file.stem, file)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    with reported(str(file)):
        found.loader.exec_module(module)
    model_class = getattr(module, class_name, None)
    if not (isinstance(model_class, type) and issubclass(model_class, RasterModel)):
        classes = [name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, RasterModel)]
        raise ValueError(f"check: {file} has no raster model {class_name!r}; {nearest(class_name, classes)}")
    with reported(f"{file}:{class_name}"):
        return model_class(spec) if condition is None else model_class(spec, condition_spec=condition)


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Meanwhile a user's code runs: whatever ends it is a ``ValueError`` that says so and where, also an exit, which is no proof."""
    process, leave = os.getpid(), os._exit

    def leave_noticed(code: int) -> None:
        if os.getpid() != process:
            leave(code)
        raise SystemExit(code)

    try:
        os._exit = leave_noticed                                          # it would end this process with a code of the file's choice
        yield
    except ValueError:
        raise
    except SystemExit as stop:
        raise ValueError(f"check: {what} exits ({stop.code!r}), so nothing was proved") from None
    except MemoryError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}, line {last.lineno}"
        raise ValueError(f"check: {what} fails in {where}: {type(error).__name__}: {error}") from None
    finally:
        os._exit = leave


def strengths(
    model: str,
    network: Model,
    data: str | None,
    images: Path | None,
    split: str | None,
    count: int,
    binarise: Binarise,
    skip_broken: bool,
    flags: ConditionFlags,
    at: tuple[int, int] | None,
    out: Path | None,
    page: Page,
    json: bool,
) -> int:
    """How strongly a trained model uses each earlier pixel, as a picture and as the pixels that matter most.

    model: its folder or name.
    network: the model itself.
    data, images, split, count, binarise: the flags of the command that name the images.
    flags: the conditions.
    at: row and column of the decision; None for the default.
    out: file of the picture; None for none.
    page: how large it is.
    json: whether to answer with JSON.
    """
    from ..applications.dependencies import dependency_strengths
    from ..pictures.plots import dependency_picture
    from ..raster import RasterModel

    if not isinstance(network, RasterModel):
        raise ValueError(f"--weights: {model} draws stroke by stroke, its pixels do not depend on earlier ones; use a raster model")
    spec = network.spec
    row, column = (2 * spec.height // 3, spec.width // 2) if at is None else at
    loaded = load_images(network, model, data, images, split, count, binarise, skip_broken=skip_broken)
    dataset = loaded.dataset
    condition = condition_for(network, len(dataset), flags, dataset)
    strength: Tensor = dependency_strengths(network, dataset.images, row, column, condition)
    if out is not None:
        save_figure(out, page, dependency_picture(strength, (0, row, column)))
    total = strength.sum(0)
    order = total.flatten().argsort(descending=True)[:8].tolist()
    strongest = [{"row": i // spec.width, "column": i % spec.width, "strength": float(total.flatten()[i])} for i in order]
    used = int((total > 1e-3 * total.max()).sum()) if float(total.max()) > 0 else 0
    title = f"pixel ({row}, {column}) uses {used} earlier pixels (at least 1/1000 of the strongest); the strongest:"
    lines = [f"{model} on {loaded.text}", title]
    lines += [f"  row {s['row']:>3}  column {s['column']:>3}  moves the probabilities by {s['strength']:.4f}" for s in strongest[:used]]
    result = {"model": model, **loaded.facts, "row": row, "column": column, "used": used, "strongest": strongest, "out": out and str(out)}
    answer(result, json, *lines, *([f"  {out}"] if out else []))
    return 0


def flat_index(spec: ImageSpec, at: tuple[int, int]) -> int:
    """Flat index of the last channel at a position.

    spec: of the images.
    at: row and column.

    Raises ``ValueError`` for a position outside the image.
    """
    row, column = at
    if not (0 <= row < spec.height and 0 <= column < spec.width):
        raise ValueError(f"--at: expected a position in {spec.height}x{spec.width}, got {row} {column}")
    return ((spec.channels - 1) * spec.height + row) * spec.width + column
