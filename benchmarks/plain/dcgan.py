"""DCGAN in the usual way: stacks of strided and transposed ``nn.Conv2d``, torch's ``spectral_norm``, hinge losses.

``spectral_norm`` keeps a vector and takes one step of the power method in each forward pass of a training step; it starts here where many
have been taken, so that its weights are those of ours, which has no such state, to some thousandths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from rastrum.model import Model
from rastrum.models.dcgan import DCGAN

CONVERGED = 300                # steps of the power method


class PixelNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def shrinking(widths: list[int], norm: Callable[[nn.Conv2d], nn.Module], between: Callable[[], nn.Module]) -> nn.Sequential:
    """Convolutions that halve the sides; ``norm`` of each one's weights, ``between`` after all but the first."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [norm(nn.Conv2d(before, after, 4, 2, 1)), *([between()] if layers else []), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)


def growing(widths: list[int]) -> nn.Sequential:
    """Transposed convolutions that double the sides."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.ConvTranspose2d(before, after, 4, 2, 1), PixelNorm(), nn.ReLU()]
    return nn.Sequential(*layers[:-2])


class PlainDCGAN(nn.Module):
    """Called, it gives the discriminator's loss of each image."""

    def __init__(self, ours: DCGAN) -> None:
        super().__init__()
        config, spec = ours.config, ours.spec
        self.levels, self.latent, self.coarse = spec.levels, config.latent, ours.coarse
        self.widths = [spec.channels, *(config.features << n for n in range(config.scales))]
        size = ours.start.out_features
        self.start = nn.Linear(config.latent, size)
        self.grow = growing([ours._drawn_from, *self.widths[-2::-1]])
        self.discriminator = nn.Sequential(
            shrinking(self.widths, spectral_norm, nn.Identity), nn.Flatten(), spectral_norm(nn.Linear(size, 1)), nn.Flatten(0)
        )

    def pictures(self, count: int) -> Tensor:
        """In [−1, 1], (count, C, H, W)."""
        h = self.start(torch.randn(count, self.latent)).view(count, *self.coarse)
        h = F.relu(h * torch.rsqrt(h.square().mean(1, keepdim=True) + 1e-8))
        return 2 * torch.sigmoid(self.grow(h)) - 1

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        with torch.no_grad():
            drawn = self.pictures(len(x))
        return F.relu(1 - self.discriminator(x.float() * (2 / (self.levels - 1)) - 1)) + F.relu(1 + self.discriminator(drawn))

    def generator_loss(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return -self.discriminator(self.pictures(len(x)))

    def objectives(self) -> Iterator[tuple[Any, list[nn.Parameter]]]:
        """A step lowers the discriminator's loss, then the generator's."""
        judging = list(self.discriminator.parameters())
        yield self, judging
        yield self.generator_loss, [p for p in self.parameters() if not any(p is each for each in judging)]


def layers(module: nn.Module) -> list[Any]:
    """Those with weights, in their order."""
    return [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]


@torch.no_grad()
def copy(to: nn.Module, of: nn.Module) -> None:
    """Weights and biases of all layers, of spectrally normalised ones those before it."""
    for mine, ours in zip(layers(to), layers(of), strict=True):
        mine.bias.copy_(ours.bias)
        if hasattr(mine, "parametrizations"):
            mine.parametrizations.weight.original.copy_(ours.parametrizations.weight.original)
            mine.parametrizations.weight[0]._power_method(mine.parametrizations.weight.original.flatten(1), CONVERGED)
        else:
            mine.weight.copy_(ours.weight)


def build(ours: Model) -> nn.Module:
    assert isinstance(ours, DCGAN) and type(ours) is DCGAN
    check(ours)
    plain = PlainDCGAN(ours)
    for name in ("start", "grow", "discriminator"):
        copy(getattr(plain, name), getattr(ours, name))
    return plain


def check(ours: DCGAN) -> None:
    """That the reference can be of ours."""
    config, spec = ours.config, ours.spec
    assert config.loss == "hinge" and (config.generator_norm, config.discriminator_norm) == ("pixel", "spectral")
    assert ours.condition_spec is None and all(side % 2**config.scales == 0 for side in (spec.height, spec.width)), "no side is padded here"
