"""Noise that belongs to a decision: the same seed, image and decision give the same noise, for any batch, device or order of calls.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"): ten rounds of two 32x32 → 64 bit
products turn a counter of four 32-bit words into four random ones under a key of two. Here

    counter = (number of the image, t, component, purpose)    key = (low, high) half of the 64-bit seed
    u = top 24 bits of the first word / 2^24

Training draws in the same way (``words``), so that a step needs nothing of those before it: the order of the images and what is drawn for
one (crop, binarisation) belong to (seed, epoch, image); what a model draws for it is in ``training_noise.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

PIXEL, LATENT, PARTICLE = 0, 1, 2   # purposes: a level of a pixel, a latent variable, a choice among particles
ORDER, CROP, BINARISATION, VIDEO, TRAINING = 3, 4, 5, 6, 7   # of training: order of the images, how one is made, what a model draws
EXEMPLAR = 8                   # which other images are an image's exemplars
DITHER = 11                    # of a quantiser of latents, which a file's encoder and decoder share
GROUPS, SHUFFLE = 9, 10             # of training on images that are not in memory: order of their row groups, and of single files

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
FEISTEL = 6                    # rounds, an even number
WORD = 0xFFFFFFFF
BLOCK = 1 << 14                # values at a time: what a pass over them reads stays in the cache

Images = np.ndarray | Sequence[int]


def philox(counter: Sequence[np.ndarray | int], key: tuple[int, int]) -> list[np.ndarray]:
    """Four random words of Philox4x32-10.

    counter: four words, numbers or arrays that broadcast.
    key: two words.

    Returns uint64 arrays of values below 2^32.
    """
    a, b, c, d = (np.asarray(word, np.uint64) for word in counter)
    key_a, key_c = key
    for _ in range(ROUNDS):
        product_a, product_c = a * np.uint64(MULTIPLIERS[0]), c * np.uint64(MULTIPLIERS[1])
        a, b, c, d = (
            (product_c >> np.uint64(32)) ^ b ^ np.uint64(key_a),
            product_c & np.uint64(WORD),
            (product_a >> np.uint64(32)) ^ d ^ np.uint64(key_c),
            product_a & np.uint64(WORD),
        )
        key_a, key_c = (key_a + KEY_STEPS[0]) & WORD, (key_c + KEY_STEPS[1]) & WORD
    return [a, b, c, d]


def _bits(seed: int, images: Images, first: int, count: int, component: int, purpose: int) -> np.ndarray:
    """Top 24 bits of the first word → (len(images), count) uint64."""
    images = np.asarray(images).reshape(-1)
    for name, low, high, limit in (
        ("seed", seed, seed, 1 << 64),
        ("image number", int(images.min(initial=0)), int(images.max(initial=0)), 1 << 32),
        ("decision", first, first + count - 1 if count else first, 1 << 32),
        ("component", component, component, 1 << 32),
    ):
        if low < 0 or high >= limit:
            raise ValueError(f"{name}: expected whole numbers in 0 … {limit - 1}, got {low if low < 0 else high}")
    key = (seed & WORD, seed >> 32)
    out = np.empty((len(images), count), np.uint64)
    width = min(count, BLOCK) or 1
    height = max(1, BLOCK // width)
    for row in range(0, len(images), height):
        for column in range(0, count, width):
            t = np.arange(first + column, first + min(column + width, count), dtype=np.uint64)
            words = philox((images[row : row + height, None], t, component, purpose), key)
            np.right_shift(words[0], np.uint64(8), out=out[row : row + height, column : column + width])
    return out


def uniform(seed: int, images: Images, first: int, count: int, component: int = 0, purpose: int = PIXEL) -> np.ndarray:
    """Uniform noise in [0, 1), multiples of 2^-24.

    seed: 0 … 2^64 − 1.
    images: numbers of the images, 0 … 2^32 − 1.
    first, count: decisions first … first + count − 1.
    component: of a decision that needs several, 0 by default.
    purpose: PIXEL (default), LATENT or PARTICLE.

    Returns (len(images), count) float64. Raises ``ValueError`` for a seed, image number or decision outside its range.
    """
    return _bits(seed, images, first, count, component, purpose) * 2.0**-24


def normal(seed: int, images: Images, first: int, count: int, component: int = 0, purpose: int = LATENT) -> np.ndarray:
    """Standard normal noise: the inverse normal CDF of the middle of u's cell, so within ±5.42.

    seed, images, first, count, component: as for ``uniform``.
    purpose: PIXEL, LATENT (default) or PARTICLE.

    Returns (len(images), count) float64.
    """
    middle = uniform(seed, images, first, count, component, purpose) + 2.0**-25
    return torch.special.ndtri(torch.from_numpy(middle)).numpy()


def words(seed: int, images: Images, count: int, component: int | np.ndarray = 0, purpose: int = TRAINING) -> np.ndarray:
    """Random 32-bit words, all four of each counter: t counts blocks of four words.

    seed: 0 … 2^64 − 1.
    images: their numbers, 0 … 2^32 − 1.
    count: words per image.
    component: a number 0 … 2^32 − 1, or one per image.
    purpose: what the words are for.

    Returns (len(images), count) uint32.
    """
    rows = np.asarray(images, np.uint64).reshape(-1, 1)
    components = np.broadcast_to(np.asarray(component, np.uint64).reshape(-1, 1), rows.shape)
    blocks = -(-count // 4)
    out = np.empty((len(rows), blocks, 4), np.uint32)
    width = min(blocks, BLOCK) or 1
    height = max(1, BLOCK // width)
    for row in range(0, len(rows), height):
        part = slice(row, row + height)
        for column in range(0, blocks, width):
            t = np.arange(column, min(column + width, blocks), dtype=np.uint64)
            for i, word in enumerate(philox((rows[part], t, components[part], purpose), (seed & WORD, seed >> 32))):
                out[part, column : column + width, i] = word
    return out.reshape(len(rows), 4 * blocks)[:, :count]


@lru_cache(4)
def permutation(seed: int, epoch: int, count: int, first: int = 0, purpose: int = ORDER) -> np.ndarray:
    """The order of the images in an epoch: every image once, all orders equally likely.

    seed: of the training.
    epoch: its number.
    count: number of images.
    first: number of the first of them, 0 by default, where parts of an epoch are permuted each by itself.
    purpose: ORDER (default) or GROUPS.

    Returns int64 (count,), 0 … count − 1, read-only.
    """
    high, low = words(seed, np.arange(first, first + count), 2, epoch, purpose).astype(np.uint64).T
    order = np.argsort(high << np.uint64(32) | low, kind="stable")
    order.flags.writeable = False
    return order


def shuffled(seed: int, epoch: int, positions: np.ndarray, count: int) -> np.ndarray:
    """Which images stand at some positions of an order of all images, without making the whole order: O(1) for each.

    A Feistel network permutes the numbers below the next power of two; its round function is Philox. What falls outside 0 … count − 1 goes
    through it again until it falls inside ("cycle walking", Black & Rogaway 2002, "Ciphers with arbitrary finite domains").

    seed: of the training.
    epoch: its number, below 2^32.
    positions: whole numbers (n,), 0 … count − 1.
    count: number of images, 2 … 2^32.

    Returns int64 (n,): over all positions every number of 0 … count − 1 once.
    """
    key = (seed & WORD, seed >> 32)
    bits = (count - 1).bit_length()
    widths = (np.uint64(bits // 2), np.uint64(bits - bits // 2))          # of the halves, which change places in each round
    x = np.asarray(positions, np.uint64)
    outside = np.ones(len(x), bool)
    while outside.any():
        right, left = x[outside] & ((np.uint64(1) << widths[1]) - np.uint64(1)), x[outside] >> widths[1]
        for number in range(FEISTEL):
            width = widths[number % 2]                                    # of the left half
            mixed = philox((right, number, epoch, SHUFFLE), key)[0] >> (np.uint64(32) - width)
            left, right = right, left ^ mixed
        x[outside] = left << widths[1] | right                            # after an even number of rounds each half has its width again
        outside = x >= np.uint64(count)
    return x.astype(np.int64)
