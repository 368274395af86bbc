"""docs/scale.md and the script that writes its tables; and benchmarks/gpu.sh, which no machine of the tests can run for real."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import rastrum
from rastrum import ImageSpec

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"benchmarks/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


scale = script("scale")


class Products(TorchDispatchMode):
    """Counts the multiply-adds of matrix products, in place or not, which torch's own counter does not see in place."""

    multiply_adds = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), options: Any = None) -> Any:
        name = str(function).removeprefix("aten.").partition(".")[0].strip("_")
        if name in ("mm", "addmm", "bmm", "baddbmm"):
            a, b = [x for x in args if isinstance(x, torch.Tensor)][-2:]
            self.multiply_adds += a.numel() * b.shape[-1]
        return function(*args, **(options or {}))


def test_a_training_step_is_three_forward_passes() -> None:
    """Of a plain convolution, by torch's own counter: two operations per multiply-add, and gradients of inputs and weights."""
    layer, x = nn.Conv2d(5, 7, 3, padding=1, bias=False), torch.randn(2, 5, 8, 8, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        out = layer(x).sum()
        forward = counter.get_total_flops()
        out.backward()
    assert forward == 2 * 2 * 8 * 8 * 7 * 5 * 9
    assert counter.get_total_flops() == 3 * forward


@pytest.mark.parametrize("name", ["pixelcnn", "gated-pixelcnn", "pixelcnn++", "row-lstm", "diagonal-bilstm", "spatial-lstm", "pixel-lstm"])
def test_the_program_counts_what_a_forward_pass_multiplies(name: str) -> None:
    """In float64, where products are torch's and forbidden taps are not computed; near the image's borders one or the other saves some."""
    spec = ImageSpec(3, 12, 12, 7)
    model: Any = rastrum.build(name, spec, "tiny")
    counted = scale.forward_operations(model)
    with Products() as products, torch.no_grad():
        model.double().log_prob(torch.zeros(1, *spec.shape, dtype=torch.int64))
    assert counted == pytest.approx(2 * products.multiply_adds, rel=0.2)


def test_operations_of_videos_and_of_several_passes_are_counted() -> None:
    """Twice the frames cost about twice as much; the finest pass of a multi-scale model is not the only one."""
    two, four = (scale.forward_operations(rastrum.build("video-pixel-network", ImageSpec(1, 8, 8, 2, frames), "tiny")) for frames in (2, 4))
    assert 1.8 < four / two < 3.2
    model: Any = rastrum.build("multiscale-pixelrnn", ImageSpec(1, 8, 8, 2), "tiny")
    program = model.program()
    whole = scale.program_multiply_adds(program)
    program.passes.pop()
    assert 0 < scale.program_multiply_adds(program) < whole


def test_memory_is_that_of_real_tensors() -> None:
    """What the run of shapes says is kept, a run with values keeps too: float64 on a CPU, of a model whose code is the same there."""
    spec = ImageSpec(1, 8, 8, 2)
    shapes = scale.kept_per_image(lambda spec: rastrum.build("draw", spec, "tiny"), spec)[0]
    model, kept = rastrum.build("draw", spec, "tiny").train(), {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    sizes = []
    for batch in (1, 2):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss = model.loss(torch.zeros(batch, *spec.shape, dtype=torch.int64))
        sizes.append(sum(kept.values()))
        assert loss.requires_grad
    assert sizes[1] - sizes[0] == pytest.approx(shapes, rel=0.1)


def test_the_tables_can_be_made_again(tmp_path: Path) -> None:
    """Every table, at tiny sizes, into a copy of the document."""
    document = tmp_path / "scale.md"
    document.write_text((ROOT / "docs/scale.md").read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, str(ROOT / "benchmarks/scale.py"), "--tiny", "--out", str(document)]
    command += ["--tables", "presets", "days", "width", "data"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    text = document.read_text(encoding="utf-8")
    tables = [part.partition("<!-- end")[0] for part in text.split(": benchmarks/scale.py -->")[1:]]
    assert len(tables) == 6 and all("\n|---" in part or "\n| ---" in part for part in tables), text
    assert "| pixelcnn | MNIST |" in text and "| draw | MNIST |" in text


@pytest.mark.parametrize("name", ["pixelcnn", "gated-pixelcnn", "pixelcnn++"])
def test_the_document_is_of_this_code(name: str) -> None:
    """Parameters and operations of these presets, counted again."""
    model = rastrum.build(name, ImageSpec(1, 28, 28, 2), "paper")
    count, forward = sum(p.numel() for p in model.parameters()), scale.forward_operations(model)
    lines = (ROOT / "docs/scale.md").read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith(f"| {name} | MNIST |"))
    assert f"| {count:,} |" in line and line.endswith(f"| {scale.short(forward / 1e9)} | {scale.short(3 * forward / 1e9)} |"), line


# ── benchmarks/gpu.sh ────────────────────────────────────────────────────────────────────────────────────────────────


def gpu(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    places = {"OUT": str(folder / "out"), "RUN": str(folder / "run"), "PYTHON": sys.executable}
    command = [str(ROOT / "benchmarks/gpu.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**ENVIRONMENT, **places, **environment}, check=False)


def test_a_dry_run_of_the_gpu_script(tmp_path: Path) -> None:
    """Every stage on the CPU: results of each, a model in pieces that loads, and a second call that resumes the run."""
    done = gpu(tmp_path, "--dry-run", MINUTES="30")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    stages = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "out").glob("*.json")}
    assert set(stages) == {"contracts", "sampling", "steps", "recipe"} and all(stage["finished"] for stage in stages.values())
    assert all(row["failed"] == 0 and row["passed"] > 0 for row in stages["contracts"]["rows"]) and len(stages["contracts"]["rows"]) == 3
    assert [row["equal_values"] for row in stages["sampling"]["rows"]] == [1.0, 1.0]
    assert len(stages["steps"]["rows"]) == 2 * len({name for name, *_ in scale.CASES})
    assert stages["recipe"]["rows"][-1]["name"] == "step 3" and "held_out" in stages["recipe"]["rows"][-1]
    summary = (tmp_path / "out/summary.md").read_text(encoding="utf-8")
    assert all(f"## {name}" in summary for name in stages) and "Not finished" not in summary
    joined = tmp_path / "joined"
    joined.mkdir()
    for name in ("model", "checkpoint"):
        subprocess.run(f"cat out/{name}.tar.* | tar -x -C joined", shell=True, check=True, cwd=tmp_path)
    assert rastrum.load(joined).spec == ImageSpec(1, 8, 8, 17)
    again = gpu(tmp_path, "--dry-run", "recipe", RUN=str(joined), PIECES="1")
    assert again.returncode == 0 and "step 6" in again.stdout, again.stdout + again.stderr
    assert [path.name for path in (tmp_path / "out").glob("*.tar.*")] == ["model.tar.000"]


def test_the_gpu_script_says_what_it_needs(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        done = gpu(tmp_path)
        assert done.returncode == 2 and "has a torch that finds a GPU" in done.stderr and done.stderr.count("\n") == 1
    for arguments, environment, said in (
        (["sampel"], {}, "expected --dry-run, contracts, sampling, steps or recipe, got 'sampel'"),
        ([], {"MINUTES": "soon"}, "MINUTES: expected a whole number of at least 1, got 'soon'"),
        (["--dry-run", "recipe"], {"RECIPE": "no-such"}, "RECIPE: there is no 'no-such'"),
        (["--dry-run", "recipe"], {"DATA": str(tmp_path)}, "DATA: there is no train*.npz in"),
    ):
        done = gpu(tmp_path, *arguments, **environment)
        assert done.returncode != 0 and said in done.stderr, done.stderr
    assert "MINUTES=12" in gpu(tmp_path, "--help").stdout


def test_data_that_travel(tmp_path: Path) -> None:
    """``pack`` writes parts of a data set, which are trained on together."""
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "pack", "--data", "digits", "--to", str(tmp_path), "--limit", "100"]
    subprocess.run(command, check=True, env=ENVIRONMENT, capture_output=True)
    (tmp_path / "train.1.npz").write_bytes((tmp_path / "train.0.npz").read_bytes())
    data = script("gpu").packed(tmp_path, "train")
    assert len(data) == 200 and data.spec == ImageSpec(1, 8, 8, 17) and len(script("gpu").packed(tmp_path, "test")) == 360
