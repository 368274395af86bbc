"""``rates``: the same images at the same rates by JPEG, JPEG 2000 and a model, and samples by β."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from tyro.conf import Positional, arg

from .figures import short_names
from .output import AS_USUAL, Look, check_out, check_size, save_sheet
from .show import NO_CONDITION, Conditions, Json, answer, condition_for, load_model, progress
from .source import Data, Images, SkipBroken, Split, load_images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from ..applications.rates import AtRate
    from ..models.pixel_canvas import PixelCanvas


def rates(
    models: Annotated[
        Positional[tuple[str, ...]],
        arg(metavar="MODEL …", help="folders of conv-draw models of uniform posteriors, or hf://OWNER/NAME; of several, each rate takes "
                                    "the one whose pictures are nearest"),
    ],
    out: Annotated[Path, arg(metavar="X.png", help="the slide: .png, .webp, .svg or .pdf")] = Path("rates.png"),
    samples: Annotated[
        Path | None, arg(metavar="X.png", help="write samples of each model here, by their β, as `rastrum figures` does")
    ] = None,
    bits: Annotated[
        tuple[float, ...], arg(metavar="B …", help="per image; default: the lecture's 153, 307, 460, 612 and 1228 for 32x32 pixels, and as "
                                                   "many per pixel for others", help_behavior_hint="")
    ] = (),
    whole: Annotated[bool, arg(help="hold whole files to the rates; default: their payloads, what they have besides headers and tables, "
                                    "since those of JPEG alone take 2,300 bits")] = False,
    data: Data = None,
    images: Images = None,
    split: Split = None,
    skip_broken: SkipBroken = False,
    count: Annotated[int, arg(help="a fixed random subset of this many images")] = 6,
    seed: Annotated[int, arg(help="of what is drawn")] = 0,
    conditions: Conditions = NO_CONDITION,
    look: Look = AS_USUAL,
    json: Json = False,
) -> None:
    """Redraw the lecture's slide of conceptual compression: images at five rates, by JPEG, JPEG 2000 and conv-draw.

    A model's file is cut at the byte, and what it does not hold is drawn from the prior, or lies at its mean. Of JPEG and JPEG 2000 the
    nearest picture within the rate is taken, of all qualities and of pictures made 2 and 4 times smaller first; where none is within it,
    the smallest, which is marked. Bits are those of the payload and of the whole file, means over the images.
    """
    from ..applications.rates import AREA, RATES, by_format, by_model, nearest_model, usual_formats
    from ..pictures.figures import beta_of, by_beta, check_spec, draw_comparison
    from ..pictures.rates import draw_rates
    from ..pictures.sheets import image_scale

    if not models:
        raise ValueError("rates: which models? Give folders of conv-draw models that were trained with --model.posterior uniform")
    if (wrong := next((rate for rate in bits if not 0 < rate < math.inf or bits.count(rate) > 1), None)) is not None:
        raise ValueError(f"--bits: expected different finite numbers above 0, got {wrong:g}{' twice' * (bits.count(wrong) > 1)}")
    page = look.page()
    for flag, path in (("--out", out), ("--samples", samples)):
        if path is not None:
            check_out(flag, path)
            check_size(path, page)
    formats, names = usual_formats(), short_names(models)
    networks = {name: cast("PixelCanvas", load_model(model, "cpu")) for name, model in zip(names, models, strict=True)}
    spec = next(iter(networks.values())).spec
    check_spec(spec)
    for name, network in networks.items():
        if network.spec != spec:
            raise ValueError(f"rates: {name} is for {network.spec.text}, {names[0]} for {spec.text}; give models of the same images")
    network = networks[names[0]]
    loaded = load_images(network, models[0], data, images, split, count, None, skip_broken=skip_broken)
    x, area = loaded.dataset.images.long(), spec.height * spec.width
    wanted = bits or tuple(round(rate * area / AREA) for rate in RATES)
    given = {name: condition_for(network, len(x), conditions, loaded.dataset) for name, network in networks.items()}
    with progress("coding", len(networks) + len(formats), "ways") as report:
        others = []
        for format in formats:
            others.append(by_format(format, x, spec.levels, wanted, whole))
            report(len(others))
        ours = []
        for name, network in networks.items():
            each = list(by_model(network, x, wanted, whole, given[name], seed))
            of = f"β = {beta_of(network):g}" if by_beta(networks) else name
            ours.append([named(pair, of) if len(models) > 1 else pair for pair in each])
            report(len(others) + len(ours))
    rows = [[*(each[n] for each in others), *nearest_model([each[n] for each in ours])] for n in range(len(wanted))]
    blocks = {f"{rate:,.10g} bits per image": row for rate, row in zip(wanted, rows, strict=True)}
    usual = image_scale(None, spec.height, spec.width)
    save_sheet(out, page, draw_rates(x / (spec.levels - 1), blocks), usual)
    if samples is not None:
        imagined = {name: condition_for(network, 24, conditions, loaded.dataset, in_turn=True) for name, network in networks.items()}
        save_sheet(samples, page, draw_comparison(networks, {}, imagined, seed), usual)
    found = [
        {"rate": rate, "coder": row.name, "file_bits": float(row.bits.mean()), "payload_bits": float(row.payload.mean()),
         "psnr": float(row.psnr.mean()), "within": int(row.within.sum())}
        for rate, each in zip(wanted, rows, strict=True) for row in each
    ]  # fmt: skip
    files = [str(path) for path in (out, samples) if path is not None]
    result: dict[str, Any] = {"models": models, **loaded.facts, "images": len(x), "whole": whole, "seed": seed, "rates": found}
    answer(result | {"files": files}, json, loaded.text, table(found, len(x)), *(f"  {file}" for file in files))


def named(pair: Sequence[AtRate], name: str) -> tuple[AtRate, AtRate]:
    """The rows of one of several models.

    pair: the rows.
    name: of the model, in place of that of its kind.
    """
    drawn, mean = (replace(row, name=f"{name},{row.name.partition(',')[2]}") for row in pair)
    return drawn, mean


def table(found: Sequence[dict[str, Any]], count: int) -> Table:
    """Rates, bits and PSNR, a line per rate and coder.

    found: the lines.
    count: of the images.
    """
    from rich.table import Column, Table

    heads = ("rate, bits", "payload", "file", "PSNR, dB", "within the rate")
    rows = Table(heads[0], "by", *(Column(head, justify="right", no_wrap=True) for head in heads[1:]), box=None, padding=(0, 2, 0, 0))
    for line in found:
        bits = [f"{line[key]:,.0f}" for key in ("payload_bits", "file_bits")]
        rows.add_row(f"{line['rate']:,.10g}", line["coder"], *bits, f"{line['psnr']:.2f}", f"{line['within']} of {count}")
    return rows
