"""The models of a studio: described without their weights, and loaded when first asked for, once for all sessions."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import rastrum

from ..checkpoint import read_config, read_origin
from ..exemplars import ABSENT
from ..model import Model
from ..models import MODELS
from ..raster import RasterModel
from ..strokes import CanvasModel
from .arrays import packed

LARGEST = 1 << 14              # values of an image: those of a larger one take too long to watch
MOST_TIMES = 3                 # as large, a side, as the images of a model: pictures that it may code, if its weights go with any size
MOST_CELLS = 64                # of a spatial map, each of which the page lets one choose

Kind = TypeVar("Kind", bound=Model)


class Models:
    """Saved models by name.

    names: as ``rastrum.load`` takes them.
    runs: folder of the runs that the room *Training* follows; None (default) for none.

    Models that no room can show are left out: more than 256 levels, more than 16,384 values, and those that need a vector or a spatial map
    of more than 64 cells that holds no exemplars; of canvas models also videos and those that need any spatial map. Raises
    ``CheckpointError`` where there is no such model, ``OSError`` if the Hub cannot be reached.
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
    """What a page shows of a model before it is loaded: name, size, classes or spatial map, score, and the rooms that it is for.

    name: as ``rastrum.load`` takes it.

    A spatial map is given by its shape, how many of its channels are an exemplar (0: it has none), what its channels mean, and one to begin
    with, as base64 of float32.
    """
    config, origin = read_config(name), read_origin(name)
    spec, model = config["spec"], MODELS.get(config["model"])
    condition: dict[str, Any] = config["condition_spec"] or {"kind": None}
    frames, kind = spec.get("frames", 1), condition["kind"]
    exemplar = spec["channels"] if config["config"].get("condition_exemplars") else 0
    cells = kind == "map" and (exemplar or math.prod(condition["size"][1:]) <= MOST_CELLS)
    shown = spec["levels"] <= 256 and frames * spec["channels"] * spec["height"] * spec["width"] <= LARGEST
    rooms: tuple[str, ...] = ()
    if shown and model is not None and issubclass(model, RasterModel) and (kind in (None, "class") or cells):
        rooms = ("watch", "complete", "surprise") if frames == 1 else ("watch", "complete")
    elif shown and frames == 1 and kind in (None, "class") and model is not None and issubclass(model, CanvasModel) and model.has_posterior:
        rooms = ("strokes", "concept") if makes_files(model, config["config"]) else ("strokes",)
    score = origin.results[0] if origin.results else None
    return {
        "name": name, "system": config["model"], "rooms": rooms,
        **{key: spec[key] for key in ("channels", "height", "width", "levels")},
        "frames": frames, "times": MOST_TIMES if "concept" in rooms and not config["config"]["positional"] else 1,
        "classes": classes(condition["size"], origin.class_names) if kind == "class" else None,
        "map": None if not cells else {
            "shape": condition["size"], "exemplar": exemplar, "names": classes(condition["size"][0], origin.class_names),
            "first": packed(first_map(condition["size"], exemplar), "f4"),
        },
        "score": "" if score is None else f"{'at most ' * (score.kind == 'bound')}{score.number} {score.unit}",
        "training": config.get("training") or "",
    }  # fmt: skip


def first_map(shape: Sequence[int], exemplar: int) -> np.ndarray:
    """A spatial map to begin with: a cross as the only exemplar, or one value in the upper right corner.

    shape: (C, h, w).
    exemplar: channels of one exemplar; 0 if it holds none.
    """
    channels, height, width = shape
    found = np.full(shape, ABSENT if exemplar else 0.0)
    if not exemplar:
        found[channels // 2, 0, -1] = 1
        return found
    found[:exemplar] = 0
    found[:exemplar, height // 6 : height - height // 6, (width - 1) // 2 : width // 2 + 1] = 1
    found[:exemplar, (height - 1) // 2 : height // 2 + 1, width // 6 : width - width // 6] = 1
    return found


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
