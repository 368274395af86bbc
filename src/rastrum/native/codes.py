"""What the numbers in a program's tables mean to the compiled code: columns of each table, codes of operations, phases and heads."""

from __future__ import annotations

from typing import NamedTuple

# Columns of the table of operations. A view takes three: the offset of its first value, the distance from one column to the next, and the
# distance from one row to the next, which is 0 unless the view is of a whole map.
KIND, SOURCE, SOURCE_STEP, SOURCE_ROW, DESTINATION, DESTINATION_STEP, DESTINATION_ROW, INITIAL, INITIAL_STEP, INITIAL_ROW = range(10)
INPUTS, OUTPUTS, WEIGHT, BIAS, POINT_WEIGHTS, COLUMNS, ROWS, ROW_MASK, ROW_VALUE, COLUMN_MASK, COLUMN_VALUE, LEVEL = range(10, 22)
OPERATION_FIELDS = 22
LINEAR, COPY, ADD, GATE, GLU, RELU, ELU, CONCAT_ELU, LSTM, SQUARE, SPATIAL_LSTM, MULTIPLICATIVE, MULTIPLY, CLAMP = range(14)
LEAST_SQUARES, SURROUNDINGS = 14, 15
LIMIT = 8.0                    # of a clamp, and of what SURROUNDINGS shows

# Columns of the table of phases, in their order, channels last. The argument of a row phase is its first row, of a channel its group,
# of a stroke its latent.
FIRST, LAST, PHASE_KIND, ARGUMENT = range(4)
START, ROW, ROW_REVERSED, CHANNEL, FRAME, STROKE = range(6)

# Columns of the table of passes: first step, positions of a row, phases, input map and whether it holds ones; SPACING pixels of the
# image from one position to the next, KNOWN positions from one known position to the next (0: none), HEIGHT rows of a frame.
FIRST_STEP, WIDTH, FIRST_PHASE, LAST_PHASE, INPUT, INPUT_STEP, ONES, SPACING, KNOWN, HEIGHT = range(10)
PASS_FIELDS = 10

# How a program's output describes a distribution (``builder.Head``).
BERNOULLI, SOFTMAX, MIXTURE, GAUSSIAN = range(4)


class Layout(NamedTuple):
    """Sizes of one program, for the compiled code."""

    channels: int              # of an image
    groups: int                # colour groups: steps per pixel
    levels: int
    frame: int                 # decisions of a frame; 0 for a single image
    stride: int                # float32 values of one image's arena
    picture: int               # offset of the decided values as the network reads them, for later passes (−1: none), and distances:
    picture_row: int
    picture_step: int
    head: int                  # BERNOULLI, SOFTMAX, MIXTURE or GAUSSIAN
    components: int            # K of a mixture or of Gaussians
