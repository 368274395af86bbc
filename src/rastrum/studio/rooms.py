"""What a page can ask for, by the names that messages have."""

from __future__ import annotations

from .complete import Complete, Example
from .filters import Attend
from .requests import Request
from .strokes import Strokes
from .surprise import Surprise
from .training import Training
from .watch import Watch

ROOMS: dict[str, type[Request]] = {
    "watch": Watch,
    "complete": Complete,
    "example": Example,
    "strokes": Strokes,
    "filters": Attend,
    "surprise": Surprise,
    "training": Training,
}
