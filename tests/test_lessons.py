"""The notebooks: each runs from its first cell to its last with bundled models alone, and what a reader may break says so."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.py"))

pytest.importorskip("marimo")


def ran(name: str, **controls: Any) -> dict[str, Any]:
    """What a notebook's cells define, once they have run; ``controls`` take the place of those that its page has."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    notebook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notebook)
    _, found = notebook.app.run(defs={name: SimpleNamespace(value=value) for name, value in controls.items()})
    return dict(found)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked of the network."""
    import socket

    def refuse(*_: Any) -> None:
        raise AssertionError("a notebook asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name: str) -> None:
    found = ran(name)
    if name == "build_a_pixelcnn":
        assert found["report"].ok
    if name == "complete_and_classify":
        assert found["right"] >= 8
        assert found["completions"][0, :, :, :12].equal(found["digits"][3, :, :12].expand(6, 1, 12, 28))
    if name == "train_and_share":
        assert found["same"]
    if name == "anomaly_decision":
        names = [Path(each).stem for each in found["mine"].names]
        called = {each for each, bad in zip(names, found["unusual"], strict=True) if bad}
        by_bits = found["detector"].p_values(found["found"], "bits")
        assert called == {"noise", "board"} and float(by_bits[names.index("negative")]) < 0.05      # as its text says
    if name == "conceptual_compression":
        assert found["images"].shape == (5, 3, 32, 32)


def test_there_are_eight() -> None:
    assert len(NOTEBOOKS) == 8


@pytest.mark.parametrize(("first", "further", "ok"), [("A", "A", True), ("B", "B", False), ("A", "none", False)])
def test_a_broken_mask_is_found(first: str, further: str, ok: bool) -> None:
    assert ran("build_a_pixelcnn", first=first, further=further)["report"].ok == ok


def test_another_model_and_seed() -> None:
    found = ran("one_decision", model_name="rastrum/pixelcnn-plus-plus-cifar10", seed=3)
    assert found["chances"].shape == (3, 32, 32, 256) and torch.allclose(found["chances"].sum(-1), torch.ones(3, 32, 32), atol=1e-3)
