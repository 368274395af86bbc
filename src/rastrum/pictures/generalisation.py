"""One-shot generalization of several models in one figure: nats by the number of exemplars, errors of classification, and what is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from .plots import COLOURS, _figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = Mapping[str, tuple[float, float]]     # a value and its standard error, by name

PANEL = (4.4, 3.4)             # inches


def generalisation_plot(
    nats: Mapping[str, Mapping[int, tuple[float, float]]], errors: Values, drawn: Mapping[str, tuple[tuple[float, float], ...]]
) -> Figure:
    """A panel for each of the three that is not empty.

    nats: of each model, by the number of exemplars, with standard errors.
    errors: of classification, shares of wrong answers, with standard errors.
    drawn: diversity relative to real drawings and recognisability, each with its standard error; of real drawings first.
    """
    panels = [draw for draw, found in ((partial(_nats, found=nats), nats), (partial(_errors, found=errors), errors),
                                       (partial(_drawn, found=drawn), drawn)) if found]  # fmt: skip
    figure = _figure(PANEL[0] * len(panels), PANEL[1])
    for axis, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axis)
        axis.tick_params(labelsize=8)
    return figure


def _nats(axis: Axes, found: Mapping[str, Mapping[int, tuple[float, float]]]) -> None:
    for n, (name, by_count) in enumerate(found.items()):
        values, errors = zip(*by_count.values(), strict=True)
        axis.errorbar(list(by_count), values, yerr=errors, marker="o", markersize=4, capsize=2, label=name, color=COLOURS[n % len(COLOURS)])
    axis.set(xlabel="exemplars", ylabel="nats per image")
    axis.legend(fontsize=7)


def _errors(axis: Axes, found: Values) -> None:
    names: Sequence[str] = list(found)
    values, errors = ([100 * value for value in each] for each in zip(*found.values(), strict=True))
    axis.barh(range(len(names)), values, xerr=errors, color=COLOURS[0], alpha=0.75, error_kw={"capsize": 2})
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set(xlabel="wrong answers, %", xlim=(0, 100))


def _drawn(axis: Axes, found: Mapping[str, tuple[tuple[float, float], ...]]) -> None:
    for n, (name, ((diversity, spread), (recognised, error))) in enumerate(found.items()):
        axis.errorbar(diversity, 100 * recognised, xerr=spread, yerr=100 * error, marker="o", markersize=5, capsize=2, linestyle="none",
                      label=name, color=("black", *COLOURS)[n % (1 + len(COLOURS))])  # fmt: skip
    axis.set(xlabel="diversity, relative to real drawings", ylabel="recognised, %", ylim=(0, 100))
    axis.set_xlim(left=0)
    axis.legend(fontsize=7)
