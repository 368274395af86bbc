"""Sums whose bits depend on the number of parts alone: not on the threads or processes that have them, nor on who is ready first.

    0 ─┐
    1 ─┴─ · ─┐          halves of halves, down to single parts; of an odd number the first half is the smaller one
    2 ─┐     ├─ total
    3 ─┴─ · ─┘

Two processes with as many parts each have a half each, four a quarter: what they add up is the top of the same tree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")
Node = tuple[int, int]         # first part, and last + 1


class Sum(Generic[T]):
    """The sum of parts that come in any order, from any thread.

    count: how many there are.
    plus: adds two; it may change the first.
    """

    def __init__(self, count: int, plus: Callable[[T, T], T]) -> None:
        self.count, self.plus, self.lock = count, plus, Lock()
        self.waiting: dict[Node, T] = {}                                  # the first half of a pair that is there, by the pair
        self.total: T | None = None

    def add(self, index: int, value: T) -> None:
        """Add a part, once.

        index: its number, 0 … count − 1.
        value: what it is.
        """
        for pair in self._pairs(index):
            with self.lock:
                other = self.waiting.pop(pair, None)
                if other is None:
                    self.waiting[pair] = value
                    return
            value = self.plus(other, value)
        self.total = value

    def others(self, index: int) -> list[T]:
        """What is to be added to a part for the total, one after another, where it is the only one that is missing.

        index: its number.
        """
        return [self.waiting[pair] for pair in self._pairs(index)]

    def _pairs(self, index: int) -> list[Node]:
        """The pairs that a part belongs to, the smallest first."""
        first, stop, found = 0, self.count, []
        while stop - first > 1:
            found.insert(0, (first, stop))
            middle = (first + stop) // 2
            first, stop = (first, middle) if index < middle else (middle, stop)
        return found


def total(parts: Sequence[T], plus: Callable[[T, T], T]) -> T | None:
    """The sum of parts; None of none.

    parts: in their order.
    plus: adds two; it may change the first.
    """
    found = Sum(len(parts), plus)
    for index, part in enumerate(parts):
        found.add(index, part)
    return found.total
