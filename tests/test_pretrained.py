"""The models in the package: small, with a card that says how they were made, and of use at once."""

from __future__ import annotations

import pytest
import torch

import rastrum
from rastrum import CanvasModel, RasterModel
from rastrum.checkpoint import BOXED, pretrained
from rastrum.recipes import RECIPES

NAMES = pretrained()


def test_all_are_there() -> None:
    assert {name.removeprefix("rastrum/") for name in NAMES} == {
        "draw-binarized-mnist",
        "gated-pixelcnn-binarized-mnist",
        "pixelcnn-plus-plus-cifar10",
        "row-lstm-mnist-classes",
        "row-lstm-placed-mnist",
        "video-pixel-network-moving-mnist-small",
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_model_in_the_package(name: str) -> None:
    """At most 2 MB of weights, made by the recipe of its name, whose expected score its card repeats; it draws and scores, as told."""
    folder = BOXED / name.removeprefix("rastrum/")
    assert (folder / "model.safetensors").stat().st_size <= 2e6 and (folder / "samples.png").exists()
    card = (folder / "README.md").read_text(encoding="utf-8")
    for row in ("| data |", "| command |", "| time |", "| score |", "samples.png", f'rastrum.load("{name}")'):
        assert row in card
    recipe = RECIPES[folder.name]
    assert any(score.number in card for score in (recipe.expected, *recipe.further) if score is not None)
    model = rastrum.load(name)
    assert model.config == recipe.model
    told = other = None
    if model.condition_spec is not None:                                  # a digit, or one in a corner, and another one
        maps = torch.eye(160).view(160, 10, 4, 4)
        told, other = (3, 1) if model.condition_spec.kind == "class" else (maps[5 * 16 + 3], maps[1 * 16 + 12])
    images = rastrum.sample(model, 2, told, seed=1)
    with torch.no_grad():
        if isinstance(model, RasterModel):
            bits = -model.log_prob(images, told).mean() / model.spec.size / 0.6931
            assert other is None or bool((model.log_prob(images, told) > model.log_prob(images, other) + 1).all())
        else:
            assert isinstance(model, CanvasModel)
            bits = -model.bound(images, seed=0).mean() / model.spec.size / 0.6931
    assert 0.02 < float(bits) < (0.3 if model.spec.levels == 2 else 5.5)
