"""Videos: the Video Pixel Network beyond the contract, moving digits, known frames, and pictures and commands for videos."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import rastrum
from rastrum import ImageSpec, RasterModel
from rastrum.cli import main
from rastrum.config import DataOptions, OptimConfig, RunConfig, TrainConfig
from rastrum.data.dataset import Dataset, load_dataset
from rastrum.data.moving_digits import moving_digits, shrunk
from rastrum.evaluation import evaluate, evaluate_frames
from rastrum.layers.condition import ConditionProjection
from rastrum.layers.frames import multiplicative
from rastrum.models.video_pixel_network import VideoPixelNetwork, cross_entropy_floor
from rastrum.pictures.videos import animate_grid, animate_rows, continued, film_strips, surprise_colours
from rastrum.train import train

SPEC = ImageSpec(1, 4, 3, 3, frames=4)


def network(spec: ImageSpec = SPEC, **options: Any) -> VideoPixelNetwork:
    """A tiny float64 model whose parameters are moved so far that every path matters."""
    model = rastrum.build("video-pixel-network", spec, preset="tiny", seed=1, **options)
    assert isinstance(model, VideoPixelNetwork)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.double().parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def videos(spec: ImageSpec, count: int, seed: int = 3) -> Tensor:
    return torch.randint(0, spec.levels, (count, *spec.shape), generator=torch.Generator().manual_seed(seed))


# ── the model ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_multiplicative_unit_is_its_equation() -> None:
    """g₁ tanh(g₂ h + g₃ u), group by group; the compiled float32 form and its gradient are those of float64."""
    generator = torch.Generator().manual_seed(1)
    gates, h, weight = (torch.randn(2, 5, n, generator=generator, dtype=torch.float64) for n in (48, 12, 12))
    expected = torch.empty_like(h)
    for group in range(3):
        a, b, c, u = gates[..., 16 * group : 16 * group + 16].split(4, -1)
        at = slice(4 * group, 4 * group + 4)
        expected[..., at] = a.sigmoid() * (b.sigmoid() * h[..., at] + c.sigmoid() * u.tanh()).tanh()
    found = []
    for dtype in (torch.float64, torch.float32):
        inputs = [x.to(dtype, copy=True).requires_grad_() for x in (gates, h)]
        out = multiplicative(*inputs, groups=3)
        torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-6)
        found.append(torch.autograd.grad((out * weight).sum(), inputs))
    for wide, narrow in zip(*found, strict=True):
        torch.testing.assert_close(narrow.double(), wide, rtol=0, atol=1e-6)
    assert torch.autograd.gradcheck(lambda g, x: multiplicative(g, x, 3), [x.requires_grad_() for x in (gates, h)])


@pytest.mark.parametrize("memory", ["before", "behind"])
def test_encoder_and_memory_follow_their_equations(memory: str) -> None:
    """Encoder and ConvLSTM written out in float64: dilations, residuals, two units per block, a state kept from frame to frame."""
    model, x = network(dilations=(1, 2), memory=memory), videos(SPEC, 2)
    frames = SPEC.scale(x, torch.float64)

    def conv(layer: Any, y: Tensor, dilation: int = 1) -> Tensor:
        weight, bias = layer.weight, layer.bias
        return torch.nn.functional.conv2d(y, weight, bias, padding=dilation * (weight.shape[-1] // 2), dilation=dilation)

    def unit(layer: Any, y: Tensor, dilation: int) -> Tensor:
        a, b, c, u = conv(layer, y, dilation).chunk(4, 1)
        return a.sigmoid() * (b.sigmoid() * y + c.sigmoid() * u.tanh()).tanh()

    def encode(h: Tensor) -> Tensor:
        for block, dilation in zip(model.encoder, (1, 2), strict=True):
            first, second = block.units  # pyright: ignore
            h = h + conv(block.widen, unit(second, unit(first, conv(block.narrow, h), dilation), dilation))
        return h

    lstm = model.memory
    assert lstm is not None
    state, cell, beginning = (v[:, None, None].expand(2, -1, 4, 3) for v in (lstm.first_h, lstm.first_cell, model.beginning))
    expected = [beginning]
    for t in range(SPEC.frames - 1):
        h = conv(model.look, frames[:, t])
        h = h if memory == "before" else encode(h)
        o, f, i, g = (conv(lstm.enter, h) + conv(lstm.keep, state)).chunk(4, 1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        state = o.sigmoid() * cell.tanh()
        h = h + conv(lstm.widen, state)
        expected.append(encode(h) if memory == "before" else h)
    found = model.known(frames.permute(0, 1, 3, 4, 2)).permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(found, torch.stack(expected, 1), rtol=0, atol=1e-12)


def test_every_unit_is_conditioned_on_earlier_frames() -> None:
    """Both units in each block of the decoder are conditioned; changing a projection changes the distribution."""
    model, x = network(layers=2), videos(SPEC, 2)
    weights = [module.weight for module in model.modules() if isinstance(module, ConditionProjection)]
    assert len(weights) == 4
    with torch.no_grad():
        before = model.log_prob_map(x)
        for weight in weights:
            assert weight is not None and weight.shape == (len(model.beginning), 4 * model.config.channels)
            weight += 0.1
            assert float((model.log_prob_map(x) - before).abs().max()) > 1e-9
            weight -= 0.1


def test_dilations_reach_as_far_as_promised() -> None:
    """One row of 21 pixels, wider than its context: pixels that are seen but not promised, or promised but not seen, are faults."""
    model = network(ImageSpec(1, 1, 21, 2, frames=2), dilations=(1, 2), layers=1)
    report = rastrum.check(model)
    context = model.context()
    assert report.ok, str(report)
    assert context is not None and not bool(context[21 + 10, :21].all())


@pytest.mark.parametrize("options", [{}, {"memory": "behind"}, {"recurrent": False}, {"dependent": False}], ids=str)
def test_switches_have_their_effect_and_programs_follow_them(options: dict[str, Any]) -> None:
    """Which frames a frame depends on, and step = forward, native and in torch, for completely and partly known frames."""
    model, x, size = network(**options), videos(SPEC, 3), SPEC.size // SPEC.frames
    report = rastrum.check(model)
    assert report.ok, str(report)
    with torch.no_grad():
        full = model.log_prob_map(x).flatten(1)
        for t in range(SPEC.frames):
            other = x.clone()
            other[:, t] = (other[:, t] + 1) % SPEC.levels
            moved = (model.distribution(other).log_pmf() - model.distribution(x).log_pmf()).abs().flatten(2).amax((0, 2)) > 1e-12
            later = SPEC.frames if options.get("recurrent", True) else min(t + 2, SPEC.frames)
            own = options.get("dependent", True)
            assert moved.tolist() == [own if s == t else t < s < later for s in range(SPEC.frames)]
        for as_run, backend, error in ((model, "torch", 1e-9), (deepcopy(model).float(), "native", 1e-5)):
            for t in (0, size, 2 * size, 2 * size + 5, SPEC.size - 1):
                state = as_run.init(3, backend=backend)  # pyright: ignore[reportArgumentType]
                as_run.prefill(state, x, t)
                index = int(model.order[t])
                found = as_run.step(state).log_prob(x.flatten(1)[:, index]).double()
                torch.testing.assert_close(found, full[:, index], rtol=0, atol=error)


def test_known_frames_need_no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """If two frames and two values of the third are known, two values are stepped; the encoder runs once per frame."""
    from rastrum.program.torch_interpreter import TorchInterpreter

    ran: list[tuple[str, int]] = []
    phase, begin = TorchInterpreter._phase, TorchInterpreter._begin_frame
    monkeypatch.setattr(TorchInterpreter, "_phase", lambda self, of, row, at: ran.append((of.kind, row)) or phase(self, of, row, at))
    monkeypatch.setattr(TorchInterpreter, "_begin_frame", lambda self, of, first: ran.append(("begin", first)) or begin(self, of, first))
    model, x, size = network(), videos(SPEC, 2), SPEC.size // SPEC.frames
    with torch.no_grad():
        model.prefill(model.init(2), x, 2 * size + 2)
    assert ran == [("begin", True), ("begin", False), ("begin", False), ("row", 0), ("channel", 0), ("channel", 0)]


def test_completions_do_not_depend_on_the_batch_or_on_what_runs_them() -> None:
    """More videos than a block holds, native, together and alone, bit for bit; the torch interpreter and a full forward give the same."""
    model = network().float()
    x, known = continued(SPEC, videos(SPEC, 18), 2)
    drawn = rastrum.complete(model, x, known, seed=5)
    assert torch.equal(drawn[:, :2].long(), x[:, :2]) and not torch.equal(drawn[:, 2:].long(), x[:, 2:])
    for backend in ("torch", "naive"):
        assert torch.equal(drawn, rastrum.complete(model, x, known, seed=5, backend=backend))  # pyright: ignore[reportArgumentType]
    assert torch.equal(drawn[:1], rastrum.complete(model, x[:1], known, seed=5))
    states = [model.init(n, backend="native") for n in (18, 1)]
    for state in states:
        model.prefill(state, x[: state.batch], 30)
    arenas = [state.engine.arena() for state in states]  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    assert np.array_equal(arenas[0][:1], arenas[1])


def test_cross_entropy_is_a_loss_and_no_likelihood(tmp_path: Path) -> None:
    """It equals its formula and is never below its lower limit, which a prediction equal to the grey value reaches; log_prob is refused."""
    model, x = network(likelihood="cross-entropy"), videos(SPEC, 3)
    with torch.no_grad():
        q, grey = model.logits(x).squeeze(-1).sigmoid(), x.double() / 2
        expected = -(grey * q.log() + (1 - grey) * (1 - q).log()).flatten(1).sum(1)
        torch.testing.assert_close(model.loss(x), expected)
    floor = cross_entropy_floor(x, 3)
    assert bool((floor < expected).all())
    torch.testing.assert_close(floor, (x == 1).flatten(1).sum(1) * torch.log(torch.tensor(2.0, dtype=torch.float64)))
    model.save_pretrained(tmp_path)
    model = rastrum.load(tmp_path)
    assert isinstance(model, RasterModel)
    for asked in (lambda: model.log_prob(x), lambda: rastrum.sample(model, 1), lambda: model.step(model.init(1, backend="naive"))):
        with pytest.raises(ValueError, match=r"cross-entropy .* is a loss"):
            asked()
    data = Dataset("x", "train", SPEC, x.to(torch.uint8))
    with pytest.raises(ValueError, match=r"has no likelihood: the cross-entropy .* is a loss"):
        evaluate(model, data)
    config = TrainConfig(optim=OptimConfig(batch=2, learning_rate=0.02), run=RunConfig(steps=12, evaluations=2, workers=1))
    states = list(train(model.float(), data, config, data))
    assert states[-1].bits_per_dim is None and states[-1].evaluation is not None and states[-1].evaluation.kind == "loss"
    assert states[-1].loss < states[0].loss


def test_nats_per_frame_are_those_of_the_frames_after_the_context() -> None:
    """−log p(later frames | known frames), by enumerating all continuations; for the cross-entropy by its formula."""
    spec = ImageSpec(1, 1, 2, 2, frames=3)
    everything = torch.tensor([[i >> bit & 1 for bit in range(6)] for i in range(64)]).view(-1, *spec.shape)
    x = everything[[5, 18, 44, 63]]
    data, model = Dataset("x", "test", spec, x.to(torch.uint8)), network(spec)
    with torch.no_grad():
        joint = model.log_prob(everything)
    for context in range(3):
        same = (everything[:, :context] == x[:, None, :context]).flatten(2).all(2)
        known = torch.stack([joint[row].logsumexp(0) for row in same])
        expected = (known - model.log_prob(x).detach()) / (3 - context)
        found = evaluate_frames(model, data, context)
        assert found.nats == pytest.approx(float(expected.mean()), abs=1e-9) and found.kind == "exact" and found.size == 2
        assert found.standard_error == pytest.approx(float(expected.std()) / 2, abs=1e-9)
    grey_model = network(likelihood="cross-entropy")
    x = videos(SPEC, 3)
    with torch.no_grad():
        q, grey = grey_model.logits(x).squeeze(-1).sigmoid(), x.double() / 2
    expected = -(grey * q.log() + (1 - grey) * (1 - q).log())[:, 1:].sum() / (3 * 3)
    found = evaluate_frames(grey_model, Dataset("x", "test", SPEC, x.to(torch.uint8)), 1)
    assert found.nats == pytest.approx(float(expected)) and found.kind == "loss" and found.bits_per_dim is None
    for context in (-1, 3):
        with pytest.raises(ValueError, match=f"expected from 0 to 2 known frames of this model's 3, got {context}"):
            evaluate_frames(model, data, context)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dilations": (1, 0)}, "dilations: expected a tuple"),
        ({"dilations": 2}, "dilations: expected a tuple"),
        ({"likelihood": "grey"}, "likelihood: expected categorical or cross-entropy, got 'grey'"),
        ({"recurrent": 1}, "recurrent: expected True or False"),
        ({"memory": "first"}, "memory: expected before or behind"),
        ({"units": 0}, "units"),
        ({"first_kernel": 4}, "first_kernel"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        network(**options)


# ── moving digits ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("paths", ["folded", "clipped"])
def test_moving_digits_go_straight_and_bounce(paths: Any) -> None:
    """Compared with paths computed step by step, folded or clipped at the walls; a tenth of the range per frame; the brighter pixel is
    shown.

    Clipped, as the published set's own program walks: a step before the first frame, one that leaves the room ends at the wall.
    """
    digits = np.zeros((2, 3, 4), np.uint8)
    digits[0], digits[1] = 90, 200
    found = moving_digits(digits, 5, 20, 30, np.random.RandomState(7), paths)
    random = np.random.RandomState(7)
    chosen, starts, angles = random.randint(0, 2, (5, 2)), random.random_sample((5, 2, 2)), random.random_sample((5, 2)) * 2 * np.pi
    assert found.shape == (5, 30, 1, 20, 20)
    for n in range(5):
        at, by = starts[n].copy(), 0.1 * np.stack([np.sin(angles[n]), np.cos(angles[n])], -1)
        for t in range(30):
            if paths == "clipped":
                at += by
                for k, side in np.ndindex(2, 2):
                    if at[k, side] <= 0 or at[k, side] >= 1:
                        at[k, side], by[k, side] = max(0.0, min(1.0, at[k, side])), -by[k, side]
            frame = np.zeros((20, 20), np.uint8)
            for k in range(2):
                row, column = (at[k] * (17, 16)).astype(int)
                window = frame[row : row + 3, column : column + 4]
                window[:] = np.maximum(window, digits[chosen[n, k]])
            assert np.array_equal(found[n, t, 0], frame)
            if paths == "folded":
                at += by
                by[(at < 0) | (at > 1)] *= -1
                at = np.where(at < 0, -at, np.where(at > 1, 2 - at, at))
    assert shrunk(np.full((1, 28, 28), 7, np.uint8), 32).shape == (1, 14, 14)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny MNIST whose digits are squares of one level, a different one for each split."""
    datasets: Any = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("mirror")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=[str(i) for i in range(10)])})
    (folder / "ylecun" / "mnist").mkdir(parents=True)
    for split, level in (("train", 200), ("test", 150)):
        table = {"image": [Image.new("L", (28, 28), level)] * 3, "label": [0, 1, 2]}
        path = folder / "ylecun" / "mnist" / f"{split}-00000-of-00001.parquet"
        datasets.Dataset.from_dict(table, features=features).to_parquet(str(path))
    return folder


@pytest.fixture
def mnist(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets: Any = pytest.importorskip("datasets")
    monkeypatch.setenv("RASTRUM_HUB_MIRROR", str(mirror))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", mirror / "cache")


@pytest.mark.usefixtures("mnist")
def test_moving_mnist_is_fixed_but_for_training() -> None:
    """Each split has its own digits, the same every time; training draws new sequences by its seed; a part of the set uses only that
    part."""
    options = DataOptions(size=16, frames=3)
    data, again = load_dataset("moving-mnist", "train", options), load_dataset("moving-mnist", "train", options)
    assert data.spec == ImageSpec(1, 16, 16, 256, frames=3) and torch.equal(data.images, again.images)
    assert set(data.images.unique().tolist()) == {0, 200}
    held_out = load_dataset("moving-mnist", "test[:4]", options)
    assert set(held_out.images.unique().tolist()) == {0, 150} and len(held_out) == 4 and held_out.fresh is None
    one, two = (next(each.batches(2, 3))[0] for each in (data, again))
    assert torch.equal(one, two) and one.shape == (2, 3, 1, 16, 16)
    assert not any(torch.equal(video, other) for video in one for other in data.images)
    part = load_dataset("moving-mnist", "train[:4]", options)
    x, _ = next(part.batches(4, 3))
    assert {tuple(video.flatten().tolist()) for video in x} <= {tuple(video.flatten().tolist()) for video in data.images[:4]}
    binary = load_dataset("moving-mnist", "train", DataOptions(size=16, frames=2, binarise="threshold"))
    fresh, _ = next(binary.batches(2, 3))
    assert binary.spec.levels == 2 and set(binary.images.unique().tolist()) | set(fresh.unique().tolist()) == {0, 1}
    four = load_dataset("moving-mnist", "train", DataOptions(size=16, frames=2, levels=4))
    fresh, _ = next(four.batches(2, 3))
    assert set(four.images.unique().tolist()) | set(fresh.unique().tolist()) == {0, 2}
    assert load_dataset("moving-mnist", "test", DataOptions(size=16, frames=1)).spec == ImageSpec(1, 16, 16, 256)
    said, unsaid, other = (load_dataset("moving-mnist", "test[:4]", replace(options, paths=p)).images for p in ("folded", None, "clipped"))
    assert torch.equal(said, unsaid) and not torch.equal(said, other)


@pytest.mark.usefixtures("mnist")
@pytest.mark.parametrize(
    ("name", "split", "options", "says"),
    [
        ("moving-mnist", "validation", {}, "splits train, test, got 'validation'"),
        ("moving-mnist", "test", {"size": 7}, "size of at least 8, got 7"),
        ("moving-mnist", "test", {"frames": 0}, "frames must be at least 1, got 0"),
        ("moving-mnist", "test", {"crop": 4}, "not cropped"),
        ("moving-mnist", "test", {"binarise": "static"}, "binarised by threshold only, .*; got 'static'"),
        ("moving-mnist", "test", {"paths": "bent"}, "paths must be one of folded, clipped, got 'bent'"),
        ("digits", "test", {"frames": 3}, "digits holds still images"),
        ("digits", "test", {"paths": "clipped"}, "digits holds still images, paths is for moving-mnist; got 'clipped'"),
    ],
)
def test_bad_settings_of_videos_are_one_clear_line(name: str, split: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load_dataset(name, split, DataOptions(**options))


def test_an_empty_batch_and_a_condition_that_is_not_taken() -> None:
    """An empty batch gives empty log-probabilities and losses; a condition that the model does not take is refused by its loss, too."""
    for likelihood in ("categorical", "cross-entropy"):
        model = network(likelihood=likelihood)
        assert model.loss(videos(SPEC, 0)).shape == (0,)
        with pytest.raises(ValueError, match="unconditional"):
            model.loss(videos(SPEC, 2), torch.zeros(2))


# ── going on, pictures, commands ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_short_video_is_continued_and_too_short_a_one_refused() -> None:
    x = videos(SPEC, 2)
    whole, known = continued(SPEC, x[:, :3], 2)
    assert torch.equal(whole[:, :3], x[:, :3]) and not bool(whole[:, 3:].any()) and known.flatten().tolist() == [True, True, False, False]
    for short, context, says in (
        (x[:, :1], 2, "2 frames are needed, got videos of 1 frames"),
        (x[:, 0], 2, r"got an array of shape \(2, 1, 4, 3\)"),
        (x, 4, "expected from 0 to 3 known frames of this model's 4, got 4"),
        (x, 9, "got 9"),
        (x, -1, "got -1"),
    ):
        with pytest.raises(ValueError, match=says):
            continued(SPEC, short, context)
    with pytest.raises(ValueError, match="still images"):
        continued(ImageSpec(1, 4, 3, 3), x[:, 0], 1)


def test_pictures_of_videos() -> None:
    """A strip has a column per frame, an animation a picture per frame; surprise is brightest where a value was least expected."""
    x = videos(SPEC, 3) / 2
    logs = torch.zeros(3, *SPEC.shape)
    logs[1, 2, 0, 3, 1] = -5.0
    colours = surprise_colours(logs)
    assert colours.shape == (3, 4, 3, 4, 3)
    assert np.unravel_index(colours.sum(2).argmax(), (3, 4, 4, 3)) == (1, 2, 3, 1)
    strip = film_strips(x, ["a", "b", "c"], 1)
    frames = [*animate_rows([x, colours], ["truth", "surprise"])]
    assert strip.width > 4 * 3 * 2 and len(frames) == 4 and len({frame.size for frame in frames}) == 1
    assert len([*animate_grid(x)]) == 4
    with pytest.raises(ValueError, match="as many videos and frames"):
        list(animate_rows([x, x[:2]], ["a", "b"]))


@pytest.mark.usefixtures("mnist")
def test_evaluate_counts_the_frames_after_a_context(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``evaluate --context``: exact nats per frame, or the published cross-entropy with its lower limit, for both kinds of paths."""
    spec, model = ImageSpec(1, 8, 8, 256, frames=3), str(tmp_path / "model")
    for likelihood in ("categorical", "cross-entropy"):
        rastrum.build("video-pixel-network", spec, "tiny", likelihood=likelihood).save_pretrained(model)
        command = ["evaluate", model, "--data", "moving-mnist", "--count", "3", "--context", "1", "--paths", "clipped"]
        assert main([*command, "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        data = load_dataset("moving-mnist", "test", DataOptions(size=8, frames=3, paths="clipped", limit=3))
        network = rastrum.load(model)
        assert isinstance(network, RasterModel)
        assert answer["nats"] == pytest.approx(evaluate_frames(network, data, 1).nats) and answer["context"] == 1
        assert main(command) == 0 and "per frame of frames 2 to 3" in capsys.readouterr().out
        if likelihood == "cross-entropy":
            floor = float(cross_entropy_floor(data.images[:, 1:].flatten(0, 1), 256).mean())
            assert answer["kind"] == "loss" and answer["floor"] == pytest.approx(floor) and answer["nats"] > floor
    rastrum.build("pixelcnn", ImageSpec(1, 8, 8, 17), "tiny").save_pretrained(tmp_path / "still")
    for command, says in (
        (["evaluate", str(tmp_path / "still"), "--data", "digits", "--context", "1"], "draws still images; leave it out"),
        (["evaluate", str(tmp_path / "still"), "--data", "digits", "--paths", "clipped"], "paths is for moving-mnist"),
        (["evaluate", model, "--data", "moving-mnist", "--context", "1", "--ensemble"], "leave out one of --context and --ensemble"),
        (["evaluate", model, "--data", "moving-mnist", "--count", "2"], "by `rastrum evaluate --context N`"),
        (["evaluate", model, "--images", "x.npy", "--paths", "clipped"], "it is for --data moving-mnist, not for 'x.npy'"),
    ):
        assert main(command) == 2
        err = capsys.readouterr().err
        assert says in err and err.count("\n") == 1


@pytest.mark.usefixtures("mnist")
def test_commands_play_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``sample``, ``complete`` and the surprise of ``score`` write a strip and an animation with one picture per frame."""
    model = str(tmp_path / "model")
    rastrum.build("video-pixel-network", ImageSpec(1, 8, 8, 2, frames=3), "tiny").save_pretrained(model)
    source = ["--data", "moving-mnist", "--count", "2", "--binarise", "threshold"]
    strip, film = str(tmp_path / "x.png"), str(tmp_path / "x.gif")
    for command in (
        ["sample", model, "--count", "2", "--out", strip, "--trace", film],
        ["complete", model, *source, "--context", "2", "--num-samples", "2", "--out", strip, "--trace", film],
        ["complete", model, *source, "--known", "left", "--num-samples", "1", "--out", strip, "--trace", film],
        ["score", model, *source, "--surprise", film],
        ["score", model, *source, "--surprise", strip],
    ):
        Path(film).unlink(missing_ok=True)
        assert main(command) == 0
        if film in command:
            with Image.open(film) as picture:
                assert getattr(picture, "n_frames", 1) == 3
        capsys.readouterr()
    assert main(["complete", model, *source, "--context", "1", "--num-samples", "1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    truth = load_dataset("moving-mnist", "test", DataOptions(size=8, frames=3, binarise="threshold", limit=2)).images
    drawn = torch.tensor(answer["images"]).view(2, 3, 1, 8, 8)
    assert answer["known"] == pytest.approx(1 / 3) and torch.equal(drawn[:, 0], truth[:, 0].long())
    for command, says in (
        (["complete", model, *source, "--context", "3"], "expected from 0 to 2 known frames of this model's 3, got 3"),
        (["complete", model, *source, "--context", "1", "--known", "top"], "one of --known"),
        (["complete", model, "--data", "digits", "--context", "1"], "digits holds still images, this model wants videos of 3 frames"),
        (["complete", model, "--images", strip, "--context", "1"], "x.png' must hold one array of numbers"),
    ):
        assert main(command) == 2
        err = capsys.readouterr().err
        assert says in err and err.count("\n") == 1
    own = str(tmp_path / "own.npy")
    np.save(own, truth[:, :2].numpy())                                     # the last frame is not there
    assert main(["complete", model, "--images", own, "--context", "2", "--num-samples", "1", "--json"]) == 0
    drawn = torch.tensor(json.loads(capsys.readouterr().out)["images"]).view(2, 3, 1, 8, 8)
    assert torch.equal(drawn[:, :2], truth[:, :2].long())
    assert main(["complete", model, "--images", own, "--context", "2", "--trace", film]) == 0
    np.save(own, truth[:, :2].numpy().astype(">i4"))                       # another machine's order of bytes
    capsys.readouterr()
    assert main(["complete", model, "--images", own, "--context", "2", "--num-samples", "2"]) == 0
    said = capsys.readouterr().out.splitlines()[1:]
    first = ["".join("@@" if v else "  " for v in row) for row in drawn[0, 2, 0].tolist()]
    assert [line.ljust(16) for line in said] == first                      # the last frame, first drawn
    assert main(["complete", model, "--images", own, "--binarise", "static"]) == 2 and "levels already" in capsys.readouterr().err
    assert main(["complete", model, "--images", str(tmp_path)]) == 2 and "give an array X.npy" in capsys.readouterr().err
    rastrum.build("pixelcnn", ImageSpec(1, 8, 8, 2), "tiny").save_pretrained(tmp_path / "still")
    assert main(["score", str(tmp_path / "still"), "--images", own]) == 2
    assert "has the shape (2, 2, 1, 8, 8), expected (N, H, W)" in capsys.readouterr().err
    np.save(own, truth.numpy())
    capsys.readouterr()
    for split, images in (("test", 1), ("train", 1), ("all[:2]", 2)):
        assert main(["score", model, "--images", own, "--split", split, "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["images"], answer["split"]) == (images, split)
    np.save(own, truth[:, :1].numpy())
    for command, needed in (["complete", model, "--images", own, "--context", "2"], 2), (["score", model, "--images", own], 3):
        assert main(command) == 2
        assert f"--images: {needed} frames are needed, got videos of 1 frames" in capsys.readouterr().err
    np.save(own, truth[:0].numpy())
    assert main(["score", model, "--images", own]) == 2 and "holds no video" in capsys.readouterr().err
    assert main(["check", "video-pixel-network", "--frames", "2", "--height", "3", "--width", "3"]) == 0
    assert "2 frames of 1 x 3 x 3" in capsys.readouterr().out
    assert main(["check", model, "--out", strip]) == 2
    assert "this model draws videos" in capsys.readouterr().err
    still = str(tmp_path / "still")
    rastrum.build("pixelcnn", ImageSpec(1, 8, 8, 17), "tiny").save_pretrained(still)
    assert main(["complete", still, "--data", "digits", "--context", "1"]) == 2
    assert "draws still images; use --known" in capsys.readouterr().err
