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

UNIT = 2 / 255


def picture(channels: int, height: int = 7, width: int = 9, seed: int = 0) -> np.ndarray:
    """A smooth picture with noise, (H, W, C), in [−1, 1]."""
    rng = np.random.default_rng(seed)
    waves = np.sin(np.arange(height)[:, None, None] / 3 + np.arange(width)[None, :, None] / 2 + np.arange(channels))
    return np.clip(0.6 * waves + 0.1 * rng.normal(size=(height, width, channels)), -1, 1)


def neighbour(x: np.ndarray, row: int, column: int, place: Any, otherwise: float) -> float:
    """By the definition: moved onto the edge, ``otherwise`` where it is not decided yet."""
    y, at = max(row + place[0], 0), min(max(column + place[1], 0), x.shape[1] - 1)
    return otherwise if (y, at) >= (row, column) else float(x[y, at])


def all_predictions(x: np.ndarray) -> np.ndarray:
    """The map of predictions of a picture (H, W, C): blended, long and short of each channel, (H, W, 3 C)."""
    adaptive = AdaptivePrediction(x.shape[2])
    around = adaptive(torch.from_numpy(x)[None])
    whole = around.predictions._base
    assert whole is not None and whole.shape[-1] == adaptive.predictions
    return whole[0].numpy()


def base(x: np.ndarray, row: int, column: int) -> float:
    return x[row, column - 1] if column else x[row - 1, column] if row else 0.0


@pytest.mark.parametrize(("channels", "channel"), [(1, 0), (2, 1), (3, 0), (3, 2)])
def test_predictions_are_least_squares_that_fade_with_distance(channels: int, channel: int) -> None:
    """By the definition: every pixel before the block, weighted by its rows and blocks from there, solved at once; then the blend."""
    x = picture(channels, 6, 19)
    height, width = x.shape[:2]
    found = all_predictions(x)[:, :, channel::channels]                   # blended, long, short
    own, rows, targets, gains, places = x[..., channel], [], [], [], []
    for row in range(height):
        for column in range(width):
            reads = []
            for other in range(channels):
                its = base(x[..., other], row, column)
                reads += [x[row, column, other] - its] if other < channel else []
                count = 20 if other == channel else 12 if other < channel else 6
                reads += [neighbour(x[..., other], row, column, place, its) - its for place in least_squares.OWN[:count]]
            vector, block = np.array(reads), column // 8
            learnt = [n for n, place in enumerate(places) if place[0] < row or place[1] < block]
            predictions = []
            for rows_keep, blocks_keep in ((0.95, 0.8), (0.8, 0.6)):
                w = np.zeros(len(vector))
                if learnt:
                    ages = [rows_keep ** (row - places[n][0]) * blocks_keep ** abs(block - places[n][1]) for n in learnt]
                    past, weights = np.array([rows[n] for n in learnt]), np.array(ages) * np.array([gains[n] for n in learnt])
                    R = past.T @ (weights[:, None] * past) + 0.01 * UNIT * np.eye(len(vector))
                    w = np.linalg.solve(R, past.T @ (weights * np.array([targets[n] for n in learnt])))
                predictions.append(np.clip(base(own, row, column) + vector @ w, -1, 1))
            wrong = np.array([[abs(neighbour(own, row, column, place, 0.0) - neighbour(found[..., k], row, column, place, 0.0))
                               for place in least_squares.ERRORS] for k in range(3)])  # fmt: skip
            odds = ((wrong[2].sum() + 0.3 * UNIT) / (wrong[1].sum() + 0.3 * UNIT)) ** 8
            blended = (predictions[0] * odds + predictions[1]) / (1 + odds)
            np.testing.assert_allclose(found[row, column], [blended, *predictions], rtol=0, atol=1e-9, err_msg=f"{row, column}")
            rows.append(vector)
            targets.append(own[row, column] - base(own, row, column))
            gains.append(0.004 / (wrong[0, :4].sum() + 0.9 * UNIT))
            places.append((row, block))


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
        far = np.array([[neighbour(x[..., c], *at, place, 0.0) - neighbour(predictions[..., c], *at, place, 0.0) for c in range(3)]
                        for place in least_squares.FARTHER])  # fmt: skip
        relative = np.log(np.abs(far).mean(0) + 0.3 * UNIT) - np.log(scales)
        expected = np.concatenate([cut, np.clip(errors / scales, -8, 8).ravel(), np.log(scales) + 4.5, middles, relative, [first]])
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
