"""Step programs: ``builder`` defines them, ``optimise`` makes them cheaper, ``torch_interpreter``, ``graphs`` and ``native`` run them.

``tables`` lays a program out for ``native``, which drives the compiled loops of ``rastrum/native``; ``golden`` checks that this machine
computes them as specified. Nothing here knows a model.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from .builder import Head, Program
from .torch_interpreter import AROUND, TorchInterpreter

if TYPE_CHECKING:
    from .graphs import GraphInterpreter
    from .graphs import Head as ModelHead
    from .native import NativeInterpreter

    Interpreter: TypeAlias = TorchInterpreter | GraphInterpreter | NativeInterpreter

__all__ = ["Head", "Interpreter", "Program", "TorchInterpreter", "interpreter", "suits_native"]


def interpreter(
    program: Program,
    batch: int,
    dtype: torch.dtype,
    device: torch.device,
    condition: Tensor | None = None,
    backend: str | None = None,
    threads: int = 1,
    head: ModelHead | None = None,
) -> Interpreter:
    """An interpreter at the beginning of ``program``.

    program: finished, as ``RasterModel.lowered`` returns it.
    batch: number of images B.
    dtype, device: of the model's parameters.
    condition: one per image, as a checked tensor; None (default) for an unconditional model.
    backend: "native", "torch", "graphs" (torch, a CUDA graph per row), or None (default): native for float32 on a CPU, else torch.
    threads: how many the native interpreter may use, 1 by default.
    head: the model's own, which makes a distribution of the program's output; "graphs" needs it.

    Raises ``ValueError`` for a backend that cannot run here.
    """
    if backend not in (None, "torch", "graphs", "native"):
        raise ValueError(f"backend: expected None, 'native', 'torch', 'graphs' or 'naive', got {backend!r}")
    if backend == "graphs":
        from .graphs import taken

        if program.head is None or head is None:
            raise ValueError("backend: 'graphs' is for programs that say how their output becomes a distribution (head); take 'torch'")
        if any(op.kind in AROUND for phase in program.all_phases() for op in phase.operations):
            raise ValueError("backend: 'graphs' cannot run least squares, which are computed on the CPU; take 'torch'")
        return taken(program, batch, dtype, device, condition, head)
    if backend == "torch" or not suits_native(dtype, device):
        if backend == "native" and not has_numba():
            raise ValueError("backend: 'native' needs numba, which is not installed; pip install numba, or take 'torch'")
        if backend == "native":
            raise ValueError(f"backend: 'native' is for float32 on a CPU, this model is {dtype} on {device}; convert it, or take 'torch'")
        return TorchInterpreter(program, batch, dtype, device, condition)
    from .native import NativeInterpreter
    from .tables import packed

    return NativeInterpreter(packed(program), batch, condition, threads)


def suits_native(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the native interpreter can run programs here.

    dtype, device: of the model's parameters.
    """
    return dtype == torch.float32 and device.type == "cpu" and has_numba()


@lru_cache
def has_numba() -> bool:
    """Whether numba is installed; warns once if not."""
    from ..native import compiler

    if not compiler.available:
        warnings.warn("numba is not installed: steps run through torch, several times slower; pip install numba", stacklevel=2)
        return False
    return True
