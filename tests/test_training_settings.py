"""Gradients added up over parts of a batch, bf16, and ``torch.compile``: what they change, and what they do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_processes import forked
from test_resume import CASES, assert_same, build, config, digits

import rastrum
import rastrum.cli
from rastrum.evaluation import evaluate
from rastrum.model import Model
from rastrum.train import resume, train
from rastrum.training import compiling
from rastrum.training.record import read_checkpoint
from rastrum.training.workers import Workers

DROPOUT = "dropout, data-dependent initialisation"


def trained(case: str, steps: int, run: dict[str, Any] | None = None, double: bool = True, **optim: Any) -> tuple[list[float], Model]:
    name, overrides, options, usual = CASES[case]
    data = digits(**options)
    model = build(name, data, **overrides)
    model = model.double() if double else model
    settings = config(None, steps, run, **{**usual, "batch": 7, "micro_batch": None, **optim})
    return [state.loss for state in train(model, data, settings)], model


def assert_close(model: Model, expected: Model) -> None:
    for (name, ours), theirs in zip(model.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-9), name


# ── gradient accumulation ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("case", [DROPOUT, "latents, crops"])
def test_parts_of_a_batch_give_its_weights(case: str) -> None:
    """Also what is drawn for each image is the same."""
    losses, model = trained(case, 4, accumulate=3)
    expected, whole = trained(case, 4)
    assert losses == pytest.approx(expected, rel=1e-10)
    assert_close(model, whole)


def test_a_part_is_all_that_is_held_at_once() -> None:
    """On a GPU (here a device without content) one at a time, whatever micro_batch says; on a CPU the smaller of the two."""
    model = build("pixelcnn", digits())
    pieces = [Workers(model, config(None, batch=7, micro_batch=micro, accumulate=3)).piece for micro in (None, 2, 5)]
    assert pieces == [3, 2, 3]
    settings = config(None, run={"workers": 4}, batch=7, micro_batch=2, accumulate=3)
    with Workers(model.to("meta"), settings) as workers:
        assert (workers.piece, workers.pool.count) == (3, 1)
    with Workers(model, config(None, batch=7, micro_batch=2)) as workers:
        assert (workers.piece, workers.pool.count) == (7, 1)


@pytest.mark.parametrize(("setting", "message"), [
    ({"accumulate": 0}, "optim.accumulate must be above 0, got 0"),
    ({"accumulate": 8}, "optim.accumulate must be at most optim.batch, got 8 parts of 7 images"),
])  # fmt: skip
def test_parts_that_are_none(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trained(DROPOUT, 1, **setting)


# ── bf16 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_bf16_is_near_float32_and_its_weights_are_float32() -> None:
    half, model = trained("latents, crops", 6, {"precision": "bf16"}, double=False)
    full, _ = trained("latents, crops", 6, double=False)
    assert half != full and half == pytest.approx(full, rel=1e-2)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not torch.is_autocast_enabled("cpu")


def test_bf16_goes_on_as_it_was(tmp_path: Path) -> None:
    """A resumed run is one run to the bit, and evaluations are those of ``rastrum evaluate``."""
    data, held_out = digits(), digits("test[:10]")

    def run(folder: str) -> Any:
        return train(build("gated-pixelcnn", data), data, config(tmp_path / folder, 6, {"precision": "bf16"}), held_out)

    last = list(run("whole"))[-1]
    parts = run("parts")
    for _ in range(3):
        next(parts)
    parts.close()
    list(resume(tmp_path / "parts", data, held_out))
    assert_same(tmp_path / "parts", tmp_path / "whole")
    assert json.loads((tmp_path / "parts" / "run.json").read_text())["run"]["precision"] == "bf16"
    assert last.evaluation == evaluate(rastrum.load(tmp_path / "whole"), held_out)


def test_bf16_where_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run that was started with it is not resumed without it unasked."""
    data = digits()
    states = train(build("pixelcnn", data), data, config(tmp_path / "run", 6, {"precision": "bf16"}))
    for _ in range(3):
        next(states)
    states.close()
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda kind: False)
    with pytest.raises(ValueError, match="torch does not compute in bf16 on cpu"):
        trained(DROPOUT, 1, {"precision": "bf16"})
    with pytest.raises(ValueError, match="torch does not compute in bf16 on cpu"):
        next(resume(tmp_path / "run", data))


def test_flags_that_do_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["train", "pixelcnn", "--data", "digits", "--run.steps", "2"]
    assert rastrum.cli.main([*command, "--run.precision", "fp8"]) == 2
    assert "precision" in capsys.readouterr().err and not list(tmp_path.iterdir())


# ── torch.compile ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_compiled_is_the_same_to_rounding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the compiler's first half, which traces the model and its gradient; the checkpoint has the usual names, and resumes without."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    data = digits()
    settings = config(tmp_path / "run", 3, {"compile": True}, batch=4, micro_batch=None)
    losses = [state.loss for state in train(build("gated-pixelcnn", data), data, settings)]
    expected = [state.loss for state in train(build("gated-pixelcnn", data), data, config(tmp_path / "plain", 3, batch=4))]
    assert losses == pytest.approx(expected, rel=1e-5)
    (_, tensors), (_, plain) = (read_checkpoint(tmp_path / folder) for folder in ("run", "plain"))
    assert tensors.keys() == plain.keys()
    rastrum.sample(rastrum.load(tmp_path / "run"), 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gated-pixelcnn", "pixelcnn", "pixelcnn++", "conv-draw", "spatial-lstm", "row-lstm", "draw"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-5)], ids=["float64", "float32"])
def test_every_kind_of_model_compiles(name: str, dtype: torch.dtype, tolerance: float) -> None:
    """By torch's own compiler, with g++: convolutions, dropout, latents, recurrences, mixtures."""
    data = digits(crop=4) if name == "pixelcnn++" else digits()
    options: dict[str, Any] = {"pixelcnn++": {"dropout": 0.5, "filters": 4, "blocks": 1}, "conv-draw": {"warm_up": 0.5}}.get(name, {})

    def losses(compile: bool) -> list[float]:
        settings = config(None, 4, {"compile": compile}, batch=4, micro_batch=None)
        return [state.loss for state in train(build(name, data, **options).to(dtype), data, settings)]

    assert losses(True) == pytest.approx(losses(False), rel=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True])
def test_compiled_in_several_processes(shard: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    expected, _ = trained("latents, crops", 4)

    def work() -> None:
        assert trained("latents, crops", 4, {"compile": True, "shard": shard})[0] == pytest.approx(expected, rel=1e-9)

    assert forked(2, work) == [0, 0]


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, before anything is written."""
    from torch._inductor import config as settings

    monkeypatch.setattr(settings.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.chdir(tmp_path)
    assert rastrum.cli.main(["train", "pixelcnn", "--data", "digits", "--run.steps", "2", "--run.compile"]) == 2
    assert "run.compile needs a C++ compiler such as g++" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_torch_cannot_compile_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no code\nfor this")

    monkeypatch.setattr(compiling, "BACKEND", broken)
    with pytest.raises(ValueError, match=r"torch cannot compile this model; leave run.compile out \(.*no code for this"):
        trained("latents, crops", 1, {"compile": True})
