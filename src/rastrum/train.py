"""Training as a generator: ``for state in train(model, data, config): …`` yields after every step and prints nothing.

    images ─▶ pieces of micro_batch ─▶ threads: loss and gradient of each piece ─▶ summed in a fixed order ─▶ clip ─▶ Adam ─▶ average
                                                                                         evaluate and save the average ◀─┘

On a CPU a piece of a few images keeps a convnet's maps in cache, and threads that each work on their own piece scale better than threads
inside one operation. The loss is in nats an image: −log p for raster models, −bound for canvas models, or what ``model.loss`` says.

The same seed, settings and number of workers give the same run, bit for bit, on one machine; only a model that draws noise of its own
(dropout, latents) needs ``workers=1`` for that, because its pieces share one stream of noise. A budget of time ends where it ends.
"""

from __future__ import annotations

import copy
import json
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

import torch
from torch import Tensor, nn

from .canvas import CanvasModel
from .checkpoint import model_files, tensor_bytes, write_files
from .config import OptimConfig, RunConfig, TrainConfig
from .data import Dataset
from .raster import RasterModel

Model = RasterModel | CanvasModel

METRICS, STATE, TRAINING = "metrics.jsonl", "state.json", "training.safetensors"
INITIALISE = 256  # images of a data-dependent initialisation
RECENT = 20  # steps that throughput is measured over


@dataclass(frozen=True)
class Evaluation:
    """Mean over images of a held-out set. nats: an image, to be lowered · standard_error: of nats, over images ·

    kind: "exact", "bound" (an upper one on nats) or "loss" (a number to go down, no likelihood: bits_per_dim is None).
    """

    nats: float
    standard_error: float
    images: int
    size: int
    kind: Literal["exact", "bound", "loss"]

    @property
    def bits_per_dim(self) -> float | None:
        return None if self.kind == "loss" else self.nats / (self.size * math.log(2))

    @property
    def bits_standard_error(self) -> float | None:
        return None if self.kind == "loss" else self.standard_error / (self.size * math.log(2))


@dataclass(frozen=True)
class TrainState:
    """Where a run stands after a step.

    loss: nats an image of this step's batch · bits_per_dim: the same, None where the loss is no likelihood · fraction: of the budget ·
    elapsed, time_left: seconds · evaluation: where one was due, and with it a checkpoint was saved · model: the averaged weights, to
    sample from now (they move on with the next step) · finished: this is the last state · interrupted: by Ctrl-C.
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
    evaluation: Evaluation | None = None
    finished: bool = False
    interrupted: bool = False


def train(
    model: Model,
    data: Dataset,
    config: TrainConfig,
    held_out: Dataset | None = None,
    card: Mapping[str, str] | None = None,
) -> Iterator[TrainState]:
    """Train ``model`` on ``data``; a state a step. When the generator ends, however it ends, ``model`` holds the averaged weights.

    held_out: what evaluations use (None: there are none; checkpoints are saved all the same). card: facts for the model's card.
    Ctrl-C lets the step finish, saves, and yields a last state; a second one interrupts at once.
    Raises ``ValueError`` for data of another kind than the model's, for a run without a budget, in a folder that has a run, and where the
    loss stops being a number (the last checkpoint stays); ``OSError`` where saving fails (so does it).
    """
    optim, run = config.optim, config.run
    _check_config(optim, run)
    for dataset in (data, held_out):
        if dataset is not None:
            check_data(model, dataset)
    held_out = None if held_out is None else held_out.subset(run.held_out_images)
    model.to(run.device).train()
    folder = None if run.folder is None else _new_folder(Path(run.folder))
    generator = torch.Generator().manual_seed(run.seed)
    batches = data.batches(optim.batch, generator)
    clock = _Clock(run)
    with _noise(generator):
        if not bool(getattr(model, "initialised", False)):
            x, labels = next(data.batches(min(len(data), INITIALISE), generator))
            model.initialise(x.to(run.device, torch.int64), _told(model, labels))
    averaged = copy.deepcopy(model).eval().requires_grad_(False)
    step, due, recent, losses = 0, 1, deque([(time.perf_counter(), 0)], RECENT + 1), []
    with (
        _Workers(model, optim, run) as workers,
        _deferred_interrupt() as interrupt,
        (open(folder / METRICS, "w") if folder else nullcontext()) as metrics,
    ):
        optimiser = torch.optim.Adam(workers.parameters, optim.learning_rate, optim.betas, optim.eps, fused=True)
        try:
            while True:
                rate = learning_rate(optim, step, clock.fraction(step))
                x, labels = next(batches)
                with _noise(generator):
                    loss = workers.gradients(x, labels)
                norm = _clip(workers.parameters, optim.clip)
                if not math.isfinite(loss) or not math.isfinite(norm):
                    raise ValueError(
                        f"train: diverged at step {step + 1} (loss {loss}, gradient norm {norm}); "
                        f"lower optim.learning_rate ({optim.learning_rate}) or optim.clip ({optim.clip})"
                    )
                optimiser.param_groups[0]["lr"] = rate
                optimiser.step()
                step += 1
                _average(averaged, model, optim.ema, step)
                losses.append(loss)
                recent.append((time.perf_counter(), step))
                seconds, steps = (recent[-1][i] - recent[0][i] for i in (0, 1))
                fraction, interrupted = clock.fraction(step), interrupt.is_set()
                finished = fraction >= 1 or interrupted
                evaluation = None
                if finished or fraction * run.evaluations >= due:
                    due = int(fraction * run.evaluations) + 1
                    if held_out is not None and not interrupted:
                        evaluation = _evaluate(averaged, held_out, run, workers)
                    if folder is not None:
                        _save(folder, model, averaged, optimiser, step, clock, config, card, evaluation)
                proper = isinstance(model, RasterModel) or model.proper
                state = TrainState(
                    step=step,
                    loss=loss,
                    bits_per_dim=loss / (model.spec.size * math.log(2)) if proper else None,
                    images_per_second=steps * optim.batch / seconds,
                    learning_rate=rate,
                    fraction=fraction,
                    elapsed=clock.elapsed(),
                    time_left=clock.elapsed() * (1 - fraction) / max(fraction, 1e-9),
                    model=averaged,
                    evaluation=evaluation,
                    finished=finished,
                    interrupted=interrupted,
                )
                if metrics is not None and (evaluation is not None or finished or step % run.log_every == 0):
                    _log(metrics, state, losses)
                    losses.clear()
                yield state
                if finished:
                    return
                if evaluation is not None:  # throughput is of training alone
                    recent.clear()
                    recent.append((time.perf_counter(), step))
        finally:
            model.load_state_dict(averaged.state_dict())
            model.eval()


def learning_rate(optim: OptimConfig, step: int, fraction: float) -> float:
    """Of the step after ``step`` ones, with ``fraction`` of the budget done."""
    rise = min(1.0, (step + 1) / optim.warm_up) if optim.warm_up else 1.0
    shape = {"constant": 1.0, "cosine": 0.5 * (1 + math.cos(math.pi * fraction)), "exponential": optim.decay**step}
    return optim.learning_rate * rise * shape[optim.schedule]


# ── evaluation ───────────────────────────────────────────────────────────────────────────────────────────────────────


def evaluate(
    model: Model,
    data: Dataset,
    *,
    batch: int | None = None,
    num_samples: int = 1,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Evaluation:
    """Held-out score over all of ``data``: exact for raster models, a bound for canvas models (tighter with more ``num_samples``).

    batch: images at a time, which changes nothing but the speed (None: what is usually fast) · seed: of the bound's noise, which belongs to the image's number ·
    progress: called with the number of images done. ``ValueError`` for data of another kind, or a model whose loss is no likelihood.
    """
    check_data(model, data)
    if isinstance(model, CanvasModel) and not model.proper:
        model.bound(data.images[:1], _told(model, None if data.labels is None else data.labels[:1]))  # says why there is none
    training = model.training
    try:
        with _Pool(workers or torch.get_num_threads()) as pool:
            return _score(model.eval(), data, batch, num_samples, seed, pool, progress)
    finally:
        model.train(training)


def nats(model: Model, x: Tensor, labels: Tensor | None, num_samples: int = 1, seed: int = 0, first: int = 0) -> Tensor:
    """−log p of images x (B, *shape), or the bound on it; where there is neither, the training loss: (B,) float64."""
    told = _told(model, labels)
    if isinstance(model, RasterModel):
        return -model.log_prob(x, told)
    if model.proper:
        return -model.bound(x, told, num_samples, seed, first=first)
    return model.loss(x, told, seed)


def check_data(model: Model, data: Dataset) -> None:
    """``ValueError`` unless the images are of the model's spec and have the classes that it is told."""
    if model.spec != data.spec:
        ours, theirs = (f"{s.channels}x{s.height}x{s.width} with {s.levels} levels" for s in (model.spec, data.spec))
        raise ValueError(f"data: the model is for {ours}, {data.name} {data.split} is {theirs}; set size, levels, grey or binarise to match")
    told = model.condition_spec
    if told is not None and told.kind != "class":
        raise ValueError(f"data: the model wants a condition of kind {told.kind!r}, data sets have only classes")
    if told is not None and data.labels is None:
        raise ValueError(f"data: the model is told a class, {data.name} {data.split} has no labels")
    if told is not None and data.classes > int(told.size):  # pyright: ignore[reportArgumentType]
        raise ValueError(f"data: the model knows {told.size} classes, {data.name} has {data.classes}")


def _told(model: Model, labels: Tensor | None) -> Tensor | None:
    return None if model.condition_spec is None or labels is None else labels.to(model.device)


def _evaluate(model: Model, data: Dataset, run: RunConfig, workers: _Workers) -> Evaluation:
    return _score(model, data, None, run.num_samples, run.seed, workers.pool, None)


@torch.no_grad()
def _score(
    model: Model, data: Dataset, batch: int | None, num_samples: int, seed: int, pool: _Pool, progress: Callable[[int], object] | None
) -> Evaluation:
    if batch is None:
        batch = 4 if isinstance(model, RasterModel) and model.device.type == "cpu" else 128
    kind = "exact" if isinstance(model, RasterModel) else "bound" if model.proper else "loss"

    def work(start: int) -> Tensor:
        part = slice(start, start + batch)
        with torch.no_grad():  # a setting of each thread
            return nats(model, data.images[part], None if data.labels is None else data.labels[part], num_samples, seed, start).cpu()

    scores: list[Tensor] = []
    for part in pool.map(work, range(0, len(data), batch)):
        scores.append(part)
        if progress is not None:
            progress(min(len(scores) * batch, len(data)))
    every = torch.cat(scores).double()
    error = float(every.std() / math.sqrt(len(every))) if len(every) > 1 else math.nan
    return Evaluation(float(every.mean()), error, len(every), model.spec.size, kind)


# ── a step ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Pool:
    """Threads with their share of torch's threads each; one worker is the caller itself."""

    def __init__(self, count: int) -> None:
        self.count = max(1, count)
        share = max(1, torch.get_num_threads() // self.count)
        self.executor = ThreadPoolExecutor(self.count, "rastrum", lambda: torch.set_num_threads(share)) if self.count > 1 else None

    def map(self, work: Callable[[Any], Any], items: Any) -> Iterator[Any]:
        """Results in the order of the items."""
        return map(work, items) if self.executor is None else self.executor.map(work, items)

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        if self.executor is not None:
            self.executor.shutdown(cancel_futures=True)


class _Workers:
    """Loss and gradient of a batch, in pieces."""

    def __init__(self, model: Model, optim: OptimConfig, run: RunConfig) -> None:
        self.model = model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        pieces = 1
        self.piece = optim.batch
        if optim.micro_batch is not None and torch.device(run.device).type == "cpu":
            self.piece = min(optim.micro_batch, optim.batch)
            pieces = -(-optim.batch // self.piece)
        self.count = min(run.workers or torch.get_num_threads(), pieces)
        self.pool = _Pool(self.count)

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.__exit__()

    def gradients(self, x: Tensor, labels: Tensor | None) -> float:
        """Sets the gradient of the mean loss; → the loss, nats an image. Worker w takes the pieces w, w + workers, …"""
        starts = range(0, len(x), self.piece)

        def work(worker: int) -> tuple[list[Tensor], Tensor]:
            total: list[Tensor] = []
            losses = torch.zeros((), dtype=torch.float64, device=self.model.device)
            for start in starts[worker :: self.count]:
                part = slice(start, start + self.piece)
                loss = self.loss(x[part], None if labels is None else labels[part]).sum() / len(x)
                gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
                losses += loss.detach()
                if total:
                    torch._foreach_add_(total, gradients)
                else:
                    total = list(gradients)
            return total, losses

        results = list(self.pool.map(work, range(self.count)))
        total, losses = results[0]
        for other, loss in results[1:]:
            torch._foreach_add_(total, other)
            losses = losses + loss
        for parameter, gradient in zip(self.parameters, total, strict=True):
            parameter.grad = gradient
        return losses.item()

    def loss(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """(B,) nats."""
        x, told = x.to(self.model.device, torch.int64), _told(self.model, labels)
        own = getattr(self.model, "loss", None)
        return -self.model.log_prob_map(x, told).flatten(1).sum(1) if own is None else own(x, told)  # pyright: ignore[reportCallIssue]


def _clip(parameters: list[nn.Parameter], limit: float | None) -> float:
    """Scales the gradient to a norm of at most ``limit``; → its norm before."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))).item()
    if limit is not None and norm > limit:
        torch._foreach_mul_(gradients, limit / norm)
    return norm


def _average(averaged: Model, model: Model, decay: float, step: int) -> None:
    """Exponential average of the weights; a short one at first, so that it forgets where they began."""
    decay = min(decay, step / (10 + step))
    with torch.no_grad():
        torch._foreach_lerp_(list(averaged.parameters()), list(model.parameters()), 1 - decay)


@contextmanager
def _noise(generator: torch.Generator) -> Iterator[None]:
    """What a model draws from torch's own stream comes from our seed, and the stream is put back."""
    seed = int(torch.randint(2**62, (), generator=generator))
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        yield


# ── the run ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Clock:
    """How much of the budget is done."""

    def __init__(self, run: RunConfig) -> None:
        self.run = run
        self.start, self.cpu_start = time.perf_counter(), time.process_time()

    def elapsed(self) -> float:
        return time.perf_counter() - self.start

    def cpu(self) -> float:
        return time.process_time() - self.cpu_start

    def fraction(self, step: int) -> float:
        """0 … 1, of the budget that is nearest its end."""
        spent = ((step, self.run.steps), (self.elapsed() / 60, self.run.minutes), (self.cpu() / 60, self.run.cpu_minutes))
        return min(1.0, max(done / budget for done, budget in spent if budget is not None))


@contextmanager
def _deferred_interrupt() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, once; the next one is the usual KeyboardInterrupt."""
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
        signal.signal(signal.SIGINT, before)


def _check_config(optim: OptimConfig, run: RunConfig) -> None:
    budgets = {"steps": run.steps, "minutes": run.minutes, "cpu_minutes": run.cpu_minutes}
    if all(budget is None for budget in budgets.values()):
        raise ValueError("train: a run needs a budget; set run.steps, run.minutes or run.cpu_minutes")
    positive = {f"run.{name}": budget for name, budget in budgets.items() if budget is not None}
    positive |= {"optim.batch": optim.batch, "optim.learning_rate": optim.learning_rate, "run.log_every": run.log_every, "run.evaluations": run.evaluations}
    positive |= {name: value for name, value in (("optim.micro_batch", optim.micro_batch), ("run.workers", run.workers)) if value is not None}
    positive |= {} if optim.clip is None else {"optim.clip": optim.clip}
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"train: {name} must be above 0, got {value}")
    for name, value in (("optim.ema", optim.ema), *((f"optim.betas[{i}]", beta) for i, beta in enumerate(optim.betas))):
        if not 0 <= value < 1:
            raise ValueError(f"train: {name} must be from 0 to below 1, got {value}")


def _new_folder(folder: Path) -> Path:
    """The folder of the run, made now: a place that cannot be written shows before the work, not after."""
    if (folder / STATE).exists():
        raise ValueError(f"train: {str(folder)!r} holds a run already; choose another run.folder, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _save(
    folder: Path,
    model: Model,
    averaged: Model,
    optimiser: torch.optim.Optimizer,
    step: int,
    clock: _Clock,
    config: TrainConfig,
    card: Mapping[str, str] | None,
    evaluation: Evaluation | None,
) -> None:
    """The averaged model as ``save_pretrained`` writes it, raw weights and moments beside it, and where the run stands."""
    facts = dict(card or {})
    if evaluation is not None:
        unit = "" if evaluation.bits_per_dim is None else f", {evaluation.bits_per_dim:.4f} bits/dim"
        facts["score"] = f"{evaluation.nats:.3f} ± {evaluation.standard_error:.3f} nats{unit} ({evaluation.kind}, {evaluation.images} held-out images)"
    tensors = {f"raw.{name}": value for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        tensors |= {f"{moment}.{name}": optimiser.state[parameter][moment] for moment in ("exp_avg", "exp_avg_sq") if parameter.requires_grad}
    state = {"step": step, "seconds": clock.elapsed(), "cpu_seconds": clock.cpu(), "optim": asdict(config.optim), "run": asdict(config.run)}
    files = {TRAINING: tensor_bytes(tensors), STATE: (json.dumps(state, indent=2) + "\n").encode()}
    write_files(folder, {**model_files(averaged, facts), **files})


def _log(metrics: IO[str], state: TrainState, losses: list[float]) -> None:
    """One line: the mean loss since the last one, and an evaluation where there is one."""
    line: dict[str, Any] = {
        "step": state.step,
        "loss": sum(losses) / len(losses),
        "images_per_second": state.images_per_second,
        "learning_rate": state.learning_rate,
        "elapsed": state.elapsed,
    }
    if state.evaluation is not None:
        line["held_out"] = {**asdict(state.evaluation), "bits_per_dim": state.evaluation.bits_per_dim}
    metrics.write(json.dumps(line) + "\n")
    metrics.flush()
