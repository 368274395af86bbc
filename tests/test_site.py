"""The documentation site builds without a warning, loads nothing from elsewhere, and its links hold, as those of the documents do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from rastrum import MODELS
from rastrum.cli import COMMANDS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [path for pattern in ("*.md", "docs/*.md", "docs/stories/*.md", "docs/howto/*.md") for path in sorted(ROOT.glob(pattern))]
NOT_INSTALLED = [name for name in ("sphinx", "myst_parser", "furo") if find_spec(name) is None]


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a file of docs/site by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "site"))
    from importlib import import_module

    return import_module


class _Page(HTMLParser):
    """A page: what it links to, what it loads, its anchors, and how often it has each element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.elements: dict[str, int] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements[tag] = self.elements.get(tag, 0) + 1
        self.anchors |= {value for key in ("id", "name") if (value := found.get(key))}
        if tag == "a" and (target := found.get("href")):
            self.links.append(target)
        if target := found.get("src") or (tag == "link" and found.get("href")):
            self.loaded.append(target)


@pytest.mark.skipif(bool(NOT_INSTALLED), reason=f"not installed: {', '.join(NOT_INSTALLED)} (extra site)")
def test_the_site(tmp_path: Path) -> None:
    """Built once, looked at whole."""
    site = tmp_path / "site"
    offline = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    offline |= {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, str(ROOT / "docs/site/build.py"), str(site)]
    done = subprocess.run(command, env=offline, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    pages = {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}

    for path, page in pages.items():
        for target in page.loaded:
            assert not re.match(r"(https?:)?//", target), f"{path.name} loads {target}"
        for target in {*page.links, *page.loaded}:
            if re.match(r"(https?|mailto|data):", target):
                continue
            file, _, anchor = target.partition("#")
            there = (path.parent / unquote(file.partition("?")[0])).resolve() if file else path
            assert there.exists(), f"{path.name}: {target}"
            if anchor and there.suffix == ".html":
                assert unquote(anchor) in pages[there].anchors, f"{path.name}: {target}"

    assert len(list((site / "systems").glob("*.html"))) == len(MODELS) + 1
    for name in MODELS:
        page = pages[(site / "systems" / f"{name.replace('+', '-plus')}.html").resolve()]
        text = (site / "systems" / f"{name.replace('+', '-plus')}.html").read_text(encoding="utf-8")
        assert page.elements.get("img") and f"rastrum train {name}" in re.sub("<[^>]+>", "", text), name
        assert page.elements.get("math"), name
    commands = pages[(site / "reference" / "commands.html").resolve()]
    assert {f"rastrum-{name}" for name in COMMANDS} <= commands.anchors


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_of_documents_exist(path: Path) -> None:
    """As GitHub follows them."""
    text = re.sub(r"^```.*?^```|`[^`\n]+`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        assert re.match("https?://", target) or (path.parent / target).exists(), target


def test_every_picture_of_the_gallery_is_shown_by_a_document(tools: Any) -> None:
    shown = {picture.file for picture in tools("pictures").find(ROOT)}
    assert shown == {path.name for path in (ROOT / "docs/gallery").iterdir()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("c_t = σ(f)", "<msub><mi>c</mi><mrow><mi>t</mi></mrow></msub><mo>=</mo><mi>σ</mi>(<mi>f</mi>)"),
        ("h_{t−1}", "<msub><mi>h</mi><mrow><mi>t</mi><mo>−</mo><mn>1</mn></mrow></msub>"),
        ("x_<ij", "<msub><mi>x</mi><mrow><mo>&lt;</mo><mi>ij</mi></mrow></msub>"),
        ("Vᵀ h", '<msup><mi>V</mi><mrow><mi>T</mi></mrow></msup><mspace width="0.3em" /><mi>h</mi>'),
        ("g₁ * x̂", '<msub><mi>g</mi><mrow><mn>1</mn></mrow></msub><mo>∗</mo><mover accent="true"><mi>x</mi><mo>^</mo></mover>'),
        ("h'_t", "<msub><msup><mi>h</mi><mo>′</mo></msup><mrow><mi>t</mi></mrow></msub>"),
        ("the left half", "<mtext>the</mtext> <mtext>left</mtext> <mi>half</mi>"),
    ],
)
def test_equations_become_mathml(tools: Any, text: str, expected: str) -> None:
    made = ElementTree.tostring(ElementTree.fromstring(tools("equations").mathml(text)), encoding="unicode")
    plain = re.sub(r'<mo stretchy="false">(.)</mo>', r"\1", made).removeprefix("<math><mrow>").removesuffix("</mrow></math>")
    assert plain == expected.replace("</mtext> <", '</mtext><mspace width="0.3em" /><')


def test_equations_are_told_from_drawings_and_put_in_order(tools: Any) -> None:
    equations = tools("equations")
    block = ["    a = b      (1)      c = d, once      (3)", "    e ~ f      (2)"]
    assert equations.is_equations(block) and not equations.is_equations(["    x ──▶ y = 2 x"]) and not equations.is_equations(["    a b c"])
    assert [(row.equation, row.number) for row in equations.rows(block)] == [("a = b", "(1)"), ("e ~ f", "(2)"), ("c = d, once", "(3)")]
    (row,) = equations.rows(["    gate (section 2):  y = tanh(a)     where it stands"])
    assert (row.label, row.equation, row.remarks) == ("gate (section 2)", "y = tanh(a)", ["where it stands"])


def test_docstrings_become_fields(tools: Any) -> None:
    made = tools("docstrings").fields(
        [
            "Draws *a* few.", "", "    x ─▶ y_t", "", "count, seed: whole,", "    at least 1.", "note: no parameter.", "",
            "Returns `levels`s of", "all.", "Raises ``ValueError`` for 0.",
        ],
        ["count", "seed"],
    )  # fmt: skip
    assert [line for line in made if line] == [
        r"Draws \*a\* few.", ".. code-block:: text", "       x ─▶ y_t", ":param count: whole, at least 1.",
        ":param seed: whole, at least 1.", "note: no parameter.", r":returns: ``levels``\ s of all.", ":raises ValueError: for 0.",
    ]  # fmt: skip
