"""Factorised mixture of conditional Gaussian scale mixtures (Theis & Bethge 2015, section 2.1, equations 3 to 5; Theis et al. 2012).

    p(k, s | h)     ∝ exp(η_ks − ½ e^α_ks Σ_n w_kn² (b_nᵀ h)²)          weights of K components and S scales, normalised together
    p(y | h, k, s)  = N(y; a_kᵀ h, precision e^α_ks)

The b_n are shared by all components, so a component costs one value w per feature and not a matrix. Together K · S Gaussians: in a program
they are the parameters [log weights | means | log scales] · KS, the last of which do not depend on h.
"""

from __future__ import annotations

from decimal import Decimal

import torch
from torch import Tensor, nn

from ..autocast import full_precision
from ..devices import as_like, float64_device, in_float64
from ..program.builder import Program, View
from .causal import matmul


class MCGSM(nn.Module):
    """The mixture of y given h; parameters eta, alpha (K, S), w (N, K), b (inputs, N), a (inputs, K).

    inputs: length of h.
    components: K.
    scales: S of each component.
    features: N.
    """

    def __init__(self, inputs: int, components: int, scales: int, features: int) -> None:
        super().__init__()
        self.inputs, self.gaussians, self.scales = inputs, components * scales, scales
        self.eta = nn.Parameter(torch.zeros(components, scales))
        # From as wide as the whitened pixel to a level or so; w so small that the narrow ones have their share of the pixels at first.
        self.alpha = nn.Parameter(torch.linspace(0, 8, scales) + 0.1 * torch.randn(components, scales))
        self.w = nn.Parameter(0.1 + 0.025 * torch.randn(features, components))
        self.b = nn.Parameter(torch.randn(inputs, features) * inputs**-0.5)
        self.a = nn.Parameter(0.1 * torch.randn(inputs, components) * inputs**-0.5)

    def forward(self, h: Tensor, base: Tensor, log_unit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The K · S Gaussians of base + e^log_unit · y.

        h: (…, inputs).
        base: what the means are added to, (…, 1).
        log_unit: logarithm of the unit of y, ().

        Returns log weights and means, (…, KS) each, and log standard deviations (KS,), which do not depend on h.
        """
        with full_precision():                                            # the squares are multiplied by up to e^8
            h = h.to(self.a.dtype)
            gates = -0.5 * self.alpha.exp() * self.w.square().unsqueeze(-1)
            logits = matmul(matmul(h, self.b).square(), gates.flatten(1), self.eta.flatten())
            means = base + matmul(h, (self.a * log_unit.exp()).repeat_interleave(self.scales, -1))
        return logits, means, log_unit - 0.5 * self.alpha.flatten()

    def lower(self, program: Program, h: View, base: View, log_unit: Tensor) -> View:
        """The K · S Gaussians of base + e^log_unit · y in a step program.

        program: takes the operations.
        h: the input, a feature map of the pixel phases.
        base: what the means are added to, a feature map of one channel.
        log_unit: logarithm of the unit of y, a tensor of one value.

        Returns a feature map [log weights | means | log scales].
        """
        unit = exact_exp(log_unit)
        log_scales = as_like(in_float64(log_unit) - 0.5 * in_float64(self.alpha).flatten(), self.a)
        gates = -0.5 * exact_exp(self.alpha).unsqueeze(0) * in_float64(self.w).square().unsqueeze(-1)
        means = (in_float64(self.a) * unit).repeat_interleave(self.scales, -1)
        out = program.map(3 * self.gaussians, initial=torch.cat([torch.zeros(2 * self.gaussians).to(log_scales), log_scales]))
        squares = program.apply("square", program.linear(h, self.b))
        program.linear(squares, as_like(gates.flatten(1), self.a), self.eta.flatten(), destination=out.part(0, 3))
        bases = program.linear(base, torch.ones(1, self.gaussians).to(log_scales))
        program.linear(h, as_like(means, self.a), initial=bases, destination=out.part(1, 3))
        return out


def exact_exp(x: Tensor) -> Tensor:
    """e^x in float64 (on the CPU, if its device has no such type), correctly rounded: a library's exp differs from machine to machine, and
    this one goes into files."""
    exact = [float(Decimal(value).exp()) for value in x.detach().flatten().tolist()]
    return torch.tensor(exact, dtype=torch.float64, device=float64_device(x.device)).view(x.shape)
