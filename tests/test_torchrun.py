"""``torchrun -m rastrum``: how it ends, and what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_processes import free_port

import rastrum
import rastrum.cli
from rastrum.training.record import read_checkpoint

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes as Linux does")


def torchrun(
    folder: Path, *arguments: str, processes: int = 2, port: str | None = None, where: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """Start it; what it and its processes say is in ``folder``/said."""
    port = port or str(free_port())
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", port, *where]
    with open(folder / "said", "w", encoding="utf-8") as said:
        return subprocess.Popen([*command, "-m", "rastrum", *arguments], cwd=folder, stdout=said, stderr=said, text=True,
                                env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True)  # fmt: skip


def ours(folder: Path) -> list[str]:
    """The lines of errors that our program says."""
    return [line for line in (folder / "said").read_text().splitlines() if line.startswith("rastrum: ") and "compiling" not in line]


def trains(launched: subprocess.Popen[str], folder: Path) -> list[int]:
    """Wait until the run in ``folder`` has a checkpoint of some steps; → the processes, by their ranks."""
    end = time.monotonic() + 60
    while not (folder / "metrics.jsonl").exists() or not (folder / "metrics.jsonl").read_text():
        assert launched.poll() is None and time.monotonic() < end, (folder.parent / "said").read_text()
        time.sleep(0.05)
    children = Path(f"/proc/{launched.pid}/task/{launched.pid}/children").read_text(encoding="ascii").split()
    ranks = {}
    for child in children:
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        ranks |= {int(value[5:]): int(child) for value in variables if value.startswith(b"RANK=")}
    return [ranks[rank] for rank in sorted(ranks)]


TRAIN = ("train", "gated-pixelcnn", "--data", "digits", "--preset", "tiny", "--run.folder", "run", "--run.evaluations", "1")


def test_a_killed_process_ends_the_others_with_one_line(tmp_path: Path) -> None:
    launched = torchrun(tmp_path, *TRAIN, "--run.steps", "100000", "--run.log-every", "1")
    os.kill(trains(launched, tmp_path / "run")[1], signal.SIGKILL)
    assert launched.wait(30) != 0
    assert ours(tmp_path) == ["rastrum: processes: another process has ended, so this one ends too; the last checkpoint is whole"]
    assert (tmp_path / "said").read_text().count("Traceback") == 1        # of torchrun itself
    assert read_checkpoint(tmp_path / "run")[0].step == 0                 # it was killed before the second checkpoint was due
    rastrum.load(tmp_path / "run")
    assert not list((tmp_path / "run").glob(".*"))


def test_ctrl_c_saves_and_is_resumed_alone(tmp_path: Path) -> None:
    """It reaches all processes twice, from the terminal and from torchrun."""
    launched = torchrun(tmp_path, *TRAIN, "--run.steps", "100000", "--run.log-every", "1", "--json")
    trains(launched, tmp_path / "run")
    os.killpg(launched.pid, signal.SIGINT)
    assert launched.wait(30) != 0
    answer = next(json.loads(line) for line in (tmp_path / "said").read_text().splitlines() if line.startswith("{"))
    assert answer["interrupted"] and answer["steps"] == read_checkpoint(tmp_path / "run")[0].step > 0
    assert ours(tmp_path) == []
    assert rastrum.cli.main(["train", "--resume", str(tmp_path / "run"), "--steps", "2"]) == 0
    assert read_checkpoint(tmp_path / "run")[0].step == answer["steps"] + 2


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    launched = torchrun(tmp_path, *TRAIN, "--optim.batch", "1")
    assert launched.wait(60) != 0
    assert ours(tmp_path) == ["rastrum: train: 2 processes cannot share a batch of 1; start fewer, or raise optim.batch"]
    assert "exitcode  : 2" in (tmp_path / "said").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["said"]


def test_samples_are_those_of_one_process(tmp_path: Path) -> None:
    rastrum.build("pixelcnn", rastrum.ImageSpec(1, 8, 8, 2), "tiny", seed=0).save_pretrained(tmp_path / "model")
    launched = torchrun(tmp_path, "sample", "model", "--count", "5", "--out", "two.npy", "--json")
    assert launched.wait(60) == 0
    answers = [line for line in (tmp_path / "said").read_text().splitlines() if line.startswith("{")]
    assert len(answers) == 1 and json.loads(answers[0])["count"] == 5
    assert rastrum.cli.main(["sample", str(tmp_path / "model"), "--count", "5", "--out", str(tmp_path / "one.npy")]) == 0
    assert (tmp_path / "two.npy").read_bytes() == (tmp_path / "one.npy").read_bytes()


def test_a_run_is_not_resumed_where_one_machine_lacks_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two agents of torchrun, as on two machines, which find each other at an address."""
    port, folders = str(free_port()), [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        folder.mkdir()
    monkeypatch.chdir(folders[0])
    assert rastrum.cli.main([*TRAIN, "--run.steps", "3"]) == 0
    agents = [
        torchrun(folder, "train", "--resume", "run", "--steps", "2", processes=1, port=port,
                 where=("--nnodes", "2", "--node-rank", folder.name, "--master-addr", "127.0.0.1"))
        for folder in folders
    ]  # fmt: skip
    assert all([agent.wait(60) for agent in agents])
    assert ours(folders[0]) + ours(folders[1]) == ["rastrum: resume: there is no folder 'run' (in process 1 of 2)"]
    assert all("exitcode  : 2" in (folder / "said").read_text() for folder in folders)
    assert read_checkpoint(folders[0] / "run")[0].step == 3 and [path.name for path in folders[1].iterdir()] == ["said"]


def test_other_commands_run_in_one_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert rastrum.cli.main(["models"]) == 2
    assert capsys.readouterr().out == ""
