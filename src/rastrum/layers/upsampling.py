"""A feature map at every position of an image, made of a coarse one: a convolution and a transposed one.

    x ─▶ 3x3, relu ──────────────────────────────────────────────▶ + ─▶ relu ─▶ transposed to the size of the image ─▶ relu
             └─▶ 3x3 at every second row and column, relu ─▶ … ─▶ 2x2 transposed ─┘      (``levels`` > 1: the same, recursively)

With one level a position sees a 3x3 neighbourhood; each more doubles it, at about a quarter of the cost, so that a few see the whole map.
That is what a map needs which is not aligned with the image, such as another drawing of the same character. The exemplars of a set
(``exemplars.py``) are read by the same network, and what it makes of them is added up before the transposed convolution. An absent one,
−1 everywhere, adds nothing, so that neither their order nor the number of slots matters:

    Σ_j relu(f(x_j) − M · relu(−x_j))      M: larger than any feature                                                    (1)
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor, nn

from ..program.builder import Program, View

MOST = 1e6                     # M of (1)


class Look(nn.Conv2d):
    """3x3, relu, and what coarser levels see.

    channels: of the map.
    outputs: channels of the result.
    levels: resolutions at which it looks, each half as fine as the one before; 1 by default.
    stride: rows and columns from one position of the result to the next, 1 by default.
    """

    def __init__(self, channels: int, outputs: int, levels: int = 1, stride: int = 1) -> None:
        super().__init__(channels, outputs, 3, stride, padding=1)
        self.coarser = Look(outputs, outputs, levels - 1, 2) if levels > 1 else None
        self.back = nn.ConvTranspose2d(outputs, outputs, 2, 2) if levels > 1 else None
        if self.back is not None:
            nn.init.normal_(self.back.weight, 0, 0.5 / math.sqrt(outputs))

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """(B, C, h, w) → (B, outputs, ⌈h / stride⌉, ⌈w / stride⌉)."""
        seen = super().forward(x).relu()
        if self.coarser is None or self.back is None:
            return seen
        back = self.back(self.coarser(seen))
        return (seen + back[:, :, : seen.shape[2], : seen.shape[3]]).relu()

    def lower(self, program: Program, x: View) -> View:
        """The layers in a step program, in the open phase: whole feature map → whole feature map."""
        assert self.bias is not None
        (stride, _), rows, columns = self.stride, x.buffer.rows, x.buffer.columns
        seen = program.whole_map(self.out_channels, -(-rows // stride), -(-columns // stride))
        for row, weight in enumerate(self.weight.permute(2, 3, 1, 0).flatten(1, 2)):
            window = replace(x.window(-1, 1, stride), row_shift=row - 1, row_step=stride)
            bias, initial = (None, seen) if row else (self.bias, None)
            program.linear(window, weight, bias, initial, seen)
        program.append("relu", seen, seen)
        if self.coarser is not None and self.back is not None:
            program.append("add", lower_transposed(program, self.back, self.coarser.lower(program, seen)), seen, seen)
            program.append("relu", seen, seen)
        return seen


def lower_transposed(program: Program, layer: nn.ConvTranspose2d, coarse: View) -> View:
    """A transposed convolution whose kernel is its stride, in the open phase: whole feature map → whole feature map."""
    assert layer.bias is not None
    down, right = layer.stride
    fine = program.whole_map(layer.out_channels, coarse.buffer.rows * down, coarse.buffer.columns * right)
    for row, column in product(range(down), range(right)):
        to = replace(fine, row_shift=row, row_step=down, shift=column, step=right)
        program.linear(coarse, layer.weight[:, :, row, column], layer.bias, destination=to)
    return fine


class Upsampling(nn.Module):
    """3x3, relu, coarser levels, transposed convolution, relu; the result is cropped to a given size.

    channels: of the coarse map.
    outputs: channels of the result.
    factors: how many times as many rows and columns there are then.
    levels: resolutions at which the map is seen, 1 by default.
    exemplars: how many exemplars lie one after another along the channels, each seen by the same layers; 0 (default) = the map is none.
    """

    def __init__(self, channels: int, outputs: int, factors: tuple[int, int], levels: int = 1, exemplars: int = 0) -> None:
        super().__init__()
        self.factors, self.exemplars = factors, exemplars
        self.look = Look(channels // max(1, exemplars), outputs, levels)
        self.spread = nn.ConvTranspose2d(outputs, outputs, factors, stride=factors)
        # Scaled to what they sum: a map of classes has one channel that is on at each of 9 positions; the other ``outputs`` values of one.
        nn.init.normal_(self.look.weight, 0, math.sqrt(2 / 9))
        # Half of it begins alike all over a coarse position, so that a layer can read the condition before it knows where in that it is.
        alike = torch.randn(outputs, outputs, 1, 1)
        with torch.no_grad():
            self.spread.weight.copy_((alike + torch.randn_like(self.spread.weight)) / math.sqrt(outputs))

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """The map at every position.

        x: (B, C, h, w).
        height, width: of the result.

        Returns (B, H, W, outputs).
        """
        return self.spread(self._seen(x)).relu()[:, :, :height, :width].permute(0, 2, 3, 1)

    def _seen(self, x: Tensor) -> Tensor:
        if not self.exemplars:
            return self.look(x)
        each = x.unflatten(1, (self.exemplars, -1)).flatten(0, 1)
        present = (self.look(each) - MOST * (-each[:, :1]).relu()).relu()                               # (1)
        return present.unflatten(0, (-1, self.exemplars)).sum(1)

    def lower(self, program: Program, coarse: View) -> View:
        """The layers in a step program, in the phase ``start``.

        program: takes the operations.
        coarse: a whole feature map.

        Returns a whole feature map.
        """
        with program.phase("start"):
            fine = lower_transposed(program, self.spread, self._lower_seen(program, coarse))
            program.append("relu", fine, fine)
        return fine

    def _lower_seen(self, program: Program, coarse: View) -> View:
        if not self.exemplars:
            return self.look.lower(program, coarse)
        size, one, constant = coarse.buffer.rows, coarse.part(0, self.exemplars), self.look.weight.new_full
        total = program.whole_map(self.look.out_channels, size, coarse.buffer.columns)
        for number in range(self.exemplars):
            each = program.whole_map(one.size, size, coarse.buffer.columns)
            absent = program.whole_map(1, size, coarse.buffer.columns)
            program.append("copy", coarse.part(number, self.exemplars), each)
            program.linear(each.part(0, one.size), constant((1, 1), -1.0), destination=absent)
            program.append("relu", absent, absent)
            seen = self.look.lower(program, each)
            program.linear(absent, constant((1, self.look.out_channels), -MOST), initial=seen, destination=seen)     # (1)
            program.append("relu", seen, seen)
            program.append("add", seen, total, total)
        return total

    def context(self, height: int, width: int) -> Tensor:
        """What each position of the result sees, with one level.

        height, width: of the result.

        Returns (H·W, h·w) bool: [i, j] = the result at position i sees the coarse position j.
        """
        assert self.look.coarser is None

        def near(size: int, factor: int) -> Tensor:
            at, coarse = torch.arange(size) // factor, torch.arange(-(-size // factor))
            return (at[:, None] - coarse).abs() <= 1

        rows, columns = near(height, self.factors[0]), near(width, self.factors[1])
        return (rows[:, None, :, None] & columns[None, :, None, :]).flatten(2).flatten(0, 1)
