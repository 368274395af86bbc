"""Commands use the data and preprocessing that a model was made for, and name them, because they are part of a score."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import rastrum
from rastrum import ImageSpec
from rastrum.checkpoint import Origin, save_pretrained
from rastrum.cli import main
from rastrum.config import DataConfig, DataOptions, OptimConfig, RunConfig, TrainConfig
from rastrum.data.dataset import Dataset, load_dataset
from rastrum.evaluation import evaluate
from rastrum.train import train

Answered = Callable[..., dict[str, Any]]


def trained(folder: Path, options: DataOptions, steps: int = 2, held_out: str = "test", system: str = "pixelcnn") -> Path:
    """A tiny model of digits, saved by the training loop."""
    data, test = load_dataset("digits", "train", options), load_dataset("digits", held_out, options)
    model = rastrum.build(system, data.spec, "tiny")
    run = RunConfig(steps=steps, evaluations=1, held_out_images=8, workers=1, folder=str(folder))
    for _ in train(model, data, TrainConfig(optim=OptimConfig(learning_rate=1e-2, batch=32), run=run), test):
        pass
    return folder


@pytest.fixture(scope="module")
def thresholded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "threshold", DataOptions(binarise="threshold"), steps=60)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as earlier versions wrote it, of two levels."""
    folder = tmp_path_factory.mktemp("runs") / "old"
    rastrum.build("pixelcnn", ImageSpec(1, 8, 8, 2), "tiny").save_pretrained(folder)
    return folder


@pytest.fixture
def answered(capsys: pytest.CaptureFixture[str]) -> Answered:
    def ask(*argv: object) -> dict[str, Any]:
        capsys.readouterr()
        assert main([*map(str, argv), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return ask


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def ask(*argv: object) -> str:
        capsys.readouterr()
        assert main([*map(str, argv)]) == 0
        return capsys.readouterr().out

    return ask


def nats_of(folder: Path, data: Dataset) -> float:
    return evaluate(rastrum.load(folder), data).nats


def test_a_model_is_scored_on_the_images_that_it_was_made_for(thresholded: Path, answered: Answered) -> None:
    """Without flags images are thresholded, as in training. Randomly binarised images cost more nats, and the output names them."""
    nats = {how: nats_of(thresholded, load_dataset("digits", "test", DataOptions(binarise=how))) for how in ("threshold", "static")}
    assert nats["static"] > nats["threshold"] + 1
    own = answered("evaluate", thresholded)
    assert own["nats"] == pytest.approx(nats["threshold"]) and own["as_trained"]
    assert (own["data"], own["split"], own["preprocessing"]["binarise"]) == ("digits", "test", "threshold")
    for asked in (("--data", "digits"), ("--split", "test")):
        assert answered("evaluate", thresholded, *asked)["nats"] == pytest.approx(nats["threshold"])
    other = answered("evaluate", thresholded, "--binarise", "static")
    assert other["nats"] == pytest.approx(nats["static"]) and not other["as_trained"]
    assert (other["preprocessing"]["binarise"], other["trained_on"]["binarise"]) == ("static", "threshold")


@pytest.mark.parametrize(
    "command", ["evaluate", "score --count 3", "complete --count 2 --num-samples 1 --out x.png", "check --weights", "figures --count 2"]
)
def test_every_answer_names_the_preprocessing(
    command: str, thresholded: Path, said: Callable[..., str], answered: Answered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, *flags = command.split()
    assert "digits test, threshold binarisation, as in training" in said(name, thresholded, *flags)
    mixed = "digits test, static binarisation; trained on digits train, threshold binarisation"
    assert mixed in said(name, thresholded, *flags, "--binarise", "static")
    found = answered(name, thresholded, *flags)
    facts = found["models"][thresholded.name] if name == "figures" else found
    assert facts["preprocessing"]["binarise"] == facts["trained_on"]["binarise"] == "threshold" and facts["as_trained"]


def test_reconstructions_use_the_same_preprocessing(said: Callable[..., str], answered: Answered, tmp_path: Path) -> None:
    folder = trained(tmp_path / "draw", DataOptions(binarise="dynamic"), system="draw")
    out = ("--count", 2, "--out", tmp_path / "x.png")
    assert "digits test, dynamic binarisation (one fixed draw), as in training" in said("reconstruct", folder, *out)
    assert answered("reconstruct", folder, *out)["preprocessing"]["binarise"] == "dynamic"


def test_own_images_are_preprocessed_as_in_training(thresholded: Path, answered: Answered, tmp_path: Path) -> None:
    """A grey digit of the test set as a picture costs what it costs in the data set; a picture of another size and in colour is
    converted."""
    digit = load_dataset("digits", "test", DataOptions(levels=256)).images[0, 0]
    Image.fromarray(digit.numpy()).save(tmp_path / "grey.png")
    test = load_dataset("digits", "test", DataOptions(binarise="threshold"))
    expected = nats_of(thresholded, test.select(torch.tensor([0])))
    found = answered("score", thresholded, "--images", tmp_path / "grey.png")
    assert found["nats"] == [pytest.approx(expected, abs=1e-4)] and not found["as_trained"]
    Image.fromarray(digit.numpy()).convert("RGB").resize((16, 16), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    assert answered("score", thresholded, "--images", tmp_path / "large.png")["nats"] == [pytest.approx(expected, abs=1e-4)]


def test_crops_are_cropped_again(said: Callable[..., str], answered: Answered, tmp_path: Path) -> None:
    """Images of its own data set and others are cropped, if the model was trained on crops."""
    folder = trained(tmp_path / "crops", DataOptions(crop=5))
    expected = nats_of(folder, load_dataset("digits", "test", DataOptions(crop=5)))
    assert answered("evaluate", folder)["nats"] == pytest.approx(expected)
    assert "crops of 5x5, as in training" in said("evaluate", folder, "--count", 5)
    Image.new("L", (9, 9), 40).save(tmp_path / "x.png")
    other = answered("score", folder, "--images", tmp_path / "x.png")
    assert other["preprocessing"]["crop"] == 5 and other["preprocessing"]["size"] is None


@pytest.mark.parametrize(("held_out", "split"), [("train[1400:]", "train[1400:]"), ("test[:50]", "test[:50]"), ("test", "test")])
def test_the_split_is_the_held_out_one(held_out: str, split: str, answered: Answered, tmp_path: Path) -> None:
    folder = trained(tmp_path / "m", DataOptions(), held_out=held_out)
    assert answered("evaluate", folder)["split"] == split
    assert answered("evaluate", folder, "--split", "train[:7]")["images"] == 7


def test_validation_images_are_not_the_test() -> None:
    """They were evaluated during training, so the score is of the test images."""
    from rastrum.cli.source import held_out

    assert held_out(DataConfig(name="binarized-mnist", held_out="validation")) == "test"
    assert held_out(DataConfig(name="x", held_out="validation[:100]")) == "test"
    assert held_out(DataConfig(name="mnist", train="test[:9000]", held_out="test[9000:]")) == "test[9000:]"


def test_an_old_folder_behaves_as_before_and_names_what_is_unknown(
    old: Path, said: Callable[..., str], answered: Answered, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answered("evaluate", old, "--data", "digits", "--count", 20)
    assert found["preprocessing"]["binarise"] == "static" and found["trained_on"] is None and found["as_trained"] is None
    assert "static binarisation; the model's folder does not say how its images were made" in said("evaluate", old, "--data", "digits")
    assert main(["evaluate", str(old)]) == 2
    assert "does not say how its images were made; give --data NAME or --images PATH" in capsys.readouterr().err


def test_conflicting_flags_are_refused(thresholded: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "grey"
    save_pretrained(rastrum.build("pixelcnn", ImageSpec(1, 8, 8, 17), "tiny"), folder, Origin(data=DataConfig(name="digits")))
    for argv, says in (
        (["evaluate", folder, "--binarise", "static"], "it makes two levels, this model has 17"),
        (["evaluate", thresholded, "--data", "digits", "--images", tmp_path], "got both"),
        (["evaluate", thresholded, "--count", "0"], "--count: expected at least 1"),
        (["evaluate", thresholded, "--split", "tset"], "got 'tset'"),
    ):
        assert main([*map(str, argv)]) == 2
        assert says in capsys.readouterr().err
