"""How much of a run's budget is used, and how fast it goes. No division by a clock that stands still, none runs backwards."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from ..config import RunConfig

RECENT = 20                    # steps that throughput is measured over
STEADY = 5                     # steps after which it is trusted
EVALUATING = 0.07              # share of a budget that evaluations may take; of one of time pictures take 0.03 (cli/following.py)
FEWEST, FEWEST_TIMED = 100, 16  # images of an evaluation, however short a budget of steps or of time
FORWARD = 0.4                  # cost of scoring an image, compared with a training step on it


class Stopwatch:
    """Seconds by a clock, which may start with some; never less than before."""

    def __init__(self, read: Callable[[], float], seconds: float = 0.0) -> None:
        self.read, self.seconds, self.last = read, seconds, read()

    def __call__(self) -> float:
        now = self.read()
        self.seconds += max(0.0, now - self.last)
        self.last = now
        return self.seconds


class Clock:
    """Of one run.

    run: its budgets.
    seconds, cpu_seconds: used before, by the run that this one resumes.
    step: steps done before.
    """

    def __init__(self, run: RunConfig, seconds: float = 0.0, cpu_seconds: float = 0.0, step: int = 0) -> None:
        self.run = run
        self.wall, self.cpu = Stopwatch(time.perf_counter, seconds), Stopwatch(time.process_time, cpu_seconds)
        self.recent = deque([(self.wall(), step)], RECENT + 1)

    def fraction(self, step: int) -> float:
        """How much of the budget is used, 0 … 1, of the one that is nearest its end.

        step: number of steps done.
        """
        spent = ((step, self.run.steps), (self.wall() / 60, self.run.minutes), (self.cpu() / 60, self.run.cpu_minutes))
        return min(1.0, max(done / budget for done, budget in spent if budget is not None))

    def steps_per_second(self, step: int) -> float:
        """The speed of the last steps; 0 if the clock has not moved.

        step: number of steps done.
        """
        self.recent.append((self.wall(), step))
        (start, first), (end, last) = self.recent[0], self.recent[-1]
        return (last - first) / (end - start) if end > start else 0.0

    @property
    def steady(self) -> bool:
        """Whether throughput is that of several steps."""
        return len(self.recent) > STEADY

    def pause(self, step: int) -> None:
        """What was done since the step was not training.

        step: number of steps done.
        """
        self.recent.clear()
        self.recent.append((self.wall(), step))

    def budget(self) -> float | None:
        """Seconds of wall time that the whole run may take, about; None without a budget of time."""
        found = [] if self.run.minutes is None else [60 * self.run.minutes]
        if self.run.cpu_minutes is not None and self.cpu() > 0:
            found.append(60 * self.run.cpu_minutes * self.wall() / self.cpu())
        return min(found, default=None)

    def images_to_evaluate(self, images_per_second: float, most: int, batch: int) -> int:
        """How many held-out images an evaluation may have, so that all of them take less than ``EVALUATING`` of the budget.

        images_per_second: speed of training.
        most: how many there are.
        batch: images of a training step.

        A budget of time is kept down to ``FEWEST_TIMED`` images; one of steps has no end to keep, so that ``FEWEST`` images remain for a
        score, and all where ``run.held_out_images`` is None.
        """
        budget, count = self.budget(), most
        share = EVALUATING / (self.run.evaluations * FORWARD * self.run.num_samples)       # of the images that are trained on
        if self.run.steps is not None and self.run.held_out_images is not None:
            count = max(min(count, FEWEST), min(count, int(share * self.run.steps * batch)))
        if budget is not None and images_per_second:
            count = max(min(count, FEWEST_TIMED), min(count, int(share * budget * images_per_second)))
        return count
