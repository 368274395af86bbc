"""Images as they are, without a sheet around them: levels in an array, or a folder with a PNG of each at its own size.

    levels          grey                        colour
    2               1 bit                       8 bits
    3 … 256         8 bits                      8 bits
    more            16 bits                     16 bits

In a PNG levels are spread over the whole range, so that a viewer shows them right; ``--images FOLDER`` gives back the same levels, since
each is the nearest to its own sample.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.options import requantise
from ..files import write_files
from ..protocol import ArrayLike, ImageSpec
from .png import png
from .sheets import as_array

NUMBERED = re.compile(r"\d+(-\d+)?\.png", re.IGNORECASE)


def encode_array(levels: ArrayLike, spec: ImageSpec) -> bytes:
    """The bytes of a .npy file: uint8 up to 256 levels, else uint16.

    levels: (N, *spec.shape).
    spec: of the images.
    """
    file = io.BytesIO()
    np.save(file, as_array(levels, "levels").astype(np.uint8 if spec.levels <= 256 else np.uint16))
    return file.getvalue()


def check_folder(folder: Path, spec: ImageSpec) -> None:
    """Refuse a folder that holds such images already, and images that a PNG cannot hold.

    folder: where images shall go; need not exist.
    spec: of the images.

    Raises ``ValueError`` for these.
    """
    if spec.channels not in (1, 3):
        raise ValueError(f"a PNG holds grey or RGB, these images have {spec.channels} channels; write an array X.npy")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is a file, not a folder; choose another name")
    found = sorted(path.name for path in folder.iterdir() if NUMBERED.fullmatch(path.name)) if folder.exists() else []
    if found:
        raise ValueError(f"the folder {str(folder)!r} holds images already, such as {found[0]}; choose another name or empty it")


def save_folder(levels: ArrayLike, spec: ImageSpec, folder: Path) -> list[str]:
    """Writes a PNG of each image, or of each frame of a video: 000.png, …, or 000-00.png, …

    levels: (N, *spec.shape).
    spec: of the images.
    folder: made if need be.

    Returns the names. Raises ``ValueError`` as ``check_folder``.
    """
    check_folder(folder, spec)
    values = as_array(levels, "levels")
    digits, of_frames = len(str(max(len(values) - 1, 0))), len(str(spec.frames - 1))
    files = {}
    for i, image in enumerate(values):
        if spec.frames == 1:
            files[f"{i:0{digits}}.png"] = encode_image(image, spec.levels)
            continue
        for t, frame in enumerate(image):
            files[f"{i:0{digits}}-{t:0{of_frames}}.png"] = encode_image(frame, spec.levels)
    write_files(folder, files)
    return list(files)


def encode_image(image: np.ndarray, levels: int) -> bytes:
    """The bytes of a PNG with an image of its own size.

    image: levels (C, H, W), 1 or 3 channels.
    levels: how many there are.
    """
    bits = 16 if levels > 256 else 1 if levels == 2 and len(image) == 1 else 8
    samples = requantise(image, levels, 2**bits).transpose(1, 2, 0)
    if bits == 16 and len(image) == 3:
        return b"".join(png(len(samples), samples.shape[1], 3, 16, [samples]))
    samples = samples.squeeze(2) if len(image) == 1 else samples
    picture = Image.fromarray(samples.astype(bool) if bits == 1 else np.ascontiguousarray(samples))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()
