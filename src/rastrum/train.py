"""Training as a generator: ``for state in train(model, data, config): …`` yields after every step and prints nothing.

    images ─▶ pieces of micro_batch ─▶ threads: loss and gradient of each piece ─▶ summed in a fixed order ─▶ clip ─▶ step ─▶ average
                                                                                          evaluate and save the average ◀───┘

On a CPU a piece of a few images keeps a convnet's maps in cache, and threads that each work on their own piece scale better than threads
inside one operation. The loss is ``model.loss``: −log p or −bound in nats per image, or whatever the network minimises.

The same seed, settings and number of workers give the same run, bit for bit, on one machine; only a model that draws noise of its own
(dropout, latents) needs ``workers=1`` for that, because its pieces share one stream of noise. Runs with a budget of time cannot be
repeated exactly, because they end after as many steps as fit into it.
"""

from __future__ import annotations

import copy
import json
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoint import Origin, name_of, save_pretrained, tensor_bytes
from .config import DataConfig, OptimConfig, RunConfig, Score, TrainConfig
from .data.dataset import Dataset
from .evaluation import Evaluation, Pool, check_data, conditions_for, score
from .model import Model

METRICS, STATE, TRAINING = "metrics.jsonl", "state.json", "training.safetensors"
INITIALISE = 64  # images of a data-dependent initialisation
RECENT = 20  # steps that throughput is measured over


@dataclass(frozen=True)
class TrainState:
    """Where a run stands after a step.

    step: number of steps done.
    loss: mean loss of this step's batch, nats per image where the model has a likelihood.
    bits_per_dim: the same in bits per dimension; None where the loss is not a likelihood.
    images_per_second: throughput of the last steps.
    learning_rate: of this step.
    fraction: how much of the budget is used, 0 … 1.
    elapsed, time_left: seconds.
    model: the averaged weights, to sample from now; the next step changes them.
    evaluation: of the held-out images, where one was due; else None.
    finished: whether this is the last state.
    interrupted: whether Ctrl-C ended the run.
    """

    step: int
    loss: float
    bits_per_dim: float | None
    images_per_second: float
    learning_rate: float
    fraction: float
    elapsed: float
    time_left: float
    model: Model
    evaluation: Evaluation | None
    finished: bool
    interrupted: bool


def train(
    model: Model,
    data: Dataset,
    config: TrainConfig,
    held_out: Dataset | None = None,
    origin: Origin | None = None,
) -> Generator[TrainState, None, None]:
    """Train a model; yields one state per step. When the generator ends, however it ends, ``model`` holds the averaged weights.

    Checkpoints are saved when an evaluation is due, and at the end. Ctrl-C lets the step finish, saves, and yields a last state; a second
    one interrupts at once.

    model: any ``Model``; its ``loss`` is minimised.
    data: the images, and their conditions where the model is conditional.
    config: optimiser and budget.
    held_out: images of the evaluations; None (default) for no evaluations.
    origin: the recipe and the commands, for the model's folder; the data are added.

    Raises ``ValueError`` for data that do not fit the model, a setting out of range, a folder that holds a run, and a loss that is not
    finite; ``OSError`` if saving fails. The last checkpoint stays whole.
    """
    optim, run = config.optim, config.run
    check_config(config)
    for dataset in (data, held_out):
        if dataset is not None:
            check_data(model, dataset)
    held_out = None if held_out is None else held_out.subset(run.held_out_images)
    model.to(run.device).train()
    generator = torch.Generator().manual_seed(run.seed)
    if run.folder is not None:
        name_of(model)                                                    # refuses what could not be saved before any work
    record = None if run.folder is None else _Record(Path(run.folder), config, _with_data(origin or Origin(), data, held_out))
    clock = _Clock(run)
    with _noise(generator):
        if not bool(model.initialised):
            x, condition = next(data.batches(min(len(data), INITIALISE), generator, conditions_for(model, data)))
            model.initialise(x.to(run.device, torch.int64), None if condition is None else condition.to(run.device))
    averaged = copy.deepcopy(model).eval().requires_grad_(False)
    in_bits = model.loss_is_nats
    with Workers(model, config) as workers, _deferred_interrupt() as interrupt:
        optimiser = OPTIMIZERS[optim.optimizer](workers.parameters, optim)
        due, first, done = 1, 1, 0.0
        try:
            for step, (x, condition) in enumerate(data.batches(optim.batch, generator, conditions_for(model, data)), start=1):
                fraction = clock.fraction(step - 1)
                before, done = done, model.progress(fraction)
                if done < before:                                         # a new stage
                    first = step
                rate = learning_rate(optim, step - first, done)
                with _noise(generator):
                    loss = workers.gradients(x, condition)
                norm = _clip(workers.parameters, optim.clip)
                if not math.isfinite(loss) or not math.isfinite(norm):
                    raise ValueError(_diverged(f"at step {step} (loss {loss}, norm of the gradient {norm})", optim))
                optimiser.param_groups[0]["lr"] = rate
                optimiser.step()
                _average(averaged, model, optim.ema, step)
                speed, fraction, interrupted = clock.steps_per_second(step), clock.fraction(step), interrupt.is_set()
                finished = fraction >= 1 or interrupted
                evaluation = None
                if finished or fraction * run.evaluations >= due:
                    due = int(fraction * run.evaluations) + 1
                    if held_out is not None and not interrupted:
                        evaluation = score(averaged, held_out, workers.pool, run.num_samples, run.seed)
                        if not math.isfinite(evaluation.nats):
                            raise ValueError(_diverged(f"by step {step} (held out {evaluation.nats} nats)", optim))
                    if record is not None:
                        record.save(model, averaged, optimiser, step, clock, evaluation)
                    clock.pause(step)
                state = TrainState(
                    step=step,
                    loss=loss,
                    bits_per_dim=loss / (model.spec.size * math.log(2)) if in_bits else None,
                    images_per_second=speed * optim.batch,
                    learning_rate=rate,
                    fraction=fraction,
                    elapsed=clock.elapsed(),
                    time_left=clock.elapsed() * (1 - fraction) / max(fraction, 1e-9),
                    model=averaged,
                    evaluation=evaluation,
                    finished=finished,
                    interrupted=interrupted,
                )
                if record is not None:
                    record.log(state)
                yield state
                if finished:
                    return
        finally:
            model.load_state_dict(averaged.state_dict())
            model.eval()
            if record is not None:
                record.discard_if_empty()


def _diverged(where: str, optim: OptimConfig) -> str:
    return f"train: diverged {where}; lower optim.learning_rate ({optim.learning_rate}) or optim.clip ({optim.clip})"


def learning_rate(optim: OptimConfig, step: int, fraction: float) -> float:
    """The learning rate of one step.

    optim: the optimiser's settings.
    step: number of steps before this one, of the current stage where a model learns in stages.
    fraction: how much of the budget, or of the stage, is done, 0 … 1.
    """
    rise = min(1.0, (step + 1) / optim.warm_up) if optim.warm_up else 1.0
    return optim.learning_rate * rise * SCHEDULES[optim.schedule](optim, step, fraction)


SCHEDULES: dict[str, Callable[[OptimConfig, int, float], float]] = {
    "constant": lambda optim, step, fraction: 1.0,
    "cosine": lambda optim, step, fraction: 0.5 * (1 + math.cos(math.pi * fraction)),
    "exponential": lambda optim, step, fraction: optim.decay**step,
}


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], OptimConfig], torch.optim.Optimizer]] = {
    "adam": lambda parameters, optim: torch.optim.Adam(parameters, optim.learning_rate, optim.betas, optim.eps, fused=True),
    "rmsprop": lambda parameters, optim: torch.optim.RMSprop(parameters, optim.learning_rate, optim.betas[1], optim.eps),
}
MOMENTS = ("exp_avg", "exp_avg_sq", "square_avg")                         # what a checkpoint keeps of them: two of Adam, one of RMSProp


# ── a step ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Workers:
    """Loss and gradient of a batch: worker w takes the pieces w, w + count, …; the sums of the workers are added in their order.

    model: on its device.
    config: gives the sizes of batch and pieces, and the number of workers.
    """

    def __init__(self, model: Model, config: TrainConfig) -> None:
        optim = config.optim
        self.model = model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.piece = min(optim.micro_batch or optim.batch, optim.batch) if model.device.type == "cpu" else optim.batch
        self.pool = Pool(min(config.run.workers or torch.get_num_threads(), -(-optim.batch // self.piece)))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.__exit__()

    def gradients(self, x: Tensor, condition: Tensor | None) -> float:
        """Set the parameters' gradients of the mean loss; a parameter without one gets None, which Adam then skips.

        x: integer levels (B, *spec.shape).
        condition: one per image, or None.

        Returns the mean loss.
        """

        device = self.model.device

        def work(worker: int) -> tuple[list[Tensor | None], Tensor]:
            total: list[Tensor | None] = []
            mean = torch.zeros((), dtype=torch.float64, device=device)
            for start in range(worker * self.piece, len(x), self.pool.count * self.piece):
                part = slice(start, start + self.piece)
                images, given = x[part].to(device, torch.int64), None if condition is None else condition[part].to(device)
                loss = self.model.loss(images, given).sum() / len(x)
                gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
                total = _add(total, gradients) if total else list(gradients)
                mean += loss.detach()
            return total, mean

        (total, mean), *others = self.pool.map(work, range(self.pool.count))
        for gradients, loss in others:
            if gradients:
                total = _add(total, gradients)
            mean += loss
        for parameter, gradient in zip(self.parameters, total, strict=True):
            parameter.grad = gradient
        return mean.item()


def _add(total: list[Tensor | None], other: Any) -> list[Tensor | None]:
    """total + other, None where both are."""
    both = [(one, two) for one, two in zip(total, other, strict=True) if one is not None and two is not None]
    if both:
        torch._foreach_add_(*zip(*both, strict=True))  # pyright: ignore[reportPrivateImportUsage]
    return [two if one is None else one for one, two in zip(total, other, strict=True)]


def _clip(parameters: list[nn.Parameter], limit: float | None) -> float:
    """Scales the gradient to a norm of at most ``limit``; → its norm before."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients).item()
    if limit is not None and norm > limit:
        torch._foreach_mul_(gradients, limit / norm)  # pyright: ignore[reportPrivateImportUsage]
    return norm


def _average(averaged: Model, model: Model, decay: float, step: int) -> None:
    """Exponential average of the weights; a short one at first, so that it forgets where they began."""
    keep = min(decay, step / (10 + step))
    with torch.no_grad():
        torch._foreach_lerp_(list(averaged.parameters()), list(model.parameters()), 1 - keep)  # pyright: ignore[reportPrivateImportUsage]
        for kept, buffer in zip(averaged.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)


@contextmanager
def _noise(generator: torch.Generator) -> Iterator[None]:
    """What a model draws from torch's own stream comes from our seed, and the stream is put back."""
    seed = int(torch.randint(2**62, (), generator=generator))
    streams = [torch.default_generator, *(torch.cuda.default_generators if torch.cuda.is_initialized() else ())]
    before = [stream.get_state() for stream in streams]
    try:
        for stream in streams:
            stream.manual_seed(seed)
        yield
    finally:
        for stream, state in zip(streams, before, strict=True):
            stream.set_state(state)


# ── a run ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Clock:
    """How much of the budget is done, and how fast."""

    def __init__(self, run: RunConfig) -> None:
        self.run = run
        self.start, self.cpu_start = time.perf_counter(), time.process_time()
        self.recent = deque([(self.start, 0)], RECENT + 1)

    def elapsed(self) -> float:
        return time.perf_counter() - self.start

    def cpu(self) -> float:
        return time.process_time() - self.cpu_start

    def fraction(self, step: int) -> float:
        """0 … 1, of the budget that is nearest its end."""
        spent = ((step, self.run.steps), (self.elapsed() / 60, self.run.minutes), (self.cpu() / 60, self.run.cpu_minutes))
        return min(1.0, max(done / budget for done, budget in spent if budget is not None))

    def steps_per_second(self, step: int) -> float:
        self.recent.append((time.perf_counter(), step))
        (start, first), (end, last) = self.recent[0], self.recent[-1]
        return (last - first) / (end - start)

    def pause(self, step: int) -> None:
        """What was done since the step was not training."""
        self.recent.clear()
        self.recent.append((time.perf_counter(), step))


class _Record:
    """The folder of a run: the averaged model as ``save_pretrained`` writes it, raw weights and moments, where the run stands, metrics."""

    def __init__(self, folder: Path, config: TrainConfig, origin: Origin) -> None:
        if (folder / STATE).exists():
            raise ValueError(f"train: {str(folder)!r} holds a run already; choose another run.folder, or remove it")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / METRICS).write_text("")  # a place that cannot be written shows now, not after the work
        self.folder, self.config, self.origin = folder, config, origin
        self.losses: list[float] = []

    def discard_if_empty(self) -> None:
        """A run that ended before its first checkpoint leaves nothing."""
        if not (self.folder / STATE).exists():
            (self.folder / METRICS).unlink(missing_ok=True)
            with suppress(OSError):                                       # not empty: it holds what is not ours
                self.folder.rmdir()

    def log(self, state: TrainState) -> None:
        """A line of metrics where one is due: the mean loss since the last, and an evaluation."""
        self.losses.append(state.loss)
        if state.evaluation is None and not state.finished and state.step % self.config.run.log_every:
            return
        line: dict[str, Any] = {"step": state.step, "loss": sum(self.losses) / len(self.losses)}
        line |= {name: getattr(state, name) for name in ("images_per_second", "learning_rate", "elapsed")}
        if state.evaluation is not None:
            line["held_out"] = {**asdict(state.evaluation), "bits_per_dim": state.evaluation.bits_per_dim}
        with open(self.folder / METRICS, "a") as file:
            file.write(json.dumps(line) + "\n")
        self.losses.clear()

    def save(
        self, model: Model, averaged: Model, optimiser: torch.optim.Optimizer, step: int, clock: _Clock, evaluation: Evaluation | None
    ) -> None:
        training = f"{step:,} steps of {self.config.optim.batch}, {clock.cpu() / 60:.1f} CPU-minutes"
        origin = replace(self.origin, training=training, results=() if evaluation is None else (_score(evaluation, self.origin),))
        tensors = {f"raw.{name}": value for name, value in model.state_dict().items()}
        for name, parameter in model.named_parameters():
            moments = optimiser.state.get(parameter, {})
            tensors |= {f"{moment}.{name}": moments[moment] for moment in MOMENTS if moment in moments}
        state = {"step": step, "seconds": clock.elapsed(), "cpu_seconds": clock.cpu()}
        state |= {"optim": asdict(self.config.optim), "run": asdict(self.config.run)}
        files = {TRAINING: tensor_bytes(tensors), STATE: (json.dumps(state, indent=2) + "\n").encode()}
        save_pretrained(averaged, self.folder, origin, files)


def _with_data(origin: Origin, data: Dataset, held_out: Dataset | None) -> Origin:
    """``origin`` with the images that the model is trained on, where the data sets know how they were made."""
    if data.options is None:
        return origin
    config = DataConfig(name=data.name, train=data.split, **asdict(data.options))
    config = config if held_out is None else replace(config, held_out=held_out.split)
    return replace(origin, data=config, images=len(data) if data.fresh is None else None, class_names=data.class_names)


def _score(evaluation: Evaluation, origin: Origin) -> Score:
    """The last evaluation as the folder keeps it."""
    error = None if math.isnan(evaluation.standard_error) else round(evaluation.standard_error, 3)
    split = "held-out" if origin.data is None else origin.data.held_out
    return Score(
        value=round(evaluation.nats, 3),
        error=error,
        unit="loss" if evaluation.kind == "loss" else "nats",
        kind=evaluation.kind,
        images=evaluation.images,
        split=split,
        notes="" if evaluation.bits_per_dim is None else f"{evaluation.bits_per_dim:.4f} bits/dim",
    )


@contextmanager
def _deferred_interrupt() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, once; the next one does what it did before. Only the main thread hears of it."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.getsignal(signal.SIGINT) or signal.SIG_DFL

    def note(*_: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, before)


def check_config(config: TrainConfig) -> None:
    """Check the settings of a run.

    config: optimiser and budget.

    Raises ``ValueError`` naming a setting out of range.
    """
    optim, run = config.optim, config.run
    if run.steps is None and run.minutes is None and run.cpu_minutes is None:
        raise ValueError("train: a run needs a budget; set run.steps, run.minutes or run.cpu_minutes")
    above_zero = {
        optim: ("learning_rate", "batch", "micro_batch", "clip"),
        run: ("steps", "minutes", "cpu_minutes", "evaluations", "held_out_images", "num_samples", "log_every", "workers"),
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
    if optim.optimizer not in OPTIMIZERS:
        raise ValueError(f"train: optim.optimizer must be one of {', '.join(OPTIMIZERS)}, got {optim.optimizer!r}")
    if optim.schedule not in SCHEDULES:
        raise ValueError(f"train: optim.schedule must be one of {', '.join(SCHEDULES)}, got {optim.schedule!r}")
    try:
        torch.empty(0, device=run.device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"train: run.device {run.device!r} is not to be had here ({str(error).splitlines()[0]})") from None
