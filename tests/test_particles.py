"""Completion by weighted particles, against sums over all images of a toy, where plain completion is provably off."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from test_raster_contract import CLASSES, chi_square_is_plausible, conditions, images, lively
from torch import Tensor
from toy_models import BottomUp

import rastrum
from rastrum import ConditionSpec, ImageSpec, RasterModel
from rastrum.generation import complete_frames
from rastrum.particles import choose, effective_size, log_evidence, weighted
from rastrum.raster import Backend

GREY, COLOUR = ImageSpec(1, 2, 3, 2), ImageSpec(3, 1, 2, 2)
KINDS: dict[str, Callable[[], RasterModel]] = {
    "a user's": lambda: BottomUp(GREY, seed=1).double().eval(),
    "gated": lambda: moved("gated-pixelcnn", GREY, 0.8, 6),
    "another gated": lambda: moved("gated-pixelcnn", GREY, 0.8, 5),
    "coarse first": lambda: moved("multiscale-pixelrnn", GREY, 1.0, 0),
    "mixture": lambda: moved("pixelcnn++", COLOUR, 0.04, 6),
}


def moved(name: str, spec: ImageSpec, by: float, seed: int) -> RasterModel:
    """A tiny model whose values depend on each other and are not nearly certain."""
    model = rastrum.build(name, spec, preset="tiny", seed=1).double()
    assert isinstance(model, RasterModel)
    model.initialise(images(spec, 8))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model.eval().float()


def late(model: RasterModel) -> Tensor:
    """Known: every other value in the order, the last one too."""
    known = torch.zeros(model.spec.size, dtype=torch.bool)
    known[model.order[1::2]] = True
    return known.view(model.spec.shape)


class Enumerated:
    """All images of a toy, with their probability given some known values at a temperature, exactly and by plain completion.

    The known values are those, of the ones that are not too rare, for which plain completion is farthest from the posterior.
    """

    def __init__(self, model: RasterModel, known: Tensor, temperature: float) -> None:
        spec = model.spec
        self.images = torch.tensor(list(itertools.product(range(spec.levels), repeat=spec.size))).view(-1, *spec.shape)
        self.powers = spec.levels ** torch.arange(spec.size - 1, -1, -1)
        with torch.no_grad():
            pmf = (deepcopy(model).double().distribution(self.images).log_pmf() / temperature).softmax(-1)
        each = pmf.gather(-1, self.images[..., None])[..., 0].flatten(1)
        fits = (self.images[:, None, known] == self.images[None, :, known]).all(-1)
        exact, plain = each.prod(1) * fits, each[:, ~known.flatten()].prod(1) * fits
        evidence = exact.sum(1)
        exact, plain = exact / evidence[:, None], plain / plain.sum(1, keepdim=True)
        at = int(((exact - plain).abs().sum(1) * (evidence > 0.05)).argmax())
        self.x, self.evidence, self.posterior, self.plain = self.images[at], float(evidence[at]), exact[at], plain[at]

    def count(self, drawn: Tensor) -> Tensor:
        return torch.bincount((drawn.long().flatten(1) * self.powers).sum(1), minlength=len(self.images))


@pytest.mark.parametrize(
    ("kind", "temperature"),
    [("a user's", 1.0), ("gated", 1.0), ("another gated", 0.6), ("coarse first", 1.0), ("mixture", 1.0), ("mixture", 0.6)],
)
def test_completions_follow_the_posterior_and_plain_ones_do_not(kind: str, temperature: float) -> None:
    """Over all images with these known values; the mean of the weights is the probability of the known values."""
    model, count = KINDS[kind](), 200
    known = late(model)
    exact = Enumerated(model, known, temperature)
    batch = exact.x.expand(count, *exact.x.shape)
    drawn, weights = rastrum.complete(model, batch, known, temperature=temperature, seed=3, particles=64)
    without = rastrum.complete(model, batch, known, temperature=temperature, seed=3)
    for each in (drawn, without):
        assert torch.equal(each[:, known].long(), batch[:, known])
    chi_square_is_plausible(exact.count(drawn), exact.posterior)
    chi_square_is_plausible(exact.count(without), exact.plain)
    with pytest.raises(AssertionError):
        chi_square_is_plausible(exact.count(without), exact.posterior)
    evidence = log_evidence(weights).exp()
    assert abs(float(evidence.mean()) - exact.evidence) < 4 * float(evidence.std()) / math.sqrt(count) + 1e-4


MODES = [
    ("gated-pixelcnn", ImageSpec(1, 4, 5, 3), None),
    ("gated-pixelcnn", ImageSpec(3, 2, 3, 4), CLASSES),
    ("pixelcnn++", ImageSpec(3, 3, 2, 4), None),
]


@pytest.mark.parametrize(("name", "spec", "condition"), MODES, ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_batches_and_backends_change_nothing(name: str, spec: ImageSpec, condition: ConditionSpec | None, temperature: float) -> None:
    """Images known at different positions: at once or one by one, naive or from caches in float64, compiled or not in float32."""
    model, count, particles = lively(name, spec, condition), 3, 11
    x, classes = images(spec, count), conditions(condition, count)
    known = images(spec, count, 9) > 0
    known[1, :, :1], known[2, :, -1:] = True, False
    single = deepcopy(model).float()

    def run(model: RasterModel, part: slice, backend: Backend) -> tuple[Tensor, Tensor]:
        of = None if classes is None else classes[part]
        return weighted(model, x[part], known[part], of, particles, temperature, 7, part.start, backend)

    drawn, weights = run(model, slice(0, count), "naive")
    assert torch.equal(drawn[known[:, None].expand_as(drawn)], x[:, None].expand_as(drawn)[known[:, None].expand_as(drawn)])
    assert bool((effective_size(weights) < particles).all()) and not torch.equal(drawn[0, 0], drawn[0, 1])
    others: list[tuple[RasterModel, Backend, float]] = [(model, "torch", 1e-5), (single, "native", 1e-2), (single, "torch", 1e-2)]
    for other, backend, tolerance in others:
        again, theirs = run(other, slice(0, count), backend)
        assert torch.equal(again, drawn)
        torch.testing.assert_close(theirs, weights, rtol=0, atol=tolerance)
        for b in range(count):
            one, mine = run(other, slice(b, b + 1), backend)
            assert torch.equal(one[0], again[b])
            torch.testing.assert_close(mine[0], theirs[b], rtol=0, atol=0 if backend == "native" else 1e-5)


def test_one_particle_draws_as_plain_completion_does() -> None:
    for kind in KINDS:
        model = KINDS[kind]()
        x, known = images(model.spec, 70), late(model)
        drawn, weights = rastrum.complete(model, x, known, seed=5, particles=1)
        assert torch.equal(drawn, rastrum.complete(model, x, known, seed=5)) and weights.shape == (70, 1)


def test_all_and_nothing_known() -> None:
    """If all is known, the weight of a particle is the image's probability; if nothing is, weights are equal and particles are samples."""
    for kind in KINDS:
        model = KINDS[kind]()
        x = rastrum.sample(model, 4, seed=1)
        same, weights = rastrum.complete(model, x, torch.tensor(True), num_samples=2, particles=5)
        assert torch.equal(same, x[:, None].expand(-1, 2, *model.spec.shape)) and same.dtype == x.dtype
        with torch.no_grad():
            torch.testing.assert_close(weights, model.log_prob(x)[:, None].expand(-1, 5), rtol=0, atol=1e-3)
        drawn, weights = rastrum.complete(model, x, torch.tensor(False), num_samples=40, seed=9, particles=5)
        assert not bool(weights.any())
        samples = rastrum.sample(model, 20, seed=9).unflatten(0, (4, 5))
        for b in range(4):
            assert {tuple(image.flatten().tolist()) for image in drawn[b]} == {tuple(image.flatten().tolist()) for image in samples[b]}
    empty, weights = rastrum.complete(model, x[:0], torch.tensor(True), num_samples=2, particles=5)
    assert empty.shape == (0, 2, *model.spec.shape) and weights.shape == (0, 5)


def test_choosing_is_systematic() -> None:
    """Of K particles chosen at (n + u) / K, particle k occurs ⌊K w_k⌋ or ⌈K w_k⌉ times, and K w_k times on average over u; none of weight 0
    occurs."""
    share = torch.tensor([[0.05, 0.0, 0.5, 0.15, 0.3], [0.2, 0.2, 0.2, 0.2, 0.2]], dtype=torch.float64)
    weights, total, count = share.log() - 700, torch.zeros(2, 5), 1000
    for n in range(count):
        of = choose(weights, (torch.arange(5) + (n + 0.5) / count).expand(2, 5) / 5)
        copies = torch.nn.functional.one_hot(of, 5).sum(1)
        assert bool(((copies - 5 * share).abs() < 1).all())
        total += copies
    torch.testing.assert_close(total.double() / count, 5 * share, rtol=0, atol=2e-3)
    torch.testing.assert_close(effective_size(weights), torch.tensor([1 / 0.365, 5.0], dtype=torch.float64))
    torch.testing.assert_close(log_evidence(weights), torch.full((2,), -700 - math.log(5), dtype=torch.float64))


def test_bad_input_is_refused() -> None:
    model, x, known = KINDS["gated"](), torch.zeros(1, 1, 2, 3, dtype=torch.int64), torch.tensor(True)
    wrong: list[Any] = [0, -3, 1.5, True]
    for particles in wrong:
        with pytest.raises(ValueError, match="particles"):
            rastrum.complete(model, x, known, particles=particles)
    options: list[dict[str, Any]] = [{"num_samples": True}, {"seed": True}]
    for option in options:
        with pytest.raises(ValueError, match=f"{next(iter(option))}: expected a whole number.*True"):
            rastrum.complete(model, x, known, **option)
    draw: Any = rastrum.build("draw", GREY, preset="tiny")
    with pytest.raises(ValueError, match="cannot complete"):
        rastrum.complete(draw, x, known, particles=4)


@pytest.mark.parametrize("options", [{}, {"particles": 30}], ids=str)
def test_frames_end_in_the_completions(options: dict[str, Any]) -> None:
    """For the plain walk and for particles, two images at a time; known values are shown from the first frame on."""
    model = KINDS["gated"]()
    x, known = images(model.spec, 3), late(model)
    frames = list(complete_frames(model, x, known, num_samples=2, seed=5, **options))
    expected: Any = rastrum.complete(model, x, known, num_samples=2, seed=5, **options)
    drawn = expected[0] if options else expected
    assert [frame.fraction for frame in frames] == ([0, 2 / 3, 1] if options else [0, 1 / 2, 1])
    values = [frame.values.unflatten(0, (3, 2)) for frame in frames if frame.values is not None]
    assert torch.equal(values[-1], drawn.long())
    assert torch.equal(values[0][:, :, known], x[:, None].expand_as(drawn)[:, :, known]) or not options   # a plain walk reaches them later
    assert all(bool(frame.info["known"][:, known].all()) for frame in frames)
    if options:
        assert torch.equal(frames[-1].info["log_weights"], expected[1]) and bool(frames[-1].info["known"].all())
