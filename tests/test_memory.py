"""Memory is asked for, not taken: what cannot fit is one line that says how much it would need; large counts take what they return."""

from __future__ import annotations

import gc
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import rastrum
from rastrum import ImageSpec, RasterModel, memory
from rastrum.cli import main
from rastrum.memory import Allowance, TooLarge, ask, available, graph_bytes, size_text
from rastrum.models.context import raster_context
from rastrum.walk import walk

SPEC = ImageSpec(1, 8, 8, 2)
BUNDLED = "rastrum/gated-pixelcnn-binarized-mnist"


@pytest.fixture
def eight_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if so much memory were free."""
    for module in ("memory", "models"):
        monkeypatch.setattr(f"rastrum.{module}.available", lambda: 8 << 30)


@pytest.fixture
def peak() -> Iterator[Callable[[Callable[[], Any]], int]]:
    """Bytes of tensors that a call has at a time, by counting what each operation makes and what is freed."""

    def measure(work: Callable[[], Any]) -> int:
        gc.collect()
        from torch.utils._python_dispatch import TorchDispatchMode

        alive: dict[int, int] = {}
        most = 0

        class Count(TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                import weakref

                nonlocal most
                made = func(*args, **(kwargs or {}))
                for tensor in made if isinstance(made, tuple | list) else [made]:
                    if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in alive:
                        storage = tensor.untyped_storage()
                        alive[storage.data_ptr()] = storage.nbytes()
                        weakref.finalize(storage, alive.pop, storage.data_ptr(), None)
                most = max(most, sum(alive.values()))
                return made

        with Count():
            work()
        return most

    yield measure


def test_sizes_are_said_for_people() -> None:
    assert [size_text(n) for n in (0, 1023, 1536, 3 << 30, 2e12, 1e30)] == [
        "0 bytes", "1,023 bytes", "1.5 KiB", "3.0 GiB", "1.8 TiB", "more than a billion TiB"]  # fmt: skip
    found = available()
    assert found is None or 0 <= found < 1 << 60


@pytest.mark.parametrize(
    "argv",
    [
        ("sample", BUNDLED, "--count", "1000000000"),
        ("sample", "rastrum/draw-binarized-mnist", "--count", "1000000000"),
        ("sample", BUNDLED, "--count", "1000000000", "--json"),
        ("complete", BUNDLED, "--data", "digits", "--count", "2", "--num-samples", "1000000000"),
        ("complete", BUNDLED, "--data", "digits", "--count", "2", "--particles", "1000000000"),
        ("check", "pixelcnn", "--height", "1000000"),
        ("check", "pixelcnn", "--height", "1000000000"),
        ("check", "pixelcnn++", "--channels", "3", "--levels", "256", "--height", "2000", "--width", "2000"),
    ],
    ids=" ".join,
)
def test_what_cannot_fit_is_one_line(argv: tuple[str, ...], eight_gib: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and ("would need about" in err or "takes" in err or "expected" in err), err


def test_functions_ask_too(eight_gib: None) -> None:
    model = rastrum.build("pixelcnn", SPEC, "tiny")
    assert isinstance(model, RasterModel)
    images, known = torch.zeros(2, *SPEC.shape, dtype=torch.int64), torch.zeros(8, 8, dtype=torch.bool)
    for work in (
        lambda: rastrum.sample(model, 10**9),
        lambda: rastrum.generate(model, 10**7),
        lambda: rastrum.complete(model, images, known, num_samples=10**9),
        lambda: rastrum.complete(model, images, known, particles=10**8),
        lambda: raster_context(ImageSpec(3, 256, 256), 1, [1, 1], [1, 1]),
    ):
        with pytest.raises(ValueError, match=r"would need about [\d.,]+ .iB of memory, 8\.0 GiB are free; "):
            work()


ABSURD = [("pixelcnn", "channels", 10**5), ("draw", "hidden", 10**6), ("pixel-lstm", "units", 10**6)]


@pytest.mark.parametrize(("name", "option", "value"), ABSURD)
def test_models_of_absurd_sizes_are_not_built(name: str, option: str, value: int, eight_gib: None) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(ValueError, match=r"build: .* does not fit the memory, it takes [\d,.]+ .iB or more"):
        rastrum.build(name, SPEC, "tiny", **options)


def test_an_allowance_is_refused_before_it_is_taken() -> None:
    with Allowance(1 << 24) as allowance:
        torch.zeros(1000)
        with pytest.raises(TooLarge):
            torch.zeros(1 << 40)
        with pytest.raises(TooLarge):
            _ = torch.arange(1 << 22)[:, None] * torch.ones(1, 1 << 22)
    assert allowance.limit == 1 << 24


def test_large_counts_come_in_parts_and_are_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    walked = []

    def counted(model: Any, batch: int, *rest: Any, **options: Any) -> Any:
        walked.append(batch)
        return walk(model, batch, *rest, **options)

    monkeypatch.setattr("rastrum.generation.walk", counted)
    for name in ("pixelcnn", "draw"):
        model = rastrum.build(name, SPEC, "tiny", seed=1)
        whole = rastrum.sample(model, 200, seed=3)
        assert torch.equal(rastrum.sample(model, 70, seed=3), whole[:70])
    assert walked == [64, 64, 64, 8, 64, 6]


def test_the_command_draws_the_same_images_in_parts(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    model = rastrum.build("pixelcnn", SPEC, "tiny", seed=1)
    model.save_pretrained(tmp_path)
    assert main(["sample", str(tmp_path), "--count", "70", "--seed", "3", "--json"]) == 0
    assert torch.tensor(json.loads(capsys.readouterr().out)["images"]).equal(rastrum.sample(model, 70, seed=3).long())
    argv = ["complete", str(tmp_path), "--data", "digits", "--count", "3", "--num-samples", "30", "--seed", "3", "--json"]
    for more in ([], ["--particles", "4"]):
        assert main([*argv, *more]) == 0
        many = json.loads(capsys.readouterr().out)
        assert len(many["images"]) == 3 and len(many["images"][0]) == 30 and ("log_evidence" in many) == bool(more)
    assert main([*argv, "--num-samples", "1", "--count", "70"]) == 0
    assert torch.tensor(json.loads(capsys.readouterr().out)["images"]).shape == (70, 1, 1, 8, 8)


def test_a_context_takes_no_more_than_itself(peak: Callable[[Callable[[], Any]], int]) -> None:
    """(D, D) bool: it took 19 times as much; in parts the same table."""
    spec = ImageSpec(1, 64, 64)
    assert peak(lambda: raster_context(spec, 3, [2] * 4, [2] * 4)) < 1.5 * spec.size**2 + 40 * memory_of_a_part()
    small = ImageSpec(3, 5, 4)
    expected = raster_context(small, 2, [2, 1, 1], [0, 1, 2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rastrum.models.context.CELLS", 100)
        assert torch.equal(raster_context(small, 2, [2, 1, 1], [0, 1, 2]), expected)


def memory_of_a_part() -> int:
    from rastrum.models import context

    return context.CELLS


def test_gradients_of_many_images_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What 200 images keep is found from one of them, to a fifth; said once it is much, refused where it does not fit."""
    for name in ("gated-pixelcnn", "draw"):
        model = rastrum.build(name, SPEC, "tiny", seed=1)
        score: Any = model.log_prob if isinstance(model, RasterModel) else model.bound  # pyright: ignore[reportAttributeAccessIssue]
        x = torch.zeros(200, *SPEC.shape, dtype=torch.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            score(x)
        kept = graph_bytes(lambda score=score, x=x: score(x), model.parameters())
        with monkeypatch.context() as patch:
            patch.setattr(memory, "NOTABLE", kept // 2)
            with pytest.warns(UserWarning, match=r"of 200 images keeps about [\d.,]+ .iB for gradients; call it under torch\.no_grad"):
                score(x)
            patch.setattr(memory, "NOTABLE", int(1.2 * kept))
            patch.setattr(memory, "available", lambda kept=kept: kept // 2)
            with pytest.raises(ValueError, match="of 200 images with gradients would need about"):
                score(x)
            with torch.no_grad():
                score(x)
            score(x[:20])


def test_asking_costs_nothing() -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match="would need"):
        ask("x", 1e18, "less")
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()
