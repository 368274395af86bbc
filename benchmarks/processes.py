"""Training in two processes on two cores against one process on one core, and what the machine allows, measured beside it in the same run.

    python benchmarks/processes.py [--model gated-pixelcnn] [--preset small] [--batch 32] [--shard] [--rounds 7] [--seconds 3]

Two processes, each held to a core of its own, take turns in every round:

    one     the first alone works through whole batches; the second waits
    limit   each alone works through whole batches, both at the same time: as far as two cores of this machine go, which share memory
            bandwidth, caches and power, or, as hardware threads, a core
    step    the same with half batches, and each waits for the other after every step, but no gradients go around: what is lost to waiting
            where cores are not equally fast, or are taken by other programs
    two     they train together: each its half of every batch, gradients added up by DDP, or with --shard by FSDP2

Speeds are images per second of wall time, medians over the rounds; ratios are taken within a round, then their median, so that what else
the machine does matters less. CPU is the processor's time per image of all processes together, relative to "one": nothing of what other
programs do, but for the caches that they share. A step has gradients, Adam and the average of the weights.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import torch

import rastrum
from rastrum import ImageSpec
from rastrum.config import OptimConfig, RunConfig, TrainConfig
from rastrum.processes import ALONE, Processes, join
from rastrum.training.optimiser import average, optimiser_of
from rastrum.training.workers import Workers

TARGET = 1.6


def trainer(options: argparse.Namespace, processes: Processes) -> tuple[Callable[[], None], int]:
    """A step of training, and how many images this process has in it."""
    spec = ImageSpec(1, 28, 28, 256)
    model, averaged = (rastrum.build(options.model, spec, options.preset, seed=0).train() for _ in range(2))
    config = TrainConfig(optim=OptimConfig(batch=options.batch, micro_batch=options.micro_batch),
                         run=RunConfig(steps=1, workers=1, shard=options.shard))  # fmt: skip
    share = processes.share(options.batch)
    x = torch.randint(0, spec.levels, (options.batch, *spec.shape), generator=torch.Generator().manual_seed(0))
    if processes.count > 1 and options.shard:
        from rastrum.training.sharding import shard

        shard(averaged)
    workers = Workers(model, config, processes)
    optimiser = optimiser_of(workers.objectives, config.optim)
    count = 0

    def step() -> None:
        nonlocal count
        workers.gradients(x[share], None, 0, count * options.batch + share.start, options.batch)
        optimiser.step()
        count += 1
        average(averaged, model, 0.999, count)

    return step, share.stop - share.start


def work(options: argparse.Namespace) -> None:
    """What each of the two processes does; the first prints a line of JSON per round."""
    torch.set_num_threads(1)
    both = join()
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[both.rank % len(cores)]})
    (alone, batch), (together, mine) = trainer(options, ALONE), trainer(options, both)
    half, images = trainer(argparse.Namespace(**{**vars(options), "batch": options.batch // 2}), ALONE)

    def in_step() -> None:
        half()
        both.gather(0.0)

    for step in (alone, in_step, together):
        step()
        step()
    begin = time.perf_counter()
    alone()
    steps = max(2, round(options.seconds / (both.first(time.perf_counter() - begin))))

    def measure(step: Callable[[], None], images: int, steps: int) -> tuple[float, float]:
        """Images per second of all, and processor's seconds per image of all."""
        both.gather(0.0)                                                  # begin at the same time
        begin, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            step()
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        every = both.gather(images * steps, seconds, cpu if steps else 0.0)
        total = sum(images for images, _, _ in every)
        return sum(images / seconds for images, seconds, _ in every if images), sum(cpu for _, _, cpu in every) / total

    for _ in range(options.rounds):
        found = {
            "one": measure(alone, batch, steps if both.is_first else 0),
            "limit": measure(alone, batch, steps),
            "step": measure(in_step, images, 2 * steps),
            "two": measure(together, mine, 2 * steps),
        }
        if both.is_first:
            print(json.dumps(found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gated-pixelcnn")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--shard", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of wall time, about, for each part of a round")
    options = parser.parse_args()
    if "RANK" in os.environ:
        work(options)
        return
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *sys.argv]
    ended = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        sys.exit(f"torchrun ended with {ended.returncode}")
    rounds = [json.loads(line) for line in ended.stdout.splitlines()]
    for name in ("one", "limit", "step", "two"):
        speed = median(found[name][0] for found in rounds)
        ratio, cpu = (median(found[name][part] / found["one"][part] for found in rounds) for part in (0, 1))
        print(f"{name:<8}{speed:9.1f} images/s   {ratio:5.2f}x of one   CPU per image {cpu:5.2f} of one")
    limit = median(found["limit"][0] / found["one"][0] for found in rounds)
    reached, of_step = (median(found["two"][0] / found[name][0] for found in rounds) for name in ("limit", "step"))
    allowed = "allows" if limit >= TARGET else "does not allow"
    print(f"two processes reach {reached:.0%} of the limit, {of_step:.0%} of those in step")
    print(f"this machine {allowed} {TARGET}x: its limit is {limit:.2f}x")


if __name__ == "__main__":
    main()
