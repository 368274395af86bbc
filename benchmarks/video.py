"""Videos: what the next frame costs, and nats a frame of a Video Pixel Network beside its baselines, on moving MNIST.

    python benchmarks/video.py [--model FOLDER …] [--stateless FOLDER …] [--independent FOLDER …] [--minutes M] [--sequences 500]
                               [--context 4] [--animation x.gif]

**Cost**: the next frame of 16 videos of 32x32 pixels of two levels at the small preset, drawn natively (what is made of the frame before
it included), over a forward of that frame: the forward of whole videos, so many at a time as is fastest, divided by their frames. One
thread, median of rounds in turn.

**Nats a frame**, given all frames before it, over the frames behind the context of held-out sequences, each ± its standard error:
the models in the folders, one for each run, the k-th of a baseline beside the k-th of ``--model`` (with ``--minutes``, those not given
are trained first, each for so many minutes of the processor), and copying the last frame, as a proper model: each value is what stood
there before with a probability that depends on it alone, counted on the training sequences. Beside them the floor of the paper's
cross-entropy, which is no likelihood: the entropy of the grey frames themselves.
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
    """Seconds of the next frame of 16 videos, and of its forward."""
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
    """Nats of frames 1 … T − 1 (B, T − 1) where each value is told the one that stood there: counts of pairs, each once more."""
    pairs = 1.0 + torch.bincount((levels * train_on[:, :-1] + train_on[:, 1:]).flatten(), minlength=levels**2).view(levels, levels)
    logs = (pairs / pairs.sum(1, keepdim=True)).log()
    return -logs[x[:, :-1], x[:, 1:]].flatten(2).sum(2)


def said(nats: Tensor) -> str:
    """Mean over sequences (B, frames) and its standard error."""
    each = nats.mean(1)
    return f"{float(each.mean()):8.2f} ± {float(each.std()) / len(each) ** 0.5:.2f}"


def trained(name: str, minutes: float, data: Dataset) -> RasterModel:
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
        parser.add_argument(f"--{name}", nargs="+", default=[], metavar="FOLDER", help="of trained models, one for each run")
    parser.add_argument("--minutes", type=float, help="train what is not given, for so many minutes of the processor each")
    parser.add_argument("--sequences", type=int, default=500)
    parser.add_argument("--context", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--animation", help="write truth, prediction and surprise of four sequences here")
    options = parser.parse_args()
    if not 1 <= options.context < FRAMES:
        parser.error(f"--context: expected from 1 to {FRAMES - 1} known frames, got {options.context}")
    torch.set_num_threads(1)
    drawn, forward = next_frame(options.rounds)
    print(f"next frame of {VIDEOS} videos of 32x32: {drawn:.3f} s; a forward of it: {forward:.3f} s; ratio {drawn / forward:.2f}")
    recipe = RECIPES[RECIPE]
    train_on, held_out = (load_dataset("moving-mnist", split, recipe.data) for split in ("train", "test"))
    x = held_out.images[: options.sequences].long()
    context, levels = options.context, held_out.spec.levels
    print(f"nats a frame, frames {context + 1} … {held_out.spec.frames} of {len(x)} held-out sequences of 32x32, {levels} levels:")
    print(f"  copying the last frame            {said(copying(train_on.images.long(), x, levels)[:, context - 1 :])}")
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
            above = "" if k >= len(firsts) else f"; above the model's, sequence by sequence: {said(nats - firsts[k]).strip()}"
            print(f"  {RECIPE.split('-moving')[0]}{suffixes[name]:<15}{said(nats)}{above}")
            print("    frame by frame:", *(f"{of:.1f}" for of in frames.mean(0).tolist()), flush=True)
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
    print("floor of the cross-entropy of grey frames 11 to 20, no likelihood (published: 86.3 on 64x64, clipped):")
    for size, paths in FLOORS:
        grey = load_dataset("moving-mnist", "test", DataOptions(size=size, paths=paths, limit=options.sequences))
        frames = grey.images[:, 10:].flatten(0, 1)
        print(f"  {size}x{size}, {paths}, 256 levels  {float(cross_entropy_floor(frames, 256).mean()):8.2f} nats per frame")


if __name__ == "__main__":
    main()
