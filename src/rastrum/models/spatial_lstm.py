"""RIDE: a spatial LSTM with a mixture of conditional Gaussian scale mixtures (Theis & Bethge 2015, "Generative Image Modeling Using
Spatial LSTMs"), and that mixture alone, its baseline (``recurrent=False``).

    pixels before (i, j), n x n ──whiten──▶ v ──▶ spatial LSTM, 1 … L layers ──▶ h ──▶ MCGSM ──▶ p(x_ij | x_<ij)
                                                  ▲ h, c of (i, j−1) and (i−1, j)      ▲ earlier channels of the pixel

    [o, f, u, i] = σ(…), g = tanh(T [v; h(i, j−1); h(i−1, j)] + b)                 (equations 6, 7; two forget gates, f and u)
    c_ij = f ⊙ c(i, j−1) + u ⊙ c(i−1, j) + i ⊙ g,   h_ij = tanh(o ⊙ c_ij)         (equation 6)
    p(x_ij | x_<ij) = the factorised MCGSM of h_ij                                 (equations 3 to 5; ``layers/mcgsm.py``)

Whitening (``layers/whitening.py``) is fitted by ``initialise``; the mixture is of the whitened pixel e = (x − prediction) / σ, and its
means and scales here are those of x itself, which is where the log-Jacobian goes. The next layer reads the h of the one below at the same
pixel.

Two likelihoods from the same Gaussians, means and scales on [−1, 1]:
- discretised, ``distribution``: a level takes the mass of its bin. What log_prob, samples and files use; levels without noise as context.
- continuous, ``log_density``: of real-valued images of intensities in [0, 1], the paper's score. A level v is the interval [v, v + 1), so
  it is a density per level plus log2 of the levels, 8 bits per value of 256. With ``dequantise`` the density per level is what training
  maximises, on images with uniform noise added. For one value given the same past its log is, on average over the noise of that value, no
  more than the discretised one (Jensen); of a whole image not so, for there the past has noise in one and none in the other.

Layers learn all at once, or ``in_turn``: ``progress`` says how far training is, and the layer whose turn it is learns, with
the mixture, on top of fixed ones, those above it taking no part yet. A layer that waits begins as nearly a copy of the one below as its
cell allows, so that the mixture goes on from what it knows.

What differs from the paper and its authors' code:
- Scores count every pixel, with zeros and learned h and c outside the image; ``whole_neighbourhood`` counts as the authors' code does.
- Training is by the optimiser of ``rastrum.train`` (theirs: SGD, and L-BFGS) and of all layers at once by default (theirs too).
- Colour: one MCGSM for each channel, which reads h and the earlier channels' e. Conditions are ours.
- The preset "paper" has the sizes of the authors' code: 64 units, 32 components of 4 scales, 32 features, a neighbourhood of 5x5, one
  layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..card import Paper
from ..devices import as_like, in_float64, to_device
from ..distributions import GaussianMixture, gaussian_log_density
from ..layers.causal import CausalConvolution
from ..layers.condition import Condition, ConditionProjection
from ..layers.mcgsm import MCGSM, exact_exp
from ..layers.recurrent import SPATIAL, DiagonalScan
from ..layers.whitening import Whitening
from ..noise import uniform
from ..program.builder import Head, Program, View
from ..protocol import ArrayLike, ConditionSpec, Distribution, ImageSpec, as_tensor, check_images
from ..raster import RasterModel
from ..training_noise import uniform_noise
from .context import raster_context
from .presets import check_config, choose


@dataclass(frozen=True, kw_only=True)
class SpatialLSTMConfig:
    """Sizes of a RIDE, and how it is trained."""

    recurrent: bool = True         # False: the MCGSM alone, of the whitened patch
    layers: int = 1                # spatial LSTMs, one above another; only with recurrent
    units: int = 64                # h of each; only with recurrent
    in_turn: bool = False          # train layer by layer, each for its share of the training; else all at once
    neighbourhood: int = 5         # side n of the patch before a pixel, odd
    components: int = 32           # K of the mixture
    scales: int = 4                # S of each component
    features: int = 32             # N, directions b_n that the components share
    dequantise: bool = True        # train the density of images with uniform noise, else the levels' own probability


class Layer(nn.Module):
    """A spatial LSTM: v or h of the layer below (B, H, W, I) → h (B, H, W, n).

    inputs: I.
    units: n.
    condition_size: values of the condition; 0 = none.
    """

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
        """Begin with h near x, which has as many values: gates open to it and shut to the past, g = tanh(x)."""
        weight, bias, units = self.input_to_state.weights[0], self.input_to_state.bias, self.units
        assert bias is not None and weight.shape == (units, 5 * units)
        weight[:, 4 * units :] = torch.eye(units)
        bias.copy_(torch.tensor([3.0, -3.0, -3.0, 3.0, 0.0]).repeat_interleave(units))

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """The layer on whole images.

        x: (B, H, W, I).
        condition: as ``Condition`` gives it, or None.

        Returns h (B, H, W, n).
        """
        return self.state_to_state(self.input_to_state(x, self.condition(condition)))

    def lower(self, program: Program, x: View, condition: View | None) -> View:
        """The layer in a step program; call it in the phase of the first channel.

        program: takes the operations.
        x: a feature map of the pixel phases.
        condition: as ``Condition.lower`` gives it, or None.

        Returns h, a feature map of the pixel phases.
        """
        scan, (left, above) = self.state_to_state, self.state_to_state.weights
        h, c = program.map(self.units, initial=scan.first_h), program.map(self.units, initial=scan.first_c)
        condition = self.condition.lower(program, condition)
        with program.phase("row"):
            gates = program.linear(h, above, self.input_to_state.bias, condition)  # h is still that of the finished row
        gates = program.linear(x, self.input_to_state.weights[0], initial=gates)
        program.linear(h.window(-1, -1), left, initial=gates, destination=gates)
        program.append("spatial_lstm", gates, h, c.window(-1, 0))         # columns j − 1 and j: the cells to the left and above
        return h


class SpatialLSTM(RasterModel):
    """RIDE, or its mixture alone.

    spec: of the images, up to 65,536 levels.
    config: sizes.
    condition_spec: of a class or a vector, only with ``recurrent``; None (default) = unconditional.
    """

    name = "spatial-lstm"
    config_class = SpatialLSTMConfig
    paper = Paper("Generative Image Modeling Using Spatial LSTMs", "Theis, Bethge", 2015)
    conditions = ("class", "vector")
    lower_reads_only_parameters = True
    active: Tensor

    def __init__(self, spec: ImageSpec, config: SpatialLSTMConfig, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__(spec, condition_spec)
        check_config(config, spec, kernels=("neighbourhood",))
        if condition_spec is not None and not config.recurrent:
            raise ValueError(f"condition: the mixture alone (recurrent=False) has none, got kind {condition_spec.kind!r}")
        self.config = config
        self.groups = channels = spec.channels
        self.whitening = Whitening(channels, config.neighbourhood)
        sizes = [self.whitening.size, *([config.units] * config.layers if config.recurrent else ())]
        self.condition = Condition(condition_spec, spec)
        self.layers = nn.ModuleList(Layer(inputs, units, self.condition.size) for inputs, units in pairwise(sizes))
        self.mixtures = nn.ModuleList(
            MCGSM(sizes[-1] + channel, config.components, config.scales, config.features) for channel in range(channels)
        )
        self.register_buffer("active", torch.tensor(min(len(self.layers), 1) if config.in_turn else len(self.layers)))   # layers in use
        if config.in_turn:
            for layer in list(self.layers)[1:]:
                assert isinstance(layer, Layer)
                layer.copy_input()

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> SpatialLSTMConfig:
        """Sizes by name: "tiny" (tests), "small" (a laptop), "paper" (the defaults of the authors' code).

        name: one of these.
        spec: of the images; the sizes do not depend on it.
        overrides: options of the config that replace the preset's.

        Raises ``ValueError`` for an unknown name or option.
        """
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
        scaled = self.spec.scale(in_float64(x), torch.float64).permute(0, 2, 3, 1)
        self.whitening.fit(scaled, least=1 / (self.spec.levels - 1))
        self.initialised.fill_(True)

    def progress(self, fraction: float) -> float:
        """In turn, each of L layers has 1 / L of the training; → the fraction done of that part. No layer in use is ever dropped again."""
        count = len(self.layers)
        if not self.config.in_turn or count == 0:
            return fraction
        stage = min(count - 1, int(fraction * count))
        self.active.clamp_(min=stage + 1)
        return fraction * count - stage

    def loss(self, x: ArrayLike, condition: ArrayLike | int | None = None, seed: int | None = None) -> Tensor:
        """−log p(x) in nats, (B,); with ``dequantise`` minus the log-density of x with uniform noise added.

        x: integer levels (B, *spec.shape), torch or numpy.
        condition: one per image, or one for all; None (default) for an unconditional model.
        seed: of the noise; None (default) draws it from torch's generator.
        """
        if not self.config.dequantise:
            return super().loss(x, condition, seed)
        x = check_images(self.spec, x, self.device)
        condition = self.check_condition(condition, len(x))
        if seed is None:
            noise = uniform_noise(x.shape, self.dtype, x.device)
        else:
            noise = torch.from_numpy(uniform(seed, np.arange(len(x)), 0, self.spec.size)).to(self.dtype).to(x.device).view(x.shape)
        return -self.log_density_map(x + noise, condition).flatten(1).sum(1)

    # ── likelihoods ──────────────────────────────────────────────────────────────────────────────────────────────────

    def gaussians(self, x: Tensor, condition: Tensor | None) -> GaussianMixture:
        """The mixture of every value given those before it.

        x: (B, C, H, W), scaled to [−1, 1].
        condition: one per image; None for an unconditional model.

        Returns a distribution of batch shape (B, C, H, W).
        """
        logits, means, log_scales = self._gaussians(x, condition)
        return GaussianMixture(logits, means, log_scales.expand_as(means), levels=self.spec.levels)

    def _gaussians(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights and means (B, C, H, W, KS), and log scales (1, C, 1, 1, KS)."""
        h, prediction, e = self.whitening(x.permute(0, 2, 3, 1))
        condition = self.condition(condition, self.dtype)
        for i, layer in enumerate(self._layers()):
            h = layer(h.detach() if self.config.in_turn and self.training and i else h, condition)
        parts: list[tuple[Tensor, ...]] = []
        for channel, mixture in enumerate(self.mixtures):
            seen = torch.cat([h, e[..., :channel]], -1) if channel else h
            parts.append(mixture(seen, prediction[..., channel, None], self.whitening.log_deviation[channel]))
        logits, means, log_scales = zip(*parts, strict=True)
        return torch.stack(logits, 1), torch.stack(means, 1), torch.stack(log_scales)[None, :, None, None]

    def distribution(self, x: Tensor, condition: Tensor | None = None) -> GaussianMixture:
        return self.gaussians(self.spec.scale(x, self.dtype), condition)

    def log_density_map(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-density of each real value, per level, a level v being the interval [v, v + 1).

        It compares with −log P of levels, which is why training uses it; the paper's unit is ``log_density``'s.

        y: real values (B, C, H, W), levels with noise of [0, 1) added.
        condition: one per image; None (default) for an unconditional model.

        Returns nats (B, C, H, W).
        """
        scaled = self.spec.scale(y - 0.5, self.dtype)
        nats = gaussian_log_density(*self._gaussians(scaled, condition), scaled, self.spec.levels)
        return nats - math.log((self.spec.levels - 1) / 2)

    def log_density(self, y: ArrayLike, condition: ArrayLike | int | None = None, whole_neighbourhood: bool = False) -> Tensor:
        """Log-density of each real-valued image, of intensities y / levels in [0, 1]: the paper's unit, higher is better.

        y: levels with uniform noise of [0, 1) added, (B, C, H, W), from 0 to ``levels``.
        condition: one per image, or one for all; None for an unconditional model.
        whole_neighbourhood: count only pixels whose whole causal neighbourhood lies in the image, as the authors' code does.

        Returns nats (B,), float64: per level it would be ln ``levels`` less for each value (8 bits for 256 levels).
        Raises ``ValueError`` for images of another shape, for a value that is no number from 0 to ``levels``, and where no pixel counts.
        """
        y = to_device(as_tensor("images", y), self.device)
        if y.shape[1:] != torch.Size(self.spec.shape):
            raise ValueError(f"images: expected shape (batch, {', '.join(map(str, self.spec.shape))}), got {tuple(y.shape)}")
        if (wrong := y[~((y >= 0) & (y <= self.spec.levels))]).numel():
            raise ValueError(f"images: expected values from 0 to {self.spec.levels}, got {wrong[0].item()}; levels, and noise of [0, 1)")
        condition = self.check_condition(condition, len(y))
        each = in_float64(self.log_density_map(y.to(self.dtype), condition)) + math.log(self.spec.levels)
        rows, columns = self._counted(whole_neighbourhood)
        return each[:, :, rows, columns].flatten(1).sum(1)

    def bits_per_pixel(self, y: ArrayLike, condition: ArrayLike | int | None = None, whole_neighbourhood: bool = False) -> Tensor:
        """The paper's score: ``log_density`` in bits per counted pixel, higher is better.

        y, condition, whole_neighbourhood: as for ``log_density``, with its errors.

        Returns (B,), float64.
        """
        rows, columns = self._counted(whole_neighbourhood)
        pixels = len(range(self.spec.height)[rows]) * len(range(self.spec.width)[columns])
        return self.log_density(y, condition, whole_neighbourhood) / (pixels * math.log(2))

    def _counted(self, whole_neighbourhood: bool) -> tuple[slice, slice]:
        """Rows and columns of the pixels that a density counts."""
        reach = self.config.neighbourhood // 2 if whole_neighbourhood else 0
        rows, columns = slice(reach, self.spec.height), slice(reach, self.spec.width - reach)
        if self.spec.height <= reach or self.spec.width <= 2 * reach:
            size = f"{self.spec.height}x{self.spec.width}"
            raise ValueError(f"whole_neighbourhood: no pixel of {size} has {reach} rows above and {reach} columns on each side; omit it")
        return rows, columns

    # ── the step ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _layers(self) -> list[Any]:
        return list(self.layers)[: int(self.active)]

    def lower(self, program: Program) -> None:
        """One step of the model, written to ``program``."""
        x, channels = program.values(), self.spec.channels
        prediction = self.whitening.prediction.lower(program, x)
        with program.phase("channel", 0):
            h = self.whitening.patch.lower(program, x)
            for layer in self._layers():
                h = layer.lower(program, h, self.condition.lower(program))
            if channels > 1:                                              # next to h the e of the channels as they become known
                alone, h = h, program.map(h.size + channels - 1)
                program.append("copy", alone, View(h.buffer, 0, alone.size))
        first = h.size - (channels - 1)
        for channel, mixture in enumerate(self.mixtures):
            assert isinstance(mixture, MCGSM)
            with program.phase("channel", channel):
                if channel:
                    before = channel - 1
                    unit = as_like(exact_exp(-self.whitening.log_deviation[before]), self.whitening.log_deviation).view(1, 1)
                    less = program.linear(prediction.part(before, channels), -torch.ones_like(unit), initial=x.part(before, channels))
                    program.linear(less, unit, destination=View(h.buffer, first + before, 1))
                seen, base = View(h.buffer, 0, first + channel), prediction.part(channel, channels)
                program.output(channel, mixture.lower(program, seen, base, self.whitening.log_deviation[channel]))
        program.head = Head("gaussian", self.config.components * self.config.scales)

    def head(self, parameters: Tensor, x: Tensor, index: int, previous: Distribution | None) -> GaussianMixture:
        return GaussianMixture(*in_float64(parameters).chunk(3, -1), levels=self.spec.levels)

    def context(self) -> Tensor:
        """Recurrent: everything to the left and above, as far right as the neighbourhood reaches; else the neighbourhood."""
        spec, reach = self.spec, self.config.neighbourhood // 2
        rows, left = (spec.height, spec.width) if self.config.recurrent else (reach, reach)
        return raster_context(spec, rows, [left] * (rows + 1), [reach] * (rows + 1))
