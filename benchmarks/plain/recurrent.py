"""What the recurrent references share: the cell of an LSTM, and the network of the PixelRNNs around their recurrent layers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from plain.convolutions import MaskedConv2d, copy_taps, nats_of_levels


def cell(gates: Tensor, before: Tensor, dim: int = 1) -> tuple[Tensor, Tensor]:
    """One step of an LSTM: pre-activations [o f i g] along ``dim``, and the cell before, to h and the cell."""
    o, f, i, g = gates.chunk(4, dim)
    c = torch.sigmoid(f) * before + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


class PlainPixelRNN(nn.Module):
    """7x7 with mask A, recurrent layers with residual and skip connections, 1x1 convolutions; NCHW, for images of one channel.

    layer: makes a recurrent layer, (B, 2h, H, W) and the guide or None to (B, h, H, W).
    config: a ``PixelRNNConfig``.
    levels: of the images.
    """

    def __init__(self, layer: Callable[[], nn.Module], config: Any, levels: int) -> None:
        super().__init__()
        assert config.residual
        self.levels, width = levels, 2 * config.units
        self.first = MaskedConv2d(1, width, config.first_kernel, "A")
        self.layers = nn.ModuleList(layer() for _ in range(config.layers))
        self.widen = nn.ModuleList(nn.Conv2d(config.units, width, 1) for _ in range(config.layers))
        self.skip = nn.ModuleList(nn.Conv2d(config.units, width, 1) for _ in range(config.layers if config.skip else 0))
        sizes = [width, *[config.hidden] * config.output_layers, 1 if levels == 2 else levels]
        self.output = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in pairwise(sizes))

    def features(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """Logits (B, n, H, W), n = 1 for two levels, of levels x (B, 1, H, W)."""
        h, skipped = self.first(x.float() * (2 / (self.levels - 1)) - 1), torch.zeros(())
        for n, (layer, widen) in enumerate(zip(self.layers, self.widen, strict=True)):
            state = layer(h, guide)
            h = h + widen(state)
            skipped = skipped + self.skip[n](state) if self.skip else h
        for convolution in self.output:
            skipped = convolution(skipped.relu())
        return skipped

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return nats_of_levels(self.features(x), x)

    def copy(self, ours: Any) -> None:
        """The weights of ``ours`` but for those of its recurrent layers."""
        reach = ours.config.first_kernel // 2
        copy_taps(self.first, ours.first, (reach, reach))
        for n, block in enumerate(ours.blocks):
            copy_taps(self.widen[n], block.widen, (0, 0))
            if self.skip:
                copy_taps(self.skip[n], block.skip, (0, 0))
        output = ours.output
        for mine, theirs in zip(self.output, [output.hidden, *output.further, output.logits], strict=True):
            copy_taps(mine, theirs, (0, 0))


def guide_convolution(guide: int, outputs: int) -> nn.Conv2d | None:
    """The 1x1 by which a layer reads a guide of that many channels; None for 0."""
    return nn.Conv2d(guide, outputs, 1, bias=False) if guide else None


def copy_guide(convolution: nn.Conv2d | None, projection: Any) -> None:
    """Weights of a ``ConditionProjection``."""
    if convolution is not None:
        with torch.no_grad():
            convolution.weight.copy_(projection.weight.t()[:, :, None, None])
