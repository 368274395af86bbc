"""The convolutional VAE against its equations written out in float64, against brute-force integration, and at the edges of sizes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rastrum.models.vae import VAE
from rastrum.noise import LATENT, normal
from rastrum.protocol import ConditionSpec, ImageSpec


def make(spec: ImageSpec, condition: ConditionSpec | None = None, seed: int = 0, gain: float = 0.3, **config) -> VAE:
    torch.manual_seed(seed)
    model = VAE(spec, VAE.preset("tiny", spec, **config), condition).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(gain * torch.randn_like(parameter))
    return model


def images(spec: ImageSpec, count: int, seed: int = 0) -> Tensor:
    return torch.randint(spec.levels, (count, *spec.shape), generator=torch.Generator().manual_seed(seed))


def convolved(w: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
    reach = weight.shape[2] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    out = np.zeros((len(weight), *x.shape[1:]))
    for i, j in itertools.product(range(x.shape[1]), range(x.shape[2])):
        out[:, i, j] = (weight * padded[None, :, i : i + 2 * reach + 1, j : j + 2 * reach + 1]).sum((1, 2, 3)) + bias
    return out


def blocks(x: np.ndarray) -> np.ndarray:
    x = np.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2)))
    return np.stack([x[c, a::2, b::2] for c, a, b in itertools.product(range(len(x)), range(2), range(2))])


def pixels_of(x: np.ndarray, height: int, width: int) -> np.ndarray:
    out = np.zeros((len(x) // 4, 2 * x.shape[1], 2 * x.shape[2]))
    for c, a, b in itertools.product(range(len(out)), range(2), range(2)):
        out[c, a::2, b::2] = x[4 * c + 2 * a + b]
    return out[:, :height, :width]


def reference_terms(model: VAE, x: np.ndarray, noise: np.ndarray, label: int | None) -> tuple[float, float]:
    """Reconstruction and KL of one image x (C, H, W) by equations 1 and 2, noise (latent,)."""
    w = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    spec, layers = model.spec, model.config.layers
    linear = lambda name, v: w[f"{name}.weight"] @ v + w[f"{name}.bias"]  # noqa: E731
    hidden = model.config.hidden
    added = np.zeros(2 * hidden) if label is None else w["condition.weight"][label]
    features, sizes = 2 * x / (spec.levels - 1) - 1, []
    for layer in range(layers):
        sizes.append(features.shape[1:])
        features = np.maximum(convolved(w, f"halvings.{layer}", blocks(features)), 0)
    code = linear("code", np.maximum(linear("encoder", features.ravel()) + added[:hidden], 0))
    mean, log_sd = np.split(code, 2)
    z = mean + np.exp(log_sd) * noise
    features = np.maximum(linear("spread", np.maximum(linear("decoder", z) + added[hidden:], 0)), 0).reshape(features.shape)
    for layer in range(layers):
        features = np.maximum(pixels_of(convolved(w, f"doublings.{layer}", features), *sizes[layers - 1 - layer]), 0)
    canvas = torch.from_numpy(w["mean"] + convolved(w, "output", features))
    values = torch.from_numpy(x)
    if spec.levels == 2:
        log_p = -torch.nn.functional.binary_cross_entropy_with_logits(canvas, values.double(), reduction="none")
    else:
        means, scales = canvas[: spec.channels], canvas[spec.channels :].clamp(min=-7).exp()
        low, high = (((2 * (values + i) - 1) / (spec.levels - 1) - 1 - means) / scales for i in range(2))
        low, high = low.masked_fill(values == 0, -math.inf), high.masked_fill(values == spec.levels - 1, math.inf)
        low, high = torch.where(low > 0, -high, low), torch.where(low > 0, -low, high)    # the tail where nothing cancels
        log_p = (high.sigmoid() - low.sigmoid()).log()
    return float(log_p.sum()), float((0.5 * (mean**2 + np.exp(2 * log_sd) - 1) - log_sd).sum())


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("label", [None, 2])
@pytest.mark.parametrize(("channels", "height", "width", "levels"), [(1, 5, 4, 2), (3, 3, 6, 17)])
def test_bound_follows_the_equations(channels, height, width, levels, label, layers):
    spec = ImageSpec(channels, height, width, levels)
    model = make(spec, None if label is None else ConditionSpec("class", 3), gain=0.1, layers=layers)
    x = images(spec, 3)
    reconstruction, kl = model.bound(x, label, seed=7, terms=True, first=5)
    for b in range(3):
        expected, expected_kl = reference_terms(model, x[b].numpy(), normal(7, [5 + b], 0, model.config.latent, 0, LATENT)[0], label)
        assert reconstruction[b].item() == pytest.approx(expected, rel=1e-9)
        assert kl[b].tolist() == pytest.approx([expected_kl], rel=1e-9)


def test_bounds_sum_to_one_and_samples_follow_them():
    """One latent, integrated by quadrature: many trajectories reach p(x), one stays below it, and drawn images have these frequencies."""
    spec = ImageSpec(1, 1, 3, 2)
    model = make(spec, gain=0.6, latent=1)
    with torch.no_grad():                                                 # wrong, but wide enough for weights to have a variance
        model.code.weight.mul_(0.2)
        model.code.bias.copy_(torch.tensor([0.3, 0.2]))
    xs = torch.tensor(list(itertools.product(range(2), repeat=3))).view(-1, *spec.shape)
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    with torch.no_grad():
        state = model.init(60)
        model.write(state, torch.from_numpy(points)[:, None])
        distribution = model.distribution(state)
        log_p = [distribution.log_prob(x.expand(60, 1, 1, 3)).flatten(1).sum(1).exp() for x in xs]
        p = torch.stack([(torch.from_numpy(weights / weights.sum()) * each).sum() for each in log_p])
        many = model.bound(xs, num_samples=4000, seed=2)
        one = model.bound(xs.repeat_interleave(200, 0), seed=1).view(8, -1)
    assert p.sum().item() == pytest.approx(1, abs=1e-9) and p.max() > 1.5 * p.min()
    assert (many - p.log()).abs().max() < 0.1 and many.exp().sum().item() == pytest.approx(1, abs=0.02)
    assert (one.mean(1) < p.log() + 4 * one.std(1) / 200**0.5).all() and (p.log() - one.mean(1)).mean() > 0.01
    seen = torch.bincount((model.sample(4000, seed=3).flatten(1) * torch.tensor([4, 2, 1])).sum(1), minlength=8)
    assert ((seen - 4000 * p).square() / (4000 * p)).sum() < 24.3         # 0.1 % of draws at 7 degrees of freedom


SIZES = [ImageSpec(1, 1, 1, 2), ImageSpec(1, 7, 4, 256), ImageSpec(3, 5, 9, 256), ImageSpec(1, 1, 9, 1024)]


@pytest.mark.parametrize("spec", SIZES, ids=str)
def test_any_size(spec):
    """Bound, gradients, samples and the mean image for any size, channels and levels, in every preset."""
    x = images(spec, 3)
    for preset in ("tiny", "small"):
        torch.manual_seed(0)
        model = VAE(spec, VAE.preset(preset, spec))
        model.initialise(x)
        loss = model.loss(x, seed=0)
        loss.sum().backward()
        assert all(parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in model.parameters())
        drawn = model.sample(2, seed=1)
        assert drawn.shape == (2, *spec.shape) and drawn.min() >= 0 and drawn.max() < spec.levels
        frames = list(model.reconstruct(x))
        mean = (x.double().mean(0) * 3 + 0.5 * (spec.levels - 1)) / 4 / (spec.levels - 1)
        assert len(frames) == 2 and torch.allclose(frames[0].images[0].double(), mean, atol=1e-4)


def test_a_condition_matters():
    spec = ImageSpec(1, 4, 4, 2)
    x = images(spec, 1).expand(3, -1, -1, -1)
    for condition, values in ((ConditionSpec("class", 3), torch.arange(3)), (ConditionSpec("vector", 3), torch.eye(3))):
        model = make(spec, condition)
        assert model.bound(x, values, seed=0).unique().numel() == 3
        state = model.init(3, values)
        model.look(state, x)
        assert model.posterior(state).mean[:, 0].unique().numel() == 3    # the encoder has it too
    with pytest.raises(ValueError, match="a class or a vector, got kind 'map'"):
        make(spec, ConditionSpec("map", (1, 4, 4)))


def test_presets_are_cut_and_overrides_are_not():
    assert VAE.preset("small", ImageSpec(1, 2, 1, 2)).layers == 1 and VAE.preset("paper", ImageSpec(1, 4, 3, 2)).layers == 2
    assert VAE.preset("paper", ImageSpec(3, 32, 32)).layers == 3
    for overrides, message in [
        ({"layers": 3}, "3 halvings of an image of 3x4 leave less than a pixel; at most 2"),
        ({"kernel": 2}, "kernel: expected an odd number, got 2"),
        ({"latent": 0}, "latent: expected a whole number of at least 1"),
        ({"strides": 2}, "VAEConfig has no option 'strides'"),
    ]:
        with pytest.raises(ValueError, match=message):
            VAE.preset("small", ImageSpec(1, 3, 4, 2), **overrides)
    with pytest.raises(ValueError, match="frames"):
        VAE.preset("tiny", ImageSpec(1, 3, 2, frames=2))
