"""*Concept*: a picture as a progressive file that is cut at a byte: what the model makes of its beginning, beside JPEG of the same size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from ..applications.rates import Attempt, attempts, nearest_within, usual_formats
from ..compression import Unpacking, compress_pictures
from ..compression.unpacking import psnr_of
from ..data.options import requantise
from ..models.pixel_canvas import PixelCanvas
from .arrays import packed, pixels
from .models import MOST_TIMES, Models
from .requests import Answer, Request, check_range, unpacked

MOST_CUTS = 48                 # places where a file is cut


@dataclass(frozen=True)
class Concept(Request):
    """Code an image with a canvas model, and cut the file.

    model: its name; one that makes files, such as conv-draw with posterior="uniform".
    image: levels (C, times · H, times · W) as base64 of bytes.
    times: how many times as large as the model's images, a side.
    class_number: of a class-conditional model; None for another.
    seed: of what is drawn where the file says nothing.

    ``run`` yields the bytes of the file and of its header, the strokes that it holds and the number of cuts; then for each of at most 48
    cuts, from the bare header to the whole file: how many bytes are left and how many strokes they hold; the picture with the rest at the
    mean of the prior and with the rest drawn, each with its PSNR; and JPEG, the best file of at most so many bytes, or where there is none
    (``fits``) the smallest, with the bytes of its header and tables; and the PSNR of the best JPEG when headers and tables of both count
    for nothing. A picture of JPEG is sent when it changes. PSNR is None where nothing is lost, or where there is no such JPEG.
    """

    model: str
    image: str
    times: int = 1
    class_number: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("times", self.times, 1, MOST_TIMES)
        check_range("seed", self.seed, 0, 2**31 - 1)

    def run(self, models: Models) -> Iterator[Answer]:
        model = models.get(self.model, PixelCanvas)
        spec = replace(model.spec, height=self.times * model.spec.height, width=self.times * model.spec.width)
        x = unpacked("image", self.image, spec, spec.levels)
        sized = model if self.times == 1 else model.resized(spec.height, spec.width)
        name = self.model if self.model.startswith(("rastrum/", "hf://")) else ""     # what others find it by
        file = compress_pictures(sized, x, self.class_number, name=name, progress=False)
        jpegs = attempts(usual_formats()[0], requantise(x[0].numpy(), spec.levels, 256).transpose(1, 2, 0))
        target, header = x[0].double().numpy() / (spec.levels - 1), len(file.header.bytes)
        found = cuts(header, len(file.data))
        yield {"bytes": len(file.data), "header": header, "steps": file.header.steps, "cuts": len(found)}
        shown: Attempt | None = None
        for size in found:
            unpacking = Unpacking(file.data[:size], sized, self.class_number).finish()
            mean, drawn = unpacking.pictures("mean"), unpacking.pictures("sample", self.seed)
            jpeg, fits = nearest_within(jpegs, 8 * size, whole=True)
            bare, small = nearest_within(jpegs, 8 * (size - header), whole=False)
            yield {
                "size": size, "strokes": mean.steps,
                "mean": pixels(mean.images), "mean_psnr": _decibels(mean.images, target),
                "drawn": pixels(drawn.images), "drawn_psnr": _decibels(drawn.images, target),
                "jpeg_size": jpeg.bits // 8, "jpeg_header": (jpeg.bits - jpeg.payload) // 8, "fits": fits,
                "jpeg_psnr": jpeg.psnr if math.isfinite(jpeg.psnr) else None,
                "jpeg_bare_psnr": bare.psnr if small and math.isfinite(bare.psnr) else None,
                **({} if jpeg is shown else {"jpeg": packed(jpeg.picture.transpose(2, 0, 1))}),
            }  # fmt: skip
            shown = jpeg


def cuts(header: int, size: int) -> list[int]:
    """Sizes at which a file is cut: at most 48, from the header's to the whole, evenly spread.

    header, size: bytes of both.
    """
    return np.unique(np.linspace(header, size, min(MOST_CUTS, size - header + 1)).round().astype(int)).tolist()


def _decibels(picture: Tensor, target: np.ndarray) -> float | None:
    """PSNR of a ``picture`` (1, C, H, W) against a ``target`` (C, H, W), both in [0, 1]."""
    found = psnr_of(picture[0].double().numpy(), target)
    return found if math.isfinite(found) else None
