"""``score``: every image by name and in order, p by rank, alarms at the promised rate, detectors that are kept, files that agree."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import rastrum
from rastrum import ImageSpec
from rastrum.applications.anomaly import Scores, p_values, scores, z_scores
from rastrum.applications.detector import Detector, check_alarm
from rastrum.cli import main
from rastrum.cli.scoring import write_csv
from rastrum.cli.surprise import picture_names
from rastrum.config import DataOptions
from rastrum.data.dataset import Dataset, load_dataset
from rastrum.pictures.formats import picture_of
from rastrum.pictures.plots import surprise_map

SPEC = ImageSpec(1, 8, 8, 17)
USUAL = ("--reference", "digits", "--reference-split", "train", "--reference-count", 40)


def saved(folder: Path, spec: ImageSpec = SPEC, system: str = "pixelcnn", seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model = rastrum.build(system, spec, "tiny")
    for p in model.parameters():
        torch.nn.init.normal_(p, 0, 0.3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path / "model")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Images with names that a file of commas, a terminal and a picture's name find hard; two broken ones before and between them."""
    folder = tmp_path / "own"
    random = np.random.RandomState(0)
    for name in ("b, \"quoted\".png", "c.bmp", "c.png", "[red]d.png", "é\nf.png", "z.png"):
        (folder / "inner").mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.randint(0, 256, (8, 8)).astype(np.uint8)).save(folder / "inner" / name)
    for name in ("a.png", "ca.png"):
        (folder / "inner" / name).write_bytes(b"hello")
    return folder


def ask(capsys: pytest.CaptureFixture[str], *argv: object) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    capsys.readouterr()
    assert main([*map(str, argv)]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and not said.out
    return said.err


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


# ── p-values ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [1, 2, 30])
def test_p_is_a_rank(count: int) -> None:
    """Counted one by one, with ties; infinite scores are the most unusual."""
    random = np.random.RandomState(count)
    usual, new = random.randint(0, 8, count).astype(float), np.array([*random.randint(-2, 11, 40), np.inf, -np.inf])
    expected = [(1 + sum(u >= s for u in usual)) / (1 + count) for s in new]
    assert p_values(new, usual).tolist() == expected
    assert expected[-2:] == [1 / (1 + count), 1]


def test_false_alarms_are_as_rare_as_promised() -> None:
    """Over splits of one set of scores into reference and new ones, p is at most k / (1 + N) with exactly that chance."""
    model = rastrum.build("pixelcnn", SPEC, "tiny")
    data = load_dataset("digits", "test", DataOptions(limit=200))
    every = Detector.fit(model, data).usual
    random, rates = np.random.RandomState(0), []
    for _ in range(200):
        order = torch.from_numpy(random.permutation(200))
        usual, new = (Scores(every.bits[at], every.complexity[at]) for at in (order[:99], order[99:]))
        rates.append([(Detector(usual, "").p_values(new) <= alarm).double().mean().item() for alarm in (0.05, 0.2, 0.5)])
    mean, error = np.mean(rates, 0), np.std(rates, 0) / 200**0.5
    assert (np.abs(mean - [0.05, 0.2, 0.5]) < 4 * error).all() and (error < 0.01).all()


def test_surprise_raises_the_alarm() -> None:
    """One-sided: an image of more bits than usual is found, one of fewer is not."""
    usual = Scores(torch.arange(99.0).double(), torch.zeros(99).double())
    new = Scores(torch.tensor([200.0, -200.0]).double(), torch.zeros(2).double())
    assert Detector(usual, "").p_values(new).tolist() == [0.01, 1]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: p_values(np.ones(1), np.ones(0)), "at least one value"),
        (lambda: p_values(np.array([np.nan]), np.ones(1)), "NaN"),
        (lambda: p_values(np.ones(1), np.array([np.inf])), "finite"),
        (lambda: Detector(Scores(torch.zeros(0), torch.zeros(0)), ""), "at least one usual image"),
        (lambda: Detector(Scores(torch.tensor([torch.inf]), torch.zeros(1)), ""), "finite scores"),
        (lambda: check_alarm(0.0), "above 0 and below 1"),
        (lambda: check_alarm(1.0), "above 0 and below 1"),
        (lambda: check_alarm(float("nan")), "above 0 and below 1"),
        (lambda: check_alarm(0.01, 98), "at least 99 of them"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
    check_alarm(0.01, 99)


def test_an_image_without_probability_is_infinitely_unusual() -> None:
    x = torch.zeros(2, *SPEC.shape, dtype=torch.int64)
    new = scores(SPEC, x, np.array([np.inf, 1.0]))
    assert new.corrected[0] == np.inf and z_scores(new.bits, np.array([1.0, 2.0]))[0] == np.inf
    with pytest.raises(ValueError, match="nats: expected numbers"):
        scores(SPEC, x, np.array([np.nan, 1.0]))


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_names_follow_the_images(own: Path) -> None:
    """Through splits, parts, subsets and images that are left out: the image of a name is the file of that name."""
    for split, limit in (("all", None), ("train", None), ("all[1:5]", None), ("all", 3)):
        data = load_dataset(str(own), split, DataOptions(skip_broken=True, limit=limit))
        assert len(data.names) == len(data) and "inner/a.png" not in data.names
        for name, image in zip(data.names, data.images, strict=True):
            assert (np.asarray(Image.open(own / name)) == image[0].numpy()).all()
    assert load_dataset("digits", "test[5:]", DataOptions(limit=354)).names[:2] == ("5", "6")
    single = load_dataset(str(own / "inner" / "z.png"), "all")
    assert single.names == ("z.png",)
    with pytest.raises(ValueError, match="names: expected 1, one per image, got 2"):
        Dataset("x", "", single.spec, single.images, names=("a", "b"))


def test_pictures_have_names_of_their_own() -> None:
    """Also of images that differ in ending, in capitals, or not at all."""
    names = ["a.png", "a.bmp", "A.png", "in/a.png", "x.npy[3]", "7", "a.png", "a.png", "a.v1.png"]
    found = picture_names(names)
    assert found[:2] == ["a.png", "a.bmp.png"] and found[3:6] == ["in/a.png", "x.npy[3].png", "7.png"] and found[-1] == "a.v1.png"
    assert len({name.casefold() for name in found}) == len(names) and all(name.endswith(".png") for name in found)


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_image_in_order(model: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Records, lists and the file agree, and each name is that of the image that has this score alone."""
    found = ask(capsys, "score", model, "--images", own, "--skip-broken", "--csv", tmp_path / "x.csv", *USUAL, "--alarm", 0.5)
    records, rows = found["records"], read_csv(tmp_path / "x.csv")
    assert [r["name"] for r in records] == sorted(r["name"] for r in records) == [row["name"] for row in rows] and len(records) == 6
    assert "inner/é\nf.png" in [row["name"] for row in rows]
    for field in ("nats", "bits_per_dim", "png_bits", "z", "z_corrected", "p"):
        assert [r[field] for r in records] == found[field] == pytest.approx([float(row[field]) for row in rows], abs=0)
    assert [row["alarm"] for row in rows] == [str(r["alarm"]).lower() for r in records] and {*rows[0]} == {*records[0]}
    assert found["alarms"] == sum(r["p"] <= 0.5 for r in records) == sum(r["alarm"] for r in records)
    for record in records:
        alone = ask(capsys, "score", model, "--images", own / record["name"])["nats"]
        assert alone == pytest.approx([record["nats"]], abs=1e-3)
    assert ask(capsys, "score", model, "--data", "digits")["images"] == 360
    np.save(tmp_path / "x.npy", np.zeros((3, 8, 8), np.uint8))
    found = ask(capsys, "score", model, "--images", tmp_path / "x.npy", "--split", "all[1:]")
    assert [r["name"] for r in found["records"]] == ["x.npy[1]", "x.npy[2]"] and "p" not in found["records"][0]


def test_a_table_holds_no_formulas(tmp_path: Path) -> None:
    """A file's name that a spreadsheet would run is written as a path to the same file; numbers stay numbers."""
    write_csv(tmp_path / "x.csv", [{"name": name, "z": -1.5} for name in ("=1+1.png", "@a.png", "-b.png", "a=b.png")])
    rows = read_csv(tmp_path / "x.csv")
    assert [row["name"] for row in rows] == ["./=1+1.png", "./@a.png", "./-b.png", "a=b.png"] and rows[0]["z"] == "-1.5"


def test_images_can_be_ranked_by_their_bits_alone(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An image that is as complex as it is surprising is unusual by its bits only."""
    found = [ask(capsys, "score", model, "--data", "digits", *USUAL, "--alarm", 0.1, "--rank-by", rank) for rank in ("less-png", "bits")]
    for answer, score in zip(found, ("z_corrected", "z"), strict=True):
        order = np.argsort(answer[score], kind="stable")
        assert (np.diff(np.array(answer["p"])[order]) <= 0).all()          # the higher the score that is compared, the lower p
    assert [answer["rank_by"] for answer in found] == ["less-png", "bits"] and found[0]["p"] != found[1]["p"]
    new = Scores(torch.tensor([9.0, 1.0]), torch.tensor([8.0, 1.0]))
    detector = Detector(Scores(torch.tensor([2.0, 3.0, 4.0]), torch.tensor([0.0, 0.0, 0.0])), "")
    assert detector.p_values(new).tolist() == [1.0, 1.0] and detector.p_values(new, "bits").tolist() == [0.25, 1.0]


def test_p_of_the_command_is_that_of_the_library(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask(capsys, "score", model, "--data", "digits", "--count", 50, *USUAL, "--alarm", 0.3)
    network = rastrum.load(str(model)).eval()
    usual, new = (load_dataset("digits", split, DataOptions(limit=n)) for split, n in (("train", 40), ("test", 50)))
    corrected = [Detector.fit(network, data).usual.corrected.numpy() for data in (usual, new)]
    expected = [(1 + (corrected[0] >= s).sum()) / 41 for s in corrected[1]]
    assert found["p"] == pytest.approx(expected, abs=1e-12)
    assert [r["alarm"] for r in found["records"]] == [p <= 0.3 for p in expected] and 0 < found["alarms"] < 50


def test_the_table_is_short(model: Path, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In order, or the most unusual first if there is an alarm; the rest is counted. Names are text, whatever is in them."""
    capsys.readouterr()
    assert main(["score", str(model), "--data", "digits"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[1:21]] == [*map(str, range(20))] and "340 more" in said[21]
    asked = ["score", str(model), "--data", "digits", *map(str, USUAL), "--alarm", "0.1"]
    records = ask(capsys, *asked)["records"]
    assert main(asked) == 0
    out = capsys.readouterr().out
    shown = [records[int(line.split()[0])]["p"] for line in out.splitlines()[1:21]]
    assert shown == sorted(r["p"] for r in records)[:20] and "images are unusual: p at most 0.1, one-sided" in out
    assert main(["score", str(model), "--images", str(own), "--skip-broken"]) == 0
    out = capsys.readouterr().out
    assert "inner/[red]d.png" in out and "inner/é?f.png" in out and "more" not in out


def test_a_picture_of_each_image(model: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Named after it, the image itself on the left; never among the images."""
    found = ask(capsys, "score", model, "--images", own, "--skip-broken", "--surprise", tmp_path / "maps")
    assert len({r["surprise"] for r in found["records"]}) == 6
    assert {path.name for path in (tmp_path / "maps" / "inner").iterdir()} >= {"z.png", "c.png", "c.png.png"}
    picture = Image.open(tmp_path / "maps" / "inner" / "z.png").convert("L")
    assert picture.width >= 2 * picture.height - 16
    for name in ("a.png", "ca.png"):
        (own / "inner" / name).unlink()
    for folder in (own, own / "inner", own / "maps"):
        assert "lies in the folder of the images" in refusal(capsys, "score", model, "--images", own, "--surprise", folder)
    assert "choose another" in refusal(capsys, "score", model, "--images", own / "inner" / "z.png", "--surprise", own / "inner")
    assert not (own / "maps").exists()
    assert main(["score", str(model), "--data", "digits", "--count", "70", "--surprise", str(tmp_path / "x.png")]) == 0
    assert "the sheet has the first 64 images" in capsys.readouterr().out


def test_a_sheet_of_an_image_without_probability() -> None:
    """Is drawn as others are."""
    maps = torch.full((2, *SPEC.shape), -1.0)
    maps[0, 0, 3, 3] = -torch.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert picture_of(surprise_map(torch.zeros(2, *SPEC.shape), maps)).width > 100


def test_a_video_has_a_picture_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = ImageSpec(1, 8, 8, 2, frames=3)
    np.save(tmp_path / "v.npy", np.zeros((2, *spec.shape), np.uint8))
    folder = saved(tmp_path / "vpn", spec, "video-pixel-network")
    found = ask(capsys, "score", folder, "--images", tmp_path / "v.npy", "--surprise", tmp_path / "maps")
    assert [Path(r["surprise"]).name for r in found["records"]] == ["v.npy[0].png", "v.npy[1].png"]
    assert Image.open(found["records"][0]["surprise"]).width > Image.open(found["records"][0]["surprise"]).height


# ── detectors ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("system", ["pixelcnn", "draw"])
def test_a_detector_is_kept(system: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same scores from the file as from the reference, in the command and in Python; another model or treatment is refused."""
    spec = SPEC if system == "pixelcnn" else ImageSpec(1, 8, 8, 2)
    folder, path = saved(tmp_path / "model", spec, system), tmp_path / "d.json"
    asked = ["score", folder, "--data", "digits", "--count", 12, "--alarm", 0.1]
    fresh = ask(capsys, *asked, *USUAL, "--save-detector", path)
    again = ask(capsys, *asked, "--detector", path)
    assert again["records"] == fresh["records"] and again["auroc"] == fresh["auroc"] and again["reference_images"] == 40
    loaded = Detector.load(path)
    loaded.save(tmp_path / "e.json")
    assert (tmp_path / "e.json").read_bytes() == path.read_bytes() and "digits train" in loaded.reference
    other = saved(tmp_path / "other", spec, system, seed=1)
    assert "another model" in refusal(capsys, "score", other, "--data", "digits", "--detector", path)
    assert "made with num_samples 1, not 2" in refusal(capsys, *asked, "--detector", path, "--num-samples", 2)
    if spec.levels == 2:
        assert "made with binarise None" in refusal(capsys, *asked, "--detector", path, "--binarise", "threshold")
    assert "40 usual images give no p below 0.02439" in refusal(capsys, *asked[:-1], 0.01, "--detector", path)


def test_another_file_is_not_a_detector(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    Detector(Scores(torch.zeros(2).double(), torch.ones(2).double()), "ab", "x", {}).save(path)
    good = json.loads(path.read_text())
    assert Detector.load(path).usual.corrected.tolist() == [-1, -1]
    wrong = [{"kind": 1}, {"format": 2}, {"settings": []}, *({"bits": bits} for bits in ([1], None, ["1", "2"], [10**400, 1]))]
    for change in wrong:
        path.write_text(json.dumps(good | change))
        with pytest.raises(ValueError, match="not a detector that this version"):
            Detector.load(path)
    for text in ("", "[]", "[" * 100_000, "\x00"):
        path.write_text(text)
        with pytest.raises(ValueError, match="not a detector that this version"):
            Detector.load(path)
    path.write_text(json.dumps(good | {"bits": [float("nan"), 1]}))
    with pytest.raises(ValueError, match="finite"):
        Detector.load(path)
    with pytest.raises(ValueError, match="there is no file"):
        Detector.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--alarm", "0.05"], "--alarm: it needs usual images"),
        (["--alarm", "5", *USUAL], "above 0 and below 1"),
        (["--alarm", "0.01", *USUAL], "needs at least 99"),
        (["--save-detector", "d.json"], "give --reference NAME"),
        (["--detector", "d.json", *USUAL], "got both"),
        (["--detector", "d.json"], "there is no file"),
        (["--csv", "x.txt"], "--csv: expected a name that ends in .csv"),
        (["--csv", "no/x.csv"], "there is no folder 'no'"),
        (["--csv", "folder.csv"], "'folder.csv' is not a regular file"),
        (["--surprise", "x.jpg"], "--surprise: expected a name that ends in .png"),
        (["--reference", "digits"], "score fewer with --count or --split"),
    ],
)
def test_refusals(
    flags: list[object], message: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    assert message in refusal(capsys, "score", model, "--data", "digits", *flags)
