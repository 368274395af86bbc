"""Gated PixelCNN (van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", section 2).

    vertical stack    v ──▶ n-wide rows ──┬─────────────▶ + V h ──▶ gate ──▶ v        sees every row above, both sides
                                          │ 1x1
    horizontal stack  h ──▶ 1 x n, left ──┴──▶ + ──▶ + V h ──▶ gate ──▶ 1x1 ──▶ + h   sees the row above's stack and its own left

    gate (equation 2, and 4 with a condition h):  y = tanh(W_f * x + V_fᵀ h) ⊙ σ(W_g * x + V_gᵀ h)
    with a spatial map (equation 5) V_f * s and V_g * s instead, s = m(h) at the image's size (``layers/condition.py``)

The current row is left out of the vertical stack once: the image enters it one row down (``shift_down``), so v at row r knows the
rows before r and enters h without another shift. The two stacks together see everything that depth allows: no blind spot.
The horizontal stack has a residual connection except in the first layer, whose kernel leaves out the pixel itself (mask A).
Colours: the horizontal features lie in groups R, G, B as [a b | a b | a b]; a step computes only the group that is due.

What differs from the paper:
- The output (relu, 1x1, relu, 1x1) is PixelCNN's with one hidden layer; its size in the preset "paper" (384) is ours.
- The preset "paper" is the paper's network for ImageNet as we recall it (20 layers, 384 channels, 5x5), without a check against the text.
  The paper gives no size for CIFAR-10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..card import Paper
from ..distributions import Bernoulli, Categorical
from ..layers.causal import CausalConvolution, VerticalConvolution, gate, shift_down
from ..layers.condition import Condition, ConditionProjection
from ..layers.output import LevelsOutput
from ..program.builder import Program, View
from ..protocol import ConditionSpec, Distribution, ImageSpec
from ..raster import RasterModel
from .context import raster_context
from .presets import check_config, choose, multiple_of


@dataclass(frozen=True, kw_only=True)
class GatedPixelCNNConfig:
    """Sizes of a Gated PixelCNN."""

    channels: int = 32             # of both stacks
    layers: int = 7                # gated layers
    kernel: int = 3                # side of the kernels, n
    hidden: int = 64               # channels of the output's hidden layers
    condition_channels: int = 16       # channels of s, made of a spatial map as condition
    condition_levels: int = 1          # resolutions at which the map is seen, the first of 3x3, each more twice as wide
    condition_exemplars: bool = False  # the map is a set of exemplars, each of which is read alike


class Layer(nn.Module):
    """A gated layer of both stacks: v and h (B, H, W, channels) → the next ones.

    inputs: channels of h before the layer.
    channels: of both stacks after it.
    kernel: side of the kernels, n, odd.
    groups: colour groups.
    first: whether it is the first layer, which reads the image.
    condition_size: values of the condition; 0 = none.
    """

    def __init__(self, inputs: int, channels: int, kernel: int, groups: int, first: bool, condition_size: int) -> None:
        super().__init__()
        self.first, self.groups = first, groups
        reach = kernel // 2
        self.vertical = VerticalConvolution(groups if first else channels, 2 * channels, rows=reach + 1, columns=kernel)
        self.vertical_to_horizontal = VerticalConvolution(2 * channels, 2 * channels)
        centre = "before" if first else "through"
        self.horizontal = CausalConvolution(inputs, 2 * channels, left=reach, centre=centre, groups=groups, bias=False)
        self.residual = CausalConvolution(channels, channels, centre="through", groups=groups, bias=first)
        self.vertical_condition = ConditionProjection(condition_size, 2 * channels)
        self.horizontal_condition = ConditionProjection(condition_size, 2 * channels)

    def forward(self, v: Tensor, h: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """The layer on whole images.

        v, h: vertical and horizontal stack, (B, H, W, channels).
        condition: as ``Condition`` gives it, or None.

        Returns both stacks after the layer.
        """
        rows = self.vertical(v, self.vertical_condition(condition))
        down = self.vertical_to_horizontal(rows, self.horizontal_condition(condition))
        out = gate(self.horizontal(h, down), self.groups)
        return gate(rows), self.residual(out, None if self.first else h)

    def lower(self, program: Program, v: View, h: View, condition: View | None) -> tuple[View, View]:
        """The layer in a step program.

        program: takes the operations.
        v, h: vertical and horizontal stack; only in the first layer are both the input map.
        condition: as ``Condition.lower`` gives it, or None.

        Returns both stacks after the layer.
        """
        rows = self.vertical.lower(program, v, self.vertical_condition.lower(program, condition))
        down = self.vertical_to_horizontal.lower(program, rows, self.horizontal_condition.lower(program, condition))
        with program.phase("row"):
            v = program.apply("gate", rows)
        out = program.apply("gate", self.horizontal.lower(program, h, down))
        return v, self.residual.lower(program, out, None if self.first else h)


class GatedPixelCNN(RasterModel):
    """Gated PixelCNN.

    spec: of the images.
    config: sizes.
    condition_spec: of a class, a vector or a spatial map; None (default) = unconditional.
    """

    name = "gated-pixelcnn"
    config_class = GatedPixelCNNConfig
    paper = Paper("Conditional Image Generation with PixelCNN Decoders", "van den Oord, others", 2016)
    lower_reads_only_parameters = True

    def __init__(self, spec: ImageSpec, config: GatedPixelCNNConfig, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__(spec, condition_spec)
        self.config = config
        self.groups = groups = spec.channels
        check_config(config, spec, grouped=("channels", "hidden"), kernels=("kernel",))
        self.condition = Condition(
            condition_spec, spec, config.condition_channels, config.condition_levels, config.condition_exemplars
        )
        self.slots = self.condition.slots
        inputs = [groups] + (config.layers - 1) * [config.channels]
        self.layers = nn.ModuleList(
            Layer(inputs[i], config.channels, config.kernel, groups, i == 0, self.condition.size) for i in range(config.layers)
        )
        self.output = LevelsOutput(spec, config.channels, config.hidden)

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> GatedPixelCNNConfig:
        """Sizes by name: "tiny" (tests), "small" (a laptop), "paper": its network for ImageNet, as recalled; the output's size is ours.

        name: one of these.
        spec: of the images; numbers of channels are rounded up to multiples of their channels.
        overrides: options of the config that replace the preset's.

        Raises ``ValueError`` for an unknown name or option.
        """
        rounded = multiple_of(spec.channels)
        return choose(
            GatedPixelCNNConfig,
            name,
            overrides,
            tiny=dict(channels=rounded(6), layers=2, hidden=rounded(12)),
            small=dict(channels=rounded(32), layers=7, hidden=rounded(64)),
            paper=dict(channels=rounded(384), layers=20, kernel=5, hidden=rounded(384)),
        )

    def distribution(self, x: Tensor, condition: Tensor | None = None) -> Bernoulli | Categorical:
        h = self.spec.scale(x, self.dtype).permute(0, 2, 3, 1)
        v, condition = shift_down(h), self.condition(condition, self.dtype)
        for layer in self.layers:
            v, h = layer(v, h, condition)
        return self.output.head(self.output(h))

    def lower(self, program: Program) -> None:
        """One step of the model, written to ``program``."""
        v = h = program.values()
        condition = self.condition.lower(program)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            v, h = layer.lower(program, v, h, condition)
        self.output.lower(program, h)

    def head(self, parameters: Tensor, x: Tensor, index: int, previous: Distribution | None) -> Bernoulli | Categorical:
        return self.output.head(parameters)

    def context(self) -> Tensor:
        """L layers of reach k: L k columns to both sides, L k + 1 rows up; nothing in there is left out."""
        far = self.config.layers * (self.config.kernel // 2)
        return raster_context(self.spec, far + 1, [far] * (far + 2), [far] * (far + 2))
