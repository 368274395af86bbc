"""A multi-scale PixelRNN of Row LSTMs in the usual way; each scale reads the coarser values through two convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from plain.convolutions import nats_of_levels
from plain.row_lstm import network
from rastrum.layers.upsampling import Upsampling
from rastrum.model import Model
from rastrum.models.multiscale_pixelrnn import MultiscalePixelRNN
from rastrum.models.row_lstm import RowLSTM


class PlainMultiscale(nn.Module):
    def __init__(self, ours: MultiscalePixelRNN) -> None:
        super().__init__()
        guide, self.spacings, self.levels = ours.config.guide, ours.spacings, ours.spec.levels
        self.scales, self.look, self.spread = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for scale, net in enumerate(ours.scales):
            assert isinstance(net, RowLSTM)
            self.scales.append(network(net, guide if scale else 0))
        for factor, upsampling in zip(ours.config.factors, ours.upsamplings, strict=True):
            assert isinstance(upsampling, Upsampling)
            self.look.append(nn.Conv2d(1, guide, 3, padding=1))
            self.spread.append(nn.ConvTranspose2d(guide, guide, factor, stride=factor))
            self.look[-1].load_state_dict(upsampling.look.state_dict())
            self.spread[-1].load_state_dict(upsampling.spread.state_dict())

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        nats = torch.zeros(())
        for scale, (spacing, net) in enumerate(zip(self.spacings, self.scales, strict=True)):
            here, guide, known = x[:, :, ::spacing, ::spacing], None, None
            if scale:
                factor = self.spacings[scale - 1] // spacing
                known = here[:, :, ::factor, ::factor].float() * (2 / (self.levels - 1)) - 1
                guide = self.spread[scale - 1](self.look[scale - 1](known).relu()).relu()[:, :, : here.shape[2], : here.shape[3]]
            logits = net.features(here, guide)                            # pyright: ignore[reportCallIssue]
            nats = nats + nats_of_levels(logits, here)
            if scale:                                                     # what the coarser scale has decided costs nothing here
                factor = self.spacings[scale - 1] // spacing
                nats = nats - nats_of_levels(logits[:, :, ::factor, ::factor], here[:, :, ::factor, ::factor])
        return nats


def build(ours: Model) -> nn.Module:
    assert isinstance(ours, MultiscalePixelRNN) and ours.spec.channels == 1 and ours.config.base == "row-lstm"
    return PlainMultiscale(ours)
