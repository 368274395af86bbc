"""Several resolutions: chains of factors, sizes that they do not divide, each base; every value is scored once."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

import rastrum
from rastrum import ImageSpec, RasterModel
from rastrum.models.multiscale_pixelrnn import BASES, MultiscalePixelRNN


def lively(spec: ImageSpec, **options: Any) -> MultiscalePixelRNN:
    model = rastrum.build("multiscale-pixelrnn", spec, preset="tiny", seed=1, **options)
    assert isinstance(model, MultiscalePixelRNN)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    "size, factors", [((1, 7, 6), (2, 2)), ((3, 4, 5), (3,)), ((1, 8, 5), (2, 3)), ((2, 5, 1), (2,))], ids=lambda value: str(value)
)
def test_any_base_and_chain(base: str, size: tuple[int, int, int], factors: tuple[int, ...]) -> None:
    """It is causal in its own order, has the promised context and a normalised distribution; its step equals its forward in both
    interpreters."""
    model = lively(ImageSpec(*size, 3), base=base, factors=factors, layers=2 if base == "pixelcnn" else 1)
    report = rastrum.check(model)
    assert report.ok, str(report)
    assert torch.equal(model.program().decided(), model.order)
    native, exact = (rastrum.sample(each, 3, seed=4) for each in (model, model.double()))
    assert torch.equal(native, exact)


def test_a_value_is_scored_once() -> None:
    """log p(x) = log p(coarse) + log p(rest | coarse), each of them normalised by itself."""
    spec = ImageSpec(1, 2, 3, 2)
    model = lively(spec, factors=(2,)).double()
    coarse = model.scales[0]
    assert isinstance(coarse, RasterModel)
    everything = torch.tensor(list(itertools.product(range(2), repeat=6))).view(-1, *spec.shape)
    with torch.no_grad():
        whole, first = model.log_prob_map(everything).double(), coarse.log_prob(everything[:, :, ::2, ::2])
    torch.testing.assert_close(whole[:, :, ::2, ::2].flatten(1).sum(1), first, rtol=0, atol=1e-12)
    rest = whole.flatten(1).sum(1) - first
    for values in ((0, 0), (0, 1), (1, 0), (1, 1)):
        same = (everything[:, 0, 0, ::2] == torch.tensor(values)).all(1)
        assert abs(float(rest[same].exp().sum()) - 1) < 1e-12


def test_walks_from_coarse_to_fine() -> None:
    """The first quarter of a walk decides every second row and column, and a completion keeps what is known at any scale."""
    model = lively(ImageSpec(1, 6, 6, 3), factors=(2,))
    frames = list(rastrum.generate(model, 2, seed=3, every=9))
    assert frames[1].values is not None and frames[-1].values is not None
    assert torch.equal(frames[1].values[:, :, ::2, ::2], frames[-1].values[:, :, ::2, ::2])
    known = torch.zeros(6, 6, dtype=torch.bool)
    known[:, 3:] = True
    x = rastrum.sample(model, 2, seed=8)
    done = rastrum.complete(model, x, known, seed=5)
    assert torch.equal(done[..., 3:], x[..., 3:]) and not torch.equal(done, x)
    assert torch.equal(done, rastrum.complete(model.double(), x, known, seed=5, backend="naive"))


@pytest.mark.parametrize(
    "options, says",
    [
        ({"factors": (1,)}, "factors: expected a tuple of whole numbers of at least 2"),
        ({"factors": 2}, "factors: expected a tuple of whole numbers of at least 2, got 2"),
        ({"factors": None}, "got None"),
        ({"factors": "22"}, "got '22'"),
        ({"factors": (2, 4)}, "leave nothing of 5 x 4 pixels"),
        ({"base": "gated-pixelcnn"}, "base: expected one of row-lstm"),
        ({"guide": 0}, "guide: expected a whole number of at least 1"),
        ({"base": "pixelcnn", "units": 4}, "^units: images of 3 channels need a multiple of 3, got 4"),
        ({"hidden": 4}, "^hidden: images of 3 channels"),
        ({"first_kernel": 4}, "^first_kernel: expected an odd number"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        rastrum.build("multiscale-pixelrnn", ImageSpec(3, 5, 4, 2), preset="tiny", **options)
