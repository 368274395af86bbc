"""The step program on its own: phases in their order, recurrences in both directions, and what the builder refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import rastrum
from rastrum import ImageSpec
from rastrum.native import codes
from rastrum.program import Program, TorchInterpreter
from rastrum.program.builder import OPERATIONS, View
from rastrum.program.optimise import optimise

DOCS = Path(__file__).parents[1] / "docs"
LAYERS, UNITS = 2, 3


def parameters(seed: int) -> dict[str, Tensor]:
    """A two-layer, two-direction diagonal LSTM (0: left to right, 1: right to left) over a grey image; gates in the order o f i g."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64) * 0.6

    weights = {"in": draw(1, UNITS), "above": draw(1, UNITS), "out": draw(UNITS, 1)}
    for layer in range(LAYERS):
        weights[f"up{layer}"] = draw(UNITS, UNITS)
        for way in range(2):
            weights |= {f"{name}{layer}{way}": draw(UNITS, 4 * UNITS) for name in ("input", "from_above", "from_side")}
            weights |= {f"bias{layer}{way}": draw(4 * UNITS), f"h{layer}{way}": draw(UNITS), f"c{layer}{way}": draw(UNITS)}
    return weights


def cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    o, f, i, g = gates.chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def forward(p: dict[str, Tensor], x: Tensor) -> Tensor:
    """Position by position, straight from the equations: x (B, H, W) scaled → logits (B, H, W)."""
    batch, height, width = x.shape
    zero = x.new_zeros(batch, 1)

    def value(row: int, column: int) -> Tensor:
        return x[:, row, column, None] if row >= 0 and column >= 0 else zero

    f = {(r, c): value(r, c - 1) @ p["in"] + value(r - 1, c) @ p["above"] for r in range(height) for c in range(width)}
    for layer in range(LAYERS):
        h: list[dict[tuple[int, int], Tensor]] = [{}, {}]
        for way, side in ((0, -1), (1, 1)):
            first = p[f"h{layer}{way}"].expand(batch, -1)
            for r in range(height):
                c_side = p[f"c{layer}{way}"].expand(batch, -1)
                for c in range(width) if way == 0 else reversed(range(width)):
                    gates = p[f"bias{layer}{way}"] + f[r, c] @ p[f"input{layer}{way}"]
                    gates = gates + h[way].get((r - 1, c), first) @ p[f"from_above{layer}{way}"]
                    gates = gates + h[way].get((r, c + side), first) @ p[f"from_side{layer}{way}"]
                    h[way][r, c], c_side = cell(gates, c_side)
        nothing = x.new_zeros(batch, UNITS)
        f = {(r, c): f[r, c] + (h[0][r, c] + h[1].get((r - 1, c), nothing)) @ p[f"up{layer}"] for r, c in f}
    return torch.stack([torch.stack([(f[r, c] @ p["out"])[:, 0] for c in range(width)], 1) for r in range(height)], 1)


def lower(p: dict[str, Tensor], program: Program) -> None:
    x = program.values()
    with program.phase("row"):
        above = program.linear(x, p["above"])
    f = program.map(UNITS)
    for _ in program.each_group():
        program.linear(x.window(-1, -1), p["in"], initial=above, destination=f)
    for layer in range(LAYERS):

        def weight(name: str, way: int, layer: int = layer) -> Tensor:
            return p[f"{name}{layer}{way}"]

        h = [program.map(UNITS, initial=weight("h", way)) for way in range(2)]
        cells = [program.map(UNITS, single=True) for _ in range(2)]
        first = [program.map(UNITS, single=True, initial=weight("c", way)) for way in range(2)]
        with program.phase("row", 0):
            gates = [program.linear(h[way], weight("from_above", way), weight("bias", way)) for way in range(2)]
            program.linear(f, weight("input", 1), initial=gates[1], destination=gates[1])
            for way in range(2):
                program.append("copy", first[way], cells[way])
        with program.phase("row_reversed", 0, first_row=1):
            program.linear(h[1].window(1, 1), weight("from_side", 1), initial=gates[1], destination=gates[1])
            program.append("lstm", gates[1], h[1], cells[1])
        with program.phase("row", 1, first_row=1):
            down: View = program.apply("copy", h[1])
        following = program.map(UNITS)
        for _ in program.each_group():
            program.linear(f, weight("input", 0), initial=gates[0], destination=gates[0])
            program.linear(h[0].window(-1, -1), weight("from_side", 0), initial=gates[0], destination=gates[0])
            program.append("lstm", gates[0], h[0], cells[0])
            program.linear(h[0], p[f"up{layer}"], initial=f, destination=following)
            program.linear(down, p[f"up{layer}"], initial=following, destination=following)
        f = following
    for _ in program.each_group():
        program.output(0, program.linear(f, p["out"]))


@pytest.mark.parametrize("size", [(4, 5), (1, 4), (5, 1), (2, 2)])
def test_diagonal_lstm_of_two_directions_equals_its_forward(size: tuple[int, int]) -> None:
    """Row, reversed row, row, pixel: a bidirectional recurrence fits the phases, and its step equals its forward."""
    p, batch, spec = parameters(0), 3, ImageSpec(1, *size, 5)
    x = torch.randint(0, 5, (batch, *size), generator=torch.Generator().manual_seed(1))
    program = Program(spec)
    lower(p, program)
    kinds = [(phase.kind, phase.index) for phase in program.phases.values()]
    assert kinds == [("row", 0), ("channel", 0), ("row_reversed", 0), ("row", 1)]
    run = TorchInterpreter(program, batch, torch.float64, torch.device("cpu"))
    expected = forward(p, spec.scale(x, torch.float64)).flatten(1)
    for t in range(spec.size):
        if t == spec.size // 2:
            run = run.select(torch.tensor([2, 0, 1])).select(torch.tensor([1, 2, 0]))
        torch.testing.assert_close(run.parameters(t)[:, 0], expected[:, t], rtol=0, atol=1e-12)
        run.write(t, x.flatten(1)[:, t])


def test_an_unread_output_still_runs_its_phases() -> None:
    """If known values are written without asking for the distribution, what follows is the same."""
    p, spec = parameters(3), ImageSpec(1, 3, 4, 5)
    x = torch.randint(0, 5, (2, 12), generator=torch.Generator().manual_seed(1))
    runs = []
    for ask in (True, False):
        program = Program(spec)
        lower(p, program)
        run = TorchInterpreter(program, 2, torch.float64, torch.device("cpu"))
        for t in range(11):
            if ask:
                run.parameters(t)
            run.write(t, x[:, t])
        runs.append(run.parameters(11).clone())
    assert torch.equal(*runs)


def test_float32_follows_float64() -> None:
    """Any dtype: float32 stays within rounding of float64 over a whole image."""
    p, spec = parameters(5), ImageSpec(1, 6, 6, 5)
    x = torch.randint(0, 5, (2, 36), generator=torch.Generator().manual_seed(1))
    outputs = []
    for dtype in (torch.float32, torch.float64):
        program = Program(spec)
        lower({name: weight.to(dtype) for name, weight in p.items()}, program)
        run = TorchInterpreter(program, 2, dtype, torch.device("cpu"))
        rows = []
        for t in range(36):
            rows.append(run.parameters(t).double().clone())
            run.write(t, x[:, t])
        outputs.append(torch.cat(rows))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=2e-5)


def test_the_builder_refuses_what_does_not_fit() -> None:
    program = Program(ImageSpec(1, 2, 3, 4))
    x = program.values()
    with pytest.raises(AssertionError, match="one input map"):
        program.values()
    with pytest.raises(AssertionError, match="belong to a phase"):
        program.append("copy", x, program.map(1))
    with program.phase("row"), pytest.raises(AssertionError, match="2 rows for 1 values"):
        program.linear(x, torch.zeros(2, 2))


def test_a_gates_factor_stays_out_of_a_map_that_others_read() -> None:
    """Factors are folded into the weights that write a map only if gates alone read it; the result is tanh · σ either way, also with a
    bias."""
    spec, generator = ImageSpec(1, 2, 3, 4), torch.Generator().manual_seed(0)
    weight, bias, again, out = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((1, 6), (6,), (1, 6), (3, 6)))
    for shown in (False, True):
        program = Program(spec)
        x = program.values()
        with program.phase("row"):
            gates = program.linear(x, weight, bias)
            program.linear(x, again, initial=gates, destination=gates)
            opened = program.apply("gate", gates)
        for _ in program.each_group():
            program.output(0, program.linear(opened, out, initial=gates if shown else None))
        run = TorchInterpreter(program, 1, torch.float64, torch.device("cpu"))
        assert len(run._folded) == (0 if shown else 3)
        for t, value in enumerate((3, 0, 2)):
            run.parameters(t)
            run.write(t, torch.tensor([value]))
        for t, value in enumerate((3, 0, 2)):
            expected = spec.scale(torch.tensor([[value]]), torch.float64) @ (weight + again) + bias
            a, b = expected.chunk(2, -1)
            wanted = (torch.tanh(a) * torch.sigmoid(b)) @ out + (expected if shown else 0.0)
            torch.testing.assert_close(run.parameters(3 + t), wanted, rtol=0, atol=1e-12)
            run.write(3 + t, torch.tensor([0]))


def test_a_map_of_its_own_pixel_keeps_one_column() -> None:
    """Only if nothing reads another column or row of the map. The map is half of x(left); the output is twice it, or twice its left
    neighbour."""
    spec, weight = ImageSpec(1, 2, 4, 5), torch.tensor([[0.5]], dtype=torch.float64)
    for read, columns in (("own", 1), ("left", 4), ("row", 4)):
        program = Program(spec)
        x = program.values()
        for _ in program.each_group():
            h = program.linear(x.window(-1, -1), weight)
            program.output(0, program.linear(h.window(-1, -1) if read == "left" else h, weight * 4))
        if read == "row":
            with program.phase("row"):
                program.apply("copy", h)
        optimise(program)
        assert (h.buffer.columns, h.buffer.single) == (columns, columns == 1)
        run = TorchInterpreter(program, 1, torch.float64, torch.device("cpu"))
        values = torch.tensor([3, 0, 4, 1, 2, 2, 1, 0])
        shown = []
        for t, value in enumerate(values):
            shown.append(float(run.parameters(t)))
            run.write(t, value[None])
        back = 2 if read == "left" else 1
        scaled = spec.scale(values, torch.float64).view(2, 4)
        expected = torch.nn.functional.pad(scaled, (back, 0))[:, :4].flatten()
        torch.testing.assert_close(torch.tensor(shown, dtype=torch.float64), expected)


def test_documents_and_codes_agree_with_the_table_of_operations() -> None:
    """Operands of every operation in the builder's order, a distinct code for each, and a definition of each in arithmetic.md."""
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (\S+) \| (\d) \| (\S*) \|", (DOCS / "program.md").read_text(), re.M)
    said = [(name, *(0 if parts == "any" else int(parts) for parts in sizes), place == "yes") for name, *sizes, place in rows]
    assert said == [(kind, rule.source, rule.destination, rule.base, rule.in_place) for kind, rule in OPERATIONS.items()]
    assert [rule.code for rule in OPERATIONS.values()] == [getattr(codes, kind.upper()) for kind in OPERATIONS]
    assert sorted(rule.code for rule in OPERATIONS.values()) == list(range(len(OPERATIONS)))
    cells = re.findall(r"^\| ([a-z_, ]+) \|", (DOCS / "arithmetic.md").read_text(), re.M)
    assert OPERATIONS.keys() <= {name.strip() for cell in cells for name in cell.split(",")}


def test_a_program_is_kept_until_a_parameter_changes_and_not_for_a_subclass() -> None:
    model: Any = rastrum.build("gated-pixelcnn", ImageSpec(1, 4, 4, 4), "tiny", seed=0)
    first = model.lowered()
    assert model.lowered() is first
    next(model.parameters()).data.mul_(2)                                # no version counter sees this
    assert model.lowered() is not first and model.lowered() is model.lowered()

    class Mine(type(model)):
        pass

    mine = Mine(model.spec, model.config)
    assert mine.lowered() is not mine.lowered()
