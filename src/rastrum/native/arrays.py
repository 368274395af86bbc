"""Tensors as numpy arrays."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def array(x: Tensor) -> np.ndarray:
    """A tensor that others made, to be read: a parameter, or what may be a view of one, such as an initial state of one image.

    ``Tensor.numpy`` would bind its storage for ever, which FSDP2 has to free between two steps.
    """
    return np.from_dlpack(x.detach().contiguous())
