"""A comparison as files: what was measured, with the command that measured it, and what each model drew.

    comparison.json   command, date, training, features, what images of the training score, a row per model, the claims
    pictures.png      SHOWN pictures of each model side by side, one model below the other, pixel for pixel; paper where there are none
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .claims import Claim, claims
from .comparison import SHOWN, Row, mean, spread
from .quality import Quality

RECORD, PICTURES = "comparison.json", "pictures.png"
HEADER = ("model", "kind", "parameters", "nats per image", "ms per image, B = 1", "B = 64", "sharpness", "kernel distance", "precision",
          "recall", "spread", "lost", "code")  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """What ``rastrum compare`` found.

    about: of the data and the trainings, in words. command: that measured it. date: of the day, as in 2026-11-30.
    rows: of the models.
    best: what images of the training have in place of drawn ones.
    """

    about: str
    command: str
    date: str
    rows: Sequence[Row]
    best: Quality

    @property
    def claims(self) -> list[Claim]:
        """The lecture's claims next to what was found."""
        return claims(self.rows)

    def facts(self) -> dict[str, Any]:
        """For comparison.json."""
        rows = [{each.name: getattr(row, each.name) for each in fields(row) if each.name != "pictures"} for row in self.rows]
        found = [{"claim": claim.text, "holds": claim.holds, "verdict": claim.verdict, "found": claim.found, "undecided": claim.undecided}
                 for claim in self.claims]  # fmt: skip
        about = {"about": self.about, "command": self.command, "date": self.date}
        return about | {"best": asdict(self.best), "models": rows, "claims": found}

    def pictures(self) -> bytes:
        """For pictures.png."""
        shape = next((row.pictures.shape[1:] for row in self.rows if len(row.pictures)), torch.Size((1, 1, 1)))
        every = torch.ones(len(self.rows), SHOWN, *shape)
        for place, row in zip(every, self.rows, strict=True):
            place[: len(row.pictures)] = row.pictures
        pixels = (every * 255).round().byte().permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG", optimize=True)
        return file.getvalue()


def read_comparison(folder: str | Path) -> Comparison:
    """What ``rastrum compare --out FOLDER`` found.

    folder: which one.

    Raises ``ValueError`` for a folder that holds no comparison of this version.
    """
    folder = Path(folder)
    try:
        facts = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        pictures = _pictures(np.asarray(Image.open(folder / PICTURES)), len(facts["models"]))
        rows = [_row(each, shown) for each, shown in zip(facts["models"], pictures, strict=True)]
        return Comparison(facts["about"], facts["command"], facts["date"], rows, Quality(**facts["best"]))
    except OSError:
        raise ValueError(f"{str(folder)!r}: holds no {RECORD} with {PICTURES}; `rastrum compare --out FOLDER` writes them") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(folder / RECORD)!r} cannot be read ({error}); `rastrum compare --out {folder}` writes it again") from None


def _pictures(sheet: np.ndarray, models: int) -> Tensor:
    height, width = sheet.shape[0] // models, sheet.shape[1] // SHOWN
    parts = torch.from_numpy(sheet.reshape(models, height, SHOWN, width, -1).copy())
    return parts.permute(0, 2, 4, 1, 3).float() / 255


def _row(facts: Mapping[str, Any], pictures: Tensor) -> Row:
    times = {int(size): value for size, value in facts["milliseconds"].items()}
    error = math.nan if facts["distance_error"] is None else facts["distance_error"]
    return Row(**{**facts, "milliseconds": times, "distance_error": error}, pictures=pictures if times else pictures[:0])


def cells(row: Row) -> list[str]:
    """What a table says of a model, under HEADER."""

    def number(value: float, form: str) -> str:
        return "–" if math.isnan(value) else format(value, form)

    def over_seeds(values: Sequence[float | None], form: str, error: str) -> str:
        deviation = spread(values)
        return number(mean(values), form) + (f" ± {deviation:{error}}" if not math.isnan(deviation) else "")

    nats = f"{'≤ ' * (row.kind == 'bound')}{over_seeds(row.nats, '.2f', '.2f')}" if row.kind != "loss" else "–"
    unsteady = abs(spread(row.losses) / mean(row.losses))
    return [
        row.model, row.group, f"{row.parameters:,}", nats, *(number(row.milliseconds.get(size, math.nan), ".2f") for size in (1, 64)),
        over_seeds(row.sharpness, ".2f", ".2f"), over_seeds(row.distance, ".3g", ".1g"), over_seeds(row.precision, ".2f", ".2f"),
        over_seeds(row.recall, ".2f", ".2f"), number(unsteady, ".1%"), f"{row.diverged} of {len(row.losses)}",
        "none" if row.code is None else f"{row.code:,}",
    ]  # fmt: skip
