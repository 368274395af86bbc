"""The folder of a run: what it was started with, its checkpoint, its curves. One run owns it.

    run.json               the settings; made when the run starts, by no one else (O_EXCL)
    training.safetensors   the checkpoint: weights, their average, the optimiser's state, and in its header the ``Position``: one file, so
                           that at any instant it is the older checkpoint or the newer one, whole
    model.safetensors, config.json, README.md    the averaged model, as ``save_pretrained`` writes it
    metrics.jsonl          a line every ``log_every`` steps; lines after the checkpoint are cut when the run is resumed

A checkpoint stands before the first step, so that a run that was killed at any time can be resumed.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..checkpoint import CARD, CONFIG, WEIGHTS, Origin, read_origin, save_pretrained, tensor_bytes
from ..config import DataConfig, OptimConfig, RunConfig, Score, TrainConfig
from ..data.dataset import Dataset
from ..data.exemplars import ExemplarSets
from ..data.stored import Stored
from ..evaluation import Evaluation
from ..files import SURROGATES, check_name, write_files
from ..model import Model
from ..protocol import bits_per_dim
from .clock import Clock
from .optimiser import optimiser_state
from .sharding import whole

if TYPE_CHECKING:
    from ..train import TrainState

RUN, METRICS, TRAINING = "run.json", "metrics.jsonl", "training.safetensors"
RAW, AVERAGE = "raw.", "average."
WRITING = 0.05                 # largest share of the time that checkpoints between evaluations may take


@dataclass
class Position:
    """Where a run stands: all that a checkpoint keeps besides tensors.

    step: number of steps done.
    seconds, cpu_seconds: used so far.
    due: number of the next evaluation.
    stage: first step of the current stage of the learning rate.
    rises: first step of its warm-up: of the stage, or since the run was given a further budget.
    done: how much of that stage is done, 0 … 1.
    logged: step of the last line of metrics.
    losses: of the steps since that line.
    held_out_images: how many an evaluation has; None before the first.
    """

    step: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    due: int = 1
    stage: int = 1
    rises: int = 1
    done: float = 0.0
    logged: int = 0
    losses: list[float] = field(default_factory=list)
    held_out_images: int | None = None


def holds_run(folder: Path) -> bool:
    """Whether there is a run in the folder.

    folder: any path.
    """
    return any((folder / name).exists() for name in (RUN, "state.json"))  # state.json: of runs before they could be resumed


def make_folder(folder: Path) -> None:
    """Make ``folder``, or accept an empty one.

    folder: of a new run.

    Raises ``ValueError`` for one that holds anything, ``OSError`` where it cannot be made.
    """
    check_name(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"train: {str(folder)!r} is a file; choose another run.folder")
    folder.mkdir(parents=True, exist_ok=True)
    if holds_run(folder):
        raise ValueError(f"train: {str(folder)!r} holds a run already; `rastrum train --resume {folder}`, or choose another run.folder")
    if there := next(folder.iterdir(), None):
        raise ValueError(f"train: {str(folder)!r} holds {there.name!r}, and a run needs a folder of its own; choose another run.folder")


class Record:
    """The folder of a run, held until ``close``.

    folder: of the run.
    config: its settings.
    origin: of the model, for its card.
    images: ``fingerprints`` of those that it began with.
    """

    def __init__(self, folder: Path, config: TrainConfig, origin: Origin, images: dict[str, Any]) -> None:
        self.folder, self.config, self.origin, self.images = folder, config, origin, images
        self.lock = _lock(folder)
        self.saved, self.took = time.perf_counter(), 0.0
        self.worth_keeping = False
        self.evaluation: Evaluation | None = None

    @staticmethod
    def create(folder: Path, config: TrainConfig, origin: Origin, data: Dataset, held_out: Dataset | None) -> Record:
        """The record of a new run.

        folder: new or empty.
        config: optimiser and budget.
        origin: of the model.
        data: the training images.
        held_out: those of the evaluations, or None.

        Raises ``ValueError`` if the folder holds anything, ``OSError`` if it cannot be written.
        """
        made, images = not folder.exists(), fingerprints(data, held_out)
        make_folder(folder)
        try:
            with open(folder / RUN, "xb") as file:
                file.write(_settings(config, images))
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            raise ValueError(f"train: {str(folder)!r} holds a run already; choose another run.folder") from None
        except OSError:
            if made:
                with suppress(OSError):
                    folder.rmdir()
            raise
        record = Record(folder, config, with_data(origin, data, held_out), images)
        (folder / METRICS).touch()
        return record

    @staticmethod
    def reopen(folder: Path, data: Dataset, held_out: Dataset | None) -> tuple[Record, Position, dict[str, Tensor]]:
        """The record of a run to resume, with its last checkpoint.

        folder: of the run.
        data: its training images.
        held_out: those of the evaluations, or None.

        Raises ``ValueError`` for other images, and if nothing can be resumed.
        """
        settings, images = read_settings(folder), fingerprints(data, held_out)
        for name, done, what in (("data", "trained", "data"), ("held_out", "evaluated", "held-out images")):
            had, have = settings[name], images[name]
            if have is None or had is None:                               # no evaluations, or of a version that did not keep it
                images[name] = had or have
            elif have != had:
                raise ValueError(f"resume: {str(folder)!r} was {done} on {had['images']} images of checksum {had['checksum']}, these are "
                                 f"{have['images']} of {have['checksum']}; give the same {what}")  # fmt: skip
        record = Record(folder, settings["config"], read_origin(folder), images)
        record.worth_keeping = True
        try:
            position, tensors = read_checkpoint(folder)
            for left in folder.glob(".*.new"):                            # of a write that was cut off
                left.unlink(missing_ok=True)
            lines = [line for line in (folder / METRICS).read_bytes().splitlines(True) if 0 < _step_of(line) <= position.logged]
            write_files(folder, {METRICS: b"".join(lines)})
        except BaseException:
            record.close()
            raise
        return record, position, tensors

    def close(self) -> None:
        """A run that made no step worth keeping leaves nothing."""
        if not self.worth_keeping:
            for name in (METRICS, TRAINING, WEIGHTS, CONFIG, CARD, RUN):
                (self.folder / name).unlink(missing_ok=True)
            with suppress(OSError):                                       # not empty: it holds what is not ours
                self.folder.rmdir()
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def change(self, config: TrainConfig) -> None:
        """Keep other settings, such as a new budget.

        config: the new settings.
        """
        self.config = config
        write_files(self.folder, {RUN: _settings(config, self.images)})

    def log(self, state: TrainState, position: Position) -> None:
        """A line of metrics where one is due: the mean loss since the last, and an evaluation. One of an interrupted run is provisional.

        state: after a step.
        position: of the run, which is updated.
        """
        position.losses.append(state.loss)
        if state.evaluation is None and not state.finished and state.step % self.config.run.log_every:
            return
        loss = sum(position.losses) / len(position.losses)
        bits = None if state.bits_per_dim is None else bits_per_dim(loss, state.model.spec.size)
        line: dict[str, Any] = {"step": state.step, "loss": loss, "bits_per_dim": bits}
        line |= {name: getattr(state, name) for name in ("images_per_second", "learning_rate", "gradient_norm", "elapsed")}
        if state.losses:
            line["losses"] = dict(state.losses)
        if state.evaluation is not None:
            line["held_out"] = {**asdict(state.evaluation), "bits_per_dim": state.evaluation.bits_per_dim}
        with open(self.folder / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(line)) + "\n")
        if not state.interrupted:
            position.logged, position.losses = state.step, []

    @property
    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        wait = max(60 * self.config.run.checkpoint_minutes, self.took / WRITING)
        return time.perf_counter() - self.saved >= wait

    def save(self, tensors: dict[str, Tensor], averaged: Model, position: Position, clock: Clock) -> None:
        """Write the averaged model, then the checkpoint.

        tensors: of the checkpoint, as ``checkpoint_tensors`` gives them.
        averaged: the model with averaged weights.
        position: of the run, which is updated.
        clock: of the run.
        """
        begin = time.perf_counter()
        position.seconds, position.cpu_seconds = clock.wall(), clock.cpu()
        training = f"{position.step:,} steps of {self.config.optim.batch}, {clock.cpu() / 60:.1f} CPU-minutes"
        results = self.origin.results if self.evaluation is None else (score_of(self.evaluation, self.origin),)
        content = tensor_bytes(tensors, {"position": json.dumps(asdict(position))})
        save_pretrained(averaged, self.folder, replace(self.origin, training=training, results=results), {TRAINING: content})
        self.worth_keeping |= position.step > 0
        self.saved = time.perf_counter()
        self.took = self.saved - begin


def checkpoint_tensors(model: Model, averaged: Model, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What a checkpoint holds; where weights are in shards, every process has to ask.

    model: raw weights.
    averaged: their average.
    optimiser: its state.
    """
    tensors = {f"{RAW}{name}": whole(value) for name, value in model.state_dict().items()}
    tensors |= {f"{AVERAGE}{name}": value for name, value in averaged.state_dict().items()}
    return tensors | optimiser_state(optimiser, model)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_settings(folder: Path) -> dict[str, Any]:
    """What run.json says: "config" as a ``TrainConfig``, "data" and "held_out" as ``fingerprint``, or None.

    folder: of the run.

    Raises ``ValueError`` if there is no run to resume.
    """
    if not folder.is_dir():
        raise ValueError(f"resume: there is no folder {str(folder)!r}")
    try:
        settings = json.loads((folder / RUN).read_text(encoding="utf-8"))
        optim = OptimConfig(**settings["optim"])
        config = TrainConfig(optim=replace(optim, betas=tuple(optim.betas)), run=RunConfig(**settings["run"]))
    except FileNotFoundError:
        why = "by a version that could not resume" if holds_run(folder) else "by nothing that trains"
        raise ValueError(f"resume: {str(folder)!r} has no {RUN}, it was written {why}; give the folder of a run") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"resume: {str(folder / RUN)!r} cannot be read; the run ended as it began, or is of another version") from None
    return {"config": config, "data": settings.get("data"), "held_out": settings.get("held_out")}


def read_checkpoint(folder: Path) -> tuple[Position, dict[str, Tensor]]:
    """The position and the tensors of the last checkpoint.

    folder: of the run.

    Raises ``ValueError`` if there is none.
    """
    with _checkpoint(folder) as (position, file):
        return position, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def check_model(folder: Path, model: Model) -> None:
    """Check that a checkpoint is one of a model.

    folder: of the run.
    model: that is to go on.

    Raises ``ValueError`` naming a tensor that differs, and if there is no checkpoint.
    """
    expected = {RAW + name: list(value.shape) for name, value in model.state_dict().items()}
    with _checkpoint(folder) as (_, file):
        found = {name: file.get_slice(name).get_shape() for name in file.keys() if name.startswith(RAW)}  # noqa: SIM118
    for name in (*expected, *found):
        ours, theirs = expected.get(name, "missing"), found.get(name, "missing")
        if ours != theirs:
            what = f"{name.removeprefix(RAW)} is {theirs} there and {ours} in this {type(model).__name__}"
            raise ValueError(f"resume: the checkpoint in {str(folder)!r} is of another model: {what}; give the model as it was built")


def read_position(folder: Path) -> Position:
    """The position alone, which is in the header of the checkpoint; errors are as for ``read_checkpoint``.

    folder: of the run.
    """
    with _checkpoint(folder) as (position, _):
        return position


@contextmanager
def _checkpoint(folder: Path) -> Iterator[tuple[Position, Any]]:
    """The position, and the open file of tensors."""
    path = folder / TRAINING
    try:
        with safe_open(path, "pt") as file:
            yield Position(**json.loads((file.metadata() or {})["position"])), file
    except FileNotFoundError:
        raise ValueError(f"resume: {str(folder)!r} has no checkpoint yet; remove it and start again") from None
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"resume: {str(path)!r} is damaged ({' '.join(str(error).split())[:100]})") from None


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl.

    folder: of the run.
    """
    return [json.loads(line) for line in (folder / METRICS).read_bytes().splitlines() if _step_of(line) > 0]


def _step_of(line: bytes) -> int:
    """0 of a line that was cut off."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return 0


def fingerprint(data: Dataset) -> dict[str, Any]:
    """Number and checksum of images, so that a run is continued on the data that it began with.

    data: the images. Of those on disk the checksum covers names, sizes, labels and a few images (``Stored.checksum``).
    """
    if isinstance(data.images, Stored):
        checksum = data.images.checksum()
        checksum = checksum if data.labels is None else crc32(data.labels.numpy().data, checksum)
        return {"images": len(data), "checksum": f"{checksum:08x}"}
    checksum = 0
    originals = data.originals if isinstance(data.originals, tuple) else (data.originals,)
    given = data.conditions
    for values in (data.images, *originals, data.labels, *(given.parts if isinstance(given, ExemplarSets) else (given,))):
        if values is not None:
            checksum = crc32(values.contiguous().numpy().data, checksum)
    return {"images": len(data), "checksum": f"{checksum:08x}"}


def fingerprints(data: Dataset, held_out: Dataset | None) -> dict[str, Any]:
    """Of what a run reads, by name.

    data: the training images.
    held_out: those of the evaluations; None has None.
    """
    return {"data": fingerprint(data), "held_out": None if held_out is None else fingerprint(held_out)}


def _settings(config: TrainConfig, images: dict[str, Any]) -> bytes:
    settings = {"optim": asdict(config.optim), "run": asdict(config.run)} | images
    return (json.dumps(settings, indent=2, ensure_ascii=False) + "\n").encode(errors=SURROGATES)


def _finite(line: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(line, dict):
        return {name: _finite(value) for name, value in line.items()}
    return None if isinstance(line, float) and not math.isfinite(line) else line


def _lock(folder: Path) -> int | None:
    """Hold the folder; the system lets go when this process ends. None where there are no such locks."""
    try:
        import fcntl
    except ImportError:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise ValueError(f"train: {str(folder)!r} is being trained by another process; wait until it ends") from None
    except OSError:
        os.close(handle)
        return None
    return handle


# ── for the card ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_data(origin: Origin, data: Dataset, held_out: Dataset | None) -> Origin:
    """``origin`` with the images that the model is trained on, where the data sets know how they were made.

    origin: of the model.
    data: the training images.
    held_out: those of the evaluations, or None.
    """
    if data.options is None:
        return origin
    config = DataConfig(name=data.name, train=data.split, **asdict(data.options.plain()))
    config = config if held_out is None else replace(config, held_out=held_out.split)
    return replace(origin, data=config, images=len(data) if data.fresh is None else None, class_names=data.class_names)


def score_of(evaluation: Evaluation, origin: Origin) -> Score:
    """An evaluation as the folder keeps it.

    evaluation: the last one.
    origin: of the model, which names the split.
    """
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
