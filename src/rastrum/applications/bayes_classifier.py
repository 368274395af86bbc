"""A class-conditional model as a classifier, by Bayes' rule: log p(c | x) = log p(x | c) + log p(c) − log Σ_c' p(x | c') p(c')."""

from __future__ import annotations

import torch
from torch import Tensor

from ..protocol import ArrayLike, as_tensor, check_images
from ..raster import RasterModel


@torch.no_grad()
def log_posterior(model: RasterModel, x: ArrayLike, prior: ArrayLike | None = None) -> Tensor:
    """log p(class | image) of images x (B, *spec.shape) under a model that is told a class, in nats: (B, classes) float64.

    prior: probabilities (classes,), by default equal. A few images at a time, and no gradient is kept. ``ValueError`` for a model
    that is told something else, or nothing, or has no exact likelihood, and for a prior that does not fit.
    """
    if not isinstance(model, RasterModel):
        raise ValueError(f"Bayes' rule needs exact likelihoods: expected a raster model, got {type(model).__name__}")
    told = model.condition_spec
    if told is None or told.kind != "class":
        what = "nothing" if told is None else f"a {told.kind}"
        raise ValueError(f"Bayes' rule needs a model that is told a class; this one is told {what}")
    x, classes = check_images(model.spec, x, model.device), int(told.size)  # pyright: ignore[reportArgumentType]
    chance = torch.full((classes,), 1 / classes) if prior is None else as_tensor("prior", prior)
    chance = chance.to(device=model.device, dtype=torch.float64)
    if chance.shape != (classes,) or not bool((chance >= 0).all()) or abs(float(chance.sum()) - 1) > 1e-6:
        raise ValueError(f"prior: expected {classes} probabilities that add up to 1, got {chance.tolist()}")
    parts = [torch.stack([model.log_prob(part, c) for c in range(classes)], 1) for part in x.split(model.images_at_a_time)]
    return (torch.cat(parts) + chance.log()).log_softmax(1)
