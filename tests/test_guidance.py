"""Guidance of raster models by exemplars: its conditionals against their definition, one step at a time and all at once."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import rastrum
from rastrum import ConditionSpec, ImageSpec, RasterModel, exemplar_map
from rastrum.guidance import Guided
from rastrum.pictures.exemplars import new_exemplars

SPEC = ImageSpec(1, 3, 2, 2)
TWO = ConditionSpec("map", (2, 3, 2))


def build(name: str = "gated-pixelcnn", spec: ImageSpec = SPEC, condition: ConditionSpec | None = TWO, **options: Any) -> RasterModel:
    model = rastrum.build(name, spec, "tiny", condition, seed=5, **options)
    assert isinstance(model, RasterModel)
    return model.eval()


def exemplars(spec: ImageSpec = SPEC, images: int = 1) -> torch.Tensor:
    drawn = torch.randint(spec.levels, (images, 1, *spec.shape), generator=torch.Generator().manual_seed(2))
    return exemplar_map(drawn, 2, spec.levels)


def test_conditionals_against_their_definition() -> None:
    """Of every image of 3x2 pixels, in float64: the product of the normalised conditionals; they sum to one over all images."""
    model, condition = build(condition_exemplars=True).double(), exemplars()
    everything = torch.tensor(list(itertools.product(range(2), repeat=6))).view(-1, *SPEC.shape)
    each = condition.expand(64, -1, -1, -1)
    with torch.no_grad():
        given, free = (model.distribution(everything, c).log_pmf().exp().numpy() for c in (each, torch.full_like(each, -1)))
        found = Guided(model, 1.5).log_prob(everything, condition[0])
    p = given * (given / free) ** 1.5
    p /= p.sum(-1, keepdims=True)
    expected = np.log(np.take_along_axis(p, everything[..., None].numpy(), -1)).sum((1, 2, 3, 4))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert float(found.exp().sum()) == pytest.approx(1)


@pytest.mark.parametrize("name", ["gated-pixelcnn", "row-lstm", "pixelcnn++"])
def test_steps_are_those_of_the_definition(name: str) -> None:
    """Images drawn a step at a time by each backend are those of full passes; known pixels stay, and a state can be divided."""
    spec = ImageSpec(1, 5, 4, 3)
    guided = Guided(build(name, spec, ConditionSpec("map", (2, 5, 4))), 2.0)
    condition = exemplars(spec, 3)
    drawn = rastrum.sample(guided, 3, condition, seed=1)
    assert torch.equal(drawn, rastrum.sample(guided, 3, condition, seed=1, backend="naive"))
    assert torch.equal(drawn, rastrum.sample(guided, 3, condition, seed=1, backend="torch"))
    known = torch.zeros(spec.shape, dtype=torch.bool)
    known[:, :2] = True
    assert torch.equal(rastrum.complete(guided, drawn, known, condition, seed=1), drawn)
    particles, _ = rastrum.complete(guided, drawn, known.flip(1), condition, seed=1, particles=4)
    assert torch.equal(particles[..., 3:, :], drawn[..., 3:, :])


def test_no_weight_or_no_exemplar_is_the_model_itself() -> None:
    model, x = build(condition_exemplars=True).double(), torch.randint(2, (4, *SPEC.shape), generator=torch.Generator().manual_seed(3))
    for weight, condition in ((0.0, exemplars()[0]), (3.0, torch.full(TWO.shape, -1.0))):
        torch.testing.assert_close(Guided(model, weight).log_prob(x, condition), model.log_prob(x, condition))
    near = Guided(model, 3.0).log_prob(x, exemplars()[0])
    assert not torch.allclose(near, model.log_prob(x, exemplars()[0]), atol=1e-3)


def test_new_exemplars_are_guided() -> None:
    model, shown = build(), torch.randint(2, (2, *SPEC.shape), generator=torch.Generator().manual_seed(4))
    drawn = new_exemplars(model, shown, count=3, seed=6, guidance=2.0).drawn
    condition = exemplar_map(shown[:, None], 2, 2).repeat_interleave(3, 0)
    assert torch.equal(drawn.flatten(0, 1), rastrum.sample(Guided(model, 2.0), 6, condition, seed=6).float())


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Guided(build(condition=None), 1.0), "this one has no condition; train one with --data.exemplars"),
        (lambda: Guided(build(), -1.0), "weight of at least 0, got -1.0"),
        (lambda: Guided(build(), float("nan")), "weight of at least 0, got nan"),
        (lambda: Guided(rastrum.build("one-shot", SPEC, "tiny", TWO), 1.0),  # pyright: ignore[reportArgumentType]
         "expected a raster model, such as gated-pixelcnn, got OneShot"),
        (lambda: rastrum.sample(Guided(build(), 1.0), 2), "up to 2 exemplars of an image: rastrum.exemplar_map"),
    ],
)  # fmt: skip
def test_what_cannot_be_guided(make: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make()
