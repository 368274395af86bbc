"""Rastrum: images made one decision at a time, pixel by pixel or stroke by stroke. Public names, resolved when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "protocol": ("ImageSpec", "ConditionSpec", "Frame"),
    "raster": ("RasterModel",),
    "strokes": ("CanvasModel",),
    "models": ("MODELS", "build", "load"),
    "generation": ("sample", "complete", "generate", "reconstruct"),
    "checking": ("check",),
    "compression": ("FileError", "compress", "decompress"),
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names}
__all__ = sorted(_MODULE)  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from .checking import check as check
    from .compression import FileError as FileError
    from .compression import compress as compress
    from .compression import decompress as decompress
    from .generation import complete as complete
    from .generation import generate as generate
    from .generation import reconstruct as reconstruct
    from .generation import sample as sample
    from .models import MODELS as MODELS
    from .models import build as build
    from .models import load as load
    from .protocol import ConditionSpec as ConditionSpec
    from .protocol import Frame as Frame
    from .protocol import ImageSpec as ImageSpec
    from .raster import RasterModel as RasterModel
    from .strokes import CanvasModel as CanvasModel


def __getattr__(name: str) -> Any:
    if name in _MODULE:
        value = getattr(import_module(f".{_MODULE[name]}", __name__), name)
        globals()[name] = value                                           # `check` is also a module: the name means the function
        return value
    raise AttributeError(f"module 'rastrum' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
