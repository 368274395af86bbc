"""Sets of exemplars: which images are chosen, that training resumes on them exactly, Omniglot's splits, the picture of new exemplars."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import rastrum
from rastrum.cli import main
from rastrum.config import DataOptions, OptimConfig, RunConfig, TrainConfig
from rastrum.data import omniglot
from rastrum.data.dataset import Dataset, load_dataset
from rastrum.data.exemplars import ExemplarSets
from rastrum.data.omniglot import FIVE, Drawing, group_numbers, read_split
from rastrum.evaluation import check_data, conditions_for, evaluate
from rastrum.exemplars import exemplars_in
from rastrum.pictures.exemplars import exemplar_sheet, nearest_images, new_exemplars
from rastrum.protocol import ConditionSpec, ImageSpec
from rastrum.raster import RasterModel
from rastrum.recipes.recipe import build_model, recipe_for
from rastrum.train import resume, train
from rastrum.training.record import fingerprint

mirror = pytest.mark.skipif("RASTRUM_HUB_MIRROR" not in os.environ, reason="needs the data mirror")


def sets(sizes: tuple[int, ...] = (5, 3, 1, 20), slots: int = 4, shown: int | None = None) -> ExemplarSets:
    """Images of one pixel whose level is their number, in groups of these sizes, mixed."""
    groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    groups = groups[torch.randperm(len(groups), generator=torch.Generator().manual_seed(0))]
    images = torch.arange(len(groups), dtype=torch.uint8).view(-1, 1, 1, 1)
    return ExemplarSets(images, 256, groups, torch.arange(len(groups)), slots, shown)


# ── which images ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shown", [None, 0, 2])
def test_no_image_is_its_own_exemplar(shown: int | None) -> None:
    """Exemplars are other images of the group, all different, as many as asked for, or as there are; over 200 epochs each other occurs."""
    drawn = sets(sizes=(5, 3, 20), shown=shown)
    numbers = np.arange(len(drawn))
    met: dict[int, set[int]] = {int(number): set() for number in numbers}
    counts = set()
    for epoch in range(200):
        for number, chosen in zip(numbers, drawn.chosen(numbers, 7, epoch), strict=True):
            picked = chosen[chosen >= 0].tolist()
            assert number not in picked and len(set(picked)) == len(picked)
            assert (chosen[: len(picked)] >= 0).all()
            assert {int(drawn.groups[other]) for other in picked} <= {int(drawn.groups[number])}
            met[int(number)] |= set(picked)
            counts.add((int(drawn.groups[number]), len(picked)))
    if shown is None:
        assert counts == {(0, n) for n in range(5)} | {(1, n) for n in range(3)} | {(2, n) for n in range(5)}
    else:
        assert {n for _, n in counts} == {shown}
    if shown != 0:
        assert all(len(met[n]) == int((drawn.groups == drawn.groups[n]).sum()) - 1 for n in met)


def test_every_other_image_is_as_likely() -> None:
    """Of 3 others each is first in a third of the draws, and each pair in a sixth, within 4 standard deviations."""
    drawn, count = sets(sizes=(4,), slots=2, shown=2), 6000
    first = np.concatenate([drawn.chosen(np.array([1]), 3, epoch) for epoch in range(count)])
    pairs, seen = np.unique(first, axis=0, return_counts=True)
    assert len(pairs) == 6 and abs(seen - count / 6).max() < 4 * np.sqrt(count / 6 * 5 / 6)


def test_draws_belong_to_seed_epoch_and_image() -> None:
    """Any batch, part or order gives the same sets; another seed or epoch gives others; held-out ones are fixed, and nested."""
    drawn = sets()
    everything = np.arange(len(drawn))
    whole = drawn.chosen(everything, 1, 2)
    assert np.array_equal(drawn.chosen(everything[::-1], 1, 2)[::-1], whole)
    assert np.array_equal(drawn.chosen(np.array([3, 9]), 1, np.array([2, 5]))[0], whole[3])
    assert not np.array_equal(drawn.chosen(everything, 1, 3), whole) and not np.array_equal(drawn.chosen(everything, 2, 2), whole)
    part = drawn.select(torch.tensor([9, 3]))
    assert np.array_equal(part.chosen(np.array([1]), 1, 2)[0], whole[3]) and torch.equal(part[0:1], drawn[9:10])
    big = sets(sizes=(20, 20), slots=9)
    most = big.showing(9)[:]
    for count in range(10):
        few = big.showing(count)[:]
        assert torch.equal(few[:, :count], most[:, :count]) and (few[:, count:] == -1).all()
    nine = exemplars_in(most, 1)[0].mul(255).round().flatten(1).int()
    assert torch.equal(nine[:, 0], torch.from_numpy(big.showing(9).chosen(np.arange(40), 0, 0)[:, 0]).int())


def test_as_a_tensor_of_conditions() -> None:
    drawn = sets(shown=0)
    assert len(drawn) == 29 and drawn.shape == (29, 4, 1, 1) and drawn.dim() == 4 and drawn[2:5].shape == (3, 4, 1, 1)
    assert torch.equal(drawn[torch.tensor([4, 2])], torch.cat([drawn[4:5], drawn[2:3]])) and drawn[:].dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"slots": 0}, "exemplars: expected a whole number of at least 1, got 0"),
        ({"shown": 5}, "from 0 to the 4 exemplars, got 5"),
        ({"shown": -1}, "from 0 to the 4 exemplars, got -1"),
        ({"shown": 1}, "an image has only 0 others of its kind in this split, so at most 0 exemplars; got 1"),
    ],
)
def test_bad_sets_are_refused(options: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        sets(**options)  # pyright: ignore[reportArgumentType]


# ── data sets ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_any_set_with_classes_has_exemplars() -> None:
    """Other digits of the same class, as a map; options are refused where nothing says what images show, and with crops."""
    data = load_dataset("digits", "test", DataOptions(exemplars=3))
    assert data.condition_spec == ConditionSpec("map", (3, 8, 8)) and isinstance(data.conditions, ExemplarSets)
    assert data.labels is not None and data.options is not None and str(data.options) == "0 … 3 exemplars"
    chosen = data.conditions.showing(3).chosen(np.arange(len(data)), 0, 0)
    assert (data.labels[torch.from_numpy(chosen)] == data.labels[:, None]).all()
    part = load_dataset("digits", "test[10:30]", DataOptions(exemplars=3, exemplars_shown=2, limit=7))
    assert len(part) == 7 and isinstance(part.conditions, ExemplarSets) and part.conditions[:].shape == (7, 3, 8, 8)
    assert torch.equal(part.conditions[:][0], data.conditions.showing(2)[:][int(part.names[0])])
    same = torch.from_numpy(part.conditions.chosen(np.arange(7), 0, 0)[:, :2])
    assert (data.labels[same] == data.labels[part.conditions.index][:, None]).all()
    for options, says in [
        (DataOptions(exemplars_shown=2), "exemplars_shown=2 without exemplars"),
        (DataOptions(exemplars=0), "exemplars must be at least 1, got 0"),
        (DataOptions(exemplars=2, exemplars_shown=3), "from 0 to the 2 exemplars, got 3"),
        (DataOptions(exemplars=2, crop=4), "exemplars are whole images, crop=4"),
    ]:
        with pytest.raises(ValueError, match=says):
            load_dataset("digits", "test", options)
    with pytest.raises(ValueError, match="does not say which images show the same thing"):
        load_dataset("dead-leaves", "test", DataOptions(exemplars=2, size=8))


def tiny_run(steps: int, folder: Path | None = None) -> TrainConfig:
    run = RunConfig(steps=steps, evaluations=2, held_out_images=20, workers=1, seed=3, folder=None if folder is None else str(folder))
    return TrainConfig(optim=OptimConfig(batch=16, micro_batch=None, learning_rate=3e-3), run=run)


def test_a_run_that_is_resumed_goes_on_exactly(tmp_path: Path) -> None:
    """Fresh exemplars are drawn for the steps that are left, as if it had not stopped; other exemplars are other data."""
    data = load_dataset("digits", "train", DataOptions(exemplars=2))
    held_out = load_dataset("digits", "test", DataOptions(exemplars=2))
    build = lambda: rastrum.build("one-shot", data.spec, "tiny", data.condition_spec)  # noqa: E731
    model, whole = build(), build()
    for _ in train(whole, data, tiny_run(200), held_out):                 # more than one epoch
        pass
    for state in train(model, data, tiny_run(200, tmp_path / "run"), held_out):
        if state.step == 120:
            break
    states = list(resume(tmp_path / "run", data, held_out))
    again = rastrum.load(tmp_path / "run")
    assert states[-1].finished and all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert isinstance(data.conditions, ExemplarSets) and fingerprint(data) != fingerprint(replace(data, conditions=None))
    batches = zip(data.batches(9, 1, data.conditions), data.batches(9, 1, data.conditions, first=3), strict=False)
    for _ in range(3):
        next(iter(batches))
    ahead = list(zip(range(5), data.batches(9, 1, data.conditions), strict=False))[3][1]
    later = next(data.batches(9, 1, data.conditions, first=3))
    assert all(a is not None and b is not None and torch.equal(a, b) for a, b in zip(ahead, later, strict=True))


def bars(count: int = 200) -> Dataset:
    """4x4 images with one bright row, another for each of four kinds, and a random pixel that differs between images of a kind."""
    kind = torch.arange(count) % 4
    images = torch.nn.functional.one_hot(kind, 4).to(torch.uint8)[:, None, :, None].expand(-1, 1, 4, 4).clone()
    flip = torch.randint(16, (count,), generator=torch.Generator().manual_seed(0))
    images.flatten(1)[torch.arange(count), flip] ^= 1
    given = ExemplarSets(images, 2, kind, torch.arange(count), 2)
    return Dataset("bars", "train", ImageSpec(1, 4, 4, 2), images, conditions=given)


def test_exemplars_help_a_model_that_learns_to_use_them() -> None:
    """After a short training, each exemplar lowers the bound on images of four kinds: one says which, and 0 cost about log 4 more."""
    data = bars()
    model = rastrum.build("one-shot", data.spec, "tiny", data.condition_spec, seed=1, hidden=32, features=32)
    check_data(model, data)
    config = replace(tiny_run(250), optim=OptimConfig(batch=64, micro_batch=None, learning_rate=1e-2, ema=0.9))
    for _ in train(model, data, config):
        pass
    assert isinstance(data.conditions, ExemplarSets)
    nats = [evaluate(model, replace(data, conditions=data.conditions.showing(k)), workers=1).nats for k in (0, 1, 2)]
    assert nats[1] < nats[0] - 0.7 and nats[2] < nats[0] - 0.7
    assert conditions_for(model, data) is data.conditions


# ── Omniglot's splits ────────────────────────────────────────────────────────────────────────────────────────────────


def test_splits_by_alphabet_and_by_drawing() -> None:
    """45 and 5 alphabets share none; seen and unseen drawings of a character make up all 20."""
    drawings = [Drawing(alphabet, "character01", number) for alphabet in ("Greek", *FIVE) for number in range(20)]
    found = {}
    for split in ("train", "test", "train45", "test5", "train-seen", "train-unseen", "train45-seen", "train45-unseen"):
        parts, wanted = read_split("omniglot", split)
        found[split] = (parts, {drawing for drawing in drawings if wanted(drawing)})
    assert found["train"] == (("train",), set(drawings)) and found["test"] == (("test",), set(drawings))
    assert found["train45"][0] == ("train", "test") and found["test5"][0] == ("test",)
    assert {drawing.alphabet for drawing in found["train45"][1]} == {"Greek"}
    assert {drawing.alphabet for drawing in found["test5"][1]} == set(FIVE) and len(FIVE) == 5
    for whole in ("train", "train45"):
        seen, unseen = found[f"{whole}-seen"][1], found[f"{whole}-unseen"][1]
        assert seen | unseen == found[whole][1] and not seen & unseen and len(seen) == 3 * len(unseen)
    with pytest.raises(ValueError, match=r"omniglot has the splits train, test, train45, test5, train-seen.* got 'test-seen'"):
        read_split("omniglot", "test-seen")
    pairs = [Drawing(*name, 0) for name in (("A", "1"), ("A", "2"), ("B", "1"), ("A", "1"))]
    assert group_numbers(pairs).tolist() == [0, 1, 2, 0]


@mirror
@pytest.mark.parametrize("name", omniglot.OMNIGLOTS)
def test_omniglot_has_its_splits(name: str) -> None:
    """Sizes of the splits, 20 drawings of every character, or 15 and 5; the parts of a whole are its images."""
    counts = {"train": (19_280, 964), "test": (13_180, 659), "train45": (29_580, 1479), "test5": (2_880, 144),
              "train-seen": (14_460, 964), "train-unseen": (4_820, 964)}  # fmt: skip
    options = DataOptions(size=None if name == "omniglot28" else 8, exemplars=4)
    for split, (count, characters) in counts.items():
        data = load_dataset(name, split, options)
        assert data.groups is not None and isinstance(data.conditions, ExemplarSets)
        found = torch.bincount(data.groups)
        assert len(data) == count and len(found) == characters and found.unique().numel() == 1 and data.labels is None
    if name == "omniglot28":
        data = load_dataset(name, "train")
        assert data.spec == ImageSpec(1, 28, 28, 2) and 0.077 < float(data.images.double().mean()) < 0.079 and data.conditions is None


@mirror
def test_small_drawings_are_the_large_ones() -> None:
    """omniglot28 holds the characters of omniglot in its order, and their drawings in another: the nearest is of the same character."""
    small, large = (load_dataset(name, "test[:400]").images.float().flatten(1) for name in ("omniglot28", "omniglot"))
    normed = [(x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True) for x in (small, large)]
    nearest = (normed[0] @ normed[1].T).argmax(1)
    assert float((nearest // 20 == torch.arange(400) // 20).float().mean()) > 0.95


# ── new exemplars ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["one-shot", "gated-pixelcnn"])
def test_a_picture_of_new_exemplars(name: str) -> None:
    """Both kinds of model; the nearest training image of a picture is found by brute force too."""
    spec = ImageSpec(1, 6, 5, 3)
    model = rastrum.build(name, spec, "tiny", ConditionSpec("map", (2, 6, 5)), seed=1)
    generator = torch.Generator().manual_seed(0)
    shown, training = (torch.randint(3, (count, 1, 6, 5), generator=generator) for count in (2, 50))
    new = new_exemplars(model, shown, training, count=3, seed=4)
    assert new.drawn.shape == (2, 3, 1, 6, 5) and new.nearest is not None and new.nearest.shape == new.drawn.shape
    drawn = new.drawn.flatten(0, 1)
    correlations = [[np.corrcoef(one.flatten(), other.flatten())[0, 1] for other in training] for one in drawn]
    assert nearest_images(drawn, training).tolist() == np.argmax(correlations, 1).tolist()
    assert torch.equal(new.nearest.flatten(0, 1), training[nearest_images(drawn, training)] / 2)
    with_nearest, without = exemplar_sheet(new), exemplar_sheet(new._replace(nearest=None))
    assert with_nearest.height > 1.7 * without.height
    assert (np.asarray(without) == (230, 36, 36)).all(2).any()            # the red box
    cold = new_exemplars(model, shown, count=3, seed=4, temperature=1e-6).drawn
    assert (cold - cold[:, :1]).abs().max() < 1e-2 < (new.drawn - new.drawn[:, :1]).abs().max()
    with pytest.raises(ValueError, match="this one has no condition"):
        new_exemplars(rastrum.build(name, spec, "tiny"), shown)


@pytest.mark.parametrize("name", ["row-lstm", "gated-pixelcnn", "pixelcnn++"])
def test_a_raster_model_without_an_exemplar_says_how_they_are_given(name: str) -> None:
    spec, two = ImageSpec(1, 8, 8, 2), ConditionSpec("map", (2, 8, 8))
    model = rastrum.build(name, spec, "tiny", two, condition_exemplars=True)
    for ask in (lambda: rastrum.sample(model, 2), lambda: model.nats(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))):
        with pytest.raises(ValueError, match=r"got none; it takes up to 2 exemplars of an image: rastrum\.exemplar_map makes the map"):
            ask()


def test_training_fills_every_slot() -> None:
    """As many slots as the largest class has others, and no more; images to score may have fewer."""
    data = load_dataset("digits", "test", DataOptions(exemplars=40))
    assert data.labels is not None
    most = int(data.labels.bincount().max()) - 1
    recipe = replace(recipe_for("one-shot", (1, 8, 8, 17)), preset="tiny", conditional=True)
    with pytest.raises(ValueError, match=rf"has at most {most} others of its kind, so no .* fill 40 slots; give --data\.exemplars {most}$"):
        build_model(recipe, data)
    model = build_model(recipe, load_dataset("digits", "train", DataOptions(exemplars=40)))
    assert model.slots == 40 > most and evaluate(model, data.subset(8), workers=1).images == 8


@pytest.mark.parametrize("name", ["one-shot", "gated-pixelcnn"])
def test_a_map_whose_exemplars_are_no_pictures_is_refused(name: str) -> None:
    """Levels instead of [0, 1], and a slot that is empty in part; a map that is no set of exemplars may hold any values."""
    spec, two = ImageSpec(1, 8, 8, 2), ConditionSpec("map", (2, 8, 8))
    model = rastrum.build(name, spec, "tiny", two, **({} if name == "one-shot" else {"condition_exemplars": True}))
    x, fits = torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.stack([torch.rand(8, 8), torch.full((8, 8), -1.0)])
    assert model.nats(x, fits).isfinite().all()
    for wrong, said in ((255.0, "0 … 255"), (-0.5, "-0.5 … 0"), (-1.0, "-1 … 0")):
        condition = fits.clone()
        condition[0, 0, 0], condition[0, 1:] = wrong, 0
        condition[0, 0, 1:] = 0
        for ask in (lambda given: model.nats(x, given), lambda given: rastrum.sample(model, 1, given)):
            with pytest.raises(ValueError, match=rf"an exemplar lies in \[0, 1\].* got a slot of {said};") as error:
                ask(condition)
            assert "\n" not in str(error.value)
    if name != "one-shot":
        assert rastrum.build(name, spec, "tiny", two).nats(x, 300 * fits).isfinite().all()


def test_a_model_with_exemplars_keeps_its_promises() -> None:
    """In float64, with maps that are sets of pictures."""
    model = rastrum.build("gated-pixelcnn", ImageSpec(1, 3, 3, 2), "tiny", ConditionSpec("map", (2, 3, 3)), condition_exemplars=True)
    assert isinstance(model, RasterModel) and rastrum.check(model).ok


def test_the_commands_draw_and_score_with_exemplars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """train, evaluate and figures need no flag but those of the data; sample without exemplars says how they are given."""
    run = str(tmp_path / "run")
    flags = ["--preset", "tiny", "--conditional", "--data.exemplars", "2", "--run.steps", "3", "--run.evaluations", "1"]
    assert main(["train", "one-shot", "--data", "digits", *flags, "--run.folder", run]) == 0
    capsys.readouterr()
    assert main(["evaluate", run, "--count", "8", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    data = load_dataset("digits", "test", DataOptions(exemplars=2, limit=8))
    assert answer["nats"] == pytest.approx(evaluate(rastrum.load(run), data, workers=1).nats, rel=1e-5)
    assert answer["preprocessing"]["exemplars"] == 2
    assert main(["figures", run, "--count", "9", "--out", str(tmp_path / "figures"), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["models"]["run"]["files"]
    names = SimpleNamespace(files={Path(file).name for file in files})
    assert {"exemplars.png", "interpolation.png", "samples.png"} <= names.files
    with Image.open(tmp_path / "figures" / "exemplars.png") as picture:
        assert picture.width > 600
    assert "condition=torch.full((2, 8, 8), -1.0)" in Path(run, "README.md").read_text(encoding="utf-8")
    assert main(["sample", run]) == 2
    error = capsys.readouterr().err
    assert "give --map; it takes up to 2 exemplars of an image: rastrum.exemplar_map" in error and error.count("\n") == 1
    np.save(tmp_path / "none.npy", np.full((2, 8, 8), -1.0))
    assert main(["sample", run, "--map", str(tmp_path / "none.npy"), "--count", "2", "--json"]) == 0
