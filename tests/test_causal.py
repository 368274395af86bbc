"""The causal layers against one library convolution with explicit zeros, their gradients, and what each output may see."""

from __future__ import annotations

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
    "nothing": lambda: CausalConvolution(1, 2, centre="before"),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("size", [(4, 5), (1, 1), (1, 6), (6, 1), (2, 2)])
def test_products_of_shifted_rows_equal_one_dense_convolution(name: str, size: tuple[int, int]) -> None:
    """The fast form and its hand-written gradient are the convolution that the taps describe."""
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


def test_a_shared_initial_gets_its_gradient_summed() -> None:
    """A condition is one vector an image, broadcast over positions."""
    layer = VerticalConvolution(2, 3, rows=2, columns=3).double()
    x = torch.randn(2, 4, 3, 2, dtype=torch.float64)
    told = torch.randn(2, 1, 1, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x, told).sum(), told)
    torch.testing.assert_close(gradient, torch.full_like(told, 12.0))


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
