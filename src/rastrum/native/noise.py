"""Philox4x32-10 compiled: the noise of a decision, and words for training, the same functions as in ``rastrum/noise.py``."""

from __future__ import annotations

import numpy as np

from .compiler import compiled
from .exact import i64, u64


@compiled
def philox24(seed, image, t):
    """Top 24 bits of the first word of Philox4x32-10 at counter (image, t, 0, PIXEL = 0)."""
    word, half = u64(0xFFFFFFFF), u64(32)
    a, b, c, d = u64(image), u64(t), u64(0), u64(0)
    key_a, key_c = seed & word, seed >> half
    for _ in range(10):
        product_a, product_c = a * u64(0xD2511F53), c * u64(0xCD9E8D57)
        a, b, c, d = (product_c >> half) ^ b ^ key_a, product_c & word, (product_a >> half) ^ d ^ key_c, product_a & word
        key_a, key_c = (key_a + u64(0x9E3779B9)) & word, (key_c + u64(0xBB67AE85)) & word
    return i64(a >> u64(8))


@compiled
def philox_words(seed, images, component, purpose, out):
    """All four words at counters (image, t, component, purpose), t = 0, 1, …: out (len(images), blocks, 4) uint32."""
    word, half = u64(0xFFFFFFFF), u64(32)
    first_a, first_c = seed & word, seed >> half
    for row in range(len(images)):
        for t in range(out.shape[1]):
            a, b, c, d = u64(images[row]), u64(t), component, purpose
            key_a, key_c = first_a, first_c
            for _ in range(10):
                product_a, product_c = a * u64(0xD2511F53), c * u64(0xCD9E8D57)
                a, b, c, d = (product_c >> half) ^ b ^ key_a, product_c & word, (product_a >> half) ^ d ^ key_c, product_a & word
                key_a, key_c = (key_a + u64(0x9E3779B9)) & word, (key_c + u64(0xBB67AE85)) & word
            out[row, t, 0] = np.uint32(a)
            out[row, t, 1] = np.uint32(b)
            out[row, t, 2] = np.uint32(c)
            out[row, t, 3] = np.uint32(d)
