"""The range coder compiled: byte for byte the one of ``rastrum/range_coder.py``."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..range_coder import CDF_BITS, CDF_TOTAL, LEAST_RANGE
from .compiler import compiled
from .exact import i64, u8, u64


class Streams(NamedTuple):
    """Range coder states of a batch; ``code``, ``ends`` and ``outside`` are for reading only."""

    low: Any                   # (B,) uint64
    range: Any                 # (B,) uint64
    code: Any                  # (B,) uint64
    position: Any              # (B,) int64
    ends: Any                  # (B,) int64
    outside: Any               # (B,) bool
    data: Any                  # (B, capacity) uint8


@compiled
def put(streams, b, cdf_low, cdf_high):
    unit = streams.range[b] >> u64(CDF_BITS)
    step = unit * u64(cdf_low)
    low = streams.low[b] + step
    position = streams.position[b]
    if low < step:
        carried = position - 1
        while streams.data[b, carried] == u8(255):
            streams.data[b, carried] = u8(0)
            carried -= 1
        streams.data[b, carried] += u8(1)
    left = unit * u64(cdf_high - cdf_low)
    while left < u64(LEAST_RANGE):
        streams.data[b, position] = u8(low >> u64(56))
        position += 1
        low <<= u64(8)
        left <<= u64(8)
    streams.low[b], streams.range[b], streams.position[b] = low, left, position


@compiled
def threshold_of(streams, b):
    return min(i64(streams.code[b] // (streams.range[b] >> u64(CDF_BITS))), i64(CDF_TOTAL - 1))


@compiled
def take(streams, b, cdf_low, cdf_high):
    unit = streams.range[b] >> u64(CDF_BITS)
    code, left, position = streams.code[b] - unit * u64(cdf_low), unit * u64(cdf_high - cdf_low), streams.position[b]
    if code >= left:
        streams.outside[b] = True
    while left < u64(LEAST_RANGE):
        byte = u64(streams.data[b, position]) if position < streams.ends[b] else u64(0)
        code = (code << u64(8)) | byte
        left <<= u64(8)
        position += 1
    streams.code[b], streams.range[b], streams.position[b] = code, left, position
