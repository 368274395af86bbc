"""``compare``: models of several kinds at an equal budget."""

from __future__ import annotations

import math
from datetime import date
from json import dumps as json_text
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from ..names import nearest
from .output import AS_USUAL, Look, check_size, save_figure
from .quality import FeaturesName, features_of
from .show import Json, answer, messages, progress, standard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..applications.claims import Claim
    from ..applications.comparison import Row
    from ..applications.quality import Quality

NOTES = (
    "± is the standard deviation over seeds, and says nothing of the choice of images",
    "nats per image: exact or (≤) a bound; – where a model has no likelihood",
    "ms: CPU time of a drawn image, one or 64 at once · sharpness: of what is drawn, 1 = as the data",
    "kernel distance, precision (fidelity), recall (diversity): of features of {features}, {images} pictures against as many "
    "held-out images; last line: images of the training in place of pictures, the best to be expected",
    "spread: of the held-out loss over seeds, relative to it; an adversarial model's is of its discriminator's, and no measure of others",
    "lost: runs that diverged · code: values of the latents · optimised as in a recipe, others by the usual settings: {tuned}",
)


def compare(
    models: Annotated[Positional[tuple[str, ...]], arg(metavar="MODEL …", help="as `rastrum models` lists them; default: gated-pixelcnn, "
                                                       "row-lstm, draw, vae, gran and dcgan")] = (),
    data: Annotated[str, arg(metavar="NAME", help="data set, as for `rastrum train --data`")] = "mnist",
    binarise: Annotated[Literal["static", "dynamic", "threshold", "none"], arg(help="two levels, as for `rastrum train`")] = "threshold",
    out: Annotated[Path, arg(metavar="FOLDER", help="for trainings, table and plot; what is there already is used")] = Path("comparison"),
    budget: Annotated[float | None, arg(metavar="M", help="CPU minutes of each training; default: 2")] = None,
    steps: Annotated[int | None, arg(metavar="N", help="instead of a budget of time: steps of each training")] = None,
    seeds: Annotated[int, arg(help="trainings of each model")] = 3,
    pictures: Annotated[int, arg(help="how many each model draws for the measures")] = 1000,
    features: FeaturesName = "classifier",
    seed: Annotated[int, arg(help="of the first training")] = 0,
    look: Look = AS_USUAL,
    json: Json = False,
) -> None:
    """Train models on the same images for the same time and measure them: the lecture's table of autoregressive, adversarial and
    variational models.

    Writes table.md, comparison.json, comparison.png and pictures.png next to the folders of the trainings. A comparison that was stopped
    goes on where it was. `rastrum figure families FOLDER` draws it as a slide.
    """
    from ..applications.comparison import MODELS, USUAL
    from ..applications.comparison import compare as over_all
    from ..applications.comparison_record import PICTURES, RECORD, Comparison
    from ..applications.quality import FEWEST, Reference
    from ..config import DataOptions, RunConfig
    from ..data.dataset import load_dataset
    from ..files import write_files
    from ..models import MODELS as ALL
    from ..pictures.comparisons import comparison_plot

    names = models or MODELS
    if len(set(names)) < len(names):
        raise ValueError(f"compare: {next(name for name in names if names.count(name) > 1)!r} is named twice")
    for name in names:
        if name in ALL:
            continue
        if "/" in name or Path(name).exists():
            raise ValueError(f"compare: trains models itself, so it takes the name of one, such as draw, not the trained {name!r}; "
                             "measure that by rastrum evaluate FOLDER, adversarial models by rastrum battle too")  # fmt: skip
        raise ValueError(f"compare: unknown model {name!r}; {nearest(name, ALL)}")
    for flag, value, least in (("--seeds", seeds, 1), ("--pictures", pictures, FEWEST), ("--steps", 1 if steps is None else steps, 1)):
        if value < least:
            raise ValueError(f"{flag}: expected at least {least}, got {value}")
    minutes = 2.0 if budget is None else budget
    if not 0 < minutes < math.inf:
        raise ValueError(f"--budget: expected a number of minutes above 0, got {budget:g}")
    if steps is not None and budget is not None:
        raise ValueError(f"--steps: {steps:,} steps end a training, and so does --budget {budget:g}; give one of the two")
    page = look.page()
    check_size(out / "comparison.png", page)
    if out.is_file():
        raise ValueError(f"--out: {str(out)!r} is a file; give a folder")
    options = DataOptions(binarise=None if binarise == "none" else binarise)
    training, held_out = (load_dataset(data, split, options) for split in ("train", "test"))
    run = RunConfig(seed=seed, workers=1, evaluations=1, steps=steps, cpu_minutes=minutes if steps is None else None)
    total = 100 * len(names) * seeds
    out.mkdir(parents=True, exist_ok=True)
    with progress("comparing", total, "%") as show:
        reference = Reference(features_of(features, training), held_out.subset(pictures))
        best, rows = reference.best(training), []
        for row in over_all(names, training, reference, run, folder=out, seeds=seeds, report=lambda done, now: show(int(100 * done))):
            messages.print(line_of(row))
            rows.append(row)
    time = f"{minutes:g} CPU minutes" if steps is None else f"{steps:,} steps"
    about = f"{training.name}, {str(options) or 'as it is'}: {time} of training, {seeds} {'seed' if seeds == 1 else 'seeds'} each"
    until = ("--budget", f"{minutes:g}") if steps is None else ("--steps", str(steps))
    words = ["--data", data, "--binarise", binarise, *until, "--seeds", str(seeds), "--pictures", str(pictures), "--features", features]
    command = join(["rastrum", "compare", *names, *words, "--seed", str(seed)])
    record = Comparison(about, command, date.today().isoformat(), rows, best)
    name = reference.features.name
    tuned = ", ".join(f"{row.model} {row.settings}" for row in rows if row.settings != USUAL) or "none"
    notes = [note.format(features=name, images=f"{len(reference.data):,}", tuned=tuned) for note in NOTES]
    claims = ["The lecture's claims:", "", *said(record.claims)]
    lines = [about, "", *table(rows, best), "", *[f"- {note}" for note in notes], "", *claims]
    figure = comparison_plot([row.model for row in rows], [row.pictures for row in rows], bars(rows))
    save_figure(out / "comparison.png", page, figure)
    facts = {"data": training.name, "preprocessing": str(options), "features": name, "seeds": seeds, "folder": str(out)} | record.facts()
    json_record = json_text(standard(facts), indent=2, allow_nan=False) + "\n"
    write_files(out, {"table.md": "\n".join([*lines, ""]).encode(), RECORD: json_record.encode(), PICTURES: record.pictures()})
    answer(facts, json, *lines, *(str(out / name) for name in ("table.md", RECORD, "comparison.png", PICTURES)))


def table(rows: Sequence[Row], best: Quality) -> list[str]:
    """The lines of a table in Markdown; the last is what images of the training have."""
    from ..applications.comparison_record import HEADER, cells

    measured = (f"{best.sharpness:.2f}", f"{best.distance:.3g}", f"{best.precision:.2f}", f"{best.recall:.2f}")
    last = ["(the data)", *[""] * 5, *measured, *[""] * 3]
    return [f"| {' | '.join(line)} |" for line in (HEADER, ["---"] * len(HEADER), *map(cells, rows), last)]


def line_of(row: Row) -> str:
    """A model in one line, while the others are still to come."""
    from ..applications.comparison_record import HEADER, cells

    return f"{row.model}: " + ", ".join(f"{name} {cell}" for name, cell in zip(HEADER[1:], cells(row)[1:], strict=True))


def bars(rows: Sequence[Row]) -> dict[str, Sequence[Sequence[float]]]:
    """What the plot shows of each measure: the values of every seed."""

    def known(values: Sequence[float | None]) -> list[float]:
        return [math.nan if value is None else value for value in values]

    return {
        "nats per image": [known(row.nats) for row in rows],
        "ms for one image": [[row.milliseconds.get(1, math.nan)] for row in rows],
        "sharpness (1 = data)": [known(row.sharpness) for row in rows],
        "kernel distance": [known(row.distance) for row in rows],
        "precision": [known(row.precision) for row in rows],
        "recall": [known(row.recall) for row in rows],
    }


def said(found: Sequence[Claim]) -> list[str]:
    """The claims, a line each."""
    why = ("; ".join(part for part in (claim.found, claim.undecided) if part) for claim in found)
    return [f"- {claim.text}: **{claim.verdict}**" + (f" ({reason})" if reason else "") for claim, reason in zip(found, why, strict=True)]
