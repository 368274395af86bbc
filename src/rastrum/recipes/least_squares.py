"""Adaptive linear prediction and a small network, on photographs: the models of ``rastrum compress``."""

from typing import Any

from ..config import DataConfig, OptimConfig, RunConfig
from .recipe import ONE_CORE, Budget, Recipe

CROP = 64
PHOTOGRAPHS: dict[str, Any] = {
    "system": "least-squares",
    "optim": OptimConfig(learning_rate=2e-3, warm_up=100, ema=0.999, batch=4),
    "then": ("rastrum evaluate FOLDER", "rastrum compress PHOTO --model FOLDER"),
    "hardware": ONE_CORE,
}

RECIPES = (
    Recipe(
        name="photo",
        about="Lossless compression of photographs in colour: what rastrum compress uses; pieces of photographs, 64x64 at random.",
        **PHOTOGRAPHS,
        images=(3, CROP, CROP, 256),
        data=DataConfig(name="photographs", crop=CROP),
        run=RunConfig(cpu_minutes=13.0, workers=1),
        budget=(Budget(minutes=13),),
    ),
    Recipe(
        name="photo-grey",
        about="Lossless compression of grey photographs, likewise.",
        **PHOTOGRAPHS,
        images=(1, CROP, CROP, 256),
        data=DataConfig(name="photographs", crop=CROP, grey=True),
        run=RunConfig(cpu_minutes=4.0, workers=1),
        budget=(Budget(minutes=4),),
    ),
)
