"""Pictures: pixels are where they should be, colours mean what they should, files are complete or absent."""

import base64
import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

import rastrum
from rastrum import Frame, ImageSpec
from rastrum.pictures import animations, formats, plots
from rastrum.pictures import sheets as pictures
from rastrum.pictures.player import player_html


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def frames_of(data: bytes) -> list[Image.Image]:
    return [frame.convert("RGB") for frame in ImageSequence.Iterator(Image.open(io.BytesIO(data)))]


@settings(max_examples=30)
@given(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(1, 7))
def test_a_sheet_holds_every_pixel_as_a_square(n, channels, height, width, scale, columns):
    """Cell i is image i, enlarged by repetition, at row i // columns and column i % columns, whatever the sizes."""
    x = torch.rand(n, channels, height, width)
    page = pixels(pictures.sheet(x, columns, scale))
    for i in range(n):
        r, c = divmod(i, min(columns, n))
        top, left = (pictures.GUTTER + k * (side * scale + pictures.GUTTER) for k, side in ((r, height), (c, width)))
        cell = page[top : top + height * scale, left : left + width * scale]
        expected = np.rint(x[i].numpy() * 255).astype(int).transpose(1, 2, 0).repeat(scale, 0).repeat(scale, 1)
        assert (cell == expected).all()


def test_labels_make_room_and_move_nothing_else():
    """The labelled sheet ends in the same cells as the bare one."""
    x = torch.rand(6, 1, 4, 5)
    bare, labelled = pixels(pictures.sheet(x, 3, 8)), pixels(pictures.sheet(x, 3, 8, ["one", "two"], list("abc")))
    assert labelled.shape > bare.shape
    assert (labelled[-bare.shape[0] + 2 :, -bare.shape[1] + 2 :] == bare[2:, 2:]).all()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: pictures.sheet(torch.rand(4, 8, 8)), r"\(4, 8, 8\)"),
        (lambda: pictures.sheet(torch.rand(4, 2, 8, 8)), r"\(4, 2, 8, 8\)"),
        (lambda: pictures.sheet(torch.rand(0, 1, 8, 8)), r"\(0, 1, 8, 8\)"),
        (lambda: pictures.sheet(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)), "uint8"),
        (lambda: pictures.sheet(torch.full((1, 1, 8, 8), 1.5)), "1.5"),
        (lambda: pictures.sheet(torch.full((1, 1, 8, 8), math.nan)), "nan"),
        (lambda: pictures.sheet(torch.rand(1, 1, 8, 8), scale=0), "scale.*0"),
        (lambda: pictures.sheet(torch.rand(1, 1, 8, 8), columns=0), "columns.*0"),
        (lambda: pictures.sheet(torch.rand(4, 1, 8, 8), 2, row_labels=["one"]), "row_labels: expected 2, got 1"),
        (lambda: pictures.sheet(np.array([[["a"]]])), "array of numbers"),
        (lambda: pictures.tiles(torch.rand(2, 1, 8, 8), known=torch.ones(8, 8)), "bool"),
        (lambda: pictures.tiles(torch.rand(2, 1, 8, 8), known=torch.ones(7, 8, dtype=torch.bool)), r"\(7, 8\)"),
        (lambda: pictures.completion_sheet(torch.rand(2, 1, 8, 8), np.ones((8, 8), bool), torch.rand(3, 1, 8, 8)), r"\(3, 1, 8, 8\)"),
        (lambda: pictures.draw_window(Image.new("RGB", (8, 8)), [1, 2, 3], 1), r"\[1.0, 2.0, 3.0\]"),
        (lambda: pictures.draw_window(Image.new("RGB", (8, 8)), [1, 2, 3, math.inf], 1), "inf"),
        (lambda: pictures.signed_strokes(torch.rand(8, 8)), r"\(8, 8\)"),
        (lambda: animations.frame_sheet(Frame(torch.rand(1, 1, 2, 2), None, 0.5), order=torch.arange(3)), r"\(3,\)"),
        (lambda: plots.surprise_map(torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 7)), r"\(2, 1, 8, 7\)"),
        (lambda: pictures.context_picture(np.ones((3, 3), bool), np.ones((3, 4), bool), (0, 0)), r"\(3, 4\)"),
        (lambda: pictures.context_picture(np.ones((3, 3), bool), np.ones((3, 3), bool), (0, 3)), r"\(0, 3\)"),
        (lambda: plots.dependency_picture(-np.ones((3, 3)), (0, 0)), r"\(3, 3\)"),
        (lambda: plots.dependency_picture(np.ones((3, 3)), (0, 0, 0)), r"\(0, 0, 0\)"),
        (lambda: plots.decision_picture(torch.rand(1, 4, 4), torch.ones(4, 4, dtype=torch.bool), (0, 0), torch.ones(3), 3), "level 3"),
        (lambda: plots.learning_curve({"loss": ([1, 2], [1])}), "loss"),
        (lambda: animations.encode_animation([]), "got none"),
        (lambda: animations.encode_animation([Image.new("RGB", (8, 8)), Image.new("RGB", (8, 9))]), r"\(8, 9\)"),
        (lambda: animations.encode_animation([Image.new("RGB", (8, 8))], fps=0), "fps.*0"),
        (lambda: animations.encode_animation([Image.new("RGB", (8, 8))], hold=-1), "hold.*-1"),
        (lambda: pictures.save_picture(Image.new("RGB", (8, 8)), "picture.gif"), "picture.gif"),
        (lambda: animations.save_animation([Image.new("RGB", (8, 8))], "film.png"), "film.png"),
    ],
)
def test_bad_input_is_named(call, named):
    """The message says what was wrong."""
    with pytest.raises(ValueError, match=named):
        call()


def test_unknown_is_hatched_and_known_is_not():
    """Hatching covers exactly the unknown values, in sheets of completions and in unfinished walks."""
    known = torch.tensor([[True, False], [True, True]])
    cell = pixels(pictures.tiles(torch.zeros(1, 1, 2, 2), 12, known)[0])
    hatched = (cell.reshape(2, 12, 2, 12, 3).transpose(0, 2, 1, 3, 4) != 0).any(-1)
    assert hatched.all((2, 3)).tolist() == [[False, True], [False, False]]
    assert not hatched[0, 0].any()
    part = pictures.tiles(torch.zeros(1, 3, 1, 2), 12, torch.tensor([[[True, True]], [[True, False]], [[True, True]]]))
    assert (pixels(part[0])[:, 12:] != 0).all()                           # a pixel with one unknown channel is unknown


def test_a_walk_shows_what_is_decided_in_any_order():
    """The hatching follows the model's order, not the raster."""
    order = torch.tensor([3, 1, 0, 2])
    cell = pixels(animations.frame_tiles(Frame(torch.zeros(1, 1, 2, 2), None, 0.5), 6, order)[0])
    decided = (cell.reshape(2, 6, 2, 6, 3) == 0).all((1, 3, 4))
    assert decided.tolist() == [[False, True], [False, True]]


@settings(max_examples=30)
@given(st.floats(-2, 10), st.floats(-2, 10), st.floats(1, 6), st.floats(1, 6), st.integers(4, 12))
def test_a_window_is_outlined_where_it_is(row, column, height, width, scale):
    """Only the outline is red; for a window inside, its weighted middle is the centre, up to one enlarged pixel."""
    picture = pictures.draw_window(Image.new("RGB", (9 * scale, 8 * scale)), (row, column, height, width), scale)
    red = pixels(picture)[..., 0] / pictures.RED[0]
    low, high = (np.array([row, column]) + 0.5 + sign * np.array([height, width]) / 2 for sign in (-1, 1))
    y, x = np.nonzero(red > 0)
    inside = (low >= 0).all() and (high <= (8, 9)).all()
    if len(y):
        grown = 1 / scale
        assert ((y / scale >= low[0] - grown) & ((y + 1) / scale <= high[0] + grown)).all()
        assert ((x / scale >= low[1] - grown) & ((x + 1) / scale <= high[1] + grown)).all()
    if inside:
        middle = [float((red.sum(1 - axis) * (np.arange(red.shape[axis]) + 0.5)).sum() / red.sum()) / scale for axis in (0, 1)]
        assert abs(np.array(middle) - (low + high) / 2).max() < 1 / scale
        assert red[int((row + 0.5) * scale), int((column + 0.5) * scale)] == 0 or min(height, width) * scale <= 2 * max(1, scale / 5) + 2


def test_a_window_of_one_pixel_lies_on_that_pixel():
    """The centre of the first pixel is (0, 0): the convention of a Frame's window."""
    picture = pixels(pictures.draw_window(Image.new("RGB", (40, 40)), torch.tensor([1.0, 2.0, 1.0, 1.0]), 10))
    y, x = np.nonzero(picture[..., 0])
    assert (y.min(), y.max(), x.min(), x.max()) == (10, 19, 20, 29)


def test_strokes_have_two_colours_on_white():
    """Adding is ink, taking away is the eraser, nothing is white, and the strength goes with the size of the change."""
    rgb = np.rint(pictures.signed_strokes(torch.tensor([[[[2.0, -2.0, 0.0, 1.0]]]]))[0, :, 0].T * 255)
    assert rgb[0].tolist() == list(pictures.INK)
    assert rgb[1].tolist() == list(pictures.ERASER)
    assert rgb[2].tolist() == [255, 255, 255]
    assert abs(rgb[3] - (rgb[0] + 255) / 2).max() <= 1
    assert (pictures.signed_strokes(np.zeros((1, 3, 2, 2))) == 1).all()


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_reconstructions_are_drawn_with_and_without_windows(attention, channels):
    """Real frames of a real model: every part that a frame has is drawn, and no other."""
    spec = ImageSpec(channels, 6, 8, 4)
    model = rastrum.build("draw", spec, preset="tiny", attention=attention)
    x = torch.randint(0, 4, (2, *spec.shape))
    frames = list(rastrum.reconstruct(model, x))  # pyright: ignore[reportArgumentType]
    cells = animations.reconstruction_cells(x[1] / 3, frames[1], 1, 5)
    looks = ["glimpse", "error glimpse"] if attention else []
    assert list(cells) == ["input", *looks, "write patch", "canvas"]
    assert {cell.size for cell in cells.values()} == {(40, 30)}
    for name, colour in (("input", pictures.RED), ("canvas", pictures.GREEN)):
        assert (pixels(cells[name]) == colour).all(-1).any() == attention
    if not attention:
        missed = animations.reconstruction_cells(x[1] / 3, frames[1], 1, 5, before=frames[0])["error"]
        expected = pictures.sheet(pictures.signed_strokes((x[1:] / 3 - frames[0].images[1:]), 1.0), scale=5)
        assert (pixels(missed) == pixels(expected)[2:-2, 2:-2]).all()
    strip = animations.reconstruction_strip(x[1] / 3, frames, 1, 5, columns=3)
    assert strip.height > len(cells) * 30
    film = animations.encode_animation([animations.reconstruction_sheet(x / 3, frame) for frame in frames[1:]])
    assert len(frames_of(film)) <= len(frames) - 1


def test_a_context_picture_tells_the_six_kinds_apart():
    """Each pixel has the colour of its kind; a decision that sees itself is shown as a fault and still marked."""
    seen, promised = np.zeros((3, 3), bool), np.zeros((3, 3), bool)
    seen[0], promised[0] = [True, True, False], [True, True, True]
    seen[2, 2] = True
    cells = pixels(pictures.context_picture(seen, promised, (1, 1), scale=20))[pictures.GUTTER :, 0:]
    left = (cells.shape[1] - 60) // 2
    names = {name: list(colour) for name, colour in pictures.CONTEXT.items()}
    at = {(r, c): cells[r * 20 + 10, left + c * 20 + 15].tolist() for r in range(3) for c in range(3)}
    assert at[0, 0] == names["seen"]
    assert at[0, 2] == names["promised, but unseen"]
    assert at[1, 1] == names["this decision"]
    assert at[2, 2] == names["seen, though forbidden"]
    assert at[2, 0] == names["not to be seen"]
    assert len({tuple(colour) for colour in names.values()}) == 6
    before = pictures.decided_before(np.arange(9), (3, 3), (1, 1))
    blind = pixels(pictures.context_picture(seen, promised, (1, 1), 20, earlier=before))[pictures.GUTTER :, left:]
    assert blind[20 + 10, 15].tolist() == names["earlier, but not seen"] and blind[20 + 10, 40 + 15].tolist() == names["not to be seen"]
    assert (blind[59, :60] == 255).all() and (blind[:60, 59] == 255).all()          # the grid is closed
    assert (blind[-1, 0] == pictures.PAPER).all()                                   # the legend lies on the page
    seen[1, 1] = True
    panel = pixels(pictures.context_picture(seen, promised, (1, 1), scale=20))[22:42, left + 20 : left + 40].reshape(-1, 3).tolist()
    assert names["seen, though forbidden"] in panel and names["this decision"] in panel


def test_plots_draw_and_leave_matplotlib_alone():
    """Every plot is a picture of some size, and pyplot is not used."""
    import sys

    loaded = "matplotlib.pyplot" in sys.modules
    mask = np.tri(4, dtype=bool)
    drawn = [
        plots.surprise_map(torch.rand(3, 3, 4, 5), -torch.rand(3, 3, 4, 5), columns=2),
        pictures.context_picture(np.stack([mask] * 3), np.stack([mask] * 3), (1, 2, 3)),
        pictures.context_picture(mask[None], mask[None], (0, 2, 3)),
        plots.dependency_picture(np.random.default_rng(0).random((3, 6, 6)), (0, 3, 3)),
        plots.dependency_picture(np.zeros((6, 6)), (3, 3)),
        plots.decision_picture(torch.rand(1, 4, 4), torch.ones(4, 4, dtype=torch.bool), (1, 2), torch.tensor([0.5, 0.0, 0.5]), 1),
        plots.learning_curve({"a": ([1, 2, 3], [3.0, math.inf, 1.0]), "b": ([], [])}, levels={"uniform": 4.0}),
        plots.learning_curve({}),
    ]
    assert all(min(formats.picture_of(drawing).size) >= 50 for drawing in drawn)
    assert ("matplotlib.pyplot" in sys.modules) == loaded


def test_an_animation_loops_holds_and_keeps_its_pixels():
    """The decoded file has the same pixels, exactly up to 255 colours and approximately above; the last frame is held."""
    x = torch.randint(0, 17, (6, 1, 8, 8)) / 16
    order = torch.arange(64)
    sheets = [animations.frame_sheet(Frame(x * (order < t).view(8, 8), None, t / 64), 3, 5, order) for t in range(0, 65, 4)]
    data = animations.encode_animation(sheets, fps=10, hold=1.5)
    film = Image.open(io.BytesIO(data))
    assert film.info["loop"] == 0
    decoded = frames_of(data)
    assert len(decoded) == len(sheets)
    assert all((pixels(a) == pixels(b)).all() for a, b in zip(decoded, sheets, strict=True))
    durations = []
    for frame in ImageSequence.Iterator(film):
        durations.append(frame.info["duration"])
    assert durations[0] == 100 and durations[-1] == 1500
    grey = torch.linspace(0, 1, 600).view(1, 1, 20, 30)
    windows = [torch.tensor([[9.3 + t, 12.0, 8, 8]]) for t in range(5)]
    moving = [animations.frame_sheet(Frame(grey ** (1 + t / 4), None, t / 4, windows[t]), 1, 4) for t in range(5)]
    close = frames_of(animations.encode_animation(moving))
    assert max(abs(pixels(a) - pixels(b)).max() for a, b in zip(close, moving, strict=True)) <= 4
    noise = [pictures.sheet(torch.rand(1, 3, 20, 20), scale=1) for _ in range(2)]   # more colours than any palette
    assert len(frames_of(animations.encode_animation(noise))) == 2


def test_files_are_complete_or_absent(tmp_path):
    """A picture replaces the old one at once; if writing fails, the old one stays and no other file is left."""
    path = tmp_path / "a.png"
    x = torch.rand(1, 3, 5, 7)
    for _ in range(2):
        pictures.save_picture(pictures.sheet(x, scale=2), path)
    assert (pixels(Image.open(path)) == pixels(pictures.sheet(x, scale=2))).all()
    animations.save_animation([pictures.sheet(x, scale=2)], tmp_path / "a.gif")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(OSError):
        pictures.save_picture(pictures.sheet(x), tmp_path / "b.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gif", "a.png", "b.png"]


class Player(HTMLParser):
    """The parts of a player: its frames, the picture that stands without a script, names of its controls, whether all tags are closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.names, self.frames, self.alone = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.names.append(values.get("aria-label"))
        self.frames += [base64.b64decode(frame) for frame in json.loads(values.get("data-frames") or "[]")]
        if tag == "img":
            self.alone = values["src"] or ""
        elif tag != "input":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_player_holds_every_frame_and_can_be_stepped():
    """In a page or notebook an animation can be paused; each of its frames is there pixel for pixel, the last where no script runs."""
    shapes = [Image.new("RGB", (9, 5), colour) for colour in ((255, 0, 0), (0, 0, 255), (1, 2, 3))]
    text = player_html(iter(shapes), fps=4, title='a "title" <b>')
    player = Player(text)
    assert not player.open and 'a "title" <b>' in player.names
    assert {"Step back", "Play", "Step forward", "Frame"} <= set(player.names)
    frames = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in player.frames]
    assert [np.asarray(frame).tolist() for frame in frames] == [np.asarray(shape).tolist() for shape in shapes]
    assert base64.b64decode(player.alone.removeprefix("data:image/webp;base64,")) == player.frames[-1]
    assert not re.search(r"https?://|@import|url\(", text)
    for pictures_, fps in (([], 8), ([shapes[0], Image.new("RGB", (5, 9))], 8), (shapes, 0), (shapes, math.nan)):
        with pytest.raises(ValueError):
            player_html(pictures_, fps)
