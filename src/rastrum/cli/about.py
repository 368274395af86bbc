"""``demo``, ``models``, ``recipes``: what there is."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from ..recipes.recipe import Recipe, duration
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
    """The recipes: one for each number that we report. `rastrum train RECIPE --help` shows a recipe's facts and settings."""
    from dataclasses import asdict

    from ..recipes import RECIPES

    groups: dict[tuple[str, str], list[Recipe]] = {}
    for recipe in RECIPES.values():
        groups.setdefault((recipe.data.name, str(recipe.data)), []).append(recipe)
    lines = [recipe_line("recipe", "time", "score", "published")]
    for (name, preprocessing), group in groups.items():
        lines += ["", ", ".join(part for part in (name, preprocessing) if part) + f": {unit(group)}"]
        for recipe in group:
            score, published = recipe.expected, recipe.published[0] if recipe.published else None
            sign = "" if score is None else "< " if score.below else "≤ " if score.kind == "bound" else ""
            mark = "*" if recipe.tuned_on == "test" else ""
            time = duration(sum(run.minutes for run in recipe.budget)) if recipe.budget else ""
            value = "" if score is None else f"{sign}{score.number.partition(' ')[0]}{mark}"
            lines.append(recipe_line(recipe.name, time, value, published.number if published else ""))
    found = {name: {"commands": recipe.commands, **asdict(recipe)} for name, recipe in RECIPES.items()}
    answer(found, json, *lines, *RECIPES_LEGEND)


RECIPES_LEGEND = (
    "",
    "time: of one core; empty = not yet run · score: mean over held-out images,",
    "≤ a bound, < a run stopped early, * settings chosen on these test images",
    "published: the paper's, mostly larger and trained far longer",
)


def recipe_line(name: str, time: str, score: str, published: str) -> str:
    """80 columns; a score's mark stands behind its number, so that numbers line up."""
    number, mark = (score[:-1], "*") if score.endswith("*") else (score, " ")
    return f"  {name:<50} {time:>6} {number:>8}{mark} {published:>9}".rstrip()


def unit(group: Sequence[Recipe]) -> str:
    """What the scores of recipes on the same images are in."""
    scores = (score for recipe in group for score in (recipe.expected, *recipe.published) if score is not None)
    name = next((score.unit for score in scores), "bits/dim")
    return "nats per image" if name == "nats" else name


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
