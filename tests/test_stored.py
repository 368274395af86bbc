"""Images that stay on disk are those that a set in memory holds, in an order that can be sought, with few of them in memory at a time."""

from __future__ import annotations

import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_processes import forked

from rastrum.cli import main
from rastrum.config import DataOptions, OptimConfig, RunConfig, TrainConfig
from rastrum.data import parquet
from rastrum.data.dataset import Dataset, load_dataset
from rastrum.data.folders import image_files
from rastrum.data.names import PackedNames, encoded
from rastrum.data.parquet import ParquetImages
from rastrum.data.reading import suffixes
from rastrum.data.stored import Stored, StoredNames
from rastrum.evaluation import image_nats
from rastrum.images import Images
from rastrum.models import MODELS
from rastrum.noise import permutation, shuffled
from rastrum.train import resume, train
from rastrum.training.record import fingerprint

arrow = pytest.importorskip("pyarrow")
files = pytest.importorskip("pyarrow.parquet")


def png(image: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return content.getvalue()


def pictures(count: int, size: tuple[int, int] = (6, 6), seed: int = 0) -> list[np.ndarray]:
    return list(np.random.RandomState(seed).randint(0, 256, (count, *size)).astype(np.uint8))


def write(path: Path, cells: list[Any], group: int = 10, label: bool = True, first: int = 0) -> Path:
    """A parquet file of image files, with labels 0, 1, 2 in turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    column = [{"bytes": png(cell), "path": None} if isinstance(cell, np.ndarray) else cell for cell in cells]
    kinds = {"image": arrow.struct({"bytes": arrow.binary(), "path": arrow.string()}), "label": arrow.int64()}
    columns = {"image": column} | ({"label": [(first + i) % 3 for i in range(len(cells))]} if label else {})
    files.write_table(arrow.table(columns, arrow.schema({name: kinds[name] for name in columns})), path, row_group_size=group)
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Two parquet files, 75 and 40 images, in groups of 10."""
    images = pictures(115)
    write(tmp_path / "rows" / "a.parquet", images[:75])
    write(tmp_path / "rows" / "b.parquet", images[75:], first=75)
    return tmp_path / "rows"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same images as files in three folders, in another order."""
    for i, image in enumerate(pictures(115)):
        (tmp_path / "folder" / f"kind{i % 3}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "folder" / f"kind{i % 3}" / f"{i}.png")
    return tmp_path / "folder"


def both(path: Path | str, split: str = "all", **options: Any) -> tuple[Dataset, Dataset]:
    """In memory, and on disk."""
    held, stored = (load_dataset(str(path), split, DataOptions(**options, stream=stream)) for stream in (False, True))
    assert isinstance(stored.images, Stored) and not isinstance(held.images, Stored)
    return held, stored


def some(batches: Iterator[tuple[torch.Tensor, torch.Tensor | None]], count: int) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    return list(islice(batches, count))


def assert_same(one: list[Any], other: list[Any]) -> None:
    assert len(one) == len(other)
    for (x, condition), (y, given) in zip(one, other, strict=True):
        assert torch.equal(x, y) and (condition is None if given is None else condition is not None and torch.equal(condition, given))


OPTIONS: list[dict[str, Any]] = [
    {}, {"size": 4}, {"levels": 5}, {"colour": True}, {"binarise": "static"}, {"binarise": "dynamic"}, {"binarise": "threshold"},
    {"crop": 4}, {"crop": 4, "binarise": "static"}, {"crop": 4, "binarise": "dynamic"}, {"crop": 3, "size": 5}, {"limit": 20},
    {"crop": 4, "levels": 9, "limit": 30},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ["rows", "folder"])
def test_images_are_to_the_bit_those_of_a_set_in_memory(kind: str, options: dict[str, Any], request: pytest.FixtureRequest) -> None:
    """With every option, of every split, by every index; and what training draws from."""
    path: Path = request.getfixturevalue(kind)
    for split in ("all", "train", "test[2:9]"):
        held, stored = both(path, split, **options)
        assert (held.spec, len(held), held.classes, held.class_names) == (stored.spec, len(stored), stored.classes, stored.class_names)
        assert held.labels is not None and stored.labels is not None and torch.equal(held.labels, stored.labels)
        assert list(held.names) == list(stored.names) and isinstance(stored.names, StoredNames)
        index = torch.randperm(len(held), generator=torch.Generator().manual_seed(0))
        for chosen in (slice(None), slice(1, 5), slice(None, None, 2), index, index[:3], -1, index % 2 == 0):
            assert torch.equal(held.images[chosen], stored.images[chosen])
        parts = held.select(index[:5]), stored.select(index[:5])
        assert torch.equal(parts[0].images, parts[1].images) and list(parts[0].names) == list(parts[1].names)
        assert (held.originals is None) == (stored.originals is None) and held.original_levels == stored.original_levels
        if held.originals is not None:
            assert isinstance(stored.originals, Stored) and isinstance(held.originals, torch.Tensor)
            assert torch.equal(held.originals, stored.originals.at(slice(None)))  # pyright: ignore[reportArgumentType]


def test_a_set_of_the_hub_stays_in_its_parquet_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With names of classes, and the same images and names as through ``datasets``; nothing is copied into its cache."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["dark", "light"])})
    table = {"picture": [Image.fromarray(image) for image in pictures(30)], "kind": [i % 2 for i in range(30)]}
    (tmp_path / "someone" / "spots" / "data").mkdir(parents=True)
    path = tmp_path / "someone" / "spots" / "data" / "train-00000-of-00001.parquet"
    datasets.Dataset.from_dict(table, features=features).to_parquet(str(path), batch_size=7)
    monkeypatch.setenv("RASTRUM_HUB_MIRROR", str(tmp_path))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    stored = load_dataset("hub:someone/spots", "train", DataOptions(stream=True))
    assert not list((tmp_path / "cache").rglob("*.arrow"))
    held = load_dataset("hub:someone/spots", "train")
    assert isinstance(stored.images, Stored) and torch.equal(held.images, stored.images) and list(held.names) == list(stored.names)
    assert held.labels is not None and stored.labels is not None and torch.equal(held.labels, stored.labels)
    assert stored.class_names == held.class_names == ("dark", "light")
    with pytest.raises(ValueError, match=r"has the splits \['train'\], got 'test'"):
        load_dataset("hub:someone/spots", "test", DataOptions(stream=True))


@pytest.mark.parametrize(("kind", "options"), [("rows", {}), ("rows", {"binarise": "dynamic", "crop": 4}), ("folder", {"limit": 50})])
def test_a_batch_is_a_function_of_its_number(kind: str, options: dict[str, Any], request: pytest.FixtureRequest) -> None:
    """However one comes to it: from the beginning, at once, in parts, or in a set that is opened anew; another seed gives others."""
    path: Path = request.getfixturevalue(kind)
    stored = load_dataset(str(path), "train", DataOptions(**options, stream=True))
    whole = some(stored.batches(16, 3, stored.labels), 12)
    again = load_dataset(str(path), "train", DataOptions(**options, stream=True))
    assert_same(whole[9:], some(again.batches(16, 3, again.labels, first=9), 3))
    shares = [some(stored.batches(16, 3, stored.labels, first=4, part=part), 3) for part in (slice(0, 5), slice(5, 16))]
    joined = [tuple(torch.cat(both) for both in zip(*parts, strict=True)) for parts in zip(*shares, strict=True)]
    assert_same(whole[4:7], joined)
    assert not torch.equal(whole[0][0], next(stored.batches(16, 4, stored.labels))[0])


@pytest.mark.parametrize("kind", ["rows", "folder"])
def test_every_image_comes_once_an_epoch(kind: str, request: pytest.FixtureRequest) -> None:
    """With its label, in another order each epoch; also of a part of the set in an order of its own."""
    stored = load_dataset(str(request.getfixturevalue(kind)), "all", DataOptions(stream=True))
    for data in (stored, stored.select(slice(3, 108)), stored.select(torch.arange(114, 9, -1))):
        seen = some(data.batches(15, 0, data.labels), 3 * len(data) // 15)
        x, labels = (torch.cat([batch[i] for batch in seen]) for i in (0, 1))  # pyright: ignore[reportArgumentType, reportCallIssue]
        every = sorted((image.numpy().tobytes(), int(label)) for image, label in zip(data.images, data.labels, strict=True))  # pyright: ignore[reportArgumentType]
        epochs = [list(zip(x, labels, strict=True))[i * len(data) : (i + 1) * len(data)] for i in range(3)]
        orders = [[(image.numpy().tobytes(), int(label)) for image, label in epoch] for epoch in epochs]
        assert all(sorted(order) == every for order in orders)
        assert orders[0] != orders[1] != orders[2]


def test_the_order_of_sets_in_memory_is_what_it_was() -> None:
    assert permutation(7, 3, 10).tolist() == [5, 6, 2, 8, 7, 4, 9, 0, 3, 1]      # as before there were others


def test_two_row_groups_are_permuted_together_and_pairs_differ_between_epochs(rows: Path) -> None:
    stored = load_dataset(str(rows), "all", DataOptions(stream=True)).images
    assert isinstance(stored, Stored)
    group_of = np.searchsorted(stored.files.reader.groups, np.arange(115), "right") - 1  # pyright: ignore[reportArgumentType, reportCallIssue]
    pairs = []
    for epoch in range(2):
        groups = group_of[stored.order(5, epoch, np.arange(115))]
        first = [set(groups[:start].tolist()) for start in range(1, 116)]
        assert sorted(Counter(groups.tolist()).values()) == sorted(Counter(group_of.tolist()).values())
        together = groups[: int(np.argmax([len(found) > 2 for found in first]))]
        assert len(set(together[:10].tolist())) == 2                      # mixed, not one after the other
        pairs.append(frozenset(together.tolist()))
    assert pairs[0] != pairs[1]


def test_at_most_three_row_groups_are_in_memory(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted at every reading of one; in an epoch a group is read about once, to seek at most those that a batch needs."""
    stored = load_dataset(str(rows), "all", DataOptions(stream=True))
    assert isinstance(stored.images, Stored)
    reader: Any = stored.images.files.reader
    reads, most, column = [], [], parquet._column

    def counted(*arguments: Any) -> Any:
        reads.append(arguments)
        most.append(len(reader.loaded) + 1)
        return column(*arguments)

    monkeypatch.setattr(parquet, "_column", counted)
    for number in range(3 * 115 // 8):
        stored._batch(number, 8, 0, None, slice(None))                    # by one thread: several may read a group again between pairs
    assert max(most) == 3 and 36 <= len(reads) <= 3 * 12 + 3 * 6
    some(stored.batches(8, 0), 3 * 115 // 8)
    assert max(most) == 3
    reads.clear()
    next(stored.batches(8, 0, first=1000))
    assert len(reads) <= 8                                                # of this batch and the two that are made ahead
    assert max(most) == 3


def test_what_is_done_to_all_images_reads_them(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for any tensor: arithmetic, torch.cat, numpy, iteration, a picture; refused where they would not fit into memory."""
    held, stored = both(rows)
    x, y = held.images, stored.images
    assert y.shape == x.shape and y.dtype == torch.uint8 and len(y) == 115 and repr(y) == "Stored(115 x 1 x 6 x 6, on disk)"
    assert torch.equal(y.long() + 1, x.long() + 1) and torch.equal(torch.cat([x, y]), torch.cat([x, x])) and torch.equal(x, y)
    assert np.array_equal(y.numpy(), x.numpy()) and torch.equal(torch.stack(list(y)), x) and isinstance(x, Images) and isinstance(y, Images)
    assert torch.equal(y.pictures(), x.pictures())
    assert torch.equal(y[3, 0, 1:4], x[3, 0, 1:4]) and torch.equal(y[:, :, 2], x[:, :, 2]) and torch.equal(y[..., 0], x[..., 0])
    assert stored._repr_html_() == held._repr_html_()
    with pytest.raises(IndexError):
        y[115]
    monkeypatch.setattr("rastrum.memory.available", lambda: 1000)
    with pytest.raises(ValueError, match=r"115 images at once would need about .* take some of them"):
        y.long()


def test_what_needs_no_image_reads_none(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a set, its length, labels and names, its shape: only what is indexed is read."""
    stored = load_dataset(str(rows), "train", DataOptions(crop=4, stream=True))
    assert isinstance(stored.images, Stored)
    read, pixels = [], stored.images.files.pixels
    monkeypatch.setattr(stored.images.files, "pixels", lambda numbers: read.extend(numbers.tolist()) or pixels(numbers))
    part = stored.subset(40).select(slice(1, None, 2)).select(torch.tensor([3, 0, 7]))
    assert len(part) == 3 and part.images.shape == (3, 1, 4, 4) and len(part.names[0]) > 3 and part.labels is not None and repr(part)
    assert torch.equal(torch.arange(len(stored)), torch.arange(stored.images.size(0))) and not read
    assert len(part.images[:2]) == 2 and len(read) == 2


def test_large_sets_stay_on_disk_by_themselves(rows: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the images of the split would take more than the limit, of the size that they are resized to."""
    for path in (rows, folder):
        assert not isinstance(load_dataset(str(path), "all").images, Stored)
        with monkeypatch.context() as patch:
            patch.setattr("rastrum.data.source.HELD", 115 * 36 - 1)
            assert isinstance(load_dataset(str(path), "all").images, Stored)
            for split, options in (("train", DataOptions()), ("all", DataOptions(size=5)), ("all", DataOptions(stream=False))):
                assert not isinstance(load_dataset(str(path), split, options).images, Stored)
    with pytest.raises(ValueError, match="digits is neither a folder nor made of parquet files, so it is held in memory"):
        load_dataset("digits", "test", DataOptions(stream=True))


def test_images_of_several_sizes_are_cropped(tmp_path: Path) -> None:
    """A part of each, fixed for one that is held out, fresh in training; binarised too."""
    sizes = [(6, 9), (8, 5), (5, 5), (7, 7)] * 5
    wholes = [pictures(1, size, seed)[0] for seed, size in enumerate(sizes)]
    for i, whole in enumerate(wholes):
        Image.fromarray(whole).save(tmp_path / f"{i:02d}.png")
    data, again = (load_dataset(str(tmp_path), "all", DataOptions(crop=5, stream=True)) for _ in range(2))
    places = [torch.from_numpy(whole).unfold(0, 5, 1).unfold(1, 5, 1).flatten(0, 1) for whole in wholes]
    assert torch.equal(data.images, again.images) and torch.equal(data.select(slice(3, 9)).images, data.images[3:9])
    assert all(bool((of == crop).flatten(1).all(1).any()) for of, crop in zip(places, data.images, strict=True))
    fresh = [x for x, _ in some(data.select(slice(0, 1)).batches(1, 0), 40)]
    assert len({x.numpy().tobytes() for x in fresh}) > 5
    assert all(bool((places[0] == x[0]).flatten(1).all(1).any()) for x in fresh)
    for how in ("static", "threshold", "dynamic"):
        two = load_dataset(str(tmp_path), "all", DataOptions(crop=5, binarise=how, stream=True))
        x, _ = next(two.batches(20, 0))
        assert two.spec.levels == 2 and set(x.unique().tolist()) == set(two.images.unique().tolist()) == {0, 1}
    for crop, says in ((None, "set size to resize all, or crop to cut parts"), (6, "has only 5 pixels on a side")):
        with pytest.raises(ValueError, match=says):
            load_dataset(str(tmp_path), "all", DataOptions(crop=crop, stream=True))


@pytest.mark.parametrize(
    ("kind", "values", "spec"),
    [
        ("uint8", lambda x: x.tolist(), (1, 256)),
        ("uint16", lambda x: (x.astype(int) * 100).tolist(), (1, 65536)),
        ("bool_", lambda x: (x > 99).tolist(), (1, 2)),
        ("uint8", lambda x: np.stack([x, x, 255 - x], 2).tolist(), (3, 256)),
        ("uint8", lambda x: np.stack([x, x, 255 - x]).tolist(), (3, 256)),
    ],
)
def test_levels_in_nested_lists_are_images(kind: str, values: Callable[[np.ndarray], Any], spec: tuple[int, int], tmp_path: Path) -> None:
    """(H, W), (H, W, C) and (C, H, W), without labels; of a number of levels that the type does not tell: refused."""
    images = pictures(20, (5, 4))
    nested: Any = arrow.list_(getattr(arrow, kind)())
    for _ in range(np.ndim(values(images[0])) - 1):
        nested = arrow.list_(nested)
    table = arrow.table({"n": list(range(20)), "pixels": arrow.array([values(image) for image in images], nested)})
    files.write_table(table, tmp_path / "x.parquet", row_group_size=6)
    held, stored = both(tmp_path / "x.parquet")
    assert (held.spec.channels, held.spec.levels) == spec and held.spec.shape[1:] == (5, 4) and held.labels is None
    assert torch.equal(held.images, stored.images)
    expected = np.array(values(images[3]), int)
    expected = expected[None] if expected.ndim == 2 else expected if expected.shape[0] == 3 else expected.transpose(2, 0, 1)
    assert held.images[3].tolist() == expected.tolist() and held.names[3] == "x.parquet[3]"
    wide = table.set_column(1, "pixels", table.column("pixels").cast(_of_int64(nested)))
    files.write_table(wide, tmp_path / "wide.parquet")
    with pytest.raises(ValueError, match=r"wide\.parquet, row 0 .*it holds int64; write uint8 for 256 levels"):
        load_dataset(str(tmp_path / "wide.parquet"), "all")


def _of_int64(nested: Any) -> Any:
    return arrow.list_(_of_int64(nested.value_type)) if hasattr(nested, "value_type") else arrow.int64()


def test_splits_of_parquet_files(tmp_path: Path) -> None:
    """By folders, by the beginnings of names, or every tenth row."""
    images = pictures(30)
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001", "extra"):
        write(tmp_path / "named" / "data" / f"{name}.parquet", images[:20])
    write(tmp_path / "sorted" / "Training" / "0.parquet", images)
    write(tmp_path / "sorted" / "test" / "0.parquet", images[:10])
    write(tmp_path / "plain" / "a.parquet", images)
    write(tmp_path / "plain" / "train.parquet", images, first=30)
    count = {
        ("named", "train"): 40, ("named", "val"): 20, ("sorted", "train"): 30, ("sorted", "test"): 10,
        ("plain", "train"): 54, ("plain", "test"): 6, ("plain", "all"): 60,
    }  # fmt: skip
    for (name, split), expected in count.items():
        held, stored = both(tmp_path / name, split)
        assert len(held) == len(stored) == expected and torch.equal(held.images, stored.images)
    named = load_dataset(str(tmp_path / "named"), "train")
    assert named.names[21] == "data/train-00001-of-00002.parquet[1]"
    assert named.notes == ("parquet files passed over, since no split is named in their path: 1",)
    with pytest.raises(ValueError, match="has the splits train, validation, got 'test'"):
        load_dataset(str(tmp_path / "named"), "test")


def whole(path: Path) -> bytes:
    return path.read_bytes()


@pytest.mark.parametrize("stream", [True, False])
def test_bad_parquet_files_are_one_line(stream: bool, tmp_path: Path) -> None:
    """Cut, of other content, without a column of images, of other columns than the first, empty, of several sizes; no image in a row."""
    images = pictures(40)
    good = whole(write(tmp_path / "good.parquet", images))

    def refusal(name: str, *contents: bytes | list[Any] | Any) -> str:
        for number, content in enumerate(contents):
            path = tmp_path / name / f"{number}.parquet"
            path.parent.mkdir(exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif isinstance(content, list):
                write(path, content)
            else:
                files.write_table(content, path)
        with pytest.raises(ValueError) as error:
            data = load_dataset(str(tmp_path / name), "all", DataOptions(stream=stream))
            some(data.batches(8, 0), 5)
        assert "\n" not in str(error.value) and "0x" not in str(error.value)
        return str(error.value)

    assert "1.parquet' is not a whole parquet file" in refusal("cut", good, good[: len(good) // 2])
    assert "0.parquet' is not a whole parquet file" in refusal("junk", b"hello")
    middle = bytearray(whole(write(tmp_path / "good.parquet", images, label=False)))
    middle[200:3000] = bytes(2800)                                        # the footer is whole, pages are not
    assert "0.parquet', row group 0 is not a whole parquet file" in refusal("torn", bytes(middle))
    text = arrow.table({"text": ["a"], "number": [[1]]})
    assert "0.parquet' has no column of images, only text (string), number (list<" in refusal("text", text)
    assert "1.parquet' has no column of images 'image', only text" in refusal("differing", good, text)
    assert "has image of type" in refusal("types", good, arrow.table({"image": [b"x"], "label": [1]}))
    assert "all holds no image" in refusal("empty", [])
    assert "set size to resize all, or crop" in refusal("sizes", images, pictures(40, (7, 6)))
    assert "0.parquet, row 2 cannot be read" in refusal("hole", [*images[:2], None, *images[2:]])
    assert "there is no image in it; replace or remove it" in refusal("hole", [*images[:2], {"bytes": None, "path": None}, *images])
    nulls = arrow.table({"image": [png(images[0])] * 3, "label": [1, None, 2]})
    assert "0.parquet', row 1 has no label" in refusal("labels", nulls)


def test_an_image_that_is_found_to_be_broken_in_training_is_named(tmp_path: Path) -> None:
    """By file and row, in one line. Left out, the set is that in memory, also its static draw."""
    images: list[Any] = pictures(300)
    images[137] = {"bytes": b"hello", "path": None}
    images[141] = {"bytes": png(pictures(1, (7, 7))[0]), "path": None}
    write(tmp_path / "x.parquet", images)
    data = load_dataset(str(tmp_path / "x.parquet"), "all", DataOptions(stream=True))
    model = build(data)
    with pytest.raises(ValueError) as error:
        for state in train(model, data, config(tmp_path / "run", 40)):
            assert state.step < 40
    assert "x.parquet, row 137 is not a whole image (cannot identify image file); replace or remove it" in str(error.value) or (
        "x.parquet, row 141 has 7x7 pixels, others have 6x6; set size to resize all" in str(error.value)
    )
    every: list[dict[str, Any]] = [{"size": 6}, {"size": 6, "binarise": "static", "crop": 4}]
    for options in every:
        held, stored = both(tmp_path / "x.parquet", skip_broken=True, **options)
        assert len(held) == 299 and held.notes == stored.notes and "row 137" in held.notes[1]
        assert torch.equal(held.images, stored.images) and list(held.names) == list(stored.names)
        assert held.labels is not None and stored.labels is not None and torch.equal(held.labels, stored.labels)


def test_images_that_no_sample_has_shown_are_refused(tmp_path: Path) -> None:
    """Of more channels or levels than the others, which a set in memory would be made for; of fewer they are brought up."""
    images: list[Any] = pictures(300)
    colour, two = (io.BytesIO() for _ in range(2))
    Image.new("RGB", (6, 6), (1, 2, 3)).save(colour, "PNG")
    Image.new("1", (6, 6), 1).save(two, "PNG")
    deep = {"bytes": png(images[0].astype(np.uint16) * 99), "path": None}
    images[50] = {"bytes": two.getvalue(), "path": None}
    for number, cell, says in ((150, deep, "has 65536 levels, others have 256"), (151, {"bytes": colour.getvalue(), "path": None},
                               "has 3 channels, others have 1; set grey or colour for all")):  # fmt: skip
        write(tmp_path / "x.parquet", [*images[:number], cell, *images[number:]])
        data = load_dataset(str(tmp_path / "x.parquet"), "all", DataOptions(stream=True))
        assert data.images[50].unique().tolist() == [255]
        with pytest.raises(ValueError, match=f"row {number} {says}"):
            data.images[140:160]


def test_row_groups_too_large_for_memory_are_refused(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rastrum.memory.available", lambda: 1000)
    with pytest.raises(ValueError, match=r"3 row groups of .* would need about .*smaller row groups \(row_group_size=1000\)"):
        load_dataset(str(rows), "all", DataOptions(stream=True))


# ── training and scoring ─────────────────────────────────────────────────────────────────────────────────────────────────


def build(data: Dataset, conditional: bool = False) -> Any:
    torch.manual_seed(0)
    system: Any = MODELS["pixelcnn"]
    return system(data.spec, system.preset("tiny", data.spec), data.condition_spec if conditional else None)


def config(folder: Path | None, steps: int) -> TrainConfig:
    run = RunConfig(steps=steps, workers=1, evaluations=2, held_out_images=10, folder=None if folder is None else str(folder))
    return TrainConfig(optim=OptimConfig(batch=8), run=run)


@pytest.mark.parametrize("kind", ["rows", "folder"])
def test_a_run_in_two_parts_is_one_run(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Weights and losses to the bit; across the end of an epoch, with fresh crops and binarisation; the set is opened anew."""
    path, options = request.getfixturevalue(kind), DataOptions(crop=4, binarise="dynamic", stream=True)

    def opened() -> tuple[Dataset, Dataset]:
        return load_dataset(str(path), "train", options), load_dataset(str(path), "test", options)

    (data, held_out), losses = opened(), []
    one = build(data, True)
    for state in train(one, data, config(None, 20), held_out):
        losses.append(state.loss)
    two = build(data, True)
    seen = []
    for state in train(two, *opened()[:1], config(tmp_path / "run", 20), opened()[1]):
        seen.append(state.loss)
        if state.step == 10:                                              # at an evaluation, whose checkpoint is whole
            break
    parts = list(resume(tmp_path / "run", *opened()))
    assert losses == seen + [state.loss for state in parts]
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), parts[-1].model.state_dict().values(), strict=True))
    assert parts[-1].evaluation is not None


def test_other_data_are_refused_without_reading_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set that shrank, has other labels, other files, other options or other images, in one line; a few images are read for that."""
    images = pictures(200)
    path = write(tmp_path / "x" / "0.parquet", images)
    write(tmp_path / "x" / "1.parquet", images[:50])
    data = load_dataset(str(tmp_path / "x"), "all", DataOptions(stream=True))
    for state in train(build(data), data, config(tmp_path / "run", 4)):
        if state.step == 2:
            break
    assert isinstance(data.images, Stored)
    read, pixels = [], data.images.files.pixels
    monkeypatch.setattr(data.images.files, "pixels", lambda numbers: read.extend(numbers.tolist()) or pixels(numbers))
    expected = fingerprint(data)
    assert len(read) == 32 and expected == fingerprint(load_dataset(str(tmp_path / "x"), "all", DataOptions(stream=True)))

    def refused(split: str = "all", **options: Any) -> None:
        other = load_dataset(str(tmp_path / "x"), split, DataOptions(**options, stream=True))
        with pytest.raises(ValueError, match=r"was trained on 250 images of checksum .*; give the same data") as error:
            next(resume(tmp_path / "run", other))
        assert "\n" not in str(error.value)

    refused("all[:249]")
    assert fingerprint(load_dataset(str(tmp_path / "x"), "all", DataOptions(levels=4, stream=True))) != expected
    (tmp_path / "x" / "1.parquet").rename(tmp_path / "away")
    refused()
    (tmp_path / "away").rename(tmp_path / "x" / "1.parquet")
    before = whole(path)
    write(path, images, first=1)
    refused()
    images[0] = 255 - images[0]
    write(path, images)
    refused()
    path.write_bytes(before)
    assert len(list(resume(tmp_path / "run", load_dataset(str(tmp_path / "x"), "all", DataOptions(stream=True))))) == 2


def test_a_folder_that_changed_is_another_set(folder: Path) -> None:
    data = [fingerprint(load_dataset(str(folder), "all", DataOptions(stream=True)))]
    (folder / "kind1" / "100.png").rename(folder / "kind1" / "1000.png")
    data.append(fingerprint(load_dataset(str(folder), "all", DataOptions(stream=True))))
    (folder / "kind1" / "1000.png").unlink()
    data.append(fingerprint(load_dataset(str(folder), "all", DataOptions(stream=True))))
    assert len({each["checksum"] for each in data}) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("kind", ["rows", "folder"])
def test_a_file_that_is_gone_ends_training_in_one_line(kind: str, request: pytest.FixtureRequest) -> None:
    """In every process, whichever needed the file."""
    data = load_dataset(str(request.getfixturevalue(kind)), "all", DataOptions(stream=True))
    path = next(request.getfixturevalue(kind).rglob("b.parquet" if kind == "rows" else "100.png"))
    settings = TrainConfig(optim=OptimConfig(batch=8), run=RunConfig(steps=60, workers=1))

    def work() -> None:
        states = train(build(data), data, settings)
        next(states)
        path.unlink(missing_ok=True)
        with pytest.raises(ValueError, match=rf"data: {re.escape(str(path))} is gone, .*; put it back as it was") as error:
            list(states)
        assert "\n" not in str(error.value)

    content = path.read_bytes()
    work()
    path.write_bytes(content)
    assert forked(2, work) == [0, 0]


def test_scores_are_those_of_a_set_in_memory(rows: Path) -> None:
    held, stored = both(rows, binarise="static")
    model = build(held).eval()
    assert torch.equal(image_nats(model, held, progress=False), image_nats(model, stored, progress=False))
    few = stored.subset(9).held()
    assert not isinstance(few.images, Stored) and torch.equal(few.images, held.subset(9).images)


def test_commands_take_folders_of_parquet(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained, resumed, evaluated, scored; the model's folder says how its images were made."""
    monkeypatch.chdir(tmp_path)
    for seed, split in enumerate(("train", "test")):
        write(tmp_path / "shapes" / f"{split}-00000-of-00001.parquet", pictures(30, seed=seed))

    def ask(*argv: str) -> dict[str, Any]:
        assert main(list(argv)) in (0, None)
        return json.loads(capsys.readouterr().out)

    flags = ("--preset", "tiny", "--run.steps", "3", "--run.evaluations", "1", "--run.folder", "run", "--optim.batch", "8", "--json")
    assert ask("train", "pixelcnn", "--data", "shapes", "--data.stream", "True", *flags)["held_out"]["images"] == 30
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["stream"] is True
    assert ask("train", "--resume", "run", "--steps", "2", "--json")["steps"] == 5
    for data in ("shapes", str(tmp_path / "shapes" / "test-00000-of-00001.parquet")):
        usual = ("--reference", "shapes", "--reference-split", "train")
        scored = ask("score", "run", "--data", data, "--split", "test" if data == "shapes" else "all", *usual, "--json")
        assert len(scored["nats"]) == 30 and scored["png_bits"][0] > 0
        mean = ask("evaluate", "run", "--data", data, "--split", "test" if data == "shapes" else "all", "--json")
        assert mean["nats"] == pytest.approx(scored["mean_nats"])


# ── orders and names ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [2, 3, 7, 64, 1000, 65537, 70001])
def test_a_shuffle_without_its_order_is_a_permutation(count: int) -> None:
    """Every number once; by seed and epoch; a position alone gives what it gives among others."""
    every = np.arange(count)
    order = shuffled(5, 2, every, count)
    assert np.array_equal(np.sort(order), every)
    assert np.array_equal(shuffled(5, 2, every[count // 2 : count // 2 + 3], count), order[count // 2 : count // 2 + 3])
    if count > 7:
        assert not np.array_equal(order, shuffled(5, 3, every, count)) and not np.array_equal(order, shuffled(6, 2, every, count))


def test_shuffles_favour_no_order() -> None:
    """All 24 orders of four, within five standard deviations; of many, neighbours are no nearer than chance has it."""
    counts = Counter(tuple(shuffled(seed, 0, np.arange(4), 4).tolist()) for seed in range(4800))
    assert len(counts) == 24 and all(abs(found - 200) < 5 * (200 * 23 / 24) ** 0.5 for found in counts.values())
    order = shuffled(1, 0, np.arange(100_000), 100_000)
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 5 / 100_000**0.5
    assert abs(np.corrcoef(order, np.arange(100_000))[0, 1]) < 5 / 100_000**0.5


def test_files_are_found_in_the_order_of_their_paths(tmp_path: Path) -> None:
    """That of ``sorted`` paths, with folders among files, names that are no text, hidden and other files, folders that are linked."""
    images = ["a.png", "a/b.PNG", "a/b/c.png", "a-b/d.png", "b.jpeg", "é.png", "Z/z.png"]
    for name in (*images, "a/.hidden.png", ".hid/x.png", "notes.txt", "a/t.TXT"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if not (tmp_path / name).exists():
            (tmp_path / name).touch()
    for raw in (b"\xff.png", b"\xc3.png", "\U0001f600.png".encode(), "퟿.png".encode()):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + raw)).touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "linked.png").symlink_to(tmp_path / "a.png")
    paths = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    paths = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
    found, others = image_files(tmp_path)
    assert list(found) == [path.as_posix() for path in paths if path.suffix.lower() in suffixes()]
    assert others == Counter({".txt": 2})


def test_names_take_their_bytes() -> None:
    names = [f"{i:x}é\udcff" for i in range(70_000)]
    packed = PackedNames(map(encoded, names))
    assert list(packed) == names and packed[-1] == names[-1] and packed[3:5] == tuple(names[3:5])
    assert len(packed.text) + packed.ends.nbytes < 20 * len(names)
    with pytest.raises(IndexError):
        packed[70_000]


def test_footers_are_read_once(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    footers, read = [], parquet._footer
    monkeypatch.setattr(parquet, "_footer", lambda file: footers.append(file) or read(file))
    stored = load_dataset(str(rows), "all", DataOptions(stream=True))
    some(stored.batches(8, 0), 10)
    assert len(footers) == 2
    reader = ParquetImages([rows / "a.parquet", rows / "b.parquet"])
    assert len(reader) == 115 and reader.name(80) == "80" and [name for name, _ in reader.opened(np.array([74, 75]))] == [
        f"{rows / 'a.parquet'}, row 74", f"{rows / 'b.parquet'}, row 0"]  # fmt: skip
