"""Atomic writing: all files of a folder, or none of them.

A folder is written file by file to temporary names next to the final ones, synced, then renamed: a full disk or a kill leaves what was
there before, whole. Temporary names are random, and made only where nothing is, so that no link that someone left there is followed; a file
that is replaced keeps its mode, and a link at its name is replaced itself.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

SURROGATES = "backslashreplace"      # of a path that is not UTF-8: JSON reads it back as it was
NO_SYNC = (errno.EINVAL, errno.EBADF, errno.EACCES, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)   # of folders


def check_name(folder: str | Path) -> None:
    """Refuse a folder whose name is not UTF-8 on the disk: safetensors cannot read what is saved there.

    folder: path of the folder, which need not exist.

    Raises ``ValueError`` for such a name.
    """
    try:
        os.fsencode(folder).decode()
    except UnicodeError:
        raise ValueError(f"save: the name of {str(folder)!r} is not UTF-8; choose another name") from None


def write_files(folder: str | Path, files: Mapping[str, bytes]) -> None:
    """Write all files, or none of them; files of other names stay.

    folder: path, made if need be.
    files: content by name.

    Raises ``OSError`` (one line) if writing fails, with nothing changed; ``ValueError`` if ``folder`` is a file, or a name that of a
    pipe or a device.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"save: {str(folder)!r} is a file, not a folder; choose another name")
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    for name in files:
        if (folder / name).is_dir():
            raise IsADirectoryError(errno.EISDIR, f"could not save, {str(folder / name)!r} is a folder")
        if (folder / name).exists() and not (folder / name).is_file():
            raise ValueError(f"save: {str(folder / name)!r} is not a regular file; choose another name")
    temporary = {name: folder / f".{secrets.token_hex(16)}.new" for name in files}
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with open(temporary[name], "xb") as file:                     # x: O_EXCL, which follows no link
                written.append(temporary[name])
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if (folder / name).is_file():
                os.chmod(temporary[name], stat.S_IMODE((folder / name).stat().st_mode))
        for name, path in temporary.items():
            os.replace(path, folder / name)
    except BaseException as error:
        for path in written:
            path.unlink(missing_ok=True)
        for path in made:  # from the inside out; a folder that holds something stays
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        if isinstance(error, OSError):
            message = f"could not save to {str(folder)!r}, what was there is unchanged: {error.strerror or error}"
            raise OSError(error.errno, message) from None
        raise
    _sync(folder)


@contextmanager
def writing(path: str | Path) -> Iterator[BinaryIO]:
    """A file that is written piece by piece, and takes its name when it is whole.

    path: of the file, where there is none yet; its folder is there.

    Yields the file, open for writing and reading; after an error inside, or where it cannot be saved, nothing is left of it.
    Raises ``OSError`` (one line), also where something has taken the name.
    """
    path = Path(path)
    temporary = path.parent / f".{secrets.token_hex(16)}.new"
    try:
        with open(temporary, "x+b") as file:
            try:
                yield file
            except BaseException:
                temporary.unlink()
                raise
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            raise FileExistsError(errno.EEXIST, "it is there already")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, f"could not save {str(path)!r}: {error.strerror or error}") from None
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """The names in a folder reach the disk, where its system can do this: Windows and some network folders cannot."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        directory = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise OSError(error.errno, f"saved to {str(folder)!r}, but it may not be on the disk yet: {error.strerror or error}") from None
