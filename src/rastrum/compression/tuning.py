"""A model adapted to one image: its biases and gains move, trained on the image, and the file says how far.

    parameter' = parameter + q / 32, rounded to float32,  q = −127 … 127

for each value of the parameters that have one axis at most, in their order in the model: a few hundred numbers, deflated. q / 32 is exact
and the sum is rounded as IEEE says, so encoder and decoder have the same weights on every machine.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..raster import RasterModel
from .fields import deflate, inflate
from .tiles import Tile, Tiling

UNIT, MOST = 32, 127           # steps of 1; and at most
RATE, MOMENTS = 5e-3, (0.9, 0.99)    # of Adam, falling to 0


def tune(
    model: RasterModel,
    tiling: Tiling,
    window: Callable[[Tile], np.ndarray],
    steps: int,
    levels: int,
    report: Callable[[int], object] = lambda done: None,
) -> bytes:
    """Trains a copy of a model on the tiles of an image, one at a time, drawn at random.

    model: of any size.
    tiling: of the image.
    window: gives the levels that the model sees of a tile, (C, rows, columns).
    steps: how many; the same steps give the same bytes on one machine.
    levels: of the image.
    report: called with the number of steps done.

    Returns what ``tuned`` takes; b"" if nothing moved.
    """
    sized = _copy(model).resized(tiling.rows.length, tiling.columns.length, levels)
    free = _free(sized.requires_grad_(False))
    before = [parameter.clone() for parameter in free]
    for parameter in free:
        parameter.requires_grad_(True)
    adam, draw = torch.optim.Adam(free, RATE, MOMENTS), np.random.default_rng(0)
    with torch.enable_grad():
        for step in range(steps):
            tile = int(draw.integers(tiling.rows.count)), int(draw.integers(tiling.columns.count))
            own = [-(part.stop - part.start) for part in tiling.own(tile)]
            x = torch.from_numpy(window(tile).astype(np.int64))
            loss = -sized.log_prob_map(x[None])[..., own[0] :, own[1] :].mean()
            adam.zero_grad()
            loss.backward()
            adam.param_groups[0]["lr"] = RATE * (1 - step / steps)
            adam.step()
            report(step + 1)
    moved = [((a.detach() - b) * UNIT).round().nan_to_num().clamp(-MOST, MOST) for a, b in zip(free, before, strict=True)]
    found = np.concatenate([np.zeros(0, np.int8), *(each.reshape(-1).numpy().astype(np.int8) for each in moved)])
    return deflate(found.tobytes()) if found.any() else b""


def tuned(model: RasterModel, moved: bytes) -> RasterModel | None:
    """The model as ``tune`` moved it; None for bytes of anything else.

    model: of any size; it stays as it is.
    moved: as from ``tune``.
    """
    copied = _copy(model)
    free = _free(copied)
    found = inflate(moved, sum(parameter.numel() for parameter in free))
    if found is None:
        return None
    parts = torch.from_numpy(np.frombuffer(found, np.int8).astype(np.float32) / np.float32(UNIT)).split([p.numel() for p in free])
    with torch.no_grad():
        for parameter, part in zip(free, parts, strict=True):
            parameter.add_(part.view(parameter.shape))
    return copied


def _copy(model: RasterModel) -> RasterModel:
    return copy.deepcopy(model).eval()


def _free(model: nn.Module) -> Sequence[Tensor]:
    """The parameters that move."""
    return [parameter for parameter in model.parameters() if parameter.ndim <= 1 and parameter.is_floating_point()]
