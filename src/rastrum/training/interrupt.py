"""Signals that end a run after its step: Ctrl-C, SIGTERM (of a scheduler or a shutdown), SIGHUP (of a terminal that closes)."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

HANG_UP: signal.Signals | None = getattr(signal, "SIGHUP", None)          # Windows has none
TOGETHER = 5.0                 # seconds
ENDING = [signal.SIGINT, signal.SIGTERM, *([] if HANG_UP is None else [HANG_UP])]


@contextmanager
def deferred_interrupt(several: bool = False) -> Iterator[threading.Event]:
    """The first of these signals sets the event; the next one does what it did before. Only the main thread hears of them.

    SIGHUP stays ignored where it was, as under nohup.

    several: whether this is one of several processes, False by default. Then signals within ``TOGETHER`` seconds of the first are the same
        request: a terminal sends Ctrl-C to all processes, and so does ``torchrun``, to which it was sent too.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in ENDING}
    before = {number: handler for number, handler in before.items() if number != HANG_UP or handler != signal.SIG_IGN}
    asked = 0.0

    def note(number: int, _: object) -> None:
        nonlocal asked
        if not event.is_set():
            event.set()
            asked = time.monotonic()
            if not several:
                restore()
        elif time.monotonic() - asked > TOGETHER:
            restore()
            signal.raise_signal(number)

    def restore() -> None:
        for number, handler in before.items():
            if signal.getsignal(number) is note:
                signal.signal(number, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield event
    except ConnectionError:                                               # torchrun ends this process too, which is to say why first
        event.set()
        asked = time.monotonic()
        raise
    finally:
        if threading.current_thread() is threading.main_thread() and not (several and event.is_set()):
            restore()
