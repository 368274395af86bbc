"""Sequential generative models that generalise from one example (Rezende et al. 2016), on Omniglot."""

from typing import Any

from ..config import DataConfig, OptimConfig, RunConfig, Score
from .draw import bound
from .recipe import BINARY, ONE_CORE, Budget, Published, Recipe

LARGE = (1, 52, 52, 2)
GMN = "Bartunov, Vetrov 2018, Generative Matching Networks"
# Of the 30 background alphabets the last four, with 137 characters, are held out to choose settings on.
CHOSEN: dict[str, Any] = {"train": "train[:16540]", "held_out": "train[16540:]"}
FIVE: dict[str, Any] = {"train": "train45", "held_out": "test5"}
LAPTOP: dict[str, Any] = {
    "system": "one-shot",
    "optim": OptimConfig(learning_rate=2e-3, warm_up=100, clip=20.0, batch=64, micro_batch=None),
    "run": RunConfig(cpu_minutes=4.0, workers=1, evaluations=4),
    "hardware": ONE_CORE,
}
PAPER: dict[str, Any] = {
    "system": "one-shot",
    "preset": "paper",
    "optim": OptimConfig(learning_rate=1e-3, warm_up=500, ema=0.9995, clip=20.0, batch=128, micro_batch=None),
    "run": RunConfig(steps=100_000, evaluations=50),
    "flags": "--run.device cuda",
}

RECIPES = (
    Recipe(
        name="one-shot-omniglot28",
        about="One-shot generalization without exemplars: ten strokes on the 28x28 Omniglot of Generative Matching Networks.",
        **LAPTOP,
        images=BINARY,
        data=DataConfig(name="omniglot28", **CHOSEN),
        then=("rastrum evaluate FOLDER --split test",),
        budget=(Budget(minutes=4, steps=1071),),
        expected=bound(141.58, 0.44, "nats", 13_180),
        published=(Published(value=90.9, unit="nats", source=GMN, decimals=1, notes="its own model without exemplars"),),
    ),
    Recipe(
        name="one-shot-omniglot28-exemplars",
        about="One-shot generalization: ten strokes on the 28x28 Omniglot, given 0 to 9 other drawings of the character, combined by "
        "attention.",
        **{**LAPTOP, "run": RunConfig(cpu_minutes=42.0, workers=1, evaluations=7)},
        images=BINARY,
        data=DataConfig(name="omniglot28", exemplars=9, **CHOSEN),
        conditional=True,
        then=("rastrum evaluate FOLDER --split test", "rastrum exemplars FOLDER --pair-samples 3"),
        budget=(Budget(minutes=42, steps=8904),),
        expected=bound(100.01, 0.38, "nats", 13_180, notes="1 trajectory, 0 … 9 exemplars"),
        further=(
            bound(101.74, 3.80, "nats", 100, notes="1,000 trajectories, without an exemplar"),
            bound(94.80, 3.94, "nats", 100, notes="1,000 trajectories, 1 exemplar"),
            bound(88.98, 3.88, "nats", 100, notes="1,000 trajectories, 9 exemplars"),
            Score(value=31.2, error=2.3, unit="%", kind="measure", notes="wrong answers in the 20 official runs, two-way"),
            Score(value=36.6, error=2.5, unit="%", kind="measure", notes="new exemplars of unseen alphabets named right"),
        ),
    ),
    Recipe(
        name="one-shot-omniglot28-exemplars-45-5",
        about="One-shot generalization: ten strokes on the 28x28 Omniglot, given 0 to 9 other drawings; 45 alphabets to train on, 5 to "
        "test on.",
        **LAPTOP,
        images=BINARY,
        data=DataConfig(name="omniglot28", exemplars=9, **FIVE),
        conditional=True,
        then=("rastrum evaluate FOLDER",),
    ),
    Recipe(
        name="one-shot-omniglot-52",
        about="One-shot generalization without exemplars: ten strokes on Omniglot at 52x52 pixels.",
        **LAPTOP,
        images=LARGE,
        data=DataConfig(name="omniglot", size=52, binarise="threshold", **CHOSEN),
        then=("rastrum evaluate FOLDER --split test",),
    ),
    Recipe(
        name="one-shot-omniglot-52-exemplars-45-5",
        about="One-shot generalization: ten strokes on Omniglot at 52x52 pixels, given one other drawing or none; 45 alphabets to "
        "train on, 5 to test on.",
        **LAPTOP,
        images=LARGE,
        data=DataConfig(name="omniglot", size=52, binarise="threshold", exemplars=1, **FIVE),
        conditional=True,
        then=("rastrum evaluate FOLDER",),
        budget=(Budget(minutes=14, steps=1696, notes="instead of 4 min"),),
        expected=bound(234.60, 1.90, "nats", 2880, split="test5", below=True, notes="1 trajectory, 0 … 1 exemplars"),
    ),
    Recipe(
        name="one-shot-omniglot28-exemplars-paper",
        about="One-shot generalization: 80 strokes and a convolutional GRU on the 28x28 Omniglot, given 0 to 9 other drawings; all 30 "
        "background alphabets.",
        **PAPER,
        images=BINARY,
        data=DataConfig(name="omniglot28", exemplars=9),
        conditional=True,
        then=("rastrum evaluate FOLDER --num-samples 1000 --count 1000",),
        published=(Published(value=82.8, unit="nats", source=GMN, decimals=1, notes="its own model with 1 exemplar, 64.6 with 9"),),
    ),
    Recipe(
        name="one-shot-omniglot-52-exemplars-45-5-paper",
        about="One-shot generalization: 80 strokes and a convolutional GRU on Omniglot at 52x52 pixels, given one other drawing or "
        "none; 45 alphabets.",
        **PAPER,
        images=LARGE,
        data=DataConfig(name="omniglot", size=52, binarise="threshold", exemplars=1, **FIVE),
        conditional=True,
        then=("rastrum evaluate FOLDER",),
    ),
)
