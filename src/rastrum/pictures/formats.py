"""Pictures as files: PNG, WebP, SVG and PDF, chosen by the ending of a name; written whole or not at all.

A drawing is a picture made of pixels, or a figure of matplotlib, which becomes pixels or stays vectors. In SVG and PDF images keep square
pixels: they are embedded enlarged, so that no viewer blurs them. Text stays text: SVG names the font and substitutes of the same kind, PDF
embeds it as TrueType. The same drawing gives the same bytes on every day.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
SMALL_TEXT = 8                 # points, of a plot
LINES_OF_A_PAGE = 54           # heights of small text along the shorter side of a page, at most, where there is room
SMALLER_TEXT = 0.7, 0.5        # how much the text of a plot may shrink, where there is no other way
SMALLEST_AXES = 0.6, 0.2       # inches beside text in its own size, of axes and of images
TITLE_TEXT = 13                # points
LONGEST_SIDE = {".webp": 16383, ".gif": 65535, ".mp4": 16384}      # pixels that a file can have on a side
UNFIT = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\ufffe\\uffff]")      # what no file of text may hold
PIXELS = "pixels"              # gid of axes that show an image
STYLE: Any = {"svg.hashsalt": "rastrum", "svg.fonttype": "none", "pdf.fonttype": 42,
         "font.sans-serif": ["DejaVu Sans", "Bitstream Vera Sans", "Verdana", "Arial", "Helvetica", "sans-serif"]}  # fmt: skip


def readable(text: str) -> str:
    """A text in which every character can be drawn and written: those that control something, and halves of characters, become �.

    text: of a title, a label or a legend.
    """
    return UNFIT.sub("\ufffd", text)


def missing_letters(text: str) -> list[str]:
    """The characters that the font of all pictures does not have, each once.

    text: of a title, a label or a legend.
    """
    from matplotlib import get_data_path
    from matplotlib.font_manager import get_font

    font = get_font(str(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf")))
    return [letter for letter in dict.fromkeys(readable(text)) if not letter.isspace() and not font.get_char_index(ord(letter))]


def picture_of(drawing: Drawing, size: tuple[int, int] | None = None) -> Picture:
    """A drawing as pixels.

    drawing: a picture, which is returned, or a figure.
    size: of a figure, width and height in pixels; its text and lines grow with it. None (default): its own.

    Raises ``SizeError`` for a size at which its text could not be read.
    """
    if isinstance(drawing, Image.Image):
        return drawing
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with _drawn():
        _fit(drawing, size, DPI)
        canvas: Any = FigureCanvasAgg(drawing)
        canvas.draw()
        if _snap(drawing):
            canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


@contextmanager
def _drawn() -> Iterator[None]:
    """The style of all figures; ``missing_letters`` names the characters that matplotlib would warn of."""
    from matplotlib import rc_context

    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def natural_size(figure: Figure, dpi: float = DPI) -> tuple[int, int]:
    """Width and height of a figure as it was drawn, in pixels or points.

    figure: of matplotlib.
    dpi: pixels per inch, 110 by default; ``POINTS`` for a size in points.
    """
    width, height = _inches(figure)
    return round(width * dpi), round(height * dpi)


def _inches(figure: Figure) -> tuple[float, float]:
    """The size that a figure was drawn with, kept when it is first rendered."""
    if not hasattr(figure, "rastrum_inches"):
        width, height = figure.get_size_inches()
        figure.rastrum_inches = float(width), float(height)  # pyright: ignore[reportAttributeAccessIssue]
    return figure.rastrum_inches  # pyright: ignore[reportAttributeAccessIssue]


def _fit(figure: Figure, size: tuple[float, float] | None, dpi: float) -> float:
    """Lays a figure out for a page, with text as large as a page of a given size needs if there is room; returns its enlargement.

    size: of the page, in 1/dpi inch; None for the figure's own.
    """
    own = tuple(side * dpi for side in _inches(figure))
    width, height = size or (round(own[0]), round(own[1]))
    whole = min(width / own[0], height / own[1])                          # axes and text alike
    large = min(width, height) / (LINES_OF_A_PAGE * SMALL_TEXT / POINTS * dpi)
    zooms = [max(whole, zoom) for zoom in (large, SMALLER_TEXT[0] * large, *SMALLER_TEXT) if zoom >= SMALLER_TEXT[1]]
    if figure.get_layout_engine() is None or size is None:                # axes have their places, and text shrinks with them
        zooms = [whole] if whole >= SMALLER_TEXT[1] else []
    for zoom in zooms:
        figure.set_size_inches((width + 1e-6) / (dpi * zoom), (height + 1e-6) / (dpi * zoom))     # the canvas cuts off fractions of a pixel
        figure.set_dpi(dpi * zoom)
        _arrange_legends(figure)
        if figure.get_suptitle():
            _write_title(figure, figure.get_suptitle())
        if len(zooms) == 1 or _has_room(figure):
            return zoom
    raise SizeError(f"size: {width:g}x{height:g} points are too few for the text of the plot, whose own size is {own[0]:.0f}x{own[1]:.0f}")


def _has_room(figure: Figure) -> bool:
    """Whether text leaves room for the axes, and is inside the page."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "constrained_layout not applied")
        try:
            figure.draw_without_rendering()
        except UserWarning:
            return False
    (left, bottom), (right, top) = figure.get_tightbbox().get_points()
    width, height = figure.get_size_inches()
    if min(left, bottom, width - right, height - top) < -0.01:
        return False
    shown = [axis for axis in figure.axes if (axis.axison or axis.get_gid() == PIXELS) and axis.get_label() != "<colorbar>"]
    sides = [(min(axis.get_window_extent().size) / figure.dpi, axis.get_gid() == PIXELS) for axis in shown]
    return all(side >= SMALLEST_AXES[image] for side, image in sides)


def entitle(figure: Figure, title: str) -> None:
    """Writes a title above all of a figure, which becomes higher.

    figure: not rendered yet.
    title: broken into lines where it is too long.
    """
    width, height = map(float, figure.get_size_inches())
    room = 0.25 * len(_title_lines(title, width)) + 0.1
    figure.set_size_inches(width, height + room)
    _arrange_legends(figure, "outside lower left")                        # above stands the title
    _write_title(figure, title)
    if figure.get_layout_engine() is None:
        bottom, top = (getattr(figure.subplotpars, edge) * height / (height + room) for edge in ("bottom", "top"))
        figure.subplots_adjust(bottom=bottom, top=top)


def _title_lines(title: str, inches: float) -> list[str]:
    return wrap(readable(title), max(10, round(9 * inches)))


def _write_title(figure: Figure, title: str) -> None:
    """The title, in lines as long as the figure is wide now."""
    width, height = map(float, figure.get_size_inches())
    text = "\n".join(_title_lines(title, width))
    figure.suptitle(text, fontsize=TITLE_TEXT, parse_math=False, y=None if figure.get_layout_engine() else 1 - 0.06 / height)


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
    legend = figure.legend(handles, ["?"] * len(labels), **how, ncols=[*fits, 1][0], frameon=False, fontsize=9)
    for text, label in zip(legend.get_texts(), labels, strict=True):      # as it is: some versions leave out what begins with _
        text.set(parse_math=False, text=readable(label))
    legend.set_gid(place)


def _arrange_legends(figure: Figure, place: str | None = None) -> None:
    """Gives each legend that is outside the axes the columns that fit now; place: where it goes; None (default): where it is."""
    for legend in list(figure.legends):
        handles, labels = [each for each in legend.legend_handles if each is not None], [text.get_text() for text in legend.get_texts()]
        legend.remove()
        legend_outside(figure, handles, labels, place or str(legend.get_gid()))


def _snap(figure: Figure) -> bool:
    """Move the axes that show images to whole pixels, each pixel of the image a whole number of them; whether there are any."""
    (left, bottom), (right, top) = figure.get_tightbbox().get_points()
    width, height = figure.get_size_inches()
    if min(left, bottom, width - right, height - top) < -0.01:
        return False
    shown = [axis for axis in figure.axes if axis.get_gid() == PIXELS and axis.images and axis.get_aspect() != "auto"]
    if not shown:
        return False
    figure.set_layout_engine("none")
    for axis in shown:
        whole = axis.figure.bbox                                          # of the part of the figure that the axes are in, if it has parts
        box, (left, right, bottom, top) = axis.get_window_extent(), axis.images[0].get_extent()
        columns, rows = abs(right - left), abs(top - bottom)
        factor = math.floor(min(box.width / columns, box.height / rows) + 1e-6)
        if factor >= 1:
            width, height = factor * columns, factor * rows
            x, y = round((box.x0 + box.x1 - width) / 2), round((box.y0 + box.y1 - height) / 2)
            axis.set_position(((x - whole.x0) / whole.width, (y - whole.y0) / whole.height, width / whole.width, height / whole.height))
    return True


# ── bytes ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def encode_picture(drawing: Drawing) -> bytes:
    """The bytes of a PNG file.

    drawing: a picture or a figure.
    """
    return encode(drawing, ".png")


def encode(drawing: Drawing, ending: str, size: tuple[float, float] | None = None) -> bytes:
    """A picture or a figure as the bytes of a file.

    drawing: what is shown.
    ending: ".png", ".webp" (lossless), ".svg" or ".pdf".
    size: width and height, of a figure in pixels or points, of a page that shows a picture in points; None (default): its own.

    Raises ``ValueError`` for another ending, and for a picture that is too large for it.
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
        check_sides(ending, picture.size)
        picture.save(file, "WEBP", lossless=True, quality=80, exact=True)
    return file.getvalue()


class SizeError(ValueError):
    """A picture cannot have the size or the rate that was asked for. The message begins with the parameter to change: size, title, fps."""


def check_sides(ending: str, size: tuple[int, int | None], what: str = "picture") -> None:
    """Check that a file can have a picture of this size.

    ending: of the file.
    size: width and height in pixels; a height of None is not known yet.
    what: how the message begins, "picture" by default.

    Raises ``ValueError`` for a side that is too long.
    """
    most = LONGEST_SIDE.get(ending)
    if most is not None and max(side or 0 for side in size) > most:
        text, way = "x".join(str(side) for side in size if side), "write a .png, or " if ending == ".webp" else ""
        raise ValueError(f"{what}: {ending} files have at most {most} points on a side, got {text}; {way}ask for less")


def _vector(drawing: Drawing, ending: str, size: tuple[float, float] | None) -> bytes:
    with _drawn():
        if isinstance(drawing, Image.Image):
            figure, zoom, (width, height) = _page_of(drawing, size), 1.0, size or drawing.size
        else:
            figure, zoom, (width, height) = drawing, _fit(drawing, size, POINTS), size or natural_size(drawing, POINTS)
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
