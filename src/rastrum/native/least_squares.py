"""Linear prediction of a value from its neighbours by weighted least squares near it, and what a network is shown of its surroundings.

    x_t = neighbours that are decided − base,  z_t = [x_t; v_t − base],  base = the value to the left      p_t = base + w · x_t

    A = Σ g_t z_t z_tᵀ over a block of BLOCK pixels of a row        C_b ← μ C_b + A        G_b = ρ (G_{b+1} + C_{b+1}), of rows before
    L_b = ρ (L_{b−1} + C_{b−1}), this row included                 U = L_b + μ (C_b + G_b) = [R r; rᵀ ·]        w = (R + ν I)⁻¹ r

    g_t = 0.004 / (sum of |error| of four neighbours + 0.9 UNIT)

What a block learns from fades with its distance, by ρ for a block and by μ for a row: so the prediction adapts to the image as it is drawn,
without parameters. There are two, of a long and a short memory (μ, ρ):

    p = long + (short − long) / (1 + o⁸),  o = short's mean |error| of its neighbours, divided by long's

Values lie in [−1, 1]; UNIT is a level of 256. Neighbours outside the image are moved onto its edge; those that are not decided yet count as
the base.
"""

from __future__ import annotations

import numpy as np

from .codes import LIMIT
from .compiler import compiled
from .exact import f64, log64
from .lanes import LANES, add_multiples

# (rows, columns) from a pixel: of its own channel, of each other channel; earlier channels of the pixel itself come first.
OWN = np.array([(0, -2), (-1, 0), (-1, -1), (-1, 1), (-2, 0), (-1, 2), (-2, -1), (-2, 1), (-1, -2), (0, -3), (-2, 2), (-3, 0), (-2, -2),
                (0, -4), (-3, -1), (-3, 1), (-1, 3), (-1, -3), (-2, 3), (-2, -3)])  # fmt: skip
EARLIER, LATER = 12, 6         # of these, for the other channels
# What the network is shown: differences of all channels, and errors of the predictions; errors that make the scale of farther ones.
SHOWN = np.array([(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, 2), (-2, -1), (-2, 1), (-1, -2), (-2, 2), (-2, -2), (0, -3),
                  (-3, 0), (-1, 3), (-1, -3), (-3, -1), (-3, 1), (-2, 3), (-2, -3), (-3, 2), (-3, -2)])  # fmt: skip
ERRORS = np.array([(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, 2)])
FARTHER = np.array([(0, -3), (0, -4), (-2, -1), (-2, 1), (-1, -2), (-1, 3), (-2, -2), (-2, 2), (-3, 0), (-3, -1), (-3, 1), (-1, -3)])
REACH = 4                      # rows and columns to the farthest neighbour
NEAREST = 4                    # of ERRORS, for g
UNIT = 2 / 255
MEMORIES = ((0.95, 0.8), (0.8, 0.6))                                      # (μ, ρ): long, short
KEEPS, FADES = (np.array(each) for each in zip(*MEMORIES, strict=True))
NOISE = 0.01 * UNIT            # ν
BLOCK = 8                      # pixels from one solution to the next
AT_ONCE = 4                    # rows, which divide LANES
PREDICTIONS = 1 + len(MEMORIES)    # values of a channel in the map of predictions: p, long, short


@compiled
def unknowns(channels, channel):
    """Length n of x for a channel."""
    return len(OWN) + (EARLIER + 1) * channel + LATER * (channels - 1 - channel)


@compiled
def padded(n):
    """Length of z = [x; value], in whole lanes."""
    return (n + LANES) // LANES * LANES


@compiled
def row_of(a, n):
    """Where row ``a`` of a symmetric matrix of z begins: of its upper half, each row begins at its lane's first column."""
    lane, width = a // LANES, padded(n)
    return LANES * lane * width - LANES * LANES * lane * (lane - 1) // 2 + (a - LANES * lane) * (width - LANES * lane)


@compiled
def moments(n):
    """Values of a symmetric matrix of z."""
    return row_of(padded(n), n)


def state_size(n: int, columns: int) -> int:
    """Values that a predictor keeps: base, g, z, both w, U, A, both L, both C and G of each block."""
    blocks = -(-columns // BLOCK)
    return 2 + 3 * padded(n) + moments(n) * (2 + len(MEMORIES) * (1 + 2 * blocks))


@compiled
def shown(channels):
    """Values that the network is shown of a pixel's surroundings."""
    return channels * (len(SHOWN) + len(ERRORS) + 3) + 1


@compiled
def look(values, at, row_step, column_step, row, column, columns, down, right, otherwise):
    """The value of a neighbour; ``at``: address of the pixel itself."""
    if row >= REACH <= column < columns - REACH:                          # well inside, where nothing is moved
        return values[at + down * row_step + right * column_step]
    y, x = max(row + down, 0), min(max(column + right, 0), columns - 1)
    if y == row and x >= column:
        return otherwise
    return values[at + (y - row) * row_step + (x - column) * column_step]


@compiled
def left_of(values, at, row_step, column_step, row, column):
    """The value to the left; in the first column the one above, and 0 for the first pixel."""
    if column > 0:
        return values[at - column_step]
    return values[at - row_step] if row > 0 else values[at] * 0


@compiled
def predict(values, v, v_row, v_step, predictions, p, p_row, p_step, state, s, row, column, columns, channels, channel):
    """Writes the predictions of a pixel's channel to predictions[p], …, after learning from the pixel before.

    v: address of the pixel's first channel; p: of its channel. Both maps have a row step and a column step. state[s …]: ``state_size``.
    """
    real = state.dtype.type
    n, own = unknowns(channels, channel), v + channel
    size, width = moments(n), padded(n)
    z, w, rest = state[s + 2 : s + 2 + width], state[s + 2 + width : s + 2 + 3 * width], state[s + 2 + 3 * width :]
    U, A, kept = rest[:size], rest[size : 2 * size], rest[2 * size :]
    if row + column > 0:
        target = left_of(values, own, v_row, v_step, row, column) if column > 0 else values[own - v_row + (columns - 1) * v_step]
        z[n] = target - state[s]
        for a in range(n):
            first = a // LANES * LANES
            add_multiples(A, row_of(a, n), (state[s + 1] * z[a],), z, first, 0, (width - first) // LANES)
    if column % BLOCK == 0:
        learn(kept, A, size, row, column, columns)
        for memory in range(len(KEEPS)):
            recall(kept, U, size, column, columns, memory)
            solve(U, w[memory * width : memory * width + width], real(NOISE), n)
    base = left_of(values, own, v_row, v_step, row, column)
    at = 0
    for other in range(channels):
        its = left_of(values, v + other, v_row, v_step, row, column)
        if other < channel:
            z[at] = values[v + other] - its
            at += 1
        for k in range(len(OWN) if other == channel else EARLIER if other < channel else LATER):
            z[at] = look(values, v + other, v_row, v_step, row, column, columns, OWN[k, 0], OWN[k, 1], its) - its
            at += 1
    long, short = base, base
    for a in range(n):
        long += w[a] * z[a]
        short += w[width + a] * z[a]
    one = real(1)
    long, short = min(max(long, -one), one), min(max(short, -one), one)
    error = real(0.9 * UNIT)
    errors = real(0.3 * UNIT), real(0.3 * UNIT)
    zero = real(0)
    for k in range(len(ERRORS)):
        down, right = ERRORS[k, 0], ERRORS[k, 1]
        value = look(values, own, v_row, v_step, row, column, columns, down, right, zero)
        if k < NEAREST:
            error += abs(value - look(predictions, p, p_row, p_step, row, column, columns, down, right, zero))
        errors = (
            errors[0] + abs(value - look(predictions, p + channels, p_row, p_step, row, column, columns, down, right, zero)),
            errors[1] + abs(value - look(predictions, p + 2 * channels, p_row, p_step, row, column, columns, down, right, zero)),
        )
    odds = errors[1] / errors[0]
    odds *= odds
    odds *= odds
    predictions[p + channels], predictions[p + 2 * channels] = long, short
    predictions[p] = long + (short - long) / (one + odds * odds)
    state[s], state[s + 1] = base, real(0.004) / error


@compiled
def learn(kept, A, size, row, column, columns):
    """Ends a block of pixels: A goes into its C and on to L. At the end of a row, G is what lies to the right of each block."""
    blocks = -(-columns // BLOCK)
    block = (column // BLOCK - 1) % blocks
    for memory in range(len(KEEPS)):
        keeps, fades = A.dtype.type(KEEPS[memory]), A.dtype.type(FADES[memory])
        own = kept[memory * size * (1 + 2 * blocks) :]
        L, C, G = own[:size], own[size : size + blocks * size], own[size + blocks * size :]
        if row + column > 0:
            here = C[block * size : block * size + size]
            for a in range(size):
                here[a] = keeps * here[a] + A[a]
                L[a] = fades * (L[a] + here[a])
        if column == 0:
            L[:] = 0
            for b in range(blocks - 2, -1, -1):
                right, its, to = G[(b + 1) * size : (b + 2) * size], C[(b + 1) * size : (b + 2) * size], G[b * size : b * size + size]
                for a in range(size):
                    to[a] = fades * (right[a] + its[a])
    A[:] = 0


@compiled
def recall(kept, U, size, column, columns, memory):
    """U of a memory, for the block that begins."""
    blocks = -(-columns // BLOCK)
    block, keeps, own = column // BLOCK, U.dtype.type(KEEPS[memory]), kept[memory * size * (1 + 2 * blocks) :]
    L, C, G = own[:size], own[size + block * size :], own[size + (blocks + block) * size :]
    for a in range(size):
        U[a] = L[a] + keeps * (C[a] + G[a])


@compiled
def solve(U, w, noise, n):
    """w = (R + ν I)⁻¹ r of U = [R r; rᵀ ·], which is overwritten; w stays as it is where elimination fails for rounding.

    Rows are eliminated four at a time, which changes no order of additions.
    """
    width, one = padded(n), U.dtype.type(1)
    for top in range(0, n, AT_ONCE):
        step = width - top // LANES * LANES
        line = row_of(top, n) - top // LANES * LANES                      # U[top + i, j] is U[line + i · step + j]
        for i in range(min(AT_ONCE, n - top)):
            for k in range(i):
                factor = -U[line + k * step + top + i] / U[line + k * step + top + k]
                add_multiples(U, row_of(top + i, n), (factor,), U, line + k * step + top // LANES * LANES, 0, step // LANES)
            own = line + i * step + top + i
            U[own] += noise
            if not U[own] > noise * U.dtype.type(0.5):
                return
        a, b, c, d = line + top, line + step + top + 1, line + 2 * step + top + 2, line + 3 * step + top + 3
        pivots = -one / U[a], -one / U[b], -one / U[c], -one / U[d]
        for i in range(top + AT_ONCE, n):
            first, ahead = i // LANES * LANES, i - top
            factors = U[a + ahead] * pivots[0], U[b + ahead - 1] * pivots[1], U[c + ahead - 2] * pivots[2], U[d + ahead - 3] * pivots[3]
            add_multiples(U, row_of(i, n), factors, U, line + first, step, (width - first) // LANES)
    w[:] = 0
    for k in range(n - 1, -1, -1):
        line = row_of(k, n) - k // LANES * LANES
        even = odd = U.dtype.type(0)                                      # two sums, each of every second term
        for j in range(k // 2 * 2, width, 2):
            even += U[line + j] * w[j]
            odd += U[line + j + 1] * w[j + 1]
        w[k] = (U[line + n] - (even + odd)) / U[line + k]


@compiled
def surroundings(values, v, v_row, v_step, predictions, p, p_row, p_step, out, o, row, column, columns, channels):
    """Writes what the network is shown, then of each channel the scale s, 1 / s and log s.

    s is the mean |error| of the neighbours' predictions. Shown are, for each channel, differences from the mean of the left and the upper
    neighbour, relative to 4 times the mean s of all channels; errors, relative to the channel's s; log s; that mean; and log s of farther
    neighbours, relative to s. Last comes the first channel's prediction, as a difference.
    """
    real = values.dtype.type
    size = shown(channels)
    scale, inverse, logs = o + size, o + size + channels, o + size + 2 * channels
    together, zero, limit = real(0), real(0), real(LIMIT)
    for c in range(channels):
        total = real(0)
        at = o + channels * len(SHOWN) + c
        for k in range(len(ERRORS)):
            down, right = ERRORS[k, 0], ERRORS[k, 1]
            value = look(values, v + c, v_row, v_step, row, column, columns, down, right, zero)
            error = value - look(predictions, p + c, p_row, p_step, row, column, columns, down, right, zero)
            out[at + k * channels] = error
            total += abs(error)
        s = total * real(1 / len(ERRORS)) + real(0.3 * UNIT)
        out[scale + c], out[inverse + c], out[logs + c] = s, real(1) / s, log64(f64(s))
        together += s
        for k in range(len(ERRORS)):
            out[at + k * channels] = min(max(out[at + k * channels] / s, -limit), limit)
    factor = real(channels / 4) / together
    for c in range(channels):
        base = left_of(values, v + c, v_row, v_step, row, column)
        middle = (base + look(values, v + c, v_row, v_step, row, column, columns, -1, 0, base)) * real(0.5)
        for k in range(len(SHOWN)):
            value = look(values, v + c, v_row, v_step, row, column, columns, SHOWN[k, 0], SHOWN[k, 1], base)
            out[o + k * channels + c] = min(max((value - middle) * factor, -limit), limit)
        at = o + channels * (len(SHOWN) + len(ERRORS)) + c
        far = real(0.3 * UNIT)
        for k in range(len(FARTHER)):
            down, right = FARTHER[k, 0], FARTHER[k, 1]
            value = look(values, v + c, v_row, v_step, row, column, columns, down, right, zero)
            far += abs(value - look(predictions, p + c, p_row, p_step, row, column, columns, down, right, zero)) * real(1 / len(FARTHER))
        out[at], out[at + channels], out[at + 2 * channels] = out[logs + c] + real(4.5), middle, log64(f64(far)) - out[logs + c]
        if c == 0:
            out[o + size - 1] = min(max((predictions[p] - middle) * factor, -limit), limit)


@compiled
def over_images(values, predictions, out, state, states):
    """``predict`` and ``surroundings`` of whole images: values (B, H, W, C), predictions (B, H, W, PREDICTIONS C), out (B, H, W, F)."""
    batch, height, width, channels = values.shape
    size, step = out.shape[3], PREDICTIONS * channels
    for image in range(batch):
        state[:] = 0
        v, p, o = values[image].reshape(-1), predictions[image].reshape(-1), out[image].reshape(-1)
        for row in range(height):
            for column in range(width):
                at = (row * width + column) * channels
                for c in range(channels):
                    predict(v, at, width * channels, channels, p, at * PREDICTIONS + c, width * step, step, state, states[c], row, column,
                            width, channels, c)  # fmt: skip
                    if c == 0:
                        surroundings(v, at, width * channels, channels, p, at * PREDICTIONS, width * step, step, o,
                                     (row * width + column) * size, row, column, width, channels)  # fmt: skip
