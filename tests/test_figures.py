"""The figures of trained models: all files are written, and their values and pixels are those of the model's own methods."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_canvas import SPEC, Scribble, ScribbleConfig
from torch import Tensor

import rastrum
from rastrum import CanvasModel, ImageSpec, RasterModel
from rastrum.layers.attention import filter_bank
from rastrum.pictures import figures, formats, plots
from rastrum.pictures import sheets as pictures
from rastrum.pictures.figures import Measures
from rastrum.pictures.windows import Filters, window_of


def canvas(spec: ImageSpec, **options) -> CanvasModel:
    model = rastrum.build("draw", spec, "tiny", seed=3, **options)
    assert isinstance(model, CanvasModel)
    return model.double()


def levels(spec: ImageSpec, count: int, seed: int = 0) -> Tensor:
    return torch.randint(spec.levels, (count, *spec.shape), generator=torch.Generator().manual_seed(seed))


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("spec", [ImageSpec(1, 6, 9, 2), ImageSpec(3, 8, 8, 256)], ids=["grey", "colour"])
def test_files_of_a_canvas_model(spec: ImageSpec, attention: bool) -> None:
    """Every file that the module promises is written, those of windows only with attention; the sheet shows the prior's samples at this
    seed."""
    model = canvas(spec, attention=attention)
    files = dict(figures.canvas_figures(model, levels(spec, 3), seed=5))
    assert tuple(files) == figures.CANVAS_FIGURES[: 8 if attention else 6]
    with Image.open(io.BytesIO(files["drawing.gif"])) as film:
        assert film.n_frames == model.steps + 1                           # pyright: ignore[reportAttributeAccessIssue]
    drawn = list(model.generate(figures.SHEET, seed=5))[-1].images
    assert (opened(files["samples.png"]) == np.asarray(pictures.sheet(drawn)).astype(int)).all()


def test_a_users_model_has_figures_too() -> None:
    """A user's model with only the methods of the contract, on images of 2 by 3."""
    torch.manual_seed(0)
    model, x = Scribble(SPEC, ScribbleConfig()).double(), levels(SPEC, 5)
    assert tuple(dict(figures.canvas_figures(model, x))) == figures.CANVAS_FIGURES[:6]
    assert figures.layers_of(model) == 1


class TwoLayers(Scribble):
    """Two decisions per stroke; the canvas changes with the second."""

    steps = 6

    class Config(ScribbleConfig):
        steps = 3
        beta = 0.4

    def write(self, state, z):
        state.t += 1
        if state.t % 2 == 0:
            state.canvas = state.canvas + self.stroke(z)
        return {}


def test_a_stroke_of_several_decisions_has_one_column() -> None:
    """Steps count decisions, but pictures have a column per stroke, which shows the change of the whole stroke."""
    torch.manual_seed(0)
    model, x = TwoLayers(SPEC, TwoLayers.Config()).double(), levels(SPEC, 2)
    assert figures.layers_of(model) == 2
    frames = list(figures.strokes(model.reconstruct(x), 2))
    assert len(frames) == 4
    assert torch.allclose(frames[0].info["canvas"] + sum(f.info["write_patch"] for f in frames[1:]), frames[-1].info["canvas"])
    assert all(frame.info["write_patch"].abs().max() > 0 for frame in frames[1:])
    with Image.open(io.BytesIO(dict(figures.canvas_figures(model, x))["drawing.gif"])) as film:
        assert film.n_frames == 4                                         # pyright: ignore[reportAttributeAccessIssue]
    strip, gutter = np.asarray(figures.hierarchy(model, x)), pictures.GUTTER
    after_one = np.asarray(pictures.tiles(model.decode(model.encode(x)[:2], "mean"), figures.large(SPEC))[1])  # of image 2, last row
    height, width = after_one.shape[:2]
    right = strip.shape[1] - gutter - 2 * (width + gutter)                # of the columns t = 0, 1, 2, 3
    assert (strip[-gutter - height : -gutter, right - width : right] == after_one).all()
    wide = figures.hierarchy(model, x).width
    assert wide == figures.hierarchy(canvas(SPEC, steps=3), x).width


# ── measures ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("likelihood", ["exact", "cross-entropy"])
def test_rate_and_psnr_against_direct_computation(likelihood: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They equal the bound's terms and an error computed value by value, in any batch; without a likelihood there is no bound."""
    spec = ImageSpec(1, 5, 4, 17)
    model, x = canvas(spec, likelihood=likelihood), levels(spec, 7)
    monkeypatch.setattr(figures, "BATCH", 3)
    found = figures.measure(model, x, seed=2)
    last = list(model.reconstruct(x, seed=2))[-1].images
    wrong = [
        (255 * round(16 * float(a)) / 16 - 255 * int(b) / 16) ** 2 for a, b in zip(last.flatten(), x.flatten(), strict=True)
    ]
    assert found.psnr == pytest.approx(20 * math.log10(255 / math.sqrt(sum(wrong) / len(wrong))))
    half = model.decode(model.encode(x, seed=2)[:2], "mean")              # of 4 strokes
    missed = torch.round(half.double() * 16) - x
    assert found.psnrs[1] == pytest.approx(10 * math.log10(255**2 / float((missed * 255 / 16).square().mean())))
    assert found.as_dict()["psnr_db_of_half"] == found.psnrs[1]
    if likelihood == "cross-entropy":
        assert found.bound is None and found.as_dict()["bound_bits_per_dim"] is None
        return
    with torch.no_grad():
        reconstruction, kl = model.bound(x, seed=2, terms=True)
    torch.testing.assert_close(found.kl, kl)
    said = found.as_dict()
    assert said["kl_nats"] == pytest.approx(float(kl.sum() / 7))
    assert said["rate_bits"] == pytest.approx(float(kl.sum() / 7) / math.log(2))
    assert said["rate_bits_per_dim"] == pytest.approx(float(kl.sum() / 7) / math.log(2) / 20)
    assert said["bound_bits_per_dim"] == pytest.approx(float((kl.sum() - reconstruction.sum()) / 7) / math.log(2) / 20)


def test_nothing_lost_is_infinite() -> None:
    nothing = Measures(torch.zeros(2, 3), (4.0, 1.0, 0.0), None, 4)
    assert nothing.psnr == math.inf and nothing.as_dict()["psnr_db"] is None
    assert nothing.psnrs[1] == pytest.approx(10 * math.log10(255**2))


# ── the hierarchy ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("columns", [1, 3, 12])
def test_the_hierarchy_begins_with_the_prior_and_ends_in_the_reconstruction(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the two rows of an image, cell t = 0 is a sample or the prior's mean, and the last is the reconstruction, whatever is between."""
    spec = ImageSpec(1, 6, 5, 2)
    model, x = canvas(spec, steps=5), levels(spec, 2)
    monkeypatch.setattr(figures, "COLUMNS", columns)
    page = np.asarray(figures.hierarchy(model, x, seed=4))
    height, width, gutter = 6 * figures.large(spec), 5 * figures.large(spec), pictures.GUTTER

    def cell(row: int, from_right: int) -> np.ndarray:
        bottom = page.shape[0] - gutter - (3 - row) * (height + gutter)
        right = page.shape[1] - gutter - from_right * (width + gutter)
        return page[bottom - height : bottom, right - width : right]

    def shown(image: Tensor) -> np.ndarray:
        return np.asarray(pictures.tiles(image[None], figures.large(spec))[0])

    whole = list(model.reconstruct(x, seed=4))[-1].images
    between = min(columns, 5)
    for i in range(2):
        for row in (2 * i, 2 * i + 1):
            assert (cell(row, 0) == shown(whole[i])).all()
        assert (cell(2 * i, between) == shown(model.decode([], "sample", seed=4, count=2)[i])).all()
        assert (cell(2 * i + 1, between) == shown(model.decode([], "mean", count=2)[i])).all()
        assert (cell(2 * i, between + 1) == shown(x[i].double())).all()


# ── windows ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [(7, 7), (4, 9)])
@pytest.mark.parametrize("count", [1, 4])
def test_chosen_windows_lie_at_their_parameters(size: tuple[int, int], count: int) -> None:
    """Filters centred by hand, at pixel coordinates that begin with 0, whatever the shape of the image."""
    chosen = Filters(row=2.5, column=4.0, stride=1.5, sigma=0.8, gamma=0.5)
    window = window_of([chosen], count, ImageSpec(1, *size))
    offsets = 1.5 * (torch.arange(count).double() - (count - 1) / 2)
    for bank, centre, pixels in ((window.rows, 2.5, size[0]), (window.columns, 4.0, size[1])):
        torch.testing.assert_close(bank[0], filter_bank(centre + offsets, torch.tensor([0.64]).double(), pixels))
    side = 1.5 * (count - 1) + 1
    assert window.box[0].tolist() == pytest.approx([2.5, 4.0, side, side]) and float(window.gamma) == pytest.approx(0.5)


def test_a_picture_of_windows_grows_with_them() -> None:
    spec, filters = ImageSpec(3, 4, 9), Filters(2.5, 4.0, 1.5, 0.8)
    drawn = (plots.window_plot(torch.rand(n, 3, 4, 9), window_of(n * [filters], 3, spec), n * ["a"]) for n in (1, 2))
    one, two = map(formats.picture_of, drawn)
    assert two.width == one.width and two.height > one.height + 150


def test_a_frame_gives_the_filters_of_its_glimpse() -> None:
    """The glimpse of a step is the image under the filters of that step."""
    spec = ImageSpec(3, 6, 8, 4)
    model, x = canvas(spec), levels(spec, 2)
    for frame in list(model.reconstruct(x))[1:]:
        rows, columns = frame.info["read_rows"], frame.info["read_columns"]
        torch.testing.assert_close(frame.info["glimpse"], torch.einsum("bnh,bchw,bmw->bcnm", rows, x.double() / 3, columns))


# ── raster models, several models, refusals ──────────────────────────────────────────────────────────────────────────────


def test_files_of_a_raster_model() -> None:
    spec = ImageSpec(3, 4, 4, 5)
    model = rastrum.build("pixelcnn", spec, "tiny")
    assert isinstance(model, RasterModel)
    files = dict(figures.raster_figures(model, levels(spec, 2), seed=1))
    assert tuple(files) == figures.RASTER_FIGURES
    drawn = rastrum.sample(model, figures.RASTER_SHEET, seed=1) / 4
    assert (opened(files["samples.png"]) == np.asarray(pictures.sheet(drawn)).astype(int)).all()


def test_models_stand_side_by_side() -> None:
    """One sheet per model, of either kind; the label of a model with a β makes room for its values."""
    raster = rastrum.build("pixelcnn", SPEC, "tiny")
    assert isinstance(raster, RasterModel)
    model, x = TwoLayers(SPEC, TwoLayers.Config()).double(), levels(SPEC, 2)
    assert figures.beta_of(model) == 0.4 and figures.beta_of(raster) is None
    alone = figures.comparison({"a": raster}, {})
    both = figures.comparison({"a": raster, "b": model}, {"b": figures.measure(model, x)})
    assert both.width > 1.9 * alone.width and both.height == alone.height + 14
    with pytest.raises(ValueError, match="one size"):
        figures.comparison({"a": raster, "b": canvas(ImageSpec(1, 4, 4, 2))}, {})


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: next(figures.canvas_figures(canvas(ImageSpec(2, 4, 4)), levels(ImageSpec(2, 4, 4), 1))), "2 channels"),
        (lambda: window_of([Filters(1, 1, 1, 0.0)], 2, SPEC), "sigma.*0.0"),
        (lambda: window_of([Filters(1, 1, 1, 1)], 0, SPEC), "at least 1.*0"),
        (lambda: figures.filter_picture(torch.rand(4, 4)), r"\(4, 4\)"),
        (lambda: plots.kl_plot(torch.rand(2, 5), 2), r"multiple of 2.*\(2, 5\)"),
        (lambda: plots.kl_plot(torch.rand(0, 5)), r"\(0, 5\)"),
        (lambda: plots.window_plot(torch.rand(2, 1, 2, 3), window_of([Filters(1, 1, 1, 1)], 2, SPEC), ["a"]), "2, 1 and 1"),
    ],
)
def test_bad_figures_are_refused_with_the_cause(call, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A canvas and a raster model of the digits' size; the canvas model was trained for a part of the training set."""
    folder, spec = tmp_path_factory.mktemp("runs"), ImageSpec(1, 8, 8, 17)
    from rastrum.checkpoint import Origin, save_pretrained
    from rastrum.config import DataConfig

    origin = Origin(data=DataConfig(name="digits", held_out="train[:50]"))
    save_pretrained(rastrum.build("draw", spec, "tiny"), folder / "draw", origin)
    rastrum.build("draw", spec, "tiny", attention=False).save_pretrained(folder / "plain")
    rastrum.build("pixelcnn", spec, "tiny").save_pretrained(folder / "pixelcnn")
    return folder


def answered(capsys: pytest.CaptureFixture[str], *argv: object) -> dict:
    import json

    from rastrum.cli import main

    capsys.readouterr()
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_command_uses_the_held_out_images(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --data it uses the images that the model's run held out, and gives the library's values for them."""
    from rastrum.config import DataOptions
    from rastrum.data.dataset import load_dataset

    said = answered(capsys, "figures", runs / "draw", "--count", 6, "--out", tmp_path / "new")
    row = said["models"]["draw"]
    assert (row["data"], row["split"], row["images"]) == ("digits", "train[:50]", 6)
    assert sorted(Path(file).name for file in row["files"]) == sorted(figures.CANVAS_FIGURES)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(figures.CANVAS_FIGURES)
    model, held_out = rastrum.load(runs / "draw"), load_dataset("digits", "train[:50]", DataOptions(limit=6))
    assert isinstance(model, CanvasModel)
    expected = figures.measure(model, held_out.images.long()).as_dict()
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_the_command_on_several_models(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder for each, even for the same model twice, and one picture of all; without --json, a table."""
    from rastrum.cli import main

    asked = ("--data", "digits", "--count", "2", "--out", str(tmp_path))
    said = answered(capsys, "figures", *(runs / name for name in ("plain", "plain", "pixelcnn")), *asked)
    assert list(said["models"]) == ["plain", "plain-2", "pixelcnn"]
    assert said["together"] == [str(tmp_path / name) for name in ("models.png", "over-time.png")]
    assert all((tmp_path / name / "samples.png").is_file() for name in said["models"]) and (tmp_path / "models.png").is_file()
    assert main(["figures", str(runs / "plain"), *asked]) == 0
    assert "PSNR" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "which models"),
        (["PIXELCNN"], "--data NAME or --images PATH"),
        (["DRAW", "--out", "FILE"], "is a file"),
        (["DRAW", "--count", "0"], "--count"),
        (["DRAW", "rastrum/draw-binarized-mnist"], "one size"),
        (["DRAW", "--data", "digitz"], "did you mean digits?"),
        (["no/such/model"], "is not there"),
    ],
)
def test_the_command_refuses_in_one_line(
    argv: list[str], says: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rastrum.cli import main

    (tmp_path / "file").write_text("")
    named = {"DRAW": str(runs / "draw"), "PIXELCNN": str(runs / "pixelcnn"), "FILE": str(tmp_path / "file")}
    assert main(["figures", *(named.get(word, word) for word in argv)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and says in err


def test_over_time_each_model_has_its_own_number_of_strokes() -> None:
    """A row per image and a column per stroke, after the empty canvas; cells after the end of a shorter walk are blank."""
    one, many = canvas(SPEC, steps=2), canvas(SPEC, steps=4, attention=False)
    picture = np.asarray(figures.over_time({"two strokes": one, "four": many}, seed=1))
    alone = np.asarray(figures.over_time({"four": many}, seed=1))
    scale = figures.large(SPEC)
    height, width = scale * SPEC.height, scale * SPEC.width
    row = picture[5 + height // 2]                                        # of the first image of the shorter walk
    assert (row[-width:] == figures.PAPER).all() and not (row[: -2 * width] == figures.PAPER).all()
    assert np.array_equal(picture[-height:, -width:], alone[-height:, -width:]) and not (alone[-height:, -width:] == figures.PAPER).all()
