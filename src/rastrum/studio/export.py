"""The studio as files: its own page, with recorded answers in place of the connection. It needs no Python and no server to be shown.

    studio/static/*.js ─▶ studio.js, one script, since a page in a folder may not load modules; recorded.js stands in for connection.js
    what is asked below ─▶ walks-N.js, answers of one room and one model, gzip in base64;  recordings.js says what there is
"""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_files
from .arrays import packed
from .models import Models
from .requests import Answer
from .rooms import ROOMS
from .scenes import SCENES

STATIC = Path(__file__).with_name("static")
PAGE, SCRIPT, STYLE, INDEX = "index.html", "studio.js", "studio.css", "recordings.js"
EXAMPLES = range(3, 7)         # seeds of the images to begin with; the page begins with the first
SEEDS = 3                      # of each class, and of what has none
LARGE, LARGEST = 1 << 19, 1 << 22   # bytes of a walk's probabilities, above which it is recorded with one seed, and not at all
SIDE = 64                      # pixels of a picture as a file: where a JPEG can be as small as a file of the model
IN_PICTURES = ("image", "known")
HALVES = {"last": 0, "lower": 2, "right": 3}     # axis of each half that may be unknown

Options = dict[str, Any]


def export(models: Models, folder: Path, report: Callable[[int], object] = lambda done: None) -> list[dict[str, Any]]:
    """Writes the studio with recorded answers.

    models: that it shows.
    folder: gets index.html and what it loads; not there yet, empty, or with an earlier export, whose files are replaced.
    report: called with the number of models that are done; by default nothing.

    Returns of each file its name and bytes. Raises ``ValueError`` for a folder that holds anything else.
    """
    check_export(folder)
    files: dict[str, bytes] = {}
    rooms: dict[str, dict[str, Any]] = {}
    for done, row in enumerate(models.described, 1):
        for room, asked in plan(models, row):
            name = f"walks-{len(files):02}.js"
            walks = [{"asked": options, "answers": [*ROOMS[room].read(options).run(models)]} for options in asked]
            files[name] = b'WALKS = "%s";\n' % b64encode(gzip.compress(json.dumps(walks, separators=(",", ":")).encode(), mtime=0))
            known = [{key: value for key, value in options.items() if key not in IN_PICTURES} for options in asked]
            rooms.setdefault(room, {})[row["name"]] = {"file": name, "asked": known}
        report(done)
    shown = [row | {"rooms": [room for room in row["rooms"] if row["name"] in rooms.get(room, {})]} for row in models.described]
    files[INDEX] = f"const RECORDED = {json.dumps({'models': shown, 'rooms': rooms})};\n".encode()
    files |= {PAGE: page(), SCRIPT: script().encode(), STYLE: (STATIC / STYLE).read_bytes()}
    write_files(folder, files)
    for path in folder.glob("walks-*.js"):                                # of an earlier export, which the page no longer asks for
        if path.name not in files:
            path.unlink()
    return [{"name": name, "bytes": len(content)} for name, content in files.items()]


def check_export(folder: Path) -> None:
    """Raises ``ValueError`` for a folder that holds anything but an earlier export."""
    others = [path.name for path in folder.iterdir() if not re.fullmatch(r"walks-\d+\.js", path.name)] if folder.is_dir() else []
    if foreign := sorted({*others} - {PAGE, SCRIPT, STYLE, INDEX}):
        raise ValueError(f"--export: {str(folder)!r} holds {foreign[0]!r}, which is no part of an exported studio; choose another folder")
    if others and INDEX not in others:
        raise ValueError(f"--export: {str(folder)!r} holds {others[0]!r} of another page; choose another folder")


# ── what is recorded ─────────────────────────────────────────────────────────────────────────────────────────────────


def plan(models: Models, row: dict[str, Any]) -> Iterator[tuple[str, list[Options]]]:
    """What is asked of a model, as its page asks it: rooms, and the options of each walk.

    models: of the studio.
    row: of the model, as ``describe`` gives it.
    """
    model, rooms = {"model": row["name"]} | ({} if row["map"] is None else {"spatial_map": row["map"]["first"]}), row["rooms"]
    given: list[Options] = [{}] if row["classes"] is None else [{"class_number": each} for each in range(len(row["classes"]))]
    size = 2 * row["frames"] * row["channels"] * row["height"] * row["width"] * row["levels"]
    seeds = range(1 if size > LARGE or len(given) > SEEDS else SEEDS)
    every = [{**model, "seed": seed, **each} for each, seed in product(given, seeds)]
    if "watch" in rooms and size <= LARGEST:
        yield "watch", [{**each, "temperature": 1} for each in every]
    asked = [{**model, "seed": seed} for seed in EXAMPLES]
    yield "example", asked
    images = [_answer(models, "example", options)["image"] for options in asked]
    if "complete" in rooms and size <= LARGE:
        how = {**model, "particles": 16, "seed": 0, "temperature": 1}
        halves = ("last",) if row["frames"] > 1 else ("lower", "right")
        yield "complete", [how | hidden(*each, row) for each in product(images, halves)]
    if "surprise" in rooms:
        yield "surprise", [{**model, "image": image} for image in images]
    if "strokes" in rooms:
        drawn = [{**each, "temperature": 1} for each in every]
        yield "strokes", [*drawn, *({**each, "image": image} for each, image in product(every, images))]
    if "concept" in rooms:
        times = max(1, min(SIDE // max(row["height"], row["width"]), row["times"]))
        scenes = [{**model, "name": name, "times": times} for name in SCENES]
        yield "scene", scenes
        pictures = [_answer(models, "scene", options)["image"] for options in scenes]
        yield "concept", [{**model, "image": image, "times": times, "seed": 0, **each} for image, each in product(pictures, given)]


def _answer(models: Models, room: str, options: Options) -> Answer:
    """The one answer of a room that gives one."""
    (answer,) = ROOMS[room].read(options).run(models)
    return answer


def hidden(image: str, half: str, row: dict[str, Any]) -> Options:
    """An image or a video with a half unknown, as the page marks it.

    image: levels as base64 of bytes.
    half: "last" half of the frames, "lower" or "right" half of an image.
    row: of its model.
    """
    shape = row["frames"], row["channels"], row["height"], row["width"]
    known = np.ones(shape, bool)
    np.moveaxis(known, HALVES[half], 0)[shape[HALVES[half]] // 2 :] = False
    return {"image": packed(np.frombuffer(b64decode(image), np.uint8).reshape(shape) * known), "known": packed(known)}


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def page() -> bytes:
    """The studio's page, with scripts that a page in a folder may load."""
    text = (STATIC / PAGE).read_text(encoding="utf-8").replace("static/", "")
    module = f'<script type="module" src="{SCRIPT}"></script>'
    assert module in text
    return text.replace(module, f'<script defer src="{INDEX}"></script>\n<script defer src="{SCRIPT}"></script>').encode()


def script() -> str:
    """The studio's modules as one script: each is a function that returns what it exports, after those that it imports."""
    done: dict[str, str] = {}

    def add(name: str) -> None:
        text = (STATIC / name).read_text(encoding="utf-8").replace('"./connection.js"', '"./recorded.js"')
        for imported in re.findall(r'^import [^;]*from "\./([^"]+)";', text, re.M):
            if imported not in done:
                add(imported)
        text = re.sub(r'^import (\{[^;]*\})\s*from "\./([^"]+)";', r'const \1 = modules["\2"];', text, flags=re.M)
        exported = ", ".join(re.findall(r"^export (?:async )?(?:class|const|function) (\w+)", text, re.M))
        done[name] = f'modules["{name}"] = (() => {{\n{re.sub("^export ", "", text, flags=re.M)}\nreturn {{{exported}}};\n}})();\n'

    add(SCRIPT)
    return '"use strict";\nconst modules = {};\n' + "".join(done.values())
