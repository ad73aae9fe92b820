"""Alignment: the same draw for every picture, and codecs that do what their options say."""

from __future__ import annotations

import collections
import dataclasses
import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, JpegImagePlugin
from skimage import data

from assay.errors import InputError, RecipeError
from assay.image.align import Align, Subsampling, codec_round_trip, encode
from assay.types import Pixels

PHOTO: Pixels = data.astronaut()[40:341, 60:449]
ALWAYS = Align(probability=1, scale_probability=1)


@pytest.mark.parametrize("codec", ["JPEG", "WEBP"])
def test_a_better_quality_takes_more_bytes_and_keeps_more(codec: str) -> None:
    qualities = (5, 20, 40, 60, 80, 95)
    sizes = [len(encode(PHOTO, codec, quality)) for quality in qualities]
    errors = [np.abs(codec_round_trip(PHOTO, codec, quality).astype(int) - PHOTO).mean() for quality in qualities]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == len(sizes)
    assert errors == sorted(errors, reverse=True)
    assert 0 < errors[-1] < 4


@pytest.mark.parametrize("codec", ["JPEG", "WEBP", "PNG"])
def test_a_codec_writes_its_own_format_and_reads_back_the_same_shape(codec: str) -> None:
    image = Image.open(io.BytesIO(encode(PHOTO, codec, 90)))
    assert image.format == codec
    out = codec_round_trip(PHOTO, codec, 90)
    np.testing.assert_array_equal(out, np.asarray(image.convert("RGB")))
    assert out.flags.writeable
    assert not np.shares_memory(out, PHOTO)


@pytest.mark.parametrize("quality", [1, 100])
def test_png_keeps_every_pixel_whatever_the_quality(quality: int) -> None:
    np.testing.assert_array_equal(codec_round_trip(PHOTO, "PNG", quality), PHOTO)


@pytest.mark.parametrize(("subsampling", "code"), [("4:4:4", 0), ("4:2:2", 1), ("4:2:0", 2)])
def test_the_file_has_the_subsampling_that_was_asked_for(subsampling: Subsampling, code: int) -> None:
    image = Image.open(io.BytesIO(encode(PHOTO, "JPEG", 80, subsampling=subsampling)))
    assert JpegImagePlugin.get_sampling(image) == code


def test_the_methods_of_webp_differ() -> None:
    assert encode(PHOTO, "WEBP", 80, method=0) != encode(PHOTO, "WEBP", 80, method=4)


def test_an_unknown_codec_is_answered_with_the_nearest_known_ones() -> None:
    with pytest.raises(RecipeError, match="no codec called 'JPG'; did you mean JPEG"):
        codec_round_trip(PHOTO, "JPG", 80)


@pytest.mark.parametrize("quality", [0, 101])
def test_a_quality_out_of_range_is_refused(quality: int) -> None:
    with pytest.raises(RecipeError, match="give 1 to 100"):
        encode(PHOTO, "JPEG", quality)


def test_a_picture_too_large_for_the_codec_is_that_pictures_own_error() -> None:
    long = np.zeros((2, 16_384, 3), np.uint8)
    with pytest.raises(InputError, match="at most 16383 px a side and the picture has 16384×2") as caught:
        codec_round_trip(long, "WEBP", 80)
    assert caught.value.kind == "unsupported"
    assert codec_round_trip(long, "JPEG", 80).shape == long.shape


def test_the_draw_does_not_look_at_the_picture() -> None:
    # What follows in the generator's stream is the same whatever came in, whether it was aligned or not.
    small = np.zeros((70, 90, 3), np.uint8)
    for seed in range(50):
        first, second = np.random.default_rng(seed), np.random.default_rng(seed)
        large_out, small_out = Align()(PHOTO, first), Align()(small, second)
        assert first.bit_generator.state == second.bit_generator.state
        scale = Align().draw(np.random.default_rng(seed)).scale or 1.0
        assert large_out.shape[:2] == (round(301 * scale), round(389 * scale))
        least = max(scale, min(1.0, 64 / 70))
        assert small_out.shape[:2] == (round(70 * least), round(90 * least))


def test_the_same_seed_gives_the_same_pixels() -> None:
    for seed in range(10):
        out = Align()(PHOTO, np.random.default_rng(seed))
        np.testing.assert_array_equal(out, Align()(PHOTO, np.random.default_rng(seed)))
        np.testing.assert_array_equal(out, Align().draw(np.random.default_rng(seed)).apply(PHOTO, minimum=64))


def test_draws_follow_the_stated_chances_and_use_every_choice() -> None:
    rng = np.random.default_rng(0)
    draws = [Align().draw(rng) for _ in range(4_000)]
    aligned = [draw for draw in draws if draw.codec is not None]
    scaled = [draw for draw in draws if draw.scale is not None]
    # Four standard deviations.
    assert len(aligned) / len(draws) == pytest.approx(0.8, abs=0.026)
    assert len(scaled) / len(aligned) == pytest.approx(0.5, abs=0.036)
    assert all(draw.codec is not None for draw in scaled)
    for field, choices in [("codec", 2), ("subsampling", 3), ("method", 5), ("filter", 4), ("quality", 49)]:
        counts = collections.Counter(getattr(draw, field) for draw in aligned)
        assert len(counts) == choices
        assert max(counts.values()) < 1.6 * min(counts.values()) or field == "quality"
    assert {draw.quality for draw in aligned} == set(range(50, 99))
    scales = np.array([draw.scale for draw in scaled])
    assert 0.5 <= scales.min() < 0.51
    assert 1.09 < scales.max() <= 1.1


def test_an_alignment_left_out_changes_nothing_and_hands_out_a_copy() -> None:
    out = Align(probability=0)(PHOTO, np.random.default_rng(0))
    np.testing.assert_array_equal(out, PHOTO)
    assert not np.shares_memory(out, PHOTO)


def test_an_alignment_is_the_resize_and_then_the_codec() -> None:
    drawn = ALWAYS.draw(np.random.default_rng(4))
    assert drawn.scale is not None
    assert drawn.codec is not None
    size = (round(389 * drawn.scale), round(301 * drawn.scale))
    resized = np.array(Image.fromarray(PHOTO).resize(size, drawn.filter))
    expected = codec_round_trip(resized, drawn.codec, drawn.quality, subsampling=drawn.subsampling, method=drawn.method)
    np.testing.assert_array_equal(ALWAYS(PHOTO, np.random.default_rng(4)), expected)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 300), width=st.integers(1, 300), seed=st.integers(0, 2**32 - 1))
@example(height=1, width=1, seed=0)
@example(height=1, width=500, seed=0)
def test_scaling_takes_no_side_below_the_minimum_and_leaves_small_pictures_as_small(
    height: int, width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (height, width, 3), np.uint8)
    before = picture.copy()
    out = ALWAYS(picture, rng)
    assert out.dtype == np.uint8
    assert min(out.shape[:2]) >= min(64, height, width)
    assert out.shape[0] <= round(1.1 * height)
    assert out.shape[1] <= round(1.1 * width)
    np.testing.assert_array_equal(picture, before)


def blockiness(pixels: Pixels) -> float:
    """How much more neighbours differ across JPEG's 8 px grid than within its blocks."""
    steps = np.abs(np.diff(pixels.mean(axis=-1), axis=1))
    columns = [steps[:, start::8].mean() for start in range(8)]
    return float(columns[7] / np.mean(columns[:7]))


def test_alignment_hides_which_class_came_as_jpeg() -> None:
    # The shortcut: the same pictures, once saved as JPEG ("reals"), once as PNG ("fakes"). Only the grid differs.
    photo = data.astronaut()
    fakes = [photo[y : y + 128, x : x + 128] for y in range(0, 384, 48) for x in range(0, 384, 48)]
    reals = [codec_round_trip(fake, "JPEG", 75) for fake in fakes]

    def auc(positive: list[Pixels], negative: list[Pixels]) -> float:
        high, low = ([blockiness(pixels) for pixels in pictures] for pictures in (positive, negative))
        return float(np.mean(np.subtract.outer(high, low) > 0))

    rng = np.random.default_rng(0)
    assert auc(reals, fakes) > 0.75
    assert auc([ALWAYS(real, rng) for real in reals], [ALWAYS(fake, rng) for fake in fakes]) < 0.62


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"probability": 1.2}, "probability 1.2 is not a probability"),
        ({"scale_probability": -0.1}, "give 0 to 1"),
        ({"codecs": ()}, "name one"),
        ({"codecs": ("JPEG", "WEBB")}, "did you mean WEBP"),
        ({"quality": (90, 50)}, "within 1 to 100"),
        ({"quality": (0, 50)}, "within 1 to 100"),
        ({"scale": (0.0, 1.0)}, "both above 0"),
        ({"minimum": 0}, "give 1 or more"),
    ],
)
def test_values_that_do_not_hold_are_refused_with_what_would(values: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        dataclasses.replace(Align(), **values)  # type: ignore[arg-type]
