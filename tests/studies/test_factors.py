"""What factors do: against the plain mean over pairs of arms, on made scores."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from assay.studies import factors
from assay.studies.compare import Scores, Series, accuracy
from assay.studies.herd24 import ABLATION
from assay.studies.study import Arm, Study

NAMES = ("a", "b")


def scores(right: float, seed: int, rows: int = 60) -> Scores:
    """Two seeds, each right about that share of rows."""
    labels = np.arange(rows, dtype=np.int8) % 2
    rng = np.random.default_rng(seed)
    hit = rng.random((2, rows)) < right
    return Scores(
        places=tuple(f"{row}.png" for row in range(rows)),
        labels=labels,
        sources=tuple(f"s{row % 10}" for row in range(rows)),
        groups=("",) * rows,
        values=np.where(hit, labels, 1 - labels).astype(np.float64),
        seeds=(0, 1),
    )


@pytest.fixture
def study() -> Study:
    arms = [
        Arm("-".join(chosen) or "none", "an arm", factors=chosen)
        for count in range(3)
        for chosen in itertools.combinations(NAMES, count)
    ]
    return Study("s", "?", tuple(arms), conditions=("clean",), heads=("linear",), factors=NAMES)


@pytest.fixture
def found(study: Study) -> dict[Series, Scores]:
    shares = {"none": 0.5, "a": 0.9, "b": 0.5, "a-b": 0.9}
    return {Series(name, "linear", "clean"): scores(share, seed) for seed, (name, share) in enumerate(shares.items())}


def test_an_effect_is_the_mean_over_all_settings_of_the_others(study: Study, found: dict[Series, Scores]) -> None:
    arms = {series.arm: each for series, each in found.items()}
    for factor in NAMES:
        having = {arm.name for arm in study.arms if factor in arm.factors}
        assert len(having) == 2
        means = {name: np.mean([accuracy(s.labels, v) for v in s.values]) for name, s in arms.items()}
        expected = np.mean([means[name] for name in having]) - np.mean([means[n] for n in means if n not in having])
        effect = factors.effect(arms, having, accuracy, rounds=200)
        assert effect.value == pytest.approx(expected)
        assert effect.low <= effect.value <= effect.high
        assert (effect.low > 0) == (factor == "a")


def test_rows_that_an_arm_lacks_are_left_out_of_all_whatever_their_order(found: dict[Series, Scores]) -> None:
    arms = {series.arm: each for series, each in found.items()}
    order = np.arange(60)[::-1]
    turned = dataclasses.replace(
        arms["a"],
        places=tuple(arms["a"].places[row] for row in order),
        labels=arms["a"].labels[order],
        values=arms["a"].values[:, order],
    )
    kept = np.arange(60) < 40
    whole = factors.effect(arms, {"a", "a-b"}, accuracy, rounds=0)
    assert factors.effect({**arms, "a": turned}, {"a", "a-b"}, accuracy, rounds=0).value == whole.value
    few = factors.effect({**arms, "b": arms["b"].where(kept)}, {"a", "a-b"}, accuracy, rounds=0)
    cut = factors.effect({name: each.where(kept) for name, each in arms.items()}, {"a", "a-b"}, accuracy, rounds=0)
    assert few.value == cut.value != whole.value


def test_a_line_for_each_factor_once_every_arm_is_there(study: Study, found: dict[Series, Scores]) -> None:
    [block] = factors.effects(study, found, rounds=50)
    assert [row[:3] for row in block.rows] == [("a", "linear", "clean"), ("b", "linear", "clean")]
    assert all(len(row) == len(block.columns) for row in block.rows)
    found.pop(Series("a-b", "linear", "clean"))
    assert list(factors.effects(study, found, rounds=50)) == []


def test_herds_table_has_all_eight_settings_of_three_factors_each_in_half_of_them() -> None:
    assert len({arm.factors for arm in ABLATION.arms}) == 8
    for name in ABLATION.factors:
        assert sum(name in arm.factors for arm in ABLATION.arms) == 4
    first, *_, last = ABLATION.arms
    assert (first.factors, set(last.factors)) == ((), set(ABLATION.factors))
