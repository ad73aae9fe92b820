"""What is measured of maps: stability under noise, drift, shares on faces, likeness of two."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import assay
from assay.errors import RecipeError
from assay.image.eyes import boxes_of_centres
from assay.image.faces import Face
from assay.judge.explain import Look, explain
from assay.judge.heads import LinearHead
from assay.measure.attribution import (
    LEVELS,
    STRENGTHS,
    Drift,
    between,
    box_of_mouth,
    cosine,
    drift,
    noisy,
    overlap,
    shares,
    shift,
    stability,
)
from assay.measure.robustness import damaged
from assay.types import Box, Pixels

FACE = Face(Box(20, 10, 80, 90), 0.99, ((35.0, 40.0), (65.0, 40.0), (50.0, 55.0), (38.0, 72.0), (62.0, 72.0)))


@pytest.fixture
def tiny(bundle_folder: Path) -> assay.Detector:
    """The tiny bundle, ready to judge."""
    return assay.load(bundle_folder, threads=1, device="cpu")


def bump(row: float, column: float, size: int = 100) -> Any:
    """A round hill."""
    rows, columns = np.mgrid[:size, :size]
    return np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 200).astype(np.float32)


def scene(width: int = 96, height: int = 96) -> Pixels:
    """Dark at the left, bright at the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:] = np.linspace(20, 230, width).astype(np.uint8)[None, :, None]
    return pixels


# ── drift of maps


def test_the_same_map_overlaps_itself_and_has_not_moved() -> None:
    assert (overlap(bump(30, 40), bump(30, 40)), shift(bump(30, 40), bump(30, 40))) == (1, 0)


def test_the_top_tenth_that_stays_is_counted() -> None:
    before, after = np.zeros((10, 10)), np.zeros((10, 10))
    before[0] = after[0] = np.arange(1, 11)
    after[1, :3] = 100
    # Three of the ten are elsewhere now.
    assert overlap(before, after) == 0.7
    seen = np.ones((10, 10), np.bool_)
    seen[1] = False
    assert overlap(before, after, seen) == 1


def test_what_happens_below_the_top_tenth_does_not_count() -> None:
    before = np.arange(100.0).reshape(10, 10)
    after = before.copy()
    after[:9] = before[:9][::-1]
    assert overlap(before, after) == 1
    assert overlap(-before, -after) == 0


def test_maps_that_have_nothing_to_do_with_each_other_overlap_by_a_tenth() -> None:
    rng = np.random.default_rng(0)
    assert overlap(rng.random((300, 300)), rng.random((300, 300))) == pytest.approx(0.1, abs=0.01)


def test_a_centroid_that_moves_is_measured_on_the_diagonal() -> None:
    before, after = np.zeros((31, 41)), np.zeros((31, 41))
    before[5, 5] = after[8, 9] = 2
    assert shift(before, after) == pytest.approx(5 / math.hypot(31, 41))
    before[5, 9] = 2
    assert shift(before, after) == pytest.approx(math.hypot(3, 2) / math.hypot(31, 41))


def test_maps_that_say_nothing_have_no_drift() -> None:
    flat, hill = np.zeros((9, 9)), np.arange(81.0).reshape(9, 9)
    assert math.isnan(overlap(flat, hill))
    assert math.isnan(overlap(hill, np.ones((9, 9))))
    assert math.isnan(overlap(hill, hill, np.zeros((9, 9), np.bool_)))
    assert math.isnan(shift(flat, hill))
    assert math.isnan(cosine(hill, flat))
    assert Drift(math.nan, math.nan, math.nan).to_dict() == {"overlap": None, "shift": None, "cosine": None}


def test_a_drift_needs_two_maps_of_one_picture() -> None:
    look = Look("a", 0.5, map=bump(3, 4), tiles=np.ones((100, 100), np.float32))
    assert drift(look, look).overlap == 1
    with pytest.raises(ValueError, match="a has no map"):
        drift(look, dataclasses.replace(look, map=None))
    other = dataclasses.replace(look, map=bump(3, 4, 50), tiles=np.ones((50, 50), np.float32))
    with pytest.raises(ValueError, match="not of one picture"):
        drift(look, other)


# ── likeness


def test_the_cosine_of_two_maps_is_that_of_their_pixels() -> None:
    one, other = np.random.default_rng(0).random((2, 7, 9))
    expected = np.corrcoef(np.r_[one.ravel(), -one.ravel()], np.r_[other.ravel(), -other.ravel()])[0, 1]
    assert cosine(one, other) == pytest.approx(expected)
    assert cosine(one, 3 * one) == pytest.approx(1)


def test_every_two_streams_that_have_a_map_are_compared(voters: Path) -> None:
    loaded = assay.load(voters, threads=1, device="cpu")
    found = between(explain(loaded, scene()))
    assert set(found) == {("grey", "red"), ("grey", "blue"), ("red", "blue")}
    small = between(explain(loaded, scene(50, 50)))
    assert set(small) == {("grey", "red")}
    assert all(0 < value <= 1 + 1e-9 for value in (found | small).values())


# ── faces


def test_a_map_alike_all_over_has_the_shares_of_the_area() -> None:
    found = shares(np.ones((100, 100)), [FACE])
    assert found.face == pytest.approx(60 * 80 / 1e4)
    assert found.background == pytest.approx(1 - found.face)
    left, right = boxes_of_centres(FACE)
    assert found.eyes == pytest.approx((left.width * left.height + right.width * right.height) / 1e4)
    mouth = box_of_mouth(FACE)
    assert found.mouth == pytest.approx(mouth.width * mouth.height / 1e4)


@pytest.mark.parametrize(
    ("row", "column", "parts"),
    [(40, 35, {"face", "eyes"}), (40, 65, {"face", "eyes"}), (74, 50, {"face", "mouth"}), (5, 5, {"background"})],
)
def test_what_lies_at_one_place_is_all_in_the_parts_there(row: int, column: int, parts: set[str]) -> None:
    map = np.zeros((100, 100))
    map[row, column] = 1
    found = shares(map, [FACE]).to_dict()
    assert {name for name, share in found.items() if share} == parts
    assert set(found.values()) == {0.0, 1.0}


def test_pixels_of_faces_that_overlap_count_once_and_a_map_of_nothing_has_no_shares() -> None:
    assert shares(np.ones((100, 100)), [FACE, FACE]) == shares(np.ones((100, 100)), [FACE])
    assert set(shares(np.zeros((100, 100)), [FACE]).to_dict().values()) == {None}


def test_the_box_of_the_mouth_holds_its_corners_and_turns_with_the_face() -> None:
    box = box_of_mouth(FACE)
    assert box.left < 38
    assert box.right > 62
    assert box.top < 72 < box.bottom
    assert box.bottom - 72 > 72 - box.top
    # 0.9 × 0.345 of the 30 px between the eyes, half as much again.
    assert (box.width, box.height) == (pytest.approx(1.5 * 27, abs=2), pytest.approx(1.5 * 10.35, abs=2))
    turned = dataclasses.replace(FACE, landmarks=tuple((100 - y, x) for x, y in FACE.landmarks))
    lying = box_of_mouth(turned)
    assert (lying.width, lying.height) == (pytest.approx(box.height, abs=1), pytest.approx(box.width, abs=1))
    assert (lying.left + lying.right) / 2 == pytest.approx(100 - (box.top + box.bottom) / 2, abs=1)


def test_a_face_seen_from_the_side_keeps_the_height_of_its_mouth() -> None:
    side = dataclasses.replace(FACE, landmarks=((48.0, 40.0), (52.0, 40.0), (44.0, 55.0), (48.0, 72.0), (51.0, 72.0)))
    assert box_of_mouth(side).height == pytest.approx(box_of_mouth(FACE).height, abs=2)


# ── noise


def test_the_cosine_of_embeddings_falls_with_the_noise_from_one(tiny: assay.Detector) -> None:
    found = stability(tiny, scene())
    assert set(found) == {"grey"}
    assert len(found["grey"]) == len(LEVELS)
    assert found["grey"][0] == pytest.approx(1)
    assert list(found["grey"]) == sorted(found["grey"], reverse=True)
    assert found["grey"][-1] < 0.9995


def test_the_embeddings_are_those_of_the_noisy_picture_in_the_mean_over_its_crops(tiny: assay.Detector) -> None:
    view, pixels = tiny.streams[0].view, scene(50, 90)
    means = []
    for each in (pixels, damaged("gaussian_noise", 0.7)(pixels)):
        means.append(tiny.engine("grey").run(view.tensor(view.crops(each))).mean(axis=0))
    [found] = stability(tiny, pixels, levels=[0.7])["grey"]
    assert found == pytest.approx(means[0] @ means[1] / np.prod([np.linalg.norm(mean) for mean in means]), abs=1e-6)


def test_a_stream_with_a_part_of_the_embedding_is_measured_on_that(parts: Any, tmp_path: Path) -> None:
    parts.add("red")
    card = parts.card.streams[1].model_copy(update={"part": (0, 1), "embedding": 1})
    parts.card = parts.card.model_copy(update={"streams": (parts.card.streams[0], card)})
    parts.heads["red"] = LinearHead(np.array([4.0]), 0.0)
    loaded = assay.load(parts.write(tmp_path / "part").folder, threads=1, device="cpu")
    found = stability(loaded, scene(), levels=[0.5])
    # One number has no direction but its sign.
    assert abs(found["red"][0]) == pytest.approx(1)
    assert abs(found["grey"][0]) < 1 - 1e-6
    assert set(stability(loaded, scene(), ["red"], [0.5])) == {"red"}


def test_a_stream_that_does_not_apply_is_left_out(tiny: assay.Detector) -> None:
    assert stability(tiny, scene(8, 8)) == {}


def test_noise_beyond_its_range_is_refused(tiny: assay.Detector) -> None:
    with pytest.raises(RecipeError):
        stability(tiny, scene(), levels=[1.5])


def test_a_picture_is_explained_again_under_noise_as_it_was_before(tiny: assay.Detector) -> None:
    clean = explain(tiny, scene(), channels=2, toward="real")
    found = noisy(tiny, clean)
    assert set(found.explanations) == set(STRENGTHS)
    for strength, explanation in found.explanations.items():
        assert np.array_equal(explanation.pixels, damaged("gaussian_noise", strength)(clean.pixels))
        assert (explanation.channels, explanation.toward) == (2, "real")
        assert found.drifts["grey"][strength] == drift(clean.streams[0], explanation.streams[0])
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))["grey"]
    assert [level for level, _ in told["stability"]] == list(LEVELS)
    assert [each["strength"] for each in told["drift"]] == list(STRENGTHS)
    assert 0 <= told["drift"][0]["overlap"] <= 1


def test_no_noise_is_no_drift(tiny: assay.Detector, flat: Callable[..., Any]) -> None:
    clean = explain(tiny, scene())
    [only] = noisy(tiny, clean, strengths=[0.0]).drifts["grey"].values()
    assert (only.overlap, only.shift, only.cosine) == (1, 0, pytest.approx(1))
