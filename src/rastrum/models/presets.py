"""Presets of a model's configuration: three sizes, explicit overrides, and the errors both deserve."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any, TypeVar

Config = TypeVar("Config")


def choose(config_class: type[Config], name: str, overrides: dict[str, Any], **presets: dict[str, Any]) -> Config:
    """The preset ``name`` of ``config_class`` with ``overrides``; ``ValueError`` names an unknown preset or option."""
    if name not in presets:
        raise ValueError(f"preset: expected one of {', '.join(presets)}, got {name!r}")
    fields = {field.name: field for field in dataclasses.fields(config_class)}  # pyright: ignore[reportArgumentType]
    for option, value in overrides.items():
        if option not in fields:
            near = difflib.get_close_matches(option, fields, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(fields)}"
            raise ValueError(f"{config_class.__name__} has no option {option!r}{hint}")
        default = fields[option].default
        if type(default) is int and (type(value) is not int or value < 1):
            raise ValueError(f"{option}: expected a whole number of at least 1, got {value!r}")
    return config_class(**{**presets[name], **overrides})


def divisible(config: object, groups: int, *names: str) -> None:
    """``ValueError`` unless the maps divide into the colour groups."""
    for name in names:
        value = getattr(config, name)
        if value % groups:
            raise ValueError(f"{name}: {groups} channels need a multiple of {groups} maps, got {value}")


def multiple_of(groups: int) -> Callable[[int], int]:
    """Rounds a preset's number of maps up to a multiple of the colour groups."""
    return lambda maps: -(-maps // groups) * groups
