"""Latents for these pictures: posteriors are moved by gradient descent to where a file says more of the pictures in as many bits.

    refined = Refined(model, x, condition, latents=4)
    refined.move(100, bits=600)             posteriors of the first four latents lie elsewhere, so that their KL is 600 bits per image
    refined.offsets                         by how much

The encoder was trained on other pictures, for files of all latents, at one trade-off of bits and error. For these pictures, at this rate,
and with the other latents at the mean of their prior, other posteriors are better, and a decoder need not know. Minimised is

    KL + λ · squared error,        λ ← λ · exp(ρ · (1 − KL / bits)),       or for a PSNR    λ ← λ · exp(ρ · (dB wanted − dB))

with the noise of the posteriors drawn anew each time, as in training; so the KL stays the length of a code. λ grows until the bits that are
allowed are used, or shrinks until only the wanted error is left. Where every value follows, what counts is the whole file,

    KL − log p(x | canvas)

Sources: Kim, Wiseman, Miller, Sontag, Rush 2018, "Semi-Amortized Variational Autoencoders"; Yang, Bamler, Mandt 2020, "Improving Inference
for Neural Image Compression", for the idea; the multiplier is ours.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from ..canvas import State
from ..latents import DitheredNormal, Uniform
from ..models.pixel_canvas import PixelCanvas

STEP, DUAL_STEP = 0.05, 0.2    # of the offsets and of log λ; both fall to 0 in the second half
BETAS = (0.9, 0.99)


class Refined:
    """Posteriors of images, to be moved.

    model: of their size, with uniform posteriors.
    x: levels (B, C, H, W), or (B, 1, H, W) of grey images for a model of several channels.
    condition: checked; None for an unconditional model.
    latents: how many the file holds, the first ones.
    seed: of the noise, 0 by default.

    Further attributes: ``offsets``, by how much each posterior is moved (``moved``): a tensor (B, Z, h, w) per latent.
    """

    @torch.inference_mode(False)                                          # in which there are no gradients
    def __init__(self, model: PixelCanvas, x: Tensor, condition: Tensor | None, latents: int, seed: int = 0) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)           # gradients are for offsets alone
        self.x, self.condition, self.grey = x.expand(-1, model.spec.channels, -1, -1).clone(), condition, x.shape[1] < model.spec.channels
        self.generator = torch.Generator().manual_seed(seed)
        self.target = x.to(model.dtype) / (model.spec.levels - 1)
        with torch.no_grad():
            *_, means = self._walk([None] * latents)
        self.offsets = [torch.zeros_like(mean) for mean in means]
        self._log_weight: Tensor | None = None

    @torch.inference_mode(False)
    @torch.enable_grad()
    def move(
        self, count: int, bits: float | None, psnr: float | None = None, report: Callable[[], object] = lambda: None
    ) -> None:
        """Take so many steps.

        count: of gradient descent.
        bits: KL per image that is to be used, above 0; None for as few as KL and values take together, which ``psnr`` does not change.
        psnr: of all images together that is to be reached instead, in dB; None (default) for ``bits``.
        report: called after each step.
        """
        offsets = [offset.requires_grad_() for offset in self.offsets]
        adam = torch.optim.Adam(offsets, lr=STEP, betas=BETAS)
        for number in range(count):
            rate = min(1.0, 2 * (1 - number / count))
            kl, state, _ = self._walk(offsets)
            loss = kl.mean() + (self._values(state) if bits is None else self._weighted(state, kl.mean(), bits, psnr, rate))
            adam.param_groups[0]["lr"] = STEP * rate
            adam.zero_grad()
            (len(self.x) * loss).backward()                               # Adam's epsilon is for images, not for their mean
            adam.step()
            report()
        self.offsets = [offset.detach() for offset in offsets]

    def _weighted(self, state: State, nats: Tensor, bits: float, psnr: float | None, rate: float) -> Tensor:
        """λ · squared error, and λ ← λ · …"""
        drawn = self.model.drawn(state)
        picture = self.model.picture(drawn.mean(1, keepdim=True) if self.grey else drawn)
        error = (picture - self.target).square().mean()
        with torch.no_grad():
            if self._log_weight is None:                                  # about the slope of the rates of bundled models
                self._log_weight = -torch.log(12 * error.clamp(min=1e-10))
            short = 1 - nats / (math.log(2) * bits) if psnr is None else psnr + 10 * torch.log10(error)
            self._log_weight += DUAL_STEP * rate * short.clamp(-1, 1)
        return torch.exp(self._log_weight) * self.target[0].numel() * error

    def _values(self, state: State) -> Tensor:
        """−log p(x | canvas), a mean of the images; of grey ones about that of the mean canvas."""
        nats = -self.model.distribution(state).log_prob(self.x).flatten(1).sum(1).mean()
        return nats / self.x.shape[1] if self.grey else nats

    def _walk(self, offsets: list[Tensor] | list[None]) -> tuple[Tensor, State, list[Tensor]]:
        """KL (B,), the state with the other latents at the mean of their prior, and the means of the posteriors."""
        model, state = self.model, self.model.init(len(self.x), self.condition)
        nats: list[Tensor] = []
        means: list[Tensor] = []
        for t in range(model.steps):
            prior = cast(DitheredNormal, model.prior(state))
            if t >= len(offsets):
                model.write(state, prior.mean)
                continue
            model.look(state, self.x)
            posterior = moved(cast(Uniform, model.posterior(state)), prior, offsets[t])
            z = posterior.sample(torch.randn(posterior.noise_shape, generator=self.generator, dtype=model.dtype))
            nats.append(posterior.kl(prior, z))
            means.append(posterior.mean)
            model.write(state, z)
        return torch.stack(nats).sum(0), state, means


def moved(posterior: Uniform, prior: DitheredNormal, offset: Tensor | None) -> Uniform:
    """A posterior elsewhere.

    posterior, prior: of the model.
    offset: in the narrower of the two, width or deviation, (B, *S); None for nowhere else.
    """
    if offset is None:
        return posterior
    unit = torch.exp(torch.minimum(posterior.log_width, prior.log_sd))    # of a lost latent a small part of the width is far from the prior
    return replace(posterior, mean=posterior.mean + unit * offset)
