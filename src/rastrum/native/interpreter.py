"""Runs the tables of a packed program (``codes``): which operations are due at a pixel, for a row, before a frame.

    ops, phases, passes    the tables · memory (batch · stride,): the images' arenas · weights: the weight arena
    s, d, i                offsets of source, destination and initial in an arena; ls, ld, li: from one column to the next
    lag                    rows that each image is behind the one before: image b is at row − b · lag, where the same operations are due
"""

from __future__ import annotations

from . import codes
from .compiler import compiled
from .elementwise import add, clamp, concat_elu, copy, elu, gate, glu, lstm, multiplicative, multiply, relu, spatial_lstm, square
from .exact import f32
from .least_squares import predict, surroundings
from .linear import linear, three_columns
from .points import TILE


@compiled
def _apply(op, memory, s, i, d):
    """One elementwise operation at one column of one image."""
    kind, n = op[codes.KIND], op[codes.OUTPUTS]
    if kind == codes.GATE:
        gate(memory, s, d, n)
    elif kind == codes.GLU:
        glu(memory, s, i, d, n)
    elif kind == codes.CONCAT_ELU:
        concat_elu(memory, s, d, n >> 1)
    elif kind == codes.ELU:
        elu(memory, s, d, n)
    elif kind == codes.RELU:
        relu(memory, s, d, n)
    elif kind == codes.COPY:
        copy(memory, s, d, n)
    elif kind == codes.ADD:
        add(memory, s, i, d, n)
    elif kind == codes.LSTM:
        lstm(memory, s, i, d, n)
    elif kind == codes.SQUARE:
        square(memory, s, d, n)
    elif kind == codes.SPATIAL_LSTM:
        spatial_lstm(memory, s, i, d, n)
    elif kind == codes.MULTIPLICATIVE:
        multiplicative(memory, s, i, d, n)
    elif kind == codes.MULTIPLY:
        multiply(memory, s, i, d, n)
    elif kind == codes.CLAMP:
        clamp(memory, s, d, n)


@compiled
def _around(op, row, column, memory, s, i, d):
    """One operation on a pixel of whole maps and what is around it, of one image."""
    v_row, v_step, columns = op[codes.SOURCE_ROW], op[codes.SOURCE_STEP], op[codes.COLUMNS]
    if op[codes.KIND] == codes.LEAST_SQUARES:
        p_row, p_step = op[codes.DESTINATION_ROW], op[codes.DESTINATION_STEP]
        predict(memory, s, v_row, v_step, memory, d, p_row, p_step, memory, i, row, column, columns, v_step, op[codes.INPUTS] - 1)
    else:
        p_row, p_step = op[codes.INITIAL_ROW], op[codes.INITIAL_STEP]
        surroundings(memory, s, v_row, v_step, memory, i, p_row, p_step, memory, d, row, column, columns, v_step)


@compiled
def run_at(ops, row, column, memory, stride, lag, batch, weights):
    """The operations that are due at a pixel, for all images: the images are the rows of each product."""
    for index in range(ops.shape[0]):
        op = ops[index]
        if row & op[codes.ROW_MASK] != op[codes.ROW_VALUE] or column & op[codes.COLUMN_MASK] != op[codes.COLUMN_VALUE]:
            continue
        j = column >> op[codes.LEVEL]
        s = op[codes.SOURCE] + row * op[codes.SOURCE_ROW] + j * op[codes.SOURCE_STEP]
        d = op[codes.DESTINATION] + row * op[codes.DESTINATION_ROW] + j * op[codes.DESTINATION_STEP]
        i = op[codes.INITIAL] + row * op[codes.INITIAL_ROW] + j * op[codes.INITIAL_STEP]
        bs, bd, bi = stride - lag * op[codes.SOURCE_ROW], stride - lag * op[codes.DESTINATION_ROW], stride - lag * op[codes.INITIAL_ROW]
        if op[codes.KIND] == codes.LINEAR:
            linear(batch, op[codes.INPUTS], op[codes.OUTPUTS], memory, s, bs, weights, op[codes.WEIGHT], op[codes.BIAS], memory, i, bi,
                   memory, d, bd)  # fmt: skip
        elif op[codes.KIND] >= codes.LEAST_SQUARES:
            for b in range(batch):
                _around(op, row - b * lag, j, memory, s + b * bs, i + b * bi, d + b * bd)
        else:
            for b in range(batch):
                _apply(op, memory, s + b * bs, i + b * bi, d + b * bd)


@compiled
def run_across(ops, row, memory, stride, batch, weights, scratch):
    """The operations that are due for a row, all its columns at once: the columns are the rows of each product."""
    for index in range(ops.shape[0]):
        op = ops[index]
        if row & op[codes.ROW_MASK] != op[codes.ROW_VALUE]:
            continue
        ls, ld, li, K, N = op[codes.SOURCE_STEP], op[codes.DESTINATION_STEP], op[codes.INITIAL_STEP], op[codes.INPUTS], op[codes.OUTPUTS]
        in_source, in_destination = op[codes.SOURCE] + row * op[codes.SOURCE_ROW], op[codes.DESTINATION] + row * op[codes.DESTINATION_ROW]
        in_initial = op[codes.INITIAL] + row * op[codes.INITIAL_ROW]
        done = 0
        if op[codes.POINT_WEIGHTS] > 0:
            s, d, i, tiles = in_source, in_destination, in_initial, op[codes.COLUMNS] // TILE
            three_columns(
                batch, tiles, K // 3, N, memory, stride, s, ls, weights, op[codes.POINT_WEIGHTS], op[codes.BIAS], i, li, d, ld, scratch
            )
            done = TILE * tiles
        columns = op[codes.COLUMNS] - done
        for b in range(batch):
            s, d, i = in_source + b * stride + done * ls, in_destination + b * stride + done * ld, in_initial + b * stride + done * li
            if op[codes.KIND] == codes.LINEAR:
                if columns > 0:
                    linear(columns, K, N, memory, s, ls, weights, op[codes.WEIGHT], op[codes.BIAS], memory, i, li, memory, d, ld)
            else:
                for j in range(columns):
                    _apply(op, memory, s + j * ls, i + j * li, d + j * ld)


@compiled(slow=True)
def run_whole(ops, part, parts, image, weights, scratch):
    """Operations over whole maps of one image; of each a part of its rows, out of several of equal size."""
    for each in range(ops.shape[0]):
        rows = ops[each, codes.ROWS]
        for at in range(rows * part // parts, rows * (part + 1) // parts):
            run_across(ops[each : each + 1], at, image, 0, 1, weights, scratch)


@compiled
def pass_of(passes, step):
    index = 0
    while index + 1 < passes.shape[0] and step >= passes[index + 1, codes.FIRST_STEP]:
        index += 1
    return index


@compiled
def begin_frame(ops, phases, here, layout, step, memory, batch, weights, scratch):
    """Before the first frame the start phase, before any other the frame phase: image by image, for whole maps fill the cache."""
    kind = codes.START if step == here[codes.FIRST_STEP] else codes.FRAME
    for index in range(here[codes.FIRST_PHASE], here[codes.LAST_PHASE]):
        phase = phases[index]
        if phase[codes.PHASE_KIND] == kind:
            for b in range(batch):
                image = memory[b * layout.stride : (b + 1) * layout.stride]
                run_whole(ops[phase[codes.FIRST] : phase[codes.LAST]], 0, 1, image, weights, scratch)


@compiled
def advance(ops, phases, passes, layout, step, lag, memory, batch, weights, scratch):
    """Runs the operations of one step, a colour group of a position: before a row its row phases, then the group's."""
    here, stride = passes[pass_of(passes, step)], layout.stride
    pixel, group = (step - here[codes.FIRST_STEP]) // layout.groups, (step - here[codes.FIRST_STEP]) % layout.groups
    row, column = pixel // here[codes.WIDTH] % here[codes.HEIGHT], pixel % here[codes.WIDTH]
    together = batch if lag == 0 else 1                                   # images at the same row
    if column == 0 and group == 0:
        for b in range(0, batch, together):
            if row == b * lag:
                begin = step - row * here[codes.WIDTH] * layout.groups
                begin_frame(ops, phases, here, layout, begin, memory[b * stride :], together, weights, scratch)
    for index in range(here[codes.FIRST_PHASE], here[codes.LAST_PHASE]):
        phase = phases[index]
        part = ops[phase[codes.FIRST] : phase[codes.LAST]]
        if phase[codes.PHASE_KIND] in (codes.START, codes.FRAME, codes.STROKE):
            continue
        if phase[codes.PHASE_KIND] == codes.CHANNEL:
            if phase[codes.ARGUMENT] == group:
                run_at(part, row, column, memory, stride, lag, batch, weights)
        elif column == 0 and group == 0:
            for b in range(0, batch, together):
                if row - b * lag < phase[codes.ARGUMENT]:
                    continue
                if phase[codes.PHASE_KIND] == codes.ROW:
                    run_across(part, row - b * lag, memory[b * stride :], stride, together, weights, scratch)
                else:
                    for at in range(here[codes.WIDTH] - 1, -1, -1):
                        run_at(part, row - b * lag, at, memory[b * stride :], stride, 0, together, weights)
    if here[codes.KNOWN] > 0 and row % here[codes.KNOWN] == 0 and column % here[codes.KNOWN] == 0:
        feed(here, layout, row, column, group, memory, batch)


@compiled
def feed(here, layout, row, column, group, memory, batch):
    """A known position reads what an earlier pass decided there."""
    size = layout.channels // layout.groups
    for b in range(batch):
        source = b * layout.stride + layout.picture + here[codes.SPACING] * (row * layout.picture_row + column * layout.picture_step)
        target = b * layout.stride + here[codes.INPUT] + column * here[codes.INPUT_STEP]
        for channel in range(group * size, (group + 1) * size):
            memory[target + channel] = memory[source + channel]
        if here[codes.ONES] == 1:
            memory[target + layout.channels] = f32(1.0)


@compiled
def take_frame(here, layout, memory, values, n, table, batch):
    """A frame whose values are all known, from column n of values (B, …) on: only its picture is written, no pixel is stepped."""
    for b in range(batch):
        for index in range(layout.frame):
            pixel, channel = index // layout.channels, index % layout.channels
            row, column = pixel // here[codes.WIDTH], pixel % here[codes.WIDTH]
            at = b * layout.stride + layout.picture + row * layout.picture_row + column * layout.picture_step + channel
            memory[at] = table[values[b, n + index]]
