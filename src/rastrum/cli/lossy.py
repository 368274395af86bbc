"""``compress --lossy`` and what ``decompress``, ``info`` and ``verify`` do with its files: progressive ones, which may be cut anywhere."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .photo_files import Source, pixels_of
from .show import progress

if TYPE_CHECKING:
    import numpy as np

    from ..compression.unpacking import Pictures, Unpacking
    from ..pictures.formats import Picture

MODEL = "rastrum/conv-draw-photographs"                                 # of photos of any size, in RGB
COLOURS = {1: "grey", 3: "RGB"}
ANIMATIONS = (".gif", ".webp", ".mp4")
FRAMES, FPS = 16, 4.0         # of an animation


def is_progressive(file: BinaryIO) -> bool:
    """Whether a file is one of ``compress --lossy``; it stands at its beginning before and after.

    file: open for reading.
    """
    from ..compression.progressive import MAGIC

    file.seek(0)
    found = file.read(len(MAGIC)) == MAGIC
    file.seek(0)
    return found


def compressed(photo: Source, file: BinaryIO, network: Any, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Write one photo as a progressive file, decode that, and say what it takes and how near it is.

    photo: an image file, or X.npy.
    file: where it goes.
    network: the model.
    name: of the model, for others.
    options: of ``compress_pictures``.

    Raises ``ValueError`` for a photo or a model that do not fit.
    """
    import numpy as np

    from ..compression.conceptual import compress_pictures, decompress_pictures
    from ..compression.unpacking import psnr_of
    from ..data.options import requantise

    pixels, _ = pixels_of(photo)
    spec, levels = network.spec, 256 ** pixels.dtype.itemsize
    if pixels.shape[2] in (2, 4) and bool((pixels[..., -1] == levels - 1).all()):
        pixels = pixels[..., :-1]                                         # opaque
    height, width, channels = pixels.shape
    if channels in (2, 4):
        raise ValueError(f"{photo.name}: it has a transparency, which --lossy does not keep; remove it, or leave out --lossy")
    if channels not in (1, spec.channels):
        theirs, ours = map(_colours, (channels, spec.channels))
        raise ValueError(f"{photo.name}: it is {theirs}, the model is for {ours}; convert it, or give another --model")
    check_class(network, options["condition"])
    x = requantise(pixels, levels, spec.levels)
    original = pixels.transpose(2, 0, 1)[None] / (levels - 1)             # of 16 bits perhaps, where the model has 8
    if options["lossless"] and not np.array_equal(requantise(x, spec.levels, levels), pixels):
        raise ValueError(f"{photo.name}: it has values of {levels} levels that the model's {spec.levels} are not; leave out --lossless")
    x = x.transpose(2, 0, 1)[None]
    made = compress_pictures(network, x, name=name, **options)
    file.write(made.data)
    found = decompress_pictures(made.data, network, options["condition"], progress=False)
    if options["lossless"] and not np.array_equal(found.values.numpy(), x):
        raise OSError(f"{photo.name}: other values came back, so nothing was saved; please report this")
    return {
        "height": height, "width": width, "channels": channels, "model": name, "steps": made.header.steps, "read_steps": found.steps,
        "lossless": options["lossless"],
        "bytes": len(made.data), "payload_bytes": len(made.data) - len(made.header.bytes), "kl_bits": float(made.kl.sum()),
        "code_bits": float(made.code_length.sum()), "residual_bits": float(made.residual.sum()), "pixels": height * width,
        "psnr": None if options["lossless"] or (psnr := psnr_of(found.images.numpy(), original)) == math.inf else psnr,
    }  # fmt: skip


def check_class(network: Any, number: int | None) -> None:
    """Check the flag --class.

    network: the model; None for the one that a file names.
    number: the flag.

    Raises ``ValueError`` where the model takes another, or none.
    """
    spec = None if network is None else network.condition_spec
    if network is not None and number is not None and spec is None:
        raise ValueError("--class: this model is unconditional, it takes none")
    if spec is not None and spec.kind != "class":
        raise ValueError(f"--model: it needs a {spec.kind}, which the command does not take; see rastrum.compression.compress_pictures")
    if spec is not None and (number is None or not 0 <= number < spec.size):
        raise ValueError(f"--class: this model needs one of 0 … {spec.size - 1}, got {'none' if number is None else number}")


def compressed_line(record: dict[str, Any]) -> str:
    """What ``compressed`` found, for people.

    record: as it returns it.
    """
    near = "every value" if record["psnr"] is None else f"{record['psnr']:.2f} dB"
    rate = 8 * record["bytes"] / record["pixels"]
    kl, code, residual = (f"{record[key]:,.0f}" for key in ("kl_bits", "code_bits", "residual_bits"))
    parts = f"KL of the latents {kl} bits, their code {code}, the values' {residual}"
    cut = f"{record['read_steps']:.4g} of " if record["read_steps"] < record["steps"] else ""
    parts += ", before it was cut" if cut else ""
    return f"{_size(record)}, {cut}{record['steps']} steps: {record['bytes']:,} bytes, {rate:.3f} bits per pixel, {near}; {parts}"


def unpacked(each: Source, file: BinaryIO, network: Any, number: int | None) -> Unpacking:
    """A progressive file of one picture, nothing of it decoded yet.

    each: for messages.
    file: open for reading.
    network: the model; None for the one that the file names.
    number: the flag --class; None for an unconditional model.

    Raises ``ValueError`` for a file of several pictures.
    """
    from ..compression.unpacking import Unpacking

    check_class(network, number)
    found = Unpacking(file.read(), network, number, each.name)
    if found.header.count != 1:
        raise ValueError(f"{each.name}: it holds {found.header.count} pictures; rastrum.compression.decompress_pictures gives them")
    return found


def decompressed(
    each: Source, file: BinaryIO, target: BinaryIO, network: Any, options: dict[str, Any], salvage: bool = False
) -> dict[str, Any]:
    """Write the picture of a progressive file as PNG.

    each, file, network: as for ``unpacked``.
    target: where it goes.
    options: ``condition``, ``rest``, ``seed`` and ``steps`` of ``decompress_pictures``.
    salvage: of a damaged file, write the steps that its checks have found right; False by default.
    """
    from ..compression import FileError
    from ..pictures.png import png

    started, faults = time.perf_counter(), []
    unpacking = unpacked(each, file, network, options["condition"])
    try:
        found = _picture(unpacking, options)
    except FileError as error:
        if not salvage:
            raise
        faults, right = [str(error).removeprefix(f"{each.name}: ")], unpacking.checked
        file.seek(0)
        unpacking = unpacked(each, file, network, options["condition"])
        found = _picture(unpacking, options | {"steps": right})
    bits, pixels = _samples(found, unpacking.sketch.model.spec.levels)
    for part in png(pixels.shape[0], pixels.shape[1], pixels.shape[2], bits, [pixels]):
        target.write(part)
    return _about(each, unpacking, found, started) | {"faults": faults}


def animated(each: Source, place: str, network: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Write the picture of a progressive file as its bytes come, first few and then more of them at once, as an animation.

    each, network, options: as for ``decompressed``.
    place: of the animation.
    """
    from ..compression.unpacking import Unpacking
    from ..pictures.sheets import tiles
    from .output import save_film

    started = time.perf_counter()
    with each.open() as file:
        data = file.read()
    unpacking = unpacked(each, io.BytesIO(data), network, options["condition"])
    network, header = unpacking.sketch.model, len(unpacking.header.bytes)
    stream = max(1, len(data) - header)
    sizes = [header, *(header + round(stream ** (n / (FRAMES - 2))) for n in range(FRAMES - 1))]
    last: list[Pictures] = []

    def films() -> Iterator[Picture]:
        with progress(f"decompressing {each.name}", FRAMES, "frames") as report:
            for number, size in enumerate(sizes):
                part = Unpacking(data[:size], network, options["condition"], each.name)
                last[:] = [part.finish(options["steps"]).pictures(options["rest"], options["seed"], values=options["steps"] is None)]
                report(number + 1)
                yield tiles(last[0].images)[0]

    save_film(Path(place), films(), FPS)
    return _about(each, unpacking, last[0], started)


def decompressed_line(record: dict[str, Any]) -> str:
    """What was read, for people.

    record: of ``decompressed`` or ``animated``.
    """
    values = record["pixels"] * record["channels"]
    exact = f", {record['exact']:,} of {values:,} values exact" if record["lossless"] else ""
    return f"{_size(record)}, {record['read_steps']:.4g} of {record['steps']} steps{exact}"


def described(each: Source, file: BinaryIO) -> dict[str, Any]:
    """What a progressive file says of itself.

    each: for messages.
    file: open for reading.
    """
    from ..compression.fields import FileError, Reader
    from ..compression.progressive import read_header
    from ..compression.unpacking import find_bundled

    reader = Reader(file, each.name)
    header = read_header(reader)
    try:
        model = header.model or find_bundled(header)[0]
    except FileError:
        model = ""
    return {
        "file": each.name, "bytes": reader.size, "height": header.height, "width": header.width, "count": header.count,
        "grey": header.grey, "steps": header.steps, "lossless": header.lossless, "seed": header.seed, "model": model,
        "identity": header.identity.hex(), "stream_bytes": header.length, "held_bytes": reader.size - len(header.bytes),
    }  # fmt: skip


def described_line(record: dict[str, Any]) -> str:
    """What ``described`` found, for people.

    record: as it returns it.
    """
    held, length, size = record["held_bytes"], record["stream_bytes"], record["bytes"]
    many = "" if record["count"] == 1 else f"{record['count']} images of "
    held_of = "whole" if held == length else f"cut: {held:,} of {length:,} bytes of its stream"
    layer = ", then every value" if record["lossless"] else ""
    rate = 8 * size / (record["height"] * record["width"] * record["count"])
    grey = " grey though the model is not," if record["grey"] else ""
    by = f"{record['model'] or 'a model without a name'} ({record['identity']})"
    about = f"{record['file']}: {many}{_size(record)},{grey} {record['steps']} steps{layer}, {size:,} bytes, {rate:.3f} bits per pixel"
    return f"{about}, {held_of}, by {by}"


def verified(each: Source, file: BinaryIO, network: Any, number: int | None) -> dict[str, Any]:
    """Decode a progressive file and compare all its checks.

    each, file, network, number: as for ``unpacked``.
    """
    from ..compression import FileError

    unpacking = unpacked(each, file, network, number)
    record = {"file": each.name, "faults": [], "steps": unpacking.header.steps, "whole": unpacking.whole}
    try:
        found = _picture(unpacking, {"rest": "mean", "seed": 0, "steps": None})
    except FileError as error:
        return record | {"faults": [str(error).removeprefix(f"{each.name}: ")], "read_steps": unpacking.checked}
    return record | {"read_steps": found.steps}


def verified_line(record: dict[str, Any]) -> str:
    """What ``verified`` found, for people.

    record: as it returns it.
    """
    return "whole" if record["whole"] else f"cut: {record['read_steps']:.4g} of {record['steps']} steps, unchanged as far as checks say"


def _picture(unpacking: Unpacking, options: dict[str, Any]) -> Pictures:
    """The picture of the steps that are wanted, or of all of them and the lossless layer."""
    steps = options["steps"]
    with progress(f"decompressing {unpacking.what}", unpacking.most(steps), "steps") as report:
        return unpacking.finish(steps, report).pictures(options["rest"], options["seed"], values=steps is None)


def _samples(found: Pictures, levels: int) -> tuple[int, np.ndarray]:
    """Bits of a sample, and the picture (H, W, C) in them."""
    import numpy as np

    from ..data.options import requantise

    bits = 8 if levels <= 256 else 16
    if found.exact == found.values.numel():
        pixels = requantise(found.values[0].numpy(), levels, 1 << bits)
    else:
        pixels = np.floor(found.images[0].double().numpy() * ((1 << bits) - 1) + 0.5).astype(np.uint8 if bits == 8 else np.uint16)
    return bits, pixels.transpose(1, 2, 0)


def _about(each: Source, unpacking: Unpacking, found: Pictures, started: float) -> dict[str, Any]:
    header = unpacking.header
    return {
        "file": each.name, "height": header.height, "width": header.width, "channels": unpacking.sketch.channels,
        "pixels": header.height * header.width, "model": unpacking.model, "whole": unpacking.whole, "steps": header.steps,
        "read_steps": found.steps, "lossless": header.lossless, "exact": found.exact, "faults": [],
        "seconds": time.perf_counter() - started,
    }  # fmt: skip


def _size(record: dict[str, Any]) -> str:
    return f"{record['width']}x{record['height']} pixels"


def _colours(channels: int) -> str:
    return COLOURS.get(channels, f"of {channels} channels")
