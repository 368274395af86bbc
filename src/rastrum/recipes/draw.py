"""DRAW (Gregor et al. 2015)."""

from dataclasses import replace
from typing import Any

from ..config import DataConfig, OptimConfig, RunConfig, Score
from .recipe import BINARY, DIGITS, ONE_CORE, Budget, Published, Recipe

PAPER = "Gregor et al. 2015"
TWO, TWO_COLOUR = (1, 60, 60, 2), (3, 60, 60, 256)
# 45 minutes of a small DRAW on two digits.
TWO_DIGITS: dict[str, Any] = {
    "system": "draw",
    "options": {"steps": 16, "latent": 20, "hidden": 256, "read": 8, "write": 8},
    "run": RunConfig(cpu_minutes=45.0, workers=1, held_out_images=500),
    "then": ("rastrum evaluate FOLDER",),
    "hardware": ONE_CORE,
}
BINARIZED = OptimConfig(learning_rate=3e-3, betas=(0.9, 0.99), warm_up=100, clip=5.0, batch=100, micro_batch=None)
THREE_HUNDRED: dict[str, Any] = {
    "system": "draw",
    "images": BINARY,
    "data": DataConfig(name="mnist", train="test[:9000]", held_out="test[9000:]", binarise="dynamic"),
    "run": RunConfig(steps=300, evaluations=6, held_out_images=None),
    "tuned_on": "test",
}


def bound(value: float, error: float | None, unit: str, images: int | None = None, split: str = "test", **more: Any) -> Score:
    """A bound, with one trajectory where ``notes`` do not say otherwise.

    value, error: mean and standard error, in ``unit``; error None where it was not measured.
    unit: "nats" or "bits/dim".
    images: how many; None (default) = unknown.
    split: "test" by default.
    more: further fields of ``Score``.
    """
    return Score(value=value, error=error, unit=unit, kind="bound", images=images, split=split, **{"notes": "1 trajectory", **more})


def port(value: float) -> Score:
    """The bound, ``value`` in nats, of the best of the public implementations tried, after the same 300 steps."""
    return bound(value, None, "nats", split="", notes="the best of the public implementations tried")


def two_digits(clip: float) -> OptimConfig:
    """The optimiser of the runs on two digits, with gradients clipped at norm ``clip``."""
    return OptimConfig(learning_rate=3e-3, betas=(0.9, 0.99), warm_up=100, clip=clip, batch=64, micro_batch=None)


def three_hundred(learning_rate: float) -> OptimConfig:
    """The optimiser of the runs of 300 steps, at this ``learning_rate``."""
    return OptimConfig(
        learning_rate=learning_rate, betas=(0.9, 0.99), warm_up=40, ema=0.0, clip=5.0, batch=100, micro_batch=None
    )


RECIPES = (
    Recipe(
        name="draw-digits",
        about="DRAW with attention on the embedded digits (8x8, 17 levels).",
        system="draw",
        options={"hidden": 128, "read": 4, "write": 4},
        images=DIGITS,
        data=DataConfig(name="digits"),
        optim=OptimConfig(learning_rate=1e-2, warm_up=40, ema=0.99, clip=50.0, batch=64, micro_batch=None),
        run=RunConfig(steps=1000, held_out_images=None),
        hardware=ONE_CORE,
        budget=(Budget(minutes=56 / 60, steps=1000, clock="wall"),),
        expected=bound(2.04, 0.02, "bits/dim", 360),
        tuned_on="test",
    ),
    Recipe(
        name="draw-binarized-mnist",
        about="DRAW with attention, 16 strokes, on Larochelle's binarised MNIST.",
        system="draw",
        options={"hidden": 176, "steps": 16},
        images=BINARY,
        data=DataConfig(name="binarized-mnist", held_out="validation"),
        optim=BINARIZED,
        run=RunConfig(cpu_minutes=45.0, workers=1),
        then=("rastrum evaluate FOLDER",),
        hardware=ONE_CORE,
        budget=(Budget(minutes=45, steps=23_325),),
        expected=bound(85.01, 0.23, "nats", 10_000),
        further=(bound(81.28, 0.66, "nats", 1000, notes="100 trajectories"),),
        published=(Published(value=80.97, unit="nats", source=PAPER, sign="≤", notes="64 strokes"),),
        tuned_on="validation",
    ),
    Recipe(
        name="draw-binarized-mnist-no-attention",
        about="DRAW without attention, with as many strokes and parameters as draw-binarized-mnist, on Larochelle's binarised MNIST.",
        system="draw",
        options={"hidden": 56, "steps": 16, "attention": False},
        images=BINARY,
        data=DataConfig(name="binarized-mnist", held_out="validation"),
        optim=BINARIZED,
        run=RunConfig(cpu_minutes=10.0, workers=1, evaluations=5),
        then=("rastrum evaluate FOLDER",),
        hardware=ONE_CORE,
        budget=(Budget(minutes=10, steps=20_013),),
        expected=bound(97.90, 0.28, "nats", 10_000),
        further=(bound(92.63, 0.82, "nats", 1000, notes="100 trajectories"),),
        published=(Published(value=87.40, unit="nats", source=PAPER, sign="≤", notes="64 strokes"),),
    ),
    Recipe(
        name="draw-binarized-mnist-paper",
        about="DRAW at the paper's size (64 strokes, LSTMs of 256, z of 100, read 2x2, write 5x5) on Larochelle's binarised MNIST.",
        system="draw",
        preset="paper",
        images=BINARY,
        data=DataConfig(name="binarized-mnist", held_out="validation"),
        optim=OptimConfig(learning_rate=1e-3, ema=0.9995, clip=20.0, batch=128, micro_batch=None),
        run=RunConfig(steps=100_000, evaluations=50),
        flags="--run.device cuda",
        then=("rastrum evaluate FOLDER",),
        published=(Published(value=80.97, unit="nats", source=PAPER, sign="≤"),),
    ),
    Recipe(
        name="draw-mnist-300",
        about="DRAW with attention after 300 steps on 9,000 of MNIST's test digits: a quick comparison of implementations.",
        **THREE_HUNDRED,
        optim=three_hundred(1e-2),
        hardware="a shared two-core machine",
        budget=(Budget(minutes=380 / 60, steps=300, clock="wall", notes="while it was busy"),),
        expected=bound(123.2, 1.1, "nats", 1000, "test[9000:]"),
        further=(port(210.7),),
    ),
    Recipe(
        name="draw-mnist-300-no-attention",
        about="DRAW without attention after 300 steps on 9,000 of MNIST's test digits, dynamically binarised.",
        **THREE_HUNDRED,
        options={"attention": False},
        optim=three_hundred(8e-3),
        hardware="a shared two-core machine",
        budget=(Budget(minutes=43 / 60, steps=300, clock="wall"),),
        expected=bound(118.0, 1.1, "nats", 1000, "test[9000:]"),
        further=(port(129.7),),
    ),
    Recipe(
        name="draw-two-digit-mnist",
        about="DRAW with attention, 16 strokes, on pairs of MNIST digits at random positions on 60x60 pixels, dynamically binarised.",
        **(TWO_DIGITS | {"run": replace(TWO_DIGITS["run"], cpu_minutes=55.0)}),
        images=TWO,
        data=DataConfig(name="two-digit-mnist", binarise="dynamic"),
        optim=two_digits(20.0),
        budget=(Budget(minutes=55, steps=28_023, notes="10 minutes, then 45 more by --resume"),),
        expected=bound(190.43, 0.36, "nats", 10_000),
    ),
    Recipe(
        name="draw-two-digit-mnist-colour",
        about="DRAW with attention, 16 strokes, on pairs of coloured MNIST digits on coloured grounds; the paper draws house numbers.",
        **TWO_DIGITS,
        images=TWO_COLOUR,
        data=DataConfig(name="two-digit-mnist-colour"),
        optim=two_digits(500.0),
        budget=(Budget(minutes=20, steps=2066, notes="instead of 45"),),
        expected=bound(1.607, 0.018, "bits/dim", 500, below=True),
    ),
)
