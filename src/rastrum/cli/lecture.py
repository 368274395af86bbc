"""``lecture`` and ``figure``: the lecture's slides, all of them or one."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

from tyro.conf import Positional, arg

from .output import ANIMATIONS, AS_USUAL, PICTURES, Look, check_size, named
from .show import Json, answer, check_folder_out, check_suffix, load_model, progress
from .source import Binarise, Count, Data, Images, Split, load_images


def figure(
    name: Annotated[Positional[str], arg(metavar="NAME", help="of the figure; without one they are listed")] = "",
    models: Annotated[
        Positional[tuple[str, ...]],
        arg(metavar="MODEL …", help="saved models to show in place of the bundled ones: folders, rastrum/NAME or hf://OWNER/NAME"),
    ] = (),
    out: Annotated[
        Path | None,
        arg(
            metavar="X.svg",
            help="write it here: .png, .webp, .svg or .pdf; what moves .mp4, .gif or .webp, or its last picture as .png; default: "
            "NAME.png, or NAME.mp4",
        ),
    ] = None,
    dark: Annotated[bool, arg(help="light on dark")] = False,
    data: Data = None,
    images: Images = None,
    split: Split = None,
    count: Count = 64,
    binarise: Binarise = None,
    seed: Annotated[int | None, arg(help="of what is drawn at random; default: the figure's own, which its caption states")] = None,
    look: Look = AS_USUAL,
    json: Json = False,
) -> None:
    """Draw one figure of the lecture, 1920x1080 unless --size says otherwise, of the bundled models or of yours.

    Models are shown digits that a bundled model drew, or what they draw themselves, unless --data or --images gives others. `rastrum
    lecture` writes all figures as slides. `rastrum figures MODEL` draws everything that explains one trained model, and measures it.
    """
    from .. import lecture
    from ..files import write_files
    from ..lecture.figure import ON_A_PROJECTOR
    from ..lecture.slide import DARK, LIGHT

    if not name:
        answer({"figures": listed()}, json, *listing())
        return
    check_suffix("--out", out, *PICTURES, *ANIMATIONS)
    page = look.page()
    if look == AS_USUAL or (page.size is None and page.scale is None):
        page = type(page)(size=ON_A_PROJECTOR.size, title=page.title)
    if out is not None:
        check_size(out, page)
    shown = None
    if data is not None or images is not None:
        if not models:
            raise ValueError("--data and --images: they are shown to the MODELs that are given, and none is")
        shown = load_images(load_model(models[0], "cpu"), models[0], data, images, split, count, binarise).dataset.images.long()
    drawn = lecture.figure(name, *models, images=shown, seed=seed)
    flags = {"--data": data, "--images": images, "--split": split, "--binarise": binarise}
    words = [word for flag, value in flags.items() if value is not None for word in (flag, quote(str(value)))]
    drawn = replace(drawn, given=(*drawn.given, *words))
    path = out or Path(f"{name}{'.mp4' if drawn.moves else '.png'}")
    with named():
        content = drawn.encode(path.suffix.lower(), page, DARK if dark else LIGHT)
    write_files(path.parent, {path.name: content})
    facts = {"name": name, "title": drawn.figure.title, "caption": drawn.caption, "command": drawn.command, "out": str(path)}
    answer(facts, json, f"{drawn.figure.title}. {drawn.caption}", f"  {path}")


def listed() -> list[dict[str, Any]]:
    """The figures: name, section, title, the models that they show, and whether these are bundled."""
    from ..lecture import FIGURES

    names = ("name", "section", "title", "models")
    return [{name: getattr(each, name) for name in names} | {"bundled": each.defaults() is not None} for each in FIGURES.values()]


def listing() -> list[str]:
    """The same for people, in sections."""
    lines: list[str] = []
    for section, rows in groupby(listed(), lambda row: row["section"]):
        lines += [*([""] if lines else []), section]
        for row in rows:
            wanted = " and ".join(f"a {name.rpartition('/')[2]}" for name in row["models"])
            needs = "" if row["bundled"] else f"; needs {wanted}"
            lines.append(f"  {row['name']:<18} {row['title']}{needs}")
    return lines


def lecture(
    out: Annotated[Path, arg(metavar="FOLDER", help="where the page and the pictures go")] = Path("slides"),
    only: Annotated[tuple[str, ...], arg(metavar="NAME …", help="these figures alone, in place of all whose models are bundled")] = (),
    json: Json = False,
) -> None:
    """Write the lecture as slides: FOLDER/index.html, and beside it every figure as PNG and SVG at 1920x1080, or as MP4 where it moves.

    It takes bundled models only, and no network. In the page → and ← turn, F is full screen, S the speaker's view with notes, the command
    under every figure, a clock and the next slide, and H shows all keys. `rastrum figure NAME` draws one figure, also of your own models.
    """
    from .. import lecture

    unknown = next((name for name in only if name not in lecture.FIGURES), None)
    if unknown is not None:
        raise ValueError(f"lecture --only: unknown figure {unknown!r}; {lecture.remedy(unknown)}")
    check_folder_out("--out", out)
    names = only or tuple(lecture.available())
    with progress("drawing", len(names), "figures") as report:
        made = lecture.write(out, names, lambda done: report(done))
    lines = [f"  {row['name']:<20} {row['seconds']:6.1f} s  {row['title']}" for row in made]
    answer({"out": str(out), "figures": made}, json, *lines, f"open {out / 'index.html'}")
