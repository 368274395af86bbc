"""The text of the demo's page: what each picture shows, for readers who do not know these models. All figures come from the run."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from .. import __version__
from ..data.sources import NOTICES
from ..pictures.html import Picture, Section, Table, page
from .bundled import CLASSES, DRAW, RASTER

NAMES = {"gated": "Gated PixelCNN", "draw": "DRAW", "plain": "DRAW without attention"}
KINDS = {"exact": "exact", "bound": "upper bound", "file": "real files"}


@dataclass(frozen=True)
class Score:
    """Bits/dim of the held-out digits under one model or codec.

    name: of the model or codec.
    bits: bits/dim.
    error: standard error over images; None (default) for a single file of all images.
    kind: one of ``KINDS``, "exact" by default.
    """

    name: str
    bits: float
    error: float | None = None
    kind: str = "exact"

    @property
    def value(self) -> str:
        """Bits and error as text."""
        return f"{self.bits:.3f}" + (f" ± {self.error:.3f}" if self.error is not None else "")


@dataclass
class Trained:
    """A trained model.

    model: with the trained weights.
    steps: of its training, 0 by default.
    seconds: of its training, 0 by default.
    curve: seconds of training, and held-out bits/dim at each; empty by default.
    """

    model: Any
    steps: int = 0
    seconds: float = 0.0
    curve: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))

    @property
    def parameters(self) -> int:
        """The number of the model's parameters."""
        return sum(p.numel() for p in self.model.parameters())


def write_page(
    files: Mapping[str, bytes],
    scores: Sequence[Score],
    right: float,
    trained: Mapping[str, Trained],
    digits: int,
    held_out: int,
    seconds: float,
    seed: int,
) -> str:
    """The page as HTML.

    files: pictures by name.
    scores: rows of the table of scores.
    right: share of the held-out digits whose class was recognised, 0 … 1.
    trained: the models, "gated", "draw" and "plain".
    digits, held_out: how many were trained on, and scored.
    seconds: of the whole run.
    seed: of the run.
    """
    spec = trained["gated"].model.spec
    minutes = sum(t.seconds for t in trained.values()) / 60
    sections = [
        Section("Models that come with the package", _bundled(files)),
        Section("What one decision means", _decisions(files, digits, minutes, spec, trained["draw"].model.steps)),
        Section("Pixel by pixel: Gated PixelCNN", _pixels(files, held_out)),
        Section("Stroke by stroke: DRAW", _strokes(files)),
        Section("The scores", _scores(files, scores, right, trained, held_out, spec.size)),
        Section("Read on", PAPERS),
    ]
    footer = [
        f"""Made by "rastrum demo": Rastrum {__version__}, torch {torch.__version__}, {_threads()} on
        {platform.machine()}, seed {seed}, {seconds:.0f} seconds in all.""",
        NOTICES["digits"],
    ]
    lead = "A PixelCNN and a DRAW learn handwritten digits, and show how they draw."
    return page("Pictures, one decision at a time", lead, sections, footer)


def _bundled(files: Mapping[str, bytes]) -> list[str | Picture]:
    return [
        f"""First, what longer training on one core gives: models of 28x28 black and white pixels that are bundled with Rastrum, and drew
        these pictures just now. Below, the same from the beginning, on smaller pictures. ({", ".join((RASTER, CLASSES, DRAW))})""",
        Picture(
            files["bundled-rows.gif"],
            "Pixel by pixel",
            """A Row LSTM is given a class, nought to nine, and draws each digit row by row, one decision for every pixel. Pause, and step
            through the rows: hatched pixels do not exist yet.""",
        ),
        Picture(
            files["bundled-samples.png"],
            "Fifty samples",
            """A Diagonal BiLSTM that is given nothing. The samples are neither selected nor smoothed.""",
        ),
        Picture(
            files["bundled-copies.gif"],
            "Stroke by stroke",
            """DRAW redraws the ten digits from above, which it never saw: it begins with a grey canvas, the same for all, looks at each
            digit, and writes through the green window, 16 times. The canvas shows the probability of white.""",
        ),
        Picture(
            files["bundled-strokes.png"],
            "A four, stroke by stroke",
            """From left to right: where the model looks (red), the glimpse that it gets there, what the canvas lacks (blue) or has too much
            (orange), the stroke, and the canvas with the window of the stroke (green). The first strokes place the digit, the later ones
            trace it.""",
        ),
    ]


def _decisions(files: Mapping[str, bytes], digits: int, minutes: float, spec: Any, strokes: int) -> list[str | Picture]:
    return [
        f"""Two machines on this page make pictures the way a hand does: one decision after another, looking at what is already there.
        They learned it from {digits:,} handwritten digits of {spec.height}x{spec.width} pixels with {spec.levels} levels of brightness,
        in {minutes:.1f} minutes, just now.""",
        f"""For the Gated PixelCNN a decision is one pixel. Before each of the {spec.size} pixels it states a probability for every level,
        given the pixels above it and to its left. Multiply the probabilities of the levels that came, and you have the probability of the
        whole picture, exactly.""",
        f"""For DRAW a decision is one stroke. In {strokes} strokes it adds light to a canvas and takes light away. What it decides is a
        handful of latent values, so the probability of a picture is only known to be at least some number: a bound.""",
        Picture(
            files["decision.svg"],
            "One decision",
            """Left, a held-out digit as far as it is known; hatched pixels do not exist yet. Right, what the model expects of the pixel in
            red; the red bar is the level that it has in truth. To draw a picture, roll dice with these odds and go on to the next pixel. To
            measure a picture, add up the surprise.""",
        ),
    ]


def _pixels(files: Mapping[str, bytes], held_out: int) -> list[Picture]:
    return [
        Picture(
            files["pixels.gif"],
            "Pixels appear",
            "One digit of each class, from the first pixel to the last. Nothing is ever changed once it stands.",
        ),
        Picture(
            files["samples.png"],
            "Ten new digits of each class",
            """One row per class. The model is given the class and nothing else. The samples are neither selected nor smoothed, so its
            failures are here too.""",
        ),
        Picture(
            files["completions.png"],
            "Half-hidden digits",
            """The first held-out digit of each class, its lower half hidden, and six ways in which the model completes it. The model is not
            given the class: by Bayes' rule it weighs the ten classes by how well each explains the upper half, draws one of them, and
            then draws the missing pixels. Where the upper half is ambiguous, the six differ.""",
        ),
        Picture(
            files["surprise.svg"],
            "Where the surprise is",
            f"""The four likeliest and the four least likely of {held_out} held-out digits, and the bits that each of their pixels costs.
            Empty ground costs next to nothing; the edges of a stroke, which could as well lie elsewhere, cost most. A digit written in an
            unusual way stands out by its total.""",
        ),
    ]


def _strokes(files: Mapping[str, bytes]) -> list[Picture]:
    return [
        Picture(
            files["draw-attention.gif"],
            "With attention",
            """The green frame is the window that the model writes through: it chooses where to put it and how wide to open it (where the
            window reaches beyond the picture, the frame stops at the edge). First row, digits from imagination: fresh noise for every
            stroke. Second row, held-out digits that the model copies: it looks, then writes. Third row, what it copies.""",
        ),
        Picture(
            files["draw-no-attention.gif"],
            "Without attention",
            """The same model, but every stroke covers the whole canvas: a digit comes up everywhere at once, like a photograph in its
            bath.""",
        ),
        Picture(
            files["strokes.png"],
            "How a digit is copied",
            """Stroke by stroke, from left to right: where the model looks (red); the glimpse that it gets there, and the glimpse of what
            the canvas still lacks (blue) or has too much (orange); the stroke (blue adds light, orange takes it away); and the canvas, with
            the window of the stroke (green).""",
        ),
    ]


def _scores(
    files: Mapping[str, bytes], scores: Sequence[Score], right: float, trained: Mapping[str, Trained], held_out: int, size: int
) -> list[str | Picture | Table]:
    gated, draw = trained["gated"], trained["draw"]
    return [
        f"""How many bits does it take to write down one pixel of a digit that was never seen in training? Fewer is better: who knows digits
        needs few. All {held_out} held-out digits; ± is the standard error over images.""",
        Table(
            ["held-out digits", "bits/dim", "what it is"],
            [[score.name, score.value, KINDS[score.kind]] for score in scores],
            f"""The histogram counts the levels of each pixel in the training digits, one added to every count (Laplace). zlib (level 9) and
            PNG: bytes of real files times 8, one byte per level, headers included. To transmit the class as well would cost
            log2(10)/{size} = {math.log2(10) / size:.3f} bits/dim. "Not given the class" is exact too: the mean over the ten classes. DRAW's
            bound comes closer to its true value with more trajectories.""",
            [i for i, score in enumerate(scores) if score.name.startswith(NAMES["gated"])],
        ),
        f"""Exact probabilities do more than count bits. Ask under which of the ten classes a held-out digit is likeliest, and the Gated
        PixelCNN, which was never trained to tell digits apart, names the right one for {right:.1%} of them.""",
        Picture(
            files["learning.svg"],
            "Learning",
            f"""Held-out bits/dim while the models train: {gated.seconds:.0f} seconds for the Gated PixelCNN, {draw.seconds:.0f} for DRAW.
            Dotted: what zlib and the histogram need.""",
        ),
        Table(
            ["model", "parameters", "steps", "seconds"],
            [[NAMES[name], f"{t.parameters:,}", f"{t.steps:,}", f"{t.seconds:.0f}"] for name, t in trained.items()],
        ),
    ]


def _threads() -> str:
    count = torch.get_num_threads()
    return f"{count} thread{'s' * (count > 1)}"


PAPERS = [
    """A. van den Oord, N. Kalchbrenner, O. Vinyals, L. Espeholt, A. Graves, K. Kavukcuoglu: Conditional Image Generation with PixelCNN
    Decoders. 2016. arXiv:1606.05328""",
    """K. Gregor, I. Danihelka, A. Graves, D. J. Rezende, D. Wierstra: DRAW: A Recurrent Neural Network For Image Generation. 2015.
    arXiv:1502.04623""",
    "A. van den Oord, N. Kalchbrenner, K. Kavukcuoglu: Pixel Recurrent Neural Networks. 2016. arXiv:1601.06759",
]
