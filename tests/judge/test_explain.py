"""Explaining a picture: maps where the crops lie, streams that share their runs, and reasons where there is no map."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import assay
from assay.errors import BundleError, InputError
from assay.image.faces import Face
from assay.image.view import View
from assay.judge import detector as detecting
from assay.judge.detector import SKIPPED
from assay.judge.engine import Engine
from assay.judge.explain import Look, explain, ninths, spread
from assay.judge.heads import LinearHead
from assay.judge.skip import Skip
from assay.types import Box, Pixels


def lit(width: int = 96, height: int = 96, left: int = 8, top: int = 40) -> Pixels:
    """Dark, with a bright square of 16 px."""
    pixels = np.random.default_rng(0).integers(20, 40, (height, width, 3), dtype=np.uint8)
    pixels[top : top + 16, left : left + 16] = 230
    return pixels


def gif(greys: tuple[int, ...], flat: Callable[..., Any]) -> bytes:
    stream = io.BytesIO()
    first, *rest = [Image.fromarray(flat(grey)) for grey in greys]
    first.save(stream, "GIF", save_all=True, append_images=rest, duration=50)
    return stream.getvalue()


def load(parts: Any, folder: Path) -> assay.Detector:
    return assay.load(parts.write(folder).folder, threads=1, device="cpu")


# ── maps


def test_the_map_is_of_the_picture_and_brightest_where_the_fake_crop_is_bright(detector: assay.Detector) -> None:
    found = explain(detector, lit())
    [look] = found.streams
    assert look.map is not None
    assert look.map.shape == (96, 96)
    assert look.map.dtype == np.float32
    assert (look.map.min(), look.map.max()) == (0, 1)
    row, column = np.unravel_index(np.argmax(look.map), look.map.shape)
    assert 40 <= row < 56
    assert 8 <= column < 24
    assert found.map is not None
    assert np.array_equal(found.map, look.map)


def test_the_verdict_and_the_crops_scores_are_those_of_judging(detector: assay.Detector) -> None:
    found, verdict = explain(detector, lit()), detector.judge(lit())
    assert found.verdict == verdict
    [look], [stream] = found.streams, verdict.streams
    assert (look.score, look.scores) == (stream.score, stream.views)
    assert look.boxes == detector.streams[0].view.boxes(96, 96)


def test_tiles_hold_the_mean_of_the_crops_that_show_a_place_and_nothing_elsewhere(
    detector: assay.Detector, flat: Callable[..., Any]
) -> None:
    pixels = flat(40, 41, 140)
    pixels[:40] = 200
    [look] = explain(detector, pixels).streams
    assert look.tiles is not None
    assert look.seen is not None
    assert [box.top for box in look.boxes] == [0, 54, 108]
    assert np.isnan(look.tiles[:, 0]).all() == (look.boxes[0].left > 0)
    inside = look.boxes[0].left
    assert look.tiles[10, inside] == pytest.approx(look.scores[0])
    assert np.isnan(look.tiles[40, inside])
    assert look.map is not None
    assert not look.map[~look.seen].any()
    assert look.seen.mean() == pytest.approx(3 * 32 * 32 / (41 * 140))


def test_where_crops_overlap_their_mean_holds_and_what_is_mirrored_is_dropped() -> None:
    boxes = [Box(0, 0, 4, 4), Box(2, 0, 6, 4), Box(-2, 4, 2, 8)]
    found, seen = spread([np.full((1, 1), value) for value in (1, 3, 5)], boxes, 6, 6)
    assert found[0].tolist() == [1, 1, 2, 2, 3, 3]
    assert found[5].tolist() == [5, 5, 0, 0, 0, 0]
    assert seen[5].tolist() == [True, True, False, False, False, False]
    ramp, _ = spread([np.array([[0.0, 1.0]])], [Box(-2, 0, 2, 1)], 1, 2)
    assert ramp.tolist() == [[0.75, 1.0]]


def test_a_small_picture_is_explained_without_its_mirrored_border(detector: assay.Detector) -> None:
    pixels = lit(24, 20, 2, 2)
    [look] = explain(detector, pixels).streams
    assert look.boxes == (Box(-4, -6, 28, 26),)
    assert look.map is not None
    assert look.map.shape == (20, 24)
    assert look.tiles is not None
    assert np.allclose(look.tiles, look.scores[0])


def test_a_view_of_the_whole_is_laid_over_the_whole(parts: Any, tmp_path: Path) -> None:
    view = View(size=32, layout="whole", mean=(0, 0, 0), std=(1, 1, 1))
    parts.card = parts.card.model_copy(update={"streams": (parts.card.streams[0].model_copy(update={"view": view}),)})
    [look] = explain(load(parts, tmp_path / "whole"), lit(120, 60, 90, 4)).streams
    assert look.boxes == (Box(0, 0, 120, 60),)
    assert look.map is not None
    row, column = np.unravel_index(np.argmax(look.map), look.map.shape)
    assert row < 24
    assert 84 <= column < 112


def test_faces_are_explained_where_they_are_and_none_is_a_reason(
    parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.add("face", view=View(size=32, layout="faces", margin=1, minimum=8))
    loaded = load(parts, tmp_path / "faces")
    marks = ((50.0, 50.0), (60.0, 50.0), (55.0, 55.0), (51.0, 60.0), (59.0, 60.0))
    faces = (Face(Box(40, 40, 70, 70), 0.9, marks),)
    monkeypatch.setattr(detecting, "look", lambda pixels: faces)
    grey, face = explain(loaded, lit()).streams
    assert face.boxes == (Box(40, 40, 70, 70),)
    assert face.seen is not None
    assert face.seen.sum() == 900
    assert grey.map is not None
    monkeypatch.setattr(detecting, "look", lambda pixels: ())
    found = explain(loaded, lit())
    grey, face = found.streams
    assert (face.map, face.score, face.reason) == (None, None, "no face found")
    assert found.drawn == (grey,)
    assert "face shows nothing: no face found" in found.sentences


def test_a_detector_that_leaves_streams_out_explains_those_that_ran(parts: Any, tmp_path: Path) -> None:
    parts.add("red", view=View(size=48, minimum=16))
    skip = Skip(order=(("grey",), ("red",)), reach=((0.1, 0.1),), budget=0, changed=0, saved=0.5, rows=9)
    parts.judge = parts.judge.model_copy(update={"skip": skip})
    folder = parts.write(tmp_path / "two").folder
    whole, some = (assay.load(folder, skip=skip, threads=1, device="cpu") for skip in (False, True))
    for pixels, left in ((lit(), True), (np.full((96, 96, 3), (0, 250, 120), np.uint8), False)):
        grey, red = explain(some, pixels).streams
        assert np.array_equal(grey.map, explain(whole, pixels).streams[0].map)
        assert (red.map is None) == left
        assert (red.reason == SKIPPED) == left


# ── streams


def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Views in each run of the judging graph."""
    sizes: list[int] = []
    run = Engine.run

    def counted(self: Engine, batch: Any) -> Any:
        sizes.append(len(batch))
        return run(self, batch)

    monkeypatch.setattr(Engine, "run", counted)
    return sizes


def test_streams_that_share_trunk_and_view_share_the_masked_runs(
    parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = load(parts, tmp_path / "alone")
    parts.add("red")
    both = load(parts, tmp_path / "both")
    sizes = runs(monkeypatch)
    explain(alone, lit())
    once = sum(sizes)
    assert once == 9 + 9 * 3
    found = explain(both, lit())
    assert sum(sizes) == 2 * once
    assert [look.name for look in found.drawn] == ["grey", "red"]


def test_a_stream_has_the_map_of_its_own_part_of_the_embedding(parts: Any, tmp_path: Path) -> None:
    parts.add("red")
    cards = [
        card.model_copy(update={"part": (0, 1), "embedding": 1}) if card.name == "red" else card
        for card in parts.card.streams
    ]
    parts.card = parts.card.model_copy(update={"streams": tuple(cards)})
    parts.heads["red"] = LinearHead(np.array([40.0]), 0.0)
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16, :, 2] = 255
    pixels[16:, :, 0] = 255
    loaded = load(parts, tmp_path / "part")
    fake, real = (explain(loaded, pixels, streams=["red"], toward=toward) for toward in ("fake", "real"))
    [look] = fake.streams
    assert look.name == "red"
    assert look.map is not None
    # Hiding the blue half leaves the reds' mean as high as can be.
    assert look.map[24:].mean() > 0.9
    assert look.map[:8].mean() < 0.1
    assert real.streams[0].map is not None
    assert real.streams[0].map[:8].mean() > 0.9


def test_only_the_streams_that_are_named_are_looked_into_and_the_verdict_stays_whole(
    voters: Path, flat: Callable[..., Any]
) -> None:
    loaded = assay.load(voters, threads=1, device="cpu")
    found = explain(loaded, flat(150, 80, 70), streams=["blue", "grey"])
    assert [look.name for look in found.streams] == ["grey", "blue"]
    assert [stream.name for stream in found.verdict.streams] == ["grey", "red", "blue"]
    assert found.map is not None
    maps = [look.map for look in found.drawn if look.map is not None]
    assert np.allclose(found.map, np.mean(maps, axis=0))


def test_where_no_stream_applies_there_is_no_map_and_the_reason_is_told(detector: assay.Detector) -> None:
    found = explain(detector, np.zeros((9, 40, 3), np.uint8))
    assert found.map is None
    assert found.drawn == ()
    assert not found.seen.any()
    assert found.verdict.score is None
    [look] = found.streams
    assert "needs 16 px" in look.reason
    assert look.to_dict() == {"name": "grey", "score": None, "reason": look.reason}


def test_masked_views_without_a_finite_score_leave_a_reason(
    detector: assay.Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = detector.raw

    def broken(stream: str, embedding: Any) -> Any:
        scores = raw(stream, embedding)
        return scores if len(scores) == 9 else np.full(len(scores), np.nan)

    monkeypatch.setattr(detector, "raw", broken)
    [look] = explain(detector, lit()).streams
    assert look.score is not None
    assert (look.map, look.reason) == (None, "its network gave no finite number for a masked view")


# ── frames


def test_of_several_frames_the_one_that_says_it_most_clearly_is_looked_into(
    detector: assay.Detector, flat: Callable[..., Any]
) -> None:
    clip = gif((60, 220, 30, 120), flat)
    fake, real = explain(detector, clip), explain(detector, clip, toward="real")
    assert (fake.frame, real.frame) == (1, 2)
    assert fake.pixels.mean() > 200
    assert real.pixels.mean() < 50
    first = 2 * len(fake.streams[0].boxes)
    assert real.streams[0].scores == real.verdict.streams[0].views[first : first + len(fake.streams[0].boxes)]


def test_a_frame_may_be_asked_for_that_was_not_judged(detector: assay.Detector, flat: Callable[..., Any]) -> None:
    clip = gif(tuple(range(20, 240, 10)), flat)
    judged = [number for number, _ in detector.judge(clip).frames]
    assert 21 not in judged
    found = explain(detector, clip, frame=21)
    assert found.verdict == detector.judge(clip)
    assert (found.frame, found.time) == (21, None)
    assert found.pixels.mean() == pytest.approx(230, abs=2)
    [look] = found.streams
    assert look.score == found.verdict.streams[0].score
    alone = detector.judge(np.ascontiguousarray(found.pixels))
    assert look.scores == pytest.approx(alone.streams[0].views, abs=1e-6)
    assert json.loads(json.dumps(found.to_dict()))["frame"] == 21
    with pytest.raises(ValueError, match="not by both"):
        explain(detector, clip, frame=1, time=1.0)
    with pytest.raises(InputError, match="it has 22"):
        explain(detector, clip, frame=22)


def test_a_stream_with_nothing_to_see_in_the_frame_says_so_and_keeps_the_clips_score(
    parts: Any, tmp_path: Path, flat: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.add("face", view=View(size=32, layout="faces", margin=1, minimum=8))
    loaded = load(parts, tmp_path / "faces")
    marks = ((50.0, 30.0), (60.0, 30.0), (55.0, 35.0), (51.0, 40.0), (59.0, 40.0))
    faces = (Face(Box(40, 20, 70, 50), 0.9, marks),)
    monkeypatch.setattr(detecting, "look", lambda pixels: faces if pixels.mean() > 150 else ())
    clip = gif((60, 220, 30), flat)
    with_face, without = explain(loaded, clip, frame=1), explain(loaded, clip, frame=2)
    assert with_face.verdict == without.verdict
    assert with_face.streams[1].boxes == (Box(40, 20, 70, 50),)
    look = without.streams[1]
    assert (look.map, look.reason) == (None, "in the frame that was looked into: no face found")
    assert look.score == with_face.streams[1].score is not None


# ── errors


def test_what_cannot_be_explained_is_an_error_of_a_kind(detector: assay.Detector, parts: Any, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="did you mean grey") as unknown:
        explain(detector, lit(), streams=["gray"])
    assert unknown.value.kind == "unknown"
    with pytest.raises(InputError):
        explain(detector, b"no picture")
    with pytest.raises(ValueError, match="0 channels"):
        explain(detector, lit(), channels=0)


def test_a_transformers_attention_is_laid_over_the_picture(
    detector: assay.Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Engine.explain

    def with_attention(self: Engine, batch: Any) -> dict[str, Any]:
        found = whole(self, batch)
        attention = np.full((len(batch), 2, 18, 18), 1e-6, np.float32)
        attention[:, :, 0, 2 + 5] = 1
        return found | {"attention": attention}

    monkeypatch.setattr(Engine, "explain", with_attention)
    found = explain(detector, lit(32, 32))
    [look] = found.streams
    assert look.attention is not None
    row, column = np.unravel_index(np.argmax(look.attention), look.attention.shape)
    assert 8 <= row < 16
    assert 8 <= column < 16
    assert look.entropies == (pytest.approx(0, abs=1e-3),)
    assert look.entropy == look.entropies[0]
    assert "entropy of 0.00 nats" in found.sentences[-1]
    assert found.to_dict()["streams"][0]["attention"]["entropies"] == list(look.entropies)
    assert {"grey.attention", "grey.entropies"} <= set(found.arrays())


# ── what is told


def test_the_share_in_each_ninth_sums_to_one_and_is_named_after_its_place() -> None:
    map = np.zeros((30, 60), np.float32)
    map[12, 50], map[0, 0] = 3, 1
    found = ninths(map)
    assert {name: share for name, share in found.items() if share} == {"right": 0.75, "upper left": 0.25}
    assert len(found) == 9
    assert not any(ninths(np.zeros((2, 2), np.float32)).values())


def test_sentences_say_what_was_shown_and_where_it_lies(detector: assay.Detector) -> None:
    shown, lies = explain(detector, lit()).sentences
    assert shown.startswith("grey was shown 100% of the picture in 9 crops; they give 0.")
    assert "the most at the left: x 0-32, y 32-64 px" in shown
    assert lies.startswith("what speaks for fake to grey lies above all here: left ")
    even = Look("a", 0.5, "", (Box(0, 0, 9, 9),), (0.5,), np.ones((9, 9), np.float32), np.ones((9, 9), np.float32))
    assert even.sentences("real") == (
        "a was shown 100% of the picture in 1 crop",
        "what speaks for real to a is spread over the picture: no part stands out",
    )
    assert "does not vary" in dataclasses.replace(even, map=np.zeros((9, 9), np.float32)).sentences("fake")[1]


def test_a_picture_of_one_colour_has_a_map_that_does_not_vary(detector: assay.Detector) -> None:
    found = explain(detector, np.full((64, 64, 3), 90, np.uint8))
    assert found.map is not None
    assert not found.map.any()


def test_machines_get_all_but_the_maps_and_arrays_hold_these(detector: assay.Detector) -> None:
    found = explain(detector, lit(), channels=2)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["verdict"] == json.loads(json.dumps(found.verdict.to_dict()))
    assert (told["toward"], told["frame"], told["channels"]) == ("fake", 0, 2)
    [stream] = told["streams"]
    assert stream["crops"][3] == {"box": [0, 32, 32, 64], "score": found.streams[0].scores[3]}
    assert stream["shown"] == 1
    assert sum(stream["parts"].values()) == pytest.approx(1)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **found.arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        assert set(arrays) == {"streams", "score", "grey.map", "grey.tiles", "grey.boxes", "grey.scores"}
        assert np.array_equal(arrays["grey.map"], found.streams[0].map)
        assert arrays["grey.boxes"][1].tolist() == [32, 0, 64, 32]
        assert arrays["streams"].tolist() == ["grey"]
