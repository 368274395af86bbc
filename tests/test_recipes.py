"""Every recipe can be built, its facts are data, and its settings are flags."""

import dataclasses
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import tyro

from rastrum.cli import main
from rastrum.config import Score
from rastrum.data.dataset import Dataset
from rastrum.data.exemplars import ExemplarSets
from rastrum.evaluation import check_data
from rastrum.models import MODELS
from rastrum.protocol import ImageSpec
from rastrum.recipes import RECIPES, Recipe, build_model
from rastrum.recipes.recipe import WITHOUT_LIKELIHOOD, Budget, Published, Settings
from rastrum.train import check_config

SMALL = [name for name in RECIPES if not name.endswith(("-paper", "-large"))]
# Image shape and levels of the data sets without options.
SHAPES: dict[str, tuple[int, int, int, int]] = {
    "digits": (1, 8, 8, 17), "mnist": (1, 28, 28, 256), "fashion-mnist": (1, 28, 28, 256), "binarized-mnist": (1, 28, 28, 2),
    "omniglot": (1, 28, 28, 256), "omniglot28": (1, 28, 28, 2), "cifar10": (3, 32, 32, 256), "dead-leaves": (1, 32, 32, 256),
    "bsds300": (3, 32, 32, 256), "two-digit-mnist": (1, 60, 60, 256), "two-digit-mnist-colour": (3, 60, 60, 256),
    "placed-mnist": (1, 32, 32, 256), "described-mnist": (1, 28, 28, 256), "moving-mnist": (1, 64, 64, 256),
    "photographs": (3, 64, 64, 256),
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_its_system_its_images_and_a_budget(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.name == name and recipe.system in MODELS
    assert name.startswith(("photo", recipe.system.replace("++", "-plus-plus")))   # those of rastrum compress are named by their use
    assert type(recipe.model) is MODELS[recipe.system].config_class
    assert recipe.commands[0].startswith(f"rastrum train {name}") and recipe.about.endswith(".")
    check_config(recipe)
    channels, height, width, levels = SHAPES[recipe.data.name]
    size = recipe.data.crop or recipe.data.size
    still = (1 if recipe.data.grey else channels, size or height, size or width, 2 if recipe.data.binarise else levels)
    frames = (recipe.data.frames or 20,) if recipe.data.name == "moving-mnist" else ()
    assert recipe.images == still + frames


@pytest.mark.parametrize("name", RECIPES)
def test_measured_scores_are_complete(name: str) -> None:
    """A score has an error, a budget and hardware, is of held-out images, and has the model's kind."""
    recipe = RECIPES[name]
    assert (recipe.expected is None) == (not recipe.budget)
    if recipe.expected is None:
        assert not recipe.further and recipe.tuned_on is None
        return
    score = recipe.expected
    units = ("kernel distance",) if recipe.system in WITHOUT_LIKELIHOOD else ("nats", "bits/dim", "nats per video")
    assert recipe.hardware and score.error and score.images and score.unit in units
    other = recipe.data.train.startswith(("test", "train45"))
    assert score.split == (recipe.data.held_out if other else "test")
    kind = MODELS[recipe.system].likelihood
    assert score.kind == ("measure" if kind == "loss" else kind) and (kind == "loss") == (recipe.system in WITHOUT_LIKELIHOOD)
    assert any(line.startswith("Settings") for line in recipe.facts()) == (recipe.tuned_on is not None)


def test_scores_that_were_tuned_on_test_images_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    tuned = {name for name, recipe in RECIPES.items() if recipe.tuned_on == "test"}
    videos = {name for name, recipe in RECIPES.items() if recipe.system == "video-pixel-network" and recipe.expected}
    assert videos | {"draw-digits", "row-lstm-mnist-classes", "row-lstm-placed-mnist"} <= tuned
    assert main(["recipes"]) == 0
    marked = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ") and "*" in line}
    assert marked == tuned
    assert main(["train", "draw-digits", "--help"]) == 0
    assert "Settings chosen on these test images" in capsys.readouterr().out


def test_a_line_per_recipe_at_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Recipes are grouped by data set, each group has one unit, and scores are printed as measured."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "  draw-binarized-mnist                               45 min  ≤ 85.01    ≤ 80.97" in lines
    units: dict[tuple[str, str, bool], set[str]] = {}
    for name, recipe in RECIPES.items():
        assert sum(line.startswith(f"  {name} ") or line == f"  {name}" for line in lines) == 1
        scores: list[Score | Published] = [*recipe.published, *filter(None, [recipe.expected])]
        group = (recipe.data.name, str(recipe.data), recipe.system in WITHOUT_LIKELIHOOD)
        units.setdefault(group, set()).update(score.unit for score in scores)
    assert all(len(found) <= 1 for found in units.values())


def test_the_list_compares_like_with_like(capsys: pytest.CaptureFixture[str]) -> None:
    """A score over several numbers of exemplars has no published one beside it, which is of exactly one."""
    assert main(["recipes"]) == 0
    cells = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  ") and "-exemplars" in line]
    assert ["gated-pixelcnn-omniglot28-exemplars", "3", "min", "71.64"] in cells
    assert ["one-shot-omniglot28-exemplars-paper", "82.8"] in cells
    assert not [line for line in cells if line[2:3] == ["min"] and "82.8" in line]


def test_listing_recipes_needs_no_torch() -> None:
    code = "import sys; from rastrum.cli import main; main(['recipes']); print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"


def test_numbers_keep_their_decimals() -> None:
    score = Score(value=85.91, error=0.20, unit="nats", kind="exact", images=10_000, split="test")
    assert str(score) == "85.91 ± 0.20 nats (10,000 test images, exact)"
    assert str(replace(score, value=3.820, error=0.045, below=True, images=None, notes="x")) == "below 3.820 ± 0.045 nats (exact, x)"
    assert Score(value=-4.336, unit="bits", kind="measure").number == "−4.336"
    assert Published(value=81.3, unit="nats", source="P").number == "81.30"
    assert str(Budget(minutes=0.9, clock="wall")) == "54 s" and str(Budget(minutes=40, steps=8005)) == "40 min of CPU time (8,005 steps)"


@pytest.mark.parametrize("name", SMALL)
def test_a_recipes_model_fits_its_data(name: str) -> None:
    """Built on stand-in images of the set's shape; the same seed gives the same parameters."""
    recipe = RECIPES[name]
    spec = ImageSpec(*recipe.images)
    exemplars = recipe.data.exemplars
    labels = torch.tensor([1, 2]) if recipe.conditional and exemplars is None else None
    images = torch.zeros(2, *spec.shape, dtype=torch.uint8)
    conditions = {"placed-mnist": torch.zeros(2, 10, 4, 4), "described-mnist": torch.zeros(2, 4)}.get(recipe.data.name)
    if exemplars is not None:
        others = torch.zeros(exemplars + 1, *spec.shape, dtype=torch.uint8)
        conditions = ExemplarSets(others, spec.levels, torch.zeros(len(others), dtype=torch.int64), torch.arange(2), exemplars)
    data = Dataset(recipe.data.name, "train", spec, images, labels, 0 if labels is None else 10, conditions=conditions)
    model, again = build_model(recipe, data), build_model(recipe, data)
    check_data(model, data)
    assert (model.condition_spec is not None) == recipe.conditional
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


def digits(labels: bool = True) -> Dataset:
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    return Dataset("mine", "train", ImageSpec(1, 8, 8, 17), images, torch.tensor([0, 1]) if labels else None, 10 if labels else 0)


def test_a_class_conditional_recipe_needs_classes() -> None:
    with pytest.raises(ValueError, match="has no class, vector or map"):
        build_model(RECIPES["gated-pixelcnn-digits"], digits(labels=False))


def test_exemplars_are_never_ignored() -> None:
    """A model that is trained beside exemplars without being given them would score as if there were none."""
    given = replace(digits(), conditions=ExemplarSets(digits().images, 17, torch.zeros(2), torch.arange(2), slots=1))
    with pytest.raises(ValueError, match=r"unconditional model would ignore the exemplars; .*--conditional"):
        build_model(replace(RECIPES["gated-pixelcnn-digits"], conditional=False), given)


def test_every_setting_is_a_flag_and_no_fact_is() -> None:
    """The command line is ``tyro.cli(Settings, default=recipe.settings())``; the model's own config is in it."""
    recipe = RECIPES["draw-mnist-300"]
    flags = ["--model.no-attention", "--model.steps", "3", "--data.binarise", "static", "--data.limit", "50", "--optim.betas", "0.8", "0.9",
             "--run.steps", "None", "--run.minutes", "1.5", "--run.folder", "x", "--optim.micro-batch", "8"]  # fmt: skip
    changed = recipe.changed(tyro.cli(Settings, default=recipe.settings(), args=flags))
    assert changed.model == dataclasses.replace(recipe.model, attention=False, steps=3)
    assert changed.data == dataclasses.replace(recipe.data, binarise="static", limit=50)
    assert changed.optim == dataclasses.replace(recipe.optim, betas=(0.8, 0.9), micro_batch=8)
    assert changed.run == dataclasses.replace(recipe.run, steps=None, minutes=1.5, folder="x")
    assert (changed.expected, changed.published, changed.system) == (recipe.expected, recipe.published, recipe.system)
    for flag in ("--expected.value", "--about", "--tuned-on", "--system"):
        assert main(["train", "draw-mnist-300", flag, "1"]) == 2


@pytest.mark.parametrize("name", RECIPES)
def test_unchanged_settings_give_the_same_recipe(name: str) -> None:
    recipe = RECIPES[name]
    again = recipe.changed(recipe.settings())
    assert again.model == recipe.model and replace(again, options=recipe.options) == recipe


def test_a_run_may_begin_with_the_weights_of_another(tmp_path: Path) -> None:
    """A class-conditional model starts with an unconditional one's weights; its other parameters stay as initialised; a mismatch is
    refused."""
    recipe, data = RECIPES["gated-pixelcnn-digits"], digits()
    first = build_model(replace(recipe, conditional=False, run=replace(recipe.run, seed=7)), data)
    first.save_pretrained(tmp_path)
    second, fresh = build_model(replace(recipe, start=str(tmp_path)), data), build_model(recipe, data)
    begun, ours, others = first.state_dict(), second.state_dict(), fresh.state_dict()
    assert set(begun) < set(ours) and all(torch.equal(ours[name], values) for name, values in begun.items())
    assert all(torch.equal(ours[name], others[name]) for name in set(ours) - set(begun))

    def other(**options: Any) -> Recipe:
        return replace(recipe, start=str(tmp_path), options={**recipe.options, **options})

    with pytest.raises(ValueError, match="this model has none"):
        build_model(other(layers=2), data)
    with pytest.raises(ValueError, match="of shape"):
        build_model(other(channels=16), data)
