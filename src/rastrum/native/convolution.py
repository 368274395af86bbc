"""A convolution by taps (``layers/causal.py``) for float32 maps on a CPU, image by image: products of overlapping windows.

    x ─▶ relu or concat_elu, dropout ─▶ a frame of zeros around it ─▶ windows of neighbouring pixels · weights ─▶ + base + initial

In memory the pixels of a row that a window sees lie side by side, and the window of the next pixel begins one pixel later: so taps that
form a rectangle are one matrix product (``products``), and nothing is copied but the frame. What is written into it may pass a nonlinearity
on its way; backward computes that again. The gradient of x is the convolution of the gradient with the kernel turned around.

Maps are contiguous, channels last: B images, H rows, W columns, I inputs (after the nonlinearity), N outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..autocast import Function
from .arrays import array
from .compiler import compiled
from .lanes import Lanes, rowwise
from .panels import PANEL, aligned
from .products import AT_ONCE, copy_row, pack, product

NOTHING, RELU, CONCAT_ELU = range(3)
BEFORE = {"": NOTHING, "relu": RELU, "concat_elu": CONCAT_ELU}

# ── what stands before ───────────────────────────────────────────────────────────────────────────────────────────────


def _concat_elu(x: Lanes) -> list[Lanes]:
    below = x.smaller(x * -1.0).exp() - 1.0                               # e^−|x| − 1
    return [x.larger(below), (x * -1.0).larger(below)]


def _concat_elu_gradient(a: Lanes, b: Lanes, x: Lanes) -> list[Lanes]:
    decay = x.smaller(x * -1.0).exp()
    return [x.where_positive(a - b * decay, a * decay - b)]


_relu_row = rowwise([1], [1], lambda x: [x.clamp(0.0, math.inf)])
_relu_gradient_row = rowwise([1], [1, 1], lambda grad, x: [x.where_positive(grad, grad * 0.0)])
_concat_elu_row = rowwise([2], [1], _concat_elu)
_concat_elu_gradient_row = rowwise([1], [2, 1], _concat_elu_gradient)
_add_row = rowwise([1], [1, 1], lambda x, y: [x + y])


@compiled
def _enter(before, pixels, n, x, to, step):
    """Pixels of n channels, one after another at x, to the channels from ``to`` on of pixels ``step`` bytes apart."""
    if before == CONCAT_ELU:
        for i in range(pixels):
            _concat_elu_row(n, (to + i * step, n, x + 4 * n * i, 0))
    elif step == 4 * n:
        if before == RELU:
            _relu_row(pixels * n, (to, 0, x, 0))
        else:
            copy_row(pixels * n, (to, 0, x, 0))
    else:
        for i in range(pixels):
            if before == RELU:
                _relu_row(n, (to + i * step, 0, x + 4 * n * i, 0))
            else:
                copy_row(n, (to + i * step, 0, x + 4 * n * i, 0))


@compiled
def _enter_gradient(before, pixels, n, grad, step, x, grad_x):
    """The gradient of ``_enter``."""
    for i in range(pixels):
        if before == CONCAT_ELU:
            _concat_elu_gradient_row(n, (grad_x + 4 * n * i, 0, grad + i * step, n, x + 4 * n * i, 0))
        elif before == RELU:
            _relu_gradient_row(n, (grad_x + 4 * n * i, 0, grad + i * step, 0, x + 4 * n * i, 0))
        else:
            copy_row(n, (grad_x + 4 * n * i, 0, grad + i * step, 0))


@compiled
def _drop(values, bits, limit, scale):
    """Zero where the 16 random bits are below the limit, scaled elsewhere."""
    for i in range(len(values)):
        values[i] *= scale if bits[i] >= limit else np.float32(0)


@compiled
def _frame(image, before, sources, channels, bits, limit, scale, height, width, top, left, across, inputs, seen):
    """An image of all sources side by side → ``seen``, rows of ``across`` pixels of I values, whose border is zero."""
    for row in range(height):
        first, begin = 0, ((row + top) * across + left) * inputs
        for s in range(len(sources)):
            n = channels[s]
            x = sources[s] + 4 * n * (image * height + row) * width
            _enter(before, width, n, x, seen.ctypes.data + 4 * (begin + first), 4 * inputs)
            first += 2 * n if before == CONCAT_ELU else n
        if len(bits):
            size = width * inputs
            _drop(seen[begin : begin + size], bits[image, row * size : (row + 1) * size], limit, scale)


# ── forward and backward ─────────────────────────────────────────────────────────────────────────────────────────────


@compiled(slow=True, makes_arrays=True)
def convolve_forward(shape, frame, before, sources, channels, bits, limit, scale, parts, weights, base, initial, out):
    """out (B, H, W, N) = base (0, 1 or B, N) + initial (an address, 0 for none) + convolution.

    shape: B, H, W, I, N · frame: rows above and below, columns to the left and right · parts (R, 7): row and column of a window's first
    pixel in the frame, rows, values in a row, first output, outputs, offset of the weights
    """
    batch, height, width, inputs, outputs = shape
    top, bottom, left, right = frame
    across = width + left + right
    framed = top + bottom + left + right > 0
    plain = not framed and before == NOTHING and len(sources) == 1
    seen = np.zeros(0 if plain else (height + top + bottom) * across * inputs, np.float32)
    lines, along = (height, width) if framed else (1, height * width)
    filled = len(parts) == 0 or parts[0, 5] < outputs or (initial != 0 and len(base) > 0)   # else the first product begins with it
    for image in range(batch):
        source = sources[0] + 4 * image * height * width * inputs
        if not plain:
            _frame(image, before, sources, channels, bits, limit, scale, height, width, top, left, across, inputs, seen)
            source = seen.ctypes.data
        start = base.ctypes.data + 4 * outputs * (image if len(base) > 1 else 0)
        for line in range(lines):
            offset = 4 * (image * lines + line) * along * outputs
            to = out + offset
            if filled:
                for i in range(along):
                    if initial == 0:
                        copy_row(outputs, (to + 4 * outputs * i, 0, start, 0))
                    elif len(base):
                        _add_row(outputs, (to + 4 * outputs * i, 0, initial + offset + 4 * outputs * i, 0, start, 0))
                    else:
                        copy_row(outputs, (to + 4 * outputs * i, 0, initial + offset + 4 * outputs * i, 0))
            for part in range(len(parts)):
                row, column, rows, values, first, count, weight = parts[part]
                C, D, step = to + 4 * first, to + 4 * first, 4 * outputs
                if part == 0 and not filled:
                    D, step = (start, 0) if initial == 0 else (initial + offset, 4 * outputs)
                A = source + 4 * ((line + row) * across + column) * inputs
                B = weights.ctypes.data + 4 * weight
                product(along, count, A, 4 * inputs, 4 * across * inputs, 4, rows, values, B, 0, 0, D, step, C, 4 * outputs)


@compiled(slow=True, makes_arrays=True)
def convolve_gradient(
    shape, frame, before, sources, channels, bits, limit, scale, parts, turned, weights, grad, grad_sources, grad_weights, grad_base
):
    """grad (B, H, W, N), an address → grad_weights, in the order of ``parts``, and grad_base (0, 1 or B, N), both added to; grad_sources.

    turned (R, 7): as ``parts``, of windows of the gradient: row and column in its frame, rows, values in a row, inputs, offset of the
    weights, and the first output that is read · weights: turned around · grad_sources: addresses, none if no gradient is needed
    """
    batch, height, width, inputs, outputs = shape
    top, bottom, left, right = frame
    across = width + left + right
    framed = top + bottom + left + right > 0
    plain = not framed and before == NOTHING and len(sources) == 1
    seen = np.zeros(0 if plain else (height + top + bottom) * across * inputs, np.float32)
    whole = True                                                          # products read weights and gradients in whole panels
    for part in range(len(parts)):
        whole = whole and parts[part, 5] % PANEL == 0
    wide = outputs if whole else (outputs + PANEL - 1) // PANEL * PANEL
    copied = framed or not whole
    gradient = np.zeros((height + top + bottom) * across * wide + PANEL if copied else 0, np.float32)
    lines, along = (height, width) if framed else (1, height * width)
    direct = before == NOTHING and len(sources) == 1
    grad_seen = np.zeros(0 if direct else along * inputs, np.float32)
    nothing = np.zeros(inputs, np.float32)
    rows_at_once = max(1, AT_ONCE // width)
    for image in range(batch):
        source = sources[0] + 4 * image * height * width * inputs
        if not plain:
            _frame(image, before, sources, channels, bits, limit, scale, height, width, top, left, across, inputs, seen)
            source = seen.ctypes.data
        given = grad + 4 * image * height * width * outputs
        if len(grad_base):
            total = grad_base.ctypes.data + 4 * outputs * (image if len(grad_base) > 1 else 0)
            for i in range(height * width):
                _add_row(outputs, (total, 0, total, 0, given + 4 * outputs * i, 0))
        inner = given
        if copied:
            for row in range(height):
                _enter(NOTHING, width, outputs, given + 4 * row * width * outputs,
                       gradient.ctypes.data + 4 * ((bottom + row) * across + right) * wide, 4 * wide)  # fmt: skip
            given = gradient.ctypes.data
            inner = given + 4 * (bottom * across + right) * wide
        for begin in range(0, height, rows_at_once):
            many = min(rows_at_once, height - begin)
            for part in range(len(parts)):
                row, column, rows, values, first, count, weight = parts[part]
                B = inner + 4 * (begin * across * wide + first)
                for r in range(rows):
                    A = source + 4 * ((begin + row + r) * across + column) * inputs
                    C = grad_weights.ctypes.data + 4 * (weight + r * values * count)
                    product(values, count, A, 4, 4 * across * inputs, 4 * inputs, many, width, B, 4 * across * wide, 4 * wide,
                            C, 4 * count, C, 4 * count)  # fmt: skip
        if len(grad_sources) == 0:
            continue
        for line in range(lines):
            first_pixel = (image * lines + line) * along
            to = grad_sources[0] + 4 * first_pixel * inputs if direct else grad_seen.ctypes.data
            filled = len(turned) == 0 or turned[0, 4] < inputs
            if filled:
                for i in range(along):
                    copy_row(inputs, (to + 4 * inputs * i, 0, nothing.ctypes.data, 0))
            for part in range(len(turned)):
                row, column, rows, values, count, weight, first = turned[part]
                D, step = (nothing.ctypes.data, 0) if part == 0 and not filled else (to, 4 * inputs)
                A = given + 4 * (((line + row) * across + column) * wide + first)
                B = weights.ctypes.data + 4 * weight
                product(along, count, A, 4 * wide, 4 * across * wide, 4, rows, values, B, 0, 0, D, step, to, 4 * inputs)
            if not direct:
                if len(bits):
                    size = along * inputs
                    _drop(grad_seen, bits[image, line * size : (line + 1) * size], limit, scale)
                first = 0
                for s in range(len(sources)):
                    n = channels[s]
                    at = 4 * n * first_pixel
                    _enter_gradient(before, along, n, to + 4 * first, 4 * inputs, sources[s] + at, grad_sources[s] + at)
                    first += 2 * n if before == CONCAT_ELU else n


# ── which taps are one product ───────────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Rectangle:
    """Taps of neighbouring rows and columns that read all inputs and add to all outputs, or one tap.

    down, right: of its first row and column, from the pixel's.
    inputs, to: as of its taps.
    whole: whether it reads all inputs and adds to all outputs.
    taps: number of each, and its first row and column in here.
    """

    down: int
    rows: int
    right: int
    columns: int
    inputs: int
    to: tuple[int, int]
    whole: bool
    taps: list[tuple[int, int, int]]

    def widened(self, other: _Rectangle) -> bool:
        """Take what lies to the right, if it fits."""
        fits = self.whole and other.whole and (self.down, self.rows) == (other.down, other.rows)
        if fits := fits and self.right + self.columns == other.right:
            self.taps += [(tap, row, column + self.columns) for tap, row, column in other.taps]
            self.columns += other.columns
        return fits

    def heightened(self, other: _Rectangle) -> bool:
        """Take what lies below, if it fits."""
        fits = self.whole and other.whole and (self.right, self.columns) == (other.right, other.columns)
        if fits := fits and self.down + self.rows == other.down:
            self.taps += [(tap, row + self.rows, column) for tap, row, column in other.taps]
            self.rows += other.rows
        return fits


@dataclass(frozen=True, eq=False)
class Plan:
    """How a list of taps is computed.

    frame, parts, turned: see ``convolve_forward`` and ``convolve_gradient``.
    columns: of each part.
    placed: of each tap: its part, and its first row and column there.
    sizes: of the weights as both read them.
    """

    frame: tuple[int, int, int, int]
    parts: np.ndarray
    turned: np.ndarray
    columns: tuple[int, ...]
    placed: tuple[tuple[int, int, int], ...]
    sizes: tuple[int, int]


@lru_cache(maxsize=256)
def plan(taps: tuple[Any, ...], inputs: int, outputs: int) -> Plan:
    """The plan of a convolution.

    taps: a tuple of ``layers.causal.Tap``.
    inputs, outputs: channels.
    """
    rows: list[_Rectangle] = []
    for number, tap in enumerate(taps):
        whole = tap.inputs == inputs and tap.to == (0, outputs)
        one = _Rectangle(tap.down - tap.rows + 1, tap.rows, tap.right, 1, tap.inputs, tap.to, whole, [(number, 0, 0)])
        if not (rows and rows[-1].widened(one)):
            rows.append(one)
    rectangles: list[_Rectangle] = []
    for one in rows:
        if not (rectangles and rectangles[-1].heightened(one)):
            rectangles.append(one)
    top, left = max(0, 0, *(-one.down for one in rectangles)), max(0, 0, *(-one.right for one in rectangles))
    bottom = max(0, 0, *(one.down + one.rows - 1 for one in rectangles))
    right = max(0, 0, *(one.right + one.columns - 1 for one in rectangles))
    in_panels = all((one.to[1] - one.to[0]) % PANEL == 0 for one in rectangles)
    parts, turned, placed, offset, turned_offset = [], [], {}, 0, 0
    for number, one in enumerate(rectangles):
        count, values = one.to[1] - one.to[0], one.columns * one.inputs
        parts.append((top + one.down, left + one.right, one.rows, values, one.to[0], count, offset))
        offset += one.rows * values * aligned(count)
        read = one.columns * (outputs if in_panels else aligned(outputs)) if one.to == (0, outputs) else count
        last = bottom - (one.down + one.rows - 1), right - (one.right + one.columns - 1)
        turned.append((*last, one.rows, read, one.inputs, turned_offset, one.to[0]))
        turned_offset += one.rows * read * aligned(one.inputs)
        placed |= {tap: (number, row, column) for tap, row, column in one.taps}
    return Plan(
        frame=(top, bottom, left, right),
        parts=np.array(parts, np.int64).reshape(-1, 7),
        turned=np.array(turned, np.int64).reshape(-1, 7),
        columns=tuple(one.columns for one in rectangles),
        placed=tuple(placed[tap] for tap in range(len(taps))),
        sizes=(offset, turned_offset),
    )


def _packed(plan: Plan, taps: Sequence[Any], weights: Sequence[np.ndarray], inputs: int) -> np.ndarray:
    """The weights of all taps as ``convolve_forward`` reads them."""
    out = np.empty(plan.sizes[0], np.float32)
    for tap, weight, (number, row, column) in zip(taps, weights, plan.placed, strict=True):
        _, _, rows, values, _, _, offset = plan.parts[number]
        pack_rows(weight, tap.rows, rows * values, row * values + column * inputs, values, out[offset:])
    return out


def _turned(plan: Plan, taps: Sequence[Any], weights: Sequence[np.ndarray], outputs: int) -> np.ndarray:
    """The weights as ``convolve_gradient`` reads them."""
    out = np.zeros(plan.sizes[1], np.float32)
    for tap, weight, (number, row, column) in zip(taps, weights, plan.placed, strict=True):
        _, _, rows, read, _, offset, _ = plan.turned[number]
        columns = plan.columns[number]
        last = (rows - 1 - row) * read + (columns - 1 - column) * (read // columns)
        pack_rows_turned(weight, tap.rows, rows * read, last, read, out[offset:])
    return out


@compiled
def pack_rows(weight, rows, K, k, step, packed):
    """A tap's weights (rows · inputs, N), the row r from k + r · step on."""
    inputs = len(weight) // rows
    for r in range(rows):
        pack(weight[r * inputs : (r + 1) * inputs], k + r * step, K, packed)


@compiled
def pack_rows_turned(weight, rows, K, k, step, packed):
    """The same for (N, inputs) of each row, the row r from k − r · step on."""
    inputs = len(weight) // rows
    for r in range(rows):
        pack(weight[r * inputs : (r + 1) * inputs].T, k - r * step, K, packed)


# ── as an autograd function ──────────────────────────────────────────────────────────────────────────────────────────

NO_BITS = np.empty((0, 0), np.uint16)


class Convolved(Function):
    """Sources (B, H, W, n), side by side, and the weights of ``taps`` → (B, H, W, outputs).

    before: "", "relu" or "concat_elu", of the sources · dropped: None, or 16 random bits for each of these values, (B, H · W · I), and the
    probability · count: how many of ``tensors`` are sources · base: (1 or B, outputs) or None, initial: (B, H, W, outputs) or None
    """

    @staticmethod
    def forward(
        ctx: Any,
        taps: tuple[Any, ...],
        outputs: int,
        before: str,
        dropped: tuple[np.ndarray, float] | None,
        count: int,
        base: Tensor | None,
        initial: Tensor | None,
        *tensors: Tensor,
    ) -> Tensor:
        sources, weights = [x.contiguous() for x in tensors[:count]], [weight.contiguous() for weight in tensors[count:]]
        batch, height, width, _ = sources[0].shape
        inputs = sum(x.shape[3] for x in sources) * (2 if before == "concat_elu" else 1)
        shape = (batch, height, width, inputs, outputs)
        out = sources[0].new_empty(batch, height, width, outputs)
        initial = None if initial is None else initial.contiguous()
        if base is None and initial is None:
            base = out.new_zeros(1, outputs)
        ctx.base_shape, ctx.has_initial = None if base is None else base.shape, initial is not None
        start = np.empty((0, outputs), np.float32) if base is None else array(base)
        ctx.described = described = plan(taps, inputs, outputs)
        ctx.taps, ctx.shape, ctx.before, ctx.count = taps, shape, BEFORE[before], count
        ctx.bits, ctx.limit, ctx.scale = NO_BITS, 0, np.float32(1)
        if dropped is not None:
            bits, probability = dropped
            ctx.bits = np.ascontiguousarray(bits)                         # as large draws are: another layout would be compiled again
            ctx.limit, ctx.scale = round(probability * 2**16), np.float32(1 / (1 - probability))
        packed = _packed(described, taps, [array(weight) for weight in weights], inputs)
        address = 0 if initial is None else initial.data_ptr()
        if out.numel():
            convolve_forward(shape, described.frame, ctx.before, *_addresses(sources), ctx.bits, ctx.limit, ctx.scale, described.parts,
                             packed, start, address, out.data_ptr())  # fmt: skip
        ctx.save_for_backward(*sources, *weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        described, taps, (*_, inputs, outputs) = ctx.described, ctx.taps, ctx.shape
        sources, weights = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        grad, needed = grad.contiguous(), ctx.needs_input_grad
        turned = _turned(described, taps, [array(weight) for weight in weights], outputs)
        needs_sources = any(needed[7 : 7 + ctx.count])
        grad_sources = [torch.empty_like(x) for x in sources] if needs_sources else []
        sums = np.zeros(int((described.parts[:, 2] * described.parts[:, 3] * described.parts[:, 5]).sum()), np.float32)
        grad_base = np.zeros(ctx.base_shape if needed[5] else (0, outputs), np.float32)
        to = np.array([x.data_ptr() for x in grad_sources], np.int64)
        parts, offset = described.parts.copy(), 0
        for part in parts:
            part[6], offset = offset, offset + part[2] * part[3] * part[5]
        if grad.numel():
            convolve_gradient(ctx.shape, described.frame, ctx.before, *_addresses(sources), ctx.bits, ctx.limit, ctx.scale, parts,
                              described.turned, turned, grad.data_ptr(), to, sums, grad_base)  # fmt: skip
        grad_weights = []
        for tap, (number, row, column) in zip(taps, described.placed, strict=True):
            _, _, rows, values, _, count, offset = (int(n) for n in parts[number])
            box = torch.from_numpy(sums)[offset : offset + rows * values * count].view(rows, values, count)
            grad_weights.append(box[row : row + tap.rows, column * inputs : column * inputs + tap.inputs].reshape(-1, count))
        results = (torch.from_numpy(grad_base) if needed[5] else None, grad if ctx.has_initial else None)
        return None, None, None, None, None, *results, *(grad_sources or [None] * ctx.count), *grad_weights


def _addresses(sources: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([x.data_ptr() for x in sources], np.int64), np.array([x.shape[3] for x in sources], np.int64)
