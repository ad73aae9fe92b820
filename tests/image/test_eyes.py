"""Eyes are covered as the release covers them, and from the middles of the eyes where that is all that is known."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.image.eyes import EYE, boxes_of_centres, boxes_of_landmarks, mask
from assay.image.faces import Face
from assay.types import Box


def face(left: tuple[float, float], right: tuple[float, float], mouth: tuple[float, float]) -> Face:
    """Eyes and the middle of a mouth half as wide as the eyes are apart."""
    across = np.subtract(right, left) / 4
    corners = np.subtract(mouth, across), np.add(mouth, across)
    nose = tuple((np.add(left, right) / 2 + mouth) / 2)
    one, two = ((float(x), float(y)) for x, y in corners)
    return Face(Box(0, 0, 200, 200), 1.0, (left, right, nose, one, two))


def turned(points: np.ndarray, degrees: float, about: tuple[float, float]) -> np.ndarray:
    angle = math.radians(degrees)
    rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return (points - about) @ rotation + about


def middle(box: Box) -> tuple[float, float]:
    return (box.left + box.right - 1) / 2, (box.top + box.bottom - 1) / 2


marks = st.lists(st.tuples(st.integers(-20, 400), st.integers(-20, 400)), min_size=68, max_size=68)


@settings(max_examples=30)
@given(marks)
def test_landmarks_give_the_rectangles_of_the_release(points: list[tuple[int, int]]) -> None:
    landmarks = np.array(points, np.int32)
    for box, first in zip(boxes_of_landmarks(landmarks), (36, 42), strict=True):
        x, y, width, height = cv2.boundingRect(landmarks[first : first + 6])
        assert box == Box(x - width // 2, y - height, x - width // 2 + 2 * width, y + 2 * height)


def test_an_eye_10_wide_and_4_high_becomes_20_by_12_around_the_same_middle() -> None:
    points = np.zeros((68, 2))
    points[36:42] = [(50, 62), (53, 60), (56, 60), (59, 62), (56, 63), (53, 63)]
    box, _ = boxes_of_landmarks(points)
    assert box == Box(45, 56, 65, 68)


def test_other_landmarks_than_the_68_are_refused() -> None:
    with pytest.raises(ValueError, match="68 points"):
        boxes_of_landmarks(np.zeros((5, 2)))


def test_boxes_from_the_eyes_middles_lie_around_them_and_scale_with_the_face() -> None:
    left, right = boxes_of_centres(face((50, 80), (150, 80), (100, 180)))
    assert math.dist(middle(left), (50, 80)) < 2
    assert math.dist(middle(right), (150, 80)) < 2
    assert 80 <= left.width <= 82
    assert 37 <= left.height <= 40
    small, _ = boxes_of_centres(face((5, 8), (15, 8), (10, 18)))
    assert 8 <= small.width <= 10


def test_the_average_eye_covers_what_its_landmarks_would() -> None:
    points = np.zeros((68, 2))
    for first, centre in ((36, (60, 90)), (42, (160, 90))):
        points[first : first + 6] = 100 * EYE + centre
    for one, other in zip(
        boxes_of_landmarks(points), boxes_of_centres(face((60, 90), (160, 90), (110, 195))), strict=True
    ):
        for edge in ("left", "top", "right", "bottom"):
            assert abs(getattr(one, edge) - getattr(other, edge)) <= 3


@given(st.floats(-180, 180))
def test_a_face_that_is_turned_keeps_its_eyes_covered(degrees: float) -> None:
    upright = np.array([(60, 90), (160, 90), (110, 195)], np.float64)
    (left, right, mouth) = turned(upright, degrees, (110, 140)).tolist()
    boxes = boxes_of_centres(face(tuple(left), tuple(right), tuple(mouth)))
    eyes = turned(np.concatenate([100 * EYE + (60, 90), 100 * EYE + (160, 90)]), degrees, (110, 140))
    for box, eye in zip(boxes, (eyes[:6], eyes[6:]), strict=True):
        assert box.left <= eye[:, 0].min()
        assert eye[:, 0].max() <= box.right
        assert box.top <= eye[:, 1].min()
        assert eye[:, 1].max() <= box.bottom


def test_a_face_on_its_side_has_upright_boxes() -> None:
    for box in boxes_of_centres(face((100, 50), (100, 150), (0, 100))):
        assert box.height > 2 * box.width


def test_a_face_seen_from_the_side_is_covered_as_one_of_its_height_seen_from_the_front() -> None:
    front, _ = boxes_of_centres(face((50, 80), (150, 80), (100, 190)))
    side, _ = boxes_of_centres(face((90, 80), (110, 82), (100, 190)))
    assert side.width >= front.width - 2
    assert side.height >= front.height - 2


def test_eyes_in_one_point_still_give_boxes() -> None:
    for box in boxes_of_centres(face((5, 5), (5, 5), (5, 5))):
        assert box.width >= 1
        assert box.height >= 1


def test_the_mask_is_black_inside_every_box_and_leaves_the_rest() -> None:
    pixels = np.full((40, 60, 3), 200, np.uint8)
    boxes = [Box(5, 5, 15, 9), Box(30, 10, 40, 20)]
    masked = mask(pixels, boxes)
    assert (masked == 0).sum() == 3 * (10 * 4 + 10 * 10)
    assert (masked[5:9, 5:15] == 0).all()
    assert (pixels == 200).all()


def test_what_lies_beyond_the_picture_is_passed_over() -> None:
    pixels = np.full((10, 10, 3), 200, np.uint8)
    masked = mask(pixels, [Box(-5, -5, 2, 2), Box(8, 8, 40, 40), Box(-9, -9, -1, -1), Box(20, 20, 30, 30)])
    assert (masked == 0).sum() == 3 * (4 + 4)
