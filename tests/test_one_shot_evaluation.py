"""One-shot generalization measured: runs of Omniglot, scores of pairs, nats by the number of exemplars, critics, and the command."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import rastrum
from rastrum.applications import critics, recognisability
from rastrum.applications.critics import PairNetwork, random_view, trained
from rastrum.applications.one_shot import nats_by_exemplars
from rastrum.applications.recognisability import Critics, Episode, episodes_of, train_critics
from rastrum.applications.twenty_way import MEASURES, compared, differing_pixels, error_rate, hausdorff, one_shot_scores
from rastrum.cli import main
from rastrum.cli.exemplars import VALIDATION
from rastrum.config import DataOptions
from rastrum.data.dataset import Dataset, load_dataset
from rastrum.data.omniglot_runs import Run, made_runs, official_runs, prepared
from rastrum.protocol import ConditionSpec, ImageSpec
from rastrum.recipes import RECIPES
from rastrum.strokes import CanvasModel

mirror = pytest.mark.skipif("RASTRUM_HUB_MIRROR" not in os.environ, reason="needs the data mirror")
SPEC = ImageSpec(1, 2, 2, 2)


def toy_run(classes: int = 4, seed: int = 0) -> Run:
    """Drawings of 2x2 pixels."""
    stream = torch.Generator().manual_seed(seed)
    training, test = (torch.randint(0, 2, (classes, 1, 2, 2), dtype=torch.uint8, generator=stream) for _ in range(2))
    return Run("toy", training, test, torch.randperm(classes, generator=stream))


def drawings(groups: int, each: int, side: int = 8, seed: int = 0) -> Dataset:
    """Groups of noisy copies of a random pattern; names as Omniglot has them."""
    stream = torch.Generator().manual_seed(seed)
    patterns = torch.rand(groups, 1, 1, side, side, generator=stream) < 0.3
    images = (patterns ^ (torch.rand(groups, each, 1, side, side, generator=stream) < 0.05)).flatten(0, 1).to(torch.uint8)
    names = tuple(f"alphabet/{group:03}/{number:02}" for group in range(groups) for number in range(each))
    return Dataset("drawings", "all", ImageSpec(1, side, side, 2), images, names=names, groups=torch.arange(groups).repeat_interleave(each))


# ── scores of pairs ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["gated-pixelcnn", "row-lstm"])
def test_scores_are_those_of_the_enumerated_model(name: str) -> None:
    """On 2x2 pixels: p(image | exemplar) of all pairs of the 16 images, from conditions made by hand, sum to one and give each score."""
    model = rastrum.build(name, SPEC, "tiny", ConditionSpec("map", (2, 2, 2)), seed=3).double().eval()
    images = torch.tensor([*itertools.product((0, 1), repeat=4)]).view(16, 1, 2, 2)
    with torch.no_grad():
        table = []
        for exemplar in (*images, None):
            condition = torch.full((1, 2, 2, 2), -1.0)
            if exemplar is not None:
                condition[0, 0] = exemplar[0]
            table.append(torch.cat([-model.nats(image[None], condition) for image in images]))
    log_p = torch.stack(table)                                            # (exemplar, image), the last of none
    assert torch.allclose(log_p.exp().sum(1), torch.ones(17, dtype=torch.float64))
    run = toy_run()
    c, t = ((each.flatten(1).long() * torch.tensor([8, 4, 2, 1])).sum(1) for each in (run.training, run.test))
    (scores,) = one_shot_scores(model, [run])
    expected = [[float(log_p[k, i] + log_p[i, k] - log_p[16, k]) for k in c] for i in t]
    assert torch.allclose(scores.by("two-way"), torch.tensor(expected, dtype=torch.float64))
    assert torch.allclose(scores.by("one-way"), log_p[c][:, t].T)
    assert torch.allclose(scores.by("reverse"), log_p[t][:, c] - log_p[16, c])
    wrong = np.mean([np.argmax(row) != answer for row, answer in zip(expected, run.answers.tolist(), strict=True)])
    assert error_rate([run], [scores.by("two-way")]).mean == wrong


def test_a_bound_is_scored_with_the_same_noise_under_every_exemplar() -> None:
    """Two classes of one drawing have the same score, and that is the bound of this image number; another seed gives another."""
    model = rastrum.build("one-shot", SPEC, "tiny", ConditionSpec("map", (3, 2, 2)), seed=1).eval()
    run = toy_run()
    run.training[2] = run.training[0]
    first, second = one_shot_scores(model, [run, run], num_samples=5, seed=7)
    assert torch.equal(first.forward[:, 0], first.forward[:, 2]) and not torch.equal(first.forward, second.forward)
    assert isinstance(model, CanvasModel)
    condition = torch.full((4, 3, 2, 2), -1.0)
    condition[:, 0] = run.training[1, 0]
    with torch.no_grad():
        assert torch.allclose(first.forward[:, 1], model.bound(run.test, condition, 5, 7), atol=1e-5)
        assert torch.allclose(first.alone, model.bound(run.training, torch.full((4, 3, 2, 2), -1.0), 5, 7, first=4), atol=1e-5)
    assert not torch.equal(first.forward, next(one_shot_scores(model, [run], num_samples=5, seed=8)).forward)


def test_the_error_is_a_share_of_all_trials() -> None:
    run = Run("", torch.empty(0), torch.empty(0), torch.tensor([0, 1, 2, 0]))
    rate = error_rate([run, run], [torch.eye(4)[:, :3], torch.eye(3)[[0, 1, 2, 0]]])
    assert rate.runs == [0.0, 0.0] and rate.trials == 8 and rate.standard_error == 0
    rate = error_rate([run, run], [torch.eye(3)[[1, 1, 2, 0]], torch.eye(3)[[0, 0, 0, 1]]])
    assert rate.runs == [0.25, 0.75] and rate.mean == 0.5 and rate.standard_error == pytest.approx(math.sqrt(0.25 / 8))
    assert str(rate) == "50.0 ± 17.7 %"


def test_distances_by_brute_force() -> None:
    stream = torch.Generator().manual_seed(0)
    one, other = (torch.rand(1, 9, 7, generator=stream) < share for share in (0.2, 0.4))
    points = [[(y, x) for y in range(9) for x in range(7) if image[0, y, x]] for image in (one, other)]
    a, b = ([(y - sum(p[0] for p in at) / len(at), x - sum(p[1] for p in at) / len(at)) for y, x in at] for at in points)
    far = [sum(min(math.dist(p, q) for q in to) for p in of) / len(of) for of, to in ((a, b), (b, a))]
    assert hausdorff(one, other) == pytest.approx(max(far)) and far[0] != pytest.approx(far[1])
    assert hausdorff(one[:, :8], one.roll(1, 1)[:, 1:]) == 0              # wherever it stands
    assert differing_pixels(one, other) == sum(bool(one[0, y, x]) != bool(other[0, y, x]) for y in range(9) for x in range(7))


def conditioned(size: tuple[int, int, int]) -> Callable[[], rastrum.model.Model]:
    return lambda: rastrum.build("gated-pixelcnn", SPEC, "tiny", ConditionSpec("map", size))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: rastrum.build("one-shot", SPEC, "tiny"), "exemplars: .* has no condition; train one with --data.exemplars"),
        (lambda: rastrum.build("gated-pixelcnn", SPEC, "tiny", ConditionSpec("class", 3)), "has a condition of kind 'class'"),
        (conditioned((1, 1, 1)), "expected a condition of 2x2 pixels, like the images, got a map of 1x1"),
        (lambda: rastrum.build("gran", ImageSpec(1, 8, 8, 2), "tiny"), "GRAN has no likelihood"),
    ],
)  # fmt: skip
def test_other_models_are_refused(build: Callable[[], rastrum.model.Model], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        next(one_shot_scores(build(), [toy_run()]))


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@mirror
def test_the_official_runs_give_the_published_errors() -> None:
    """Pixels 81.0 % as measured by others; the Hausdorff distance, 38.8 % over all, on the first run alone, since it takes a while."""
    runs = official_runs()
    assert [run.name for run in runs] == [f"run{n:02}" for n in range(1, 21)]
    for run in runs:
        assert run.training.shape == run.test.shape == (20, 1, 105, 105) and sorted(run.answers.tolist()) == list(range(20))
        assert 0.01 < float(run.test.float().mean()) < 0.15               # ink is 1
    rate = error_rate(runs, compared(runs, differing_pixels))
    assert rate.trials == 400 and rate.mean == pytest.approx(0.81)
    assert error_rate(runs[:1], compared(runs[:1], hausdorff)).mean == 0.45


@mirror
def test_made_runs_pair_drawings_of_two_people() -> None:
    """Never a drawing with itself; each pair is of one character, by the names of the set; another seed makes others."""
    runs = made_runs("test5", count=6, seed=1)
    of = load_dataset("omniglot", "test5", DataOptions(size=105))
    number = {image.numpy().tobytes(): name for image, name in zip(of.images, of.names, strict=True)}
    for run in runs:
        shown, asked = ([number[image.numpy().tobytes()].split("/") for image in images] for images in (run.training, run.test))
        assert len({tuple(name[:2]) for name in shown}) == 20 and len({name[0] for name in shown + asked}) == 1
        assert [name[:2] for name in asked] == [shown[answer][:2] for answer in run.answers]
        people = {name[2] for name in shown}, {name[2] for name in asked}
        assert len(people[0]) == len(people[1]) == 1 and people[0] != people[1]
    assert len({run.name.split(" ")[0] for run in runs}) == 5             # alphabets take turns
    again, other = made_runs("test5", count=2, seed=1), made_runs("test5", count=2, seed=2)
    assert all(torch.equal(one.test, two.test) for one, two in zip(again, runs, strict=False))
    assert not torch.equal(other[0].training, runs[0].training)
    with pytest.raises(ValueError, match="no alphabet with 20 characters that two people drew; name a larger split"):
        made_runs("test5[:40]")


@mirror
def test_prepared_drawings_are_those_of_the_models_data() -> None:
    """omniglot28's pixels exactly; omniglot as ``load_dataset`` makes it, of two levels and of 256."""
    large = load_dataset("omniglot", "test5", DataOptions(size=105))
    run = Run("", large.images[:100], large.images[100:200], torch.arange(100))
    made = prepared([run], "omniglot28")[0]
    small = load_dataset("omniglot28", "test5").images[:200].numpy()
    characters = zip(np.split(torch.cat([made.training, made.test]).numpy(), 10), np.split(small, 10), strict=True)
    assert all(sorted(image.tobytes() for image in ours) == sorted(image.tobytes() for image in theirs) for ours, theirs in characters)
    framed = DataOptions(size=20, framed=True, binarise="threshold")
    for options in (framed, DataOptions(size=52, binarise="threshold"), DataOptions(size=20, levels=17), DataOptions()):
        same = load_dataset("omniglot", "test5[:200]", options)
        made = prepared([run], "omniglot", options)[0]
        assert torch.equal(torch.cat([made.training, made.test]), same.images)
    assert prepared([run], "omniglot28", DataOptions(levels=256))[0].test.unique().tolist() == [0, 255]
    with pytest.raises(ValueError, match="omniglot28 has 28x28 pixels, got size=52; take omniglot"):
        prepared([run], "omniglot28", DataOptions(size=52))
    with pytest.raises(ValueError, match="omniglot28 is as it was published, got framed=True"):
        prepared([run], "omniglot28", DataOptions(size=28, framed=True))


def test_other_files_are_no_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"runs: there is no file .*give Omniglot's all_runs.zip"):
        official_runs(tmp_path / "all_runs.zip")
    (tmp_path / "x.zip").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"x.zip' is not Omniglot's all_runs.zip"):
        official_runs(tmp_path / "x.zip")


# ── nats by the number of exemplars ──────────────────────────────────────────────────────────────────────────────────────


def test_nats_by_exemplars_are_of_the_same_images_with_nested_exemplars() -> None:
    data = drawings(6, 5, 4)
    model = rastrum.build("row-lstm", data.spec, "tiny", ConditionSpec("map", (3, 4, 4)), seed=2).eval()
    found = nats_by_exemplars(model, data, counts=(0, 1, 3, 9), images=11, seed=5)
    assert list(found.nats) == [0, 1, 3] and found.kind == "exact" and found.falls in (True, False)
    index = np.sort(np.random.RandomState(5).permutation(30)[:11])
    for count, nats in found.nats.items():
        for number, image in enumerate(index):
            with torch.no_grad():
                alone = model.nats(data.images[[image]], given(data, int(image), count))
            assert float(nats[number]) == pytest.approx(float(alone), abs=1e-4)
    difference = (found.nats[1] - found.nats[3]) / 2
    assert found.gains[3] == pytest.approx((float(difference.mean()), float(difference.std() / math.sqrt(11))))
    assert list(found.gains) == [1, 3] and found.means[0].value == pytest.approx(float(found.nats[0].mean()))
    assert found.falls == all(gain.value > 0 for gain in found.gains.values())
    assert replace(found, nats={0: found.nats[0]}).falls is None
    assert list(nats_by_exemplars(model, drawings(6, 3, 4), counts=(0, 1, 3), images=4).nats) == [0, 1]    # of each but two others
    with pytest.raises(ValueError, match="does not say what its images show"):
        nats_by_exemplars(model, replace(data, groups=None))


def given(data: Dataset, image: int, count: int) -> Tensor:
    """The map of the first ``count`` of the fixed exemplars of an image, made by hand."""
    from rastrum.data.exemplars import ExemplarSets

    assert data.groups is not None
    chosen = ExemplarSets(data.images, 2, data.groups, torch.arange(len(data)), 3, 3).chosen(np.array([image]), 0, 0)[0, :count]
    condition = torch.full((1, 3, 4, 4), -1.0)
    for slot, other in enumerate(chosen):
        assert other != image and data.groups[other] == data.groups[image]
        condition[0, slot] = data.images[int(other), 0]
    return condition


# ── critics ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_loss_of_pairs_by_hand() -> None:
    """(1) with a softmax written out, and the other drawing as a map; views need no condition and differ from the picture."""
    torch.manual_seed(0)
    data = drawings(5, 2)
    network = PairNetwork(data.spec, "drawings")
    one, other = data.images[::2], data.images[1::2].float()
    with torch.no_grad():
        a, b = network.features(one.float()).double(), network.features(other).double()
        logits = np.array([[-float(((x - y) ** 2).sum()) for y in b] for x in a])
        there, back = (-(np.diag(of) - np.log(np.exp(of).sum(axis))) for of, axis in ((logits, 1), (logits, 0)))
        assert np.allclose(network.loss(one, other).numpy(), (there + back) / 2, atol=1e-4)
        views = PairNetwork(data.spec, "views")
        assert views.condition_spec is None and views.loss(one).shape == (5,)
        assert torch.allclose(views.features(one.float()).norm(dim=1), torch.ones(5))
        assert not torch.equal(random_view(one.float()), one.float())
    with pytest.raises(ValueError, match="square images, got 8x4"):
        PairNetwork(ImageSpec(1, 8, 4, 2), "views")


def test_critics_recognise_copies_and_find_no_diversity_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained on patterns with noise they know real ones; copies are all recognised and all alike, other characters' drawings are neither;
    a second call reads what the first wrote."""
    for steps in ("PAIR_STEPS", "VIEW_STEPS", "NAMING_STEPS"):
        monkeypatch.setattr(recognisability, steps, 30)
    episodes = episodes_of(drawings(23, 9, seed=1))
    assert len(episodes) == 1 and episodes[0].known.shape == (20, 4, 1, 8, 8)
    together = torch.cat([episodes[0].exemplars[:, None], episodes[0].held_back, episodes[0].known], 1).flatten(2)
    assert all(len(of.unique(dim=0)) >= 8 for of in together)             # all different, but for noise that gives the same twice
    judges = train_critics(drawings(40, 6, seed=2), episodes, tmp_path)
    real = judges.real()
    assert float(real.naming) > 0.8 and float(real.recognisability) > 0.8 and float(real.diversity) > 0.05
    copies = judges.judge([episodes[0].exemplars[:, None].expand(-1, 3, -1, -1, -1)])
    assert float(copies.recognisability) == 1 and float(copies.diversity) == pytest.approx(0, abs=1e-6)
    wrong = judges.judge([episodes[0].held_back.roll(1, 0)])
    assert float(wrong.recognisability) < 0.1 and float(wrong.naming) < 0.1

    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(critics, "train", refuse)
    again = train_critics(drawings(40, 6, seed=2), episodes, tmp_path)
    assert all(torch.equal(one, two) for one, two in zip(again.real(), real, strict=True))
    with pytest.raises(AssertionError, match="trained again"):
        trained("pairs", lambda: PairNetwork(episode_spec(), "drawings"), drawings(40, 6, seed=3), 30, tmp_path)
    with pytest.raises(ValueError, match="no alphabet with 20 characters of 6 drawings"):
        episodes_of(drawings(19, 9))


def episode_spec() -> ImageSpec:
    return ImageSpec(1, 8, 8, 2)


def test_diversity_by_hand() -> None:
    torch.manual_seed(0)
    spec = episode_spec()
    pairs, views = PairNetwork(spec, "drawings"), PairNetwork(spec, "views")
    of = torch.randint(0, 2, (20, 3, 1, 8, 8))
    episode = Episode("", of[:, 0], of, of)
    judged = Critics([episode], pairs, views, [critics.Naming(pairs, 20).eval()]).judge([of])
    with torch.no_grad():
        features = [views.features(each.float()).double().numpy() for each in of]
    by_hand = np.mean([math.sqrt(((f - f.mean(0)) ** 2).sum() / 2) for f in features])
    assert float(judged.diversity) == pytest.approx(by_hand, rel=1e-6)


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_validation_is_what_the_recipes_hold_out() -> None:
    assert RECIPES["one-shot-omniglot28"].data.held_out == VALIDATION


@mirror
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models, one of them with a single slot: all parts, in a table, as JSON, in a figure and a picture of each model."""
    for steps in ("PAIR_STEPS", "VIEW_STEPS", "NAMING_STEPS"):
        monkeypatch.setattr(recognisability, steps, 2)
    folders = []
    for name, slots, more in (("one-shot", 4, []), ("row-lstm", 1, ["--model.layers", "1"])):
        folders.append(str(tmp_path / name))
        data = ["--data", "omniglot28", "--data.train", "test5[:40]", "--data.held-out", "test5[:40]", "--data.exemplars", str(slots)]
        run = ["--preset", "tiny", "--conditional", "--run.steps", "1", "--run.folder", folders[-1], "--optim.batch", "4"]
        assert main(["train", name, *data, *run, *more]) == 0
    capsys.readouterr()
    out = tmp_path / "found"
    less = ["--split", "test5", "--runs", "test5", "--count", "3", "--num-samples", "2", "--pair-samples", "1", "--new", "2"]
    monkeypatch.setattr(made_runs, "__defaults__", (1, 0))
    monkeypatch.setattr(recognisability, "episodes_of", lambda data: episodes_of(data)[:1])
    assert main(["exemplars", *folders, *less, "--out", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    scored, classified = answer["likelihood"], answer["classification"]
    assert set(scored["one-shot"]["nats"]) == {"0", "1", "2", "3", "4"} and set(scored["row-lstm"]["nats"]) == {"0", "1"}
    assert (scored["one-shot"]["kind"], scored["row-lstm"]["kind"]) == ("bound", "exact")
    assert set(classified["one-shot"]) == {*MEASURES, "seconds"} and len(classified["row-lstm"]["reverse"]["runs"]) == 1
    assert answer["drawing"]["real drawings"]["relative"][0] == 1
    table = (out / "table.md").read_text()
    assert "| row-lstm | exact |" in table and "| – | – | – | – |" in table and "nats fall with every number of exemplars" in table
    assert "modified Hausdorff distance, 105x105" in table and "published" not in table
    assert json.loads((out / "exemplars.json").read_text()) == answer
    assert {"exemplars.png", "new-one-shot.png", "new-row-lstm.png"} <= {path.name for path in out.iterdir()}


def test_the_command_refuses_what_it_cannot_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = {name: str(tmp_path / name) for name in ("plain", "small", "large")}
    for folder, side, slots in zip(folders.values(), (4, 4, 8), (0, 2, 2), strict=True):
        condition = ConditionSpec("map", (slots, side, side)) if slots else None
        rastrum.build("row-lstm", ImageSpec(1, side, side, 17), "tiny", condition).save_pretrained(folder)
    out = ["--out", str(tmp_path / "out")]
    for arguments, message in (
        ([], "of which models"),
        ([folders["small"], folders["small"]], "named twice"),
        ([folders["plain"]], "plain: exemplars: expected a model that is given them as a spatial map, this one has no condition"),
        ([folders["small"], folders["large"]], "large is for images of 1 x 8 x 8, 17 levels, small for 1 x 4 x 4"),
        ([folders["small"]], "does not say how its images were made"),
        ([folders["large"], "--data", "digits"], "need the alphabets of Omniglot, the images are digits; give --parts likelihood"),
        ([folders["large"], "--data", "digits", "--count", "1"], "--count: expected at least 2, got 1"),
        ([folders["large"], "--data", "digits", "--temperature", "0"], "--temperature: expected a number above 0, got 0.0"),
        ([folders["large"], "--data", "digits", "--guidance", "-1"], "--guidance: expected a number of at least 0, got -1.0"),
    ):
        assert main(["exemplars", *arguments, *out]) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1
    assert main(["exemplars", folders["large"], "--data", "digits", "--parts", "likelihood", "--count", "4", *out]) == 0
    assert "| large | exact |" in capsys.readouterr().out
