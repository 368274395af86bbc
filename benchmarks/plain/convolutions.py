"""What the convolutional references share: masked kernels, and the weights of ours put into usual kernels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedConv2d(nn.Conv2d):
    """A square kernel that is multiplied by a 0/1 mask in every forward pass: rows above, and columns to the left in its own row.

    inputs, outputs: channels.
    kernel: side, odd.
    centre: what is seen of the pixel itself: earlier colour groups ("A"), or these and its own ("B").
    groups: colour groups.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, centre: str, groups: int = 1, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
        reach = kernel // 2
        mask = torch.zeros_like(self.weight)
        mask[:, :, :reach] = 1
        mask[:, :, reach, :reach] = 1
        to, of = (torch.arange(n) // (n // groups) for n in (outputs, inputs))
        mask[:, :, reach, reach] = (to[:, None] > of if centre == "A" else to[:, None] >= of).float()
        self.register_buffer("mask", mask)
        self.mask: Tensor

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight * self.mask, self.bias, padding=self.padding)


@torch.no_grad()
def copy_taps(convolution: Any, ours: Any, origin: tuple[int, int]) -> None:
    """Weights, bias and gain of ``ours``, a ``rastrum.layers.causal.Convolution``, in the usual kernel; ``origin``: the pixel's own tap."""
    kernel = torch.zeros_like(convolution.weight)
    for tap, weight in zip(ours.taps, ours.weights, strict=True):
        last = origin[0] + tap.down
        kernel[tap.to[0] : tap.to[1], : tap.inputs, last - tap.rows + 1 : last + 1, origin[1] + tap.right] = (
            weight.unflatten(0, (tap.rows, tap.inputs)).permute(2, 1, 0)
        )
    mask = getattr(convolution, "mask", None)
    assert mask is None or bool((kernel[mask == 0] == 0).all()), "ours has a tap that the mask leaves out"
    copy_kernel(convolution, kernel, ours)


@torch.no_grad()
def copy_kernel(convolution: Any, kernel: Tensor, ours: Any) -> None:
    """``kernel``, and bias and gain of ``ours``."""
    if ours.gain is None:
        convolution.weight.copy_(kernel)
    else:
        gain, direction = (getattr(convolution.parametrizations.weight, name) for name in ("original0", "original1"))
        direction.copy_(kernel)
        gain.copy_(ours.gain.view_as(gain))
    if ours.bias is not None:
        convolution.bias.copy_(ours.bias)


def nats_of_levels(logits: Tensor, x: Tensor) -> Tensor:
    """−log p of levels x (B, C, H, W) under logits (B, C · n, H, W), n = 1 for two levels: (B,)."""
    batch, channels, height, width = x.shape
    logits = logits.view(batch, channels, -1, height, width)
    if logits.shape[2] == 1:
        nats = F.binary_cross_entropy_with_logits(logits[:, :, 0], x.float(), reduction="none")
    else:
        nats = F.cross_entropy(logits.transpose(1, 2), x, reduction="none")
    return nats.flatten(1).sum(1)
