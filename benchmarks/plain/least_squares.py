"""The network above the adaptive predictors in the usual way: linear layers over the pixels, and normal distributions by their CDF.

The predictors have no parameters, and a user would not write them in Python: both models are given what they say of an image, computed
once (``Known``). So what is compared is the network and its likelihood.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rastrum.distributions import lowest_log_scale
from rastrum.layers.adaptive import AdaptivePrediction, Around
from rastrum.model import Model
from rastrum.models.least_squares import LIMIT, LeastSquares


class Known(AdaptivePrediction):
    """The predictors, which look up what they have said before."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.said: dict[tuple[int, bytes], Around] = {}

    def forward(self, values: Tensor) -> Around:
        key = len(values), values.detach().numpy().tobytes()
        if key not in self.said:
            self.said[key] = super().forward(values)
        return self.said[key]


class PlainLeastSquares(nn.Module):
    def __init__(self, ours: LeastSquares, known: Known) -> None:
        super().__init__()
        self.known, self.levels, self.colours = known, ours.spec.levels, ours.colours

        def linear(theirs: Any) -> nn.Linear:
            (weight,) = theirs.weights
            mine = nn.Linear(*weight.shape)
            with torch.no_grad():
                mine.weight.copy_(weight.t())
                mine.bias.copy_(theirs.bias)
            return mine

        self.first, self.second = linear(ours.first), linear(ours.second)
        self.own, self.heads = nn.ModuleList(map(linear, ours.own)), nn.ModuleList(map(linear, ours.heads))

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        x = x[:, self.colours]
        values = (x.float() * (2 / (self.levels - 1)) - 1).permute(0, 2, 3, 1)
        around = self.known(values)
        errors = ((values - around.predictions) * around.inverse).clamp(-LIMIT, LIMIT)
        t = self.first(around.shown).relu()
        t = t + self.second(t).relu()
        nats = torch.zeros(len(x))
        for channel, (own, head) in enumerate(zip(self.own, self.heads, strict=True)):
            logits, means, log_scales = head(own(torch.cat([t, errors[..., :channel]], -1)).relu()).chunk(3, -1)
            centre = around.predictions[..., channel, None] + around.scales[..., channel, None] * means
            scale = (around.logs[..., channel, None] + log_scales).clamp(min=lowest_log_scale(self.levels)).exp()
            value, half = values[..., channel, None], 1 / (self.levels - 1)
            off, level, log_cdf = value - centre, x[:, channel, :, :, None], torch.special.log_ndtr
            above, below = (log_cdf((edge - off.abs()) / scale) for edge in (half, -half))  # on the lower side, where floats are dense
            log_mass = above + torch.log(-torch.expm1(below - above))
            log_mass = torch.where(level == 0, log_cdf((off + half) / scale), log_mass)
            log_mass = torch.where(level == self.levels - 1, log_cdf((half - off) / scale), log_mass)
            nats = nats + torch.logsumexp(logits.log_softmax(-1) + log_mass, -1).flatten(1).sum(1)
        return -nats


def build(ours: Model) -> nn.Module:
    assert isinstance(ours, LeastSquares)
    ours.prediction = known = Known(ours.spec.channels)
    return PlainLeastSquares(ours, known)
