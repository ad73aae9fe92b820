"""Batches: a function of the seed and the step, whoever makes them; classes alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from assay.learn.batches import Balanced, Batch, Batches
from assay.learn.descend import Data
from assay.learn.recipe import Descend, Recipe
from assay.types import Label, Sample

FIRST, LAST = 2, 5


@pytest.fixture(scope="module")
def batches(data: Callable[[str], Data], recipe: Recipe) -> Batches:
    train = data("train")
    return Batches(train.store, train.samples, recipe.descend("a"), 32, seed=7)


@pytest.fixture(scope="module")
def expected(batches: Batches) -> list[Batch]:
    return [batches[step] for step in range(FIRST, LAST)]


def same(one: Batch, other: Batch) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[view], other[view]) for view in one)


def test_a_batch_has_as_many_fakes_as_reals_of_every_view(batches: Batches) -> None:
    shapes = {view: pixels.shape for view, pixels in batches[0].items()}
    assert shapes == {
        "clean": (8, 32, 32, 3),
        "transformed": (8, 32, 32, 3),
        "global": (8, 32, 32, 3),
        "local": (8, 24, 24, 3),
    }


def test_a_step_gives_the_same_batch_in_any_order(batches: Batches, expected: list[Batch]) -> None:
    for step in (LAST - 1, FIRST, FIRST + 1):
        assert same(batches[step], expected[step - FIRST])
    assert not same(batches[FIRST], batches[FIRST + 1])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_step_gives_the_same_batch_in_any_number_of_processes(
    batches: Batches, expected: list[Batch], workers: int
) -> None:
    made = list(batches.stream(FIRST, LAST, workers))
    assert len(made) == len(expected)
    assert all(same(*pair) for pair in zip(made, expected, strict=True))


def test_another_seed_gives_other_batches(data: Callable[[str], Data], recipe: Recipe, expected: list[Batch]) -> None:
    train = data("train")
    assert not same(Batches(train.store, train.samples, recipe.descend("a"), 32, seed=8)[FIRST], expected[0])


def test_a_stream_without_steps_ends_at_once(batches: Batches) -> None:
    assert list(batches.stream(5, 5, workers=2)) == []


def test_fakes_come_after_the_reals(data: Callable[[str], Data], recipe: Recipe) -> None:
    """A grid of dots is what made a picture fake, and only alternate columns of such a picture differ so much."""
    train = data("train")
    stage: Descend = recipe.descend("a")
    clean = Batches(train.store, train.samples, stage, 32, seed=0)[0]["clean"].astype(int)
    rough = np.abs(np.diff(clean, axis=2)).mean(axis=(1, 2, 3))
    assert rough[:4].max() < rough[4:].min()


def rows(*sizes: int) -> list[Sample]:
    """Reals of one source, and fakes of as many generators as sizes are given."""
    reals = [Sample("real", Label.REAL, source="all") for _ in range(sum(sizes))]
    fakes = [
        Sample("fake", Label.FAKE, generator=f"g{number}") for number, size in enumerate(sizes) for _ in range(size)
    ]
    return reals + fakes


def shares(samples: list[Sample], power: float) -> dict[str, float]:
    balanced, rng = Balanced(samples, power), np.random.default_rng(0)
    counts = Counter(samples[balanced.draw(1, rng)[1]].generator for _ in range(3000))
    return {name: count / 3000 for name, count in counts.items()}


def test_pictures_are_drawn_alike_at_power_1_and_sources_alike_at_power_0() -> None:
    samples = rows(90, 10)
    assert shares(samples, 1)["g1"] == pytest.approx(0.1, abs=0.03)
    assert shares(samples, 0)["g1"] == pytest.approx(0.5, abs=0.04)
    assert shares(samples, 0.5)["g1"] == pytest.approx(10**0.5 / (10**0.5 + 90**0.5), abs=0.04)


def test_a_batch_repeats_no_picture_where_there_are_enough() -> None:
    samples = rows(30, 6)
    for seed in range(20):
        drawn = Balanced(samples, 0.5).draw(20, np.random.default_rng(seed))
        assert len(set(drawn.tolist())) == 40
        assert [samples[row].label for row in drawn] == [Label.REAL] * 20 + [Label.FAKE] * 20


def test_a_batch_repeats_pictures_where_there_are_too_few() -> None:
    samples = [*rows(3)[:3], *[Sample("fake", Label.FAKE) for _ in range(50)]]
    drawn = Balanced(samples, 1).draw(10, np.random.default_rng(0))
    assert set(drawn[:10].tolist()) <= {0, 1, 2}
    assert len(set(drawn[10:].tolist())) == 10


def test_rows_without_a_label_are_never_drawn() -> None:
    samples = [Sample("?", None), *rows(2), Sample("?", None)]
    drawn = Balanced(samples, 1).draw(2, np.random.default_rng(0))
    assert all(samples[row].label is not None for row in drawn)
