"""``compress``, ``decompress``, ``info`` and ``verify``: photographs as lossless files (docs/format.md), a file each or one archive; with
--lossy as progressive ones (``lossy.py``).

Several processes take the photos in shares, and each writes the files of its own; an archive is written by the first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, TypeAlias

from tyro.conf import Positional, arg

from ..files import SURROGATES
from . import lossy as progressive
from .photo_files import ARCHIVE, PIPE, SUFFIX, Source, archived, check_new, files_of, pixels_of, source, targets, written
from .show import Json, answer, load_model, messages, progress

if TYPE_CHECKING:
    from ..compression import Decoding
    from ..compression.container import Header
    from ..processes import Processes
    from ..raster import RasterModel

MODELS = {1: "rastrum/photo-grey", 2: "rastrum/photo-grey", 3: "rastrum/photo", 4: "rastrum/photo"}
COLOURS = {1: "grey", 2: "grey with transparency", 3: "RGB", 4: "RGB with transparency"}
ROWS = 256                     # at a time, of a PNG

Photos: TypeAlias = Annotated[
    Positional[tuple[str, ...]], arg(metavar="PHOTO …", help="image files of 8 or 16 bits, arrays X.npy (H, W, C), or - for stdin")
]
Files: TypeAlias = Annotated[Positional[tuple[str, ...]], arg(metavar="FILE …", help="made by compress, archives too; - for stdin")]
SkipExisting: TypeAlias = Annotated[bool, arg(help="leave out what is there already, as after a run that ended early")]
Model: TypeAlias = Annotated[
    str | None, arg(metavar="MODEL", help="that made the files: a folder, rastrum/NAME or hf://OWNER/NAME; default: the one that a file "
                                          "names, if it is bundled with the package")
]  # fmt: skip
Class: TypeAlias = Annotated[
    int | None, arg(name="class", metavar="CLASS", help="lossy, for a model of classes: number of the photos' class, which a file does not "
                                                        "keep", help_behavior_hint="")
]  # fmt: skip


def compress(
    photos: Photos,
    out: Annotated[
        str | None, arg(aliases=["-o"], metavar="OUT", help="a folder, X.rastrum for one photo, X.zip for an archive, or - for stdout; "
                                                         "default: X.rastrum beside each photo")
    ] = None,
    model: Annotated[
        str | None, arg(metavar="MODEL", help="a folder, rastrum/NAME or hf://OWNER/NAME, of the photos' colours; default: rastrum/photo, "
                                              "rastrum/photo-grey for grey photos, and with --lossy "
                                              "rastrum/conv-draw-photographs")
    ] = None,
    archive: Annotated[bool, arg(help="one archive, which -o names, instead of a file for each photo")] = False,
    metadata: Annotated[bool, arg(help="keep the colour profile (ICC) and EXIF")] = False,
    ycocg: Annotated[bool, arg(help="code RGB as YCoCg-R, a reversible transform; for models that were trained so")] = False,
    tile: Annotated[int | None, arg(metavar="N", help="pixels of a tile's side, 1 to 256; default: 128", help_behavior_hint="")] = None,
    context: Annotated[
        int | None, arg(metavar="N", help="rows above and columns left of a tile that it sees, 0 to 64; default: 16", help_behavior_hint="")
    ] = None,
    tune: Annotated[
        int, arg(metavar="STEPS", help="adapt the model to each photo by so many steps of training, say 200, where that makes the file "
                                       "smaller; it takes as long to decode; default: 0", help_behavior_hint="")
    ] = 0,
    lossy: Annotated[bool, arg(help="progressive files, which may be cut at any byte: what matters first; by a conv-draw with uniform "
                                    "posteriors")] = False,
    steps: Annotated[
        int | None, arg(metavar="T", help="lossy: of the model that a file holds; default: as --bits or --psnr say, else all",
                        help_behavior_hint="")
    ] = None,
    bits: Annotated[
        float | None, arg(metavar="B", help="lossy: of a file, at most; where the steps take more it is cut", help_behavior_hint="")
    ] = None,
    psnr: Annotated[float | None, arg(metavar="DB", help="lossy: as little as reaches it", help_behavior_hint="")] = None,
    lossless: Annotated[bool, arg(help="lossy: every value follows the steps")] = False,
    effort: Annotated[
        int, arg(metavar="STEPS", help="lossy: look for latents that say more of each photo in as many bits, with --psnr as much in fewer, "
                                       "or with --lossless make the whole file smaller, by so many steps of gradient descent, say 60; a "
                                       "file is never worse than without, and decoding takes no longer; default: 0", help_behavior_hint="")
    ] = 0,
    number: Class = None,
    verify: Annotated[bool, arg(help="do not decode what was written to compare it with the photo", help_behavior_hint="")] = True,
    delete_source: Annotated[bool, arg(help="delete a photo when what was written has been compared with it; keeps metadata")] = False,
    skip_existing: SkipExisting = False,
    json: Json = False,
) -> int:
    """Compress photographs losslessly: every sample comes back, on every machine; or with --lossy at any rate.

    Grey and RGB, 8 and 16 bits, with or without transparency, of any size. Orientation is applied. The pixels of a JPEG are kept, which
    takes more bytes than the JPEG itself. Exit code 1 where some of several photos could not be compressed.
    """
    if not photos:
        raise ValueError("compress: which photos? Give one or more image files")
    if delete_source and not verify:
        raise ValueError("--delete-source: it needs what was written to be compared with the photo; leave out --no-verify")
    if PIPE in (*photos, out) and (delete_source or (json and out == PIPE)):
        raise ValueError(f"{'--delete-source' if delete_source else '--json'}: it does not go with a pipe, -")
    archive = archive or (out is not None and out.endswith(ARCHIVE))
    if archive and not (out is not None and (out == PIPE or out.endswith(ARCHIVE))):
        raise ValueError(f"--archive: -o names it, expected X{ARCHIVE} or -, got {out!r}")
    if archive and skip_existing:
        raise ValueError("--skip-existing: it is for a file for each photo; an archive is written as a whole")
    if tune < 0:
        raise ValueError(f"--tune: expected a number of steps, got {tune}")
    chosen = {"steps": steps, "bits": bits, "psnr": psnr, "lossless": lossless, "effort": effort, "condition": number}
    others = {"ycocg": ycocg, "tile": tile, "context": context, "tune": tune, "metadata": metadata, "delete_source": delete_source}
    others["no_verify"] = not verify                                      # progressive files are always decoded
    _check_lossy(lossy, chosen, others)
    if lossy and model is None:
        model = progressive.MODEL
    processes, started = _processes(*photos, out), time.perf_counter()
    options = {"ycocg": ycocg, "tune": tune} | {key: value for key, value in (("tile", tile), ("context", context)) if value is not None}
    with processes.together():
        sources = list(map(source, photos))
        names = targets("members/" if archive else out, sources, SUFFIX, skip_existing)
        if archive and processes.is_first:                                # which writes
            assert out is not None
            check_new(out)
    sources, names, skipped = _new(processes, sources, names)
    network = None if model is None else _load(model)
    with processes.together(), ExitStack() as stack:
        place = written
        if archive:
            assert out is not None
            names = [Path(name).name for name in names]
            place = stack.enter_context(archived(out, processes)).written

        def compressed(photo: Source, name: str) -> dict[str, Any]:
            with place(name) as file:
                if lossy:
                    assert model is not None
                    record = progressive.compressed(photo, file, network, _public(model), chosen)
                    return {"photo": photo.name, "file": f"{out}:{name}" if archive else name} | record
                record = _compress(photo, file, model, network, options, metadata or delete_source, verify)
            if delete_source and not archive:
                Path(photo.name).unlink()
            return {"photo": photo.name, "file": f"{out}:{name}" if archive else name} | record

        records = _shared(processes, sources, names, do=compressed, key="photo")
        done = [record for record in records if "error" not in record]
        if archive and not done:
            raise ValueError(f"none of the {len(records)} photos could be compressed ({records[0]['error']}), so there is no archive")
    if delete_source and archive:
        with processes.together():
            for photo, record in list(zip(sources, records, strict=True))[processes.share(len(sources))]:
                if "error" not in record:
                    Path(photo.name).unlink()
    if PIPE in (out, *names):
        return _failures(records)
    if lossy:
        lines = [f"{record['photo']} → {record['file']}: {progressive.compressed_line(record)}" for record in done]
        answer({"files": records, "skipped": skipped}, json, *lines, *_left_out(skipped))
        return _failures(records)
    total: dict[str, Any] = {key: sum(record[key] for record in done) for key in ("bytes", "png_bytes", "pixels", "samples")}
    total["seconds"] = time.perf_counter() - started
    total["megapixels_per_second"] = total["pixels"] / 1e6 / total["seconds"]
    lines = [f"{record['photo']} → {record['file']}: {_size(record)}, {_rate(record)}{_larger(record)}" for record in done]
    speed = f"{total['pixels'] / 1e6:.3g} megapixels in {total['seconds']:.1f} s, {total['megapixels_per_second']:.3g} megapixels/s"
    if done:
        lines.append(f"{_count(len(done), 'photo')}: {_rate(total)}; {speed}{', each decoded and compared' if verify else ''}")
    answer({"files": records, "skipped": skipped, "total": total, "verified": verify}, json, *lines, *_left_out(skipped))
    return _failures(records)


def _check_lossy(lossy: bool, chosen: dict[str, Any], others: dict[str, Any]) -> None:
    """Refuse flags of --lossy without it, and others with it."""
    unset = {"lossless": False, "effort": 0}                              # 0 of others is a wish
    if not lossy and (wrong := [name for name, value in chosen.items() if value != unset.get(name)]):
        raise ValueError(f"--{'class' if wrong[0] == 'condition' else wrong[0]}: it is for --lossy, which was not given")
    if lossy and (wrong := [name.replace("_", "-") for name, value in others.items() if value not in (None, False, 0)]):
        raise ValueError(f"--{wrong[0]}: it is for lossless files, so it does not go with --lossy")


def _compress(
    photo: Source, file: BinaryIO, model: str | None, network: RasterModel | None, options: dict[str, Any], metadata: bool, verify: bool
) -> dict[str, Any]:
    """Writes one photo to ``file``, open for reading too, by the model of this name or a bundled one, and says how large it is."""
    import numpy as np

    from ..compression import Decoding
    from ..compression.photographs import encode
    from ..pictures.png import png

    pixels, found = pixels_of(photo)
    height, width, channels = pixels.shape
    name, kept, bits = model or MODELS[channels], found if metadata else {}, 8 * pixels.dtype.itemsize
    network, megapixels = network or _bundled(name), height * width / 1e6
    again, coded = megapixels if verify else 0.0, megapixels
    with progress(f"compressing {photo.name}", megapixels + again, "megapixels") as report:

        def encoded(done: float, of: float) -> None:
            nonlocal coded
            coded = of
            report(done, of + again)

        for part in encode(network, pixels, name=_public(name), metadata=kept, report=encoded, **options):
            file.write(part)
        size, row = file.tell(), 0
        if verify:
            for band in Decoding(file, network, what=photo.name).bands(lambda done: report(coded + done)):
                if not np.array_equal(band, pixels[row : row + len(band)]):
                    raise OSError(f"{photo.name}: other pixels came back from row {row} on, so nothing was saved; please report this")
                row += len(band)
            file.seek(size)
    rows = (pixels[start : start + ROWS] for start in range(0, height, ROWS))
    about = {"height": height, "width": width, "channels": channels, "bits": bits, "metadata": sorted(kept), "model": name}
    own = None if photo.folder is None else Path(photo.name).stat().st_size
    return about | {"bytes": size, "png_bytes": sum(map(len, png(height, width, channels, bits, rows))), "photo_bytes": own,
                    "pixels": height * width, "samples": pixels.size}  # fmt: skip


def decompress(
    files: Files,
    out: Annotated[
        str | None, arg(aliases=["-o"], metavar="OUT", help="a folder, X.png for one file, or - for stdout; default: X.png beside a file; "
                                                         "of a progressive file also X.gif, X.webp or X.mp4: how it comes with the bytes")
    ] = None,
    model: Model = None,
    rest: Annotated[
        Literal["mean", "sample"] | None,
        arg(help="what a progressive file does not hold lies at the mean of the model's prior (default) or is drawn from it",
            help_behavior_hint="")
    ] = None,
    seed: Annotated[int | None, arg(help="of what is drawn; default: 0", help_behavior_hint="")] = None,
    steps: Annotated[
        int | None, arg(metavar="T", help="read no more steps of a progressive file; default: all", help_behavior_hint="")
    ] = None,
    number: Class = None,
    salvage: Annotated[bool, arg(help="of damaged files, write what can be decoded; the rest is grey, and named")] = False,
    skip_existing: SkipExisting = False,
    json: Json = False,
) -> int:
    """Decode files that compress made, as PNG of 8 or 16 bits with the metadata that they kept.

    Exit code 1 where --salvage had to leave something out, where some of several files could not be decoded, and where the end of an
    archive is lost.
    """
    from ..compression import Decoding
    from ..data.options import requantise
    from ..pictures.png import png

    if json and out == PIPE:
        raise ValueError("--json: it does not go with a pipe, -")
    film = next((ending for ending in progressive.ANIMATIONS if out is not None and out.endswith(ending)), None)
    if (steps is not None and steps < 0) or (seed is not None and seed < 0):
        raise ValueError(f"--{'steps' if steps is not None and steps < 0 else 'seed'}: expected 0 or more")
    options = {"condition": number, "rest": rest or "mean", "seed": seed or 0, "steps": steps}
    processes, sources, lost = _sources(files, out)
    with processes.together():
        places = targets(out, sources, film or ".png", skip_existing)
    sources, places, skipped = _new(processes, sources, places)
    network = None if model is None else _load(model)

    def decompressed(each: Source, place: str) -> dict[str, Any]:
        started = time.perf_counter()
        with each.open() as file:
            found = progressive.is_progressive(file)
        if not found and (film or any(flag is not None for flag in (rest, seed, steps, number))):
            flags = "-o" if film else "--rest, --seed, --steps and --class"
            raise ValueError(f"{each.name}: it is no progressive file, so {flags} cannot be done; "
                             "leave them out, or make one by compress --lossy")  # fmt: skip
        if film:
            return {"out": place} | progressive.animated(each, place, network, options)
        with each.open() as file, written(place) as target:
            if found:
                return {"out": place} | progressive.decompressed(each, file, target, network, options, salvage)
            decoding = Decoding(file, network, salvage, each.name)
            header = decoding.header
            bits = 8 if header.bits <= 8 else 16
            spread = partial(requantise, levels=1 << header.bits, to=1 << bits)
            with progress(f"decompressing {each.name}", header.pixels / 1e6, "megapixels") as report:
                bands = map(spread, decoding.bands(report))
                for part in png(header.height, header.width, header.channels, bits, bands, header.metadata):
                    target.write(part)
        seconds = time.perf_counter() - started
        return {"file": each.name, "out": place, "faults": _faults(decoding), "seconds": seconds} | _about(header)

    records = _shared(processes, sources, places, do=decompressed)
    done = [record for record in records if "error" not in record]
    for record in done:
        for fault in record["faults"]:
            messages.print(f"{record['file']}: {fault}")
    if PIPE not in places:
        said = (progressive.decompressed_line(record) if "read_steps" in record else _size(record) for record in done)
        lines = (f"{record['file']} → {record['out']}: {text}" for record, text in zip(done, said, strict=True))
        answer({"files": records, "skipped": skipped, "faults": lost}, json, *lines, *_left_out(skipped))
    return _failures(records, lost) or int(any(record["faults"] for record in done))


def info(files: Files, json: Json = False) -> int:
    """What files hold, without decoding them: size, colours, model and rate. Their headers and lists are checked, the pixels are not.

    Exit code 1 where one of several files cannot be read, and where the end of an archive is lost.
    """
    from ..compression.container import read_header, read_strips
    from ..compression.fields import Reader

    def looked_at(each: Source) -> dict[str, Any]:
        with each.open() as file:
            if progressive.is_progressive(file):
                return progressive.described(each, file)
            reader = Reader(file, each.name)
            header = read_header(reader)
            for _ in read_strips(reader, header):
                pass
        return {"file": each.name, "bytes": reader.size, "samples": header.pixels * header.channels} | _about(header)

    processes, sources, lost = _sources(files)
    records = _shared(processes, sources, do=looked_at)
    lines = []
    for record in (record for record in records if "error" not in record):
        if "held_bytes" in record:
            lines.append(progressive.described_line(record))
            continue
        by = f"by {record['model'] or 'a model without a name'} (weights {record['weights']})"
        tiles = f"{_count(record['tiles'], 'tile')} of at most {record['tile']} + {record['context']} pixels"
        more = ["YCoCg-R"] * record["ycocg"] + [f"tuned ({record['tuning_bytes']} bytes)"] * bool(record["tuning_bytes"])
        more += [name.upper() for name in record["metadata"]]
        lines.append(f"{record['file']}: {', '.join([_size(record), _rate(record), by, tiles, *more])}")
    answer({"files": records, "faults": lost}, json, *lines)
    return _failures(records, lost)


def verify(files: Files, model: Model = None, number: Class = None, json: Json = False) -> int:
    """Decode files and compare all pixels with their checksums. Exit code 1 where something is damaged, where of several files
    one cannot be read at all, and where the end of an archive is lost.
    """
    from ..compression import Decoding, FileError

    processes, sources, lost = _sources(files)
    network = None if model is None else _load(model)

    def verified(each: Source) -> dict[str, Any]:
        try:
            with each.open() as file:
                if progressive.is_progressive(file):
                    return progressive.verified(each, file, network, number)
                decoding = Decoding(file, network, salvage=True, what=each.name)
                with progress(f"verifying {each.name}", decoding.header.pixels / 1e6, "megapixels") as report:
                    for _ in decoding.bands(report):
                        pass
        except FileError as error:
            if len(sources) == 1:
                raise
            return {"file": each.name, "faults": [_own(str(error), each.name)]}    # the others are looked at all the same
        return {"file": each.name, "faults": _faults(decoding)}

    records = _shared(processes, sources, do=verified)
    done = [record for record in records if "error" not in record]
    said = ("; ".join(record["faults"]) or (progressive.verified_line(record) if "whole" in record else "whole") for record in done)
    answer({"files": records, "faults": lost}, json, *(f"{record['file']}: {text}" for record, text in zip(done, said, strict=True)))
    return _failures(records, lost) or int(any(record["faults"] for record in done))


def _processes(*names: str | None) -> Processes:
    """Those that share the work on files of these names."""
    from ..processes import join

    processes = join()
    if PIPE in names and processes.count > 1:
        raise ValueError(f"-: one process reads and writes a pipe, and torchrun started {processes.count}; name files")
    return processes


def _sources(files: Sequence[str], out: str | None = None) -> tuple[Processes, list[Source], list[str]]:
    """The processes, the files that they decode in shares, and lines about what is lost of archives."""
    processes = _processes(*files, out)
    with processes.together():
        sources, lost = files_of(files)
    processes.check_same(files=[each.name for each in sources])           # on several machines an archive may hold others
    return processes, sources, lost


def _new(processes: Processes, sources: list[Source], places: list[str]) -> tuple[list[Source], list[str], int]:
    """The sources of what is not there yet, where they go, and how many others there are."""
    with processes.together():
        new = [(each, place) for each, place in zip(sources, places, strict=True) if place == PIPE or not Path(place).exists()]
    return [each for each, _ in new], [place for _, place in new], len(sources) - len(new)


def _shared(
    processes: Processes, sources: Sequence[Source], *each: Sequence[Any], do: Callable[..., dict[str, Any]], key: str = "file"
) -> list[dict[str, Any]]:
    """What ``do`` says of each file, or of several "error", what is wrong with one; a process does its share, and knows all that the others
    say. ``key``: of a file's name in its record."""

    def attempted(source: Source, *arguments: Any) -> dict[str, Any]:
        try:
            return do(source, *arguments)
        except (ValueError, OSError, MemoryError) as error:
            if len(sources) == 1:
                raise
            return {key: source.name, "error": " ".join(str(error).split()) or type(error).__name__}

    with processes.together():
        records = [attempted(*arguments) for arguments in list(zip(sources, *each, strict=True))[processes.share(len(sources))]]
    return [record for part in processes.exchange(records) for record in part]


def _failures(records: Sequence[dict[str, Any]], lost: Sequence[str] = ()) -> int:
    """Name in a line each file that failed, and what is lost of archives. Returns the exit code."""
    failed = [(record.get("photo") or record["file"], record["error"]) for record in records if "error" in record]
    for line in (*(error if name in error else f"{name}: {error}" for name, error in failed), *lost):
        messages.print(line)
    if failed:
        messages.print(f"{len(failed)} of {_count(len(records), 'file')} failed")
    return int(bool(failed or lost))


def _left_out(skipped: int) -> list[str]:
    return [f"{_count(skipped, 'file')} left out, there already"] * bool(skipped)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _faults(decoding: Decoding) -> list[str]:
    """What is wrong with a file that was decoded with ``salvage``."""
    fault = _own(decoding.fault, decoding.reader.what)
    return [f"{region} could not be decoded" for region in decoding.damaged()] + [fault] * bool(fault)


def _own(message: str, name: str) -> str:
    """What an error says of a file, without its name."""
    return message.removeprefix(f"{name}: ")


def _load(name: str) -> RasterModel:
    model: Any = load_model(name, "cpu")
    return model


@lru_cache
def _bundled(name: str) -> RasterModel:
    """A model of ``MODELS``, which each process loads when a photo needs it."""
    from ..models import load

    model: Any = load(name, "cpu")
    return model


def _public(model: str) -> str:
    """A model's name for others: of a folder only its last part."""
    return model if model.startswith(("rastrum/", "hf://")) else f"./{Path(model).resolve().name}".encode(errors=SURROGATES).decode()


def _about(header: Header) -> dict[str, Any]:
    return {
        "height": header.height, "width": header.width, "channels": header.channels, "bits": header.bits, "model": header.model,
        "weights": header.fingerprint.hex(), "arithmetic": "native-1", "ycocg": header.ycocg, "tile": header.tile,
        "context": header.context, "tuning_bytes": len(header.tuning), "tiles": header.tiling.count, "metadata": sorted(header.metadata),
    }  # fmt: skip


def _size(record: dict[str, Any]) -> str:
    return f"{record['width']}x{record['height']} pixels, {COLOURS[record['channels']]}, {record['bits']} bits"


def _larger(record: dict[str, Any]) -> str:
    """What to say where the photo's own file is smaller: pictures of few colours, and JPEG, whose pixels are not its data."""
    own = record["photo_bytes"]
    return "" if own is None or own >= record["bytes"] else f"; its own file is smaller, {own:,} bytes: keep that"


def _rate(record: dict[str, Any]) -> str:
    of_png = f", {record['bytes'] / record['png_bytes']:.1%} of PNG" if "png_bytes" in record else ""
    return f"{record['bytes']:,} bytes, {8 * record['bytes'] / record['samples']:.3f} bits per value{of_png}"
