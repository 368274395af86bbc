"""Loss and gradient of a batch: in pieces on threads, or, where several processes train together, by PyTorch's ``DistributedDataParallel``
or, with ``run.shard``, its FSDP2.

Each process works on its share of the batch, on one piece after another; while it computes the gradient of the last one, those of all
processes are added up. Gradients of pieces are added up on every device: on a CPU since a few images stay in the cache, elsewhere where the
whole batch does not fit the memory (``optim.accumulate``).

They are added in pairs (``sums.py``), so on a CPU any number of threads, and 2, 4, 8 … processes with equally many pieces, give the same
bits as one. FSDP2 and GPUs add up those of processes in an order of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..autocast import inherited
from ..config import TrainConfig
from ..devices import in_float64, to_device
from ..evaluation import Pool
from ..model import Model
from ..processes import ALONE, Processes
from ..sums import Sum, total
from ..training_noise import drawing
from .compiling import compiled
from .sharding import shard

Gradients = dict[nn.Parameter, Tensor | None]


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
    """Loss and gradient of a batch: each thread takes the next piece.

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
            self.shared.register_comm_hook(None, lambda _, bucket: self._add_up(bucket))
        self.objectives = model.objectives()                              # after shards have replaced the parameters
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.others: list[Gradients] = []                                    # what is added to those of the last piece
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
        parameters, added = self.objectives[number].parameters, Sum(-(-count // self.piece), _plus)

        def work(index: int) -> None:
            loss = part_of_batch(self.losses[number], slice(index * self.piece, (index + 1) * self.piece))
            added.add(index, (_gradients(loss, parameters), in_float64(loss.detach())))

        list(self.pool.map(work, range(added.count)))
        assert added.total is not None
        gradients, mean = added.total
        for parameter, gradient in gradients.items():
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
        added, is_ddp = Sum(-(-count // self.piece), _plus), isinstance(shared, DistributedDataParallel)
        last = added.count - 1

        def work(index: int) -> None:
            alone, gradients = is_ddp and index < last, {}
            losses = self.losses[number] if alone else partial(shared, number=number)
            loss = part_of_batch(losses, slice(index * self.piece, (index + 1) * self.piece))
            if alone:
                gradients = _gradients(loss, self.parameters)
            elif is_ddp:
                self.others = [gradients for gradients, _ in added.others(last)]
                loss.backward()
            else:
                _add_up_after(shared, index == last)
                (loss * self.processes.count).backward()                  # FSDP2 takes the mean over processes
            added.add(index, (gradients, in_float64(loss.detach())))

        with self.processes.watched():
            for index in range(added.count):
                inherited(work)(index)
        self.others = []
        lowered = set(self.objectives[number].parameters)
        for parameter in self.parameters:                                 # a loss may reach others, as a generator's does the discriminator
            parameter.grad = parameter.grad if parameter in lowered else None
        assert added.total is not None
        mean = total(self.processes.gather(added.total[1].item()), lambda one, two: (one[0] + two[0],))
        assert mean is not None
        return mean[0]

    def _add_up(self, bucket: Any) -> Any:
        """What DDP does with gradients of the last piece, as they become known: adds those of the others, then of other processes."""
        parameters = bucket.parameters()
        for parameter, flat in zip(parameters, bucket.buffer().split([p.numel() for p in parameters]), strict=True):
            gradient = flat.as_strided(parameter.shape, parameter.stride())   # as DDP lays it out
            for gradients in self.others:
                if (other := gradients.get(parameter)) is not None:
                    gradient += other
        if bucket.buffer().is_cuda:
            sent: Any = dist.all_reduce(bucket.buffer(), async_op=True)
            return sent.get_future().then(lambda found: found.value()[0])
        done: Any = torch.futures.Future()
        done.set_result(self.processes.added(bucket.buffer()))
        return done


def _add_up_after(sharded: Any, last: bool) -> None:
    """Add the next gradients to those of this process, and after the last piece to those of all."""
    sharded.set_requires_gradient_sync(last)
    sharded.set_reshard_after_backward(last)                              # weights are gathered once, since others may have fewer pieces


def _gradients(loss: Tensor, parameters: list[nn.Parameter]) -> Gradients:
    return dict(zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True))


def _laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient, in memory in the order of the parameter: torch's fused Adam on CPUs reads it in that order, whatever its strides."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter, requires_grad=False).copy_(gradient)


def _plus(one: tuple[Gradients, Tensor], two: tuple[Gradients, Tensor]) -> tuple[Gradients, Tensor]:
    """The gradients and losses of both, in the tensors of one; None where both are."""
    (ours, loss), (theirs, other) = one, two
    both = [(gradient, more) for p, gradient in ours.items() if gradient is not None and (more := theirs.get(p)) is not None]
    if both:
        torch._foreach_add_(*zip(*both, strict=True))  # pyright: ignore[reportPrivateImportUsage]
    return {p: theirs.get(p) if gradient is None else gradient for p, gradient in ours.items()}, loss + other
