"""Linear prediction of a value from its neighbours by weighted recursive least squares, and what a network is shown of its surroundings.

    x_t = neighbours that are decided − base,  base = the value to the left      p_t = base + w · x_t
    R ← λ R + g_t x_t x_tᵀ,  r ← λ r + g_t (v_t − base) x_t                      w = (R + ν I)⁻¹ r, every ``EVERY`` pixels
    g_t = (1 − λ) / (mean |error| of four neighbours + ε)

So the prediction adapts to the image as it is drawn, without parameters. Values lie in [−1, 1]; UNIT is a level of 256. Neighbours outside
the image are moved onto its edge; those that are not decided yet count as the base.
"""

from __future__ import annotations

import numpy as np

from .codes import LIMIT
from .compiler import compiled
from .exact import f64, log64

# (rows, columns) from a pixel: of its own channel, of each other channel; earlier channels of the pixel itself come first.
OWN = np.array([(0, -2), (-1, 0), (-1, -1), (-1, 1), (-2, 0), (-1, 2), (-2, -1), (-2, 1), (-1, -2), (0, -3), (-2, 2), (-3, 0), (-2, -2),
                (0, -4), (-3, -1), (-3, 1), (-1, 3), (-1, -3), (-2, 3), (-2, -3)])  # fmt: skip
OTHERS = np.array([(-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, -2)])
# What the network is shown: differences of all channels, and errors of the predictions.
SHOWN = np.array([(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, 2), (-2, -1), (-2, 1), (-1, -2), (-2, 2), (-2, -2), (0, -3),
                  (-3, 0), (-1, 3), (-1, -3), (-3, -1), (-3, 1), (-2, 3), (-2, -3), (-3, 2), (-3, -2)])  # fmt: skip
ERRORS = np.array([(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, 2)])
NEAREST = 4                    # of them, for g
UNIT = 2 / 255
FORGETS = 0.9995               # λ
EVERY = 16                     # pixels from one solution to the next


@compiled
def unknowns(channels, channel):
    """Length n of x for a channel."""
    return len(OWN) + len(OTHERS) * (channels - 1) + channel


def state_size(n: int) -> int:
    """Values that a predictor keeps: base, g, x, w, r, R and its factor."""
    return 2 + 4 * n + 2 * n * n


@compiled
def shown(channels):
    """Values that the network is shown of a pixel's surroundings."""
    return channels * (len(SHOWN) + len(ERRORS) + 2) + 1


@compiled
def look(values, at, row_step, column_step, row, column, columns, down, right, otherwise):
    """The value of a neighbour; ``at``: address of the pixel itself."""
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
    """Writes the prediction of a pixel's channel to predictions[p], after learning from the pixel before.

    v: address of the pixel's first channel; p: of its channel. Both maps have a row step and a column step. state[s …]: ``state_size``.
    """
    real = state.dtype.type
    forgets, noise = real(FORGETS), real(0.02 * UNIT)
    n, own, others = unknowns(channels, channel), v + channel, len(OTHERS) * (channels - 1)
    x, w, r, y = state[s + 2 : s + 2 + n], state[s + 2 + n : s + 2 + 2 * n], state[s + 2 + 2 * n : s + 2 + 3 * n], state[s + 2 + 3 * n :]
    R, L = state[s + 2 + 4 * n :], state[s + 2 + 4 * n + n * n :]
    count = row * columns + column
    if count > 0:
        target = left_of(values, own, v_row, v_step, row, column) if column > 0 else values[own - v_row + (columns - 1) * v_step]
        target -= state[s]
        for a in range(n):
            product = x[a] * state[s + 1]
            line = R[a * n : a * n + a + 1]
            for b in range(a + 1):
                line[b] = forgets * line[b] + product * x[b]
            r[a] = forgets * r[a] + product * target
        if count % EVERY == 0:
            solve(R, r, noise, L, y, w, n)
    base = left_of(values, own, v_row, v_step, row, column)
    for other in range(channel):
        x[other] = values[v + other] - left_of(values, v + other, v_row, v_step, row, column)
    for k in range(len(OWN)):
        x[channel + k] = look(values, own, v_row, v_step, row, column, columns, OWN[k, 0], OWN[k, 1], base) - base
    for k in range(others):
        other = v + (channel + 1 + k // len(OTHERS)) % channels
        its = left_of(values, other, v_row, v_step, row, column)
        place = OTHERS[k % len(OTHERS)]
        x[channel + len(OWN) + k] = look(values, other, v_row, v_step, row, column, columns, place[0], place[1], its) - its
    total, zero = base, real(0)
    for a in range(n):
        total += w[a] * x[a]
    predictions[p] = min(max(total, real(-1)), real(1))
    error = real(0.9 * UNIT)
    for k in range(NEAREST):
        down, right = ERRORS[k, 0], ERRORS[k, 1]
        value = look(values, own, v_row, v_step, row, column, columns, down, right, zero)
        error += abs(value - look(predictions, p, p_row, p_step, row, column, columns, down, right, zero))
    state[s], state[s + 1] = base, real(4 * (1 - FORGETS)) / error


@compiled
def solve(R, r, noise, L, y, w, n):
    """w = (R + ν I)⁻¹ r by Cholesky's factor L; w stays as it is where the factor does not exist for rounding."""
    for a in range(n):
        for b in range(a + 1):
            total = R[a * n + b]
            if a == b:
                total += noise
            for k in range(b):
                total -= L[a * n + k] * L[b * n + k]
            if a > b:
                L[a * n + b] = total / L[b * n + b]
            elif total > noise / 2:
                L[a * n + a] = np.sqrt(total)
            else:
                return
    for a in range(n):
        total = r[a]
        for k in range(a):
            total -= L[a * n + k] * y[k]
        y[a] = total / L[a * n + a]
    for a in range(n - 1, -1, -1):
        total = y[a]
        for k in range(a + 1, n):
            total -= L[k * n + a] * w[k]
        w[a] = total / L[a * n + a]


@compiled
def surroundings(values, v, v_row, v_step, predictions, p, p_row, p_step, out, o, row, column, columns, channels):
    """Writes what the network is shown, then of each channel the scale s, 1 / s and log s.

    s is the mean error of the neighbours' predictions. Shown are differences from the mean of the left and the upper neighbour and errors,
    both relative to s, the scales and that mean, and the first channel's prediction.
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
        out[at], out[at + channels] = out[logs + c] + real(4.5), middle
        if c == 0:
            out[o + size - 1] = min(max((predictions[p] - middle) * factor, -limit), limit)


@compiled
def over_images(values, predictions, out, state, states):
    """``predict`` and ``surroundings`` of whole images: values, predictions (B, H, W, C), out (B, H, W, F)."""
    batch, height, width, channels = values.shape
    size = out.shape[3]
    for image in range(batch):
        state[:] = 0
        v, p, o = values[image].reshape(-1), predictions[image].reshape(-1), out[image].reshape(-1)
        for row in range(height):
            for column in range(width):
                at = (row * width + column) * channels
                for c in range(channels):
                    predict(v, at, width * channels, channels, p, at + c, width * channels, channels, state, states[c], row, column, width,
                            channels, c)  # fmt: skip
                    if c == 0:
                        surroundings(v, at, width * channels, channels, p, at, width * channels, channels, o, (row * width + column) * size,
                                     row, column, width, channels)  # fmt: skip
