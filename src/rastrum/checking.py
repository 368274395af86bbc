"""Does a raster model keep its promises? Values are changed and the conditionals compared, for any model a user writes.

    causality        no conditional depends on its own value, on later decisions of ``order``, or on other images of the batch
    context          what a decision sees is what ``context()`` promises
    steps            one decision at a time gives the same as the whole image at once, where the model defines a step
    normalisation    the probabilities of all images sum to one; where they cannot be listed, those of each conditional

Everything runs on a float64 copy with its own random numbers. Whole conditionals are compared, not only the probability of one value. In
training mode the two forwards of a comparison share their dropout, so that every difference is a dependence.
D decisions, B images, N perturbed values, L levels.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from . import progress as bars
from .devices import as_like, float64_device, in_float64
from .memory import ask
from .notebook import safe, table
from .protocol import ConditionSpec, Distribution, ImageSpec
from .raster import RasterModel

Mode = Literal["evaluation", "training"]

SMALL = 256                    # of images up to this many decisions, all values are perturbed
SUBSET = 64                    # values perturbed of a larger image
MAX_PROMISED = 4096           # of more decisions, context() is not called: it would be (D, D)
MAX_LEVELS = 1024              # of more levels, conditionals are compared at PROBES of them
PROBES = 32
MAX_IMAGES = 2**16            # images are listed if there are at most this many
MAX_WORK = 1e10               # bound on images · positions · parameters of a sum over all images
EXACT, ROUGH = 1e-10, 1e-3     # nats that count as a change, in float64 and for a model that cannot be converted to it
CELLS = 2**22                  # log-probabilities in a batch
STAGES = 7                     # of a check, for its progress: two each of causality in both modes, then context, steps, normalisation
KINDS = {"o": "this decision", "#": "seen", "-": "promised, but unseen", "!": "seen, though forbidden", ".": "not to be seen"}


@dataclass(frozen=True)
class Line:
    """One result.

    name: what was checked.
    ok: whether it holds; None where there is nothing to judge.
    text: what was found.
    """

    name: str
    ok: bool | None
    text: str

    def __str__(self) -> str:
        return f"{ {True: 'ok', False: 'FAULT', None: 'note'}[self.ok]:<6}{self.name}: {self.text}"


@dataclass(frozen=True)
class Report:
    """The result of ``check``; print it to read it.

    spec: of the model's images.
    model: name of the class.
    lines: what was found, one result each.
    values: (N,) flat indices that were perturbed, all of them for a small image.
    seen: (D, N) bool; [i, k]: decision i sees value ``values[k]``.
    promised: (D, D) bool from ``context()``, or None.
    before: (D, D) bool, what the order allows, or None for an image too large for it.
    """

    model: str
    spec: ImageSpec
    lines: tuple[Line, ...]
    values: Tensor
    seen: Tensor
    promised: Tensor | None
    before: Tensor | None

    @property
    def ok(self) -> bool:
        """Whether no line is a fault."""
        return all(line.ok is not False for line in self.lines)

    def masks(self, index: int) -> tuple[Tensor, Tensor]:
        """What the decision at flat ``index`` sees, and what it should (or, without a promise, may) see: bool masks of the image's shape.

        Raises ``ValueError`` where not all values were perturbed: ``context_of`` looks at one decision of a large image.
        """
        if len(self.values) < self.spec.size or self.before is None:
            raise ValueError(f"masks: only {len(self.values)} of {self.spec.size} values were perturbed; use context_of(model, index)")
        promised = self.before if self.promised is None else self.promised
        return self.seen[index].view(self.spec.shape), promised[index].view(self.spec.shape)

    def context_map(self, index: int | None = None) -> str:
        """The context of one decision, one character per value (see ``KINDS``); index: default the decision with most faults."""
        index = self.most_faulty() if index is None else index
        return context_text(self.spec, *self.masks(index), index, self.promised is not None)

    def most_faulty(self) -> int:
        """Flat index of the decision whose context differs most from the promise; the middle of the image where none does."""
        spec = self.spec
        middle = torch.arange(spec.size).view(spec.frames, spec.channels, spec.height, spec.width)[
            spec.frames // 2, -1, spec.height // 2, spec.width // 2
        ]
        if self.before is None:
            return int(middle)
        seen, before = self.seen, self.before[:, self.values]
        wrong = (seen & ~before) if self.promised is None else (seen ^ self.promised[:, self.values])
        count = 2 * wrong.sum(1)
        count[middle] += 1
        return int(count.argmax())

    def __str__(self) -> str:
        spec = self.spec
        video = f"{spec.frames} frames of " if spec.frames > 1 else ""
        head = f"{self.model}, {video}{spec.channels} x {spec.height} x {spec.width}, {spec.levels} levels"
        parts = [head, *map(str, self.lines)]
        if self.before is not None and len(self.values) == spec.size and spec.width * spec.channels <= 120:
            index = self.most_faulty()
            parts += [f"what {position(spec, index)} sees:", self.context_map(index)]
        return "\n".join([*parts, self._verdict])

    __repr__ = __str__

    @property
    def _verdict(self) -> str:
        return "no fault found" if self.ok else f"faults found: {sum(line.ok is False for line in self.lines)}"

    @safe
    def _repr_html_(self) -> str:
        marks = {True: "✓", False: "✗ FAULT:", None: "·"}
        return table(f"{self.model}: {self._verdict}", {line.name: f"{marks[line.ok]} {line.text}" for line in self.lines})


def check(model: RasterModel, seed: int = 0, values: int | None = None, *, progress: bars.Progress = None) -> Report:
    """Proves by perturbation that a model is causal, sees what it promises, and that its probabilities sum to one.

    model: any raster model; it and the global random state stay as they are.
    seed: of the images and of the choice of values.
    values: how many values of the image to perturb; None: all of up to 256, 64 of more.
    progress: a bar; None (default): in a terminal or a notebook after two seconds, True: at once, False: never; or a function that is
        called with how many of seven stages are done.

    Returns a report; ``report.ok`` is whether no fault was found.
    Raises ``ValueError`` for anything but a raster model.
    """
    if not isinstance(model, RasterModel):
        raise ValueError(f"check: expected a raster model, got {type(model).__name__}; only those decide value by value")
    spec = model.spec
    if values is not None and values < 1:
        raise ValueError(f"values: expected a whole number of at least 1, got {values!r}")
    count = min(spec.size, values or (spec.size if spec.size <= SMALL else SUBSET))
    with _own_random_state(model), torch.no_grad(), bars.bar("checking", STAGES, "", progress) as report:
        subject = _Subject(model, seed)
        subject.report = report
        picked = _pick(spec, model.order.cpu(), count, subject.generator)
        seen = torch.zeros(spec.size, count, dtype=torch.bool)
        lines = _well_formed(subject)
        if any(line.ok is False for line in lines if line.name == "distribution"):
            return Report(type(model).__name__, spec, tuple(lines), picked, seen, None, None)
        changes = None
        for stage, mode in enumerate(("evaluation", "training")):
            subject.begin(2 * stage, 2)
            subject.model.train(mode == "training")
            some = picked if mode == "evaluation" or count == spec.size else picked[: -(-count // 2)]
            found, change = _causality(subject, some)
            lines += found
            changes = change if mode == "evaluation" else changes
        subject.model.eval()
        subject.begin(4, 1)
        promised = before = None
        if spec.size <= MAX_PROMISED:
            before = subject.rank[None] < subject.rank[:, None]
        if changes is None:
            lines.append(Line("context", None, "not tested because of the faults above"))
        else:
            found, seen, promised = _context(subject, picked, changes)
            lines.append(found)
        subject.begin(5, 1)
        lines += _steps(subject)
        subject.begin(6, 1)
        faulty = {line.name.split(",")[0] for line in lines if line.ok is False}
        lines.append(_sum(subject, proved=not faulty & {"conditionals", "log_prob", "images apart", "causality"}))
        report(STAGES)
    return Report(type(model).__name__, spec, tuple(lines), picked, seen, promised, before)


# ── the model under test ─────────────────────────────────────────────────────────────────────────────────────────────


class _Subject:
    """A float64 copy of a model that computes conditionals with the same random numbers every time, of all decisions or ``only`` one."""

    def __init__(self, model: RasterModel, seed: int, only: int | None = None) -> None:
        self.spec, self.seed, self.only = model.spec, seed, only
        self.report: Callable[..., object] = lambda done: None
        self.stage, self.width, self.changed = 0.0, 0.0, 0
        self.generator = torch.Generator().manual_seed(seed)
        channels = max((max(parameter.shape) for parameter in model.parameters() if parameter.dim()), default=1)
        needed = 8 * 4 * self.spec.size * (8 * min(self.spec.levels, MAX_LEVELS) + 16 * channels)
        ask(f"check: images of {self.spec.size:,} values", needed, "check the model on smaller images, the same layers run there")
        self.rank = model.order.cpu().argsort()
        self.probes = torch.linspace(0, self.spec.levels - 1, PROBES).round().long() if self.spec.levels > MAX_LEVELS else None
        x = self.images(2)
        try:
            self.use(copy.deepcopy(model).to(float64_device(model.device)).double())
            self.distribution(x, self.conditions(2))
        except RuntimeError:
            # A model that casts its images to a type of its own cannot be converted; an error of another cause comes again.
            self.use(copy.deepcopy(model))
        self.model.train()
        self.distribution(x, self.conditions(2))                          # layers that initialise themselves on first use have now done so
        self.use(self.model)
        self.tolerance = EXACT

    @property
    def compared(self) -> int:
        """Levels at which conditionals are compared."""
        return self.spec.levels if self.probes is None else PROBES

    @property
    def chunk(self) -> int:
        """Images per batch."""
        cells = self.compared * (self.spec.size if self.only is None else 1)
        return max(4, min(64, 2**13 // self.spec.size, CELLS // cells))

    def begin(self, stage: float, width: float) -> None:
        """A stage of the check begins, for its progress."""
        self.stage, self.width, self.changed = stage, width, 0
        self.report(stage)

    def advance(self, values: int) -> None:
        """So many more values were changed; each stage changes all of them three times or so."""
        self.changed += values
        self.report(self.stage + self.width * min(1.0, self.changed / (3 * min(self.spec.size, SMALL))))

    def use(self, model: RasterModel) -> None:
        """Test this copy from now on, in evaluation mode."""
        self.model = model.eval()
        self.buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]

    def wake(self, model: RasterModel, factor: float) -> None:
        """Test a copy with stronger parameters. Single zeros stay zero, they may be a mask; one of zeros alone gets random values."""
        self.use(copy.deepcopy(model))
        for parameter in self.model.parameters():
            noise = as_like(torch.randn(parameter.shape, generator=self.generator, dtype=torch.float64), parameter)
            if parameter.any():
                parameter.mul_(factor).add_(parameter.square().mean().sqrt() * noise * (parameter != 0))
            else:
                parameter.copy_(0.3 * noise)

    def images(self, count: int) -> Tensor:
        return torch.randint(0, self.spec.levels, (count, *self.spec.shape), generator=self.generator)

    def conditions(self, count: int) -> Tensor | None:
        condition = random_condition(self.model.condition_spec, count, self.generator, pictures=self.model.slots > 0)
        return condition.to(self.model.dtype) if condition is not None and condition.is_floating_point() else condition

    def another(self, x: Tensor, far: bool) -> Tensor:
        """Levels that differ from x everywhere; far: the extreme farther away, else random ones."""
        levels = self.spec.levels
        if far:
            return torch.where(2 * x < levels - 1, levels - 1, 0)
        return (x + torch.randint(1, levels, x.shape, generator=self.generator)) % levels

    def distribution(self, x: Tensor, condition: Tensor | None, seed: int | None = None) -> Distribution:
        device = self.model.device
        for buffer, kept in self.buffers:                                 # running averages, power iterations
            buffer.copy_(kept)
        torch.default_generator.manual_seed(self.seed if seed is None else seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(self.seed if seed is None else seed)
        return self.model.distribution(x.to(device), None if condition is None else condition.to(device))

    def conditionals(self, x: Tensor, condition: Tensor | None, seed: int | None = None) -> Tensor:
        """Nats of every level (or of the probes) of every decision: (B, D, L); of the one in ``only``: (B, 1, L)."""
        distribution = self.distribution(x, condition, seed)
        if self.only is None:
            return self.nats(distribution, x.shape).flatten(1, -2)
        at = torch.unravel_index(torch.tensor(self.only), x.shape[1:])
        return self.nats(distribution[(slice(None), *map(int, at))], x.shape[:1])[:, None]

    def nats(self, distribution: Distribution, shape: Sequence[int]) -> Tensor:
        """Log-probability of every level, or of the probes: (*shape, L). Sets the tolerance by the type that the model computes in."""
        if self.probes is None:
            nats = distribution.log_pmf().cpu()
        else:
            nats = torch.stack([distribution.log_prob(probe.to(self.model.device).expand(*shape)).cpu() for probe in self.probes], -1)
        self.tolerance = EXACT if nats.dtype == torch.float64 else ROUGH
        return nats

    def change(self, base: Tensor, x: Tensor, condition: Tensor | None) -> Tensor:
        """Largest change of any level's log-probability from ``base`` with images x: (B, D)."""
        return difference(self.conditionals(x, condition), base)


def difference(a: Tensor, b: Tensor) -> Tensor:
    """Largest |a − b| over the last dimension; 0 for equal infinities, ∞ for nan.

    a, b: (…, n), the same shape.

    Returns (…).
    """
    return torch.where(a == b, 0.0, (a - b).abs()).nan_to_num(nan=math.inf, posinf=math.inf).amax(-1)


def random_condition(condition_spec: ConditionSpec | None, count: int, generator: torch.Generator, pictures: bool = False) -> Tensor | None:
    """Random conditions: uniform classes, else standard normal in float64, or uniform in [0, 1].

    condition_spec: of the model; None for an unconditional model.
    count: number of images.
    generator: the only source of randomness.
    pictures: whether a map is of exemplars, which lie in [0, 1]; False by default.

    Returns (count, …); None for an unconditional model.
    """
    if condition_spec is None:
        return None
    if condition_spec.kind == "class":
        assert isinstance(condition_spec.size, int)
        return torch.randint(0, condition_spec.size, (count,), generator=generator)
    draw = torch.rand if pictures else torch.randn
    return draw(count, *condition_spec.shape, generator=generator, dtype=torch.float64)


def _own_random_state(model: RasterModel) -> AbstractContextManager[None]:
    return torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else [])


def _pick(spec: ImageSpec, order: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(count,) flat indices: all, or the first and last decision, the corners and random others, in random order."""
    if count == spec.size:
        return torch.arange(spec.size)
    grid = torch.arange(spec.size).view(-1, spec.height, spec.width)
    corners = grid[:, :: max(1, spec.height - 1), :: max(1, spec.width - 1)].flatten()
    first = torch.cat([order[[0, -1]], corners[torch.randperm(len(corners), generator=generator)][: count // 4]])
    rest = torch.randperm(spec.size, generator=generator)
    picked = list(dict.fromkeys(torch.cat([first, rest]).tolist()))[:count]
    return torch.tensor(picked)[torch.randperm(count, generator=generator)]


def position(spec: ImageSpec, index: int) -> str:
    """A flat index in words.

    spec: of the images.
    index: flat index within an image.
    """
    frame, channel, row, column = _grid(spec, torch.tensor(index)).tolist()
    words = [f"frame {frame}"] if spec.frames > 1 else []
    words += [f"channel {channel}"] if spec.channels > 1 else []
    return f"({', '.join([*words, f'row {row}', f'column {column}'])})"


def _grid(spec: ImageSpec, index: Tensor) -> Tensor:
    """Flat indices S → (*S, 4): frame, channel, row, column."""
    return torch.stack(torch.unravel_index(index, (spec.frames, spec.channels, spec.height, spec.width)), -1)


def _where_mostly(spec: ImageSpec, pairs: Tensor) -> str:
    """The commonest offsets from decision to value, for pairs (M, 2) of the two."""
    offsets = (_grid(spec, pairs[:, 1]) - _grid(spec, pairs[:, 0])).tolist()
    common = Counter(map(tuple, offsets)).most_common(3)

    def words(frame: int, channel: int, row: int, column: int) -> str:
        named = ((frame, "frame"), (channel, "channel"), (row, "row"), (column, "column"))
        return " ".join(f"{name} {offset:+d}" for offset, name in named if offset) or "itself"

    return ", ".join(f"{words(*offset)} ({count}x)" for offset, count in common)


# ── perturbation ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _one_value(subject: _Subject, values: Tensor, far: bool, together: bool = False) -> Tensor:
    """Changes one value at a time: (N, D) largest change of each decision's conditional.

    Each image of a batch has another value changed; together: the same one in all, for a model whose images see one another.
    """
    batch = 4 if together else min(subject.chunk, max(2, len(values)))
    x, condition = subject.images(batch), subject.conditions(batch)
    base, other = subject.conditionals(x, condition), subject.another(x, far)
    changes = []
    for chunk in values.split(1 if together else batch):
        changed, rows = x.clone(), torch.arange(batch)
        at = chunk.repeat(batch)[:batch]
        changed.view(batch, -1)[rows, at] = other.view(batch, -1)[rows, at]
        change = subject.change(base, changed, condition)
        changes.append(change.amax(0, keepdim=True) if together else change[: len(chunk)])
        subject.advance(len(chunk))
    return torch.cat(changes)


def _all_later(subject: _Subject, values: Tensor, far: bool, together: bool = False) -> Tensor:
    """Changes a value and all decided after it: (N, D) change of each decision's conditional, 0 for those after it."""
    batch = 4 if together else min(subject.chunk, max(2, len(values)))
    x, condition = subject.images(batch), subject.conditions(batch)
    base, other = subject.conditionals(x, condition), subject.another(x, far)
    changes = []
    for chunk in values.split(1 if together else batch):
        since = subject.rank[chunk.repeat(batch)[:batch]]                 # (B,)
        later = subject.rank[None] >= since[:, None]
        changed = torch.where(later.view(x.shape), other, x)
        change = subject.change(base, changed, condition) * (subject.rank[None] <= since[:, None])
        changes.append(change.amax(0, keepdim=True) if together else change[: len(chunk)])
        subject.advance(len(chunk))
    return torch.cat(changes).nan_to_num(nan=0.0, posinf=math.inf)        # ∞ · 0 of the decisions after it


def _causality(subject: _Subject, values: Tensor) -> tuple[list[Line], Tensor | None]:
    """The results in the current mode, and how much each decision changes with each value, (N, D)."""
    mode = "training" if subject.model.training else "evaluation"
    repeatable, random = _randomness(subject)
    if not repeatable:
        text = "two forwards of the same images differ: it draws from a generator of its own, so nothing more can be tested"
        return [Line(f"causality, {mode}", False, text)], None
    lines = _apart(subject, mode, random)
    together = lines[0].ok is False
    one = torch.stack([_one_value(subject, values, far, together) for far in ((True, False) if mode == "evaluation" else (False,))]).amax(0)
    later = _all_later(subject, values, mode == "training", together)
    spec, rank = subject.spec, subject.rank
    forbidden = rank[None] <= rank[values][:, None]                       # (N, D): decision no later than the value
    leaks = (one > subject.tolerance) & forbidden
    how_many = "all" if len(values) == spec.size else f"{len(values)} random"
    if not leaks.any() and not (later > subject.tolerance).any():
        text = f"no decision depends on itself or on later ones ({how_many} of {spec.size} values changed)"
        lines.append(Line(f"causality, {mode}", True, text))
    elif leaks.any():
        at, decision = leaks.nonzero().unbind(1)
        pairs = torch.stack([decision, values[at]], 1)
        own = int((pairs[:, 0] == pairs[:, 1]).sum())
        after = len(set(pairs[pairs[:, 0] != pairs[:, 1]][:, 0].tolist()))
        strongest = int((one * leaks).nan_to_num(posinf=1e300).argmax())
        k, i = divmod(strongest, spec.size)
        seen = "itself" if i == int(values[k]) else position(spec, int(values[k]))
        text = (
            f"{own} of {len(values)} decisions see their own value, {after} of {spec.size} a later one; "
            f"strongest: {position(spec, i)} sees {seen}, {_nats(float(one[k, i]))}; mostly {_where_mostly(spec, pairs)}"
        )
        lines.append(Line(f"causality, {mode}", False, text))
    else:
        k, i = divmod(int(later.argmax()), spec.size)
        text = f"{position(spec, i)} changes by {_nats(float(later[k, i]))} with the values from {position(spec, int(values[k]))} on"
        lines.append(Line(f"causality, {mode}", False, text))
    return lines, one


def _nats(number: float) -> str:
    return f"{number:.2g} nats"


def _randomness(subject: _Subject) -> tuple[bool, bool]:
    """Whether the same seed gives the same conditionals, and whether another seed gives others (dropout)."""
    x, condition = subject.images(2), subject.conditions(2)
    base = subject.conditionals(x, condition)
    again, other = subject.change(base, x, condition), difference(subject.conditionals(x, condition, subject.seed + 1), base)
    return bool(again.max() <= subject.tolerance), bool(other.max() > 0)


def _apart(subject: _Subject, mode: Mode, random: bool) -> list[Line]:
    """Whether an image depends on the other images of its batch, on their conditions, or on how many there are."""
    count = 4
    x, condition = subject.images(count), subject.conditions(count)
    base = subject.conditionals(x, condition)
    worst = by_condition = 0.0
    for kept in range(count):
        mine = torch.arange(count) == kept
        others = torch.where(mine.view(-1, *[1] * len(subject.spec.shape)), x, subject.another(x, far=kept % 2 == 0))
        worst = max(worst, float(subject.change(base, others, condition)[kept].max()))
        if condition is not None:
            new = subject.conditions(count)
            assert new is not None
            new[kept] = condition[kept]
            by_condition = max(by_condition, float(subject.change(base, x, new)[kept].max()))
    lines = []
    size = 0.0
    if not random:                                                        # another batch size draws another dropout
        part = None if condition is None else condition[:2]
        size = float(difference(subject.conditionals(x[:2], part), base[:2]).max())
    if max(worst, size) > subject.tolerance:
        what = "with the other images of the batch" if worst >= size else "with the number of images in the batch"
        hint = "; batch normalisation does that" if mode == "training" else ""
        lines.append(Line(f"images apart, {mode}", False, f"an image's conditionals change by {_nats(max(worst, size))} {what}{hint}"))
    else:
        text = "no image sees another" + (", whatever the batch size" if not random else "; batch sizes not compared, it draws dropout")
        lines.append(Line(f"images apart, {mode}", True, text))
    if condition is not None:
        text = "no image sees another's condition"
        if by_condition > subject.tolerance:
            text = f"an image's conditionals change by {_nats(by_condition)} with the conditions of other images"
        lines.append(Line(f"conditions apart, {mode}", by_condition <= subject.tolerance, text))
        if mode == "evaluation":
            matters = max(float(subject.change(base, x, subject.conditions(count)).max()) for _ in range(3))
            text = f"changes the conditionals, by up to {_nats(matters)}" if matters else "changes nothing, at these parameters"
            lines.append(Line("condition", True if matters else None, text))
    return lines


# ── context ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _context(subject: _Subject, values: Tensor, change: Tensor) -> tuple[Line, Tensor, Tensor | None]:
    """change: (N, D) in evaluation mode. Returns the result, seen (D, N), and promised (D, D) or None."""
    spec, rank = subject.spec, subject.rank
    before = rank[values][:, None] < rank[None]                           # (N, D)
    # Changes below the tolerance that forbidden pairs show too are rounding.
    rounding = torch.where(before | (change > subject.tolerance), 0.0, change).max()
    seen = change > (10 * rounding).clamp_max(subject.tolerance)
    if spec.size > MAX_PROMISED:
        text = f"not compared for more than {MAX_PROMISED} decisions; check a smaller image of the same model"
        return Line("context", None, text), seen.t(), None
    promised = subject.model.context()
    if promised is None:
        part = int((seen & before).sum()) / max(1, int(before.sum()))
        return Line("context", None, f"the model promises nothing; {part:.0%} of the earlier values are seen"), seen.t(), None
    promised = torch.as_tensor(promised).cpu()
    if promised.shape != (spec.size, spec.size) or promised.dtype != torch.bool:
        text = f"context() gives {promised.dtype} {tuple(promised.shape)}, expected bool {(spec.size, spec.size)}"
        return Line("context", False, text), seen.t(), None
    mine = promised[:, values].t()                                        # (N, D)
    seen = torch.where(mine, seen, change > subject.tolerance)
    seen = _look_again(subject, values, seen, mine, rounding)
    faults = []
    for wrong, what in (
        (mine & ~before, "promised though later, or the decision itself"),
        (mine & before & ~seen, "promised but never seen"),
        (seen & before & ~mine, "seen but not promised"),
    ):
        if wrong.any():
            at, decision = wrong.nonzero().unbind(1)
            pairs = torch.stack([decision, values[at]], 1)
            faults.append(f"{what}: {len(pairs)} pairs, mostly {_where_mostly(spec, pairs)}")
    good = int((mine & before & seen).sum())
    if faults:
        return Line("context", False, f"{'; '.join(faults)}; {good} pairs as promised"), seen.t(), promised
    tested = "" if len(values) == spec.size else f" (of {len(values)} of {spec.size} values)"
    return Line("context", True, f"every promised value is seen and no other: {good} pairs{tested}"), seen.t(), promised


def _look_again(subject: _Subject, values: Tensor, seen: Tensor, promised: Tensor, rounding: Tensor) -> Tensor:
    """Tries other images, then stronger parameters, for what is promised and was not seen: a unit may be inactive, a path weak.

    seen, promised: (N, D), or (N, 1) for one decision. Returns seen.
    """
    original, seen = subject.model, seen.clone()
    rounds = max(6, min(24, 4 * SMALL // subject.spec.size))
    for i in range(2 * rounds):
        missing = (promised & ~seen).any(1)
        if not missing.any():
            break
        if i >= rounds:
            subject.wake(original, (0.5, 1.0, 2.0)[i % 3])
        if subject.only is not None and not _matters(subject, values[missing]):
            continue
        change = _one_value(subject, values[missing], far=i % 2 == 0)
        seen[missing] |= promised[missing] & (change > 10 * rounding) & change.isfinite()
    subject.use(original)
    return seen


def _matters(subject: _Subject, values: Tensor) -> bool:
    """Whether the conditionals change where all these values change at once; if not, there is no need to change them one by one."""
    x, condition = subject.images(2), subject.conditions(2)
    base, changing = subject.conditionals(x, condition), torch.zeros(subject.spec.size, dtype=torch.bool)
    changing[values] = True
    changed = [torch.where(changing.view(subject.spec.shape), subject.another(x, far), x) for far in (True, False)]
    return max(float(subject.change(base, y, condition).max()) for y in changed) > subject.tolerance


def context_of(model: RasterModel, index: int) -> tuple[Tensor, Tensor]:
    """What one decision of an image of any size sees, found by perturbation.

    model: a raster model.
    index: flat index of the decision.

    Returns what it sees, and what it should (or, without a promise, may) see: two bool masks of the image's shape.
    Raises ``ValueError`` for an index outside the image.
    """
    spec = model.spec
    if not 0 <= index < spec.size:
        raise ValueError(f"index: expected a flat index in 0 … {spec.size - 1}, got {index}")
    with _own_random_state(model), torch.no_grad():
        subject = _Subject(model, seed=0, only=index)                     # of all decisions of a large image there would be gigabytes
        promised = None if spec.size > MAX_PROMISED else subject.model.context()
        allowed = subject.rank < subject.rank[index] if promised is None else promised[index].cpu()
        seen = torch.zeros(spec.size, dtype=torch.bool)
        inside, outside = allowed.nonzero()[:, 0], (~allowed).nonzero()[:, 0]
        if len(inside):
            change = _one_value(subject, inside, far=True)
            seen[inside] = _look_again(subject, inside, change > 0, change >= 0, change.new_zeros(()))[:, 0]
        if _matters(subject, outside):
            seen[outside] = _one_value(subject, outside, far=False)[:, 0] > subject.tolerance
    return seen.view(spec.shape), allowed.view(spec.shape)


def context_text(spec: ImageSpec, seen: Tensor, promised: Tensor, index: int, is_promise: bool = True) -> str:
    """The context of one decision, one character per value: channels side by side, frames below each other.

    spec: of the images.
    seen: what the decision sees, bool of ``spec.size`` values.
    promised: what it should see, or what the order allows, bool of ``spec.size`` values.
    index: flat index of the decision.
    is_promise: whether ``promised`` comes from the model (True, default), or is what the order allows; it changes the legend.
    """
    seen, promised = seen.flatten(), promised.flatten()
    kinds = ["#" if s and p else "-" if p else "!" if s else "." for s, p in zip(seen.tolist(), promised.tolist(), strict=True)]
    kinds[index] = "!" if bool(seen[index]) else "o"
    rows = ["".join(kinds[i : i + spec.width]) for i in range(0, spec.size, spec.width)]
    text = []
    for frame in range(spec.frames):
        panels = [rows[(frame * spec.channels + c) * spec.height :][: spec.height] for c in range(spec.channels)]
        text += ["", *("  ".join(row) for row in zip(*panels, strict=True))]
    named = KINDS if is_promise else KINDS | {"-": "earlier, but unseen"}
    legend = ", ".join(f"{kind} {meaning}" for kind, meaning in named.items() if kind in kinds)
    return "\n".join([*text[1:], legend])


# ── the distribution, the steps and the sum ──────────────────────────────────────────────────────────────────────────


def _well_formed(subject: _Subject) -> list[Line]:
    """Shape, finite values, log_prob against log_pmf, and the sum of each conditional."""
    spec, count = subject.spec, 3
    x, condition = subject.images(count), subject.conditions(count)
    distribution = subject.distribution(x, condition)
    nats = subject.nats(distribution, x.shape)
    if nats.shape != (*x.shape, subject.compared) or distribution.levels != spec.levels:
        got = f"{distribution.levels} levels for decisions of shape {tuple(nats.shape[:-1])}"
        return [Line("distribution", False, f"has {got}, expected {spec.levels} for {tuple(x.shape)}")]
    at: tuple[int | slice, ...] = (slice(None),)
    if subject.probes is not None:                                        # one image's last pixel
        at = (slice(0, 1), *(slice(None) for _ in spec.shape[:-2]), -1, -1)
    pmf, some, value = distribution[at].log_pmf().cpu(), x[at], distribution.log_prob(x.to(subject.model.device)).cpu()[at]
    if nats.isnan().any() or value.isnan().any():
        return [Line("distribution", False, f"{int(nats.isnan().sum())} of {nats.numel()} log-probabilities are nan")]
    lines = [Line("distribution", True, f"a conditional over {spec.levels} levels for each of {spec.size} decisions")]
    apart = float(difference(pmf.gather(-1, some[..., None]), value[..., None]).max())
    if apart > 100 * subject.tolerance:
        lines.append(Line("log_prob", False, f"differs from log_pmf at the same level by {_nats(apart)}"))
    off = (in_float64(pmf).exp().sum(-1) - 1).abs().max()
    good = bool(off <= 100 * subject.tolerance)
    text = f"those of {count} random images sum to 1 within {off:.0e}" if good else f"one sums to 1 only within {off:.2g}"
    return [*lines, Line("conditionals", good, text)]


def _steps(subject: _Subject) -> list[Line]:
    """One random image, one decision at a time against the whole of it at once."""
    model = subject.model
    if not model.has_program and type(model).step is RasterModel.step:
        return []
    x, condition = subject.images(1), subject.conditions(1)
    base = subject.conditionals(x, condition)
    values = x.to(model.device).flatten(1)
    state, worst = model.init(1, condition), 0.0
    for index in model.order.tolist():
        worst = max(worst, float(difference(subject.nats(model.step(state), (1,)), base[:, index]).max()))
        model.observe(state, values[:, index])
    good = worst <= 10 * subject.tolerance
    return [Line("steps", good, f"one decision at a time and the whole image {'agree' if good else 'differ'}: {_nats(worst)}")]


def _sum(subject: _Subject, proved: bool) -> Line:
    """The sum over all images where they can be listed, else over those of a toy.

    proved: whether the model was found causal, with conditionals that sum to one.
    """
    model, spec = subject.model, subject.spec
    name, what = "normalisation", "all {} images"
    condition = subject.conditions(1)
    if not _can_list(spec, model, MAX_IMAGES):
        toy = _toy(model, subject.seed)
        if toy is None:
            text = "too many images to list"
            return Line(name, True if proved else None, f"{text}; they sum to one as each conditional does" if proved else text)
        model, spec = toy, toy.spec
        if condition is not None and condition.dim() == 4:
            condition = condition[..., : spec.height, : spec.width]
        shape = " x ".join(map(str, spec.shape))
        what = f"all {{}} images of a toy of the same model ({shape}, {spec.levels} levels)"
    off = abs(_total(model, condition) - 1)
    good = off <= 100 * subject.tolerance
    what = what.format(spec.levels**spec.size)
    return Line(name, good, f"{what} sum to 1 within {off:.0e}" if good else f"{what} do not sum to 1: off by {off:.2g}")


def _can_list(spec: ImageSpec, model: RasterModel, limit: int) -> bool:
    images = spec.levels**spec.size if spec.size <= 16 else math.inf
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return images <= limit and images * spec.frames * spec.height * spec.width * parameters <= MAX_WORK


def _toy(model: RasterModel, seed: int) -> RasterModel | None:
    """A fresh model of the same class and configuration for an image so small that all can be listed; None for a user's own class."""
    from .models import MODELS

    kind: Any = type(model)
    if kind not in MODELS.values():
        return None
    for height, width, levels in ((2, 3, 3), (3, 3, 2), (2, 2, 3), (2, 2, 2), (1, 2, 2), (1, 1, 2)):
        spec = replace(model.spec, height=height, width=width, levels=min(levels, model.spec.levels), frames=min(model.spec.frames, 2))
        if not _can_list(spec, model, MAX_IMAGES // 16):
            continue
        condition = model.condition_spec
        if condition is not None and isinstance(condition.size, tuple):   # a spatial map is no larger than its image
            channels, rows, columns = condition.size
            condition = replace(condition, size=(channels, min(rows, height), min(columns, width)))
        for config in (model.config, kind.preset("tiny", spec)):          # one made for larger images may not fit
            torch.default_generator.manual_seed(seed)
            try:
                return kind(spec, config, condition).to(model.device, model.dtype).eval()
            except ValueError:
                continue
    return None


def _total(model: RasterModel, condition: Tensor | None) -> float:
    """Σ p(x) over all images x, for one condition."""
    spec = model.spec
    weights = spec.levels ** torch.arange(spec.size)
    chunk = max(16, min(4096, CELLS // (spec.size * spec.levels)))
    total = 0.0
    for codes in torch.arange(spec.levels**spec.size).split(chunk):
        x = (codes[:, None] // weights % spec.levels).view(-1, *spec.shape).to(model.device)
        given = None if condition is None else condition.to(model.device).expand(len(x), *condition.shape[1:])
        total += float(in_float64(model.distribution(x, given).log_prob(x)).flatten(1).sum(1).exp().sum())
    return total
