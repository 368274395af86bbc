"""DRAW against its equations written out in float64, against brute-force integration, and at the edges of sizes, levels and windows."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rastrum.layers.attention import filter_bank, make_window
from rastrum.models.draw import DRAW, DRAWConfig
from rastrum.noise import LATENT, normal
from rastrum.protocol import ConditionSpec, ImageSpec

TOY, COLOUR_TOY = ImageSpec(1, 1, 3, 2), ImageSpec(3, 1, 1, 3)


def make(spec: ImageSpec, seed: int = 0, gain: float = 1.0, condition: ConditionSpec | None = None, **config) -> DRAW:
    torch.manual_seed(seed)
    model = DRAW(spec, DRAW.preset("tiny", spec, **config), condition).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(gain * 0.3 * torch.randn_like(parameter))
    return model


def images(spec: ImageSpec, count: int, seed: int = 0) -> Tensor:
    return torch.randint(spec.levels, (count, *spec.shape), generator=torch.Generator().manual_seed(seed))


# ── the equations, one image, one number at a time ───────────────────────────────────────────────────────────────────


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def reference_filters(parameters: np.ndarray, n: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Equations 21 to 26 with the paper's counting from 1."""
    g_x = (width + 1) / 2 * (parameters[0] + 1)
    g_y = (height + 1) / 2 * (parameters[1] + 1)
    variance, gamma = math.exp(parameters[2]), math.exp(parameters[4])
    delta = (max(width, height) - 1) / (n - 1) * math.exp(parameters[3]) if n > 1 else 0.0
    banks = []
    for g, size in ((g_y, height), (g_x, width)):
        bank = np.zeros((n, size))
        for i in range(1, n + 1):
            for a in range(1, size + 1):
                bank[i - 1, a - 1] = math.exp(-((a - (g + (i - n / 2 - 0.5) * delta)) ** 2) / (2 * variance))
        banks.append(bank / bank.sum(1, keepdims=True))
    return banks[0], banks[1], gamma


def reference_lstm(gates: np.ndarray, memory: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    o, f, i, g = np.split(gates, 4)
    memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(memory), memory


def reference_terms(model: DRAW, x: np.ndarray, noise: np.ndarray) -> tuple[float, list[float]]:
    """Reconstruction and KL of every step for one image x (C, H, W), noise (steps, latent)."""
    w = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    config, spec = model.config, model.spec
    unit = x / (spec.levels - 1)
    canvas = w["canvas"].transpose(1, 0, 2).copy()
    encoder, encoder_cell, decoder, decoder_cell = (row.copy() for row in w["start"])
    kl = []
    for t in range(config.steps):
        drawn = canvas[: spec.channels]
        error = unit - (sigmoid(drawn) if spec.levels == 2 else np.clip((drawn + 1) / 2, 0, 1))
        if config.attention:
            p = w["read_head.weight"] @ decoder + w["read_head.bias"]
            rows, columns, gamma = reference_filters(p, config.read, spec.height, spec.width)
            glimpse = [gamma * rows @ part @ columns.T for part in (*unit, *error)]
            seen = np.stack(glimpse).transpose(1, 0, 2).ravel()
            gates = w["encoder.weight"] @ np.concatenate([seen, decoder, encoder]) + w["encoder.bias"]
        else:
            seen = error.transpose(1, 0, 2).ravel()
            gates = w["encoder.weight"] @ np.concatenate([seen, decoder, encoder]) + w["encoder.bias"]
            gates = gates + w["encoder_image.weight"] @ unit.transpose(1, 0, 2).ravel()
        encoder, encoder_cell = reference_lstm(gates, encoder_cell)
        mean, log_sd = np.split(w["posterior_head.weight"] @ encoder + w["posterior_head.bias"], 2)
        kl.append(sum(0.5 * (m * m + math.exp(2 * s) - 2 * s - 1) for m, s in zip(mean, log_sd, strict=True)))
        z = mean + np.exp(log_sd) * noise[t]
        decoder, decoder_cell = reference_lstm(w["decoder.weight"] @ np.concatenate([z, decoder]) + w["decoder.bias"], decoder_cell)
        head = w["write_head.weight"] @ decoder + w["write_head.bias"]
        if config.attention:
            rows, columns, gamma = reference_filters(head[:5], config.write, spec.height, spec.width)
            patch = head[5:].reshape(config.write, -1, config.write)
            canvas = canvas + np.stack([rows.T @ patch[:, c] @ columns / gamma for c in range(patch.shape[1])])
        else:
            canvas = canvas + head.reshape(spec.height, -1, spec.width).transpose(1, 0, 2)
    return sum(reference_log_prob(canvas, i, int(v), spec) for i, v in np.ndenumerate(x)), kl


def reference_log_prob(canvas: np.ndarray, index: tuple[int, ...], value: int, spec: ImageSpec) -> float:
    c, i, j = index
    if spec.levels == 2:
        return -math.log1p(math.exp(-canvas[index] if value else canvas[index]))
    mean, scale = canvas[index], math.exp(max(canvas[c + spec.channels, i, j], -7.0))
    edge = lambda v: sigmoid(((2 * v - 1) / (spec.levels - 1) - 1 - mean) / scale)  # noqa: E731
    low = 0.0 if value == 0 else edge(value)
    high = 1.0 if value == spec.levels - 1 else edge(value + 1)
    return math.log(high - low)


@pytest.mark.parametrize("config", [{}, {"read": 1, "write": 1}, {"attention": False}], ids=str)
@pytest.mark.parametrize(("channels", "height", "width", "levels"), [(1, 5, 4, 2), (3, 3, 6, 17)])
def test_bound_follows_the_equations(config, channels, height, width, levels):
    """Reconstruction and KL of every step equal the equations written out value by value; also for windows of one filter."""
    spec = ImageSpec(channels, height, width, levels)
    model = make(spec, gain=0.3, **config)
    x = images(spec, 3)
    reconstruction, kl = model.bound(x, seed=7, terms=True, first=5)
    for b in range(3):
        noise = np.stack([normal(7, np.array([5 + b]), 0, model.config.latent, component=t, purpose=LATENT)[0] for t in range(model.steps)])
        expected, expected_kl = reference_terms(model, x[b].numpy(), noise)
        assert reconstruction[b].item() == pytest.approx(expected, rel=1e-9)
        assert kl[b].tolist() == pytest.approx(expected_kl, rel=1e-9)


# ── probabilities: a toy whose latents are integrated by brute force ─────────────────────────────────────────────────


def all_images(spec: ImageSpec) -> Tensor:
    return torch.tensor(list(itertools.product(range(spec.levels), repeat=spec.size))).view(-1, *spec.shape)


def integrated(model: DRAW, nodes: int = 40) -> Tensor:
    """p(x) of all images by Gauss–Hermite quadrature over two steps of one latent each."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    grid = torch.tensor(list(itertools.product(points, repeat=2)))
    weight = torch.tensor([a * b for a, b in itertools.product(weights / weights.sum(), repeat=2)])
    with torch.no_grad():
        state = model.init(len(grid))
        for t in range(2):
            model.write(state, grid[:, t : t + 1])
        distribution = model.distribution(state)
        xs = all_images(model.spec)
        return torch.stack([(weight * distribution.log_prob(x.expand(len(grid), *x.shape)).flatten(1).sum(1).exp()).sum() for x in xs])


def toy(attention: bool, spec: ImageSpec = TOY) -> DRAW:
    """Latents that matter, and a posterior that is wrong but wide enough for its weights to have a variance."""
    model = make(spec, gain=2.0, steps=2, latent=1, hidden=4, attention=attention)
    with torch.no_grad():
        model.write_head.weight.mul_(1 if attention else 3)
        model.posterior_head.weight.mul_(0.3)
        model.posterior_head.bias.copy_(torch.tensor([0.3, 0.2]))
    return model


@pytest.mark.parametrize("attention", [True, False])
def test_bounds_sum_to_one_and_rise_to_the_likelihood(attention):
    """Many trajectories give p(x) of every image; fewer give less, on average."""
    model, repeats = toy(attention), 100
    p = integrated(model)
    assert p.sum().item() == pytest.approx(1, abs=1e-6)
    assert p.max() > 3 * p.min() > 3e-3
    xs = all_images(TOY)
    with torch.no_grad():
        rising = [model.bound(xs.repeat_interleave(repeats, 0), num_samples=k, seed=1).view(len(xs), -1) for k in (1, 4, 40)]
        many = model.bound(xs, num_samples=5000, seed=2)
    means = [bound.mean(1) for bound in rising]
    errors = [bound.std(1) / math.sqrt(repeats) for bound in rising]
    for k in range(2):
        assert (means[k] < means[k + 1] + 4 * (errors[k] + errors[k + 1])).all()
    assert (means[2] < p.log() + 4 * errors[2]).all()
    assert (p.log() - means[0]).mean() > 4 * errors[0].mean()
    assert (many - p.log()).abs().max() < 0.1
    assert many.exp().sum().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("attention", [True, False])
def test_colours_have_a_likelihood_too(attention):
    """RGB with discretised logistics: p(x) of all images sums to 1, and many trajectories approach it."""
    model = toy(attention, COLOUR_TOY)
    p = integrated(model)
    assert p.sum().item() == pytest.approx(1, abs=1e-6) and len(p) == 27
    with torch.no_grad():
        many = model.bound(all_images(COLOUR_TOY), num_samples=4000, seed=2).exp()
    assert (many - p).abs().max() < 0.03 and many.sum().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("attention", [True, False])
def test_samples_follow_the_likelihood(attention):
    """Chi-square of drawn images against the integrated probabilities, all mass counted."""
    model, count = toy(attention), 4000
    p = integrated(model)
    code = (model.sample(count, seed=3).flatten(1) * torch.tensor([4, 2, 1])).sum(1)
    seen = torch.bincount(code, minlength=8)
    chi_square = ((seen - count * p).square() / (count * p)).sum()
    assert chi_square < 24.3  # 0.1 % of draws at 7 degrees of freedom


# ── attention windows ────────────────────────────────────────────────────────────────────────────────────────────────


def test_zero_parameters_span_the_image():
    """N = 5 filters on 28 pixels lie at 0, 6.75, 13.5, 20.25, 27: not off by one, nor by a stride."""
    parameters = torch.zeros(1, 5, dtype=torch.float64)
    window = make_window(parameters, 5, 28, 28)
    pixels = torch.arange(28, dtype=torch.float64)
    expected = torch.tensor([0, 6.75, 13.5, 20.25, 27], dtype=torch.float64)
    assert torch.allclose(filter_bank(expected[None], torch.ones(1, 1), 28), window.rows, atol=1e-12)
    assert torch.allclose((window.columns[0] @ pixels)[1:4], expected[1:4], atol=0.2)
    assert window.box.tolist() == [[13.5, 13.5, 28.0, 28.0]]
    assert torch.allclose(window.rows.sum(2), torch.ones(1, 5, dtype=torch.float64))


def test_one_filter_lies_at_the_centre():
    parameters = torch.tensor([[0.0, 0.0, -4.0, 3.0, 0.0]])
    window = make_window(parameters, 1, 9, 5)
    assert window.rows.argmax(2).item() == 4 and window.columns.argmax(2).item() == 2


def test_windows_follow_their_parameters():
    """g̃X moves columns, g̃Y rows, the stride widens the box, and the box shows where the filters are."""
    window = make_window(torch.tensor([[0.4, -0.3, 0.0, -1.0, 0.0]], dtype=torch.float64), 3, 21, 31)
    row, column = 11 * 0.7 - 1, 16 * 1.4 - 1
    assert window.box[0].tolist() == pytest.approx([row, column, 30 * math.exp(-1) + 1, 30 * math.exp(-1) + 1])
    assert (window.rows[0, 1] @ torch.arange(21.0).double()).item() == pytest.approx(row, abs=0.05)
    assert (window.columns[0, 1] @ torch.arange(31.0).double()).item() == pytest.approx(column, abs=0.05)


def test_attention_gradients():
    """Read and write: gradients in float64 equal finite differences, on images of any shape."""
    torch.manual_seed(0)
    parameters = (0.3 * torch.randn(2, 5, dtype=torch.float64)).requires_grad_()
    image = torch.randn(2, 4, 2, 6, dtype=torch.float64, requires_grad=True)
    patch = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p, i: make_window(p, 3, 4, 6).read(i), (parameters, image))
    assert torch.autograd.gradcheck(lambda p, w: make_window(p, 3, 4, 6).write(w), (parameters, patch))


def test_gradients_stay_finite_for_any_width():
    """log σ² from −20 to 10 in float32: filters sum to 1, no zero, infinite or missing gradient of the whole window."""
    for log_variance in torch.linspace(-20, 10, 31):
        parameters = torch.tensor([[0.13, -0.21, log_variance, -0.2, 0.1]], requires_grad=True)
        window = make_window(parameters, 5, 28, 28)
        assert torch.allclose(window.rows.sum(2), torch.ones(1, 5), atol=1e-5)
        (window.read(torch.randn(1, 28, 1, 28)).square().sum() + window.write(torch.randn(1, 5, 1, 5)).square().sum()).backward()
        assert parameters.grad is not None and torch.isfinite(parameters.grad).all()


def test_write_divides_by_gamma():
    """A window with twice the read γ shows twice as much; one with twice the write γ writes half."""
    spec = ImageSpec(1, 6, 6, 2)
    model = make(spec, steps=1)
    z = torch.randn(2, model.config.latent, dtype=torch.float64)
    strokes = []
    for _ in range(2):
        state = model.init(2)
        before = state.canvas
        model.write(state, z)
        strokes.append(state.canvas - before)
        with torch.no_grad():
            model.write_head.bias[4] += math.log(2)
    assert torch.allclose(strokes[0], 2 * strokes[1])


# ── every size, every number of levels ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize(
    ("spec", "config"),
    [
        (ImageSpec(1, 1, 1, 2), {}),
        (ImageSpec(1, 7, 4, 256), {}),
        (ImageSpec(3, 5, 8, 256), {}),
        (ImageSpec(3, 4, 4, 2), {}),
        (ImageSpec(1, 8, 8, 17), {"read": 1, "write": 1}),
        (ImageSpec(1, 1, 9, 1024), {"read": 2, "write": 9}),
    ],
)
def test_any_size(spec, config, attention):
    """Bound, gradients, samples and frames for any size, channels, levels and N, N = 1 included."""
    torch.manual_seed(0)
    model = DRAW(spec, DRAW.preset("tiny", spec, attention=attention, **config))
    x = images(spec, 3)
    model.initialise(x)
    loss = model.loss(x, seed=0)
    loss.sum().backward()
    assert torch.allclose(-loss.detach(), model.bound(x, seed=0).detach())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    drawn = model.sample(2, seed=1)
    assert drawn.shape == (2, *spec.shape) and drawn.min() >= 0 and drawn.max() < spec.levels
    frames = list(model.reconstruct(x))
    assert [frame.fraction for frame in frames] == [0, 0.25, 0.5, 0.75, 1]
    for frame in frames:
        assert frame.images.shape == x.shape and frame.images.min() >= 0 and frame.images.max() <= 1
    for frame in frames[1:]:
        assert frame.info["write_patch"].shape == x.shape and frame.info["kl"].shape == (3,)
        if attention:
            n = model.config.read
            assert frame.info["read_window"].shape == frame.info["write_window"].shape == (3, 4)
            assert frame.info["glimpse"].shape == frame.info["error_glimpse"].shape == (3, spec.channels, n, n)
            assert frame.info["glimpse"].min() >= 0 and frame.info["glimpse"].max() <= 1 + 1e-5
        assert (frame.window is not None) == attention


def test_training_lowers_the_loss():
    """A few optimiser steps from the data's mean canvas, with attention."""
    spec = ImageSpec(1, 6, 6, 2)
    torch.manual_seed(0)
    model = DRAW(spec, DRAW.preset("tiny", spec))
    x = (torch.arange(6) // 3).expand(32, 1, 6, 6).clone()
    x[::2] = 1 - x[::2]
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    first = model.loss(x, seed=0).mean().item()
    for _ in range(30):
        optimiser.zero_grad()
        model.loss(x).mean().backward()
        optimiser.step()
    assert model.loss(x, seed=0).mean().item() < 0.7 * first


def test_initial_canvas_is_the_mean_image():
    """The first frame shows the data's mean; the buffer ``initialised`` is saved; the scale starts at the data's spread."""
    spec = ImageSpec(1, 3, 2, 17)
    x = images(spec, 500)
    model = DRAW(spec, DRAW.preset("tiny", spec))
    flat = model.loss(x, seed=0).mean()
    model.initialise(x)
    assert bool(model.state_dict()["initialised"])
    frame = next(model.generate(2))
    assert torch.allclose(frame.images[0], x.float().mean(0) / 16, atol=0.01)
    assert model.loss(x, seed=0).mean() < flat


def test_a_condition_matters():
    """Class and vector conditions reach encoder and decoder, one image at a time; a map is refused."""
    spec = ImageSpec(1, 4, 4, 2)
    x = images(spec, 4)
    model = make(spec, condition=ConditionSpec("class", 3))
    same, other = model.bound(x, torch.tensor([0, 1, 2, 0]), seed=0), model.bound(x, torch.tensor([0, 1, 1, 0]), seed=0)
    assert torch.equal(same[[0, 1, 3]], other[[0, 1, 3]]) and same[2] != other[2]
    state = model.init(2, torch.tensor([0, 1]))
    model.look(state, x[:1].expand(2, -1, -1, -1))                        # no decoder has moved yet
    first = model.posterior(state).mean
    assert not torch.allclose(first[0], first[1])
    assert model.sample(2, condition=torch.tensor(1)).shape == (2, 1, 4, 4)
    vector = make(spec, condition=ConditionSpec("vector", 2))
    assert vector.bound(x, torch.randn(4, 2), num_samples=3, seed=0).shape == (4,)
    with pytest.raises(ValueError, match="map"):
        make(spec, condition=ConditionSpec("map", (1, 4, 4)))


def test_cross_entropy_is_no_likelihood():
    """It trains and samples, but refuses to give nats."""
    spec = ImageSpec(1, 4, 4, 17)
    model = make(spec, likelihood="cross-entropy")
    x = images(spec, 2)
    loss = model.loss(x, seed=0)
    assert loss.shape == (2,) and torch.isfinite(loss).all()
    with pytest.raises(ValueError, match="has no likelihood"):
        model.bound(x)
    with pytest.raises(ValueError, match="has no likelihood"):
        model.distribution(model.init(1))
    last = list(model.generate(2, seed=4))[-1]
    assert last.values is not None and torch.equal(last.values, torch.round(last.images * 16).long())
    assert make(ImageSpec(1, 4, 4, 2), likelihood="cross-entropy").has_likelihood


def test_presets_cut_windows_and_overrides_do_not():
    assert DRAW.preset("small", ImageSpec(1, 3, 2)).read == 3
    assert DRAW.preset("paper", ImageSpec(1, 28, 28, 2)) == DRAWConfig(steps=64, latent=100, hidden=256, read=2, write=5)
    assert DRAW.preset("paper", ImageSpec(3, 32, 32)) == DRAWConfig(steps=64, latent=200, hidden=400, read=5, write=5)
    assert DRAW.preset("svhn", ImageSpec(3, 32, 32)) == DRAWConfig(steps=32, latent=100, hidden=800, read=12, write=12)
    for row, channels in (("mnist", 1), ("cifar-10", 3)):
        assert DRAW.preset(row, ImageSpec(3, 8, 8)) == DRAW.preset("paper", ImageSpec(channels, 8, 8))
    for overrides, message in [
        ({"read": 9}, "read=9 filters do not fit an image of 3x2; at most 3, or attention=False"),
        ({"write": 4}, "write=4"),
        ({"steps": 0}, "steps: expected a whole number"),
        ({"latent": True}, "latent: expected a whole number"),
        ({"attention": 1}, "attention: expected True or False"),
        ({"likelihood": "mse"}, "mse"),
    ]:
        with pytest.raises(ValueError, match=message):
            DRAW.preset("tiny", ImageSpec(1, 3, 2), **overrides)
    with pytest.raises(ValueError, match="glimpses"):
        DRAW.preset("tiny", TOY, glimpses=3)
    with pytest.raises(ValueError, match="frames"):
        DRAW.preset("tiny", ImageSpec(1, 3, 2, frames=2))
