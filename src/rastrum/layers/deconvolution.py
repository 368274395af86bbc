"""DCGAN's two halves: convolutions that halve a picture's sides down to a small map, and transposed ones that double them again.

    Shrinking   (B, C, H, W) ─▶ 4x4 at every other pixel ─▶ norm ─▶ leaky relu ─▶ … ─▶ (B, F·2^(n−1), ⌈H/2ⁿ⌉, ⌈W/2ⁿ⌉)
    Growing     the sides of the way down, backwards: transposed 4x4 ─▶ cropped ─▶ norm ─▶ relu ─▶ … ─▶ (B, outputs, H, W)

Source: Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional GANs", 2016. Any size works: odd sides are
filled with a row or column of zeros on the way down, and cropped on the way up.

Dimensions: B batch · C channels · F features · n scales · H, W height and width.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .spectral import SpectralNorm

Norm: TypeAlias = Literal["batch", "pixel", "spectral", "none"]


class PixelNorm(nn.Module):
    """The channels of each position divided by their root mean square (Karras et al. 2018): like a batch norm that sees no other image."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def sides(height: int, width: int, scales: int) -> list[tuple[int, int]]:
    """Height and width from the picture's own to those after ``scales`` halvings, rounded up.

    height, width: of the picture.
    scales: number of halvings.
    """
    return [(-(-height // 2**n), -(-width // 2**n)) for n in range(scales + 1)]


class Shrinking(nn.Module):
    """Halves a picture's sides ``scales`` times.

    inputs: channels of the picture.
    features: channels after the first halving; twice as many after each further one.
    scales: number of halvings.
    norm: after each convolution but the first: "batch" or "pixel"; of its weights: "spectral"; or "none".
    """

    def __init__(self, inputs: int, features: int, scales: int, norm: Norm) -> None:
        super().__init__()
        sizes = [inputs, *(features << n for n in range(scales))]
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList()
        for n, (below, above) in enumerate(pairwise(sizes)):
            self.convolutions.append(normalised(_scaled(nn.Conv2d(below, above, 4, 2, 1), 16 * below), norm))
            self.norms.append(norm_of(norm if n else "none", above))

    def forward(self, x: Tensor) -> Tensor:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            height, width = x.shape[2:]
            x = F.leaky_relu(norm(convolution(F.pad(x, (0, width % 2, 0, height % 2)))), 0.2)
        return x


class Growing(nn.Module):
    """Doubles a small map's sides ``scales`` times.

    inputs: channels of the map.
    features: channels before the last doubling; twice as many before each earlier one.
    outputs: channels of the result.
    height, width: of the result.
    scales: number of doublings.
    norm: after each transposed convolution but the last: "batch", "pixel" or "none".
    """

    def __init__(self, inputs: int, features: int, outputs: int, height: int, width: int, scales: int, norm: Norm) -> None:
        super().__init__()
        self.sides = sides(height, width, scales)[-2::-1]
        sizes = [inputs, *(features << n for n in range(scales - 2, -1, -1)), outputs]
        layers = list(pairwise(sizes))
        self.convolutions = nn.ModuleList(_scaled(nn.ConvTranspose2d(below, above, 4, 2, 1), 4 * below) for below, above in layers)
        self.norms = nn.ModuleList(norm_of(norm, above) for _, above in layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        for n, (convolution, (height, width)) in enumerate(zip(self.convolutions, self.sides, strict=True)):
            x = convolution(x)[:, :, :height, :width]
            if n < len(self.norms):
                x = F.relu(self.norms[n](x))
        return x


def normalised(layer: nn.Module, norm: Norm) -> nn.Module:
    """The layer, with its weight normalised where ``norm`` is "spectral".

    layer: with a weight of (outputs, …).
    norm: as above.
    """
    if norm == "spectral":
        parametrize.register_parametrization(layer, "weight", SpectralNorm())
    return layer


def norm_of(norm: Norm, channels: int) -> nn.Module:
    """The layer that normalises feature maps; the identity for "none" and "spectral".

    norm: as above.
    channels: of the maps.
    """
    return nn.BatchNorm2d(channels) if norm == "batch" else PixelNorm() if norm == "pixel" else nn.Identity()


def _scaled(layer: nn.Conv2d | nn.ConvTranspose2d, summed: int) -> nn.Conv2d | nn.ConvTranspose2d:
    """Weights of standard deviation √(2 / values that a sum has), biases of 0."""
    nn.init.normal_(layer.weight, std=(2 / summed) ** 0.5)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
