from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import assay
from assay.errors import InputError, MissingExtra
from assay.image.decode import Limits, decode
from assay.image.faces import Face
from assay.image.view import View
from assay.judge import bundle
from assay.judge import detector as detector_module
from assay.judge.engine import Engine
from assay.judge.heads import LinearHead
from assay.types import Box, Failure, Ruling, Verdict


def png(pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def gif(frames) -> bytes:
    stream = io.BytesIO()
    first, *rest = [Image.fromarray(frame) for frame in frames]
    first.save(stream, "GIF", save_all=True, append_images=rest, duration=50)
    return stream.getvalue()


# ── one picture


@pytest.mark.parametrize(("grey", "ruling"), [(30, "real"), (113, "uncertain"), (200, "fake")])
def test_a_picture_gets_the_word_that_its_score_stands_for(detector, flat, grey, ruling):
    verdict = detector.judge(flat(grey))
    assert verdict.verdict == ruling
    low, high = verdict.doubt
    assert (low, high, verdict.threshold, verdict.fpr) == (0.3, 0.7, 0.7, 0.05)
    assert {"real": verdict.score < low, "fake": verdict.score >= high}.get(ruling, low <= verdict.score < high)


def test_a_verdict_s_score_is_the_calibrated_mean_over_crops(detector, parts, flat):
    pixels = flat(120, 80, 64)
    view = parts.card.streams[0].view
    logits = 4 * view.tensor(view.crops(pixels)).mean(axis=(1, 2, 3))
    verdict = detector.judge(pixels)
    assert verdict.score == pytest.approx(1 / (1 + np.exp(-logits.mean())), abs=2e-6)
    (stream,) = verdict.streams
    assert stream.score == verdict.score
    np.testing.assert_allclose(stream.views, 1 / (1 + np.exp(-logits)), atol=2e-6)
    assert len(stream.views) == 4


def test_a_verdict_says_what_was_judged_and_by_whom(detector, flat, tmp_path):
    path = tmp_path / "a picture.png"
    path.write_bytes(png(flat(10, 81, 64)))
    verdict = detector.judge(path)
    assert (verdict.input, verdict.width, verdict.height) == (str(path), 81, 64)
    assert verdict.sha256 == decode(path).sha256
    assert verdict.detector == {"name": "tiny", "version": "1", "sha256": detector.card.sha256}
    assert detector.sha256 == detector.card.sha256
    assert (detector.name, detector.version, detector.threshold, detector.doubt, detector.fpr) == (
        *("tiny", "1", 0.7, (0.3, 0.7), 0.05),
    )


def test_a_path_its_bytes_its_image_and_its_array_get_the_same_verdict(detector, flat, tmp_path):
    pixels = flat(113)
    path = tmp_path / "a.png"
    path.write_bytes(png(pixels))
    sources = [str(path), path.read_bytes(), Image.fromarray(pixels), pixels]
    verdicts = [detector.judge(source) for source in sources]
    assert [verdict.input for verdict in verdicts] == [str(path), "<bytes>", "<image>", "<array>"]
    assert len({verdict.score for verdict in verdicts}) == 1


def test_a_picture_that_can_not_be_decoded_is_an_error_and_never_a_score(detector):
    with pytest.raises(InputError) as caught:
        detector.judge(b"not a picture")
    assert caught.value.kind == "not_an_image"


def test_limits_are_handed_on(detector, flat):
    with pytest.raises(InputError) as caught:
        detector.judge(flat(10), Limits(pixels=100))
    assert caught.value.kind == "too_many_pixels"


def test_the_printed_score_and_bars_give_the_printed_verdict(detector, flat):
    for grey in range(90, 140, 2):
        line = json.loads(json.dumps(detector.judge(flat(grey)).to_dict()))
        assert line["score"] == round(line["score"], 6)
        word = "fake" if line["score"] >= line["threshold"] else "real" if line["score"] < line["doubt"][0] else None
        assert line["verdict"] == (word or "uncertain")


# ── many pictures


def test_a_picture_gets_the_same_verdict_alone_and_in_any_company(detector, flat):
    pictures = [flat(grey, width, 64) for grey, width in itertools.product((60, 113, 118, 160), (20, 40, 150))]
    alone = [detector.judge(picture) for picture in pictures]
    for batch in (1, 5, 12):
        together = list(detector.judge_many(pictures, batch=batch))
        assert [verdict.verdict for verdict in together] == [verdict.verdict for verdict in alone]
        assert [verdict.sha256 for verdict in together] == [verdict.sha256 for verdict in alone]
        for one, other in zip(alone, together, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-6)
            np.testing.assert_allclose(one.streams[0].views, other.streams[0].views, atol=1e-6)


def test_many_sources_are_answered_in_their_order_and_a_bad_one_by_its_own_failure(detector, flat, tmp_path):
    sources = [flat(30), b"", tmp_path / "gone.jpg", flat(200), png(flat(10))[:200]]
    answers = list(detector.judge_many(sources, batch=2, workers=2))
    assert [type(answer) for answer in answers] == [Verdict, Failure, Failure, Verdict, Failure]
    assert [answer.kind for answer in answers if isinstance(answer, Failure)] == ["empty", "missing", "truncated"]
    assert answers[2].input == str(tmp_path / "gone.jpg")
    assert [answer.verdict for answer in answers if isinstance(answer, Verdict)] == ["real", "fake"]


def test_a_run_of_nothing_but_failures_and_an_empty_run_end_quietly(detector):
    assert [answer.kind for answer in detector.judge_many([b"", b""])] == ["empty", "empty"]
    assert list(detector.judge_many([])) == []


def test_sources_are_drawn_only_as_needed_even_from_an_endless_iterable(detector, flat):
    drawn = 0

    def endless():
        nonlocal drawn
        while True:
            drawn += 1
            yield flat(30)

    answers = detector.judge_many(endless(), batch=3, prefetch=4)
    assert drawn == 0
    next(answers)
    assert drawn == 7
    for _ in range(10):
        next(answers)
    assert drawn <= 3 * 4 + 7
    answers.close()


def test_leaving_early_leaves_no_thread_behind(detector, flat):
    answers = detector.judge_many((flat(30) for _ in range(50)), batch=2, workers=3)
    next(answers)
    answers.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("assay-decode")]


def test_an_error_of_the_iterable_comes_after_everything_drawn_before_it(detector, flat):
    def broken():
        yield from (flat(30), flat(200), flat(30))
        raise OSError("the list ends here")

    answers = detector.judge_many(broken(), batch=2)
    assert [next(answers).verdict for _ in range(3)] == ["real", "fake", "real"]
    with pytest.raises(OSError, match="the list ends here"):
        next(answers)


def test_an_error_that_is_no_bad_input_is_not_hidden(detector, flat, monkeypatch):
    monkeypatch.setattr(detector, "cut", lambda picture, name, **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(detector.judge_many([flat(30)]))


def test_whole_pictures_are_dropped_once_their_crops_are_cut(detector, flat):
    pixels = flat(30, 1500, 1000)
    picture = decode(pixels)
    kept = weakref.ref(picture.pixels)
    prepared = detector.cut(picture, "a")
    del picture
    assert kept() is None
    assert sum(crops.nbytes for crops in prepared.crops.values()) == 9 * 32 * 32 * 3


def test_decoding_goes_on_while_the_networks_run(detector, flat, monkeypatch):
    """The first batch's run waits for a source of the next batch to be decoded; it would wait for ever otherwise."""
    decoded = threading.Event()
    cut, run = detector.cut, Engine.run

    def cutting(picture, name, **options):
        if picture.width == 50:
            decoded.set()
        return cut(picture, name, **options)

    def running(engine, batch):
        assert decoded.wait(20)
        return run(engine, batch)

    monkeypatch.setattr(detector, "cut", cutting)
    monkeypatch.setattr(Engine, "run", running)
    assert len(list(detector.judge_many([flat(30), flat(30), flat(30, 50)], batch=2, workers=1))) == 3


def test_decoding_waits_for_networks_that_are_slow_and_holds_no_more_than_it_says(detector, flat, monkeypatch):
    """The networks stand still until decoding has come to rest; it would go on without end if nothing bounded it."""
    begun, at_once, most, lock, resting = [], 0, 0, threading.Lock(), threading.Event()
    parts, run = detector_module.parts, Engine.run

    def counted(source, *given, **named):
        nonlocal at_once, most
        with lock:
            begun.append(source)
            at_once += 1
            most = max(most, at_once)
        yield from parts(source, *given, **named)
        with lock:
            at_once -= 1

    def running(engine, batch):
        if not resting.is_set():
            count = -1
            while count != len(begun):
                count = len(begun)
                time.sleep(0.2)
            resting.set()
            assert count == 3 + 4
        return run(engine, batch)

    monkeypatch.setattr(detector_module, "parts", counted)
    monkeypatch.setattr(Engine, "run", running)
    files = (png(flat(30 + number)) for number in range(40))
    assert len(list(detector.judge_many(files, batch=3, prefetch=4, workers=2))) == 40
    assert len(begun) == 40
    assert most <= 2


def test_pictures_are_decoded_side_by_side(detector, flat, monkeypatch):
    """Each of two waits until the other is being decoded too; with one thread they would wait for ever."""
    both, parts = threading.Barrier(2, timeout=20), detector_module.parts

    def waiting(source, *given, **named):
        both.wait()
        yield from parts(source, *given, **named)

    monkeypatch.setattr(detector_module, "parts", waiting)
    answers = list(detector.judge_many([png(flat(30)), png(flat(200))], workers=2))
    assert [answer.verdict for answer in answers] == ["real", "fake"]


def test_verdicts_are_those_of_whole_pictures_where_only_parts_are_decoded(parts, flat, tmp_path, monkeypatch):
    parts.add("middle", view=View(size=48, minimum=16))
    parts.add("corners", view=View(size=40, layout="grid", across=2, minimum=60))
    detector = assay.load(parts.write(tmp_path / "bundle").folder)
    files = []
    for number, (form, width, height) in enumerate(
        itertools.product(("JPEG", "PNG", "WEBP"), (20, 70, 901), (64, 701))
    ):
        path = tmp_path / f"{number}"
        Image.fromarray(flat(20 * number, width, height)).save(path, form)
        files.append(path)
    (tmp_path / "cut off").write_bytes(files[3].read_bytes()[:-2])
    files.append(tmp_path / "cut off")
    asked = []
    decoded = detector_module.parts

    def noting(*given, needed, **named):
        asked.append(needed(901, 701))
        return decoded(*given, needed=needed, **named)

    monkeypatch.setattr(detector_module, "parts", noting)
    found = list(detector.judge_many(files))
    prepared = [detector.prepare(path) for path in files[:-1]]
    assert all(asked)
    assert [isinstance(answer, Failure) for answer in found] == [False] * 18 + [True]
    monkeypatch.setattr(View, "needed", lambda *given: None)
    assert list(detector.judge_many(files)) == found
    assert asked[-1] is None
    for path, part in zip(files, prepared, strict=False):
        whole = detector.prepare(path)
        assert part.boxes == whole.boxes
        assert all(np.array_equal(part.crops[view], crops) for view, crops in whole.crops.items())


def test_pictures_are_decoded_whole_where_one_stream_looks_at_all_of_them(parts, flat, tmp_path, monkeypatch):
    parts.add("whole", view=View(size=32, layout="whole"))
    detector = assay.load(parts.write(tmp_path / "a").folder)
    bright = np.full((600, 600, 3), 250, np.uint8)
    bright[284:316, 284:316] = 0
    assert detector.judge(png(bright)).streams[1].score > 0.9


def test_decoded_pictures_are_judged_in_one_batch_under_the_names_they_come_with(detector, flat, monkeypatch):
    runs = []
    run = Engine.run
    monkeypatch.setattr(Engine, "run", lambda engine, batch: runs.append(len(batch)) or run(engine, batch))
    verdicts = detector.judge_pictures([("dark", decode(flat(30))), ("bright", decode(flat(200, 40, 40)))])
    assert [(verdict.input, verdict.verdict) for verdict in verdicts] == [("dark", "real"), ("bright", "fake")]
    assert runs == [4 + 1]
    assert detector.judge_pictures([]) == []


def test_one_detector_serves_several_threads(detector, flat):
    expected = [detector.judge(flat(grey)).score for grey in (30, 113, 200)]
    found = {}

    def work(thread):
        found[thread] = [detector.judge(flat(grey)).score for grey in (30, 113, 200)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(scores == expected for scores in found.values())
    assert len(found) == 6


# ── frames


def test_every_frame_is_judged_and_the_score_rests_on_all_of_them(detector, flat):
    verdict = detector.judge(gif([flat(100), flat(110), flat(120), flat(130)]), Limits(frames=2))
    assert [number for number, _ in verdict.frames] == [0, 2]
    assert len(verdict.streams[0].views) == 2 * 4
    low, high = (score for _, score in verdict.frames)
    assert low < verdict.score < high
    assert any("2 of 4 frames" in reason for reason in verdict.reasons)


def test_a_frame_s_score_is_what_the_frame_gets_by_itself(detector, flat):
    frames = [flat(100), flat(120)]
    verdict = detector.judge(gif(frames))
    for (_, score), frame in zip(verdict.frames, decode(gif(frames)).frames, strict=True):
        assert score == pytest.approx(detector.judge(frame).score, abs=1e-6)


def test_a_still_picture_has_no_frames(detector, flat):
    assert detector.judge(flat(100)).frames == ()
    assert "frames" not in detector.judge(flat(100)).to_dict()


# ── streams that do not apply


def test_a_picture_too_small_for_every_stream_is_uncertain_without_a_score(detector, flat):
    verdict = detector.judge(flat(200, 15, 400))
    assert verdict.verdict is Ruling.UNCERTAIN
    assert verdict.score is None
    assert "15 x 400 px" in verdict.reasons[0]
    assert verdict.streams[0].to_dict() == {
        "name": "grey",
        "applies": False,
        "reason": verdict.streams[0].reason,
    }
    assert (verdict.threshold, verdict.frames) == (0.7, ())


def test_it_spoils_no_batch(detector, flat):
    verdicts = list(detector.judge_many([flat(200, 15, 15), flat(200), flat(30, 1, 1)]))
    assert [verdict.verdict for verdict in verdicts] == ["uncertain", "fake", "uncertain"]


def test_a_stream_that_does_not_apply_leaves_the_vote_to_the_others_and_says_why(parts, flat, tmp_path):
    parts.add("red", view=View(size=64, minimum=60), threshold=0.99, doubt_low=0.95)
    parts.judge.streams["grey"] = parts.judge.streams["grey"].model_copy(update={"threshold": 0.6, "fpr": 0.1})
    detector = assay.load(parts.write(tmp_path / "two").folder)
    both = detector.judge(flat(130, 70, 64))
    grey, red = (stream.score for stream in both.streams)
    assert both.score == pytest.approx((grey + red) / 2, abs=1e-6)
    assert both.threshold == 0.7
    alone = detector.judge(flat(130, 70, 59))
    assert [stream.applies for stream in alone.streams] == [True, False]
    assert alone.score == alone.streams[0].score
    assert (alone.threshold, alone.fpr) == (0.6, 0.1)
    assert any("red has no part" in reason and "60 px" in reason for reason in alone.reasons)


def test_streams_with_the_same_trunk_and_view_share_one_run(parts, flat, tmp_path, monkeypatch):
    parts.add("red")
    parts.add("wide", view=View(size=48, minimum=16))
    detector = assay.load(parts.write(tmp_path / "three").folder)
    runs = []
    run = Engine.run
    monkeypatch.setattr(Engine, "run", lambda engine, batch: runs.append(batch.shape[2]) or run(engine, batch))
    detector.judge(flat(30))
    assert sorted(runs) == [32, 48]


def test_a_network_that_gives_no_finite_number_gives_no_score(parts, flat, tmp_path):
    parts.files["tiny.weights"] = np.full((3, 4), 3e38, np.float32).tobytes()
    detector = assay.load(parts.write(tmp_path / "sick").folder)
    with np.errstate(all="ignore"):
        verdict = detector.judge(flat(250))
    assert (verdict.verdict, verdict.score) == ("uncertain", None)
    assert "no finite number" in verdict.reasons[0]


# ── another head


def test_a_detector_judges_with_the_head_that_was_asked_for(parts, flat, tmp_path):
    parts.add_heads()
    folder = parts.write(tmp_path / "three").folder
    verdicts = {head: assay.load(folder, head=head).judge(flat(200)) for head in (None, "nearest", "one_class")}
    assert [[stream.name for stream in verdict.streams] for verdict in verdicts.values()] == [
        ["grey"],
        ["grey-nearest"],
        ["grey-one_class"],
    ]
    assert [verdict.threshold for verdict in verdicts.values()] == [0.7, 0.9, 0.6]
    assert [verdict.doubt[0] for verdict in verdicts.values()] == [0.3, 0.2, 0.6]
    # Bright all over: 2 is the largest difference of two cosine distances, and 0.88 its probability.
    assert verdicts["nearest"].score == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-3)
    assert [verdict.verdict for verdict in verdicts.values()] == ["fake", "uncertain", "fake"]
    assert "between 0.20 and 0.90" in verdicts["nearest"].reasons[0]


def test_heads_that_were_not_asked_for_change_nothing(parts, flat, tmp_path):
    alone = assay.load(parts.write(tmp_path / "one").folder).judge(flat(120)).to_dict()
    parts.add_heads()
    beside = assay.load(parts.write(tmp_path / "three").folder)
    by_name = assay.load(tmp_path / "three", head="linear")
    assert beside.sha256 == by_name.sha256
    assert beside.judge(flat(120)).to_dict() | {"detector": None} == alone | {"detector": None}
    assert by_name.judge(flat(120)) == beside.judge(flat(120))


def test_scores_of_two_heads_are_told_apart_by_name_and_hash(parts, flat, tmp_path):
    parts.add_heads()
    folder = parts.write(tmp_path / "three").folder
    default, other, third = (assay.load(folder, head=head) for head in (None, "nearest", "one_class"))
    assert (default.name, default.sha256) == ("tiny", default.card.sha256)
    assert (other.name, third.name) == ("tiny-nearest", "tiny-one_class")
    assert len({default.sha256, other.sha256, third.sha256}) == 3
    assert other.judge(flat(120)).detector == {
        "name": "tiny-nearest",
        "version": "1",
        "sha256": other.sha256,
        "head": "nearest",
        "card": default.sha256,
    }
    assert [stream.head.kind for stream in other.streams] == ["nearest"]


@pytest.mark.parametrize(("head", "message"), [("neerest", "did you mean nearest"), ("", "known: linear, nearest")])
def test_an_unknown_head_is_answered_with_those_there_are(parts, tmp_path, head, message):
    parts.add_heads()
    with pytest.raises(assay.errors.BundleError, match=message) as caught:
        assay.load(parts.write(tmp_path / "three").folder, head=head)
    assert caught.value.kind == "unknown"


# ── another rule to vote by

WAYS = ("modified_majority", "majority", "mean", "plain_mean", "best", "grey", "red", "blue")


def colours(*channels, width=80, height=64):
    return np.broadcast_to(np.array(channels, np.uint8), (height, width, 3)).copy()


MIXED = colours(128, 108, 180)
"""Of this picture "grey" and "blue" say fake, "red", the surest of the three before calibration, real."""


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


def scores_of(verdict):
    return {stream.name: stream.score for stream in verdict.streams}


def test_streams_vote_by_the_rule_that_was_asked_for(voters):
    verdicts = {way: assay.load(voters, vote=way).judge(MIXED) for way in WAYS}
    scores = scores_of(verdicts["mean"])
    grey, red, blue = scores.values()
    assert grey >= 0.5 > red
    assert blue >= 0.5
    mean = np.mean([grey, red, blue])
    vote = 0.95 * 2 / 3 + 0.05 * mean
    raw = {name: np.log(score / (1 - score)) for name, score in scores.items()}
    plain = np.mean([sigmoid(raw["grey"]), sigmoid((raw["red"] + 1) / 2), sigmoid(raw["blue"])])
    expected = {
        "modified_majority": sigmoid(6 * (vote - 0.5)),
        "majority": sigmoid(5 * (vote - 0.5)),
        "mean": mean,
        "plain_mean": sigmoid(4 * (plain - 0.5)),
        "best": red,
        "grey": grey,
        "red": red,
        "blue": blue,
    }
    assert {way: verdict.score for way, verdict in verdicts.items()} == pytest.approx(expected, abs=2e-6)
    bars = {way: verdict.threshold for way, verdict in verdicts.items()}
    assert bars == dict(zip(WAYS, (0.7, 0.65, 0.6, 0.55, 0.85, 0.8, 0.85, 0.9), strict=True))
    judging = {way: list(scores_of(verdict)) for way, verdict in verdicts.items()}
    assert judging == {way: ["grey", "red", "blue"] for way in WAYS[:4]} | {
        "best": ["red"],
        "grey": ["grey"],
        "red": ["red"],
        "blue": ["blue"],
    }


def test_a_majority_that_is_less_sure_than_the_stream_against_it_loses_by_the_modified_rule_alone(voters):
    pixels = colours(0, 250, 110)
    modified, majority = (assay.load(voters, vote=way).judge(pixels) for way in ("modified_majority", "majority"))
    scores = list(scores_of(modified).values())
    assert [score >= 0.5 for score in scores] == [True, False, True]
    assert modified.score == pytest.approx(sigmoid(6 * 0.05 * (np.mean(scores) - 0.5)), abs=2e-6)
    assert modified.score < 0.5 < majority.score


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("way", ["modified_majority", "majority", "plain_mean"])
def test_where_a_stream_does_not_apply_the_others_vote_and_a_modified_majority_is_the_mean_s(voters, way):
    verdict = assay.load(voters, vote=way).judge(colours(200, 200, 200, height=59))
    grey, red, blue = scores_of(verdict).values()
    assert blue is None
    plain = np.mean([sigmoid(np.log(grey / (1 - grey))), sigmoid((np.log(red / (1 - red)) + 1) / 2)])
    expected = {
        "modified_majority": 6 * 0.05 * ((grey + red) / 2 - 0.5),
        "majority": 5 * (0.95 + 0.05 * (grey + red) / 2 - 0.5),
        "plain_mean": 4 * (plain - 0.5),
    }
    assert verdict.score == pytest.approx(sigmoid(expected[way]), abs=2e-6)
    assert verdict.threshold == assay.load(voters, vote=way).threshold
    assert any("blue has no part in this" in reason for reason in verdict.reasons)


@pytest.mark.parametrize("way", WAYS[:4])
def test_where_one_stream_alone_applies_its_own_score_is_held_to_its_own_bar(voters, way):
    verdict = assay.load(voters, vote=way).judge(colours(200, 200, 200, height=20))
    assert [stream.applies for stream in verdict.streams] == [True, False, False]
    assert verdict.score == verdict.streams[0].score > 0.8
    assert (verdict.verdict, verdict.threshold, verdict.doubt, verdict.fpr) == ("fake", 0.8, (0.2, 0.8), 0.02)
    dark = assay.load(voters, vote=way).judge(colours(60, 60, 60, height=20))
    assert (dark.verdict, dark.score) == ("real", dark.streams[0].score)


def test_a_stream_asked_for_by_name_does_not_judge_a_picture_it_does_not_apply_to(voters):
    verdict = assay.load(voters, vote="blue").judge(colours(200, 200, 200, height=59))
    assert (verdict.verdict, verdict.score, verdict.threshold) == ("uncertain", None, 0.9)


def test_frames_are_put_to_the_vote_like_pictures(voters):
    pictures = [colours(0, 250, 110), colours(128, 108, 180)]
    found = assay.load(voters, vote="majority").judge(gif(pictures))
    for (_, score), frame in zip(found.frames, decode(gif(pictures)).frames, strict=True):
        assert score == pytest.approx(assay.load(voters, vote="majority").judge(frame).score, abs=1e-6)


def test_scores_of_two_rules_are_told_apart_by_name_and_hash(voters):
    default, *others = (assay.load(voters, vote=way) for way in (None, *WAYS[1:]))
    assert (default.name, default.sha256) == ("tiny", default.card.sha256)
    assert [other.name for other in others] == [f"tiny-{way}" for way in WAYS[1:]]
    assert len({detector.sha256 for detector in (default, *others)}) == len(WAYS)
    majority = others[0]
    assert (majority.threshold, majority.doubt) == (0.65, (0.3, 0.65))
    assert majority.judge(MIXED).detector == {
        "name": "tiny-majority",
        "version": "1",
        "sha256": majority.sha256,
        "vote": "majority",
        "card": default.sha256,
    }
    assert default.judge(MIXED).detector == {"name": "tiny", "version": "1", "sha256": default.sha256}


def test_asking_for_the_default_rule_by_name_changes_nothing(voters, flat, tmp_path, parts):
    default, by_name = assay.load(voters), assay.load(voters, vote="modified_majority")
    assert (by_name.name, by_name.sha256) == ("tiny", default.sha256)
    assert by_name.judge(MIXED) == default.judge(MIXED)


def test_a_stream_that_is_named_like_a_head_is_not_taken_for_it(parts, tmp_path):
    parts.add_heads()
    parts.add("nearest")
    rule = parts.judge.ensemble.model_copy(update={"voters": ("nearest",)})
    parts.judge = parts.judge.model_copy(update={"voters": ("grey", "nearest"), "rules": {"nearest": rule}})
    folder = parts.write(tmp_path / "namesakes").folder
    stream, head = assay.load(folder, vote="nearest"), assay.load(folder, head="nearest")
    assert [[part.name for part in detector.streams] for detector in (stream, head)] == [["nearest"], ["grey-nearest"]]
    assert stream.sha256 != head.sha256


def test_streams_that_have_no_vote_are_not_run(voters, monkeypatch):
    runs = []
    run = Engine.run
    monkeypatch.setattr(Engine, "run", lambda engine, batch: runs.append(len(batch)) or run(engine, batch))
    assay.load(voters, vote="red").judge(MIXED)
    assert len(runs) == 1
    assay.load(voters).judge(MIXED)
    assert len(runs) == 4


@pytest.mark.parametrize(
    ("vote", "message"), [("majorty", "did you mean majority"), ("", "known: best, blue, grey, majority, mean")]
)
def test_an_unknown_rule_is_answered_with_those_there_are(voters, vote, message):
    with pytest.raises(assay.errors.BundleError, match=message) as caught:
        assay.load(voters, vote=vote)
    assert caught.value.kind == "unknown"


def test_a_head_and_a_rule_are_not_asked_for_together(voters):
    with pytest.raises(assay.errors.BundleError, match="a head or a rule to vote by, not both"):
        assay.load(voters, head="linear", vote="majority")


def test_the_reason_says_what_the_bar_of_a_vote_came_to_on_the_tuning_pictures(voters):
    bright = colours(230, 230, 230)
    of_votes = "at most 5 % of real pictures are called fake (4 % of those it was tuned on were)"
    assert assay.load(voters, vote="majority").judge(bright).reasons[0].endswith(of_votes)
    assert "tuned on" not in assay.load(voters, vote="mean").judge(bright).reasons[0]
    # A stream that judges alone has a bar of its own.
    assert "tuned on" not in assay.load(voters).judge(colours(230, 230, 230, height=20)).reasons[0]


def test_the_detector_that_ships_loads_and_scores_as_it_did():
    shipped = assay.load("assay-texture", threads=1, device="cpu")
    verdict = shipped.judge(Path(__file__).parents[2] / "samples" / "fake" / "chelsea.jpg")
    assert [stream.name for stream in verdict.streams] == ["texture"]
    assert verdict.score == pytest.approx(0.574207, abs=1e-6)
    assert (verdict.threshold, verdict.doubt[0]) == (0.649958, 0.448547)
    # What its one rule says, to the bit: votes and bars came to bundles later.
    rule = json.loads((Path(assay.__file__).parent / "bundles/assay-texture/judge.json").read_text())["streams"]
    slope, offset = rule["texture"]["slope"], rule["texture"]["offset"]
    raw = shipped.head("texture").raw(_embeddings(shipped, Path(verdict.input)))
    assert verdict.score == round(float(1 / (1 + np.exp(-(slope * raw.mean() + offset)))), 6)


def _embeddings(detector, path):
    view = detector.card.streams[0].view
    return detector.engine("texture").run(view.tensor(view.crops(decode(path).pixels)))


# ── faces

FACES = View(size=32, layout="faces", margin=1, minimum=16)
FOUND = (Box(4, 4, 28, 28), Box(40, 10, 72, 42), Box(0, 48, 10, 64))
PLACES = (*FOUND[:2], Box(-3, 48, 13, 64))
"""Faces and their squares; the second is the largest, the last reaches beyond the picture's edge."""


def face(box, score=0.99):
    return Face(box, score, ((0, 0), (0, 0), (0, 0), (0, 0), (0, 0)))


@pytest.fixture
def shown(monkeypatch):
    """`shown(grey)`: what is found in a picture whose last pixel has that grey; the greys that were looked at."""
    faces, looked = {}, []

    def look(pixels):
        looked.append(int(pixels[-1, -1, 0]))
        return tuple(face(box) for box in faces.get(looked[-1], ()))

    monkeypatch.setattr("assay.judge.detector.look", look)
    return faces, looked


def people(grey, *reds, width=80, height=64):
    """A grey picture with a face of each of these reds, at `PLACES`."""
    pixels = np.full((height, width, 3), grey, np.uint8)
    for red, box in zip(reds, PLACES, strict=False):
        pixels[max(0, box.top) : box.bottom, max(0, box.left) : box.right, 0] = red
    return pixels


def faced(parts, folder, pool="mean", view=FACES, **more):
    """A detector of "grey" and of "face", which looks at the reds of faces."""
    parts.add("face", view=view, threshold=0.8, doubt_low=0.2)
    parts.judge.streams["face"] = parts.judge.streams["face"].model_copy(update={"pool": pool, **more})
    return assay.load(parts.write(folder).folder)


def red(value):
    """What "face" says of a face of that red."""
    return round(float(sigmoid(4 * (value / 255 - 0.485) / 0.229)), 6)


def test_a_stream_of_faces_has_no_part_in_a_picture_without_one(parts, tmp_path, shown):
    verdict = faced(parts, tmp_path / "a").judge(people(130))
    grey, none = verdict.streams
    assert none.to_dict() == {"name": "face", "applies": False, "reason": "no face found"}
    assert (none.score, none.views, none.faces) == (None, (), ())
    assert verdict.score == grey.score
    assert verdict.threshold == parts.judge.streams["grey"].threshold
    assert "face has no part in this: no face found" in verdict.reasons


def test_a_face_too_small_to_judge_says_how_small(parts, tmp_path, shown):
    shown[0][130] = FOUND[:2]
    detector = faced(parts, tmp_path / "a", view=FACES.model_copy(update={"least": 0.5}))
    reason = "the largest face covers 20.0% of the picture; this stream needs 50.0%"
    assert detector.judge(people(130)).streams[1].reason == reason


def test_without_any_face_a_detector_of_faces_gives_no_score(parts, tmp_path, shown):
    faced(parts, tmp_path / "a")
    parts.card = parts.card.model_copy(update={"streams": parts.card.streams[1:]})
    parts.judge = parts.judge.model_copy(update={"streams": {"face": parts.judge.streams["face"]}})
    del parts.heads["grey"]
    detector = assay.load(parts.write(tmp_path / "b").folder)
    verdict = detector.judge(people(130))
    assert (verdict.verdict, verdict.score) == ("uncertain", None)
    assert verdict.reasons == ("not judged: no face found",)
    shown[0][131] = FOUND[:1]
    assert detector.judge(people(131, 250)).verdict == "fake"


def test_without_the_networks_that_find_faces_the_others_judge_and_say_what_is_missing(parts, tmp_path, monkeypatch):
    def look(pixels):
        raise MissingExtra("finding faces", "faces")

    monkeypatch.setattr("assay.judge.detector.look", look)
    verdict = faced(parts, tmp_path / "a").judge(people(200))
    reason = 'finding faces needs an extra: pip install "assay[faces]"'
    assert verdict.streams[1].to_dict() == {"name": "face", "applies": False, "reason": reason}
    assert f"face has no part in this: {reason}" in verdict.reasons
    assert (verdict.verdict, verdict.score) == ("fake", verdict.streams[0].score)


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_each_face_has_its_place_its_score_and_its_word(parts, tmp_path, shown, pool):
    shown[0][100] = FOUND
    verdict = faced(parts, tmp_path / "a", pool).judge(people(100, 120, 240, 10))
    told = json.loads(json.dumps(verdict.to_dict()))["streams"][1]
    assert [each["box"] for each in told["faces"]] == [[4, 4, 28, 28], [40, 10, 72, 42], [-3, 48, 13, 64]]
    assert [each["score"] for each in told["faces"]] == pytest.approx([red(120), red(240), red(10)], abs=0.01)
    assert [each["verdict"] for each in told["faces"]] == ["uncertain", "fake", "real"]
    assert [each["score"] for each in told["faces"]] == list(verdict.streams[1].views)
    # Of faces alone.
    assert "faces" not in verdict.to_dict()["streams"][0]
    assert verdict.streams[0].faces == ()


def test_a_face_s_word_changes_at_the_bar_of_its_stream(parts, tmp_path, shown):
    shown[0][100] = FOUND[:1]
    pixels = people(100, 150)
    (score,) = faced(parts, tmp_path / "a").judge(pixels).streams[1].views
    for threshold, low, word in ((score, 0.1, "fake"), (score + 1e-6, score, "uncertain"), (0.9, score + 1e-6, "real")):
        bars = {"threshold": round(threshold, 6), "doubt_low": round(low, 6)}
        parts.judge.streams["face"] = parts.judge.streams["face"].model_copy(update=bars)
        stream = assay.load(parts.write(tmp_path / "b").folder).judge(pixels).streams[1]
        assert [str(word) for _, word in stream.faces] == [word]


def test_the_face_that_looks_most_fake_decides_and_is_named(parts, tmp_path, shown):
    shown[0][100] = FOUND
    detector = faced(parts, tmp_path / "a", "max")
    verdict = detector.judge(people(100, 30, 240, 10))
    stream = verdict.streams[1]
    assert stream.score == max(stream.views) == stream.views[1]
    assert (
        f"3 faces were judged; the one at x 40-72, y 10-42 px looks most fake and decides for face, with "
        f"{stream.score:.2f}" in verdict.reasons
    )
    # Whichever it is, and however real the others are.
    first = detector.judge(people(100, 240, 30, 10)).streams[1]
    assert first.score == pytest.approx(stream.score, abs=0.01)
    shown[0][100] = FOUND[1:2]
    alone = detector.judge(people(100, 30, 240, 10))
    assert alone.streams[1].score == pytest.approx(stream.score, abs=1e-6)
    assert not any("faces were judged" in reason for reason in alone.reasons)


def test_where_all_faces_make_the_score_none_is_said_to_decide(parts, tmp_path, shown):
    shown[0][100] = FOUND
    verdict = faced(parts, tmp_path / "a").judge(people(100, 30, 240, 10))
    assert "3 faces were judged; the score of face is made of all of them" in verdict.reasons
    assert not any("decides" in reason or "crops disagree: face" in reason for reason in verdict.reasons)


def test_a_face_at_the_edge_is_judged_with_the_picture_mirrored(parts, tmp_path, shown):
    shown[0][100] = FOUND[2:]
    pixels = people(100, 0, 0, 220)
    verdict = faced(parts, tmp_path / "a").judge(pixels)
    # All of its square that lies in the picture is of one red, and so is what is mirrored.
    assert verdict.streams[1].score == pytest.approx(red(220), abs=1e-5)
    assert not any("mirrored" in reason for reason in verdict.reasons)


def test_the_picture_stands_in_for_its_faces_where_a_stream_says_so(parts, tmp_path, shown):
    detector = faced(parts, tmp_path / "a", view=FACES.model_copy(update={"fallback": True}))
    stream = detector.judge(people(100)).streams[1]
    assert (stream.score, [box for box, _ in stream.faces]) == (pytest.approx(red(100), abs=1e-5), [Box(0, 0, 80, 64)])


def test_pictures_with_any_number_of_faces_get_the_same_verdicts_alone_and_together(parts, tmp_path, shown):
    detector = faced(parts, tmp_path / "a", "max")
    pictures = []
    for grey, count in ((90, 0), (95, 3), (100, 1), (105, 0), (110, 2), (115, 3)):
        shown[0][grey] = FOUND[:count]
        pictures.append(people(grey, 30 + grey, 150, 250 - grey))
    alone = [detector.judge(pixels) for pixels in pictures]
    assert [len(verdict.streams[1].faces) for verdict in alone] == [0, 3, 1, 0, 2, 3]
    for one, other in zip(alone, detector.judge_many(pictures, batch=4), strict=True):
        assert other.score == pytest.approx(one.score, abs=1e-6)
        assert other.streams[1].faces == one.streams[1].faces
        np.testing.assert_allclose(other.streams[1].views, one.streams[1].views, atol=1e-6)


def test_faces_are_looked_for_once_for_all_streams_that_want_them(parts, tmp_path, shown):
    shown[0][100] = FOUND[:1]
    parts.add("wide", view=FACES.model_copy(update={"margin": 2.0}))
    detector = faced(parts, tmp_path / "a")
    boxes = [stream.faces[0][0] for stream in detector.judge(people(100, 250)).streams[1:]]
    assert boxes == [Box(-8, -8, 40, 40), Box(4, 4, 28, 28)]
    assert shown[1] == [100]


def test_without_a_stream_of_faces_none_are_looked_for(detector, shown):
    detector.judge(people(100))
    assert shown[1] == []


def test_frames_without_a_face_are_judged_by_the_others(parts, tmp_path, shown):
    detector = faced(parts, tmp_path / "a", "max")
    frames = [people(60), people(100, 240, 20), people(140), people(180, 30)]
    greys = [int(frame[-1, -1, 0]) for frame in decode(gif(frames)).frames]
    shown[0].update({greys[1]: FOUND[:2], greys[3]: FOUND[:1]})
    verdict = detector.judge(gif(frames))
    assert shown[1] == greys
    stream = verdict.streams[1]
    assert [box for box, _ in stream.faces] == [PLACES[0], PLACES[1], PLACES[0]]
    assert stream.score == max(stream.views) == stream.views[0]
    assert len(verdict.frames) == 4
    for (_, score), frame in zip(verdict.frames, decode(gif(frames)).frames, strict=True):
        assert score == pytest.approx(detector.judge(frame).score, abs=1e-6)


def test_a_clip_in_which_a_detector_of_faces_sees_some_is_judged_by_the_frames_that_show_one(parts, tmp_path, shown):
    faced(parts, tmp_path / "a")
    parts.card = parts.card.model_copy(update={"streams": parts.card.streams[1:]})
    parts.judge = parts.judge.model_copy(update={"streams": {"face": parts.judge.streams["face"]}})
    del parts.heads["grey"]
    detector = assay.load(parts.write(tmp_path / "b").folder)
    frames = [people(60), people(100, 240), people(140)]
    greys = [int(frame[-1, -1, 0]) for frame in decode(gif(frames)).frames]
    assert detector.judge(gif(frames)).reasons == ("not judged: no face found",)
    shown[0][greys[1]] = FOUND[:1]
    verdict = detector.judge(gif(frames))
    assert [number for number, _ in verdict.frames] == [1]
    assert verdict.score == verdict.frames[0][1] == pytest.approx(red(240), abs=0.01)
    assert any(reason.startswith("1 of 3 frames were judged") for reason in verdict.reasons)


def test_where_the_faces_abstain_the_weights_of_the_others_stand_as_they_are_to_one_another(parts, tmp_path, shown):
    parts.add("blue")
    parts.heads["blue"] = LinearHead(np.array([0, 0, 4.0, 0]), 0.0)
    faced(parts, tmp_path / "a")
    for method, weights, expected in (
        ("levels", {"grey": 1.0, "blue": 3.0, "face": 9.0}, (2 * 1 + 0 * 3) / 4 / 2),
        ("tenths", {"grey": 3.0, "blue": 1.0, "face": 9.0}, 0.8),
        ("mean", {}, None),
    ):
        ensemble = parts.judge.ensemble.model_copy(update={"method": method, "weights": weights})
        parts.judge = parts.judge.model_copy(update={"ensemble": ensemble})
        verdict = assay.load(parts.write(tmp_path / "b").folder).judge(colours(255, 255, 10))
        grey, blue, absent = scores_of(verdict).values()
        assert (absent, grey > 0.95, blue < 0.05) == (None, True, True)
        # Tenths: three of 1 and one of 0 are .75, and the even tenth is .8.
        assert verdict.score == pytest.approx((grey + blue) / 2 if expected is None else expected, abs=1e-6)
        assert verdict.threshold == ensemble.threshold


def test_the_reason_says_what_the_bar_of_tenths_came_to_on_the_tuning_pictures(parts, tmp_path):
    parts.add("red")
    for method, told in (("tenths", True), ("levels", False)):
        ensemble = parts.judge.ensemble.model_copy(update={"method": method})
        parts.judge = parts.judge.model_copy(update={"ensemble": ensemble})
        reason = assay.load(parts.write(tmp_path / "b").folder).judge(colours(230, 230, 230)).reasons[0]
        assert ("(4 % of those it was tuned on were)" in reason) == told


# ── the whole picture, and parts of what a trunk says of it


def test_a_stream_of_the_whole_sees_all_of_a_picture_in_one_crop(parts, tmp_path):
    parts.add("whole", view=View(size=32, layout="whole"))
    detector = assay.load(parts.write(tmp_path / "a").folder)
    halves = np.concatenate([colours(0, 0, 0, width=300), colours(255, 0, 0, width=300)], axis=1)
    stream = detector.judge(halves).streams[1]
    assert stream.views == (pytest.approx(red(127.5), abs=0.01),)
    assert stream.faces == ()
    assert "faces" not in stream.to_dict()


def test_a_small_picture_that_is_resized_is_not_said_to_be_mirrored(parts, tmp_path):
    parts.add("whole", view=View(size=224, layout="whole", minimum=16))
    small, tiny = (
        assay.load(parts.write(tmp_path / "a").folder).judge(colours(200, 200, 200, height=height)).reasons
        for height in (40, 20)
    )
    assert not any("mirrored" in reason for reason in small)
    assert any("it was mirrored at its edges to fill 32 px" in reason for reason in tiny)


def test_a_stream_may_have_its_part_of_what_a_trunk_says(parts, tmp_path, monkeypatch):
    for name, part, weights in (("blue", (2, 3), [4.0]), ("reds", (0, 2), [4.0, -1.0]), ("all", None, [0, 0, 4.0, 0])):
        parts.add(name)
        update = {"part": part, "embedding": len(weights)}
        streams = (*parts.card.streams[:-1], parts.card.streams[-1].model_copy(update=update))
        parts.card = parts.card.model_copy(update={"streams": streams})
        parts.heads[name] = LinearHead(np.array(weights), 0.0)
    detector = assay.load(parts.write(tmp_path / "a").folder)
    runs = []
    run = Engine.run
    monkeypatch.setattr(Engine, "run", lambda engine, batch: runs.append(len(batch)) or run(engine, batch))
    scores = scores_of(detector.judge(colours(140, 120, 90)))
    # One run for all four.
    assert runs == [4]
    assert scores["blue"] == scores["all"] != scores["grey"]
    by_hand = {"blue": 4 * (90 / 255 - 0.406) / 0.225}
    by_hand["reds"] = 4 * (140 / 255 - 0.485) / 0.229 - (120 / 255 - 0.456) / 0.224
    for name, raw in by_hand.items():
        assert scores[name] == pytest.approx(sigmoid(raw), abs=1e-5)
    rows = np.arange(8.0).reshape(2, 4)
    assert detector.raw("blue", rows).tolist() == [8.0, 24.0]
    assert detector.raw("all", rows).tolist() == [8.0, 24.0]


# ── reasons


def test_the_first_reason_says_how_the_score_lies_to_the_bars(detector, flat):
    fake, real, open_ = (detector.judge(flat(grey)).reasons[0] for grey in (200, 30, 113))
    assert "at or above the threshold 0.70" in fake
    assert "at most 5 % of real pictures are called fake" in fake
    assert "is below 0.30, as 10 % of the fakes it was tuned on are" in real
    assert "lies between 0.30 and 0.70: too close to call" in open_


def test_reasons_show_enough_digits_to_tell_the_score_from_the_bar(parts, flat, tmp_path):
    score = assay.load(parts.write(tmp_path / "a").folder).judge(flat(113)).score
    bars = {"threshold": round(score + 1e-5, 6), "doubt_low": 0.1}
    parts.judge = parts.judge.model_copy(update={"ensemble": parts.judge.ensemble.model_copy(update=bars)})
    reason = assay.load(parts.write(tmp_path / "a").folder).judge(flat(113)).reasons[0]
    shown, high = reason.split()[1], reason.removesuffix(": too close to call").split()[-1]
    assert float(shown) < float(high)


def test_crops_that_disagree_are_named(detector, flat):
    assert not any("disagree" in reason for reason in detector.judge(flat(113)).reasons)
    pixels = np.concatenate([flat(30), flat(220)], axis=1)
    assert any("the crops disagree: grey gives 0.0" in reason for reason in detector.judge(pixels).reasons)


def test_a_picture_that_had_to_be_mirrored_is_named(detector, flat):
    assert any("31 x 64 px" in reason and "mirrored" in reason for reason in detector.judge(flat(30, 31, 64)).reasons)
    assert not any("mirrored" in reason for reason in detector.judge(flat(30, 32, 64)).reasons)


# ── the package


def test_what_a_detector_was_made_with_comes_along(detector):
    assert detector.seen.overlaps("ab" * 32) is not None
    assert detector.seen.overlaps("00" * 32) is None


def test_a_detector_gives_access_to_its_engines_and_heads(detector):
    assert isinstance(detector.engine("grey"), Engine)
    assert isinstance(detector.head("grey"), LinearHead)
    with pytest.raises(KeyError):
        detector.engine("gray")


def test_a_detector_shows_its_name_and_hash(detector):
    assert repr(detector) == f"<assay.Detector tiny 1 {detector.sha256[:12]}>"


def test_load_takes_a_name_and_refuses_what_is_torn(bundle_folder, monkeypatch):
    monkeypatch.setenv(bundle.SEARCH, str(bundle_folder.parent))
    assert assay.load("tiny").name == "tiny"
    (bundle_folder / "heads.npz").unlink()
    with pytest.raises(assay.errors.BundleError):
        assay.load("tiny")


def test_every_public_name_is_there_and_documented():
    for name in assay.__all__:
        public = getattr(assay, name)
        assert public.__doc__, name
        assert name in dir(assay)
        for member in vars(public) if isinstance(public, type) else ():
            attribute = getattr(public, member)
            if not member.startswith("_") and (callable(attribute) or isinstance(attribute, property)):
                assert attribute.__doc__ or member == "to_dict", f"{name}.{member}"
    assert assay.__version__
    with pytest.raises(AttributeError, match="nothing"):
        _ = assay.nothing


def test_judging_needs_none_of_the_libraries_of_learning(bundle_folder):
    program = """
        import sys

        class Blocked:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {"torch", "torchvision", "timm", "onnx", "sklearn", "scipy", "pandas"}:
                    raise ImportError(name + " is blocked")

        sys.meta_path.insert(0, Blocked())
        import assay
        assert not any(name.split(".")[0] in ("onnxruntime", "PIL", "pydantic") for name in sys.modules), "slow import"
        import numpy
        verdict = assay.load(sys.argv[1]).judge(numpy.full((40, 40, 3), 250, "uint8"))
        assert "torch" not in sys.modules
        print(verdict.verdict)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(bundle_folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("fake", "")


def test_pictures_are_embedded_once_for_all_heads(detector, flat, monkeypatch):
    prepared = [detector.prepare(flat(value)) for value in (10, 200)]
    expected = [verdict.to_dict() for verdict in detector.judge_prepared(prepared)]
    embeddings = detector.embed_prepared(prepared)
    monkeypatch.setattr(Engine, "run", None)
    assert [verdict.to_dict() for verdict in detector.judge_embedded(prepared, embeddings)] == expected
    assert detector.embed_prepared([]) == {}
