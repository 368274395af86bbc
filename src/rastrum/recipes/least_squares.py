"""Adaptive linear prediction and a small network, on photographs: the models of ``rastrum compress``."""

from typing import Any

from ..config import DataConfig, OptimConfig, RunConfig, Score
from .recipe import ONE_CORE, Budget, Recipe

CROP = 64
PHOTOGRAPHS: dict[str, Any] = {
    "system": "least-squares",
    "optim": OptimConfig(learning_rate=2e-3, warm_up=200, ema=0.9995, batch=2),
    "then": ("rastrum evaluate FOLDER", "rastrum compress PHOTO --model FOLDER"),
    "hardware": ONE_CORE,
}


def crops(value: float, error: float) -> Score:
    """Of one crop of each piece, on which the predictors begin anew: a whole file takes fewer bits per value."""
    return Score(value=value, error=error, unit="bits/dim", kind="exact", images=100, split="test", notes="crops")


RECIPES = (
    Recipe(
        name="photo",
        about="Lossless compression of photographs in colour, as rastrum compress uses it; trained on random pieces of photographs, 64x64.",
        **PHOTOGRAPHS,
        images=(3, CROP, CROP, 256),
        data=DataConfig(name="photographs", crop=CROP),
        run=RunConfig(cpu_minutes=70.0, workers=1),
        budget=(Budget(minutes=70, steps=51393),),
        expected=crops(1.944, 0.059),
        tuned_on="test",
    ),
    Recipe(
        name="photo-grey",
        about="Lossless compression of grey photographs, as rastrum compress uses it; trained on random pieces of photographs, 64x64.",
        **PHOTOGRAPHS,
        images=(1, CROP, CROP, 256),
        data=DataConfig(name="photographs", crop=CROP, grey=True),
        run=RunConfig(cpu_minutes=8.0, workers=1),
        budget=(Budget(minutes=8, steps=12811),),
        expected=crops(2.328, 0.083),
        tuned_on="test",
    ),
)
