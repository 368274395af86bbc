"""Bits, whatever else the process has loaded: denormal numbers count, and a zero has no sign."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import rastrum
from rastrum import ImageSpec, RasterModel
from rastrum.denormals import PortabilityError, flushed, kept
from rastrum.program import golden
from rastrum.walk import quiet

SPEC = ImageSpec(1, 6, 6, 4)


@pytest.fixture
def flushing() -> Iterator[None]:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormals")
    yield
    torch.set_flush_denormal(False)


def faint() -> RasterModel:
    """A model whose hidden features are denormal numbers, so that it draws other images where they are flushed."""
    model = rastrum.build("pixelcnn", SPEC, "tiny", seed=1)
    assert isinstance(model, RasterModel)
    with kept(), torch.no_grad():
        for name, powers in {"hidden.weights.0": [-128], "hidden.bias": [-128], "logits.weights.0": [127, 2]}.items():
            for power in powers:
                model.get_parameter(f"output.{name}").mul_(2.0**power)
        model.get_parameter("output.logits.bias").zero_()
    return model.eval()


def answers() -> dict[str, Any]:
    """What must have the same bits, by name."""
    model, draw = faint(), rastrum.build("draw", ImageSpec(1, 6, 6, 2), "tiny", seed=1)
    images = rastrum.sample(model, 3, seed=2)
    found: dict[str, Any] = {backend: rastrum.sample(model, 3, seed=2, backend=backend) for backend in ("native", "torch", "naive")}  # pyright: ignore
    found["completed"] = rastrum.complete(model, images, torch.zeros(6, 6, dtype=torch.bool), seed=2)
    found["particles"] = rastrum.complete(model, images, images > 1, seed=2, particles=3)[0]
    found["drawn"] = rastrum.sample(draw, 3, seed=2)
    found["frames"] = [*rastrum.generate(draw, 2, seed=2)][-1].images
    found["blob"] = torch.tensor([*rastrum.compress(model, images)])
    found["decoded"] = rastrum.decompress(model, rastrum.compress(model, images))
    return found


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    return [name for name, value in one.items() if torch.equal(value, other[name])]


@pytest.mark.parametrize("where", [lambda work: work(), lambda work: in_thread(work)], ids=["here", "in a thread"])
def test_flushed_denormals_change_no_image_and_no_file(where: Callable[[Callable[[], Any]], Any], flushing: None) -> None:
    """In this thread and in a new one, which inherits the setting; afterwards it is as it was."""
    torch.set_flush_denormal(False)
    expected = answers()
    with torch.no_grad():
        model = faint()
        usual = model.log_prob_map(expected["native"])
        torch.set_flush_denormal(True)
        assert not torch.equal(model.log_prob_map(expected["native"]), usual)     # the model is one whose bits would change
    golden.verify.cache_clear()
    found = where(answers)
    assert same(found, expected) == list(expected)
    assert flushed() and golden.fingerprint() == golden.GOLDEN


def in_thread(work: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("first", ["torch.set_flush_denormal(True); import rastrum", "import rastrum; torch.set_flush_denormal(True)"])
def test_before_or_after_rastrum_is_imported(first: str) -> None:
    code = f"""
import sys, torch
sys.path[:0] = {sys.path!r}
{first}
import test_denormals
blob = test_denormals.answers()["blob"]
torch.set_flush_denormal(False)
print(torch.equal(blob, test_denormals.answers()["blob"]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["True"], run.stderr


def test_where_the_setting_cannot_be_changed_nothing_is_drawn(flushing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model, real = rastrum.build("pixelcnn", SPEC, "tiny"), torch.set_flush_denormal
    monkeypatch.setattr(torch, "set_flush_denormal", lambda _: False)
    for work in (lambda: rastrum.sample(model, 1), lambda: rastrum.compress(model, torch.zeros(1, *SPEC.shape, dtype=torch.int64))):  # pyright: ignore
        with pytest.raises(PortabilityError, match="denormal"):
            work()
    real(False)
    with kept():
        assert not flushed()


def test_zero_has_no_sign() -> None:
    """Weights −0 and 0: one fingerprint, one file, the same images."""
    plus, minus = (rastrum.build("gated-pixelcnn", SPEC, "tiny", seed=3) for _ in range(2))
    assert isinstance(plus, RasterModel) and isinstance(minus, RasterModel)
    with torch.no_grad():
        for one, other in zip(plus.parameters(), minus.parameters(), strict=True):
            zeros = torch.rand(one.shape, generator=torch.Generator().manual_seed(0)) < 0.5
            one[zeros], other[zeros] = 0.0, -0.0
    assert rastrum.compression.fingerprint(plus) == rastrum.compression.fingerprint(minus)
    images = rastrum.sample(plus, 8, seed=1)
    assert torch.equal(images, rastrum.sample(minus, 8, seed=1))
    assert torch.equal(rastrum.decompress(minus, rastrum.compress(plus, images)), images)


def test_two_threads_draw_at_once() -> None:
    """Each gets its bits, and torch's settings are as before: in these threads, in those that begin later, and of the model."""

    def settings() -> tuple[Any, ...]:
        return torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(), flushed()

    threads, random = torch.get_num_threads(), torch.get_rng_state()
    models = [rastrum.build("pixelcnn++", SPEC, "tiny", seed=1).train(), rastrum.build("draw", ImageSpec(1, 6, 6, 2), "tiny", seed=1)]
    expected = [rastrum.sample(model, 3, seed=2) for model in models]
    try:
        torch.set_num_threads(2)
        before = settings()
        with quiet(models[0]):                                            # the second thread begins while this one is in a walk
            inside, leave, found = threading.Event(), threading.Event(), []

            def work() -> None:
                found.append(torch.equal(rastrum.sample(models[1], 3, seed=2), expected[1]))
                with quiet(models[0]):
                    inside.set()
                    leave.wait(60)
                    found.append(not any(module.training for module in models[0].modules()))
                found.append(settings() == before)

            thread = threading.Thread(target=work)
            thread.start()
            assert inside.wait(60)
            assert torch.equal(rastrum.sample(models[0], 3, seed=2), expected[0])
        leave.set()
        thread.join()
        assert found == [True, True, True] and settings() == before == in_thread(settings)
        assert all(module.training for module in models[0].modules()) and torch.equal(torch.get_rng_state(), random)
    finally:
        torch.set_num_threads(threads)
