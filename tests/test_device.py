"""Where a model runs: --device, and devices that have no float64, for which ``without_float64.py`` stands in.

That stand-in changes the process, so what runs on it is in ``on_the_device`` below, which one process of its own does for all models; the
tests read its report. RASTRUM_TEST_DEVICE=cuda runs the same on a GPU.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import rastrum
from rastrum import CanvasModel, ConditionSpec, ImageSpec, devices
from rastrum.config import OptimConfig, RunConfig, TrainConfig
from rastrum.data.dataset import Dataset
from rastrum.evaluation import evaluate
from rastrum.train import check_config, train

DEVICE = os.environ.get("RASTRUM_TEST_DEVICE", "cpu")
GREY, COLOUR = ImageSpec(1, 3, 2, 2), ImageSpec(3, 2, 1, 5)
CASES: dict[str, tuple[str, ImageSpec, ConditionSpec | None, dict[str, Any]]] = {
    name: (model, spec, condition, {})
    for model, kind in rastrum.MODELS.items()
    for name, spec, condition in (
        (f"{model} grey", GREY, None),
        (f"{model} colour", COLOUR, ConditionSpec("class", 5) if "class" in kind.conditions else None),
        (f"{model} map", GREY, ConditionSpec("map", (2, 2, 2))),
    )
    if condition is None or condition.kind in kind.conditions
} | {
    "conv-draw uniform": ("conv-draw", GREY, None, {"posterior": "uniform", "layers": 2}),
    "draw loss": ("draw", COLOUR, None, {"likelihood": "cross-entropy", "attention": False}),
    "spatial-lstm levels": ("spatial-lstm", GREY, ConditionSpec("vector", 2), {"dequantise": False}),
    "video-pixel-network loss": ("video-pixel-network", ImageSpec(1, 2, 2, 4, 2), None, {"likelihood": "cross-entropy"}),
    "video-pixel-network videos": ("video-pixel-network", ImageSpec(1, 2, 2, 2, 2), None, {}),
}  # fmt: skip
COMMANDS = [
    "sample draw --count 2 --out {0}/a.png --trace {0}/a.gif",
    "reconstruct draw --images x.npy --count 2 --out {0}/b.png --trace {0}/b.gif",
    "figures draw --images x.npy --count 1 --out {0}/figures",
    "evaluate draw --images x.npy --num-samples 2",
    "figures pixelcnn --images x.npy --count 4 --out {0}/figures",
    "sample pixelcnn --count 65 --out {0}/a.png",
    "complete pixelcnn --images x.npy --count 2 --num-samples 2 --out {0}/c.png --trace {0}/c.gif",
    "complete pixelcnn --images x.npy --count 2 --num-samples 33 --particles 2",
    "score pixelcnn --images x.npy --count 2 --surprise {0}/s.png --reference x.npy --reference-split all --alarm 0.5",
    "evaluate pixelcnn --images x.npy --count 2 --ensemble",
    "check ./pixelcnn --weights --images x.npy --count 3 --out {0}/w.png",
    "check pixelcnn --height 2 --width 2 --out {0}/d.png",
    "train pixelcnn --data digits --data.limit 4 --preset tiny --run.steps 1 --run.workers 2 --run.folder {0}/run",
    "train --resume {0}/run --steps 1",
    "demo --minutes 0.001 --folder {0}/demo",
]


def main(argv: list[str]) -> int:
    """The command line; imported here, because it needs more than the library does."""
    from rastrum.cli import main

    return main(argv)


# ── names of devices ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_auto_takes_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    """auto = cuda, else mps, else cpu; a message lists what is here in this order."""
    assert devices.find_device("auto") == devices.find_device("cpu:0") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert devices.found() == ["mps", "cpu"] and devices.find_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.found() == ["cuda:0", "cuda:1", "mps", "cpu"] and devices.find_device("auto") == torch.device("cuda:0")
    with pytest.raises(ValueError, match=r"no 'cuda:7' here; give cuda:0 or cuda:1 or mps or cpu, or auto"):
        devices.find_device("cuda:7")


@pytest.mark.parametrize("name", ["cuda:99", "mps:1", "quantum", "cuda:x", "meta", ""])
def test_a_device_that_is_not_here(name: str, tmp_path: Path) -> None:
    """One message everywhere, which says what there is; also for a device on which nothing is computed."""
    with pytest.raises(ValueError, match=f"device: there is no '{name}' here; give (cuda:0.* or )?(mps or )?cpu, or auto"):
        rastrum.load("rastrum/row-lstm-mnist-classes", device=name)
    with pytest.raises(ValueError, match=f"there is no '{name}' here"):
        check_config(TrainConfig(run=RunConfig(steps=1, device=name)))


ON = {
    "sample": ["rastrum/row-lstm-mnist-classes"],
    "complete": ["rastrum/row-lstm-mnist-classes", "--data", "digits"],
    "reconstruct": ["rastrum/draw-binarized-mnist", "--data", "digits"],
    "evaluate": ["rastrum/row-lstm-mnist-classes", "--data", "digits"],
    "score": ["rastrum/row-lstm-mnist-classes", "--data", "digits"],
    "figures": ["rastrum/row-lstm-mnist-classes"],
    "check": ["pixelcnn"],
    "train": ["pixelcnn", "--data", "digits", "--preset", "tiny", "--run.steps", "1"],
}


@pytest.mark.parametrize("command", ON)
def test_every_command_has_the_flag(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """An absent device ends with exit code 2 and one line, and nothing is written; help says what another device changes."""
    monkeypatch.chdir(tmp_path)
    assert main([command, *ON[command], "--device", "quantum"]) == 2
    out, error = capsys.readouterr()
    assert error == f"rastrum: device: there is no 'quantum' here; give {' or '.join(devices.found())}, or auto for the fastest of them\n"
    assert not out and not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert main([command, *ON[command][:1], "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--device DEVICE" in shown and "cpu, cuda, cuda:1, mps, or auto" in shown


def test_training_on_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """--device stands for --run.device; auto is settled when the run begins, so that it can be resumed on the same."""
    monkeypatch.chdir(tmp_path)
    argv = ["train", "pixelcnn", "--data", "digits", "--preset", "tiny", "--run.steps", "1", "--data.limit", "8", "--run.folder", "run"]
    assert main([*argv, "--device", "cpu", "--run.device", "cpu"]) == 2
    assert "--device and --run.device are the same" in capsys.readouterr().err
    assert main([*argv, "--run.device", "cuda:99"]) == 2
    assert main([*argv, "--device", "auto"]) == 0
    written = json.loads((tmp_path / "run/run.json").read_text())["run"]["device"]
    assert written == str(devices.find_device("auto")) != "auto"
    assert main(["train", "--resume", "run", "--steps", "1", "--device", "quantum"]) == 2
    assert main(["train", "--resume", "run", "--steps", "1", "--device", "cpu"]) == 0


def test_the_same_bits_on_the_cpu() -> None:
    """The default is the CPU, with the native interpreter: no machine draws others because it has a GPU."""
    name = "rastrum/row-lstm-mnist-classes"
    model = rastrum.load(name)
    assert model.device.type == "cpu"
    drawn = rastrum.sample(model, 2, torch.arange(2), backend="native")
    assert torch.equal(drawn, rastrum.sample(rastrum.load(name, device="cpu"), 2, torch.arange(2)))


def test_streams_of_all_devices_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that draws from torch's own stream draws the same in a resumed run, on Apple's GPUs too, and leaves the stream alone."""
    stream = torch.Generator()
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for name, function in (("get_rng_state", stream.get_state), ("set_rng_state", stream.set_state), ("manual_seed", stream.manual_seed)):
        monkeypatch.setattr(torch.mps, name, function)
    before, found = [torch.get_rng_state(), stream.get_state()], []
    for _ in range(2):
        with devices.seeded(5):
            found.append((torch.rand(1), torch.rand(1, generator=stream)))
    assert found[0] == found[1]
    assert all(torch.equal(a, b) for a, b in zip(before, (torch.get_rng_state(), stream.get_state()), strict=True))


# ── devices without float64 ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What failed on the device, by case; "" where nothing did. The first of pytest's processes asks, the others wait for what it found."""
    folder, shared = tmp_path_factory.mktemp("device"), tmp_path_factory.getbasetemp()
    found = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "device.json"
    with found.with_suffix(".lock").open("w") as lock:
        with contextlib.suppress(ImportError):                            # Windows has none, and each asks
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            done = subprocess.run([sys.executable, __file__, folder], capture_output=True, text=True, cwd=folder, check=False)
            assert done.returncode == 0, done.stderr[-3000:]
            found.write_text(done.stdout.splitlines()[-1], encoding="utf-8")
    return json.loads(found.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", ["the stand-in", *CASES])
def test_no_float64_on_the_device(case: str, report: dict[str, str]) -> None:
    """Scores, samples, completions, files, ``check``, evaluation and training run there, and come out as on the CPU."""
    assert report[case] == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_on_the_device(command: str, report: dict[str, str]) -> None:
    """Images and conditions go where the model is, and pictures are made of what comes back."""
    assert report[command] == ""


@pytest.mark.parametrize("case", CASES if DEVICE != "cpu" else ("pixelcnn colour", "draw grey"))
def test_models_on_the_device_under_test(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on a GPU, without the shortened products that convolutions take there by default."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    one_model(DEVICE, *CASES[case])


def on_the_device(folder: Path) -> dict[str, str]:
    """Run everything on the stand-in."""
    import without_float64

    torch.set_num_threads(1)
    found = {}
    tasks: dict[str, Callable[[], None]] = {"the stand-in": stand_in}
    tasks |= {case: lambda settings=settings: one_model(without_float64.NAME, *settings) for case, settings in CASES.items()}
    for name in ("draw", "pixelcnn"):
        rastrum.build(name, ImageSpec(1, 6, 6, 2), "tiny").save_pretrained(folder / name)
    np.save(folder / "x.npy", np.random.default_rng(0).integers(0, 2, (4, 1, 6, 6)))
    tasks |= {command: lambda command=command: one_command(command, folder, without_float64.NAME) for command in COMMANDS}
    for task, run in tasks.items():
        try:
            run()
            found[task] = ""
        except Exception as error:
            found[task] = f"{type(error).__name__}: {error}"
    return found


def stand_in() -> None:
    """It does refuse what it is for."""
    from without_float64 import NAME

    x = torch.ones(2).to(NAME)
    assert x.device.type == NAME and (x + 1).cpu().tolist() == [2, 2]
    refused: list[tuple[type[Exception], Callable[[], object]]] = [
        (TypeError, x.double),
        (TypeError, lambda: torch.zeros(2, dtype=torch.float64, device=NAME)),
        (TypeError, lambda: torch.ones(2, dtype=torch.float64).to(NAME)),
        (TypeError, lambda: torch.ones(2, dtype=torch.float64).to(NAME, torch.float32)),
        (TypeError, lambda: x.copy_(torch.ones(2, dtype=torch.float64))),
        (TypeError, x.numpy),
        (NotImplementedError, lambda: torch.special.log_ndtr(x)),
        (NotImplementedError, lambda: x.long().cumsum(0)),
        (RuntimeError, lambda: x + torch.ones(2)),
    ]
    for kind, run in refused:
        with pytest.raises(kind):
            run()


def one_model(device: str, name: str, spec: ImageSpec, condition: ConditionSpec | None, options: dict[str, Any]) -> None:
    """A model there and on the CPU, on the same images; conditions are float64, as numpy makes them."""
    cpu: Any = rastrum.build(name, spec, "tiny", condition, seed=1, **options)
    generator = torch.Generator().manual_seed(0)
    count = 16
    x = torch.randint(0, spec.levels, (count, *spec.shape), generator=generator)
    classes = torch.randint(0, 5, (count,), generator=generator)
    given = None
    if condition is not None:
        draw = torch.rand if condition.kind == "map" else torch.randn     # an exemplar lies in [0, 1]
        given = classes if condition.kind == "class" else draw(count, *condition.shape, generator=generator, dtype=torch.float64)
    there = copy.deepcopy(cpu).to(device)
    for model in (cpu, there):
        model.initialise(x.to(model.device), None if given is None else devices.to_device(given, model.device))
    x, classes, given = x[:2], classes[:2], None if given is None else given[:2]                 # the rest is for the initialisation alone

    def same(a: Tensor, b: Tensor, of: str) -> None:
        expected = devices.float64_device(torch.device(device)).type if a.dtype == torch.float64 else device
        assert a.dtype == b.dtype and a.device.type == expected, (of, a.dtype, a.device)
        assert torch.allclose(a.detach().cpu(), b.detach(), rtol=2e-4, atol=2e-4), (of, a, b)

    same(there.score(x, given, seed=3), cpu.score(x, given, seed=3), "nats")
    if there.has_likelihood:
        drawn = [rastrum.sample(model, 2, given, temperature=0.9, seed=2) for model in (there, cpu)]
        assert drawn[0].device.type == device and drawn[0].cpu().equal(drawn[1]), "samples"
    if isinstance(there, CanvasModel):
        canvas(there, cpu, x, given, same)
    elif there.has_likelihood and spec == GREY and given is None:        # a walk is a walk: elsewhere samples are enough
        raster(there, cpu, x)
    floats = given if given is not None and given.is_floating_point() else None
    data = Dataset("x", "train", spec, x.to(torch.uint8), classes, 5, conditions=floats)
    if there.has_likelihood and given is None:
        assert abs(evaluate(there, data, workers=2).nats - evaluate(cpu, data).nats) < 1e-3
    config = TrainConfig(optim=OptimConfig(batch=2, clip=0.1), run=RunConfig(steps=2, evaluations=1, device=device))
    if devices.float64_device(torch.device(device)).type != device:
        with pytest.raises(ValueError, match=f"weights are float64, which {device}:?0? does not have"):
            train(copy.deepcopy(cpu).double(), data, config).__next__()
    *_, state = train(there, data, config, data)
    assert there.device.type == device and state.evaluation is not None and np.isfinite(state.evaluation.nats)


def canvas(there: Any, cpu: Any, x: Tensor, given: Tensor | None, same: Callable[[Tensor, Tensor, str], None]) -> None:
    if there.has_likelihood:
        same(there.bound(x, given, 3, seed=1), cpu.bound(x, given, 3, seed=1), "bound")
    drawn = [list(rastrum.generate(model, len(x), given, seed=1))[-1].images for model in (there, cpu)]
    same(drawn[0], drawn[1], "drawn")
    if not there.has_posterior:
        return
    frames = [list(rastrum.reconstruct(model, x, given, seed=1))[-1].images for model in (there, cpu)]
    same(frames[0], frames[1], "reconstruction")
    codes = [[z.cpu().double() for z in model.encode(x, given, seed=1)] for model in (there, cpu)]
    same(there.decode(codes[0][:1], condition=given), cpu.decode(codes[1][:1], condition=given), "decoded")


def raster(there: Any, cpu: Any, x: Tensor) -> None:
    known = torch.arange(there.spec.size).view(there.spec.shape) % 3 == 0
    filled = [rastrum.complete(model, x, known, seed=4) for model in (there, cpu)]
    weighted = [rastrum.complete(model, x, known, seed=4, particles=3) for model in (there, cpu)]
    assert filled[0].cpu().equal(filled[1]) and weighted[0][0].cpu().equal(weighted[1][0]), "completions"
    assert torch.allclose(weighted[0][1], weighted[1][1]), "weights of particles"
    assert rastrum.sample(there, 1, backend="naive").device == there.device
    blob = rastrum.compress(there, x[:1])
    assert rastrum.decompress(there, blob).cpu().equal(x[:1].to(torch.uint8)), "file"
    device, checked = there.device, rastrum.check(there, values=2)
    assert checked.ok and "within" in str(checked) and there.device == device, checked


def one_command(command: str, folder: Path, device: str) -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([*command.format(folder).split(), "--device", device])
    assert code == 0, said.getvalue()[-500:]
    assert "run.folder" not in command or list(folder.glob("run/samples-*.png")), said.getvalue()


if __name__ == "__main__":
    print(json.dumps(on_the_device(Path(sys.argv[1]))))
