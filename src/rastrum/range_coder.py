"""The range coder, in plain Python integers: the definition that the compiled one (``native/coder.py``) equals byte for byte.

One stream is one image. A symbol is an interval [low, high) of the integer CDF, 0 ≤ low < high ≤ 2^24. After Martin 1979 and Subbotin's
renormalisation by bytes; 64-bit arithmetic:

    start        low = 0, range = 2^64 − 1
    encode       unit = ⌊range / 2^24⌋;  low += unit · cdf_low;  range = unit · (cdf_high − cdf_low)
                 low ≥ 2^64: carry one into the bytes already written, low −= 2^64
                 while range < 2^48: write the top byte of low, low = 256 low mod 2^64, range = 256 range
    finish       the fewest bytes whose continuation by zeros lies in [low, low + range), at most 2; then zeros at the end are dropped
    decode       code = the first 8 bytes, zeros past the end
                 threshold = min(⌊code / unit⌋, 2^24 − 1);  code −= unit · cdf_low;  range and renormalisation as above, code taking bytes

So range stays in [2^48, 2^64), unit ≥ 2^24, and the division loses at most 2^-24 of an interval: below 10^-7 bits per symbol. Any bytes
decode to some symbols; only a checksum can tell whether they are the right ones. The decoder can tell whether an encoder of these symbols
writes them: the bytes that were read less ``code`` are the encoder's ``low``, from which ``finish`` gives what it would have written.
"""

from __future__ import annotations

CDF_BITS = 24
CDF_TOTAL = 1 << CDF_BITS
FULL = (1 << 64) - 1
LEAST_RANGE = 1 << 48


class Encoder:
    """Writes one stream: ``put`` each symbol's interval, then ``finish``."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.low = 0
        self.range = FULL

    def put(self, cdf_low: int, cdf_high: int) -> None:
        """Encode the symbol of an interval.

        cdf_low, cdf_high: its ends in the integer CDF, the upper one excluded, 0 ≤ cdf_low < cdf_high ≤ 2^24.
        """
        assert 0 <= cdf_low < cdf_high <= CDF_TOTAL, (cdf_low, cdf_high)
        unit = self.range >> CDF_BITS
        self.low += unit * cdf_low
        self.range = unit * (cdf_high - cdf_low)
        if self.low > FULL:
            self.low &= FULL
            self._carry()
        while self.range < LEAST_RANGE:
            self.data.append(self.low >> 56)
            self.low = self.low << 8 & FULL
            self.range <<= 8

    def _carry(self) -> None:
        position = len(self.data) - 1
        while self.data[position] == 255:
            self.data[position] = 0
            position -= 1
        self.data[position] += 1

    def finish(self) -> bytes:
        """The bytes of all symbols so far; more may be put afterwards."""
        for count in range(9):
            dropped = 64 - 8 * count
            kept = -(-self.low >> dropped)                               # rounded up; 2^(8 count) where that carries
            if (kept << dropped) - self.low < self.range:
                break
        written = int.from_bytes(self.data) << 8 * count
        return (written + kept).to_bytes(len(self.data) + count).rstrip(b"\0")


class Decoder:
    """Reads one stream: ``threshold``, search it in the CDF, ``advance`` past the interval found; repeat.

    data: the bytes of one ``Encoder``.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 8
        self.code = int.from_bytes(data[:8].ljust(8, b"\0"))
        self.range = FULL
        self.outside = False                                              # whether code was beyond the last interval, in what is lost

    def threshold(self) -> int:
        """A point of the next symbol's interval, 0 … 2^24 − 1."""
        return min(self.code // (self.range >> CDF_BITS), CDF_TOTAL - 1)

    def advance(self, cdf_low: int, cdf_high: int) -> None:
        """Go past a symbol.

        cdf_low, cdf_high: the ends of its interval, which holds the threshold, as for ``Encoder.put``.
        """
        assert 0 <= cdf_low < cdf_high <= CDF_TOTAL, (cdf_low, cdf_high)
        unit = self.range >> CDF_BITS
        self.code -= unit * cdf_low
        assert self.code >= 0, "the interval does not hold the threshold"
        self.range = unit * (cdf_high - cdf_low)
        self.outside |= self.code >= self.range
        while self.range < LEAST_RANGE:
            byte = self.data[self.position] if self.position < len(self.data) else 0
            self.code = (self.code << 8 | byte) & FULL
            self.range <<= 8
            self.position += 1

    def is_known(self, cdf_high: int) -> bool:
        """Whether the bytes that there are leave no doubt about the next symbol, however the stream went on where it was cut.

        cdf_high: the upper end of the interval that holds the threshold.
        """
        missing = self.position - len(self.data)
        end = (self.range >> CDF_BITS) * cdf_high
        return missing <= 0 or (missing < 8 and (cdf_high == CDF_TOTAL or self.code + (1 << 8 * missing) - 1 < end))

    def is_canonical(self) -> bool:
        """Whether an encoder of the symbols read so far would have written these very bytes."""
        low = int.from_bytes(self.data[: self.position].ljust(self.position, b"\0")) - self.code
        if self.outside or low < 0:
            return False
        encoder = Encoder()
        encoder.data = bytearray((low >> 64).to_bytes(self.position - 8))
        encoder.low, encoder.range = low & FULL, self.range
        return encoder.finish() == self.data
