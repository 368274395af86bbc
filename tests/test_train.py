"""The training loop: its steps, reproducibility, learning, saved files, and how it ends."""

import copy
import errno
import json
import math
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_noise import reference as philox

import rastrum
from rastrum import ConditionSpec, ImageSpec, files
from rastrum.checkpoint import Origin
from rastrum.config import DataOptions, OptimConfig, RunConfig, TrainConfig
from rastrum.data.dataset import Dataset, load_dataset
from rastrum.evaluation import evaluate
from rastrum.noise import ORDER
from rastrum.train import INITIALISE, TrainState, learning_rate, train
from rastrum.training.clock import Clock
from rastrum.training.optimiser import optimiser_of
from rastrum.training.record import read_checkpoint
from rastrum.training.workers import Workers

SPEC = ImageSpec(1, 4, 4, 3)


def stripes(count: int = 64, spec: ImageSpec = SPEC) -> Dataset:
    """Images whose columns are constant and given by their class: easy to learn."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.randint(spec.levels, (count, spec.channels, 1, spec.width), generator=generator)
    images = columns.expand(count, *spec.shape).to(torch.uint8).contiguous()
    return Dataset("stripes", "train", spec, images, columns[:, 0, 0, 0].long(), spec.levels)


def build(name: str = "gated-pixelcnn", spec: ImageSpec = SPEC, condition: ConditionSpec | None = None, **overrides: Any) -> Any:
    return rastrum.build(name, spec, "tiny", condition, seed=1, **overrides)


def config(steps: int | None = 6, run: dict[str, Any] | None = None, **optim: Any) -> TrainConfig:
    return TrainConfig(
        optim=OptimConfig(**{"batch": 8, "learning_rate": 1e-2, "micro_batch": 4, **optim}),
        run=RunConfig(**{"steps": steps, "evaluations": 2, "workers": 1, **(run or {})}),
    )


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def finish(*arguments: Any, **keywords: Any) -> list[TrainState]:
    return list(train(*arguments, **keywords))


# ── a step ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("micro_batch", "workers"), [(None, 1), (8, 1), (3, 1), (3, 2), (1, 3)])
def test_pieces_and_workers_change_nothing_but_rounding(micro_batch: int | None, workers: int) -> None:
    """The gradient of a batch in pieces is the gradient of the batch: three steps of Adam end at the same float64 weights."""
    data = stripes()
    whole, pieces = build().double(), build().double()
    finish(whole, data, config(3, micro_batch=None))
    states = finish(pieces, data, config(3, {"workers": workers}, micro_batch=micro_batch))
    torch.testing.assert_close(weights(pieces), weights(whole), rtol=0, atol=1e-9)
    assert [s.step for s in states] == [1, 2, 3]


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_a_step_is_that_of_the_optimizer_on_the_mean_loss(optimizer: str) -> None:
    """Compared with the textbook formulas, with clipping and averaging, on the batches that the seed gives."""
    data, model = stripes(), build("pixelcnn").double()
    theirs = copy.deepcopy(model)
    settings = config(4, ema=0.5, clip=0.7, betas=(0.8, 0.95), eps=1e-6, schedule="constant", micro_batch=None, optimizer=optimizer)
    losses = [state.loss for state in train(model, data, settings)]
    parameters, keys = list(theirs.parameters()), [philox((i, 0, 0, ORDER), (0, 0)) for i in range(len(data))]
    order = sorted(range(len(data)), key=lambda i: (keys[i][0], keys[i][1]))
    m, v = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    average = [p.detach().clone() for p in parameters]
    for t in range(1, 5):
        x = data.images[order[8 * t - 8 : 8 * t]]
        loss = -theirs.log_prob(x).mean()
        assert loss.item() == pytest.approx(losses[t - 1], abs=1e-9)
        gradients = torch.autograd.grad(loss, parameters)
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        assert norm > 0.7
        with torch.no_grad():
            for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
                g = g * 0.7 / norm
                m[i] = 0.8 * m[i] + 0.2 * g
                v[i] = 0.95 * v[i] + 0.05 * g * g
                if optimizer == "adam":
                    p -= 1e-2 * (m[i] / (1 - 0.8**t)) / ((v[i] / (1 - 0.95**t)).sqrt() + 1e-6)
                else:
                    p -= 1e-2 * g / (v[i].sqrt() + 1e-6)
                keep = min(0.5, t / (10 + t))
                average[i] = keep * average[i] + (1 - keep) * p
    torch.testing.assert_close(weights(model), torch.cat([a.flatten() for a in average]), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "spec", "overrides"),
    [("gated-pixelcnn", SPEC, {}), ("pixelcnn++", ImageSpec(1, 4, 4, 16), {"dropout": 0.5}), ("draw", ImageSpec(1, 4, 4, 2), {})],
)
def test_the_same_seed_gives_the_same_run(name: str, spec: ImageSpec, overrides: dict[str, Any]) -> None:
    """Bit for bit, including dropout and latents, whatever the state of torch's generator, which is left unchanged."""
    data = stripes(spec=spec)
    runs = []
    for own, seed in ((1, 0), (2, 0), (1, 1)):
        model = build(name, spec, **overrides)
        torch.manual_seed(own)
        before = torch.random.get_rng_state()
        losses = [state.loss for state in train(model, data, config(4, {"seed": seed}))]
        assert torch.equal(torch.random.get_rng_state(), before)
        runs.append((losses, weights(model)))
    assert runs[0][0] == runs[1][0] and torch.equal(runs[0][1], runs[1][1])
    assert runs[0][0] != runs[2][0]


def test_two_workers_repeat_themselves() -> None:
    one, other = build(), build()
    for model in (one, other):
        finish(model, stripes(), config(4, {"workers": 2}, micro_batch=2))
    assert torch.equal(weights(one), weights(other))


def test_dynamic_binarisation_draws_again_and_repeats() -> None:
    data = load_dataset("digits", "train[:40]", DataOptions(binarise="dynamic"))
    losses = [[s.loss for s in train(build(spec=data.spec), data, config(3))] for _ in range(2)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ["gated-pixelcnn", "pixelcnn", "pixelcnn++", "draw"])
def test_training_lowers_the_held_out_loss(name: str) -> None:
    """Every model learns stripes, conditioned on the class if it can be."""
    condition = None if name == "pixelcnn" else ConditionSpec("class", 3)
    data = stripes()
    overrides: dict[str, Any] = {"dropout": 0.0} if name == "pixelcnn++" else {}
    model = build(name, condition=condition, **overrides)
    states = finish(model, data, config(40, {"held_out_images": None}, ema=0.5, clip=10.0, micro_batch=None), data)
    after = states[-1].evaluation
    assert after is not None and after.nats < 0.9 * states[0].loss
    assert evaluate(model, data).nats == pytest.approx(after.nats, rel=1e-5)  # the model now holds the averaged weights


def test_data_dependent_initialisation_runs_once_before_the_first_step() -> None:
    data = stripes(spec=ImageSpec(1, 4, 4, 16))
    model = build("pixelcnn++", data.spec)
    assert not model.initialised
    seen: list[int] = []
    initialise = model.initialise
    model.initialise = lambda x, condition=None: (seen.append(len(x)), initialise(x, condition))
    finish(model, data, config(2))
    finish(model, data, config(2))
    assert seen == [min(INITIALISE, len(data))] and model.initialised


def test_a_models_own_loss_is_used_and_is_not_called_a_likelihood() -> None:
    """DRAW's cross-entropy goes down, but no bits/dim are claimed for it, and evaluate refuses."""
    model = build("draw", likelihood="cross-entropy")
    states = finish(model, stripes(), config(4), stripes())
    last = states[-1].evaluation
    assert last is not None and last.kind == "loss" and last.bits_per_dim is None and states[-1].bits_per_dim is None
    with pytest.raises(ValueError, match="likelihood"):
        evaluate(model, stripes())


# ── schedules and budgets ────────────────────────────────────────────────────────────────────────────────────────────


def test_learning_rates_against_their_formulas() -> None:
    cosine = OptimConfig(learning_rate=2.0, warm_up=4)
    assert [learning_rate(cosine, step, 0.0) for step in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert learning_rate(cosine, 9, 0.5) == pytest.approx(1.0) and learning_rate(cosine, 9, 1.0) == pytest.approx(0.0)
    decay = OptimConfig(learning_rate=1e-3, schedule="exponential", decay=0.999995)
    assert learning_rate(decay, 100_000, 0.3) == pytest.approx(1e-3 * math.exp(100_000 * math.log(0.999995)))
    assert learning_rate(OptimConfig(learning_rate=3.0, schedule="constant"), 7, 0.9) == 3.0


@pytest.mark.parametrize("budget", ["minutes", "cpu_minutes"])
def test_a_budget_of_time_ends_the_run_and_drives_the_schedule(budget: str) -> None:
    states = finish(build(), stripes(), config(10**9, {budget: 0.02, "evaluations": 3}), stripes())
    assert states[-1].finished and states[-1].fraction == 1 and not states[-1].interrupted
    assert budget == "cpu_minutes" or states[-1].elapsed >= 1.2
    assert states[-1].learning_rate < states[0].learning_rate
    assert 1 <= sum(s.evaluation is not None for s in states) <= 3  # a slow step may jump over one


def test_evaluations_are_evenly_spaced_and_the_last_state_has_one() -> None:
    states = finish(build(), stripes(), config(10, {"evaluations": 5}), stripes())
    assert [s.step for s in states if s.evaluation is not None] == [2, 4, 6, 8, 10]
    assert [s.finished for s in states] == [False] * 9 + [True]
    assert states[4].fraction == 0.5 and states[4].images_per_second > 0 and states[4].time_left > 0


@pytest.mark.parametrize(
    ("run", "count"),
    [({"steps": 6}, 100),                                                 # 48 images of training would pay for 4 scores
     ({"steps": 6, "minutes": 600.0}, 100),                               # the shorter budget counts
     ({"steps": 1000}, 200), ({"steps": 6, "held_out_images": 30}, 30), ({"steps": 6, "held_out_images": None}, 300),
     ({"steps": 600, "evaluations": 1, "num_samples": 5}, 168)],          # 0.07 · 600 · 8 images / (0.4 · 5)
)  # fmt: skip
def test_a_short_run_spends_little_on_evaluations(run: dict[str, Any], count: int) -> None:
    """Of the thousand images that are there for a run of any length; the model's speed is of no account."""
    settings = config(run={"held_out_images": 200, **run})
    clock = Clock(settings.run)
    most = min(300, settings.run.held_out_images or 300)
    assert [clock.images_to_evaluate(speed, most, settings.optim.batch) for speed in (0.0, 1e6)] == [count, count]
    if settings.run.steps == 6 and count == 100:
        evaluation = finish(build(), stripes(), settings, stripes(300))[-1].evaluation
        assert evaluation is not None and evaluation.images == count


def test_interrupt_ends_after_the_step_saves_and_yields_a_last_state(tmp_path: Path) -> None:
    """Ctrl-C while the caller works on a state; afterwards the previous handler is restored."""
    before = signal.getsignal(signal.SIGINT)
    states = []
    for state in train(build(), stripes(), config(1000, {"folder": str(tmp_path / "run")}), stripes()):
        states.append(state)
        if state.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
    assert [s.step for s in states] == [1, 2, 3, 4] and states[-1].interrupted and states[-1].finished
    assert read_checkpoint(tmp_path / "run")[0].step == 4
    rastrum.load(tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_is_the_usual_one() -> None:
    """Also if the tests themselves run in the background of a shell, where the signal is ignored."""
    outer = signal.signal(signal.SIGINT, signal.default_int_handler)
    run = train(build(), stripes(), config(1000))
    next(run)
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
    run.close()
    signal.signal(signal.SIGINT, outer)


def test_training_works_outside_the_main_thread() -> None:
    states: list[TrainState] = []
    thread = threading.Thread(target=lambda: states.extend(train(build(), stripes(), config(2))))
    thread.start()
    thread.join()
    assert states[-1].finished


def test_leaving_early_leaves_the_averaged_weights() -> None:
    model = build()
    run = train(model, stripes(), config(1000))
    state = next(run)
    average = weights(state.model).clone()
    run.close()
    assert torch.equal(weights(model), average) and not model.training


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_leaves_a_model_its_raw_weights_moments_state_and_metrics(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    model = build(condition=ConditionSpec("class", 3))
    states = finish(model, stripes(), config(6, {"folder": str(folder), "log_every": 2}), stripes(), Origin(commands=("x",)))
    names = ["README.md", "config.json", "metrics.jsonl", "model.safetensors", "run.json", "training.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert torch.equal(weights(rastrum.load(folder)), weights(model))
    tensors = load_file(folder / "training.safetensors")
    kept = [name for name, _ in model.named_parameters()]
    assert set(tensors) == {f"{kind}.{name}" for kind in ("raw", "average", "exp_avg", "exp_avg_sq", "step") for name in kept}
    assert not torch.equal(tensors[f"raw.{kept[0]}"], dict(model.named_parameters())[kept[0]])
    assert read_checkpoint(folder)[0].step == 6 and json.loads((folder / "run.json").read_text())["optim"]["batch"] == 8
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3, 4, 6]
    assert lines[0]["loss"] == pytest.approx((states[0].loss + states[1].loss) / 2)
    assert [line["step"] for line in lines if "held_out" in line] == [3, 6]
    assert f"{states[-1].evaluation.nats:.3f}" in (folder / "README.md").read_text()  # pyright: ignore[reportOptionalMemberAccess]


def test_the_mean_squares_of_rmsprop_are_saved(tmp_path: Path) -> None:
    model = build()
    finish(model, stripes(), config(2, {"folder": str(tmp_path / "run")}, optimizer="rmsprop"))
    tensors = load_file(tmp_path / "run" / "training.safetensors")
    assert set(tensors) == {f"{kind}.{name}" for kind in ("raw", "average", "square_avg", "step") for name, _ in model.named_parameters()}


def test_a_run_is_not_written_over(tmp_path: Path) -> None:
    settings = config(2, {"folder": str(tmp_path / "run")})
    finish(build(), stripes(), settings)
    with pytest.raises(ValueError, match="holds a run already"):
        finish(build(), stripes(), settings)


def test_a_full_disk_ends_the_run_and_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    run = train(build(), stripes(), config(6, {"folder": str(folder)}), stripes())
    assert [next(run).step for _ in range(3)] == [1, 2, 3]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        list(run)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert before.keys() == after.keys() and all(after[name] == before[name] for name in before if name != "metrics.jsonl")


# ── evaluation and errors ────────────────────────────────────────────────────────────────────────────────────────────


def test_evaluation_is_the_mean_with_its_standard_error_whatever_the_batch() -> None:
    data, model = stripes(21), build()
    every = -model.log_prob(data.images.long()).detach()
    for batch, workers in ((None, 1), (4, 1), (5, 2), (100, 1)):
        score = evaluate(model, data, batch=batch, workers=workers)
        assert score.kind == "exact" and score.images == 21
        assert score.nats == pytest.approx(every.mean().item(), rel=1e-6)
        assert score.standard_error == pytest.approx(every.std().item() / 21**0.5, rel=1e-5)
        assert score.bits_per_dim == pytest.approx(score.nats / (16 * math.log(2)))
    seen: list[int] = []
    evaluate(model, data, batch=8, progress=seen.append)
    assert seen == [8, 16, 21]


def test_a_bound_has_the_same_noise_in_any_batch_and_tightens() -> None:
    data, model = stripes(30), build("draw")
    one = [evaluate(model, data, batch=batch, seed=3).nats for batch in (7, 30)]
    assert one[0] == pytest.approx(one[1], rel=1e-5) and evaluate(model, data).kind == "bound"
    assert evaluate(model, data, num_samples=64).nats < evaluate(model, data).nats
    assert torch.allclose(model.nats(data.images[4:6], None, 1, 3, first=4), model.nats(data.images, None, 1, 3)[4:6], rtol=1e-5)


@pytest.mark.parametrize(
    ("optim", "run", "says"),
    [
        ({}, {"steps": None}, "needs a budget"),
        ({}, {"steps": 0}, "run.steps must be above 0"),
        ({"batch": 0}, {}, "optim.batch must be above 0"),
        ({"ema": 1.0}, {}, "optim.ema must be from 0 to below 1"),
        ({"betas": (0.9, 1.0)}, {}, r"optim.betas\[1\]"),
        ({"optimizer": "sgd"}, {}, "optim.optimizer must be one of adam, rmsprop, got 'sgd'"),
        ({"learning_rate": 1e30, "micro_batch": None, "ema": 0.0}, {}, "diverged at step"),
    ],
)
def test_bad_settings_are_one_clear_line(optim: dict[str, Any], run: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        finish(build(), stripes(), config(20, run, **optim))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "data", "says"),
    [
        (lambda: build(spec=ImageSpec(1, 4, 5, 3)), stripes(), "model is for 1x4x5 with 3 levels, stripes train is 1x4x4 with 3 levels"),
        (lambda: build(condition=ConditionSpec("class", 3)), replace(stripes(), labels=None, classes=0), "has no labels"),
        (lambda: build(condition=ConditionSpec("class", 2)), stripes(), "knows 2 classes, stripes has 3"),
        (lambda: build(condition=ConditionSpec("vector", 2)), stripes(), "kind 'vector'"),
    ],
)
def test_data_of_another_kind_is_refused(model: Any, data: Dataset, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        finish(model(), data, config(2))
    with pytest.raises(ValueError, match=says):
        evaluate(model(), data)


@pytest.mark.parametrize("name", ["pixelcnn++", "conv-draw"])
def test_a_step_of_adam_goes_against_the_gradient_however_it_lies_in_memory(name: str) -> None:
    """torch's fused Adam on CPUs ignores strides: a gradient that lies transposed would move other weights than its own."""
    data = load_dataset("digits", "train[:4]")
    model = rastrum.build(name, data.spec, "tiny", seed=1).double().train()
    config = TrainConfig(optim=OptimConfig(batch=4, learning_rate=1e-3), run=RunConfig(steps=1, workers=1))
    with Workers(model, config) as workers:
        workers.gradients(*next(data.batches(4, 0)), 0)
        before = [p.detach().clone() for p in workers.parameters]
        optimiser_of(workers.objectives, config.optim).step()
    for parameter, start in zip(workers.parameters, before, strict=True):
        assert parameter.grad is not None
        first = -1e-3 * parameter.grad / (parameter.grad.abs() + 1e-8)    # Adam's first step
        assert torch.allclose(parameter.detach() - start, first, rtol=1e-6, atol=1e-9)
