"""The page of the bundled models: a table of them, and for each a picture, its facts, its paper and what to type."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.sources import NOTICES
from ..pictures.html import Code, Facts, Picture, Section, Table
from ..pictures.html import page as as_page
from .entry import Entry

HEAD = ("model", "images", "parameters", "score")
LEAD = "Trained models that come with the package: what each draws, how well it is measured to do, and what to type to use it."


def row(entry: Entry) -> tuple[str, ...]:
    """The cells of a model under HEAD. entry: the model."""
    return (entry.title, entry.images, f"{entry.parameters:,}", entry.score)


def size(count: int) -> str:
    """A number of bytes in words. count: of bytes."""
    return f"{count / 1e6:.1f} MB"


def facts(entry: Entry) -> dict[str, str]:
    """What there is to say of a model, by name. entry: the model."""
    origin, paper = entry.origin, entry.paper
    data = "" if origin.data is None else ", ".join(part for part in (origin.data.name, str(origin.data)) if part)
    return {
        "system": entry.system,
        "images": entry.images,
        "trained on": data,
        "training": origin.training,
        "score": "; ".join(map(str, origin.results)),
        "size": f"{entry.parameters:,} parameters, {size(entry.bytes)}",
        "classes": ", ".join(origin.class_names) if entry.model.condition_spec is not None else "",
        **origin.rows,
        "paper": "" if paper is None else f"{paper.authors}: {paper.title}. {paper.year}",
    }


def section(entry: Entry, picture: Picture) -> Section:
    """A model's part of the page.

    entry: the model.
    picture: of it.
    """
    lines = [line for what, typed in entry.commands.items() for line in (f"# {what}", *typed)]
    return Section(entry.title, [entry.about, picture, Facts(facts(entry)), Code(lines), Code(entry.example.splitlines())])


def page(shown: Sequence[tuple[Entry, Picture]]) -> str:
    """The page as HTML.

    shown: models, each with its picture.
    """
    models = [entry for entry, _ in shown]
    table = Table(HEAD, [row(entry) for entry in models], "Scores are of held-out images; ≤ marks a bound.", links=True)
    names = dict.fromkeys(entry.origin.data.name for entry in models if entry.origin.data is not None)
    notices = [NOTICES[name] for name in names if name in NOTICES]
    return as_page("Rastrum's models", LEAD, [Section("All of them", [table]), *(section(*each) for each in shown)], notices)
