"""Memory is asked for, not taken: what a request would need is compared with what is free before anything is made."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CGROUP = (("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
          ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"))  # fmt: skip
MANY, NOTABLE = 64, 1 << 30    # images, and bytes kept for gradients, from which on this is said
SMALLEST = 1 << 14             # bytes that a tensor counts for at least, with the Python objects around it


def available() -> int | None:
    """Bytes of memory that this process may still take without swapping; None where the system does not say."""
    found = []
    information = Path("/proc/meminfo")
    if information.exists():
        fields = dict(line.split(":", 1) for line in information.read_text(encoding="utf-8").splitlines() if ":" in line)
        if "MemAvailable" in fields:
            found.append(1024 * int(fields["MemAvailable"].split()[0]))
    elif hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(os.sysconf_names):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit, usage in CGROUP:                                           # of a container
        try:
            most, used = Path(limit).read_text(encoding="utf-8").strip(), Path(usage).read_text(encoding="utf-8").strip()
        except OSError:
            continue
        if most.isdecimal() and used.isdecimal() and int(most) < 1 << 60:
            found.append(max(0, int(most) - int(used)))
    return min(found, default=None)


def size_text(count: float) -> str:
    """A number of bytes for people: 1.5 GiB.

    count: number of bytes.
    """
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = next((n for n in range(len(units)) if count < 1024 ** (n + 1)), len(units) - 1)
    value = count / 1024**power
    if value > 1e9:
        return "more than a billion TiB"
    return f"{value:,.{1 if power and value < 10 else 0}f} {units[power]}"


def ask(what: str, needed: float, remedy: str) -> None:
    """Refuse a request that does not fit into the free memory.

    what: the request, such as "--count 7".
    needed: bytes.
    remedy: what to do instead.

    Raises ``ValueError`` (one line) for it.
    """
    free = available()
    if free is not None and needed > free:
        raise ValueError(f"{what} would need about {size_text(needed)} of memory, {size_text(free)} are free; {remedy}")


def graph_bytes(run: Callable[[], Tensor], owned: Iterable[Tensor] = ()) -> int:
    """Bytes that autograd keeps for a result.

    run: makes the result.
    owned: tensors that are not counted, such as parameters; none by default.
    """
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        made = run()
    del made
    without = {tensor.untyped_storage().data_ptr() for tensor in owned}
    return sum(size for pointer, size in kept.items() if pointer not in without)


def ask_graph(what: str, model: torch.nn.Module, x: Tensor, run: Callable[[slice], Tensor]) -> None:
    """Warn of the memory that many images take with gradients, estimated from one of them.

    what: the request, for the message.
    model: that is run.
    x: images (B, …).
    run: of a part of x.

    Nothing is said of few images, in training mode, and without gradients. Raises ``ValueError`` if it does not fit.
    """
    if len(x) < MANY or model.training or not torch.is_grad_enabled():
        return
    with torch.random.fork_rng(devices=[]):
        needed = len(x) * graph_bytes(lambda: run(slice(0, 1)), [*model.parameters(), *model.buffers()])
    remedy = "call it under torch.no_grad(), which keeps nothing, or with fewer images"
    ask(f"{what} of {len(x)} images with gradients", needed, remedy)
    if needed > NOTABLE:
        warnings.warn(f"{what} of {len(x)} images keeps about {size_text(needed)} for gradients; {remedy}", stacklevel=3)


class TooLarge(ValueError):
    """More memory than a model may take while it is built."""


class Allowance(TorchDispatchMode):
    """Meanwhile, ``TooLarge`` is raised before tensors of more than ``limit`` bytes in all are made, temporary ones included."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit, self.taken = limit, 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is compiled; to say so saves the second that importing torch's compiler takes."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.taken += self._bytes(func, args, kwargs)
        if self.taken > self.limit:
            raise TooLarge(f"it takes {size_text(self.taken)} or more")
        return func(*args, **kwargs)

    @staticmethod
    def _bytes(func: Any, args: Any, kwargs: Any) -> int:
        """What an operation makes: found by running it on tensors without content, save where that would load sympy (0.3 s)."""
        if func.is_view or func._schema.is_mutable:
            return 0
        if func.overloadpacket is torch.ops.aten.arange:
            return max(SMALLEST, 8 * len(range(*map(int, args))))
        if torch.Tag.pointwise in func.tags:
            tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            return max(SMALLEST, 8 * math.prod(torch.broadcast_shapes(*(x.shape for x in tensors))))
        takes_device = any(argument.name == "device" for argument in func._schema.arguments)
        args, kwargs = tree_map(lambda x: x.to("meta") if isinstance(x, Tensor) else x, (args, kwargs))
        try:
            made = func(*args, **(kwargs | {"device": torch.device("meta")} if takes_device else kwargs))
        except (RuntimeError, NotImplementedError):                       # its size depends on values, as that of nonzero
            return SMALLEST
        return sum(max(SMALLEST, x.numel() * x.element_size()) for x in tree_leaves(made) if isinstance(x, Tensor))
