"""Convolutional DRAW: latents that are feature maps, stroke by stroke, ordered from what matters most to detail.

Source: Gregor, Besse, Rezende, Danihelka, Wierstra, "Towards Conceptual Compression", 2016.

             x ──┬─────────────▶ encoder ConvLSTM ─▶ q(z | h_e) ─▶ z ─▶ decoder ConvLSTM ─▶ r += W h_d ─▶ p(x | r_T)
                 ▼                ▲      ▲                          ▲          ▲    │
    r_{t−1} ─▶ ε = x − r_μ ───────┘      │      p(z | h_d_{t−1}) ───┘          │    │
                                         └───────────── h_d_{t−1} ◀── r_{t−1} ─┘ ◀──┘       sampling: z ~ p, the encoder does not run

    ε_t = x − r_μ                                      (1)      h_d = ConvLSTM_d(z, r, h_d)                            (5)
    h_e = ConvLSTM_e(x, ε, h_e, h_d)                   (2)      r_t = r_{t−1} + W h_d                                  (6)
    p(z | h_d): mean, log-sd, before h_d moves         (3)      L_x = −log p(x | r_T)                                  (7)
    z ~ q(z | h_e): mean, log-sd                       (4)      L = β·L_x + Σ_t KL(q ‖ p)                              (8)

Equations are numbered for this file, not as in the paper.
r has two halves, mean and log scale of one discretised logistic per value (levels lie in [−1, 1]); ε looks at the mean half only. For two
levels r is a logit and ε = x − σ(r). All convolutions work at 1/stride of the image's resolution; strided ones see blocks of pixels
(``layers.convolutional``). β weighs the training loss only, ``bound`` is the true one.

Two layers (or more): layer l has half the resolution of layer l − 1 and reads what lies below it, (1) and (2) with the encoder core below
instead of the image, (5) with the decoder core below instead of r. A step goes up once through the encoder cores, then down: the top
layer's z first; heads and decoder core of the next layer also see the new decoder core above. Each layer's z is one decision, so T steps
are T·layers decisions; the canvas changes at the last of a step, with ``skip`` at each.

``posterior="uniform"``: (4) becomes U(m − w/2, m + w/2), (3) a normal plus that uniform, w a third output of the prior's head; the KL is
then what a coder with shared dither pays (``rastrum.latents``), and images become files by it (``compression/conceptual.py``). A latent
whose width is many standard deviations of the prior is lost, since no mean moves in its box, and at w deviations costs about 1/w nats for
nothing: keep ``latent`` small, and let the weight of the KL rise slowly (``warm_up``), so that those are lost which say little.

What differs from the paper:
- The likelihood is a discretised logistic, so that bits are exact; its scale is its own half of r at every pixel. The paper's, as we recall
  it, is a Gaussian of pixels with uniform noise.
- Strided convolutions see blocks, so kernels on the image side are stride·kernel wide.
- The initial canvas is the mean and spread of the data; initial states are learned at every position, or once for all of them.
- While training warms up, the weight of the KL rises from a twentieth of β to 1, by equal factors: first the latents learn to carry all,
  then to leave out what costs more than it is worth. Without it they are slow to be used at all.
- ``skip``: posteriors also see ε itself, as it is when their z is drawn, and z also reaches the canvas, r += W h_d + V z, that of a layer
  above by V z alone. What is linear in the image then need not pass the LSTMs, and is learned in a fraction of the time.
- ``coupled``: channels of a pixel are not independent given the canvas (``distributions.CoupledLogistics``).
- How the layers of ``layers=2`` are connected is ours: of the paper's two-layer version we only recall that there is one.
- The preset "paper" is its network for CIFAR-10: 32 steps, 12 latent channels at half resolution, 320 features, 5x5; one layer.
- Uniform posteriors and conditions are ours.

Dimensions: B batch · C channels of x · h, w size of a layer · F features · Z channels of a latent · s stride.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from ..canvas import State
from ..card import Paper
from ..devices import as_like
from ..latents import DitheredNormal, Normal, Uniform
from ..layers.condition import global_projection, project
from ..layers.convolutional import ConvLSTM, Convolution, convolution, from_blocks, in_blocks, to_blocks
from ..layers.lstm import reorder_drawn_gates, reorder_gates_of_format_1
from ..program.builder import Program, StrokeMaps, View
from ..protocol import ArrayLike, ConditionSpec, ImageSpec
from .pixel_canvas import PixelCanvas
from .presets import check_config, choose


@dataclass(frozen=True, kw_only=True)
class ConvDRAWConfig:
    """Sizes of a convolutional DRAW.

    steps: T.
    layers: of latents, each at half the resolution of the one below.
    latent: channels of z in each layer.
    features: channels of each core.
    kernel: side of every convolution, odd.
    stride: pixels along a side of a position of the lowest layer.
    beta: weight of the reconstruction in the loss.
    warm_up: share of a training over which the weight of the KL in the loss rises to 1.
    positional: whether initial states and canvas are learned at every position; if not, they are the same everywhere, and the weights serve
        images of any size (``resized``).
    posterior: "normal", or "uniform" of learned width, whose KL a coder can reach.
    skip: whether convolutions of their own lead from the error to each layer's posterior, and from its latent to the canvas.
    coupled: whether the mean of a channel follows the earlier channels of its pixel, by learned coefficients.
    """

    steps: int = 32
    layers: int = 1
    latent: int = 12
    features: int = 320
    kernel: int = 5
    stride: int = 2
    beta: float = 1.0
    warm_up: float = 0.2
    positional: bool = True
    posterior: Literal["normal", "uniform"] = "normal"
    skip: bool = False
    coupled: bool = False


class ConvDRAW(PixelCanvas):
    """Convolutional DRAW.

    spec: of the images.
    config: sizes.
    condition_spec: of a class or a vector; None (default) = unconditional.

    State: canvas r as blocks (B, halves·C·s², h, w); memory of layer 0: ``encoder0``, ``encoder_cell0``, ``decoder0``, ``decoder_cell0``
    (B, F, h, w), and ``above0`` where there is a layer above; of layer 1 the same with 1.
    """

    name = "conv-draw"
    config_class = ConvDRAWConfig
    paper = Paper("Towards Conceptual Compression", "Gregor, Besse, Rezende, Danihelka, Wierstra", 2016)
    conditions = ("class", "vector")
    config: ConvDRAWConfig

    def __init__(self, spec: ImageSpec, config: ConvDRAWConfig, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__(spec, config, condition_spec)
        _check_sizes(spec, config)
        self.steps = config.steps * config.layers
        self.kl_weight = 1.0
        halves = self.halves
        features, kernel, blocks = config.features, config.kernel, spec.channels * config.stride**2
        self.canvas = nn.Parameter(torch.zeros(halves * spec.channels, *((spec.height, spec.width) if config.positional else (1, 1))))
        if config.coupled:
            self.coefficients = nn.Parameter(torch.zeros(spec.channels, spec.channels))
        self.write_head = convolution(features + (config.latent if config.skip else 0), halves * blocks, kernel, gain=0.1)
        layers = range(config.layers)
        self.start = nn.ParameterList()
        self.encoders, self.decoders, self.priors, self.posteriors, self.rises, self.skips = (nn.ModuleList() for _ in range(6))
        for layer in layers:
            size = self.size(layer) if config.positional else (1, 1)
            above = features if layer + 1 < config.layers else 0
            seen, drawn = (2 * blocks, halves * blocks) if layer == 0 else (4 * features, 4 * features)
            self.start.append(torch.zeros(4, features, *size))
            self.encoders.append(ConvLSTM(seen + features, features, kernel))
            self.decoders.append(ConvLSTM(config.latent + drawn + above, features, kernel))
            self.priors.append(convolution(features + above, (3 if self.uniform else 2) * config.latent, kernel, gain=0.1))
            looked = features + above + (blocks * 4**layer if config.skip else 0)
            self.posteriors.append(convolution(looked, (1 if self.uniform else 2) * config.latent, kernel, gain=3.0 * config.steps**-0.5))
            if above:
                self.rises.append(convolution(features, 4 * features, kernel))
            if config.skip and layer:
                self.skips.append(convolution(config.latent, halves * blocks * 4**layer, kernel, gain=0.1))
        if condition_spec is not None:
            self.condition = global_projection(condition_spec, 8 * features * config.layers)
            reorder_drawn_gates(self.condition, features)
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Scale the weights for the start of a training.

        Posteriors begin with a standard deviation near 1, uniform ones too, and a stroke hardly changes the scale half of the canvas.
        Encoders' outputs are small at first, hence the gain of the posteriors' heads; the KL grows with its square, and all steps together
        are to begin with the same. Weights are stored channels last, as convolutions on a CPU want them.
        """
        latent, pixels = self.config.latent, self.spec.channels * self.config.stride**2
        self.write_head.weight[pixels:] *= 0.1
        for name, parameter in self.named_parameters():
            if name.startswith("posteriors") and name.endswith("weight"):
                parameter[latent:] *= 0.1
            if self.uniform and name.startswith("priors") and name.endswith("bias"):
                parameter[2 * latent :] = 0.5 * math.log(12)
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> ConvDRAWConfig:
        """Sizes by name: "tiny" (tests), "small" (one core of a laptop), "paper" (its CIFAR-10 model).

        name: one of these.
        spec: of the images; ``stride`` is cut to their longer side.
        overrides: options of the config that replace the preset's.

        Raises ``ValueError`` for an unknown name or option, and for sizes that do not fit the image.
        """
        side = max(spec.height, spec.width)
        config = choose(
            ConvDRAWConfig,
            name,
            overrides,
            tiny=dict(steps=2, latent=2, features=6, kernel=3, stride=min(2, side)),
            small=dict(steps=8, latent=8, features=24, kernel=3, stride=min(2, side)),
            paper=dict(stride=min(2, side)),
        )
        _check_sizes(spec, config)
        return config

    @property
    def uniform(self) -> bool:
        """Whether posteriors are uniform."""
        return self.config.posterior == "uniform"

    def upgrade(self, tensors: dict[str, Tensor], saved_format: int) -> None:
        if saved_format == 1:
            reorder_gates_of_format_1(self, ("encoders", "decoders", "condition"), self.config.features, tensors)

    # ── one decision ─────────────────────────────────────────────────────────────────────────────────────────────────

    def layer(self, t: int) -> int:
        """The layer of decision ``t``: from the top one down to 0, step after step."""
        return self.config.layers - 1 - t % self.config.layers

    def size(self, layer: int) -> tuple[int, int]:
        """Rows and columns of the maps of a ``layer``."""
        side = self.config.stride * 2**layer
        return -(-self.spec.height // side), -(-self.spec.width // side)

    def init(self, batch: int, condition: ArrayLike | int | None = None) -> State:
        checked = self.check_condition(condition, batch)
        memory: dict[str, Tensor] = {}
        for layer in range(self.config.layers):
            for name, value in zip(("encoder", "encoder_cell", "decoder", "decoder_cell"), self._first(layer), strict=True):
                memory[f"{name}{layer}"] = value.expand(batch, *value.shape)
        if checked is not None:
            gates = project(self.condition, checked, self.dtype).chunk(2 * self.config.layers, dim=1)
            for layer in range(self.config.layers):
                memory[f"encoder_gates{layer}"], memory[f"decoder_gates{layer}"] = gates[2 * layer : 2 * layer + 2]
        return State(self._first_canvas().expand(batch, -1, -1, -1), checked, **memory)

    def _first(self, layer: int) -> Tensor:
        """The initial states of a layer: encoder and its cell, decoder and its cell, (4, F, h, w)."""
        return self.start[layer].expand(-1, -1, *self.size(layer))

    def _first_canvas(self) -> Tensor:
        """The initial canvas as blocks, (1, halves·C·s², h, w)."""
        return to_blocks(self.canvas.expand(1, -1, self.spec.height, self.spec.width), self.config.stride)

    def prior(self, state: State) -> Normal | DitheredNormal:
        head = self._expect(state).split(self.config.latent, dim=1)
        return DitheredNormal(*head) if self.uniform else Normal(*head)

    def look(self, state: State, x: Tensor) -> None:
        """Once a step: the encoder cores see the image and what is missing, from the lowest to the top one."""
        if state.t % self.config.layers:
            return
        memory = state.memory
        if memory.get("image") is not x:
            memory["image"], memory["levels"] = x, to_blocks(self._levels(x), self.config.stride)
        below = [memory["levels"], self._error(state)]
        for layer, encoder in enumerate(self.encoders):
            self._move(encoder, memory, "encoder", layer, [*below, memory[f"decoder{layer}"]])
            below = [to_blocks(memory[f"encoder{layer}"], 2)] if layer + 1 < self.config.layers else below

    def _error(self, state: State) -> Tensor:
        """What the canvas lacks of the image that was last looked at, as blocks."""
        levels = state.memory["levels"]
        mean = state.canvas[:, : levels.shape[1]]
        return levels - (torch.sigmoid(mean) if self.bernoulli else mean)

    def posterior(self, state: State) -> Normal | Uniform:
        layer, memory = self.layer(state.t), state.memory
        error = [to_blocks(self._error(state), 2**layer)] if self.config.skip else []
        head = self.posteriors[layer](*self._with_above(memory, "encoder", layer), *error).split(self.config.latent, dim=1)
        if not self.uniform:
            return Normal(*head)
        return Uniform(head[0], self._expect(state)[:, 2 * self.config.latent :])

    def write(self, state: State, z: Tensor) -> dict[str, Tensor]:
        layer, memory = self.layer(state.t), state.memory
        below = state.canvas if layer == 0 else to_blocks(memory[f"decoder{layer - 1}"], 2)
        above = [memory[f"above{layer}"]] if layer + 1 < self.config.layers else []
        self._move(self.decoders[layer], memory, "decoder", layer, [z, below, *above])
        if layer == 0:
            state.canvas = state.canvas + self.write_head(memory["decoder0"], *([z] if self.config.skip else []))
        else:
            height, width = memory[f"decoder{layer - 1}"].shape[2:]
            memory[f"above{layer - 1}"] = from_blocks(self.rises[layer - 1](memory[f"decoder{layer}"]), 2, height, width)
            if self.config.skip:
                state.canvas = state.canvas + from_blocks(self.skips[layer - 1](z), 2**layer, *state.canvas.shape[2:])
        memory.pop("expected", None)
        state.t += 1
        return {}

    def _move(self, core: nn.Module, memory: dict[str, Tensor], name: str, layer: int, inputs: list[Tensor]) -> None:
        h, cell, condition = (memory.get(f"{name}{part}{layer}") for part in ("", "_cell", "_gates"))
        memory[f"{name}{layer}"], memory[f"{name}_cell{layer}"] = core(inputs, h, cell, condition)

    def _expect(self, state: State) -> Tensor:
        """Output of the prior's head for decision t, (B, 2Z or 3Z, h, w), computed once."""
        memory = state.memory
        if "expected" not in memory:
            layer = self.layer(state.t)
            memory["expected"] = self.priors[layer](*self._with_above(memory, "decoder", layer))
        return memory["expected"]

    def _with_above(self, memory: dict[str, Tensor], name: str, layer: int) -> list[Tensor]:
        core = memory[f"{name}{layer}"]
        return [core, memory[f"above{layer}"]] if layer + 1 < self.config.layers else [core]

    # ── in exact arithmetic ──────────────────────────────────────────────────────────────────────────────────────────

    def lower_strokes(self, program: Program) -> StrokeMaps:
        config, layers = self.config, range(self.config.layers)
        heads, rises, skips = (cast(list[Convolution], list(each)) for each in (self.priors, self.rises, self.skips))
        decoders = cast(list[ConvLSTM], list(self.decoders))

        def maps(width: int, state: int | None = None) -> list[View]:
            """A map for each layer; ``state``: which of its initial states it begins with."""
            firsts = [None if state is None else start[state].movedim(0, -1) for start in self.start]
            return [program.whole_map(width, *self.size(layer), initial=first) for layer, first in enumerate(firsts)]

        latents, priors, above = maps(config.latent), maps(heads[0].out_channels), maps(config.features)
        h, cell = maps(config.features, 2), maps(config.features, 3)
        canvas = program.whole_map(self.write_head.out_channels, *self.size(0), initial=self._first_canvas()[0].movedim(0, -1))
        gates = self._lower_condition(program)

        def seen(layer: int) -> list[View]:
            return [above[layer]] if layer + 1 < config.layers else []

        def expect(layer: int) -> None:
            heads[layer].lower(program, [h[layer], *seen(layer)], None, priors[layer])

        order = [self.layer(t) for t in layers]
        with program.phase("start"):
            expect(order[0])
        for number, layer in enumerate(order):
            with program.phase("stroke", number):
                below = in_blocks(h[layer - 1], 2) if layer else canvas
                decoders[layer].lower(program, [latents[layer], below, *seen(layer)], h[layer], cell[layer], gates[layer])
                if layer:
                    rises[layer - 1].lower(program, [h[layer]], None, in_blocks(above[layer - 1], 2))
                    if config.skip:
                        finer = in_blocks(canvas, 2**layer)
                        skips[layer - 1].lower(program, [latents[layer]], finer, finer)
                else:
                    self.write_head.lower(program, [h[0], *([latents[0]] if config.skip else [])], canvas, canvas)
                expect(order[(number + 1) % config.layers])
        memory = {f"decoder{layer}": h[layer] for layer in layers} | {f"above{layer}": above[layer] for layer in layers[:-1]}
        return StrokeMaps([latents[layer] for layer in order], [priors[layer] for layer in order], canvas, memory)

    def _lower_condition(self, program: Program) -> Sequence[View | None]:
        """What the condition adds to the gates of each decoder core."""
        vector, parts = program.condition_vector(), 2 * self.config.layers
        if vector is None:
            return [None] * self.config.layers
        if isinstance(self.condition, nn.Linear):
            weight, bias = self.condition.weight.mT, self.condition.bias
        else:
            assert isinstance(self.condition, nn.Embedding)
            weight, bias = self.condition.weight, self.condition.weight.new_zeros(self.condition.embedding_dim)
        with program.phase("start"):
            each = zip(weight.chunk(parts, 1)[1::2], bias.chunk(parts)[1::2], strict=True)
            return [program.linear(vector, *layer) for layer in each]

    # ── the canvas ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _levels(self, x: Tensor) -> Tensor:
        """Levels x as values: 0 and 1, or −1 … 1."""
        unit = x.to(self.dtype) / (self.spec.levels - 1)
        return unit if self.bernoulli else 2 * unit - 1

    def pixels(self, state: State) -> Tensor:
        return from_blocks(state.canvas, self.config.stride, self.spec.height, self.spec.width)

    def loss(self, x: ArrayLike, condition: ArrayLike | int | None = None, seed: int | None = None) -> Tensor:
        """What training minimises, (B,): β·L_x + Σ KL, the KL less while training warms up; nats where both weights are 1."""
        x, condition = self._check(x, condition)
        return self.weigh(*self._terms(x, condition, seed, 0))

    def weigh(self, reconstruction: Tensor, kl: Tensor) -> Tensor:
        """The loss (B,) of reconstruction (B,) and KL of each stroke (B, steps), nats."""
        return self.kl_weight * kl.sum(1) - self.config.beta * reconstruction

    @property
    def loss_is_nats(self) -> bool:
        return self.kl_weight == 1.0 == self.config.beta

    def progress(self, fraction: float) -> float:
        left = 1 - fraction / self.config.warm_up if self.config.warm_up else 0.0
        self.kl_weight = (0.05 * self.config.beta) ** max(0.0, left)
        return fraction

    @torch.no_grad()
    def initialise(self, x: Tensor, condition: Tensor | None = None) -> None:
        """The initial canvas becomes the mean of images x, of all positions where they have one initial state."""
        x = x if self.config.positional else x.movedim(1, -1).flatten(0, 2)[..., None, None]
        self.canvas.copy_(as_like(self.mean_canvas(x), self.canvas))
        self.initialised.fill_(True)


def _check_sizes(spec: ImageSpec, config: ConvDRAWConfig) -> None:
    """``ValueError`` naming the option that no model can have, or that does not fit the image."""
    check_config(config, spec)
    if config.kernel % 2 == 0:
        raise ValueError(f"kernel: expected an odd number, got {config.kernel}")
    side = max(spec.height, spec.width)
    if config.positional and config.stride > side:                        # others fill up what a block lacks
        raise ValueError(f"stride: {config.stride} pixels are more than an image of {spec.height}x{spec.width} has; at most {side}")
    if not 0 < config.beta < math.inf:
        raise ValueError(f"beta: expected a number above 0, got {config.beta!r}")
    if not 0 <= config.warm_up < 1:
        raise ValueError(f"warm_up: expected a share of the training from 0 to below 1, got {config.warm_up!r}")
    if config.coupled and spec.levels == 2:
        raise ValueError("coupled: channels of two levels have no mean that could follow others; leave it off")
    if config.posterior not in ("normal", "uniform"):
        raise ValueError(f"posterior: expected 'normal' or 'uniform', got {config.posterior!r}")
