"""Exemplars of an image, drawn from the other images of its group: other drawings of the same character, never the image itself.

    image i of group g ──▶ its number of exemplars n, 0 … k or fixed ──▶ n of the other images of g, all different ──▶ spatial map

What is drawn belongs to (seed, epoch, image), as crops do, so any batch can be made without those before it and a run that is resumed goes
on exactly. Held-out images have one fixed set each. The first n exemplars of an image are the same for every n, so that scores with more
and with fewer exemplars are compared on sets that contain one another.

Dimensions: N images · B of them in a batch · M images that exemplars are drawn from · k slots.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..exemplars import ABSENT, exemplar_map
from ..noise import EXEMPLAR, words

FIXED = 0                      # seed of the sets of held-out images


@dataclass(frozen=True)
class ExemplarSets:
    """The condition of each image of a data set, made when it is asked for; indexed like a tensor (N, k·C, H, W), it gives the fixed sets.

    images: levels (M, C, H, W), those that exemplars are drawn from.
    levels: their number.
    groups: what each of them shows, as whole numbers (M,).
    index: which of them each image of the data set is, (N,).
    slots: most exemplars of an image, k.
    shown: how many each image has; None (default) = a number from 0 to k, drawn too, or fewer where its group has fewer others.

    Raises ``ValueError`` for numbers below 0 or above k, and for a fixed number where a group has too few images.
    """

    images: Tensor
    levels: int
    groups: Tensor
    index: Tensor
    slots: int
    shown: int | None = None

    def __post_init__(self) -> None:
        if type(self.slots) is not int or self.slots < 1:
            raise ValueError(f"exemplars: expected a whole number of at least 1, got {self.slots!r}")
        if self.shown is not None and (type(self.shown) is not int or not 0 <= self.shown <= self.slots):
            raise ValueError(f"exemplars_shown: expected a whole number from 0 to the {self.slots} exemplars, got {self.shown!r}")
        order = np.argsort(self.groups.numpy(), kind="stable")            # images of a group side by side
        _, first, inverse, counts = np.unique(self.groups.numpy()[order], return_index=True, return_inverse=True, return_counts=True)
        start, size, rank = (np.empty(len(order), np.int64) for _ in range(3))
        start[order], size[order] = first[inverse], counts[inverse]
        rank[order] = np.arange(len(order)) - first[inverse]
        object.__setattr__(self, "_members", (order, start, size, rank))
        fewest = int(size[self.index.numpy()].min(initial=2**31)) - 1
        if self.shown is not None and fewest < self.shown:
            most = f"an image has only {fewest} others of its kind in this split, so at most {fewest} exemplars"
            raise ValueError(f"exemplars_shown: {most}; got {self.shown}")

    @property
    def most(self) -> int:
        """The largest number of exemplars that an image can have: others of its group, at most k."""
        _, _, size, _ = self._members                                     # pyright: ignore[reportAttributeAccessIssue]
        return min(self.slots, int(size[self.index.numpy()].max(initial=1)) - 1)

    # ── as a tensor of conditions ────────────────────────────────────────────────────────────────────────────────────────────

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> torch.Size:
        """(N, k·C, H, W)."""
        channels, *size = self.images.shape[1:]
        return torch.Size([len(self), self.slots * channels, *size])

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """The tensors that it is made of."""
        return self.images, self.groups, self.index

    def dim(self) -> int:
        """Always 4."""
        return 4

    def is_floating_point(self) -> bool:
        """Always True."""
        return True

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """The fixed sets of some images, float32 (n, k·C, H, W)."""
        return self._maps(self.chosen(torch.arange(len(self))[index].numpy(), FIXED, 0))

    # ── sets ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def select(self, index: Tensor | slice) -> ExemplarSets:
        """Those of some of the images, whose exemplars stay as they are.

        index: integers (n,) or a slice.
        """
        return replace(self, index=self.index[index])

    def showing(self, count: int | None) -> ExemplarSets:
        """The same with another number of exemplars per image.

        count: how many; None = 0 … k.
        """
        return replace(self, shown=count)

    def draw(self, index: np.ndarray, seed: int, epochs: np.ndarray | int) -> Tensor:
        """Fresh sets for some images.

        index: numbers of the images in the data set, (B,).
        seed: of the training.
        epochs: one per image.

        Returns float32 (B, k·C, H, W).
        """
        return self._maps(self.chosen(index, seed, epochs))

    def chosen(self, index: np.ndarray, seed: int, epochs: np.ndarray | int) -> np.ndarray:
        """Which of ``images`` are the exemplars of some images; parameters as for ``draw``.

        Returns (B, k) int64, −1 where there is none.
        """
        order, start, size, rank = self._members                          # pyright: ignore[reportAttributeAccessIssue]
        own = self.index.numpy()[index]
        drawn = words(seed, own, 1 + self.slots, epochs, EXEMPLAR).astype(np.uint64)
        others = size[own] - 1
        most = np.minimum(self.slots, others)
        shown = (drawn[:, 0] * (most + 1).astype(np.uint64) >> np.uint64(32)).astype(np.int64) if self.shown is None else self.shown
        deck = np.tile(np.arange(max(int(others.max(initial=0)), self.slots)), (len(own), 1))
        every = np.arange(len(own))
        for slot in range(self.slots):                                    # Fisher and Yates' shuffle, as far as it is needed
            left = np.maximum(others - slot, 1)
            swap = slot + (drawn[:, 1 + slot] * left.astype(np.uint64) >> np.uint64(32)).astype(np.int64)
            deck[every, slot], deck[every, swap] = deck[every, swap], deck[every, slot].copy()
        picks = deck[:, : self.slots]
        picks = picks + (picks >= rank[own][:, None])                     # pass over the image itself
        picks = order[np.minimum(start[own][:, None] + picks, len(order) - 1)]
        return np.where(np.arange(self.slots) < np.minimum(shown, most)[..., None], picks, -1)

    def _maps(self, chosen: np.ndarray) -> Tensor:
        numbers = torch.from_numpy(chosen)
        filled = exemplar_map(self.images[numbers.clamp(min=0).flatten()].unflatten(0, chosen.shape), self.slots, self.levels)
        absent = (numbers < 0).repeat_interleave(self.images.shape[1], 1)
        return filled.masked_fill_(absent[..., None, None], ABSENT)
