"""The fuzzer of files (fuzz_files.py): a few seconds of it, ten minutes of it, and that it finds what it is for."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from fuzz_files import CRAFTED, MEMORY, Watch, constant_models, crafted, fuzz, little_memory, mutated, targets

import rastrum
from rastrum.compression import blobs, photographs
from rastrum.compression.fields import varint


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

    anything: Any = Anything(4)
    monkeypatch.setattr(photographs, "_checksum", lambda header, tile, pixels: anything)
    with pytest.raises(AssertionError, match="taken for right"):
        fuzz(60, seed=0)


def test_it_finds_memory_that_a_file_only_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether numpy, torch or Python asks for it; what was asked for before counts no more."""
    most = 4 * MEMORY                                                     # more than what was freed and may be given again
    for ask in (lambda: np.empty(most, np.uint8), lambda: torch.empty(most, dtype=torch.uint8), lambda: bytes(most)):
        with pytest.raises((MemoryError, RuntimeError)), little_memory():
            ask()
        held = ask()
        with little_memory():
            np.empty(MEMORY // 2, np.uint8)
        del held
    target = next(target for target in targets() if target.name == "native blob, no image")
    forged = target.repair(target.data[:26] + varint(1 << 30) + target.data[27:])      # 1,073,741,824 images in 33 bytes
    assert target.data[26] == 0 and len(forged) == 33
    with pytest.raises(rastrum.FileError, match="cannot hold"), little_memory():
        target.check(forged)
    monkeypatch.setattr(blobs, "_most_images", lambda model, blob: 1 << 40)
    with pytest.raises((MemoryError, RuntimeError)), little_memory():
        target.check(forged)


def test_a_file_takes_memory_for_what_is_decoded_and_not_for_what_it_claims() -> None:
    """Lists and digests that fit, up to 16 KB of them, and empty streams: of any size of tiles, refused or salvaged."""
    chance = random.Random(0)
    with constant_models():
        every = {target.name: target for target in targets()}
        for case in ("transparent", "deep", "adaptive"):
            for check in ("check_file", "check_salvage"):
                target = every[f"{case}, {check}"]
                for data in [crafted(target.data, chance) for _ in range(4)]:
                    assert len(data) < 2 * CRAFTED
                    try:
                        with little_memory():
                            target.check(data)
                        assert check == "check_salvage"
                    except rastrum.FileError as error:
                        assert "do not match their checksum" in str(error)


def test_it_watches_only_what_reads_files() -> None:
    watch, target = Watch(), targets()[0]
    assert not watch.news()
    with watch:
        target.check(target.data)
    assert watch.news() and not watch.news()
    assert {code.co_filename for code, *_ in watch.known} <= Watch.FILES
    with watch, pytest.raises(rastrum.FileError):
        target.check(target.data[:-1])
    assert watch.news()


def test_mutations_differ() -> None:
    chance, data = random.Random(0), targets()[0].data
    assert len({mutated(data, data, chance) for _ in range(50)}) > 40
