"""The command line as a user meets it: in process, and in a fresh process where speed, laziness and exit codes matter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import rastrum
from rastrum import ImageSpec
from rastrum.cli import COMMANDS, main
from rastrum.data import dataset
from rastrum.data.sources import NAMES

TINY = ["--model.layers", "2", "--model.channels", "4", "--model.hidden", "4", "--optim.batch", "4"]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class-conditional model, trained for three steps by the real command."""
    folder = tmp_path_factory.mktemp("runs") / "gated"
    options = ["--run.steps", "3", "--run.evaluations", "1", "--run.held-out-images", "8", "--run.folder", str(folder)]
    assert main(["train", "gated-pixelcnn-digits", *TINY, *options]) == 0
    return folder


@pytest.fixture(scope="module")
def draw_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "draw"
    rastrum.build("draw", ImageSpec(1, 8, 8, 17), "tiny").save_pretrained(folder)
    return folder


def fresh(*argv: str) -> subprocess.CompletedProcess[str]:
    """The command in a separate process."""
    return subprocess.run([sys.executable, "-m", "rastrum.cli", *argv], capture_output=True, text=True, check=False)


def answered(capsys: pytest.CaptureFixture[str], *argv: object) -> dict:
    """The answer of a command with --json: one object, and nothing else, on stdout."""
    capsys.readouterr()
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def complaint(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str]:
    """Exit code and stderr, which is one line, of a command that must fail and print nothing on stdout."""
    capsys.readouterr()
    code = main(list(map(str, argv)))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and err.startswith("rastrum: "), err
    return code, err


# ── help ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_lazy(command: str) -> None:
    """Help imports neither torch nor numpy, which is what keeps it under half a second."""
    argv = [command, "--help"] if command else ["--help"]
    code = f"import sys; from rastrum.cli import main; code = main({argv!r}); print(code, 'torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False False"
    assert "usage: rastrum" in done.stdout and done.stderr == ""


def test_help_is_quick() -> None:
    """The best of three, in processor seconds of the whole process: the machine may be busy with other tests."""
    code = "import time; from rastrum.cli import main; main(['sample', '--help']); print(time.process_time())"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    assert min(float(run.stdout.split()[-1]) for run in runs) < 0.5


def test_help_names_the_commands_and_recipes_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name}" in out for name in COMMANDS)
    assert main(["train", "gated-pixelcnn-digits", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(flag in out for flag in ("digits", "--model.channels", "--data.name", "--optim.learning-rate", "--run.steps", "--json"))


@pytest.mark.parametrize("command", [["train", "gated-pixelcnn-digits"], ["evaluate"]])
def test_help_names_every_data_set(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    out = "".join(capsys.readouterr().out.replace("│", "").split())          # a name may be broken at its hyphen
    assert [name for name in NAMES if name not in out or name not in (dataset.__doc__ or "")] == []


# ── the whole way on real data ───────────────────────────────────────────────────────────────────────────────────────────


def test_train_leaves_model_metrics_and_samples(run_folder: Path) -> None:
    names = {path.name for path in run_folder.iterdir()}
    assert {"model.safetensors", "config.json", "README.md", "metrics.jsonl", "samples-000003.png"} <= names
    assert "rastrum train gated-pixelcnn-digits" in (run_folder / "README.md").read_text()
    config = json.loads((run_folder / "config.json").read_text())
    assert (config["data"]["name"], config["data"]["images"], config["data"]["class_names"]) == ("digits", 1437, list("0123456789"))
    assert config["recipe"]["name"] == "gated-pixelcnn-digits" and "--run.steps 3" in config["recipe"]["commands"][0]
    assert config["training"].startswith("3 steps of 4") and config["results"][0]["kind"] == "exact" and config["results"][0]["images"] == 8
    assert Image.open(run_folder / "samples-000003.png").width > 64


def test_sample(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures are written, and the images are those of the library at this seed, with classes 0, 1, 2, …"""
    said = answered(capsys, "sample", run_folder, "--count", 3, "--seed", 5)
    assert said["classes"] == [0, 1, 2]
    expected = rastrum.sample(rastrum.load(run_folder), 3, said["classes"], seed=5)
    assert said["images"] == expected.tolist()
    out, trace = tmp_path / "x.png", tmp_path / "x.gif"
    assert main(["sample", str(run_folder), "--count", "4", "--class", "7", "--out", str(out), "--trace", str(trace)]) == 0
    assert Image.open(out).format == "PNG"
    with Image.open(trace) as animation:
        assert animation.n_frames == 9                                    # pyright: ignore[reportAttributeAccessIssue]
    capsys.readouterr()
    assert main(["sample", str(run_folder), "--count", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8                 # drawn in characters where no file is asked for


@pytest.mark.parametrize(("known", "share"), [("top", 0.5), ("right", 0.5), ("0.25", 0.25), ("mask.png", 1 / 64)])
def test_complete(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], known: str, share: float) -> None:
    """Known values are kept, and the result is that of `rastrum.complete`."""
    mask = Image.new("L", (8, 8))
    mask.putpixel((3, 2), 255)
    mask.save(tmp_path / "mask.png")
    asked = tmp_path / known if known.endswith("png") else known
    said = answered(capsys, "complete", run_folder, "--data", "digits", "--count", 2, "--num-samples", 2, "--known", asked)
    assert said["known"] == pytest.approx(share)
    from rastrum.cli.drawing import known_mask
    from rastrum.config import DataOptions
    from rastrum.data.dataset import load_dataset

    model, data = rastrum.load(run_folder), load_dataset("digits", "test", DataOptions(limit=2))
    assert isinstance(model, rastrum.RasterModel) and data.labels is not None
    kept = known_mask(str(asked), model.spec)
    expected = rastrum.complete(model, data.images, kept, data.labels, num_samples=2)
    assert said["images"] == expected.tolist()
    assert bool((expected[:, 0] == data.images)[kept.expand(2, 1, 8, 8)].all())


def test_complete_by_particles(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The library's completions at this seed, their effective sample size, and the likelihood of the known values."""
    out = tmp_path / "x.png"
    argv = ["complete", run_folder, "--data", "digits", "--count", 2, "--num-samples", 2, "--known", "bottom", "--particles", 3]
    said = answered(capsys, *argv)
    from rastrum.cli.drawing import known_mask
    from rastrum.config import DataOptions
    from rastrum.data.dataset import load_dataset

    model, data = rastrum.load(run_folder), load_dataset("digits", "test", DataOptions(limit=2))
    assert isinstance(model, rastrum.RasterModel)
    expected, weights = rastrum.complete(model, data.images, known_mask("bottom", model.spec), data.labels, num_samples=2, particles=3)
    assert said["images"] == expected.tolist() and said["particles"] == 3
    share = weights.softmax(1)
    assert said["effective_size"] == pytest.approx((1 / share.square().sum(1)).tolist())
    assert said["log_evidence"] == pytest.approx(weights.exp().mean(1).log().tolist())
    assert answered(capsys, *argv, "--out", out)["log_evidence"] == said["log_evidence"] and Image.open(out).format == "PNG"


def test_complete_and_reconstruct_write_pictures(run_folder: Path, draw_folder: Path, tmp_path: Path) -> None:
    for command, folder, count in (("complete", run_folder, 2), ("reconstruct", draw_folder, 2), ("reconstruct", draw_folder, 1)):
        out, trace = tmp_path / f"{command}{count}.png", tmp_path / f"{command}{count}.gif"
        argv = [command, str(folder), "--data", "digits", "--count", str(count), "--out", str(out), "--trace", str(trace)]
        assert main(argv) == 0
        assert Image.open(out).format == "PNG" and Image.open(trace).format == "GIF"


def test_scores_agree(run_folder: Path, draw_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`score` and `evaluate` agree on the same images, with the right units and kind."""
    for folder, kind in ((run_folder, "exact"), (draw_folder, "bound")):
        images = answered(capsys, "score", folder, "--data", "digits", "--count", 20)
        mean = answered(capsys, "evaluate", folder, "--data", "digits", "--count", 20)
        assert images["kind"] == mean["kind"] == kind and images["images"] == mean["images"] == 20
        assert images["mean_nats"] == pytest.approx(mean["nats"], rel=1e-5)
        assert images["standard_error_nats"] == pytest.approx(mean["standard_error"], rel=1e-4)
        assert mean["bits_per_dim"] == pytest.approx(mean["nats"] / (64 * 0.6931472), rel=1e-6)
    mixed = [answered(capsys, command, run_folder, "--data", "digits", "--count", 20, "--ensemble") for command in ("score", "evaluate")]
    assert mixed[0]["ensemble"] and mixed[0]["mean_nats"] == pytest.approx(mixed[1]["nats"], rel=1e-5)
    assert main(["score", str(run_folder), "--data", "digits", "--count", "3", "--surprise", str(tmp_path / "map.png")]) == 0
    assert Image.open(tmp_path / "map.png").width > 100


def test_own_images(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of pictures of another size, and one picture alone, are converted to the model's size and levels."""
    for i in range(2):
        Image.new("RGB", (30, 20), (90 * i, 80, 70)).save(tmp_path / f"{i}.png")
    said = answered(capsys, "score", run_folder, "--images", tmp_path, "--class", 4)
    assert said["images"] == 2 and said["standard_error_nats"] >= 0
    alone = answered(capsys, "score", run_folder, "--images", tmp_path / "1.png", "--class", 4)
    assert alone["nats"] == [said["nats"][1]] and alone["standard_error_nats"] is None


def test_check(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model by its name, a trained one's strengths, and a user's class with a fault, which is exit code 1."""
    said = answered(capsys, "check", "pixelcnn", "--height", 3, "--width", 3, "--out", tmp_path / "context.png")
    assert said["ok"] and "causal" in said["report"] and Image.open(tmp_path / "context.png").width > 64
    asked = ("--data", "digits", "--count", 4, "--at", 4, 4, "--out", tmp_path / "used.png")
    used = answered(capsys, "check", "--weights", run_folder, *asked)
    assert 0 < used["used"] <= 36 and all(s["row"] < 4 or (s["row"] == 4 and s["column"] < 4) for s in used["strongest"][: used["used"]])
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom rastrum import RasterModel\nfrom rastrum.distributions import Bernoulli\n\n\n"
        "class Leaky(RasterModel):\n    def distribution(self, x, condition=None):\n        return Bernoulli(x.to(self.dtype))\n"
    )
    capsys.readouterr()
    assert main(["check", f"{tmp_path / 'mine.py'}:Leaky", "--json"]) == 1
    assert not json.loads(capsys.readouterr().out)["ok"]
    code, err = complaint(capsys, "check", f"{tmp_path / 'mine.py'}:Leeky")
    assert code == 2 and "did you mean Leaky?" in err


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything is listed, with what a user needs to choose."""
    from rastrum.recipes import RECIPES

    found = answered(capsys, "recipes")
    assert list(found) == list(RECIPES) and found["draw-digits"]["expected"]["value"] == 2.04
    assert all(row["commands"] and row["about"] for row in found.values())
    from rastrum.cli.about import describe

    row = describe("gated-pixelcnn", presets=("tiny",))
    assert describe("draw", presets=("svhn",))["more_presets"] == ["mnist", "svhn", "cifar-10"]
    assert row["kind"] == "raster" and row["colour"] and not row["more_presets"] and row["levels"] == 256 and "class" in row["conditions"]


def test_the_models_fit_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """80 columns: a line per model, however large, and one that says where trained ones are listed; no weights are read."""
    from rastrum import checkpoint
    from rastrum.cli import about

    longest = {"kind": "canvas", "parameters": {"tiny": 9596, "small": 865_863, "paper": 115_797_889},
               "conditions": ["class", "vector", "map"], "more_presets": [], "colour": True, "videos": True, "levels": 65536}  # fmt: skip
    monkeypatch.setattr(about, "describe", lambda name: longest)
    monkeypatch.setattr(checkpoint, "load_file", None)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in "".join(lines)
    for name in rastrum.MODELS:
        (line,) = [line.split() for line in lines if line.startswith(f"{name} ")]
        assert line == [name, "canvas", "866k", "116M", "class", "vector", "map", "yes", "65,536", "yes"]
    assert lines[-1] == f"{len(checkpoint.bundled())} trained ones are bundled with the package: rastrum zoo"
    assert about.short(613) == "613" and about.short(9596) == "9.6k" and about.short(53_644_220) == "53.6M"


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["sampel"], "did you mean sample"),
        (["sample"], "MODEL"),
        (["sample", "m", "--cuont", "3"], "did you mean --count?"),
        (["sample", "m", "--count", "three"], "--count"),
        (["sample", "no/such/folder"], "'no/such/folder' is not there"),
        (["sample", "rastrum/nothing"], "'rastrum/nothing'"),
        (["train"], "which recipe"),
        (["train", "gated-pixelcnn-digit"], "did you mean gated-pixelcnn-digits"),
        (["train", "gated-pixelcnn-digits", "--model.chanels", "3"], "did you mean --model.channels?"),
        (["train", "gated-pixelcnn-digits", "--data.name", "digitz"], "digitz"),
        (["sample", "GATED", "--out", "x.jpg"], "ends in .png"),
        (["sample", "GATED", "--out", "no/such/x.png"], "no folder 'no/such'"),
        (["sample", "GATED", "--count", "0"], "count"),
        (["sample", "GATED", "--temperature", "-1"], "temperature"),
        (["sample", "GATED", "--class", "abc"], "--class: expected whole numbers, got abc"),
        (["sample", "GATED", "--class"], "--class: expected whole numbers, got none"),
        (["sample", "GATED", "--class", "10"], "0 … 9, got 10"),
        (["sample", "DRAW", "--class", "1"], "unconditional"),
        (["complete", "DRAW", "--data", "digits"], "cannot complete"),
        (["complete", "GATED", "--data", "digits", "--known", "middle"], "middle"),
        (["complete", "GATED", "--data", "digits", "--particles", "0"], "--particles"),
        (["complete", "GATED", "--data", "digits", "--particles", "2", "--trace", "x.gif"], "--trace"),
        (["evaluate", "DRAW"], "--data NAME or --images PATH"),
        (["complete", "GATED", "--data", "digitz"], "did you mean digits?"),
        (["score", "GATED", "--data", "digits", "--split", "tset"], "tset"),
        (["score", "GATED", "--images", "no/such/folder"], "no/such/folder"),
        (["score", "DRAW", "--data", "digits", "--surprise", "x.png"], "surprise map"),
        (["reconstruct", "GATED", "--data", "digits"], "cannot reconstruct"),
        (["check", "pixelcn"], "did you mean pixelcnn"),
        (["check", "pixelcnn", "--levels", "1"], "levels"),
        (["check", "GATED", "--levels", "3"], "a saved model, of a size and a condition of its own"),
        (["check", "GATED", "--condition", "3"], "a saved model, of a size and a condition of its own"),
    ],
)
def test_bad_input_is_one_line_and_2(
    argv: list[str], says: str, run_folder: Path, draw_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {"GATED": str(run_folder), "DRAW": str(draw_folder)}
    code, err = complaint(capsys, *(named.get(a, a) for a in argv))
    assert code == 2 and says in err


def test_broken_files_are_one_line(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A truncated checkpoint and a broken image name the file; a run never overwrites another."""
    (tmp_path / "model.safetensors").write_bytes((run_folder / "model.safetensors").read_bytes()[:200])
    (tmp_path / "config.json").write_text((run_folder / "config.json").read_text())
    code, err = complaint(capsys, "sample", tmp_path)
    assert code == 2 and "model.safetensors" in err
    images = tmp_path / "images"
    images.mkdir()
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    code, err = complaint(capsys, "score", run_folder, "--images", images)
    assert code == 2 and "broken.png" in err
    capsys.readouterr()
    assert main(["train", "gated-pixelcnn-digits", *TINY, "--run.steps", "1", "--run.folder", str(run_folder)]) == 2
    assert "holds a run already" in capsys.readouterr().err


def test_io_errors_are_1(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those while writing; what can be seen before is refused before anything is drawn."""
    folder = tmp_path / "x.png"
    folder.mkdir()                                                        # a folder stands where the picture should go
    with monkeypatch.context() as patch:
        patch.setattr("rastrum.sample", None)
        patch.setattr("rastrum.generate", None)
        patch.setattr(os, "access", lambda path, mode: Path(path).name != "locked")
        (tmp_path / "locked").mkdir()
        locked = tmp_path / "locked" / "x.png"
        for command in (["sample", run_folder, "--out", folder], ["sample", run_folder, "--out", locked],
                        ["demo", "--folder", locked.parent],
                        ["figures", run_folder, "--data", "digits", "--out", locked.parent / "new"]):  # fmt: skip
            code, err = complaint(capsys, *command)
            assert code == 2 and str(tmp_path) in err, command

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "y.png"))

    monkeypatch.setattr("os.replace", full)
    code, err = complaint(capsys, "sample", run_folder, "--count", "1", "--out", tmp_path / "y.png")
    assert code == 1 and str(tmp_path) in err
    assert {path.name for path in tmp_path.iterdir()} == {"x.png", "locked"}


def test_a_fresh_process_complains_in_one_line() -> None:
    """A complaint comes without a traceback and without warnings of libraries."""
    done = fresh("evaluate", "no/such/folder", "--data", "digits")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1


def test_interrupt_saves(tmp_path: Path) -> None:
    """Ctrl-C: exit 130, the saved model is complete, and a line says where it is."""
    folder = tmp_path / "run"
    argv = ["train", "gated-pixelcnn-digits", *TINY, "--run.steps", "1000000", "--run.log-every", "1", "--run.folder", str(folder)]
    child = subprocess.Popen([sys.executable, "-m", "rastrum.cli", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        metrics, end = folder / "metrics.jsonl", time.monotonic() + 60
        while time.monotonic() < end and not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130, err
    assert f"saved in {folder}" in out and "Traceback" not in err
    assert rastrum.load(folder).spec == ImageSpec(1, 8, 8, 17)
