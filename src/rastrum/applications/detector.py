"""A calibrated detector of unusual images: a model, and what usual images score under it (docs/anomaly.md).

    s(x) = bits(x) − PNG bits(x)                                   surprise beyond complexity (``anomaly.py``), or bits(x) alone
    p(x) = (1 + number of usual images with s ≥ s(x)) / (1 + N)    how often a usual image surprises as much

An alarm where p ≤ α is false for at most a share α of usual images. The file holds scores only, no images and no weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..compression import fingerprint
from ..data.dataset import Dataset
from ..evaluation import image_nats
from ..files import write_files
from ..model import Model
from ..notebook import safe, table
from .anomaly import RankBy, Scores, p_values, scores, z_scores

KIND, FORMAT = "rastrum detector", 1
LARGEST = 2**28                # bytes of a file that is read


@dataclass(frozen=True)
class Detector:
    """What usual images score under a model.

    usual: scores of the N usual images, at least one, all finite.
    model: ``fingerprint`` of the model in hexadecimal digits.
    reference: which images these are, in words.
    settings: how images are prepared and scored, values of JSON; scores of images that are treated differently cannot be compared.

    Raises ``ValueError`` for no scores, and scores that are not finite.
    """

    usual: Scores
    model: str
    reference: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        usual = self.usual.corrected
        if usual.ndim != 1 or not len(usual) or not bool(torch.isfinite(usual).all()):
            raise ValueError(f"detector: expected finite scores of at least one usual image, got shape {tuple(usual.shape)}")

    def __len__(self) -> int:
        return len(self.usual.bits)

    def __repr__(self) -> str:
        return f"Detector({len(self):,} usual images{f' of {self.reference}' if self.reference else ''}, model {self.model})"

    @safe
    def _repr_html_(self) -> str:
        settings = ", ".join(f"{name}: {value}" for name, value in self.settings.items())
        rows = {"usual images": f"{len(self):,}", "of": self.reference, **self.usual.rows(), "smallest p": f"{1 / (1 + len(self)):.4g}"}
        return table("Detector of unusual images", {**rows, "model": self.model, "settings": settings})

    @classmethod
    def fit(cls, model: Model, usual: Dataset, settings: Mapping[str, Any] | None = None, **scoring: Any) -> Detector:
        """Score usual images that the model was not trained on.

        model: any model with a likelihood or a bound.
        usual: the images, with their conditions where the model is conditional.
        settings: how they were prepared; None (default) for nothing.
        scoring: options of ``image_nats``, such as ``num_samples``; those that change a score belong in ``settings`` too.

        Raises ``ValueError`` for data that do not fit the model.
        """
        of = scores(model.spec, usual.images, image_nats(model, usual, **scoring))
        return cls(of, fingerprint(model).hex(), f"{usual.name} {usual.split}".strip(), settings or {})

    def p_values(self, new: Scores, rank_by: RankBy = "less-png") -> Tensor:
        """How often a usual image surprises at least as much, by rank: one-sided, small where an image is unusual.

        new: scores of the images in question under the same model.
        rank_by: "less-png" (default), bits less PNG bits, or "bits", which finds images that are also more complex than usual ones.

        Returns (N,) float64, at least 1 / (1 + number of usual images).
        """
        return p_values(new.ranked(rank_by), self.usual.ranked(rank_by))

    def z_scores(self, new: Scores) -> tuple[Tensor, Tensor]:
        """Standard deviations above the mean of the usual images, by bits and by bits less PNG bits; needs two usual images.

        new: scores of the images.
        """
        return z_scores(new.bits, self.usual.bits), z_scores(new.corrected, self.usual.corrected)

    def check(self, model: Model, settings: Mapping[str, Any] | None = None) -> None:
        """Check that scores can be compared with those of this detector.

        model: that gives the scores.
        settings: how images are prepared and scored; None (default) = do not compare.

        Raises ``ValueError`` for another model and for other settings, naming the first.
        """
        digest = fingerprint(model).hex()
        if digest != self.model:
            raise ValueError(f"detector: it was made with another model ({self.model}), this one is {digest}; fit it again")
        if settings is None:
            return
        now, then = (json.loads(json.dumps(dict(each))) for each in (settings, self.settings))   # tuples become lists, as in a file
        for name in sorted({*now, *then}):
            ours, theirs = now.get(name), then.get(name)
            if ours != theirs:
                raise ValueError(f"detector: it was made with {name} {theirs}, not {ours}; use the same, or fit it again")

    def save(self, path: str | Path) -> None:
        """Write a JSON file, or nothing.

        path: of the file.

        Raises ``OSError`` where writing fails.
        """
        facts = {"kind": KIND, "format": FORMAT, "model": self.model, "reference": self.reference, "settings": dict(self.settings)}
        facts |= {"bits": self.usual.bits.tolist(), "png_bits": self.usual.complexity.tolist()}
        path = Path(path)
        write_files(path.parent, {path.name: (json.dumps(facts, allow_nan=False) + "\n").encode()})

    @classmethod
    def load(cls, path: str | Path) -> Detector:
        """Read what ``save`` wrote.

        path: of the file.

        Raises ``ValueError`` for any other file.
        """
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"detector: there is no file {str(path)!r}")
        wrong = ValueError(f"detector: {str(path)!r} is not a detector that this version of rastrum can read")
        if path.stat().st_size > LARGEST:
            raise wrong
        try:
            facts = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            raise wrong from None
        if not isinstance(facts, dict) or facts.get("kind") != KIND or facts.get("format") != FORMAT:
            raise wrong
        model, reference, settings = facts.get("model"), facts.get("reference"), facts.get("settings")
        values = [facts.get("bits"), facts.get("png_bits")]
        if not (isinstance(model, str) and isinstance(reference, str) and isinstance(settings, dict)):
            raise wrong
        if not all(isinstance(each, list) and all(type(value) in (int, float) for value in each) for each in values):
            raise wrong
        try:
            bits, complexity = (torch.tensor(each, dtype=torch.float64) for each in values)
        except (OverflowError, RuntimeError):
            raise wrong from None
        if bits.shape != complexity.shape:
            raise wrong
        return cls(Scores(bits, complexity), model, reference, settings)


def check_alarm(alarm: float, usual: int | None = None) -> None:
    """Check a rate of false alarms.

    alarm: the rate.
    usual: how many usual images there are; None (default) = unknown.

    Raises ``ValueError`` for a rate that is not in (0, 1), and one that so few usual images cannot show.
    """
    if not 0 < alarm < 1:
        raise ValueError(f"alarm: expected a rate of false alarms above 0 and below 1, such as 0.05, got {alarm}")
    if usual is not None and 1 / (1 + usual) > alarm:
        needed = math.ceil(1 / alarm) - 1
        raise ValueError(f"alarm: {usual} usual images give no p below {1 / (1 + usual):.4g}; {alarm:g} needs at least {needed} of them")
