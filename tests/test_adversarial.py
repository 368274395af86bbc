"""Adversarial models: networks, losses and strokes against their equations, and training with two objectives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import rastrum
from rastrum import ConditionSpec, ImageSpec, sample
from rastrum.adversarial import AdversarialModel
from rastrum.applications import battle as battles
from rastrum.applications.battle import battle
from rastrum.canvas import State
from rastrum.cli import main
from rastrum.config import OptimConfig, RunConfig, TrainConfig
from rastrum.data.dataset import Dataset
from rastrum.evaluation import evaluate
from rastrum.latents import Normal
from rastrum.layers.deconvolution import Growing, Shrinking, sides
from rastrum.layers.spectral import spectral_norm
from rastrum.models.gran import GRAN
from rastrum.train import resume, train
from rastrum.training.workers import Workers
from rastrum.training_noise import drawing as drawing_noise
from rastrum.training_noise import standard_normal

SPEC = ImageSpec(1, 9, 7, 4)
LOSSES = ("hinge", "non-saturating", "relativistic")
OPTIM = OptimConfig(batch=6, micro_batch=2, betas=(0.0, 0.9), ema=0.9)


def build(name: str = "gran", spec: ImageSpec = SPEC, preset: str = "tiny", **options: Any) -> AdversarialModel:
    model = rastrum.build(name, spec, preset, seed=3, **options)
    assert isinstance(model, AdversarialModel)
    return model


def images(count: int = 6, spec: ImageSpec = SPEC) -> Tensor:
    return torch.randint(spec.levels, (count, *spec.shape), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def data() -> Dataset:
    return Dataset("toy", "train", SPEC, images(20))


# ── networks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", [(3, 8), (8, 3), (5, 5), (1, 4)], ids=str)
def test_the_spectral_norm_is_the_largest_singular_value(shape: tuple[int, int]) -> None:
    """For random matrices the value and its gradient; where the two largest are close, still at most the value and nearly it."""
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    ours, theirs = spectral_norm(matrix), torch.linalg.matrix_norm(matrix, 2)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    gradients = [torch.autograd.grad(value, matrix)[0] for value in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    left, _ = torch.linalg.qr(torch.randn(9, 9, dtype=torch.float64))
    close = left @ torch.diag(torch.tensor([1.0, 0.999, *[0.3] * 7], dtype=torch.float64)) @ left.T
    assert 0.999 < float(spectral_norm(close)) <= 1 + 1e-12
    assert float(spectral_norm(torch.zeros(4, 5))) == 0


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (7, 12), (16, 16)], ids=str)
def test_any_size_shrinks_and_grows_back(size: tuple[int, int]) -> None:
    """The sides are halved and rounded up, and doubled and cropped; every pixel of a picture reaches the small map."""
    picture = torch.randn(2, 3, *size, requires_grad=True)
    small = Shrinking(3, 4, 3, "spectral")(picture)
    assert small.shape == (2, 16, *sides(*size, 3)[-1])
    small.square().sum().backward()
    assert picture.grad is not None and bool((picture.grad != 0).all())
    assert Growing(16, 4, 3, *size, 3, "pixel")(small).shape == picture.shape


@pytest.mark.parametrize("noise", ["per_step", "shared"])
def test_gran_against_its_equations(noise: str) -> None:
    """Strokes restated with the model's own halves f and g, in float64; the picture is the sigmoid of their sum."""
    model = build(steps=3, noise=noise, latent=5).double()
    assert isinstance(model, GRAN)
    state, z = model.init(2), torch.randn(3, 2, 5, dtype=torch.float64)
    canvas = seen = torch.zeros(2, *SPEC.shape, dtype=torch.float64)
    for t in range(3):
        assert model.prior(state).noise_shape == (2, 5 if t == 0 or noise == "per_step" else 0)
        latent = z[t] if noise == "per_step" else z[0]
        h_z = torch.tanh(latent @ model.start.weight.T + model.start.bias).view(2, *model.coarse)
        h_c = model.see(seen) if t else torch.zeros_like(h_z)
        seen = model.grow(torch.cat([h_z, h_c], dim=1))
        canvas = canvas + seen
        model.write(state, z[t] if t == 0 or noise == "per_step" else z[t][:, :0])
        torch.testing.assert_close(model.drawn(state), canvas)
    torch.testing.assert_close(model.image(state), torch.sigmoid(canvas))


# ── losses ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("condition", [None, 2], ids=["unconditional", "class"])
def test_losses_against_their_equations(loss: str, condition: int | None) -> None:
    """On logits of the same images and pictures; the penalty by finite differences of the discriminator."""
    given = None if condition is None else ConditionSpec("class", 3)
    model = build("dcgan", loss=loss, condition=given, penalty=0.7).double()
    if given is not None:
        torch.nn.init.normal_(model.discriminator.get_parameter("condition.weight"))
    x = images()
    classes = None if condition is None else torch.full((6,), condition)
    pictures = torch.as_tensor(model.decode(model_latents(model, 6), condition=condition)) * 2 - 1
    seen = x.double() / (SPEC.levels - 1) * 2 - 1
    real, fake = (model.discriminator(each, classes).detach() for each in (seen, pictures))
    torch.testing.assert_close(model.judge(x, condition).detach(), real)
    if loss == "hinge":
        judging, drawing = (1 - real).clamp_min(0) + (1 + fake).clamp_min(0), -fake
    elif loss == "non-saturating":
        judging, drawing = torch.log1p(torch.exp(-real)) + torch.log1p(torch.exp(fake)), torch.log1p(torch.exp(-fake))
    else:
        judging, drawing = torch.log1p(torch.exp(fake - real)), torch.log1p(torch.exp(real - fake))
    torch.testing.assert_close(model.score(x, condition, seed=4).detach(), judging)
    torch.testing.assert_close(model.generator_loss(x, condition, seed=4).detach(), drawing)
    if loss == "relativistic":
        for each in (seen, pictures):
            judging = judging + 0.35 * steepness(model, each, classes)
    torch.testing.assert_close(model.loss(x, condition, seed=4).detach(), judging, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["spectral", "none"])
@pytest.mark.parametrize("kind", ["class", "vector"])
def test_the_projection_of_a_condition_is_normalised_as_the_other_weights(kind: Any, norm: str) -> None:
    """D = wᵀh + b + (Vy)ᵀh, with V / σ(V) by a singular value decomposition; the parameter keeps its name in saved models."""
    model = build("dcgan", condition=ConditionSpec(kind, 3), discriminator_norm=norm).double()
    x, given = images(3), torch.tensor([2, 0, 1]) if kind == "class" else torch.randn(3, 3, dtype=torch.float64)
    projection, discriminator = model.state_dict()["discriminator.condition.weight"], model.discriminator
    h = discriminator.get_submodule("shrink")(x.double() / (SPEC.levels - 1) * 2 - 1).flatten(1)
    bias = model.state_dict().get("discriminator.condition.bias", 0)
    looked = torch.eye(3, dtype=torch.float64)[given] @ projection if kind == "class" else given @ projection.T + bias
    if norm == "spectral":
        looked = looked / torch.linalg.svdvals(projection)[0]
    expected = discriminator.get_submodule("logit")(h)[:, 0] + (looked * h).sum(1)
    torch.testing.assert_close(model.judge(x, given), expected, rtol=2e-3, atol=1e-4)


def model_latents(model: AdversarialModel, count: int) -> list[Tensor]:
    """The latents that ``seed=4`` draws."""
    noise = model._noise(count, 4)
    return [noise(0, torch.Size([count, model.config.latent]))]


def steepness(model: AdversarialModel, pictures: Tensor, classes: Tensor | None) -> Tensor:
    total = torch.zeros(len(pictures), dtype=torch.float64)
    for n in range(SPEC.size):
        step = torch.zeros(SPEC.size, dtype=torch.float64)
        step[n] = 1e-6
        up, down = (model.discriminator(pictures + sign * step.view(SPEC.shape), classes).detach() for sign in (1, -1))
        total += ((up - down) / 2e-6).square()
    return total


def test_scores_do_not_depend_on_the_batch() -> None:
    model, x = build(), images()
    whole = model.score(x, seed=5)
    parts = torch.cat([model.score(x[:2], seed=5), model.score(x[2:], seed=5, first=2)])
    torch.testing.assert_close(whole, parts)


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_objective_moves_its_own_parameters() -> None:
    """The discriminator's are those of model.discriminator; the generator's all others; each is drawn other pictures."""
    model = build()
    names = {parameter: name for name, parameter in model.named_parameters()}
    judging, drawing = model.objectives()
    assert {names[p].split(".")[0] for p in judging.parameters} == {"discriminator"}
    assert {*judging.parameters, *drawing.parameters} == set(names) and not {*judging.parameters} & {*drawing.parameters}
    with Workers(model, TrainConfig(optim=OPTIM, run=RunConfig(steps=1, workers=1))) as workers:
        for number, objective in enumerate((judging, drawing)):
            workers.gradients(images(), None, seed=1, number=number)
            assert {p for p in names if p.grad is not None} == set(objective.parameters)
    drawn = []
    for number in (0, 1):
        with drawing_noise(1, np.arange(4), number):
            drawn.append(standard_normal(torch.Size([4, 3]), torch.float64, torch.device("cpu")))
    assert not bool((drawn[0] == drawn[1]).any())


@pytest.mark.parametrize("loss", LOSSES)
def test_pieces_make_no_difference(loss: str) -> None:
    """Gradients of a batch in pieces on two threads are those of the whole batch, to rounding."""
    model = build(loss=loss, discriminator_norm="none").double()
    found = []
    for optim, workers in ((OPTIM, 2), (replace(OPTIM, micro_batch=None), 1)):
        with Workers(model, TrainConfig(optim=optim, run=RunConfig(steps=1, workers=workers))) as pool:
            losses = [pool.gradients(images(), None, seed=1, number=number) for number in (0, 1)]
            found.append([*losses, *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


def test_a_resumed_run_is_as_if_it_never_stopped(data: Dataset, tmp_path: Path) -> None:
    """Both objectives' moments are kept: weights equal to the bit, the losses of every step too."""

    def config(folder: str, steps: int) -> TrainConfig:
        return TrainConfig(optim=replace(OPTIM, schedule="constant"), run=RunConfig(steps=steps, workers=1, folder=str(tmp_path / folder)))

    straight, stopped = build(), build()
    states = list(train(straight, data, config("straight", 6), data))
    assert list(states[0].losses) == ["discriminator", "generator"] and states[0].loss == states[0].losses["discriminator"]
    list(train(stopped, data, config("stopped", 3), data))
    later = list(resume(tmp_path / "stopped", data, data, steps=3, model=stopped))
    assert [state.losses for state in later] == [state.losses for state in states[3:]]
    assert all(torch.equal(a, b) for a, b in zip(straight.state_dict().values(), stopped.state_dict().values(), strict=True))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_generator_learns_a_set_of_two_images(loss: str) -> None:
    """Halves black on the left or on the right: after a few hundred steps nearly all pictures are one of the two, and both occur."""
    spec = ImageSpec(1, 4, 4, 2)
    two = torch.zeros(2, 1, 4, 4, dtype=torch.int64)
    two[0, :, :, :2], two[1, :, :, 2:] = 1, 1
    data = Dataset("halves", "train", spec, two.repeat(16, 1, 1, 1))
    model = build("dcgan", spec, features=8, loss=loss, discriminator_norm="none" if loss == "relativistic" else "spectral")
    optim = OptimConfig(batch=16, micro_batch=None, betas=(0.0, 0.9), learning_rate=5e-3, schedule="constant", ema=0.98)
    list(train(model, data, TrainConfig(optim=optim, run=RunConfig(steps=400, workers=1))))
    drawn = rastrum.sample(model, 200, seed=1)
    found = [(drawn == image).flatten(1).all(1).float().mean().item() for image in two.to(torch.uint8)]
    assert sum(found) > 0.9 and min(found) > 0.15, found


@pytest.mark.parametrize("name", ["gran", "dcgan"])
def test_batch_norm_trains_and_draws_image_by_image(name: str) -> None:
    """The paper's norms: running means are trained and saved, and a drawn image does not depend on the others."""
    spec = ImageSpec(1, 16, 12, 4)
    data = Dataset("toy", "train", spec, images(20, spec))
    model = build(name, spec, "paper", latent=4, features=4)
    list(train(model, data, TrainConfig(optim=replace(OPTIM, micro_batch=None), run=RunConfig(steps=2, workers=1))))
    assert any(float(value.abs().sum()) > 0 for key, value in model.state_dict().items() if key.endswith("running_mean"))
    assert torch.equal(rastrum.sample(model, 5, seed=2)[:2], rastrum.sample(model, 2, seed=2))


@pytest.mark.parametrize(
    ("options", "why"),
    [({"loss": "wasserstein"}, "loss: expected one of hinge"), ({"penalty": -1.0}, "penalty"), ({"noise": "none"}, "noise: expected"),
     ({"generator_norm": "spectral"}, "generator_norm"), ({"scales": 20}, "scales"), ({"steps": 0}, "steps")],
)  # fmt: skip
def test_options_out_of_range(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        build(**options)


def test_a_score_in_nats_is_refused(data: Dataset) -> None:
    with pytest.raises(ValueError, match=r"GRAN has no likelihood.*judges them: model\.judge"):
        evaluate(build(), data)
    with pytest.raises(ValueError, match=r"GRAN has no likelihood"):
        build().nats(data.images[:2])


def test_the_command_line_offers_what_an_adversarial_model_can(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no posterior, so complete does not send its users to reconstruct."""
    build(spec=ImageSpec(1, 8, 8, 17)).save_pretrained(tmp_path)
    assert main(["complete", str(tmp_path), "--data", "digits"]) == 2
    assert "use sample, which draws whole images, or a raster model" in capsys.readouterr().err
    assert main(["reconstruct", str(tmp_path), "--data", "digits"]) == 2
    assert "has no posterior" in capsys.readouterr().err


# ── battles ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Judge(AdversarialModel):
    """Draws images of one value, and takes an image for one of the data if its mean is above a threshold."""

    steps = 1

    def __init__(self, value: float, threshold: float) -> None:
        super().__init__(SPEC, SimpleNamespace(loss="hinge", penalty=0.0, generator_rate=1.0))
        self.value, self.threshold = value, threshold
        self.discriminator = torch.nn.Identity()
        self.discriminator.forward = lambda seen, _: seen.flatten(1).mean(1) - self.threshold  # pyright: ignore[reportAttributeAccessIssue]

    def init(self, batch: int, condition: Any = None) -> State:
        return State(torch.zeros(batch, *SPEC.shape), None)

    def prior(self, state: State) -> Normal:
        return Normal.standard(state.canvas, 1)

    def write(self, state: State, z: Tensor) -> dict[str, Tensor]:
        state.canvas = self.value + 0.3 * z[:, :, None, None].expand(-1, *SPEC.shape)
        state.t += 1
        return {}

    def image(self, state: State) -> Tensor:
        return state.canvas.clamp(0, 1)


def test_a_battle_counts_what_each_lets_pass(data: Dataset) -> None:
    """Ratios are those of counts made here; an error that never occurs counts as half of one; sides can be exchanged."""
    one, two = Judge(0.5, -0.02), Judge(0.4, 0.02)
    found = battle(one, two, data, seed=2)
    drawn = [sample(model, 20, seed=2 + n) for n, model in enumerate((one, two))]

    def errors(model: Judge, images: Tensor, real: bool) -> float:
        wrong = (model.judge(images) > 0) != real
        return (float(wrong.sum()) + 0.5) / 21

    assert found.test.value == pytest.approx(np.log(errors(one, data.images, True) / errors(two, data.images, True)))
    assert found.sample.value == pytest.approx(np.log(errors(one, drawn[1], False) / errors(two, drawn[0], False)))
    shares = [float((model.judge(data.images) <= 0).float().mean()) for model in (one, two)]
    assert found.test.shares == pytest.approx(shares) and f"errors {shares[0]:.1%} and {shares[1]:.1%}" in str(found.test)
    assert found.sample.low < found.sample.value < found.sample.high and found.images == 20 and found.pairs == 1
    other = battle(two, one, data, seed=2)
    assert other.test.value == pytest.approx(-found.test.value)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_interval_of_a_battle_holds_the_true_ratio(seeds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 200 battles with known chances of an error, the interval of 95 % holds the true log ratio in about 95 %; with several seeds too,
    whose pairs share their models, images and pictures."""
    monkeypatch.setattr(battles, "RESAMPLES", 200)
    rng, chance = np.random.default_rng(0), np.repeat([0.2, 0.3], seeds)[:, None]
    pairs = [(i, seeds + j) for i in range(seeds) for j in range(seeds)]
    held = []
    for _ in range(200):
        errors = rng.random((1 + 2 * seeds, 2 * seeds, 300)) < chance
        found = battles._battle(errors, pairs, rng)
        held.append([ratio.low < np.log(0.2 / 0.3) < ratio.high for ratio in (found.test, found.sample)])
    assert (np.sum(held, 0) >= 180).all() and (np.sum(held, 0) <= 199).all(), np.sum(held, 0)


def test_the_same_errors_of_the_same_images_leave_no_doubt() -> None:
    rng = np.random.default_rng(0)
    found = battles._battle(np.repeat(rng.random((3, 1, 50)) < 0.2, 2, 1), [(0, 1)], rng)
    assert found.test.low == found.test.value == found.test.high == 0 < found.sample.high - found.sample.low


def test_a_battle_without_errors_decides_nothing() -> None:
    """20 images that both judge rightly leave a wide interval of either ratio, and so do those that only one always judges wrongly."""
    errors = np.zeros((3, 2, 20), bool)
    found = battles._battle(errors, [(0, 1)], np.random.default_rng(0))
    assert found.test.value == 0 and found.test.low < -battles.CLOSE and found.test.high > battles.CLOSE
    assert found.verdict == "not comparable" and found.why.startswith("log r_test lies between -")
    errors[1, 1] = errors[2, 0] = True
    always = battles._battle(errors, [(0, 1)], np.random.default_rng(0)).sample
    assert always.low < always.value < always.high


def test_discriminators_are_comparable_only_where_their_interval_is() -> None:
    """r_test of 100 images with 10 and 12 errors may be far from 1; the same shares of 10,000 images say that it is not."""
    verdicts = []
    for images in (100, 10_000):
        errors = np.zeros((3, 2, images), bool)
        errors[0, 0, : images // 10] = errors[0, 1, -images * 12 // 100 :] = True
        errors[2, 0, : images // 5] = errors[1, 1, : images // 2] = True
        found = battles._battle(errors, [(0, 1)], np.random.default_rng(0))
        assert abs(found.test.value) < battles.CLOSE
        verdicts.append(found.verdict)
    assert verdicts == ["not comparable", "first"]


def test_a_winner_is_no_accident_of_its_seeds() -> None:
    """Two models that are the same but for their seeds: over many images the interval leaves 0 out nearly always, yet there is a winner in
    no more battles than two standard errors of four degrees of freedom allow, 12 %; where they differ by far more than seeds, always."""
    rng, pairs = np.random.default_rng(0), [(i, 3 + j) for i in range(3) for j in range(3)]

    def fight(better: float) -> battles.Battle:
        chances = np.full((7, 6, 1), 0.2)
        chances[1:] *= np.exp(0.3 * rng.standard_normal((6, 1)))[None]             # of each discriminator
        chances[1:, :3] *= np.exp(better)
        return battles._battle(rng.random((7, 6, 2000)) < chances, pairs, rng)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(battles, "RESAMPLES", 100)
        same = [fight(0.0) for _ in range(60)]
        outside = sum(found.sample.low > 0 or found.sample.high < 0 for found in same)
        won = sum(found.verdict in ("first", "second") for found in same)
        assert outside >= 40 and won <= 12, (outside, won)
        assert [fight(-1.5).verdict for _ in range(3)] == ["first"] * 3
    values = np.array([[0.1, 0.3, 0.8], [0.5, 0.2, 1.3]])
    by_hand = np.sqrt(values.mean(1).var(ddof=1) / 2 + values.mean(0).var(ddof=1) / 3)
    assert battles._seed_error(values.ravel(), np.array([(i, 2 + j) for i in range(2) for j in range(3)])) == pytest.approx(by_hand)


def test_several_seeds_meet_each_other(data: Dataset) -> None:
    found = battle([Judge(0.5, 0.0), Judge(0.6, 0.0)], [Judge(0.3, 0.0), Judge(0.3, 0.01), Judge(0.2, 0.0)], data)
    assert found.pairs == 6 and found.sample.spread > found.sample.error > 0


def test_who_cannot_fight(data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Models without a discriminator, of other images, and those whose discriminator compares pairs; from Python and the command line."""
    with pytest.raises(ValueError, match="the model is for 1x8x8"):
        battle(build(spec=ImageSpec(1, 8, 8, 4)), build(), data)
    with pytest.raises(ValueError, match="compares pairs"):
        battle(build(loss="relativistic"), build(), data)
    digits = ImageSpec(1, 8, 8, 17)
    for name, model in {"gran": build(spec=digits), "other": build(spec=digits), "draw": rastrum.build("draw", digits, "tiny")}.items():
        model.save_pretrained(tmp_path / name)
    gran, other = str(tmp_path / "gran"), str(tmp_path / "other")
    assert main(["battle", "--first", gran, "--second", str(tmp_path / "draw"), "--data", "digits"]) == 2
    assert "DRAW has no discriminator" in capsys.readouterr().err
    for words in (["--first", gran, gran, "--second", other], ["--first", gran, "--second", gran]):
        assert main(["battle", *words, "--data", "digits"]) == 2
        assert f"battle: {gran!r} is named twice" in capsys.readouterr().err
    assert main(["battle", "--first", gran, "--second", other, "--data", "digits", "--count", "50"]) == 0
    assert "by its interval over images alone" in capsys.readouterr().out.splitlines()[-1]
