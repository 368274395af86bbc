"""Everything that is compiled, by numba: layers that torch has no single pass for, and the loops that run step programs.

    compiler, cache      numba, and its machine code on disk
    arrays               tensors as numpy arrays
    lanes                vectors of floats, emitted as LLVM code
    panels, points       how weights lie in memory; windows of three columns (Toom–Cook)
    cells, routes        formulas of recurrent cells; how lines run over a map
    products             matrix products of training
    dense                linear layers of recurrent steps
    convolution, layers  fast forms of layers, for training, and of what stands before and after a convolution
    scan                 recurrent layers
    mixture, gaussians   the likelihood of PixelCNN++; the density of Gaussian mixtures
    codes                what the numbers in a program's tables mean
    exact                exp, log … with exactly specified results
    linear, elementwise  the operations of a step program
    interpreter          runs a program's tables
    cdf, heads           the integer CDF; the mixture that a program's output describes
    noise, coder         Philox; the range coder
    walk                 the loop over decisions: network, draw or coder, value written back
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..autocast import is_cast


def native_for(x: Tensor) -> Any:
    """The module of compiled layers (``native.layers``) if it can take ``x``: float32 on a CPU, numba installed; else None.

    Under autocasting they take half precision too, as float32 (``autocast.Function``). ``torch.compile`` gets torch's own operations,
    which it fuses.

    Imported when first used, because importing numba takes half a second.
    """
    if torch.compiler.is_compiling() or x.device.type != "cpu" or (x.dtype != torch.float32 and not is_cast(x)):
        return None
    from . import compiler

    if not compiler.available:
        return None
    from . import layers

    return layers
