"""Matrix products for training, float32 on a CPU: C = D + A · B, with a step for everything, so that a convolution is a product too.

    A (M, K)   at A + m · a_m + k₁ · a_1 + k₂ · a_2, k = (k₁, k₂): rows may overlap, as the windows of neighbouring pixels do
    B (K, N)   in panels (``pack``) if b = 0; else at B + k₁ · b_1 + k₂ · b, and read in whole panels, so up to 15 floats beyond a row
    C, D (M, N)  rows c_m, d_m apart; D may be C, or one row for all (d_m = 0)

Addresses and steps count bytes. A tile of C stays in registers while it runs over k. Each element is one chain of fused multiply-adds in
the order of k, so its bits do not depend on its place. A library that is made for another maker's processors reaches half of this speed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiler import compiled
from .lanes import WIDE, rowwise
from .panels import PANEL

# Vectors of the processor, of which a tile has up to 4 side by side: 24 totals fit the 32 registers of AVX-512, 12 the 16 of AVX2.
LANES = 16 if WIDE else 8
TALL = 12 if WIDE else 6       # rows of the narrowest tile, 16 columns
AT_ONCE = 96                   # pixels whose share of a weight's gradient is added up in registers: they stay in the cache


def _tile(rows: int, across: int) -> Any:
    """``rows`` x ``across`` vectors of C in registers."""

    @intrinsic
    def tile(_context, A, a_m, a_1, a_2, K1, K2, B, b_1, b, D, d_m, C, c_m):
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            A, a_m, a_1, a_2, K1, K2, B, b_1, b, D, d_m, C, c_m = arguments
            whole, vector = ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)
            fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{LANES}f32")
            undefined, zeros = ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            each = [(row, column) for row in range(rows) for column in range(across)]
            totals = {at: cgutils.alloca_once(builder, vector) for at in each}

            def at(address: Any, step: Any, n: Any) -> Any:
                return builder.add(address, builder.mul(step, ir.Constant(whole, n) if isinstance(n, int) else n))

            def vectors(address: Any, column: int) -> Any:
                shifted = builder.add(address, ir.Constant(whole, 4 * LANES * column))
                return builder.inttoptr(shifted, vector.as_pointer())

            for row, column in each:
                builder.store(builder.load(vectors(at(D, d_m, row), column), align=4), totals[row, column])
            with cgutils.for_range(builder, K1) as outer:
                windows, weights = at(A, a_1, outer.index), at(B, b_1, outer.index)
                with cgutils.for_range(builder, K2) as inner:
                    window, weight = at(windows, a_2, inner.index), at(weights, b, inner.index)
                    columns = [builder.load(vectors(weight, column), align=4) for column in range(across)]
                    for row in range(rows):
                        value = builder.load(builder.inttoptr(at(window, a_m, row), ir.FloatType().as_pointer()), align=4)
                        value = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
                        value = builder.shuffle_vector(value, undefined, zeros)
                        for column, factor in enumerate(columns):
                            total = totals[row, column]
                            builder.store(builder.call(fma, [value, factor, builder.load(total)]), total)
                    # No instruction, but a barrier: LLVM would do two turns at once, for which there are too few registers.
                    builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], side_effect=True)
            for row, column in each:
                builder.store(builder.load(totals[row, column]), vectors(at(C, c_m, row), column), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 13), generate

    return tile


_6_by_64, _4_by_64, _2_by_64, _1_by_64 = (_tile(rows, 64 // LANES) for rows in (6, 4, 2, 1))
_12_by_32, _4_by_32, _2_by_32, _1_by_32 = (_tile(rows, 32 // LANES) for rows in (12, 4, 2, 1))
_tall_by_16, _4_by_16, _1_by_16 = (_tile(rows, 16 // LANES) for rows in (TALL, 4, 1))


@compiled
def _columns_64(M, A, a_m, a_1, a_2, K1, K2, B, b_1, b, D, d_m, C, c_m):
    m = 0
    while m + 6 <= M:
        _6_by_64(A + m * a_m, a_m, a_1, a_2, K1, K2, B, b_1, b, D + m * d_m, d_m, C + m * c_m, c_m)
        m += 6
    if m + 4 <= M:
        _4_by_64(A + m * a_m, a_m, a_1, a_2, K1, K2, B, b_1, b, D + m * d_m, d_m, C + m * c_m, c_m)
        m += 4
    if m + 2 <= M:
        _2_by_64(A + m * a_m, a_m, a_1, a_2, K1, K2, B, b_1, b, D + m * d_m, d_m, C + m * c_m, c_m)
        m += 2
    if m < M:
        _1_by_64(A + m * a_m, a_m, a_1, a_2, K1, K2, B, b_1, b, D + m * d_m, d_m, C + m * c_m, c_m)


@compiled
def _columns_32(M, A, a_m, a_1, a_2, K1, K2, B, b_1, b, D, d_m, C, c_m):
    m = 0
    while m + 12 <= M:
        _12_by_32(A + m * a_m, a_m, a_1, a_2, K1, K2, B, b_1, b, D + m * d_m, d_m, C + m * c_m, c_m)
        m += 12
    while m + 4 <= M:
        _4_by_32(A + m * a_m, a_m, a_1, a_2, K1, K2, B, b_1, b, D + m * d_m, d_m, C + m * c_m, c_m)
        m += 4
    if m + 2 <= M:
        _2_by_32(A + m * a_m, a_m, a_1, a_2, K1, K2, B, b_1, b, D + m * d_m, d_m, C + m * c_m, c_m)
        m += 2
    if m < M:
        _1_by_32(A + m * a_m, a_m, a_1, a_2, K1, K2, B, b_1, b, D + m * d_m, d_m, C + m * c_m, c_m)


@compiled
def _columns_16(M, A, a_m, a_1, a_2, K1, K2, B, b_1, b, D, d_m, C, c_m):
    m = 0
    while m + TALL <= M:
        _tall_by_16(A + m * a_m, a_m, a_1, a_2, K1, K2, B, b_1, b, D + m * d_m, d_m, C + m * c_m, c_m)
        m += TALL
    while m + 4 <= M:
        _4_by_16(A + m * a_m, a_m, a_1, a_2, K1, K2, B, b_1, b, D + m * d_m, d_m, C + m * c_m, c_m)
        m += 4
    while m < M:
        _1_by_16(A + m * a_m, a_m, a_1, a_2, K1, K2, B, b_1, b, D + m * d_m, d_m, C + m * c_m, c_m)
        m += 1


copy_row = rowwise([1], [1], lambda x: [x])


@compiled(makes_arrays=True)
def product(M, N, A, a_m, a_1, a_2, K1, K2, B, b_1, b, D, d_m, C, c_m):
    """C = D + A · B; see the top."""
    n = 0
    while n < N:
        width = panel(N - n)
        weights, along, beside = B + 4 * n, b_1, b
        if b == 0:
            weights, along, beside = B + 4 * n * K1 * K2, 4 * width * K2, 4 * width
        if n + width > N:                                                 # the last columns go through a whole panel
            scratch = np.empty((M, PANEL), np.float32)
            to = scratch.ctypes.data
            for m in range(M):
                copy_row(N - n, (to + 4 * PANEL * m, 0, D + m * d_m + 4 * n, 0))
            _columns_16(M, A, a_m, a_1, a_2, K1, K2, weights, along, beside, to, 4 * PANEL, to, 4 * PANEL)
            for m in range(M):
                copy_row(N - n, (C + m * c_m + 4 * n, 0, to + 4 * PANEL * m, 0))
        elif width == 64:
            _columns_64(M, A, a_m, a_1, a_2, K1, K2, weights, along, beside, D + 4 * n, d_m, C + 4 * n, c_m)
        elif width == 32:
            _columns_32(M, A, a_m, a_1, a_2, K1, K2, weights, along, beside, D + 4 * n, d_m, C + 4 * n, c_m)
        else:
            _columns_16(M, A, a_m, a_1, a_2, K1, K2, weights, along, beside, D + 4 * n, d_m, C + 4 * n, c_m)
        n += width


@compiled
def panel(left):
    """Columns of the panel that begins where ``left`` are left."""
    if WIDE and left >= 64:
        return 64
    return 32 if WIDE and left >= 32 else PANEL


@compiled
def pack(B, k, K, packed):
    """Rows k … of a matrix of K rows, B (rows, N), in panels: (K, 64) one after another, then 32, then 16, zeros beyond N."""
    rows, N = B.shape
    n = 0
    while n < N:
        width = panel(N - n)
        for row in range(rows):
            to = n * K + (k + row) * width
            for j in range(min(width, N - n)):
                packed[to + j] = B[row, n + j]
            for j in range(N - n, width):
                packed[to + j] = 0
        n += width
