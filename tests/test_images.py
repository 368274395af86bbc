"""``Images``: a plain tensor in whatever is computed, images in whatever selects or moves them; levels to pictures and back."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import rastrum
from rastrum import Images, ImageSpec
from rastrum.data import load_dataset
from rastrum.distributions import Bernoulli
from rastrum.pictures.images import encode_array
from rastrum.pictures.sheets import completion_sheet, sheet, tiles
from rastrum.pictures.videos import animate_grid, film_strips

GENERATOR = torch.Generator().manual_seed(0)
VALUES = torch.randint(0, 17, (6, 3, 8, 9), generator=GENERATOR).to(torch.uint8)


def pixelcnn(spec: ImageSpec) -> rastrum.RasterModel:
    model = rastrum.build("pixelcnn", spec, "tiny")
    assert isinstance(model, rastrum.RasterModel)
    return model


def images(levels: int = 17) -> Images:
    return Images(VALUES.clone(), levels)


@pytest.mark.parametrize(
    "select",
    [
        lambda x: x[2], lambda x: x[1:4], lambda x: x[[0, 3]], lambda x: x[torch.tensor([0, 3])], lambda x: x[np.array([1, 2])],
        lambda x: x[torch.arange(6) > 2], lambda x: x[..., 2:5, :4], lambda x: x[None],
        lambda x: x[:, None], lambda x: x[:, :1], lambda x: x[-1:, ..., ::2],
        lambda x: x.clone(), lambda x: x.cpu(), lambda x: x.to("cpu"), lambda x: x.long(), lambda x: x.to(torch.int32),
        lambda x: x.contiguous(), lambda x: x.detach(), lambda x: x.flip(-1), copy.copy, copy.deepcopy, lambda x: next(iter(x)),
    ],
)  # fmt: skip
def test_what_selects_or_moves_images_keeps_them(select: Any) -> None:
    kept, expected = select(images()), select(VALUES)
    assert type(kept) is Images and kept.levels == 17 and not kept.video
    assert torch.equal(kept, expected) and kept.dtype == expected.dtype


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x + 1, lambda x: 1 - x.int() / 2, lambda x: x == 3, lambda x: x.float(), lambda x: x.sum(), lambda x: x.amax((1, 2, 3)),
        lambda x: x.flatten(1), lambda x: x.reshape(-1), lambda x: x.permute(0, 2, 3, 1), lambda x: torch.cat([x, x.float()]),
        lambda x: torch.stack([x, x]), lambda x: torch.where(x > 3, x, 0), lambda x: x[:, 0], lambda x: x[0, 0], lambda x: x[..., 0],
        lambda x: x[:, :, 1], lambda x: x[x > 3], lambda x: x[:, [0, 1]], lambda x: x[0, 1, 2, 3], lambda x: x.half(),
        lambda x: x.to(torch.float64), lambda x: x.bool(), lambda x: torch.nn.functional.one_hot(x.long(), 17),
        lambda x: x.expand(6, 3, 8, 9),
    ],
)  # fmt: skip
def test_what_is_computed_is_a_plain_tensor(compute: Any) -> None:
    computed, expected = compute(images()), compute(VALUES)
    assert type(computed) is Tensor and computed.dtype == expected.dtype and torch.equal(computed, expected)


def test_a_channel_of_three_images_is_not_one_colour_image() -> None:
    x = Images(VALUES[:3], 17)
    assert type(x[:, 0]) is Tensor and x[:, 0].shape[0] == 3


def test_videos_stay_videos_as_long_as_they_have_frames() -> None:
    x = Images(torch.zeros(2, 5, 1, 4, 4, dtype=torch.uint8), 2, video=True)
    for still in (x[:, 0], x[0, 1], x[0][1], x[..., 3, :, :, :]):
        assert isinstance(still, Images) and not still.video
    for video in (x[0], x[:, 1:3], x[:1], x[..., :2, :2], x.clone()):
        assert isinstance(video, Images) and video.video
    assert type(x[:, [0, 2]]) is Tensor


def test_levels_that_do_not_fit_a_type_are_a_plain_tensor() -> None:
    x = Images(torch.full((1, 1, 2, 2), 300), 65536)
    assert type(x.byte()) is Tensor and type(x.short()) is Tensor and type(x.int()) is Images


def test_changes_in_place_are_seen_by_both() -> None:
    x = images()
    plain = x.plain
    x[0] = 5
    x[1].fill_(3)
    assert type(plain) is Tensor and (plain[0] == 5).all() and (plain[1] == 3).all()
    x.numpy()[2] = 7
    assert (plain[2] == 7).all()


def test_text_files_and_other_libraries_see_a_tensor() -> None:
    x = images()
    assert repr(x) == repr(VALUES) and str(x) == str(VALUES)
    assert torch.equal(pickle.loads(pickle.dumps(x)), VALUES)
    file = io.BytesIO()
    torch.save({"x": x}, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True)["x"], VALUES)
    assert np.array_equal(np.asarray(x), VALUES.numpy()) and np.array_equal(np.stack([x, x])[1], VALUES.numpy())
    assert x.tolist() == VALUES.tolist() and hash(x) is not None and len({x, x}) == 1
    torch.testing.assert_close(x, VALUES)


def test_a_saved_file_is_read_without_rastrum(tmp_path: Path) -> None:
    torch.save(images(), tmp_path / "x.pt")
    code = "import sys, torch; x = torch.load(sys.argv[1]); assert type(x) is torch.Tensor and 'rastrum' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.pt")], check=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_takes_images(workers: int) -> None:
    for found in (images(), TensorDataset(images())):
        batches = list(DataLoader(found, batch_size=4, num_workers=workers))  # pyright: ignore[reportArgumentType]
        first = batches[0] if isinstance(batches[0], Tensor) else batches[0][0]
        assert torch.equal(first, VALUES[:4])


def test_modes_of_autograd_and_threads() -> None:
    with torch.inference_mode():
        drawn = Images(VALUES.clone(), 17)
        assert type(drawn[0]) is Images and type(drawn / 2) is Tensor
    assert type(drawn[0]) is Images and float((drawn.float() * torch.ones((), requires_grad=True)).sum().detach()) > 0
    with ThreadPoolExecutor(4) as pool:
        assert all(type(each) is Images for each in pool.map(lambda i: images()[i % 6].clone(), range(100)))
    weight = torch.ones(1, requires_grad=True)
    (weight * images()).sum().backward()
    assert weight.grad is not None and float(weight.grad) == float(VALUES.sum())


@pytest.mark.parametrize(
    ("x", "levels", "message"),
    [
        (torch.rand(1, 1, 2, 2), 2, "levels_of"),
        (torch.full((1, 1, 2, 2), 2), 2, "0 … 1, got 2 … 2"),
        (torch.full((1, 1, 2, 2), -1), 2, "got -1"),
        (torch.zeros(2, 2, dtype=torch.uint8), 2, "shape"),
        (torch.zeros(1, 2, 2, dtype=torch.uint8), 1, "between 2 and 65536"),
        (torch.zeros(1, 2, 2, dtype=torch.uint8), 2.0, "whole number"),
    ],
)
def test_what_cannot_be_images_is_refused(x: Tensor, levels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Images(x, levels)


def test_arrays_of_any_integers_become_images() -> None:
    for dtype in (bool, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64):
        x = Images(np.ones((1, 2, 2), dtype), 2)
        assert x.sum() == 4 and x.levels == 2 and x[0:1].pictures().max() == 1
    assert Images(images(), 256).levels == 256 and images().levels == 17


# ── the public doors ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_everything_that_returns_levels_returns_images() -> None:
    spec = ImageSpec(1, 4, 4, 5)
    model = pixelcnn(spec)
    drawn = rastrum.sample(model, 3, backend="torch")
    known = torch.zeros(1, 4, 4, dtype=torch.bool)
    weighted, weights = rastrum.complete(model, drawn, known, particles=2, num_samples=2, backend="torch")
    found = [drawn, rastrum.complete(model, drawn, known, backend="torch"), weighted, load_dataset("digits").images,
             rastrum.complete(model, drawn, known, num_samples=2, backend="torch"),
             rastrum.decompress(model, rastrum.compress(model, drawn)),
             rastrum.sample(rastrum.build("draw", ImageSpec(1, 4, 4, 2), "tiny"), 2)]  # fmt: skip
    assert all(type(each) is Images for each in found) and type(weights) is Tensor
    assert [each.levels for each in found] == [5, 5, 5, 17, 5, 5, 2]
    video = rastrum.build("video-pixel-network", ImageSpec(1, 4, 4, 2, frames=2), "tiny")
    assert rastrum.sample(video, 2, backend="torch").video


def test_models_and_batches_see_plain_tensors() -> None:
    """What runs inside is as fast as before."""
    seen = []

    class Watching(rastrum.RasterModel):
        def distribution(self, x: Tensor, condition: Tensor | None = None) -> Any:
            seen.append(type(x))
            return Bernoulli(torch.zeros(x.shape))

    model = Watching(ImageSpec(1, 2, 2, 2))
    x = rastrum.sample(model, 2)
    model.log_prob(x)
    rastrum.complete(model, x, torch.zeros(1, 2, 2, dtype=torch.bool))
    data = load_dataset("digits")
    batch, labels = next(data.batches(4, 0, data.labels))
    assert set(seen) == {Tensor} and type(batch) is Tensor and type(labels) is Tensor


def test_images_of_other_levels_are_not_taken_for_those_of_a_model() -> None:
    model = pixelcnn(ImageSpec(1, 4, 4, 5))
    x = Images(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), 2)
    with pytest.raises(ValueError, match=r"images: they have 2 levels, expected 5; x\.plain"):
        rastrum.compress(model, x)
    assert torch.equal(model.log_prob(x.plain), model.log_prob(model.spec.levels_of(x.pictures())))


# ── levels and pictures ──────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(2, 65536))
def test_pictures_and_levels_are_inverse(levels: int) -> None:
    spec = ImageSpec(1, 1, levels, levels)
    x = torch.arange(levels).view(1, 1, 1, levels)
    pictures = spec.pictures(x)
    assert float(pictures.min()) == 0 and float(pictures.max()) == 1 and pictures.dtype == torch.float32
    back = spec.levels_of(pictures)
    assert torch.equal(back, x) and back.levels == levels and back.dtype == (torch.uint8 if levels <= 256 else torch.int64)


def test_pictures_are_rounded_to_the_nearest_level() -> None:
    spec = ImageSpec(1, 1, 5, 3)
    assert spec.levels_of(torch.tensor([0.24, 0.25, 0.74, 0.75, 1.0]).view(1, 1, 1, 5)).flatten().tolist() == [0, 1, 1, 2, 2]
    assert spec.levels_of(np.full((1, 1, 5), 0.5)).flatten().tolist() == [1] * 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.levels_of(torch.ones(1, 1, 2, 2, dtype=torch.uint8)), "divide 8-bit values by 255"),
        (lambda s: s.levels_of(torch.ones(1, 3, 2, 2)), "expected shape"),
        (lambda s: s.levels_of(torch.full((1, 1, 2, 2), 1.5)), r"\[0, 1\], got 1.5"),
        (lambda s: s.levels_of(torch.full((1, 1, 2, 2), torch.nan)), r"\[0, 1\], got nan"),
        (lambda s: s.pictures(torch.rand(1, 1, 2, 2)), "pictures already"),
        (lambda s: s.pictures(torch.full((1, 1, 2, 2), 9)), "0 … 4, got 9"),
    ],
)
def test_levels_and_pictures_are_not_confused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(ImageSpec(1, 2, 2, 5))


def test_everything_that_draws_takes_images_as_they_are() -> None:
    x = Images(torch.randint(0, 5, (2, 1, 6, 6), generator=GENERATOR), 5)
    known = torch.ones(1, 6, 6, dtype=torch.bool)
    completions = Images(torch.randint(0, 5, (2, 3, 1, 6, 6), generator=GENERATOR), 5)
    floats, drawn = x.pictures(), completions.pictures()
    assert sheet(x).tobytes() == sheet(floats).tobytes()
    assert tiles(x, 2, known)[0].tobytes() == tiles(floats, 2, known)[0].tobytes()
    assert completion_sheet(x, known, completions).tobytes() == completion_sheet(floats, known, drawn).tobytes()
    assert film_strips(completions).tobytes() == film_strips(drawn).tobytes()
    assert next(animate_grid(completions)).tobytes() == next(animate_grid(drawn)).tobytes()
    array = np.load(io.BytesIO(encode_array(x, ImageSpec(1, 6, 6, 5))))
    assert np.array_equal(array, x.numpy())                               # what writes levels gets levels
    with pytest.raises(ValueError, match=r"spec\.pictures\(x\).*rastrum\.Images"):
        sheet(x.plain)
