"""Every recipe can be built, says what it must, and its settings are flags."""

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import tyro

from rastrum.config import Recipe
from rastrum.data.dataset import Dataset
from rastrum.evaluation import check_data
from rastrum.models import MODELS
from rastrum.protocol import ImageSpec
from rastrum.recipes.recipe import (
    BINARY,
    COLOUR,
    DIGITS,
    GREY,
    MOVING_SMALL,
    PLACED,
    RECIPES,
    TEXTURE,
    TWO,
    TWO_COLOUR,
    build_model,
    model_name,
)
from rastrum.train import check_config

SMALL = [name for name in RECIPES if not name.endswith(("-paper", "-large"))]


def shape_of(recipe: Recipe) -> tuple[int, ...]:
    grey = BINARY if recipe.data.binarise else GREY
    shapes = {"digits": DIGITS, "binarized-mnist": BINARY, "cifar10": COLOUR, "mnist": grey, "omniglot": grey, "fashion-mnist": grey,
              "dead-leaves": TEXTURE, "bsds300": TEXTURE,
              "two-digit-mnist": TWO, "two-digit-mnist-colour": TWO_COLOUR, "placed-mnist": PLACED,
              "moving-mnist": MOVING_SMALL}  # fmt: skip
    channels, height, width, levels, *frames = shapes[recipe.data.name]
    return channels, recipe.data.crop or height, recipe.data.crop or width, levels, *frames


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_its_command_hardware_and_score_and_has_a_budget(name: str) -> None:
    text = RECIPES[name].__doc__ or ""
    assert f"rastrum train {name}" in text and "Hardware and time:" in text and "Expected score:" in text
    recipe = RECIPES[name]()
    check_config(recipe)
    assert model_name(recipe) in MODELS and name.startswith(model_name(recipe).replace("++", "-plus-plus"))


@pytest.mark.parametrize("name", SMALL)
def test_a_recipes_model_fits_its_data(name: str) -> None:
    """Built on stand-in images of the set's shape; the same seed gives the same parameters."""
    recipe = RECIPES[name]()
    spec = ImageSpec(*shape_of(recipe))
    labels = torch.tensor([1, 2]) if recipe.conditional else None
    images = torch.zeros(2, *spec.shape, dtype=torch.uint8)
    conditions = torch.zeros(2, 10, 4, 4) if recipe.data.name == "placed-mnist" else None
    data = Dataset(recipe.data.name, "train", spec, images, labels, 10 if recipe.conditional else 0, conditions=conditions)
    model, again = build_model(recipe, data), build_model(recipe, data)
    check_data(model, data)
    assert (model.condition_spec is not None) == recipe.conditional
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


def test_a_class_conditional_recipe_needs_classes() -> None:
    recipe = RECIPES["gated-pixelcnn-digits"]()
    data = Dataset("mine", "train", ImageSpec(*DIGITS), torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="has no class, vector or map"):
        build_model(recipe, data)


def test_every_setting_is_a_flag() -> None:
    """The command line is ``tyro.cli(type(recipe), default=recipe)``; the model's own config is in it."""
    recipe = RECIPES["draw-mnist-300"]()
    flags = ["--model.no-attention", "--model.steps", "3", "--data.binarise", "static", "--data.limit", "50", "--optim.betas", "0.8", "0.9",
             "--run.steps", "None", "--run.minutes", "1.5", "--run.folder", "x", "--optim.micro-batch", "8"]  # fmt: skip
    changed = tyro.cli(type(recipe), default=recipe, args=flags)
    assert changed.model == dataclasses.replace(recipe.model, attention=False, steps=3)
    assert changed.data == dataclasses.replace(recipe.data, binarise="static", limit=50)
    assert changed.optim == dataclasses.replace(recipe.optim, betas=(0.8, 0.9), micro_batch=8)
    assert changed.run == dataclasses.replace(recipe.run, steps=None, minutes=1.5, folder="x")


def test_a_run_may_begin_with_the_weights_of_another(tmp_path: Path) -> None:
    """A class-conditional model begins with an unconditional one's weights; what only it has stays fresh; what does not fit is named."""
    recipe = RECIPES["gated-pixelcnn-digits"]()
    data = Dataset("digits", "train", ImageSpec(*DIGITS), torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]), 10)
    first = build_model(replace(recipe, conditional=False, run=replace(recipe.run, seed=7)), data)
    first.save_pretrained(tmp_path)
    second, fresh = build_model(replace(recipe, start=str(tmp_path)), data), build_model(recipe, data)
    begun, ours, others = first.state_dict(), second.state_dict(), fresh.state_dict()
    assert set(begun) < set(ours) and all(torch.equal(ours[name], values) for name, values in begun.items())
    assert all(torch.equal(ours[name], others[name]) for name in set(ours) - set(begun))
    with pytest.raises(ValueError, match="this model has none"):
        build_model(replace(recipe, start=str(tmp_path), model=replace(recipe.model, layers=2)), data)
    with pytest.raises(ValueError, match="of shape"):
        build_model(replace(recipe, start=str(tmp_path), model=replace(recipe.model, channels=16)), data)
