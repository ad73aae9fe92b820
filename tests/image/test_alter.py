"""T against AugLy as an independent reference, and what must hold of it whatever comes in."""

from __future__ import annotations

import collections
import concurrent.futures
import multiprocessing
from collections.abc import Callable

import augly.image as augly
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from assay.errors import RecipeError
from assay.image.alter import MAX_SIDE, OPERATIONS, T
from assay.image.view import View
from assay.types import Pixels

PHOTO: Pixels = data.astronaut()[40:341, 60:449]
"""301 × 389: odd sides, so that every rounding shows."""

PUBLISHED = {
    "blur": (0.1, 2),
    "brightness": (0.5, 2),
    "aspect_ratio": (0.75, 2),
    "pixelisation": (0.3, 1),
    "rotation": (90, 270),
    "contrast": (0.5, 1.5),
    "saturation": (0.5, 1.5),
    "jpeg": (40, 100),
    "greyscale": None,
    "horizontal_flip": None,
    "opacity": (0.2, 1),
    "stripes": (0.05, 0.35),
    "pad": (0.01, 0.25),
    "resize": (64, 512),
    "crop": (64, 512),
    "scale": (0.5, 1.5),
    "sharpen": (1.2, 2),
    "shuffle": (0, 0.35),
    "skew": (-1, 1),
}
"""The operations and ranges of the paper, written down a second time."""

REFERENCE: dict[str, Callable[..., Image.Image]] = {
    "blur": lambda image, value: augly.blur(image, radius=value),
    "brightness": lambda image, value: augly.brightness(image, factor=value),
    "aspect_ratio": lambda image, value: augly.change_aspect_ratio(image, ratio=value),
    "pixelisation": lambda image, value: augly.pixelization(image, ratio=value),
    "rotation": lambda image, value: augly.rotate(image, degrees=value),
    "contrast": lambda image, value: augly.contrast(image, factor=value),
    "saturation": lambda image, value: augly.saturation(image, factor=value),
    "jpeg": lambda image, value: augly.encoding_quality(image, quality=value),
    "greyscale": lambda image: augly.grayscale(image),
    "horizontal_flip": lambda image: augly.hflip(image),
    "opacity": lambda image, value: augly.opacity(image, level=value),
    "stripes": lambda image, value: augly.overlay_stripes(image, line_width=value),
    "pad": lambda image, value: augly.pad(image, w_factor=value, h_factor=value),
    "resize": lambda image, value: augly.resize(image, width=value, height=value, resample=Image.Resampling.BICUBIC),
    "scale": lambda image, value: augly.scale(image, factor=value),
    "sharpen": lambda image, value: augly.sharpen(image, factor=value),
    "skew": lambda image, value: augly.skew(image, skew_factor=value),
}
"""AugLy's function for each operation that it defines without randomness: all but `crop` and `shuffle`."""


def parameters_of(name: str) -> list[dict[str, float]]:
    """Both bounds and three values between them of an operation with one parameter."""
    if PUBLISHED[name] is None:
        return [{}]
    ((parameter, (low, high)),) = OPERATIONS[name].ranges.items()
    values = [low + part * (high - low) for part in (0, 0.13, 0.5, 0.77, 1)]
    return [{parameter: round(value) if isinstance(low, int) else float(value)} for value in values]


CASES = [(name, parameters) for name in REFERENCE for parameters in parameters_of(name)]


@pytest.mark.parametrize("turned", [False, True], ids=["landscape", "portrait"])
@pytest.mark.parametrize(("name", "parameters"), CASES, ids=[f"{n}-{list(p.values())}" for n, p in CASES])
def test_an_operation_gives_the_pixels_that_augly_gives(name: str, parameters: dict[str, float], turned: bool) -> None:
    picture = np.ascontiguousarray(PHOTO.transpose(1, 0, 2)) if turned else PHOTO
    expected = np.array(REFERENCE[name](Image.fromarray(picture), *parameters.values()).convert("RGB"))
    np.testing.assert_array_equal(OPERATIONS[name].apply(picture, parameters), expected)


def test_a_crop_inside_the_picture_gives_the_pixels_that_augly_gives() -> None:
    # AugLy names the window by fractions of the picture and draws none itself.
    height, width = PHOTO.shape[:2]
    side, x, y = 150, 0.4, 0.9
    left, top = round(x * (width - side)), round(y * (height - side))
    expected = augly.crop(
        Image.fromarray(PHOTO),
        x1=(left + 0.5) / width,
        y1=(top + 0.5) / height,
        x2=(left + side + 0.5) / width,
        y2=(top + side + 0.5) / height,
    )
    np.testing.assert_array_equal(OPERATIONS["crop"].apply(PHOTO, {"side": side, "x": x, "y": y}), expected)


def test_a_crop_larger_than_the_picture_shows_all_of_it_on_black() -> None:
    picture = np.full((30, 50, 3), 200, np.uint8)
    for x, y, left, top in [(0.0, 0.0, 0, 0), (0.5, 0.5, 7, 17), (1.0, 1.0, 14, 34)]:
        cropped = OPERATIONS["crop"].apply(picture, {"side": 64, "x": x, "y": y})
        assert cropped.shape == (64, 64, 3)
        assert (cropped[top : top + 30, left : left + 50] == 200).all()
        assert np.count_nonzero(cropped) == picture.size


def test_drawn_crops_reach_every_edge() -> None:
    framed = np.zeros((80, 80, 3), np.uint8)
    framed[0], framed[-1], framed[:, 0], framed[:, -1] = 1, 2, 3, 4
    rng, crop = np.random.default_rng(0), OPERATIONS["crop"]
    seen = {int(value) for _ in range(300) for value in np.unique(crop.apply(framed, crop.draw(rng) | {"side": 64}))}
    assert seen == {0, 1, 2, 3, 4}


def distinct_colours(side: int = 120) -> Pixels:
    """No two pixels alike, so that every pixel that moved is seen to have moved."""
    number = np.arange(side * side).reshape(side, side)
    return np.stack([number % 256, number // 256, number * 0], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.2, 0.35])
def test_shuffling_moves_as_many_pixels_as_augly_moves_and_loses_none(fraction: float) -> None:
    # Which pixels move is chance, in AugLy from a generator of its own: how many is what can be compared.
    picture = distinct_colours()
    ours = OPERATIONS["shuffle"].apply(picture, {"fraction": fraction, "seed": 3})
    theirs = np.array(augly.shuffle_pixels(Image.fromarray(picture), factor=fraction, seed=3))
    moved, moved_there = ((shuffled != picture).any(axis=-1) for shuffled in (ours, theirs))
    # A pixel of a random permutation stays by chance: one on average, however many there are.
    assert abs(int(moved.sum()) - int(moved_there.sum())) <= 8
    assert abs(moved.mean() - fraction) < 0.001
    # The chosen pixels lie all over the picture and go anywhere in it.
    if fraction >= 0.2:
        rows = np.nonzero(moved)[0]
        assert abs(rows.mean() - 59.5) < 3
        red, green = ours[moved][:, 0].astype(int), ours[moved][:, 1].astype(int)
        travelled = np.abs(rows - (red + 256 * green) // 120)
        assert travelled.mean() == pytest.approx(40, abs=3)  # a third of the side: two uniform rows
    before, after = (np.sort(pixels.reshape(-1, 3).view("u1,u1,u1").ravel()) for pixels in (picture, ours))
    np.testing.assert_array_equal(before, after)


def test_shuffling_is_no_mere_exchange_of_pairs() -> None:
    shuffle, parameters, picture = OPERATIONS["shuffle"], {"fraction": 0.3, "seed": 3}, distinct_colours()
    twice = shuffle.apply(shuffle.apply(picture, parameters), parameters)
    assert (twice != picture).any(axis=-1).mean() == pytest.approx(0.3, abs=0.001)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_repeats_its_pixels_for_the_same_parameters(name: str) -> None:
    operation = OPERATIONS[name]
    parameters = operation.draw(np.random.default_rng(9))
    np.testing.assert_array_equal(operation.apply(PHOTO, parameters), operation.apply(PHOTO, parameters))


def test_shuffling_moves_other_pixels_for_another_seed() -> None:
    first, second = (OPERATIONS["shuffle"].apply(PHOTO, {"fraction": 0.3, "seed": seed}) for seed in (1, 2))
    assert (first != second).any()


def test_the_table_holds_the_19_operations_of_the_paper_in_its_ranges() -> None:
    assert list(OPERATIONS) == list(PUBLISHED)
    assert len(OPERATIONS) == 19
    for name, bounds in PUBLISHED.items():
        ranges = list(OPERATIONS[name].ranges.values())
        assert ranges[:1] == ([bounds] if bounds else [])


@pytest.mark.parametrize("name", OPERATIONS)
def test_drawn_parameters_fill_their_range_evenly_and_never_leave_it(name: str) -> None:
    operation, rng = OPERATIONS[name], np.random.default_rng(5)
    draws = [operation.draw(rng) for _ in range(2_000)]
    for parameter, (low, high) in operation.ranges.items():
        values = np.array([draw[parameter] for draw in draws])
        assert low <= values.min() < low + 0.01 * (high - low) + 1
        assert high - 0.01 * (high - low) - 1 < values.max() <= high
        quarters = np.histogram(values, bins=4, range=(low, high))[0]
        # 500 each, standard deviation 19; whole numbers of a short range fall unevenly into quarters by 2 % more.
        assert quarters.min() > 400
        if isinstance(low, int):
            assert all(isinstance(draw[parameter], int) for draw in draws)


def test_both_ends_of_a_range_of_whole_numbers_are_drawn() -> None:
    rng = np.random.default_rng(6)
    qualities = {OPERATIONS["jpeg"].draw(rng)["quality"] for _ in range(2_000)}
    assert qualities == set(range(40, 101))


def test_none_one_or_two_operations_are_drawn_equally_often() -> None:
    transform, rng = T(), np.random.default_rng(7)
    counts = collections.Counter(len(transform.draw(rng)) for _ in range(6_000))
    assert set(counts) == {0, 1, 2}
    # Standard deviation 36.5.
    assert all(abs(count - 2_000) < 150 for count in counts.values())


def test_operations_are_distinct_equally_likely_and_in_any_order() -> None:
    transform, rng = T(), np.random.default_rng(8)
    drawn = [[operation.name for operation, _ in transform.draw(rng)] for _ in range(12_000)]
    assert all(len(set(names)) == len(names) for names in drawn)
    often = collections.Counter(name for names in drawn for name in names)
    assert set(often) == set(OPERATIONS)
    # 632 each, standard deviation 24.
    assert min(often.values()) > 520
    assert max(often.values()) < 750
    place = list(OPERATIONS).index
    pairs = [names for names in drawn if len(names) == 2]
    assert np.mean([place(first) < place(second) for first, second in pairs]) == pytest.approx(0.5, abs=0.03)


def test_the_operations_are_applied_in_the_order_drawn() -> None:
    transform = T(operations=("greyscale", "pad", "opacity"), max_ops=3)
    for seed in range(20):
        expected = PHOTO
        for operation, parameters in transform.draw(np.random.default_rng(seed)):
            expected = operation.apply(expected, parameters)
        np.testing.assert_array_equal(transform.operate(PHOTO, np.random.default_rng(seed)), expected)


def test_a_seed_gives_one_result_here_and_in_a_worker_process() -> None:
    transform = T(crop="random")
    here = [transform(PHOTO, np.random.default_rng(seed)) for seed in range(12)]
    again = [transform(PHOTO, np.random.default_rng(seed)) for seed in range(12)]
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        there = list(pool.map(transform, [PHOTO] * 12, map(np.random.default_rng, range(12))))
    np.testing.assert_array_equal(here, again)
    np.testing.assert_array_equal(here, there)
    assert len({picture.tobytes() for picture in here}) > 6


sides = st.integers(1, 500)
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, seed=seeds, resize=st.sampled_from([248, None]), random=st.booleans())
@example(height=1, width=1, seed=0, resize=248, random=True)
@example(height=1, width=1, seed=0, resize=None, random=True)
@example(height=1, width=500, seed=1, resize=248, random=True)
@example(height=500, width=1, seed=2, resize=248, random=False)
@example(height=500, width=1, seed=3, resize=None, random=True)
@example(height=1, width=20_000, seed=4, resize=248, random=True)
def test_whatever_comes_in_a_square_comes_out(
    height: int, width: int, seed: int, resize: int | None, random: bool
) -> None:
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (height, width, 3), np.uint8)
    before = picture.copy()
    out = T(resize=resize, crop="random" if random else "centre")(picture, rng)
    assert out.shape == (224, 224, 3)
    assert out.dtype == np.uint8
    assert out.flags.writeable
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(picture, before)


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 12), width=st.integers(1, 200), turned=st.booleans(), seed=seeds)
@example(height=1, width=1, turned=False, seed=0)
@example(height=1, width=2_000, turned=False, seed=0)
@example(height=1, width=2_000, turned=True, seed=0)
def test_every_operation_bears_the_smallest_and_the_narrowest(height: int, width: int, turned: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (width, height, 3) if turned else (height, width, 3), np.uint8)
    before = picture.copy()
    for operation in OPERATIONS.values():
        out = operation.apply(picture, operation.draw(rng))
        assert out.dtype == np.uint8
        assert out.ndim == 3
        assert out.shape[2] == 3
        assert min(out.shape) >= 1
        assert not np.shares_memory(out, picture)
        np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("name", ["aspect_ratio", "pad", "scale", "pixelisation", "rotation", "skew"])
@pytest.mark.parametrize("shape", [(MAX_SIDE - 100, 300), (300, MAX_SIDE - 100), (MAX_SIDE + 500, 20)])
def test_no_operation_makes_a_side_longer_than_the_limit(name: str, shape: tuple[int, int]) -> None:
    picture = np.zeros((*shape, 3), np.uint8)
    ranges = OPERATIONS[name].ranges
    for end in (0, 1):
        out = OPERATIONS[name].apply(picture, {parameter: bounds[end] for parameter, bounds in ranges.items()})
        assert max(out.shape) <= max(MAX_SIDE, *shape)


def test_a_larger_picture_than_the_limit_keeps_its_size_where_the_operation_keeps_it() -> None:
    picture = np.zeros((4, MAX_SIDE + 100, 3), np.uint8)
    for name in ("pixelisation", "brightness", "horizontal_flip", "stripes", "shuffle", "skew", "jpeg"):
        operation = OPERATIONS[name]
        assert operation.apply(picture, operation.draw(np.random.default_rng(0))).shape == picture.shape


def test_without_operations_the_centre_of_the_resized_picture_comes_out() -> None:
    out = T(max_ops=0)(PHOTO, np.random.default_rng(0))
    columns = 248 * PHOTO.shape[1] // PHOTO.shape[0]
    left = (columns - 224) // 2
    whole = Image.fromarray(PHOTO).resize((columns, 248), Image.Resampling.BICUBIC)
    expected = np.array(whole.crop((left, 12, left + 224, 236)))
    # Pillow keeps the window in single precision: rounding may fall the other way, by one level.
    assert np.abs(out.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("shape", [(301, 389), (150, 389), (100, 41)])
def test_without_operations_and_resize_the_pixels_are_those_that_a_view_judges(shape: tuple[int, int]) -> None:
    picture = PHOTO[: shape[0], : shape[1]]
    out = T(max_ops=0, resize=None)(picture, np.random.default_rng(0))
    np.testing.assert_array_equal(out, View(size=224).crops(picture)[0])


@pytest.mark.parametrize("resize", [248, None])
def test_a_random_crop_lies_anywhere(resize: int | None) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 300).astype(np.uint8)[:, None], (300, 300))
    picture = np.stack([ramp, ramp.T, ramp], axis=-1)
    transform, rng = T(max_ops=0, resize=resize, crop="random"), np.random.default_rng(1)
    corners = np.array([transform(picture, rng)[0, 0, :2] for _ in range(200)], float)
    last = 255 * (1 - 224 / (resize or 300))
    assert corners.min() <= 3
    assert corners.max() >= last - 3
    assert abs(np.corrcoef(corners.T)[0, 1]) < 0.25
    centred = T(max_ops=0, resize=resize)
    assert {centred(picture, rng).tobytes() for _ in range(3)} == {centred(picture, rng).tobytes()}


def test_only_the_operations_that_were_named_are_drawn() -> None:
    transform, rng = T(operations=("blur", "jpeg")), np.random.default_rng(0)
    assert {operation.name for _ in range(100) for operation, _ in transform.draw(rng)} == {"blur", "jpeg"}


def test_operate_leaves_a_picture_alone_where_no_operation_is_drawn() -> None:
    np.testing.assert_array_equal(T(max_ops=0).operate(PHOTO, np.random.default_rng(0)), PHOTO)


def test_an_unknown_operation_is_answered_with_the_nearest_known_ones() -> None:
    with pytest.raises(RecipeError, match="no operation called 'pixelization'; did you mean pixelisation"):
        T(operations=("pixelization",), max_ops=1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"operations": ("blur", "blur")}, "stands twice"),
        ({"operations": ("blur",)}, "max_ops 2 does not hold; give 0 to 1"),
        ({"max_ops": -1}, "give 0 to 19"),
        ({"size": 256}, "give 256 or more, or None"),
        ({"size": 0}, "give 1 or more"),
        ({"crop": "center"}, "did you mean centre"),
    ],
)
def test_values_that_do_not_hold_are_refused_with_what_would(values: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        T(**values)  # type: ignore[arg-type]
