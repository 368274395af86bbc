"""PixelCNN++ in the usual way: NCHW, kernels padded to where they look, weight norm by parametrization. For three channels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from plain.convolutions import copy_kernel, copy_taps
from rastrum.model import Model
from rastrum.models.pixelcnn_plus_plus import Block, PixelCNNPlusPlus, Upsample

U, UL = ((2, 3), (1, 1, 1, 0)), ((2, 2), (1, 0, 1, 0))                    # each stream's kernel and padding


def concat_elu(x: Tensor) -> Tensor:
    return F.elu(torch.cat([x, -x], 1))


class PaddedConv2d(nn.Module):
    def __init__(self, inputs: int, outputs: int, stream: tuple[tuple[int, int], tuple[int, ...]], stride: int = 1) -> None:
        super().__init__()
        kernel, self.padding = stream
        self.convolution = weight_norm(nn.Conv2d(inputs, outputs, kernel, stride))

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(F.pad(x, self.padding))


class GatedBlock(nn.Module):
    def __init__(self, filters: int, stream: tuple[tuple[int, int], tuple[int, ...]], sources: int, dropout: float) -> None:
        super().__init__()
        self.first = PaddedConv2d(2 * filters, filters, stream)
        self.shortcut = weight_norm(nn.Conv2d(2 * filters * sources, filters, 1)) if sources else None
        self.second, self.dropout = PaddedConv2d(2 * filters, 2 * filters, stream), nn.Dropout(dropout)

    def forward(self, x: Tensor, *sources: Tensor) -> Tensor:
        y = self.first(concat_elu(x))
        if self.shortcut is not None:
            y = y + self.shortcut(torch.cat([concat_elu(source) for source in sources], 1))
        a, b = self.second(self.dropout(concat_elu(y))).chunk(2, 1)
        return x + a * torch.sigmoid(b)


class PlainPixelCNNPlusPlus(nn.Module):
    def __init__(self, filters: int, blocks: int, components: int, dropout: float, levels: int) -> None:
        super().__init__()
        self.components, self.levels = components, levels

        def stage(sources: tuple[int, int]) -> nn.ModuleList:
            return nn.ModuleList(GatedBlock(filters, s, n, dropout) for s, n in zip((U, UL), sources, strict=True))

        def going(sources: tuple[int, int], count: list[int]) -> nn.ModuleList:
            return nn.ModuleList(nn.ModuleList(stage(sources) for _ in range(n)) for n in count)

        self.first_u = PaddedConv2d(4, filters, U)
        self.first_above = PaddedConv2d(4, filters, ((1, 3), (1, 1, 0, 0)))
        self.first_left = PaddedConv2d(4, filters, ((2, 1), (0, 0, 1, 0)))
        self.down, self.up = going((0, 1), [blocks] * 3), going((1, 2), [blocks + 1, blocks + 1, blocks])
        self.smaller = nn.ModuleList(nn.ModuleList(PaddedConv2d(filters, filters, s, 2) for s in (U, UL)) for _ in range(2))
        self.larger = nn.ModuleList(
            nn.ModuleList(weight_norm(nn.ConvTranspose2d(filters, filters, s[0], 2), dim=1) for s in (U, UL)) for _ in range(2)
        )
        self.output = weight_norm(nn.Conv2d(filters, 10 * components, 1))

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        x = x.float() * (2 / (self.levels - 1)) - 1
        seen = F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0)
        above, left = F.pad(seen[:, :, :-1], (0, 0, 1, 0)), F.pad(seen[..., :-1], (1, 0))
        u, ul = self.first_u(above), self.first_above(above) + self.first_left(left)
        skips = [(u, ul)]
        for level, stages in enumerate(self.down):
            for stage in stages:                                          # pyright: ignore[reportGeneralTypeIssues]
                u = stage[0](u)
                ul = stage[1](ul, u)
                skips.append((u, ul))
            if level < 2:
                u, ul = (layer(z) for layer, z in zip(self.smaller[level], (u, ul), strict=True))  # pyright: ignore[reportArgumentType]
                skips.append((u, ul))
        u, ul = skips.pop()
        for level in (2, 1, 0):
            for stage in self.up[level]:                                  # pyright: ignore[reportGeneralTypeIssues]
                skip_u, skip_ul = skips.pop()
                u = stage[0](u, skip_u)
                ul = stage[1](ul, u, skip_ul)
            if level:
                larger: nn.ModuleList = self.larger[level - 1]            # pyright: ignore[reportAssignmentType]
                height, width = skips[-1][0].shape[2:]
                u, ul = larger[0](u)[:, :, :height, 1 : width + 1], larger[1](ul)[:, :, :height, :width]
        return self.nats(x, self.output(F.elu(ul)))

    def nats(self, x: Tensor, parameters: Tensor) -> Tensor:
        """−log p of x (B, 3, H, W) in [−1, 1], by the mixture as it is usually written."""
        batch, _, height, width = x.shape
        parameters = parameters.view(batch, 10, self.components, height, width)
        logits, means, log_scales = parameters[:, 0], parameters[:, 1:4], parameters[:, 4:7].clamp(min=-7)
        coefficients = torch.tanh(parameters[:, 7:])
        x = x.unsqueeze(2)
        red, green, blue = means.unbind(1)
        green = green + coefficients[:, 0] * x[:, 0]
        blue = blue + coefficients[:, 1] * x[:, 0] + coefficients[:, 2] * x[:, 1]
        centred, steepness = x - torch.stack([red, green, blue], 1), torch.exp(-log_scales)
        upper, lower = (steepness * (centred + half) for half in (1 / (self.levels - 1), -1 / (self.levels - 1)))
        mass = torch.sigmoid(upper) - torch.sigmoid(lower)
        middle = steepness * centred
        density = middle - log_scales - 2 * F.softplus(middle) - torch.log(torch.tensor((self.levels - 1) / 2))
        inside = torch.where(mass > 1e-5, torch.log(mass.clamp(min=1e-12)), density)
        log_mass = torch.where(x < -0.999, upper - F.softplus(upper), torch.where(x > 0.999, -F.softplus(lower), inside))
        return -torch.logsumexp(log_mass.sum(1) + torch.log_softmax(logits, 1), 1).flatten(1).sum(1)


def build(ours: Model) -> nn.Module:
    assert isinstance(ours, PixelCNNPlusPlus) and ours.spec.channels == 3
    config = ours.config
    plain = PlainPixelCNNPlusPlus(config.filters, config.blocks, config.components, config.dropout, ours.spec.levels)
    origins = (1, 1), (1, 1)

    def copy(layer: Any, mine: Any, origin: tuple[int, int]) -> None:
        copy_taps(layer.convolution, mine, origin)

    copy(plain.first_u, ours.first_u, (1, 1))
    copy(plain.first_above, ours.first_above, (1, 1))
    copy(plain.first_left, ours.first_left, (1, 1))
    stages = [
        pair
        for mine, theirs in ((ours.down_blocks, plain.down), (ours.up_blocks, plain.up))
        for level, plain_level in zip(mine, theirs, strict=True)
        for pair in zip(level, plain_level, strict=True)                  # pyright: ignore[reportArgumentType]
    ]
    for stage, (u, ul) in stages:
        for block, theirs, origin in zip((stage.u, stage.ul), (u, ul), origins, strict=True):
            assert isinstance(block, Block)
            copy(theirs.first, block.first, origin)
            copy(theirs.second, block.second, origin)
            if block.shortcut is not None:
                copy_taps(theirs.shortcut, block.shortcut, (0, 0))
    for stage, (u, ul) in zip(ours.downsample, plain.smaller, strict=True):  # pyright: ignore[reportGeneralTypeIssues]
        copy(u, stage.u, (1, 1))
        copy(ul, stage.ul, (1, 1))
    for stage, pair in zip(ours.upsample, plain.larger, strict=True):
        for mine, theirs, first in zip((stage.u, stage.ul), pair, (1, 0), strict=True):  # pyright: ignore[reportArgumentType]
            assert isinstance(mine, Upsample)
            kernel = torch.zeros_like(theirs.weight)
            for tap, source, weight in zip(mine.taps, mine.source, mine.weights, strict=True):
                kernel[:, :, tap.down, first + tap.right - 2 * source] = weight.detach()
            copy_kernel(theirs, kernel, mine)
    copy_taps(plain.output, ours.output, (0, 0))
    return plain
