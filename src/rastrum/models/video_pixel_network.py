"""Video Pixel Networks (Kalchbrenner, van den Oord, Simonyan, Danihelka, Vinyals, Graves, Kavukcuoglu 2016, sections 3 and 4).

    frame t−1 ──▶ 3x3 ──▶ ConvLSTM ──▶ encoder: residual blocks, dilated 1, 2, 4, 8, … ──▶ what is known of frames < t
                          (every position of the frame, resolution kept)                     │ 1x1, into each unit
    frame t   ──▶ 7x7, mask A ──▶ decoder: N residual blocks, mask B ◀─────────────────────┘
                                    └──▶ relu, 1x1 ──▶ relu, 1x1 ──▶ logits of each level, p(x_t,i | x_t,<i, x_<t)

    multiplicative unit (section 4.1):   g₁, g₂, g₃ = σ(W * h),   u = tanh(W * h),   out = g₁ ⊙ tanh(g₂ ⊙ h + g₃ ⊙ u)
    residual multiplicative block:       h + 1x1 (2c) of unit of unit of 1x1 (c) of h (2c)

Frame after frame, each in raster order: what is known of earlier frames is a feature map at every position, learned values for the first
frame. The unit lets its own position through (g₂ ⊙ h), so mask A stands before the decoder, where no unit is yet; in it all is mask B.
Colours: features of the decoder lie in groups R, G, B, gates and content of each group side by side.

The baselines of the comparison are switches. ``dependent=False`` is the paper's: the values of a frame are independent given the frames
before it (the decoder is not fed the frame that it draws; its kernels stay what they are). ``recurrent=False`` is ours: no state, the
decoder is conditioned on the previous frame alone, so on nothing of how fast anything moves.

``likelihood="cross-entropy"`` is the paper's training loss on Moving MNIST: −Σ x log q + (1 − x) log(1 − q) with x the grey value in [0,
1]. It is no likelihood of anything (its floor is ``cross_entropy_floor``, not 0): such a model has a ``loss`` and nothing that needs
probabilities. By default levels are a softmax (a Bernoulli for two of them), and everything is exact. The paper's number on Moving MNIST
is this loss per frame over the last 10 of 20 frames: ``rastrum evaluate FOLDER --data moving-mnist --paths clipped --context 10``.

What differs from the paper:
- The decoder receives what is known in the pre-activations of each unit, not in front of the first block.
- The ConvLSTM, 3x3, is added to its input (through its bounded values alone shapes come out blurred at small sizes), and by default stands
  before the encoder's blocks, which then see what moves and how; ``memory="behind"`` puts it behind them, where the paper has it.
- The output has one hidden layer; the paper's sizes of it, and of the ConvLSTM, we do not know: 768 and 256 in the preset "paper" are
  ours. Its 8 blocks with dilations 1, 2, 4, 8 twice and 12 blocks of the decoder are the paper's, c = 128 is as we recall it.

Dimensions: B videos · T frames · C channels · H, W height and width · c channels of a unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..autocast import restored
from ..card import Paper
from ..devices import in_float64
from ..distributions import Bernoulli, Categorical
from ..layers.causal import CausalConvolution
from ..layers.condition import ConditionProjection
from ..layers.frames import FrameConvolution, FrameMemory, multiplicative
from ..layers.output import LevelsOutput
from ..program.builder import Program, View
from ..protocol import ArrayLike, ConditionSpec, Distribution, ImageSpec, check_images
from ..raster import RasterModel
from .context import cone_context
from .presets import check_config, choose, multiple_of

LARGEST_CONTEXT = 1 << 14      # values of a video


@dataclass(frozen=True, kw_only=True)
class VideoPixelNetworkConfig:
    """Sizes of a Video Pixel Network, and its variants."""

    channels: int = 16             # c of the decoder's units; its residual stream holds 2c
    encoder_channels: int = 16     # c of the encoder's
    dilations: tuple[int, ...] = (1, 2, 4, 8)     # of the encoder's residual blocks, one each
    units: int = 24                # channels of the ConvLSTM
    layers: int = 4                # residual blocks of the decoder
    first_kernel: int = 7          # side of the decoder's first kernel, with mask A
    hidden: int = 32               # channels of the output's hidden layer
    memory: Literal["before", "behind"] = "before"    # where the ConvLSTM stands: before the encoder's blocks, or behind them
    recurrent: bool = True         # False: no ConvLSTM, conditioned on the previous frame alone
    dependent: bool = True         # False: values of a frame are independent given earlier frames, the paper's baseline
    likelihood: Literal["categorical", "cross-entropy"] = "categorical"    # exact, or the paper's loss on grey values

    def __post_init__(self) -> None:
        if isinstance(self.dilations, list):                             # from JSON
            object.__setattr__(self, "dilations", tuple(self.dilations))


class EncoderBlock(nn.Module):
    """Residual multiplicative block without a mask.

    channels: c; the stream has 2c.
    dilation: pixels from one row or column of its kernels to the next.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.narrow = FrameConvolution(2 * channels, channels, 1)
        self.units = nn.ModuleList(FrameConvolution(channels, 4 * channels, 3, dilation) for _ in range(2))
        self.widen = FrameConvolution(channels, 2 * channels, 1)

    def forward(self, h: Tensor) -> Tensor:
        """The block on whole frames ``h`` (B, T, H, W, 2c) → the same shape."""
        y = self.narrow(h)
        for unit in self.units:
            y = multiplicative(unit(y), y)
        return self.widen(y, h)

    def lower(self, program: Program, h: View) -> View:
        """The block in a step program; call it in the phase ``frame``.

        program: takes the operations.
        h: a whole feature map.

        Returns a whole feature map.
        """
        y = self.narrow.lower(program, h)
        for unit in self.units:
            assert isinstance(unit, FrameConvolution)
            y = program.apply("multiplicative", unit.lower(program, y), base=y)
        return self.widen.lower(program, y, h)


class DecoderBlock(nn.Module):
    """The same with mask B, conditioned on what is known of earlier frames.

    channels: c; the stream has 2c.
    groups: colour groups.
    known: channels of what is known of earlier frames.
    """

    def __init__(self, channels: int, groups: int, known: int) -> None:
        super().__init__()
        self.groups = groups
        self.narrow = CausalConvolution(2 * channels, channels, centre="through", groups=groups)
        self.units = nn.ModuleList(
            CausalConvolution(channels, 4 * channels, above=1, columns=(-1, 1), left=1, centre="through", groups=groups) for _ in range(2)
        )
        self.condition = nn.ModuleList(ConditionProjection(known, 4 * channels) for _ in range(2))
        self.widen = CausalConvolution(channels, 2 * channels, centre="through", groups=groups, bias=False)

    def forward(self, h: Tensor, known: Tensor) -> Tensor:
        """The block on whole frames.

        h: (B · T, H, W, 2c).
        known: what is known of earlier frames, (B · T, H, W, channels).

        Returns h after the block.
        """
        y = self.narrow(h)
        for unit, condition in zip(self.units, self.condition, strict=True):
            y = multiplicative(unit(y, condition(known)), y, self.groups)
        return self.widen(y, initial=h)

    def lower(self, program: Program, h: View, known: View) -> View:
        """The block in a step program.

        program: takes the operations.
        h: a feature map of the pixel phases.
        known: a whole feature map.

        Returns a feature map of the pixel phases.
        """
        y = self.narrow.lower(program, h)
        for unit, condition in zip(self.units, self.condition, strict=True):
            assert isinstance(unit, CausalConvolution) and isinstance(condition, ConditionProjection)
            y = program.apply("multiplicative", unit.lower(program, y, condition.lower(program, known)), base=y)
        return self.widen.lower(program, y, initial=h)


class VideoPixelNetwork(RasterModel):
    """Video Pixel Network; also of one frame, a still image: the encoder and the recurrence then have nothing to do.

    spec: of the videos.
    config: sizes and variants.
    condition_spec: None; it takes no condition.
    """

    name = "video-pixel-network"
    config_class = VideoPixelNetworkConfig
    paper = Paper("Video Pixel Networks", "Kalchbrenner, van den Oord, Simonyan, Danihelka, Vinyals, Graves, Kavukcuoglu", 2016)
    no_likelihood = (
        "the cross-entropy of grey values is a loss, not a probability; train with likelihood='categorical', or see the loss per frame by "
        "`rastrum evaluate --context N`"
    )
    conditions = ()
    lower_reads_only_parameters = True

    def __init__(self, spec: ImageSpec, config: VideoPixelNetworkConfig, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__(spec, condition_spec)
        self.config = config
        self.groups = groups = spec.channels
        self.frame = replace(spec, frames=1)
        check_config(config, self.frame, grouped=("channels", "hidden"), kernels=("first_kernel",))
        if not isinstance(config.dilations, tuple) or any(type(d) is not int or d < 1 for d in config.dilations):
            raise ValueError(f"dilations: expected a tuple of whole numbers of at least 1, got {config.dilations!r}")
        if config.likelihood not in ("categorical", "cross-entropy"):
            raise ValueError(f"likelihood: expected categorical or cross-entropy, got {config.likelihood!r}")
        if config.memory not in ("before", "behind"):
            raise ValueError(f"memory: expected before or behind, got {config.memory!r}")
        known = 2 * config.encoder_channels
        reach = config.first_kernel // 2
        self.look = FrameConvolution(groups, known, 3)
        self.encoder = nn.ModuleList(EncoderBlock(config.encoder_channels, dilation) for dilation in config.dilations)
        self.memory = FrameMemory(known, config.units) if config.recurrent else None
        self.beginning = nn.Parameter(torch.zeros(known))                 # what is known before the first frame
        self.first = CausalConvolution(
            groups, 2 * config.channels, above=reach, columns=(-reach, reach), left=reach, centre="before", groups=groups
        )
        self.decoder = nn.ModuleList(DecoderBlock(config.channels, groups, known) for _ in range(config.layers))
        output_spec = replace(self.frame, levels=2) if config.likelihood == "cross-entropy" else self.frame
        self.output = LevelsOutput(output_spec, 2 * config.channels, config.hidden)

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> VideoPixelNetworkConfig:
        """Sizes by name: "tiny" (tests), "small" (a laptop), "paper" (of Moving MNIST; which sizes are the paper's says the top).

        name: one of these.
        spec: of the videos; numbers of the decoder's channels are rounded up to multiples of their channels.
        overrides: options of the config that replace the preset's.

        Raises ``ValueError`` for an unknown name or option.
        """
        rounded = multiple_of(spec.channels)
        return choose(
            VideoPixelNetworkConfig,
            name,
            overrides,
            tiny=dict(channels=rounded(4), encoder_channels=4, dilations=(1, 2), units=5, layers=1, first_kernel=3, hidden=rounded(8)),
            small=dict(channels=rounded(16), hidden=rounded(32)),
            paper=dict(
                channels=rounded(128), encoder_channels=128, dilations=(1, 2, 4, 8) * 2, units=256, memory="behind", layers=12,
                hidden=rounded(768),
            ),
        )

    def context(self) -> Tensor | None:
        """Of its own frame a cone with a blind spot, as PixelCNN; of an earlier one all that the encoder and the recurrence carry to it.

        None for a video so large that the answer would take gigabytes.
        """
        spec, config, frame, count = self.spec, self.config, self.frame, self.spec.frames
        if spec.size > LARGEST_CONTEXT:
            return None
        context = torch.zeros(count, frame.size, count, frame.size, dtype=torch.bool)
        layers, pixels = 2 * config.layers, replace(frame, channels=1)
        condition = cone_context(pixels, 0, layers - 1, 1) | torch.eye(pixels.size, dtype=torch.bool)
        blocks, remembers = [d for dilation in config.dilations for d in (dilation, dilation)], [1] * config.recurrent
        entering, behind = ([1, *remembers], blocks) if config.memory == "before" else ([1, *blocks, *remembers], [])
        held = [_carried(size, entering) for size in (spec.height, spec.width)]
        for before in range(1, count if config.recurrent else min(count, 2)):
            rows, columns = (_carried(len(seen), behind, seen) for seen in held)
            near = (rows[:, None, :, None] & columns[None, :, None, :]).flatten(2).flatten(0, 1)
            sees = (condition.float() @ near.float() > 0).repeat(spec.channels, spec.channels)
            for t in range(before, count):
                context[t, :, t - before] = sees
            held = [_carried(len(seen), [1], seen) for seen in held]
        if config.dependent:
            own = cone_context(frame, config.first_kernel // 2, layers, 1)
            for t in range(count):
                context[t, :, t] = own
        return context.flatten(2).flatten(0, 1)

    # ── the whole video ──────────────────────────────────────────────────────────────────────────────────────────────

    def stages(self) -> list[FrameMemory | EncoderBlock]:
        """What a frame goes through, in turn, before it is known to the next one."""
        memory = [] if self.memory is None else [self.memory]
        blocks = cast(list[EncoderBlock], list(self.encoder))
        return [*memory, *blocks] if self.config.memory == "before" else [*blocks, *memory]

    def known(self, frames: Tensor) -> Tensor:
        """What the decoder knows of earlier frames at each one: scaled frames (B, T, H, W, C) → (B, T, H, W, channels)."""
        batch, count, height, width = frames.shape[:4]
        first = self.beginning.expand(batch, 1, height, width, -1)
        if count == 1:
            return first
        h = self.look(frames[:, :-1])
        for stage in self.stages():
            h = stage(h)
        return torch.cat([first, h], 1)

    def logits(self, x: Tensor) -> Tensor:
        """x (B, *spec.shape) int64 → logits (B, *spec.shape, logits per value)."""
        frames = self.spec.scale(x.view(len(x), self.spec.frames, *self.frame.shape), self.dtype).permute(0, 1, 3, 4, 2)
        known, frames = self.known(frames).flatten(0, 1), frames.flatten(0, 1)
        h = self.first(frames if self.config.dependent else torch.zeros_like(frames))
        for block in self.decoder:
            h = block(h, known)
        return self.output(h).view(*x.shape, self.output.outputs)

    def distribution(self, x: Tensor, condition: Tensor | None = None) -> Bernoulli | Categorical:
        self.require_likelihood()
        return self.output.head(self.logits(x))

    @property
    def has_likelihood(self) -> bool:
        """False for ``likelihood="cross-entropy"``."""
        return self.config.likelihood == "categorical"

    def loss_floor(self, x: Tensor) -> Tensor | None:
        """Of the cross-entropy of grey values; see ``cross_entropy_floor``."""
        return None if self.has_likelihood else cross_entropy_floor(x, self.spec.levels)

    def loss_map(self, x: ArrayLike, condition: ArrayLike | int | None = None) -> Tensor:
        """−log p of each value given those before it, or the cross-entropy of grey values in [0, 1].

        x: integer levels (B, *spec.shape), torch or numpy.
        condition: None.

        Returns nats (B, *spec.shape).
        """
        if self.has_likelihood:
            return super().loss_map(x, condition)
        x = check_images(self.spec, x, self.device)
        self.check_condition(condition, len(x))
        grey = x.to(self.dtype) / (self.spec.levels - 1)
        return F.binary_cross_entropy_with_logits(restored(self.logits(x)).squeeze(-1), grey, reduction="none")

    # ── one value at a time ──────────────────────────────────────────────────────────────────────────────────────────

    def lower(self, program: Program) -> None:
        """One step of the model, written to ``program``."""
        self.require_likelihood()
        spec = self.spec
        known = program.whole_map(len(self.beginning), spec.height, spec.width, initial=self.beginning)
        if spec.frames > 1:
            with program.phase("frame"):
                h = self.look.lower(program, program.drawn(1))
                for stage in self.stages():
                    h = stage.lower(program, h)
                program.append("copy", h, known)
        values = program.values()
        if self.config.dependent:
            h = self.first.lower(program, values)
        else:
            h = program.map(self.first.outputs)
            for group in program.each_group():
                ours = h.part(group, self.groups)
                bias = None if self.first.bias is None else self.first.bias.unflatten(0, (self.groups, -1))[group]
                program.linear(replace(values, size=0), self.first.weights[0].new_zeros(0, ours.size), bias, destination=ours)
        for block in self.decoder:
            assert isinstance(block, DecoderBlock)
            h = block.lower(program, h, known)
        self.output.lower(program, h)

    def head(self, parameters: Tensor, x: Tensor, index: int, previous: Distribution | None) -> Bernoulli | Categorical:
        return self.output.head(parameters)


def _carried(size: int, dilations: list[int], seen: Tensor | None = None) -> Tensor:
    """(size, size) bool: [i, j] = row i sees row j through kernels of three rows with these dilations, which end at the border.

    seen: what row i sees of the rows already; None = itself.
    """
    apart = (torch.arange(size)[:, None] - torch.arange(size)).abs()
    seen = torch.eye(size, dtype=torch.bool) if seen is None else seen
    for dilation in dilations:
        seen = ((apart == 0) | (apart == dilation)).float() @ seen.float() > 0
    return seen


def cross_entropy_floor(x: Tensor, levels: int) -> Tensor:
    """The least that the cross-entropy of grey values can be: their own entropy, −Σ x log x + (1 − x) log(1 − x).

    x: integer levels (B, …), summed over all but the first dimension.
    levels: of x, at least 2; the grey value is level / (levels − 1).

    Returns nats (B,), float64. Raises ``ValueError`` for values outside 0 … levels − 1.
    """
    if levels < 2 or (x.numel() and not 0 <= float(x.min()) <= float(x.max()) < levels):
        raise ValueError(f"x: expected levels 0 … {levels - 1}, at least two of them")
    grey = in_float64(x) / (levels - 1)
    return -(torch.xlogy(grey, grey) + torch.xlogy(1 - grey, 1 - grey)).flatten(1).sum(1)
