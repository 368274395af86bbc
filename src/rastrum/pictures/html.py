"""A self-contained HTML page of text, tables and pictures, for light and dark screens and for print.

It loads nothing; its scripts play the animations and copy commands. Text is plain: it is escaped, and line breaks in it count as spaces.
"""

from __future__ import annotations

import io
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image, ImageSequence

from . import player as players
from .player import player


def text(words: str) -> str:
    """``words`` escaped, with single spaces."""
    return escape(" ".join(words.split()))


@dataclass(frozen=True)
class Picture:
    """A picture with its caption: a PNG; a GIF, which gets a player; or a chart in SVG, whose text and lines take the page's colours.

    data: the bytes of the file.
    title: what it shows, in one line.
    text: what a reader should see in it.
    dark: for an SVG in colours of its own, the same for dark screens; None (default) for the other kinds.
    """

    data: bytes
    title: str
    text: str
    dark: bytes | None = None

    def html(self) -> str:
        """The picture as HTML."""
        caption = f"<figcaption><b>{escape(self.title)}.</b> {text(self.text)}</figcaption>"
        return f"<figure>{self._shown()}{caption}</figure>"

    def _shown(self) -> str:
        if self.data.startswith(b"GIF8"):
            frames, fps, hold = film(self.data)
            return player(frames, fps, self.title, hold)
        if self.dark is not None:
            light, dark = (f"data:image/svg+xml;base64,{b64encode(each).decode()}" for each in (self.data, self.dark))
            source = f'<source srcset="{dark}" media="(prefers-color-scheme: dark)">'
            return f'<picture>{source}<img src="{light}" alt="{escape(self.title)}"></picture>'
        if b"<svg" in self.data[:1000]:
            return chart(self.data.decode(), self.title)
        return f'<img src="data:image/png;base64,{b64encode(self.data).decode()}" alt="{escape(self.title)}">'


def film(animation: bytes) -> tuple[list[Image.Image], float, float]:
    """The frames of an animation, how many of them are shown in a second, and how many seconds the last one stays.

    animation: bytes of a GIF, in which equal frames in a row are one that stays longer.
    """
    with Image.open(io.BytesIO(animation)) as opened:
        found = [(frame.convert("RGB"), frame.info["duration"]) for frame in ImageSequence.Iterator(opened)]
    step = min(duration for _, duration in found)
    frames = [frame for frame, duration in found[:-1] for _ in range(round(duration / step))]
    return [*frames, found[-1][0]], 1000 / step, found[-1][1] / 1000


# Colours of a chart, and what stands for them on the page, which may be light or dark.
CHART_COLOURS = {"#ffffff": "none", "#000000": "currentColor", "#0062aa": "var(--mark)", "#868e96": "var(--soft)", "#495057": "var(--soft)",
                 "#b0b0b0": "var(--line)"}  # fmt: skip


def chart(svg: str, title: str) -> str:
    """A chart as part of the page.

    svg: as ``pictures.formats`` writes it.
    title: what it shows, for readers who cannot see it.
    """
    drawn = re.sub(r"<metadata>.*?</metadata>| xmlns(:xlink)?=\"[^\"]*\"|<!--.*?-->", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for colour, of_page in CHART_COLOURS.items():
        drawn = drawn.replace(colour, of_page)
    name = re.sub(r"\W+", "-", title.lower())                             # two charts on a page have the same names of their parts
    drawn = re.sub(r'( id="|url\(#|href="#)', rf"\1{name}-", drawn)
    return drawn.replace("<svg", f'<svg class="chart" role="img" aria-label="{escape(title)}"', 1)


@dataclass(frozen=True)
class Table:
    """A table of text, its columns right-aligned but for the first.

    head: cells of the first row.
    rows: cells of the other rows.
    text: a note below the table, none by default.
    strong: numbers of the rows that are emphasised, none by default.
    links: whether the first column leads to the sections of these titles; False by default.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: str = ""
    strong: Sequence[int] = ()
    links: bool = False

    def html(self) -> str:
        """The table as HTML."""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.head)
        rows = (
            f"<tr{' class=strong' if i in self.strong else ''}>{''.join(f'<td>{cell}</td>' for cell in self._cells(row))}</tr>"
            for i, row in enumerate(self.rows)
        )
        note = f"<p class=note>{text(self.text)}</p>" if self.text else ""
        return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{note}'

    def _cells(self, row: Sequence[str]) -> list[str]:
        first, *rest = map(escape, row)
        return [f'<a href="#{anchor(row[0])}">{first}</a>' if self.links else first, *rest]


@dataclass(frozen=True)
class Facts:
    """Names and what they are, a line each. rows: text by name; "" is left out."""

    rows: Mapping[str, str]

    def html(self) -> str:
        """The list as HTML."""
        return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{text(value)}</dd>' for name, value in self.rows.items() if value)}</dl>"


@dataclass(frozen=True)
class Code:
    """Lines to type, with a button that copies them. lines: of commands or of Python."""

    lines: Sequence[str]

    def html(self) -> str:
        """The lines as HTML."""
        listed = escape("\n".join(self.lines))
        return f'<div class="code"><pre tabindex="0"><code>{listed}</code></pre><button type="button" hidden>Copy</button></div>'


def anchor(title: str) -> str:
    """What a link to the section of a ``title`` is called."""
    return re.sub(r"\W+", "-", title.lower()).strip("-")


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it.

    title: the heading.
    parts: paragraphs (str), pictures, tables, facts and lines of code.
    """

    title: str
    parts: Sequence[str | Picture | Table | Facts | Code]

    def html(self) -> str:
        """The section as HTML."""
        body = (f"<p>{text(part)}</p>" if isinstance(part, str) else part.html() for part in self.parts)
        return f'<section id="{anchor(self.title)}"><h2>{escape(self.title)}</h2>{"".join(body)}</section>'


STYLE = """
:root { color-scheme: light dark; --paper: #fff; --text: #212529; --soft: #5c636a; --line: #dee2e6; --card: #f8f9fa; --mark: #0062aa; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181b; --text: #e6e8ea; --soft: #a3abb3; --line: #343a40; --card: #1d2125; --mark: #6cb6f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 52rem; background: var(--paper); color: var(--text);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 2.75rem 0 .6rem; }
p { margin: .6rem 0; }
.lead { font-size: 1.1rem; color: var(--soft); }
.note, footer { font-size: .875rem; color: var(--soft); }
.scroll { overflow-x: auto; }
figure { margin: 1.25rem 0; padding: 1rem; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
figure img, figure .chart { display: block; width: 100%; height: auto; border-radius: .2rem; }
.chart text { fill: currentColor; }
figcaption { margin-top: .75rem; font-size: .925rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 .5rem; font-variant-numeric: tabular-nums; font-size: .95rem; }
th, td { padding: .4rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
td:first-child:has(> a) { white-space: nowrap; } td:has(> a) ~ td { white-space: normal; }
th { font-weight: 600; color: var(--soft); }
a { color: var(--mark); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 1rem 0; font-size: .95rem; }
dt { color: var(--soft); } dd { margin: 0; }
.code { position: relative; margin: 1rem 0; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
pre { margin: 0; padding: .8rem 1rem; overflow-x: auto; }
code { font: .875rem/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.code button { position: absolute; top: .4rem; right: .4rem; font: inherit; font-size: .8rem; padding: .15rem .6rem; color: inherit;
  background: var(--paper); border: 1px solid var(--line); border-radius: .35rem; cursor: pointer; }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }
.strong td { font-weight: 650; color: var(--mark); }
@media (max-width: 32rem) {
  body { padding: 1.25rem .75rem 2.5rem; }
  figure { margin-inline: -.75rem; padding: .75rem; border-inline: 0; border-radius: 0; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .4rem; }
  table { font-size: .85rem; } th, td { padding: .35rem .3rem; }
  td:last-child, th:last-child, td:first-child:has(> a) { white-space: normal; } }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); }
@media print {
  :root { --paper: #fff; --text: #000; --soft: #444; --line: #ccc; --card: #fff; --mark: #004a80; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  figure, table, tr { break-inside: avoid; } h2 { break-after: avoid; } .code button { display: none; } pre { white-space: pre-wrap; } }
""".strip()

# Without a clipboard (a page from another machine without TLS) the lines are selected instead.
COPY = """
for (const code of document.querySelectorAll(".code")) {
  const [lines, button] = code.children;
  button.hidden = false;
  button.onclick = async () => {
    try { await navigator.clipboard.writeText(lines.textContent); button.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(lines); button.textContent = "Selected"; }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
}
""".strip()


def page(title: str, lead: str, sections: Sequence[Section], footer: Sequence[str] = ()) -> str:
    """The page as HTML text.

    title: heading of the page.
    lead: a sentence below it.
    sections: in order.
    footer: paragraphs at the end, none by default.
    """
    foot = "".join(f"<p>{text(line)}</p>" for line in footer)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}\n{players.STYLE}\n</style>\n</head>\n<body>\n<header><h1>{escape(title)}</h1>"
        f'<p class="lead">{text(lead)}</p></header>\n<main>\n' + "\n".join(section.html() for section in sections) + "\n</main>\n"
        f"<footer>{foot}</footer>\n<script>\n{players.SCRIPT}\n{COPY}\n</script>\n</body>\n</html>\n"
    )
