"""Calibration: the true odds where they are known, a threshold that keeps its promise, abstaining streams."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.errors import ManifestError
from assay.image.view import View
from assay.judge import vote
from assay.judge.heads import LinearHead
from assay.judge.rule import DIGITS, Judge, Pool, cast
from assay.learn.calibrate import METHODS, best, calibrate, raw_scores, slope_and_offset, steepness
from assay.learn.recipe import Calibrate
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
    reached = f"{judge.ensemble.errors.false_fake:.1%} of the real tuning rows were called fake, where 8.0% was asked"
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
