"""PixelCNN++ (Salimans, Karpathy, Chen, Kingma 2017, "PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood …").

    x, 1 ──▶ u: rows above       ─res─▶ ─res─▶ ↓2 ─res─▶ … ↓2 ─res─▶ … ↑2 ─res─▶ … ↑2 ─res─▶
             ul: above and left  ─res─▶ ─res─▶ ↓2 ─res─▶ … ↓2 ─res─▶ … ↑2 ─res─▶ … ↑2 ─res─▶ elu, 1x1 ─▶ mixture of each pixel
                                    └───────── shortcuts from going down to going up ─────────┘

u holds 2x3 kernels over rows above and lives in the row phases; ul holds 2x2 kernels over what is above and left and takes u through
the 1x1 of each block. Both are shifted once, where the image enters (a channel of ones marks its border).

    gated block:  x + a ⊙ σ(b),  [a | b] = conv(dropout(concat_elu(conv(concat_elu(x)) + 1x1(concat_elu(shortcut))))) + Vᵀ h
                  (with a spatial map as condition: + V * s, at a lower resolution of every second, every fourth row and column of s)
    output:       K logistic components for each pixel, shared by its channels: logits π, and for each channel mean, log scale;
                  mean_g += c₀ r, mean_b += c₁ r + c₂ g, c = tanh   (section 2.2, values in [−1, 1])

``distribution`` gives each channel's mixture conditioned on the earlier channels in x: its weights are ∝ π_k Π p(earlier | k), so the
channels multiply to the joint in which one component serves the whole pixel. Any number of channels; the chain has C(C−1)/2 coefficients.
Weight normalisation with data-dependent initialisation throughout (section 2.1 of Salimans & Kingma 2016): ``initialise``.

What differs from the authors' code:
- The above half of each ul kernel is computed for a whole finished row at once; numerically the same.
- The image is shifted before the first layers; their code shifts those layers' outputs, which are then zero at the border instead of a
  bias.
- Sizes that 4 does not divide are rounded up going down and cropped going up.
- Spatial maps as conditions are ours. Dropout is of single values, as theirs.
- Not a difference: the preset "paper" is theirs: 160 filters, 5 blocks, 10 components; 53,659,080 parameters at 3x32x32.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..autocast import full_precision, restored
from ..card import Paper
from ..devices import in_float64
from ..distributions import LogisticMixture, lowest_log_scale
from ..layers.causal import CausalConvolution, Convolution, Tap, VerticalConvolution, convolve, glu, initialise_weight_norm, shift_down
from ..layers.condition import Condition, ConditionProjection
from ..native import native_for
from ..program.builder import Head, Program, View
from ..protocol import ArrayLike, ConditionSpec, Distribution, ImageSpec, check_images, mro_index
from ..raster import RasterModel
from ..training_noise import Dropout
from .context import ask_context
from .presets import check_config, choose

RESOLUTIONS = 3


@dataclass(frozen=True, kw_only=True)
class PixelCNNPlusPlusConfig:
    """Sizes of a PixelCNN++."""

    filters: int = 32              # channels of both streams
    blocks: int = 1                # gated blocks of each stream and resolution; one more going up at the two finer ones
    components: int = 10           # logistic distributions of a pixel's mixture
    dropout: float = 0.5           # probability that a value in a block is dropped while training
    condition_channels: int = 16       # channels of s, made of a spatial map as condition
    condition_levels: int = 1          # resolutions at which the map is seen, the first of 3x3, each more twice as wide
    condition_exemplars: bool = False  # the map is a set of exemplars, each of which is read alike


class Shortcut(Convolution):
    """1x1 of [concat_elu(u) | concat_elu(skip)]: u is known with the row above, the skip only at the pixel.

    filters: channels of each feature map and of the result.
    sources: feature maps that it reads, 1 or 2.
    """

    def __init__(self, filters: int, sources: int) -> None:
        super().__init__(2 * filters * sources, filters, [Tap(1, 0, 0, 2 * filters * sources, (0, filters))], True, True, 1.0, 1)

    def lower_rows(self, program: Program, u: View) -> View:
        """What u gives, for a whole row at once.

        program: takes the operations.
        u: a feature map of the row phase.

        Returns a feature map of the row phase.
        """
        with program.phase("row"):
            seen = program.apply("concat_elu", u)
            return program.linear(seen, self.exact()[0][: seen.size], self.bias, level=u.buffer.level)

    def lower_skip(self, program: Program, skip: View, out: View) -> None:
        """Add what the skip gives, at the pixel.

        program: takes the operations.
        skip: a feature map.
        out: a feature map of the same position, changed in place.
        """
        seen = program.apply("concat_elu", skip)
        for _ in program.each_group():
            program.linear(seen, self.exact()[0][-seen.size :], initial=out, destination=out)


class Block(nn.Module):
    """The gated block of one stream.

    filters: channels of the stream.
    vertical: whether the stream is u.
    sources: feature maps of the shortcut: for u of its own way down, or none; for ul u, and going up its own way down too.
    dropout: probability.
    condition_size: values of the condition; 0 = none.
    """

    def __init__(self, filters: int, vertical: bool, sources: int, dropout: float, condition_size: int) -> None:
        super().__init__()
        self.vertical = vertical
        self.first = stream_convolution(2 * filters, filters, vertical)
        self.shortcut = Shortcut(filters, sources) if sources else None
        self.second = stream_convolution(2 * filters, 2 * filters, vertical, scale=0.1)
        self.condition = ConditionProjection(condition_size, 2 * filters)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, sources: list[Tensor], condition: Tensor | None) -> Tensor:
        """The block on whole images.

        x: the stream, (B, H, W, filters).
        sources: feature maps of the shortcut, as many as the block has.
        condition: as ``Condition`` gives it, at the block's resolution, or None.

        Returns the stream after the block.
        """
        added = None if self.shortcut is None else self.shortcut(sources, before="concat_elu")
        y = self.first(x, added, before="concat_elu")
        return glu(x, self.second(y, self.condition(condition), before="concat_elu", dropout=self.dropout))

    def lower(self, program: Program, x: View, rows: View | None, skip: View | None, condition: View | None) -> View:
        """The block in a step program.

        program: takes the operations.
        x: the stream.
        rows: source of the shortcut that is known with the row above; None for none.
        skip: source of the shortcut that is known at the pixel; None for none.
        condition: as ``Condition.lower`` gives it, or None.

        Returns the stream after the block.
        """
        added = None if self.shortcut is None or rows is None else self.shortcut.lower_rows(program, rows)
        condition = self.condition.lower(program, condition, level=x.buffer.level)
        with program.phase("row") if self.vertical else nullcontext():
            y = self.first.lower(program, program.apply("concat_elu", x), added)
            if self.shortcut is not None and skip is not None:
                self.shortcut.lower_skip(program, skip, y)
            y = self.second.lower(program, program.apply("concat_elu", y), condition)
            return program.apply("glu", y, base=x)


class Upsample(Convolution):
    """Transposed convolution by 2: out[2q + a, 2p + b] = Σ x[q, p + right] · weight, cropped to a given size.

    In a step, the parent of the position that is due is read; nothing is written ahead.

    filters: channels.
    vertical: whether the stream is u, which reads the next column too.
    """

    def __init__(self, filters: int, vertical: bool) -> None:
        # Here a tap says which output (down, right parity) it feeds and `source` which column of x it reads.
        parts = [(a, 0, 0) for a in (0, 1)] + [(a, 1, 0) for a in (0, 1)] + [(a, 1, 1) for a in (0, 1) if vertical]
        self.source = [source for _, _, source in parts]
        super().__init__(filters, filters, [Tap(1, a, b, filters, (0, filters)) for a, b, _ in parts], True, True, 1.0, 1)
        self.size = (1, 1)

    def compute(
        self,
        x: Tensor | Sequence[Tensor],
        weights: list[Tensor],
        bias: Tensor | None,
        initial: Tensor | None,
        before: str = "",
        dropout: Dropout | None = None,
    ) -> Tensor:
        """The four outputs of each x as channels, then at their places."""
        n = self.outputs
        taps = [Tap(1, 0, source, n, (n * (2 * tap.down + tap.right), n * (2 * tap.down + tap.right + 1)))
                for tap, source in zip(self.taps, self.source, strict=True)]  # fmt: skip
        quarters = convolve(x, taps, weights, None if bias is None else bias.repeat(4), initial, 4 * n, 1, before, dropout)
        out = quarters.unflatten(-1, (2, 2, n)).transpose(2, 3).flatten(1, 2).flatten(2, 3)
        return out[:, : self.size[0], : self.size[1]]

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Tensor, size: tuple[int, int] = (1, 1)
    ) -> Tensor:
        """The layer on whole images.

        x: (B, h, w, filters).
        size: (height, width) of the result, up to twice that of x.

        Returns (B, *size, filters).
        """
        self.size = size
        return super().forward(x)

    def lower(self, program: Program, x: View, vertical: bool) -> View:
        """The layer in a step program.

        program: takes the operations.
        x: a feature map of the stream.
        vertical: whether the stream is u.

        Returns a feature map of the next finer level.
        """
        weights, level = self.exact(), x.buffer.level
        out = program.map(self.outputs, level - 1)
        for a in (0, 1):
            for b in (0, 1):
                mine = [(s, w) for tap, s, w in zip(self.taps, self.source, weights, strict=True) if (tap.down, tap.right) == (a, b)]
                window = x.window(mine[0][0], mine[-1][0])
                to = View(out.buffer, 0, out.size, shift=b, step=2)
                with program.phase("row") if vertical else nullcontext(), program.grid(level, a, b):
                    for _ in program.each_group():
                        program.linear(window, torch.cat([w for _, w in mine]), self.bias, destination=to)
        return out


def stream_convolution(inputs: int, outputs: int, vertical: bool, scale: float = 1.0, stride: int = 1) -> Any:
    """2x3 over rows for u, 2x2 over what is above and left for ul.

    inputs, outputs: channels.
    vertical: whether the stream is u.
    scale: of the initial weights, 1 by default.
    stride: of rows and columns, 1 by default.
    """
    if vertical:
        return VerticalConvolution(inputs, outputs, rows=2, columns=3, weight_norm=True, scale=scale, stride=stride)
    return CausalConvolution(
        inputs, outputs, above=1, columns=(-1, 0), left=1, centre="through", weight_norm=True, scale=scale, stride=stride
    )


class Stage(nn.Module):
    """One move of both streams: a pair of gated blocks, or a pair of convolutions that halves or doubles the resolution.

    u, ul: the layer of each stream.
    """

    def __init__(self, u: nn.Module, ul: nn.Module) -> None:
        super().__init__()
        self.u, self.ul = u, ul


class PixelCNNPlusPlus(RasterModel):
    """PixelCNN++.

    spec: of the images.
    config: sizes.
    condition_spec: of a class, a vector or a spatial map; None (default) = unconditional.
    """

    name = "pixelcnn++"
    config_class = PixelCNNPlusPlusConfig
    paper = Paper(
        "PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications",
        "Salimans, Karpathy, Chen, Kingma",
        2017,
    )
    lower_reads_only_parameters = True

    def __init__(self, spec: ImageSpec, config: PixelCNNPlusPlusConfig, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__(spec, condition_spec)
        check_config(config, spec)
        if not 0 <= config.dropout < 1:
            raise ValueError(f"dropout: expected a number from 0 to below 1, got {config.dropout!r}")
        self.config = config
        self.condition = Condition(
            condition_spec, spec, config.condition_channels, config.condition_levels, config.condition_exemplars
        )
        self.slots = self.condition.slots
        n, inputs = config.filters, spec.channels + 1
        self.first_u = VerticalConvolution(inputs, n, rows=2, columns=3, weight_norm=True)
        self.first_above = CausalConvolution(inputs, n, above=1, columns=(-1, 1), weight_norm=True)
        self.first_left = CausalConvolution(inputs, n, above=1, columns=(-1, -1), left=1, weight_norm=True)

        def blocks(count: int, up: bool) -> nn.ModuleList:
            def block(vertical: bool, sources: int) -> Block:
                return Block(n, vertical, sources + up, config.dropout, self.condition.size)

            return nn.ModuleList(Stage(block(True, 0), block(False, 1)) for _ in range(count))

        self.down_blocks = nn.ModuleList(blocks(config.blocks, up=False) for _ in range(RESOLUTIONS))
        self.up_blocks = nn.ModuleList(blocks(config.blocks + (level < RESOLUTIONS - 1), up=True) for level in range(RESOLUTIONS))
        self.downsample = nn.ModuleList(
            Stage(stream_convolution(n, n, True, stride=2), stream_convolution(n, n, False, stride=2)) for _ in range(RESOLUTIONS - 1)
        )
        self.upsample = nn.ModuleList(Stage(Upsample(n, True), Upsample(n, False)) for _ in range(RESOLUTIONS - 1))
        pairs = spec.channels * (spec.channels - 1) // 2
        self.output = CausalConvolution(n, config.components * (1 + 2 * spec.channels + pairs), centre="through", weight_norm=True)

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> PixelCNNPlusPlusConfig:
        """Sizes by name: "tiny" (tests), "small" (a laptop), "paper" (that of the authors' code).

        name: one of these.
        spec: of the images; the sizes do not depend on it.
        overrides: options of the config that replace the preset's.

        Raises ``ValueError`` for an unknown name or option.
        """
        return choose(
            PixelCNNPlusPlusConfig,
            name,
            overrides,
            tiny=dict(filters=4, blocks=1, components=2),
            small=dict(filters=32, blocks=1),
            paper=dict(filters=160, blocks=5),
        )

    # ── the network ──────────────────────────────────────────────────────────────────────────────────────────────────

    def parameters_map(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """The mixture's parameters at every pixel.

        x: integer levels (B, C, H, W), int64.
        condition: one per image; None for an unconditional model.

        Returns (B, H, W, P).
        """
        x = self.spec.scale(x, self.dtype).permute(0, 2, 3, 1)
        x = F.pad(x, (0, 1), value=1.0)
        u, ul = self.first_u(shift_down(x)), self.first_left(x, self.first_above(x))
        skips: list[tuple[Tensor, Tensor]] = [(u, ul)]
        condition = self.condition(condition, self.dtype)
        conditions = [None if condition is None else condition[:, :: 1 << level, :: 1 << level] for level in range(RESOLUTIONS)]
        for level in range(RESOLUTIONS):
            for stage in self._stages(self.down_blocks[level]):
                u = stage.u(u, [], conditions[level])
                ul = stage.ul(ul, [u], conditions[level])
                skips.append((u, ul))
            if level < RESOLUTIONS - 1:
                stage = self.downsample[level]
                u, ul = stage.u(u), stage.ul(ul)  # pyright: ignore[reportCallIssue]
                skips.append((u, ul))
        u, ul = skips.pop()
        for level in reversed(range(RESOLUTIONS)):
            for stage in self._stages(self.up_blocks[level]):
                skip_u, skip_ul = skips.pop()
                u = stage.u(u, [skip_u], conditions[level])
                ul = stage.ul(ul, [u, skip_ul], conditions[level])
            if level:
                stage, size = self.upsample[level - 1], (skips[-1][0].shape[1], skips[-1][0].shape[2])
                u, ul = stage.u(u, size=size), stage.ul(ul, size=size)  # pyright: ignore[reportCallIssue]
        assert not skips
        with full_precision():                                            # a mean is to be exact to a level
            return self.output(F.elu(restored(ul)))

    @staticmethod
    def _stages(blocks: nn.Module) -> list[Any]:
        assert isinstance(blocks, nn.ModuleList)
        return list(blocks)

    def lower(self, program: Program) -> None:
        """One step of the model, written to ``program``."""
        x = program.values(ones=True)
        condition = self.condition.lower(program)
        u = self.first_u.lower(program, x)
        ul = self.first_left.lower(program, x, self.first_above.lower(program, x))
        skips = [(u, ul)]
        for level in range(RESOLUTIONS):
            for stage in self._stages(self.down_blocks[level]):
                u = stage.u.lower(program, u, None, None, condition)
                ul = stage.ul.lower(program, ul, u, None, condition)
                skips.append((u, ul))
            if level < RESOLUTIONS - 1:
                stage: Any = self.downsample[level]
                u, ul = stage.u.lower(program, u, level=level + 1), stage.ul.lower(program, ul, level=level + 1)
                skips.append((u, ul))
        u, ul = skips.pop()
        for level in reversed(range(RESOLUTIONS)):
            for stage in self._stages(self.up_blocks[level]):
                skip_u, skip_ul = skips.pop()
                u = stage.u.lower(program, u, skip_u, None, condition)
                ul = stage.ul.lower(program, ul, u, skip_ul, condition)
            if level:
                stage = self.upsample[level - 1]
                u, ul = stage.u.lower(program, u, vertical=True), stage.ul.lower(program, ul, vertical=False)
        program.output(0, self.output.lower(program, program.apply("elu", ul)))
        program.head = Head("mixture", self.config.components)

    # ── the mixture ──────────────────────────────────────────────────────────────────────────────────────────────────

    def mixtures(self, parameters: Tensor, values: Tensor) -> LogisticMixture:
        """Each channel's mixture given the channels before.

        parameters: (*S, P).
        values: integer levels of all channels but the last, (*S, C − 1).

        Returns a distribution of batch shape (*S, C).
        """
        k = self.config.components
        scaled = self.spec.scale(values, parameters.dtype)
        channels = [self.channel(parameters, scaled, channel) for channel in range(self.spec.channels)]
        means, log_scales = (torch.stack(parts, -2) for parts in zip(*channels, strict=True))
        logits = parameters[..., :k].unsqueeze(-2)
        earlier = LogisticMixture(logits, means[..., :-1, :], log_scales[..., :-1, :], self.spec.levels)
        logits = logits + F.pad(earlier.component_log_prob(values).cumsum(-2), (0, 0, 1, 0))
        return LogisticMixture(logits, means, log_scales, self.spec.levels)

    def channel(self, parameters: Tensor, scaled: Tensor, channel: int) -> tuple[Tensor, Tensor]:
        """Means, moved by the earlier channels' values, and log scales of a channel.

        parameters: (*S, P).
        scaled: values of the earlier channels at least, scaled to [−1, 1], (*S, at least ``channel``).
        channel: its number, from 0.

        Returns (*S, K) each.
        """
        k, channels = self.config.components, self.spec.channels
        mean = parameters.narrow(-1, k * (1 + channel), k)
        for early in range(channel):
            pair = 1 + 2 * channels + channel * (channel - 1) // 2 + early
            coefficient = parameters.narrow(-1, k * pair, k).tanh()
            mean = torch.addcmul(mean, coefficient, scaled.narrow(-1, early, 1))
        return mean, parameters.narrow(-1, k * (1 + channels + channel), k)

    def distribution(self, x: Tensor, condition: Tensor | None = None) -> LogisticMixture:
        return self._distribution(self.parameters_map(x, condition), x)

    def _distribution(self, parameters: Tensor, x: Tensor) -> LogisticMixture:
        mixtures = self.mixtures(parameters, x[:, :-1].permute(0, 2, 3, 1))
        logits, means, log_scales = (part.permute(0, 3, 1, 2, 4) for part in (mixtures.logits, mixtures.means, mixtures.log_scales))
        return LogisticMixture(logits, means, log_scales, self.spec.levels)

    def loss_map(self, x: ArrayLike, condition: ArrayLike | int | None = None) -> Tensor:
        """As that of ``RasterModel``; where a gradient is needed, in one compiled pass if there is one.

        x: integer levels (B, *spec.shape), torch or numpy.
        condition: one per image, or one for all; None (default) for an unconditional model.

        Returns nats (B, *spec.shape).
        """
        if not torch.is_grad_enabled() or mro_index(self, "distribution") < mro_index(self, "loss_map"):
            return super().loss_map(x, condition)
        x = check_images(self.spec, x, self.device)
        parameters = self.parameters_map(x, self.check_condition(condition, len(x)))
        if native_for(parameters) is None:
            return -self._distribution(parameters, x).log_prob(x)
        from ..native.mixture import PixelLogProb

        return -PixelLogProb.apply(parameters, x, (self.spec.levels - 1) / 2, lowest_log_scale(self.spec.levels))

    def head(self, parameters: Tensor, x: Tensor, index: int, previous: Distribution | None) -> LogisticMixture:
        """The mixture of the channel before, its weights multiplied by what each component gave to the value seen."""
        channel, pixel = divmod(index, self.spec.height * self.spec.width)
        parameters = in_float64(parameters)
        values = x.flatten(2)[..., pixel].to(parameters.device)
        mean, log_scale = self.channel(parameters, self.spec.scale(values, torch.float64) if channel else values, channel)
        logits = parameters.narrow(-1, 0, self.config.components)
        if channel:
            if not isinstance(previous, LogisticMixture):
                previous = self.head(parameters, x, index - self.spec.height * self.spec.width, None)
            logits = previous.logits + previous.component_log_prob(values.select(1, channel - 1))
        return LogisticMixture(logits, mean, log_scale, levels=self.spec.levels)

    def initialise(self, x: Tensor, condition: Tensor | None = None) -> None:
        """Data-dependent initialisation of every weight-normalised layer on images x (B, C, H, W)."""
        initialise_weight_norm(self, lambda: self.parameters_map(x, condition))
        self.initialised.fill_(True)

    # ── what it promises ─────────────────────────────────────────────────────────────────────────────────────────────

    def context(self) -> Tensor:
        """(D, D) bool: which pixels a position sees, followed through the kernels' geometry; depth, not the paper's claim, decides.

        Sets of pixels, (rows, columns, pixels) bool, are propagated like the features.
        """
        height, width = self.spec.height, self.spec.width
        ask_context(self.spec.size, copies=16)
        around = [(down, right) for down in (-1, 0) for right in (-1, 0, 1)]
        before = [(down, right) for down in (-1, 0) for right in (-1, 0)]
        pixels = torch.eye(height * width, dtype=torch.bool).view(height, width, -1)
        u = _look(pixels, [(down - 1, right) for down, right in around])
        ul = _look(pixels, [(-1, -1), (-1, 0), (-1, 1), (0, -1)])
        skips = [(u, ul)]
        for level in range(RESOLUTIONS):
            for _ in self._stages(self.down_blocks[level]):
                u = _look(_look(u, around), around)
                ul = _look(_look(ul, before) | u, before)
                skips.append((u, ul))
            if level < RESOLUTIONS - 1:
                u, ul = _look(u, around)[::2, ::2], _look(ul, before)[::2, ::2]
                skips.append((u, ul))
        u, ul = skips.pop()
        for level in reversed(range(RESOLUTIONS)):
            for _ in self._stages(self.up_blocks[level]):
                skip_u, skip_ul = skips.pop()
                u = _look(_look(u, around) | skip_u, around)
                ul = _look(_look(ul, before) | u | skip_ul, before)
            if level:
                rows, columns = skips[-1][0].shape[:2]
                next_column = _look(u, [(0, 1)])
                u = torch.stack([u, u | next_column], 2).flatten(1, 2).repeat_interleave(2, 0)[:rows, :columns]
                ul = ul.repeat_interleave(2, 0).repeat_interleave(2, 1)[:rows, :columns]
        seen = ul.reshape(height * width, -1).repeat(self.spec.channels, self.spec.channels)
        own = torch.eye(height * width, dtype=torch.bool).repeat(self.spec.channels, self.spec.channels)
        channel = torch.arange(self.spec.channels).repeat_interleave(height * width)
        return seen | (own & (channel[:, None] > channel))


def _look(sets: Tensor, taps: list[tuple[int, int]]) -> Tensor:
    """The union of what the positions at ``taps`` (rows down, columns right) see: (rows, columns, pixels) bool."""
    out = torch.zeros_like(sets)
    rows, columns = sets.shape[:2]
    for down, right in taps:
        moved = F.pad(sets, (0, 0, max(0, -right), max(0, right), max(0, -down), 0))
        start = max(0, right)
        out |= moved[:rows, start : start + columns]
    return out
