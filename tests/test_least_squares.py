"""Prediction that adapts to the image: against the closed form of weighted least squares, and its step against whole images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import rastrum
from rastrum import ImageSpec
from rastrum.layers.adaptive import AdaptivePrediction
from rastrum.native import least_squares

FORGETS, UNIT = 0.9995, 2 / 255


def picture(channels: int, height: int = 7, width: int = 9, seed: int = 0) -> np.ndarray:
    """A smooth picture with noise, (H, W, C), in [−1, 1]."""
    rng = np.random.default_rng(seed)
    waves = np.sin(np.arange(height)[:, None, None] / 3 + np.arange(width)[None, :, None] / 2 + np.arange(channels))
    return np.clip(0.6 * waves + 0.1 * rng.normal(size=(height, width, channels)), -1, 1)


def neighbour(x: np.ndarray, row: int, column: int, place: Any, otherwise: float) -> float:
    """By the definition: moved onto the edge, ``otherwise`` where it is not decided yet."""
    y, at = max(row + place[0], 0), min(max(column + place[1], 0), x.shape[1] - 1)
    return otherwise if (y, at) >= (row, column) else float(x[y, at])


def base(x: np.ndarray, row: int, column: int) -> float:
    return x[row, column - 1] if column else x[row - 1, column] if row else 0.0


@pytest.mark.parametrize(("channels", "channel"), [(1, 0), (2, 1), (3, 0), (3, 2)])
def test_predictions_are_the_weighted_least_squares_of_all_pixels_before(channels: int, channel: int) -> None:
    x = picture(channels)
    found = AdaptivePrediction(channels)(torch.from_numpy(x)[None]).predictions[0, ..., channel].numpy()
    height, width = x.shape[:2]
    own, rows, targets, gains = x[..., channel], [], [], []
    for row in range(height):
        for column in range(width):
            reads = [x[row, column, k] - base(x[..., k], row, column) for k in range(channel)]
            reads += [neighbour(own, row, column, place, base(own, row, column)) - base(own, row, column) for place in least_squares.OWN]
            for k in range(1, channels):
                other = x[..., (channel + k) % channels]
                its = base(other, row, column)
                reads += [neighbour(other, row, column, place, its) - its for place in least_squares.OTHERS]
            vector, t = np.array(reads), len(rows)
            learnt = t // 16 * 16
            ages = FORGETS ** (learnt - 1 - np.arange(learnt))
            past = np.array(rows[:learnt]).reshape(learnt, len(vector))
            aims, weights = np.array(targets[:learnt]), ages * np.array(gains[:learnt])
            if learnt:
                R = past.T @ (weights[:, None] * past) + 0.02 * UNIT * np.eye(len(vector))
                prediction = base(own, row, column) + vector @ np.linalg.solve(R, past.T @ (weights * aims))
            else:
                prediction = base(own, row, column)
            assert abs(np.clip(prediction, -1, 1) - found[row, column]) < 1e-9, (row, column)
            errors = [abs(neighbour(own, row, column, place, 0.0) - neighbour(found, row, column, place, 0.0))
                      for place in ((0, -1), (-1, 0), (-1, -1), (-1, 1))]  # fmt: skip
            rows.append(vector)
            targets.append(own[row, column] - base(own, row, column))
            gains.append((1 - FORGETS) / ((sum(errors) + 0.9 * UNIT) / 4))


def test_surroundings_are_relative_to_the_errors_nearby() -> None:
    x = picture(3)
    around = AdaptivePrediction(3)(torch.from_numpy(x)[None])
    predictions, shown = around.predictions[0].numpy(), around.shown[0].numpy()
    places, errors_at = least_squares.SHOWN, least_squares.ERRORS
    for row, column in ((0, 0), (0, 4), (3, 0), (4, 5), (6, 8)):
        scales, at = np.zeros(3), (row, column)
        errors = np.zeros((len(errors_at), 3))
        for c in range(3):
            own, predicted = x[..., c], predictions[..., c]
            errors[:, c] = [neighbour(own, *at, place, 0.0) - neighbour(predicted, *at, place, 0.0) for place in errors_at]
            scales[c] = np.abs(errors[:, c]).mean() + 0.3 * UNIT
        np.testing.assert_allclose(around.scales[0, row, column], scales, rtol=1e-12)
        np.testing.assert_allclose(around.inverse[0, row, column], 1 / scales, rtol=1e-12)
        np.testing.assert_allclose(around.logs[0, row, column], np.log(scales), rtol=1e-12)
        middles = np.array([(base(x[..., c], *at) + neighbour(x[..., c], *at, (-1, 0), base(x[..., c], *at))) / 2 for c in range(3)])
        seen = np.array([[neighbour(x[..., c], *at, place, base(x[..., c], *at)) - middles[c] for c in range(3)] for place in places])
        cut = np.clip(seen / (4 * scales.mean()), -8, 8).ravel()
        first = np.clip((predictions[row, column, 0] - middles[0]) / (4 * scales.mean()), -8, 8)
        expected = np.concatenate([cut, np.clip(errors / scales, -8, 8).ravel(), np.log(scales) + 4.5, middles, [first]])
        np.testing.assert_allclose(shown[row, column], expected, rtol=1e-10, atol=1e-12)


def test_a_smooth_picture_is_predicted_better_than_by_its_neighbour() -> None:
    """The point of it: after a few rows, a wave that no fixed weights know."""
    x = 0.7 * np.sin(np.arange(40)[:, None] * 0.9 + np.arange(40) * 0.5)[..., None]
    found = AdaptivePrediction(1)(torch.from_numpy(x)[None]).predictions[0].numpy()
    errors, differences = np.abs(found - x)[5:, 1:], np.abs(x[:, 1:] - x[:, :-1])[5:]
    assert errors.mean() < 0.1 * differences.mean()


@pytest.mark.parametrize("spec", [ImageSpec(1, 1, 1, 2), ImageSpec(3, 9, 11, 256), ImageSpec(2, 6, 3, 65536)])
def test_the_step_draws_and_codes_what_whole_images_say(spec: ImageSpec) -> None:
    """Native, torch and full forward passes draw the same, past the pixels where weights are solved; files decode."""
    model = rastrum.build("least-squares", spec, preset="tiny", seed=1)
    assert isinstance(model, rastrum.RasterModel)
    drawn = rastrum.sample(model, 2, seed=3)
    for backend in ("torch", "naive"):
        assert torch.equal(drawn, rastrum.sample(model, 2, seed=3, backend=backend))
    assert torch.equal(rastrum.decompress(model, rastrum.compress(model, drawn)), drawn)


def test_without_numba_the_model_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rastrum.native.compiler.available", False)
    with pytest.raises(ValueError, match="numba"):
        rastrum.build("least-squares", ImageSpec(1, 4, 4, 2), preset="tiny")
