"""Output on any terminal: one that lacks characters, one that is closed, a pipe whose reader has ended. A command goes on all the same; and
signals that end it."""

from __future__ import annotations

import codecs
import os
import signal
import sys
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any

PLAIN = {"−": "-", "–": "-", "—": "-", "‖": "||", "×": "x", "·": "-", "•": "*", "±": "+/-", "≤": "<=", "≥": ">=", "≈": "~", "∞": "inf",
         "√": "sqrt", "→": "->", "←": "<-", "⇔": "<=>", "↑": "^", "↓": "v", "▲": "^", "▼": "v", "▶": ">", "◀": "<", "█": "#",
         "⁄": "/", "‘": "'", "’": "'", "“": '"', "”": '"', "⌈": "[", "⌉": "]", "⌊": "[", "⌋": "]"}  # fmt: skip


class Stream:
    """A text stream, or None; once writing to it fails, nothing is written any more."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        self._do("write", text)
        return len(text)

    def flush(self) -> None:
        self._do("flush")

    def isatty(self) -> bool:
        return self.stream is not None and not self.stream.closed and self.stream.isatty()

    def _do(self, what: str, *arguments: Any) -> None:
        if self.stream is None:
            return
        try:
            getattr(self.stream, what)(*arguments)
        except UnicodeError:
            raise
        except (OSError, ValueError):                                     # gone, or closed
            with suppress(OSError, ValueError, AttributeError):           # what is in its buffer must not fail at the end of the process
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)
            self.stream = None


def plain(text: str) -> str:
    """``text`` in ASCII, for terminals that have no more: what looks or sounds alike, else "?"."""
    return "".join(character if character.isascii() else _plain(character) for character in text)


def _plain(character: str) -> str:
    if character in PLAIN:
        return PLAIN[character]
    if unicodedata.combining(character):
        return ""
    whole = unicodedata.normalize("NFKD", character)                      # … is three dots, ² is 2, à is a with an accent
    if whole != character:
        return plain(whole)
    name = unicodedata.name(character, "")
    if name.startswith("BOX DRAWINGS"):
        across, down = ("HORIZONTAL", "LEFT", "RIGHT"), ("VERTICAL", "UP", "DOWN")
        ways = [any(way in name for way in ways) for ways in (across, down)]
        return "+" if all(ways) else "-" if ways[0] else "|"
    if name.startswith(("GREEK SMALL LETTER ", "GREEK CAPITAL LETTER ")):
        letter = name.split()[3]
        return letter.lower() if "SMALL" in name else letter.capitalize()
    return "?"


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end


codecs.register_error("rastrum.plain", _replace)


@contextmanager
def any_characters() -> Iterator[None]:
    """While it lasts, stdout and stderr take every character; those that their encoding lacks are written as ``plain`` has them."""
    changed = []
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):           # other streams, such as a notebook's, take every character
            with suppress(OSError, ValueError):                           # gone, or closed
                errors = stream.errors
                reconfigure(errors="rastrum.plain")
                changed.append((reconfigure, errors))
    try:
        yield
    finally:
        for reconfigure, errors in changed:
            with suppress(OSError, ValueError):
                reconfigure(errors=errors)


def number_of_processes() -> int:
    """How many processes run this command: more than one where ``torchrun`` started them."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1


@contextmanager
def first_alone_speaks() -> Iterator[None]:
    """While it lasts, of several processes that run the same command only the first writes to stdout and stderr."""
    if number_of_processes() == 1 or os.environ["RANK"] == "0":
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def unbreakable() -> Iterator[None]:
    """While it lasts, stdout and stderr may go away; descriptors that were closed before are not given to files."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)                                # takes the lowest number that is free
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = streams = Stream(before[0]), Stream(before[1])
    try:
        yield
    finally:
        streams[0].flush()
        sys.stdout, sys.stderr = before


@contextmanager
def ends_as_ctrl_c() -> Iterator[None]:
    """While it lasts, SIGTERM and SIGHUP end a command as Ctrl-C does, so that no part of a file is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler == signal.SIG_DFL and signal.getsignal(number) == signal.default_int_handler:
                signal.signal(number, handler)
