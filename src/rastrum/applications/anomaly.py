"""From a log-probability to a decision: how unusual an image is beside images that are known to be usual (docs/anomaly.md).

    b(x) = −log₂ p(x)                  bits: what the model finds surprising about x
    L(x) = 8 · bytes of x as PNG       bits: how complex any eye would find it
    s(x) = b(x) − L(x)                 what is left when complexity is taken out
    z(x) = (s(x) − mean) / deviation   of either, in deviations of a reference set of usual images

Bits alone mislead: an image that is simple everywhere, and of a kind never seen, can cost fewer than any usual one (Nalisnick et al. 2019,
"Do Deep Generative Models Know What They Don't Know?"). Taking out the length of a general code makes s a ratio of two models' likelihoods.

Source of the correction: Serrà et al. 2020, "Input Complexity and Out-of-distribution Detection with Likelihood-based Generative Models",
equation 2, with PNG for its compressor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..pictures.sheets import Picture, encode_picture
from ..protocol import ArrayLike, ImageSpec, as_tensor, check_images


@dataclass(frozen=True)
class Scores:
    """Of N images. bits: −log₂ p, or for a canvas model the bound on it, (N,) float64 · complexity: bits of each as PNG, (N,) float64."""

    bits: Tensor
    complexity: Tensor

    @property
    def corrected(self) -> Tensor:
        """Bits beyond what the image's complexity accounts for, (N,): may be negative, only differences mean anything."""
        return self.bits - self.complexity


def scores(spec: ImageSpec, images: ArrayLike, nats: ArrayLike) -> Scores:
    """Of images (N, *spec.shape) in levels whose −log p is ``nats`` (N,)."""
    told = _finite("nats", nats)
    complexity = png_bits(spec, images)
    if told.shape != complexity.shape:
        raise ValueError(f"nats: expected one number for each of {len(complexity)} images, got shape {tuple(told.shape)}")
    return Scores(told / math.log(2), complexity)


def png_bits(spec: ImageSpec, images: ArrayLike) -> Tensor:
    """Length in bits of each of images (N, *spec.shape), as a PNG file of its levels: (N,) float64.

    Two levels take a bit a pixel, more than 256 two bytes; one and three channels are a picture, other numbers a picture a channel; frames
    stand below each other. What every file of a size repeats (headers) is the same for all images, so it leaves no trace in z and rank.
    """
    x = check_images(spec, images).cpu().view(-1, spec.frames, spec.channels, spec.height, spec.width)
    tall = x.transpose(1, 2).flatten(2, 3).numpy()
    lengths = [sum(len(encode_picture(picture)) for picture in _pictures(image, spec.levels)) for image in tall]
    return 8 * torch.tensor(lengths, dtype=torch.float64)


def _pictures(image: np.ndarray, levels: int) -> list[Picture]:
    """Levels (C, H, W) as pictures: of a bit, a byte or two a value."""
    if levels == 2:
        return [Image.fromarray(channel.astype(bool)) for channel in image]
    if levels > 256:
        return [Image.fromarray(channel.astype(np.uint16)) for channel in image]
    if len(image) == 3:
        return [Image.fromarray(image.astype(np.uint8).transpose(1, 2, 0))]
    return [Image.fromarray(channel.astype(np.uint8)) for channel in image]


def z_scores(values: ArrayLike, reference: ArrayLike) -> Tensor:
    """How many standard deviations of ``reference`` (M,) each of ``values`` (N,) lies above its mean: (N,) float64.

    ``ValueError`` for fewer than two reference values, or ones that are all the same.
    """
    of, usual = _finite("values", values), _finite("reference", reference)
    if usual.ndim != 1 or len(usual) < 2:
        raise ValueError(f"reference: expected at least two values, got shape {tuple(usual.shape)}")
    deviation = usual.std()
    if not deviation > 0:
        raise ValueError("reference: all values are the same, which leaves no scale to judge by; take other or more images")
    return (of - usual.mean()) / deviation


def auroc(usual: ArrayLike, unusual: ArrayLike) -> float:
    """Chance that one of ``unusual`` (N,) scores above one of ``usual`` (M,), ties counting half: area under the ROC curve.

    1 = always, 0.5 = no better than a coin, below = the other way round. ``ValueError`` where either is empty.
    """
    low, high = _finite("usual", usual).flatten(), _finite("unusual", unusual).flatten()
    if not len(low) or not len(high):
        raise ValueError(f"auroc: expected values on both sides, got {len(low)} and {len(high)}")
    ordered = low.sort().values
    below = torch.searchsorted(ordered, high, side="left") + torch.searchsorted(ordered, high, side="right")
    return float(below.double().mean()) / (2 * len(low))


def _finite(what: str, values: ArrayLike) -> Tensor:
    numbers = as_tensor(what, values).double()
    if not bool(torch.isfinite(numbers).all()):
        raise ValueError(f"{what}: expected finite numbers, got some that are not")
    return numbers
