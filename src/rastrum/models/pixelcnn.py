"""PixelCNN (van den Oord, Kalchbrenner, Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", section 3.5 and table 1).

    x ──▶ 7x7, mask A (2h channels) ──▶ N residual blocks ──▶ relu, 1x1, once or twice ──▶ relu, 1x1 ──▶ logits of each level
                                         y = relu(x); y = 1x1 (h); y = relu(y); y = 3x3 mask B (h); y = relu(y); x += 1x1 (2h)

The kernels look up through odd squares with their lower half missing, so a cone to the right above a pixel is never seen: the
blind spot. That is the paper's model; ``context`` says so and ``rastrum check`` draws it. ``gated_pixelcnn.py`` removes it.
Colours: channels lie in groups R, G, B; mask A lets G see R of its own pixel, mask B also lets a group see itself (section 3.4).

What differs from the paper:
- By default one hidden 1x1 layer in the output and no connections from the blocks to it. ``output_layers=2`` is the paper's (1,024
  channels each for colour, 32 for MNIST); ``skip=True`` connects every block to the output, which the paper describes for its networks
  (section 3.3). The preset "paper" has both. With ``skip`` the output reads the sum of a 1x1 of each block's y, instead of the last
  block's x.
- The preset "paper" is the paper's for colour (15 blocks; h = 128 for CIFAR-10 as we recall it), rounded up to multiples of 3 so that the
  colour groups are equal: 129 and 1,026. For one channel the paper gives no size; 7 blocks with h = 16 are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..layers.causal import CausalConvolution
from ..layers.condition import ConditionProjection
from ..program.builder import Program, View
from ..protocol import ConditionSpec, ImageSpec
from .context import cone_context
from .pixel_network import PixelNetwork
from .presets import check_config, choose, multiple_of


@dataclass(frozen=True, kw_only=True)
class PixelCNNConfig:
    """Sizes of a PixelCNN."""

    channels: int = 32             # h of each block; the residual stream holds 2h
    layers: int = 7                # residual blocks
    first_kernel: int = 7          # side of the first kernel, with mask A
    kernel: int = 3                # side of the blocks' kernels, with mask B
    hidden: int = 64               # channels of the output's hidden layers
    condition_channels: int = 16       # channels of s, made of a spatial map as condition
    condition_levels: int = 1          # resolutions at which the map is seen, the first of 3x3, each more twice as wide
    condition_exemplars: bool = False  # the map is a set of exemplars, each of which is read alike
    skip: bool = False             # the output reads the sum of a 1x1 of every block's h, instead of the last block's features
    output_layers: int = 1         # hidden layers of the output


class Block(nn.Module):
    """A residual block: x (B, H, W, 2h) → x + 1x1 of h, and the sum of a 1x1 of h so far where blocks reach the output.

    channels: h.
    kernel: side of the kernel, odd.
    groups: colour groups.
    condition_size: values of the condition; 0 = none.
    skip: whether the block reaches the output.
    """

    def __init__(self, channels: int, kernel: int, groups: int, condition_size: int, skip: bool) -> None:
        super().__init__()
        reach = kernel // 2
        self.condition = ConditionProjection(condition_size, channels)
        self.narrow = CausalConvolution(2 * channels, channels, centre="through", groups=groups)
        self.look = CausalConvolution(channels, channels, above=reach, columns=(-reach, reach), left=reach, centre="through", groups=groups)
        self.widen = CausalConvolution(channels, 2 * channels, centre="through", groups=groups, bias=False)
        self.skip = CausalConvolution(channels, 2 * channels, centre="through", groups=groups) if skip else None

    def forward(self, x: Tensor, skipped: Tensor | None, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The block on whole images.

        x: (B, H, W, 2h).
        skipped: what earlier blocks give to the output, (B, H, W, 2h), or None.
        condition: as ``Condition`` gives it, or None.

        Returns x after the block, and what blocks so far give to the output, or None.
        """
        h = self.look(self.narrow(x, before="relu"), self.condition(condition), before="relu")
        skipped = None if self.skip is None else self.skip(h, skipped, before="relu")
        return self.widen(h, initial=x, before="relu"), skipped

    def lower(self, program: Program, x: View, skipped: View | None, condition: View | None) -> tuple[View, View | None]:
        """The block in a step program.

        program: takes the operations.
        x, skipped, condition: as for ``forward``, as feature maps.

        Returns the same as ``forward``, as feature maps.
        """
        h = self.narrow.lower(program, program.apply("relu", x))
        h = self.look.lower(program, program.apply("relu", h), self.condition.lower(program, condition))
        h = program.apply("relu", h)
        skipped = None if self.skip is None else self.skip.lower(program, h, skipped)
        return self.widen.lower(program, h, initial=x), skipped


class PixelCNN(PixelNetwork):
    """PixelCNN.

    spec: of the images.
    config: sizes.
    condition_spec: of a class, a vector or a spatial map; None (default) = unconditional.
    guide: channels of a feature map that stands in the condition's place in every block (``multiscale_pixelrnn.py``); default 0 = none.
    """

    name = "pixelcnn"
    config_class = PixelCNNConfig
    lower_reads_only_parameters = True

    def __init__(self, spec: ImageSpec, config: PixelCNNConfig, condition_spec: ConditionSpec | None = None, guide: int = 0) -> None:
        check_config(config, spec, grouped=("channels", "hidden"), kernels=("first_kernel", "kernel"))
        super().__init__(spec, config, condition_spec, guide, 2 * config.channels)

    def block(self, condition_size: int) -> Block:
        return Block(self.config.channels, self.config.kernel, self.groups, condition_size, self.config.skip)

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> PixelCNNConfig:
        """Sizes by name: "tiny" (tests), "small" (a laptop), "paper" (of CIFAR-10 for colour; ours for one channel).

        name: one of these.
        spec: of the images; numbers of channels are rounded up to multiples of their channels.
        overrides: options of the config that replace the preset's.

        Raises ``ValueError`` for an unknown name or option.
        """
        rounded = multiple_of(spec.channels)
        return choose(
            PixelCNNConfig,
            name,
            overrides,
            tiny=dict(channels=rounded(6), layers=2, hidden=rounded(12)),
            small=dict(channels=rounded(32), layers=7, hidden=rounded(64)),
            paper=dict(skip=True, output_layers=2)
            | (
                dict(channels=16, layers=7, hidden=32)
                if spec.channels == 1
                else dict(channels=rounded(128), layers=15, hidden=rounded(1024))
            ),
        )

    def context(self) -> Tensor:
        """d rows up, from k₁ + N k columns left to k₁ + N' k right, with N' the blocks that can still move once d rows are climbed."""
        return self._cone(self.config.first_kernel // 2, self.config.layers)

    def guide_context(self) -> Tensor:
        """(H·W, H·W) bool: [i, j] = pixel i sees the guide at j, which enters within each block."""
        pixels = ImageSpec(1, self.spec.height, self.spec.width)
        return self._cone(0, self.config.layers - 1, pixels) | torch.eye(pixels.size, dtype=torch.bool)

    def _cone(self, first: int, blocks: int, spec: ImageSpec | None = None) -> Tensor:
        return cone_context(spec or self.spec, first, blocks, self.config.kernel // 2)
