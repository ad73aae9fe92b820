"""Heat over a picture: colours in an order that eyes see, and no more of them than the map asks for."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from skimage.color import rgb2lab

from assay.judge.heat import ANCHORS, DIM, colours, grey, layer, overlay, png
from assay.types import Pixels


def picture(width: int = 40, height: int = 30) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_more_is_lighter_all_the_way_and_by_no_jump() -> None:
    shades = rgb2lab(colours(np.linspace(0, 1, 256, dtype=np.float32))[None] / 255.0)[0]
    steps = np.diff(shades[:, 0])
    assert steps.min() > -0.35
    assert (np.diff(shades[::8, 0]) > 0.5).all()
    assert steps.max() < 1.5
    assert shades[-1, 0] - shades[0, 0] > 75


def test_the_ends_are_the_first_and_the_last_anchor_and_nothing_lies_beyond() -> None:
    found = colours(np.array([[-1, 0, 1, 7]], np.float32))
    assert found.dtype == np.uint8
    assert found[0].tolist() == [list(ANCHORS[0]), list(ANCHORS[0]), list(ANCHORS[-1]), list(ANCHORS[-1])]


def test_where_nothing_lies_the_picture_shows_in_grey_and_what_was_not_seen_is_dim() -> None:
    pixels, map, seen = picture(), np.zeros((30, 40), np.float32), np.ones((30, 40), np.bool_)
    map[:, 20:], seen[:10] = 1, False
    found = overlay(pixels, map, seen, strength=1)
    luma = np.asarray(Image.fromarray(pixels).convert("L"))
    assert np.array_equal(found[10:, :20], np.repeat(luma[10:, :20, None], 3, axis=-1))
    assert (found[10:, 20:] == ANCHORS[-1]).all()
    dim = luma[:10, :, None].astype(float) * (1 - DIM)
    assert np.abs(found[:10] - dim).max() <= 0.5


def test_half_a_strength_lets_half_of_the_picture_through() -> None:
    pixels = np.full((8, 8, 3), 100, np.uint8)
    found = overlay(pixels, np.ones((8, 8), np.float32), np.ones((8, 8), np.bool_), strength=0.5)
    assert np.abs(found - (50 + np.array(ANCHORS[-1]) / 2)).max() <= 0.5


def test_large_pictures_are_shrunk_with_their_maps() -> None:
    map = np.zeros((30, 4100), np.float32)
    map[:, 2050:] = 1
    found = overlay(picture(4100), map, np.ones((30, 4100), np.bool_), strength=1)
    assert found.shape == (15, 2048, 3)
    assert (found[:, 1024:] == ANCHORS[-1]).all()
    assert grey(picture(4100), 410).shape == (3, 410)
    assert grey(picture(), 410).shape == (30, 40)


def test_a_layer_is_as_opaque_as_its_value_or_everywhere_and_a_shadow_where_nothing_is() -> None:
    map = np.array([[0, 0.5, 1, np.nan]], np.float32)
    found = layer(map, 100)
    assert found[0, :, 3].tolist() == [0, 128, 255, round(255 * DIM)]
    assert found[0, 3, :3].tolist() == [0, 0, 0]
    assert layer(map, 100, even=True)[0, :, 3].tolist() == [255, 255, 255, round(255 * DIM)]
    assert layer(np.ones((40, 400), np.float32), 100).shape == (10, 100, 4)


def test_a_png_gives_the_pixels_back() -> None:
    for pixels in (picture(), picture()[..., 0], layer(np.ones((3, 5), np.float32), 9)):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(pixels)))), pixels)
