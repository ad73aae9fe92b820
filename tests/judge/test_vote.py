from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from assay.judge import vote

METHODS = ("mean", "plain_mean", "majority", "modified_majority", "levels", "tenths")


def counted(method, scores):
    """One picture's (share of fake votes that counts, mean), by the rule as the module's text has it, in fractions."""
    there = [Fraction(score) for score in scores if not math.isnan(score)]
    mean = sum(there) / len(there)
    fakes = [score - Fraction(1, 2) for score in there if score >= Fraction(1, 2)]
    reals = [Fraction(1, 2) - score for score in there if score < Fraction(1, 2)]
    share = Fraction(len(fakes), len(there))
    if method == "majority":
        return share, mean
    winners, losers = (fakes, reals) if len(fakes) > len(reals) else (reals, fakes)
    weaker = losers and sum(winners) / len(winners or [1]) < sum(losers) / len(losers)
    return (Fraction(1, 2) if len(there) < len(scores) or weaker else share), mean


def wins(method, scores):
    share, mean = counted(method, scores)
    return share > Fraction(1, 2) or (share == Fraction(1, 2) and mean >= Fraction(1, 2))


def pictures(seed, streams, rows=400, *, abstaining=0.0):
    """Random scores, (streams, rows): half of them sixteenths, among which ties are common."""
    random = np.random.default_rng(seed)
    scores = random.random((streams, rows))
    scores[:, ::2] = random.integers(0, 17, (streams, len(range(0, rows, 2)))) / 16
    away = random.random((streams, rows)) < abstaining
    # One voter at least.
    away[random.integers(0, streams, rows), np.arange(rows)] = False
    scores[away] = np.nan
    return scores


# ── who wins

PATTERNS = {
    (0.2, 0.1, 0.4): (0, False),
    (0.2, 0.1, 0.7): (1, False),
    (0.2, 0.7, 0.4): (1, False),
    (0.6, 0.1, 0.4): (1, False),
    (0.2, 0.7, 0.7): (2, True),
    (0.6, 0.1, 0.7): (2, True),
    (0.6, 0.7, 0.4): (2, True),
    (0.6, 0.7, 0.7): (3, True),
}


@pytest.mark.parametrize(("scores", "expected"), PATTERNS.items())
def test_of_three_streams_the_majority_wins(scores, expected):
    fakes, wins = expected
    (value,) = vote.value("majority", np.array(scores)[:, None])
    assert (value >= 0.5) == wins
    assert value == pytest.approx(0.95 * fakes / 3 + 0.05 * np.mean(scores), abs=1e-12)


def test_the_table_holds_every_pattern():
    assert {tuple(score >= 0.5 for score in scores) for scores in PATTERNS} == set(
        itertools.product((False, True), repeat=3)
    )


@pytest.mark.parametrize("method", ["majority", "modified_majority"])
@pytest.mark.parametrize("streams", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("abstaining", [0.0, 0.3])
def test_votes_are_those_counted_one_by_one(method, streams, abstaining):
    scores = pictures(streams, streams, abstaining=abstaining)
    values = vote.value(method, scores)
    assert values.shape == (scores.shape[1],)
    for value, column in zip(values, scores.T.tolist(), strict=True):
        share, mean = counted(method, column)
        assert value == pytest.approx(float((1 - Fraction(1, 20)) * share + mean / 20), abs=1e-12)
        assert (value >= 0.5) == wins(method, column)


def test_a_majority_less_sure_than_the_minority_is_overruled_by_the_mean_where_the_rule_is_modified():
    scores = np.array([[0.55, 0.45], [0.6, 0.4], [0.0, 1.0]])
    assert (vote.value("majority", scores) >= 0.5).tolist() == [True, False]
    assert (vote.value("modified_majority", scores) >= 0.5).tolist() == [False, True]


def test_a_majority_that_is_sure_stands_in_both():
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    expected = 0.95 * np.array([2, 1]) / 3 + 0.05 * scores.mean(axis=0)
    for method in ("majority", "modified_majority"):
        np.testing.assert_allclose(vote.value(method, scores), expected, atol=1e-12)


@pytest.mark.parametrize("method", ["majority", "modified_majority"])
@pytest.mark.parametrize(
    ("scores", "fake"),
    [((0.2, 0.9), True), ((0.1, 0.8), False), ((0.25, 0.75), True), ((0.5, 0.49), False), ((0, 0.6, 0.9, 0.4), False)],
)
def test_a_tie_goes_to_the_mean(method, scores, fake):
    (value,) = vote.value(method, np.array(scores)[:, None])
    assert (value >= 0.5) == fake
    assert value == pytest.approx(0.475 + 0.05 * np.mean(scores), abs=1e-12)


def test_one_half_is_a_vote_for_fake_and_one_half_throughout_makes_one_half_of_a_tie():
    assert vote.share(np.array([[0.5], [np.nextafter(0.5, 0)]])).tolist() == [0.5]
    for method in METHODS:
        assert vote.value(method, [[0.25], [0.75]]).tolist() == [0.5]


# ── who abstains


def test_a_majority_is_one_of_those_that_vote():
    scores = np.array([[0.9, 0.9, 0.2], [np.nan, np.nan, 0.7], [0.3, 0.6, np.nan]])
    np.testing.assert_array_equal(vote.share(scores), [0.5, 1.0, 0.5])
    np.testing.assert_allclose(vote.value("majority", scores), [0.505, 0.9875, 0.4975])


def test_where_a_stream_abstains_a_modified_majority_is_the_mean_s():
    scores = np.array([[0.9, 0.55], [0.9, 0.55], [np.nan, 0.6]])
    np.testing.assert_allclose(vote.value("modified_majority", scores), [0.475 + 0.05 * 0.9, 0.95 + 0.05 * 1.7 / 3])


@pytest.mark.parametrize("method", ["mean", "plain_mean"])
def test_means_leave_out_who_abstains(method):
    np.testing.assert_allclose(vote.value(method, [[0.2, np.nan], [0.6, 0.1], [np.nan, np.nan]]), [0.4, 0.1])


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_that_all_abstain_from_has_no_vote(method):
    with pytest.raises(ValueError, match="does not abstain"):
        vote.value(method, [[0.5, np.nan], [0.5, np.nan]])
    assert vote.value(method, np.empty((3, 0))).shape == (0,)


# ── which picture comes first

PROBABILITY = st.floats(0, 1, allow_subnormal=False)


@st.composite
def two_pictures(draw, most, abstaining):
    streams = draw(st.integers(1, most))
    score = PROBABILITY | st.just(math.nan) if abstaining else PROBABILITY
    column = st.lists(score, min_size=streams, max_size=streams).filter(lambda found: not all(map(math.isnan, found)))
    return draw(column), draw(column)


def ordered(method, one, other):
    """Holds `value` to the order of shares and, within a share, of means."""
    low, high = sorted((one, other), key=lambda scores: counted(method, scores))
    value, above = vote.value(method, np.array([low, high]).T)
    (share, mean), (more, better) = counted(method, low), counted(method, high)
    assert 0 <= value <= 1
    if share < more:
        assert value < above
    else:
        # Means nearer than a score's last digit may round to one value, or past each other.
        assume(better == mean or better - mean > 1e-6)
        assert value < above if mean < better else value == pytest.approx(above, abs=1e-15)


@given(two_pictures(most=9, abstaining=False))
def test_of_up_to_nine_streams_shares_come_before_means_in_a_majority(drawn):
    ordered("majority", *drawn)


@given(two_pictures(most=6, abstaining=True))
def test_of_up_to_six_also_where_some_abstain(drawn):
    ordered("majority", *drawn)


@given(two_pictures(most=9, abstaining=True))
def test_of_up_to_nine_streams_shares_come_before_means_in_a_modified_majority(drawn):
    ordered("modified_majority", *drawn)


def test_the_means_that_lie_furthest_apart_lift_no_share_over_the_next():
    for streams in range(1, 10):
        for fakes in range(streams):
            highest = [1.0] * fakes + [0.499999] * (streams - fakes)
            lowest = [0.5] * (fakes + 1) + [0.0] * (streams - fakes - 1)
            value, above = vote.value("majority", np.array([highest, lowest]).T)
            assert value < above
    # Of shares of up to six votes, a fifth and a sixth lie nearest to each other.
    value, above = vote.value("majority", np.array([[1.0, *[0.499999] * 5], [0.5, *[0.0] * 4, np.nan]]).T)
    assert value < above


@given(st.lists(PROBABILITY, min_size=1, max_size=9), st.integers(0, 8), PROBABILITY)
def test_a_score_that_rises_never_lowers_the_vote(scores, place, rise):
    higher = list(scores)
    higher[place % len(scores)] = max(higher[place % len(scores)], rise)
    for method in ("mean", "majority"):
        before, after = vote.value(method, np.array([scores, higher]).T)
        assert before <= after + 1e-12


@pytest.mark.parametrize("streams", [2, 3, 5])
def test_a_modified_majority_has_the_winner_of_the_mean(streams):
    """As the module says: where the majority stands it pulls the mean to its side."""
    scores = pictures(3, streams, 4000, abstaining=0.1)
    by_mean = vote.value("mean", scores)
    clear = np.abs(by_mean - 0.5) > 1e-9
    assert ((vote.value("modified_majority", scores) >= 0.5) == (by_mean >= 0.5))[clear].all()
    assert ((vote.value("majority", scores) >= 0.5) != (by_mean >= 0.5)).any() == (streams > 2)


# ── drift's two rules


def tenth(score):
    """A score in tenths, a whole number; a half goes to the even one."""
    return round(Fraction(10 * score))


def weighed(method, scores, weights):
    """One picture's vote by "levels" or "tenths", by the rule as the module's text has it, in fractions."""
    there = [(score, Fraction(weight)) for score, weight in zip(scores, weights, strict=True) if not math.isnan(score)]
    whole = sum(weight for _, weight in there)
    if method == "levels":
        return float(sum(((s >= 1 / 3) + (s >= 2 / 3)) * weight for s, weight in there) / whole / 2)
    return round(sum(tenth(score) * weight for score, weight in there) / whole) / 10


NAN = math.nan

LEVELS = {
    # One stream, at the edges of the thirds: what lies on one is above it.
    ((0.0,), (1,)): 0.0,
    ((0.333333,), (1,)): 0.0,
    ((1 / 3,), (1,)): 0.5,
    ((0.333334,), (1,)): 0.5,
    ((0.666666,), (1,)): 0.5,
    ((2 / 3,), (1,)): 1.0,
    ((0.666667,), (1,)): 1.0,
    ((1.0,), (1,)): 1.0,
    # How sure a stream is within its third is nothing.
    ((0.34, 0.66, 0.5), (1, 1, 1)): 0.5,
    ((0.7, 0.99, 0.1), (1, 1, 1)): 2 / 3,
    ((0.7, 0.99, 0.1), (1, 1, 4)): 1 / 3,
    ((0.7, 0.5, 0.1), (3, 1, 1)): 0.7,
    # A tie, by votes and by weights.
    ((0.9, 0.1), (1, 1)): 0.5,
    ((0.9, 0.9, 0.0), (1, 1, 2)): 0.5,
    # Who abstains takes its weight along: 3 to 1, as before.
    ((0.9, NAN, 0.1), (3, 96, 1)): 0.75,
    ((NAN, 0.5, NAN), (3, 1, 1)): 0.5,
}


@pytest.mark.parametrize(("case", "expected"), LEVELS.items())
def test_levels_are_counted_in_thirds_and_weighed(case, expected):
    scores, weights = case
    (value,) = vote.value("levels", np.array(scores)[:, None], weights)
    assert value == pytest.approx(expected, abs=1e-9)


TENTHS = {
    # drift's release: 2 : 1 : 2.
    ((0.9, 0.4, 0.6), (2, 1, 2)): 0.7,
    ((0.94, 0.44, 0.64), (2, 1, 2)): 0.7,
    ((0.96, 0.46, 0.66), (2, 1, 2)): 0.8,
    ((1.0, 0.0, 0.0), (2, 1, 2)): 0.4,
    ((0.0, 1.0, 0.0), (2, 1, 2)): 0.2,
    # Sums of tenths that are no sums of tenths in binary: .45 and .35 are halves all the same.
    ((0.3, 0.6), (1, 1)): 0.4,
    ((0.1, 0.6), (1, 1)): 0.4,
    ((0.7, 0.2, 0.9), (1, 1, 1)): 0.6,
    ((0.2, 0.3), (1, 1)): 0.2,
    ((0.8, 0.9), (1, 1)): 0.8,
    # Rounded before and after: .449 and .551 are .4 and .6, not .449 and .551.
    ((0.449, 0.451), (1, 1)): 0.4,
    ((0.549, 0.551), (1, 1)): 0.6,
    # Who abstains takes its weight along.
    ((0.9, NAN, 0.1), (3, 96, 1)): 0.7,
    ((NAN, 0.34, NAN), (2, 1, 2)): 0.3,
}


@pytest.mark.parametrize(("case", "expected"), TENTHS.items())
def test_tenths_are_rounded_weighed_and_rounded_again(case, expected):
    scores, weights = case
    (value,) = vote.value("tenths", np.array(scores)[:, None], weights)
    assert value == expected


def test_a_half_of_a_tenth_goes_to_the_even_tenth():
    """NumPy's way, of ten times the score: .35 and .15 go up, though in binary they lie below; Python's own `round`
    takes them down, and .45 up."""
    halves = {0.05: 0.0, 0.15: 0.2, 0.25: 0.2, 0.35: 0.4, 0.45: 0.4, 0.55: 0.6, 0.65: 0.6, 0.75: 0.8, 0.85: 0.8}
    halves[0.95] = 1.0
    assert vote.value("tenths", [list(halves)]).tolist() == list(halves.values())
    assert [round(half, 1) for half in (0.15, 0.35, 0.45)] == [0.1, 0.3, 0.5]
    # One digit of a score to either side leaves no doubt.
    below, above = ([half + way for half in halves] for way in (-1e-6, 1e-6))
    np.testing.assert_allclose(vote.value("tenths", [below]), np.arange(10) / 10)
    np.testing.assert_allclose(vote.value("tenths", [above]), np.arange(1, 11) / 10)


@pytest.mark.parametrize("method", vote.WEIGHTED)
@pytest.mark.parametrize("streams", [1, 2, 3, 5])
@pytest.mark.parametrize("abstaining", [0.0, 0.4])
def test_weighed_votes_are_those_counted_one_by_one(method, streams, abstaining):
    scores = np.round(pictures(streams, streams, abstaining=abstaining), 6)
    # Every third at a tenth, where sums make halves.
    scores[:, ::3] = np.round(scores[:, ::3], 1)
    weights = np.random.default_rng(streams).integers(1, 6, streams).tolist()
    expected = [weighed(method, column, weights) for column in scores.T.tolist()]
    np.testing.assert_allclose(vote.value(method, scores, weights), expected, rtol=0, atol=1e-9)
    alike = [weighed(method, column, [1] * streams) for column in scores.T.tolist()]
    np.testing.assert_allclose(vote.value(method, scores), alike, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", vote.WEIGHTED)
def test_only_how_weights_stand_to_one_another_counts(method):
    scores = pictures(7, 3, abstaining=0.2)
    once = vote.value(method, scores, [2, 1, 2])
    np.testing.assert_allclose(vote.value(method, scores, [0.5, 0.25, 0.5]), once, atol=1e-9)
    assert (vote.value(method, scores, [2, 1, 1]) != once).any()


@pytest.mark.parametrize("method", [method for method in METHODS if method not in vote.WEIGHTED])
def test_the_other_rules_weigh_nothing(method):
    scores = pictures(8, 3, abstaining=0.2)
    np.testing.assert_array_equal(vote.value(method, scores, [2, 1, 7]), vote.value(method, scores))


@settings(deadline=None)
@given(
    st.sampled_from(vote.WEIGHTED),
    st.lists(st.tuples(PROBABILITY | st.just(math.nan), st.floats(0.01, 100)), min_size=1, max_size=9),
    st.integers(0, 8),
    PROBABILITY,
)
def test_a_score_that_rises_never_lowers_a_weighed_vote(method, drawn, place, rise):
    scores, weights = map(list, zip(*drawn, strict=True))
    higher = list(scores)
    here = place % len(scores)
    # A stream that abstains goes on abstaining.
    higher[here] = scores[here] if math.isnan(scores[here]) else max(scores[here], rise)
    assume(not all(map(math.isnan, scores)))
    before, after = vote.value(method, np.array([scores, higher]).T, weights)
    assert 0 <= before <= after <= 1


def test_rounding_makes_ties_of_pictures_that_the_mean_tells_apart():
    scores = np.random.default_rng(9).random((3, 2000))
    assert len(set(vote.value("mean", scores))) == 2000
    assert len(set(vote.value("tenths", scores, [2, 1, 2]))) == 11
    # Of 0 to 2, weighed 2 : 1 : 2, all sums from 0 to 10 can be had.
    assert len(set(vote.value("levels", scores, [2, 1, 2]))) == 11
