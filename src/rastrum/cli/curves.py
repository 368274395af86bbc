"""``plot``: learning curves of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from .output import AS_USUAL, Look, check_out, check_size, name_missing_letters, save_figure
from .show import Json, answer

HEIGHT_WIDTH = 400, 700        # of the plot, in points, about


def plot(
    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN …", help="folders of runs")],
    out: Annotated[Path, arg(metavar="X.png", help="write the picture here: .png, .webp, .svg or .pdf")] = Path("curves.png"),
    over: Annotated[Literal["steps", "minutes"], arg(help="what the runs are compared over")] = "steps",
    training: Annotated[bool, arg(help="the loss on the training images too, also where there are several runs")] = False,
    look: Look = AS_USUAL,
    json: Json = False,
) -> None:
    """Draw the learning curves of one or more runs: bits/dim, or nats where one of them has none.

    One run: its training loss, and its score on held-out images. Several: the held-out score of each, or its loss where it has none.
    """
    from ..pictures.plots import learning_curve
    from ..training.record import METRICS, read_metrics

    if not runs:
        raise ValueError("plot: which runs? Give the folders of one or more")
    page = look.page()
    check_out("--out", out)
    check_size(out, page)
    page.check(1, *HEIGHT_WIDTH)
    lines: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        if not (run / METRICS).is_file():
            raise ValueError(f"plot: {str(run)!r} has no {METRICS}; is it the folder of a run?")
        name = run.resolve().name
        name_missing_letters("plot", name)
        lines[name if name not in lines else str(run)] = read_metrics(run)
        if not read_metrics(run):
            raise ValueError(f"plot: {str(run / METRICS)!r} holds no line yet; wait until the run has made some steps")
    bits = all(line.get("bits_per_dim") is not None for each in lines.values() for line in each)
    unit, loss = ("bits_per_dim", "bits_per_dim") if bits else ("nats", "loss")
    curves = {}
    for name, each in lines.items():
        held_out = [(_where(line, over), line["held_out"][unit]) for line in each if line.get("held_out")]
        prefix = "" if len(runs) == 1 else f"{name}, "
        if len(runs) == 1 or training or not held_out:
            curves[f"{prefix}training"] = _columns([(_where(line, over), line[loss]) for line in each])
        if held_out:
            curves[f"{prefix}held out"] = _columns(held_out)
    save_figure(out, page, learning_curve(curves, over, "bits/dim" if bits else "nats per image"))
    last = {name: dict(zip((over, unit), (values[-1] for values in curve), strict=True)) for name, curve in curves.items()}
    text = [f"  {name}: {found[unit]:.4f} {'bits/dim' if bits else 'nats'} at {found[over]:,.4g} {over}" for name, found in last.items()]
    answer({"out": str(out), "last": last}, json, *text, str(out))


def _where(line: dict[str, Any], over: str) -> float:
    return line["step"] if over == "steps" else line["elapsed"] / 60


def _columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
