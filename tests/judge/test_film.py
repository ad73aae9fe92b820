"""Clips: judged part by part, people one by one, and told frame by frame."""

from __future__ import annotations

import dataclasses
import io
import json
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import assay
from assay.image.decode import PART, Limits, decode
from assay.image.faces import Face
from assay.image.view import View
from assay.judge import film
from assay.judge import scan as scanning
from assay.judge.heads import LinearHead
from assay.judge.rule import StreamRule
from assay.types import Box, Failure, Glimpse, Pixels, Ruling, Track, Verdict, consistency

av = pytest.importorskip("av")

WIDTH, HEIGHT, SIDE = 160, 64, 40
FACES = View(size=32, layout="faces", margin=1, minimum=16)
MARKS = ((0.32, 0.38), (0.68, 0.38), (0.5, 0.58), (0.36, 0.76), (0.64, 0.76))
LEFTS = {1: 4, 2: 60, 3: 114}
"""Where a person stands, by number."""


def movie(frames: Sequence[Pixels], rate: int = 2) -> bytes:
    """A video without any loss, `rate` frames a second."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avi") as file:
        stream = file.add_stream("rawvideo", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr24"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="bgr24")
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return buffer.getvalue()


def greys(*levels: int, width: int = 80, height: int = 64) -> list[Pixels]:
    return [np.full((height, width, 3), level, np.uint8) for level in levels]


def red(*values: float) -> float:
    """What "face" says of reds together: P(fake) of their mean raw score."""
    return float(1 / (1 + np.exp(-np.mean([4 * (value / 255 - 0.485) / 0.229 for value in values]))))


Scene = dict[int, int]
"""The red of each person in a frame, by the person's number."""


@pytest.fixture
def shoot(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """`shoot(scenes)`: a movie of people, half a second a frame; a detector that looks for faces finds them."""
    known: dict[bytes, tuple[Face, ...]] = {}
    monkeypatch.setattr("assay.judge.detector.look", lambda pixels: known.get(pixels.tobytes(), ()))

    def make(scenes: Sequence[Scene], rate: int = 2) -> bytes:
        frames = []
        for number, scene in enumerate(scenes):
            pixels = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
            pixels[-1, -1] = number
            for person, level in scene.items():
                coarse = np.random.default_rng(person).integers(0, 256, (7, 7), np.uint8)
                looks = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
                pixels[8 : 8 + SIDE, LEFTS[person] : LEFTS[person] + SIDE, 1:] = looks[..., None]
                pixels[8 : 8 + SIDE, LEFTS[person] : LEFTS[person] + SIDE, 0] = level
            known[pixels.tobytes()] = tuple(face(LEFTS[person]) for person in scene)
            frames.append(pixels)
        return movie(frames, rate)

    return make


def face(left: int) -> Face:
    one, two, three, four, five = ((left + SIDE * x, 8 + SIDE * y) for x, y in MARKS)
    return Face(Box(left, 8, left + SIDE, 8 + SIDE), 0.99, (one, two, three, four, five))


def of_faces(parts: Any, folder: Path, pool: str = "max", view: View = FACES) -> assay.Detector:
    """A detector of the one stream "face", which looks at the reds of faces."""
    parts.add("face", view=view, threshold=0.8, doubt_low=0.2)
    rule = parts.judge.streams["face"].model_copy(update={"pool": pool})
    parts.card = parts.card.model_copy(update={"streams": parts.card.streams[1:]})
    parts.judge = parts.judge.model_copy(update={"streams": {"face": rule}})
    parts.heads = {"face": parts.heads["face"]}
    return assay.load(parts.write(folder).folder, threads=1, device="cpu")


# ── part by part ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_clip_gets_the_score_that_all_its_frames_have_together(parts: Any, tmp_path: Path) -> None:
    """As the frames' crops were pooled when they were all held at once."""
    parts.add("whole", view=View(size=32, layout="whole", minimum=16))
    parts.judge.streams["whole"] = parts.judge.streams["whole"].model_copy(update={"pool": "top"})
    detector = assay.load(parts.write(tmp_path / "two").folder, threads=1, device="cpu")
    data = movie(greys(*range(60, 240, 4)), rate=30)
    shown = decode(data)
    assert len(shown.frames) == 15 > PART
    verdict = detector.judge(data)
    for stream in verdict.streams:
        view = detector.engine(stream.name), next(card.view for card in detector.streams if card.name == stream.name)
        crops = [view[1].crops(pixels) for pixels in shown.frames]
        raws = detector.raw(stream.name, view[0].run(view[1].tensor(np.concatenate(crops))))
        assert stream.score == pytest.approx(detector.rules.streams[stream.name].score(raws), abs=2e-6)
        assert len(stream.views) == len(raws)
    at_once = detector.judge_prepared([detector.prepare(data)])[0]
    assert at_once.score == pytest.approx(verdict.score, abs=1e-6)
    assert [number for number, _ in at_once.frames] == [number for number, _ in verdict.frames]
    assert (at_once.times, at_once.tracks) == (verdict.times, ())


def test_frames_are_those_asked_for_however_a_clip_is_judged(detector: assay.Detector, tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    path.write_bytes(movie(greys(*range(40, 140)), rate=10))
    verdict = detector.judge(path, every=0.75)
    assert [number for number, _ in verdict.frames] == [0, 8, 15, 23, 30, 38, 45, 53, 60, 68, 75, 83, 90, 98]
    assert verdict.times == pytest.approx([number / 10 for number, _ in verdict.frames])
    for (number, score), pixels in zip(verdict.frames[:2], greys(40, 48), strict=True):
        assert score == pytest.approx(detector.judge(pixels).score, abs=1e-6), number
    assert list(detector.judge_many([str(path)], every=0.75)) == [dataclasses.replace(verdict, input=str(path))]
    kept: list[Any] = []
    sink: Any = type("Kept", (), {"holds": lambda *_: None, "write": lambda _, result: kept.append(result)})()
    scanning.scan(detector, [str(path)], sink, every=0.75)
    assert kept == list(detector.judge_many([str(path)], every=0.75))
    fewer = detector.judge(path, Limits(frames=4, video_frames=4))
    assert [number for number, _ in fewer.frames] == [0, 33, 66, 99]
    assert len(detector.judge(path, Limits(frames=90, video_frames=90)).frames) == 90
    with pytest.raises(ValueError, match="every 0 s"):
        detector.judge(path, every=0)


def test_stills_and_animations_among_clips_stay_in_their_order(
    detector: assay.Detector, flat: Callable[..., Any]
) -> None:
    stream = io.BytesIO()
    first, *rest = [Image.fromarray(flat(grey)) for grey in (100, 110, 120)]
    first.save(stream, "GIF", save_all=True, append_images=rest, duration=50)
    clip = movie(greys(200, 210, 220))
    sources = [flat(30), clip, b"no picture", stream.getvalue(), flat(220), clip[: len(clip) // 2], clip]
    answers = list(detector.judge_many(sources, batch=3, workers=2))
    assert [len(answer.frames) if isinstance(answer, Verdict) else answer.kind for answer in answers] == [
        *(0, 3, "not_an_image", 3, 0, "truncated", 3)
    ]
    alone = [detector.judge(source) for source in (sources[0], clip, sources[3], sources[4])]
    together = [answers[place] for place in (0, 1, 3, 4)]
    assert [one.score for one in alone] == pytest.approx([one.score for one in together], abs=1e-6)  # type: ignore[union-attr]
    animated = alone[2]
    assert (animated.times, "time" in animated.to_dict()["frames"][0]) == ((), False)


def test_memory_does_not_grow_with_the_length_of_a_clip(detector: assay.Detector, tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = tmp_path / f"{count}.avi"
        path.write_bytes(movie(greys(*(number % 256 for number in range(count)), width=320, height=240), rate=25))
        tracemalloc.start()
        try:
            assert len(detector.judge(path, every=0.04).frames) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(20)
    frame = 320 * 240 * 3
    assert peak(20) < 1.5 * PART * frame
    assert peak(220) < peak(20) + 4 * frame


def test_a_clip_that_is_begun_anew_is_judged_by_its_second_beginning(
    detector: assay.Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = decode(movie(greys(60, 120, 180, 240)))
    pieces = [
        dataclasses.replace(
            picture, frames=picture.frames[a:b], frame_numbers=picture.frame_numbers[a:b], times=picture.times[a:b]
        )
        for a, b in ((0, 2), (2, 3), (0, 1), (1, 4))
    ]
    expected = detector.judge(movie(greys(60, 120, 180, 240)))
    monkeypatch.setattr("assay.judge.detector.parts", lambda *_, **__: (piece for piece in pieces))
    found = detector.judge(b"")
    assert found.frames == expected.frames
    assert found.score == pytest.approx(expected.score, abs=1e-6)


def test_what_is_refused_at_its_end_has_no_score(detector: assay.Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = movie(greys(60, 120, 180, 240))

    def breaking(source: Any, *options: Any, **more: Any) -> Any:
        yield decode(whole)
        raise assay.errors.InputError("damaged", kind="corrupt")

    monkeypatch.setattr("assay.judge.detector.parts", breaking)
    with pytest.raises(assay.errors.InputError):
        detector.judge(whole)
    assert list(detector.judge_many([whole])) == [Failure("<bytes>", "corrupt", "damaged")]


def test_whoever_leaves_early_does_not_wait_for_a_clip_to_end(
    detector: assay.Detector, flat: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, seen = detector.cut, list[int]()

    def slow(picture: Any, name: str, **options: Any) -> Any:
        if picture.frame_count > 1:
            seen.append(picture.frame_numbers[0])
            time.sleep(0.02)
        return cut(picture, name, **options)

    monkeypatch.setattr(detector, "cut", slow)
    answers = detector.judge_many([flat(30), movie(greys(*range(240)))], batch=1, workers=1, every=0.5)
    next(answers)
    answers.close()
    assert len(seen) < 240 / PART / 2


# ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_of_a_person_the_mean_over_the_frames_counts_and_of_people_the_most_fake(
    parts: Any, tmp_path: Path, shoot: Callable[..., bytes]
) -> None:
    detector = of_faces(parts, tmp_path / "a")
    scenes = [{1: 40, 2: level} for level in (200, 80, 140, 90, 150, 80)]
    verdict = detector.judge(shoot(scenes))
    assert verdict.score == verdict.streams[0].score == pytest.approx(red(200, 80, 140, 90, 150, 80), abs=1e-5)
    one, two = verdict.tracks
    assert (one.number, two.number, two.score) == (1, 2, verdict.score)
    assert one.score == pytest.approx(red(40), abs=1e-5)
    assert (one.verdict, two.verdict) == (Ruling.REAL, Ruling.UNCERTAIN)
    # A frame's own score is that of the most fake face in it.
    assert [score for _, score in verdict.frames] == [glimpse.score for glimpse in two.faces]


def test_with_a_pool_of_means_people_weigh_alike_however_often_they_are_seen(
    parts: Any, tmp_path: Path, shoot: Callable[..., bytes]
) -> None:
    detector = of_faces(parts, tmp_path / "a", "mean")
    scenes = [{1: 40}] * 6 + [{1: 40, 2: 220}, {1: 40, 2: 240}]
    verdict = detector.judge(shoot(scenes))
    assert [len(track.faces) for track in verdict.tracks] == [8, 2]
    assert verdict.score == pytest.approx(red(40, 230), abs=1e-5)
    assert "2 faces were followed through the clip; the score of face is made of all of them" in verdict.reasons


def test_a_track_says_when_and_where_a_face_was_seen_and_how_steady_it_is(
    parts: Any, tmp_path: Path, shoot: Callable[..., bytes]
) -> None:
    detector = of_faces(parts, tmp_path / "a")
    verdict = detector.judge(shoot([{1: 40}, {}, {1: 80, 2: 220}, {2: 240}]))
    scores = [red(40), red(80)]
    boxes = [face(LEFTS[1]).box] * 2
    [one, two] = verdict.tracks
    assert [(glimpse.frame, glimpse.time, glimpse.box) for glimpse in one.faces] == [
        (number, number / 2, box) for number, box in zip((0, 2), boxes, strict=True)
    ]
    assert [glimpse.score for glimpse in one.faces] == pytest.approx(scores, abs=1e-5)
    assert one.deviation == pytest.approx(np.std(scores), abs=1e-5)
    assert (two.verdict, two.counts) == (Ruling.FAKE, True)
    # The square that is judged may be another than the face's box.
    assert verdict.streams[0].faces[0][0] == boxes[0]
    told = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    first = told["tracks"][0]
    assert set(first) == {"track", "score", "verdict", "counts", "consistency", "faces"}
    assert (first["track"], first["verdict"], first["counts"]) == (1, "real", True)
    assert first["faces"][1] == {
        "frame": 2,
        "time": 1.0,
        "box": [4, 8, 44, 48],
        "score": one.faces[1].score,
    }
    assert first["consistency"] == consistency([glimpse.score for glimpse in one.faces])


def test_a_frame_without_a_face_has_no_score_and_times_are_those_of_frames_that_have(
    parts: Any, tmp_path: Path, shoot: Callable[..., bytes]
) -> None:
    detector = of_faces(parts, tmp_path / "a")
    verdict = detector.judge(shoot([{}, {1: 90}, {}, {1: 110}, {}, {}]))
    assert [number for number, _ in verdict.frames] == [1, 3]
    assert verdict.times == (0.5, 1.5)
    assert [each["time"] for each in verdict.to_dict()["frames"]] == [0.5, 1.5]
    assert any(reason.startswith("2 of 6 frames were judged") for reason in verdict.reasons)


def test_a_clip_without_any_face_is_not_judged(parts: Any, tmp_path: Path, shoot: Callable[..., bytes]) -> None:
    verdict = of_faces(parts, tmp_path / "a").judge(shoot([{}] * 12))
    assert (verdict.verdict, verdict.score, verdict.frames, verdict.tracks) == ("uncertain", None, (), ())
    assert verdict.reasons == ("not judged: no face found",)
    assert "consistency" not in verdict.to_dict()


def test_faces_that_begin_in_a_later_part_of_a_clip_are_judged(
    parts: Any, tmp_path: Path, shoot: Callable[..., bytes]
) -> None:
    detector = of_faces(parts, tmp_path / "a")
    scenes: list[Scene] = [{}] * (PART + 2) + [{1: 230}] * 3 + [{}]
    verdict = detector.judge(shoot(scenes))
    assert [number for number, _ in verdict.frames] == [PART + 2, PART + 3, PART + 4]
    assert verdict.score == pytest.approx(red(230), abs=1e-5)
    # The same, where all frames are held at once.
    at_once = detector.judge_prepared([detector.prepare(shoot(scenes))])[0]
    assert at_once.to_dict() == verdict.to_dict()


# ── one frame's mistake ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("scenes", "heard"),
    [
        # Seen once among five frames, where another is seen more often.
        ([{1: 40}, {1: 40, 2: 250}, {1: 40}, {1: 40}, {1: 40}], [1]),
        # Four frames are too few to tell a mistake.
        ([{1: 40}, {1: 40, 2: 250}, {1: 40}, {1: 40}], [1, 2]),
        # Nobody is seen more than once.
        ([{}, {1: 40}, {2: 250}, {}, {}], [1, 2]),
        # Twice is enough.
        ([{1: 40}, {1: 40, 2: 250}, {1: 40, 2: 250}, {1: 40}, {}], [1, 2]),
        # Frames without a face are judged frames.
        ([{1: 40}, {}, {1: 40, 2: 250}, {}, {}], [1]),
    ],
)
def test_a_face_in_a_single_frame_does_not_accuse_a_film(
    parts: Any, tmp_path: Path, shoot: Callable[..., bytes], scenes: list[Scene], heard: list[int]
) -> None:
    verdict = of_faces(parts, tmp_path / "a").judge(shoot(scenes))
    assert [track.number for track in verdict.tracks] == [1, 2]
    assert [track.number for track in verdict.tracks if track.counts] == heard
    assert verdict.verdict == ("fake" if 2 in heard else "real")
    assert max(score for _, score in verdict.frames) == pytest.approx(red(250 if 2 in heard else 40), abs=1e-5)
    silent = "track 2 has no say for face: seen in a single frame"
    assert (silent in verdict.reasons) == (2 not in heard)
    assert len(verdict.streams[0].faces) == sum(map(len, scenes))


def test_a_frame_that_shows_only_who_has_no_say_has_no_score(
    parts: Any, tmp_path: Path, shoot: Callable[..., bytes]
) -> None:
    verdict = of_faces(parts, tmp_path / "a").judge(shoot([{1: 40}, {2: 250}, {1: 40}, {}, {}]))
    assert [number for number, _ in verdict.frames] == [0, 2]


# ── with other streams ───────────────────────────────────────────────────────────────────────────────────────────────


def test_streams_of_faces_and_of_pictures_judge_a_clip_side_by_side(
    parts: Any, tmp_path: Path, shoot: Callable[..., bytes]
) -> None:
    parts.add("face", view=FACES, threshold=0.8, doubt_low=0.2)
    parts.judge.streams["face"] = parts.judge.streams["face"].model_copy(update={"pool": "max"})
    detector = assay.load(parts.write(tmp_path / "two").folder, threads=1, device="cpu")
    verdict = detector.judge(shoot([{1: 40, 2: 250}, {}, {1: 60, 2: 200}, {1: 80}]))
    grey, faced = verdict.streams
    assert faced.score == pytest.approx(red(250, 200), abs=1e-5)
    assert verdict.score == pytest.approx((grey.score + faced.score) / 2, abs=1e-6)
    assert [number for number, _ in verdict.frames] == [0, 1, 2, 3]
    assert [track.score for track in verdict.tracks] == pytest.approx([red(40, 60, 80), faced.score], abs=1e-5)


def test_where_several_streams_judge_faces_they_vote_on_each(
    parts: Any, tmp_path: Path, shoot: Callable[..., bytes]
) -> None:
    parts.add("face", view=FACES)
    parts.add("large", view=FACES.model_copy(update={"minimum": 60, "margin": 1.6}))
    parts.add("blue", view=FACES)
    parts.heads["blue"] = LinearHead(np.array([0, 0, 4.0, 0]), 0.0)
    detector = assay.load(parts.write(tmp_path / "four").folder, threads=1, device="cpu")
    verdict = detector.judge(shoot([{1: 40, 2: 250}, {1: 60}, {1: 80}]))
    _, faced, large, blue = verdict.streams
    for track, place in zip(verdict.tracks, (0, 1), strict=True):
        said = [stream.views[place] for stream in (faced, large, blue)]
        assert track.faces[0].score == pytest.approx(np.mean(said), abs=2e-6)
    assert (verdict.tracks[0].verdict, verdict.tracks[0].score) == (
        detector.rules.ensemble.ruling(verdict.tracks[0].score),
        pytest.approx(np.mean([red(40, 60, 80), *_means(detector, verdict)]), abs=0.02),
    )


def _means(detector: assay.Detector, verdict: Verdict) -> list[float]:
    """What "large" and "blue" say of the first person, seen in each of three frames; the second is in the first."""
    found = []
    for stream in verdict.streams[2:]:
        views = np.array(stream.views)[[0, 2, 3]]
        rule: StreamRule = detector.rules.streams[stream.name]
        found.append(float(rule.probability(np.mean(np.log(views / (1 - views))))))
    return found


def test_a_whole_frame_stands_in_for_faces_only_where_a_clip_shows_none(
    parts: Any, tmp_path: Path, shoot: Callable[..., bytes]
) -> None:
    detector = of_faces(parts, tmp_path / "a", view=FACES.model_copy(update={"fallback": True}))
    verdict = detector.judge(shoot([{}, {1: 240}, {1: 240}, {}]))
    assert verdict.score == pytest.approx(red(240), abs=1e-5)
    assert [number for number, _ in verdict.frames] == [1, 2]
    assert [box for box, _ in verdict.streams[0].faces] == [face(LEFTS[1]).box] * 2
    none = detector.judge(shoot([{}] * 4))
    assert none.score == pytest.approx(red(100), abs=0.01)
    assert len(none.frames) == 4
    assert none.tracks == ()
    assert not any("faces were judged" in reason for reason in none.reasons)


def test_a_network_that_gives_no_finite_number_of_a_face_gives_no_score(
    parts: Any, tmp_path: Path, shoot: Callable[..., bytes]
) -> None:
    parts.files["tiny.weights"] = np.full((3, 4), 3e38, np.float32).tobytes()
    detector = of_faces(parts, tmp_path / "sick")
    with np.errstate(all="ignore"):
        verdict = detector.judge(shoot([{1: 250}] * 3))
    assert (verdict.score, verdict.tracks, verdict.frames) == (None, (), ())
    assert "no finite number" in verdict.reasons[0]


# ── in words ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_frames_that_speak_most_for_a_verdict_are_named_with_their_seconds(detector: assay.Detector) -> None:
    levels = (140, 250, 180, 240, 130, 245)
    verdict = detector.judge(movie(greys(*levels)))
    assert verdict.verdict == "fake"
    scores = dict(verdict.frames)
    assert (
        f"most fake: frame 1 (0.50 s) {scores[1]:.2f}, frame 5 (2.50 s) {scores[5]:.2f}, "
        f"frame 3 (1.50 s) {scores[3]:.2f}" in verdict.reasons
    )
    real = detector.judge(movie(greys(60, 10, 90, 20)))
    assert any(reason.startswith("most real: frame 1 (0.50 s) 0.0") for reason in real.reasons)
    open_ = detector.judge(movie(greys(100, 113, 130)))
    assert open_.verdict == "uncertain"
    for verdict in (open_, detector.judge(movie(greys(250)))):
        assert not any(reason.startswith("most ") for reason in verdict.reasons)


def test_the_track_that_decides_is_named_with_its_seconds(
    parts: Any, tmp_path: Path, shoot: Callable[..., bytes]
) -> None:
    detector = of_faces(parts, tmp_path / "a")
    verdict = detector.judge(shoot([{1: 40}, {1: 40, 2: 240}, {1: 40, 2: 230}, {1: 40, 2: 250}, {1: 40, 3: 255}]))
    score = verdict.tracks[1].score
    assert (
        "3 faces were followed through the clip; track 2 (0.50-1.50 s, 3 frames) looks most fake and decides for "
        f"face, with {score:.2f}" in verdict.reasons
    )
    assert "track 3 has no say for face: seen in a single frame" in verdict.reasons
    alone = detector.judge(shoot([{1: 240}] * 3))
    assert not any("track" in reason or "followed" in reason for reason in alone.reasons)
    only = detector.judge(shoot([{1: 40, 2: 250}, {1: 40, 3: 250}, {1: 40}, {}, {}]))
    assert any("track 1 (0.00-1.00 s, 3 frames) alone decides for face" in reason for reason in only.reasons)
    assert "tracks 2, 3 have no say for face: seen in a single frame each" in only.reasons


def made(frames: Sequence[tuple[int, float]], times: Sequence[float] = (), tracks: tuple[Track, ...] = ()) -> Verdict:
    return Verdict(
        verdict=Ruling.REAL,
        score=0.1,
        threshold=0.7,
        doubt=(0.3, 0.7),
        fpr=0.05,
        streams=(),
        reasons=(),
        detector={"name": "fake", "version": "1", "sha256": "ab" * 32},
        input="a.mp4",
        sha256="cd" * 32,
        width=1,
        height=1,
        frames=tuple(frames),
        times=tuple(times),
        tracks=tracks,
    )


def test_scores_over_time_are_a_line_of_signs_from_0_to_1() -> None:
    scores = [0.0, 0.13, 0.26, 0.4, 0.51, 0.63, 0.76, 0.9, 1.0]
    frames = [(3 * place, score) for place, score in enumerate(scores)]
    assert film.course(made(frames)) == "frame 0 ▁▂▃▄▅▆▇██ frame 24, lowest 0.00, highest 1.00"
    timed = film.course(made(frames, [place / 10 for place in range(9)]))
    assert timed == "0.00 s ▁▂▃▄▅▆▇██ 0.80 s, lowest 0.00, highest 1.00"
    assert film.course(made([(0, 0.5)])) == film.course(made([])) == ""


def test_a_long_line_shows_the_highest_of_each_stretch_and_gaps_as_gaps() -> None:
    frames = [(number, 0.1) for number in range(600)]
    frames[301] = (301, 0.95)
    line = film.course(made(frames, [number / 10 for number in range(600)]))
    signs = line.split(" ")[2]
    assert len(signs) == film.LONGEST
    assert signs.count("█") == 1
    assert signs.index("█") == 30
    holed = film.course(made([(0, 0.1), (1, 0.1), (9, 0.1), (10, 0.1)], [0.0, 1.0, 9.0, 10.0]))
    assert holed.startswith("0.00 s ▁  ▁ 10.00 s")


def test_a_track_is_one_line() -> None:
    box = Box(0, 0, 1, 1)
    glimpses = tuple(Glimpse(frame, frame / 10, box, 0.9) for frame in (5, 12))
    assert film.described(Track(2, glimpses, 0.912345, Ruling.FAKE, 0.05)) == (
        "track 2: 0.50-1.20 s, 2 frames, 0.912 fake ± 0.050"
    )
    once = Track(3, (Glimpse(7, None, box, 0.9),), 0.9, Ruling.FAKE, 0.0, counts=False)
    assert film.described(once) == "track 3: frame 7, 1 frame, 0.900 fake ± 0.000, no say"


def test_steadiness_is_the_spread_of_scores_and_their_change_from_frame_to_frame() -> None:
    assert consistency([0.5]) == {"deviation": 0.0, "change": 0.0}
    assert consistency([0.1, 0.1, 0.9, 0.9]) == {"deviation": 0.4, "change": pytest.approx(0.8 / 3, abs=1e-6)}
    # Alike in spread, and less steady.
    assert consistency([0.1, 0.9, 0.1, 0.9]) == {"deviation": 0.4, "change": 0.8}
    assert made([(0, 0.1), (5, 0.3)]).to_dict()["consistency"] == {"deviation": 0.1, "change": 0.2}
    assert "consistency" not in made([]).to_dict()
    assert made([(0, 0.1)]).to_dict()["frames"] == [{"frame": 0, "score": 0.1}]
