"""The views that training draws: the right size, from the right place, the same for the same chance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from assay.image.align import Align
from assay.image.alter import T
from assay.image.augment import Augment, Transform
from assay.image.degrade import Degrade
from assay.image.view import View
from assay.learn.recipe import Crops, CrossEntropy, Descend, SupCon
from assay.learn.views import changed, draw, names, plain, random_crop, random_region, resized_crop, sized
from assay.types import Pixels

PAPER = Descend(stream="code")
NATIVE = Descend(
    stream="code",
    crops=Crops(base=96, local=32),
    alter=T(max_ops=2, size=64, resize=None, crop="random"),
    align=Align(probability=1.0, scale_probability=0.5),
)


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def lies_in(part: Pixels, whole: Pixels) -> bool:
    """Whether some window of `whole` equals `part` to the bit."""
    height, width = part.shape[:2]
    return any(
        np.array_equal(whole[top : top + height, left : left + width], part)
        for top in range(whole.shape[0] - height + 1)
        for left in range(whole.shape[1] - width + 1)
    )


@pytest.mark.parametrize(
    ("stage", "size", "local"), [(PAPER, 224, 96), (NATIVE, 64, 32)], ids=["paper", "native resolution"]
)
@pytest.mark.parametrize("shape", [(200, 300), (40, 500), (20, 20)])
def test_every_picture_gives_four_views_of_the_asked_size(
    stage: Descend, size: int, local: int, shape: tuple[int, int]
) -> None:
    views = draw(noise(*shape), stage, size, np.random.default_rng(0))
    assert tuple(views) == names(PAPER)
    for name, pixels in views.items():
        side = local if name == "local" else size
        assert pixels.shape == (side, side, 3)
        assert pixels.dtype == np.uint8


@pytest.mark.parametrize("stage", [PAPER, NATIVE], ids=["paper", "native resolution"])
def test_the_same_chance_gives_the_same_views_and_another_gives_others(stage: Descend) -> None:
    tile = noise(150, 150)
    first, again, other = (draw(tile, stage, 64, np.random.default_rng(seed)) for seed in (5, 5, 6))
    for name in names(PAPER):
        assert np.array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])


def test_the_clean_view_is_a_part_of_the_aligned_region_at_native_resolution() -> None:
    tile = noise(160, 140)
    for seed in range(4):
        clean = draw(tile, NATIVE, 64, np.random.default_rng(seed))["clean"]
        rng = np.random.default_rng(seed)
        assert NATIVE.align is not None
        aligned = NATIVE.align(random_region(tile, 96, rng), rng)
        assert min(aligned.shape[:2]) >= 64
        assert lies_in(clean, aligned)
        assert not lies_in(clean, tile)


def test_without_alignment_the_clean_view_is_a_part_of_the_picture() -> None:
    tile = noise(120, 110)
    stage = NATIVE.model_copy(update={"align": None})
    assert lies_in(draw(tile, stage, 64, np.random.default_rng(3))["clean"], tile)


def test_a_region_is_at_most_as_large_as_asked_and_lies_anywhere() -> None:
    tile = noise(50, 90)
    regions = [random_region(tile, 40, np.random.default_rng(seed)) for seed in range(30)]
    assert {region.shape for region in regions} == {(40, 40, 3)}
    assert len({region.tobytes() for region in regions}) > 20
    assert all(lies_in(region, tile) for region in regions[:3])
    assert random_region(tile, 60, np.random.default_rng(0)).shape == (50, 60, 3)
    assert random_region(tile, None, np.random.default_rng(0)) is tile


def test_a_region_smaller_than_the_crop_is_mirrored_about_its_middle() -> None:
    tile = noise(20, 30)
    crop = random_crop(tile, 40, np.random.default_rng(0))
    assert crop.shape == (40, 40, 3)
    assert np.array_equal(crop[10:30, 5:35], tile)
    assert np.array_equal(crop[9, 5:35], tile[1])


def test_another_output_size_keeps_the_ratio_of_resize_to_crop() -> None:
    small = sized(T(max_ops=1, size=224, resize=248, operations=("blur",)), 96)
    assert (small.size, small.resize) == (96, 106)
    assert (small.max_ops, small.operations) == (1, ("blur",))
    assert sized(T(size=128, resize=None), 64).resize is None


@pytest.fixture(scope="module")
def extents() -> Callable[[tuple[float, float]], list[tuple[float, float]]]:
    """For many draws of a resized crop, the width and height in pixels of what it shows of a 250 x 250 region."""
    ramp = np.zeros((250, 250, 3), np.uint8)
    ramp[..., 0] = np.arange(250)
    ramp[..., 1] = np.arange(250)[:, None]

    def measure(area: tuple[float, float]) -> list[tuple[float, float]]:
        found = []
        for seed in range(150):
            crop = resized_crop(ramp, 64, area, np.random.default_rng(seed)).astype(float)
            # Away from the border, where bicubic resizing of a ramp is a ramp.
            across = (crop[32, 60, 0] - crop[32, 3, 0]) / 57 * 64
            down = (crop[60, 32, 1] - crop[3, 32, 1]) / 57 * 64
            found.append((across, down))
        return found

    return measure


@pytest.mark.parametrize("area", [(0.4, 1.0), (0.05, 0.4)])
def test_areas_and_aspects_of_resized_crops_fill_their_range(
    area: tuple[float, float], extents: Callable[[tuple[float, float]], list[tuple[float, float]]]
) -> None:
    found = extents(area)
    shares = np.array([w * h / 250**2 for w, h in found])
    aspects = np.array([w / h for w, h in found])
    assert shares.min() > area[0] - 0.02
    assert shares.max() < area[1] + 0.02
    assert shares.min() < area[0] + 0.1 * (area[1] - area[0])
    assert shares.max() > area[1] - 0.2 * (area[1] - area[0])
    assert 3 / 4 - 0.05 < aspects.min() < 0.8
    assert 4 / 3 + 0.07 > aspects.max() > 1.25


def test_a_region_too_narrow_for_the_draw_gives_its_largest_centred_square() -> None:
    region = noise(10, 400)
    crop = resized_crop(region, 10, (0.9, 1.0), np.random.default_rng(0))
    assert np.array_equal(crop, region[:, 195:205])


def test_a_picture_may_have_several_local_views_each_of_its_own_place() -> None:
    stage = PAPER.model_copy(update={"crops": Crops(count=3, local=48)})
    views = draw(noise(200, 200), stage, 64, np.random.default_rng(0))
    assert tuple(views) == ("clean", "transformed", "global", "local", "local 2", "local 3")
    locals_ = [views[name] for name in ("local", "local 2", "local 3")]
    assert {pixels.shape for pixels in locals_} == {(48, 48, 3)}
    assert not any(np.array_equal(locals_[0], other) for other in locals_[1:])


def test_views_that_are_not_to_be_altered_go_without_operations() -> None:
    stripes = T(max_ops=1, size=64, resize=None, crop="random", operations=("greyscale",))
    alone = {"alter": stripes, "crops": Crops(base=96, local=32, altered=("local",))}
    grey = dict.fromkeys(names(PAPER), 0)
    for seed in range(12):
        views = draw(noise(120, 120), NATIVE.model_copy(update=alone), 64, np.random.default_rng(seed))
        for name, pixels in views.items():
            grey[name] += bool((np.ptp(pixels, axis=2) <= 2).all())
    assert grey["local"] > 0
    assert grey["transformed"] == grey["global"] == grey["clean"] == 0


# ── other losses than CoDE's ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("loss", [SupCon(views=2), SupCon(views=5), CrossEntropy(views=1)])
def test_other_losses_get_views_by_number_each_drawn_for_itself(loss: SupCon | CrossEntropy) -> None:
    stage = NATIVE.model_copy(update={"loss": loss})
    views = draw(noise(150, 150), stage, 64, np.random.default_rng(0))
    assert tuple(views) == names(stage) == tuple(f"view {number}" for number in range(1, loss.views + 1))
    assert {pixels.shape for pixels in views.values()} == {(64, 64, 3)}
    assert len({pixels.tobytes() for pixels in views.values()}) == loss.views
    again = draw(noise(150, 150), stage, 64, np.random.default_rng(0))
    assert all(np.array_equal(pixels, again[name]) for name, pixels in views.items())


def test_the_views_of_one_picture_are_cut_from_one_region() -> None:
    plain = T(max_ops=0, size=64, resize=None, crop="random")
    stage = NATIVE.model_copy(update={"loss": SupCon(), "align": None, "alter": plain})
    tile = noise(300, 300)
    for seed in range(5):
        region = random_region(tile, 96, np.random.default_rng(seed))
        views = draw(tile, stage, 64, np.random.default_rng(seed))
        assert all(lies_in(pixels, region) for pixels in views.values())


def test_online_augmentation_comes_to_every_view_of_other_losses_and_to_codes_altered_ones() -> None:
    always = Augment((Transform("ToGray", 1.0, {}),))
    plain = T(max_ops=0, size=64, resize=None, crop="random")
    stage = NATIVE.model_copy(update={"augment": always, "align": None, "alter": plain})

    def grey(of: Descend) -> list[str]:
        views = draw(noise(120, 120), of, 64, np.random.default_rng(0))
        return [name for name, pixels in views.items() if (np.ptp(pixels, axis=2) == 0).all()]

    assert grey(stage.model_copy(update={"loss": SupCon(views=3)})) == ["view 1", "view 2", "view 3"]
    assert grey(stage) == ["transformed", "global", "local"]
    assert grey(stage.model_copy(update={"augment": None})) == []


# ── views that show all of it ────────────────────────────────────────────────────────────────────────────────────────


AS_IT_IS = T(max_ops=0, size=64, resize=71, crop="random")
"""No operation; of what is not whole it shows a crop."""


@pytest.mark.parametrize("shape", [(200, 300), (40, 500), (20, 20)])
def test_whole_views_show_all_of_a_region_resized_in_place_of_a_crop(shape: tuple[int, int]) -> None:
    tile = noise(*shape)
    stage = Descend(stream="face", loss=CrossEntropy(views=2), alter=AS_IT_IS)
    expected = View(size=64).fitted(tile)
    views = draw(tile, stage, 64, np.random.default_rng(0), whole=True)
    assert all(np.array_equal(pixels, expected) for pixels in views.values())
    assert np.array_equal(plain(tile, 64, np.random.default_rng(0), whole=True), expected)
    crops = draw(tile, stage, 64, np.random.default_rng(0), whole=False)
    assert not any(np.array_equal(pixels, expected) for pixels in crops.values())


@pytest.mark.parametrize("altered", [("transformed", "global", "local"), ()])
def test_codes_clean_and_transformed_views_are_whole_too_and_its_crops_stay_crops(altered: tuple[str, ...]) -> None:
    tile = noise(150, 210)
    crops = Crops(local=32, global_area=(0.4, 0.5), local_area=(0.05, 0.1), altered=altered)
    stage = Descend(stream="face", crops=crops, alter=AS_IT_IS)
    views = draw(tile, stage, 64, np.random.default_rng(0), whole=True)
    expected = View(size=64).fitted(tile)
    assert [np.array_equal(views[name], expected) for name in ("clean", "transformed", "global")] == [True, True, False]
    # These are cut from the region first, and shown whole after; T takes its chance where it has nothing to do, too.
    rng = np.random.default_rng(0)
    for name, side, area in (("transformed", 64, (1.0, 1.0)), ("global", 64, (0.4, 0.5)), ("local", 32, (0.05, 0.1))):
        if name != "transformed":
            assert np.array_equal(views[name], resized_crop(tile, side, area, rng))
        if name in altered:
            AS_IT_IS.operate(tile, rng)


def test_operations_and_augmentation_come_before_a_whole_view_is_resized() -> None:
    tile = noise(120, 90)
    grey = Augment((Transform("ToGray", 1.0, {}),))
    turned = T(max_ops=1, size=64, resize=None, crop="random", operations=("rotation",))
    stage = Descend(stream="face", loss=CrossEntropy(), alter=turned, augment=grey)
    found = changed(tile, stage, 64, np.random.default_rng(1), whole=True)
    rng = np.random.default_rng(1)
    expected = View(size=64).fitted(turned.operate(grey(tile, rng), rng))
    assert np.array_equal(found, expected)
    assert found.shape == (64, 64, 3)


@pytest.mark.parametrize("whole", [False, True])
def test_the_views_of_a_picture_share_one_degraded_region(whole: bool) -> None:
    tile = noise(160, 140)
    degrade = Degrade(probability=1.0)
    plainly = T(max_ops=0, size=64, resize=None, crop="random")
    stage = NATIVE.model_copy(update={"loss": SupCon(), "align": None, "alter": plainly, "degrade": degrade})
    for seed in range(3):
        views = draw(tile, stage, 64, np.random.default_rng(seed), whole=whole)
        rng = np.random.default_rng(seed)
        region = degrade(random_region(tile, 96, rng), rng)
        assert not lies_in(region, tile)
        for pixels in views.values():
            assert np.array_equal(pixels, View(size=64).fitted(region)) if whole else lies_in(pixels, region)


def test_a_picture_is_aligned_before_it_is_degraded() -> None:
    tile = noise(160, 140)
    stage = NATIVE.model_copy(update={"loss": SupCon(), "degrade": Degrade(probability=1.0)})
    stage = stage.model_copy(update={"alter": T(max_ops=0, size=64, resize=None, crop="random")})
    views = draw(tile, stage, 64, np.random.default_rng(4))
    rng = np.random.default_rng(4)
    assert stage.align is not None
    assert stage.degrade is not None
    region = stage.degrade(stage.align(random_region(tile, 96, rng), rng), rng)
    assert all(lies_in(pixels, region) for pixels in views.values())
