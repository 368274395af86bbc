"""Classifying by glimpses: compared with its equations, finite differences, and networks of the same size that see the whole image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rastrum.applications.glimpse_classifier import ReadingClassifier, ReadingConfig, WholeImageClassifier
from rastrum.protocol import ImageSpec

SPEC = ImageSpec(1, 12, 9, 256)
SMALL = ReadingConfig(glimpses=3, read=4, hidden=16)


def make(spec: ImageSpec = SPEC, config: ReadingConfig = SMALL, classes: int = 3) -> ReadingClassifier:
    torch.manual_seed(0)
    return ReadingClassifier(spec, classes, config)


def images(count: int, spec: ImageSpec = SPEC) -> Tensor:
    return torch.randint(spec.levels, (count, *spec.shape), generator=torch.Generator().manual_seed(1))


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def reference_filters(parameters: np.ndarray, n: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """DRAW's equations 22 to 26 with the paper's counting from 1."""
    stride = (max(height, width) - 1) / (n - 1) * math.exp(parameters[3])
    banks = []
    for tilde, size in ((parameters[1], height), (parameters[0], width)):
        centres = (size + 1) / 2 * (tilde + 1) + (np.arange(1, n + 1) - n / 2 - 0.5) * stride
        bank = np.exp(-((np.arange(1, size + 1) - centres[:, None]) ** 2) / (2 * math.exp(parameters[2])))
        banks.append(bank / bank.sum(1, keepdims=True))
    return banks[0], banks[1]


@pytest.mark.parametrize("spec", [SPEC, ImageSpec(3, 5, 8, 17)], ids=str)
def test_logits_follow_the_equations(spec: ImageSpec) -> None:
    """Every glimpse in numpy, one image at a time; boxes show where the filters are."""
    model = make(spec).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    w = {name: value.numpy() for name, value in model.state_dict().items()}
    x = images(2, spec)
    logits, (boxes, glimpses) = model.logits(x), model.glimpses(x)
    assert boxes.shape == (2, 3, 4) and glimpses.shape == (2, 3, spec.channels, 4, 4)
    for b in range(2):
        unit = x[b].numpy() / (spec.levels - 1)
        hidden, memory = w["start"]
        for t in range(3):
            p = w["where.weight"] @ hidden + w["where.bias"] + w["looks"][t]
            rows, columns = reference_filters(p, 4, spec.height, spec.width)
            seen = np.stack([rows @ part @ columns.T for part in unit])
            assert np.allclose(glimpses[b, t].numpy(), seen)
            height = (max(spec.height, spec.width) - 1) * math.exp(p[3]) + 1
            assert boxes[b, t, 2].item() == pytest.approx(height)
            assert boxes[b, t, 0].item() == pytest.approx((spec.height + 1) / 2 * (p[1] + 1) - 1)
            inputs = np.concatenate([math.exp(p[4]) * seen.transpose(1, 0, 2).ravel(), p[:4]])
            features = np.maximum(w["features.weight"] @ inputs + w["features.bias"], 0)
            o, f, i, g = np.split(w["memory.weight"] @ np.concatenate([features, hidden]) + w["memory.bias"], 4)
            memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
            hidden = sigmoid(o) * np.tanh(memory)
        assert np.allclose(logits[b].detach().numpy(), w["output.weight"] @ hidden + w["output.bias"])


def test_the_error_moves_the_window() -> None:
    """The gradient of the loss by the window parameters equals finite differences in float64, and is nowhere zero."""
    model = make().double()
    x, labels = images(4), torch.tensor([0, 1, 2, 1])
    model.loss(x, labels).sum().backward()
    for parameter in (model.looks, model.where.bias):
        assert parameter.grad is not None and (parameter.grad != 0).all()
        for index in np.ndindex(*parameter.shape):
            sides = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    parameter[index] += step
                    sides.append(model.loss(x, labels).sum().item())
                    parameter[index] -= step
            assert parameter.grad[index].item() == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4, abs=1e-9)


def test_the_first_window_is_the_whole_image() -> None:
    """It reaches from edge to edge with no pixel unseen, for any image; later windows have half its side."""
    model = make(ImageSpec(1, 60, 60), ReadingConfig(), 10)
    boxes, glimpses = model.glimpses(images(3, ImageSpec(1, 60, 60)))
    assert torch.allclose(boxes[:, 0], torch.tensor([29.5, 29.5, 60.0, 60.0]))
    assert torch.allclose(boxes[:, 1, 2], torch.tensor(30.5), atol=3)
    assert glimpses.min() >= 0 and glimpses.max() <= 1
    x = torch.full((2, 1, 60, 60), 255)
    x[1, 0, 32, 27] = 0                                                   # between filters
    seen = model.glimpses(x)[1][:, 0]
    assert (seen[0] - seen[1]).max() > 0.01


@pytest.mark.parametrize("convolutional", [False, True])
@pytest.mark.parametrize("size", [60, 100])
def test_the_same_size_is_the_same_size(convolutional: bool, size: int) -> None:
    """Within 5 % of the reading network's parameters; a size that cannot be reached is refused."""
    spec = ImageSpec(1, size, size)
    count = sum(p.numel() for p in make(spec, ReadingConfig(), 10).parameters())
    whole = WholeImageClassifier(spec, 10, count, convolutional)
    assert sum(p.numel() for p in whole.parameters()) == pytest.approx(count, rel=0.05)
    assert whole.logits(images(2, spec)).shape == (2, 10)
    with pytest.raises(ValueError, match="parameters: no network of this kind has about 40; the nearest has"):
        WholeImageClassifier(spec, 10, 40, convolutional)


@pytest.mark.parametrize("kind", ["reading", "perceptron", "convolutional"])
def test_learning_lowers_the_loss(kind: str) -> None:
    """Which corner is bright: all three networks do better than chance after a few steps."""
    spec = ImageSpec(1, 8, 8, 16)
    torch.manual_seed(0)
    model = ReadingClassifier(spec, 2, SMALL) if kind == "reading" else WholeImageClassifier(spec, 2, 2800, kind == "convolutional")
    labels = torch.arange(64) % 2
    x = images(64, spec) // 4
    x[labels == 0, :, :4, :4] += 8
    x[labels == 1, :, 1::2, 5:] += 8
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    first = model.loss(x, labels).mean().item()
    assert first == pytest.approx(math.log(2), abs=0.6)
    for _ in range(40):
        optimiser.zero_grad()
        model.loss(x, labels).mean().backward()
        optimiser.step()
    assert model.loss(x, labels).mean().item() < 0.5 * first


def test_bad_input_is_one_clear_line() -> None:
    for build, says in [
        (lambda: make(config=ReadingConfig(read=13)), "read=13 filters do not fit an image of 12x9; at most 12, or WholeImageClassifier"),
        (lambda: make(config=ReadingConfig(glimpses=0)), "glimpses: expected a whole number of at least 1, got 0"),
        (lambda: make(classes=1), "classes: expected a whole number of at least 2, got 1"),
        (lambda: make(ImageSpec(1, 12, 9, frames=2)), "2 frames"),
        (lambda: make().logits(images(2).float()), "integer levels"),
        (lambda: make().logits(images(2)[:, :, :5]), "shape"),
        (lambda: make().loss(images(2), torch.tensor([0])), "condition: "),
        (lambda: make().loss(images(2), torch.tensor([0.0, 1.0])), "condition: "),
        (lambda: make().loss(images(2), torch.tensor([0, 3])), r"condition: classes must lie in 0 … 2, got 0 … 3"),
    ]:
        with pytest.raises(ValueError, match=says) as error:
            build()
        assert "\n" not in str(error.value)
