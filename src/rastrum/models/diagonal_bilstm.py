"""Diagonal BiLSTM (van den Oord, Kalchbrenner, Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", section 3.2); rest: ``pixelrnn.py``.

    [o, f, i, g] = K_ss * (h(left), h(above)) + K_is * x          K_ss: 2x1 in the skewed map    K_is: 1x1, mask B
    c = σ(f) ⊙ c(left) + σ(i) ⊙ tanh(g)                                                          (equation 3)
    h = σ(o) ⊙ tanh(c)
    out = h of the left-to-right half + h of the right-to-left half, one row down, zeros on top

    image         skewed (figure 3)            In the skewed map, row i moved i columns to the right, a pixel's two neighbours lie in
    a b c         a b c                        the column before: a whole diagonal is one step, W + H − 1 of them.
    d e f           d e f                      e: from d (left) and b (above), both one column before it.

What has not begun, and what lies outside the image, holds learned h and c. The halves together see everything before a pixel, but for one
value: mask A keeps the last value of a row from every feature of that row, so only the first kernel shows it to the row below. In a step
the right-to-left half runs once over a finished row (``row_reversed``), all layers of it, and the left-to-right half pixel by pixel.

What differs from the paper: the right-to-left half is used one row down, where all colours of its row are known, so its K_is has no mask.
The preset "paper" is the paper's MNIST network for one channel (7 layers, h = 16; its other one is ``layers=1, units=32``). See
``pixelrnn.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..layers.causal import CausalConvolution, VerticalConvolution, shift_down
from ..layers.condition import ConditionProjection
from ..layers.recurrent import DiagonalScan
from ..program.builder import Program, View
from ..protocol import ImageSpec
from .context import raster_context
from .pixelrnn import PixelRNN, PixelRNNConfig, Recurrence


class DiagonalRecurrence(Recurrence):
    """The recurrent layer of a Diagonal BiLSTM: both halves.

    inputs, units, groups, condition_size: as for ``Recurrence``.
    """

    def __init__(self, inputs: int, units: int, groups: int, condition_size: int) -> None:
        super().__init__(inputs, units, groups, condition_size)
        self.condition_to_right = ConditionProjection(condition_size, 4 * units)
        self.condition_to_left = ConditionProjection(condition_size, 4 * units)
        self.input_to_right = CausalConvolution(inputs, 4 * units, centre="through", groups=groups)
        self.input_to_left = VerticalConvolution(inputs, 4 * units)
        self.to_right, self.to_left = DiagonalScan(units, groups), DiagonalScan(units, from_right=True)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        to_left = self.to_left(self.input_to_left(x, self.condition_to_left(condition)))
        return self.to_right(self.input_to_right(x, self.condition_to_right(condition))) + shift_down(to_left)

    def lower(self, program: Program, x: View, condition: View | None) -> View:
        right, left = self.to_right, self.to_left
        (along_right, above_right), (along_left, above_left) = right.weights, left.weights
        h_right, h_left = (program.map(self.units, initial=scan.first_h) for scan in (right, left))
        first_right, first_left = (program.map(self.units, initial=scan.first_c, single=True) for scan in (right, left))
        c_right, c_left = (program.map(self.units, single=True) for _ in range(2))
        with program.phase("row"):                                        # h_left is still that of the row before the finished one
            above = program.linear(h_right, above_right)
            finished = None if condition is None else replace(condition, row_shift=-1)
            gates_left = self.condition_to_left.lower(program, finished, program.linear(h_left, above_left))
            gates_left = self.input_to_left.lower(program, x, gates_left)
            program.append("copy", first_right, c_right)
            program.append("copy", first_left, c_left)
        with program.phase("row_reversed", first_row=1):
            program.linear(h_left.window(1, 1), along_left, initial=gates_left, destination=gates_left)
            program.append("lstm", gates_left, h_left, c_left)
        with program.phase("row", 1, first_row=1):
            down = program.apply("copy", h_left)
        gates = self.input_to_right.lower(program, x, self.condition_to_right.lower(program, condition, above))
        out = program.map(self.units)
        for group in program.each_group():

            def part(view: View, group: int = group) -> View:
                return view.part(group, self.groups)

            weight = along_right.chunk(self.groups, 1)[group]
            program.linear(h_right.window(-1, -1), weight, initial=part(gates), destination=part(gates))
            program.append("lstm", part(gates), part(h_right), part(c_right))
            program.append("add", part(h_right), part(out), part(down))
        return out


@dataclass(frozen=True, kw_only=True)
class DiagonalBiLSTMConfig(PixelRNNConfig):
    """Sizes of a Diagonal BiLSTM; a type of its own because a recipe names its system by the type of its config."""


class DiagonalBiLSTM(PixelRNN):
    """Diagonal BiLSTM; parameters as of ``PixelRNN``."""

    name = "diagonal-bilstm"
    config_class = DiagonalBiLSTMConfig
    lower_reads_only_parameters = True
    recurrence = DiagonalRecurrence

    def context(self) -> Tensor:
        """Everything before, but for one value: the last of the row above, beyond the reach of the first kernel (see the top)."""
        spec, reach = self.spec, self.config.first_kernel // 2
        columns = [spec.width] * (spec.height + 1)
        context = raster_context(spec, spec.height, columns, columns).view(*spec.shape, *spec.shape)
        for row in range(1, spec.height):
            context[:, row, : max(0, spec.width - 1 - reach), -1, row - 1, -1] = False
        return context.view(spec.size, spec.size)

    def guide_context(self) -> Tensor:
        pixels = ImageSpec(1, self.spec.height, self.spec.width)
        columns = [pixels.width] * (pixels.height + 1)
        return raster_context(pixels, pixels.height, columns, columns) | torch.eye(pixels.size, dtype=torch.bool)
