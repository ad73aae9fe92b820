"""The audit against Fairlearn, against its formulas, and against what its intervals promise on simulated rows."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest

from assay import metrics
from assay.measure.fairness import UNNAMED, Audit, audit


def problem(seed: int, n: int = 900, groups: str = "abcde") -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels, scores and groups: each group's scores lie a little higher than those of the group before."""
    random = np.random.default_rng(seed)
    labels = (random.random(n) < 0.45).astype(int)
    place = random.integers(len(groups), size=n)
    scores = 1 / (1 + np.exp(-(random.normal(size=n) + 1.5 * labels - 0.7 + 0.15 * place)))
    return labels, scores, [groups[number] for number in place]


def rows(**groups: tuple[int, int]) -> tuple[list[int], list[str], list[int]]:
    """Labels, groups and calls of reals: name=(called fake, of so many)."""
    names = [name for name, (_, n) in groups.items() for _ in range(n)]
    calls = [int(number < called) for called, n in groups.values() for number in range(n)]
    return [0] * len(names), names, calls


def of(**groups: tuple[int, int]) -> Audit:
    labels, names, calls = rows(**groups)
    return audit(labels, names, called=calls, rounds=200)


@pytest.mark.parametrize("seed", range(5))
def test_every_figure_equals_fairlearns(seed: int) -> None:
    fairlearn = pytest.importorskip("fairlearn.metrics")
    labels, scores, groups = problem(seed)
    called = scores >= 0.6
    found = audit(labels, groups, scores=scores, thresholds=0.6, rounds=20)
    frame = fairlearn.MetricFrame(
        metrics={
            "fpr": fairlearn.false_positive_rate,
            "fnr": fairlearn.false_negative_rate,
            "called": fairlearn.selection_rate,
        },
        y_true=labels,
        y_pred=called,
        sensitive_features=groups,
    )
    for name, part in found.groups.items():
        expected = frame.by_group.loc[name]
        assert (part.fpr.value, part.fnr.value, part.called) == pytest.approx(tuple(expected), abs=1e-9)
    for rate in ("fpr", "fnr"):
        gap = found.gaps[rate]
        assert gap is not None
        assert gap.gap.value == pytest.approx(frame.difference()[rate], abs=1e-9)
        assert gap.ratio == pytest.approx(frame.ratio()[rate], abs=1e-9)
        assert (gap.lowest, gap.highest) == (frame.by_group[rate].idxmin(), frame.by_group[rate].idxmax())
    arguments = (labels, called)
    difference = fairlearn.equalized_odds_difference(*arguments, sensitive_features=groups)
    assert found.difference == pytest.approx(difference, abs=1e-9)
    assert found.ratio == pytest.approx(fairlearn.equalized_odds_ratio(*arguments, sensitive_features=groups), abs=1e-9)


def test_a_group_too_small_is_shown_and_named_and_no_gap_is_claimed_from_it() -> None:
    found = of(a=(2, 40), b=(4, 40), tiny=(19, 19))
    gap = found.gaps["fpr"]
    assert gap is not None
    assert (gap.lowest, gap.highest, gap.gap.value, gap.gap.n) == ("a", "b", pytest.approx(0.05), 80)
    assert found.groups["tiny"].fpr.value == 1.0
    assert found.groups["tiny"].fpr.low == pytest.approx(metrics.exact(19, 19).low)
    [small] = [warning for warning in found.warnings if "too few to say" in warning and "reals" in warning]
    assert '"tiny" (19)' in small
    assert '"a"' not in small


def test_a_group_of_twenty_is_large_enough() -> None:
    gap = of(a=(2, 40), b=(20, 20)).gaps["fpr"]
    assert gap is not None
    assert gap.highest == "b"


def test_rows_that_name_no_group_are_shown_and_are_no_end_of_a_gap() -> None:
    labels, names, calls = rows(a=(2, 40), b=(4, 40), c=(40, 40))
    found = audit(labels, ["" if name == "c" else name for name in names], called=calls, rounds=50)
    assert found.groups[UNNAMED].fpr.value == 1.0
    gap = found.gaps["fpr"]
    assert gap is not None
    assert gap.highest == "b"
    assert not any(UNNAMED in warning for warning in found.warnings)


def test_with_fewer_than_two_groups_large_enough_there_is_no_gap_and_that_is_said() -> None:
    found = of(a=(2, 40), b=(1, 5))
    assert found.gaps == {"fpr": None, "fnr": None}
    assert math.isnan(found.difference)
    assert any("false-positive rate: fewer than two named groups have 20 reals" in line for line in found.warnings)
    assert any("false-negative rate: fewer than two named groups have 20 fakes" in line for line in found.warnings)


def test_many_small_groups_are_counted_and_not_all_listed() -> None:
    found = of(**{f"g{number:02}": (1, 3) for number in range(25)})
    assert '"g09" (3) and 15 more' in found.warnings[0]
    assert "g10" not in found.warnings[0]


def test_a_gap_that_may_be_chance_is_called_so_and_a_plain_one_is_not() -> None:
    near, far, even = of(a=(2, 40), b=(6, 40)), of(a=(2, 40), b=(30, 40)), of(a=(4, 40), b=(4, 40))
    assert near.gaps["fpr"].chance
    assert any('between "a" and "b" may be chance' in warning for warning in near.warnings)
    assert not far.gaps["fpr"].chance
    assert far.gaps["fpr"].gap.low > 0.3
    assert not any("chance" in warning for warning in [*far.warnings, *even.warnings])


def test_intervals_that_overlap_are_said_to_even_where_the_gaps_own_does_not_reach_0() -> None:
    found = of(a=(40, 400), b=(64, 400))
    assert found.gaps["fpr"].gap.low > 0
    assert found.gaps["fpr"].chance
    assert any("their intervals overlap" in warning for warning in found.warnings)


def test_no_error_in_any_group_is_not_taken_for_certainty() -> None:
    found = of(a=(0, 30), b=(0, 30))
    gap = found.gaps["fpr"]
    assert (gap.gap.value, gap.gap.low) == (0.0, 0.0)
    assert gap.gap.high == pytest.approx(metrics.exact(0, 30).high)
    assert math.isnan(gap.ratio)
    assert math.isnan(found.ratio)


@pytest.mark.parametrize("shares", [(0.1,) * 8, (0.1, 0.3), (0.1, 0.2, 0.35)])
def test_the_gaps_interval_covers_the_truth_as_often_as_it_says_whichever_groups_are_the_ends(shares) -> None:
    random = np.random.default_rng(0)
    hits = 0
    names = np.repeat([str(number) for number in range(len(shares))], 60).tolist()
    for seed in range(100):
        calls = random.random(len(names)) < np.repeat(shares, 60)
        interval = audit([0] * len(names), names, called=calls, rounds=100, seed=seed).gaps["fpr"].gap
        hits += interval.low <= max(shares) - min(shares) + 1e-12 <= interval.high + 1e-9
    assert hits >= 90


def test_rows_of_one_source_that_err_together_widen_rate_and_gap() -> None:
    labels, names, calls = [0] * 400, ["a"] * 200 + ["b"] * 200, ([1] * 20 + [0] * 20) * 10
    together = audit(labels, names, called=calls, sources=[f"s{row // 20}" for row in range(400)])
    apart = audit(labels, names, called=calls)
    for wide, narrow in (
        (together.groups["a"].fpr, apart.groups["a"].fpr),
        (together.gaps["fpr"].gap, apart.gaps["fpr"].gap),
    ):
        assert wide.value == narrow.value
        assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_rows_of_no_known_source_are_sources_of_their_own() -> None:
    labels, names, calls = rows(a=(20, 100), b=(30, 100))
    known = [f"s{row // 20}" if row % 2 else "" for row in range(200)]
    numbered = [source or f"row {row}" for row, source in enumerate(known)]
    assert audit(labels, names, called=calls, sources=known) == audit(labels, names, called=calls, sources=numbered)


def test_a_group_with_a_single_source_is_resampled_by_rows() -> None:
    labels, names, calls = rows(a=(20, 100), b=(30, 100))
    found = audit(labels, names, called=calls, sources=names)
    assert found == audit(labels, names, called=calls)
    assert found.gaps["fpr"].gap.low < found.gaps["fpr"].gap.value


def test_the_bootstrap_of_a_rate_is_that_of_the_other_figures() -> None:
    random = np.random.default_rng(4)
    sources = random.integers(30, size=600)
    calls = random.random(600) < random.beta(0.5, 1.5, size=30)[sources]
    found = audit([0] * 600, ["a"] * 600, called=calls, sources=[f"s{number}" for number in sources], rounds=3000)
    expected = metrics.bootstrap(
        lambda _, values: float(values.mean()), [0] * 600, calls.astype(float), clusters=sources.tolist(), rounds=3000
    )
    interval = found.groups["a"].fpr
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_a_groups_own_threshold_is_split_conformal_and_changes_no_rate() -> None:
    labels, scores, groups = problem(3)
    plain, found = (audit(labels, groups, scores=scores, thresholds=0.6, fpr=fpr, rounds=20) for fpr in (None, 0.1))
    assert found.gaps == plain.gaps
    for name, part in found.groups.items():
        inside = np.array([group == name for group in groups])
        expected = metrics.threshold_at_fpr(scores[inside & (labels == 0)], 0.1)
        assert part.own.threshold == expected
        assert part.own.tpr == pytest.approx(np.mean(scores[inside & (labels == 1)] >= expected))
        assert part.fpr == plain.groups[name].fpr
        assert plain.groups[name].own is None
    assert len({part.own.threshold for part in found.groups.values()}) == 5


def test_reals_too_few_to_promise_the_rate_give_no_threshold() -> None:
    found = audit([0] * 18 + [1], ["a"] * 19, scores=[0.1] * 18 + [0.9], thresholds=0.5, fpr=0.05, rounds=0)
    assert found.groups["a"].own.threshold is None
    line = found.to_dict()["thresholds_not_applied"]
    assert line["groups"]["a"] == {"threshold": None, "tpr": None}
    assert "often unlawful" in line["why"]


def test_a_row_without_a_score_counts_as_uncertain_and_in_no_rate() -> None:
    found = audit(
        [0, 0, 0, 1],
        ["a"] * 4,
        scores=[0.9, 0.1, math.nan, math.nan],
        thresholds=[0.5, 0.5, 0.5, 0.5],
        uncertain=[False, False, True, True],
        rounds=0,
    ).groups["a"]
    assert (found.n_real, found.n_fake, found.fpr.value, found.called, found.uncertain) == (2, 0, 0.5, 0.5, 0.5)
    assert math.isnan(found.fnr.value)


def test_each_row_is_called_by_its_own_threshold() -> None:
    found = audit([0, 0, 1], ["a"] * 3, scores=[0.6, 0.6, 0.6], thresholds=[0.5, 0.6, 0.7], rounds=0).groups["a"]
    assert (found.fpr.value, found.fnr.value) == (1.0, 1.0)


def test_the_result_is_json_without_nan() -> None:
    for found in (of(a=(2, 40), b=(4, 40)), audit([], [], scores=[], thresholds=0.5, fpr=0.1)):
        line = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert set(line) == {"groups", "gaps", "equalized_odds", "warnings", "thresholds_not_applied"}
        assert line["equalized_odds"] == {"difference": None, "ratio": None}


def test_the_same_seed_gives_the_same_audit() -> None:
    labels, scores, groups = problem(1)
    first, again = (audit(labels, groups, scores=scores, thresholds=0.6, rounds=40, seed=2) for _ in range(2))
    assert first == again
    assert first != audit(labels, groups, scores=scores, thresholds=0.6, rounds=40, seed=3)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"scores": [0.5], "thresholds": 0.5}, r"scores must have shape \(2,\)"),
        ({"called": [1]}, r"called must have shape \(2,\)"),
        ({"called": [1, math.nan]}, "called holds a NaN"),
        ({"scores": [0.5, 0.5], "thresholds": [0.5, math.nan]}, "thresholds holds a NaN"),
        ({"labels": [0, 2], "called": [1, 1]}, "labels must be 0"),
        ({"labels": [[0, 1]], "called": [1, 1]}, "labels must have shape"),
        ({"groups": ["a"], "called": [1, 1]}, "1 groups for 2 labels"),
        ({"sources": ["a"], "called": [1, 1]}, "1 sources for 2 labels"),
        ({}, "either thresholds or called"),
        ({"scores": [0.5, 0.5], "thresholds": 0.5, "called": [1, 1]}, "either thresholds or called"),
        ({"thresholds": 0.5}, "need scores"),
        ({"called": [1, 1], "fpr": 0.05}, "need scores"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(about: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        audit(**{"labels": [0, 1], "groups": ["a", "b"], **about})


def test_fifty_thousand_rows_of_as_many_sources_take_seconds() -> None:
    labels, scores, groups = problem(0, n=50_000)
    start = time.perf_counter()
    found = audit(labels, groups, scores=scores, thresholds=0.6, fpr=0.05)
    assert time.perf_counter() - start < 20
    assert found.gaps["fpr"].gap.high - found.gaps["fpr"].gap.low < 0.1


def test_no_threshold_is_shown_where_no_rate_is_asked_for() -> None:
    assert of(a=(2, 40)).to_dict()["thresholds_not_applied"] is None
