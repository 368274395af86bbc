"""One-shot generalization against its equations written out in float64, at the edges of sizes and of sets of exemplars."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

import rastrum
from rastrum.exemplars import exemplar_map, exemplars_in
from rastrum.layers.spatial_transformer import AffineWindow
from rastrum.models.one_shot import OneShot
from rastrum.noise import LATENT, normal
from rastrum.protocol import ConditionSpec, ImageSpec


def make(spec: ImageSpec, condition: ConditionSpec | None = None, seed: int = 0, gain: float = 0.3, **config) -> OneShot:
    torch.manual_seed(seed)
    model = OneShot(spec, OneShot.preset("tiny", spec, **config), condition).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(gain * torch.randn_like(parameter))
    return model


def images(spec: ImageSpec, count: int, seed: int = 0) -> Tensor:
    return torch.randint(spec.levels, (count, *spec.shape), generator=torch.Generator().manual_seed(seed))


def exemplars(spec: ImageSpec, batch: int, count: int, seed: int = 5) -> Tensor:
    return torch.randint(spec.levels, (batch, count, *spec.shape), generator=torch.Generator().manual_seed(seed))


# ── the equations, one image, one number at a time ───────────────────────────────────────────────────────────────────


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def linear(w: dict[str, np.ndarray], name: str, *inputs: np.ndarray) -> np.ndarray:
    return w[f"{name}.weight"] @ np.concatenate([value.ravel() for value in inputs]) + w.get(f"{name}.bias", 0.0)


def reference_affine(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A and t as written at the head of the layer."""
    scale = np.exp(3 * np.tanh(p[:2] / 3))
    rotation = np.array([[math.cos(p[3]), -math.sin(p[3])], [math.sin(p[3]), math.cos(p[3])]])
    return rotation @ np.array([[scale[0], p[2]], [0, scale[1]]]), p[4:]


def bilinear(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """Channels of an image (C, H, W) at the point (x, y) of [−1, 1]², 0 outside."""
    height, width = image.shape[1:]
    column, row = ((x + 1) * width - 1) / 2, ((y + 1) * height - 1) / 2
    total = np.zeros(len(image))
    for i, j in itertools.product((math.floor(row), math.floor(row) + 1), (math.floor(column), math.floor(column) + 1)):
        if 0 <= i < height and 0 <= j < width:
            total += (1 - abs(row - i)) * (1 - abs(column - j)) * image[:, i, j]
    return total


def centres(n: int) -> np.ndarray:
    return (2 * np.arange(n) + 1) / n - 1


def reference_read(image: np.ndarray, p: np.ndarray, side: int) -> np.ndarray:
    matrix, shift = reference_affine(p)
    out = np.zeros((len(image), side, side))
    for (i, y), (j, x) in itertools.product(enumerate(centres(side)), repeat=2):
        out[:, i, j] = bilinear(image, *(matrix @ np.array([x, y]) + shift))
    return out


def reference_write(patch: np.ndarray, p: np.ndarray, height: int, width: int) -> np.ndarray:
    matrix, shift = reference_affine(p)
    out = np.zeros((len(patch), height, width))
    for (i, y), (j, x) in itertools.product(enumerate(centres(height)), enumerate(centres(width))):
        out[:, i, j] = bilinear(patch, *(np.linalg.inv(matrix) @ (np.array([x, y]) - shift)))
    return out


def reference_convolution(w: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
    reach = weight.shape[2] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    out = np.zeros((len(weight), *x.shape[1:]))
    for i, j in itertools.product(range(x.shape[1]), range(x.shape[2])):
        out[:, i, j] = (weight * padded[None, :, i : i + 2 * reach + 1, j : j + 2 * reach + 1]).sum((1, 2, 3)) + bias
    return out


def reference_lstm(gates: np.ndarray, memory: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    o, f, i, g = np.split(gates, 4)
    memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(memory), memory


def reference_blocks(x: np.ndarray) -> np.ndarray:
    channels, height, width = x.shape
    x = np.pad(x, ((0, 0), (0, height % 2), (0, width % 2)))
    out = np.zeros((4 * channels, x.shape[1] // 2, x.shape[2] // 2))
    for c, a, b in itertools.product(range(channels), range(2), range(2)):
        out[4 * c + 2 * a + b] = x[c, a::2, b::2]
    return out


def reference_terms(model: OneShot, x: np.ndarray, noise: np.ndarray, shown: np.ndarray) -> tuple[float, list[float]]:
    """Reconstruction and KL of every stroke for one image x (C, H, W), noise (steps, latent) and exemplars shown (n, C, h, w) in [0, 1]."""
    w = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    config, spec = model.config, model.spec
    canvas, unit = w["canvas"].copy(), x / (spec.levels - 1)
    encoder, encoder_cell, decoder, decoder_cell = (row.copy() for row in w["start"])
    summaries = []
    for one in shown:
        for layer in ("summarise.0", "summarise.1"):
            one = np.maximum(reference_convolution(w, layer, reference_blocks(one)), 0)
        summaries.append(w["summary.weight"] @ one.ravel())
    kl = []
    for t in range(config.steps):
        context = np.zeros(0)
        if model.slots:
            p = linear(w, "exemplar_window", decoder)
            pairs = zip(shown, summaries, strict=True)
            seen = [np.maximum(linear(w, "exemplar_glimpse", reference_read(one, p, config.read)) + g, 0) for one, g in pairs]
            if config.combine == "mean":
                context = np.mean(seen, 0) if seen else w["no_exemplar"]
            else:
                seen = [w["no_exemplar"], *seen]
                scores = np.array([linear(w, "query", decoder) @ linear(w, "key", e) for e in seen]) / math.sqrt(config.features)
                weights = np.exp(scores) / np.exp(scores).sum()
                context = weights @ np.stack(seen)
        glimpse = reference_read(np.concatenate([unit, canvas]), linear(w, "read_window", decoder), config.read)
        seen = np.maximum(linear(w, "see", glimpse), 0)
        encoder, encoder_cell = reference_lstm(linear(w, "encoder", seen, context, decoder, encoder), encoder_cell)
        mean, log_sd = np.split(linear(w, "posterior_head", encoder), 2)
        kl.append(float((0.5 * (mean**2 + np.exp(2 * log_sd) - 1) - log_sd).sum()))
        z = mean + np.exp(log_sd) * noise[t]
        decoder, decoder_cell = reference_lstm(linear(w, "decoder", z, context, decoder), decoder_cell)
        patch = linear(w, "patch", decoder).reshape(config.canvas, config.write, config.write)
        stroke = reference_write(patch, linear(w, "write_window", decoder), spec.height, spec.width)
        if config.update == "additive":
            canvas = canvas + stroke
        else:
            u, r = np.split(sigmoid(reference_convolution(w, "gates", np.concatenate([canvas, stroke]))), 2)
            new = np.tanh(reference_convolution(w, "candidate", np.concatenate([r * canvas, stroke])))
            canvas = (1 - u) * canvas + u * new
    pixels = w["mean"] + reference_convolution(w, "output.1", np.maximum(reference_convolution(w, "output.0", canvas), 0))
    return sum(reference_log_prob(pixels, index, int(x[index]), spec) for index in np.ndindex(x.shape)), kl


def reference_log_prob(pixels: np.ndarray, index: tuple[int, ...], value: int, spec: ImageSpec) -> float:
    c, i, j = index
    if spec.levels == 2:
        return -math.log1p(math.exp(-pixels[index] if value else pixels[index]))
    mean, scale = pixels[index], math.exp(max(pixels[c + spec.channels, i, j], -7.0))
    low, high = (((2 * v - 1) / (spec.levels - 1) - 1 - mean) / scale for v in (value, value + 1))
    low, high = -math.inf if value == 0 else low, math.inf if value == spec.levels - 1 else high
    low, high = (-high, -low) if low > 0 else (low, high)                 # the tail where nothing cancels
    return math.log(1 / (1 + math.exp(-high)) - (0 if low == -math.inf else 1 / (1 + math.exp(-low))))


@pytest.mark.parametrize("config", [{}, {"update": "gru"}, {"combine": "mean"}, {"read": 1, "write": 3}], ids=str)
@pytest.mark.parametrize(("channels", "height", "width", "levels"), [(1, 5, 4, 2), (3, 3, 6, 17)])
def test_bound_follows_the_equations(config, channels, height, width, levels):
    """Reconstruction and KL of every stroke equal the equations written out value by value, without and with 0, 1 and 3 exemplars."""
    spec = ImageSpec(channels, height, width, levels)
    x, given = images(spec, 3), exemplars(spec, 3, 3)
    for slots, counts in ((0, (0, 0, 0)), (3, (0, 1, 3))):
        model = make(spec, ConditionSpec("map", (slots * channels, height, width)) if slots else None, **config)
        condition = None
        if slots:
            condition = torch.cat([exemplar_map(given[b : b + 1, :n], slots, levels) for b, n in enumerate(counts)]).double()
        reconstruction, kl = model.bound(x, condition, seed=7, terms=True, first=5)
        for b, n in enumerate(counts):
            noise = np.stack([normal(7, np.array([5 + b]), 0, model.config.latent, t, LATENT)[0] for t in range(model.steps)])
            shown = given[b, :n].float().div(levels - 1).double().numpy()
            expected, expected_kl = reference_terms(model, x[b].numpy(), noise, shown)
            assert reconstruction[b].item() == pytest.approx(expected, rel=1e-9)
            assert kl[b].tolist() == pytest.approx(expected_kl, rel=1e-9)


# ── probabilities ────────────────────────────────────────────────────────────────────────────────────────────────────


def all_images(spec: ImageSpec) -> Tensor:
    return torch.tensor(list(itertools.product(range(spec.levels), repeat=spec.size))).view(-1, *spec.shape)


def integrated(model: OneShot, condition: Tensor | None, nodes: int = 40) -> Tensor:
    """p(x) of all images by Gauss–Hermite quadrature over two strokes of one latent each."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    grid = torch.tensor(list(itertools.product(points, repeat=2)))
    weight = torch.tensor([a * b for a, b in itertools.product(weights / weights.sum(), repeat=2)])
    with torch.no_grad():
        state = model.init(len(grid), condition)
        for t in range(2):
            model.write(state, grid[:, t : t + 1])
        distribution = model.distribution(state)
        xs = all_images(model.spec)
        return torch.stack([(weight * distribution.log_prob(x.expand(len(grid), *x.shape)).flatten(1).sum(1).exp()).sum() for x in xs])


@pytest.mark.parametrize("update", ["additive", "gru"])
@pytest.mark.parametrize("count", [None, 0, 2])
def test_many_trajectories_give_the_likelihood(update, count):
    """p(x | exemplars) of all images sums to one; importance weighting reaches it, and one trajectory stays below on average."""
    spec = ImageSpec(1, 1, 3, 2)
    condition_spec = None if count is None else ConditionSpec("map", (2, 1, 3))
    model = make(spec, condition_spec, gain=0.6, steps=2, latent=1, update=update)
    with torch.no_grad():                                                 # wrong, but wide enough for weights to have a variance
        model.posterior_head.weight.mul_(0.2)
        model.posterior_head.bias.copy_(torch.tensor([0.3, 0.2]))
    condition = None if count is None else exemplar_map(exemplars(spec, 1, 2)[:, :count], 2, 2).double()
    p, xs = integrated(model, None if condition is None else condition[0]), all_images(spec)
    assert p.sum().item() == pytest.approx(1, abs=1e-6) and p.max() > 1.5 * p.min()
    given = None if condition is None else condition[0]
    with torch.no_grad():
        many = model.bound(xs, given, num_samples=4000, seed=2)
        one = model.bound(xs.repeat_interleave(100, 0), given, seed=1).view(len(xs), -1)
    assert (many - p.log()).abs().max() < 0.1 and many.exp().sum().item() == pytest.approx(1, abs=0.03)
    assert (one.mean(1) < p.log() + 4 * one.std(1) / 10).all() and (p.log() - one.mean(1)).mean() > 0.01


def test_the_last_latent_reaches_the_canvas():
    """The write comes after the LSTM has moved: each latent, the last too, has a gradient."""
    for update in ("additive", "gru"):
        model = make(ImageSpec(1, 6, 5, 2), update=update)
        z = torch.randn(model.steps, 2, model.config.latent, dtype=torch.float64, requires_grad=True)
        state = model.init(2)
        for latent in z:
            model.write(state, latent)
        model.image(state).sum().backward()
        assert z.grad is not None and (z.grad.abs().flatten(1).amax(1) > 1e-9).all()


# ── exemplars ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("combine", ["attention", "mean"])
def test_a_set_has_no_order_and_no_empty_slots(combine):
    """The bound depends neither on the order of exemplars, nor on which slots are empty, nor on how many slots there are."""
    spec = ImageSpec(1, 5, 4, 3)
    x, given = images(spec, 4), exemplars(spec, 4, 2)
    model = make(spec, ConditionSpec("map", (4, 5, 4)), combine=combine)
    bound = lambda condition: model.bound(x, condition.double(), seed=3)  # noqa: E731
    base = bound(exemplar_map(given, 4, 3))
    absent = torch.full((4, 1, 5, 4), -1.0)
    first, second = (exemplar_map(given[:, i : i + 1], 1, 3) for i in range(2))
    for order in ((second, first, absent, absent), (absent, first, absent, second), (absent, absent, second, first)):
        torch.testing.assert_close(bound(torch.cat(order, 1)), base, rtol=1e-10, atol=0)
    other = exemplar_map(exemplars(spec, 4, 2, seed=9), 4, 3)
    assert not torch.allclose(bound(other), base, rtol=1e-6)
    assert not torch.allclose(bound(first.repeat(1, 4, 1, 1)), base, rtol=1e-6)
    few = OneShot(spec, model.config, ConditionSpec("map", (2, 5, 4))).double()
    few.load_state_dict(model.state_dict())
    torch.testing.assert_close(few.bound(x, exemplar_map(given, 2, 3).double(), seed=3), base, rtol=1e-10, atol=0)


def test_no_exemplar_is_a_condition_too():
    """An empty set gives a bound, samples and gradients, and the learned vector matters."""
    spec = ImageSpec(1, 5, 4, 2)
    model, x = make(spec, ConditionSpec("map", (2, 5, 4))), images(spec, 3)
    none = exemplar_map(exemplars(spec, 3, 0), 2, 2)
    assert (none == -1).all() and not exemplars_in(none, 1)[1].any()
    before = model.bound(x, none, seed=1)
    assert rastrum.sample(model, 3, none).shape == (3, 1, 5, 4)
    before.sum().backward()
    assert model.no_exemplar.grad is not None and model.no_exemplar.grad.abs().max() > 1e-9
    with torch.no_grad():
        model.no_exemplar.add_(0.5)
    assert not torch.allclose(model.bound(x, none, seed=1), before)


def test_a_black_exemplar_is_an_exemplar():
    """A slot of the lowest level is present, one of −1 is not; colours share a slot."""
    black = exemplar_map(torch.zeros(1, 1, 3, 2, 2, dtype=torch.int64), 2)
    slots, present = exemplars_in(black, 3)
    assert black.shape == (1, 6, 2, 2) and slots.shape == (1, 2, 3, 2, 2) and present.tolist() == [[True, False]]


def test_batches_and_trajectories_change_nothing():
    spec = ImageSpec(1, 4, 5, 2)
    model, x = make(spec, ConditionSpec("map", (2, 4, 5))), images(spec, 5)
    condition = exemplar_map(exemplars(spec, 5, 1), 2, 2).double()
    for k in (1, 3):
        parts = [model.bound(x[i:j], condition[i:j], k, seed=1, first=i) for i, j in ((0, 2), (2, 5))]
        torch.testing.assert_close(torch.cat(parts), model.bound(x, condition, k, seed=1), rtol=1e-12, atol=0)
    whole = model.sample(5, condition, seed=3)
    assert torch.equal(whole, torch.cat([model.sample(2, condition[:2], seed=3), model.sample(3, condition[2:], seed=3, first=2)]))


def test_states_keep_their_exemplars():
    """After copying, selecting and repeating in the middle of a drawing, each image goes on with its own exemplars, of another size."""
    spec = ImageSpec(1, 4, 5, 2)
    model = make(spec, ConditionSpec("map", (2, 7, 3)), update="gru")
    shown = torch.randint(2, (3, 2, 1, 7, 3), generator=torch.Generator().manual_seed(0))
    condition = torch.cat([exemplar_map(shown[i : i + 1, :i], 2, 2) for i in range(3)]).double()
    z = torch.randn(3, 3, model.config.latent, dtype=torch.float64)
    with torch.no_grad():
        state = model.init(3, condition)
        model.write(state, z[0])
        order = torch.tensor([2, 0, 2])
        others = [(state.select(order), order), (state.repeat(2), torch.arange(3).repeat_interleave(2)), (state.copy(), torch.arange(3))]
        for t in (1, 2):
            model.write(state, z[t])
        for other, index in others:
            for t in (1, 2):
                model.write(other, z[t, index])
            torch.testing.assert_close(model.image(other), model.image(state)[index], rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("condition", "values"),
    [(ConditionSpec("class", 3), torch.arange(3)), (ConditionSpec("vector", 3), torch.eye(3))],
)
def test_a_class_or_a_vector_takes_the_place_of_exemplars(condition, values):
    spec = ImageSpec(1, 4, 4, 2)
    model, x = make(spec, condition), images(spec, 1).expand(3, -1, -1, -1)
    bound = model.bound(x, values, seed=0)
    assert bound.unique().numel() == 3
    torch.testing.assert_close(bound[1:2], model.bound(x[1:2], values[1:2], seed=0, first=1), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: m.bound(x), "takes up to 2 exemplars of an image: rastrum.exemplar_map makes the map"),
        (lambda m, x: rastrum.sample(m, 2), "up to 2 exemplars"),
        (lambda m, x: m.sample(2), "up to 2 exemplars"),
        (lambda m, x: list(rastrum.reconstruct(m, x)), "up to 2 exemplars"),
        (lambda m, x: m.bound(x, torch.zeros(3, 1, 4, 4)), r"expected shape \(3, 2, 4, 4\)"),
        (lambda m, x: exemplar_map(torch.zeros(1, 3, 1, 4, 4, dtype=torch.uint8), 2), "there are 2 slots, got 3"),
        (lambda m, x: exemplar_map(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), 2), r"shape \(B, n, C, h, w\)"),
        (lambda m, x: exemplar_map(torch.full((1, 1, 1, 4, 4), 2), 2, levels=2), "levels must lie in 0 … 1"),
        (lambda m, x: rastrum.build("one-shot", ImageSpec(3, 4, 4), "tiny", ConditionSpec("map", (4, 4, 4))), "a multiple of 3"),
        (lambda m, x: OneShot.preset("tiny", m.spec, read=5), "read=5 pixels does not fit an image of 4x4; at most 4"),
        (lambda m, x: OneShot.preset("tiny", m.spec, update="lstm"), "'additive' or 'gru', got 'lstm'"),
        (lambda m, x: OneShot.preset("tiny", m.spec, combine="max"), "'attention' or 'mean', got 'max'"),
        (lambda m, x: OneShot.preset("tiny", m.spec, kernel=2), "kernel: expected an odd number, got 2"),
        (lambda m, x: OneShot.preset("tiny", ImageSpec(1, 4, 4, 2, frames=2)), "frames"),
    ],
)  # fmt: skip
def test_what_is_refused(call, message):
    spec = ImageSpec(1, 4, 4, 2)
    with pytest.raises(ValueError, match=message):
        call(make(spec, ConditionSpec("map", (2, 4, 4))), images(spec, 3))


SIZES = [ImageSpec(1, 1, 1, 2), ImageSpec(1, 7, 4, 256), ImageSpec(3, 5, 8, 256), ImageSpec(3, 4, 4, 2), ImageSpec(1, 1, 9, 1024)]

# ── every size, every number of levels ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("update", ["additive", "gru"])
@pytest.mark.parametrize("spec", SIZES, ids=str)
def test_any_size(spec, update):
    """Bound, gradients, samples and frames for any size, channels and levels, with one exemplar and with none."""
    torch.manual_seed(0)
    model = OneShot(spec, OneShot.preset("tiny", spec, update=update), ConditionSpec("map", (2 * spec.channels, spec.height, spec.width)))
    x = images(spec, 3)
    model.initialise(x)
    for count in (1, 0):
        condition = exemplar_map(exemplars(spec, 3, count), 2, spec.levels)
        model.zero_grad()
        loss = model.loss(x, condition, seed=0)
        loss.sum().backward()
        for name, parameter in model.named_parameters():
            unused = count == 0 and name.startswith(("summar", "exemplar_"))
            assert unused or (parameter.grad is not None and torch.isfinite(parameter.grad).all()), name
        drawn = model.sample(2, condition[:2], seed=1)
        assert drawn.shape == (2, *spec.shape) and drawn.min() >= 0 and drawn.max() < spec.levels
        for frame in list(model.reconstruct(x, condition))[1:]:
            assert frame.info["read_window"].shape == frame.info["write_window"].shape == (3, 4)
            assert frame.images.min() >= 0 and frame.images.max() <= 1


def test_zero_parameters_are_the_whole_image():
    """The identity reads every pixel where it is, also of images that are not square; write undoes read."""
    image = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    window = AffineWindow.of(torch.zeros(2, 6, dtype=torch.float64))
    torch.testing.assert_close(window.read(image, 5), image, rtol=0, atol=1e-12)
    torch.testing.assert_close(window.write(image, 5, 5), image, rtol=0, atol=1e-12)
    assert window.box(5, 9).tolist() == [[2.0, 4.0, 5.0, 9.0]] * 2
    half = AffineWindow.of(torch.tensor([[3 * math.atanh(math.log(0.5) / 3)] * 2 + [0, 0, -0.5, -0.5]], dtype=torch.float64))
    corner = half.read(image[:1, :, :4, :4], 2)
    torch.testing.assert_close(corner, image[:1, :, :2, :2], rtol=0, atol=1e-12)
    assert half.box(4, 4)[0].tolist() == pytest.approx([0.5, 0.5, 2, 2])


def test_window_gradients():
    """Read and write in float64 against finite differences, at windows away from the kinks of bilinear interpolation."""
    torch.manual_seed(0)
    parameters = (0.3 * torch.randn(2, 6, dtype=torch.float64)).requires_grad_()
    image = torch.randn(2, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    patch = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p, i: AffineWindow.of(p).read(i, 3), (parameters, image))
    assert torch.autograd.gradcheck(lambda p, w: AffineWindow.of(p).write(w, 4, 6), (parameters, patch))


def test_extreme_windows_stay_finite():
    """Any parameters give an invertible map and finite gradients."""
    for value in (-1e3, -5.0, 5.0, 1e3):
        parameters = torch.full((1, 6), value, requires_grad=True)
        window = AffineWindow.of(parameters)
        (window.read(torch.randn(1, 1, 9, 9), 4).sum() + window.write(torch.randn(1, 1, 4, 4), 9, 9).sum()).backward()
        assert parameters.grad is not None and torch.isfinite(parameters.grad).all()
