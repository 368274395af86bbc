"""Attention windows: an N by N grid of Gaussian filters that reads a patch from an image and writes one to it.

Source: Gregor, Danihelka, Graves, Rezende, Wierstra, "DRAW: A Recurrent Neural Network For Image Generation", 2015, section 3.

    parameters (B, 5) = g̃X, g̃Y, log σ², log δ̃, log γ                                                       (21)
      ├─▶ centre   gX = (W + 1)/2 · (g̃X + 1), gY = (H + 1)/2 · (g̃Y + 1)                                    (22, 23)
      ├─▶ stride   δ = (max(H, W) − 1)/(N − 1) · δ̃                                                         (24)
      └─▶ filters  F[i, a] = exp(−(a − μ_i)²/2σ²)/Z,  μ_i = g + (i − N/2 − ½)·δ                             (19, 20, 25, 26)
    read:  γ · F_Y · image · F_Xᵀ  (27)            write:  1/γ · F_Yᵀ · patch · F_X  (29)

The paper counts pixels and filters from 1; here both are turned to 0-based coordinates once, in ``make_window``: the centre of the first
pixel is 0 and, with all parameters zero, the filters of a square image stand evenly from its first pixel to its last.
What differs: rows of filters are normalised by a softmax, which cannot underflow as exp(·)/(sum + ε) does when σ is small; N = 1 is
allowed (one filter, at the centre).

Dimensions: B batch · C channels · H, W height and width of the image · N filters along a side. Images are (B, H, C, W), so that both
products of a read or a write are plain batched matrix products over any number of channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..autocast import restored


def filter_bank(centres: Tensor, variance: Tensor, size: int) -> Tensor:
    """Gaussian filters whose weights sum to 1.

    centres: in pixels, 0-based, (…, N).
    variance: σ² in pixels², (…, 1).
    size: pixels along the side.

    Returns (…, N, size).
    """
    pixels = torch.arange(size, dtype=centres.dtype, device=centres.device)
    return torch.softmax((pixels - centres.unsqueeze(-1)).square() * (-0.5 / variance).unsqueeze(-1), dim=-1)


@dataclass(frozen=True)
class Window:
    """One window per image.

    rows: F_Y (B, N, H).
    columns: F_X (B, N, W).
    gamma: γ (B, 1).
    box: (B, 4) centre row, centre column, height, width in pixels: the grid from its first filter's pixel to its last one's.
    """

    rows: Tensor
    columns: Tensor
    gamma: Tensor
    box: Tensor

    def read(self, image_BHCW: Tensor) -> Tensor:
        """The patch under the window, without γ.

        image_BHCW: (B, H, C, W).

        Returns (B, N, C, N).
        """
        b, h, c, w = image_BHCW.shape
        n = self.rows.shape[1]
        strips = torch.bmm(self.rows, image_BHCW.reshape(b, h, c * w))
        return torch.bmm(strips.view(b, n * c, w), self.columns.mT).view(b, n, c, n)

    def write(self, patch_BNCN: Tensor) -> Tensor:
        """The patch laid on an empty image, without 1/γ.

        patch_BNCN: (B, N, C, N).

        Returns (B, H, C, W).
        """
        b, n, c, _ = patch_BNCN.shape
        h, w = self.rows.shape[2], self.columns.shape[2]
        strips = torch.bmm(patch_BNCN.reshape(b, n * c, n), self.columns)
        return torch.bmm(self.rows.mT, strips.view(b, n, c * w)).view(b, h, c, w)


def make_window(parameters: Tensor, count: int, height: int, width: int) -> Window:
    """The windows that parameters place on images.

    parameters: (B, 5), as (21) lists them.
    count: N filters along a side.
    height, width: of the images.
    """
    parameters = restored(parameters)                                     # a position in bfloat16 is a tenth of a pixel off
    variance, stride, gamma = torch.exp(parameters[:, 2:]).split(1, dim=1)
    stride = stride * ((max(height, width) - 1) / max(count - 1, 1))
    offsets = stride * (torch.arange(count, dtype=parameters.dtype, device=parameters.device) - (count - 1) / 2)
    centre = (parameters[:, :2] + 1) * parameters.new_tensor([(width + 1) / 2, (height + 1) / 2]) - 1
    centres = centre.unsqueeze(2) + offsets.unsqueeze(1)  # (B, 2, N): along X and along Y
    if height == width:
        columns, rows = filter_bank(centres, variance.unsqueeze(1), width).unbind(1)
    else:
        columns, rows = filter_bank(centres[:, 0], variance, width), filter_bank(centres[:, 1], variance, height)
    side = (count - 1) * stride.detach() + 1
    return Window(rows, columns, gamma, torch.cat([centre.detach().flip(1), side, side], dim=1))
