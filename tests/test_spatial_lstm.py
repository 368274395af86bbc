"""RIDE against its equations, one pixel at a time; the mixture and its densities against numerical integration; whitening; stages."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rastrum
from rastrum import ConditionSpec, ImageSpec
from rastrum.config import OptimConfig, RunConfig, TrainConfig
from rastrum.data.dataset import Dataset
from rastrum.evaluation import ensemble_log_prob, evaluate
from rastrum.layers.mcgsm import MCGSM, exact_exp
from rastrum.layers.whitening import Whitening
from rastrum.models.spatial_lstm import Layer, SpatialLSTM
from rastrum.train import train


def built(spec: ImageSpec, **overrides: Any) -> SpatialLSTM:
    """A tiny float64 model, whitened on pictures of waves and moved so far that every path matters."""
    model = rastrum.build("spatial-lstm", spec, preset="tiny", seed=1, **overrides)
    assert isinstance(model, SpatialLSTM)
    model = model.double()
    model.initialise(waves(spec, 40))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def waves(spec: ImageSpec, count: int, seed: int = 0) -> Tensor:
    """Smooth pictures whose channels have much in common, and a little noise: levels (count, *shape)."""
    generator = torch.Generator().manual_seed(seed)
    row, column = torch.meshgrid(torch.arange(spec.height), torch.arange(spec.width), indexing="ij")
    frequency, phase = torch.rand(2, count, 1, 1, 1, generator=generator), 7 * torch.rand(count, spec.channels, 1, 1, generator=generator)
    height = torch.sin(frequency[0] * row + frequency[1] * column + 0.2 * phase)
    noisy = height + 0.1 * torch.randn(count, *spec.shape, generator=generator)
    return ((noisy + 1.3) / 2.6 * (spec.levels - 1)).round().clamp(0, spec.levels - 1).long()


# ── the mixture ──────────────────────────────────────────────────────────────────────────────────────────────────────


def mcgsm(inputs: int = 3) -> tuple[MCGSM, Tensor]:
    torch.manual_seed(0)
    layer = MCGSM(inputs, components=2, scales=3, features=4).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return layer, torch.randn(inputs, dtype=torch.float64)


def whitened(mixture: torch.nn.Module, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The Gaussians of y itself, of base 0 and unit 1."""
    return mixture(h, h.new_zeros(1), h.new_tensor(0.0))


def test_the_mixture_is_its_equations() -> None:
    """Written out over components, scales and features; the weights are normalised over both. In a unit of e^0.3, from a base of 0.2."""
    layer, h = mcgsm()
    log_weights, means, log_scales = layer(h, h.new_tensor([0.2]), h.new_tensor(0.3))
    energy = np.zeros((2, 3))
    eta, alpha, w, b, a = (p.detach().numpy() for p in (layer.eta, layer.alpha, layer.w, layer.b, layer.a))
    for k in range(2):
        for s in range(3):
            energy[k, s] = eta[k, s] - 0.5 * math.exp(alpha[k, s]) * sum(w[n, k] ** 2 * float(b[:, n] @ h.numpy()) ** 2 for n in range(4))
            assert means[3 * k + s].item() == pytest.approx(0.2 + math.exp(0.3) * float(a[:, k] @ h.numpy()))
            assert math.exp(-2 * (log_scales[3 * k + s].item() - 0.3)) == pytest.approx(math.exp(alpha[k, s]))
    weights = np.exp(energy) / np.exp(energy).sum()
    np.testing.assert_allclose(log_weights.softmax(-1).detach(), weights.reshape(-1), rtol=1e-12)


def test_the_mixture_is_a_conditional_of_a_joint_density() -> None:
    """The scales' weights are no choice: for features that span h they are what Bayes' rule gives a mixture of Gaussians of (h, y).

    Joint: Σ_ks q_ks N(h; 0, (e^α_ks M_k)⁻¹) N(y; a_kᵀ h, e^−α_ks), M_k = Σ_n w_kn² b_n b_nᵀ. Its conditional of y by integration over y.
    """
    layer, h = mcgsm()
    log_weights, means, log_scales = (x.detach() for x in whitened(layer, h))
    w, b = layer.w.detach(), layer.b.detach()
    y = torch.linspace(-60, 60, 20_001, dtype=torch.float64)
    joint = torch.zeros_like(y)
    for k in range(2):
        matrix = (b * w[:, k].square()) @ b.t()
        for s in range(3):
            precision = matrix * layer.alpha[k, s].exp().detach()
            # η_ks absorbs the prior and the normaliser of h's Gaussian, so q_ks is what makes them equal.
            q = torch.exp(layer.eta[k, s].detach() - 0.5 * torch.logdet(precision))
            p_h = torch.distributions.MultivariateNormal(torch.zeros(3).double(), precision_matrix=precision).log_prob(h).exp()
            joint += q * p_h * torch.distributions.Normal(means[3 * k + s], log_scales[3 * k + s].exp()).log_prob(y).exp()
    conditional = joint / torch.trapezoid(joint, y)
    ours = sum(
        weight * torch.distributions.Normal(mean, scale.exp()).log_prob(y).exp()
        for weight, mean, scale in zip(log_weights.softmax(-1), means, log_scales, strict=True)
    )
    torch.testing.assert_close(ours, conditional, rtol=1e-7, atol=1e-9)
    assert float(torch.trapezoid(conditional * y, y)) == pytest.approx(float(log_weights.softmax(-1) @ means), abs=1e-6)


def test_exponentials_of_a_program_are_correctly_rounded() -> None:
    x = torch.linspace(-30, 30, 1001, dtype=torch.float64).view(7, 143)
    np.testing.assert_allclose(exact_exp(x), np.exp(x.numpy().astype(np.longdouble)).astype(np.float64), rtol=2**-52)
    assert exact_exp(torch.tensor([0.0, math.inf, -math.inf])).tolist() == [1.0, math.inf, 0.0]


# ── whitening ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("channels", [1, 3])
def test_whitened_values_are_white_and_predictions_are_those_of_least_squares(channels: int) -> None:
    """On many patches of smooth pictures: unit covariance, and the same errors as numpy's least squares on the same data."""
    spec = ImageSpec(channels, 12, 11, 256)
    x = spec.scale(waves(spec, 600), torch.float64).permute(0, 2, 3, 1)
    whitening = Whitening(channels, 3).double()
    whitening.fit(x, least=1 / 255)
    v, prediction, e = whitening(x)
    inside = (slice(None), slice(1, None), slice(1, -1))
    white = v[inside].flatten(0, 2)
    assert white.shape[1] == whitening.size == 4 * channels
    covariance = white.t() @ white / len(white)
    torch.testing.assert_close(covariance, torch.eye(len(covariance)).double(), rtol=0, atol=0.02)
    assert float(white.mean(0).abs().max()) < 1e-9
    # The pixel's own patch, as a plain loop reads it; then the earlier channels.
    rows = [x[:, 0:-1, 0:-2], x[:, 0:-1, 1:-1], x[:, 0:-1, 2:], x[:, 1:, 0:-2]]
    patch = torch.cat([*rows, x[inside], torch.ones_like(x[inside][..., :1])], -1).flatten(0, 2).numpy()
    for c in range(channels):
        known = np.concatenate([patch[:, : 4 * channels + c], patch[:, -1:]], 1)
        fitted = known @ np.linalg.lstsq(known, patch[:, 4 * channels + c], rcond=None)[0]
        missed = patch[:, 4 * channels + c] - fitted
        assert float((prediction[inside][..., c].flatten() - torch.from_numpy(fitted)).square().mean()) < 1e-3 * missed.var()
        assert whitening.log_deviation[c].exp().item() == pytest.approx(missed.std(), rel=0.01)
        assert float(e[inside][..., c].std()) == pytest.approx(1, rel=0.01)


def test_whitening_survives_flat_and_tiny_images() -> None:
    """With no variance at all, or fewer positions than values of a patch, results are finite and no deviation is below ``least``."""
    for x in (torch.zeros(1, 1, 1, 3), torch.full((2, 4, 4, 1), 0.3), torch.randn(1, 2, 2, 3)):
        whitening = Whitening(x.shape[-1], 5).double()
        whitening.fit(x.double(), least=0.01)
        assert all(bool(part.isfinite().all()) for part in whitening(x.double()))
        assert float(whitening.log_deviation.detach().min()) >= math.log(0.01) - 1e-12


# ── the recurrence ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("channels", [1, 2])
def test_the_network_is_its_equations(channels: int) -> None:
    """Two layers, pixel by pixel with plain loops, from levels to the mixture of every value."""
    spec = ImageSpec(channels, 4, 3, 16)
    model = built(spec, layers=2)
    x = waves(spec, 1, seed=5)
    scaled = spec.scale(x, torch.float64)
    found = model.distribution(x)
    v, prediction, e = model.whitening(scaled.permute(0, 2, 3, 1))
    h: list[dict[tuple[int, int], Tensor]] = [{}, {}]
    c: list[dict[tuple[int, int], Tensor]] = [{}, {}]
    for i in range(spec.height):
        for j in range(spec.width):
            below = v[0, i, j]
            for layer, layer_h, layer_c in zip(model.layers, h, c, strict=True):
                assert isinstance(layer, Layer)
                scan, own = layer.state_to_state, layer.input_to_state
                left, up = ((layer_h.get(at, scan.first_h), layer_c.get(at, scan.first_c)) for at in ((i, j - 1), (i - 1, j)))
                gates = own.bias + below @ own.weights[0] + left[0] @ scan.weights[0] + up[0] @ scan.weights[1]
                o, f, u, enter, g = gates.chunk(5)
                layer_c[i, j] = left[1] * f.sigmoid() + up[1] * u.sigmoid() + enter.sigmoid() * g.tanh()
                below = layer_h[i, j] = (o.sigmoid() * layer_c[i, j]).tanh()
            for channel, mixture in enumerate(model.mixtures):
                logits, means, log_scales = whitened(mixture, torch.cat([below, e[0, i, j, :channel]]))
                unit = model.whitening.log_deviation[channel]
                index = (0, channel, i, j)
                torch.testing.assert_close(found.logits[index], logits)
                torch.testing.assert_close(found.means[index], prediction[0, i, j, channel] + unit.exp() * means)
                torch.testing.assert_close(found.log_scales[index], unit + log_scales)


def test_the_mixture_alone_sees_its_patch_and_no_more() -> None:
    """``recurrent=False`` passes ``check``, steps like its forward and draws natively what float64 draws; it takes no condition."""
    for spec in (ImageSpec(1, 4, 5, 5), ImageSpec(3, 3, 4, 4)):
        model = built(spec, recurrent=False)
        report = rastrum.check(model)
        assert report.ok, str(report)
        x = waves(spec, 3)
        with torch.no_grad():
            full, state = model.log_prob_map(x).flatten(1), model.init(3)
            for index in model.order.tolist():
                value = x.flatten(1)[:, index]
                torch.testing.assert_close(model.step(state).log_prob(value), full[:, index], rtol=0, atol=1e-9)
                model.observe(state, value)
        drawn = rastrum.sample(model, 4, seed=3)
        assert torch.equal(rastrum.sample(model.float(), 4, seed=3, backend="native"), drawn)
    with pytest.raises(ValueError, match="recurrent=False"):
        rastrum.build("spatial-lstm", spec, condition=ConditionSpec("class", 3), recurrent=False)


# ── the continuous density ───────────────────────────────────────────────────────────────────────────────────────────


def test_density_of_a_pixel_integrates_to_one_and_over_its_bin_to_the_levels_probability() -> None:
    """For one value given the earlier ones, by the trapezoidal rule over all values and Gauss–Legendre over a bin.

    It belongs to the last pixel, so that no other conditional changes.
    """
    spec = ImageSpec(2, 2, 2, 8)
    model, x = built(spec), waves(spec, 1)
    for mixture in model.mixtures:                                        # no bell narrower than the grid
        assert isinstance(mixture, MCGSM)
        mixture.alpha.detach().mul_(0.5)
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(40))
    bins = (torch.arange(1, 7)[:, None] + 0.5 + 0.5 * nodes).flatten()
    grid = torch.linspace(-32, 40, 72 * 64 + 1, dtype=torch.float64)

    def density(channel: int, values: Tensor) -> Tensor:
        y = (x.double() + 0.5).repeat(len(values), 1, 1, 1)
        y[:, channel, -1, -1] = values
        with torch.no_grad():
            return model.log_density_map(y)[:, channel, -1, -1].exp()

    for channel in (0, 1):
        assert float(torch.trapezoid(density(channel, grid), grid)) == pytest.approx(1, abs=1e-8)
        masses = (density(channel, bins).view(6, 40) * weights / 2).sum(1)
        with torch.no_grad():
            pmf = model.distribution(x).log_pmf()[0, channel, -1, -1].exp()
        torch.testing.assert_close(masses, pmf[1:7], rtol=1e-7, atol=1e-9)


def test_log_density_is_a_jacobian_away_from_that_of_whitened_pixels() -> None:
    """Of intensities in [0, 1]: the mixture's density of e, minus log σ of the whitening, minus the log size of that unit on [−1, 1].

    It is summed over all pixels, or over those with two rows above and two columns to each side.
    """
    spec = ImageSpec(2, 4, 7, 16)
    model = built(spec, neighbourhood=5)
    y = waves(spec, 2).double() + torch.rand(2, *spec.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scaled = (y - 0.5) * 2 / 15 - 1
    v, _, e = model.whitening(scaled.permute(0, 2, 3, 1))
    h = model.layers[0](v, None)
    total = torch.zeros(2, 4, 7, dtype=torch.float64)
    for channel, mixture in enumerate(model.mixtures):
        logits, means, log_scales = whitened(mixture, torch.cat([h, e[..., :channel]], -1))
        each = torch.distributions.Normal(means, log_scales.exp()).log_prob(e[..., channel, None])
        jacobian = -model.whitening.log_deviation[channel] + math.log(2 / 15 * 16)
        total += torch.logsumexp(logits.log_softmax(-1) + each, -1) + jacobian
    torch.testing.assert_close(model.log_density(y), total.sum((1, 2)))
    torch.testing.assert_close(model.log_density(y.numpy()), total.sum((1, 2)))
    whole = total[:, 2:, 2:5].sum((1, 2))
    torch.testing.assert_close(model.log_density(y, whole_neighbourhood=True), whole)
    torch.testing.assert_close(model.bits_per_pixel(y), total.sum((1, 2)) / (28 * math.log(2)))
    torch.testing.assert_close(model.bits_per_pixel(y, whole_neighbourhood=True), whole / (6 * math.log(2)))
    with pytest.raises(ValueError, match="no pixel of 3x4 has 2 rows above and 2 columns on each side"):
        built(ImageSpec(1, 3, 4, 16), neighbourhood=5).log_density(torch.ones(1, 1, 3, 4), whole_neighbourhood=True)
    with pytest.raises(ValueError, match=r"expected shape \(batch, 2, 4, 7\), got \(2, 2, 4\)"):
        model.log_density(y[..., 0])
    for wrong, said in ((math.nan, "nan"), (-0.5, "-0.5"), (16.5, "16.5"), (math.inf, "inf")):
        bad = y.clone()
        bad[1, 0, 2, 1] = wrong
        with pytest.raises(ValueError, match=f"expected values from 0 to 16, got {said}"):
            model.log_density(bad)
    for end in (0, 16):
        assert bool(model.log_density(torch.full((1, *spec.shape), end)).isfinite().all())


def test_dequantised_density_is_on_average_below_the_levels_probability() -> None:
    """Jensen's inequality for the levels of the last pixel, given the others: E_u log p(v + u) ≤ log ∫ p(v + u) du = log P(v)."""
    spec = ImageSpec(1, 3, 3, 8)
    model, x = built(spec), waves(spec, 1)
    noise = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    y = (x.double() + 0.5).repeat(2000, 1, 1, 1)
    for level in range(1, 7):                                             # the end levels also have the tails
        x[..., -1, -1] = level
        y[..., -1, -1] = (level + noise)[:, None]
        with torch.no_grad():
            density, mass = model.log_density_map(y)[..., -1, -1].mean(), model.log_prob_map(x)[..., -1, -1]
        assert float(density) <= float(mass)


# ── training, ensemble ───────────────────────────────────────────────────────────────────────────────────────────────


def dataset(spec: ImageSpec, count: int = 64) -> Dataset:
    return Dataset("waves", "train", spec, waves(spec, count).to(torch.uint8))


@pytest.mark.parametrize("dequantise", [True, False])
def test_training_lowers_the_held_out_score(dequantise: bool) -> None:
    spec = ImageSpec(1, 8, 8, 64)
    model = rastrum.build("spatial-lstm", spec, preset="tiny", dequantise=dequantise)
    assert isinstance(model, SpatialLSTM)
    data = dataset(spec)
    optim = OptimConfig(learning_rate=1e-2, batch=16, ema=0.9, clip=100.0)
    model.initialise(data.images)
    before = evaluate(model, data).nats
    for state in train(model, data, TrainConfig(optim=optim, run=RunConfig(steps=40, workers=1))):
        assert math.isfinite(state.loss)
    assert evaluate(model, data).nats < before - 0.1 * spec.size * math.log(2)


def in_turn(spec: ImageSpec, **overrides: Any) -> SpatialLSTM:
    model = rastrum.build("spatial-lstm", spec, preset="tiny", in_turn=True, **overrides)
    assert isinstance(model, SpatialLSTM)
    return model


def test_layers_learn_in_turn() -> None:
    """In the second half of the steps the lower layer stands still under Adam with momentum and the upper learns; before, the upper takes
    no part. Each half has a warm-up and a cosine of its own. Trained again, the finished model keeps both layers."""
    spec = ImageSpec(1, 5, 5, 16)
    model = in_turn(spec, layers=2)
    optim = OptimConfig(learning_rate=1e-2, batch=8, micro_batch=4, ema=0.0, warm_up=2)
    config = TrainConfig(optim=optim, run=RunConfig(steps=8, workers=1))

    def run() -> list[tuple[int, float, list[Tensor]]]:
        seen = []
        for state in train(model, dataset(spec, 16), config):
            layers = [nn.utils.parameters_to_vector(layer.parameters()).detach() for layer in model.layers]
            seen.append((int(model.active), state.learning_rate, layers))
        return seen

    seen = run()
    assert [active for active, *_ in seen] == [1, 1, 1, 1, 2, 2, 2, 2]
    for (_, _, (lower, upper)), (active, _, (lower_after, upper_after)) in pairwise(seen):
        assert torch.equal(lower, lower_after) == (active == 2)
        assert torch.equal(upper, upper_after) == (active == 1)
    half = [1e-2 * min(1, (step + 1) / 2) * 0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    assert [rate for _, rate, _ in seen] == pytest.approx(half * 2)
    assert [active for active, *_ in run()] == [2] * 8 and int(model.state_dict()["active"]) == 2


def test_all_layers_learn_at_once_unless_in_turn() -> None:
    spec = ImageSpec(1, 5, 5, 16)
    model = rastrum.build("spatial-lstm", spec, preset="tiny", layers=2)
    assert isinstance(model, SpatialLSTM) and model.progress(0.3) == 0.3 and int(model.active) == 2
    before = [layer.input_to_state.weights[0].detach().clone() for layer in model.layers if isinstance(layer, Layer)]
    for _ in train(model, dataset(spec, 16), TrainConfig(run=RunConfig(steps=1, workers=1))):
        pass
    after = [layer.input_to_state.weights[0] for layer in model.layers if isinstance(layer, Layer)]
    assert not any(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    alone = rastrum.build("spatial-lstm", spec, preset="tiny", recurrent=False, in_turn=True)
    assert alone.progress(0.7) == 0.7


def test_a_second_layer_in_turn_starts_near_the_first_and_ends_better() -> None:
    """On a small set: the new layer loses little at first, and both do better in the end than the first after its turn."""
    spec = ImageSpec(1, 8, 8, 64)
    model, data = in_turn(spec, layers=2), dataset(spec)
    optim = OptimConfig(learning_rate=2e-2, batch=16, ema=0.0, clip=100.0)
    states = train(model, data, TrainConfig(optim=optim, run=RunConfig(steps=80, workers=1)))
    nats = {state.step: evaluate(state.model, data).nats for state in states if state.step in (1, 40, 41, 80)}
    assert nats[41] < nats[40] + 0.15 * (nats[1] - nats[40]) and nats[80] < nats[40]


def test_exact_exp_answers_on_the_device_of_its_input() -> None:
    """Whatever the default device is; "meta" stands for one that this machine may not have."""
    x = torch.tensor([0.0, 1.0, -30.0])
    with torch.device("meta"):
        got = exact_exp(x)
    assert got.device == x.device and got.tolist() == [1.0, math.e, math.exp(-30)]


@pytest.mark.parametrize("size", [(2, 2), (2, 3)], ids=str)
def test_an_ensemble_is_a_mixture_over_views(size: tuple[int, int]) -> None:
    """Its probabilities of all images sum to 1, a view of an image scores as the image, and the mean is of probabilities, not of logs."""
    spec = ImageSpec(1, *size, 2)
    model = built(spec)
    every = torch.cartesian_prod(*[torch.arange(2)] * spec.size).view(-1, *spec.shape)
    with torch.no_grad():
        scores = ensemble_log_prob(model, every)
        assert float(scores.exp().sum()) == pytest.approx(1, abs=1e-12)
        torch.testing.assert_close(ensemble_log_prob(model, every.flip(-1)), scores)
        views = [every.rot90(turns, (-2, -1)) for turns in range(4)] if size[0] == size[1] else [every, every.rot90(2, (-2, -1))]
        views += [view.flip(-1) for view in views]
        mean = torch.stack([model.log_prob(view).exp() for view in views]).mean(0)
        torch.testing.assert_close(scores.exp(), mean)
    data = Dataset("all", "test", spec, every.to(torch.uint8))
    assert evaluate(model, data, ensemble=True).nats == pytest.approx(-float(scores.mean()))
    with pytest.raises(ValueError, match="ensemble"):
        ensemble_log_prob(rastrum.build("draw", spec, preset="tiny"), every)
