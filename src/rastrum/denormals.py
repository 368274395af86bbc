"""Denormal numbers belong to the specified arithmetic; a process may flush them to zero, by torch or by a library that it loads.

Whether a thread does is a setting of its processor core, inherited from the thread that started it. So what must give the specified bits
runs inside ``kept``, whichever thread it is in, and the setting is as before afterwards. Neither does ``torch.autocast`` reach into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import torch

from .autocast import full_precision

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

SMALLEST_NORMAL = np.array([0x00800000], np.uint32).view(np.float32)     # from bits: a conversion would be flushed too
DENORMAL = np.array([0x00400000], np.uint32).view(np.float32)


class PortabilityError(RuntimeError):
    """This machine, as it is set now, does not compute what docs/arithmetic.md specifies: its files would not decode on others."""


def flushed() -> bool:
    """Whether this thread flushes denormal results or operands to zero."""
    results, operands = SMALLEST_NORMAL * np.float32(0.5), DENORMAL * np.float32(1024)
    return not (results.view(np.uint32)[0] and operands.view(np.uint32)[0])


@contextmanager
def kept() -> Iterator[None]:
    """Meanwhile this thread computes with denormal numbers, and torch on it alone if it did not; and nothing is autocast.

    Raises ``PortabilityError`` if it cannot.
    """
    with full_precision(), _denormals():
        yield


@contextmanager
def _denormals() -> Iterator[None]:
    if not flushed():
        yield
        return
    torch.set_flush_denormal(False)
    if flushed():
        message = "this process flushes denormal numbers to zero and cannot be set not to, so nothing is drawn or coded"
        raise PortabilityError(f"arithmetic: {message}")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)                                          # torch's other threads may flush as this one did
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)


def keeping(function: F) -> F:
    """``function`` inside ``kept``.

    function: any.
    """

    @wraps(function)
    def inside(*args: Any, **options: Any) -> Any:
        with kept():
            return function(*args, **options)

    return cast(F, inside)


def each_kept(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made inside ``kept``.

    items: an iterator that computes them.
    """
    while True:
        with kept():
            try:
                item = next(items)
            except StopIteration:
                return
        yield item
