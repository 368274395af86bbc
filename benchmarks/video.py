"""Videos: the cost of the next frame, and nats per frame of a Video Pixel Network and its baselines on moving MNIST.

    python benchmarks/video.py [--model FOLDER …] [--stateless FOLDER …] [--independent FOLDER …] [--minutes M] [--sequences 500]
                               [--context 4] [--animation x.gif]

**Cost**: the time in which the native interpreter samples the next frame of 16 videos of 32x32 pixels of two levels at the small preset,
including the work on the previous frame, relative to a forward pass of that frame. The latter is the time of a forward pass of whole
videos, with as many at a time as is fastest, divided by their number of frames. One thread; the median of rounds in which both alternate.

**Nats per frame**, given all earlier frames, over the frames after the context of held-out sequences, each ± its standard error. The models
are those in the folders, one for each run; the k-th of a baseline is compared with the k-th of ``--model``. With ``--minutes``, models that
are not given are trained first, each for this many CPU-minutes. The simplest baseline copies the last frame, as a probability model: the
distribution of a value depends only on the value that was there before, and is counted on the training sequences. The lower limit of the
paper's cross-entropy, which is not a likelihood, is printed too: the entropy of the grey frames themselves.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor

import rastrum
from rastrum import ImageSpec, RasterModel
from rastrum.config import DataOptions
from rastrum.data.dataset import Dataset, load_dataset
from rastrum.data.moving_digits import Paths
from rastrum.evaluation import frame_nats
from rastrum.models.video_pixel_network import cross_entropy_floor
from rastrum.pictures.videos import animate_rows, continued, save_video, surprise_colours
from rastrum.recipes import RECIPES, build_model
from rastrum.train import train
from rastrum.walk import Sample, quiet

RECIPE = "video-pixel-network-moving-mnist-small"
VIDEOS, BATCH, FRAMES = 16, 4, 8
FLOORS: tuple[tuple[int, Paths], ...] = ((32, "folded"), (64, "folded"), (64, "clipped"))    # size and paths of the frames


def next_frame(rounds: int) -> tuple[float, float]:
    """Seconds to sample the next frame of 16 videos, and for a forward pass of it."""
    model = rastrum.build("video-pixel-network", ImageSpec(1, 32, 32, 2, frames=FRAMES), "small")
    assert isinstance(model, RasterModel)
    spec, frame, context = model.spec, model.spec.size // model.spec.frames, 4
    x = rastrum.sample(model, VIDEOS, seed=1).long()
    drawn: list[float] = []
    forward: dict[int, list[float]] = {chunk: [] for chunk in (1, 4, VIDEOS)}
    for _ in range(rounds):
        with quiet(model):
            for chunk, taken in forward.items():
                start = time.perf_counter()
                for part in x.split(chunk):
                    model.distribution(part)
                taken.append((time.perf_counter() - start) / spec.frames)
            state = model.init(VIDEOS, backend="native")
            model.prefill(state, x, context * frame)
            start = time.perf_counter()
            model.decide(state, (context + 1) * frame, Sample(2).native(context * frame, (context + 1) * frame))
            drawn.append(time.perf_counter() - start)
    return median(drawn), min(median(taken) for taken in forward.values())


def copying(train_on: Tensor, x: Tensor, levels: int) -> Tensor:
    """Nats of frames 1 … T − 1, (B, T − 1), each value given the previous one at its position: counts of pairs, plus one each."""
    pairs = 1.0 + torch.bincount((levels * train_on[:, :-1] + train_on[:, 1:]).flatten(), minlength=levels**2).view(levels, levels)
    logs = (pairs / pairs.sum(1, keepdim=True)).log()
    return -logs[x[:, :-1], x[:, 1:]].flatten(2).sum(2)


def mean_and_error(nats: Tensor) -> str:
    """Of nats (B, frames): the mean per frame and its standard error over sequences."""
    each = nats.mean(1)
    return f"{float(each.mean()):8.2f} ± {float(each.std()) / len(each) ** 0.5:.2f}"


def trained(name: str, minutes: float, data: Dataset) -> RasterModel:
    """The model of a recipe, after this many CPU-minutes of training."""
    recipe = RECIPES[name]
    recipe = replace(recipe, run=replace(recipe.run, cpu_minutes=minutes))
    model = build_model(recipe, data)
    for _ in train(model, data, recipe):
        pass
    assert isinstance(model, RasterModel)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name in ("model", "stateless", "independent"):
        parser.add_argument(f"--{name}", nargs="+", default=[], metavar="FOLDER", help="folders of trained models, one for each run")
    parser.add_argument("--minutes", type=float, help="train the models that are not given, for this many CPU-minutes each")
    parser.add_argument("--sequences", type=int, default=500)
    parser.add_argument("--context", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--animation", help="write an animation of truth, prediction and surprise of four sequences here")
    options = parser.parse_args()
    if not 1 <= options.context < FRAMES:
        parser.error(f"--context: expected from 1 to {FRAMES - 1} known frames, got {options.context}")
    torch.set_num_threads(1)
    drawn, forward = next_frame(options.rounds)
    print(f"next frame of {VIDEOS} videos of 32x32: {drawn:.3f} s; a forward pass of it: {forward:.3f} s; ratio {drawn / forward:.2f}")
    recipe = RECIPES[RECIPE]
    train_on, held_out = (load_dataset("moving-mnist", split, recipe.data) for split in ("train", "test"))
    x = held_out.images[: options.sequences].long()
    context, levels = options.context, held_out.spec.levels
    print(f"nats per frame, frames {context + 1} … {held_out.spec.frames} of {len(x)} held-out sequences of 32x32, {levels} levels:")
    print(f"  copying the last frame            {mean_and_error(copying(train_on.images.long(), x, levels)[:, context - 1 :])}")
    suffixes = {"model": "", "stateless": "-stateless", "independent": "-independent"}
    runs = {name: [rastrum.load(folder).eval() for folder in getattr(options, name)] for name in suffixes}
    if options.minutes is not None:
        runs = {name: models or [trained(RECIPE + suffixes[name], options.minutes, train_on)] for name, models in runs.items()}
    firsts: list[Tensor] = []
    for name, models in runs.items():
        for k, model in enumerate(models):
            assert isinstance(model, RasterModel)
            with quiet(model):
                frames = torch.cat([frame_nats(model, part) for part in x.split(BATCH)])
            nats = frames[:, context:]
            above = "" if k >= len(firsts) else f"; above the model's, sequence by sequence: {mean_and_error(nats - firsts[k]).strip()}"
            print(f"  {RECIPE.split('-moving')[0]}{suffixes[name]:<15}{mean_and_error(nats)}{above}")
            print("    frame by frame:", *(f"{mean:.1f}" for mean in frames.mean(0).tolist()), flush=True)
            if name == "model":
                firsts.append(nats)
    network = runs["model"][0] if runs["model"] else None
    if options.animation and isinstance(network, RasterModel):
        shown, known = continued(network.spec, x[:4], context)
        completed = rastrum.complete(network, shown, known)
        with quiet(network):
            surprise = surprise_colours(network.log_prob_map(shown))
        videos = [shown / (levels - 1), completed / (levels - 1), surprise]
        save_video(animate_rows(videos, ["truth", f"drawn after {context}", "surprise"]), options.animation)
    print("lower limit of the cross-entropy of grey frames 11 to 20, not a likelihood (published: 86.3 on 64x64, clipped):")
    for size, paths in FLOORS:
        grey = load_dataset("moving-mnist", "test", DataOptions(size=size, paths=paths, limit=options.sequences))
        frames = grey.images[:, 10:].flatten(0, 1)
        print(f"  {size}x{size}, {paths}, 256 levels  {float(cross_entropy_floor(frames, 256).mean()):8.2f} nats per frame")


if __name__ == "__main__":
    main()
