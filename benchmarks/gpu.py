"""The stages of benchmarks/gpu.sh, which says what they are for and starts them.

    python benchmarks/gpu.py contracts|sampling|steps|recipe --out FOLDER [--device cuda] [--seconds 120] [--dry-run]
    python benchmarks/gpu.py pack --data cifar10 --to FOLDER       # a data set as train.0.npz … test.0.npz, each under --mib

Results go to FOLDER/STAGE.json after each row, and to FOLDER/summary.md. A row that was begun and never ended is what killed the stage; the
next call leaves out what is there."""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

STAGES = ("contracts", "sampling", "steps", "recipe")
NEEDED = ("numpy", "safetensors", "PIL", "matplotlib", "rich")
TESTS = ("tests/test_graphs.py", "tests/test_device.py::test_models_on_the_device_under_test", "tests/test_autocast.py")
DRY_TESTS = ("tests/test_graphs.py::test_videos", f"{TESTS[1]}[draw grey]", "tests/test_autocast.py::test_distributions_are_float32")
ROOT = Path(__file__).parents[1]

# ── results ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Report:
    """The rows of a stage, on disk after each of them."""

    def __init__(self, folder: Path, stage: str, **facts: Any) -> None:
        self.folder, self.path = folder, folder / f"{stage}.json"
        self.content: dict[str, Any] = {"stage": stage, "rows": [], "begun": [], "finished": False}
        if self.path.exists():
            self.content = json.loads(self.path.read_text(encoding="utf-8"))
        self.content |= facts | {"finished": False}
        self.save()

    def begins(self, name: str) -> bool:
        """Whether a row is still to do; it is noted as begun."""
        if name in self.content["begun"]:
            return False
        self.content["begun"].append(name)
        self.save()
        return True

    def add(self, name: str, **row: Any) -> None:
        """A finished row; one of the same name is replaced."""
        rows = [each for each in self.content["rows"] if each["name"] != name]
        self.content["rows"] = [*rows, {"name": name, **row}]
        self.save()
        print("  ".join([name, *(f"{key} {shown(value)}" for key, value in row.items())]))

    def finish(self) -> None:
        self.content["finished"] = True
        self.save()

    def save(self) -> None:
        written(self.path, json.dumps(self.content, indent=1))
        written(self.folder / "summary.md", summary(self.folder))


def written(path: Path, text: str) -> None:
    """Replace a file in one go, so that a kill leaves the old one or the new one."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def summary(folder: Path) -> str:
    """All stages as Markdown."""
    parts = ["# One GPU\n"]
    for stage in STAGES:
        if not (folder / f"{stage}.json").exists():
            continue
        content = json.loads((folder / f"{stage}.json").read_text(encoding="utf-8"))
        facts = {key: value for key, value in content.items() if key not in ("stage", "rows", "begun", "finished")}
        unfinished = set(content["begun"]) - {row["name"] for row in content["rows"]}
        parts.append(f"## {stage}\n\n" + ", ".join(f"{key} {shown(value)}" for key, value in facts.items()) + "\n")
        if not content["finished"]:
            parts.append(f"Not finished{': ' + ', '.join(sorted(unfinished)) if unfinished else ''}.\n")
        keys = list(dict.fromkeys(key for row in content["rows"] for key in row))
        if keys:
            rows = [keys, ["---"] * len(keys)]
            rows += [[shown(row.get(key, "")).replace("|", "/").replace("\n", " ") for key in keys] for row in content["rows"]]
            parts.append("\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n")
    return "\n".join(parts)


# ── the machine ──────────────────────────────────────────────────────────────────────────────────────────────────────


def found(device: str) -> str:
    """What this python has, in one line. Raises ``SystemExit`` without what all stages need."""
    import torch

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing or (device == "cuda" and not torch.cuda.is_available()):
        raise SystemExit(f"no GPU, or no {', '.join(missing)}")
    lacks = [name for name in ("pytest", "hypothesis") if find_spec(name) is None]
    lacks_text = f"; contracts need {' and '.join(lacks)}, which it lacks" if lacks else ""
    where = "CPU"
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        where = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    return f"{sys.executable}, Python {sys.version.split()[0]}, torch {torch.__version__}, {where}{lacks_text}"


def wait(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def seconds_of(run: Callable[[], object], device: str, limit: float, most: int = 10) -> float:
    """The median time of a call after one to warm up."""
    times, begun = [], time.perf_counter()
    for _ in range(most + 1):
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        times.append(time.perf_counter() - start)
        if time.perf_counter() - begun > limit and len(times) > 1:
            break
    return sorted(times[1:])[(len(times) - 1) // 2]


def peak(device: str, dtype: Any, size: int) -> float:
    """Operations per second of a large product."""
    import torch

    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / seconds_of(lambda: a @ b, device, 2.0)


# ── stages ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def contracts(report: Report, options: argparse.Namespace) -> int:
    """Tests that compare a GPU with a CPU, graphs with calls, and half precision with float32; counted by file."""
    command = [sys.executable, "-m", "pytest", "-v", "--tb=line", "-p", "no:cacheprovider", "-rf"]
    command += ["-n", str(min(8, os.cpu_count() or 1))] if options.device == "cuda" and find_spec("xdist") else []
    process = subprocess.Popen(
        [*command, *(DRY_TESTS if options.dry_run else TESTS)], stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "RASTRUM_TEST_DEVICE": options.device},
    )  # fmt: skip
    counts: dict[str, dict[str, int]] = {}
    failed: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        test, outcome = re.search(r"tests/(\w+)\.py::(.+?)(?: [A-Z]+ .*)?$", line), re.search(r"\b(PASSED|FAILED|ERROR)\b", line)
        if test is None or outcome is None or " - " in line:
            continue
        of = counts.setdefault(test[1], {"PASSED": 0, "FAILED": 0, "ERROR": 0})
        of[outcome[1]] += 1
        if outcome[1] != "PASSED":
            failed.append(test[2].strip())
        rows = [row for row in report.content["rows"] if row["name"] != test[1]]
        report.content["rows"] = [*rows, {"name": test[1], "passed": of["PASSED"], "failed": of["FAILED"] + of["ERROR"]}]
        report.content["failed"] = "; ".join(failed) or "none"
        report.save()
    code = process.wait()
    report.content["pytest"] = code
    if code in (0, 1):
        report.finish()
    return 0 if code in (0, 1) and counts else 2


def sampling_models(dry: bool) -> Iterator[tuple[str, Any, list[int]]]:
    """Models, and the sizes of their batches."""
    import rastrum
    from rastrum import ImageSpec

    if dry:
        yield "pixelcnn, tiny", rastrum.build("pixelcnn", ImageSpec(1, 5, 5, 2), "tiny"), [1, 2]
        return
    grey, colour = ImageSpec(1, 28, 28, 256), ImageSpec(3, 32, 32, 256)
    yield "gated-pixelcnn, 6 layers of 64, grey", rastrum.build("gated-pixelcnn", grey, channels=64, layers=6, hidden=64), [1, 16, 64]
    yield "pixelcnn++, 32 filters, colour", rastrum.build("pixelcnn++", colour, filters=32, blocks=1), [1, 16, 64]
    yield "row-lstm, small, grey", rastrum.build("row-lstm", grey), [1, 16, 64]
    yield "pixelcnn++, paper, colour", rastrum.build("pixelcnn++", colour, "paper"), [16, 64]


def sampling(report: Report, options: argparse.Namespace) -> int:
    """Seconds of a forward pass, of samples without graphs, and with them: the walk that makes them, and one that only repeats them."""
    import torch

    import rastrum
    from rastrum.walk import Sample, walk

    end = time.monotonic() + options.seconds
    for name, model, batches in sampling_models(options.dry_run):
        model = model.to(options.device)

        def draw(backend: str, batch: int, seed: int, model: Any = model) -> Any:
            (last,) = deque(walk(model, batch, Sample(seed), every=model.spec.size, backend=backend), maxlen=1)  # pyright: ignore
            return last.values

        for batch in batches:
            row = f"{name}, B = {batch}"
            if time.monotonic() > end or not report.begins(row):
                continue
            x = torch.randint(0, model.spec.levels, (batch, *model.spec.shape), device=options.device)
            with torch.no_grad():
                forward = seconds_of(lambda: model.log_prob(x), options.device, 1.0)  # noqa: B023
            times, images = {}, {}
            for kind, backend, seed in (("first", "graphs", 1), ("graphs", "graphs", 2), ("torch", "torch", 2)):
                wait(options.device)
                start = time.perf_counter()
                images[kind] = draw(backend, batch, seed)
                wait(options.device)
                times[kind] = time.perf_counter() - start
            report.add(
                row, forward_s=forward, torch_s=times["torch"], first_walk_s=times["first"], graphs_s=times["graphs"],
                torch_by_graphs=times["torch"] / times["graphs"], graphs_by_forward=times["graphs"] / forward,
                equal_values=float((images["graphs"] == images["torch"]).double().mean()),
            )  # fmt: skip
    assert rastrum
    report.finish()
    return 0


def step_cases(dry: bool) -> Iterator[tuple[str, Any, str, int]]:
    """Models at their paper's size, with the batch to begin with."""
    import scale

    batches = {"row-lstm": 16, "diagonal-bilstm": 16, "pixel-lstm": 16, "multiscale-pixelrnn": 16, "video-pixel-network": 8}
    cheap_first = ("pixelcnn++", "gated-pixelcnn", "pixelcnn", "conv-draw", "draw", "video-pixel-network")
    order = {name: n for n, name in enumerate(cheap_first)}
    done = set()
    for name, data, spec in sorted(scale.CASES, key=lambda case: order.get(case[0], len(order))):
        wanted = "MNIST" if name == "draw" else "Moving MNIST" if name == "video-pixel-network" else "CIFAR-10"
        if data == wanted and name not in done:
            done.add(name)
            if dry:
                spec = type(spec)(spec.channels, 6, 6, 4, min(spec.frames, 2))
            yield name, spec, "tiny" if dry else "paper", 2 if dry else batches.get(name, 64)


def steps(report: Report, options: argparse.Namespace) -> int:
    """Images per second of loss, gradients and Adam, and the share of the measured peaks that the model's own operations are."""
    import scale
    import torch

    import rastrum
    from rastrum.config import OptimConfig, RunConfig, TrainConfig
    from rastrum.training.workers import Workers

    end, size = time.monotonic() + options.seconds, 256 if options.dry_run else 8192
    peaks = {kind: peak(options.device, kind, size) for kind in (torch.float32, torch.bfloat16)}
    report.content |= {"peak_float32": peaks[torch.float32], "peak_bf16": peaks[torch.bfloat16]}
    for name, spec, preset, batch in step_cases(options.dry_run):
        for kind in ("bf16", "float32"):
            row, size = f"{name}, {spec.channels}x{spec.height}x{spec.width}, {kind}", batch
            if time.monotonic() > end or not report.begins(row):
                continue
            model = rastrum.build(name, spec, preset)
            operations = scale.training_operations(rastrum.build(name, spec, preset))
            model.initialise(torch.randint(0, spec.levels, (2, *spec.shape)))
            model = model.to(options.device).train()
            optimiser = torch.optim.Adam(model.parameters(), fused=True)
            rate, problem = 0.0, ""
            while size:
                x = torch.randint(0, spec.levels, (size, *spec.shape))
                config = TrainConfig(optim=OptimConfig(batch=size, micro_batch=None), run=RunConfig(steps=1, workers=1))
                # ``--run.precision bf16`` of the command line does this for a run; here there is no run.
                cast = torch.autocast(options.device, torch.bfloat16) if kind == "bf16" else nullcontext()

                def step(workers: Workers, x: Any = x, optimiser: Any = optimiser) -> None:
                    workers.gradients(x, None, seed=0)
                    optimiser.step()

                try:
                    with cast, Workers(model, config) as workers:
                        seconds = seconds_of(lambda: step(workers), options.device, 0.1 if options.dry_run else 3.0)
                    rate = size / seconds
                    break
                except torch.OutOfMemoryError as error:
                    problem, size = str(error).splitlines()[0], size // 2
                    optimiser.zero_grad(set_to_none=True)
                    gc.collect()
                    torch.cuda.empty_cache()
            memory = torch.cuda.max_memory_allocated() / 2**30 if options.device == "cuda" else 0.0
            if options.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            if rate:
                report.add(row, batch=size, images_per_s=rate, GFLOP_per_image=operations / 1e9, of_bf16_peak=rate * operations / peaks[
                    torch.bfloat16], of_float32_peak=rate * operations / peaks[torch.float32], GiB=memory)  # fmt: skip
            else:
                report.add(row, problem=problem)
            del model, optimiser
    report.finish()
    return 0


def recipe(report: Report, options: argparse.Namespace) -> int:
    """Train for the time that is left, under bf16 autocast on a GPU; go on where an earlier call stopped."""
    import torch

    import rastrum
    from rastrum.data.dataset import load_dataset
    from rastrum.recipes import RECIPES
    from rastrum.train import resume, train

    if options.recipe not in RECIPES:
        print(f"gpu.py: RECIPE: there is no {options.recipe!r}; `rastrum recipes` lists them", file=sys.stderr)
        return 2
    chosen = RECIPES[options.recipe]
    if options.data:
        data, held_out = (packed(Path(options.data), split) for split in ("train", "test"))
    else:
        data, held_out = (load_dataset("digits", split) for split in ("train", "test"))
    model = rastrum.build(chosen.system, data.spec, "tiny" if options.dry_run else chosen.preset)
    budget: dict[str, Any] = {"steps": 3} if options.dry_run else {"minutes": max(options.seconds - 45, 10) / 60}
    optim = replace(chosen.optim, schedule="cosine", warm_up=max(chosen.optim.warm_up, 2 if options.dry_run else 200), micro_batch=None)
    run = replace(chosen.run, **{"steps": None, "minutes": None, "cpu_minutes": None} | budget, folder=options.run, device=options.device,
                  evaluations=1 if options.dry_run else 4, held_out_images=8 if options.dry_run else 500, checkpoint_minutes=1.0,
                  workers=None)  # fmt: skip
    if (Path(options.run) / "run.json").exists():
        states = resume(options.run, data, held_out, device=options.device, **budget)
        begun = "resumed"
    else:
        states = train(model, data, replace(chosen, optim=optim, run=run), held_out)
        begun = "new"
    report.content |= {"recipe": chosen.name, "data": f"{data.name}, {len(data):,} images", "run": begun}
    shown_at, half = 0.0, torch.autocast(options.device, torch.bfloat16, enabled=options.device == "cuda")
    with half:                                                            # until ``RunConfig`` says the precision itself
        for state in states:
            if state.evaluation is not None or state.finished or time.monotonic() > shown_at:
                shown_at = time.monotonic() + 10
                held = {} if state.evaluation is None else {"held_out": str(state.evaluation)}
                report.add(f"step {state.step:,}", loss=state.loss, bits_per_dim=state.bits_per_dim or 0.0,
                           images_per_s=state.images_per_second, elapsed_s=state.elapsed, **held)  # fmt: skip
    report.finish()
    return 0


# ── data that travel ─────────────────────────────────────────────────────────────────────────────────────────────────


def pack(options: argparse.Namespace) -> int:
    """Write a data set as .npz files of at most ``--mib`` each."""
    import numpy as np

    from rastrum.data.dataset import load_dataset

    options.to.mkdir(parents=True, exist_ok=True)
    for split, most in (("train", options.limit), ("test", 2000)):
        data = load_dataset(options.data, split).subset(most)
        assert not isinstance(data.images, tuple), "images of one size"
        images = data.images.numpy()
        parts, levels = max(1, -(-images.nbytes // (options.mib << 20))), data.spec.levels
        for part, some in enumerate(np.array_split(images, parts)):
            np.savez_compressed(options.to / f"{split}.{part}.npz", images=some, levels=levels)
            print(f"{options.to}/{split}.{part}.npz: {len(some):,} images")
    return 0


def packed(folder: Path, split: str) -> Any:
    """The data set that ``pack`` wrote, of the parts that are there."""
    import numpy as np
    import torch

    from rastrum import ImageSpec
    from rastrum.data.dataset import Dataset

    files = [np.load(path) for path in sorted(folder.glob(f"{split}*.npz"))]
    if not files:
        raise SystemExit(f"gpu.py: DATA: there is no {split}*.npz in {str(folder)!r}; `python benchmarks/gpu.py pack` writes them")
    images = np.concatenate([file["images"] for file in files])
    levels = int(files[0]["levels"]) if "levels" in files[0] else 256
    channels, height, width = images.shape[1:]
    return Dataset(folder.name, split, ImageSpec(channels, height, width, levels), torch.from_numpy(images))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=[*STAGES, "found", "summary", "pack"])
    parser.add_argument("--out", type=Path, default=Path("gpu-out"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--run", default="gpu-run")
    parser.add_argument("--recipe", default="pixelcnn-plus-plus-cifar10-paper")
    parser.add_argument("--data", default="", help="a folder of .npz files; of pack: the name of a data set")
    parser.add_argument("--to", type=Path, default=Path("gpu-data"))
    parser.add_argument("--limit", type=int, help="of pack: at most so many training images")
    parser.add_argument("--mib", type=int, default=60, help="of pack: largest file before compression")
    options = parser.parse_args()
    if options.stage == "found":
        print(found(options.device))
        return 0
    if options.stage == "pack":
        return pack(options)
    if options.stage == "summary":
        print(summary(options.out))
        return 0
    report = Report(options.out, options.stage, machine=found(options.device))
    stage: Callable[[Report, argparse.Namespace], int] = {
        "contracts": contracts, "sampling": sampling, "steps": steps, "recipe": recipe
    }[options.stage]  # fmt: skip
    return stage(report, options)


if __name__ == "__main__":
    sys.exit(main())
