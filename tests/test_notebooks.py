"""A notebook, run by a kernel: what each cell shows, by type; and what the same objects show of themselves without one."""

from __future__ import annotations

import io
import time
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import rastrum
from rastrum.applications.anomaly import Scores
from rastrum.applications.detector import Detector
from rastrum.config import OptimConfig, RunConfig, TrainConfig
from rastrum.data import Dataset, load_dataset
from rastrum.evaluation import evaluate
from rastrum.notebook import table
from rastrum.protocol import Frame, ImageSpec
from rastrum.train import train

SPEC = ImageSpec(1, 8, 8, 17)
CELLS = {
    "setup": "import torch, rastrum, rastrum.progress\nrastrum.progress.DELAY = 600\nfrom rastrum.data import load_dataset\n"
    "from rastrum.evaluation import evaluate\n"
    "torch.set_num_threads(1)\ndata = load_dataset('digits', 'test')\nmodel = rastrum.build('pixelcnn', data.spec, 'tiny')",
    "images": "x = rastrum.sample(model, 6, backend='torch')\nx",
    "slice": "x[2:4]",
    "computed": "x / 2",
    "two channels": "rastrum.Images(torch.zeros(3, 2, 4, 4, dtype=torch.uint8), 2)",
    "frame": "frames = list(rastrum.generate(model, 4, backend='torch'))\nframes[3]",
    "data": "data",
    "model": "model",
    "show": "rastrum.show(x, title='samples')",
    "animate": "rastrum.animate(frames)",
    "score": "evaluate(model, data.subset(20), progress=True)",
    "check": "rastrum.check(model, values=4)",
    "train": "run = rastrum.train(model, data, steps=2)\nrun",
}
PNG, HTML, TEXT = "image/png", "text/html", "text/plain"


def pixelcnn(spec: ImageSpec) -> rastrum.RasterModel:
    model = rastrum.build("pixelcnn", spec, "tiny")
    assert isinstance(model, rastrum.RasterModel)
    return model


class _Reader(HTMLParser):
    """Tags that are open, and whether each was closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "input", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(html: str | None) -> list[tuple[str, dict[str, str | None]]]:
    assert html
    reader = _Reader()
    reader.feed(html)
    assert not reader.open
    return reader.tags


def picture(data: bytes | None) -> Image.Image:
    assert data is not None
    return Image.open(io.BytesIO(data)).convert("RGB")


def test_a_notebook_shows_everything_as_it_is_meant() -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS.values()])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = {name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)}
    assert not [each for cell in outputs.values() for each in cell if each.output_type in ("error", "stream")]

    def shown(name: str) -> Any:
        (result,) = (each for each in outputs[name] if each.output_type == "execute_result")
        return result.data

    kinds = {name: set(shown(name)) for name in CELLS if name != "setup"}
    assert kinds == {
        "images": {PNG, TEXT}, "slice": {PNG, TEXT}, "computed": {TEXT}, "two channels": {TEXT}, "frame": {PNG, TEXT},
        "data": {HTML, TEXT}, "model": {HTML, TEXT}, "show": kinds["show"], "animate": {HTML, TEXT}, "score": {HTML, TEXT},
        "check": {HTML, TEXT}, "train": {HTML, TEXT},
    }  # fmt: skip
    assert PNG in kinds["show"]
    assert shown("images")[TEXT].startswith("tensor([[[[")
    assert picture(b64decode(shown("images")[PNG])).size == (3 * 64 + 8, 2 * 64 + 6)
    assert "rastrum-player" in shown("animate")[HTML]
    (bar,) = (each.data for each in outputs["score"] if each.output_type == "display_data")
    assert '<progress max="1" value="1.0000"' in bar[HTML] and "20" not in bar[TEXT] and "images/s" in bar[TEXT]
    assert not [each for name in outputs if name != "score" for each in outputs[name] if each.output_type == "display_data"]


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_images_are_shown_with_their_levels() -> None:
    x = torch.arange(17, dtype=torch.uint8)[:16].view(16, 1, 1, 1).expand(16, 1, 8, 8)
    sheet = np.asarray(picture(rastrum.Images(x, 17)._repr_png_()))
    assert [int(sheet[30 + 66 * (i // 4), 30 + 66 * (i % 4), 0]) for i in range(16)] == [round(255 * i / 16) for i in range(16)]


def test_many_images_are_cut_with_a_line_that_says_so() -> None:
    few = rastrum.Images(torch.zeros(64, 1, 8, 8, dtype=torch.uint8), 2)
    many = rastrum.Images(torch.zeros(65, 1, 8, 8, dtype=torch.uint8), 2)
    small, large = picture(few._repr_png_()), picture(many._repr_png_())
    assert small.width == large.width and 10 < large.height - small.height < 40


def test_large_images_are_shown_small_and_soon() -> None:
    for shape in ((1, 3, 4096, 3000), (200, 3, 512, 512)):
        x = rastrum.Images(torch.zeros(shape, dtype=torch.uint8), 256)
        begin = time.perf_counter()
        shown = picture(x._repr_png_())
        assert shown.width * shown.height < 4e6 and time.perf_counter() - begin < 5


def test_videos_are_film_strips() -> None:
    x = rastrum.Images(torch.zeros(3, 5, 1, 8, 8, dtype=torch.uint8), 2, video=True)
    assert picture(x._repr_png_()).width == 5 * 66 + 2
    assert picture(x[0]._repr_png_()).width == 5 * 66 + 2                 # one of them
    assert picture(x[:, 0]._repr_png_()).size == (2 * 66 + 2, 2 * 66 + 2) # the first frame of each


@pytest.mark.parametrize("shape", [(3, 2, 4, 4), (0, 1, 4, 4), (2, 1, 0, 4)])
def test_what_has_no_picture_shows_none(shape: tuple[int, ...]) -> None:
    assert rastrum.Images(torch.zeros(shape, dtype=torch.uint8), 2)._repr_png_() is None
    assert Frame(torch.zeros(shape), None, 0.5)._repr_png_() is None


def test_what_cannot_be_drawn_shows_none_instead_of_an_error() -> None:
    x = rastrum.Images(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), 3)
    x += 7
    assert isinstance(x, rastrum.Images) and x._repr_png_() is None
    assert Frame(torch.full((2, 1, 4, 4), 9.0), None, 0.5)._repr_png_() is None


def test_a_frame_hatches_what_is_not_decided() -> None:
    frames = list(rastrum.generate(pixelcnn(SPEC), 1, backend="torch"))
    half = np.asarray(picture(frames[4]._repr_png_()))
    assert (half[2:34, 2:66, 0] == half[2:34, 2:66, 2]).all()             # grey values above, bluish hatching below
    assert (half[34:66, 2:66, 0] != half[34:66, 2:66, 2]).all()
    last = np.asarray(picture(frames[-1]._repr_png_()))
    assert (last[2:66, 2:66, 0] == last[2:66, 2:66, 2]).all()


def test_a_frame_of_a_video_hatches_too() -> None:
    order = torch.arange(2 * 4 * 4)
    shown = picture(Frame(torch.zeros(1, 2, 1, 4, 4), None, 0.5, info={"order": order})._repr_png_())
    pixels = np.asarray(shown)[24:]
    assert (pixels[:60, 2:66] == 0).all() and (pixels[:60, 70:130, 0] != pixels[:60, 70:130, 2]).all()


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_table_is_escaped_and_takes_the_colours_of_the_page() -> None:
    html = table("<b>", {"<i>": "a & <script>", "empty": "", "none": None})
    tags = read(html)
    assert {tag for tag, _ in tags} == {"div", "strong", "table", "tr", "th", "td"}
    assert "a &amp; &lt;script&gt;" in html and "empty" not in html and "none" not in html
    assert all("inherit" in style for _, attributes in tags if (style := attributes.get("style")) and "color:" in style)


def test_a_data_set_shows_its_images_classes_and_preparation() -> None:
    html = load_dataset("digits", "test")._repr_html_()
    assert html and "digits test" in html and "0: 36, 1: 36" in html and "1 x 8 x 8, 17 levels" in html
    (image,) = (attributes["src"] for tag, attributes in read(html) if tag == "img")
    assert image is not None and picture(b64decode(image.partition(",")[2])).width > 500
    two = Dataset("two", "all", ImageSpec(2, 4, 4, 2), torch.zeros(3, 2, 4, 4, dtype=torch.uint8))
    assert "img" not in {tag for tag, _ in read(two._repr_html_())}
    assert repr(two) == "Dataset('two', 'all': 3 images, 2 x 4 x 4, 2 levels)"
    evil = replace(two, name="<script>alert(1)</script>")._repr_html_()
    assert evil and "<script" not in evil


@pytest.mark.parametrize("name", rastrum.MODELS)
def test_every_model_shows_a_table(name: str) -> None:
    spec = ImageSpec(1, 8, 8, 2, frames=2 if name == "video-pixel-network" else 1)
    model = rastrum.build(name, spec, "tiny")
    html = model._repr_html_()
    read(html)
    parameters = f"{sum(p.numel() for p in model.parameters()):,}"
    assert html and name in html and parameters in html and model.spec.text in html
    assert parameters in repr(model) and "2 levels" in repr(model)


def test_a_saved_model_says_what_it_was_trained_on() -> None:
    html = rastrum.load("rastrum/gated-pixelcnn-binarized-mnist")._repr_html_()
    assert html and "binarized-mnist train" in html and "nats" in html


def test_results_show_tables_and_one_line() -> None:
    model, data = pixelcnn(SPEC), load_dataset("digits", "test").subset(8)
    evaluation = evaluate(model, data)
    states = list(train(model, data, TrainConfig(optim=OptimConfig(batch=4), run=RunConfig(steps=2)), data))
    usual = Scores(torch.tensor([100.0, 120.0]), torch.tensor([90.0, 80.0]))
    report = rastrum.check(model, values=2)
    for each in (evaluation, *states, usual, Detector(usual, "abc", "<digits>"), report):
        html = each._repr_html_()
        read(html)
        assert html and "<digits>" not in html
    assert all(len(repr(each)) < 200 and "\n" not in repr(each) for each in (evaluation, *states, usual, Detector(usual, "abc")))
    assert repr(report) == str(report) and report.ok and "✓" in (report._repr_html_() or "")
    assert "bits/dim" in (evaluation._repr_html_() or "")


# ── show and animate ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_levels_and_pictures_are_shown_alike() -> None:
    x = rastrum.Images(torch.randint(0, 17, (5, 1, 8, 8), generator=torch.Generator().manual_seed(0)), 17)
    expected = rastrum.show(x)
    model = pixelcnn(SPEC)
    same = [(x.plain, 17), (x.plain.numpy(), SPEC), (x.plain, model), (x.pictures(), None), (SPEC.pictures(x), None),
            (list(x), None), ([image.numpy() for image in x.pictures()], None)]  # fmt: skip
    for shown, levels in same:
        assert rastrum.show(shown, levels).tobytes() == expected.tobytes()


def test_everything_that_can_be_shown(tmp_path: Any) -> None:
    data, x = load_dataset("digits", "test"), torch.zeros(2, 3, 1, 8, 8)
    path = tmp_path / "x.png"
    rastrum.show(data, most=10, columns=5, title="digits").save(path)
    assert Image.open(path).width == 5 * 66 + 2
    assert rastrum.show(path).width > 5 * 66
    assert rastrum.show(Image.open(path), scale=2).width == 2 * Image.open(path).width + 8
    double = rastrum.show(data, most=10, columns=5, title="digits", scale=16)
    assert double.size == (2 * Image.open(path).width, pytest.approx(2 * Image.open(path).height, abs=4))
    assert rastrum.show("digits", most=3).height == rastrum.show(data, most=3).height
    assert rastrum.show(x).size == (3 * 66 + 2, 2 * 66 + 2)               # completions: a row each
    named = rastrum.show(x, labels=["a", "b"])
    assert named.height == 2 * 66 + 2 and named.width > 3 * 66 + 2
    assert rastrum.show(x, labels=range(6)).height > 2 * 80
    assert rastrum.show(torch.zeros(8, 8)).size == rastrum.show(torch.zeros(1, 8, 8)).size == (68, 68)
    assert rastrum.show(torch.zeros(8, 8, dtype=torch.bool)).size == (68, 68)
    assert rastrum.show(torch.zeros(100, 1, 8, 8), most=None, columns=10).size == (662, 662)
    mixed = [data.images[0], Image.new("RGBA", (8, 8)), Frame(torch.zeros(1, 1, 8, 8), None, 1.0), data]
    assert rastrum.show(mixed, most=9).width == 3 * 66 + 2
    assert rastrum.show([Image.new("RGBA", (8, 8))]).getpixel((30, 30)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("x", "keywords", "message"),
    [
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), {}, "how many levels"),
        (torch.zeros(2, 2, 8, 8), {}, "1 or 3 channels"),
        (np.zeros((5, 8, 8)), {}, r"x\[:, None\]"),
        (np.zeros((8, 8, 3)), {}, "moveaxis"),
        (torch.full((2, 1, 8, 8), 3), {"levels": 3}, "0 … 2"),
        (torch.full((2, 1, 8, 8), 3.0), {}, r"\[0, 1\]"),
        (torch.zeros(2, 1, 8, 8), {"labels": ["a"]}, "expected 2, one per image, got 1"),
        (torch.zeros(2, 1, 8, 8), {"most": 0}, "most"),
        (torch.zeros(0, 1, 8, 8), {}, "no image"),
        ([], {}, "no image"),
        (3, {}, "got int"),
        ("no-such-file.png", {}, "no file and no data set"),
        (Image.new("I;16", (4, 4)), {}, "levels=65536"),
    ],
)
def test_what_cannot_be_shown_says_the_remedy(x: Any, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rastrum.show(x, **keywords)


def test_an_animation_of_a_walk_plays_and_is_saved(tmp_path: Any) -> None:
    model, done = pixelcnn(SPEC), []
    animation = rastrum.animate(rastrum.generate(model, 3, backend="torch"), fps=4, title="three <b>", progress=done.append)
    assert len(animation) == 9 and done == [i / 8 for i in range(9)]
    html = animation._repr_html_()
    assert html and html.count("rastrum-player") and "three &lt;b&gt;" in html and 'data-fps="4"' in html
    first, last = (np.asarray(animation.pictures[i]) for i in (0, -1))
    assert (first[40, 2:66, 0] != first[40, 2:66, 2]).all() and (last[40, 2:66, 0] == last[40, 2:66, 2]).all()
    animation.save(tmp_path / "x.gif")
    with Image.open(tmp_path / "x.gif") as saved:
        assert getattr(saved, "n_frames", 1) > 1 and saved.size == animation.pictures[0].size
    again = rastrum.animate(list(rastrum.generate(model, 3, backend="torch")), title="three <b>")
    assert [each.tobytes() for each in again.pictures] == [each.tobytes() for each in animation.pictures]


def test_an_animation_of_videos_reconstructions_and_pictures() -> None:
    videos = torch.zeros(3, 5, 1, 8, 8)
    spec = ImageSpec(1, 8, 8, 2, frames=5)
    for shown, levels in ((videos, None), (videos[0], None), (videos.long(), 2), (videos.long(), spec), (spec.levels_of(videos), None)):
        assert len(rastrum.animate(shown, levels)) == 5
    model, x = rastrum.build("draw", ImageSpec(1, 8, 8, 2), "tiny"), torch.ones(2, 1, 8, 8, dtype=torch.uint8)
    assert isinstance(model, rastrum.CanvasModel)
    canvases = rastrum.animate(rastrum.reconstruct(model, x))
    rows = rastrum.animate(rastrum.reconstruct(model, x), 2, images=x)
    assert len(canvases) == model.steps + 1 and len(rows) == model.steps and rows.pictures[0].width > canvases.pictures[0].width
    assert len(rastrum.animate([Image.new("L", (4, 4)), torch.zeros(1, 4, 4)])) == 2
    for wrong, message in ((model, "got DRAW"), (torch.zeros(4, 4), "expected videos"), (iter(()), "no frame"),
                           ([torch.zeros(1, 4, 4), torch.zeros(1, 5, 9)], "one size")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            rastrum.animate(wrong)
    with pytest.raises(ValueError, match="reconstruct"):
        rastrum.animate([torch.zeros(1, 4, 4)] * 2, images=x)
