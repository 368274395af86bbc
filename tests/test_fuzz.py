"""The fuzzer of files (fuzz_files.py): a few seconds of it, ten minutes of it, and that it finds what it is for."""

from __future__ import annotations

import random
from typing import Any

import pytest
from fuzz_files import fuzz, mutated, targets

from rastrum.compression import photographs


def test_no_mutation_is_taken_for_right() -> None:
    assert fuzz(4, seed=0)["refused"] > 0


@pytest.mark.slow
def test_no_mutation_is_taken_for_right_for_long() -> None:
    assert fuzz(600, seed=1)["refused"] > 1000


def test_it_finds_files_whose_pixels_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Anything(bytes):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = bytes.__hash__

    anything: Any = Anything()
    monkeypatch.setattr(photographs, "_checksum", lambda header, tile, pixels: anything)
    with pytest.raises(AssertionError, match="taken for right"):
        fuzz(60, seed=0)


def test_mutations_differ() -> None:
    chance, data = random.Random(0), targets()[0][1]
    assert len({mutated(data, data, chance) for _ in range(50)}) > 40
