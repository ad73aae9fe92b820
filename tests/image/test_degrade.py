"""The degradation engine draws as the drift release does, and gives back a picture of the size that came in."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import math
import multiprocessing
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from skimage import data

from assay.errors import RecipeError
from assay.image.damage import OPERATIONS
from assay.image.degrade import BACK, LARGEST, MIXED, STEPS, Degrade, Mix, apply
from assay.types import Pixels

PHOTO: Pixels = data.astronaut()[60:151, 170:251]

ALWAYS = Degrade(probability=1.0)


def drawn(degrade: Degrade | Mix, count: int, start: int = 0) -> list[list[tuple[str, dict[str, float]]]]:
    """What each of many seeds draws, operations by name."""
    return [
        [(operation.name, parameters) for operation, parameters in degrade.draw(np.random.default_rng(seed))]
        for seed in range(start, start + count)
    ]


def names(degrade: Degrade | Mix, count: int) -> list[list[str]]:
    return [[name for name, _ in steps] for steps in drawn(degrade, count)]


def near(share: float, count: int) -> Any:
    """Within four standard deviations of what so many draws of that probability give."""
    return pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / count))


def test_the_defaults_are_the_published_ones() -> None:
    degrade = Degrade()
    assert (degrade.probability, degrade.each, degrade.distract) == (0.5, 0.3, 0.15)
    assert (degrade.beta, degrade.rounds) == ((1.2, 1.2), (1, 5))
    assert len(STEPS) == 15
    assert set(degrade.operations) == {name for step in STEPS for name in step} == set(OPERATIONS)
    assert all(sum(step.values()) == pytest.approx(1) for step in STEPS)


def test_half_of_the_pictures_are_degraded() -> None:
    # With every step certain, an empty draw is a picture left as it is.
    found = names(Degrade(each=1.0), 1_500)
    assert np.mean([bool(steps) for steps in found]) == near(0.5, 1_500)


def test_each_step_happens_with_its_probability_and_the_distractor_with_its_own() -> None:
    count = 3_000
    found = names(Degrade(probability=1.0, stages=("damage",)), count)
    for place, step in enumerate(STEPS):
        share = np.mean([bool(set(step) & set(steps)) for steps in found])
        assert share == near(0.15 if place == 14 else 0.3, count), step
        for name, part in step.items():
            happened = [steps for steps in found if set(step) & set(steps)]
            assert np.mean([name in steps for steps in happened]) == near(part, len(happened))
    assert all(len(set(steps)) == len(steps) for steps in found)


def test_the_steps_come_in_any_order() -> None:
    found = names(Degrade(probability=1.0, each=1.0, distract=1.0, stages=("damage",)), 600)
    assert all(len(steps) == 15 for steps in found)
    for name in ("jpeg", "motion_blur", "vignette"):
        places = [steps.index(name) for steps in found]
        # Uniform over 0–14: mean 7, standard deviation 4.3.
        assert np.mean(places) == pytest.approx(7, abs=0.8)
        assert {0, 14} <= set(places)


def test_compression_is_one_to_five_rounds_by_turns_either_first() -> None:
    count = 2_500
    found = names(Degrade(probability=1.0, stages=("compression",)), count)
    rounds = collections.Counter(len(steps) / 2 for steps in found if steps)
    happened = sum(rounds.values())
    assert happened / count == near(0.3, count)
    assert set(rounds) == {1, 2, 3, 4, 5}
    assert all(times / happened == near(0.2, happened) for times in rounds.values())
    assert all(set(steps[::2]) | set(steps[1::2]) <= {"jpeg", "resize"} for steps in found)
    assert all(steps[0] != steps[1] and steps == steps[:2] * (len(steps) // 2) for steps in found if steps)
    assert np.mean([steps[0] == "jpeg" for steps in found if steps]) == near(0.5, happened)


def test_compression_comes_before_damage() -> None:
    for steps in names(Degrade(probability=1.0, each=1.0, rounds=(2, 2)), 50):
        assert set(steps[:4]) == {"jpeg", "resize"}
        assert len(steps) in (18, 19)


def test_strengths_follow_the_beta_distribution() -> None:
    # The share of salt and pepper is 0.1 s.
    one = Degrade(probability=1.0, each=1.0, stages=("damage",), operations=("salt_and_pepper",))
    strengths = np.array([steps[0][1]["share"] for steps in drawn(one, 4_000)]) / 0.1
    assert strengths.mean() == pytest.approx(0.5, abs=0.02)
    assert strengths.var() == pytest.approx(1 / (4 * 3.4), rel=0.05)
    skewed = np.array([s[0][1]["share"] for s in drawn(dataclasses.replace(one, beta=(1.0, 3.0)), 2_000)]) / 0.1
    assert skewed.mean() == pytest.approx(0.25, abs=0.02)


def test_every_operation_has_a_strength_of_its_own_and_the_rounds_share_one_for_resizing() -> None:
    both = Degrade(probability=1.0, each=1.0, rounds=(5, 5), operations=("jpeg", "resize", "salt_and_pepper"))
    steps = drawn(both, 1)[0]
    assert len({parameters["quality"] for name, parameters in steps if name == "jpeg"}) > 2
    pairs = [
        (parameters["quality"], other["share"])
        for steps in drawn(both, 300)
        for name, parameters in steps[-3:]
        for second, other in steps[-3:]
        if (name, second) == ("jpeg", "salt_and_pepper")
    ]
    assert abs(np.corrcoef(np.array(pairs).T)[0, 1]) < 0.25


def test_the_qualities_of_jpeg_reach_from_10_to_95() -> None:
    qualities = [p["quality"] for steps in drawn(ALWAYS, 3_000) for name, p in steps if name == "jpeg"]
    assert min(qualities) <= 12
    assert max(qualities) >= 93
    assert np.mean(qualities) == pytest.approx(52.5, abs=2)


@pytest.mark.parametrize("strength", [0.0, 0.35, 1.0])
def test_at_a_strength_every_picture_is_degraded_and_everything_has_it(strength: float) -> None:
    fixed = Degrade(each=1.0, distract=1.0).at(strength)
    for steps in drawn(fixed, 30):
        assert len(steps) >= 17
        for name, parameters in steps:
            if name == "jpeg":
                assert parameters["quality"] == round(95 - 85 * strength)
            if name == "salt_and_pepper":
                assert parameters["share"] == pytest.approx(0.1 * strength)
            if name == "vignette":
                assert parameters["depth"] == pytest.approx(0.8 * strength)


def test_a_seed_draws_the_same_operations_at_every_strength() -> None:
    assert names(ALWAYS.at(0.1), 50) == names(ALWAYS.at(0.9), 50) == names(ALWAYS, 50)


def test_more_strength_changes_more() -> None:
    change = [
        np.mean(
            [
                np.abs(ALWAYS.at(strength)(PHOTO, np.random.default_rng(seed)).astype(int) - PHOTO).mean()
                for seed in range(25)
            ]
        )
        for strength in (0.0, 0.3, 0.6, 1.0)
    ]
    assert change[0] < 2
    assert change == sorted(change)
    assert change[-1] > 20


def test_an_operation_that_is_left_out_happens_in_neither_stage_and_leaves_its_part_to_the_others() -> None:
    kept = tuple(name for name in OPERATIONS if name not in ("jpeg", "poisson"))
    found = names(Degrade(probability=1.0, operations=kept), 1_500)
    assert not {"jpeg", "poisson"} & {name for steps in found for name in steps}
    noise = [set(steps) & {"speckle", "salt_and_pepper"} for steps in found]
    assert np.mean([bool(kind) for kind in noise]) == near(0.3, 1_500)
    assert any(steps.count("resize") > 2 for steps in found)


def test_all_resizing_together_enlarges_at_most_twice() -> None:
    for steps in drawn(Degrade(probability=1.0, each=1.0, rounds=(5, 5), operations=("resize",)).at(1.0), 400):
        factor = 1.0
        for _, parameters in steps:
            factor *= parameters["factor"]
            assert factor <= LARGEST + 1e-9


def test_the_operations_are_applied_in_the_order_drawn() -> None:
    degrade = Degrade(probability=1.0, each=1.0, operations=("colour_shift", "banding", "vignette"))
    for seed in range(10):
        expected = PHOTO
        for operation, parameters in degrade.draw(np.random.default_rng(seed)):
            expected = operation.apply(expected, parameters)
        np.testing.assert_array_equal(degrade(PHOTO, np.random.default_rng(seed)), expected)


def test_resized_pictures_come_back_to_their_size_by_any_of_three_filters() -> None:
    degrade = Degrade(probability=1.0, each=1.0, operations=("resize",), stages=("damage",)).at(1.0)
    shrink = [(OPERATIONS["resize"], {"factor": 0.4, "filter": 1})]
    assert apply(PHOTO, shrink).shape == PHOTO.shape
    assert (apply(PHOTO, shrink) != PHOTO).any()
    seen = set()
    for seed in range(30):
        steps = degrade.draw(np.random.default_rng(seed))
        after = degrade(PHOTO, np.random.default_rng(seed))
        assert after.shape == PHOTO.shape
        by = [back for back in BACK if np.array_equal(after, apply(PHOTO, steps, back))]
        # Where nothing was resized, all three agree.
        if len(by) == 1:
            seen.add(by[0])
    assert seen == set(BACK)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), seed=st.integers(0, 2**32 - 1))
@example(height=1, width=1, seed=0)
@example(height=1, width=70, seed=1)
@example(height=70, width=1, seed=2)
@example(height=3, width=5, seed=3)
def test_any_picture_is_degraded_into_a_new_one_of_its_size(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = pixels.copy()
    pixels.setflags(write=False)
    for degrade in (Degrade(probability=1.0, each=0.7, distract=0.7).at(1.0), Degrade(), Mix(1.0), Mix(0.0)):
        after = degrade(pixels, np.random.default_rng(seed))
        assert (after.shape, after.dtype) == (pixels.shape, np.uint8)
        assert after.flags.writeable
        assert not np.shares_memory(after, pixels)
    np.testing.assert_array_equal(pixels, before)


def test_a_picture_that_is_not_degraded_comes_back_as_a_copy() -> None:
    after = Degrade(probability=0.0)(PHOTO, np.random.default_rng(0))
    np.testing.assert_array_equal(after, PHOTO)
    assert not np.shares_memory(after, PHOTO)


def test_a_seed_gives_one_result_here_and_in_a_worker_process() -> None:
    jobs: list[Degrade | Mix] = [ALWAYS] * 12 + [Mix(0.6)] * 4
    here = [job(PHOTO, np.random.default_rng(seed)) for seed, job in enumerate(jobs)]
    again = [job(PHOTO, np.random.default_rng(seed)) for seed, job in enumerate(jobs)]
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        futures = [pool.submit(job, PHOTO, np.random.default_rng(seed)) for seed, job in enumerate(jobs)]
        there = [future.result() for future in futures]
    np.testing.assert_array_equal(here, again)
    np.testing.assert_array_equal(here, there)
    assert len({picture.tobytes() for picture in here}) > 12


def test_what_was_drawn_can_be_handed_on() -> None:
    steps = Mix(0.5).draw(np.random.default_rng(1))
    np.testing.assert_array_equal(apply(PHOTO, pickle.loads(pickle.dumps(steps))), apply(PHOTO, steps))  # noqa: S301


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"probability": 1.5}, "probability 1.5 is not a probability; give 0 to 1"),
        ({"each": -0.1}, "each -0.1 is not a probability"),
        ({"distract": math.nan}, "distract nan is not a probability"),
        ({"beta": (0.0, 1.2)}, "give two numbers above 0"),
        ({"beta": (1.2,)}, "give two numbers above 0"),
        ({"rounds": (0, 5)}, "whole numbers from 1"),
        ({"rounds": (3, 2)}, "whole numbers from 1"),
        ({"rounds": (1.0, 2.0)}, "whole numbers from 1"),
        ({"strength": 1.2}, "strength 1.2 does not hold"),
        ({"operations": ("moir",)}, "no operation called 'moir'; did you mean moire"),
        ({"operations": ("moire", "moire")}, "operation stands twice"),
        ({"operations": ()}, "no operation to degrade with"),
        ({"stages": ("compresion",)}, "did you mean compression"),
        ({"stages": ()}, "no stage to degrade with"),
        ({"stages": ("compression",), "operations": ("moire",)}, "does nothing without"),
    ],
)
def test_values_that_do_not_hold_are_refused_with_what_would(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Degrade(**fields)


def test_the_mix_is_eight_of_ten_operations_after_some_jpeg() -> None:
    count = 1_200
    found = drawn(Mix(0.5), count)
    saves = []
    for steps in found:
        order = [name for name, _ in steps]
        saved = order.count("jpeg")
        assert order[:saved] == ["jpeg"] * saved
        assert len(set(order[saved:])) == len(order[saved:]) == 8
        assert set(order[saved:]) <= set(MIXED)
        saves.append(saved)
    # One to three rounds, each with probability 0.5.
    assert np.mean(saves) == pytest.approx(1, abs=0.1)
    assert set(saves) == {0, 1, 2, 3}
    for name in MIXED:
        assert np.mean([name in dict(steps) for steps in found]) == near(0.8, count)
    qualities = {p["quality"] for steps in found for name, p in steps if name == "jpeg"}
    assert (min(qualities), max(qualities)) == (65, 100)
    sigmas = {p["sigma"] for steps in found for name, p in steps if name == "gaussian_noise"}
    assert (min(sigmas), max(sigmas)) == (2, 32)


def test_the_mix_leaves_a_picture_at_strength_0_and_does_more_with_more() -> None:
    np.testing.assert_array_equal(Mix(0.0)(PHOTO, np.random.default_rng(0)), PHOTO)
    change = [
        np.mean(
            [np.abs(Mix(strength)(PHOTO, np.random.default_rng(seed)).astype(int) - PHOTO).mean() for seed in range(20)]
        )
        for strength in (0.0, 0.2, 0.6, 1.0)
    ]
    assert change == sorted(change)
    assert change[1] > 3
    assert names(Mix(0.2), 30) == names(Mix(1.0), 30)


@pytest.mark.parametrize("strength", [-0.1, 1.01, math.nan])
def test_a_mix_beyond_its_bounds_is_refused(strength: float) -> None:
    with pytest.raises(RecipeError, match="give 0 to 1"):
        Mix(strength)
