"""A Sphinx extension: docstrings of this library, prose and then a line "name: what" per parameter, as Sphinx's fields.

    count: number of images.            ──▶   :param count: number of images.
    Returns levels (count, 1, 8, 8).    ──▶   :returns: levels (count, 1, 8, 8).
    Raises ``ValueError`` for 0.        ──▶   :raises ValueError: for 0.

A name that the object's signature does not have stays what it is, a line. Indented blocks are shown as they stand.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

PARAMETER = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*)( \([^)]*\))?: (.+)")
LITERAL = re.compile(r"(``[^`]+``|`[^`]+`)")


def escaped(text: str) -> str:
    """Prose with `code`, ``code`` and nothing else that reStructuredText would read.

    text: a line or a part of one.
    """
    parts = LITERAL.split(text)
    for i, part in enumerate(parts):
        if i % 2:
            before, after = parts[i - 1][-1:], parts[i + 1][:1]
            code = f"``{part.strip('`')}``"
            parts[i] = ("" if not before or before.isspace() else "\\ ") + code + ("" if not after or after.isspace() else "\\ ")
    return "".join(part if i % 2 else re.sub(r"([\\*`|_])", r"\\\1", part) for i, part in enumerate(parts))


def fields(lines: Iterable[str], parameters: Iterable[str] = ()) -> list[str]:
    """A docstring as reStructuredText.

    lines: of the docstring, without its indentation.
    parameters: names in the signature.
    """
    known, made = set(parameters), [""]
    opened: Sequence[int] = ()                                            # fields that a further line belongs to
    block = False
    for line in lines:
        text, deep = line.strip(), line.startswith("    ")
        block = (block and (deep or not text)) or (deep and not made[-1] and not opened)
        if not text:
            made.append("")
            opened = ()
        elif block:
            made += ["", ".. code-block:: text", ""] * (not made[-1] and not _in_block(made)) + [f"   {line}"]
        elif not deep and (starts := _fields(text, known)):
            made += [""] * (not opened)
            opened = range(len(made), len(made) + len(starts))
            made += starts
        elif opened and (deep or not PARAMETER.fullmatch(text)):
            for i in opened:
                made[i] += " " + escaped(text)
        else:
            bullet = "- " * text.startswith("- ")
            opened = ()
            begins_list = bullet and made[-1] and not made[-1].startswith(("- ", "  "))
            made += [""] * bool(begins_list or PARAMETER.fullmatch(text) or _in_block(made))
            made.append(line[: len(line) - len(line.lstrip())] + bullet + escaped(text.removeprefix("- ")))
    return made[1:]


def _in_block(made: list[str]) -> bool:
    """Whether the last line that is not empty is of a block."""
    return next((line.startswith("   ") for line in reversed(made) if line), False)


def _fields(text: str, known: set[str]) -> list[str]:
    """The fields that a line begins: one per parameter that it names, what is returned, what is raised; or none."""
    if found := PARAMETER.fullmatch(text):
        names = [name.lstrip("*") for name in found[1].split(", ")]
        shape = f"{found[2].strip()}: " if found[2] else ""
        return [f":param {name}: {escaped(shape + found[3])}" for name in names] if known.issuperset(names) else []
    if found := re.fullmatch(r"Raises ``(\w+)``,? (.+)", text):
        return [f":raises {found[1]}: {escaped(found[2])}"]
    return [f":returns: {escaped(text.removeprefix('Returns '))}"] if text.startswith("Returns ") else []


def names_of(thing: Any) -> list[str]:
    """The parameters that a docstring may describe: of a function or a class; none of anything else."""
    try:
        return list(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        return []


def process(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Sphinx's event autodoc-process-docstring: changes ``lines`` in place."""
    lines[:] = fields(lines, names_of(thing) if what in ("function", "class", "method", "exception") else [])


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True}
