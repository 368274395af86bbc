"""Pictures to project and to print: sizes, formats, animations, images as files, and walks with their probabilities."""

from __future__ import annotations

import io
import json
import warnings
import xml.etree.ElementTree as ET
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

import rastrum
from rastrum import ImageSpec
from rastrum.cli import main
from rastrum.pictures import decisions, films, formats, images, plots, videos
from rastrum.pictures.page import Page
from rastrum.pictures.sheets import PAPER, RED, _broken, arrange, font, sheet, tiles, titled

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of images of 6x6: two levels, 17, colour, and one that draws strokes."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name, spec in (("two", ImageSpec(1, 6, 6, 2)), ("grey", ImageSpec(1, 6, 6, 17)), ("deep", ImageSpec(1, 4, 4, 65536))):
        model = "pixelcnn" if spec.levels < 257 else "pixelcnn++"
        rastrum.build(model, spec, "tiny").save_pretrained(root / name)
    rastrum.build("pixelcnn", ImageSpec(3, 6, 6, 5), "tiny").save_pretrained(root / "colour")
    rastrum.build("draw", ImageSpec(1, 6, 6, 2), "tiny").save_pretrained(root / "draw")
    return root


def refused(capsys: pytest.CaptureFixture[str], *argv: Any) -> tuple[int, str]:
    """Exit code and the one line of a refusal."""
    capsys.readouterr()
    code = main([*map(str, argv)])
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1, err
    return code, err


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB")).astype(int)


# ── scale, size, title ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_picture_of_a_size_has_it_and_its_pixels_are_squares() -> None:
    """Exactly that size, whatever is in it; images by a whole factor, the largest that fits; the rest is margin."""
    x = torch.rand(6, 1, 5, 7)
    for size in ((400, 300), (301, 777), (1920, 1080)):
        for title in (None, "A title that may need more than one line"):
            page = Page(size=size, title=title)
            scales = []

            def draw(scale: int | None, unit: float | None, scales: list[Any] = scales) -> Image.Image:
                scales.append(scale)
                return sheet(x, 3, scale, ["a", "b"], ["1", "2", "3"], unit)

            made = page.picture(draw, 9)
            assert made.size == size and made.getpixel((0, 0)) == PAPER == made.getpixel((size[0] - 1, size[1] - 1))
            cell = pixels(tiles(x[:1], 1)[0])
            factor = next(scale for scale in sorted(set(scales), reverse=True) if _holds(pixels(made), cell, scale))
            room = min(size[0] / (3 * 7), size[1] / (2 * 5))              # without labels and gutters
            assert 0.5 * room < factor <= room and factor + 1 in scales
    assert Page(size=(500, None)).picture(lambda scale, unit: sheet(x, 3, scale, unit=unit), 9).width == 500


def _holds(page: np.ndarray, cell: np.ndarray, scale: int) -> bool:
    """Whether the page has the cell, enlarged this many times, somewhere."""
    large = cell.repeat(scale, 0).repeat(scale, 1)
    height, width = large.shape[:2]
    where = np.argwhere((page[: len(page) - height + 1, : page.shape[1] - width + 1] == large[0, 0]).all(2))
    return any((page[r : r + height, c : c + width] == large).all() for r, c in where)


def test_everything_grows_with_the_scale() -> None:
    """A sheet at twice the scale is about twice as large, labels and gutters included."""
    x = torch.rand(4, 1, 8, 8)
    small, large = (sheet(x, 2, scale, ["row one", "two"], ["a", "b"]) for scale in (8, 16))
    assert abs(large.width - 2 * small.width) <= 8 and abs(large.height - 2 * small.height) <= 8
    assert sheet(x, 2, 2, ["row one", "two"]).width > 2 * 16 + font(11).getlength("row one")     # never below what can be read


def test_titles_break_and_are_never_cut() -> None:
    picture = arrange([Image.new("RGB", (60, 60))])
    once, twice, word = (titled(picture, text) for text in ("one", "one two three four five six", "incomprehensibilities"))
    assert picture.height < once.height < twice.height and once.width == picture.width
    assert word.width >= font(15).getlength("incomprehensibilities") > picture.width
    assert titled(picture, None) is picture and titled(picture, "  ") is picture
    for made in (once, twice, word):                                      # its ink ends before the border
        ink = (pixels(made) != np.array(PAPER)).any(2)[: made.height - picture.height]
        assert ink.any() and not ink[:, 0].any() and not ink[:, -1].any()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--scale", "2", "--size", "300"], "--scale and --size"),
        (["--size", "1920x"], "--size"),
        (["--size", "0x5"], "--size"),
        (["--scale", "0"], "--scale"),
        (["--size", "20x10"], "too few"),
        (["--size", "10000000x10000000"], "--size"),
        (["--scale", "10000000"], "memory"),
    ],
)
def test_sizes_that_cannot_be_are_one_line(
    flags: list[str], says: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in ("--out", "--trace"):
        path = tmp_path / ("x.png" if out == "--out" else "x.gif")
        code, err = refused(capsys, "sample", folder / "two", out, path, *flags)
        assert code == 2 and says in err and not path.exists()
    if says != "too few":
        assert refused(capsys, "check", "pixelcnn", "--out", tmp_path / "x.png", *flags)[0] == 2


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--size", "20000x100", "--trace", "x.mp4"], "--size: .mp4 files have at most 16384"),
        (["--size", "70000x200", "--trace", "x.gif"], "--size: .gif files have at most 65535"),
        (["--size", "20000", "--out", "x.webp"], "--size: .webp files have at most 16383"),
        (["--count", "999", "--columns", "999", "--out", "x.webp"], ".webp files have at most 16383"),
        (["--fps", "0.001", "--trace", "x.gif"], "--fps: expected 0.1 … 50"),
        (["--fps", "0.0001", "--trace", "x.mp4"], "--fps: expected 0.1 … 50"),
        (["--fps", "inf", "--trace", "x.mp4"], "--fps: expected 0.1 … 50"),
        (["--columns", "0", "--out", "x.png"], "--columns: expected at least 1, got 0"),
        (["--columns", "-1", "--out", "x.png"], "--columns: expected at least 1, got -1"),
        (["--size", "20x10", "--out", "x.png"], "--size: 20x10 points are too few"),
        (["--size", "90x70", "--every", "row", "--trace", "x.gif"], "--size: 90x70 points are too few"),
        (["--size", "200x200", "--title", "x" * 400, "--out", "x.png"], "--title: its 400 letters"),
    ],
)
def test_what_a_file_or_a_page_cannot_hold_is_refused_before_sampling(
    flags: list[str], says: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--every" not in flags:                                            # which asks for the walk, and begins it later
        monkeypatch.setattr(rastrum, "generate", None)
    monkeypatch.chdir(tmp_path)
    code, err = refused(capsys, "sample", folder / "two", *flags)
    assert code == 2 and says in err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("command", "model"), [("complete", "two"), ("reconstruct", "draw")])
def test_pictures_of_own_images_are_refused_before_drawing_too(
    command: str, model: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rastrum.generation.complete_frames", None)
    monkeypatch.setattr(rastrum, "reconstruct", None)
    np.save(tmp_path / "x.npy", np.zeros((3, 6, 6), np.uint8))
    for size in ("--size=40x30", "--size=20000"):
        code, err = refused(capsys, command, folder / model, "--images", tmp_path / "x.npy", size, "--out", tmp_path / "x.webp")
        assert code == 2 and "--size: " in err and not (tmp_path / "x.webp").exists()


def test_long_words_of_titles_are_broken_inside() -> None:
    """After a slash if there is one; nothing is lost, and the page is no wider than without a title."""
    picture, word = Image.new("RGB", (200, 50), PAPER), "/a/path/that/goes/on/" + "x" * 400
    made = titled(picture, word, room=200)
    assert made.width == 200 and made.height > 300
    type_face = font(15)
    pieces = list(_broken([word], lambda text: type_face.getlength(text) <= 150))
    assert "".join(pieces) == word and len(pieces) > 10 and pieces[0].endswith("/")
    assert max(map(type_face.getlength, pieces)) <= 150


def test_flags_of_a_picture_need_one(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "none is asked for" in refused(capsys, "sample", folder / "two", "--title", "x")[1]
    assert "none is asked for" in refused(capsys, "sample", folder / "two", "--size", "300", "--out", tmp_path / "x.npy")[1]
    assert "--trace" in refused(capsys, "sample", folder / "two", "--fps", "3")[1]
    assert "--trace" in refused(capsys, "sample", folder / "two", "--every", "row")[1]


def test_every_command_has_them(folder: Path, tmp_path: Path) -> None:
    """Of the size that is asked for, in every format."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 2, (3, 6, 6)).astype(np.uint8))
    own, size = ["--images", str(tmp_path / "x.npy")], ["--size", "640x480", "--title", "A title"]
    made = tmp_path / "x.png"
    for argv in (
        ["sample", str(folder / "two"), "--count", "3", "--out", str(made)],
        ["complete", str(folder / "two"), *own, "--count", "2", "--num-samples", "2", "--out", str(made)],
        ["reconstruct", str(folder / "draw"), *own, "--count", "1", "--out", str(made)],
        ["score", str(folder / "two"), *own, "--surprise", str(made)],
        ["check", "pixelcnn", "--height", "3", "--width", "3", "--out", str(made)],
        ["check", str(folder / "two"), "--weights", *own, "--out", str(made)],
    ):
        for ending in (".png", ".webp", ".svg", ".pdf"):
            path = made.with_suffix(ending)
            assert main([*(str(path) if word == str(made) else word for word in argv), *size]) == 0
            if ending in (".png", ".webp"):
                with Image.open(path) as picture:
                    assert picture.size == (640, 480), argv
            elif ending == ".svg":
                root = ET.fromstring(path.read_text("utf-8"))
                assert (root.get("width"), root.get("height")) == ("640pt", "480pt")
            else:
                assert b"/MediaBox [ 0 0 640 480 ]" in path.read_bytes()
    assert main(["figures", str(folder / "two"), *own, "--count", "3", "--out", str(tmp_path / "f"), "--format", "webp", *size]) == 0
    drawn = sorted((tmp_path / "f").iterdir())
    assert [path.name for path in drawn] == ["completions.webp", "context.webp", "samples.webp", "surprise.webp"]
    assert {Image.open(path).size for path in drawn} == {(640, 480)}


# ── formats ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def curve() -> Any:
    return plots.learning_curve({f"run {i} with a name": ([1, 2, 3], [3.0, 2.0, 1.0 + i]) for i in range(3)})


def test_a_plot_as_vectors_has_text_fonts_and_no_date() -> None:
    """The same bytes each time; text that can be searched; fonts inside a PDF; nothing lossy."""
    svg, pdf = (Page(title="My title").encode_figure(curve(), ending) for ending in (".svg", ".pdf"))
    root = ET.fromstring(svg)
    assert {"My title", "run 2 with a name", "bits/dim"} <= {"".join(text.itertext()) for text in root.iter(f"{SVG}text")}
    assert list(root.iter(f"{SVG}path")) and not list(root.iter(f"{SVG}image"))
    assert svg == Page(title="My title").encode_figure(curve(), ".svg") and b"date" not in svg.lower()
    assert pdf.startswith(b"%PDF") and b"/FontFile2" in pdf and b"CreationDate" not in pdf
    assert pdf == Page(title="My title").encode_figure(curve(), ".pdf")


def test_texts_of_a_plot_are_what_was_written() -> None:
    """No mathematics, no name left out for its first letter, no character that makes a file invalid, no warning of Python."""
    figure = plots.learning_curve({name: ([1, 2, 3], [3.0, 2.0, 1.0]) for name in ("_old", "$5$", "漢")})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = Page(title="$5 and $6_x\x01\ud800").encode_figure(figure, ".svg")
        Page(title="漢字").encode_figure(curve(), ".png")
    texts = {"".join(text.itertext()) for text in ET.fromstring(svg).iter(f"{SVG}text")}
    assert {"$5 and $6_x��", "_old", "$5$", "漢"} <= texts
    assert formats.missing_letters("a漢\n 字b漢") == ["漢", "字"]
    titled(Image.new("RGB", (60, 60)), "a\ud800b")                         # no traceback


def test_letters_that_the_font_lacks_are_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(folder / "two"), "--count", "1", "--out", str(tmp_path / "x.png"), "--title", "漢字 a"]) == 0
    assert capsys.readouterr().err == "--title: the font has no 漢, 字\n"


@pytest.mark.parametrize("ending", [".png", ".pdf"])
def test_a_plot_whose_text_cannot_be_read_is_refused(ending: str) -> None:
    """As sheets are; and on a large page small text becomes as large as a 54th of it where there is room."""
    for draw in (curve, lambda: plots.surprise_map(torch.rand(3, 1, 6, 6), -torch.rand(3, 1, 6, 6))):
        with pytest.raises(formats.SizeError, match="size: 30x20 points are too few"):
            Page(size=(30, 20)).encode_figure(draw(), ending)
    with pytest.raises(formats.SizeError, match="title: its 2000 letters"):
        Page(size=(400, 300), title="long" * 500).encode_figure(curve(), ending)
    figure = plots.surprise_map(torch.rand(32, 1, 6, 6), -torch.rand(32, 1, 6, 6), 11)
    formats.picture_of(figure, (1600, 900))
    assert 8 / 72 * figure.dpi >= 900 / 54 - 0.1


@pytest.mark.parametrize("scaled", [Page(size=(1920, 1080)), Page(size=(240, None)), Page(scale=3)])
def test_a_plot_keeps_its_text_inside_at_every_size(scaled: Page) -> None:
    """No ink at the border, of plots with a legend outside, a colour scale, and images."""
    drawn = {
        "curve": curve, "kl": lambda: plots.kl_plot(torch.rand(4, 12), 2),
        "dependency": lambda: plots.dependency_picture(np.tri(6), (3, 3)),
        "surprise": lambda: plots.surprise_map(torch.rand(3, 1, 6, 6), -torch.rand(3, 1, 6, 6)),
    }  # fmt: skip
    for name, draw in drawn.items():
        page = Page(scaled.scale, scaled.size, "A title above it all")
        picture = Image.open(io.BytesIO(page.encode_figure(draw(), ".png"))).convert("RGB")
        assert scaled.size is None or picture.width == scaled.size[0]
        frame = pixels(picture)
        for edge in (frame[0], frame[-1], frame[:, 0], frame[:, -1]):
            assert (edge > 200).all(), name


def test_images_in_plots_and_pages_stay_crisp() -> None:
    """On pixels: every pixel a square of one size. In a PDF: not as JPEG, and enlarged, so that no viewer blurs them."""
    x = torch.tensor(np.indices((6, 6)).sum(0) % 2.0)[None, None]
    picture = pixels(formats.picture_of(plots.surprise_map(x, -torch.ones(1, 1, 6, 6))))
    rows = np.flatnonzero((picture == 0).all(2).any(1))
    line = picture[rows[3], :, 0]
    inside = np.flatnonzero(line == 0)
    runs = np.diff(np.flatnonzero(np.diff(line[inside[0] - 1 : inside[-1] + 2])))
    assert len(set(runs.tolist())) == 1 and runs[0] >= 8
    for ending in (".pdf", ".svg"):
        data = Page().encode(lambda scale, unit: sheet(torch.rand(4, 3, 6, 6), 2, scale, unit=unit), 10, ending)
        assert b"DCTDecode" not in data and b"image/jpeg" not in data
    made = formats.encode(sheet(x, 1, 4), ".webp")
    assert (pixels(Image.open(io.BytesIO(made))) == pixels(sheet(x, 1, 4))).all()


# ── animations ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def moving(count: int, size: tuple[int, int] = (60, 41)) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (count, 5, 6, 3)).astype(np.uint8)
    return [Image.fromarray(block).resize(size, Image.Resampling.NEAREST) for block in blocks]


@pytest.mark.parametrize("count", [1, 2, 9])
def test_webp_is_lossless_and_has_its_times(count: int) -> None:
    frames = [*moving(count), *moving(count)[-1:]]                        # the last twice, which is one frame of both times
    film = Image.open(io.BytesIO(films.encode_animation(frames, 10, 1.5, ".webp")))
    assert getattr(film, "n_frames", 1) == count and film.size == (60, 41)
    times, decoded = [], []
    for frame in ImageSequence.Iterator(film):
        decoded.append(frame.convert("RGB").copy())
        times.append(frame.info.get("duration"))
    assert all((pixels(a) == pixels(b)).all() for a, b in zip(decoded, frames, strict=False))
    if count > 1:
        assert film.info["loop"] == 0 and times == [100] * (count - 1) + [1600]


@pytest.mark.parametrize("count", [1, 9])
def test_mp4_plays_everywhere(count: int) -> None:
    """H.264, yuv420p, even sides, the rate and length that were asked for, and the colours within a tolerance."""
    av = pytest.importorskip("av")
    frames = moving(count, (120, 81))
    data = films.encode_animation(frames, 10, 1.0, ".mp4")
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        decoded = list(container.decode(video=0))
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p" and stream.average_rate == 10
    assert (decoded[0].width, decoded[0].height) == (120, 82) and len(decoded) == count + 9
    assert data[4:8] == b"ftyp"
    for made, frame in zip(decoded, frames, strict=False):
        shown = made.to_ndarray(format="rgb24").astype(int)[:81]
        middle = np.ix_(range(8, 81, 16), range(10, 120, 20))             # of the blocks: chroma has half the resolution
        assert abs(shown[middle] - pixels(frame)[middle]).max() <= 12


@pytest.mark.parametrize("ending", [".gif", ".webp", ".mp4"])
def test_slow_and_still_animations_have_their_times(ending: str) -> None:
    """Also where many frames are the same for longer than a file can say of one; other numbers are one line."""
    if ending == ".mp4":
        av = pytest.importorskip("av")
        with av.open(io.BytesIO(films.encode_animation(moving(2), 0.1, 12, ending))) as container:
            stream = container.streams.video[0]
            assert stream.average_rate == Fraction(1, 10) and float(stream.duration * stream.time_base) == 30
    else:
        film = Image.open(io.BytesIO(films.encode_animation(moving(1) * 100 + moving(2), 0.1, 600, ending)))
        times = [frame.convert("RGB") and frame.info["duration"] for frame in ImageSequence.Iterator(film)]
        assert sum(times) == 101 * 10_000 + 600_000 and max(times) <= 655_350
    for wrong in ({"fps": 0.001}, {"fps": float("nan")}, {"hold": float("inf")}, {"hold": 1e9}, {"hold": -1.0}):
        with pytest.raises(ValueError, match="expected"):
            films.encode_animation(moving(2), **wrong, ending=ending)  # pyright: ignore[reportArgumentType]
    side = formats.LONGEST_SIDE[ending] + 1
    with pytest.raises(ValueError, match=f"{ending} files have at most {side - 1} points"):
        films.encode_animation([Image.new("RGB", (side, 1))], ending=ending)


def test_a_video_holds_its_last_frame_where_it_does_not_repeat(tmp_path: Path) -> None:
    pytest.importorskip("av")
    assert videos.last_hold("x.mp4", 5) == 2 and videos.last_hold("x.gif", 5) == 0.2
    videos.save_video(moving(8), tmp_path / "x.mp4")
    with __import__("av").open(str(tmp_path / "x.mp4")) as container:
        assert len(list(container.decode(video=0))) == 7 + 10


def test_gif_keeps_backgrounds_where_there_are_too_many_colours() -> None:
    rng, frames = np.random.default_rng(0), []
    for i in range(3):
        frame = np.full((40, 40, 3), PAPER, np.uint8)
        frame[10 + i : 30, 5:35] = rng.integers(0, 256, (20 - i, 30, 1))
        frame[:, 0] = np.arange(40)[:, None] * np.array([6, 1, 3])
        frames.append(Image.fromarray(frame))
    film = Image.open(io.BytesIO(films.encode_animation(frames)))
    for i, frame in enumerate(frames):
        film.seek(i)
        shown = pixels(film)
        assert (shown[:9, 5:] == PAPER).all() and abs(shown - pixels(frame)).max() <= 10


def test_gif_tints_nothing() -> None:
    """Pale colours that are near each other, as strokes have them, keep their hue where there are more than 255."""
    strength = np.linspace(0, 1, 400)[:, None]
    ramps = [255 + strength * (np.array(colour) - 255) for colour in ((0, 98, 170), (213, 94, 0), (0, 0, 0))]
    frame = Image.fromarray(np.rint(np.stack(ramps, 1)).astype(np.uint8))
    assert len(np.unique(pixels(frame).reshape(-1, 3), axis=0)) > 600
    shown = pixels(Image.open(io.BytesIO(films.encode_animation([frame]))))
    assert abs(shown - pixels(frame)).max() <= 6


def test_without_the_encoder_it_is_said_before_anything_is_drawn(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    monkeypatch.setattr(rastrum, "generate", None)
    code, err = refused(capsys, "sample", folder / "two", "--trace", tmp_path / "x.mp4")
    assert code == 1 and "pip install av" in err and not list(tmp_path.iterdir())


def test_an_mp4_of_a_walk_has_the_size_that_was_asked_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    av = pytest.importorskip("av")
    path, size = tmp_path / "x.mp4", ["--size", "320x180"]
    assert main(["sample", str(folder / "two"), "--count", "2", "--every", "pixel", "--trace", str(path), "--fps", "25", *size]) == 0
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    assert (decoded[0].width, decoded[0].height, len(decoded)) == (320, 180, 37 + 49)
    code, err = refused(capsys, "sample", folder / "two", "--trace", path, "--size", "321x180")
    assert code == 2 and "even" in err


# ── images as files ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("levels", [2, 3, 17, 255, 256, 257, 4096, 65536])
def test_a_folder_of_images_is_read_as_it_was_written(levels: int, channels: int, tmp_path: Path) -> None:
    """Every level survives, at its own size; a viewer sees black and white at the ends of the range."""
    from rastrum.config import DataOptions
    from rastrum.data.dataset import load_dataset

    spec = ImageSpec(channels, 16, 24, levels)
    x = torch.from_numpy(np.random.default_rng(0).integers(0, levels, (11, *spec.shape)))
    x[0].view(-1)[:2] = torch.tensor([0, levels - 1])
    names = images.save_folder(x, spec, tmp_path / "x")
    assert names == [f"{i:02}.png" for i in range(11)] and sorted(path.name for path in (tmp_path / "x").iterdir()) == names
    options = DataOptions(levels=levels, colour=channels == 3)
    assert torch.equal(load_dataset(f"folder:{tmp_path / 'x'}", "all", options).images.long(), x)
    with Image.open(tmp_path / "x" / "00.png") as picture:
        wanted = {1: "1" if levels == 2 else "L" if levels <= 256 else "I;16", 3: "RGB"}
        assert picture.mode == wanted[channels] and picture.size == (24, 16)
        low, high = np.asarray(picture).reshape(16, 24, -1)[0, :2, 0].astype(int)
        assert low == 0 and high == {"1": 1, "L": 255, "RGB": 255, "I;16": 65535}[picture.mode]


@pytest.mark.parametrize("name", ["two", "grey", "colour", "deep"])
def test_samples_as_array_and_folder_are_the_same_images(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, spec = str(folder / name), rastrum.load(str(folder / name)).spec
    assert main(["sample", model, "--count", "3", "--out", str(tmp_path / "x.npy")]) == 0
    values = np.load(tmp_path / "x.npy")
    assert values.shape == (3, *spec.shape) and values.dtype == (np.uint8 if spec.levels <= 256 else np.uint16)
    assert (values == rastrum.sample(rastrum.load(model), 3).numpy()).all()
    assert main(["sample", model, "--count", "3", "--out", f"{tmp_path}/new.d/"]) == 0
    found = {}
    for source in ("x.npy", "new.d"):
        capsys.readouterr()
        assert main(["score", model, "--images", str(tmp_path / source), "--json"]) == 0
        found[source] = json.loads(capsys.readouterr().out)["nats"]
    assert found["x.npy"] == found["new.d"]


def test_nothing_in_a_folder_is_replaced(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["sample", str(folder / "two"), "--count", "2", "--out", str(tmp_path)]) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == ["0.png", "1.png", "notes.txt"]
    code, err = refused(capsys, "sample", folder / "two", "--count", 3, "--seed", 1, "--out", tmp_path)
    assert code == 2 and "0.png" in err and {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert "no folder" in refused(capsys, "sample", folder / "two", "--out", tmp_path / "no" / "such/")[1]


def test_completions_and_reconstructions_are_images_too(folder: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 2, (3, 6, 6)).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    own = ["--images", str(tmp_path / "x.npy"), "--count", "3"]
    assert main(["complete", str(folder / "two"), *own, "--num-samples", "2", "--out", str(tmp_path / "c.npy")]) == 0
    drawn = np.load(tmp_path / "c.npy")
    assert drawn.shape == (6, 1, 6, 6) and (drawn[::2, 0, :3] == x[:, :3]).all() and (drawn[1::2, 0, :3] == x[:, :3]).all()
    assert main(["reconstruct", str(folder / "draw"), *own, "--out", str(tmp_path / "r/")]) == 0
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == ["0.png", "1.png", "2.png"]


# ── walks with their probabilities ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("name", ["two", "grey", "colour"])
def test_a_watched_walk_draws_the_same_images_from_the_models_conditionals(name: str, temperature: float, folder: Path) -> None:
    """Its values are those of ``sample``; its probabilities those of one forward pass over the finished images."""
    model: Any = rastrum.load(str(folder / name)).eval()
    frames = list(rastrum.generate(model, 3, temperature=temperature, seed=5, probabilities=True))
    values = frames[-1].values
    assert values is not None and torch.equal(values, rastrum.sample(model, 3, temperature=temperature, seed=5).long())
    with torch.no_grad():
        log_pmf = model.distribution(values).log_pmf()
        expected = (log_pmf / temperature).softmax(-1).flatten(1, -2)
    assert len(frames) == model.spec.size + 1
    for t, frame in enumerate(frames[1:]):
        index = frame.info["decision"]
        assert index == int(model.order[t]) and torch.equal(frame.info["drawn"], values.flatten(1)[:, index])
        torch.testing.assert_close(frame.info["probabilities"].clone(), expected[:, index], atol=1e-5, rtol=1e-4)


def test_moments_are_before_the_decision_and_group_the_channels(folder: Path) -> None:
    model: Any = rastrum.load(str(folder / "colour")).eval()

    def seen(every: Any) -> list[decisions.Moment]:
        return list(decisions.moments(rastrum.generate(model, 2, probabilities=True), model.spec, every))

    pixel, row, five, one = seen("pixel"), seen("row"), seen(5), seen(1)
    assert (len(pixel), len(row), len(five), len(one)) == (37, 7, 23, 109)
    assert [moment.at and moment.at[0] for moment in row] == [*range(6), None] and pixel[-1].at is None
    final = pixel[-1].images
    for i, moment in enumerate(pixel[:-1]):
        assert [channel for channel, *_ in moment.chances] == [0, 1, 2] and moment.at == divmod(i, 6)
        assert moment.known.sum() == 2 * 3 * i and (moment.images[~torch.from_numpy(moment.known)] == 0).all()
        drawn = np.stack([values for *_, values in moment.chances], 1) / 4
        assert np.allclose(drawn, final[:, :, i // 6, i % 6])


def test_rows_show_their_least_certain_pixel_and_the_end_keeps_its_bars(folder: Path) -> None:
    model: Any = rastrum.load(str(folder / "colour")).eval()

    def seen(every: Any) -> list[decisions.Moment]:
        return list(decisions.moments(rastrum.generate(model, 2, probabilities=True), model.spec, every))

    def entropy(moment: decisions.Moment) -> float:
        return -sum((p * np.log(p)).sum(1).mean() for _, p, _ in moment.chances)

    pixel, row = seen("pixel"), seen("row")
    for r, moment in enumerate(row[:-1]):
        best = max(pixel[6 * r : 6 * r + 6], key=entropy)
        assert moment.at == best.at and len(moment.chances) == 3 and (moment.known == best.known).all()
    for walk in (pixel, row):
        assert walk[-1].at is None and walk[-1].known.all() and walk[-1].chances is walk[-2].chances


@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (1, 256), (3, 17)])
def test_headings_of_bars_end_before_the_next_image(channels: int, levels: int) -> None:
    """The longest heading there is, at every scale: no ink in the last units of the panel."""
    spec = ImageSpec(channels, 6, 6, levels)
    chances = np.full((1, levels), 1e-5)
    chances[0, -1] = 1 - 1e-5 * (levels - 1) if levels == 2 else 0.9995
    drawn = [(channel, chances, np.array([levels - 1])) for channel in range(channels)]
    moment = decisions.Moment(torch.zeros(1, *spec.shape), np.zeros((1, *spec.shape), bool), (1, 2), drawn)
    for scale, unit in ((1, 1.0), (3, 2.0), (32, 1.0)):
        page = pixels(decisions.decision_sheet(moment, spec, 1, scale, unit))
        blank = decisions.blank_decisions(spec, 1, 1, scale, unit)
        assert page.shape[:2] == (blank.height, blank.width)
        assert (page[:, -round(5 * unit) :] == PAPER).all()


def test_grids_with_bars_are_the_most_legible(tmp_path: Path) -> None:
    """Also of models of classes and of completions, which have columns of their own without bars."""
    spec = ImageSpec(1, 28, 28, 2)
    page, usual = Page(size=(1920, 1080)), decisions.usual_scale(spec)

    def draw(columns: int, scale: int | None, unit: float | None) -> Image.Image:
        return decisions.blank_decisions(spec, 12, columns, scale, unit)

    assert page.grid(draw, 12, usual) == 3 and Page().grid(draw, 12, usual) is None
    torch.manual_seed(0)
    classes = rastrum.build("pixelcnn", ImageSpec(1, 8, 8, 2), "tiny", rastrum.ConditionSpec("class", 10))
    classes.save_pretrained(tmp_path / "classes")
    path, size = tmp_path / "x.webp", ["--size", "1280x720", "--every", "row"]
    assert main(["sample", str(tmp_path / "classes"), "--count", "12", "--trace", str(path), *size]) == 0
    columns = {"sample": _outlines(path)}
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8), np.uint8))
    own = ["--images", str(tmp_path / "x.npy"), "--class", "3", "--num-samples", "8"]
    assert main(["complete", str(tmp_path / "classes"), *own, "--trace", str(path), *size]) == 0
    columns["complete"] = _outlines(path)
    assert columns == {"sample": 3, "complete": 2}


def _outlines(path: Path) -> int:
    """Columns of images, by the distinct places of the next pixel's red frame, which is taller than a letter's strokes are long."""
    with Image.open(path) as film:
        film.seek(1)
        shown = pixels(film)
    red = (shown == RED).all(2)
    hatched = (shown == (208, 213, 219)).all(2).any(0)                    # where images are
    edges = np.diff(np.concatenate([[0], (np.convolve(hatched, np.ones(31), "same") > 0).astype(int), [0]]))
    assert red.any()
    return int((edges == 1).sum())


def test_bars_have_the_height_of_their_probabilities() -> None:
    """Two levels: the bar of the value drawn is red, the other is not, and their heights are as their probabilities."""
    spec, images_so_far = ImageSpec(1, 4, 4, 2), torch.zeros(1, 1, 4, 4)
    known = np.zeros((1, 1, 4, 4), bool)
    chances = np.array([[0.25, 0.75]])
    for drawn in (0, 1):
        moment = decisions.Moment(images_so_far, known, (1, 2), [(0, chances, np.array([drawn]))])
        page = pixels(decisions.decision_sheet(moment, spec, scale=40))
        right = page[:, 170:]
        red = (right == RED).all(2)
        blue = (right == (0, 98, 170)).all(2)
        tall, short = (red, blue) if drawn else (blue, red)
        heights = [mask[:, np.argmax(mask[120:].sum(0))][20:].sum() for mask in (tall, short)]
        assert heights[0] / heights[1] == pytest.approx(3, rel=0.15)
        outline = (page[:, :162] == RED).all(2)
        rows, columns = np.nonzero(outline)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2 + 40, 2 + 79, 2 + 80, 2 + 119)


def test_every_on_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.gif"

    def frames(name: str, *flags: str) -> int:
        capsys.readouterr()
        assert main(["sample", str(folder / name), "--count", "2", "--trace", str(path), *flags]) == 0
        with Image.open(path) as film:
            return getattr(film, "n_frames", 1)

    assert frames("grey", "--every", "pixel") == 37 and frames("grey", "--every", "row") == 7 and frames("colour", "--every", "9") == 13
    assert frames("draw", "--every", "pixel") > 1 and "stroke by stroke" in capsys.readouterr().err
    assert frames("deep", "--every", "row") > 1 and "256 levels" in capsys.readouterr().err
    assert main(["sample", str(folder / "two"), "--count", "17", "--every", "row", "--trace", str(path)]) == 0
    assert "up to 16 images" in capsys.readouterr().err
    for text in ("column", "0", "-1"):
        assert refused(capsys, "sample", folder / "two", "--trace", path, f"--every={text}")[0] == 2
    np.save(tmp_path / "x.npy", np.zeros((1, 6, 6), np.uint8))
    own = ["--images", str(tmp_path / "x.npy"), "--num-samples", "2", "--every", "pixel"]
    assert main(["complete", str(folder / "two"), *own, "--trace", str(path)]) == 0
    with Image.open(path) as film:
        assert getattr(film, "n_frames", 1) == 18 + 1                     # the known half is there from the beginning
