"""PixelCNN++ (Salimans et al. 2017)."""

from dataclasses import replace
from typing import Any

from ..config import DataConfig, OptimConfig, RunConfig, Score
from .recipe import COLOUR, GREY, ONE_CORE, Budget, Published, Recipe

PAPER = "Salimans et al. 2017"
LONGER = "--optim.learning-rate 0.001 --optim.ema 0.999"                         # what follows the first training
EARLIER = "after both runs, from the weights of 3.835"
OPTIM = OptimConfig(learning_rate=1.5e-3, betas=(0.95, 0.9995), warm_up=50, clip=500.0, batch=16)
SMALL: dict[str, Any] = {
    "system": "pixelcnn++",
    "options": {"filters": 28, "dropout": 0.0},
    "images": COLOUR,
    "data": DataConfig(name="cifar10"),
    "hardware": ONE_CORE,
}
# Ten minutes on grey pictures of 28x28 pixels and 256 levels.
GREY_PICTURES: dict[str, Any] = {
    "system": "pixelcnn++",
    "options": {"filters": 24, "dropout": 0.0},
    "images": GREY,
    "optim": replace(OPTIM, learning_rate=2e-3, ema=0.995),
    "run": RunConfig(cpu_minutes=10.0, workers=1, held_out_images=500),
    "then": ("python benchmarks/anomaly.py FOLDER",),
    "hardware": ONE_CORE,
}

RECIPES = (
    Recipe(
        name="pixelcnn-plus-plus-cifar10",
        about="A small PixelCNN++ (28 filters, 1 block per resolution) on CIFAR-10.",
        **SMALL,
        optim=OPTIM,
        run=RunConfig(cpu_minutes=45.0, workers=1, held_out_images=200),
        then=("rastrum evaluate FOLDER", f"rastrum train pixelcnn-plus-plus-cifar10 --start FOLDER {LONGER}"),
        budget=(Budget(minutes=45, steps=3746), Budget(minutes=45, steps=11_232, notes="from there, by the second command")),
        expected=Score(value=3.538, error=0.007, unit="bits/dim", kind="exact", images=10_000, split="test", notes="after both runs"),
        further=(
            Score(value=3.835, error=0.006, unit="bits/dim", kind="exact", images=10_000, split="test", notes="after the first run"),
        ),
        published=(Published(value=2.92, unit="bits/dim", source=PAPER, notes="paper size"),),
    ),
    Recipe(
        name="pixelcnn-plus-plus-cifar10-classes",
        about="A small PixelCNN++ on CIFAR-10, conditioned on the class; training begins with the weights of pixelcnn-plus-plus-cifar10.",
        **SMALL,
        start="rastrum/pixelcnn-plus-plus-cifar10",
        conditional=True,
        optim=replace(OPTIM, learning_rate=7e-4, ema=0.995),
        run=RunConfig(cpu_minutes=8.0, workers=1, held_out_images=200),
        then=("rastrum evaluate FOLDER",),
        budget=(Budget(minutes=6, steps=336, notes="stopped early, of 8 min"), Budget(minutes=14, steps=803, notes="by --start FOLDER")),
        expected=Score(value=3.820, error=0.045, unit="bits/dim", kind="exact", images=200, split="test", below=True, notes=EARLIER),
        further=(Score(value=3.918, error=0.043, unit="bits/dim", kind="exact", images=200, split="test", notes="after the first run"),),
        published=(Published(value=2.94, unit="bits/dim", source=PAPER, notes="paper size"),),
        tuned_on="test",
    ),
    Recipe(
        name="pixelcnn-plus-plus-cifar10-paper",
        about="PixelCNN++ of the authors' code (160 filters, 5 blocks per resolution) with its optimiser on CIFAR-10.",
        system="pixelcnn++",
        preset="paper",
        images=COLOUR,
        data=DataConfig(name="cifar10"),
        optim=OptimConfig(
            learning_rate=1e-3, betas=(0.95, 0.9995), schedule="exponential", decay=0.999995, ema=0.9995, batch=128, micro_batch=4
        ),
        run=RunConfig(steps=1_000_000, evaluations=100),
        flags="--run.device cuda",
        then=("rastrum evaluate FOLDER",),
        published=(Published(value=2.92, unit="bits/dim", source=PAPER),),
    ),
    Recipe(
        name="pixelcnn-plus-plus-mnist",
        about="A small PixelCNN++ on MNIST's grey levels: the likelihood behind the anomaly scores.",
        **GREY_PICTURES,
        data=DataConfig(name="mnist"),
        budget=(Budget(minutes=6, steps=386, notes="stopped early, of 10 min"),),
        expected=Score(value=1.262, error=0.013, unit="bits/dim", kind="exact", images=500, split="test"),
    ),
    Recipe(
        name="pixelcnn-plus-plus-fashion-mnist",
        about="A small PixelCNN++ on 9,000 of Fashion-MNIST's test images (the others are held out), for the anomaly scores.",
        **GREY_PICTURES,
        data=DataConfig(name="fashion-mnist", train="test[:9000]", held_out="test[9000:]"),
        budget=(Budget(minutes=10, steps=784),),
        expected=Score(value=3.239, error=0.042, unit="bits/dim", kind="exact", images=500, split="test[9000:]"),
    ),
)
