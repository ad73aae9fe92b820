"""Metrics against scikit-learn, against their formulas, and against what they promise on simulated data."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from assay import metrics


def problem(seed: int, n: int = 400, ties: bool = False, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = (random.random(n) < 0.4).astype(int)
    scores = 1 / (1 + np.exp(-(random.normal(size=n) + shift * labels)))
    return labels, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_auc_equals_scikit_learns_with_and_without_ties(seed: int, ties: bool) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    labels, scores = problem(seed, ties=ties)
    assert metrics.auc(labels, scores) == pytest.approx(sklearn.roc_auc_score(labels, scores), abs=1e-12)


def test_auc_of_equal_scores_is_one_half_in_any_order() -> None:
    assert metrics.auc([0, 0, 1, 1], [0.3] * 4) == 0.5
    assert metrics.auc([1, 1, 0, 0], [0.3] * 4) == 0.5


def test_auc_is_one_where_every_fake_scores_above_every_real() -> None:
    assert metrics.auc([0, 1, 0, 1], [0.1, 0.9, 0.2, 0.8]) == 1.0
    assert metrics.auc([1, 0, 1, 0], [0.1, 0.9, 0.2, 0.8]) == 0.0


def test_a_score_at_the_threshold_is_called_fake() -> None:
    assert metrics.rates([0, 0, 1, 1], [0.1, 0.5, 0.5, 0.4], 0.5) == (0.5, 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_balanced_accuracy_and_brier_equal_scikit_learns(seed: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    labels, scores = problem(seed, ties=True)
    expected = sklearn.balanced_accuracy_score(labels, scores >= 0.6)
    assert metrics.balanced_accuracy(labels, scores, 0.6) == pytest.approx(expected)
    assert metrics.brier(labels, scores) == pytest.approx(sklearn.brier_score_loss(labels, scores))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("fpr", [0.0, 0.01, 0.05, 0.5, 1.0])
def test_tpr_at_fpr_is_the_best_point_of_scikit_learns_roc_curve(fpr: float, ties: bool) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    labels, scores = problem(7, ties=ties)
    found_fpr, found_tpr, _ = sklearn.roc_curve(labels, scores, drop_intermediate=False)
    expected = found_tpr[found_fpr <= fpr + 1e-12].max()
    assert metrics.tpr_at_fpr(labels, scores, fpr) == pytest.approx(expected)


def test_the_threshold_calls_fake_what_the_conformal_p_value_calls_fake() -> None:
    random = np.random.default_rng(3)
    reals = np.round(random.random(57), 2)
    queries = np.round(random.random(500), 2)
    for fpr in (0.02, 0.05, 0.1, 0.33, 0.9):
        threshold = metrics.threshold_at_fpr(reals, fpr)
        p_values = np.array([(1 + np.sum(reals >= query)) / (len(reals) + 1) for query in queries])
        assert np.array_equal(queries >= threshold, p_values <= fpr)


@pytest.mark.parametrize("n", [5, 19, 20, 87])
@pytest.mark.parametrize("ties", [False, True])
def test_the_expected_false_positive_rate_keeps_its_promise_at_any_number_of_reals(n: int, ties: bool) -> None:
    random = np.random.default_rng(n)
    fpr = 0.1
    rates = []
    for _ in range(4000):
        reals, further = random.random(n), random.random(200)
        if ties:
            reals, further = np.round(reals, 1), np.round(further, 1)
        rates.append(np.mean(further >= metrics.threshold_at_fpr(reals, fpr)))
    error = np.std(rates) / math.sqrt(len(rates))
    assert np.mean(rates) <= fpr + 3 * error
    if not ties:
        # No more cautious than n reals force it to be: the rate is floor(fpr (n + 1)) / (n + 1).
        assert np.mean(rates) == pytest.approx(math.floor(fpr * (n + 1)) / (n + 1), abs=3 * error + 1e-9)


def test_too_few_reals_to_promise_a_rate_call_nothing_fake() -> None:
    assert metrics.threshold_at_fpr(np.linspace(0, 0.5, 98), 0.01) > 1.0
    assert metrics.threshold_at_fpr(np.linspace(0, 0.5, 99), 0.01) <= 1.0
    assert metrics.threshold_at_fpr([], 0.05) > 1.0


def test_a_rate_of_one_calls_everything_fake() -> None:
    assert metrics.threshold_at_fpr([0.2, 0.4], 1.0) == 0.0


def test_a_threshold_outside_of_the_possible_rates_is_refused() -> None:
    with pytest.raises(ValueError, match="fpr must lie in"):
        metrics.threshold_at_fpr([0.1], 1.5)


def test_calibration_error_of_distinct_scores_is_the_mean_gap_of_scikit_learns_equal_mass_bins() -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    labels, scores = problem(11, n=300)
    frequency, confidence = calibration.calibration_curve(labels, scores, n_bins=15, strategy="quantile")
    assert len(frequency) == 15
    expected = np.mean(np.abs(frequency - confidence))
    assert metrics.expected_calibration_error(labels, scores, bins=15) == pytest.approx(expected, abs=1e-3)


def test_equal_scores_fall_in_one_calibration_bin_whatever_their_order() -> None:
    # Ten rows at .5, half of them fake: calibrated. Cut into bins by row order they would seem anything but.
    scores = [0.5] * 10
    assert metrics.expected_calibration_error([0] * 5 + [1] * 5, scores, bins=5) == 0.0
    assert metrics.expected_calibration_error([1] * 5 + [0] * 5, scores, bins=5) == 0.0


def test_calibration_error_sees_overconfidence() -> None:
    assert metrics.expected_calibration_error([0, 1] * 50, [0.0, 1.0] * 25 + [1.0, 0.0] * 25) == pytest.approx(0.5)
    assert metrics.expected_calibration_error([0] * 10, [0.3] * 10) == pytest.approx(0.3)


def test_precision_at_a_base_rate_is_bayes_rule() -> None:
    assert metrics.precision_at_base_rate(fpr=0.05, tpr=0.9, base_rate=0.01) == pytest.approx(0.009 / (0.009 + 0.0495))
    assert metrics.precision_at_base_rate(fpr=0.0, tpr=0.5, base_rate=0.01) == 1.0
    assert math.isnan(metrics.precision_at_base_rate(fpr=0.0, tpr=0.0, base_rate=0.01))


def test_the_bootstrap_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # Two normals one standard deviation apart: the AUC is Φ(1/√2).
    truth = 0.5 * (1 + math.erf(0.5))
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    hits = 0
    for seed in range(150):
        scores = random.normal(size=120) + labels
        interval = metrics.bootstrap(metrics.auc, labels, scores, rounds=200, confidence=0.9, seed=seed)
        hits += interval.low <= truth <= interval.high
    assert 0.82 <= hits / 150 <= 0.97


def test_clusters_widen_the_interval_to_cover_a_truth_that_row_resampling_misses() -> None:
    # Each of 40 sources shifts all of its rows, so the rows of one source are worth little more than one row.
    random = np.random.default_rng(1)
    labels = np.repeat([0, 1], 400)
    sources = np.repeat(np.arange(40), 20)
    truth = 0.5 * (1 + math.erf(1 / (2 * math.sqrt(1 + 0.3**2))))
    hits = {"rows": 0, "clusters": 0}
    for seed in range(60):
        scores = labels + random.normal(size=40)[sources] + 0.3 * random.normal(size=800)
        for name, clusters in (("rows", None), ("clusters", sources)):
            interval = metrics.bootstrap(metrics.auc, labels, scores, clusters=clusters, rounds=150, seed=seed)
            hits[name] += interval.low <= truth <= interval.high
    assert hits["clusters"] / 60 >= 0.83
    assert hits["rows"] / 60 <= 0.6


def test_the_same_seed_gives_the_same_interval() -> None:
    labels, scores = problem(2)
    first, again, other = (metrics.bootstrap(metrics.auc, labels, scores, rounds=50, seed=seed) for seed in (4, 4, 5))
    assert first == again
    assert first.value == other.value
    assert (first.low, first.high) != (other.low, other.high)


def test_resampling_keeps_both_classes_however_rare_one_is() -> None:
    labels = np.array([1, 1] + [0] * 300)
    scores = np.linspace(1, 0, 302)
    interval = metrics.bootstrap(metrics.auc, labels, scores, rounds=200)
    assert (interval.value, interval.low, interval.high, interval.n) == (1.0, 1.0, 1.0, 302)


def test_a_class_with_a_single_source_is_resampled_by_rows() -> None:
    labels, scores = problem(5)
    sources = ["camera" if label == 0 else f"site {row % 5}" for row, label in enumerate(labels)]
    interval = metrics.bootstrap(lambda truth, score: score[truth == 0].mean(), labels, scores, clusters=sources)
    assert interval.low < interval.value < interval.high


def test_an_absent_class_gives_nan_and_a_null_in_json_instead_of_an_error() -> None:
    for statistic in (
        metrics.auc,
        lambda labels, scores: metrics.tpr_at_fpr(labels, scores, 0.05),
        lambda labels, scores: metrics.balanced_accuracy(labels, scores, 0.5),
    ):
        interval = metrics.bootstrap(statistic, [0, 0, 0], [0.1, 0.2, 0.3])
        assert math.isnan(interval.value)
        assert json.loads(json.dumps(interval.to_dict(), allow_nan=False)) == {
            "value": None,
            "low": None,
            "high": None,
            "n": 3,
        }
    assert math.isnan(metrics.bootstrap(metrics.auc, [], []).value)


def test_wilsons_interval_solves_its_own_equation() -> None:
    # Its ends are the shares p at which the observed share lies exactly z standard errors of p away.
    interval = metrics.wilson(7, 20)
    for end in (interval.low, interval.high):
        assert abs(0.35 - end) / math.sqrt(end * (1 - end) / 20) == pytest.approx(1.959964, abs=1e-5)


def test_wilsons_interval_of_none_or_all_is_not_a_point() -> None:
    none, everything = metrics.wilson(0, 30), metrics.wilson(30, 30)
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(1.959964**2 / (30 + 1.959964**2), abs=1e-6)
    assert (everything.low, everything.high) == (pytest.approx(1 - none.high), 1.0)
    assert math.isnan(metrics.wilson(0, 0).value)
    with pytest.raises(ValueError, match="5 successes of 4"):
        metrics.wilson(5, 4)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 30), (7, 20), (29, 30), (3, 5000), (41_000, 50_000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_the_exact_interval_is_clopper_and_pearsons(successes: int, n: int, confidence: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(successes, n).proportion_ci(confidence, method="exact")
    found = metrics.exact(successes, n, confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert (found.value, found.n) == (successes / n, n)


def test_the_exact_interval_of_nothing_is_not_defined() -> None:
    assert math.isnan(metrics.exact(0, 0).low)
    for successes in (-1, 5):
        with pytest.raises(ValueError, match="successes of 4"):
            metrics.exact(successes, 4)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [0.5], "2 labels for 1 scores"),
        ([0, 1], [0.5, math.nan], "holds a NaN"),
        ([0, 2], [0.5, 0.5], "labels must be 0"),
        ([[0, 1]], [[0.5, 0.5]], "must have shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(labels: object, scores: object, message: str) -> None:
    for function in (metrics.auc, metrics.brier, metrics.expected_calibration_error):
        with pytest.raises(ValueError, match=message):
            function(labels, scores)
    with pytest.raises(ValueError, match=message):
        metrics.bootstrap(metrics.auc, labels, scores)


def test_the_bootstrap_refuses_clusters_of_another_length() -> None:
    with pytest.raises(ValueError, match="1 clusters for 2 rows"):
        metrics.bootstrap(metrics.auc, [0, 1], [0.1, 0.2], clusters=["a"])


@pytest.mark.parametrize("seed", range(3))
def test_f1_of_both_classes_equals_scikit_learns(seed: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    labels, scores = (rng.random(60) < 0.2).astype(np.int8), rng.random(60)
    called = (scores >= 0.5).astype(int)
    assert metrics.f1(labels, scores, 0.5) == pytest.approx(sklearn.f1_score(labels, called))
    assert metrics.f1(labels, scores, 0.5, 0) == pytest.approx(sklearn.f1_score(labels, called, pos_label=0))
    assert metrics.macro_f1(labels, scores, 0.5) == pytest.approx(sklearn.f1_score(labels, called, average="macro"))


def test_f1_of_a_class_that_is_neither_there_nor_called_is_nan() -> None:
    assert math.isnan(metrics.f1([0, 0], [0.1, 0.2], 0.5))
    assert metrics.f1([0, 0], [0.1, 0.7], 0.5) == 0
