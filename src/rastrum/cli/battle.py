"""``battle``: adversarial models against each other."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, cast

from tyro.conf import arg

from .show import Device, Json, answer, load_model, progress
from .source import Binarise, Data, Images, SkipBroken, Split, load_images

if TYPE_CHECKING:
    from ..adversarial import AdversarialModel

Side = Annotated[tuple[str, ...], arg(metavar="MODEL …", help="a saved adversarial model, or several trainings of it with other seeds")]


def battle(
    first: Side,
    second: Side,
    data: Data = None,
    images: Images = None,
    split: Split = None,
    skip_broken: SkipBroken = False,
    binarise: Binarise = None,
    count: Annotated[int | None, arg(help="a fixed random subset of this many images; default: all")] = None,
    seed: Annotated[int, arg(help="of the pictures")] = 0,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Let adversarial models judge each other's pictures: the generative adversarial metric, as log ratios with intervals.

    r_sample: the share of the second's pictures that the first's discriminator takes for images, over the share of the first's that the
    second's does. r_test: the share of held-out images that the first's takes for pictures, over that of the second's. The first wins where
    log r_sample lies below 0 while log r_test is about 0, both beyond what images and seeds leave to chance.
    """
    from ..applications.battle import battle as fight

    if not first or not second:
        raise ValueError("battle: who against whom? Give models with --first and with --second")
    names = [*first, *second]
    if len(set(names)) < len(names):
        raise ValueError(f"battle: {next(name for name in names if names.count(name) > 1)!r} is named twice; give trainings of other seeds")
    models = [load_model(name, device) for name in names]
    loaded = load_images(models[0], names[0], data, images, split, count, binarise, skip_broken=skip_broken)
    adversarial = cast("list[AdversarialModel]", models)                  # others are refused below
    with progress("battle", 2 * len(models), "models") as report:
        found = fight(adversarial[: len(first)], adversarial[len(first) :], loaded.dataset, seed=seed, progress=report)
    facts = {"first": first, "second": second, **loaded.facts, **asdict(found), "verdict": found.verdict, "why": found.why}
    winner = {"first": " and ".join(first) + " wins", "second": " and ".join(second) + " wins", "neither": "neither wins"}
    answer(
        facts,
        json,
        f"{', '.join(first)} against {', '.join(second)} on {loaded.text}: {found.images:,} images, {found.pairs} "
        f"{'pair' if found.pairs == 1 else 'pairs'} of models",
        f"  log r_test   {found.test}",
        f"  log r_sample {found.sample}",
        f"  {winner.get(found.verdict, found.verdict)}: {found.why}",
    )
