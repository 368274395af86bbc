"""PixelCNN (van den Oord et al. 2016a)."""

from ..config import DataConfig, OptimConfig, RunConfig, Score
from .recipe import BINARY, ONE_CORE, Budget, Published, Recipe

PAPER = "van den Oord et al. 2016a"

RECIPES = (
    Recipe(
        name="pixelcnn-binarized-mnist",
        about="PixelCNN on Larochelle's binarised MNIST, half an hour on one core.",
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
        name="pixelcnn-binarized-mnist-paper",
        about="PixelCNN at the paper's size on Larochelle's binarised MNIST; Adam where the paper has RMSProp.",
        system="pixelcnn",
        preset="paper",
        images=BINARY,
        data=DataConfig(name="binarized-mnist", held_out="validation"),
        optim=OptimConfig(learning_rate=1e-3, warm_up=500, ema=0.9995, clip=20.0, batch=64),
        run=RunConfig(steps=100_000, evaluations=50),
        flags="--run.device cuda",
        then=("rastrum evaluate FOLDER",),
        published=(Published(value=81.30, unit="nats", source=PAPER),),
    ),
)
