"""Machine code on disk: compiled again after any change of its sources, replaced if damaged, not required where nothing can be written."""

from __future__ import annotations

import ast
import errno
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core import caching, config

import rastrum
from rastrum.native import cache, compiler

PACKAGE = Path(rastrum.__file__).parent


# ── fresh ────────────────────────────────────────────────────────────────────────────────────────────────────────────

# A gate of a step program calls exp32 of another file; a layer's gate holds code that lanes.py emits.
TWO_GATES = """
import numpy as np
from rastrum.native import elementwise, layers
memory, y = np.array([0.5, 0.25, 0], np.float32), np.zeros((1, 1), np.float32)
elementwise.gate(memory, 0, 2, 1)
layers.gate(1, 1, memory.ctypes.data, y.ctypes.data)
print(memory[2], y[0, 0], *(sum(gate.stats.cache_hits.values()) for gate in (elementwise.gate, layers.gate)))
"""


def test_a_change_in_a_called_function_of_another_file_is_compiled(tmp_path: Path) -> None:
    """The old machine code is in place, and the file of the compiled function itself has not changed."""
    package = tmp_path / "rastrum"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("pretrained", "__pycache__", "*.npz"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}

    def run() -> list[str]:
        return subprocess.run([sys.executable, "-c", TWO_GATES], env=environment, check=True, capture_output=True, text=True).stdout.split()

    first = run()
    assert first[2:] == ["0", "0"]
    for name, old, new in (("exact", "p = fma32(p, y * y, y) + f32(1.0)", "p = f32(1.5)"), ("lanes", "5.0000001201e-1", "0.6")):
        source = (package / "native" / f"{name}.py").read_text()
        assert old in source
        (package / "native" / f"{name}.py").write_text(source.replace(old, new))
    changed = run()
    assert changed[0] != first[0] and changed[1] != first[1] and changed[2:] == ["0", "0"]


def test_the_digest_covers_all_that_compiled_code_is_made_of() -> None:
    """Files in native/ import only each other and files that the digest covers, lazily or not."""
    covered = {path.stem for path in (PACKAGE / "native").glob("*.py")}
    for path in (PACKAGE / "native").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                assert set(names) <= covered, (path, names)
            elif isinstance(node, ast.ImportFrom) and node.level > 1:
                assert node.module in ("range_coder", "autocast"), (path, node.module)   # no compiled function uses the latter
            elif isinstance(node, ast.Import):
                assert not any(alias.name.startswith("rastrum") for alias in node.names), path


def test_importing_layers_and_programs_imports_no_numba() -> None:
    modules = "rastrum.layers.recurrent, rastrum.layers.frames, rastrum.program, rastrum.distributions"
    subprocess.run([sys.executable, "-c", f"import sys, {modules}; assert 'numba' not in sys.modules"], check=True)


# ── damaged, missing, not to be written ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "sums", sys)                         # ``total`` puts its module there; this takes it away at the end
    (tmp_path / "sums.py").write_text("def total(x):\n    s = 0.0\n    for v in x:\n        s += v\n    return s\n")
    return tmp_path


def total(folder: Path, **options: Any) -> Any:
    """A function as a new process has it: not compiled, its machine code perhaps on disk."""
    spec = importlib.util.spec_from_file_location("sums", folder / "sums.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["sums"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return compiler.compiled(module.total, **options)


def hits(function: Any) -> int:
    """Calls the function; whether its machine code came from disk."""
    assert function(np.arange(5.0)) == 10.0
    assert sum((function.stats.cache_hits + function.stats.cache_misses).values()) == 1
    return sum(function.stats.cache_hits.values())


def only_file(folder: Path) -> Path:
    (path,) = (folder / "cache").rglob("*.nbc")
    assert not list((folder / "cache").rglob("*.tmp*"))
    return path


def flipped(bit: float) -> Callable[[bytes], bytes]:
    def flip(data: bytes) -> bytes:
        index = int(bit * (8 * len(data) - 1))
        return data[: index // 8] + bytes([data[index // 8] ^ 1 << index % 8]) + data[index // 8 + 1 :]

    return flip


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "digest only": lambda data: data[: cache.DIGEST_SIZE],
    "without its digest": lambda data: data[cache.DIGEST_SIZE :],
    "random": lambda data: np.random.default_rng(0).bytes(len(data)),
    "zeros": lambda data: bytes(len(data)),
    "longer": lambda data: data + b"\0",
    "twice": lambda data: data + data,
    "text": lambda data: b"<html>not found</html>",
    **{f"cut at {part}": lambda data, part=part: data[: int(part * len(data))] for part in (0.1, 0.3, 0.5, 0.9, 0.999)},
    **{f"bit {bit} flipped": flipped(bit) for bit in np.linspace(0, 1, 26).round(3).tolist()},
}


def test_damaged_machine_code_is_compiled_again_and_replaced(folder: Path) -> None:
    assert hits(total(folder)) == 0 and hits(total(folder)) == 1
    path = only_file(folder)
    for name, damage in DAMAGES.items():
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
        assert (hits(total(folder)), hits(total(folder))) == (0, 1), name
        assert only_file(folder) == path


def test_machine_code_of_another_version_or_function_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hits(total(folder))
    with monkeypatch.context() as patch:
        patch.setattr(cache.numba, "__version__", "0.1")
        cache.sources.cache_clear()
        assert (hits(total(folder)), hits(total(folder))) == (0, 1)
    cache.sources.cache_clear()
    assert hits(total(folder)) == 0
    path, other = only_file(folder), folder / "cache" / "integers"
    assert total(folder)(np.arange(5)) == 10
    (other,) = {*(folder / "cache").rglob("*.nbc")} - {path}
    other.replace(path)
    assert (hits(total(folder)), hits(total(folder))) == (0, 1)


def test_without_room_or_folder_work_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the file is written or renamed, a folder is in its place, or there is no folder at all."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for where, name in ((os, "replace"), (caching, "open"), (os, "makedirs")):
        function = total(folder)
        with monkeypatch.context() as patch:
            patch.setattr(where, name, full, raising=False)
            assert hits(function) == 0
        assert not list((folder / "cache").rglob("*.*")), "no litter"
    assert (hits(total(folder)), hits(total(folder))) == (0, 1)
    path = only_file(folder)
    path.unlink()
    path.mkdir()
    assert (hits(total(folder)), hits(total(folder))) == (0, 0)
    with monkeypatch.context() as patch:
        patch.setattr(caching.CacheImpl, "_locator_classes", [])
        assert hits(total(folder, slow=True)) == 0


def test_compiling_is_announced_when_it_happens(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is printed once per process, with the cause; not for functions that compile quickly, and not when machine code is loaded."""

    def says(**options: Any) -> str:
        monkeypatch.setattr(cache, "_announced", False)
        hits(total(folder, **options))
        return capsys.readouterr().err

    assert says() == ""
    only_file(folder).unlink()
    assert "holds no machine code of this function yet" in says(slow=True) and says(slow=True) == ""
    only_file(folder).write_bytes(b"x")
    text = says(slow=True)
    assert text.startswith("rastrum: compiling for this processor") and "another version, or damaged" in text and text.count("\n") == 1
    only_file(folder).unlink()
    hits(total(folder, slow=True))
    assert capsys.readouterr().err == "", "said before"
