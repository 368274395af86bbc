"""Commands on images of one's own: folders as people have them, arrays, 16 bits; splits mean what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import rastrum
from rastrum import ImageSpec
from rastrum.cli import main
from rastrum.config import DataOptions, OptimConfig, RunConfig, TrainConfig
from rastrum.data.dataset import Dataset, load_dataset
from rastrum.raster import RasterModel
from rastrum.train import train


def ask(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[dict[str, Any], str]:
    """The answer, and what stderr says."""
    capsys.readouterr()
    assert main([*map(str, argv), "--json"]) == 0
    found = capsys.readouterr()
    return json.loads(found.out), found.err


def refusal(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    capsys.readouterr()
    assert main([*map(str, argv)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Images of 8x8 pixels: 6 to train on, 3 to test on; grey, level by level, one of them in colour."""
    for split, levels in (("Training", range(6)), ("Testing", range(10, 13))):
        (tmp_path / "own" / split).mkdir(parents=True)
        for level in levels:
            Image.new("RGB" if level == 0 else "L", (8, 8), 20 * level).save(tmp_path / "own" / split / f"{level}.png")
    (tmp_path / "own" / "notes.txt").write_text("hello")
    return tmp_path / "own"


def saved(folder: Path, spec: ImageSpec, system: str = "pixelcnn") -> Path:
    torch.manual_seed(0)
    rastrum.build(system, spec, "tiny").save_pretrained(folder)
    return folder


def trained(folder: Path, data: Dataset, held_out: Dataset, system: str = "pixelcnn") -> Path:
    run = RunConfig(steps=2, evaluations=1, workers=1, folder=str(folder))
    for _ in train(rastrum.build(system, data.spec, "tiny"), data, TrainConfig(optim=OptimConfig(batch=4), run=run), held_out):
        pass
    return folder


def test_split_with_images_means_what_it_says(photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also by other names, for a part of a split, and in a folder without splits; by default the images that are not trained on."""
    model = saved(tmp_path / "model", ImageSpec(1, 8, 8, 4))
    for flag in ("--images", "--data"):
        for split, count in (("train", 6), ("test", 3), ("Testing", 3), ("train[:2]", 2), (None, 3)):
            found, _ = ask(capsys, "evaluate", model, flag, photographs, *(["--split", split] if split else []))
            assert (found["images"], found["split"]) == (count, split or "test")
        for split, count in (("train", 5), ("test", 1), ("all", 6), (None, 6)):
            found, _ = ask(capsys, "evaluate", model, flag, photographs / "Training", *(["--split", split] if split else []))
            assert found["images"] == count
    assert "has the splits train, test, got 'val'" in refusal(capsys, "evaluate", model, "--images", photographs, "--split", "val")


def test_a_model_of_a_folder_is_scored_on_what_was_held_out(photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However the folder is named: not on the images that it was trained on, and with the preprocessing of its training.

    It has to be named: a path in a model's folder is text of whoever wrote it.
    """
    flat, options = photographs / "Training", DataOptions(levels=4, grey=True)
    model = trained(tmp_path / "model", load_dataset(str(flat), "train", options), load_dataset(str(flat), "test", options))
    assert f"give --data {flat}" in refusal(capsys, "evaluate", model)
    for source in (["--images", flat], ["--data", flat], ["--data", f"folder:{flat}"], ["--data", f"{flat}/../Training"]):
        found, _ = ask(capsys, "evaluate", model, *source)
        assert found["as_trained"] and (found["images"], found["split"]) == (1, "test")


def test_broken_pictures_are_named_or_left_out(photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photographs / "Testing" / "10.png").write_bytes(b"hello")
    model = saved(tmp_path / "model", ImageSpec(3, 8, 8, 256), "pixelcnn++")    # of colours: grey images get three channels
    assert "10.png is not a whole image" in refusal(capsys, "score", model, "--images", photographs)
    found, said = ask(capsys, "score", model, "--images", photographs, "--skip-broken")
    assert found["images"] == 2 and "1 of 3 images cannot be read" in said and "10.png" in said
    assert "files passed over, since they are not images: 1 (1 .txt)" in said


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_of_the_models_levels(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scored as they are; other levels or shapes are refused, unless the file says what they are."""
    model, path = saved(tmp_path / "model", ImageSpec(1, 8, 8, 17)), tmp_path / f"x.{suffix}"
    x = np.random.RandomState(0).randint(0, 17, (20, 8, 8)).astype(np.uint8)
    np.save(path, x) if suffix == "npy" else np.savez(path, images=x)
    network = rastrum.load(str(model)).eval()
    assert isinstance(network, RasterModel)
    expected = network.log_prob(torch.from_numpy(x[:, None])).tolist()
    for flag in ("--images", "--data"):
        found, _ = ask(capsys, "score", model, flag, path, "--count", 20)
        assert [-nats for nats in found["nats"]] == pytest.approx(expected, abs=1e-3)
    assert ask(capsys, "score", model, "--images", path, "--split", "test")[0]["images"] == 2
    assert ask(capsys, "score", model, "--images", path, "--split", "train[:5]")[0]["images"] == 5
    np.save(path, 15 * x) if suffix == "npy" else np.savez(path, images=15 * x)
    assert "this model takes levels 0 … 16" in refusal(capsys, "score", model, "--images", path)
    np.savez(tmp_path / "said.npz", images=np.repeat(np.repeat(15 * x, 2, 1), 2, 2), levels=256)
    found, _ = ask(capsys, "score", model, "--images", tmp_path / "said.npz", "--count", 20)
    assert found["images"] == 20 and found["preprocessing"]["levels"] == 17


def test_training_on_16_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model of 65,536 levels trains on 16-bit pictures, is scored on them, and draws; as many levels as asked for likewise."""
    random = np.random.RandomState(0)
    (tmp_path / "scans").mkdir()
    for i in range(12):
        Image.fromarray(random.randint(0, 65536, (8, 8)).astype(np.uint16)).save(tmp_path / "scans" / f"{i:02}.png")
    for options, levels in ((DataOptions(), 65536), (DataOptions(levels=1000), 1000)):
        data, held_out = (load_dataset(str(tmp_path / "scans"), split, options) for split in ("train", "test"))
        assert data.spec.levels == levels
        model = trained(tmp_path / f"model{levels}", data, held_out, "pixelcnn++")
        found, _ = ask(capsys, "evaluate", model, "--images", tmp_path / "scans", "--split", "all")
        assert found["images"] == 12 and np.isfinite(found["nats"])
        ask(capsys, "score", model, "--data", tmp_path / "scans", "--reference", tmp_path / "scans", "--reference-split", "train")
        ask(capsys, "sample", model, "--count", 1, "--out", tmp_path / "x.png")
        assert Image.open(tmp_path / "x.png").size[0] > 0
