"""The check list: each sign fails where it should, and on nothing else."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from assay.learn.checks import Check, Evidence, checks, correlation, show, together
from assay.metrics import auc

LABELS = np.arange(80) % 2
HALF = np.where(np.arange(80) % 4 < 2, 0.1, 0.9)
"""Scores that say nothing of the labels."""

SIGNS = [
    "overlap of real and fake in the embedding",
    "clean-transformed gap, AUC",
    "augmented-plain gap, AUC",
    "false alarms at the threshold",
    "recall at the threshold",
    "balanced accuracy at one half",
]


def clouds(distance: float, seed: int = 0, rows: int = 80) -> Any:
    rng = np.random.default_rng(seed)
    centres = np.zeros((rows, 8))
    centres[:, 0] = np.where(np.arange(rows) % 2, distance, -distance)
    return centres + rng.normal(size=(rows, 8))


RIGHT = LABELS.astype(np.float64)
GOOD = Evidence(clouds(6), LABELS, RIGHT, RIGHT, RIGHT, LABELS)
SCORES = np.where(LABELS == 1, 0.9, 0.1)


def failed(evidence: Evidence = GOOD, scores: Any = SCORES, threshold: float = 0.5) -> list[str]:
    found = checks(evidence, LABELS, scores, threshold=threshold, fpr=0.05)
    assert [check.name for check in found] == SIGNS
    return [check.name for check in found if not check.passed]


def test_a_good_stream_shows_no_sign() -> None:
    assert failed() == []


@pytest.mark.parametrize(
    ("evidence", "scores", "sign"),
    [
        ({"embeddings": clouds(0)}, SCORES, SIGNS[0]),
        ({"altered": HALF}, SCORES, SIGNS[1]),
        ({"clean": HALF, "altered": HALF}, SCORES, SIGNS[2]),
        ({}, np.where(np.arange(80) % 10 == 0, 0.6, SCORES), SIGNS[3]),
    ],
)
def test_each_sign_is_seen_alone(evidence: dict[str, Any], scores: Any, sign: str) -> None:
    assert failed(dataclasses.replace(GOOD, **evidence), scores) == [sign]


def test_a_threshold_that_few_fakes_reach_is_a_sign() -> None:
    few = np.where(np.arange(80) % 10 == 1, 0.99, SCORES)
    assert failed(scores=few, threshold=0.95) == [SIGNS[4]]


def test_scores_on_the_wrong_side_of_one_half_are_a_sign() -> None:
    assert failed(scores=np.where(LABELS == 1, 0.4, 0.1), threshold=0.3) == [SIGNS[5]]


def test_rows_that_a_stream_does_not_apply_to_are_left_out() -> None:
    scores = SCORES.copy()
    scores[:20] = np.nan
    assert failed(scores=scores) == []
    found = checks(GOOD, LABELS, scores, threshold=0.5, fpr=0.05)
    assert [check.figure for check in found[3:]] == [0, 1, 1]


@pytest.mark.parametrize(("least", "figures"), [(False, (0.5, 0.51)), (True, (0.5, 0.49))])
def test_a_figure_on_its_bound_passes(least: bool, figures: tuple[float, float]) -> None:
    passed = [Check("x", "rows", figure, 0.5, "try", least).passed for figure in figures]
    assert passed == [True, False]
    assert not Check("x", "rows", float("nan"), 0.5, "try", least).passed


def test_the_table_gives_the_remedy_of_failed_signs_only() -> None:
    file = io.StringIO()
    found = checks(dataclasses.replace(GOOD, embeddings=clouds(0)), LABELS, SCORES, threshold=0.5, fpr=0.05)
    show(found, Console(file=file, width=200))
    rows = {sign: line for sign in SIGNS for line in file.getvalue().splitlines() if sign in line}
    assert rows[SIGNS[0]].startswith("look")
    assert rows[SIGNS[0]].rstrip().endswith(found[0].remedy)
    assert all(rows[sign].startswith("ok") for sign in SIGNS[1:])
    assert not any(check.remedy in file.getvalue() for check in found[1:])


def test_a_card_can_hold_the_list() -> None:
    first = checks(GOOD, LABELS, SCORES, threshold=0.5, fpr=0.05)[0].to_dict()
    assert first == {"name": SIGNS[0], "on": "tuning rows", "figure": 0.0, "bound": 0.35, "passed": True}


# ── streams together ─────────────────────────────────────────────────────────────────────────────────────────────────


def wrong_on(rows: list[int], count: int = 20) -> Any:
    """Scores that are right of `count` rows, reals and fakes in turn, but for some."""
    labels = np.arange(count) % 2
    return np.where(np.isin(np.arange(count), rows), 0.9 - 0.8 * labels, 0.1 + 0.8 * labels)


TRUTH = np.arange(20) % 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([0, 2, 1, 3], [0, 2, 1, 3]),
        ([0, 2, 1, 3], [0, 4, 1, 5]),
        ([0, 2, 1, 3, 5], [4, 6, 8, 7, 9]),
        ([0, 1], [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_correlation_is_that_of_the_errors_in_each_class(one: list[int], other: list[int]) -> None:
    found = correlation(TRUTH, wrong_on(one), wrong_on(other))
    each = []
    for label in (0, 1):
        mine = [row for row in range(20) if row % 2 == label]
        each.append(np.corrcoef(np.isin(mine, one), np.isin(mine, other))[0, 1])
    assert found == pytest.approx(np.mean(each), abs=1e-12)


def test_streams_that_err_on_the_same_pictures_correlate_by_one_and_on_others_by_less_than_chance() -> None:
    assert correlation(TRUTH, wrong_on([0, 1]), wrong_on([0, 1])) == pytest.approx(1)
    assert correlation(TRUTH, wrong_on([0, 1]), wrong_on([2, 3])) < 0


def test_a_stream_that_is_always_right_or_always_wrong_of_a_class_says_nothing_of_it() -> None:
    assert correlation(TRUTH, wrong_on([]), wrong_on([0, 1])) == 0
    reals = list(range(0, 20, 2))
    # All reals called fake by both: they agree without looking. Of the fakes they miss the same one.
    assert correlation(TRUTH, wrong_on([*reals, 1]), wrong_on([*reals, 1])) == pytest.approx(0.5)


def test_a_score_of_one_half_says_fake() -> None:
    half = np.where(TRUTH == 1, 0.5, 0.1)
    assert correlation(TRUTH, half, wrong_on([0, 1])) == 0


def test_a_pair_that_errs_together_is_named_and_no_other() -> None:
    scores = {"a": wrong_on([0, 1]), "b": wrong_on([0, 1]), "c": wrong_on([4, 9])}
    found = together(TRUTH, scores, np.mean(list(scores.values()), axis=0))
    pairs = {check.name: check for check in found[1:]}
    assert list(pairs) == [f"correlation of errors, {pair}" for pair in ("a and b", "a and c", "b and c")]
    failed = [check for check in found if not check.passed]
    assert [check.name for check in failed] == ["correlation of errors, a and b"]
    assert failed[0].remedy.startswith("a and b are wrong on the same pictures")


def test_an_ensemble_that_orders_pictures_worse_than_its_best_stream_is_a_sign() -> None:
    scores = {"a": wrong_on([0, 2, 1]), "b": wrong_on([4])}
    gain = together(TRUTH, scores, scores["a"])[0]
    assert gain.name == "AUC of the vote less that of its best stream, b"
    assert gain.figure == pytest.approx(auc(TRUTH, scores["a"]) - auc(TRUTH, scores["b"]))
    assert not gain.passed
    assert together(TRUTH, scores, wrong_on([]))[0].passed
    assert together(TRUTH, scores, scores["b"])[0].passed


def test_streams_are_compared_on_the_rows_that_all_apply_to() -> None:
    scores = {"a": wrong_on([0, 1]), "b": wrong_on([0, 1])}
    vote = wrong_on([])
    expected = [check.figure for check in together(TRUTH[:12], {k: x[:12] for k, x in scores.items()}, vote[:12])]
    scores["a"][12:] = np.nan
    assert [check.figure for check in together(TRUTH, scores, vote)] == pytest.approx(expected)
    # Where these are of one class there is nothing to compare.
    scores["b"][TRUTH == 1] = np.nan
    assert together(TRUTH, scores, vote) == []
