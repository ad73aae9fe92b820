"""Calibration: the true odds where they are known, a threshold that keeps its promise, abstaining streams."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from assay.errors import ManifestError
from assay.image.view import View
from assay.judge import vote
from assay.judge.heads import LinearHead
from assay.judge.rule import DIGITS, Judge, Pool, cast
from assay.learn.calibrate import (
    METHODS,
    best,
    calibrate,
    raw_scores,
    reliability,
    scaled,
    slope_and_offset,
    steepness,
    temperature,
)
from assay.learn.recipe import Calibrate, Scaling
from assay.metrics import auc
from assay.types import Label, Pixels, Sample


def drawn(slope: float, offset: float, reals: int, fakes: int, seed: int = 0) -> tuple[Any, Any]:
    """Raw scores for which P(fake) = sigmoid(slope · raw + offset) where classes weigh alike.

    Two normals of one spread s and means ±m about c have log-odds 2 m (raw - c) / s².
    """
    rng = np.random.default_rng(seed)
    spread = 2.0
    mean, centre = slope * spread**2 / 2, -offset / slope
    labels = np.array([0] * reals + [1] * fakes)
    raws = rng.normal(centre + np.where(labels == 1, mean, -mean), spread)
    return raws, labels


@pytest.mark.parametrize(("slope", "offset"), [(0.5, 0.0), (1.0, -2.0), (0.25, 1.0)])
@pytest.mark.parametrize(("reals", "fakes"), [(4000, 4000), (8000, 1000)])
def test_a_known_sigmoid_is_recovered_whatever_the_share_of_fakes(
    slope: float, offset: float, reals: int, fakes: int
) -> None:
    found = slope_and_offset(*drawn(slope, offset, reals, fakes))
    assert found == pytest.approx((slope, offset), abs=0.12)


def test_a_stream_that_orders_rows_wrongly_keeps_a_slope_above_zero() -> None:
    raws, labels = drawn(1.0, 0.0, 200, 200)
    slope, offset = slope_and_offset(raws, 1 - labels)
    assert 0 < slope * raws.std() <= 1.1e-3
    # And says next to nothing: all near the probability that the mean had.
    assert 1 / (1 + np.exp(-(slope * raws + offset))) == pytest.approx(0.5, abs=0.02)


def test_a_stream_that_always_says_the_same_is_calibrated_to_one_half() -> None:
    slope, offset = slope_and_offset(np.full(20, 3.0), np.arange(20) % 2)
    assert slope > 0
    assert slope * 3.0 + offset == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("fpr", [0.05, 0.2])
def test_the_threshold_keeps_its_promise_on_rows_it_was_not_chosen_on(fpr: float) -> None:
    false, missed = [], []
    for seed in range(200):
        raws, labels = drawn(0.6, 0.3, 60, 60, seed)
        judge = calibrate({"a": raws}, labels, {"a": "mean"}, Calibrate(fpr=fpr, decided=0.7))
        fresh, truth = drawn(0.6, 0.3, 50, 50, 10_000 + seed)
        scores = np.round(judge.streams["a"].probability(fresh), DIGITS)
        false.append(np.mean(scores[truth == 0] >= judge.ensemble.threshold))
        missed.append(np.mean(scores[truth == 1] < judge.ensemble.doubt_low))
    # On average over draws; three standard errors of 200 rounds of 50.
    assert np.mean(false) <= fpr + 3 * np.sqrt(fpr * (1 - fpr) / 10_000) + 0.01
    assert np.mean(false) >= fpr / 2
    assert np.mean(missed) < 0.5


def test_what_is_promised_is_written_down() -> None:
    raws, labels = drawn(1.0, 0.0, 100, 80)
    judge = calibrate({"a": raws}, labels, {"a": "top"}, Calibrate(fpr=0.1, decided=0.8))
    rule, ensemble = judge.streams["a"], judge.ensemble
    assert (rule.pool, rule.fpr, ensemble.fpr) == ("top", 0.1, 0.1)
    assert (ensemble.rows.real, ensemble.rows.fake) == (100, 80)
    # With one stream, its own bar and that of all are one.
    assert (rule.threshold, rule.doubt_low) == (ensemble.threshold, ensemble.doubt_low)
    scores = np.round(rule.probability(raws), DIGITS)
    assert ensemble.errors.false_fake == pytest.approx(np.mean(scores[labels == 0] >= ensemble.threshold))
    assert ensemble.errors.false_real == pytest.approx(np.mean(scores[labels == 1] < ensemble.doubt_low))
    assert ensemble.errors.decided >= 0.8
    assert "0.1" in ensemble.notes
    assert "80%" in ensemble.notes


def test_rows_that_a_stream_does_not_apply_to_say_nothing_of_it() -> None:
    raws, labels = drawn(1.0, 0.0, 100, 100)
    other = drawn(0.5, 1.0, 100, 100, 1)[0]
    some = np.arange(200) % 4 != 0
    judge = calibrate(
        {"a": raws, "b": np.where(some, other, np.nan)}, labels, {"a": "mean", "b": "mean"}, Calibrate(fpr=0.1)
    )
    alone = calibrate({"b": other[some]}, labels[some], {"b": "mean"}, Calibrate(fpr=0.1))
    assert judge.streams["b"] == alone.streams["b"]
    assert judge.streams["a"] == calibrate({"a": raws}, labels, {"a": "mean"}, Calibrate(fpr=0.1)).streams["a"]
    # A row with one vote is held to that stream's threshold, so the bar of both rests on rows with two.
    assert (judge.ensemble.rows.real, judge.ensemble.rows.fake) == (75, 75)
    means = (judge.streams["a"].probability(raws) + judge.streams["b"].probability(other)) / 2
    assert np.mean(means[some & (labels == 0)] >= judge.ensemble.threshold) == pytest.approx(
        judge.ensemble.errors.false_fake
    )


def test_each_head_gets_a_rule_and_only_voters_vote() -> None:
    raws, labels = drawn(1.0, 0.0, 100, 100)
    other, third = drawn(0.5, 1.0, 100, 100, 1)[0], drawn(0.3, 0.0, 100, 100, 2)[0]
    three = {"a": raws, "b": other, "a-nearest": third}
    pools: dict[str, Pool] = dict.fromkeys(three, "mean")
    stage = Calibrate(fpr=0.1)
    judge = calibrate(three, labels, pools, stage, voters=["a", "b"], alternatives={"nearest": ["a-nearest"]})
    without = calibrate({"a": raws, "b": other}, labels, pools, stage)
    alone = calibrate({"a-nearest": third}, labels, pools, stage)
    assert judge.voters == judge.voting == ("a", "b")
    assert judge.ensemble == without.ensemble
    assert judge.streams == without.streams | alone.streams
    assert judge.alternatives == {"nearest": alone.ensemble}
    assert without.voters == ()
    # Nothing of a head that does not vote gets into the verdict of those that do.
    noise = calibrate(three | {"a-nearest": -third}, labels, pools, stage, voters=["a", "b"])
    assert noise.ensemble == judge.ensemble


def test_a_stream_that_applies_to_one_class_only_cannot_be_calibrated() -> None:
    raws, labels = drawn(1.0, 0.0, 10, 10)
    raws[labels == 1] = np.nan
    with pytest.raises(ManifestError, match="'a' applies to are not of both classes"):
        calibrate({"a": raws}, labels, {"a": "mean"}, Calibrate())


def test_streams_that_never_apply_together_cannot_vote() -> None:
    raws, labels = drawn(1.0, 0.0, 20, 20)
    even = np.arange(40) % 2 == 0
    with pytest.raises(ManifestError, match="two streams"):
        calibrate(
            {"a": np.where(even, raws, np.nan), "b": np.where(even, np.nan, raws)},
            labels,
            {"a": "mean", "b": "mean"},
            Calibrate(),
        )


def test_raw_scores_are_pooled_over_the_crops_of_each_picture(
    tmp_path: Path, picture: Callable[..., Pixels], mean_engine: Any
) -> None:
    view = View(size=32, layout="grid", across=2, minimum=16)
    pixels = [picture(0, False, 64, 64), picture(1, False, 20, 80), picture(2, False, 10, 80)]
    samples = []
    for number, array in enumerate(pixels):
        Image.fromarray(array).save(tmp_path / f"{number}.png")
        samples.append(Sample(str(tmp_path / f"{number}.png"), Label.REAL))
    head = LinearHead(np.array([1.0, 2.0, -1.0]), 0.5)
    hows: tuple[Pool, ...] = ("mean", "top")
    found = {how: raw_scores(samples, view, mean_engine, {"a": head}, how, workers=2)["a"] for how in hows}
    for row in (0, 1):
        raws = head.raw(mean_engine.run(view.tensor(view.crops(pixels[row]))))
        assert len(raws) == (4, 2)[row]
        assert found["mean"][row] == pytest.approx(raws.mean())
        assert found["top"][row] == pytest.approx(np.sort(raws)[-2:].mean() if row == 0 else raws.max())
    # 10 px are below the view's minimum of 16: judging would not apply, so neither does calibration.
    assert np.isnan(found["mean"][2])


def test_the_trunk_runs_once_for_all_heads(
    tmp_path: Path, picture: Callable[..., Pixels], mean_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(picture(0, False, 32, 32)).save(tmp_path / "a.png")
    runs, run = [], mean_engine.run

    def counted(batch: Any) -> Any:
        runs.append(len(batch))
        return run(batch)

    monkeypatch.setattr(mean_engine, "run", counted)
    heads = {"a": LinearHead(np.ones(3), 0.0), "b": LinearHead(-np.ones(3), 1.0)}
    sample = Sample(str(tmp_path / "a.png"), Label.REAL)
    found = raw_scores([sample], View(size=32), mean_engine, heads, "mean", workers=1)
    assert runs == [1]
    assert found["b"] == pytest.approx(1 - found["a"])


def test_all_frames_of_an_animation_are_pooled_as_judging_does(
    tmp_path: Path, picture: Callable[..., Pixels], mean_engine: Any
) -> None:
    frames = [picture(seed, False, 32, 32) for seed in range(3)]
    first, *rest = [Image.fromarray(frame) for frame in frames]
    first.save(tmp_path / "a.png", save_all=True, append_images=rest, duration=100)
    head = LinearHead(np.array([1.0, 1.0, 1.0]), 0.0)
    view = View(size=32)
    sample = Sample(str(tmp_path / "a.png"), Label.REAL)
    found = raw_scores([sample], view, mean_engine, {"a": head}, "mean", workers=1)
    assert found["a"][0] == pytest.approx(head.raw(mean_engine.run(view.tensor(np.stack(frames)))).mean())


# ── votes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


THREE = {"a": 0.5, "b": 1.0, "c": 0.25}
"""How well each stream tells the classes apart: b best."""


def voted(rule: vote.Method = "modified_majority", fpr: float = 0.1, rows: int = 100) -> tuple[Judge, Any, Any]:
    """A judge of three streams, and their calibrated scores with the labels of the rows."""
    raws = {name: drawn(slope, 0.3, rows, rows, seed)[0] for seed, (name, slope) in enumerate(THREE.items())}
    labels = drawn(1.0, 0.0, rows, rows)[1]
    pools: dict[str, Pool] = dict.fromkeys(raws, "mean")
    judge = calibrate(raws, labels, pools, Calibrate(fpr=fpr, rule=rule))
    return judge, {name: np.round(judge.streams[name].probability(raw), DIGITS) for name, raw in raws.items()}, labels


@pytest.mark.parametrize("rule", METHODS)
def test_a_judge_of_three_has_every_rule_beside_its_own_each_stream_alone_and_the_best(rule: vote.Method) -> None:
    judge, scores, labels = voted(rule)
    assert judge.ensemble.method == rule
    assert set(judge.rules) == {*METHODS, "best", "a", "b", "c"} - {rule}
    for name in THREE:
        alone = judge.rules[name]
        assert (alone.voters, alone.method, alone.slope) == ((name,), "mean", None)
        own = judge.streams[name]
        assert (alone.threshold, alone.doubt_low) == (own.threshold, own.doubt_low)
    assert max(THREE, key=lambda name: auc(labels, scores[name])) == "b"
    assert judge.rules["best"] == judge.rules["b"]
    for method in set(METHODS) - {rule}:
        assert (judge.rules[method].method, judge.rules[method].voters) == (method, ())
        assert (judge.rules[method].slope is None) is (method in ("mean", "tenths"))


@pytest.mark.parametrize("name", [*METHODS, "best", "a"])
def test_each_rule_has_a_threshold_that_was_chosen_on_its_own_votes(name: str) -> None:
    judge, scores, labels = voted("mean")
    rule = judge.rules.get(name, judge.ensemble)
    found = judge.votes(scores, rule)
    assert rule.errors.false_fake == pytest.approx(np.mean(found[labels == 0] >= rule.threshold))
    assert rule.errors.false_real == pytest.approx(np.mean(found[labels == 1] < rule.doubt_low))
    assert rule.errors.false_fake <= 0.1
    assert (rule.rows.real, rule.rows.fake) == (100, 100)


@pytest.mark.parametrize("rule", METHODS)
def test_the_rate_that_a_vote_comes_to_stands_beside_the_one_asked_for(rule: vote.Method) -> None:
    judge, _, _ = voted(rule, fpr=0.08)
    reached = f"{judge.ensemble.errors.false_fake:.1%} of the reals among them were called fake, where 8.0% was asked"
    assert (reached in judge.ensemble.notes) is (rule != "mean")


def test_one_stream_alone_has_no_other_rules() -> None:
    raws, labels = drawn(1.0, 0.0, 100, 80)
    judge = calibrate({"a": raws}, labels, {"a": "mean"}, Calibrate())
    assert judge.rules == {}


def test_only_voters_are_among_the_rules() -> None:
    raws, labels = drawn(1.0, 0.0, 100, 100)
    three = {"a": raws, "b": drawn(0.5, 1.0, 100, 100, 1)[0], "a-nearest": raws + 1}
    pools: dict[str, Pool] = dict.fromkeys(three, "mean")
    judge = calibrate(three, labels, pools, Calibrate(), voters=["a", "b"])
    assert set(judge.rules) == {"a", "b", "best", "modified_majority", "majority", "plain_mean", "levels", "tenths"}


def test_the_best_stream_is_the_one_that_orders_the_rows_it_applies_to_best() -> None:
    labels = np.array([0, 0, 1, 1])
    fair, good = np.array([0.1, 0.8, 0.7, 0.9]), np.array([0.4, 0.5, 0.6, 0.7])
    assert best(labels, {"fair": fair, "good": good}) == "good"
    # Of equals the first; and rows that a stream does not apply to say nothing against it.
    assert best(labels, {"one": good, "two": good}) == "one"
    assert best(labels, {"fair": fair, "some": np.where(np.arange(4) == 1, np.nan, good)}) == "some"


@pytest.mark.parametrize("method", ["majority", "modified_majority", "plain_mean"])
def test_calibrating_a_vote_never_turns_its_winner_round(method: vote.Method) -> None:
    judge, scores, _ = voted(method)
    values = cast(method, judge.streams, scores)
    found = judge.votes(scores)
    assert np.array_equal(found > 0.5, values > 0.5 + 1e-9)
    assert np.array_equal(np.argsort(values, kind="stable"), np.argsort(found, kind="stable"))
    assert judge.ensemble.probability(0.5) == 0.5


def test_the_steepness_of_votes_is_the_one_that_fits_them_best() -> None:
    # Of three votes of four for fake, nine in ten are: logit 2.197 a quarter away from one half.
    values = np.array([0.75] * 100 + [0.25] * 100)
    labels = np.array([1] * 90 + [0] * 10 + [0] * 90 + [1] * 10)
    assert steepness(values, labels) == pytest.approx(np.log(9) / 0.25, rel=1e-2)


@pytest.mark.parametrize("rows", [4, 40, 400])
def test_votes_without_a_fault_are_as_steep_as_so_many_rows_can_tell_and_wrong_ones_hardly_at_all(rows: int) -> None:
    labels = np.arange(rows) % 2
    right = labels.astype(np.float64)
    assert steepness(right, labels) == pytest.approx(2 * np.log(rows + 1), rel=1e-3)
    # So no score lies nearer to 1 than one row more that is wrong would put it.
    assert 1 / (1 + np.exp(-steepness(right, labels) / 2)) == pytest.approx(1 - 1 / (rows + 2), abs=1e-3)
    assert steepness(1 - right, labels) == pytest.approx(1e-2, abs=1e-3)


def test_steepness_weighs_the_classes_alike() -> None:
    values = np.array([0.75] * 100 + [0.25] * 100)
    labels = np.array([1] * 80 + [0] * 20 + [0] * 90 + [1] * 10)
    often = np.concatenate([np.arange(200), *[np.flatnonzero(labels == 1)] * 3])
    assert steepness(values[often], labels[often]) == pytest.approx(steepness(values, labels), rel=1e-2)


# ── temperature ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Raw(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose decision is the number that it is shown."""

    def fit(self, rows: Any, labels: Any) -> Raw:
        self.classes_ = np.unique(labels)
        return self

    def decision_function(self, rows: Any) -> Any:
        return rows[:, 0]

    def predict(self, rows: Any) -> Any:
        return self.classes_[(self.decision_function(rows) > 0).astype(np.int64)]


def sklearns(raws: Any, labels: Any) -> float:
    """scikit-learn's temperature for raw scores."""
    model = CalibratedClassifierCV(FrozenEstimator(Raw().fit(raws, labels)), method="temperature")
    (one,) = model.fit(raws[:, None], labels).calibrated_classifiers_
    (scaling,) = one.calibrators
    # It makes two logits of each decision, -x and x, whose difference is 2 x.
    return 1 / (2 * float(scaling.beta_))


@pytest.mark.parametrize("scale", [0.1, 1.0, 8.0])
@pytest.mark.parametrize(("reals", "fakes"), [(300, 300), (500, 100)])
def test_the_temperature_is_scikit_learns_on_rows_of_both_classes_alike(scale: float, reals: int, fakes: int) -> None:
    raws, labels = drawn(0.5, 0.4, reals, fakes)
    alike = np.concatenate([np.flatnonzero(labels == 0), np.repeat(np.flatnonzero(labels == 1), reals // fakes)])
    expected = sklearns(scale * raws[alike], labels[alike])
    assert temperature(scale * raws, labels) == pytest.approx(expected, rel=1e-5)
    assert expected == pytest.approx(scale * sklearns(raws[alike], labels[alike]), rel=1e-5)


@pytest.mark.parametrize("slope", [0.25, 0.5, 1.0])
@pytest.mark.parametrize(("reals", "fakes"), [(4000, 4000), (8000, 1000)])
def test_a_known_temperature_is_recovered_whatever_the_share_of_fakes(slope: float, reals: int, fakes: int) -> None:
    assert temperature(*drawn(slope, 0.0, reals, fakes)) == pytest.approx(1 / slope, rel=0.15)


def test_a_temperature_keeps_to_its_bounds() -> None:
    raws, labels = np.array([-3.0, -1.0, 2.0, 4.0]), np.array([0, 0, 1, 1])
    # Without a fault colder is better for ever; all wrong, hotter is.
    assert temperature(raws, labels) == pytest.approx(0.01, rel=1e-3)
    assert temperature(-raws, labels) == pytest.approx(100, rel=1e-3)


def test_the_three_ways_to_scale_raw_scores() -> None:
    raws, labels = drawn(0.5, 1.0, 200, 100)
    ways: dict[Scaling, tuple[float, float]] = {
        "platt": slope_and_offset(raws, labels),
        "temperature": (1 / temperature(raws, labels), 0.0),
        "none": (1.0, 0.0),
    }
    for how, expected in ways.items():
        assert scaled(raws, labels, how) == expected
        rule = calibrate({"a": raws}, labels, {"a": "mean"}, Calibrate(scaling=how)).streams["a"]
        assert (rule.slope, rule.offset) == pytest.approx(expected)
    assert len(set(ways.values())) == 3


# ── reliability and weights ──────────────────────────────────────────────────────────────────────────────────────────


def test_reliability_is_what_a_stream_is_better_than_chance_with_a_mean_of_one() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    scores = {
        "sure": np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9]),
        # One real of four is called fake, one half being fake: balanced accuracy 7/8.
        "good": np.array([0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9]),
        # Three reals and one fake of four are called as they are: 1/2.
        "chance": np.array([0.1, 0.2, 0.3, 0.9, 0.1, 0.2, 0.3, 0.9]),
    }
    beyond = np.array([0.5, 0.375, 0.005])
    found = reliability(scores, labels)
    assert list(found) == ["sure", "good", "chance"]
    assert list(found.values()) == pytest.approx(beyond / beyond.mean(), abs=1e-6)
    assert found["chance"] == pytest.approx(found["sure"] / 100, abs=1e-6)
    # One that is worse than chance is no better and no worse than chance.
    assert reliability(scores | {"chance": 1 - scores["good"]}, labels) == found


def test_reliability_rests_on_the_rows_that_a_stream_applies_to_and_on_both_classes_alike() -> None:
    labels = np.array([0, 0, 1, 1, 1, 1])
    other = np.array([0.1, 0.9, 0.9, 0.9, 0.9, 0.1])
    some = np.array([0.1, np.nan, 0.9, 0.9, np.nan, np.nan])
    # 1/2 of reals and 3/4 of fakes are right: 5/8.
    beyond = np.array([0.125, 0.5])
    assert list(reliability({"a": other, "b": some}, labels).values()) == pytest.approx(
        beyond / beyond.mean(), abs=1e-6
    )


def weighed(rule: vote.Method, **fields: Any) -> tuple[Judge, Any, Any]:
    """A judge of three streams of which one abstains now and then."""
    raws = {name: drawn(slope, 0.3, 100, 100, seed)[0] for seed, (name, slope) in enumerate(THREE.items())}
    raws["c"] = np.where(np.arange(200) % 5 == 0, np.nan, raws["c"])
    labels = drawn(1.0, 0.0, 100, 100)[1]
    judge = calibrate(raws, labels, dict.fromkeys(raws, "mean"), Calibrate(fpr=0.1, rule=rule, **fields))
    return judge, {name: np.round(judge.streams[name].probability(raw), DIGITS) for name, raw in raws.items()}, labels


def test_levels_are_weighed_by_reliability_on_the_tuning_rows() -> None:
    judge, scores, labels = weighed("levels", weights={"a": 7.0})
    weights = reliability(scores, labels)
    assert judge.ensemble.weights == weights
    assert weights["b"] > weights["a"] > weights["c"]
    values = vote.value("levels", np.stack(list(scores.values())), list(weights.values()))
    slope = steepness(values, labels)
    assert judge.ensemble.slope == pytest.approx(slope)
    assert judge.votes(scores) == pytest.approx(1 / (1 + np.exp(-slope * (values - 0.5))), abs=1e-6)
    alike = vote.value("levels", np.stack(list(scores.values())))
    assert not np.allclose(values, alike)


def test_tenths_are_weighed_as_the_recipe_says_and_taken_for_probabilities() -> None:
    judge, scores, labels = weighed("tenths", weights={"a": 2.0, "b": 1.0, "d": 3.0})
    # A stream that the recipe does not name weighs 1, and one that there is not weighs nothing.
    assert judge.ensemble.weights == {"a": 2.0, "b": 1.0}
    assert judge.ensemble.slope is None
    rounded = {name: np.round(mine, 1) for name, mine in scores.items()}
    total = 2 * rounded["a"] + rounded["b"] + np.nan_to_num(rounded["c"])
    mean = np.round(total / np.where(np.isnan(rounded["c"]), 3, 4), 9)
    assert judge.votes(scores) == pytest.approx(np.round(mean, 1))
    found = judge.votes(scores)
    assert judge.ensemble.errors.false_fake == pytest.approx(np.mean(found[labels == 0] >= judge.ensemble.threshold))


@pytest.mark.parametrize("rule", ["levels", "tenths", "mean"])
def test_whichever_rule_judges_the_others_have_their_weights_too(rule: vote.Method) -> None:
    judge, scores, labels = weighed(rule, weights={"a": 2.0})
    every = judge.rules | {rule: judge.ensemble}
    assert every["levels"].weights == reliability(scores, labels)
    assert every["tenths"].weights == {"a": 2.0}
    assert every["mean"].weights == every["majority"].weights == every["a"].weights == {}
    assert Judge.model_validate_json(judge.model_dump_json()) == judge
