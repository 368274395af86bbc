"""Where ``compress``, ``decompress``, ``info`` and ``verify`` read and write: photos, files of compress, archives of these, and pipes.

An archive is a ZIP file whose members are such files, stored without further compression, so any unpacker opens it. Before each member
stands its length, so that those of an archive whose end is lost, and with it the list of members, are found all the same.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..files import SURROGATES
from .show import check_folder_out

if TYPE_CHECKING:
    import numpy as np

    from ..processes import Processes

SUFFIX, ARCHIVE, PIPE = ".rastrum", ".zip", "-"
LOCAL = struct.Struct("<4s5H3L2H")      # before a member, up to the lengths of its name and of what follows that


@dataclass(frozen=True)
class Source:
    """A photo, or a file to decode.

    name: for people.
    stem: of what is made of it.
    folder: where that goes by default; None for a pipe.
    open: opens it, to be read at any position.
    """

    name: str
    stem: str
    folder: Path | None
    open: Callable[[], BinaryIO]


def source(name: str) -> Source:
    """What an argument names.

    name: a path, or - for stdin, which is read at once.

    Raises ``ValueError`` where there is no such file.
    """
    if name == PIPE:
        data = sys.stdin.buffer.read()
        return Source("stdin", "image", None, lambda: io.BytesIO(data))
    path = Path(name)
    if not path.is_file():
        what = f"{name!r} is a folder; name its files, as {name.rstrip(os.sep)}/*" if path.is_dir() else f"{name!r} is not a file"
        raise ValueError(what if path.exists() else f"there is no file {name!r}")
    return Source(name, path.stem, path.parent, lambda: path.open("rb"))


def files_of(names: Sequence[str]) -> tuple[list[Source], list[str]]:
    """Files to decode, those in archives one by one, and lines about archives whose end is lost.

    names: as for ``source``.

    Raises ``ValueError`` for none, and for an archive that compress did not write.
    """
    if not names:
        raise ValueError("which files? Give one or more that `rastrum compress` made")
    found: list[Source] = []
    faults: list[str] = []
    for each in map(source, names):
        try:
            file = each.open()
        except OSError:                                                   # as whoever decodes it will find too
            found.append(each)
            continue
        with file:
            if file.read(2) != b"PK":
                found.append(each)
                continue
            try:
                members = zipfile.ZipFile(file).infolist()
            except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
                members = list(_scanned(file))
                if not members:
                    raise ValueError(f"{each.name}: is not a whole archive ({error})") from None
                faults.append(f"{each.name}: the end of the archive is lost, and with it any files after the {len(members)} found")
            size = file.seek(0, os.SEEK_END)
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 or member.file_size != member.compress_size:
                raise ValueError(f"{each.name}: {member.filename!r} is compressed or encrypted, so compress did not write it")
            found.append(_in_archive(each, member, size))
    return found, faults


def _scanned(file: BinaryIO) -> Iterator[zipfile.ZipInfo]:
    """The members of an archive as they stand one after another, without its list of them; the last one may be cut."""
    start = file.seek(0)
    while len(head := file.read(LOCAL.size)) == LOCAL.size and head.startswith(b"PK\3\4"):
        _, _, flags, kind, _, _, _, stored, size, length, more = LOCAL.unpack(head)
        if len(name := file.read(length)) < length:
            return
        member = zipfile.ZipInfo(name.decode("utf-8" if flags & 0x800 else "cp437", "replace"))
        member.header_offset, member.flag_bits, member.compress_type = start, flags, kind
        member.compress_size, member.file_size = stored, size
        yield member
        start = file.seek(start + LOCAL.size + length + more + stored)


def _in_archive(of: Source, member: zipfile.ZipInfo, archive_size: int) -> Source:
    """A member of an archive of so many bytes, whose own checksum is not asked, since damage to it costs one tile."""
    name = f"{of.name}:{member.filename}"

    def open_member() -> BinaryIO:
        with of.open() as file:
            start = max(0, member.header_offset) + LOCAL.size
            file.seek(start - 4)
            lengths = file.read(4)
            file.seek(start + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"))
            return io.BytesIO(file.read(min(member.file_size, archive_size)))

    return Source(name, Path(member.filename.replace("\\", "/")).stem or "image", of.folder, open_member)    # a name, and no other folder


def pixels_of(photo: Source) -> tuple[np.ndarray, dict[str, bytes]]:
    """Pixels (H, W, C) of a photo, of an array a memory map of them, and its metadata.

    photo: an image file, or X.npy.

    Raises ``ValueError`` for anything else.
    """
    import numpy as np

    from ..compression.photographs import as_pixels
    from ..data.reading import open_image, read_pixels

    of_pipe = photo.folder is None
    with photo.open() as file:
        of_array = file.read(6) == b"\x93NUMPY"
    if of_array or photo.name.lower().endswith(".npy"):
        try:
            return as_pixels(np.load(photo.open()) if of_pipe else np.load(photo.name, mmap_mode="r")), {}
        except (ValueError, EOFError) as error:
            raise ValueError(f"{photo.name}: {error}") from None
    found = read_pixels(photo.name, lambda: open_image(io.BytesIO(photo.open().read()) if of_pipe else Path(photo.name)))
    return found.values, found.metadata


def targets(out: str | None, sources: Sequence[Source], suffix: str, existing: bool = False) -> list[str]:
    """Where what is made of each source goes.

    out: the flag -o: a folder, a name that ends in ``suffix``, or - for stdout; None = beside each source, and from a pipe to a pipe.
    sources: which.
    suffix: of what is made.
    existing: whether something may be there already, False by default.

    Raises ``ValueError`` where two would go to one place, where something is there already, and where nothing can be written.
    """
    single = out == PIPE or (out is not None and out.endswith(suffix) and not Path(out).is_dir())
    if single and len(sources) > 1:
        raise ValueError(f"-o {out}: it is for one file, got {len(sources)}; name a folder")
    if out is not None and not single:
        if Path(out).suffix and not Path(out).is_dir() and not out.endswith(("/", os.sep)):
            raise ValueError(f"-o: expected a folder (FOLDER/), a name that ends in {suffix}, or -, got {out!r}")
        check_folder_out("-o", Path(out))
    found = []
    for each in sources:
        folder = each.folder if out is None else Path(out)
        found.append(str(out) if single else PIPE if folder is None else str(folder / f"{each.stem}{suffix}"))
    for target in found:
        if found.count(target) > 1:
            raise ValueError(f"{target!r}: several files would be called so; do them one at a time")
        check_new(target, existing)
    return found


def check_new(target: str, existing: bool = False) -> None:
    """Check before any work that a file can be written.

    target: its path, or - for stdout.
    existing: whether something may be there already, False by default.

    Raises ``ValueError`` where something is there already, or its folder cannot be written to.
    """
    if target != PIPE and not existing and Path(target).exists():
        remedy = "choose another name, remove it, or leave out what is there with --skip-existing"
        raise ValueError(f"{target!r} is there already; {remedy}")
    if target != PIPE:
        check_folder_out("-o", Path(target).parent)


@contextmanager
def written(target: str) -> Iterator[BinaryIO]:
    """A new file, open for reading too, which is there when it is whole; its folder is made if need be.

    target: its path, or - for stdout, which takes it at the end.
    """
    from ..files import writing

    if target != PIPE:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with writing(target) as file:
            yield file
        return
    held = io.BytesIO()
    yield held
    sys.stdout.buffer.write(held.getbuffer())
    sys.stdout.buffer.flush()


class Archive:
    """A new archive.

    file: where it is written, and may be read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = zipfile.ZipFile(file, "w")

    @contextmanager
    def written(self, name: str) -> Iterator[BinaryIO]:
        """A member, as ``written``.

        name: of the member.
        """
        held = io.BytesIO()
        yield held
        self._add(name, held.getbuffer())

    def gather(self, processes: Processes) -> None:
        """Give the first process's archive what those of the others hold, in their order.

        processes: each calls this.
        """
        import numpy as np
        import torch

        for rank, names in enumerate(processes.exchange(self.file.namelist())):
            for name in names if rank else ():
                with processes.together():
                    own = self.file.read(name) if processes.rank == rank else b""
                member = processes.joined(torch.from_numpy(np.frombuffer(own, np.uint8).copy()))
                with processes.together():
                    if processes.is_first:
                        self._add(name, member.numpy().data)

    def _add(self, name: str, content: memoryview) -> None:
        text = name.encode(errors=SURROGATES).decode()
        self.file.writestr(zipfile.ZipInfo(text), content)             # pyright: ignore[reportArgumentType]

    def close(self) -> None:
        """Write the list of members."""
        self.file.close()


@contextmanager
def archived(target: str, processes: Processes) -> Iterator[Archive]:
    """A new archive, as ``written``, of what the members in all processes hold: the others' are in files without a name until its end.

    target: its path, or - for stdout.
    processes: which share the work; the first one writes.
    """
    with written(target) if processes.is_first else tempfile.TemporaryFile() as file, closing(Archive(file)) as archive:
        yield archive
        archive.gather(processes)
