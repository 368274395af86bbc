"""The demo: a page in one file, whose figures are those of the run."""

import json
import math
import re
import zlib
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

import rastrum
from rastrum import ConditionSpec
from rastrum.applications.bayes_classifier import class_log_probs
from rastrum.data.dataset import load_dataset
from rastrum.demo import run as demo
from rastrum.demo.run import run_demo
from rastrum.pictures import html as report
from rastrum.pictures.films import encode_animation

FILES = [
    "bundled-samples.png", "bundled-rows.gif", "bundled-copies.gif", "bundled-strokes.png",
    "samples.png", "pixels.gif", "completions.png", "decision.svg", "surprise.svg",
    "draw-attention.gif", "draw-no-attention.gif", "strokes.png", "learning.svg", "report.html",
]  # fmt: skip
LINKS = ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
SCALE, GAP, TOP = 22, 6, 56    # of the sheet of completions: pixels per pixel, gutter, height of the labels


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, run_demo(folder, minutes=0.02, quick=True)


def test_everything_is_written(run):
    """The pictures that the README promises, each readable, the animations moving."""
    folder, result = run
    assert sorted(result["files"]) == sorted(FILES) == sorted(path.name for path in folder.iterdir())
    for path in folder.glob("*.[pg][ni][gf]"):
        with Image.open(path) as picture:
            picture.load()
            assert picture.width > (600 if path.name == "strokes.png" else 1200)       # as wide as the page; fewer strokes in a quick run
            assert (getattr(picture, "n_frames", 1) > 3) == (path.suffix == ".gif")
    for path in folder.glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3_000_000


class Page(HTMLParser):
    """Collects unclosed tags, and everything that a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.frames: list[str] = []
        self.names: list[str | None] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        values = dict(attrs)
        self.references += [value or "" for name, value in attrs if name in LINKS]
        self.frames += json.loads(values.get("data-frames") or "[]")
        self.names += [values["id"]] if "id" in values else []
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_self_contained(run):
    """One file that loads nothing; it contains every picture once, and every score in its table. Its one script plays the animations, whose
    frames are all there; charts are drawn in the page's colours, and their parts have names of their own."""
    folder, result = run
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert not page.open and page.tags.count("script") == 1 and not {"link", "iframe", "object"} & {*page.tags}
    films = [name for name in FILES if name.endswith(".gif")]
    drawn = [link for link in page.references if not link.startswith("#")]
    assert all(link.startswith("data:image/") for link in drawn)
    assert page.tags.count("img") == len([name for name in FILES if name.endswith((".png", ".gif"))])
    assert text.count('class="rastrum-player"') == len(films)
    assert len(page.frames) == sum(len(report.film((folder / name).read_bytes())[0]) for name in films)
    assert text.count('class="chart"') == 3 and len(page.names) == len({*page.names})
    for chart in re.findall(r'<svg class="chart".*?</svg>', text, re.DOTALL):
        assert "currentColor" in chart
        parts = {colour: [int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in re.findall(r"#[0-9a-f]{6}", chart)}
        assert not {colour for colour, rgb in parts.items() if max(rgb) - min(rgb) < 24}, "greys that do not follow dark mode"
    assert "@import" not in text and not re.search(r"url\((?!#)|https?://", text)
    assert "prefers-color-scheme: dark" in text and "@media print" in text
    for score in result["scores"]:
        assert f"{score['bits']:.3f}" in text
    for years in ("1606.05328", "1502.04623"):
        assert years in text


def test_baselines_against_direct_computation(run):
    """Each baseline is computed again: logarithm, counts, and files that decode to the images."""
    scores = {score["name"]: score for score in run[1]["scores"]}
    digits, held_out = (load_dataset("digits", split).images.numpy()[:, 0] for split in ("train", "test"))
    assert scores["uniform: every level equally likely"]["bits"] == pytest.approx(4.087, abs=5e-4)
    bits = np.zeros(len(held_out))
    for row in range(8):
        for column in range(8):
            counts = np.bincount(digits[:, row, column], minlength=17) + 1
            bits -= np.log2(counts / counts.sum())[held_out[:, row, column]]
    histogram = scores["histogram of each pixel, from the training digits"]
    assert histogram["bits"] == pytest.approx(bits.mean() / 64)
    assert histogram["error"] == pytest.approx(bits.std(ddof=1) / math.sqrt(len(bits)) / 64)
    stream = zlib.compress(held_out.tobytes(), 9)
    assert zlib.decompress(stream) == held_out.tobytes()
    assert scores["zlib, one stream of them all"]["bits"] == pytest.approx(8 * len(stream) / held_out.size)
    assert scores["PNG, one file per image"]["bits"] > scores["PNG, one tall image of them all"]["bits"]


def test_scores_of_models_are_exact(run):
    """With its class: the log-probability given the class. Without: the mean of the probability over classes, summed here again."""
    held_out = load_dataset("digits", "test").subset(7)
    model = rastrum.build("gated-pixelcnn", held_out.spec, preset="tiny", condition=ConditionSpec("class", 10))
    assert isinstance(model, rastrum.RasterModel) and held_out.labels is not None
    draw = rastrum.build("draw", held_out.spec, preset="tiny")
    assert isinstance(draw, rastrum.CanvasModel)
    scores, right = demo._scores(held_out, held_out, -class_log_probs(model, held_out.images, 10), draw, draw)
    by_name = {score.name: score for score in scores}
    with torch.no_grad():
        p = torch.stack([model.double().log_prob(held_out.images, torch.full((7,), c)).exp() for c in range(10)], 1)
        bound = -draw.bound(held_out.images, seed=0)
    given = -torch.log2(p[torch.arange(7), held_out.labels]).mean() / 64
    assert by_name["Gated PixelCNN, given the class"].bits == pytest.approx(float(given), rel=1e-5)
    assert by_name["Gated PixelCNN, not given the class"].bits == pytest.approx(float(-torch.log2(p.mean(1)).mean() / 64), rel=1e-5)
    assert by_name["DRAW"].bits == pytest.approx(float(bound.mean()) / 64 / math.log(2), rel=1e-5)
    assert by_name["DRAW"].kind == "bound"
    assert right == pytest.approx(float((p.argmax(1) == held_out.labels).double().mean()))


def test_completions_keep_the_upper_half(run):
    """The upper half of each completion of the first held-out nought is that of the nought itself."""
    picture = np.asarray(Image.open(run[0] / "completions.png").convert("RGB")).astype(int)
    held_out = load_dataset("digits", "test")
    assert held_out.labels is not None
    digit = held_out.images[int((held_out.labels == 0).nonzero()[0])][0, :4].numpy().astype(float).repeat(SCALE, 0).repeat(SCALE, 1)
    for k in range(6):
        left = picture.shape[1] - (k + 1) * (8 * SCALE + GAP)               # from the right
        assert abs(picture[TOP : TOP + 4 * SCALE, left : left + 8 * SCALE] - np.rint(digit * 255 / 16)[..., None]).max() == 0


def test_a_film_runs_as_its_animation_does():
    """Equal frames in a row are one in a GIF: the player shows them as often, as fast, and the last as long."""
    black, white = (Image.new("RGB", (4, 4), colour) for colour in ("black", "white"))
    frames, fps, hold = report.film(encode_animation([black, black, white, black], 8, 3))
    assert [frame.getpixel((0, 0)) for frame in frames] == [(0,) * 3, (0,) * 3, (255,) * 3, (0,) * 3]
    assert fps == pytest.approx(8, rel=0.05) and hold == 3


def test_text_is_escaped_and_wraps():
    """A page shows any text as it was written."""
    film = encode_animation([Image.new("RGB", (4, 4))])
    section = report.Section("a < b", ["x & y\n   <script>", report.Table(["<i>"], [["&"]]), report.Picture(film, '"', "<b>")])
    html = report.page("<t>", "&", [section])
    assert "a &lt; b" in html and "x &amp; y &lt;script&gt;" in html and "rastrum-player" in html
    assert html.count("<script>") == 1 and "<i>" not in html and "<t>" not in html


def test_no_time_is_named():
    """A budget of nothing is refused before any work."""
    with pytest.raises(ValueError, match=r"minutes.*0"):
        run_demo("nowhere", minutes=0)


@pytest.mark.slow
def test_the_whole_demo(tmp_path):
    """In its default time the exact model beats every baseline and tells the digits apart."""
    result = run_demo(tmp_path)
    bits = {score["name"]: score["bits"] for score in result["scores"]}
    gated = bits.pop("Gated PixelCNN, given the class")
    assert gated < min(bits.values())
    assert result["classes_right"] > 0.9
    assert bits["DRAW"] < bits["histogram of each pixel, from the training digits"]
