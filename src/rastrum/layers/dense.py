"""A linear layer that a recurrent model runs at every step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..native import native_for
from ..native.panels import PANEL


class Repeated:
    """The layer in one pass over the steps, while its parameters do not change.

    layer: the parameters.
    batch: rows of x.
    """

    def __init__(self, layer: nn.Linear, batch: int) -> None:
        self.layer, self.compiled = layer, None
        trained = torch.is_grad_enabled() and batch >= PANEL              # fewer do not pay for packing the weights
        if trained and native_for(layer.weight) is not None and not torch.is_autocast_enabled("cpu"):
            from ..native.dense import Layer, Weight

            self.compiled = Layer(layer.weight)
            self.weight = Weight.apply(layer.weight, self.compiled)

    def __call__(self, x: Tensor, initial: Tensor | None = None) -> Tensor:
        """initial + x · weightᵀ.

        x: (B, K).
        initial: (N,) or (B, N); None (default) for the layer's bias.

        Returns (B, N).
        """
        initial = self.layer.bias if initial is None else initial
        if self.compiled is None:
            return torch.addmm(initial, x, self.layer.weight.t())
        from ..native.dense import Step

        return Step.apply(self.weight, x, initial, self.compiled)         # pyright: ignore[reportReturnType]
