"""The lecture's figures, drawn by running code: one by name, or all of them as a page of slides.

    rastrum.lecture.figure("masks").save("masks.svg")
    rastrum.lecture.figure("kl", "runs/draw-digits").caption
    rastrum.lecture.write("slides")

A file holds each section of the lecture; to add a figure, add one ``Figure(…)`` to the tuple at the end of its file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..files import write_files
from ..model import Model
from ..names import nearest
from ..pictures.films import require_encoder
from ..protocol import ArrayLike, as_tensor
from . import conditions, decisions, families, masks, others, recurrent, strokes
from .figure import Drawn, Figure
from .page import Slide, page
from .slide import DARK

TITLE = "Images made one decision after another"
LEAD = ("Autoregressive models draw pixel by pixel, canvas models stroke by stroke. Every figure here was drawn by running code; the "
        "command under it draws it again. Press H for the keys.")  # fmt: skip

SECTIONS = (decisions, recurrent, masks, conditions, families, strokes, others)
FIGURES: dict[str, Figure] = {figure.name: replace(figure, section=section.SECTION) for section in SECTIONS for figure in section.FIGURES}


def figure(name: str, *models: str | Path | Model, images: ArrayLike | None = None, seed: int | None = None) -> Drawn:
    """A figure of the lecture.

    name: one of ``FIGURES``.
    models: folders, names or models to show in place of the bundled ones.
    images: levels (N, *spec.shape) of the models, where the figure shows images; None (default) for digits that a bundled model drew, or
        for what the model draws itself.
    seed: of what it draws at random; None (default) for the figure's own, which its caption states.

    Raises ``ValueError`` for an unknown name, where a model is needed or does not fit, and for a seed of a figure that takes none.
    """
    if name not in FIGURES:
        raise ValueError(f"figure: unknown name {name!r}; {remedy(name)}")
    return FIGURES[name].drawn(models, None if images is None else as_tensor("images", images).long(), seed)


def remedy(name: str) -> str:
    """What to do about the unknown ``name`` of a figure."""
    return nearest(name, FIGURES, "`rastrum figure` lists them")


def available() -> list[str]:
    """Names of the figures whose models are bundled, in the order of the lecture."""
    return [name for name, figure in FIGURES.items() if figure.defaults() is not None]


def write(folder: str | Path, names: Sequence[str] = (), report: Callable[[int], None] | None = None) -> list[dict[str, Any]]:
    """The lecture as a page, with a picture of each figure beside it.

    folder: gets index.html, and for each figure NAME.png, NAME.svg and NAME-dark.svg, or NAME.mp4 and NAME.png where it moves; without the
        package av NAME.webp in place of the MP4.
    names: of the figures; empty (default) for all that are ``available``.
    report: called with the number of figures that are done; None (default) for nothing.

    Returns for each figure its name, title, caption, command, files, and how many seconds it took.
    Raises ``ValueError`` as ``figure`` does.
    """
    slides, rows, film = [], [], _film_ending()
    for name in names or available():
        begin = time.perf_counter()
        drawn = figure(name)
        files = {f"{name}.png": drawn.encode(".png")}
        if drawn.moves:
            files[name + film] = drawn.encode(film)
        else:
            files |= {f"{name}.svg": drawn.encode(".svg"), f"{name}-dark.svg": drawn.encode(".svg", theme=DARK)}
        write_files(Path(folder), files)
        about = drawn.figure
        shown = {"title": about.title, "caption": drawn.caption, "command": drawn.command}
        slides.append(Slide(name=name, section=about.section, notes=about.notes, film=name + film if drawn.moves else "", **shown))
        rows.append({"name": name, **shown, "files": list(files), "seconds": time.perf_counter() - begin})
        if report is not None:
            report(len(rows))
    write_files(Path(folder), {"index.html": page(TITLE, LEAD, slides).encode()})
    return rows


def _film_ending() -> str:
    try:
        require_encoder(".mp4")
    except ImportError:
        return ".webp"
    return ".mp4"
