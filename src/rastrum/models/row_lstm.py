"""Row LSTM (van den Oord, Kalchbrenner, Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", section 3.1); the rest is in ``pixelrnn.py``.

    [o, f, i, g] = K_ss * h(row above) + K_is * x     K_ss: 1x3 over the row above, centred, all of it   K_is: 1x3 along the row, mask B
    c = σ(f) ⊙ c(row above, same column) + σ(i) ⊙ tanh(g)                                                (equation 3)
    h = σ(o) ⊙ tanh(c)

    row above         h   h   h       c above
                       ╲  │  ╱           │
    the pixel's row    x  x ──▶ gates ───┴──▶ h, c of the pixel

A whole row is one step. Its context is a triangle that leans to the left: with L layers and a 7x7 first kernel, the row r above is seen
from column j − (r + L + 3) to j + r + 2. Above the first row, and outside the image, h and c are learned.
In a step everything that comes from the row above is done once, for the whole row; a pixel adds its own input and runs its cell.

What differs from the paper: see ``pixelrnn.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..layers.causal import CausalConvolution
from ..layers.condition import ConditionProjection
from ..layers.recurrent import RowScan
from ..program.builder import Program, View
from ..protocol import ImageSpec
from .context import raster_context
from .pixelrnn import PixelRNN, PixelRNNConfig, Recurrence


class RowRecurrence(Recurrence):
    """The recurrent layer of a Row LSTM.

    inputs, units, groups, condition_size: as for ``Recurrence``.
    """

    def __init__(self, inputs: int, units: int, groups: int, condition_size: int) -> None:
        super().__init__(inputs, units, groups, condition_size)
        self.condition = ConditionProjection(condition_size, 4 * units)
        self.input_to_state = CausalConvolution(inputs, 4 * units, left=1, centre="through", groups=groups)
        self.state_to_state = RowScan(units, (-1, 0, 1), groups)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self.state_to_state(self.input_to_state(x, self.condition(condition)))

    def lower(self, program: Program, x: View, condition: View | None) -> View:
        scan = self.state_to_state
        h, c = program.map(self.units, initial=scan.first_h), program.map(self.units, initial=scan.first_c)
        with program.phase("row"):
            above = program.linear(h.window(-1, 1), scan.weights.flatten(0, 1))
        gates = self.input_to_state.lower(program, x, self.condition.lower(program, condition, above))
        for group in program.each_group():
            source, out, cell = (view.part(group, self.groups) for view in (gates, h, c))
            program.append("lstm", source, out, cell)
        return h


@dataclass(frozen=True, kw_only=True)
class RowLSTMConfig(PixelRNNConfig):
    """Sizes of a Row LSTM; a type of its own because a recipe names its system by the type of its config."""


class RowLSTM(PixelRNN):
    """Row LSTM; parameters as of ``PixelRNN``."""

    name = "row-lstm"
    config_class = RowLSTMConfig
    lower_reads_only_parameters = True
    recurrence = RowRecurrence

    def context(self) -> Tensor:
        """Every row above, wider by a column to each side with each row; L + k₁ columns to the left."""
        first, rows = self.config.first_kernel // 2, range(self.spec.height + 1)
        left = [first + self.config.layers + up for up in rows]
        return raster_context(self.spec, self.spec.height, left, [first + up - 1 for up in rows])

    def guide_context(self) -> Tensor:
        pixels, rows = ImageSpec(1, self.spec.height, self.spec.width), range(self.spec.height + 1)
        left = [self.config.layers - 1 + up for up in rows]
        return raster_context(pixels, pixels.height, left, list(rows)) | torch.eye(pixels.size, dtype=torch.bool)
