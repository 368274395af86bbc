"""Models as a user writes them, with only ``distribution`` and their own order, in everything that uses the walk."""

from __future__ import annotations

import math
from collections import deque

import pytest
import torch
from torch import Tensor
from toy_models import BottomUp, TwoResolutions

import rastrum
from rastrum import ImageSpec, RasterModel
from rastrum.distributions import CDF_TOTAL
from rastrum.protocol import Distribution
from rastrum.range_coder import Decoder, Encoder
from rastrum.walk import Decode, Encode, Force, walk

SPECS = [ImageSpec(1, 4, 4, 3), ImageSpec(3, 2, 3, 4), ImageSpec(1, 1, 1, 2)]


@pytest.fixture(params=[(kind, spec) for kind in (BottomUp, TwoResolutions) for spec in SPECS], ids=str)
def model(request: pytest.FixtureRequest) -> RasterModel:
    kind, spec = request.param
    torch.manual_seed(0)
    return kind(spec).double().eval()


class Weigh(Force):
    """Forces images and adds up the bits that the integer CDF charges for them: the ideal length of their streams."""

    def __init__(self, x: Tensor, order: Tensor) -> None:
        super().__init__(x, order)
        self.bits = torch.zeros(len(x), dtype=torch.float64)

    def __call__(self, t: int, distribution: Distribution, active: Tensor) -> Tensor:
        value = super().__call__(t, distribution, active)
        counts = distribution.cdf(value + 1) - distribution.cdf(value)
        self.bits -= torch.log2(counts.double() / CDF_TOTAL)
        return value


def test_it_checks(model: RasterModel) -> None:
    report = rastrum.check(model)
    assert report.ok, str(report)


def test_it_draws_in_its_own_order(model: RasterModel) -> None:
    """A Frame after each decision shows one more value, at the position that the order gives; splitting the batch changes nothing."""
    frames = list(rastrum.generate(model, 3, seed=4, every="decision"))
    assert len(frames) == model.spec.size + 1
    finished = frames[-1].values
    assert finished is not None and torch.equal(rastrum.sample(model, 3, seed=4).long(), finished)
    for t, frame in enumerate(frames):
        assert frame.values is not None
        later = model.order[t:]
        assert not bool(frame.values.flatten(1)[:, later].any())
        assert torch.equal(frame.values.flatten(1)[:, model.order[:t]], finished.flatten(1)[:, model.order[:t]])


def test_it_completes(model: RasterModel) -> None:
    """Known values are kept at any position; those that come first in the order influence the rest."""
    x = torch.randint(0, model.spec.levels, (2, *model.spec.shape), generator=torch.Generator().manual_seed(1))
    known = torch.rand(model.spec.shape, generator=torch.Generator().manual_seed(2)) < 0.5
    drawn = rastrum.complete(model, x, known, num_samples=3, seed=1).long()
    assert drawn.shape == (2, 3, *model.spec.shape)
    assert torch.equal(drawn[:, :, known], x[:, None, known].expand(-1, 3, -1))
    assert torch.equal(rastrum.complete(model, x, torch.ones_like(known)).long(), x)


def test_it_codes(model: RasterModel) -> None:
    """Any image is decoded exactly; sampled ones cost −log2 p to 0.1 % + 1 byte by the CDF, and at most 2 bytes more as streams."""
    random = torch.randint(0, model.spec.levels, (2, *model.spec.shape), generator=torch.Generator().manual_seed(1))
    x = torch.cat([random, torch.full_like(random, model.spec.levels - 1), rastrum.sample(model, 4, seed=2).long()])
    streams = [Encoder() for _ in x]
    deque(walk(model, len(x), Encode(x, model.order, streams)), maxlen=0)
    blobs = [stream.finish() for stream in streams]
    decoded = deque(walk(model, len(x), Decode([Decoder(blob) for blob in blobs])), maxlen=1)[0].values
    assert decoded is not None and torch.equal(decoded, x)
    weigh = Weigh(x, model.order)
    deque(walk(model, len(x), weigh), maxlen=0)
    with torch.no_grad():
        bits = -model.log_prob(x) / math.log(2)
    assert bool(((weigh.bits - bits).abs()[4:] <= 0.001 * bits[4:] + 8).all())
    assert all(8 * len(blob) <= float(ideal) + 16 for blob, ideal in zip(blobs, weigh.bits, strict=True))
