"""Progressive files: the exact half of conv-DRAW against the model in float64, the code of latents against their probabilities, and cuts,
damage and other processors."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from hashlib import blake2b
from typing import Any

import golden_pictures
import numpy as np
import pytest
import torch
from torch import Tensor

import rastrum
from rastrum import ConditionSpec, ImageSpec
from rastrum.compression import FileError, Unpacking, compress_pictures, decompress_pictures
from rastrum.compression.conceptual import Compressed
from rastrum.compression.fields import Reader, digest, varint
from rastrum.compression.identity import fingerprint_of_weights
from rastrum.compression.progressive import Header, read_header
from rastrum.compression.sketches import Sketch, code_levels
from rastrum.compression.unpacking import picture_of
from rastrum.distributions import Bernoulli, CoupledLogistics, LogisticMixture
from rastrum.latents import DitheredNormal
from rastrum.models.conv_draw import ConvDRAW
from rastrum.native.latents import DECODE, ENCODE
from rastrum.program.builder import Program
from rastrum.program.strokes import NativeStrokes, TorchStrokes
from rastrum.range_coder import CDF_TOTAL, Decoder, Encoder

GREY, COLOUR = ImageSpec(1, 8, 8, 2), ImageSpec(3, 7, 5)


def make(spec: ImageSpec = COLOUR, condition: ConditionSpec | None = None, **config: Any) -> ConvDRAW:
    """A tiny model whose priors and posteriors differ between positions, images and steps, with widths below the prior's deviation."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"steps": 3, "posterior": "uniform", "positional": False} | config
    model = ConvDRAW(spec, ConvDRAW.preset("tiny", spec, **options), condition)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for head in model.priors:
            assert isinstance(head, torch.nn.Conv2d) and head.bias is not None
            if options["posterior"] == "uniform":
                head.bias[2 * model.config.latent :] = -1.0
    return model.eval()


def pictures(spec: ImageSpec, count: int, seed: int = 0) -> Tensor:
    """Slopes with noise."""
    generator = torch.Generator().manual_seed(seed)
    slope = torch.linspace(0, 1, spec.width) * torch.rand(count, spec.channels, 1, 1, generator=generator) + torch.rand(
        count, 1, spec.height, 1, generator=generator
    ) / 4
    return (slope * (spec.levels - 1)).round().long().clamp(0, spec.levels - 1)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


# ── the program ──────────────────────────────────────────────────────────────────────────────────────────────────────


CONDITIONS = {"none": (None, None), "class": (ConditionSpec("class", 3), torch.tensor([0, 2])),
              "vector": (ConditionSpec("vector", 2), torch.tensor([[0.5, -1.0], [2.0, 0.25]]))}  # fmt: skip


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize(("layers", "positional"), [(1, True), (2, False), (3, True)])
@pytest.mark.parametrize("spec", [GREY, COLOUR, ImageSpec(1, 1, 9, 1024)], ids=str)
def test_the_program_is_the_model(spec: ImageSpec, layers: int, positional: bool, condition: str) -> None:
    """Priors, decoder states and canvas of every latent: by torch in float64 to 1e-12, natively to float32's rounding."""
    condition_spec, given = CONDITIONS[condition]
    model = make(spec, condition_spec, layers=layers, positional=positional, stride=min(2, spec.width), skip=positional)
    reference = ConvDRAW(spec, model.config, condition_spec).double()
    reference.load_state_dict(model.state_dict())
    program, exact = Program(spec, condition_spec), Program(spec, condition_spec)
    maps, theirs = model.lower_strokes(program), reference.lower_strokes(exact)
    wide = given.double() if given is not None and given.is_floating_point() else given
    native, by_torch = NativeStrokes(program, 2, given), TorchStrokes(exact, 2, torch.float64, torch.device("cpu"), wide)
    state = reference.init(2, wide)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for t in range(model.steps):
            number, prior = t % layers, reference.prior(state)
            assert isinstance(prior, DitheredNormal)
            expected = torch.cat([prior.mean, prior.log_sd, prior.log_width], 1).movedim(1, -1)
            assert torch.allclose(by_torch.map(theirs.priors[number]), expected, rtol=0, atol=1e-12)
            assert np.allclose(native.map(maps.priors[number]), expected, rtol=0, atol=3e-6)
            z = torch.randn(prior.mean.shape, generator=generator).double()
            by_torch.map(theirs.latents[number]).copy_(z.movedim(1, -1))
            native.map(maps.latents[number])[:] = z.movedim(1, -1)
            by_torch.run(number)
            native.run(number)
            reference.write(state, z)
            for name, view in [*theirs.memory.items(), ("canvas", theirs.canvas)]:
                moved = state.canvas if name == "canvas" else state.memory.get(name)
                assert moved is None or torch.allclose(by_torch.map(view), moved.movedim(1, -1), rtol=0, atol=1e-12)
            assert np.allclose(native.map(maps.canvas), state.canvas.movedim(1, -1), rtol=0, atol=3e-5)


def drawn(model: ConvDRAW, batch: int, threads: int = 1, seed: int = 3) -> dict[str, np.ndarray]:
    """All that a walk of the exact half gives."""
    sketch, found = Sketch(model, batch, threads=threads), {}
    while sketch.t < sketch.steps:
        coded = sketch.draw(seed)
        for name, value in (("prior", sketch.prior()), ("k", coded.k.reshape(batch, -1)), ("z", coded.z.reshape(batch, -1))):
            found[f"{name}{sketch.t}"] = value.copy()
        sketch.write(coded.z)
    found["canvas"] = sketch.canvas()
    found["picture"] = picture_of(found["canvas"], model.spec.levels)
    return found


@pytest.mark.parametrize("layers", [1, 2])
def test_bits_depend_on_neither_batch_nor_threads(layers: int) -> None:
    """Threads share images, or where these are fewer the rows of each operation."""
    model = make(ImageSpec(3, 13, 9), layers=layers)
    whole = drawn(model, 5)
    for batch, threads in ((1, 1), (1, 4), (3, 2), (5, 8)):
        assert same(drawn(model, batch, threads), {name: value[:batch] for name, value in whole.items()})


def test_weights_serve_any_size() -> None:
    """A model without positions is the same function at another size; one with positions says that it is not."""
    model, other = make(GREY), make(GREY).resized(16, 16)
    assert other.spec.shape == (1, 16, 16)
    small, large = drawn(model, 1), drawn(other, 1)
    assert np.array_equal(small["prior0"][0, 0], large["prior0"][0, 0]) and large["canvas"].shape == (1, 16, 16, 1, 1)
    with pytest.raises(ValueError, match="so it runs on the former only"):
        make(GREY, positional=True).resized(16, 16)
    x = pictures(ImageSpec(1, 11, 6, 2), 2)
    assert torch.equal(decompress_pictures(compress_pictures(model, x, lossless=True).data, model).values, x)


# ── the code of a latent ─────────────────────────────────────────────────────────────────────────────────────────────


def sketch_of(mean: float, log_sd: float, log_width: float, size: int = 1) -> Sketch:
    """Latents that all have this prior, whatever was drawn."""
    model = make(ImageSpec(1, size, size, 2), steps=1, latent=1, stride=1)
    head = model.priors[0]
    assert isinstance(head, torch.nn.Conv2d) and head.bias is not None
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([mean, log_sd, log_width]))
    return Sketch(model, 1)


def put(sketch: Sketch, k: int, dither: float) -> tuple[float, bytes]:
    """Bits and stream of one whole number."""
    encoder, (_, _, log_width) = Encoder(), sketch.prior()[0, 0]
    target = np.array([(k + dither) * math.exp(log_width)])
    coded = sketch._code(ENCODE, np.array([dither]), target, encoder)
    assert coded.k.tolist() == [k]
    return coded.length[0], encoder.finish()


PRIORS = [(0.3, 0.0, -1.0), (-2.0, -1.5, 1.0), (0.0, 0.2, 0.1), (5.0, -3.0, 3.0), (40.0, 1.0, -4.0)]


@pytest.mark.parametrize(("mean", "log_sd", "log_width"), PRIORS)
@pytest.mark.parametrize("dither", [-0.4999, 0.0, 0.31])
def test_whole_numbers_have_their_probabilities(mean: float, log_sd: float, log_width: float, dither: float) -> None:
    """Over all k they add up to one; each is Φ − Φ in float64, within the counts' rounding; and k comes back, far ones too."""
    sketch = sketch_of(mean, log_sd, log_width)
    mean, log_sd, log_width = map(float, sketch.prior()[0, 0])
    sd, width = math.exp(log_sd), math.exp(log_width)
    nearest = round(mean / width - dither)
    reach = math.floor(8 * sd / width) + 1
    total = 0.0
    for k in range(nearest - reach - 2, nearest + reach + 3) if reach < 40 else range(nearest - 30, nearest + 31):
        bits, stream = put(sketch, k, dither)
        edges = [((k + side + dither) * width - mean) / sd for side in (-0.5, 0.5)]
        p = 0.5 * (math.erfc(-edges[1] / 2**0.5) - math.erfc(-edges[0] / 2**0.5))
        counts = 2 ** (24 - bits)
        if abs(k - nearest) <= reach:
            assert counts == pytest.approx(p * CDF_TOTAL, rel=4 * (2 * reach + 3) / CDF_TOTAL, abs=4)
            total += counts
        decoder = Decoder(stream)
        coded = sketch._code(DECODE, np.array([dither]), np.zeros(1), decoder)
        assert coded.k.tolist() == [k]
        assert coded.z[0] == np.float32((k + dither) * width) == pytest.approx((k + dither) * width, rel=1e-6)
        kl = float(coded.kl()[0])
        assert p < 1e-12 or kl == pytest.approx(-math.log2(p), rel=1e-4, abs=1e-4)
    assert reach >= 40 or CDF_TOTAL - 8 <= total <= CDF_TOTAL
    for k in (nearest - 10_000, nearest + 123_456_789):
        _, stream = put(sketch, k, dither)
        assert sketch._code(DECODE, np.array([dither]), np.zeros(1), Decoder(stream)).k.tolist() == [k]
    with pytest.raises(ValueError, match="farther from the mean"):
        put(sketch, nearest + (1 << 31), dither)


def test_z_lies_uniformly_around_the_posterior_mean() -> None:
    """Over dithers, as the KL assumes: (z − m) / width is uniform in ±½ (Kolmogorov and Smirnov's distance, 4,096 latents)."""
    sketch = sketch_of(0.0, 0.0, -0.5, 64)
    target = torch.linspace(-2, 2, 4096).view(1, 1, 64, 64)
    coded = sketch.encode(target, 1, Encoder())
    away = np.sort((coded.z - target.flatten().numpy()) / math.exp(-0.5)) + 0.5
    assert away[0] > -1e-6 and away[-1] < 1 + 1e-6
    assert np.abs(away - (np.arange(4096) + 0.5) / 4096).max() < 1.63 / 64


def test_draws_follow_the_prior() -> None:
    """Drawn z have the prior's mean and deviation, that of the normal plus the uniform, and its distribution function."""
    sketch = sketch_of(0.7, -0.3, 0.4, 64)
    z = sketch.draw(2).z.astype(np.float64)
    prior = DitheredNormal(*(torch.tensor([value], dtype=torch.float64) for value in (0.7, -0.3, 0.4)))
    sd = float(prior.sd)
    assert z.mean() == pytest.approx(0.7, abs=4 * sd / 64) and z.std() == pytest.approx(sd, rel=0.05)
    grid = np.linspace(-6, 6, 4001)
    density = prior.log_prob(torch.from_numpy(grid)[:, None]).exp().numpy()
    cdf = np.cumsum(density) * (grid[1] - grid[0])
    assert np.abs(np.interp(np.sort(z), grid, cdf) - (np.arange(4096) + 0.5) / 4096).max() < 1.63 / 64


@pytest.mark.parametrize(("levels", "coupled"), [(2, False), (256, False), (256, True)])
def test_values_have_the_probabilities_of_the_canvas(levels: int, coupled: bool) -> None:
    """The lossless layer is coded by the model's own distribution given the canvas, in parts that split pixels too."""
    generator = np.random.default_rng(0)
    canvas = generator.normal(size=(210, 1 if levels == 2 else 2)).astype(np.float32) - np.float32(0.5)
    values, encoder = generator.integers(levels, size=210), Encoder()
    if levels > 2:
        values = np.clip((canvas[:, 0] + generator.normal(size=210) * 0.3) * 127.5 + 127.5, 0, 255).astype(np.int64)
    coefficients = generator.normal(size=(3, 3)).astype(np.float32) if coupled else np.zeros((1, 1), np.float32)
    parts = slice(0, 100), slice(100, 210)
    bits = np.concatenate([code_levels(canvas, levels, values.copy(), encoder, True, coefficients, part) for part in parts])
    mean, *rest = torch.from_numpy(canvas).double().view(-1, 3, 1, canvas.shape[1]).unbind(-1)
    if coupled:
        p: Any = CoupledLogistics(mean, rest[0], torch.from_numpy(coefficients).double(), levels)
    elif levels == 2:
        p = Bernoulli(mean)
    else:
        p = LogisticMixture(mean[..., None] * 0, mean[..., None], rest[0][..., None], levels)
    probabilities = p.log_prob(torch.from_numpy(values).view(-1, 3, 1)).exp().flatten()
    assert np.allclose(0.5**bits, probabilities, rtol=1e-4, atol=4 / CDF_TOTAL)
    found, decoder = np.zeros(210, np.int64), Decoder(encoder.finish())
    for part in parts:
        code_levels(canvas, levels, found, decoder, True, coefficients, part)
    assert np.array_equal(found, values)


# ── a stream that was cut ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_symbol_is_known_where_no_continuation_changes_it() -> None:
    """``is_known`` against continuations: none changes what was known, and some change the next symbol."""
    generator = np.random.default_rng(1)
    counts = generator.integers(1, 50, 40)
    edges = np.concatenate([[0], np.cumsum(counts) * (CDF_TOTAL // counts.sum())])
    edges[-1] = CDF_TOTAL
    symbols, encoder = generator.integers(0, 40, 30), Encoder()
    for symbol in symbols:
        encoder.put(int(edges[symbol]), int(edges[symbol + 1]))
    data = encoder.finish()

    def decoded(data: bytes, count: int) -> list[int]:
        decoder, found = Decoder(data), []
        for _ in range(count):
            symbol = int(np.searchsorted(edges, decoder.threshold(), side="right")) - 1
            found.append(symbol)
            decoder.advance(int(edges[symbol]), int(edges[symbol + 1]))
        return found

    lost = []
    for cut in range(len(data)):
        decoder, known = Decoder(data[:cut]), 0
        while True:
            symbol = int(np.searchsorted(edges, decoder.threshold(), side="right")) - 1
            if not decoder.is_known(int(edges[symbol + 1])):
                break
            decoder.advance(int(edges[symbol]), int(edges[symbol + 1]))
            known += 1
        assert known <= 30
        for more in (bytes([value]) + tail for value in range(0, 256, 5) for tail in (b"", b"\xff" * 12)):
            assert decoded(data[:cut] + more, known) == symbols[:known].tolist()
        nexts = {decoded(data[:cut] + bytes([value]) + tail, known + 1)[-1] for value in (0, 255) for tail in (b"", b"\xff" * 12)}
        assert len(nexts) > 1                                             # and the next one does depend on what follows
        lost.append(known)
    assert lost == sorted(lost) and lost[-1] >= 28


@pytest.mark.parametrize(("layers", "levels"), [(1, 256), (2, 2)])
def test_every_cut_decodes(layers: int, levels: int) -> None:
    """At any byte behind the header: what is decoded is what the whole file says, more bytes never say less, and errors fall."""
    spec = ImageSpec(1, 8, 7, levels)
    model, x = make(spec, layers=layers), pictures(spec, 2)
    made = compress_pictures(model, x, lossless=True, seed=7)
    head, steps, exact = len(made.header.bytes), -1.0, 0
    whole = compress_pictures(model, x, seed=7)
    for cut in range(len(made.data) + 1):
        if cut < head:
            with pytest.raises(FileError, match=r"too few|expected to begin"):
                decompress_pictures(made.data[:cut], model)
            continue
        found = decompress_pictures(made.data[:cut], model)
        assert steps <= found.steps <= 3 == found.total and exact <= found.exact
        steps, exact = found.steps, found.exact
        known, right = (values.movedim(1, -1).flatten()[:exact] for values in (found.values, x))
        assert torch.equal(known, right)
        assert exact == 0 or steps == 3
    assert (steps, exact) == (3, x.numel()) and torch.equal(found.values, x)
    for count in range(4):
        upto = compress_pictures(model, x, seed=7, steps=count)
        assert torch.equal(
            decompress_pictures(upto.data, model).images, decompress_pictures(whole.data, model, steps=count).images
        )


def test_what_is_not_there_is_drawn_or_at_the_mean() -> None:
    model, x = make(), pictures(COLOUR, 3)
    data = compress_pictures(model, x, steps=1).data
    mean = decompress_pictures(data, model)
    assert torch.equal(mean.images, decompress_pictures(data, model, rest="mean", seed=4).images)
    first, again, other = (decompress_pictures(data, model, rest="sample", seed=seed).images for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other) and not torch.equal(first, mean.images)
    nothing = compress_pictures(model, x, steps=0)
    assert nothing.header.length == 0 and decompress_pictures(nothing.data, model).steps == 0
    assert nothing.kl.shape == (3, 0)


def test_damage_is_noticed() -> None:
    """Every byte changed in several ways: refused, or the same pictures; never other ones, and nothing but a ``FileError``."""
    model, x = make(GREY), pictures(GREY, 2)
    data = compress_pictures(model, x, lossless=True).data
    whole = decompress_pictures(data, model)
    refused = 0
    for at, change in itertools.product(range(len(data)), (0x01, 0xFF)):
        changed = bytearray(data)
        changed[at] ^= change
        try:
            found = decompress_pictures(bytes(changed), model)
        except FileError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert torch.equal(found.images, whole.images), at
    assert refused > 1.9 * len(data)
    with pytest.raises(FileError, match="appended"):
        decompress_pictures(data + b"\0", model)


def test_large_files_have_checks_on_the_way() -> None:
    """Damage in the second step leaves the first one, which is asked for by ``steps``."""
    model, x = make(), pictures(COLOUR, 40)
    made = compress_pictures(model, x)
    first = compress_pictures(model, x, steps=1)
    changed = bytearray(made.data)
    changed[len(first.data) + 20] ^= 16
    with pytest.raises(FileError, match="check after step 2"):
        decompress_pictures(bytes(changed), model)
    assert torch.equal(decompress_pictures(bytes(changed), model, steps=1).images, decompress_pictures(first.data, model).images)


# ── whole files ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("spec", "layers"), [(GREY, 1), (COLOUR, 2)], ids=str)
def test_bytes_are_the_kl(spec: ImageSpec, layers: int) -> None:
    """Of 100 images within 3 %, header and checks included; the counts' code within 0.3 %. The KL is that of ``bound``, up to its noise."""
    model, x = make(spec, layers=layers), pictures(spec, 100)
    with torch.no_grad():
        for head in model.posteriors:                                     # latents as likely as the prior's own draws are
            assert isinstance(head, torch.nn.Conv2d)
            head.weight.mul_(0.3)
    made = compress_pictures(model, x)
    kl = made.kl.sum()
    assert 8 * len(made.data) == pytest.approx(kl, rel=0.03)
    assert made.code_length.sum() == pytest.approx(kl, rel=0.003)
    assert 0 <= 8 * made.header.length - made.code_length.sum() < 8 + 16 * (1 + made.header.length / 256)
    assert made.kl.shape == made.code_length.shape == (100, model.steps)
    _, bound = model.bound(x, seed=0, terms=True)
    assert made.kl.sum(1).mean() == pytest.approx(bound.sum(1).mean().item() / math.log(2), rel=0.02)


def test_the_lossless_layer_brings_every_value_back() -> None:
    for spec, size in ((GREY, (8, 8)), (COLOUR, (7, 5)), (COLOUR, (12, 11))):
        model, x = make(spec, coupled=size == (12, 11)), pictures(ImageSpec(spec.channels, *size, spec.levels), 3)
        for steps in (0, 2, 3):
            made = compress_pictures(model, x, steps=steps, lossless=True)
            found = decompress_pictures(made.data, model)
            assert torch.equal(found.values, x) and found.exact == x.numel()
            assert torch.equal(found.images, x.float() / (spec.levels - 1))
            bits = made.code_length.sum() + made.residual.sum()
            assert 0 <= 8 * made.header.length - bits < 8 + 16 * (2 + made.header.length / 256)


def test_a_rate_or_a_quality_chooses_the_steps() -> None:
    model, x = make(), pictures(COLOUR, 1)
    sizes = [len(compress_pictures(model, x, steps=count).data) for count in range(4)]
    for bits in (8 * sizes[1], 8 * sizes[2] - 1, 8 * sizes[2], 8 * sizes[0], 8 * sizes[0] + 30, 1e9):
        made = compress_pictures(model, x, bits=bits)
        assert made.header.steps == min([n for n in range(4) if 8 * sizes[n] >= bits], default=3)
        assert made.data == compress_pictures(model, x, steps=made.header.steps).data[: int(bits // 8)]
    with pytest.raises(ValueError, match=f"a header alone takes {8 * sizes[0]} per image, more than 50"):
        compress_pictures(model, x, bits=50)

    def psnr(steps: int) -> float:
        found = decompress_pictures(compress_pictures(model, x, steps=steps).data, model)
        return -10 * math.log10(float((found.images.double() - x / 255).square().mean()))

    reached = [psnr(count) for count in range(4)]
    assert compress_pictures(model, x, psnr=reached[3] - 1e-6).header.steps in [n for n in range(4) if reached[n] >= reached[3] - 1e-6]
    assert compress_pictures(model, x, psnr=0.0).header.steps == 0
    bundled, photo = rastrum.load("rastrum/conv-draw-cifar10-files"), pictures(ImageSpec(3, 20, 20), 2, seed=5)
    assert isinstance(bundled, ConvDRAW)
    for wanted in (16.0, 19.0):
        made, whole = compress_pictures(bundled, photo, psnr=wanted), compress_pictures(bundled, photo)
        found = decompress_pictures(made.data, bundled).images.double()
        assert len(made.data) < len(whole.data) and wanted <= -10 * math.log10(float((found - photo / 255).square().mean())) < wanted + 1
    dark = np.zeros((1, 3, 9, 9), dtype=np.int64)
    small = compress_pictures(bundled, dark, psnr=12.0).data              # where two neighbouring sizes are more than a thirty-second apart
    found = decompress_pictures(small, bundled).images.double()
    assert len(small) < 32 and -10 * math.log10(float(found.square().mean())) >= 12
    assert compress_pictures(model, x, bits=math.inf).data == compress_pictures(model, x).data
    with pytest.raises(ValueError, match=rf"all 3 steps of this model reach {reached[3]:.2f} dB, 60 were asked for"):
        compress_pictures(model, x, psnr=60)


@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=str)
def test_effort_says_more_in_as_many_bits(spec: ImageSpec) -> None:
    """Nearer for the same bytes, fewer bytes for the same error, never worse; what comes back is still what the file says."""
    model, x = make(spec, steps=2, skip=True, beta=4.0), pictures(spec, 16)
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):                                                   # so that a step brings the picture nearer
        adam.zero_grad()
        model.loss(x).mean().backward()
        adam.step()
    adam.zero_grad()

    def made(effort: int, **target: Any) -> tuple[Compressed, float]:
        file = compress_pictures(model, x, effort=effort, seed=3, progress=False, **target)
        error = (decompress_pictures(file.data, model, progress=False).images.double() - x / (spec.levels - 1)).square().mean()
        return file, -10 * math.log10(float(error))

    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gain = 0.05 if spec == COLOUR else 0.0                                # in 16 pictures of two levels the dither makes more than that
    (one, near), (moved, nearer) = made(0, steps=1), made(20, steps=1)
    assert len(moved.data) <= len(one.data) and nearer >= near + gain and moved.header.steps == 1
    wanted = near - 0.5
    smaller, reached = made(40, psnr=wanted)
    assert len(smaller.data) <= len(one.data) - 100 * gain and reached >= wanted
    limit = 8 * len(one.data) / 16 + 1
    bounded, best = made(20, bits=limit)
    assert 8 * len(bounded.data) <= 16 * limit and best >= near + gain
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def distance(images: Tensor, x: Tensor, spec: ImageSpec) -> float:
    """PSNR of all images together, in dB."""
    return -10 * math.log10(float((images.double() - x / (spec.levels - 1)).square().mean()))


@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=str)
def test_effort_never_makes_a_lossless_file_longer(spec: ImageSpec) -> None:
    """What is made smaller is latents and values together; also where gradients are switched off, and with a quality to keep."""
    model, x = make(spec), pictures(spec, 4)
    whole = compress_pictures(model, x, lossless=True, progress=False)
    with torch.inference_mode():
        less = compress_pictures(model, x, lossless=True, effort=30, progress=False)
    assert torch.equal(decompress_pictures(less.data, model, progress=False).values, x)
    assert len(less.data) < len(whole.data) and less.header.steps == whole.header.steps
    assert less.kl.sum() + less.residual.sum() < whole.kl.sum() + whole.residual.sum()
    near = distance(decompress_pictures(whole.data, model, steps=3, progress=False).images, x, spec) - 1e-6
    kept = compress_pictures(model, x, lossless=True, effort=5, psnr=near, progress=False)
    assert len(kept.data) <= len(whole.data)
    assert distance(decompress_pictures(kept.data, model, steps=3, progress=False).images, x, spec) >= near


@pytest.mark.parametrize("effort", [0, 3])
def test_in_inference_mode_files_are_the_same(effort: int) -> None:
    """Though neither the model's tensors nor the images know gradients then."""
    with torch.inference_mode():
        file = compress_pictures(make(), pictures(COLOUR, 2), effort=effort, progress=False)
        images = decompress_pictures(file.data, make(), progress=False).images
    assert file.data == compress_pictures(make(), pictures(COLOUR, 2), effort=effort, progress=False).data
    assert torch.equal(images, decompress_pictures(file.data, make(), progress=False).images)


@pytest.mark.parametrize("coupled", [False, True])
def test_grey_pictures_go_through_a_model_of_rgb(coupled: bool) -> None:
    """As three equal channels; what comes back is the mean of the canvas, which also says how long each value's code is."""
    model, x = make(coupled=coupled), pictures(ImageSpec(1, 11, 9), 2)
    file = compress_pictures(model, x, lossless=True, progress=False)
    unpacking = Unpacking(compress_pictures(model, x.expand(-1, 3, -1, -1), progress=False).data, model)
    while unpacking.step():
        pass
    mean, log_scale = unpacking.sketch.canvas().astype(np.float64).mean(3, keepdims=True).transpose(4, 0, 3, 1, 2)
    steps = decompress_pictures(file.data, model, steps=3, progress=False)
    assert steps.images.shape == steps.values.shape == (2, 1, 11, 9)
    assert np.allclose(steps.images, (0.5 * mean + 0.5).clip(0, 1), rtol=0, atol=1e-6)
    means, log_scales = (torch.from_numpy(each)[..., None] for each in (mean, log_scale))
    given = LogisticMixture(0 * means, means, log_scales, 256)
    assert file.residual == pytest.approx(-given.log_prob(x).flatten(1).sum(1).numpy() / math.log(2), rel=1e-4)
    assert torch.equal(decompress_pictures(file.data, model, progress=False).values, x)
    part = decompress_pictures(file.data[:-40], model, progress=False)
    assert 0 < part.exact < x.numel() and torch.equal(part.values.movedim(1, -1).flatten()[: part.exact], x.flatten()[: part.exact])
    near = distance(steps.images, x, COLOUR) - 1e-6
    for effort in (0, 3):
        less = compress_pictures(model, x, psnr=near, effort=effort, progress=False)
        assert distance(decompress_pictures(less.data, model, progress=False).images, x, COLOUR) >= near


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (1, 5)])
def test_pictures_may_be_smaller_than_a_block(height: int, width: int) -> None:
    model, x = make(layers=2, stride=4), pictures(ImageSpec(3, height, width), 2)
    assert torch.equal(decompress_pictures(compress_pictures(model, x, lossless=True).data, model).values, x)


def test_conditions_are_part_of_the_identity() -> None:
    spec, model = ConditionSpec("class", 3), make(COLOUR, ConditionSpec("class", 3))
    x = pictures(COLOUR, 2)
    data = compress_pictures(model, x, torch.tensor([0, 2]), lossless=True).data
    assert torch.equal(decompress_pictures(data, model, torch.tensor([0, 2])).values, x)
    with pytest.raises(FileError, match="another condition"):
        decompress_pictures(data, model, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="condition"):
        decompress_pictures(data, model)
    assert spec.size == 3


def test_what_does_not_fit_is_refused() -> None:
    model, x = make(), pictures(COLOUR, 2)
    data = compress_pictures(model, x).data
    cases: list[tuple[str, Any]] = [
        ("uniform", lambda: compress_pictures(make(posterior="normal"), x)),
        ("canvas of pixels", lambda: compress_pictures(rastrum.build("pixelcnn", COLOUR, preset="tiny"), x)),  # pyright: ignore
        ("no file; take conv-draw", lambda: compress_pictures(rastrum.build("draw", COLOUR, preset="tiny"), x)),  # pyright: ignore
        ("runs on the former only", lambda: compress_pictures(make(positional=True), pictures(ImageSpec(3, 9, 9), 1))),
        ("choose one of", lambda: compress_pictures(model, x, steps=1, bits=100)),
        ("choose one of", lambda: compress_pictures(model, x, bits=100, lossless=True)),
        ("bits: expected a number of at least 0, got nan", lambda: compress_pictures(model, x, bits=math.nan)),
            ("psnr: expected a number of at least 0, got '30'", lambda: compress_pictures(model, x, psnr="30")),  # pyright: ignore[reportArgumentType]
            ("seed 1.5", lambda: compress_pictures(model, x, seed=1.5)),  # pyright: ignore[reportArgumentType]
            ("seed: expected a whole number", lambda: decompress_pictures(data, model, seed=1 << 64)),
        ("steps: this model has 3", lambda: compress_pictures(model, x, steps=4)),
            ("steps: this model has 3, got True", lambda: compress_pictures(model, x, steps=True)),
        ("expected images", lambda: compress_pictures(model, x[:0])),
        ("float64", lambda: compress_pictures(make().double(), x)),
        ("another condition", lambda: decompress_pictures(data, make(features=7))),
        ("not bundled", lambda: decompress_pictures(data)),
        ("expected to begin", lambda: decompress_pictures(b"\x89PNG\r\n\x1a\n" + data, model)),
        ("version 3", lambda: decompress_pictures(data[:3] + b"\x34" + data[4:], model)),
        ("rest", lambda: decompress_pictures(data, model, rest="mode")),  # pyright: ignore[reportArgumentType]
        ("steps", lambda: decompress_pictures(data, model, steps=-1)),
    ]
    for message, call in cases:
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_sizes_that_a_file_only_claims_take_no_memory() -> None:
    """A forged header of huge images is refused for any model, before anything of that size is made."""
    model = make()
    identity = read_header(Reader(compress_pictures(model, pictures(COLOUR, 1)).data, "file")).identity
    for height, width, count in ((1 << 30, 1 << 30, 1), (1 << 20, 1 << 20, 1), (7, 5, 1 << 34)):
        forged = Header(height, width, count, False, 0, identity, "", 3, 1000).bytes
        for each in (model, make(positional=True)):
            with pytest.raises(FileError):
                decompress_pictures(forged, each)


def test_latents_that_say_most_come_first() -> None:
    """A stream cut within a stroke holds those latents of all images whose priors are widest in widths of the quantiser."""
    model, x = make(), pictures(COLOUR, 3)
    sketch, state, encoder = Sketch(model, 3), model.init(3), Encoder()
    reader = sketch.copy()
    with torch.no_grad():
        sketch.show(state)
        model.look(state, x)
        wanted = sketch.encode(model.posterior(state).mean, 0, encoder)
    stream = encoder.finish()
    found = reader.decode(0, Decoder(stream[: len(stream) // 2]), whole=False)
    assert 5 < len(found.at) < len(wanted.k) - 5
    assert np.array_equal(found.k, wanted.k[found.at]) and np.array_equal(found.z, wanted.z[found.at])
    says = wanted.prior[:, 1] - wanted.prior[:, 2]
    assert says[found.at].min() >= np.delete(says, found.at).max() > says.min()
    assert set(found.at // (len(says) // 3)) == {0, 1, 2}


# ── other machines, later releases ───────────────────────────────────────────────────────────────────────────────────

# digests of values and of intensities with two steps of three and the rest drawn
GOLDEN = {
    "pictures": ("8d0fa6d5164dadbb", "3033a460b84f588c"),
    "letters": ("6a2e5c7f491f32d1", "5a837a72ebaed770"),
    "drawn": ("7270a84eba3beb0c", "beb1b1c2262f08f5"),
    "shades": ("6fa31437fbf31cbb", "4c2b157d03bb81c6"),
}


def golden(case: str) -> tuple[str, str]:
    """A file of a bundled model needs none to be read."""
    data, model = (golden_pictures.FOLDER / f"{case}.rastrum").read_bytes(), None
    if case in golden_pictures.CASES:
        model = golden_pictures.model(case)
        assert np.array_equal(decompress_pictures(data, model).values.numpy(), golden_pictures.images(case))
    part = decompress_pictures(data, model, steps=2, rest="sample", seed=9)
    found = part.values.numpy().astype("<i8").tobytes(), part.images.numpy().astype("<f4").tobytes()
    return blake2b(found[0], digest_size=8).hexdigest(), blake2b(found[1], digest_size=8).hexdigest()


@pytest.mark.parametrize("case", GOLDEN)
def test_files_of_earlier_releases_decode(case: str) -> None:
    assert golden(case) == GOLDEN[case]


@pytest.mark.parametrize("processor", [("generic", ""), ("sandybridge", "+avx")], ids=["generic", "no fma"])
def test_files_of_earlier_releases_decode_on_other_processors(processor: tuple[str, str]) -> None:
    environment = {**os.environ, "NUMBA_CPU_NAME": processor[0], "NUMBA_CPU_FEATURES": processor[1]}
    script = f"import sys; sys.path.insert(0, {str(golden_pictures.FOLDER.parent)!r}); import test_conceptual as t\n"
    script += "print([t.golden(case) for case in t.GOLDEN])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str(list(GOLDEN.values()))


def test_the_documented_bytes_are_those_of_a_file() -> None:
    """A reader of docs/format.md alone: the header."""
    for case, (_, levels, _) in golden_pictures.CASES.items():
        blob = (golden_pictures.FOLDER / f"{case}.rastrum").read_bytes()
        flags = [32 | 1 | 2 | 4 | 8, 1] if case in golden_pictures.GREY else [16 | 1 | 2 | 4 | 8]
        numbers, at = [], 3 + len(flags)
        assert blob[:at] == b"\x8aRC" + bytes(flags)
        for _ in range(4):                                               # height, width, images, seed
            numbers.append(blob[at])
            at += 1
        assert numbers == [7, 9, 2, 5]
        assert blob[at : at + 2] == digest(2, fingerprint_of_weights(golden_pictures.model(case)), varint(levels))
        assert blob[at + 2] == 8 and blob[at + 3 : at + 11] == b"./golden"
        assert blob[at + 11] == 3                                         # steps
        end = at + 13 + (blob[at + 12] > 127)
        length = blob[at + 12] & 127 | (blob[at + 13] << 7 if blob[at + 12] > 127 else 0)
        assert blob[end : end + 2] == digest(2, blob[:end]) and len(blob) == end + 2 + length


def test_an_unpacking_can_be_watched() -> None:
    """Pictures on the way change nothing of what comes."""
    model, x = make(), pictures(COLOUR, 2)
    data = compress_pictures(model, x, lossless=True).data
    unpacking, seen = Unpacking(data, model), []
    seen.append(unpacking.pictures("sample", 3).images)
    while unpacking.step():
        seen.append(unpacking.pictures().images)
    assert len(seen) == 4 and all(not torch.equal(a, b) for a, b in itertools.pairwise(seen))
    assert torch.equal(unpacking.pictures(values=True).values, x)
