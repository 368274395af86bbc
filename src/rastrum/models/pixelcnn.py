"""PixelCNN (van den Oord, Kalchbrenner, Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", section 3.3 and table 1).

    x ──▶ 7x7, mask A (2h maps) ──▶ N residual blocks ──▶ relu, 1x1 ──▶ relu, 1x1 ──▶ logits of each level
                                     y = relu(x); y = 1x1 (h); y = relu(y); y = 3x3 mask B (h); y = relu(y); x += 1x1 (2h)

The kernels look up through odd squares with their lower half missing, so a cone to the right above a pixel is never seen: the
blind spot. That is the paper's model; ``context`` says so and ``rastrum check`` draws it. ``gated_pixelcnn.py`` removes it.
Colours: maps lie in groups R, G, B; mask A lets G see R of its own pixel, mask B also lets a group see itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..distributions import Bernoulli, Categorical
from ..layers.causal import CausalConvolution
from ..layers.condition import Condition, ConditionProjection
from ..layers.output import LevelsOutput
from ..program.builder import Program, View
from ..protocol import ConditionSpec, Distribution, ImageSpec
from ..raster import RasterModel
from .context import cone_context
from .presets import check_config, choose, multiple_of


@dataclass(frozen=True, kw_only=True)
class PixelCNNConfig:
    channels: int = 32                 # h; the residual stream holds 2h
    layers: int = 7                # residual blocks
    first_kernel: int = 7
    kernel: int = 3
    hidden: int = 64               # maps of the last hidden layer
    condition_channels: int = 16       # s, of a map that is told


class Block(nn.Module):
    def __init__(self, channels: int, kernel: int, groups: int, condition_size: int) -> None:
        super().__init__()
        reach = kernel // 2
        self.condition = ConditionProjection(condition_size, channels)
        self.narrow = CausalConvolution(2 * channels, channels, centre="through", groups=groups)
        self.look = CausalConvolution(channels, channels, above=reach, columns=(-reach, reach), left=reach, centre="through", groups=groups)
        self.widen = CausalConvolution(channels, 2 * channels, centre="through", groups=groups, bias=False)

    def forward(self, h: Tensor, condition: Tensor | None) -> Tensor:
        return self.widen(self.look(self.narrow(h.relu()).relu(), self.condition(condition)).relu(), initial=h)

    def lower(self, program: Program, h: View, condition: View | None) -> View:
        seen = self.narrow.lower(program, program.apply("relu", h))
        seen = self.look.lower(program, program.apply("relu", seen), self.condition.lower(program, condition))
        return self.widen.lower(program, program.apply("relu", seen), initial=h)


class PixelCNN(RasterModel):
    """guide: maps known at every position that each block is told instead of a condition (``multiscale_pixelrnn.py``)."""

    name = "pixelcnn"
    config_class = PixelCNNConfig

    def __init__(self, spec: ImageSpec, config: PixelCNNConfig, condition_spec: ConditionSpec | None = None, guide: int = 0) -> None:
        super().__init__(spec, condition_spec)
        self.config = config
        self.groups = groups = spec.channels
        check_config(config, spec, grouped=("channels", "hidden"), kernels=("first_kernel", "kernel"))
        reach = config.first_kernel // 2
        self.first = CausalConvolution(
            groups, 2 * config.channels, above=reach, columns=(-reach, reach), left=reach, centre="before", groups=groups
        )
        self.condition = Condition(condition_spec, spec, config.condition_channels)
        condition_size = guide or self.condition.size
        self.blocks = nn.ModuleList(Block(config.channels, config.kernel, groups, condition_size) for _ in range(config.layers))
        self.output = LevelsOutput(spec, 2 * config.channels, config.hidden)

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> PixelCNNConfig:
        rounded = multiple_of(spec.channels)
        return choose(
            PixelCNNConfig,
            name,
            overrides,
            tiny=dict(channels=rounded(6), layers=2, hidden=rounded(12)),
            small=dict(channels=rounded(32), layers=7, hidden=rounded(64)),
            paper=dict(channels=16, layers=7, hidden=32)
            if spec.channels == 1
            else dict(channels=rounded(128), layers=15, hidden=rounded(1024)),
        )

    def distribution(self, x: Tensor, condition: Tensor | None = None) -> Bernoulli | Categorical:
        return self.output.head(self.logits(x, self.condition(condition, self.dtype)))

    def logits(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """x (B, C, H, W), told (B, H, W, maps) or (B, 1, 1, size) → (B, C, H, W, numbers)."""
        h = self.first(self.spec.scale(x, self.dtype).permute(0, 2, 3, 1))
        for block in self.blocks:
            h = block(h, condition)
        return self.output(h)

    def lower(self, program: Program, guide: View | None = None) -> None:
        h = self.first.lower(program, program.values())
        condition = self.condition.lower(program) if guide is None else guide
        for block in self.blocks:
            assert isinstance(block, Block)
            h = block.lower(program, h, condition)
        self.output.lower(program, h)

    def head(self, parameters: Tensor, x: Tensor, index: int, previous: Distribution | None) -> Bernoulli | Categorical:
        return self.output.head(parameters)

    def context(self) -> Tensor:
        """d rows up, from k₁ + N k columns left to k₁ + N' k right, with N' the blocks that can still move once d rows are climbed."""
        return self._cone(self.config.first_kernel // 2, self.config.layers)

    def guide_context(self) -> Tensor:
        """(H W, H W) bool: [i, j] = what is drawn at i sees the guide at j, which enters within each block."""
        pixels = ImageSpec(1, self.spec.height, self.spec.width)
        return self._cone(0, self.config.layers - 1, pixels) | torch.eye(pixels.size, dtype=torch.bool)

    def _cone(self, first: int, blocks: int, spec: ImageSpec | None = None) -> Tensor:
        return cone_context(spec or self.spec, first, blocks, self.config.kernel // 2)
