"""What a run is made of, as frozen dataclasses: which images, how to optimise, how long; and the score that it reached.

The command line makes its flags from them. Nothing heavy is imported here, so that help and lists answer at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Preprocessing of a data set, in this order: background, grey or colour, framed, size, levels or binarise, crop, the slice of the
    split, limit."""

    size: int | None = None
    """Cut each image to a square about its middle and resize it to this many pixels a side (area averages; fewer than 256 levels become
    256).
    For dead-leaves and bsds300: the side of the patches; for two-digit-mnist, two-digit-mnist-colour, cluttered-mnist and placed-mnist:
    the side of the canvas; nothing is resized there. For moving-mnist: the side of the canvas, with digits in proportion."""
    framed: bool = False
    """Before resizing, cut each image to the square around all of it that is not black: things of any size and position then fill it."""
    frames: int | None = None
    """For moving-mnist: the number of frames of a video, 20 by default."""
    paths: Literal["folded", "clipped"] | None = None
    """For moving-mnist: digits whose paths are clipped at the walls, as published, or folded there (default). Two different sets."""
    levels: int | None = None
    """Requantise to this many levels, 2 … 65,536, by rounding to the nearest. Images of 16 bits have 65,536, of fewer bits 256 or 2."""
    grey: bool = False
    """Turn colours into grey (luma of ITU-R 601)."""
    colour: bool = False
    """Give grey images three equal channels, for a model of colours."""
    background: Literal["white", "black"] = "white"
    """What transparent images are laid on."""
    skip_broken: bool = False
    """Leave out files that cannot be read, counted and named, instead of refusing the data set at the first of them."""
    binarise: Literal["static", "dynamic", "threshold"] | None = None
    """Two levels: one fixed draw, a fresh draw per use of an image, or intensity of at least one half. Three different benchmarks."""
    crop: int | None = None
    """Squares of this many pixels a side at random positions: in training a fresh one per use of an image, else a fixed one of each."""
    limit: int | None = None
    """Keep a fixed random subset of this many images."""
    stream: bool | None = None
    """Of sets of the Hub, folders and parquet files: leave the images on disk and read them as they are used (True), or hold them in
    memory (False); by default they are left there where they would take more than 512 MiB. The images are the same, the order in training
    is another. With skip_broken every image is then read once before training."""
    exemplars: int | None = None
    """Condition each image on up to this many others of its kind: of omniglot and omniglot28 other drawings of the same character, of sets
    with classes other images of its class. In training they are drawn afresh per use of an image; a held-out image has fixed ones."""
    exemplars_shown: int | None = None
    """How many exemplars each image has, 0 … exemplars. Default: a random number of them."""

    def __str__(self) -> str:
        """In words, empty where nothing is done."""
        parts = (
            self.size and f"{self.size}x{self.size}" + " framed" * self.framed,
            self.frames and f"{self.frames} frames",
            self.paths and f"{self.paths} paths",
            self.grey and "grey",
            self.colour and "colour",
            self.background != "white" and f"on {self.background}",
            self.levels and f"{self.levels} levels",
            self.binarise and f"{self.binarise} binarisation",
            self.crop and f"crops of {self.crop}x{self.crop}",
            self.exemplars and (f"0 … {self.exemplars}" if self.exemplars_shown is None else f"{self.exemplars_shown}") + " exemplars",
        )
        return ", ".join(part for part in parts if part)

    def plain(self) -> DataOptions:
        """The preprocessing alone, without what a subclass adds, such as the name of the data set."""
        return DataOptions(**{option.name: getattr(self, option.name) for option in fields(DataOptions)})


@dataclass(frozen=True, kw_only=True)
class DataConfig(DataOptions):
    """Which images, and how they are preprocessed."""

    name: str
    """digits, mnist, fashion-mnist, binarized-mnist, cifar10, omniglot, omniglot28, dead-leaves, bsds300, photographs, two-digit-mnist,
    two-digit-mnist-colour, cluttered-mnist, placed-mnist, described-mnist, moving-mnist, hub:OWNER/NAME, or the path of a
    folder of images or of parquet files, of an image, an array or a parquet file."""
    train: str = "train"
    """Split to train on; part of a split is written test[:9000]."""
    held_out: str = "test"
    """Split to evaluate on while training. With --data, the default is validation where the set has one, else test."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimiser and what surrounds it."""

    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Rule of a step: Adam, or RMSProp without momentum (torch's, not centred)."""
    learning_rate: float = 1e-3
    """Size of a step, before warm-up and schedule."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decays of the running means of the gradient and of its square; RMSProp uses the second only."""
    eps: float = 1e-8
    """Added to the root of the mean square, which divides a step."""
    schedule: Literal["constant", "cosine", "exponential"] = "cosine"
    """Of the learning rate: cosine falls to 0 over the budget; exponential multiplies it by decay every step."""
    warm_up: int = 0
    """Steps over which the learning rate rises linearly: at the start, and after a run is given a further budget."""
    decay: float = 0.999995
    """Factor per step of the exponential schedule."""
    ema: float = 0.999
    """Decay of the averaged weights, which are evaluated and saved; 0 = no averaging."""
    clip: float | None = None
    """Largest norm of the gradient of a step, in nats per image; None = no limit."""
    batch: int = 32
    """Images per step, of all processes together."""
    micro_batch: int | None = 8
    """On a CPU a step works on pieces of this many images, several at a time; None = the whole batch at once."""
    accumulate: int = 1
    """Parts of the batch that a step works through one after another, adding up their gradients, where the whole batch does not fit the
    memory of a GPU. The batch stays as large, and the weights are the same to rounding. On a CPU micro_batch does that already."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long to train, how often to evaluate, and where to write. The run ends when the first of its budgets is used up."""

    steps: int | None = None
    """Budget of optimiser steps."""
    minutes: float | None = None
    """Budget of time, evaluations included."""
    cpu_minutes: float | None = None
    """Budget of this process' CPU time, of several that of the first: fair on a shared machine."""
    evaluations: int = 10
    """Held-out evaluations, and checkpoints, evenly spaced over the budget."""
    held_out_images: int | None = 1000
    """Evaluate on a fixed random subset of this many; None = all. Of fewer where evaluations would take more than a tenth of the
    budget; in a budget of steps of at least 100, and of all for None."""
    num_samples: int = 1
    """Trajectories per image when a canvas model is evaluated."""
    checkpoint_minutes: float = 2.0
    """Minutes between checkpoints, besides those at evaluations; more where writing one takes more than a twentieth of them."""
    log_every: int = 20
    """Steps between lines of metrics.jsonl."""
    workers: int | None = None
    """Threads that share the pieces of a step; None = as many as torch uses. Each of several processes works on one piece at a time."""
    seed: int = 0
    """Of the parameters, the order of the images, dynamic binarisation, dropout and latents: 0 … 2^64 − 1."""
    shard: bool = False
    """Of several processes, each keeps a part of weights, gradients and optimiser (FSDP2) instead of all of them."""
    precision: Literal["float32", "bf16"] = "float32"
    """Of products and convolutions in losses and gradients: bf16 takes torch.autocast, several times faster on a GPU; weights, averages,
    the optimiser and evaluations stay float32. On most CPUs it is slower."""
    compile: bool = False
    """Fuse the model's operations by torch.compile, before the first step and again for a batch of another size; it takes minutes. For
    convolutional models on a GPU; on a CPU most are faster without."""
    device: str = "cpu"
    """Where to train: cpu, cuda, cuda:1, mps, or auto for the first of cuda, mps and cpu that is here. Of several processes, each on
    a machine with GPUs takes its own."""
    folder: str | None = None
    """Where checkpoint and metrics go: a new folder, or an empty one; None = nowhere."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What ``rastrum.train.train`` reads.

    optim: the optimiser.
    run: how long, how often to evaluate, and where to write.
    """

    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class Score:
    """A measured number with what it is of.

    value: the mean over images, in ``unit``.
    error: its standard error, in ``unit``; None (default) where it was not measured.
    unit: "nats" (per image), "bits/dim" (nats / (values of an image · ln 2)), "%" or others by name.
    kind: "exact" likelihood, "bound" (the likelihood is at least as good), "loss" (no likelihood), or "measure" (anything else).
    images: how many images; None (default) where there are none.
    split: of which split, "" by default.
    below: True where a longer run should score lower than this.
    notes: what else tells it apart, such as trajectories, an ensemble, or what a measure measures.
    """

    value: float
    error: float | None = None
    unit: str
    kind: Literal["exact", "bound", "loss", "measure"]
    images: int | None = None
    split: str = ""
    below: bool = False
    notes: str = ""

    @property
    def number(self) -> str:
        """Value and error with the same decimals: as many as are needed."""
        parts = (self.value,) if self.error is None else (self.value, self.error)
        decimals = max(len(f"{part:g}".partition(".")[2]) for part in parts)
        return " ± ".join(f"{part:.{decimals}f}" for part in parts).replace("-", "−")

    @property
    def brief(self) -> str:
        """Its sign, number and unit: "≤ 85.01 ± 0.23 nats"."""
        return f"{'≤ ' * (self.kind == 'bound')}{self.number} {self.unit}"

    def __str__(self) -> str:
        what = "videos" if self.unit.endswith("per video") else "images"
        images = "" if self.images is None else f"{self.images:,} {self.split} {what}".replace("  ", " ")
        kind = "" if self.kind == "measure" else self.kind
        of = ", ".join(part for part in (images, kind, self.notes) if part)
        return f"{'below ' * self.below}{self.number} {self.unit}" + (f" ({of})" if of else "")
