"""The last layers of models with one categorical distribution for each value: levels as a Bernoulli or a softmax."""

from __future__ import annotations

from torch import Tensor, nn

from ..distributions import Bernoulli, Categorical
from ..program.builder import Head, Program, View
from ..protocol import ImageSpec
from .causal import CausalConvolution

MAX_LEVELS = 256


class Levels(nn.Module):
    """The distribution that a value's logits make.

    spec: of the images.

    ``outputs`` is the number of logits per value: 1 for two levels (a Bernoulli), else one per level (a softmax).
    Raises ``ValueError`` for more levels than a softmax holds, 256.
    """

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        if spec.levels > MAX_LEVELS:
            raise ValueError(f"levels: a softmax holds up to {MAX_LEVELS} levels, got {spec.levels}; use pixelcnn++ or fewer levels")
        self.outputs = 1 if spec.levels == 2 else spec.levels
        self.program_head = Head("bernoulli" if self.outputs == 1 else "softmax")

    def head(self, logits: Tensor) -> Bernoulli | Categorical:
        """The distribution of ``logits`` (…, outputs), of batch shape (…)."""
        return Bernoulli(logits.squeeze(-1)) if self.outputs == 1 else Categorical(logits)


class LevelsOutput(Levels):
    """relu, 1x1 (hidden), ``layers`` times, then relu and a 1x1 to the logits (van den Oord et al. 2016, table 1).

    spec: of the images; one logit per channel for two levels, else one per level.
    channels: of the features that it reads.
    hidden: channels of each hidden layer.
    layers: hidden layers; the paper has 2, default 1.
    """

    def __init__(self, spec: ImageSpec, channels: int, hidden: int, layers: int = 1) -> None:
        super().__init__(spec)
        self.spec, self.groups = spec, spec.channels
        self.hidden = CausalConvolution(channels, hidden, centre="through", groups=self.groups)
        self.further = nn.ModuleList(CausalConvolution(hidden, hidden, centre="through", groups=self.groups) for _ in range(layers - 1))
        self.logits = CausalConvolution(hidden, spec.channels * self.outputs, centre="through", groups=self.groups)

    def forward(self, h: Tensor) -> Tensor:
        """Features ``h`` (B, H, W, C) → logits (B, channels, H, W, logits per value)."""
        for layer in (self.hidden, *self.further):
            h = layer(h, before="relu")
        logits = self.logits(h, before="relu")
        return logits.unflatten(-1, (self.spec.channels, self.outputs)).permute(0, 3, 1, 2, 4)

    def lower(self, program: Program, h: View) -> None:
        """The layers in a step program, up to its outputs and head.

        program: takes the operations.
        h: features of the pixel phases.
        """
        h = self.hidden.lower(program, program.apply("relu", h))
        for layer in self.further:
            assert isinstance(layer, CausalConvolution)
            h = layer.lower(program, program.apply("relu", h))
        logits = self.logits.lower(program, program.apply("relu", h))
        for group in range(self.groups):
            program.output(group, logits.part(group, self.groups))
        program.head = self.program_head
