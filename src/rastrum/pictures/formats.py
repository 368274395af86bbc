"""Pictures as files: PNG, WebP, SVG and PDF, chosen by the ending of a name; written whole or not at all.

A drawing is a picture made of pixels, or a figure of matplotlib, which becomes pixels or stays vectors. In SVG and PDF images keep square
pixels: they are embedded enlarged, so that no viewer blurs them. Text stays text: SVG names the font and substitutes of the same kind, PDF
embeds it as TrueType. The same drawing gives the same bytes on every day.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from ..files import write_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture = Image.Image
Drawing: TypeAlias = "Picture | Figure"

PICTURES = (".png", ".webp", ".svg", ".pdf")
VECTORS = (".svg", ".pdf")
DPI, POINTS = 110, 72          # of a figure as pixels, and points of an inch
SMALLEST_TEXT = 0.7            # the text of a plot without images is not made smaller than this on paper; below, its axes have less room
TITLE_TEXT = 13                # points
WEBP_SIDE = 16383              # pixels
PIXELS = "pixels"              # gid of axes that show an image
STYLE: Any = {"svg.hashsalt": "rastrum", "svg.fonttype": "none", "pdf.fonttype": 42,
         "font.sans-serif": ["DejaVu Sans", "Bitstream Vera Sans", "Verdana", "Arial", "Helvetica", "sans-serif"]}  # fmt: skip


def picture_of(drawing: Drawing, size: tuple[int, int] | None = None) -> Picture:
    """A drawing as pixels.

    drawing: a picture, which is returned, or a figure.
    size: of a figure, width and height in pixels; its text and lines grow with it. None (default): its own.
    """
    if isinstance(drawing, Image.Image):
        return drawing
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with rc_context(STYLE):
        width, height = size or natural_size(drawing)
        zoom = _reshape(drawing, width, height, DPI)
        drawing.set_dpi(DPI * zoom)
        canvas: Any = FigureCanvasAgg(drawing)
        canvas.draw()
        if _snap(drawing):
            canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def natural_size(figure: Figure, dpi: float = DPI) -> tuple[int, int]:
    """Width and height of a figure as it was drawn, in pixels, or with ``dpi`` = ``POINTS`` in points.

    figure: of matplotlib.
    """
    width, height = _inches(figure)
    return round(width * dpi), round(height * dpi)


def _inches(figure: Figure) -> tuple[float, float]:
    """The size that a figure was drawn with, kept when it is first rendered."""
    if not hasattr(figure, "rastrum_inches"):
        width, height = figure.get_size_inches()
        figure.rastrum_inches = float(width), float(height)  # pyright: ignore[reportAttributeAccessIssue]
    return figure.rastrum_inches  # pyright: ignore[reportAttributeAccessIssue]


def _reshape(figure: Figure, width: float, height: float, dpi: float) -> float:
    """Gives a figure the proportions of a page; returns how many times it is then to be enlarged.

    width, height: of the page, in 1/dpi inch.
    """
    own = _inches(figure)
    zoom = min(width / (own[0] * dpi), height / (own[1] * dpi))
    if dpi == POINTS and not any(axis.get_gid() == PIXELS for axis in figure.axes):
        zoom = max(zoom, SMALLEST_TEXT)
    figure.set_size_inches((width + 1e-6) / (dpi * zoom), (height + 1e-6) / (dpi * zoom))   # the canvas cuts off fractions of a pixel
    _arrange_legends(figure)
    return zoom


def entitle(figure: Figure, title: str) -> None:
    """Writes a title above all of a figure, which becomes higher.

    figure: not rendered yet.
    title: broken into lines where it is too long.
    """
    width, height = map(float, figure.get_size_inches())
    lines = wrap(title, max(10, round(9 * width)))
    room = 0.25 * len(lines) + 0.1
    figure.set_size_inches(width, height + room)
    _arrange_legends(figure, "outside lower left")                        # above stands the title
    figure.suptitle("\n".join(lines), fontsize=TITLE_TEXT, y=None if figure.get_layout_engine() else 1 - 0.06 / (height + room))
    if figure.get_layout_engine() is None:
        bottom, top = (getattr(figure.subplotpars, edge) * height / (height + room) for edge in ("bottom", "top"))
        figure.subplots_adjust(bottom=bottom, top=top)


def legend_outside(figure: Figure, handles: Sequence[Any], labels: Sequence[str], place: str = "outside upper left") -> None:
    """A legend outside the axes, in up to three columns, as far as its longest entries fit: about 13 characters per inch, of which a line
    and its gap take 8.

    figure: that gets it.
    handles, labels: its entries.
    place: where it is, as matplotlib names it.
    """
    inches = figure.get_size_inches()[0]
    fits = [n for n in (3, 2) if sum(max(map(len, part), default=0) + 8 for part in np.array_split(labels, n)) <= 13.4 * inches]
    how: Any = {"loc": place}
    legend = figure.legend(handles, labels, **how, ncols=[*fits, 1][0], frameon=False, fontsize=9)
    legend.set_gid(place)


def _arrange_legends(figure: Figure, place: str | None = None) -> None:
    """Gives each legend that is outside the axes the columns that fit now; place: where it goes; None (default): where it is."""
    for legend in list(figure.legends):
        handles, labels = [each for each in legend.legend_handles if each is not None], [text.get_text() for text in legend.get_texts()]
        legend.remove()
        legend_outside(figure, handles, labels, place or str(legend.get_gid()))


def _snap(figure: Figure) -> bool:
    """Move the axes that show images to whole pixels, each pixel of the image a whole number of them; whether there are any."""
    shown = [axis for axis in figure.axes if axis.get_gid() == PIXELS and axis.images and axis.get_aspect() != "auto"]
    if not shown:
        return False
    figure.set_layout_engine("none")
    wide, high = figure.bbox.width, figure.bbox.height
    for axis in shown:
        box, (left, right, bottom, top) = axis.get_window_extent(), axis.images[0].get_extent()
        columns, rows = abs(right - left), abs(top - bottom)
        factor = math.floor(min(box.width / columns, box.height / rows) + 1e-6)
        if factor >= 1:
            width, height = factor * columns, factor * rows
            x, y = round((box.x0 + box.x1 - width) / 2), round((box.y0 + box.y1 - height) / 2)
            axis.set_position((x / wide, y / high, width / wide, height / high))
    return True


# ── bytes ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def encode_picture(drawing: Drawing) -> bytes:
    """A picture or a figure as the bytes of a PNG file."""
    return encode(drawing, ".png")


def encode(drawing: Drawing, ending: str, size: tuple[float, float] | None = None) -> bytes:
    """A picture or a figure as the bytes of a file.

    drawing: what is shown.
    ending: ".png", ".webp" (lossless), ".svg" or ".pdf".
    size: width and height, of a figure in pixels or points, of a page that shows a picture in points; None (default): its own.

    Raises ``ValueError`` for another ending, and for a picture that is too large for WebP.
    """
    if ending not in PICTURES:
        raise ValueError(f"picture: expected a name that ends in {' or '.join(PICTURES)}, got {ending!r}")
    if ending in VECTORS:
        return _vector(drawing, ending, size)
    picture = picture_of(drawing, None if size is None else (round(size[0]), round(size[1])))
    file = io.BytesIO()
    if ending == ".png":
        picture.save(file, "PNG", optimize=True)
    else:
        check_webp(picture.size)
        picture.save(file, "WEBP", lossless=True, quality=80, exact=True)
    return file.getvalue()


def check_webp(size: tuple[int, int]) -> None:
    """Raises ``ValueError`` for a ``size``, width and height, that WebP cannot have."""
    if max(size) > WEBP_SIDE:
        raise ValueError(f"picture: WebP has at most {WEBP_SIDE} pixels on a side, got {size[0]}x{size[1]}; write a .png or ask for fewer")


def _vector(drawing: Drawing, ending: str, size: tuple[float, float] | None) -> bytes:
    from matplotlib import rc_context

    with rc_context(STYLE):
        figure = _page_of(drawing, size) if isinstance(drawing, Image.Image) else drawing
        width, height = size or tuple(side * POINTS for side in _inches(figure))
        zoom = 1.0 if isinstance(drawing, Image.Image) else _reshape(figure, width, height, POINTS)
        figure.set_dpi(POINTS)
        return _svg(figure, width, height) if ending == ".svg" else _pdf(figure, width, height, zoom)


def _page_of(picture: Picture, size: tuple[float, float] | None) -> Figure:
    """A page that a picture fills."""
    from matplotlib.figure import Figure

    width, height = size or picture.size
    figure = Figure(figsize=(width / POINTS, height / POINTS), dpi=POINTS)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    axis.imshow(np.asarray(picture.convert("RGB")), interpolation="none", aspect="auto")
    return figure


def _svg(figure: Figure, width: float, height: float) -> bytes:
    """The figure in its own units, shown at this size in points: the viewBox is what scales it."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    file = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": "Rastrum"})
    sides = iter((("width", width), ("height", height)))

    def side(_: re.Match[str]) -> str:
        name, points = next(sides)
        return f'{name}="{points:g}pt"'

    text = file.getvalue().decode().replace(f' id="{PIXELS}"', "")        # a mark of several axes, which is not a name
    return re.sub(r'\b(width|height)="[0-9.]+pt"', side, text, count=2).encode()


def _pdf(figure: Figure, width: float, height: float, zoom: float) -> bytes:
    """The figure, enlarged, on a page of this size in points."""
    from matplotlib.backends.backend_pdf import FigureCanvasPdf, Op, PdfFile, RendererPdf

    file = io.BytesIO()
    facts: Any = {"CreationDate": None, "Creator": "Rastrum"}
    if zoom == 1:
        FigureCanvasPdf(figure).print_pdf(file, metadata=facts)
        return file.getvalue()
    FigureCanvasPdf(figure)
    document = PdfFile(file, metadata=facts)
    document.newPage(width / POINTS, height / POINTS)
    document.output(zoom, 0, 0, zoom, 0, 0, Op.concat_matrix)
    inches = figure.get_size_inches()
    renderer = RendererPdf(document, POINTS, inches[1], inches[0])
    figure.draw(renderer)
    renderer.finalize()
    document.finalize()
    document.close()
    return file.getvalue()


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_picture(path: str | Path, ending: str | tuple[str, ...], data: bytes) -> None:
    """Writes the whole file or nothing.

    path: of the file.
    ending: that its name must have, such as ".png"; or several.
    data: its bytes.

    Raises ``ValueError`` for a name with another ending, ``OSError`` where writing fails.
    """
    path = check_ending(path, ending)[0]
    write_files(path.parent, {path.name: data})


def check_ending(path: str | Path, ending: str | tuple[str, ...]) -> tuple[Path, str]:
    """A path and its ending in lower case.

    path: of the file.
    ending: that it may have, or several.

    Raises ``ValueError`` for another.
    """
    path, endings = Path(path), (ending,) if isinstance(ending, str) else ending
    if path.suffix.lower() not in endings:
        raise ValueError(f"picture: expected a name that ends in {' or '.join(endings)}, got {str(path)!r}")
    return path, path.suffix.lower()


def save_picture(drawing: Drawing, path: str | Path, size: tuple[float, float] | None = None) -> None:
    """Writes a picture or a figure.

    drawing: what is written.
    path: ends in .png, .webp, .svg or .pdf, else ``ValueError``.
    size: as for ``encode``.
    """
    path, ending = check_ending(path, PICTURES)
    write_picture(path, ending, encode(drawing, ending, size))
