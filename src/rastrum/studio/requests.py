"""What a page asks for: each room is a frozen dataclass of what was asked, read from JSON with its types checked, and ``run`` answers it.

No web here: a room is an iterator of plain dictionaries, which JSON can hold. Arrays in them are base64 of little-endian numbers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from types import NoneType
from typing import Any, Self, get_args, get_type_hints

import numpy as np
import torch
from torch import Tensor

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


def packed(values: Tensor | np.ndarray, kind: str = "u1") -> str:
    """Values as base64.

    values: any shape.
    kind: numpy's name of their type, little-endian; bytes by default.
    """
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    return b64encode(np.ascontiguousarray(array).astype(f"<{kind}").tobytes()).decode()


def pixels(pictures: Tensor) -> str:
    """Pictures in [0, 1] as base64 of bytes; any shape."""
    return packed((pictures.clamp(0, 1) * 255).round())


def unpacked(name: str, text: str, spec: ImageSpec, levels: int) -> Tensor:
    """An image or a mask that a page sent.

    name: of the field, for messages.
    text: base64 of bytes.
    spec: of the image.
    levels: that a value may have.

    Returns int64 (1, *spec.shape). Raises ``ValueError`` for text that is not such an image.
    """
    try:
        data = b64decode(text, validate=True)
    except (Error, ValueError):
        raise ValueError(f"{name}: expected base64") from None
    if len(data) != spec.size:
        raise ValueError(f"{name}: expected {spec.size} values, got {len(data)}")
    values = torch.from_numpy(np.frombuffer(data, np.uint8).astype(np.int64)).view(1, *spec.shape)
    if int(values.max()) >= levels:
        raise ValueError(f"{name}: expected values 0 … {levels - 1}, got {int(values.max())}")
    return values
