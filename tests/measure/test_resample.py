"""Intervals of many rounds at once are those of `assay.metrics.bootstrap`, and differences are paired."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from assay import metrics
from assay.measure import resample
from assay.measure.resample import AUC, BALANCED, BRIER, ECE, MEAN, Statistic, bootstrap, drawn, interval, tpr_at_fpr
from assay.metrics import Floats, Labels

OF_CALLS = {"balanced": BALANCED, "mean": MEAN}
OF_SCORES = {"auc": AUC, "ece": ECE, "brier": BRIER, "tpr1": tpr_at_fpr(0.01), "tpr5": tpr_at_fpr(0.05)}


def rows(n: int, *, ties: bool, seed: int = 0) -> tuple[Labels, Floats, list[str]]:
    """Labels, scores and sources of unlike sizes."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n).astype(np.int8)
    scores = np.clip(random.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    sources = [f"s{int(number**2)}" for number in random.uniform(0, 4, n)]
    return labels, np.round(scores, 1) if ties else scores, sources


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", [*OF_SCORES, *OF_CALLS])
@pytest.mark.parametrize("n", [7, 150])
def test_every_interval_is_that_of_the_rounds_one_by_one(name: str, ties: bool, n: int) -> None:
    labels, scores, sources = rows(n, ties=ties)
    statistic = (OF_SCORES | OF_CALLS)[name]
    if name in OF_CALLS:
        scores = (scores >= 0.5).astype(np.float64)
    told = metrics.bootstrap(statistic.plain, labels, scores, clusters=sources, rounds=60, seed=5)
    found = bootstrap(statistic, labels, scores, clusters=sources, rounds=60, seed=5)
    assert (found.value, found.n) == (told.value, told.n)
    assert (found.low, found.high) == pytest.approx((told.low, told.high), abs=1e-12)
    assert found.low < found.high


@pytest.mark.parametrize("sources", [["one"] * 40, [str(number) for number in range(40)]])
def test_a_class_of_one_source_is_drawn_row_by_row(sources: Sequence[str]) -> None:
    labels, scores, _ = rows(40, ties=False)
    told = metrics.bootstrap(metrics.auc, labels, scores, clusters=sources, rounds=50)
    assert bootstrap(AUC, labels, scores, clusters=sources, rounds=50) == told


def test_rounds_in_parts_are_the_same_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, scores, sources = rows(50, ties=False)
    whole = drawn(ECE, labels, scores, clusters=sources, rounds=33)
    monkeypatch.setattr(resample, "_CELLS", 50 * 7)
    np.testing.assert_array_equal(drawn(ECE, labels, scores, clusters=sources, rounds=33), whole)
    monkeypatch.setattr(resample, "_CELLS", 1)
    np.testing.assert_array_equal(drawn(ECE, labels, scores, clusters=sources, rounds=33), whole)


def test_scores_of_two_detectors_are_drawn_together() -> None:
    labels, scores, sources = rows(80, ties=False)
    first = drawn(MEAN, labels, scores, clusters=sources, rounds=40)
    second = drawn(MEAN, labels, scores + 0.25, clusters=sources, rounds=40)
    np.testing.assert_allclose(second - first, 0.25)
    assert np.ptp(first) > 0.01


@pytest.mark.parametrize("statistic", [AUC, BALANCED, tpr_at_fpr(0.05)])
def test_what_needs_both_classes_has_no_value_without_one(statistic: Statistic) -> None:
    found = bootstrap(statistic, np.ones(5, np.int8), np.linspace(0, 1, 5), clusters="abcde", rounds=9)
    assert [math.isnan(value) for value in (found.value, found.low, found.high)] == [True] * 3
    assert found.n == 5
    drawing = drawn(statistic, np.ones(5, np.int8), np.linspace(0, 1, 5), clusters="abcde", rounds=9)
    assert np.isnan(drawing).all()


def test_no_rows_and_no_rounds_have_no_interval() -> None:
    none = bootstrap(MEAN, np.empty(0, np.int8), np.empty(0), clusters=(), rounds=9)
    assert math.isnan(none.value)
    labels, scores, sources = rows(20, ties=False)
    found = bootstrap(MEAN, labels, scores, clusters=sources, rounds=0)
    assert (found.value, math.isnan(found.low), math.isnan(found.high)) == (scores.mean(), True, True)
    assert math.isnan(interval(0.5, np.array([math.nan]), 3).low)
    assert interval(0.5, np.array([math.nan, 0.4, 0.6]), 3).low == pytest.approx(0.405)
