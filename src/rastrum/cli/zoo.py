"""``zoo``: the models that are bundled with the package, with pictures, scores and commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from .about import short
from .show import Json, answer, check_folder_out, progress

if TYPE_CHECKING:
    from ..zoo.entry import Entry


def zoo(
    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME …", help="of models, with or without rastrum/; default: all")] = (),
    out: Annotated[
        Path | None, arg(metavar="FOLDER", help="write a page with a picture of each: FOLDER/index.html, about half a minute for all")
    ] = None,
    json: Json = False,
) -> None:
    """The trained models that are bundled with the package: size, score, training, and what to type to use each."""
    from .. import zoo

    if out is not None:
        check_folder_out("--out", out)
    entries = zoo.entries(names)
    found = {"models": [entry.facts() for entry in entries]}
    lines = [line for entry in entries for line in two_lines(entry)]
    lines += [line for entry in entries for line in ("", *commands_of(entry))]
    if out is not None:
        with progress("drawing", len(entries), "models") as report:
            seconds = zoo.write(out, names, report)
        found |= {"out": str(out), "pictures": seconds}
        lines = [f"open {out / 'index.html'}"]
    answer(found, json, *([*LEGEND, "", *lines] if out is None else lines))


LEGEND = (
    "Name, system, parameters and file; images; score of held-out images (≤: a bound)",
    "and training. `rastrum zoo --out zoo` draws with each of them.",
)


def two_lines(entry: Entry) -> list[str]:
    """A model's lines of the table, at most 80 columns. entry: the model."""
    from ..zoo.page import size

    first = f"{entry.title:<41} {entry.system:<20} {short(entry.parameters):>6} {size(entry.bytes):>8}"
    return [first, f"  {entry.images}", f"  {entry.score}; {entry.origin.trained_for}"]


def commands_of(entry: Entry) -> list[str]:
    """A model's name, and what to type. entry: the model."""
    return [entry.name, *(f"  {command}" for typed in entry.commands.values() for command in typed)]
