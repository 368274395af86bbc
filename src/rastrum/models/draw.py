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
  Here c has two halves, the mean (levels lie in [−1, 1], the mean anywhere) and the logarithm of the scale of one discretised logistic
  per value, and the error image is x less the mean, cut to [0, 1]. ``likelihood="cross-entropy"`` gives the paper's loss, and no bound.
- The initial canvas is set to the mean image of the data, forget gates start open, strokes start small, and filters start wide enough
  for the grid to see and reach every pixel (``reset``).
- Filters are normalised by a softmax, and N = 1 is allowed (``layers/attention.py``).
- Colour: the same filters on each channel. Class or vector condition: added to the gates of both LSTMs.
- The training recipes' learning rates, batches and lengths are ours.

Dimensions: B batch · C channels of the canvas · H, W image · N filters along a side · S size of an LSTM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..canvas import State
from ..card import Paper
from ..devices import as_like, in_float64
from ..latents import Normal
from ..layers.attention import make_window
from ..layers.condition import global_projection, project
from ..layers.dense import Repeated
from ..layers.lstm import cell, reorder_drawn_gates, reorder_gates_of_format_1
from ..protocol import ArrayLike, ConditionSpec, ImageSpec, JointDistribution
from .pixel_canvas import PixelCanvas
from .presets import check_config, choose

# The paper's table of sizes, by the data they are for.
TABLE = {
    "mnist": dict(steps=64, latent=100, hidden=256, read=2, write=5),
    "svhn": dict(steps=32, latent=100, hidden=800, read=12, write=12),
    "cifar-10": dict(steps=64, latent=200, hidden=400, read=5, write=5),
}


@dataclass(frozen=True, kw_only=True)
class DRAWConfig:
    """Sizes of a DRAW.

    steps: strokes, T.
    latent: components of z.
    hidden: size of each LSTM.
    attention: windows, or the whole image at every step.
    read, write: filters along a side of the windows, N; only with attention.
    likelihood: "exact" (Bernoulli for 2 levels, a discretised logistic above) or "cross-entropy" (the paper's loss for intensities; no
        likelihood, so no bound).
    """

    steps: int = 64
    latent: int = 100
    hidden: int = 256
    attention: bool = True
    read: int = 2
    write: int = 5
    likelihood: Literal["exact", "cross-entropy"] = "exact"


class DRAW(PixelCanvas):
    """DRAW. State: canvas (B, H, C, W); memory: ``encoder``, ``decoder`` and their cells, each (B, S).

    spec: of the images.
    config: sizes.
    condition_spec: of a class or a vector; None (default) = unconditional.
    """

    name = "draw"
    config_class = DRAWConfig
    paper = Paper("DRAW: A Recurrent Neural Network For Image Generation", "Gregor, Danihelka, Graves, Rezende, Wierstra", 2015)
    no_likelihood = "likelihood='cross-entropy' is a loss of intensities, it gives no distribution of levels; likelihood='exact' does"
    conditions = ("class", "vector")
    more_presets = tuple(TABLE)
    config: DRAWConfig

    def __init__(self, spec: ImageSpec, config: DRAWConfig, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__(spec, config, condition_spec)
        _check_windows(spec, config)
        self.steps = config.steps
        hidden = config.hidden
        self.canvas_channels = spec.channels * self.halves
        self.canvas = nn.Parameter(torch.zeros(spec.height, self.canvas_channels, spec.width))
        self.start = nn.Parameter(torch.zeros(4, hidden))  # encoder, its cell, decoder, its cell
        self.posterior_head = nn.Linear(hidden, 2 * config.latent)
        self.decoder = nn.Linear(config.latent + hidden, 4 * hidden)
        if config.attention:
            self.encoder = nn.Linear(2 * spec.channels * config.read**2 + 2 * hidden, 4 * hidden)
            self.read_head = nn.Linear(hidden, 5)
            self.write_head = nn.Linear(hidden, 5 + self.canvas_channels * config.write**2)
        else:
            self.encoder = nn.Linear(spec.size + 2 * hidden, 4 * hidden)
            self.encoder_image = nn.Linear(spec.size, 4 * hidden, bias=False)  # of x, which no step changes: once per image
            reorder_drawn_gates(self.encoder_image, hidden)
            self.write_head = nn.Linear(hidden, self.canvas.numel())
        if condition_spec is not None:
            self.condition = global_projection(condition_spec, 8 * hidden)
            reorder_drawn_gates(self.condition, hidden)
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Recurrent weights orthogonal, forget gates open; each filter as wide as its share of the image, windows steady, strokes small.

        These, at a learning rate of 1e-2 with cosine decay, are what 300 steps on MNIST were tuned with.
        """
        hidden = self.config.hidden
        for lstm in (self.encoder, self.decoder):
            inputs = lstm.in_features - (2 if lstm is self.encoder else 1) * hidden
            nn.init.normal_(lstm.weight[:, :inputs], std=inputs**-0.5)
            for gate in lstm.weight[:, inputs:].split(hidden):
                for square in gate.split(hidden, dim=1):
                    nn.init.orthogonal_(square)
            nn.init.zeros_(lstm.bias)
            reorder_drawn_gates(lstm, hidden)
            lstm.bias[hidden : 2 * hidden] = 1.0
        for name in ("posterior_head", "read_head", "write_head"):
            if hasattr(self, name):
                nn.init.zeros_(getattr(self, name).bias)
        if self.config.attention:
            side = max(self.spec.height, self.spec.width)
            self.read_head.bias[2] = 2 * math.log(side / self.config.read / 2)
            self.read_head.bias[4] = 1.0
            self.write_head.bias[2] = 2 * math.log(side / self.config.write / 2)
            self.write_head.bias[4] = -2 * math.log(side / self.config.write)
            self.read_head.weight *= 0.3
        self.write_head.weight *= 0.3

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> DRAWConfig:
        """Sizes by name.

        name: "tiny" (tests), "small" (a laptop), a row of the paper's table ("mnist", "svhn" or "cifar-10"), or "paper": "mnist" for grey,
            "cifar-10" for colour.
        spec: of the images; a preset's windows are cut to their longer side.
        overrides: options of the config that replace the preset's.

        Raises ``ValueError`` for an unknown name or option, and for an override that gives a window larger than the image.
        """
        side = max(spec.height, spec.width)
        rows = {
            "tiny": dict(steps=4, latent=4, hidden=16, read=3, write=3),
            "small": dict(steps=10, latent=10, hidden=256, read=5, write=5),
            "paper": TABLE["mnist" if spec.channels == 1 else "cifar-10"],
            **TABLE,
        }
        cut = {size: {k: min(v, side) if k in ("read", "write") else v for k, v in row.items()} for size, row in rows.items()}
        config = choose(DRAWConfig, name, overrides, **cut)
        _check_windows(spec, config)
        return config

    @property
    def bernoulli(self) -> bool:
        return self.spec.levels == 2 or self.config.likelihood == "cross-entropy"

    @property
    def has_likelihood(self) -> bool:
        return self.spec.levels == 2 or self.config.likelihood == "exact"

    def upgrade(self, tensors: dict[str, Tensor], saved_format: int) -> None:
        if saved_format == 1:
            reorder_gates_of_format_1(self, ("encoder", "encoder_image", "decoder", "condition"), self.config.hidden, tensors)

    # ── one step ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def init(self, batch: int, condition: ArrayLike | int | None = None) -> State:
        checked = self.check_condition(condition, batch)
        names = ("encoder", "encoder_cell", "decoder", "decoder_cell")
        memory: dict[str, Tensor] = dict(zip(names, self.start.unsqueeze(1).expand(4, batch, -1), strict=True))
        if checked is not None:
            gates = project(self.condition, checked, self.dtype)
            memory["encoder_gates"], memory["decoder_gates"] = (gates + torch.cat([self.encoder.bias, self.decoder.bias])).chunk(2, dim=1)
        state = State(self.canvas.expand(batch, *self.canvas.shape), checked, **memory)
        layers = ("encoder", "posterior_head", "decoder", "write_head", *(("read_head",) if self.config.attention else ()))
        state.shared = {name: Repeated(getattr(self, name), batch) for name in layers}
        return state

    def prior(self, state: State) -> Normal:
        return Normal.standard(state.canvas, self.config.latent)

    def look(self, state: State, x: Tensor) -> None:
        memory = state.memory
        if memory.get("image") is not x:
            self._prepare(state, x)
        decoder, unit = memory["decoder"], memory["unit"]
        error = unit - self.picture(state.canvas[:, :, : self.spec.channels])
        if self.config.attention:
            window = make_window(state.shared["read_head"](decoder), self.config.read, self.spec.height, self.spec.width)
            seen = window.read(torch.cat([unit, error], dim=2))
            glimpse = seen.flatten(1) * window.gamma
            look, miss = seen.detach().transpose(1, 2).chunk(2, dim=1)
            state.info = {"read_window": window.box, "read_rows": window.rows, "read_columns": window.columns}
            state.info |= {"read_gamma": window.gamma, "glimpse": look, "error_glimpse": miss}
        else:
            glimpse = error.flatten(1)
        inputs = torch.cat([glimpse, decoder, memory["encoder"]], dim=1)
        gates = state.shared["encoder"](inputs, memory["look_gates"])
        memory["encoder"], memory["encoder_cell"] = cell(gates, memory["encoder_cell"])

    def posterior(self, state: State) -> Normal:
        return Normal(*state.shared["posterior_head"](state.memory["encoder"]).chunk(2, dim=1))

    def write(self, state: State, z: Tensor) -> dict[str, Tensor]:
        memory, info = state.memory, {}
        inputs = torch.cat([z, memory["decoder"]], dim=1)
        gates = state.shared["decoder"](inputs, memory.get("decoder_gates"))
        memory["decoder"], memory["decoder_cell"] = cell(gates, memory["decoder_cell"])
        head = state.shared["write_head"](memory["decoder"])
        if self.config.attention:
            n = self.config.write
            window = make_window(head[:, :5], n, self.spec.height, self.spec.width)
            patch = head[:, 5:] / window.gamma
            stroke = window.write(patch.view(-1, n, self.canvas_channels, n))
            info = {"write_window": window.box}
        else:
            stroke = head.view(state.canvas.shape)
        state.canvas = state.canvas + stroke
        state.t += 1
        return info

    def _prepare(self, state: State, x: Tensor) -> None:
        """What the encoder needs of x and no step changes."""
        memory = state.memory
        memory["image"] = x
        memory["unit"] = (x.transpose(1, 2).to(self.dtype) / (self.spec.levels - 1)).contiguous()
        memory["look_gates"] = memory.get("encoder_gates", self.encoder.bias.expand(len(x), -1))
        if not self.config.attention:
            memory["look_gates"] = torch.addmm(memory["look_gates"], memory["unit"].flatten(1), self.encoder_image.weight.t())

    # ── the canvas ───────────────────────────────────────────────────────────────────────────────────────────────────

    def pixels(self, state: State) -> Tensor:
        return state.canvas.transpose(1, 2)

    def distribution(self, state: State) -> JointDistribution:
        self.require_likelihood()
        return super().distribution(state)

    def reconstruction(self, state: State, x: Tensor) -> Tensor:
        if self.has_likelihood:
            return super().reconstruction(state, x)
        unit = x.to(self.dtype) / (self.spec.levels - 1)
        return -in_float64(F.binary_cross_entropy_with_logits(self.drawn(state), unit, reduction="none")).flatten(1).sum(1)

    @torch.no_grad()
    def initialise(self, x: Tensor, condition: Tensor | None = None) -> None:
        """The initial canvas becomes the mean of images x."""
        self.canvas.copy_(as_like(self.mean_canvas(x).transpose(0, 1), self.canvas))
        self.initialised.fill_(True)


def _check_windows(spec: ImageSpec, config: DRAWConfig) -> None:
    """``ValueError`` naming the option that is wrong, or does not fit the image."""
    check_config(config, spec)
    side = max(spec.height, spec.width)
    for name in ("read", "write"):
        value = getattr(config, name)
        if config.attention and value > side:
            have = f"an image of {spec.height}x{spec.width}"
            raise ValueError(f"draw: {name}={value} filters do not fit {have}; at most {side}, or attention=False for no windows at all")
    if config.likelihood not in ("exact", "cross-entropy"):
        raise ValueError(f"draw: likelihood must be 'exact' or 'cross-entropy', got {config.likelihood!r}")
