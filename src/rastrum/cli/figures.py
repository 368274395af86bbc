"""``figures``: the pictures that explain trained models, in a folder, with rate, distortion and likelihood."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from .output import AS_USUAL, Look, named
from .show import NO_CONDITION, ConditionFlags, Conditions, Device, Json, answer, check_folder_out, condition_for, load_model, progress
from .source import Binarise, Count, Data, Images, Loaded, SkipBroken, Split, load_images

if TYPE_CHECKING:
    from rich.table import Table

    from ..data.dataset import Dataset
    from ..model import Model
    from ..pictures.page import Page


def figures(
    models: Annotated[
        Positional[tuple[str, ...]],
        arg(metavar="MODEL …", help="folders of saved models, rastrum/NAME for a bundled one, or hf://OWNER/NAME for one on the Hub"),
    ],
    out: Annotated[Path, arg(metavar="FOLDER", help="where pictures go; with several models, in a folder for each")] = Path("figures"),
    data: Data = None,
    images: Images = None,
    split: Split = None,
    skip_broken: SkipBroken = False,
    count: Count = 64,
    binarise: Binarise = None,
    seed: Annotated[int, arg(help="same seed, same pictures")] = 0,
    conditions: Conditions = NO_CONDITION,
    kind: Annotated[Literal["png", "webp", "svg", "pdf"], arg(name="format", help="of the pictures")] = "png",
    animation: Annotated[Literal["gif", "webp", "mp4"], arg(help="format of the animation")] = "gif",
    look: Look = AS_USUAL,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Draw the pictures that explain trained models.

    With the usual formats, for a canvas model: steps.png, drawing.gif, kl.png, hierarchy.png, samples.png, interpolation.png, and with
    attention filters.png and filter-banks.png; for gran and dcgan: steps.png, drawing.gif, samples.png, interpolation.png; for a raster
    model: samples.png, completions.png, surprise.png, context.png. A model of
    either kind that is conditioned on exemplars also draws new ones of held-out images, with the training image nearest to each, in
    exemplars.png. Several models of one image size are also compared: in betas.png if each has a β of its own, else in models.png, and
    canvas models, stroke by stroke, in over-time.png. The rate is the KL of the latents, the PSNR that of images redrawn from them.
    """
    from ..files import write_files
    from ..pictures.figures import beta_of, by_beta, check_spec, draw_comparison, draw_over_time, large
    from ..pictures.films import require_encoder
    from ..pictures.sheets import image_scale
    from ..strokes import CanvasModel

    page, ending = look.page(), f".{kind}"
    require_encoder(f".{animation}")
    if not models:
        raise ValueError("figures: which models? Give folders of saved models, rastrum/NAME or hf://OWNER/NAME")
    check_folder_out("--out", out)
    names = short_names(models)
    networks = {name: load_model(model, device) for name, model in zip(names, models, strict=True)}
    sizes = {name: "x".join(map(str, network.spec.shape)) for name, network in networks.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"figures: models are compared on images of one size, these have {listed}; give them one at a time")
    for network in networks.values():
        check_spec(network.spec)
        page.check(64, network.spec.height, network.spec.width)
    found, measures, imagined, loaded = {}, {}, {}, {}
    for name, model in zip(names, models, strict=True):
        network = networks[name]
        loaded[name] = load_images(network, model, data, images, split, count, binarise, skip_broken=skip_broken)
        dataset = loaded[name].dataset
        condition = condition_for(network, len(dataset), conditions, dataset)
        folder = out if len(models) == 1 else out / name
        values, measured = measure_all(network, dataset, condition, seed)
        if measured is not None:
            measures[name] = measured
        with named():
            files = draw_all(network, dataset, condition, conditions, seed, measured, page, ending, f".{animation}")
            files |= draw_exemplars(network, loaded[name], seed, page, ending)
        write_files(folder, files)
        imagined[name] = condition_for(network, 64, conditions, dataset, in_turn=True)
        found[name] = {"model": model, **loaded[name].facts, "images": len(dataset), "beta": beta_of(network),
                       **values, "files": [str(folder / file) for file in files]}  # fmt: skip
    together: dict[str, bytes] = {}
    if len(models) > 1:
        name, spec = f"betas{ending}" if by_beta(networks) else f"models{ending}", next(iter(networks.values())).spec
        with named():
            draw = draw_comparison(networks, measures, imagined, seed)
            together[name] = page.encode(draw, image_scale(None, spec.height, spec.width), ending)
        if canvas_models := {name: network for name, network in networks.items() if isinstance(network, CanvasModel)}:
            with named():
                together[f"over-time{ending}"] = page.encode(draw_over_time(canvas_models, imagined, seed), large(spec), ending)
        write_files(out, together)
    compared = [str(out / name) for name in together]
    files = [file for row in found.values() for file in row["files"]] + compared
    result = {"out": str(out), "seed": seed, "models": found, "together": compared}
    answer(result, json, *(f"{name}: {each.text}" for name, each in loaded.items()), table(found), *(f"  {file}" for file in files))


def short_names(models: tuple[str, ...]) -> list[str]:
    """A name for each of ``models``, for folders and headings: the last part of its path, numbered where two have the same; without the
    revision of a model on the Hub."""
    last = [Path(model.partition("@")[0] if model.startswith("hf://") else model).resolve().name for model in models]
    return [name if name not in last[:i] else f"{name}-{last[: i + 1].count(name)}" for i, name in enumerate(last)]


# ── pictures and scores ──────────────────────────────────────────────────────────────────────────────────────────────────


def draw_all(
    network: Model,
    dataset: Dataset,
    condition: Any,
    conditions: ConditionFlags,
    seed: int,
    measured: Any,
    page: Page,
    ending: str,
    film: str,
) -> dict[str, bytes]:
    """The files by name, drawn with a progress bar.

    network: the model.
    dataset: the images.
    condition: one per image, or None.
    conditions: flags that say the conditions of new images.
    seed: of all that is drawn.
    measured: ``Measures`` of a canvas model, else None.
    page, ending: how large pictures are, and of which kind.
    film: ending of the animation.
    """
    from ..pictures import figures
    from ..raster import RasterModel
    from ..strokes import CanvasModel

    x, files = dataset.images.long(), {}
    sheet = figures.RASTER_SHEET if isinstance(network, RasterModel) else figures.SHEET
    drawn = condition_for(network, sheet, conditions, dataset, in_turn=True)
    if isinstance(network, RasterModel):
        names, walk = figures.RASTER_FIGURES, figures.raster_figures(network, x, condition, drawn, seed, page, ending)
    else:
        assert isinstance(network, CanvasModel)
        if network.has_posterior:
            names, walk = figures.CANVAS_FIGURES, figures.canvas_figures(network, x, condition, drawn, seed, measured, page, ending, film)
        else:
            names, walk = figures.GENERATOR_FIGURES, figures.generator_figures(network, drawn, seed, page, ending, film)
    with progress("drawing", len(names), "figures") as report:
        for name, content in walk:
            files[name] = content
            report(len(files))
    return files


def draw_exemplars(network: Model, loaded: Loaded, seed: int, page: Page, ending: str) -> dict[str, bytes]:
    """exemplars.png of a model that is conditioned on exemplars, by its name; nothing for another.

    network: the model.
    loaded: the images, and the data of its training, which are read where they are a public set.
    seed: of all that is drawn.
    page, ending: as for ``draw_all``.
    """
    import numpy as np

    from ..data.dataset import load_dataset
    from ..data.exemplars import ExemplarSets
    from ..data.sources import NAMES
    from ..pictures.exemplars import SHOWN, exemplar_sheet, new_exemplars
    from ..pictures.sheets import image_scale

    dataset, own, spec = loaded.dataset, loaded.made_for, network.spec
    sets = dataset.conditions
    if network.condition_spec is None or network.condition_spec.kind != "map" or not isinstance(sets, ExemplarSets):
        return {}
    _, first = np.unique(sets.groups[sets.index].numpy(), return_index=True)
    images = dataset.images.long()[first[np.linspace(0, len(first) - 1, min(SHOWN, len(first))).round().astype(int)].tolist()]
    training = None
    if own is not None and own.name in NAMES:
        with progress("reading the training images", 1, "") as report:
            training = load_dataset(own.name, own.train, own.plain(), report).images.long()
    new = new_exemplars(network, images, training, seed=seed)
    usual = image_scale(None, spec.height, spec.width)
    return {f"exemplars{ending}": page.encode(lambda scale, unit: exemplar_sheet(new, scale, unit), usual, ending)}


def measure_all(network: Model, dataset: Dataset, condition: Any, seed: int) -> tuple[dict[str, Any], Any]:
    """Scores of a model by name, and the ``Measures`` of a canvas model, else None.

    network: the model.
    dataset: the images.
    condition: one per image, or None.
    seed: of the latents of a canvas model.
    """
    import torch

    from ..pictures.figures import measure
    from ..protocol import bits_per_dim
    from ..raster import RasterModel
    from ..strokes import CanvasModel

    x = dataset.images.long()
    if isinstance(network, CanvasModel):
        if not network.has_posterior:
            return {}, None
        measured = measure(network, x, condition, seed)
        return measured.as_dict(), measured
    assert isinstance(network, RasterModel)
    parts = []
    with progress("scoring", len(x), "images") as report, torch.inference_mode():
        for start in range(0, len(x), 8):
            at = slice(start, start + 8)
            parts.append(network.log_prob(x[at], None if condition is None else condition[at]))
            report(min(start + 8, len(x)))
    return {"bits_per_dim": bits_per_dim(-float(torch.cat(parts).mean()), network.spec.size)}, None


def table(found: dict[str, dict[str, Any]]) -> Table:
    """Rate, PSNR and likelihood, a row per model of ``found``, its scores by name; β if one of them has it."""
    from rich.table import Column, Table

    weighted = any(row["beta"] is not None for row in found.values())
    heads = (*(["β"] if weighted else []), "KL, bits", "bits/dim", "PSNR, dB, of\nnone / half / all", "−log p,\nbits/dim")
    model = Column("model", overflow="fold")
    rows = Table(model, *(Column(head, justify="right", no_wrap=True) for head in heads), box=None, padding=(0, 2, 0, 0))
    for name, row in found.items():
        beta = ["" if row["beta"] is None else f"{row['beta']:g}"] if weighted else []
        if "rate_bits" not in row:
            rows.add_row(name, *beta, "", "", "", f"{row['bits_per_dim']:.4f}" if "bits_per_dim" in row else "none")
            continue
        kept = (row[f"psnr_db{of}"] for of in ("_of_none", "_of_half", ""))
        psnr = " / ".join("∞" if value is None else f"{value:.2f}" for value in kept)
        bound = "" if row["bound_bits_per_dim"] is None else f"≤ {row['bound_bits_per_dim']:.4f}"
        rows.add_row(name, *beta, f"{row['rate_bits']:,.1f}", f"{row['rate_bits_per_dim']:.4f}", psnr, bound)
    return rows
