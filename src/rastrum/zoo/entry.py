"""What is known of a bundled model, and what to type to use it. Everything comes from its folder and from the model itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from ..card import Paper, example_of
from ..checkpoint import BUNDLED, WEIGHTS, Origin, find, name_of
from ..lecture import FIGURES
from ..model import Model
from ..models import load
from ..raster import RasterModel
from ..recipes import RECIPES
from ..strokes import CanvasModel

USE = "use"                    # the row of a card that says what a model is for, and by which command: "lossless files: rastrum compress";
                               # with --model where the command would take another model by itself


@dataclass(frozen=True)
class Entry:
    """A bundled model.

    name: as ``rastrum.load`` takes it.
    model: itself.
    """

    name: str
    model: Model

    @staticmethod
    def of(name: str) -> Entry:
        """A bundled model by its ``name``; it is loaded once."""
        return Entry(name, _loaded(name))

    @property
    def origin(self) -> Origin:
        """What its folder says."""
        return self.model.origin or Origin()

    @property
    def title(self) -> str:
        """Its name without "rastrum/"."""
        return self.name.removeprefix(BUNDLED)

    @property
    def about(self) -> str:
        """What its recipe says of it in a sentence; "" without a recipe of the package."""
        return RECIPES[self.origin.recipe].about if self.origin.recipe in RECIPES else ""

    @property
    def system(self) -> str:
        """Its name in ``rastrum.MODELS``."""
        return name_of(self.model)

    @property
    def parameters(self) -> int:
        """How many it has."""
        return sum(each.numel() for each in self.model.parameters())

    @property
    def bytes(self) -> int:
        """Size of the file of its weights."""
        return (find(self.name) / WEIGHTS).stat().st_size

    @property
    def images(self) -> str:
        """What it draws: "1x28x28, 2 levels, 10 classes"."""
        spec, condition = self.model.spec, self.model.condition_spec
        parts = [f"{spec.frames} frames of " * (spec.frames > 1) + f"{spec.channels}x{spec.height}x{spec.width}", f"{spec.levels} levels"]
        if self.model.slots:
            parts.append(f"{self.model.slots} exemplar{'s' * (self.model.slots > 1)}")
        elif condition is not None:
            shape = "x".join(map(str, condition.shape))
            parts.append(f"{condition.size} classes" if condition.kind == "class" else f"{condition.kind} {shape}")
        return ", ".join(parts)

    @property
    def score(self) -> str:
        """The first of its scores in short: "≤ 85.01 ± 0.23 nats, bound"; "" without one."""
        return "".join(f"{score.brief}, {score.kind}" for score in self.origin.results[:1])

    @property
    def commands(self) -> Mapping[str, tuple[str, ...]]:
        """What to type, by what it does: "train", "evaluate", and "draw", or for a model that is for files "use"."""
        draw = (self._use(),) if USE in self.origin.rows else self._draw()
        found = {"train": self.origin.commands, "evaluate": (f"rastrum evaluate {self.name}",)}
        return found | {"use" if USE in self.origin.rows else "draw": draw}

    def _use(self) -> str:
        return self.origin.rows[USE].rpartition(": ")[2] + " photo.png"

    def _draw(self) -> tuple[str, ...]:
        condition, temperature = self.model.condition_spec, self.origin.temperature
        if self.model.spec.frames > 1:
            return (f"rastrum sample {self.name} --trace videos.gif", f"rastrum figure video {self.name} --out continued.mp4")
        if condition is not None and condition.kind != "class":           # which the figure chooses
            return () if self.figure is None else (f"rastrum figure {self.figure} {self.name} --out {self.figure}.png",)
        more = "" if temperature is None else f" --temperature {temperature:g}"
        return (f"rastrum sample {self.name}{more} --out samples.png --trace samples.gif",)

    @property
    def figure(self) -> str | None:
        """Which figure of the lecture shows it; None where a sheet of samples does."""
        model, condition, raster = self.model, self.model.condition_spec, isinstance(self.model, RasterModel)
        of_system = next((figure.name for figure in FIGURES.values() if figure.models == (self.system,)), None)
        if model.spec.frames > 1:
            return "video"
        if condition is not None:
            kind = {"class": "classes"}.get(condition.kind, condition.kind)
            return "exemplars" if model.slots else kind if raster else None
        if USE in self.origin.rows:
            return of_system
        in_strokes = isinstance(model, CanvasModel) and model.has_posterior and model.steps > 1
        return None if raster else "generation" if in_strokes else of_system

    @property
    def example(self) -> str:
        """Lines of Python that load it and draw with it."""
        return example_of(self.model, self.origin, self.name)

    @property
    def paper(self) -> Paper | None:
        """What it is cited by."""
        return self.model.paper

    def facts(self) -> dict[str, Any]:
        """All of it for JSON."""
        names = ("name", "system", "about", "images", "parameters", "bytes", "commands", "example")
        more = {"data": None if self.origin.data is None else self.origin.data.name, "rows": dict(self.origin.rows),
                "scores": [asdict(score) for score in self.origin.results], "temperature": self.origin.temperature,
                "paper": None if self.paper is None else self.paper._asdict()}  # fmt: skip
        return {each: getattr(self, each) for each in names} | {"training": self.origin.training} | more


@cache
def _loaded(name: str) -> Model:
    return load(name)
