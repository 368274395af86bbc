"""`rastrum train` and `rastrum plot` as a user meets them: any model, budgets, resuming, signals, streams that close, curves."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import rastrum
from rastrum.cli import following, main
from rastrum.cli.source import held_out
from rastrum.cli.streams import Stream
from rastrum.data.sources import split_to_watch
from rastrum.protocol import ImageSpec
from rastrum.training.record import read_checkpoint, read_metrics

SMALL = ["pixelcnn", "--data", "digits", "--preset", "tiny", "--run.held-out-images", "8", "--run.evaluations", "2"]
COMMAND = [sys.executable, "-m", "rastrum.cli", "train"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go below a folder of their own."""
    monkeypatch.chdir(tmp_path)


def settings(folder: str) -> dict[str, Any]:
    return json.loads(Path(folder, "run.json").read_text(encoding="utf-8"))["run"]


def test_any_model_on_any_data() -> None:
    """Sizes are those of the preset for these images, flags change them; the folder is named after both; the card has the command."""
    assert main(["train", *SMALL, "--run.steps", "2", "--model.channels", "4"]) == 0
    model = rastrum.load("runs/pixelcnn-digits")
    assert model.spec == ImageSpec(1, 8, 8, 17)
    assert model.config == rastrum.MODELS["pixelcnn"].preset("tiny", model.spec, channels=4)
    assert "rastrum train pixelcnn --data digits" in Path("runs/pixelcnn-digits/README.md").read_text(encoding="utf-8")
    assert main(["train", "draw-digits", "--preset", "tiny", "--data.limit", "20", "--run.steps", "1", "--data.binarise", "static"]) == 0
    assert rastrum.load("runs/draw-digits").config == rastrum.MODELS["draw"].preset("tiny", ImageSpec(1, 8, 8, 2))
    assert main(["train", "draw", "--data.name", "digits", "--preset", "tiny", "--run.steps", "1"]) == 0
    assert Path("runs/draw-digits-2/samples-000001.png").exists()
    origins = [rastrum.load(folder).origin for folder in ("runs/draw-digits", "runs/draw-digits-2")]
    assert [origin and origin.recipe for origin in origins] == ["draw-digits", None]      # of the same name, but no recipe


def test_a_run_is_watched_on_validation_images() -> None:
    """The test images are kept for the end: a folder's validation images are evaluated while training, where there are any."""
    for split, grey in (("train", 0), ("val", 128), ("test", 255)):
        Path("photos", split).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (4, 4), grey).save(f"photos/{split}/{i}.png")
    assert main(["train", "pixelcnn", "--data", "photos", "--preset", "tiny", "--run.steps", "1"]) == 0
    origin = rastrum.load("runs/pixelcnn-photos").origin
    assert origin is not None and origin.data is not None and origin.data.held_out == "validation"
    assert held_out(origin.data) == "test"
    shutil.rmtree("photos/test")
    assert held_out(origin.data) == "validation"
    assert main(["evaluate", "runs/pixelcnn-photos", "--data", "photos"]) == 0
    assert main(["train", "pixelcnn", "--data", "photos", "--preset", "tiny", "--run.steps", "1", "--data.held-out", "train[:2]"]) == 0
    second = rastrum.load("runs/pixelcnn-photos-2").origin
    assert second is not None and second.data is not None and second.data.held_out == "train[:2]"
    assert [split_to_watch(name) for name in ("binarized-mnist", "dead-leaves", "mnist", "hub:a/b")] == ["validation"] * 2 + ["test"] * 2


@pytest.mark.parametrize(
    ("flags", "budget"),
    [
        (["--run.steps", "2"], (2, None, None)),
        (["--minutes", "0.002"], (None, 0.002, None)),
        (["--run.cpu-minutes=0.002"], (None, None, 0.002)),
        (["--run.steps", "3", "--run.minutes", "5"], (3, 5.0, None)),
    ],
)
def test_a_budget_that_is_given_replaces_the_recipes(flags: list[str], budget: tuple[Any, ...]) -> None:
    """draw-digits has 1,000 steps."""
    assert main(["train", "draw-digits", "--preset", "tiny", "--run.held-out-images", "8", *flags, "--run.folder", "x"]) == 0
    assert tuple(settings("x")[name] for name in ("steps", "minutes", "cpu_minutes")) == budget


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["pixelcnn"], "Give --data NAME"),
        (["pixelcn", "--data", "digits"], "unknown recipe or model 'pixelcn'; did you mean pixelcnn"),
        ([*SMALL, "--minutes", "1", "--run.minutes", "2"], "leave one out"),
        ([*SMALL, "--minutes", "0"], "run.minutes must be above 0"),
        ([*SMALL, "--run.seed", "-1"], "run.seed must be from 0"),
        ([*SMALL, "--preset", "huge"], "huge"),
        ([*SMALL, "--run.folder", "taken"], "holds 'notes.txt'"),
        (["pixelcnn", "--data", "digits", "--run.steps", "1", "--data.train", "none"], "none"),
        (["--resume", "none"], "there is no folder 'none'"),
        (["--resume", "taken"], "has no run.json"),
        (["--resume", "taken", "--data", "digits"], "--data"),
    ],
)
def test_what_can_be_refused_is_refused_before_training(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 2, and nothing is left behind."""
    Path("taken").mkdir()
    Path("taken/notes.txt").write_text("mine", encoding="utf-8")
    assert main(["train", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and says in err, err
    assert [path.name for path in Path("taken").iterdir()] == ["notes.txt"] and not list(Path(".").glob("runs/*"))


def test_runs_that_start_at_once_have_folders_of_their_own() -> None:
    runs = [subprocess.Popen([*COMMAND, *SMALL, "--run.steps", "2", "--json"], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [json.loads(run.communicate(timeout=120)[0]) for run in runs]
    assert {answer["folder"] for answer in answers} == {f"runs/pixelcnn-digits{n}" for n in ("", "-2", "-3")}
    assert all(read_checkpoint(Path(answer["folder"]))[0].step == 2 for answer in answers)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_message_says_how_to_go_on(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    run = subprocess.Popen([*COMMAND, *SMALL, "--run.steps", "100000", "--run.log-every", "1"], stdout=subprocess.PIPE, text=True)
    folder, end = Path("runs/pixelcnn-digits"), time.monotonic() + 60
    while time.monotonic() < end and not ((folder / "metrics.jsonl").exists() and (folder / "metrics.jsonl").stat().st_size):
        time.sleep(0.05)
    run.send_signal(number)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 130
    words = shlex.split(out.splitlines()[-1].partition("continue with: ")[2])
    assert words == ["rastrum", "train", "--resume", str(folder)]
    step = read_checkpoint(folder)[0].step
    assert main([*words[1:], "--steps", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == step + 3 == read_metrics(folder)[-1]["step"]
    assert "--resume" in (folder / "README.md").read_text()


def test_a_signal_while_data_are_read_leaves_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def read(_: Any) -> Any:
        assert Path("runs/pixelcnn-digits").is_dir()
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(following, "read", read)
    assert main(["train", *SMALL]) == 130
    assert "interrupted" in capsys.readouterr().err and not list(Path("runs").iterdir())


@pytest.mark.parametrize("shell", ["{} 2>&1 | head -c 1", "{} >&- 2>&-", "{} 2>/dev/full >/dev/full", "{} 2>&1 >/dev/null | true"])
def test_streams_that_close_end_nothing(shell: str) -> None:
    """The run goes on to its end, and its exit code is that of a run that was heard."""
    command = shell.format(shlex.join([*COMMAND, *SMALL, "--run.steps", "12"]))
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_checkpoint(Path("runs/pixelcnn-digits"))[0].step == 12


def test_a_stream_that_fails_is_not_written_again() -> None:
    class Gone:
        closed, tries = False, 0

        def write(self, text: str) -> int:
            self.tries += 1
            raise OSError(5, "Input/output error")

    gone = Gone()
    stream = Stream(gone)
    assert stream.write("one") == 3 and stream.write("two") == 3 and gone.tries == 1 and not stream.isatty()


def test_tensorboard_has_all_curves_and_sheets() -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert main(["train", *SMALL, "--run.steps", "4", "--tensorboard"]) == 0
    found = events.EventAccumulator("runs/pixelcnn-digits")
    found.Reload()
    names = {"nats", "bits_per_dim", "images_per_second", "learning_rate", "gradient_norm"}
    assert set(found.Tags()["scalars"]) == {f"train/{name}" for name in names} | {"held_out/nats", "held_out/bits_per_dim"}
    assert [event.step for event in found.Scalars("train/gradient_norm")] == [1, 2, 3, 4]
    assert [event.step for event in found.Images("samples")] == [2, 4]


def test_plot(capsys: pytest.CaptureFixture[str]) -> None:
    """One run: training and held out; several: held out; the last values are those of metrics.jsonl."""
    for name in ("one", "two"):
        assert main(["train", *SMALL, "--run.steps", "8", "--run.log-every", "2", "--run.folder", name]) == 0
    capsys.readouterr()
    assert main(["plot", "one", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    last = read_metrics(Path("one"))[-1]
    assert said["last"]["training"] == {"steps": 8, "bits_per_dim": last["bits_per_dim"]}
    assert said["last"]["held out"] == {"steps": 8, "bits_per_dim": last["held_out"]["bits_per_dim"]}
    assert Image.open("curves.png").width > 400
    assert main(["plot", "one", "two", "--out", "both.png", "--over", "minutes", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["last"]) == ["one, held out", "two, held out"]
    with open("one/metrics.jsonl", "a", encoding="utf-8") as file:                          # a line that was cut off
        file.write('{"step": 9, "lo')
    assert main(["plot", "one"]) == 0
    Path("empty").mkdir()
    for argv, says in ((["empty"], "has no metrics.jsonl"), ([], "which runs"), (["one", "--out", "x.jpg"], ".png")):
        capsys.readouterr()
        assert main(["plot", *argv]) == 2 and says in capsys.readouterr().err
