"""DRAW, with and without attention.

Source: Gregor, Danihelka, Graves, Rezende, Wierstra, "DRAW: A Recurrent Neural Network For Image Generation", 2015.

             x ──┬──────────────▶ read ─▶ encoder LSTM ─▶ Q(z | h_enc) ─▶ z ─▶ decoder LSTM ─▶ write ─▶ c += stroke ─▶ p(x | c)
                 ▼                 ▲           ▲                               │        │         │
    c_{t−1} ─▶ x̂ = x − σ(c)  ──────┘           │                               │        └─ h_dec ─┤
                                   ▲───────────┴───────────── h_dec_{t−1} ◀────┼──────────────────┘
                                                            sampling: z ~ N(0, I), the encoder does not run

    x̂ = x − σ(c_{t−1})                                 (3)      h_dec = LSTM_dec(z)                                    (7)
    r = read(x, x̂, h_dec_{t−1})                        (4)      c_t = c_{t−1} + write(h_dec)                           (8)
    h_enc = LSTM_enc([r, h_dec_{t−1}])                 (5)      L_x = −log p(x | c_T)                                  (9)
    z ~ Q(z | h_enc) = N(μ(h_enc), σ(h_enc))           (6)      L_z = Σ_t ½ Σ_d (μ² + σ² − 2 log σ − 1)                (10, 11)

Without attention read is [x, x̂] and write one linear map to the whole canvas (17, 18); with it, windows of N by N filters (19 … 29).

What differs from the paper:
- p(x | c) for more than 2 levels. The paper scores intensities by the cross-entropy of a Bernoulli, which is not a likelihood of levels.
  Here c has two halves, the logits of the mean and the logarithm of the scale of one discretised logistic a value; the error image
  uses the first half. ``likelihood="cross-entropy"`` gives the paper's training loss, and then there is no bound.
- The initial canvas is set to the logits of the mean image of the data, forget gates start open and windows start with filters as wide
  as their stride, so that the first strokes and glimpses see every pixel.
- Colour: the same filters on each channel. Class or vector condition: added to the gates of both LSTMs.

Dimensions: B batch · C channels of the canvas · H, W image · N filters along a side · S size of an LSTM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..canvas import CanvasModel, Normal, State
from ..distributions import Bernoulli, LogisticMixture
from ..layers.attention import place
from ..protocol import ArrayLike, ConditionSpec, Distribution, ImageSpec, check_condition


@dataclass(frozen=True, kw_only=True)
class DRAWConfig:
    """Sizes of a DRAW.

    steps: strokes · latent: components of z · hidden: size of each LSTM · attention: windows, or the whole image at every step ·
    read, write: filters along a side of the windows, N · likelihood: "exact" (Bernoulli for 2 levels, a discretised logistic above) or
    "cross-entropy" (the paper's loss for intensities; no likelihood, so no bound).
    """

    steps: int = 64
    latent: int = 100
    hidden: int = 256
    attention: bool = True
    read: int = 2
    write: int = 5
    likelihood: Literal["exact", "cross-entropy"] = "exact"


class DRAW(CanvasModel):
    """DRAW; state: canvas (B, H, C, W), memory ``encoder``, ``decoder`` (B, S) and their cells."""

    config: DRAWConfig

    def __init__(self, spec: ImageSpec, config: DRAWConfig, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__(spec, config, condition_spec)
        _check_config(spec, config)
        self.steps = config.steps
        hidden, channels = config.hidden, spec.channels
        self.canvas_channels = channels * (2 if self.proper and spec.levels > 2 else 1)
        self.canvas = nn.Parameter(torch.zeros(spec.height, self.canvas_channels, spec.width))
        self.start = nn.Parameter(torch.zeros(4, hidden))  # encoder, its cell, decoder, its cell
        glimpse = 2 * channels * config.read**2 if config.attention else 2 * spec.size
        self.encoder = nn.Linear(glimpse + 2 * hidden, 4 * hidden)
        self.decoder = nn.Linear(config.latent + hidden, 4 * hidden)
        self.posterior_head = nn.Linear(hidden, 2 * config.latent)
        if config.attention:
            self.read_head = nn.Linear(hidden, 5)
            self.write_head = nn.Linear(hidden, 5 + self.canvas_channels * config.write**2)
        else:
            self.write_head = nn.Linear(hidden, self.canvas.numel())
        if condition_spec is not None:
            size = condition_spec.shape[0] if condition_spec.kind == "vector" else int(condition_spec.size)
