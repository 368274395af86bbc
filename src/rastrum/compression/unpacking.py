"""A progressive file, read step by step, or as far as it goes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from ..checkpoint import BUNDLED, bundled, read_config
from ..denormals import keeping
from ..memory import Allowance, TooLarge
from ..models import MODELS, load
from ..models.pixel_canvas import PixelCanvas
from ..native.latents import probabilities
from ..protocol import ArrayLike
from .fields import FileError, Reader, digest, varint
from .identity import fingerprint_of_weights
from .progressive import IDENTITY, Header, Stream, read_header
from .sketches import Coded, Rest, Sketch, code_levels

CHUNK = 1 << 14                # values between two places where a check may stand
SPARE = 1 << 26                # bytes that may be used while a model is made for another size, besides its weights

T = TypeVar("T")


@dataclass(frozen=True)
class Pictures:
    """What a progressive file, or the beginning of one, says.

    images: (B, C, H, W) float32 in [0, 1], the same on every machine.
    values: the nearest levels, (B, C, H, W) int64; exact where the lossless layer has come.
    steps: that were read, the last one perhaps in part.
    total: steps of the file when it was whole.
    exact: how many values are exact, the first ones of all: image by image, row by row, pixel by pixel.
    """

    images: Tensor
    values: Tensor
    steps: float
    total: int
    exact: int


class Unpacking:
    """Decodes a progressive file step by step.

    data, model, condition: as for ``decompress_pictures``.
    what: how messages begin, "file" by default.

    Further attributes: ``header``; ``model``, where to find the model, "" if unknown; ``sketch``, the canvases as far as they are drawn;
    ``per_step``, latents of a step; ``whole``, whether nothing was cut; ``checked``, steps that a check has found right. Raises
    ``FileError`` as ``decompress_pictures``.
    """

    def __init__(
        self, data: bytes, model: PixelCanvas | None = None, condition: ArrayLike | int | None = None, what: str = "file"
    ) -> None:
        reader = Reader(bytes(data), what)
        self.what, self.header = what, read_header(reader)
        header = self.header
        found: tuple[str, Any] = find_bundled(header, condition, what) if model is None else (header.model, model)
        self.model, network = found
        network = _fitting(what, sized, network, header.height, header.width)
        given = network.check_condition(condition, header.count)
        if (ours := identity(network, given)) != header.identity:
            named = f"the model {header.model}" if header.model else "a model that it does not name"
            theirs = f"made by {named}, {header.identity.hex()}, or with another condition"
            raise FileError(f"{what}: {theirs}; this model with this condition is {ours.hex()}")
        self.sketch = _fitting(what, Sketch, network, header.count, given, torch.get_num_threads(), header.grey)
        self.per_step = len(self.sketch.maps.latents)
        if header.steps * self.per_step > self.sketch.steps:
            raise FileError(f"{what}: holds {header.steps} steps, its model has {self.sketch.steps // self.per_step}")
        stream = reader.up_to(header.length)
        self.whole = len(stream) == header.length
        self._stream = Stream(header.about, stream, self.whole, what)
        self.checked = 0
        self._part: Coded | None = None                                   # of the latent at which the stream was cut
        self._ended = False

    @torch.no_grad()
    @keeping
    def step(self) -> bool:
        """Decode the latents of one step. Returns False where there are no more, or only some of them."""
        last = self.header.steps * self.per_step
        for _ in range(self.per_step):
            if self._ended or self.sketch.t == last:
                return False
            try:
                coded = self.sketch.decode(self.header.seed, self._stream.decoder, self.whole)
            except ValueError as error:
                raise FileError(f"{self.what}: {error}; it is changed") from None
            if len(coded.k) < math.prod(self.sketch.shape):
                self._part, self._ended = coded, True
                return False
            where = f"step {self.sketch.t // self.per_step + 1}"
            passed = self._stream.passed
            self._ended = not self._stream.check(coded.k, where, force=self.sketch.t + 1 == last)
            self.sketch.write(coded.z)
            if self._stream.passed > passed:
                self.checked = self.sketch.t // self.per_step
        return True

    def most(self, steps: int | None) -> int:
        """How many steps of the file there are to read where so many are wanted, None for all."""
        return self.header.steps if steps is None else min(steps, self.header.steps)

    def finish(self, steps: int | None = None, report: Callable[[float], object] = lambda done: None) -> Unpacking:
        """Decode what the file holds of so many steps, of all by default; ``report`` hears of each."""
        while self.sketch.t < self.most(steps) * self.per_step and self.step():
            report(self.sketch.t // self.per_step)
        return self

    @torch.no_grad()
    @keeping
    def pictures(self, rest: Rest = "mean", seed: int = 0, values: bool = False) -> Pictures:
        """The pictures as far as they are decoded; the rest as ``decompress_pictures`` says.

        rest, seed: as there.
        values: whether to read the lossless layer too, if all steps have been; False by default.
        """
        header, done = self.header, self.sketch.t == self.header.steps * self.per_step and not self._ended
        values = values and header.lossless and done
        sketch = self.sketch.copy()
        sketch.finish("mean" if values else rest, seed, self._part)
        canvas, spec = sketch.canvas(), self.sketch.model.spec
        images = picture_of(canvas, spec.levels)                          # (B, H, W, C)
        found = np.floor(images.astype(np.float64) * (spec.levels - 1) + 0.5).astype(np.int64)
        exact = self._values(canvas, found.reshape(-1)) if values else 0
        if exact:
            known = found.reshape(-1)[:exact].astype(np.float32) / np.float32(spec.levels - 1)
            images.reshape(-1)[:exact] = known
        part = 0.0 if self._part is None else len(self._part.k) / math.prod(self.sketch.shape)
        steps = (self.sketch.t + part) / self.per_step
        images, found = (torch.from_numpy(each).movedim(-1, 1).contiguous() for each in (images, found))
        return Pictures(images, found, steps, header.steps, exact)

    def _values(self, canvas: np.ndarray, values: np.ndarray) -> int:
        """Reads the lossless layer into ``values``, and says how many there were."""
        canvas, found = canvas.reshape(len(values), -1), values.copy()
        levels, coefficients = self.sketch.model.spec.levels, self.sketch.coefficients()
        for first in range(0, len(values), CHUNK):
            part = slice(first, min(first + CHUNK, len(values)))
            try:
                length = code_levels(canvas, levels, found, self._stream.decoder, self.whole, coefficients, part)
            except ValueError as error:
                raise FileError(f"{self.what}: {error}; it is changed") from None
            known = slice(first, first + len(length))
            values[known] = found[known]
            if known.stop < part.stop or not self._stream.check(found[part], f"value {part.stop}", force=part.stop == len(values)):
                return known.stop
        return len(values)


def psnr_of(pictures: np.ndarray, originals: np.ndarray) -> float:
    """The peak signal-to-noise ratio of all pictures together, in dB; infinite where they are equal.

    pictures, originals: intensities in [0, 1], of one shape.
    """
    error = float(np.square(pictures.astype(np.float64) - originals).mean())
    return math.inf if error == 0 else -10 * math.log10(error)


@keeping
def picture_of(canvas: np.ndarray, levels: int) -> np.ndarray:
    """The picture of a canvas in exact arithmetic.

    canvas: parameters of each value, (…, 1 or 2) float32, as from ``Sketch.canvas``.
    levels: of the images.

    Returns intensities in [0, 1], (…) float32.
    """
    mean = np.ascontiguousarray(canvas[..., 0])
    if levels > 2:
        return np.clip(np.float32(0.5) * mean + np.float32(0.5), np.float32(0), np.float32(1))
    out = np.empty_like(mean)
    probabilities(mean.reshape(-1), out.reshape(-1))
    return out


def sized(model: Any, height: int, width: int) -> PixelCanvas:
    """The model at another size, if need be.

    model: any.
    height, width: in pixels.

    Raises ``ValueError`` for a model without a canvas of pixels, and for a size that it does not take.
    """
    if not isinstance(model, PixelCanvas):
        raise ValueError(f"model: {type(model).__name__} has no canvas of pixels that grows by latents; take conv-draw")
    if (height, width) == model.spec.shape[1:]:
        return model
    held = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    try:
        with Allowance(SPARE + 8 * held):                                 # weights for a size that a file only claims take no memory
            return model.resized(height, width)
    except TooLarge:
        raise ValueError(f"model: it is for images of {model.spec.text}, not for so many pixels as {height}x{width}") from None


def _fitting(what: str, make: Callable[..., T], *arguments: Any) -> T:
    """What ``make`` makes of a header; ``FileError`` where the model and the header do not go together."""
    try:
        return make(*arguments)
    except ValueError as error:
        raise FileError(f"{what}: {error}") from None


def identity(model: PixelCanvas, condition: Tensor | None) -> bytes:
    """A digest of all that a file's symbols depend on.

    model: of the file.
    condition: of its images, checked; None without.
    """
    given = b"" if condition is None else condition.cpu().contiguous().numpy().tobytes()
    return digest(IDENTITY, fingerprint_of_weights(model), varint(model.spec.levels), given)


def find_bundled(header: Header, condition: ArrayLike | int | None = None, what: str = "file") -> tuple[str, PixelCanvas]:
    """The model of a file among those that are bundled with the package; others are not opened, since the file is text of whoever wrote it.

    header: of the file.
    condition: as for ``decompress_pictures``.
    what: how messages begin, "file" by default.

    Returns its name and the model. Raises ``FileError`` where there is none.
    """
    if header.model:
        if not header.model.startswith(BUNDLED):
            raise FileError(f"{what}: made by the model {header.model}, which is not bundled with rastrum; give it with --model or model=")
        try:
            return header.model, cast(PixelCanvas, load(header.model))
        except ValueError as error:
            raise FileError(f"{what}: made by {header.model}, which this release does not have ({error})") from None
    for name in bundled():
        if issubclass(MODELS[read_config(name)["model"]], PixelCanvas):
            network: Any = load(name)
            try:
                given = network.check_condition(condition, header.count)
            except ValueError:                                            # it takes another
                continue
            if identity(network, given) == header.identity:
                return name, network
    about = f"a model that it does not name ({header.identity.hex()})"
    raise FileError(f"{what}: made by {about}, which is not bundled with this release; give it with --model or model=")
