"""The studio: what its rooms answer, against the library and plain formulas; sessions; and, where the extra is there, its server."""

from __future__ import annotations

import gc
import json
import math
import re
import shutil
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
from torch import Tensor

import rastrum
from rastrum import CanvasModel, ConditionSpec, ImageSpec, RasterModel
from rastrum.cli import main
from rastrum.studio import session as sessions
from rastrum.studio.complete import COUNT, Complete, Example
from rastrum.studio.filters import Attend
from rastrum.studio.models import Models
from rastrum.studio.requests import Answer, Request, packed
from rastrum.studio.session import AHEAD, LONGEST, Session
from rastrum.studio.strokes import Strokes
from rastrum.studio.surprise import Surprise
from rastrum.studio.training import Training, thinned
from rastrum.studio.watch import Watch

SPEC = ImageSpec(1, 5, 4, 2)
STATIC = Path(rastrum.__file__).parent / "studio" / "static"
SOON = 20                      # seconds, on a machine that is busy


def unpack(text: str, kind: str = "u1") -> np.ndarray:
    return np.frombuffer(b64decode(text), f"<{kind}")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    built = {
        "classes": rastrum.build("gated-pixelcnn", SPEC, "tiny", ConditionSpec("class", 3), seed=1),
        "colour": rastrum.build("pixelcnn", ImageSpec(3, 4, 4, 4), "tiny", seed=2),
        "draw": rastrum.build("draw", SPEC, "tiny", seed=3),
        "video": rastrum.build("video-pixel-network", ImageSpec(1, 4, 4, 2, frames=2), "tiny"),
        "map": rastrum.build("gated-pixelcnn", SPEC, "tiny", ConditionSpec("map", (1, 5, 4))),
    }
    for name, model in built.items():
        model.save_pretrained(folder / name)
    return {name: str(folder / name) for name in built}


@pytest.fixture(scope="module")
def models(names: dict[str, str]) -> Models:
    return Models([*names.values()])


# ── rooms ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_models_that_no_room_can_show_are_left_out(models: Models, names: dict[str, str]) -> None:
    assert {row["name"] for row in models.described} == {names[name] for name in ("classes", "colour", "draw")}
    assert [row["classes"] for row in models.described] == [["0", "1", "2"], None, None]
    json.dumps(models.described, allow_nan=False)
    with pytest.raises(ValueError, match="no 'rastrum/photo'; it has"):
        models.get("rastrum/photo", RasterModel)
    with pytest.raises(ValueError, match="is a DRAW, expected a RasterModel"):
        models.get(names["draw"], RasterModel)


@pytest.mark.parametrize(("name", "given"), [("classes", 2), ("colour", None)])
def test_what_is_watched_is_what_the_library_draws(models: Models, names: dict[str, str], name: str, given: int | None) -> None:
    model = models.get(names[name], RasterModel)
    spec = model.spec
    first, *rows = Watch(names[name], seed=7, temperature=1.0, class_number=given).run(models)
    order = unpack(first["order"], "u4")
    x = np.empty(spec.size, np.int64)
    x[order] = np.concatenate([unpack(row["values"]) for row in rows])
    drawn = rastrum.sample(model, 1, given, seed=7).plain
    assert len(rows) == spec.height and x.reshape(spec.shape).tolist() == drawn[0].tolist()
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


def test_a_patch_is_read_through_gaussians(models: Models) -> None:
    """Equations 19, 20 and 25 to 27 of DRAW, in 0-based pixels."""
    image = np.random.default_rng(0).integers(0, 256, (28, 28))
    n, column, row, stride, sigma, gamma = 5, 10.5, 16.0, 1.5, 0.9, 0.8
    (answer,) = Attend(packed(image), n, row, column, stride, sigma, gamma).run(models)

    def bank(centre: float) -> np.ndarray:
        mu = centre + (np.arange(n) - (n - 1) / 2) * stride
        weights = np.exp(-((np.arange(28) - mu[:, None]) ** 2) / (2 * sigma**2))
        return weights / weights.sum(1, keepdims=True)

    rows, columns = bank(row), bank(column)
    expected = gamma * rows @ (image / 255) @ columns.T
    assert np.allclose(unpack(answer["patch"]).reshape(n, n), 255 * expected, atol=0.6)
    assert np.allclose(unpack(answer["rows"]).reshape(n, 28), 255 * rows / rows.max(), atol=0.6)
    assert answer["window"] == pytest.approx([row, column, 7, 7])


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
    '{"start": 1, "room": "complete", "model": "m", "image": "", "known": "", "particles": 1000}', " " * (LONGEST + 1),
]  # fmt: skip
REFUSED = [                    # read, and refused by the room
    {"room": "watch", "model": "/etc/passwd"},
    {"room": "surprise", "model": "classes", "image": "%%%"},
    {"room": "surprise", "model": "classes", "image": packed(np.zeros(3))},
    {"room": "surprise", "model": "classes", "image": packed(np.full(20, 2))},
    {"room": "watch", "model": "classes", "class_number": 3},
    {"room": "watch", "model": "classes"},
    {"room": "strokes", "model": "colour"},
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


def test_a_person_at_the_page(visit: Callable[..., Any], models: Models, names: dict[str, str]) -> None:
    """In a browser: watch a walk to its end, redraw with strokes, move a filter, and draw an image whose pixels are kept."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").sync_playwright
    chromium = shutil.which("chromium") or pytest.skip("chromium is not installed")
    from rastrum.studio.server import listen, server

    faults: list[str] = []
    serving, waiting = server(models, ""), listen("127.0.0.1", 0)
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [waiting]}, daemon=True)
    thread.start()
    try:
        with playwright() as play:
            browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1300, "height": 900}, reduced_motion="reduce")
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
            page.goto(f"http://127.0.0.1:{waiting.getsockname()[1]}/")
            facts = page.locator(".facts").first
            facts.filter(has_text="Value 20 of 20").wait_for()
            page.keyboard.press("ArrowUp")
            facts.filter(has_text="Value 16 of 20").wait_for()
            page.keyboard.press("3")
            facts.filter(has_text="It says").wait_for()
            page.keyboard.press("4")
            page.locator("input[name=stride]").fill("3")
            facts.filter(has_text="22.0 × 22.0 pixels").wait_for()
            page.locator("nav button", has_text="Complete").click()
            facts.filter(has_text="bits under the model").wait_for()
            page.get_by_text("Blank paper").click()
            page.locator("canvas.draw").focus()
            for key in (" ", "ArrowLeft", " "):                           # two pixels of ink, by the keyboard alone
                page.keyboard.press(key)
            facts.filter(has_text="bits under the model").wait_for()
            count = "c => [...c.getContext('2d').getImageData(0, 0, 4, 5).data].filter((v, i) => i % 4 == 0 && v == 255).length"
            inks = page.locator("figure canvas").evaluate_all(f"each => each.map({count})")
            assert len(inks) == COUNT and set(inks) == {2}                # all is known, so all completions are the drawing
            browser.close()
    finally:
        serving.should_exit = True
        thread.join(SOON)
    assert faults == []


def test_a_hundred_pages_in_turn_leave_memory_flat(visit: Callable[..., Any]) -> None:
    """Each draws, and a third of them leave in the middle."""
    client = visit()
    image = packed(np.zeros((28, 28)))
    ask = {"room": "filters", "image": image, "count": 28, "row": 1, "column": 1, "stride": 1, "sigma": 1}

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
