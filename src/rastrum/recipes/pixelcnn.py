"""PixelCNN (van den Oord et al. 2016a)."""

from ..config import DataConfig, OptimConfig, RunConfig, Score
from .pixelrnn import bits, full_size, nats
from .recipe import BINARY, COLOUR, ONE_CORE, Budget, Published, Recipe

PAPER = "van den Oord et al. 2016a"

RECIPES = (
    Recipe(
        name="pixelcnn-binarized-mnist",
        about="PixelCNN of 10 blocks with 48 channels on Larochelle's binarised MNIST.",
        system="pixelcnn",
        options={"channels": 48, "layers": 10},
        images=BINARY,
        data=DataConfig(name="binarized-mnist", held_out="validation"),
        optim=OptimConfig(learning_rate=2e-3, warm_up=100, clip=20.0),
        run=RunConfig(cpu_minutes=28.0, workers=1),
        then=("rastrum evaluate FOLDER",),
        hardware=ONE_CORE,
        budget=(Budget(minutes=28, steps=2766),),
        expected=Score(value=88.48, error=0.21, unit="nats", kind="exact", images=10_000, split="test"),
        published=(Published(value=81.30, unit="nats", source=PAPER, notes="at other sizes and after far longer"),),
        tuned_on="validation",
    ),
    Recipe(
        name="pixelcnn-binarized-mnist-7-layers",
        about="PixelCNN of 7 blocks with 32 channels, about as many parameters as the PixelRNNs of 7 layers, on Larochelle's binarised "
        "MNIST.",
        system="pixelcnn",
        options={"channels": 32, "layers": 7, "hidden": 32},
        images=BINARY,
        data=DataConfig(name="binarized-mnist", held_out="validation"),
        optim=OptimConfig(learning_rate=2e-3, warm_up=100, ema=0.9995, clip=20.0),
        run=RunConfig(cpu_minutes=20.0, workers=1, evaluations=8),
        then=("rastrum evaluate FOLDER",),
        hardware=ONE_CORE,
        budget=(Budget(minutes=20, steps=11_692),),
        expected=Score(value=88.05, error=0.20, unit="nats", kind="exact", images=10_000, split="test"),
        published=(Published(value=81.30, unit="nats", source=PAPER, notes="at another size and after far longer"),),
        tuned_on="validation",
    ),
    full_size(
        "pixelcnn-binarized-mnist-large",
        "pixelcnn",
        "PixelCNN of 7 blocks with h = 16 on Larochelle's binarised MNIST, for which the paper gives no size.",
        BINARY,
        nats(81.30, "of an unknown size"),
    ),
    full_size(
        "pixelcnn-cifar10-paper",
        "pixelcnn",
        "PixelCNN at the paper's size as we recall it (15 blocks, h = 128, rounded up to 129) on CIFAR-10.",
        COLOUR,
        bits(3.14),
    ),
)
