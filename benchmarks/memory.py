"""Peak memory of training on images that stay on disk: a few of them and a hundred times as many.

    python benchmarks/memory.py --out memory [--counts 10000 1000000] [--steps 200]

Makes images of 28x28 pixels with 10 classes, as parquet files of 100,000 rows in row groups of 1,000, and as a folder of PNG files; a tiny
PixelCNN is trained on each, in a process of its own, and is then evaluated on 2,000 of the images. A process that reads one image is
measured too: what Python and torch take by themselves. The folder then holds

    memory.md       peak memory (the largest resident set), CPU time to open the set and for a step
    memory.json     all results

glibc's allocator is told to give memory back at once: the holes that a network's temporary tensors leave otherwise come to hundreds of MiB,
with images in memory too, and differ from run to run.

The images are made once (a million files need as many inodes, and about 5 GiB with blocks of 4 KiB); ``--remove`` deletes them afterwards.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE, CLASSES, FILE, GROUP, FOLDER = 28, 10, 100_000, 1_000, 10_000
BATCH, EVALUATED = 32, 2000
KINDS = ("parquet", "files")
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1000000", "MALLOC_TRIM_THRESHOLD_": "1000000"}
COLUMNS = ("set", "images", "peak memory, MiB", "above one image, MiB", "CPU-seconds to open", "CPU-ms per step", "in memory, MiB")


def pictures(count: int) -> Iterator[bytes]:
    """A bright rectangle on a dark ground, another for each number, as PNG files."""
    random = np.random.RandomState(0)
    for _ in range(count):
        image = np.full((SIDE, SIDE), random.randint(64), np.uint8)
        top, left, height, width = random.randint(0, SIDE - 8, 2).tolist() + random.randint(2, 9, 2).tolist()
        image[top : top + height, left : left + width] = random.randint(128, 256, (height, width))
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG", compress_level=1)
        yield file.getvalue()


def make(kind: str, folder: Path, count: int) -> None:
    """Write a set, unless it is there."""
    if (folder / "complete").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    images = pictures(count)
    if kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        kinds = pyarrow.schema({"image": pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}), "label": pyarrow.int64()})
        for start in range(0, count, FILE):
            rows = min(FILE, count - start)
            columns = {"image": [{"bytes": next(images), "path": None} for _ in range(rows)], "label": [i % CLASSES for i in range(rows)]}
            table = pyarrow.table(columns, kinds)
            pyarrow.parquet.write_table(table, folder / f"{start // FILE:04d}.parquet", row_group_size=GROUP)
    else:
        for number, image in enumerate(images):
            path = folder / str(number % CLASSES) / f"{number // FOLDER:04d}-{number:07d}.png"
            if number < CLASSES:
                path.parent.mkdir(exist_ok=True)
            path.write_bytes(image)
    (folder / "complete").touch()


def measure(path: Path, steps: int) -> dict[str, Any]:
    """Train on a set, in this process. steps: of training; 0 = read one image."""
    import resource

    import torch

    from rastrum.config import DataOptions, OptimConfig, RunConfig, TrainConfig
    from rastrum.data.dataset import load_dataset
    from rastrum.evaluation import evaluate
    from rastrum.models import MODELS
    from rastrum.train import train

    torch.set_num_threads(1)
    begin = time.process_time()
    data = load_dataset(str(path), "all", DataOptions(stream=True))
    opened = time.process_time() - begin
    system = MODELS["pixelcnn"]
    model = system(data.spec, system.preset("tiny", data.spec), data.condition_spec)
    data = data if steps else data.select(slice(0, 1))
    begin = time.process_time()
    config = TrainConfig(optim=OptimConfig(batch=BATCH), run=RunConfig(steps=max(steps, 1), workers=1))
    for _ in train(model, data, config):
        pass
    took = time.process_time() - begin
    evaluate(model, data.subset(EVALUATED), workers=1, progress=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return {"peak": peak, "open": opened, "step": took / max(steps, 1)}


def in_process(path: Path, steps: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--out", "", "--measure", str(path), "--steps", str(steps)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | ALLOCATOR)
    return json.loads(done.stdout.splitlines()[-1])


def table(results: list[dict[str, Any]], alone: float) -> str:
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for r in results:
        above = r["peak"] - alone
        cells = (r["kind"], f"{r['count']:,}", f"{r['peak']:.0f}", f"{above:.0f}", f"{r['open']:.1f}", f"{1000 * r['step']:.0f}")
        lines.append("| " + " | ".join((*cells, f"{r['count'] * SIDE * SIDE / 2**20:.0f}")) + " |")
    return "\n".join([*lines, "", f"A process that reads one image: {alone:.0f} MiB."]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder that everything is written into, the images included")
    parser.add_argument("--counts", nargs="*", type=int, default=[10_000, 1_000_000], help="images of each set (default: 10000 1000000)")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS), help="parquet, files (default: both)")
    parser.add_argument("--steps", type=int, default=200, help="of training (default: 200)")
    parser.add_argument("--remove", action="store_true", help="delete the images afterwards")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.measure, options.steps)))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    results, alone = [], None
    for kind in options.kinds:
        for count in options.counts:
            folder = options.out / f"{kind}-{count}"
            make(kind, folder, count)
            alone = alone or in_process(folder, 0)["peak"]
            results.append({"kind": kind, "count": count, **in_process(folder, options.steps)})
            print(results[-1], flush=True)
            if options.remove:
                shutil.rmtree(folder)
    (options.out / "memory.json").write_text(json.dumps({"alone": alone, "results": results}, indent=1) + "\n")
    (options.out / "memory.md").write_text(text := table(results, alone or 0.0))
    print(text)


if __name__ == "__main__":
    main()
