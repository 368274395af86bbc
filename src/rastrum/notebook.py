"""How objects show themselves in a notebook: ``_repr_png_`` and ``_repr_html_``.

The objects lie low in the library and what draws them lies high (``display.py``), so they ask for it by name: ``rastrum/__init__`` says how
a name is found. Nothing shown here raises, trains, downloads or takes long: where there is no picture, a notebook shows the text.

Tables take colours and fonts from the notebook, so that they are readable in light and in dark themes.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import wraps
from html import escape
from typing import Any, TypeVar

Object = TypeVar("Object")
Shown = TypeVar("Shown")

# Finds a function of an upper layer by its file and name; rastrum/__init__ sets it.
find: Callable[[str, str], Any] | None = None

TABLE = "border-collapse: collapse; color: inherit; background: transparent; font-size: 0.95em"
CELL = "text-align: left; vertical-align: top; padding: 0.15em 1em 0.15em 0; border: 0; background: transparent; color: inherit"


def above(module: str, name: str) -> Any:
    """A function of an upper layer.

    module: its file.
    name: of the function.
    """
    assert find is not None, "rastrum/__init__ sets it"
    return find(module, name)


def safe(method: Callable[[Object], Shown]) -> Callable[[Object], Shown | None]:
    """For a ``_repr_…_``: None where it fails, then the notebook shows the text.

    method: without arguments but its object.
    """

    @wraps(method)
    def guarded(self: Object) -> Shown | None:
        try:
            return method(self)
        except Exception:                                                 # whatever it is, a cell shows its other output
            return None

    return guarded


@safe
def png(value: Any) -> bytes | None:
    """A picture of an object as the bytes of a PNG file, or None if it has none.

    value: images, a Frame, or what else ``display.own_picture`` draws.
    """
    return above("display", "png_of")(value)


def table(title: str, rows: Mapping[str, Any], picture: bytes | None = None) -> str:
    """A small table as HTML; everything in it is escaped.

    title: above the table.
    rows: text by name; what is None or "" is left out.
    picture: a PNG below the table; None (default) for none.
    """
    lines = [
        f'<tr style="background: transparent"><th scope="row" style="{CELL}; font-weight: 600">{escape(str(name))}</th>'
        f'<td style="{CELL}">{escape(str(value))}</td></tr>'
        for name, value in rows.items()
        if value is not None and value != ""
    ]
    below = ""
    if picture is not None:
        data = b64encode(picture).decode()
        below = f'<img alt="" style="display: block; max-width: 100%; margin-top: 0.5em" src="data:image/png;base64,{data}">'
    return f'<div><strong>{escape(title)}</strong><table style="{TABLE}">{"".join(lines)}</table>{below}</div>'
