"""A self-contained HTML page of text, tables and pictures, for light and dark screens and for print.

It loads nothing and has no script. Text is plain: it is escaped, and line breaks in it count as spaces.
"""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image


def text(words: str) -> str:
    return escape(" ".join(words.split()))


@dataclass(frozen=True)
class Picture:
    """A PNG or GIF file with its caption; on paper, or for readers who want no motion, a still frame replaces an animation.

    data: the bytes of the file.
    title: what it shows, in one line.
    text: what a reader should see in it.
    """

    data: bytes
    title: str
    text: str

    def html(self) -> str:
        if self.data.startswith(b"GIF8"):
            shown = self._image("gif", "moving", self.data) + self._image("png", "still", still(self.data))
        else:
            shown = self._image("png", "whole", self.data)
        caption = f"<figcaption><b>{escape(self.title)}.</b> {text(self.text)}</figcaption>"
        return f'<figure><div class="scroll">{shown}</div>{caption}</figure>'

    def _image(self, kind: str, use: str, data: bytes) -> str:
        return f'<img class="{use}" src="data:image/{kind};base64,{b64encode(data).decode()}" alt="{escape(self.title)}">'


def still(animation: bytes) -> bytes:
    """The frame at three fifths of a GIF, as a PNG."""
    with Image.open(io.BytesIO(animation)) as film:
        film.seek(3 * (film.n_frames - 1) // 5)  # pyright: ignore[reportAttributeAccessIssue]
        file = io.BytesIO()
        film.convert("RGB").save(file, "PNG", optimize=True)
    return file.getvalue()


@dataclass(frozen=True)
class Table:
    """A table of text, with right-aligned columns except for the first; strong: indices of the rows that are emphasised."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: str = ""
    strong: Sequence[int] = ()

    def html(self) -> str:
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.head)
        rows = (
            f"<tr{' class=strong' if i in self.strong else ''}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
            for i, row in enumerate(self.rows)
        )
        note = f"<p class=note>{text(self.text)}</p>" if self.text else ""
        return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{note}'


@dataclass(frozen=True)
class Section:
    """A heading, and paragraphs (str), pictures and tables below it."""

    title: str
    parts: Sequence[str | Picture | Table]

    def html(self) -> str:
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
figure img { display: block; margin: 0 auto; max-width: 100%; height: auto; border-radius: .2rem; }
figcaption { margin-top: .75rem; font-size: .925rem; }
figure img.still { display: none; }
@media print, (prefers-reduced-motion: reduce) { figure img.still { display: block; } figure img.moving { display: none; } }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 .5rem; font-variant-numeric: tabular-nums; font-size: .95rem; }
th, td { padding: .4rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
th { font-weight: 600; color: var(--soft); }
.strong td { font-weight: 650; color: var(--mark); }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); }
@media print {
  :root { --paper: #fff; --text: #000; --soft: #444; --line: #ccc; --card: #fff; --mark: #004a80; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  figure, table, tr { break-inside: avoid; } h2 { break-after: avoid; } }
""".strip()


def page(title: str, lead: str, sections: Sequence[Section], footer: Sequence[str] = ()) -> str:
    """The page as HTML text."""
    foot = "".join(f"<p>{text(line)}</p>" for line in footer)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n<header><h1>{escape(title)}</h1>"
        f'<p class="lead">{text(lead)}</p></header>\n<main>\n' + "\n".join(section.html() for section in sections) + "\n</main>\n"
        f"<footer>{foot}</footer>\n</body>\n</html>\n"
    )
