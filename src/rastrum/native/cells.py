"""The formulas of recurrent cells, written once for torch tensors and for the vectors of compiled loops (``Lanes``).

Gates in the order o (output), f (forget), i (input), g (content); a spatial LSTM has [o f u i g], f for the cell to the left, u for the
cell above. Importing this needs no numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    from .lanes import Lanes

    Values = TypeVar("Values", Tensor, Lanes)


def sigmoid(x: Values) -> Values:
    return 1.0 / ((x * -1.0).exp() + 1.0)


def tanh(x: Values) -> Values:
    return sigmoid(x * 2.0) * 2.0 - 1.0


def activate(*pre_activations: Values) -> list[Values]:
    """Pre-activations → gates: the sigmoid of all but the last, which is the content: its tanh."""
    return [*map(sigmoid, pre_activations[:-1]), tanh(pre_activations[-1])]


def lstm(o: Values, f: Values, i: Values, g: Values, before: Values) -> list[Values]:
    """Returns the cell f · before + i · g, and h = o tanh(cell); o, f, i and g after their nonlinearities (``activate``)."""
    c = f * before + i * g
    return [c, o * tanh(c)]


def lstm_gradient(
    grad_h: Values, grad_c: Values, o: Values, f: Values, i: Values, g: Values, before: Values, c: Values
) -> list[Values]:
    """Gradients of the pre-activations of o, f, i, g and of the cell before; grad_c: of the cell after, without the part through h."""
    shown = tanh(c)
    grad_c = grad_c + grad_h * o * (1.0 - shown * shown)
    return [
        grad_h * shown * o * (1.0 - o),
        grad_c * before * f * (1.0 - f),
        grad_c * g * i * (1.0 - i),
        grad_c * i * (1.0 - g * g),
        grad_c * f,
    ]


def spatial_lstm(o: Values, f: Values, u: Values, i: Values, g: Values, left: Values, up: Values) -> list[Values]:
    """Returns the cell f · left + u · up + i · g, and h = tanh(o · cell) (Theis & Bethge 2015, section 2.1)."""
    c = f * left + u * up + i * g
    return [c, tanh(o * c)]


def spatial_lstm_gradient(
    grad_h: Values, grad_c: Values, o: Values, f: Values, u: Values, i: Values, g: Values, left: Values, up: Values, c: Values
) -> list[Values]:
    """Gradients of the pre-activations of o, f, u, i, g and of the cells before, left and up."""
    h = tanh(o * c)
    grad_shown = grad_h * (1.0 - h * h)
    grad_c = grad_c + grad_shown * o
    return [
        grad_shown * c * o * (1.0 - o),
        grad_c * left * f * (1.0 - f),
        grad_c * up * u * (1.0 - u),
        grad_c * g * i * (1.0 - i),
        grad_c * i * (1.0 - g * g),
        grad_c * f,
        grad_c * u,
    ]
