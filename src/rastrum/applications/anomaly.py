"""From a log-probability to a decision: how unusual an image is, compared with images known to be usual (docs/anomaly.md).

    b(x) = −log₂ p(x)                  bits: how surprising x is to the model
    L(x) = 8 · bytes of x as PNG       bits: how complex x is
    s(x) = b(x) − L(x)                 surprise beyond complexity
    z(x) = (s(x) − mean) / deviation   of b or s, in standard deviations of a reference set of usual images

Bits alone mislead: an image of an unknown kind that is simple everywhere can have fewer than any usual one (Nalisnick et al. 2019, "Do Deep
Generative Models Know What They Don't Know?"). With the length of a general code subtracted, s is a ratio of two models' likelihoods.

Source of the correction: Serrà et al. 2020, "Input Complexity and Out-of-distribution Detection with Likelihood-based Generative Models",
equation 2, with PNG for its compressor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data.stored import Stored
from ..notebook import safe, table
from ..pictures.sheets import Picture, encode_picture
from ..protocol import ArrayLike, ImageSpec, as_tensor, check_images

BLOCK = 256                    # images on disk that are read at a time

RankBy: TypeAlias = Literal["less-png", "bits"]


@dataclass(frozen=True)
class Scores:
    """Scores of N images.

    bits: −log₂ p, or for a canvas model the bound on it, (N,) float64.
    complexity: length of each as PNG in bits, (N,) float64.
    """

    bits: Tensor
    complexity: Tensor

    @property
    def corrected(self) -> Tensor:
        """Bits less complexity, (N,): may be negative; only differences between images are meaningful."""
        return self.bits - self.complexity

    def ranked(self, by: RankBy) -> Tensor:
        """What images are ranked by, (N,): the higher, the more unusual.

        by: "less-png", bits less complexity, or "bits".
        """
        return self.bits if by == "bits" else self.corrected

    def __repr__(self) -> str:
        return f"Scores({len(self.bits):,} images, bits {_range(self.bits)}, bits less PNG bits {_range(self.corrected)})"

    @safe
    def _repr_html_(self) -> str:
        return table(f"Scores of {len(self.bits):,} images", self.rows())

    def rows(self) -> dict[str, str]:
        """Mean and range of each score, in words."""
        named = {"bits": self.bits, "PNG bits": self.complexity, "bits less PNG bits": self.corrected}
        return {name: f"mean {float(values.mean()):,.1f}, {_range(values)}" for name, values in named.items()}


def _range(values: Tensor) -> str:
    return f"{float(values.min()):,.1f} … {float(values.max()):,.1f}" if len(values) else "none"


def scores(spec: ImageSpec, images: ArrayLike, nats: ArrayLike) -> Scores:
    """Scores of images.

    spec: of the model.
    images: levels (N, *spec.shape).
    nats: −log p of each, (N,); infinite where the model gives an image no probability.

    Raises ``ValueError`` for images of another spec, and nats that are NaN or not one per image.
    """
    values = _ordered("nats", nats)
    complexity = png_bits(spec, images)
    if values.shape != complexity.shape:
        raise ValueError(f"nats: expected one value for each of {len(complexity)} images, got shape {tuple(values.shape)}")
    return Scores(values / math.log(2), complexity)


def png_bits(spec: ImageSpec, images: ArrayLike) -> Tensor:
    """Length in bits of each image as a PNG file of its levels.

    With two levels a pixel is stored in a bit, with more than 256 in two bytes. Three channels make a colour picture, any other number a
    grey picture per channel; frames stand below each other. Headers are the same for all images of a size, so they do not change z and
    rank.

    spec: of the images.
    images: integer levels (N, *spec.shape).

    Returns (N,), float64.
    """
    if isinstance(images, Stored):
        parts = (png_bits(spec, images[start : start + BLOCK]) for start in range(0, len(images), BLOCK))
        return torch.cat([torch.empty(0, dtype=torch.float64), *parts])
    x = check_images(spec, images).cpu().view(-1, spec.frames, spec.channels, spec.height, spec.width)
    tall = x.transpose(1, 2).flatten(2, 3).numpy()
    lengths = [sum(len(encode_picture(picture)) for picture in _pictures(image, spec.levels)) for image in tall]
    return 8 * torch.tensor(lengths, dtype=torch.float64)


def _pictures(image: np.ndarray, levels: int) -> list[Picture]:
    """Levels (C, H, W) as pictures with a bit, a byte or two bytes per value."""
    if levels == 2:
        return [Image.fromarray(channel.astype(bool)) for channel in image]
    if levels > 256:
        return [Image.fromarray(channel.astype(np.uint16)) for channel in image]
    if len(image) == 3:
        return [Image.fromarray(image.astype(np.uint8).transpose(1, 2, 0))]
    return [Image.fromarray(channel.astype(np.uint8)) for channel in image]


def z_scores(values: ArrayLike, reference: ArrayLike) -> Tensor:
    """How many standard deviations each value lies above the mean of a reference.

    values: (N,); infinite ones are infinitely far.
    reference: (M,), at least two, finite.

    Returns (N,) float64. Raises ``ValueError`` for fewer than two reference values, or ones that are all the same.
    """
    scored, usual = _ordered("values", values), _finite("reference", reference)
    if usual.ndim != 1 or len(usual) < 2:
        raise ValueError(f"reference: expected at least two values, got shape {tuple(usual.shape)}")
    deviation = usual.std()
    if not deviation > 0:
        raise ValueError("reference: all values are the same, so there is no scale to compare with; take other or more images")
    return (scored - usual.mean()) / deviation


def auroc(usual: ArrayLike, unusual: ArrayLike) -> float:
    """Area under the ROC curve: the probability that an unusual image scores above a usual one, ties counting half.

    usual: scores (M,).
    unusual: scores (N,).

    Returns 1 for a perfect score, 0.5 for a useless one, less where usual images score higher. Raises ``ValueError`` where either is empty.
    """
    low, high = _ordered("usual", usual).flatten(), _ordered("unusual", unusual).flatten()
    if not len(low) or not len(high):
        raise ValueError(f"auroc: expected values on both sides, got {len(low)} and {len(high)}")
    ordered = low.sort().values
    below = torch.searchsorted(ordered, high, side="left") + torch.searchsorted(ordered, high, side="right")
    return float(below.double().mean()) / (2 * len(low))


def p_values(values: ArrayLike, reference: ArrayLike) -> Tensor:
    """How often a usual image scores as high as each value, by rank: (1 + number of reference values at least as high) / (1 + M).

    values: scores (N,), high where an image is unusual; infinite ones are above all finite ones.
    reference: scores of M usual images, at least one, finite.

    One-sided: images that surprise less than usual ones get values near 1. For an image drawn as those of the reference were, the chance
    of a value of at most α is at most α, whatever the distribution of scores (exactly k / (1 + M) at α = k / (1 + M), without ties).

    Returns (N,) float64 in [1 / (1 + M), 1]. Raises ``ValueError`` for no reference values, and values that are NaN.
    """
    scored, usual = _ordered("values", values), _finite("reference", reference)
    if usual.ndim != 1 or len(usual) < 1:
        raise ValueError(f"reference: expected at least one value, got shape {tuple(usual.shape)}")
    below = torch.searchsorted(usual.sort().values, scored.contiguous(), side="left")
    return (1 + len(usual) - below).double() / (1 + len(usual))


def _finite(what: str, values: ArrayLike) -> Tensor:
    tensor = as_tensor(what, values).double()
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{what}: expected finite values, got some that are not")
    return tensor


def _ordered(what: str, values: ArrayLike) -> Tensor:
    tensor = as_tensor(what, values).double()
    if bool(tensor.isnan().any()):
        raise ValueError(f"{what}: expected numbers, got some that are NaN")
    return tensor
