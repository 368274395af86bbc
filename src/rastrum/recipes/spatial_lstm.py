"""RIDE, a spatial LSTM with a mixture of Gaussian scale mixtures (Theis & Bethge 2015)."""

from typing import Any

from ..config import DataConfig, OptimConfig, RunConfig, Score
from .recipe import COLOUR, ONE_CORE, Budget, Published, Recipe

TEXTURE, CROPS = (1, 20, 20, 256), (3, 8, 8, 256)
# Four minutes of a small RIDE, or of its mixture alone.
FOUR_MINUTES: dict[str, Any] = {
    "system": "spatial-lstm",
    "optim": OptimConfig(learning_rate=4e-2, warm_up=50, ema=0.99, clip=500.0, batch=16),
    "run": RunConfig(cpu_minutes=4.0, workers=1, held_out_images=200),
    "hardware": ONE_CORE,
}
PATCHES: dict[str, Any] = {**FOUR_MINUTES, "images": TEXTURE, "then": ("rastrum evaluate FOLDER --count 1000 [--ensemble]",)}
DEAD_LEAVES = DataConfig(name="dead-leaves", size=TEXTURE[1], grey=True)
BSDS300 = DataConfig(name="bsds300", size=TEXTURE[1], grey=True)


def patches(value: float, error: float | None = None, notes: str = "") -> Score:
    """The exact score of 1,000 test patches.

    value, error: mean and standard error in bits/dim; error None (default) where it was not measured.
    notes: what else tells it apart, "" by default.
    """
    return Score(value=value, error=error, unit="bits/dim", kind="exact", images=1000, split="test", notes=notes)


def density(value: float, error: float, notes: str = "") -> Score:
    """The log-density of 200 test patches, of intensities in [0, 1] as in the paper.

    value, error: mean and standard error in bits per pixel.
    notes: what else tells it apart, "" by default.
    """
    notes = f"log-density, higher is better{notes}"
    return Score(value=value, error=error, unit="bits per pixel", kind="measure", images=1000, split="test", notes=notes)


RECIPES = (
    Recipe(
        name="spatial-lstm-dead-leaves",
        about="RIDE, a spatial LSTM with a mixture of Gaussian scale mixtures, on patches of dead leaves.",
        **PATCHES,
        data=DEAD_LEAVES,
        budget=(Budget(minutes=4, steps=5675),),
        expected=patches(1.379, 0.018),
        further=(patches(1.298, notes="as an ensemble"),),
    ),
    Recipe(
        name="spatial-lstm-dead-leaves-mcgsm",
        about="RIDE's mixture without its recurrence, given the 12 pixels before, on patches of dead leaves.",
        **PATCHES,
        options={"recurrent": False},
        data=DEAD_LEAVES,
        budget=(Budget(minutes=4, steps=11_035),),
        expected=patches(1.477, 0.015),
        further=(patches(1.431, notes="as an ensemble"),),
    ),
    Recipe(
        name="spatial-lstm-bsds300",
        about="RIDE, a spatial LSTM with a mixture of Gaussian scale mixtures, on grey patches of the Berkeley segmentation set's "
        "photographs.",
        **PATCHES,
        data=BSDS300,
        budget=(Budget(minutes=4, steps=12_371),),
        expected=patches(4.383, 0.049),
        further=(
            patches(4.353, notes="as an ensemble"),
            patches(4.374, 0.049, "again, 15,285 steps: the one bundled with the package"),
            patches(4.343, notes="that one as an ensemble"),
            density(3.572, 0.047),
            density(3.671, 0.048, "; only pixels with a whole neighbourhood"),
        ),
    ),
    Recipe(
        name="spatial-lstm-bsds300-mcgsm",
        about="RIDE's mixture without its recurrence, given the 12 pixels before, on grey patches of the Berkeley segmentation set's "
        "photographs.",
        **PATCHES,
        options={"recurrent": False},
        data=BSDS300,
        budget=(Budget(minutes=4, steps=26_570),),
        expected=patches(4.598, 0.048),
        further=(
            patches(4.564, notes="as an ensemble"),
            density(3.366, 0.047),
            density(3.500, 0.048, "; only pixels with a whole neighbourhood"),
        ),
    ),
    Recipe(
        name="spatial-lstm-cifar10",
        about="RIDE, a spatial LSTM, on random crops of CIFAR-10 of 8x8 pixels, in colour, a fresh one each time an image is used.",
        **FOUR_MINUTES,
        images=CROPS,
        data=DataConfig(name="cifar10", crop=CROPS[1]),
        then=("rastrum evaluate FOLDER --count 200",),
        budget=(Budget(minutes=4, steps=11_398),),
        expected=Score(value=4.07, error=0.06, unit="bits/dim", kind="exact", images=200, split="test", notes="crops"),
    ),
    Recipe(
        name="spatial-lstm-cifar10-large",
        about="RIDE, a spatial LSTM, with the default sizes of its authors' code (64 units, 32 components of 4 scales) on CIFAR-10.",
        system="spatial-lstm",
        preset="paper",
        images=COLOUR,
        data=DataConfig(name="cifar10"),
        optim=OptimConfig(learning_rate=2e-3, warm_up=100, ema=0.999, clip=500.0, batch=64),
        run=RunConfig(steps=100_000, evaluations=50),
        flags="--run.device cuda",
        then=("rastrum evaluate FOLDER",),
        published=(Published(value=3.47, unit="bits/dim", source="measured by van den Oord et al. 2016a", notes="recalled"),),
    ),
)
