"""What users pass in Python that is not quite right is refused with the remedy, or works as they meant; bars that fail end no work."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import rastrum
from rastrum import Images, ImageSpec
from rastrum.data.dataset import Dataset
from rastrum.devices import find_device
from rastrum.progress import bar

LEVELS = np.random.default_rng(0).integers(0, 4, (6, 1, 5, 5)).astype(np.uint8)


def train(*args: Any, **keywords: Any) -> Any:
    return rastrum.train("pixelcnn", *args, **{"preset": "tiny", "steps": 1, "progress": False, **keywords})


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"data": np.zeros((6, 28, 28, 1), np.uint8), "levels": 4}, "Channels come first: give np.moveaxis"),
        ({"data": np.zeros((6, 8, 8, 3), np.uint8), "levels": 4}, "Channels come first"),
        ({"data": [LEVELS[0], LEVELS[1]], "levels": 4}, "np.stack"),
        ({"data": LEVELS, "levels": 4, "config": {"steps": 3}}, "config: expected a TrainConfig, got dict"),
        ({"data": LEVELS, "levels": 4, "minutes": "1"}, "minutes: expected a number, got '1'"),
        ({"data": LEVELS, "levels": 4, "steps": 2.5}, "steps: expected a whole number, got 2.5"),
        ({"data": LEVELS, "levels": 4, "seed": "a"}, "seed: expected a whole number"),
        ({"data": LEVELS, "levels": 4, "device": "warp"}, "there is no 'warp' here"),
        ({"data": LEVELS, "levels": 4, "conditional": True}, "conditional=False"),
        ({"data": "https://example.com/a.png"}, "download it first"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_with_the_remedy(keywords: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError) as refused:
        train(keywords.pop("data"), **keywords)
    assert says in str(refused.value)


def test_what_is_meant_is_trained() -> None:
    """Two levels as bools, and a run inside of ``no_grad``, as notebooks that only look at pictures have it."""
    assert train(LEVELS > 1).model.spec == ImageSpec(1, 5, 5, 2)
    with torch.no_grad():
        assert train(LEVELS, levels=4, device="cpu").steps == 1
    model = rastrum.build("pixelcnn", ImageSpec(1, 5, 5, 4), preset="tiny")
    with pytest.raises(ValueError, match="preset: a Model is what it is already"):
        rastrum.train(model, LEVELS, steps=1, preset="tiny")
    with pytest.raises(ValueError, match="no parameter with requires_grad"):
        rastrum.train(model.requires_grad_(False), LEVELS, steps=1)

A, B = Images(LEVELS, 4), Images(LEVELS[:2], 4)
MIXED: list[tuple[list[Any], int]] = [([A, torch.from_numpy(LEVELS)], 0), ([A, Images(LEVELS, 5)], 0), ([A, A], 2), ([A, A], 1)]


def test_levels_survive_putting_together_and_taking_apart() -> None:
    """Batches that are joined, split or shuffled are still images; of different levels, or along another axis, they are numbers."""
    a, b = A, B
    for joined in (torch.cat([a, b]), torch.cat((a, b), dim=0), torch.roll(a, 1, 0), a.index_select(0, torch.tensor([1, 0])), *a.split(2)):
        assert isinstance(joined, Images) and joined.levels == 4
    assert torch.cat([a, b]).tolist() == [*a.tolist(), *b.tolist()] and len(torch.chunk(a, 3)) == 3
    for parts, along in MIXED:
        assert not isinstance(torch.cat(parts, along), Images) and not isinstance(torch.cat(parts, dim=along), Images)
    for plain in (torch.stack([a, a]), a.index_select(1, torch.tensor([0])), *a.split(1, 1), *torch.chunk(a, 1, dim=2)):
        assert not isinstance(plain, Images)
    assert rastrum.show(torch.cat([a, b])).size == rastrum.show(Images(np.concatenate([LEVELS, LEVELS[:2]]), 4)).size


@pytest.mark.parametrize("stream", [SimpleNamespace(write=print), None])
def test_no_bar_where_stderr_is_no_stream(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Applications put a logger's writer in its place."""
    monkeypatch.setattr(sys, "stderr", stream)
    with bar("work", 2, "images") as report:
        report(1)
    assert not report.wanted


def test_a_bar_that_cannot_be_drawn_ends_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of stderr has gone, or it was closed."""

    def gone(text: str) -> int:
        raise BrokenPipeError

    for write in (gone, lambda text: (_ for _ in ()).throw(ValueError("closed"))):
        monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=write, flush=lambda: None, isatty=lambda: False))
        with bar("work", 2, "images", True) as report:
            for done in range(3):
                report(done)


def test_a_device_that_is_full_is_not_called_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **keywords: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr("rastrum.devices.found", lambda: ["cuda:0", "cpu"])
    monkeypatch.setattr(torch, "zeros", full)
    for name in ("cuda", "cuda:0"):
        with pytest.raises(ValueError, match=r"cannot be used \(CUDA out of memory"):
            find_device(name)
    with pytest.raises(ValueError, match="expected a name such as cpu"):
        find_device(None)  # pyright: ignore[reportArgumentType]


def test_pictures_of_wrong_input() -> None:
    x, model = Images(LEVELS, 4), rastrum.build("draw", ImageSpec(1, 8, 8, 2), preset="tiny")
    assert rastrum.show(x, labels=["a\nb"] * 6, title="two\nlines").width > 0
    images = rastrum.sample(model, 3, seed=0)
    frames = list(rastrum.reconstruct(model, images))  # pyright: ignore[reportArgumentType]
    whole, one = rastrum.animate(frames, images=images), rastrum.animate(frames, images=images, most=1, title="one")
    assert one.pictures[0].height < whole.pictures[0].height
    for call, says in (
        (lambda: rastrum.show(x, columns=0), "columns"),
        (lambda: rastrum.animate([x], fps=0), "fps"),
        (lambda: rastrum.animate([x], fps=float("nan")), "fps"),
        (lambda: rastrum.animate(frames, images=images, columns=2), "columns"),
    ):
        with pytest.raises(ValueError, match=says):
            call()
    assert isinstance(Dataset("x", "all", ImageSpec(1, 5, 5, 4), torch.from_numpy(LEVELS)).images, Images)
