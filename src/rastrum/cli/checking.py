"""``check``: is a model what it promises to be?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from .show import Json, Out, answer, check_suffix, load_model
from .source import Count, Data, Images, Split


def check(
    model: Annotated[Positional[str], arg(metavar="MODEL", help="a name from `rastrum models`, a saved model's folder, or rastrum/NAME")],
    channels: Annotated[int, arg(help="for a name: channels of the toy image")] = 1,
    height: Annotated[int, arg(help="for a name: rows of the toy image")] = 5,
    width: Annotated[int, arg(help="for a name: columns of the toy image")] = 5,
    levels: Annotated[int, arg(help="for a name: levels of the toy image")] = 2,
    classes: Annotated[int | None, arg(help="for a name: make it conditional on so many classes")] = None,
    preset: Annotated[str, arg(help="for a name: tiny, small or paper")] = "tiny",
    weights: Annotated[bool, arg(help="draw instead how strongly a trained model uses each earlier pixel of --data or --images")] = False,
    data: Data = None,
    images: Images = None,
    split: Split = "test",
    count: Count = 16,
    out: Out = None,
    json: Json = False,
) -> int:
    """Prove by perturbation that a model is causal, sees what it promises, and that its probabilities sum to one.

    Exit code 1 if a fault is found. With --weights MODEL: how strongly a trained model uses each earlier pixel, as a picture.
    """
    import rastrum

    check_suffix("--out", out, ".png")
    if model in rastrum.MODELS and not Path(model).exists():
        spec = rastrum.ImageSpec(channels, height, width, levels)
        condition = None if classes is None else rastrum.ConditionSpec("class", classes)
        network = rastrum.build(model, spec, preset, condition)
    else:
        network = load_model(model)
    report = rastrum.check(network)
    answer({"model": model, "ok": report.ok, "report": str(report)}, json, str(report))
    return 0 if report.ok else 1
