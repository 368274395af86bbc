"""Progress bars: only where someone watches, one at a time, the same results with and without; a terminal is a real pseudo-terminal."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

import rastrum
from rastrum import ImageSpec, progress
from rastrum.data import load_dataset
from rastrum.evaluation import evaluate
from rastrum.progress import bar, clock

SPEC = ImageSpec(1, 8, 8, 17)


def pixelcnn(spec: ImageSpec) -> rastrum.RasterModel:
    model = rastrum.build("pixelcnn", spec, "tiny")
    assert isinstance(model, rastrum.RasterModel)
    return model


class Watched:
    """A display that notes what it is given."""

    every = 0.0

    def __init__(self) -> None:
        self.drawn: list[tuple[str, float, str]] = []
        self.closed = 0

    def draw(self, what: str, fraction: float, text: str) -> None:
        self.drawn.append((what, fraction, text))

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[Watched]:
    """As in a notebook; every display that is opened."""
    opened: list[Watched] = []

    def open() -> Watched:
        opened.append(Watched())
        return opened[-1]

    monkeypatch.setattr(progress, "watched", lambda: "notebook")
    monkeypatch.setattr(progress, "Notebook", open)
    return opened


def calls() -> dict[str, Callable[..., Any]]:
    model, data = pixelcnn(SPEC), load_dataset("digits", "test").subset(20)
    known = torch.arange(8)[:, None] < 2
    blob = rastrum.compress(model, data.images)
    return {
        "sample": lambda **k: rastrum.sample(model, 70, **k),
        "complete": lambda **k: rastrum.complete(model, data.images, known, **k),
        "particles": lambda **k: rastrum.complete(model, data.images[:3], known, particles=3, **k)[0],
        "compress": lambda **k: torch.frombuffer(bytearray(rastrum.compress(model, data.images, **k)), dtype=torch.uint8),
        "decompress": lambda **k: rastrum.decompress(model, blob, **k),
        "evaluate": lambda **k: torch.tensor(evaluate(model, data, **k).nats),
        "check": lambda **k: torch.tensor([ord(letter) for letter in str(rastrum.check(model, values=6, **k))]),
        "draw": lambda **k: rastrum.sample(rastrum.build("draw", ImageSpec(1, 8, 8, 2), "tiny"), 3, **k),
    }


def test_every_call_shows_a_bar_when_asked_and_gives_the_same(watched: list[Watched]) -> None:
    for name, call in calls().items():
        plain = call(progress=False)
        assert not watched, name
        shown = call(progress=True)
        assert torch.equal(plain, shown), name
        (display,) = watched
        fractions = [fraction for _, fraction, _ in display.drawn]
        assert fractions == sorted(fractions) and display.closed == 1, name
        assert fractions[-1] == 1 or name == "check", name
        assert name in ("evaluate", "particles") or len(fractions) > 3, (name, fractions)
        watched.clear()


def test_a_quick_call_shows_nothing_by_itself_and_a_long_one_does(watched: list[Watched], monkeypatch: pytest.MonkeyPatch) -> None:
    model = pixelcnn(SPEC)
    assert progress.DELAY == 2
    monkeypatch.setattr(progress, "DELAY", 600.0)                         # a busy machine is not quick
    rastrum.sample(model, 2)
    assert not watched
    monkeypatch.setattr(progress, "DELAY", 0.0)
    rastrum.sample(model, 2)
    assert len(watched) == 1
    with pytest.raises(ValueError, match="progress"):
        rastrum.sample(model, 2, progress=7)  # pyright: ignore[reportArgumentType]


def test_one_bar_at_a_time(watched: list[Watched]) -> None:
    with bar("outer", 1, "", True) as outer:
        outer(0.5)
        with bar("inner", 1, "", True) as inner:
            inner(1)
            assert not inner.wanted
        others = [threading.Thread(target=lambda: calls()["evaluate"](progress=True))]
        for thread in others:
            thread.start()
            thread.join()
    assert [display.drawn[0][0] for display in watched] == ["outer"]
    with bar("after", 1, "", True) as after:
        after(1)
    assert watched[-1].drawn[0][0] == "after"


def test_a_bar_ends_with_an_error(watched: list[Watched]) -> None:
    with pytest.raises(KeyboardInterrupt), bar("broken", 2, "images", True) as report:
        report(1)
        raise KeyboardInterrupt
    assert watched[0].closed == 1
    with bar("next", 1, "", True) as report:
        assert report.wanted


def test_threads_report_to_one_bar(watched: list[Watched]) -> None:
    with bar("many", 400, "images", True) as report:
        threads = [threading.Thread(target=lambda: [report(i) for i in range(100)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(watched) == 1 and len(watched[0].drawn) == 400


def test_a_function_is_called_instead(watched: list[Watched]) -> None:
    done: list[float] = []
    rastrum.sample(pixelcnn(SPEC), 3, progress=done.append)
    assert not watched and done == sorted(done) and done[-1] == 3 and len(done) > 4


def test_throughput_and_time_left(watched: list[Watched], monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 10.0, 20.0, 40.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    with bar("reading", 400, "images", True) as report:
        for done in (100, 200, 400):
            report(done)
    assert [text for _, _, text in watched[0].drawn] == ["10 images/s  0:30 left", "10 images/s  0:20 left", "10 images/s  in 0:40"]
    assert [clock(t) for t in (0, 59.6, 754, 3723)] == ["0:00", "1:00", "12:34", "1:02:03"]


@pytest.mark.parametrize(("argument", "lines"), [("None", False), ("False", False), ("True", True)])
def test_a_pipe_gets_lines_only_if_they_are_asked_for(argument: str, lines: bool) -> None:
    code = f"import rastrum.progress as p; p.DELAY = 0\nwith p.bar('work', 3, 'images', {argument}) as r:\n  for i in range(4): r(i)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "" and bool(found.stderr) == lines
    assert not lines or (found.stderr.splitlines()[-1].startswith("work 100% ") and len(found.stderr.splitlines()) == 2)


def on_a_terminal(code: str) -> str:
    """What a program writes to a terminal of its own."""
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    out = b""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if select.select([master], [], [], 0.2)[0]:
            try:
                out += os.read(master, 65536)
            except OSError:
                break
        elif process.poll() is not None:
            break
    os.close(master)
    assert process.wait(10) == 0, out.decode()
    return out.decode()


def test_a_terminal_shows_a_bar_and_takes_it_away() -> None:
    text = on_a_terminal(
        """
        import rastrum.progress as p, time
        p.DELAY = 0.3
        with p.bar("work [b]", 20, "images") as report:
            for i in range(20):
                time.sleep(0.05)
                report(i + 1)
        print("quick:")
        with p.bar("never", 1, "images") as report: report(1)
        """
    )
    before, after = text.split("quick:")
    assert "work [b]" in before and re.search(r"\d+ images/s", before) and "left" in before and "never" not in after
    assert "\x1b[2K" in before                                            # the line is erased


def test_the_command_line_shows_one_bar() -> None:
    text = on_a_terminal(
        """
        import rastrum.progress as p
        from rastrum.cli import main
        p.DELAY = 0
        assert main(["evaluate", "rastrum/gated-pixelcnn-binarized-mnist", "--data", "digits", "--count", "8"]) == 0
        """
    )
    assert "evaluating" in text and "scoring" not in text
