"""Omniglot's one-shot classification: one drawing of each of 20 characters of an alphabet by one person, the same ones by another.

    official_runs()                the 20 runs that Lake et al. published, of test alphabets
    made_runs("train[16540:]")     others like them from any split, to choose settings on

A run asks for each test drawing: which of the training drawings shows the same character? Drawings have 105x105 pixels; ``prepared`` makes
of them what a model's own data are. omniglot28 holds every pixel (105·i // 28, 105·j // 28) of a drawing: so made, all 32,460 drawings of
Omniglot are those of omniglot28 in every pixel (only their order within a character differs).

Source: Lake, Salakhutdinov, Tenenbaum, "Human-level concept learning through probabilistic program induction", 2015; its all_runs.zip.
"""

from __future__ import annotations

import os
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..config import DataOptions
from .dataset import parse_split
from .options import binarise, requantise
from .published import published_file
from .reading import Opener, open_image, read_image
from .sources import OMNIGLOT, source_of

RUNS, WAYS = 20, 20            # official runs, and characters of each
SIDE = 105                     # pixels of a drawing
NOISE = 0                      # seed of a random binarisation
FILE = "all_runs.zip"


class Run(NamedTuple):
    """name: of the run.
    training: a drawing of each character, levels (C, 1, H, W); of 105x105 pixels 1 where there is ink.
    test: drawings of the same characters, (T, 1, H, W).
    answers: which of the characters each of these shows, int64 (T,).
    """

    name: str
    training: Tensor
    test: Tensor
    answers: Tensor


def official_runs(path: Path | None = None) -> list[Run]:
    """The 20 published runs.

    path: of all_runs.zip; None (default): that of the data mirror (RASTRUM_HUB_MIRROR), else downloaded once.

    Raises ``ValueError`` for a file that is not there or holds something else, ``OSError`` where it cannot be downloaded.
    """
    path = path or _mirrored() or published_file("omniglot-runs", "test")
    if not path.is_file():
        raise ValueError(f"runs: there is no file {str(path)!r}; give Omniglot's {FILE}")
    try:
        with zipfile.ZipFile(path) as archive:
            return [_official(archive, f"run{number:02}") for number in range(1, RUNS + 1)]
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"runs: {str(path)!r} is not Omniglot's {FILE} ({' '.join(str(error).split())})") from None


def _official(archive: zipfile.ZipFile, name: str) -> Run:
    pairs = [line.split() for line in archive.read(f"{name}/class_labels.txt").decode().splitlines()]
    training = sorted({answer for _, answer in pairs})
    answers = torch.tensor([training.index(answer) for _, answer in pairs])

    def ink(names: list[str]) -> Tensor:
        return 1 - _read((each, lambda each=each: open_image(BytesIO(archive.read(each)))) for each in names)   # it is dark there

    return Run(name, ink(training), ink([test for test, _ in pairs]), answers)


def _mirrored() -> Path | None:
    """In the mirror's folder of the set, or next to the mirror."""
    mirror = os.environ.get("RASTRUM_HUB_MIRROR")
    folders = (Path(mirror).expanduser() / "brendenlake" / "omniglot", Path(mirror).expanduser().parent / "omniglot") if mirror else ()
    return next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)


def made_runs(split: str, count: int = RUNS, seed: int = 0) -> list[Run]:
    """Runs like the published ones: in each, 20 random characters of one alphabet, drawn by two random people.

    split: of the set omniglot, such as "train[16540:]".
    count: of the runs, 20 by default; the alphabets take turns.
    seed: of all choices, 0 by default.

    Raises ``ValueError`` for a split of which no alphabet has 20 characters by two people.
    """
    part, chosen = parse_split(split)
    source = source_of("omniglot", part, DataOptions())
    images = [*zip(source.names, source.images, strict=True)][chosen]
    alphabets: defaultdict[str, defaultdict[str, dict[str, tuple[str, Opener]]]] = defaultdict(lambda: defaultdict(dict))
    for name, image in images:
        alphabet, character, number = name.split("/")
        alphabets[alphabet][character][number] = image
    large = [alphabet for alphabet in sorted(alphabets) if len(alphabets[alphabet]) >= WAYS]
    random, runs = np.random.RandomState(seed), []
    for n in range(count if large else 0):
        drawings = alphabets[large[n % len(large)]]
        characters = [drawings[name] for name in random.permutation(sorted(drawings))[:WAYS]]
        people = random.permutation(sorted(set[str].intersection(*map(set, characters))))[:2]
        if len(people) == 2:
            order = random.permutation(WAYS)
            one, other = ([character[person] for character in characters] for person in people)
            training, test = _read(one), _read(other)[order]
            runs.append(Run(f"{large[n % len(large)]} {people[0]} {people[1]}", training, test, torch.from_numpy(order)))
    if len(runs) < count:
        raise ValueError(f"runs: {split} of omniglot has no alphabet with {WAYS} characters that two people drew; name a larger split")
    return runs


def _read(images: Iterable[tuple[str, Opener]]) -> Tensor:
    return torch.from_numpy(np.stack([read_image(name, opener, DataOptions())[0].astype(np.uint8) for name, opener in images]))


def prepared(runs: Iterable[Run], name: str, options: DataOptions | None = None) -> list[Run]:
    """The same runs as a model's images are.

    runs: of 105x105 pixels.
    name: of the set that the model was made for, "omniglot28" or "omniglot".
    options: preprocessing, of which framed, size, levels and binarisation are applied; None (default) for none.

    Raises ``ValueError`` for omniglot28 of another size, or framed.
    """
    options = options or DataOptions()
    if name == "omniglot28" and options.framed:
        raise ValueError("runs: omniglot28 is as it was published, got framed=True; take omniglot, of whose 105x105 pixels it is cut")
    if name == "omniglot28" and options.size not in (None, OMNIGLOT):
        raise ValueError(f"runs: omniglot28 has {OMNIGLOT}x{OMNIGLOT} pixels, got size={options.size}; take omniglot, which is resized")
    size = DataOptions(size=options.size or OMNIGLOT, framed=options.framed)
    kept = np.arange(OMNIGLOT) * SIDE // OMNIGLOT

    def levels_of(drawings: Tensor) -> Tensor:
        if name == "omniglot28":
            images, depth = [drawing[:, kept[:, None], kept] for drawing in drawings.numpy()], 2
        else:
            read = [read_image("a drawing", lambda drawing=drawing: drawing.permute(1, 2, 0).bool().numpy(), size) for drawing in drawings]
            images, depth = [image for image, _ in read], read[0][1]
        if options.levels is not None:
            images = [requantise(image, depth, options.levels) for image in images]
        elif options.binarise is not None:
            images = binarise(images, depth, options.binarise, NOISE)
        return torch.from_numpy(np.stack(images))

    return [run._replace(training=levels_of(run.training), test=levels_of(run.test)) for run in runs]
