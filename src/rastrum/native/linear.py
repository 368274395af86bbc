"""Matrix products of step programs, in one order of additions: directly, and at points (Toom–Cook) for a row's window of three columns.

    source, destination, initial   offsets in ``memory``: one arena per image, the same offsets in each, ``stride`` floats apart
    s, d, i, w                     an offset in its array; ``lds`` … the distance from one row of a matrix to the next
    M, K, N                        rows, inputs and outputs of a linear; weights lie in panels of 16 outputs, (N / 16, K, 16)

No result depends on the batch, on threads or on the processor: additions have one order, every fused multiply-add is explicit, and there is
no fast-math. ``docs/arithmetic.md`` is the specification.
"""
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportOperatorIssue=false, reportIndexIssue=false

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiler import compiled
from .lanes import rowwise
from .panels import PANEL
from .points import POINTS, TILE

TILE_ROWS = 6
GROUP_ROWS = 56                # rows of products at points computed together: what they read and write stays in the cache


def _microkernel(rows: int, panels: int) -> Any:
    """``rows`` x ``panels`` · 16 outputs in registers: initial + bias, then += source · weight, input by input, each step fused.

    LLVM splits the vectors of 16 into the processor's own; each output is its own chain of additions, so this changes no bit.
    """

    @intrinsic
    def kernel(_context, source, s, lds, weights, w, inputs, bias, initial, i, ldi, destination, d, ldd):
        integer = types.int64
        arrays = (source, weights, initial, destination)
        signature = types.void(
            *(arrays[0], integer, integer),
            *(arrays[1], integer, integer, integer),
            *(arrays[2], integer, integer),
            *(arrays[3], integer, integer),
        )

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector, whole = ir.VectorType(ir.FloatType(), PANEL), ir.IntType(64)
            pointer = [context.make_array(signature.args[n])(context, builder, arguments[n]).data for n in (0, 3, 7, 10)]
            s, lds, w, inputs, bias, i, ldi, d, ldd = (arguments[n] for n in (1, 2, 4, 5, 6, 8, 9, 11, 12))
            fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{PANEL}f32")

            def plus(base: Any, *terms: Any) -> Any:
                for term in terms:
                    base = builder.add(base, term)
                return base

            def times(a: Any, n: int) -> Any:
                return builder.mul(a, ir.Constant(whole, n))

            def vectors(array: int, offset: Any) -> Any:
                return builder.bitcast(builder.gep(pointer[array], [offset]), vector.as_pointer())

            each = [(row, panel) for row in range(rows) for panel in range(panels)]
            totals = {at: cgutils.alloca_once(builder, vector) for at in each}
            for row, panel in each:
                right = ir.Constant(whole, panel * PANEL)
                first = builder.load(vectors(2, plus(i, times(ldi, row), right)), align=4)
                offset = builder.load(vectors(1, plus(bias, right)), align=4)
                builder.store(builder.fadd(first, offset), totals[row, panel])
            undefined, zeros = ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), PANEL), [0] * PANEL)
            with cgutils.for_range(builder, inputs) as loop:
                here = plus(w, times(loop.index, PANEL))
                columns = [builder.load(vectors(1, plus(here, times(inputs, panel * PANEL))), align=4) for panel in range(panels)]
                for row in range(rows):
                    value = builder.load(builder.gep(pointer[0], [plus(s, times(lds, row), loop.index)]))
                    value = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
                    value = builder.shuffle_vector(value, undefined, zeros)
                    for panel, column in enumerate(columns):
                        at = totals[row, panel]
                        builder.store(builder.call(fma, [value, column, builder.load(at)]), at)
            for row, panel in each:
                target = vectors(3, plus(d, times(ldd, row), ir.Constant(whole, panel * PANEL)))
                builder.store(builder.load(totals[row, panel]), target, align=4)
            return context.get_dummy_value()

        return signature, generate

    return kernel


one_by_two, one_by_three, one_by_four = _microkernel(1, 2), _microkernel(1, 3), _microkernel(1, 4)
one, two, three, four, five, six = (_microkernel(rows, 1) for rows in range(1, TILE_ROWS + 1))


@compiled
def _panel(M, source, s, lds, weights, w, K, bias, initial, i, ldi, destination, d, ldd):
    """16 outputs of all rows."""
    m = 0
    while m + 2 * TILE_ROWS <= M or m + TILE_ROWS == M:
        six(source, s + m * lds, lds, weights, w, K, bias, initial, i + m * ldi, ldi, destination, d + m * ldd, ldd)
        m += TILE_ROWS
    if M - m > TILE_ROWS:                                                 # 7 … 11 rows in two parts that are nearly equal
        half = (M - m + 1) // 2
        _few(half, source, s + m * lds, lds, weights, w, K, bias, initial, i + m * ldi, ldi, destination, d + m * ldd, ldd)
        m += half
    _few(M - m, source, s + m * lds, lds, weights, w, K, bias, initial, i + m * ldi, ldi, destination, d + m * ldd, ldd)


@compiled
def _few(M, source, s, lds, weights, w, K, bias, initial, i, ldi, destination, d, ldd):
    if M == 6:
        six(source, s, lds, weights, w, K, bias, initial, i, ldi, destination, d, ldd)
    elif M == 1:
        one(source, s, lds, weights, w, K, bias, initial, i, ldi, destination, d, ldd)
    elif M == 2:
        two(source, s, lds, weights, w, K, bias, initial, i, ldi, destination, d, ldd)
    elif M == 3:
        three(source, s, lds, weights, w, K, bias, initial, i, ldi, destination, d, ldd)
    elif M == 4:
        four(source, s, lds, weights, w, K, bias, initial, i, ldi, destination, d, ldd)
    elif M == 5:
        five(source, s, lds, weights, w, K, bias, initial, i, ldi, destination, d, ldd)


@compiled
def _row(source, s, weights, w, K, panels, bias, initial, i, destination, d):
    """Up to 4 panels of one row: as many chains of additions side by side as there are panels."""
    if panels == 4:
        one_by_four(source, s, 0, weights, w, K, bias, initial, i, 0, destination, d, 0)
    elif panels == 3:
        one_by_three(source, s, 0, weights, w, K, bias, initial, i, 0, destination, d, 0)
    elif panels == 2:
        one_by_two(source, s, 0, weights, w, K, bias, initial, i, 0, destination, d, 0)
    else:
        one(source, s, 0, weights, w, K, bias, initial, i, 0, destination, d, 0)


@compiled
def linear(M, K, N, memory, s, lds, weights, w, bias, i, ldi, d, ldd, scratch):
    """destination (M, N) = initial + bias + source (M, K) · weight; scratch (M, 16), at least 64, takes panels that are not full."""
    n = 0
    if M == 1:
        while n + 4 * PANEL <= N:
            _row(memory, s, weights, w + n * K, K, 4, bias + n, memory, i + n, memory, d + n)
            n += 4 * PANEL
        if n < N:
            for k in range(N - n):
                scratch[k] = memory[i + n + k]
            _row(memory, s, weights, w + n * K, K, (N - n + PANEL - 1) // PANEL, bias + n, scratch, 0, scratch, 0)
            for k in range(N - n):
                memory[d + n + k] = scratch[k]
        return
    while n + PANEL <= N:
        _panel(M, memory, s, lds, weights, w + n * K, K, bias + n, memory, i + n, ldi, memory, d + n, ldd)
        n += PANEL
    if n < N:
        for m in range(M):
            for k in range(N - n):
                scratch[m * PANEL + k] = memory[i + m * ldi + n + k]
        _panel(M, memory, s, lds, weights, w + n * K, K, bias + n, scratch, 0, PANEL, scratch, 0, PANEL)
        for m in range(M):
            for k in range(N - n):
                memory[d + m * ldd + n + k] = scratch[m * PANEL + k]


# A row's window of three columns (points.py): the two transforms are written out, since each rounding is part of the specification.


def _to_points(d0, d1, d2, d3, d4, d5):
    a, b = d2.fused(-4.0, d4), d1.fused(-4.0, d3)
    c, e = d4 - d2, (d3 - d1) * 2.0
    return [d0.fused(4.0, d2.fused(-5.0, d4)), a + b, a - b, c + e, c - e, d1.fused(4.0, d3.fused(-5.0, d5))]


def _from_points(m0, m1, m2, m3, m4, m5, *starts):
    *initial, bias = starts
    s, d, u, v = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    y = [(m0 + s) + u, v.fused(2.0, d), u.fused(4.0, s), v.fused(8.0, d) + m5]
    return [(i + bias) + j for i, j in zip(initial, y, strict=True)]


_to_points_row = rowwise([POINTS], [POINTS], _to_points)
_from_points_row = rowwise([TILE], [POINTS, TILE, 1], _from_points)


@compiled
def three_columns(images, tiles, K, N, memory, stride, s, ls, weights, w, bias, i, li, d, ld, scratch):
    """destination = initial + bias + source · weight at the first 4 · tiles columns of each image; a column of the source has K values.

    w: the six weights, (6, N / 16, K, 16) · scratch takes 6 · rows · (K + whole panels of N), rows = images · tiles of a group of images.
    """
    whole = (N + PANEL - 1) // PANEL * PANEL
    together = max(1, GROUP_ROWS // tiles)
    ptr_memory, ptr_weights, ptr_scratch = memory.ctypes.data, weights.ctypes.data, scratch.ctypes.data
    for first in range(0, images, together):
        last = min(images, first + together)
        rows = (last - first) * tiles
        products = POINTS * rows * K
        for b in range(first, last):
            for t in range(tiles):
                to = ptr_scratch + 4 * ((b - first) * tiles + t) * K
                _to_points_row(K, (to, rows * K, ptr_memory + 4 * (b * stride + s + TILE * t * ls), ls))
        for p in range(POINTS):
            for n in range(0, whole, PANEL):
                to = products + p * rows * whole + n
                _panel(rows, scratch, p * rows * K, K, weights, w + (p * whole + n) * K, K, 0, memory, 0, 0, scratch, to, whole)
        for b in range(first, last):
            for t in range(tiles):
                source = ptr_scratch + 4 * (products + ((b - first) * tiles + t) * whole)
                to = ptr_memory + 4 * (b * stride + d + TILE * t * ld)
                start = ptr_memory + 4 * (b * stride + i + TILE * t * li)
                _from_points_row(N, (to, ld, source, rows * whole, start, li, ptr_weights + 4 * bias, 0))
