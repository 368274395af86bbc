"""A class-conditional model as a classifier, by Bayes' rule: log p(c | x) = log p(x | c) + log p(c) − log Σ_c' p(x | c') p(c')."""

from __future__ import annotations

import torch
from torch import Tensor

from ..devices import float64_device, in_float64
from ..protocol import ArrayLike, as_tensor, check_images
from ..raster import RasterModel


@torch.no_grad()
def log_posterior(model: RasterModel, x: ArrayLike, prior: ArrayLike | None = None) -> Tensor:
    """log p(class | image) under a class-conditional raster model, without gradients.

    model: a raster model whose condition is a class.
    x: levels (B, *spec.shape).
    prior: probabilities (classes,); default: uniform.

    Returns nats (B, classes), float64.
    Raises ``ValueError`` for any other model, and for a prior that does not fit it.
    """
    if not isinstance(model, RasterModel):
        raise ValueError(f"Bayes' rule needs exact likelihoods: expected a raster model, got {type(model).__name__}")
    condition = model.condition_spec
    if condition is None or condition.kind != "class":
        what = "takes no condition" if condition is None else f"takes a {condition.kind}"
        raise ValueError(f"Bayes' rule needs a model whose condition is a class; this one {what}")
    x, classes = check_images(model.spec, x, model.device), int(condition.size)  # pyright: ignore[reportArgumentType]
    p = torch.full((classes,), 1 / classes) if prior is None else as_tensor("prior", prior)
    p = in_float64(p).to(float64_device(model.device))
    if p.shape != (classes,) or not bool((p >= 0).all()) or abs(float(p.sum()) - 1) > 1e-6:
        raise ValueError(f"prior: expected {classes} probabilities that add up to 1, got {p.tolist()}")
    return (class_log_probs(model, x, classes) + p.log()).log_softmax(1)


@torch.no_grad()
def class_log_probs(model: RasterModel, x: Tensor, classes: int) -> Tensor:
    """log p(x | class) of each image given each class; a few images at a time.

    model: a raster model whose condition is a class.
    x: integer levels (B, *shape).
    classes: their number.

    Returns nats (B, classes), float64.
    """
    parts = x.split(model.images_at_a_time)
    return torch.cat([torch.stack([model.log_prob(part, c) for c in range(classes)], 1) for part in parts])
