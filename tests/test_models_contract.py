"""The contract of every canvas model, and saving and loading for every model of both kinds, including those of new_models.py."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import new_models
import pytest
import torch
from new_models import MODELS

import rastrum
from rastrum import CanvasModel, ImageSpec

pytestmark = pytest.mark.usefixtures("new_models")

CANVAS = [name for name, model in MODELS.items() if issubclass(model, CanvasModel)]
BOUND = [name for name in CANVAS if MODELS[name].has_posterior]
SPECS = [ImageSpec(1, 5, 4, 2), ImageSpec(3, 4, 5, 7)]


def canvas(name: str, spec: ImageSpec) -> CanvasModel:
    model = rastrum.build(name, spec, preset="tiny", seed=2)
    assert isinstance(model, CanvasModel)
    return model.double()


@pytest.mark.parametrize("name", BOUND)
def test_the_bound_of_all_images_sums_to_one(name: str) -> None:
    """Importance-weighted with many trajectories, exp(bound) is p(x), and a distribution sums to one."""
    model = canvas(name, ImageSpec(1, 2, 2, 2))
    everything = torch.tensor(list(itertools.product(range(2), repeat=4))).view(-1, 1, 2, 2)
    with torch.no_grad():
        total = float(model.bound(everything, num_samples=4000, seed=3).exp().sum())
    assert abs(total - 1) < 0.02, total


@pytest.mark.parametrize("name", CANVAS)
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_samples_do_not_depend_on_the_batch(name: str, spec: ImageSpec) -> None:
    """The first two of five images are the two drawn alone, and the last Frame of a walk shows them."""
    model = canvas(name, spec)
    five = rastrum.sample(model, 5, seed=4)
    assert torch.equal(five[:2], rastrum.sample(model, 2, seed=4))
    frames = list(rastrum.generate(model, 5, seed=4))
    assert frames[0].fraction == 0 and frames[-1].fraction == 1
    assert frames[-1].values is not None and torch.equal(frames[-1].values.long(), five.long())


@pytest.mark.parametrize("name", BOUND)
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_it_reconstructs_but_does_not_complete(name: str, spec: ImageSpec) -> None:
    model = canvas(name, spec)
    x = torch.randint(0, spec.levels, (2, *spec.shape), generator=torch.Generator().manual_seed(1))
    frames = list(rastrum.reconstruct(model, x, seed=5))
    assert all(frame.images.shape == x.shape and bool(torch.isfinite(frame.images).all()) for frame in frames)
    with pytest.raises(ValueError, match=r"cannot complete images, .* use reconstruct or a raster model"):
        rastrum.complete(model, x, torch.ones(spec.shape, dtype=torch.bool))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", sorted(set(CANVAS) - set(BOUND)))
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_without_a_posterior_there_are_samples_only(name: str, spec: ImageSpec) -> None:
    """What asks for a likelihood, latents or a completion is told what there is instead."""
    model = canvas(name, spec)
    x = rastrum.sample(model, 3, seed=6)
    for ask, why in (
        (lambda: model.bound(x), "has no likelihood: .*judge"),
        (lambda: rastrum.reconstruct(model, x), "has no posterior"),
        (lambda: model.reconstruct(x), "has no posterior"),               # at the call, not when the first Frame is asked for
        (lambda: model.encode(x), "has no posterior"),
        (lambda: rastrum.compress(model, x), "cannot code images"),  # pyright: ignore[reportArgumentType]
        (lambda: rastrum.complete(model, x, torch.ones(spec.shape, dtype=torch.bool)), "use sample"),  # pyright: ignore[reportArgumentType]
    ):
        with pytest.raises(ValueError, match=why):
            ask()


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_is_the_same_model(name: str, tmp_path: Path) -> None:
    """Every tensor and setting is restored, and with them the score of an image."""
    spec = ImageSpec(3, 4, 5, 7)
    model = rastrum.build(name, spec, preset="tiny", seed=7)
    model.save_pretrained(tmp_path / "model")
    back = rastrum.load(tmp_path / "model").eval()
    assert type(back) is type(model) and back.config == model.config and back.spec == spec
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), back.state_dict().values(), strict=True))
    x = torch.randint(0, spec.levels, (2, *spec.shape), generator=torch.Generator().manual_seed(1))
    assert torch.equal(model.score(x, seed=1), back.score(x, seed=1))


def test_the_example_for_authors_is_one_that_is_tested() -> None:
    """The Python of CONTRIBUTING.md is in new_models.py, and the names that it lists are in the files that it names."""
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    models = Path(new_models.__file__).read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert examples and all(example in models for example in examples)
    listed = re.findall(r"^\| ((?:`[\w.]+`(?:, )?)+)[^|]*\| `([\w/]+\.py)` \|", text, re.MULTILINE)
    assert len(listed) >= 8
    for names, file in listed:
        source = (Path(rastrum.__file__).parent / file).read_text()
        assert all(re.search(rf"(def|class) {name.split('.')[-1]}\b", source) for name in re.findall(r"[\w.]+", names)), names
