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
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ..checkpoint import bundled
from ..denormals import keeping
from ..latents import DitheredNormal, Uniform
from ..models.pixel_canvas import PixelCanvas
from ..progress import Progress, bar
from ..protocol import ArrayLike, as_tensor, check_images
from .container import MAX_NAME
from .fields import Reader
from .progressive import MAX_NUMBER, MAX_PIXELS, Header, Writer, read_header
from .refinement import Refined, moved
from .sketches import Coded, Rest, Sketch, code_levels
from .unpacking import CHUNK, Pictures, Unpacking, identity, picture_of, psnr_of, sized

AGAIN = 4                      # times that a file which missed its rate or quality is tried anew, in as small a part of the effort each
FINE = 5                       # a quality is reached to one part in 2^FINE of the bytes
MAX_SEED = (1 << 64) - 1        # of what is drawn


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
    model = sized(model, x.shape[2], x.shape[3]) if x.dim() == 4 else model
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
    header = Header(x.shape[2], x.shape[3], len(x), lossless, seed, identity(model, given), name, grey=grey)
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


def _is_whole(value: object, most: float = math.inf) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) <= most


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
