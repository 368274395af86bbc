"""Training. ``rastrum.train(model, data, minutes=2)`` runs to the end with a progress bar, and is explained in ``trained.py``.

This is the loop, a generator: ``for state in rastrum.train.train(model, data, config): …`` yields after every step and prints nothing.

Called, this module is a run in one go, with names for model and data and a progress bar: ``rastrum.train(model, data)`` (``trained.py``).

    images ─▶ pieces of micro_batch ─▶ threads: loss and gradient of each piece ─▶ summed in a fixed order ─▶ clip ─▶ step ─▶ average
                                                                                          evaluate and save the average ◀───┘

On a CPU a piece of a few images keeps a convnet's maps in cache, and threads that each work on their own piece scale better than threads
inside one operation. On a GPU a piece is the whole batch, or a part of it (``optim.accumulate``) where it does not fit the memory. The loss
is ``model.loss``: −log p or −bound in nats per image, or whatever the network minimises.

The same seed and settings give the same run, bit for bit, on one machine, with any number of workers, also if it was stopped at any time
and resumed: every draw is a function of the seed, the step and the image (``noise.py``, ``training_noise.py``), and a checkpoint holds the
rest (``training/record.py``). Only a model that draws from torch's own generator needs ``workers=1`` for that. Runs with a budget of time
cannot be repeated exactly, because they end after as many steps as fit into it.

Several processes, started by ``torchrun``, train one model: each works on its share of every batch (``processes.py``,
``training/workers.py``). Batches and draws are those of one process to the bit, so any number of processes may resume any run; weights are
equal to rounding, and to the bit where the pieces of a batch are the same and 2, 4, 8 … processes have equally many. The first process
writes, and its clock is that of all.
"""

from __future__ import annotations

import copy
import inspect
import math
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from .autocast import full_precision
from .checkpoint import Origin, name_of
from .config import OptimConfig, RunConfig, TrainConfig
from .data.dataset import Dataset
from .devices import find_device, place, seeded, to_device
from .evaluation import Evaluation, check_data, conditions_for, score
from .model import Model
from .models import load
from .noise import TRAINING, words
from .notebook import above, safe, table
from .processes import Processes, join
from .progress import clock
from .training.clock import Clock
from .training.compiling import check_compiler
from .training.interrupt import deferred_interrupt
from .training.optimiser import OPTIMIZERS, SCHEDULES, average, clip, learning_rate, optimiser_of, restore_optimiser
from .training.record import (
    AVERAGE,
    RAW,
    Position,
    Record,
    check_model,
    checkpoint_tensors,
    fingerprint,
    read_checkpoint,
    read_position,
    read_settings,
)
from .training.record import TRAINING as CHECKPOINT
from .training.sharding import gather_weights, shard
from .training.workers import Workers
from .training_noise import drawing

INITIALISE = 64                # images of a data-dependent initialisation
PRECISIONS = ("float32", "bf16")
DIVERGED, DIVERGED_STEP = 100, 10_000   # a run is lost where an evaluation, or the loss of a step, is so many times that of a uniform guess


@dataclass(frozen=True)
class TrainState:
    """Where a run stands after a step.

    step: number of steps done.
    loss: mean loss of this step's batch, nats per image where the model has a likelihood.
    bits_per_dim: the same in bits per dimension; None where the loss is not a likelihood.
    images_per_second: throughput of the last steps.
    learning_rate: of this step.
    gradient_norm: of this step, before clipping.
    fraction: how much of the budget is used, 0 … 1.
    elapsed, time_left: seconds; of a resumed run, those before included.
    model: the averaged weights, to sample from now; the next step changes them. With ``run.shard`` those of the last evaluation or
        checkpoint.
    evaluation: of the held-out images, where one was due; else None.
    finished: whether this is the last state.
    interrupted: whether a signal ended the run.
    losses: of each objective by name, where a step lowers several (``Model.objectives``); ``loss`` and ``gradient_norm`` are the first's.
    """

    step: int
    loss: float
    bits_per_dim: float | None
    images_per_second: float
    learning_rate: float
    gradient_norm: float
    fraction: float
    elapsed: float
    time_left: float
    model: Model
    evaluation: Evaluation | None
    finished: bool
    interrupted: bool
    losses: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        held_out = "" if self.evaluation is None else f"; held out {self.evaluation}"
        return f"TrainState(step {self.step:,}, {self.text}{held_out})"

    @property
    def text(self) -> str:
        """Loss, throughput and time in words."""
        bits = "" if self.bits_per_dim is None else f" {self.bits_per_dim:.3f} bits/dim"
        losses = "  ".join(f"{name} {loss:.2f}" for name, loss in (self.losses or {"loss": self.loss}).items())
        return f"{losses}{bits}  {self.images_per_second:,.0f} images/s  " + (
            f"in {clock(self.elapsed)}" if self.finished else f"{clock(self.time_left)} left"
        )

    @safe
    def _repr_html_(self) -> str:
        rows = {
            "done": f"{self.fraction:.0%}" + (", interrupted" if self.interrupted else ""),
            "loss": f"{self.loss:.3f}" + (" nats" if self.bits_per_dim is not None else ""),
            "bits/dim": None if self.bits_per_dim is None else f"{self.bits_per_dim:.4f}",
            "held out": self.evaluation,
            "images/s": f"{self.images_per_second:,.0f}",
            "learning rate": f"{self.learning_rate:.3g}",
            "norm of the gradient": f"{self.gradient_norm:.3g}",
            "time": f"{clock(self.elapsed)}, {clock(self.time_left)} left",
        }
        return table(f"Training, step {self.step:,}", rows)


def train(
    model: Model,
    data: Dataset,
    config: TrainConfig,
    held_out: Dataset | None = None,
    origin: Origin | None = None,
) -> Generator[TrainState, None, None]:
    """Train a model; yields one state per step. When the generator ends, however it ends, ``model`` holds the averaged weights.

    Checkpoints are saved before the first step, every ``run.checkpoint_minutes``, when an evaluation is due, and at the end. Ctrl-C,
    SIGTERM and SIGHUP let the step finish, save, and yield a last state; a second one interrupts at once. ``resume`` goes on from there.

    model: any ``Model``; its ``loss`` is minimised.
    data: the images, and their conditions where the model is conditional.
    config: optimiser and budget.
    held_out: images of the evaluations; None (default) for no evaluations.
    origin: the recipe and the commands, for the model's folder; the data are added.

    Raises ``ValueError``, before the first step, for data that do not fit the model, a setting out of range, and a folder that is not
    empty; later for a loss that diverges; ``OSError`` if saving fails. The last checkpoint stays whole.

    With ``run.precision="bf16"``, or under ``torch.autocast`` around the loop over the states, losses and gradients are computed in that
    precision (``autocast.py`` says what of them). Weights, their average and the optimiser stay in the model's own, and initialisation and
    evaluations are computed in it.
    """
    run, processes = config.run, join()
    with processes.together():
        check_config(config)
        _check_count(config, processes)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ValueError("train: the model has no parameter with requires_grad, so there is nothing to train")
        for dataset in (data, held_out):
            if dataset is not None:
                check_data(model, dataset)
        device = find_device(run.device)
        place(model, processes.device(device)).train()
        if run.folder is not None:
            name_of(model)                                                # refuses what could not be saved before any work
    workers = run.workers or torch.get_num_threads()
    config = replace_run(config, replace(run, workers=workers, device=str(device)))
    _check_same(processes, model, config, data, held_out)
    with processes.together():
        writes = run.folder is not None and processes.is_first
        record = Record.create(Path(run.folder), config, origin or Origin(), data, held_out) if writes and run.folder else None
    with _cleared(model, None, record), _torch_noise(run.seed, 0):
        processes.spread(model)
        if not bool(model.initialised):
            x, condition = next(data.batches(min(len(data), INITIALISE), run.seed, conditions_for(model, data)))
            with drawing(run.seed, np.arange(2**32 - len(x), 2**32)), full_precision():
                x = x.to(model.device, torch.int64)
                model.initialise(x, None if condition is None else to_device(condition, model.device))
            processes.spread(model)                                       # machines may round differently
        averaged = copy.deepcopy(model).eval().requires_grad_(False)
    yield from _steps(model, averaged, data, held_out, config, record, Position(), {}, processes)


def resume(
    folder: str | Path,
    data: Dataset,
    held_out: Dataset | None = None,
    *,
    minutes: float | None = None,
    cpu_minutes: float | None = None,
    steps: int | None = None,
    device: str | None = None,
    model: Model | None = None,
    origin: Origin | None = None,
) -> Generator[TrainState, None, None]:
    """Continue a run from its last checkpoint; the rest is as if it had never stopped, bit for bit.

    folder: of the run.
    data, held_out: as the run was started with.
    minutes, cpu_minutes, steps: a further budget instead of the run's own; the schedule then covers the whole run, including what was
        done before, and the learning rate rises to it over ``optim.warm_up`` steps. Default: what is left of its own.
    device: where to train from now on; None (default) = where it was trained so far.
    model: of a class that ``rastrum.load`` does not know, built as it was; its weights are replaced. Default: the folder says.
    origin: for the model's folder; default: as it was.

    Raises ``ValueError`` for a folder without a run, one that is being trained, one that has finished (where no budget is given), for
    other data, another model, and as ``train`` does; the folder is then as it was.
    """
    folder, processes = Path(folder), join()
    with processes.together():
        before = read_settings(folder)["config"]
        config = resumed(folder, minutes=minutes, cpu_minutes=cpu_minutes, steps=steps, device=device)
        check_config(config)                                              # on another machine some of it may be missing
        _check_count(config, processes)
        model = load(folder) if model is None else model
        check_model(folder, model)
        for dataset in (data, held_out):
            if dataset is not None:
                check_data(model, dataset)
        here = processes.device(find_device(config.run.device))
    _check_same(processes, model, config, data, held_out)
    with processes.together():
        record = None
        if processes.is_first:
            record, position, tensors = Record.reopen(folder, data, held_out)
        else:
            position, tensors = read_checkpoint(folder)
    with _cleared(model, None, record):
        processes.check_same(step=position.step)
        if record is not None:
            record.origin = origin or record.origin
        if config != before:
            if record is not None:
                record.change(config)
            fraction = processes.first(Clock(config.run, position.seconds, position.cpu_seconds).fraction(position.step))
            position.due, position.done = int(fraction * config.run.evaluations) + 1, 0.0
            if (minutes, cpu_minutes, steps) != (None, None, None):           # the optimiser's means are those of smaller steps
                position.rises = position.step + 1
        place(model, here).train()
        averaged = copy.deepcopy(model).eval().requires_grad_(False)
        for network, prefix in ((model, RAW), (averaged, AVERAGE)):
            network.load_state_dict({name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)})
    yield from _steps(model, averaged, data, held_out, config, record, position, tensors, processes)


def resumed(
    folder: Path, *, minutes: float | None = None, cpu_minutes: float | None = None, steps: int | None = None, device: str | None = None
) -> TrainConfig:
    """The settings with which ``resume`` continues a run.

    folder: of the run.
    minutes, cpu_minutes, steps: a further budget; None (default) for what is left of its own.
    device: in place of the run's own; None (default) for that.

    Raises ``ValueError`` if there is nothing to continue, and for a device that is not here.
    """
    config, position = read_settings(folder)["config"], read_position(folder)
    config = replace_run(config, replace(config.run, device=str(find_device(device or config.run.device))))
    if minutes is None and cpu_minutes is None and steps is None:
        if Clock(config.run, position.seconds, position.cpu_seconds).fraction(position.step) >= 1:
            raise ValueError(f"resume: {str(folder)!r} has finished, at step {position.step:,}; give it a further budget with --minutes")
        return config
    more = RunConfig(minutes=minutes, cpu_minutes=cpu_minutes, steps=steps)
    check_config(TrainConfig(run=more))
    run = replace(
        config.run,
        minutes=None if minutes is None else position.seconds / 60 + minutes,
        cpu_minutes=None if cpu_minutes is None else position.cpu_seconds / 60 + cpu_minutes,
        steps=None if steps is None else position.step + steps,
    )
    return replace_run(config, run)


def replace_run(config: TrainConfig, run: RunConfig) -> TrainConfig:
    """A config with another budget, of what training reads: a recipe's other fields are left out.

    config: optimiser and budget, or a recipe.
    run: the new budget.
    """
    return TrainConfig(optim=config.optim, run=run)


def _steps(
    model: Model,
    averaged: Model,
    data: Dataset,
    held_out: Dataset | None,
    config: TrainConfig,
    record: Record | None,
    position: Position,
    tensors: dict[str, Tensor],
    processes: Processes,
) -> Generator[TrainState, None, None]:
    """The loop, from ``position`` on. tensors: of a checkpoint, for the optimiser; empty for a new run. record: of the first process."""
    optim, run = config.optim, config.run
    in_bits, uniform = model.loss_is_nats, model.spec.size * math.log(model.spec.levels)
    several = processes.count > 1
    network, shadow = (copy.deepcopy(model), copy.deepcopy(averaged)) if several and run.shard else (model, averaged)
    if shadow is not averaged:
        shard(shadow)
    with _cleared(model, averaged, record), Workers(network, config, processes) as workers, deferred_interrupt(several) as interrupt:
        optimiser = optimiser_of(workers.objectives, optim)
        restore_optimiser(optimiser, network, tensors)
        clock = Clock(run, position.seconds, position.cpu_seconds, position.step)
        few: Dataset | None = None

        def save() -> None:
            if record is not None or shadow is not averaged:
                content = checkpoint_tensors(network, averaged, optimiser)
                if record is not None:
                    record.save(content, averaged, position, clock)

        if not tensors:
            save()
        share = processes.share(optim.batch)
        batches = data.batches(optim.batch, run.seed, conditions_for(model, data), first=position.step, part=share)
        while True:
            with processes.together():                                    # a file may be gone that one of them reads
                x, condition = next(batches)
            before, position.done = position.done, network.progress(processes.first(clock.fraction(position.step)))
            position.step = step = position.step + 1
            if position.done < before:                                    # a new stage
                position.stage = position.rises = step
            rate = learning_rate(optim, step - position.stage, position.done, step - position.rises)
            losses, norms = {}, []
            for number, (objective, group) in enumerate(zip(workers.objectives, optimiser.param_groups, strict=True)):
                with _torch_noise(run.seed, step, processes.rank):
                    loss = workers.gradients(x, condition, run.seed, (step - 1) * optim.batch + share.start, optim.batch, number)
                norm = clip(objective.parameters, optim.clip)
                if not math.isfinite(loss) or not math.isfinite(norm) or loss > DIVERGED_STEP * uniform:
                    raise ValueError(_diverged(f"at step {step} (loss {loss:.4g}, norm of the gradient {norm:.4g})", optim))
                losses[objective.name], norms = loss, [*norms, norm]
                group["lr"] = objective.rate * rate
                optimiser.step()
            loss, norm = next(iter(losses.values())), norms[0]
            average(shadow, network, optim.ema, step)
            speeds, fractions, interrupts = zip(
                *processes.gather(clock.steps_per_second(step), clock.fraction(step), interrupt.is_set()), strict=True
            )
            speed, fraction = speeds[0], fractions[0]
            interrupted = any(interrupts) and fraction < 1
            finished = fraction >= 1 or interrupted
            due, evaluation = fraction * run.evaluations >= position.due or fraction >= 1, None
            saves = due or finished or bool(processes.first(record is not None and record.due))
            if saves and shadow is not averaged:
                gather_weights(shadow, averaged)
            if due and not interrupted:
                position.due = int(fraction * run.evaluations) + 1
                if held_out is not None:
                    count = position.held_out_images
                    if count is None:
                        most = min(len(held_out), run.held_out_images or len(held_out))
                        count = int(processes.first(clock.images_to_evaluate(speed * optim.batch, most, optim.batch)))
                        if clock.steady:                                  # the first steps may have compiled
                            position.held_out_images = count
                    if few is None or len(few) != count:
                        with processes.together():
                            few = held_out.subset(count).held()
                    with full_precision():                                # the score that `rastrum evaluate` gives
                        evaluation = score(averaged, few, workers.pool, run.num_samples, run.seed, processes)
                    if not math.isfinite(evaluation.nats) or evaluation.nats > DIVERGED * uniform:
                        raise ValueError(_diverged(f"by step {step} (held out {evaluation.nats:.4g} nats)", optim))
            state = TrainState(
                step=step,
                loss=loss,
                bits_per_dim=loss / (model.spec.size * math.log(2)) if in_bits else None,
                images_per_second=speed * optim.batch,
                learning_rate=rate,
                gradient_norm=norm,
                fraction=fraction,
                elapsed=clock.wall(),
                time_left=clock.wall() * (1 - fraction) / max(fraction, 1e-9),
                model=averaged,
                evaluation=evaluation,
                finished=finished,
                interrupted=interrupted,
                losses=losses if len(losses) > 1 else {},
            )
            if record is not None:
                record.log(state, position)
                record.evaluation = evaluation or record.evaluation
            if saves:
                save()
            if (saves and record is not None) or due:
                clock.pause(step)
            yield state
            if finished:
                return


@contextmanager
def _cleared(model: Model, averaged: Model | None, record: Record | None) -> Iterator[None]:
    """However the run ends, the model holds the average, and its folder is let go; without an average, only where it ends by an error."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, ConnectionError) and record is not None:     # nothing is wrong with the run: it can go on from its beginning
            record.worth_keeping |= (record.folder / CHECKPOINT).exists()
        if averaged is None and record is not None:
            record.close()
        raise
    finally:
        if averaged is not None:
            model.load_state_dict(averaged.state_dict())
            model.eval()
            if record is not None:
                record.close()


def _diverged(where: str, optim: OptimConfig) -> str:
    return f"train: diverged {where}; lower optim.learning_rate ({optim.learning_rate}) or optim.clip ({optim.clip})"


def _check_count(config: TrainConfig, processes: Processes) -> None:
    """Raises ``ValueError`` where a process would have no image of a batch."""
    if processes.count > config.optim.batch:
        raise ValueError(f"train: {processes.count} processes cannot share a batch of {config.optim.batch}; start fewer, "
                         "or raise optim.batch")  # fmt: skip


def _check_same(processes: Processes, model: Model, config: TrainConfig, data: Dataset, held_out: Dataset | None) -> None:
    """Raises ``ValueError`` where processes are about to train different things, as on machines that were set up differently."""
    if processes.count == 1:
        return
    processes.check_same(
        model=[type(model).__name__, crc32(repr([(name, list(value.shape)) for name, value in model.state_dict().items()]).encode())],
        settings=asdict(replace_run(config, replace(config.run, workers=None))),
        training_images=fingerprint(data),
        held_out_images=None if held_out is None else fingerprint(held_out),
    )


@contextmanager
def _torch_noise(seed: int, step: int, rank: int = 0) -> Iterator[None]:
    """What a model draws from torch's own stream comes from seed, step and process, and the stream is put back."""
    # component 0: training_noise.py counts refills from 1
    low, high = words(seed, [step % 2**32], 2 * rank + 2, 0, TRAINING)[0, -2:].tolist()
    with seeded(high << 31 ^ low):
        yield


def check_config(config: TrainConfig) -> None:
    """Check the settings of a run.

    config: optimiser and budget.

    Raises ``ValueError`` naming a setting out of range.
    """
    optim, run = config.optim, config.run
    if run.steps is None and run.minutes is None and run.cpu_minutes is None:
        raise ValueError("train: a run needs a budget; set run.steps, run.minutes or run.cpu_minutes")
    above_zero = {
        optim: ("learning_rate", "batch", "micro_batch", "accumulate", "clip"),
        run: ("steps", "minutes", "cpu_minutes", "checkpoint_minutes", "evaluations", "held_out_images", "num_samples",
              "log_every", "workers"),
    }
    for part, names in above_zero.items():
        for name in names:
            value = getattr(part, name)
            if value is not None and not value > 0:
                raise ValueError(f"train: {'optim' if part is optim else 'run'}.{name} must be above 0, got {value}")
    for name, value in {"ema": optim.ema, "betas[0]": optim.betas[0], "betas[1]": optim.betas[1]}.items():
        if not 0 <= value < 1:
            raise ValueError(f"train: optim.{name} must be from 0 to below 1, got {value}")
    if optim.warm_up < 0 or not 0 < optim.decay <= 1 or not optim.eps > 0:
        raise ValueError(f"train: expected optim.warm_up ≥ 0, 0 < decay ≤ 1 and eps > 0, got {optim.warm_up}, {optim.decay}, {optim.eps}")
    if optim.accumulate > optim.batch:
        raise ValueError(f"train: optim.accumulate must be at most optim.batch, got {optim.accumulate} parts of {optim.batch} images")
    if not 0 <= run.seed < 2**64:
        raise ValueError(f"train: run.seed must be from 0 to 2^64 − 1, got {run.seed}")
    if optim.optimizer not in OPTIMIZERS:
        raise ValueError(f"train: optim.optimizer must be one of {', '.join(OPTIMIZERS)}, got {optim.optimizer!r}")
    if optim.schedule not in SCHEDULES:
        raise ValueError(f"train: optim.schedule must be one of {', '.join(SCHEDULES)}, got {optim.schedule!r}")
    if run.precision not in PRECISIONS:
        raise ValueError(f"train: run.precision must be one of {', '.join(PRECISIONS)}, got {run.precision!r}")
    device = find_device(run.device)
    if run.precision == "bf16" and not torch.amp.is_autocast_available(device.type):
        raise ValueError(f"train: torch does not compute in bf16 on {device.type}; leave run.precision out")
    if run.compile:
        check_compiler(device)


class _CallableModule(ModuleType):
    """This module, which is also the function ``rastrum.train(…)``; that lies above the recipes, in ``trained.py``."""

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return above("trained", "train")(*args, **keywords)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(above("trained", "train"))

    def __reduce__(self) -> tuple[Any, ...]:
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _CallableModule
