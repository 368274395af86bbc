"""The benchmark of training speed runs for every model, whose plain reference has the same parameters and gives the same loss."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    described = importlib.util.spec_from_file_location("benchmark_of_training", FOLDER / "training.py")
    assert described is not None and described.loader is not None
    module = importlib.util.module_from_spec(described)
    monkeypatch.setitem(sys.modules, "benchmark_of_training", module)
    described.loader.exec_module(module)
    return module


def test_every_model_has_a_case_and_runs(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        benchmark.main(["--tiny"])
    finally:
        torch.set_num_threads(threads)
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == [f"| {name}" for name in benchmark.CASES]


def test_a_wrong_reference_is_noticed(benchmark: ModuleType) -> None:
    """A loss that differs, and a parameter too many."""
    import rastrum

    ours = rastrum.build("pixelcnn", rastrum.ImageSpec(1, 6, 5, 2), "tiny")
    x = torch.randint(0, 2, (2, 1, 6, 5), generator=torch.Generator().manual_seed(0))
    reference = benchmark.plain("pixelcnn", ours)
    benchmark.check("pixelcnn", ours, reference, x, 1e-4)
    reference.extra = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(AssertionError, match="parameters"):
        benchmark.check("pixelcnn", ours, reference, x, 1e-4)
    del reference.extra
    reference.logits.bias.data.add_(0.1)
    with pytest.raises(AssertionError, match="pixelcnn"):
        benchmark.check("pixelcnn", ours, reference, x, 1e-4)
