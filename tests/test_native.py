"""The native interpreter: every operation against torch in float64, and the same bits whatever the batch, threads or processor."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import warnings
from collections import deque
from copy import deepcopy
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from torch import Tensor

import rastrum
from rastrum import ImageSpec, RasterModel
from rastrum.denormals import PortabilityError
from rastrum.distributions import Categorical, GaussianMixture, LogisticMixture
from rastrum.native import cdf, coder, codes, exact, panels
from rastrum.native.linear import linear
from rastrum.native.noise import philox24
from rastrum.noise import uniform
from rastrum.program import TorchInterpreter, golden
from rastrum.program.builder import Grid, Head, Operation, Program, View
from rastrum.program.native import NativeInterpreter
from rastrum.program.tables import ProgramError, pack
from rastrum.protocol import Work
from rastrum.range_coder import Decoder, Encoder
from rastrum.walk import Decode, Encode, Force, Sample, walk

CPU = torch.device("cpu")


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def built(name: str, spec: ImageSpec, overrides: dict[str, Any] | None = None) -> RasterModel:
    """A tiny float32 model whose parameters are moved so far that every path matters."""
    overrides = overrides or {}
    model = rastrum.build(name, spec, preset="tiny", seed=1, **overrides)
    assert isinstance(model, RasterModel)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_((0.1 if overrides else 0.3) * torch.randn(parameter.shape, generator=generator))
    return model.eval()


MODELS = [
    ("pixelcnn", ImageSpec(1, 7, 6, 2)),
    ("gated-pixelcnn", ImageSpec(1, 6, 7, 256)),
    ("gated-pixelcnn", ImageSpec(3, 5, 4, 5)),
    ("pixelcnn++", ImageSpec(3, 6, 9, 256)),
    ("pixelcnn++", ImageSpec(1, 5, 5, 5000)),
    ("spatial-lstm", ImageSpec(1, 6, 7, 300)),
    ("spatial-lstm", ImageSpec(3, 6, 5, 256), {"layers": 2}),
    ("gated-pixelcnn", ImageSpec(1, 9, 11, 256), {"channels": 32}),           # wide enough for products at points
    ("pixelcnn++", ImageSpec(3, 8, 12, 256), {"filters": 16}),
]


# ── functions ────────────────────────────────────────────────────────────────────────────────────────────────────────


def each(function: Any, x: np.ndarray) -> np.ndarray:
    @njit
    def run(x: np.ndarray, out: np.ndarray) -> None:
        for j in range(len(x)):
            out[j] = function(x[j])

    out = np.empty_like(x)
    run(x, out)
    return out


def test_functions_keep_their_stated_errors() -> None:
    """docs/arithmetic.md states these bounds; long double is the reference."""
    x = np.linspace(-87, 88, 400_001).astype(np.float32)
    reference = np.exp(x.astype(np.longdouble))
    assert np.abs(each(exact.exp32, x) / reference - 1).max() < 1.4 * 2.0**-24
    ends = each(exact.exp32, np.array([-1e9, 1e9], np.float32))
    assert 0 < ends[0] < ends[1] < np.inf
    x = np.linspace(-700, 700, 400_001)
    assert np.abs(each(exact.exp64, x) / np.exp(x.astype(np.longdouble)) - 1).max() < 1.3 * 2.0**-53
    x = np.concatenate([np.exp(x), np.linspace(0.5, 2, 400_001)])
    reference = np.log(x.astype(np.longdouble))
    assert (np.abs(each(exact.log64, x) - reference) / np.maximum(1, np.abs(reference))).max() < 1.4 * 2.0**-53
    x = np.linspace(-60, 60, 400_001)
    wide = x.astype(np.longdouble)
    assert np.abs(each(exact.tanh64, x) - np.tanh(wide)).max() < 2.3 * 2.0**-53
    reference = np.minimum(wide, 0) - np.log1p(np.exp(-np.abs(wide)))
    assert (np.abs(each(exact.log_sigmoid64, x) - reference) / np.maximum(1, np.abs(reference))).max() < 2.3 * 2.0**-53
    x = np.concatenate([np.linspace(-37, 37, 1501), np.linspace(-1, 1, 1001)])
    with mpmath.workdps(30):
        reference = np.array([float(mpmath.ncdf(mpmath.mpf(float(v)))) for v in x])
    assert (np.abs(each(exact.normal64, x) - reference) / reference).max() < 12 * 2.0**-53
    ends = each(exact.normal64, np.array([-np.inf, -1e9, 1e9, np.inf]))
    assert 0 <= ends[0] == ends[1] < 1e-300 and ends[2] == ends[3] == 1


def test_noise_is_the_same_function() -> None:
    @njit
    def thresholds(seed: Any, images: np.ndarray, t: int, out: np.ndarray) -> None:
        for b in range(len(images)):
            out[b] = philox24(seed, images[b], t)

    images, out = np.array([0, 1, 77, 2**32 - 1]), np.zeros(4, np.int64)
    for seed in (0, 1, 2**64 - 1, 0x0123456789ABCDEF):
        for t in (0, 5, 2**32 - 1):
            thresholds(np.uint64(seed), images, t, out)
            assert (out == uniform(seed, images, t, 1)[:, 0] * 2**24).all()


# ── operations ───────────────────────────────────────────────────────────────────────────────────────────────────────


def compare(program: Program, batch: int, tolerance: float = 1e-6) -> None:
    """All outputs of all pixels, native against torch in float64, on random levels."""
    spec = program.spec
    native, exact = NativeInterpreter(pack(program), batch), torch_double(program, batch)
    x = torch.randint(0, spec.levels, (spec.size, batch), generator=torch.Generator().manual_seed(5))
    for t in range(spec.size):
        expected = exact.parameters(t)
        torch.testing.assert_close(native.parameters(t).double(), expected, rtol=tolerance, atol=tolerance)
        native.write(t, x[t])
        exact.write(t, x[t])


def torch_double(program: Program, batch: int) -> TorchInterpreter:
    program = deepcopy(program)
    for phase in program.phases.values():
        phase.operations[:] = [
            replace(op, weight=None if op.weight is None else op.weight.double(), bias=None if op.bias is None else op.bias.double())
            for op in phase.operations
        ]
    return TorchInterpreter(program, batch, torch.float64, CPU)


@pytest.mark.parametrize("batch", [1, 2, 5, 6, 7, 17])
@pytest.mark.parametrize("outputs", [1, 15, 16, 17, 40, 63, 64, 65, 130])
def test_linear(batch: int, outputs: int) -> None:
    """Panels full and not, one row and many, with and without bias and initial; at a pixel and across a row."""
    program = Program(ImageSpec(1, 2, 5, 4))
    x = program.values(ones=True)
    with program.phase("row"):
        above = program.linear(x.window(-1, 1), values(6, outputs), values(outputs, seed=1))
    with program.phase("channel"):
        h = program.linear(x.window(-2, 0, leave_out=2), values(4, outputs, seed=2), None, above)
        h = program.linear(h, values(outputs, outputs, seed=3) / outputs, values(outputs, seed=4), h)
        h = program.linear(View(h.buffer, 0, 0), values(0, outputs), None, h)          # no inputs: a copy
        program.linear(x.window(-1, -1), values(2, outputs, seed=6), values(outputs, seed=5), h, h)
        program.output(0, h)
    compare(program, batch, 1e-5)


@pytest.mark.parametrize("batch", [1, 3, 17])
@pytest.mark.parametrize("width", [3, 4, 5, 8, 11])
@pytest.mark.parametrize("outputs", [1, 16, 40])
def test_windows_of_three_columns(batch: int, width: int, outputs: int) -> None:
    """Toom–Cook products where four columns fit, plain ones for the rest; also with values of a finished row, and in place."""
    program = Program(ImageSpec(1, 3, width, 4))
    x = program.values()
    with program.phase("row"):
        seen = program.history(program.apply("elu", program.linear(x.window(-1, 1), values(3, 19), values(19, seed=1))), 2)
        base = program.linear(seen, values(38, outputs, seed=2) / 6)
        above = program.linear(seen.window(-1, 1), values(114, outputs, seed=3) / 10, values(outputs, seed=4), base)
        above = program.linear(seen.window(-2, 0), values(114, outputs, seed=5) / 10, None, above, above)
    with program.phase("channel"):
        program.output(0, program.linear(x.window(-1, -1), values(1, outputs, seed=6), None, above))
    compare(program, batch, 5e-6)


@pytest.mark.parametrize("kind", ["copy", "add", "relu", "elu", "concat_elu", "gate", "glu", "lstm", "multiplicative"])
@pytest.mark.parametrize("width", [1, 7, 16, 33])
@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_elementwise_operations(kind: Any, width: int, scale: float) -> None:
    program = Program(ImageSpec(1, 2, 3, 256))
    x = program.values()
    source = width * {"gate": 2, "glu": 2, "lstm": 4, "multiplicative": 4}.get(kind, 1)
    with program.phase("row"):
        base = program.linear(x.window(-1, 1), values(3, width))
        program.apply("relu", base)
    with program.phase("channel"):
        h = program.linear(x.window(-1, -1), values(1, source, seed=1) * scale, values(source, seed=2))
        if kind == "lstm":
            out = program.map(width)
            program.append("lstm", h, out, initial=base)
        else:
            out = program.apply(kind, h, base if kind in ("add", "glu", "multiplicative") else None)
        program.output(0, out)
    compare(program, 3, 1e-6 * scale)


def test_levels_shifts_and_the_row_from_the_right() -> None:
    """Coarser maps, a window with a stride, even and odd columns, a recurrence from the right."""
    program = Program(ImageSpec(2, 5, 7, 9), groups=2)
    x = program.values()
    with program.phase("row"):
        coarse = program.linear(x.window(-1, 1, 2), values(6, 8), values(8), level=1)
        fine = program.map(4)
    for column in (0, 1):
        with program.phase("row"), program.grid(1, 0, column):
            program.linear(coarse.window(0, column), values(8 * (1 + column), 4), None, None, View(fine.buffer, 0, 4, column, 2))
    right, cell = program.map(4), program.map(4, initial=values(4))
    with program.phase("row_reversed", 1, first_row=1):
        gates = program.linear(right.window(1, 1), values(4, 16), None, program.linear(fine, values(4, 16, seed=7)))
        program.append("lstm", gates, right, initial=cell)
    for group in program.each_group():
        read = x.window(-1, 0, leave_out=2 - group)
        program.output(group, program.linear(read, values(2 + group, 5), None, program.linear(right, values(4, 5))))
    compare(program, 4)


# ── the same bits ────────────────────────────────────────────────────────────────────────────────────────────────────


def bits(model: RasterModel, count: int, threads: int = 1, every: Any = "row", first: int = 0) -> bytes:
    """The levels drawn, and the contents of all maps at the end."""
    state = model.init(count, backend="native", threads=threads)
    with torch.inference_mode():
        for t in range(0, model.spec.size, every if isinstance(every, int) else model.spec.size):
            stop = min(model.spec.size, t + every) if isinstance(every, int) else model.spec.size
            model.decide(state, stop, Work("draw", seed=9, first=first))
    assert isinstance(state.engine, NativeInterpreter)
    return state.x.numpy().tobytes() + state.engine.arena().tobytes()


@pytest.mark.parametrize("case", MODELS, ids=str)
def test_bits_do_not_depend_on_batch_threads_or_calls(case: Any) -> None:
    model = built(*case)
    together = bits(model, 19)
    assert together == bits(model, 19, threads=2) == bits(model, 19, threads=3, every=5) == bits(model, 19, every=1)
    drawn = rastrum.sample(model, 19, seed=9)
    for first, count in ((0, 1), (3, 3), (2, 16)):
        frames = walk(model, count, Sample(9, first=first), backend="native")
        assert torch.equal(deque(frames, maxlen=1)[0].values.to(drawn.dtype), drawn[first : first + count])  # pyright: ignore


@pytest.mark.parametrize("case", MODELS[-2:], ids=str)
def test_products_at_points_are_as_exact_as_the_forward(case: Any) -> None:
    """Values of the program compared with float64, on random images and on its own samples."""
    model = built(*case)
    exact = deepcopy(model).double()
    noise = torch.randint(0, model.spec.levels, (4, *model.spec.shape), generator=torch.Generator().manual_seed(0))
    for x in (noise, rastrum.sample(model, 4, seed=1).long()):
        with torch.inference_mode():
            full, single = (m.distribution(x).log_prob(x) for m in (exact, model))
            state, error = model.init(4, backend="native"), 0.0
            for index in model.order.tolist():
                at = (slice(None), *(int(i) for i in torch.unravel_index(torch.tensor(index), model.spec.shape)))
                value = x.flatten(1)[:, index]
                error = max(error, float((model.step(state).log_prob(value) - full[at]).abs().max()))
                model.observe(state, value)
        assert error <= 3 * float((single - full).abs().max())


def test_bits_survive_saving_copying_and_continuing(tmp_path: Path) -> None:
    model = built("pixelcnn++", ImageSpec(3, 5, 6, 256))
    model.save_pretrained(tmp_path)
    again = rastrum.load(tmp_path)
    assert isinstance(again, RasterModel) and bits(again, 3) == bits(model, 3)
    whole, state = model.init(3), model.init(3)
    with torch.inference_mode():
        model.decide(whole, 90, Work("draw", seed=4))
        model.decide(state, 31, Work("draw", seed=4))                     # within a pixel: its mixture goes on in the copies
        for picked in (state.copy(), state.select(torch.tensor([0, 1, 2])), state.repeat(1)):
            model.decide(picked, 90, Work("draw", seed=4))
            assert torch.equal(picked.x, whole.x)


def test_changed_parameters_are_packed_again() -> None:
    model = built("gated-pixelcnn", ImageSpec(1, 4, 4, 4))
    before = bits(model, 2)
    parameter = next(model.parameters())
    parameter.data.mul_(2)                                              # no version counter sees this
    assert bits(model, 2) != before
    parameter.data.div_(2)
    assert bits(model, 2) == before


IN_ANOTHER_PROCESS = """
import sys, torch, rastrum
sys.path.insert(0, {tests!r})
from test_native import MODELS, bits, built, digest
from rastrum.compression import blobs as container
from rastrum.program import golden
from numba.core.registry import cpu_target
container.BATCH = 1
assert cpu_target.target_context.codegen().magic_tuple()[1:] == {processor!r}
print(golden.fingerprint(), *(digest(bits(built(*case), 3)) for case in MODELS))
for case, name in zip(MODELS, {names!r}):
    model = built(*case)
    blob = open(name, "rb").read()
    images = rastrum.decompress(model, blob)
    assert rastrum.compress(model, images) == blob
    assert b"".join(bytes(i.numpy().astype("<u2")) for i in images) == open(name + ".images", "rb").read()
"""


def digest(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()


@pytest.mark.parametrize(
    "processor",
    [{"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}, {"NUMBA_CPU_NAME": "sandybridge", "NUMBA_CPU_FEATURES": "+avx"}],
    ids=["generic", "no fma"],
)
def test_other_processors_compute_the_same_and_decode(processor: dict[str, str], tmp_path: Path) -> None:
    """Compiled without AVX or FMA, maps, samples and streams have the same bits, and files made here decode there."""
    names = []
    for number, case in enumerate(MODELS):
        model = built(*case)
        images = rastrum.sample(model, 16, seed=number)
        names.append(str(tmp_path / f"{number}.rst"))
        Path(names[-1]).write_bytes(rastrum.compress(model, images))
        Path(names[-1] + ".images").write_bytes(images.numpy().astype("<u2").tobytes())
    # Machine code is kept under the processor's name, so the cache is that of all tests: each processor compiles once.
    script = IN_ANOTHER_PROCESS.format(tests=str(Path(__file__).parent), names=names, processor=tuple(processor.values()))
    environment = {**os.environ, **processor, "PYTHONWARNINGS": "error"}
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [golden.GOLDEN, *(digest(bits(built(*case), 3)) for case in MODELS)]


# ── draws ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
@pytest.mark.parametrize("case", MODELS, ids=str)
def test_draws_are_those_of_float64(case: Any, temperature: float) -> None:
    """Given the same past, at most one draw in 10,000 falls to another level than the one of the float64 forward."""
    model, count = built(*case), 64
    drawn = rastrum.sample(model, count, seed=3, temperature=temperature, backend="native").long()
    u = np.stack([uniform(3, range(count), t, 1)[:, 0] for t in range(model.spec.size)], 1)
    noise = torch.empty(count, model.spec.size, dtype=torch.float64)
    noise[:, model.order] = torch.from_numpy(u)
    with torch.no_grad():
        exact = model.double().distribution(drawn).sample(noise.view(drawn.shape), temperature)
    assert (exact != drawn).double().mean() <= 1e-4


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([LogisticMixture, GaussianMixture]), st.integers(1, 12), st.sampled_from([2, 3, 17, 256, 4096]),
    st.floats(0.01, 3), st.floats(-9, 4), st.integers(0, 2**31),
)  # fmt: skip
def test_mixture_cdfs_increase_and_follow_the_definition(
    kind: Any, components: int, levels: int, spread: float, log_scale: float, seed: int
) -> None:
    """For logistics and Gaussians, and their masses before the temperature."""
    generator = torch.Generator().manual_seed(seed)
    logits, means = (torch.randn(components, dtype=torch.float64, generator=generator) * spread for _ in range(2))
    log_scales = torch.randn(components, dtype=torch.float64, generator=generator) + log_scale
    exact = kind(logits[None], means[None], log_scales[None], levels)
    head = codes.GAUSSIAN if kind is GaussianMixture else codes.MIXTURE
    centre, steepness = exact._bins()
    lanes = -(-components // cdf.LANES) * cdf.LANES
    mixture = cdf.Mixture(np.zeros(lanes), np.zeros(lanes), np.zeros(lanes), np.zeros(lanes, np.int64))
    for array, values in zip(mixture, (logits.softmax(0) * ((2**24 - 2 * levels) * 2.0**28), centre[0] + 0.5, steepness[0]), strict=False):
        array[:components] = values.numpy()
    counts = np.array([cdf.mixture_cdf(mixture, head, levels, level) for level in range(levels + 1)])
    assert counts[0] == 0 and counts[-1] == 2**24 and np.diff(counts).min() >= 1
    expected = torch.cat([exact.cdf(torch.tensor([level])) for level in range(levels + 1)]).numpy()
    assert np.abs(counts - expected).max() <= 2
    for threshold in (0, 1, 2**23, 2**24 - 1, *np.random.default_rng(seed).integers(0, 2**24, 20)):
        level, low, high = cdf.mixture_search(mixture, head, levels, threshold)
        assert counts[level] == low <= threshold < high == counts[level + 1]
    masses = np.zeros(levels)
    (cdf.gaussian_masses if head == codes.GAUSSIAN else cdf.logistic_masses)(mixture, levels, masses)
    log_masses = exact.log_pmf()[0].numpy()
    near = log_masses > -600                                              # beyond, both are nothing: a level keeps its own counts
    np.testing.assert_allclose(masses[near] / masses.sum(), np.exp(log_masses[near]), rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([2, 3, 17, 256]), st.floats(0, 200), st.integers(0, 2**31))
def test_softmax_cdfs_increase_and_are_searched(levels: int, spread: float, seed: int) -> None:
    logits = (np.random.default_rng(seed).normal(size=levels) * spread).astype(np.float32)
    sums = np.zeros(levels + 1, np.int64)
    assert cdf.softmax_sums(logits, np.float32(1), sums)
    counts = np.array([cdf.sums_cdf(sums, levels, level) for level in range(levels + 1)])
    assert counts[0] == 0 and counts[-1] == 2**24 and np.diff(counts).min() >= 1
    for threshold in (0, 1, 2**23, 2**24 - 1, *np.random.default_rng(seed).integers(0, 2**24, 20)):
        level = cdf.sums_search(sums, levels, threshold)
        assert counts[level] <= threshold < counts[level + 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**24 - 1), st.integers(1, 2**24)), min_size=1, max_size=60), st.booleans())
def test_the_coder_writes_the_bytes_of_the_definition(pairs: list[tuple[int, int]], carries: bool) -> None:
    """Intervals of any width; ``carries`` makes long runs of 255, through which a carry has to pass."""
    intervals = [(2**24 - 1, 2**24)] * 9 * carries + [(low, min(2**24, low + width)) for low, width in pairs]
    encoder = Encoder()
    words, positions = [np.zeros(1, np.uint64) for _ in range(3)], [np.zeros(1, np.int64) for _ in range(2)]
    streams = coder.Streams(words[0], words[1], words[2], positions[0], positions[1], np.zeros(1, np.bool_), np.zeros((1, 400), np.uint8))
    streams.range[0] = encoder.range
    for low, high in intervals:
        encoder.put(low, high)
        coder.put(streams, 0, low, high)
    assert streams.data[0, : streams.position[0]].tobytes() == bytes(encoder.data)
    assert (int(streams.low[0]), int(streams.range[0])) == (encoder.low, encoder.range)
    stream = encoder.finish()
    decoder = Decoder(stream)
    streams.data[0, : len(stream)] = np.frombuffer(stream, np.uint8)
    streams.code[0], streams.range[0], streams.position[0], streams.ends[0] = decoder.code, decoder.range, decoder.position, len(stream)
    for low, high in intervals:
        assert coder.threshold_of(streams, 0) == decoder.threshold()
        decoder.advance(low, high)
        coder.take(streams, 0, low, high)
    assert (int(streams.code[0]), int(streams.range[0]), int(streams.position[0])) == (decoder.code, decoder.range, decoder.position)
    assert not streams.outside[0] and decoder.is_canonical()
    for other in (stream + b"\0", stream + b"\1", stream[:-1]):
        again = Decoder(other)
        with contextlib.suppress(AssertionError):                         # the interval does not hold the threshold
            for low, high in intervals:
                again.advance(low, high)
            assert other == stream or not again.is_canonical()


# ── what cannot be run ───────────────────────────────────────────────────────────────────────────────────────────────

offsets = st.integers(-3, 40)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_programs_run_or_are_refused(data: st.DataObject) -> None:
    """Tables that a builder would never write: a typed error before anything runs, or it runs; never a crash or a write outside."""
    program = Program(ImageSpec(1, 2, 3, 4))
    x = program.values(ones=True)
    maps = [x, *(program.map(data.draw(st.integers(1, 12))) for _ in range(3))]
    kinds = ["linear", "copy", "add", "gate", "glu", "relu", "elu", "concat_elu", "lstm", "multiplicative", "sqrt"]
    mask = data.draw(st.sampled_from([0, 0, 1]))
    grid = Grid(data.draw(st.sampled_from([0, 0, 1])), data.draw(st.integers(0, 5)), 0, 0, mask, data.draw(st.integers(0, 1)))

    def view(size: int) -> View:
        return View(data.draw(st.sampled_from(maps)).buffer, data.draw(offsets), size, data.draw(st.integers(-1, 1)))

    operations = []
    for _ in range(data.draw(st.integers(1, 5))):
        kind: Any = data.draw(st.sampled_from(kinds))
        size = data.draw(st.integers(0, 6))
        source = size * {"gate": 2, "glu": 2, "lstm": 4, "multiplicative": 4}.get(kind, 1)
        size = size * 2 if kind == "concat_elu" else size
        weight = values(source + data.draw(st.sampled_from([0, 0, 0, 1])), size) if kind == "linear" else None
        operations.append(Operation(kind, view(source), view(size), grid, view(size) if data.draw(st.booleans()) else None, weight))
    with program.phase("row"):
        pass
    with program.phase("channel"):
        program.output(0, program.linear(maps[1], values(maps[1].size, 2)))
    kind = data.draw(st.sampled_from(["row", "channel"]))
    program.phases[kind, 0].operations[:0] = operations
    try:
        native = NativeInterpreter(pack(program), 2)
    except ProgramError as error:
        assert str(error).startswith("program: ")
        return
    for t in range(6):
        native.parameters(t)
        native.write(t, torch.tensor([t % 4, 3]))


def test_what_the_native_interpreter_refuses() -> None:
    model = built("gated-pixelcnn", ImageSpec(1, 4, 4, 4))
    with pytest.raises(ValueError, match=r"backend: 'native' is for float32 .* torch\.float64"):
        rastrum.sample(model.double(), 1, backend="native")
    with pytest.raises(ProgramError, match="float32"):
        pack(model.program())
    with pytest.raises(ValueError, match="backend: expected None, 'native', 'torch', 'graphs' or 'naive', got 'numpy'"):
        rastrum.sample(model, 1, backend="numpy")  # pyright: ignore[reportArgumentType]
    program = model.float().program()
    program.head = Head("mixture", 3)
    with pytest.raises(ProgramError, match="components=3"):
        pack(program)
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    for backend in ("native", "torch"):
        with pytest.raises(ValueError, match="non-finite"):
            rastrum.sample(model, 1, backend=backend)


def test_a_subclass_with_another_head_is_respected() -> None:
    """The program's head is used only if no subclass overrides ``head``."""

    class Certain(rastrum.MODELS["gated-pixelcnn"]):
        def head(self, parameters: Tensor, x: Tensor, index: int, previous: Any) -> Categorical:
            return Categorical(parameters * 1e6)

    plain = built("gated-pixelcnn", ImageSpec(1, 4, 4, 4))
    certain = Certain(plain.spec, plain.config).eval()  # pyright: ignore[reportArgumentType]
    certain.load_state_dict(plain.state_dict())
    drawn = rastrum.sample(certain, 5, seed=1)
    assert torch.equal(drawn, drawn[:1].expand_as(drawn)) and not torch.equal(drawn, rastrum.sample(plain, 5, seed=1))


def test_a_subclass_with_another_distribution_or_chooser_is_respected() -> None:
    """A program belongs to the ``distribution`` of its own class, and ``native`` to the ``__call__`` of its own class."""

    class White(rastrum.MODELS["gated-pixelcnn"]):
        def distribution(self, x: Tensor, condition: Tensor | None = None) -> Categorical:
            return Categorical(torch.nn.functional.one_hot(torch.tensor(3), 4) * 50.0 + torch.zeros(*x.shape, 4))

    class Ones(Sample):
        def __call__(self, t: int, distribution: Any, active: Tensor) -> Tensor:
            return torch.ones(len(active), dtype=torch.int64)

    plain = built("gated-pixelcnn", ImageSpec(1, 4, 4, 4))
    white = White(plain.spec, plain.config).eval()  # pyright: ignore[reportArgumentType]
    assert (rastrum.sample(white, 2) == 3).all()
    assert (deque(walk(plain, 2, Ones(0)), maxlen=1)[0].values == 1).all()  # pyright: ignore[reportOptionalMemberAccess]


def test_values_and_streams_that_do_not_fit_are_refused() -> None:
    """The kernels do not check their input, so everything is checked before it reaches them."""
    model, size = built("gated-pixelcnn", ImageSpec(1, 3, 4, 4)), 12

    class Far:
        def __call__(self, t: int, distribution: Any, active: Tensor) -> Tensor:
            return torch.full((len(active),), 10**12)

        def native(self, t: int, stop: int) -> None:
            return None

    ones, far = torch.ones(2, 1, 3, 4, dtype=torch.int64), torch.full((2, 1, 3, 4), 10**12)
    wrong: list[tuple[Any, str]] = [
        (Far(), "levels must lie in 0 … 3"),
        (Force(far, model.order), "levels must lie in"),
        (Force(-ones, model.order), "levels must lie in"),
        (Force(ones[:1], model.order), "expected whole numbers"),
        (Encode(far, model.order, [Encoder(), Encoder()]), "levels must lie in"),
        (Encode(ones, model.order, [Encoder()]), "expected 2, one per image, got 1"),
        (Decode([]), "expected 2, one per image, got 0"),
        (Sample(0, first=2**32 - 1), "image number"),
    ]
    for chooser, says in wrong:
        with pytest.raises(ValueError, match=says):
            deque(walk(model, 2, chooser), maxlen=0)
    with pytest.raises(ValueError, match="levels must lie in"):
        model.observe(model.init(2, backend="torch"), torch.tensor([4, 0]))
    state = model.init(2)
    model.prefill(state, ones, size)
    with pytest.raises(ValueError, match="all 12 decisions are made"):
        model.step(state)
    with pytest.raises(ValueError, match="at least one image"):
        model.init(0)
    logits = torch.randn(4, 8, requires_grad=True)
    for value in (torch.full((4,), 8), torch.full((4,), -1), torch.full((4,), 10**10)):
        with pytest.raises(ValueError, match="levels must lie in"):
            Categorical(logits).log_prob(value)


def test_the_coldest_and_the_hottest_temperatures() -> None:
    model = built("gated-pixelcnn", ImageSpec(1, 4, 4, 5))
    for temperature in (1e-300, 1e-46, 1e-6, 1e6, 1e300):
        drawn = [rastrum.sample(model, 4, seed=1, temperature=temperature, backend=backend) for backend in ("native", "torch")]
        assert torch.equal(*drawn)


def test_sums_in_place_change_nothing() -> None:
    """The memory of a row map is reused only if nothing needs its values: here the pixel phase first reads those of the finished row."""

    class Recurrent(RasterModel):
        def distribution(self, x: Tensor, condition: Tensor | None = None) -> Categorical:
            return Categorical(torch.zeros(*x.shape, 5))

        def lower(self, program: Program) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
            x, h = program.values(), program.map(16)
            with program.phase("row"):
                row = program.linear(x.window(-1, 1), values(3, 16))
            with program.phase("channel"):
                above = program.linear(h, values(16, 16, seed=1) / 8)
                program.linear(h.window(-1, 0, leave_out=16), values(16, 16, seed=2) / 8, None, row, h)
                program.linear(above, torch.eye(16), None, h, h)
                program.output(0, program.linear(h, values(16, 5, seed=3)))

    model = Recurrent(ImageSpec(1, 4, 5, 5))
    plain = Program(model.spec)
    with torch.no_grad():
        model.lower(plain)
    lent, kept = NativeInterpreter(pack(model.program()), 2), NativeInterpreter(pack(plain), 2)
    for t in range(20):
        assert torch.equal(lent.parameters(t), kept.parameters(t))
        for interpreter in (lent, kept):
            interpreter.write(t, torch.tensor([t % 5, 3]))
    gated = built("gated-pixelcnn", ImageSpec(1, 4, 5, 5))
    whole = Program(gated.spec)
    with torch.no_grad():
        assert gated.lower is not None
        gated.lower(whole)
    assert len(gated.program().buffers) < len(whole.buffers)


def test_an_operation_may_not_write_what_it_reads() -> None:
    """Such a product is refused: how much of it is done before its first result is written depends on the batch."""
    program = Program(ImageSpec(1, 3, 4, 4))
    x = program.values()
    with program.phase("channel"):
        h = program.linear(x.window(-1, -1), values(1, 64))
        program.linear(h, values(64, 64), None, None, h)
        program.output(0, h)
    with pytest.raises(ProgramError, match="writes over what it reads"):
        pack(program)


def test_a_forked_process_draws_too() -> None:
    """Threads do not survive a fork; the child process makes its own."""
    script = (
        "import os, sys, torch, rastrum\n"
        "torch.set_num_threads(2)\n"
        "m = rastrum.build('pixelcnn', rastrum.ImageSpec(1, 4, 4, 2), preset='tiny').eval()\n"
        "a = rastrum.sample(m, 40)\n"
        "pid = os.fork()\n"
        "if pid == 0: os._exit(0 if torch.equal(rastrum.sample(m, 40), a) else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=120).returncode == 0


def test_without_numba_torch_draws_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built("pixelcnn", ImageSpec(1, 4, 4, 2))
    native = rastrum.sample(model, 3)
    from rastrum import program

    program.has_numba.cache_clear()
    monkeypatch.setattr("rastrum.native.compiler.available", False)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert torch.equal(rastrum.sample(model, 3), native) and torch.equal(rastrum.sample(model, 3), native)
    assert [str(warning.message).split(":")[0] for warning in seen] == ["numba is not installed"]
    with pytest.raises(ValueError, match="needs numba"):
        rastrum.sample(model, 1, backend="native")
    program.has_numba.cache_clear()


def test_a_wrong_golden_program_stops_all_coding(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built("pixelcnn", ImageSpec(1, 4, 4, 2))
    golden.verify.cache_clear()
    monkeypatch.setattr(golden, "GOLDEN", "0123456789abcdef")
    with pytest.raises(PortabilityError, match="golden"):
        rastrum.compress(model, rastrum.sample(model, 2))
    golden.verify.cache_clear()


def test_products_of_any_shape_have_the_bits_of_single_outputs_and_write_nothing_else() -> None:
    """Tiles of any rows and panels: each output is initial + bias, then one fused product after another, here in float64 and rounded."""
    rng = np.random.default_rng(0)
    for rows in range(1, 15):
        for outputs in (1, 6, 16, 17, 48, 64, 65, 131):
            inputs, across = 5, panels.aligned(outputs)
            source, weight, bias, initial = (
                rng.integers(-8, 8, shape).astype(np.float32) for shape in ((rows, inputs), (inputs, outputs), across, (rows, outputs))
            )
            source += np.float32(2**-20)                                  # sums need more bits than a float32 has
            weights = np.concatenate([panels.panels(weight), bias])
            out = np.full((rows + 1, outputs + 20), 7, np.float32)
            arrays = np.pad(initial, ((0, 0), (0, 3)), constant_values=np.nan).reshape(-1)
            linear(rows, inputs, outputs, source.reshape(-1), 0, inputs, weights, 0, weights.size - across, arrays, 0, outputs + 3,
                   out.reshape(-1), 2, outputs + 20)  # fmt: skip
            total = initial + bias[:outputs]
            for k in range(inputs):
                total = (source[:, k, None].astype(np.float64) * weight[k] + total).astype(np.float32)
            assert np.array_equal(out[:rows, 2 : outputs + 2], total), (rows, outputs)
            out[:rows, 2 : outputs + 2] = 7
            assert (out == 7).all(), (rows, outputs)
