"""What ``torch.autocast`` may change: products and convolutions in training and in scores, nothing else.

    layers             torch casts products and convolutions to half precision, bfloat16 or float16
    our functions      autograd functions and compiled loops take float32, and compute their gradients as they computed (``Function``)
    distributions      made of float32 (``restored``): log-softmax, mixtures, densities, KL, and sums over an image, which are float64
    whatever draws     samples, completions, reconstructions, files and initialisation are computed as without it (``full_precision``)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor

KINDS = ("cpu", "cuda", "mps", "xpu")


def casting() -> list[str]:
    """The kinds of device on which this thread autocasts."""
    return [kind for kind in KINDS if torch.is_autocast_enabled(kind)]


@contextmanager
def full_precision() -> Iterator[None]:
    """Meanwhile this thread casts nothing, on any device."""
    kinds = casting()
    if not kinds:                                                         # as nearly always, in loops over decisions too
        yield
        return
    with ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def inherited(work: Callable[..., Any]) -> Callable[..., Any]:
    """``work``, for any thread, under the autocasting of this one.

    Without torch's cache of cast weights: it would keep those of a step for the steps after it.
    """
    settings = [(kind, torch.get_autocast_dtype(kind)) for kind in casting()]
    if not settings:
        return work

    @wraps(work)
    def inside(*args: Any) -> Any:
        with ExitStack() as stack:
            for kind, dtype in settings:
                stack.enter_context(torch.autocast(kind, dtype, cache_enabled=False))
            return work(*args)

    return inside


def is_cast(x: Tensor) -> bool:
    """Whether ``x`` may have been cast: of half precision, on a device that autocasts."""
    return x.dtype.itemsize == 2 and x.is_floating_point() and x.device.type in KINDS and torch.is_autocast_enabled(x.device.type)


def restored(x: Tensor) -> Tensor:
    """``x`` in float32 where it may have been cast; else ``x`` itself."""
    return x.float() if is_cast(x) else x


class Function(torch.autograd.Function):
    """An autograd function that takes float32 where autocasting gave it less, and in which nothing is cast, in its gradient neither."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        backward = cls.backward

        @staticmethod
        @wraps(backward)
        def uncast(*args: Any) -> Any:
            if not casting():
                return backward(*args)
            with full_precision():
                return backward(*args)

        cls.backward = uncast                                             # pyright: ignore[reportAttributeAccessIssue]

    @classmethod
    def apply(cls, *args: Any) -> Any:
        if not casting():
            return super().apply(*args)
        inputs = [restored(x) if isinstance(x, Tensor) else x for x in args]
        with full_precision():
            return super().apply(*inputs)
