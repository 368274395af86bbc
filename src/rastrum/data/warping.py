"""Images moved, turned, scaled and sheared at random, as another hand might draw them.

    each pixel p of the result ──▶ A p + b ──▶ the nearest pixel of the image, or the lowest level outside

Nearest pixels keep the levels of an image, so that two levels stay two.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TURN, SCALE, SHEAR, MOVE = 0.25, 0.25, 0.2, 0.15   # most radians, |log of a factor|, share, and part of a side
UNIFORMS = 6                   # that an image's map is made of


def warped(images: Tensor, uniforms: np.ndarray) -> Tensor:
    """A random affine map of each image.

    images: integer levels (B, C, H, W).
    uniforms: in [0, 1), (B, UNIFORMS); all ½ leave an image as it is.

    Returns the same shape and type.
    """
    turn, wide, high, shear, right, down = torch.from_numpy(2 * uniforms - 1).float().unbind(1)
    turn, wide, high, shear = turn * TURN, (wide * SCALE).exp(), (high * SCALE).exp(), shear * SHEAR
    rows = [
        torch.stack([turn.cos() * wide, shear - turn.sin() * high, 2 * MOVE * right], 1),
        torch.stack([turn.sin() * wide, turn.cos() * high, 2 * MOVE * down], 1),
    ]
    height, width = images.shape[2:]
    aspect = torch.tensor([[1, height / width, 1], [width / height, 1, 1]])   # turns are of pixels, which are square
    grid = F.affine_grid(torch.stack(rows, 1) * aspect, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, "nearest", "zeros", align_corners=False).to(images.dtype)
