"""Output that may go away: a terminal that is closed, a pipe whose reader has ended. A run goes on without it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


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
