"""A self-contained HTML page of text, tables and pictures, for light and dark screens and for print.

It loads nothing; its one script plays the animations. Text is plain: it is escaped, and line breaks in it count as spaces.
"""

from __future__ import annotations

import io
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image, ImageSequence

from ..pictures import player as players
from ..pictures.player import player


def text(words: str) -> str:
    """``words`` escaped, with single spaces."""
    return escape(" ".join(words.split()))


@dataclass(frozen=True)
class Picture:
    """A picture with its caption: a PNG; a GIF, which gets a player; or a chart in SVG, whose text and lines take the page's colours.

    data: the bytes of the file.
    title: what it shows, in one line.
    text: what a reader should see in it.
    """

    data: bytes
    title: str
    text: str

    def html(self) -> str:
        """The picture as HTML."""
        caption = f"<figcaption><b>{escape(self.title)}.</b> {text(self.text)}</figcaption>"
        return f"<figure>{self._shown()}{caption}</figure>"

    def _shown(self) -> str:
        if self.data.startswith(b"GIF8"):
            frames, fps, hold = film(self.data)
            return player(frames, fps, self.title, hold)
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
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: str = ""
    strong: Sequence[int] = ()

    def html(self) -> str:
        """The table as HTML."""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.head)
        rows = (
            f"<tr{' class=strong' if i in self.strong else ''}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
            for i, row in enumerate(self.rows)
        )
        note = f"<p class=note>{text(self.text)}</p>" if self.text else ""
        return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{note}'


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it.

    title: the heading.
    parts: paragraphs (str), pictures and tables.
    """

    title: str
    parts: Sequence[str | Picture | Table]

    def html(self) -> str:
        """The section as HTML."""
        body = (f"<p>{text(part)}</p>" if isinstance(part, str) else part.html() for part in self.parts)
        return f"<section><h2>{escape(self.title)}</h2>{''.join(body)}</section>"


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
th { font-weight: 600; color: var(--soft); }
.strong td { font-weight: 650; color: var(--mark); }
@media (max-width: 32rem) {
  body { padding: 1.25rem .75rem 2.5rem; }
  figure { margin-inline: -.75rem; padding: .75rem; border-inline: 0; border-radius: 0; }
  table { font-size: .85rem; } th, td { padding: .35rem .3rem; } td:last-child, th:last-child { white-space: normal; } }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); }
@media print {
  :root { --paper: #fff; --text: #000; --soft: #444; --line: #ccc; --card: #fff; --mark: #004a80; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  figure, table, tr { break-inside: avoid; } h2 { break-after: avoid; } }
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
        f"<footer>{foot}</footer>\n<script>\n{players.SCRIPT}\n</script>\n</body>\n</html>\n"
    )
