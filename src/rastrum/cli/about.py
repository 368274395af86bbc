"""``demo``, ``models``, ``recipes``: what there is."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from .show import Json, answer


def models(json: Json = False) -> None:
    """The models that there are. tiny, small, paper: parameters for 28x28 images of two levels, told nothing."""
    from rich.table import Column, Table

    from ..checkpoint import pretrained
    from ..models import MODELS

    found = {name: describe(name) for name in MODELS}
    names = ("model", "kind", "tiny", "small", "paper", "told", "colour", "levels")
    columns = (Column(name, min_width=len("vector,")) if name == "told" else Column(name, no_wrap=True) for name in names)
    table = Table(*columns, box=None, padding=(0, 1, 0, 0), pad_edge=False)     # 80 columns hold it with one condition a line
    for name, row in found.items():
        sizes = (f"{n:,}" for n in row["parameters"].values())
        told, colour = ", ".join(row["conditions"]) or "-", "yes" if row["colour"] else "-"
        table.add_row(name, row["kind"], *sizes, told, colour, f"2–{row['levels']:,}")
    boxed = f"in the package, trained: {', '.join(name + told_in(name) for name in pretrained())}"
    more = [f"{name} also has the presets {', '.join(row['more_presets'])}" for name, row in found.items() if row["more_presets"]]
    more.append(f"of videos: {', '.join(name for name, row in found.items() if row['videos'])}")
    legend = "raster: pixel by pixel, exact likelihood · canvas: stroke by stroke, a bound · told: conditions it can be given"
    answer(found, json, table, legend, *more, boxed)


def told_in(name: str) -> str:
    """What a model in the package is told, in words."""
    import rastrum

    told = rastrum.load(name).condition_spec
    if told is None:
        return ""
    return f" (told a class of {told.size})" if told.kind == "class" else f" (told a {told.kind} of {' x '.join(map(str, told.shape))})"


def describe(name: str, presets: Sequence[str] = ("tiny", "small", "paper")) -> dict[str, Any]:
    """What a model takes, found by building it."""
    from ..models import MODELS, build
    from ..protocol import ImageSpec
    from ..strokes import CanvasModel

    def takes(spec: ImageSpec) -> bool:
        with contextlib.suppress(ValueError):
            return build(name, spec, "tiny") is not None
        return False

    spec = ImageSpec(1, 28, 28, 2)
    return {
        "kind": "canvas" if issubclass(MODELS[name], CanvasModel) else "raster",
        "parameters": {preset: sum(p.numel() for p in build(name, spec, preset).parameters()) for preset in presets},
        "more_presets": list(getattr(MODELS[name], "more_presets", ())),
        "conditions": list(MODELS[name].conditions),
        "colour": takes(replace(spec, channels=3)),
        "videos": takes(replace(spec, frames=2)),
        "levels": next(levels for levels in (65536, 256, 2) if takes(replace(spec, levels=levels))),
    }


def recipes(json: Json = False) -> None:
    """The recipes: one for each reported number. `rastrum train RECIPE --help` shows its settings."""
    import inspect

    from rich.table import Column, Table

    from ..recipes.recipe import RECIPES, model_name

    found: dict[str, Any] = {}
    table = Table(Column("recipe", no_wrap=True), "what it is", "expected score", box=None, padding=(0, 2, 1, 0))
    for name, recipe in RECIPES.items():
        about, _, rest = (inspect.getdoc(recipe) or "").partition("\n\n")
        facts = dict(line.split(": ", 1) for line in rest.splitlines() if ": " in line)
        config = recipe()
        expected = facts.get("Expected score", "")
        found[name] = {"model": model_name(config), "data": config.data.name, "about": " ".join(about.split()), "expected": expected,
                       "command": facts.get("Command", ""), "time": facts.get("Hardware and time", "")}  # fmt: skip
        table.add_row(name, found[name]["about"], expected)
    answer(found, json, table)


def demo(
    folder: Annotated[Path, arg(help="where pictures and report.html go")] = Path("demo"),
    minutes: Annotated[float, arg(help="of training, for all models together")] = 2.0,
    seed: Annotated[int, arg(help="of the models and what they draw")] = 0,
    json: Json = False,
) -> None:
    """Train a class-conditional Gated PixelCNN and a DRAW on the embedded digits (about 3 minutes on two CPU cores) and draw with them."""
    from ..demo.run import run_demo

    result = run_demo(folder, minutes, seed)
    answer({"folder": str(folder), **result}, json, f"open {folder / 'report.html'}")
