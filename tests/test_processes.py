"""Several processes train as one: the same batches and draws, the same weights to rounding, one folder; and they end together.

Here processes are copies of this one (``forked``), with the variables that ``torchrun`` sets; one test runs ``torchrun`` itself.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from test_resume import CASES, assert_same, build, config, digits, ended, in_child

import rastrum
from rastrum import processes
from rastrum.config import TrainConfig
from rastrum.data.dataset import Dataset
from rastrum.model import Model
from rastrum.processes import ALONE, Processes, join
from rastrum.train import _torch_noise, resume, train
from rastrum.training.record import read_checkpoint

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def forked(count: int, work: Callable[[], object]) -> list[int]:
    """Run ``work`` in so many processes, which find one another; → their exit codes."""
    port = free_port()

    def as_one(rank: int) -> None:
        variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ |= {name: str(value) for name, value in variables.items()}
        work()
        processes._leave()

    return [ended(child) for child in [in_child(lambda rank=rank: as_one(rank)) for rank in range(count)]]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(case: str, tmp_path: Path) -> None:
    """Pieces of 3 of a batch of 6: each of two processes has one, so that even the sums of gradients are the same to the bit."""
    name, overrides, options, optim = CASES[case]
    data, held_out = digits(**options), digits("test[:10]", **options)

    def run(folder: str) -> None:
        list(train(build(name, data, **overrides), data, config(tmp_path / folder, 6, **{**optim, "micro_batch": 3}), held_out))

    run("one")
    assert forked(2, lambda: run("two")) == [0, 0]
    assert_same(tmp_path / "two", tmp_path / "one")


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
        says("there is no folder", lambda: next(resume(tmp_path / ("no" if second else "full"), data)) if second else start("new"))
        says("training images must be the same", lambda: start(data=data.select(slice(second, None))))
        says("settings must be the same", lambda: start(learning_rate=0.1 if second else 0.2))
        says("model must be the same", lambda: next(train(build("draw" if second else "pixelcnn", data), data, config(None))))
        rastrum.__version__ = "9" if second else "8"
        says('version of rastrum must be the same in all of them; it is "8" in process 0, "9" in process 1', start)

    assert forked(2, work) == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


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

    assert forked(3, work) == [0, 0, 0]
    assert ALONE.gather(1.0) == [(1.0,)] and ALONE.exchange(None) == [None]
