"""compress and decompress: exact round trips, bytes near −log2 p, and a typed error for anything but the blob itself."""

from __future__ import annotations

import math
import time
from base64 import b64decode
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_models import BottomUp, TwoResolutions

import rastrum
from rastrum import ConditionSpec, FileError, ImageSpec, RasterModel
from rastrum.compression import blobs as container

CLASSES = ConditionSpec("class", 3)


def built(name: str, spec: ImageSpec, condition: ConditionSpec | None = None) -> RasterModel:
    model = rastrum.build(name, spec, preset="tiny", condition=condition, seed=1)
    assert isinstance(model, RasterModel)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


CASES: dict[str, tuple[Any, ConditionSpec | None]] = {
    "pixelcnn": (lambda: built("pixelcnn", ImageSpec(1, 6, 5, 2)), None),
    "gated": (lambda: built("gated-pixelcnn", ImageSpec(3, 4, 5, 256)), None),
    "gated, class": (lambda: built("gated-pixelcnn", ImageSpec(1, 4, 5, 17), CLASSES), CLASSES),
    "plus plus": (lambda: built("pixelcnn++", ImageSpec(3, 5, 6, 256)), None),
    "plus plus, many levels": (lambda: built("pixelcnn++", ImageSpec(1, 5, 4, 65536)), None),
    "float64, through torch": (lambda: built("gated-pixelcnn", ImageSpec(1, 5, 5, 9)).double(), None),
    "a user's, bottom up": (lambda: BottomUp(ImageSpec(1, 3, 4, 5)), None),
    "a user's, two resolutions": (lambda: TwoResolutions(ImageSpec(2, 3, 3, 4)), None),
}


def conditions(condition: ConditionSpec | None, count: int) -> Tensor | None:
    return None if condition is None else torch.arange(count) % 3


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[RasterModel, ConditionSpec | None]:
    make, condition = CASES[request.param]
    return make(), condition


def test_round_trips_are_exact_and_as_short_as_promised(case: tuple[RasterModel, ConditionSpec | None]) -> None:
    """Sampled, random and constant images, one, none and many, come back unchanged and take at most 48 + 3 n bytes above −log2 p."""
    model, condition = case
    spec = model.spec
    sampled = rastrum.sample(model, 9, condition=conditions(condition, 9), seed=5)
    noise = torch.randint(0, spec.levels, (9, *spec.shape), generator=torch.Generator().manual_seed(0))
    constant = torch.full((2, *spec.shape), spec.levels - 1)
    for images in (sampled, noise, constant, sampled[:1], sampled[:0]):
        given = conditions(condition, len(images))
        blob = rastrum.compress(model, images, given)
        again = rastrum.decompress(model, blob, given)
        assert torch.equal(again.long(), images.long()) and again.dtype == (torch.uint8 if spec.levels <= 256 else torch.int64)
        with torch.no_grad():
            ideal = -float(model.log_prob(images, given).sum()) / math.log(2) / 8
        assert len(blob) <= ideal * 1.0001 + 48 + 3 * len(images)


def test_many_images_take_no_more_than_one_percent(case: tuple[RasterModel, ConditionSpec | None]) -> None:
    """150 images, more than a batch, take at most 1 % + 1 byte per image above −log2 p, plus the header and the lengths."""
    model, condition = case
    given = conditions(condition, 150)
    images = rastrum.sample(model, 150, condition=given, seed=5)
    blob = rastrum.compress(model, images, given)
    assert torch.equal(rastrum.decompress(model, blob, given), images)
    with torch.no_grad():
        ideal = -float(model.log_prob(images, given).sum()) / math.log(2) / 8
    assert len(blob) <= ideal * 1.01 + 48 + 2 * 150


def test_streams_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob made in batches of 64 decodes one image at a time, and encodes again to the same bytes."""
    model = CASES["plus plus"][0]()
    images = rastrum.sample(model, 20, seed=5)
    blob = rastrum.compress(model, images)
    monkeypatch.setattr(container, "BATCH", 1)
    assert torch.equal(rastrum.decompress(model, blob), images) and rastrum.compress(model, images) == blob


@pytest.mark.parametrize("name", ["gated", "a user's, bottom up"])
def test_a_blob_cut_or_changed_anywhere_is_refused(name: str) -> None:
    model = CASES[name][0]()
    blob = rastrum.compress(model, rastrum.sample(model, 3, seed=5))
    for length in range(len(blob)):
        with pytest.raises(FileError, match="blob: "):
            rastrum.decompress(model, blob[:length])
    for position in range(len(blob)):
        changed = bytearray(blob)
        changed[position] ^= 1 + position % 255
        with pytest.raises(FileError, match="blob: "):
            rastrum.decompress(model, bytes(changed))
    with pytest.raises(FileError):
        rastrum.decompress(model, blob + b"\0")


def sealed(blob: bytes) -> bytes:
    """The blob with a matching digest, as only a careful forger or a bug of ours would write it."""
    return blob[:6] + container.digest(8, blob[:6] + blob[14:]) + blob[14:]


@pytest.mark.parametrize("name", ["gated", "a user's, bottom up"])
def test_a_forged_blob_is_refused_whatever_was_changed(name: str) -> None:
    """Under a right digest: lengths beyond the end, wrong counts, padding, and streams that decode to the same or other images."""
    model = CASES[name][0]()
    blob = rastrum.compress(model, rastrum.sample(model, 3, seed=5))

    def refused(forged: bytes) -> None:
        with pytest.raises(FileError, match=r"^blob: "):
            rastrum.decompress(model, sealed(forged))

    generator = torch.Generator().manual_seed(0)
    for position in [*range(22, 40), *range(40, len(blob), 5), len(blob) - 1]:
        for flip in {1, 128, *torch.randint(1, 256, (3,), generator=generator).tolist()}:
            changed = bytearray(blob)
            changed[position] ^= flip
            refused(bytes(changed))
    for length in range(26, len(blob)):
        refused(blob[:length])
    for more in (b"\0", b"\1", b"\0\0\0"):
        refused(blob + more)


def body(count: int, least: bytes, bits: int, rest: bytes, pixels: bytes, model: RasterModel) -> bytes:
    """A blob of arithmetic 1 from its parts."""
    head = b"RSTM" + bytes([2, container.NATIVE])
    about = rastrum.compression.fingerprint(model) + pixels + container.varint(count)
    return sealed(head + bytes(8) + about + least + bytes([bits]) + rest)


def test_images_have_one_encoding() -> None:
    """The same images with longer numbers, wider lengths, padding bits or longer streams: refused, though they would decode."""
    model = CASES["gated"][0]()
    images = rastrum.sample(model, 3, seed=5)
    encoded = rastrum.compress(model, images)
    reader = container.Reader(encoded, "blob")
    reader.seek(27)
    streams = container._split(reader, 3)
    least = min(map(len, streams))
    bits = max(len(stream) - least for stream in streams).bit_length()

    def made(lengths: bytes, count: bytes = b"\3", each: list[bytes] = streams) -> bytes:
        return sealed(encoded[:26] + count + lengths + b"".join(each))

    def packed(least: int, bits: int, each: list[bytes] = streams, spoil: int = 0) -> bytes:
        number = 0
        for i, stream in enumerate(each):
            number |= sum((len(stream) - least >> bit & 1) << (8 * ((3 * bits + 7) // 8) - 1 - i * bits - bit) for bit in range(bits))
        return container.varint(least) + bytes([bits]) + (number | spoil).to_bytes((3 * bits + 7) // 8)

    assert made(packed(least, bits)) == encoded
    longer = [streams[0] + b"\0", *streams[1:]]
    more = max(len(stream) - min(map(len, longer)) for stream in longer).bit_length()
    forged = [
        made(packed(least, bits), b"\x83\0"),
        made(bytes([least & 127 | 128, least >> 7 | 128, 0]) + packed(least, bits)[len(container.varint(least)) :]),
        made(packed(least, bits + 1)),
        made(packed(least - 1, 6)),
        made(packed(min(map(len, longer)), more, longer), each=longer),
    ]
    forged += [made(packed(least, bits, spoil=1))] if 3 * bits % 8 else []
    for blob in forged:
        assert blob != encoded
        with pytest.raises(FileError, match=r"^blob: "):
            rastrum.decompress(model, blob)


def test_a_header_cannot_ask_for_more_than_its_blob_holds() -> None:
    """30 bytes asked for gigabytes and for minutes; empty streams are black images, decoded without a step, as many as a file may hold."""
    model = built("gated-pixelcnn", ImageSpec(1, 28, 28, 2))
    most = container._most_images(model, bytes(31))
    for count, least, bits in ((1 << 32, b"\0", 0), (1 << 31, b"\0", 1), (most + 1000, b"\0", 0), (4, b"\x80\x80\1", 0), (3, b"\0", 255)):
        started = time.perf_counter()
        with pytest.raises(FileError, match=r"^blob: "):
            rastrum.decompress(model, body(count, least, bits, b"", bytes(4), model))
        assert time.perf_counter() - started < 1
    black = torch.zeros(300, 1, 28, 28, dtype=torch.uint8)
    blob = rastrum.compress(model, black)
    assert len(blob) < 32 and torch.equal(rastrum.decompress(model, blob), black)
    many = torch.zeros(most, 1, 28, 28, dtype=torch.uint8)
    blob = body(most, b"\0", 0, b"", container._images_digest(many), model)
    assert len(blob) == 31 and torch.equal(rastrum.decompress(model, blob), many)


def test_one_condition_for_many_images_takes_the_memory_of_one() -> None:
    """A blob of 31 bytes may claim 97,280 images of one value; a vector that is repeated for each would take gigabytes."""
    model = built("gated-pixelcnn", ImageSpec(1, 1, 1, 2), ConditionSpec("vector", 5000))
    condition = model.check_condition(torch.zeros(5000), 97_280)
    assert condition is not None and condition.shape == (97_280, 5000) and condition.untyped_storage().nbytes() == 4 * 5000
    black = torch.zeros(50_000, 1, 1, 1, dtype=torch.uint8)
    blob = body(len(black), b"\0", 0, b"", container._images_digest(black), model)
    assert torch.equal(rastrum.decompress(model, blob, torch.zeros(5000)), black)


def test_what_could_not_be_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    model = CASES["pixelcnn"][0]()
    monkeypatch.setattr(container, "VALUES_PER_BYTE", 1)
    with pytest.raises(ValueError, match=r"compress at most \d+ at a time"):
        rastrum.compress(model, torch.zeros(200, 1, 6, 5, dtype=torch.uint8))


def test_files_of_earlier_versions_decode() -> None:
    """A digit that release 0.1.0 wrote with the bundled model (version 1), whose fingerprint no release since can compute."""
    blob = b64decode("UlNUTQEBBIVOMSAeFZJbJgH2/oevzvc/VBIBDwAmnnlg1Wbx1MWxbzWkOiw=")
    model = rastrum.load("rastrum/gated-pixelcnn-binarized-mnist")
    assert isinstance(model, RasterModel) and blob[4] == 1
    images = rastrum.decompress(model, blob)
    assert torch.equal(images, rastrum.sample(model, 1, seed=5))
    assert rastrum.compress(model, images)[22:] == blob[22:]
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    with pytest.raises(FileError, match="by another model"):
        rastrum.decompress(model, blob)


def test_other_models_conditions_and_inputs_are_refused() -> None:
    model = CASES["gated, class"][0]()
    images, classes = rastrum.sample(model, 4, condition=torch.tensor([0, 1, 2, 0])), torch.tensor([0, 1, 2, 0])
    blob = rastrum.compress(model, images, classes)
    with pytest.raises(FileError, match="another condition"):
        rastrum.decompress(model, blob, torch.tensor([1, 1, 2, 0]))
    with pytest.raises(ValueError, match="condition"):
        rastrum.decompress(model, blob)
    with torch.no_grad():
        next(model.parameters()).add_(1e-6)
    with pytest.raises(FileError, match="another model"):
        rastrum.decompress(model, blob, classes)
    with pytest.raises(FileError, match="another model"):
        rastrum.decompress(CASES["gated"][0](), blob)
    with pytest.raises(ValueError, match="levels must lie in"):
        rastrum.compress(model, images.long() + 100, classes)
    with pytest.raises(ValueError, match="expected bytes, got str"):
        rastrum.decompress(model, "blob", classes)  # pyright: ignore[reportArgumentType]
    with pytest.raises(FileError, match="not made by"):
        rastrum.decompress(model, b"PNG\r\n", classes)
    with pytest.raises(ValueError, match="cannot code images"):
        rastrum.compress(rastrum.build("draw", ImageSpec(1, 8, 8, 2), preset="tiny"), torch.zeros(1, 1, 8, 8, dtype=torch.uint8))  # pyright: ignore[reportArgumentType]


def test_torch_blobs_say_where_they_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    model = CASES["a user's, bottom up"][0]()
    blob = rastrum.compress(model, rastrum.sample(model, 2))
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    with pytest.raises(FileError, match=r"torch .* decodes only there"):
        rastrum.decompress(model, blob)
    native = CASES["gated"][0]()
    blob = rastrum.compress(native, rastrum.sample(native, 2))
    from rastrum import program

    monkeypatch.setattr(program, "has_numba", lambda: False)
    with pytest.raises(FileError, match="needs numba"):
        rastrum.decompress(native, blob)
