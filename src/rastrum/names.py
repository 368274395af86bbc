"""Remedies for a name that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], otherwise: str = "") -> str:
    """A remedy for an unknown name: the nearest ones, or all of them.

    name: the unknown one.
    names: the known ones.
    otherwise: what is said where none is near, in place of all names.
    """
    names = list(names)
    near = difflib.get_close_matches(name, names, 3, 0.5)
    return f"did you mean {' or '.join(near)}?" if near else otherwise or f"there are {', '.join(names)}"
