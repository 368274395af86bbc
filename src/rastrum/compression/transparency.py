"""The transparency of a tile: differences along its rows, the first of each to 0, modulo their type, deflated (RFC 1951)."""

from __future__ import annotations

import numpy as np

from .fields import deflate, inflate


def deflated(alpha: np.ndarray) -> bytes:
    """The bytes of transparency.

    alpha: uint8 or uint16 (rows, columns); 16 bits are written low byte first.
    """
    differences = np.diff(alpha, axis=1, prepend=alpha.dtype.type(0))
    return deflate(differences.astype(alpha.dtype.newbyteorder("<")).tobytes())


def inflated(data: bytes, shape: tuple[int, ...], bits: int) -> np.ndarray | None:
    """The inverse of ``deflated``, which makes no more than there is to be.

    data: the bytes.
    shape: (rows, columns).
    bits: of a sample.

    Returns (rows, columns, 1), uint8 up to 8 bits, else uint16; None for bytes of anything else.
    """
    kind = np.dtype(np.uint8 if bits <= 8 else "<u2")
    found = inflate(data, shape[0] * shape[1] * kind.itemsize)
    if found is None:
        return None
    alpha = np.cumsum(np.frombuffer(found, kind).reshape(shape), 1, dtype=kind.newbyteorder("="))[..., None]
    return alpha if int(alpha.max()) < 1 << bits else None
