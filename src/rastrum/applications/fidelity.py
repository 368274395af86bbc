"""How like the images of the data a model's pictures are, and how many kinds of them it draws: by features of a network.

    kernel distance   unbiased MMD² with the kernel (aᵀb/d + 1)³ of features a, b                      0 where both are alike
    precision         share of pictures with features within the neighbourhoods of images' features    fidelity
    recall            share of images with features within the neighbourhoods of pictures' features    diversity
    sharpness         energy of the pictures' differences between neighbouring pixels, over that of the images

A neighbourhood is a ball around a point that reaches to its third nearest neighbour. Unlike the Fréchet distance, the kernel distance has
no bias that depends on the number of images.

Sources: Bińkowski, Sutherland, Arbel, Gretton, "Demystifying MMD GANs", 2018; Kynkäänniemi, Karras, Laine, Lehtinen, Aila, "Improved
Precision and Recall Metric for Assessing Generative Models", 2019.

Shapes: N images, M pictures, d features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

NEIGHBOURS = 3
SPLITS = 10
PART = 1000                    # points whose distances to all others are in memory at a time


def kernel_distance(images: Tensor, pictures: Tensor) -> tuple[float, float]:
    """The kernel distance and its standard error.

    images: features (N, d), N at least 2.
    pictures: features (M, d), M at least 2.

    The error is the deviation of the distances of ten parts, each of a tenth of both, divided by √10; NaN for fewer than 20. Unbiased, so a
    distance of 0 is sometimes estimated as slightly negative.
    """
    x, y = images.double(), pictures.double()
    if min(len(x), len(y)) < 2 * SPLITS:
        return _mmd(x, y), math.nan
    parts = torch.tensor([_mmd(x[n::SPLITS], y[n::SPLITS]) for n in range(SPLITS)])
    return _mmd(x, y), float(parts.std() / SPLITS**0.5)


def _mmd(x: Tensor, y: Tensor) -> float:
    def kernel(products: Tensor) -> Tensor:
        return (products / x.shape[1] + 1) ** 3

    def total(a: Tensor, b: Tensor) -> float:
        return sum(float(kernel(part @ b.T).sum()) for part in a.split(PART))

    def within(a: Tensor) -> float:
        return (total(a, a) - float(kernel(a.square().sum(1)).sum())) / (len(a) * (len(a) - 1))

    return within(x) + within(y) - 2 * total(x, y) / (len(x) * len(y))


def precision_and_recall(images: Tensor, pictures: Tensor) -> tuple[float, float]:
    """Fidelity and diversity, 0 … 1; those of other images of the data are below 1 too, and are what can be reached.

    images: features (N, d).
    pictures: features (M, d); both of more than three, and about as many of each.
    """
    images, pictures = images.double(), pictures.double()

    def reach(points: Tensor) -> Tensor:
        return torch.cat([torch.cdist(part, points).kthvalue(NEIGHBOURS + 1, dim=1).values for part in points.split(PART)])  # itself first

    def share_inside(points: Tensor, others: Tensor) -> float:
        radius = reach(others)
        return float(torch.cat([(torch.cdist(part, others) <= radius).any(1) for part in points.split(PART)]).double().mean())

    return share_inside(pictures, images), share_inside(images, pictures)


def sharpness(images: Tensor, pictures: Tensor) -> float:
    """How sharp pictures are, relative to images: below 1 blurred, above 1 noisy or too hard.

    images: (N, C, H, W) in [0, 1].
    pictures: (M, C, H, W) in [0, 1].
    """

    def energy(x: Tensor) -> float:
        x = x.double()
        return float(x.diff(dim=-1).square().mean(0).sum() + x.diff(dim=-2).square().mean(0).sum())

    return energy(pictures) / max(energy(images), 1e-12)
