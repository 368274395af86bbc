"""What one open page asks: a session reads messages, and a thread of its own answers one request at a time. No web here.

    page ─▶ {"start": 7, "room": "watch", "model": …}      session ─▶ {"id": 7, …} a message, of which at most AHEAD are unacknowledged
         ─▶ {"ack": 7}     after each message                      ─▶ {"id": 7, "done": true}
         ─▶ {"cancel": 7}                                          ─▶ {"id": 7, "error": "one line"}

A new request takes the place of the one that runs and of the one that waits, so that nothing queues up however fast a page asks. A page
that is slow to acknowledge slows down the model, and takes no memory.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from .models import Models
from .requests import Answer, Request
from .rooms import ROOMS

AHEAD = 8                      # messages that are sent before the page has acknowledged the first of them
LONGEST = 1 << 22              # characters of a message, which holds at most an image file


@dataclass(frozen=True)
class Start:
    """A request and the number that its page gave it."""

    id: int
    request: Request


@dataclass(frozen=True)
class Ack:
    """A message of request ``id`` has been shown."""

    id: int


@dataclass(frozen=True)
class Cancel:
    """Request ``id`` is no longer wanted."""

    id: int


def read(text: str) -> Start | Ack | Cancel:
    """A message of a page.

    text: JSON.

    Raises ``ValueError`` for any other.
    """
    if len(text) > LONGEST:
        raise ValueError(f"message: {len(text):,} characters, at most {LONGEST:,} are possible")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("message: expected JSON") from None
    if not isinstance(found, dict):
        raise ValueError(f"message: expected an object, got {type(found).__name__}")
    for name, kind in (("ack", Ack), ("cancel", Cancel)):
        if name in found:
            return kind(_number(found[name]))
    if "start" not in found:
        raise ValueError("message: expected start, ack or cancel")
    room = found.pop("room", None)
    if not isinstance(room, str) or room not in ROOMS:
        raise ValueError(f"room: expected one of {', '.join(ROOMS)}, got {room!r}")
    return Start(_number(found.pop("start")), ROOMS[room].read(found))


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError(f"message: expected the number of a request, got {value!r}")
    return value


class Session:
    """One open page.

    models: of the studio.
    send: takes a message to the page, and returns when it is on its way; it is called in the session's thread. An ``OSError`` from it ends
        the session.
    """

    def __init__(self, models: Models, send: Callable[[Answer], None]) -> None:
        self._models, self._send = models, send
        self._changed = threading.Condition()
        self._waiting: Start | None = None                                # what runs next
        self._wanted: int | None = None                                   # number of the request that runs
        self._ahead, self._closed = 0, False
        self._thread = threading.Thread(target=self._work, name="studio session", daemon=True)
        self._thread.start()

    def receive(self, text: str) -> Answer | None:
        """Takes a message of the page, and returns at once.

        text: JSON.

        Returns what is to be answered at once: an error, or None.
        """
        try:
            message = read(text)
        except ValueError as error:
            return {"id": _id_in(text), "error": one_line(error)}
        with self._changed:
            if isinstance(message, Start):
                self._waiting, self._wanted = message, None
            elif message.id == self._wanted and isinstance(message, Ack):
                self._ahead = max(0, self._ahead - 1)
            elif isinstance(message, Cancel):
                self._wanted = None if message.id == self._wanted else self._wanted
                self._waiting = None if self._waiting is not None and message.id == self._waiting.id else self._waiting
            self._changed.notify()
        return None

    def close(self, wait: float | None = None) -> bool:
        """Ends the session: what runs stops at its next message.

        wait: seconds that it may take; None (default) returns at once.

        Returns whether it has ended.
        """
        with self._changed:
            self._closed, self._wanted, self._waiting = True, None, None
            self._changed.notify()
        if wait is not None:
            self._thread.join(wait)
        return not self._thread.is_alive()

    def _next(self) -> Start | None:
        """The next request, once there is one; None when the session is closed."""
        with self._changed:
            self._wanted = None
            self._changed.wait_for(lambda: self._closed or self._waiting is not None)
            start, self._waiting = self._waiting, None
            if start is not None:
                self._wanted, self._ahead = start.id, 0
            return start

    def _may_send(self, id: int) -> bool:
        """Waits until the page is ready for a message of request ``id``; False when it is no longer wanted."""
        with self._changed:
            self._changed.wait_for(lambda: self._wanted != id or self._ahead < AHEAD)
            self._ahead += 1
            return self._wanted == id

    def _work(self) -> None:
        while (start := self._next()) is not None:
            try:
                self._answer(start)
            except OSError:                                               # the page has gone
                self.close()

    def _answer(self, start: Start) -> None:
        """Sends all messages of a request, or those up to where it is no longer wanted."""
        answers: Iterator[Answer] = iter(start.request.run(self._models))
        with closing(answers):  # pyright: ignore[reportArgumentType]
            while self._may_send(start.id):
                try:
                    answer = {"id": start.id, **next(answers)}
                except StopIteration:
                    answer = {"id": start.id, "done": True}
                except (ValueError, OSError, ImportError, MemoryError, RuntimeError) as error:
                    answer = {"id": start.id, "error": one_line(error)}
                if self._wanted == start.id:
                    self._send(answer)
                if "done" in answer or "error" in answer:
                    return


def one_line(error: BaseException) -> str:
    """The text of an ``error`` on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _id_in(text: str) -> int | None:
    """The number of the request that a message would have started, if it has one."""
    try:
        found = json.loads(text[:LONGEST])
        return _number(found["start"])
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
