"""Presets of a model's configuration: three sizes, explicit overrides, and the errors both deserve."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any, TypeVar

from ..protocol import ImageSpec

Config = TypeVar("Config")


def choose(config_class: type[Config], name: str, overrides: dict[str, Any], **presets: dict[str, Any]) -> Config:
    """The preset ``name`` of ``config_class`` with ``overrides``; ``ValueError`` names an unknown preset or option."""
    if name not in presets:
        raise ValueError(f"preset: expected one of {', '.join(presets)}, got {name!r}")
    fields = {field.name: field for field in dataclasses.fields(config_class)}  # pyright: ignore[reportArgumentType]
    for option in overrides:
        if option not in fields:
            near = difflib.get_close_matches(option, fields, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(fields)}"
            raise ValueError(f"{config_class.__name__} has no option {option!r}{hint}")
    return config_class(**{**presets[name], **overrides})


def check_config(config: Any, spec: ImageSpec, grouped: tuple[str, ...] = (), kernels: tuple[str, ...] = ()) -> None:
    """``ValueError`` for what no model here can be.

    A count below 1, a switch that is no bool, a video, maps that do not divide into colour groups, a kernel that is even or looks nowhere.
    """
    if spec.frames > 1:
        raise ValueError(f"frames: this model draws still images, got {spec.frames} frames")
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if type(field.default) is int and (type(value) is not int or value < 1):
            raise ValueError(f"{field.name}: expected a whole number of at least 1, got {value!r}")
        if type(field.default) is bool and type(value) is not bool:
            raise ValueError(f"{field.name}: expected True or False, got {value!r}")
    for name in grouped:
        if getattr(config, name) % spec.channels:
            raise ValueError(f"{name}: {spec.channels} channels need a multiple of {spec.channels} maps, got {getattr(config, name)}")
    for name in kernels:
        if getattr(config, name) % 2 == 0 or getattr(config, name) < 3:
            raise ValueError(f"{name}: expected an odd number of at least 3, got {getattr(config, name)}")


def multiple_of(groups: int) -> Callable[[int], int]:
    """Rounds a preset's number of maps up to a multiple of the colour groups."""
    return lambda maps: -(-maps // groups) * groups
