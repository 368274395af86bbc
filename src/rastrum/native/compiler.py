"""Compilation by numba: the one place that knows whether numba is there."""

from __future__ import annotations

from functools import partial
from typing import Any

try:
    from numba.core import config

    available = not config.DISABLE_JIT  # pyright: ignore[reportAttributeAccessIssue]
except ImportError:
    available = False


def compiled(function: Any = None, *, any_order: bool = False, slow: bool = False, makes_arrays: bool = False) -> Any:
    """``function`` compiled by numba when first called, with exact arithmetic; its machine code is kept on disk (``cache``).

    any_order: lets a sum or a maximum run in 16 parts · slow: takes seconds to compile, so that is announced on stderr · makes_arrays:
    counts references to arrays, which takes as long as a short loop and holds up other threads. No function returns an array.
    """
    if function is None:
        return partial(compiled, any_order=any_order, slow=slow, makes_arrays=makes_arrays)
    import numba

    from .cache import Cache, NoCache

    fastmath = {"reassoc", "nnan", "nsz"} if any_order else False
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath, _nrt=makes_arrays)(function)  # pyright: ignore[reportCallIssue]
    try:
        dispatcher._cache = Cache(function, slow)
    except RuntimeError:                                                  # numba found no folder that can be written
        dispatcher._cache = NoCache(slow)
    return dispatcher
