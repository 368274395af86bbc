"""Matrix products of step programs, in one order of additions: directly, and at points (Toom–Cook) for a row's window of three columns.

    source, destination, initial   offsets in ``memory``: one arena per image, the same offsets in each, ``stride`` floats apart
    s, d, i, w                     an offset in its array; ``lds`` … the distance from one row of a matrix to the next
    M, K, N                        rows, inputs and outputs of a linear; weights lie in panels of 16 outputs, (N / 16, K, 16)

No result depends on the batch, on threads or on the processor: additions have one order, every fused multiply-add is explicit, and there is
no fast-math. ``docs/arithmetic.md`` is the specification.
"""
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportOperatorIssue=false, reportIndexIssue=false
# pyright: reportCallIssue=false

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiler import compiled
from .lanes import WIDE, rowwise
from .panels import PANEL
from .points import POINTS, TILE

MAX_ROWS, MAX_PANELS = 6, 4    # of a tile, whose totals stay in registers,
TOTALS = 24 if WIDE else 6     # of so many vectors
GROUP_ROWS = 56                # rows of products at points computed together: what they read and write stays in the cache


def _code(module: Any, rows: int, panels: int) -> Any:
    """The machine code of one size of tile: a function of what ``_tile`` takes."""
    vector, whole, floats = ir.VectorType(ir.FloatType(), PANEL), ir.IntType(64), ir.FloatType().as_pointer()
    kinds = [whole, floats, whole, whole, floats, whole, whole, whole, floats, whole, whole, floats, whole, whole]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), module.get_unique_name(f"tile_{rows}_by_{panels}"))
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    outputs, source, s, lds, weights, w, inputs, bias, initial, i, ldi, destination, d, ldd = function.args
    fma = cgutils.get_or_insert_function(module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{PANEL}f32")

    def plus(base: Any, *terms: Any) -> Any:
        for term in terms:
            base = builder.add(base, term)
        return base

    def times(a: Any, n: int) -> Any:
        return builder.mul(a, ir.Constant(whole, n))

    def vectors(array: Any, offset: Any) -> Any:
        return builder.bitcast(builder.gep(array, [offset]), vector.as_pointer())

    def repeated(value: Any) -> Any:
        """One value in all lanes."""
        undefined = ir.Constant(ir.VectorType(value.type, PANEL), ir.Undefined)
        first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), PANEL), [0] * PANEL))

    # Lanes of the last panel that are outputs; nothing else is read of ``initial``, or written.
    lanes = ir.Constant(ir.VectorType(whole, PANEL), list(range((panels - 1) * PANEL, panels * PANEL)))
    inside = builder.icmp_signed("<", lanes, repeated(outputs))
    masked = (ir.IntType(32)(4), inside)                                  # aligned as single floats are
    load = ir.FunctionType(vector, [vector.as_pointer(), ir.IntType(32), inside.type, vector])
    load = cgutils.get_or_insert_function(module, load, f"llvm.masked.load.v{PANEL}f32.p0")
    store = ir.FunctionType(ir.VoidType(), [vector, vector.as_pointer(), ir.IntType(32), inside.type])
    store = cgutils.get_or_insert_function(module, store, f"llvm.masked.store.v{PANEL}f32.p0")

    each = [(row, panel) for row in range(rows) for panel in range(panels)]
    totals = {at: cgutils.alloca_once(builder, vector) for at in each}
    for row, panel in each:
        right, last = ir.Constant(whole, panel * PANEL), panel == panels - 1
        first = vectors(initial, plus(i, times(ldi, row), right))
        first = builder.call(load, [first, *masked, ir.Constant(vector, [0.0] * PANEL)]) if last else builder.load(first, align=4)
        offset = builder.load(vectors(weights, plus(bias, right)), align=4)
        builder.store(builder.fadd(first, offset), totals[row, panel])
    with cgutils.for_range(builder, inputs) as loop:
        here = plus(w, times(loop.index, PANEL))
        columns = [builder.load(vectors(weights, plus(here, times(inputs, panel * PANEL))), align=4) for panel in range(panels)]
        for row in range(rows):
            value = repeated(builder.load(builder.gep(source, [plus(s, times(lds, row), loop.index)])))
            for panel, column in enumerate(columns):
                at = totals[row, panel]
                builder.store(builder.call(fma, [value, column, builder.load(at)]), at)
    for row, panel in each:
        target = vectors(destination, plus(d, times(ldd, row), ir.Constant(whole, panel * PANEL)))
        total = builder.load(totals[row, panel])
        if panel == panels - 1:
            builder.call(store, [total, target, *masked])
        else:
            builder.store(total, target, align=4)
    builder.ret_void()
    return function


@intrinsic
def _tile(_context, rows, panels, outputs, source, s, lds, weights, w, inputs, bias, initial, i, ldi, destination, d, ldd):
    """``rows`` x ``outputs`` in registers: initial + bias, then += source · weight, input by input, each step fused.

    panels: of the outputs, 16 each; the last may have fewer.

    LLVM splits the vectors of 16 into the processor's own; each output is its own chain of additions, so this changes no bit.
    """
    given = (rows, panels, outputs, source, s, lds, weights, w, inputs, bias, initial, i, ldi, destination, d, ldd)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, panels, *rest = arguments
        for n, kind in enumerate(signature.args[2:]):
            if isinstance(kind, types.Array):
                rest[n] = context.make_array(kind)(context, builder, rest[n]).data
        end, number = builder.append_basic_block("end"), rows.type
        switch = builder.switch(builder.add(builder.mul(rows, ir.Constant(number, MAX_PANELS)), panels), end)
        for height in range(1, MAX_ROWS + 1):
            for across in range(1, min(MAX_PANELS, max(1, TOTALS // height)) + 1):
                block = builder.append_basic_block()
                switch.add_case(ir.Constant(number, height * MAX_PANELS + across), block)
                builder.position_at_end(block)
                builder.call(_code(builder.module, height, across), rest)
                builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(*(kind if isinstance(kind, types.Array) else types.int64 for kind in given)), generate


@compiled
def linear(M, K, N, source, s, lds, weights, w, bias, initial, i, ldi, destination, d, ldd):
    """destination (M, N) = initial + bias + source (M, K) · weight, in tiles that are as large as there are registers."""
    most = MAX_PANELS if WIDE else max(1, min(MAX_PANELS, TOTALS // min(M, MAX_ROWS)))
    n = 0
    while n < N:
        outputs, m = min(N - n, most * PANEL), 0
        panels = (outputs + PANEL - 1) // PANEL
        while m < M:
            rows = min(M - m, MAX_ROWS)
            if MAX_ROWS < M - m < 2 * MAX_ROWS:                           # 7 … 11 rows in two parts that are nearly equal
                rows = (M - m + 1) // 2
            _tile(rows, panels, outputs, source, s + m * lds, lds, weights, w + n * K, K, bias + n, initial, i + m * ldi + n, ldi,
                  destination, d + m * ldd + n, ldd)  # fmt: skip
            m += rows
        n += outputs


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
            to, start = products + p * rows * whole, p * rows * K
            linear(rows, K, whole, scratch, start, K, weights, w + p * whole * K, 0, memory, 0, 0, scratch, to, whole)
        for b in range(first, last):
            for t in range(tiles):
                source = ptr_scratch + 4 * (products + ((b - first) * tiles + t) * whole)
                to = ptr_memory + 4 * (b * stride + d + TILE * t * ld)
                start = ptr_memory + 4 * (b * stride + i + TILE * t * li)
                _from_points_row(N, (to, ld, source, rows * whole, start, li, ptr_weights + 4 * bias, 0))
