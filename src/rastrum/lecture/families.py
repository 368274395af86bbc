"""Autoregressive, variational and adversarial models, trained alike and measured by ``rastrum compare``.

The figure draws a record of that command: the one beside this file, which is of its default settings, or that of a folder that is given.
"""

from __future__ import annotations

from pathlib import Path

from ..applications.comparison_record import cells, read_comparison
from .figure import Figure, Still
from .slide import SMALL, Slide, pixels

SECTION = "Three families"
RECORDED = Path(__file__).with_name("comparison")
COLOURS = {"autoregressive": "blue", "variational": "green", "adversarial": "orange"}
VERDICTS = {"found": "green", "not found": "red"}
SHOWN = 4                      # pictures of a model
LEFT, NAME, PICTURES = 0.4, 1.7, 2.25    # units: edge, and columns of names and pictures
COLUMNS = {"nats": (1.85, 3), "ms, B = 1": (1.15, 4), "B = 64": (0.95, 5), "sharpness": (1.55, 6), "distance": (1.8, 7),
           "precision": (1.2, 8), "recall": (0.95, 9), "lost": (0.9, 11), "code": (0.8, 12)}  # fmt: skip


def families(folder: Path) -> Still:
    """The table of a comparison, and the lecture's claims next to what was found."""
    comparison = read_comparison(folder)
    best, claims = comparison.best, comparison.claims
    rows = [(row, cells(row)) for row in comparison.rows]
    data = {"sharpness": f"{best.sharpness:.2f}", "distance": f"{best.distance:.1g}".replace("-", "−"),
            "precision": f"{best.precision:.2f}", "recall": f"{best.recall:.2f}"}  # fmt: skip

    def draw(slide: Slide) -> None:
        step = min(0.64, (8.5 - 0.5 * len(claims)) / (len(rows) + 2))
        lines = [("", "", *COLUMNS)]
        for row, line in rows:
            lines.append((row.model, "", *(_short(name, line[column]) for name, (_, column) in COLUMNS.items())))
        lines.append(("(the data)", "", *(data.get(name, "") for name in COLUMNS)))
        slide.table(LEFT, 0.15, (NAME, PICTURES, *(width for width, _ in COLUMNS.values())), lines, step, SMALL - 1)
        for n, (row, _) in enumerate(rows):
            top = 0.15 + step * (n + 1)
            slide.line([(LEFT - 0.1, top + 0.06), (LEFT - 0.1, top + step - 0.06)], COLOURS[row.group], 5)
            if len(row.pictures):
                slide.sheet(LEFT + NAME, top + 0.04, PICTURES, step - 0.08, [pixels(row.pictures[:SHOWN])])
        top, room = 0.3 + step * len(lines), 8.85 - step * len(lines) - 0.3
        for n, claim in enumerate(claims):
            middle = top + room * (n + 0.5) / len(claims)
            said, _, measure = claim.text.partition(" (")
            slide.text(LEFT, middle, claim.verdict, SMALL + 1, VERDICTS.get(claim.verdict, "soft"), "left", bold=True)
            slide.text(LEFT + 2, middle, said, SMALL + 1, align="left")
            slide.text(15.55, middle, measure.removesuffix(")"), SMALL - 2, "soft", "right")

    named = ", ".join(f"{colour}: {group}" for group, colour in COLOURS.items())
    return Still(draw, f"What the lecture says of three families ({named}), and what was found on {comparison.about}, {comparison.date}: "
                       "nats of held-out images (≤ a bound); CPU time of one image, in batches of B; sharpness, 1 = as the data; "
                       "kernel distance of pictures to data; precision and recall; runs lost; values of the code. ± over seeds. Of "
                       f"variational models the mean is shown. Measured by: {comparison.command}.")  # fmt: skip


def _short(name: str, cell: str) -> str:
    """Without the spread over seeds, where there is no room for it."""
    return cell.partition(" ±")[0] if name in ("precision", "recall") else cell


FIGURES = (
    Figure("families", "Autoregressive, variational, adversarial", families, reads=RECORDED, notes="Each claim of the lecture beside what "
           "was measured, equal training for all. Not every one is found, and with three seeds not every one can be decided."),
)  # fmt: skip
