"""``torch.compile`` of a model's loss (``run.compile``): torch's operations are fused into kernels that are made for the shapes at hand.

Meanwhile layers take their forms in torch instead of those of ``native``, which a compiler cannot look into (``native_for``). What it
cannot trace stays as it is, and divides what is compiled: noise in NumPy, checks that look at values, recurrences.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .. import distributions, protocol
from ..layers.recurrent import DiagonalScan, RowScan, Scan
from ..models.conv_draw import ConvDRAW

BACKEND = "inductor"
LIMIT = 64                     # versions of a function that are kept, for layers of several shapes
OUTSIDE_FILES = ("noise", "training_noise", "memory")
OUTSIDE: tuple[tuple[Any, str], ...] = (
    (protocol, "_check_range"),
    (distributions, "log_normal_mass"),
    (distributions.GaussianMixture, "component_log_prob"),
    (Scan, "forward"),
    (RowScan, "forward"),
    (DiagonalScan, "forward"),
    (ConvDRAW, "weigh"),                                                  # by a number that changes in every step
)


def check_compiler(device: torch.device) -> None:
    """Check that loops can be compiled for a device.

    device: that trains.

    Raises ``ValueError`` where a compiler is missing.
    """
    if BACKEND != "inductor":
        return
    if device.type == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler:
            raise ValueError("train: run.compile needs a C++ compiler such as g++, and none is here; install one or leave it out") from None
    else:
        from torch.utils._triton import has_triton

        if not has_triton():
            raise ValueError(f"train: run.compile needs Triton on {device.type}; pip install triton, or leave run.compile out")


def compiled(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same function, compiled when it is first called, and again where shapes or settings of the model change.

    loss: of a model: images, conditions → nats.

    What it returns raises ``ValueError`` where torch cannot compile the model.
    """
    _leave_outside()
    run = torch.compile(loss, backend=BACKEND, dynamic=False)             # layers of several shapes run the same functions
    from torch._dynamo.exc import TorchDynamoException

    def inside(x: Tensor, condition: Tensor | None) -> Tensor:
        try:
            return run(x, condition)
        except TorchDynamoException as error:
            why = " ".join(str(error).split())[:300]
            raise ValueError(f"train: torch cannot compile this model; leave run.compile out ({why})") from error

    return inside


@lru_cache
def _leave_outside() -> None:
    """When a model is compiled, not earlier: torch's compiler takes a second to import."""
    from torch._dynamo import config, trace_rules

    warnings.filterwarnings("ignore", "Dynamo detected a call to a .functools.lru_cache", UserWarning)   # what ours keep are constants
    config.recompile_limit = max(config.recompile_limit, LIMIT)
    for name in OUTSIDE_FILES:
        trace_rules.add(f"{__package__.partition('.')[0]}.{name}")        # pyright: ignore[reportOptionalMemberAccess]
    for owner, name in OUTSIDE:
        setattr(owner, name, torch.compiler.disable(getattr(owner, name)))
