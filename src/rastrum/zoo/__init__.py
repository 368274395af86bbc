"""The models bundled with the package: facts, pictures and commands of each.

    rastrum.zoo.entries()
    rastrum.zoo.write("zoo")

Everything is read from the models' folders, so a model that is added there is here too: its facts from config.json and the model
itself (``entry.py``), its picture from the lecture's figure for models of its kind or from its own samples (``pictures.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..checkpoint import BUNDLED, bundled
from ..files import write_files
from ..names import nearest
from .entry import Entry
from .page import page
from .pictures import picture_of


def entries(names: Sequence[str] = ()) -> list[Entry]:
    """The bundled models.

    names: "rastrum/NAME" or NAME of those that are asked for; empty (default) for all.

    Raises ``ValueError`` for an unknown name.
    """
    there = bundled()
    wanted = [BUNDLED + name.removeprefix(BUNDLED) for name in names]
    for name, address in zip(names, wanted, strict=True):
        if address not in there:
            raise ValueError(f"zoo: unknown model {name!r}; {nearest(address, there)}")
    return [Entry.of(address) for address in wanted or there]


def write(
    folder: str | Path, names: Sequence[str] = (), report: Callable[[int], None] | None = None
) -> list[dict[str, Any]]:
    """The page of the models, each with a picture that is drawn now.

    folder: gets index.html, which holds everything.
    names: as for ``entries``, with its errors.
    report: called with the number of models that are done; None (default) for nothing.

    Returns for each model its name, and how many seconds its picture took.
    """
    shown, rows = [], []
    for entry in entries(names):
        begin = time.perf_counter()
        shown.append((entry, picture_of(entry)))
        rows.append({"name": entry.name, "seconds": time.perf_counter() - begin})
        if report is not None:
            report(len(rows))
    write_files(Path(folder), {"index.html": page(shown).encode()})
    return rows
