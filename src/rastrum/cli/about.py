"""``demo``, ``models``, ``recipes``: what there is."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from .show import Json, answer


def models(json: Json = False) -> None:
    """The models that there are. Parameters are those of an unconditional 28x28 image of two levels."""
    from rich.table import Table

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
            "kind": "canvas: stroke by stroke, a bound" if issubclass(model_class, CanvasModel) else "raster: pixel by pixel, exact",
            "parameters": sizes,
            "conditions": [c.kind for c in conditions if takes(name, ImageSpec(1, 28, 28, 2), c)],
            "colour": takes(name, ImageSpec(3, 28, 28, 2)),
            "levels": next(top for top in (65536, 256, 2) if takes(name, ImageSpec(1, 28, 28, top))),
        }
    table = Table("model", "kind", "tiny", "small", "paper", "conditions", "colour", "levels up to", box=None)
    for name, row in found.items():
        sizes = (f"{n:,}" for n in row["parameters"].values())
        table.add_row(name, row["kind"], *sizes, ", ".join(row["conditions"]) or "-", "yes" if row["colour"] else "-", f"{row['levels']:,}")
    answer(found, json, table)


def parameters(name: str, preset: str) -> int:
    """Parameters of a preset for a 28x28 image of two levels."""
    from ..models import build
    from ..protocol import ImageSpec

    return sum(p.numel() for p in build(name, ImageSpec(1, 28, 28, 2), preset).parameters())


def recipes(json: Json = False) -> None:
    """The recipes: one for each reported number. `rastrum train RECIPE --help` shows its settings."""
    import inspect

    from rich.table import Table

    from ..recipes import RECIPES

    table = Table("recipe", "what it does, and the score to expect", box=None)
    found: dict[str, Any] = {}
    for name, recipe in RECIPES.items():
        found[name] = {"about": inspect.getdoc(recipe) or ""}
        table.add_row(name, found[name]["about"])
    answer(found, json, table)


def demo(folder: Annotated[Path, arg(help="where pictures and report.html go")] = Path("demo"), json: Json = False) -> None:
    """Train a class-conditional Gated PixelCNN and a DRAW on the embedded digits (about 3 minutes on two CPU cores) and draw with them."""
    from ..demo import run_demo

    result = run_demo(folder)
    answer({"folder": str(folder), "result": result}, json, f"open {folder / 'report.html'}")
