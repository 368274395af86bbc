"""Predictions that adapt to an image while it is drawn, and what a network is shown of a pixel's surroundings (native/least_squares.py)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..program.builder import Program, View


class Around(NamedTuple):
    """What is known of each pixel before it: feature maps (B, H, W, …), or a step program's views."""

    predictions: Any               # p of each channel; of a channel, once the earlier ones are decided
    shown: Any                     # what the network reads
    scales: Any                    # s of each channel, the mean error nearby
    inverse: Any                   # 1 / s
    logs: Any                      # log s


class AdaptivePrediction(nn.Module):
    """Weighted least squares near each pixel, for each channel. Without parameters, and without gradients: it is computed on the CPU.

    channels: of the image.

    Raises ``ValueError`` where numba is not installed.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        from ..native import compiler

        if not compiler.available:
            raise ValueError("least-squares: its predictors are compiled by numba, which is not installed or switched off; install numba")
        from ..native.least_squares import PREDICTIONS, shown

        self.channels, self.shown, self.predictions = channels, shown(channels), PREDICTIONS * channels

    def states(self, columns: int) -> list[int]:
        """Values that the predictor of each channel keeps, of images of ``columns`` pixels a row."""
        from ..native.least_squares import state_size, unknowns

        return [state_size(unknowns(self.channels, channel), columns) for channel in range(self.channels)]

    @torch.no_grad()
    def forward(self, values: Tensor) -> Around:
        """values (B, H, W, C), in [−1, 1] → feature maps on the same device."""
        from ..native.least_squares import over_images

        levels = values.detach().cpu().contiguous().numpy()
        sizes = self.predictions, self.shown + 3 * self.channels
        predictions, out = (np.zeros((*levels.shape[:3], size), levels.dtype) for size in sizes)
        starts = np.cumsum([0, *self.states(levels.shape[2])])
        over_images(levels, predictions, out, np.zeros(starts[-1], levels.dtype), starts[:-1])
        p, seen = (torch.from_numpy(array).to(values.device) for array in (predictions, out))
        return Around(p[..., : self.channels], *seen.split([self.shown, *[self.channels] * 3], -1))

    def maps(self, program: Program) -> Around:
        """The views of a step ``program`` that ``lower`` writes."""
        spec = program.spec
        predictions = program.whole_map(self.predictions, spec.height, spec.width)
        out, sizes = program.map(self.shown + 3 * self.channels), [self.shown, *[self.channels] * 3]
        offsets = np.cumsum([0, *sizes]).tolist()
        return Around(predictions, *(View(out.buffer, offset, size) for offset, size in zip(offsets, sizes, strict=False)))

    def lower(self, program: Program, around: Around, channel: int) -> None:
        """Appends the operations of a channel; call it in the channel's phase.

        program: takes the operations.
        around: of ``maps``.
        channel: its number.
        """
        picture = program.drawn(1)
        state = program.map(self.states(program.spec.width)[channel], single=True)
        program.append("least_squares", View(picture.buffer, 0, channel + 1), View(around.predictions.buffer, channel, 1), initial=state)
        if channel == 0:
            out = View(around.shown.buffer, 0, around.shown.buffer.width)
            program.append("surroundings", View(picture.buffer, 0, self.channels), out, initial=around.predictions)
