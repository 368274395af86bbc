"""The contract, for every raster model and colour mode: one set of tests, tiny sizes, exhaustive where a toy can be enumerated."""

from __future__ import annotations

import itertools
import math
import re
from collections import deque
from copy import deepcopy
from typing import Any

import pytest
import torch
from new_models import MODELS
from torch import Tensor
from toy_models import BottomUp

import rastrum
from rastrum import ConditionSpec, ImageSpec, RasterModel
from rastrum.range_coder import Decoder, Encoder
from rastrum.walk import Decode, Encode, Force, Sample, walk

pytestmark = pytest.mark.usefixtures("new_models")


def takes_videos(name: str) -> bool:
    spec = ImageSpec(1, 2, 2, 2, frames=2)
    try:
        return MODELS[name](spec, MODELS[name].preset("tiny", spec)).spec == spec
    except ValueError as error:
        assert "frames" in str(error), error
        return False


RASTER = [name for name, model in MODELS.items() if issubclass(model, RasterModel)]
VIDEO = [name for name in RASTER if takes_videos(name)]
CLASSES = ConditionSpec("class", 3)
MODES: dict[str, tuple[tuple[int, ...], int, ConditionSpec | None]] = {
    "grey": ((1, 5, 6), 5, None),
    "binary": ((1, 6, 5), 2, None),
    "rgb": ((3, 4, 5), 4, None),
    "rgb, class": ((3, 4, 3), 4, CLASSES),
    "grey, vector": ((1, 4, 4), 3, ConditionSpec("vector", 2)),
    "grey, map": ((1, 5, 4), 3, ConditionSpec("map", (2, 3, 2))),
    "rgb, map of its size": ((3, 2, 3), 4, ConditionSpec("map", (1, 2, 3))),
    "two channels, odd": ((2, 3, 7), 3, None),
    "one pixel": ((3, 1, 1), 3, None),
    "one row": ((1, 1, 9), 3, None),
    "one column": ((1, 9, 1), 3, None),
}
CASES = [
    (name, mode) for name in RASTER for mode, (*_, condition) in MODES.items()
    if condition is None or condition.kind in MODELS[name].conditions
]
VIDEOS: dict[str, tuple[tuple[int, ...], int, ConditionSpec | None]] = {
    "3 frames": ((3, 1, 3, 4), 3, None),
    "2 frames, rgb": ((2, 3, 3, 3), 4, None),
    "3 frames of a pixel": ((3, 1, 1, 1), 3, None),
}
CASES += [(name, mode) for name in VIDEO for mode in VIDEOS]
# Connections from every layer to the output, and two hidden layers there, as the presets "paper" have them.
PUBLISHED = {"skip": True, "output_layers": 2}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    f"{name}, published": (name, PUBLISHED) for name in ("pixelcnn", "row-lstm", "diagonal-bilstm", "multiscale-pixelrnn")
}
CASES += [
    (variant, mode) for variant, (name, _) in VARIANTS.items() for mode in ("binary", "rgb", "rgb, class", "grey, map", "one pixel")
    if (condition := MODES[mode][2]) is None or condition.kind in MODELS[name].conditions
]
LOWERED = [case for case in CASES if MODELS[VARIANTS.get(case[0], case)[0]].lower is not None]
TOYS = [(name, toy) for name in RASTER for toy in ("1x2x3, 2 levels", "3x1x2, 2 levels", "1x2x2, 3 levels")]
TOYS += [(name, toy) for name in VIDEO for toy in ("2x1x2x3, 2 levels", "3x2x1x2, 2 levels")]


def lively(name: str, spec: ImageSpec, condition: ConditionSpec | None = None) -> RasterModel:
    """A tiny float64 model whose parameters are moved so far that every path matters."""
    name, options = VARIANTS.get(name, (name, {}))
    model = rastrum.build(name, spec, preset="tiny", condition=condition, seed=1, **options)
    assert isinstance(model, RasterModel)
    model = model.double().eval()
    generator = torch.Generator().manual_seed(2)
    model.initialise(images(spec, 8), conditions(condition, 8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def images(spec: ImageSpec, count: int, seed: int = 3) -> Tensor:
    return torch.randint(0, spec.levels, (count, *spec.shape), generator=torch.Generator().manual_seed(seed))


def conditions(condition: ConditionSpec | None, count: int) -> Tensor | None:
    if condition is None:
        return None
    generator = torch.Generator().manual_seed(4)
    if condition.kind == "class":
        assert isinstance(condition.size, int)
        return torch.randint(0, condition.size, (count,), generator=generator)
    return torch.randn(count, *condition.shape, generator=generator)


def spec_of(shape: tuple[int, ...], levels: int) -> ImageSpec:
    """shape: (C, H, W) or (T, C, H, W)."""
    channels, height, width = shape[-3:]
    return ImageSpec(channels, height, width, levels, frames=shape[0] if len(shape) == 4 else 1)


def make(case: tuple[str, str]) -> tuple[RasterModel, Tensor, Tensor | None]:
    shape, levels, condition = {**MODES, **VIDEOS}[case[1]]
    spec = spec_of(shape, levels)
    return lively(case[0], spec, condition), images(spec, 3), conditions(condition, 3)


def toy(case: tuple[str, str]) -> tuple[RasterModel, Tensor]:
    """A model small enough to list all its images."""
    shape, levels = case[1].split(", ")
    spec = spec_of(tuple(int(n) for n in shape.split("x")), int(levels.split()[0]))
    everything = torch.tensor(list(itertools.product(range(spec.levels), repeat=spec.size))).view(-1, *spec.shape)
    return lively(case[0], spec), everything


def last(frames: Any) -> Tensor:
    values = deque(frames, maxlen=1)[0].values
    assert values is not None
    return values


def chi_square_is_plausible(counts: Tensor, probabilities: Tensor) -> None:
    """Pearson's statistic within 5 standard deviations of its mean, all mass counted: rare cells are pooled."""
    expected = probabilities * counts.sum()
    rare = expected < 5
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    seen = torch.cat([counts[~rare], counts[rare].sum()[None]]).double()
    keep = expected > 1e-9
    assert float(seen[~keep].sum()) == 0
    freedom = max(1, int(keep.sum()) - 1)
    statistic = float(((seen - expected)[keep].square() / expected[keep]).sum())
    assert statistic < freedom + 5 * math.sqrt(2 * freedom) + 5, (statistic, freedom)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_program_equals_forward(case: tuple[str, str]) -> None:
    """Step = forward, decision by decision, for every level, to float64 rounding; prefill = stepping; a state can be copied."""
    model, x, condition = make(case)
    with torch.no_grad():
        full = model.distribution(x, condition).log_pmf()
        state = model.init(len(x), condition)
        middle = model.spec.size // 2
        for t in range(model.spec.size):
            if t == middle:
                filled = model.init(len(x), condition)
                model.prefill(filled, x, t)
                state = filled.repeat(2).select(torch.tensor([0, 2, 4]))
                assert state.t == t
            index = int(model.order[t])
            at = (slice(None), *(int(i) for i in torch.unravel_index(torch.tensor(index), model.spec.shape)))
            torch.testing.assert_close(model.step(state).log_pmf(), full[at], rtol=0, atol=1e-9)
            model.observe(state, x.flatten(1)[:, index])
        assert torch.equal(state.x, x)


@pytest.mark.parametrize("case", LOWERED, ids=str)
def test_the_native_interpreter_follows_the_forward(case: tuple[str, str]) -> None:
    """Its float32 is as near to float64 as the float32 forward's, on random images and on its own samples; its samples are those of
    float64."""
    exact, x, condition = make(case)
    model = deepcopy(exact).float()
    drawn = rastrum.sample(model, len(x), condition, seed=7, backend="native").long()
    assert torch.equal(drawn, rastrum.sample(exact, len(x), condition, seed=7).long())
    for seen in (x, drawn):
        with torch.no_grad():
            full, single = exact.distribution(seen, condition).log_pmf(), model.distribution(seen, condition).log_pmf()
            state, error = model.init(len(x), condition, "native"), 0.0
            for index in model.order.tolist():
                at = (slice(None), *(int(i) for i in torch.unravel_index(torch.tensor(index), model.spec.shape)))
                error = max(error, float((model.step(state).log_pmf() - full[at]).abs().max()))
                model.observe(state, seen.flatten(1)[:, index])
        assert error <= 4 * float((single - full).abs().max()) + 1e-5
    known, values = images(model.spec, len(x), 9) > 0, images(model.spec, len(x), 8)
    a = last(walk(model, len(x), Sample(7, 0.7), condition, known, values, every="decision"))
    b = last(walk(exact, len(x), Sample(7, 0.7), condition, known, values, every=3))
    assert torch.equal(a, b) and torch.equal(a[known], values[known])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_check_passes(case: tuple[str, str]) -> None:
    """Causal in training and evaluation mode, no image sees another, the context is what is promised."""
    model, _, _ = make(case)
    report = rastrum.check(model)
    assert report.ok, str(report)


@pytest.mark.parametrize("case", TOYS, ids=str)
def test_all_images_sum_to_one_and_samples_follow(case: tuple[str, str]) -> None:
    model, everything = toy(case)
    with torch.no_grad():
        probabilities = model.log_prob(everything).exp()
    assert abs(float(probabilities.sum()) - 1) < 1e-9
    powers = model.spec.levels ** torch.arange(model.spec.size - 1, -1, -1)
    for as_drawn, count in ((model, 1500), (deepcopy(model).float(), 20_000)):  # through torch, and natively
        drawn = rastrum.sample(as_drawn, count, seed=5).long()
        counts = torch.bincount((drawn.flatten(1) * powers).sum(1), minlength=len(everything))
        chi_square_is_plausible(counts, probabilities)


@pytest.mark.parametrize("case", TOYS, ids=str)
def test_completion_keeps_what_is_known_and_follows_the_conditional(case: tuple[str, str]) -> None:
    """With a known beginning, the rest has exactly the conditional distribution; the images differ from one another."""
    model, everything = toy(case)
    known = torch.zeros(model.spec.size, dtype=torch.bool)
    known[model.order[: model.spec.size // 2]] = True
    known = known.view(model.spec.shape)
    x = everything[len(everything) // 3][None]
    with torch.no_grad():
        joint = model.log_prob(everything).exp()
    fits = (everything[:, known] == x[:, known]).all(1)
    powers = model.spec.levels ** torch.arange(model.spec.size - 1, -1, -1)
    for as_drawn, count in ((model, 800), (deepcopy(model).float(), 10_000)):   # through torch, and natively
        drawn = rastrum.complete(as_drawn, x, known, num_samples=count, seed=6)[0].long()
        assert torch.equal(drawn[:, known], x[:, known].expand(count, -1))
        counts = torch.bincount((drawn.flatten(1) * powers).sum(1), minlength=len(everything))
        chi_square_is_plausible(counts, joint * fits / (joint * fits).sum())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_naive_and_cached_draw_the_same_whatever_the_split(case: tuple[str, str]) -> None:
    model, _, condition = make(case)
    count = 3
    drawn = rastrum.sample(model, count, condition, seed=7)
    naive = last(walk(model, count, Sample(7), condition, backend="naive"))
    assert torch.equal(drawn.long(), naive)
    for b in range(count):
        one = None if condition is None else condition[b : b + 1]
        assert torch.equal(last(walk(model, 1, Sample(7, first=b), one))[0], naive[b])
    known = images(model.spec, count, 9) > 0
    x = images(model.spec, count, 8)
    a = last(walk(model, count, Sample(7, 0.7), condition, known, x, every="decision"))
    b = last(walk(model, count, Sample(7, 0.7), condition, known, x, every=3, backend="naive"))
    assert torch.equal(a, b) and torch.equal(a[known], x[known])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_streams_decode_and_have_the_ideal_length(case: tuple[str, str]) -> None:
    """Encode → decode is exact for any image; the ideal length of sampled ones is −log2 p up to 0.1 % + 1 byte per image."""
    model, x, condition = make(case)
    x = torch.cat([x, torch.zeros_like(x), rastrum.sample(model, 3, condition, seed=1).long()])
    condition = None if condition is None else condition.repeat(3, *([1] * (condition.dim() - 1)))
    known = torch.zeros(x.shape, dtype=torch.bool)
    known[2] = True                                                       # an inactive image spends no bits
    streams = [Encoder() for _ in x]
    deque(walk(model, len(x), Encode(x, model.order, streams), condition, known, x), maxlen=1)
    blobs = [stream.finish() for stream in streams]
    assert blobs[2] == b""
    back = last(walk(model, len(x), Decode([Decoder(blob) for blob in blobs]), condition, known, x))
    assert torch.equal(back, x)
    with torch.no_grad():
        bits = -model.log_prob(x, condition) / math.log(2)
    for b in range(6, 9):
        assert abs(len(blobs[b]) * 8 - float(bits[b])) <= 0.001 * float(bits[b]) + 16


@pytest.mark.parametrize("name", RASTER)
def test_a_few_steps_of_training_lower_the_loss(name: str) -> None:
    spec = ImageSpec(1, 6, 6, 4)
    model = rastrum.build(name, spec, preset="tiny")
    assert isinstance(model, RasterModel)
    x = torch.arange(4).repeat_interleave(9).view(1, 1, 6, 6).expand(4, -1, -1, -1)
    model.initialise(x)
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(20):
        loss = -model.log_prob(x).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", RASTER)
def test_forced_walk_and_frames(name: str) -> None:
    """Forcing an image gives that image back; Frames go from empty to finished, one per row."""
    spec = ImageSpec(3, 3, 4, 5)
    model = lively(name, spec)
    x = images(spec, 2)
    frames = list(walk(model, 2, Force(x, model.order)))
    assert [frame.fraction for frame in frames] == [0, *((r + 1) / 3 for r in range(3))]
    assert torch.equal(frames[-1].values, x)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(frames[-1].images, x / 4)


@pytest.mark.parametrize("name", RASTER)
def test_a_distribution_outlives_its_step(name: str) -> None:
    """The conditionals collected during a walk still equal those of the whole image at its end."""
    spec = ImageSpec(3, 3, 2, 4)
    model, x = lively(name, spec), images(spec, 2)
    state, kept = model.init(2), []
    with torch.no_grad():
        for index in model.order.tolist():
            kept.append(model.step(state))
            model.observe(state, x.flatten(1)[:, index])
        full = model.log_prob_map(x).flatten(1)
        for index, distribution in zip(model.order.tolist(), kept, strict=True):
            torch.testing.assert_close(distribution.log_prob(x.flatten(1)[:, index]), full[:, index])


@pytest.mark.parametrize("name", RASTER)
def test_levels_of_any_integer_type(name: str) -> None:
    """uint8, as ``sample`` returns it, numpy, and a mask to select by."""
    spec = ImageSpec(1, 3, 4, 200)
    model = lively(name, spec)
    x = rastrum.sample(model, 3, seed=1)
    assert x.dtype == torch.uint8
    with torch.no_grad():
        assert torch.equal(model.log_prob(x), model.log_prob(x.long().numpy()))
    streams = [Encoder() for _ in x]
    deque(walk(model, 3, Encode(x, model.order, streams)), maxlen=0)
    back = last(walk(model, 3, Decode([Decoder(stream.finish()) for stream in streams])))
    assert torch.equal(back, x.long())
    state = model.init(3)
    model.prefill(state, x, 5)
    assert torch.equal(state.select(torch.tensor([True, False, True])).x, state.x[[0, 2]])


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("gated-pixelcnn", {"kernel": 4}, "kernel"),
        ("gated-pixelcnn", {"kernel": 1}, "kernel"),
        ("gated-pixelcnn", {"layers": 0}, "layers"),
        ("pixelcnn", {"first_kernel": 6}, "first_kernel"),
        ("pixel-lstm", {"layers": 0}, "layers"),
        ("pixelcnn", {"channels": 4}, "multiple of 3"),
        ("pixelcnn++", {"components": 0}, "components"),
        ("pixelcnn++", {"dropout": 1.0}, "dropout"),
        ("pixelcnn++", {"filter": 8}, "did you mean 'filters'"),
        ("spatial-lstm", {"neighbourhood": 4}, "neighbourhood"),
        ("spatial-lstm", {"scales": 0}, "scales"),
        ("spatial-lstm", {"layers": 0}, "layers"),
        ("spatial-lstm", {"recurrent": 0}, "recurrent: expected True or False, got 0"),
        ("row-lstm", {"residual": "no"}, "residual: expected True or False, got 'no'"),
        ("diagonal-bilstm", {"skip": None}, "skip: expected True or False, got None"),
        ("pixelcnn", {"skip": 2}, "skip: expected True or False, got 2"),
        ("row-lstm", {"output_layers": 0}, "output_layers: expected a whole number of at least 1, got 0"),
    ],
)
def test_bad_settings_are_refused(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        rastrum.build(name, ImageSpec(3, 4, 4, 4), preset="tiny", **options)


@pytest.mark.parametrize("name", [name for name, _ in VARIANTS.values()])
def test_the_paper_preset_is_the_published_network(name: str) -> None:
    """Both options, 1,024 hidden channels for colour and 32 for grey; smaller presets have neither, and no parameters for them."""
    for channels, hidden in ((1, 32), (3, 1026)):                         # 1,024 rounded up to a multiple of 3
        config = MODELS[name].preset("paper", ImageSpec(channels, 28, 28, 256))
        assert (config.skip, config.output_layers, config.hidden) == (True, 2, hidden)
    spec = ImageSpec(1, 4, 4, 2)
    plain, published = (rastrum.build(name, spec, "tiny", **options) for options in ({}, PUBLISHED))
    more = set(published.state_dict()) - set(plain.state_dict())
    assert set(plain.state_dict()) < set(published.state_dict()) and all("skip" in key or "further" in key for key in more)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in VIDEO])
def test_a_still_model_refuses_a_video(name: str) -> None:
    with pytest.raises(ValueError, match="frames"):
        rastrum.build(name, ImageSpec(1, 4, 4, 4, frames=2), preset="tiny")


def test_float32_initialises_as_float64_does() -> None:
    """On eight tiny binary images much of the network differs only by rounding, which must not be normalised."""
    spec = ImageSpec(3, 1, 2, 2)
    for seed in range(3):
        x = images(spec, 8, seed)
        models = [rastrum.build("pixelcnn++", spec, preset="tiny", seed=1).to(dtype) for dtype in (torch.float32, torch.float64)]
        for model in models:
            assert isinstance(model, RasterModel)
            model.initialise(x)
        for narrow, wide in zip(*(model.parameters() for model in models), strict=True):
            torch.testing.assert_close(narrow.double(), wide, rtol=1e-4, atol=1e-4)


# ── other sizes ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", RASTER)
def test_the_same_weights_at_another_size(name: str) -> None:
    """Far from the border that moves, a model says the same of pixels that see no others; one whose weights depend on the size says so."""
    model = lively(name, ImageSpec(1, 3, 40, 5))
    try:
        larger = model.resized(5, 48)
    except ValueError as error:
        assert re.search(r"its weights .* for images of 1 x 3 x 40, 5 levels and of 1 x 5 x 48|has no config", str(error))
        return
    assert larger.spec == ImageSpec(1, 5, 48, 5) and larger.dtype == model.dtype and not larger.training
    x = images(larger.spec, 2)
    smaller = x[..., :3, :40]
    assert torch.equal(model.resized(3, 40).log_prob_map(smaller), model.log_prob_map(smaller))
    promised = larger.context()
    if name == "least-squares":                                           # it adapts to the whole image, whose border has moved
        return
    assert promised is not None
    outside = torch.ones(larger.spec.shape, dtype=torch.bool)
    outside[..., :3, :40] = False
    safe = ~(promised & outside.flatten()).any(1).view(larger.spec.shape)[..., :3, :8]
    with torch.no_grad():
        before = larger.log_prob_map(x)
        found, expected = before[..., :3, :8], model.log_prob_map(smaller)[..., :8]
        assert bool(safe.any()) and torch.allclose(found[:, safe], expected[:, safe], atol=1e-9)
        next(model.parameters()).mul_(1.5)
        assert not torch.equal(larger.log_prob_map(x), before)            # the tensors are the same


def test_models_of_a_size_say_why() -> None:
    spec = ImageSpec(1, 4, 4, 8)
    gated, plus = (rastrum.build(name, spec, preset="tiny") for name in ("gated-pixelcnn", "pixelcnn++"))
    assert isinstance(gated, RasterModel) and isinstance(plus, RasterModel)
    with pytest.raises(ValueError, match=r"its weights \S+ are .* for images of 1 x 4 x 4, 8 levels and of 1 x 4 x 4, 9 levels"):
        gated.resized(4, 4, levels=9)
    assert plus.resized(9, 5, levels=65536).spec == ImageSpec(1, 9, 5, 65536)
    with pytest.raises(ValueError, match=r"BottomUp has no config .* define its method `resized`"):
        BottomUp(spec).resized(5, 5)
