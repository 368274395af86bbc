"""Causal convolutions without masks: a kernel is a list of taps, and a forbidden tap is simply not there.

Features in ``forward`` are channels last, (B, H, W, C): a convolution is then one matrix product per tap on flat rows, the fastest plain
way found on a CPU (``benchmarks/training.py``); float32 there is computed by ``native/convolution.py``. Each layer also defines its step,
``lower``, in the operations of ``program/builder.py``.

    CausalConvolution     what a pixel may see: rows above, columns to the left, earlier colour groups of the pixel itself
    VerticalConvolution   what a row may see: its own row and rows above, both sides; for stacks that live one row up (``shift_down``)

Colour groups: with G groups, channels lie as [group 0 | … | group G−1]; group g reads a prefix of the pixel's channels, so no mask either.
B images, H rows, W columns, I input channels, O output channels, T taps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..autocast import Function
from ..devices import as_like
from ..native import native_for
from ..program.builder import Program, View
from ..training_noise import Dropout


@dataclass(frozen=True)
class Tap:
    """A column of a kernel, and the outputs that it adds to.

    out[row, column, to[0]:to[1]] += Σ over its rows of x[…, column + right, :inputs] · weight;
    weight (rows · inputs, to[1] − to[0]), highest row first.

    rows: how many.
    down: rows from the pixel's to the lowest of them, 0 or less.
    right: columns from the pixel's, negative to the left.
    inputs: how many of the input channels are read, the first ones.
    to: first output channel, and last + 1.
    """

    rows: int
    down: int
    right: int
    inputs: int
    to: tuple[int, int]


def shift_down(x: Tensor) -> Tensor:
    """Every row sees the one above it: x (B, H, W, C) → the same shape. In a step this is the order of the phases, so it has no ``lower``.
    """
    return F.pad(x[:, :-1], (0, 0, 0, 0, 1, 0))


class _Taps(Function):
    """Sum of shifted products over flat positions: the rows that a kernel sees lie side by side in each position, so a tap is one product.

    The first position of a row follows the last one of the row before: ``_Shift`` keeps outputs there out of a tap that looks beyond.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor | None, initial: Tensor | None, taps: Sequence[Tap], outputs: int, *weights: Tensor
    ) -> Tensor:
        batch, height, width, inputs = x.shape
        highest = min((tap.down - tap.rows + 1 for tap in taps), default=0)
        slots = max((tap.down for tap in taps), default=0) - highest + 1
        ups = [-(highest + slot) for slot in range(slots)]                # how far above the pixel each slot's row is
        seen = x
        if ups != [0]:
            seen = x.new_empty(batch, height, width, slots * inputs)
            for slot, up in enumerate(ups):
                part = seen[..., slot * inputs : (slot + 1) * inputs]
                part[:, :up] = 0
                part[:, up:] = x[:, : max(0, height - up)]
        out = x.new_empty(batch, height, width, outputs)
        start = initial if bias is None else bias
        if initial is not None and bias is not None:
            torch.add(initial.expand_as(out), bias, out=out)
        else:
            out.zero_() if start is None else out.copy_(start)
        flat, shifts = seen.reshape(-1, slots * inputs), []
        for tap, weight in zip(taps, weights, strict=True):
            first = (tap.down - tap.rows + 1 - highest) * inputs
            shift = _Shift(tap.right, slice(first, first + (tap.rows - 1) * inputs + tap.inputs), slice(*tap.to))
            beyond = shift.beyond(out)
            kept = beyond.clone()
            shift.target(out).addmm_(shift.source(flat), weight)
            beyond.copy_(kept)
            shifts.append(shift)
        ctx.save_for_backward(flat, *weights)
        ctx.shifts, ctx.ups, ctx.inputs = shifts, ups, inputs
        ctx.initial_shape = None if initial is None else initial.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        flat, *weights = ctx.saved_tensors
        grad, needed = grad.contiguous(), ctx.needs_input_grad
        grad_flat = None
        grad_weights: list[Tensor | None] = [None] * len(weights)
        for i, (shift, weight) in reversed(list(enumerate(zip(ctx.shifts, weights, strict=True)))):
            beyond = shift.beyond(grad)
            kept = beyond.clone()
            beyond.zero_()                                                # for a moment: this tap gave nothing there
            target = shift.target(grad)
            if needed[5 + i]:
                grad_weights[i] = shift.source(flat).t() @ target
            if needed[0] and grad_flat is None and len(target) == len(flat) and len(weight) == flat.shape[1]:
                grad_flat = target @ weight.t()
            elif needed[0]:
                grad_flat = torch.zeros_like(flat) if grad_flat is None else grad_flat
                shift.source(grad_flat).addmm_(target, weight.t())
            beyond.copy_(kept)
        grad_x = None
        if needed[0]:
            height = grad.shape[1]
            framed = (torch.zeros_like(flat) if grad_flat is None else grad_flat).view(*grad.shape[:3], flat.shape[1])
            for slot, up in enumerate(ctx.ups):
                part = framed[:, up:, :, slot * ctx.inputs : (slot + 1) * ctx.inputs]
                part = F.pad(part, (0, 0, 0, 0, 0, min(up, height))) if up else part
                grad_x = part if grad_x is None else grad_x + part
        grad_bias = grad.sum((0, 1, 2)) if needed[1] else None
        grad_initial = grad.sum_to_size(ctx.initial_shape) if needed[2] else None
        return grad_x, grad_bias, grad_initial, None, None, *grad_weights


@dataclass(frozen=True)
class _Shift:
    """Positions p of an output read p + right of an input, in channels ``reads`` of inputs (P, C), ``writes`` of outputs (B, H, W, O)."""

    right: int
    reads: slice
    writes: slice

    def source(self, flat: Tensor) -> Tensor:
        return flat[max(0, self.right) : max(0, len(flat) + min(0, self.right)), self.reads]

    def target(self, out: Tensor) -> Tensor:
        flat = out.flatten(0, 2)
        return flat[max(0, -self.right) : max(0, len(flat) - max(0, self.right)), self.writes]

    def beyond(self, out: Tensor) -> Tensor:
        """Outputs that look over the border."""
        width = out.shape[2]
        columns = slice(0, min(-self.right, width)) if self.right < 0 else slice(max(0, width - self.right), width)
        return out[:, :, columns, self.writes]


def convolve(
    x: Tensor | Sequence[Tensor],
    taps: Sequence[Tap],
    weights: Sequence[Tensor],
    bias: Tensor | None,
    initial: Tensor | None,
    outputs: int,
    stride: int = 1,
    before: str = "",
    dropout: Dropout | None = None,
) -> Tensor:
    """A convolution by taps, zeros beyond the borders.

    x: (B, H, W, I), or several, side by side.
    taps, weights: as many of both.
    bias: (O,) or None.
    initial: added to the result, to which it broadcasts, or None.
    outputs: O.
    stride: default 1.
    before: a function of x that the convolution sees instead: "relu", "concat_elu" (of each of several), or "" (default) for x itself.
    dropout: of what the convolution sees; None (default) for none.

    Returns initial + bias + Σ taps, (B, ⌈H / stride⌉, ⌈W / stride⌉, O).
    """
    sources = [x] if isinstance(x, Tensor) else list(x)
    pointwise = all(tap.rows == 1 and tap.down == tap.right == 0 for tap in taps)
    cast = pointwise and torch.is_autocast_enabled("cpu")                 # a product, which torch casts
    if stride != 1 or native_for(sources[0]) is None or cast:
        return _convolve_by_torch(enter(sources, before, dropout), taps, weights, bias, initial, outputs, stride)
    from ..native.convolution import Convolved

    dropped = None
    if dropout is not None and dropout.active:
        count = sum(source.shape[-1] for source in sources) * (2 if before == "concat_elu" else 1)
        dropped = dropout.bits(torch.Size([*sources[0].shape[:-1], count]))
        if dropped is None:                                               # from torch's generator
            sources, before = [enter(sources, before, dropout)], ""
    base = None if bias is None else bias[None]
    if initial is not None and initial.shape[1:-1].numel() == 1:            # a condition: one vector per image
        base, initial = initial[:, 0, 0] if base is None else base + initial[:, 0, 0], None
    if initial is not None:
        initial = initial.expand(*sources[0].shape[:-1], outputs)
    return Convolved.apply(tuple(taps), outputs, before, dropped, len(sources), base, initial, *sources, *weights)


def matmul(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x · weight + bias of every position.

    x: (…, K).
    weight: (K, N).
    bias: (N,); None (default) for none.

    Returns (…, N).
    """
    taps = (Tap(1, 0, 0, len(weight), (0, weight.shape[1])),)
    return convolve(x.reshape(1, 1, -1, len(weight)), taps, [weight], bias, None, weight.shape[1]).view(*x.shape[:-1], -1)


def enter(sources: Sequence[Tensor], before: str, dropout: Dropout | None) -> Tensor:
    """What a convolution of these sources sees; see ``convolve``."""
    seen = [BEFORE[before](source) if before else source for source in sources]
    x = seen[0] if len(seen) == 1 else torch.cat(seen, -1)
    return x if dropout is None else dropout(x)


def _convolve_by_torch(
    x: Tensor, taps: Sequence[Tap], weights: Sequence[Tensor], bias: Tensor | None, initial: Tensor | None, outputs: int, stride: int
) -> Tensor:
    """For strides, other devices and precisions, and without numba."""
    if stride != 1 or x.device.type != "cpu" or torch.compiler.is_compiling():
        out = convolve_dense(x, taps, weights, bias, outputs, stride)
        return out if initial is None else out + initial
    if taps == [Tap(1, 0, 0, x.shape[-1], (0, outputs))]:                   # 1x1: torch's own product and gradient
        start = x.new_zeros(outputs) if bias is None else bias
        if initial is not None:
            start = (initial if bias is None else initial + bias).expand(*x.shape[:-1], outputs).flatten(0, 2)
        return torch.addmm(start, x.flatten(0, 2), weights[0]).view(*x.shape[:-1], outputs)
    return _Taps.apply(x, bias, initial, taps, outputs, *weights)         # pyright: ignore[reportReturnType]


def convolve_dense(x: Tensor, taps: Sequence[Tap], weights: Sequence[Tensor], bias: Tensor | None, outputs: int, stride: int = 1) -> Tensor:
    """The same by one library convolution over the taps' bounding box: for strides, for a GPU, and as the tests' reference.

    x, taps, weights, bias, outputs, stride: as for ``convolve``.

    Returns bias + Σ taps, (B, ⌈H / stride⌉, ⌈W / stride⌉, O).
    """
    top = max(tap.rows - 1 - tap.down for tap in taps)
    left, after = max(0, 0, *(-tap.right for tap in taps)), max(0, 0, *(tap.right for tap in taps))
    kernel = (weights[0] if weights else x).new_zeros(top + 1, left + after + 1, x.shape[-1], outputs)
    for tap, weight in zip(taps, weights, strict=True):
        row, column = top + tap.down - tap.rows + 1, left + tap.right
        sides = ((tap.to[0], outputs - tap.to[1]), (0, x.shape[-1] - tap.inputs), (column, left + after - column), (row, -tap.down))
        kernel = kernel + F.pad(weight.reshape(tap.rows, 1, tap.inputs, -1), [zeros for side in sides for zeros in side])
    padded = F.pad(x, (0, 0, left, after, top, 0)).permute(0, 3, 1, 2)
    return F.conv2d(padded, kernel.permute(3, 2, 0, 1), bias, stride).permute(0, 2, 3, 1)


class Convolution(nn.Module):
    """Weights of a list of taps, optionally weight-normalised (Salimans & Kingma 2016); base of the two causal layers.

    A weight-normalised layer initialises itself on data while ``initialise_weight_norm`` runs.

    inputs, outputs: channels.
    taps: of the kernel.
    bias: whether there is one.
    weight_norm: whether weights are a direction and a gain for each output.
    scale: of the initial weights, and the standard deviation of outputs after a data-dependent initialisation.
    stride: of rows and columns.
    """

    def __init__(self, inputs: int, outputs: int, taps: list[Tap], bias: bool, weight_norm: bool, scale: float, stride: int) -> None:
        super().__init__()
        self.inputs, self.outputs, self.taps, self.stride, self.scale = inputs, outputs, taps, stride, scale
        fan = max(1, sum(tap.rows * tap.inputs for tap in taps if tap.to[1] == outputs))
        bound = scale / math.sqrt(fan)
        self.weights = nn.ParameterList(torch.empty(tap.rows * tap.inputs, tap.to[1] - tap.to[0]).uniform_(-bound, bound) for tap in taps)
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound)) if bias else None
        self.gain = nn.Parameter(self._norm().detach()) if weight_norm else None
        self.initialising = False

    def _norm(self) -> Tensor:
        """Euclidean length of each output's weights, (O,)."""
        square = self.weights[0].new_zeros(self.outputs)
        for tap, weight in zip(self.taps, self.weights, strict=True):
            square = square + F.pad(weight.square().sum(0), (tap.to[0], self.outputs - tap.to[1]))
        return square.clamp_min(1e-24).sqrt()

    def effective(self) -> list[Tensor]:
        """The weights as used: each output's direction times its gain."""
        if self.gain is None:
            return list(self.weights)
        native = native_for(self.gain)
        if native is not None:
            return list(native.Normalised.apply(tuple(tap.to for tap in self.taps), self.gain, *self.weights))
        ratio = self.gain / self._norm()
        return [weight * ratio[tap.to[0] : tap.to[1]] for tap, weight in zip(self.taps, self.weights, strict=True)]

    @torch.no_grad()
    def exact(self) -> list[Tensor]:
        """The same for a program: in float64, squares added one after another, so that no bit depends on how a library sums."""
        if self.gain is None:
            return list(self.weights)
        square = np.zeros(self.outputs)
        exact = [weight.cpu().double().numpy() for weight in self.weights]
        for tap, weight in zip(self.taps, exact, strict=True):
            square[tap.to[0] : tap.to[1]] += np.cumsum(weight * weight, 0)[-1]
        with np.errstate(invalid="ignore"):                               # what is not finite is refused where it is drawn from
            ratio = self.gain.cpu().double().numpy() / np.sqrt(np.maximum(square, 1e-24))
        scaled = [weight * ratio[tap.to[0] : tap.to[1]] for tap, weight in zip(self.taps, exact, strict=True)]
        return [as_like(torch.from_numpy(weight), self.weights[0]) for weight in scaled]

    def compute(
        self,
        x: Tensor | Sequence[Tensor],
        weights: list[Tensor],
        bias: Tensor | None,
        initial: Tensor | None,
        before: str = "",
        dropout: Dropout | None = None,
    ) -> Tensor:
        """The convolution by given weights.

        x: (B, H, W, I), or several, side by side.
        weights: one per tap.
        bias: (O,) or None.
        initial: added to the result, to which it broadcasts, or None.
        before, dropout: as for ``convolve``.

        Returns (B, ⌈H / stride⌉, ⌈W / stride⌉, O).
        """
        return convolve(x, self.taps, weights, bias, initial, self.outputs, self.stride, before, dropout)

    def forward(
        self, x: Tensor | Sequence[Tensor], initial: Tensor | None = None, before: str = "", dropout: Dropout | None = None
    ) -> Tensor:
        """The convolution by the layer's own weights.

        x: (B, H, W, I), or several, side by side.
        initial: added to the result, to which it broadcasts; None (default) for nothing.
        before: a function of x that the convolution sees instead, "relu" or "concat_elu"; "" (default) for x itself.
        dropout: of what the convolution sees; None (default) for none.

        Returns initial + bias + convolution, (B, ⌈H / stride⌉, ⌈W / stride⌉, O).
        """
        if self.initialising:
            x, before, dropout = enter([x] if isinstance(x, Tensor) else x, before, dropout), "", None
            self._initialise(x)
        return self.compute(x, self.effective(), self.bias, initial, before, dropout)

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        """Outputs of mean 0 and standard deviation ``scale`` on x; one that hardly varies there keeps its gain.

        Hardly: by a hundredth of its mean, or by so little that it may be rounding alone (layers and their inputs are of order 1).
        """
        assert self.gain is not None
        out = self.compute(x, self.effective(), None, None).flatten(0, 2)
        mean, spread = out.mean(0), out.std(0, unbiased=False)
        varies = spread > (1e-2 * mean.abs()).clamp_min(1e-4 * self.scale)
        factor = torch.where(varies, self.scale / spread, torch.ones_like(spread))
        self.gain.mul_(factor)
        if self.bias is not None:
            self.bias.copy_(-mean * factor)


def initialise_weight_norm(model: nn.Module, run: Any) -> None:
    """Run a forward pass once; each weight-normalised layer sets its gain and bias as it is reached.

    model: holds the layers.
    run: called without arguments; a forward pass of ``model``.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, Convolution) and layer.gain is not None]
    for layer in layers:
        layer.initialising = True
    try:
        with torch.no_grad():
            run()
    finally:
        for layer in layers:
            layer.initialising = False


class CausalConvolution(Convolution):
    """A convolution over what a pixel may see.

    inputs, outputs: channels, both multiples of ``groups``.
    above: rows above; default 0.
    columns: first and last column seen in them, from the pixel's.
    left: columns of its own row; default 0.
    centre: what is seen of the pixel itself: nothing ("none"), earlier colour groups ("before": mask A), or those and its own ("through":
        mask B).
    groups: colour groups; default 1.
    bias, weight_norm, scale, stride: as of ``Convolution``.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        above: int = 0,
        columns: tuple[int, int] = (0, 0),
        left: int = 0,
        centre: Literal["none", "before", "through"] = "none",
        groups: int = 1,
        bias: bool = True,
        weight_norm: bool = False,
        scale: float = 1.0,
        stride: int = 1,
    ) -> None:
        assert inputs % groups == 0 and outputs % groups == 0, "channels divide into colour groups"
        self.above, self.columns, self.left, self.groups = above, columns, left, groups
        every = (0, outputs)
        taps = [Tap(above, -1, right, inputs, every) for right in range(columns[0], columns[1] + 1)] if above else []
        taps += [Tap(1, 0, right, inputs, every) for right in range(-left, 0)]
        width = outputs // groups
        for group in range(groups):
            prefix = {"none": 0, "before": group, "through": group + 1}[centre] * inputs // groups
            if prefix:
                taps.append(Tap(1, 0, 0, prefix, (group * width, (group + 1) * width)))
        super().__init__(inputs, outputs, taps, bias, weight_norm, scale, stride)

    def lower(self, program: Program, source: View, initial: View | None = None, level: int | None = None) -> View:
        """The step of the layer.

        program: takes the layer's operations.
        source: a feature map of the pixel phases.
        initial: one of the row phase that the result is added to (of any phase if nothing is above); default None.
        level: resolution of the result; default that of ``source``.

        Returns a feature map of the pixel phases, or of the row phase if everything seen is above.
        """
        weights, bias = self.exact(), self.bias
        level = source.buffer.level if level is None else level
        count = (self.columns[1] - self.columns[0] + 1) if self.above else 0
        if self.above:
            with program.phase("row"), program.grid(source.buffer.level):
                seen = program.history(source, self.above)
            with program.phase("row"):
                window = seen.window(*self.columns, step=self.stride)
                initial, bias = program.linear(window, torch.cat(weights[:count]), bias, initial, level=level), None
            if len(weights) == count:
                return initial
        out = program.map(self.outputs, level)
        part = self.outputs // self.groups
        for group in program.each_group():
            ours = slice(group * part, (group + 1) * part)
            rows = [weight[:, ours] for weight in weights[count : count + self.left]]
            centre = [w for tap, w in zip(self.taps, weights, strict=True) if tap.down == tap.right == 0 and tap.to[0] == group * part]
            unseen = self.inputs - sum(len(weight) for weight in centre)
            program.linear(
                source.window(-self.left, 0, self.stride, leave_out=unseen),
                torch.cat([*rows, *centre]) if rows or centre else self.weights[-1].new_zeros(0, part),
                None if bias is None else bias[ours],
                None if initial is None else initial.part(group, self.groups),
                out.part(group, self.groups),
            )
        return out


class VerticalConvolution(Convolution):
    """A convolution over what a finished row may see, all colours of it.

    inputs, outputs: channels.
    rows: its own row and those above; default 1.
    columns: of the kernel, odd, centred; default 1.
    weight_norm, scale, stride: as of ``Convolution``.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        rows: int = 1,
        columns: int = 1,
        weight_norm: bool = False,
        scale: float = 1.0,
        stride: int = 1,
    ) -> None:
        self.rows, self.reach = rows, columns // 2
        every = (0, outputs)
        taps = [Tap(rows, 0, right, inputs, every) for right in range(-self.reach, self.reach + 1)]
        super().__init__(inputs, outputs, taps, True, weight_norm, scale, stride)

    def lower(self, program: Program, source: View, initial: View | None = None, level: int | None = None) -> View:
        """The step of the layer.

        program: takes the layer's operations.
        source: a feature map of the row phase, or one of the pixel phases, which is one row up there.
        initial: a feature map of the row phase that the result is added to; default None.
        level: resolution of the result; default that of ``source``.

        Returns a feature map of the row phase.
        """
        level = source.buffer.level if level is None else level
        with program.phase("row"):
            with program.grid(source.buffer.level):
                seen = program.history(source, self.rows)
            weight = torch.cat(self.exact())
            return program.linear(seen.window(-self.reach, self.reach, self.stride), weight, self.bias, initial, level=level)


class _Gate(Function):
    """tanh(a) σ(b) for x = [a | b] in the last dimension, as (1 − 2 σ(−2a)) σ(b): torch's tanh costs four sigmoids on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        n = x.shape[-1] // 2
        s = torch.mul(x, x.new_tensor([-2.0] * n + [1.0] * n)).sigmoid_()
        ctx.save_for_backward(s)
        return torch.addcmul(s[..., n:], s[..., :n], s[..., n:], value=-2.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (s,) = ctx.saved_tensors
        n = s.shape[-1] // 2
        p, q = s[..., :n], s[..., n:]
        gradient = torch.empty_like(s)
        scaled = grad * q
        content = torch.rsub(p, 1.0)
        torch.mul(content, p, out=gradient[..., :n]).mul_(scaled).mul_(4.0)
        torch.addcmul(scaled, scaled, p, value=-2.0, out=gradient[..., n:]).mul_(torch.rsub(q, 1.0))
        return gradient


def gate(x: Tensor, groups: int = 1) -> Tensor:
    """The gated activation tanh(a) σ(b).

    x: (…, 2C), as [a₀ b₀ | a₁ b₁ | …] for colour groups.
    groups: colour groups, 1 by default.

    Returns (…, C).
    """
    if torch.compiler.is_compiling():                                     # which fuses it
        content, opening = x.unflatten(-1, (groups, 2, -1)).unbind(-2)
        return (content.tanh() * opening.sigmoid()).flatten(-2)
    native = native_for(x)
    apply = (_Gate if native is None else native.Gate).apply
    return apply(x) if groups == 1 else apply(x.unflatten(-1, (groups, -1))).flatten(-2)  # pyright: ignore[reportReturnType, reportAttributeAccessIssue]


def glu(x: Tensor, z: Tensor) -> Tensor:
    """The residual gated linear unit x + a σ(b).

    x: (…, C).
    z: (…, 2C), [a | b].

    Returns (…, C).
    """
    native = native_for(x)
    if native is not None:
        return native.Glu.apply(x, z)
    a, b = z.chunk(2, -1)
    return x + a * torch.sigmoid(b)


def concat_elu(x: Tensor) -> Tensor:
    """[elu(x) | elu(−x)]: (…, C) → (…, 2C)."""
    return F.elu(torch.cat([x, -x], -1))


BEFORE = {"relu": F.relu, "concat_elu": concat_elu}
