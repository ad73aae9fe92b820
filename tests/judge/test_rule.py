from __future__ import annotations

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.judge import rule
from assay.judge.rule import Bar, EnsembleRule, Errors, Judge, Rows, StreamRule, cast, choose, pool, ruling
from assay.judge.skip import Skip
from assay.types import Ruling


def rows_of(reals, fakes):
    return np.repeat([0, 1], [len(reals), len(fakes)]), np.concatenate([reals, fakes])


def overlapping(random, reals=200, fakes=150):
    """Scores of a middling detector."""
    return rows_of(random.beta(2, 4, reals), random.beta(4, 2, fakes))


# ── pooling and calibration


def test_pooling_takes_the_mean_the_median_the_mean_of_the_top_third_or_the_highest():
    raws = [4.0, 0.0, 1.0, 9.0]
    assert pool(raws, "mean") == 3.5
    assert pool(raws, "median") == 2.5
    assert pool(raws, "top") == 6.5
    assert pool(raws, "max") == 9
    assert [pool([-2.0], how) for how in ("mean", "median", "top", "max")] == [-2.0] * 4


def test_a_stream_of_the_highest_is_as_fake_as_its_most_fake_view_whatever_the_others_are():
    stream = StreamRule(pool="max", slope=2.0, offset=-1.0, threshold=0.5, doubt_low=0.5, fpr=0.05)
    expected = round(float(stream.probability(1.25)), rule.DIGITS)
    for others in ([], [-50.0], [1.0, -3.0, 1.249]):
        assert stream.score([*others, 1.25]) == stream.score([1.25, *others]) == expected
    assert stream.score([1.25, 1.26]) > expected


def test_calibration_is_a_sigmoid_of_slope_and_offset_that_never_overflows():
    calibrated = StreamRule(slope=2.0, offset=-1.0, threshold=0.5, doubt_low=0.5, fpr=0.05).probability
    assert calibrated(0.5) == pytest.approx(0.5)
    assert calibrated(1.5) == pytest.approx(1 / (1 + np.exp(-2.0)))
    with np.errstate(over="raise"):
        np.testing.assert_array_equal(calibrated([-1e6, 1e6]), [0.0, 1.0])


@pytest.mark.parametrize("slope", [0.0, -1.0, float("inf"), float("nan")])
def test_a_slope_that_would_turn_the_scores_round_is_refused(slope):
    with pytest.raises(pydantic.ValidationError, match="slope"):
        StreamRule(slope=slope, threshold=0.5, doubt_low=0.5, fpr=0.05)


def test_scores_are_rounded_before_they_are_decided_on():
    score = StreamRule(threshold=0.5, doubt_low=0.5, fpr=0.05).score([0.1234567, 0.2])
    assert score == round(score, 6)


def test_calibration_is_taken_back_to_the_scores_of_the_head_itself():
    raws = np.linspace(-12, 12, 4001)
    for slope, offset in ((1.0, 0.0), (0.4, 1.5), (3.0, -2.0)):
        stream = StreamRule(slope=slope, offset=offset, threshold=0.5, doubt_low=0.5, fpr=0.05)
        scores = np.round(stream.probability(raws), rule.DIGITS)
        plain, expected = stream.plain(scores), 1 / (1 + np.exp(-raws))
        # Half a digit of the score, seen through the slope: nearer to 0 and 1 the raw score was rounded away.
        kept = slope * scores * (1 - scores) > 2e-3
        assert kept.sum() > 500
        np.testing.assert_allclose(plain[kept], expected[kept], rtol=0, atol=1e-4)
        assert (np.diff(plain) >= 0).all()


@pytest.mark.filterwarnings("error")
def test_scores_that_were_rounded_to_0_or_1_are_taken_back_to_a_number_and_an_absent_one_stays_absent():
    stream = StreamRule(slope=2.0, offset=1.0, threshold=0.5, doubt_low=0.5, fpr=0.05)
    low, high, absent = stream.plain([0.0, 1.0, np.nan])
    assert (low, high) == (stream.plain(5e-7), stream.plain(1 - 5e-7))
    assert 0 < low < stream.plain(1e-6) < stream.plain(1 - 1e-6) < high < 1
    assert np.isnan(absent)


# ── votes


def two_streams() -> Judge:
    return Judge(
        streams={
            "a": StreamRule(threshold=0.8, doubt_low=0.2, fpr=0.05),
            "b": StreamRule(threshold=0.6, doubt_low=0.4, fpr=0.01),
        },
        ensemble=EnsembleRule(
            threshold=0.7,
            doubt_low=0.3,
            fpr=0.05,
            errors=Errors(false_fake=0, false_real=0, decided=1),
            rows=Rows(real=1, fake=1),
        ),
    )


def test_streams_vote_by_the_mean_of_those_that_apply():
    judge = two_streams()
    assert judge.vote({"a": 0.25, "b": 0.75}) == 0.5
    assert judge.vote({"b": 0.75}) == 0.75


def three_streams(method="majority", slope=4.0, **fields) -> Judge:
    bars = {"threshold": 0.7, "doubt_low": 0.3, "fpr": 0.05}
    errors, rows = Errors(false_fake=0, false_real=0, decided=1), Rows(real=1, fake=1)
    return Judge(
        streams={
            "a": StreamRule(**bars),
            "b": StreamRule(slope=2.0, offset=-1.0, **bars),
            "c": StreamRule(slope=0.5, offset=0.25, threshold=0.9, doubt_low=0.1, fpr=0.02),
        },
        ensemble=EnsembleRule(method=method, slope=slope, errors=errors, rows=rows, **bars),
        **fields,
    )


def sigmoid(values):
    return 1 / (1 + np.exp(-np.asarray(values)))


def test_a_vote_becomes_a_probability_by_a_slope_about_one_half():
    judge = three_streams()
    scores = {"a": [0.9, 0.1, 0.2], "b": [0.8, 0.6, 0.9], "c": [0.4, 0.2, np.nan]}
    values = 0.95 * np.array([2, 1, 1.5]) / 3 + 0.05 * np.array([0.7, 0.3, 0.55])
    np.testing.assert_allclose(judge.votes(scores), sigmoid(4 * (values - 0.5)), atol=5e-7)
    assert judge.vote({"a": 0.9, "b": 0.8, "c": 0.4}) == judge.votes(scores)[0]
    assert judge.vote({"a": 0.2, "b": 0.9}) == judge.votes(scores)[2]


def test_a_plain_mean_is_one_of_the_scores_before_calibration():
    judge = three_streams("plain_mean", slope=None)
    raws = {"a": np.array([0.5, -1.0]), "b": np.array([1.0, -2.0]), "c": np.array([3.0])}
    scores = {name: judge.streams[name].probability(raw) for name, raw in raws.items()}
    scores["c"] = np.append(scores["c"], np.nan)
    expected = [sigmoid([0.5, 1.0, 3.0]).mean(), sigmoid([-1.0, -2.0]).mean()]
    np.testing.assert_allclose(cast("plain_mean", judge.streams, scores), expected, atol=1e-9)
    np.testing.assert_allclose(judge.votes(scores), expected, atol=1e-6)
    calibrated = [np.mean([scores[name][0] for name in scores]), np.mean([scores["a"][1], scores["b"][1]])]
    np.testing.assert_allclose(cast("mean", judge.streams, scores), calibrated)
    assert np.abs(np.subtract(calibrated, expected)).min() > 0.01


def test_pictures_may_be_put_to_the_vote_by_another_rule():
    judge = three_streams()
    scores = {"a": [0.9], "b": [0.8], "c": [0.4]}
    mean = judge.ensemble.model_copy(update={"method": "mean", "slope": None})
    assert judge.votes(scores, mean) == [0.7]
    assert judge.votes(scores, mean.model_copy(update={"voters": ("a", "c")})) == [0.65]
    assert judge.votes({"c": [0.4]}, mean.model_copy(update={"voters": ("c",)})) == [0.4]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", ["mean", "plain_mean", "majority", "modified_majority", "levels", "tenths"])
def test_a_stream_that_judges_alone_keeps_the_score_that_its_bar_was_chosen_on(method):
    judge = three_streams(method)
    assert judge.vote({"c": 0.91}) == 0.91
    assert judge.bar(["c"]) is judge.streams["c"]
    votes = judge.votes({"a": [np.nan, 0.9], "b": [0.42, np.nan], "c": [np.nan, 0.8]})
    assert votes[0] == 0.42
    assert votes[1] == judge.vote({"a": 0.9, "c": 0.8})


def weighing(method, weights, **fields):
    judge = three_streams(method, slope=None, **fields)
    return judge.model_copy(update={"ensemble": judge.ensemble.model_copy(update={"weights": weights})})


def test_streams_weigh_what_the_rule_says_by_name_and_one_where_it_does_not():
    scores = {"a": [0.9, 0.9, np.nan], "b": [0.5, np.nan, 0.4], "c": [0.1, 0.2, 0.8]}
    levels, tenths = weighing("levels", {"c": 3.0, "a": 2.0}), weighing("tenths", {"c": 3.0, "a": 2.0})
    # (2 · 2 + 1 · 1 + 3 · 0) / 6, (2 · 2 + 3 · 0) / 5 and (1 · 1 + 3 · 2) / 4, each halved.
    np.testing.assert_allclose(levels.votes(scores), [5 / 12, 0.4, 7 / 8], atol=5e-7)
    # (1.8 + .5 + .3) / 6 = .43, (1.8 + .6) / 5 = .48, (.4 + 2.4) / 4 = .7
    assert tenths.votes(scores).tolist() == [0.4, 0.5, 0.7]
    assert tenths.vote({"a": 0.9, "b": 0.5, "c": 0.1}) == 0.4
    # By name: another order of the streams changes nothing.
    turned = {name: tenths.streams[name] for name in ("c", "b", "a")}
    assert tenths.model_copy(update={"streams": turned}).votes(scores).tolist() == [0.4, 0.5, 0.7]
    mean = tenths.ensemble.model_copy(update={"method": "mean"})
    np.testing.assert_allclose(tenths.votes(scores, mean), [0.5, 0.55, 0.6])


def test_of_the_voters_of_a_rule_each_keeps_its_own_weight():
    judge = three_streams()
    some = judge.ensemble.model_copy(update={"method": "tenths", "slope": None, "voters": ("c", "a")})
    scores = {"a": [0.9], "b": [1.0], "c": [0.1]}
    assert judge.votes(scores, some.model_copy(update={"weights": {"a": 3.0}})) == [0.7]
    assert judge.votes(scores, some.model_copy(update={"weights": {"c": 3.0, "b": 90.0}})) == [0.3]


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_weight_that_is_none_is_refused(weight):
    told = three_streams("levels").ensemble.model_dump() | {"weights": {"a": weight}}
    with pytest.raises(pydantic.ValidationError, match="weights"):
        EnsembleRule.model_validate(told)


def test_a_weight_for_a_stream_that_does_not_vote_is_refused():
    judge = three_streams()
    some = judge.ensemble.model_copy(update={"method": "levels", "weights": {"a": 2.0, "c": 1.0}})
    assert three_streams(rules={"levels": some}).rules["levels"].weights == {"a": 2.0, "c": 1.0}
    with pytest.raises(pydantic.ValidationError, match="the rule levels asks for votes of c, which do not vote"):
        three_streams(rules={"levels": some}, voters=("a", "b"))
    with pytest.raises(pydantic.ValidationError, match="the rule ensemble asks for votes of c"):
        Judge(streams=judge.streams, ensemble=some, voters=("a", "b"))


def test_a_picture_that_no_voter_applies_to_has_no_score():
    with pytest.raises(ValueError, match="does not abstain"):
        three_streams().vote({})


@given(st.floats(0.01, 100), st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_the_slope_of_a_vote_keeps_one_half_and_the_order(slope, values):
    voted = three_streams(slope=slope).ensemble
    assert voted.probability(0.5) == 0.5
    scores = voted.probability(np.sort(values))
    assert (np.diff(scores) >= 0).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    # Nearer to one half than this a score is rounded to it.
    clear = np.abs(np.sort(values) - 0.5) * slope > 1e-5
    np.testing.assert_array_equal((scores >= 0.5)[clear], (np.sort(values) >= 0.5)[clear])


def test_without_a_slope_a_vote_is_rounded_only():
    assert three_streams(slope=None).ensemble.probability([0.25, 0.1234567]).tolist() == [0.25, 0.123457]


@pytest.mark.parametrize("slope", [0.0, -1.0, float("inf"), float("nan")])
def test_a_slope_that_would_turn_a_vote_round_is_refused(slope):
    with pytest.raises(pydantic.ValidationError, match="slope"):
        three_streams(slope=slope)


def test_an_unknown_method_is_refused():
    with pytest.raises(pydantic.ValidationError, match="method"):
        three_streams("veto")


def test_rules_may_only_ask_for_votes_of_streams_that_vote():
    judge = three_streams()
    some = judge.ensemble.model_copy(update={"voters": ("a", "c")})
    assert three_streams(rules={"two": some}).rules["two"].voters == ("a", "c")
    with pytest.raises(pydantic.ValidationError, match="the rule two asks for votes of c, which do not vote"):
        three_streams(rules={"two": some}, voters=("a", "b"))
    with pytest.raises(pydantic.ValidationError, match="the rule ensemble asks for votes of c"):
        Judge(streams=judge.streams, ensemble=some, voters=("a", "b"))
    strange = judge.ensemble.model_copy(update={"voters": ("d",)})
    with pytest.raises(pydantic.ValidationError, match="the rule two asks for votes of d"):
        three_streams(rules={"two": strange})


def test_a_judge_of_the_voters_of_a_rule_has_no_other_streams():
    judge = three_streams()
    two = judge.of(judge.voting, judge.ensemble.model_copy(update={"voters": ("c", "a")}))
    assert list(two.streams) == list(two.voting) == ["c", "a"]
    assert two.bar(["a", "b"]) is two.streams["a"]


def test_a_stream_that_judges_alone_is_held_to_its_own_threshold():
    judge = two_streams()
    assert judge.bar(["a", "b"]) is judge.ensemble
    assert judge.bar(["b"]) is judge.streams["b"]
    assert judge.bar([]) is judge.ensemble


def test_a_stream_that_does_not_vote_changes_neither_the_vote_nor_the_bar():
    judge = two_streams()
    one = Judge(streams=judge.streams, ensemble=judge.ensemble, voters=("b",))
    assert (judge.voting, one.voting) == (("a", "b"), ("b",))
    assert one.vote({"a": 0.25, "b": 0.75}) == 0.75
    # One voter alone is all of them.
    assert one.bar(["a", "b"]) is one.bar(["b"]) is one.ensemble


def test_a_judge_of_some_streams_keeps_their_rules_and_takes_the_bar_it_is_given():
    judge = two_streams()
    other = judge.ensemble.model_copy(update={"threshold": 0.9})
    some = judge.of(["b"], other)
    assert some.streams == {"b": judge.streams["b"]}
    assert some.ensemble is some.bar(["b"]) is other


@pytest.mark.parametrize(("voters", "message"), [(("a", "c"), "voters without a rule: c"), (("a", "a"), "named twice")])
def test_voters_must_be_streams_each_once(voters, message):
    judge = two_streams()
    with pytest.raises(pydantic.ValidationError, match=message):
        Judge(streams=judge.streams, ensemble=judge.ensemble, voters=voters)


def test_a_judge_written_before_there_were_voters_lets_all_streams_vote():
    judge = two_streams()
    old = judge.model_dump(mode="json", exclude={"voters", "alternatives", "rules"})
    assert Judge.model_validate(old) == judge


def test_a_judge_written_before_there_were_ways_to_vote_lets_them_vote_by_the_mean():
    judge = two_streams()
    old = judge.model_dump(mode="json", exclude={"rules": True, "ensemble": {"method", "slope", "voters"}})
    assert {"method", "slope", "voters"}.isdisjoint(old["ensemble"])
    again = Judge.model_validate(old)
    assert again == judge
    assert (again.ensemble.method, again.ensemble.slope, again.rules) == ("mean", None, {})
    assert again.vote({"a": 0.25, "b": 0.75}) == 0.5


def test_a_judge_written_before_streams_had_weights_or_could_be_left_out_is_read_as_it_was():
    judge = three_streams()
    old = judge.model_dump(mode="json", exclude={"skip": True, "ensemble": {"weights"}})
    assert "weights" not in old["ensemble"]
    again = Judge.model_validate(old)
    assert again == judge
    assert (again.ensemble.weights, again.skip) == ({}, None)


def test_a_judge_that_weighs_and_leaves_out_survives_its_json():
    skip = Skip(order=[("b",), ("c", "a")], reach=[(0.125, 1)], budget=0.01, changed=0, saved=0.3, rows=7)
    judge = weighing("levels", {"a": 2.0, "b": 1 / 3}, skip=skip)
    again = Judge.model_validate_json(judge.model_dump_json())
    assert again == judge
    assert (again.skip, again.ensemble.weights["b"]) == (skip, 1 / 3)


def test_a_judge_with_ways_to_vote_survives_its_json():
    some = three_streams().ensemble.model_copy(update={"voters": ("a",)})
    judge = three_streams("modified_majority", rules={"best": some})
    assert Judge.model_validate_json(judge.model_dump_json()) == judge


def test_verdicts_change_exactly_at_the_threshold_and_at_the_lower_end_of_doubt():
    assert ruling(0.7, 0.7, 0.3) is Ruling.FAKE
    assert ruling(0.699999, 0.7, 0.3) is Ruling.UNCERTAIN
    assert ruling(0.3, 0.7, 0.3) is Ruling.UNCERTAIN
    assert ruling(0.299999, 0.7, 0.3) is Ruling.REAL
    assert ruling(0.5, 0.5, 0.5) is Ruling.FAKE
    assert ruling(1.0, rule.NEVER, 0.0) is Ruling.UNCERTAIN


def test_a_doubt_band_that_begins_above_the_threshold_is_refused():
    with pytest.raises(pydantic.ValidationError, match="doubt_low"):
        Bar(threshold=0.5, doubt_low=0.6, fpr=0.05)


# ── choosing


@pytest.mark.parametrize("reals", [19, 30, 59, 200])
def test_further_reals_are_called_fake_no_more_often_than_promised_for_any_number_of_tuning_rows(reals):
    random = np.random.default_rng(reals)
    found = []
    for _ in range(1500):
        labels, scores = rows_of(random.random(reals), random.random(5))
        # The scores of reals are uniform, so the rate among all further reals is known without drawing them.
        found.append(1 - choose(labels, scores, fpr=0.05, decided=0.0).threshold)
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) <= 0.05 + 3 * error
    # and not needlessly below: the exact expectation is floor(fpr (n + 1)) / (n + 1)
    assert np.mean(found) >= np.floor(0.05 * (reals + 1)) / (reals + 1) - 3 * error - 2e-6


def test_further_fakes_are_called_real_no_more_often_than_beta_where_beta_is_given():
    random = np.random.default_rng(1)
    found = []
    for _ in range(1500):
        labels, scores = rows_of(random.random(30), random.random(60))
        choice = choose(labels, scores, decided=0.0)
        assert choice.beta == 0.01
        found.append(choice.doubt_low)
    assert np.mean(found) <= 0.01


@pytest.mark.parametrize("seed", range(5))
def test_the_bars_are_those_of_the_conformal_p_values_even_with_ties(seed):
    random = np.random.default_rng(seed)
    labels, scores = overlapping(random, reals=int(random.integers(20, 90)), fakes=int(random.integers(5, 90)))
    scores = scores.round(2)
    reals, fakes = scores[labels == 0], scores[labels == 1]
    choice = choose(labels, scores, fpr=0.1, decided=0.6)
    for score in np.unique(np.clip(np.concatenate([scores, scores - 1e-6, scores + 1e-6, [0, 1]]), 0, 1).round(6)):
        among_reals = (1 + np.sum(reals >= score)) / (len(reals) + 1)
        among_fakes = (1 + np.sum(fakes <= score)) / (len(fakes) + 1)
        expected = Ruling.UNCERTAIN
        if among_fakes <= choice.beta + 1e-9:
            expected = Ruling.REAL
        if among_reals <= 0.1 + 1e-9:
            expected = Ruling.FAKE
        assert ruling(score, choice.threshold, choice.doubt_low) is expected


def test_beta_is_the_smallest_that_decides_enough():
    labels, scores = overlapping(np.random.default_rng(7))
    choice = choose(labels, scores, decided=0.7)
    assert choice.errors.decided >= 0.7
    assert 0.01 < choice.beta < 0.5
    stricter = choose(labels, scores, decided=choice.errors.decided + 1e-6)
    assert stricter.beta > choice.beta
    # One step less decides too little.
    assert choose(labels, scores, decided=0.7 - 1e-3).beta <= choice.beta
    allowed = int(np.floor((choice.beta - 0.01) * (np.sum(labels) + 1) + 1e-9))
    low = np.sort(scores[labels == 1])[allowed - 1] if allowed else 0.0
    decided = [
        np.mean((part < low) | (part >= choice.threshold)) for part in (scores[labels == 0], scores[labels == 1])
    ]
    assert np.mean(decided) < 0.7


def test_asking_for_fewer_false_alarms_raises_the_threshold_and_for_more_verdicts_the_lower_end():
    labels, scores = overlapping(np.random.default_rng(8))
    thresholds = [choose(labels, scores, fpr=fpr).threshold for fpr in (0.01, 0.02, 0.05, 0.1, 0.3)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert len(set(thresholds)) == 5
    lows = [choose(labels, scores, decided=decided).doubt_low for decided in (0.3, 0.5, 0.7, 0.8)]
    assert lows == sorted(lows)
    assert lows[0] < lows[-1]


def test_errors_are_counted_on_the_tuning_rows_each_class_weighing_the_same():
    reals = np.array([0.1] * 90 + [0.5] * 6 + [0.9] * 4)
    fakes = np.array([0.1] + [0.5] * 2 + [0.9] * 7)
    choice = choose(*rows_of(reals, fakes), fpr=0.05, decided=0.7)
    assert choice.threshold == 0.500001
    assert choice.doubt_low == 0.5
    assert choice.errors == Errors(false_fake=0.04, false_real=0.1, decided=1 - (0.06 + 0.2) / 2)


def test_ties_at_the_threshold_never_break_the_promise():
    choice = choose(*rows_of(np.full(100, 0.8), np.full(50, 0.8)))
    assert choice.threshold == 0.800001
    assert choice.errors.false_fake == 0


def test_classes_that_do_not_overlap_leave_no_doubt():
    choice = choose(*rows_of(np.linspace(0, 0.2, 100), np.linspace(0.8, 1, 100)))
    assert choice.doubt_low == choice.threshold
    assert choice.beta == 0.01
    assert choice.errors.false_real == 0
    assert choice.errors.false_fake <= 0.05
    assert choice.errors.decided == 1


def test_a_detector_that_ranks_the_wrong_way_round_keeps_its_promise_and_shows_it_in_its_errors():
    choice = choose(*rows_of(np.linspace(0.8, 1, 100), np.linspace(0, 0.2, 100)))
    assert choice.errors.false_fake <= 0.05
    assert choice.beta == 0.5
    assert choice.errors.decided < 0.7


def test_too_few_reals_to_promise_anything_means_that_nothing_is_called_fake():
    choice = choose(*rows_of(np.linspace(0, 0.2, 18), np.ones(18)), fpr=0.05)
    assert choice.threshold == rule.NEVER
    assert ruling(1.0, choice.threshold, choice.doubt_low) is not Ruling.FAKE
    Bar(threshold=choice.threshold, doubt_low=choice.doubt_low, fpr=0.05)
    assert choose(*rows_of(np.linspace(0, 0.2, 19), np.ones(18)), fpr=0.05).threshold <= 0.2 + 2e-6


def test_one_row_of_each_class_is_enough_not_to_crash():
    choice = choose([0, 1], [0.2, 0.9])
    assert choice.threshold == rule.NEVER
    assert choice.beta == 0.5
    assert choice.doubt_low == 0.9


@pytest.mark.parametrize(
    ("labels", "scores", "settings", "words"),
    [
        ([0, 0], [0.1, 0.2], {}, "both classes"),
        ([0, 2], [0.1, 0.2], {}, "labels"),
        ([0, 1], [0.1], {}, "labels"),
        ([0, 1], [0.1, 1.2], {}, r"\[0, 1\]"),
        ([0, 1], [0.1, float("nan")], {}, r"\[0, 1\]"),
        ([0, 1], [0.1, 0.2], {"fpr": 0.0}, "fpr"),
        ([0, 1], [0.1, 0.2], {"decided": 1.1}, "decided"),
    ],
)
def test_rows_that_nothing_can_be_chosen_on_are_refused(labels, scores, settings, words):
    with pytest.raises(ValueError, match=words):
        choose(labels, scores, **settings)
