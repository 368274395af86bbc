"""Layers over whole frames of a video: convolutions that may be dilated, a convolutional LSTM over time, and the multiplicative unit.

A frame is complete before any of them runs, so nothing is masked. Feature maps are channels last, (B, T, H, W, C) or (B, H, W, C);
in a step program they stand in the phase ``frame``, which runs over whole feature maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..native import native_for
from ..program.builder import Program, View
from . import lstm
from .causal import Tap, convolve


def multiplicative(gates: Tensor, h: Tensor, groups: int = 1) -> Tensor:
    """A multiplicative unit, g₁ tanh(g₂ h + g₃ u).

    gates: (…, 4C), before σ and tanh, as [g₁ g₂ g₃ u] of each colour group.
    h: (…, C), in the same groups.
    groups: colour groups; default 1.

    Returns (…, C).
    """
    native = native_for(gates)
    if native is not None:
        parts = gates.unflatten(-1, (groups, -1)), h.unflatten(-1, (groups, -1))
        return native.Multiplicative.apply(*parts).flatten(-2)
    opened = gates.unflatten(-1, (groups, 4, -1))
    g = opened[..., :3, :].sigmoid()
    inner = g[..., 1, :] * h.unflatten(-1, (groups, -1)) + g[..., 2, :] * opened[..., 3, :].tanh()
    return (g[..., 0, :] * inner.tanh()).flatten(-2)


class FrameConvolution(nn.Conv2d):
    """A convolution with zeros beyond the borders; the size stays.

    inputs, outputs: channels.
    kernel: side, odd.
    dilation: pixels from one row or column of the kernel to the next; default 1.
    bias: default True.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=bias)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Tensor | Sequence[Tensor], initial: Tensor | None = None
    ) -> Tensor:
        """The convolution of each frame.

        x: (…, H, W, I), or several, side by side.
        initial: added to the result, (…, H, W, O); None (default) for nothing.

        Returns initial + bias + convolution, (…, H, W, O).
        """
        sources = [x] if isinstance(x, Tensor) else list(x)
        shape = sources[0].shape[:-3]
        if native_for(sources[0]) is not None:
            kernel, dilation = self.kernel_size[0], self.dilation[0]
            at = range(-dilation * (kernel // 2), dilation * (kernel // 2) + 1, dilation)
            rows = kernel if dilation == 1 else 1                           # neighbouring rows are one tap
            taps = [Tap(rows, down, right, self.in_channels, (0, self.out_channels)) for right in at for down in at[rows - 1 :: rows]]
            weights = self.weight.permute(3, 2, 1, 0).reshape(len(taps), rows * self.in_channels, -1).unbind()
            start = None if initial is None else initial.flatten(0, -4)
            frames = [source.flatten(0, -4) for source in sources]
            return convolve(frames, taps, weights, self.bias, start, self.out_channels).unflatten(0, shape)
        x = sources[0] if len(sources) == 1 else torch.cat(sources, -1)
        if self.kernel_size == (1, 1):
            out = F.linear(x, self.weight[:, :, 0, 0], self.bias)
        else:
            out = super().forward(x.flatten(0, -4).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).unflatten(0, shape)
        return out if initial is None else out + initial

    def lower(self, program: Program, source: View, initial: View | None = None, destination: View | None = None) -> View:
        """The layer in a step program; call it in a phase of whole feature maps.

        program: takes the layer's operations.
        source: a whole feature map.
        initial: a whole feature map that the result is added to; default None.
        destination: where the result goes; None (default) makes a new feature map.

        Returns the destination.
        """
        kernel, dilation = self.kernel_size[0], self.dilation[0]
        weight = self.weight.permute(2, 3, 1, 0)                          # (row, column, I, O)
        buffer = source.buffer
        out = program.whole_map(self.out_channels, buffer.rows, buffer.columns) if destination is None else destination
        bias = self.bias
        for row in range(kernel):
            down = (row - kernel // 2) * dilation
            # Neighbouring columns are one slice; columns that lie apart are not.
            parts = [(range(kernel), weight[row].flatten(0, 1))] if dilation == 1 else [((c,), weight[row, c]) for c in range(kernel)]
            for columns, part in parts:
                shift = (columns[0] - kernel // 2) * dilation
                seen = replace(source, shift=shift, row_shift=down, size=source.size * len(columns))
                program.linear(seen, part, bias, initial, out)
                bias, initial = None, out
        return out


class FrameMemory(nn.Module):
    """x + 1x1 of a convolutional LSTM over frames (Shi et al. 2015) without peepholes: gates [o f i g] of x and of its own h.

    channels: of x.
    units: channels of h.
    kernel: side of both convolutions, odd; default 3.
    """

    def __init__(self, channels: int, units: int, kernel: int = 3) -> None:
        super().__init__()
        self.enter = FrameConvolution(channels, 4 * units, kernel)
        self.keep = FrameConvolution(units, 4 * units, kernel, bias=False)
        self.widen = FrameConvolution(units, channels, 1)
        self.first_h, self.first_cell = (nn.Parameter(torch.zeros(units)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, H, W, channels), frame after frame → the same shape."""
        gates = self.enter(x)
        shape = (*gates[:, 0].shape[:-1], -1)
        h, cell, after = self.first_h.expand(shape), self.first_cell.expand(shape), []
        for t in range(gates.shape[1]):
            h, cell = lstm.cell(self.keep(h, gates[:, t]), cell)
            after.append(h)
        return self.widen(torch.stack(after, 1), x)

    def lower(self, program: Program, x: View) -> View:
        """The layer in a step program; call it in the phase ``frame``. The cell and its h stay from frame to frame.

        program: takes the operations.
        x: a whole feature map.

        Returns a whole feature map.
        """
        rows, columns = x.buffer.rows, x.buffer.columns
        h, cell = (program.whole_map(len(first), rows, columns, initial=first) for first in (self.first_h, self.first_cell))
        program.append("lstm", self.keep.lower(program, h, self.enter.lower(program, x)), h, initial=cell)
        return self.widen.lower(program, h, x)
