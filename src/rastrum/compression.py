"""Images as bytes, ``compress``, and back, ``decompress``: one stream of the range coder per image, after a short header.

    4  "RSTM"                      8  digest of everything after it        varint  number of images
    1  version                     8  fingerprint of the model             torch only: batch, version, 4-byte digest of the environment
    1  arithmetic                  4  digest of the images                 varint  shortest stream; 1  bits b; b bits a stream above it
                                                                           the streams, one after another

Arithmetic 1, "native-1", is that of the native interpreter, the same on every machine (docs/arithmetic.md). Arithmetic 0 is that of torch,
for models without a step program or not in float32: such a file decodes only with the same torch, processor and batch.

Version 1 has the same layout, but its fingerprint depends on names that have changed since; that its images were decoded by the right model
is seen from their digest alone.
"""

from __future__ import annotations

import json
import platform
from collections import deque
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from .program import Program, suits_native
from .protocol import ArrayLike, check_condition, check_images, to_levels
from .range_coder import Decoder, Encoder
from .raster import Backend, RasterModel
from .walk import Decode, Encode, walk

MAGIC, VERSION, READABLE = b"RSTM", 2, (1, 2)
TORCH, NATIVE = 0, 1
BATCH = 64


class FileError(ValueError):
    """A file that is truncated, changed, or made by another model or another arithmetic."""


def compress(model: RasterModel, images: ArrayLike, condition: ArrayLike | int | None = None) -> bytes:
    """Codes images losslessly, in −log2 p bits per image plus at most 48 bytes and 3 bytes per image.

    model: a raster model.
    images: levels (B, *spec.shape), torch or numpy.
    condition: one per image, or one for all; None for an unconditional model. It is not stored.

    Returns the file as bytes.
    Raises ``ValueError`` for images or a condition of another spec, ``PortabilityError`` where this machine does not compute as specified.
    """
    _check_model(model)
    x = check_images(model.spec, images, model.device)
    checked = check_condition(model.condition_spec, condition, len(x), model.device)
    arithmetic, fingerprint = _identity(model)
    streams: list[bytes] = []
    for start in range(0, len(x), BATCH):
        part = x[start : start + BATCH]
        encoders = [Encoder() for _ in part]
        chooser = Encode(part, model.order, encoders)
        _run(model, len(part), chooser, None if checked is None else checked[start : start + BATCH], arithmetic)
        streams += [encoder.finish() for encoder in encoders]
    body = fingerprint + _digest(4, _bytes(x)) + _varint(len(x))
    if arithmetic == TORCH:
        version = torch.__version__.split("+")[0].encode()[:8]
        body += bytes([BATCH, len(version)]) + version + _environment(model)
    body += _lengths(streams) + b"".join(streams)
    head = MAGIC + bytes([VERSION, arithmetic])
    return head + _digest(8, head + body) + body


def decompress(model: RasterModel, blob: bytes, condition: ArrayLike | int | None = None) -> Tensor:
    """Decodes the images that ``compress`` coded.

    model: the same model, with the same weights.
    blob: the bytes that ``compress`` returned.
    condition: the same condition.

    Returns levels (B, *spec.shape), uint8 up to 256 levels, else int64.
    Raises ``FileError`` for bytes that ``compress`` did not write with this model, condition and arithmetic.
    """
    _check_model(model)
    if not isinstance(blob, bytes | bytearray | memoryview):
        raise ValueError(f"blob: expected bytes, got {type(blob).__name__}")
    blob = bytes(blob)
    if blob[:4] != MAGIC:
        raise FileError(f"blob: expected to begin with {MAGIC!r}, got {blob[:4]!r}: not made by rastrum.compress")
    if len(blob) < 27:
        raise FileError(f"blob: {len(blob)} bytes are too few, it is truncated")
    version, arithmetic = blob[4], blob[5]
    if version not in READABLE:
        raise FileError(f"blob: version {version}, this release reads versions {', '.join(map(str, READABLE))}")
    if _digest(8, blob[:6] + blob[14:]) != blob[6:14]:
        raise FileError("blob: the digest does not match, it is truncated or changed")
    if arithmetic not in (TORCH, NATIVE):
        raise FileError(f"blob: unknown arithmetic {arithmetic}")
    ours, fingerprint = _identity(model)
    if arithmetic == NATIVE != ours:
        raise FileError("blob: coded by the native interpreter, which needs numba and a float32 model on a CPU")
    if version == VERSION and blob[14:22] != fingerprint:
        raise FileError("blob: made by another model, or by this one with other weights")
    if arithmetic == TORCH != ours:
        raise FileError("blob: coded by torch, where this model now runs natively; decode it where numba is not installed")
    pixels, count, position = blob[22:26], *_read_varint(blob, 26)
    if count >= 1 << 32:
        raise FileError(f"blob: {count} images are too many")
    if arithmetic == TORCH:
        batch, size = _byte(blob, position), _byte(blob, position + 1)
        torch_version = blob[position + 2 : position + 2 + size].decode(errors="replace")
        environment = blob[position + 2 + size : position + 6 + size]
        position += 6 + size
        if environment != _environment(model) or batch != BATCH:
            raise FileError(f"blob: coded by torch {torch_version} on another processor, build or type of number; it decodes only there")
    checked = check_condition(model.condition_spec, condition, count, model.device)
    streams = _split(blob, position, count)
    parts = []
    for start in range(0, count, BATCH):
        decoders = [Decoder(stream) for stream in streams[start : start + BATCH]]
        part = None if checked is None else checked[start : start + BATCH]
        parts.append(_run(model, len(decoders), Decode(decoders), part, arithmetic))
    x = torch.cat(parts) if parts else torch.zeros(0, *model.spec.shape, dtype=torch.int64)
    if _digest(4, _bytes(x)) != pixels:
        raise FileError("blob: the images come out differently, was it made with another condition or by another model?")
    return to_levels(x, model.spec)


def _check_model(model: object) -> None:
    if not isinstance(model, RasterModel):
        raise ValueError(f"{type(model).__name__} cannot code images, it has no exact conditionals; use a raster model")


def _identity(model: RasterModel) -> tuple[int, bytes]:
    """NATIVE where the native interpreter runs this model, after checking its arithmetic, else TORCH; and the model's fingerprint.

    Hashing the weights takes as long as drawing half an image, so it is done once for each program that they are lowered to.
    """
    if not model.has_program or not suits_native(model.dtype, model.device):
        return TORCH, _fingerprint(model)
    from .program.golden import verify

    program = model.lowered()
    if program.head is None:
        return TORCH, _fingerprint(model)
    verify()
    if program not in _fingerprints:
        _fingerprints[program] = _fingerprint(model)
    return NATIVE, _fingerprints[program]


_fingerprints: WeakKeyDictionary[Program, bytes] = WeakKeyDictionary()


def _run(model: RasterModel, batch: int, chooser: Encode | Decode, condition: Tensor | None, arithmetic: int) -> Tensor:
    backend: Backend = "native" if arithmetic == NATIVE else "torch" if model.has_program else "naive"
    values = deque(walk(model, batch, chooser, condition, every=model.spec.size, backend=backend), maxlen=1)[0].values
    assert values is not None
    return values


def _digest(size: int, data: bytes) -> bytes:
    return blake2b(data, digest_size=size).digest()


def _bytes(x: Tensor) -> bytes:
    return x.cpu().numpy().astype("<u2").tobytes()


def _fingerprint(model: RasterModel) -> bytes:
    """A digest of all that the conditionals depend on: class, spec, config, order and weights.

    Of the config only what differs from its defaults, and of the weights no names, so that it outlives new options and other names.
    """
    config = model.config
    options = {field.name: getattr(config, field.name) for field in fields(config)} if is_dataclass(config) else {}
    changed = {name: value for name, value in options.items() if value != getattr(type(config), name, None)}
    about = [type(model).__name__, str(model.spec), str(model.condition_spec), sorted(map(str, changed.items()))]
    digest = blake2b(json.dumps(about).encode() + model.order.cpu().numpy().astype("<i8").tobytes(), digest_size=8)
    for tensor in model.state_dict().values():
        digest.update(f"{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()


def _environment(model: RasterModel) -> bytes:
    """A digest of what the bits of torch may depend on."""
    processor = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        processor = next((line for line in information.read_text().splitlines() if line.startswith("model name")), processor)
    return _digest(4, f"{torch.__version__} {processor} {model.device} {model.dtype}".encode())


def _varint(number: int) -> bytes:
    """Seven bits per byte, lowest first; the top bit is set in all but the last."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def _read_varint(blob: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 64:
        byte = _byte(blob, position)
        number |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            break
    return number, position


def _byte(blob: bytes, position: int) -> int:
    if position >= len(blob):
        raise FileError("blob: its header is truncated")
    return blob[position]


def _lengths(streams: list[bytes]) -> bytes:
    least = min(map(len, streams), default=0)
    bits = max((len(stream) - least for stream in streams), default=0).bit_length()
    above = np.array([[len(stream) - least >> bit & 1 for bit in range(bits)] for stream in streams], np.uint8)
    return _varint(least) + bytes([bits]) + np.packbits(above).tobytes()


def _split(blob: bytes, position: int, count: int) -> list[bytes]:
    least, position = _read_varint(blob, position)
    bits = _byte(blob, position)
    position += 1
    if count * max(bits, 8 * least) > 8 * len(blob):
        raise FileError(f"blob: {len(blob)} bytes cannot hold {count} streams")
    packed = np.frombuffer(blob[position : position + (count * bits + 7) // 8], np.uint8)
    above = np.unpackbits(packed, count=count * bits).reshape(count, bits) @ (1 << np.arange(bits, dtype=np.int64))
    position += len(packed)
    streams = []
    for length in above.tolist():
        streams.append(blob[position : position + least + length])
        position += least + length
    if position != len(blob):
        raise FileError("blob: its length does not match its streams")
    return streams
