"""Checks that this machine computes as specified: three small fixed programs are drawn, encoded and decoded, and all they wrote is hashed.

``verify`` runs before anything is coded, once per process. Two programs share a network of linear, copy, gate, lstm, glu, relu, elu and
concat_elu operations in row, row_reversed and channel phases; one has a softmax head, the other a mixture head. The third, with a gaussian
head, has what adapts to the image: least_squares, surroundings, multiply and clamp. None contains add, square, spatial_lstm and
multiplicative operations, start, frame and stroke phases, and a bernoulli head.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from ..denormals import PortabilityError, keeping
from ..native.least_squares import PREDICTIONS, shown, state_size, unknowns
from ..noise import uniform
from ..protocol import ImageSpec, Work
from ..range_coder import Decoder, Encoder
from .builder import Head, Program, View
from .native import NativeInterpreter
from .tables import pack

GOLDEN = "f6c33e4c6d6de60b"


@lru_cache
def verify() -> None:
    """Raises ``PortabilityError`` if the golden program has another fingerprint."""
    if (found := fingerprint()) != GOLDEN:
        raise PortabilityError(
            f"arithmetic: the golden program gives {found}, not {GOLDEN}: this processor or LLVM does not compute as specified, "
            "so nothing is coded; please report it with the processor's name"
        )


@keeping
def fingerprint() -> str:
    """Hash of the golden programs' maps, levels and streams."""
    digest = blake2b(digest_size=8)
    for head in (Head("softmax"), Head("mixture", 3), Head("gaussian", 2)):
        packed, decisions = pack(_adaptive(head) if head.kind == "gaussian" else _program(head)), _spec(head).size
        drawing, writing = NativeInterpreter(packed, 3), NativeInterpreter(packed, 3)
        values = drawing.decide(0, decisions, Work("draw", seed=1))
        encoders = [Encoder() for _ in range(3)]
        writing.decide(0, decisions, Work("encode", values=values, streams=encoders))
        streams = [encoder.finish() for encoder in encoders]
        reading = NativeInterpreter(packed, 3)
        again = reading.decide(0, decisions, Work("decode", streams=[Decoder(stream) for stream in streams]))
        digest.update(writing.arena().tobytes() + values.numpy().astype("<i8").tobytes() + again.numpy().astype("<i8").tobytes())
        digest.update(b"".join(streams))
    return digest.hexdigest()


def _spec(head: Head) -> ImageSpec:
    if head.kind == "gaussian":
        return ImageSpec(3, 4, 19, 256)                                   # least squares are solved for three blocks of each row
    return ImageSpec(1, 5, 6, 7) if head.kind == "softmax" else ImageSpec(3, 5, 6, 256)


def _program(head: Head) -> Program:
    """Operations of every kind of compiled loop, and values so small that a flushed denormal changes the result."""
    program, weights = Program(_spec(head)), _Weights()

    def linear(source: View, outputs: int, initial: View | None = None, destination: View | None = None) -> View:
        return program.linear(source, weights(source.size, outputs), weights(outputs), initial, destination)

    x = program.values(ones=True)
    with program.phase("row"):
        above = program.apply("gate", linear(program.history(x, 2).window(-1, 1), 32))
        above = program.apply("gate", linear(above.window(-1, 1), 20, linear(above, 20)))     # at points, and the columns that are left
    right, cell = program.map(5), program.map(5, initial=weights(5))
    with program.phase("row_reversed", 1):
        gates = linear(right.window(1, 1), 20, linear(above, 20))
        program.append("lstm", gates, right, initial=cell)
    with program.phase("channel"):
        h = linear(right, 20, linear(x.window(-2, 0, leave_out=x.size), 20))
        tiny = program.linear(h, torch.full((20, 3), 1e-39))
        h = program.linear(tiny, torch.full((3, 20), 1e38), initial=h)
        h = program.apply("glu", linear(program.apply("concat_elu", h), 34), base=linear(program.apply("elu", h), 17))
        outputs = 7 if head.kind == "softmax" else head.components * 10
        program.output(0, linear(program.apply("relu", h), outputs))
    program.head = head
    return program


def _adaptive(head: Head) -> Program:
    """Linear prediction that adapts to the image, and a mixture around it."""
    spec, weights = _spec(head), _Weights()
    channels, seen = spec.channels, shown(spec.channels)
    program = Program(spec, groups=channels)
    x, picture, predictions = program.values(), program.drawn(1), program.whole_map(PREDICTIONS * channels, spec.height, spec.width)
    out = program.map(seen + 3 * channels)
    for channel in range(channels):
        with program.phase("channel", channel):
            state = program.map(state_size(unknowns(channels, channel), spec.width), single=True)
            prediction = View(predictions.buffer, channel, 1)
            program.append("least_squares", View(picture.buffer, 0, channel + 1), prediction, initial=state)
            if channel == 0:
                program.append("surroundings", picture, out, initial=predictions)
            h = program.linear(x.part(channel - 1, channels), weights(1, 6), weights(6)) if channel else View(out.buffer, 0, seen)
            h = program.apply("clamp", h)
            mixture = program.linear(program.apply("multiply", h, base=h), weights(h.size, 6))
            program.append("copy", program.linear(prediction, torch.ones(1, 2), initial=mixture.part(1, 3)), mixture.part(1, 3))
            logs = View(out.buffer, seen + 2 * channels + channel, 1)
            program.linear(logs, torch.ones(1, 2), initial=mixture.part(2, 3), destination=mixture.part(2, 3))
            program.output(channel, mixture)
    program.head = head
    return program


class _Weights:
    """Fixed weights, one array after another."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, *shape: int) -> Tensor:
        self.drawn += 1
        values = (uniform(2, [self.drawn], 0, int(np.prod(shape))).reshape(shape) * 3 - 1.5) / shape[0] ** 0.5
        return torch.from_numpy(values.astype(np.float32))
