"""A face is looked for again where it pays, and a stream that judges faces is shown the right part of a picture."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.image.faces import (
    PLAIN,
    RETRIES,
    Face,
    Retry,
    crop,
    crop_box,
    face_or_whole,
    find,
    share,
    shrunk,
)
from assay.types import Box, Pixels

whole = st.integers(-1000, 1000)
point = st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))


def face(left: int, top: int, right: int, bottom: int, score: float = 0.95) -> Face:
    x, y = (left + right) / 2, (top + bottom) / 2
    return Face(Box(left, top, right, bottom), score, ((x - 2, y), (x + 2, y), (x, y + 1), (x - 2, y + 3), (x + 2, y)))


def mosaic(width: int, height: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


class Seeing:
    """A detector that gives what it is told for each picture that it is shown."""

    name = "seeing"

    def __init__(self, see: Callable[[Pixels], list[Face]]) -> None:
        self.see = see
        self.shown: list[tuple[int, ...]] = []

    def detect(self, pixels: Pixels) -> list[Face]:
        self.shown.append(pixels.shape)
        return self.see(pixels)


def bright_square(pixels: Pixels) -> list[Face]:
    """The box around everything brighter than 200: a stand-in for a face whose place is known."""
    rows, columns = np.nonzero(pixels.min(axis=2) > 200)
    return [face(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)] if len(rows) else []


@given(whole, whole, whole, whole, st.floats(0, 1), st.tuples(point, point, point, point, point))
def test_a_face_survives_json(left: int, top: int, right: int, bottom: int, score: float, landmarks: tuple) -> None:
    known = Face(Box(left, top, right, bottom), score, landmarks)
    assert Face.from_dict(json.loads(json.dumps(known.to_dict()))) == known


@pytest.mark.parametrize(
    "line",
    [{}, {"box": [1, 2, 3], "score": 1, "landmarks": [[0, 0]] * 5}, {"box": [1, 2, 3, 4], "score": 1, "landmarks": []}],
)
def test_something_else_is_no_face(line: dict) -> None:
    with pytest.raises(ValueError, match="no face"):
        Face.from_dict(line)


def test_a_picture_that_shows_its_face_is_searched_once() -> None:
    detector = Seeing(lambda pixels: [face(1, 1, 9, 9)])
    found = find(mosaic(100, 80), detector)
    assert found.how == PLAIN
    assert len(detector.shown) == 1


def test_copies_are_tried_in_order_until_one_shows_a_face() -> None:
    shown = 0

    def third(pixels: Pixels) -> list[Face]:
        nonlocal shown
        shown += 1
        return [face(10, 10, 90, 80)] if shown == 3 else []

    assert find(mosaic(120, 100), Seeing(third)).how == RETRIES[1].name
    assert shown == 3


def test_without_retries_only_the_picture_is_searched() -> None:
    detector = Seeing(lambda pixels: [])
    assert find(mosaic(120, 100), detector, retries=()) == find(mosaic(120, 100), Seeing(lambda pixels: []))
    assert len(detector.shown) == 1


@pytest.mark.parametrize(
    ("retry", "width", "height"),
    [
        pytest.param(retry, *size, id=f"{retry.name} {size[0]}x{size[1]}")
        for retry in RETRIES
        for size in ((90, 60), (80, 91), (1600, 900))
        if not retry.small_only or min(size) < 96
    ],
)
def test_every_copy_gives_boxes_in_px_of_the_picture(retry: Retry, width: int, height: int) -> None:
    pixels = np.full((height, width, 3), 20, np.uint8)
    true = Box(width // 4, height // 3, width // 4 + width // 2, height // 3 + height // 2)
    pixels[true.top : true.bottom, true.left : true.right] = 250
    shown = []

    def on_the_copy(copy: Pixels) -> list[Face]:
        shown.append(copy)
        return bright_square(copy) if len(shown) == 2 else []

    found = find(pixels, Seeing(on_the_copy), retries=[retry])
    (seen,) = found.faces
    # Smoothing moves the edge of a square by a pixel or two of the copy.
    most = 3 * max(1, width / 384)
    assert abs(seen.box.left - true.left) <= most
    assert abs(seen.box.top - true.top) <= most
    assert abs(seen.box.right - true.right) <= most
    assert abs(seen.box.bottom - true.bottom) <= most
    x, y = (true.left + true.right) / 2, (true.top + true.bottom) / 2
    assert abs((seen.landmarks[0][0] + seen.landmarks[1][0]) / 2 - x) <= most
    assert abs(seen.landmarks[0][1] - y) <= most


def test_a_face_beyond_the_picture_is_clipped_and_one_in_the_border_is_dropped() -> None:
    shown = 0

    def padded(copy: Pixels) -> list[Face]:
        nonlocal shown
        shown += 1
        return [face(0, 0, 200, 200), face(1, 1, 40, 40)] if shown == 2 else []

    found = find(mosaic(100, 100), Seeing(padded), retries=RETRIES[:1])
    assert [seen.box for seen in found.faces] == [Box(0, 0, 100, 100)]


def test_a_face_that_only_a_copy_shows_counts_from_the_size_on_at_which_it_is_cropped() -> None:
    def on_copies(side: int) -> Callable[[Pixels], list[Face]]:
        shown: list[int] = []

        def see(pixels: Pixels) -> list[Face]:
            shown.append(1)
            return [face(0, 0, side, side)] if len(shown) > 1 else []

        return see

    stretched = [retry for retry in RETRIES if retry.name == "stretched"]
    assert find(mosaic(90, 90), Seeing(on_copies(29)), retries=stretched).faces == ()
    assert find(mosaic(90, 90), Seeing(on_copies(30)), retries=stretched).how == "stretched"
    assert find(mosaic(90, 90), Seeing(on_copies(5)), retries=stretched, least=0).how == "stretched"


def test_copies_of_large_pictures_are_small_and_doubled_ones_are_of_small_pictures_only() -> None:
    detector = Seeing(lambda pixels: [])
    find(mosaic(2000, 1000), detector)
    assert detector.shown[0] == (1000, 2000, 3)
    assert max(max(shape) for shape in detector.shown[1:]) == 384 * 2
    assert len(detector.shown) == len(RETRIES)
    detector.shown.clear()
    find(mosaic(70, 50), detector)
    assert detector.shown[-1] == (100, 140, 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (2, 3), (300, 1)])
def test_the_smallest_pictures_can_be_searched(shape: tuple[int, int]) -> None:
    assert find(np.zeros((*shape, 3), np.uint8), Seeing(lambda pixels: [])).faces == ()


def test_a_picture_is_shrunk_to_its_longest_side_and_never_enlarged() -> None:
    assert shrunk(mosaic(300, 200), 150).size == (150, 100)
    assert shrunk(mosaic(300, 2), 30).size == (30, 1)
    np.testing.assert_array_equal(np.asarray(shrunk(mosaic(30, 20), 150)), mosaic(30, 20))


def test_the_share_of_a_face_is_of_the_pictures_area() -> None:
    assert share(face(0, 0, 30, 20), 60, 40) == pytest.approx(1 / 4)


def test_a_crop_is_the_square_of_margin_times_the_longer_side_around_the_face() -> None:
    assert crop_box(face(100, 50, 140, 150)) == Box(55, 35, 185, 165)
    pixels = mosaic(300, 200)
    np.testing.assert_array_equal(crop(pixels, face(100, 50, 140, 150)), pixels[35:165, 55:185])


def test_a_crop_beyond_the_picture_is_mirrored() -> None:
    pixels = mosaic(60, 60)
    cropped = crop(pixels, face(0, 10, 40, 50))
    assert cropped.shape == (52, 52, 3)
    np.testing.assert_array_equal(cropped[:, 6:], pixels[4:56, :46])
    np.testing.assert_array_equal(cropped[:, 5], pixels[4:56, 1])


def test_a_face_of_a_ninth_of_the_picture_is_cropped_and_a_smaller_one_is_not() -> None:
    pixels = mosaic(90, 90)
    at = face_or_whole(pixels, [face(30, 30, 60, 60)])
    assert at.box == crop_box(face(30, 30, 60, 60))
    assert at.pixels.shape == (39, 39, 3)
    assert at.reason == ""
    below = face_or_whole(pixels, [face(30, 30, 60, 59)])
    assert below.box is None
    assert below.pixels is pixels
    assert "10.7%" in below.reason
    assert "11.1%" in below.reason


def test_without_a_face_the_picture_is_kept_and_the_reason_says_so() -> None:
    view = face_or_whole(mosaic(90, 90), [])
    assert view.reason == "no face found"
    assert view.pixels.shape == (90, 90, 3)


def test_of_several_faces_the_largest_is_shown() -> None:
    view = face_or_whole(mosaic(90, 90), [face(0, 0, 10, 10, 0.99), face(20, 20, 80, 80, 0.91)])
    assert view.box == crop_box(face(20, 20, 80, 80))
