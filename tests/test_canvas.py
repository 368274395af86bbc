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
        (lambda: list(model.generate(2, every=0)), "every"),
        (lambda: list(model.generate(2, every="pixel")), "every"),
        (lambda: list(model.reconstruct(x.float())), "integer levels"),
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


@pytest.mark.parametrize("name", ["draw", "conv-draw"])
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
