"""Functions with exactly specified results: fused multiply-add, exp, log, log σ, Φ and tanh, the same bits on every machine.

``docs/arithmetic.md`` states their errors; the coefficients here are part of that specification.
"""
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportOperatorIssue=false, reportIndexIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiler import compiled

f32, f64, i32, i64, u8, u64 = np.float32, np.float64, np.int32, np.int64, np.uint8, np.uint64


def _fused(kind: Any, name: str) -> Any:
    """a · b + c with one rounding."""

    @intrinsic
    def fused(_context: Any, a: Any, b: Any, c: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            operand = arguments[0].type
            function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(operand, [operand] * 3), name)
            return builder.call(function, arguments)

        return kind(kind, kind, kind), generate

    return fused


def _cast(source: Any, target: Any, llvm_type: Any) -> Any:
    """The same bits read as another type."""

    @intrinsic
    def cast(_context: Any, x: Any) -> Any:
        return target(source), lambda _context, builder, _signature, arguments: builder.bitcast(arguments[0], llvm_type)

    return cast


fma32, fma64 = _fused(types.float32, "llvm.fma.f32"), _fused(types.float64, "llvm.fma.f64")
bits_to_f32 = _cast(types.int32, types.float32, ir.FloatType())
f32_to_bits = _cast(types.float32, types.int32, ir.IntType(32))
bits_to_f64 = _cast(types.int64, types.float64, ir.DoubleType())
f64_to_bits = _cast(types.float64, types.int64, ir.IntType(64))


@compiled
def exp32(x):
    """e^x for x clamped to −87 … 88: x = n ln 2 + y, a polynomial in y, and n is added to the exponent."""
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
    """e^x for x clamped to −700 … 700: x = n ln 2 + y, Taylor's series of e^y to the 13th power, and n is added to the exponent."""
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
    """log x for x > 0, raised to 2^-1022 if below: x = m 2^e with m in [√½, √2), log m = 2 artanh((m − 1) / (m + 1)) as a series."""
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

    P interpolates at the Chebyshev points of t; the rounding error of x² is added back.
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
