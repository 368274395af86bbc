"""Recurrences along lines: equal to their equations, pixel by pixel, forward and back, in torch and compiled."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rastrum.layers.recurrent import SPATIAL, DiagonalScan, RowScan, Scan, skew, unskew

State = dict[tuple[int, int], Tensor]


def by_pixel(scan: Scan, gates: Tensor) -> Tensor:
    """The scan as its equations say it: gates (B, H, W, 4n) → h (B, H, W, n)."""
    batch, height, width, _ = gates.shape
    first_h, first_c = scan.first_h.expand(batch, -1), scan.first_c.expand(batch, -1)
    h: State = {}
    c: State = {}
    for i in range(height):
        for j in range(width):
            if isinstance(scan, DiagonalScan):
                seen, kept = [(i, j - 1), (i - 1, j)], (i, j - 1)
            else:
                seen, kept = [(i - 1, j + offset) for offset in scan.offsets], (i - 1, j)
            total = gates[:, i, j]
            for place, weight in zip(seen, scan.weights, strict=True):
                total = total + h.get(place, first_h) @ weight
            o, f, *u, into, g = total.unflatten(1, (scan.groups, scan.cell.gates, -1)).unbind(2)
            cell = torch.sigmoid(f) * c.get(kept, first_c).unflatten(1, (scan.groups, -1)) + torch.sigmoid(into) * torch.tanh(g)
            if u:                                                         # a spatial LSTM: a second gate, for the cell above
                cell = cell + torch.sigmoid(u[0]) * c.get((i - 1, j), first_c).unflatten(1, (scan.groups, -1))
                h[i, j], c[i, j] = torch.tanh(torch.sigmoid(o) * cell).flatten(1), cell.flatten(1)
            else:
                h[i, j], c[i, j] = (torch.sigmoid(o) * torch.tanh(cell)).flatten(1), cell.flatten(1)
    return torch.stack([torch.stack([h[i, j] for j in range(width)], 1) for i in range(height)], 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("size", [(4, 5), (1, 4), (5, 1), (6, 3)], ids=str)
@pytest.mark.parametrize("kind", ["row", "diagonal", "spatial"])
def test_a_scan_is_its_equations(kind: str, size: tuple[int, int], groups: int, dtype: torch.dtype) -> None:
    """Values and every gradient, learned initial states among them; float64 by torch, float32 by the compiled cell."""
    generator = torch.Generator().manual_seed(0)
    scans = {"row": RowScan(6, (-1, 0, 1), groups), "diagonal": DiagonalScan(6, groups), "spatial": DiagonalScan(6, groups, SPATIAL)}
    scan = scans[kind].to(dtype)
    for parameter in scan.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    gates = torch.randn(2, *size, 6 * scan.cell.gates, generator=generator, dtype=dtype, requires_grad=True)
    direction = torch.randn(2, *size, 6, generator=generator, dtype=dtype)
    results = [scan(gates), by_pixel(scan, gates)]
    torch.testing.assert_close(*results, rtol=0, atol=1e-12 if dtype == torch.float64 else 2e-6)
    ours, theirs = (torch.autograd.grad((h * direction).sum(), [gates, *scan.parameters()]) for h in results)
    for mine, exact in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, exact, rtol=0, atol=1e-11 if dtype == torch.float64 else 2e-5)


@pytest.mark.parametrize("size", [(3, 4), (1, 1), (4, 2)], ids=str)
def test_a_skewed_map_has_diagonals_for_columns(size: tuple[int, int]) -> None:
    """Row i stands i columns to the right, zeros elsewhere, and unskewing gives the map back."""
    height, width = size
    x = torch.arange(1.0, 1 + 2 * height * width).view(2, height, width, 1)
    skewed = skew(x)
    for row in range(height):
        for column in range(width + height - 1):
            inside = 0 <= column - row < width
            assert torch.equal(skewed[:, row, column], x[:, row, column - row] if inside else torch.zeros(2, 1))
    assert torch.equal(unskew(skewed), x)
