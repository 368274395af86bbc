"""Equations as the files of the models write them, in plain text, as MathML: no script and no font has to be loaded.

    c_t = c_{t−1} + write(h_dec)          (8)      ──▶      rows of  <math>…</math>, its number, and what is said beside it

Columns are separated by three spaces or more. What holds a relation (=, ~, ←) is an equation; (8) is its number; anything else is a remark.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape

DRAWING = re.compile("[─│▶◀▲▼╲╱┌┐└┘├┤┬┴]")
RELATION = re.compile(r"[=~←∝]")
NUMBER = re.compile(r"\((?:equations? )?\d+[^()]{0,12}\)")

SUBSCRIPTS, SUPERSCRIPTS = "₀₁₂₃₄₅₆₇₈₉", {"ᵀ": "T", "²": "2", "³": "3", "ⁿ": "n"}
TOKEN = re.compile(
    r"""(?P<code>``[^`]+``)
      | (?P<word>[A-Za-z]{2,}(?:['-][A-Za-z]+)+|[a-z]{2,}(?=\ [a-z]{2,}))     # words of a remark, not factors
      | (?P<name>[^\W\d_₀-₉ᵀ²³ⁿ]+[\u0302\u0303]?)
      | (?P<figures>\d+(?:\.\d+)?|½)
      | (?P<low>_(?:\{[^{}]*\}|<?\w[^\W_]*)|[₀-₉]+)
      | (?P<high>\^(?:\{[^{}]*\}|[^\W_]+)|[ᵀ²³ⁿ'])
      | (?P<space>\s+)
      | (?P<other>.)""",
    re.VERBOSE,
)
OPERATORS = {"*": "∗", "-": "−", "'": "′"}


@dataclass
class Row:
    """An equation with its number and what is said beside it."""

    equation: str = ""
    number: str = ""
    label: str = ""
    remarks: list[str] = field(default_factory=list)


def is_equations(block: list[str]) -> bool:
    """Whether an indented block of a model's file is equations; else it is a drawing.

    block: its lines.
    """
    return not any(map(DRAWING.search, block)) and any(map(RELATION.search, block))


def rows(block: list[str]) -> list[Row]:
    """The equations of a block, by their number where each has one.

    block: its lines.
    """
    found: list[Row] = []
    for line in block:
        row, text = Row(), line.strip()
        if start := re.match(rf"({NUMBER.pattern})\s{{2,}}", text):
            row.number, text = start[1], text[start.end() :]
        if start := re.match(r"([A-Za-z][^=~]*?):\s{2,}", text):
            row.label, text = start[1], text[start.end() :]
        line_rows = [row]
        for part in re.split(r"\s{3,}", text):
            if NUMBER.fullmatch(part):
                line_rows[-1].number = part
            elif not RELATION.search(part):
                line_rows[-1].remarks.append(part)
            elif line_rows[-1].equation:
                line_rows.append(Row(part))
            else:
                line_rows[-1].equation = part
        found += line_rows
    numbers = [re.fullmatch(r"\((\d+).*\)", row.number) for row in found]
    if all(numbers):
        found.sort(key=lambda row: int(re.findall(r"\d+", row.number)[0]))
    return found


def mathml(text: str) -> str:
    """An equation as a MathML element.

    text: such as "h_t = σ(o) ⊙ tanh(c_t)".
    """
    return f"<math>{_row(text)}</math>"


def _row(text: str) -> str:
    parts: list[str] = []
    spaced = False                                                        # before this token
    operand = False                                                       # the last part is one
    for match in TOKEN.finditer(text):
        kind, token = match.lastgroup, match[0]
        if kind == "space":
            spaced = True
            continue
        if kind in ("low", "high") and parts:
            inner = token.strip("_^").removeprefix("{").removesuffix("}") if len(token) > 1 else SUPERSCRIPTS.get(token, "′")
            inner = inner.translate({ord(small): str(value) for value, small in enumerate(SUBSCRIPTS)})
            if token in SUBSCRIPTS:
                inner = str(SUBSCRIPTS.index(token))
            tag, script = "msub" if kind == "low" else "msup", _row(inner) if inner != "′" else "<mo>′</mo>"
            parts[-1] = f"<{tag}>{parts[-1]}{script}</{tag}>"
        else:
            element, is_operand = _element(kind, token)
            if operand and is_operand and spaced:
                parts.append('<mspace width="0.3em"/>')                   # a product, or the next word
            parts.append(element)
            operand = is_operand
        spaced = False
    return f"<mrow>{''.join(parts)}</mrow>"


def _element(kind: str | None, token: str) -> tuple[str, bool]:
    """A token as an element, and whether it is an operand."""
    if kind == "code":
        return f"<mtext>{escape(token.strip('`'))}</mtext>", True
    if kind == "word":
        return f"<mtext>{escape(token)}</mtext>", True
    if kind == "figures":
        return f"<mn>{token}</mn>", True
    if kind == "name" and token not in ("Σ", "Π"):
        if token[-1] in "\u0302\u0303":
            return f'<mover accent="true"><mi>{token[:-1]}</mi><mo>{"^" if token[-1] == chr(0x302) else "~"}</mo></mover>', True
        return f"<mi>{token}</mi>", True
    if token in "()[]{}⟨⟩|‖":
        return f'<mo stretchy="false">{token}</mo>', False
    return f"<mo>{escape({'Σ': '∑', 'Π': '∏'}.get(token, OPERATORS.get(token, token)))}</mo>", False


def html(block: list[str]) -> str:
    """The equations of a block as lines of a page.

    block: its lines.
    """
    lines = []
    for row in rows(block):
        label = f'<span class="label">{_prose(row.label)}:</span>' if row.label else ""
        remarks = "".join(f'<span class="remark">{_prose(remark)}</span>' for remark in row.remarks)
        equation = mathml(row.equation) if row.equation else ""
        lines.append(f'<div class="equation">{label}{equation}{remarks}<span class="number">{escape(row.number)}</span></div>')
    return '<div class="equations">' + "".join(lines) + "</div>"


def _prose(text: str) -> str:
    return re.sub(r"``([^`]+)``", r"<code>\1</code>", escape(text))
