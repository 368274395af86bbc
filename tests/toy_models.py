"""Models as a user would write them: only ``distribution``, and orders other than the raster's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rastrum import ImageSpec, RasterModel
from rastrum.distributions import Categorical
from rastrum.protocol import raster_order


class BottomUp(RasterModel):
    """Draws the bottom row first. Each decision has its own small network over the earlier values, which is causal for any ``order``."""

    def __init__(self, spec: ImageSpec, order: Tensor | None = None, hidden: int = 3, seed: int = 0) -> None:
        super().__init__(spec, order=rows_reversed(spec) if order is None else order)
        rank = self.order.argsort()                                       # when each flat index is decided
        self.before: Tensor
        self.register_buffer("before", rank[None] < rank[:, None], persistent=False)
        generator = torch.Generator().manual_seed(seed)
        shapes = {"look": (spec.size, hidden, spec.size), "bias": (spec.size, hidden), "say": (spec.size, hidden, spec.levels)}
        self.weights = nn.ParameterDict({name: torch.randn(shape, generator=generator) for name, shape in shapes.items()})

    def distribution(self, x: Tensor, condition: Tensor | None = None) -> Categorical:
        look, bias, say = (self.weights[name] for name in ("look", "bias", "say"))
        values = self.spec.scale(x.flatten(1), self.dtype)
        hidden = torch.tanh(torch.einsum("bj,ihj->bih", values, look * self.before[:, None]) + bias)
        return Categorical(torch.einsum("bih,ihl->bil", hidden, say).unflatten(1, self.spec.shape))

    def context(self) -> Tensor:
        return self.before


class TwoResolutions(BottomUp):
    """Decides every second row and column first, then the values between them."""

    def __init__(self, spec: ImageSpec, hidden: int = 3, seed: int = 0) -> None:
        super().__init__(spec, subsampled_first(spec), hidden, seed)


def rows_reversed(spec: ImageSpec) -> Tensor:
    """(D,) the order of decisions, bottom row first, from the left, channel by channel."""
    return raster_order(spec).view(spec.frames, spec.height, -1).flip(1).flatten()


def subsampled_first(spec: ImageSpec) -> Tensor:
    """(D,) the order of decisions, even rows and columns first, both halves in raster order."""
    order = raster_order(spec)
    row, column = order // spec.width % spec.height, order % spec.width
    coarse = (row % 2 == 0) & (column % 2 == 0)
    return torch.cat([order[coarse], order[~coarse]])
