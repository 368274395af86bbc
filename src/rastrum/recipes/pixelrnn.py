"""Recurrent raster models: a plain LSTM over pixels, and Row LSTM, Diagonal BiLSTM and multi-scale PixelRNN (van den Oord et al. 2016a)."""

from dataclasses import replace
from typing import Any

from ..config import DataConfig, OptimConfig, RunConfig, Score
from .one_shot import CHOSEN
from .recipe import BINARY, COLOUR, GREY, ONE_CORE, Budget, Published, Recipe

PAPER = "van den Oord et al. 2016a"
LONGER = "at another size and after far longer"
PLACED = (1, 32, 32, 2)
# RMSProp on 16 images, as the PixelRNN paper trains on MNIST and CIFAR-10; rate, decay, average and clipping are ours.
PIXEL_RNN = OptimConfig(optimizer="rmsprop", learning_rate=5e-4, betas=(0.9, 0.95), warm_up=500, ema=0.9995, clip=20.0, batch=16)
CONDITIONAL = OptimConfig(learning_rate=3e-3, warm_up=50, ema=0.995, clip=20.0, batch=32, micro_batch=16)


def five_minutes(system: str, about: str = "", **facts: Any) -> Recipe:
    """A small model on binarised MNIST for five minutes of one core, as benchmarks/learning.py compares them.

    system: the model's name in ``rastrum.MODELS``.
    about: one sentence; "" (default) for the usual one.
    facts: further fields of ``Recipe``.
    """
    return Recipe(
        name=f"{system}-binarized-mnist",
        about=about or f"{system} on Larochelle's binarised MNIST.",
        system=system,
        images=BINARY,
        data=DataConfig(name="binarized-mnist", held_out="validation"),
        optim=OptimConfig(learning_rate=3e-3, warm_up=50, ema=0.995, clip=20.0, batch=32, micro_batch=16),
        run=RunConfig(cpu_minutes=5.0, workers=1),
        then=("rastrum evaluate FOLDER",),
        hardware=ONE_CORE,
        **facts,
    )


def full_size(name: str, system: str, about: str, images: tuple[int, ...], published: Published | None, **facts: Any) -> Recipe:
    """A network of the PixelRNN paper with its output layers and its optimiser; the length of the run is ours.

    name, system, about, images: as in ``Recipe``.
    published: the paper's score; None where it gives none.
    facts: further fields of ``Recipe``.
    """
    binary = images == BINARY
    return Recipe(
        name=name,
        about=about,
        system=system,
        preset="paper",
        images=images,
        data=DataConfig(name="binarized-mnist", held_out="validation") if binary else DataConfig(name="cifar10"),
        optim=PIXEL_RNN if binary else replace(PIXEL_RNN, clip=500.0, micro_batch=4),
        run=RunConfig(steps=400_000, evaluations=50),
        flags="--run.device cuda",
        then=("rastrum evaluate FOLDER",),
        published=() if published is None else (published,),
        **facts,
    )


# What the Diagonal BiLSTM reached the published score with.
SMALL_STEPS = OptimConfig(learning_rate=2e-3, warm_up=100, ema=0.9995, clip=20.0, batch=16, micro_batch=16)
# Networks of the size that the paper gives for its Diagonal BiLSTM on MNIST, without skip connections.
SEVEN_LAYERS: dict[str, Any] = {
    "images": BINARY,
    "data": DataConfig(name="binarized-mnist", held_out="validation"),
    "optim": SMALL_STEPS,
    "then": ("rastrum evaluate FOLDER",),
    "hardware": ONE_CORE,
    "tuned_on": "validation",
}


def nats(value: float, notes: str = "") -> Published:
    """A score of the paper in nats.

    value: as published.
    notes: what differs from the recipe, "" by default.
    """
    return Published(value=value, unit="nats", source=PAPER, notes=notes)


def bits(value: float) -> Published:
    """A score of the paper, ``value`` in bits/dim."""
    return Published(value=value, unit="bits/dim", source=PAPER)


RECIPES = (
    five_minutes(
        "pixel-lstm",
        "A plain LSTM over the 784 values of an image of Larochelle's binarised MNIST.",
        budget=(Budget(minutes=5, steps=930),),
        expected=Score(value=105.34, error=0.61, unit="nats", kind="exact", images=2000, split="test", notes="a random subset"),
        further=(Score(value=84.93, error=0.22, unit="nats", kind="exact", images=10_000, split="test", notes="after 10 minutes"),),
    ),
    five_minutes(
        "row-lstm",
        "A small Row LSTM on Larochelle's binarised MNIST.",
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
        about="Row LSTM, conditioned on a spatial map that says which digit lies about where, on digits placed on 32x32 pixels.",
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
    Recipe(
        name="row-lstm-mnist",
        about="Row LSTM on MNIST's grey levels, with a softmax of all 256.",
        system="row-lstm",
        options={"units": 16, "layers": 7, "hidden": 64},
        images=GREY,
        data=DataConfig(name="mnist", train="train[:55000]", held_out="train[55000:]"),
        optim=replace(SMALL_STEPS, clip=100.0),
        run=RunConfig(cpu_minutes=10.0, workers=1, evaluations=4, held_out_images=500),
        then=("rastrum evaluate FOLDER --split test",),
        hardware=ONE_CORE,
        budget=(Budget(minutes=10, steps=8746),),
        expected=Score(value=1.0648, error=0.0028, unit="bits/dim", kind="exact", images=10_000, split="test"),
    ),
    Recipe(
        name="row-lstm-described-mnist",
        about="Row LSTM on MNIST's digits, conditioned on a vector of four: how much ink, how wide, how high, how slanted.",
        system="row-lstm",
        options={"units": 16, "layers": 7, "hidden": 32},
        images=BINARY,
        data=DataConfig(name="described-mnist", binarise="threshold", train="train[:55000]", held_out="train[55000:]"),
        conditional=True,
        optim=SMALL_STEPS,
        run=RunConfig(cpu_minutes=10.0, workers=1, evaluations=4),
        then=("rastrum evaluate FOLDER --split test",),
        hardware=ONE_CORE,
        budget=(Budget(minutes=10, steps=11_237),),
        expected=Score(value=52.13, error=0.17, unit="nats", kind="exact", images=10_000, split="test"),
    ),
    Recipe(
        name="row-lstm-omniglot28-exemplars",
        about="Row LSTM on the 28x28 Omniglot, given another drawing of the character or none, which is read at five resolutions.",
        system="row-lstm",
        options={"condition_channels": 32, "condition_levels": 5},
        images=BINARY,
        data=DataConfig(name="omniglot28", exemplars=1, **CHOSEN),
        conditional=True,
        optim=OptimConfig(learning_rate=2e-3, warm_up=100, clip=20.0),
        run=RunConfig(cpu_minutes=3.0, workers=1, evaluations=1),
        then=("rastrum exemplars FOLDER --parts likelihood --count 500", "rastrum evaluate FOLDER --split test --count 1000"),
        hardware=ONE_CORE,
        budget=(Budget(minutes=3, steps=567),),
        expected=Score(value=72.09, error=0.75, unit="nats", kind="exact", images=1000, split="test", notes="0 … 1 exemplars"),
        further=(
            Score(value=72.28, error=1.05, unit="nats", kind="exact", images=500, split="test", notes="without an exemplar"),
            Score(value=71.02, error=1.03, unit="nats", kind="exact", images=500, split="test", notes="1 exemplar"),
        ),
        tuned_on="validation",
    ),
    five_minutes(
        "diagonal-bilstm",
        "A small Diagonal BiLSTM on Larochelle's binarised MNIST.",
        budget=(Budget(minutes=5, steps=439),),
        expected=Score(value=90.15, error=0.46, unit="nats", kind="exact", images=2000, split="test", notes="a random subset"),
        published=(Published(value=79.20, unit="nats", source=PAPER, notes=LONGER),),
    ),
    five_minutes(
        "multiscale-pixelrnn",
        "Multi-scale PixelRNN (7x7, 14x14, 28x28, Row LSTMs) on Larochelle's binarised MNIST.",
        budget=(Budget(minutes=5, steps=577),),
        expected=Score(value=91.68, error=0.47, unit="nats", kind="exact", images=2000, split="test", notes="a random subset"),
        further=(Score(value=86.86, error=0.21, unit="nats", kind="exact", images=10_000, split="test", notes="after 12 minutes"),),
    ),
    full_size(
        "row-lstm-binarized-mnist-large",
        "row-lstm",
        "Row LSTM of 7 layers with h = 16 on Larochelle's binarised MNIST, for which the paper gives no size.",
        BINARY,
        nats(80.54, "of an unknown size"),
    ),
    full_size(
        "row-lstm-cifar10-paper",
        "row-lstm",
        "Row LSTM at the paper's size as we recall it (12 layers, h = 128, rounded up to 129) on CIFAR-10.",
        COLOUR,
        bits(3.07),
    ),
    full_size(
        "diagonal-bilstm-binarized-mnist-paper",
        "diagonal-bilstm",
        "Diagonal BiLSTM at the paper's size (7 layers, h = 16) on Larochelle's binarised MNIST.",
        BINARY,
        nats(79.20),
    ),
    Recipe(
        name="row-lstm-binarized-mnist-7-layers",
        about="Row LSTM of 7 layers with h = 16, without skip connections, on Larochelle's binarised MNIST.",
        system="row-lstm",
        options={"units": 16, "layers": 7, "hidden": 32},
        **SEVEN_LAYERS,
        run=RunConfig(cpu_minutes=45.0, workers=1, evaluations=8),
        budget=(Budget(minutes=45, steps=53_496, notes="20 minutes, then 25 more by --resume"),),
        expected=Score(value=81.89, error=0.20, unit="nats", kind="exact", images=10_000, split="test"),
        published=(nats(80.54, LONGER),),
    ),
    Recipe(
        name="diagonal-bilstm-binarized-mnist-7-layers",
        about="Diagonal BiLSTM of 7 layers with h = 16, without skip connections, on Larochelle's binarised MNIST.",
        system="diagonal-bilstm",
        preset="paper",
        options={"skip": False, "output_layers": 1},
        **SEVEN_LAYERS,
        run=RunConfig(cpu_minutes=121.0, workers=1, evaluations=20),
        budget=(
            Budget(minutes=65, notes="of a longer schedule, stopped"),
            Budget(minutes=56, steps=31_019, notes="from there at rate 0.0014, falling to 0"),
        ),
        expected=Score(value=79.24, error=0.20, unit="nats", kind="exact", images=10_000, split="test"),
        published=(Published(value=79.20, unit="nats", source=PAPER),),
    ),
    full_size(
        "diagonal-bilstm-binarized-mnist-1-layer-paper",
        "diagonal-bilstm",
        "Diagonal BiLSTM at the paper's other size (1 layer, h = 32) on Larochelle's binarised MNIST.",
        BINARY,
        nats(80.75, "recalled"),
        options={"layers": 1, "units": 32},
    ),
    full_size(
        "diagonal-bilstm-cifar10-paper",
        "diagonal-bilstm",
        "Diagonal BiLSTM at the paper's size as we recall it (12 layers, h = 128, rounded up to 129) on CIFAR-10.",
        COLOUR,
        bits(3.00),
    ),
    full_size(
        "multiscale-pixelrnn-binarized-mnist-large",
        "multiscale-pixelrnn",
        "Multi-scale PixelRNN (7x7, 14x14, 28x28) of Row LSTMs of 7 layers with h = 16 on binarised MNIST; the sizes are ours.",
        BINARY,
        None,
    ),
    full_size(
        "multiscale-pixelrnn-cifar10-large",
        "multiscale-pixelrnn",
        "Multi-scale PixelRNN (8x8, 16x16, 32x32) on CIFAR-10, at each scale the layers of the paper's Row LSTM; the sizes are ours.",
        COLOUR,
        None,
    ),
)
