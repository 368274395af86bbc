"""Compilation by numba: the one place that knows whether numba is there."""

from __future__ import annotations

from functools import partial
from typing import Any

try:
    from numba.core import config

    available = not config.DISABLE_JIT  # pyright: ignore[reportAttributeAccessIssue]
except ImportError:
    available = False


def compiled(function: Any = None, *, any_order: bool = False, slow: bool = False) -> Any:
    """``function`` compiled by numba when first called, with exact arithmetic; its machine code is kept on disk (``cache``).

    any_order: lets a sum or a maximum run in 16 parts · slow: takes seconds to compile, so that is announced on stderr
    """
    if function is None:
        return partial(compiled, any_order=any_order, slow=slow)
    import numba

    from .cache import Cache, NoCache

    dispatcher: Any = numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "nnan", "nsz"} if any_order else False)(function)
    try:
        dispatcher._cache = Cache(function, slow)
    except RuntimeError:                                                  # numba found no folder that can be written
        dispatcher._cache = NoCache(slow)
    return dispatcher
