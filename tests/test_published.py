"""Sets that are read from where they are published: downloaded once, checked, and the same images as the Hub's layout holds."""

import hashlib
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.ImageFile import ImageFile

from rastrum.config import DataOptions
from rastrum.data import published as module
from rastrum.data.dataset import load_dataset
from rastrum.data.hub import hub
from rastrum.data.published import FILES, Published
from rastrum.protocol import ImageSpec


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is served on this machine in place of the authors' sites; downloads go beside it."""
    root = tmp_path / "site"
    root.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def copyfile(self, source: Any, outputfile: Any) -> None:
            content = source.read()
            outputfile.write(content[: len(content) // 2] if b"cut off" in content else content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Quiet(*args, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("RASTRUM_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("RASTRUM_HUB_MIRROR", raising=False)
    here = {name: {split: Published(f"{address}/{Path(file.url).name}") for split, file in files.items()} for name, files in FILES.items()}
    monkeypatch.setattr(module, "FILES", here)
    yield root
    server.shutdown()


def amat(images: np.ndarray) -> bytes:
    return "".join(" ".join(map(str, image.flatten())) + " \n" for image in images.astype(int)).encode()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_binarized_mnist(site: Path) -> None:
    images = np.random.RandomState(0).rand(7, 28, 28) > 0.8
    (site / "binarized_mnist_valid.amat").write_bytes(amat(images))
    data = load_dataset("binarized-mnist", "validation")
    assert data.spec == ImageSpec(1, 28, 28, 2) and np.array_equal(data.images[:, 0].numpy(), images)
    (site / "binarized_mnist_valid.amat").unlink()                        # the second time nothing is downloaded
    assert len(load_dataset("binarized-mnist", "validation[:3]")) == 3
    (site / "binarized_mnist_test.amat").write_bytes(amat(images)[:-9])
    with pytest.raises(ValueError, match="not made of lines of 784"):
        load_dataset("binarized-mnist", "test")
    with pytest.raises(OSError, match=r"cannot download .*train\.amat \(File not found\); save it as") as error:
        load_dataset("binarized-mnist", "train")
    assert "\n" not in str(error.value)


def test_what_was_downloaded_is_checked_whenever_it_is_read(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the published digest, or that of the first download; a wrong file leaves nothing behind."""
    content = amat(np.zeros((2, 28, 28), bool))
    (site / "binarized_mnist_test.amat").write_bytes(content)
    load_dataset("binarized-mnist", "test")
    kept = tmp_path / "data" / "binarized-mnist" / "binarized_mnist_test.amat"
    assert Path(f"{kept}.sha256").read_text(encoding="utf-8").strip() == hashlib.sha256(content).hexdigest()
    kept.write_bytes(content.replace(b"0", b"1", 1))
    with pytest.raises(ValueError, match=r"has the SHA-256 .* expected"):
        load_dataset("binarized-mnist", "test")
    kept.unlink()
    (site / "binarized_mnist_train.amat").write_bytes(content)
    url = module.FILES["binarized-mnist"]["train"].url
    monkeypatch.setitem(module.FILES, "binarized-mnist", {"train": Published(url, "0" * 64)})
    with pytest.raises(ValueError, match=f"expected {'0' * 64}"):
        load_dataset("binarized-mnist", "train")
    assert sorted(path.name for path in kept.parent.iterdir()) == ["binarized_mnist_test.amat.sha256"]


def test_half_a_file_is_not_kept(site: Path, tmp_path: Path) -> None:
    """Berkeley publishes no digest, so the first download must be whole."""
    (site / "BSDS300-images.tgz").write_bytes(b"a file that is cut off")
    with pytest.raises(OSError, match=r"cannot download .*BSDS300-images\.tgz"):
        load_dataset("bsds300", "test")
    assert not list((tmp_path / "data" / "bsds300").iterdir())


def test_omniglot(site: Path) -> None:
    """In the order of alphabet, character and drawer, white on black."""
    with zipfile.ZipFile(site / "images_background.zip", "w") as archive:
        for alphabet, character, file, ink in (("B", "character01", "0003_01", 3), ("A", "character02", "0002_01", 2),
                                               ("A", "character01", "0001_02", 1), ("A", "character01", "0001_01", 0)):    # fmt: skip
            pixels = np.ones((105, 105), bool)
            pixels[: 30 * ink] = False
            archive.writestr(f"images_background/{alphabet}/{character}/{file}.png", png(pixels))
    data = load_dataset("omniglot", "train")
    assert data.spec == ImageSpec(1, 28, 28, 256)
    assert [round(float(image.double().mean()) / 255 * 105) for image in data.images] == [0, 30, 60, 90]


def test_omniglot28(site: Path) -> None:
    """The arrays of Generative Matching Networks, in the order of alphabet and character, ink 1; which drawings show one character."""
    blank = np.full((20, 784), 255, np.uint8)
    names = ("images_evaluation/ULOG/character01", "images_evaluation/Angelic/character02", "images_evaluation/Angelic/character01")
    drawings = {name: blank.copy() for name in names}
    for ink, name in enumerate(sorted(names)):
        for number in range(20):
            drawings[name][number, : 100 * ink + number] = 0
    np.savez(site / "test_small.npz", **drawings)  # pyright: ignore[reportArgumentType]
    data = load_dataset("omniglot28", "test", DataOptions(exemplars=2))
    assert data.spec == ImageSpec(1, 28, 28, 2) and data.groups is not None and torch.bincount(data.groups).tolist() == [20, 20, 20]
    assert data.images.flatten(1).sum(1).tolist() == [100 * ink + number for ink in range(3) for number in range(20)]
    assert load_dataset("omniglot28", "test5").images.flatten(1).sum(1).tolist() == [200 + number for number in range(20)]
    with pytest.raises(ValueError, match="omniglot28 has the splits train, test, train45"):
        load_dataset("omniglot28", "validation")


def test_bsds300(site: Path) -> None:
    with tarfile.open(site / "BSDS300-images.tgz", "w:gz") as archive:
        for split, name, level in (("train", "2", 20), ("train", "100", 10), ("test", "3", 30)):
            file = io.BytesIO()
            Image.new("RGB", (40, 36), (level, level, level)).save(file, "JPEG")
            entry = tarfile.TarInfo(f"BSDS300/images/{split}/{name}.jpg")
            entry.size = len(file.getvalue())
            archive.addfile(entry, io.BytesIO(file.getvalue()))
    train = load_dataset("bsds300", "train", DataOptions(size=8))
    assert train.spec == ImageSpec(3, 8, 8, 256) and train.images[:100].unique().tolist() == [10] and len(train) == 200
    assert load_dataset("bsds300", "test").images.unique().tolist() == [30]


@pytest.mark.skipif("RASTRUM_HUB_MIRROR" not in os.environ, reason="needs RASTRUM_HUB_MIRROR")
def test_the_files_hold_what_the_mirror_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirror's digits written as Larochelle's file are read as the mirror's; its photographs as
    Berkeley's archive likewise."""
    digits = load_dataset("binarized-mnist", "test[:300]")
    photographs, patches = [], load_dataset("bsds300", "test[:60]")
    for _, opener in list(hub("berkeley/bsds300", None, "image", "test").images)[:3]:
        photograph = opener()
        assert isinstance(photograph, ImageFile) and isinstance(photograph.fp, io.BytesIO)
        photographs.append(photograph.fp.getvalue())
    monkeypatch.delenv("RASTRUM_HUB_MIRROR")
    monkeypatch.setenv("RASTRUM_DATA", str(tmp_path))
    (tmp_path / "binarized-mnist").mkdir()
    (tmp_path / "binarized-mnist" / "binarized_mnist_test.amat").write_bytes(amat(digits.images.numpy()))
    monkeypatch.setitem(module.FILES, "binarized-mnist", {"test": Published(FILES["binarized-mnist"]["test"].url)})
    again = load_dataset("binarized-mnist", "test")
    assert np.array_equal(again.images.numpy(), digits.images.numpy()) and again.spec == digits.spec
    (tmp_path / "bsds300").mkdir()
    with tarfile.open(tmp_path / "bsds300" / "BSDS300-images.tgz", "w:gz") as archive:
        for number, content in enumerate(photographs):
            entry = tarfile.TarInfo(f"BSDS300/images/test/{number}.jpg")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    assert np.array_equal(load_dataset("bsds300", "test").images.numpy(), patches.images.numpy())
