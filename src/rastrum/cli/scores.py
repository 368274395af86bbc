"""Held-out scores, in words and as fields of JSON."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..evaluation import Evaluation


def said(evaluation: Evaluation) -> str:
    """An ``evaluation`` in words, with its kind."""
    error = "" if math.isnan(evaluation.standard_error) else f" ± {evaluation.standard_error:.2f}"
    text = f"{evaluation.nats:.2f}{error} nats"
    if evaluation.kind == "loss":
        return f"loss {evaluation.nats:.2f}{error} (no likelihood), {evaluation.images:,} images"
    error = "" if math.isnan(evaluation.standard_error) else f" ± {evaluation.bits_standard_error:.4f}"
    bound = ", a bound" if evaluation.kind == "bound" else ""
    return f"{text}, {evaluation.bits_per_dim:.4f}{error} bits/dim ({evaluation.images:,} images{bound})"


def as_dict(evaluation: Evaluation) -> dict[str, Any]:
    """An ``evaluation`` for JSON, with bits per dimension."""
    bits = {"bits_per_dim": evaluation.bits_per_dim, "bits_standard_error": evaluation.bits_standard_error}
    result = {**dataclasses.asdict(evaluation), **bits}
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in result.items()}
