"""A face pasted over itself: fake within its mask, the real picture everywhere else."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from PIL import Image
from skimage import data

from assay.errors import RecipeError
from assay.image.augment import Augment, Transform
from assay.image.faces import Face
from assay.image.selfblend import HALVES, SelfBlend
from assay.settings import replaced
from assay.types import Box, Pixels

ASTRONAUT: Pixels = data.astronaut()[:240, 110:350]

WHOLE = SelfBlend(ratios=(1.0,))
PASTE = SelfBlend(ratios=(1.0,), bend=0, scale=0, shift=(0, 0))
"""Only colours and detail change, within a contour as it stands."""


def face(eyes: tuple[float, float] = (114.8, 101.8), apart: float = 43.0, degrees: float = 0.0) -> Face:
    """An average face by the middle of its eyes and their distance in px, turned anticlockwise."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    marks = np.array([(-0.5, 0), (0.5, 0), (0, 0.6), (-0.4, 1.1), (0.4, 1.1)]) @ turn * apart + eyes
    one, two, three, four, five = ((float(x), float(y)) for x, y in marks)
    left, top = np.floor(marks.min(axis=0) - apart / 2).astype(int).tolist()
    right, bottom = np.ceil(marks.max(axis=0) + apart / 2).astype(int).tolist()
    return Face(Box(left, top, right, bottom), 1.0, (one, two, three, four, five))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_changes_outside_the_mask(seed: int) -> None:
    blended, mask = SelfBlend().masked(ASTRONAUT, [face()], rng(seed))
    np.testing.assert_array_equal(blended[mask == 0], ASTRONAUT[mask == 0])
    assert 0.02 < (mask > 0).mean() < 0.4
    assert (blended != ASTRONAUT)[mask > 0].any()
    assert mask.dtype == np.float32
    assert 0 <= mask.min() < mask.max() <= 1


def test_a_blend_hangs_on_its_picture_its_faces_and_the_generator_alone() -> None:
    before = ASTRONAUT.copy()
    first = SelfBlend()(ASTRONAUT, [face()], rng(3))
    np.testing.assert_array_equal(SelfBlend()(ASTRONAUT, [face()], rng(3)), first)
    np.testing.assert_array_equal(ASTRONAUT, before)
    assert (SelfBlend()(ASTRONAUT, [face()], rng(4)) != first).any()
    assert (SelfBlend()(ASTRONAUT, [face((120, 110))], rng(3)) != first).any()


def test_no_face_leaves_a_copy_and_one_beyond_the_picture_changes_nothing() -> None:
    for faces in ([], [face((900, 900))]):
        blended = WHOLE(ASTRONAUT, faces, rng())
        assert blended is not ASTRONAUT
        np.testing.assert_array_equal(blended, ASTRONAUT)


def test_every_face_is_blended_and_what_becomes_of_one_hangs_on_no_other() -> None:
    small, large = face((60, 60), 16), face((150, 140), 40)
    _, both = WHOLE.masked(ASTRONAUT, [small, large], rng())
    _, first = WHOLE.masked(ASTRONAUT, [small], rng())
    _, other = WHOLE.masked(ASTRONAUT, [face((60, 60), 20), large], rng())
    assert first.any()
    np.testing.assert_array_equal(both[:90, :90], first[:90, :90])
    np.testing.assert_array_equal(both[120:, 120:], other[120:, 120:])
    assert both[150, 150] == 1


def middle_of(mask: np.ndarray, around: tuple[float, float]) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()]) - around


@pytest.mark.parametrize("shape", HALVES)
def test_the_mask_lies_on_the_face_and_turns_and_grows_with_it(shape: str) -> None:
    blend = dataclasses.replace(PASTE, shapes=(shape,), window=(1, 1))
    picture = np.zeros((400, 400, 3), np.uint8)
    _, upright = blend.masked(picture, [face((200, 200), 60)], rng())
    _, large = blend.masked(picture, [face((200, 200), 90)], rng())
    _, left = blend.masked(picture, [face((200, 200), 60, 90)], rng())
    half = np.array(HALVES[shape])
    area = 2 * abs(float(np.trapezoid(half[:, 0], half[:, 1])))
    assert (upright > 0).sum() == pytest.approx(area * 60**2, rel=0.06)
    assert (large > 0).sum() == pytest.approx(area * 90**2, rel=0.06)
    across, down = middle_of(upright, (200, 200))
    assert across == pytest.approx(0, abs=1)
    # Anticlockwise by 90°, what lay below the eyes lies to their right.
    np.testing.assert_allclose(middle_of(left, (200, 200)), (down, 0), atol=1.5)


def test_a_face_turned_to_the_side_is_narrower_by_half_at_most() -> None:
    picture, marks = np.zeros((400, 400, 3), np.uint8), np.array(face((200, 200), 60).landmarks)
    widths = []
    for share in (1.0, 0.6, 0.5, 0.1, 0.0):
        squeezed = (marks - 200) * (share, 1) + 200
        one, two, three, four, five = ((float(x), float(y)) for x, y in squeezed)
        side = Face(Box(100, 100, 300, 300), 1.0, (one, two, three, four, five))
        _, mask = PASTE.masked(picture, [side], rng())
        widths.append(int(mask.any(axis=0).sum()))
    assert widths[1] == pytest.approx(0.6 * widths[0], abs=3)
    assert widths[2] == pytest.approx(widths[3], abs=2)
    assert widths[3] == pytest.approx(widths[4], abs=2)


def test_landmarks_in_one_point_are_blended_too_if_hardly() -> None:
    point = (100.0, 100.0)
    flat = Face(Box(90, 90, 110, 110), 1.0, (point,) * 5)
    blended = WHOLE(ASTRONAUT, [flat], rng())
    assert blended.shape == ASTRONAUT.shape


@pytest.mark.parametrize("eyes", [(0, 0), (239, 239), (-10, 120), (120, 250)])
def test_a_face_that_the_edge_cuts_off_is_blended_as_far_as_it_shows(eyes: tuple[float, float]) -> None:
    blended, mask = dataclasses.replace(WHOLE, shapes=("brow",)).masked(ASTRONAUT, [face(eyes)], rng())
    np.testing.assert_array_equal(blended[mask == 0], ASTRONAUT[mask == 0])
    assert (mask > 0).any()


def test_the_ratio_is_the_most_that_a_source_counts() -> None:
    drawn = set()
    for seed in range(40):
        _, mask = SelfBlend().masked(ASTRONAUT, [face()], rng(seed))
        drawn.add(round(float(mask.max()), 3))
    assert drawn == {0.25, 0.5, 0.75, 1.0}


def test_the_edge_is_soft_and_its_width_is_the_windows() -> None:
    picture = np.zeros((512, 512, 3), np.uint8)

    def edges(window: int) -> tuple[float, float]:
        blend = dataclasses.replace(PASTE, shapes=("brow",), window=(window, window))
        _, mask = blend.masked(picture, [face((256, 200), 80)], rng())
        return float(((mask > 0) & (mask < 1)).sum() / (mask > 0).sum()), float((mask > 0.5).sum())

    sharp, soft = edges(5), edges(25)
    assert sharp[0] < 0.25 < soft[0]
    # Eroded by the wider window, it is smaller too.
    assert soft[1] < 0.9 * sharp[1]


def test_the_source_is_resized_and_moved_with_its_mask() -> None:
    only_place = SelfBlend(
        ratios=(1.0,), shapes=("face",), window=(1, 1), bend=0, scale=0, shift=(0.1, 0.0), colour=Augment()
    )
    unchanged = dataclasses.replace(only_place, detail=(Transform("Sharpen", 1.0, {"alpha": (0, 0)}),))
    blended, mask = unchanged.masked(ASTRONAUT, [face()], rng(1))
    _, still = dataclasses.replace(unchanged, shift=(0, 0)).masked(ASTRONAUT, [face()], rng(1))
    moved = middle_of(mask, (0, 0)) - middle_of(still, (0, 0))
    across = round(float(moved[0]))
    assert abs(across) >= 2
    assert moved[1] == pytest.approx(0, abs=0.2)
    inner = mask[20:220, 20:220] == 1
    before = np.roll(ASTRONAUT, across, axis=1)[20:220, 20:220]
    # Where a pixel comes from is computed in fractions: a level may go.
    assert np.abs(blended[20:220, 20:220].astype(int) - before)[inner].max() <= 2


def test_without_a_move_colours_or_detail_a_paste_is_the_picture() -> None:
    nothing = dataclasses.replace(PASTE, colour=Augment(), detail=(Transform("Sharpen", 1.0, {"alpha": (0, 0)}),))
    np.testing.assert_array_equal(nothing(ASTRONAUT, [face()], rng()), ASTRONAUT)


def test_detail_is_lost_or_sharpened_inside_only() -> None:
    def energy(kind: Transform) -> float:
        blend = dataclasses.replace(PASTE, colour=Augment(), detail=(kind,), shapes=("brow",))
        blended, mask = blend.masked(ASTRONAUT, [face()], rng())
        return float(np.abs(np.diff(blended.astype(int), axis=1))[(mask == 1)[:, 1:]].mean())

    plain = energy(Transform("Sharpen", 1.0, {"alpha": (0, 0)}))
    lost, sharp = SelfBlend().detail
    assert energy(lost) < 0.9 * plain
    assert energy(sharp) > 1.1 * plain


def test_grey_pictures_and_single_pixels_are_no_trouble() -> None:
    for picture in (np.full((1, 1, 3), 7, np.uint8), np.full((9, 400, 3), 200, np.uint8)):
        assert WHOLE(picture, [face((2, 2), 10)], rng()).shape == picture.shape
    large = np.asarray(Image.fromarray(ASTRONAUT).resize((960, 960)))
    assert WHOLE(large, [face((459, 407), 172)], rng()).shape == large.shape


def test_a_field_is_set_by_its_name() -> None:
    assert replaced(SelfBlend(), "ratios", "[1]").ratios == (1.0,)
    changed = replaced(SelfBlend(), "detail.Sharpen.parameters", '{"alpha": [0.1, 0.2]}')
    assert changed.detail[1].parameters["alpha"] == (0.1, 0.2)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("shapes", ("oval",), "no shape of a mask"),
        ("shapes", (), "shapes is empty"),
        ("ratios", (), "ratios is empty"),
        ("detail", (), "detail is empty"),
        ("ratios", (0.0,), "above 0"),
        ("ratios", (1.5,), "above 0"),
        ("window", (4, 24), "odd"),
        ("window", (25, 5), "odd"),
        ("bend", 0.3, r"bend 0\.3"),
        ("scale", -0.1, r"scale -0\.1"),
        ("shift", (0.5, 0.0), "two shares"),
    ],
)
def test_values_that_do_not_hold_are_refused(field: str, value: object, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        SelfBlend(**{field: value})  # type: ignore[arg-type]
