"""The bundled models: small, usable at once, with a card that says how they were made."""

from __future__ import annotations

import pytest
import torch

import rastrum
from rastrum import CanvasModel, RasterModel, exemplar_map
from rastrum.card import card
from rastrum.checkpoint import BUNDLED_FOLDER, bundled, read_origin
from rastrum.recipes import RECIPES

NAMES = bundled()


def test_all_are_there() -> None:
    assert {name.removeprefix("rastrum/") for name in NAMES} == {
        "conv-draw-cifar10-files",
        "conv-draw-cifar10-files-beta-0.1",
        "conv-draw-cifar10-files-beta-1",
        "conv-draw-photographs",
        "diagonal-bilstm-binarized-mnist-7-layers",
        "draw-binarized-mnist",
        "draw-binarized-mnist-no-attention",
        "draw-two-digit-mnist",
        "gated-pixelcnn-binarized-mnist",
        "gated-pixelcnn-omniglot-framed-exemplars",
        "gran-mnist-threshold",
        "multiscale-pixelrnn-binarized-mnist",
        "one-shot-omniglot28-exemplars",
        "photo",
        "photo-grey",
        "pixel-lstm-binarized-mnist",
        "pixelcnn-binarized-mnist-7-layers",
        "pixelcnn-plus-plus-cifar10",
        "row-lstm-binarized-mnist-7-layers",
        "row-lstm-described-mnist",
        "row-lstm-mnist",
        "row-lstm-mnist-classes",
        "row-lstm-placed-mnist",
        "spatial-lstm-bsds300",
        "vae-binarized-mnist-small",
        "video-pixel-network-moving-mnist-small",
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_made_of_config_json(name: str) -> None:
    """After a change of either, write the card again: ``(folder / "README.md").write_text(card(load(name), read_origin(name), name))``."""
    text = (BUNDLED_FOLDER / name.removeprefix("rastrum/") / "README.md").read_text(encoding="utf-8")
    assert text == card(rastrum.load(name), read_origin(name), name)
    for row in ("| data |", "| command |", "| training |", "| score |", "samples.png", f'rastrum.load("{name}")'):
        assert row in text


@pytest.mark.parametrize("name", NAMES)
def test_a_model_in_the_package(name: str) -> None:
    """At most 3 MB of weights, trained by the recipe of its name, with its expected score; it samples and scores as its condition says."""
    folder = BUNDLED_FOLDER / name.removeprefix("rastrum/")
    assert (folder / "model.safetensors").stat().st_size <= 3e6 and (folder / "samples.png").exists()
    origin, recipe, model = read_origin(name), RECIPES[folder.name], rastrum.load(name)
    assert (origin.recipe, origin.data, origin.tuned_on) == (recipe.name, recipe.data, recipe.tuned_on)
    ours, expected = origin.results, [score for score in (recipe.expected, *recipe.further) if score is not None]
    assert {(score.value, score.error) for score in ours} & {(score.value, score.error) for score in expected}
    assert model.config == recipe.model
    condition = other = None
    if model.condition_spec is not None:                                  # a class, a digit in a corner, or a drawing; and another one
        maps, (height, width) = torch.eye(160).view(160, 10, 4, 4), (model.spec.height, model.spec.width)
        cross, slash = torch.zeros(1, 1, 1, height, width, dtype=torch.long), torch.eye(height).long()[None, None, None]
        cross[..., height // 2 - 1 : height // 2 + 1, :] = cross[..., width // 2 - 1 : width // 2 + 1] = 1
        condition, other = {"class": lambda: (3, 1), "vector": lambda: (torch.tensor([0.0, 0, 0, 1.5]), torch.tensor([0.0, 0, 0, -1.5])),
                            "map": lambda: (maps[5 * 16 + 3], maps[1 * 16 + 12]),
                            "exemplars": lambda: [exemplar_map(each, model.slots, 2)[0] for each in (cross, slash)]}[
            "exemplars" if model.slots else model.condition_spec.kind
        ]()
    images = rastrum.sample(model, 2, condition, seed=1)
    if not model.has_likelihood:
        ink = images.float().mean((1, 2, 3)) / (model.spec.levels - 1)
        assert bool(((ink > 0.02) & (ink < 0.4)).all()) and not torch.equal(images[0], images[1])
        return
    with torch.no_grad():
        if isinstance(model, RasterModel):
            bits = -model.log_prob(images, condition).mean() / model.spec.size / 0.6931
            assert other is None or bool((model.log_prob(images, condition) > model.log_prob(images, other) + 1).all())
        else:
            assert isinstance(model, CanvasModel)
            bits = -model.bound(images, condition, seed=0).mean() / model.spec.size / 0.6931
    textures = recipe.system in ("least-squares", "conv-draw")           # drawn freely, one feeds on its noise; one describes pictures
    assert 0.02 < float(bits) < (0.3 if model.spec.levels == 2 else 7.0 if textures else 5.5)
