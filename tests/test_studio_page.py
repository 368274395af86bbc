"""The studio's page in a browser, each room used as a person would: connected to a studio, and as exported files."""

from __future__ import annotations

import io
import json
import re
import shutil
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from studio_models import save_models

from rastrum.checkpoint import bundled
from rastrum.cli import main
from rastrum.studio.complete import COUNT, Example
from rastrum.studio.export import STATIC, script
from rastrum.studio.models import Models

SOON = 20                      # seconds, on a machine that is busy


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run, which has a score and a sheet of samples."""
    run = tmp_path_factory.mktemp("runs") / "first"
    run.mkdir()
    line = {"step": 10, "elapsed": 30.0, "loss": 5.0, "bits_per_dim": 0.5, "held_out": {"nats": 4.0, "bits_per_dim": 0.4}}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(run / "samples-000010.png")
    return run.parent


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or pytest.skip("chromium is not installed")
    with import_module("playwright.sync_api").sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(names: dict[str, str], runs: Path) -> Iterator[str]:
    """Where a studio with all models and runs answers."""
    from rastrum.studio.server import listen, server

    serving, waiting = server(Models([*names.values()], runs), ""), listen("127.0.0.1", 0)
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [waiting]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{waiting.getsockname()[1]}/"
    serving.should_exit = True
    thread.join(SOON)


@pytest.fixture(scope="module")
def site(names: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported studio."""
    folder = tmp_path_factory.mktemp("export") / "site"
    assert main(["studio", *names.values(), "--export", str(folder)]) == 0
    return folder


class Visitor:
    """A person at the page: opens rooms by their keys, looks for text, chooses and presses."""

    def __init__(self, browser: Any, address: str, **how: Any) -> None:
        self.faults: list[str] = []
        self.page = browser.new_page(**{"viewport": {"width": 1300, "height": 900}, "reduced_motion": "reduce"} | how)
        self.page.set_default_timeout(1000 * SOON)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda message: self.faults.append(message.text) if message.type == "error" else None)
        self.page.goto(address)

    def room(self, title: str) -> None:
        names = self.page.locator("nav button")
        names.first.wait_for()
        self.page.keyboard.press(str(names.all_inner_texts().index(title) + 1))
        self.page.locator("nav button[aria-current=page]", has_text=title).wait_for()

    def model(self, name: str) -> None:
        self.page.locator("select[name=model]").select_option(name)

    def sees(self, text: str | re.Pattern[str]) -> str:
        found = self.page.locator("main .facts", has_text=text).first
        found.wait_for()
        return found.inner_text()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def sees_other(self, before: str) -> str:
        """What the first facts are once they are no longer those from before."""
        self.page.wait_for_function("before => document.querySelector('main .facts').innerText !== before", arg=before)
        return self.page.locator("main .facts").first.inner_text()

    def pixels(self, which: str) -> np.ndarray:
        """Of the canvases that match, which are of one size: (N, H, W, 4)."""
        read = "each => each.map(c => [c.height, c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data])"
        found = self.page.locator(which).evaluate_all(read)
        return np.array([np.array(each[2:], np.uint8).reshape(each[0], each[1], 4) for each in found])

    def leave(self) -> None:
        self.page.close()
        assert self.faults == []


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visitor]]:
    visitors: list[Visitor] = []

    def visit(address: str, **how: Any) -> Visitor:
        visitors.append(Visitor(browser, address, **how))
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.leave()


def png(pixels: np.ndarray) -> dict[str, Any]:
    """An image file, as a form takes it."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"name": "mine.png", "mimeType": "image/png", "buffer": file.getvalue()}


# ── connected to a studio ────────────────────────────────────────────────────────────────────────────────────────────────


def test_watch(visit: Callable[..., Visitor], address: str, names: dict[str, str]) -> None:
    """Step through a walk by keys, point at a pixel, and choose a map and a video."""
    person = visit(address)
    person.sees("Value 20 of 20: row 4, column 3")
    person.page.keyboard.press("ArrowUp")
    before = person.sees("Value 16 of 20")
    person.page.keyboard.press("ArrowLeft")
    assert float(before.split()[-2]) >= float(person.sees("Value 15 of 20").split()[-2])
    person.page.locator("canvas.image").hover(position={"x": 3, "y": 3})
    person.page.get_by_text("depends on the 0 pixels").wait_for()         # the first pixel
    person.page.locator("canvas.image").click(position={"x": 3, "y": 3})
    assert re.search(r"level [01], p = [01]\.\d+, ", person.sees("Value 1 of 20: row 0, column 0"))
    person.model(names["map"])
    before = person.sees("Value 20 of 20")
    person.page.get_by_label("row 2, column 0 of the map").select_option("0")
    assert person.sees("Value 20 of 20") != before                        # with another map, the same seed takes other bits
    person.model(names["video"])
    person.sees("Value 32 of 32: frame 1, row 3, column 3")
    assert person.pixels("canvas.image").shape == (1, 4, 8, 4)            # two frames beside one another


def test_complete(visit: Callable[..., Visitor], address: str, names: dict[str, str]) -> None:
    """Draw by the keyboard alone on blank paper: all completions are the drawing; then read off which class it is."""
    person = visit(address + "#complete")
    person.model(names["classes"])
    likely = person.sees("bits under the model")
    shares = person.page.locator("meter").evaluate_all("each => each.map(m => m.value)")
    assert len(shares) == 3 and sum(shares) == pytest.approx(1, abs=1e-3)
    assert f"Most likely it is {np.argmax(shares)}, with {100 * max(shares):.1f} %" in likely
    person.press("Another example")
    person.sees("bits under the model")
    (example,) = Example(names["classes"], 4).run(Models([names["classes"]]))
    upper = np.frombuffer(b64decode(example["image"]), np.uint8).reshape(5, 4)[:2]
    assert (person.pixels("canvas.draw")[0, :2, :, 0] == 255 * upper).all()
    person.press("Right half unknown")
    person.sees("bits under the model")
    half = person.pixels("canvas.draw")[0, ..., :3]
    assert (half[:, 2:, 2] > 200).all()                                   # chequers
    person.press("Lower half unknown")                                    # the upper right is there again
    person.sees("bits under the model")
    assert (person.pixels("canvas.draw")[0, :2, :, 0] == 255 * upper).all()
    person.press("Blank paper")
    person.page.locator("canvas.draw").focus()
    for key in (" ", "ArrowLeft", " "):                                   # two pixels of ink
        person.page.keyboard.press(key)
    person.sees("bits under the model")
    drawn = person.pixels("figure canvas")[..., 0]
    assert drawn.shape == (COUNT, 5, 4) and ((drawn == 255).sum((1, 2)) == 2).all()
    person.model(names["exemplars"])
    person.sees("bits under the model")
    person.page.get_by_role("button", name="No exemplar").first.click()   # of two slots
    person.sees("bits under the model")
    person.model(names["video"])
    person.sees("bits under the model")
    assert (person.pixels("canvas.draw")[0, :, 4:, 2] > 200).all()        # the second frame


def test_strokes_and_filters(visit: Callable[..., Visitor], address: str, names: dict[str, str]) -> None:
    """Redraw, then draw; and move a window off a line that is drawn."""
    person = visit(address + "#strokes")
    person.model(names["draw"])
    person.sees(re.compile(r"It says [\d.]+ bits"))
    person.page.locator("select[name=mode]").select_option("draw")
    person.sees(re.compile(r"^Stroke \d+ of \d+\.$"))
    person.room("Filters")
    person.sees("8 × 8 filters on 15.0 × 15.0 pixels")
    patch = "[aria-label='what is read and written'] canvas[aria-label=patch]"
    assert person.pixels(patch)[0, ..., 0].max() > 200
    for name, value in (("stride", "3"), ("count", "3"), ("row", "27"), ("column", "27"), ("sigma", "0.5")):
        person.page.locator(f"input[name={name}]").fill(value)
    person.sees("3 × 3 filters on 7.0 × 7.0 pixels, centre at row 27.0, column 27.0")
    assert person.pixels(patch).shape == (1, 3, 3, 4) and person.pixels(patch)[..., 0].max() == 0


def test_surprise(visit: Callable[..., Visitor], address: str, names: dict[str, str]) -> None:
    """Open a file, find the pixel that surprised most, and go there with the arrow keys."""
    person = visit(address + "#surprise")
    person.model(names["colour"])
    before = person.sees("bits in all")
    person.page.locator("input[type=file]").set_input_files(png(np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)))
    row, column, bits = re.findall(r"row (\d), column (\d) \(ringed\): ([\d.]+) bits", person.sees_other(before))[0]
    person.page.locator("canvas.scene").focus()
    found = {}
    for key in ["ArrowUp"] * 4 + ["ArrowLeft"] * 4 + (["ArrowRight"] * 3 + ["ArrowDown"] + ["ArrowLeft"] * 3 + ["ArrowDown"]) * 2:
        person.page.keyboard.press(key)
        here = person.page.get_by_text(re.compile(r"^Row \d, column \d: ")).inner_text()
        found[here[4], here[14]] = float(here.split()[-2])
    assert len(found) == 16 and max(found.values()) == found[row, column] == float(bits)
    dropped = person.page.evaluate_handle("""() => {
      const data = new DataTransfer();
      data.items.add(new File(["no image"], "no.png", {type: "image/png"}));
      return data;
    }""")
    for kind in ("dragover", "drop"):                                     # beside the room, where a browser would leave the page
        person.page.dispatch_event("header", kind, {"dataTransfer": dropped})
    person.page.get_by_role("alert").filter(has_text="no.png: the browser cannot read it as an image").wait_for()
    person.page.get_by_label("Dark and bright change places").check()
    person.page.keyboard.press("1")                                       # also while a box has the focus
    person.page.get_by_role("heading", name="Probabilities of this value").wait_for()


def test_concept_and_training(visit: Callable[..., Visitor], address: str) -> None:
    """Cut a file byte by byte, see where JPEG cannot follow, choose another size and a picture of one's own; and look at a run."""
    person = visit(address + "#concept")
    whole = re.findall(r"The whole file has ([\d,]+) bytes = ([\d,]+) bits", person.sees("The whole file"))[0]
    person.sees("bytes = " + whole[1] + " bits: ")
    person.page.keyboard.press("Home")
    person.sees("0.0 of ")
    assert "JPEG cannot be that small. Its smallest file: 2" in person.sees("JPEG")
    person.page.keyboard.press("ArrowRight")
    person.page.locator("select[name=rest]").select_option("drawn")
    person.page.locator("select[name=times]").select_option("1")
    person.sees(re.compile(r"strokes|steps"))
    mine = np.zeros((8, 8, 3), np.uint8)
    mine[:, 4:] = 200, 30, 90
    person.page.locator("input[type=file]").set_input_files(png(mine))
    person.page.wait_for_function("document.querySelector('canvas.draw').getContext('2d').getImageData(7, 7, 1, 1).data[0] === 200")
    assert (person.pixels("canvas.draw")[0, ..., :3] == mine).all()
    person.sees("The whole file has")
    person.page.locator("input[type=file]").set_input_files({"name": "no.png", "mimeType": "image/png", "buffer": b"no image"})
    fault = person.page.get_by_role("alert").filter(has_text="no.png: the browser cannot read it as an image")
    fault.wait_for()
    assert fault.bounding_box()["y"] < 900                                # in the window, where the file was chosen
    person.room("Training")
    person.sees("1 of 1 runs.")
    person.page.get_by_alt_text("samples of first after 10 steps").wait_for()


def test_a_sign_says_that_a_model_gets_ready(
    visit: Callable[..., Visitor], address: str, names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It appears while nothing is answered, as where a model is compiled, and goes with the first answer."""
    go, run = threading.Event(), Example.run

    def slow(self: Example, models: Models) -> Any:
        assert go.wait(SOON)
        yield from run(self, models)

    person = visit(address + "#surprise")
    person.sees("bits in all")
    sign = person.page.get_by_role("status").filter(has_text="The model gets ready")
    assert not sign.is_visible()
    monkeypatch.setattr(Example, "run", slow)
    person.model(names["colour"])
    sign.wait_for()
    assert sign.locator("progress").is_visible() and "1 s" in sign.inner_text().replace("2 s", "1 s")
    go.set()
    sign.wait_for(state="hidden")
    person.sees("bits in all")


def test_the_menu_of_models_shows_whole_names(visit: Callable[..., Visitor], address: str) -> None:
    person = visit(address, viewport={"width": 1280, "height": 720})
    person.sees("Value 20 of 20")
    longest = max(bundled(), key=len).removeprefix("rastrum/")
    needs = """(menu, name) => {
      const room = menu.clientWidth;
      menu.replaceChildren(new Option(name));
      menu.style.width = "auto";
      return [menu.offsetWidth, room];
    }"""
    needed, room = person.page.locator("select[name=model]").evaluate(needs, longest)
    assert needed <= room + 2


@pytest.mark.parametrize("width", [400, 2560])
def test_no_room_is_wider_than_the_window(visit: Callable[..., Visitor], address: str, width: int) -> None:
    person = visit(address, viewport={"width": width, "height": 900}, color_scheme="dark")
    person.page.locator("nav button").first.wait_for()
    for title in person.page.locator("nav button").all_inner_texts():
        person.room(title)
        person.page.wait_for_timeout(100)
        assert person.page.locator("html").evaluate("e => e.scrollWidth") <= width, title


def test_a_walk_plays_by_itself(visit: Callable[..., Visitor], address: str) -> None:
    """Where motion is welcome: pause it, and its end is not reached."""
    person = visit(address, reduced_motion="no-preference")
    person.page.locator("select[aria-label=speed]").select_option("40")
    person.sees(re.compile(r"Value [1-9] of 20"))
    person.page.keyboard.press(" ")
    person.page.get_by_role("button", name="Play", exact=True).wait_for()


# ── as files ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_exported_page_replays_recordings(visit: Callable[..., Visitor], site: Path, address: str, names: dict[str, str]) -> None:
    """From a folder, without a server; its walk is that of the studio."""
    live, person = visit(address), visit((site / "index.html").as_uri())
    assert person.page.get_by_text("This page replays").is_visible() and not live.page.get_by_text("This page replays").is_visible()
    assert live.sees("Value 20 of 20") == person.sees("Value 20 of 20")
    assert (live.pixels("canvas.image") == person.pixels("canvas.image")).all()
    assert person.page.locator("input[name=temperature]").is_disabled()
    person.page.locator("select[name=class_number]").select_option("2")
    person.press("Another seed")
    person.sees("Value 20 of 20")
    person.room("Complete")
    for name in ("classes", "exemplars", "video"):
        person.model(names[name])
        person.sees("bits under the model")
    person.press("Another example")
    person.sees("bits under the model")
    assert not person.page.get_by_role("button", name="Blank paper").is_visible()
    person.room("Strokes")
    for name in ("files", "draw"):
        person.model(names[name])
        person.sees("It says")
    person.room("Filters")
    person.page.locator("input[name=stride]").fill("3")
    person.sees("22.0 × 22.0 pixels")
    person.room("Surprise")
    person.sees("ringed")
    person.room("Concept")
    person.page.locator("select[name=scene]").select_option("digits")
    person.sees("The whole file")
    person.page.keyboard.press("Home")
    person.sees("0.0 of ")
    assert "Training" not in person.page.locator("nav").inner_text()


def test_an_export_replaces_only_an_export(site: Path, names: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in (("index.html", "mine"), ("notes.txt", "mine")):
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert main(["studio", names["draw"], "--export", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and name in error and (tmp_path / name).read_text(encoding="utf-8") == "mine"
    again = tmp_path / "again"
    shutil.copytree(site, again)
    assert main(["studio", names["draw"], "--export", str(again), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {each["name"] for each in found["files"]} == {path.name for path in again.iterdir()} < {path.name for path in site.iterdir()}
    assert (again / "studio.js").read_bytes() == (site / "studio.js").read_bytes()


def test_one_script_holds_every_module_once() -> None:
    text = script()
    for path in STATIC.glob("*.js"):
        assert text.count(f'modules["{path.name}"] = ') == (path.name != "connection.js"), path.name
    assert not re.search(r"^(import|export) ", text, re.M)
