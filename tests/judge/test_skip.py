from __future__ import annotations

import dataclasses
import io

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import assay
from assay.errors import BundleError, OutputError
from assay.image.decode import Limits, decode
from assay.image.faces import Face
from assay.image.view import View
from assay.judge import bundle
from assay.judge.detector import SKIPPED
from assay.judge.engine import Engine
from assay.judge.rule import EnsembleRule, Errors, Judge, Rows, StreamRule, ruling
from assay.judge.sink import Results
from assay.judge.skip import MONOTONE, Skip, choose, outcome, ruled
from assay.types import Box, Ruling

WHOLE = (1.0, 1.0)
"""Bounds that never change a verdict."""


def rules_of(names="ab", method="mean", bar=(0.6, 0.4), alone=None, calibration=(), **fields):
    """A judge whose vote is fake from the first number of `bar` and real below the second, as each stream is alone."""
    told = {"threshold": bar[0], "doubt_low": bar[1], "fpr": 0.05}
    own = told if alone is None else {"threshold": alone[0], "doubt_low": alone[1], "fpr": 0.05}
    slopes = dict(zip(names, calibration, strict=False))
    return Judge(
        streams={
            name: StreamRule(slope=slopes.get(name, (1, 0))[0], offset=slopes.get(name, (1, 0))[1], **own)
            for name in names
        },
        ensemble=EnsembleRule(
            method=method,
            errors=Errors(false_fake=0, false_real=0, decided=1),
            rows=Rows(real=1, fake=1),
            **told,
            **fields,
        ),
    )


def bounds(*order, reach=None, budget=0.0):
    return Skip(
        order=[tuple(group) for group in order],
        reach=reach or [WHOLE] * (len(order) - 1),
        budget=budget,
        changed=0,
        saved=0,
        rows=1,
    )


def word(rules, row):
    bar = rules.bar(row)
    return ruling(rules.vote(row), bar.threshold, bar.doubt_low)


# ── one picture


def test_streams_are_left_out_where_the_verdict_is_one_at_both_bounds():
    rules = rules_of()
    # Of .5 the other may say .4 to .7: the mean is .45 to .6.
    skip = bounds("a", "b", reach=[(0.1, 0.2)])
    assert skip.settled(rules, 1, {"a": 0.5}) is None
    assert bounds("a", "b", reach=[(0.1, 0.19)]).settled(rules, 1, {"a": 0.5}) == 0.5
    assert bounds("a", "b", reach=[(0.2, 0.19)]).settled(rules, 1, {"a": 0.5}) == 0.5
    assert bounds("a", "b", reach=[(0.21, 0.19)]).settled(rules, 1, {"a": 0.5}) is None


def test_no_stream_is_supposed_to_say_more_than_1_or_less_than_0():
    rules = rules_of(bar=(0.97, 0.03))
    # The mean of .9 and 1 is .95, that of .9 and 1.8 none.
    assert bounds("a", "b", reach=[(0.1, 0.9)]).settled(rules, 1, {"a": 0.9}) == 0.9
    assert bounds("a", "b", reach=[(0.9, 0.1)]).settled(rules, 1, {"a": 0.1}) == 0.1
    assert bounds("a", "b", reach=[(0.1, 0.9)]).settled(rules_of(bar=(0.95, 0.03)), 1, {"a": 0.9}) is None


def test_streams_that_might_abstain_are_asked_where_the_others_alone_are_held_to_another_bar():
    skip = bounds("a", "b", reach=[(0.0, 0.0)])
    assert skip.settled(rules_of(alone=(0.5, 0.4)), 1, {"a": 0.55}) is None
    assert skip.settled(rules_of(alone=(0.6, 0.4)), 1, {"a": 0.55}) == 0.55


def test_each_step_has_its_own_bounds_about_the_mean_so_far():
    rules = rules_of("abc")
    skip = bounds("a", "b", "c", reach=[(1, 1), (0.1, 0.1)])
    assert skip.settled(rules, 1, {"a": 0.5}) is None
    # .4 and .5 leave .35 to .55 open: the mean is .417 to .483.
    assert skip.settled(rules, 2, {"a": 0.4, "b": 0.5}) == 0.45
    assert skip.settled(rules, 2, {"a": 0.4, "b": 0.42}) is None
    # One of the two abstained: the mean is that of the other.
    assert skip.settled(rules, 2, {"b": 0.5}) == 0.5


def test_nothing_is_settled_before_a_stream_has_spoken_or_after_all_have():
    skip, rules = bounds("a", "b", reach=[(0, 0)]), rules_of()
    assert skip.settled(rules, 1, {}) is None
    assert skip.settled(rules, 2, {"a": 0.9, "b": 0.9}) is None


def test_a_stream_that_weighs_most_settles_it_alone():
    rules = rules_of("abc", "levels", (0.6, 0.4), weights={"a": 9.0})
    skip = bounds("a", "bc")
    assert skip.settled(rules, 1, {"a": 0.9}) == 1
    assert skip.settled(rules, 1, {"a": 0.1}) == 0
    assert skip.settled(rules, 1, {"a": 0.5}) == 0.5
    # Of one that weighs no more than the others, nothing.
    assert skip.settled(rules_of("abc", "levels"), 1, {"a": 0.9}) is None


def test_before_calibration_a_bound_is_another_number_for_each_stream():
    """ "c" says .33 at least before calibration and "d" nothing: the vote lies lowest where "c" alone abstains."""
    rules = rules_of("abcd", "plain_mean", (0.6, 0.22), calibration=[(1, 0), (1, 0), (20, 0), (1, 0)])
    ran = {"a": 0.3, "b": 0.3}
    said = {others: word(rules, ran | dict.fromkeys(others, 0.0)) for others in ("", "c", "d", "cd")}
    assert said == {"": "uncertain", "c": "uncertain", "d": "real", "cd": "uncertain"}
    assert bounds("ab", "cd").settled(rules, 1, ran) is None
    higher = rules_of("abcd", "plain_mean", (0.78, 0.22), calibration=[(1, 0), (1, 0), (20, 0), (1, 0)])
    ran = {"a": 0.7, "b": 0.7}
    said = {others: word(higher, ran | dict.fromkeys(others, 1.0)) for others in ("", "c", "d", "cd")}
    assert said == {"": "uncertain", "c": "uncertain", "d": "fake", "cd": "uncertain"}
    assert bounds("ab", "cd").settled(higher, 1, ran) is None


# ── whole bounds never change a verdict

SCORE = st.integers(0, 10).map(lambda tenths: tenths / 10) | st.floats(0, 1).map(lambda score: round(score, 6))
BAR = st.tuples(SCORE, SCORE).map(lambda pair: (max(pair), min(pair)))


@st.composite
def asked(draw, reach):
    """A judge of two to four streams, bounds, and what the streams say of a picture; some may abstain."""
    names = "abcd"[: draw(st.integers(2, 4))]
    method = draw(st.sampled_from(MONOTONE))
    cuts = sorted(draw(st.sets(st.integers(1, len(names) - 1), min_size=1)))
    order = [names[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(names)], strict=True)]
    rules = rules_of(
        names,
        method,
        draw(BAR),
        draw(BAR),
        [(draw(st.sampled_from((0.3, 1, 5, 20))), draw(st.floats(-3, 3))) for _ in names],
        slope=draw(st.sampled_from((None, 4.0))),
        weights={name: draw(st.integers(1, 5)) for name in names},
    )
    row = {name: draw(SCORE) for name in names if draw(st.integers(0, 4))} or {names[-1]: draw(SCORE)}
    steps = [draw(reach) for _ in order[1:]]
    return rules, bounds(*order, reach=steps), row


@settings(deadline=None, max_examples=300)
@given(asked(st.just(WHOLE)))
def test_whole_bounds_never_change_a_verdict(drawn):
    rules, skip, row = drawn
    for done in range(1, len(skip.order)):
        ran = {name: row[name] for group in skip.order[:done] for name in group if name in row}
        score = skip.settled(rules, done, ran)
        if score is not None:
            assert ruled(rules, score) is word(rules, row)
    assert outcome(skip, rules, [row])[0] == 0


@settings(deadline=None, max_examples=100)
@given(asked(st.tuples(st.floats(0, 0.5), st.floats(0, 0.5))))
def test_what_is_settled_lies_on_its_verdicts_side_whatever_the_bounds(drawn):
    rules, skip, row = drawn
    ran = {name: row[name] for name in skip.order[0] if name in row}
    score = skip.settled(rules, 1, ran)
    if score is not None:
        # What was said so far says the same.
        assert ruled(rules, score) is word(rules, ran)
        assert 0 <= score <= 1


def test_rules_of_which_bounds_are_not_all_are_left_alone():
    """The modified majority falls where a stream rises: what is true at two bounds is not true between."""
    assert "modified_majority" not in MONOTONE
    rules = rules_of("abc", "modified_majority")
    low, middle = (rules.vote({"a": 0.7, "b": 0.7, "c": score}) for score in (0.0, 0.49))
    assert low < 0.5 < middle
    before, after = (rules.vote({"a": 0.6, "b": score, "c": 0.2}) for score in (0.45, 0.51))
    assert before < after
    assert choose(rules, ["a", "bc"], {name: np.array([0.1, 0.9]) for name in "abc"}) is None


# ── choosing bounds on tuning rows


ROWS = 50


def tuning(noise=0.2):
    """Scores of three streams that mostly agree; the last abstains on a fifth of the rows."""
    random, rows = np.random.default_rng(0), ROWS
    truth = random.random(rows)
    scores = {name: np.round(np.clip(truth + random.normal(0, noise, rows), 0, 1), 6) for name in "abc"}
    scores["c"][random.random(rows) < 0.2] = np.nan
    return scores


def rows_of(scores):
    table = zip(*scores.values(), strict=True)
    return [{name: value for name, value in zip(scores, row, strict=True) if value == value} for row in table]


@pytest.mark.parametrize("method", MONOTONE)
def test_bounds_keep_within_the_budget_on_their_rows_and_save_where_streams_agree(method):
    rules, scores = rules_of("abc", method), tuning()
    strict, loose = (choose(rules, ["a", "b", "c"], scores, budget=budget) for budget in (0.0, 0.1))
    for skip, budget in ((strict, 0.0), (loose, 0.1)):
        assert (skip.budget, skip.rows, skip.order) == (budget, ROWS, (("a",), ("b",), ("c",)))
        assert outcome(skip, rules, rows_of(scores)) == (skip.changed, skip.saved)
        assert skip.changed <= budget
    assert 0 < strict.saved <= loose.saved < 1


def test_more_is_saved_than_by_bounds_that_never_err_and_a_larger_budget_saves_more():
    rules, scores = rules_of("abc"), tuning()
    order = ["a", "b", "c"]
    strict, loose = (choose(rules, order, scores, budget=budget) for budget in (0.0, 0.1))
    assert outcome(bounds(*order), rules, rows_of(scores))[1] < strict.saved < loose.saved
    assert loose.changed > 0
    assert all(one < other for one, other in zip(loose.reach[0], strict.reach[0], strict=True))


def test_without_a_budget_bounds_are_how_far_streams_strayed():
    """From .5 the others lay at .4, .3, .7 and .55; what abstains has not strayed, nor from what abstains."""
    nan = np.nan
    scores = {
        "a": np.array([0.5, 0.4, 0.5, nan, nan]),
        "b": np.array([0.4, 0.5, 0.7, 0.9, nan]),
        "c": np.array([0.3, nan, 0.55, 0.0, nan]),
    }
    skip = choose(rules_of("abc"), ["a", "bc"], scores, budget=0)
    assert (skip.reach, skip.rows) == (((0.2, 0.2),), 4)
    skip = choose(rules_of("abc"), ["ab", "c"], scores, budget=0)
    assert skip.reach == ((0.9, 0.0),)
    # Where no row shows how far, all is open.
    scores["a"][:] = nan
    assert choose(rules_of("abc"), ["a", "bc"], scores, budget=0).reach == (WHOLE,)


def test_what_changes_and_what_is_saved_is_counted_by_pictures_and_by_runs():
    rules = rules_of("abc")
    skip = bounds("a", "b", "c", reach=[(0, 0), (0, 0)])
    rows = [
        # Two runs of three left out, and the verdict is the same.
        {"a": 0.9, "b": 0.9, "c": 0.9},
        # The same, and all three say "uncertain".
        {"a": 0.9, "b": 0.3, "c": 0.3},
        # The second says the first word.
        {"b": 0.1, "c": 0.2},
        # Nobody is left out of one stream's verdict: it is the last.
        {"c": 0.9},
    ]
    assert outcome(skip, rules, rows) == (0.25, 5 / 12)


def test_one_group_or_a_rule_that_bounds_do_not_hold_for_leaves_nothing_out():
    scores = tuning()
    assert choose(rules_of("abc"), ["abc"], scores) is None
    assert choose(rules_of("abc", "modified_majority"), ["a", "bc"], scores) is None


# ── the numbers in a bundle


@pytest.mark.parametrize(
    ("order", "reach", "words"),
    [
        (["ab"], [], "order"),
        (["a", "b"], [], "2 groups of streams have 1 reaches between them"),
        (["a", "b"], [WHOLE, WHOLE], "2 groups of streams have 1 reaches"),
    ],
)
def test_bounds_that_do_not_hold_are_refused(order, reach, words):
    told = {"order": [tuple(group) for group in order], "reach": reach, "budget": 0, "changed": 0, "saved": 0}
    with pytest.raises(pydantic.ValidationError, match=words):
        Skip.model_validate(told | {"rows": 1})


@pytest.mark.parametrize("order", [["a", "b"], ["a", "bcd"]])
def test_an_order_that_does_not_name_each_stream_that_votes_is_refused(order):
    rules = rules_of("abc")
    with pytest.raises(pydantic.ValidationError, match="does not name each that votes"):
        Judge(streams=rules.streams, ensemble=rules.ensemble, skip=bounds(*order))
    # A head that does not vote is not waited for.
    assert Judge(streams=rules.streams, ensemble=rules.ensemble, skip=bounds("a", "b"), voters=("a", "b")).skip


def test_bounds_go_with_the_rule_that_they_were_chosen_for():
    rules = rules_of("abc")
    rules = rules.model_copy(update={"skip": bounds("a", "bc")})
    assert rules.of(rules.voting, rules.ensemble).skip == rules.skip
    assert rules.of(("a", "b"), rules.ensemble).skip is None
    for other in ({"method": "levels"}, {"threshold": 0.7}, {"voters": ("a", "b")}):
        assert rules.of(rules.voting, rules.ensemble.model_copy(update=other)).skip is None


# ── a detector that leaves out its search for faces

HEAD = Face(Box(4, 4, 44, 44), 0.99, ((0, 0), (0, 0), (0, 0), (0, 0), (0, 0)))


def told(parts, reach=(WHOLE,), order=(("grey",), ("face",)), **rule):
    """A bundle of "grey", which weighs twice as much and is overruled where it says 1 of 0, 1 and 2, and of "face",
    which looks at the reds of faces."""
    parts.add("face", view=View(size=32, layout="faces", margin=1))
    ours = {"method": "levels", "weights": {"grey": 2.0}, "threshold": 0.66, "doubt_low": 0.34}
    ensemble = parts.judge.ensemble.model_copy(update=ours | rule)
    skip = bounds(*order, reach=list(reach))
    parts.judge = parts.judge.model_copy(update={"ensemble": ensemble, "skip": skip})


@pytest.fixture
def faces(monkeypatch):
    """How often faces were looked for; pictures with an even number of columns show one."""
    looked = []

    def look(pixels):
        looked.append(pixels.shape)
        return () if pixels.shape[1] % 2 else (HEAD,)

    monkeypatch.setattr("assay.judge.detector.look", look)
    return looked


@pytest.fixture
def runs(monkeypatch):
    """How many crops each run of the network had."""
    counts = []
    run = Engine.run
    monkeypatch.setattr(Engine, "run", lambda engine, batch: counts.append(len(batch)) or run(engine, batch))
    return counts


def unsigned(verdict):
    """A verdict without the detector's name and hash: one that may leave streams out has others."""
    return dataclasses.replace(verdict, detector={})


def scene(grey, red, width=80):
    """A grey picture with a face in it that has more red, or less, and is as bright."""
    pixels = np.full((64, width, 3), grey, np.uint8)
    pixels[4:44, 4:44, 0] = red
    pixels[4:44, 4:44, 2] = min(255, max(0, 2 * grey - red))
    return pixels


SCENES = [scene(grey, red, width) for grey in (40, 110, 120, 190) for red in (10, 120, 220) for width in (80, 81)]


def test_where_bounds_are_whole_a_detector_says_the_same_and_searches_less(parts, tmp_path, faces):
    told(parts)
    folder = parts.write(tmp_path / "faced").folder
    whole, some = assay.load(folder), assay.load(folder, skip=True)
    expected = [whole.judge(pixels) for pixels in SCENES]
    assert len(faces) == len(SCENES)
    faces.clear()
    found = [some.judge(pixels) for pixels in SCENES]
    assert [one.verdict for one in found] == [one.verdict for one in expected]
    assert {one.verdict for one in found} == set(Ruling)
    left = [any(part.reason == SKIPPED for part in one.streams) for one in found]
    assert 0 < len(faces) == left.count(False) < len(SCENES)
    for one, other, without in zip(found, expected, left, strict=True):
        assert ruling(one.score, one.threshold, one.doubt[0]) is one.verdict
        assert without or unsigned(one) == unsigned(other)


def test_a_stream_that_cannot_matter_is_not_run_and_the_verdict_says_so(parts, tmp_path, faces, runs):
    told(parts)
    folder = parts.write(tmp_path / "faced").folder
    verdict = assay.load(folder, skip=True).judge(scene(190, 10))
    assert (faces, runs) == ([], [4])
    assert (verdict.verdict, verdict.score, verdict.threshold) == ("fake", 1.0, 0.66)
    assert verdict.to_dict()["streams"][1] == {"name": "face", "applies": False, "reason": SKIPPED}
    assert f"face has no part in this: {SKIPPED}" in verdict.reasons
    assert verdict.reasons[0].startswith("score 1.00 is at or above the threshold 0.66")
    assert "left out" in SKIPPED
    # With all streams the face brings the score down, and not below the threshold.
    assert assay.load(folder).judge(scene(190, 10)).score == 0.666667


def test_narrower_bounds_leave_out_more_and_may_change_a_verdict(parts, tmp_path, faces, runs):
    told(parts, reach=[(0, 0)], method="mean", weights={})
    folder = parts.write(tmp_path / "faced").folder
    whole, some = (assay.load(folder, skip=skip).judge(scene(190, 10)) for skip in (False, True))
    grey, face = (stream.score for stream in whole.streams)
    assert (whole.verdict, whole.score) == ("uncertain", pytest.approx((grey + face) / 2, abs=1e-6))
    assert (some.verdict, some.score) == ("fake", grey)
    assert len(faces) == 1


def test_a_score_that_was_settled_is_held_to_the_bar_of_the_vote(parts, tmp_path, faces):
    told(parts, doubt_low=0.25)
    streams = {name: rule.model_copy(update={"threshold": 0.6}) for name, rule in parts.judge.streams.items()}
    parts.judge = parts.judge.model_copy(update={"streams": streams})
    verdict = assay.load(parts.write(tmp_path / "faced").folder, skip=True).judge(scene(190, 10))
    assert (verdict.threshold, verdict.doubt, verdict.verdict) == (0.66, (0.25, 0.66), "fake")
    assert faces == []


def test_of_many_pictures_only_those_it_may_matter_to_go_on(parts, tmp_path, faces, runs):
    told(parts)
    folder = parts.write(tmp_path / "faced").folder
    some = assay.load(folder, skip=True)
    alone = [some.judge(pixels) for pixels in SCENES]
    searched = faces[:]
    faces.clear()
    runs.clear()
    assert list(some.judge_many(SCENES, batch=len(SCENES), workers=1)) == alone
    assert faces == searched
    crops = sum(len(some.card.streams[0].view.boxes(width, 64)) for _, width, _ in (p.shape for p in SCENES))
    assert sum(runs) == crops + sum(width % 2 == 0 for _, width, _ in searched)
    assert 0 < len(searched) < len(SCENES)
    assert list(some.judge_many([])) == []


def test_streams_of_one_group_share_their_run(parts, tmp_path, faces, runs):
    parts.add("red")
    told(parts, order=(("red", "grey"), ("face",)), weights={})
    folder = parts.write(tmp_path / "faced").folder
    some, whole = assay.load(folder, skip=True), assay.load(folder)
    verdict = some.judge(scene(190, 190))
    assert (runs, faces) == ([4], [])
    assert [stream.name for stream in verdict.streams if stream.applies] == ["grey", "red"]
    # One says fake, the other real: the face decides.
    torn = np.full((64, 80, 3), (0, 250, 250), np.uint8)
    runs.clear()
    assert unsigned(some.judge(torn)) == unsigned(whole.judge(torn))
    assert runs == [4, 1, 4, 1]
    assert len(faces) == 2


def test_where_the_first_streams_do_not_apply_the_next_are_asked(parts, tmp_path, faces):
    told(parts)
    view = parts.card.streams[0].view.model_copy(update={"minimum": 60})
    first = parts.card.streams[0].model_copy(update={"view": view})
    parts.card = parts.card.model_copy(update={"streams": (first, parts.card.streams[1])})
    folder = parts.write(tmp_path / "faced").folder
    pixels = scene(40, 245)[:50]
    some, whole = (assay.load(folder, skip=skip).judge(pixels) for skip in (True, False))
    assert unsigned(some) == unsigned(whole)
    assert [stream.applies for stream in some.streams] == [False, True]
    assert len(faces) == 2
    small = [assay.load(folder, skip=skip).judge(pixels[:10]) for skip in (True, False)]
    assert unsigned(small[0]) == unsigned(small[1])
    assert small[0].score is None


def test_a_network_that_gives_no_finite_number_settles_nothing(parts, tmp_path, faces):
    told(parts)
    parts.files["tiny.weights"] = np.full((3, 4), 3e38, np.float32).tobytes()
    folder = parts.write(tmp_path / "sick").folder
    with np.errstate(all="ignore"):
        some, whole = (assay.load(folder, skip=skip).judge(scene(250, 250)) for skip in (True, False))
    assert unsigned(some) == unsigned(whole)
    assert (some.verdict, some.score) == ("uncertain", None)
    assert "no finite number" in some.reasons[0]


@pytest.mark.parametrize(("limits", "count"), [(Limits(), 3), (Limits(frames=1), 1)])
def test_animations_are_judged_by_all(parts, tmp_path, faces, limits, count):
    told(parts)
    stream = io.BytesIO()
    first, *rest = [Image.fromarray(scene(grey, 10)) for grey in (190, 200, 210)]
    first.save(stream, "GIF", save_all=True, append_images=rest, duration=50)
    folder = parts.write(tmp_path / "faced").folder
    some, whole = (assay.load(folder, skip=skip).judge(stream.getvalue(), limits) for skip in (True, False))
    assert unsigned(some) == unsigned(whole)
    assert all(stream.applies for stream in some.streams)
    assert len(some.frames) == count
    assert len(faces) == 2 * count
    # A picture like its frames would have been settled.
    assert assay.load(folder, skip=True).judge(scene(190, 10)).streams[1].reason == SKIPPED


def test_what_may_leave_streams_out_has_a_name_and_a_hash_of_its_own(parts, tmp_path, faces):
    told(parts)
    folder = parts.write(tmp_path / "faced").folder
    whole, some = (assay.load(folder, skip=skip) for skip in (False, True))
    assert (whole.name, some.name) == ("tiny", "tiny-skip")
    assert whole.sha256 == whole.card.sha256 == some.card.sha256 != some.sha256
    signature = {"name": "tiny-skip", "version": "1", "sha256": some.sha256, "card": whole.sha256}
    assert some.judge(scene(190, 10)).detector == signature
    assert assay.load(folder, vote="levels", skip=True).sha256 == some.sha256


def test_a_file_of_scores_of_all_streams_is_not_gone_on_with_by_one_that_leaves_some_out(parts, tmp_path):
    told(parts)
    folder = parts.write(tmp_path / "faced").folder
    whole, some = (assay.load(folder, skip=skip) for skip in (False, True))
    with Results(tmp_path / "r.jsonl", "json", whole.sha256) as results:
        results.write(whole.judge(scene(190, 10)[:, :31]))
    with pytest.raises(OutputError, match="another detector"):
        Results(tmp_path / "r.jsonl", "json", some.sha256)


def test_pictures_that_are_cut_and_embedded_apart_are_judged_by_all_streams(parts, tmp_path, faces):
    told(parts)
    folder = parts.write(tmp_path / "faced").folder
    whole, some = (assay.load(folder, skip=skip) for skip in (False, True))
    expected = [unsigned(whole.judge(pixels)) for pixels in SCENES]
    for cut in (
        [some.cut(decode(pixels), "<array>") for pixels in SCENES],
        [some.prepare(pixels) for pixels in SCENES],
    ):
        assert [set(each.crops) | set(each.absent) for each in cut] == [{s.view for s in some.streams}] * len(SCENES)
        assert [unsigned(one) for one in some.judge_embedded(cut, some.embed_prepared(cut))] == expected
    # Judged, they are as good as any others for leaving streams out.
    judged, expected = some.judge_prepared(cut), [some.judge(pixels) for pixels in SCENES]
    assert [(one.verdict, one.score) for one in judged] == [(one.verdict, one.score) for one in expected]


def test_a_detector_that_can_leave_nothing_out_says_so(parts, tmp_path):
    folder = parts.write(tmp_path / "one").folder
    with pytest.raises(BundleError, match="no stream of it can be left out; judge without skipping") as caught:
        assay.load(folder, skip=True)
    assert caught.value.kind == "unknown"
    told(parts)
    other = parts.judge.ensemble.model_copy(update={"method": "mean", "weights": {}})
    parts.judge = parts.judge.model_copy(update={"rules": {"mean": other}})
    folder = parts.write(tmp_path / "faced").folder
    assert assay.load(folder, vote="levels", skip=True).rules.skip == bundle.read(folder).judge.skip
    with pytest.raises(BundleError, match="can be left out"):
        assay.load(folder, vote="mean", skip=True)
