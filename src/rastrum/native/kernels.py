"""Everything that is compiled: exact arithmetic, the operations of a step program, the heads that decide, the range coder.

``docs/arithmetic.md`` is the specification; this file says the same in code. No result depends on the batch, on threads or on the
processor: additions have one order, every fused multiply-add is explicit, the functions are our own, and there is no fast-math anywhere.

    source, destination, initial   places in ``memory``: one arena an image, the same in each, ``stride`` numbers apart
    s, d, i, w                     an offset in its array; ``lds`` … the distance from one row of a matrix to the next
    M, K, N                        rows, inputs and outputs of a linear; weights lie in panels of 16 outputs, (N / 16, K, 16)

All of it is one file, since numba's cache on disk asks only whether the file of the function that is called has changed; after a change of
``lanes.py``, whose vectors the products at points use, touch this one.
"""
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportOperatorIssue=false, reportIndexIssue=false

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .lanes import compiled, rowwise

PANEL = 16                     # outputs of a linear that are computed together
LANES = 8                      # components of a mixture are padded to a multiple of this
TILE_ROWS = 6
POINTS, TILE = 6, 4            # of Toom–Cook: products, and the columns of outputs that they give
GROUP_ROWS = 56                # rows of its products at a time: what they read and write stays in the cache

f32, f64, i32, i64, u8, u64 = np.float32, np.float64, np.int32, np.int64, np.uint8, np.uint64

# ── exact functions ──────────────────────────────────────────────────────────────────────────────────────────────────


def _fused(kind: Any, name: str) -> Any:
    """a · b + c with one rounding."""

    @intrinsic
    def fused(_context: Any, a: Any, b: Any, c: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            number = arguments[0].type
            function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(number, [number] * 3), name)
            return builder.call(function, arguments)

        return kind(kind, kind, kind), generate

    return fused


def _cast(source: Any, target: Any, number: Any) -> Any:
    """The same bits as another type."""

    @intrinsic
    def cast(_context: Any, x: Any) -> Any:
        return target(source), lambda _context, builder, _signature, arguments: builder.bitcast(arguments[0], number)

    return cast


fma32, fma64 = _fused(types.float32, "llvm.fma.f32"), _fused(types.float64, "llvm.fma.f64")
bits_to_f32 = _cast(types.int32, types.float32, ir.FloatType())
f32_to_bits = _cast(types.float32, types.int32, ir.IntType(32))
bits_to_f64 = _cast(types.int64, types.float64, ir.DoubleType())
f64_to_bits = _cast(types.float64, types.int64, ir.IntType(64))


@compiled
def exp32(x):
    """e^x for −87 ≤ x ≤ 88, ends outside: x = n ln 2 + y, a polynomial in y, n into the exponent."""
    x = min(max(x, f32(-87.0)), f32(88.0))
    n = np.floor(fma32(x, f32(1.44269504), f32(0.5)))
    y = fma32(-n, f32(0.693145751953125), x)
    y = fma32(-n, f32(1.42860677e-6), y)
    p = fma32(f32(1.9875691500e-4), y, f32(1.3981999507e-3))
    p = fma32(p, y, f32(8.3334519073e-3))
    p = fma32(p, y, f32(4.1665795894e-2))
    p = fma32(p, y, f32(1.6666665459e-1))
    p = fma32(p, y, f32(5.0000001201e-1))
    p = fma32(p, y * y, y) + f32(1.0)
    return p * bits_to_f32((i32(n) + i32(127)) << i32(23))


@compiled
def exp64(x):
    """e^x for −700 ≤ x ≤ 700, ends outside: Taylor to the 13th power of what is left of x beside n ln 2."""
    x = min(max(x, -700.0), 700.0)
    n = np.floor(fma64(x, 1.4426950408889634, 0.5))
    y = fma64(-n, 0.6931471803691238, x)
    y = fma64(-n, 1.9082149292705877e-10, y)
    p = fma64(1.6059043836821613e-10, y, 2.08767569878681e-09)
    p = fma64(p, y, 2.505210838544172e-08)
    p = fma64(p, y, 2.755731922398589e-07)
    p = fma64(p, y, 2.7557319223985893e-06)
    p = fma64(p, y, 2.48015873015873e-05)
    p = fma64(p, y, 1.984126984126984e-04)
    p = fma64(p, y, 1.388888888888889e-03)
    p = fma64(p, y, 8.333333333333333e-03)
    p = fma64(p, y, 4.1666666666666664e-02)
    p = fma64(p, y, 1.6666666666666666e-01)
    p = fma64(p, y, 0.5)
    p = fma64(p, y, 1.0)
    p = fma64(p, y, 1.0)
    return p * bits_to_f64((i64(n) + i64(1023)) << i64(52))


@compiled
def log64(x):
    """log x for x > 0, below 2^-1022 as there: x = m 2^e with m in [√½, √2), log m = 2 artanh((m − 1) / (m + 1)) as a series."""
    bits = f64_to_bits(max(x, 2.2250738585072014e-308))
    shifted = bits - i64(0x3FE6A09E667F3BCD)                              # the bits of √½
    e = f64(shifted >> i64(52))
    m = bits_to_f64(bits - ((shifted >> i64(52)) << i64(52)))
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    p = fma64(0.08695652173913043, q, 0.09523809523809523)                # 2 / 23, 2 / 21, … 2 / 3
    p = fma64(p, q, 0.10526315789473684)
    p = fma64(p, q, 0.11764705882352941)
    p = fma64(p, q, 0.13333333333333333)
    p = fma64(p, q, 0.15384615384615385)
    p = fma64(p, q, 0.18181818181818182)
    p = fma64(p, q, 0.2222222222222222)
    p = fma64(p, q, 0.2857142857142857)
    p = fma64(p, q, 0.4)
    p = fma64(p, q, 0.6666666666666666)
    p = fma64(p * q, s, s + s)
    return fma64(e, 0.6931471803691238, fma64(e, 1.9082149292705877e-10, p))


@compiled
def log_sigmoid64(x):
    """log σ(x) = min(x, 0) − log(1 + e^−|x|)."""
    return min(x, 0.0) - log64(1.0 + exp64(-abs(x)))


@compiled
def tail64(x):
    """Mass of a normal distribution above x ≥ 0: e^(−x²/2) P(t) / (1 + 2x), t = (x − 5) / (x + 5), after Shepherd & Laframboise (1981).

    P interpolates at the Chebyshev points of t; x² keeps what its rounding lost.
    """
    t = (x - 5.0) / (x + 5.0)
    p = fma64(-4.3860591195798053e-10, t, 4.839414424229282e-09)
    p = fma64(p, t, 5.8428190572683666e-09)
    p = fma64(p, t, -5.604345079839946e-08)
    p = fma64(p, t, -4.228973882271319e-08)
    p = fma64(p, t, 4.150775490294876e-07)
    p = fma64(p, t, 1.793568383842644e-07)
    p = fma64(p, t, -2.8432478702964835e-06)
    p = fma64(p, t, 5.339401905384381e-07)
    p = fma64(p, t, 1.938094176782777e-05)
    p = fma64(p, t, -2.6436433138360857e-05)
    p = fma64(p, t, -0.00010817310187952196)
    p = fma64(p, t, 0.0004250957235954309)
    p = fma64(p, t, -0.00011869447627339922)
    p = fma64(p, t, -0.003571695418310675)
    p = fma64(p, t, 0.015422845816511039)
    p = fma64(p, t, -0.03933220135646695)
    p = fma64(p, t, 0.07248782696469049)
    p = fma64(p, t, -0.10065743821674249)
    p = fma64(p, t, 0.1008885820349847)
    p = fma64(p, t, -0.05400807503407678)
    p = fma64(p, t, -0.03964700840401063)
    p = fma64(p, t, 0.8461123547250693)
    square = x * x
    e = exp64(-0.5 * square)
    e = fma64(-0.5 * fma64(x, x, -square), e, e)
    return e * p / fma64(2.0, x, 1.0)


@compiled
def normal64(x):
    """Φ(x): the mass of a normal distribution below x."""
    x = min(max(x, -100.0), 100.0)                                        # beyond, the tail is below e^−700 and stays there
    tail = tail64(abs(x))
    return 1.0 - tail if x > 0.0 else tail


@compiled
def tanh64(x):
    e = exp64(-2.0 * x)
    return (1.0 - e) / (1.0 + e)


# ── operations ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _microkernel(rows: int, panels: int) -> Any:
    """``rows`` x ``panels`` · 16 outputs in registers: initial + bias, then += source · weight, inputs in their order, each step fused.

    LLVM splits the vectors of 16 into what the processor has; an output is its own chain of additions, so this changes no bit.
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

            def vectors(array: int, place: Any) -> Any:
                return builder.bitcast(builder.gep(pointer[array], [place]), vector.as_pointer())

            each = [(row, panel) for row in range(rows) for panel in range(panels)]
            sums = {at: cgutils.alloca_once(builder, vector) for at in each}
            for row, panel in each:
                beside = ir.Constant(whole, panel * PANEL)
                first = builder.load(vectors(2, plus(i, times(ldi, row), beside)), align=4)
                offset = builder.load(vectors(1, plus(bias, beside)), align=4)
                builder.store(builder.fadd(first, offset), sums[row, panel])
            undefined, zeros = ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), PANEL), [0] * PANEL)
            with cgutils.for_range(builder, inputs) as loop:
                here = plus(w, times(loop.index, PANEL))
                columns = [builder.load(vectors(1, plus(here, times(inputs, panel * PANEL))), align=4) for panel in range(panels)]
                for row in range(rows):
                    number = builder.load(builder.gep(pointer[0], [plus(s, times(lds, row), loop.index)]))
                    number = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
                    number = builder.shuffle_vector(number, undefined, zeros)
                    for panel, column in enumerate(columns):
                        at = sums[row, panel]
                        builder.store(builder.call(fma, [number, column, builder.load(at)]), at)
            for row, panel in each:
                place = vectors(3, plus(d, times(ldd, row), ir.Constant(whole, panel * PANEL)))
                builder.store(builder.load(sums[row, panel]), place, align=4)
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


# A row's window of three columns, by Toom–Cook F(4, 3) (Lavin & Gray 2016): four columns of outputs see six of inputs d; at each of six
# points the inputs become one number, weights another (tables.py), and six products instead of twelve give the four outputs.


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
    """destination = initial + bias + source · weight at the first 4 · tiles columns of each image; a column of the source has K numbers.

    w: the six weights, (6, N / 16, K, 16) · scratch takes 6 · rows · (K + whole panels of N), rows = images · tiles of a group of images.
    """
    whole = (N + PANEL - 1) // PANEL * PANEL
    together = max(1, GROUP_ROWS // tiles)
    at, numbers, out = memory.ctypes.data, weights.ctypes.data, scratch.ctypes.data
    for first in range(0, images, together):
        last = min(images, first + together)
        rows = (last - first) * tiles
        products = POINTS * rows * K
        for b in range(first, last):
            for t in range(tiles):
                to = out + 4 * ((b - first) * tiles + t) * K
                _to_points_row(K, (to, rows * K, at + 4 * (b * stride + s + TILE * t * ls), ls))
        for p in range(POINTS):
            for n in range(0, whole, PANEL):
                to = products + p * rows * whole + n
                _panel(rows, scratch, p * rows * K, K, weights, w + (p * whole + n) * K, K, 0, memory, 0, 0, scratch, to, whole)
        for b in range(first, last):
            for t in range(tiles):
                source = out + 4 * (products + ((b - first) * tiles + t) * whole)
                to, start = at + 4 * (b * stride + d + TILE * t * ld), at + 4 * (b * stride + i + TILE * t * li)
                _from_points_row(N, (to, ld, source, rows * whole, start, li, numbers + 4 * bias, 0))


@compiled
def gate(memory, s, d, n):
    """tanh(a) σ(b) = (1 − e^−2a) / ((1 + e^−2a) (1 + e^−b))."""
    a, b, out = memory[s : s + n], memory[s + n : s + 2 * n], memory[d : d + n]
    for j in range(n):
        p = exp32(min(f32(-2.0) * a[j], f32(40.0)))
        q = exp32(min(-b[j], f32(40.0)))
        out[j] = (f32(1.0) - p) / ((f32(1.0) + p) * (f32(1.0) + q))


@compiled
def glu(memory, s, i, d, n):
    """initial + a σ(b)."""
    a, b, base, out = memory[s : s + n], memory[s + n : s + 2 * n], memory[i : i + n], memory[d : d + n]
    for j in range(n):
        out[j] = base[j] + a[j] / (f32(1.0) + exp32(-b[j]))


@compiled
def concat_elu(memory, s, d, n):
    """[elu(x) | elu(−x)]: of x and −x one is negative, −|x|, and becomes e^−|x| − 1."""
    x, plus, minus = memory[s : s + n], memory[d : d + n], memory[d + n : d + 2 * n]
    for j in range(n):
        below = exp32(-abs(x[j])) - f32(1.0)
        plus[j] = max(x[j], below)
        minus[j] = max(-x[j], below)


@compiled
def elu(memory, s, d, n):
    x, out = memory[s : s + n], memory[d : d + n]
    for j in range(n):
        out[j] = max(x[j], exp32(min(x[j], f32(0.0))) - f32(1.0))


@compiled
def relu(memory, s, d, n):
    x, out = memory[s : s + n], memory[d : d + n]
    for j in range(n):
        out[j] = max(x[j], f32(0.0))


@compiled
def square(memory, s, d, n):
    x, out = memory[s : s + n], memory[d : d + n]
    for j in range(n):
        out[j] = x[j] * x[j]


@compiled
def copy(memory, s, d, n):
    x, out = memory[s : s + n], memory[d : d + n]
    for j in range(n):
        out[j] = x[j]


@compiled
def add(memory, s, i, d, n):
    x, base, out = memory[s : s + n], memory[i : i + n], memory[d : d + n]
    for j in range(n):
        out[j] = base[j] + x[j]


@compiled
def lstm(memory, s, c, d, n):
    """cell = σ(f) cell + σ(i) tanh(g), h = σ(o) tanh(cell); s holds [o | f | i | g]."""
    o, f, i, g = memory[s : s + n], memory[s + n : s + 2 * n], memory[s + 2 * n : s + 3 * n], memory[s + 3 * n : s + 4 * n]
    cell, h, unit = memory[c : c + n], memory[d : d + n], f32(1.0)
    for j in range(n):
        content = exp32(min(f32(-2.0) * g[j], f32(40.0)))
        kept = cell[j] / (unit + exp32(-f[j]))
        cell[j] = kept + (unit - content) / ((unit + content) * (unit + exp32(min(-i[j], f32(40.0)))))
        shown = exp32(min(f32(-2.0) * cell[j], f32(40.0)))
        h[j] = (unit - shown) / ((unit + shown) * (unit + exp32(min(-o[j], f32(40.0)))))


@compiled
def spatial_lstm(memory, s, c, d, n):
    """cell = σ(f) left + σ(u) up + σ(i) tanh(g), h = tanh(σ(o) cell); s holds [o | f | u | i | g], c [left | up], where the cell goes."""
    o, f, u = memory[s : s + n], memory[s + n : s + 2 * n], memory[s + 2 * n : s + 3 * n]
    i, g = memory[s + 3 * n : s + 4 * n], memory[s + 4 * n : s + 5 * n]
    left, cell, h, unit = memory[c : c + n], memory[c + n : c + 2 * n], memory[d : d + n], f32(1.0)
    for j in range(n):
        content = exp32(min(f32(-2.0) * g[j], f32(40.0)))
        kept = left[j] / (unit + exp32(-f[j])) + cell[j] / (unit + exp32(-u[j]))
        cell[j] = kept + (unit - content) / ((unit + content) * (unit + exp32(min(-i[j], f32(40.0)))))
        shown = exp32(min(f32(-2.0) * (cell[j] / (unit + exp32(-o[j]))), f32(40.0)))
        h[j] = (unit - shown) / (unit + shown)


@compiled
def multiplicative(memory, s, i, d, n):
    """σ(a) tanh(σ(b) h + σ(c) tanh(u)); s holds [a | b | c | u], i holds h."""
    a, b, c, u = memory[s : s + n], memory[s + n : s + 2 * n], memory[s + 2 * n : s + 3 * n], memory[s + 3 * n : s + 4 * n]
    h, out, unit = memory[i : i + n], memory[d : d + n], f32(1.0)
    for j in range(n):
        content = exp32(min(f32(-2.0) * u[j], f32(40.0)))
        kept = h[j] / (unit + exp32(-b[j]))
        inner = kept + (unit - content) / ((unit + content) * (unit + exp32(min(-c[j], f32(40.0)))))
        shown = exp32(min(f32(-2.0) * inner, f32(40.0)))
        out[j] = (unit - shown) / ((unit + shown) * (unit + exp32(min(-a[j], f32(40.0)))))


# ── the interpreter of the tables ────────────────────────────────────────────────────────────────────────────────────

# Columns of the table of operations. A view is (offset, distance between columns, between rows); rows of a whole map only, else 0.
KIND, SOURCE, SOURCE_STEP, SOURCE_ROW, DESTINATION, DESTINATION_STEP, DESTINATION_ROW, INITIAL, INITIAL_STEP, INITIAL_ROW = range(10)
INPUTS, OUTPUTS, WEIGHT, BIAS, POINT_WEIGHTS, COLUMNS, ROWS, ROW_MASK, ROW_VALUE, COLUMN_MASK, COLUMN_VALUE, LEVEL = range(10, 22)
OPERATION_FIELDS = 22
LINEAR, COPY, ADD, GATE, GLU, RELU, ELU, CONCAT_ELU, LSTM, SQUARE, SPATIAL_LSTM, MULTIPLICATIVE = range(12)
KINDS = {
    "linear": LINEAR, "copy": COPY, "add": ADD, "gate": GATE, "glu": GLU, "relu": RELU, "elu": ELU, "concat_elu": CONCAT_ELU,
    "lstm": LSTM, "square": SQUARE, "spatial_lstm": SPATIAL_LSTM, "multiplicative": MULTIPLICATIVE,
}  # fmt: skip

# Columns of the table of phases, in their order, channels last. The argument of a row phase is its first row, of a channel its group.
FIRST, LAST, PHASE_KIND, ARGUMENT = range(4)
START, ROW, ROW_REVERSED, CHANNEL, FRAME = range(5)

# Columns of the table of passes: first step, positions of a row, phases, input map and whether ones stand in it; SPACING pixels of the
# image from one position to the next, KNOWN positions from one that is known to the next (0: none); rows of a frame.
FIRST_STEP, WIDTH, FIRST_PHASE, LAST_PHASE, INPUT, INPUT_STEP, ONES, SPACING, KNOWN, HEIGHT = range(10)
PASS_FIELDS = 10


class Layout(NamedTuple):
    """Sizes of one program, for the compiled code."""

    channels: int              # of an image
    groups: int                # colour groups: steps of a pixel
    levels: int
    frame: int                 # decisions of a frame; 0 where there is one alone
    stride: int                # numbers of one image's arena
    picture: int               # the decided values as the network reads them, for later passes: offset (−1: none), and distances
    picture_row: int
    picture_step: int
    head: int                  # BERNOULLI, SOFTMAX, MIXTURE or GAUSSIAN
    components: int            # K of a mixture or of Gaussians


@compiled
def _apply(op, memory, s, i, d):
    """One elementwise operation at one column of one image."""
    kind, n = op[KIND], op[OUTPUTS]
    if kind == GATE:
        gate(memory, s, d, n)
    elif kind == GLU:
        glu(memory, s, i, d, n)
    elif kind == CONCAT_ELU:
        concat_elu(memory, s, d, n >> 1)
    elif kind == ELU:
        elu(memory, s, d, n)
    elif kind == RELU:
        relu(memory, s, d, n)
    elif kind == COPY:
        copy(memory, s, d, n)
    elif kind == ADD:
        add(memory, s, i, d, n)
    elif kind == LSTM:
        lstm(memory, s, i, d, n)
    elif kind == SQUARE:
        square(memory, s, d, n)
    elif kind == SPATIAL_LSTM:
        spatial_lstm(memory, s, i, d, n)
    elif kind == MULTIPLICATIVE:
        multiplicative(memory, s, i, d, n)


@compiled
def run_at(ops, row, column, memory, stride, batch, weights, scratch):
    """The operations that are due at a pixel, for all images: the images are the rows of each product."""
    for number in range(ops.shape[0]):
        op = ops[number]
        if row & op[ROW_MASK] != op[ROW_VALUE] or column & op[COLUMN_MASK] != op[COLUMN_VALUE]:
            continue
        j = column >> op[LEVEL]
        s = op[SOURCE] + row * op[SOURCE_ROW] + j * op[SOURCE_STEP]
        d = op[DESTINATION] + row * op[DESTINATION_ROW] + j * op[DESTINATION_STEP]
        i = op[INITIAL] + row * op[INITIAL_ROW] + j * op[INITIAL_STEP]
        if op[KIND] == LINEAR:
            linear(batch, op[INPUTS], op[OUTPUTS], memory, s, stride, weights, op[WEIGHT], op[BIAS], i, stride, d, stride, scratch)
        else:
            for b in range(batch):
                _apply(op, memory, s + b * stride, i + b * stride, d + b * stride)


@compiled
def run_across(ops, row, memory, stride, batch, weights, scratch):
    """The operations that are due for a row, all its columns at once: the columns are the rows of each product."""
    for number in range(ops.shape[0]):
        op = ops[number]
        if row & op[ROW_MASK] != op[ROW_VALUE]:
            continue
        ls, ld, li, K, N = op[SOURCE_STEP], op[DESTINATION_STEP], op[INITIAL_STEP], op[INPUTS], op[OUTPUTS]
        in_source, in_destination = op[SOURCE] + row * op[SOURCE_ROW], op[DESTINATION] + row * op[DESTINATION_ROW]
        in_initial = op[INITIAL] + row * op[INITIAL_ROW]
        done = 0
        if op[POINT_WEIGHTS] > 0:
            s, d, i, tiles = in_source, in_destination, in_initial, op[COLUMNS] // TILE
            three_columns(
                batch, tiles, K // 3, N, memory, stride, s, ls, weights, op[POINT_WEIGHTS], op[BIAS], i, li, d, ld, scratch
            )
            done = TILE * tiles
        columns = op[COLUMNS] - done
        for b in range(batch):
            s, d, i = in_source + b * stride + done * ls, in_destination + b * stride + done * ld, in_initial + b * stride + done * li
            if op[KIND] == LINEAR:
                if columns > 0:
                    linear(columns, K, N, memory, s, ls, weights, op[WEIGHT], op[BIAS], i, li, d, ld, scratch)
            else:
                for j in range(columns):
                    _apply(op, memory, s + j * ls, i + j * li, d + j * ld)


@compiled
def pass_of(passes, step):
    number = 0
    while number + 1 < passes.shape[0] and step >= passes[number + 1, FIRST_STEP]:
        number += 1
    return number


@compiled
def begin_frame(ops, phases, here, layout, step, memory, batch, weights, scratch):
    """Before the first frame the start phase, before any other the frame phase: image by image, for whole maps fill the cache."""
    kind = START if step == here[FIRST_STEP] else FRAME
    for number in range(here[FIRST_PHASE], here[LAST_PHASE]):
        phase = phases[number]
        if phase[PHASE_KIND] == kind:
            for b in range(batch):
                image = memory[b * layout.stride : (b + 1) * layout.stride]
                for each in range(phase[FIRST], phase[LAST]):
                    for at in range(ops[each, ROWS]):
                        run_across(ops[each : each + 1], at, image, layout.stride, 1, weights, scratch)


@compiled
def advance(ops, phases, passes, layout, step, memory, batch, weights, scratch):
    """What colour group ``step`` of the sequence of all groups needs: before a row its row phases, then the group's own."""
    here = passes[pass_of(passes, step)]
    pixel, group = (step - here[FIRST_STEP]) // layout.groups, (step - here[FIRST_STEP]) % layout.groups
    row, column = pixel // here[WIDTH] % here[HEIGHT], pixel % here[WIDTH]
    if row == 0 and column == 0 and group == 0:
        begin_frame(ops, phases, here, layout, step, memory, batch, weights, scratch)
    for number in range(here[FIRST_PHASE], here[LAST_PHASE]):
        phase = phases[number]
        part = ops[phase[FIRST] : phase[LAST]]
        if phase[PHASE_KIND] == START or phase[PHASE_KIND] == FRAME:
            continue
        if phase[PHASE_KIND] == CHANNEL:
            if phase[ARGUMENT] == group:
                run_at(part, row, column, memory, layout.stride, batch, weights, scratch)
        elif column == 0 and group == 0 and row >= phase[ARGUMENT]:
            if phase[PHASE_KIND] == ROW:
                run_across(part, row, memory, layout.stride, batch, weights, scratch)
            else:
                for at in range(here[WIDTH] - 1, -1, -1):
                    run_at(part, row, at, memory, layout.stride, batch, weights, scratch)
    if here[KNOWN] > 0 and row % here[KNOWN] == 0 and column % here[KNOWN] == 0:
        feed(here, layout, row, column, group, memory, batch)


@compiled
def feed(here, layout, row, column, group, memory, batch):
    """A known position reads what an earlier pass decided there."""
    size = layout.channels // layout.groups
    for b in range(batch):
        source = b * layout.stride + layout.picture + here[SPACING] * (row * layout.picture_row + column * layout.picture_step)
        target = b * layout.stride + here[INPUT] + column * here[INPUT_STEP]
        for channel in range(group * size, (group + 1) * size):
            memory[target + channel] = memory[source + channel]
        if here[ONES] == 1:
            memory[target + layout.channels] = f32(1.0)


@compiled
def take_frame(here, layout, memory, values, n, table, batch):
    """A frame that is known as a whole, from column n of values (B, …) on: only its picture is written, nothing is stepped."""
    for b in range(batch):
        for place in range(layout.frame):
            pixel, channel = place // layout.channels, place % layout.channels
            row, column = pixel // here[WIDTH], pixel % here[WIDTH]
            at = b * layout.stride + layout.picture + row * layout.picture_row + column * layout.picture_step + channel
            memory[at] = table[values[b, n + place]]


# ── the integer CDF (distributions.py says the same in torch) ────────────────────────────────────────────────────────

CDF_BITS = 24
CDF_TOTAL = 1 << CDF_BITS
BERNOULLI, SOFTMAX, MIXTURE, GAUSSIAN = range(4)


@compiled
def weight_bits(levels):
    """Bits of a softmax weight, so that products of sums with 2^24 stay below 2^63."""
    bits = 0
    while (1 << bits) < levels:
        bits += 1
    return min(30, 38 - bits)


@compiled
def softmax_sums(logits, temperature, sums):
    """C_0 = 0, C_1 … C_L of L float32 logits, which are written over; False if one is not finite.

    The largest is found, and the weights are kept, as integers of the same bits: so the loops run on vectors.
    """
    levels, most, bad = logits.shape[0], i32(-0x80000000), 0
    for j in range(levels):
        bits = f32_to_bits(logits[j])
        most = max(most, bits ^ ((bits >> i32(31)) & i32(0x7FFFFFFF)))
        bad += not (abs(logits[j]) <= f32(3.4e38))
    if bad > 0:
        return False
    largest, scale = bits_to_f32(most ^ ((most >> i32(31)) & i32(0x7FFFFFFF))), f32(1 << weight_bits(levels))
    for j in range(levels):
        logits[j] = bits_to_f32(i32(exp32((logits[j] - largest) / temperature) * scale))
    total = i64(0)
    for j in range(levels):
        total += i64(f32_to_bits(logits[j]))
        sums[j + 1] = total
    return True


@compiled
def sums_cdf(sums, levels, level):
    return i64(level) + i64(u64(sums[level]) * u64(CDF_TOTAL - levels) // u64(sums[levels]))


@compiled
def sums_search(sums, levels, threshold):
    """The largest i with cdf(i) ≤ threshold, without division: ⌊a / C_L⌋ ≤ m  ⇔  a < (m + 1) C_L."""
    low, high = 0, levels
    while high - low > 1:
        middle = (low + high) >> 1
        left = threshold - middle
        if left >= 0 and sums[middle] * (CDF_TOTAL - levels) < (left + 1) * sums[levels]:
            low = middle
        else:
            high = middle
    return low


class Mixture(NamedTuple):
    """One mixture in levels, K padded to lanes: π (2^24 − 2L) 2^28, the level whose lower edge is the centre, 1 / scale."""

    weight: Any
    centre: Any
    steepness: Any
    term: Any


@compiled
def mixture_cdf(mixture, head, levels, level):
    """2 level + ⌊C / 2^28⌋, C = Σ_k ⌊weight_k F((level − centre) steepness)⌋, F(x) = 1 / (1 + e^−x), or Φ(x) of a GAUSSIAN head."""
    if level <= 0:
        return i64(0)
    if level >= levels:
        return i64(CDF_TOTAL)
    weight, centre, steepness, term = mixture
    x = f64(level)
    if head == GAUSSIAN:
        for k in range(weight.shape[0]):
            term[k] = i64(weight[k] * normal64((x - centre[k]) * steepness[k]))
    else:
        for k in range(weight.shape[0]):
            term[k] = i64(weight[k] / (exp64((centre[k] - x) * steepness[k]) + 1.0))
    total = i64(0)
    for k in range(weight.shape[0]):
        total += term[k]
    return i64(2) * level + (total >> i64(28))


@compiled
def mixture_search(mixture, head, levels, threshold):
    low, high = i64(0), i64(levels)
    while high - low > 1:
        middle = (low + high) >> 1
        if mixture_cdf(mixture, head, levels, middle) <= threshold:
            low = middle
        else:
            high = middle
    return low


@compiled
def logistic_masses(mixture, levels, pmf):
    """pmf (L,) += each component's mass of each level.

    Between edges of odds A and B: A / (1 + A) · 1 / (1 + B) · (1 − e^−steepness), without cancellation.
    """
    weight, centre, steepness, _ = mixture
    for k in range(weight.shape[0]):
        if weight[k] > 0.0:
            width = bin_width(steepness[k])
            above = exp64(centre[k] * steepness[k])
            for j in range(levels):
                below = exp64((centre[k] - f64(j + 1)) * steepness[k])
                mass = weight[k]
                if j > 0:
                    mass *= above / (1.0 + above)
                if j < levels - 1:
                    mass /= 1.0 + below
                if 0 < j < levels - 1:
                    mass *= width
                pmf[j] += mass
                above = below


@compiled
def gaussian_masses(mixture, levels, pmf):
    """The same of a GAUSSIAN head: differences of tails on the side where they are small."""
    weight, centre, steepness, _ = mixture
    for k in range(weight.shape[0]):
        if weight[k] > 0.0:
            for j in range(levels):
                low = -100.0 if j == 0 else min(max((f64(j) - centre[k]) * steepness[k], -100.0), 100.0)
                high = 100.0 if j == levels - 1 else min(max((f64(j + 1) - centre[k]) * steepness[k], -100.0), 100.0)
                if low > 0.0:
                    pmf[j] += weight[k] * max(tail64(low) - tail64(high), 0.0)
                else:
                    pmf[j] += weight[k] * max(normal64(high) - normal64(low), 0.0)


@compiled
def tempered_sums(mixture, head, levels, temperature, pmf, sums):
    """C_0 … C_L of the softmax of log pmf / temperature: a mixture has no temperature of its own."""
    for j in range(levels):
        pmf[j] = 0.0
    if head == GAUSSIAN:
        gaussian_masses(mixture, levels, pmf)
    else:
        logistic_masses(mixture, levels, pmf)
    largest = 0.0
    for j in range(levels):
        largest = max(largest, pmf[j])
    scale = f64(1 << weight_bits(levels))
    base = log64(largest)
    for j in range(levels):
        sums[j + 1] = i64(exp64((log64(pmf[j]) - base) / temperature) * scale) if pmf[j] > 0.0 else 0
    for j in range(levels):
        sums[j + 1] += sums[j]


@compiled
def bin_width(s):
    """1 − e^−s for s ≥ 0, as a series where the difference would cancel."""
    if s > 0.01:
        return 1.0 - exp64(-s)
    p = fma64(s, -8.333333333333333e-03, 4.1666666666666664e-02)
    p = fma64(p, s, -1.6666666666666666e-01)
    p = fma64(p, s, 0.5)
    p = fma64(p, s, -1.0)
    return max(-p * s, 2.2250738585072014e-308)


@compiled
def component_of(mixture, k, mean, log_scale, half, lowest):
    """Sets centre and steepness of a component whose numbers are on [−1, 1]; True if they are not finite."""
    mixture.centre[k] = fma64(mean, half, half + 0.5)
    mixture.steepness[k] = exp64(-max(log_scale, lowest)) / half
    return not (abs(mean) <= 1e300 and abs(log_scale) <= 1e300)


@compiled
def weights_of(mixture, log_weights, levels):
    """Sets the weights: a softmax, in shares of what levels do not have for themselves; False if one is not finite."""
    largest, total, bad = -np.inf, 0.0, 0
    for k in range(log_weights.shape[0]):
        bad += not (abs(log_weights[k]) <= 1e300)
        largest = max(largest, log_weights[k])
    for k in range(log_weights.shape[0]):
        mixture.weight[k] = exp64(log_weights[k] - largest)
    for k in range(log_weights.shape[0]):
        total += mixture.weight[k]
    for k in range(log_weights.shape[0]):
        mixture.weight[k] = mixture.weight[k] / total * f64((CDF_TOTAL - 2 * levels) << 28)
    return bad == 0


@compiled
def mixture_of(layout, memory, p, channel, lowest, chain, seen, mixture):
    """The mixture of a pixel's ``channel`` from the program's numbers at p (builder.Head); False if they are not finite.

    chain (K,): log weights, with what each component gave to the earlier channels; seen (C,): their levels.
    """
    K, C = layout.components, layout.channels
    half = (layout.levels - 1) / 2.0
    per_level, bad = 1.0 / half, 0
    for k in range(K):
        if channel == 0:
            chain[k] = f64(memory[p + k])
        mean = f64(memory[p + K * (1 + channel) + k])
        for early in range(channel):
            pair = 1 + 2 * C + channel * (channel - 1) // 2 + early
            value = fma64(f64(seen[early]), per_level, -1.0)
            mean = fma64(tanh64(f64(memory[p + K * pair + k])), value, mean)
        bad += component_of(mixture, k, mean, f64(memory[p + K * (1 + C + channel) + k]), half, lowest)
    return weights_of(mixture, chain, layout.levels) and bad == 0


@compiled
def gaussians_of(layout, memory, p, lowest, log_weights, mixture):
    """The same where each channel has its own components: K log weights, means and log scales at p."""
    K, half, bad = layout.components, (layout.levels - 1) / 2.0, 0
    for k in range(K):
        log_weights[k] = f64(memory[p + k])
        bad += component_of(mixture, k, f64(memory[p + K + k]), f64(memory[p + 2 * K + k]), half, lowest)
    return weights_of(mixture, log_weights, layout.levels) and bad == 0


@compiled
def mixture_condition(mixture, levels, level, chain):
    """chain += log of what each component gives to ``level``."""
    for k in range(chain.shape[0]):
        steepness = mixture.steepness[k]
        left = (f64(level) - mixture.centre[k]) * steepness
        if level < levels - 1:
            chain[k] += log_sigmoid64(left + steepness)
        if level > 0:
            chain[k] += log_sigmoid64(-left)
        if 0 < level < levels - 1:
            chain[k] += log64(bin_width(steepness))


# ── noise and coder (noise.py and codec/coder.py say the same in Python integers) ────────────────────────────────────


@compiled
def philox24(seed, image, t):
    """Top 24 bits of the first word of Philox4x32-10 at counter (image, t, 0, PIXEL = 0)."""
    word, half = u64(0xFFFFFFFF), u64(32)
    a, b, c, d = u64(image), u64(t), u64(0), u64(0)
    key_a, key_c = seed & word, seed >> half
    for _ in range(10):
        product_a, product_c = a * u64(0xD2511F53), c * u64(0xCD9E8D57)
        a, b, c, d = (product_c >> half) ^ b ^ key_a, product_c & word, (product_a >> half) ^ d ^ key_c, product_a & word
        key_a, key_c = (key_a + u64(0x9E3779B9)) & word, (key_c + u64(0xBB67AE85)) & word
    return i64(a >> u64(8))


class Streams(NamedTuple):
    """Range coder states of a batch; code and ends only for reading."""

    low: Any                   # (B,) uint64
    range: Any                 # (B,) uint64
    code: Any                  # (B,) uint64
    place: Any                 # (B,) int64
    ends: Any                  # (B,) int64
    data: Any                  # (B, capacity) uint8


@compiled
def put(streams, b, cdf_low, cdf_high):
    unit = streams.range[b] >> u64(CDF_BITS)
    step = unit * u64(cdf_low)
    low = streams.low[b] + step
    place = streams.place[b]
    if low < step:
        carried = place - 1
        while streams.data[b, carried] == u8(255):
            streams.data[b, carried] = u8(0)
            carried -= 1
        streams.data[b, carried] += u8(1)
    left = unit * u64(cdf_high - cdf_low)
    while left < u64(1 << 48):
        streams.data[b, place] = u8(low >> u64(56))
        place += 1
        low <<= u64(8)
        left <<= u64(8)
    streams.low[b], streams.range[b], streams.place[b] = low, left, place


@compiled
def threshold_of(streams, b):
    return min(i64(streams.code[b] // (streams.range[b] >> u64(CDF_BITS))), i64(CDF_TOTAL - 1))


@compiled
def take(streams, b, cdf_low, cdf_high):
    unit = streams.range[b] >> u64(CDF_BITS)
    code, left, place = streams.code[b] - unit * u64(cdf_low), unit * u64(cdf_high - cdf_low), streams.place[b]
    while left < u64(1 << 48):
        byte = u64(streams.data[b, place]) if place < streams.ends[b] else u64(0)
        code = (code << u64(8)) | byte
        left <<= u64(8)
        place += 1
    streams.code[b], streams.range[b], streams.place[b] = code, left, place


# ── the walk ─────────────────────────────────────────────────────────────────────────────────────────────────────────

ADVANCE, DRAW, FORCE, WEIGH, ENCODE, DECODE = range(6)
DONE, NOT_FINITE, FLUSHED = range(3)


class Task(NamedTuple):
    """What to do at decisions first … last − 1."""

    mode: int                  # ADVANCE runs the network as far as ``first`` needs and decides nothing
    first: int
    last: int
    ran: int                   # steps whose operations have run
    seed: Any                  # uint64
    image: int                 # number of the first image
    temperature: float
    tiny: Any                  # 1e-38 float32, for a look whether denormals are flushed


class Scratch(NamedTuple):
    linear: Any                # (most rows · 16,) float32
    logits: Any                # (L,) float32
    sums: Any                  # (L + 1,) int64
    pmf: Any                   # (L,) float64


class Tables(NamedTuple):
    """A program."""

    steps: Any                 # (D / channels of a group,): at which step of the passes each is decided
    operations: Any            # (operations, OPERATION_FIELDS)
    phases: Any                # (phases, 4)
    passes: Any                # (passes, PASS_FIELDS)
    outputs: Any               # (passes · G, 3): offset at column 0, distance between columns, how many numbers
    layout: Layout
    weights: Any
    levels: Any                # (L,) float32: a level as the network reads it


@compiled
def walk(program, lowest, memory, task, values, active, counts, chain, seen, streams, mixture, scratch):
    """Runs a program over decisions for a batch; → DONE, NOT_FINITE, or FLUSHED where this thread flushes denormals and would code.

    memory (B · stride,)
    values (B, n): read where not active, or forced or encoded; written everywhere · counts (B, n): what WEIGH finds where not active
    chain (B, K), seen (B, C): the pixel's mixture so far.
    """
    steps, ops, phases, passes, outputs, layout, weights, table = program
    batch = values.shape[0]
    of_group = layout.channels // layout.groups
    levels, sums = layout.levels, scratch.sums
    ran = task.ran
    if task.mode >= ENCODE and not (task.tiny * f32(0.1)) * f32(1e20) > f32(0.0):
        return FLUSHED
    taken = task.first                                                    # up to here frames were taken as wholes
    for t in range(task.first, task.last):
        if t < taken:
            continue
        step = steps[t // of_group]
        whole = layout.frame > 0 and t % max(layout.frame, 1) == 0 and t + layout.frame <= task.last
        if task.mode == FORCE and whole and ran == step:
            begin_frame(ops, phases, passes[0], layout, step, memory, batch, weights, scratch.linear)
            if layout.picture >= 0:
                take_frame(passes[0], layout, memory, values, t - task.first, table, batch)
            taken = t + layout.frame
            ran += layout.frame // of_group
            continue
        while ran <= step:
            advance(ops, phases, passes, layout, ran, memory, batch, weights, scratch.linear)
            ran += 1
        if task.mode == ADVANCE:
            break
        number = pass_of(passes, step)
        each, channel = passes[number], t % layout.channels
        pixel, group = (step - each[FIRST_STEP]) // layout.groups, channel // of_group
        row, column = pixel // each[WIDTH] % each[HEIGHT], pixel % each[WIDTH]
        output = outputs[number * layout.groups + group]
        parameters = output[0] + column * output[1]
        here = each[INPUT] + column * each[INPUT_STEP]
        there = layout.picture + each[SPACING] * (row * layout.picture_row + column * layout.picture_step)
        for b in range(batch):
            p, n = b * layout.stride + parameters, t - task.first
            choose = active[b, n] and task.mode != FORCE
            weigh = task.mode == WEIGH and not active[b, n]
            level = values[b, n]
            mixed = layout.head == MIXTURE or layout.head == GAUSSIAN
            summed = not mixed or task.temperature != 1.0
            if layout.head == MIXTURE and (choose or weigh or channel < layout.channels - 1):
                if not mixture_of(layout, memory, p, channel, lowest, chain[b], seen[b], mixture):
                    return NOT_FINITE
            elif choose or weigh:
                if layout.head == GAUSSIAN:
                    at = p + channel % of_group * 3 * layout.components
                    if not gaussians_of(layout, memory, at, lowest, chain[b], mixture):
                        return NOT_FINITE
                elif layout.head == BERNOULLI:
                    scratch.logits[0], scratch.logits[1] = f32(0.0), memory[p + channel % of_group]
                else:
                    offset = p + channel % of_group * levels
                    for j in range(levels):
                        scratch.logits[j] = memory[offset + j]
                if not mixed and not softmax_sums(scratch.logits, f32(task.temperature), sums):
                    return NOT_FINITE
            if (choose or weigh) and mixed and summed:
                tempered_sums(mixture, layout.head, levels, task.temperature, scratch.pmf, sums)
            if choose and task.mode != ENCODE:
                threshold = threshold_of(streams, b) if task.mode == DECODE else philox24(task.seed, task.image + b, t)
                level = sums_search(sums, levels, threshold) if summed else mixture_search(mixture, layout.head, levels, threshold)
            if weigh or (choose and task.mode >= ENCODE):
                if summed:
                    low, high = sums_cdf(sums, levels, level), sums_cdf(sums, levels, level + 1)
                else:
                    low = mixture_cdf(mixture, layout.head, levels, level)
                    high = mixture_cdf(mixture, layout.head, levels, level + 1)
                if task.mode == ENCODE:
                    put(streams, b, low, high)
                elif task.mode == DECODE:
                    take(streams, b, low, high)
                else:
                    counts[b, n] = high - low
            values[b, n] = level
            if layout.head == MIXTURE and channel < layout.channels - 1:
                seen[b, channel] = level
                mixture_condition(mixture, levels, level, chain[b])
            memory[b * layout.stride + here + channel] = table[level]
            if layout.picture >= 0:
                memory[b * layout.stride + there + channel] = table[level]
            if each[ONES] == 1 and channel == 0:
                memory[b * layout.stride + here + layout.channels] = f32(1.0)
    return DONE

