"""Progress bars of what takes more than a few seconds, in a terminal or a notebook; the only place that draws any.

    with bar("drawing", count, "images", progress) as report:
        for done in …: report(done)

``progress`` is what users pass: None (default) shows a bar after ``DELAY`` seconds where someone watches, an interactive terminal or a
notebook, and nothing in pipes; True shows it at once, in a pipe as a line now and then; False shows nothing; a function is called with how
much is done. There is one bar at a time in a process: what runs inside of something that has one, or in another thread meanwhile, is
silent.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from html import escape
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console

Progress: TypeAlias = bool | Callable[[Any], object] | None

DELAY = 2.0                    # seconds before a bar appears by itself
EVERY = 0.1                    # seconds between two pictures of it
LINES = 10.0                   # seconds between two lines in a pipe

_one = threading.Lock()        # held by the bar that is shown


class Display(Protocol):
    """Where a bar is drawn."""

    every: float

    def draw(self, what: str, fraction: float, text: str) -> None:
        """Draw the bar.

        what: text before it.
        fraction: how much is done, 0 … 1.
        text: after it.
        """
        ...

    def close(self) -> None:
        """Take it away, or leave what is to stay."""
        ...


class Terminal:
    """A bar on a terminal, gone when it is done.

    console: where; None for stderr.
    """

    every = EVERY

    def __init__(self, console: Console | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        console = console or Console(stderr=True)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        after = TextColumn("{task.fields[text]}", markup=False)
        self.bar = Bar(*columns, after, console=console, transient=True, auto_refresh=False)
        self.task = self.bar.add_task("", total=1.0, text="")

    def draw(self, what: str, fraction: float, text: str) -> None:
        self.bar.update(self.task, completed=fraction, description=what, text=text)
        self.bar.start()                                                  # does nothing where it has begun
        self.bar.refresh()

    def close(self) -> None:
        self.bar.stop()


class Notebook:
    """A bar below a cell; its last state stays."""

    every = 2 * EVERY

    def __init__(self) -> None:
        self.handle: Any = None

    def draw(self, what: str, fraction: float, text: str) -> None:
        from IPython.display import display  # pyright: ignore[reportPrivateImportUsage]

        shown = _Both(what, fraction, text)
        if self.handle is None:
            self.handle = display(shown, display_id=True)
        else:
            self.handle.update(shown)

    def close(self) -> None:
        pass


class _Both:
    """A bar as HTML and as text."""

    def __init__(self, what: str, fraction: float, text: str) -> None:
        self.what, self.fraction, self.text = what, fraction, text

    def __repr__(self) -> str:
        return f"{self.what} {self.fraction:.0%} {self.text}"

    def _repr_html_(self) -> str:
        bar = f'<progress max="1" value="{self.fraction:.4f}" style="width: 16em; vertical-align: middle"></progress>'
        return f"<div>{escape(self.what)} {bar} {self.fraction:.0%} {escape(self.text)}</div>"


class Lines:
    """A line now and then, for pipes."""

    every = LINES

    def draw(self, what: str, fraction: float, text: str) -> None:
        print(f"{what} {fraction:.0%} {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


class Report:
    """What is called with how much is done.

    what: text before the bar.
    total: how much there is to do.
    unit: of the throughput, per second; "" for no throughput.
    open: makes the display, when there is something to draw; None for no bar.
    forward: called too, with how much is done; None for nothing.
    delay: seconds before the bar appears.
    processes: how many do as much as this one meanwhile; 1 by default.
    """

    def __init__(
        self,
        what: str,
        total: float,
        unit: str,
        open: Callable[[], Display] | None,
        forward: Callable[[Any], object] | None,
        delay: float,
        processes: int = 1,
    ) -> None:
        self.what, self.total, self.unit, self.open, self.forward = what, total, unit, open, forward
        self.processes = processes
        self.begin = self.drawn = time.monotonic()
        self.due, self.display, self.lock = self.begin + delay, None, threading.Lock()
        self.last: tuple[float, str] | None = None

    @property
    def wanted(self) -> bool:
        """Whether anything is done with it: else work need not be cut into pieces for it."""
        return self.open is not None or self.forward is not None

    def __call__(self, done: float, of: float | None = None, text: str | None = None) -> None:
        """Report how much is done.

        done: so much, of several processes by this one.
        of: how much there is to do; None (default) = ``total``.
        text: after the bar; None (default) = throughput and time left.
        """
        if self.processes > 1:
            done = min(done * self.processes, self.total)
        if self.forward is not None:
            self.forward(done)
        if self.open is None:
            return
        with self.lock:
            now, self.total = time.monotonic(), self.total if of is None else of
            fraction = min(1.0, max(0.0, done / self.total)) if self.total > 0 else 1.0
            self.last = fraction, self._speed(done, fraction, now - self.begin) if text is None else text
            if now >= self.due:
                self._draw(self.open)
                if self.display is not None:
                    self.due = now + self.display.every

    def _draw(self, open: Callable[[], Display]) -> None:
        """Draw what is due; a display that fails, as a pipe whose reader has gone, ends the bar and not the work."""
        try:
            self.display = self.display or open()
            if self.last is not None:
                self.display.draw(self.what, *self.last)
                self.last = None
        except (OSError, ValueError):
            self.display = self.open = None

    def _speed(self, done: float, fraction: float, elapsed: float) -> str:
        if not done > 0 or not elapsed > 0:
            return ""
        speed = done / elapsed
        throughput = f"{speed:,.0f} {self.unit}/s  " if speed >= 100 else f"{speed:,.3g} {self.unit}/s  "
        left = elapsed * (1 - fraction) / fraction if fraction > 0 else 0
        return (throughput if self.unit else "") + (f"{clock(left)} left" if fraction < 1 else f"in {clock(elapsed)}")

    def close(self) -> None:
        """Draw what is due, and end."""
        with self.lock:
            if self.display is not None and self.open is not None:
                self._draw(self.open)
            if self.display is not None:
                with suppress(OSError, ValueError):
                    self.display.close()
            self.display = self.open = None


def clock(seconds: float) -> str:
    """A duration as 0:05, 12:34 or 1:02:03.

    seconds: how long.
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def watched() -> Literal["notebook", "terminal"] | None:
    """Where someone watches: a notebook, an interactive terminal, or nowhere."""
    find_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    if find_shell is not None and getattr(find_shell(), "kernel", None) is not None:
        return "notebook"
    try:
        return "terminal" if sys.stderr.isatty() else None
    except (AttributeError, ValueError, OSError):                         # not there, no stream but a logger's writer, or closed
        return None


@contextmanager
def only() -> Iterator[bool]:
    """Nothing else shows a bar meanwhile; yields whether this one may."""
    free = _one.acquire(blocking=False)
    try:
        yield free
    finally:
        if free:
            _one.release()


@contextmanager
def bar(
    what: str, total: float, unit: str, progress: Progress = None, console: Console | None = None, processes: int = 1
) -> Iterator[Report]:
    """A bar with throughput and time left, as the head of this file says.

    what: text before the bar.
    total: how much there is to do.
    unit: of the throughput, per second; "" for no throughput.
    progress: as users pass it, None by default.
    console: of the terminal; None (default) = stderr.
    processes: how many do as much as this one meanwhile; 1 by default.

    Yields a function of how much is done. Raises ``ValueError`` for another ``progress``.
    """
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise ValueError(f"progress: expected True, False, None or a function, got {progress!r}")
    forward = progress if callable(progress) else None
    place = None if progress is False or forward is not None else watched()
    open: Callable[[], Display] | None = {"notebook": Notebook, "terminal": lambda: Terminal(console), None: None}[place]
    if open is None and progress is True:
        open = Lines
    with only() if open is not None else _nothing() as free:
        report = Report(what, total, unit, open if free else None, forward, 0.0 if progress is True else DELAY, processes)
        try:
            yield report
        finally:
            report.close()


@contextmanager
def _nothing() -> Iterator[bool]:
    yield False
