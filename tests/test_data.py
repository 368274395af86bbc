"""Data sets have the integer levels of their spec, and bad ones are refused in one line."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from rastrum.config import DataOptions
from rastrum.data import digit_shapes
from rastrum.data.dataset import Dataset, load_dataset
from rastrum.data.hub import hub
from rastrum.data.placed_digits import cluttered, paste, scrap_count, two_digits
from rastrum.data.sources import source_of
from rastrum.data.textures import crops, dead_leaves, leaves
from rastrum.protocol import ConditionSpec, ImageSpec

mirror = pytest.mark.skipif("RASTRUM_HUB_MIRROR" not in os.environ, reason="needs RASTRUM_HUB_MIRROR")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 grey 4x4 images in two classes; image i is all i * 10."""
    for i in range(20):
        (tmp_path / f"kind{i % 2}").mkdir(exist_ok=True)
        Image.new("L", (4, 4), i * 10).save(tmp_path / f"kind{i % 2}" / f"{i:02d}.png")
    return tmp_path


def grey(values: list[int], levels: int = 256) -> Dataset:
    """Images of one pixel each."""
    return Dataset("mine", "train", ImageSpec(1, 1, 1, levels), torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1))


@pytest.mark.parametrize("x", [torch.rand(3, 1, 4, 4), np.random.rand(3, 1, 4, 4)])
def test_images_in_01_are_refused_where_a_data_set_is_made(x: torch.Tensor) -> None:
    """Training cut them to zeros without a word."""
    with pytest.raises(ValueError, match=r"data 'mine': images: expected integer levels 0 … 255, got torch\.float.*round to levels first"):
        Dataset("mine", "train", ImageSpec(1, 4, 4), x)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({"images": torch.zeros(3, 4, 4, dtype=torch.uint8)}, r"images: expected shape \(batch, 1, 4, 4\), got \(3, 4, 4\)"),
        ({"images": torch.zeros(3, 4, 4, 1, dtype=torch.uint8)}, "images: expected shape"),
        ({"images": torch.full((3, 1, 4, 4), 17)}, "images: levels must lie in 0 … 16, got 17 … 17"),
        ({"images": torch.full((3, 1, 4, 4), -1)}, "images: levels must lie in 0 … 16, got -1 … -1"),
        ({"labels": torch.zeros(2, dtype=torch.int64), "classes": 3}, "labels: expected 3 whole numbers"),
        ({"labels": torch.zeros(3), "classes": 3}, "labels: expected 3 whole numbers"),
        ({"labels": torch.tensor([0, 1, 3]), "classes": 3}, "labels must lie in 0 … classes − 1, got 0 … 3 with classes=3"),
        ({"conditions": torch.zeros(2, 5)}, "conditions: expected 3 vectors"),
        ({"conditions": torch.zeros(3, 5, dtype=torch.int64)}, "conditions: expected 3 vectors"),
        ({"originals": torch.zeros(2, 1, 4, 4, dtype=torch.uint8)}, "originals: expected 3"),
        ({"originals": torch.rand(3, 1, 4, 4)}, "originals: expected integer levels"),
        ({"originals": tuple(torch.full((1, 5, 5 + i), 7) for i in range(3)), "original_levels": 7}, "originals: levels must lie in 0 … 6"),
    ],
)
def test_other_arrays_are_refused_where_a_data_set_is_made(what: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Dataset("mine", "train", **{"spec": ImageSpec(1, 4, 4, 17), "images": torch.zeros(3, 1, 4, 4, dtype=torch.uint8)} | what)


def test_whole_numbers_of_any_type_are_images() -> None:
    for kind in (np.uint8, np.int64, np.uint16, bool):
        data = Dataset("mine", "train", ImageSpec(1, 2, 2, 2), np.ones((3, 1, 2, 2), kind))  # pyright: ignore[reportArgumentType]
        assert data.images.dtype == torch.uint8 and data.images.unique().tolist() == [1]
    deep = Dataset("mine", "train", ImageSpec(1, 2, 2, 65536), np.full((3, 1, 2, 2), 65535, np.uint16))  # pyright: ignore[reportArgumentType]
    assert deep.images.dtype == torch.int32 and deep.images.unique().tolist() == [65535]


def test_digits_are_complete_and_the_split_is_balanced_and_disjoint() -> None:
    train, test, every = (load_dataset("digits", split) for split in ("train", "test", "all"))
    assert (len(train), len(test), len(every)) == (1437, 360, 1797)
    assert every.spec == ImageSpec(1, 8, 8, 17) and every.images.dtype == torch.uint8
    assert test.labels is not None and test.labels.bincount().tolist() == [36] * 10 and test.classes == 10
    assert test.class_names == tuple("0123456789") and test.options == DataOptions()
    assert int(every.images.sum()) == 561718  # of the file as UCI publishes it
    rows = [{bytes(image.flatten().tolist()) for image in part.images} for part in (train, test)]
    assert not rows[0] & rows[1]


def test_requantising_rounds_to_the_nearest_level() -> None:
    every = load_dataset("digits", "all")
    for levels in (2, 4, 9, 17, 256):
        got = load_dataset("digits", "all", DataOptions(levels=levels))
        expected = np.floor(every.images.numpy().astype(np.float64) / 16 * (levels - 1) + 0.5)
        assert got.spec.levels == levels and np.array_equal(got.images.numpy(), expected)


def test_three_binarisations_differ() -> None:
    """Static never changes, dynamic changes with each use and has the intensities as its mean, threshold is half intensity."""
    source = load_dataset("digits").images
    static, again = (load_dataset("digits", options=DataOptions(binarise="static")) for _ in range(2))
    assert torch.equal(static.images, again.images) and static.originals is None and static.spec.levels == 2
    assert static.images[source == 0].max() == 0 and static.images[source == 16].min() == 1
    dynamic = load_dataset("digits", options=DataOptions(binarise="dynamic"))
    assert torch.equal(dynamic.images, static.images)
    one = dynamic.select(slice(0, 1))
    draws = torch.stack([x for (x, _), _ in zip(one.batches(1, 0), range(2000), strict=False)])
    assert draws.float().mean(0).sub(source[:1] / 16).abs().max() < 5 * 0.5 / 2000**0.5
    threshold = load_dataset("digits", options=DataOptions(binarise="threshold"))
    assert torch.equal(threshold.images.bool(), source >= 8)


def test_dead_leaves_are_disks_that_occlude_one_another() -> None:
    """The first disk that covers a pixel stays: the same picture painted from the last disk to the first. Radii follow r^−3."""
    size = 48
    picture = dead_leaves(size, np.random.RandomState([3, 1]))
    random, painted, covered = np.random.RandomState([3, 1]), [], np.zeros((size, size), bool)
    row, column = np.mgrid[:size, :size]
    while not covered.all():                                              # the generator's draws, in its order
        radii = (64.0**-2 + (2.0**-2 - 64.0**-2) * random.random_sample(2000)) ** -0.5
        centres = random.random_sample((2000, 2)) * (size + 128) - 64
        for (i, j), radius, level in zip(centres, radii, random.randint(0, 256, 2000), strict=True):
            inside = (row - i) ** 2 + (column - j) ** 2 <= radius**2
            painted.append((inside, level))
            covered |= inside
        # P(R > r) of a density ∝ r^−3 on [2, 64]
        for r in (3.0, 6.0, 20.0):
            assert abs((radii > r).mean() - (r**-2 - 64.0**-2) / (2.0**-2 - 64.0**-2)) < 5 * 0.5 / 2000**0.5
    expected = np.zeros((size, size), np.uint8)
    for inside, level in reversed(painted):
        expected[inside] = level
    assert np.array_equal(picture, expected) and len(np.unique(picture)) > 20


def test_patches_of_dead_leaves() -> None:
    """Patches are fixed for a split, have the requested size, and come from every picture; splits have different pictures; too large a size
    is refused."""
    options = DataOptions(size=12, limit=40)
    test = load_dataset("dead-leaves", "test", options)
    assert test.spec == ImageSpec(1, 12, 12, 256) and len(test) == 40
    assert torch.equal(test.images, load_dataset("dead-leaves", "test", options).images)
    assert not torch.equal(test.images, load_dataset("dead-leaves", "validation", options).images)
    for split, size, says in (("test", 300, "size must be at most 256, got 300"), ("all", 8, "train, validation, test, got 'all'")):
        with pytest.raises(ValueError, match=says):
            load_dataset("dead-leaves", split, DataOptions(size=size))


@mirror
def test_patches_of_bsds300() -> None:
    """20 patches of each of 100 test photographs, colour or grey, each contained in its photograph."""
    test = load_dataset("bsds300", "test", DataOptions(size=16))
    assert test.spec == ImageSpec(3, 16, 16, 256) and len(test) == 2000
    _, open_image = next(iter(hub("berkeley/bsds300", None, "image", "test").images))
    whole = torch.from_numpy(np.array(open_image()).transpose(2, 0, 1))
    windows = whole.unfold(1, 16, 1).unfold(2, 16, 1)
    same = [(windows == patch.view(3, 1, 1, 16, 16)).flatten(3).all(3).all(0) for patch in test.images[:3]]
    assert all(bool(found.any()) for found in same)
    assert load_dataset("bsds300", "test", DataOptions(size=16, grey=True, limit=5)).spec == ImageSpec(1, 16, 16, 256)


def shapes(count: int, size: int = 28, seed: int = 0) -> np.ndarray:
    """Stand-ins for digits: (count, size, size) random pictures that leave no pixel black."""
    return np.random.RandomState(seed).randint(1, 256, (count, size, size)).astype(np.uint8)


def test_photographs_are_cut_into_pieces_and_halved_where_their_files_were_lossy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pixel is lost or used twice, and a halved pixel is the mean of four."""
    datasets = pytest.importorskip("datasets")
    rng = np.random.default_rng(0)
    sizes = {"debian/photographs": (300, 520, 3), "berkeley/bsds300": (21, 31, 3)}
    pictures = {repository: rng.integers(0, 256, size, np.uint8) for repository, size in sizes.items()}
    features = datasets.Features({"image": datasets.Image()})
    for repository, picture in pictures.items():
        folder = tmp_path / repository
        folder.mkdir(parents=True)
        for split in ("train", "test"):
            table = datasets.Dataset.from_dict({"image": [Image.fromarray(picture)]}, features=features)
            table.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))
    monkeypatch.setenv("RASTRUM_HUB_MIRROR", str(tmp_path))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    whole = pictures["debian/photographs"]

    def pieces_of(split: str) -> list[np.ndarray]:
        return [np.asarray(opener()) for _, opener in source_of("photographs", split, DataOptions()).images]

    held_out = pieces_of("test")
    assert [piece.shape[:2] for piece in held_out] == [(150, 174), (150, 173), (150, 173)] * 2
    assert np.array_equal(np.concatenate([np.concatenate(held_out[:3], 1), np.concatenate(held_out[3:], 1)]), whole)
    train = pieces_of("train")
    assert len(train) == 6 + 2 + 1 and train[-1].shape == (10, 15, 3)
    exact = pictures["berkeley/bsds300"][:20, :30].reshape(10, 2, 15, 2, 3).mean((1, 3))
    assert np.array_equal(train[-1], np.floor(exact + 0.5).astype(np.uint8))
    with pytest.raises(ValueError, match="has the splits train, test, got 'all'"):
        source_of("photographs", "all", DataOptions())


def test_placing_adds_light_or_covers_with_paint() -> None:
    """Every pixel follows the rule in exact fractions; nothing changes outside the patches; patches over the edge are refused."""
    patches = shapes(2, 3)
    for paint in (None, np.array([[255, 7, 0], [0, 100, 30]], np.uint8)):
        ground = np.full((2, 3, 5, 6), 60, np.uint8)
        canvases = ground.copy()
        paste(canvases, patches, np.array([[0, 3], [2, 1]]), paint)
        for n, (row, column) in enumerate(((0, 3), (2, 1))):
            expected = ground[n].copy()
            for c, i, j in np.ndindex(3, 3, 3):
                ink = Fraction(int(patches[n, i, j]), 255)
                mixed = min(60 + 255 * ink, 255) if paint is None else 60 * (1 - ink) + int(paint[n, c]) * ink
                expected[c, row + i, column + j] = round(mixed)
            assert np.array_equal(canvases[n], expected)
    for corner in ((0, 4), (3, 0), (-1, 0)):
        with pytest.raises(ValueError, match="3x3 pixels reach over the edge of 6x5"):
            paste(canvases, patches, np.array([corner, (0, 0)]))


@pytest.mark.parametrize("colour", [False, True])
def test_two_digits_lie_anywhere_and_repeat(colour: bool) -> None:
    """Two stand-ins per picture, on their background; corners of the canvas are reached; the result depends on the seed, not on the
    blocks."""
    count, size = 2100, 33
    pictures = np.concatenate(list(two_digits(shapes(5), count, size, seed=3, colour=colour)))
    assert pictures.shape == (count, 3 if colour else 1, size, size) and pictures.dtype == np.uint8
    assert np.array_equal(pictures, np.concatenate(list(two_digits(shapes(5), count, size, seed=3, colour=colour))))
    assert not np.array_equal(pictures, np.concatenate(list(two_digits(shapes(5), count, size, seed=4, colour=colour))))
    if colour:
        assert pictures[:, :, 16, 16].max() == 255 and np.median(pictures[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]) < 64
        return
    covered = (pictures[:, 0] > 0).sum((1, 2))
    assert covered.min() == 28 * 28 and covered.max() == 28 * 28 + 5 * 28 + 5 * 23
    corner = (pictures[:, 0, 0, 0] > 0).mean()                            # 1 − (35/36)² of two digits at 6x6 positions
    assert abs(corner - (1 - (35 / 36) ** 2)) < 5 * (corner / count) ** 0.5
    both = covered == covered.max()                                       # in opposite corners: the free parts are a stand-in's
    parts = {shape[:5].tobytes() for shape in shapes(5)}
    assert all(max(picture[0, :5, :28].tobytes() in parts, picture[0, :5, 5:].tobytes() in parts) for picture in pictures[both])


def test_clutter_hides_every_digit_in_its_order_among_fragments_of_others() -> None:
    """4 fragments on 60 pixels, 8 on 100; digit i is complete in picture i except under fragments, none of which is of the digit itself."""
    digits = np.zeros((40, 28, 28), np.uint8)
    digits += np.arange(1, 41, dtype=np.uint8)[:, None, None] * 6         # each of one grey level, of its own
    for size, scraps in ((60, 4), (100, 8), (28, 0)):
        assert scrap_count(size) == scraps
        pictures = np.concatenate(list(cluttered(digits, size, seed=1)))[:, 0]
        assert pictures.shape == (40, size, size)
        for digit, picture in zip(digits, pictures, strict=True):
            here = picture == digit[0, 0]
            assert here.sum() > 28 * 28 - scraps * 64 - 1
            rows, columns = np.flatnonzero(here.any(1)), np.flatnonzero(here.any(0))
            assert len(rows) <= 28 and len(columns) <= 28
            outside = picture.copy()
            outside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = 0
            assert (outside > 0).sum() <= scraps * 64 and not (outside == digit[0, 0]).any()


def test_placed_sets_are_made_of_their_own_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training pictures have training digits, test pictures test digits; labels if there is one digit; options as for any set."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=[str(i) for i in range(10)])})
    (tmp_path / "ylecun" / "mnist").mkdir(parents=True)
    for split, level, count in (("train", 100, 6), ("test", 30, 4)):
        table = {"image": [Image.new("L", (28, 28), level)] * count, "label": list(range(count))}
        path = tmp_path / "ylecun" / "mnist" / f"{split}-00000-of-00001.parquet"
        datasets.Dataset.from_dict(table, features=features).to_parquet(str(path))
    monkeypatch.setenv("RASTRUM_HUB_MIRROR", str(tmp_path))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for split, levels, count in (("train", {0, 100, 200}, 6), ("test", {0, 30, 60}, 4)):
        two = load_dataset("two-digit-mnist", split)
        assert two.spec == ImageSpec(1, 60, 60, 256) and len(two) == count and two.labels is None
        assert set(two.images.unique().tolist()) <= levels
        one = load_dataset("cluttered-mnist", split, DataOptions(size=64))
        assert one.spec == ImageSpec(1, 64, 64, 256) and one.classes == 10
        assert one.labels is not None and one.labels.tolist() == list(range(count))
        assert set(one.images.unique().tolist()) <= {min(times * max(levels) // 2, 255) for times in range(5)}
        placed = load_dataset("placed-mnist", split, DataOptions(binarise="dynamic"))
        assert placed.spec == ImageSpec(1, 32, 32, 2) and placed.condition_spec == ConditionSpec("map", (10, 4, 4))
        assert placed.labels is not None and isinstance(placed.conditions, torch.Tensor)
        assert placed.conditions.sum((2, 3)).argmax(1).equal(placed.labels)
        assert isinstance(placed.originals, torch.Tensor) and set(placed.originals.unique().tolist()) == {0, max(levels) // 2}
        part = load_dataset("placed-mnist", f"{split}[1:3]", DataOptions(size=20))
        assert part.spec == ImageSpec(1, 20, 20, 256) and part.conditions is not None and len(part.conditions) == 2
        described = load_dataset("described-mnist", split, DataOptions(binarise="threshold"))
        assert described.spec == ImageSpec(1, 28, 28, 2)
        assert described.condition_spec == ConditionSpec("vector", 4) and len(described) == count
    with pytest.raises(ValueError, match="a crop would move what it shows; leave crop out, got 8"):
        load_dataset("placed-mnist", "test", DataOptions(crop=8))
    assert load_dataset("two-digit-mnist-colour", "test", DataOptions(size=40)).spec == ImageSpec(3, 40, 40, 256)
    assert load_dataset("two-digit-mnist-colour", "test", DataOptions(grey=True)).spec.channels == 1
    assert load_dataset("two-digit-mnist", "test", DataOptions(binarise="threshold")).spec.levels == 2
    for split, size, says in (("all", 60, "train, test, got 'all'"), ("test", 27, "digits of 28 pixels a side, .* got 27")):
        with pytest.raises(ValueError, match=says):
            load_dataset("cluttered-mnist", split, DataOptions(size=size))


def test_the_shape_of_a_digit_by_loops() -> None:
    """Ink, width, height and slant of a bar that leans to the right, as sums over its pixels; twice as bright, only its ink differs."""
    bar = np.zeros((28, 28), np.uint8)
    for row in range(6, 22):
        bar[row, 20 - row // 2 : 23 - row // 2] = 120
    ink = [(row, column, bar[row, column] / 255) for row in range(28) for column in range(28)]
    total = sum(x for *_, x in ink)
    down, across = (sum(each[axis] * each[2] for each in ink) / total for axis in (0, 1))
    height, width = (sum((each[axis] - mean) ** 2 * each[2] for each in ink) / total for axis, mean in ((0, down), (1, across)))
    together = sum((row - down) * (column - across) * x for row, column, x in ink) / total
    wanted = (np.array([total, width**0.5, height**0.5, -together / height]) - digit_shapes.MEAN) / digit_shapes.DEVIATION
    found, bright, mirrored, empty = digit_shapes.shapes(np.stack([bar, 2 * bar, bar[:, ::-1], 0 * bar]))
    assert found == pytest.approx(wanted, abs=1e-5) and -together / height > 0.4                # up and to the right
    assert bright[1:] == pytest.approx(found[1:], abs=1e-5) and bright[0] > found[0] and np.isfinite(empty).all()
    assert mirrored[:3] == pytest.approx(found[:3], abs=1e-5) and mirrored[3] < -0.4


@mirror
def test_omniglot_is_white_on_black_of_28_pixels() -> None:
    """Area averages: a character has as much ink as its drawing of 105 pixels; levels and sizes are options as for any set."""
    data = load_dataset("omniglot", "test")
    assert data.spec == ImageSpec(1, 28, 28, 256) and len(data) == 13_180 and data.labels is None
    _, open_image = next(iter(hub("brendenlake/omniglot", None, "image", "test").images))
    ink = 1 - np.asarray(open_image()).mean()
    assert data.images[0].double().mean().item() / 255 == pytest.approx(ink, abs=2e-3)
    assert data.images[:, :, 0, 0].double().mean() < 10                   # corners are empty


def test_a_picture_opened_twice_or_late_is_the_same() -> None:
    """Whatever was opened in between, for leaves, and for patches selected from a list."""
    ((_, open_picture),) = leaves(1, 5)
    assert np.array_equal(np.asarray(open_picture()), np.asarray(open_picture()))
    plain = [Image.fromarray(np.full((4, 4), level, np.uint8)) for level in (10, 20)]
    patches = list(crops(((str(number), lambda image=image: image) for number, image in enumerate(plain)), 2, 2, seed=0))
    assert [np.unique(np.asarray(open_patch())).tolist() for _, open_patch in patches] == [[10], [10], [20], [20]]


@pytest.mark.parametrize("binarise", [None, "dynamic"])
def test_crops_are_drawn_again_in_training_and_fixed_otherwise(binarise: Literal["dynamic"] | None) -> None:
    """All positions of 5x5 crops in an 8x8 digit occur equally often; a part of a set has the crops of the whole; the seed repeats them."""
    options = DataOptions(crop=5, binarise=binarise)
    data, whole = load_dataset("digits", "test", options), load_dataset("digits", "test", DataOptions(binarise=binarise))
    assert data.spec == ImageSpec(1, 5, 5, whole.spec.levels) and data.images.shape == (360, 1, 5, 5)
    windows = whole.images.unfold(2, 5, 1).unfold(3, 5, 1)                # (N, 1, 4, 4, 5, 5)
    assert bool((windows == data.images[:, :, None, None]).flatten(-2).all(-1).flatten(1).any(1).all())
    assert 5 < int((whole.images[..., :5, :5] == data.images).flatten(1).all(1).sum()) < 60     # 360 / 16 in this corner, about
    assert torch.equal(load_dataset("digits", "test[100:120]", options).images, data.images[100:120])

    one = data.select(slice(3, 4))
    first, again = ([x for (x, _), _ in zip(one.batches(1, 0), range(4000), strict=False)] for _ in range(2))
    draws = torch.cat(first)
    assert torch.equal(draws, torch.cat(again)) and torch.equal(one.images, data.images[3:4])
    source = load_dataset("digits", "test").images[3:4].float() / (16 if binarise else 1)
    mean = source.unfold(2, 5, 1).unfold(3, 5, 1).mean((2, 3))
    assert (draws.float().mean(0) - mean[0]).abs().max() < 5 * (0.5 if binarise else 8) / 4000**0.5
    if binarise is None:
        hits = (windows[3].flatten(1, 2)[None] == draws[:, :, None]).flatten(-2).all(-1).sum(0)
        assert hits.shape == (1, 16) and int(hits.min()) > 150 and int(hits.max()) < 350


def test_a_part_of_a_static_set_is_part_of_the_same_draw() -> None:
    options = DataOptions(binarise="static")
    assert torch.equal(load_dataset("digits", "train[100:200]", options).images, load_dataset("digits", "train", options).images[100:200])
    few = load_dataset("digits", "train", DataOptions(limit=30))
    assert len(few) == 30 and torch.equal(few.images, load_dataset("digits", "train", DataOptions(limit=30)).images)
    assert len(load_dataset("digits", "test[-10:]")) == 10


def test_batches_visit_every_image_once_before_any_comes_again() -> None:
    data = grey(list(range(10)))
    seen = [x for (x, _), _ in zip(data.batches(4, 1), range(5), strict=False)]
    flat = torch.cat(seen).flatten()
    assert flat[:10].sort().values.tolist() == flat[10:].sort().values.tolist() == list(range(10))
    again = [x for (x, _), _ in zip(data.batches(4, 1), range(5), strict=False)]
    assert torch.equal(flat, torch.cat(again).flatten()) and not torch.equal(flat[:10], flat[10:])


def test_a_folder_has_labels_and_a_held_out_tenth(folder: Path) -> None:
    every, train, test = (load_dataset(f"folder:{folder}", split) for split in ("all", "train", "test"))
    assert (len(every), len(train), len(test)) == (20, 18, 2)
    assert every.labels is not None and every.labels.tolist() == [0] * 10 + [1] * 10 and every.classes == 2
    assert every.class_names == ("kind0", "kind1")
    assert every.images[:, 0, 0, 0].tolist() == [*range(0, 200, 20), *range(10, 200, 20)]
    assert test.images[:, 0, 0, 0].tolist() == [0, 10]


def test_a_folder_with_split_subfolders_uses_them(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        (tmp_path / split).mkdir()
        for i in range(count):
            Image.new("RGB", (2, 3), (i, 2, 3)).save(tmp_path / split / f"{i}.png")
    test = load_dataset(f"folder:{tmp_path}", "test")
    assert test.spec == ImageSpec(3, 3, 2, 256) and test.labels is None and test.images[1, :, 0, 0].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="has the splits train, test, got 'validation'"):
        load_dataset(f"folder:{tmp_path}", "validation")


def picture(path: Path, level: int, size: tuple[int, int] = (3, 2)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).save(path)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "Validation", "Testing"), ("TRAIN", "valid", "Test")])
def test_splits_have_the_names_that_people_give_them(tmp_path: Path, names: tuple[str, str, str]) -> None:
    for level, name in enumerate(names):
        picture(tmp_path / name / "a" / "0.png", level)
        picture(tmp_path / name / "train" / "0.PNG", 10 + level)         # a class
    (tmp_path / "labels.csv").write_text("hello")
    (tmp_path / ".DS_Store").write_text("hidden")
    picture(tmp_path / "overview.png", 99)
    for level, asked in enumerate((("train", "training"), ("validation", "val", "dev"), ("test", "Test"))):
        for split in (*asked, names[level]):
            data = load_dataset(str(tmp_path), split)
            assert data.images[:, 0, 0, 0].tolist() == [level, 10 + level] and data.class_names == ("a", "train")
    assert data.notes[0] == "files passed over, since they are not images: 1 (1 .csv)"
    assert data.notes[1] == f"images passed over, since they lie beside the folders {', '.join(names)}: 1"
    picture(tmp_path / "testing" / "0.png", 0)
    picture(tmp_path / "test" / "0.png", 0)
    with pytest.raises(ValueError, match="has two folders for"):
        load_dataset(str(tmp_path), "train")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    """One split's name among other classes is a class; alone it is a split."""
    for level, name in enumerate(("bus", "car", "train")):
        for i in range(10):
            picture(tmp_path / "three" / name / f"{i}.png", 20 * level + i)
    picture(tmp_path / "one" / "train" / "0.png", 7)
    three = load_dataset(str(tmp_path / "three"), "train")
    assert three.class_names == ("bus", "car", "train") and len(three) == 27 and three.labels is not None
    assert three.labels.bincount().tolist() == [9, 9, 9]
    assert load_dataset(str(tmp_path / "one"), "train").images.unique().tolist() == [7]
    with pytest.raises(ValueError, match="has the splits train, got 'test'"):
        load_dataset(str(tmp_path / "one"), "test")


def test_a_path_is_the_name_of_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative or whole, of a folder or a picture; a set of the package goes before a folder of its name."""
    picture(tmp_path / "mine" / "0.png", 5)
    picture(tmp_path / "digits" / "0.png", 6)
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "./mine", "mine/", str(tmp_path / "mine"), "folder:mine", "mine/0.png"):
        assert load_dataset(name, "all").images.unique().tolist() == [5]
    assert load_dataset("digits").spec.levels == 17 and load_dataset("./digits", "all").images.unique().tolist() == [6]
    for name in ("./nowhere", "a/b", "none.npy"):
        with pytest.raises(ValueError, match=r"there is no (folder|file)"):
            load_dataset(name)


def test_images_of_several_sizes_are_cropped(tmp_path: Path) -> None:
    """Each crop is a part of its image, fixed in ``images`` and fresh in batches, at every place alike; part of the set holds the same."""
    random = np.random.RandomState(0)
    wholes = [random.randint(0, 256, size).astype(np.uint8) for size in ((6, 9), (8, 5), (5, 5), (7, 7))]
    for i, whole in enumerate(wholes):
        Image.fromarray(whole).save(tmp_path / f"{i}.png")
    with pytest.raises(ValueError, match="set size to resize all, or crop to cut parts"):
        load_dataset(str(tmp_path), "all")
    with pytest.raises(ValueError, match="has only 5 pixels on a side, crop must be at most that, got 6"):
        load_dataset(str(tmp_path), "all", DataOptions(crop=6))
    data = load_dataset(str(tmp_path), "all", DataOptions(crop=5))
    assert data.spec == ImageSpec(1, 5, 5, 256)
    places = [torch.from_numpy(whole).unfold(0, 5, 1).unfold(1, 5, 1).flatten(0, 1) for whole in wholes]
    for of, crop in zip(places, data.images, strict=True):
        assert bool((of == crop).flatten(1).all(1).any())
    assert torch.equal(load_dataset(str(tmp_path), "all[1:3]", DataOptions(crop=5)).images, data.images[1:3])
    one = data.select(slice(0, 1))
    draws = torch.cat([x for (x, _), _ in zip(one.batches(1, 0), range(2000), strict=False)])
    counts = (draws[:, 0, None] == places[0][None]).flatten(2).all(2).sum(0)
    assert int(counts.sum()) == 2000 and int(counts.min()) > 150          # 10 places
    x, _ = next(data.select(torch.tensor([3, 1])).batches(4, 0))
    assert x.shape == (4, 1, 5, 5)
    for how in ("static", "threshold", "dynamic"):
        two = load_dataset(str(tmp_path), "all", DataOptions(crop=5, binarise=how))
        x, _ = next(two.batches(4, 0))
        assert two.spec.levels == 2 and set(x.unique().tolist()) == set(two.images.unique().tolist()) == {0, 1}
    assert load_dataset(str(tmp_path), "all", DataOptions(crop=5, levels=4)).images.max() == 3


def test_grey_images_for_a_model_of_colours_and_back(folder: Path) -> None:
    colour = load_dataset(str(folder), "all", DataOptions(colour=True))
    assert colour.spec == ImageSpec(3, 4, 4, 256) and colour.images[3].unique().tolist() == [60]
    with pytest.raises(ValueError, match="grey and colour exclude each other"):
        load_dataset(str(folder), "all", DataOptions(colour=True, grey=True))


def test_colours_sizes_and_modes_come_to_one_shape(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4), (255, 0, 0)).save(tmp_path / "a.png")
    Image.new("1", (4, 4), 1).save(tmp_path / "b.png")
    Image.new("LA", (4, 4), (7, 100)).save(tmp_path / "c.png")
    both = load_dataset(f"folder:{tmp_path}", "all", DataOptions(size=4))
    assert both.spec == ImageSpec(3, 4, 4, 256)
    assert [image[:, 0, 0].tolist() for image in both.images] == [[255, 0, 0], [255, 255, 255], [158, 158, 158]]
    assert load_dataset(f"folder:{tmp_path}", "all", DataOptions(size=2, grey=True)).images[0].unique().tolist() == [76]
    with pytest.raises(ValueError, match=r"b\.png has 4x4 pixels, .*a\.png has 6x4; set size"):
        load_dataset(f"folder:{tmp_path}", "all")


def test_two_level_images_have_two_levels_until_resized(tmp_path: Path) -> None:
    Image.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "a.png")
    assert load_dataset(f"folder:{tmp_path}", "all").spec.levels == 2
    half = load_dataset(f"folder:{tmp_path}", "all", DataOptions(size=2))
    assert half.spec.levels == 256 and half.images.flatten().tolist() == [128, 0, 0, 128]


def test_broken_images_are_named(folder: Path) -> None:
    """Truncated, not an image at all: one line with the file's name; or left out, counted and named."""
    path = folder / "kind0" / "zz.png"
    whole = (folder / "kind0" / "00.png").read_bytes()
    for content in (whole[: len(whole) // 2], b"hello", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"zz\.png is not a whole image") as error:
            load_dataset(f"folder:{folder}", "all")
        assert "\n" not in str(error.value)
    data = load_dataset(f"folder:{folder}", "all", DataOptions(skip_broken=True))
    assert len(data) == 20 and data.labels is not None and data.labels.tolist() == [0] * 10 + [1] * 10
    assert data.notes[0] == "1 of 21 images cannot be read and are left out:" and "zz.png is not a whole image" in data.notes[1]


def test_16_bits_are_65536_levels_or_as_many_as_asked_for(folder: Path) -> None:
    """Beside images of 8 bits, whose 255 is then 65,535; drawn in batches, cropped and binarised like any."""
    deep = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4000
    Image.fromarray(deep).save(folder / "kind0" / "zz.png")
    every = load_dataset(str(folder), "all")
    assert every.spec == ImageSpec(1, 4, 4, 65536) and every.images.dtype == torch.int32
    assert every.images[10, 0].tolist() == deep.tolist() and every.images[9, 0, 0, 0] == 180 * 257
    x, _ = next(every.batches(21, 0))
    assert x.dtype == torch.int32 and int(x.sum()) == int(every.images.sum())
    few = load_dataset(str(folder), "all", DataOptions(levels=1024))
    nearest = [round(Fraction(int(v) * 1023, 65535)) for v in deep.flatten()]
    assert few.spec.levels == 1024 and few.images[10].flatten().tolist() == nearest
    two = load_dataset(str(folder), "all", DataOptions(binarise="threshold", crop=3))
    assert two.spec == ImageSpec(1, 3, 3, 2) and two.images.dtype == torch.uint8
    drawn, _ = next(load_dataset(str(folder), "all", DataOptions(binarise="dynamic", crop=3)).batches(4, 0))
    assert drawn.shape == (4, 1, 3, 3) and set(drawn.unique().tolist()) <= {0, 1}


@pytest.mark.parametrize(
    ("name", "split", "options", "says"),
    [
        ("digit", "train", {}, "unknown data set 'digit'; there are digits"),
        ("digits", "validation", {}, "has the splits train, test, all"),
        ("digits", "train[1", {}, "expected a split like"),
        ("digits", "train[5000:]", {}, "is empty"),
        ("digits", "train", {"levels": 1}, "levels must be between 2 and 65536"),
        ("digits", "train", {"levels": 2, "binarise": "static"}, "exclude each other"),
        ("digits", "train", {"binarise": "often"}, "static, dynamic or threshold"),
        ("digits", "train", {"size": 0}, "size must be at least 1"),
        ("digits", "train", {"crop": 0}, "crop must be at least 1"),
        ("digits", "train", {"crop": 9}, "digits has 8x8 pixels, crop must be at most 8, got 9"),
        ("folder:/no/such/place", "train", {}, "there is no folder"),
    ],
)
def test_bad_input_is_one_clear_line(name: str, split: str, options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("[", r"\[")) as error:
        load_dataset(name, split, DataOptions(**options))
    assert "\n" not in str(error.value)


def test_without_the_extra_the_remedy_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install datasets"):
        load_dataset("mnist")


def test_a_hub_repository_is_read_from_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images, labels and splits of a parquet repository as the Hub has it, without network access."""
    datasets = pytest.importorskip("datasets")
    home = tmp_path / "someone" / "spots" / "data"
    home.mkdir(parents=True)
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["dark", "light"])})
    pictures = [Image.new("L", (3, 2), value) for value in (10, 200, 20)]
    table = datasets.Dataset.from_dict({"picture": pictures, "kind": [0, 1, 0]}, features=features)
    table.to_parquet(str(home / "test-00000-of-00001.parquet"))
    monkeypatch.setenv("RASTRUM_HUB_MIRROR", str(tmp_path))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    data = load_dataset("hub:someone/spots", "test")
    assert data.spec == ImageSpec(1, 2, 3, 256) and data.images[:, 0, 0, 0].tolist() == [10, 200, 20]
    assert data.labels is not None and data.labels.tolist() == [0, 1, 0] and data.classes == 2
    assert data.class_names == ("dark", "light")
    with pytest.raises(ValueError, match=r"someone/spots has the splits \['test'\], got 'train'"):
        load_dataset("hub:someone/spots", "train")


def test_hub_sets_with_holes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Null labels and images, columns that hold no files or differ between files, scripts: the row or the reason."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("RASTRUM_HUB_MIRROR", str(tmp_path))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    image = Image.new("L", (3, 2), 7)
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["dark", "light"]), "array": datasets.Array2D((2, 2), "uint8"),
             "text": datasets.Value("string"), "list": datasets.List(datasets.Value("int64"))}    # fmt: skip

    def write(name: str, file: str = "test-0", **columns: list) -> str:
        home = tmp_path / "someone" / name / "data"
        home.mkdir(parents=True, exist_ok=True)
        table = datasets.Dataset.from_dict(columns, features=datasets.Features({column: kinds[column] for column in columns}))
        table.to_parquet(str(home / f"{file}.parquet"))
        return f"hub:someone/{name}"

    def refusal(name: str, **options: bool) -> str:
        with pytest.raises(ValueError) as error:
            load_dataset(name, "test", DataOptions(**options))  # pyright: ignore[reportArgumentType]
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "null-label test, row 1 has no label" in refusal(write("null-label", image=[image] * 3, label=[0, None, 1]))
    holes = write("null-image", image=[image, image, None], label=[0, 0, 1])
    assert "null-image test, row 2" in refusal(holes) and "there is no image in it" in refusal(holes)
    part = load_dataset(holes, "test", DataOptions(skip_broken=True))
    assert len(part) == 2 and part.labels is not None and part.labels.tolist() == [0, 0] and "1 of 3" in part.notes[0]
    assert "has no column of images, only array" in refusal(write("arrays", array=[[[1, 2], [3, 4]]]))
    assert "has no column of images, only text (string), list" in refusal(write("lists", text=["a"], list=[[1]]))
    write("differing", image=[image])
    assert "its files have different columns" in refusal(write("differing", "test-1", image=[image], text=["a"]))
    write("script", image=[image])
    (tmp_path / "someone" / "script" / "script.py").write_text("import datasets")
    assert "made by a script" in refusal("hub:someone/script")


def test_image_files_in_plain_columns_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes, or bytes and path, of a parquet file whose columns carry no type of their own."""
    datasets, table = pytest.importorskip("datasets"), pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setenv("RASTRUM_HUB_MIRROR", str(tmp_path))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    Image.new("L", (3, 2), 7).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    for name, cell in (("bare", content), ("both", {"bytes": content, "path": "x.png"})):
        (tmp_path / "someone" / name).mkdir(parents=True)
        parquet.write_table(table.table({"image": [cell, cell]}), tmp_path / "someone" / name / "test-0.parquet")
        assert load_dataset(f"hub:someone/{name}", "test").images.unique().tolist() == [7]


@mirror
def test_the_named_sets_have_their_published_size() -> None:
    """Sizes, classes and a checksum that does not depend on how files are read: the mean level."""
    for name, spec, classes, mean in (
        ("mnist", ImageSpec(1, 28, 28, 256), 10, 33.791225),
        ("fashion-mnist", ImageSpec(1, 28, 28, 256), 10, 73.146566),
        ("binarized-mnist", ImageSpec(1, 28, 28, 2), 0, None),
        ("cifar10", ImageSpec(3, 32, 32, 256), 10, 121.529155),
    ):
        data = load_dataset(name, "test")
        assert data.spec == spec and len(data) == 10_000 and data.classes == classes
        assert mean is None or data.images.double().mean().item() == pytest.approx(mean, abs=1e-5)
