"""What a page asks for: each room is a frozen dataclass of what was asked, read from JSON with its types checked, and ``run`` answers it.

No web here: a room is an iterator of plain dictionaries, which JSON can hold; ``arrays.py`` says how arrays lie in them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from base64 import b64decode
from binascii import Error
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from types import NoneType
from typing import Any, Self, get_args, get_type_hints

import numpy as np
import torch
from torch import Tensor

from ..model import Model
from ..protocol import ImageSpec
from .models import Models

Answer = dict[str, Any]


@dataclass(frozen=True)
class Request(ABC):
    """Base of every room. Its fields are what the page sends, of the types int, float, str, or one of these or None."""

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Self:
        """The request that a page sent.

        found: its fields, from JSON.

        Raises ``ValueError`` for a field that is missing, unknown, of another type or not finite.
        """
        types = get_type_hints(cls)
        names = {field.name: field.default is MISSING for field in fields(cls)}
        for name in found:
            if name not in names:
                raise ValueError(f"request: unknown field {name!r}; expected {', '.join(names)}")
        for name, required in names.items():
            if required and name not in found:
                raise ValueError(f"request: the field {name!r} is missing")
        return cls(**{name: _checked(name, value, get_args(types[name]) or (types[name],)) for name, value in found.items()})

    @abstractmethod
    def run(self, models: Models) -> Iterator[Answer]:
        """What is sent back, one message at a time; the next is made when the page is ready for it.

        models: those of the studio.

        Raises ``ValueError`` for what was asked and cannot be.
        """


def _checked(name: str, value: Any, types: tuple[type, ...]) -> Any:
    if float in types and type(value) is int:
        value = float(value) if abs(value) < 1 << 53 else math.inf
    if type(value) not in types:
        kinds = " or ".join("none" if kind is NoneType else kind.__name__ for kind in types)
        raise ValueError(f"{name}: expected {kinds}, got {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value}")
    return value


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raises ``ValueError`` for a value outside low … high.

    name: of the value, for the message.
    value, low, high: the value and its limits.
    """
    if not low <= value <= high:
        raise ValueError(f"{name}: expected {low:g} … {high:g}, got {value:g}")


def unpacked(name: str, text: str, spec: ImageSpec, levels: int) -> Tensor:
    """An image or a mask that a page sent.

    name: of the field, for messages.
    text: base64 of bytes.
    spec: of the image.
    levels: that a value may have.

    Returns int64 (1, *spec.shape). Raises ``ValueError`` for text that is not such an image.
    """
    values = torch.from_numpy(_array(name, text, spec.size, "u1").astype(np.int64)).view(1, *spec.shape)
    if int(values.max()) >= levels:
        raise ValueError(f"{name}: expected values 0 … {levels - 1}, got {int(values.max())}")
    return values


def condition_of(model: Model, class_number: int | None, spatial_map: str | None) -> int | Tensor | None:
    """The condition that a page chose.

    model: that takes it.
    class_number: of a model of classes, else None.
    spatial_map: of a model that takes one, as base64 of float32, else None.

    Raises ``ValueError`` for a map that does not fit.
    """
    if spatial_map is None:
        return class_number
    given = model.condition_spec
    if given is None or not isinstance(given.size, tuple):
        raise ValueError(f"spatial_map: this {type(model).__name__} takes none")
    return torch.from_numpy(_array("spatial_map", spatial_map, math.prod(given.size), "f4").reshape(given.size).copy())


def _array(name: str, text: str, count: int, kind: str) -> np.ndarray:
    """So many numbers of a ``kind`` from base64."""
    try:
        data = b64decode(text, validate=True)
    except (Error, ValueError):
        raise ValueError(f"{name}: expected base64") from None
    size = np.dtype(kind).itemsize
    if len(data) != count * size:
        raise ValueError(f"{name}: expected {count} values, got {len(data) // size}")
    return np.frombuffer(data, f"<{kind}")
