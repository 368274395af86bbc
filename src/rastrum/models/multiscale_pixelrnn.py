"""Multi-scale PixelRNN (van den Oord, Kalchbrenner, Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", section 3.6 and figure 2, middle).

    every s-th pixel  ──▶ PixelRNN ──▶ p(x_s)                                     the subsampled image, not an average
         │ 3x3, relu, transposed convolution to all positions, relu
         ▼ guide
    the next finer raster ──▶ PixelRNN whose every layer also sees the guide, by an unmasked 1x1 ──▶ p(x | x_s)

With factors (2, 2) and 32x32: 8x8, then 16x16 given that, then 32x32. What a coarser scale decided is part of the finer raster: fed there,
not decided again, so log p(x) = log p(x_s) + log p(x | x_s) charges each value once. Sizes that a factor does not divide are rounded up.
The order of decisions is data (``order``), and a step program has one pass for each scale; nothing else knows of scales.

What differs from the paper: the guide's network (one 3x3 and one transposed convolution) and the number of its channels are ours, as is
the choice of scales; PixelCNN may be a base; no condition. The preset "paper" has the layers of the paper's PixelRNNs (``pixelrnn.py``) at
every scale: the paper gives the multi-scale network no size of its own that we know.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..distributions import Bernoulli, Categorical
from ..layers.upsampling import Upsampling
from ..program.builder import Program
from ..protocol import ConditionSpec, Distribution, ImageSpec, raster_order
from ..raster import RasterModel
from .context import ask_context
from .diagonal_bilstm import DiagonalBiLSTM
from .pixelcnn import PixelCNN
from .presets import check_config, choose, multiple_of
from .row_lstm import RowLSTM

Base: TypeAlias = RowLSTM | DiagonalBiLSTM | PixelCNN
BASES: dict[str, type[Base]] = {"row-lstm": RowLSTM, "diagonal-bilstm": DiagonalBiLSTM, "pixelcnn": PixelCNN}


@dataclass(frozen=True, kw_only=True)
class MultiscalePixelRNNConfig:
    """Sizes of a multi-scale PixelRNN; those of the base are the same at every scale."""

    base: str = "row-lstm"         # network of each scale: row-lstm, diagonal-bilstm or pixelcnn
    factors: tuple[int, ...] = (2,)     # from the coarsest scale to the image, how much finer each is
    guide: int = 16                # channels of the feature map that a scale makes of the coarser one
    units: int = 32                # h of the base
    layers: int = 3                # layers of the base
    first_kernel: int = 7          # side of its first kernel
    hidden: int = 64               # channels of its output's hidden layers
    skip: bool = False             # as in PixelRNNConfig
    output_layers: int = 1         # hidden layers of the output

    def __post_init__(self) -> None:
        if isinstance(self.factors, list):                               # from JSON
            object.__setattr__(self, "factors", tuple(self.factors))


class MultiscalePixelRNN(RasterModel):
    """Multi-scale PixelRNN.

    spec: of the images.
    config: scales and sizes.
    condition_spec: None; it takes no condition.
    """

    name = "multiscale-pixelrnn"
    config_class = MultiscalePixelRNNConfig
    paper = PixelCNN.paper
    conditions = ()
    lower_reads_only_parameters = True

    def __init__(self, spec: ImageSpec, config: MultiscalePixelRNNConfig, condition_spec: ConditionSpec | None = None) -> None:
        check_config(config, spec, grouped=("units", "hidden"), kernels=("first_kernel",))
        if config.base not in BASES:
            raise ValueError(f"base: expected one of {', '.join(BASES)}, got {config.base!r}")
        if not isinstance(config.factors, tuple) or any(type(factor) is not int or factor < 2 for factor in config.factors):
            raise ValueError(f"factors: expected a tuple of whole numbers of at least 2, got {config.factors!r}")
        if prod(config.factors) > max(spec.height, spec.width):
            raise ValueError(f"factors: {config.factors} leave nothing of {spec.height} x {spec.width} pixels; their product must fit")
        spacings = [prod(config.factors[scale:]) for scale in range(len(config.factors) + 1)]
        super().__init__(spec, condition_spec, _coarse_first(spec, spacings))
        self.config, self.spacings = config, spacings
        self.groups = spec.channels
        self.scales, self.upsamplings = nn.ModuleList(), nn.ModuleList()
        for scale, spacing in enumerate(spacings):
            raster = replace(spec, height=-(-spec.height // spacing), width=-(-spec.width // spacing))
            shared = ("layers", "first_kernel", "hidden", "skip", "output_layers")
            options = {name: getattr(config, name) for name in shared}
            options["channels" if config.base == "pixelcnn" else "units"] = config.units
            base: Any = BASES[config.base]
            self.scales.append(base(raster, base.preset("small", raster, **options), guide=config.guide if scale else 0))
            if scale:
                factor = config.factors[scale - 1]
                self.upsamplings.append(Upsampling(spec.channels, config.guide, (factor, factor)))

    @classmethod
    def preset(cls, name: str, spec: ImageSpec, **overrides: Any) -> MultiscalePixelRNNConfig:
        """Sizes by name: "tiny" (tests), "small" (a laptop), "paper" (at every scale layers of the paper's PixelRNNs).

        name: one of these.
        spec: of the images; it sets the number of scales, and numbers of channels are rounded up to multiples of its channels.
        overrides: options of the config that replace the preset's.

        Raises ``ValueError`` for an unknown name or option.
        """
        rounded, size = multiple_of(spec.channels), max(spec.height, spec.width)
        one, two = ((2,) if size >= 2 else ()), ((2, 2) if size >= 16 else (2,) if size >= 2 else ())
        return choose(
            MultiscalePixelRNNConfig,
            name,
            overrides,
            tiny=dict(factors=one, guide=3, units=rounded(4), layers=1, hidden=rounded(12)),
            small=dict(factors=two, guide=16, units=rounded(32), layers=3, hidden=rounded(64)),
            paper=dict(factors=two, guide=32, skip=True, output_layers=2)
            | (dict(units=16, layers=7, hidden=32) if spec.channels == 1 else dict(units=rounded(128), layers=12, hidden=rounded(1024))),
        )

    def _nets(self) -> list[Base]:
        return list(self.scales)  # pyright: ignore[reportReturnType]

    def distribution(self, x: Tensor, condition: Tensor | None = None) -> Bernoulli | Categorical:
        logits = None
        for scale, (spacing, net) in enumerate(zip(self.spacings, self._nets(), strict=True)):
            here, guide = x[:, :, ::spacing, ::spacing], None
            if scale:
                factor = self.config.factors[scale - 1]
                coarse = self.spec.scale(here[:, :, ::factor, ::factor], self.dtype)
                guide = self.upsamplings[scale - 1](coarse, *here.shape[2:])
            finer = net.logits(here, guide)
            if logits is not None:                                        # what a coarser scale decided
                factor = self.config.factors[scale - 1]
                finer[:, :, ::factor, ::factor] = logits
            logits = finer
        assert logits is not None
        return self._nets()[0].output.head(logits)

    def lower(self, program: Program) -> None:
        """One step of the model, written to ``program``: a pass per scale."""
        for scale, (spacing, net) in enumerate(zip(self.spacings, self._nets(), strict=True)):
            program.new_pass(spacing, self.config.factors[scale - 1] if scale else 0)
            guide = None
            if scale:
                upsampling = self.upsamplings[scale - 1]
                assert isinstance(upsampling, Upsampling)
                coarse = program.drawn(self.spacings[scale - 1])
                values = program.whole_map(self.spec.channels, *self._nets()[scale - 1].spec.shape[1:])
                with program.phase("start"):
                    program.append("copy", coarse, values)
                guide = upsampling.lower(program, values)
            net.lower(program, guide)

    def head(self, parameters: Tensor, x: Tensor, index: int, previous: Distribution | None) -> Bernoulli | Categorical:
        return self._nets()[0].output.head(parameters)

    def context(self) -> Tensor:
        """Of each scale: what its base sees of its own raster, and through the guide 3x3 coarse values around what its layers see."""
        spec = self.spec
        ask_context(spec.size, copies=16)
        index = torch.arange(spec.size).view(spec.shape)
        context = torch.zeros(spec.size, spec.size, dtype=torch.bool)
        decided = torch.zeros(spec.shape, dtype=torch.bool)
        for scale, (spacing, net) in enumerate(zip(self.spacings, self._nets(), strict=True)):
            here = index[:, ::spacing, ::spacing]
            values = here.flatten()
            sees = torch.zeros(len(values), spec.size, dtype=torch.bool)
            sees[:, values] = net.context()
            if scale:
                upsampling, factor = self.upsamplings[scale - 1], self.config.factors[scale - 1]
                assert isinstance(upsampling, Upsampling)
                coarse_seen = upsampling.context(net.spec.height, net.spec.width)
                through = (net.guide_context().float() @ coarse_seen.float() > 0).repeat(spec.channels, 1)
                for coarse in here[:, ::factor, ::factor].flatten(1):
                    sees[:, coarse] |= through
            new = values[~decided.flatten()[values]]
            context[new] = sees[~decided.flatten()[values]]
            decided.view(-1)[values] = True
        return context


def _coarse_first(spec: ImageSpec, spacings: list[int]) -> Tensor:
    """(D,) the order of decisions: each scale's new values in raster order, the coarsest first."""
    order = raster_order(spec)
    row, column = order // spec.width % spec.height, order % spec.width
    scale = torch.stack([(row % spacing == 0) & (column % spacing == 0) for spacing in spacings]).to(torch.int8).argmax(0)
    return torch.cat([order[scale == number] for number in range(len(spacings))])
