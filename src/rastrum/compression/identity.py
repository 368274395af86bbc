"""Which model and which arithmetic a file was coded with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from weakref import WeakKeyDictionary

import torch

from ..model import Model
from ..program import Program, suits_native
from ..raster import RasterModel

TORCH, NATIVE = 0, 1


def fingerprint(model: Model) -> bytes:
    """A digest of all that the scores of a model depend on: class, spec, config, order and weights; 8 bytes.

    model: any model.

    Of the config only what differs from its defaults, and of the weights no names, so that it outlives new options and other names. The
    weights −0 and 0 give the same images and are the same here.
    """
    order = model.order.cpu().numpy().astype("<i8").tobytes() if isinstance(model, RasterModel) else b""
    return _digest(model, [str(model.spec), str(model.condition_spec)], order)


def fingerprint_of_weights(model: Model) -> bytes:
    """The same of class, channels, config and weights alone, so that it is that of ``model.resized(…)`` too; 8 bytes.

    model: unconditional.
    """
    return _digest(model, [f"{model.spec.channels} channels, any size"])


def _digest(model: Model, images: Sequence[str], order: bytes = b"") -> bytes:
    config = model.config
    options = {field.name: getattr(config, field.name) for field in fields(config)} if is_dataclass(config) else {}
    changed = {name: value for name, value in options.items() if value != getattr(type(config), name, None)}
    about = [type(model).__name__, *images, sorted(map(str, changed.items()))]
    state = blake2b(json.dumps(about).encode() + order, digest_size=8)
    for tensor in model.state_dict().values():
        state.update(f"{tuple(tensor.shape)}".encode())
        values = tensor.detach().cpu() + 0 if tensor.is_floating_point() else tensor.cpu()
        state.update(values.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return state.digest()


def identity_of(model: RasterModel) -> tuple[int, bytes]:
    """NATIVE where the native interpreter runs this model, after checking its arithmetic, else TORCH; and the model's fingerprint.

    model: a raster model.

    Hashing the weights takes as long as drawing half an image, so it is done once for each program that they are lowered to.
    """
    program = native_program(model)
    if program is None:
        return TORCH, fingerprint(model)
    if program not in _fingerprints:
        _fingerprints[program] = fingerprint(model)
    return NATIVE, _fingerprints[program]


_fingerprints: WeakKeyDictionary[Program, bytes] = WeakKeyDictionary()


def native_program(model: RasterModel) -> Program | None:
    """The step program, if the native interpreter runs it from the first operation to the last; then its arithmetic has been checked.

    model: a raster model.

    Raises ``PortabilityError`` where this machine does not compute as specified.
    """
    if not model.has_program or not suits_native(model.dtype, model.device):
        return None
    from ..program.golden import verify

    program = model.lowered()
    if program.head is None:
        return None
    verify()
    return program
