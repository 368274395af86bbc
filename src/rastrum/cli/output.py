"""What every command that makes pictures shares: how large they are, their titles, what kinds of files there are, and writing them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from tyro.conf import arg

from .show import check_suffix, messages

if TYPE_CHECKING:
    from torch import Tensor

    from ..pictures.decisions import Every
    from ..pictures.formats import Drawing, Picture
    from ..pictures.page import Draw, Page
    from ..protocol import ImageSpec

PICTURES, ANIMATIONS = (".png", ".webp", ".svg", ".pdf"), (".gif", ".webp", ".mp4")     # as pictures/ has them, which loads slowly
SECONDS, FRAMES_PER_SECOND = 20, 30      # that an animation of many frames takes, as far as so many frames per second allow

Out: TypeAlias = Annotated[Path | None, arg(metavar="X.png", help="write the picture here: .png, .webp, .svg or .pdf")]
ImagesOut: TypeAlias = Annotated[
    str | None, arg(metavar="X.png", help="write the picture here: .png, .webp, .svg or .pdf; or the images themselves: levels as an array "
                                          "X.npy, or FOLDER/, a PNG of each at its own size, which --images reads again")
]  # fmt: skip
Trace: TypeAlias = Annotated[Path | None, arg(metavar="X.gif", help="write an animation of the walk here: .gif, .webp or .mp4")]
EveryFlag: TypeAlias = Annotated[
    str | None, arg(metavar="pixel|row|N", help="of the animation: a frame per pixel, row (its least certain pixel) or N decisions, with "
                                                "the probabilities of the value that is drawn beside each image; default: a frame per "
                                                "row, without")
]  # fmt: skip
Fps: TypeAlias = Annotated[
    float | None, arg(metavar="RATE", help="frames per second of the animation, 0.1 to 50; default: 5 for videos, 6 for reconstructions, "
                                           "else 8, and more for long ones")
]  # fmt: skip


@dataclass(frozen=True)
class PageFlags:
    """How large the picture and the animation are, and their title."""

    scale: Annotated[int | None, arg(metavar="N", help="points along a pixel of an image, a whole number; of a plot: how many times its "
                                                       "usual size; default: small pictures")] = None
    size: Annotated[str | None, arg(metavar="WIDTH[xHEIGHT]", help="points of the whole picture, such as 1920x1080 for a projector: images "
                                                                   "are enlarged by a whole factor as far as they fit, labels with "
                                                                   "them")] = None
    title: Annotated[str | None, arg(metavar="TEXT", help="above the picture")] = None

    def page(self) -> Page:
        """The same for pictures; a line names characters of the title that cannot be drawn.

        Raises ``ValueError`` for flags that exclude each other, or are no sizes.
        """
        from ..pictures.page import Page

        if self.scale is not None and self.size is not None:
            raise ValueError("--scale and --size: each says how large the picture is; give one of the two")
        if self.scale is not None and self.scale < 1:
            raise ValueError(f"--scale: expected a whole number of at least 1, got {self.scale}")
        size = None
        if self.size is not None:
            found = re.fullmatch(r"([0-9]{1,18})(?:[x×]([0-9]{1,18}))?", self.size.strip().lower())
            sides = [int(side) for side in found.groups() if side is not None] if found else []
            if not sides or min(sides) < 1:
                raise ValueError(f"--size: expected WIDTH or WIDTHxHEIGHT in points, such as 1920x1080, got {self.size!r}")
            size = sides[0], sides[1] if len(sides) > 1 else None
        if self.title:
            name_missing_letters("--title", self.title)
        return Page(self.scale, size, self.title)


Look: TypeAlias = Annotated[PageFlags, arg(name="")]
AS_USUAL = PageFlags()


def name_missing_letters(what: str, text: str) -> None:
    """Say in a line which characters of a text are drawn as boxes.

    what: how the line begins.
    text: that is written into a picture.
    """
    from ..pictures.formats import missing_letters

    missing = missing_letters(text)
    if missing:
        messages.print(f"{what}: the font has no {', '.join(missing)}")


def is_folder(out: str | Path | None) -> bool:
    """Whether a folder is named: by a slash at the end, one that is there, or no ending; not by the ending of a picture.

    out: the flag; None for none, which is no folder.
    """
    if out is None:
        return False
    path, slash = Path(out), str(out).endswith(("/", os.sep))
    return slash or (path.suffix.lower() not in (*PICTURES, ".npy") and (path.is_dir() or (not path.suffix and not path.exists())))


def check_size(path: Path, page: Page) -> None:
    """Check the flag --size before any work.

    path: of the picture.
    page: how large it is.

    Raises ``ValueError`` for a size that no such file has.
    """
    from ..pictures.formats import check_sides

    if page.size is not None:
        check_sides(path.suffix.lower(), page.size, "--size")


def check_fit(path: str | Path | None, page: Page, draw: Draw, usual: int) -> None:
    """Refuse a picture that its page or its file cannot hold, before its images are drawn.

    path: of the file; None, a folder or an array for none.
    page, draw, usual: as for ``Page.check_fit``.
    """
    if path is not None and not is_folder(path) and Path(path).suffix.lower() != ".npy":
        with named():
            page.check_fit(draw, usual, Path(path).suffix.lower())


def check_images_out(out: str | None, page: Page) -> None:
    """Check the flag --out of images before any work.

    out: the flag.
    page: how large a picture is.

    Raises ``ValueError`` for a name that nothing can be written to, or a size that no such file has.
    """
    if out is None:
        return
    path = Path(out)
    if not is_folder(out):
        check_suffix("--out", path, *PICTURES, ".npy")
        check_size(path, page)
    elif not path.parent.is_dir():
        raise ValueError(f"--out: there is no folder {str(path.parent)!r}")


def check_look(look: PageFlags, *files: str | Path | None) -> None:
    """Check that flags of a picture have one to be for.

    look: the flags.
    files: that are asked for, or None.

    Raises ``ValueError`` where none of the files is a picture or an animation.
    """
    if look != AS_USUAL and not any(Path(file).suffix.lower() in (*PICTURES, *ANIMATIONS) for file in files if file is not None):
        raise ValueError("--scale, --size and --title: they are for a picture or an animation, and none is asked for")


def check_out(flag: str, out: Path | None) -> None:
    """Check the name of a picture before any work.

    flag: that named it, for messages.
    out: the file; None for none.

    Raises ``ValueError`` for another ending, and for a folder that is not there.
    """
    check_suffix(flag, out, *PICTURES)


def check_trace(trace: Path | None, fps: float | None, every: str | None = None, page: Page | None = None) -> None:
    """Check the flags of an animation before any work.

    trace: its file; None for none.
    fps, every: the flags.
    page: how large it is.

    Raises ``ValueError`` for a name or a flag that does not do, ``ImportError`` where a package is missing that it needs.
    """
    from ..pictures.films import check_rate, require_encoder

    check_suffix("--trace", trace, *ANIMATIONS)
    for flag, value in (("--fps", fps), ("--every", every)):
        if value is not None and trace is None:
            raise ValueError(f"{flag}: it is for an animation; give --trace X.gif, .webp or .mp4")
    if trace is None:
        return
    if fps is not None:
        with named():
            check_rate(fps, 0)
    require_encoder(trace.suffix.lower())
    if page is not None:
        check_size(trace, page)
    if trace.suffix.lower() == ".mp4" and page is not None and page.size is not None and any((side or 0) % 2 for side in page.size):
        raise ValueError(f"--size: the sides of an .mp4 are even, got {'x'.join(str(side) for side in page.size if side)}")


def check_folder(out: str | None, spec: ImageSpec) -> None:
    """Check the folder of --out before any work, if it is one.

    out: the flag.
    spec: of the images.

    Raises ``ValueError`` for images there already, or channels of no PNG.
    """
    if is_folder(out):
        from ..pictures.images import check_folder

        try:
            check_folder(Path(str(out)), spec)
        except ValueError as error:
            raise ValueError(f"--out: {error}") from None


def save_images(out: str, page: Page, draw: Draw, usual: int, levels: Callable[[], Tensor], spec: ImageSpec) -> None:
    """Write what --out of images asks for.

    out: the flag.
    page, draw, usual: the picture, as for ``Page.encode``.
    levels: gives the images themselves, (N, *spec.shape).
    spec: of the images.
    """
    from ..files import write_files
    from ..pictures.images import encode_array, save_folder

    path = Path(out)
    if is_folder(out):
        save_folder(levels(), spec, path)
    elif path.suffix.lower() == ".npy":
        write_files(path.parent, {path.name: encode_array(levels(), spec)})
    else:
        save_sheet(path, page, draw, usual)


def save_sheet(path: Path, page: Page, draw: Draw, usual: int) -> None:
    """Write a sheet.

    path: of the file.
    page, draw, usual: as for ``Page.encode``.
    """
    from ..files import write_files

    with named():
        write_files(path.parent, {path.name: page.encode(draw, usual, path.suffix.lower())})


def save_figure(path: Path, page: Page, figure: Drawing) -> None:
    """Write a figure of matplotlib.

    path: of the file.
    page, figure: as for ``Page.encode_figure``.
    """
    from ..files import write_files

    with named():
        write_files(path.parent, {path.name: page.encode_figure(figure, path.suffix.lower())})


def save_film(path: Path, pictures: Iterable[Picture], fps: float, hold: float = 2.0) -> None:
    """Write an animation.

    path: of the file.
    pictures, fps, hold: as for ``save_animation``.
    """
    from ..pictures.films import save_animation

    with named():
        save_animation(pictures, path, fps, hold)


@contextmanager
def named() -> Iterator[None]:
    """Meanwhile an error about the size or the rate of a picture names the flag, not the parameter."""
    from ..pictures.formats import SizeError

    try:
        yield
    except SizeError as error:
        raise ValueError(f"--{error}") from None


def rate_of(frames: float, fps: float | None) -> float:
    """Frames per second of an animation of a walk.

    frames: how many it has.
    fps: the flag --fps; None: 8, and more where they would take long.
    """
    return fps if fps is not None else min(FRAMES_PER_SECOND, max(8.0, frames / SECONDS))


def every_of(every: str | None) -> Every | None:
    """The flag --every as ``moments`` takes it.

    every: the flag; None for none.

    Raises ``ValueError`` for another text.
    """
    if every is None or every == "pixel" or every == "row":
        return every
    if not every.isdecimal() or int(every) < 1:
        raise ValueError(f"--every: expected pixel, row, or a number of decisions of at least 1, got {every!r}")
    return int(every)


def keep_last(frames: Iterator[Any], kept: list[Any]) -> Iterator[Any]:
    """The same frames.

    frames: of a walk.
    kept: a list, in which the last of them is afterwards the only one.
    """
    for frame in frames:
        kept[:] = [frame]
        yield frame
