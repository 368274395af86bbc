"""Loss and gradient of a batch: in pieces on threads, or, where several processes train together, by PyTorch's ``DistributedDataParallel``
or, with ``run.shard``, its FSDP2.

Each process works on its share of the batch, on one piece after another; while it computes the gradient of the last one, those of all
processes are added up. Gradients of pieces are added up on every device: on a CPU since a few images stay in the cache, elsewhere where the
whole batch does not fit the memory (``optim.accumulate``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..autocast import inherited
from ..config import TrainConfig
from ..devices import float64_device, in_float64, to_device
from ..evaluation import Pool
from ..model import Model
from ..processes import ALONE, Processes
from ..training_noise import drawing
from .compiling import compiled
from .sharding import shard


class Objective(nn.Module):
    """A model's loss as what it computes forward, for what wraps a module: images and conditions → nats (B,).

    model: holds the parameters.
    loss: its own, or that compiled.
    """

    def __init__(self, model: Model, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self.loss(x, condition)


class Workers:
    """Loss and gradient of a batch: worker w takes the pieces w, w + count, …; the sums of the workers are added in their order.

    model: on its device.
    config: gives the sizes of batch and pieces, and the number of workers.
    processes: that share the batch; this one alone by default.
    """

    def __init__(self, model: Model, config: TrainConfig, processes: Processes = ALONE) -> None:
        optim, run, is_cpu = config.optim, config.run, model.device.type == "cpu"
        self.model, self.processes, self.half = model, processes, run.precision == "bf16"
        self.loss = compiled(model.loss) if run.compile else model.loss
        self.objective = None
        if processes.count > 1 and run.shard:
            self.objective = Objective(model, self.loss)
            shard(self.objective)
        elif processes.count > 1:                                         # models that learn in stages do not use every parameter
            objective = Objective(model, self.loss)
            objective.register_parameter("unused", nn.Parameter(torch.zeros(1, device=model.device)))   # DDP warns if there are none
            self.objective = DistributedDataParallel(objective, find_unused_parameters=True)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        part = -(-optim.batch // (processes.count * optim.accumulate))
        self.piece = min(optim.micro_batch or part, part) if is_cpu else part
        together = is_cpu and not run.compile                             # what is compiled uses torch's threads inside
        self.pool = Pool(min(run.workers or torch.get_num_threads(), -(-optim.batch // self.piece)) if together else 1)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.__exit__()

    def gradients(
        self, x: Tensor, condition: Tensor | None, seed: int | None = None, first: int = 0, batch: int | None = None
    ) -> float:
        """Set the parameters' gradients of the mean loss; a parameter without one gets None, which Adam then skips.

        x: integer levels (B, *spec.shape): the batch, or this process' share of it.
        condition: one per image, or None.
        seed: of the noise that the model draws; None (default) = from torch's generator.
        first: position of the first image in the training, 0 by default.
        batch: images of all processes; None (default) = B.

        Returns the mean loss of the whole batch.
        """
        with torch.autocast(self.model.device.type, torch.bfloat16) if self.half else nullcontext():
            return self._gradients(x, condition, seed, first, batch or len(x))

    def _gradients(self, x: Tensor, condition: Tensor | None, seed: int | None, first: int, batch: int) -> float:
        if self.objective is not None:
            return self._shared(self.objective, x, condition, seed, first, batch)

        def work(worker: int) -> tuple[list[Tensor | None], Tensor]:
            total: list[Tensor | None] = []
            mean = torch.zeros((), dtype=torch.float64, device=float64_device(self.model.device))
            for start in range(worker * self.piece, len(x), self.pool.count * self.piece):
                loss = self._loss(self.loss, x, condition, slice(start, start + self.piece), seed, first, batch)
                gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
                total = _add(total, gradients) if total else list(gradients)
                mean += in_float64(loss.detach())
            return total, mean

        (total, mean), *others = self.pool.map(work, range(self.pool.count))
        for gradients, loss in others:
            if gradients:
                total = _add(total, gradients)
            mean += loss
        for parameter, gradient in zip(self.parameters, total, strict=True):
            parameter.grad = None if gradient is None else _laid_out_as(parameter, gradient)
        return mean.item()

    def _loss(
        self, loss: Callable[..., Tensor], x: Tensor, condition: Tensor | None, part: slice, seed: int | None, first: int, batch: int
    ) -> Tensor:
        """What a part of the images adds to the mean loss."""
        device = self.model.device
        images, given = x[part].to(device, torch.int64), None if condition is None else to_device(condition[part], device)
        with nullcontext() if seed is None else drawing(seed, first + np.arange(part.start, part.start + len(images))):
            return loss(images, given).sum() / batch

    def _shared(self, objective: nn.Module, x: Tensor, condition: Tensor | None, seed: int | None, first: int, batch: int) -> float:
        """``gradients`` where several processes share the batch."""
        mean = torch.zeros((), dtype=torch.float64, device=float64_device(self.model.device))
        for parameter in self.parameters:
            parameter.grad = None

        def work(start: int) -> None:
            with _adding_up(objective, start + self.piece >= len(x)):
                loss = self._loss(objective, x, condition, slice(start, start + self.piece), seed, first, batch)
                (loss * self.processes.count).backward()                  # DDP and FSDP2 take the mean over processes
            mean.add_(in_float64(loss.detach()))

        with self.processes.watched():
            for start in range(0, len(x), self.piece):
                inherited(work)(start)
        return sum(part for (part,) in self.processes.gather(mean.item()))


@contextmanager
def _adding_up(objective: nn.Module, last: bool) -> Iterator[None]:
    """Meanwhile gradients are added to those of this process, and after the last piece to those of all."""
    if isinstance(objective, DistributedDataParallel):
        with nullcontext() if last else objective.no_sync():
            yield
        return
    sharded: Any = objective
    sharded.set_requires_gradient_sync(last)
    sharded.set_reshard_after_backward(last)                              # weights are gathered once, since others may have fewer pieces
    yield


def _laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient, in memory in the order of the parameter: torch's fused Adam on CPUs reads it in that order, whatever its strides."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter, requires_grad=False).copy_(gradient)


def _add(total: list[Tensor | None], other: Any) -> list[Tensor | None]:
    """total + other, None where both are."""
    both = [(one, two) for one, two in zip(total, other, strict=True) if one is not None and two is not None]
    if both:
        torch._foreach_add_(*zip(*both, strict=True))  # pyright: ignore[reportPrivateImportUsage]
    return [two if one is None else one for one, two in zip(total, other, strict=True)]
