"""Images as bytes, ``compress``, and back, ``decompress``: one stream of the range coder per image, after a short header.

    4  "RSTM"                      8  digest of everything after it        varint  number of images
    1  version                     8  fingerprint of the model             torch only: batch, version, 4-byte digest of the environment
    1  arithmetic                  4  digest of the images                 varint  shortest stream; 1  bits b; b bits a stream above it
                                                                           the streams, one after another

Arithmetic 1, "native-1", is that of the native interpreter, the same on every machine (docs/arithmetic.md). Arithmetic 0 is that of torch,
for models without a step program or not in float32: such a file decodes only with the same torch, processor and batch.

Version 1 has the same layout, but its fingerprint depends on names that have changed since; that its images were decoded by the right model
is seen from their digest alone.

Images have one encoding: lengths with more bytes or bits than they need, padding that is not zero and streams that ``compress`` would have
ended otherwise are refused, and so are more images than a file of this length can hold, before any of them is made. An empty stream is an
image of level 0 everywhere, since the interval of level 0 begins at 0; such images cost nothing, so a file holds at most VALUES_PER_BYTE
values for each of its bytes and SPARE_BYTES more, and 1,024 images.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..denormals import keeping
from ..images import Images
from ..processes import ALONE, Processes
from ..progress import Progress, Report, bar
from ..protocol import ArrayLike, check_images, to_images
from ..range_coder import Decoder, Encoder
from ..raster import Backend, RasterModel
from ..walk import Decode, Encode, walk
from .fields import FileError, Reader, digest, varint
from .identity import NATIVE, TORCH, identity_of

MAGIC, VERSION, READABLE = b"RSTM", 2, (1, 2)
BATCH = 64
REPORTS = 16                   # how often a batch says how far it is, where someone watches
VALUES_PER_BYTE, SPARE_BYTES = 1 << 18, 64
NOTHING = torch.empty(0, dtype=torch.uint8)
DIFFERENT = "blob: the images come out differently, was it made with another condition or by another model?"


@keeping
def compress(
    model: RasterModel,
    images: ArrayLike,
    condition: ArrayLike | int | None = None,
    *,
    progress: Progress = None,
    processes: Processes = ALONE,
) -> bytes:
    """Codes images losslessly, in −log2 p bits per image plus at most 48 bytes and 3 bytes per image.

    model: a raster model.
    images: levels (B, *spec.shape), torch or numpy.
    condition: one per image, or one for all; None for an unconditional model. It is not stored.
    progress: a bar; None (default): in a terminal or a notebook after two seconds, True: at once, False: never; or a function that is
        called with the number of images done.
    processes: that share the images (``rastrum.processes.join()``), this one alone by default. Each has to call, and each gets the whole
        file, the same as from one process.

    Returns the file as bytes.
    Raises ``ValueError`` for images or a condition of another spec, and for so many empty images that their file would be far too short for
    them; ``PortabilityError`` where this machine does not compute as specified.
    """
    _check_model(model)
    x = check_images(model.spec, images, model.device)
    checked = model.check_condition(condition, len(x))
    arithmetic, identity = identity_of(model)
    streams: list[bytes] = []
    with bar("compressing", len(x), "images", progress, processes=processes.count) as report:
        for index in _batches(len(x), arithmetic, processes):
            part = x[index]
            encoders = [Encoder() for _ in part]
            chooser = Encode(part, model.order, encoders)
            _run(model, len(part), chooser, None if checked is None else checked[index], arithmetic, report, len(streams))
            streams += [encoder.finish() for encoder in encoders]
    streams = _joined(streams, processes)
    body = identity + _images_digest(x) + varint(len(x))
    body += _machine(model) if arithmetic == TORCH else b""
    body += _lengths(streams) + b"".join(streams)
    head = MAGIC + bytes([VERSION, arithmetic])
    blob = head + digest(8, head + body) + body
    if len(x) > (most := _most_images(model, blob)):
        raise ValueError(f"images: {len(x)} images of little but level 0 do not go into one file; compress at most {most} at a time")
    return blob


@keeping
def decompress(
    model: RasterModel,
    blob: bytes,
    condition: ArrayLike | int | None = None,
    *,
    progress: Progress = None,
    processes: Processes = ALONE,
) -> Images:
    """Decodes the images that ``compress`` coded.

    model: the same model, with the same weights.
    blob: the bytes that ``compress`` returned.
    condition: the same condition.
    progress, processes: as for ``compress``.

    Returns levels (B, *spec.shape), uint8 up to 256 levels, else int64: ``Images``, which a notebook shows.
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
    if digest(8, blob[:6] + blob[14:]) != blob[6:14]:
        raise FileError("blob: the digest does not match, it is truncated or changed")
    if arithmetic not in (TORCH, NATIVE):
        raise FileError(f"blob: unknown arithmetic {arithmetic}")
    ours, identity = identity_of(model)
    if arithmetic == NATIVE != ours:
        raise FileError("blob: coded by the native interpreter, which needs numba and a float32 model on a CPU")
    if version == VERSION and blob[14:22] != identity:
        raise FileError("blob: made by another model, or by this one with other weights")
    if arithmetic == TORCH != ours:
        raise FileError("blob: coded by torch, where this model now runs natively; decode it where numba is not installed")
    reader = Reader(blob, "blob")
    reader.seek(22)
    pixels, count = reader.take(4), reader.varint()
    if count > _most_images(model, blob):
        raise FileError(f"blob: {len(blob)} bytes cannot hold {count} images of {model.spec.size} values")
    if arithmetic == TORCH:
        ours, found = _machine(model), reader.take(2)
        version, digest_of_theirs = reader.take(found[1]), reader.take(4)
        if found + version + digest_of_theirs != ours:
            theirs = version.decode(errors="replace")
            raise FileError(f"blob: coded by torch {theirs} on another processor, build or type of number; it decodes only there")
    streams = _split(reader, count)
    checked = model.check_condition(condition, count)
    coded = [i for i, stream in enumerate(streams) if stream]
    parts = [torch.zeros(0, *model.spec.shape, dtype=torch.uint8 if model.spec.levels <= 256 else torch.int64)]
    fine = True
    with bar("decompressing", len(coded), "images", progress, processes=processes.count) as report:
        for batch in _batches(len(coded), arithmetic, processes):
            index = coded[batch]
            decoders = [Decoder(streams[i]) for i in index]
            part = None if checked is None else checked[index]
            values = _run(model, len(index), Decode(decoders), part, arithmetic, report, sum(map(len, parts)))
            parts.append(values.to(parts[0].dtype).cpu())
            fine = all(decoder.is_canonical() for decoder in decoders)
            if not fine:
                break
    if not all(processes.exchange(fine)):
        raise FileError(DIFFERENT)
    x = parts[0].new_zeros(count, *model.spec.shape)
    x[coded] = processes.joined(torch.cat(parts))
    if _images_digest(x) != pixels:
        raise FileError(DIFFERENT)
    return to_images(x.to(model.device), model.spec)


def _batches(count: int, arithmetic: int, processes: Processes) -> Iterator[slice]:
    """The images that this process codes, up to ``BATCH`` at a time. With torch's arithmetic, bits depend on what is in a batch."""
    share = processes.share(count if arithmetic == NATIVE else -(-count // BATCH))
    first, stop = (share.start, share.stop) if arithmetic == NATIVE else (share.start * BATCH, min(share.stop * BATCH, count))
    for start in range(first, stop, BATCH):
        yield slice(start, min(start + BATCH, stop))


def _joined(streams: list[bytes], processes: Processes) -> list[bytes]:
    """The streams of all processes, in their order."""
    if processes.count == 1:
        return streams
    lengths = processes.joined(torch.tensor([len(stream) for stream in streams], dtype=torch.int64))
    together = processes.joined(torch.frombuffer(bytearray(b"".join(streams)), dtype=torch.uint8) if any(streams) else NOTHING)
    ends = lengths.cumsum(0).tolist()
    content = together.numpy().tobytes()
    return [content[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]


def _most_images(model: RasterModel, blob: bytes) -> int:
    """How many images a file of this length may hold; one of any size."""
    return max(1, VALUES_PER_BYTE * (SPARE_BYTES + len(blob)) // max(model.spec.size, VALUES_PER_BYTE >> 10))


def _check_model(model: object) -> None:
    if not isinstance(model, RasterModel):
        raise ValueError(f"{type(model).__name__} cannot code images, it has no exact conditionals; use a raster model")


def _run(
    model: RasterModel, batch: int, chooser: Encode | Decode, condition: Tensor | None, arithmetic: int, report: Report, done: int
) -> Tensor:
    """The levels of a batch; ``report`` is called with how many images are coded, ``done`` of them before these."""
    backend: Backend = "native" if arithmetic == NATIVE else "torch" if model.has_program else "naive"
    every = max(model.spec.width * model.spec.channels, model.spec.size // REPORTS) if report.wanted else model.spec.size
    values = None
    for frame in walk(model, batch, chooser, condition, every=every, backend=backend):
        report(done + frame.fraction * batch)
        values = frame.values
    assert values is not None
    return values


def _images_digest(x: Tensor) -> bytes:
    state = blake2b(digest_size=4)
    for part in x.split(BATCH):
        state.update(part.cpu().numpy().astype("<u2").tobytes())
    return state.digest()


def _environment(model: RasterModel) -> bytes:
    """A digest of what the bits of torch may depend on."""
    processor = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8").splitlines()
        processor = next((line for line in lines if line.startswith("model name")), processor)
    return digest(4, f"{torch.__version__} {processor} {model.device} {model.dtype}".encode())


def _machine(model: RasterModel) -> bytes:
    """What a file of arithmetic 0 says about where it decodes."""
    version = torch.__version__.split("+")[0].encode()[:8]
    return bytes([BATCH, len(version)]) + version + _environment(model)


def _lengths(streams: list[bytes]) -> bytes:
    least = min(map(len, streams), default=0)
    bits = max((len(stream) - least for stream in streams), default=0).bit_length()
    above = np.array([len(stream) - least for stream in streams], np.int64)[:, None] >> np.arange(bits) & 1
    return varint(least) + bytes([bits]) + np.packbits(above.astype(np.uint8)).tobytes()


def _split(reader: Reader, count: int) -> list[bytes]:
    begin = reader.position
    least, bits = reader.varint(), reader.byte()
    size = (count * bits + 7) // 8
    if bits > 32 or size + count * least > reader.size - reader.position:
        raise FileError(f"blob: {reader.size} bytes cannot hold {count} streams")
    packed = np.frombuffer(reader.take(size), np.uint8)
    above = np.unpackbits(packed, count=count * bits).reshape(count, bits) @ (1 << np.arange(bits, dtype=np.int64))
    first, streams = reader.position, [reader.up_to(least + length) for length in above.tolist()]
    if first + count * least + int(above.sum()) != reader.size:
        raise FileError("blob: its length does not match its streams")
    reader.seek(begin)
    if _lengths(streams) != reader.take(first - begin):
        raise FileError("blob: the lengths of its streams are not as compress writes them")
    return streams
