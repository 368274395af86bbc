"""Omniglot's splits, by alphabet and by drawing: 50 alphabets of 14 to 55 characters, each drawn by 20 people.

    train, test       the 30 background and the 20 evaluation alphabets: the canonical split
    train45, test5    45 alphabets, and Tengwar, Sylheti, Tibetan, Syriac (Serto) and ULOG
    train-seen, train-unseen, train45-seen, train45-unseen    of each character of train or train45 the first 15 drawings, or the last 5

So "test" and "test5" after "train" and "train45" are strong tests, of alphabets that training never saw; "train-unseen" after "train-seen"
is a weak test, of new drawings of characters that it did see.

The drawings of a character have a fixed order, that of their drawers in omniglot, and another in omniglot28.

Source of the five alphabets and of both tests: Rezende, Mohamed, Danihelka, Gregor, Wierstra, "One-Shot Generalization in Deep Generative
Models", 2016. Which drawings the weak test holds out is ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

FIVE = ("Tengwar", "Sylheti", "Tibetan", "Syriac_(Serto)", "ULOG")
SEEN = 15                      # of the 20 drawings of a character
# name: number of the first drawing of a character
OMNIGLOTS = {"omniglot": 1, "omniglot28": 0}


class Drawing(NamedTuple):
    """alphabet, character: as the set names them. number: 0 … 19."""

    alphabet: str
    character: str
    number: int


def read_split(name: str, split: str) -> tuple[tuple[str, ...], Callable[[Drawing], bool]]:
    """What of the set a split holds.

    name: of the set, for messages.
    split: as listed at the head of this file.

    Returns which of "train" and "test" it is made of, and which of their drawings. Raises ``ValueError`` for another split.
    """
    match = re.fullmatch(r"(train|train45)(-seen|-unseen)?|(test|test5)", split)
    if match is None:
        names = "train, test, train45, test5, train-seen, train-unseen, train45-seen, train45-unseen"
        raise ValueError(f"data: {name} has the splits {names}, got {split!r}")
    part, drawings = match[1] or match[3], match[2]

    def wanted(drawing: Drawing) -> bool:
        by_alphabet = part in ("train", "test") or (drawing.alphabet in FIVE) == (part == "test5")
        return by_alphabet and (drawings is None or (drawing.number < SEEN) == (drawings == "-seen"))

    return {"train45": ("train", "test"), "test5": ("test",)}.get(part, (part,)), wanted


def group_numbers(drawings: list[Drawing]) -> Tensor:
    """Characters as numbers 0, 1, …, in the order in which they appear: int64, one per drawing."""
    found: dict[tuple[str, str], int] = {}
    return torch.tensor([found.setdefault(drawing[:2], len(found)) for drawing in drawings])
