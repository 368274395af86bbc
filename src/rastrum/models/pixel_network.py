"""The network that PixelCNN and the PixelRNNs share: they differ in their blocks alone.

Source: van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel Recurrent Neural Networks", 2016, sections 3.3 to 3.5 and table 1.

    x ─▶ first kernel, mask A ─▶ block ─▶ … ─▶ block ─▶ relu, 1x1, … ─▶ logits of each value
                                   │             │       ▲
                                   └─────────────┴─ skip ┘   (an option: the output reads the sum of what every block gives it)
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

from ..card import Paper
from ..distributions import Bernoulli, Categorical
from ..layers.causal import CausalConvolution
from ..layers.condition import Condition
from ..layers.output import LevelsOutput
from ..program.builder import Program, View
from ..protocol import ConditionSpec, Distribution, ImageSpec
from ..raster import RasterModel


class PixelNetwork(RasterModel):
    """Base of PixelCNN and the PixelRNNs.

    spec: of the images.
    config: sizes, with ``layers``, ``first_kernel``, ``hidden``, ``output_layers`` and ``condition_channels``.
    condition_spec: of a class, a vector or a spatial map; None for an unconditional model.
    guide: channels of a feature map that stands in the condition's place in every block (``multiscale_pixelrnn.py``); 0 = none.
    width: channels of the residual stream, 2h.
    """

    paper = Paper("Pixel Recurrent Neural Networks", "van den Oord, Kalchbrenner, Kavukcuoglu", 2016)
    def __init__(self, spec: ImageSpec, config: Any, condition_spec: ConditionSpec | None, guide: int, width: int) -> None:
        super().__init__(spec, condition_spec)
        self.config = config
        self.groups = groups = spec.channels
        reach = config.first_kernel // 2
        self.first = CausalConvolution(groups, width, above=reach, columns=(-reach, reach), left=reach, centre="before", groups=groups)
        self.condition = Condition(
            condition_spec, spec, config.condition_channels, config.condition_levels, config.condition_exemplars
        )
        self.slots = self.condition.slots
        self.blocks = nn.ModuleList(self.block(guide or self.condition.size) for _ in range(config.layers))
        self.output = LevelsOutput(spec, width, config.hidden, config.output_layers)

    @abstractmethod
    def block(self, condition_size: int) -> nn.Module:
        """A block of the residual stream: ``forward(h, skipped, condition)`` and ``lower(program, h, skipped, condition)`` → h, skipped.

        condition_size: channels of the condition's features, 0 for none.
        """

    def distribution(self, x: Tensor, condition: Tensor | None = None) -> Bernoulli | Categorical:
        return self.output.head(self.logits(x, self.condition(condition, self.dtype)))

    def logits(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """The logits of all values.

        x: integer levels (B, C, H, W).
        condition: features (B, H, W, channels) or (B, 1, 1, size); None for an unconditional model.

        Returns (B, C, H, W, logits per value).
        """
        h, skipped = self.first(self.spec.scale(x, self.dtype).permute(0, 2, 3, 1)), None
        for block in self.blocks:
            h, skipped = block(h, skipped, condition)
        return self.output(h if skipped is None else skipped)

    def lower(self, program: Program, guide: View | None = None) -> None:
        """One step of the model.

        program: takes the operations.
        guide: feature map that stands in the condition's place; None (default) for none.
        """
        h, skipped = self.first.lower(program, program.values()), None
        condition = self.condition.lower(program) if guide is None else guide
        for block in self.blocks:
            h, skipped = block.lower(program, h, skipped, condition)  # pyright: ignore[reportCallIssue]
        self.output.lower(program, h if skipped is None else skipped)

    def head(self, parameters: Tensor, x: Tensor, index: int, previous: Distribution | None) -> Bernoulli | Categorical:
        return self.output.head(parameters)
