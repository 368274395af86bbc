"""Arithmetic on vectors of 16 floats, written as Python functions of ``Lanes`` and emitted as LLVM code for numba's loops.

For loops over many arrays, which LLVM does not turn into vectors by itself. No C compiler is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

WIDE = bool(llvm.get_host_cpu_features().get("avx512f"))    # 32 registers of 16 floats, not 16 of 8
# A function of more vectors than this is called: inlined, its addresses would be counted up in memory at every turn of the loops around it.
MOST_INLINED = 8
LANES = 8                      # of ``add_multiples``


class Lanes:
    """A vector of float32 in the code being emitted: ``+ − · /`` with vectors and constants, and exp."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def constant(self, value: float) -> Any:
        return ir.Constant(self.value.type, [ir.Constant(ir.FloatType(), float(np.float32(value)))] * self.value.type.count)

    def _apply(self, name: str, other: Lanes | float, swapped: bool = False) -> Lanes:
        pair = [self.value, other.value if isinstance(other, Lanes) else self.constant(other)]
        return Lanes(self.builder, getattr(self.builder, name)(*(reversed(pair) if swapped else pair)))

    def __add__(self, other: Lanes | float) -> Lanes:
        return self._apply("fadd", other)

    def __sub__(self, other: Lanes | float) -> Lanes:
        return self._apply("fsub", other)

    def __rsub__(self, other: float) -> Lanes:
        return self._apply("fsub", other, swapped=True)

    def __mul__(self, other: Lanes | float) -> Lanes:
        return self._apply("fmul", other)

    def __rtruediv__(self, other: float) -> Lanes:
        return self._apply("fdiv", other, swapped=True)

    __radd__, __rmul__ = __add__, __mul__

    def fused(self, factor: Lanes | float, term: Lanes | float) -> Lanes:
        """self · factor + term, rounded once."""
        kind = self.value.type
        fma = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fma.v{kind.count}f32")
        arguments = [x.value if isinstance(x, Lanes) else self.constant(x) for x in (self, factor, term)]
        return Lanes(self.builder, self.builder.call(fma, arguments))

    def smaller(self, other: Lanes) -> Lanes:
        """The smaller of both; NaN where ``self`` is NaN."""
        return Lanes(self.builder, self.builder.select(self.builder.fcmp_ordered(">", self.value, other.value), other.value, self.value))

    def larger(self, other: Lanes) -> Lanes:
        """The larger of both; NaN where ``self`` is NaN."""
        return Lanes(self.builder, self.builder.select(self.builder.fcmp_ordered("<", self.value, other.value), other.value, self.value))

    def where_positive(self, yes: Lanes, no: Lanes) -> Lanes:
        """``yes`` where this is above 0, else ``no``."""
        return Lanes(self.builder, self.builder.select(self.builder.fcmp_ordered(">", self.value, self.constant(0.0)), yes.value, no.value))

    def clamp(self, low: float, high: float) -> Lanes:
        """Cut to low … high; NaN stays NaN, so that a diverging run is noticed."""
        value = self.value
        for sign, bound in ((">", high), ("<", low)):
            value = self.builder.select(self.builder.fcmp_ordered(sign, value, self.constant(bound)), self.constant(bound), value)
        return Lanes(self.builder, value)

    def exp(self) -> Lanes:
        """e^x for x clamped to −87 … 40: 2ⁿ e^y with |y| ≤ ln 2 / 2, a polynomial of degree 7 (Cephes)."""
        x = self.clamp(-87.0, 40.0)
        shifted = x.fused(1.44269504, 12582912.0)                         # 1.5 · 2²³: the sum's last bits are the integer n
        n = shifted - 12582912.0
        y = n.fused(-1.42860677e-6, n.fused(-0.693145751953125, x))
        p: Lanes | float = 1.9875691500e-4
        for coefficient in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1.0, 1.0):
            p = y.fused(p, coefficient)
        assert isinstance(p, Lanes)
        b, whole = self.builder, ir.VectorType(ir.IntType(32), x.value.type.count)
        power = b.shl(b.bitcast(shifted.value, whole), ir.Constant(whole, [23] * whole.count))
        return Lanes(b, b.bitcast(b.add(b.bitcast(p.value, whole), power), x.value.type))

    def log(self) -> Lanes:
        """Natural logarithm of positive normal numbers: exponent · ln 2 + a polynomial of the rest, within √½ … √2 (Cephes)."""
        b, integers = self.builder, ir.VectorType(ir.IntType(32), self.value.type.count)

        def whole(n: int) -> Any:
            return ir.Constant(integers, [n] * integers.count)

        bits = b.sub(b.bitcast(self.value, integers), whole(0x3F3504F3))     # from √½ on
        exponent = Lanes(b, b.sitofp(b.ashr(bits, whole(23)), self.value.type))
        rest = b.add(b.and_(bits, whole(0x007FFFFF)), whole(0x3F3504F3))
        x = Lanes(b, b.bitcast(rest, self.value.type)) - 1.0
        square, p = x * x, x * 7.0376836292e-2 + -1.1514610310e-1
        for coefficient in (1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1,
                            3.3333331174e-1):  # fmt: skip
            p = p.fused(x, coefficient)
        y = exponent.fused(-2.12194440e-4, p * x * square) - square * 0.5
        return exponent.fused(0.693359375, x + y) + self * 0.0               # NaN stays NaN


def rowwise(outputs: Sequence[int], inputs: Sequence[int], function: Callable[..., list[Lanes]]) -> Any:
    """A numba function (n, (address, step, address, step, …)): ``function`` of vectors of n floats, outputs first.

    Operand i of ``outputs`` or ``inputs`` stands for that many vectors, ``step`` floats apart.
    """

    counts = [*outputs, *inputs]

    def body(builder: Any, n: Any, operands: Sequence[Any]) -> None:
        integer = ir.IntType(64)

        def loop(first: Any, last: Any, lanes: int) -> None:
            vector = ir.VectorType(ir.FloatType(), lanes)
            with cgutils.for_range_slice(builder, first, last, ir.Constant(integer, lanes)) as (at, _):
                pointers = []
                for operand, count in enumerate(counts):
                    address, step = operands[2 * operand : 2 * operand + 2]
                    for i in range(count):
                        floats = builder.add(at, builder.mul(step, ir.Constant(integer, i)))
                        bytes_ = builder.add(address, builder.shl(floats, ir.Constant(integer, 2)))
                        pointers.append(builder.inttoptr(bytes_, vector.as_pointer()))
                split = sum(outputs)
                values = [Lanes(builder, builder.load(pointer, align=4)) for pointer in pointers[split:]]
                for pointer, result in zip(pointers[:split], function(*values), strict=True):
                    builder.store(result.value, pointer, align=4)

        done = ir.Constant(integer, 0)
        for lanes in (16, 8, 4, 2, 1):                                  # the rest of n runs on narrower vectors
            whole = builder.and_(n, ir.Constant(integer, -lanes))
            loop(done, whole, lanes)
            done = whole

    @intrinsic
    def emitted(_context: Any, n: Any, operands: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * (1 + 2 * len(counts)))
            apart = ir.Function(builder.module, kind, builder.module.get_unique_name("rowwise"))
            apart.linkage = "internal"
            apart.attributes.add("noinline" if sum(counts) > MOST_INLINED else "alwaysinline")
            inside = ir.IRBuilder(apart.append_basic_block())
            body(inside, apart.args[0], apart.args[1:])
            inside.ret_void()
            builder.call(apart, [arguments[0], *cgutils.unpack_tuple(builder, arguments[1])])
            return context.get_dummy_value()

        return types.void(types.int64, types.UniTuple(types.int64, 2 * len(counts))), code

    return emitted


def _add_multiples(_context: Any, to: Any, at: Any, factors: Any, lines: Any, start: Any, step: Any, count: Any) -> Any:
    """to[at …] += Σ_i factors[i] · lines[start + i · step …], ``count`` vectors of LANES numbers; products and sums are rounded one by one.

    factors: a tuple of numbers of the arrays' type.
    """
    integer = types.int64

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, terms = (context.make_array(signature.args[n])(context, builder, arguments[n]).data for n in (0, 3))
        at, start, step, count = (arguments[n] for n in (1, 4, 5, 6))
        vector, align = ir.VectorType(context.get_value_type(to.dtype), LANES), to.dtype.bitwidth // 8
        undefined, first = ir.Constant(vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        spread = [
            builder.shuffle_vector(builder.insert_element(undefined, factor, first), undefined, zeros)
            for factor in cgutils.unpack_tuple(builder, arguments[2])
        ]
        with cgutils.for_range(builder, count) as loop:
            here = builder.mul(loop.index, ir.Constant(ir.IntType(64), LANES))
            target = builder.bitcast(builder.gep(sums, [builder.add(at, here)]), vector.as_pointer())
            total, offset = builder.load(target, align=align), builder.add(start, here)
            for factor in spread:
                term = builder.load(builder.bitcast(builder.gep(terms, [offset]), vector.as_pointer()), align=align)
                total, offset = builder.fadd(total, builder.fmul(factor, term)), builder.add(offset, step)
            builder.store(total, target, align=align)
        return context.get_dummy_value()

    return types.void(to, integer, factors, lines, integer, integer, integer), code


add_multiples: Any = intrinsic(_add_multiples)
