"""``exemplars``: one-shot generalization of models that are given exemplars."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from json import dumps as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from .output import AS_USUAL, Look, check_size, save_figure
from .show import Device, Json, answer, check_folder_out, load_model, messages, origin_of, progress, standard
from .source import Data, load_images

if TYPE_CHECKING:
    from ..applications.one_shot import ByExemplars, Measured
    from ..applications.recognisability import Judged
    from ..applications.twenty_way import ErrorRate
    from ..data.dataset import Dataset
    from ..data.omniglot_runs import Run
    from ..model import Model
    from .output import Page

Part = Literal["likelihood", "classification", "drawing"]
PARTS: tuple[Part, ...] = ("likelihood", "classification", "drawing")
VALIDATION = "train[16540:]"   # what the recipes hold out to choose settings on
PUBLISHED_ERRORS = "DooD 26.5, VHE 18.7, GNS 5.7, BPL 3.3, people 4.5"


def exemplars(
    models: Annotated[Positional[tuple[str, ...]], arg(metavar="MODEL …", help="saved models of the same images, given exemplars",
                                                       help_behavior_hint="")],
    data: Data = None,
    split: Annotated[str, arg(metavar="NAME", help="likelihood and drawing: part of the data set; to choose settings, take another, such "
                                                   f"as {VALIDATION} of Omniglot")] = "test",
    parts: Annotated[tuple[Part, ...], arg(help="what is measured")] = PARTS,
    out: Annotated[Path, arg(metavar="FOLDER", help="for table, plot, pictures and critics, which are used again")] = Path("exemplars"),
    count: Annotated[int, arg(help="likelihood: images, a fixed random subset")] = 100,
    num_samples: Annotated[int, arg(help="likelihood: trajectories per image of a canvas model's bound")] = 1000,
    runs: Annotated[str, arg(metavar="RUNS", help="classification: official (the 20 published ones, from the data mirror or downloaded), "
                             f"their file all_runs.zip, validation (20 made of {VALIDATION}), or a split to make them of")] = "official",
    pair_samples: Annotated[int, arg(help="classification: trajectories per pair of images of a canvas model's bound")] = 10,
    new: Annotated[int, arg(help="drawing: new exemplars of each of the 20 exemplars of an alphabet")] = 10,
    temperature: Annotated[float, arg(help="drawing: below 1 likelier exemplars that differ less")] = 1.0,
    guidance: Annotated[float, arg(help="drawing: how much further than by its own probabilities a raster model follows an exemplar: "
                                        "p(given it) · (p(given it) / p(without))^guidance, for each value")] = 0.0,
    seed: Annotated[int, arg(help="of the choice of images, of runs that are made, and of the noise")] = 0,
    device: Device = "cpu",
    look: Look = AS_USUAL,
    json: Json = False,
) -> None:
    """Measure what models make of exemplars: nats by their number, 20-way one-shot classification, and new exemplars.

    likelihood: nats per image given 0, 1, 2, 3, 4 and 9 exemplars, and what each exemplar gains. classification: which of 20 drawings
    shows the same character as another, by the scores of both directions, of one, and by two distances without a model. drawing: whether
    new exemplars are recognised, and how much they differ, by critics that are trained on real drawings in about three minutes.

    Writes table.md, exemplars.json, exemplars.png, and for each model new-MODEL.png, its new exemplars.
    """
    from ..files import write_files
    from ..pictures.generalisation import generalisation_plot

    names = labels_of(models)
    at_least = {"--count": (count, 2), "--num-samples": (num_samples, 1), "--pair-samples": (pair_samples, 1), "--new": (new, 2)}
    for flag, (value, least) in at_least.items():
        if value < least:
            raise ValueError(f"{flag}: expected at least {least}, got {value}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"--temperature: expected a number above 0, got {temperature}")
    if not 0 <= guidance < math.inf:
        raise ValueError(f"--guidance: expected a number of at least 0, got {guidance}")
    page = look.page()
    check_size(out / "exemplars.png", page)
    check_folder_out("--out", out)
    networks = load_models(models, names, device)
    first = networks[names[0]]
    dataset = load_images(first, models[0], data, None, split, None, None).dataset
    check_drawings(dataset, parts)
    asked = runs_of(runs, seed) if "classification" in parts else []
    out.mkdir(parents=True, exist_ok=True)
    sections: list[Section] = []
    if "likelihood" in parts:
        sections.append(likelihood(networks, dataset, count, num_samples, seed))
    if "classification" in parts:
        sections.append(classification(networks, dataset, asked, runs, pair_samples, seed))
    if "drawing" in parts:
        own = origin_of(first, models[0]).data
        background = own.train if own is not None and data is None else "train"
        sections.append(drawing(networks, dataset, background, new, temperature, guidance, seed, out, page))
    about = f"{', '.join(models)} on {dataset.name}, {dataset.options or 'as it is'}"
    lines = [about, *(line for section in sections for line in ("", f"**{section.title}**", "", *section.lines))]
    plotted = {section.name: section.plotted for section in sections}
    save_figure(out / "exemplars.png", page, generalisation_plot(*(plotted.get(part, {}) for part in PARTS)))
    facts = {"models": dict(zip(names, models, strict=True)), "data": dataset.name, "split": split, "preprocessing": str(dataset.options),
             "seed": seed, "folder": str(out), **{section.name: section.facts for section in sections}}  # fmt: skip
    record = json_text(standard(facts), indent=2, allow_nan=False, default=str) + "\n"
    write_files(out, {"table.md": "\n".join([*lines, ""]).encode(), "exemplars.json": record.encode()})
    answer(facts, json, *lines, *(str(out / name) for name in ("table.md", "exemplars.json", "exemplars.png")))


def labels_of(models: Sequence[str]) -> list[str]:
    """What the models are called in tables: the last part of each name if these differ, else the whole.

    models: as the command line names them.

    Raises ``ValueError`` for none, and for one that is named twice.
    """
    if not models:
        raise ValueError("exemplars: of which models? Name at least one, such as runs/one-shot")
    if len(set(models)) < len(models):
        raise ValueError(f"exemplars: {next(name for name in models if models.count(name) > 1)!r} is named twice")
    last = [Path(name).name for name in models]
    return last if len(set(last)) == len(last) and all(last) else list(models)


def load_models(models: Sequence[str], names: Sequence[str], device: str) -> dict[str, Model]:
    """The models by what they are called.

    models, names: as for ``labels_of``.
    device: the flag --device.

    Raises ``ValueError`` for one without exemplars or likelihood, and for models of different images.
    """
    from ..applications.twenty_way import check_exemplars

    found: dict[str, Model] = {}
    for name, model in zip(names, models, strict=True):
        found[name] = network = load_model(model, device)
        try:
            check_exemplars(network)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if network.spec != found[names[0]].spec:
            have = f"{network.spec.text}, {names[0]} for {found[names[0]].spec.text}"
            raise ValueError(f"exemplars: {name} is for images of {have}; compare models of the same images")
    return found


def check_drawings(dataset: Dataset, parts: Sequence[Part]) -> None:
    """Raises ``ValueError`` for parts that need Omniglot where the images are others.

    dataset: the images.
    parts: what is measured.
    """
    from ..data.omniglot import OMNIGLOTS

    needed = [part for part in parts if part != "likelihood"]
    if needed and dataset.name not in OMNIGLOTS:
        raise ValueError(f"exemplars: {' and '.join(needed)} need the alphabets of Omniglot, the images are {dataset.name}; "
                         "give --parts likelihood, or --data omniglot28")  # fmt: skip


def runs_of(runs: str, seed: int) -> list[Run]:
    """The runs of classification, of 105x105 pixels.

    runs: the flag --runs.
    seed: of runs that are made.
    """
    from ..data.omniglot_runs import made_runs, official_runs

    if runs == "official" or runs.endswith(".zip"):
        return official_runs(None if runs == "official" else Path(runs))
    return made_runs(VALIDATION if runs == "validation" else runs, seed=seed)


# ── what is measured ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Section:
    """A part of the answer.

    name: of the part. title: its heading.
    lines: in Markdown.
    facts: for JSON.
    plotted: for the figure.
    """

    name: Part
    title: str
    lines: list[str]
    facts: dict[str, Any]
    plotted: dict[str, Any]


def likelihood(networks: dict[str, Model], dataset: Dataset, count: int, num_samples: int, seed: int) -> Section:
    """Nats by the number of exemplars.

    networks: by name.
    dataset: all images of the split.
    count, num_samples, seed: the flags.
    """
    from ..applications.one_shot import COUNTS, PUBLISHED, nats_by_exemplars

    rows, gains, facts, plotted, falls = [], [], {}, {}, []
    for name, network in networks.items():
        begun = time.perf_counter()
        with progress(f"scoring, {name}", len(COUNTS), "") as report:
            found = nats_by_exemplars(network, dataset, images=count, num_samples=num_samples, seed=seed, progress=report)
        seconds, bound = time.perf_counter() - begun, "≤ " * (found.kind == "bound")
        nats = {k: f"{bound}{said(value)}" for k, value in found.means.items()}
        rows.append([name, found.kind, *(nats.get(k, "–") for k in COUNTS), f"{seconds:,.0f} s"])
        gains.append([name, *(said(found.gains.get(k)) for k in COUNTS[1:])])
        falls.append(f"- {name}: {falling(found)}")
        facts[name] = {"kind": found.kind, "seconds": seconds, "falls": found.falls, "nats": found.means, "gain_per_exemplar": found.gains}
        plotted[name] = found.means
        messages.print(f"{name}: nats by the number of exemplars: " + ", ".join(f"{k}: {text}" for k, text in nats.items()))
    if (dataset.name, dataset.split) == ("omniglot28", "test"):
        rows.append(["Generative Matching Networks (published)", "bound", *(f"≤ {value}" for value in PUBLISHED.values()), ""])
        plotted["published, GMN"] = {k: (value, 0.0) for k, value in PUBLISHED.items()}
    chosen = f"a fixed random subset of {min(count, len(dataset)):,} of its {len(dataset):,} images (seed {seed})"
    samples = f"; bounds by {num_samples:,} {'trajectory' if num_samples == 1 else 'trajectories'} per image"
    any_bound = any(each["kind"] == "bound" for each in facts.values())
    lines = [
        f"{dataset.name} {dataset.split}, {chosen}, the same for every number of exemplars{samples * any_bound}; ± standard error.",
        "", *markdown(["exemplars", "likelihood", *map(str, COUNTS), "time"], rows),
        "", "Nats that each further exemplar gains, over the column before, ± the standard error of the paired difference:",
        "", *markdown(["exemplars", *map(str, COUNTS[1:])], gains),
        "", *falls,
    ]  # fmt: skip
    facts = {"images": count, "num_samples": num_samples, **facts}
    return Section("likelihood", "Nats per image by the number of exemplars", lines, facts, plotted)


def falling(found: ByExemplars) -> str:
    """Whether nats fall with every number of exemplars, in words.

    found: of a model.
    """
    if found.falls is None:
        return "it has room for no exemplar"
    least = min(found.gains, key=lambda k: found.gains[k].value / found.gains[k].error)
    gain = found.gains[least]
    verdict = "no" if not found.falls else "yes" if gain.value > 2 * gain.error else "yes, but not beyond two standard errors"
    where = f"the least certain gain is that up to {least}, {said(gain)} per exemplar"
    return f"nats fall with every number of exemplars: **{verdict}** ({where})"


def classification(
    networks: dict[str, Model], dataset: Dataset, asked: list[Run], runs: str, pair_samples: int, seed: int
) -> Section:
    """Errors of 20-way classification.

    networks: by name.
    dataset: as the models' images are made.
    asked: the runs, of 105x105 pixels.
    runs, pair_samples, seed: the flags.
    """
    from ..applications.twenty_way import MEASURES, compared, differing_pixels, error_rate, hausdorff, one_shot_scores
    from ..data.omniglot_runs import prepared

    errors: dict[str, dict[str, ErrorRate]] = {}
    seconds: dict[str, float] = {}
    own = prepared(asked, dataset.name, dataset.options)
    for name, network in networks.items():
        begun = time.perf_counter()
        with progress(f"classifying, {name}", len(own), "runs") as report:
            scores = [*one_shot_scores(network, own, num_samples=pair_samples, seed=seed, progress=report)]
        errors[name] = {measure: error_rate(own, [each.by(measure) for each in scores]) for measure in MEASURES}
        seconds[name] = time.perf_counter() - begun
        messages.print(f"{name}: wrong answers: " + ", ".join(f"{measure} {rate}" for measure, rate in errors[name].items()))
    size = f"{dataset.spec.height}x{dataset.spec.width}"
    distances = [(f"pixels that differ, {size}", own, differing_pixels), ("pixels that differ, 105x105", asked, differing_pixels),
                 ("modified Hausdorff distance, 105x105", asked, hausdorff)]  # fmt: skip
    for name, drawings, distance in distances:
        begun, scores = time.perf_counter(), []
        with progress("distances", len(drawings), "runs") as report:
            for run in drawings:
                scores += compared([run], distance)
                report(len(scores))
        errors[name], seconds[name] = {"distance": error_rate(drawings, scores)}, time.perf_counter() - begun
    rows = [
        [name, *(str(of.get(measure, "–")) for measure in MEASURES), str(of.get("distance", "–")), f"{seconds[name]:,.0f} s"]
        for name, of in errors.items()
    ]
    per_run = [f"- {name}, {measure}: {' '.join(f'{100 * share:.0f}' for share in rate.runs)}" for name, of in errors.items()
               for measure, rate in of.items()]  # fmt: skip
    trials = sum(len(run.answers) for run in asked)
    which = "the official runs" if runs == "official" else runs
    samples = f" Bounds by {pair_samples} {'trajectory' if pair_samples == 1 else 'trajectories'} per pair." * any(
        network.kind == "bound" for network in networks.values())  # fmt: skip
    lines = [
        f"Wrong answers of {trials} trials in {len(asked)} runs ({which}), ± standard error.{samples}",
        "", "two-way: log p(t | c) + log p(c | t) − log p(c); one-way: log p(t | c); reverse: log p(c | t) − log p(c).",
        "", *markdown(["", *MEASURES, "distance", "time"], rows),
        "", "Per run, %:", "", *per_run,
    ]  # fmt: skip
    if runs == "official":
        lines += ["", f"Published for these runs, %: {PUBLISHED_ERRORS}."]
    facts = {
        name: {"seconds": seconds[name], **{measure: {"error": rate.mean, "standard_error": rate.standard_error, "runs": rate.runs}
                                            for measure, rate in of.items()}}
        for name, of in errors.items()
    }  # fmt: skip
    plotted = {f"{name}, {measure}" if measure != "distance" else name: (rate.mean, rate.standard_error)
               for name, of in errors.items() for measure, rate in of.items()}  # fmt: skip
    facts = {"runs": runs, "pair_samples": pair_samples, **facts}
    return Section("classification", "20-way one-shot classification", lines, facts, plotted)


def drawing(
    networks: dict[str, Model],
    dataset: Dataset,
    background: str,
    new: int,
    temperature: float,
    guidance: float,
    seed: int,
    out: Path,
    page: Page,
) -> Section:
    """Whether new exemplars are recognised, and how much they differ; writes a picture of each model's.

    networks: by name.
    dataset: all drawings of the split.
    background: the split that critics are trained on.
    new, temperature, guidance, seed: the flags.
    out: the folder.
    page: how large pictures are.
    """
    import torch

    from ..applications.one_shot import Measured
    from ..applications.recognisability import HELD_BACK, drawn_exemplars, episodes_of, train_critics
    from ..data.dataset import load_dataset
    from ..files import write_files
    from ..pictures.exemplars import SHOWN, exemplar_sheet, new_exemplars
    from ..pictures.sheets import image_scale

    episodes = episodes_of(dataset)
    training = load_dataset(dataset.name, background, dataset.options)
    with progress("training critics", 1, "") as report:
        critics = train_critics(training, episodes, out, report)
    judged: dict[str, Judged] = {"real drawings": critics.real()}
    for name, network in networks.items():
        drawn = []
        with progress(f"drawing, {name}", len(episodes), "alphabets") as report:
            for each in drawn_exemplars(network, episodes, new, seed, temperature, guidance):
                drawn.append(each)
                report(len(drawn))
        judged[name] = critics.judge(drawn)
        every = torch.stack([episode.exemplars for episode in episodes], 1).flatten(0, 1)   # alphabets take turns
        how = {"seed": seed, "temperature": temperature, "guidance": guidance}
        shown = new_exemplars(network, every[:SHOWN], training.images.long(), **how)
        usual = image_scale(None, network.spec.height, network.spec.width)
        picture = page.encode(lambda scale, unit, shown=shown: exemplar_sheet(shown, scale, unit), usual, ".png")
        write_files(out, {f"new-{name.replace('/', '-')}.png": picture})
    rows, facts, plotted = [], {}, {}
    for name, of in judged.items():
        relative = Measured.of(of.diversity / judged["real drawings"].diversity)
        naming, recognised = Measured.of(of.naming), Measured.of(of.recognisability)
        rows.append([name, share(naming), share(recognised), said(Measured.of(of.diversity), 3), said(relative)])
        facts[name] = {"naming": naming, "recognisability": recognised, "diversity": Measured.of(of.diversity), "relative": relative}
        plotted[name] = (relative, recognised)
    lines = [
        f"{new} new exemplars, drawn at temperature {temperature:g} with guidance {guidance:g}, of each of 20 exemplars of {len(episodes)} "
        f"alphabets of {dataset.name} {dataset.split}, and {HELD_BACK} real drawings of each character, which no critic was trained on; "
        f"± standard error over alphabets. Critics: trained on {background} and, for naming, on the other real drawings of the 20 "
        "characters.",
        "", *markdown(["", "named right", "recognised", "diversity", "relative to real drawings"], rows),
    ]  # fmt: skip
    facts |= {"new": new, "temperature": temperature, "guidance": guidance, "background": background, "alphabets": len(episodes)}
    return Section("drawing", "New exemplars", lines, facts, plotted)


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def said(measured: Measured | None, digits: int = 2) -> str:
    """A mean and its standard error; "–" for None.

    measured: what is said.
    digits: after the point, 2 by default.
    """
    if measured is None:
        return "–"
    return f"{measured.value:.{digits}f}" + ("" if math.isnan(measured.error) else f" ± {measured.error:.{digits}f}")


def share(measured: Measured) -> str:
    """A share in per cent.

    measured: the share.
    """
    return said(type(measured)(100 * measured.value, 100 * measured.error), 1) + " %"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown.

    head: of the columns.
    rows: cells.
    """
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows)]
