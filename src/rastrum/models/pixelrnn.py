"""What the two PixelRNNs share (van den Oord, Kalchbrenner, Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", section 3 and table 1).

    x ──▶ 7x7, mask A (2h channels) ──▶ N recurrent layers ──▶ relu, 1x1, once or twice ──▶ relu, 1x1 ──▶ logits of each level
                                         h = LSTM(x);  x ← x + 1x1(h)   residual (section 3.3, figure 5);  s ← s + 1x1(h)   skip

``row_lstm.py`` and ``diagonal_bilstm.py`` are this with their recurrent layer. Colours: channels and gates lie in groups R, G, B; mask A
lets G see R of its own pixel, mask B also lets a group see itself (section 3.4); what comes from finished pixels is seen by all groups.

What differs from the paper:
- By default one hidden 1x1 layer in the output and no connections from the layers to it. ``output_layers=2`` is the paper's (1,024 channels
  each for colour, 32 for MNIST), ``skip=True`` its option of connections from every layer to the output; the preset "paper" has both.
  With ``skip`` the output reads their sum, and the last layer's features through its own connection only.
- The preset "paper" is the paper's for colour (CIFAR-10: 12 layers; h = 128 as we recall it), rounded up to multiples of 3 so that the
  colour groups are equal: 129 and 1,026. For one channel it is the Diagonal BiLSTM's for MNIST (7 layers, h = 16); for Row LSTM the paper
  gives no such size, it is ours.
- h and c before the first row or diagonal and outside the image are learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..layers.causal import CausalConvolution
from ..program.builder import Program, View
from ..protocol import ConditionSpec, ImageSpec
from .pixel_network import PixelNetwork
from .presets import check_config, choose, multiple_of


@dataclass(frozen=True, kw_only=True)
class PixelRNNConfig:
    """Sizes of a PixelRNN."""

    units: int = 16                # h of each layer; the residual stream holds 2h
    layers: int = 7                # recurrent layers
    first_kernel: int = 7          # side of the first kernel, with mask A
    hidden: int = 64               # channels of the output's hidden layers
    condition_channels: int = 16       # channels of s, made of a spatial map as condition
    condition_levels: int = 1          # resolutions at which the map is seen, the first of 3x3, each more twice as wide
    condition_exemplars: bool = False  # the map is a set of exemplars, each of which is read alike
    residual: bool = True          # x + 1x1(h) goes on, instead of 1x1(h)
    skip: bool = False             # the output reads the sum of a 1x1 of every layer's h, instead of the last layer's features
    output_layers: int = 1         # hidden layers of the output


class Recurrence(nn.Module):
    """A recurrent layer: features (B, H, W, 2h) → h (B, H, W, h), and its step.

    inputs: channels 2h that it reads.
    units: h.
    groups: colour groups.
    condition_size: values of the condition at one or every position, which a projection adds to the gates; 0 = none.
    """

    def __init__(self, inputs: int, units: int, groups: int, condition_size: int) -> None:
        super().__init__()
        self.units, self.groups = units, groups

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """The layer on whole images.

        x: (B, H, W, 2h).
        condition: as ``Condition`` gives it, or None.

        Returns h (B, H, W, h).
        """
        raise NotImplementedError

    def lower(self, program: Program, x: View, condition: View | None) -> View:
        """The layer in a step program.

        program: takes the operations.
        x: a feature map of the pixel phases.
        condition: as ``Condition.lower`` gives it, or None.

        Returns a feature map of the pixel phases.
        """
        raise NotImplementedError


class Block(nn.Module):
    """A recurrent layer, the 1x1 that leads back to the residual stream, and the one that leads to the output.

    recurrence: the layer.
    config: sizes.
    groups: colour groups.
    """

    def __init__(self, recurrence: Recurrence, config: PixelRNNConfig, groups: int) -> None:
        super().__init__()
        self.recurrence = recurrence
        self.residual = config.residual
        self.widen = CausalConvolution(config.units, 2 * config.units, centre="through", groups=groups)
        self.skip = CausalConvolution(config.units, 2 * config.units, centre="through", groups=groups) if config.skip else None

    def forward(self, x: Tensor, skipped: Tensor | None, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The block on whole images.

        x: (B, H, W, 2h).
        skipped: what earlier blocks give to the output, (B, H, W, 2h), or None.
        condition: as ``Condition`` gives it, or None.

        Returns x after the block, and what blocks so far give to the output, or None.
        """
        h = self.recurrence(x, condition)
        skipped = None if self.skip is None else self.skip(h, skipped)
        return self.widen(h, x if self.residual else None), skipped

    def lower(self, program: Program, x: View, skipped: View | None, condition: View | None) -> tuple[View, View | None]:
        """The block in a step program.

        program: takes the operations.
        x, skipped, condition: as for ``forward``, as feature maps.

        Returns the same as ``forward``, as feature maps.
        """
        h = self.recurrence.lower(program, x, condition)
        skipped = None if self.skip is None else self.skip.lower(program, h, skipped)
        return self.widen.lower(program, h, x if self.residual else None), skipped


class PixelRNN(PixelNetwork):
    """A PixelRNN of the recurrent layer that a subclass names.

    spec: of the images.
    config: sizes.
    condition_spec: of a class, a vector or a spatial map; None (default) = unconditional.
    guide: channels of a feature map that stands in the condition's place in every layer (``multiscale_pixelrnn.py``); default 0 = none.

    A subclass sets ``config_class`` and ``recurrence``, the class of its layers.
    """

    config_class: type[PixelRNNConfig]
    recurrence: type[Recurrence]

    def __init__(self, spec: ImageSpec, config: PixelRNNConfig, condition_spec: ConditionSpec | None = None, guide: int = 0) -> None:
        check_config(config, spec, grouped=("units", "hidden"), kernels=("first_kernel",))
        super().__init__(spec, config, condition_spec, guide, 2 * config.units)

    def block(self, condition_size: int) -> Block:
        recurrence = self.recurrence(2 * self.config.units, self.config.units, self.groups, condition_size)
        return Block(recurrence, self.config, self.groups)

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> PixelRNNConfig:
        """Sizes by name: "tiny" (tests), "small" (a laptop), "paper" (of CIFAR-10 for colour, else of MNIST; see the top).

        name: one of these.
        spec: of the images; numbers of channels are rounded up to multiples of their channels.
        overrides: options of the config that replace the preset's.

        Raises ``ValueError`` for an unknown name or option.
        """
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

    def guide_context(self) -> Tensor:
        """(H·W, H·W) bool: [i, j] = pixel i sees the guide at j, which enters the gates of every layer."""
        raise NotImplementedError
