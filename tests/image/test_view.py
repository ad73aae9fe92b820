"""A view cuts the same pixels everywhere, and rescales them only where it shows all of a picture or face."""

from __future__ import annotations

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from assay.image.cut import cut
from assay.image.faces import Face
from assay.image.view import IMAGENET_MEAN, IMAGENET_STD, View
from assay.types import Box, Pixels


def numbered(width: int, height: int) -> Pixels:
    """A picture whose every pixel says where it is: red = column, green = row."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([columns % 256, rows % 256, (columns // 256) * 16 + rows // 256], axis=2).astype(np.uint8)


def test_a_centre_crop_is_the_middle_of_the_picture_untouched() -> None:
    picture = numbered(500, 300)
    (crop,) = View(size=224, layout="centre").crops(picture)
    np.testing.assert_array_equal(crop, picture[38:262, 138:362])


def test_a_grid_reaches_all_edges_row_by_row() -> None:
    view = View(size=100, layout="grid", across=3)
    boxes = view.boxes(300, 200)
    assert [(box.left, box.top) for box in boxes] == [(0, 0), (100, 0), (200, 0), (0, 100), (100, 100), (200, 100)]
    assert max(box.right for box in boxes) == 300
    assert max(box.bottom for box in boxes) == 200


def test_a_grid_takes_one_crop_for_about_every_size_pixels_and_at_most_across() -> None:
    view = View(size=100, layout="grid", across=3)
    counts = {width: len(view.boxes(width, 100)) for width in (100, 149, 151, 249, 251, 10_000)}
    assert counts == {100: 1, 149: 1, 151: 2, 249: 2, 251: 3, 10_000: 3}


def test_crops_lie_where_the_boxes_say() -> None:
    view, picture = View(size=64, layout="grid", across=4), numbered(300, 170)
    crops, boxes = view.crops(picture), view.boxes(300, 170)
    assert len(crops) == len(boxes)
    for crop, box in zip(crops, boxes, strict=True):
        np.testing.assert_array_equal(crop, picture[box.top : box.bottom, box.left : box.right])


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["centre", "grid"]),
    *(st.integers(low, high) for low, high in ((8, 90), (1, 5), (1, 130), (1, 130))),
)
def test_crops_read_nothing_but_what_is_needed(layout: str, size: int, across: int, width: int, height: int) -> None:
    view = View(size=size, layout=layout, across=across, minimum=1)  # type: ignore[arg-type]
    picture, sparse = numbered(width, height), np.full((height, width, 3), 255, np.uint8)
    needed = view.needed(width, height)
    assert needed is not None
    for box in needed:
        assert 0 <= box.left < box.right <= width
        assert 0 <= box.top < box.bottom <= height
        sparse[box.top : box.bottom, box.left : box.right] = picture[box.top : box.bottom, box.left : box.right]
    np.testing.assert_array_equal(view.crops(sparse), view.crops(picture))


@pytest.mark.parametrize("layout", ["whole", "faces"])
def test_a_view_of_the_whole_or_of_faces_needs_all(layout: str) -> None:
    assert View(size=32, layout=layout).needed(500, 300) is None  # type: ignore[arg-type]


def test_a_small_picture_is_mirrored_without_repeating_its_edge() -> None:
    row = np.arange(5, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    mirrored = cut(row, Box(-3, 0, 9, 1))
    assert mirrored[0, :, 0].tolist() == [3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1, 0]


def test_a_picture_below_the_minimum_does_not_apply_and_one_at_it_does() -> None:
    view = View(size=128, minimum=32)
    assert "31 x 500" in view.why_not(31, 500)
    assert "32 px" in view.why_not(31, 500)
    assert view.why_not(32, 32) == ""


@settings(deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 40), st.sampled_from(["centre", "grid"]))
def test_every_size_of_picture_gives_whole_crops_of_its_own_pixels(w: int, h: int, size: int, layout: str) -> None:
    view = View.model_validate({"size": size, "layout": layout})
    picture = numbered(w, h)
    crops = view.crops(picture)
    assert crops.shape == (len(view.boxes(w, h)), size, size, 3)
    assert {tuple(p) for p in crops.reshape(-1, 3)} <= {tuple(p) for p in picture.reshape(-1, 3)}


def test_a_crop_is_a_copy_so_that_the_picture_can_be_dropped() -> None:
    picture = numbered(300, 300)
    assert not np.shares_memory(View(size=100).crops(picture), picture)


def test_the_tensor_is_the_crops_scaled_and_normalised_channel_first() -> None:
    view = View(size=8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))
    crops = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    expected = (crops.astype(np.float64) / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.25, 0.5]
    tensor = view.tensor(crops)
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor, expected.transpose(0, 3, 1, 2), atol=1e-6)


def test_a_view_survives_json_to_the_bit_and_refuses_unknown_fields() -> None:
    view = View(size=128, layout="grid", across=5, mean=(0.1, 0.2, 0.3))
    again = View.model_validate_json(view.model_dump_json())
    assert again == view
    picture = numbered(200, 333)
    np.testing.assert_array_equal(again.tensor(again.crops(picture)), view.tensor(view.crops(picture)))
    with pytest.raises(pydantic.ValidationError, match="resize"):
        View.model_validate({"size": 128, "resize": 256})


# ── all of a picture


def face(left: int, top: int, right: int, bottom: int, score: float = 0.99) -> Face:
    return Face(Box(left, top, right, bottom), score, ((0, 0), (0, 0), (0, 0), (0, 0), (0, 0)))


def resized(pixels: Pixels, size: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))


def test_the_whole_picture_is_resized_to_a_square_whatever_its_sides() -> None:
    view = View(size=64, layout="whole")
    for width, height in ((100, 40), (40, 100), (64, 65), (200, 200)):
        picture = numbered(width, height)
        assert view.boxes(width, height) == (Box(0, 0, width, height),)
        (crop,) = view.crops(picture)
        np.testing.assert_array_equal(crop, resized(picture, 64))
    # Its left half is the left half of the crop, its right one the right.
    halves = np.zeros((40, 100, 3), np.uint8)
    halves[:, 50:] = 200
    (crop,) = view.crops(halves)
    assert (crop[:, :28].max(), crop[:, 36:].min()) == (0, 200)


def test_a_whole_picture_of_the_right_size_is_not_touched() -> None:
    picture = numbered(64, 64)
    (crop,) = View(size=64, layout="whole").crops(picture)
    np.testing.assert_array_equal(crop, picture)
    assert not np.shares_memory(crop, picture)


def test_a_picture_that_shrinks_is_averaged_and_not_sampled() -> None:
    checks = np.indices((256, 256)).sum(axis=0) % 2 * 255
    (crop,) = View(size=32, layout="whole").crops(checks[:, :, None].repeat(3, axis=2).astype(np.uint8))
    assert np.abs(crop.astype(int) - 127).max() <= 8


def test_a_picture_of_which_too_little_is_there_is_not_blown_up() -> None:
    view = View(size=64, layout="whole", minimum=48)
    assert view.why_not(47, 500) == "the picture is 47 x 500 px; this detector needs 48 px on the shorter side"
    assert view.why_not(48, 48) == ""
    assert view.crops(numbered(48, 48)).shape == (1, 64, 64, 3)


def test_only_views_of_the_whole_are_resized() -> None:
    layouts = {layout: View.model_validate({"layout": layout}) for layout in ("centre", "grid", "whole", "faces")}
    assert {name: view.resized for name, view in layouts.items()} == {
        "centre": False,
        "grid": False,
        "whole": True,
        "faces": True,
    }
    # Faces that were found beside are nothing to a view of anything else.
    for name in ("centre", "grid", "whole"):
        view, picture = layouts[name], numbered(300, 260)
        assert view.boxes(300, 260, [face(0, 0, 90, 90)]) == view.boxes(300, 260)
        np.testing.assert_array_equal(view.crops(picture, [face(0, 0, 90, 90)]), view.crops(picture))


# ── faces


def test_each_face_is_a_square_about_its_middle_face_by_face() -> None:
    faces = (face(100, 80, 140, 120), face(20, 30, 40, 70, 0.91))
    view = View(size=64, layout="faces", minimum=1)
    # 1.3 times 40 px, the longer side of both; the second one's middle is (30, 50).
    assert view.boxes(300, 200, faces) == (Box(94, 74, 146, 126), Box(4, 24, 56, 76))
    assert view.boxes(300, 200, faces[::-1]) == (Box(4, 24, 56, 76), Box(94, 74, 146, 126))
    wider = view.model_copy(update={"margin": 2.0})
    assert wider.boxes(300, 200, faces[:1]) == (Box(80, 60, 160, 140),)


def test_a_face_is_cut_as_it_is_and_then_resized() -> None:
    picture, faces = numbered(300, 200), (face(100, 80, 140, 120), face(110, 80, 210, 180))
    crops = View(size=52, layout="faces").crops(picture, faces)
    assert crops.shape == (2, 52, 52, 3)
    np.testing.assert_array_equal(crops[0], picture[74:126, 94:146])
    # The second is 100 px, seen in 130.
    np.testing.assert_array_equal(crops[1], resized(np.ascontiguousarray(picture[65:195, 95:225]), 52))


def test_where_a_faces_square_reaches_beyond_the_picture_the_picture_is_mirrored() -> None:
    picture = numbered(300, 200)
    view = View(size=40, layout="faces", margin=2)
    assert view.boxes(300, 200, [face(0, 0, 20, 20)]) == (Box(-10, -10, 30, 30),)
    (crop,) = view.crops(picture, [face(0, 0, 20, 20)])
    np.testing.assert_array_equal(crop[10:, 10:], picture[:30, :30])
    np.testing.assert_array_equal(crop[10:, :10], picture[:30, 10:0:-1])
    np.testing.assert_array_equal(crop[:10, 10:], picture[10:0:-1, :30])
    (crop,) = view.crops(picture, [face(280, 180, 300, 200)])
    np.testing.assert_array_equal(crop[:30, :30], picture[170:, 270:])
    np.testing.assert_array_equal(crop[:30, 30:], picture[170:, 298:288:-1])


def test_faces_that_cover_too_little_are_left_out_and_one_that_covers_just_enough_is_not() -> None:
    view = View(size=64, layout="faces", least=1 / 9, minimum=1)
    # Of 9000 px a ninth is 1000.
    faces = (face(10, 10, 50, 34), face(10, 50, 50, 75), face(60, 10, 100, 60))
    assert [box.height for box in view.boxes(100, 90, faces)] == [52, 65]
    assert view.boxes(100, 90, faces[:1]) == ()


def test_faces_seen_in_too_few_pixels_are_left_out() -> None:
    view = View(size=64, layout="faces", minimum=40)
    # 30 px make a square of 39 px, 31 px one of 40.
    faces = (face(10, 10, 40, 40), face(50, 10, 81, 30))
    assert [box.width for box in view.boxes(100, 90, faces)] == [40]
    assert view.boxes(100, 90, faces[:1]) == ()


def test_a_picture_without_a_face_to_show_does_not_apply_and_the_reason_says_which_it_is() -> None:
    view = View(size=64, layout="faces", least=1 / 9, minimum=40)
    reasons = {
        (): "no face found",
        (face(0, 0, 30, 30),): "the largest face covers 10.0% of the picture; this stream needs 11.1%",
        (face(0, 0, 10, 10), face(0, 0, 30, 30, 0.9)): "the largest face covers 10.0% of the picture; "
        "this stream needs 11.1%",
    }
    for faces, reason in reasons.items():
        assert view.why_not(100, 90, faces) == reason
        assert view.boxes(100, 90, faces) == ()
    assert view.why_not(50, 50, [face(0, 0, 25, 30)]) == "the largest face is seen in 39 px; this stream needs 40 px"
    assert view.why_not(39, 50, [face(0, 0, 39, 50)]).startswith("the picture is 39 x 50 px")
    assert view.why_not(100, 90, [face(0, 0, 50, 50)]) == ""
    # One that can be shown is enough.
    assert view.why_not(100, 90, [face(0, 0, 10, 10), face(0, 0, 50, 50)]) == ""


def test_where_nothing_is_shown_there_is_no_crop() -> None:
    view = View(size=64, layout="faces")
    crops = view.crops(numbered(100, 90))
    assert (crops.shape, crops.dtype) == ((0, 64, 64, 3), np.uint8)
    assert view.tensor(crops).shape == (0, 3, 64, 64)


def test_the_picture_stands_in_for_faces_only_where_that_is_asked_for_and_none_can_be_shown() -> None:
    view = View(size=64, layout="faces", least=1 / 9, minimum=40, fallback=True)
    whole, picture = Box(0, 0, 100, 90), numbered(100, 90)
    for faces in ((), (face(0, 0, 30, 30),), (face(0, 0, 30, 30), face(20, 0, 50, 30))):
        assert view.boxes(100, 90, faces) == (whole,)
        assert view.why_not(100, 90, faces) == ""
        np.testing.assert_array_equal(view.crops(picture, faces)[0], resized(picture, 64))
    assert view.boxes(100, 90, [face(0, 0, 30, 30), face(20, 20, 60, 60)]) == (Box(14, 14, 66, 66),)
    assert view.why_not(39, 90).startswith("the picture is 39 x 90 px")


@settings(deadline=None)
@given(
    st.integers(1, 60), st.integers(1, 60), st.floats(1, 4), st.lists(st.tuples(*[st.integers(0, 59)] * 4), max_size=3)
)
def test_every_face_gives_a_square_of_the_pictures_pixels(
    w: int, h: int, margin: float, corners: list[tuple[int, ...]]
) -> None:
    edges = [(min(a, b), min(c, d), max(a, b) + 1, max(c, d) + 1) for a, b, c, d in corners]
    faces = [face(min(a, w - 1), min(c, h - 1), min(b, w), min(d, h)) for a, c, b, d in edges]
    view = View(size=8, layout="faces", margin=margin, minimum=1)
    boxes = view.boxes(w, h, faces)
    assert len(boxes) == len(faces)
    for box, found in zip(boxes, faces, strict=True):
        longer = max(found.box.width, found.box.height)
        assert box.width == box.height == max(1, round(margin * longer))
        # Off its middle by half a pixel at most.
        assert abs(box.left + box.right - found.box.left - found.box.right) <= 1
    assert view.crops(numbered(w, h), faces).shape == (len(faces), 8, 8, 3)


def test_a_region_that_was_cut_for_a_view_is_all_that_the_view_of_regions_shows() -> None:
    picture, faces = numbered(300, 200), (face(100, 80, 140, 120), face(10, 20, 110, 140))
    for layout in ("whole", "faces", "grid"):
        view = View.model_validate({"size": 64, "layout": layout, "across": 3, "least": 0.01})
        region = view.of_region()
        assert region == view.model_copy(update={"layout": "centre" if layout == "grid" else "whole"})
        for crop, box in zip(view.crops(picture, faces), view.boxes(300, 200, faces), strict=True):
            np.testing.assert_array_equal(region.crops(cut(picture, box))[0], crop)


@pytest.mark.parametrize("layout", ["whole", "faces"])
def test_a_view_of_the_whole_survives_json_to_the_bit(layout: str) -> None:
    told = {"size": 96, "layout": layout, "margin": 1.7, "least": 1 / 9, "fallback": True, "minimum": 20}
    view = View.model_validate(told)
    again = View.model_validate_json(view.model_dump_json())
    assert again == view
    assert hash(again) == hash(view)
    assert again.least == 1 / 9
    picture, faces = numbered(200, 150), (face(10, 20, 100, 99), face(0, 0, 20, 20))
    np.testing.assert_array_equal(again.tensor(again.crops(picture, faces)), view.tensor(view.crops(picture, faces)))


def test_a_view_written_before_there_were_faces_is_read_as_it_was() -> None:
    mean, std = list(IMAGENET_MEAN), list(IMAGENET_STD)
    old = {"size": 100, "layout": "grid", "across": 3, "minimum": 32, "mean": mean, "std": std}
    view = View.model_validate(old)
    assert view == View(size=100, layout="grid", across=3)
    assert (view.margin, view.least, view.fallback, view.resized) == (1.3, 0, False, False)
    assert len(view.boxes(300, 200)) == 6


@pytest.mark.parametrize("field", [{"margin": 0.9}, {"margin": 4.1}, {"least": -0.1}, {"least": 1.1}, {"layout": "x"}])
def test_a_view_that_does_not_hold_is_refused(field: dict[str, object]) -> None:
    with pytest.raises(pydantic.ValidationError, match=next(iter(field))):
        View.model_validate(field)
