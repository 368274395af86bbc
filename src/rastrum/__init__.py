"""Rastrum: images made one decision at a time, pixel by pixel or stroke by stroke. Public names, resolved when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import notebook

__version__ = "0.1.0"

_WHERE = {
    "protocol": ("ImageSpec", "ConditionSpec", "Frame"),
    "raster": ("RasterModel",),
    "strokes": ("CanvasModel",),
    "models": ("MODELS", "build", "load"),
    "generation": ("sample", "complete", "generate", "reconstruct"),
    "checking": ("check",),
    "exemplars": ("exemplar_map",),
    "compression": ("FileError", "compress", "compress_image", "decompress", "decompress_image"),
    "images": ("Images",),
    "display": ("show", "animate"),
    "train": ("train",),
    "lecture": ("lecture",),
    "zoo": ("zoo",),
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names}
__all__ = sorted(_MODULE)  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from . import lecture as lecture
    from . import zoo as zoo
    from .checking import check as check
    from .compression import FileError as FileError
    from .compression import compress as compress
    from .compression import compress_image as compress_image
    from .compression import decompress as decompress
    from .compression import decompress_image as decompress_image
    from .display import animate as animate
    from .display import show as show
    from .exemplars import exemplar_map as exemplar_map
    from .generation import complete as complete
    from .generation import generate as generate
    from .generation import reconstruct as reconstruct
    from .generation import sample as sample
    from .images import Images as Images
    from .models import MODELS as MODELS
    from .models import build as build
    from .models import load as load
    from .protocol import ConditionSpec as ConditionSpec
    from .protocol import Frame as Frame
    from .protocol import ImageSpec as ImageSpec
    from .raster import RasterModel as RasterModel
    from .strokes import CanvasModel as CanvasModel
    from .trained import TrainModule

    train: TrainModule


def _find(module: str, name: str) -> Any:
    found = import_module(f".{module}", __name__)
    return found if name == module else getattr(found, name)              # `train` is a module that can be called


notebook.find = _find


def __getattr__(name: str) -> Any:
    if name in _MODULE:
        value = _find(_MODULE[name], name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'rastrum' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
