"""What a page can ask for, by the names that messages have."""

from __future__ import annotations

from .complete import Complete, Example
from .concept import Concept
from .requests import Request
from .scenes import Scene
from .strokes import Strokes
from .surprise import Surprise
from .training import Training
from .watch import Watch

ROOMS: dict[str, type[Request]] = {
    "watch": Watch,
    "complete": Complete,
    "example": Example,
    "strokes": Strokes,
    "concept": Concept,
    "scene": Scene,
    "surprise": Surprise,
    "training": Training,
}
