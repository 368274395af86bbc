"""``studio``: a page in the browser where models are watched while they draw."""

from __future__ import annotations

import secrets
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from .show import Json, answer, check_folder_out, progress

if TYPE_CHECKING:
    from ..studio.models import Models


def studio(
    models: Annotated[
        Positional[tuple[str, ...]],
        arg(metavar="MODEL …", help="folders of saved models, rastrum/NAME for a bundled one, or hf://OWNER/NAME for one on the Hub; "
            "default: all bundled ones", help_behavior_hint=""),
    ] = (),
    runs: Annotated[
        Path | None, arg(metavar="FOLDER", help="that holds runs of training, for the room Training; default: no such room",
                         help_behavior_hint="")
    ] = None,
    host: Annotated[str, arg(help="address to listen on; any but this machine's own needs a token")] = "127.0.0.1",
    port: Annotated[int, arg(help="to listen on; 0: any that is free")] = 8765,
    token: Annotated[
        str | None, arg(help="that a visitor must know; default: none on this machine alone, else a random one", help_behavior_hint="")
    ] = None,
    export: Annotated[
        Path | None, arg(metavar="FOLDER", help="write the page with recorded answers here, to be shown without Python, and end; default: "
                         "none", help_behavior_hint="")
    ] = None,
    open: Annotated[bool, arg(help="open the page in a browser")] = False,
    json: Json = False,
) -> None:
    """Watch models draw, in the browser. It needs the extra `studio`, and runs until Ctrl-C.

    The page loads nothing from elsewhere. What is drawn on it goes to this command, and is not kept. `--export FOLDER` writes a page that
    replays walks, completions, strokes and files of the models: any web server can give it to others, or a browser opens FOLDER/index.html.
    It takes about a minute for the bundled models, and needs no extra.
    """
    from ..checkpoint import bundled

    if export is not None:
        if runs is not None:
            raise ValueError("--runs: a page that --export writes has no room Training; leave one of them out")
        _export(models or bundled(), export, json)
        if open:
            webbrowser.open((export / "index.html").absolute().as_uri())
        return

    from ..studio.server import is_loopback, listen, server

    if not 0 <= port < 65536:
        raise ValueError(f"--port: expected 0 … 65535, got {port}")
    if runs is not None and not runs.is_dir():
        raise ValueError(f"--runs: {str(runs)!r} is no folder")
    if token is not None and (not token.isascii() or not token.isalnum()):
        raise ValueError("--token: expected letters and digits, so that it can stand in an address")
    if token is None:
        token = "" if is_loopback(host) else secrets.token_hex(16)
    found = _shown(models or bundled(), runs)
    place = f"[{host}]" if ":" in host else host
    waiting = listen(host, port)
    address = f"http://{place}:{waiting.getsockname()[1]}/" + (f"?token={token}" if token else "")
    shown = [row["name"] for row in found.described]
    answer({"address": address, "models": shown}, json, f"{len(shown)} models, {address} (Ctrl-C ends it)")
    sys.stdout.flush()
    if open:
        webbrowser.open(address)
    server(found, token).run(sockets=[waiting])


def _shown(names: Sequence[str], runs: Path | None = None) -> Models:
    from ..studio.models import Models

    found = Models(names, runs)
    if not found.described:
        raise ValueError("studio: it shows images and videos of at most 16,384 values and 256 levels, of models without a condition, with "
                         "a class, a small map or exemplars, and none of these models is one")  # fmt: skip
    return found


def _export(names: Sequence[str], folder: Path, json: bool) -> None:
    from ..studio.export import check_export, export

    check_folder_out("--export", folder)
    check_export(folder)
    found = _shown(names)
    with progress("recording", len(found.described), "models") as report:
        files = export(found, folder, report)
    total = sum(each["bytes"] for each in files)
    answer({"out": str(folder), "files": files}, json, f"{len(files)} files, {total / 1e6:.1f} MB: open {folder / 'index.html'}")
