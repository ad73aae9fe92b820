"""The check list: each sign fails where it should, and on nothing else."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from assay.learn.checks import Check, Evidence, checks, show

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
GOOD = Evidence(clouds(6), RIGHT, RIGHT, RIGHT, LABELS)
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
