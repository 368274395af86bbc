"""A canvas that holds the distribution of each value of the image: what DRAW and convolutional DRAW draw on.

    2 levels          a logit, p(x = 1) = σ(c)
    more than 2       two halves of channels, mean (levels lie in [−1, 1], the mean anywhere) and log scale of one discretised logistic;
                      if there are ``coefficients``, the mean of a channel also follows the earlier channels of its pixel

Dimensions: B batch · C channels of the image · halves 1 or 2.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from ..canvas import State
from ..devices import in_float64
from ..distributions import Bernoulli, CoupledLogistics, LogisticMixture
from ..protocol import ConditionSpec, ImageSpec, JointDistribution
from ..strokes import CanvasModel


class PixelCanvas(CanvasModel):
    """A subclass says where its canvas lies (``pixels``), and starts it from ``mean_canvas`` in ``initialise``."""

    coefficients: nn.Parameter | None

    def __init__(self, spec: ImageSpec, config: Any, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__(spec, config, condition_spec)
        self.register_parameter("coefficients", None)                     # between channels, (C, C), where a subclass has them

    @property
    def bernoulli(self) -> bool:
        """Whether images have two levels."""
        return self.spec.levels == 2

    @property
    def halves(self) -> int:
        """Values of the canvas for each value of the image: 1, or mean and log scale."""
        return 1 if self.bernoulli else 2

    @abstractmethod
    def pixels(self, state: State) -> Tensor:
        """The canvas of ``state`` as (B, halves·C, H, W)."""

    def drawn(self, state: State) -> Tensor:
        return self.pixels(state)[:, : self.spec.channels]

    def image(self, state: State) -> Tensor:
        return self.picture(self.drawn(state))

    def picture(self, drawn: Tensor) -> Tensor:
        """``drawn``, logits or means of any shape, as intensities in [0, 1]."""
        return torch.sigmoid(drawn) if self.bernoulli else (0.5 * drawn + 0.5).clamp(0, 1)

    def distribution(self, state: State) -> JointDistribution:
        if self.bernoulli:
            return Bernoulli(self.drawn(state))
        means, log_scales = self.pixels(state).chunk(2, dim=1)
        if self.coefficients is not None:
            return CoupledLogistics(means, log_scales, self.coefficients, self.spec.levels)
        return LogisticMixture(torch.zeros_like(means[..., None]), means[..., None], log_scales[..., None], self.spec.levels)

    def mean_canvas(self, x: Tensor) -> Tensor:
        """The canvas (halves·C, H, W), float64, that says the mean of images x (B, C, H, W), and their spread where it has a scale."""
        unit = in_float64(x) / (self.spec.levels - 1)
        mean = (unit.sum(0) + 0.5) / (len(x) + 1)
        if self.bernoulli:
            return torch.logit(mean)
        deviation = 2 * ((unit - mean).square().mean(0) + self.spec.levels**-2).sqrt()
        return torch.cat([2 * mean - 1, torch.log(math.sqrt(3) / math.pi * deviation)])
