"""What training draws: by Philox words of (seed, image, …), against the scalar transcription; the distributions; who gets which draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_noise import reference

from rastrum.config import DataOptions
from rastrum.data.dataset import load_dataset
from rastrum.noise import BINARISATION, CROP, ORDER, TRAINING, permutation, words
from rastrum.training_noise import SUPPLY, Dropout, drawing, standard_normal, uniform_noise

CPU = torch.device("cpu")


def test_words_are_all_four_of_each_counter() -> None:
    seed, images, epochs = 0xDEADBEEF_12345678, [0, 7, 2**32 - 1], np.array([3, 0, 2**32 - 1])
    found = words(seed, images, 10, epochs, CROP)
    assert found.dtype == np.uint32 and found.shape == (3, 10)
    for row, (image, epoch) in enumerate(zip(images, epochs.tolist(), strict=True)):
        blocks = [reference((image, t, epoch, CROP), (0x12345678, 0xDEADBEEF)) for t in range(3)]
        assert found[row].tolist() == [word for block in blocks for word in block][:10]
    long = words(1, np.arange(3), 80_000)
    assert np.array_equal(long[1:2, :9], words(1, [1], 9)) and len(np.unique(long)) > 239_000


def test_an_order_is_a_permutation_by_seed_and_epoch() -> None:
    keys = [reference((i, 0, 2, ORDER), (5, 0)) for i in range(50)]
    assert permutation(5, 2, 50).tolist() == sorted(range(50), key=lambda i: (keys[i][0], keys[i][1]))
    assert len({permutation(seed, epoch, 50).tobytes() for seed, epoch in ((5, 2), (5, 3), (6, 2))}) == 3
    first = np.bincount([permutation(seed, 0, 5)[0] for seed in range(2000)], minlength=5)
    assert ((first - 400) ** 2 / 400).sum() < 25


def test_a_batch_needs_none_before_it() -> None:
    """Also one that begins in one epoch and ends in another, and with crops and binarisation, which are of the image, not of the batch."""
    data = load_dataset("digits", "train[:10]", DataOptions(binarise="dynamic", crop=5))
    every = [x for (x, _), _ in zip(data.batches(4, 3, data.labels), range(8), strict=False)]
    for number in (0, 2, 7):
        assert torch.equal(next(data.batches(4, 3, first=number))[0], every[number])
    other = [x for (x, _), _ in zip(data.batches(16, 3), range(2), strict=False)]
    assert torch.equal(torch.cat(every), torch.cat(other))
    assert not torch.equal(every[0], next(data.batches(4, 4))[0])


def test_binarisation_is_exact() -> None:
    """1 where word / 2^32 < level / (levels − 1), in whole numbers: never for level 0, always for the highest."""
    data = load_dataset("digits", "train[:1]", DataOptions(binarise="dynamic"))
    assert data.originals is not None
    x = data.originals[0].flatten().tolist()
    drawn = next(data.batches(1, 9))[0].flatten().tolist()
    stream = words(9, [0], 64, 0, BINARISATION)[0].tolist()
    assert drawn == [int(word * 16 < level * 2**32) for word, level in zip(stream, x, strict=True)]
    assert all(bit == (level == 16) for bit, level in zip(drawn, x, strict=True) if level in (0, 16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distributions(dtype: torch.dtype) -> None:
    with drawing(0, np.arange(50)):
        z, u = standard_normal(torch.Size([50, 2000]), dtype, CPU).flatten(), uniform_noise(torch.Size([50, 2000]), dtype, CPU).flatten()
        dropped = Dropout(0.3)(torch.ones(50, 2000, dtype=dtype))
        odd = standard_normal(torch.Size([50, 3]), dtype, CPU)
    assert z.dtype == u.dtype == dtype and z.isfinite().all() and odd.shape == (50, 3)
    sizes = torch.tensor([0.5, 1, 2, 3], dtype=dtype)
    share = torch.stack([(z < size).double().mean() for size in sizes])
    assert (share - torch.special.ndtr(sizes).double()).abs().max() < 5 * 0.5 / 1e5**0.5
    assert abs(z.mean()) < 5 / 1e5**0.5 and abs(z.std() - 1) < 5 / 2e5**0.5 and u.min() >= 0 and u.max() < 1
    assert ((torch.histc(u.float(), 20, 0, 1) - 5000) ** 2 / 5000).sum() < 19 + 5 * 38**0.5
    assert abs((dropped == 0).double().mean() - 0.3) < 5 * 0.46 / 1e5**0.5
    assert torch.equal(dropped[dropped != 0].unique(), torch.tensor([1 / 0.7], dtype=dtype))
    assert not Dropout(0.3).eval()(torch.ones(3)).eq(0).any()


def test_draws_belong_to_the_image_and_the_call() -> None:
    """Any pieces of a batch: the same draws, of supplies of any size; every call and every image draws its own."""
    sizes = (3, 8, SUPPLY + 5, 40, 1000)

    def drawn(positions: np.ndarray) -> list[torch.Tensor]:
        with drawing(2, positions):
            return [standard_normal(torch.Size([len(positions), size]), torch.float64, CPU) for size in sizes]

    whole, first, rest = drawn(np.arange(5)), drawn(np.arange(2)), drawn(np.arange(2, 5))
    for one, two, three in zip(whole, first, rest, strict=True):
        assert torch.equal(one, torch.cat([two, three]))
    together = torch.cat([one.flatten() for one in whole])
    assert len(together.unique()) == len(together)
    assert np.array_equal(words(2, [4], 3, 1, TRAINING)[0, :3], words(2, [4], 4, 1, TRAINING)[0, :3])


def test_outside_of_training_torch_draws() -> None:
    torch.manual_seed(1)
    ours = standard_normal(torch.Size([2, 3]), torch.float32, CPU), uniform_noise(torch.Size([2, 3]), torch.float32, CPU)
    torch.manual_seed(1)
    assert torch.equal(ours[0], torch.randn(2, 3)) and torch.equal(ours[1], torch.rand(2, 3))
