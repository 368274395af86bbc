"""Video Pixel Network in the usual way: frames in NCHW, square kernels times a mask, a ConvLSTM step by step. For one channel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from plain.convolutions import MaskedConv2d, copy_taps, nats_of_levels
from rastrum.model import Model
from rastrum.models.video_pixel_network import VideoPixelNetwork


def unit(gates: Tensor, h: Tensor) -> Tensor:
    """The multiplicative unit of gates (B, 4c, H, W) and h (B, c, H, W)."""
    g1, g2, g3, u = gates.chunk(4, 1)
    return torch.sigmoid(g1) * torch.tanh(torch.sigmoid(g2) * h + torch.sigmoid(g3) * torch.tanh(u))


class EncoderBlock(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.narrow, self.widen = nn.Conv2d(2 * channels, channels, 1), nn.Conv2d(channels, 2 * channels, 1)
        self.units = nn.ModuleList(
            nn.Conv2d(channels, 4 * channels, 3, padding=dilation, dilation=dilation) for _ in range(2)
        )

    def forward(self, h: Tensor) -> Tensor:
        y = self.narrow(h)
        for convolution in self.units:
            y = unit(convolution(y), y)
        return h + self.widen(y)


class DecoderBlock(nn.Module):
    def __init__(self, channels: int, known: int) -> None:
        super().__init__()
        self.narrow, self.widen = nn.Conv2d(2 * channels, channels, 1), nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.units = nn.ModuleList(MaskedConv2d(channels, 4 * channels, 3, "B") for _ in range(2))
        self.condition = nn.ModuleList(nn.Conv2d(known, 4 * channels, 1, bias=False) for _ in range(2))

    def forward(self, h: Tensor, known: Tensor) -> Tensor:
        y = self.narrow(h)
        for convolution, condition in zip(self.units, self.condition, strict=True):
            y = unit(convolution(y) + condition(known), y)
        return h + self.widen(y)


class ConvLSTM(nn.Module):
    def __init__(self, channels: int, units: int) -> None:
        super().__init__()
        self.enter, self.keep = nn.Conv2d(channels, 4 * units, 3, padding=1), nn.Conv2d(units, 4 * units, 3, padding=1, bias=False)
        self.widen = nn.Conv2d(units, channels, 1)
        self.first_h, self.first_cell = nn.Parameter(torch.zeros(units)), nn.Parameter(torch.zeros(units))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C, H, W) → the same shape."""
        batch, frames, _, height, width = x.shape
        gates = self.enter(x.flatten(0, 1)).unflatten(0, (batch, frames))
        h, cell = (first.view(1, -1, 1, 1).expand(batch, -1, height, width) for first in (self.first_h, self.first_cell))
        after = []
        for t in range(frames):
            o, f, i, g = (gates[:, t] + self.keep(h)).chunk(4, 1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(cell)
            after.append(h)
        return x + self.widen(torch.stack(after, 1).flatten(0, 1)).unflatten(0, (batch, frames))


class PlainVideoPixelNetwork(nn.Module):
    def __init__(self, config: Any, levels: int) -> None:
        super().__init__()
        known, self.levels = 2 * config.encoder_channels, levels
        self.look = nn.Conv2d(1, known, 3, padding=1)
        self.memory = ConvLSTM(known, config.units)
        self.encoder = nn.Sequential(*(EncoderBlock(config.encoder_channels, dilation) for dilation in config.dilations))
        self.beginning = nn.Parameter(torch.zeros(known))
        self.first = MaskedConv2d(1, 2 * config.channels, config.first_kernel, "A")
        self.decoder = nn.ModuleList(DecoderBlock(config.channels, known) for _ in range(config.layers))
        self.hidden = nn.Conv2d(2 * config.channels, config.hidden, 1)
        self.logits = nn.Conv2d(config.hidden, 1 if levels == 2 else levels, 1)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        batch, frames, _, height, width = x.shape
        scaled = x.float() * (2 / (self.levels - 1)) - 1
        seen = self.look(scaled[:, :-1].flatten(0, 1)).unflatten(0, (batch, frames - 1))
        seen = self.encoder(self.memory(seen).flatten(0, 1)).unflatten(0, (batch, frames - 1))
        known = torch.cat([self.beginning.view(1, 1, -1, 1, 1).expand(batch, 1, -1, height, width), seen], 1).flatten(0, 1)
        h = self.first(scaled.flatten(0, 1))
        for block in self.decoder:
            h = block(h, known)
        nats = nats_of_levels(self.logits(self.hidden(h.relu()).relu()), x.flatten(0, 1))
        return nats.view(batch, frames).sum(1)


def build(ours: Model) -> nn.Module:
    assert isinstance(ours, VideoPixelNetwork) and ours.spec.channels == 1 and ours.config.memory == "before" and ours.config.recurrent
    plain = PlainVideoPixelNetwork(ours.config, ours.spec.levels)
    same = {name: value for name, value in ours.state_dict().items() if name.split(".")[0] in ("look", "memory", "encoder", "beginning")}
    plain.load_state_dict(same, strict=False)
    reach = ours.config.first_kernel // 2
    copy_taps(plain.first, ours.first, (reach, reach))
    blocks: Any = zip(plain.decoder, ours.decoder, strict=True)
    for theirs, block in blocks:
        copy_taps(theirs.narrow, block.narrow, (0, 0))
        copy_taps(theirs.widen, block.widen, (0, 0))
        for n in range(2):
            copy_taps(theirs.units[n], block.units[n], (1, 1))
            theirs.condition[n].weight.data.copy_(block.condition[n].weight.t()[:, :, None, None])
    copy_taps(plain.hidden, ours.output.hidden, (0, 0))
    copy_taps(plain.logits, ours.output.logits, (0, 0))
    return plain
