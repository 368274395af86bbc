"""Pages of the reference: the public names and modules, by Sphinx from their docstrings, and the commands, by their own help."""

from __future__ import annotations

import contextlib
import inspect
import io
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

import rastrum
from rastrum.cli import COMMANDS, main, usage

# A page each: its name, its title, and the modules on it; "NAME.*" stands for a folder and its files.
GROUPS = {
    ("data", "Images, data, scores"): (
        "protocol", "images", "display", "data", "data.dataset", "data.options", "exemplars", "evaluation", "checking", "config", "train",
        "trained", "recipes.recipe",
    ),
    ("writing", "Writing a model"): (
        "model", "raster", "canvas", "strokes", "adversarial", "distributions", "latents", "models.presets", "models.context",
        "models.pixel_canvas", "program.builder", "layers.causal", "layers.condition", "layers.output", "layers.lstm", "layers.attention",
        "layers.convolutional", "layers.upsampling",
    ),
    ("drawing", "Drawing, coding, saved models"): (
        "generation", "walk", "particles", "guidance", "noise", "range_coder", "checkpoint", "hub",
    ),
    ("applications", "Applications"): ("applications.*",),
    ("pictures", "Pictures"): ("pictures.sheets", "pictures.plots", "pictures.animations", "pictures.decisions", "lecture"),
}  # fmt: skip


def named(pattern: str) -> list[str]:
    """The modules that an entry of ``GROUPS`` stands for.

    pattern: a module's name in ``rastrum``, or "NAME.*".
    """
    folder = import_module(f"rastrum.{pattern.removesuffix('.*')}")
    if not pattern.endswith(".*"):
        return [pattern]
    return [f"{pattern[:-2]}.{each.name}" for each in iter_modules(folder.__path__) if not each.name.startswith("_")]


def public() -> str:
    """The page of the names in ``rastrum`` itself."""
    parts = ["# rastrum", "What `import rastrum` gives."]
    for name in rastrum.__all__:
        thing: Any = getattr(rastrum, name)
        if name == "MODELS":
            parts.append("## rastrum.MODELS\n\nThe class of each of [the systems](../systems/index.md) by its name.")
        elif isinstance(thing, ModuleType):                               # rastrum.train, which is called, and rastrum.lecture
            parts.append(f"## rastrum.{name}\n\n" + "See the module's section in this reference.")
        else:
            kind = "autoclass" if inspect.isclass(thing) else "autofunction"
            parts.append(f"## rastrum.{name}\n\n```{{eval-rst}}\n.. {kind}:: {thing.__module__}.{name}\n```")
    return "\n\n".join(parts) + "\n"


def pages() -> dict[str, str]:
    """The pages of the modules, by their names, and the page that lists them."""
    found = {name: "\n\n".join([f"# {title}", *(automodule(each) for pattern in patterns for each in named(pattern))]) + "\n"
             for (name, title), patterns in GROUPS.items()}  # fmt: skip
    listed = "\n".join(["public", *found])
    return {"index": f"# Reference\n\n```{{toctree}}\n:maxdepth: 2\n\n{listed}\n```\n", "public": public(), **found}


def automodule(name: str) -> str:
    """A module's section, without the names that ``rastrum`` itself has."""
    module = import_module(f"rastrum.{name}")
    elsewhere = [each for each in rastrum.__all__ if getattr(getattr(rastrum, each), "__module__", "") == module.__name__]
    see = f"\nOn the page of [`rastrum`](public.md): {', '.join(f'`{each}`' for each in elsewhere)}.\n" if elsewhere else ""
    exclude = f"   :exclude-members: {', '.join(elsewhere)}\n" if elsewhere else ""
    return f"## rastrum.{name}\n{see}\n```{{eval-rst}}\n.. automodule:: rastrum.{name}\n{exclude}```"


def commands() -> str:
    """The page of the commands."""
    parts = ["# Commands", f"```text\n{usage()}\n```"]
    for name, (_, about) in COMMANDS.items():
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            main([name, "--help"])
        parts.append(f"## rastrum {name}\n\n{about[:1].upper()}{about[1:]}.\n\n```text\n{shown.getvalue().rstrip()}\n```")
    return "\n\n".join(parts) + "\n"
