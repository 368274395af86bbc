"""Convolutional DRAW (Gregor et al. 2016, "Towards Conceptual Compression")."""

from dataclasses import replace
from typing import Any

from ..config import DataConfig, OptimConfig, RunConfig, Score
from .recipe import BINARY, COLOUR, ONE_CORE, Budget, Published, Recipe

PAPER = "Gregor et al. 2016"
# Ten minutes on images of two levels and 28x28 pixels.
TWO_LEVELS: dict[str, Any] = {
    "system": "conv-draw",
    "images": BINARY,
    "optim": OptimConfig(learning_rate=4e-3, betas=(0.9, 0.99), warm_up=50, clip=100.0, batch=8, micro_batch=8),
    "run": RunConfig(cpu_minutes=10.0, workers=1, held_out_images=500),
    "hardware": ONE_CORE,
}

# For files: pictures of any size, latents whose KL a coder reaches.
FOR_FILES = OptimConfig(learning_rate=2e-3, betas=(0.9, 0.99), warm_up=50, clip=5000.0, batch=8, micro_batch=8, ema=0.999)
FILES: dict[str, Any] = {
    "system": "conv-draw",
    "options": {"steps": 2, "layers": 2, "latent": 8, "features": 26, "stride": 4, "posterior": "uniform", "skip": True}
    | {"positional": False, "beta": 0.4},
    "images": COLOUR,
    "data": DataConfig(name="cifar10"),
    "hardware": ONE_CORE,
}
LONGER = "--model.warm-up 0 --optim.learning-rate 0.002 --optim.warm-up 200"       # what follows the first training of CIFAR-10
CROP = 64                      # pixels of a side of the pieces of photographs


def bound(value: float, error: float, unit: str, images: int, below: bool = False) -> Score:
    """A bound on test images with one trajectory.

    value, error: mean and standard error, in ``unit``.
    unit: "nats" or "bits/dim".
    images: how many.
    below: whether a longer run should score lower, False by default.
    """
    return Score(
        value=value, error=error, unit=unit, kind="bound", images=images, split="test", below=below, notes="1 trajectory"
    )


def of_beta(beta: float, steps: int, expected: Score) -> Recipe:
    """From the model for files of beta 0.4 to one of another beta.

    steps: that it took.
    expected: the score.
    """
    return Recipe(
        name=f"conv-draw-cifar10-files-beta-{beta:g}",
        about=f"Convolutional DRAW for lossy files of {'more' if beta > 0.4 else 'fewer'} bits: conv-draw-cifar10-files, trained further "
        f"with beta {beta:g} instead of 0.4, which leaves {'less' if beta > 0.4 else 'more'} to the prior.",
        **(FILES | {"options": FILES["options"] | {"beta": beta, "warm_up": 0.0}}),
        start="rastrum/conv-draw-cifar10-files",
        optim=FOR_FILES,
        run=RunConfig(cpu_minutes=6.0, workers=1, held_out_images=200),
        then=("rastrum evaluate FOLDER --count 2000",),
        budget=(Budget(minutes=6, steps=steps),),
        expected=expected,
    )


RECIPES = (
    Recipe(
        name="conv-draw-cifar10",
        about="Convolutional DRAW, 4 steps of 12 latent channels at half and at a quarter of the resolution, on CIFAR-10; --model.beta "
        "0.4 (0.2, 0.1, 0.05) gives the paper's sheets of samples that keep less and less detail.",
        system="conv-draw",
        options={"steps": 4, "layers": 2, "latent": 12, "features": 32, "skip": True, "coupled": True, "warm_up": 0.1},
        images=COLOUR,
        data=DataConfig(name="cifar10"),
        optim=OptimConfig(learning_rate=3e-3, betas=(0.9, 0.99), warm_up=50, clip=3e4, batch=8, micro_batch=8, ema=0.999),
        run=RunConfig(cpu_minutes=75.0, workers=1, evaluations=6, held_out_images=200),
        then=("rastrum evaluate FOLDER --count 2000", f"rastrum train conv-draw-cifar10 --start FOLDER {LONGER}"),
        hardware=ONE_CORE,
        budget=(Budget(minutes=75, steps=30_091), Budget(minutes=75, steps=29_931, notes="from there, by the second command")),
        expected=replace(bound(3.968, 0.015, "bits/dim", 2000), notes="1 trajectory, after both runs"),
        further=(replace(bound(4.074, 0.015, "bits/dim", 2000), notes="1 trajectory, after the first run"),),
        published=(Published(value=3.58, unit="bits/dim", source=PAPER, sign="≤", notes="paper size"),),
    ),
    Recipe(
        name="conv-draw-cifar10-files",
        about="Convolutional DRAW for lossy files of pictures of any size: uniform posteriors, 2 steps of two layers of 8 latent channels "
        "at a quarter and an eighth of the resolution, on CIFAR-10 with beta 0.4.",
        **FILES,
        optim=replace(FOR_FILES, learning_rate=4e-3),
        run=RunConfig(cpu_minutes=26.0, workers=1, held_out_images=200),
        then=("rastrum evaluate FOLDER --count 2000", "rastrum rates FOLDER --out rates.png"),
        budget=(Budget(minutes=26, steps=35_840),),
        expected=bound(5.524, 0.013, "bits/dim", 2000),
    ),
    of_beta(1.0, 8_188, bound(5.335, 0.013, "bits/dim", 2000)),
    of_beta(0.2, 8_423, bound(6.009, 0.012, "bits/dim", 2000)),
    of_beta(0.1, 8_551, bound(6.469, 0.011, "bits/dim", 2000)),
    of_beta(0.05, 7_372, bound(7.010, 0.009, "bits/dim", 2000)),
    Recipe(
        name="conv-draw-photographs",
        about="Convolutional DRAW for lossy files of photographs of any size: conv-draw-cifar10-files, trained further on their "
        "pieces of 64x64.",
        **(FILES | {"options": FILES["options"] | {"warm_up": 0.0}}
           | {"images": (3, CROP, CROP, 256), "data": DataConfig(name="photographs", crop=CROP)}),
        start="rastrum/conv-draw-cifar10-files",
        optim=replace(FOR_FILES, batch=2, micro_batch=2),
        run=RunConfig(cpu_minutes=16.0, workers=1, held_out_images=200),
        then=("rastrum evaluate FOLDER",),
        budget=(Budget(minutes=16, steps=23_401),),
        expected=bound(3.190, 0.078, "bits/dim", 100),
    ),
    Recipe(
        name="conv-draw-cifar10-paper",
        about="Convolutional DRAW at the paper's size (32 steps, 12 latent channels at half resolution, 320 features, 5x5) on CIFAR-10.",
        system="conv-draw",
        preset="paper",
        images=COLOUR,
        data=DataConfig(name="cifar10"),
        optim=OptimConfig(learning_rate=5e-4, warm_up=1000, ema=0.9995, clip=1000.0, batch=64, micro_batch=None),
        run=RunConfig(steps=200_000, evaluations=50),
        flags="--run.device cuda",
        then=("rastrum evaluate FOLDER",),
        published=(Published(value=3.58, unit="bits/dim", source=PAPER, sign="≤"),),
    ),
    Recipe(
        name="conv-draw-binarized-mnist",
        about="Convolutional DRAW on Larochelle's binarised MNIST.",
        **TWO_LEVELS,
        data=DataConfig(name="binarized-mnist", held_out="validation"),
        then=("rastrum evaluate FOLDER --count 2000",),
        budget=(Budget(minutes=10, steps=3474),),
        expected=bound(99.24, 0.53, "nats", 2000),
        tuned_on="validation",
    ),
    Recipe(
        name="conv-draw-binarized-mnist-files",
        about="Convolutional DRAW for lossy files of images of two levels: uniform posteriors, 4 steps of 4 latent channels at a quarter "
        "of the resolution, on Larochelle's binarised MNIST.",
        **(TWO_LEVELS | {"run": replace(TWO_LEVELS["run"], cpu_minutes=2.0)}),
        options={"steps": 4, "latent": 4, "features": 32, "stride": 4, "posterior": "uniform", "skip": True},
        data=DataConfig(name="binarized-mnist", held_out="validation"),
        then=("rastrum evaluate FOLDER --count 2000",),
        budget=(Budget(minutes=2, steps=3163),),
        expected=bound(130.52, 0.65, "nats", 2000, below=True),
        tuned_on="validation",
    ),
    Recipe(
        name="conv-draw-omniglot",
        about="Convolutional DRAW on binarised Omniglot.",
        **(TWO_LEVELS | {"run": replace(TWO_LEVELS["run"], cpu_minutes=20.0)}),
        data=DataConfig(name="omniglot", binarise="dynamic"),
        then=("rastrum evaluate FOLDER --count 1000",),
        budget=(Budget(minutes=20, steps=15_712),),
        expected=bound(104.46, 1.11, "nats", 1000),
        published=(Published(value=91.00, unit="nats", source=PAPER, sign="<", notes="on another set of 28x28 pixels"),),
    ),
)
