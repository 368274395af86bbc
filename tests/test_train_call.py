"""``rastrum.train(…)``, and the module of the same name."""

from __future__ import annotations

import inspect
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rastrum
from rastrum import Images, ImageSpec
from rastrum.config import DataOptions, OptimConfig, RunConfig, TrainConfig
from rastrum.data import Dataset, load_dataset
from rastrum.recipes import RECIPES
from rastrum.train import resume, train
from rastrum.trained import Trained

SPEC = ImageSpec(1, 8, 8, 17)
LEVELS = torch.randint(0, 5, (12, 1, 6, 6), generator=torch.Generator().manual_seed(0))
SHORT = {"steps": 2, "preset": "tiny"}


@pytest.mark.parametrize(
    "imports",
    ["import rastrum", "import rastrum.train", "import rastrum\nrastrum.train\nimport rastrum.demo.run", "from rastrum import *"],
)
def test_the_name_is_the_function_and_the_module_in_any_order(imports: str) -> None:
    code = f"{imports}\nimport sys, types, rastrum\nfrom rastrum.train import train as loop, resume\nassert callable(rastrum.train)\n"
    code += "assert rastrum.train.train is loop and rastrum.train.resume is resume and sys.modules['rastrum.train'] is rastrum.train\n"
    code += "assert isinstance(rastrum.train, types.ModuleType)\nfrom rastrum import train\nassert train is rastrum.train\n"
    code += "try: rastrum.train('nope')\nexcept ValueError as error: assert 'nope' in str(error)\nelse: raise SystemExit(1)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_says_what_it_takes() -> None:
    assert list(inspect.signature(rastrum.train).parameters)[:4] == ["model", "data", "config", "held_out"]


def test_it_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(rastrum.train)) is rastrum.train
    assert pickle.loads(pickle.dumps(train)) is train


def test_a_model_and_data_by_name() -> None:
    run = rastrum.train("gated-pixelcnn", "digits", conditional=True, **SHORT)
    assert isinstance(run, Trained) and run.steps == 2 and not run.interrupted and run.folder is None
    assert run.model.spec == SPEC and run.model.condition_spec is not None and not run.model.training
    assert run.evaluation is not None and run.evaluation.images == 100 and run.evaluations[-1] == (2, run.evaluation)
    assert [point.step for point in run.curve] == [1, 2]
    assert rastrum.sample(run.model, 2, condition=3, backend="torch").shape == (2, 1, 8, 8)
    origin = run.model.origin
    assert origin is not None and origin.data is not None and origin.data.name == "digits" and origin.results
    assert "\n" not in repr(run) and "held out" in repr(run) and run.picture().width > 300
    html = run._repr_html_()
    assert html and "image/png" in html and "2 in 0:0" in html


def test_it_is_the_loop() -> None:
    """The same weights as the generator gives with these settings."""
    data = load_dataset("digits").subset(40)
    config = TrainConfig(optim=OptimConfig(batch=8), run=RunConfig(steps=3, seed=5))
    models = [rastrum.build("pixelcnn", SPEC, "tiny") for _ in range(2)]
    losses = [state.loss for state in train(models[0], data, config)]
    run = rastrum.train(models[1], data, config)
    assert run.model is models[1] and run.evaluation is None and [point.loss for point in run.curve] == losses
    for one, other in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_recipe_by_its_name() -> None:
    recipe = RECIPES["gated-pixelcnn-digits"]
    run = rastrum.train("gated-pixelcnn-digits", steps=1)
    origin = run.model.origin
    assert origin is not None and origin.recipe == recipe.name and run.model.config == recipe.model
    assert (run.model.condition_spec is not None) == recipe.conditional
    with pytest.raises(ValueError, match="preset"):
        rastrum.train("gated-pixelcnn-digits", preset="tiny")


OWN = Dataset("own", "all", ImageSpec(1, 6, 6, 5), LEVELS)


@pytest.mark.parametrize("data", [LEVELS, LEVELS.numpy(), LEVELS.numpy().astype(np.uint8), OWN])
def test_levels_of_ones_own(data: Any) -> None:
    array = {} if isinstance(data, Dataset) else {"levels": 5}
    run = rastrum.train("pixelcnn", data, held_out=LEVELS[:4], **array, **SHORT)
    assert run.model.spec == ImageSpec(1, 6, 6, 5) and run.evaluation is not None and run.evaluation.images == 4
    again = rastrum.train(run.model, data if isinstance(data, Dataset) else torch.as_tensor(data), steps=1)
    assert again.model is run.model and again.evaluation is None
    assert rastrum.train("pixelcnn", Images(LEVELS, 9), **SHORT).model.spec.levels == 9


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    from PIL import Image

    for i in range(20):
        Image.fromarray(np.full((12, 12), 9 * i, np.uint8)).save(tmp_path / f"{i:02d}.png")
    run = rastrum.train("pixelcnn", tmp_path, options=DataOptions(size=6, levels=4), **SHORT)
    assert run.model.spec == ImageSpec(1, 6, 6, 4) and run.evaluation is not None and run.evaluation.images == 2
    assert rastrum.train("pixelcnn", str(tmp_path), held_out=False, options=DataOptions(size=6, levels=4), **SHORT).evaluation is None


def test_budgets_and_seeds() -> None:
    data = load_dataset("digits").subset(20)
    weights = [rastrum.train("pixelcnn", data, seed=seed, **SHORT).model.state_dict() for seed in (1, 1, 2)]
    same = [all(torch.equal(one, other) for one, other in zip(weights[0].values(), each.values(), strict=True)) for each in weights[1:]]
    assert same == [True, False]
    timed = rastrum.train("pixelcnn", data, minutes=0.01, preset="tiny")
    assert 0.3 < timed.seconds < 10
    config = TrainConfig(run=RunConfig(steps=50))
    assert rastrum.train("pixelcnn", data, config, steps=1, preset="tiny").steps == 1
    assert len(rastrum.train("pixelcnn", data, steps=900, preset="tiny", config=TrainConfig(optim=OptimConfig(batch=1))).curve) <= 400


def test_a_folder_holds_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = rastrum.train("pixelcnn", "digits", folder=folder, held_out="test[:8]", **SHORT)
    assert run.folder == folder and (folder / "metrics.jsonl").exists()
    saved = rastrum.load(folder)
    assert all(torch.equal(a, b) for a, b in zip(saved.state_dict().values(), run.model.state_dict().values(), strict=True))
    states = list(resume(folder, load_dataset("digits"), load_dataset("digits", "test[:8]"), steps=1))
    assert states[-1].step == 3


def test_ctrl_c_keeps_what_is_learned() -> None:
    assert threading.current_thread() is threading.main_thread()
    fractions: list[float] = []

    def interrupt(fraction: float) -> None:
        fractions.append(fraction)
        if len(fractions) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    run = rastrum.train("pixelcnn", "digits", steps=1000, preset="tiny", held_out=False, progress=interrupt)
    assert run.interrupted and run.steps == 4 and "interrupted" in repr(run) and not run.model.training
    assert torch.isfinite(next(run.model.parameters())).all()


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (("pixelcn",), {}, "did you mean pixelcnn"),
        ((3,), {}, "got int"),
        (("pixelcnn",), {}, "on which images"),
        (("pixelcnn", LEVELS), {}, "how many levels"),
        (("pixelcnn", LEVELS), {"levels": 2}, "0 … 1, got 0 … 4"),
        (("pixelcnn", LEVELS / 4), {"levels": 5}, "levels_of"),
        (("pixelcnn", LEVELS[:0]), {"levels": 5}, "no image"),
        (("pixelcnn", LEVELS[0]), {"levels": 5}, "got shape"),
        (("pixelcnn", [1, 2]), {}, "got a list"),
        (("pixelcnn", "digits"), {"levels": 4}, "DataOptions"),
        (("pixelcnn", LEVELS), {"levels": 5, "options": DataOptions()}, "images already"),
        (("pixelcnn", LEVELS), {"levels": 5, "held_out": "test"}, "by name"),
        (("pixelcnn", LEVELS), {"levels": 5, "held_out": True}, "got True"),
        (("pixelcnn", LEVELS), {"levels": 5, "conditional": True}, "no class"),
        (("pixelcnn", "no-such-data"), {}, "unknown data set"),
        (("pixelcnn", LEVELS), {"levels": 5, "steps": 0}, "above 0"),
        (("pixelcnn", LEVELS), {"levels": 5, "preset": "huge"}, "huge"),
        (("pixelcnn", LEVELS), {"levels": 5, "progress": "yes"}, "progress"),
    ],
)
def test_what_cannot_be_trained_says_why(arguments: tuple[Any, ...], keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rastrum.train(*arguments, **{"steps": 1} | keywords)


def test_a_result_is_not_a_model_but_has_one() -> None:
    run = rastrum.train("pixelcnn", LEVELS, levels=5, **SHORT)
    with pytest.raises(ValueError, match=r"give its \.model"):
        rastrum.sample(run, 1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="is what it is already"):
        rastrum.train(run.model, LEVELS, steps=1, conditional=False)
