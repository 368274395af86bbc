"""Loss and gradient of a batch: in pieces on threads, or, where several processes train together, by PyTorch's ``DistributedDataParallel``
or, with ``run.shard``, its FSDP2.

Each process works on its share of the batch, on one piece after another; while it computes the gradient of the last one, those of all
processes are added up. Gradients of pieces are added up on every device: on a CPU since a few images stay in the cache, elsewhere where the
whole batch does not fit the memory (``optim.accumulate``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
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


class Losses(nn.Module):
    """A model's losses as what it computes forward, for what wraps a module: images, conditions, number of the objective → (B,).

    model: holds the parameters.
    losses: of its objectives, its own or compiled.
    """

    def __init__(self, model: Model, losses: list[Callable[..., Tensor]]) -> None:
        super().__init__()
        self.model, self.losses = model, losses

    def forward(self, x: Tensor, condition: Tensor | None, number: int = 0) -> Tensor:
        return self.losses[number](x, condition)


class Workers:
    """Loss and gradient of a batch: worker w takes the pieces w, w + count, …; the sums of the workers are added in their order.

    model: on its device.
    config: gives the sizes of batch and pieces, and the number of workers.
    processes: that share the batch; this one alone by default.
    """

    def __init__(self, model: Model, config: TrainConfig, processes: Processes = ALONE) -> None:
        optim, run, is_cpu = config.optim, config.run, model.device.type == "cpu"
        self.model, self.processes, self.half = model, processes, run.precision == "bf16"
        self.losses = [compiled(objective.loss) if run.compile else objective.loss for objective in model.objectives()]
        self.shared = None
        if processes.count > 1 and run.shard:
            self.shared = Losses(model, self.losses)
            shard(self.shared)
        elif processes.count > 1:                                         # models that learn in stages do not use every parameter
            shared = Losses(model, self.losses)
            shared.register_parameter("unused", nn.Parameter(torch.zeros(1, device=model.device)))   # DDP warns if there are none
            self.shared = DistributedDataParallel(shared, find_unused_parameters=True)
        self.objectives = model.objectives()                              # after shards have replaced the parameters
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
        self,
        x: Tensor,
        condition: Tensor | None,
        seed: int | None = None,
        first: int = 0,
        batch: int | None = None,
        number: int = 0,
    ) -> float:
        """Set the gradients of an objective's mean loss; a parameter without one, or of others, gets None, which Adam then skips.

        x: integer levels (B, *spec.shape): the batch, or this process' share of it.
        condition: one per image, or None.
        seed: of the noise that the model draws; None (default) = from torch's generator.
        first: position of the first image in the training, 0 by default.
        batch: images of all processes; None (default) = B.
        number: of the objective, 0 by default.

        Returns the mean loss of the whole batch.
        """
        for parameter in self.parameters:
            parameter.grad = None
        part_of_batch = partial(self._loss, x, condition, seed, first, batch or len(x), number)
        with torch.autocast(self.model.device.type, torch.bfloat16) if self.half else nullcontext():
            if self.shared is not None:
                return self._shared(self.shared, number, part_of_batch, len(x))
            return self._alone(number, part_of_batch, len(x))

    def _alone(self, number: int, part_of_batch: Callable[..., Tensor], count: int) -> float:
        """``gradients`` of ``count`` images where this process has the whole batch."""
        parameters = self.objectives[number].parameters

        def work(worker: int) -> tuple[list[Tensor | None], Tensor]:
            total: list[Tensor | None] = []
            mean = torch.zeros((), dtype=torch.float64, device=float64_device(self.model.device))
            for start in range(worker * self.piece, count, self.pool.count * self.piece):
                loss = part_of_batch(self.losses[number], slice(start, start + self.piece))
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
                total = _add(total, gradients) if total else list(gradients)
                mean += in_float64(loss.detach())
            return total, mean

        (total, mean), *others = self.pool.map(work, range(self.pool.count))
        for gradients, loss in others:
            if gradients:
                total = _add(total, gradients)
            mean += loss
        for parameter, gradient in zip(parameters, total, strict=True):
            parameter.grad = None if gradient is None else _laid_out_as(parameter, gradient)
        return mean.item()

    def _loss(
        self,
        x: Tensor,
        condition: Tensor | None,
        seed: int | None,
        first: int,
        batch: int,
        number: int,
        loss: Callable[..., Tensor],
        part: slice,
    ) -> Tensor:
        """What a part of the images adds to the mean loss of objective ``number``."""
        device = self.model.device
        images, given = x[part].to(device, torch.int64), None if condition is None else to_device(condition[part], device)
        with nullcontext() if seed is None else drawing(seed, first + np.arange(part.start, part.start + len(images)), number):
            return loss(images, given).sum() / batch

    def _shared(self, shared: nn.Module, number: int, part_of_batch: Callable[..., Tensor], count: int) -> float:
        """``gradients`` of ``count`` images, the share of this process, where several share the batch."""
        mean = torch.zeros((), dtype=torch.float64, device=float64_device(self.model.device))

        def work(start: int) -> None:
            with _adding_up(shared, start + self.piece >= count):
                loss = part_of_batch(partial(shared, number=number), slice(start, start + self.piece))
                (loss * self.processes.count).backward()                  # DDP and FSDP2 take the mean over processes
            mean.add_(in_float64(loss.detach()))

        with self.processes.watched():
            for start in range(0, count, self.piece):
                inherited(work)(start)
        lowered = set(self.objectives[number].parameters)
        for parameter in self.parameters:                                 # a loss may reach others, as a generator's does the discriminator
            parameter.grad = parameter.grad if parameter in lowered else None
        return sum(part for (part,) in self.processes.gather(mean.item()))


@contextmanager
def _adding_up(losses: nn.Module, last: bool) -> Iterator[None]:
    """Meanwhile gradients are added to those of this process, and after the last piece to those of all."""
    if isinstance(losses, DistributedDataParallel):
        with nullcontext() if last else losses.no_sync():
            yield
        return
    sharded: Any = losses
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
