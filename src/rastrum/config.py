"""What a run is made of, as frozen dataclasses: which images, how to optimise, how long. The command line makes its flags from them.

Nothing heavy is imported here, so that help and lists answer at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What is made of the images of a data set. The order is: grey, size, levels or binarise, crop, slice of the split, limit."""

    size: int | None = None
    """Cut each image to a square about its middle and resize it to this many pixels a side (area averages; levels become 256).
    Of dead-leaves and bsds300: cut patches of this many pixels a side instead; of two-digit-mnist, two-digit-mnist-colour,
    cluttered-mnist and placed-mnist: a canvas of this many pixels a side; and resize nothing. Of moving-mnist: the canvas, its digits in
    proportion."""
    frames: int | None = None
    """Of moving-mnist: how long the videos are (20 if not said)."""
    paths: Literal["folded", "clipped"] | None = None
    """Of moving-mnist: digits whose paths are clipped at the walls, as published, or folded there (if not said). Two different sets."""
    levels: int | None = None
    """Requantise to this many levels, 2 … 256, by rounding to the nearest."""
    grey: bool = False
    """Turn colours into grey (luma of ITU-R 601)."""
    binarise: Literal["static", "dynamic", "threshold"] | None = None
    """Two levels: a fixed draw, a fresh draw each time an image is used, or intensity of at least one half. Three different benchmarks."""
    crop: int | None = None
    """Squares of this many pixels a side at random places: in training a fresh one each time an image is used, else a fixed one of each."""
    limit: int | None = None
    """Keep a fixed random subset of this many images."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(DataOptions):
    """Which images."""

    name: str
    """digits, mnist, fashion-mnist, binarized-mnist, cifar10, omniglot, dead-leaves, bsds300, two-digit-mnist, two-digit-mnist-colour,
    cluttered-mnist, placed-mnist, moving-mnist, folder:PATH, or hub:OWNER/NAME."""
    train: str = "train"
    """Split to train on; a part of one is written test[:9000]."""
    held_out: str = "test"
    """Split to evaluate on while training."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimiser and what surrounds it."""

    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Rule of a step: Adam, or RMSProp without momentum (torch's, not centred)."""
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    """Decays of the running means of the gradient and of its square; RMSProp uses the second only."""
    eps: float = 1e-8
    """Added to the root of the mean square, which divides a step."""
    schedule: Literal["constant", "cosine", "exponential"] = "cosine"
    """Of the learning rate: cosine goes to 0 with the fraction of the budget done; exponential multiplies it by decay every step."""
    warm_up: int = 0
    """Steps over which the learning rate first rises in a straight line."""
    decay: float = 0.999995
    """Factor a step of the exponential schedule."""
    ema: float = 0.999
    """Decay of the averaged weights, which are evaluated and saved; 0 = the last weights themselves."""
    clip: float | None = None
    """Largest norm of the gradient of a step, in nats an image; None = any."""
    batch: int = 32
    """Images a step."""
    micro_batch: int | None = 8
    """On a CPU a step works on pieces of this many images, several at a time; None = the whole batch at once."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long, how often to look, and where to write. The run ends at the first budget that is used up."""

    steps: int | None = None
    minutes: float | None = None
    """Budget of time, evaluations included."""
    cpu_minutes: float | None = None
    """Budget of this process' CPU time: fair where a machine is shared."""
    evaluations: int = 10
    """Held-out evaluations, and checkpoints, evenly spaced over the budget."""
    held_out_images: int | None = 1000
    """Evaluate on a fixed random subset of this many; None = all."""
    num_samples: int = 1
    """Trajectories an image when a canvas model is evaluated."""
    log_every: int = 20
    """Steps between lines of metrics.jsonl."""
    workers: int | None = None
    """Threads for the pieces of a step; None = as many as torch uses."""
    seed: int = 0
    """Of the parameters, the order of the images, dynamic binarisation, dropout and latents."""
    device: str = "cpu"
    folder: str | None = None
    """Where checkpoint and metrics go; None = nowhere."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What ``rastrum.train.train`` reads."""

    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class Recipe(TrainConfig):
    """A whole run. ``model`` is the config of one of ``rastrum.MODELS``, of the system that the class of the config belongs to."""

    model: Any
    data: DataConfig
    start: str | None = None
    """Begin with the weights of this saved model of the same kind, a folder or rastrum/NAME; what it does not have begins afresh."""
    conditional: bool = False
    """Tell the model what the data say of each image: its vector or its map where they have one, else its class."""
