"""Variational autoencoders (Kingma & Welling 2014), convolutional."""

from typing import Any

from ..config import DataConfig, OptimConfig, RunConfig
from .draw import bound
from .recipe import BINARY, COLOUR, ONE_CORE, Budget, Recipe

# A few minutes of one core on Larochelle's binarised MNIST.
BINARIZED: dict[str, Any] = {
    "system": "vae",
    "images": BINARY,
    "data": DataConfig(name="binarized-mnist", held_out="validation"),
    "optim": OptimConfig(learning_rate=2e-3, warm_up=100, clip=20.0, batch=64, micro_batch=None),
    "then": ("rastrum evaluate FOLDER",),
    "hardware": ONE_CORE,
}

RECIPES = (
    Recipe(
        name="vae-binarized-mnist",
        about="A convolutional VAE (32 channels) on Larochelle's binarised MNIST.",
        **BINARIZED,
        run=RunConfig(cpu_minutes=4.0, workers=1, evaluations=4),
        budget=(Budget(minutes=4, steps=3609),),
        expected=bound(99.19, 0.29, "nats", 10_000),
        further=(bound(93.60, 1.22, "nats", 500, notes="100 trajectories"),),
    ),
    Recipe(
        name="vae-binarized-mnist-small",
        about="A small convolutional VAE (16 channels) on Larochelle's binarised MNIST.",
        **BINARIZED,
        options={"features": 16},
        run=RunConfig(cpu_minutes=5.0, workers=1, evaluations=4),
        budget=(Budget(minutes=5, steps=10_422),),
        expected=bound(94.51, 0.26, "nats", 10_000),
    ),
    Recipe(
        name="vae-cifar10",
        about="A convolutional VAE on CIFAR-10.",
        system="vae",
        images=COLOUR,
        data=DataConfig(name="cifar10", train="train[:45000]", held_out="train[45000:]"),
        optim=OptimConfig(learning_rate=1e-3, betas=(0.9, 0.99), warm_up=100, ema=0.995, clip=500.0, batch=64, micro_batch=None),
        run=RunConfig(cpu_minutes=4.0, workers=1, evaluations=4),
        then=("rastrum evaluate FOLDER --split test --count 5000",),
        hardware=ONE_CORE,
        budget=(Budget(minutes=2.4, steps=1346, notes="instead of 4 min"),),
        expected=bound(6.7404, 0.0069, "bits/dim", 5000, below=True),
    ),
    Recipe(
        name="vae-binarized-mnist-large",
        about="A larger convolutional VAE on Larochelle's binarised MNIST.",
        system="vae",
        preset="paper",
        images=BINARY,
        data=DataConfig(name="binarized-mnist", held_out="validation"),
        optim=OptimConfig(learning_rate=1e-3, warm_up=500, ema=0.9995, clip=20.0, batch=128, micro_batch=None),
        run=RunConfig(steps=50_000, evaluations=50),
        flags="--run.device cuda",
        then=("rastrum evaluate FOLDER",),
    ),
    Recipe(
        name="vae-cifar10-large",
        about="A larger convolutional VAE on CIFAR-10, with 256 latents.",
        system="vae",
        preset="paper",
        options={"latent": 256},
        images=COLOUR,
        data=DataConfig(name="cifar10"),
        optim=OptimConfig(learning_rate=1e-3, warm_up=500, ema=0.9995, clip=500.0, batch=128, micro_batch=None),
        run=RunConfig(steps=100_000, evaluations=50),
        flags="--run.device cuda",
        then=("rastrum evaluate FOLDER",),
    ),
)
