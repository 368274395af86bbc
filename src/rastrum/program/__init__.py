"""One lowering, two interpreters: ``builder`` says what a program is, ``torch_interpreter`` and ``native`` run it.

``tables`` lays a program out for ``native``, which drives what ``kernels`` compiles; ``golden`` checks that it computes as everywhere.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..native import lanes
from .builder import Head, Program
from .torch_interpreter import TorchInterpreter

if TYPE_CHECKING:
    from ..raster import RasterModel
    from .native import NativeInterpreter

    Interpreter: TypeAlias = TorchInterpreter | NativeInterpreter

__all__ = ["Head", "Interpreter", "Program", "TorchInterpreter", "interpreter"]


def interpreter(model: RasterModel, batch: int, condition: Tensor | None, backend: str | None, threads: int) -> Interpreter:
    """What runs the model's program: "native", "torch", or None = native where the model is float32 on a CPU.

    Raises ``ValueError`` for one that cannot.
    """
    if backend not in (None, "torch", "native"):
        raise ValueError(f"backend: expected None, 'native', 'torch' or 'naive', got {backend!r}")
    dtype, device = model.dtype, model.device
    if backend == "torch" or not suits_native(model):
        if backend == "native" and not has_numba():
            raise ValueError("backend: 'native' needs numba, which is not installed; pip install numba, or take 'torch'")
        if backend == "native":
            raise ValueError(f"backend: 'native' is for float32 on a CPU, this model is {dtype} on {device}; convert it, or take 'torch'")
        return TorchInterpreter(lowered(model), batch, dtype, device, condition)
    from .native import NativeInterpreter
    from .tables import packed

    return NativeInterpreter(packed(lowered(model)), batch, condition, threads)


_programs: WeakKeyDictionary[RasterModel, tuple[list[Tensor], Program]] = WeakKeyDictionary()


def lowered(model: RasterModel) -> Program:
    """The model's step program: for a model of the library the last one again, if no number of it has changed since.

    A user's ``lower`` may read anything, so it is asked each time.
    """
    if not type(model).__module__.startswith("rastrum."):
        return model.program()
    numbers = [*model.parameters(), *model.buffers()]
    then, program = _programs.get(model, ([], None))
    same = len(then) == len(numbers) and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(then, numbers, strict=True))
    if program is None or not same:
        program = model.program()
        _programs[model] = [number.detach().clone() for number in numbers], program
    return program


def suits_native(model: RasterModel) -> bool:
    """Whether the native interpreter can run the program of this model, here."""
    return model.dtype == torch.float32 and model.device.type == "cpu" and has_numba()


@lru_cache
def has_numba() -> bool:
    """Whether the native interpreter can run here; says once if not."""
    if not lanes.available:
        warnings.warn("numba is not installed: steps run through torch, several times slower; pip install numba", stacklevel=2)
        return False
    return True
