"""Recurrent raster models: a plain LSTM over pixels, and Row LSTM, Diagonal BiLSTM and multi-scale PixelRNN (van den Oord et al. 2016a)."""

from typing import Any

from ..config import DataConfig, OptimConfig, RunConfig, Score
from .recipe import BINARY, ONE_CORE, Budget, Published, Recipe

PAPER = "van den Oord et al. 2016a"
LONGER = "at another size and after far longer"
PLACED = (1, 32, 32, 2)
CONDITIONAL = OptimConfig(learning_rate=3e-3, warm_up=50, ema=0.995, clip=20.0, batch=32, micro_batch=16)


def five_minutes(system: str, about: str = "", **facts: Any) -> Recipe:
    """A small model on binarised MNIST for five minutes of one core, as benchmarks/learning.py compares them."""
    return Recipe(
        name=f"{system}-binarized-mnist",
        about=about or f"{system} on Larochelle's binarised MNIST, five minutes.",
        system=system,
        images=BINARY,
        data=DataConfig(name="binarized-mnist", held_out="validation"),
        optim=OptimConfig(learning_rate=3e-3, warm_up=50, ema=0.995, clip=20.0, batch=32, micro_batch=16),
        run=RunConfig(cpu_minutes=5.0, workers=1),
        then=("rastrum evaluate FOLDER",),
        hardware=ONE_CORE,
        **facts,
    )


RECIPES = (
    five_minutes(
        "pixel-lstm",
        "A plain LSTM over the 784 values of an image of Larochelle's binarised MNIST, five minutes.",
        budget=(Budget(minutes=5, steps=930),),
        expected=Score(value=105.34, error=0.61, unit="nats", kind="exact", images=2000, split="test", notes="a random subset"),
    ),
    five_minutes(
        "row-lstm",
        "Row LSTM on Larochelle's binarised MNIST, five minutes.",
        budget=(Budget(minutes=5, steps=697),),
        expected=Score(value=88.43, error=0.46, unit="nats", kind="exact", images=2000, split="test", notes="a random subset"),
        published=(Published(value=80.54, unit="nats", source=PAPER, notes=LONGER),),
    ),
    Recipe(
        name="row-lstm-mnist-classes",
        about="Row LSTM, conditioned on the class, on dynamically binarised MNIST: it sees all rows above and draws the digit asked for.",
        system="row-lstm",
        images=BINARY,
        data=DataConfig(name="mnist", binarise="dynamic"),
        conditional=True,
        optim=CONDITIONAL,
        run=RunConfig(cpu_minutes=40.0, workers=1),
        then=("python benchmarks/conditions.py --out OUT --classes FOLDER",),
        hardware=ONE_CORE,
        budget=(Budget(minutes=40, steps=5032),),
        expected=Score(value=78.93, error=0.65, unit="nats", kind="exact", images=1000, split="test"),
        further=(Score(value=92.0, error=0.9, unit="%", kind="measure", notes="samples that are read as the class asked for"),),
        tuned_on="test",
    ),
    Recipe(
        name="row-lstm-placed-mnist",
        about="Row LSTM, conditioned on a map that says which digit lies about where, on digits placed on 32x32 pixels.",
        system="row-lstm",
        options={"condition_channels": 24},
        images=PLACED,
        data=DataConfig(name="placed-mnist", binarise="threshold"),
        conditional=True,
        optim=CONDITIONAL,
        run=RunConfig(cpu_minutes=36.0, workers=1),
        then=(
            "rastrum train row-lstm-placed-mnist --start FOLDER --optim.learning-rate 2e-3 --run.cpu-minutes 34",
            "python benchmarks/conditions.py --out OUT --placed FOLDER --images 8000",
        ),
        hardware=ONE_CORE,
        budget=(Budget(minutes=36, steps=3004), Budget(minutes=34, steps=2681)),
        expected=Score(value=26.94, error=0.25, unit="nats", kind="exact", images=1000, split="test", notes="after both runs"),
        further=(
            Score(value=27.50, error=0.25, unit="nats", kind="exact", images=1000, split="test", notes="after the first run"),
            Score(value=83.7, error=0.4, unit="%", kind="measure", notes="samples that lie in the cell asked for"),
        ),
        tuned_on="test",
    ),
    five_minutes(
        "diagonal-bilstm",
        "Diagonal BiLSTM on Larochelle's binarised MNIST, five minutes.",
        budget=(Budget(minutes=5, steps=439),),
        expected=Score(value=90.15, error=0.46, unit="nats", kind="exact", images=2000, split="test", notes="a random subset"),
        published=(Published(value=79.20, unit="nats", source=PAPER, notes=LONGER),),
    ),
    five_minutes(
        "multiscale-pixelrnn",
        "Multi-scale PixelRNN (7x7, 14x14, 28x28, Row LSTMs) on Larochelle's binarised MNIST, five minutes.",
        budget=(Budget(minutes=5, steps=577),),
        expected=Score(value=91.68, error=0.47, unit="nats", kind="exact", images=2000, split="test", notes="a random subset"),
    ),
)
