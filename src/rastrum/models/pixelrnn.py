"""What the two PixelRNNs share (van den Oord, Kalchbrenner, Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", sections 3 and table 1).

    x ──▶ 7x7, mask A (2h maps) ──▶ N recurrent layers ──▶ relu, 1x1 ──▶ relu, 1x1 ──▶ logits of each level
                                     h = LSTM(x);  x ← x + 1x1(h)   residual (figure 5);  s ← s + 1x1(h)   skip

``row_lstm.py`` and ``diagonal_bilstm.py`` are this with their recurrent layer. Colours: maps and gates lie in groups R, G, B; mask A lets
G see R of its own pixel, mask B also lets a group see itself; what comes from finished pixels is seen by all groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..distributions import Bernoulli, Categorical
from ..layers.causal import CausalConvolution
from ..layers.condition import Condition
from ..layers.output import LevelsOutput
from ..program.builder import Program, View
from ..protocol import ConditionSpec, Distribution, ImageSpec
from ..raster import RasterModel
from .presets import check_config, choose, multiple_of


@dataclass(frozen=True, kw_only=True)
class PixelRNNConfig:
    units: int = 16                # h of each layer; the residual stream holds 2h
    layers: int = 7
    first_kernel: int = 7
    hidden: int = 64               # maps of the last hidden layer
    condition_channels: int = 16       # s, of a map that is told
    residual: bool = True          # x + 1x1(h) goes on, instead of 1x1(h)
    skip: bool = False             # the output reads the sum of a 1x1 of every layer's h, instead of the last layer's features
    output_layers: int = 1         # hidden layers of the output


class Recurrence(nn.Module):
    """A recurrent layer: maps (B, H, W, 2h) → h (B, H, W, h), and its step. told: numbers at every position, added to the gates."""

    def __init__(self, inputs: int, units: int, groups: int, condition_size: int) -> None:
        super().__init__()
        self.units, self.groups = units, groups

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        raise NotImplementedError

    def lower(self, program: Program, x: View, condition: View | None) -> View:
        raise NotImplementedError


class Block(nn.Module):
    def __init__(self, recurrence: Recurrence, config: PixelRNNConfig, groups: int) -> None:
        super().__init__()
        self.recurrence = recurrence
        self.residual = config.residual
        self.widen = CausalConvolution(config.units, 2 * config.units, centre="through", groups=groups)
        self.skip = CausalConvolution(config.units, 2 * config.units, centre="through", groups=groups) if config.skip else None

    def forward(self, x: Tensor, skipped: Tensor | None, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
        h = self.recurrence(x, condition)
        skipped = None if self.skip is None else self.skip(h, skipped)
        return self.widen(h, x if self.residual else None), skipped

    def lower(self, program: Program, x: View, skipped: View | None, condition: View | None) -> tuple[View, View | None]:
        h = self.recurrence.lower(program, x, condition)
        skipped = None if self.skip is None else self.skip.lower(program, h, skipped)
        return self.widen.lower(program, h, x if self.residual else None), skipped


class PixelRNN(RasterModel):
    """guide: maps known at every position that each layer is told instead of a condition (``multiscale_pixelrnn.py``)."""

    config_class: type[PixelRNNConfig]
    recurrence: type[Recurrence]

    def __init__(self, spec: ImageSpec, config: PixelRNNConfig, condition_spec: ConditionSpec | None = None, guide: int = 0) -> None:
        super().__init__(spec, condition_spec)
        self.config = config
        self.groups = groups = spec.channels
        check_config(config, spec, grouped=("units", "hidden"), kernels=("first_kernel",))
        reach = config.first_kernel // 2
        self.first = CausalConvolution(
            groups, 2 * config.units, above=reach, columns=(-reach, reach), left=reach, centre="before", groups=groups
        )
        self.condition = Condition(condition_spec, spec, config.condition_channels)
        condition_size = guide or self.condition.size
        layers = (self.recurrence(2 * config.units, config.units, groups, condition_size) for _ in range(config.layers))
        self.blocks = nn.ModuleList(Block(layer, config, groups) for layer in layers)
        self.output = LevelsOutput(spec, 2 * config.units, config.hidden, config.output_layers)

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> PixelRNNConfig:
        rounded = multiple_of(spec.channels)
        filled = multiple_of(16 * spec.channels)                          # the native interpreter computes 16 outputs of a group at a time
        return choose(
            cls.config_class,
            name,
            overrides,
            tiny=dict(units=rounded(4), layers=2, hidden=rounded(12)),
            small=dict(units=filled(32), layers=4, hidden=filled(64)),
            paper=dict(skip=True, output_layers=2)
            | (dict(units=16, layers=7, hidden=32) if spec.channels == 1 else dict(units=rounded(128), layers=12, hidden=rounded(1024))),
        )

    def distribution(self, x: Tensor, condition: Tensor | None = None) -> Bernoulli | Categorical:
        return self.output.head(self.logits(x, self.condition(condition, self.dtype)))

    def logits(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """x (B, C, H, W), told (B, H, W, maps) or (B, 1, 1, size) → (B, C, H, W, numbers)."""
        h, skipped = self.first(self.spec.scale(x, self.dtype).permute(0, 2, 3, 1)), None
        for block in self.blocks:
            h, skipped = block(h, skipped, condition)
        return self.output(h if skipped is None else skipped)

    def lower(self, program: Program, guide: View | None = None) -> None:
        h, skipped = self.first.lower(program, program.values()), None
        condition = self.condition.lower(program) if guide is None else guide
        for block in self.blocks:
            assert isinstance(block, Block)
            h, skipped = block.lower(program, h, skipped, condition)
        self.output.lower(program, h if skipped is None else skipped)

    def guide_context(self) -> Tensor:
        """(H W, H W) bool: [i, j] = what is drawn at i sees the guide at j, which enters the gates of every layer."""
        raise NotImplementedError

    def head(self, parameters: Tensor, x: Tensor, index: int, previous: Distribution | None) -> Bernoulli | Categorical:
        return self.output.head(parameters)
