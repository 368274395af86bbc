"""The walk over decisions as one compiled loop: run the network, draw or code a level, write it back."""

from __future__ import annotations

from typing import Any, NamedTuple

from .cdf import mixture_cdf, mixture_search, softmax_sums, sums_cdf, sums_search, tempered_sums
from .coder import put, take, threshold_of
from .codes import BERNOULLI, FIRST_STEP, GAUSSIAN, HEIGHT, INPUT, INPUT_STEP, MIXTURE, ONES, SPACING, WIDTH, Layout
from .compiler import compiled
from .exact import f32, i64
from .heads import gaussians_of, mixture_condition, mixture_of
from .interpreter import advance, begin_frame, pass_of, take_frame
from .noise import philox24

ADVANCE, DRAW, FORCE, WEIGH, ENCODE, DECODE = range(6)
DONE, NOT_FINITE, FLUSHED = range(3)


class Task(NamedTuple):
    """What to do at decisions first … last − 1."""

    mode: int                  # ADVANCE runs the network as far as ``first`` needs and decides nothing
    first: int
    last: int
    origin: int                # the decision at column 0 of the values
    lag: int                   # rows that each image is behind the one before; the decisions are those of the first image
    ran: int                   # steps whose operations have run
    seed: Any                  # uint64
    image: int                 # number of the first image
    temperature: float
    tiny: Any                  # the smallest normal float32, to detect flushed denormals


class Scratch(NamedTuple):
    linear: Any                # float32, for products
    logits: Any                # (L,) float32
    sums: Any                  # (L + 1,) int64
    pmf: Any                   # (L,) float64


class Tables(NamedTuple):
    """A program."""

    steps: Any                 # (D / channels of a group,): at which step of the passes each is decided
    operations: Any            # (operations, OPERATION_FIELDS)
    phases: Any                # (phases, 4)
    passes: Any                # (passes, PASS_FIELDS)
    outputs: Any               # (passes · G, 3): offset at column 0, distance between columns, size
    layout: Layout
    weights: Any
    levels: Any                # (L,) float32: a level as the network reads it


@compiled(slow=True)
def walk(program, lowest, memory, task, values, active, counts, shared, chain, seen, streams, mixture, scratch):
    """Runs a program over decisions for a batch; returns DONE, NOT_FINITE, or FLUSHED if this thread flushes denormals.

    program: its ``Tables``.
    lowest: the least log scale of a mixture's component.
    memory: the arenas, (B · stride,) float32.
    task: a ``Task``: what to do at which decisions.
    values: integer levels (B, n), read where not active, and when forcing or encoding; written everywhere. With a row more if ``shared``.
    active: (B, n) bool, where the task decides.
    counts: (B, n), written by WEIGH: the share, out of 2^24, that the integer CDF gives to each value that is not active.
    shared: (B,), the first column of each image that the next has too, at the same row: it takes its values.
    chain: (B, K), the log weights of the pixel's mixture, given its channels so far.
    seen: (B, C), the levels of the pixel's channels so far.
    streams: the coders, for encoding and decoding.
    mixture, scratch: memory that one thread writes.
    """
    steps, ops, phases, passes, outputs, layout, weights, table = program
    batch = chain.shape[0]
    per_group = layout.channels // layout.groups
    levels, sums = layout.levels, scratch.sums
    ran = task.ran
    if not (task.tiny * f32(0.1)) * f32(1e20) > f32(0.0):
        return FLUSHED
    taken = task.first                                                    # the frames before this decision were taken whole
    for t in range(task.first, task.last):
        if t < taken:
            continue
        step = steps[t // per_group]
        whole = layout.frame > 0 and t % max(layout.frame, 1) == 0 and t + layout.frame <= task.last
        if task.mode == FORCE and whole and ran == step:
            begin_frame(ops, phases, passes[0], layout, step, memory, batch, weights, scratch.linear)
            if layout.picture >= 0:
                take_frame(passes[0], layout, memory, values, t - task.origin, table, batch)
            taken = t + layout.frame
            ran += layout.frame // per_group
            continue
        while ran <= step:
            advance(ops, phases, passes, layout, ran, task.lag, memory, batch, weights, scratch.linear)
            ran += 1
        if task.mode == ADVANCE:
            break
        number = pass_of(passes, step)
        each, channel = passes[number], t % layout.channels
        pixel, group = (step - each[FIRST_STEP]) // layout.groups, channel // per_group
        row, column = pixel // each[WIDTH] % each[HEIGHT], pixel % each[WIDTH]
        output = outputs[number * layout.groups + group]
        parameters = output[0] + column * output[1]
        here = each[INPUT] + column * each[INPUT_STEP]
        behind = task.lag * each[WIDTH] * layout.channels
        for b in range(batch):
            p, n = b * layout.stride + parameters, t - task.origin - b * behind
            there = layout.picture + each[SPACING] * ((row - b * task.lag) * layout.picture_row + column * layout.picture_step)
            choose = active[b, n] and task.mode != FORCE
            weigh = task.mode == WEIGH and not active[b, n]
            level, low, high = values[b, n], i64(0), i64(0)
            mixed = layout.head == MIXTURE or layout.head == GAUSSIAN
            summed = not mixed or task.temperature != 1.0
            if layout.head == MIXTURE and (choose or weigh or channel < layout.channels - 1):
                if not mixture_of(layout, memory, p, channel, lowest, chain[b], seen[b], mixture):
                    return NOT_FINITE
            elif choose or weigh:
                if layout.head == GAUSSIAN:
                    at = p + channel % per_group * 3 * layout.components
                    if not gaussians_of(layout, memory, at, lowest, chain[b], mixture):
                        return NOT_FINITE
                elif layout.head == BERNOULLI:
                    scratch.logits[0], scratch.logits[1] = f32(0.0), memory[p + channel % per_group]
                else:
                    offset = p + channel % per_group * levels
                    for j in range(levels):
                        scratch.logits[j] = memory[offset + j]
                if not mixed and not softmax_sums(scratch.logits, f32(task.temperature), sums):
                    return NOT_FINITE
            if (choose or weigh) and mixed and summed:
                tempered_sums(mixture, layout.head, levels, task.temperature, scratch.pmf, sums)
            if choose and task.mode != ENCODE:
                threshold = threshold_of(streams, b) if task.mode == DECODE else philox24(task.seed, task.image + b, t)
                if summed:
                    level = sums_search(sums, levels, threshold)
                else:
                    level, low, high = mixture_search(mixture, layout.head, levels, threshold)
            if weigh or (choose and task.mode >= ENCODE):
                if summed:
                    low, high = sums_cdf(sums, levels, level), sums_cdf(sums, levels, level + 1)
                elif task.mode != DECODE:
                    low = mixture_cdf(mixture, layout.head, levels, level)
                    high = mixture_cdf(mixture, layout.head, levels, level + 1)
                if task.mode == ENCODE:
                    put(streams, b, low, high)
                elif task.mode == DECODE:
                    take(streams, b, low, high)
                else:
                    counts[b, n] = high - low
            values[b, n] = level
            if column >= shared[b]:
                values[b + 1, n - shared[b] * layout.channels] = level
            if layout.head == MIXTURE and channel < layout.channels - 1:
                seen[b, channel] = level
                mixture_condition(mixture, levels, level, chain[b])
            memory[b * layout.stride + here + channel] = table[level]
            if layout.picture >= 0:
                memory[b * layout.stride + there + channel] = table[level]
            if each[ONES] == 1 and channel == 0:
                memory[b * layout.stride + here + layout.channels] = f32(1.0)
    return DONE
