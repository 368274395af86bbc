"""The range coder, in plain integers: the definition that any faster one must equal byte for byte. One stream an image.

An encoder holds a window [low, low + range) of 64-bit numbers, at first [0, 2^64 − 1). A value whose integer CDF runs from ``below`` to
``upto`` out of 2^24 narrows it: r = ⌊range / 2^24⌋, low += r · below, range = r · (upto − below). While range < 2^48 the top byte of low is
written and both move up by 8 bits; a carry out of low is added to the bytes already written. So range stays in [2^48, 2^64) and the
division loses at most 2^−24 of a value's share.
The end is the fewest bytes after which zeros lie in the window; trailing zero bytes are dropped, and a decoder reads zeros past the end.
Any bytes decode to some values: a stream does not know that it is damaged.
"""

from __future__ import annotations

from ..distributions import CDF_BITS, CDF_TOTAL

_WORD = (1 << 64) - 1
_LEAST = 1 << 48


class Encoder:
    """Writes one image's values."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._low, self._range = 0, _WORD

    def put(self, below: int, upto: int) -> None:
        """Narrow the window to a value with 0 ≤ below < upto ≤ 2^24."""
        assert 0 <= below < upto <= CDF_TOTAL, f"a value needs a share of the CDF, got {below} … {upto}"
        share = self._range >> CDF_BITS
        self._low += share * below
        self._range = share * (upto - below)
        if self._low > _WORD:
            self._low &= _WORD
            self._carry()
        while self._range < _LEAST:
            self._bytes.append(self._low >> 56)
            self._low = self._low << 8 & _WORD
            self._range <<= 8

    def _carry(self) -> None:
        place = len(self._bytes) - 1
        while self._bytes[place] == 255:
            self._bytes[place] = 0
            place -= 1
        self._bytes[place] += 1

    def finish(self) -> bytes:
        """The stream; the encoder is spent."""
        for count in range(9):
            unit = 1 << 64 - 8 * count
            end = -(-self._low // unit) * unit
            if end - self._low < self._range:
                if end > _WORD:
                    end &= _WORD
                    self._carry()
                self._bytes += end.to_bytes(8, "big")[:count]
                break
        return bytes(self._bytes).rstrip(b"\0")


class Decoder:
    """Reads what an ``Encoder`` wrote: ask for the ``threshold``, find the value whose share holds it, ``advance`` over that share."""

    def __init__(self, stream: bytes) -> None:
        self._stream, self._next = stream, 8
        self._code = int.from_bytes(stream[:8].ljust(8, b"\0"), "big")    # how far into the window the stream points
        self._range = _WORD

    def threshold(self) -> int:
        """0 … 2^24 − 1."""
        return min(self._code // (self._range >> CDF_BITS), CDF_TOTAL - 1)

    def advance(self, below: int, upto: int) -> None:
        """Narrow the window as the encoder did."""
        assert 0 <= below < upto <= CDF_TOTAL, f"a value needs a share of the CDF, got {below} … {upto}"
        share = self._range >> CDF_BITS
        # A damaged stream can point beyond the last share; it stays inside the window and goes on.
        self._code = min(self._code - share * below, share * (upto - below) - 1)
        self._range = share * (upto - below)
        while self._range < _LEAST:
            byte = self._stream[self._next] if self._next < len(self._stream) else 0
            self._next += 1
            self._code = self._code << 8 | byte
            self._range <<= 8
