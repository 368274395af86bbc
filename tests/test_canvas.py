"""The canvas walk on a small user model: bounds, noise, frames, states and refusals, independent of any built-in system."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rastrum
import rastrum.strokes
from rastrum.canvas import State
from rastrum.distributions import Bernoulli
from rastrum.latents import Normal
from rastrum.protocol import ImageSpec
from rastrum.strokes import CanvasModel


@dataclass(frozen=True, kw_only=True)
class ScribbleConfig:
    latent: int = 3


class Scribble(CanvasModel):
    """A user's model: each stroke adds a linear map of z; the prior of a stroke depends on the canvas so far."""

    steps = 3

    def __init__(self, spec: ImageSpec, config: ScribbleConfig) -> None:
        super().__init__(spec, config)
        self.stroke = nn.Linear(config.latent, spec.size)
        self.see = nn.Linear(2 * spec.size, 2 * config.latent)
        self.expect = nn.Linear(spec.size, 2 * config.latent)

    def init(self, batch, condition=None):
        return State(self.stroke.weight.new_zeros(batch, self.spec.size), None)

    def prior(self, state):
        return Normal(*self.expect(state.canvas).chunk(2, dim=1))

    def look(self, state, x):
        state.memory["seen"] = self.see(torch.cat([state.canvas, x.flatten(1).to(self.dtype)], dim=1))

    def posterior(self, state):
        return Normal(*state.memory["seen"].chunk(2, dim=1))

    def write(self, state, z):
        state.canvas = state.canvas + self.stroke(z)
        state.t += 1
        return {"size": z.norm(dim=1)}

    def distribution(self, state):
        return Bernoulli(state.canvas.view(-1, *self.spec.shape))

    def image(self, state):
        return torch.sigmoid(state.canvas).view(-1, *self.spec.shape)


SPEC = ImageSpec(1, 2, 3, 2)


@pytest.fixture
def model() -> Scribble:
    torch.manual_seed(0)
    return Scribble(SPEC, ScribbleConfig()).double()


@pytest.fixture
def x() -> Tensor:
    return torch.randint(2, (7, *SPEC.shape), generator=torch.Generator().manual_seed(0))


def test_normal_against_torch():
    """Density, KL and draws of a Normal equal torch.distributions'; temperature T is the density to the power 1/T."""
    torch.manual_seed(0)
    p, q = (Normal(torch.randn(4, 2, 3).double(), torch.randn(4, 2, 3).double()) for _ in range(2))
    theirs = [torch.distributions.Normal(n.mean, n.log_sd.exp()) for n in (p, q)]
    z = torch.randn(4, 2, 3).double()
    assert torch.allclose(p.log_prob(z), theirs[0].log_prob(z).sum((1, 2)))
    assert torch.allclose(p.kl(q), torch.distributions.kl_divergence(*theirs).sum((1, 2)))
    assert torch.allclose(p.sample(z), p.mean + z * p.log_sd.exp())
    assert torch.allclose(p.sample(z, 0.25), p.mean + 0.5 * z * p.log_sd.exp())
    standard = Normal.standard(z, 2, 3)
    assert standard.noise_shape == (4, 2, 3) and torch.equal(standard.sample(z), z)


def test_terms_are_the_bound(model, x):
    reconstruction, kl = model.bound(x, seed=1, terms=True)
    assert kl.shape == (7, 3) and (kl > 0).all() and kl.dtype == reconstruction.dtype == torch.float64
    assert torch.allclose(reconstruction - kl.sum(1), model.bound(x, seed=1))
    assert torch.allclose(-model.loss(x, seed=1), model.bound(x, seed=1))


def test_noise_belongs_to_the_image(model, x):
    """Splitting a batch changes no bound, no sample and no reconstruction; another seed or number changes them."""
    for k in (1, 5):
        whole = model.bound(x, num_samples=k, seed=1)
        parts = [model.bound(x[i:j], num_samples=k, seed=1, first=i) for i, j in ((0, 2), (2, 7))]
        assert torch.allclose(whole, torch.cat(parts), rtol=1e-12)
        assert not torch.allclose(whole, model.bound(x, num_samples=k, seed=2))
    assert torch.equal(model.sample(7, seed=3), torch.cat([model.sample(3, seed=3), model.sample(4, seed=3, first=3)]))
    assert not torch.equal(model.sample(64, seed=3), model.sample(64, seed=4))
    torch.testing.assert_close(
        list(model.reconstruct(x, seed=5))[-1].images[4:], list(model.reconstruct(x[4:], seed=5, first=4))[-1].images
    )


def test_noise_is_fresh(model):
    """Every stroke, component, trajectory and image has its own noise; without a seed, torch's generator moves on."""
    noise = model._noise(5, 0, 0, count=4)
    values = torch.stack([noise(t, torch.Size([20, 3])) for t in range(3)])
    assert values.unique().numel() == values.numel()
    fresh = model._noise(5, None, 0)
    assert not torch.equal(fresh(0, torch.Size([5, 3])), fresh(0, torch.Size([5, 3])))


def test_trajectories_in_pieces(model, x, monkeypatch):
    """The importance-weighted bound does not depend on how many rows run at once, and equals the log-mean-exp of single ones."""
    whole = model.bound(x, num_samples=9, seed=1)
    monkeypatch.setattr(rastrum.strokes, "ROWS", 21)
    assert torch.allclose(whole, model.bound(x, num_samples=9, seed=1), rtol=1e-12)
    singles = torch.cat([model._log_weights(x, None, 1, 0, k, 1) for k in range(9)], dim=1)
    assert torch.allclose(whole, torch.logsumexp(singles, 1) - math.log(9), rtol=1e-12)


def test_long_bounds_do_not_overflow(model, x):
    """Images of a thousand nats and more: the mean of the weights is taken in the logarithm."""
    model.distribution = lambda state: Bernoulli(1e4 * state.canvas.view(-1, *SPEC.shape))
    bound = model.bound(x, num_samples=50, seed=0)
    assert torch.isfinite(bound).all() and bound.min() < -1000


def test_generate_frames(model):
    """First frame the empty canvas, last the sample of this seed; every n-th stroke; patches add up to the canvas."""
    frames = list(model.generate(4, seed=2))
    assert [f.fraction for f in frames] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert frames[0].images.eq(0.5).all() and all(f.values is None for f in frames[:-1])
    assert torch.equal(frames[-1].values, model.sample(4, seed=2))
    assert torch.allclose(frames[0].info["canvas"] + sum(f.info["write_patch"] for f in frames[1:]), frames[-1].info["canvas"])
    assert all(f.info["size"].shape == (4,) for f in frames[1:])
    thin = list(model.generate(4, seed=2, every=2))
    assert [f.fraction for f in thin] == pytest.approx([0, 2 / 3, 1]) and torch.equal(thin[-1].values, frames[-1].values)
    assert torch.allclose(thin[1].info["write_patch"], frames[1].info["write_patch"] + frames[2].info["write_patch"])


def test_big_samples_are_split(model, monkeypatch):
    whole = model.sample(10, seed=1)
    monkeypatch.setattr(rastrum.strokes, "ROWS", 3)
    assert torch.equal(whole, model.sample(10, seed=1))


def test_reconstruct_frames(model, x):
    """Frames give the KL of every stroke, equal to the bound's, and patches show the strokes."""
    frames = list(model.reconstruct(x, seed=6))
    _, kl = model.bound(x, seed=6, terms=True)
    assert torch.allclose(torch.stack([f.info["kl"] for f in frames[1:]], 1), kl)
    assert len(frames) == 4 and not frames[-1].images.requires_grad


def test_temperature(model):
    """Near zero, latents are at the prior's mean and pixels at their more likely level."""
    cold = model.sample(20, temperature=1e-6, seed=0)
    assert (cold == cold[0]).all()


def test_states(model, x):
    """A copy is independent; selected and repeated images continue as they would have."""
    state = model.init(3)
    z = torch.randn(3, 3, 3, dtype=torch.float64)
    model.write(state, z[0])
    copy, picked, twice = state.copy(), state.select(torch.tensor([2, 0])), state.repeat(2)
    model.write(state, z[1])
    assert copy.t == picked.t == twice.t == 1 and state.t == 2
    model.write(picked, z[1, [2, 0]])
    model.write(twice, z[1].repeat_interleave(2, dim=0))
    assert torch.allclose(picked.canvas, state.canvas[[2, 0]])
    assert torch.allclose(twice.canvas, state.canvas.repeat_interleave(2, dim=0))
    assert not torch.allclose(copy.canvas, state.canvas)


def test_arrays_and_refusals(model, x):
    """numpy arrays give torch tensors; each wrong call is refused with its cause."""
    assert torch.equal(model.bound(x.numpy().astype(np.uint8), seed=0), model.bound(x, seed=0))
    for call, message in [
        (lambda: model.bound(x.float()), "integer levels"),
        (lambda: model.bound(x + 1), "levels must lie"),
        (lambda: model.bound(x[:, :, :1]), "shape"),
        (lambda: model.bound(x, condition=1), "unconditional"),
        (lambda: model.bound(x, num_samples=0), "num_samples"),
        (lambda: model.bound(x, num_samples=2, terms=True), "num_samples=1"),
        (lambda: model.sample(2, temperature=0.0), "temperature"),
        (lambda: model.sample(-1), "count"),
        (lambda: model.generate(2, every=0), "every"),
        (lambda: model.generate(2, every="pixel"), "every"),
        (lambda: model.reconstruct(x.float()), "integer levels"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_decode_continues_what_encode_began(model, x):
    """All latents give the canvas they came from; after a part of them the prior continues, sampled or at its mean; a batch gives the same
    as its parts."""
    latents = model.encode(x, seed=3)
    assert [tuple(z.shape) for z in latents] == [(7, model.config.latent)] * model.steps
    whole = list(model.reconstruct(x, seed=3))[-1].images
    assert torch.allclose(model.decode(latents), whole)
    some = [z[2:4] for z in latents[:1]]
    assert torch.allclose(model.decode(some, seed=5, first=2), model.decode(latents[:1], seed=5)[2:4])
    assert torch.allclose(model.decode([], count=7, seed=9), list(model.generate(7, seed=9))[-1].images)
    state = model.init(7)
    model.write(state, latents[0])
    while state.t < model.steps:
        model.write(state, model.prior(state).mean)
    assert torch.allclose(model.decode(latents[:1], rest="mean"), model.image(state))


def test_decode_refuses_bad_latents(model, x):
    latents = model.encode(x)
    with pytest.raises(ValueError, match="at most"):
        model.decode([*latents, latents[0]])
    with pytest.raises(ValueError, match="shape"):
        model.decode([latents[0][:, :-1]])
    with pytest.raises(ValueError, match="count"):
        model.decode([])
    with pytest.raises(ValueError, match="count"):
        model.decode(latents, count=3)
    with pytest.raises(ValueError, match="finite"):
        model.decode([latents[0] * math.nan])
    with pytest.raises(ValueError, match="rest"):
        model.decode(latents, rest="zero")


def test_a_path_runs_from_one_image_to_another(model, x):
    """Its ends are what ``decode`` makes of their latents; the points between have the ends' norms, standardised by their priors."""
    path = model.interpolate(x[:3], x[3:6], count=5, seed=4)
    assert path.shape == (3, 5, *SPEC.shape)
    assert torch.allclose(path[:, 0], model.decode(model.encode(x[:3], seed=4)))
    assert torch.allclose(path[:, -1], model.decode(model.encode(x[3:6], seed=4, first=3)))
    drawn = model.interpolate(count=2, pairs=3, seed=4)
    frames = [list(model.generate(3, seed=4, first=first))[-1].images for first in (0, 3)]
    assert torch.allclose(drawn, torch.stack(frames, 1))


def test_paths_are_arcs():
    """All strokes together move at constant speed along the arc between two latents, checked by rotating in their plane."""
    generator = torch.Generator().manual_seed(0)
    start, end = ([torch.randn(2, 3, dtype=torch.float64, generator=generator) for _ in range(4)] for _ in range(2))
    a, b = torch.cat(start, 1), torch.cat(end, 1)
    b = b * a.norm(dim=1, keepdim=True) / b.norm(dim=1, keepdim=True)
    end = list(b.split(3, dim=1))
    across = b - (a * b).sum(1, keepdim=True) / (a * a).sum(1, keepdim=True) * a
    across = across * a.norm(dim=1, keepdim=True) / across.norm(dim=1, keepdim=True)
    angle = torch.acos((a * b).sum(1) / (a * a).sum(1))[:, None]
    for share in (0.0, 0.3, 1.0):
        point = torch.cat(rastrum.strokes._on_path(start, end, share), 1)
        assert torch.allclose(point, torch.cos(share * angle) * a + torch.sin(share * angle) * across)
    same = torch.cat(rastrum.strokes._on_path(start, start, 0.5), 1)
    assert torch.allclose(same, a)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": True}, "both images, start and end, or neither"),
        ({"start": True, "end": True, "count": 1}, "at least 2 pictures, got 1"),
        ({"pairs": 0}, "pairs: expected a whole number of at least 1, got 0"),
        ({"start": True, "end": 2}, "as many images to end at as to start from, got 7 and 2"),
    ],
)
def test_what_is_no_path_is_refused(model, x, options, message):
    options = {name: x if value is True else x[:value] if name == "end" else value for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        model.interpolate(**options)


@pytest.mark.parametrize("posterior", ["normal", "uniform"])
def test_paths_of_layers_whose_priors_are_learned(posterior):
    """Convolutional DRAW: each latent is placed by its own prior, so that the ends are exact again."""
    model = rastrum.build("conv-draw", ImageSpec(1, 6, 5, 2), preset="tiny", posterior=posterior, layers=2)
    assert isinstance(model, CanvasModel)
    x = torch.randint(2, (2, 1, 6, 5), generator=torch.Generator().manual_seed(0))
    path = model.interpolate(x[:1], x[1:], count=3, seed=1)
    assert torch.allclose(path[:, 0], model.decode(model.encode(x[:1], seed=1)), atol=1e-4)
    assert torch.allclose(path[:, 2], model.decode(model.encode(x[1:], seed=1, first=1)), atol=1e-4)


@pytest.mark.parametrize("name", ["draw", "conv-draw", "one-shot", "vae"])
def test_queries_do_not_move_the_state(name: str) -> None:
    """Prior and posterior give the same however often they are called; only ``look`` moves the encoder."""
    model = rastrum.build(name, ImageSpec(1, 6, 5, 2), preset="tiny")
    assert isinstance(model, CanvasModel)
    state, x = model.init(3), torch.randint(2, (3, 1, 6, 5), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        while state.t < model.steps:
            model.look(state, x)
            priors, posteriors = [model.prior(state) for _ in range(2)], [model.posterior(state) for _ in range(2)]
            assert all(torch.equal(a.mean, b.mean) for a, b in (priors, posteriors))
            assert torch.equal(model.image(state), model.image(state))
            model.write(state, posteriors[0].mean)


def test_a_model_without_a_method_is_refused_by_name() -> None:
    class Unfinished(CanvasModel):
        steps = 1

    with pytest.raises(TypeError, match=r"abstract.*distribution.*image.*init.*look.*posterior.*prior.*write"):
        Unfinished(SPEC)  # pyright: ignore[reportAbstractUsage]
    with pytest.raises(TypeError, match=r"abstract.*distribution"):
        rastrum.RasterModel(SPEC)  # pyright: ignore[reportAbstractUsage]
