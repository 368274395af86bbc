"""Anomaly scores: lengths of real files, distances in standard deviations, and a rank statistic against its definition."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import rastrum
from rastrum import ImageSpec
from rastrum.applications.anomaly import auroc, png_bits, scores, z_scores
from rastrum.cli import main


def n(*values: float) -> np.ndarray:
    return np.array(values)


def images_of(spec: ImageSpec, count: int = 3) -> torch.Tensor:
    return torch.randint(spec.levels, (count, *spec.shape), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels, levels", [(1, 2), (1, 17), (1, 256), (1, 1000), (3, 256), (2, 16), (3, 2)])
def test_the_length_is_that_of_files_that_hold_the_image(channels: int, levels: int) -> None:
    """The files hold the levels, for any number of levels, and the length is that of files written one by one with PIL."""
    spec = ImageSpec(channels, 5, 4, levels)
    x = images_of(spec)
    for image, bits in zip(x.numpy(), png_bits(spec, x).tolist(), strict=True):
        together = channels == 3 and 2 < levels <= 256
        arrays = [image.transpose(1, 2, 0)] if together else list(image)
        length = 0
        for array in arrays:
            file = io.BytesIO()
            Image.fromarray(array.astype(bool if levels == 2 else np.uint16 if levels > 256 else np.uint8)).save(file, "PNG", optimize=True)
            length += len(file.getvalue())
            assert (np.asarray(Image.open(file)).astype(int) == array).all()
        assert bits == 8 * length


def test_frames_count_too() -> None:
    """A video is as complex as its frames below each other: a frame of noise makes it longer."""
    spec = ImageSpec(1, 8, 8, 256, frames=2)
    still = torch.zeros(1, *spec.shape, dtype=torch.int64)
    noisy = still.clone()
    noisy[:, 1] = images_of(ImageSpec(1, 8, 8, 256), 1)
    assert png_bits(spec, noisy).item() > png_bits(spec, still).item() + 200


def test_the_correction_takes_the_file_out() -> None:
    """bits − PNG bits, in bits, computed from nats that are −log p."""
    spec = ImageSpec(1, 6, 6, 16)
    x = images_of(spec)
    of = scores(spec, x, np.array([1.0, 2.0, 3.0]) * np.log(2))
    assert of.bits.tolist() == pytest.approx([1, 2, 3]) and torch.equal(of.corrected, of.bits - png_bits(spec, x))


def test_z_scores_of_a_reference_itself() -> None:
    """Mean 0 and deviation 1 for the reference, and numpy's values for others."""
    reference = np.random.RandomState(0).normal(5, 3, 50)
    own = z_scores(reference, reference)
    assert own.mean().item() == pytest.approx(0, abs=1e-12) and own.std().item() == pytest.approx(1)
    assert z_scores(n(9), reference).item() == pytest.approx((9 - reference.mean()) / reference.std(ddof=1))


def test_auroc_is_the_share_of_pairs() -> None:
    """Every pair is compared, ties count half; and order alone matters."""
    random = np.random.RandomState(1)
    low, high = random.randint(0, 6, 40), random.randint(2, 9, 30)
    pairs = np.sign(high[:, None] - low[None]).astype(float)
    assert auroc(low, high) == pytest.approx((pairs + 1).mean() / 2)
    assert auroc(low, high) == auroc(np.exp(low), np.exp(high)) and auroc(low, low) == pytest.approx(0.5)
    assert auroc(n(0, 1), n(2)) == 1.0 and auroc(n(2), n(0, 1)) == 0.0


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: z_scores(n(1), n(2)), "at least two"),
        (lambda: z_scores(n(1), n(2, 2)), "all values are the same"),
        (lambda: auroc(n(), n(1)), "0 and 1"),
        (lambda: auroc(n(1, float("nan")), n(2, 3)), "usual: expected numbers"),
        (lambda: z_scores(n(1), n(2, 3, float("nan"))), "reference: expected finite"),
        (lambda: scores(ImageSpec(1, 2, 2, 2), torch.zeros(2, 1, 2, 2, dtype=torch.int64), n(1)), "one value for each of 2"),
        (lambda: png_bits(ImageSpec(1, 2, 2, 2), torch.zeros(2, 1, 3, 2, dtype=torch.int64)), "shape"),
        (lambda: z_scores("x", n(1, 2)), "expected an array"),  # pyright: ignore[reportArgumentType]
        (lambda: z_scores(n(1) * 1j, n(1, 2)), "expected real numbers"),
    ],
)
def test_bad_input(call, message: str) -> None:
    """Each is refused with a line that names the argument."""
    with pytest.raises(ValueError, match=message):
        call()


def test_score_with_a_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`rastrum score --reference`: z, corrected z and ranks are those of the library; any model finds noise unusual compared with
    digits."""
    import json

    folder = tmp_path / "model"
    model = rastrum.build("pixelcnn", ImageSpec(1, 8, 8, 17), preset="tiny")
    assert isinstance(model, rastrum.RasterModel)
    model.save_pretrained(folder)
    capsys.readouterr()
    asked = ["--data", "digits", "--count", "12", "--reference", "digits", "--reference-split", "train", "--reference-count", "30"]
    assert main(["score", str(folder), *asked, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    from rastrum.config import DataOptions
    from rastrum.data.dataset import load_dataset

    usual = load_dataset("digits", "train", DataOptions(limit=30)).images
    of = load_dataset("digits", "test", DataOptions(limit=12)).images
    with torch.no_grad():
        inside, outside = (scores(model.spec, x, -model.log_prob(x)) for x in (usual, of))
    assert said["z"] == pytest.approx(z_scores(outside.bits, inside.bits).tolist(), rel=1e-4, abs=1e-4)
    assert said["z_corrected"] == pytest.approx(z_scores(outside.corrected, inside.corrected).tolist(), rel=1e-4, abs=1e-4)
    assert said["png_bits"] == outside.complexity.tolist() and said["reference_images"] == 30
    assert said["auroc"]["bits"] == pytest.approx(auroc(inside.bits, outside.bits), abs=0.01)
    own = ["--data", "digits", "--split", "test[:20]", "--count", "12", "--reference", "digits", "--reference-split", "test[:20]", "--json"]
    assert main(["score", str(folder), *own]) == 0
    assert json.loads(capsys.readouterr().out)["reference_images"] == 8    # the others: no image is its own reference
    assert main(["score", str(folder), *asked]) == 0
    assert "z less PNG" in capsys.readouterr().out
    assert main(["score", str(folder), "--data", "digits", "--reference", "digitz"]) == 2


def test_a_reference_keeps_its_own_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--class` is the class of the scored images, not of the reference; otherwise a wrong class would look as usual as a right one."""
    import json

    from rastrum.config import DataOptions
    from rastrum.data.dataset import load_dataset

    model = rastrum.build("gated-pixelcnn", ImageSpec(1, 8, 8, 17), "tiny", rastrum.ConditionSpec("class", 10))
    assert isinstance(model, rastrum.RasterModel)
    torch.manual_seed(0)
    for p in model.parameters():
        torch.nn.init.normal_(p, 0, 0.3)
    model.save_pretrained(tmp_path / "model")
    of = ["--data", "digits", "--count", "5", "--reference", "digits", "--reference-split", "train", "--reference-count", "30"]
    assert main(["score", str(tmp_path / "model"), *of, "--class", "3", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    usual, scored = (load_dataset("digits", split, DataOptions(limit=n)) for split, n in (("train", 30), ("test", 5)))
    with torch.no_grad():
        inside = scores(model.spec, usual.images, -model.log_prob(usual.images, usual.labels))
        outside = scores(model.spec, scored.images, -model.log_prob(scored.images, torch.full((5,), 3)))
    assert said["z"] == pytest.approx(z_scores(outside.bits, inside.bits).tolist(), rel=1e-3, abs=1e-3)
