"""A plain LSTM over the values of an image, one after another in raster order: the baseline that models of two dimensions have to beat.

LSTM: Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", with the forget gate of Gers, Schmidhuber, Cummins 2000. Values v_1 … v_D
from −1 to 1, row by row, pixel by pixel, channel by channel; g(t) is the channel of value t; v_0 = 0.

    v_{t−1}, g(t) ──▶ LSTM 1 ──▶ … ──▶ LSTM L ──▶ logits of v_t
                       ▲   │            ▲   │
                       └───┘ h, c       └───┘      every value is a step of all layers

    (1)  [o, f, i, g]_t = w v_{t−1} + b_{g(t)} + U h_{t−1} (+ Vᵀ condition)      layer 1: b is what a one-hot g(t) would read
    (2)  [o, f, i, g]_t = W h'_t + b + U h_{t−1} (+ Vᵀ condition)                further layers, h' of the layer below
    (3)  c_t = σ(f) ⊙ c_{t−1} + σ(i) ⊙ tanh(g),   h_t = σ(o) ⊙ tanh(c_t)         h_0 and c_0 are learned
    (4)  logits of v_t = A_{g(t)} h_t + a_{g(t)}

It sees every earlier value, and has to carry the row above through W·C steps of its state to use it. In a step h, c and the gates are one
column for all positions.

What differs: no paper has this network as it stands; every size is ours, "paper" only means the largest. The forget gates' biases start at
log u, u ~ U(1, 2 W·C), their input gates' at the negative (Tallec & Ollivier 2018, "Can recurrent neural networks warp time?", section 2):
some units then remember for a value or two, others for two rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..card import Paper
from ..distributions import Bernoulli, Categorical
from ..layers.causal import Tap, convolve
from ..layers.condition import Condition, ConditionProjection
from ..layers.output import Levels
from ..layers.recurrent import Scan
from ..program.builder import Program, View
from ..protocol import ConditionSpec, Distribution, ImageSpec
from ..raster import RasterModel
from .presets import check_config, choose


@dataclass(frozen=True, kw_only=True)
class PixelLSTMConfig:
    """Sizes of a plain LSTM."""

    units: int = 128               # of each layer
    layers: int = 1                # LSTMs, one above another


class Layer(nn.Module):
    """Equations (1) and (2): inputs (D, 1, B, K) → h (D, 1, B, n).

    inputs: K.
    units: n.
    biases: how many sets of biases take turns: one per channel, or 1.
    remembers: forget gates begin with memories of 1 to this many steps.
    condition_size: values of the condition; 0 = none.
    """

    def __init__(self, inputs: int, units: int, biases: int, remembers: int, condition_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, 4 * units).uniform_(-(units**-0.5), units**-0.5))
        kept = torch.empty(units).uniform_(1, max(2, remembers)).log()
        self.bias = nn.Parameter(torch.cat([torch.zeros(units), kept, -kept, torch.zeros(units)]).repeat(biases, 1))
        self.scan = Scan(units)
        self.condition = ConditionProjection(condition_size, 4 * units)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """The layer over all decisions.

        x: (D, 1, B, K).
        condition: as ``Condition`` gives it, or None.

        Returns h (D, 1, B, n).
        """
        turns, condition = len(self.bias), self.condition(condition)
        which = torch.eye(turns, dtype=x.dtype, device=x.device).repeat(len(x) // turns, 1)[:, None, None].expand(*x.shape[:3], -1)
        seen, weight = torch.cat([x, which], -1).transpose(0, 1), torch.cat([self.weight, self.bias])
        (inputs, outputs), condition = weight.shape, None if condition is None else condition.permute(1, 2, 0, 3)
        gates = convolve(seen, [Tap(1, 0, 0, inputs, (0, outputs))], [weight], None, condition, outputs)
        return self.scan(gates.transpose(0, 1))


class PixelLSTM(RasterModel):
    """A plain LSTM over the values of an image.

    spec: of the images.
    config: sizes.
    condition_spec: of a class or a vector; None (default) = unconditional.
    """

    name = "pixel-lstm"
    config_class = PixelLSTMConfig
    paper = Paper("Long Short-Term Memory", "Hochreiter, Schmidhuber", 1997)
    conditions = ("class", "vector")
    lower_reads_only_parameters = True

    def __init__(self, spec: ImageSpec, config: PixelLSTMConfig, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__(spec, condition_spec)
        self.config = config
        self.groups = channels = spec.channels
        check_config(config, spec)
        row = spec.width * channels
        self.condition = Condition(condition_spec, spec)
        sizes = [1] + (config.layers - 1) * [config.units]
        self.layers = nn.ModuleList(
            Layer(inputs, config.units, channels if i == 0 else 1, 2 * row, self.condition.size) for i, inputs in enumerate(sizes)
        )
        self.levels = Levels(spec)
        bound = config.units**-0.5
        self.weight = nn.Parameter(torch.empty(channels, config.units, self.levels.outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(channels, self.levels.outputs))

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> PixelLSTMConfig:
        """Sizes by name: "tiny" (tests), "small" (a laptop), "paper" (large; of no paper).

        name: one of these.
        spec: of the images; the sizes do not depend on it.
        overrides: options of the config that replace the preset's.

        Raises ``ValueError`` for an unknown name or option.
        """
        return choose(
            PixelLSTMConfig, name, overrides, tiny=dict(units=16, layers=2), small=dict(units=128), paper=dict(units=1024, layers=2)
        )

    def distribution(self, x: Tensor, condition: Tensor | None = None) -> Bernoulli | Categorical:
        values = self.spec.scale(x, self.dtype).permute(2, 3, 1, 0).flatten(0, 2)                       # (D, B)
        h = F.pad(values[:-1], (0, 0, 1, 0))[:, None, :, None]
        condition = self.condition(condition, self.dtype)
        for layer in self.layers:
            h = layer(h, condition)
        h = h.view(self.spec.height * self.spec.width, self.spec.channels, *h.shape[2:]).transpose(0, 1)    # (C, H·W, B, n)
        outputs = self.levels.outputs
        tap = Tap(1, 0, 0, h.shape[-1], (0, outputs))
        logits = [convolve(part[None], [tap], [w], b, None, outputs) for part, w, b in zip(h, self.weight, self.bias, strict=True)]
        return self.levels.head(torch.cat(logits).unflatten(1, (self.spec.height, self.spec.width)).permute(3, 0, 1, 2, 4))

    def lower(self, program: Program) -> None:
        """One step of the model, written to ``program``."""
        values, units, channels = program.values(), self.config.units, self.spec.channels
        layers = [layer for layer in self.layers if isinstance(layer, Layer)]
        condition = self.condition.lower(program)
        condition = [layer.condition.lower(program, condition) for layer in layers]
        program.wrap(values)
        first = torch.cat([layer.scan.first_h for layer in layers])
        # [v | h of each layer]: what a layer reads, its input and its own h, lies side by side.
        state = program.map(1 + len(first), initial=F.pad(first, (1, 0)), single=True)
        cells = [program.map(units, initial=layer.scan.first_c, single=True) for layer in layers]
        gates = program.map(4 * units, single=True)
        for channel in range(channels):
            with program.phase("channel", channel):
                before = values.part(channel - 1, channels) if channel else values.window(-1, -1).part(channels - 1, channels)
                program.append("copy", before, View(state.buffer, 0, 1))
                position = 0
                for layer, cell, start in zip(layers, cells, condition, strict=True):
                    inputs = len(layer.weight)
                    weight = torch.cat([layer.weight, layer.scan.weights[0]])
                    bias = layer.bias[channel % len(layer.bias)]
                    program.linear(View(state.buffer, position, inputs + units), weight, bias, start, gates)
                    position += inputs
                    program.append("lstm", gates, View(state.buffer, position, units), cell)
                h = View(state.buffer, position, units)
                logits = program.map(self.levels.outputs, single=True)
                program.output(channel, program.linear(h, self.weight[channel], self.bias[channel], destination=logits))
        program.head = self.levels.program_head

    def head(self, parameters: Tensor, x: Tensor, index: int, previous: Distribution | None) -> Bernoulli | Categorical:
        return self.levels.head(parameters)

    def context(self) -> Tensor:
        """All that comes before."""
        rank = self.order.argsort()
        return rank[None] < rank[:, None]
