"""Recurrences along lines: equal to their equations, pixel by pixel, forward and backward, in torch and compiled."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rastrum.layers.recurrent import SPATIAL, DiagonalScan, RowScan, Scan, skew, unskew
from rastrum.native import native_for

State = dict[tuple[int, int], Tensor]


def by_pixel(scan: Scan, gates: Tensor) -> Tensor:
    """The scan as in its equations: gates (B, H, W, 4n) → h (B, H, W, n)."""
    batch, height, width, _ = gates.shape
    first_h, first_c = scan.first_h.expand(batch, -1), scan.first_c.expand(batch, -1)
    h: State = {}
    c: State = {}
    for i in range(height):
        for j in reversed(range(width)) if isinstance(scan, DiagonalScan) and scan.from_right else range(width):
            if isinstance(scan, DiagonalScan):
                kept = (i, j + 1 if scan.from_right else j - 1)
                seen = [kept, (i - 1, j)]
            else:
                seen, kept = [(i - 1, j + offset) for offset in scan.offsets], (i - 1, j)
            total = gates[:, i, j]
            for position, weight in zip(seen, scan.weights, strict=True):
                total = total + h.get(position, first_h) @ weight
            o, f, *u, into, g = total.unflatten(1, (scan.groups, scan.cell.gates, -1)).unbind(2)
            cell = torch.sigmoid(f) * c.get(kept, first_c).unflatten(1, (scan.groups, -1)) + torch.sigmoid(into) * torch.tanh(g)
            if u:                                                         # a spatial LSTM: a second gate, for the cell above
                cell = cell + torch.sigmoid(u[0]) * c.get((i - 1, j), first_c).unflatten(1, (scan.groups, -1))
                h[i, j], c[i, j] = torch.tanh(torch.sigmoid(o) * cell).flatten(1), cell.flatten(1)
            else:
                h[i, j], c[i, j] = (torch.sigmoid(o) * torch.tanh(cell)).flatten(1), cell.flatten(1)
    return torch.stack([torch.stack([h[i, j] for j in range(width)], 1) for i in range(height)], 1)


def build(kind: str, units: int, groups: int, dtype: torch.dtype, generator: torch.Generator) -> Scan:
    if kind in ("from left", "from right"):
        scan = DiagonalScan(units, groups, from_right=kind == "from right")
    elif kind == "spatial":
        scan = DiagonalScan(units, groups, SPATIAL)
    else:
        scan = RowScan(units, (-1, 0, 1), groups) if kind == "row" else Scan(units, (-2, 1), groups)
    for parameter in scan.to(dtype).parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return scan


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("units, groups", [(20, 1), (6, 3)])
@pytest.mark.parametrize("size", [(4, 5), (1, 4), (5, 1), (6, 3)], ids=str)
@pytest.mark.parametrize("kind", ["row", "from left", "from right", "lines", "spatial"])
def test_a_scan_is_its_equations(kind: str, size: tuple[int, int], units: int, groups: int, dtype: torch.dtype) -> None:
    """Values and every gradient, including learned initial states; float64 in torch, float32 compiled."""
    generator = torch.Generator().manual_seed(0)
    scan = build(kind, units, groups, dtype, generator)
    gates = torch.randn(3, *size, scan.cell.gates * units, generator=generator, dtype=dtype, requires_grad=True)
    direction = torch.randn(3, *size, units, generator=generator, dtype=dtype)
    ours = scan(gates.permute(1, 2, 0, 3)).permute(2, 0, 1, 3) if kind == "lines" else scan(gates)
    results = [ours, by_pixel(scan, gates)]
    torch.testing.assert_close(*results, rtol=0, atol=1e-12 if dtype == torch.float64 else 4e-6)
    mine, theirs = (torch.autograd.grad((h * direction).sum(), [gates, *scan.parameters()]) for h in results)
    for found, exact in zip(mine, theirs, strict=True):
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-11 if dtype == torch.float64 else 4e-5)


@pytest.mark.parametrize("kind", ["row", "from left", "from right", "spatial"])
def test_images_do_not_meet_in_a_compiled_scan(kind: str) -> None:
    """An image has the same bits alone, in a batch, and without a gradient, when all images share an arena; the backward pass keeps it
    intact."""
    generator = torch.Generator().manual_seed(0)
    scan = build(kind, 6, 3, torch.float32, generator)
    gates = torch.randn(4, 3, 5, 6 * scan.cell.gates, generator=generator, requires_grad=True)
    h = scan(gates)
    assert native_for(gates) is None or "Native" in str(h.grad_fn)
    with torch.no_grad():
        assert torch.equal(scan(gates), h)
        assert torch.equal(torch.cat([scan(image[None]) for image in gates]), h)
    first, again = (torch.autograd.grad(h.square().sum(), [gates, *scan.parameters()], retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    alone = torch.cat([torch.autograd.grad(scan(image[None]).square().sum(), gates)[0][i, None] for i, image in enumerate(gates)])
    assert torch.equal(first[0], alone)


@pytest.mark.parametrize("size", [(3, 4), (1, 1), (4, 2)], ids=str)
def test_a_skewed_map_has_diagonals_for_columns(size: tuple[int, int]) -> None:
    """Row i is moved i columns to the right, with zeros elsewhere, and unskewing restores the map."""
    height, width = size
    x = torch.arange(1.0, 1 + 2 * height * width).view(2, height, width, 1)
    skewed = skew(x)
    for row in range(height):
        for column in range(width + height - 1):
            inside = 0 <= column - row < width
            assert torch.equal(skewed[:, row, column], x[:, row, column - row] if inside else torch.zeros(2, 1))
    assert torch.equal(unskew(skewed), x)
