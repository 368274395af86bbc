"""What a model draws while it is trained: latents, dropout, dequantisation.

A draw belongs to (seed, position of the image in the training, number of the draw), like all noise here: no generator is advanced, so
pieces of a batch may run in any order, on any number of threads, and a run that goes on from a checkpoint draws what it would have drawn.

    with drawing(seed, positions):       the positions of the images of the piece that this thread works on
        loss = model.loss(x)             draws by standard_normal, uniform_noise and dropout below

Outside of ``drawing`` they are torch's own functions, and draw from torch's generator.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .noise import TRAINING, words

SUPPLY = 1 << 12               # words of an image that are computed at once, for small draws
WORTH_COMPILED = 1 << 13       # words of an image: importing numba takes half a second

_thread = threading.local()


class _Draws:
    """Words for images at ``positions``; every call takes new ones, small ones of a supply, whose size does not depend on the piece."""

    def __init__(self, seed: int, positions: np.ndarray, number: int = 0) -> None:
        self.seed, self.positions, self.refills = seed, positions % 2**32, number << 24
        self.supply = np.empty((len(positions), 0), np.uint32)

    def words(self, shape: torch.Size, share: int = 1) -> np.ndarray:
        """As many words as ``shape`` (B · n, …) has values, or a ``share`` of them, image by image: (B, …) uint32."""
        each, left = divmod(shape.numel(), len(self.positions))
        assert not left, f"noise of shape {tuple(shape)} for {len(self.positions)} images"
        each = -(-each // share)
        if self.supply.shape[1] < each:
            self.refills += 1
            size = each * max(1, min(16, SUPPLY // max(each, 1)))
            self.supply = _words(self.seed, self.positions, size, self.refills)
        taken, self.supply = self.supply[:, :each], self.supply[:, each:]
        return taken


def _words(seed: int, images: np.ndarray, count: int, component: int) -> np.ndarray:
    """``words`` for training, compiled where there is much to compute."""
    if count < WORTH_COMPILED:
        return words(seed, images, count, component, TRAINING)
    from .native import compiler

    if not compiler.available:
        return words(seed, images, count, component, TRAINING)
    from .native.noise import philox_words

    out = np.empty((len(images), -(-count // 4), 4), np.uint32)
    philox_words(np.uint64(seed), np.asarray(images, np.uint64), np.uint64(component), np.uint64(TRAINING), out)
    return out.reshape(len(images), -1)[:, :count]


@contextmanager
def drawing(seed: int, positions: np.ndarray, number: int = 0) -> Iterator[None]:
    """In this thread, what models draw belongs to the images at these positions of the training with this seed.

    seed: of the training.
    positions: whole numbers, one per image.
    number: of the objective of a training step, 0 by default; each has draws of its own.
    """
    before = getattr(_thread, "draws", None)
    _thread.draws = _Draws(seed, positions, number)
    try:
        yield
    finally:
        _thread.draws = before


def standard_normal(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Standard normal noise, the first dimension over images; by Box & Muller's pairs.

    shape: (B · n, …) for B images.
    dtype, device: of the result.
    """
    draws: _Draws | None = getattr(_thread, "draws", None)
    if draws is None:
        return torch.randn(shape, dtype=dtype, device=device)
    drawn = draws.words(shape)
    each = drawn.shape[1]
    if each % 2:                                                          # a pair for the last one too
        drawn = np.concatenate([drawn, draws.words(shape)[:, :1]], 1)
    precision = np.float32 if dtype.itemsize <= 4 else np.float64
    one, two = (torch.from_numpy(part.astype(precision)) for part in np.split(drawn, 2, 1))
    radius = one.add_(0.5).mul_(2.0**-32).log_().mul_(-2).clamp_(min=0).sqrt_()
    angle = two.mul_(2 * torch.pi * 2.0**-32)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :each].to(dtype).to(device).view(shape)


def uniform_noise(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Uniform noise in [0, 1), the first dimension over images.

    shape: (B · n, …) for B images.
    dtype, device: of the result.
    """
    draws: _Draws | None = getattr(_thread, "draws", None)
    if draws is None:
        return torch.rand(shape, dtype=dtype, device=device)
    return torch.from_numpy((draws.words(shape) >> np.uint32(8)) * 2.0**-24).to(dtype).to(device).view(shape)


class Dropout(nn.Module):
    """Zeroes values with probability p in training and divides the others by 1 − p; a draw has 16 bits."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return self.training and self.p > 0

    def bits(self, shape: torch.Size) -> tuple[np.ndarray, float] | None:
        """16 random bits for each value of a map of this shape, and p: a value is dropped where they are below p · 2^16.

        shape: (B, …) for B images.

        Returns uint16 (B, …), flat for each image; None outside of ``drawing``, where draws are torch's.
        """
        draws: _Draws | None = getattr(_thread, "draws", None)
        if draws is None:
            return None
        return draws.words(shape, 2).view(np.uint16)[:, : shape.numel() // len(draws.positions)], self.p

    def forward(self, x: Tensor) -> Tensor:
        draws: _Draws | None = getattr(_thread, "draws", None)
        if not self.active or draws is None:
            return F.dropout(x, self.p, self.training)
        if x.device.type == "cpu":
            drawn = self.bits(x.shape)
            assert drawn is not None
            factor = torch.from_numpy(drawn[0] >= round(self.p * 2**16)).view(x.shape).to(x.dtype)
        else:                                                             # as many words as values would wait for the CPU
            high, low = draws.words(torch.Size([2 * len(draws.positions)]))[0].tolist()
            stream = torch.Generator(x.device).manual_seed(high << 31 ^ low)
            factor = torch.empty_like(x, requires_grad=False).bernoulli_(1 - self.p, generator=stream)
        return x * factor.div_(1 - self.p)
