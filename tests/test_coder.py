"""The range coder: golden bytes, round trips under extreme intervals, length, and arbitrary bytes as input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rastrum.range_coder import Decoder, Encoder

TOTAL = 1 << 24
Intervals = list[tuple[int, int]]


def encode(intervals: Intervals) -> bytes:
    encoder = Encoder()
    for low, high in intervals:
        encoder.put(low, high)
    return encoder.finish()


def decodes(data: bytes, intervals: Intervals) -> bool:
    """Does every threshold fall into the interval that was written?"""
    decoder = Decoder(data)
    for low, high in intervals:
        if not low <= decoder.threshold() < high:
            return False
        decoder.advance(low, high)
    return True


def bits(intervals: Intervals) -> float:
    return -sum(math.log2((high - low) / TOTAL) for low, high in intervals)


def exact(intervals: Intervals) -> bytes:
    """The same coder with integers of any length, without carries and bytes: an independent definition of its result."""
    low, size, scale = 0, (1 << 64) - 1, 0                                # the value is low / 2^(64 + scale)
    for cdf_low, cdf_high in intervals:
        unit = size >> 24
        low, size = low + unit * cdf_low, unit * (cdf_high - cdf_low)
        while size < 1 << 48:
            low, size, scale = low << 8, size << 8, scale + 8
    for dropped in range(64, -1, -8):
        value = (low + (1 << dropped) - 1) >> dropped << dropped
        if value < low + size:
            break
    return value.to_bytes(8 + scale // 8).rstrip(b"\0")


GOLDEN: dict[str, tuple[Intervals, str]] = {
    "nothing": ([], ""),
    "certain": ([(0, TOTAL)] * 1000, ""),
    "first level": ([(0, 1 << 23)] * 100, ""),
    "last level": ([(1 << 23, TOTAL)] * 20, "fffff0"),
    "rare": ([(TOTAL - 1, TOTAL), (5, 6), (0, 1), (TOTAL - 2, TOTAL - 1)], "fffffeffff05000100fafffe"),
    "runs of 0xff": ([(TOTAL - 3, TOTAL)] * 12, "fffffffffeff0002fffffffffffffffffffffffff2fffffffffffffffffffffffff8"),
    "near one half": ([((1 << 23) - 1, (1 << 23) + 1)] * 3 + [(TOTAL - 1, TOTAL)] * 2, "7fffffffff7f800103fffffdfffff9"),
    "mixed": ([(123_456, 1_234_567), (9_999_999, 10_000_000), (0, 16_000_000), (16_000_000, TOTAL)] * 3, "0bfd41c23d0f0f14e5daad3979"),
}


def test_golden_bytes() -> None:
    """The format is these bytes: a change here breaks every file ever written."""
    assert {name: encode(intervals).hex() for name, (intervals, _) in GOLDEN.items()} == {name: data for name, (_, data) in GOLDEN.items()}


def one_interval() -> st.SearchStrategy[tuple[int, int]]:
    """Intervals of every size: one count, nearly all, at either end, across the middle (where carries come from)."""
    size = st.one_of(st.just(1), st.just(TOTAL), st.integers(1, 300), st.integers(1, TOTAL), st.integers(TOTAL - 300, TOTAL))
    position = st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1), st.just(0.5))
    return st.builds(lambda n, at: (low := round(at * (TOTAL - n)), low + n), size, position)


@settings(max_examples=300)
@given(st.lists(one_interval(), max_size=60), st.integers(1, 20))
def test_round_trip_equals_exact_arithmetic_and_has_the_ideal_length(intervals: Intervals, repeats: int) -> None:
    """Streams decode, equal long arithmetic byte for byte, and are at most 2 bytes above −log2 of the intervals."""
    intervals = intervals * repeats
    data = encode(intervals)
    assert data == exact(intervals)
    assert decodes(data, intervals)
    assert len(data) * 8 <= bits(intervals) + 1e-6 * len(intervals) + 16
    assert not data.endswith(b"\0")


@settings(max_examples=200)
@given(st.binary(max_size=60), st.lists(st.integers(1, 1000), min_size=1, max_size=8))
def test_any_bytes_decode_to_some_symbols(data: bytes, weights: list[int]) -> None:
    """Foreign or damaged bytes give symbols, never an exception; the thresholds stay inside the CDF."""
    edges = [0, *(int(c) * TOTAL // sum(weights) for c in np.cumsum(weights))]
    decoder = Decoder(data)
    for _ in range(80):
        threshold = decoder.threshold()
        assert 0 <= threshold < TOTAL
        level = int(np.searchsorted(edges, threshold, side="right")) - 1
        decoder.advance(edges[level], edges[level + 1])


def test_the_end_of_the_range_decodes() -> None:
    """A value of all ones lies above the range, which is a little less than 2^64: the threshold is clamped and decoding goes on."""
    decoder = Decoder(b"\xff" * 40)
    assert decoder.threshold() == TOTAL - 1
    for _ in range(60):
        threshold = decoder.threshold()
        assert 0 <= threshold < TOTAL
        decoder.advance(threshold, threshold + 1)


@pytest.mark.parametrize("length", [1, 2, 7, 30])
def test_carry_through_a_run_of_ones(length: int) -> None:
    """Symbols that keep the interval across one half leave 0x7f ff ff … pending; the next above it turns all of that into 0x80 00 00 …"""
    low, size, half, intervals = 0, (1 << 64) - 1, 1 << 63, []
    for _ in range(length):
        level = (half - low) // (size >> 24)
        low, size = low + (size >> 24) * (level - 1), (size >> 24) * 3
        intervals.append((level - 1, level + 2))
        while size < 1 << 48:
            low, size, half = low << 8, size << 8, half << 8
    level = (half - low) // (size >> 24) + 1
    below, above = encode([*intervals, (0, level - 1)]), encode([*intervals, (level, TOTAL)])
    assert below.startswith(b"\x7f\xff") and above.startswith(b"\x80" + bytes(22 * length // 8 - 2))
    assert above == exact([*intervals, (level, TOTAL)]) and decodes(above, [*intervals, (level, TOTAL)])


def test_decoded_thresholds_are_uniform() -> None:
    """Decoding random bytes samples from the CDF: a level of probability 1/4 comes up in a quarter of the cases."""
    data = np.random.default_rng(0).integers(0, 256, 4000, dtype=np.uint8).tobytes()
    edges, hits, n = [0, TOTAL // 4, TOTAL], 0, 8000
    decoder = Decoder(data)
    for _ in range(n):
        level = int(decoder.threshold() >= edges[1])
        decoder.advance(edges[level], edges[level + 1])
        hits += level == 0
    assert abs(hits / n - 0.25) < 5 * math.sqrt(0.25 * 0.75 / n)


def test_long_streams_stay_within_a_byte_of_ideal() -> None:
    """Over 20,000 symbols of a skewed and of a nearly certain source the excess is the 2 bytes of the end, not a share of the length."""
    generator = np.random.default_rng(1)
    for edges in ([0, 1, 2, 5, 1000, 100_000, 9_000_000, TOTAL], [0, TOTAL - 40_000, TOTAL]):
        levels = np.searchsorted(edges, generator.integers(0, TOTAL, 20_000), side="right") - 1
        intervals = [(edges[v], edges[v + 1]) for v in levels]
        data = encode(intervals)
        assert decodes(data, intervals)
        assert -8 <= len(data) * 8 - bits(intervals) <= 16


def test_finish_may_be_asked_early() -> None:
    """finish() changes nothing: what is put afterwards continues the same stream."""
    encoder = Encoder()
    encoder.put(5, 1000)
    early = encoder.finish()
    assert early == encode([(5, 1000)]) == encoder.finish()
    encoder.put(0, 3)
    assert encoder.finish() == encode([(5, 1000), (0, 3)])
