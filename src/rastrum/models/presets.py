"""Presets of a model's configuration: three sizes by name, explicit overrides, and the errors of both."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any, TypeVar

from ..protocol import ImageSpec

Config = TypeVar("Config")


def choose(config_class: type[Config], name: str, overrides: dict[str, Any], **presets: dict[str, Any]) -> Config:
    """A configuration by the name of its preset.

    config_class: a dataclass.
    name: one of ``presets``.
    overrides: options of ``config_class`` that replace those of the preset.
    presets: options of each preset, by its name.

    Raises ``ValueError`` naming an unknown preset or option.
    """
    if name not in presets:
        raise ValueError(f"preset: expected one of {', '.join(presets)}, got {name!r}")
    fields = {field.name: field for field in dataclasses.fields(config_class)}  # pyright: ignore[reportArgumentType]
    for option in overrides:
        if option not in fields:
            near = difflib.get_close_matches(option, fields, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(fields)}"
            raise ValueError(f"{config_class.__name__} has no option {option!r}{hint}")
    return config_class(**{**presets[name], **overrides})


MOST, MOST_KERNEL = 1 << 20, 255   # the taps of a kernel are listed, so a senseless one would take time and memory before any tensor does


def check_config(config: Any, spec: ImageSpec, grouped: tuple[str, ...] = (), kernels: tuple[str, ...] = ()) -> None:
    """Raises ``ValueError`` for values that no model supports, and for videos.

    config: a dataclass; options whose default is an int are counts, 1 … MOST; those whose default is a bool are switches.
    spec: of the images.
    grouped: options that must be multiples of the colour channels.
    kernels: options that must be odd, 3 … MOST_KERNEL.
    """
    if spec.frames > 1:
        raise ValueError(f"frames: this model draws still images, got {spec.frames} frames")
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if type(field.default) is int and (type(value) is not int or value < 1):
            raise ValueError(f"{field.name}: expected a whole number of at least 1, got {value!r}")
        if type(field.default) is int and value > MOST:
            raise ValueError(f"{field.name}: expected at most {MOST:,}, got {value:,}")
        if type(field.default) is bool and type(value) is not bool:
            raise ValueError(f"{field.name}: expected True or False, got {value!r}")
    for name in grouped:
        if getattr(config, name) % spec.channels:
            raise ValueError(f"{name}: images of {spec.channels} channels need a multiple of {spec.channels}, got {getattr(config, name)}")
    for name in kernels:
        if getattr(config, name) % 2 == 0 or not 3 <= getattr(config, name) <= MOST_KERNEL:
            raise ValueError(f"{name}: expected an odd number from 3 to {MOST_KERNEL}, got {getattr(config, name)}")


def multiple_of(groups: int) -> Callable[[int], int]:
    """Rounds a preset's number of channels up to a multiple of the colour groups."""
    return lambda channels: -(-channels // groups) * groups
