"""The elementwise operations of a step program, float32: n outputs from ``s``, in one arena ``memory``.

    s, d, i    offsets of the source, the destination and the base operand (``initial``); of an LSTM, c is the offset of its cell

``docs/arithmetic.md`` is the specification. e^40 is far from overflow, and 1 + e^40 is e^40 to float32.
"""

from __future__ import annotations

from .codes import LIMIT
from .compiler import compiled
from .exact import exp32, f32


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
def multiply(memory, s, i, d, n):
    x, base, out = memory[s : s + n], memory[i : i + n], memory[d : d + n]
    for j in range(n):
        out[j] = base[j] * x[j]


@compiled
def clamp(memory, s, d, n):
    x, out = memory[s : s + n], memory[d : d + n]
    for j in range(n):
        out[j] = min(max(x[j], f32(-LIMIT)), f32(LIMIT))


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
