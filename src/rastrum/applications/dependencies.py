"""How strongly a trained model uses each earlier value: how much a conditional changes when the value is replaced."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checking import CELLS
from ..devices import in_float64
from ..protocol import ArrayLike, check_images
from ..raster import RasterModel

REPLACEMENTS = 1024            # forward passes of one image


def dependency_strengths(
    model: RasterModel,
    images: ArrayLike,
    row: int | None = None,
    column: int | None = None,
    condition: ArrayLike | int | None = None,
    seed: int = 0,
) -> Tensor:
    """How strongly a trained model uses each earlier value for the conditionals at one position.

    The strength of a value is the total variation distance, summed over the channels of the position, by which the conditionals change when
    that value alone is replaced by the one of another image; the mean over images. A value that never varies has strength 0. About 1024
    replacements are tried, spread evenly over the values, at least one for each.

    model: a raster model.
    images: levels (B, *spec.shape), at least two.
    row, column: of the position, in the last frame of a video; default: two thirds down, in the middle.
    condition: one per image, or one for all; None for an unconditional model.
    seed: of the choice of replacements.

    Returns (*spec.shape) float64, 0 where a value is not used.
    Raises ``ValueError`` for other images, a position outside them, or a wrong condition.
    """
    spec = model.spec
    row, column = 2 * spec.height // 3 if row is None else row, spec.width // 2 if column is None else column
    if not (0 <= row < spec.height and 0 <= column < spec.width):
        raise ValueError(f"row, column: expected a position in {spec.height} x {spec.width}, got {row}, {column}")
    x = check_images(spec, images, model.device)
    count = len(x)
    if count < 2:
        raise ValueError(f"images: expected at least two, to take replacements from, got {count}")
    checked = model.check_condition(condition, count)
    generator = torch.Generator().manual_seed(seed)
    rank = model.order.cpu().argsort()
    grid = torch.arange(spec.size).view(spec.frames, spec.channels, spec.height, spec.width)
    decided = rank[grid[-1, :, row, column]].max()
    values = x.flatten(1).cpu()
    donor = (torch.arange(count)[:, None] + torch.randint(1, count, (spec.size,), generator=generator)) % count
    new = values.gather(0, donor)                                         # (B, D)
    varies = (new != values) & (rank < decided)
    share = varies.double().mean(0)
    each = max(1, REPLACEMENTS // max(1, int((share > 0).sum())))
    lottery = torch.where(varies, torch.rand(values.shape, generator=generator), 2.0).argsort(0)[:each]
    at_image, at_value = lottery.flatten(), torch.arange(spec.size).expand(len(lottery), -1).flatten()
    drawn = varies[at_image, at_value]
    at_image, at_value = at_image[drawn], at_value[drawn]
    here = (slice(None), *([-1] if spec.frames > 1 else []), slice(None), row, column)
    moved, tried = torch.zeros(spec.size, dtype=torch.float64), torch.zeros(spec.size)
    chunk = max(4, min(32, CELLS // (spec.size * spec.levels)))

    def probabilities(x: Tensor, condition: Tensor | None) -> Tensor:
        return in_float64(model.distribution(x, condition)[here].log_pmf()).exp()  # (B, C, L)

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            rows = torch.arange(count, device=model.device).split(chunk)
            base = torch.cat([probabilities(x[b], None if checked is None else checked[b]) for b in rows])
            for b, j in zip(at_image.split(chunk), at_value.split(chunk), strict=True):
                y, one = x[b].flatten(1), torch.arange(len(b))
                y[one, j] = new[b, j].to(y)
                changed = probabilities(y.view(-1, *spec.shape), None if checked is None else checked[b])
                distance = 0.5 * (changed - base[b]).abs().sum((1, 2)).cpu()
                moved.index_add_(0, j, distance)
                tried.index_add_(0, j, torch.ones(len(j)))
    finally:
        model.train(training)
    return (share * moved / tried.clamp_min(1)).view(spec.shape)
