"""The points that curves are drawn from: true to the figures, few, and read back only where they hold."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from assay import metrics
from assay.measure.shape import BINS, CORNERS, Shape, shape


def made(n: int, seed: int = 0, digits: int = 9) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    return labels, np.round(np.clip(random.normal(0.4 + 0.2 * labels, 0.2), 0, 1), digits)


def area(found: Shape) -> float:
    fpr, tpr = np.array([corner[:2] for corner in found.roc]).T
    return float(((fpr[1:] - fpr[:-1]) * (tpr[1:] + tpr[:-1]) / 2).sum())


@pytest.mark.parametrize("digits", [9, 1])
def test_the_area_under_the_corners_is_the_auc_with_ties_and_without(digits: int) -> None:
    labels, scores = made(120, digits=digits)
    found = shape(labels, scores)
    assert area(found) == pytest.approx(metrics.auc(labels, scores))
    assert found.roc[0][:2] == (0, 0)
    assert found.roc[-1][:2] == (1, 1)
    for corner in found.roc[1:]:
        assert metrics.rates(labels, scores, corner.threshold) == pytest.approx(corner[:2])


def test_points_on_a_straight_line_are_no_corners() -> None:
    assert [corner[:2] for corner in shape([0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.3, 0.7, 0.8, 0.9]).roc] == [
        (0, 0),
        (0, 1),
        (1, 1),
    ]
    assert [corner[:2] for corner in shape([0, 1], [0.5, 0.5]).roc] == [(0, 0), (1, 1)]


def test_a_long_curve_keeps_few_corners_all_of_them_measured_and_its_area() -> None:
    labels, scores = made(20_000)
    found = shape(labels, scores)
    assert CORNERS / 2 < len(found.roc) <= CORNERS
    assert area(found) == pytest.approx(metrics.auc(labels, scores), abs=0.002)
    for corner in found.roc[1::40]:
        assert metrics.rates(labels, scores, corner.threshold) == pytest.approx(corner[:2])


@pytest.mark.parametrize(("n", "digits"), [(400, 9), (400, 1), (7, 9)])
def test_the_gaps_of_the_bins_add_up_to_the_calibration_error(n: int, digits: int) -> None:
    labels, scores = made(n, seed=3, digits=digits)
    bins = shape(labels, scores).reliability
    assert len(bins) <= BINS
    assert sum(each.fakes.n for each in bins) == n
    gaps = sum(each.fakes.n * abs(each.score - each.fakes.value) for each in bins) / n
    assert gaps == pytest.approx(metrics.expected_calibration_error(labels, scores, BINS))
    assert [each.score for each in bins] == sorted(each.score for each in bins)


def test_without_a_class_there_is_no_curve_and_without_rows_nothing() -> None:
    assert shape([1, 1], [0.2, 0.9]).roc == ()
    assert len(shape([1, 1], [0.2, 0.9]).reliability) == 2
    assert shape([], []) == Shape((), ())
    with pytest.raises(ValueError, match="NaN"):
        shape([0, 1], [0.2, math.nan])


def test_it_is_read_back_as_it_was_written_and_nothing_else_is_read() -> None:
    told = json.loads(json.dumps(shape(*made(50)).to_dict(), allow_nan=False))
    assert Shape.from_dict(told).to_dict() == told
    assert told["roc"][0] == [0, 0, None]
    for spoilt in (
        {},
        {**told, "roc": [[0, 2, None]]},
        {**told, "reliability": [{"score": 0.5}]},
        {**told, "roc": [[0]]},
    ):
        with pytest.raises((KeyError, TypeError, ValueError)):
            Shape.from_dict(spoilt)
