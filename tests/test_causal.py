"""The causal layers against one library convolution with explicit zeros, their gradients, and what each output may see."""

from __future__ import annotations

import copy

import pytest
import torch

from rastrum.layers.causal import (
    CausalConvolution,
    VerticalConvolution,
    concat_elu,
    convolve_dense,
    gate,
    initialise_weight_norm,
    shift_down,
)

LAYERS = {
    "mask A, 7x7": lambda: CausalConvolution(3, 6, above=3, columns=(-3, 3), left=3, centre="before", groups=3),
    "mask B, 3x3": lambda: CausalConvolution(6, 6, above=1, columns=(-1, 1), left=1, centre="through", groups=3),
    "1x1 in groups": lambda: CausalConvolution(6, 9, centre="through", groups=3, bias=False),
    "down-right 2x2": lambda: CausalConvolution(4, 3, above=1, columns=(-1, 0), left=1, centre="through", weight_norm=True),
    "above only": lambda: CausalConvolution(2, 3, above=1, columns=(-1, -1), left=1),
    "vertical 2x3": lambda: VerticalConvolution(3, 4, rows=2, columns=3),
    "vertical 3x5": lambda: VerticalConvolution(2, 4, rows=3, columns=5, weight_norm=True),
    "1x1": lambda: CausalConvolution(4, 3, centre="through", bias=False),
    "vertical 1x1": lambda: VerticalConvolution(3, 5),
    "nothing": lambda: CausalConvolution(1, 2, centre="before"),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("size", [(4, 5), (1, 1), (1, 6), (6, 1), (2, 2)])
def test_products_of_shifted_rows_equal_one_dense_convolution(name: str, size: tuple[int, int]) -> None:
    """The fast form and its hand-written gradient equal the convolution that the taps describe."""
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    x = torch.randn(3, *size, layer.inputs, dtype=torch.float64, requires_grad=True)
    initial = torch.randn(3, *size, layer.outputs, dtype=torch.float64, requires_grad=True)
    out = layer(x, initial)
    if not layer.taps:
        torch.testing.assert_close(out, initial + layer.bias)
        return
    dense = convolve_dense(x, layer.taps, layer.effective(), layer.bias, layer.outputs) + initial
    torch.testing.assert_close(out, dense, rtol=0, atol=1e-12)
    direction = torch.randn_like(out)
    inputs = [x, initial, *layer.parameters()]
    for a, b in zip(torch.autograd.grad(out, inputs, direction), torch.autograd.grad(dense, inputs, direction), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


WIDE = {
    "vertical 2x3": lambda: VerticalConvolution(17, 9, rows=2, columns=3),
    "vertical 3x5": lambda: VerticalConvolution(16, 35, rows=3, columns=5, weight_norm=True),
    "mask B, 7x7": lambda: CausalConvolution(18, 6, above=3, columns=(-3, 3), left=3, centre="through", groups=3),
    "beyond the border": lambda: CausalConvolution(16, 4, above=1, columns=(-8, 8)),
    "to the right": lambda: CausalConvolution(16, 16, above=1, columns=(0, 2), left=1),
}


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("size", [(4, 11), (1, 3), (5, 8), (2, 1)])
@pytest.mark.parametrize("condition", ["none", "vector", "map"])
def test_compiled_float32_equals_float64(name: str, size: tuple[int, int], condition: str) -> None:
    """Toom-Cook and its gradient, on arrays that are not contiguous, compared with the products of float64."""
    torch.manual_seed(0)
    layer = WIDE[name]()
    exact = copy.deepcopy(layer).double()
    x = torch.randn(3, layer.inputs, *size).permute(0, 2, 3, 1).requires_grad_()
    shape = {"none": None, "vector": (3, 1, 1), "map": (3, *size)}[condition]
    initial = None if shape is None else torch.randn(*shape, layer.outputs, requires_grad=True)
    direction = torch.randn(3, layer.outputs, *size).permute(0, 2, 3, 1)
    found = layer(x, initial)
    wanted = exact(x.double(), None if initial is None else initial.double())
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=3e-5)
    inputs = [x] if initial is None else [x, initial]
    gradients = torch.autograd.grad(found, [*inputs, *layer.parameters()], direction)
    exact_gradients = torch.autograd.grad(wanted, [*inputs, *exact.parameters()], direction.double())
    for a, b in zip(gradients, exact_gradients, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=1e-4)


def test_compiled_rows_see_no_rows_below() -> None:
    """Bit for bit: even rounding errors of Toom-Cook stay within the rows that an output may see."""
    layer = VerticalConvolution(16, 16, rows=2, columns=3)
    x = torch.randn(1, 6, 9, 16)
    y = x.clone()
    y[:, 3] += 1
    assert (layer(x) != layer(y)).flatten(2).any(2).tolist() == [[False, False, False, True, True, False]]


def test_layers_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = VerticalConvolution(16, 16, rows=2, columns=3), torch.randn(2, 4, 9, 16)
    compiled = layer(x), gate(x)
    monkeypatch.setattr("rastrum.native.compiler.available", False)
    torch.testing.assert_close((layer(x), gate(x)), compiled, rtol=1e-4, atol=1e-5)
    assert not torch.equal(layer(x), compiled[0]), "the compiled form was not used"


@pytest.mark.parametrize("columns", [1, 3])
def test_a_shared_initial_gets_its_gradient_summed(columns: int) -> None:
    """A condition is one vector per image, broadcast over positions."""
    layer = VerticalConvolution(2, 3, rows=columns - columns // 2, columns=columns).double()
    x = torch.randn(2, 4, 3, 2, dtype=torch.float64)
    condition = torch.randn(2, 1, 1, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x, condition).sum(), condition)
    torch.testing.assert_close(gradient, torch.full_like(condition, 12.0))


@pytest.mark.parametrize("name", [name for name in LAYERS if "vertical" not in name])
def test_no_output_sees_itself_or_what_comes_later(name: str) -> None:
    """Perturbing one value moves only outputs that may see it, for every position and colour group."""
    torch.manual_seed(1)
    layer = LAYERS[name]().double()
    height, width, groups = 4, 5, layer.groups
    x = torch.randn(1, height, width, layer.inputs, dtype=torch.float64)
    base = layer(x)
    for row in range(height):
        for column in range(width):
            for i in range(layer.inputs):
                y = x.clone()
                y[0, row, column, i] += 1.0
                for r, c, o in (layer(y) - base)[0].abs().gt(1e-12).nonzero().tolist():
                    group, own = i * groups // layer.inputs, o * groups // layer.outputs
                    earlier = (r, c) > (row, column) or ((r, c) == (row, column) and own >= group)
                    assert earlier, f"output {(r, c, o)} saw {(row, column, i)}"
                    if name.startswith("mask A") and (r, c) == (row, column):
                        assert own > group, "mask A lets no group see itself"


def test_shift_down_moves_rows() -> None:
    x = torch.arange(6.0).view(1, 3, 2, 1)
    assert shift_down(x).flatten().tolist() == [0, 0, 0, 1, 2, 3]
    assert shift_down(x[:, :1]).flatten().tolist() == [0, 0]


@pytest.mark.parametrize("groups", [1, 3])
def test_gate_is_tanh_times_sigmoid(groups: int) -> None:
    """Equation 2 of the Gated PixelCNN paper, each colour group split by itself; gradient by finite differences."""
    x = torch.randn(2, 4, 12, dtype=torch.float64, requires_grad=True)
    parts = x.unflatten(-1, (groups, 2, -1))
    expected = (torch.tanh(parts[..., 0, :]) * torch.sigmoid(parts[..., 1, :])).flatten(-2)
    torch.testing.assert_close(gate(x, groups), expected)
    assert torch.autograd.gradcheck(lambda y: gate(y, groups), x)


@pytest.mark.parametrize("channels", [2, 22, 64])
def test_compiled_gate(channels: int) -> None:
    """Float32 is near float64, for large values too, and NaN stays NaN."""
    x = (torch.randn(5, 3, channels) * torch.tensor([0.1, 2.0, 60.0])[:, None]).requires_grad_()
    direction = torch.randn(5, 3, channels // 2)
    a, b = x.double().chunk(2, -1)
    expected = torch.tanh(a) * torch.sigmoid(b)
    torch.testing.assert_close(gate(x).double(), expected, rtol=1e-5, atol=1e-7)
    (found,), (wanted,) = torch.autograd.grad(gate(x), x, direction), torch.autograd.grad(expected, x, direction.double())
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert gate(torch.full((1, 34), torch.nan)).isnan().all()


def test_concat_elu() -> None:
    x = torch.tensor([[1.0, -2.0]])
    torch.testing.assert_close(concat_elu(x), torch.nn.functional.elu(torch.tensor([[1.0, -2.0, -1.0, 2.0]])))


def test_weight_norm_initialises_on_data() -> None:
    """After it every output has mean 0 and the stated spread on that data; an output that cannot vary stays finite."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        VerticalConvolution(3, 5, rows=2, columns=3, weight_norm=True), CausalConvolution(5, 4, left=1, weight_norm=True, scale=0.1)
    ).double()
    x = torch.randn(8, 6, 6, 3, dtype=torch.float64) * 3 + 2
    initialise_weight_norm(model, lambda: model(x))
    first = model[0](x)
    out = model(x).flatten(0, 2)
    torch.testing.assert_close(first.flatten(0, 2).std(0, unbiased=False), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(out.mean(0), torch.zeros(4, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(out.std(0, unbiased=False), torch.full((4,), 0.1, dtype=torch.float64))
    initialise_weight_norm(model, lambda: model(torch.zeros_like(x)))
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_rounding_alone_is_no_variation() -> None:
    """Inputs that differ only by rounding keep their gain, whatever the size of the noise: it says nothing about images."""
    for noise in (1e-8, 1e-16, 1e-25):                                    # the last one's square is 0 in float32
        torch.manual_seed(0)
        layer = CausalConvolution(3, 5, left=1, weight_norm=True)
        before = layer.effective()
        initialise_weight_norm(layer, lambda layer=layer, noise=noise: layer(noise * torch.randn(8, 2, 3, 3)))
        for weight, start in zip(layer.effective(), before, strict=True):
            assert torch.equal(weight, start)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_images_have_a_gradient(name: str, dtype: torch.dtype) -> None:
    layer = LAYERS[name]().to(dtype)
    x = torch.zeros(0, 4, 5, layer.inputs, dtype=dtype, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape
    assert not any(p.grad is not None and bool(p.grad.any()) for p in layer.parameters())
