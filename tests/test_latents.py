"""Uniform posteriors and their prior: what a coder with shared dither writes, against that coder simulated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rastrum.latents import DitheredNormal, Normal, Uniform


def reference_mass(z: float, mean: float, sd: float, width: float) -> float:
    """Φ(upper) − Φ(lower) from the standard library, computed in the tail, where nothing cancels."""
    low, high = sorted(abs((z + side * width / 2 - mean) / sd) * math.copysign(1, (z + side * width / 2 - mean)) for side in (-1, 1))
    if low > 0:
        low, high = -high, -low
    return 0.5 * (math.erfc(-high / math.sqrt(2)) - math.erfc(-low / math.sqrt(2)))


def test_the_kl_is_the_length_of_a_dithered_index():
    """The sender writes k = round((m − d)/w), the receiver reads k·w + d: uniform around m, of probability width times the prior's
    density."""
    m, mean, sd, width = 0.73, -0.4, 0.6, 0.9
    dither = (np.random.default_rng(0).random(20_000) - 0.5) * width
    index = np.round((m - dither) / width)
    z = torch.tensor(index * width + dither).view(-1, 1)
    error = np.sort((z.numpy().ravel() - m) / width + 0.5)
    assert error[0] >= 0 and error[-1] <= 1
    assert np.abs(error - (np.arange(20_000) + 0.5) / 20_000).max() < 1.95 / math.sqrt(20_000)  # Kolmogorov, 0.1 %
    full = lambda value: torch.full_like(z, value)  # noqa: E731
    prior = DitheredNormal(full(mean), full(math.log(sd)), full(math.log(width)))
    posterior = Uniform(full(m), full(math.log(width)))
    lengths = posterior.kl(prior, z)
    assert torch.allclose(lengths, posterior.log_prob(z) - prior.log_prob(z))
    for i in range(0, 20_000, 997):
        every = [reference_mass(k * width + dither[i], mean, sd, width) for k in range(-60, 61)]
        assert sum(every) == pytest.approx(1, abs=1e-12)
        assert lengths[i].item() == pytest.approx(-math.log(every[int(index[i]) + 60]), rel=1e-9)


def test_the_prior_is_a_density_and_its_draws_follow_it():
    """Integrates to one; Kolmogorov–Smirnov of its draws, from two noise values per component; a low temperature narrows them."""
    z = torch.linspace(-20, 20, 40_001, dtype=torch.float64).view(-1, 1)
    full = lambda value, like: torch.full_like(like, value)  # noqa: E731
    prior = DitheredNormal(full(0.5, z), full(-1.0, z), full(0.7, z))
    density = prior.log_prob(z).exp()
    assert torch.trapezoid(density, z.ravel()).item() == pytest.approx(1, abs=1e-9)
    noise = torch.randn(20_000, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    some = DitheredNormal(*(full(v, noise[..., 0]) for v in (0.5, -1.0, 0.7)))
    assert some.noise_shape == noise.shape
    drawn = some.sample(noise).ravel().sort().values
    expected = np.interp(drawn.numpy(), z.numpy().ravel(), [*torch.cumulative_trapezoid(density, z.ravel()).tolist(), 1.0])
    assert np.abs(expected - (np.arange(20_000) + 0.5) / 20_000).max() < 1.95 / math.sqrt(20_000)
    assert torch.allclose(some.sample(noise, 0.25) - 0.5, 0.5 * (some.sample(noise) - 0.5))


def test_float32_and_gradients_hold_in_the_tails():
    """Far from the mean, and for widths from a thousandth to a thousand deviations: finite, near float64, gradients finite too."""
    for log_width in (-7.0, -2.0, 0.0, 2.0, 7.0):
        for away in (0.0, 1.0, 10.0, 50.0):
            mean = torch.tensor([[-away]], requires_grad=True)
            log_sd, width = torch.zeros(1, 1, requires_grad=True), torch.full((1, 1), log_width, requires_grad=True)
            prior = DitheredNormal(mean, log_sd, width)
            nats = Uniform(torch.zeros(1, 1), width).kl(prior, torch.zeros(1, 1))
            exact = DitheredNormal(mean.double(), log_sd.double(), width.double()).log_mass(torch.zeros(1, 1).double())
            assert nats.item() == pytest.approx(-exact.item(), rel=1e-4, abs=1e-6)
            nats.sum().backward()
            for parameter in (mean, log_sd, width):
                assert parameter.grad is not None and torch.isfinite(parameter.grad).all()
            assert away == 0 or mean.grad is None or mean.grad.item() <= 0


def test_gradients_against_differences():
    torch.manual_seed(0)
    inputs = [torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    assert torch.autograd.gradcheck(lambda m, s, w, z: DitheredNormal(m, s, w).log_prob(z), inputs)


def test_a_uniform_is_zero_outside():
    """The density is 1/w within, including the edge, and 0 outside; temperature changes nothing; z is monotonic in the noise."""
    box = Uniform(torch.tensor([[2.0]]), torch.tensor([[math.log(0.5)]]))
    for z, expected in ((2.0, math.log(2)), (2.249, math.log(2)), (2.26, -math.inf), (1.7, -math.inf)):
        assert box.log_prob(torch.tensor([[z]])).item() == pytest.approx(expected)
    edge = torch.tensor([[5.42]])
    assert torch.isfinite(box.log_prob(box.sample(edge))).all() and box.sample(edge).item() == pytest.approx(2.25)
    assert torch.equal(box.sample(edge, 0.1), box.sample(edge))
    assert box.sample(torch.zeros(1, 1)).item() == 2.0 and box.noise_shape == (1, 1)


def test_a_narrow_dither_leaves_a_normal():
    z = torch.linspace(-3, 3, 50, dtype=torch.float64).view(-1, 1)
    thin = DitheredNormal(torch.zeros_like(z), torch.zeros_like(z), torch.full_like(z, -9.0))
    assert torch.allclose(thin.log_prob(z), Normal.standard(z, 1).log_prob(z), atol=1e-6)
