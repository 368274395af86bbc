"""``demo``, ``models``, ``recipes``: what the package has."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from ..recipes.recipe import Recipe, duration
from .show import Device, Json, answer, check_folder_out


def models(json: Json = False) -> None:
    """The models: sizes for 28x28 images of two levels, and conditions that they take. `rastrum zoo` lists trained ones."""
    from ..checkpoint import bundled
    from ..models import MODELS

    found = {name: describe(name) for name in MODELS}
    lines = [model_line("model", "kind", "small", "paper", "conditions", "colour", "levels", "videos")]
    for name, row in found.items():
        small, paper = (short(row["parameters"][preset]) for preset in ("small", "paper"))
        colour, videos = ("yes" if row[key] else "-" for key in ("colour", "videos"))
        lines.append(model_line(name, row["kind"], small, paper, " ".join(row["conditions"]) or "-", colour, f"{row['levels']:,}", videos))
    more = [f"{name} also has the presets {', '.join(row['more_presets'])}" for name, row in found.items() if row["more_presets"]]
    answer(found, json, *lines, "", *MODELS_LEGEND, *more, "", f"{len(bundled())} trained ones are bundled with the package: rastrum zoo")


MODELS_LEGEND = (
    "raster: pixel by pixel, exact likelihood · canvas: stroke by stroke, a bound",
    "gan: drawn against a discriminator, no likelihood",
    "small, paper: parameters of these presets · levels: at most",
)


def model_line(name: str, kind: str, small: str, paper: str, conditions: str, colour: str, levels: str, videos: str) -> str:
    """A line of ``rastrum models``, at most 80 columns.

    name, kind, small, paper, conditions, colour, levels, videos: its cells.
    """
    return f"{name:<19} {kind:<6} {small:>6} {paper:>6}  {conditions:<16} {colour:<6} {levels:>6}  {videos:<6}".rstrip()


def short(count: int) -> str:
    """A ``count`` in three digits or so: 613, 9.6k, 138k, 53.6M."""
    for size, suffix in ((1_000_000, "M"), (1000, "k")):
        if count >= size:
            return f"{count / size:.{1 if count < 100 * size else 0}f}{suffix}"
    return str(count)


def describe(name: str, presets: Sequence[str] = ("tiny", "small", "paper")) -> dict[str, Any]:
    """What a model takes, found by building small ones.

    name: in ``MODELS``.
    presets: whose parameters are counted; all three by default.
    """
    from ..adversarial import AdversarialModel
    from ..models import MODELS, build
    from ..protocol import ImageSpec
    from ..raster import RasterModel
    from ..strokes import CanvasModel

    def takes(spec: ImageSpec) -> bool:
        with contextlib.suppress(ValueError):
            return build(name, spec, "tiny") is not None
        return False

    spec, kinds = ImageSpec(1, 28, 28, 2), {"gan": AdversarialModel, "canvas": CanvasModel, "raster": RasterModel}
    return {
        "kind": next(kind for kind, base in kinds.items() if issubclass(MODELS[name], base)),
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
    from ..recipes.recipe import WITHOUT_LIKELIHOOD

    groups: dict[tuple[str, str, bool], list[Recipe]] = {}
    for recipe in RECIPES.values():
        groups.setdefault((recipe.data.name, str(recipe.data), recipe.system in WITHOUT_LIKELIHOOD), []).append(recipe)
    lines = [recipe_line("recipe", "time", "score", "published")]
    for (name, preprocessing, without), group in groups.items():
        what = "kernel distance" if without else unit(group)
        lines += ["", ", ".join(part for part in (name, preprocessing) if part) + f": {what}"]
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
    "published: the paper's, mostly larger and trained far longer · kernel distance:",
    "of drawn pictures, by features of a small classifier (rastrum evaluate)",
)


def recipe_line(name: str, time: str, score: str, published: str) -> str:
    """A line of ``rastrum recipes``, at most 80 columns; a score's mark follows its value, so that values line up.

    name, time, score, published: its cells.
    """
    number, mark = (score[:-1], "*") if score.endswith("*") else (score, " ")
    return f"  {name:<50} {time:>6} {number:>8}{mark} {published:>9}".rstrip()


def unit(group: Sequence[Recipe]) -> str:
    """The unit of the scores of a ``group``, recipes on the same images."""
    scores = (score for recipe in group for score in (recipe.expected, *recipe.published) if score is not None)
    name = next((score.unit for score in scores), "bits/dim")
    return "nats per image" if name == "nats" else name


def demo(
    folder: Annotated[Path, arg(help="where pictures and report.html go")] = Path("demo"),
    minutes: Annotated[float, arg(help="of training, all models together")] = 2.0,
    seed: Annotated[int, arg(help="of the parameters and the samples")] = 0,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Train a class-conditional Gated PixelCNN and a DRAW on the embedded digits (about 3 minutes on two CPU cores) and draw with them."""
    from ..demo.run import run_demo

    check_folder_out("--folder", folder)
    result = run_demo(folder, minutes, seed, device=device)
    answer({"folder": str(folder), **result}, json, f"open {folder / 'report.html'}")
