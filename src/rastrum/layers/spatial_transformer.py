"""Spatial transformer windows: an affine map places a square patch on an image, to read what lies there and to write onto it.

Source: Jaderberg, Simonyan, Zisserman, Kavukcuoglu, "Spatial Transformer Networks", 2015, equations 1, 3 and 5.

    parameters (B, 6) = log-scales a_x, a_y, shear k, rotation φ, shift t_x, t_y                all zero: the patch covers the image
      └─▶ A = R(φ) · [e^{a_x}  k; 0  e^{a_y}]                 of determinant e^{a_x + a_y}, so A always has an inverse
    read:   patch(q) = image(A·q + t)                         for each point q of the patch
    write:  image(p) = patch(A⁻¹·(p − t)), 0 outside of it    for each pixel p of the image

Coordinates are (x, y) from −1 to 1 across the outer edges of an image, whatever its size, so pixel i of n lies at (2i + 1)/n − 1
(``align_corners=False``; the other convention has no answer for one pixel). Values between pixels are bilinear, those outside are 0.

What differs: the paper's θ are the six entries of (A, t), which need not have an inverse. A tanh keeps log-scales within
±``LARGEST``.

Dimensions: B batch · C channels · H, W image · P side of the patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..autocast import restored

PARAMETERS = 6                 # of a window
LARGEST = 3.0                  # log-scale: windows from a twentieth of the image to twenty times it


@dataclass(frozen=True)
class AffineWindow:
    """One window per image.

    matrix: A (B, 2, 2).
    shift: t (B, 2).
    """

    matrix: Tensor
    shift: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> AffineWindow:
        """The windows of parameters (B, 6), in the order given at the head of this file."""
        parameters = restored(parameters)                                 # a position in bfloat16 is a tenth of a pixel off
        scale_x, scale_y = torch.exp(LARGEST * torch.tanh(parameters[:, :2] / LARGEST)).unbind(1)
        shear, rotation, shift = parameters[:, 2], parameters[:, 3], parameters[:, 4:]
        cos, sin = torch.cos(rotation), torch.sin(rotation)
        rows = (cos * scale_x, cos * shear - sin * scale_y, sin * scale_x, sin * shear + cos * scale_y)
        return cls(torch.stack(rows, 1).view(-1, 2, 2), shift)

    def read(self, image: Tensor, side: int) -> Tensor:
        """The patch under the window.

        image: (B, C, H, W).
        side: of the patch, P.

        Returns (B, C, P, P).
        """
        return _sampled(image, self.matrix, self.shift, side, side)

    def write(self, patch: Tensor, height: int, width: int) -> Tensor:
        """The patch laid on an empty image.

        patch: (B, C, P, P).
        height, width: of the image.

        Returns (B, C, H, W).
        """
        (a, b), (c, d) = (row.unbind(1) for row in self.matrix.unbind(1))
        inverse = torch.stack((d, -b, -c, a), 1).view(-1, 2, 2) / (a * d - b * c)[:, None, None]
        return _sampled(patch, inverse, -(inverse @ self.shift[..., None]).squeeze(2), height, width)

    def box(self, height: int, width: int) -> Tensor:
        """The box around the window, for viewers: (B, 4) centre row, centre column, height, width in pixels.

        height, width: of the image.
        """
        half = self.matrix.detach().abs().sum(2)                          # of the corners ±1, ±1
        size = half.new_tensor([width, height])
        centre = (self.shift.detach() + 1) * size / 2 - 0.5
        return torch.cat([centre.flip(1), (half * size).flip(1)], dim=1)


def _sampled(image: Tensor, matrix: Tensor, shift: Tensor, height: int, width: int) -> Tensor:
    """Values of an image (B, C, …) at ``matrix`` · p + ``shift`` for each pixel p of a grid: (B, C, height, width)."""
    theta = torch.cat([matrix, shift[..., None]], dim=2)
    grid = F.affine_grid(theta, [len(image), 1, height, width], align_corners=False)
    return F.grid_sample(image.to(grid.dtype), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
