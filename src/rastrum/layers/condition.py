"""What is known before an image is drawn (van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", section 2.3).

    class, vector h ──▶ h                          the same at every position   ─┐
    spatial map h ──▶ m: 3x3, relu, transposed, relu ──▶ s = m(h), at each its own ─┴─▶ in every layer: + V_kᵀ h, or + V_k * s, unmasked 1x1

A model has one ``Condition``, which runs once, and every layer k a ``ConditionProjection`` with V_k of its own. In a step, h and s are made
in the phase ``start``, V_kᵀ h too, and V_k * s a row at a time. m may see a map at several resolutions, and as a set of exemplars
(``upsampling.py``).
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..exemplars import slots_of
from ..program.builder import Program, View
from ..protocol import ConditionSpec, ImageSpec
from .causal import Tap, convolve
from .upsampling import Upsampling


class Condition(nn.Module):
    """A condition as all layers read it: ``size`` values, at one position or at each; 0 for an unconditional model.

    ``slots``: how many exemplars a map has room for; 0 where it is no set of them.

    condition: what kind; None = unconditional.
    image: spec of the images. A cell of a spatial map is a block of ⌈H / h⌉ by ⌈W / w⌉ pixels, the last ones cut off at the border.
    outputs: channels that m makes of a spatial map; default 0 = the model takes none.
    levels: resolutions at which m sees a map, 1 by default.
    exemplars: whether a map is a set of exemplars, each of which m reads alike; False by default.

    Raises ``ValueError`` for a spatial map that is not taken, that is larger than the image, or that has cells without a pixel, and for a
    set that does not consist of whole exemplars.
    """

    def __init__(
        self, condition: ConditionSpec | None, image: ImageSpec, outputs: int = 0, levels: int = 1, exemplars: bool = False
    ) -> None:
        super().__init__()
        self.kind, self.image = None if condition is None else condition.kind, image
        self.size, self.slots, self.upsampling = 0, 0, None
        if condition is not None and isinstance(condition.size, int):
            self.size = condition.size
        elif condition is not None and isinstance(condition.size, tuple):
            channels, height, width = condition.size
            assert outputs, "a model that takes a map says how many channels m makes of it; else its `conditions` leave out 'map'"
            if height > image.height or width > image.width:
                largest = f"{image.height}x{image.width}"
                raise ValueError(f"condition: a map must be no larger than the image, {largest}, got {height}x{width}")
            self.size, factors = outputs, (-(-image.height // height), -(-image.width // width))
            if (height - 1) * factors[0] >= image.height or (width - 1) * factors[1] >= image.width:
                fits = f"{-(-image.height // factors[0])}x{-(-image.width // factors[1])}"
                what = f"blocks of {factors[0]}x{factors[1]} pixels, so that some lie outside the image; take {fits} or another size"
                raise ValueError(f"condition: cells of a {height}x{width} map on {image.height}x{image.width} pixels are {what}")
            self.slots = slots_of(condition, image.channels) if exemplars else 0
            self.upsampling = Upsampling(channels, outputs, factors, levels, self.slots)

    def forward(self, condition: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """The condition as layers read it.

        condition: classes (B,), vectors (B, size) or spatial maps (B, c, h, w); None for an unconditional model.
        dtype: of the result.

        Returns (B, 1, 1, size) for a class or vector, (B, H, W, size) for a spatial map, or None.
        """
        if self.kind is None:
            return None
        assert condition is not None
        if self.upsampling is not None:
            return self.upsampling(condition.to(dtype), self.image.height, self.image.width)
        vector = F.one_hot(condition, self.size) if self.kind == "class" else condition
        return vector.to(dtype)[:, None, None]

    def lower(self, program: Program) -> View | None:
        """The condition in a ``program``: a single column for a class or vector, a whole feature map for a spatial map, or None."""
        if self.kind is None:
            return None
        return program.condition_vector() if self.upsampling is None else self.upsampling.lower(program, program.condition_map())


def global_projection(condition: ConditionSpec, outputs: int) -> nn.Embedding | nn.Linear:
    """A linear map of a class (a learned row of it) or a vector, for models whose layers see the whole image at once.

    condition: of kind "class" or "vector".
    outputs: per image.
    """
    assert isinstance(condition.size, int)
    return (nn.Embedding if condition.kind == "class" else nn.Linear)(condition.size, outputs)


def project(projection: nn.Module, condition: Tensor, dtype: torch.dtype) -> Tensor:
    """Outputs (B, outputs) of a ``global_projection`` for classes (B,) int64 or vectors (B, size), which are taken to ``dtype``."""
    return projection(condition if condition.dtype == torch.int64 else condition.to(dtype))


class ConditionProjection(nn.Module):
    """Linear projection V of the condition, added to the layer's pre-activations; None for an unconditional model.

    size: values of the condition; 0 = unconditional.
    outputs: pre-activations of the layer.
    """

    def __init__(self, size: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size, outputs) * 0.1) if size else None

    def forward(self, condition: Tensor | None) -> Tensor | None:
        """The projection of a ``condition`` (B, 1, 1, size) or (B, H, W, size): (…, outputs); None for an unconditional model."""
        if self.weight is None:
            return None
        assert condition is not None
        if condition.shape[1:3].numel() == 1:
            return condition @ self.weight
        size, outputs = self.weight.shape
        return convolve(condition, [Tap(1, 0, 0, size, (0, outputs))], [self.weight], None, None, outputs)

    def lower(self, program: Program, condition: View | None, initial: View | None = None, level: int = 0) -> View | None:
        """The projection in a step program.

        program: takes the layer's operations.
        condition: a single column or a whole feature map; None for an unconditional model.
        initial: a feature map of the row phase that the projection is added to; default None.
        level: resolution of the layer, which sees every 2^level-th row and column of s; default 0.

        Returns a single column, made once, or a feature map of the row phase at ``level``; ``initial`` itself without a condition.
        """
        if self.weight is None:
            return initial
        assert condition is not None
        if not condition.buffer.single:
            with program.phase("row"):
                return program.linear(replace(condition, step=1 << level), self.weight, None, initial, level=level)
        with program.phase("start"):
            vector = program.linear(condition, self.weight)
        if initial is None:
            return vector
        with program.phase("row"):
            out = program.map(vector.size, level)
            program.append("add", vector, out, initial)
            return out
