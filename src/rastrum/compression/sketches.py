"""The exact half of a canvas model: canvases that grow a latent at a time, drawn, encoded or decoded with the same bits on every machine.

    prior of latent t ─▶ [mean, log sd, log width] ─▶ k, by a stream, an encoder, or noise ─▶ z = (k + d) width ─▶ stroke ─▶ prior of t + 1

The dither d ∈ (−½, ½) belongs to (seed, number of the image, t, position); of all that an encoder finds out about an image only k matters.
The posterior may therefore run in any arithmetic, as long as it sees the exact canvas and decoder states (``Sketch.show``).

Of one stroke, latents whose prior is widest, in widths of the quantiser, are coded first: they say most. So a stream that is cut within a
stroke holds the coarse part of it, everywhere in the picture and in all pictures of a file.

Grey pictures go through a model of RGB as three equal channels; what the canvas says of a value is then the mean of what it says of them.

Dimensions: B images · h, w size of a layer · Z channels of a latent · n = h·w·Z latents of a stroke, position by position.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..canvas import State
from ..denormals import keeping
from ..distributions import lowest_log_scale, not_finite
from ..latents import DitheredNormal
from ..memory import ask
from ..models.pixel_canvas import PixelCanvas
from ..native import codes
from ..native.cdf import Mixture
from ..native.latents import DECODE, DRAW, ENCODE, NOT_FINITE, TOO_FAR, code_latents, code_values
from ..noise import DITHER, LATENT, uniform
from ..program import Program, suits_native
from ..program.builder import Buffer, View
from ..program.native import CoderStates
from ..program.strokes import NativeStrokes
from ..range_coder import CDF_TOTAL, Decoder, Encoder

Rest: TypeAlias = Literal["mean", "sample"]
INDEPENDENT = np.zeros((1, 1), np.float32)
ROOM = 12                      # bytes that a latent takes at most: 24 bits, and 61 for one that is far from the prior
ARENAS = 3                     # of an image in memory at once: its own, and those of what is drawn from there


class Sketch:
    """A batch of canvases before their first stroke.

    model: a canvas model whose decoder is a step program and whose posterior has a width that the decoder knows.
    batch: number of images B.
    condition: one per image, as a checked tensor; None (default) for an unconditional model.
    threads: use at most so many, 1 by default; no bit depends on it.
    grey: whether the pictures are grey, though the model is of several channels; False by default.

    Further attributes: ``t``, latents drawn so far, of ``steps``; ``channels``, of the pictures.
    Raises ``ValueError`` for another model, and where the memory does not suffice; ``PortabilityError`` where this machine does not compute
    as specified.
    """

    @keeping
    def __init__(
        self, model: PixelCanvas, batch: int, condition: Tensor | None = None, threads: int = 1, grey: bool = False
    ) -> None:
        name = type(model).__name__
        if not suits_native(model.dtype, model.device):
            raise ValueError(f"model: it is {model.dtype} on {model.device}; files are coded in float32 on a CPU, with numba")
        from ..program.golden import verify

        what, remedy = f"{batch} images of {model.spec.text}", "take fewer, or smaller ones"
        ask(what, 4 * ARENAS * batch * model.spec.size, remedy)           # before anything is made of their size
        program = Program(model.spec, model.condition_spec)
        with torch.no_grad():
            maps = model.lower_strokes(program)
        if maps is None:
            raise ValueError(f"model: the decoder of {name} has no exact arithmetic, so no file; take conv-draw")
        if maps.priors[0].size != 3 * maps.latents[0].size:
            raise ValueError(f"model: this {name} has normal posteriors, which no code reaches; train one with posterior='uniform'")
        verify()
        ask(what, 4 * ARENAS * batch * sum(map(_size, program.buffers)), remedy)
        self.model, self.maps, self.batch, self.channels = model, maps, batch, 1 if grey else model.spec.channels
        self.t, self.steps = 0, model.steps
        self.strokes = NativeStrokes(program, batch, condition, threads)

    def copy(self) -> Sketch:
        """The same canvases, with memory of their own."""
        other = object.__new__(Sketch)
        other.__dict__.update(self.__dict__, strokes=self.strokes.copy())
        return other

    # ── the latent whose turn it is ──────────────────────────────────────────────────────────────────────────────────

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the latents of this stroke, (B, h, w, Z)."""
        return self.strokes.map(self.maps.latents[self._number]).shape

    @property
    def _number(self) -> int:
        return self.t % len(self.maps.latents)

    def prior(self) -> np.ndarray:
        """Mean, log standard deviation and log width of each latent of this stroke, (B, n, 3) float32."""
        values = self.strokes.map(self.maps.priors[self._number])
        return values.reshape(*values.shape[:3], 3, -1).swapaxes(3, 4).reshape(self.batch, -1, 3)

    def dither(self, seed: int) -> np.ndarray:
        """d of each latent of this stroke, (B, n) float64.

        seed: of the noise.
        """
        count = math.prod(self.shape[1:])
        return uniform(seed, range(self.batch), 0, count, component=self.t, purpose=DITHER) + (2.0**-25 - 0.5)

    def show(self, state: State) -> None:
        """Bring what the encoder of the model sees of its decoder to where these canvases are.

        state: of the model, for as many images; changed in place.
        """
        state.t, state.canvas = self.t, self._tensor(self.maps.canvas)
        state.memory["expected"] = self._tensor(self.maps.priors[self._number])
        for name, view in self.maps.memory.items():
            state.memory[name] = self._tensor(view)

    def _tensor(self, view: View) -> Tensor:
        return torch.from_numpy(self.strokes.map(view).copy()).movedim(-1, 1)

    # ── choosing it ──────────────────────────────────────────────────────────────────────────────────────────────────

    def encode(self, target: Tensor, seed: int, encoder: Encoder) -> Coded:
        """Put the whole numbers k that are nearest to a target.

        target: means of the posterior, (B, Z, h, w).
        seed: of the dither.
        encoder: takes them, image after image.

        Raises ``ValueError`` for a prior that is not finite, and a target that no file holds.
        """
        wanted = target.movedim(1, -1).reshape(-1).double().numpy()
        if not np.isfinite(wanted).all():
            raise not_finite("posterior means")
        return self._code(ENCODE, self.dither(seed).reshape(-1), wanted, encoder)

    def decode(self, seed: int, decoder: Decoder, whole: bool) -> Coded:
        """Read the whole numbers k.

        seed: of the dither.
        decoder: of the stream.
        whole: whether that was not cut, so that zeros follow its end.

        Returns fewer latents than there are where the stream was cut. Raises ``ValueError`` for what no encoder writes.
        """
        return self._code(DECODE, self.dither(seed).reshape(-1), np.zeros(math.prod(self.shape)), decoder, whole)

    def draw(self, seed: int) -> Coded:
        """Draw latents from the prior.

        seed: of the noise.
        """
        count = math.prod(self.shape[1:])
        noise = uniform(seed, range(self.batch), 0, count, component=self.t, purpose=LATENT) * CDF_TOTAL
        return self._code(DRAW, self.dither(seed).reshape(-1), noise.reshape(-1), Encoder())

    def mean(self) -> np.ndarray:
        """The latents at the mean of the prior, (B·n,) float32."""
        return self.prior()[..., 0].reshape(-1).copy()

    @keeping
    def _code(self, mode: int, dither: np.ndarray, target: np.ndarray, coder: Encoder | Decoder, whole: bool = True) -> Coded:
        count, prior = dither.size, self.prior().reshape(-1, 3)
        order = np.argsort(prior[:, 2] - prior[:, 1], kind="stable")
        inputs = prior[order], dither[order], target[order]
        k, z, length = np.zeros(count, np.int64), np.zeros(count, np.float32), np.zeros(count)
        states = CoderStates([coder], ROOM * count + 16 if mode == ENCODE else 0)
        done = int(code_latents(mode, *inputs, states.of(slice(None)), 0, whole, _mixture(), k, z, length))
        if done == NOT_FINITE:
            raise not_finite("means or log deviations of a prior")
        if done == TOO_FAR:
            raise ValueError("latents: one is farther from the mean of its prior than a file can say")
        if mode != DRAW:
            states.store()
        at = order[:done]
        if done == count:                                                 # back to their places
            k[order], z[order], length[order] = k.copy(), z.copy(), length.copy()
            at = np.arange(count)
        return Coded(k[:done], z[:done], prior[at], length[:done], at)

    def finish(self, rest: Rest, seed: int, part: Coded | None = None) -> None:
        """Make all strokes that are left.

        rest: whether their latents lie at the mean of the prior, or are drawn from it: "mean" or "sample".
        seed: of the noise.
        part: those latents of the next stroke that are known; None by default.
        """
        while self.t < self.steps:
            z = self.draw(seed).z if rest == "sample" else self.mean()
            if part is not None:
                z[part.at] = part.z
            part = None
            self.write(z)

    def write(self, z: np.ndarray) -> None:
        """Make the stroke.

        z: its latents, (B·n,) float32.
        """
        self.strokes.map(self.maps.latents[self._number])[:] = z.reshape(self.shape)
        self.strokes.run(self._number)
        self.t += 1

    # ── the canvas ───────────────────────────────────────────────────────────────────────────────────────────────────

    def coefficients(self) -> np.ndarray:
        """Between the channels of a pixel of the pictures given the canvas, (C, C) float32."""
        given = self.model.coefficients
        return INDEPENDENT if given is None or self.channels == 1 else given.detach().float().numpy().copy()

    def canvas(self) -> np.ndarray:
        """Parameters of each value of the images, (B, H, W, C, 1 or 2) float32: a logit, or mean and log scale."""
        pixels = self.model.pixels(State(self._tensor(self.maps.canvas), None))
        canvas = pixels.unflatten(1, (-1, self.model.spec.channels)).permute(0, 3, 4, 2, 1).contiguous().numpy()
        if self.channels == canvas.shape[3]:
            return canvas
        total = sum(canvas[..., channel, :].astype(np.float64) for channel in range(canvas.shape[3]))
        return (total / canvas.shape[3]).astype(np.float32)[..., None, :]


@dataclass(frozen=True)
class Coded:
    """Latents of one stroke: all of them, in their order, or the first that were coded.

    k: the whole numbers, (n,) int64.
    z: the latents, (n,) float32.
    prior: mean, log standard deviation and log width, (n, 3) float32.
    length: bits that the counts of the integer CDF take, (n,).
    at: their numbers, (n,).
    """

    k: np.ndarray
    z: np.ndarray
    prior: np.ndarray
    length: np.ndarray
    at: np.ndarray

    def kl(self) -> np.ndarray:
        """−log2 of the probability of each k by the formula of ``latents.py``, in float64: (n,) bits."""
        mean, log_sd, log_width = torch.from_numpy(self.prior).double().unbind(-1)
        return DitheredNormal(mean, log_sd, log_width).log_mass(torch.from_numpy(self.z).double()).numpy() / -math.log(2)


@keeping
def code_levels(
    canvas: np.ndarray,
    levels: int,
    values: np.ndarray,
    coder: Encoder | Decoder,
    whole: bool = True,
    coefficients: np.ndarray = INDEPENDENT,
    part: slice = slice(None),
) -> np.ndarray:
    """Encode or decode values of images, given the canvas.

    canvas: their parameters, (n, 1 or 2), as from ``Sketch.canvas``.
    levels: of the images.
    values: levels (n,) int64, written in decoding.
    coder: an encoder, which takes them, or a decoder.
    whole: as for ``Sketch.decode``.
    coefficients: between the channels of a pixel, (C, C) float32, as from ``Sketch.coefficients``; those of independent ones by default.
    part: of the values that are coded now; those before it are known. All by default.

    Returns the bits that each takes, fewer than there are values where the stream was cut.
    """
    first, last, _ = part.indices(len(values))
    encoding, length = isinstance(coder, Encoder), np.zeros(last - first)
    states, head = CoderStates([coder], 4 * len(length) + 16 if encoding else 0), codes.BERNOULLI if levels == 2 else codes.MIXTURE
    scratch, mode = (np.zeros(2, np.float32), np.zeros(3, np.int64)), ENCODE if encoding else DECODE
    lowest = lowest_log_scale(levels)
    stream = states.of(slice(None)), 0, whole
    done = code_values(mode, head, levels, lowest, canvas, coefficients, first, *stream, _mixture(), *scratch, values, length)
    if done == NOT_FINITE:
        raise not_finite("means or log scales of the canvas")
    states.store()
    return length[: int(done)]


def _mixture() -> Mixture:
    """Memory of one component."""
    return Mixture(np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(1, np.int64))


def _size(buffer: Buffer) -> int:
    return (buffer.above + max(1, buffer.rows) + buffer.below) * buffer.row_length
