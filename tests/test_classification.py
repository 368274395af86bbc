"""A class-conditional model as a classifier, compared with Bayes' rule over all images; and training of classifiers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import rastrum
from rastrum import ConditionSpec, ImageSpec, RasterModel
from rastrum.applications.bayes_classifier import log_posterior
from rastrum.applications.glimpse_classifier import WholeImageClassifier
from rastrum.config import OptimConfig, RunConfig, TrainConfig
from rastrum.data.dataset import load_dataset
from rastrum.evaluation import evaluate
from rastrum.train import train

THREE = ConditionSpec("class", 3)


def class_conditional(condition: ConditionSpec | None = THREE) -> RasterModel:
    model = rastrum.build("gated-pixelcnn", ImageSpec(1, 2, 3, 2), preset="tiny", condition=condition)
    assert isinstance(model, RasterModel)
    for p in model.parameters():
        torch.nn.init.normal_(p, 0, 0.7, generator=torch.Generator().manual_seed(p.numel()))
    return model


@torch.no_grad()
def test_bayes_rule_over_all_images() -> None:
    """Σ_x p(c | x) p(x) = p(c) for every class when all 64 images are summed, and each row adds up to one."""
    model, prior = class_conditional(), torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    x = torch.tensor([[(i >> bit) & 1 for bit in range(6)] for i in range(64)]).view(64, 1, 2, 3)
    posterior = log_posterior(model, x, prior).exp()
    joint = torch.stack([model.log_prob(x, torch.tensor(c)).exp() * prior[c] for c in range(3)], 1)
    assert torch.allclose(posterior.sum(1), torch.ones(64, dtype=torch.float64))
    assert torch.allclose((posterior * joint.sum(1, keepdim=True)).sum(0), prior, atol=1e-6)
    assert torch.allclose(log_posterior(model, x), log_posterior(model, x, torch.full((3,), 1 / 3)), atol=1e-6)


@pytest.mark.parametrize(
    "condition, prior, message",
    [
        (None, None, "takes no condition"),
        (ConditionSpec("vector", 3), None, "takes a vector"),
        (THREE, torch.tensor([0.5, 0.5]), "3 probabilities"),
        (THREE, torch.tensor([0.5, 0.2, 0.2]), "add up to 1"),
    ],
)
def test_bad_input(condition: ConditionSpec | None, prior: torch.Tensor | None, message: str) -> None:
    """Models that are not class-conditional, and priors that do not fit, are refused."""
    with pytest.raises(ValueError, match=message):
        log_posterior(class_conditional(condition), torch.zeros(1, 1, 2, 3, dtype=torch.int64), prior)


def test_a_bound_is_not_enough() -> None:
    model = rastrum.build("draw", ImageSpec(1, 8, 8, 2), "tiny", ConditionSpec("class", 3))
    with pytest.raises(ValueError, match="expected a raster model, got DRAW"):
        log_posterior(model, torch.zeros(1, 1, 8, 8, dtype=torch.int64))  # pyright: ignore[reportArgumentType]


def test_pieces_and_no_gradient() -> None:
    """More images than fit in one piece, in training mode too: no autograd graph is kept, which would fill the memory."""
    model, x = class_conditional(), torch.randint(0, 2, (11, 1, 2, 3), generator=torch.Generator().manual_seed(1))
    found = log_posterior(model, x)
    assert not found.requires_grad
    assert torch.allclose(found, torch.cat([log_posterior(model, each) for each in x.split(1)]), atol=1e-6)


def test_a_classifier_trains_through_the_same_loop() -> None:
    """A classifier of digits learns; it needs labels, has no likelihood, and is not evaluated in nats."""
    data = load_dataset("digits", "train")
    network = WholeImageClassifier(data.spec, 10, 6000, convolutional=False)
    with torch.no_grad():
        before = network.loss(data.images, data.labels).mean()
    optim = OptimConfig(learning_rate=1e-2, batch=32, micro_batch=None, warm_up=1, ema=0.0, clip=5.0)
    config = TrainConfig(optim=optim, run=RunConfig(steps=100, workers=1))
    states = list(train(network, data, config))
    with torch.no_grad():
        after = network.loss(data.images, data.labels).mean()
    assert states[-1].finished and states[-1].bits_per_dim is None and after < 0.7 * before
    with pytest.raises(ValueError, match="labels"):
        next(train(network, replace(data, labels=None), config))
    with pytest.raises(ValueError, match="no likelihood"):
        evaluate(network, data)
