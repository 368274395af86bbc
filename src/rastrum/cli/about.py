"""``demo``, ``models``, ``recipes``: what there is."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from .show import Json, answer


def models(json: Json = False) -> None:
    """The models that there are. tiny, small, paper: parameters for 28x28 images of two levels, told nothing."""
    from rich.table import Column, Table

    from ..canvas import CanvasModel
    from ..models import MODELS, build
    from ..protocol import ConditionSpec, ImageSpec

    def takes(name: str, spec: ImageSpec, condition: ConditionSpec | None = None) -> bool:
        with contextlib.suppress(ValueError):
            return build(name, spec, "tiny", condition) is not None
        return False

    conditions = [ConditionSpec("class", 10), ConditionSpec("vector", 3), ConditionSpec("map", (1, 28, 28))]
    found = {}
    for name, model_class in MODELS.items():
        sizes = {preset: parameters(name, preset) for preset in ("tiny", "small", "paper")}
        found[name] = {
            "kind": "canvas" if issubclass(model_class, CanvasModel) else "raster",
            "parameters": sizes,
            "conditions": [c.kind for c in conditions if takes(name, ImageSpec(1, 28, 28, 2), c)],
            "colour": takes(name, ImageSpec(3, 28, 28, 2)),
            "levels": next(top for top in (65536, 256, 2) if takes(name, ImageSpec(1, 28, 28, top))),
        }
    names = ("model", "kind", "tiny", "small", "paper", "told", "colour", "levels")
    table = Table(*(Column(name, no_wrap=name != "told") for name in names), box=None)
    for name, row in found.items():
        sizes = (f"{n:,}" for n in row["parameters"].values())
        told, colour = ", ".join(row["conditions"]) or "-", "yes" if row["colour"] else "-"
        table.add_row(name, row["kind"], *sizes, told, colour, f"2–{row['levels']:,}")
    legend = "raster: pixel by pixel, exact likelihood · canvas: stroke by stroke, a bound · told: conditions it can be given"
    answer(found, json, table, legend)


def parameters(name: str, preset: str) -> int:
    """Parameters of a preset for a 28x28 image of two levels."""
    from ..models import build
    from ..protocol import ImageSpec

    return sum(p.numel() for p in build(name, ImageSpec(1, 28, 28, 2), preset).parameters())


def recipes(json: Json = False) -> None:
    """The recipes: one for each reported number. `rastrum train RECIPE --help` shows its settings."""
    import inspect

    from rich.table import Column, Table

    from ..recipes import RECIPES, model_name

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
    from ..demo import run_demo

    result = run_demo(folder, minutes, seed)
    answer({"folder": str(folder), **result}, json, f"open {folder / 'report.html'}")
