"""A run that is stopped at any instant and resumed ends as one that never stopped, bit for bit; and a run owns its folder."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import rastrum
from rastrum import ImageSpec, files
from rastrum.config import DataOptions, OptimConfig, RunConfig, TrainConfig
from rastrum.data.dataset import Dataset, load_dataset
from rastrum.model import Model
from rastrum.train import TrainState, resume, train
from rastrum.training import clock
from rastrum.training.record import Record, read_checkpoint

STEPS = 40


def digits(split: str = "train[:50]", **options: Any) -> Dataset:
    return load_dataset("digits", split, DataOptions(**options))


def build(name: str, data: Dataset, **overrides: Any) -> Model:
    return rastrum.build(name, data.spec, "tiny", seed=1, **overrides)


def config(folder: Path | None, steps: int = STEPS, run: dict[str, Any] | None = None, **optim: Any) -> TrainConfig:
    """A checkpoint after every step."""
    return TrainConfig(
        optim=OptimConfig(**{"batch": 6, "learning_rate": 1e-2, "micro_batch": 2, "warm_up": 5, "clip": 20.0, **optim}),
        run=RunConfig(**{"steps": steps, "evaluations": 4, "workers": 1, "checkpoint_minutes": 1e-9, "log_every": 3,
                         "folder": None if folder is None else str(folder), **(run or {})}),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def checkpoints_as_often_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rastrum.training.record.WRITING", 1e9)


def contents(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """All tensors of the folder, and the lines of metrics without their times."""
    tensors = load_file(folder / "training.safetensors") | load_file(folder / "model.safetensors")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return tensors, [{key: value for key, value in line.items() if key not in ("elapsed", "images_per_second")} for line in lines]


def assert_same(folder: Path, expected: Path) -> None:
    (ours, lines), (theirs, their_lines) = contents(folder), contents(expected)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert lines == their_lines


def in_child(work: Callable[[], object]) -> int:
    """Start ``work`` in a copy of this process; → its number."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(3)


def ended(child: int) -> int:
    """The exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "binarised, RMSProp": ("gated-pixelcnn", {}, {"binarise": "dynamic"}, {"optimizer": "rmsprop", "schedule": "exponential"}),
    "latents, crops": ("draw", {"read": 2, "write": 2}, {"crop": 6}, {}),
    "stages, dequantised": ("spatial-lstm", {"in_turn": True, "layers": 2}, {}, {}),
    "dropout, data-dependent initialisation": ("pixelcnn++", {"dropout": 0.5, "filters": 4, "blocks": 1}, {"crop": 4}, {}),
    "warm-up": ("conv-draw", {"warm_up": 0.5}, {}, {"micro_batch": 3}),
    "two objectives": ("gran", {"loss": "relativistic", "discriminator_norm": "none"}, {}, {"betas": (0.0, 0.9)}),
    "two objectives, spectral norm": ("dcgan", {}, {"crop": 6}, {"betas": (0.0, 0.9)}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_in_two_parts_is_one_run(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last checkpoint is that of step 5 of 9, so that later lines of metrics are cut; torch's own generator has moved meanwhile."""
    name, overrides, options, optim = CASES[case]
    data, held_out = digits(**options), digits("test[:10]", **options)
    settings = [config(tmp_path / part, 12, **optim) for part in ("whole", "parts")]
    whole = list(train(build(name, data, **overrides), data, settings[0], held_out))
    run = train(build(name, data, **overrides), data, settings[1], held_out)
    for _ in range(5):
        next(run)
    with monkeypatch.context() as patch:
        patch.setattr(Record, "save", lambda *_: None)                    # the last checkpoint stays that of step 5
        for _ in range(4):
            next(run)
        run.close()
    torch.manual_seed(99)
    model = build(name, data, **overrides)
    rest = list(resume(tmp_path / "parts", data, held_out, model=model))
    assert [state.step for state in rest] == list(range(6, 13)) and rest[-1].finished
    assert [state.loss for state in rest] == [state.loss for state in whole[5:]]
    assert_same(tmp_path / "parts", tmp_path / "whole")
    assert torch.equal(next(model.parameters()), next(rastrum.load(tmp_path / "whole").parameters()))


@pytest.mark.parametrize("binarise", [None, "dynamic"])
def test_crops_of_images_of_several_sizes_go_on(binarise: Any, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(9):
        pixels = np.random.RandomState(i).randint(0, 256, (8 + i % 3, 9 + i % 2)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    data = load_dataset(str(tmp_path / "images"), "all", DataOptions(crop=6, levels=None if binarise else 4, binarise=binarise))
    list(train(build("gated-pixelcnn", data), data, config(tmp_path / "whole", 6)))
    run = train(build("gated-pixelcnn", data), data, config(tmp_path / "parts", 6))
    next(run)
    run.close()
    list(resume(tmp_path / "parts", data))
    assert_same(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize("name", ["draw", "pixelcnn++", "spatial-lstm"])
def test_noise_does_not_depend_on_pieces_or_workers(name: str) -> None:
    """Equal to rounding in float64 whatever the pieces; equal to the bit whatever the order in which threads take them."""
    data = digits(crop=4)
    overrides: dict[str, Any] = {"draw": {"read": 2, "write": 2}, "pixelcnn++": {"filters": 4, "blocks": 1}}.get(name, {})

    def losses(micro_batch: int | None, workers: int) -> list[float]:
        model = build(name, data, **overrides).double()
        return [state.loss for state in train(model, data, config(None, 3, {"workers": workers}, micro_batch=micro_batch))]

    whole = losses(None, 1)
    assert losses(2, 3) == losses(2, 3) and losses(2, 3) == pytest.approx(whole, rel=1e-9) == losses(1, 2)


def kill_at_random(folder: Path, whole: Path, kills: int, seed: int) -> None:
    """A run of ``STEPS`` is killed and resumed until it has been killed ``kills`` times; then it may end."""
    data, held_out, moments = digits(binarise="dynamic"), digits("test[:5]", binarise="static"), random.Random(seed)
    begin = time.perf_counter()
    list(train(build("draw", data, read=2, write=2), data, config(whole), held_out))
    length, killed = time.perf_counter() - begin, 0

    def work() -> None:
        if (folder / "training.safetensors").exists():
            list(resume(folder, data, held_out))
        else:
            list(train(build("draw", data, read=2, write=2), data, config(folder), held_out))

    while killed < kills:
        child = in_child(work)
        time.sleep(moments.random() * length * 2 / (kills if kills < 10 else 10))
        os.kill(child, signal.SIGKILL)
        code = ended(child)
        assert code in (0, -signal.SIGKILL)
        if (folder / "training.safetensors").exists():
            rastrum.load(folder)
        else:                                                             # killed before the first step
            for path in folder.glob("*"):
                path.unlink()
            for path in folder.glob(".*"):
                path.unlink()
        if code == 0:                                                     # it had ended before: another run
            assert_same(folder, whole)
            for path in folder.iterdir():
                path.unlink()
        killed += code != 0
    if (folder / "training.safetensors").exists() and read_checkpoint(folder)[0].step == STEPS:
        return assert_same(folder, whole)
    assert ended(in_child(work)) == 0
    assert_same(folder, whole)


def test_killed_and_resumed(tmp_path: Path) -> None:
    kill_at_random(tmp_path / "killed", tmp_path / "whole", 5, seed=1)


@pytest.mark.slow
def test_killed_100_times_and_resumed(tmp_path: Path) -> None:
    kill_at_random(tmp_path / "killed", tmp_path / "whole", 100, seed=2)


def test_a_power_cut_at_any_write(tmp_path: Path) -> None:
    """The process ends at each fsync and each rename in turn: the folder loads from the first checkpoint on, and resumes exactly."""
    data = digits()
    list(train(build("gated-pixelcnn", data), data, config(tmp_path / "whole", 2)))
    at = 0
    while True:
        folder = tmp_path / f"cut-{at}"

        def work(folder: Path = folder, at: int = at) -> None:
            calls = 0

            def cut(do: Callable[..., Any]) -> Callable[..., Any]:
                def or_end(*arguments: Any) -> Any:
                    nonlocal calls
                    calls += 1
                    if calls > at:
                        os._exit(9)
                    return do(*arguments)

                return or_end

            os.fsync, os.replace = cut(os.fsync), cut(os.replace)
            list(train(build("gated-pixelcnn", data), data, config(folder, 2)))

        code = ended(in_child(work))
        if code == 0:
            break
        assert code == 9
        if (folder / "training.safetensors").exists():
            rastrum.load(folder)
            if read_checkpoint(folder)[0].step < 2:
                list(resume(folder, data))
            else:
                with pytest.raises(ValueError, match="has finished"):
                    next(resume(folder, data))
            assert_same(folder, tmp_path / "whole")
            assert not list(folder.glob(".*"))
        else:
            with pytest.raises(ValueError, match="resume: "):
                next(resume(folder, data))
        at += 1
    assert at > 20


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_save_also_before_the_first_checkpoint_and_are_resumed(number: str, tmp_path: Path) -> None:
    data, held_out, handler = digits(), digits("test[:5]"), signal.getsignal(getattr(signal, number))
    settings = config(tmp_path / "run", 12, {"checkpoint_minutes": 60.0})
    if number == "SIGHUP":
        signal.signal(signal.SIGHUP, signal.SIG_DFL)                      # not as under nohup
    list(train(build("gated-pixelcnn", data), data, config(tmp_path / "whole", 12), held_out))
    states: list[TrainState] = []
    for state in train(build("gated-pixelcnn", data), data, settings, held_out):
        states.append(state)
        if state.step == 1:
            os.kill(os.getpid(), getattr(signal, number))
    assert [state.step for state in states] == [1, 2] and states[-1].interrupted and states[-1].finished
    assert read_checkpoint(tmp_path / "run")[0].step == 2
    list(resume(tmp_path / "run", data, held_out))
    assert_same(tmp_path / "run", tmp_path / "whole")
    signal.signal(getattr(signal, number), handler)


def test_nohup_stays() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    data = digits()
    states: list[TrainState] = []
    for state in train(build("gated-pixelcnn", data), data, config(None, 4)):
        os.kill(os.getpid(), signal.SIGHUP)
        states.append(state)
    assert len(states) == 4 and not states[-1].interrupted and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    signal.signal(signal.SIGHUP, before)


def test_a_full_disk_can_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = digits()
    list(train(build("gated-pixelcnn", data), data, config(tmp_path / "whole", 6)))
    run = train(build("gated-pixelcnn", data), data, config(tmp_path / "run", 6))
    for _ in range(3):
        next(run)
    with monkeypatch.context() as patch:

        def full(_: int) -> None:
            raise OSError(28, os.strerror(28))

        patch.setattr(files.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            list(run)
    list(resume(tmp_path / "run", data))
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_a_further_budget_replaces_the_old_one(tmp_path: Path) -> None:
    """The schedule follows the whole: after 6 of 12 steps the cosine stands in its middle. The new budget is kept."""
    data, folder = digits(), tmp_path / "run"
    first = list(train(build("gated-pixelcnn", data), data, config(folder, 6, warm_up=0)))
    assert first[-1].learning_rate < 0.001
    with pytest.raises(ValueError, match=r"has finished, at step 6; give it a further budget with --minutes"):
        next(resume(folder, data))
    run = resume(folder, data, steps=6)
    assert next(run).learning_rate == pytest.approx(0.005)
    run.close()
    rest = list(resume(folder, data))
    assert [state.step for state in rest] == list(range(8, 13)) and rest[-1].fraction == 1
    states = list(resume(folder, data, minutes=0.01))
    assert states[-1].fraction == 1 and states[-1].elapsed - rest[-1].elapsed >= 0.6


def test_the_rate_of_a_further_budget_rises_slowly(tmp_path: Path) -> None:
    """By warm-up once more, also where the run was stopped on the way; the exponential schedule goes on from where it was."""
    data = digits()
    for schedule, seventh, eighth in (("cosine", 0.5, (1 + math.cos(math.pi * 7 / 12)) / 2), ("exponential", 0.9**6, 0.9**7)):
        folder = tmp_path / schedule
        list(train(build("gated-pixelcnn", data), data, config(folder, 6, warm_up=3, schedule=schedule, decay=0.9)))
        run = resume(folder, data, steps=6)
        assert next(run).learning_rate == pytest.approx(0.01 * seventh / 3)
        run.close()
        assert next(resume(folder, data)).learning_rate == pytest.approx(0.01 * eighth * 2 / 3)


# ── who owns a folder, and what is refused ───────────────────────────────────────────────────────────────────────────────


def test_other_data_and_other_folders_are_refused(tmp_path: Path) -> None:
    data, folder = digits(), tmp_path / "run"
    run = train(build("gated-pixelcnn", data), data, config(folder))
    next(run)
    if hasattr(os, "fork"):
        with pytest.raises(ValueError, match="is being trained by another process"):
            next(resume(folder, data))
    run.close()
    with pytest.raises(ValueError, match=r"was trained on 50 images of checksum .*, these are 49"):
        next(resume(folder, data.select(slice(0, 49))))
    with pytest.raises(ValueError, match="model is for 1x8x8"):
        next(resume(folder, digits(crop=6)))
    for path, says in ((tmp_path / "no", "there is no folder"), (tmp_path, "has no run.json")):
        with pytest.raises(ValueError, match=says):
            next(resume(path, data))
    (folder / "training.safetensors").write_bytes(b"12345678")
    with pytest.raises(ValueError, match="is damaged"):
        next(resume(folder, data))


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples-000001.png", "model.safetensors", "notes.txt"])
def test_a_folder_with_anything_in_it_is_left_alone(name: str, tmp_path: Path) -> None:
    """Before the first step, with nothing changed."""
    (tmp_path / name).write_text("mine")
    data = digits()
    with pytest.raises(ValueError, match=f"holds '{name}', and a run needs a folder of its own"):
        next(train(build("gated-pixelcnn", data), data, config(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine"


def test_a_run_that_ends_before_its_first_step_leaves_nothing(tmp_path: Path) -> None:
    data = digits()
    with pytest.raises(ValueError, match="diverged at step"):
        list(train(build("gated-pixelcnn", data), data, config(tmp_path / "run", learning_rate=1e30, warm_up=0, clip=None)))
    kept = tmp_path / "run" / "training.safetensors"
    assert not (tmp_path / "run").exists() or read_checkpoint(kept.parent)[0].step > 0
    with pytest.raises(ValueError, match=r"run\.seed must be from 0 to 2\^64 − 1, got -1"):
        next(train(build("gated-pixelcnn", data), data, config(tmp_path / "bad", run={"seed": -1})))
    assert not (tmp_path / "bad").exists()
    next(train(build("gated-pixelcnn", data), data, config(None, run={"seed": 2**64 - 1})))


def test_runs_started_at_once_never_share_a_folder(tmp_path: Path) -> None:
    data = digits()

    def work() -> None:
        try:
            list(train(build("gated-pixelcnn", data), data, config(tmp_path / "run", 3)))
        except ValueError as error:
            os._exit(2 if "run" in str(error) else 3)

    codes = sorted(ended(child) for child in [in_child(work) for _ in range(4)])
    assert codes == [0, 2, 2, 2]


# ── clocks and divergence ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("readings", [lambda n: 5.0, lambda n: 5.0 - n])
def test_a_clock_that_stands_still_or_goes_back(readings: Callable[[int], float], monkeypatch: pytest.MonkeyPatch) -> None:
    count = iter(range(10**6))
    monkeypatch.setattr(clock.time, "perf_counter", lambda: readings(next(count)))
    data = digits()
    states = list(train(build("gated-pixelcnn", data), data, config(None, 4, {"minutes": 1.0}), digits("test[:5]")))
    assert states[-1].step == 4 and all(state.images_per_second == 0 and state.elapsed == 0 == state.time_left for state in states)


def test_a_billion_nats_is_called_divergence() -> None:
    """Finite all the way, but lost: a step that throws the weights far off."""
    data = load_dataset("digits", "train[:50]")
    for name, rate in (("pixelcnn", 1e8), ("draw", 1e4)):
        model = rastrum.build(name, data.spec, "tiny")
        with pytest.raises(ValueError, match="diverged"):
            list(train(model, data, config(None, 20, learning_rate=rate, clip=None, warm_up=0), data))


def test_evaluations_take_at_most_a_tenth_of_a_budget_of_time() -> None:
    settings = config(None, run={"minutes": 0.05, "steps": None, "evaluations": 2, "num_samples": 100}, micro_batch=None)
    data, held_out = digits(), digits("test")
    states = [state for state in train(build("draw", data, read=2, write=2), data, settings, held_out) if state.evaluation]
    assert 16 <= states[-1].evaluation.images < 360                       # pyright: ignore[reportOptionalMemberAccess]
    assert len({state.evaluation.images for state in states if state.evaluation}) == 1
    whole = list(train(build("draw", data), data, replace(settings, run=replace(settings.run, minutes=None, steps=2)), held_out))
    assert whole[-1].evaluation is not None and whole[-1].evaluation.images == 100      # the least for a budget of steps


def test_the_spec_of_a_run_is_checked_before_its_folder_is_made(tmp_path: Path) -> None:
    data = digits()
    other = Dataset("other", "test", ImageSpec(1, 8, 7, 17), torch.zeros(2, 1, 8, 7, dtype=torch.uint8))
    with pytest.raises(ValueError, match="model is for 1x8x8"):
        next(train(build("gated-pixelcnn", data), data, config(tmp_path / "run"), other))
    assert not (tmp_path / "run").exists()
