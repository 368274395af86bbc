"""Data sets that are read from where their authors publish them, since the Hub may not have them under a name of theirs.

A file is downloaded once, into the folder named by RASTRUM_DATA (default: ~/.cache/rastrum/data), and checked against its SHA-256 whenever
it is read. Where no digest is published, that of the first download is kept beside the file and holds from then on.

Digests of Larochelle's and Lake's files: the lists of TensorFlow Datasets (url_checksums/binarized_mnist.txt and omniglot.txt); those of
omniglot28 are of the files at the named commit of the authors of Generative Matching Networks.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from http.client import HTTPException
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from .reading import Opener, open_image


class Published(NamedTuple):
    """url: of the file. digest: its SHA-256, "" where none is published."""

    url: str
    digest: str = ""


LAROCHELLE = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/binarized_mnist_"
GMN = "https://github.com/sbos/gmn/raw/b7d6ec508821e66a4dd2252b6f33e7d5128d7a5a/data/"
LAKE = "https://github.com/brendenlake/omniglot/raw/master/python/images_"
BERKELEY = Published("https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds/BSDS300-images.tgz")
# name: file of each split
FILES: dict[str, dict[str, Published]] = {
    "binarized-mnist": {
        "train": Published(f"{LAROCHELLE}train.amat", "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
        "validation": Published(f"{LAROCHELLE}valid.amat", "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
        "test": Published(f"{LAROCHELLE}test.amat", "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
    },
    "omniglot": {
        "train": Published(f"{LAKE}background.zip", "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640"),
        "test": Published(f"{LAKE}evaluation.zip", "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee"),
    },
    "omniglot28": {
        "train": Published(f"{GMN}train_small.npz", "136ac9970475ee96cb03275a4299233ef7d0f023380d2eff4ca73b31cc2f97da"),
        "test": Published(f"{GMN}test_small.npz", "5ac797844c90af132a423614c198f7b83ef8fad7cf8d32d6dc4f24483d317ac3"),
    },
    "omniglot-runs": {"test": Published("https://github.com/brendenlake/omniglot/raw/master/python/one-shot-classification/all_runs.zip")},
    "bsds300": {"train": BERKELEY, "test": BERKELEY},
}
SIDE = 28                      # pixels of Larochelle's digits, and of the small Omniglot
MINUTE = 60.0


def published(name: str, split: str) -> list[tuple[str, Opener]]:
    """The images of a split of a published set: a name for messages and what opens it, in the order of the set.

    name: one of ``FILES``.
    split: of that set.

    Raises ``ValueError`` for another split and a file of another digest, ``OSError`` where it cannot be downloaded.
    """
    return READERS[name](published_file(name, split), split)


def published_file(name: str, split: str) -> Path:
    """The file of a split of a published set, on this machine; parameters and errors are as for ``published``."""
    files = FILES[name]
    if split not in files:
        raise ValueError(f"data: {name} has the splits {', '.join(files)}, got {split!r}")
    return _downloaded(name, files[split])


def _downloaded(name: str, file: Published) -> Path:
    """The file on this machine, whole and with the right digest."""
    folder = Path(os.environ.get("RASTRUM_DATA") or Path("~/.cache/rastrum/data")).expanduser() / name
    path = folder / PurePosixPath(file.url).name
    kept = path.with_name(path.name + ".sha256")
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        handle, new = tempfile.mkstemp(dir=folder)                        # a name that nobody else has
        try:
            with os.fdopen(handle, "wb") as out, urllib.request.urlopen(file.url, timeout=MINUTE) as answer:
                digest, expected = hashlib.sha256(), answer.headers.get("Content-Length")
                while part := answer.read(1 << 20):
                    digest.update(part)
                    out.write(part)
                if expected is not None and out.tell() != int(expected):
                    raise ConnectionError(f"{out.tell():,} of {int(expected):,} bytes came")
            _check_digest(file.url, digest.hexdigest(), file.digest)
            if not file.digest:
                kept.write_text(digest.hexdigest() + "\n")
            os.replace(new, path)
        except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
            said = getattr(error, "reason", error)
            where = "a copy of the Hub's layout can stand under RASTRUM_HUB_MIRROR"
            raise OSError(f"data: cannot download {file.url} ({said}); save it as {path}, or {where}") from None
        finally:
            Path(new).unlink(missing_ok=True)
        return path
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    expected = file.digest or (kept.read_text().strip() if kept.is_file() else "")
    _check_digest(str(path), digest, expected)
    if not expected:                                                      # put there by hand
        kept.write_text(digest + "\n")
    return path


def _check_digest(where: str, found: str, expected: str) -> None:
    if expected and found != expected:
        raise ValueError(f"data: {where} has the SHA-256 {found}, expected {expected}; remove it to download it again")


# ── formats ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _amat(path: Path, split: str) -> list[tuple[str, Opener]]:
    """A line per image: 784 zeros and ones, with spaces between."""
    size = SIDE * SIDE
    text = np.frombuffer(path.read_bytes(), np.uint8)
    digits = text[(text == ord("0")) | (text == ord("1"))] == ord("1")
    if len(digits) % size or bool(((text > ord(" ")) & (text != ord("0")) & (text != ord("1"))).any()):
        raise ValueError(f"data: {str(path)!r} is not made of lines of {size} zeros and ones; remove it to download it again")
    images = digits.reshape(-1, SIDE, SIDE, 1)
    return [(f"binarized-mnist {split} {i}", lambda image=image: image) for i, image in enumerate(images)]


def _zip(path: Path, split: str) -> list[tuple[str, Opener]]:
    """Omniglot: images_…/ALPHABET/CHARACTER/NUMBER_DRAWER.png, in the order of these."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png") and not name.startswith("__MACOSX")]
        files = {name: archive.read(name) for name in names}
    return _opened(files, lambda name: (*PurePosixPath(name).parts[-3:-1], PurePosixPath(name).stem.rpartition("_")[2]))


def _npz(path: Path, split: str) -> list[tuple[str, Opener]]:
    """omniglot28: for each …/ALPHABET/CHARACTER its 20 drawings, 0 where there is ink and 255 elsewhere, (20, 784) uint8."""
    with np.load(path, allow_pickle=False) as file:
        drawings = {f"{name}/{i:02}.png": image > 0 for name in file.files for i, image in enumerate(file[name].reshape(-1, SIDE, SIDE, 1))}
    return [(name, lambda name=name: drawings[name]) for name in sorted(drawings)]


def _tar(path: Path, split: str) -> list[tuple[str, Opener]]:
    """BSDS300: images/train/NAME.jpg and images/test/NAME.jpg, in the order of the names."""
    files = {}
    with tarfile.open(path) as archive:                                   # read in memory, nothing is unpacked
        for member in archive:
            parts = PurePosixPath(member.name).parts
            if member.isfile() and member.name.endswith(".jpg") and parts[-2:-1] == (split,):
                content = archive.extractfile(member)
                assert content is not None
                files[member.name] = content.read()
    return _opened(files, lambda name: (PurePosixPath(name).stem,))


def _opened(files: dict[str, bytes], order: Callable[[str], tuple[str, ...]]) -> list[tuple[str, Opener]]:
    return [(name, lambda content=files[name]: open_image(BytesIO(content))) for name in sorted(files, key=order)]


READERS: dict[str, Callable[[Path, str], list[tuple[str, Opener]]]] = {"binarized-mnist": _amat, "omniglot": _zip,
                                                                     "omniglot28": _npz, "bsds300": _tar}  # fmt: skip
