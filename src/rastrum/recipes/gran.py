"""GRAN and DCGAN: generators that are trained against a discriminator."""

from typing import Any

from ..config import DataConfig, OptimConfig, RunConfig, Score
from .recipe import ADVERSARIAL, BINARY, COLOUR, GREY, ONE_CORE, Budget, Recipe

SHEET = ("rastrum sample FOLDER --count 64 --out samples.png",)
MNIST: dict[str, Any] = {"images": GREY, "data": DataConfig(name="mnist", train="train[:50000]", held_out="train[50000:]"), "then": SHEET}
CIFAR10: dict[str, Any] = {"images": COLOUR, "data": DataConfig(name="cifar10"), "then": SHEET}
TEN_MINUTES = RunConfig(cpu_minutes=10.0, workers=1, held_out_images=500)
# The paper's: Adam, 4e-5 for the discriminator and 1e-4 for the generator.
PAPER: dict[str, Any] = {
    "preset": "paper",
    "options": {"generator_rate": 2.5},
    "optim": OptimConfig(learning_rate=4e-5, betas=(0.5, 0.999), schedule="constant", ema=0.0, batch=100, micro_batch=None),
    "run": RunConfig(steps=50_000, evaluations=50, held_out_images=500),
    "flags": "--run.device cuda",
}


def distance(value: float, error: float, notes: str = "") -> Score:
    """The kernel distance of 5,000 samples to as many test images.

    value, error: of it, by features of a small classifier, seed 0.
    notes: what else tells it apart, "" by default.
    """
    notes = "; ".join(["by features of a small classifier, seed 0", notes][: 1 + bool(notes)])
    return Score(value=value, error=error, unit="kernel distance", kind="measure", images=5000, split="test", below=True, notes=notes)


def recall(value: float, notes: str = "") -> Score:
    """The share of 5,000 test images that lie near a sample, ``value``; ``notes`` as in ``distance``."""
    notes = "; ".join(["of other images of the data 0.88", notes][: 1 + bool(notes)])
    return Score(value=value, unit="recall", kind="measure", images=5000, split="test", notes=notes)


RECIPES = (
    Recipe(
        name="gran-mnist-threshold",
        about="GRAN, three strokes, on thresholded MNIST.",
        system="gran",
        images=BINARY,
        data=DataConfig(name="mnist", binarise="threshold"),
        optim=ADVERSARIAL,
        run=RunConfig(cpu_minutes=6.0, workers=1, evaluations=1),
        then=("rastrum evaluate FOLDER --count 5000", *SHEET),
        hardware=ONE_CORE,
        budget=(Budget(minutes=6, steps=6425),),
        expected=distance(0.0158, 0.003),
        further=(recall(0.72), distance(0.053, 0.006, "after two minutes"), recall(0.60, "after two minutes")),
        tuned_on="validation",
    ),
    Recipe(
        name="gran-mnist",
        about="GRAN, three strokes, on MNIST; --model.steps 1 and 5 are the paper's other two, --model.noise "
        "shared the authors' code.",
        system="gran",
        optim=ADVERSARIAL,
        run=TEN_MINUTES,
        **MNIST,
    ),
    Recipe(
        name="gran-mnist-relativistic",
        about="GRAN, three strokes, on MNIST, with the relativistic loss and penalties on the discriminator's gradient.",
        system="gran",
        options={"loss": "relativistic", "discriminator_norm": "none"},
        optim=ADVERSARIAL,
        run=TEN_MINUTES,
        **MNIST,
    ),
    Recipe(name="gran-mnist-paper", about="GRAN with the paper's norms, loss and rates, on MNIST.", system="gran", **PAPER, **MNIST),
    Recipe(
        name="gran-cifar10",
        about="GRAN, three strokes, on CIFAR-10.",
        system="gran",
        optim=ADVERSARIAL,
        run=RunConfig(cpu_minutes=30.0, workers=1, held_out_images=500),
        **CIFAR10,
    ),
    Recipe(name="gran-cifar10-paper", about="GRAN with the paper's norms, loss and rates, on CIFAR-10.", system="gran", **PAPER, **CIFAR10),
    Recipe(
        name="dcgan-mnist", about="DCGAN on MNIST.", system="dcgan", optim=ADVERSARIAL, run=TEN_MINUTES, **MNIST
    ),
    Recipe(
        name="dcgan-cifar10",
        about="DCGAN on CIFAR-10.",
        system="dcgan",
        optim=ADVERSARIAL,
        run=RunConfig(cpu_minutes=30.0, workers=1, held_out_images=500),
        **CIFAR10,
    ),
)
