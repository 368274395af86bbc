"""Loss and gradient of a batch: in pieces on threads, or, where several processes train together, by PyTorch's ``DistributedDataParallel``
or, with ``run.shard``, its FSDP2.

Each process works on its share of the batch, on one piece after another; while it computes the gradient of the last one, those of all
processes are added up.
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
from .sharding import shard


class Losses(nn.Module):
    """A model's losses as what it computes forward, for what wraps a module: images, conditions, number of the objective → (B,)."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, condition: Tensor | None, number: int = 0) -> Tensor:
        return self.model.objectives()[number].loss(x, condition)


class Workers:
    """Loss and gradient of a batch: worker w takes the pieces w, w + count, …; the sums of the workers are added in their order.

    model: on its device.
    config: gives the sizes of batch and pieces, and the number of workers.
    processes: that share the batch; this one alone by default.
    """

    def __init__(self, model: Model, config: TrainConfig, processes: Processes = ALONE) -> None:
        optim = config.optim
        self.model, self.processes = model, processes
        self.losses = None
        if processes.count > 1 and config.run.shard:
            self.losses = Losses(model)
            shard(self.losses)
        elif processes.count > 1:                                         # models that learn in stages do not use every parameter
            losses = Losses(model)
            losses.register_parameter("unused", nn.Parameter(torch.zeros(1, device=model.device)))   # DDP warns if there are none
            self.losses = DistributedDataParallel(losses, find_unused_parameters=True)
        self.objectives = model.objectives()
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.piece = min(optim.micro_batch or optim.batch, optim.batch) if model.device.type == "cpu" else optim.batch
        self.pool = Pool(min(config.run.workers or torch.get_num_threads(), -(-optim.batch // self.piece)))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.__exit__()

    def gradients(self, x: Tensor, condition: Tensor | None, seed: int | None = None, first: int = 0, number: int = 0) -> float:
        """Set the gradients of an objective's mean loss; a parameter without one, or of others, gets None, which Adam then skips.

        x: integer levels (B, *spec.shape).
        condition: one per image, or None.
        seed: of the noise that the model draws; None (default) = from torch's generator.
        first: position of the first image in the training, 0 by default.
        number: of the objective, 0 by default.

        Returns the mean loss of the whole batch, which every process is given, and works on its share of.
        """
        objective, part_of_batch = self.objectives[number], partial(self._loss, x, condition, seed, first, number)
        for parameter in self.parameters:
            parameter.grad = None
        if self.losses is not None:
            mean = self._shared(self.losses, number, part_of_batch, len(x))
            lowered = set(objective.parameters)
            for parameter in self.parameters:                             # a loss may reach others, as a generator's does the discriminator
                parameter.grad = parameter.grad if parameter in lowered else None
            return mean

        def work(worker: int) -> tuple[list[Tensor | None], Tensor]:
            total: list[Tensor | None] = []
            mean = torch.zeros((), dtype=torch.float64, device=float64_device(self.model.device))
            for start in range(worker * self.piece, len(x), self.pool.count * self.piece):
                loss = part_of_batch(objective.loss, slice(start, start + self.piece))
                gradients = torch.autograd.grad(loss, objective.parameters, allow_unused=True)
                total = _add(total, gradients) if total else list(gradients)
                mean += in_float64(loss.detach())
            return total, mean

        (total, mean), *others = self.pool.map(work, range(self.pool.count))
        for gradients, loss in others:
            if gradients:
                total = _add(total, gradients)
            mean += loss
        for parameter, gradient in zip(objective.parameters, total, strict=True):
            parameter.grad = None if gradient is None else _laid_out_as(parameter, gradient)
        return mean.item()

    def _loss(
        self, x: Tensor, condition: Tensor | None, seed: int | None, first: int, number: int, loss: Callable[..., Tensor], part: slice
    ) -> Tensor:
        """What a part of the batch adds to the mean of objective ``number``."""
        device = self.model.device
        images, given = x[part].to(device, torch.int64), None if condition is None else to_device(condition[part], device)
        with nullcontext() if seed is None else drawing(seed, first + np.arange(part.start, part.start + len(images)), number):
            return loss(images, given).sum() / len(x)

    def _shared(self, losses: nn.Module, number: int, part_of_batch: Callable[..., Tensor], count: int) -> float:
        """``gradients`` where several processes share the batch of ``count`` images."""
        share = self.processes.share(count)
        mean = torch.zeros((), dtype=torch.float64, device=float64_device(self.model.device))

        def work(start: int) -> None:
            stop = min(start + self.piece, share.stop)
            with _adding_up(losses, stop == share.stop):
                loss = part_of_batch(partial(losses, number=number), slice(start, stop))
                (loss * self.processes.count).backward()                  # DDP and FSDP2 take the mean over processes
            mean.add_(in_float64(loss.detach()))

        with self.processes.watched():
            for start in range(share.start, share.stop, self.piece):
                inherited(work)(start)
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
