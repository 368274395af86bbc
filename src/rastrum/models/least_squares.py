"""A small network above linear predictors that adapt to the image while it is drawn: the model for photographs of any size.

    values before (i, j) ──▶ least squares of two memories ──▶ prediction p_c, of each channel, and its errors nearby ──▶ scale s_c
                       └───▶ differences and errors around the pixel, divided by the scales ──▶ v ──▶ t
    [t; (x_k − p_k) / s_k for k < c] ──▶ K Gaussians of (x_c − p_c) / s_c ──▶ p(x_c | everything before)

    t = h + relu(B h),  h = relu(A v)          [π; m; l] = D_c relu(C_c [t; …])        p(x_c) = Σ_k π_k N(x_c; p_c + s_c m_k, (s_c e^l_k)²)

The predictors (``native/least_squares.py``) have no parameters: what they know they learn from the image itself, which takes them a few
hundred pixels. The network corrects them, and says how far off they may be. All that it reads is relative to the local scale, so that the
weights serve images of any size, contrast and number of levels. Of three channels the second, green, comes first: red and blue are
predicted better from it than it from them. It is made for coding: drawn freely, the predictors adapt to their own
noise and make textures.

Sources: Li, Orchard, "Edge-Directed Prediction for Lossless Compression of Natural Images", 2001, for predictors solved by least squares
on what is decoded; Meyer, Tischer, "TMW – a New Method for Lossless Image Compression", 1997, for blending them by probability.

What differs from these:
- Least squares forget with distance instead of having a window, in two ways that are blended; they are weighted by the errors nearby, and
  read the other channels.
- A network takes the place of their error models and blending.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..autocast import full_precision
from ..card import Paper
from ..devices import in_float64
from ..distributions import GaussianMixture
from ..layers.adaptive import AdaptivePrediction
from ..layers.causal import CausalConvolution
from ..native.codes import LIMIT
from ..program.builder import Head, Program, View
from ..protocol import ConditionSpec, Distribution, ImageSpec, raster_order
from ..raster import RasterModel
from .presets import check_config, choose


@dataclass(frozen=True, kw_only=True)
class LeastSquaresConfig:
    """Sizes of the network."""

    hidden: int = 160              # values of h and t
    head: int = 48                 # values of each channel's own layer
    components: int = 6            # K Gaussians


class LeastSquares(RasterModel):
    """Adaptive linear predictors, and a network that turns their errors into a mixture of Gaussians.

    spec: of the images, up to 65,536 levels.
    config: sizes.
    condition_spec: None, it takes no condition.

    Its predictors run on the CPU and are compiled, so numba must be installed.
    """

    name = "least-squares"
    config_class = LeastSquaresConfig
    paper = Paper("Edge-Directed Prediction for Lossless Compression of Natural Images", "Li, Orchard", 2001)
    conditions = ()
    lower_reads_only_parameters = True

    def __init__(self, spec: ImageSpec, config: LeastSquaresConfig, condition_spec: ConditionSpec | None = None) -> None:
        colours = [1, 0, 2] if spec.channels == 3 else list(range(spec.channels))    # green first
        super().__init__(spec, condition_spec, raster_order(spec, colours))
        check_config(config, spec)
        self.config, self.groups, self.colours = config, spec.channels, colours
        self.prediction = AdaptivePrediction(spec.channels)
        hidden, outputs = config.hidden, 3 * config.components
        self.first = CausalConvolution(self.prediction.shown, hidden, centre="through")
        self.second = CausalConvolution(hidden, hidden, centre="through")
        self.own = nn.ModuleList(CausalConvolution(hidden + channel, config.head, centre="through") for channel in range(spec.channels))
        self.heads = nn.ModuleList(CausalConvolution(config.head, outputs, centre="through") for _ in range(spec.channels))
        few = max(0.0, math.log(255 / (spec.levels - 1)))                 # scales are of a level of 256 and more
        with torch.no_grad():                                             # from narrow to wide around the prediction
            for head in self.heads:
                assert isinstance(head, CausalConvolution) and head.bias is not None
                head.weights[0].mul_(0.1)
                head.bias.copy_(torch.cat([torch.zeros(2 * config.components), few + torch.linspace(-1.5, 1.5, config.components)]))

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> LeastSquaresConfig:
        """Sizes by name: "tiny" (tests), "small" (photographs on a CPU) or "paper" (wider, as no paper has it).

        name: one of these.
        spec: of the images; the sizes do not depend on it.
        overrides: options of the config that replace the preset's.

        Raises ``ValueError`` for an unknown name or option.
        """
        return choose(
            LeastSquaresConfig,
            name,
            overrides,
            tiny=dict(hidden=8, head=6, components=2),
            small=dict(),
            paper=dict(hidden=256, head=96, components=10),
        )

    def distribution(self, x: Tensor, condition: Tensor | None = None) -> GaussianMixture:
        values = self.spec.scale(x[:, self.colours], self.dtype).permute(0, 2, 3, 1)
        around = self.prediction(values)
        with full_precision():
            errors = ((values - around.predictions) * around.inverse).clamp(-LIMIT, LIMIT)
        t = F.relu(self.first(around.shown))
        t = t + F.relu(self.second(t))
        parts: list[tuple[Tensor, ...]] = []
        for channel, (own, head) in enumerate(zip(self.own, self.heads, strict=True)):
            h = F.relu(own(torch.cat([t, errors[..., :channel].to(t.dtype)], -1)))
            with full_precision():
                logits, means, log_scales = head(h.to(self.dtype)).chunk(3, -1)
                means = around.predictions[..., channel, None] + around.scales[..., channel, None] * means
                parts.append((logits, means, around.logs[..., channel, None] + log_scales))
        parts = [parts[self.colours.index(channel)] for channel in range(self.spec.channels)]
        return GaussianMixture(*(torch.stack(part, 1) for part in zip(*parts, strict=True)), levels=self.spec.levels)

    def lower(self, program: Program) -> None:
        """One step of the model, written to ``program``."""
        program.colours = self.colours
        x, channels, count = program.values(), self.spec.channels, self.config.components
        around = self.prediction.maps(program)
        ones = torch.ones(1, count).to(self.first.weights[0])
        t = None
        for channel, (own, head) in enumerate(zip(self.own, self.heads, strict=True)):
            with program.phase("channel", channel):
                self.prediction.lower(program, around, channel)
                if t is None:
                    h = program.apply("relu", _layer(program, self.first, around.shown))
                    t = program.map(self.config.hidden + channels - 1)    # after t, the errors as they become known
                    known = View(t.buffer, 0, self.config.hidden)
                    program.append("add", program.apply("relu", _layer(program, self.second, h)), known, h)
                else:
                    before = channel - 1
                    error = View(t.buffer, self.config.hidden + before, 1)
                    less = program.linear(View(around.predictions.buffer, before, 1), -ones[:, :1], initial=x.part(before, channels))
                    program.append("multiply", less, error, around.inverse.part(before, channels))
                    program.append("clamp", error, error)
                seen = View(t.buffer, 0, self.config.hidden + channel)
                out = _layer(program, head, program.apply("relu", _layer(program, own, seen)))
                mixture = program.map(3 * count)
                program.append("copy", out.part(0, 3), mixture.part(0, 3))
                scales = program.linear(around.scales.part(channel, channels), ones)
                program.append("multiply", out.part(1, 3), scales, scales)
                prediction = View(around.predictions.buffer, channel, 1)
                program.linear(prediction, ones, initial=scales, destination=mixture.part(1, 3))
                program.linear(around.logs.part(channel, channels), ones, initial=out.part(2, 3), destination=mixture.part(2, 3))
                program.output(channel, mixture)
        program.head = Head("gaussian", count)

    def head(self, parameters: Tensor, x: Tensor, index: int, previous: Distribution | None) -> GaussianMixture:
        return GaussianMixture(*in_float64(parameters).chunk(3, -1), levels=self.spec.levels)


def _layer(program: Program, layer: Any, x: View) -> View:
    """A layer of single pixels, on a view of the open phase."""
    return program.linear(x, layer.weights[0], layer.bias)
