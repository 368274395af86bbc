"""Which file may import which. Imports inside functions count; those under TYPE_CHECKING do not, as they never run."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import rastrum

ROOT = Path(rastrum.__file__).parent

# Bottom to top: a file imports from its own line and from lines before it. A folder stands for all of its files.
LAYERS = (
    ("names", "notebook", "progress", "sums"),
    ("images",),
    ("protocol", "config", "noise", "files", "memory", "denormals", "range_coder", "devices", "autocast", "processes"),
    ("exemplars",),
    ("data",),
    ("native",),
    ("distributions", "latents", "training_noise"),
    ("program",),
    ("layers",),
    ("card", "hub", "checkpoint"),
    ("model",),
    ("raster", "guidance", "canvas", "strokes", "adversarial"),
    ("models",),
    ("walk",),
    ("particles",),
    ("generation", "compression"),
    ("evaluation",),
    ("training", "checking"),
    ("train",),
    ("recipes", "applications", "pictures"),
    ("lecture",),
    ("zoo",),
    ("display", "trained"),
    ("__init__",),
    ("demo", "studio"),
    ("cli",),
    ("__main__",),
)
UPWARD: set[tuple[str, str]] = set()                # arrows that break the rule: (file that imports, file imported); best none

Graph = Mapping[str, Iterable[str]]


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import that may run: at the top of a file or in a function."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    children = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        children = iter(node.orelse)
    for child in children:
        yield from statements(child)


def imports(root: Path) -> dict[str, set[str]]:
    """Files by name, such as "cli.drawing" or "models" (for its ``__init__``), and the files that each imports.

    A folder's ``__init__`` counts where a name of its own is asked for, not for being on the way to a file.
    """
    files = {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in root.rglob("*.py")}

    def imported(name: str, path: Path) -> Iterator[str]:
        folder = [] if name == "__init__" else name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
        for statement in statements(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(statement, ast.Import):
                wanted = [alias.name.split(".") for alias in statement.names]
            else:
                parts = statement.module.split(".") if statement.module else []
                if statement.level:
                    parts = ["rastrum", *folder[: len(folder) - statement.level + 1], *parts]
                wanted = [[*parts, alias.name] for alias in statement.names]
            for first, *rest in wanted:
                if first == "rastrum":
                    yield next(found for n in range(len(rest), -1, -1) if (found := ".".join(rest[:n]) or "__init__") in files)

    return {name: set(imported(name, path)) - {name} for name, path in files.items()}


def circles(graph: Graph) -> list[list[str]]:
    """A shortest circle through each arrow that lies on one."""
    found = {}
    for start in graph:
        paths, seen = [[start]], {start}
        while paths:
            path, *paths = paths
            for name in sorted(graph[path[-1]]):
                if name == start:
                    found.setdefault(frozenset(path), path)
                elif name not in seen:
                    seen.add(name)
                    paths.append([*path, name])
    return sorted(found.values())


def folders(graph: Graph) -> dict[str, set[str]]:
    """The graph of folders, and of the files outside them."""
    between: dict[str, set[str]] = {name.split(".")[0]: set() for name in graph}
    for name, others in graph.items():
        between[name.split(".")[0]] |= {other.split(".")[0] for other in others} - {name.split(".")[0]}
    return between


def drawn(circle: list[str]) -> str:
    return " → ".join([*circle, circle[0]])


def test_no_file_imports_itself_in_a_circle() -> None:
    assert [drawn(circle) for circle in circles(imports(ROOT))] == []


def test_no_folder_imports_itself_in_a_circle() -> None:
    assert [drawn(circle) for circle in circles(folders(imports(ROOT)))] == []


def test_every_arrow_points_down() -> None:
    height = {name: level for level, names in enumerate(LAYERS) for name in names}
    graph = imports(ROOT)
    unplaced = {name for name in graph if name.split(".")[0] not in height}
    assert not unplaced, f"add each to LAYERS: {sorted(unplaced)}"
    arrows = {(name, other) for name, others in graph.items() for other in others}
    upward = {(name, other) for name, other in arrows if height[name.split(".")[0]] < height[other.split(".")[0]]}
    assert sorted(upward) == sorted(UPWARD)


def test_files_that_look_names_up_are_not_imported_by_what_they_find() -> None:
    """``rastrum`` and ``rastrum.cli`` import lazily by name, which the graph does not show; so no file that they can import may import
    them."""
    graph = imports(ROOT)
    assert {name for name in graph if "cli" in graph[name]} == {"__main__", "cli.__main__"}
    found = {name for names in LAYERS[: next(i for i, names in enumerate(LAYERS) if "__init__" in names)] for name in names}
    assert not [name for name in graph if name.split(".")[0] in found and "__init__" in graph[name]]


def test_the_graph_sees_every_kind_of_import(tmp_path: Path) -> None:
    """On a small package: at the top, in a function, of a name and of a file, relative and absolute; not under TYPE_CHECKING."""
    files = {
        "__init__": "", "a": "from .room import b\nfrom .room.b import thing", "c": "def f():\n    import rastrum.a",
        "d": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import a\nelse:\n    from rastrum import c",
        "room/__init__": "", "room/b": "from ..c import f\nfrom . import name",
    }  # fmt: skip
    for name, text in files.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    graph = imports(tmp_path)
    assert graph == {"__init__": set(), "a": {"room.b"}, "c": {"a"}, "d": {"c"}, "room": set(), "room.b": {"c", "room"}}
    assert all(set(pairwise([*circle, circle[0]])) <= {(n, o) for n in graph for o in graph[n]} for circle in circles(graph))
    assert [drawn(circle) for circle in circles(graph)] == ["a → room.b → c → a"]
    assert folders(graph)["room"] == {"c"}
