"""Pictures as progressive files: what matters first, then detail, then if wanted every pixel; the model draws what a file does not hold.

    file = compress_pictures(model, images, steps=8)          latents of 8 steps of all images, in one stream
    decompress_pictures(file.data[:300], model)               what 300 bytes say; the other latents lie at the mean of their prior

Source: Gregor, Besse, Rezende, Danihelka, Wierstra, "Towards Conceptual Compression", 2016. The paper computes what such a file would take;
here are the bytes: the posterior is uniform of a width that the decoder knows, its noise is a dither that encoder and decoder share, so the
KL is the length of a code (``latents.py``), and the decoder runs in exact arithmetic (``sketches.py``). ``progressive.py`` has the bytes.

Dimensions: B images · T steps of the model, S of them in the file · D = S · layers latents.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from ..checkpoint import BUNDLED, bundled, read_config
from ..denormals import keeping
from ..latents import DitheredNormal, Uniform
from ..memory import Allowance, TooLarge
from ..models import MODELS, load
from ..models.pixel_canvas import PixelCanvas
from ..native.latents import probabilities
from ..progress import Progress, bar
from ..protocol import ArrayLike, as_tensor, check_images
from .container import MAX_NAME
from .fields import FileError, Reader, digest, varint
from .identity import fingerprint_of_weights
from .progressive import IDENTITY, MAX_NUMBER, MAX_PIXELS, Header, Stream, Writer, read_header
from .refinement import Refined, moved
from .sketches import Coded, Rest, Sketch, code_levels

CHUNK = 1 << 14                # values between two places where a check may stand
AGAIN = 4                      # times that a file which missed its rate or quality is tried anew, in as small a part of the effort each
FINE = 5                       # a quality is reached to one part in 2^FINE of the bytes
MAX_SEED = (1 << 64) - 1        # of what is drawn
SPARE = 1 << 26                # bytes that may be used while a model is made for another size, besides its weights

T = TypeVar("T")


@dataclass(frozen=True)
class Compressed:
    """A progressive file, and what its information takes.

    data: the file, cut where it reaches ``bits`` or ``psnr``.
    header: of the file as it was before.
    kl: bits of each latent of an image together, by real-valued probabilities, (B, D): the KL at these latents, those cut off included.
    code_length: the same by the integer counts that the coder takes.
    residual: bits of each image's values given the canvas, (B,), by these counts; 0 without the lossless layer.
    """

    data: bytes
    header: Header
    kl: np.ndarray
    code_length: np.ndarray
    residual: np.ndarray


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


@torch.no_grad()
@keeping
def compress_pictures(
    model: PixelCanvas,
    images: ArrayLike,
    condition: ArrayLike | int | None = None,
    *,
    steps: int | None = None,
    bits: float | None = None,
    psnr: float | None = None,
    lossless: bool = False,
    effort: int = 0,
    seed: int = 0,
    name: str = "",
    progress: Progress = None,
) -> Compressed:
    """Codes images of one size as one progressive file.

    model: a canvas model whose decoder is a step program and whose posterior is uniform, such as ``conv-draw`` with posterior="uniform".
    images: levels (B, C, H, W) of the model's channels, or of one: grey images, which come back grey; of another size for a model of any
        size (``resized``).
    condition: one per image, or one for all; None for an unconditional model. It is not stored.
    steps: of the model that the file holds, 0 … T; None (default) = as ``bits`` or ``psnr`` say, else all.
    bits: of the whole file, per image, at most: where the steps take more it is cut, at the byte. None (default) for no limit.
    psnr: of all images together, in dB, with what the file does not hold at the mean of its prior: as few steps as reach it, if it grows
        with them, cut where it is reached; not cut if ``lossless``. None (default) for no limit.
    lossless: whether every value follows, given what the steps have drawn; False by default.
    effort: steps of gradient descent that look for latents which say more of these images in as many bits, with ``psnr`` as much in
        fewer, or with ``lossless`` make the whole file smaller (``refinement.py``); each takes as long as a step of training. The file is
        never worse than without. 0 (default) takes the encoder's.
    seed: of the dither, stored; 0 by default.
    name: where others find the model: hf://OWNER/NAME or ./NAME for a folder, which is stored; rastrum/NAME for one that is bundled with
        the package, which is not, since the digest of its weights finds it. "" by default.
    progress: a bar, as for ``rastrum.compress_image``; of steps.

    Returns the file. Raises ``ValueError`` for a model, images or options that do not fit, and for a rate or quality that no number of
    steps reaches; ``PortabilityError`` where this machine does not compute as specified.
    """
    x = as_tensor("images", images)
    model = _sized(model, x.shape[2], x.shape[3]) if x.dim() == 4 else model
    grey = x.dim() == 4 and x.shape[1] == 1 < model.spec.channels
    x = check_images(replace(model.spec, channels=1) if grey else model.spec, x, model.device)
    given = model.check_condition(condition, len(x))
    if sum(each is not None for each in (steps, bits, psnr)) > 1 or (lossless and bits is not None):
        raise ValueError("compress: choose one of steps, bits and psnr; bits do not go with lossless")
    for what, wish in (("bits", bits), ("psnr", psnr)):
        if wish is not None and not (isinstance(wish, Real) and wish >= 0):
            raise ValueError(f"{what}: expected a number of at least 0, got {wish!r}")
    if not 1 <= x[:, 0].numel() <= MAX_PIXELS or not _is_whole(seed, MAX_NUMBER) or len(name.encode()) > MAX_NAME:
        found = f"{len(x)} images, seed {seed!r} and a name of {len(name.encode())} bytes"
        raise ValueError(f"compress: expected images, a seed of 0 … {MAX_NUMBER} and a name of at most {MAX_NAME} bytes, got {found}")
    name = "" if name in bundled() else name
    header = Header(x.shape[2], x.shape[3], len(x), lossless, seed, _identity(model, given), name, grey=grey)
    encoding = _Encoding(model, x, given, header)
    if steps is not None and not _is_whole(steps, encoding.total):
        raise ValueError(f"steps: this model has {encoding.total}, got {steps!r}")
    if not _is_whole(effort):
        raise ValueError(f"effort: expected a whole number of at least 0, got {effort!r}")
    with bar("compressing", encoding.total if steps is None else steps, "steps", progress) as report:
        encoding.run(encoding.total if steps is None else steps, report)
    if bits is not None and bits * len(x) < 8 * len(encoding.file(0)):
        raise ValueError(f"bits: a header alone takes {encoding.bits(0):,.10g} per image, more than {bits:,.10g}; ask for more")
    count = encoding.fitting(bits, psnr)
    size = None if bits is None or bits == math.inf else int(bits * len(x) // 8)     # bytes; what has more is cut
    if effort and count:
        encoding, count = encoding.refined(effort, count, size, psnr, progress)
    elif lossless:
        encoding.write_values(count)
    if psnr is not None and (best := encoding.psnr(count)) < psnr:
        raise ValueError(f"psnr: all {count} steps of this model reach {best:.2f} dB, {psnr:.10g} were asked for; ask for less")
    if psnr is not None and not lossless:
        size = encoding.least(count, psnr)
    latents = encoding.latents[: count * encoding.per_step]
    kl, length = (_per_image(each, len(x)) for each in ([coded.kl() for coded in latents], [coded.length for coded in latents]))
    data = encoding.file(count)
    return Compressed(data[:size], read_header(Reader(data, "file")), kl, length, encoding.residual)


def _per_image(latents: list[np.ndarray], count: int) -> np.ndarray:
    """Bits of the values of each latent, (B·n,), summed for each image: (B, D)."""
    return np.array([each.reshape(count, -1).sum(1) for each in latents]).reshape(-1, count).T


def decompress_pictures(
    data: bytes,
    model: PixelCanvas | None = None,
    condition: ArrayLike | int | None = None,
    *,
    rest: Rest = "mean",
    seed: int = 0,
    steps: int | None = None,
    progress: Progress = None,
) -> Pictures:
    """Decodes a progressive file, or its beginning.

    data: the file, which may be cut at any byte behind its header.
    model: the one that coded it; None (default) for one that is bundled with the package.
    condition: as for ``compress_pictures``.
    rest: latents that the file does not hold are at the mean of their prior ("mean", default) or drawn from it ("sample").
    seed: of what is drawn, 0 by default.
    steps: read no more than so many; None (default) = all that there are.
    progress: as for ``compress_pictures``.

    Returns the pictures. Raises ``FileError`` for a file that is changed, or of another model or condition.
    """
    if steps is not None and not _is_whole(steps):
        raise ValueError(f"steps: expected a whole number of at least 0, got {steps!r}")
    if rest not in ("mean", "sample"):
        raise ValueError(f"rest: expected 'mean' or 'sample', got {rest!r}")
    if not _is_whole(seed, MAX_SEED):
        raise ValueError(f"seed: expected a whole number of 0 … 2^64 − 1, got {seed!r}")
    unpacking = Unpacking(data, model, condition)
    with bar("decompressing", unpacking.most(steps), "steps", progress) as report:
        return unpacking.finish(steps, report).pictures(rest, seed, values=steps is None)


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
        network = _fitting(what, _sized, network, header.height, header.width)
        given = network.check_condition(condition, header.count)
        if (ours := _identity(network, given)) != header.identity:
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


class _Encoding:
    """Images being encoded.

    model: of their size.
    x: levels (B, C, H, W), of grey images (B, 1, H, W).
    condition: checked.
    header: of the file, without steps and length.
    offsets: by how much posteriors are moved, as of ``Refined``; none by default.

    Further attributes: ``total``, steps of the model; ``per_step``, latents of a step; ``latents``, all that were encoded; ``ends``, the
    stream of 0, 1, … steps, ended there by a check; ``residual``, bits of each image's values, 0 before they were written.
    """

    def __init__(
        self, model: PixelCanvas, x: Tensor, condition: Tensor | None, header: Header, offsets: Sequence[Tensor] = ()
    ) -> None:
        self.sketch = Sketch(model, len(x), condition, torch.get_num_threads(), header.grey)
        self.begin = self.sketch.copy()
        self.model, self.x, self.condition, self.header, self.offsets = model, x, condition, header, offsets
        self.per_step = len(self.sketch.maps.latents)
        self.total = self.sketch.steps // self.per_step
        self.latents: list[Coded] = []
        self.ends, self.residual = [Writer(header.about)], np.zeros(len(x))

    def file(self, steps: int) -> bytes:
        """The file of so many steps."""
        stream = self.ends[steps].encoder.finish()
        return replace(self.header, steps=steps, length=len(stream)).bytes + stream

    def bits(self, steps: int) -> float:
        """Of a file of so many steps, per image."""
        return 8 * len(self.file(steps)) / len(self.x)

    def run(self, steps: int, report: Callable[[float], object] = lambda done: None) -> None:
        """Encode so many steps; ``report`` hears of each."""
        writer, state = Writer(self.header.about), self.model.init(len(self.x), self.condition)
        seen = self.x.expand(-1, self.model.spec.channels, -1, -1)
        for step in range(1, steps + 1):
            end = writer
            for _ in range(self.per_step):
                self.sketch.show(state)
                self.model.look(state, seen)
                offset = self.offsets[self.sketch.t] if self.offsets else None
                both = cast(Uniform, self.model.posterior(state)), cast(DitheredNormal, self.model.prior(state))
                coded = self.sketch.encode(moved(*both, offset).mean, self.header.seed, writer.encoder)
                self.sketch.write(coded.z)
                self.latents.append(coded)
                end = writer.copy()
                writer.check(coded.k)
            end.check(self.latents[-1].k, force=True)
            self.ends.append(end)
            report(step)

    def fitting(self, bits: float | None, psnr: float | None) -> int:
        """Steps of the file: all, or as few as use so many bits, or as few as reach a quality."""
        if psnr is not None:
            return self.reaching(psnr)
        return next((n for n in range(len(self.ends)) if bits is not None and self.bits(n) >= bits), len(self.ends) - 1)

    def least(self, count: int, psnr: float) -> int:
        """Bytes of the file of ``count`` steps that reach so many dB, to a few in a hundred."""
        low, high = len(self.file(max(0, count - 1))), len(self.file(count))
        while high - low > max(1, high >> FINE):                          # low and high are neighbours in small files
            middle = (low + high) // 2
            low, high = (low, middle) if self.psnr(count, middle) >= psnr else (middle, high)
        return high

    def refined(self, effort: int, count: int, size: int | None, psnr: float | None, progress: Progress) -> tuple[_Encoding, int]:
        """The images once more, with latents that gradient descent has found.

        effort, psnr, progress: as for ``compress_pictures``.
        count: steps of the file without it.
        size: bytes at which that is cut; None where it is not.

        Returns the encoding and its steps, the nearest of this one, of those of as many steps, and if a rate or a quality is wanted of one
        fewer; with ``psnr`` the smallest; if values follow, which are then written, the smallest file that reaches ``psnr``.
        """
        if self.header.lossless:
            with bar("looking for latents", effort, "steps", progress) as report:
                both = [self, self._refined_whole(effort, count, report)]
            for each in both:
                each.write_values(count)
            enough = [each for each in both if psnr is None or each.psnr(count) >= psnr]
            return min(enough or both, key=lambda each: len(each.file(count))), count
        limit = len(self.file(count)) if size is None else size
        tried = sorted({count, max(1, count - (size is not None or psnr is not None))})
        found: list[tuple[_Encoding, int]] = []
        with bar("looking for latents", effort * len(tried), "steps", progress) as report:
            for number, steps in enumerate(tried):
                done = itertools.count(effort * number + 1)
                once = size is not None                                   # what is a little too long can be cut
                found.append((self._refined(effort, steps, limit, psnr, once, lambda done=done: report(next(done))), steps))
        found.append((self, count))
        if psnr is not None:
            reaching = [each for each in found if each[0].psnr(each[1]) >= psnr]
            return min(reaching or [(self, count)], key=lambda each: each[0].least(each[1], psnr))
        within = [each for each in found if size is not None or len(each[0].file(each[1])) <= limit]
        return max(within, key=lambda each: each[0].psnr(each[1], size))

    def _refined_whole(self, effort: int, steps: int, report: Callable[[float], object]) -> _Encoding:
        """With latents that make latents and values together as small as possible."""
        refined, done = self._posteriors(steps), itertools.count(1)
        refined.move(effort, None, report=lambda: report(next(done)))
        return self._moved(refined, steps)

    def _refined(
        self, effort: int, steps: int, size: int, psnr: float | None, once: bool, report: Callable[[], object]
    ) -> _Encoding:
        latents = steps * self.per_step
        kl = sum(float(coded.kl().sum()) for coded in self.latents[:latents]) / len(self.x)
        limit = 8 * size / len(self.x)
        allowed, wanted = max(1.0, kl + limit - self.bits(steps)), psnr   # KL, and dB
        refined = self._posteriors(steps)
        for count, first in [(effort, True), *[(-(-effort // AGAIN), False)] * AGAIN]:
            refined.move(count, allowed, wanted, report if first else lambda: None)
            found = self._moved(refined, steps)
            excess = found.bits(steps) - limit if psnr is None else psnr - found.psnr(steps)
            if excess <= 0 or once:
                break
            if wanted is None:
                allowed = max(1.0, allowed - excess - 0.001 * limit)
            else:
                wanted += excess + 0.01
        return found

    def _posteriors(self, steps: int) -> Refined:
        return Refined(self.model, self.x, self.condition, steps * self.per_step, self.header.seed)

    def _moved(self, refined: Refined, steps: int) -> _Encoding:
        found = _Encoding(self.model, self.x, self.condition, self.header, refined.offsets)
        found.run(steps)
        return found

    def after(self, steps: int) -> np.ndarray:
        """The canvas with the latents of so many steps, the rest at the mean of the prior."""
        sketch = self.begin.copy()
        for coded in self.latents[: steps * self.per_step]:
            sketch.write(coded.z)
        sketch.finish("mean", 0)
        return sketch.canvas()

    def reaching(self, psnr: float) -> int:
        """The least number of steps that reach so many dB, all if they do not."""
        low, high = -1, self.total
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.psnr(middle) >= psnr else (middle, high)
        return high

    def psnr(self, steps: int, size: int | None = None) -> float:
        """Of the images after so many steps, of a file that is cut after ``size`` bytes if that has more."""
        levels = self.model.spec.levels
        if size is not None and size < len(data := self.file(steps)):
            picture = decompress_pictures(data[:size], self.model, self.condition, progress=False).images.movedim(1, -1).numpy()
        else:
            picture = picture_of(self.after(steps), levels)
        return psnr_of(picture, self.x.movedim(1, -1).numpy() / (levels - 1))

    def write_values(self, steps: int) -> None:
        """Write the lossless layer behind so many steps."""
        writer, values, canvas = self.ends[steps], self.x.movedim(1, -1).reshape(-1).numpy().copy(), self.after(steps)
        canvas, lengths = canvas.reshape(len(values), -1), []
        levels, coefficients = self.model.spec.levels, self.sketch.coefficients()
        for first in range(0, len(values), CHUNK):
            part = slice(first, min(first + CHUNK, len(values)))
            lengths.append(code_levels(canvas, levels, values, writer.encoder, True, coefficients, part))
            writer.check(values[part], force=part.stop == len(values))
        self.residual = np.concatenate(lengths).reshape(len(self.x), -1).sum(1)


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


def _is_whole(value: object, most: float = math.inf) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) <= most


def _sized(model: Any, height: int, width: int) -> PixelCanvas:
    """The model at another size, if need be."""
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


def _identity(model: PixelCanvas, condition: Tensor | None) -> bytes:
    """A digest of all that a file's symbols depend on."""
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
            if _identity(network, given) == header.identity:
                return name, network
    about = f"a model that it does not name ({header.identity.hex()})"
    raise FileError(f"{what}: made by {about}, which is not bundled with this release; give it with --model or model=")
