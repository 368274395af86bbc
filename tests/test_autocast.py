"""``torch.autocast``: training and scores of every model run under it and stay close; whatever draws ignores it.

The tolerances are for bfloat16 on a CPU. A number in float32 has 24 bits, in bfloat16 8: one product may be 0.4 % off.
RASTRUM_TEST_DEVICE=cuda runs all of it on a GPU.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import rastrum
from rastrum import CanvasModel, ConditionSpec, ImageSpec, RasterModel
from rastrum.applications.autoencoder import PixelCNNAutoencoder, SquaredErrorAutoencoder
from rastrum.applications.glimpse_classifier import ReadingClassifier, ReadingConfig, WholeImageClassifier
from rastrum.config import OptimConfig, RunConfig, TrainConfig
from rastrum.data.dataset import Dataset
from rastrum.distributions import Bernoulli, Categorical, GaussianMixture, LogisticMixture
from rastrum.evaluation import Pool, evaluate, image_nats
from rastrum.layers.attention import make_window
from rastrum.train import train
from rastrum.training.workers import Workers

DEVICE = torch.device(os.environ.get("RASTRUM_TEST_DEVICE", "cpu"))
SPECS = (ImageSpec(1, 8, 7, 2), ImageSpec(3, 6, 8, 256))
CONDITIONS = (None, ConditionSpec("class", 5), ConditionSpec("map", (6, 3, 3)))
CASES = [(name, c) for name, model in rastrum.MODELS.items() for c in CONDITIONS if c is None or c.kind in model.conditions]
RELATIVE, COSINE = 1e-3, 0.995
# PixelCNN++: its weights are normalised on four images here, and its scales are narrow then. Others: a few logits, not sums over pixels.
TOLERANCE = {"pixelcnn++": 3e-2, "gran": 3e-2, "dcgan": 3e-2}


def half(dtype: torch.dtype = torch.bfloat16) -> torch.autocast:
    return torch.autocast(DEVICE.type, dtype=dtype)


def made(name: str, spec: ImageSpec, condition: ConditionSpec | None = None, **options: Any) -> tuple[Any, Tensor, Tensor | None]:
    """A model, initialised on four images, these, and their conditions."""
    model = rastrum.build(name, spec, "tiny", condition, seed=1, **options)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, spec.levels, (4, *spec.shape), generator=generator)
    given = None
    if condition is not None:
        classes = torch.randint(0, 5, (4,), generator=generator)
        given = classes if condition.kind == "class" else torch.rand(4, *condition.shape, generator=generator)
    model.initialise(x, given)
    return model.to(DEVICE), x.to(DEVICE), None if given is None else given.to(DEVICE)


def gradient(model: Any, loss: Callable[[], Tensor]) -> Tensor:
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss().mean(), parameters, allow_unused=True)
    assert all(g is None or g.dtype == p.dtype for g, p in zip(found, parameters, strict=True))
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten().double() for g, p in zip(found, parameters, strict=True)])


def assert_close(model: Any, score: Callable[[], Tensor], loss: Callable[[], Tensor], relative: float, cosine: float) -> None:
    with torch.no_grad():
        exact = score()
        with half():
            near = score()
    assert near.dtype == torch.float64 and bool(((near - exact).abs() <= relative * exact.abs()).all())
    a = gradient(model, loss)
    with half():
        b = gradient(model, loss)
    assert float(torch.nn.functional.cosine_similarity(a, b, dim=0)) >= cosine


# ── scores and gradients ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("name", "condition"), CASES, ids=lambda case: getattr(case, "kind", case) or "plain")
def test_scores_and_gradients_stay_close(name: str, condition: ConditionSpec | None) -> None:
    """For every model and condition: nats of each image within the tolerance, and the direction of the gradient."""
    for spec in SPECS:
        model, x, given = made(name, spec, condition)
        relative = TOLERANCE.get(name, RELATIVE)
        assert_close(model, lambda: model.score(x, given, seed=3), lambda: model.loss(x, given, seed=3), relative, COSINE)  # noqa: B023


VARIANTS = [
    ("gated-pixelcnn", SPECS[0], {"channels": 16, "hidden": 16}),         # products of three columns at once, compiled
    ("conv-draw", SPECS[1], {"posterior": "uniform", "layers": 2}),
    ("draw", SPECS[1], {"attention": False}),
    ("spatial-lstm", SPECS[0], {"dequantise": False, "layers": 2}),
    ("pixelcnn", SPECS[0], {"skip": True, "output_layers": 2}),
    ("multiscale-pixelrnn", SPECS[0], {"base": "diagonal-bilstm"}),
    ("video-pixel-network", ImageSpec(1, 6, 6, 2, 3), {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "spec", "options"), VARIANTS, ids=lambda value: value if isinstance(value, str) else "")
def test_variants_stay_close(name: str, spec: ImageSpec, options: dict[str, Any]) -> None:
    """The layers that the presets do not use."""
    model, x, _ = made(name, spec, **options)
    assert_close(model, lambda: model.score(x, seed=3), lambda: model.loss(x, seed=3), 2e-3, COSINE)


TRAINED = {"draw-binarized-mnist": 1e-2, "gated-pixelcnn-binarized-mnist": 3e-3, "row-lstm-mnist-classes": 3e-3}


@pytest.mark.parametrize("name", TRAINED)
def test_trained_models_stay_close(name: str) -> None:
    """On their own samples: weights of a trained model are larger than fresh ones, and so are errors. The mean is nearer."""
    model = rastrum.load(f"rastrum/{name}", device=str(DEVICE))
    given = None if model.condition_spec is None else torch.arange(4, device=DEVICE)
    x = rastrum.sample(model, 4, given)
    assert_close(model, lambda: model.score(x, given, seed=3), lambda: model.loss(x, given, seed=3), TRAINED[name], 0.99)


def test_float16_and_several_trajectories() -> None:
    model, x, _ = made("draw", SPECS[0])
    with torch.no_grad():
        exact = model.bound(x, num_samples=3, seed=2)
        with half(torch.float16):
            near = model.bound(x, num_samples=3, seed=2)
    assert near.dtype == torch.float64 and torch.allclose(near, exact, rtol=1e-3)


@pytest.mark.parametrize("name", rastrum.MODELS)
def test_backward_inside_and_outside(name: str) -> None:
    """torch asks for ``backward`` outside of autocasting, a loop such as ours is inside of it: both work, and agree."""
    model, x, _ = made(name, SPECS[0])
    found = []
    for inside in (False, True):
        model.zero_grad()
        with half():
            loss = model.loss(x, seed=3).mean()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.nn.functional.cosine_similarity(*found, dim=0) > 0.999


def test_it_changes_something() -> None:
    """Else none of this would test anything: products and convolutions are of half precision."""
    for name in ("row-lstm", "pixelcnn++", "draw"):
        model, x, _ = made(name, SPECS[0])
        with torch.no_grad(), half():
            near = model.score(x, seed=3)
        assert not torch.equal(near, model.score(x, seed=3).detach()), name


def test_distributions_are_float32() -> None:
    """Half precision that autocasting made goes up at the door, so that a sum of many small numbers is right."""
    logits = torch.randn(2, 3, 4, device=DEVICE)
    cast = logits.bfloat16()
    exact = cast.float()
    value = torch.randint(0, 4, (2, 3), device=DEVICE)
    for kind in (LogisticMixture, GaussianMixture):
        with half():
            assert torch.equal(kind(cast, cast, cast, 4).log_prob(value), kind(exact, exact, exact, 4).log_prob(value))
    with half():
        assert torch.equal(Categorical(cast).log_prob(value), Categorical(exact).log_prob(value))
        assert torch.equal(Bernoulli(cast).log_prob(value[..., None] % 2), Bernoulli(exact).log_prob(value[..., None] % 2))
        assert make_window(torch.zeros(1, 5, dtype=torch.bfloat16, device=DEVICE), 3, 28, 28).box.dtype == torch.float32
    assert Categorical(cast).logits.dtype == torch.bfloat16               # a model that is of half precision stays so


def test_every_autograd_function_is_ours() -> None:
    """One that subclassed torch's would get half precision, and cast within its gradient."""
    root = Path(rastrum.__file__).parent
    bases = {
        (path.name, node.name): [ast.unparse(base) for base in node.bases]
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).split(".")[-1] == "Function" for base in node.bases)
    }
    assert len(bases) > 8
    assert {where for where, each in bases.items() if each != ["Function"]} == {("autocast.py", "Function")}


# ── what draws ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", rastrum.MODELS)
def test_drawing_ignores_it(name: str) -> None:
    """Samples, completions, files and reconstructions are bit for bit what they are without it, whatever runs the steps."""
    model, x, _ = made(name, ImageSpec(1, 4, 4, 3))

    def drawn() -> list[Any]:
        if isinstance(model, CanvasModel):
            latents = model.encode(x, seed=1) if model.has_posterior else []
            frames = [*(rastrum.reconstruct(model, x, seed=1) if latents else ()), *rastrum.generate(model, 2, seed=1)]
            return [rastrum.sample(model, 3, seed=1), model.decode(latents, count=len(x)), *latents, *(frame.images for frame in frames)]
        assert isinstance(model, RasterModel)
        samples = [rastrum.sample(model, 3, seed=1, backend=backend) for backend in (None, "torch", "naive")]  # pyright: ignore
        known = torch.arange(16).view(1, 4, 4) % 3 == 0
        blob = torch.frombuffer(bytearray(rastrum.compress(model, x)), dtype=torch.uint8)
        return [*samples, *rastrum.complete(model, x, known, particles=3), rastrum.complete(model, x, known), blob]

    plain = drawn()
    with half():
        cast = drawn()
        assert torch.is_autocast_enabled(DEVICE.type)
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def data_for(spec: ImageSpec, condition: ConditionSpec | None, count: int = 8) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    columns = torch.randint(spec.levels, (count, spec.channels, 1, spec.width), generator=generator)
    labels = torch.arange(count) % 5
    maps = torch.rand(count, *condition.shape, generator=generator) if condition is not None and condition.kind == "map" else None
    return Dataset("stripes", "train", spec, columns.expand(count, *spec.shape).to(torch.uint8).contiguous(), labels, 5, conditions=maps)


CONFIG = TrainConfig(
    optim=OptimConfig(batch=4, micro_batch=2, learning_rate=1e-3, schedule="constant", clip=1000.0, ema=0.0),
    run=RunConfig(steps=4, evaluations=1, workers=2, device=str(DEVICE)),
)


@pytest.mark.parametrize(("name", "condition"), CASES, ids=lambda case: getattr(case, "kind", case) or "plain")
def test_a_whole_training(name: str, condition: ConditionSpec | None) -> None:
    """Four steps on two threads go where those in float32 go, and the held-out score that is recorded is that of float32."""
    spec = ImageSpec(1, 6, 6, 2)
    data, models, states = data_for(spec, condition), [], []
    for cast in (False, True):
        model = rastrum.build(name, spec, "tiny", condition, seed=1)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=cast):
            states.append(list(train(model, data, CONFIG, data))[-1])
        models.append(model)
    assert all(p.dtype == torch.float32 for p in models[1].parameters())
    ways = [torch.cat([p.detach().flatten() for p in model.parameters()]) for model in models]
    began = torch.cat([p.detach().flatten() for p in rastrum.build(name, spec, "tiny", condition, seed=1).to(DEVICE).parameters()])
    assert not torch.equal(ways[0], ways[1]) or name in ("spatial-lstm", "pixel-lstm")
    assert torch.nn.functional.cosine_similarity(ways[0] - began, ways[1] - began, dim=0) > 0.9
    assert states[1].loss == pytest.approx(states[0].loss, rel=2e-2)
    assert states[1].evaluation is not None
    if models[1].has_likelihood:
        assert states[1].evaluation.nats == pytest.approx(evaluate(models[1], data).nats, rel=1e-12)


@pytest.mark.parametrize("count", [1, 2])
def test_a_step_sees_the_weights_of_its_time(count: int) -> None:
    """torch keeps cast weights until the outermost autocasting ends: around a loop, that would be those of the first step."""
    model, x, _ = made("draw", SPECS[0])
    config = replace(CONFIG, run=replace(CONFIG.run, workers=count))

    def step() -> tuple[float, list[Tensor | None]]:
        with Workers(model, config) as workers:
            return workers.gradients(x, None, seed=1), [p.grad for p in workers.parameters]

    with half():
        first, _ = step()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5)
        loss, found = step()
    with half():
        assert (loss, loss != first) == (step()[0], True)
        assert all(torch.equal(a, b) for a, b in zip(step()[1], found, strict=True) if a is not None and b is not None)


def test_threads_cast_as_their_caller() -> None:
    """A thread begins without autocasting; a score must not depend on how many there are."""
    with Pool(2) as pool, half(torch.float16):
        found = list(pool.map(lambda _: (torch.is_autocast_enabled(DEVICE.type), torch.get_autocast_dtype(DEVICE.type)), range(4)))
    assert found == [(True, torch.float16)] * 4
    with Pool(2) as pool:
        assert not any(pool.map(lambda _: torch.is_autocast_enabled(DEVICE.type), range(4)))
    model, x, _ = made("row-lstm", SPECS[0])
    data = Dataset("x", "test", SPECS[0], x.cpu().to(torch.uint8))
    with half():
        one, two = (image_nats(model, data, workers=workers, batch=1) for workers in (1, 2))
    assert torch.equal(one, two) and not torch.equal(one, image_nats(model, data, batch=1))


@pytest.mark.parametrize("kind", ["reading", "whole", "pixelcnn", "squared"])
def test_networks_of_the_applications(kind: str) -> None:
    """Classifiers and autoencoders train through the same loop."""
    spec = ImageSpec(1, 8, 8, 2)
    torch.manual_seed(0)
    model: Any = {
        "reading": lambda: ReadingClassifier(spec, 5, ReadingConfig(glimpses=2, read=3, hidden=16)),
        "whole": lambda: WholeImageClassifier(spec, 5, 20_000, convolutional=True),
        "pixelcnn": lambda: PixelCNNAutoencoder(spec, 4, 4, channels=6, layers=1, hidden=6),
        "squared": lambda: SquaredErrorAutoencoder(spec, 4, 20_000, 4),
    }[kind]()
    model.to(DEVICE)
    x, labels = data_for(spec, None).images.long().to(DEVICE), torch.arange(8, device=DEVICE) % 5
    given = labels if "class" in model.conditions and model.condition_spec is not None else None
    with torch.no_grad():
        exact = model.loss(x, given)
        with half():
            near = model.loss(x, given)
    assert near.dtype in (torch.float32, torch.float64) and torch.allclose(near, exact, rtol=2e-2)
    with half():
        assert gradient(model, lambda: model.loss(x, given)).isfinite().all()
