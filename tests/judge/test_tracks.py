"""Faces are followed: by place where frames are near, by looks elsewhere, and never two of a frame in one track."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from assay.image.faces import Face
from assay.judge import tracks
from assay.judge.tracks import Sight, is_cut, link, looks_of, overlap, sight
from assay.types import Box, Pixels

WIDTH, HEIGHT, SIDE = 320, 200, 60
MARKS = ((0.32, 0.38), (0.68, 0.38), (0.5, 0.58), (0.36, 0.76), (0.64, 0.76))
"""Of a face, in sides of its box."""


def person(number: int) -> Pixels:
    """A smooth pattern that is nobody else's."""
    coarse = np.random.default_rng(number).integers(0, 256, (7, 7), np.uint8)
    grey = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return np.repeat(grey[..., None], 3, axis=2)


def face(left: int, top: int, side: int = SIDE) -> Face:
    one, two, three, four, five = ((left + side * x, top + side * y) for x, y in MARKS)
    return Face(Box(left, top, left + side, top + side), 0.99, (one, two, three, four, five))


def frame(people: dict[int, tuple[int, int]], ground: tuple[int, int, int] = (90, 110, 130)) -> Pixels:
    """A picture in which each of `people`, by number, stands at a left and top."""
    pixels = np.full((HEIGHT, WIDTH, 3), ground, np.uint8)
    for number, (left, top) in people.items():
        pixels[top : top + SIDE, left : left + SIDE] = person(number)
    return pixels


def followed(
    scenes: Sequence[dict[int, tuple[int, int]]],
    times: Sequence[float] | None = None,
    grounds: Sequence[tuple[int, int, int]] | None = None,
) -> list[dict[int, int]]:
    """The track of each person of each scene; scenes are half a second apart."""
    sights = []
    for place, people in enumerate(scenes):
        pixels = frame(people, grounds[place]) if grounds else frame(people)
        time = place / 2 if times is None else times[place]
        sights.append(sight(pixels, [face(*at) for at in people.values()], time))
    return [dict(zip(people, found, strict=True)) for people, found in zip(scenes, link(sights), strict=True)]


def blind(*frames: Sequence[Box], times: Sequence[float | None] | None = None) -> list[Sight]:
    """Sights of which nothing is known but where faces are."""
    coarse, none = np.zeros((8, 8, 3), np.uint8), np.zeros(24 * 24, np.float32)
    return [
        Sight(coarse, tuple(boxes), (none,) * len(boxes), None if times is None else times[place])
        for place, boxes in enumerate(frames)
    ]


# ── looks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_person_looks_alike_turned_enlarged_darker_and_lit_from_the_side_and_others_do_not() -> None:
    plain = looks_of(frame({1: (100, 60)}), face(100, 60))
    assert plain.mean() == pytest.approx(0, abs=1e-6)
    assert np.linalg.norm(plain) == pytest.approx(1, abs=1e-5)
    image = Image.fromarray(frame({1: (100, 60)}))
    double = np.asarray(image.resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.BICUBIC))
    assert plain @ looks_of(double, face(200, 120, 2 * SIDE)) > 0.97
    dark = np.asarray(ImageEnhance.Brightness(image).enhance(0.5))
    assert plain @ looks_of(dark, face(100, 60)) > 0.99
    slope = np.linspace(-600, 700, WIDTH)[None, :, None]
    shaded = np.clip(0.3 * np.asarray(image, np.float64) + 90 + 0.3 * slope, 0, 255).astype(np.uint8)
    assert plain @ looks_of(shaded, face(100, 60)) > 0.9
    angle = np.radians(15)
    turned = np.asarray(image.rotate(-15, Image.Resampling.BICUBIC, center=(130, 90)))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    marks = [tuple((turn @ (np.array(mark) - (130, 90)) + (130, 90)).tolist()) for mark in face(100, 60).landmarks]
    tilted: Any = Face(Box(100, 60, 160, 120), 0.99, tuple(marks))  # type: ignore[arg-type]
    assert plain @ looks_of(turned, tilted) > 0.95
    assert plain @ looks_of(turned, face(100, 60)) < 0.9
    others = [float(plain @ looks_of(frame({number: (100, 60)}), face(100, 60))) for number in range(2, 30)]
    assert max(others) < tracks.ALIKE


def test_a_face_without_contrast_or_landmarks_looks_like_nothing() -> None:
    assert not looks_of(np.full((HEIGHT, WIDTH, 3), 90, np.uint8), face(100, 60)).any()
    nowhere = Face(Box(100, 60, 160, 120), 0.99, ((0, 0),) * 5)
    assert not looks_of(frame({1: (100, 60)}), nowhere).any()


def test_a_face_at_the_edge_has_looks_too() -> None:
    at_edge = looks_of(frame({1: (0, 0)}), face(0, 0))
    assert at_edge @ looks_of(frame({1: (100, 60)}), face(100, 60)) > 0.7


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        (Box(0, 0, 10, 10), Box(0, 0, 10, 10), 1),
        (Box(0, 0, 10, 10), Box(5, 0, 15, 10), 1 / 3),
        (Box(0, 0, 10, 10), Box(10, 0, 20, 10), 0),
        (Box(0, 0, 10, 10), Box(30, 30, 40, 40), 0),
        (Box(0, 0, 10, 10), Box(2, 2, 4, 4), 0.04),
    ],
)
def test_overlap_is_the_shared_part_of_the_union(one: Box, other: Box, share: float) -> None:
    assert overlap(one, other) == overlap(other, one) == pytest.approx(share)


def test_a_cut_is_told_from_people_who_move() -> None:
    still = sight(frame({1: (40, 40), 2: (200, 40)}))
    moved = sight(frame({1: (90, 60), 2: (150, 90)}))
    other = sight(frame({1: (40, 40)}, (200, 60, 40)))
    assert not is_cut(still, moved)
    assert is_cut(still, other)


# ── tracks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_somebody_who_moves_on_is_one_track() -> None:
    assert followed([{1: (20 + 18 * step, 60)} for step in range(12)]) == [{1: 0}] * 12


def test_two_people_at_once_are_two_tracks_in_whatever_order_they_are_found() -> None:
    scenes = [{1: (30, 60), 2: (200, 60)}, {2: (205, 62), 1: (34, 60)}, {1: (40, 62), 2: (200, 60)}]
    assert followed(scenes) == [{1: 0, 2: 1}, {2: 1, 1: 0}, {1: 0, 2: 1}]


def test_people_who_cross_keep_their_tracks() -> None:
    scenes = [{1: (20 + 40 * step, 50), 2: (220 - 40 * step, 70)} for step in range(6)]
    # In between each stands where the other stood half a second before.
    assert overlap(face(*scenes[2][1]).box, face(*scenes[3][2]).box) > tracks.OVERLAP
    assert followed(scenes) == [{1: 0, 2: 1}] * 6
    # Also where they look somewhat alike.
    other = next(number for number in range(2, 200) if tracks.STRANGE + 0.1 < _alike(1, number) < tracks.ALIKE - 0.1)
    scenes = [{1: (20 + 40 * step, 50), other: (220 - 40 * step, 70)} for step in range(6)]
    assert followed(scenes) == [{1: 0, other: 1}] * 6


def test_whoever_comes_back_after_a_cut_is_the_same_track() -> None:
    day, night = (90, 110, 130), (10, 20, 20)
    scenes = [{1: (40, 60)}, {1: (44, 60)}, {2: (40, 60)}, {2: (44, 60)}, {1: (200, 30)}, {2: (40, 60)}]
    found = followed(scenes, grounds=[day, day, night, night, day, night])
    assert found == [{1: 0}, {1: 0}, {2: 1}, {2: 1}, {1: 0}, {2: 1}]


def test_after_a_cut_a_stranger_at_the_same_place_is_a_new_track() -> None:
    scenes = [{1: (100, 60)}, {2: (100, 60)}]
    assert followed(scenes, grounds=[(90, 110, 130), (230, 210, 200)]) == [{1: 0}, {2: 1}]
    # A cut between alike rooms is not seen, but that looks have nothing in common is.
    strangers = [number for number in range(2, 30) if _alike(1, number) < tracks.STRANGE]
    assert followed([{1: (100, 60)}, {strangers[0]: (100, 60)}]) == [{1: 0}, {strangers[0]: 1}]


def _alike(one: int, other: int) -> float:
    return float(looks_of(frame({one: (9, 9)}), face(9, 9)) @ looks_of(frame({other: (9, 9)}), face(9, 9)))


def test_whoever_comes_back_after_frames_without_a_face_is_the_same_track() -> None:
    scenes: list[dict[int, tuple[int, int]]] = [{1: (40, 60)}, {}, {}, {}, {}, {}, {1: (200, 100)}, {2: (200, 100)}]
    assert followed(scenes, times=[0, 1, 2, 3, 4, 5, 6, 60])[-2:] == [{1: 0}, {2: 1}]


def test_frames_too_far_apart_are_not_followed_by_place() -> None:
    box = Box(10, 10, 50, 50)
    near, far = (tracks.NEAR * share for share in (1, 1.01))
    assert link(blind([box], [box], times=[0, near])) == ((0,), (0,))
    assert link(blind([box], [box], times=[0, far])) == ((0,), (1,))
    # Without seconds, by how many judged frames lie between.
    assert link(blind([box], [], [box])) == ((0,), (), (0,))
    assert link(blind([box], [], [], [box])) == ((0,), (), (), (1,))


def test_a_cut_between_ends_following_by_place_even_if_the_scene_comes_back() -> None:
    box = Box(10, 10, 50, 50)
    first, between, last = blind([box], [], [box], times=[0, 0.5, 1])
    other = Sight(np.full((8, 8, 3), 200, np.uint8), (), (), 0.5)
    assert link([first, between, last]) == ((0,), (), (0,))
    assert link([first, other, last]) == ((0,), (), (1,))


def test_the_larger_overlap_wins() -> None:
    one, other = Box(0, 0, 40, 40), Box(20, 0, 60, 40)
    moved = Box(15, 0, 55, 40)
    assert link(blind([one, other], [moved], times=[0, 0.1])) == ((0, 1), (1,))
    assert link(blind([one, other], [moved, other], times=[0, 0.1])) == ((0, 1), (0, 1))


def test_a_track_remembers_more_than_its_last_look() -> None:
    scenes: list[dict[int, tuple[int, int]]] = [{1: (100, 60)}] * 8 + [{}] * 6 + [{1: (200, 60)}]
    sights = []
    for place, people in enumerate(scenes):
        pixels = frame(people)
        if place == 7:  # somebody passes in front
            pixels[60:110, 100:150] = 255
        sights.append(sight(pixels, [face(*at) for at in people.values()], place / 2))
    assert float(sights[7].looks[0] @ sights[-1].looks[0]) < tracks.ALIKE
    assert link(sights)[-1] == (0,)


def angled(degrees: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Looks whose correlation is the cosine of the angle between them."""
    looks = np.zeros(24 * 24, np.float32)
    looks[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return looks


@pytest.mark.parametrize("together", [False, True])
def test_tracks_that_look_alike_on_the_whole_are_one_unless_they_are_seen_together(together: bool) -> None:
    """Somebody turns by degrees, and after a cut stands there turned too far to be known again at once."""
    here, there = Box(0, 0, 60, 60), Box(200, 0, 260, 60)
    dark, light = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 200, np.uint8)
    scenes = [
        Sight(dark, (here,), (angled(0),), 0.0),
        Sight(dark, (here,), (angled(30),), 0.5),
        Sight(light, (there,), (angled(62),), 1.0),
        Sight(light, (there,), (angled(20),), 1.5),
    ]
    if together:
        scenes.insert(2, Sight(dark, (here, there), (angled(15), angled(62)), 0.75))
    found = link(scenes)
    if together:
        assert found == ((0,), (0,), (0, 1), (1,), (1,))
    else:
        assert found == ((0,), (0,), (0,), (0,))
        assert angled(62) @ angled(15) < tracks.ALIKE


def test_no_frames_and_no_faces_are_no_tracks() -> None:
    assert link([]) == ()
    assert link(blind([], [])) == ((), ())


@given(
    st.lists(
        st.dictionaries(
            st.integers(0, 3), st.tuples(st.integers(0, WIDTH - SIDE), st.integers(0, HEIGHT - SIDE)), max_size=4
        ),
        max_size=8,
    ),
    st.sampled_from([0.1, 1.5, 30.0]),
)
@settings(max_examples=40, deadline=None)
def test_whatever_happens_a_track_has_one_face_of_a_frame_and_numbers_begin_in_order(
    scenes: list[dict[int, tuple[int, int]]], step: float
) -> None:
    found = followed(scenes, times=[step * place for place in range(len(scenes))])
    assert all(len(set(numbers.values())) == len(numbers) for numbers in found)
    order = list(dict.fromkeys(itertools.chain(*(numbers.values() for numbers in found))))
    assert order == list(range(len(order)))
