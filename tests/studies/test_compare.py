"""Figures over seeds and rows, and arms against each other, checked against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from assay import metrics
from assay.studies.compare import Scores, accuracy, balanced, figures, paired, scores_of
from assay.studies.result import Cost, Result, Row


def scores(labels: list[int], *values: list[float], sources: str = "", groups: str = "") -> Scores:
    """Rows named a, b, c, …; sources and groups are a letter each."""
    names = tuple("abcdefghijklmnop"[: len(labels)])
    return Scores(
        names,
        np.array(labels, np.int8),
        tuple(sources) or ("",) * len(labels),
        tuple(groups.replace(".", "") if set(groups) == {"."} else (g.strip(".") for g in groups))
        or ("",) * len(labels),
        np.array(values, np.float64),
        tuple(range(len(values))),
    )


def test_accuracies_are_shares_of_rows_on_the_right_side_of_one_half() -> None:
    found = figures(scores([0, 0, 1, 1, 1], [0.1, 0.5, 0.5, 0.9, 0.2], groups="..xxy"), rounds=10)
    values = {name: figure.interval.value for name, figure in found.items()}
    assert values["real"] == 0.5
    assert values["fake"] == pytest.approx(2 / 3)
    assert values["overall"] == pytest.approx(3 / 5)
    assert values["group:x"] == 1
    assert values["group:y"] == 0
    # Of six pairs: .1 loses to none; .5 ties one, beats one and loses one.
    assert values["auc"] == pytest.approx((3 + 1.5) / 6)
    assert found["group:x"].interval.n == 2


def test_a_figure_is_the_mean_over_seeds_with_their_spread() -> None:
    found = figures(scores([0, 1], [0.1, 0.9], [0.9, 0.9]), rounds=0)["overall"]
    assert found.seeds == (1.0, 0.5)
    assert found.interval.value == 0.75
    assert found.spread == pytest.approx(math.sqrt(0.125))
    assert math.isnan(figures(scores([0, 1], [0.1, 0.9]), rounds=0)["overall"].spread)


def test_all_right_of_few_rows_is_no_certainty() -> None:
    found = figures(scores([0, 0, 1, 1], [0.1, 0.1, 0.9, 0.9]), rounds=50)["overall"]
    assert (found.interval.low, found.interval.high) == (metrics.wilson(4, 4).low, 1)


def test_a_paired_difference_is_that_of_the_same_rows() -> None:
    """Two sources a class. The second arm is right on one more real of source p and on one more fake of source r.

    A round draws two sources of each class. Reals: p twice (+1 of 2 each time), p and q (+1/4 of 4 …), or q twice (0).
    Worked out: the gain of reals is 1/2, 1/4 or 0 (chances 1/4, 1/2, 1/4), that of fakes the same, and that of all rows
    their mean: 1/2 at most, 1/4 as measured, 0 at least; both ends have a chance of 1/16 and stand outside 2.5 %.
    """
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    first = scores(labels, [0.9, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9], sources="ppqqrrss")
    second = scores(labels, [0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9], sources="ppqqrrss")
    found = paired(first, second, accuracy, rounds=2000)
    assert found is not None
    assert (found.value, found.low, found.high, found.n) == (0.25, 0.0, 0.5, 8)
    other_way = paired(second, first, accuracy, rounds=2000)
    assert other_way is not None
    assert (other_way.value, other_way.low, other_way.high) == (-0.25, -0.5, 0.0)


def test_what_is_hard_for_both_cancels() -> None:
    """Both arms are right and wrong on the same rows, so the difference is sure although neither accuracy is."""
    labels, values = [0, 0, 1, 1], [0.1, 0.9, 0.2, 0.8]
    found = paired(scores(labels, values), scores(labels, values), accuracy, rounds=200)
    assert found is not None
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_only_shared_rows_and_seeds_are_compared_whatever_their_order() -> None:
    first = scores([0, 0, 1, 1], [0.1, 0.1, 0.9, 0.9])
    second = Scores(
        ("d", "c", "x", "b"),
        np.array([1, 1, 1, 0], np.int8),
        ("",) * 4,
        ("",) * 4,
        np.array([[0.1] * 4, [0.9, 0.1, 0.1, 0.1]]),
        (7, 0),
    )
    found = paired(first, second, accuracy, rounds=0)
    assert found is not None
    # Rows b, c, d of seed 0: the second is wrong on c alone.
    assert (round(found.value, 9), found.n) == (round(-1 / 3, 9), 3)
    assert paired(first, second.where(np.array([False, False, True, False])), accuracy) is None


def test_balanced_accuracy_weighs_the_classes_alike() -> None:
    assert balanced(np.array([0, 1, 1, 1], np.int8), np.array([0.1, 0.1, 0.1, 0.9])) == pytest.approx((1 + 1 / 3) / 2)


def result(seed: int, *values: float | None) -> Result:
    rows = tuple(Row(place=f"{number}", label=number % 2) for number in range(len(values)))
    cost = Cost(parameters=1, steps=1, views=1)
    return Result(
        study="s", arm="a", seed=seed, detector="d", rows=rows, scores={"linear": {"clean": values}}, cost=cost
    )


def test_a_row_that_one_seed_could_not_judge_is_left_out_of_all() -> None:
    found = scores_of([result(0, 0.1, 0.9, 0.3), result(1, 0.2, None, 0.4)], "linear", "clean")
    assert found is not None
    assert found.places == ("0", "2")
    assert found.values.tolist() == [[0.1, 0.3], [0.2, 0.4]]
    assert scores_of([result(0, 0.1)], "nearest", "clean") is None
