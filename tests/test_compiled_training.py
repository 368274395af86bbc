"""Compiled forms of what training computes, against float64 and autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import rastrum
from rastrum import ImageSpec
from rastrum.distributions import GaussianMixture, LogisticMixture, gaussian_log_density, lowest_log_scale
from rastrum.layers.causal import BEFORE, CausalConvolution, convolve_dense, glu
from rastrum.layers.convolutional import Convolution
from rastrum.layers.dense import Repeated
from rastrum.layers.frames import FrameConvolution
from rastrum.layers.lstm import cell
from rastrum.models.pixelcnn_plus_plus import PixelCNNPlusPlus
from rastrum.native.convolution import Convolved
from rastrum.native.mixture import PixelLogProb
from rastrum.native.noise import philox_words
from rastrum.native.panels import aligned
from rastrum.native.products import pack, product
from rastrum.noise import TRAINING, words
from rastrum.training_noise import Dropout, drawing


def compare(found: Tensor, exact: Tensor, inputs: list[Tensor], exact_inputs: list[Tensor], tolerance: float = 1e-4) -> None:
    """Values and gradients in a random direction, relative to the largest."""
    direction = torch.randn(found.shape)
    gradients = torch.autograd.grad(found, inputs, direction)
    wanted = torch.autograd.grad(exact, exact_inputs, direction.double())
    for a, b in zip((found, *gradients), (exact, *wanted), strict=True):
        assert (a.double() - b.double()).abs().max() <= tolerance * (1 + b.abs().max()), a.shape


def both(*shape: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(*shape)
    return x.requires_grad_(), x.double().detach().requires_grad_()


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 3), (25, 16, 4), (31, 17, 9), (23, 112, 20), (13, 176, 8)])
def test_products_with_all_steps(shape: tuple[int, int, int]) -> None:
    """Rows of a wider matrix, overlapping rows, C that is D, and columns that fill no panel, whose neighbours stay as they are."""
    rows, columns, depth = shape
    rng = np.random.default_rng(0)
    b = rng.normal(size=(depth, columns)).astype(np.float32)
    packed = np.empty(depth * aligned(columns), np.float32)
    pack(b, 0, depth, packed)
    line = rng.normal(size=rows - 1 + depth).astype(np.float32)          # row m is line[m : m + depth]
    c = rng.normal(size=(rows, columns + 2)).astype(np.float32)
    expected = c.astype(np.float64)
    expected[:, 1:-1] += np.lib.stride_tricks.sliding_window_view(line.astype(np.float64), depth) @ b
    at, step = c.ctypes.data + 4, 4 * (columns + 2)
    product(rows, columns, line.ctypes.data, 4, 0, 4, 1, depth, packed.ctypes.data, 0, 0, at, step, at, step)
    np.testing.assert_allclose(c, expected, atol=2e-5)


def test_a_product_gives_an_element_the_same_bits_at_every_place() -> None:
    """In tiles of any number of rows: else a pixel's distribution would depend on where it lies."""
    a, b = np.tile(np.random.default_rng(0).normal(size=(1, 37)), (31, 1)).astype(np.float32), np.ones((37, 1)) * np.arange(1, 38)[:, None]
    b = np.ascontiguousarray(np.repeat(b / 7, 112, 1), np.float32)
    packed, bias, c = np.empty(b.size, np.float32), np.zeros(112, np.float32), np.empty((31, 112), np.float32)
    pack(b, 0, 37, packed)
    product(31, 112, a.ctypes.data, 148, 0, 4, 1, 37, packed.ctypes.data, 0, 0, bias.ctypes.data, 0, c.ctypes.data, 448)
    assert len(np.unique(c)) == 1


@pytest.mark.parametrize("before", ["", "relu", "concat_elu"])
@pytest.mark.parametrize("layer", ["frame", "point"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_what_stands_before_a_convolution(before: str, layer: str, dropout: float) -> None:
    """Two sources side by side, a nonlinearity of each, dropout of the whole, and the convolution."""
    torch.manual_seed(0)
    pairs = [both(2, 5, 7, n) for n in (3, 18)]
    channels = 21 * (2 if before == "concat_elu" else 1)
    convolution = CausalConvolution(channels, 20, centre="through")
    if layer == "frame":
        convolution = CausalConvolution(channels, 20, above=1, columns=(-1, 1), left=1, centre="through")
    drop = Dropout(dropout).train()
    with drawing(3, np.arange(2)):
        found = convolution([x for x, _ in pairs], before=before, dropout=drop)
    seen = torch.cat([BEFORE[before](x) if before else x for _, x in pairs], -1)
    with drawing(3, np.arange(2)):
        seen = drop(seen)
    assert convolution.bias is not None
    parameters = [*convolution.weights, convolution.bias]
    exact = [p.detach().double().requires_grad_() for p in parameters]
    wanted = convolve_dense(seen, convolution.taps, exact[:-1], exact[-1], 20)
    compare(found, wanted, [*(x for x, _ in pairs), *parameters], [*(x for _, x in pairs), *exact])
    assert type(found.grad_fn).__name__ == f"{Convolved.__name__}Backward", "the compiled form was not used"


@pytest.mark.parametrize("kernel, dilation", [(1, 1), (3, 1), (3, 4)])
def test_frames(kernel: int, dilation: int) -> None:
    """Kernels that see rows below, columns to the right, and positions apart, larger than the frame too."""
    torch.manual_seed(0)
    layer, (x, exact_x), (start, exact_start) = FrameConvolution(5, 6, kernel, dilation), both(2, 3, 4, 6, 5), both(2, 3, 4, 6, 6)
    assert layer.bias is not None
    weight, bias = exact = [p.detach().double().requires_grad_() for p in (layer.weight, layer.bias)]
    wanted = F.conv2d(exact_x.flatten(0, 1).permute(0, 3, 1, 2), weight, bias, padding=dilation * (kernel // 2), dilation=dilation)
    wanted = wanted.permute(0, 2, 3, 1).unflatten(0, (2, 3)) + exact_start
    compare(layer(x, start), wanted, [x, start, layer.weight, layer.bias], [exact_x, exact_start, *exact])


@pytest.mark.parametrize("kernel", [1, 3])
def test_convolutions_of_channels_first_sources(kernel: int) -> None:
    """Two sources side by side, whichever way they lie in memory."""
    torch.manual_seed(0)
    pairs = [both(2, 3, 5, 7), both(2, 17, 5, 7)]
    convolution = Convolution(20, 18, kernel)
    exact = Convolution(20, 18, kernel).double()
    exact.load_state_dict(convolution.state_dict())
    apart = pairs[0][0].to(memory_format=torch.channels_last)
    inputs, exact_inputs = ([*(pair[i] for pair in pairs), *layer.parameters()] for i, layer in enumerate((convolution, exact)))
    expected = F.conv2d(torch.cat([pair[1] for pair in pairs], 1), exact.weight, exact.bias, padding=kernel // 2)
    compare(convolution(apart, pairs[1][0]), expected, inputs, exact_inputs)
    torch.testing.assert_close(exact(*(pair[1] for pair in pairs)), expected)


@pytest.mark.parametrize("batch", [3, 16, 37, 64])
def test_linear_layers_of_several_steps(batch: int) -> None:
    """Each step reads what the one before made, its bias or rows of its own; two passes of backward give the same gradients."""
    torch.manual_seed(0)
    exact = torch.nn.Linear(45, 45).double()
    layer = torch.nn.Linear(45, 45)
    layer.load_state_dict(exact.state_dict())
    (x, exact_x), (start, exact_start) = both(batch, 45), both(batch, 45)

    def steps(layer: torch.nn.Linear, x: Tensor, start: Tensor) -> Tensor:
        repeated = Repeated(layer, batch)
        assert (repeated.compiled is None) == (batch < 16 or x.dtype == torch.float64)
        return repeated(repeated(repeated(x).tanh(), start).tanh())

    inputs, exact_inputs = [x, start, *layer.parameters()], [exact_x, exact_start, *exact.parameters()]
    found = steps(layer, x, start)
    first, again = (torch.autograd.grad(found.square().sum(), inputs, retain_graph=True) for _ in range(2))
    assert all(map(torch.equal, first, again))
    compare(found, steps(exact, exact_x, exact_start), inputs, exact_inputs)


def test_weight_normalisation() -> None:
    """Of several taps, some of which add to a part of the outputs."""
    torch.manual_seed(0)
    layer, exact = (
        CausalConvolution(6, 9, above=1, columns=(-1, 1), left=1, centre="through", groups=3, weight_norm=True).to(kind)
        for kind in (torch.float32, torch.float64)
    )
    exact.load_state_dict(layer.state_dict())
    assert layer.gain is not None and exact.gain is not None
    directions = [torch.randn(weight.shape) for weight in layer.weights]
    found, wanted = (torch.stack([(w * d).sum() for w, d in zip(one.effective(), directions, strict=True)]) for one in (layer, exact))
    compare(found, wanted, [layer.gain, *layer.weights], [exact.gain, *exact.weights])


def test_glu_and_the_cell_of_a_convlstm() -> None:
    torch.manual_seed(0)
    (x, exact_x), (z, exact_z), (gates, exact_gates) = both(2, 3, 5, 19), both(2, 3, 5, 38), both(2, 3, 5, 76)
    compare(glu(x, z), glu(exact_x, exact_z), [x, z], [exact_x, exact_z])
    pair = zip(cell(gates, x), cell(exact_gates, exact_x), strict=True)
    found, wanted = (torch.stack(parts) for parts in zip(*pair, strict=True))
    compare(found, wanted, [gates, x], [exact_gates, exact_x])


@pytest.mark.parametrize("levels", [2, 3, 256, 65536])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_likelihood_of_a_mixture(channels: int, levels: int, scale: float) -> None:
    """Each channel's share and its gradient, at the first and last levels, in tails and below the least scale."""
    torch.manual_seed(0)
    model = rastrum.build("pixelcnn++", ImageSpec(channels, 7, 11, levels), "tiny", components=5)
    assert isinstance(model, PixelCNNPlusPlus)
    parameters = torch.randn(2, 7, 11, model.output.outputs) * scale
    parameters[:, 3, :, 5 * (1 + channels) : 5 * (1 + 2 * channels)] -= 12
    exact = parameters.double().requires_grad_()
    x = torch.randint(0, levels, (2, channels, 7, 11))
    x[0, :, :3], x[0, :, 3:5] = 0, levels - 1
    found = PixelLogProb.apply(parameters.requires_grad_(), x, (levels - 1) / 2, lowest_log_scale(levels))
    wanted = model._distribution(exact, x)
    assert isinstance(wanted, LogisticMixture)
    compare(found, wanted.log_prob(x), [parameters], [exact])


def test_a_mixture_that_is_not_finite_gives_no_number() -> None:
    parameters = torch.zeros(1, 1, 3, 7 * 3)
    parameters[0, 0, 1, 4] = torch.nan
    found = PixelLogProb.apply(parameters, torch.full((1, 2, 1, 3), 5), 127.5, -7.0)
    assert found.isnan().any(1).flatten().tolist() == [False, True, False]


@pytest.mark.parametrize("components", [1, 3, 37])
@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_density_of_a_mixture_of_normals(components: int, scale: float) -> None:
    """Values far out and scales below the least one included, whose gradient is zero; the value's own gradient too."""
    torch.manual_seed(0)
    pairs = [both(5, 7, components) for _ in range(3)] + [both(5, 7)]
    found, exact = (GaussianMixture(logits, means, scale * scales - 1, 4096).log_density(scale * value)
                    for (logits, means, scales, value) in zip(*pairs, strict=True))  # fmt: skip
    assert "LogDensity" in str(found.grad_fn) and (scale == 1.0 or float(pairs[2][1].detach().min()) * scale - 1 < lowest_log_scale(4096))
    compare(found, exact, [pair[0] for pair in pairs], [pair[1] for pair in pairs])


@pytest.mark.parametrize("shared", [(3, 5, 40), (1, 5, 1), (3, 1, 1), (1, 1, 1), (1, 5, 40), (3, 1, 40)])
def test_density_of_normals_that_share_their_scales(shared: tuple[int, ...]) -> None:
    """The compiled form takes rows that repeat in order, and leaves others to torch."""
    torch.manual_seed(0)
    pairs = [both(3, 5, 40, 6), both(3, 5, 40, 6), both(*shared, 6), both(3, 5, 40)]
    found, exact = (gaussian_log_density(logits, means, scales, value, 256) for logits, means, scales, value in zip(*pairs, strict=True))
    assert ("LogDensity" in str(found.grad_fn)) == (shared != (3, 1, 40))
    compare(found, exact, [pair[0] for pair in pairs], [pair[1] for pair in pairs])


def test_training_takes_the_same_loss_as_scores() -> None:
    """The compiled likelihood and the distribution's own, and of a subclass that has another distribution, that one."""
    spec = ImageSpec(3, 8, 6, 256)
    model = rastrum.build("pixelcnn++", spec, "tiny")
    x = torch.randint(0, 256, (3, 3, 8, 6), generator=torch.Generator().manual_seed(0))
    assert isinstance(model, PixelCNNPlusPlus)
    with torch.no_grad():
        scores = model.loss(x)
    torch.testing.assert_close(model.loss(x).detach(), scores, rtol=1e-5, atol=0)

    class Wider(PixelCNNPlusPlus):
        def distribution(self, x: Tensor, condition: Tensor | None = None) -> LogisticMixture:
            given = super().distribution(x, condition)
            return LogisticMixture(given.logits, given.means, given.log_scales + 1, given.levels)

    wider = Wider(spec, model.config).eval()
    wider.load_state_dict(model.state_dict())
    with torch.no_grad():
        scores = wider.loss(x)
    torch.testing.assert_close(wider.loss(x).detach(), scores, rtol=1e-5, atol=0)


def test_compiled_words_are_those_of_the_noise() -> None:
    images, out = np.array([0, 7, 2**32 - 1], np.uint64), np.empty((3, 11, 4), np.uint32)
    seed = 2**63 + 12345
    philox_words(np.uint64(seed), images, np.uint64(9), np.uint64(TRAINING), out)
    np.testing.assert_array_equal(out.reshape(3, 44), words(seed, images, 44, 9, TRAINING))


def test_large_draws_do_not_depend_on_the_piece() -> None:
    """More than one fused draw, of a size that is compiled."""
    drop, x = Dropout(0.5).train(), torch.ones(4, 40, 30, 16)
    with drawing(5, np.arange(4)):
        together = [drop(x), drop(x)]
    for image in range(4):
        with drawing(5, np.array([image])):
            alone = [drop(x[image : image + 1]), drop(x[image : image + 1])]
        for a, b in zip(together, alone, strict=True):
            assert torch.equal(a[image], b[0])
