"""Tests of two detectors on the same rows, against literal computations."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from assay import metrics
from assay.measure.paired import delong, mcnemar, newcombe


def scores(n: int, *, ties: bool, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(n) % 3 == 0).astype(np.int8)
    both = random.normal(size=n)
    made = [np.clip(0.4 + 0.1 * gain * labels + 0.1 * both + random.normal(0, 0.1, n), 0, 1) for gain in (1, 2)]
    first, second = (np.round(each, 1) if ties else each for each in made)
    return labels, first, second


def literal(labels: np.ndarray, *each: np.ndarray) -> np.ndarray:
    """The covariance of the AUCs, pair by pair, as DeLong and others define it."""
    wins = [
        np.array(
            [
                [1.0 if fake > real else 0.5 if fake == real else 0.0 for real in score[labels == 0]]
                for fake in score[labels == 1]
            ]
        )
        for score in each
    ]
    fakes, reals = wins[0].shape
    by_fake = np.cov([win.mean(axis=1) for win in wins])
    by_real = np.cov([win.mean(axis=0) for win in wins])
    return by_fake / fakes + by_real / reals


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [7, 40, 151])
def test_the_variance_is_that_of_all_pairs(n: int, ties: bool) -> None:
    labels, first, second = scores(n, ties=ties, seed=n)
    found = delong(labels, first, second)
    covariance = literal(labels, first, second)
    told = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert found.error == pytest.approx(told, rel=1e-10)
    assert found.difference == pytest.approx(metrics.auc(labels, second) - metrics.auc(labels, first))
    assert found.z == pytest.approx(found.difference / told)
    assert found.p == pytest.approx(math.erfc(abs(found.z) / math.sqrt(2)))
    assert found.n == n


def test_detectors_that_are_alike_are_rejected_as_often_as_p_says() -> None:
    random = np.random.default_rng(0)
    labels = (np.arange(120) % 2).astype(np.int8)
    ps = []
    for _ in range(400):
        both = random.normal(size=120) + labels
        ps.append(delong(labels, both + random.normal(size=120), both + random.normal(size=120)).p)
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(ps) <= level) == pytest.approx(level, abs=0.06)


def test_a_better_detector_is_found() -> None:
    labels, first, second = scores(400, ties=False, seed=1)
    assert delong(labels, first, second).p < 0.01 < 0.5
    assert delong(labels, first, second).difference > 0
    assert delong(labels, second, first).z == -delong(labels, first, second).z


def test_the_same_ranking_differs_by_nothing() -> None:
    labels, first, _ = scores(50, ties=True, seed=2)
    found = delong(labels, first, first**3)
    assert (found.difference, found.error, found.z, found.p) == (0, 0, 0, 1)


def test_what_has_no_spread_or_no_class_is_not_tested() -> None:
    found = delong([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1])
    assert found.difference == -1
    assert math.isnan(found.p)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["p"] is None
    assert math.isnan(delong([1, 1, 1], [0.1, 0.2, 0.3], [0.1, 0.2, 0.4]).difference)
    assert math.isnan(delong([0, 1, 1], [0.1, 0.2, 0.3], [0.3, 0.2, 0.4]).error)
    with pytest.raises(ValueError, match="NaN"):
        delong([0, 1], [0.1, math.nan], [0.1, 0.2])


@pytest.mark.parametrize(("first_only", "second_only"), [(0, 0), (1, 0), (3, 3), (2, 9), (9, 2), (0, 6), (40, 71)])
def test_mcnemars_p_is_that_of_a_fair_coin(first_only: int, second_only: int) -> None:
    first = [True] * 20 + [False] * 5 + [True] * first_only + [False] * second_only
    second = [True] * 20 + [False] * 5 + [False] * first_only + [True] * second_only
    found = mcnemar(first, second)
    split = first_only + second_only
    tail = sum(math.comb(split, each) for each in range(min(first_only, second_only) + 1)) / 2**split
    assert (found.first_only, found.second_only, found.n) == (first_only, second_only, len(first))
    assert found.p == pytest.approx(min(1.0, 2 * tail))


def test_many_rows_overflow_nothing() -> None:
    rows = np.arange(200_000)
    even = mcnemar(rows % 2 == 0, rows % 2 == 1)
    assert even.p == 1
    uneven = mcnemar(rows % 100 < 49, rows % 100 >= 49)
    assert 0 <= uneven.p < 1e-15
    with pytest.raises(ValueError, match="against"):
        mcnemar([True], [True, False])


def split(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Rows of which both, one alone or neither are counted."""
    one = [True] * (both + first) + [False] * (second + neither)
    other = [True] * both + [False] * first + [True] * second + [False] * neither
    return one, other


def test_the_difference_of_two_shares_lies_between_newcombes_limits() -> None:
    # Newcombe's example: 36 both, 12 and 2 one alone, 0 neither; 0.2 (0.0569 to 0.3404).
    found = newcombe(*split(36, 2, 12, 0))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)
    assert found.n == 50
    turned = newcombe(*split(36, 12, 2, 0))
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


@pytest.mark.parametrize("cells", [(0, 0, 0, 30), (30, 0, 0, 0), (12, 0, 0, 18)])
def test_two_that_never_differ_are_not_taken_for_the_same(cells: tuple[int, int, int, int]) -> None:
    found = newcombe(*split(*cells))
    assert found.value == 0
    assert -0.15 < found.low < -0.005 < 0.005 < found.high < 0.15


def test_the_interval_covers_the_difference_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(500):
        common = random.random(80)
        one, other = (np.where(random.random(80) < 0.5, common, random.random(80)) < rate for rate in (0.1, 0.25))
        found = newcombe(one, other)
        covered += found.low <= 0.15 <= found.high
    assert 0.92 <= covered / 500 <= 0.99


def test_no_rows_have_no_difference_and_unlike_lengths_are_refused() -> None:
    assert math.isnan(newcombe([], []).value)
    with pytest.raises(ValueError, match="against"):
        newcombe([True], [True, False])
