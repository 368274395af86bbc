"""Processes that do one thing together: which one this is, what part it works on, and how all of them come to the same decision.

    torchrun --nproc-per-node 4 -m rastrum train …         sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT

Training joins the processes that it was started with, and so do the commands that torchrun can start. Every other function works alone
unless it is given its processes, so that one process of a program of your own may draw or score whatever it likes:

    together = rastrum.processes.join()                          in every process
    images = rastrum.sample(model, 1000, processes=together)     every process calls, draws its share, and gets all images

Tensors go by PyTorch's process group: gloo between CPUs, nccl between GPUs. Decisions and errors are small, and go by gloo as JSON. A
process alone (``ALONE``) sends nothing, so whoever asks need not know how many there are.
"""

from __future__ import annotations

import atexit
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import import_module
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .sums import total

ERRORS: dict[str, type[Exception]] = {kind.__name__: kind for kind in (ValueError, OSError, ImportError, MemoryError)}
LOST = re.compile(r"gloo|nccl|[Cc]onnection (closed|reset|refused)|Broken pipe")   # what backends say that raise a plain RuntimeError

SHOWN = 60                     # characters of a value in a message


class Processes:
    """Processes that run the same program.

    rank: number of this one, 0 … count − 1. The first one writes, and its clock is that of all.
    count: how many there are.
    local: number of this one on its machine.
    group: of torch's process group for small messages; None where there is one process.
    """

    def __init__(self, rank: int = 0, count: int = 1, local: int = 0, group: Any = None) -> None:
        self.rank, self.count, self.local, self.group = rank, count, local, group

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, total: int) -> slice:
        """The part of ``total`` items that this process works on: consecutive ones, as many as the others have, or one more or less."""
        return slice(self.rank * total // self.count, (self.rank + 1) * total // self.count)

    def gather(self, *values: float) -> list[tuple[float, ...]]:
        """The numbers that each process has, in the order of the processes.

        values: equally many in each.
        """
        if self.count == 1:
            return [values]
        mine = torch.tensor(values, dtype=torch.float64)
        every = [torch.empty_like(mine) for _ in range(self.count)]
        with self.watched():
            dist.all_gather(every, mine, group=self.group)
        return [tuple(each.tolist()) for each in every]

    def first(self, value: float) -> float:
        """The number that the first process has."""
        return value if self.count == 1 else self.gather(value)[0][0]

    def exchange(self, value: Any) -> list[Any]:
        """What each process has, in the order of the processes.

        value: anything that JSON holds.
        """
        if self.count == 1:
            return [value]
        text = json.dumps(value).encode()
        return [json.loads(part.numpy().tobytes()) for part in self._bytes(torch.frombuffer(bytearray(text), dtype=torch.uint8))]

    def joined(self, part: Tensor) -> Tensor:
        """The parts of all processes, one after another along the first dimension, on the CPU.

        part: (n, …), of the same type and further sizes in each process; n may be 0 and may differ.
        """
        if self.count == 1:
            return part
        parts = self._bytes(_as_bytes(part))
        return torch.cat([each.view(part.dtype).view(-1, *part.shape[1:]) for each in parts if len(each)] or [part.cpu()])

    def added(self, x: Tensor) -> Tensor:
        """The sum of what the processes have, in pairs (``sums.py``), so that bits depend on their number only; each adds up a part of it.

        x: (n,) on the CPU, of the same type and size in each process.
        """
        if self.count == 1:
            return x
        each = -(-len(x) // self.count)
        parts = nn.functional.pad(x, (0, each * self.count - len(x)))
        theirs = torch.empty_like(parts)
        dist.all_to_all_single(theirs, parts, group=self.group)
        dist.all_gather(list(parts.chunk(self.count)), total(theirs.chunk(self.count), Tensor.add_), group=self.group)
        return parts[: len(x)]

    def _bytes(self, mine: Tensor) -> list[Tensor]:
        """The bytes that each process has, (n,) uint8, in the order of the processes."""
        sizes = [int(size) for (size,) in self.gather(len(mine))]
        padded = mine.new_zeros(max(sizes))
        padded[: len(mine)] = mine
        every = [torch.empty_like(padded) for _ in sizes]
        with self.watched():
            dist.all_gather(every, padded, group=self.group)
        return [each[:size] for each, size in zip(every, sizes, strict=True)]

    def spread(self, model: nn.Module) -> None:
        """Give every process the weights and buffers of the first.

        model: the same in each but for its values, which are changed in place.
        """
        if self.count == 1:
            return
        for value in model.state_dict().values():
            content = _as_bytes(value)
            with self.watched():
                dist.broadcast(content, 0, group=self.group)
            value.copy_(content.view(value.dtype).view(value.shape))

    def check_same(self, **facts: Any) -> None:
        """Check that all processes are about to do the same, with the same versions of Rastrum and torch.

        facts: what must not differ, as JSON holds it, by a name for the message, with _ for spaces; a dict by its fields.

        Raises ``ValueError`` in every process, naming the first fact or field that differs, what it is, and the two processes.
        """
        if self.count == 1:
            return
        version = import_module(__package__ or "rastrum").__version__
        facts = {"version_of_rastrum": version, "version_of_torch": torch.__version__.partition("+")[0]} | facts
        ours, *others = self.exchange(facts)
        for rank, theirs in enumerate(others, 1):
            for name, value in ours.items():
                if (other := theirs.get(name)) != value:
                    field, one, two = _difference(value, other)
                    raise ValueError(f"processes: {name.replace('_', ' ')} must be the same in all of them; {field or 'it'} is "
                                     f"{one} in process 0, {two} in process {rank}")  # fmt: skip

    @contextmanager
    def together(self) -> Iterator[None]:
        """Every process does what is inside, or none goes on: an error in one of them is raised in all.

        The message says which process it was where it was not the first.
        """
        error = None
        try:
            yield
        except tuple(ERRORS.values()) as found:
            error = found
        if not any(failed for (failed,) in self.gather(error is not None)):
            return
        kind = next((name for name, each in ERRORS.items() if isinstance(error, each)), None)
        errors = self.exchange(kind and [kind, str(error)])
        if error is not None and (self.is_first or errors[0] is not None):
            raise error
        for rank, found in enumerate(errors):
            if found is not None:                                         # the first process may do more than the others, they no more
                raise ERRORS[found[0]](found[1] if rank == 0 else f"{found[1]} (in process {rank} of {self.count})") from error

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around what waits for other processes: if one of them has ended, raises ``ConnectionError``."""
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not (isinstance(error, dist.DistError) or LOST.search(str(error))):
                raise
            raise ConnectionError("processes: another process has ended, so this one ends too; the last checkpoint is whole") from error

    def device(self, device: torch.device) -> torch.device:
        """The device of this process: each has a GPU of its own.

        device: that which was asked for.

        Raises ``ValueError`` where a machine has more processes than GPUs, and for other devices than CPUs and GPUs of CUDA.
        """
        if self.count == 1 or device.type == "cpu":
            return device
        if device.type != "cuda":
            raise ValueError(f"processes: several of them run on cpu or cuda, got {str(device)!r}")
        if self.local >= torch.cuda.device_count():
            raise ValueError(f"processes: each needs a GPU of its own, and this machine has {torch.cuda.device_count()}; start as many")
        torch.cuda.set_device(self.local)
        return torch.device("cuda", self.local)


def _difference(one: Any, two: Any, field: str = "") -> tuple[str, str, str]:
    """The first field in which two unlike values differ, "" where they have none; and what it is in each, of long ones from there on."""
    if isinstance(one, dict) and isinstance(two, dict):
        name = next(name for name in (*one, *two) if one.get(name) != two.get(name))
        return _difference(one.get(name), two.get(name), f"{field}.{name}".lstrip("."))
    texts = [json.dumps(value) for value in (one, two)]
    same = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), 0)
    start = max(0, same - SHOWN // 3) if max(map(len, texts)) > SHOWN else 0
    shown = [("…" if start else "") + text[start : start + SHOWN] + ("…" if text[start + SHOWN :] else "") for text in texts]
    return field, shown[0], shown[1]


def _as_bytes(x: Tensor) -> Tensor:
    """On the CPU, (n,) uint8: gloo does not know every type."""
    return x.detach().cpu().contiguous().view(-1).view(torch.uint8)


ALONE = Processes()
_joined: Processes | None = None


def started() -> bool:
    """Whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1 and all(name in os.environ for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"))


def join() -> Processes:
    """The processes that this one was started with, by ``torchrun`` or with its variables; ``ALONE`` where it was started alone.

    The first call waits for all of them. A process group that the caller has made already is used as it is.
    """
    global _joined
    if not dist.is_initialized():
        if not started():
            return ALONE
        store, rank, count = _rendezvous()
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=count)
        atexit.register(_leave)
        _joined = None
    if dist.get_world_size() == 1:
        return ALONE
    if _joined is None:
        rank = dist.get_rank()
        _joined = Processes(rank, dist.get_world_size(), int(os.environ.get("LOCAL_RANK", rank)), dist.new_group(backend="gloo"))
    return _joined


def first_to_complain() -> bool:
    """Whether no other process has said yet why all of them end; from the second call on False everywhere. True for a process alone."""
    if not started():
        return True
    try:
        return _rendezvous()[0].add("complaints", 1) == 1
    except (RuntimeError, OSError):                                       # whoever kept the count has ended
        return True


@lru_cache
def _rendezvous() -> tuple[Any, int, int]:
    """The store by which the processes find one another, the rank of this one, and how many there are."""
    from torch.distributed.rendezvous import rendezvous

    return next(rendezvous("env://"))


def _leave() -> None:
    with suppress(RuntimeError):                                          # the others may have ended
        if dist.is_initialized():
            dist.destroy_process_group()
