"""A stand-in for a GPU without float64, such as Apple's, for machines that have none: a device "nodouble" whose tensors wrap CPU tensors.

It refuses what such a device refuses: to make, convert to, copy from or copy to a tensor of float64; operations that PyTorch's own table of
operations has for the CPU and not for mps; int64 ``cumsum``, which is wrong on old systems; tensors of two devices in one operation; and
``.numpy()``. Importing it registers a device for the rest of the process, so tests run it in a process of its own (``test_device.py``).
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torchgen
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "nodouble"
WIDE = (torch.float64, torch.complex128)
TABLE = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
aten = torch.ops.aten
ON_ANY_DEVICE = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)   # of their indices

_setup_privateuseone_for_python_backend(NAME)
torch.inference_mode = lambda mode=True: torch.no_grad() if mode else torch.enable_grad()   # its tensors cannot be wrapped


class Generator(torch.Generator):
    """The random numbers of the device are the CPU's."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        return super().__new__(cls, "cpu")                                # pyright: ignore[reportCallIssue]


torch.Generator = Generator


def refuse(*types: torch.dtype) -> None:
    if any(dtype in WIDE for dtype in types):
        raise TypeError(f"Cannot convert a {NAME} tensor to float64 dtype as it doesn't support float64")


@lru_cache
def table() -> dict[str, tuple[set[str], str]]:
    """Of each operation: the backends with a kernel of their own, and the operation whose kernel it uses."""
    found = {}
    for block in re.split(r"^- func: ", TABLE.read_text(), flags=re.MULTILINE)[1:]:
        uses = re.search(r"structured_delegate: (\S+)", block)
        lines = re.findall(r"^    ([A-Z][\w, ]*): \w", block, flags=re.MULTILINE)
        found[block.partition("(")[0]] = {key.strip() for line in lines for key in line.split(",")}, uses.group(1) if uses else ""
    return found


@lru_cache
def has_kernel(name: str) -> bool:
    """Whether mps has the operation: its own kernel, or one that is composed of other operations."""
    kernels, uses = table().get(name, (set(), ""))
    return has_kernel(uses) if uses else not kernels or "MPS" in kernels or any(kernel.startswith("Composite") for kernel in kernels)


@lru_cache
def is_there(function: Any) -> bool:
    return has_kernel(str(function).removeprefix("aten.").removesuffix(".default"))


class Wrapped(torch.Tensor):
    """A tensor on the device. Its values are in ``inner``."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl           # pyright: ignore[reportAssignmentType]

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Wrapped:
        refuse(inner.dtype)
        layout: dict[str, Any] = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        self = torch.Tensor._make_wrapper_subclass(cls, inner.shape, device=torch.device(NAME, 0), **layout)
        self.inner = inner
        return self

    def __repr__(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"{self.inner!r} on {NAME}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = Wrapped(self.inner.detach().clone())
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        memo[id(self)] = copied
        return copied

    def tolist(self) -> Any:
        return self.inner.tolist()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def numpy(self, *args: Any, **options: Any) -> Any:
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu() first")

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), options: Any = None) -> Any:
        return run(function, args, options or {})


def inner(x: Any) -> Any:
    return x.inner if isinstance(x, Wrapped) else x


def wrapped(x: Any) -> Any:
    return Wrapped(x) if isinstance(x, torch.Tensor) else x


def run(function: Any, args: Any, options: dict[str, Any]) -> Any:
    """An operation on the CPU tensors inside, if the device has it."""
    tensors = [x for x in tree_leaves((args, options)) if isinstance(x, torch.Tensor)]
    ours = [x for x in tensors if isinstance(x, Wrapped)]
    device = options.get("device")
    to_us = device is not None and torch.device(device).type == NAME
    if function is aten._local_scalar_dense.default:
        return function(inner(args[0]))
    if function in (aten._to_copy.default, aten.copy_.default, aten._copy_from.default):
        return moved(function, args, options)
    if not ours and not to_us:
        return function(*args, **options)
    if function not in ON_ANY_DEVICE and any(x.dim() for x in tensors if not isinstance(x, Wrapped)):
        raise RuntimeError(f"{function}: expected all tensors to be on the same device, found some on {NAME} and some on cpu")
    if not is_there(function) or (function is aten.cumsum.default and args[0].dtype == torch.int64):
        raise NotImplementedError(f"The operator '{function}' is not currently implemented for the {NAME} device")
    refuse(*[dtype for dtype in (options.get("dtype"),) if dtype is not None])
    if device is not None:
        options = {**options, "device": torch.device("cpu")}
    out = function(*tree_map(inner, args), **tree_map(inner, options))
    known = {id(x.inner): x for x in ours}                                # operations in place return what they were given
    return tree_map(lambda y: known[id(y)] if id(y) in known else wrapped(y), out)


def moved(function: Any, args: Any, options: dict[str, Any]) -> Any:
    """A copy between devices or types; neither side may be of float64 if one of them is on the device."""
    if function is aten._to_copy.default:
        (source,) = args
        device, dtype = torch.device(options.get("device") or source.device), options.get("dtype") or source.dtype
        if isinstance(source, Wrapped) or device.type == NAME:
            refuse(source.dtype, dtype)
        copied = function(inner(source), **{**options, "device": torch.device("cpu")})
        return Wrapped(copied) if device.type == NAME else copied
    target, source = args[:2] if function is aten.copy_.default else args[1::-1]
    if isinstance(source, Wrapped) or isinstance(target, Wrapped):
        refuse(source.dtype, target.dtype)
    inner(target).copy_(inner(source))
    return target


_every = torch.library.Library("_", "IMPL")
_every.fallback(lambda function, *args, **options: run(function, args, options), "PrivateUse1")
_aten = torch.library.Library("aten", "IMPL")
for _name in ("empty_strided", "empty.memory_format", "copy_", "_to_copy", "_copy_from", "_local_scalar_dense"):
    _base, _, _overload = _name.partition(".")
    _function = getattr(getattr(aten, _base), _overload or "default")
    _aten.impl(_name, lambda *args, _function=_function, **options: run(_function, args, options), "PrivateUse1")
