"""Parses the arguments of typed functions with tyro; a complaint becomes one line of plain text."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Sequence
from typing import Any


def reason(complaint: str) -> str:
    """tyro's ``complaint`` (a title and sections between rules, boxed or not) as one line: what is wrong, and the flag that was meant."""
    boxed = complaint.lstrip().startswith("╭")
    sections: list[list[str]] = [[]]
    for line in complaint.splitlines():
        text = line.strip("│ ")
        if text and not text.strip("─-"):
            sections.append([])
        elif text and text[0] not in "╭╰":
            sections[-1].append(text)
    first, *others = sections if boxed else sections[1:]
    meant = [section[1].split()[0] for section in others if section[0] == "Perhaps you meant:"]
    return " ".join(first).rstrip(".") + (f"; did you mean {meant[0]}?" if meant else "")


def parse(target: Any, argv: Sequence[str], prog: str, **options: Any) -> Any:
    """What tyro makes of a typed target.

    target: a function or a dataclass.
    argv: the arguments.
    prog: the command, for help.
    options: of ``tyro.cli``.

    Raises ``ValueError`` with one line for what does not parse; exits after help.
    """
    import tyro

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(target, args=list(argv), prog=prog, config=(tyro.conf.FlagCreatePairsOff,), **options)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(f"{reason(complaint.getvalue())} ({prog} --help shows the options)") from None


def bind(function: Callable[..., int | None]) -> Callable[..., Callable[[], int | None]]:
    """The signature of a ``function``, but it only takes the arguments: what it returns runs the function, outside of parsing."""

    @functools.wraps(function)
    def take(*args: Any, **keywords: Any) -> Callable[[], int | None]:
        return functools.partial(function, *args, **keywords)

    return take
