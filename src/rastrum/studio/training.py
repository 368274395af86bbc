"""*Training*: curves and the newest sheet of samples of the runs in a folder, while they go on."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..training.record import METRICS, read_metrics
from .models import Models
from .requests import Answer, Request

MOST_RUNS, MOST_POINTS = 32, 500
LARGEST_SHEET = 1 << 22        # bytes of a picture that is sent
PAUSE = 2.0                    # seconds between two looks at the folder


@dataclass(frozen=True)
class Training(Request):
    """Follow the runs in the studio's folder of runs, at most the 32 newest.

    ``run`` yields, every two seconds, those that have changed since: name, unit, the training loss as (steps, minutes, value), the held-out
    score likewise, and the newest sheet of samples as base64 of a PNG, if there is one.
    """

    def run(self, models: Models) -> Iterator[Answer]:
        if models.runs is None:
            raise ValueError("training: start the studio with --runs FOLDER, the folder that holds your runs")
        seen: dict[str, tuple[Any, ...]] = {}
        while True:
            changed = []
            for folder in run_folders(models.runs):
                read = folder / METRICS, *sheets(folder)[-1:]
                stamp = tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in read)
                if seen.get(folder.name) != stamp:
                    seen[folder.name] = stamp
                    changed.append(described(folder))
            yield {"runs": changed, "count": len(seen)}
            time.sleep(PAUSE)


def run_folders(root: Path) -> list[Path]:
    """The folder itself and those in it that are runs, the newest last, at most ``MOST_RUNS``. root: of the runs."""
    folders = [path for path in (root, *(root.iterdir() if root.is_dir() else ())) if (path / METRICS).is_file()]
    return sorted(folders, key=lambda path: (path / METRICS).stat().st_mtime)[-MOST_RUNS:]


def sheets(folder: Path) -> list[Path]:
    """The sheets of samples of a run, the newest last. folder: of the run."""
    return sorted(folder.glob(f"samples-{'[0-9]' * 6}.png"))


def described(folder: Path) -> Answer:
    """What is shown of a run. folder: of the run."""
    lines = read_metrics(folder)
    bits = bool(lines) and all(line.get("bits_per_dim") is not None for line in lines)
    unit, loss = ("bits_per_dim", "bits_per_dim") if bits else ("nats", "loss")
    held_out = [[*_where(line), line["held_out"][unit]] for line in lines if line.get("held_out")]
    sheet = sheets(folder)[-1:]
    shown = [path for path in sheet if path.stat().st_size <= LARGEST_SHEET]
    return {
        "name": folder.name,
        "unit": "bits/dim" if bits else "nats",
        "training": thinned([[*_where(line), line[loss]] for line in lines]),
        "held_out": thinned(held_out),
        "sheet": b64encode(shown[0].read_bytes()).decode() if shown else None,
        "sheet_step": int(shown[0].stem.rpartition("-")[2]) if shown else None,
    }


def _where(line: dict[str, Any]) -> tuple[int, float]:
    """Steps and minutes at a ``line`` of metrics."""
    return line["step"], line["elapsed"] / 60


def thinned(points: list[Any]) -> list[Any]:
    """At most ``MOST_POINTS`` of the points, evenly spread, the last among them."""
    step = -(-len(points) // MOST_POINTS) or 1
    return points[::-1][::step][::-1]
