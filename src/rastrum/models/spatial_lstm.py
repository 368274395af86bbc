"""RIDE: a spatial LSTM with a mixture of conditional Gaussian scale mixtures (Theis & Bethge 2015, "Generative Image Modeling Using
Spatial LSTMs"), and that mixture alone, its baseline (``recurrent=False``).

    pixels before (i, j), n x n ──whiten──▶ v ──▶ spatial LSTM, 1 … L layers ──▶ h ──▶ MCGSM ──▶ p(x_ij | x_<ij)
                                                  ▲ h, c of (i, j−1) and (i−1, j)      ▲ earlier channels of the pixel

    [o, f, u, i] = σ(…), g = tanh(T [v; h(i, j−1); h(i−1, j)] + b)                 (equations 6, 7; two forget gates, f and u)
    c_ij = f ⊙ c(i, j−1) + u ⊙ c(i−1, j) + i ⊙ g,   h_ij = tanh(o ⊙ c_ij)         (equation 6)
    p(x_ij | x_<ij) = the factorised MCGSM of h_ij                                 (equations 3 to 5; ``layers/mcgsm.py``)

Whitening (``layers/whitening.py``) is fitted by ``initialise``; the mixture speaks of the whitened pixel e = (x − prediction) / σ, and its
means and scales here are those of x itself, which is where the log-Jacobian goes. Outside the image: zeros, and learned h and c. The next
layer reads the h of the one below at the same pixel. Colour: one MCGSM a channel, which reads h and the earlier channels' e.

Two likelihoods from the same Gaussians, means and scales on [−1, 1]:
- discretised, ``distribution``: a level takes the mass of its bin. What log_prob, samples and files use; levels without noise as context.
- continuous, ``log_density``: of real-valued images, as the paper scores; a level v is the interval [v, v + 1). With ``dequantise`` it is
  what training maximises, on images with uniform noise added. For one value given the same past its log is, on average over the noise of
  that value, no more than the discretised one (Jensen); of a whole image not so, for there the past has noise in one and none in the other.

All layers learn at once, or ``in_turn`` (section 3.2): ``progress`` says how far training is, and the layer whose turn it is learns, with
the mixture, on top of fixed ones, those above it taking no part yet. A layer that waits begins as nearly a copy of the one below as its
cell allows, so that the mixture goes on from what it knows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..distributions import GaussianMixture
from ..layers.causal import CausalConvolution
from ..layers.condition import Condition, ConditionProjection
from ..layers.mcgsm import MCGSM, exact_exp
from ..layers.recurrent import SPATIAL, DiagonalScan
from ..layers.whitening import Whitening
from ..program.builder import Head, Program, View
from ..protocol import ArrayLike, ConditionSpec, Distribution, ImageSpec, as_tensor, check_condition
from ..raster import RasterModel
from .context import raster_context
from .presets import check_config, choose


@dataclass(frozen=True, kw_only=True)
class SpatialLSTMConfig:
    recurrent: bool = True         # False: the MCGSM alone, of the whitened patch
    layers: int = 1                # only with recurrent
    units: int = 64                # only with recurrent
    in_turn: bool = False          # train layer by layer, each for its share of the training, as the paper does; else all at once
    neighbourhood: int = 5
    components: int = 32
    scales: int = 4
    features: int = 32
    dequantise: bool = True        # train the density of images with uniform noise, else the levels' own probability


class Layer(nn.Module):
    """v or h of the layer below (B, H, W, I) → h (B, H, W, n)."""

    def __init__(self, inputs: int, units: int, condition_size: int) -> None:
        super().__init__()
        self.units = units
        self.input_to_state = CausalConvolution(inputs, 5 * units, centre="through")
        self.condition = ConditionProjection(condition_size, 5 * units)
        self.state_to_state = DiagonalScan(units, cell=SPATIAL)
        # Two forget gates of one half would keep all of the past, and every path to it: begin with less, and the new content in view.
        assert self.input_to_state.bias is not None
        with torch.no_grad():
            self.input_to_state.bias.add_(torch.tensor([1.0, -1.0, -1.0, 1.0, 0.0]).repeat_interleave(units))

    @torch.no_grad()
    def copy_input(self) -> None:
        """Begin with h near x, which has as many numbers: gates open to it and shut to the past, g = tanh(x)."""
        weight, bias, units = self.input_to_state.weights[0], self.input_to_state.bias, self.units
        assert bias is not None and weight.shape == (units, 5 * units)
        weight[:, 4 * units :] = torch.eye(units)
        bias.copy_(torch.tensor([3.0, -3.0, -3.0, 3.0, 0.0]).repeat_interleave(units))

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self.state_to_state(self.input_to_state(x, self.condition(condition)))

    def lower(self, program: Program, x: View, condition: View | None) -> View:
        """x: a map of the pixel phases; call it in the phase of the first channel."""
        scan, (beside, above) = self.state_to_state, self.state_to_state.weights
        h, c = program.map(self.units, initial=scan.first_h), program.map(self.units, initial=scan.first_c)
        condition = self.condition.lower(program, condition)
        with program.phase("row"):
            gates = program.linear(h, above, self.input_to_state.bias, condition)  # h is still that of the finished row
        gates = program.linear(x, self.input_to_state.weights[0], initial=gates)
        program.linear(h.window(-1, -1), beside, initial=gates, destination=gates)
        program.append("spatial_lstm", gates, h, c.window(-1, 0))         # columns j − 1 and j: the cells to the left and above
        return h


class SpatialLSTM(RasterModel):
    name = "spatial-lstm"
    config_class = SpatialLSTMConfig
    initialised: Tensor
    active: Tensor

    def __init__(self, spec: ImageSpec, config: SpatialLSTMConfig, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__(spec, condition_spec)
        check_config(config, spec, kernels=("neighbourhood",))
        if condition_spec is not None and not config.recurrent:
            raise ValueError(f"condition: the mixture alone (recurrent=False) has none, got kind {condition_spec.kind!r}")
        self.config = config
        self.groups = channels = spec.channels
        self.whitening = Whitening(channels, config.neighbourhood)
        sizes = [self.whitening.numbers, *([config.units] * config.layers if config.recurrent else ())]
        self.condition = Condition(condition_spec, spec)
        self.layers = nn.ModuleList(Layer(inputs, units, self.condition.size) for inputs, units in pairwise(sizes))
        self.mixtures = nn.ModuleList(
            MCGSM(sizes[-1] + channel, config.components, config.scales, config.features) for channel in range(channels)
        )
        self.register_buffer("initialised", torch.tensor(False))
        self.register_buffer("active", torch.tensor(min(len(self.layers), 1) if config.in_turn else len(self.layers)))   # layers in use
        if config.in_turn:
            for layer in list(self.layers)[1:]:
                assert isinstance(layer, Layer)
                layer.copy_input()

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> SpatialLSTMConfig:
        return choose(
            SpatialLSTMConfig,
            name,
            overrides,
            tiny=dict(units=6, components=3, scales=2, features=4, neighbourhood=3),
            small=dict(units=32, components=8, scales=4, features=16),
            paper=dict(),
        )

    # ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    def initialise(self, x: Tensor, condition: Tensor | None = None) -> None:
        """Fits the whitening to images x (B, C, H, W)."""
        self.whitening.fit(self.spec.scale(x, torch.float64).permute(0, 2, 3, 1), least=1 / (self.spec.levels - 1))
        self.initialised.fill_(True)

    def progress(self, fraction: float) -> float:
        """In turn, each of L layers has 1 / L of the training; → the fraction done of that part. No layer in use is ever dropped again."""
        count = len(self.layers)
        if not self.config.in_turn or count == 0:
            return fraction
        stage = min(count - 1, int(fraction * count))
        self.active.clamp_(min=stage + 1)
        return fraction * count - stage

    def loss(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """What training minimises, of levels x (B, C, H, W): (B,) nats."""
        if not self.config.dequantise:
            return -self.log_prob_map(x, condition).flatten(1).sum(1)
        noise = torch.rand(x.shape, dtype=self.dtype, device=x.device)
        return -self.log_density_map(x + noise, condition).flatten(1).sum(1)

    # ── likelihoods ──────────────────────────────────────────────────────────────────────────────────────────────────

    def gaussians(self, x: Tensor, condition: Tensor | None) -> GaussianMixture:
        """x (B, C, H, W) scaled to [−1, 1] → the mixture of every value given those before it, batch shape (B, C, H, W)."""
        h, prediction, e = self.whitening(x.permute(0, 2, 3, 1))
        condition = self.condition(condition, self.dtype)
        for place, layer in enumerate(self._layers()):
            h = layer(h.detach() if self.config.in_turn and self.training and place else h, condition)
        parts: list[tuple[Tensor, ...]] = []
        for channel, mixture in enumerate(self.mixtures):
            logits, means, log_scales = mixture(torch.cat([h, e[..., :channel]], -1) if channel else h)
            unit = self.whitening.log_deviation[channel]
            means = prediction[..., channel, None] + unit.exp() * means
            parts.append((logits, means, (unit + log_scales).expand_as(means)))
        return GaussianMixture(*(torch.stack(part, 1) for part in zip(*parts, strict=True)), levels=self.spec.levels)

    def distribution(self, x: Tensor, condition: Tensor | None = None) -> GaussianMixture:
        return self.gaussians(self.spec.scale(x, self.dtype), condition)

    def log_density_map(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """Nats of each real value of y (B, C, H, W), in units of a level, a level v being [v, v + 1): (B, C, H, W)."""
        scaled = self.spec.scale(y - 0.5, self.dtype)
        return self.gaussians(scaled, condition).log_density(scaled) - math.log((self.spec.levels - 1) / 2)

    def log_density(self, y: ArrayLike, condition: ArrayLike | int | None = None) -> Tensor:
        """Nats of each real-valued image y (B, C, H, W), from 0 to ``levels``: (B,) float64, a log-density per level.

        The paper's score in bits a pixel is this / (H W ln 2) on levels with uniform noise added, and higher is better.
        Raises ``ValueError`` for images of another shape, and for a value that is no number from 0 to ``levels``.
        """
        y = as_tensor("images", y).to(self.device)
        if y.shape[1:] != torch.Size(self.spec.shape):
            raise ValueError(f"images: expected shape (batch, {', '.join(map(str, self.spec.shape))}), got {tuple(y.shape)}")
        if (wrong := y[~((y >= 0) & (y <= self.spec.levels))]).numel():
            raise ValueError(f"images: expected values from 0 to {self.spec.levels}, got {wrong[0].item()}; levels, and noise of [0, 1)")
        condition = check_condition(self.condition_spec, condition, len(y), self.device)
        return self.log_density_map(y.to(self.dtype), condition).double().flatten(1).sum(1)

    # ── the step ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _layers(self) -> list[Any]:
        return list(self.layers)[: int(self.active)]

    def lower(self, program: Program) -> None:
        x, channels = program.values(), self.spec.channels
        prediction = self.whitening.prediction.lower(program, x)
        with program.phase("channel", 0):
            h = self.whitening.patch.lower(program, x)
            for layer in self._layers():
                h = layer.lower(program, h, self.condition.lower(program))
            if channels > 1:                                              # beside h the e of the channels as they become known
                alone, h = h, program.map(h.size + channels - 1)
                program.append("copy", alone, View(h.buffer, 0, alone.size))
        first = h.size - (channels - 1)
        for channel, mixture in enumerate(self.mixtures):
            assert isinstance(mixture, MCGSM)
            with program.phase("channel", channel):
                if channel:
                    before = channel - 1
                    unit = exact_exp(-self.whitening.log_deviation[before]).to(self.whitening.log_deviation).view(1, 1)
                    less = program.linear(prediction.part(before, channels), -torch.ones_like(unit), initial=x.part(before, channels))
                    program.linear(less, unit, destination=View(h.buffer, first + before, 1))
                seen, base = View(h.buffer, 0, first + channel), prediction.part(channel, channels)
                program.output(channel, mixture.lower(program, seen, base, self.whitening.log_deviation[channel]))
        program.head = Head("gaussian", self.config.components * self.config.scales)

    def head(self, parameters: Tensor, x: Tensor, index: int, previous: Distribution | None) -> GaussianMixture:
        return GaussianMixture(*parameters.double().chunk(3, -1), levels=self.spec.levels)

    def context(self) -> Tensor:
        """Recurrent: everything to the left and above, as far right as the neighbourhood reaches; else the neighbourhood."""
        spec, reach = self.spec, self.config.neighbourhood // 2
        rows, left = (spec.height, spec.width) if self.config.recurrent else (reach, reach)
        return raster_context(spec, rows, [left] * (rows + 1), [reach] * (rows + 1))
