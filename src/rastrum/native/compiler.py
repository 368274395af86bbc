"""The one place that knows whether numba is there, and that compiles."""

from __future__ import annotations

from functools import partial
from typing import Any

try:
    import numba
    from numba.core import config

    available = not config.DISABLE_JIT  # pyright: ignore[reportAttributeAccessIssue]
except ImportError:
    available = False


def compiled(function: Any = None, *, any_order: bool = False) -> Any:
    """numba's loop, kept on disk; ``any_order`` lets a sum or a maximum run in 16 parts."""
    if function is None:
        return partial(compiled, any_order=any_order)
    if not available:
        return function
    options: Any = dict(nogil=True, error_model="numpy", fastmath={"reassoc", "nnan", "nsz"} if any_order else False)
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:                                                  # no folder that can hold the cache
        return numba.njit(function, **options)
