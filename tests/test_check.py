"""``check`` finds the faults that public implementations have, planted here in small networks written the usual way, and no others.

The networks know nothing of Rastrum's layers: masked convolutions over (B, C, H, W) in plain torch.
"""

from __future__ import annotations

import random
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toy_models import BottomUp, TwoResolutions

import rastrum
from rastrum import ConditionSpec, ImageSpec, RasterModel
from rastrum.applications.dependencies import dependency_strengths
from rastrum.checking import Line, Report, check, context_of
from rastrum.distributions import Categorical, LogisticMixture
from rastrum.models.gated_pixelcnn import GatedPixelCNN
from rastrum.protocol import raster_order

GREY = ImageSpec(1, 5, 5, 3)
RGB = ImageSpec(3, 3, 3, 4)


@pytest.fixture(autouse=True)
def fixed_parameters() -> None:
    torch.manual_seed(5)


def faults(report: Report) -> set[str]:
    return {line.name for line in report.lines if line.ok is False}


def line(report: Report, name: str) -> Line:
    return next(line for line in report.lines if line.name == name)


# ── masked convolutions ──────────────────────────────────────────────────────────────────────────────────────────────


class MaskedConvolution(nn.Conv2d):
    """Sees rows above, columns to the left, and of its own pixel: the colour groups before (mask A) or up to its own (mask B)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, mask: str, groups: int = 1, interleaved: bool = False) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        middle = kernel // 2
        seen = torch.zeros(outputs, inputs, kernel, kernel, dtype=torch.bool)
        seen[:, :, :middle] = True
        seen[:, :, middle, :middle] = True
        to, source = (torch.arange(n) % groups if interleaved else torch.arange(n) * groups // n for n in (outputs, inputs))
        seen[:, :, middle, middle] = source[None] < to[:, None] if mask == "A" else source[None] <= to[:, None]
        self.seen: Tensor
        self.register_buffer("seen", seen)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight * self.seen, self.bias)


class MaskedStack(RasterModel):
    """The usual PixelCNN. masks: one per layer; mixed: the second layer's colour groups are interleaved where the others' are blocks."""

    def __init__(self, spec: ImageSpec, masks: str = "ABB", mixed: bool = False, norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__(spec)
        width, layers = 4 * spec.channels, []
        for i, mask in enumerate(masks):
            layers += [MaskedConvolution(width if i else spec.channels, width, 3, mask, spec.channels, mixed and i == 1)]
            layers += [nn.BatchNorm2d(width)] if norm else []
            layers += [nn.Tanh(), nn.Dropout(dropout)]
        self.network = nn.Sequential(*layers, MaskedConvolution(width, spec.channels * spec.levels, 1, "B", spec.channels))

    def distribution(self, x: Tensor, condition: Tensor | None = None) -> Categorical:
        logits = self.network(self.spec.scale(x, self.dtype))
        return Categorical(logits.unflatten(1, (self.spec.channels, self.spec.levels)).permute(0, 1, 3, 4, 2))


Fault = Literal["row left out in each layer", "row left out and shifted", "right stream unshifted"]


class GatedStack(RasterModel):
    """The usual Gated PixelCNN for grey images: the vertical stack leaves out its own row in the first layer only. It promises to see all
    earlier pixels."""

    def __init__(self, fault: Fault | None = None, layers: int = 3, width: int = 6, spec: ImageSpec = GREY) -> None:
        super().__init__(spec)
        self.fault = fault
        self.vertical = nn.ModuleList(nn.Conv2d(width if i else 1, 2 * width, (2, 5)) for i in range(layers))
        self.horizontal = nn.ModuleList(nn.Conv2d(width if i else 1, 2 * width, (1, 2)) for i in range(layers))
        self.down = nn.ModuleList(nn.Conv2d(2 * width, 2 * width, 1) for _ in range(layers))
        self.output = nn.Conv2d(width, spec.levels, 1)

    def distribution(self, x: Tensor, condition: Tensor | None = None) -> Categorical:
        v = h = self.spec.scale(x, self.dtype)
        for i, (vertical, horizontal, down) in enumerate(zip(self.vertical, self.horizontal, self.down, strict=True)):
            leave_out = self.fault == "row left out in each layer" or (i == 0 and self.fault != "right stream unshifted")
            rows = vertical(F.pad(v, (2, 2, 2, 0))[:, :, : v.shape[2] + 1] if leave_out else F.pad(v, (2, 2, 1, 0)))
            above = F.pad(rows, (0, 0, 1, 0))[:, :, :-1] if self.fault == "row left out and shifted" else rows
            right = F.pad(h, (2, 0))[..., :-1] if i == 0 else F.pad(h, (1, 0))
            v, out = gate(rows), gate(horizontal(right) + down(above))
            h = out if i == 0 else h + out
        return Categorical(self.output(h).permute(0, 2, 3, 1)[:, None])

    def context(self) -> Tensor:
        rank = self.order.argsort()
        return rank[None] < rank[:, None]


def gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


@pytest.mark.parametrize("spec", [GREY, RGB, ImageSpec(3, 1, 1, 2), ImageSpec(1, 2, 5, 256)], ids=str)
def test_sound_masks_pass(spec: ImageSpec) -> None:
    """No false alarm, dropout included: both forwards of a comparison draw the same."""
    assert check(MaskedStack(spec)).ok
    report = check(MaskedStack(spec, dropout=0.5))
    assert report.ok and "draws dropout" in line(report, "images apart, training").text


@pytest.mark.parametrize("spec", [GREY, RGB], ids=str)
def test_mask_b_first_lets_a_pixel_see_itself(spec: ImageSpec) -> None:
    report = check(MaskedStack(spec, "BBB"))
    assert faults(report) == {"causality, evaluation", "causality, training"}
    text = line(report, "causality, evaluation").text
    assert text.startswith(f"{spec.size} of {spec.size} decisions see their own value, 0 of {spec.size} a later one")


class Promising(MaskedStack):
    """It promises what two layers of 3x3 reach, the first without the pixel itself, with the blind spot to the upper right."""

    def context(self) -> Tensor:
        index = torch.arange(self.spec.size)
        row, column = index // self.spec.width, index % self.spec.width
        near = (row[:, None] - row[None] <= 1) & ((column[:, None] - column[None]).abs() <= 1) & (index[None] < index[:, None])
        return near.float() @ (near | torch.eye(self.spec.size, dtype=torch.bool)).float() > 0


def test_mask_a_twice_loses_the_neighbour() -> None:
    """This is not a leak: the second layer leaves out the features of the pixel itself, and with them the pixel to the left."""
    assert check(Promising(GREY, "AB")).ok
    report = check(Promising(GREY, "AA"))
    assert faults(report) == {"context"}
    assert "promised but never seen" in line(report, "context").text and "column -1 (20x)" in line(report, "context").text
    assert report.context_map(12).splitlines()[:3] == ["#####", "###-.", "#-o.."]


def test_colour_groups_mixed_up() -> None:
    """One layer interleaves its colour groups; its neighbours have them in blocks."""
    report = check(MaskedStack(RGB, mixed=True))
    assert {"causality, evaluation", "causality, training"} <= faults(report)
    assert "channel +" in line(report, "causality, evaluation").text


def test_batch_normalisation_leaks_in_training_alone() -> None:
    report = check(MaskedStack(GREY, norm=True))
    assert faults(report) == {"images apart, training", "causality, training"}
    assert "batch normalisation" in line(report, "images apart, training").text


def test_sound_stacks_pass() -> None:
    report = check(GatedStack())
    assert report.ok, str(report)
    assert "300 pairs" in line(report, "context").text


def test_blind_spot_of_a_row_left_out_in_each_layer() -> None:
    """It is causal and still wrong: the row above is seen only as far as one kernel reaches."""
    report = check(GatedStack("row left out in each layer"))
    assert faults(report) == {"context"}
    assert "promised but never seen" in line(report, "context").text
    seen, promised = report.masks(10)                                     # row 2, column 0
    assert (promised & ~seen)[0].nonzero().tolist() == [[1, 3], [1, 4]]
    assert report.context_map(10).splitlines()[:3] == ["#####", "###--", "o...."]


def test_row_left_out_and_shifted_loses_the_row_above() -> None:
    report = check(GatedStack("row left out and shifted"))
    assert faults(report) == {"context"}
    seen, promised = report.masks(12)
    assert (promised & ~seen)[0].nonzero().tolist() == [[1, c] for c in range(5)]
    assert "row -1" in line(report, "context").text
    assert "-----" in str(report)


def test_right_stream_fed_from_the_unshifted_one() -> None:
    report = check(GatedStack("right stream unshifted"))
    assert {"causality, evaluation", "causality, training"} <= faults(report)
    assert "25 of 25 decisions see their own value, 20 of 25 a later one" in line(report, "causality, evaluation").text
    assert "column +1" in line(report, "causality, evaluation").text
    assert "!" in report.context_map(12)


# ── a user's models ──────────────────────────────────────────────────────────────────────────────────────────────────

SPECS = [ImageSpec(1, 3, 4, 2), ImageSpec(3, 2, 2, 3), ImageSpec(1, 1, 1, 256), ImageSpec(1, 1, 2, 256), ImageSpec(1, 2, 3, 2, frames=3)]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("kind", [BottomUp, TwoResolutions])
def test_any_order_passes(kind: type[BottomUp], spec: ImageSpec) -> None:
    report = check(kind(spec))
    assert report.ok, str(report)
    assert torch.equal(report.seen, kind(spec).before)
    small = spec.levels**spec.size <= 2**16
    assert (f"all {spec.levels**spec.size} images sum to 1" in line(report, "normalisation").text) == small
    for i in range(spec.size):
        assert all(map(torch.equal, context_of(kind(spec), i), report.masks(i)))


def test_wrong_order() -> None:
    """A network that draws from the bottom up but declares an order from the top down."""

    class Upside(BottomUp):
        def __init__(self, spec: ImageSpec) -> None:
            super().__init__(spec)
            self.order = raster_order(spec)

        context = RasterModel.context  # pyright: ignore[reportAssignmentType]

    report = check(Upside(ImageSpec(1, 3, 3, 3)))
    assert faults(report) == {"causality, evaluation", "causality, training"}
    assert "row +1" in line(report, "causality, evaluation").text


class Wrapped(BottomUp):
    """The sound toy with something wrong in front: ``values`` maps (B, D) scaled values to what the network reads."""

    def __init__(self, spec: ImageSpec = GREY, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__(spec)
        self.condition_spec = condition_spec

    def values(self, x: Tensor) -> Tensor:
        return x

    def logits(self, logits: Tensor, x: Tensor, condition: Tensor | None) -> Tensor:
        return logits

    def distribution(self, x: Tensor, condition: Tensor | None = None) -> Categorical:
        values = self.values(self.spec.scale(x.flatten(1), self.dtype))
        look, bias, say = (self.weights[name] for name in ("look", "bias", "say"))
        hidden = torch.tanh(torch.einsum("bj,ihj->bih", values, look * self.before[:, None]) + bias)
        logits = torch.einsum("bih,ihl->bil", hidden, say).unflatten(1, self.spec.shape)
        return Categorical(self.logits(logits, x, condition))


class Centred(Wrapped):
    def values(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Rolled(Wrapped):
    def values(self, x: Tensor) -> Tensor:
        return x + 0.1 * x.roll(1, 0)


class Counting(Wrapped):
    def values(self, x: Tensor) -> Tensor:
        return x / len(x)


@pytest.mark.parametrize("kind, what", [(Centred, "other images"), (Rolled, "other images"), (Counting, "number of images")])
def test_images_that_see_one_another_in_evaluation(kind: type[Wrapped], what: str) -> None:
    report = check(kind())
    assert {"images apart, evaluation", "images apart, training"} <= faults(report)
    assert what in line(report, "images apart, evaluation").text


def test_leak_that_only_one_level_opens() -> None:
    """Each decision sees its own value, but only when that has the highest of 16 levels: for other levels a ReLU unit at zero hides it."""

    class Saturated(Wrapped):
        def logits(self, logits: Tensor, x: Tensor, condition: Tensor | None) -> Tensor:
            return logits + F.relu(x.to(logits) - 14)[..., None] * logits

    assert {"causality, evaluation", "causality, training"} <= faults(check(Saturated(ImageSpec(1, 4, 4, 16))))
    assert {"causality, evaluation"} <= faults(check(Saturated(ImageSpec(1, 20, 20, 16))))


CONDITIONS = [ConditionSpec("class", 4), ConditionSpec("vector", 3), ConditionSpec("map", (2, 3, 3))]


class ConditionProjection(Wrapped):
    def logits(self, logits: Tensor, x: Tensor, condition: Tensor | None) -> Tensor:
        assert self.condition_spec is not None and condition is not None and condition.shape[1:] == torch.Size(self.condition_spec.shape)
        sharpness = 2 + torch.tanh(self.mix(condition.to(logits).view(len(x), -1)))
        return logits * sharpness.view(-1, *[1] * (logits.dim() - 1))

    def mix(self, condition: Tensor) -> Tensor:
        return condition.sum(1)


class ToldOfOthers(ConditionProjection):
    def mix(self, condition: Tensor) -> Tensor:
        return condition.sum(1) + condition.mean()


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_conditions(condition: ConditionSpec) -> None:
    """Valid conditions of each kind are drawn; one that reaches another image is found."""
    spec = ImageSpec(1, 3, 3, 2)
    report = check(ConditionProjection(spec, condition))
    assert report.ok and line(report, "condition").ok, str(report)
    assert {"conditions apart, evaluation", "conditions apart, training"} <= faults(check(ToldOfOthers(spec, condition)))


def test_condition_that_changes_nothing_is_noted() -> None:
    report = check(Wrapped(GREY, CONDITIONS[0]))
    assert report.ok and line(report, "condition").ok is None


class Loud(Categorical):
    """Its probabilities sum to 1.02."""

    def log_pmf(self) -> Tensor:
        return super().log_pmf() + 0.02


class Disagreeing(Categorical):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + 0.02


@pytest.mark.parametrize("spec", [ImageSpec(1, 2, 2, 3), ImageSpec(1, 5, 5, 3)], ids=str)
@pytest.mark.parametrize("kind, name", [(Loud, "conditionals"), (Disagreeing, "log_prob")])
def test_probabilities_that_do_not_sum_to_one(kind: type[Categorical], name: str, spec: ImageSpec) -> None:
    class TooLoud(BottomUp):
        def distribution(self, x: Tensor, condition: Tensor | None = None) -> Categorical:
            return kind(super().distribution(x).logits)

    kind.__getitem__ = lambda self, index: kind(self.logits[index])
    report = check(TooLoud(spec))
    assert faults(report) == {name, *(["normalisation"] if spec.size == 4 else [])}
    assert line(report, "normalisation").ok is (False if spec.size == 4 else None)


def test_distribution_of_the_wrong_shape_or_numbers() -> None:
    class Transposed(BottomUp):
        def distribution(self, x: Tensor, condition: Tensor | None = None) -> Categorical:
            return Categorical(super().distribution(x).logits.transpose(2, 3))

    class Broken(BottomUp):
        def distribution(self, x: Tensor, condition: Tensor | None = None) -> Categorical:
            return Categorical(super().distribution(x).logits * torch.nan)

    for kind, words in ((Transposed, "expected"), (Broken, "are nan")):
        report = check(kind(ImageSpec(1, 2, 3, 3)))
        assert faults(report) == {"distribution"} and words in str(report)


def test_model_that_casts_to_a_type_of_its_own() -> None:
    """A user's ``x.float()`` prevents float64; the model is checked in its own precision."""

    class Cast(MaskedStack):
        def distribution(self, x: Tensor, condition: Tensor | None = None) -> Categorical:
            return Categorical(self.network(x.float() - 1).permute(0, 2, 3, 1)[:, None])

    assert check(Cast(GREY)).ok
    assert not check(Cast(GREY, "BB")).ok


def test_model_with_a_generator_of_its_own() -> None:
    class Restless(Wrapped):
        def __init__(self) -> None:
            super().__init__()
            self.noise = torch.Generator()

        def values(self, x: Tensor) -> Tensor:
            return x + torch.rand(x.shape, generator=self.noise, dtype=x.dtype)

    report = check(Restless())
    assert {"causality, evaluation", "causality, training"} <= faults(report)
    assert "generator of its own" in str(report)


def test_wide_levels_are_compared_at_probes() -> None:
    """65,536 levels: conditionals are compared at some of them."""

    class Wide(RasterModel):
        def __init__(self, leak: float) -> None:
            super().__init__(ImageSpec(1, 2, 2, 65536))
            self.leak = leak

        def distribution(self, x: Tensor, condition: Tensor | None = None) -> LogisticMixture:
            scaled = self.spec.scale(x, torch.float64).flatten(1)
            before = torch.tril(torch.ones(4, 4, dtype=torch.float64), -1) + self.leak * torch.eye(4, dtype=torch.float64)
            means = torch.tanh(scaled @ before.t()).view(*x.shape, 1)
            return LogisticMixture(torch.zeros_like(means), means, torch.full_like(means, -2.0), 65536)

    assert check(Wide(0.0)).ok
    assert {"causality, evaluation", "causality, training"} <= faults(check(Wide(0.1)))


def test_steps_that_are_not_the_forward() -> None:
    class Off(GatedPixelCNN):
        def head(self, parameters: Tensor, x: Tensor, index: int, previous: Any) -> Any:
            return super().head(1.001 * parameters, x, index, previous)

    spec = ImageSpec(1, 3, 3, 4)
    config = GatedPixelCNN.preset("tiny", spec)
    assert check(GatedPixelCNN(spec, config)).ok
    assert faults(check(Off(spec, config))) == {"steps"}


def test_unpromised_and_impossible_promises() -> None:
    class Modest(BottomUp):
        def context(self) -> Tensor:
            return torch.zeros_like(self.before)

    class Boastful(BottomUp):
        def context(self) -> Tensor:
            return torch.ones_like(self.before)

    class Confused(BottomUp):
        def context(self) -> Tensor:
            return self.before[:2]

    spec = ImageSpec(1, 3, 3, 2)
    assert "seen but not promised: 36 pairs" in line(check(Modest(spec)), "context").text
    assert "promised though later, or the decision itself: 45 pairs" in line(check(Boastful(spec)), "context").text
    assert "expected bool (9, 9)" in line(check(Confused(spec)), "context").text


def test_promise_that_inactive_units_hide() -> None:
    """Initial zero weights hide what a model can see; random parameters show it. Zeros of a mask stay zeros."""
    model = GatedStack()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("vertical") and name.endswith("weight"):
                parameter.zero_()
    assert check(model).ok


def test_built_in_models_are_summed_over_a_toy() -> None:
    report = check(rastrum.build("gated-pixelcnn", ImageSpec(3, 5, 4, 8), preset="tiny"))  # pyright: ignore[reportArgumentType]
    assert report.ok, str(report)
    assert "of a toy of the same model (3 x 2 x 2, 2 levels) sum to 1" in line(report, "normalisation").text


# ── the check itself ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_touched_and_the_report_is_the_same_twice() -> None:
    model = MaskedStack(GREY, norm=True, dropout=0.1).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    random.seed(0)
    state = torch.get_rng_state()
    first, second = str(check(model)), str(check(model))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and all(p.grad is None and p.dtype == torch.float32 for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_large_image_is_checked_at_a_stated_subset() -> None:
    class Unpromising(GatedStack):
        context = RasterModel.context  # pyright: ignore[reportAssignmentType]

    model = Unpromising(layers=2, width=4, spec=ImageSpec(1, 18, 18, 2))
    report = check(model)
    assert report.ok and "64 random of 324 values changed" in line(report, "causality, evaluation").text
    with pytest.raises(ValueError, match="context_of"):
        report.masks(0)
    seen, may = context_of(model, 9 * 18 + 9)
    assert int(may.sum()) == 9 * 18 + 9 and not (seen & ~may).any()
    assert seen[0, 5:9, 5:14].sum() > 20 and not seen[0, :5].any()        # two layers of two rows, one row shifted
    model.fault = "right stream unshifted"
    assert {"causality, evaluation", "causality, training"} <= faults(check(model, values=20))


@pytest.mark.parametrize("model", [nn.Linear(1, 1), None], ids=str)
def test_only_raster_models_are_checked(model: Any) -> None:
    with pytest.raises(ValueError, match="expected a raster model"):
        check(model)


def test_strengths_of_dependence() -> None:
    """Only earlier values that vary have a strength, and a larger weight gives a larger one."""
    spec = ImageSpec(1, 3, 4, 4)
    model = BottomUp(spec)
    with torch.no_grad():
        model.weights["look"].mul_(0.05)
        model.weights["look"][5, :, 8].mul_(10)                           # row 1, column 1 looks at row 2, column 0
    x = torch.randint(0, 4, (12, *spec.shape), generator=torch.Generator().manual_seed(1))
    x[:, 0, 2, 3] = 1
    model.train()
    strength = dependency_strengths(model, x, 1, 1)
    assert model.training and strength.shape == spec.shape and strength.dtype == torch.float64
    assert set(strength.flatten().nonzero().flatten().tolist()) == {8, 9, 10, 4}
    assert int(strength.argmax()) == 8
    assert torch.equal(strength, dependency_strengths(model, x.numpy(), 1, 1))


def test_strength_is_the_probability_that_moves() -> None:
    """Two binary pixels, p(second = 1) = σ(± a): every replacement that differs moves σ(a) − σ(−a)."""

    class Pair(RasterModel):
        def distribution(self, x: Tensor, condition: Tensor | None = None) -> Categorical:
            first = self.spec.scale(x, torch.float64)[..., :1]
            logits = torch.cat([torch.zeros_like(first), 0.7 * first], -1)
            return Categorical(torch.stack([torch.zeros_like(logits), logits], -1))

    x = torch.tensor([[0, 0], [1, 0]]).view(2, 1, 1, 2)
    strength = dependency_strengths(Pair(ImageSpec(1, 1, 2, 2)), x, 0, 1)
    expected = torch.sigmoid(torch.tensor(0.7).double()) - torch.sigmoid(torch.tensor(-0.7).double())
    torch.testing.assert_close(strength.flatten(), torch.stack([expected, torch.zeros_like(expected)]))


def test_strengths_refuse_bad_input() -> None:
    model = BottomUp(ImageSpec(1, 2, 2, 2))
    for images, position, words in (
        (torch.zeros(1, 1, 2, 2, dtype=torch.int64), (0, 0), "at least two"),
        (torch.zeros(3, 1, 2, 2), (0, 0), "integer levels"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.int64), (2, 0), "a position in 2 x 2"),
    ):
        with pytest.raises(ValueError, match=words):
            dependency_strengths(model, images, *position)
