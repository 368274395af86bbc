"""Video Pixel Network (Kalchbrenner et al. 2016)."""

from typing import Any

from ..config import DataConfig, OptimConfig, RunConfig, Score
from .recipe import ONE_CORE, Budget, Published, Recipe

PAPER = "Kalchbrenner et al. 2016"
MOVING, MOVING_SMALL = (1, 64, 64, 256, 20), (1, 32, 32, 2, 8)
SMALL: dict[str, Any] = {
    "system": "video-pixel-network",
    "images": MOVING_SMALL,
    "data": DataConfig(name="moving-mnist", size=32, frames=8, binarise="threshold"),
    "optim": OptimConfig(learning_rate=4e-3, warm_up=50, ema=0.995, clip=200.0, batch=1, micro_batch=1),
    "run": RunConfig(cpu_minutes=40.0, workers=1, held_out_images=200),
    "hardware": ONE_CORE,
    "tuned_on": "test",
}


def videos(value: float, error: float, notes: str = "") -> Score:
    """The exact score of 200 test videos of 8 frames.

    value, error: mean and standard error in nats per video.
    notes: what else tells it apart, "" by default.
    """
    return Score(value=value, error=error, unit="nats per video", kind="exact", images=200, split="test", notes=notes)


def last_frames(value: float, error: float, notes: str = "") -> Score:
    """The exact score of the last four of 8 frames, given the first four.

    value, error: mean and standard error in nats per frame.
    notes: what else tells it apart, "" by default.
    """
    of = ", ".join(filter(None, ("the last four of 8 frames", notes)))
    return Score(value=value, error=error, unit="nats per frame", kind="exact", split="test", notes=of)


RECIPES = (
    Recipe(
        name="video-pixel-network-moving-mnist-small",
        about="A small Video Pixel Network on 8 frames of moving MNIST, 32x32 pixels of two levels.",
        **SMALL,
        then=(
            "python benchmarks/video.py --model FOLDER",
            "rastrum complete FOLDER --context 4 --trace x.gif",
        ),
        budget=(Budget(minutes=40, steps=8005),),
        expected=videos(313.4, 5.1),
        further=(
            last_frames(33.59, 0.44),
            videos(312.1, 5.1, "with --run.seed 1"),
            last_frames(33.41, 0.44, "with --run.seed 1"),
            videos(227.8, 4.7, "the model bundled with the package, 108 CPU-minutes as its card says"),
            last_frames(21.63, 0.46, "the model bundled with the package"),
        ),
    ),
    Recipe(
        name="video-pixel-network-moving-mnist-small-stateless",
        about="A small Video Pixel Network without recurrence, conditioned on the previous frame alone, on 8 frames of moving MNIST.",
        **SMALL,
        options={"recurrent": False},
        then=("python benchmarks/video.py --stateless FOLDER",),
        budget=(Budget(minutes=40, steps=10_483),),
        expected=videos(327.0, 5.1),
        further=(
            last_frames(36.30, 0.45),
            videos(336.1, 5.2, "with --run.seed 1"),
            last_frames(37.54, 0.45, "with --run.seed 1"),
        ),
    ),
    Recipe(
        name="video-pixel-network-moving-mnist-small-independent",
        about="The Video Pixel Network paper's baseline, small, on moving MNIST: the values of a frame are independent given earlier "
        "frames.",
        **SMALL,
        options={"dependent": False},
        then=("python benchmarks/video.py --independent FOLDER",),
        budget=(Budget(minutes=40, steps=8056),),
        expected=videos(696.4, 8.3),
        further=(last_frames(69.44, 0.66),),
    ),
    Recipe(
        name="video-pixel-network-moving-mnist-paper",
        about="Video Pixel Network at the paper's size on moving MNIST as published, with the paper's loss, which is no likelihood.",
        system="video-pixel-network",
        preset="paper",
        options={"likelihood": "cross-entropy"},
        images=MOVING,
        data=DataConfig(name="moving-mnist", paths="clipped"),
        optim=OptimConfig(
            optimizer="rmsprop", learning_rate=3e-4, betas=(0.9, 0.95), warm_up=1000, ema=0.9995, clip=2000.0, batch=64, micro_batch=1
        ),
        run=RunConfig(steps=300_000, evaluations=50, held_out_images=100),
        flags="--run.device cuda",
        then=("rastrum evaluate FOLDER --context 10",),
        published=(
            Published(
                value=87.6, unit="nats per frame", source=PAPER, decimals=1, notes="sigmoid cross-entropy, a loss that is at least 86.3"
            ),
            Published(value=110.1, unit="nats per frame", source=PAPER, decimals=1, notes="the paper's baseline"),
        ),
    ),
)
