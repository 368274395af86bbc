"""GRAN in the usual way: DCGAN's parts (``dcgan.py``), and a stack of strided convolutions that sees the last stroke."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from plain.dcgan import PixelNorm, PlainDCGAN, check, copy, shrinking
from rastrum.model import Model
from rastrum.models.gran import GRAN


class PlainGRAN(PlainDCGAN):
    def __init__(self, ours: GRAN) -> None:
        super().__init__(ours)
        self.steps = ours.steps
        self.see = shrinking(self.widths, lambda convolution: convolution, PixelNorm)

    def pictures(self, count: int) -> Tensor:
        canvas, seen = torch.zeros(()), torch.zeros(count, *self.coarse)
        for step in range(self.steps):
            drawn = torch.tanh(self.start(torch.randn(count, self.latent))).view(count, *self.coarse)
            added = self.grow(torch.cat([drawn, seen], 1))
            canvas = canvas + added
            if step + 1 < self.steps:
                seen = self.see(added)
        return 2 * torch.sigmoid(canvas) - 1


def build(ours: Model) -> nn.Module:
    assert isinstance(ours, GRAN) and ours.config.noise == "per_step"
    check(ours)
    plain = PlainGRAN(ours)
    for name in ("start", "grow", "see", "discriminator"):
        copy(getattr(plain, name), getattr(ours, name))
    return plain
