"""A million names in as many bytes as they have letters, and eight more for each: as Python strings they would take five times as much."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


class PackedNames(Sequence[str]):
    """Names one after another in one run of bytes.

    names: encoded by ``encoded``.
    """

    def __init__(self, names: Iterable[bytes]) -> None:
        text, ends, block = bytearray(), [], []
        for name in names:
            text += name
            block.append(len(text))
            if len(block) == 1 << 16:
                ends.append(np.array(block, np.int64))
                block = []
        self.text = bytes(text)
        self.ends = np.concatenate([np.zeros(1, np.int64), *ends, np.array(block, np.int64)])

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index = int(index) % len(self)
        return self.text[self.ends[index] : self.ends[index + 1]].decode("utf-8", "surrogatepass")


def encoded(name: str) -> bytes:
    """Bytes of a name that sort as the name does, also where it is no UTF-8.

    name: as Python has names of files, with surrogates for bytes that are no text.
    """
    return name.encode("utf-8", "surrogatepass")


def printed(name: str) -> str:
    """The name of a file as UTF-8 can hold it: bytes that are not UTF-8 become such as \\xff.

    name: as Python has names of files.
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")
