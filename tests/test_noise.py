"""Philox4x32-10 against its published test vectors and a scalar transcription; noise belongs to the decision; golden values."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from rastrum.noise import LATENT, PIXEL, normal, philox, uniform

ONES = 0xFFFFFFFF
# Random123 1.14, tests/kat_vectors: counter, key, result. The last counter and key are digits of pi.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def reference(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, ...]:
    """Salmon et al. 2011, section 3.3, one counter in Python integers."""
    (r0, l0, r1, l1), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * r0, 0xCD9E8D57 * r1
        r0, l0, r1, l1 = p1 >> 32 ^ l0 ^ k0, p1 & ONES, p0 >> 32 ^ l1 ^ k1, p0 & ONES
        k0, k1 = k0 + 0x9E3779B9 & ONES, k1 + 0xBB67AE85 & ONES
    return r0, l0, r1, l1


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_published_vectors(counter, key, result) -> None:
    assert tuple(int(word) for word in philox(counter, key)) == result == reference(counter, key)


def test_counter_and_key_are_as_stated() -> None:
    """counter = (image, t, component, purpose), key = (low, high) half of the seed, top 24 bits; high halves included."""
    seed, images = 0xDEADBEEF_12345678, np.array([0, 7, ONES])
    u = uniform(seed, images, 1000, 3, component=5, purpose=LATENT)
    assert u.dtype == np.float64 and u.shape == (3, 3)
    for row, image in enumerate(images.tolist()):
        for column in range(3):
            word = reference((image, 1000 + column, 5, LATENT), (0x12345678, 0xDEADBEEF))[0]
            assert u[row, column] == (word >> 8) / 2**24


def test_golden_values() -> None:
    """The noise of seeds 0 and 1: a change here would change every sample of every user."""
    assert (uniform(0, [0, 1], 0, 3) * 2**24).tolist() == [[6694888, 7000261, 5832300], [16311500, 7184664, 12939839]]
    assert (uniform(1, [2], 783, 2) * 2**24).tolist() == [[6335593, 4127504]]
    expected = [[-0.9194449451040678, -0.49948851393839844, -1.5816414587071492, -0.034926804406688446]]
    np.testing.assert_allclose(normal(0, [0], 0, 4), expected, rtol=1e-12)


def test_noise_belongs_to_the_decision() -> None:
    """Any split into batches and blocks, whatever its size, gives the same noise."""
    whole = uniform(3, np.arange(40), 0, 1100)
    assert np.array_equal(whole[5:9, 100:900], uniform(3, range(5, 9), 100, 800))
    assert np.array_equal(whole[[30, 2, 2], 7:8], uniform(3, [30, 2, 2], 7, 1))
    long = uniform(3, [4], 0, 40_000)
    assert np.array_equal(long[:, :1100], whole[4:5])
    assert np.array_equal(long[:, 39_990:], uniform(3, [4], 39_990, 10))
    assert uniform(3, [], 0, 5).shape == (0, 5) and uniform(3, [1], 0, 0).shape == (1, 0)


def test_other_coordinates_give_other_noise() -> None:
    """Seed (both halves), image, decision, component and purpose each make a difference; neighbours are uncorrelated."""
    base = uniform(3, [1], 0, 4000)[0]
    others = [
        uniform(4, [1], 0, 4000),
        uniform(3 + (1 << 32), [1], 0, 4000),
        uniform(3, [2], 0, 4000),
        uniform(3, [1], 1, 4000),
        uniform(3, [1], 0, 4000, component=1),
        uniform(3, [1], 0, 4000, purpose=LATENT),
    ]
    for other in others:
        assert abs(np.corrcoef(base, other[0])[0, 1]) < 5 / math.sqrt(4000)
    assert np.array_equal(base, uniform(3, [1], 0, 4000, 0, PIXEL)[0])


def test_uniform_is_uniform_and_on_the_grid() -> None:
    u = uniform(0, np.arange(100), 0, 1000)
    assert u.min() >= 0 and u.max() <= 1 - 2**-24 and np.array_equal(u * 2**24, np.floor(u * 2**24))
    counts = np.bincount((u * 64).astype(int).ravel(), minlength=64)
    expected = u.size / 64
    assert ((counts - expected) ** 2 / expected).sum() < 63 + 5 * math.sqrt(2 * 63)


def test_normal_is_the_inverse_cdf_at_the_middle_of_the_cell() -> None:
    """Against the standard library's inverse; finite at both ends of the grid."""
    u, z = uniform(9, [3], 0, 500, 2, LATENT), normal(9, [3], 0, 500, 2)
    expected = [NormalDist().inv_cdf(p + 2**-25) for p in u[0]]
    np.testing.assert_allclose(z[0], expected, rtol=1e-13, atol=1e-15)
    many = normal(0, np.arange(200), 0, 1000)
    assert np.abs(many).max() < 5.42
    assert abs(many.mean()) < 5 / math.sqrt(many.size) and abs(many.var() - 1) < 5 * math.sqrt(2 / many.size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, [0], 0, 1), "seed: .* got -1"),
        ((1 << 64, [0], 0, 1), "seed"),
        ((0, [-3], 0, 1), "image number: .* got -3"),
        ((0, [1 << 32], 0, 1), "image number"),
        ((0, [0], (1 << 32) - 1, 2), "decision"),
        ((0, [0], 0, 1, 1 << 32), "component"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(arguments, message) -> None:
    """A value that does not fit its word would silently repeat other noise."""
    with pytest.raises(ValueError, match=message):
        uniform(*arguments)
