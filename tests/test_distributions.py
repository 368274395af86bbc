"""Distributions against float64 references and exhaustive sums, and the integer CDF at every level, extreme parameters included."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor

from rastrum.distributions import Bernoulli, Categorical, GaussianMixture, LogisticMixture, lowest_log_scale
from rastrum.protocol import Distribution

TOTAL = 1 << 24
LEVELS = [2, 3, 5, 16, 17, 64, 100, 255, 256]
DTYPES = [torch.float32, torch.float64]
Make = Callable[..., Any]


def randn(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


Shape = tuple[int, ...]


def bernoulli(shape: Shape = (5,), levels: int = 2, dtype: torch.dtype = torch.float64, seed: int = 0, spread: float = 3) -> Bernoulli:
    return Bernoulli(spread * randn(*shape, dtype=dtype, seed=seed))


def categorical(
    shape: Shape = (5,), levels: int = 256, dtype: torch.dtype = torch.float64, seed: int = 0, spread: float = 3
) -> Categorical:
    return Categorical(spread * randn(*shape, levels, dtype=dtype, seed=seed))


def mixture(
    shape: Shape = (5,), levels: int = 256, dtype: torch.dtype = torch.float64, seed: int = 0, spread: float = 1, components: int = 4
) -> LogisticMixture:
    logits, means, log_scales = (randn(*shape, components, dtype=dtype, seed=seed + i) for i in range(3))
    return LogisticMixture(logits, 0.7 * spread * means, 2 * spread * log_scales - 3, levels)


def gaussians(
    shape: Shape = (5,), levels: int = 256, dtype: torch.dtype = torch.float64, seed: int = 0, spread: float = 1, components: int = 4
) -> GaussianMixture:
    d = mixture(shape, levels, dtype, seed, spread, components)
    return GaussianMixture(d.logits, d.means, d.log_scales, levels)


MAKERS = [bernoulli, categorical, mixture, gaussians]


def change(distribution: Distribution, move: Callable[[Tensor], Tensor]) -> Any:
    """The distribution with each parameter tensor moved."""
    fields = [(field.name, getattr(distribution, field.name)) for field in dataclasses.fields(distribution)]  # pyright: ignore[reportArgumentType]
    return type(distribution)(**{name: move(value) if isinstance(value, Tensor) else value for name, value in fields})


def each_level(distribution: Distribution, extra: int = 0) -> tuple[Any, Tensor]:
    """The same distribution at every level 0 … L − 1 + extra: batch shape (*S, L + extra)."""
    n = distribution.levels + extra
    whole = distribution[..., None]
    tail = 0 if isinstance(distribution, Bernoulli) else 1
    whole = change(whole, lambda p: p.expand(*p.shape[: p.dim() - 1 - tail], n, *p.shape[p.dim() - tail :]))
    return whole, torch.arange(n).expand(whole.logits.shape[: whole.logits.dim() - tail])


def table(distribution: Distribution) -> Tensor:
    """The integer CDF at 0 … L → (*S, L + 1)."""
    whole, value = each_level(distribution, 1)
    return whole.cdf(value)


def reference_mixture(d: LogisticMixture) -> np.ndarray:
    """log pmf (*S, L) in float64 from the definition on [−1, 1], through log1mexp with subtracted edges; numpy only."""
    logits, means, log_scales = (np.asarray(p.double())[..., None, :] for p in (d.logits, d.means, d.log_scales))
    log_scales = np.maximum(log_scales, lowest_log_scale(d.levels))
    x = np.linspace(-1, 1, d.levels)[:, None]
    half = 1 / (d.levels - 1)
    high, low = (x + half - means) / np.exp(log_scales), (x - half - means) / np.exp(log_scales)
    log_sigmoid = lambda z: -np.logaddexp(0, -z)                                                # noqa: E731
    inside = np.logaddexp(log_sigmoid(high) + np.log(-np.expm1(-(high - low))) + log_sigmoid(-low), -np.inf)
    inside[..., 0, :], inside[..., -1, :] = log_sigmoid(high)[..., 0, :], log_sigmoid(-low)[..., -1, :]
    weights = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
    return np.logaddexp.reduce(weights + inside, -1)


# ── log_prob and log_pmf ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("levels", [*LEVELS, 65536])
def test_pmf_sums_to_one(levels: int, dtype: torch.dtype) -> None:
    """Every distribution, for every number of levels, sharp and flat, in both precisions."""
    tolerance = 2e-5 if dtype == torch.float32 else 1e-12
    made: list[Distribution] = [categorical((3,), levels, dtype), bernoulli((3,), 2, dtype)]
    made.extend(make((3,), levels, dtype, spread=s) for make in (mixture, gaussians) for s in (0.1, 1, 3))
    for distribution in made:
        sums = distribution.log_pmf().double().exp().sum(-1)
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (4,), (2, 3), (2, 0, 3), (2, 1, 3, 2)])
def test_any_batch_shape(make: Make, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Shapes and types of every result, including an empty batch and a single value; log_prob is log_pmf at the value."""
    d = make(shape, 7, dtype)
    value = torch.randint(0, d.levels, shape, generator=torch.Generator().manual_seed(1))
    pmf = d.log_pmf()
    assert pmf.shape == (*shape, d.levels) and pmf.dtype == dtype
    assert d.log_prob(value).shape == shape and d.log_prob(value).dtype == dtype
    torch.testing.assert_close(d.log_prob(value), pmf.gather(-1, value[..., None])[..., 0])
    torch.testing.assert_close(d.log_prob(value.to(torch.uint8)), d.log_prob(value))
    u = torch.rand(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for drawn in (d.sample(u), d.sample(u, 0.5), d.search((u * TOTAL).long())):
        assert drawn.shape == shape and drawn.dtype == torch.int64 and bool(((drawn >= 0) & (drawn < d.levels)).all())
    low, high = d.cdf(value), d.cdf(value + 1)
    assert low.shape == shape and low.dtype == torch.int64 and bool((low < high).all())


def test_bernoulli_and_categorical_against_their_definition() -> None:
    logits = np.array([-800.0, -30, -1, 0, 2, 40, 900])
    p = np.stack([-np.logaddexp(0, logits), -np.logaddexp(0, -logits)], -1)
    np.testing.assert_allclose(Bernoulli(torch.tensor(logits)).log_pmf(), p, rtol=1e-14)
    d = categorical((6,), 9, spread=40)
    expected = d.logits.numpy() - np.logaddexp.reduce(d.logits.numpy(), -1, keepdims=True)
    np.testing.assert_allclose(d.log_pmf(), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("levels", [2, 3, 17, 256, 4096])
@pytest.mark.parametrize("spread", [0.2, 1, 3])
def test_mixture_against_the_definition(levels: int, spread: float) -> None:
    """Float64 up to rounding, and float32 near it even for a probability of 1e-300, where differences of sigmoids would be 0.

    Above 256 levels a float32 mean is known to 1e-4 of a bin, and the sharpest scales magnify that.
    """
    d = mixture((8,), levels, spread=spread)
    expected = torch.from_numpy(reference_mixture(d))
    torch.testing.assert_close(d.log_pmf(), expected, rtol=1e-9, atol=1e-9)
    single = LogisticMixture(d.logits.float(), d.means.float(), d.log_scales.float(), levels)
    tolerance = 2e-5 if levels <= 256 else 2e-3
    torch.testing.assert_close(single.log_pmf().double(), torch.from_numpy(reference_mixture(single)), rtol=tolerance, atol=tolerance)


def reference_gaussians(d: GaussianMixture) -> Tensor:
    """log pmf (*S, L) from the definition on [−1, 1] with 60 digits: differences of Φ, in the lower tail by symmetry."""

    def mass(low: Any, high: Any) -> Any:
        return mpmath.ncdf(-low) - mpmath.ncdf(-high) if low + high > 0 else mpmath.ncdf(high) - mpmath.ncdf(low)

    with mpmath.workdps(60):
        half, exact = mpmath.mpf(1) / (d.levels - 1), lambda x: mpmath.mpf(float(x))
        rows = []
        for logits, means, log_scales in zip(*(p.double().flatten(0, -2) for p in (d.logits, d.means, d.log_scales)), strict=True):
            weights = [mpmath.exp(exact(logit)) for logit in logits]
            row = [mpmath.mpf(0)] * d.levels
            for weight, mean, log_scale in zip(weights, means, log_scales, strict=True):
                scale = mpmath.exp(max(exact(log_scale), lowest_log_scale(d.levels)))
                edges = [-mpmath.inf, *((2 * i * half - 1 - half - exact(mean)) / scale for i in range(1, d.levels)), mpmath.inf]
                row = [sum_ + weight * mass(a, b) for sum_, a, b in zip(row, edges[:-1], edges[1:], strict=True)]
            rows.append([float(mpmath.log(sum_ / sum(weights))) for sum_ in row])
    return torch.tensor(rows, dtype=torch.float64).view(*d.logits.shape[:-1], d.levels)


@pytest.mark.parametrize("levels", [2, 3, 17, 90])
@pytest.mark.parametrize("spread", [0.2, 1, 2])
def test_gaussians_against_the_definition(levels: int, spread: float) -> None:
    """Float64 to rounding and float32 near it, down to probabilities of e^−1000 and less, in both tails, bins narrow and wide."""
    d = gaussians((2,), levels, spread=spread, components=2)
    torch.testing.assert_close(d.log_pmf(), reference_gaussians(d), rtol=1e-10, atol=1e-10)
    single = GaussianMixture(d.logits.float(), d.means.float(), d.log_scales.float(), levels)
    torch.testing.assert_close(single.log_pmf().double(), reference_gaussians(single), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_mass_between_two_edges(dtype: torch.dtype) -> None:
    """One component over a grid of positions and widths that covers every change of formula, compared with 60 digits."""
    levels, tolerance = 65536, 1e-11 if dtype == torch.float64 else 2e-6
    half = (levels - 1) / 2
    for width in (1e-5, 1e-3, 0.05, 0.2, 0.49, 0.51, 1.0, 3.0, 11.0):
        for distance in (0.0, 1e-3, 0.3, 0.6, 1.0, 2.5, 7.0, 20.0):
            value = round(half)
            mean = torch.tensor([(value - distance / width) / half - 1], dtype=dtype)
            log_scale = torch.tensor([-math.log(half * width)], dtype=dtype)
            d = GaussianMixture(torch.zeros(1, dtype=dtype), mean, log_scale, levels)
            centre, steepness = (float(x) for x in d._bins())
            with mpmath.workdps(60):
                steps = (value - mpmath.mpf(centre)) * mpmath.mpf(steepness)
                sign = -1 if steps > 0 else 1                            # into the lower tail, where values are not near one
                edges = [sign * steps - mpmath.mpf(steepness) / 2, sign * steps + mpmath.mpf(steepness) / 2]
                expected = float(mpmath.log(mpmath.ncdf(edges[1]) - mpmath.ncdf(edges[0])))
            assert abs(float(d.log_prob(torch.tensor(value))) - expected) < tolerance * max(1.0, abs(expected)), (width, distance)


def test_density_integrates_to_the_levels_probabilities() -> None:
    """log_density integrates to 1, over a level's bin to its probability, and is the sum of normal densities."""
    d = gaussians((), 9)
    edges = torch.arange(-1.0, 1.01, 0.25, dtype=torch.float64)[:-1] + 0.125
    grid = torch.linspace(-40, 40, 2_000_001, dtype=torch.float64)
    density = GaussianMixture(*(p.expand(len(grid), -1) for p in (d.logits, d.means, d.log_scales)), levels=9).log_density(grid).exp()
    mass = torch.cumulative_trapezoid(density, grid)
    assert abs(float(mass[-1]) - 1) < 1e-9
    below = torch.from_numpy(np.interp(edges, grid[1:], mass))
    torch.testing.assert_close(torch.diff(below, prepend=torch.zeros(1), append=mass[-1:]), d.log_pmf().exp(), rtol=0, atol=1e-8)
    normal = torch.distributions.Normal(d.means, d.log_scales.clamp(min=-7).exp())
    expected = torch.logsumexp(d.logits.log_softmax(-1) + normal.log_prob(torch.tensor(0.3, dtype=torch.float64)), -1)
    torch.testing.assert_close(d.log_density(torch.tensor(0.3, dtype=torch.float64)), expected)


def test_half_bin_edges_and_the_clamp() -> None:
    """One component: level i takes σ((x + h − μ)/s) − σ((x − h − μ)/s), h = 1/(L − 1); the ends take the tails; scales stop at e^−7."""
    sigmoid = lambda z: 1 / (1 + math.exp(-z))                                                  # noqa: E731
    d = LogisticMixture(*torch.tensor([[0.0], [0.2], [-1.5]], dtype=torch.float64), levels=5)
    s, h = math.exp(-1.5), 1 / 4
    edges = [0.0, *(sigmoid((x + h - 0.2) / s) for x in (-1, -0.5, 0, 0.5)), 1.0]
    np.testing.assert_allclose(d.log_pmf().exp(), np.diff(edges), rtol=1e-13)
    assert lowest_log_scale(2) == lowest_log_scale(256) == -7
    assert lowest_log_scale(65536) == -7 - math.log(65535 / 255)
    for levels in (16, 256, 65536):
        lowest = torch.full((1,), lowest_log_scale(levels), dtype=torch.float64)
        at, below = (LogisticMixture(d.logits, d.means, log_scales, levels) for log_scales in (lowest, lowest - 30))
        value = torch.tensor(levels // 2)
        assert at.log_prob(value) == below.log_prob(value) and at.cdf(value) == below.cdf(value)


def test_components_chain_into_a_joint() -> None:
    """Weights ∝ π_k p(first | k) make the second value's mixture the conditional of one component serving both: exhaustive over 6 x 6."""
    first = mixture((), 6)
    second = mixture((), 6, seed=9)
    a, b = torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij")
    expand = lambda p: p.expand(6, 6, -1)                                                       # noqa: E731
    logits = first.logits.log_softmax(-1)
    one = LogisticMixture(expand(logits), expand(first.means), expand(first.log_scales), 6)
    each = one.component_log_prob(a)
    two = LogisticMixture(one.logits + each, expand(second.means), expand(second.log_scales), 6)
    joint = torch.logsumexp(one.logits + each + two.component_log_prob(b), -1)
    torch.testing.assert_close(one.log_prob(a) + two.log_prob(b), joint, rtol=1e-12, atol=1e-12)
    assert abs(float(joint.exp().sum()) - 1) < 1e-12


@pytest.mark.parametrize("levels", [2, 256, 65536])
def test_gradients_are_finite_at_extremes(levels: int) -> None:
    """Float32, scales from far below the clamp to e^100, means far outside, logits far apart: no NaN, and no value of zero probability."""
    log_scales = torch.tensor([-100.0, -20, -7, -3, 0, 5, 20, 60, 100])
    means = torch.tensor([-1000.0, -3, -1, -1e-8, 0, 0.3, 1, 1e4])
    s, m = (p.reshape(-1, 1).contiguous() for p in torch.meshgrid(log_scales, means, indexing="ij"))
    logits = torch.tensor([0.0, -60]).expand(len(s), 2)
    parameters = [p.clone().requires_grad_() for p in (logits, torch.cat([m, -m], 1), torch.cat([s, s.flip(0)], 1))]
    for kind in (LogisticMixture, GaussianMixture):
        for value in (0, 1, levels // 2, levels - 1):
            nats = kind(*parameters, levels=levels).log_prob(torch.full((len(s),), value))
            assert bool(nats.isfinite().all()) and bool((nats <= 1e-6).all())
            for gradient in torch.autograd.grad(nats.sum(), parameters):
                assert bool(gradient.isfinite().all())
    wide = [(10.0 ** torch.arange(-30, 31)).requires_grad_(), -(10.0 ** torch.arange(-30, 31)).requires_grad_()]
    for logit in wide:
        for nats in (Bernoulli(logit).log_prob(torch.arange(61) % 2), Categorical(torch.stack([logit, -logit, 0 * logit], -1)).log_pmf()):
            assert bool(nats.isfinite().all()) and bool(torch.autograd.grad(nats.sum(), logit)[0].isfinite().all())


def test_gradients_are_right() -> None:
    for d in (bernoulli((3,)), categorical((3,), 5)):
        value = torch.arange(3) % d.levels
        assert torch.autograd.gradcheck(lambda logits, d=d, value=value: type(d)(logits).log_prob(value), d.logits.requires_grad_())
    for kind, levels, spread in ((LogisticMixture, 9, 1), (GaussianMixture, 9, 1), (GaussianMixture, 9, 0.3), (GaussianMixture, 2000, 0.5)):
        m = mixture((4,), levels, spread=spread)
        value = torch.tensor([0, levels // 3, levels - 1, levels // 2])
        parameters = [p.requires_grad_() for p in (m.logits, m.means, m.log_scales)]
        assert torch.autograd.gradcheck(lambda *p, kind=kind, n=levels, v=value: kind(*p, levels=n).log_prob(v), parameters)


# ── the integer CDF ──────────────────────────────────────────────────────────────────────────────────────────────────


def check_cdf(distribution: Distribution) -> None:
    """0, strictly increasing, 2^24; search is its inverse at every edge, just below it and at random thresholds."""
    edges = table(distribution)
    assert bool((edges[..., 0] == 0).all()) and bool((edges[..., -1] == TOTAL).all())
    assert int(edges.diff(dim=-1).min()) >= 1
    whole, value = each_level(distribution)
    inside = edges[..., :-1] + ((edges.diff(dim=-1) - 1) * torch.rand(value.shape, generator=torch.Generator().manual_seed(3))).long()
    for threshold in (edges[..., :-1], edges[..., 1:] - 1, inside):
        assert torch.equal(whole.search(threshold), value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("levels", LEVELS)
def test_cdf_increases_and_search_inverts_it(levels: int, dtype: torch.dtype) -> None:
    """Every level of every distribution, from flat to certain; the scales reach below the clamp and the means far outside."""
    for spread in (0.01, 1, 5, 100, 1e8):
        check_cdf(categorical((3,), levels, dtype, spread=spread))
        check_cdf(bernoulli((7,), 2, dtype, spread=spread))
    for spread in (0.01, 1, 3, 30, 1e6):
        for components in (1, 10):
            for make in (mixture, gaussians):
                check_cdf(make((3,), levels, dtype, spread=spread, components=components))
    for distance in (20, 1000):                                          # all mass in one tail
        for sign in (-1, 1):
            d = mixture((3,), levels, dtype)
            for kind in (LogisticMixture, GaussianMixture):
                check_cdf(kind(d.logits, d.means + sign * distance, d.log_scales, levels))


def test_cdf_of_many_levels() -> None:
    """65,536 levels, where a level has 256 counts on average, and a mixture's search takes four digits; 300 needs a clamped digit."""
    for spread, make in ((0.1, mixture), (1, mixture), (3, mixture), (1, gaussians)):
        check_cdf(make((), 65536, spread=spread, components=2))
        check_cdf(make((), 300, spread=spread))
    d = categorical((), 65536)
    edges = (torch.arange(65537) + torch.nn.functional.pad(d._sums, (1, 0)) * (TOTAL - 65536) // d._sums[-1]).tolist()
    for level in (0, 1, 77, 40_000, 65_535):
        low, high = (int(d.cdf(torch.tensor(level + i))) for i in (0, 1))
        assert (low, high) == (edges[level], edges[level + 1]) and low < high
        assert int(d.search(torch.tensor(low))) == int(d.search(torch.tensor(high - 1))) == level


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_cdf_is_the_stated_arithmetic(levels: int) -> None:
    """The formulas of the docstring in Python integers, one level at a time."""
    d = categorical((), levels, torch.float32)
    exps = [math.floor(float(e) * 2**30) for e in (d.logits - d.logits.max()).exp()]
    c = [0, *np.cumsum(exps).tolist()]
    assert table(d).tolist() == [i + c[i] * (TOTAL - levels) // c[-1] for i in range(levels + 1)]
    m = mixture((), levels)
    pi, mu, s = (np.asarray(p) for p in (m.logits.softmax(-1), m.means, m.log_scales.clamp(min=-7).exp()))
    normal = table(GaussianMixture(m.logits, m.means, m.log_scales, levels)).tolist()
    for i, seen in enumerate(table(m).tolist()):
        edge = {0: -np.inf, levels: np.inf}.get(i, (2 * i - 1) / (levels - 1) - 1)
        below = float((pi / (1 + np.exp(np.minimum((mu - edge) / s, 700)))).sum())
        assert abs(seen - (2 * i + math.floor(below * (TOTAL - 2 * levels)))) <= 1               # a rounding of exp may move it by one
        below = sum(p * 0.5 * math.erfc(z) for p, z in zip(pi, (mu - edge) / s / math.sqrt(2), strict=True))
        assert abs(normal[i] - (2 * i + math.floor(below * (TOTAL - 2 * levels)))) <= 1
    b = bernoulli((), 2, torch.float32)
    assert torch.equal(table(b), table(Categorical(torch.stack([torch.zeros(()), b.logits]))))


@pytest.mark.parametrize("make", MAKERS)
def test_results_do_not_depend_on_batch_or_layout(make: Make) -> None:
    """cdf and search of one value equal those in any batch and memory layout: a file must be read with the same values with which it was
    written."""
    d = make((7, 5, 3), 256, torch.float32)
    value = torch.randint(0, d.levels, (7, 5, 3), generator=torch.Generator().manual_seed(1))
    threshold = torch.randint(0, TOTAL, (7, 5, 3), generator=torch.Generator().manual_seed(2))
    cdf, found, edges = d.cdf(value), d.search(threshold), table(d)
    assert torch.equal(edges.gather(-1, value[..., None])[..., 0], cdf)
    assert torch.equal(torch.searchsorted(edges, threshold[..., None], right=True)[..., 0] - 1, found)
    turned = change(d, lambda p: p.transpose(0, 2))
    assert torch.equal(turned.cdf(value.transpose(0, 2)), cdf.transpose(0, 2))
    assert torch.equal(turned.search(threshold.transpose(0, 2)), found.transpose(0, 2))
    for i in range(7):
        for j in range(5):
            one = d[i, j, 1:2]
            assert torch.equal(one.cdf(value[i, j, 1:2]), cdf[i, j, 1:2])
            assert torch.equal(one.search(threshold[i, j, 1:2]), found[i, j, 1:2])


def test_exp_and_erfc_do_not_depend_on_the_position() -> None:
    """The integer CDF relies on this: torch's exp and erfc give the same bits at any position in a tensor (its sigmoid does not)."""
    for dtype in DTYPES:
        random = torch.rand(3000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
        for x, f in ((-30 * random, torch.exp), (14 * random - 7, torch.special.erfc)):
            whole = f(x)
            assert torch.equal(whole, torch.stack([f(v) for v in x]))
            assert torch.equal(whole, torch.cat([f(x[i : i + 3]) for i in range(0, 3000, 3)]))
            assert torch.equal(whole, f(torch.stack([x, x], 1)[:, 1]))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_code_length_from_the_integer_cdf(make: Make, levels: int) -> None:
    """Coding with the integer CDF costs at most L/2^22 bits more than −log2 p on average, and never above 24 bits per value."""
    d = make((50,), levels)
    probability = d.log_pmf().exp()
    bits = -(table(d).diff(dim=-1).double() / TOTAL).log2()
    excess = (probability * (bits + d.log_pmf() / math.log(2))).sum(-1)
    assert float(excess.min()) > -1e-12 and float(excess.max()) < d.levels * 2**-22
    assert float(bits.max()) <= 24


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("make", MAKERS)
def test_draws_cover_the_unit_interval_exactly(make: Make, temperature: float) -> None:
    """An even grid of u gives each level its share of pmf^(1/T), renormalised over levels, to one grid step: no sampling error."""
    d, n = make((), 12), 1 << 15
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    many = d[None][torch.zeros(n, dtype=torch.int64)]
    shares = torch.bincount(many.sample(u, temperature), minlength=d.levels) / n
    expected = (d.log_pmf() / temperature).softmax(-1)
    torch.testing.assert_close(shares.double(), expected, rtol=0, atol=1.5 / n)
    assert torch.equal(many.sample(u), many.search((u * TOTAL).long()))


def test_random_draws_follow_the_pmf() -> None:
    """Pearson's chi-square of 40,000 draws with random u."""
    for d in (bernoulli(()), categorical((), 30), mixture((), 30), gaussians((), 30)):
        n = 40_000
        u = torch.rand(n, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        counts = torch.bincount(d[None][torch.zeros(n, dtype=torch.int64)].sample(u), minlength=d.levels).double()
        expected = n * d.log_pmf().exp()
        common = expected >= 5
        seen, wanted = (torch.cat([x[common], x[~common].sum()[None]]) for x in (counts, expected))
        statistic = float(((seen - wanted).square() / wanted.clamp(min=1e-9))[wanted > 1e-9].sum())
        assert statistic < len(seen) + 5 * math.sqrt(2 * len(seen))


@pytest.mark.parametrize("make", MAKERS)
def test_extreme_temperatures(make: Make) -> None:
    """Near zero the most likely level, whatever u; very high nearly even; 65,536 tempered levels stay inside 64-bit integers."""
    d = make((20,), 30)
    u = torch.rand(20, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    u = u.clamp(0.001, 0.999)
    for temperature in (1e-4, 1e-30, 1e-300):
        assert torch.equal(d.sample(u, temperature), d.log_pmf().argmax(-1))
    assert torch.equal(d.sample(u, 1e9), (u * d.levels).long())
    wide = mixture((2,), 65536)
    assert int((wide.sample(u[:2], 1e9) - (u[:2] * 65536).long()).abs().max()) <= 1


# ── bad input, indexing ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
def test_temperature_must_be_above_zero(temperature: float) -> None:
    for make in MAKERS:
        with pytest.raises(ValueError, match="temperature"):
            make().sample(torch.full((5,), 0.5), temperature)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_parameters_are_refused(bad: float, dtype: torch.dtype) -> None:
    """Converting them to integers is undefined: without this check a diverged model would write a file that cannot be read."""
    cases: list[Distribution] = [bernoulli(dtype=dtype), categorical(dtype=dtype)]
    for d in cases:
        d.logits[(3,) * d.logits.dim()] = bad  # pyright: ignore[reportAttributeAccessIssue]
    for name in ("logits", "means", "log_scales"):
        for make in (mixture, gaussians):
            cases.append(make(dtype=dtype))
            getattr(cases[-1], name)[3, 2] = bad
    value = torch.zeros(5, dtype=torch.int64)
    for d in cases:
        for ask in (d.cdf, d.search, lambda v, d=d: d.sample(v.double())):
            with pytest.raises(ValueError, match="the model produced non-finite values"):
                ask(value)


@pytest.mark.parametrize("make", MAKERS)
def test_indexing_is_of_the_batch(make: Make) -> None:
    """Integers, slices, masks, index tensors, None and … never reach the levels or components."""
    d = make((4, 3, 2), 6)
    pmf = d.log_pmf()
    mask = torch.arange(4) % 2 == 0
    several = torch.tensor([3, 0, 0])
    for index in (1, slice(1, 3), mask, several, None, ..., (..., 1), (2, ..., 0), (slice(None), 1), (1, 2, 0), (mask, 0), (..., None)):
        where = index if isinstance(index, tuple) else (index,)
        expected = pmf[(*where, slice(None))] if any(i is Ellipsis for i in where) else pmf[index]
        assert torch.equal(d[index].log_pmf(), expected), index
        assert d[index].levels == d.levels
    with pytest.raises(IndexError):
        d[0, 0, 0, 0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("make", MAKERS)
def test_draws_inside_and_outside_autograd(make: Make) -> None:
    """The tables kept between calls serve inference mode and autograd alike, in either order, without a warning."""
    u = torch.rand(5, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    with torch.inference_mode():
        first = make(levels=23).sample(u)
    d = change(make(levels=23), lambda p: p.clone().requires_grad_())
    assert torch.equal(d.sample(u), first)
    d.sample(u, 0.5)
    d.log_prob(first.clone()).sum().backward()
    assert bool(d.logits.grad.isfinite().all())


def test_compiled_log_prob_equals_log_softmax() -> None:
    """Forward and backward, float32 compared with float64, for large logits too, and for logits that are not contiguous."""
    torch.manual_seed(0)
    logits = (torch.randn(3, 4, 2, 37) * torch.tensor([0.1, 3.0, 40.0, 1.0])[:, None, None]).permute(0, 2, 1, 3).requires_grad_()
    value = torch.randint(37, (3, 2, 4))
    found, wanted = Categorical(logits).log_prob(value), Categorical(logits.double()).log_prob(value)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-5)
    direction = torch.randn(3, 2, 4)
    (a,), (b,) = torch.autograd.grad(found, logits, direction), torch.autograd.grad(wanted, logits, direction.double())
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
