"""A feature map at every position of an image, made of a coarse one: a convolution and a transposed one."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..program.builder import Program, View


class Upsampling(nn.Module):
    """3x3, relu, transposed convolution, relu; the result is cropped to a given size.

    channels: of the coarse map.
    outputs: channels of the result.
    factors: how many times as many rows and columns there are then.
    """

    def __init__(self, channels: int, outputs: int, factors: tuple[int, int]) -> None:
        super().__init__()
        self.factors = factors
        self.look = nn.Conv2d(channels, outputs, 3, padding=1)
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
        return self.spread(self.look(x).relu()).relu()[:, :, :height, :width].permute(0, 2, 3, 1)

    def lower(self, program: Program, coarse: View) -> View:
        """The layers in a step program, in the phase ``start``.

        program: takes the operations.
        coarse: a whole feature map.

        Returns a whole feature map.
        """
        assert self.look.bias is not None and self.spread.bias is not None
        (down, right), outputs = self.factors, len(self.look.bias)
        rows, columns = coarse.buffer.rows, coarse.buffer.columns
        seen = program.whole_map(outputs, rows, columns)
        fine = program.whole_map(outputs, rows * down, columns * right)
        with program.phase("start"):
            for row, weight in enumerate(self.look.weight.permute(2, 3, 1, 0).flatten(1, 2)):
                window = replace(coarse.window(-1, 1), row_shift=row - 1)
                bias, initial = (None, seen) if row else (self.look.bias, None)
                program.linear(window, weight, bias, initial, seen)
            program.append("relu", seen, seen)
            for row in range(down):
                for column in range(right):
                    to = replace(fine, row_shift=row, row_step=down, shift=column, step=right)
                    program.linear(seen, self.spread.weight[:, :, row, column], self.spread.bias, destination=to)
            program.append("relu", fine, fine)
        return fine

    def context(self, height: int, width: int) -> Tensor:
        """What each position of the result sees.

        height, width: of the result.

        Returns (H·W, h·w) bool: [i, j] = the result at position i sees the coarse position j.
        """

        def near(size: int, factor: int) -> Tensor:
            at, coarse = torch.arange(size) // factor, torch.arange(-(-size // factor))
            return (at[:, None] - coarse).abs() <= 1

        rows, columns = near(height, self.factors[0]), near(width, self.factors[1])
        return (rows[:, None, :, None] & columns[None, :, None, :]).flatten(2).flatten(0, 1)
