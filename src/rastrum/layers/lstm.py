"""The cell of an LSTM without peepholes, for vectors and for maps: c ← σ(f)·c + σ(i)·tanh(g), h ← σ(o)·tanh(c).

Gates in the order o (output), f (forget), i (input), g (content), as in ``native/cells.py`` and in step programs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..native import native_for


def cell(gates: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM.

    gates: pre-activations [o f i g], (…, 4 S).
    before: the cell before, (…, S).

    Returns h and the new cell, both of the shape of ``before``.
    """
    native = native_for(gates)
    if native is not None:
        return native.LSTMCell.apply(gates, before)
    o, f, i, g = gates.chunk(4, -1)
    c = torch.addcmul(torch.sigmoid(i) * torch.tanh(g), torch.sigmoid(f), before)
    return torch.sigmoid(o) * torch.tanh(c), c


@torch.no_grad()
def reorder_drawn_gates(layer: nn.Module, units: int) -> None:
    """Reorder the gates of a layer's outputs, just initialised as [i f o g], to [o f i g].

    So a seed gives the function that it gave before the order was changed.

    layer: linear, convolutional or an embedding; changed in place.
    units: of each LSTM whose gates the layer computes.
    """
    for parameter in layer.parameters():
        parameter.copy_(swap_output_and_input(parameter, units, gates_dim(layer)))


def reorder_gates_of_format_1(model: nn.Module, layers: tuple[str, ...], units: int, tensors: dict[str, Tensor]) -> None:
    """DRAW and conv-DRAW had their gates as [i f o g] in files of format 1; since format 2 they are [o f i g], as in all models.

    model: the model that the tensors are for.
    layers: names of the submodules whose outputs are gates; their own submodules count too.
    units: of each LSTM whose gates a layer computes.
    tensors: by name; changed in place.
    """
    for key, value in tensors.items():
        layer, _, _ = key.rpartition(".")
        if layer.partition(".")[0] in layers:
            tensors[key] = swap_output_and_input(value, units, gates_dim(model.get_submodule(layer)))


def gates_dim(layer: nn.Module) -> int:
    """The dimension of a layer's parameters that runs over its outputs."""
    return 1 if isinstance(layer, nn.Embedding) else 0


def swap_output_and_input(parameter: Tensor, units: int, dim: int = 0) -> Tensor:
    """A copy with gates [i f o g] as [o f i g], or back.

    parameter: gates of one or several LSTMs along ``dim``.
    units: of each LSTM.
    dim: that the gates lie along, 0 by default.
    """
    first, f, third, g = parameter.unflatten(dim, (-1, 4, units)).unbind(dim + 1)
    return torch.stack((third, f, first, g), dim + 1).flatten(dim, dim + 2)
