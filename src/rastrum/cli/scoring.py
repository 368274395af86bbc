"""``score``: nats and bits/dim of each image, how unusual it is, and where it surprises."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from .likelihood import Ensemble, Trajectories, conditioned
from .output import AS_USUAL, Look, check_look
from .show import NO_CONDITION, Conditions, Device, Json, ModelName, answer, check_suffix, conditions_in, load_model, origin_of, progress
from .source import Binarise, Data, Images, SkipBroken, Split, load_images
from .surprise import ON_A_SHEET, check_folder, is_folder, picture_names, save_each, save_sheet

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from ..data.dataset import Dataset

ROWS = 20                      # of the table on a terminal
# Columns of the table: field of a record, (heading, format).
COLUMNS = {
    "nats": ("nats", "{:.2f}"), "bits_per_dim": ("bits/dim", "{:.4f}"), "z": ("z", "{:+.2f}"), "png_bits": ("PNG bits", "{:.0f}"),
    "z_corrected": ("z less PNG", "{:+.2f}"), "p": ("p", "{:.4f}"),
}  # fmt: skip
RANKS = {"less-png": "bits less PNG bits", "bits": "bits"}


def score(
    model: ModelName,
    data: Data = None,
    images: Images = None,
    split: Split = None,
    skip_broken: SkipBroken = False,
    count: Annotated[int | None, arg(help="a fixed random subset of this many images; default: all, in order")] = None,
    binarise: Binarise = None,
    num_samples: Trajectories = 1,
    seed: Annotated[int, arg(help="of a canvas model's latents")] = 0,
    conditions: Conditions = NO_CONDITION,
    ensemble: Ensemble = False,
    surprise: Annotated[Path | None, arg(metavar="X.png|FOLDER", help="write where each image surprises a raster model: a sheet of up to "
                                         f"{ON_A_SHEET} images, in bits per pixel, as .png, .webp, .svg or .pdf, for videos also X.gif, "
                                         "X.webp or X.mp4, which plays them; or a folder "
                                         "with a picture of every image, named after it, all on one colour scale")] = None,
    table: Annotated[Path | None, arg(name="csv", metavar="X.csv", help="write a row per image, in order: name and all scores")] = None,
    reference: Annotated[str | None, arg(metavar="NAME", help="data set of usual images: each image also gets z, its distance from their "
                                         "mean in their standard deviations, by its bits and by its bits less those of its PNG, and p, the "
                                         "share of usual images that surprise at least as much: (1 + their number) / (1 + all), "
                                         "one-sided, by what --rank-by says")] = None,
    reference_split: Annotated[str, arg(help="of the reference set: train, test, test[:100], …")] = "test",
    reference_count: Annotated[int, arg(help="a fixed random subset of the reference set of this many images")] = 500,
    rank_by: Annotated[Literal["less-png", "bits"], arg(help="what p and the alarm compare: bits less PNG bits, which finds images of "
                                                        "another kind whether they are simple or complex, or bits alone, which finds "
                                                        "those that are more complex than usual")] = "less-png",
    alarm: Annotated[float | None, arg(metavar="RATE", help="decide: an image is unusual where its p is at most RATE, such as 0.05, which "
                                       "is then the rate of false alarms; needs --reference or --detector")] = None,
    save_detector: Annotated[Path | None, arg(metavar="X.json", help="keep the scores of the reference, to be used again")] = None,
    detector: Annotated[Path | None, arg(metavar="X.json", help="instead of --reference: what --save-detector wrote, with the same model "
                                         "and preprocessing")] = None,
    look: Look = AS_USUAL,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Log-probability of each image: exact nats for a raster model, a lower bound for a canvas model; and bits/dim.

    With a reference set, also how unusual each image is compared with it, under its own labels or maps if it has some: docs/anomaly.md.
    """
    from ..applications.anomaly import auroc, scores
    from ..applications.detector import Detector, check_alarm
    from ..compression import fingerprint
    from ..evaluation import image_nats
    from ..processes import join
    from ..protocol import bits_per_dim
    from ..raster import RasterModel

    page, processes = look.page(), join()
    network = load_model(model, device)
    own, size = origin_of(network, model).data, network.spec.size
    pictures_of_each = surprise is not None and is_folder(surprise, network.spec.frames > 1)
    network.require_likelihood()
    if surprise is not None:
        page.check(2 * network.spec.frames, network.spec.height, network.spec.width)
    else:
        check_look(look)
    if surprise is not None and not isinstance(network, RasterModel):
        raise ValueError(f"--surprise: {model} has a bound for whole images only; a surprise map needs a raster model")
    if surprise is not None and ensemble:
        raise ValueError("--surprise: an ensemble scores whole images only; leave out one of --surprise and --ensemble")
    with processes.together():
        if processes.is_first:                                            # which writes
            check_suffix("--csv", table, ".csv")
            check_suffix("--save-detector", save_detector, ".json")
    if reference_count < 2:
        raise ValueError(f"--reference-count: a mean and a deviation need at least 2 images, got {reference_count}")
    if reference is not None and detector is not None:
        raise ValueError("expected one of --reference NAME and --detector X.json, got both")
    if alarm is not None and reference is None and detector is None:
        raise ValueError("--alarm: it needs usual images to compare with; give --reference NAME or --detector X.json")
    if save_detector is not None and reference is None:
        raise ValueError("--save-detector: there are no scores of usual images to keep; give --reference NAME")
    settings = {"binarise": binarise, "num_samples": num_samples, "ensemble": ensemble, "trained_on": own and asdict(own.plain())}
    usual = None
    if alarm is not None:
        check_alarm(alarm)
    if detector is not None:
        with processes.together():
            usual = Detector.load(detector)
            usual.check(network, settings)
    loaded = load_images(network, model, data, images, split, count, binarise, skip_broken=skip_broken)
    dataset = conditioned(network, loaded.dataset, conditions)
    x, names = dataset.images, dataset.names or tuple(map(str, range(len(dataset))))
    pictures = picture_names(names) if pictures_of_each else []
    with processes.together():
        if surprise is not None and pictures_of_each and processes.is_first:
            check_folder(surprise, pictures, dataset)

    def nats_of(images: Dataset, what: str) -> Tensor:
        with progress(what, len(images), "images") as report:
            return image_nats(network, images, num_samples=num_samples, seed=seed, ensemble=ensemble, progress=report, processes=processes)

    result: dict[str, Any] = {}
    if reference is not None:
        compared = load_images(
            network, model, reference, None, reference_split, None, binarise, flag="--reference", skip_broken=skip_broken
        )
        others = without(compared.dataset, loaded.dataset).subset(reference_count)
        has_own = conditions_in(network, others) is not None              # the flags are for the images that are scored
        if save_detector is not None and network.condition_spec is not None and not has_own:
            raise ValueError("--save-detector: the reference has no labels or maps of its own, so its scores hold for these flags only")
        if alarm is not None:
            check_alarm(alarm, len(others))
        others = conditioned(network, others, NO_CONDITION if has_own else conditions)
        of_others = scores(network.spec, others.images, nats_of(others, "scoring the reference"))
        usual = Detector(of_others, fingerprint(network).hex(), compared.text, settings)
        result = {f"reference_{fact}": value for fact, value in compared.facts.items() if fact in ("split", "preprocessing")}
        result |= {"reference": reference}
        if save_detector is not None:
            with processes.together():
                if processes.is_first:
                    usual.save(save_detector)
            result |= {"saved_detector": str(save_detector)}
    elif usual is not None:
        if alarm is not None:
            check_alarm(alarm, len(usual))
        result = {"reference": usual.reference, "detector": str(detector)}

    nats = nats_of(dataset, "scoring")
    if not processes.is_first:
        return
    columns: dict[str, list[Any]] = {"nats": nats.tolist(), "bits_per_dim": [bits_per_dim(v, size) for v in nats.tolist()]}
    columns = {field: [round(v, 6) for v in values] for field, values in columns.items()}
    order, unusual = list(range(len(x))), ""
    if usual is not None:
        new = scores(network.spec, x, nats)
        if len(usual) > 1:
            columns["z"], columns["z_corrected"] = (z.tolist() for z in usual.z_scores(new))
        columns |= {"png_bits": new.complexity.tolist(), "p": usual.p_values(new, rank_by).tolist()}
        areas = {"bits": auroc(usual.usual.bits, new.bits), "corrected": auroc(usual.usual.corrected, new.corrected)}
        result |= {"reference_images": len(usual), "auroc": areas, "rank_by": rank_by}
        unusual = (
            f"z: standard deviations above the mean of {len(usual)} images of {usual.reference}; an image here scores above one "
            f"there with chance {areas['bits']:.3f} by bits, {areas['corrected']:.3f} less PNG"
        )
        if alarm is not None:
            columns["alarm"] = [p <= alarm for p in columns["p"]]
            order = new.ranked(rank_by).argsort(descending=True, stable=True).tolist()
            result |= {"alarm_rate": alarm, "alarms": sum(columns["alarm"])}
    if surprise is not None and isinstance(network, RasterModel):
        if pictures_of_each:
            save_each(network, dataset, surprise, pictures, page)
            columns["surprise"] = [str(surprise / picture) for picture in pictures]
        else:
            import torch

            save_sheet(network, dataset.select(torch.tensor(order[:ON_A_SHEET])), surprise, page)
    records = [{"name": name, **dict(zip(columns, row, strict=True))} for name, *row in zip(names, *columns.values(), strict=True)]
    if table is not None:
        write_csv(table, records)
    spread = float(nats.std()) / len(nats) ** 0.5 if len(nats) > 1 else None
    mean = float(nats.mean())
    result = {
        "model": model, **loaded.facts, "kind": network.kind, "images": len(x), "ensemble": ensemble,
        "mean_nats": mean, "mean_bits_per_dim": bits_per_dim(mean, size),
        "standard_error_nats": spread, "standard_error_bits_per_dim": spread and bits_per_dim(spread, size),
        **{field: values for field, values in columns.items() if field not in ("alarm", "surprise")},
        **result, "records": records, "csv": table and str(table), "surprise": surprise and str(surprise),
    }  # fmt: skip
    plus = "" if spread is None else f" ± {spread:.2f}"
    plus_bits = "" if spread is None else f" ± {bits_per_dim(spread, size):.4f}"
    bound = " at most (a bound)" if network.kind == "bound" else ""
    average = f"mean of {len(x)}: {mean:.2f}{plus} nats, {bits_per_dim(mean, size):.4f}{plus_bits} bits/dim{bound}"
    lines = [f"{model} on {loaded.text}", average]
    lines += [unusual] if unusual else []
    if usual is not None and alarm is not None:
        lines.append(f"{result['alarms']} of {len(x)} images are unusual: p at most {alarm:g}, one-sided, by {RANKS[rank_by]}")
    more = len(x) - ROWS
    if more > 0:
        lines.insert(0, f"… and {more:,} more{'' if table is not None else '; --csv X.csv writes all of them'}")
    if surprise is not None and not pictures_of_each and len(x) > ON_A_SHEET:
        lines.append(f"the sheet has {'the most unusual' if alarm is not None else 'the first'} {ON_A_SHEET} images; a folder has all")
    answer(result, json, table_of([records[i] for i in order[:ROWS]]), *lines, *(f"  {path}" for path in (table, surprise) if path))


def table_of(records: Sequence[dict[str, Any]]) -> Table:
    """Records as a table for a terminal.

    records: at least one, all with the same fields.
    """
    from rich.table import Column, Table
    from rich.text import Text

    shown = {field: how for field, how in COLUMNS.items() if field in records[0]}
    heads = [heading for heading, _ in shown.values()] + ["alarm"] * ("alarm" in records[0])
    table = Table(Column("image", overflow="fold"), *(Column(head, no_wrap=True) for head in heads), box=None)
    for record in records:
        name = "".join(letter if letter.isprintable() else "?" for letter in record["name"])   # gives no orders to a terminal
        cells = [how.format(record[field]) for field, (_, how) in shown.items()]
        table.add_row(Text(name), *cells, *([("alarm" if record["alarm"] else "")] if "alarm" in record else []))
    return table


def write_csv(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write a header and a row per record, UTF-8.

    path: of the file.
    records: at least one, all with the same fields.

    Raises ``OSError`` where writing fails, with nothing changed.
    """
    from ..files import write_files

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(records[0])
    for record in records:
        writer.writerow([_cell(value) for value in record.values()])
    write_files(path.parent, {path.name: text.getvalue().encode()})


def _cell(value: Any) -> Any:
    """A value of a record as it stands in the table."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"./{value}"                                               # the same file, and no formula for a spreadsheet
    return str(value).lower() if isinstance(value, bool) else value


def without(reference: Dataset, scored: Dataset) -> Dataset:
    """The images of a reference set that are not scored: compared with itself every image is usual.

    reference: the reference set.
    scored: the images that are scored.

    Raises ``ValueError`` where fewer than two images are left.
    """
    from hashlib import sha256

    import torch

    seen = {sha256(image.numpy().tobytes()).digest() for image in scored.images}   # a few bytes each, however large images are
    others = [i for i, image in enumerate(reference.images) if sha256(image.numpy().tobytes()).digest() not in seen]
    if len(others) < 2:
        have = f"{reference.name} {reference.split} has {len(others)} images that are not scored, 2 are needed"
        raise ValueError(f"--reference: {have}; score fewer with --count or --split, or give another --reference-split")
    return reference.select(torch.tensor(others))
