"""Each operation of the degradation engine does what it says, as strongly as it says, to a picture of any size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage, stats
from skimage import data
from skimage.util import random_noise

from assay.errors import RecipeError
from assay.image.align import codec_round_trip
from assay.image.damage import FILTERS, LONGEST_SIDE, OPERATIONS, line
from assay.types import Pixels

PHOTO: Pixels = data.astronaut()[40:241, 150:351]
"""201 × 201: odd sides, so that every rounding shows."""

GREY: Pixels = np.full((300, 300, 3), 128, np.uint8)

# At strength 1: every parameter and the bounds it must fill (the upper end of what the module's table says).
BOUNDS: dict[str, dict[str, tuple[float, float]]] = {
    "gaussian_blur": {"sigma_x": (0, math.sqrt(30)), "sigma_y": (0, math.sqrt(30))},
    "box_blur": {"side": (1, 29)},
    "motion_blur": {"length": (13, 13), "degrees": (0, 180)},
    "speckle": {"sigma": (2 / 255, 25 / 255), "grey": (0, 1)},
    "poisson": {"photons": (100, 100), "grey": (0, 1)},
    "salt_and_pepper": {"share": (0.1, 0.1)},
    "resize": {"factor": (0.25, 2), "filter": (0, 3)},
    "colour_shift": {"saturation": (0, 1), "red": (0.6, 1.4), "green": (0.6, 1.4), "blue": (0.6, 1.4)},
    "gaussian_noise": {"sigma": (2, 100), "grey": (0, 1)},
    "jpeg": {"quality": (10, 10)},
    "chroma_subsampling": {"columns": (2, 2), "rows": (2, 2)},
    "banding": {"levels": (16, 16)},
    "over_enhancement": {"brightness": (0.02, 2.5), "contrast": (0.1, 1.5)},
    "chromatic_aberration": {"shift": (4, 4)},
    "moire": {"share": (0.15, 0.15), "frequency": (0.5, 3), "degrees": (0, 180)},
    "glitch": {"bands": (10, 10), "thickness": (8, 8), "reach": (30, 30)},
    "vignette": {"depth": (0.8, 0.8)},
    "text": {"height": (0, 0.7), "length": (1, 10), "x": (0, 1), "y": (0, 1)},
    "patch": {"width": (0.08, 0.4), "aspect": (0.8, 1.2), "x": (0, 1), "y": (0, 1)},
}


def changed(name: str, pixels: Pixels, strength: float, seed: int) -> Pixels:
    operation = OPERATIONS[name]
    return operation.apply(pixels, operation.draw(np.random.default_rng(seed), strength))


def distance(name: str, strength: float, seeds: int = 12) -> float:
    """Mean absolute change of a value over some seeds; a resized picture is brought back first."""
    found = 0.0
    for seed in range(seeds):
        after = Image.fromarray(changed(name, PHOTO, strength, seed)).resize(PHOTO.shape[1::-1], 3)
        found += np.abs(np.asarray(after).astype(float) - PHOTO).mean()
    return found / seeds


def difference(before: Pixels, after: Pixels) -> npt.NDArray[Any]:
    return after.astype(int) - before


def rms(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    return float(np.sqrt(np.mean((one.astype(float) - other) ** 2)))


def test_the_operations_are_those_of_the_engine() -> None:
    assert list(OPERATIONS) == list(BOUNDS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_strength_0_leaves_the_picture_nearly_as_it_was_and_more_strength_does_more(name: str) -> None:
    nothing, some, most = (distance(name, strength) for strength in (0.0, 0.4, 1.0))
    # Saving at quality 95 and the noise of 10,000 photons are all that is left; the rest leaves every value.
    assert nothing <= {"jpeg": 2.5, "poisson": 2.0}.get(name, 0.0)
    assert nothing < some < most
    assert most > 0.8


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 5), (64, 64)])
def test_an_operation_takes_any_size_and_leaves_its_input_alone(name: str, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    pixels.setflags(write=False)
    before = pixels.copy()
    for seed, strength in enumerate((0.0, 0.3, 0.7, 1.0, 1.0, 1.0)):
        after = changed(name, pixels, strength, seed)
        assert after.dtype == np.uint8
        assert after.flags.writeable
        assert not np.shares_memory(after, pixels)
        if name != "resize":
            assert after.shape == pixels.shape
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("name", OPERATIONS)
def test_drawn_parameters_fill_what_the_table_says_and_never_leave_it(name: str) -> None:
    operation, rng = OPERATIONS[name], np.random.default_rng(2)
    draws = [operation.draw(rng, 1.0) for _ in range(3_000)]
    assert set(draws[0]) - {"seed"} == set(BOUNDS[name])
    for parameter, (low, high) in BOUNDS[name].items():
        values = [draw[parameter] for draw in draws]
        slack = 0.05 * (high - low)
        assert low - 1e-9 <= min(values) <= low + slack
        assert high - slack <= max(values) <= high + 1e-9


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_seed_at_two_strengths_differs_in_strength_alone(name: str) -> None:
    weak, strong = np.random.default_rng(3), np.random.default_rng(3)
    first, second = OPERATIONS[name].draw(weak, 0.2), OPERATIONS[name].draw(strong, 0.9)
    assert weak.random() == strong.random()
    for parameter in ("seed", "degrees", "frequency", "grey", "x", "y"):
        assert first.get(parameter) == second.get(parameter)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_same_parameters_give_the_same_pixels(name: str) -> None:
    np.testing.assert_array_equal(changed(name, PHOTO, 0.8, 4), changed(name, PHOTO, 0.8, 4))


@pytest.mark.parametrize("strength", [-0.1, 1.1, math.nan])
def test_a_strength_beyond_its_bounds_is_refused(strength: float) -> None:
    with pytest.raises(RecipeError, match=r"strength .* of moire does not hold; give 0 to 1"):
        OPERATIONS["moire"].draw(np.random.default_rng(0), strength)


@pytest.mark.parametrize(("x", "y"), [(0.5, 0.5), (0.3, 2.0), (1.3, 1.3), (2.0, 0.0), (4.0, 1.0), (5.4, 5.4)])
def test_a_gaussian_blur_is_the_gaussian_of_its_sigmas(x: float, y: float) -> None:
    ours = OPERATIONS["gaussian_blur"].apply(PHOTO, {"sigma_x": x, "sigma_y": y})
    exact = ndimage.gaussian_filter(PHOTO.astype(float), (y, x, 0), mode="nearest")
    # Rounding alone, once an axis, is 0.41.
    assert rms(ours, exact) < 0.75
    assert abs(difference(PHOTO, ours).mean()) < 0.3


def test_a_wide_picture_is_blurred_in_pieces_without_a_seam() -> None:
    wide = np.tile(PHOTO, (1, 12, 1))
    ours = OPERATIONS["gaussian_blur"].apply(wide, {"sigma_x": 2.0, "sigma_y": 3.0})
    assert np.abs(ours - ndimage.gaussian_filter(wide.astype(float), (3, 2, 0), mode="nearest")).max() < 4


def test_blurring_takes_high_frequencies_and_leaves_low_ones() -> None:
    spectrum = np.abs(np.fft.fft2(PHOTO[..., 1]))
    for name in ("gaussian_blur", "box_blur"):
        parameters = {"sigma_x": 3.0, "sigma_y": 3.0} if name == "gaussian_blur" else {"side": 9}
        after = np.abs(np.fft.fft2(OPERATIONS[name].apply(PHOTO, parameters)[..., 1]))
        assert after[60:140, 60:140].sum() < 0.2 * spectrum[60:140, 60:140].sum()
        assert after[0, 0] == pytest.approx(spectrum[0, 0], rel=0.01)


@pytest.mark.parametrize("side", [1, 3, 9, 29])
def test_a_box_blur_is_the_mean_of_its_box(side: int) -> None:
    exact = ndimage.uniform_filter(PHOTO.astype(float), (side, side, 0), mode="nearest")
    assert rms(OPERATIONS["box_blur"].apply(PHOTO, {"side": side}), exact) < 0.5


@pytest.mark.parametrize("length", [1, 2, 5, 13, 40])
@pytest.mark.parametrize("degrees", [0.0, 30.0, 45.0, 90.0, 137.0])
def test_motion_blur_is_the_convolution_with_its_line(length: int, degrees: float) -> None:
    picture, points, reach = PHOTO[:70, :90], line(length, degrees), length
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1, 1))
    for row, column in points:
        # Convolution turns a kernel round; the picture is read where the line lies.
        kernel[reach - row, reach - column] += 1 / len(points)
    exact = ndimage.convolve(picture.astype(float), kernel, mode="reflect")
    ours = OPERATIONS["motion_blur"].apply(picture, {"length": length, "degrees": degrees})
    assert np.abs(ours - exact).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("degrees", [0.0, 20.0, 45.0, 90.0, 135.0, 170.0])
def test_the_line_of_a_motion_blur_has_its_length_and_its_angle(degrees: float) -> None:
    points = np.array(line(31, degrees))
    (top, left), (bottom, right) = points[0], points[-1]
    assert math.hypot(top - bottom, left - right) == pytest.approx(30, abs=1.2)
    assert math.degrees(math.atan2(top - bottom, right - left)) % 180 == pytest.approx(degrees, abs=2)
    assert points.mean(axis=0) == pytest.approx((0, 0), abs=0.1)


def test_motion_blur_softens_along_its_angle_and_not_across() -> None:
    noise = np.random.default_rng(5).integers(0, 256, (120, 120, 3), dtype=np.uint8)
    level = OPERATIONS["motion_blur"].apply(noise, {"length": 13, "degrees": 0.0}).astype(float)
    assert np.abs(np.diff(level, axis=1)).mean() < 0.3 * np.abs(np.diff(level, axis=0)).mean()
    upright = OPERATIONS["motion_blur"].apply(noise, {"length": 13, "degrees": 90.0}).astype(float)
    assert np.abs(np.diff(upright, axis=0)).mean() < 0.3 * np.abs(np.diff(upright, axis=1)).mean()


@pytest.mark.parametrize("sigma", [2.0, 10.0, 25.5])
def test_gaussian_noise_is_normal_with_the_sigma_asked_for(sigma: float) -> None:
    noise = difference(GREY, OPERATIONS["gaussian_noise"].apply(GREY, {"sigma": sigma, "grey": 0, "seed": 6}))
    assert noise.mean() == pytest.approx(0, abs=5 * sigma / math.sqrt(noise.size))
    # Rounding to whole levels adds a variance of 1/12.
    assert noise.std() == pytest.approx(math.sqrt(sigma**2 + 1 / 12), rel=0.01)
    assert stats.kurtosis(noise.ravel()) == pytest.approx(0, abs=0.05)
    assert 3.9 * sigma < np.abs(noise).max() < 5 * sigma + 1


def test_noise_is_independent_between_pixels_and_channels_unless_it_is_grey() -> None:
    noise = difference(GREY, OPERATIONS["gaussian_noise"].apply(GREY, {"sigma": 20.0, "grey": 0, "seed": 7}))
    for one, other in (
        (noise[:, 1:], noise[:, :-1]),
        (noise[1:], noise[:-1]),
        (noise[..., 0], noise[..., 1]),
        (noise[:150], noise[150:]),
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.02
    grey = difference(GREY, OPERATIONS["gaussian_noise"].apply(GREY, {"sigma": 20.0, "grey": 1, "seed": 7}))
    assert (grey == grey[..., :1]).all()
    assert grey.std() == pytest.approx(20, rel=0.02)


@pytest.mark.parametrize("name", ["gaussian_noise", "speckle", "poisson", "salt_and_pepper", "glitch", "text"])
def test_another_seed_changes_other_pixels(name: str) -> None:
    operation = OPERATIONS[name]
    parameters = operation.draw(np.random.default_rng(8), 1.0)
    first, second = (operation.apply(PHOTO, {**parameters, "seed": seed}) for seed in (1, 2))
    assert (first != second).any()


@pytest.mark.parametrize("value", [0, 40, 128, 200])
def test_speckle_grows_with_the_value(value: int) -> None:
    flat = np.full((300, 300, 3), value, np.uint8)
    noise = difference(flat, OPERATIONS["speckle"].apply(flat, {"sigma": 0.09, "grey": 0, "seed": 9}))
    assert noise.std() == pytest.approx(math.sqrt((0.09 * value) ** 2 + (value > 0) / 12), rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.15)
    grey = difference(flat, OPERATIONS["speckle"].apply(flat, {"sigma": 0.09, "grey": 1, "seed": 9}))
    assert (grey == grey[..., :1]).all()


@pytest.mark.parametrize("photons", [100.0, 700.0, 10_000.0])
@pytest.mark.parametrize("value", [3, 51, 128])
def test_poisson_noise_has_the_counts_of_a_poisson_distribution(value: int, photons: float) -> None:
    flat = np.full((300, 300, 3), value, np.uint8)
    after = OPERATIONS["poisson"].apply(flat, {"photons": photons, "grey": 0, "seed": 10})
    mean = value * photons / 255
    # What 8 bits hold of the counts: their level, rounded and cut.
    counts = np.arange(int(mean + 12 * math.sqrt(mean) + 12))
    expected = np.bincount(
        np.clip(np.rint(counts * 255 / photons), 0, 255).astype(int), stats.poisson.pmf(counts, mean), 256
    )
    levels = np.arange(256)
    centre = (expected * levels).sum()
    spread = math.sqrt((expected * (levels - centre) ** 2).sum())
    assert after.mean() == pytest.approx(centre, abs=0.05 * max(spread, 1))
    assert after.std() == pytest.approx(spread, rel=0.04, abs=0.05)
    found = np.bincount(after.ravel(), minlength=256) / after.size
    assert np.abs(np.cumsum(found) - np.cumsum(expected)).max() < 0.04


def test_poisson_noise_by_the_luma_is_alike_in_all_channels() -> None:
    coloured = np.tile(np.array([90, 128, 160], np.uint8), (200, 200, 1))
    noise = difference(coloured, OPERATIONS["poisson"].apply(coloured, {"photons": 200.0, "grey": 1, "seed": 11}))
    assert (noise == noise[..., :1]).all()
    luma = 0.299 * 90 + 0.587 * 128 + 0.114 * 160
    assert noise.std() == pytest.approx(255 * math.sqrt(luma / 255 / 200), rel=0.03)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.4])
def test_salt_and_pepper_fall_on_as_many_pixels_as_in_scikit_image(share: float) -> None:
    ours = OPERATIONS["salt_and_pepper"].apply(GREY, {"share": share, "seed": 12})
    theirs = random_noise(GREY[..., 0], mode="s&p", amount=share, rng=12)
    assert (ours == ours[..., :1]).all()
    for value, level in ((0, 0.0), (255, 1.0)):
        assert (ours[..., 0] == value).mean() == pytest.approx((theirs == level).mean(), abs=0.004)
        assert (ours[..., 0] == value).mean() == pytest.approx(share / 2, abs=0.004)
    assert set(np.unique(ours)) <= {0, 128, 255}


@pytest.mark.parametrize("filter", range(len(FILTERS)))
def test_resizing_is_pillows(filter: int) -> None:
    for factor in (0.25, 0.7, 1.6):
        side = round(201 * factor)
        expected = np.array(Image.fromarray(PHOTO).resize((side, side), FILTERS[filter]))
        np.testing.assert_array_equal(OPERATIONS["resize"].apply(PHOTO, {"factor": factor, "filter": filter}), expected)


def test_no_side_is_shrunk_below_ten_or_enlarged_beyond_the_bound() -> None:
    def shape(height: int, width: int, factor: float) -> tuple[int, ...]:
        blank = np.zeros((height, width, 3), np.uint8)
        return OPERATIONS["resize"].apply(blank, {"factor": factor, "filter": 1}).shape[:2]

    assert shape(20, 40, 0.25) == (10, 20)
    assert shape(6, 40, 0.25) == (6, 40)
    assert shape(2, LONGEST_SIDE - 96, 2.0) == (2, LONGEST_SIDE)
    assert shape(2, LONGEST_SIDE + 4, 2.0) == (2, LONGEST_SIDE + 4)


def test_resizing_shrinks_seven_times_in_ten_and_half_of_that_by_the_nearest_pixel() -> None:
    rng = np.random.default_rng(13)
    draws = [OPERATIONS["resize"].draw(rng, 1.0) for _ in range(4_000)]
    factors = np.array([draw["factor"] for draw in draws])
    assert (factors < 1).mean() == pytest.approx(0.7, abs=0.03)
    assert (factors > 1).mean() == pytest.approx(0.2, abs=0.03)
    filters = np.array([draw["filter"] for draw in draws])
    assert (filters[factors < 1] == 0).mean() == pytest.approx(0.5, abs=0.04)
    assert (filters[factors > 1] != 0).all()


def test_jpeg_spans_the_qualities_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    assert [OPERATIONS["jpeg"].draw(rng, strength)["quality"] for strength in (0, 1)] == [95, 10]
    np.testing.assert_array_equal(changed("jpeg", PHOTO, 1.0, 0), codec_round_trip(PHOTO, "JPEG", 10))


@pytest.mark.parametrize(("columns", "rows"), [(2, 1), (2, 2)])
def test_chroma_subsampling_leaves_luma_and_halves_the_resolution_of_colour(columns: int, rows: int) -> None:
    # Muted, so that no colour is cut at 0 or 255.
    muted = (PHOTO // 3 + 80).astype(np.uint8)
    after = OPERATIONS["chroma_subsampling"].apply(muted, {"columns": columns, "rows": rows})
    planes, found = (np.asarray(Image.fromarray(p).convert("YCbCr")).astype(int) for p in (muted, after))
    assert np.abs(found - planes)[..., 0].max() <= 1
    for plane in (1, 2):
        blocks = found[:200, :200, plane].reshape(200 // rows, rows, 200 // columns, columns)
        assert (blocks.max((1, 3)) - blocks.min((1, 3))).max() <= 2
        original = planes[:200, :200, plane].reshape(blocks.shape)
        assert (original.max((1, 3)) - original.min((1, 3))).max() > 4
        assert np.abs(blocks.mean((1, 3)) - original.mean((1, 3))).max() <= 1.5


@pytest.mark.parametrize("levels", [16, 18, 100, 256])
def test_banding_leaves_so_many_levels_each_the_nearest(levels: int) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (2, 1, 3))
    banded = OPERATIONS["banding"].apply(ramp, {"levels": levels})
    assert len(np.unique(banded)) == levels
    assert (banded[:, 0] == 0).all()
    assert (banded[:, -1] == 255).all()
    assert np.abs(difference(ramp, banded)).max() <= 255 / (levels - 1) / 2 + 0.5


def test_a_colour_shift_greys_or_scales_channels() -> None:
    plain = {"saturation": 1.0, "red": 1.0, "green": 1.0, "blue": 1.0}
    grey = OPERATIONS["colour_shift"].apply(PHOTO, {**plain, "saturation": 0.0})
    np.testing.assert_array_equal(grey, np.array(Image.fromarray(PHOTO).convert("L").convert("RGB")))
    cast = OPERATIONS["colour_shift"].apply(PHOTO, {**plain, "red": 1.4, "blue": 0.6})
    expected = np.clip(np.rint(PHOTO * np.array([1.4, 1.0, 0.6])), 0, 255)
    np.testing.assert_array_equal(cast, expected)


def test_a_colour_shift_is_grey_faded_or_cast_as_often_as_in_the_release() -> None:
    rng = np.random.default_rng(14)
    draws = [OPERATIONS["colour_shift"].draw(rng, 1.0) for _ in range(4_000)]
    assert np.mean([draw["saturation"] == 0 for draw in draws]) == pytest.approx(0.2, abs=0.03)
    assert np.mean([0 < draw["saturation"] < 1 for draw in draws]) == pytest.approx(0.24, abs=0.03)
    assert np.mean([draw["red"] != 1 for draw in draws]) == pytest.approx(0.56, abs=0.03)


def test_over_enhancement_is_brightness_then_contrast() -> None:
    image = ImageEnhance.Brightness(Image.fromarray(PHOTO)).enhance(1.8)
    expected = np.array(ImageEnhance.Contrast(image).enhance(0.4))
    found = OPERATIONS["over_enhancement"].apply(PHOTO, {"brightness": 1.8, "contrast": 0.4})
    np.testing.assert_array_equal(found, expected)
    rng = np.random.default_rng(15)
    draws = [OPERATIONS["over_enhancement"].draw(rng, 1.0) for _ in range(4_000)]
    assert np.mean([draw["brightness"] > 1 and draw["contrast"] < 1 for draw in draws]) == pytest.approx(0.45, abs=0.03)
    assert np.mean([draw["brightness"] == 1 for draw in draws]) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("depth", [0.0, 0.4, 0.8])
def test_a_vignette_darkens_the_corners_and_not_the_centre(depth: float) -> None:
    light = OPERATIONS["vignette"].apply(np.full((101, 151, 3), 200, np.uint8), {"depth": depth})[..., 0].astype(int)
    assert light[50, 75] == 200
    corners = light[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners == pytest.approx(np.full(4, 200 * (1 - depth)), abs=2)
    assert light[0, 75] == pytest.approx(200 * (1 - depth / math.sqrt(2)), abs=2)
    assert (np.diff(light[50, 75:]) <= 0).all()
    np.testing.assert_array_equal(light, light[::-1, ::-1])


def test_chromatic_aberration_parts_red_and_blue_and_leaves_green() -> None:
    point = np.zeros((21, 21, 3), np.uint8)
    point[10, 10] = 255
    after = OPERATIONS["chromatic_aberration"].apply(point, {"shift": 3})
    assert [tuple(int(place[0]) for place in np.nonzero(after[..., channel])) for channel in range(3)] == [
        (13, 13),
        (10, 10),
        (7, 7),
    ]


@pytest.mark.parametrize(("frequency", "degrees"), [(0.5, 0.0), (1.1, 30.0), (2.5, 120.0)])
def test_moire_is_a_grating_of_its_frequency_and_direction(frequency: float, degrees: float) -> None:
    grey = np.full((256, 256, 3), 128, np.uint8)
    after = OPERATIONS["moire"].apply(grey, {"share": 0.15, "frequency": frequency, "degrees": degrees})
    wave = after[..., 0].astype(float)
    assert wave.max() - wave.min() == pytest.approx(0.15 * 255, abs=3)
    spectrum = np.abs(np.fft.fft2(wave - wave.mean()))
    row, column = np.unravel_index(spectrum.argmax(), spectrum.shape)
    y, x = (2 * math.pi * np.fft.fftfreq(256)[place] for place in (row, column))
    assert math.hypot(x, y) == pytest.approx(frequency, abs=0.03)
    assert math.degrees(math.atan2(y, x)) % 180 == pytest.approx(degrees, abs=3)


def test_a_glitch_rolls_rows_sideways_or_loses_them() -> None:
    rolled = lost = 0
    for seed in range(20):
        after = OPERATIONS["glitch"].apply(PHOTO, {"bands": 10, "thickness": 8, "reach": 30, "seed": seed})
        rows = np.flatnonzero((after != PHOTO).any(axis=(1, 2)))
        assert 0 < len(rows) <= 80
        for row in rows:
            if len(np.unique(after[row])) == 1:
                lost += 1
            else:
                # Two runs may have met, each by up to 30 px.
                assert any((np.roll(PHOTO[row], step, axis=0) == after[row]).all() for step in range(-90, 91))
                rolled += 1
    assert lost / (lost + rolled) == pytest.approx(0.4, abs=0.1)


def test_text_covers_some_of_the_picture_in_one_colour_and_leaves_the_rest() -> None:
    blank = np.full((200, 300, 3), 100, np.uint8)
    seen = set()
    for seed in range(12):
        parameters = {"height": 0.3, "length": 5, "x": 0.5, "y": 0.5, "seed": seed}
        after = OPERATIONS["text"].apply(blank, parameters)
        rows, columns = np.nonzero((after != blank).any(axis=-1))
        assert 3 <= rows.max() - rows.min() <= 0.3 * 200 * 1.4
        assert 0 < len(rows) / blank[..., 0].size < 0.3
        assert (rows.min() + rows.max()) / 2 == pytest.approx(99.5, abs=3)
        assert (columns.min() + columns.max()) / 2 == pytest.approx(149.5, abs=4)
        seen.add(after.tobytes())
    assert len(seen) == 12


def test_a_patch_is_the_picture_itself_mirrored_and_small() -> None:
    for x, y, left, top in [(0.0, 0.0, 0, 0), (1.0, 1.0, 141, 129), (0.5, 0.25, 70, 32)]:
        after = OPERATIONS["patch"].apply(PHOTO, {"width": 0.3, "aspect": 1.2, "x": x, "y": y})
        expected = PHOTO.copy()
        small = Image.fromarray(PHOTO).resize((60, 72), Image.Resampling.BICUBIC)
        expected[top : top + 72, left : left + 60] = np.array(small)[:, ::-1]
        np.testing.assert_array_equal(after, expected)
