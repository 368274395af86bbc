"""Machine code that is kept on disk, fresh and whole.

numba stamps a function's machine code with the function's own file, so it would not notice a change in a function of another file that it
calls, and a damaged file raises errors in every later process. Here each file on disk holds

    digest (32 bytes) │ pickle of the compiled function

where the digest covers the pickle, the function with its types and processor, all compiled sources, and the versions of Python, numpy,
numba and llvmlite.
Whatever does not match (other sources or versions, damage, a truncated file) is compiled again and replaced; the pickle is read only after
the digest matches. Where nothing can be written, work goes on without a file.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from pickle import loads
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache

DIGEST_SIZE = 32


@lru_cache
def sources() -> bytes:
    """Digest of what machine code is made from: the files of this folder, range_coder.py, and the versions of what compiles it."""
    here, package = files(__package__ or ""), files((__package__ or "").rpartition(".")[0])
    paths = sorted((path for path in here.iterdir() if path.name.endswith(".py")), key=lambda path: path.name)
    versions = (numba.__version__, llvmlite.__version__, np.__version__, sys.version)
    digest = blake2b(repr(versions).encode(), digest_size=DIGEST_SIZE)
    for path in (*paths, package / "range_coder.py"):
        digest.update(blake2b(path.read_bytes()).digest())
    return digest.digest()


class _File(IndexDataCacheFile):
    """One file per function, types and processor, without an index, which processes that compile at the same time would overwrite.

    source_stamp: digest of the sources · trouble: why ``load`` found nothing, for the user
    """

    _cache_path: str
    _source_stamp: bytes

    def __init__(self, cache_path: str, filename_base: str, source_stamp: bytes) -> None:
        super().__init__(cache_path, filename_base, source_stamp)
        self._base = filename_base
        self.trouble = ""

    def path(self, key: Any) -> str:
        """key: numba's (signature, processor, digests of the bytecode)."""
        name = blake2b(repr((str(key[0]), key[1])).encode(), digest_size=8).hexdigest()
        return os.path.join(self._cache_path, f"{self._base}.{name}.nbc")

    def _digest(self, key: Any, data: bytes) -> bytes:
        digest = blake2b(self._source_stamp, digest_size=DIGEST_SIZE)
        digest.update(repr((str(key[0]), *key[1:])).encode())
        digest.update(data)
        return digest.digest()

    def load(self, key: Any) -> Any:
        """What was saved under ``key``, None if there is nothing or it cannot be used."""
        self.trouble = ""
        try:
            with open(self.path(key), "rb") as file:
                digest, data = file.read(DIGEST_SIZE), file.read()
        except OSError:                                                   # no such file, or one that cannot be read
            self.trouble = f"{self._cache_path} holds no machine code of this function yet"
            return None
        if digest != self._digest(key, data):
            self.trouble = f"the machine code in {self._cache_path} is of another version, or damaged"
            return None
        return loads(data)

    def save(self, key: Any, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(self.path(key)) as file:                # a temporary file that then takes the name: whole or not at all
            file.write(self._digest(key, content) + content)

    def flush(self) -> None:
        raise NotImplementedError("remove the files instead")


class Cache(FunctionCache):
    """numba's cache of one function, in ``_File``."""

    def __init__(self, function: Any, slow: bool) -> None:
        super().__init__(function)
        self._slow = slow
        self._cache_file = _File(self._cache_path, self._impl.filename_base, sources())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        code = super().load_overload(sig, target_context)
        if code is None and self._slow:
            announce(self._cache_file.trouble)
        return code

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):                                           # a full disk, say: the next process compiles again
            super().save_overload(sig, data)


class NoCache(NullCache):
    """Where no folder can be written."""

    def __init__(self, slow: bool) -> None:
        self._slow = slow

    def load_overload(self, sig: Any, target_context: Any) -> None:
        if self._slow:
            announce("no folder can be written to keep machine code; NUMBA_CACHE_DIR names one")


_announced = False


def announce(cause: str) -> None:
    """Say on stderr, once per process, that compiling takes a while, and why."""
    global _announced
    if not _announced:
        _announced = True
        print(f"rastrum: compiling for this processor (up to 20 s): {cause}", file=sys.stderr)
