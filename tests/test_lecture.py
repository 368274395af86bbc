"""The lecture: every figure is made and drawn, what it shows is what the models say, and the page holds together."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import rastrum
from rastrum import ConditionSpec, ImageSpec, checkpoint, lecture
from rastrum.checkpoint import Origin, save_pretrained
from rastrum.cli import main
from rastrum.config import Score
from rastrum.layers.attention import filter_bank
from rastrum.lecture import conditions, decisions, families, masks, strokes
from rastrum.lecture.figure import DRAW, Drawn, Film, Still, Trained, digits, disks, images_for, temperature_of
from rastrum.lecture.page import KEYS, SCRIPT
from rastrum.lecture.slide import DARK, LIGHT, Slide, evenly, hatched
from rastrum.pictures.page import Page

SMALL = Page(size=(960, 540))
TINY = ImageSpec(1, 6, 6, 2)
SEEN: dict[str, Drawn] = {}


def drawn(name: str, *models: Any) -> Drawn:
    """A figure; of the bundled models it is made once."""
    if models:
        return lecture.figure(name, *models)
    return SEEN.setdefault(name, lecture.figure(name))


def edges(pixels: np.ndarray) -> np.ndarray:
    """The outermost pixels."""
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def check(made: Drawn) -> None:
    """It has a title, a caption and a command; it has pixels, and nothing is cut off at its edges."""
    assert made.figure.title and made.figure.notes and made.figure.section
    assert made.caption == made.caption.strip() and made.caption.endswith(".") and "  " not in made.caption
    assert made.command.startswith(f"rastrum figure {made.figure.name}")
    for each in made.models:
        assert each.address in made.caption
    if isinstance(made.content, Film):
        frames = [np.asarray(frame) for frame in islice(made.content.frames(SMALL), 2)]
        assert all(frame.shape == (540, 960, 3) for frame in frames) and (frames[0] != frames[1]).any()
        return
    with Image.open(io.BytesIO(made.encode(".png", SMALL))) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape == (540, 960, 3)
    assert (edges(pixels) == 255).all(), "something is cut off"
    assert (pixels != 255).mean() > 0.01


@pytest.mark.parametrize("name", lecture.available())
def test_a_figure_of_bundled_models(name: str) -> None:
    check(drawn(name))


def tiny(system: str, condition: ConditionSpec | None = None, spec: ImageSpec = TINY, **sizes: Any) -> Any:
    return rastrum.build(system, spec, "tiny", condition, seed=0, **sizes).eval()


def scored(model: Any, value: float) -> Any:
    """The model, with a score as a folder states it."""
    model.origin = Origin(training="3 CPU-minutes of one core", results=(Score(value=value, unit="nats", kind="exact"),))
    return model


NATS = {"pixel-lstm": 30.5, "pixelcnn": 21.5, "row-lstm": 20.75, "diagonal-bilstm": 20.25}
GIVEN = {
    "betas": lambda: [tiny("conv-draw", beta=0.5), tiny("conv-draw", beta=2.0), tiny("conv-draw")],
    "gran": lambda: [tiny("gran", spec=ImageSpec(1, 8, 8, 2))],
    "vae": lambda: [tiny("vae")],
    "attention": lambda: [tiny("draw"), tiny("draw", attention=False)],
    "two-digits": lambda: [tiny("draw")],
    "one-shot": lambda: [tiny("one-shot", ConditionSpec("map", (2, 6, 6)))],
    "ride": lambda: [tiny("spatial-lstm", spec=ImageSpec(1, 6, 6, 256))],
    "comparison": lambda: [scored(tiny(name), value) for name, value in NATS.items()],
    "vector": lambda: [tiny("gated-pixelcnn", ConditionSpec("vector", 3))],
    "multiscale": lambda: [tiny(name, spec=ImageSpec(1, 8, 8, 2)) for name in ("multiscale-pixelrnn", "pixelcnn")],
    "decision": lambda: [tiny("pixelcnn", spec=ImageSpec(1, 5, 5, 256))],
    "steps": lambda: [tiny("draw", attention=False)],
    "kl": lambda: [tiny("conv-draw", spec=ImageSpec(3, 8, 8, 256))],
}


def test_the_three_families_are_those_of_the_record(tmp_path: Path) -> None:
    """The slide is drawn of a folder that compare wrote; another one there gives another picture; it has no models."""
    made = drawn("families")
    check(made)
    record = families.RECORDED
    facts = json.loads((record / "comparison.json").read_text(encoding="utf-8"))
    assert facts["command"].startswith("rastrum compare ") and facts["command"] in made.caption and facts["date"] in made.caption
    assert facts["about"] in made.caption and made.models == ()
    (tmp_path / "comparison.json").write_text(json.dumps(facts | {"models": facts["models"][:2]}), encoding="utf-8")
    (tmp_path / "pictures.png").write_bytes(_upper_third((record / "pictures.png").read_bytes()))
    fewer = lecture.figure("families", tmp_path)
    check(fewer)
    assert fewer.command == f"rastrum figure families {tmp_path} --out families.png"
    assert fewer.encode(".png", SMALL) != made.encode(".png", SMALL)
    (tmp_path / "comparison.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"comparison\.json' cannot be read"):
        lecture.figure("families", tmp_path)
    with pytest.raises(ValueError, match="expected one at most, got 2"):
        lecture.figure("families", tmp_path, tmp_path)


def _upper_third(sheet: bytes) -> bytes:
    file = io.BytesIO()
    with Image.open(io.BytesIO(sheet)) as opened:
        opened.crop((0, 0, opened.width, opened.height // 3)).save(file, "PNG")
    return file.getvalue()


def test_files_on_the_slide_are_of_the_sizes_that_they_have() -> None:
    """The lossless file of the slide's picture decodes to it, and its bits are those of the map but for the header."""
    model: Any = rastrum.load("rastrum/photo-grey")
    picture = disks(1, 64, 64)
    file = rastrum.compress_image(model, picture[0].byte().numpy(), progress=False)
    assert (rastrum.decompress_image(file, model).squeeze() == picture[0].numpy()).all()
    bits = float(-model.log_prob(picture[None]).detach()) / np.log(2)
    assert bits / 8 < len(file) < bits / 8 + 64
    assert picture.min() >= 0 and picture.max() <= 255 and len(picture.unique()) > 50


def test_the_rates_of_the_slide_are_kept() -> None:
    """At each of the lecture's rates a model's file is within it, and its picture gets nearer."""
    from rastrum.applications.rates import RATES, by_model
    from rastrum.lecture.figure import photographs

    model: Any = rastrum.load("rastrum/conv-draw-cifar10-files")
    found = [mean for _, mean in by_model(model, photographs(2), RATES)]
    assert all((row.payload <= rate).all() for row, rate in zip(found, RATES, strict=True))
    quality = [float(row.psnr.mean()) for row in found]
    assert quality == sorted(quality) and quality[-1] > quality[0] + 3
    caption = drawn("concept").caption
    assert "no photographs" in caption and "rastrum/pixelcnn-plus-plus-cifar10" in caption


def test_temperature_is_what_the_folder_says(tmp_path: Path) -> None:
    model = tiny("pixelcnn")
    assert temperature_of(model) == 1 and "temperature" not in drawn("decision", model).caption
    save_pretrained(model, tmp_path / "cold", Origin(temperature=0.9))
    assert temperature_of(rastrum.load(tmp_path / "cold")) == 0.9
    assert "temperature 0.9" in drawn("decision", tmp_path / "cold").caption


@pytest.mark.parametrize("name", GIVEN)
def test_a_figure_of_models_that_are_given(name: str) -> None:
    made = drawn(name, *GIVEN[name]())
    check(made)
    assert made.command.startswith(f"rastrum figure {name} MODEL")


def test_the_seed_of_a_figure_is_stated_and_can_be_another() -> None:
    """Another seed draws other samples; caption and command name it, and only what was chosen by eye says so."""
    model = tiny("gated-pixelcnn", ConditionSpec("vector", 3))
    usual, other = lecture.figure("vector", model), lecture.figure("vector", model, seed=1)
    assert f"Seed {lecture.FIGURES['vector'].seed}." in usual.caption and "Seed 1." in other.caption
    assert other.command == "rastrum figure vector MODEL --seed 1 --out vector.png" and "--seed" not in usual.command
    assert usual.encode(".png", SMALL) != other.encode(".png", SMALL)
    assert "Seed 104, chosen by eye" in drawn("multiscale").caption
    with pytest.raises(ValueError, match="masks: takes no seed, got 0; leave it out"):
        lecture.figure("masks", seed=0)


def test_the_deviation_of_a_filter_is_that_of_its_gaussian() -> None:
    for centre, deviation in ((13.2, 1.7), (-4.0, 3.0), (30.0, 0.6)):    # the last two outside of the 28 pixels
        row = filter_bank(torch.tensor([centre], dtype=torch.float64), torch.tensor([deviation**2], dtype=torch.float64), 28)[0]
        assert strokes.deviation_of(row) == pytest.approx(deviation, rel=1e-6)


def test_skip_connections_that_a_model_lacks_are_dashed() -> None:
    for skip in (False, True):
        words = Words()
        drawn("residual", tiny("row-lstm", skip=skip)).content.draw(words)  # pyright: ignore[reportAttributeAccessIssue]
        assert any(line.get_linestyle() == "--" for line in words.axis.lines) == (not skip)
        assert ("dashed: the paper has them, this model does not" in words.words) == (not skip)


def test_every_figure_is_made_by_one_of_these_tests() -> None:
    assert set(lecture.FIGURES) == {*lecture.available(), *GIVEN}
    assert len(lecture.FIGURES) == sum(len(section.FIGURES) for section in lecture.SECTIONS)      # no name is there twice


def test_images_that_are_given_are_shown() -> None:
    """The chart of KL is of these images, not of others."""
    model = tiny("draw")
    x = torch.ones(5, *TINY.shape, dtype=torch.int64)
    trained = Trained("MODEL", model, x)
    assert images_for(trained, 3)[0].tolist() == x[:3].tolist()
    ours, others = (lecture.figure("kl", model, images=images).encode(".png", SMALL) for images in (x, 1 - x))
    assert ours != others


# ── what is shown is what the models say ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("centre", "own"), [("before", False), ("through", True)])
def test_masks_are_those_of_the_paper(centre: Any, own: bool) -> None:
    """Above, or in the row to the left, within the kernel; the pixel itself only with mask B; of its colours the earlier ones."""
    seen = masks.seen_by(masks.masked(3, centre, 3), 4, 5).numpy()
    for out, row, column, channel, r, c in np.ndindex(seen.shape):
        near = abs(r - row) <= 1 and abs(c - column) <= 1
        before = r < row or (r == row and c < column)
        itself = (r, c) == (row, column) and (channel < out or (own and channel == out))
        assert seen[out, row, column, channel, r, c] == (near and (before or itself))


def test_contexts_are_those_that_models_promise() -> None:
    """What perturbation finds is what ``context`` says, for a pixel of a PixelCNN, whose blind spot is earlier and not seen."""
    model = tiny("pixelcnn", spec=ImageSpec(1, 7, 7, 2), layers=1)
    kinds, promised = masks.kinds_of(model, (4, 3)), model.context()[4 * 7 + 3].view(7, 7)
    for r, c in np.ndindex(7, 7):
        earlier = r < 4 or (r == 4 and c < 3)
        expected = "ink" if (r, c) == (4, 3) else "sky" if promised[r, c] else "purple 55" if earlier else "fill"
        assert kinds[r][c] == expected


def test_modes_are_counted_inside_the_range() -> None:
    levels = torch.arange(256.0)
    bump = [torch.exp(-(((levels - centre) / 8) ** 2)) for centre in (60.0, 160.0)]
    one, two = bump[0], bump[0] + 0.5 * bump[1]
    spike = one.clone()
    spike[255] = 5.0                                                      # what lies beyond is no mode
    near = bump[0] + torch.exp(-(((levels - 70) / 8) ** 2))
    found = decisions.bimodality(torch.stack([p / p.sum() for p in (one, two, spike, near)]).double())
    assert found[0] < 1e-3 and abs(float(found[1]) - 0.5) < 0.02 and found[2] < 1e-3 and found[3] < 0.1
    ends = torch.full((1, 256), 1e-9, dtype=torch.float64)
    ends[:, [0, 255]] = torch.tensor([0.6, 0.4], dtype=torch.float64)    # of a softmax they are modes
    assert decisions.bimodality(ends) == 0 and abs(float(decisions.bimodality(ends, outermost=True)) - 2 / 3) < 1e-3


def test_known_pixels_follow_the_order() -> None:
    model = tiny("multiscale-pixelrnn", spec=ImageSpec(1, 4, 4, 2))
    assert decisions.known_before(model, 4).tolist() == [[r % 2 == c % 2 == 0 for c in range(4)] for r in range(4)]
    colour = tiny("pixelcnn", spec=ImageSpec(3, 2, 2, 2))
    assert decisions.known_before(colour, 4).tolist() == [[True, False], [False, False]]     # of the second pixel only red


def test_what_remains_ends_at_the_bound() -> None:
    """The curves of ``remains`` start without KL, and their sum after the last stroke is the bound of these images."""
    model: Any = rastrum.load(DRAW)
    x, _ = images_for(Trained(DRAW, model), strokes.MEASURED)
    content = strokes.remains(Trained(DRAW, model))
    slide = Recorder()
    content.draw(slide)
    remaining, spent, both = (np.array(line) for line in slide.lines)
    assert spent[0] == 0 and (np.diff(spent) > 0).all()
    assert both == pytest.approx(remaining + spent)
    assert both[-1] == pytest.approx(-float(model.bound(x, seed=0).detach().double().mean()), rel=1e-4)


class Recorder(Slide):
    """A slide that keeps the lines of its charts."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[list[float]] = []

    def chart(self, *where: Any) -> Any:
        chart, lines = super().chart(*where), self.lines
        chart.line = lambda across, up, *rest, **more: lines.append([float(v) for v in up])  # pyright: ignore[reportAttributeAccessIssue]
        return chart


def test_the_concept_names_the_lectures_rates_and_four_ways() -> None:
    """Five rates, four ways, and a quality for each; what takes more than its rate is said to."""
    content = drawn("concept").content
    assert isinstance(content, Still)
    texts = Words()
    content.draw(texts)
    assert [int(text.split()[0].replace(",", "")) for text in texts.words if text.endswith("\nbits")] == [153, 307, 460, 612, 1228]
    assert {text.partition(",")[0] for text in texts.words} >= {"JPEG", "JPEG 2000", "ConvDRAW"}
    assert sum("dB" in text for text in texts.words) == 5 * 4
    with pytest.raises(ValueError, match="posterior='uniform'"):
        lecture.figure("concept", tiny("conv-draw"))


class Words(Slide):
    """A slide that keeps its words."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def text(self, x: float, y: float, words: str, *rest: Any, **more: Any) -> None:
        self.words.append(words)
        super().text(x, y, words, *rest, **more)


def test_captions_state_what_the_folder_states() -> None:
    made = drawn("surprise")
    origin = rastrum.load(made.models[0].address).origin
    assert origin is not None and origin.training in made.caption and str(origin.results[0]) in made.caption
    words = Words()
    drawn("summary").content.draw(words)  # pyright: ignore[reportAttributeAccessIssue]
    for score in ("79.24 ± 0.20 nats", "≤ 85.01 ± 0.23 nats"):
        assert score in words.words


def test_networks_are_compared_by_the_scores_of_their_folders() -> None:
    """Each score is where the axis says, the better one further left; a ring for what the recipe's paper published."""
    models = GIVEN["comparison"]()
    models[1].origin = replace(models[1].origin, recipe="pixelcnn-binarized-mnist")
    words = Words()
    drawn("comparison", *models).content.draw(words)  # pyright: ignore[reportAttributeAccessIssue]
    found = [words.words.index(score) for score in map(str, NATS.values())]
    lines: list[Any] = list(words.axis.lines)
    dots = [float(line.get_xdata()[0]) for line in lines if line.get_marker() == "o"]
    assert found == sorted(found) and len(dots) == 5 and dots[1] == max(dots)                # PixelCNN's 81.30
    assert np.argsort([dots[0], *dots[2:]]).tolist() == [3, 2, 1, 0]
    models[2].origin = Origin()
    with pytest.raises(ValueError, match="whose folders state a score"):
        drawn("comparison", *models)


def test_a_figure_whose_models_are_not_bundled_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny("gran", spec=ImageSpec(1, 8, 8, 2)).save_pretrained(tmp_path / "mine")
    monkeypatch.setattr(checkpoint, "BUNDLED_FOLDER", tmp_path)
    there = lecture.available()
    assert {"masks", "reach", "families", "gran"} <= set(there) and not {"kl", "vae", "comparison", "attention"} & set(there)
    with pytest.raises(ValueError, match="no-attention is bundled; give models: rastrum figure attention FOLDER FOLDER"):
        lecture.figure("attention")


def test_a_picture_grows_from_coarse_to_fine() -> None:
    """What is shown of the first scale is the model's own sample at every second pixel of every second row."""
    models = GIVEN["multiscale"]()
    sheets = Sheets()
    drawn("multiscale", *models).content.draw(sheets)  # pyright: ignore[reportAttributeAccessIssue]
    x = rastrum.sample(models[0], 3, seed=lecture.FIGURES["multiscale"].seed or 0).numpy()[:, 0] * 255
    spacings = models[0].spacings
    _, *growing = sheets.rows[0]
    for picture, cells in zip(x, growing, strict=False):
        for space, cell in zip(spacings, cells, strict=True):
            assert (cell[..., 0] == picture[::space, ::space]).all()
    hidden = [np.isin(cell, (172, 208)).all(2).mean() for cell in sheets.rows[1][0]]
    assert hidden == pytest.approx([1 - 1 / space**2 for space in spacings]) and hidden[-1] == 0


class Sheets(Slide):
    """A slide that keeps the images of its sheets."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Any] = []

    def sheet(self, x: float, y: float, width: float, height: float, rows: Any, *rest: Any, **more: Any) -> Any:
        self.rows.append(rows)
        return super().sheet(x, y, width, height, rows, *rest, **more)


def test_small_things_to_draw_with() -> None:
    assert list(evenly(range(10), 4)) == [0, 3, 6, 9] and list(evenly("ab", 5)) == ["a", "b"]
    fine = hatched(np.full((1, 2, 3), 7, np.uint8), np.array([[True, False]]))
    assert (fine[:, :4] == 7).all() and set(np.unique(fine[:, 4:])) == {172, 208}
    assert LIGHT.colour("ink 0") == LIGHT.colour("paper") and LIGHT.colour("red 100") == LIGHT.colour("red")
    slide = Slide()
    image = np.zeros((7, 7, 3), np.uint8)
    assert slide.image(1, 1, 3.0, image) == 51 / 120                     # whole pixels: 357 of 360
    corner = slide.sheet(0, 0, 16, 9, [[image, image], [image, None]])
    (x0, y0, side), (x1, y1, _) = corner(0, 0), corner(1, 1)
    assert (x1 - x0) * 120 == pytest.approx(7 * side * 120 + 7) and (y1 - y0) == pytest.approx(x1 - x0)


def test_dark_pages_are_dark() -> None:
    with Image.open(io.BytesIO(drawn("skewed-map").encode(".png", SMALL, DARK))) as picture:
        assert np.asarray(picture.convert("L"))[0].max() < 40
    text = drawn("skewed-map").encode(".svg", theme=DARK).decode()
    assert 'width="1920pt" height="1080pt"' in text and "<text" in text


def test_a_title_is_above_the_page() -> None:
    pages = Page(size=(1200, 675)), Page(size=(1200, 675), title="A $")
    plain, titled = (np.asarray(Image.open(io.BytesIO(drawn("sizes").encode(".png", page))).convert("L")) for page in pages)
    assert plain.shape == titled.shape == (675, 1200)
    assert plain[15:45].min() == 255 and titled[15:45].min() < 100


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Reader(HTMLParser):
    """What a page refers to, and whether its tags are closed in order."""

    VOID = ("meta", "img", "source", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.files: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "poster", "href") and value:
                (self.anchors if value.startswith("#") else self.files).append(value)
            if name == "id" and value:
                self.ids.append(value)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    folder = tmp_path_factory.mktemp("slides")
    done: list[int] = []
    yield folder, lecture.write(folder, ("skewed-map", "redrawing", "sizes"), done.append)
    assert done == [1, 2, 3]


def test_the_page_refers_to_what_is_there(written: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, rows = written
    text = (folder / "index.html").read_text(encoding="utf-8")
    reader = Reader(text)
    assert reader.open == [] and len(set(reader.ids)) == len(reader.ids)
    assert reader.files and all((folder / name).is_file() for name in reader.files)
    assert [f"#{row['name']}" for row in rows] == reader.anchors
    assert "://" not in text and "@import" not in text
    for row in rows:
        assert row["command"] in text and all((folder / name).is_file() for name in row["files"])
    with Image.open(folder / "sizes.png") as picture:
        assert picture.size == (1920, 1080)
    assert (folder / "redrawing.mp4").stat().st_size > 1000 or (folder / "redrawing.webp").is_file()


def test_every_key_does_something() -> None:
    """Each action that a key or a button names is one that the script has."""
    keys = re.search(r"const keys = \{(.*?)\};", SCRIPT, re.DOTALL)
    acts = re.search(r"const act = \{(.*?)\n\};", SCRIPT, re.DOTALL)
    assert keys is not None and acts is not None
    named = set(re.findall(r'(?:\w+|"[^"]+"): "(\w+)"', keys[1]))
    assert named == {"next", "back", "first", "last", "full", "speaker", "glance", "help"}
    assert all(re.search(rf"\b{name}\b", acts[1]) for name in named) and len(KEYS) == 7


def test_the_documents_name_every_figure() -> None:
    text = (Path(__file__).parent.parent / "docs" / "lecture.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`([a-z-]+)`", text[text.index("## The figures") :])) >= set(lecture.FIGURES)
    rows = [line.split("|")[2] for line in text.splitlines() if line.startswith("|")][2:]
    assert {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)} == set(lecture.FIGURES)
    exec(re.findall(r"```python\n(.*?)^rastrum", text, re.DOTALL | re.MULTILINE)[0].replace('made.save("kl.svg")', ""), {})


# ── the commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_figure_by_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "map.svg"
    assert main(["figure", "skewed-map", "--out", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["name"] == "skewed-map" and answer["out"] == str(out) and b"<svg" in out.read_bytes()[:400]
    assert main(["figure"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in lecture.FIGURES)


def test_a_model_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny("draw").save_pretrained(tmp_path / "model")
    np.save(tmp_path / "x.npy", np.ones((3, 1, 6, 6), np.uint8))
    out = tmp_path / "kl.png"
    images = ["--images", str(tmp_path / "x.npy")]
    assert main(["figure", "kl", str(tmp_path / "model"), *images, "--out", str(out), "--size", "960x540", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert f"{tmp_path / 'model'} --images {tmp_path / 'x.npy'} --out" in answer["command"]
    assert "the mean over 3 images" in answer["caption"]
    with Image.open(out) as picture:
        assert picture.size == (960, 540)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["mask"], "unknown name 'mask'; did you mean masks"),
        (["vae", DRAW, DRAW], "expected 1 of the models vae, got 2"),
        (["masks", DRAW], "expected none of the models"),
        (["walk", DRAW], "expected a raster model of still images"),
        (["kl", "rastrum/row-lstm-mnist-classes"], "expected a canvas model with a posterior"),
        (["classes", DRAW], "with a class as its condition"),
        (["masks", "--out", "x.mp4"], "does not move"),
        (["redrawing", "--out", "x.svg"], "moves; expected a name that ends in .mp4"),
        (["masks", "--out", "x.txt"], "--out: expected a name that ends in"),
        (["masks", "--data", "digits"], "they are shown to the MODELs that are given"),
    ],
)
def test_what_cannot_be_drawn(
    command: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["figure", *command]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_unknown_figure_of_a_lecture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lecture", "--out", str(tmp_path / "slides"), "--only", "sizes", "chain-rul"]) == 2
    assert "did you mean chain-rule" in capsys.readouterr().err
    assert main(["lecture", "--out", str(tmp_path / "slides"), "--only", "sizes", "nope"]) == 2
    assert capsys.readouterr().err.strip().endswith("lecture --only: unknown figure 'nope'; `rastrum figure` lists them")
    assert not (tmp_path / "slides" / "index.html").exists()


def test_digits_need_no_data() -> None:
    x = digits(12)
    assert type(x) is Tensor and x.shape == (12, 1, 28, 28) and set(x.unique().tolist()) == {0, 1}
    assert isinstance(drawn("sizes").content, Still) and conditions.OWN > 5
