"""What training at a paper's size takes: writes the tables of docs/scale.md between their markers.

    python benchmarks/scale.py [--tables presets days size width processes] [--out docs/scale.md]
    python benchmarks/scale.py --tiny                              # tiny presets and few points, printed: whether it works

Operations: a multiply-add counts as two. Of a raster model they are those of its step program, each operation as often as it runs for one
image: products by weights that the causal kernels do not contain are not counted. Of a canvas model, what torch's FlopCounterMode counts.
A training step is three times the forward pass: the gradients of inputs and of weights are products of the same size.

Memory for the backward pass: the tensors that autograd keeps of one more image, on the code path of a GPU, from a run on torch's "meta"
device, which has shapes and no values. Times are CPU time of this process, the least of several rounds."""

from __future__ import annotations

import argparse
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import rastrum
from rastrum import ImageSpec, RasterModel
from rastrum.adversarial import AdversarialModel
from rastrum.config import OptimConfig, RunConfig, TrainConfig
from rastrum.model import Model
from rastrum.program import Program
from rastrum.recipes import RECIPES
from rastrum.training.workers import Workers

DOCUMENT = Path(__file__).parents[1] / "docs/scale.md"
H100 = 989e12                  # bf16 multiply-adds of tensor cores count twice, without sparsity (NVIDIA's data sheet of the H100 SXM)
ROOM = 80 * 10**9              # bytes of its memory
LINKS = {"NVLink": 450e9, "400 Gbit/s network": 50e9}              # bytes per second in each direction
SHARES = (0.1, 0.4)
BINARY, COLOUR, LARGE = ImageSpec(1, 28, 28, 2), ImageSpec(3, 32, 32, 256), ImageSpec(3, 64, 64, 256)
VIDEO = ImageSpec(1, 64, 64, 256, 20)
DATA = {"MNIST": 60_000, "CIFAR-10": 50_000, "ImageNet 32x32": 1_281_149, "ImageNet 64x64": 1_281_149, "Moving MNIST": 10_000}
CASES = [
    (name, data, spec)
    for name, model in rastrum.MODELS.items()
    for data, spec in (("MNIST", BINARY), ("CIFAR-10", COLOUR), ("ImageNet 32x32", COLOUR), ("ImageNet 64x64", LARGE))
    # A step of adversarial models is two updates, not three forward passes; least squares run on the CPU, and no paper has their sizes.
    if name not in ("video-pixel-network", "least-squares") and not issubclass(model, AdversarialModel)
] + [("video-pixel-network", "Moving MNIST", VIDEO)]

# ── counting ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def program_multiply_adds(program: Program) -> int:
    """Multiply-adds by weights for one image, each operation as often as it runs."""
    total = 0
    for each in program.passes:
        for phase in each.phases.values():
            for op in phase.operations:
                if op.weight is None:
                    continue
                grid, frames = op.grid, each.frames
                rows = sum(row & grid.row_mask == grid.row_value for row in range(phase.first_row, each.height))
                columns = grid.columns
                if phase.kind in ("start", "frame"):
                    rows, frames = grid.rows, 1 if phase.kind == "start" else frames - 1
                elif phase.kind != "row":
                    columns = sum(column & grid.column_mask == grid.column_value for column in range(each.width))
                total += frames * rows * columns * op.weight.numel()
    return total


def forward_operations(model: Model) -> float:
    """Floating-point operations of a forward pass of one image."""
    if isinstance(model, RasterModel) and model.has_program:
        return 2.0 * program_multiply_adds(model.program())
    return float(shape_run(model, 1)[1])


def training_operations(model: Model) -> float:
    """Of a training step, for each image."""
    return 3.0 * forward_operations(model)


@contextmanager
def unchecked() -> Iterator[None]:
    """Meanwhile images are not looked at: they have no values."""
    modules = [module for name, module in sys.modules.items() if name.startswith("rastrum.") and hasattr(module, "check_images")]
    before = [vars(module)["check_images"] for module in modules]
    for module in modules:
        vars(module)["check_images"] = lambda spec, x, device=None, what="": x
    try:
        yield
    finally:
        for module, function in zip(modules, before, strict=True):
            vars(module)["check_images"] = function


def shape_run(model: Model, batch: int) -> tuple[int, int]:
    """Bytes that autograd keeps of the loss of a batch, parameters left out, and operations of its products; it ends the model."""
    model = model.train()
    model._apply(lambda tensor: tensor if tensor.dtype == torch.int64 and not tensor.dim() else tensor.to("meta"))   # counts stay known
    x = torch.zeros(batch, *model.spec.shape, dtype=torch.int64, device="meta")
    weights, kept = {p.untyped_storage()._cdata for p in model.parameters()}, {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()   # kept alive, so that no other takes its number
        return tensor

    with unchecked(), FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = model.loss(x)
        assert loss.requires_grad
    return sum(storage.nbytes() for key, storage in kept.items() if key not in weights), counter.get_total_flops()


def kept_per_image(build: Callable[[ImageSpec], Model], spec: ImageSpec) -> tuple[float, str]:
    """Bytes kept for the backward pass per image, and "" or how they were extrapolated."""
    def more_of_two(model: Callable[[], Model]) -> int:
        return shape_run(model(), 2)[0] - shape_run(model(), 1)[0]

    if spec.frames > 3:                                                   # frames are alike from the second on
        two, three = (more_of_two(lambda n=n: build(replace(spec, frames=n))) for n in (2, 3))
        return two + (spec.frames - 2) * (three - two), "from 2 and 3 frames"
    if isinstance(build(spec), rastrum.MODELS["pixel-lstm"]):             # a loop over all values: the run of shapes takes minutes
        small = replace(spec, height=6, width=6)
        return more_of_two(lambda: build(small)) * spec.size / small.size, "from 6x6"
    return float(more_of_two(lambda: build(spec))), ""


def fixed_bytes(parameters: int) -> int:
    """Weights, their gradients, two moments of Adam and the average of the weights, in float32."""
    return 5 * 4 * parameters


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def cpu_seconds(model: Model, batch: int = 4, rounds: int = 4) -> float:
    """CPU time of loss and gradients per image, one thread."""
    torch.set_num_threads(1)
    x = torch.randint(0, model.spec.levels, (batch, *model.spec.shape), generator=torch.Generator().manual_seed(0))
    model.initialise(x)
    times = []
    config = TrainConfig(optim=OptimConfig(batch=batch, micro_batch=batch), run=RunConfig(steps=1, workers=1))
    with Workers(model.train(), config) as workers:
        for _ in range(rounds + 1):
            start = time.process_time()
            workers.gradients(x, None, seed=0)
            times.append(time.process_time() - start)
    return min(times[1:]) / batch


def cpu_per_step(processes: int, steps: tuple[int, int]) -> float:
    """CPU time per step of all processes together that torchrun starts, from runs of two lengths."""
    seconds = []
    for count in steps:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m", "rastrum"]
            command += ["train", "pixelcnn++", "--data", "digits", "--preset", "small", "--optim.batch", "32", "--run.steps", str(count)]
            command += ["--run.evaluations", "1", "--run.held-out-images", "1", "--run.workers", "1", "--run.folder", f"{folder}/run"]
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return (seconds[1] - seconds[0]) / (steps[1] - steps[0])


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of log values over log sizes by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown, numbers to the right."""
    rule = ["---:" if all(not cell or cell[0].isdigit() for cell in cells) else "---" for cells in zip(*rows, strict=True)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows]) + "\n"


def short(value: float) -> str:
    """Three digits, whole numbers with commas."""
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.0f}" if digits <= 0 else f"{value:.{min(digits, 4)}f}"


def span(days: float) -> str:
    """A time in the unit that suits it."""
    for unit, length in (("days", 1.0), ("h", 1 / 24), ("min", 1 / 1440)):
        if days >= length:
            return f"{days / length:.3g} {unit}"
    return f"{days * 86_400:.2g} s"


class Costs:
    """What one image costs, of each case; counted once."""

    def __init__(self, preset: str) -> None:
        self.preset, self.found = preset, {}

    def of(self, name: str, spec: ImageSpec) -> dict[str, Any]:
        if (name, spec) not in self.found:

            def build(spec: ImageSpec) -> Model:
                return rastrum.build(name, spec, self.preset)

            model = build(spec)
            count, forward = sum(p.numel() for p in model.parameters()), forward_operations(model)
            kept, how = kept_per_image(build, spec)
            self.found[name, spec] = {"parameters": count, "forward": forward, "kept": kept, "how": how}
            print(name, spec, self.found[name, spec], file=sys.stderr, flush=True)
        return self.found[name, spec]


def presets(costs: Costs, cases: list[tuple[str, str, ImageSpec]]) -> str:
    rows = []
    for name, data, spec in cases:
        if data == "ImageNet 32x32":                                      # as CIFAR-10
            continue
        cost = costs.of(name, spec)
        fixed, kept = fixed_bytes(cost["parameters"]), cost["kept"]
        fits = max(0, int((ROOM - fixed) / kept))
        rows.append([
            name, data.replace("CIFAR-10", "CIFAR-10, ImageNet 32x32"), f"{cost['parameters']:,}", f"{fixed / 1e9:.3g}",
            short(kept / 1e6) + ("*" if cost["how"] else ""), f"{fits:,}", short(cost["forward"] / 1e9), short(3 * cost["forward"] / 1e9),
        ])  # fmt: skip
    head = ["model", "images", "parameters", "fixed, GB", "per image, MB", "images in 80 GB", "forward, GFLOP", "training, GFLOP"]
    return table(head, rows)


def schedule(name: str, data: str, spec: ImageSpec) -> tuple[str, int] | None:
    """A recipe of the preset "paper" for these images, and how many images it trains on."""
    for recipe in RECIPES.values():
        known = {"MNIST": ("mnist", "binarized-mnist"), "CIFAR-10": ("cifar10",), "Moving MNIST": ("moving-mnist",)}.get(data, ())
        if (recipe.system, recipe.preset) == (name, "paper") and recipe.data.name in known and recipe.run.steps:
            return recipe.name, recipe.run.steps * recipe.optim.batch
    return None


def days(costs: Costs, cases: list[tuple[str, str, ImageSpec]]) -> str:
    rows = []
    for name, data, spec in cases:
        cost = costs.of(name, spec)
        images = [share * H100 * 86_400 / (3 * cost["forward"]) for share in SHARES]
        planned = schedule(name, data, spec)
        whole = ["", ""] if planned is None else [f"{planned[1]:,}", " to ".join(span(planned[1] / n) for n in reversed(images))]
        rows.append([name, data, *(f"{short(count / 1e6)}" for count in images), *(short(count / DATA[data]) for count in images), *whole])
    head = ["model", "images", "million images, 10 %", "40 %", "epochs, 10 %", "40 %", "images of our recipe", "time, 40 % to 10 %"]
    return table(head, rows)


def sizes(costs: Costs, names: list[str], sides: list[int], timed: list[int]) -> str:
    """How the cost of an image grows with its side."""
    rows, preset = [], "small" if costs.preset == "paper" else "tiny"
    for name in names:
        counted = [costs.of(name, ImageSpec(3, side, side, 256)) for side in sides]
        measured = [cpu_seconds(rastrum.build(name, ImageSpec(3, side, side, 256), preset)) for side in timed]
        rows.append([
            name, *(short(3 * cost["forward"] / 1e9) for cost in counted), f"{exponent(sides, [c['forward'] for c in counted]):.2f}",
            f"{exponent(sides, [c['kept'] for c in counted]):.2f}", *(short(1e3 * seconds) for seconds in measured),
            f"{exponent(timed, measured):.2f}",
        ])  # fmt: skip
    head = ["model, paper: computed", *(f"{side}x{side}, GFLOP" for side in sides), "power of the side", "of memory"]
    return table([*head, *(f"small: {side}x{side}, CPU ms" for side in timed), "power of the side"], rows)


WIDTHS: dict[str, tuple[str, list[int]]] = {
    "gated-pixelcnn": ("channels", [24, 48, 96]), "pixelcnn++": ("filters", [15, 30, 60]), "row-lstm": ("units", [24, 48, 96]),
    "draw": ("hidden", [64, 128, 256]),
}  # fmt: skip


def widths(names: list[str], side: int) -> str:
    """How the cost of an image grows with the width of the layers: counted and measured."""
    rows = []
    for name in names:
        option, values = WIDTHS[name]
        changes: list[dict[str, Any]] = [{option: value} for value in values]
        models = [rastrum.build(name, ImageSpec(3, side, side, 256), **change) for change in changes]
        seconds = [cpu_seconds(model) for model in models]
        parameters = [float(sum(p.numel() for p in model.parameters())) for model in models]
        forward = [forward_operations(model) for model in models]
        rows.append([
            name, f"{option} {', '.join(map(str, values))}", *(f"{exponent(values, each):.2f}" for each in (parameters, forward, seconds)),
            ", ".join(short(1e3 * each) for each in seconds),
        ])  # fmt: skip
    return table(["model", "widths", "power for parameters", "for operations", "for CPU time", "CPU ms per image"], rows)


def processes(costs: Costs, measured: bool) -> str:
    """What several processes take: measured here with one and two, computed for GPUs."""
    lines = []
    if measured:
        one, two = (min(cpu_per_step(count, (4, 24)) for _ in range(2)) for count in (1, 2))
        lines.append(table(["processes on this machine (measured)", "CPU time per step, s", "of one process"],
                           [["1", short(one), "1"], ["2, together", short(two), f"{two / one:.2f}"]]))  # fmt: skip
    rows = []
    for name, spec in (("pixelcnn++", COLOUR), ("gated-pixelcnn", COLOUR), ("row-lstm", COLOUR), ("draw", BINARY)):
        cost = costs.of(name, spec)
        work = 16 * 3 * cost["forward"] / (SHARES[1] * H100)
        row = [name, short(1e3 * work)]
        for count, link in ((8, "NVLink"), (64, "400 Gbit/s network")):
            sending = 2 * (count - 1) / count * 4 * cost["parameters"] / LINKS[link]
            row += [short(1e3 * sending), f"{work / (work + sending):.0%}"]
        rows.append(row)
    head = ["model (computed)", "16 images, ms", "8 GPUs: sum of gradients, ms", "efficiency", "64 GPUs: sum, ms", "efficiency"]
    return "\n".join([*lines, table(head, rows)])


def data() -> str:
    """Memory of data sets that are held whole, one byte per value."""
    shapes = {"MNIST": 784, "CIFAR-10": 3072, "ImageNet 32x32": 3072, "ImageNet 64x64": 12_288}
    rows = [[name, f"{DATA[name]:,}", short(DATA[name] * size / 1e6)] for name, size in shapes.items()]
    return table(["data", "training images", "MB"], rows)


def write(path: Path, name: str, text: str) -> None:
    """Put a table between its markers."""
    before = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: benchmarks/scale.py -->\n", f"<!-- end of {name} -->"
    if begin not in before or end not in before:
        raise SystemExit(f"{path} has no place for {name}: {begin.strip()} … {end}")
    after = re.sub(f"({re.escape(begin)}).*?({re.escape(end)})", lambda m: f"{m[1]}\n{text}\n{m[2]}", before, flags=re.DOTALL)
    path.write_text(after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["presets", "days", "size", "width", "processes", "data"]
    parser.add_argument("--tables", nargs="+", choices=names, default=names)
    parser.add_argument("--out", type=Path, help="the document to write to; default: print")
    parser.add_argument("--tiny", action="store_true", help="tiny presets of one model of each kind and few points")
    options = parser.parse_args()
    costs = Costs("tiny" if options.tiny else "paper")
    cases = [case for case in CASES if not options.tiny or (case[0] in ("pixelcnn", "draw") and case[1] == "MNIST")]
    grow = ["pixelcnn", "draw"] if options.tiny else ["gated-pixelcnn", "pixelcnn++", "row-lstm", "draw"]
    make: dict[str, Callable[[], str]] = {
        "presets": lambda: presets(costs, cases),
        "days": lambda: days(costs, cases),
        "size": lambda: sizes(costs, grow, [8, 16] if options.tiny else [16, 32, 64], [4, 8] if options.tiny else [8, 16, 32]),
        "width": lambda: widths(["draw"] if options.tiny else list(WIDTHS), 8 if options.tiny else 16),
        "processes": lambda: processes(costs, not options.tiny),
        "data": data,
    }
    for name in options.tables:
        text = make[name]()
        if options.out:
            write(options.out, name, text)
        else:
            print(f"\n{name}\n\n{text}")


if __name__ == "__main__":
    main()
