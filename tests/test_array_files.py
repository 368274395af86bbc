"""Still images in .npy and .npz files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rastrum.config import DataOptions
from rastrum.data.dataset import load_dataset
from rastrum.protocol import ImageSpec

RANDOM = np.random.RandomState(0)


@pytest.mark.parametrize(
    ("array", "spec"),
    [
        (RANDOM.randint(0, 2, (20, 4, 5)).astype(bool), ImageSpec(1, 4, 5, 2)),
        (RANDOM.randint(0, 256, (20, 4, 5)).astype(np.uint8), ImageSpec(1, 4, 5, 256)),
        (RANDOM.randint(0, 256, (20, 3, 4, 5)).astype(np.uint8), ImageSpec(3, 4, 5, 256)),
        (RANDOM.randint(0, 256, (20, 4, 5, 3)).astype(np.uint8), ImageSpec(3, 4, 5, 256)),
        (RANDOM.randint(0, 256, (20, 2, 4, 5)).astype(np.uint8), ImageSpec(2, 4, 5, 256)),
        (RANDOM.randint(0, 65536, (20, 4, 5, 3)).astype(np.uint16), ImageSpec(3, 4, 5, 65536)),
    ],
)
def test_an_array_is_a_data_set(tmp_path: Path, array: np.ndarray, spec: ImageSpec) -> None:
    """Its type says the levels; every tenth image is held out."""
    path = tmp_path / "x.npy"
    np.save(path, array)
    every, test = load_dataset(str(path), "all"), load_dataset(str(path), "test")
    first = array[:, None] if array.ndim == 3 else array.transpose(0, 3, 1, 2) if array.shape[3] == 3 else array
    assert every.spec == spec and np.array_equal(every.images.numpy(), first)
    assert torch.equal(test.images, every.images[::10]) and len(load_dataset(str(path))) == 18
    small = load_dataset(str(path), "all", DataOptions(size=2, grey=spec.channels == 3))
    assert small.spec == ImageSpec(1 if spec.channels == 3 else spec.channels, 2, 2, max(256, spec.levels))


def test_an_npz_says_labels_and_levels(tmp_path: Path) -> None:
    images, labels = RANDOM.randint(0, 17, (12, 8, 8)), RANDOM.randint(0, 3, 12)
    labels[0] = 2
    np.savez(tmp_path / "x.npz", images=images, labels=labels, levels=17)
    data = load_dataset(str(tmp_path / "x.npz"), "all")
    assert data.spec == ImageSpec(1, 8, 8, 17) and data.classes == 3
    assert data.labels is not None and data.labels.tolist() == labels.tolist() and np.array_equal(data.images[:, 0].numpy(), images)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"images": RANDOM.rand(3, 4, 4)}, "holds float64; save levels"),
        ({"images": np.zeros((3, 4), np.uint8)}, r"has the shape \(3, 4\), expected \(N, H, W\)"),
        ({"images": np.zeros((0, 4, 4), np.uint8)}, "has the shape"),
        ({"images": np.ones((3, 4, 4), np.uint8)}, "holds only 0 and 1 as uint8; save bool for two levels"),
        ({"images": np.zeros((3, 4, 4), np.int64)}, "holds int64; save uint8 for 256 levels"),
        ({"images": np.full((3, 4, 4), 17), "levels": 17}, "has values from 17 to 17, expected 0 … 16"),
        ({"images": np.full((3, 4, 4), -1), "levels": 17}, "has values from -1 to -1"),
        ({"images": np.full((3, 4, 4), 9, np.uint8), "levels": 1}, "levels in .* must be one number"),
        ({"images": np.full((3, 4, 4), 9, np.uint8), "labels": np.zeros(2, int)}, "labels in .* must be 3 whole numbers"),
        ({"x": np.zeros(3), "y": np.zeros(3)}, "the array of the images must be called images"),
        ({"images": np.array([None, 1])}, "no array that can be read"),
    ],
)
def test_other_arrays_are_refused_in_one_line(tmp_path: Path, arrays: dict[str, np.ndarray], says: str) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=says) as error:
        load_dataset(str(path))
    assert "\n" not in str(error.value)


def test_files_that_hold_no_array(tmp_path: Path) -> None:
    for name in ("x.npy", "x.npz"):
        (tmp_path / name).write_bytes(b"hello")
        with pytest.raises(ValueError, match="holds no array that can be read"):
            load_dataset(str(tmp_path / name))
