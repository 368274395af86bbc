"""The models of a studio: described without their weights, and loaded when first asked for, once for all sessions."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import rastrum

from ..checkpoint import read_config, read_origin
from ..model import Model
from ..models import MODELS
from ..raster import RasterModel
from ..strokes import CanvasModel

LARGEST = 1 << 14              # values of an image: those of a larger one take too long to watch

Kind = TypeVar("Kind", bound=Model)


class Models:
    """Saved models by name.

    names: as ``rastrum.load`` takes them.
    runs: folder of the runs that the room *Training* follows; None (default) for none.

    Models that no room can show are left out: videos, more than 256 levels, images of more than 16,384 values, and those that need a
    condition other than a class. Raises ``CheckpointError`` where there is no such model, ``OSError`` if the Hub cannot be reached.
    """

    def __init__(self, names: Sequence[str], runs: Path | None = None) -> None:
        self.runs = runs
        self.described = [row for name in dict.fromkeys(names) if (row := describe(name))["rooms"]]
        self._names, self._loaded, self._lock = {row["name"] for row in self.described}, {}, threading.Lock()

    def get(self, name: str, kind: type[Kind]) -> Kind:
        """A model, loaded if need be.

        name: one of those that the studio has.
        kind: what it must be, such as ``RasterModel``.

        Raises ``ValueError`` for any other.
        """
        if name not in self._names:
            raise ValueError(f"model: this studio has no {name!r}; it has {', '.join(sorted(self._names))}")
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = rastrum.load(name)
        model = self._loaded[name]
        if not isinstance(model, kind):
            raise ValueError(f"model: {name} is a {type(model).__name__}, expected a {kind.__name__}")
        return model


def describe(name: str) -> dict[str, Any]:
    """What a page shows of a model before it is loaded: name, size, classes, score, and the rooms that it is for.

    name: as ``rastrum.load`` takes it.
    """
    config, origin = read_config(name), read_origin(name)
    spec, condition, model = config["spec"], config["condition_spec"], MODELS.get(config["model"])
    size = spec["channels"] * spec["height"] * spec["width"]
    shown = spec.get("frames", 1) == 1 and spec["levels"] <= 256 and size <= LARGEST and (condition is None or condition["kind"] == "class")
    rooms: tuple[str, ...] = ()
    if shown and model is not None and issubclass(model, RasterModel):
        rooms = ("watch", "complete", "surprise")
    elif shown and model is not None and issubclass(model, CanvasModel) and model.has_posterior:
        rooms = ("strokes", "concept") if makes_files(model, config["config"]) else ("strokes",)
    score = origin.results[0] if origin.results else None
    return {
        "name": name, "system": config["model"], "rooms": rooms,
        **{key: spec[key] for key in ("channels", "height", "width", "levels")},
        "classes": classes(condition["size"], origin.class_names) if condition is not None and condition["kind"] == "class" else None,
        "score": "" if score is None else f"{'at most ' * (score.kind == 'bound')}{score.number} {score.unit}",
        "training": config.get("training") or "",
    }  # fmt: skip


def makes_files(model: type[CanvasModel], config: dict[str, Any]) -> bool:
    """Whether ``rastrum compress --lossy`` takes a canvas model: its decoder has exact arithmetic, and its posterior a width that is known.

    model: its class.
    config: its settings.
    """
    return model.lower_strokes is not CanvasModel.lower_strokes and config.get("posterior") == "uniform"


def classes(count: int, names: Sequence[str]) -> list[str]:
    """Names of classes, their numbers where they have none.

    count: of classes.
    names: those of the data set, perhaps none.
    """
    return list(names) if len(names) == count else [str(i) for i in range(count)]
