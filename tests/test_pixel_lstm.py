"""The plain LSTM over values against torch's own LSTM cells, run value by value."""

from __future__ import annotations

import pytest
import torch
from test_raster_contract import conditions, images, lively
from torch import nn

import rastrum
from rastrum import ConditionSpec, ImageSpec
from rastrum.models.pixel_lstm import Layer, PixelLSTM


@pytest.mark.parametrize("spec", [ImageSpec(1, 3, 4, 2), ImageSpec(3, 2, 3, 5)], ids=str)
@pytest.mark.parametrize("condition", [None, ConditionSpec("vector", 2)], ids=str)
def test_it_is_torchs_lstm(spec: ImageSpec, condition: ConditionSpec | None) -> None:
    """A one-hot of the channel and the value before it through ``nn.LSTMCell``, whose gates have the order i, f, g, o."""
    model, x, vector = lively("pixel-lstm", spec, condition), images(spec, 3), conditions(condition, 3)
    assert isinstance(model, PixelLSTM)
    units, channels, batch = model.config.units, spec.channels, len(x)
    inputs = channels + 1 + (0 if condition is None else 2)
    cells, states = [], []
    for layer in model.layers:
        assert isinstance(layer, Layer)
        first = not cells
        cell = nn.LSTMCell(inputs if first else units + inputs - channels - 1, units, bias=True, dtype=torch.float64)
        parts: list[torch.Tensor] = [layer.bias, layer.weight] if first else [layer.weight]
        if layer.condition.weight is not None:
            parts.append(layer.condition.weight)

        def reordered(weight: torch.Tensor) -> torch.Tensor:
            o, f, i, g = weight.chunk(4, -1)
            return torch.cat([i, f, g, o], -1)

        with torch.no_grad():
            cell.weight_ih.copy_(reordered(torch.cat(parts)).t())
            cell.weight_hh.copy_(reordered(layer.scan.weights[0]).t())
            cell.bias_ih.copy_(torch.zeros(4 * units) if first else reordered(layer.bias[0]))
            cell.bias_hh.zero_()
        cells.append(cell)
        states.append((layer.scan.first_h.expand(batch, -1), layer.scan.first_c.expand(batch, -1)))
    values = spec.scale(x, torch.float64)
    before, expected = torch.zeros(batch, 1, dtype=torch.float64), torch.zeros(batch, *spec.shape, spec.levels, dtype=torch.float64)
    extra = [] if vector is None else [vector.double()]
    for row in range(spec.height):
        for column in range(spec.width):
            for channel in range(channels):
                h = torch.cat([torch.eye(channels, dtype=torch.float64)[channel].expand(batch, -1), before], 1)
                for number, cell in enumerate(cells):
                    states[number] = cell(torch.cat([h, *extra], 1), states[number])
                    h = states[number][0]
                logits = h @ model.weight[channel] + model.bias[channel]
                both = torch.cat([torch.zeros_like(logits), logits], 1) if spec.levels == 2 else logits
                expected[:, channel, row, column] = both.log_softmax(-1)
                before = values[:, channel, row, column, None]
    torch.testing.assert_close(model.distribution(x, vector).log_pmf(), expected, rtol=0, atol=1e-12)


def test_some_units_begin_by_remembering_a_row() -> None:
    """Its initial gates remember: the longest-lived unit keeps more than half of its cell over a row."""
    spec = ImageSpec(1, 28, 28, 2)
    model = PixelLSTM(spec, PixelLSTM.preset("small", spec))
    layer = model.layers[0]
    assert isinstance(layer, Layer)
    kept = layer.bias[0].detach().chunk(4)[1].sigmoid() ** spec.width
    assert float(kept.max()) > 0.5 and float(kept.min()) < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_images_have_a_gradient(dtype: torch.dtype) -> None:
    """For a batch of no images, in the compiled scan and in torch's, gradients are zero."""
    model = rastrum.build("pixel-lstm", ImageSpec(3, 2, 2, 4), preset="tiny").to(dtype)
    assert isinstance(model, PixelLSTM)
    logs = model.log_prob(torch.zeros(0, 3, 2, 2, dtype=torch.int64))
    logs.sum().backward()
    assert logs.shape == (0,) and not any(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
