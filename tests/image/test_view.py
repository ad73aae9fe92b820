"""A view cuts the same pixels everywhere, and never rescales them."""

from __future__ import annotations

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.image.cut import cut
from assay.image.view import View
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


def test_a_small_picture_is_mirrored_without_repeating_its_edge() -> None:
    row = np.arange(5, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    mirrored = cut(row, Box(-3, 0, 9, 1))
    assert mirrored[0, :, 0].tolist() == [3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1, 0]


def test_a_picture_below_the_minimum_does_not_apply_and_one_at_it_does() -> None:
    view = View(size=128, minimum=32)
    assert "31 x 500" in view.why_not(31, 500)
    assert "32 px" in view.why_not(31, 500)
    assert view.why_not(32, 32) == ""


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
