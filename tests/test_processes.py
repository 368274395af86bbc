"""Several processes train as one: the same batches and draws, the same weights to rounding, one folder; and they end together.

Here processes are copies of this one (``forked``), with the variables that ``torchrun`` sets; one test runs ``torchrun`` itself.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import signal
import socket
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from shutil import copytree
from typing import Any, cast

import numpy as np
import pytest
import torch
from test_resume import CASES, assert_same, build, config, digits, ended, in_child
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

import rastrum
import rastrum.cli
from rastrum import RasterModel, processes
from rastrum.config import TrainConfig
from rastrum.data.dataset import Dataset
from rastrum.evaluation import evaluate, image_nats
from rastrum.model import Model
from rastrum.pictures.png import png
from rastrum.processes import ALONE, Processes, join
from rastrum.sums import Sum, total
from rastrum.train import _torch_noise, resume, train
from rastrum.training.record import read_checkpoint
from rastrum.walk import walk

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def save_pixels(name: str, pixels: np.ndarray) -> None:
    """An image file, or an array."""
    if name.endswith(".npy"):
        np.save(name, pixels)
    else:
        height, width, channels = pixels.shape
        Path(name).write_bytes(b"".join(png(height, width, channels, 8, [pixels])))


def forked(count: int, work: Callable[[], object]) -> list[int]:
    """Run ``work`` in so many processes, which find one another; → their exit codes."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)   # outlives them all, as torchrun's does

    def as_one(rank: int) -> None:
        variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port}
        variables |= {"TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0}
        os.environ |= {name: str(value) for name, value in variables.items()}
        work()
        processes._leave()

    return [ended(child) for child in [in_child(lambda rank=rank: as_one(rank)) for rank in range(count)]]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(case: str, tmp_path: Path) -> None:
    """Four pieces of a batch: two for each of two processes; even the sums of gradients are the same to the bit."""
    name, overrides, options, optim = CASES[case]
    data, held_out = digits(**options), digits("test[:10]", **options)

    def run(folder: str) -> None:
        list(train(build(name, data, **overrides), data, config(tmp_path / folder, 6, **{**optim, "batch": 8, "micro_batch": 2}), held_out))

    run("one")
    assert forked(2, lambda: run("two")) == [0, 0]
    assert_same(tmp_path / "two", tmp_path / "one")


def test_threads_and_processes_train_as_one(tmp_path: Path) -> None:
    """One thread, three of them, and four processes."""
    data = digits()

    def run(folder: str, workers: int) -> None:
        settings = config(tmp_path / folder, 4, {"workers": workers}, batch=16, micro_batch=2)
        list(train(build("pixelcnn++", data), data, settings))

    run("one", 1)
    run("three", 3)
    assert forked(4, lambda: run("four", 1)) == [0] * 4
    for folder in ("three", "four"):
        assert_same(tmp_path / folder, tmp_path / "one")


@pytest.mark.parametrize("count", [1, 2, 3, 6, 8])
def test_a_sum_is_the_same_in_any_order_and_by_halves(count: int) -> None:
    """In pairs: 1e20 + 1 is 1e20, so that another order would show. The last one completes what the others have become."""
    values: list[float] = [(-1.0) ** n * 10.0 ** (7 * n % 40) + n for n in range(count)]

    def plus(one: float, two: float) -> float:
        return one + two

    def summed(parts: list[float]) -> float:
        return parts[0] if len(parts) == 1 else summed(parts[: len(parts) // 2]) + summed(parts[len(parts) // 2 :])

    expected = summed(values)
    assert total(values, plus) == expected
    for order in itertools.islice(itertools.permutations(range(count)), 0, 5000, 37):
        added = Sum(count, plus)
        for index in order:
            added.add(index, values[index])
        assert added.total == expected
    added = Sum(count, plus)
    for index in range(count - 1):
        added.add(index, values[index])
    assert functools.reduce(plus, added.others(count - 1), values[-1]) == expected


@pytest.mark.parametrize("case", ["dropout, data-dependent initialisation", "latents, crops", "stages, dequantised"])
def test_any_number_resumes_any_run(case: str, tmp_path: Path) -> None:
    """Two processes stop after 2 of 5 steps. Two go on to the bit as if they had not; one and three to rounding, in float64.

    Of a batch of 7 one of them has a piece more than the other.
    """
    name, overrides, options, optim = CASES[case]
    data = digits(**options)

    def run(folder: str, until: int) -> None:
        settings = config(tmp_path / folder, 5, **{**optim, "batch": 7, "micro_batch": 3})
        states = train(build(name, data, **overrides).double(), data, settings)
        for _ in range(until):
            next(states)
        states.close()

    def go_on(folder: str) -> None:
        list(resume(tmp_path / folder, data, model=build(name, data, **overrides).double()))

    def both() -> None:
        run("whole", 5)
        run("parts", 2)

    assert forked(2, both) == [0, 0]
    for folder in ("one", "three"):
        copytree(tmp_path / "parts", tmp_path / folder)
    assert forked(2, lambda: go_on("parts")) == [0, 0]
    assert_same(tmp_path / "parts", tmp_path / "whole")
    go_on("one")
    assert forked(3, lambda: go_on("three")) == [0, 0, 0]
    expected = read_checkpoint(tmp_path / "whole")[1]
    for folder in ("one", "three"):
        position, tensors = read_checkpoint(tmp_path / folder)
        assert position.step == 5
        for key, value in tensors.items():
            assert torch.allclose(value.double(), expected[key].double(), rtol=1e-6, atol=1e-9), key


@pytest.mark.parametrize(
    "case", ["dropout, data-dependent initialisation", "stages, dequantised", "warm-up", "two objectives, spectral norm"]
)
def test_shards_train_as_one(case: str, tmp_path: Path) -> None:
    """By FSDP2, started by two processes and resumed by three; to rounding, in float64."""
    name, overrides, options, optim = CASES[case]
    data, held_out = digits(**options), digits("test[:10]", **options)

    def built() -> Model:
        return build(name, data, **overrides).double()

    def settings(folder: str, shard: bool) -> TrainConfig:
        return config(tmp_path / folder, 5, {"shard": shard}, **{**optim, "batch": 7, "micro_batch": 3})

    def start() -> None:
        states = train(built(), data, settings("shards", True), held_out)
        for _ in range(2):
            next(states)
        states.close()

    model = built()
    list(train(model, data, settings("one", False), held_out))
    assert forked(2, start) == [0, 0]
    assert forked(3, lambda: list(resume(tmp_path / "shards", data, held_out, model=built()))) == [0, 0, 0]
    (position, tensors), (_, expected) = (read_checkpoint(tmp_path / folder) for folder in ("shards", "one"))
    assert position.step == 5 and tensors.keys() == expected.keys()
    for key, value in tensors.items():
        assert torch.allclose(value.double(), expected[key].double(), rtol=1e-6, atol=1e-9), key


def test_shards_of_compiled_layers() -> None:
    """In float32, in pieces of one image, for which an initial state is a view of a parameter; three processes, unlike shares."""
    names, data = ("draw", "row-lstm", "gated-pixelcnn", "spatial-lstm", "gran"), digits(crop=4, binarise="threshold")

    def found(name: str, shard: bool) -> list[float]:
        settings = config(None, 2, {"shard": shard}, batch=4, micro_batch=1, warm_up=0)
        return [number for state in train(build(name, data), data, settings) for number in (state.loss, state.gradient_norm)]

    expected = {name: found(name, False) for name in names}

    def work() -> None:
        assert {name: found(name, True) for name in names} == {name: pytest.approx(expected[name], rel=1e-4) for name in names}

    assert forked(3, work) == [0] * 3


def test_losses_lie_on_each_other(tmp_path: Path) -> None:
    """Of one process, DDP, FSDP2, and DDP that adds up the gradients of several parts, step by step; a process makes its images only."""
    data, steps = digits(binarise="dynamic"), 12
    ways: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "ddp": ({}, {}), "fsdp": ({"shard": True}, {}), "parts": ({}, {"micro_batch": None, "accumulate": 2}),
    }  # fmt: skip

    def losses(run: dict[str, Any], optim: dict[str, Any]) -> list[float]:
        settings = config(None, steps, run, **{"batch": 7, "micro_batch": 3, **optim})
        return [state.loss for state in train(build("gated-pixelcnn", data).double(), data, settings)]

    expected = losses({}, {})

    def work() -> None:
        made, draw = [], Dataset._draw

        def counted(self: Dataset, x: Any, *rest: Any, **named: Any) -> torch.Tensor:
            made.append(len(x))
            return draw(self, x, *rest, **named)

        Dataset._draw = counted
        for way in ways.values():
            assert losses(*way) == pytest.approx(expected, rel=1e-9)
        assert [n for n in made if n != len(data)] == [3 + join().rank] * (len(ways) * steps)   # all at once are of the initialisation

    assert forked(2, work) == [0, 0]
    assert max(expected) - min(expected) > 1                              # it learns


def test_a_signal_to_one_process_ends_all_after_the_same_step(tmp_path: Path) -> None:
    """Also where it comes twice, as Ctrl-C does: from the terminal and from ``torchrun``. The rest is as if it had never come."""
    data = digits()

    def run(folder: str, interrupted: bool) -> None:
        last = None
        for state in train(build("gated-pixelcnn", data), data, config(tmp_path / folder, 12)):
            last = state
            if interrupted and state.step == 3 and join().rank == 1:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
        assert last is not None and (last.interrupted, last.step) == ((True, 4) if interrupted else (False, 12))

    def both() -> None:
        run("whole", False)
        run("parts", True)

    assert forked(2, both) == [0, 0]
    assert forked(2, lambda: list(resume(tmp_path / "parts", data))) == [0, 0]
    assert_same(tmp_path / "parts", tmp_path / "whole")


def test_a_process_that_is_killed_ends_the_others(tmp_path: Path) -> None:
    """With one line, and with a checkpoint that goes on as if nothing had happened."""
    data = digits()

    def run() -> None:
        try:
            for state in train(build("gated-pixelcnn", data), data, config(tmp_path / "killed", 12)):
                if state.step == 5 and join().rank == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
        except ConnectionError as error:
            os._exit(4 if "another process has ended" in str(error) else 5)

    assert forked(2, run) == [4, -signal.SIGKILL]
    assert not [path for path in (tmp_path / "killed").iterdir() if path.name.startswith(".")]
    assert forked(2, lambda: list(train(build("gated-pixelcnn", data), data, config(tmp_path / "whole", 12)))) == [0, 0]
    assert forked(2, lambda: list(resume(tmp_path / "killed", data))) == [0, 0]
    assert_same(tmp_path / "killed", tmp_path / "whole")


def test_what_one_process_refuses_all_refuse(tmp_path: Path) -> None:
    """The same sentence in each, before anything is written."""
    data = digits()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")

    def says(pattern: str, work: Callable[[], object]) -> None:
        with pytest.raises(ValueError, match=pattern):
            work()

    def start(folder: str = "run", data: Dataset = data, **optim: Any) -> None:
        next(train(build("gated-pixelcnn", data), data, config(tmp_path / folder, **optim)))

    def work() -> None:
        second = join().rank == 1
        says("2 processes cannot share a batch of 1; start fewer, or raise optim.batch", lambda: start(batch=1))
        says("'notes.txt', and a run needs a folder of its own", lambda: start("full"))
        says(r"there is no folder .*\(in process 1 of 2\)", lambda: next(resume(tmp_path / "no", data)) if second else start("new"))
        says("training images must be the same in all of them; images is 50 in process 0, 49 in process 1",
             lambda: start(data=data.select(slice(second, None))))
        says("settings must be the same in all of them; optim.learning_rate is 0.2 in process 0, 0.1 in process 1",
             lambda: start(learning_rate=0.1 if second else 0.2))
        words = ["sample", "a" * 100, "--seed", str(join().rank)]
        says(r'command must be the same in all of them; it is …a+", "--seed", "0"\] in process 0, …a+", "--seed", "1"\] in process 1',
             lambda: join().check_same(command=words))
        says("model must be the same", lambda: next(train(build("draw" if second else "pixelcnn", data), data, config(None))))
        torch.__version__ = "2.13.1" if second else "2.12.0+cpu"
        says('version of torch must be the same in all of them; it is "2.12.0" in process 0, "2.13.1" in process 1', start)
        rastrum.__version__ = "9" if second else "8"
        says('version of rastrum must be the same in all of them; it is "8" in process 0, "9" in process 1', start)

    assert forked(2, work) == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_what_a_run_cannot_go_on_with(tmp_path: Path) -> None:
    """Fewer images than it began with, another model, and a folder that one machine lacks: one line, and the folder stays as it was."""
    data, held_out, folder = digits(), digits("test[:10]"), tmp_path / "run"
    states = train(build("gated-pixelcnn", data), data, config(folder, 5), held_out)
    for _ in range(3):
        next(states)
    states.close()
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}

    def work() -> None:
        second = join().rank == 1
        for message, images, others, model in (
            ("was trained on 50 images of checksum .*, these are 40 of .*; give the same data", digits("train[:40]"), held_out, None),
            ("was evaluated on 10 images of checksum .*, these are 9 of .*; give the same held-out images", data, digits("test[:9]"), None),
            (r"is of another model: .* is missing there and \[.*\] in this PixelCNN", data, held_out, build("pixelcnn", data)),
            (r"is of another model: .* is \[.*\] there and \[.*\] in this GatedPixelCNN", data, held_out,
             build("gated-pixelcnn", data, channels=10)),
        ):  # fmt: skip
            with pytest.raises(ValueError, match=message):
                next(resume(folder, images, others, steps=9, model=model))
        with pytest.raises(ValueError, match=r"there is no folder .*\(in process 1 of 2\)"):
            next(resume(tmp_path / "elsewhere" if second else folder, data))

    assert forked(2, work) == [0, 0]
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before


# ── what processes share besides training ────────────────────────────────────────────────────────────────────────────


def test_results_are_those_of_one_process() -> None:
    """To the bit, for 2 and 3: compiled steps, torch's steps in float64, strokes; more processes than images; also from one alone."""
    data = digits("test[:11]")
    model: Any = build("gated-pixelcnn", data)
    exact: Any = build("gated-pixelcnn", data).double()
    strokes, other = build("draw", data), cast(RasterModel, build("gated-pixelcnn", data, hidden=8))
    x, top = data.images, torch.zeros(8, 8, dtype=torch.bool).index_fill(0, torch.arange(4), True)

    def results(together: Processes) -> list[Any]:
        shared: dict[str, Any] = {"processes": together}
        found: list[Any] = [image_nats(model, data, **shared), image_nats(strokes, data, batch=2, num_samples=3, **shared)]
        found += [evaluate(model, data, ensemble=True, **shared)]
        found += [rastrum.sample(each, 2, seed=5, **shared) for each in (model, strokes, exact)]
        found += [rastrum.complete(model, x[:3], top, num_samples=3, **shared)]
        found += rastrum.complete(model, x[:5], ~top, num_samples=2, particles=30, **shared)
        for each, images in ((model, x), (exact, x[:2]), (model, x[:0])):
            blob = rastrum.compress(each, images, **shared)
            decoded = rastrum.decompress(each, blob, **shared)
            assert torch.equal(torch.as_tensor(decoded), torch.as_tensor(images))
            found.append(blob)
        return [each.tolist() if isinstance(each, torch.Tensor) else each for each in found]

    expected = results(ALONE)

    def work() -> None:
        together = join()
        assert results(together) == expected
        if together.rank == 1:                                            # nobody waits for the others who was not given them
            assert rastrum.sample(model, 2, seed=5).tolist() == expected[3]
        with pytest.raises(rastrum.FileError):
            rastrum.decompress(other, rastrum.compress(model, x), processes=together)

    assert forked(2, work) == [0, 0]
    assert forked(3, work) == [0, 0, 0]


def test_commands_answer_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first process prints and writes is what one process alone does; no other says or writes anything."""
    monkeypatch.chdir(tmp_path)
    data = digits("test[:9]")
    build("gated-pixelcnn", data).save_pretrained("model")
    np.save("x.npy", data.images.numpy())
    images = ["model", "--images", "x.npy"]
    commands = [
        ["evaluate", *images, "--json"],
        ["score", *images, "--reference", "digits", "--reference-count", "20", "--csv", "OUT.csv", "--save-detector", "OUT.json", "--json"],
        ["sample", "model", "--count", "5", "--out", "OUT.npy"],
        ["sample", "model", "--count", "3", "--out", "OUT.png"],
        ["complete", *images, "--count", "2", "--particles", "20", "--out", "OUT.npy", "--json"],
    ]

    def run(folder: str, rank: int = 0) -> None:
        Path(folder).mkdir(exist_ok=True)
        with open(f"said-{rank}", "w", encoding="utf-8") as said, redirect_stdout(said), redirect_stderr(said):
            for number, command in enumerate(commands):
                os.environ["COLUMNS"] = "200"
                assert rastrum.cli.main([word.replace("OUT", f"{folder}/{number}") for word in command]) == 0
        Path(f"said-{rank}").rename(f"{folder}-said-{rank}")

    run("one")
    assert forked(2, lambda: run("two", join().rank)) == [0, 0]
    names = sorted(path.name for path in Path("one").iterdir())
    assert names == ["1.csv", "1.json", "2.npy", "3.png", "4.npy"] == sorted(path.name for path in Path("two").iterdir())
    assert all((Path("one") / name).read_bytes() == (Path("two") / name).read_bytes() for name in names)
    one, two = (Path(f"{folder}-said-0").read_text(encoding="utf-8") for folder in ("one", "two"))
    assert two == re.sub("rastrum: compiling.*\n", "", one).replace("one/", "two/")    # the first to run may have to compile
    assert Path("two-said-1").read_text(encoding="utf-8") == ""


def test_commands_end_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """One line, exit 2 in every process, nothing written: other models, images and versions, and what one machine lacks."""
    monkeypatch.chdir(tmp_path)
    data = digits("test[:4]")
    for seed, name in enumerate(("zero", "one")):
        Path(name).mkdir()
        rastrum.build("pixelcnn", data.spec, "tiny", seed=seed).save_pretrained(f"{name}/model")
        np.save(f"{name}/x.npy", data.images.numpy()[seed:])
        np.save("x.npy", data.images.numpy())
    cases: list[tuple[str, Callable[[int], list[str]]]] = [
        ("command must be the same in all of them", lambda rank: ["sample", "zero/model", "--seed", str(rank), "--out", "a.npy"]),
        ("model must be the same in all of them", lambda rank: ["sample", "model", "--out", "a.npy"]),
        ("images must be the same in all of them", lambda rank: ["evaluate", "../zero/model", "--images", "x.npy"]),
        (r"'only' is not there; .*\(in process 1 of 2\)", lambda rank: ["evaluate", "only", "--images", "x.npy"]),
        ("--out: there is no folder 'none'", lambda rank: ["sample", "model", "--out", "none/a.npy"]),
        ("--trace: an animation of a walk is made by one process", lambda rank: ["sample", "../zero/model", "--trace", "a.gif"]),
        ("figures: runs in one process, and torchrun started 2; start `rastrum figures` alone", lambda rank: ["figures", "model"]),
        ("version of rastrum must be the same", lambda rank: ["evaluate", "../zero/model", "--images", "x.npy"]),
    ]
    rastrum.load("zero/model").save_pretrained("zero/only")

    for number, (message, command) in enumerate(cases):

        def work(number: int = number, command: Callable[[int], list[str]] = command) -> None:
            rank = int(os.environ["RANK"])
            os.chdir(("zero", "one")[rank])
            if number == len(cases) - 1:
                rastrum.__version__ = str(rank)
            os._exit(rastrum.cli.main(command(rank)))

        if number == 4:
            rastrum.load("zero/model").save_pretrained("one/model")
        before = sorted(tmp_path.rglob("*"))
        assert forked(2, work) == [2, 2], message
        said = capfd.readouterr()
        assert re.fullmatch(f"rastrum: .*{message}.*\n", said.err) and said.out == "", said.err
        assert sorted(tmp_path.rglob("*")) == before


def test_photographs_are_coded_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, archives and answers are those of one process; also by more processes than photos."""
    monkeypatch.chdir(tmp_path)
    rastrum.build("pixelcnn", rastrum.ImageSpec(1, 8, 8, 256), "tiny", seed=0).save_pretrained("model")
    names = ["b.png", "a.npy", "c.png"]
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 255, (9 + number, 7, 1), np.uint8)
        save_pixels(name, pixels)

    def run(folder: str, rank: int = 0) -> None:
        Path(folder).mkdir(exist_ok=True)
        commands = [
            ["compress", *names, "--model", "model", "--tile", "6", "--context", "2", "-o", f"{folder}/files"],
            ["compress", *names, "--model", "model", "--tile", "6", "--context", "2", "-o", f"{folder}/all.zip"],
            ["verify", f"{folder}/all.zip", f"{folder}/files/a.rastrum", "--model", "model"],
            ["decompress", f"{folder}/all.zip", "--model", "model", "-o", f"{folder}/back"],
        ]
        with open(f"{folder}-said-{rank}", "w", encoding="utf-8") as said, redirect_stdout(said), redirect_stderr(said):
            for command in commands:
                assert rastrum.cli.main([*command, "--json"]) == 0

    def said(folder: str, rank: int) -> list[Any]:
        answers = [json.loads(line) for line in Path(f"{folder}-said-{rank}").read_text(encoding="utf-8").splitlines()]
        timed = ("seconds", "megapixels_per_second")
        records = [[*answer["files"], answer.get("total", {})] for answer in answers]
        return [[{key: value for key, value in record.items() if key not in timed} for record in each] for each in records]

    run("one")
    for count in (2, 4):
        assert forked(count, lambda count=count: run(str(count), join().rank)) == [0] * count
        for path in (path for path in Path("one").rglob("*") if path.is_file()):
            assert path.read_bytes() == (Path(str(count)) / path.relative_to("one")).read_bytes(), path
        assert str(said(str(count), 0)).replace(f"'{count}/", "'one/") == str(said("one", 0))
        assert [Path(f"{count}-said-{rank}").read_text(encoding="utf-8") for rank in range(1, count)] == [""] * (count - 1)


def test_a_photograph_that_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """It is named by the first process, whoever finds it; the same exit code in each, and no half of a file."""
    monkeypatch.chdir(tmp_path)
    rastrum.build("pixelcnn", rastrum.ImageSpec(1, 8, 8, 256), "tiny", seed=0).save_pretrained("model")
    for name in ("a", "b", "c"):
        save_pixels(f"{name}.png", np.random.default_rng(0).integers(0, 255, (9, 7, 1), np.uint8))
    assert rastrum.cli.main(["compress", "a.png", "b.png", "c.png", "--model", "model", "-o", "whole"]) == 0
    content = bytearray(Path("whole/c.rastrum").read_bytes())
    content[-20] ^= 1
    Path("whole/d.rastrum").write_bytes(content)
    Path("d.png").write_bytes(Path("c.png").read_bytes()[:60])
    capfd.readouterr()
    photos = ["a.png", "b.png", "d.png"]
    cases: list[tuple[list[str], int, str, list[str]]] = [
        (["compress", *photos, "--model", "model", "-o", "x.zip"], 1, r"data: d\.png.*\n1 of 3 files failed\n", ["x.zip"]),
        (["compress", *photos, "--model", "model", "-o", "x"], 1, r"data: d\.png.*\n1 of 3 files failed\n",
         ["x", "x/a.rastrum", "x/b.rastrum"]),
        (["compress", "a.png", "none.png", "--model", "model"], 2, "rastrum: there is no file 'none.png'\n", []),
        (["compress", "a.png", "-", "--model", "model"], 2, "rastrum: -: one process reads and writes a pipe, .*\n", []),
        (["verify", "whole/a.rastrum", "whole/d.rastrum", "--model", "model"], 1, "", []),
        (["decompress", "whole/a.rastrum", "whole/d.rastrum", "--model", "model", "-o", "y"], 1,
         "whole/d.rastrum: the pixels of .*\n1 of 2 files failed\n", ["y", "y/a.png"]),
        (["decompress", "whole/a.rastrum", "whole/d.rastrum", "--model", "model", "--salvage", "-o", "z"], 1,
         "whole/d.rastrum: .* could not be decoded\n", ["z", "z/a.png", "z/d.png"]),
    ]  # fmt: skip
    for command, code, message, new in cases:
        before = {str(path) for path in Path().rglob("*")}

        def work(command: list[str] = command) -> None:
            os._exit(rastrum.cli.main(command))

        assert forked(2, work) == [code, code], command
        said = capfd.readouterr()
        assert re.fullmatch(message, said.err) and (code == 1 or said.out == ""), said.err
        assert sorted({str(path) for path in Path().rglob("*")} - before) == new, command


def test_many_samples_are_shared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bits may depend on a batch, batches are those of one process; and the bar counts what all do."""
    data, walked = digits(), []
    model = build("gated-pixelcnn", data).double()
    monkeypatch.setattr("rastrum.generation.MAX_BATCH", 2)
    monkeypatch.setattr("rastrum.generation.walk", lambda model, size, *rest, **how: walked.append(size) or walk(model, size, *rest, **how))
    monkeypatch.setattr(Processes, "joined", lambda self, part: part)
    done: list[float] = []
    assert len(rastrum.sample(model, 7, processes=Processes(1, 2), progress=done.append)) == 3
    assert walked == [2, 1] and done[-1] == 6
    walked.clear()
    assert len(rastrum.sample(model.float(), 7, processes=Processes(1, 2))) == 4 and walked == [2, 2]


def test_noise_of_torchs_own_generator_differs_between_processes() -> None:
    """The first has what a process alone has."""

    def drawn(rank: int) -> list[float]:
        with _torch_noise(3, 7, rank):
            return torch.rand(50).tolist()

    with _torch_noise(3, 7):
        assert torch.rand(50).tolist() == drawn(0)
    assert len({value for rank in range(4) for value in drawn(rank)}) == 200


@pytest.mark.parametrize(("total", "count"), [(6, 2), (7, 3), (3, 3), (1, 4)])
def test_shares_cover_everything_once(total: int, count: int) -> None:
    shares = [Processes(rank, count).share(total) for rank in range(count)]
    assert [i for share in shares for i in range(total)[share]] == list(range(total))
    assert max(s.stop - s.start for s in shares) - min(s.stop - s.start for s in shares) <= 1


def test_numbers_texts_and_tensors_go_around() -> None:
    def work() -> None:
        ours = join()
        assert ours.gather(ours.rank, 2.5) == [(0, 2.5), (1, 2.5), (2, 2.5)] and ours.first(ours.rank) == 0
        assert ours.exchange("ä" * ours.rank) == ["", "ä", "ää"]
        part = torch.arange(ours.rank, dtype=torch.int16).view(-1, 1)
        assert ours.joined(part).tolist() == [[0], [0], [1]] and ours.joined(part).dtype == torch.int16
        assert ours.added(torch.arange(4.0) + ours.rank).tolist() == [3, 6, 9, 12]

    assert forked(3, work) == [0, 0, 0]
    assert ALONE.gather(1.0) == [(1.0,)] and ALONE.exchange(None) == [None]
