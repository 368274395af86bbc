"""A set of exemplars as a condition of kind "map": other pictures of the same thing, such as drawings of one character by other people.

    up to k pictures (C, h, w) in [0, 1] ──▶ k slots, one after another along the channels ──▶ spatial map (k·C, h, w)

A slot without an exemplar holds −1 everywhere, so one ``ConditionSpec("map", (k·C, h, w))`` serves any number of exemplars from 0 to k, and
every model that takes a spatial map can be given them. A map (C, h, w) is one exemplar.

Dimensions: B images · n exemplars of each · k slots · C channels · h, w size of an exemplar.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .protocol import ArrayLike, ConditionSpec, as_tensor

ABSENT = -1.0                  # everywhere in a slot without an exemplar


def exemplar_map(exemplars: ArrayLike, slots: int, levels: int = 256) -> Tensor:
    """Exemplars as a model takes them: ``condition=exemplar_map(…)``.

    exemplars: integer levels (B, n, C, h, w), torch or numpy, n from 0 to ``slots``.
    slots: most exemplars of an image that the model takes, k.
    levels: of the exemplars, 256 by default.

    Returns float32 (B, k·C, h, w). Raises ``ValueError`` for another shape, more exemplars than slots, or values that are not levels.
    """
    x = as_tensor("exemplars", exemplars)
    if x.ndim != 5 or x.is_floating_point():
        raise ValueError(f"exemplars: expected integer levels of shape (B, n, C, h, w), got {x.dtype} of shape {tuple(x.shape)}")
    batch, count, channels, height, width = x.shape
    if count > slots:
        raise ValueError(f"exemplars: there are {slots} slots, got {count} exemplars of an image; give fewer, or a model more slots")
    if x.numel() and not 0 <= int(x.min()) <= int(x.max()) < levels:
        raise ValueError(f"exemplars: levels must lie in 0 … {levels - 1}, got {int(x.min())} … {int(x.max())}")
    filled = torch.full((batch, slots, channels, height, width), ABSENT, device=x.device)
    filled[:, :count] = x.float() / (levels - 1)
    return filled.flatten(1, 2)


def exemplars_in(condition: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """The exemplars of a spatial map.

    condition: (B, k·C, h, w).
    channels: C of an exemplar.

    Returns the slots (B, k, C, h, w), and which of them hold an exemplar, bool (B, k): those that are not negative everywhere.
    """
    slots = condition.unflatten(1, (-1, channels))
    return slots, (slots >= 0).flatten(2).any(2)


def check_exemplar_map(condition: Tensor, channels: int) -> None:
    """Raises ``ValueError`` for a spatial map with a slot that holds neither a picture in [0, 1] nor −1 everywhere.

    condition: (B, k·C, h, w).
    channels: C of an exemplar.
    """
    slots = condition.unflatten(1, (-1, channels)).flatten(2)
    fits = ((slots >= 0) & (slots <= 1)).all(2) | (slots == ABSENT).all(2)
    if not bool(fits.all()):
        wrong = slots[~fits]
        raise ValueError(
            f"condition: an exemplar lies in [0, 1], an empty slot is −1 everywhere; got a slot of {float(wrong.min()):g} … "
            f"{float(wrong.max()):g}; rastrum.exemplar_map makes the map from levels"
        )


def slots_of(spec: ConditionSpec | None, channels: int) -> int:
    """How many exemplars a condition has room for, k.

    spec: of kind "map".
    channels: C of an exemplar.

    Raises ``ValueError`` for a condition of another kind or none, and for a map that does not consist of whole exemplars.
    """
    if spec is None or spec.kind != "map":
        has = "no condition" if spec is None else f"a condition of kind {spec.kind!r}"
        remedy = "train one with --data.exemplars and --conditional"
        raise ValueError(f"exemplars: expected a model that is given them as a spatial map, this one has {has}; {remedy}")
    assert isinstance(spec.size, tuple)
    if spec.size[0] % channels:
        raise ValueError(
            f"condition: a map of exemplars has {channels} channels for each, so a multiple of {channels}; got a size of {spec.size}"
        )
    return spec.size[0] // channels
