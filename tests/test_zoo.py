"""The zoo: every model of the package with its own facts, commands that run, and a page that holds together; and any that is added."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import rastrum
from rastrum import ConditionSpec, ImageSpec, checkpoint, zoo
from rastrum.checkpoint import BUNDLED_FOLDER, Origin, bundled, save_pretrained
from rastrum.cli import main
from rastrum.config import DataConfig, Score
from rastrum.recipes import RECIPES
from rastrum.zoo.entry import Entry
from rastrum.zoo.pictures import picture_of

TINY = ImageSpec(1, 6, 6, 2)
SCORE = Score(value=12.5, error=0.25, unit="nats", kind="exact", images=40, split="test")


def test_every_bundled_model_is_there_with_its_own_facts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "--json"]) == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)["models"]}
    assert list(found) == bundled()
    for name, each in found.items():
        folder = BUNDLED_FOLDER / name.removeprefix("rastrum/")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        assert each["bytes"] == (folder / "model.safetensors").stat().st_size and each["system"] == config["model"]
        assert each["scores"] == config["results"] and each["training"] == config["training"]
        assert each["commands"]["train"] == config["recipe"]["commands"] and each["about"] == RECIPES[config["recipe"]["name"]].about
        assert f"| parameters | {each['parameters']:,} |" in (folder / "README.md").read_text(encoding="utf-8")


def test_the_table_fits_a_terminal_and_names_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo"]) == 0
    table, *rest = capsys.readouterr().out.split("\n\nrastrum/")
    assert len(rest) == len(bundled()) and all(len(line) <= 80 for line in table.splitlines())
    for entry in zoo.entries():
        assert entry.title in table and entry.score in table


@pytest.mark.parametrize("name", bundled())
def test_its_commands_run_as_they_stand(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that draw or code, with this model and no other; training and scoring need data."""
    monkeypatch.chdir(tmp_path)
    (entry,) = zoo.entries([name])
    pixels = np.random.RandomState(0).randint(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels[..., 0] if entry.model.spec.channels == 1 else pixels).save("photo.png")
    for what in entry.commands.keys() & {"draw", "use"}:
        for command in entry.commands[what]:
            program, *words = shlex.split(command)
            assert program == "rastrum" and words.count("--model") <= 1 and main(words) == 0
    for file in tmp_path.glob("*.rastrum"):
        capsys.readouterr()
        assert main(["info", str(file), "--json"]) == 0 and json.loads(capsys.readouterr().out)["files"][0]["model"] == name
    assert len(list(tmp_path.iterdir())) > 1
    exec(compile(entry.example, name, "exec"), {}) if "load_dataset" not in entry.example else None


class Reader(HTMLParser):
    """Identifiers and links of a page, and what it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if tag == "a" else []
        self.loaded += [str(given[key])[:30] for key in ("src", "srcset", "href", "data-src") if key in given and tag != "a"]


def test_the_page_holds_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its table leads to every section, it loads nothing, and it has each score; an animation of the videos, two drawings of a slide."""
    names = ["photo-grey", "rastrum/video-pixel-network-moving-mnist-small", "gated-pixelcnn-binarized-mnist"]
    assert main(["zoo", *names, "--out", str(tmp_path / "zoo"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in found["pictures"]] == ["rastrum/" + name.removeprefix("rastrum/") for name in names]
    text = (tmp_path / "zoo" / "index.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert reader.links and {link.removeprefix("#") for link in reader.links} <= set(reader.ids)
    assert all(each.startswith("data:") for each in reader.loaded) and "https://" not in text.replace("http://www.w3.org", "")
    assert text.count("rastrum-player") > 1 and text.count("prefers-color-scheme: dark)\"><img") == 1
    for entry in zoo.entries(names):
        assert entry.score in text and str(entry.origin.results[0]) in text


ADDED: dict[str, Any] = {
    "made-of-strokes": ("draw", None, TINY, "generation"),
    "layers": ("conv-draw", None, TINY, "generation"),
    "one-stroke": ("vae", None, TINY, "vae"),
    "adversary": ("gran", None, ImageSpec(1, 8, 8, 2), "gran"),
    "another": ("dcgan", None, ImageSpec(1, 8, 8, 2), None),
    "strokes-of-a-class": ("draw", ConditionSpec("class", 3), TINY, None),
    "steered": ("gated-pixelcnn", ConditionSpec("vector", 3), TINY, "vector"),
    "scales": ("multiscale-pixelrnn", None, ImageSpec(1, 8, 8, 2), None),
}


@pytest.mark.parametrize("name", ADDED)
def test_a_model_that_is_added_to_the_package_is_shown(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its folder alone: its facts, a command and a picture, which is in pixels of more than one colour."""
    system, condition, spec, figure = ADDED[name]
    origin = Origin(data=DataConfig(name="digits"), training="3 CPU-minutes of one core, 5 steps of 2", results=(SCORE,))
    save_pretrained(rastrum.build(system, spec, "tiny", condition, seed=0), tmp_path / name, origin)
    monkeypatch.setattr(checkpoint, "BUNDLED_FOLDER", tmp_path)
    assert main(["zoo", "--out", str(tmp_path / "page"), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["models"]
    assert (found["name"], found["system"], found["scores"][0]["value"]) == (f"rastrum/{name}", system, 12.5)
    assert all(name in command for command in found["commands"].get("draw", ()))
    text = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "12.50 ± 0.25 nats (40 test images, exact)" in text and f'<section id="{name}">' in text
    (entry,) = zoo.entries([name])
    assert entry.figure == figure and entry.origin.trained_for == "3 CPU-minutes of one core"
    assert len(picture_of(entry).data) > 1000


def test_a_folder_that_says_little_is_shown_too() -> None:
    model = rastrum.build("pixelcnn", TINY, "tiny", seed=0)
    entry = Entry("rastrum/photo", replace_origin(model, Origin()))
    assert (entry.score, entry.origin.trained_for, entry.about, entry.commands["train"]) == ("", "", "", ())


def replace_origin(model: Any, origin: Origin) -> Any:
    model.origin = replace(origin)
    return model


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "draw-binarised-mnist"]) == 2
    assert "rastrum/draw-binarized-mnist" in capsys.readouterr().err
