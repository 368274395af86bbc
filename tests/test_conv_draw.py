"""Convolutional DRAW against its equations written out in float64, against brute-force integration, and at the edges of sizes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rastrum
from rastrum.latents import DitheredNormal, Uniform
from rastrum.layers.convolutional import from_blocks, to_blocks
from rastrum.models.conv_draw import ConvDRAW, ConvDRAWConfig
from rastrum.noise import LATENT, normal
from rastrum.protocol import ConditionSpec, ImageSpec

TOY = ImageSpec(1, 1, 3, 2)


def make(spec: ImageSpec, seed: int = 0, gain: float = 0.1, condition: ConditionSpec | None = None, **config) -> ConvDRAW:
    torch.manual_seed(seed)
    model = ConvDRAW(spec, ConvDRAW.preset("tiny", spec, **config), condition).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(gain * torch.randn_like(parameter))
    return model


def images(spec: ImageSpec, count: int, seed: int = 0) -> Tensor:
    return torch.randint(spec.levels, (count, *spec.shape), generator=torch.Generator().manual_seed(seed))


# ── the equations, one image, one number at a time ───────────────────────────────────────────────────────────────────


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def convolve(features: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Sum over the taps of a kernel centred on each position, with zeros outside."""
    _, height, width = features.shape
    out, middle = np.zeros((len(weight), height, width)), weight.shape[2] // 2
    for i, j in itertools.product(range(height), range(width)):
        for a, b in itertools.product(range(weight.shape[2]), range(weight.shape[3])):
            row, column = i + a - middle, j + b - middle
            if 0 <= row < height and 0 <= column < width:
                out[:, i, j] += weight[:, :, a, b] @ features[:, row, column]
        out[:, i, j] += bias
    return out


def blocks(features: np.ndarray, s: int) -> np.ndarray:
    c, height, width = features.shape
    out = np.zeros((c * s * s, -(-height // s), -(-width // s)))
    for k, i, j in np.ndindex(features.shape):
        out[k * s * s + (i % s) * s + j % s, i // s, j // s] = features[k, i, j]
    return out


def unblocks(features: np.ndarray, s: int, height: int, width: int) -> np.ndarray:
    out = np.zeros((len(features) // s**2, height, width))
    for k, i, j in np.ndindex(out.shape):
        out[k, i, j] = features[k * s * s + (i % s) * s + j % s, i // s, j // s]
    return out


def reference_terms(model: ConvDRAW, x: np.ndarray, noise: list[np.ndarray]) -> tuple[np.ndarray, list[float]]:
    """Final canvas (halves·C, H, W) and KL of every decision for one image; the flow of one and two layers, normal posteriors."""
    w = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    config, spec = model.config, model.spec
    conv = lambda name, features: convolve(np.concatenate(features), w[f"{name}.weight"], w[f"{name}.bias"])  # noqa: E731
    layers, noise = config.layers, list(noise)
    e, ec, d, dc = ([w[f"start.{layer}"][k] for layer in range(layers)] for k in range(4))

    def move(name, layer, inputs, h, c):
        o, f, i, g = np.split(conv(f"{name}.{layer}.gates", [*inputs, h]), 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    level = blocks(x * 1.0 if spec.levels == 2 else 2 * x / (spec.levels - 1) - 1, config.stride)
    missing = lambda r: level - (sigmoid(r[: len(level)]) if spec.levels == 2 else r[: len(level)])  # noqa: E731
    r = blocks(w["canvas"], config.stride)
    kl = []
    for _ in range(config.steps):
        below = [level, missing(r)]
        for layer in range(layers):
            e[layer], ec[layer] = move("encoders", layer, [*below, d[layer]], e[layer], ec[layer])
            below = [blocks(e[layer], 2)]
        above: list[np.ndarray] = []
        for layer in reversed(range(layers)):
            p_mean, p_log = np.split(conv(f"priors.{layer}", [d[layer], *above]), 2)
            error = [blocks(missing(r), 2**layer)] if config.skip else []
            q_mean, q_log = np.split(conv(f"posteriors.{layer}", [e[layer], *above, *error]), 2)
            kl.append(np.sum(p_log - q_log + (np.exp(2 * q_log) + (q_mean - p_mean) ** 2) / (2 * np.exp(2 * p_log)) - 0.5))
            z = q_mean + np.exp(q_log) * noise.pop(0)
            seen = r if layer == 0 else blocks(d[layer - 1], 2)
            d[layer], dc[layer] = move("decoders", layer, [z, seen, *above], d[layer], dc[layer])
            if layer:
                above = [unblocks(conv(f"rises.{layer - 1}", [d[layer]]), 2, *d[layer - 1].shape[1:])]
            if layer and config.skip:
                r = r + unblocks(conv(f"skips.{layer - 1}", [z]), 2**layer, *r.shape[1:])
        r = r + conv("write_head", [d[0], *([z] if config.skip else [])])
    return unblocks(r, config.stride, spec.height, spec.width), kl


def log_prob(canvas: np.ndarray, index: tuple[int, ...], x: np.ndarray, spec: ImageSpec, coefficients: np.ndarray | None) -> float:
    (c, i, j), value = index, int(x[index])
    if spec.levels == 2:
        return -math.log1p(math.exp(-canvas[index] if value else canvas[index]))
    mean, scale = canvas[index], math.exp(max(canvas[c + spec.channels, i, j], -7.0))
    if coefficients is not None:
        mean += sum(coefficients[c, k] * (2 * x[k, i, j] / (spec.levels - 1) - 1 - canvas[k, i, j]) for k in range(c))
    edge = lambda v: ((2 * v - 1) / (spec.levels - 1) - 1 - mean) / scale  # noqa: E731
    low = -math.inf if value == 0 else edge(value)
    high = math.inf if value == spec.levels - 1 else edge(value + 1)
    low, high = (low, high) if low < 0 else (-high, -low)                 # where sigmoid does not round to 1
    return math.log(sigmoid(high) - sigmoid(low))


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("spec", "stride"), [(ImageSpec(1, 5, 4, 2), 2), (ImageSpec(3, 3, 7, 17), 3)], ids=str)
def test_bound_follows_the_equations(layers, spec, stride, skip):
    """Reconstruction and KL of every decision equal the equations written out, including sizes that the stride does not divide."""
    model = make(spec, layers=layers, stride=stride, features=3, skip=skip, coupled=skip and spec.levels > 2)
    x = images(spec, 2)
    reconstruction, kl = model.bound(x, seed=7, terms=True, first=5)
    shapes = [tuple(z.shape[1:]) for z in model.encode(x)]
    for b in range(2):
        noise = [normal(7, np.array([5 + b]), 0, math.prod(s), component=t, purpose=LATENT)[0].reshape(s) for t, s in enumerate(shapes)]
        canvas, expected = reference_terms(model, x[b].numpy(), noise)
        assert kl[b].tolist() == pytest.approx(expected, rel=1e-9)
        coefficients = None if model.coefficients is None else model.coefficients.detach().numpy()
        nats = sum(log_prob(canvas, i, x[b].numpy(), spec, coefficients) for i in np.ndindex(spec.shape))
        assert reconstruction[b].item() == pytest.approx(nats, rel=1e-9)


def test_blocks_are_a_strided_convolution():
    """A kernel over blocks is a strided one over pixels: the same as torch's, with 3·2 by 3·2 taps."""
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 8, 6).double(), torch.randn(4, 12, 3, 3).double()
    wide = from_blocks(weight.permute(0, 2, 3, 1).reshape(36, 12, 1, 1), 2, 2, 2).view(4, 3, 3, 3, 2, 2).permute(0, 3, 1, 4, 2, 5)
    theirs = torch.nn.functional.conv2d(x, wide.reshape(4, 3, 6, 6), stride=2, padding=2)
    assert torch.allclose(torch.nn.functional.conv2d(to_blocks(x, 2), weight, padding=1), theirs)
    odd = torch.randn(2, 3, 5, 7)
    assert torch.equal(from_blocks(to_blocks(odd, 4), 4, 5, 7), odd)


# ── probabilities: a toy whose latents are integrated by brute force ─────────────────────────────────────────────────


def toy(**config) -> ConvDRAW:
    """Two steps with one latent each that matters, a prior that changes, and a posterior that is wrong but wide."""
    model = make(TOY, seed=3, gain=0.4, steps=2, latent=1, features=3, stride=3, **config)
    with torch.no_grad():
        model.write_head.weight.mul_(4)
        for posterior in model.posteriors:
            assert isinstance(posterior, nn.Conv2d) and posterior.bias is not None
            posterior.weight.mul_(0.2)
            posterior.bias.copy_(torch.tensor([0.3, 0.3]))
    return model


def all_images(spec: ImageSpec) -> Tensor:
    return torch.tensor(list(itertools.product(range(spec.levels), repeat=spec.size))).view(-1, *spec.shape)


def integrated(model: ConvDRAW, nodes: int = 40) -> Tensor:
    """p(x) of all images by Gauss–Hermite quadrature; every node of a prior is its mean and deviation at the nodes before."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    grid = torch.tensor(list(itertools.product(points, repeat=model.steps)))
    weight = torch.tensor([math.prod(a) for a in itertools.product(weights / weights.sum(), repeat=model.steps)])
    with torch.no_grad():
        state = model.init(len(grid))
        for t in range(model.steps):
            prior = model.prior(state)
            model.write(state, prior.mean + prior.log_sd.exp() * grid[:, t].view(-1, 1, 1, 1))
        distribution = model.distribution(state)
        xs = all_images(model.spec)
        return torch.stack([(weight * distribution.log_prob(x.expand(len(grid), *x.shape)).flatten(1).sum(1).exp()).sum() for x in xs])


def test_many_trajectories_give_the_likelihood_and_samples_follow_it():
    """Bounds of every image against the integral; chi-square of drawn images, all mass counted."""
    model = toy()
    p = integrated(model)
    assert p.sum().item() == pytest.approx(1, abs=1e-6) and p.max() > 2 * p.min()
    with torch.no_grad():
        assert (model.bound(all_images(TOY), num_samples=4000, seed=2) - p.log()).abs().max() < 0.1
        one = model.bound(all_images(TOY).repeat_interleave(200, 0), seed=1).view(8, -1)
    assert (one.mean(1) < p.log() + 4 * one.std(1) / math.sqrt(200)).all()
    code = (model.sample(4000, seed=3).flatten(1) * torch.tensor([4, 2, 1])).sum(1)
    seen = torch.bincount(code, minlength=8)
    assert ((seen - 4000 * p).square() / (4000 * p)).sum() < 24.3  # 0.1 % of draws at 7 degrees of freedom


def test_coupled_channels_sum_to_one_and_samples_follow_them():
    """Every image of one pixel with three channels: probabilities add up, and draws have them (chi-square)."""
    spec = ImageSpec(3, 1, 1, 4)
    model, x = make(spec, steps=1, coupled=True), all_images(spec)
    with torch.no_grad():
        assert model.coefficients is not None
        model.coefficients.copy_(torch.tensor([[9.0, 9, 9], [0.8, 9, 9], [-0.4, 0.7, 9]]))
        state = model.init(1)
        model.write(state, model.prior(state).mean)
        distribution = model.distribution(state)
        p = torch.stack([distribution.log_prob(image[None]).sum().exp() for image in x])
        u = torch.rand(20_000, 3, 1, 1, generator=torch.Generator().manual_seed(0))
        drawn = model.distribution(state.repeat(20_000)).sample(u).flatten(1) @ torch.tensor([16, 4, 1])
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    expected = 20_000 * p
    likely = expected > 5
    assert likely.sum() > 10
    assert ((torch.bincount(drawn, minlength=64) - expected).square() / expected)[likely].sum() < 2 * likely.sum()


@pytest.mark.parametrize("config", [{"layers": 2, "stride": 1}, {"layers": 2, "stride": 1, "skip": True}, {"posterior": "uniform"}])
def test_bounds_sum_to_at_most_one(config):
    """Two layers reach one. Uniform posteriors do not cover the prior, so they reach at most one, and one if they cover all of it."""
    spec = ImageSpec(1, 2, 2, 2)
    model, x = make(spec, **config), all_images(spec)
    with torch.no_grad():
        if "layers" in config:
            assert model.bound(x, num_samples=4000, seed=3).exp().sum().item() == pytest.approx(1, abs=0.02)
            return
        assert model.bound(x, num_samples=4000, seed=3).exp().sum() < 1.02
        for head in (*model.posteriors, *model.priors):
            for parameter in head.parameters():
                parameter.zero_()
        for prior in model.priors:
            assert isinstance(prior, nn.Conv2d) and prior.bias is not None
            prior.bias[model.config.latent : 2 * model.config.latent] = -6.0
        assert model.bound(x, num_samples=4000, seed=3).exp().sum().item() == pytest.approx(1, abs=0.02)


# ── what was promised ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_prior_does_not_see_what_it_predicts():
    """Before the write it depends only on the latents so far: the image changes posteriors only, and uniform widths come from the
    decoder."""
    spec = ImageSpec(3, 4, 4, 256)
    for posterior, skip in (("normal", False), ("uniform", False), ("uniform", True)):
        model = make(spec, layers=2, posterior=posterior, skip=skip)
        a, b = model.init(1), model.init(1)
        x, y = images(spec, 1, 1), images(spec, 1, 2)
        for _ in range(model.steps):
            model.look(a, x)
            model.look(b, y)
            q, p = model.posterior(a), model.posterior(b)
            assert torch.equal(model.prior(a).mean, model.prior(b).mean) and not torch.equal(q.mean, p.mean)
            if isinstance(q, Uniform) and isinstance(p, Uniform):
                prior = model.prior(a)
                assert isinstance(prior, DitheredNormal) and torch.equal(q.log_width, p.log_width)
                assert torch.equal(q.log_width, prior.log_width)
            else:
                assert posterior == "normal"
            z = torch.randn_like(q.mean)
            model.write(a, z)
            model.write(b, z)


def test_the_error_is_of_the_mean_half():
    """Another scale of the canvas changes no posterior of the first step; another mean does."""
    spec = ImageSpec(1, 4, 4, 256)
    model = make(spec)
    x = images(spec, 2)

    def first_posterior() -> torch.Tensor:
        state = model.init(2)
        model.look(state, x)
        return model.posterior(state).mean

    first = first_posterior()
    with torch.no_grad():
        model.canvas[1:] += 1
        assert torch.equal(first_posterior(), first)
        model.canvas[:1] += 1
    assert not torch.allclose(first_posterior(), first)


def test_beta_weighs_the_reconstruction_of_the_loss_only():
    spec = ImageSpec(1, 4, 4, 2)
    model, other = make(spec), make(spec, beta=0.1)
    x = images(spec, 3)
    reconstruction, kl = model.bound(x, seed=1, terms=True)
    assert torch.equal(model.bound(x, seed=1), other.bound(x, seed=1))
    assert torch.allclose(other.loss(x, seed=1), kl.sum(1) - 0.1 * reconstruction)


def test_the_kl_warms_up_in_training_only():
    """Over a fifth of the training the weight rises from a twentieth of beta to one; the bound does not use it."""
    spec = ImageSpec(1, 4, 4, 2)
    model, x = make(spec, beta=0.2), images(spec, 3)
    reconstruction, kl = model.bound(x, seed=1, terms=True)
    for fraction, weight in ((0.0, 0.01), (0.1, 0.1), (0.2, 1.0), (0.9, 1.0)):
        assert model.progress(fraction) == fraction
        assert torch.allclose(model.loss(x, seed=1), weight * kl.sum(1) - 0.2 * reconstruction)
        assert torch.equal(model.bound(x, seed=1), reconstruction - kl.sum(1))


@pytest.mark.parametrize("posterior", ["normal", "uniform"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("spec", [ImageSpec(1, 1, 1, 2), ImageSpec(1, 7, 4, 256), ImageSpec(3, 5, 9, 2), ImageSpec(1, 1, 9, 1024)], ids=str)
def test_any_size(spec, layers, posterior):
    """Bound, gradients of every parameter, samples, and decoding of a part, for any size, channels and levels."""
    torch.manual_seed(0)
    model = ConvDRAW(spec, ConvDRAW.preset("tiny", spec, layers=layers, posterior=posterior))
    x = images(spec, 3)
    model.initialise(x)
    model.loss(x, seed=0).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    assert model.bound(x[:0]).shape == (0,) and [len(z) for z in model.encode(x[:0])] == [0] * model.steps
    drawn = model.sample(2, seed=1, temperature=0.5)
    assert drawn.shape == (2, *spec.shape) and drawn.min() >= 0 and drawn.max() < spec.levels
    assert len(list(model.reconstruct(x))) == model.steps + 1 == 2 * layers + 1
    latents = model.encode(x, seed=3)
    whole = list(model.reconstruct(x, seed=3))[-1].images
    assert torch.allclose(model.decode(latents), whole)
    assert model.decode(latents[:1], rest="mean").shape == x.shape


def test_more_latents_reconstruct_better_after_training():
    """Bars after a few optimiser steps: half of the steps have a KL, and all latents reconstruct better than half of them, half better than
    none."""
    spec = ImageSpec(1, 6, 6, 2)
    torch.manual_seed(0)
    model = ConvDRAW(spec, ConvDRAW.preset("tiny", spec, steps=4))
    x = torch.rand(64, 1, 1, 6).gt(0.5).long().expand(64, 1, 6, 6).clone()
    x[::2] = x[::2].mT
    model.initialise(x)
    before = model.loss(x, seed=0).mean().item()
    optimiser = torch.optim.Adam(model.parameters(), 2e-2)
    for _ in range(120):
        optimiser.zero_grad()
        model.loss(x).mean().backward()
        optimiser.step()
    assert model.loss(x, seed=0).mean().item() < 0.75 * before
    _, kl = model.bound(x, seed=0, terms=True)
    assert (kl.mean(0) > 0.1).sum() >= 2
    latents = model.encode(x, seed=0)
    errors = [(model.decode(latents[:k], rest="mean", count=64) - x).square().mean().item() for k in (0, 2, 4)]
    assert errors[2] < errors[1] < errors[0]


def test_initial_canvas_is_the_mean_image():
    """The first frame shows the data's mean, and the scale starts at the data's spread."""
    spec = ImageSpec(1, 3, 2, 17)
    x = images(spec, 500)
    model = ConvDRAW(spec, ConvDRAW.preset("tiny", spec))
    model.initialise(x)
    assert bool(model.state_dict()["initialised"])
    assert torch.allclose(next(model.generate(2)).images[0], x.float().mean(0) / 16, atol=0.01)


def test_a_condition_matters():
    """Class and vector conditions reach both cores, one image at a time; a map is refused."""
    spec = ImageSpec(1, 4, 4, 2)
    x = images(spec, 4)
    model = make(spec, condition=ConditionSpec("class", 3), layers=2)
    same, other = model.bound(x, torch.tensor([0, 1, 2, 0]), seed=0), model.bound(x, torch.tensor([0, 1, 1, 0]), seed=0)
    assert torch.allclose(same[[0, 1, 3]], other[[0, 1, 3]]) and same[2] != other[2]
    state = model.init(2, torch.tensor([0, 1]))
    model.look(state, x[:1].expand(2, -1, -1, -1))                        # no decoder has moved yet
    first = model.posterior(state).mean
    assert not torch.allclose(first[0], first[1])
    assert model.sample(2, condition=torch.tensor(1)).shape == (2, 1, 4, 4)
    vector = make(spec, condition=ConditionSpec("vector", 2))
    assert vector.bound(x, torch.randn(4, 2), num_samples=3, seed=0).shape == (4,)
    with pytest.raises(ValueError, match="map"):
        make(spec, condition=ConditionSpec("map", (1, 4, 4)))


def test_presets_and_refusals():
    assert ConvDRAW.preset("paper", ImageSpec(3, 32, 32)) == ConvDRAWConfig(steps=32, latent=12, features=320, kernel=5, stride=2)
    assert ConvDRAW.preset("small", ImageSpec(1, 1, 1)).stride == 1
    for overrides, message in [
        ({"kernel": 4}, "kernel"), ({"stride": 4}, "stride"), ({"steps": 0}, "steps"), ({"layers": 0}, "layers"), ({"beta": 0.0}, "beta"),
        ({"beta": math.nan}, "beta"), ({"warm_up": 1.0}, "warm_up"), ({"posterior": "laplace"}, "laplace"), ({"glimpses": 3}, "glimpses"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            ConvDRAW.preset("tiny", ImageSpec(1, 3, 2), **overrides)
    with pytest.raises(ValueError, match="frames"):
        ConvDRAW.preset("tiny", ImageSpec(1, 3, 2, frames=2))


def test_a_weighted_loss_is_not_reported_as_a_likelihood() -> None:
    """With beta, or while the KL warms up, the loss of a step is not a bound; the bound itself uses neither."""
    spec = ImageSpec(1, 4, 4, 2)
    plain, weighted = (rastrum.build("conv-draw", spec, preset="tiny", beta=beta) for beta in (1.0, 0.5))
    assert isinstance(plain, ConvDRAW) and isinstance(weighted, ConvDRAW)
    assert plain.loss_is_nats and not weighted.loss_is_nats
    x = images(spec, 3)
    assert torch.allclose(plain.loss(x, seed=1), -plain.bound(x, seed=1))
    assert torch.equal(plain.bound(x, seed=1), weighted.bound(x, seed=1))
    assert not torch.allclose(weighted.loss(x, seed=1), plain.loss(x, seed=1))
    plain.progress(0.0)
    assert not plain.loss_is_nats
    plain.progress(1.0)
    assert plain.loss_is_nats
    cold = rastrum.build("conv-draw", spec, preset="tiny", warm_up=0.0)
    assert isinstance(cold, ConvDRAW)
    cold.progress(0.0)
    assert cold.loss_is_nats
