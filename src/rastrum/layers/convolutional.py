"""Convolutional LSTM, and images as blocks: the layers of a recurrent model of whole feature maps.

Source: Shi, Chen, Wang, Yeung, Wong, Woo, "Convolutional LSTM Network", 2015; peepholes left out.

    inputs ─┐
    h ──────┴─▶ k by k convolution ─▶ o, f, i, g ─▶ c ← σ(f)·c + σ(i)·tanh(g),  h ← σ(o)·tanh(c)

A strided convolution is a plain one over blocks: every s by s pixels become channels of one position, zeros fill the last row and column
of blocks, and a k by k kernel of blocks sees s·k by s·k pixels. ``from_blocks`` drops what was filled. So any size works with any stride.

Dimensions: B batch · C channels · H, W height and width · s stride · h, w = ⌈H/s⌉, ⌈W/s⌉.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..program.builder import Program, View
from . import lstm
from .frames import FrameConvolution


def to_blocks(x: Tensor, stride: int) -> Tensor:
    """Pixels of each block as channels.

    x: (B, C, H, W).
    stride: side of a block in pixels.

    Returns (B, C·s², h, w).
    """
    height, width = x.shape[2:]
    whole = F.pad(x, (0, -width % stride, 0, -height % stride))
    if len(whole) == 0:                                                   # torch shuffles no empty batch
        return whole.new_zeros(0, whole.shape[1] * stride**2, *(-(-side // stride) for side in (height, width)))
    return F.pixel_unshuffle(whole, stride)


def from_blocks(blocks: Tensor, stride: int, height: int, width: int) -> Tensor:
    """The inverse of ``to_blocks``.

    blocks: (B, C·s², h, w).
    stride: side of a block in pixels.
    height, width: of the result; what was filled is dropped.

    Returns (B, C, H, W).
    """
    return F.pixel_shuffle(blocks, stride)[:, :, :height, :width]


def in_blocks(view: View, stride: int) -> View:
    """A whole map of a step program that is read or written block by block.

    view: the map.
    stride: side of a block in positions.
    """
    return replace(view, step=stride, row_step=stride)


class ConvLSTM(nn.Module):
    """LSTM whose gates are convolutions of inputs and h.

    inputs: channels of all inputs.
    features: channels of h and of the cell.
    kernel: side of the convolution, odd.
    """

    def __init__(self, inputs: int, features: int, kernel: int) -> None:
        super().__init__()
        self.gates = convolution(inputs + features, 4 * features, kernel, gain=2.0)  # for inputs that are small at first
        with torch.no_grad():
            lstm.reorder_drawn_gates(self.gates, features)
            self.gates.bias[features : 2 * features] = 1.0  # pyright: ignore[reportOptionalSubscript]

    def forward(self, inputs: list[Tensor], h: Tensor, cell: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One step.

        inputs: feature maps (B, …, h, w), side by side.
        h, cell: (B, features, h, w).
        condition: added to the gates at every position, (B, 4·features), or None.

        Returns the next h and cell.
        """
        gates = self.gates(*inputs, h)
        if condition is not None:
            gates = gates + condition[:, :, None, None]
        h, cell = lstm.cell(gates.movedim(1, -1), cell.movedim(1, -1))
        return h.movedim(-1, 1), cell.movedim(-1, 1)

    def lower(self, program: Program, inputs: Sequence[View], h: View, cell: View, condition: View | None = None) -> None:
        """One step in a step program, in the open phase over whole maps; changes h and cell.

        program: takes the operations.
        inputs: as for ``Convolution.lower``.
        h, cell: whole maps of ``features``.
        condition: added to the gates, a single column of 4·features; None (default) for nothing.
        """
        gates = program.whole_map(self.gates.out_channels, h.buffer.rows, h.buffer.columns)
        self.gates.lower(program, [*inputs, h], condition, gates)
        program.append("lstm", gates, h, initial=cell)


class Convolution(FrameConvolution):
    """A convolution that keeps the size, of channels-first feature maps; in memory its result has the channels last."""

    def forward(self, *sources: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The convolution of sources (B, …, h, w), side by side → (B, outputs, h, w)."""
        if torch.is_autocast_enabled("cpu"):                              # which casts torch's convolutions, not the compiled ones
            return nn.Conv2d.forward(self, torch.cat(sources, 1))
        return super().forward([x.movedim(1, -1) for x in sources]).movedim(-1, 1)

    def lower(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, program: Program, sources: Sequence[View], initial: View | None, destination: View
    ) -> None:
        """The layer in a step program, in the open phase over whole maps.

        program: takes the operations.
        sources: whole maps, side by side; one that is read ``in_blocks`` counts as its ``to_blocks``.
        initial: added to the result, a whole map that is read as the destination is written, or a single column; None for nothing.
        destination: a whole map; one that is written ``in_blocks`` takes the ``from_blocks`` of the result.
        """
        kernel, inner = self.kernel_size[0], destination.step
        assert self.bias is not None
        for number, (down, right) in enumerate(product(range(inner), repeat=2)):
            out = replace(destination, row_shift=down, shift=right)
            begin = initial if initial is None or initial.step < inner else replace(initial, row_shift=down, shift=right)
            bias = self.bias[number :: inner**2]
            weights = self.weight[number :: inner**2].split([source.size * source.step**2 for source in sources], 1)
            for source, weight in zip(sources, weights, strict=True):
                s, middle = source.step, kernel // 2
                taps = weight.unflatten(1, (source.size, s, s)).permute(4, 2, 5, 3, 1, 0)    # kernel row, row, kernel column, column, C, O
                for row in range(kernel * s):
                    seen = replace(source, shift=-s * middle, row_shift=row - s * middle, size=kernel * s * source.size)
                    program.linear(seen, taps[row // s, row % s].flatten(0, 2), bias, begin, out)
                    begin, bias = out, None


def convolution(inputs: int, outputs: int, kernel: int, gain: float = 1.0) -> Convolution:
    """A convolution that keeps the size; weights of standard deviation gain/√(values that it sums), biases of 0.

    inputs, outputs: channels.
    kernel: side, odd.
    gain: default 1.
    """
    layer = Convolution(inputs, outputs, kernel)
    nn.init.normal_(layer.weight, std=gain * (inputs * kernel**2) ** -0.5)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
