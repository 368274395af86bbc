"""Sequential generative model that generalises from one example: strokes on a hidden canvas, through spatial transformers.

Source: Rezende, Mohamed, Danihelka, Gregor, Wierstra, "One-Shot Generalization in Deep Generative Models", 2016.

    x ────────────────▶ read through W_r(h_{t−1}) ─▶ encoder LSTM ─▶ q(z | s_t)
    c_{t−1} ─────────────▶ the same window ────┘          ▲              │ z ~ N(0, I) in sampling, the encoder does not run
    exemplars x'_1 … x'_k ─▶ read through W_v(h_{t−1}) ─▶ v_t ──┐        ▼
                                                                └─▶ decoder LSTM ─▶ h_t ─▶ patch, W_w ─▶ c_t … c_T ─▶ f_o ─▶ p(x | c_T)

    z_t ~ N(0, I)                                      (1)      c_t = f_c(c_{t−1}, w(h_t))                              (5)
    v_t = f_v(x', h_{t−1})                             (2)      x ~ p(x | f_o(c_T))                                     (6)
    s_t = LSTM_e([r(x, c_{t−1}), h_{t−1}, v_t], s)     (3)      z_t ~ q(z | s_t) = N(μ(s_t), σ(s_t))                    (7)
    h_t = LSTM_d([z_t, v_t], h_{t−1})                  (4)      L = −log p(x | c_T) + Σ_t KL(q(z_t) ‖ N(0, I))          (8)

Equations are numbered for this file, not as in the paper.
The canvas c has channels of its own; only f_o, two convolutions after the last stroke, turns them into pixels. w(h_t) is a patch that the
inverse of the window's affine map lays on the canvas (``layers/spatial_transformer.py``), after the LSTM has moved, so that z_T reaches
the canvas too. f_c adds it (``update="additive"``), or is a convolutional GRU (``update="gru"``):

    u, r = σ(K_ur * [c, w]);    c ← (1 − u) ⊙ c + u ⊙ tanh(K_c * [r ⊙ c, w])                                            (9)

Exemplars are other images of the same thing, never x itself, as a spatial map with slots for up to k of them (``exemplars.py``). All are
read at every step, by generator and inference alike, through one window chosen by h_{t−1}; with a summary g by convolutions they give

    e_j = relu(E·glimpse_j + G·g_j);    v_t = Σ_j a_j e_j,    a = softmax_j(⟨Q h_{t−1}, K e_j⟩/√F)                      (10)

over the exemplars and a learned vector e_0, "no exemplar", all there is where every slot is empty. ``combine="mean"`` is the baseline: the
mean of the e_j, or e_0. A class or a vector takes the place of v_t.

What differs from the paper:
- It conditions on one exemplar; a set, attention over it and the summary g are ours.
- The encoder is an LSTM of its own, and reads the hidden canvas through the same window as x.
- For more than 2 levels p(x | c_T) is a discretised logistic per value, so that bits are exact.
- Pixels start from the mean image of the data, windows from the whole image, strokes small.
- The presets' sizes are ours; "paper" has 80 steps and LSTMs of 400 units, as we recall the paper, which we could not check.

Dimensions: B batch · k slots · C channels of x, K of the canvas · H, W image · P side of a patch · S size of an LSTM · F features.
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
from ..devices import as_like
from ..exemplars import exemplars_in, slots_of
from ..latents import Normal
from ..layers.condition import global_projection, project
from ..layers.convolutional import convolution, to_blocks
from ..layers.dense import Repeated
from ..layers.lstm import cell
from ..layers.spatial_transformer import PARAMETERS, AffineWindow
from ..protocol import ArrayLike, ConditionSpec, ImageSpec
from .pixel_canvas import PixelCanvas
from .presets import check_config, choose

REPEATED = ("read_window", "see", "encoder", "posterior_head", "decoder", "write_window", "patch")      # layers of every step
STRIDE = 2                     # of each of the two convolutions of an exemplar's summary


@dataclass(frozen=True, kw_only=True)
class OneShotConfig:
    """Sizes of a sequential generative model.

    steps: strokes, T.
    latent: components of z.
    hidden: size of each LSTM.
    features: of a glimpse, of an exemplar, and channels of f_o.
    canvas: channels of the hidden canvas.
    read, write: side of the patches that are read and written.
    kernel: side of the convolutions, odd.
    update: how the canvas takes a stroke, "additive" or "gru".
    combine: how exemplars are combined, by "attention" or their "mean".
    """

    steps: int = 80
    latent: int = 16
    hidden: int = 400
    features: int = 128
    canvas: int = 16
    read: int = 14
    write: int = 14
    kernel: int = 3
    update: Literal["additive", "gru"] = "gru"
    combine: Literal["attention", "mean"] = "attention"


class OneShot(PixelCanvas):
    """Sequential generative model of Rezende et al.

    spec: of the images.
    config: sizes.
    condition_spec: of a spatial map, (k·C, h, w): up to k exemplars; or of a class or a vector; None (default) = unconditional.

    State: hidden canvas (B, K, H, W); memory: ``encoder``, ``decoder`` and their cells, each (B, S); with exemplars ``slots``
    (B, k·C, h, w), ``present`` (B, k) and ``summary`` (B, k, F), with another condition ``context`` (B, F).
    """

    name = "one-shot"
    config_class = OneShotConfig
    paper = Paper("One-Shot Generalization in Deep Generative Models", "Rezende, Mohamed, Danihelka, Gregor, Wierstra", 2016)
    config: OneShotConfig

    def __init__(self, spec: ImageSpec, config: OneShotConfig, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__(spec, config, condition_spec)
        _check_sizes(spec, config)
        self.steps = config.steps
        hidden, features, canvas, kernel = config.hidden, config.features, config.canvas, config.kernel
        context = 0 if condition_spec is None else features
        self.mean = nn.Parameter(torch.zeros(self.halves * spec.channels, spec.height, spec.width))
        self.canvas = nn.Parameter(torch.zeros(canvas, spec.height, spec.width))
        self.start = nn.Parameter(torch.zeros(4, hidden))                 # encoder, its cell, decoder, its cell
        self.read_window, self.write_window = nn.Linear(hidden, PARAMETERS), nn.Linear(hidden, PARAMETERS)
        self.see = nn.Linear((spec.channels + canvas) * config.read**2, features)
        self.encoder = nn.Linear(features + 2 * hidden + context, 4 * hidden)
        self.posterior_head = nn.Linear(hidden, 2 * config.latent)
        self.decoder = nn.Linear(config.latent + hidden + context, 4 * hidden)
        self.patch = nn.Linear(hidden, canvas * config.write**2)
        if config.update == "gru":
            self.gates, self.candidate = convolution(2 * canvas, 2 * canvas, kernel), convolution(2 * canvas, canvas, kernel)
        self.output = nn.ModuleList([convolution(canvas, features, kernel), last := convolution(features, len(self.mean), kernel)])
        if condition_spec is not None and condition_spec.kind == "map":
            self.slots = slots_of(condition_spec, spec.channels)
            assert isinstance(condition_spec.size, tuple)
            blocks = math.prod(-(-side // STRIDE**2) for side in condition_spec.size[1:])
            self.exemplar_window = nn.Linear(hidden, PARAMETERS)
            self.exemplar_glimpse = nn.Linear(spec.channels * config.read**2, features)
            self.summarise = nn.ModuleList([convolution(spec.channels * STRIDE**2, features // 8 + 1, 3),
                                            convolution((features // 8 + 1) * STRIDE**2, features // 4 + 1, 3)])  # fmt: skip
            self.summary = nn.Linear((features // 4 + 1) * blocks, features, bias=False)
            self.no_exemplar = nn.Parameter(torch.zeros(features))
            if config.combine == "attention":
                self.query, self.key = nn.Linear(hidden, features), nn.Linear(features, features)
        elif condition_spec is not None:
            self.condition = global_projection(condition_spec, features)
        self.reset()
        with torch.no_grad():
            last.weight[spec.channels :] *= 0.1                           # log-scales, where there are any

    @torch.no_grad()
    def reset(self) -> None:
        """Recurrent weights orthogonal, forget gates open; windows begin at the whole image, and strokes small."""
        hidden = self.config.hidden
        for lstm in (self.encoder, self.decoder):
            nn.init.normal_(lstm.weight, std=(lstm.in_features - hidden) ** -0.5)
            for gate in lstm.weight[:, -hidden:].split(hidden):
                nn.init.orthogonal_(gate)
            nn.init.zeros_(lstm.bias)
            lstm.bias[hidden : 2 * hidden] = 1.0                          # gates are [o f i g]
        for head in (self.read_window, self.write_window, getattr(self, "exemplar_window", None)):
            if head is not None:
                head.weight *= 0.3
                nn.init.zeros_(head.bias)
        nn.init.zeros_(self.posterior_head.bias)
        nn.init.zeros_(self.patch.bias)

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> OneShotConfig:
        """Sizes by name: "tiny" (tests), "small" (one core of a laptop) or "paper".

        name: one of these.
        spec: of the images; patches are half as large as their longer side, at most 14 pixels ("tiny": 4).
        overrides: options of the config that replace the preset's.

        Raises ``ValueError`` for an unknown name or option, and for a patch that is larger than the image.
        """
        half = -(-max(spec.height, spec.width) // 2)
        config = choose(
            OneShotConfig,
            name,
            overrides,
            tiny=dict(steps=3, latent=3, hidden=12, features=8, canvas=2, read=min(4, half), write=min(4, half), update="additive"),
            small=dict(steps=10, latent=16, hidden=192, canvas=6, read=min(14, half), write=min(14, half), features=96, update="additive"),
            paper=dict(read=min(14, half), write=min(14, half)),
        )
        _check_sizes(spec, config)
        return config

    # ── one step ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def init(self, batch: int, condition: ArrayLike | int | None = None) -> State:
        checked = self.check_condition(condition, batch)
        names = ("encoder", "encoder_cell", "decoder", "decoder_cell")
        memory: dict[str, Tensor] = dict(zip(names, self.start.unsqueeze(1).expand(4, batch, -1), strict=True))
        if self.slots and checked is not None:
            slots, present = exemplars_in(checked.to(self.dtype), self.spec.channels)
            slots = torch.where(present[..., None, None, None], slots, 0)
            memory |= {"slots": slots.flatten(1, 2), "present": present, "summary": self._summary(slots)}
        elif checked is not None:
            memory["context"] = project(self.condition, checked, self.dtype)
        state = State(self.canvas.expand(batch, *self.canvas.shape), checked, **memory)
        state.shared = {name: Repeated(getattr(self, name), batch) for name in REPEATED}
        return state

    def prior(self, state: State) -> Normal:
        return Normal.standard(state.canvas, self.config.latent)

    def look(self, state: State, x: Tensor) -> None:
        memory, spec, side, layers = state.memory, self.spec, self.config.read, state.shared
        window = AffineWindow.of(layers["read_window"](memory["decoder"]))
        glimpse = window.read(torch.cat([x.to(self.dtype) / (spec.levels - 1), state.canvas], dim=1), side)
        seen = F.relu(layers["see"](glimpse.flatten(1)))
        state.info = {"read_window": window.box(spec.height, spec.width), "glimpse": glimpse[:, : spec.channels].detach()}
        inputs = [seen, *self._context(state), memory["decoder"], memory["encoder"]]
        memory["encoder"], memory["encoder_cell"] = cell(layers["encoder"](torch.cat(inputs, dim=1)), memory["encoder_cell"])

    def posterior(self, state: State) -> Normal:
        return Normal(*state.shared["posterior_head"](state.memory["encoder"]).chunk(2, dim=1))

    def write(self, state: State, z: Tensor) -> dict[str, Tensor]:
        memory, spec, side, layers = state.memory, self.spec, self.config.write, state.shared
        inputs = [z, *self._context(state), memory["decoder"]]
        memory["decoder"], memory["decoder_cell"] = cell(layers["decoder"](torch.cat(inputs, dim=1)), memory["decoder_cell"])
        window = AffineWindow.of(layers["write_window"](memory["decoder"]))
        patch = layers["patch"](memory["decoder"]).view(-1, self.config.canvas, side, side)
        state.canvas = self._update(state.canvas, window.write(patch, spec.height, spec.width))
        state.t += 1
        if self.slots:
            memory.pop("context")                                         # h has moved
        return {"write_window": window.box(spec.height, spec.width)}

    def _update(self, canvas: Tensor, stroke: Tensor) -> Tensor:
        if self.config.update == "additive":
            return canvas + stroke
        update, reset = torch.sigmoid(self.gates(torch.cat([canvas, stroke], dim=1))).chunk(2, dim=1)
        return torch.lerp(canvas, torch.tanh(self.candidate(torch.cat([reset * canvas, stroke], dim=1))), update)

    # ── exemplars ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _context(self, state: State) -> list[Tensor]:
        """v_t (B, F), made once a step; nothing for an unconditional model."""
        if self.condition_spec is None:
            return []
        memory = state.memory
        if "context" not in memory:
            memory["context"] = self._attend(memory)
        return [memory["context"]]

    def _attend(self, memory: dict[str, Tensor]) -> Tensor:
        window = AffineWindow.of(self.exemplar_window(memory["decoder"]))
        glimpses = window.read(memory["slots"], self.config.read).unflatten(1, (self.slots, -1)).flatten(2)
        seen = F.relu(self.exemplar_glimpse(glimpses) + memory["summary"])                              # (B, k, F)
        none = self.no_exemplar.expand(len(seen), 1, -1)
        if self.config.combine == "mean":
            weights = memory["present"].to(seen.dtype)
            weights = weights / weights.sum(1, keepdim=True).clamp(min=1)
            return torch.where(memory["present"].any(1, keepdim=True), (weights[..., None] * seen).sum(1), none[:, 0])
        choices = torch.cat([none, seen], dim=1)
        scores = (self.key(choices) @ self.query(memory["decoder"])[..., None]).squeeze(2) / math.sqrt(self.config.features)
        absent = F.pad(~memory["present"], (1, 0))                        # "no exemplar" is always there
        weights = torch.softmax(scores.masked_fill(absent, -math.inf), dim=1)
        return (weights[..., None] * choices).sum(1)

    def _summary(self, slots: Tensor) -> Tensor:
        """G·g of exemplars (B, k, C, h, w): (B, k, F)."""
        features = slots.flatten(0, 1)
        for layer in self.summarise:
            features = F.relu(layer(to_blocks(features, STRIDE)))
        return self.summary(features.flatten(1)).unflatten(0, slots.shape[:2])

    # ── the canvas ───────────────────────────────────────────────────────────────────────────────────────────────────

    def pixels(self, state: State) -> Tensor:
        first, last = self.output
        return self.mean + last(F.relu(first(state.canvas)))

    @torch.no_grad()
    def initialise(self, x: Tensor, condition: Tensor | None = None) -> None:
        """Pixels begin at the mean of images x."""
        self.mean.copy_(as_like(self.mean_canvas(x), self.mean))
        self.initialised.fill_(True)


def _check_sizes(spec: ImageSpec, config: OneShotConfig) -> None:
    """``ValueError`` naming the option that no model can have, or that does not fit the image."""
    check_config(config, spec)
    if config.kernel % 2 == 0:
        raise ValueError(f"kernel: expected an odd number, got {config.kernel}")
    side = max(spec.height, spec.width)
    for name in ("read", "write"):
        if getattr(config, name) > side:
            have = f"an image of {spec.height}x{spec.width}"
            raise ValueError(f"one-shot: a patch of {name}={getattr(config, name)} pixels does not fit {have}; at most {side}")
    if config.update not in ("additive", "gru"):
        raise ValueError(f"update: expected 'additive' or 'gru', got {config.update!r}")
    if config.combine not in ("attention", "mean"):
        raise ValueError(f"combine: expected 'attention' or 'mean', got {config.combine!r}")
