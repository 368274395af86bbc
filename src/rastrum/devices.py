"""Where tensors are: the devices that this machine has, and float64 on those that have no such type.

A GPU of Apple (mps) computes with 32 bits at most. What has to be float64, sums of log-probabilities and the integer CDF, is then computed
on the CPU, so that a score has the same type and nearly the same value everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)
CPU = torch.device("cpu")
MISSING = (RuntimeError, AssertionError, NotImplementedError)             # what torch raises for a device that is not here


def found() -> list[str]:
    """The names of the devices here, the one that "auto" means first."""
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def find_device(name: str | torch.device) -> torch.device:
    """The device of a name.

    name: cpu, cuda, cuda:1, mps, …, or auto: the first of cuda, mps and cpu that is here.

    Raises ``ValueError`` (one line) for one that is unknown or not here, naming those that are, and for one that cannot be used.
    """
    if not isinstance(name, str | torch.device):
        raise ValueError(f"device: expected a name such as cpu, cuda or auto, got {name!r}")
    if str(name) == "auto":
        return torch.device(found()[0])
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()                              # not "meta", where nothing is computed
    except MISSING as error:
        if str(name) in found() or f"{name}:0" in found():                # full, or in use by another
            raise ValueError(f"device: {str(name)!r} cannot be used ({str(error).splitlines()[0]})") from None
        raise ValueError(f"device: there is no {str(name)!r} here; give {' or '.join(found())}, or auto for the fastest of them") from None
    return CPU if device.type == "cpu" else device


@lru_cache
def float64_device(device: torch.device) -> torch.device:
    """Where float64 tensors of a model on ``device`` are: there, or on the CPU if it has none."""
    if device.type in ("cpu", "cuda"):
        return device
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (TypeError, *MISSING):
        return CPU
    return device


def place(model: M, device: torch.device) -> M:
    """Move a model.

    model: changed in place, and returned.
    device: where it goes.

    Raises ``ValueError`` for one of float64 where the device has no such type.
    """
    if float64_device(device) != device and any(x.dtype == torch.float64 for x in (*model.parameters(), *model.buffers())):
        raise ValueError(f"device: the model's weights are float64, which {device} does not have; give model.float(), or take cpu")
    return model.to(device)


def in_float64(x: Tensor) -> Tensor:
    """``x`` in float64, on the CPU if its device has no such type. Gradients pass."""
    return x.to(float64_device(x.device)).double()


def as_like(x: Tensor, like: Tensor) -> Tensor:
    """``x`` in the type and on the device of ``like``; in this order, since the device may not have the type of ``x``."""
    return x.to(like.dtype).to(like.device)


def to_device(x: Tensor, device: torch.device | str | None) -> Tensor:
    """``x`` on a device, in float32 where it is float64 and the device has no such type.

    x: any tensor.
    device: where it goes; None leaves it where it is.
    """
    if device is None:
        return x
    device = torch.device(device)
    return (x.float() if x.dtype == torch.float64 and float64_device(device) != device else x).to(device)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Meanwhile torch's own random streams, of the CPU and of the GPUs in use, go on from ``seed``; afterwards as before."""
    streams = [torch.default_generator, *(torch.cuda.default_generators if torch.cuda.is_initialized() else ())]
    before = [stream.get_state() for stream in streams]
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        for stream in streams:
            stream.manual_seed(seed)
        if mps is not None:
            torch.mps.manual_seed(seed)
        yield
    finally:
        for stream, state in zip(streams, before, strict=True):
            stream.set_state(state)
        if mps is not None:
            torch.mps.set_rng_state(mps)
