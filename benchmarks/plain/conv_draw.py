"""Convolutional DRAW of one layer in the usual way: NCHW, a ConvLSTM whose gates are one convolution, pixel_unshuffle for the strides."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plain.pixels import nats_of_canvas
from plain.recurrent import cell
from rastrum.model import Model
from rastrum.models.conv_draw import ConvDRAW


class PlainConvDRAW(nn.Module):
    def __init__(self, ours: ConvDRAW) -> None:
        super().__init__()
        self.levels, self.binary, config = ours.spec.levels, ours.spec.levels == 2, ours.config
        self.steps, self.stride, self.latent, self.beta, self.spec = ours.steps, config.stride, config.latent, config.beta, ours.spec
        self.halves = 1 if self.binary else 2
        features, kernel, blocks = config.features, config.kernel, ours.spec.channels * config.stride**2

        def convolution(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)

        self.encoder = convolution(2 * blocks + 2 * features, 4 * features)
        self.decoder = convolution(config.latent + self.halves * blocks + features, 4 * features)
        self.prior, self.posterior = convolution(features, 2 * config.latent), convolution(features, 2 * config.latent)
        self.write = convolution(features, self.halves * blocks)
        self.canvas = nn.Parameter(torch.zeros_like(ours.canvas))
        self.start = nn.Parameter(torch.zeros_like(ours.start[0]))

    def blocks(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        return F.pixel_unshuffle(F.pad(x, (0, -width % self.stride, 0, -height % self.stride)), self.stride)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        batch = len(x)
        values = x.float() if self.binary else 2 * x.float() / (self.levels - 1) - 1
        image = self.blocks(values)
        canvas = self.blocks(self.canvas.unsqueeze(0)).expand(batch, -1, -1, -1)
        encoder, encoder_cell, decoder, decoder_cell = (start.expand(batch, -1, -1, -1) for start in self.start)
        kl = torch.zeros(batch)
        for _ in range(self.steps):
            prior_mean, prior_log_sd = self.prior(decoder).chunk(2, 1)
            drawn = canvas[:, : image.shape[1]]
            error = image - (torch.sigmoid(drawn) if self.binary else drawn)
            encoder, encoder_cell = cell(self.encoder(torch.cat([image, error, decoder, encoder], 1)), encoder_cell)
            mean, log_sd = self.posterior(encoder).chunk(2, 1)
            z = mean + torch.exp(log_sd) * torch.randn(mean.shape)
            distance = (mean - prior_mean).square() + torch.exp(2 * log_sd)
            kl = kl + (prior_log_sd - log_sd + 0.5 * distance * torch.exp(-2 * prior_log_sd) - 0.5).flatten(1).sum(1)
            decoder, decoder_cell = cell(self.decoder(torch.cat([z, canvas, decoder], 1)), decoder_cell)
            canvas = canvas + self.write(decoder)
        pixels = F.pixel_shuffle(canvas, self.stride)[:, :, : self.spec.height, : self.spec.width]
        return kl + self.beta * nats_of_canvas(pixels, x, self.levels)


@torch.no_grad()
def build(ours: Model) -> nn.Module:
    assert isinstance(ours, ConvDRAW) and ours.config.layers == 1 and not ours.uniform and ours.condition_spec is None
    plain = PlainConvDRAW(ours)
    layers = ours.encoders[0].gates, ours.decoders[0].gates, ours.priors[0], ours.posteriors[0], ours.write_head
    mine = plain.encoder, plain.decoder, plain.prior, plain.posterior, plain.write
    for to, of in zip(mine, layers, strict=True):
        to.load_state_dict(of.state_dict())                                                 # pyright: ignore
    plain.canvas.copy_(ours.canvas)
    plain.start.copy_(ours.start[0])
    return plain
