"""Models compared: what pictures are measured by, the comparison itself, and what it says of the lecture's claims."""

from __future__ import annotations

import json
import math
import shlex
import signal
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import rastrum
import rastrum.applications.comparison as comparison
import rastrum.applications.fidelity as fidelity
import rastrum.applications.quality as quality
from rastrum.applications.claims import Claim, chance_of_variances, claims
from rastrum.applications.comparison import SHOWN, Row, code_size, settings_for
from rastrum.applications.comparison_record import cells as cells_of
from rastrum.applications.comparison_record import read_comparison
from rastrum.applications.fidelity import kernel_distance, precision_and_recall, sharpness
from rastrum.applications.glimpse_classifier import WholeImageClassifier
from rastrum.applications.quality import ClassFeatures, Reference, trained_features, unit
from rastrum.cli import main
from rastrum.cli.compare import said
from rastrum.config import OptimConfig
from rastrum.data.dataset import Dataset, load_dataset
from rastrum.models import build
from rastrum.pictures.comparisons import comparison_plot
from rastrum.pictures.page import Page
from rastrum.protocol import ConditionSpec, ImageSpec
from rastrum.strokes import CanvasModel


def normal(count: int, shift: float = 0.0, size: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


# ── measures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_kernel_distance_against_its_definition() -> None:
    """The double sums of the unbiased estimate; about 0, and within a few errors of it, for two draws of one distribution."""
    x, y = normal(6, seed=1), normal(4, 0.5, seed=2)

    def kernel(a: Tensor, b: Tensor) -> float:
        return float(a @ b / 5 + 1) ** 3

    same = [[kernel(a, b) for i, a in enumerate(each) for j, b in enumerate(each) if i != j] for each in (x, y)]
    cross = [kernel(a, b) for a in x for b in y]
    expected = sum(same[0]) / 30 + sum(same[1]) / 12 - 2 * sum(cross) / 24
    value, error = kernel_distance(x, y)
    assert value == pytest.approx(expected) and math.isnan(error)          # too few for an error
    value, error = kernel_distance(normal(500, seed=3), normal(500, seed=4))
    assert abs(value) < 4 * error
    value, error = kernel_distance(normal(500, seed=3), normal(500, 0.5, seed=4))
    assert value > 10 * error


def test_the_kernel_distance_is_that_of_torchmetrics() -> None:
    metrics = pytest.importorskip("torchmetrics.image.kid")
    x, y = normal(40, seed=1).float(), normal(40, 0.3, seed=2).float()
    theirs = metrics.KernelInceptionDistance(feature=torch.nn.Identity(), subsets=1, subset_size=40)
    theirs.update(x, real=True)
    theirs.update(y, real=False)
    assert kernel_distance(x, y)[0] == pytest.approx(float(theirs.compute()[0]), rel=1e-4)


def test_measures_of_many_points_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(50, seed=1), normal(45, 0.3, seed=2)
    whole = (*kernel_distance(x, y), *precision_and_recall(x, y))
    monkeypatch.setattr(fidelity, "PART", 7)
    assert (*kernel_distance(x, y), *precision_and_recall(x, y)) == pytest.approx(whole)


def test_precision_and_recall_tell_fidelity_from_diversity() -> None:
    """Pictures of one of two kinds of images: all of them are good, half of the images are missed; noise is neither."""
    two = torch.cat([normal(200, seed=1), normal(200, 50.0, seed=2)])
    one = normal(400, seed=3)
    precision, recall = precision_and_recall(two, one)
    assert precision > 0.8 and 0.35 < recall <= 0.5
    assert precision_and_recall(two, normal(400, 1e4)) == (0.0, 0.0)
    points, others = normal(7, seed=4), normal(6, 0.2, seed=5)
    reach = torch.cdist(points, points).sort(dim=1).values[:, 3]
    inside = [any(torch.dist(other, point) <= r for point, r in zip(points, reach, strict=True)) for other in others]
    assert precision_and_recall(points, others)[0] == pytest.approx(sum(inside) / 6)


def test_sharpness_is_below_1_for_blur_and_above_for_noise() -> None:
    images = (torch.rand(20, 1, 12, 12, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    blurred = torch.nn.functional.avg_pool2d(images, 3, 1, 1)
    assert sharpness(images, images) == pytest.approx(1)
    assert sharpness(images, 0.5 * images) == pytest.approx(0.25)
    assert sharpness(images, blurred) < 0.3 and sharpness(blurred, images) > 3


def test_features_see_what_tells_classes_apart() -> None:
    """Of real digits and of digits with shuffled pixels: the trained network finds the latter far away."""
    data = load_dataset("digits")
    features = trained_features(data, steps=40)
    images = data.images[:300].float() / 16
    shuffled = images.flatten(1)[:, torch.randperm(64, generator=torch.Generator().manual_seed(0))].view_as(images)
    with torch.no_grad():
        one, two, other = (features(each) for each in (images[:150], images[150:], shuffled[:150]))
        assert float(features(images).square().mean()) == pytest.approx(1, rel=0.2)
    assert kernel_distance(one, other)[0] > 10 * abs(kernel_distance(one, two)[0])
    with pytest.raises(ValueError, match="no labels"):
        trained_features(replace(data, labels=None, classes=0))


def test_features_of_imagenet() -> None:
    """1,280 features of grey and of coloured pictures; a photograph's neighbour is nearer than noise."""
    pytest.importorskip("efficientnet_lite_pytorch")
    from rastrum.applications.imagenet_features import ImageNetFeatures

    features = ImageNetFeatures()
    grey = torch.rand(4, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    assert features(grey).shape == (4, 1280) and torch.equal(features(grey), features(grey.expand(-1, 3, -1, -1)))
    digits = load_dataset("digits").images[:60].float() / 16
    seen, noise = features(digits), features(torch.rand(30, 1, 8, 8))
    (near, error), (far, _) = features.distance(seen[:30], seen[30:]), features.distance(seen[:30], noise)
    assert far > 5 * abs(near) and error >= 0


def test_sizes_of_codes() -> None:
    spec = ImageSpec(1, 8, 8, 2)
    assert code_size(build("gran", spec, "tiny", steps=3, latent=5)) == 15
    assert code_size(build("gran", spec, "tiny", steps=3, latent=5, noise="shared")) == 5
    assert code_size(build("conv-draw", spec, "tiny", steps=2, latent=2, stride=2)) == 2 * 2 * 16
    assert code_size(build("pixelcnn", spec, "tiny")) is None


# ── evaluate ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of a network that was not trained, in place of the command's."""
    monkeypatch.setattr(quality, "trained_features", features_of_digits)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("name", ["dcgan", "draw"])
def test_evaluate_measures_pictures(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An adversarial model's, and if asked any model's, drawn for the classes of the images: figures are those of the measures here."""
    torch.manual_seed(0)
    data = load_dataset("digits", "test").subset(40)
    model = build(name, data.spec, "tiny", ConditionSpec("class", 10))
    model.save_pretrained(tmp_path)
    asked = [] if name == "dcgan" else ["--measure", "pictures"]
    torch.manual_seed(5)
    assert main(["evaluate", str(tmp_path), "--data", "digits", "--count", "40", "--seed", "3", "--json", *asked]) == 0
    found = json.loads(capsys.readouterr().out)
    torch.manual_seed(5)
    features = features_of_digits(load_dataset("digits"))
    assert isinstance(model, CanvasModel)
    *_, last = model.generate(40, data.labels, seed=3)
    with torch.no_grad():
        images, drawn = features(unit(data.images, 17)), features(last.images.float())
    assert found["distance"] == pytest.approx(kernel_distance(images, drawn)[0]) and found["images"] == 40
    assert (found["precision"], found["recall"]) == precision_and_recall(images, drawn)
    assert found["best"]["recall"] > found["recall"] and found["best"]["sharpness"] == pytest.approx(1, abs=0.1)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("words", "why"),
    [("--measure likelihood", "measures its pictures"), ("--num-samples 5", "it is of likelihoods"), ("--ensemble", "it is of likelihoods"),
     ("--count 20", "at least 30 images")],
)  # fmt: skip
def test_what_evaluate_cannot_say_of_an_adversarial_model(
    words: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build("gran", load_dataset("digits").spec, "tiny").save_pretrained(tmp_path)
    assert main(["evaluate", str(tmp_path), "--data", "digits", *words.split()]) == 2
    assert why in capsys.readouterr().err


# ── a comparison ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_comparison_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Table, record and plot; a second call trains nothing; other settings in the same folder are refused."""
    out = tmp_path / "out"
    command = ["compare", "pixelcnn", "draw", "dcgan", "--data", "digits", "--binarise", "none", "--steps", "3", "--seeds", "2",
               "--pictures", "40", "--out", str(out)]  # fmt: skip
    assert main(command) == 0
    text = capsys.readouterr().out
    assert (out / "table.md").read_text(encoding="utf-8").splitlines()[2] in text and (out / "comparison.png").stat().st_size > 10_000
    found = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    rows = {row["model"]: row for row in found["models"]}
    assert [len(rows["pixelcnn"]["nats"]), len(rows["draw"]["nats"]), rows["dcgan"]["nats"]] == [2, 2, []]
    assert rows["dcgan"]["kind"] == "loss" and rows["draw"]["kind"] == "bound" and rows["pixelcnn"]["code"] is None
    assert all(len(row["recall"]) == 2 and set(row["milliseconds"]) == {"1", "64"} for row in rows.values())
    cells = [line.split("|") for line in text.splitlines() if line.startswith("| dcgan")]
    assert cells[0][4].strip() == "–"                                     # never a number where there is no likelihood
    record = read_comparison(out)
    assert record.command == shlex.join(["rastrum", *command[:-2], "--features", "classifier", "--seed", "0"])
    assert [cell.strip() for cell in cells[0][1:-1]] == cells_of(record.rows[2])
    assert record.rows[0].pictures.shape == (SHOWN, 1, 8, 8) and [claim.verdict for claim in record.claims] == [
        claim["verdict"] for claim in found["claims"]
    ]
    drawn = rastrum.sample(rastrum.load(out / "pixelcnn-0"), 40, seed=0)[:SHOWN] / 16
    assert (record.rows[0].pictures - drawn).abs().max() < 1 / 255

    monkeypatch.setattr(comparison, "train", None)                        # whoever trains now fails
    monkeypatch.setattr(quality, "trained_features", features_of_digits)
    assert main([*command, "--json"]) == 0
    again = {row["model"]: row for row in json.loads(capsys.readouterr().out)["models"]}
    assert all(again[name]["losses"] == rows[name]["losses"] and again[name]["steps"] == [3, 3] for name in rows)
    assert main([word if word != "3" else "4" for word in command]) == 2
    assert "other settings" in capsys.readouterr().err
    for images in ("threshold", "dynamic"):                               # of the same digits
        assert main([images if word == "none" else word for word in command]) == 2
        assert "holds a run on other images" in capsys.readouterr().err


def features_of_digits(data: Dataset) -> Any:
    return ClassFeatures(WholeImageClassifier(data.spec, data.classes, 60_000, convolutional=True), unit(data.images[:50], 17))


def test_a_comparison_that_is_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the first of two trainings: nothing unfinished is measured, and the next call gives what a single one does."""
    data = load_dataset("digits")
    run = replace(settings_for("pixelcnn", data).run, steps=6, minutes=None, workers=1, seed=0, log_every=1, folder=None)
    reference = Reference(features_of_digits(data), data.subset(40))

    def rows(folder: str, report: Any = lambda done, now: None) -> list[Row]:
        found = comparison.compare(["pixelcnn"], data, reference, run, folder=tmp_path / folder, seeds=2, report=report)
        return list(found)

    def interrupt(done: float, now: str) -> None:
        if done > 0.4 and "training" in now:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        rows("one", interrupt)
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["pixelcnn-0"]
    (again,), (straight,) = rows("one"), rows("two")
    assert again.losses == straight.losses and again.recall == straight.recall and again.steps == straight.steps == [6, 6]


def test_a_run_that_diverges_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One seed of two is lost; the other is measured."""
    data = load_dataset("digits")
    usual = settings_for("pixelcnn", data)

    def lost(recipe: Any, images: Dataset) -> Any:
        wild = replace(recipe, optim=OptimConfig(learning_rate=1e6, clip=None)) if recipe.run.seed == 1 else recipe
        return straight(wild, images)

    straight = comparison.trained
    monkeypatch.setattr(comparison, "trained", lost)
    run = replace(usual.run, steps=4, minutes=None, cpu_minutes=None, workers=1, seed=0)
    reference = Reference(features_of_digits(data), data.subset(40))
    (row,) = comparison.compare(["pixelcnn"], data, reference, run, folder=tmp_path, seeds=2)
    assert row.diverged == 1 and row.losses[1] is None and row.losses[0] is not None and row.recall[1] is None


@pytest.mark.parametrize(
    ("words", "why"),
    [(["pixelnn"], "did you mean"), (["draw", "draw"], "named twice"), (["draw", "--seeds", "0"], "--seeds: expected at least 1, got 0"),
     (["draw", "--pictures", "29"], "--pictures: expected at least 30, got 29"), (["draw", "--budget", "0"], "--budget: expected a number"),
     (["draw", "--data", "dead-leaves"], "no labels"), (["draw", "--budget", "1"], "and so does --budget 1; give one of the two"),
     ([str(Path(__file__).parent)], "trains models itself"), (["rastrum/draw-mnist"], "measure that by rastrum evaluate FOLDER")],
)  # fmt: skip
def test_comparisons_that_cannot_be_made(words: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "--steps", "1", "--pictures", "40", "--out", str(tmp_path / "out"), "--binarise", "none", *words]
    assert main(command if "--data" in words else [*command, "--data", "digits"]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("page", [Page(), Page(title="Six models")], ids=["plain", "title"])
@pytest.mark.parametrize("side", [8, 28])
def test_the_plot_has_no_blank_band(side: int, page: Page) -> None:
    """Pictures fill the width next to the names, and no stretch of rows is empty; a pixel of an image is a square of whole pixels."""
    names = ["gated-pixelcnn", "row-lstm", "draw", "vae", "gran", "dcgan"]
    shown = [torch.zeros(10, 1, side, side) for _ in names]
    figure = comparison_plot(names, shown, {f"measure {n}": [[1.0, 1.1] for _ in names] for n in range(6)})
    pixels = np.asarray(Image.open(BytesIO(page.encode_figure(figure, ".png"))).convert("L"))
    ink = np.flatnonzero((pixels < 250).any(1))
    assert np.diff(ink, prepend=0, append=len(pixels)).max() < 0.04 * len(pixels)
    row = pixels[int(0.2 * len(pixels))] == 0
    assert row.sum() > 0.7 * pixels.shape[1]
    widths = np.diff(np.flatnonzero(np.diff(np.pad(row, 1).astype(int))))[::2]
    assert set(widths[-10:] % side) == {0} and len(set(widths[-10:])) == 1


# ── claims ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def row(model: str, group: str, **found: Any) -> Row:
    usual: dict[str, Any] = dict(parameters=1, kind="exact", nats=[80.0, 81.0], losses=[80.0, 81.0], code=None,
                                 milliseconds={1: 1.0, 64: 1.0}, sharpness=[1.0], distance=[0.0], distance_error=0.0, precision=[1.0],
                                 recall=[1.0], steps=[1], settings="", pictures=torch.zeros(1, 1, 2, 2))  # fmt: skip
    return Row(model=model, group=group, **(usual | found))


def test_claims_hold_or_do_not() -> None:
    """Rows made so that each claim holds, then so that it does not; what was not measured is said to be."""
    as_told = [
        row("a", "autoregressive", milliseconds={1: 9.0, 64: 2.0}, sharpness=[1.4], distance=[0.2, 0.201]),
        row("v", "variational", nats=[90.0], code=2, sharpness=[0.5], losses=[90.0, 91.0]),
        row("g", "adversarial", nats=[], losses=[1.0, 1.0], code=3, sharpness=[1.1], distance=[0.2, 0.4]),
    ]
    assert [claim.holds for claim in claims(as_told)] == [True] * 7
    otherwise = [
        row("a", "autoregressive", nats=[95.0], losses=[80.0, None], milliseconds={1: 0.5, 64: 1.0}, sharpness=[1.05]),
        row("v", "variational", nats=[90.0], code=8, sharpness=[1.2]),
        row("g", "adversarial", nats=[], losses=[1.0, 1.001], code=3, sharpness=[3.0]),
    ]
    assert [claim.holds for claim in claims(otherwise)] == [False] * 7
    assert claims([row("d", "variational", kind="bound"), *as_told])[1].found == "a 80.50, d ≤ 80.50, v 90.00"
    alone = claims(as_told[:1])
    assert [claim.verdict for claim in alone] == ["not measured"] * 7 and "a 80.50" in alone[1].found


def steadiness(auto: list[float | None], adversarial: list[float | None], **found: Any) -> Claim:
    sides = {"autoregressive": auto, "adversarial": adversarial}
    rows = [row("m", group, distance=values, losses=[value and 1.0 for value in values], **found) for group, values in sides.items()]
    return claims(rows)[0]


def test_stability_is_judged_by_what_is_measured_of_all_alike() -> None:
    """Not by the spread of nats against that of a discriminator's loss; and three seeds decide only what chance does not do as often."""
    measured = [row("g", "autoregressive", losses=[73.51, 72.38, 72.31], distance=[0.498, 0.520, 0.512]),
                row("r", "autoregressive", losses=[66.80, 66.88, 65.55], distance=[0.1094, 0.0980, 0.0755]),
                row("a", "adversarial", nats=[], losses=[1.476, 1.475, 1.538], distance=[0.0415, 0.0431, 0.0476]),
                row("d", "adversarial", nats=[], losses=[1.143, 1.213, 1.144], distance=[0.0659, 0.0716, 0.0885])]  # fmt: skip
    claim = claims(measured)[0]
    assert claim.verdict == "undecided" and "0.015 against 0.0086" in claim.found
    assert "by chance with a probability of 0.34" in said([claim])[0]
    assert [steadiness([0.1, 0.101, 0.102], [0.1, 0.3, 0.5]).holds, steadiness([0.1, 0.3, 0.5], [0.1, 0.101, 0.102]).holds] == [True, False]
    assert [steadiness([0.1, 0.3, 0.5], [0.1, None, 0.1]).holds, steadiness([0.1, None], [0.1, None]).holds] == [True, False]
    assert steadiness([0.1], [0.3]).verdict == "undecided" and "single seed" in steadiness([0.1], [0.3]).undecided


@pytest.mark.parametrize(("ratio", "freedom"), [(39.00, (2, 2)), (9.605, (4, 4)), (4.236, (5, 10)), (6.619, (10, 5)), (647.8, (1, 1))])
def test_variances_by_chance_against_the_table(ratio: float, freedom: tuple[int, int]) -> None:
    """The upper 2.5 % points of the F distribution, as printed."""
    assert chance_of_variances(ratio, 1.0, freedom) == pytest.approx(0.05, rel=0.01)
    assert chance_of_variances(1.0, ratio, (freedom[1], freedom[0])) == pytest.approx(0.05, rel=0.01)
